/*-------------------------------------------------------------------------
 *
 * drops.c
 *	  suggest_index_drops(): indexes that cost more than they give.
 *
 * What must always hold:
 *
 * - An index that guards something is never suggested: those of constraints,
 *	 unique ones, what foreign keys refer to, replica identities, and what
 *	 CLUSTER goes by.  Nor, but for another that does the same, the one that
 *	 finds the rows which refer to a deleted one: how seldom that happens
 *	 says nothing of what it costs then.
 *
 * - What the caller cannot see is not held against an index: other users'
 *	 statements if he may not read these, nor what a standby does.
 *
 * - Of two that could do each other's work only one is suggested: each is
 *	 judged as if those suggested before it were gone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_index.h"
#include "commands/extension.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "pgstat.h"
#include "replication/slot.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "advisor/choose.h"
#include "advisor/statements.h"

PG_FUNCTION_INFO_V1(scalecache_suggest_index_drops);

/* An index must lose reads less than this part of their cost. */
#define SC_DROP_LOSS		0.001

/* What is known of an index that could go. */
typedef struct Existing
{
	Oid			oid;
	Oid			relid;
	Oid			am;
	bool		valid;
	bool		guards;			/* must stay */
	int			nkeys;
	int			natts;
	AttrNumber *attnums;
	Oid		   *opfamily;
	Oid		   *collation;
	int16	   *options;
	List	   *exprs;
	List	   *pred;
	char	   *options_text;	/* of the index and its operator classes */
	int64		scans;
	int64		bytes;
} Existing;

/* A foreign key, by the columns that refer. */
typedef struct Referring
{
	Oid			relid;
	int			n;
	AttrNumber *attnums;
} Referring;

typedef struct Drops
{
	ScAdvice   *advice;			/* the recorded workload, or without items */
	List	   *indexes;		/* of Existing */
	List	   *guarding;		/* of Oid: constraints' indexes */
	List	   *referring;		/* of Referring: foreign keys */
	List	   *dropped;		/* of Oid */
	char	   *since;			/* since when scans are counted */
	bool		standbys;		/* are there any? */
	bool		everything;		/* may the caller see all statements? */
	ReturnSetInfo *rsinfo;
} Drops;

/*
 * Reading the catalogs
 */

static Referring *
referring_columns(Oid relid, Datum conkey)
{
	ArrayType  *array = DatumGetArrayTypeP(conkey);
	Referring  *r = (Referring *) palloc(sizeof(Referring));

	r->relid = relid;
	r->n = ARR_DIMS(array)[0];
	r->attnums = (AttrNumber *) palloc(sizeof(AttrNumber) * r->n);
	memcpy(r->attnums, ARR_DATA_PTR(array), sizeof(AttrNumber) * r->n);
	return r;
}

/*
 * Indexes that constraints need, foreign keys' targets among them, and the
 * columns of foreign keys.
 */
static void
read_constraints(Drops *d)
{
	Relation	rel = table_open(ConstraintRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0,
										  NULL);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_constraint con = (Form_pg_constraint) GETSTRUCT(tuple);
		bool		isnull;
		Datum		keys;

		if (OidIsValid(con->conindid))
			d->guarding = lappend_oid(d->guarding, con->conindid);
		if (con->contype != CONSTRAINT_FOREIGN)
			continue;
		keys = heap_getattr(tuple, Anum_pg_constraint_conkey,
							RelationGetDescr(rel), &isnull);
		if (!isnull)
			d->referring = lappend(d->referring,
								   referring_columns(con->conrelid, keys));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/*
 * Parameters of an index and of its operator classes, as text.  Such as
 * pages_per_range make another index of it, except to a btree.
 */
static char *
options_text(Relation index)
{
	StringInfoData buf;
	HeapTuple	tuple;
	Datum		options;
	bool		isnull;
	int			i;

	initStringInfo(&buf);
	tuple = SearchSysCache1(RELOID,
							ObjectIdGetDatum(RelationGetRelid(index)));
	if (!HeapTupleIsValid(tuple))
		return buf.data;
	options = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_reloptions, &isnull);
	if (!isnull)
		appendStringInfoString(&buf, OidOutputFunctionCall(F_ARRAY_OUT, options));
	ReleaseSysCache(tuple);
	for (i = 1; i <= IndexRelationGetNumberOfKeyAttributes(index); i++)
	{
		options = get_attoptions(RelationGetRelid(index), i);
		appendStringInfo(&buf, " %s", options == (Datum) 0 ? "" :
						 OidOutputFunctionCall(F_ARRAY_OUT, options));
	}
	return buf.data;
}

