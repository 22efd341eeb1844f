/*
 * zone_scan.c: the rows of a table with a time in some ranges, read without
 * the zones that cannot have any.
 *
 * It is a sequential scan by parts.  Zones that nobody knows yet are read
 * twice, first for their times, of all tuples on their pages: the rows that a
 * snapshot sees are not enough for others.  So the first scan is not faster
 * than another, and the following ones are.  A zone need not be read for its
 * rows when its times, just learned, cannot meet the ranges.
 *
 * Only the edges of ranges that a rollup answers are planned with it
 * (rewrite_edges.c).  Whether the rollup answers for the snapshot is asked
 * again here, since that is what makes a map right: see zones.c.  If not, it
 * is a sequential scan.
 */
#include "postgres.h"

#include <math.h>

#include "access/heapam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_type.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/restrictinfo.h"
#include "storage/bufmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "rollup/rewrite.h"
#include "rollup/zones.h"

/* Ranges that one OR may make. */
#define MAX_RANGES		8

/* Whose edges are being planned, or NULL. */
static ScMatch *planning_for = NULL;

/* A range of times: each bound is the strictest of some expressions. */
typedef struct TimeRange
{
	List	   *lower;
	List	   *upper;
} TimeRange;

typedef struct ZoneScanState
{
	CustomScanState css;		/* must be first */
	Oid			view;
	AttrNumber	attno;			/* of the time */
	int			nranges;
	int		   *nlower;			/* bounds of each range, in this order */
	int		   *nupper;
	List	   *bounds;			/* of ExprState */
	TableScanDesc scan;
	bool		ready;
	bool		reading;		/* the scan has a part to read */
	bool		whole;			/* all is read at once */
	bool		learns;			/* zones that are not known */
	ScZoneReader reader;
	ScZoneTimes *zones;
	int64	   *lower;			/* of each range, now; both inclusive */
	int64	   *upper;
	BlockNumber nblocks;
	BlockNumber next;			/* the next block to look at */
	BufferAccessStrategy strategy;
	int64		nskipped;		/* blocks, for EXPLAIN */
	int64		nlearned;
} ZoneScanState;

static Plan *plan_zones(PlannerInfo *root, RelOptInfo *rel, CustomPath *best_path,
						List *tlist, List *clauses, List *custom_plans);
static Node *create_state(CustomScan *cscan);

static const CustomPathMethods path_methods = {
	.CustomName = "ScaleCacheZones",
	.PlanCustomPath = plan_zones,
};
static const CustomScanMethods scan_methods = {
	.CustomName = "ScaleCacheZones",
	.CreateCustomScanState = create_state,
};

/* ---- ranges ---- */

static TimeRange *
copy_range(TimeRange *range)
{
	TimeRange  *copy = palloc(sizeof(TimeRange));

	copy->lower = list_copy(range->lower);
	copy->upper = list_copy(range->upper);
	return copy;
}

/* Take what a comparison says of the time into the range. */
static void
narrow_by(TimeRange *range, Node *clause, Index varno, AttrNumber attno)
{
	OpExpr	   *op = (OpExpr *) clause;
	Oid			opno;
	Var		   *var;
	Node	   *value;
	Expr	   *bound;
	int			strategy;

	if (!IsA(op, OpExpr) || list_length(op->args) != 2)
		return;
	opno = op->opno;
	var = linitial(op->args);
	value = lsecond(op->args);
	if (!IsA(var, Var) || var->varno != varno)
	{
		value = (Node *) var;
		var = lsecond(op->args);
		opno = get_commutator(opno);
	}
	if (!IsA(var, Var) || var->varno != varno || var->varattno != attno ||
		var->varlevelsup != 0 || !OidIsValid(opno) || contain_var_clause(value) ||
		contain_volatile_functions(value) || contain_subplans(value))
		return;
	strategy = get_op_opfamily_strategy(opno, sc_btree_family(TIMESTAMPOID));
	bound = strategy == 0 ? NULL : sc_bound_as((Expr *) copyObject(value), var->vartype);
	if (bound == NULL)
		return;
	if (strategy >= BTEqualStrategyNumber)
		range->lower = lappend(range->lower, bound);
	if (strategy <= BTEqualStrategyNumber)
		range->upper = lappend(range->upper, bound);
}

