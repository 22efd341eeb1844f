/*
 * rewrite_exec.c: a query answered from a rollup: the execution.
 *
 * The groups of the rollup that pass the query's filters come from two
 * places: those that have deltas are merged in memory first, all others are
 * rows of the base table.  When each is a group of the query, their stored
 * values are returned as they come.  Otherwise the states are added up by
 * the query's keys, and for grouping sets once more by each set.
 *
 * A range of time may cut buckets in two.  If a bound turns out to be inside
 * of a bucket, the rows of the table that are beyond the edges are added up
 * too, by other plans (see rewrite_edges.c).
 *
 * The plain query's plan answers instead, started only then, when the
 * storage cannot answer for the snapshot (see sc_scan_load), some state
 * cannot tell its value, or the session's time zone has changed since
 * planning.  That is decided before the first row is returned.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/extensible.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/ruleutils.h"
#include "utils/timestamp.h"

#include "rollup/rewrite.h"

typedef struct OutItem
{
	ScItemKind	kind;
	int			arg;
	ScFinalDef	fin;
	AttrNumber	column;			/* SC_ITEM_KEY: of the base table, or 0 */
	ScStateDef	state;			/* SC_ITEM_KEYSTATE */
	ScLinearState *linear;		/* SC_ITEM_LINEAR */
	Size		offset;			/* likewise, into a target group's states */
} OutItem;

typedef struct RewriteState
{
	CustomScanState css;		/* must be first */
	int			eflags;
	Oid			view;
	ScSpec	   *spec;			/* pinned */
	List	   *held;			/* see sc_node_hold */
	bool		exact;			/* as planned */
	bool		adding;			/* this time, states are added up */
	bool		ragged;			/* this time, the table has some rows */
	int			nqkeys;
	int			nkeystates;
	int			nbounds;
	int			nitems;
	OutItem	   *items;
	ExprState **qkeys;
	ExprState **keystates;
	ExprState **bounds;			/* edge, outer; edge, outer; ... */
	List	   *edges;			/* of PlanState: rows beyond the edges */
	PlanState  *plain;			/* the plain query, once it is needed */
	bool		allowed;		/* the user may call what that calls */
	ExprState  *quals;
	ExprState  *failing;		/* filters that can fail: see sc_qual_can_fail */
	List	   *filters;		/* what quals is made from */
	List	   *private;
	ScAnswer	source;
	bool		asked;			/* whether the storage answers: loaded */
	bool		loaded;
	ScGroups   *changed;		/* groups with deltas, merged */
	int64		ndeltas;
	ScGroup    *group;
	bool		changeddone;
	ScSpec	   *tspec;			/* what target is grouped by, once needed */
	Size		targetsize;		/* bytes of all states of its groups */
	MemoryContext cxt;			/* target's; reset by a rescan */
	ScGroups   *target;			/* by all of the query's keys */
	List	   *results;		/* of ScSetResult, in this order */
	int			nresult;		/* the one that is being returned */
	ScGroup    *tgroup;
	MemoryContext rowcxt;		/* reset for each row */
	ScGroups   *scratch;		/* states of one base row */
	ScGroup    *scratchgroup;
	Bitmapset  *slots;			/* of the rollup that are asked for */
	bool		readskeys;		/* some expression reads a base row's */
	ScCopied	copied;			/* columns of the scan that the plan returns */
	ScCopied	stored;			/* the same of a base row, if all are stored */
	int64		nread;			/* groups read, for EXPLAIN */
	int64		nedgerows;		/* rows read from the table */
	int64		nrecomputed;	/* groups computed from the source */
} RewriteState;

/* A group of the rollup: with deltas, or a row of the base table. */
typedef struct FineRow
{
	ScGroup    *group;
	TupleTableSlot *slot;
} FineRow;

#define BasePlan(state)		((PlanState *) linitial((state)->css.custom_ps))

/* ---- start ---- */

static int
private_int(List *private, int member, int n)
{
	return list_nth_int(list_nth(private, member), n);
}

/* The state that an item is computed from, or -1. */
static int
slot_of(RewriteState *state, OutItem *item)
{
	return item->kind == SC_ITEM_STORED ? state->spec->aggs[item->arg].slot :
		item->kind == SC_ITEM_SLOT ? item->arg : -1;
}

/* The base table's column that a key of the query is, or 0. */
static AttrNumber
key_column(Expr *expr, ScSpec *spec)
{
	Var		   *var = (Var *) expr;

	return IsA(var, Var) && var->varno == INDEX_VAR && var->varattno <= spec->nkeys ?
		var->varattno : 0;
}

