/*
 * rewrite_join_exec.c: a query that joins a rollup's source, answered from
 * the rollup: the execution.  See rewrite_join.c.
 *
 * Each row of the join stands for as many rows of the plain join as the
 * rollup's group has.  Rows are added up by the query's keys in memory, and
 * returned as the custom scan's own.  Rows of the plain join that are beyond
 * the edges of a range of time are added from other plans, the same plain join
 * with a condition more.  The plain query's plan answers instead,
 * started only then, when the storage cannot for the snapshot, the session's
 * time zone has changed since planning, or an extreme is not known.
 */
#include "postgres.h"

#include "access/table.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/ruleutils.h"

#include "rollup/rewrite.h"

/* Members of custom_private. */
#define PRIVATE_VIEW	0
#define PRIVATE_COUNTS	1		/* columns of the join, query keys, bounds */
#define PRIVATE_ITEMS	2		/* kind, arg, parts, (slot, has filter,
								 * arguments; ...); ... */
#define PRIVATE_OPS		3		/* equality operator, hashable; ... */
#define PRIVATE_SHOWN	4		/* query key that a column is, or -1; ... */
#define PRIVATE_ZONE	5
#define PRIVATE_SETS	6		/* see SC_PRIVATE_SETS */
#define PRIVATE_CALLED	7		/* see SC_PRIVATE_CALLED */
#define PRIVATE_LINEARS	8		/* for each linear item: as in ScMatch, and
								 * the items of the sums */

/* custom_exprs: query keys, filters and arguments of parts, bounds. */

/* Plans: the join of groups, the plain query, rows beyond edges. */
#define PLAN_JOIN		0
#define PLAN_PLAIN		1
#define PLAN_EDGES		2

/* Columns of the join that are always there. */
#define COLUMN_ROWS		0
#define COLUMN_STATE	1

typedef struct JoinPart
{
	int			slot;
	ExprState  *filter;
	ExprState  *args[2];
	int			nargs;
} JoinPart;

typedef struct JoinItem
{
	ScJoinKind	kind;
	int			arg;
	int			nparts;
	JoinPart   *parts;
	bool		filtered;		/* rows beyond edges have a FILTER's value */
	ScStateDef	state;
	ScFinalDef	fin;
	Size		offset;			/* into a target group's states */
	ScLinearState *linear;		/* SC_JOIN_LINEAR */
	List	   *sums;			/* likewise: items that have the sums */
} JoinItem;

typedef struct RollupJoinState
{
	CustomScanState css;		/* must be first */
	int			eflags;
	Oid			view;
	ScSpec	   *spec;			/* pinned */
	List	   *held;			/* see sc_node_hold */
	List	   *private;
	int			ncolumns;
	int			nqkeys;
	int			nitems;
	int			nbounds;
	int			nslots;			/* of the rollup, up to the last asked for */
	int			nlinears;
	ExprState **qkeys;
	JoinItem   *items;
	ExprState **bounds;			/* edge, outer; edge, outer; ... */
	PlanState  *plain;			/* the plain query, once it is needed */
	bool		allowed;		/* the user may call what that calls */
	List	   *edges;			/* of PlanState, once they are needed */
	ScAnswer	source;
	bool		ragged;			/* this time, the tables have some rows */
	ScSpec	   *tspec;			/* what target is grouped by */
	MemoryContext cxt;			/* target's; reset by a rescan */
	MemoryContext rowcxt;		/* reset for each row */
	ScGroups   *target;
	List	  **uses;			/* of JoinItem that take each slot's state of
								 * the row at hand */
	List	   *results;		/* of ScSetResult */
	int			nresult;
	ScGroup    *tgroup;
	int64		nread;			/* rows of the join, for EXPLAIN */
	int64		nedgerows;
} RollupJoinState;

/* ---- start ---- */