static void
narrow_by_all(TimeRange *range, List *clauses, Index varno, AttrNumber attno)
{
	ListCell   *lc;

	foreach(lc, clauses)
	{
		if (is_andclause(lfirst(lc)))
			narrow_by_all(range, ((BoolExpr *) lfirst(lc))->args, varno, attno);
		else
			narrow_by(range, lfirst(lc), varno, attno);
	}
}

/* The ranges that rows have to be in one of, or NIL if some may be anywhere. */
static List *
ranges_of(List *clauses, Index varno, AttrNumber attno)
{
	TimeRange	all = {NIL, NIL};
	List	   *ranges = NIL;
	ListCell   *lc;
	ListCell   *l2;

	narrow_by_all(&all, clauses, varno, attno);
	foreach(lc, clauses)
	{
		if (ranges != NIL || !is_orclause(lfirst(lc)) ||
			list_length(((BoolExpr *) lfirst(lc))->args) > MAX_RANGES)
			continue;
		foreach(l2, ((BoolExpr *) lfirst(lc))->args)
		{
			TimeRange  *range = copy_range(&all);

			narrow_by_all(range, list_make1(lfirst(l2)), varno, attno);
			ranges = lappend(ranges, range);
		}
	}
	if (ranges == NIL)
		ranges = list_make1(copy_range(&all));
	foreach(lc, ranges)
	{
		TimeRange  *range = lfirst(lc);

		if (range->lower == NIL && range->upper == NIL)
			return NIL;
	}
	return ranges;
}

static bool
meets(int64 min, int64 max, int n, const int64 *lower, const int64 *upper)
{
	for (int i = 0; i < n; i++)
		if (min <= upper[i] && max >= lower[i])
			return true;
	return false;
}

/* ---- the path ---- */

/* Offer scans by zone for the source of this match, until called with NULL. */
void
sc_zone_plan_for(ScMatch *m)
{
	planning_for = m;
}

/* How far the order of the rows is from that of a column, 0 to 1. */
static double
disorder(Oid relid, AttrNumber attno)
{
	HeapTuple	tuple = SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(relid),
										Int16GetDatum(attno), BoolGetDatum(false));
	AttStatsSlot slot;
	double		result = 1;

	if (!HeapTupleIsValid(tuple))
		return result;
	if (get_attstatsslot(&slot, tuple, STATISTIC_KIND_CORRELATION, InvalidOid,
						 ATTSTATSSLOT_NUMBERS))
	{
		if (slot.nnumbers == 1)
			result = 1 - fabs(slot.numbers[0]);
		free_attstatsslot(&slot);
	}
	ReleaseSysCache(tuple);
	return result;
}

/* The ranges as far as they can be told now; false: not far enough. */
static bool
estimate_ranges(PlannerInfo *root, List *ranges, int64 *lower, int64 *upper)
{
	ListCell   *lc;
	ListCell   *l2;
	int			n = 0;

	foreach(lc, ranges)
	{
		TimeRange  *range = lfirst(lc);

		lower[n] = PG_INT64_MIN;
		upper[n] = PG_INT64_MAX;
		foreach(l2, list_concat_copy(range->lower, range->upper))
		{
			Const	   *value = (Const *) estimate_expression_value(root, copyObject(lfirst(l2)));

			if (!IsA(value, Const))
				return false;
			if (value->constisnull)
				upper[n] = PG_INT64_MIN;
			else if (foreach_current_index(l2) < list_length(range->lower))
				lower[n] = Max(lower[n], DatumGetInt64(value->constvalue));
			else
				upper[n] = Min(upper[n], DatumGetInt64(value->constvalue));
		}
		n++;
	}
	return true;
}

