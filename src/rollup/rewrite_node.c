/*
 * rewrite_node.c: what the nodes have in common that answer a query from a
 * rollup, be it of one table (rewrite_exec.c) or joined (rewrite_join_exec.c).
 *
 * Both add groups up by the query's keys in a target of their own, once more
 * by each grouping set, and both fall back on the plain query's plan.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "pgtime.h"
#include "tcop/pquery.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/resowner.h"
#include "utils/ruleutils.h"

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
 * May anybody call these functions?  Who fetches from a cursor need not be who
 * has opened it: what he might not call is started when it is opened, as the
 * plain query would be.
 */
bool
sc_node_anybody_may_call(List *functions)
{
	ListCell   *lc;

	foreach(lc, functions)
		if (pg_proc_aclcheck(lfirst_oid(lc), ACL_ID_PUBLIC, ACL_EXECUTE) != ACLCHECK_OK)
			return false;
	return true;
}

/* ---- the query's tables, in use ---- */

struct ScHold
{
	dlist_node	node;
	Relation	rel;			/* NULL: no longer held */
	ResourceOwner owner;		/* who lets go of it if the query fails */
	MemoryContextCallback callback;
};

static dlist_head holds = DLIST_STATIC_INIT(holds);

/* The node's memory goes. */
static void
forget_hold(void *arg)
{
	ScHold	   *hold = arg;

	if (hold->rel)
		dlist_delete(&hold->node);
	hold->rel = NULL;
}

/*
 * Whatever the owner had open is being closed.  The memory of a cursor that
 * has failed may live on.
 */
static void
forget_holds(ResourceReleasePhase phase, bool isCommit, bool isTopLevel, void *arg)
{
	dlist_mutable_iter iter;

	if (phase != RESOURCE_RELEASE_BEFORE_LOCKS)
		return;
	dlist_foreach_modify(iter, &holds)
	{
		ScHold	   *hold = dlist_container(ScHold, node, iter.cur);

		if (hold->owner == CurrentResourceOwner)
			forget_hold(hold);
	}
}

/*
 * The tables that the rollup stands for are in use as long as the node is, as
 * they are by the plain query's: else a cursor's session could change them
 * under it, their columns' types for one, and the plain query, or the rows
 * beyond edges, be started on what is no longer what was planned for.
 */
static void
hold(List **held, Oid relid, LOCKMODE mode, EState *estate)
{
	Relation	rel = try_relation_open(relid, mode);
	ScHold	   *hold;

	if (rel == NULL)
		return;
	hold = palloc0(sizeof(ScHold));
	hold->rel = rel;
	hold->owner = CurrentResourceOwner;
	dlist_push_tail(&holds, &hold->node);
	hold->callback.func = forget_hold;
	hold->callback.arg = hold;
	MemoryContextRegisterResetCallback(estate->es_query_cxt, &hold->callback);
	*held = lappend(*held, hold);
}

/* What a plan consists of, but for its subplans in expressions. */
List *
sc_node_children(Plan *plan)
{
	List	   *children = NIL;

	switch (nodeTag(plan))
	{
		case T_CustomScan:
			children = list_copy(((CustomScan *) plan)->custom_plans);
			break;
		case T_Append:
			children = list_copy(((Append *) plan)->appendplans);
			break;
		case T_MergeAppend:
			children = list_copy(((MergeAppend *) plan)->mergeplans);
			break;
		case T_BitmapAnd:
			children = list_copy(((BitmapAnd *) plan)->bitmapplans);
			break;
		case T_BitmapOr:
			children = list_copy(((BitmapOr *) plan)->bitmapplans);
			break;
		case T_SubqueryScan:
			children = list_make1(((SubqueryScan *) plan)->subplan);
			break;
		default:
			break;
	}
	if (plan->lefttree)
		children = lappend(children, plan->lefttree);
	if (plan->righttree)
		children = lappend(children, plan->righttree);
	return children;
}