/* Are the expressions of the query's keys, and others, evaluated for a group? */
static bool
reads_keys(RewriteState *state)
{
	if (list_nth(state->private, SC_PRIVATE_GUARDS) != NIL || state->nkeystates > 0)
		return true;
	if (state->adding)
		return state->nqkeys > 0;
	for (int i = 0; i < state->nitems; i++)
		if (state->items[i].kind == SC_ITEM_KEY && state->items[i].column == 0)
			return true;
	return false;
}

static void
init_items(RewriteState *state, CustomScan *cscan)
{
	ScSpec	   *spec = state->spec;
	List	   *items = list_nth(state->private, SC_PRIVATE_ITEMS);
	MemoryContext cxt = CurrentMemoryContext;
	Size		size = spec->statesize;

	state->nitems = list_length(items) / 2;
	state->items = palloc0(sizeof(OutItem) * (state->nitems + 1));
	for (int i = 0; i < state->nitems; i++)
	{
		OutItem	   *item = &state->items[i];
		TargetEntry *tle = list_nth(cscan->custom_scan_tlist, spec->nkeys + i);

		item->kind = list_nth_int(items, 2 * i);
		item->arg = list_nth_int(items, 2 * i + 1);
		if (item->kind == SC_ITEM_KEY)
			item->column = key_column(list_nth(cscan->custom_exprs, item->arg), spec);
		if (item->kind == SC_ITEM_KEY || item->kind == SC_ITEM_ROWS ||
			item->kind == SC_ITEM_GROUPING)
			continue;
		if (item->kind == SC_ITEM_LINEAR)
		{
			List	   *linear = list_nth(list_nth(state->private, SC_PRIVATE_LINEARS), item->arg);

			state->slots = sc_linear_slots(linear, state->slots);
			item->linear = sc_linear_prepare(linear, (Aggref *) tle->expr, cxt);
			continue;
		}
		if (slot_of(state, item) >= 0)
			state->slots = bms_add_member(state->slots, slot_of(state, item));
		sc_final_prepare((Aggref *) tle->expr, &item->fin, cxt);
		if (item->kind == SC_ITEM_KEYSTATE)
		{
			sc_state_classify((Aggref *) tle->expr, &item->state);
			sc_state_prepare(&item->state, cxt);
			item->offset = size;
			size += MAXALIGN(item->state.size);
		}
	}

	/* The target's groups hold the rollup's states, then the key states. */
	state->targetsize = size;
}

/* Where in a base row all columns are that the plan returns, if they are. */
static void
find_stored(RewriteState *state)
{
	ScSpec	   *spec = state->spec;
	ScCopied   *stored = &state->stored;

	stored->attnos = palloc(sizeof(AttrNumber) * (state->copied.n + 1));
	for (int i = 0; i < state->copied.n; i++)
	{
		OutItem    *item = &state->items[state->copied.attnos[i] - spec->nkeys - 1];

		stored->attnos[i] = item->kind == SC_ITEM_KEY ? item->column :
			item->kind == SC_ITEM_STORED ? ScBaseAgg(spec, item->arg) : 0;
		if (stored->attnos[i] == 0)
			return;
		stored->last = Max(stored->last, stored->attnos[i]);
	}
	stored->n = state->copied.n;
}

/* The plans of the rows beyond the edges: not before sc_scan_load. */
static void
open_edges(RewriteState *state)
{
	if (state->edges == NIL)
		state->edges = sc_node_open_plans(&state->css, 2, state->eflags);
}