/* The share of the table that will be read. */
static double
share_of(PlannerInfo *root, RelOptInfo *rel, ScZoneKey *key, List *ranges)
{
	int			n = list_length(ranges);
	int64	   *lower = palloc(sizeof(int64) * n);
	int64	   *upper = palloc(sizeof(int64) * n);
	double		unknown = Min(1, rel->rows / Max(rel->tuples, 1) +
							  disorder(key->relid, key->attno));
	ScZoneReader reader;
	ScZoneTimes *zones;
	double		sum = 0;
	int			nzones;

	if (rel->pages == 0 || !sc_zone_open(key, 0, false, &reader) ||
		!estimate_ranges(root, ranges, lower, upper))
		return unknown;
	nzones = ((rel->pages - 1) >> reader.shift) + 1;
	zones = palloc(sizeof(ScZoneTimes) * nzones);
	sc_zone_look(&reader, 0, nzones, zones);
	for (int i = 0; i < nzones; i++)
	{
		if (!zones[i].known)
			sum += unknown;
		else if (meets(zones[i].min, zones[i].max, n, lower, upper))
			sum++;
	}
	pfree(zones);
	return sum / nzones;
}

/* Does an index find the times?  It need not learn, and knows single rows. */
static bool
has_index(RelOptInfo *rel, AttrNumber attno)
{
	ListCell   *lc;

	foreach(lc, rel->indexlist)
	{
		IndexOptInfo *index = lfirst(lc);

		if (index->indexkeys[0] == attno && index->amhasgettuple && index->indpred == NIL)
			return true;
	}
	return false;
}

/* A path for the rows of rel that pass ranges of a column of the source. */
static void
add_zone_path(PlannerInfo *root, RelOptInfo *rel, Oid relid, AttrNumber attno, Oid view)
{
	List	   *ranges = ranges_of(extract_actual_clauses(rel->baserestrictinfo, false),
								   rel->relid, attno);
	Relation	table;
	ScZoneKey	key;
	CustomPath *cpath;
	Path	   *plain;
	double		share;

	if (ranges == NIL || !bms_is_empty(rel->lateral_relids) || has_index(rel, attno))
		return;
	table = table_open(relid, NoLock);
	if (!sc_zone_fits(table, attno))
	{
		table_close(table, NoLock);
		return;
	}
	key = sc_zone_key(planning_for->spec, table, attno);
	table_close(table, NoLock);
	/* The first one has to learn: it is no dearer than a plain scan. */
	share = Min(share_of(root, rel, &key, ranges), 0.99);
	plain = create_seqscan_path(root, rel, NULL, 0);
	cpath = makeNode(CustomPath);
	cpath->path.pathtype = T_CustomScan;
	cpath->path.parent = rel;
	cpath->path.pathtarget = rel->reltarget;
	cpath->path.rows = rel->rows;
	cpath->path.startup_cost = plain->startup_cost;
	cpath->path.total_cost = plain->startup_cost +
		(plain->total_cost - plain->startup_cost) * share;
	cpath->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	cpath->custom_private = list_make3_int(attno, (int) view, 0);
	cpath->custom_private = list_make2(cpath->custom_private, ranges);
	cpath->methods = &path_methods;
	add_path(rel, &cpath->path);
}