static void
init_item(RollupJoinState *state, JoinItem *item, Aggref *agg, Size *size)
{
	MemoryContext cxt = CurrentMemoryContext;

	item->offset = *size;
	if (item->kind == SC_JOIN_KEY || item->kind == SC_JOIN_GROUPING)
		return;
	if (item->kind == SC_JOIN_LINEAR)
	{
		List	   *linear = list_nth(list_nth(state->private, PRIVATE_LINEARS), state->nlinears++);

		item->linear = sc_linear_prepare(linitial(linear), agg, cxt);
		item->sums = lsecond(linear);
		return;
	}
	item->filtered = agg->aggfilter != NULL;
	if (item->kind == SC_JOIN_ROWS)
	{
		*size += sizeof(int64);
		return;
	}
	sc_final_prepare(agg, &item->fin, cxt);
	if (item->arg >= 0)
		item->state = state->spec->slots[item->arg].def;
	else
	{
		sc_state_classify(agg, &item->state);
		sc_state_prepare(&item->state, cxt);
	}
	*size += MAXALIGN(item->state.size);
}

/* Read the items and their parts; returns the bytes of their states. */
static Size
init_items(RollupJoinState *state, CustomScan *cscan)
{
	PlanState  *ps = &state->css.ss.ps;
	ListCell   *lc = list_head(list_nth(state->private, PRIVATE_ITEMS));
	List	   *ints = list_nth(state->private, PRIVATE_ITEMS);
	Size		size = 0;
	int			n = state->nqkeys;

#define NEXT_INT(x) ((x) = lfirst_int(lc), lc = lnext(ints, lc))
#define NEXT_EXPR(x) ((x) = ExecInitExpr(list_nth(cscan->custom_exprs, n++), ps))
	for (int i = 0; i < state->nitems; i++)
	{
		JoinItem   *item = &state->items[i];
		TargetEntry *tle = list_nth(cscan->custom_scan_tlist, state->ncolumns + i);

		NEXT_INT(item->kind);
		NEXT_INT(item->arg);
		NEXT_INT(item->nparts);
		item->parts = palloc0(sizeof(JoinPart) * (item->nparts + 1));
		for (JoinPart *part = item->parts; part < item->parts + item->nparts; part++)
		{
			int			filtered;

			NEXT_INT(part->slot);
			NEXT_INT(filtered);
			NEXT_INT(part->nargs);
			if (filtered)
				NEXT_EXPR(part->filter);
			for (int a = 0; a < part->nargs; a++)
				NEXT_EXPR(part->args[a]);
			state->nslots = Max(state->nslots, part->slot + 1);
		}
		if (!(state->eflags & EXEC_FLAG_EXPLAIN_ONLY))
			init_item(state, item, (Aggref *) tle->expr, &size);
	}
	state->bounds = palloc0(sizeof(ExprState *) * (2 * state->nbounds + 1));
	for (int i = 0; i < 2 * state->nbounds; i++)
		NEXT_EXPR(state->bounds[i]);
	return size;
}

/* The plans of the rows beyond the edges. */
static void
open_edges(RollupJoinState *state)
{
	if (state->edges == NIL)
		state->edges = sc_node_open_plans(&state->css, PLAN_EDGES, state->eflags);
}

