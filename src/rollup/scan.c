/*
 * scan.c: reading a rollup's view from its storage.
 *
 * Before planning, the view's subquery is replaced by a scan of the base
 * table with the view's target list and HAVING over it.  The entries of the
 * view and of the source stay in the range table, so permissions are checked
 * and locks taken as before.  The base table's own paths (sequential, index)
 * become children of a custom scan that merges the deltas.
 *
 * At start, the scan makes sure that the storage answers for its snapshot;
 * else it runs the query on the source.  Groups that have deltas are merged
 * first and their base rows skipped, so quals on keys may reach the child if
 * they cannot fail, and all others are checked on the merged row.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/parallel.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/clauses.h"
#include "optimizer/planner.h"
#include "optimizer/plancat.h"
#include "optimizer/restrictinfo.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/predicate.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "base/guc.h"
#include "rollup/rewrite.h"
#include "rollup/rollup.h"

/* Scans with other parameters that look for the groups they need one by one. */
#define SC_LAZY_SCANS	10

static planner_hook_type prev_planner = NULL;
static set_rel_pathlist_hook_type prev_pathlist = NULL;

/* ---- replacing the view ---- */

typedef struct ReplaceContext
{
	ScSpec	   *spec;
	Index		varno;			/* of the base table */
} ReplaceContext;

static Node *
to_base_vars(Node *node, ReplaceContext *cxt)
{
	ScSpec	   *spec = cxt->spec;
	int			i = 0;
	ListCell   *lc;

	if (node == NULL)
		return NULL;
	foreach(lc, spec->query->groupClause)
	{
		ScKey	   *key = &spec->keys[i];
		TargetEntry *tle = get_sortgroupclause_tle(lfirst(lc), spec->query->targetList);

		if (equal(node, tle->expr))
			return (Node *) makeVar(cxt->varno, ScBaseKey(i), key->type, key->typmod,
									key->collation, 0);
		i++;
	}
	if (IsA(node, Aggref))
	{
		for (i = 0; i < spec->naggs; i++)
			if (equal(node, spec->aggs[i].aggref))
				return (Node *) makeVar(cxt->varno, ScBaseAgg(spec, i),
										spec->aggs[i].fin.resulttype, -1,
										spec->aggs[i].fin.resultcollation, 0);
		elog(ERROR, "aggregate not found in rollup");
	}
	return expression_tree_mutator(node, to_base_vars, cxt);
}

/* The planner looks for the outer joins that it finds entries of. */
static List *
without_joins(List *rtable)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind == RTE_JOIN)
		{
			rte = copyObject(rte);
			rte->jointype = JOIN_INNER;
			rte->joinaliasvars = rte->joinleftcols = rte->joinrightcols = NIL;
		}
		result = lappend(result, rte);
	}
	return result;
}

static void
replace_view(RangeTblEntry *rte, bool marked)
{
	Query	   *sub = rte->subquery;
	RangeTblEntry *old;
	RangeTblEntry *brte;
	Query	   *query;
	ScSpec	   *spec;
	ReplaceContext cxt;
	ListCell   *lc;
	RangeTblRef *ref;
	List	   *names = NIL;

	if (sub == NULL || sub->rtable == NIL || sub->rowMarks)
		return;
	old = linitial_node(RangeTblEntry, sub->rtable);
	if (old->rtekind != RTE_RELATION || old->relkind != RELKIND_VIEW ||
		old->eref == NULL || strcmp(old->eref->aliasname, "old") != 0)
		return;
	spec = sc_spec_by_view(old->relid);
	if (spec == NULL)
		return;
	if (spec->joined)
	{
		/* Without stored groups, like any other query: see rewrite_join.c. */
		ScSpec	   *stored = sc_stored_of(spec->view);

		sc_spec_release(spec);
		if (stored == NULL)
			return;
		spec = stored;
	}
	if (spec->state != SC_LIVE || spec->part >= SC_PART_LOG)
	{
		sc_spec_release(spec);
		return;
	}
	foreach(lc, sub->rtable)
		if (lfirst_node(RangeTblEntry, lc)->securityQuals)
		{
			sc_spec_release(spec);
			return;
		}
	LockRelationOid(spec->base, AccessShareLock);
	if (get_rel_relkind(spec->base) != RELKIND_RELATION)
	{
		sc_spec_release(spec);
		return;
	}

	brte = makeNode(RangeTblEntry);
	brte->rtekind = RTE_RELATION;
	brte->relid = spec->base;
	brte->relkind = RELKIND_RELATION;
	brte->rellockmode = AccessShareLock;
	for (int i = 0; i < ScBaseNatts(spec); i++)
		names = lappend(names, makeString(get_attname(spec->base, i + 1, false)));
	brte->eref = makeAlias(get_rel_name(old->relid), names);
	brte->inFromCl = true;

	query = makeNode(Query);
	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	/* No policy binds this reader, but the plan is good for no other. */
	query->hasRowSecurity = sub->hasRowSecurity;
	query->rtable = lappend(without_joins(sub->rtable), brte);
	cxt.spec = spec;
	cxt.varno = list_length(query->rtable);
	ref = makeNode(RangeTblRef);
	ref->rtindex = cxt.varno;
	foreach(lc, spec->query->targetList)
	{
		TargetEntry *tle = lfirst(lc);
		TargetEntry *new;

		if (tle->resjunk)
			continue;
		new = flatCopyTargetEntry(tle);
		new->expr = (Expr *) to_base_vars((Node *) copyObject(tle->expr), &cxt);
		new->ressortgroupref = 0;
		query->targetList = lappend(query->targetList, new);
	}
	query->jointree = makeFromExpr(list_make1(ref),
								   to_base_vars(copyObject(spec->query->havingQual), &cxt));
	/* Keeps the planner from pulling it up, and means nothing else to it. */
	query->hasForUpdate = marked;
	rte->subquery = query;
	sc_spec_release(spec);
}