/* Called for each table that is planned. */
void
sc_zone_paths(PlannerInfo *root, RelOptInfo *rel, RangeTblEntry *rte)
{
	ScMatch    *m = planning_for;
	Oid			source;
	List	   *seen = NIL;
	ListCell   *lc;

	if (m == NULL || !IS_SIMPLE_REL(rel) || rte->rtekind != RTE_RELATION ||
		rte->tablesample || IS_DUMMY_REL(rel) || !sc_zones_enabled())
		return;
	source = m->root->simple_rte_array[m->srcvarno]->relid;
	if (rte->relkind != RELKIND_RELATION || rte->inh ||
		!list_member_oid(m->spec->members, rte->relid))
		return;
	foreach(lc, m->bounds)
	{
		Var		   *time = (Var *) ((ScBound *) lfirst(lc))->time;
		AttrNumber	attno;

		if (!IsA(time, Var) || time->varattno <= 0)
			continue;
		attno = rte->relid == source ? time->varattno :
			get_attnum(rte->relid, get_attname(source, time->varattno, false));
		if (list_member_int(seen, attno))
			continue;
		seen = lappend_int(seen, attno);
		add_zone_path(root, rel, rte->relid, attno, m->view);
	}
}

/* ---- the plan ---- */

static Plan *
plan_zones(PlannerInfo *root, RelOptInfo *rel, CustomPath *best_path, List *tlist,
		   List *clauses, List *custom_plans)
{
	CustomScan *cscan = makeNode(CustomScan);
	List	   *counts = NIL;
	ListCell   *lc;

	foreach(lc, lsecond(best_path->custom_private))
	{
		TimeRange  *range = lfirst(lc);

		counts = lappend_int(lappend_int(counts, list_length(range->lower)),
							 list_length(range->upper));
		cscan->custom_exprs = list_concat(list_concat(cscan->custom_exprs, range->lower),
										  range->upper);
	}
	cscan->scan.plan.targetlist = tlist;
	cscan->scan.plan.qual = extract_actual_clauses(clauses, false);
	cscan->scan.scanrelid = rel->relid;
	cscan->flags = best_path->flags;
	cscan->custom_private = list_make2(linitial(best_path->custom_private), counts);
	cscan->methods = &scan_methods;
	return &cscan->scan.plan;
}

/* ---- the execution ---- */

static void
begin_zones(CustomScanState *node, EState *estate, int eflags)
{
	ZoneScanState *state = (ZoneScanState *) node;
	CustomScan *cscan = (CustomScan *) node->ss.ps.plan;
	List	   *counts = lsecond(cscan->custom_private);
	Relation	rel = node->ss.ss_currentRelation;
	ListCell   *lc;

	/* Rows come in the table's own slots. */
	ExecInitScanTupleSlot(estate, &node->ss, RelationGetDescr(rel),
						  table_slot_callbacks(rel));
	ExecAssignScanProjectionInfo(&node->ss);
	node->ss.ps.qual = ExecInitQual(cscan->scan.plan.qual, &node->ss.ps);

	state->attno = linitial_int(linitial(cscan->custom_private));
	state->view = (Oid) lsecond_int(linitial(cscan->custom_private));
	state->nranges = list_length(counts) / 2;
	state->nlower = palloc(sizeof(int) * state->nranges);
	state->nupper = palloc(sizeof(int) * state->nranges);
	state->lower = palloc(sizeof(int64) * state->nranges);
	state->upper = palloc(sizeof(int64) * state->nranges);
	for (int i = 0; i < state->nranges; i++)
	{
		state->nlower[i] = list_nth_int(counts, 2 * i);
		state->nupper[i] = list_nth_int(counts, 2 * i + 1);
	}
	foreach(lc, cscan->custom_exprs)
		state->bounds = lappend(state->bounds, ExecInitExpr(lfirst(lc), &node->ss.ps));
}

/* The strictest of some bounds; NULL lets no row through. */
static int64
strictest(ZoneScanState *state, int first, int n, bool lower)
{
	int64		result = lower ? PG_INT64_MIN : PG_INT64_MAX;

	for (int i = first; i < first + n; i++)
	{
		bool		isnull;
		Datum		value = ExecEvalExprSwitchContext(list_nth(state->bounds, i),
													  state->css.ss.ps.ps_ExprContext, &isnull);

		if (isnull)
			return lower ? PG_INT64_MAX : PG_INT64_MIN;
		result = lower ? Max(result, DatumGetInt64(value)) : Min(result, DatumGetInt64(value));
	}
	return result;
}

