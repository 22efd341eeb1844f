/*
 * members.c: the relations that a source consists of, coming and going.
 *
 * The catalog records of which relations the storage counts the rows; it
 * answers only while these are exactly the source's members.  A member that
 * comes or goes as a whole is counted like its rows: they are captured, with
 * their sign, in the same transaction.  Each such change increases the
 * epoch, because older snapshots see partitions come and go at once, but not
 * the deltas; unless the member is empty, so that there is nothing to see.
 *
 * Locks: members, then ShareUpdateExclusiveLock on the base table, held to
 * the end of the transaction.  It keeps folds away, and others who do this.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/guc.h"
#include "base/inherits.h"
#include "rollup/rollup.h"
#include "rollup/zones.h"

/* What pg_class says of a relation. */
typedef struct Member
{
	Oid			relid;			/* must be first */
	bool		fits;			/* can only change under our triggers */
	bool		parent;			/* may have children */
} Member;

static void
look_at(Member *member, Form_pg_class form)
{
	member->fits = (form->relkind == RELKIND_RELATION ||
					form->relkind == RELKIND_PARTITIONED_TABLE) &&
		form->relpersistence == RELPERSISTENCE_PERMANENT;
	member->parent = form->relhassubclass;
}

/*
 * Look at n relations, sorted.  For many of them, one pass over pg_class is a
 * small part of what as many entries of the syscache would take.
 */
static void
look_at_all(Member *members, int n)
{
	Relation	rel = table_open(RelationRelationId, AccessShareLock);

	if (n > RelationGetNumberOfBlocks(rel))
	{
		SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
		HeapTuple	tuple;

		while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);
			Member	   *member = bsearch(&form->oid, members, n, sizeof(Member), oid_cmp);

			if (member)
				look_at(member, form);
		}
		systable_endscan(scan);
	}
	else
		for (int i = 0; i < n; i++)
		{
			HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(members[i].relid));

			if (!HeapTupleIsValid(tuple))
				continue;
			look_at(&members[i], (Form_pg_class) GETSTRUCT(tuple));
			ReleaseSysCache(tuple);
		}
	table_close(rel, AccessShareLock);
}

/*
 * The source and, when it inherits, all below it, sorted.  Partitions that
 * are being detached are among them, and *detaching is set.  *unfit is set
 * when one of them can change without our triggers.
 */
List *
sc_source_members(Oid source, bool inherits, bool *detaching, bool *unfit)
{
	List	   *level = list_make1_oid(source);
	List	   *result = NIL;

	*detaching = false;
	*unfit = false;
	while (level)
	{
		Member	   *members;
		List	   *below = NIL;
		int			n;

		list_sort(level, list_oid_cmp);
		list_deduplicate_oid(level);
		n = list_length(level);
		members = palloc0(sizeof(Member) * n);
		for (int i = 0; i < n; i++)
			members[i].relid = list_nth_oid(level, i);
		look_at_all(members, n);
		for (int i = 0; i < n; i++)
		{
			*unfit |= !members[i].fits;
			if (inherits && members[i].parent)
				below = list_concat(below, sc_children(members[i].relid, detaching));
		}
		result = list_concat(result, level);
		level = below;
		pfree(members);
	}
	list_sort(result, list_oid_cmp);
	list_deduplicate_oid(result);
	return result;
}

/* Keep the members from being dropped or truncated. */
bool
sc_members_lock(ScSpec *spec, bool nowait)
{
	ListCell   *lc;

	foreach(lc, spec->members)
	{
		if (!nowait)
			LockRelationOid(lfirst_oid(lc), AccessShareLock);
		else if (!ConditionalLockRelationOid(lfirst_oid(lc), AccessShareLock))
			return false;
	}
	return true;
}

/*
 * Lock a rollup against changes of what it counts.  Returns its pinned
 * specification, or NULL when it is none or has no storage.
 */
ScSpec *
sc_rollup_lock(Oid view)
{
	for (;;)
	{
		ScSpec	   *spec = sc_spec_by_view(view);
		Oid			base;

		if (spec == NULL)
			return NULL;
		base = spec->base;
		sc_spec_release(spec);
		if (!OidIsValid(base))
			return NULL;
		LockRelationOid(base, ShareUpdateExclusiveLock);
		spec = sc_spec_by_view(view);
		if (spec == NULL || spec->base == base)
			return spec;
		sc_spec_release(spec);
		UnlockRelationOid(base, ShareUpdateExclusiveLock);
	}
}