static bool replace_walker(Node *node, void *marked);

/*
 * Views are range table entries, so expressions are searched only where the
 * parser has seen a subquery in one: most queries are not walked at all.
 *
 * Where rows may be locked, a plan is run again for the new version of one,
 * with the other relations' rows as they were.  A table's are fetched by ctid,
 * but a row that was merged from deltas has none; a subquery's are copied, so
 * there the rollup has to stay one (*marked).
 */
static void
replace_views(Query *query, bool *marked)
{
	bool		above = *marked;
	ListCell   *lc;

	*marked |= query->rowMarks != NIL || query->commandType == CMD_UPDATE ||
		query->commandType == CMD_DELETE || query->commandType == CMD_MERGE;
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind != RTE_SUBQUERY)
			continue;
		replace_view(rte, *marked);
		replace_views(rte->subquery, marked);
	}
	foreach(lc, query->cteList)
		(void) replace_walker(lfirst_node(CommonTableExpr, lc)->ctequery, marked);
	if (query->hasSubLinks)
		(void) query_tree_walker(query, replace_walker, marked,
								 QTW_IGNORE_RT_SUBQUERIES | QTW_IGNORE_CTE_SUBQUERIES);
	*marked = above;
}

static bool
replace_walker(Node *node, void *marked)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		replace_views((Query *) node, marked);
		return false;
	}
	return expression_tree_walker(node, replace_walker, marked);
}

static PlannedStmt *
planner_with_rollups(Query *parse, const char *query_string, int cursorOptions,
					 ParamListInfo boundParams)
{
	bool		marked = false;

	if (sc_enable_rollup_scan)
	{
		replace_views(parse, &marked);
		sc_whole_replace(parse);
	}
	return prev_planner ? prev_planner(parse, query_string, cursorOptions, boundParams)
		: standard_planner(parse, query_string, cursorOptions, boundParams);
}

/* ---- the path ---- */

static Plan *plan_scan(PlannerInfo *root, RelOptInfo *rel, CustomPath *best_path,
					   List *tlist, List *clauses, List *custom_plans);
static List *reparameterize(PlannerInfo *root, List *custom_private, RelOptInfo *child_rel);
static Node *create_state(CustomScan *cscan);

static const CustomPathMethods path_methods = {
	.CustomName = "ScaleCacheRollup",
	.PlanCustomPath = plan_scan,
	.ReparameterizeCustomPathByChild = reparameterize,
};
const CustomScanMethods sc_scan_methods = {
	.CustomName = "ScaleCacheRollup",
	.CreateCustomScanState = create_state,
};

static List *
reparameterize(PlannerInfo *root, List *custom_private, RelOptInfo *child_rel)
{
	return custom_private;
}

/* The view that a base table belongs to, or invalid. */
static Oid
view_of_base(Oid base)
{
	ScSpec	   *spec = sc_spec_by_base(base);
	Oid			view = spec ? spec->view : InvalidOid;

	if (spec)
		sc_spec_release(spec);
	return view;
}

