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
#include "pgtime.h"
#include "storage/lmgr.h"
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
reads_source(ScMatch *m, Node *node)
{
	return bms_is_member(m->srcvarno, pull_varnos(m->root, node));
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
			if (m->rollupquals &&
				predicate_implied_by(list_make1(normal), m->rollupquals, false))
				continue;
		}
		derived = sc_match_derive(m, normal);
		if (derived == NULL && filter && sc_bucket_range(m, (OpExpr *) normal))
		{
			derived = llast(m->quals);
			if (m->ragged || m->edges || m->bounds)
				return sc_match_fail(m, psprintf("the range %s need not start and end with a bucket",
												 sc_match_text(m, normal)));
		}
		if (derived == NULL && !of_source(m, normal))
			return sc_match_fail(m, "a condition compares columns of its source that are not its group keys with other tables'");
		if (derived == NULL)
			return sc_match_fail(m, psprintf("the condition %s is not on its group keys, or cuts through groups",
											 sc_match_text(m, normal)));
		result = lappend(result, derived);
	}
	*quals = (Node *) result;
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
		RangeTblEntry *rte = m->root->simple_rte_array[ref->rtindex];

		if (ref->rtindex == m->srcvarno)
		{
			ref->rtindex = m->basevarno;
			cxt->found = true;
			return true;
		}
		if (rte->lateral || rte->tablesample ||
			(rte->rtekind != RTE_RELATION && rte->rtekind != RTE_VALUES &&
			 rte->rtekind != RTE_FUNCTION && rte->rtekind != RTE_RESULT))
			return sc_match_fail(m, "it is joined with a subquery, or with part of a table");
		if (rte->rtekind == RTE_FUNCTION &&
			(contain_volatile_functions((Node *) rte->functions) ||
			 contain_subplans((Node *) rte->functions)))
			return sc_match_fail(m, "the query calls a volatile function");
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
	if (m->rollupquals && !predicate_implied_by(m->rollupquals, cxt.filters, false))
		return sc_match_fail(m, psprintf("the query's rows need not satisfy the rollup's condition %s",
										 sc_match_text(m, (Node *) make_ands_explicit(m->rollupquals)))), NULL;
	return from;
}

/* ---- aggregates ---- */

static bool
add_item(ScMatch *m, ScJoinKind kind, int arg, Aggref *agg, Expr *filter,
		 List *args)
{
	ScJoinItem *item = palloc0(sizeof(ScJoinItem));

	item->kind = kind;
	item->arg = arg;
	item->expr = (Expr *) agg;
	item->filter = filter;
	item->args = args;
	m->joinitems = lappend(m->joinitems, item);
	return true;
}

/* From the rollup's states or row counts; false: there are none that fit. */
static bool
match_states(ScMatch *m, Aggref *agg, Aggref *normal, ScStateDef *def,
			 Expr *filter)
{
	Aggref	   *bare;
	int			slot;

	if (of_source(m, (Node *) normal->aggfilter) &&
		(slot = sc_match_slot(m, normal, def)) >= 0)
		return add_item(m, SC_JOIN_SLOT, slot, agg, NULL, NIL);
	if (normal->aggfilter && filter == NULL)
		return false;
	bare = copyObject(normal);
	bare->aggfilter = NULL;
	if (def->kind == SC_STATE_COUNT &&
		(bare->args == NIL ||
		 sc_match_never_null(m, ((TargetEntry *) linitial(bare->args))->expr)))
		return add_item(m, SC_JOIN_ROWS, 0, agg, filter, NIL);
	if ((slot = sc_match_slot(m, bare, def)) >= 0)
		return add_item(m, SC_JOIN_SLOT, slot, agg, filter, NIL);
	return false;
}