static void
begin_join(CustomScanState *node, EState *estate, int eflags)
{
	RollupJoinState *state = (RollupJoinState *) node;
	CustomScan *cscan = (CustomScan *) node->ss.ps.plan;
	List	   *counts;
	Size		size;

	state->private = cscan->custom_private;
	state->eflags = eflags;
	state->view = linitial_oid(list_nth(state->private, PRIVATE_VIEW));
	counts = list_nth(state->private, PRIVATE_COUNTS);
	state->ncolumns = linitial_int(counts);
	state->nqkeys = lsecond_int(counts);
	state->allowed = sc_node_allowed(node, list_nth(state->private, PRIVATE_CALLED),
									 eflags, &state->plain);
	if (!state->allowed)
		return;
	state->nbounds = lthird_int(counts);
	state->nitems = list_length(cscan->custom_scan_tlist) - state->ncolumns;
	node->custom_ps = list_make1(ExecInitNode(linitial(cscan->custom_plans), estate, eflags));
	state->spec = sc_node_spec(state->view);
	state->held = sc_node_hold(node, state->spec);

	state->qkeys = palloc0(sizeof(ExprState *) * (state->nqkeys + 1));
	for (int i = 0; i < state->nqkeys; i++)
		state->qkeys[i] = ExecInitExpr(list_nth(cscan->custom_exprs, i), &node->ss.ps);
	state->items = palloc0(sizeof(JoinItem) * (state->nitems + 1));
	size = init_items(state, cscan);
	state->uses = palloc0(sizeof(List *) * (state->nslots + 1));
	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		open_edges(state);
	else
	{
		if (!sc_node_anybody_may_call(list_nth(state->private, PRIVATE_CALLED)))
		{
			sc_node_open_plain(node, eflags, &state->plain);
			open_edges(state);
		}
		state->tspec = sc_node_target(NULL, cscan->custom_exprs,
									  list_nth(state->private, PRIVATE_OPS),
									  state->nqkeys, size);
	}
	state->cxt = AllocSetContextCreate(estate->es_query_cxt, "scalecache join",
									   ALLOCSET_DEFAULT_SIZES);
	state->rowcxt = AllocSetContextCreate(estate->es_query_cxt, "scalecache join row",
										  ALLOCSET_DEFAULT_SIZES);
}

/* ---- adding up ---- */

#define STATE_OF(group, item) \
	((ScState *) ((group)->states + (item)->offset))

/* Is the part for this row? */
static bool
passes(JoinPart *part, ExprContext *econtext)
{
	bool		isnull;
	Datum		pass;

	if (part->filter == NULL)
		return true;
	pass = ExecEvalExprSwitchContext(part->filter, econtext, &isnull);
	return !isnull && DatumGetBool(pass);
}

/* Add a value times times. */
static void
accum_often(RollupJoinState *state, JoinItem *item, ScState *into, const Datum *args,
			const bool *nulls, int64 times)
{
	/* Nothing is retracted, so once is as good as often. */
	if (item->state.kind == SC_STATE_DISTINCT || item->state.kind == SC_STATE_EXTREME ||
		item->state.kind == SC_STATE_BOOL)
		times = 1;
	sc_state_accum_often(&item->state, into, args, nulls, times, state->target->cxt,
						 state->rowcxt);
}

/* Merge the states of the row's group that are used. */
static void
merge_states(RollupJoinState *state, ScGroup *group, Datum packed)
{
	MemoryContext old = MemoryContextSwitchTo(state->rowcxt);
	bytea	   *bytes = (bytea *) PG_DETOAST_DATUM_PACKED(packed);
	const char *p = VARDATA_ANY(bytes);
	const char *end = p + VARSIZE_ANY_EXHDR(bytes);

	sc_packed_rows(&p, end);
	for (int s = 0; s < state->nslots; s++)
	{
		ScStateDef *def = &state->spec->slots[s].def;
		const char *start = p;
		ListCell   *lc;

		if (def->kind == SC_STATE_RECOMPUTE)
			continue;
		foreach(lc, state->uses[s])
		{
			p = start;
			sc_state_merge(def, STATE_OF(group, (JoinItem *) lfirst(lc)), &p, end,
						   state->target->cxt);
		}
		if (state->uses[s] == NIL && s + 1 < state->nslots)
			sc_state_merge(def, palloc0(def->size), &p, end, state->rowcxt);
		state->uses[s] = NIL;
	}
	MemoryContextSwitchTo(old);
}

/* Add a row of the join; true if states of its group are used. */
static bool
add_part(RollupJoinState *state, ExprContext *econtext, JoinItem *item, JoinPart *part,
		 ScGroup *group, int64 rows)
{
	Datum		args[2] = {0};
	bool		nulls[2] = {0};

	if (item->kind == SC_JOIN_ROWS)
		*(int64 *) STATE_OF(group, item) += rows;
	else if (part->slot >= 0)
	{
		MemoryContext old = MemoryContextSwitchTo(state->rowcxt);

		state->uses[part->slot] = lappend(state->uses[part->slot], item);
		MemoryContextSwitchTo(old);
		return true;
	}
	else
	{
		for (int a = 0; a < part->nargs; a++)
			args[a] = ExecEvalExprSwitchContext(part->args[a], econtext, &nulls[a]);
		accum_often(state, item, STATE_OF(group, item), args, nulls, rows);
	}
	return false;
}