static void
add_rollup_paths(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	List	   *paths = NIL;
	ListCell   *lc;
	Oid			view;

	if (prev_pathlist)
		prev_pathlist(root, rel, rti, rte);
	sc_zone_paths(root, rel, rte);
	/* Queries that name the table themselves do ask for permission. */
	if (!IS_SIMPLE_REL(rel) || !sc_is_base_entry(rte))
		return;
	/* A condition that is never true, HAVING false for one: nothing is read. */
	if (IS_DUMMY_REL(rel))
		return;
	view = view_of_base(rte->relid);
	if (!OidIsValid(view))
		return;

	foreach(lc, rel->pathlist)
	{
		Path	   *path = lfirst(lc);
		CustomPath *cpath;

		if (path->pathtype == T_IndexOnlyScan)
			path->pathtype = T_IndexScan;	/* all columns are wanted */
		if (path->pathtype != T_SeqScan && path->pathtype != T_IndexScan &&
			path->pathtype != T_BitmapHeapScan)
			continue;
		cpath = makeNode(CustomPath);
		cpath->path.pathtype = T_CustomScan;
		cpath->path.parent = rel;
		cpath->path.pathtarget = rel->reltarget;
		cpath->path.param_info = path->param_info;
		cpath->path.rows = path->rows;
		cpath->path.startup_cost = path->startup_cost;
		cpath->path.total_cost = path->total_cost;
		cpath->flags = CUSTOMPATH_SUPPORT_PROJECTION;
		cpath->custom_paths = list_make1(path);
		cpath->custom_private = list_make1(list_make1_oid(view));
		cpath->methods = &path_methods;
		paths = lappend(paths, cpath);
	}
	rel->pathlist = NIL;
	rel->partial_pathlist = NIL;
	rel->consider_parallel = false;
	foreach(lc, paths)
		add_path(rel, lfirst(lc));
}

/* Does the qual read group keys only, and always say the same of them? */
static bool
on_keys(Node *qual, Index relid, ScSpec *spec)
{
	Bitmapset  *attrs = NULL;
	int			i = -1;

	if (contain_volatile_functions(qual) || contain_subplans(qual))
		return false;
	pull_varattnos(qual, relid, &attrs);
	while ((i = bms_next_member(attrs, i)) >= 0)
		if (i + FirstLowInvalidHeapAttributeNumber < 1 ||
			i + FirstLowInvalidHeapAttributeNumber > spec->nkeys)
			return false;
	return true;
}

/* A function that may fail, as far as its catalog entry tells? */
static bool
function_can_fail(Oid funcid, void *context)
{
	return !get_func_leakproof(funcid);
}

/*
 * Can the condition fail for some value of a column?  Then it must not be
 * asked of a group that pending deltas have emptied: the plain query does not
 * meet its values any more, be they 0 in "1 / key < 5".  Leakproof functions
 * do not fail, nor do comparisons.
 */
bool
sc_qual_can_fail(Node *node, void *context)
{
	if (node == NULL || !contain_var_clause(node))
		return false;
	if (IsA(node, OpExpr) || IsA(node, ScalarArrayOpExpr) || IsA(node, DistinctExpr))
	{
		Oid			opno = IsA(node, ScalarArrayOpExpr) ?
		((ScalarArrayOpExpr *) node)->opno : ((OpExpr *) node)->opno;

		if (get_op_btree_interpretation(opno) != NIL)
			return expression_tree_walker(node, sc_qual_can_fail, context);
	}
	return check_functions_in_node(node, function_can_fail, NULL) ||
		IsA(node, ArrayCoerceExpr) || IsA(node, CoerceToDomain) ||
		IsA(node, SubscriptingRef) || IsA(node, XmlExpr) ||
		expression_tree_walker(node, sc_qual_can_fail, context);
}

/*
 * The quals that may be checked before deltas are merged.  One that could
 * reveal what it sees must not come before a view's that is left out.
 */
static List *
key_quals(PlannerInfo *root, List *quals, Index relid, ScSpec *spec)
{
	List	   *result = NIL;
	bool		skipped = false;
	ListCell   *lc;

	foreach(lc, quals)
	{
		if (on_keys(lfirst(lc), relid, spec) && !sc_qual_can_fail(lfirst(lc), NULL) &&
			(!skipped || root->qual_security_level == 0 ||
			 !contain_leaked_vars(lfirst(lc))))
			result = lappend(result, lfirst(lc));
		else
			skipped = true;
	}
	return result;
}