/*
 * Bytes of an index, or of all of a partitioned one's, of which there may be
 * more than locks.
 */
static int64
index_bytes(Oid indexoid)
{
	int64		bytes = 0;
	List	   *all = list_make1_oid(indexoid);
	ListCell   *lc;

	if (get_rel_relkind(indexoid) == RELKIND_PARTITIONED_INDEX)
		all = find_all_inheritors(indexoid, NoLock, NULL);
	foreach(lc, all)
	{
		Relation	rel = try_relation_open(lfirst_oid(lc), AccessShareLock);

		if (rel == NULL)
			continue;
		if (RELKIND_HAS_STORAGE(rel->rd_rel->relkind))
			bytes += (int64) RelationGetNumberOfBlocks(rel) * BLCKSZ;
		relation_close(rel, AccessShareLock);
	}
	return bytes;
}

static int64
index_scans(Oid indexoid)
{
	int64		scans = 0;
	List	   *all = list_make1_oid(indexoid);
	ListCell   *lc;

	if (get_rel_relkind(indexoid) == RELKIND_PARTITIONED_INDEX)
		all = find_all_inheritors(indexoid, NoLock, NULL);
	foreach(lc, all)
		scans += DatumGetInt64(DirectFunctionCall1(pg_stat_get_numscans,
												   ObjectIdGetDatum(lfirst_oid(lc))));
	return scans;
}

static Existing *
read_index(Drops *d, Oid indexoid)
{
	Existing   *e = (Existing *) palloc0(sizeof(Existing));
	Relation	index = index_open(indexoid, AccessShareLock);
	Form_pg_index form = index->rd_index;
	int			i;

	e->oid = indexoid;
	e->relid = form->indrelid;
	e->am = index->rd_rel->relam;
	e->valid = form->indisvalid;
	/* A unique one that is invalid guards nothing: its build failed. */
	e->guards = (form->indisunique && form->indisvalid) ||
		form->indisexclusion || form->indisreplident ||
		form->indisclustered || list_member_oid(d->guarding, indexoid);
	e->nkeys = form->indnkeyatts;
	e->natts = form->indnatts;
	e->attnums = (AttrNumber *) palloc(sizeof(AttrNumber) * e->natts);
	e->opfamily = (Oid *) palloc(sizeof(Oid) * e->nkeys);
	e->collation = (Oid *) palloc(sizeof(Oid) * e->nkeys);
	e->options = (int16 *) palloc(sizeof(int16) * e->nkeys);
	for (i = 0; i < e->natts; i++)
		e->attnums[i] = form->indkey.values[i];
	for (i = 0; i < e->nkeys; i++)
	{
		e->opfamily[i] = index->rd_opfamily[i];
		e->collation[i] = index->rd_indcollation[i];
		e->options[i] = index->rd_indoption[i];
	}
	e->exprs = RelationGetIndexExpressions(index);
	e->pred = RelationGetIndexPredicate(index);
	e->options_text = options_text(index);
	index_close(index, AccessShareLock);
	e->scans = index_scans(indexoid);
	e->bytes = index_bytes(indexoid);
	return e;
}

/* An index that a user made, and that can be dropped by itself? */
static bool
of_interest(Form_pg_class form)
{
	if ((form->relkind != RELKIND_INDEX &&
		 form->relkind != RELKIND_PARTITIONED_INDEX) ||
		form->relispartition || form->oid < FirstNormalObjectId ||
		form->relpersistence == RELPERSISTENCE_TEMP ||
		IsToastNamespace(form->relnamespace))
		return false;
	return true;
}

static int
compare_indexes(const ListCell *a, const ListCell *b)
{
	const Existing *x = (const Existing *) lfirst(a);
	const Existing *y = (const Existing *) lfirst(b);

	if (x->bytes != y->bytes)
		return x->bytes > y->bytes ? -1 : 1;
	return x->oid < y->oid ? -1 : 1;
}