static void
evaluate_ranges(ZoneScanState *state)
{
	int			first = 0;

	for (int i = 0; i < state->nranges; i++)
	{
		state->lower[i] = strictest(state, first, state->nlower[i], true);
		first += state->nlower[i];
		state->upper[i] = strictest(state, first, state->nupper[i], false);
		first += state->nupper[i];
	}
	ResetExprContext(state->css.ss.ps.ps_ExprContext);
}

/* Open the map; false: there is none that is right for the snapshot. */
static bool
open_map(ZoneScanState *state, Relation rel, Snapshot snapshot)
{
	ScSpec	   *spec = sc_zones_enabled() ? sc_spec_by_view(state->view) : NULL;
	ScZoneKey	key;
	bool		found = false;

	if (spec == NULL)
		return false;
	if (sc_zone_fits(rel, state->attno) && sc_spec_counts(spec, RelationGetRelid(rel)) &&
		sc_scan_answers_part(spec, snapshot))
	{
		/* An epoch of this transaction's own might come again if it aborts. */
		state->learns = !TransactionIdIsValid(GetTopTransactionIdIfAny());
		key = sc_zone_key(spec, rel, state->attno);
		found = sc_zone_open(&key, RelationGetNumberOfBlocks(rel), state->learns,
							 &state->reader);
	}
	sc_spec_release(spec);
	return found;
}

static void
prepare(ZoneScanState *state)
{
	EState	   *estate = state->css.ss.ps.state;
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);
	Relation	rel = state->css.ss.ss_currentRelation;
	int			n;

	evaluate_ranges(state);
	state->whole = !open_map(state, rel, estate->es_snapshot);
	/* The number of blocks is asked for after the map is known to others. */
	if (state->scan)
		table_rescan(state->scan, NULL);
	else
		state->scan = table_beginscan_strat(rel, estate->es_snapshot, 0, NULL, true, false);
	state->nblocks = ((HeapScanDesc) state->scan)->rs_nblocks;
	state->next = 0;
	if (state->zones)
		pfree(state->zones);
	state->zones = NULL;
	if (!state->whole && state->nblocks > 0)
	{
		n = ((state->nblocks - 1) >> state->reader.shift) + 1;
		state->zones = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ScZoneTimes) * n);
		sc_zone_look(&state->reader, 0, n, state->zones);
		if (state->strategy == NULL && state->nblocks > NBuffers / 4)
			state->strategy = GetAccessStrategy(BAS_BULKREAD);
	}
	state->reading = state->whole;
	state->ready = true;
	MemoryContextSwitchTo(old);
}

/* The times of all tuples on a page. */
static void
learn_page(ZoneScanState *state, BlockNumber block, int64 *min, int64 *max)
{
	Relation	rel = state->css.ss.ss_currentRelation;
	Buffer		buffer = ReadBufferExtended(rel, MAIN_FORKNUM, block, RBM_NORMAL, state->strategy);
	Page		page = BufferGetPage(buffer);
	OffsetNumber last;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	last = PageIsNew(page) ? 0 : PageGetMaxOffsetNumber(page);
	for (OffsetNumber off = FirstOffsetNumber; off <= last; off++)
	{
		ItemId		item = PageGetItemId(page, off);
		HeapTupleData tuple;
		bool		isnull;
		int64		time;

		if (!ItemIdIsNormal(item))
			continue;
		tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
		tuple.t_len = ItemIdGetLength(item);
		tuple.t_tableOid = RelationGetRelid(rel);
		ItemPointerSet(&tuple.t_self, block, off);
		time = DatumGetInt64(heap_getattr(&tuple, state->attno, RelationGetDescr(rel), &isnull));
		if (isnull)
			continue;
		*min = Min(*min, time);
		*max = Max(*max, time);
	}
	UnlockReleaseBuffer(buffer);
}