static Plan *
plan_scan(PlannerInfo *root, RelOptInfo *rel, CustomPath *best_path, List *tlist,
		  List *clauses, List *custom_plans)
{
	CustomScan *cscan = makeNode(CustomScan);
	Plan	   *child = linitial(custom_plans);
	Oid			view = linitial_oid(linitial(best_path->custom_private));
	ScSpec	   *spec = sc_spec_by_view(view);
	List	   *private;

	if (spec == NULL)
		elog(ERROR, "rollup %u has gone", view);
	if (IsA(child, Result) && child->lefttree)
		child = child->lefttree;
	/* Only quals on keys hold before the deltas are merged. */
	child->qual = key_quals(root, child->qual, rel->relid, spec);
	child->targetlist = build_physical_tlist(root, rel);
	cscan->scan.plan.targetlist = tlist;
	cscan->scan.plan.qual = extract_actual_clauses(clauses, false);
	cscan->custom_exprs = key_quals(root, cscan->scan.plan.qual, rel->relid, spec);
	cscan->scan.scanrelid = rel->relid;
	cscan->flags = best_path->flags;
	cscan->custom_plans = list_make1(child);
	cscan->custom_private = list_make1(list_make1_oid(view));
	private = sc_whole_private(root->simple_rte_array[rel->relid]);
	if (private != NIL)
	{
		cscan->custom_private = lappend(cscan->custom_private, private);
		/* Planned anew when the view changes. */
		root->glob->relationOids = lappend_oid(root->glob->relationOids, view);
	}
	cscan->methods = &sc_scan_methods;
	sc_spec_release(spec);
	return &cscan->scan.plan;
}

/* ---- the execution ---- */

typedef struct RollupScanState
{
	CustomScanState css;		/* must be first */
	ScSpec	   *spec;			/* pinned */
	List	   *held;			/* see sc_node_hold */
	List	   *whole;			/* see ScWholePrivate; NIL: a view is read */
	bool		source;			/* the source answers */
	bool		allowed;		/* the user may call what the query calls */
	QueryDesc  *plain;			/* that has been run instead, for EXPLAIN */
	bool		ready;
	bool		newparams;		/* other groups may be asked for */
	bool		states;			/* the plan reads row counts and states */
	int			nmerges;		/* times that groups were looked for */
	Bitmapset  *used;			/* columns of the base that the plan reads */
	ScCopied	copied;			/* columns the plan returns as they are */
	Tuplestorestate *store;		/* its answer */
	TupleTableSlot *storeslot;
	ExprState  *keyqual;		/* false: no row of this group is asked for */
	ScGroups   *groups;			/* groups with deltas */
	int64		ndeltas;
	int64		nrecomputed;	/* groups computed from the source */
	ScGroup    *group;
	bool		groupsdone;
	int64		nread;			/* groups, for EXPLAIN */
} RollupScanState;

static void begin_scan(CustomScanState *node, EState *estate, int eflags);
static TupleTableSlot *exec_scan(CustomScanState *node);
static void end_scan(CustomScanState *node);
static void rescan(CustomScanState *node);
static void explain_scan(CustomScanState *node, List *ancestors, ExplainState *es);

static const CustomExecMethods exec_methods = {
	.CustomName = "ScaleCacheRollup",
	.BeginCustomScan = begin_scan,
	.ExecCustomScan = exec_scan,
	.EndCustomScan = end_scan,
	.ReScanCustomScan = rescan,
	.ExplainCustomScan = explain_scan,
};

static Node *
create_state(CustomScan *cscan)
{
	RollupScanState *state;

	/* The same name stands for all of them in EXPLAIN. */
	if (cscan->custom_scan_tlist != NIL)
		return list_length(linitial(cscan->custom_private)) == 2 ?
			sc_join_create_state(cscan) : sc_rewrite_create_state(cscan);
	state = (RollupScanState *)
		newNode(sizeof(RollupScanState), T_CustomScanState);
	state->css.methods = &exec_methods;
	return (Node *) state;
}

/* Is a statement of this session, or a cursor, in the middle of using it? */
static bool
is_open(Oid relid)
{
	Relation	rel = RelationIdGetRelation(relid);
	bool		open;

	if (rel == NULL)
		return false;
	open = rel->rd_refcnt > 1 + sc_node_holds(relid);
	RelationClose(rel);
	return open;
}

