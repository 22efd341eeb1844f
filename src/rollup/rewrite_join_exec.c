/*
 * rewrite_join_exec.c: a query that joins a rollup's source, answered from
 * the rollup: the execution.  See rewrite_join.c.
 *
 * Each row of the join stands for as many rows of the plain join as the
 * rollup's group has.  Rows are added up by the query's keys in memory, and
 * returned as the custom scan's own.  The plain query's plan answers instead,
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
#define PRIVATE_COUNTS	1		/* columns of the join, query keys */
#define PRIVATE_ITEMS	2		/* kind, arg, has filter, arguments; ... */
#define PRIVATE_OPS		3		/* equality operator, hashable; ... */
#define PRIVATE_SHOWN	4		/* query key that a column is, or -1; ... */
#define PRIVATE_ZONE	5

/* Columns of the join that are always there. */
#define COLUMN_ROWS		0
#define COLUMN_STATE	1

typedef struct JoinItem
{
	ScJoinKind	kind;
	int			arg;
	ExprState  *filter;
	ExprState  *args[2];
	int			nargs;
	ScStateDef	state;
	ScFinalDef	fin;
	Size		offset;			/* into a target group's states */
} JoinItem;

typedef struct RollupJoinState
{
	CustomScanState css;		/* must be first */
	int			eflags;
	Oid			view;
	ScSpec	   *spec;			/* pinned */
	List	   *private;
	int			ncolumns;
	int			nqkeys;
	int			nitems;
	int			nslots;			/* of the rollup that are asked for */
	ExprState **qkeys;
	JoinItem   *items;
	ScAnswer	source;
	ScSpec	   *tspec;			/* what target is grouped by */
	MemoryContext cxt;			/* target's; reset by a rescan */
	MemoryContext rowcxt;		/* reset for each row */
	ScGroups   *target;
	ScGroup    *tgroup;
	int64		nread;			/* rows of the join, for EXPLAIN */
} RollupJoinState;

/* ---- start ---- */

static void
init_item(RollupJoinState *state, JoinItem *item, Aggref *agg, Size *size)
{
	MemoryContext cxt = CurrentMemoryContext;

	item->offset = *size;
	if (item->kind == SC_JOIN_KEY)
		return;
	if (item->kind == SC_JOIN_ROWS)
	{
		*size += sizeof(int64);
		return;
	}
	sc_final_prepare(agg, &item->fin, cxt);
	if (item->kind == SC_JOIN_SLOT)
		item->state = state->spec->slots[item->arg].def;
	else
	{
		sc_state_classify(agg, &item->state);
		sc_state_prepare(&item->state, cxt);
	}
	*size += MAXALIGN(item->state.size);
}

static void
begin_join(CustomScanState *node, EState *estate, int eflags)
{
	RollupJoinState *state = (RollupJoinState *) node;
	CustomScan *cscan = (CustomScan *) node->ss.ps.plan;
	PlanState  *ps = &node->ss.ps;
	List	   *items;
	Size		size = 0;
	int			n = 0;

	state->private = cscan->custom_private;
	state->eflags = eflags;
	state->view = linitial_oid(list_nth(state->private, PRIVATE_VIEW));
	state->ncolumns = linitial_int(list_nth(state->private, PRIVATE_COUNTS));
	state->nqkeys = lsecond_int(list_nth(state->private, PRIVATE_COUNTS));
	items = list_nth(state->private, PRIVATE_ITEMS);
	state->nitems = list_length(items) / 4;
	node->custom_ps = list_make1(ExecInitNode(linitial(cscan->custom_plans), estate, eflags));
	state->spec = sc_node_spec(state->view);

	state->qkeys = palloc0(sizeof(ExprState *) * (state->nqkeys + 1));
	for (int i = 0; i < state->nqkeys; i++)
		state->qkeys[i] = ExecInitExpr(list_nth(cscan->custom_exprs, n++), ps);
	state->items = palloc0(sizeof(JoinItem) * (state->nitems + 1));
	for (int i = 0; i < state->nitems; i++)
	{
		JoinItem   *item = &state->items[i];
		TargetEntry *tle = list_nth(cscan->custom_scan_tlist, state->ncolumns + i);

		item->kind = list_nth_int(items, 4 * i);
		item->arg = list_nth_int(items, 4 * i + 1);
		if (list_nth_int(items, 4 * i + 2))
			item->filter = ExecInitExpr(list_nth(cscan->custom_exprs, n++), ps);
		item->nargs = list_nth_int(items, 4 * i + 3);
		for (int a = 0; a < item->nargs; a++)
			item->args[a] = ExecInitExpr(list_nth(cscan->custom_exprs, n++), ps);
		if (item->kind == SC_JOIN_SLOT)
			state->nslots = Max(state->nslots, item->arg + 1);
		if (!(eflags & EXEC_FLAG_EXPLAIN_ONLY))
			init_item(state, item, (Aggref *) tle->expr, &size);
	}
	if (!(eflags & EXEC_FLAG_EXPLAIN_ONLY))
		state->tspec = sc_node_target(NULL, cscan->custom_exprs,
									  list_nth(state->private, PRIVATE_OPS),
									  state->nqkeys, size);
	state->cxt = AllocSetContextCreate(estate->es_query_cxt, "scalecache join",
									   ALLOCSET_DEFAULT_SIZES);
	state->rowcxt = AllocSetContextCreate(estate->es_query_cxt, "scalecache join row",
										  ALLOCSET_DEFAULT_SIZES);
}