static void
begin_rewrite(CustomScanState *node, EState *estate, int eflags)
{
	RewriteState *state = (RewriteState *) node;
	CustomScan *cscan = (CustomScan *) node->ss.ps.plan;
	PlanState  *ps = &node->ss.ps;
	List	   *exprs = cscan->custom_exprs;
	int			n = 0;
	int			nfailing;

	state->private = cscan->custom_private;
	state->eflags = eflags;
	state->view = linitial_oid(list_nth(state->private, SC_PRIVATE_VIEW));
	state->exact = private_int(state->private, SC_PRIVATE_FLAGS, 0);
	state->nqkeys = private_int(state->private, SC_PRIVATE_FLAGS, 1);
	state->allowed = sc_node_allowed(node, list_nth(state->private, SC_PRIVATE_CALLED),
									 eflags, &state->plain);
	if (!state->allowed)
		return;
	state->nkeystates = private_int(state->private, SC_PRIVATE_FLAGS, 2);
	state->nbounds = private_int(state->private, SC_PRIVATE_FLAGS, 3);
	node->custom_ps = list_make1(ExecInitNode(linitial(cscan->custom_plans), estate, eflags));
	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		open_edges(state);
	else if (!sc_node_anybody_may_call(list_nth(state->private, SC_PRIVATE_CALLED)))
	{
		sc_node_open_plain(node, eflags, &state->plain);
		open_edges(state);
	}
	state->spec = sc_node_spec(state->view);
	state->held = sc_node_hold(node, state->spec);

	state->qkeys = palloc0(sizeof(ExprState *) * (state->nqkeys + 1));
	for (int i = 0; i < state->nqkeys; i++)
		state->qkeys[i] = ExecInitExpr(list_nth(exprs, n++), ps);
	state->keystates = palloc0(sizeof(ExprState *) * (state->nkeystates + 1));
	for (int i = 0; i < state->nkeystates; i++)
		state->keystates[i] = ExecInitExpr(list_nth(exprs, n++), ps);
	state->bounds = palloc0(sizeof(ExprState *) * (2 * state->nbounds + 1));
	for (int i = 0; i < 2 * state->nbounds; i++)
		state->bounds[i] = ExecInitExpr(list_nth(exprs, n++), ps);
	nfailing = private_int(state->private, SC_PRIVATE_FLAGS, 4);
	state->filters = list_truncate(list_copy_tail(exprs, n),
								   list_length(exprs) - n - nfailing);
	state->quals = ExecInitQual(state->filters, ps);
	state->failing = ExecInitQual(list_copy_tail(exprs, list_length(exprs) - nfailing), ps);
	sc_node_find_copied(ps, INDEX_VAR, &state->copied);
	if (!(eflags & EXEC_FLAG_EXPLAIN_ONLY))
	{
		init_items(state, cscan);
		find_stored(state);
	}
	state->cxt = AllocSetContextCreate(estate->es_query_cxt, "scalecache rewrite",
									   ALLOCSET_DEFAULT_SIZES);
	state->rowcxt = AllocSetContextCreate(estate->es_query_cxt, "scalecache rewrite row",
										  ALLOCSET_DEFAULT_SIZES);
}

/* ---- groups of the rollup ---- */

/* Show a group's keys to expressions over the scan's row. */
static ExprContext *
show_keys(RewriteState *state, const Datum *keys, const bool *nulls)
{
	TupleTableSlot *slot = state->css.ss.ss_ScanTupleSlot;
	ExprContext *econtext = state->css.ss.ps.ps_ExprContext;
	int			n = state->spec->nkeys;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, slot->tts_tupleDescriptor->natts * sizeof(bool));
	memcpy(slot->tts_values, keys, n * sizeof(Datum));
	memcpy(slot->tts_isnull, nulls, n * sizeof(bool));
	ExecStoreVirtualTuple(slot);
	ResetExprContext(econtext);
	econtext->ecxt_scantuple = slot;
	return econtext;
}

/* Does a group pass the query's filters? */
static bool
is_wanted(void *arg, const Datum *keys, const bool *nulls)
{
	RewriteState *state = arg;

	return ExecQual(state->quals, show_keys(state, keys, nulls));
}

/*
 * The next group that passes the filters; its keys are shown, if they are
 * read.  Without keys there is a base row without rows, too: that is no group
 * of a query that has keys, constants perhaps.
 */
static bool
next_fine(RewriteState *state, FineRow *row)
{
	ScSpec	   *spec = state->spec;
	bool		haschanged = state->changed && state->changed->ngroups > 0;
	bool		showskeys = state->readskeys || state->failing;
	bool		needsrows = spec->nkeys == 0 && state->nqkeys > 0;
	bool		isnull;
	ExprContext *econtext;

	while (!state->changeddone)
	{
		ScGroup    *group = sc_groups_next(state->changed, state->group);

		state->group = group;
		if (group == NULL)
		{
			state->changeddone = true;
			break;
		}
		if (group->unwanted ||
			(group->nrows == 0 && (spec->nkeys > 0 || needsrows)))
			continue;
		row->group = group;
		row->slot = NULL;
		econtext = show_keys(state, group->keys, group->nulls);
		if (!ExecQual(state->failing, econtext))
			continue;
		state->nread++;
		return true;
	}
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		row->group = NULL;
		row->slot = ExecProcNode(BasePlan(state));
		if (TupIsNull(row->slot))
			return false;
		if (haschanged || showskeys)
			slot_getsomeattrs(row->slot, spec->nkeys);
		if (haschanged &&
			sc_groups_get(state->changed, row->slot->tts_values, row->slot->tts_isnull, false))
			continue;
		if (needsrows &&
			DatumGetInt64(slot_getattr(row->slot, ScBaseRows(spec), &isnull)) == 0)
			continue;
		if (showskeys)
		{
			econtext = show_keys(state, row->slot->tts_values, row->slot->tts_isnull);
			if (!ExecQual(state->failing, econtext))
				continue;
		}
		state->nread++;
		return true;
	}
}