/*
 * Is a statement of this session in the middle of changing the source?  Its
 * rows can be visible before their triggers have fired.  There may be
 * thousands of members: only those that this transaction may have written to
 * are looked at.
 */
static bool
source_is_changing(ScSpec *spec)
{
	ListCell   *lc;

	if (!TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return false;
	/* What its leader is doing a parallel worker does not know. */
	if (IsParallelWorker())
		return true;
	foreach(lc, spec->members)
	{
		LOCKTAG		tag;

		SET_LOCKTAG_RELATION(tag, MyDatabaseId, lfirst_oid(lc));
		if (LockHeldByMe(&tag, RowExclusiveLock) && is_open(lfirst_oid(lc)))
			return true;
	}
	return false;
}

static void
begin_scan(CustomScanState *node, EState *estate, int eflags)
{
	RollupScanState *state = (RollupScanState *) node;
	CustomScan *cscan = (CustomScan *) node->ss.ps.plan;
	Oid			view = linitial_oid(linitial(cscan->custom_private));

	if (list_length(cscan->custom_private) > 1)
		state->whole = lsecond(cscan->custom_private);
	node->custom_ps = list_make1(ExecInitNode(linitial(cscan->custom_plans), estate, eflags));
	/* Rows of the child are passed on as they are, in slots of its kind. */
	node->ss.ps.scanopsfixed = false;
	ExecAssignScanProjectionInfo(&node->ss);
	node->ss.ps.qual = ExecInitQual(cscan->scan.plan.qual, &node->ss.ps);
	state->keyqual = ExecInitQual(cscan->custom_exprs, &node->ss.ps);
	sc_node_find_copied(&node->ss.ps, cscan->scan.scanrelid, &state->copied);
	pull_varattnos((Node *) cscan->scan.plan.targetlist, cscan->scan.scanrelid,
				   &state->used);
	pull_varattnos((Node *) cscan->scan.plan.qual, cscan->scan.scanrelid,
				   &state->used);
	state->spec = sc_node_spec(view);
	state->held = sc_node_hold(node, state->spec);
	state->allowed = state->whole == NIL ||
		sc_whole_allowed(state->spec, state->whole, estate->es_snapshot);
	state->states = bms_is_member(ScBaseState(state->spec) - FirstLowInvalidHeapAttributeNumber,
								  state->used) ||
		bms_is_member(ScBaseRows(state->spec) - FirstLowInvalidHeapAttributeNumber,
					  state->used);
}

/* What is not set after this is NULL. */
static void
clear_row(ScSpec *spec, TupleTableSlot *slot)
{
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, ScBaseNatts(spec) * sizeof(bool));
}

/* Do the quals on keys let the group through? */
static bool
is_wanted(void *arg, const Datum *keys, const bool *nulls)
{
	RollupScanState *state = arg;
	ScSpec	   *spec = state->spec;
	TupleTableSlot *slot = state->css.ss.ss_ScanTupleSlot;
	ExprContext *econtext = state->css.ss.ps.ps_ExprContext;
	bool		result;

	if (state->keyqual == NULL)
		return true;
	clear_row(spec, slot);
	memcpy(slot->tts_values, keys, spec->nkeys * sizeof(Datum));
	memcpy(slot->tts_isnull, nulls, spec->nkeys * sizeof(bool));
	ExecStoreVirtualTuple(slot);
	ResetExprContext(econtext);
	econtext->ecxt_scantuple = slot;
	result = ExecQual(state->keyqual, econtext);
	ExecClearTuple(slot);
	return result;
}

/* Have the source answer, for all parameters; in the query's context. */
static void
ask_source(RollupScanState *state)
{
	ScSpec	   *spec = state->spec;
	EState	   *estate = state->css.ss.ps.state;
	TupleDesc	desc;
	ScIdentity	caller;

	state->source = true;
	state->groups = NULL;
	if (state->states)
	{
		/* All groups, with their states. */
		state->groups = sc_groups_create(spec, estate->es_query_cxt);
		sc_become_owner(spec, &caller);
		sc_source_scan(state->groups, estate->es_snapshot);
		sc_become_caller(&caller);
	}
	else
	{
		desc = sc_source_desc(spec);
		state->store = tuplestore_begin_heap(true, false, work_mem);
		state->storeslot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
		if (state->whole)
			state->plain = sc_whole_run(spec, state->whole, estate, state->store);
		else
		{
			sc_become_owner(spec, &caller);
			sc_source_run(spec, estate->es_snapshot, state->store, desc);
			sc_become_caller(&caller);
		}
	}
	state->group = NULL;
	state->groupsdone = state->groups == NULL;
}