/* Has a zone to be read for its rows? */
static bool
is_wanted(ZoneScanState *state, uint32 zone)
{
	ScZoneTimes *times = &state->zones[zone];
	BlockNumber block = zone << state->reader.shift;
	BlockNumber end = Min(state->nblocks, (zone + 1) << state->reader.shift);

	if (!times->known && times->learnable && state->learns)
	{
		times->min = PG_INT64_MAX;
		times->max = PG_INT64_MIN;
		state->nlearned += end - block;
		for (; block < end; block++)
		{
			CHECK_FOR_INTERRUPTS();
			learn_page(state, block, &times->min, &times->max);
		}
		sc_zone_learn(&state->reader, zone, times->min, times->max);
		times->known = true;
	}
	return !times->known ||
		meets(times->min, times->max, state->nranges, state->lower, state->upper);
}

/* Have the scan read the next zones that follow each other; false: no more. */
static bool
next_part(ZoneScanState *state)
{
	int			shift = state->reader.shift;
	BlockNumber first;

	if (state->whole)
		return false;
	for (; state->next < state->nblocks; state->next += (BlockNumber) 1 << shift)
	{
		if (is_wanted(state, state->next >> shift))
			break;
		state->nskipped += Min((BlockNumber) 1 << shift, state->nblocks - state->next);
	}
	if (state->next >= state->nblocks)
		return false;
	first = state->next;
	do
		state->next += (BlockNumber) 1 << shift;
	while (state->next < state->nblocks && state->zones[state->next >> shift].known &&
		   is_wanted(state, state->next >> shift));
	table_rescan(state->scan, NULL);
	heap_setscanlimits(state->scan, first, Min(state->next, state->nblocks) - first);
	return true;
}

static TupleTableSlot *
next_row(ScanState *ss)
{
	ZoneScanState *state = (ZoneScanState *) ss;

	if (!state->ready)
		prepare(state);
	for (;;)
	{
		if (state->reading &&
			table_scan_getnextslot(state->scan, ForwardScanDirection, ss->ss_ScanTupleSlot))
			return ss->ss_ScanTupleSlot;
		state->reading = next_part(state);
		if (!state->reading)
			return NULL;
	}
}

/* Quals are checked again by the caller. */
static bool
recheck_row(ScanState *ss, TupleTableSlot *slot)
{
	return true;
}

static TupleTableSlot *
exec_zones(CustomScanState *node)
{
	return ExecScan(&node->ss, next_row, recheck_row);
}

static void
end_zones(CustomScanState *node)
{
	ZoneScanState *state = (ZoneScanState *) node;

	ExecClearTuple(node->ss.ss_ScanTupleSlot);
	if (state->scan)
		table_endscan(state->scan);
}

static void
rescan_zones(CustomScanState *node)
{
	((ZoneScanState *) node)->ready = false;
	ExecScanReScan(&node->ss);
}

static void
explain_zones(CustomScanState *node, List *ancestors, ExplainState *es)
{
	ZoneScanState *state = (ZoneScanState *) node;

	if (!es->analyze || state->scan == NULL)
		return;
	ExplainPropertyInteger("Blocks Skipped", NULL, state->nskipped, es);
	if (state->nlearned > 0)
		ExplainPropertyInteger("Blocks Learned", NULL, state->nlearned, es);
}

static const CustomExecMethods exec_methods = {
	.CustomName = "ScaleCacheZones",
	.BeginCustomScan = begin_zones,
	.ExecCustomScan = exec_zones,
	.EndCustomScan = end_zones,
	.ReScanCustomScan = rescan_zones,
	.ExplainCustomScan = explain_zones,
};

static Node *
create_state(CustomScan *cscan)
{
	ZoneScanState *state = (ZoneScanState *)
	newNode(sizeof(ZoneScanState), T_CustomScanState);

	state->css.methods = &exec_methods;
	return (Node *) state;
}

void
sc_zone_scan_init(void)
{
	RegisterCustomScanMethods(&scan_methods);
}
