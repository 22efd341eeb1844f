/*
 * join.c: rollups whose query joins a table with others.
 *
 * Storage is kept for one of the tables, the source, alone: grouped by all
 * that the query reads of a row of it outside its aggregates, join columns
 * included.  The other tables are joined with these groups when the rollup is
 * read (rewrite_join.c), in the reader's snapshot.  So a change of another
 * table writes nothing, and concurrent changes of several tables have no cross
 * term that one could miss.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_class.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_oper.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "storage/bufmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "rollup/rollup.h"

static void
refuse(const char *what, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("rollup query has %s", what),
			 errdetail("%s", detail),
			 errhint("%s", hint)));
}

/* Does the query read more than one item of FROM? */
bool
sc_query_joins(Query *query)
{
	return list_length(query->jointree->fromlist) > 1 ||
		(query->jointree->fromlist != NIL &&
		 IsA(linitial(query->jointree->fromlist), JoinExpr));
}

/* ---- which table is the source ---- */

/*
 * Range table indexes in the order of FROM: all, and those whose rows are in
 * the join as they are, never as a row of nulls.
 */
static void
collect_tables(Node *jtnode, bool preserved, List **all, List **candidates)
{
	ListCell   *lc;

	if (IsA(jtnode, RangeTblRef))
	{
		*all = lappend_int(*all, ((RangeTblRef *) jtnode)->rtindex);
		if (preserved)
			*candidates = lappend_int(*candidates, ((RangeTblRef *) jtnode)->rtindex);
	}
	else if (IsA(jtnode, FromExpr))
		foreach(lc, ((FromExpr *) jtnode)->fromlist)
			collect_tables(lfirst(lc), preserved, all, candidates);
	else if (IsA(jtnode, JoinExpr))
	{
		JoinExpr   *j = (JoinExpr *) jtnode;

		collect_tables(j->larg, preserved && (j->jointype == JOIN_INNER || j->jointype == JOIN_LEFT),
					   all, candidates);
		collect_tables(j->rarg, preserved && (j->jointype == JOIN_INNER || j->jointype == JOIN_RIGHT),
					   all, candidates);
	}
}

/* Items of FROM whose rows are in the join as they are. */
List *
sc_join_candidates(Query *query)
{
	List	   *all = NIL;
	List	   *candidates = NIL;

	collect_tables((Node *) query->jointree, true, &all, &candidates);
	return candidates;
}

static bool
collect_arguments(Node *node, List **args)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
	{
		*args = lappend(*args, ((Aggref *) node)->args);
		return false;
	}
	return expression_tree_walker(node, collect_arguments, args);
}

/* Tables of the list whose columns are aggregated. */
static List *
aggregated(Query *query, List *tables)
{
	List	   *args = NIL;
	List	   *result = NIL;
	Relids		varnos;
	ListCell   *lc;

	collect_arguments((Node *) query->targetList, &args);
	collect_arguments(query->havingQual, &args);
	varnos = pull_varnos(NULL, flatten_join_alias_vars(query, (Node *) args));
	foreach(lc, tables)
		if (bms_is_member(lfirst_int(lc), varnos))
			result = lappend_int(result, lfirst_int(lc));
	return result;
}

/* How many of the tables a table references, and its size. */
static void
weigh(Query *query, Index varno, List *all, int *references, double *size)
{
	Relation	rel = table_open(rt_fetch(varno, query->rtable)->relid, AccessShareLock);
	ListCell   *lc;
	ListCell   *l2;

	*references = 0;
	foreach(lc, RelationGetFKeyList(rel))
		foreach(l2, all)
			if (rt_fetch(lfirst_int(l2), query->rtable)->relid ==
				((ForeignKeyCacheInfo *) lfirst(lc))->confrelid)
				(*references)++;
	*size = RELKIND_HAS_STORAGE(rel->rd_rel->relkind) ?
		RelationGetNumberOfBlocks(rel) : rel->rd_rel->reltuples;
	table_close(rel, NoLock);
}

/*
 * The source: of the tables that are aggregated (else of all) the one that
 * references most others, then the largest, then the first.  One that was
 * chosen before stays; 0 if there is none.
 */