/* A base row's packed states, perhaps in the row's context. */
static bytea *
packed_states(RewriteState *state, FineRow *row)
{
	MemoryContext old = MemoryContextSwitchTo(state->rowcxt);
	bool		isnull;
	bytea	   *packed = (bytea *)
	PG_DETOAST_DATUM_PACKED(slot_getattr(row->slot, ScBaseState(state->spec), &isnull));

	MemoryContextSwitchTo(old);
	return packed;
}

/* ---- who answers ---- */

/* Is a bucket of this group cut in two by a change of the zone's offset? */
static bool
is_split(RewriteState *state, TupleTableSlot *keys)
{
	List	   *guards = list_nth(state->private, SC_PRIVATE_GUARDS);
	List	   *zones = list_nth(state->private, SC_PRIVATE_ZONES);

	for (int i = 0; i < list_length(guards) / 2; i++)
	{
		int			key = list_nth_int(guards, 2 * i);

		if (!keys->tts_isnull[key] &&
			!sc_bucket_is_whole(TIMESTAMPTZOID, keys->tts_values[key],
								strVal(list_nth(zones, i)),
								list_nth_int(guards, 2 * i + 1)))
			return true;
	}
	return false;
}

/* What follows from sums of the rollup. */
static void
linear_final(RewriteState *state, ScLinearState *linear, ScGroup *group, Datum *value,
			 bool *isnull)
{
	int			n = sc_linear_sums(linear);
	const ScStateDef **defs = palloc(sizeof(ScStateDef *) * n);
	ScState   **sums = palloc(sizeof(ScState *) * n);

	for (int i = 0; i < n; i++)
	{
		ScSlot	   *slot = &state->spec->slots[sc_linear_slot(linear, i)];

		defs[i] = &slot->def;
		sums[i] = (ScState *) (group->states + slot->offset);
	}
	sc_linear_final(linear, defs, sums, value, isnull);
}

static bool
final(RewriteState *state, OutItem *item, ScGroup *group, Datum *value, bool *isnull)
{
	ScSpec	   *spec = state->spec;
	ScSlot	   *slot;
	bool		overflow = false;
	bool		known;

	if (item->kind == SC_ITEM_ROWS)
	{
		*value = Int64GetDatum(group->nrows);
		*isnull = false;
		return true;
	}
	if (item->kind == SC_ITEM_KEYSTATE)
		return sc_state_final(&item->state, &item->fin, group->states + item->offset,
							  value, isnull, &overflow);
	if (item->kind == SC_ITEM_LINEAR)
	{
		linear_final(state, item->linear, group, value, isnull);
		return true;
	}
	slot = &spec->slots[slot_of(state, item)];
	known = sc_state_final(&slot->def, &item->fin, group->states + slot->offset, value,
						   isnull, &overflow);
	if (overflow)
		sc_node_overflow();
	return known;
}

/* Merge the groups with deltas that are asked for with their base rows. */
static void
merge_groups(RewriteState *state)
{
	EState	   *estate = state->css.ss.ps.state;
	ScGroup    *group = NULL;
	bool		unknown = false;

	/* Also of those that another execution has asked for and loaded. */
	while ((group = sc_groups_next(state->changed, group)) != NULL)
		group->unwanted = group->skipped ||
			!is_wanted(state, group->keys, group->nulls);
	sc_groups_load_base(state->changed, state->css.ss.ss_currentRelation,
						estate->es_snapshot);
	/* The child does not find these in its index. */
	if (!IsA(linitial(((CustomScan *) state->css.ss.ps.plan)->custom_plans), SeqScan))
		sc_groups_load_wide(state->changed, state->css.ss.ss_currentRelation,
							estate->es_snapshot, is_wanted, state);
	if (state->adding)
		return;
	while ((group = sc_groups_next(state->changed, group)) != NULL)
	{
		if (!group->loaded || group->finished)
			continue;
		sc_group_finish(state->changed, group);
		for (int i = 0; i < state->nitems && !group->known; i++)
		{
			int			slot = slot_of(state, &state->items[i]);

			unknown |= slot >= 0 &&
				(state->spec->slots[slot].def.kind == SC_STATE_RECOMPUTE ||
				 bms_is_member(slot, group->lost));
		}
	}
	if (unknown)
		state->nrecomputed += sc_scan_recompute(state->changed, false, estate->es_snapshot);
}