/* ---- adding up ---- */

#define STATE_OF(group, item) \
	((ScState *) ((group)->states + (item)->offset))

/* Does the row pass the aggregate's FILTER? */
static bool
passes(JoinItem *item, ExprContext *econtext)
{
	bool		isnull;
	Datum		pass;

	if (item->filter == NULL)
		return true;
	pass = ExecEvalExprSwitchContext(item->filter, econtext, &isnull);
	return !isnull && DatumGetBool(pass);
}

/* Add a value times times, by doubling. */
static void
accum_often(RollupJoinState *state, JoinItem *item, ScState *into, const Datum *args,
			const bool *nulls, int64 times)
{
	MemoryContext cxt = state->target->cxt;
	ScState    *twofold;
	StringInfoData buf;
	MemoryContext old;
	const char *p;

	for (int i = 0; i < item->nargs; i++)
		if (nulls[i])
			return;
	switch (item->state.kind)
	{
		case SC_STATE_DISTINCT:
		case SC_STATE_EXTREME:
		case SC_STATE_BOOL:
			times = 1;
			break;
		case SC_STATE_COUNT:
		case SC_STATE_INT:
			for (; times > INT_MAX; times -= INT_MAX)
				sc_state_accum(&item->state, into, args, nulls, INT_MAX, cxt);
			sc_state_accum(&item->state, into, args, nulls, (int) times, cxt);
			return;
		default:
			break;
	}
	if (times <= 4)
	{
		while (times-- > 0)
			sc_state_accum(&item->state, into, args, nulls, 1, cxt);
		return;
	}
	old = MemoryContextSwitchTo(state->rowcxt);
	twofold = palloc0(item->state.size);
	sc_state_accum(&item->state, twofold, args, nulls, 1, state->rowcxt);
	initStringInfo(&buf);
	for (;;)
	{
		resetStringInfo(&buf);
		sc_state_pack(&item->state, twofold, &buf);
		p = buf.data;
		if (times & 1)
			sc_state_merge(&item->state, into, &p, buf.data + buf.len, cxt);
		times >>= 1;
		if (times == 0)
			break;
		p = buf.data;
		sc_state_merge(&item->state, twofold, &p, buf.data + buf.len, state->rowcxt);
	}
	MemoryContextSwitchTo(old);
}

/* Merge the states that the row's group has kept. */
static void
merge_states(RollupJoinState *state, ScGroup *group, Datum packed, const bool *pass)
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

		if (def->kind == SC_STATE_RECOMPUTE)
			continue;
		for (int i = 0; i < state->nitems; i++)
		{
			JoinItem   *item = &state->items[i];

			if (item->kind != SC_JOIN_SLOT || item->arg != s || !pass[i])
				continue;
			p = start;
			sc_state_merge(def, STATE_OF(group, item), &p, end, state->target->cxt);
		}
		if (p == start && s + 1 < state->nslots)
			sc_state_merge(def, palloc0(def->size), &p, end, state->rowcxt);
	}
	MemoryContextSwitchTo(old);
}

static void
add_row(RollupJoinState *state, ExprContext *econtext, ScGroup *group, int64 rows,
		Datum packed, bool *pass)
{
	bool		merge = false;

	for (int i = 0; i < state->nitems; i++)
	{
		JoinItem   *item = &state->items[i];
		Datum		args[2] = {0};
		bool		nulls[2] = {0};

		pass[i] = item->kind != SC_JOIN_KEY && passes(item, econtext);
		if (!pass[i])
			continue;
		if (item->kind == SC_JOIN_ROWS)
			*(int64 *) STATE_OF(group, item) += rows;
		else if (item->kind == SC_JOIN_SLOT)
			merge = true;
		else
		{
			for (int a = 0; a < item->nargs; a++)
				args[a] = ExecEvalExprSwitchContext(item->args[a], econtext, &nulls[a]);
			accum_often(state, item, STATE_OF(group, item), args, nulls, rows);
		}
	}
	if (merge)
		merge_states(state, group, packed, pass);
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
	known = sc_state_final(&item->state, &item->fin, STATE_OF(group, item), value,
						   isnull, &overflow);
	if (overflow)
		sc_node_overflow();
	return known;
}