/*
 * Compute what groups have lost from the source, with the owner's rights, as
 * writers and folds do: who reads has been asked for no others than to the
 * view, or to what his query calls.  How many were computed.
 */
int64
sc_scan_recompute(ScGroups *groups, bool states, Snapshot snapshot)
{
	ScIdentity	caller;
	ScGroup    *group = sc_groups_next(groups, NULL);
	int64		n = 0;

	while (group && group->lost == NULL && (group->known || !group->finished))
		group = sc_groups_next(groups, group);
	if (group == NULL)
		return 0;
	sc_become_owner(groups->spec, &caller);
	if (states)
		sc_source_states(groups, snapshot);
	else
		n = sc_source_values(groups, snapshot);
	sc_become_caller(&caller);
	return n;
}

/*
 * Merge the groups with deltas that are asked for with their base rows.  When
 * the storage proves to be out of date by then, the source answers.
 */
static void
merge_groups(RollupScanState *state)
{
	EState	   *estate = state->css.ss.ps.state;
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);
	ScGroup    *group = NULL;

	/* Many scans with other parameters each: have them all, once. */
	if (++state->nmerges > SC_LAZY_SCANS)
		state->keyqual = NULL;
	while ((group = sc_groups_next(state->groups, group)) != NULL)
		group->unwanted = group->skipped ||
			(!group->loaded && !is_wanted(state, group->keys, group->nulls));
	sc_groups_load_base(state->groups, state->css.ss.ss_currentRelation,
						estate->es_snapshot);
	while ((group = sc_groups_next(state->groups, group)) != NULL)
		if (group->loaded && !group->finished)
			sc_group_finish(state->groups, group);
	state->nrecomputed += sc_scan_recompute(state->groups, state->states,
											estate->es_snapshot);
	/* The child does not find these in its index. */
	if (!IsA(linitial(((CustomScan *) state->css.ss.ps.plan)->custom_plans), SeqScan))
		sc_groups_load_wide(state->groups, state->css.ss.ss_currentRelation,
							estate->es_snapshot, is_wanted, state);
	/* Groups were computed from what is no longer there. */
	if (!sc_spec_current(state->spec))
		ask_source(state);
	MemoryContextSwitchTo(old);
}

/* Has all been captured that the snapshot sees of the source? */
bool
sc_scan_answers_part(ScSpec *spec, Snapshot snapshot)
{
	return !source_is_changing(spec) && sc_catalog_row_matches(spec, snapshot);
}

/* Would the storage answer for the snapshot? */
bool
sc_scan_answers(ScSpec *spec, Relation base, Snapshot snapshot)
{
	return spec->base == RelationGetRelid(base) &&
		sc_scan_answers_part(spec, snapshot);
}

/*
 * Read the deltas that snapshot sees into *groups (NULL when there are none),
 * owned by cxt; their base rows are not looked for yet.  asked: see asked.c.
 * False when the storage cannot answer for the snapshot, and the source has to.
 */
bool
sc_scan_load(ScSpec *spec, Relation base, Snapshot snapshot,
			 const ScAsked *asked, MemoryContext cxt, ScGroups **groups,
			 int64 *ndeltas)
{
	*groups = NULL;
	*ndeltas = 0;
	if (spec->part == SC_PART_STORED)
		return sc_stored_load(spec, base, snapshot, cxt, groups, ndeltas);
	if (!sc_scan_answers(spec, base, snapshot) ||
		!sc_capture_flush(spec, snapshot))
		return false;
	/* Without deltas too when groups with wide keys may have to be added. */
	*groups = sc_groups_create(spec, cxt);
	*ndeltas = sc_delta_load(*groups, snapshot, asked);
	if (*ndeltas < 0 || ((*groups)->ngroups == 0 && !spec->maywide))
		*groups = NULL;
	return *ndeltas >= 0;
}