static void
merge_state(RewriteState *state, ScStateDef *def, ScState *from, ScState *into)
{
	sc_node_merge_state(def, from, into, state->target->cxt, state->rowcxt);
}

/* Add the states of a group that are needed to those of another. */
static void
merge_states(RewriteState *state, FineRow *row, ScGroup *into)
{
	ScSpec	   *spec = state->spec;
	int			i = -1;

	if (row->group == NULL)
	{
		sc_group_merge_some(state->target, into, packed_states(state, row),
							state->slots, state->rowcxt);
		return;
	}
	into->nrows += row->group->nrows;
	while ((i = bms_next_member(state->slots, i)) >= 0)
		merge_state(state, &spec->slots[i].def, row->group->states + spec->slots[i].offset,
					into->states + spec->slots[i].offset);
}

/* Add the rows of the table that are beyond the edges. */
static void
add_edges(RewriteState *state, PlanState *rows)
{
	ScSpec	   *spec = state->spec;
	TupleTableSlot *row;

	for (;;)
	{
		MemoryContext old;
		Datum	   *values;
		bool	   *nulls;
		ScGroup    *group;
		int			n = state->nqkeys;
		int			s = -1;

		row = ExecProcNode(rows);
		if (TupIsNull(row))
			break;
		old = MemoryContextSwitchTo(state->rowcxt);
		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(row);
		values = row->tts_values;
		nulls = row->tts_isnull;
		group = sc_groups_get(state->target, values, nulls, true);
		group->nrows++;
		state->nedgerows++;
		while ((s = bms_next_member(state->slots, s)) >= 0)
		{
			ScSlot	   *slot = &spec->slots[s];
			int			nargs = slot->def.nargs;

			if (slot->filter == NULL ||
				(!nulls[n + nargs] && DatumGetBool(values[n + nargs])))
				sc_state_accum(&slot->def, group->states + slot->offset, values + n,
							   nulls + n, 1, state->target->cxt);
			n += nargs + (slot->filter ? 1 : 0);
		}
		for (int i = 0; i < state->nitems; i++)
		{
			OutItem    *item = &state->items[i];

			if (item->kind == SC_ITEM_KEYSTATE)
				sc_state_accum(&item->state, group->states + item->offset,
							   values + n + item->arg, nulls + n + item->arg, 1,
							   state->target->cxt);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(state->rowcxt);
	}
}

/* ---- results ---- */

/* Add a group of the target to one of a grouping set. */
static void
merge_group(void *arg, ScGroup *from, ScGroup *into)
{
	RewriteState *state = arg;
	int			s = -1;

	into->nrows += from->nrows;
	while ((s = bms_next_member(state->slots, s)) >= 0)
	{
		ScSlot	   *slot = &state->spec->slots[s];

		merge_state(state, &slot->def, from->states + slot->offset,
					into->states + slot->offset);
	}
	for (int i = 0; i < state->nitems; i++)
	{
		OutItem	   *item = &state->items[i];

		if (item->kind == SC_ITEM_KEYSTATE)
			merge_state(state, &item->state, from->states + item->offset,
						into->states + item->offset);
	}
	MemoryContextReset(state->rowcxt);
}

/* Let the groups tell their aggregates.  False: some extreme was lost. */
static bool
settle(RewriteState *state, ScGroups *groups)
{
	ScGroup    *group = NULL;

	while ((group = sc_groups_next(groups, group)) != NULL)
		for (int i = 0; i < state->nitems; i++)
		{
			OutItem	   *item = &state->items[i];
			Datum		value;
			bool		isnull;
			int			slot = slot_of(state, item);

			if (item->kind == SC_ITEM_KEYSTATE)
				sc_state_settle(&item->state, group->states + item->offset, groups->cxt);
			else if (slot >= 0 && state->spec->slots[slot].def.kind == SC_STATE_EXTREME &&
					 !final(state, item, group, &value, &isnull))
				return false;
		}
	return true;
}

/* What is to be returned, from the target.  False: it cannot be told. */
static bool
make_results(RewriteState *state)
{
	ListCell   *lc;

	/* All are added up before any is settled. */
	state->results = sc_node_sets(state->target, list_nth(state->private, SC_PRIVATE_SETS),
								  merge_group, state);
	foreach(lc, state->results)
		if (!settle(state, ((ScSetResult *) lfirst(lc))->groups))
			return false;
	state->nresult = 0;
	state->tgroup = NULL;
	return true;
}

/* Add up the states by the query's keys.  False: some cannot be told. */
static bool
add_up(RewriteState *state)
{
	FineRow		row;
	Datum	   *keys = MemoryContextAlloc(state->cxt, sizeof(Datum) * (state->nqkeys + 1));
	bool	   *nulls = MemoryContextAlloc(state->cxt, sizeof(bool) * (state->nqkeys + 1));
	ScGroup    *group;
	ExprContext *econtext = state->css.ss.ps.ps_ExprContext;
	ListCell   *lc;

	if (state->tspec == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(state->css.ss.ps.state->es_query_cxt);

		state->tspec = sc_node_target(state->spec, ((CustomScan *) state->css.ss.ps.plan)->custom_exprs,
									  list_nth(state->private, SC_PRIVATE_GROUPOPS),
									  state->nqkeys, state->targetsize);
		MemoryContextSwitchTo(old);
	}
	state->target = sc_groups_create(state->tspec, state->cxt);
	/* Without keys there is one row, whatever comes. */
	group = state->nqkeys == 0 ? sc_groups_get(state->target, NULL, NULL, true) : NULL;
	while (next_fine(state, &row))
	{
		if (is_split(state, econtext->ecxt_scantuple))
			return false;
		for (int i = 0; i < state->nqkeys; i++)
			keys[i] = ExecEvalExprSwitchContext(state->qkeys[i], econtext, &nulls[i]);
		if (state->nqkeys > 0)
			group = sc_groups_get(state->target, keys, nulls, true);
		merge_states(state, &row, group);
		for (int i = 0; i < state->nitems; i++)
		{
			OutItem	   *item = &state->items[i];
			Datum		args[2] = {0};
			bool		argnulls[2] = {0};

			if (item->kind != SC_ITEM_KEYSTATE)
				continue;
			args[0] = ExecEvalExprSwitchContext(state->keystates[item->arg], econtext, &argnulls[0]);
			sc_state_accum(&item->state, group->states + item->offset, args, argnulls, 1,
						   state->target->cxt);
		}
		MemoryContextReset(state->rowcxt);
	}
	if (state->ragged)
	{
		MemoryContext old = MemoryContextSwitchTo(state->css.ss.ps.state->es_query_cxt);

		open_edges(state);
		MemoryContextSwitchTo(old);
		foreach(lc, state->edges)
			add_edges(state, lfirst(lc));
	}
	return make_results(state);
}

static void
start_over(RewriteState *state)
{
	state->group = NULL;
	state->changeddone = state->changed == NULL;
	state->target = NULL;
	state->results = NIL;
	state->tgroup = NULL;
	MemoryContextReset(state->cxt);
}

/* Load the deltas, once.  False: the storage cannot answer. */
static bool
load(RewriteState *state)
{
	EState	   *estate = state->css.ss.ps.state;

	if (!state->asked)
		state->loaded = sc_scan_load(state->spec, state->css.ss.ss_currentRelation,
									 estate->es_snapshot,
									 sc_asked(state->spec, state->filters,
											  &state->css.ss.ps, is_wanted, state),
									 estate->es_query_cxt, &state->changed,
									 &state->ndeltas);
	state->asked = true;
	return state->loaded;
}

/* Decide who answers, and get it ready. */
static void
prepare(RewriteState *state)
{
	EState	   *estate = state->css.ss.ps.state;
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);
	CustomScan *cscan = (CustomScan *) state->css.ss.ps.plan;
	ScRange		range = sc_node_range(state->bounds, state->nbounds,
									  state->css.ss.ps.ps_ExprContext);

	state->source = SC_FROM_TABLE;
	state->ragged = range == SC_RANGE_RAGGED;
	state->adding = !state->exact || state->ragged;
	state->readskeys = reads_keys(state);
	if (state->allowed &&
		sc_node_zone_holds(list_nth(state->private, SC_PRIVATE_SESSIONZONE)) &&
		range != SC_RANGE_UNKNOWN &&
		(!state->ragged || list_length(cscan->custom_plans) > 2) && load(state))
	{
		start_over(state);
		if (state->changed)
			merge_groups(state);
		if (!state->adding || add_up(state))
		{
			state->source = SC_FROM_ROLLUP;
			sc_rollup_stats_rewrite(sc_part_id(state->spec->id, -state->spec->part));
		}
		if (!state->adding && state->scratch == NULL)
		{
			state->scratch = sc_groups_create(state->spec, estate->es_query_cxt);
			state->scratchgroup = palloc0(sizeof(ScGroup));
			state->scratchgroup->states = palloc0(state->spec->statesize);
		}
	}
	if (state->source == SC_FROM_TABLE)
		sc_node_open_plain(&state->css, state->eflags, &state->plain);
	MemoryContextSwitchTo(old);
}