/* Let multisets be known; false: some extreme is not. */
static bool
settle(RollupJoinState *state)
{
	ScGroup    *group = NULL;

	while ((group = sc_groups_next(state->target, group)) != NULL)
		for (int i = 0; i < state->nitems; i++)
		{
			JoinItem   *item = &state->items[i];
			Datum		value;
			bool		isnull;

			if (item->kind == SC_JOIN_KEY || item->kind == SC_JOIN_ROWS)
				continue;
			sc_state_settle(&item->state, STATE_OF(group, item), state->target->cxt);
			if (item->state.kind == SC_STATE_EXTREME &&
				!item_final(state, item, group, &value, &isnull))
				return false;
		}
	return true;
}

/* Add up the join's rows by the query's keys.  False: some cannot be told. */
static bool
add_up(RollupJoinState *state)
{
	PlanState  *join = linitial(state->css.custom_ps);
	Datum	   *keys;
	bool	   *nulls;
	bool	   *pass;
	TupleTableSlot *row;

	MemoryContextReset(state->cxt);
	keys = MemoryContextAlloc(state->cxt, sizeof(Datum) * (state->nqkeys + 1));
	nulls = MemoryContextAlloc(state->cxt, sizeof(bool) * (state->nqkeys + 1));
	pass = MemoryContextAlloc(state->cxt, sizeof(bool) * (state->nitems + 1));
	state->target = sc_groups_create(state->tspec, state->cxt);
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
				rows, row->tts_values[COLUMN_STATE], pass);
		MemoryContextReset(state->rowcxt);
	}
	if (state->nqkeys == 0)
		sc_groups_get(state->target, NULL, NULL, true);
	state->tgroup = NULL;
	return settle(state);
}

/* Decide who answers, and get it ready. */
static void
prepare(RollupJoinState *state)
{
	EState	   *estate = state->css.ss.ps.state;
	CustomScan *cscan = (CustomScan *) state->css.ss.ps.plan;
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);

	state->source = SC_FROM_TABLE;
	if (sc_node_zone_holds(list_nth(state->private, PRIVATE_ZONE)) &&
		sc_scan_answers(state->spec, state->css.ss.ss_currentRelation,
						estate->es_snapshot) &&
		add_up(state))
	{
		state->source = SC_FROM_ROLLUP;
		sc_rollup_stats_rewrite(state->spec->id);
	}
	if (state->source == SC_FROM_TABLE && list_length(state->css.custom_ps) == 1)
		state->css.custom_ps = lappend(state->css.custom_ps,
									   ExecInitNode(lsecond(cscan->custom_plans), estate,
													state->eflags));
	MemoryContextSwitchTo(old);
}

/* ---- rows ---- */

static TupleTableSlot *
next_row(ScanState *ss)
{
	RollupJoinState *state = (RollupJoinState *) ss;
	TupleTableSlot *slot = ss->ss_ScanTupleSlot;
	ScGroup    *group = sc_groups_next(state->target, state->tgroup);
	MemoryContext old;
	int			i = 0;
	ListCell   *lc;

	state->tgroup = group;
	if (group == NULL)
		return NULL;
	MemoryContextReset(state->rowcxt);
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, state->ncolumns * sizeof(bool));
	/* A column may be a key that the output computes something with. */
	foreach(lc, (List *) list_nth(state->private, PRIVATE_SHOWN))
	{
		int			key = lfirst_int(lc);

		if (key >= 0)
		{
			slot->tts_values[i] = group->keys[key];
			slot->tts_isnull[i] = group->nulls[key];
		}
		i++;
	}
	old = MemoryContextSwitchTo(state->rowcxt);
	for (i = 0; i < state->nitems; i++)
	{
		JoinItem   *item = &state->items[i];
		Datum	   *value = &slot->tts_values[state->ncolumns + i];
		bool	   *isnull = &slot->tts_isnull[state->ncolumns + i];

		if (item->kind == SC_JOIN_KEY)
		{
			*value = group->keys[item->arg];
			*isnull = group->nulls[item->arg];
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
		return sc_node_plain_row(node, lsecond(node->custom_ps));
	return ExecScan(&node->ss, next_row, sc_node_recheck);
}

static void
end_join(CustomScanState *node)
{
	sc_node_end(node, ((RollupJoinState *) node)->spec);
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
	CustomScan *cscan = (CustomScan *) node->ss.ps.plan;
	List	   *context = set_deparse_context_plan(es->deparse_cxt,
												   node->ss.ps.plan, ancestors);
	List	   *keys = NIL;

	sc_node_explain_rollup(state->view, es);
	for (int i = 0; i < state->nqkeys; i++)
		keys = lappend(keys, deparse_expression(list_nth(cscan->custom_exprs, i),
												context, true, false));
	ExplainPropertyList("Added Up By", keys, es);
	if (!es->analyze || state->source == SC_UNDECIDED)
		return;
	ExplainPropertyText("Answered From", state->source == SC_FROM_ROLLUP ? "rollup" : "source", es);
	if (state->source == SC_FROM_ROLLUP)
		ExplainPropertyInteger("Groups Joined", NULL, state->nread, es);
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
