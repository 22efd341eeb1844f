/*
 * rewrite_stored.c: a query that joins the tables of a rollup of a join,
 * answered from its stored groups.
 *
 * Where all joins are inner ones, a query's rows are those of the product of
 * its tables that satisfy all conditions, wherever they are written.  So if the
 * query joins the same tables, and its conditions imply the rollup's, then the
 * rollup's join has all its rows, and what other conditions there are can
 * be taken for the WHERE of a query of that join, as a table.  From there on it
 * is matched like any query of one table (rewrite_match.c), with the entries
 * of both range tables told apart.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"

#include "rollup/rewrite.h"
#include "rollup/stored.h"

typedef struct MapContext
{
	const int  *varmap;
} MapContext;

static Node *
map_vars(Node *node, MapContext *cxt)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varlevelsup == 0)
	{
		Var		   *var = copyObject((Var *) node);

		var->varno = var->varnosyn = cxt->varmap[var->varno];
		return (Node *) var;
	}
	return expression_tree_mutator(node, map_vars, cxt);
}

/* An expression of the rollup's query, as the query would say. */
Node *
sc_stored_as_query(ScMatch *m, void *expr)
{
	MapContext	cxt = {m->varmap};

	return map_vars(expr, &cxt);
}

/*
 * The tables and conditions of a FROM without outer joins; false if it has
 * some, or something else than tables.
 */
static bool
collect_product(Node *jtnode, List *rtable, List **varnos, List **quals)
{
	ListCell   *lc;
	Node	   *more;

	if (IsA(jtnode, RangeTblRef))
	{
		int			varno = ((RangeTblRef *) jtnode)->rtindex;

		*varnos = lappend_int(*varnos, varno);
		return rt_fetch(varno, rtable)->rtekind == RTE_RELATION;
	}
	if (IsA(jtnode, FromExpr))
	{
		foreach(lc, ((FromExpr *) jtnode)->fromlist)
			if (!collect_product(lfirst(lc), rtable, varnos, quals))
				return false;
		more = ((FromExpr *) jtnode)->quals;
	}
	else
	{
		JoinExpr   *j = castNode(JoinExpr, jtnode);

		if (j->jointype != JOIN_INNER ||
			!collect_product(j->larg, rtable, varnos, quals) ||
			!collect_product(j->rarg, rtable, varnos, quals))
			return false;
		more = j->quals;
	}
	/* The planner has made a list of them. */
	*quals = list_concat(*quals, more && IsA(more, List) ? list_copy((List *) more) :
						 make_ands_implicit((Expr *) more));
	return true;
}

/* The rollup's conditions, for make_forms; NIL too if it cannot be matched. */
List *
sc_stored_quals(ScSpec *stored)
{
	List	   *varnos = NIL;
	List	   *quals = NIL;

	if (!collect_product((Node *) stored->query->jointree, stored->query->rtable,
						 &varnos, &quals))
		return NIL;
	return quals;
}

/* Does an entry of the query stand for all rows that a part counts? */
static bool
reads_the_same(RangeTblEntry *rte, ScSpec *spec)
{
	return rte->inh ? spec->inherits : list_length(spec->members) == 1;
}

static ScSpec *
part_of_table(ScParts *p, Index varno, Oid relid)
{
	if (varno == sc_join_fact(p->stored->query, p->fact->source))
		return p->fact;
	for (int i = 0; i < p->nlogs; i++)
		if (p->logs[i]->source == relid)
			return p->logs[i];
	return NULL;
}

/* For each entry of the rollup's FROM the query's, or 0; NULL: they differ. */
static int *
map_entries(PlannerInfo *root, ScParts *p)
{
	Query	   *query = p->stored->query;
	int		   *varmap = palloc0(sizeof(int) * (list_length(query->rtable) + 1));
	List	   *ours = NIL;
	List	   *theirs = NIL;
	List	   *quals = NIL;
	ListCell   *lc;
	ListCell   *l2;

	if (!collect_product((Node *) root->parse->jointree, root->parse->rtable, &theirs, &quals) ||
		!collect_product((Node *) query->jointree, query->rtable, &ours, &quals) ||
		list_length(ours) != list_length(theirs))
		return NULL;
	/* The same table several times: in the order it comes. */
	list_sort(ours, list_int_cmp);
	list_sort(theirs, list_int_cmp);
	foreach(lc, ours)
	{
		int			varno = lfirst_int(lc);
		Oid			relid = rt_fetch(varno, query->rtable)->relid;
		ScSpec	   *part = part_of_table(p, varno, relid);

		foreach(l2, theirs)
		{
			RangeTblEntry *rte = rt_fetch(lfirst_int(l2), root->parse->rtable);

			if (rte->relid != relid || rte->tablesample || part == NULL ||
				!reads_the_same(rte, part))
				continue;
			varmap[varno] = lfirst_int(l2);
			theirs = foreach_delete_current(theirs, l2);
			break;
		}
		if (varmap[varno] == 0)
			return NULL;
	}
	return varmap;
}

/*
 * The stored groups of a rollup, pinned, and how its entries are called in the
 * query; NULL if they cannot answer.
 */
ScSpec *
sc_stored_for_query(PlannerInfo *root, Oid view, int **varmap)
{
	ScParts    *p = sc_parts_open(view);
	ScSpec	   *stored = NULL;

	if (p == NULL)
		return NULL;
	if (p->fact->rewrite && sc_parts_usable(p) && (*varmap = map_entries(root, p)) != NULL)
	{
		stored = p->stored;
		sc_spec_pin(stored);
	}
	sc_parts_close(p);
	return stored;
}

/* The same as of a rollup that is not there, whose members are its tables. */
int *
sc_stored_map_supposed(PlannerInfo *root, ScSpec *fact, ScSpec *stored)
{
	List	   *tables = sc_join_tables(stored->query, sc_join_fact(stored->query, fact->source));
	ScParts		p = {.fact = fact,.stored = stored,.nlogs = list_length(tables)};

	p.logs = palloc(sizeof(ScSpec *) * (p.nlogs + 1));
	for (int i = 0; i < p.nlogs; i++)
	{
		p.logs[i] = sc_spec_of_part(fact, SC_PART_LOG + i, list_nth_oid(tables, i));
		p.logs[i]->members = list_make1_oid(p.logs[i]->source);
	}
	return map_entries(root, &p);
}

/* The query's conditions, as its WHERE on the join. */
bool
sc_stored_conditions(ScMatch *m, List **quals)
{
	List	   *varnos = NIL;

	return collect_product((Node *) m->root->parse->jointree, m->root->parse->rtable,
						   &varnos, quals);
}