static void
add_row(RollupJoinState *state, ExprContext *econtext, ScGroup *group, int64 rows,
		Datum packed)
{
	bool		merge = false;

	for (JoinItem *item = state->items; item < state->items + state->nitems; item++)
		for (JoinPart *part = item->parts; part < item->parts + item->nparts; part++)
			if (passes(part, econtext))
				merge |= add_part(state, econtext, item, part, group, rows);
	if (merge)
		merge_states(state, group, packed);
}

/* Add the plain join's rows that are beyond the edges. */
static void
add_edges(RollupJoinState *state, PlanState *rows)
{
	TupleTableSlot *row;

	for (row = ExecProcNode(rows); !TupIsNull(row); row = ExecProcNode(rows))
	{
		MemoryContext old = MemoryContextSwitchTo(state->rowcxt);
		ScGroup    *group;
		int			n = state->nqkeys;

		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(row);
		state->nedgerows++;
		group = sc_groups_get(state->target, row->tts_values, row->tts_isnull, true);
		for (JoinItem *item = state->items; item < state->items + state->nitems; item++)
		{
			bool		pass = true;

			if (item->kind != SC_JOIN_ROWS && item->kind != SC_JOIN_STATE)
				continue;
			if (item->filtered)
			{
				pass = !row->tts_isnull[n] && DatumGetBool(row->tts_values[n]);
				n++;
			}
			if (item->kind == SC_JOIN_ROWS)
				*(int64 *) STATE_OF(group, item) += pass;
			else
			{
				if (pass)
					sc_state_accum(&item->state, STATE_OF(group, item), row->tts_values + n,
								   row->tts_isnull + n, 1, state->target->cxt);
				n += item->state.nargs;
			}
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(state->rowcxt);
	}
}

/* Show a row of the join to expressions over the scan's row. */
static ExprContext *
show_row(RollupJoinState *state, TupleTableSlot *row)
{
	TupleTableSlot *slot = state->css.ss.ss_ScanTupleSlot;
	ExprContext *econtext = state->css.ss.ps.ps_ExprContext;

	slot_getallattrs(row);
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, slot->tts_tupleDescriptor->natts * sizeof(bool));
	memcpy(slot->tts_values, row->tts_values, state->ncolumns * sizeof(Datum));
	memcpy(slot->tts_isnull, row->tts_isnull, state->ncolumns * sizeof(bool));
	ExecStoreVirtualTuple(slot);
	ResetExprContext(econtext);
	econtext->ecxt_scantuple = slot;
	return econtext;
}

/* What follows from other items' sums. */
static void
linear_final(RollupJoinState *state, JoinItem *item, ScGroup *group, Datum *value,
			 bool *isnull)
{
	int			n = list_length(item->sums);
	const ScStateDef **defs = palloc(sizeof(ScStateDef *) * n);
	ScState   **sums = palloc(sizeof(ScState *) * n);

	for (int i = 0; i < n; i++)
	{
		JoinItem   *sum = &state->items[list_nth_int(item->sums, i)];

		defs[i] = &sum->state;
		sums[i] = STATE_OF(group, sum);
	}
	sc_linear_final(item->linear, defs, sums, value, isnull);
}

static bool
item_final(RollupJoinState *state, JoinItem *item, ScGroup *group, Datum *value,
		   bool *isnull)
{
	bool		overflow = false;
	bool		known;

	if (item->kind == SC_JOIN_ROWS)
	{
		*value = Int64GetDatum(*(int64 *) STATE_OF(group, item));
		*isnull = false;
		return true;
	}
	if (item->kind == SC_JOIN_LINEAR)
	{
		linear_final(state, item, group, value, isnull);
		return true;
	}
	known = sc_state_final(&item->state, &item->fin, STATE_OF(group, item), value,
						   isnull, &overflow);
	if (overflow)
		sc_node_overflow();
	return known;
}