/* ---- rows ---- */

/* The states of a base row, until the next one. */
static ScGroup *
unpack(RewriteState *state, FineRow *row)
{
	ScGroup    *group = state->scratchgroup;
	MemoryContext keep = state->scratch->cxt;

	memset(group->states, 0, state->spec->statesize);
	group->nrows = 0;
	state->scratch->cxt = state->rowcxt;
	sc_group_merge_some(state->scratch, group, packed_states(state, row),
						state->slots, state->rowcxt);
	state->scratch->cxt = keep;
	return group;
}

/* Is the stored value not to be trusted, as some in the group overflows? */
static bool
overflows(ScSpec *spec, OutItem *item, bool overflow)
{
	ScStateKind kind = spec->slots[spec->aggs[item->arg].slot].def.kind;

	return overflow && kind != SC_STATE_RECOMPUTE && kind != SC_STATE_EXTREME &&
		kind != SC_STATE_DISTINCT;
}

/* The scan's row for a group of the rollup that is one of the query. */
static TupleTableSlot *
exact_row(RewriteState *state, FineRow *row)
{
	ScSpec	   *spec = state->spec;
	TupleTableSlot *slot = state->css.ss.ss_ScanTupleSlot;
	ExprContext *econtext = state->css.ss.ps.ps_ExprContext;
	ScGroup    *group = row->group;
	bool		overflow;
	MemoryContext old;

	MemoryContextReset(state->rowcxt);
	if (row->slot)
		slot_getsomeattrs(row->slot, ScBaseRows(spec));
	if (row->slot && !state->readskeys)
	{
		ExecClearTuple(slot);
		memset(slot->tts_isnull, true, spec->nkeys * sizeof(bool));
		ExecStoreVirtualTuple(slot);
	}
	overflow = group ? group->overflow :
		sc_base_overflows(spec, row->slot);
	old = MemoryContextSwitchTo(state->rowcxt);
	for (int i = 0; i < state->nitems; i++)
	{
		OutItem	   *item = &state->items[i];
		Datum	   *value = &slot->tts_values[spec->nkeys + i];
		bool	   *isnull = &slot->tts_isnull[spec->nkeys + i];

		if (item->kind == SC_ITEM_KEY && item->column > 0)
		{
			*value = row->group ? row->group->keys[item->column - 1] :
				row->slot->tts_values[item->column - 1];
			*isnull = row->group ? row->group->nulls[item->column - 1] :
				row->slot->tts_isnull[item->column - 1];
		}
		else if (item->kind == SC_ITEM_KEY)
			*value = ExecEvalExpr(state->qkeys[item->arg], econtext, isnull);
		else if (item->kind == SC_ITEM_GROUPING)
		{
			*value = Int32GetDatum(0);
			*isnull = false;
		}
		else if (row->slot && item->kind == SC_ITEM_ROWS)
		{
			*value = row->slot->tts_values[ScBaseRows(spec) - 1];
			*isnull = false;
		}
		else if (item->kind == SC_ITEM_KEYSTATE)
			*value = ExecEvalExpr(state->keystates[item->arg], econtext, isnull);
		else if (item->kind == SC_ITEM_STORED && !overflows(spec, item, overflow))
		{
			if (row->group)
			{
				*value = row->group->values[item->arg];
				*isnull = row->group->isnull[item->arg];
			}
			else
			{
				*value = row->slot->tts_values[ScBaseAgg(spec, item->arg) - 1];
				*isnull = row->slot->tts_isnull[ScBaseAgg(spec, item->arg) - 1];
			}
		}
		else
		{
			if (group == NULL)
				group = unpack(state, row);
			if (!final(state, item, group, value, isnull))
				elog(ERROR, "rollup cannot tell an aggregate");
		}
	}
	MemoryContextSwitchTo(old);
	return slot;
}

