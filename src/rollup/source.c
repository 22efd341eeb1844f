/*
 * source.c: asking the source, for all groups or for some.
 *
 * For some, the query gets quals on the keys that hold for every row of these
 * groups, so that an index of the source can serve.  They may let rows of
 * other groups through: those are dropped by looking up their keys.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "executor/executor.h"
#include "executor/tstoreReceiver.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "port/pg_bitutils.h"
#include "rewrite/rewriteHandler.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/date.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/guc.h"
#include "rollup/rollup.h"

/* With more values of a key than this, no qual is made. */
#define MAX_VALUES		10000

/* With more time ranges than this, they are taken as one. */
#define MAX_RANGES		16

/* Look at a fill's memory after so many rows. */
#define SPILL_ROWS		8192

/* Key values of some groups, without doubles. */
typedef struct KeyValues
{
	ScKey	   *key;
	Datum	   *values;
	int			n;
	bool		null;			/* a key is null */
	uint32	   *hashes;
	int		   *slots;			/* hash table of indexes, -1 if free */
	uint32		mask;
} KeyValues;

/* Keys, then aggregate values: what sc_source_run returns. */
TupleDesc
sc_source_desc(ScSpec *spec)
{
	TupleDesc	desc = CreateTemplateTupleDesc(spec->nkeys + spec->naggs);

	for (int i = 0; i < spec->nkeys; i++)
		TupleDescInitEntry(desc, i + 1, "key", spec->keys[i].type,
						   spec->keys[i].typmod, 0);
	for (int i = 0; i < spec->naggs; i++)
		TupleDescInitEntry(desc, spec->nkeys + i + 1, "value",
						   spec->aggs[i].fin.resulttype, -1, 0);
	return desc;
}

/* ---- quals for some groups ---- */

static void
add_value(KeyValues *kv, Datum value)
{
	ScKey	   *key = kv->key;
	uint32		hash = 0;
	uint32		i;

	if (OidIsValid(key->hash.fn_oid))
		hash = DatumGetUInt32(FunctionCall1Coll(&key->hash, key->collation, value));
	else if (key->imagehash)
		hash = datum_image_hash(value, key->typbyval, key->typlen);
	for (i = hash & kv->mask; kv->slots[i] >= 0; i = (i + 1) & kv->mask)
	{
		int			j = kv->slots[i];

		if (kv->hashes[j] == hash &&
			DatumGetBool(FunctionCall2Coll(&key->eq, key->collation,
										   kv->values[j], value)))
			return;
	}
	kv->slots[i] = kv->n;
	kv->hashes[kv->n] = hash;
	kv->values[kv->n++] = value;
}

/* The values of key i of the groups that are wanted; NULL if too many. */
static KeyValues *
key_values(ScGroups *groups, int i, bool (*wanted) (ScGroup *group))
{
	KeyValues  *kv = palloc0(sizeof(KeyValues));
	ScGroup    *group = NULL;

	kv->key = &groups->spec->keys[i];
	kv->mask = 2 * MAX_VALUES;
	kv->mask = pg_nextpower2_32(kv->mask) - 1;
	kv->mask = Min(kv->mask, pg_nextpower2_32(2 * Max(groups->ngroups, 4)) - 1);
	kv->slots = palloc(sizeof(int) * (kv->mask + 1));
	memset(kv->slots, -1, sizeof(int) * (kv->mask + 1));
	kv->values = palloc(sizeof(Datum) * (kv->mask + 1));
	kv->hashes = palloc(sizeof(uint32) * (kv->mask + 1));
	while ((group = sc_groups_next(groups, group)) != NULL)
	{
		if (!wanted(group))
			continue;
		if (group->nulls[i])
			kv->null = true;
		else
			add_value(kv, group->keys[i]);
		if (kv->n > MAX_VALUES)
			return NULL;
	}
	return kv;
}

static Expr *
key_const(ScKey *key, Datum value)
{
	return (Expr *) makeConst(key->type, -1, key->collation, key->typlen,
							  value, false, key->typbyval);
}