static Index
choose_source(Query *query, Oid chosen)
{
	List	   *all = NIL;
	List	   *candidates = NIL;
	List	   *preferred;
	ListCell   *lc;
	Index		best = 0;
	int			references = 0;
	double		size = 0;

	collect_tables((Node *) query->jointree, true, &all, &candidates);
	preferred = aggregated(query, candidates);
	if (OidIsValid(chosen))
	{
		foreach(lc, list_concat(preferred, candidates))
			if (rt_fetch(lfirst_int(lc), query->rtable)->relid == chosen)
				return lfirst_int(lc);
		return 0;
	}
	foreach(lc, preferred ? preferred : candidates)
	{
		RangeTblEntry *rte = rt_fetch(lfirst_int(lc), query->rtable);
		int			r;
		double		s;

		if (rte->rtekind != RTE_RELATION ||
			(rte->relkind != RELKIND_RELATION && rte->relkind != RELKIND_PARTITIONED_TABLE))
			continue;
		weigh(query, lfirst_int(lc), all, &r, &s);
		if (best == 0 || r > references || (r == references && s > size))
		{
			best = lfirst_int(lc);
			references = r;
			size = s;
		}
	}
	return best;
}

/* The table that storage is kept for, or NULL. */
RangeTblEntry *
sc_join_source(Query *query)
{
	Index		varno = choose_source(query, InvalidOid);

	return varno ? rt_fetch(varno, query->rtable) : NULL;
}

/* ---- the source's own query ---- */

typedef struct FactContext
{
	Index		varno;
	bool		strict;			/* raise errors */
	List	   *keys;			/* of Expr */
	List	   *aggs;			/* of Aggref */
	List	   *quals;
	bool		failed;
} FactContext;

static bool
of_source(FactContext *cxt, Node *node)
{
	return bms_is_subset(pull_varnos(NULL, node), bms_make_singleton(cxt->varno));
}

static bool
reads_source(FactContext *cxt, Node *node)
{
	return bms_is_member(cxt->varno, pull_varnos(NULL, node));
}

/*
 * Group by an expression of the source.  If equal values of it can look
 * different, where they go into others, its columns are better.
 */
static void
add_key(FactContext *cxt, Node *expr)
{
	List	   *vars = list_make1(expr);
	bool		blunt = false;
	ListCell   *lc;

	if (!sc_expr_is_sharp((Expr *) expr))
	{
		vars = pull_var_clause(expr, 0);
		foreach(lc, vars)
			if (!sc_expr_is_sharp(lfirst(lc)))
				blunt = true;
		if (blunt)
			vars = list_make1(expr);
	}
	foreach(lc, vars)
		cxt->keys = list_append_unique(cxt->keys, lfirst(lc));
}

/* The largest parts of node that read the source and nothing else. */
static bool
collect_keys(Node *node, FactContext *cxt)
{
	if (node == NULL || !reads_source(cxt, node))
		return false;
	if (!IsA(node, List) && !IsA(node, TargetEntry) && of_source(cxt, node))
	{
		add_key(cxt, node);
		return false;
	}
	return expression_tree_walker(node, collect_keys, cxt);
}

static void
collect_group_keys(FactContext *cxt, Query *query)
{
	ListCell   *lc;

	foreach(lc, query->groupClause)
	{
		Node	   *expr = get_sortgroupclause_expr(lfirst(lc), query->targetList);

		if (reads_source(cxt, expr) && of_source(cxt, expr))
			cxt->keys = list_append_unique(cxt->keys, expr);
		else
			collect_keys(expr, cxt);
	}
}

static void
add_aggregate(FactContext *cxt, Aggref *agg)
{
	ScStateDef	def;
	Aggref	   *bare = copyObject(agg);

	sc_state_classify(agg, &def);
	if (def.kind == SC_STATE_RECOMPUTE || agg->aggorder != NIL ||
		agg->aggkind != AGGKIND_NORMAL)
	{
		cxt->failed = true;
		if (cxt->strict)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("rollup query calls aggregate \"%s\" in a join",
							get_func_name(agg->aggfnoid)),
					 errdetail("It cannot be added up from parts, and the rows of a join are counted in groups."),
					 errhint("Leave it out, or make a rollup of one table.")));
		return;
	}
	if (def.kind == SC_STATE_DISTINCT || !of_source(cxt, (Node *) agg->args))
	{
		collect_keys((Node *) agg->args, cxt);
		collect_keys((Node *) agg->aggfilter, cxt);
		return;
	}
	if (!of_source(cxt, (Node *) agg->aggfilter))
	{
		collect_keys((Node *) agg->aggfilter, cxt);
		bare->aggfilter = NULL;
	}
	/* Rows are counted anyway. */
	if (bare->args == NIL && bare->aggfilter == NULL)
		return;
	cxt->aggs = list_append_unique(cxt->aggs, bare);
}

