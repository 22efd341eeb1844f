/*
 * rewrite_node.c: what the nodes have in common that answer a query from a
 * rollup, be it of one table (rewrite_exec.c) or joined (rewrite_join_exec.c).
 *
 * Both add groups up by the query's keys in a target of their own, and both
 * fall back on the plain query's plan.
 */
#include "postgres.h"

#include "commands/explain.h"
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "rollup/rewrite.h"

/* The specification, pinned, of a rollup that the plan has relied on. */
ScSpec *
sc_node_spec(Oid view)
{
	ScSpec	   *spec = sc_spec_by_view(view);

	if (spec == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("rollup %u has been dropped", view)));
	return spec;
}

/*
 * What groups are added up by, in CurrentMemoryContext: the first nkeys of
 * exprs.  ops has for each its equality operator, and 1 if that can hash.
 */
ScSpec *
sc_node_target(const ScSpec *like, List *exprs, List *ops, int nkeys,
			   Size statesize)
{
	ScSpec	   *spec = palloc0(sizeof(ScSpec));

	if (like)
		*spec = *like;
	spec->statesize = statesize;
	spec->nkeys = nkeys;
	spec->keys = palloc0(sizeof(ScKey) * (nkeys + 1));
	for (int i = 0; i < nkeys; i++)
	{
		ScKey	   *key = &spec->keys[i];
		Node	   *expr = list_nth(exprs, i);
		Oid			eqop = list_nth_oid(ops, 2 * i);
		Oid			hashfn;

		key->type = exprType(expr);
		key->collation = exprCollation(expr);
		get_typlenbyval(key->type, &key->typlen, &key->typbyval);
		fmgr_info_cxt(get_opcode(eqop), &key->eq, CurrentMemoryContext);
		if (list_nth_oid(ops, 2 * i + 1) != 0 &&
			get_op_hash_functions(eqop, &hashfn, NULL))
			fmgr_info_cxt(hashfn, &key->hash, CurrentMemoryContext);
	}
	return spec;
}

/* Has the session's time zone stayed what the plan was made for, if any? */
bool
sc_node_zone_holds(List *zone)
{
	return zone == NIL ||
		strcmp(strVal(linitial(zone)), pg_get_timezone_name(session_timezone)) == 0;
}

/* The query would have failed as well, if not in these words. */
void
sc_node_overflow(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
			 errmsg("value out of range"),
			 errdetail("An aggregate of the rollup cannot be represented in its type.")));
}

/* The plain plan's row, in the slot that this node promised to return. */
TupleTableSlot *
sc_node_plain_row(CustomScanState *node, PlanState *plain)
{
	TupleTableSlot *row = ExecProcNode(plain);
	TupleTableSlot *slot = node->ss.ps.ps_ResultTupleSlot;
	int			n = slot->tts_tupleDescriptor->natts;

	ExecClearTuple(slot);
	if (TupIsNull(row))
		return slot;
	slot_getallattrs(row);
	memcpy(slot->tts_values, row->tts_values, n * sizeof(Datum));
	memcpy(slot->tts_isnull, row->tts_isnull, n * sizeof(bool));
	return ExecStoreVirtualTuple(slot);
}

/* Rows that were computed need no look at the table. */
bool
sc_node_recheck(ScanState *ss, TupleTableSlot *slot)
{
	return true;
}

void
sc_node_end(CustomScanState *node, ScSpec *spec)
{
	ListCell   *lc;

	foreach(lc, node->custom_ps)
		ExecEndNode(lfirst(lc));
	if (spec)
		sc_spec_release(spec);
}

void
sc_node_rescan(CustomScanState *node)
{
	ListCell   *lc;

	foreach(lc, node->custom_ps)
	{
		if (node->ss.ps.chgParam)
			UpdateChangedParamSet(lfirst(lc), node->ss.ps.chgParam);
		if (((PlanState *) lfirst(lc))->chgParam == NULL)
			ExecReScan(lfirst(lc));
	}
	ExecScanReScan(&node->ss);
}

/* VERBOSE says whose storage it is. */
void
sc_node_explain_rollup(Oid view, ExplainState *es)
{
	char	   *name = es->verbose ? get_rel_name(view) : NULL;

	if (name)
		ExplainPropertyText("Rollup",
							quote_qualified_identifier(get_namespace_name(get_rel_namespace(view)),
													   name), es);
}