/* Let multisets be known; false: some extreme is not. */
static bool
settle(RollupJoinState *state, ScGroups *groups)
{
	ScGroup    *group = NULL;

	while ((group = sc_groups_next(groups, group)) != NULL)
		for (int i = 0; i < state->nitems; i++)
		{
			JoinItem   *item = &state->items[i];
			Datum		value;
			bool		isnull;

			if (item->kind != SC_JOIN_STATE)
				continue;
			sc_state_settle(&item->state, STATE_OF(group, item), groups->cxt);
			if (item->state.kind == SC_STATE_EXTREME &&
				!item_final(state, item, group, &value, &isnull))
				return false;
		}
	return true;
}

/* Add a group of the target to one of a grouping set. */
static void
merge_group(void *arg, ScGroup *from, ScGroup *into)
{
	RollupJoinState *state = arg;

	for (JoinItem *item = state->items; item < state->items + state->nitems; item++)
	{
		if (item->kind == SC_JOIN_ROWS)
			*(int64 *) STATE_OF(into, item) += *(int64 *) STATE_OF(from, item);
		else if (item->kind == SC_JOIN_STATE)
			sc_node_merge_state(&item->state, STATE_OF(from, item), STATE_OF(into, item),
								state->target->cxt, state->rowcxt);
	}
	MemoryContextReset(state->rowcxt);
}

/* Add up the join's rows by the query's keys. */
static void
add_groups(RollupJoinState *state)
{
	PlanState  *join = linitial(state->css.custom_ps);
	Datum	   *keys = MemoryContextAlloc(state->cxt, sizeof(Datum) * (state->nqkeys + 1));
	bool	   *nulls = MemoryContextAlloc(state->cxt, sizeof(bool) * (state->nqkeys + 1));
	TupleTableSlot *row;

	for (row = ExecProcNode(join); !TupIsNull(row); row = ExecProcNode(join))
	{
		ExprContext *econtext = show_row(state, row);
		int64		rows = DatumGetInt64(row->tts_values[COLUMN_ROWS]);

		CHECK_FOR_INTERRUPTS();
		state->nread++;
		if (rows <= 0)
			continue;			/* of a rollup without keys */
		for (int i = 0; i < state->nqkeys; i++)
			keys[i] = ExecEvalExprSwitchContext(state->qkeys[i], econtext, &nulls[i]);
		add_row(state, econtext, sc_groups_get(state->target, keys, nulls, true),
				rows, row->tts_values[COLUMN_STATE]);
		MemoryContextReset(state->rowcxt);
	}
}

/* Add up all there is.  False: some extreme cannot be told. */
static bool
add_up(RollupJoinState *state)
{
	ListCell   *lc;

	MemoryContextReset(state->cxt);
	state->target = sc_groups_create(state->tspec, state->cxt);
	add_groups(state);
	if (state->ragged)
	{
		open_edges(state);
		foreach(lc, state->edges)
			add_edges(state, lfirst(lc));
	}
	state->results = sc_node_sets(state->target, list_nth(state->private, PRIVATE_SETS),
								  merge_group, state);
	foreach(lc, state->results)
		if (!settle(state, ((ScSetResult *) lfirst(lc))->groups))
			return false;
	state->nresult = 0;
	state->tgroup = NULL;
	return true;
}

/* Decide who answers, and get it ready. */
static void
prepare(RollupJoinState *state)
{
	EState	   *estate = state->css.ss.ps.state;
	List	   *plans = ((CustomScan *) state->css.ss.ps.plan)->custom_plans;
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);
	ScRange		range = sc_node_range(state->bounds, state->nbounds,
									  state->css.ss.ps.ps_ExprContext);

	state->source = SC_FROM_TABLE;
	state->ragged = range == SC_RANGE_RAGGED;
	if (state->allowed && range != SC_RANGE_UNKNOWN &&
		(!state->ragged || list_length(plans) > PLAN_EDGES) &&
		sc_node_zone_holds(list_nth(state->private, PRIVATE_ZONE)) &&
		sc_scan_answers(state->spec, state->css.ss.ss_currentRelation,
						estate->es_snapshot) &&
		add_up(state))
	{
		state->source = SC_FROM_ROLLUP;
		sc_rollup_stats_rewrite(state->spec->id);
	}
	if (state->source == SC_FROM_TABLE)
		sc_node_open_plain(&state->css, state->eflags, &state->plain);
	MemoryContextSwitchTo(old);
}