static bool
collect_aggregates(Node *node, FactContext *cxt)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
	{
		add_aggregate(cxt, (Aggref *) node);
		return false;
	}
	return expression_tree_walker(node, collect_aggregates, cxt);
}

static void
collect_quals(FactContext *cxt, Node *quals, bool filter)
{
	ListCell   *lc;

	foreach(lc, make_ands_implicit((Expr *) quals))
	{
		Node	   *qual = lfirst(lc);

		if (filter && reads_source(cxt, qual) && of_source(cxt, qual))
			cxt->quals = lappend(cxt->quals, qual);
		else
			collect_keys(qual, cxt);
	}
}

/* Conditions of the joins; filter: a row that fails one is not in the join. */
static void
collect_conditions(FactContext *cxt, Node *jtnode, bool filter)
{
	ListCell   *lc;

	if (IsA(jtnode, FromExpr))
	{
		foreach(lc, ((FromExpr *) jtnode)->fromlist)
			collect_conditions(cxt, lfirst(lc), filter);
		collect_quals(cxt, ((FromExpr *) jtnode)->quals, filter);
	}
	else if (IsA(jtnode, JoinExpr))
	{
		JoinExpr   *j = (JoinExpr *) jtnode;
		bool		inner = j->jointype == JOIN_INNER;

		collect_conditions(cxt, j->larg, filter && (inner || j->jointype == JOIN_LEFT));
		collect_conditions(cxt, j->rarg, filter && (inner || j->jointype == JOIN_RIGHT));
		collect_quals(cxt, j->quals, filter && inner);
	}
}

static Query *
build_query(Query *query, FactContext *cxt)
{
	Query	   *fact = makeNode(Query);
	RangeTblRef *ref = makeNode(RangeTblRef);
	ListCell   *lc;
	int			n = 0;

	ref->rtindex = 1;
	fact->commandType = CMD_SELECT;
	fact->canSetTag = true;
	fact->rtable = list_make1(copyObject(rt_fetch(cxt->varno, query->rtable)));
	fact->jointree = makeFromExpr(list_make1(ref), cxt->quals ?
								  (Node *) make_ands_explicit(copyObject(cxt->quals)) : NULL);
	foreach(lc, cxt->keys)
	{
		TargetEntry *tle = makeTargetEntry(copyObject(lfirst(lc)), n + 1,
										   psprintf("k%d", n + 1), false);
		SortGroupClause *sgc = makeNode(SortGroupClause);

		tle->ressortgroupref = sgc->tleSortGroupRef = ++n;
		get_sort_group_operators(exprType(lfirst(lc)), false, cxt->strict, false,
								 &sgc->sortop, &sgc->eqop, NULL, &sgc->hashable);
		if (!OidIsValid(sgc->eqop))
			return NULL;
		fact->targetList = lappend(fact->targetList, tle);
		fact->groupClause = lappend(fact->groupClause, sgc);
	}
	foreach(lc, cxt->aggs)
	{
		n++;
		fact->targetList = lappend(fact->targetList,
								   makeTargetEntry(copyObject(lfirst(lc)), n,
												   psprintf("a%d", n), false));
	}
	fact->hasAggs = cxt->aggs != NIL;
	if (cxt->varno != 1)
	{
		ChangeVarNodes((Node *) fact->targetList, cxt->varno, 1, 0);
		ChangeVarNodes(fact->jointree->quals, cxt->varno, 1, 0);
	}
	return fact;
}

/* A copy of a joining query that does not refer to the joins themselves. */
Query *
sc_join_flatten(Query *query)
{
	query = copyObject(query);
	query->targetList = (List *) flatten_join_alias_vars(query, (Node *) query->targetList);
	query->havingQual = flatten_join_alias_vars(query, query->havingQual);
	query->jointree = (FromExpr *) flatten_join_alias_vars(query, (Node *) query->jointree);
	return query;
}

/* The source's place in the range table. */
Index
sc_join_fact(Query *query, Oid source)
{
	return choose_source(query, source);
}

/*
 * What the storage of a joining query holds, as a query of its source alone;
 * NULL if there is none, or an error if strict.
 */
