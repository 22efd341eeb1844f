/*
 * rewrite_join.c: a query that joins a table with others, answered from a
 * rollup of that table.
 *
 * The rows of a group of the rollup are the same to every condition and
 * expression that is a function of the group's keys.  So in a join the
 * rollup's groups can stand for the table's rows, each for as many as it
 * counts, as long as the table is not on the nullable side of an outer join.
 * The query's FROM and WHERE are planned again with the rollup's base table
 * in the place of the source; a custom scan above adds up what comes out:
 * states of the rollup for aggregates of the source's columns, and values
 * times the number of rows for those that need other tables' columns.
 *
 * All tables are read in the query's own snapshot, the rollup's groups with
 * it, so changes of any of them are seen as by the plain query.
 */
#include "postgres.h"

#include "catalog/pg_aggregate.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/planmain.h"
#include "optimizer/planner.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/syscache.h"

#include "rollup/rewrite.h"

/* ---- FROM and WHERE ---- */

typedef struct JoinContext
{
	ScMatch    *m;
	List	   *filters;		/* conditions that all the source's rows pass */
	bool		found;
} JoinContext;

static bool
has_column_of(Node *node, void *varno)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
		return ((Var *) node)->varlevelsup == 0 && ((Var *) node)->varno == *(Index *) varno;
	return expression_tree_walker(node, has_column_of, varno);
}

/*
 * What LATERAL hands through the nullable side of an outer join reads the
 * source, though it is computed elsewhere.
 */
static bool
reads_source(ScMatch *m, Node *node)
{
	return bms_is_member(m->srcvarno, pull_varnos(m->root, node)) ||
		has_column_of(node, &m->srcvarno);
}

/* Does the expression read no other table? */
static bool
of_source(ScMatch *m, Node *node)
{
	return bms_is_subset(pull_varnos(m->root, node), bms_make_singleton(m->srcvarno));
}

/* Conditions with the rollup's keys in the place of the source's columns. */
static bool
replace_quals(JoinContext *cxt, Node **quals, bool filter)
{
	ScMatch    *m = cxt->m;
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, (List *) *quals)
	{
		Node	   *qual = lfirst(lc);
		int			before = list_length(m->quals);
		Node	   *normal;
		Expr	   *derived;

		if (contain_subplans(qual))
			return sc_match_fail(m, "the query's conditions have a subquery");
		if (contain_volatile_functions(qual))
			return sc_match_fail(m, "its WHERE calls a volatile function");
		if (!reads_source(m, qual))
		{
			result = lappend(result, copyObject(qual));
			continue;
		}
		normal = sc_match_normalize(m, qual);
		if (filter)
		{
			cxt->filters = lappend(cxt->filters, normal);
			if (sc_match_always(m, normal))
				continue;
		}
		derived = sc_match_derive_key(m, normal);
		if (derived == NULL && filter && sc_bucket_range(m, (OpExpr *) normal))
		{
			result = list_concat(result, list_copy_tail(m->quals, before));
			continue;
		}
		if (derived == NULL)
			derived = sc_match_derive(m, normal);
		if (derived == NULL && !of_source(m, normal))
			return sc_match_fail(m, "a condition compares columns of its source that are not its group keys with other tables'");
		if (derived == NULL)
			return sc_match_fail(m, psprintf("the condition %s is not on its group keys, or cuts through groups",
											 sc_match_text(m, normal)));
		result = list_concat(result, sc_flat_quals(derived));
	}
	*quals = (Node *) result;
	return true;
}

/*
 * Entries that are planned anew, or refer to the source, are copied.  A
 * subquery that is planned twice must not be one entry: each has a plan.
 */
static Index
copy_entry(ScMatch *m, List **fresh, Index varno, RangeTblEntry *copy)
{
	m->freshof = lappend_int(m->freshof, varno);
	*fresh = lappend(*fresh, copy);
	return m->basevarno + list_length(*fresh);
}

