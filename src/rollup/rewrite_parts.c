/*
 * rewrite_parts.c: what each of a rollup's groups adds to the aggregates of a
 * query, where groups stand for rows (rewrite_join.c).
 *
 * An aggregate is made of parts: a state that the rollup keeps, or a value
 * as often as the group has rows, each for the groups that pass a filter.
 * FILTER makes one part, CASE one for each of its results.  So a pivot,
 * sum(CASE WHEN status = 'paid' THEN amount ELSE 0 END), takes the states of
 * sum(amount) of some groups, and zeros for the others.
 */
#include "postgres.h"

#include "catalog/pg_aggregate.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"

#include "rollup/rewrite.h"

static ScJoinItem *
add_item(ScMatch *m, ScJoinKind kind, int arg, Node *expr)
{
	ScJoinItem *item = palloc0(sizeof(ScJoinItem));

	item->kind = kind;
	item->arg = arg;
	item->expr = (Expr *) expr;
	m->joinitems = lappend(m->joinitems, item);
	return item;
}

static ScJoinPart *
make_part(int slot, Expr *filter, List *args)
{
	ScJoinPart *part = palloc0(sizeof(ScJoinPart));

	part->slot = slot;
	part->filter = filter;
	part->args = args;
	return part;
}

static bool
of_source(ScMatch *m, Node *node)
{
	return bms_is_subset(pull_varnos(m->root, node), bms_make_singleton(m->srcvarno));
}

/* ---- one part ---- */

/* From the rollup's states or row counts; false: there are none that fit. */
static bool
match_states(ScMatch *m, Aggref *agg, Aggref *normal, ScStateDef *def,
			 Expr *filter)
{
	Aggref	   *bare;
	int			slot;

	if (of_source(m, (Node *) normal->aggfilter) &&
		(slot = sc_match_slot(m, normal, def)) >= 0)
	{
		add_item(m, SC_JOIN_STATE, slot, (Node *) agg)->parts =
			list_make1(make_part(slot, NULL, NIL));
		return true;
	}
	if (normal->aggfilter && filter == NULL)
		return false;
	bare = copyObject(normal);
	bare->aggfilter = NULL;
	if (def->kind == SC_STATE_COUNT &&
		(bare->args == NIL ||
		 sc_match_never_null(m, ((TargetEntry *) linitial(bare->args))->expr)))
	{
		add_item(m, SC_JOIN_ROWS, 0, (Node *) agg)->parts =
			list_make1(make_part(-1, filter, NIL));
		return true;
	}
	if ((slot = sc_match_slot(m, bare, def)) < 0)
		return false;
	add_item(m, SC_JOIN_STATE, slot, (Node *) agg)->parts =
		list_make1(make_part(slot, filter, NIL));
	return true;
}

/* From values of the groups' keys and other tables. */
static bool
match_values(ScMatch *m, Aggref *agg, Aggref *normal, Expr *filter)
{
	List	   *args = NIL;
	ListCell   *lc;

	if (normal->aggfilter && filter == NULL)
		return false;
	foreach(lc, sc_match_args(normal))
	{
		Expr	   *derived = sc_match_derive(m, lfirst(lc));

		if (derived == NULL)
			return false;
		args = lappend(args, derived);
	}
	add_item(m, SC_JOIN_STATE, -1, (Node *) agg)->parts =
		list_make1(make_part(-1, filter, args));
	return true;
}

/* ---- CASE ---- */

static Node *
replace_test(Node *node, void *value)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, CaseTestExpr))
		return copyObject(value);
	/* That of another CASE is not ours. */
	if (IsA(node, CaseExpr) && ((CaseExpr *) node)->arg)
		return node;
	return expression_tree_mutator(node, replace_test, value);
}

static Expr *
is_not_true(Expr *expr)
{
	BooleanTest *test = makeNode(BooleanTest);

	test->arg = expr;
	test->booltesttype = IS_NOT_TRUE;
	test->location = -1;
	return (Expr *) test;
}