/* Indexes of extensions are not the user's to drop. */
static bool
of_extension(Oid relid)
{
	return OidIsValid(getExtensionOfObject(RelationRelationId, relid));
}

/*
 * Lock an index and its table; whatever is being rebuilt is passed over, and
 * what has been dropped.  Not for long: there may be more of them than locks.
 */
static bool
lock_index(Oid relid, Oid indexoid)
{
	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return false;
	if (ConditionalLockRelationOid(indexoid, AccessShareLock))
	{
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)) &&
			SearchSysCacheExists1(INDEXRELID, ObjectIdGetDatum(indexoid)))
			return true;
		UnlockRelationOid(indexoid, AccessShareLock);
	}
	UnlockRelationOid(relid, AccessShareLock);
	return false;
}

static void
unlock_index(Oid relid, Oid indexoid)
{
	UnlockRelationOid(indexoid, AccessShareLock);
	UnlockRelationOid(relid, AccessShareLock);
}

static void
read_indexes(Drops *d)
{
	Relation	rel = table_open(RelationRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0,
										  NULL);
	List	   *oids = NIL;
	HeapTuple	tuple;
	ListCell   *lc;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		if (of_interest(form))
			oids = lappend_oid(oids, form->oid);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	foreach(lc, oids)
	{
		Oid			relid = IndexGetRelation(lfirst_oid(lc), true);
		bool		missing = false;

		CHECK_FOR_INTERRUPTS();
		if (!OidIsValid(relid) || of_extension(relid) ||
			pg_class_aclcheck_ext(relid, GetUserId(), ACL_SELECT,
								  &missing) != ACLCHECK_OK || missing ||
			!lock_index(relid, lfirst_oid(lc)))
			continue;
		d->indexes = lappend(d->indexes, read_index(d, lfirst_oid(lc)));
		unlock_index(relid, lfirst_oid(lc));
	}
	list_sort(d->indexes, compare_indexes);
}

/*
 * Comparing
 */

/* Does b start with the keys of a, over the same rows, and have its columns? */
static bool
serves_for(Existing *a, Existing *b)
{
	int			nth = 0;
	int			i;

	if (a->relid != b->relid || a->am != b->am || !b->valid ||
		a->nkeys > b->nkeys || !equal(a->pred, b->pred) ||
		(a->am != BTREE_AM_OID && (a->nkeys != b->nkeys ||
								   a->natts != b->natts ||
								   strcmp(a->options_text,
										  b->options_text) != 0)))
		return false;
	for (i = 0; i < a->nkeys; i++)
	{
		if (a->attnums[i] != b->attnums[i] ||
			a->opfamily[i] != b->opfamily[i] ||
			a->collation[i] != b->collation[i] ||
			a->options[i] != b->options[i])
			return false;
		if (a->attnums[i] == 0)
		{
			if (!equal(list_nth(a->exprs, nth), list_nth(b->exprs, nth)))
				return false;
			nth++;
		}
	}
	for (i = a->nkeys; i < a->natts; i++)
	{
		int			k;

		for (k = 0; k < b->natts && b->attnums[k] != a->attnums[i]; k++)
			;
		if (k == b->natts)
			return false;
	}
	return true;
}

/* Is a condition that these columns have values? */
static bool
only_has_values(List *pred, Referring *r)
{
	ListCell   *lc;

	foreach(lc, pred)
	{
		NullTest   *test = (NullTest *) lfirst(lc);
		int			i;

		if (!IsA(test, NullTest) || test->nulltesttype != IS_NOT_NULL ||
			!IsA(test->arg, Var))
			return false;
		for (i = 0; i < r->n; i++)
		{
			if (r->attnums[i] == ((Var *) test->arg)->varattno)
				break;
		}
		if (i == r->n)
			return false;
	}
	return true;
}