/* expr is one of the values, by the operator that GROUP BY uses. */
static Expr *
equality_qual(KeyValues *kv, Expr *expr, Oid eqop)
{
	ScKey	   *key = kv->key;
	Oid			arraytype = get_array_type(key->type);
	List	   *ors = NIL;

	if (kv->n == 1 || (!OidIsValid(arraytype) && kv->n <= MAX_RANGES))
	{
		for (int i = 0; i < kv->n; i++)
			ors = lappend(ors, make_opclause(eqop, BOOLOID, false,
											 copyObject(expr),
											 key_const(key, kv->values[i]),
											 InvalidOid, key->collation));
	}
	else if (kv->n > 0 && !OidIsValid(arraytype))
		return NULL;
	else if (kv->n > 0)
	{
		ScalarArrayOpExpr *saop = makeNode(ScalarArrayOpExpr);
		ArrayType  *array;
		int16		typlen;
		bool		typbyval;
		char		typalign;

		get_typlenbyvalalign(key->type, &typlen, &typbyval, &typalign);
		array = construct_array(kv->values, kv->n, key->type, typlen, typbyval,
								typalign);
		saop->opno = eqop;
		saop->opfuncid = get_opcode(eqop);
		saop->useOr = true;
		saop->inputcollid = key->collation;
		saop->args = list_make2(copyObject(expr),
								makeConst(arraytype, -1, key->collation, -1,
										  PointerGetDatum(array), false, false));
		saop->location = -1;
		ors = list_make1(saop);
	}
	if (kv->null)
	{
		NullTest   *test = makeNode(NullTest);

		test->arg = copyObject(expr);
		test->nulltesttype = IS_NULL;
		test->location = -1;
		ors = lappend(ors, test);
	}
	return list_length(ors) == 1 ? linitial(ors) : makeBoolExpr(OR_EXPR, ors, -1);
}

/* The longest time from a value's truncation to it, or 0 if not known. */
static int64
unit_length(const char *unit)
{
	static const struct
	{
		const char *name;
		int			days;
	}			units[] = {
		{"microseconds", 1}, {"milliseconds", 1}, {"second", 1},
		{"minute", 1}, {"hour", 1}, {"day", 1}, {"week", 7}, {"month", 31},
		{"quarter", 92}, {"year", 366}
	};

	for (int i = 0; i < lengthof(units); i++)
		if (pg_strcasecmp(unit, units[i].name) == 0)
			return units[i].days * USECS_PER_DAY;
	return 0;
}

/*
 * For a key that truncates a time column: the column, and how much earlier
 * than it the key can be.  NULL for any other key.
 */
static Var *
truncated_column(Expr *expr, int64 *length)
{
	*length = 0;
	while (IsA(expr, FuncExpr))
	{
		FuncExpr   *f = (FuncExpr *) expr;
		Const	   *unit;

		switch (f->funcid)
		{
			case F_DATE_TRUNC_TEXT_TIMESTAMP:
			case F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT:
				unit = linitial(f->args);
				if (!IsA(unit, Const) || unit->constisnull ||
					unit_length(TextDatumGetCString(unit->constvalue)) == 0)
					return NULL;
				*length += unit_length(TextDatumGetCString(unit->constvalue));
				expr = lsecond(f->args);
				break;
			case F_DATE_TIMESTAMP:
				*length += USECS_PER_DAY;
				expr = linitial(f->args);
				break;
			case F_TIMEZONE_TEXT_TIMESTAMPTZ:
				if (!IsA(linitial(f->args), Const))
					return NULL;
				/* Local time is less than a day from UTC, on either side. */
				expr = lsecond(f->args);
				break;
			default:
				return NULL;
		}
	}
	if (*length > 0 && IsA(expr, Var) &&
		(((Var *) expr)->vartype == TIMESTAMPTZOID ||
		 ((Var *) expr)->vartype == TIMESTAMPOID))
		return (Var *) expr;
	return NULL;
}