/* What the planner has made of a UNION ALL, members of its own, is forgotten. */
static RangeTblEntry *
copy_item(RangeTblEntry *rte)
{
	RangeTblEntry *copy = copyObject(rte);

	if (copy->rtekind == RTE_SUBQUERY)
		copy->inh = false;
	return copy;
}

typedef struct LateralContext
{
	ScMatch    *m;
	int			level;
	bool		failed;
} LateralContext;

/* Keys in the place of the source's columns, in a LATERAL item. */
static Node *
replace_lateral(Node *node, void *context)
{
	LateralContext *cxt = context;
	Var		   *var = (Var *) node;

	if (node == NULL || cxt->failed)
		return node;
	if (IsA(node, Query))
	{
		Query	   *query;

		cxt->level++;
		query = query_tree_mutator((Query *) node, replace_lateral, cxt, 0);
		cxt->level--;
		return (Node *) query;
	}
	if (IsA(node, Var) && var->varlevelsup == cxt->level && var->varno == cxt->m->srcvarno)
	{
		Var		   *own = copyObject(var);
		Node	   *key;

		own->varlevelsup = 0;
		key = (Node *) sc_match_derive(cxt->m, (Node *) own);
		if (key == NULL)
		{
			cxt->failed = true;
			return node;
		}
		IncrementVarSublevelsUp(key, cxt->level, 0);
		return key;
	}
	return expression_tree_mutator(node, replace_lateral, context);
}

/* An item of FROM that is not the source; its number may change. */
static bool
replace_other(ScMatch *m, RangeTblRef *ref)
{
	RangeTblEntry *rte = m->root->simple_rte_array[ref->rtindex];
	RangeTblEntry *copy;
	LateralContext cxt = {m, 0, false};

	if (rte->tablesample)
		return sc_match_fail(m, "it is joined with part of a table");
	if (rte->rtekind == RTE_SUBQUERY ?
		rte->subquery->hasForUpdate || rte->subquery->hasModifyingCTE :
		rte->rtekind == RTE_CTE ? rte->self_reference :
		rte->rtekind != RTE_RELATION && rte->rtekind != RTE_VALUES &&
		rte->rtekind != RTE_FUNCTION && rte->rtekind != RTE_RESULT)
		return sc_match_fail(m, "it is joined with a kind of item in FROM that cannot be planned again");
	if (contain_volatile_functions((Node *) rte->functions) ||
		contain_volatile_functions((Node *) rte->values_lists) ||
		contain_volatile_functions((Node *) rte->subquery))
		return sc_match_fail(m, "the query calls a volatile function");
	if (contain_subplans((Node *) rte->functions) ||
		contain_subplans((Node *) rte->values_lists))
		return sc_match_fail(m, "it is joined with a function of a subquery");
	if (rte->rtekind != RTE_SUBQUERY && !rte->lateral)
		return true;
	copy = copy_item(rte);
	copy->functions = (List *) replace_lateral((Node *) copy->functions, &cxt);
	copy->values_lists = (List *) replace_lateral((Node *) copy->values_lists, &cxt);
	copy->subquery = (Query *) replace_lateral((Node *) copy->subquery, &cxt);
	if (cxt.failed)
		return sc_match_fail(m, "a LATERAL item reads columns of its source that are not its group keys");
	ref->rtindex = copy_entry(m, &m->fresh, ref->rtindex, copy);
	return true;
}