/* The same, after all members have been locked; NULL also without storage. */
ScSpec *
sc_rollup_lock_with_members(Oid view)
{
	for (;;)
	{
		ScSpec	   *spec = sc_spec_by_view(view);
		List	   *members;

		if (spec == NULL)
			return NULL;
		members = list_copy(spec->members);
		sc_members_lock(spec, false);
		sc_spec_release(spec);
		spec = sc_rollup_lock(view);
		if (spec == NULL || equal(spec->members, members))
			return spec;
		/* Somebody came meanwhile: the order of locks forbids to go on. */
		UnlockRelationOid(spec->base, ShareUpdateExclusiveLock);
		sc_spec_release(spec);
	}
}

/* ---- counting members ---- */

static bool
is_small(Relation rel)
{
	return sc_partition_limit < 0 ||
		(double) RelationGetNumberOfBlocks(rel) * BLCKSZ <=
		(double) sc_partition_limit * 1024;
}

/*
 * Is a statement of this session, whose function or trigger has called us, in
 * the middle of changing a relation?  What it has changed so far can be seen,
 * and is captured when its triggers fire.  What it is going to change may never
 * be, as it has the triggers that were there when it began.
 */
static bool
is_changing(Oid relid)
{
	LOCKTAG		tag;
	Relation	rel;
	bool		open;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	if (!LockHeldByMe(&tag, RowExclusiveLock))
		return false;
	rel = RelationIdGetRelation(relid);
	if (rel == NULL)
		return false;
	open = rel->rd_refcnt > 1;
	RelationClose(rel);
	return open;
}

/* Nobody fills a rollup in the middle of such a statement. */
void
sc_members_refuse_changing(ScSpec *spec)
{
	ListCell   *lc;

	foreach(lc, spec->members)
		if (is_changing(lfirst_oid(lc)))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("cannot fill rollup \"%s\" because \"%s\" is being used by active queries in this session",
							get_rel_name(spec->view), get_rel_name(lfirst_oid(lc))),
					 errdetail("A statement that has changed some of its rows may be about to change others."),
					 errhint("Do it when that statement has ended.")));
}

/*
 * Capture all rows of a member.  False: it is too big for that.  idle: the
 * server has made sure that no statement is in the middle of changing it.
 */
static bool
count_rows(ScSpec *spec, Oid relid, int sign, bool idle, bool *some)
{
	bool		changing = !idle && is_changing(relid);
	Relation	rel = table_open(relid, AccessShareLock);
	bool		small = true;

	if (RELKIND_HAS_STORAGE(rel->rd_rel->relkind) &&
		RelationGetNumberOfBlocks(rel) > 0)
	{
		*some = true;
		small = is_small(rel) && !changing;
		if (small)
		{
			ScIdentity	caller;
			Snapshot	snapshot;

			CommandCounterIncrement();
			snapshot = RegisterSnapshot(GetLatestSnapshot());
			PushActiveSnapshot(snapshot);
			sc_become_owner(spec, &caller);
			sc_capture_scan(spec, rel, snapshot, sign);
			sc_become_caller(&caller);
			PopActiveSnapshot();
			UnregisterSnapshot(snapshot);
		}
	}
	table_close(rel, NoLock);
	return small;
}

static void
make_stale(ScSpec *spec)
{
	sc_notify_all_groups(spec->view);
	sc_catalog_set(spec->id, SC_STALE, true, InvalidOid, NULL, NIL);
}

/* None of these relations will be there any more, or have rows. */
void
sc_members_subtract(ScSpec *spec, List *relids)
{
	List	   *rest = list_copy(spec->recorded);
	bool		some = false;
	ListCell   *lc;

	foreach(lc, relids)
	{
		if (!list_member_oid(rest, lfirst_oid(lc)))
			continue;
		if (!count_rows(spec, lfirst_oid(lc), -1, true, &some))
		{
			make_stale(spec);
			return;
		}
		rest = list_delete_oid(rest, lfirst_oid(lc));
	}
	sc_notify_all_groups(spec->view);
	sc_catalog_set_members(spec->id, rest, some);
}

/* Is the sum of all members small enough to be read on the way? */
static bool
all_small(List *members)
{
	double		pages = 0;
	ListCell   *lc;

	if (sc_partition_limit < 0)
		return true;
	foreach(lc, members)
	{
		Relation	rel = table_open(lfirst_oid(lc), AccessShareLock);

		if (RELKIND_HAS_STORAGE(rel->rd_rel->relkind))
			pages += RelationGetNumberOfBlocks(rel);
		table_close(rel, NoLock);
	}
	return pages * BLCKSZ <= (double) sc_partition_limit * 1024;
}