/* Does an index find the rows by which a foreign key refers to some other? */
static bool
finds_referring(Existing *e, Referring *r)
{
	int			i;

	/* Rows without a value refer to nothing. */
	if (e->relid != r->relid || !e->valid || e->nkeys < r->n ||
		(e->am != BTREE_AM_OID && (e->am != HASH_AM_OID || r->n > 1)) ||
		!only_has_values(e->pred, r))
		return false;
	for (i = 0; i < r->n; i++)
	{
		int			k;

		for (k = 0; k < r->n && e->attnums[k] != r->attnums[i]; k++)
			;
		if (k == r->n)
			return false;
	}
	return true;
}

/* Is it the only index that does so for some foreign key? */
static bool
needed_by_key(Drops *d, Existing *e)
{
	ListCell   *lc;

	foreach(lc, d->referring)
	{
		Referring  *r = (Referring *) lfirst(lc);
		bool		another = false;
		ListCell   *l;

		if (!finds_referring(e, r))
			continue;
		foreach(l, d->indexes)
		{
			Existing   *other = (Existing *) lfirst(l);

			another = another ||
				(other != e && !list_member_oid(d->dropped, other->oid) &&
				 finds_referring(other, r));
		}
		if (!another)
			return true;
	}
	return false;
}

/* The part of a table's rows that are in an index, as far as is known. */
static double
part_of_rows(Existing *e)
{
	double		part = 1;
	Relation	rel;
	Relation	index;

	if (e->pred == NIL || get_rel_relkind(e->oid) != RELKIND_INDEX)
		return 1;
	rel = relation_open(e->relid, NoLock);
	index = index_open(e->oid, AccessShareLock);
	if (rel->rd_rel->reltuples > 0 && index->rd_rel->reltuples >= 0)
		part = Min(1, index->rd_rel->reltuples / rel->rd_rel->reltuples);
	index_close(index, AccessShareLock);
	relation_close(rel, NoLock);
	return part;
}

/* Columns whose change makes new entries; with an offset. */
static Bitmapset *
columns_of(Existing *e)
{
	Bitmapset  *attrs = NULL;
	int			i;

	for (i = 0; i < e->natts; i++)
	{
		if (e->attnums[i] != 0)
			attrs = bms_add_member(attrs, e->attnums[i] -
								   FirstLowInvalidHeapAttributeNumber);
	}
	pull_varattnos((Node *) e->exprs, 1, &attrs);
	pull_varattnos((Node *) e->pred, 1, &attrs);
	return attrs;
}

/* What an index costs the recorded writes. */
static double
writes_saved(Drops *d, Existing *e)
{
	double		entry = 3 * 50 * cpu_operator_cost + 0.5 * random_page_cost;
	double		part = part_of_rows(e);
	Bitmapset  *attrs = columns_of(e);
	double		cost = 0;
	ListCell   *lc;

	/* Rows of a range of pages share what BRIN has of them. */
	if (e->am == BRIN_AM_OID)
		entry = cpu_operator_cost;
	foreach(lc, d->advice->writes)
	{
		ScWrite    *write = (ScWrite *) lfirst(lc);
		int			x = -1;

		if (write->relid != e->relid || write->command == CMD_DELETE)
			continue;
		if (write->command == CMD_INSERT)
			cost += write->rows * entry * part;
		while (write->command == CMD_UPDATE &&
			   (x = bms_next_member(write->columns, x)) >= 0)
		{
			if (bms_is_member(x - FirstLowInvalidHeapAttributeNumber, attrs))
			{
				cost += write->rows * 2 * entry * part;
				break;
			}
		}
	}
	return cost;
}

static bool
plans_use(List *plans, List *indexes)
{
	ListCell   *lc;

	foreach(lc, plans)
	{
		ListCell   *l;

		foreach(l, sc_plan_indexes(lfirst_node(PlannedStmt, lc)))
		{
			if (list_member_oid(indexes, lfirst_oid(l)))
				return true;
		}
	}
	return false;
}

/*
 * What the recorded statements would lose without an index.  *used tells
 * whether any of them is planned with it, *informs whether one is planned in
 * another way for its statistics.
 */