static bool
replace_source(JoinContext *cxt, Node *jtnode, bool filter)
{
	ScMatch    *m = cxt->m;
	ListCell   *lc;

	if (IsA(jtnode, RangeTblRef))
	{
		RangeTblRef *ref = (RangeTblRef *) jtnode;

		if (ref->rtindex != m->srcvarno)
			return replace_other(m, ref);
		ref->rtindex = m->basevarno;
		cxt->found = true;
	}
	else if (IsA(jtnode, FromExpr))
	{
		FromExpr   *f = (FromExpr *) jtnode;

		foreach(lc, f->fromlist)
			if (!replace_source(cxt, lfirst(lc), filter))
				return false;
		return replace_quals(cxt, &f->quals, filter);
	}
	else if (IsA(jtnode, JoinExpr))
	{
		JoinExpr   *j = (JoinExpr *) jtnode;
		bool		before = cxt->found;
		bool		onleft;

		if (!replace_source(cxt, j->larg, filter && j->jointype != JOIN_FULL))
			return false;
		onleft = cxt->found;
		if (!replace_source(cxt, j->rarg, filter && j->jointype == JOIN_INNER))
			return false;
		if (cxt->found && !before &&
			j->jointype != JOIN_INNER && (!onleft || j->jointype == JOIN_FULL))
			return sc_match_fail(m, "its source is on the nullable side of an outer join, or in a subquery");
		return replace_quals(cxt, &j->quals, filter && j->jointype == JOIN_INNER);
	}
	return true;
}

/* The query's FROM and WHERE over the base table, or NULL. */
static FromExpr *
match_from(ScMatch *m)
{
	JoinContext cxt = {m, NIL, false};
	FromExpr   *from = copyObject(m->root->parse->jointree);

	if (!replace_source(&cxt, (Node *) from, true))
		return NULL;
	if (!cxt.found)
		return sc_match_fail(m, "the query does not read its source here"), NULL;
	if (!sc_match_rollupquals(m, cxt.filters))
		return sc_match_fail(m, psprintf("the query's rows need not satisfy the rollup's condition %s",
										 sc_match_text(m, (Node *) make_ands_explicit(m->rollupquals)))), NULL;
	return from;
}

/* ---- planning the join ---- */

static void
no_pathkeys(PlannerInfo *root, void *extra)
{
	root->query_pathkeys = NIL;
	root->group_pathkeys = NIL;
	root->window_pathkeys = NIL;
	root->distinct_pathkeys = NIL;
	root->sort_pathkeys = NIL;
}

/* What the parts of an item read: for each its filter, if any, and args. */
static List *
part_exprs(ScJoinItem *item)
{
	List	   *exprs = NIL;
	ListCell   *lc;

	foreach(lc, item->parts)
	{
		ScJoinPart *part = lfirst(lc);

		if (part->filter)
			exprs = lappend(exprs, part->filter);
		exprs = list_concat(exprs, part->args);
	}
	return exprs;
}

/* What the scan reads from the join: columns of the base and other tables. */
static List *
join_columns(ScMatch *m)
{
	ScSpec	   *spec = m->spec;
	List	   *vars;
	List	   *exprs = NIL;
	List	   *tlist = NIL;
	ListCell   *lc;

	vars = list_make2(makeVar(m->basevarno, ScBaseRows(spec), INT8OID, -1, InvalidOid, 0),
					  makeVar(m->basevarno, ScBaseState(spec), BYTEAOID, -1, InvalidOid, 0));
	foreach(lc, m->qkeys)
		exprs = lappend(exprs, ((ScQueryKey *) lfirst(lc))->derived);
	foreach(lc, m->joinitems)
		exprs = list_concat(exprs, part_exprs(lfirst(lc)));
	vars = list_concat_unique(vars, pull_var_clause((Node *) exprs,
													PVC_RECURSE_PLACEHOLDERS));

	/*
	 * Keys that do not read the source, as they are: whatever is computed with
	 * one is taken for the scan's own column of it, unless this comes first.
	 */
	foreach(lc, m->qkeys)
	{
		ScQueryKey *key = lfirst(lc);

		if (!IsA(key->expr, Var) && !IsA(key->expr, Const) && equal(key->expr, key->derived))
			vars = lappend(vars, key->expr);
	}
	foreach(lc, vars)
	{
		/* pull_var_clause does not drop repeated ones. */
		bool		seen = false;
		ListCell   *l2;

		foreach(l2, tlist)
			if (equal(((TargetEntry *) lfirst(l2))->expr, lfirst(lc)))
				seen = true;
		if (!seen)
			tlist = lappend(tlist, makeTargetEntry(copyObject(lfirst(lc)),
												   list_length(tlist) + 1, NULL, false));
	}
	return tlist;
}

