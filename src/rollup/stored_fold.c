/*
 * stored_fold.c: making, folding and filling the parts of a rollup of a join.
 * See stored.c.
 *
 * Locks: the tables of the join, then the base tables of the rollup, of the
 * stored groups and of the logs, in this order.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "parser/parsetree.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "rollup/stored.h"

/* A worker computes stored groups anew for no more than this part of the time. */
#define REFRESH_SHARE	10

/* ---- making them ---- */

/* Can changes of a table be logged, by triggers that its owner agrees to? */
static bool
can_log(Oid relid, bool inherits, Oid owner)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;
	bool		fits;
	bool		detaching;
	bool		unfit;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_class) GETSTRUCT(tuple);
	fits = (form->relkind == RELKIND_RELATION ||
			(form->relkind == RELKIND_PARTITIONED_TABLE && inherits)) &&
		form->relpersistence == RELPERSISTENCE_PERMANENT &&
		!IsCatalogRelationOid(relid) && !IsCatalogNamespace(form->relnamespace);
	ReleaseSysCache(tuple);
	if (!fits || !pg_class_ownercheck(relid, owner) ||
		check_enable_rls(relid, owner, true) == RLS_ENABLED)
		return false;
	(void) sc_source_members(relid, inherits, &detaching, &unfit);
	return !unfit;
}

/* Can the groups of this join be kept right by logs of its other tables? */
bool
sc_parts_storable(ScSpec *fact, ScSpec *stored)
{
	ListCell   *lc;

	if (stored->distinct || stored->recompute || stored->nkeys > INDEX_MAX_KEYS)
		return false;
	for (int i = 0; i < stored->nkeys; i++)
		if (!sc_expr_is_sharp(stored->keys[i].expr))
			return false;
	foreach(lc, sc_join_tables(stored->query, sc_join_fact(stored->query, fact->source)))
	{
		RangeTblEntry *rte;

		if (list_length(sc_join_columns(stored->query, lfirst_oid(lc), &rte)) > INDEX_MAX_KEYS ||
			!can_log(lfirst_oid(lc), rte->inh, fact->owner))
			return false;
	}
	return sc_parts_possible(fact, stored);
}

/*
 * Give a rollup of a join its other parts, if it can have them: tables, and
 * rows of the catalog.  What is left to do is done as for other rollups, by
 * the caller or by the worker.
 */
bool
sc_parts_install(Oid view)
{
	ScSpec	   *fact = sc_rollup_lock(view);
	ScSpec	   *stored;
	List	   *tables;
	ListCell   *lc;
	char	   *name;
	int			part = SC_PART_LOG;

	if (fact == NULL)
		return false;
	if (fact->joined == NULL || fact->hasparts || fact->state != SC_LIVE)
	{
		sc_spec_release(fact);
		return false;
	}
	stored = sc_spec_of_part(fact, SC_PART_STORED, InvalidOid);
	if (!sc_parts_storable(fact, stored))
	{
		sc_spec_release(fact);
		return false;
	}
	name = get_rel_name(fact->view);
	tables = sc_join_tables(stored->query, sc_join_fact(stored->query, fact->source));
	sc_install_part(stored, makeObjectName(name, "stored", NULL));
	foreach(lc, tables)
		sc_install_part(sc_spec_of_part(fact, part++, lfirst_oid(lc)),
						makeObjectName(name, get_rel_name(lfirst_oid(lc)), NULL));
	sc_spec_release(fact);
	return true;
}

/* What stands for the logs of a rollup. */
List *
sc_parts_logs(Oid view)
{
	ScParts    *p = sc_parts_open(view);
	List	   *handles = NIL;

	if (p == NULL)
		return NIL;
	for (int i = 0; i < p->nlogs; i++)
		handles = lappend_oid(handles, p->logs[i]->view);
	sc_parts_close(p);
	return handles;
}

/* ---- folding ---- */

static bool
lock_storage(Oid relid, bool nowait)
{
	if (nowait)
		return ConditionalLockRelationOid(relid, ShareUpdateExclusiveLock);
	LockRelationOid(relid, ShareUpdateExclusiveLock);
	return true;
}