static TupleTableSlot *
next_added_up(RewriteState *state)
{
	TupleTableSlot *slot = state->css.ss.ss_ScanTupleSlot;
	int			n = state->spec->nkeys;
	ScSetResult *result = sc_node_next_group(state->results, &state->nresult,
											 &state->tgroup);
	ScGroup    *group = state->tgroup;
	MemoryContext old;

	if (result == NULL)
		return NULL;
	MemoryContextReset(state->rowcxt);
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, n * sizeof(bool));
	old = MemoryContextSwitchTo(state->rowcxt);
	for (int i = 0; i < state->nitems; i++)
	{
		OutItem	   *item = &state->items[i];

		if (item->kind == SC_ITEM_KEY)
			slot->tts_values[n + i] = sc_node_key_of_set(result->set, group, item->arg,
														 &slot->tts_isnull[n + i]);
		else if (item->kind == SC_ITEM_GROUPING)
		{
			slot->tts_values[n + i] = sc_node_grouping_of_set(result->set, item->arg);
			slot->tts_isnull[n + i] = false;
		}
		else if (!final(state, item, group, &slot->tts_values[n + i],
						&slot->tts_isnull[n + i]))
			elog(ERROR, "rollup cannot tell an aggregate");
	}
	MemoryContextSwitchTo(old);
	return ExecStoreVirtualTuple(slot);
}