/* The tables and indexes that a plan scans, each once. */
static void
collect_scanned(Plan *plan, EState *estate, List **relids)
{
	Index		scanrelid = 0;
	Oid			index = InvalidOid;
	ListCell   *lc;

	check_stack_depth();
	switch (nodeTag(plan))
	{
		case T_IndexScan:
			index = ((IndexScan *) plan)->indexid;
			scanrelid = ((Scan *) plan)->scanrelid;
			break;
		case T_IndexOnlyScan:
			index = ((IndexOnlyScan *) plan)->indexid;
			scanrelid = ((Scan *) plan)->scanrelid;
			break;
		case T_BitmapIndexScan:
			index = ((BitmapIndexScan *) plan)->indexid;
			break;
		case T_SeqScan:
		case T_BitmapHeapScan:
		case T_TidScan:
		case T_TidRangeScan:
			scanrelid = ((Scan *) plan)->scanrelid;
			break;
		default:
			break;
	}
	if (OidIsValid(index))
		*relids = list_append_unique_oid(*relids, index);
	if (scanrelid > 0)
		*relids = list_append_unique_oid(*relids, exec_rt_fetch(scanrelid, estate)->relid);
	foreach(lc, sc_node_children(plan))
		collect_scanned(lfirst(lc), estate, relids);
}

/*
 * Hold them.  A cursor can be left alone for long: what else the plans scan
 * that are not started yet, indexes and partitions, or the rollup's members
 * where the plain query has no plan yet, is in use by that, too.
 */
List *
sc_node_hold(CustomScanState *node, ScSpec *spec)
{
	static bool registered = false;
	EState	   *estate = node->ss.ps.state;
	List	   *plans = ((CustomScan *) node->ss.ps.plan)->custom_plans;
	List	   *relids = NIL;
	List	   *held = NIL;
	ListCell   *lc;

	if (!registered)
		RegisterResourceReleaseCallback(forget_holds, NULL);
	registered = true;
	foreach(lc, spec->query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind == RTE_RELATION && rte->relkind != RELKIND_VIEW)
			relids = list_append_unique_oid(relids, rte->relid);
	}
	foreach(lc, relids)
		hold(&held, lfirst_oid(lc), NoLock, estate);
	/* Not what EXECUTE runs to its end. */
	if (ActivePortal && ActivePortal->visible && ActivePortal->name[0] != '\0')
	{
		List	   *others = list_length(plans) == 1 ? list_copy(spec->members) : NIL;

		for_each_from(lc, plans, 1)
			collect_scanned(lfirst(lc), estate, &others);
		/* A plan that was kept comes without locks of its indexes. */
		foreach(lc, list_difference_oid(others, relids))
			hold(&held, lfirst_oid(lc), AccessShareLock, estate);
	}
	return held;
}

void
sc_node_let_go(List *held)
{
	ListCell   *lc;

	foreach(lc, held)
	{
		ScHold	   *hold = lfirst(lc);
		Relation	rel = hold->rel;

		forget_hold(hold);
		if (rel)
			relation_close(rel, NoLock);
	}
}

/* How often nodes hold the table, who neither read nor write it. */
int
sc_node_holds(Oid relid)
{
	int			n = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &holds)
		if (RelationGetRelid(dlist_container(ScHold, node, iter.cur)->rel) == relid)
			n++;
	return n;
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

/* Start the plain query, the second of the node's plans, if it has not been. */
void
sc_node_open_plain(CustomScanState *node, int eflags, PlanState **plain)
{
	if (*plain)
		return;
	*plain = ExecInitNode(lsecond(((CustomScan *) node->ss.ps.plan)->custom_plans),
						  node->ss.ps.state, eflags);
	node->custom_ps = lappend(node->custom_ps, *plain);
}

/*
 * May the user call all of these functions, those of the plain query and ours?
 * If not, that is started, so that its error, if any, comes now, as without
 * the rollup; it answers.
 */
bool
sc_node_allowed(CustomScanState *node, List *functions, int eflags,
				PlanState **plain)
{
	ListCell   *lc;

	foreach(lc, functions)
		if (pg_proc_aclcheck(lfirst_oid(lc), GetUserId(), ACL_EXECUTE) != ACLCHECK_OK)
		{
			sc_node_open_plain(node, eflags, plain);
			return false;
		}
	return true;
}

/* Where the bounds of a range are: n pairs of edge and outer. */
ScRange
sc_node_range(ExprState **bounds, int n, ExprContext *econtext)
{
	ScRange		result = SC_RANGE_WHOLE;

	for (int i = 0; i < n && result != SC_RANGE_UNKNOWN; i++)
	{
		bool		edgenull;
		bool		outernull;
		Datum		edge = ExecEvalExprSwitchContext(bounds[2 * i], econtext, &edgenull);
		Datum		outer = ExecEvalExprSwitchContext(bounds[2 * i + 1], econtext, &outernull);

		if (edgenull || outernull)
			result = SC_RANGE_UNKNOWN;
		else if (DatumGetInt64(edge) != DatumGetInt64(outer))
			result = SC_RANGE_RAGGED;
	}
	ResetExprContext(econtext);
	return result;
}