static bool
has_lateral(List *rtable)
{
	ListCell   *lc;

	foreach(lc, rtable)
		if (lfirst_node(RangeTblEntry, lc)->lateral)
			return true;
	return false;
}

/*
 * A planner state for a join of this query's tables and others alone, at the
 * same query level.
 */
static PlannerInfo *
join_root(PlannerInfo *above, FromExpr *from, List *entries, List *tlist)
{
	PlannerInfo *root = palloc(sizeof(PlannerInfo));
	Query	   *parse = makeNode(Query);

	memcpy(parse, above->parse, sizeof(Query));
	parse->jointree = from;
	parse->rtable = list_concat_copy(parse->rtable, entries);
	parse->targetList = tlist;
	parse->groupClause = NIL;
	parse->distinctClause = NIL;
	parse->hasDistinctOn = false;
	parse->sortClause = NIL;
	parse->windowClause = NIL;
	parse->hasWindowFuncs = false;
	parse->hasTargetSRFs = false;
	parse->hasAggs = false;
	parse->havingQual = NULL;
	parse->limitCount = NULL;
	parse->limitOffset = NULL;
	parse->setOperations = NULL;

	memcpy(root, above, sizeof(PlannerInfo));
	root->parse = parse;
	root->processed_tlist = tlist;
	root->plan_params = NIL;
	root->outer_params = NULL;
	/* Scans of CTEs look for theirs here. */
	root->init_plans = list_copy(above->init_plans);
	root->agginfos = NIL;
	root->aggtransinfos = NIL;
	root->append_rel_list = NIL;
	root->row_identity_vars = NIL;
	root->eq_classes = NIL;
	root->ec_merging_done = false;
	root->hasHavingQual = false;
	root->tuple_fraction = 0;
	root->limit_tuples = -1;
	root->curOuterRels = NULL;
	root->curOuterParams = NIL;
	/* Forgotten by now if those were pulled up; their conditions are not. */
	root->hasLateralRTEs = has_lateral(parse->rtable);
	memset(root->upper_rels, 0, sizeof(root->upper_rels));
	memset(root->upper_targets, 0, sizeof(root->upper_targets));
	return root;
}

/*
 * The query's range table gets what the join's planning has added, and what
 * the plan's references to subqueries are resolved by.
 */
static void
adopt_entries(PlannerInfo *root, PlannerInfo *from)
{
	int			n = list_length(root->parse->rtable);
	int			m = list_length(from->parse->rtable);

	root->parse->rtable = list_concat(root->parse->rtable,
									  list_copy_tail(from->parse->rtable, n));
	if (m > n)
		expand_planner_arrays(root, m - n);
	for (int i = n; i < m; i++)
	{
		root->simple_rte_array[i + 1] = list_nth(from->parse->rtable, i);
		if (root->simple_rte_array[i + 1]->rtekind == RTE_SUBQUERY)
			root->simple_rel_array[i + 1] = from->simple_rel_array[i + 1];
	}
	root->append_rel_list = list_concat(root->append_rel_list, from->append_rel_list);
}

static Path *
plan_join(PlannerInfo *root, PlannerInfo *above, List *columns)
{
	RelOptInfo *rel = query_planner(root, no_pathkeys, NULL);

	adopt_entries(above, root);
	return (Path *) create_projection_path(root, rel, rel->cheapest_total_path,
										   create_pathtarget(root, columns));
}

/* Let an expression refer to copies of entries, the first of them number n. */
static void
renumber(Node *node, List *old, Index n, int sublevels_up)
{
	ListCell   *lc;

	foreach(lc, old)
		ChangeVarNodes(node, lfirst_int(lc), n++, sublevels_up);
}

static void
renumber_entries(List *entries, List *old, Index n)
{
	ListCell   *lc;

	foreach(lc, entries)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		renumber((Node *) rte->functions, old, n, 0);
		renumber((Node *) rte->values_lists, old, n, 0);
		renumber((Node *) rte->subquery, old, n, 1);
	}
}