/*
 * With a slack of two days on either side, for zones and for their changes.
 * The same arithmetic serves local and absolute times.
 */
static Expr *
range_clause(Var *column, Timestamp from, Timestamp upto, int64 length)
{
	const int64 slack = 2 * USECS_PER_DAY;
	Oid			family = get_opclass_family(GetDefaultOpClass(column->vartype,
															  BTREE_AM_OID));
	Oid			ge = get_opfamily_member(family, column->vartype, column->vartype,
										 BTGreaterEqualStrategyNumber);
	Oid			lt = get_opfamily_member(family, column->vartype, column->vartype,
										 BTLessStrategyNumber);
	List	   *ands = NIL;

#define TIME_CONST(t) \
	((Expr *) makeConst(column->vartype, -1, InvalidOid, sizeof(Timestamp), \
						TimestampGetDatum(t), false, FLOAT8PASSBYVAL))
	if (from > MIN_TIMESTAMP + slack)
		ands = lappend(ands, make_opclause(ge, BOOLOID, false, copyObject((Expr *) column),
										   TIME_CONST(from - slack),
										   InvalidOid, InvalidOid));
	if (upto < END_TIMESTAMP - slack - length)
		ands = lappend(ands, make_opclause(lt, BOOLOID, false, copyObject((Expr *) column),
										   TIME_CONST(upto + length + slack),
										   InvalidOid, InvalidOid));
#undef TIME_CONST
	return make_ands_explicit(ands);
}

static int
compare_times(const void *a, const void *b)
{
	Timestamp	x = *(const Timestamp *) a;
	Timestamp	y = *(const Timestamp *) b;

	return x < y ? -1 : x > y ? 1 : 0;
}

/* What a key of truncated time says of its column; NULL if nothing. */
static Expr *
range_qual(KeyValues *kv, Expr *expr)
{
	int64		length;
	Var		   *column = truncated_column(expr, &length);
	Timestamp  *times;
	List	   *ors = NIL;

	if (column == NULL || kv->null || kv->n == 0)
		return NULL;
	times = palloc(sizeof(Timestamp) * kv->n);
	for (int i = 0; i < kv->n; i++)
	{
		if (kv->key->type == DATEOID)
		{
			DateADT		date = DatumGetDateADT(kv->values[i]);

			if (!IS_VALID_DATE(date) ||
				date > (END_TIMESTAMP / USECS_PER_DAY) - 1)
				return NULL;
			times[i] = date * USECS_PER_DAY;
		}
		else
			times[i] = DatumGetTimestamp(kv->values[i]);
		if (TIMESTAMP_NOT_FINITE(times[i]))
			return NULL;
	}
	qsort(times, kv->n, sizeof(Timestamp), compare_times);
	if (kv->n > MAX_RANGES)
		return range_clause(column, times[0], times[kv->n - 1], length);
	for (int i = 0; i < kv->n; i++)
	{
		int			first = i;

		/* Neighbours are one range. */
		while (i + 1 < kv->n &&
			   times[i + 1] - times[i] <= length + 4 * USECS_PER_DAY)
			i++;
		ors = lappend(ors, range_clause(column, times[first], times[i], length));
	}
	return list_length(ors) == 1 ? linitial(ors) : makeBoolExpr(OR_EXPR, ors, -1);
}

/* Quals that hold for the rows of the groups wanted, over spec->query. */
static List *
group_quals(ScGroups *groups, bool (*wanted) (ScGroup *group))
{
	ScSpec	   *spec = groups->spec;
	List	   *quals = NIL;
	ListCell   *lc;
	int			i = 0;

	if (groups->complete)
		return NIL;
	foreach(lc, spec->query->groupClause)
	{
		SortGroupClause *sgc = lfirst(lc);
		Expr	   *expr = get_sortgroupclause_tle(sgc, spec->query->targetList)->expr;
		KeyValues  *kv = key_values(groups, i++, wanted);
		Expr	   *qual;

		if (kv == NULL)
			continue;
		if ((qual = range_qual(kv, expr)) != NULL)
			quals = lappend(quals, qual);
		if ((qual = equality_qual(kv, expr, sgc->eqop)) != NULL)
			quals = lappend(quals, qual);
	}
	return quals;
}