/* Keep the other tables from being dropped or truncated. */
bool
sc_parts_lock_tables(ScParts *p, bool nowait)
{
	for (int i = 0; i < p->nlogs; i++)
		if (!sc_members_lock(p->logs[i], nowait))
			return false;
	return true;
}

/*
 * Keep others from folding the parts or changing what they count.  What was
 * opened before is closed; NULL: not now.
 */
ScParts *
sc_parts_lock(ScParts *p, bool nowait)
{
	Oid			view = p->fact->view;
	bool		locked = lock_storage(p->stored->base, nowait);

	for (int i = 0; locked && i < p->nlogs; i++)
		locked = lock_storage(p->logs[i]->base, nowait);
	sc_parts_close(p);
	p = locked ? sc_parts_open(view) : NULL;
	if (p)
		p->own = TransactionIdIsValid(GetTopTransactionIdIfAny());
	return p;
}

/*
 * Take what has been logged, for a fold in the active snapshot.  Returns how
 * many changes, or -1: not now.
 */
int64
sc_parts_take(ScParts *p, bool close)
{
	int64		sum = 0;

	for (int i = 0; i < p->nlogs; i++)
	{
		int64		n;

		if (p->logs[i]->state != SC_LIVE)
			continue;
		sc_capture_flush(p->logs[i], NULL);
		p->logged[i] = sc_groups_create(p->logs[i], CurrentMemoryContext);
		n = sc_delta_take(p->logged[i], close, &p->marks[i], &p->changed[i]);
		if (n < 0)
			sc_catalog_set(p->logs[i]->id, SC_STALE, true, InvalidOid, NULL, NIL);
		if (n < 0 || p->marks[i] == NULL)
			return -1;
		p->changed[i] |= n > 0;
		p->taken[i] = n;
		sum += n;
	}
	return sum;
}

/* Append what was taken as one change for each row, for the next fold. */
void
sc_parts_spare(ScParts *p)
{
	for (int i = 0; i < p->nlogs; i++)
		if (p->logged[i] && p->logged[i]->ngroups > 0)
			(void) sc_delta_append(p->logged[i], GetCurrentCommandId(true));
}

/* Bring the stored groups to this snapshot.  False: they have to be made anew. */
static bool
fold_stored(ScParts *p, Snapshot snapshot)
{
	Relation	base = table_open(p->stored->base, RowExclusiveLock);
	ScGroups   *target = sc_groups_create(p->stored, CurrentMemoryContext);
	ScGroup    *group = NULL;
	bool		known = sc_parts_correct(p, target, snapshot);

	if (known && target->ngroups > 0)
	{
		sc_groups_load_base(target, base, snapshot);
		while (known && (group = sc_groups_next(target, group)) != NULL)
		{
			sc_group_finish(target, group);
			known = group->known;
		}
		if (known)
			sc_groups_write_base(target, base);
	}
	MemoryContextDelete(target->cxt);
	table_close(base, NoLock);
	return known;
}

/*
 * Does the snapshot see what a fold leaves alone, because its own transaction
 * has done it?  The tables cannot be read without that.
 */
static bool
sees_more(ScParts *p, int64 n, Snapshot snapshot)
{
	if (!p->own)
		return false;
	for (int i = 0; i <= p->nlogs; i++)
	{
		ScGroups   *groups = sc_groups_create(sc_parts_captured(p, i), CurrentMemoryContext);

		if (sc_delta_load(groups, snapshot, &sc_asked_nothing) !=
			(i == 0 ? n : p->taken[i - 1]))
			return true;
		MemoryContextDelete(groups->cxt);
	}
	return false;
}

/*
 * Fold the parts, with n changes of the source, in the active snapshot.  The
 * source's groups are as before.
 */
void
sc_parts_fold(ScParts *p, ScGroups *changes, int64 n)
{
	p->changes = changes;
	if (sc_parts_usable(p))
		p->lost = sees_more(p, n, GetActiveSnapshot()) ||
			!fold_stored(p, GetActiveSnapshot());
}