static bool
match_aggref(ScMatch *m, Aggref *agg)
{
	Aggref	   *normal = (Aggref *) sc_match_normalize(m, (Node *) agg);
	Expr	   *filter = NULL;
	List	   *args = NIL;
	ScStateDef	def;
	ListCell   *lc;

	foreach(lc, m->joinitems)
		if (equal(((ScJoinItem *) lfirst(lc))->expr, agg))
			return true;
	if (agg->agglevelsup > 0 || agg->aggsplit != AGGSPLIT_SIMPLE)
		return sc_match_fail(m, "an aggregate belongs to an outer query");
	if (contain_volatile_functions((Node *) agg->args) || contain_subplans((Node *) agg->args) ||
		contain_volatile_functions((Node *) agg->aggfilter) ||
		contain_subplans((Node *) agg->aggfilter))
		return sc_match_fail(m, "an aggregate's argument is volatile or a subquery");
	sc_state_classify(normal, &def);
	if (agg->aggorder != NIL || agg->aggkind != AGGKIND_NORMAL ||
		def.kind == SC_STATE_RECOMPUTE)
		return sc_match_fail(m, psprintf("%s cannot be added up from its groups",
										 sc_match_text(m, (Node *) normal)));
	if (normal->aggfilter)
		filter = sc_match_derive(m, (Node *) normal->aggfilter);
	if (def.kind != SC_STATE_DISTINCT && match_states(m, agg, normal, &def, filter))
		return true;
	if (normal->aggfilter == NULL || filter)
	{
		foreach(lc, sc_match_args(normal))
		{
			Expr	   *derived = sc_match_derive(m, lfirst(lc));

			if (derived == NULL)
				break;
			args = lappend(args, derived);
		}
		if (lc == NULL)
			return add_item(m, SC_JOIN_VALUE, 0, agg, filter, args);
	}
	return sc_match_fail(m, of_source(m, (Node *) normal) ?
						 psprintf("it does not keep %s", sc_match_text(m, (Node *) normal)) :
						 "an aggregate reads columns of its source that are not its group keys together with other tables'");
}