/* The part for one result of CASE; NULL: it adds nothing (*fits), or cannot. */
static ScJoinPart *
match_result(ScMatch *m, Aggref *normal, Node *result, Expr *filter, bool *fits)
{
	Aggref	   *bare = copyObject(normal);
	ScStateDef	def;
	Expr	   *derived;
	int			slot;

	*fits = true;
	if (IsA(result, Const) && ((Const *) result)->constisnull)
		return NULL;
	linitial_node(TargetEntry, bare->args)->expr = (Expr *) result;
	sc_state_classify(bare, &def);
	if (def.kind == SC_STATE_COUNT && bare->aggfilter == NULL &&
		sc_match_never_null(m, (Expr *) result))
	{
		/* A state that counts what it sums takes values of the right type. */
		derived = sc_match_derive(m, result);
		return make_part(-1, filter,
						 list_make1(derived ? derived : (Expr *) makeBoolConst(true, false)));
	}
	if (def.kind != SC_STATE_DISTINCT && (slot = sc_match_slot(m, bare, &def)) >= 0)
		return make_part(slot, filter, NIL);
	if (bare->aggfilter == NULL && (derived = sc_match_derive(m, result)) != NULL)
		return make_part(-1, filter, list_make1(derived));
	*fits = false;
	return NULL;
}

/*
 * The parts of an aggregate of CASE; false: some result is not kept.  If
 * keepfilter, its FILTER is that of the rollup's states.
 */
static bool
match_results(ScMatch *m, Aggref *normal, CaseExpr *expr, Expr *filter,
			  bool keepfilter, List **parts)
{
	List	   *before = filter ? list_make1(filter) : NIL;
	Aggref	   *bare = copyObject(normal);
	bool		fits;
	ScJoinPart *part;
	ListCell   *lc;

	*parts = NIL;
	if (!keepfilter)
		bare->aggfilter = NULL;
	foreach(lc, expr->args)
	{
		CaseWhen   *when = lfirst_node(CaseWhen, lc);
		Node	   *condition = expr->arg ? replace_test((Node *) when->expr, expr->arg) :
			(Node *) when->expr;
		Expr	   *derived = sc_match_derive(m, condition);

		if (derived == NULL)
			return false;
		part = match_result(m, bare, (Node *) when->result,
							make_ands_explicit(lappend(list_copy(before), derived)), &fits);
		if (!fits)
			return false;
		if (part)
			*parts = lappend(*parts, part);
		before = lappend(before, is_not_true(derived));
	}
	if (expr->defresult == NULL)
		return true;
	part = match_result(m, bare, (Node *) expr->defresult, make_ands_explicit(before), &fits);
	if (part)
		*parts = lappend(*parts, part);
	return fits;
}

static bool
match_case(ScMatch *m, Aggref *agg, Aggref *normal, Expr *filter)
{
	List	   *args = sc_match_args(normal);
	CaseExpr   *expr = list_length(args) == 1 ? linitial(args) : NULL;
	List	   *parts = NIL;
	int			slot = -1;
	Oid			type;
	ListCell   *lc;

	if (expr == NULL || !IsA(expr, CaseExpr))
		return false;
	if (!(normal->aggfilter && of_source(m, (Node *) normal->aggfilter) &&
		  match_results(m, normal, expr, NULL, true, &parts)) &&
		!((normal->aggfilter == NULL || filter) &&
		  match_results(m, normal, expr, filter, false, &parts)))
		return false;
	foreach(lc, parts)
	{
		ScJoinPart *part = lfirst(lc);

		if (part->slot < 0)
			continue;
		/* One state is to take them all. */
		if (slot >= 0 && !sc_state_same(&m->spec->slots[slot].def,
										&m->spec->slots[part->slot].def))
			return false;
		slot = part->slot;
	}
	/* Only a state that counts, and nothing else, takes any value. */
	type = slot >= 0 && m->spec->slots[slot].def.kind != SC_STATE_COUNT ?
		exprType((Node *) expr) : InvalidOid;
	foreach(lc, OidIsValid(type) ? parts : NIL)
	{
		ScJoinPart *part = lfirst(lc);

		if (part->slot < 0 && exprType(linitial(part->args)) != type)
			return false;
	}
	add_item(m, SC_JOIN_STATE, slot, (Node *) agg)->parts = parts;
	return true;
}