/* ---- running queries ---- */

static void
add_quals(Query *query, List *quals)
{
	if (quals != NIL)
		query->jointree->quals = (Node *)
			make_ands_explicit(list_concat(make_ands_implicit((Expr *) query->jointree->quals),
										   quals));
}

/* Plan a query that must not be answered from a rollup. */
static PlannedStmt *
plan_on_source(Query *query)
{
	bool		save = sc_enable_rewrite;
	PlannedStmt *volatile plan = NULL;

	sc_enable_rewrite = false;
	PG_TRY();
	{
		plan = pg_plan_query(query, "scalecache rollup", 0, NULL);
	}
	PG_FINALLY();
	{
		sc_enable_rewrite = save;
	}
	PG_END_TRY();
	return plan;
}

/*
 * The caller has checked permissions, or is the owner.
 *
 * The query of a view has entries for the view itself, which nothing reads.
 * Locking that here would be a deadlock with who drops the view, has locked
 * it, and waits for the tables.
 */
PlannedStmt *
sc_query_plan(Query *query, Snapshot snapshot)
{
	ListCell   *lc;
	PlannedStmt *plan;

	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		rte->requiredPerms = 0;
		if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_VIEW && !rte->inFromCl)
			rte->rtekind = RTE_RESULT;
	}
	AcquireRewriteLocks(query, true, false);
	PushActiveSnapshot(snapshot);
	plan = plan_on_source(query);
	PopActiveSnapshot();
	return plan;
}

void
sc_query_run(PlannedStmt *plan, Snapshot snapshot, DestReceiver *dest,
			 QueryEnvironment *env)
{
	QueryDesc  *qd;

	PushActiveSnapshot(snapshot);
	qd = CreateQueryDesc(plan, "scalecache rollup", GetActiveSnapshot(),
						 InvalidSnapshot, dest, NULL, env, 0);
	ExecutorStart(qd, 0);
	ExecutorRun(qd, ForwardScanDirection, 0, true);
	ExecutorFinish(qd);
	ExecutorEnd(qd);
	FreeQueryDesc(qd);
	dest->rDestroy(dest);
	PopActiveSnapshot();
}

static void
run_query(Query *query, Snapshot snapshot, DestReceiver *dest)
{
	sc_query_run(sc_query_plan(query, snapshot), snapshot, dest, NULL);
}

/*
 * The keys and aggregates without HAVING; only the aggregates needed.  The
 * quals of a single group that exists are all there is to know of its keys:
 * without GROUP BY, an index may give its extremes.
 */
static void
run_aggregates(ScSpec *spec, Snapshot snapshot, Tuplestorestate *store,
			   const bool *needed, List *quals, ScGroup *only)
{
	Query	   *query = copyObject(spec->query);
	List	   *tlist = NIL;
	ListCell   *lc;
	DestReceiver *dest;
	int			n = 0;

	foreach(lc, query->groupClause)
	{
		TargetEntry *tle = get_sortgroupclause_tle(lfirst(lc), query->targetList);

		tle = flatCopyTargetEntry(tle);
		if (only)
		{
			ScKey	   *key = &spec->keys[n];

			tle->expr = (Expr *) makeConst(key->type, -1, key->collation, key->typlen,
										   only->keys[n], only->nulls[n], key->typbyval);
			tle->ressortgroupref = 0;
		}
		tle->resno = ++n;
		tle->resjunk = false;
		tlist = lappend(tlist, tle);
	}
	if (only)
		query->groupClause = NIL;
	query->hasAggs = false;
	for (int i = 0; i < spec->naggs; i++)
	{
		ScFinalDef *fin = &spec->aggs[i].fin;
		Expr	   *expr;

		if (needed == NULL || needed[i])
		{
			expr = copyObject((Expr *) spec->aggs[i].aggref);
			query->hasAggs = true;
		}
		else
			expr = (Expr *) makeNullConst(fin->resulttype, -1,
										   fin->resultcollation);
		tlist = lappend(tlist, makeTargetEntry(expr, ++n, pstrdup("value"), false));
	}
	query->targetList = tlist;
	query->havingQual = NULL;
	add_quals(query, quals);
	dest = CreateDestReceiver(DestTuplestore);
	SetTuplestoreDestReceiverParams(dest, store, CurrentMemoryContext, false,
									NULL, NULL);
	run_query(query, snapshot, dest);
}