/* Collect the aggregates in node; true stops, at a failure. */
static bool
collect_items(Node *node, void *context)
{
	ScMatch    *m = context;

	if (node == NULL || sc_match_is_key(m, node))
		return false;
	if (IsA(node, Aggref))
		return !match_aggref(m, (Aggref *) node);
	if (IsA(node, SubPlan) || IsA(node, AlternativeSubPlan))
		return !sc_match_fail(m, "the query has a subquery in its output");
	if (IsA(node, Var) || IsA(node, PlaceHolderVar) || IsA(node, GroupingFunc))
		return !sc_match_fail(m, "the query returns something that is not a group key");
	return expression_tree_walker(node, collect_items, context);
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
	{
		ScJoinItem *item = lfirst(lc);

		exprs = lappend(exprs, item->filter);
		exprs = list_concat(exprs, item->args);
	}
	vars = list_concat_unique(vars, pull_var_clause((Node *) exprs,
													PVC_RECURSE_PLACEHOLDERS));
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

/* A planner state for this query's join alone, at the same query level. */
static PlannerInfo *
join_root(ScMatch *m, FromExpr *from, List *tlist)
{
	PlannerInfo *root = palloc(sizeof(PlannerInfo));
	Query	   *parse = makeNode(Query);

	memcpy(parse, m->root->parse, sizeof(Query));
	parse->jointree = from;
	parse->rtable = lappend(list_copy(parse->rtable), sc_base_entry(m->spec));
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

	memcpy(root, m->root, sizeof(PlannerInfo));
	root->parse = parse;
	root->processed_tlist = tlist;
	root->plan_params = NIL;
	root->outer_params = NULL;
	root->init_plans = NIL;
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
	memset(root->upper_rels, 0, sizeof(root->upper_rels));
	memset(root->upper_targets, 0, sizeof(root->upper_targets));
	return root;
}

/* The query's range table gets what the join's planning has added. */
static void
adopt_entries(PlannerInfo *root, PlannerInfo *from)
{
	int			n = list_length(root->parse->rtable);
	int			m = list_length(from->parse->rtable);

	root->parse->rtable = list_concat(root->parse->rtable,
									  list_copy_tail(from->parse->rtable, n));
	expand_planner_arrays(root, m - n);
	for (int i = n; i < m; i++)
		root->simple_rte_array[i + 1] = list_nth(from->parse->rtable, i);
	root->append_rel_list = list_concat(root->append_rel_list, from->append_rel_list);
}

/*
 * Match a query that joins the source, and plan the join with the rollup in
 * its place.  False, with a reason, if it cannot be answered.
 */
bool
sc_join_match(ScMatch *m, List *groupclause, List *tlist, List *outputs,
			  List *having)
{
	FromExpr   *from;
	List	   *keyitems = NIL;
	ListCell   *lc;
	int			i = 0;

	m->joined = true;
	if (m->root->parse->groupingSets)
		return sc_match_fail(m, "the query has grouping sets, and joins its source");
	sc_match_read(m);
	if ((from = match_from(m)) == NULL ||
		!sc_match_keys(m, groupclause, tlist))
		return false;
	if (contain_volatile_functions((Node *) outputs) ||
		contain_volatile_functions((Node *) having))
		return sc_match_fail(m, "the query calls a volatile function");
	if (collect_items((Node *) outputs, m) || collect_items((Node *) having, m))
		return false;
	if (m->guards != NIL)
		return sc_match_fail(m, "changes of the time zone's offset may split its groups");
	foreach(lc, m->qkeys)
	{
		ScJoinItem *item = palloc0(sizeof(ScJoinItem));

		item->kind = SC_JOIN_KEY;
		item->arg = i++;
		item->expr = ((ScQueryKey *) lfirst(lc))->expr;
		keyitems = lappend(keyitems, item);
	}
	m->joinitems = list_concat(keyitems, m->joinitems);
	m->from = from;
	return true;
}

/* The join's path; the base table is in the query's range table from now on. */
Path *
sc_join_path(ScMatch *m)
{
	RelOptInfo *rel;

	m->columns = join_columns(m);
	m->joinroot = join_root(m, m->from, m->columns);
	rel = query_planner(m->joinroot, no_pathkeys, NULL);
	adopt_entries(m->root, m->joinroot);
	return (Path *) create_projection_path(m->joinroot, rel, rel->cheapest_total_path,
										   create_pathtarget(m->joinroot, m->columns));
}

/*
 * What a row of the scan is: the join's columns, then the query's keys and
 * aggregates.  custom_exprs is over that.
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
	sc_key_exprs(m, &exprs, &ops);
	foreach(lc, m->joinitems)
	{
		ScJoinItem *item = lfirst(lc);

		columns = lappend(columns, makeTargetEntry(copyObject(item->expr),
												   list_length(columns) + 1, NULL, false));
		items = lappend_int(lappend_int(items, item->kind), item->arg);
		items = lappend_int(lappend_int(items, item->filter != NULL),
							list_length(item->args));
		if (item->filter)
			exprs = lappend(exprs, item->filter);
		exprs = list_concat(exprs, item->args);
	}
	cscan->scan.plan.targetlist = tlist;
	cscan->scan.plan.qual = having;
	cscan->scan.scanrelid = m->basevarno;
	cscan->flags = 0;
	cscan->custom_plans = lcons(create_plan(m->joinroot, path), custom_plans);
	cscan->custom_scan_tlist = columns;
	cscan->custom_exprs = exprs;
	/* Two Oids in the first list tell it from other scans: see scan.c. */
	cscan->custom_private = list_make5(list_make2_oid(m->view, m->view),
									   list_make2_int(list_length(m->columns),
													  list_length(m->qkeys)),
									   items, ops, shown);
	cscan->custom_private = lappend(cscan->custom_private, m->zoned ?
									list_make1(makeString(pstrdup(m->zone))) : NIL);
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