/* Take what has gone, and is not needed any more, from its former place. */
static bool
subtract_gone(ScSpec *spec, List *gone, bool *some)
{
	ListCell   *lc;

	foreach(lc, gone)
	{
		Oid			relid = lfirst_oid(lc);

		if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
			return false;		/* with its rows */
		LockRelationOid(relid, ShareRowExclusiveLock);
		if (spec->stored == SC_LIVE && !count_rows(spec, relid, -1, false, some))
			return false;
		sc_remove_triggers(spec, relid);
	}
	return true;
}

static bool
add_new(ScSpec *spec, List *new, bool *some)
{
	ListCell   *lc;

	/*
	 * What is below a child that comes is not locked by the command, and may
	 * have triggers already, from when it was a member before: whoever writes
	 * there now does not count his rows, and they cannot be seen yet.
	 */
	foreach(lc, new)
		LockRelationOid(lfirst_oid(lc), ShareRowExclusiveLock);
	sc_install_triggers(spec, new);
	/* Rows may have come while it was none, or was none any more. */
	foreach(lc, new)
		sc_zones_forget(lfirst_oid(lc));
	foreach(lc, new)
		if (spec->stored == SC_LIVE &&
			!count_rows(spec, lfirst_oid(lc), 1, false, some))
			return false;
	return true;
}

/* Are the triggers of all members, or those not locked, as we made them? */
bool
sc_members_intact(ScSpec *spec, bool wait)
{
	ListCell   *lc;

	foreach(lc, spec->members)
		if (!sc_triggers_intact(spec, lfirst_oid(lc), wait))
			return false;
	return true;
}

/*
 * Is all as the storage has it?  Whoever changes something else meanwhile will
 * look for himself.
 */
static bool
is_settled(Oid view)
{
	ScSpec	   *spec = sc_spec_by_view(view);
	bool		result;

	if (spec == NULL)
		return true;
	result = (spec->stored == SC_LIVE || spec->stored == SC_FILLING) &&
		spec->part != SC_PART_STORED && !spec->unfit && !spec->detaching &&
		spec->recorded != NIL && equal(spec->recorded, spec->members) &&
		sc_members_intact(spec, false) && spec->valid;
	sc_spec_release(spec);
	return result;
}

/*
 * After a command that may have changed the members or their triggers: count
 * those that came and went, or let the source answer until a rebuild.
 * If rewritten, rows of those that went may not be what was counted.
 */
void
sc_members_reconcile(Oid view, bool rewritten)
{
	ScSpec	   *spec;
	List	   *gone;
	List	   *new;
	bool		some = false;
	bool		changed = true;

	/* A rebuild may take long, and writers wait for who waits for it. */
	if (is_settled(view))
		return;
	spec = sc_rollup_lock(view);
	if (spec == NULL)
		return;
	if ((spec->stored != SC_LIVE && spec->stored != SC_FILLING) ||
		spec->part == SC_PART_STORED)
	{
		UnlockRelationOid(spec->base, ShareUpdateExclusiveLock);
		sc_spec_release(spec);
		return;
	}
	gone = list_difference_oid(spec->recorded, spec->members);
	new = list_difference_oid(spec->members, spec->recorded);
	if (spec->unfit || spec->detaching || (rewritten && gone))
		make_stale(spec);
	else if (spec->recorded == NIL && spec->stored == SC_LIVE)
	{
		/* All was truncated: the storage is empty. */
		if (all_small(spec->members) && sc_members_intact(spec, false))
			(void) sc_fill(view);
		else
			make_stale(spec);
	}
	else if (!subtract_gone(spec, gone, &some) || !add_new(spec, new, &some) ||
			 !sc_members_intact(spec, false))
		make_stale(spec);
	else if (gone || new)
	{
		sc_notify_all_groups(spec->view);
		sc_catalog_set_members(spec->id, spec->members, some);
	}
	else
		changed = false;

	/*
	 * A command that did nothing (IF NOT EXISTS, say) holds no lock on the
	 * members, so the transaction may still ask for one: with the base table
	 * locked that could be a deadlock with a rebuild.
	 */
	if (!changed)
		UnlockRelationOid(spec->base, ShareUpdateExclusiveLock);
	sc_spec_release(spec);
}