static double
reads_lost(Drops *d, Existing *e, bool *used, bool *informs)
{
	ScStudy    *study = d->advice->study;
	List	   *all = find_all_inheritors(e->oid, NoLock, NULL);
	List	   *plans;
	double		lost = 0;
	ListCell   *lc;

	*used = false;
	*informs = false;
	study->hypos = NIL;
	foreach(lc, d->advice->items)
	{
		ScItem	   *item = (ScItem *) lfirst(lc);
		ListCell   *l;

		if (!list_member_oid(item->relids, e->relid))
			continue;
		foreach(l, item->variants)
		{
			ScVariant  *variant = (ScVariant *) lfirst(l);
			double		before;
			double		after;
			bool		read;

			CHECK_FOR_INTERRUPTS();
			study->hidden = list_copy(d->dropped);
			before = sc_query_cost(study, variant->query, &plans);
			study->hidden = NIL;
			read = plans_use(plans, all);
			/* An expression's statistics are of use without a scan. */
			if (!read && e->exprs == NIL)
				continue;
			study->hidden = list_concat_unique_oid(list_copy(d->dropped),
												   all);
			after = sc_query_cost(study, variant->query, NULL);
			study->hidden = NIL;
			if (!read)
			{
				*informs = *informs ||
					fabs(after - before) > before * SC_DROP_LOSS;
				continue;
			}
			if (after > before * (1 + SC_DROP_LOSS))
				*used = true;
			lost += item->weight * variant->weight * Max(0, after - before);
		}
	}
	return lost;
}

/*
 * The verdict.  Result is a reason to drop the index, or NULL.
 */

/*
 * An invalid index, if nobody is building it: he would hold this lock.  Of a
 * partitioned one parts may be attached, and in use, so that it is not
 * useless; and the lock is not given on a standby.
 */
static char *
invalid_reason(Existing *e)
{
	if (RecoveryInProgress() ||
		get_rel_relkind(e->oid) == RELKIND_PARTITIONED_INDEX ||
		!ConditionalLockRelationOid(e->relid, ShareUpdateExclusiveLock))
		return NULL;
	UnlockRelationOid(e->relid, ShareUpdateExclusiveLock);
	return "is invalid: what built it failed, and no query can use it";
}

static char *
redundant_reason(Drops *d, Existing *e)
{
	ListCell   *lc;

	foreach(lc, d->indexes)
	{
		Existing   *other = (Existing *) lfirst(lc);
		bool		same;
		bool		used;
		bool		informs;
		char	   *name;

		if (other == e || list_member_oid(d->dropped, other->oid) ||
			!serves_for(e, other))
			continue;
		same = serves_for(other, e);
		/* Of twins the one that guards, or is used more, stays. */
		if (same && !other->guards &&
			(other->scans < e->scans ||
			 (other->scans == e->scans && other->oid > e->oid)))
			continue;
		if (!same && d->advice->items != NIL &&
			reads_lost(d, e, &used, &informs) > writes_saved(d, e) && used &&
			other->bytes > 3 * e->bytes)
			continue;
		name = get_rel_name(other->oid);
		if (name == NULL)
			continue;			/* dropped just now */
		name = pstrdup(quote_identifier(name));
		if (same)
			return psprintf("is the same as %s", name);
		return psprintf("%s starts with its columns", name);
	}
	return NULL;
}

static char *
unused_reason(Drops *d, Existing *e)
{
	bool		used;
	bool		informs;
	double		lost;

	if (needed_by_key(d, e))
		return NULL;
	lost = reads_lost(d, e, &used, &informs);
	if (e->scans == 0 && !used)
		return psprintf("has not been used since %s%s%s", d->since,
						informs ? " but for its statistics, which CREATE STATISTICS would keep" : "",
						RecoveryInProgress() ? " on this server, which is a standby; look at the others too" :
						d->standbys ? " on this server; look at the standbys too" : "");
	/* What it saves elsewhere nobody has recorded here. */
	if (used && d->everything && !d->standbys && !RecoveryInProgress() &&
		lost < writes_saved(d, e))
		return psprintf("costs the recorded writes more than it saves the reads (%.0f against %.0f)",
						writes_saved(d, e), lost);
	return NULL;
}