/*
 * Run the rollup's query without HAVING on the source, into store.  The
 * caller has checked permissions, or is the owner.
 */
void
sc_source_run(ScSpec *spec, Snapshot snapshot, Tuplestorestate *store,
			  TupleDesc desc)
{
	run_aggregates(spec, snapshot, store, NULL, NIL, NULL);
}

static bool
is_unknown(ScGroup *group)
{
	return group->finished && !group->known;
}

/*
 * Values of the groups that are finished but not known, all from one query.
 * Returns how many groups there were.
 */
int64
sc_source_values(ScGroups *groups, Snapshot snapshot)
{
	ScSpec	   *spec = groups->spec;
	bool	   *needed = palloc0(sizeof(bool) * (spec->naggs + 1));
	ScGroup    *group = NULL;
	ScGroup    *only = NULL;
	int64		n = 0;
	Tuplestorestate *store;
	TupleDesc	desc;
	TupleTableSlot *slot;
	MemoryContext work;
	MemoryContext old;

	while ((group = sc_groups_next(groups, group)) != NULL)
	{
		if (!is_unknown(group))
			continue;
		for (int i = 0; i < spec->naggs; i++)
		{
			int			s = spec->aggs[i].slot;

			if (spec->slots[s].def.kind == SC_STATE_RECOMPUTE ||
				bms_is_member(s, group->lost))
				needed[i] = true;
		}
		only = group;
		n++;
	}
	if (n == 0)
		return 0;

	work = AllocSetContextCreate(CurrentMemoryContext, "scalecache source",
								 ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(work);
	store = tuplestore_begin_heap(false, false, work_mem);
	desc = sc_source_desc(spec);
	slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	run_aggregates(spec, snapshot, store, needed, group_quals(groups, is_unknown),
				   n == 1 && !groups->complete ? only : NULL);
	MemoryContextSwitchTo(groups->cxt);
	while (tuplestore_gettupleslot(store, true, false, slot))
	{
		slot_getallattrs(slot);
		group = sc_groups_get(groups, slot->tts_values, slot->tts_isnull, false);
		if (group == NULL || !is_unknown(group))
			continue;
		for (int i = 0; i < spec->naggs; i++)
		{
			ScFinalDef *fin = &spec->aggs[i].fin;

			if (!needed[i])
				continue;
			group->isnull[i] = slot->tts_isnull[spec->nkeys + i];
			if (!group->isnull[i])
				group->values[i] = datumCopy(slot->tts_values[spec->nkeys + i],
											 fin->resulttypbyval, fin->resulttyplen);
		}
		group->known = true;
	}
	MemoryContextSwitchTo(old);
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(store);
	MemoryContextDelete(work);
	return n;
}

/* ---- rows ---- */

typedef struct RowReceiver
{
	DestReceiver pub;			/* must be first */
	ScGroups   *groups;
	ScEval	   *eval;
} RowReceiver;

static void
receiver_nothing(DestReceiver *self)
{
}

static void
receiver_startup(DestReceiver *self, int operation, TupleDesc typeinfo)
{
}

static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	RowReceiver *receiver = (RowReceiver *) self;

	sc_groups_add_row(receiver->groups, receiver->eval, slot, 1);
	return true;
}

