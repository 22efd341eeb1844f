/*
 * suggest_join.c: queries of joined tables, for suggest.c.
 *
 * Queries that join the same tables by the same conditions are to be seen as
 * such, however they say it.  So the tables are numbered in the order of their
 * OIDs, all conditions are in one list, and equalities have the table that
 * comes first on their left.
 */
#include "postgres.h"

#include "access/transam.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "parser/parse_oper.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"

#include "base/guc.h"
#include "rollup/rewrite.h"

/* Tables joined by inner joins only, and all conditions. */
static bool
collect_product(Query *query, Node *jtnode, List **varnos, List **quals)
{
	ListCell   *lc;

	if (IsA(jtnode, RangeTblRef))
	{
		int			varno = ((RangeTblRef *) jtnode)->rtindex;
		RangeTblEntry *rte = rt_fetch(varno, query->rtable);

		*varnos = lappend_int(*varnos, varno);
		return rte->rtekind == RTE_RELATION && rte->tablesample == NULL &&
			rte->relid >= FirstNormalObjectId && rte->securityQuals == NIL &&
			((rte->relkind == RELKIND_RELATION && rte->inh) ||
			 (rte->relkind == RELKIND_PARTITIONED_TABLE && rte->inh));
	}
	if (IsA(jtnode, JoinExpr))
	{
		JoinExpr   *j = (JoinExpr *) jtnode;

		if (j->jointype != JOIN_INNER ||
			!collect_product(query, j->larg, varnos, quals) ||
			!collect_product(query, j->rarg, varnos, quals))
			return false;
		*quals = list_concat(*quals, make_ands_implicit((Expr *) j->quals));
		return true;
	}
	foreach(lc, castNode(FromExpr, jtnode)->fromlist)
		if (!collect_product(query, lfirst(lc), varnos, quals))
			return false;
	*quals = list_concat(*quals,
						 make_ands_implicit((Expr *) ((FromExpr *) jtnode)->quals));
	return true;
}

/* The smallest number of a table that is read; 0 if none is. */
static int
first_table(Node *expr)
{
	Relids		varnos = pull_varnos(NULL, expr);

	return bms_is_empty(varnos) ? 0 : bms_next_member(varnos, -1);
}

static void
turn_equality(OpExpr *op)
{
	if (IsA(op, OpExpr) && list_length(op->args) == 2 &&
		OidIsValid(get_commutator(op->opno)) &&
		first_table(linitial(op->args)) > first_table(lsecond(op->args)))
		CommuteOpExpr(op);
}

/*
 * A copy of a query that joins tables, whose expressions number them as
 * *entries does; its FROM is not to be looked at.  NULL if it joins something
 * else, or otherwise.
 */
Query *
sc_suggest_flatten(Query *query, List **entries, List **quals)
{
	List	   *varnos = NIL;
	List	   *sorted = NIL;
	int			n = 0;
	ListCell   *lc;

	*entries = *quals = NIL;
	query = sc_join_flatten(query);
	if (!collect_product(query, (Node *) query->jointree, &varnos, quals))
		return NULL;
	/* By OID; a table that is there twice, in the order of FROM. */
	while (varnos)
	{
		int			best = linitial_int(varnos);

		foreach(lc, varnos)
			if (rt_fetch(lfirst_int(lc), query->rtable)->relid <
				rt_fetch(best, query->rtable)->relid)
				best = lfirst_int(lc);
		sorted = lappend_int(sorted, best);
		varnos = list_delete_int(varnos, best);
	}
	/* Out of the way of the new numbers. */
	OffsetVarNodes((Node *) query->targetList, list_length(query->rtable), 0);
	OffsetVarNodes(query->havingQual, list_length(query->rtable), 0);
	OffsetVarNodes((Node *) *quals, list_length(query->rtable), 0);
	foreach(lc, sorted)
	{
		int			old = lfirst_int(lc) + list_length(query->rtable);

		*entries = lappend(*entries, rt_fetch(lfirst_int(lc), query->rtable));
		n++;
		ChangeVarNodes((Node *) query->targetList, old, n, 0);
		ChangeVarNodes(query->havingQual, old, n, 0);
		ChangeVarNodes((Node *) *quals, old, n, 0);
	}
	foreach(lc, *quals)
		turn_equality(lfirst(lc));
	return query;
}

/* Does the condition join tables? */
bool
sc_suggest_joins(Node *qual)
{
	return bms_membership(pull_varnos(NULL, qual)) == BMS_MULTIPLE;
}

bool
sc_suggest_same_join(List *entries1, List *quals1, List *entries2, List *quals2)
{
	if (list_length(entries1) != list_length(entries2))
		return false;
	for (int i = 0; i < list_length(entries1); i++)
		if (list_nth_node(RangeTblEntry, entries1, i)->relid !=
			list_nth_node(RangeTblEntry, entries2, i)->relid)
			return false;
	return list_difference(quals1, quals2) == NIL && list_difference(quals2, quals1) == NIL;
}

/*
 * The query that selects from the join, grouped by the first nkeys of exprs;
 * names may be NIL.  NULL: it cannot be grouped so.
 */
Query *
sc_suggest_query(List *entries, List *quals, List *exprs, int nkeys, List *names)
{
	Query	   *query = makeNode(Query);
	List	   *from = NIL;
	int			n = 0;
	ListCell   *lc;

	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	query->rtable = copyObject(entries);
	for (int i = 1; i <= list_length(entries); i++)
	{
		RangeTblRef *ref = makeNode(RangeTblRef);

		ref->rtindex = i;
		from = lappend(from, ref);
	}
	query->jointree = makeFromExpr(from, quals ? (Node *) make_ands_explicit(copyObject(quals)) : NULL);
	foreach(lc, exprs)
	{
		TargetEntry *tle = makeTargetEntry(copyObject(lfirst(lc)), n + 1,
										   names ? list_nth(names, n) : NULL, false);

		n++;
		query->targetList = lappend(query->targetList, tle);
		if (n <= nkeys)
		{
			SortGroupClause *sgc = makeNode(SortGroupClause);

			tle->ressortgroupref = sgc->tleSortGroupRef = n;
			get_sort_group_operators(exprType(lfirst(lc)), false, false, false,
									 &sgc->sortop, &sgc->eqop, NULL, &sgc->hashable);
			if (!OidIsValid(sgc->eqop))
				return NULL;
			query->groupClause = lappend(query->groupClause, sgc);
		}
	}
	query->hasAggs = contain_aggs_of_level((Node *) query->targetList, 0);
	return query;
}

/* Its text, with all names qualified: whatever the search_path of the reader. */
char *
sc_suggest_text(Query *query)
{
	int			nest = sc_fixed_path_begin();
	char	   *text = pg_get_querydef(query, false);

	AtEOXact_GUC(false, nest);
	return text;
}