/* The query's keys, in the list of items. */
static void
add_key_items(ScMatch *m)
{
	List	   *items = NIL;
	ListCell   *lc;
	int			i = 0;

	foreach(lc, m->qkeys)
	{
		ScJoinItem *item = palloc0(sizeof(ScJoinItem));

		item->kind = SC_JOIN_KEY;
		item->arg = i++;
		item->expr = ((ScQueryKey *) lfirst(lc))->expr;
		items = lappend(items, item);
	}
	m->joinitems = list_concat(items, m->joinitems);
}

/*
 * Match a query that joins the source, or one of the source alone, with the
 * rollup in its place.  False, with a reason, if it cannot be answered.
 */
bool
sc_join_match(ScMatch *m, List *groupclause, List *groupingsets, List *tlist,
			  List *outputs, List *having)
{
	List	   *groupings = NIL;
	Index		first = m->basevarno + 1;
	ListCell   *lc;

	m->joined = true;
	if (!sc_match_read(m) || (m->from = match_from(m)) == NULL ||
		!sc_match_keys(m, groupclause, tlist, outputs, having))
		return false;
	if (contain_volatile_functions((Node *) outputs) ||
		contain_volatile_functions((Node *) having))
		return sc_match_fail(m, "the query calls a volatile function");
	if (!sc_join_items(m, (Node *) outputs) || !sc_join_items(m, (Node *) having))
		return false;
	if (m->guards != NIL)
		return sc_match_fail(m, "changes of the time zone's offset may split its groups");
	foreach(lc, m->joinitems)
		if (((ScJoinItem *) lfirst(lc))->kind == SC_JOIN_GROUPING)
			groupings = lappend(groupings, ((ScJoinItem *) lfirst(lc))->expr);
	if (!sc_match_sets(m, groupingsets, groupings))
		return false;
	add_key_items(m);

	renumber((Node *) m->from, m->freshof, first, 0);
	renumber_entries(m->fresh, m->freshof, first);
	foreach(lc, m->qkeys)
		renumber((Node *) ((ScQueryKey *) lfirst(lc))->derived, m->freshof, first, 0);
	foreach(lc, m->joinitems)
		renumber((Node *) part_exprs(lfirst(lc)), m->freshof, first, 0);
	return true;
}

/* The join's path; the base table is in the query's range table from now on. */
Path *
sc_join_path(ScMatch *m)
{
	m->columns = join_columns(m);
	m->joinroot = join_root(m->root, m->from, lcons(sc_base_entry(m->spec), m->fresh),
							m->columns);
	return plan_join(m->joinroot, m->root, m->columns);
}

/* ---- rows beyond the edges ---- */

/*
 * What is needed of a row of the plain join: the query's keys, then for each
 * aggregate its FILTER, if any, and its arguments.
 */
static List *
edge_columns(ScMatch *m)
{
	List	   *exprs = NIL;
	List	   *tlist = NIL;
	ListCell   *lc;

	foreach(lc, m->joinitems)
	{
		ScJoinItem *item = lfirst(lc);
		Aggref	   *agg = (Aggref *) item->expr;

		if (item->kind == SC_JOIN_KEY)
			exprs = lappend(exprs, item->expr);
		if (item->kind != SC_JOIN_ROWS && item->kind != SC_JOIN_STATE)
			continue;
		if (agg->aggfilter)
			exprs = lappend(exprs, agg->aggfilter);
		if (item->kind == SC_JOIN_STATE)
			exprs = list_concat(exprs, sc_match_args(agg));
	}
	foreach(lc, exprs)
		tlist = lappend(tlist, makeTargetEntry(copyObject(lfirst(lc)),
											   list_length(tlist) + 1, NULL, false));
	return tlist;
}