static TupleTableSlot *
next_row(ScanState *ss)
{
	RewriteState *state = (RewriteState *) ss;
	FineRow		row;

	if (state->adding)
		return next_added_up(state);
	return next_fine(state, &row) ? exact_row(state, &row) : NULL;
}

/* What ExecScan would do, where the plan only picks columns. */
static TupleTableSlot *
next_copied(RewriteState *state)
{
	PlanState  *ps = &state->css.ss.ps;
	FineRow		row;

	if (state->adding || state->stored.n == 0)
		return sc_node_copy(ps, &state->copied, next_row(&state->css.ss));
	if (!next_fine(state, &row))
		return ExecClearTuple(ps->ps_ResultTupleSlot);
	if (row.slot && !sc_base_overflows(state->spec, row.slot))
		return sc_node_copy(ps, &state->stored, row.slot);
	return sc_node_copy(ps, &state->copied, exact_row(state, &row));
}

static TupleTableSlot *
exec_rewrite(CustomScanState *node)
{
	RewriteState *state = (RewriteState *) node;

	if (state->source == SC_UNDECIDED)
		prepare(state);
	if (state->source == SC_FROM_TABLE)
		return sc_node_plain_row(node, state->plain);
	if (state->copied.n > 0 && node->ss.ps.qual == NULL &&
		node->ss.ps.state->es_epq_active == NULL)
		return next_copied(state);
	return ExecScan(&node->ss, next_row, sc_node_recheck);
}

static void
end_rewrite(CustomScanState *node)
{
	sc_node_end(node, ((RewriteState *) node)->spec, ((RewriteState *) node)->held);
}

static void
rescan_rewrite(CustomScanState *node)
{
	sc_node_rescan(node);
	((RewriteState *) node)->source = SC_UNDECIDED;
}

/* ---- EXPLAIN ---- */

/* The other filters are those of the base table's scan. */
static void
explain_failing(CustomScanState *node, List *ancestors, ExplainState *es)
{
	Plan	   *plan = node->ss.ps.plan;
	List	   *exprs = ((CustomScan *) plan)->custom_exprs;
	int			n = private_int(((CustomScan *) plan)->custom_private, SC_PRIVATE_FLAGS, 4);

	if (n > 0)
		ExplainPropertyText("Filter of Groups",
							deparse_expression((Node *) make_ands_explicit(list_copy_tail(exprs, list_length(exprs) - n)),
											   set_deparse_context_plan(es->deparse_cxt, plan, ancestors),
											   es->verbose, false), es);
}

static void
explain_rewrite(CustomScanState *node, List *ancestors, ExplainState *es)
{
	RewriteState *state = (RewriteState *) node;

	sc_node_explain_rollup(state->view, es);
	if (!state->exact)
		sc_node_explain_keys(node, ancestors, state->nqkeys,
							 list_nth(state->private, SC_PRIVATE_SETS), es->verbose, es);
	explain_failing(node, ancestors, es);
	if (!es->analyze || state->source == SC_UNDECIDED)
		return;
	if (sc_node_explain_answer(state->source, state->plain, es))
	{
		ExplainPropertyInteger("Groups Read", NULL, state->nread, es);
		if (state->ragged)
			ExplainPropertyInteger("Rows Added From Source", NULL, state->nedgerows, es);
		ExplainPropertyInteger("Deltas Merged", NULL, state->ndeltas, es);
		if (state->nrecomputed > 0)
			ExplainPropertyInteger("Groups Recomputed", NULL, state->nrecomputed, es);
	}
}

static const CustomExecMethods exec_methods = {
	.CustomName = "ScaleCacheRollup",
	.BeginCustomScan = begin_rewrite,
	.ExecCustomScan = exec_rewrite,
	.EndCustomScan = end_rewrite,
	.ReScanCustomScan = rescan_rewrite,
	.ExplainCustomScan = explain_rewrite,
};

Node *
sc_rewrite_create_state(CustomScan *cscan)
{
	RewriteState *state = (RewriteState *)
	newNode(sizeof(RewriteState), T_CustomScanState);

	state->css.methods = &exec_methods;
	return (Node *) state;
}