/* The columns of the source that the rollup reads, in their places. */
static List *
row_targets(ScSpec *spec, Relation source, ScEval *eval)
{
	TupleDesc	desc = RelationGetDescr(source);
	List	   *tlist = NIL;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		Expr	   *expr;

		if (!att->attisdropped &&
			bms_is_member(att->attnum - FirstLowInvalidHeapAttributeNumber,
						  eval->used))
			expr = (Expr *) makeVar(spec->srcvarno, att->attnum, att->atttypid,
									att->atttypmod, att->attcollation, 0);
		else
			expr = (Expr *) makeNullConst(INT4OID, -1, InvalidOid);
		tlist = lappend(tlist, makeTargetEntry(expr, i + 1,
											   pstrdup(NameStr(att->attname)), false));
	}
	return tlist;
}

static bool
is_lost(ScGroup *group)
{
	return group->lost != NULL;
}

/* Make the states that groups have lost anew, from the rows of these groups. */
void
sc_source_states(ScGroups *groups, Snapshot snapshot)
{
	ScSpec	   *spec = groups->spec;
	ScGroups   *fresh = sc_groups_create(spec, groups->cxt);
	ScGroup    *group = NULL;
	RowReceiver receiver = {{receive_row, receiver_startup, receiver_nothing,
	receiver_nothing, DestNone}};
	Relation	source;
	Query	   *query;

	while ((group = sc_groups_next(groups, group)) != NULL)
	{
		if (group->lost == NULL)
			continue;
		sc_groups_get(fresh, group->keys, group->nulls, true);
		fresh->slots = bms_add_members(fresh->slots, group->lost);
	}
	if (fresh->ngroups == 0)
		return;
	fresh->closed = true;

	source = table_open(spec->source, AccessShareLock);
	receiver.groups = fresh;
	receiver.eval = sc_spec_eval(spec, source);
	query = copyObject(spec->query);
	query->targetList = row_targets(spec, source, receiver.eval);
	query->groupClause = NIL;
	query->havingQual = NULL;
	query->hasAggs = false;
	add_quals(query, group_quals(groups, is_lost));
	run_query(query, snapshot, &receiver.pub);
	table_close(source, NoLock);

	group = NULL;
	while ((group = sc_groups_next(groups, group)) != NULL)
	{
		ScGroup    *from;
		int			i = -1;

		if (group->lost == NULL)
			continue;
		from = sc_groups_get(fresh, group->keys, group->nulls, false);
		while ((i = bms_next_member(group->lost, i)) >= 0)
			memcpy(group->states + spec->slots[i].offset,
				   from->states + spec->slots[i].offset, spec->slots[i].def.size);
		sc_group_finish(groups, group);
	}
}

/* Add every row of the source that snapshot sees. */
void
sc_source_scan(ScGroups *groups, Snapshot snapshot)
{
	ListCell   *lc;
	int64		n = 0;
	Size		limit = (Size) sc_rollup_buffer * 4 * 1024;

	foreach(lc, groups->spec->members)
	{
		Relation	rel = table_open(lfirst_oid(lc), AccessShareLock);

		if (RELKIND_HAS_STORAGE(rel->rd_rel->relkind))
		{
			ScEval	   *eval = sc_spec_eval(groups->spec, rel);
			TupleTableSlot *slot = table_slot_create(rel, NULL);
			TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);

			while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
			{
				CHECK_FOR_INTERRUPTS();
				sc_groups_add_row(groups, eval, slot, 1);
				if (groups->values && ++n % SPILL_ROWS == 0 &&
					MemoryContextMemAllocated(groups->cxt, true) > limit)
				{
					sc_groups_spill(groups, groups->values);
					/* Groups that are many stay: do not try all the time. */
					limit = Max(limit, 2 * MemoryContextMemAllocated(groups->cxt, true));
				}
			}
			table_endscan(scan);
			ExecDropSingleTupleTableSlot(slot);
		}
		table_close(rel, NoLock);
	}
}