/* ---- what is computed from sums ---- */

static bool match_aggref(ScMatch *m, Aggref *agg);

/* The item of an aggregate, or NULL. */
static ScJoinItem *
item_of(ScMatch *m, Node *agg)
{
	ListCell   *lc;

	foreach(lc, m->joinitems)
		if (equal(((ScJoinItem *) lfirst(lc))->expr, agg))
			return lfirst(lc);
	return NULL;
}

/* From sums of the rollup, which become items as if the query asked for them. */
static bool
match_linear(ScMatch *m, Aggref *agg, Aggref *normal, Expr *filter)
{
	Aggref	   *bare = copyObject(normal);
	List	   *sums = NIL;
	ScJoinItem *item;
	int			count;
	ListCell   *lc;

	if (!sc_linear_match(m, bare, &count))
	{
		bare->aggfilter = NULL;
		if (filter == NULL || !sc_linear_match(m, bare, &count))
			return false;
	}
	else
		filter = NULL;			/* that of the states */
	if (count >= 0)
	{
		add_item(m, SC_JOIN_STATE, count, (Node *) agg)->parts =
			list_make1(make_part(count, filter, NIL));
		return true;
	}
	foreach(lc, (List *) lsecond((List *) llast(m->linears)))
	{
		Aggref	   *sum = copyObject(lfirst_node(Aggref, lc));

		sum->aggfilter = normal->aggfilter;
		if (!match_aggref(m, sum))
			return false;
		item = item_of(m, (Node *) sum);
		/* The others have no state of the sum's. */
		if (item == NULL || item->kind != SC_JOIN_STATE)
			return false;
		sums = lappend(sums, item);
	}
	add_item(m, SC_JOIN_LINEAR, list_length(m->linears) - 1, (Node *) agg)->sums = sums;
	return true;
}

/* ---- the query's aggregates ---- */

static bool
match_aggref(ScMatch *m, Aggref *agg)
{
	Aggref	   *normal = (Aggref *) sc_match_normalize(m, (Node *) agg);
	Expr	   *filter = NULL;
	ScStateDef	def;

	if (item_of(m, (Node *) agg))
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
	if ((def.kind != SC_STATE_DISTINCT && match_states(m, agg, normal, &def, filter)) ||
		match_values(m, agg, normal, filter) || match_case(m, agg, normal, filter) ||
		match_linear(m, agg, normal, filter))
		return true;
	return sc_match_fail(m, of_source(m, (Node *) normal) ?
						 psprintf("it does not keep %s", sc_match_text(m, (Node *) normal)) :
						 "an aggregate reads columns of its source that are not its group keys together with other tables'");
}

static bool
match_grouping(ScMatch *m, GroupingFunc *func)
{
	int			n = 0;
	ListCell   *lc;

	foreach(lc, m->joinitems)
	{
		ScJoinItem *item = lfirst(lc);

		if (equal(item->expr, func))
			return true;
		if (item->kind == SC_JOIN_GROUPING)
			n++;
	}
	(void) add_item(m, SC_JOIN_GROUPING, n, (Node *) func);
	return true;
}

static bool
collect_items(Node *node, void *context)
{
	ScMatch    *m = context;

	if (node == NULL || sc_match_is_key(m, node))
		return false;
	if (IsA(node, Aggref))
		return !match_aggref(m, (Aggref *) node);
	if (IsA(node, GroupingFunc))
		return !match_grouping(m, (GroupingFunc *) node);
	if (IsA(node, SubPlan) || IsA(node, AlternativeSubPlan))
		return !sc_match_fail(m, "the query has a subquery in its output");
	if (IsA(node, Var) || IsA(node, PlaceHolderVar))
		return !sc_match_fail(m, "the query returns something that is not a group key");
	return expression_tree_walker(node, collect_items, context);
}

/* Collect the aggregates in node; false, with a reason, at a failure. */
bool
sc_join_items(ScMatch *m, Node *node)
{
	return !collect_items(node, m);
}