/* Decide who answers, at the first row, and get it ready. */
static void
prepare(RollupScanState *state)
{
	ScSpec	   *spec = state->spec;
	EState	   *estate = state->css.ss.ps.state;
	Snapshot	snapshot = estate->es_snapshot;
	Relation	base = state->css.ss.ss_currentRelation;
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);
	const ScAsked *asked;

	state->ready = true;
	asked = sc_asked(spec, ((CustomScan *) state->css.ss.ps.plan)->custom_exprs,
					 &state->css.ss.ps, is_wanted, state);
	if (!state->allowed || (state->whole && !sc_whole_holds(state->whole)) ||
		!sc_scan_load(spec, base, snapshot, asked, estate->es_query_cxt,
					  &state->groups, &state->ndeltas))
		ask_source(state);
	else if (state->groups)
		merge_groups(state);
	if (state->whole && !state->source)
		sc_rollup_stats_rewrite(spec->id);
	state->group = NULL;
	state->groupsdone = state->groups == NULL;
	MemoryContextSwitchTo(old);
}

/* An aggregate is out of range.  The query fails if it reads that one. */
static void
check_overflow(RollupScanState *state, ScGroup *group)
{
	ScSpec	   *spec = state->spec;

	for (int i = 0; i < spec->naggs; i++)
	{
		ScSlot	   *slot = &spec->slots[spec->aggs[i].slot];
		Datum		value;
		bool		isnull;
		bool		overflow;

		if (!bms_is_member(ScBaseAgg(spec, i) - FirstLowInvalidHeapAttributeNumber,
						   state->used))
			continue;
		(void) sc_state_final(&slot->def, &spec->aggs[i].fin,
							  group->states + slot->offset, &value, &isnull,
							  &overflow);
		if (overflow)
			sc_node_overflow();
	}
}

/* The same for a base row. */
static void
check_row_overflow(RollupScanState *state, TupleTableSlot *row)
{
	ScSpec	   *spec = state->spec;
	ScGroups   *groups = sc_groups_create(spec, CurrentMemoryContext);
	ScGroup    *group;

	slot_getallattrs(row);
	group = sc_groups_get(groups, row->tts_values, row->tts_isnull, true);
	sc_group_merge(groups, group,
				   (bytea *) PG_DETOAST_DATUM_PACKED(row->tts_values[ScBaseState(spec) - 1]));
	check_overflow(state, group);
	MemoryContextDelete(groups->cxt);
}

/* The row of a group whose states the plan reads. */
static TupleTableSlot *
group_states(RollupScanState *state, ScGroup *group)
{
	ScSpec	   *spec = state->spec;
	TupleTableSlot *slot = state->css.ss.ss_ScanTupleSlot;
	ExprContext *econtext = state->css.ss.ps.ps_ExprContext;
	MemoryContext old = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);

	slot->tts_values[ScBaseRows(spec) - 1] = Int64GetDatum(group->nrows);
	slot->tts_isnull[ScBaseRows(spec) - 1] = false;
	slot->tts_values[ScBaseState(spec) - 1] =
		PointerGetDatum(sc_group_pack(state->groups, group));
	slot->tts_isnull[ScBaseState(spec) - 1] = false;
	MemoryContextSwitchTo(old);
	return ExecStoreVirtualTuple(slot);
}

static TupleTableSlot *
next_row(ScanState *ss)
{
	RollupScanState *state = (RollupScanState *) ss;
	ScSpec	   *spec = state->spec;
	TupleTableSlot *slot = ss->ss_ScanTupleSlot;
	int			n = spec->nkeys + spec->naggs;

	if (!state->ready)
		prepare(state);
	else if (state->newparams)
		merge_groups(state);
	state->newparams = false;
	if (state->store)
	{
		if (!tuplestore_gettupleslot(state->store, true, false, state->storeslot))
			return NULL;
		slot_getallattrs(state->storeslot);
		clear_row(spec, slot);
		memcpy(slot->tts_values, state->storeslot->tts_values, n * sizeof(Datum));
		memcpy(slot->tts_isnull, state->storeslot->tts_isnull, n * sizeof(bool));
		return ExecStoreVirtualTuple(slot);
	}
	while (!state->groupsdone)
	{
		ScGroup    *group = sc_groups_next(state->groups, state->group);

		state->group = group;
		if (group == NULL)
		{
			state->groupsdone = true;
			break;
		}
		if (group->unwanted || (group->nrows == 0 && spec->nkeys > 0))
			continue;
		state->nread++;
		clear_row(spec, slot);
		memcpy(slot->tts_values, group->keys, spec->nkeys * sizeof(Datum));
		memcpy(slot->tts_isnull, group->nulls, spec->nkeys * sizeof(bool));
		if (state->states)
			return group_states(state, group);
		if (group->overflow)
			check_overflow(state, group);
		memcpy(slot->tts_values + spec->nkeys, group->values, spec->naggs * sizeof(Datum));
		memcpy(slot->tts_isnull + spec->nkeys, group->isnull, spec->naggs * sizeof(bool));
		return ExecStoreVirtualTuple(slot);
	}
	for (;;)
	{
		TupleTableSlot *row;

		if (state->source)
			return NULL;
		row = ExecProcNode(linitial(state->css.custom_ps));
		CHECK_FOR_INTERRUPTS();
		if (TupIsNull(row))
			return NULL;
		if (state->groups && state->groups->ngroups > 0)
		{
			slot_getsomeattrs(row, spec->nkeys);
			if (sc_groups_get(state->groups, row->tts_values, row->tts_isnull, false))
				continue;
		}
		if (!state->states && sc_base_overflows(spec, row))
			check_row_overflow(state, row);
		state->nread++;
		return row;
	}
}