/*
 * Start the node's plans from the first-th on, which are needed only now and
 * end with it.  Result is in CurrentMemoryContext.
 */
List *
sc_node_open_plans(CustomScanState *node, int first, int eflags)
{
	List	   *plans = ((CustomScan *) node->ss.ps.plan)->custom_plans;
	List	   *opened = NIL;

	for (int i = first; i < list_length(plans); i++)
		opened = lappend(opened, ExecInitNode(list_nth(plans, i), node->ss.ps.state,
											  eflags));
	node->custom_ps = list_concat(node->custom_ps, opened);
	return opened;
}

/* Add a state to another of the same definition; scratch is for the while. */
void
sc_node_merge_state(ScStateDef *def, ScState *from, ScState *into, MemoryContext cxt,
					MemoryContext scratch)
{
	MemoryContext old = MemoryContextSwitchTo(scratch);
	StringInfoData buf;
	const char *p;

	initStringInfo(&buf);
	sc_state_pack(def, from, &buf);
	MemoryContextSwitchTo(old);
	p = buf.data;
	sc_state_merge(def, into, &p, buf.data + buf.len, cxt);
}

/* ---- grouping sets ---- */

/* The target's groups, added up by some of its keys, in its context. */
static ScGroups *
add_up_set(ScGroups *target, List *set, ScMergeGroup merge, void *arg)
{
	MemoryContext cxt = target->cxt;
	ScSpec	   *spec = MemoryContextAlloc(cxt, sizeof(ScSpec));
	int			n = linitial_int(set);
	Datum	   *keys = MemoryContextAlloc(cxt, sizeof(Datum) * (n + 1));
	bool	   *nulls = MemoryContextAlloc(cxt, sizeof(bool) * (n + 1));
	ScGroup    *from = NULL;
	ScGroups   *groups;

	*spec = *target->spec;
	spec->nkeys = n;
	spec->keys = MemoryContextAlloc(cxt, sizeof(ScKey) * (n + 1));
	for (int i = 0; i < n; i++)
		spec->keys[i] = target->spec->keys[list_nth_int(set, 1 + i)];
	groups = sc_groups_create(spec, cxt);
	while ((from = sc_groups_next(target, from)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < n; i++)
		{
			keys[i] = from->keys[list_nth_int(set, 1 + i)];
			nulls[i] = from->nulls[list_nth_int(set, 1 + i)];
		}
		merge(arg, from, sc_groups_get(groups, keys, nulls, true));
	}
	return groups;
}

/*
 * What is to be returned of the target: a list of ScSetResult, in its
 * context.  merge adds a group to another.
 */
List *
sc_node_sets(ScGroups *target, List *sets, ScMergeGroup merge, void *arg)
{
	MemoryContext old = MemoryContextSwitchTo(target->cxt);
	List	   *results = NIL;
	ListCell   *lc;

	foreach(lc, sets ? sets : list_make1(NIL))
	{
		ScSetResult *result = palloc0(sizeof(ScSetResult));

		result->set = lfirst(lc);
		result->groups = result->set == NIL ||
			linitial_int(result->set) == target->spec->nkeys ? target :
			add_up_set(target, result->set, merge, arg);
		/* Without keys there is a row even for no rows. */
		if (result->groups->spec->nkeys == 0)
			sc_groups_get(result->groups, NULL, NULL, true);
		results = lappend(results, result);
	}
	MemoryContextSwitchTo(old);
	return results;
}

/* The next group of all sets; *n and *group start as 0 and NULL. */
ScSetResult *
sc_node_next_group(List *results, int *n, ScGroup **group)
{
	for (; *n < list_length(results); (*n)++)
	{
		ScSetResult *result = list_nth(results, *n);

		*group = sc_groups_next(result->groups, *group);
		if (*group != NULL)
			return result;
	}
	return NULL;
}

/* The query's key of a group of the set, or NULL. */
Datum
sc_node_key_of_set(List *set, ScGroup *group, int key, bool *isnull)
{
	int			k = set == NIL ? key : -1;

	for (int i = 0; set && i < linitial_int(set); i++)
		if (list_nth_int(set, 1 + i) == key)
			k = i;
	*isnull = k < 0 || group->nulls[k];
	return k < 0 ? (Datum) 0 : group->keys[k];
}