Query *
sc_join_query(Query *query, Oid source, bool strict)
{
	FactContext cxt = {0};

	cxt.varno = choose_source(query, source);
	cxt.strict = strict;
	if (cxt.varno == 0)
		return NULL;
	query = sc_join_flatten(query);
	collect_conditions(&cxt, (Node *) query->jointree, true);
	collect_group_keys(&cxt, query);
	collect_aggregates((Node *) query->targetList, &cxt);
	collect_aggregates(query->havingQual, &cxt);
	if (cxt.failed)
		return NULL;
	if (strict && cxt.keys == NIL && cxt.aggs == NIL)
		refuse("nothing of the table whose rows it would count",
			   "No column of it is grouped by, aggregated or compared with another table's.",
			   "Join it by one of its columns.");
	if (strict && list_length(cxt.keys) > INDEX_MAX_KEYS)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_COLUMNS),
				 errmsg("rollup query has more than %d group keys", INDEX_MAX_KEYS),
				 errdetail("It reads %d columns and expressions of \"%s\" outside aggregates.",
						   list_length(cxt.keys),
						   get_rel_name(rt_fetch(cxt.varno, query->rtable)->relid)),
				 errhint("Group by fewer expressions.")));
	return build_query(query, &cxt);
}

/* ---- what is refused ---- */

static void
check_entry(RangeTblEntry *rte)
{
	const char *detail = "A rollup joins tables.";

	if (rte->tablesample)
		refuse("TABLESAMPLE", "Its rows are others each time.", "Leave it out.");
	if (rte->lateral)
		refuse("a LATERAL item", detail, "Join tables.");
	if (rte->rtekind == RTE_SUBQUERY)
		refuse("a subquery in FROM", detail, "Join the tables themselves, or a view that selects from them.");
	if (rte->rtekind == RTE_RELATION &&
		get_rel_persistence(rte->relid) == RELPERSISTENCE_TEMP)
		refuse("a temporary table", "Others write to the other tables, and could not read it.",
			   "Join permanent tables.");
	if (rte->rtekind != RTE_RELATION && rte->rtekind != RTE_VALUES &&
		rte->rtekind != RTE_JOIN)
		refuse("something else than tables in FROM", detail, "Join tables.");
}

/* Refuse a joining query that cannot be a rollup; returns the source. */
RangeTblEntry *
sc_join_check(Query *query)
{
	Index		varno;
	ListCell   *lc;

	foreach(lc, query->rtable)
		check_entry(lfirst(lc));
	varno = choose_source(query, InvalidOid);
	if (varno == 0)
		refuse("no table that every row of the join comes from",
			   "In a FULL JOIN, and on the nullable side of another outer join, rows of nulls stand for rows that are missing.",
			   "Put the table that is aggregated on the left of LEFT JOIN, or use an inner join.");
	if (aggregated(query, list_make1_int(varno)) == NIL)
	{
		List	   *all = NIL;
		List	   *candidates = NIL;

		collect_tables((Node *) query->jointree, true, &all, &candidates);
		if (aggregated(query, all) != NIL)
			refuse("aggregates of tables on the nullable side of an outer join only",
				   "In a FULL JOIN, and on the nullable side of another outer join, rows of nulls stand for rows that are missing.",
				   "Put the table that is aggregated on the left of LEFT JOIN, or use an inner join.");
	}
	(void) ExecCheckRTPerms(query->rtable, true);
	(void) sc_join_query(query, rt_fetch(varno, query->rtable)->relid, true);
	return rt_fetch(varno, query->rtable);
}

/* ---- the join of other rows than the source's ---- */

/* The tables in FROM beside that one, each once, in the order they come. */
List *
sc_join_tables(Query *query, Index fact)
{
	List	   *all = NIL;
	List	   *candidates = NIL;
	List	   *relids = NIL;
	ListCell   *lc;

	collect_tables((Node *) query->jointree, true, &all, &candidates);
	foreach(lc, all)
	{
		RangeTblEntry *rte = rt_fetch(lfirst_int(lc), query->rtable);

		if (lfirst_int(lc) != fact && rte->rtekind == RTE_RELATION)
			relids = list_append_unique_oid(relids, rte->relid);
	}
	return relids;
}

static int
compare_columns(const ListCell *a, const ListCell *b)
{
	return ((Var *) lfirst(a))->varattno - ((Var *) lfirst(b))->varattno;
}

