/*
 * pullup.c: rollups from views, and from other rollups.
 *
 * A view that selects from one table is replaced by the table when a rollup
 * is created, with the view's expressions and condition in the query.  So is
 * one that groups, a rollup's above all, if the query adds up what the view
 * aggregates: sums of sums and of counts, extremes of extremes.  The rollup
 * is then one of the table, exact by itself, and depends on the view like a
 * view made from it.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_coerce.h"
#include "parser/parse_relation.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "rewrite/rewriteManip.h"
#include "rewrite/rewriteSupport.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "rollup/rollup.h"

typedef struct PullContext
{
	Query	   *query;
	Query	   *view;
	Index		varno;			/* of the view in the query */
	const char *name;
} PullContext;

static void
refuse(PullContext *cxt, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("rollup query %s \"%s\"", what, cxt->name),
			 errdetail("That view groups, and a rollup of it can only group further: sums of sums and counts, extremes of extremes."),
			 errhint("Select from the table that the view reads.")));
}

/* May the view's query go into another, by its form? */
static bool
is_simple(Query *view)
{
	RangeTblEntry *rte;

	if (view->commandType != CMD_SELECT || view->setOperations || view->cteList ||
		view->hasWindowFuncs || view->hasTargetSRFs || view->hasSubLinks ||
		view->distinctClause || view->sortClause || view->limitCount ||
		view->limitOffset || view->groupingSets || view->rowMarks ||
		view->havingQual || (view->hasAggs && view->groupClause == NIL) ||
		list_length(view->jointree->fromlist) != 1 ||
		!IsA(linitial(view->jointree->fromlist), RangeTblRef) ||
		contain_volatile_functions((Node *) view->targetList))
		return false;
	rte = rt_fetch(linitial_node(RangeTblRef, view->jointree->fromlist)->rtindex,
				   view->rtable);
	return rte->rtekind == RTE_RELATION && rte->tablesample == NULL &&
		rte->securityQuals == NIL && pg_class_ownercheck(rte->relid, GetUserId());
}

static Expr *
column_of_view(PullContext *cxt, Node *node)
{
	Var		   *var = (Var *) node;

	if (!IsA(var, Var) || var->varno != cxt->varno || var->varattno <= 0)
		return NULL;
	return get_tle_by_resno(cxt->view->targetList, var->varattno)->expr;
}

/* The view's aggregate that does what the query's does with its column. */
static Node *
add_up(PullContext *cxt, Aggref *outer)
{
	Aggref	   *inner;
	bool		sums;

	if (list_length(outer->args) != 1 || outer->aggfilter || outer->aggorder ||
		outer->aggdistinct || outer->aggkind != AGGKIND_NORMAL)
		return NULL;
	inner = (Aggref *) column_of_view(cxt, (Node *) ((TargetEntry *) linitial(outer->args))->expr);
	if (inner == NULL || !IsA(inner, Aggref) || inner->aggkind != AGGKIND_NORMAL)
		return NULL;
	switch (outer->aggfnoid)
	{
		case F_SUM_INT8:
		case F_SUM_NUMERIC:
			sums = inner->aggfnoid == F_SUM_INT2 || inner->aggfnoid == F_SUM_INT4 ||
				inner->aggfnoid == F_SUM_INT8 || inner->aggfnoid == F_SUM_NUMERIC ||
				((inner->aggfnoid == F_COUNT_ || inner->aggfnoid == F_COUNT_ANY) &&
				 cxt->query->groupClause != NIL);
			/* Values that are summed once are not summed again. */
			if (!sums || inner->aggdistinct)
				return NULL;
			return coerce_to_target_type(NULL, (Node *) copyObject(inner), inner->aggtype,
										 outer->aggtype, -1, COERCION_EXPLICIT,
										 COERCE_EXPLICIT_CAST, -1);
		default:
			{
				ScStateDef	def;

				sc_state_classify(inner, &def);
				if (inner->aggfnoid == outer->aggfnoid && inner->aggtype == outer->aggtype &&
					inner->inputcollid == outer->inputcollid &&
					(def.kind == SC_STATE_EXTREME || def.kind == SC_STATE_BOOL))
					return (Node *) copyObject(inner);
				return NULL;
			}
	}
}

static Node *
replace_aggregates(Node *node, PullContext *cxt)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Aggref))
	{
		Node	   *sum = add_up(cxt, (Aggref *) node);

		if (sum == NULL)
			refuse(cxt, "has an aggregate that does not follow from those of");
		return sum;
	}
	return expression_tree_mutator(node, replace_aggregates, cxt);
}

/* Does anything outside aggregates read a column that the view aggregates? */
static bool
reads_aggregate(Node *node, PullContext *cxt)
{
	Expr	   *column;

	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
		return false;
	column = column_of_view(cxt, node);
	if (column)
		return contain_aggs_of_level((Node *) column, 0);
	return expression_tree_walker(node, reads_aggregate, cxt);
}

static void
regroup(PullContext *cxt)
{
	Query	   *query = cxt->query;

	if (sc_query_joins(query))
		refuse(cxt, "joins");
	if (reads_aggregate((Node *) query->targetList, cxt) ||
		reads_aggregate(query->havingQual, cxt) ||
		reads_aggregate(query->jointree->quals, cxt))
		refuse(cxt, "groups or selects by an aggregate of");
	query->targetList = (List *) replace_aggregates((Node *) query->targetList, cxt);
	query->havingQual = replace_aggregates(query->havingQual, cxt);
}