/* Copies of the plain query's items of FROM that have plans of their own. */
static void
copy_items(PlannerInfo *root, Node *jtnode, List **entries, List **old)
{
	ListCell   *lc;

	if (IsA(jtnode, RangeTblRef))
	{
		int			varno = ((RangeTblRef *) jtnode)->rtindex;
		RangeTblEntry *rte = root->simple_rte_array[varno];

		if (rte->rtekind != RTE_SUBQUERY && !rte->lateral)
			return;
		*entries = lappend(*entries, copy_item(rte));
		*old = lappend_int(*old, varno);
	}
	else if (IsA(jtnode, FromExpr))
		foreach(lc, ((FromExpr *) jtnode)->fromlist)
			copy_items(root, lfirst(lc), entries, old);
	else if (IsA(jtnode, JoinExpr))
	{
		copy_items(root, ((JoinExpr *) jtnode)->larg, entries, old);
		copy_items(root, ((JoinExpr *) jtnode)->rarg, entries, old);
	}
}

/* A path for the rows of the plain join that pass some more quals. */
Path *
sc_join_edge_path(ScMatch *m, List *quals)
{
	FromExpr   *from = copyObject(m->root->parse->jointree);
	List	   *columns = edge_columns(m);
	List	   *entries = NIL;
	List	   *old = NIL;
	Index		first = m->root->simple_rel_array_size;
	PlannerInfo *root;
	Path	   *path;

	copy_items(m->root, (Node *) from, &entries, &old);
	from->quals = (Node *) list_concat((List *) from->quals, copyObject(quals));
	renumber((Node *) from, old, first, 0);
	renumber((Node *) columns, old, first, 0);
	renumber_entries(entries, old, first);
	root = join_root(m->root, from, entries, columns);
	path = plan_join(root, m->root, columns);
	m->edgeroots = lappend(m->edgeroots, list_make2(path, root));
	return path;
}

/* ---- the plan ---- */

static Plan *
plan_part(PlannerInfo *root, Path *path)
{
	Plan	   *plan = create_plan(root, path);

	/* They are the query's, above. */
	plan->initPlan = NIL;
	return plan;
}

static PlannerInfo *
root_of_edge(ScMatch *m, Path *path)
{
	ListCell   *lc;

	foreach(lc, m->edgeroots)
		if (linitial(lfirst(lc)) == path)
			return lsecond(lfirst(lc));
	elog(ERROR, "path of unknown origin");
}

/* The query keys that columns of the join are, or -1. */
static List *
shown_keys(ScMatch *m)
{
	List	   *shown = NIL;
	ListCell   *lc;

	foreach(lc, m->columns)
	{
		int			shows = -1;

		for (int i = 0; i < list_length(m->qkeys); i++)
			if (equal(((TargetEntry *) lfirst(lc))->expr,
					  ((ScQueryKey *) list_nth(m->qkeys, i))->expr))
				shows = i;
		shown = lappend_int(shown, shows);
	}
	return shown;
}

/* Where some members of a list are. */
static List *
positions(List *list, List *members)
{
	List	   *result = NIL;
	ListCell   *lc;
	ListCell   *l2;

	foreach(lc, members)
		foreach(l2, list)
			if (lfirst(l2) == lfirst(lc))
				result = lappend_int(result, foreach_current_index(l2));
	return result;
}

/*
 * What a row of the scan is: the join's columns, then the query's keys and
 * aggregates.  custom_exprs is over that: see rewrite_join_exec.c.
 */