/* Leave the marks of what was taken. */
void
sc_parts_put_marks(ScParts *p)
{
	for (int i = 0; i < p->nlogs; i++)
	{
		if (p->marks[i] == NULL)
			continue;
		p->changed[i] |= sc_delta_retire(p->logs[i], p->marks[i]);
		if (p->changed[i])
			sc_mark_put(p->logs[i]->id, p->marks[i]);
	}
}

/* ---- filling ---- */

/* Make the stored groups anew, if nothing is pending for the snapshot. */
static bool
fill_stored(ScParts *p, Snapshot snapshot)
{
	ScSpec	   *stored = p->stored;
	bool		bump = !sc_parts_usable(p);
	int64	   *epochs = palloc(sizeof(int64) * (p->nlogs + 1));
	ScGroups   *target;
	ScGroup    *group = NULL;
	Relation	base;

	for (int i = 0; i <= p->nlogs; i++)
	{
		ScSpec	   *spec = sc_parts_captured(p, i);

		if (spec->state != SC_LIVE ||
			sc_delta_load(sc_groups_create(spec, CurrentMemoryContext), snapshot,
						  &sc_asked_nothing) != 0)
			return false;
		epochs[i] = spec->epoch;
	}
	target = sc_groups_create(stored, CurrentMemoryContext);
	if (!sc_parts_collect(p, target, snapshot))
		return false;
	if (stored->nkeys == 0)
		sc_groups_get(target, NULL, NULL, true);
	while ((group = sc_groups_next(target, group)) != NULL)
	{
		sc_group_finish(target, group);
		if (!group->known)
			return false;
	}
	base = table_open(stored->base, RowExclusiveLock);
	sc_delete_all(base, snapshot);
	sc_groups_write_base(target, base);
	table_close(base, NoLock);
	MemoryContextDelete(target->cxt);
	if (bump)
	{
		sc_catalog_set(stored->id, SC_LIVE, true, InvalidOid, NULL, NIL);
		sc_catalog_set_epochs(stored->id, epochs, p->nlogs + 1);
		/* Queries are planned anew, with them. */
		CacheInvalidateRelcacheByRelid(p->fact->source);
	}
	return true;
}

/* When the worker may fill a rollup's stored groups again. */
typedef struct Pause
{
	Oid			view;			/* must be first */
	TimestampTz until;
} Pause;

static Pause *
pause_of(Oid view)
{
	static HTAB *pauses = NULL;
	Pause	   *pause;
	bool		found;

	if (pauses == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(Pause)};

		pauses = hash_create("scalecache fill pauses", 16, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	pause = hash_search(pauses, &view, HASH_ENTER, &found);
	if (!found)
		pause->until = 0;
	return pause;
}

/*
 * Fill the stored groups where that is needed, in the active snapshot, whose
 * own writes are seen.  The worker does not do it all the time.
 */
void
sc_parts_settle(ScParts *p, bool worker)
{
	Pause	   *pause = pause_of(p->fact->view);
	TimestampTz began = GetCurrentTimestamp();
	ScIdentity	caller;

	if (!p->lost && sc_parts_usable(p))
		return;
	sc_become_owner(p->fact, &caller);
	if (!(worker && pause->until > began) && fill_stored(p, GetActiveSnapshot()))
		pause->until = GetCurrentTimestamp() +
			REFRESH_SHARE * (GetCurrentTimestamp() - began);
	else if (p->lost)
		sc_catalog_set(p->stored->id, SC_STALE, true, InvalidOid, NULL, NIL);
	sc_become_caller(&caller);
}

/*
 * Fill the stored groups for the first time, while all tables are locked
 * against writers.
 */
void
sc_parts_fill(Oid view)
{
	ScParts    *p = sc_parts_open(view);

	if (p == NULL)
		return;
	LockRelationOid(p->fact->base, ShareUpdateExclusiveLock);
	p = sc_parts_lock(p, false);
	if (p == NULL)
		return;
	CommandCounterIncrement();
	PushActiveSnapshot(GetLatestSnapshot());
	sc_parts_settle(p, false);
	PopActiveSnapshot();
	sc_parts_close(p);
}