/* The columns of an item of FROM. */
static void
columns_of(Query *query, Node *jtnode, List **names, List **vars)
{
	Index		rtindex = IsA(jtnode, JoinExpr) ? ((JoinExpr *) jtnode)->rtindex :
		((RangeTblRef *) jtnode)->rtindex;

	expandRTE(rt_fetch(rtindex, query->rtable), rtindex, 0, -1, false, names, vars);
}

/* The numbers of the columns of an item of FROM. */
static List *
attnos_of(Node *jtnode, List *vars)
{
	List	   *attnos = NIL;
	ListCell   *lc;

	foreach(lc, vars)
		attnos = lappend_int(attnos, IsA(jtnode, JoinExpr) ? foreach_current_index(lc) + 1 :
							 lfirst_node(Var, lc)->varattno);
	return attnos;
}

/*
 * Joins number the columns of what they join, which has changed.  Nothing
 * refers to theirs any more.
 */
static void
renumber_joins(Query *query, Node *jtnode)
{
	JoinExpr   *j = (JoinExpr *) jtnode;
	RangeTblEntry *rte;
	List	   *names[2];
	List	   *vars[2];
	ListCell   *lc;

	if (IsA(jtnode, FromExpr))
		foreach(lc, ((FromExpr *) jtnode)->fromlist)
			renumber_joins(query, lfirst(lc));
	if (!IsA(jtnode, JoinExpr))
		return;
	renumber_joins(query, j->larg);
	renumber_joins(query, j->rarg);
	columns_of(query, j->larg, &names[0], &vars[0]);
	columns_of(query, j->rarg, &names[1], &vars[1]);
	rte = rt_fetch(j->rtindex, query->rtable);
	rte->joinmergedcols = 0;
	rte->joinleftcols = attnos_of(j->larg, vars[0]);
	rte->joinrightcols = attnos_of(j->rarg, vars[1]);
	rte->joinaliasvars = list_concat(vars[0], vars[1]);
	rte->alias = j->alias = rte->join_using_alias = j->join_using_alias = NULL;
	rte->eref = makeAlias(rte->eref->aliasname, list_concat(names[0], names[1]));
	j->usingClause = NIL;
	j->isNatural = false;
}

/* Let nothing refer to joins' columns, which are others' anyway. */
static void
flatten_joins(Query *query)
{
	query->targetList = (List *) flatten_join_alias_vars(query, (Node *) query->targetList);
	query->havingQual = flatten_join_alias_vars(query, query->havingQual);
	query->jointree = (FromExpr *) flatten_join_alias_vars(query, (Node *) query->jointree);
}

/* Columns are called by what they are, not by a join that had a name. */
static bool
forget_names(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		((Var *) node)->varnosyn = ((Var *) node)->varno;
		((Var *) node)->varattnosyn = ((Var *) node)->varattno;
	}
	return expression_tree_walker(node, forget_names, context);
}

/* Put the view's table into the view's place. */
static Query *
replace_view(PullContext *cxt)
{
	Query	   *query = cxt->query;
	Query	   *view = cxt->view;
	RangeTblEntry *rte = rt_fetch(cxt->varno, query->rtable);
	Index		inner = linitial_node(RangeTblRef, view->jointree->fromlist)->rtindex;
	RangeTblEntry *table = copyObject(rt_fetch(inner, view->rtable));
	Index		fresh = list_length(query->rtable) + list_length(view->rtable) + 1;
	List	   *columns = view->targetList;
	Node	   *quals = view->jointree->quals;

	/* Not the view's number yet, which its columns have. */
	ChangeVarNodes((Node *) columns, inner, fresh, 0);
	ChangeVarNodes(quals, inner, fresh, 0);
	flatten_joins(query);
	if (view->groupClause != NIL)
		regroup(cxt);
	query = (Query *) ReplaceVarsFromTargetList((Node *) query, cxt->varno, 0, rte, columns,
												REPLACEVARS_REPORT_ERROR, 0, NULL);
	table->alias = makeAlias(rte->eref->aliasname, NIL);
	table->eref = makeAlias(rte->eref->aliasname, table->eref->colnames);
	table->inFromCl = true;
	table->requiredPerms = ACL_SELECT;
	table->checkAsUser = InvalidOid;
	list_nth_cell(query->rtable, cxt->varno - 1)->ptr_value = table;
	if (quals)
		query->jointree->quals = (Node *)
			make_and_qual(query->jointree->quals, quals);
	ChangeVarNodes((Node *) query, fresh, cxt->varno, 0);
	renumber_joins(query, (Node *) query->jointree);
	(void) query_tree_walker(query, forget_names, NULL, 0);
	return query;
}

/*
 * The query with tables for views where that can be done; these are added to
 * *views.
 */
Query *
sc_pull_up_views(Query *query, List **views)
{
	ListCell   *lc;

	if (query->setOperations || query->jointree == NULL)
		return query;
	foreach(lc, sc_join_candidates(query))
	{
		PullContext cxt = {NULL, NULL, lfirst_int(lc), NULL};

		for (;;)
		{
			RangeTblEntry *rte = rt_fetch(cxt.varno, query->rtable);
			Relation	rel;

			check_stack_depth();
			if (rte->rtekind != RTE_RELATION || rte->relkind != RELKIND_VIEW)
				break;
			rel = table_open(rte->relid, AccessShareLock);
			cxt.query = query;
			cxt.view = RelationIsSecurityView(rel) ? NULL : copyObject(get_view_query(rel));
			cxt.name = get_rel_name(rte->relid);
			table_close(rel, NoLock);
			if (cxt.view == NULL || !is_simple(cxt.view))
				break;
			(void) ExecCheckRTPerms(list_make1(rte), true);
			*views = list_append_unique_oid(*views, rte->relid);
			query = replace_view(&cxt);
		}
	}
	return query;
}