/* ---- rows ---- */

static TupleTableSlot *
next_row(ScanState *ss)
{
	RollupJoinState *state = (RollupJoinState *) ss;
	TupleTableSlot *slot = ss->ss_ScanTupleSlot;
	ScSetResult *result = sc_node_next_group(state->results, &state->nresult,
											 &state->tgroup);
	ScGroup    *group = state->tgroup;
	MemoryContext old;
	int			i = 0;
	ListCell   *lc;

	if (result == NULL)
		return NULL;
	MemoryContextReset(state->rowcxt);
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, state->ncolumns * sizeof(bool));
	/* A column may be a key that the output computes something with. */
	foreach(lc, (List *) list_nth(state->private, PRIVATE_SHOWN))
	{
		if (lfirst_int(lc) >= 0)
			slot->tts_values[i] = sc_node_key_of_set(result->set, group, lfirst_int(lc),
													 &slot->tts_isnull[i]);
		i++;
	}
	old = MemoryContextSwitchTo(state->rowcxt);
	for (i = 0; i < state->nitems; i++)
	{
		JoinItem   *item = &state->items[i];
		Datum	   *value = &slot->tts_values[state->ncolumns + i];
		bool	   *isnull = &slot->tts_isnull[state->ncolumns + i];

		if (item->kind == SC_JOIN_KEY)
			*value = sc_node_key_of_set(result->set, group, item->arg, isnull);
		else if (item->kind == SC_JOIN_GROUPING)
		{
			*value = sc_node_grouping_of_set(result->set, item->arg);
			*isnull = false;
		}
		else if (!item_final(state, item, group, value, isnull))
			elog(ERROR, "rollup cannot tell an aggregate");
	}
	MemoryContextSwitchTo(old);
	return ExecStoreVirtualTuple(slot);
}

static TupleTableSlot *
exec_join(CustomScanState *node)
{
	RollupJoinState *state = (RollupJoinState *) node;

	if (state->source == SC_UNDECIDED)
		prepare(state);
	if (state->source == SC_FROM_TABLE)
		return sc_node_plain_row(node, state->plain);
	return ExecScan(&node->ss, next_row, sc_node_recheck);
}

static void
end_join(CustomScanState *node)
{
	sc_node_end(node, ((RollupJoinState *) node)->spec, ((RollupJoinState *) node)->held);
}

static void
rescan_join(CustomScanState *node)
{
	sc_node_rescan(node);
	((RollupJoinState *) node)->source = SC_UNDECIDED;
}

static void
explain_join(CustomScanState *node, List *ancestors, ExplainState *es)
{
	RollupJoinState *state = (RollupJoinState *) node;

	sc_node_explain_rollup(state->view, es);
	sc_node_explain_keys(node, ancestors, state->nqkeys,
						 list_nth(state->private, PRIVATE_SETS), true, es);
	if (!es->analyze || state->source == SC_UNDECIDED)
		return;
	if (sc_node_explain_answer(state->source, state->plain, es))
	{
		ExplainPropertyInteger("Groups Joined", NULL, state->nread, es);
		if (state->ragged)
			ExplainPropertyInteger("Rows Added From Source", NULL, state->nedgerows, es);
	}
}

static const CustomExecMethods exec_methods = {
	.CustomName = "ScaleCacheRollup",
	.BeginCustomScan = begin_join,
	.ExecCustomScan = exec_join,
	.EndCustomScan = end_join,
	.ReScanCustomScan = rescan_join,
	.ExplainCustomScan = explain_join,
};

Node *
sc_join_create_state(CustomScan *cscan)
{
	RollupJoinState *state = (RollupJoinState *) newNode(sizeof(RollupJoinState), T_CustomScanState);

	state->css.methods = &exec_methods;
	return (Node *) state;
}