static bool
recheck_row(ScanState *ss, TupleTableSlot *slot)
{
	return true;
}

static TupleTableSlot *
exec_scan(CustomScanState *node)
{
	RollupScanState *state = (RollupScanState *) node;
	bool		as_is = node->ss.ps.ps_ProjInfo == NULL;

	/* What ExecScan would do, where there is little to do. */
	if (node->ss.ps.qual == NULL && (as_is || state->copied.n > 0) &&
		node->ss.ps.state->es_epq_active == NULL)
	{
		TupleTableSlot *row;

		if (state->states)
			ResetExprContext(node->ss.ps.ps_ExprContext);
		row = next_row(&node->ss);
		return as_is ? row : sc_node_copy(&node->ss.ps, &state->copied, row);
	}
	return ExecScan(&node->ss, next_row, recheck_row);
}

static void
end_scan(CustomScanState *node)
{
	RollupScanState *state = (RollupScanState *) node;

	ExecEndNode(linitial(node->custom_ps));
	if (state->store)
		tuplestore_end(state->store);
	if (state->storeslot)
		ExecDropSingleTupleTableSlot(state->storeslot);
	if (state->plain)
		sc_whole_end(state->plain);
	sc_node_let_go(state->held);
	if (state->spec)
		sc_spec_release(state->spec);
}

static void
rescan(CustomScanState *node)
{
	RollupScanState *state = (RollupScanState *) node;
	PlanState  *child = linitial(node->custom_ps);

	if (node->ss.ps.chgParam)
	{
		UpdateChangedParamSet(child, node->ss.ps.chgParam);
		if (state->groups && !state->source && state->keyqual)
			state->newparams = true;
	}
	ExecReScan(child);
	ExecScanReScan(&node->ss);
	if (state->store)
		tuplestore_rescan(state->store);
	state->group = NULL;
	state->groupsdone = state->groups == NULL;
}

static void
explain_scan(CustomScanState *node, List *ancestors, ExplainState *es)
{
	RollupScanState *state = (RollupScanState *) node;

	if (state->whole)
		sc_node_explain_rollup(linitial_oid(linitial(((CustomScan *) node->ss.ps.plan)->custom_private)), es);
	if (!es->analyze || !state->ready)
		return;
	ExplainPropertyText("Answered From", state->source ? "source" : "rollup", es);
	if (!state->source)
	{
		if (state->whole)
			ExplainPropertyInteger("Groups Read", NULL, state->nread, es);
		ExplainPropertyInteger("Deltas Merged", NULL, state->ndeltas, es);
		if (state->nrecomputed > 0)
			ExplainPropertyInteger("Groups Recomputed", NULL, state->nrecomputed, es);
	}
	if (state->plain)
		sc_whole_explain(state->plain, es);
}

void
sc_scan_init(void)
{
	RegisterCustomScanMethods(&sc_scan_methods);
	sc_zone_scan_init();
	prev_planner = planner_hook;
	planner_hook = planner_with_rollups;
	prev_pathlist = set_rel_pathlist_hook;
	set_rel_pathlist_hook = add_rollup_paths;
}

void
sc_rollup_init(void)
{
	sc_capture_init();
	sc_insert_init();
	sc_base_init();
	sc_scan_init();
	sc_rewrite_init();
	sc_notify_init();
}