static void
put_drop(Drops *d, Existing *e, char *reason)
{
	char	   *name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(e->oid)),
												  get_rel_name(e->oid));
	Datum		values[6];
	bool		nulls[6] = {0};

	/* CONCURRENTLY is not for indexes of partitioned tables. */
	values[0] = CStringGetTextDatum(psprintf("DROP INDEX %s%s",
											 get_rel_relkind(e->oid) == RELKIND_INDEX ?
											 "CONCURRENTLY " : "", name));
	values[1] = ObjectIdGetDatum(e->oid);
	values[2] = ObjectIdGetDatum(e->relid);
	values[3] = Int64GetDatum(e->bytes);
	values[4] = Int64GetDatum(e->scans);
	values[5] = CStringGetTextDatum(reason);
	tuplestore_putvalues(d->rsinfo->setResult, d->rsinfo->setDesc, values,
						 nulls);
	d->dropped = list_concat_unique_oid(d->dropped,
										find_all_inheritors(e->oid, NoLock,
															NULL));
}

/*
 * Since when scans are counted.  After a crash that is anew, of which a database
 * knows nothing; but then all that is counted for the whole server is as old as
 * that, or younger if somebody has reset it.
 */
static void
set_since(Drops *d)
{
	LOCAL_FCINFO(call, 1);
	Datum		datum;
	TimestampTz when;

	InitFunctionCallInfoData(*call, NULL, 1, InvalidOid, NULL, NULL);
	call->args[0].value = ObjectIdGetDatum(MyDatabaseId);
	call->args[0].isnull = false;
	datum = pg_stat_get_db_stat_reset_time(call);
	if (!call->isnull)
		when = DatumGetTimestampTz(datum);
	else
	{
		when = pgstat_fetch_stat_bgwriter()->stat_reset_timestamp;
		when = Min(when, pgstat_fetch_stat_archiver()->stat_reset_timestamp);
		when = Min(when, pgstat_fetch_stat_wal()->stat_reset_timestamp);
	}
	d->since = pnstrdup(timestamptz_to_str(when), 16);
}

static bool
have_standbys(void)
{
	bool		result = false;
	int			i;

	for (i = 0; WalSndCtl != NULL && i < max_wal_senders; i++)
	{
		if (WalSndCtl->walsnds[i].pid != 0)
			return true;
	}
	/* One that is away for a while, too. */
	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (i = 0; i < max_replication_slots; i++)
	{
		ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];

		if (slot->in_use && SlotIsPhysical(slot))
			result = true;
	}
	LWLockRelease(ReplicationSlotControlLock);
	return result;
}

static void
drops_run(void *arg)
{
	Drops	   *d = (Drops *) arg;
	int			pass;

	MemoryContextSwitchTo(d->advice->study->cxt);
	if (sc_workload_available())
		sc_advice_load_recorded(d->advice, false);
	read_constraints(d);
	read_indexes(d);
	set_since(d);
	d->standbys = have_standbys();
	d->everything = sc_statements_may_read() && d->advice->denied == 0;

	/* What is surely useless first, so that it counts as gone afterwards. */
	for (pass = 0; pass < 3; pass++)
	{
		ListCell   *lc;

		foreach(lc, d->indexes)
		{
			Existing   *e = (Existing *) lfirst(lc);
			char	   *reason = NULL;

			CHECK_FOR_INTERRUPTS();
			if (e->guards || list_member_oid(d->dropped, e->oid) ||
				!lock_index(e->relid, e->oid))
				continue;
			if (pass == 0 && !e->valid)
				reason = invalid_reason(e);
			else if (pass == 1 && e->valid)
				reason = redundant_reason(d, e);
			else if (pass == 2 && e->valid)
				reason = unused_reason(d, e);
			if (reason != NULL)
				put_drop(d, e, reason);
			unlock_index(e->relid, e->oid);
		}
	}
}

/* suggest_index_drops() */
Datum
scalecache_suggest_index_drops(PG_FUNCTION_ARGS)
{
	bool		saved = sc_workload_paused;
	Drops		d;

	memset(&d, 0, sizeof(d));
	d.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	InitMaterializedSRF(fcinfo, 0);
	d.advice = (ScAdvice *) palloc0(sizeof(ScAdvice));
	d.advice->study = sc_study_begin();
	sc_workload_paused = true;
	PG_TRY();
	{
		sc_study_run(drops_run, &d);
	}
	PG_FINALLY();
	{
		sc_workload_paused = saved;
	}
	PG_END_TRY();
	MemoryContextDelete(d.advice->study->cxt);
	return (Datum) 0;
}