/*
 * The columns of a table that a joining query reads, in order, with varno 1.
 * *rte is an entry of it, or NULL.
 */
List *
sc_join_columns(Query *query, Oid relid, RangeTblEntry **rte)
{
	List	   *vars;
	List	   *columns = NIL;
	ListCell   *lc;

	query = sc_join_flatten(query);
	vars = pull_var_clause((Node *) list_make3(query->targetList, query->havingQual,
											   query->jointree),
						   PVC_RECURSE_AGGREGATES);
	*rte = NULL;
	foreach(lc, vars)
	{
		Var		   *var = copyObject(lfirst(lc));

		if (rt_fetch(var->varno, query->rtable)->rtekind != RTE_RELATION ||
			rt_fetch(var->varno, query->rtable)->relid != relid)
			continue;
		var->varno = var->varnosyn = 1;
		var->varattnosyn = var->varattno;
		var->location = -1;
		columns = list_append_unique(columns, var);
	}
	foreach(lc, query->rtable)
		if (lfirst_node(RangeTblEntry, lc)->rtekind == RTE_RELATION &&
			lfirst_node(RangeTblEntry, lc)->relid == relid)
			*rte = lfirst(lc);
	list_sort(columns, compare_columns);
	return columns;
}

typedef struct ReplaceContext
{
	Index		varno;
	List	   *exprs;			/* what becomes column 1, 2, ... of varno */
	bool		failed;			/* something else of it is read */
} ReplaceContext;

static Node *
replace_exprs(Node *node, ReplaceContext *cxt)
{
	int			n = 0;
	ListCell   *lc;

	if (node == NULL)
		return NULL;
	foreach(lc, cxt->exprs)
	{
		n++;
		if (equal(node, lfirst(lc)))
			return (Node *) makeVar(cxt->varno, n, exprType(node), exprTypmod(node),
									exprCollation(node), 0);
	}
	if (IsA(node, Var) && ((Var *) node)->varno == cxt->varno)
		cxt->failed = true;
	return expression_tree_mutator(node, replace_exprs, cxt);
}

/* Drop what collect_quals takes for the source's own conditions. */
static Node *
strip_quals(FactContext *cxt, Node *quals, bool filter)
{
	List	   *rest = NIL;
	ListCell   *lc;

	foreach(lc, make_ands_implicit((Expr *) quals))
		if (!(filter && reads_source(cxt, lfirst(lc)) && of_source(cxt, lfirst(lc))))
			rest = lappend(rest, lfirst(lc));
	return rest ? (Node *) make_ands_explicit(rest) : NULL;
}

static void
strip_conditions(FactContext *cxt, Node *jtnode, bool filter)
{
	ListCell   *lc;

	if (IsA(jtnode, FromExpr))
	{
		foreach(lc, ((FromExpr *) jtnode)->fromlist)
			strip_conditions(cxt, lfirst(lc), filter);
		((FromExpr *) jtnode)->quals = strip_quals(cxt, ((FromExpr *) jtnode)->quals, filter);
	}
	else if (IsA(jtnode, JoinExpr))
	{
		JoinExpr   *j = (JoinExpr *) jtnode;
		bool		inner = j->jointype == JOIN_INNER;

		strip_conditions(cxt, j->larg, filter && (inner || j->jointype == JOIN_LEFT));
		strip_conditions(cxt, j->rarg, filter && (inner || j->jointype == JOIN_RIGHT));
		j->quals = strip_quals(cxt, j->quals, filter && inner);
	}
}

/*
 * Let other rows take the place of an entry of a joining query that is a plain
 * SELECT: those have spec's keys as their first columns.  False: the query
 * reads more of it.
 */
bool
sc_join_replace(Query *query, Index varno, ScSpec *spec)
{
	ReplaceContext cxt = {varno, NIL, false};
	FactContext fact = {.varno = varno};

	for (int i = 0; i < spec->nkeys; i++)
	{
		Node	   *expr = copyObject((Node *) spec->keys[i].expr);

		ChangeVarNodes(expr, 1, varno, 0);
		cxt.exprs = lappend(cxt.exprs, expr);
	}
	if (spec->part == 0)
		strip_conditions(&fact, (Node *) query->jointree, true);
	query->targetList = (List *) replace_exprs((Node *) query->targetList, &cxt);
	query->jointree = (FromExpr *) replace_exprs((Node *) query->jointree, &cxt);
	return !cxt.failed;
}