/* The value of the query's grouping() of this number. */
Datum
sc_node_grouping_of_set(List *set, int n)
{
	return Int32GetDatum(set == NIL ? 0 : list_nth_int(set, 1 + linitial_int(set) + n));
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

/* A projection that only picks columns need not be interpreted. */
void
sc_node_find_copied(PlanState *ps, int varno, ScCopied *copied)
{
	int			n = 0;
	ListCell   *lc;

	if (ps->ps_ProjInfo == NULL)
		return;
	copied->attnos = palloc(sizeof(AttrNumber) * (list_length(ps->plan->targetlist) + 1));
	foreach(lc, ps->plan->targetlist)
	{
		Var		   *var = (Var *) lfirst_node(TargetEntry, lc)->expr;

		if (!IsA(var, Var) || var->varno != varno || var->varattno <= 0)
			return;
		copied->attnos[n++] = var->varattno;
		copied->last = Max(copied->last, var->varattno);
	}
	copied->n = n;
}

/* Do what it does. */
TupleTableSlot *
sc_node_copy(PlanState *ps, ScCopied *copied, TupleTableSlot *row)
{
	TupleTableSlot *result = ExecClearTuple(ps->ps_ResultTupleSlot);

	if (TupIsNull(row))
		return result;
	slot_getsomeattrs(row, copied->last);
	for (int i = 0; i < copied->n; i++)
	{
		result->tts_values[i] = row->tts_values[copied->attnos[i] - 1];
		result->tts_isnull[i] = row->tts_isnull[copied->attnos[i] - 1];
	}
	return ExecStoreVirtualTuple(result);
}

/* Rows that were computed need no look at the table. */
bool
sc_node_recheck(ScanState *ss, TupleTableSlot *slot)
{
	return true;
}

void
sc_node_end(CustomScanState *node, ScSpec *spec, List *held)
{
	ListCell   *lc;

	foreach(lc, node->custom_ps)
		ExecEndNode(lfirst(lc));
	sc_node_let_go(held);
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

/* By which expressions groups are added up, and for which sets. */
void
sc_node_explain_keys(CustomScanState *node, List *ancestors, int nkeys,
					 List *sets, bool prefix, ExplainState *es)
{
	CustomScan *cscan = (CustomScan *) node->ss.ps.plan;
	List	   *context = set_deparse_context_plan(es->deparse_cxt, node->ss.ps.plan,
												   ancestors);
	List	   *keys = NIL;
	List	   *texts = NIL;
	ListCell   *lc;

	for (int i = 0; i < nkeys; i++)
		keys = lappend(keys, deparse_expression(list_nth(cscan->custom_exprs, i),
												context, prefix, false));
	if (keys == NIL && es->format == EXPLAIN_FORMAT_TEXT)
		ExplainPropertyText("Added Up By", "()", es);
	else
		ExplainPropertyList("Added Up By", keys, es);
	foreach(lc, sets)
	{
		List	   *set = lfirst(lc);
		StringInfoData buf;

		initStringInfo(&buf);
		for (int i = 0; i < linitial_int(set); i++)
			appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "",
							 (char *) list_nth(keys, list_nth_int(set, 1 + i)));
		texts = lappend(texts, psprintf("(%s)", buf.data));
	}
	if (texts)
		ExplainPropertyList("Grouping Sets", texts, es);
}

/* VERBOSE says whose storage it is. */
void
sc_node_explain_rollup(Oid view, ExplainState *es)
{
	char	   *name;

	view = sc_rollup_of(view);
	name = es->verbose ? get_rel_name(view) : NULL;

	if (name)
		ExplainPropertyText("Rollup",
							quote_qualified_identifier(get_namespace_name(get_rel_namespace(view)),
													   name), es);
}

/*
 * Who has answered.  True: the rollup.  The plain query of stored groups may be
 * answered from the source's groups, and says so itself.
 */
bool
sc_node_explain_answer(ScAnswer source, PlanState *plain, ExplainState *es)
{
	bool		again = plain && IsA(plain, CustomScanState) &&
		((CustomScan *) plain->plan)->methods == &sc_scan_methods;

	ExplainPropertyText("Answered From", source == SC_FROM_ROLLUP ? "rollup" :
						again ? "plan below" : "source", es);
	return source == SC_FROM_ROLLUP;
}