Plan *
sc_join_plan(ScMatch *m, Path *path, List *tlist, List *having,
			 List *custom_plans)
{
	CustomScan *cscan = makeNode(CustomScan);
	List	   *columns = copyObject(m->columns);
	List	   *items = NIL;
	List	   *ops = NIL;
	List	   *exprs = NIL;
	List	   *linears = NIL;
	ListCell   *lc;
	ListCell   *l2;

	sc_key_exprs(m, &exprs, &ops);
	foreach(lc, m->joinitems)
	{
		ScJoinItem *item = lfirst(lc);

		columns = lappend(columns, makeTargetEntry(copyObject(item->expr),
												   list_length(columns) + 1, NULL, false));
		items = lappend_int(lappend_int(items, item->kind), item->arg);
		items = lappend_int(items, list_length(item->parts));
		foreach(l2, item->parts)
		{
			ScJoinPart *part = lfirst(l2);

			items = lappend_int(lappend_int(items, part->slot), part->filter != NULL);
			items = lappend_int(items, list_length(part->args));
		}
		exprs = list_concat(exprs, part_exprs(item));
		if (item->kind == SC_JOIN_LINEAR)
			linears = lappend(linears, list_make2(copyObject(list_nth(m->linears, item->arg)),
												  positions(m->joinitems, item->sums)));
	}
	foreach(lc, m->bounds)
		exprs = lappend(lappend(exprs, ((ScBound *) lfirst(lc))->edge),
						((ScBound *) lfirst(lc))->outer);
	cscan->scan.plan.targetlist = tlist;
	cscan->scan.plan.qual = having;
	cscan->scan.scanrelid = m->basevarno;
	cscan->flags = 0;
	cscan->custom_plans = lcons(plan_part(m->joinroot, path), custom_plans);
	foreach(lc, m->edgepaths)
		cscan->custom_plans = lappend(cscan->custom_plans,
									  plan_part(root_of_edge(m, lfirst(lc)), lfirst(lc)));
	cscan->custom_scan_tlist = columns;
	cscan->custom_exprs = exprs;
	/* Two Oids in the first list tell it from other scans: see scan.c. */
	cscan->custom_private = list_make5(list_make2_oid(m->view, m->view),
									   list_make3_int(list_length(m->columns),
													  list_length(m->qkeys),
													  list_length(m->bounds)),
									   items, ops, shown_keys(m));
	cscan->custom_private = lappend(cscan->custom_private, m->zoned ?
									list_make1(makeString(pstrdup(m->zone))) : NIL);
	cscan->custom_private = lappend(cscan->custom_private, m->sets);
	cscan->custom_private = lappend(cscan->custom_private, sc_called_functions(m));
	cscan->custom_private = lappend(cscan->custom_private, linears);
	cscan->methods = &sc_scan_methods;
	return &cscan->scan.plan;
}

/* ---- which tables of the query have rollups ---- */

static void
collect_relations(Node *jtnode, Bitmapset **varnos)
{
	ListCell   *lc;

	if (IsA(jtnode, RangeTblRef))
		*varnos = bms_add_member(*varnos, ((RangeTblRef *) jtnode)->rtindex);
	else if (IsA(jtnode, FromExpr))
		foreach(lc, ((FromExpr *) jtnode)->fromlist)
			collect_relations(lfirst(lc), varnos);
	else if (IsA(jtnode, JoinExpr))
	{
		collect_relations(((JoinExpr *) jtnode)->larg, varnos);
		collect_relations(((JoinExpr *) jtnode)->rarg, varnos);
	}
}

/* Range table indexes of the tables in the query's FROM. */
Bitmapset *
sc_join_relations(PlannerInfo *root)
{
	Bitmapset  *all = NULL;
	Bitmapset  *result = NULL;
	int			i = -1;

	collect_relations((Node *) root->parse->jointree, &all);
	while ((i = bms_next_member(all, i)) >= 0)
		if (root->simple_rte_array[i]->rtekind == RTE_RELATION)
			result = bms_add_member(result, i);
	return result;
}

/*
 * Is the query that is being planned the one that a view of a rollup holds,
 * and a join?  It is answered from the rollup whatever the settings say.
 */
Oid
sc_join_view(PlannerInfo *root)
{
	RangeTblEntry *rte = root->parse->rtable ? linitial(root->parse->rtable) : NULL;
	ScSpec	   *spec;
	Oid			view = InvalidOid;

	if (rte == NULL || rte->rtekind != RTE_RELATION || rte->relkind != RELKIND_VIEW ||
		rte->eref == NULL || strcmp(rte->eref->aliasname, "old") != 0)
		return InvalidOid;
	spec = sc_spec_by_view(rte->relid);
	if (spec == NULL)
		return InvalidOid;
	if (spec->joined)
		view = spec->view;
	sc_spec_release(spec);
	return view;
}
