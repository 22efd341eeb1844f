/*-------------------------------------------------------------------------
 *
 * harvest.c
 *	  How a statement uses its tables: what an index could serve.
 *
 * Conditions are taken from the planner while it plans, and not from the
 * text: there views are expanded, subqueries pulled up, constants folded and
 * equalities carried over joins.
 *
 * What must always hold: what is collected calls no function but the table
 * owner's and superusers', since whoever builds an index runs them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/pg_am.h"
#include "catalog/pg_amop.h"
#include "catalog/pg_class.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_statistic.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/paths.h"
#include "parser/parse_coerce.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/pg_locale.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "advisor/choose.h"

/* Values a column may have for one of them to make a predicate. */
#define SC_PRED_DISTINCT	50
/* The same of a number, which is a code less often, and who or what more. */
#define SC_PRED_CODES		10

/* Whose conditions are being collected, or NULL. */
static ScAdvice *harvest_advice = NULL;
static ScItem *harvest_item = NULL;
static ScVariant *harvest_variant = NULL;
static List *harvest_places = NIL;

static set_rel_pathlist_hook_type prev_set_rel_pathlist = NULL;

/*
 * Expressions
 */

/* Without casts that change nothing. */
Node *
sc_strip(Node *node)
{
	while (node && IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	return node;
}

/* Is it neither a superuser's nor that of the role that context points to? */
bool
sc_untrusted_function(Oid funcid, void *context)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return true;
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	return owner != *(Oid *) context && !superuser_arg(owner);
}

static bool
unusable_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
		return ((Var *) node)->varattno <= 0 ||
			((Var *) node)->varlevelsup != 0;
	if (IsA(node, Param) || IsA(node, SubPlan) || IsA(node, SubLink) ||
		IsA(node, AlternativeSubPlan) || IsA(node, Aggref) ||
		IsA(node, PlaceHolderVar) || IsA(node, GroupingFunc) ||
		IsA(node, WindowFunc) || IsA(node, CurrentOfExpr))
		return true;
	if (check_functions_in_node(node, sc_untrusted_function, context))
		return true;
	return expression_tree_walker(node, unusable_walker, context);
}

/* May an index hold this expression over one table? */
static bool
indexable(Node *node, Oid relid)
{
	Oid			owner = InvalidOid;
	HeapTuple	tuple;

	if (IsA(node, Var))
		return ((Var *) node)->varattno > 0 &&
			((Var *) node)->varlevelsup == 0;
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return !contain_mutable_functions(node) &&
		!expression_returns_set(node) && !unusable_walker(node, &owner);
}

/* The expression with the table as its only relation. */
static Node *
renumbered(Node *node, Index rti)
{
	node = copyObject(node);
	if (rti != 1)
		ChangeVarNodes(node, rti, 1, 0);
	return node;
}

/* Is this an indexable expression of that table alone? */
static bool
is_column(PlannerInfo *root, Node *node, Index rti, Oid relid)
{
	int			varno;

	return bms_get_singleton_member(pull_varnos(root, node), &varno) &&
		varno == rti && indexable(node, relid);
}

/* A column of an index that a statement could use. */
ScKeyCol *
sc_make_keycol(Node *expr, Oid am, Oid opclass, Oid collation, ScRole role)
{
	ScKeyCol   *col = (ScKeyCol *) palloc0(sizeof(ScKeyCol));

	col->expr = expr;
	col->am = am;
	col->opclass = opclass;
	col->collation = collation;
	col->role = role;
	return col;
}

/* A column as a plain key. */
ScKeyCol *
sc_plain_column(Oid relid, AttrNumber attnum)
{
	Oid			type;
	int32		typmod;
	Oid			collation;
	Oid			opclass;

	get_atttypetypmodcoll(relid, attnum, &type, &typmod, &collation);
	opclass = GetDefaultOpClass(type, BTREE_AM_OID);
	if (!OidIsValid(opclass))
		return NULL;
	return sc_make_keycol((Node *) makeVar(1, attnum, type, typmod, collation,
										0),
					   BTREE_AM_OID, opclass, collation, SC_ROLE_SORT);
}

/* Distinct values of a column; 0 when not known. */
double
sc_ndistinct(Oid relid, Node *expr, double tuples)
{
	if (exprType(expr) == BOOLOID)
		return 2;
	if (!IsA(expr, Var))
		return 0;
	return sc_column_ndistinct(relid, ((Var *) expr)->varattno,
							   get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE,
							   tuples);
}

/*
 * Operators
 */

/* An opclass of a family that takes a type, the default one first. */
static Oid
opclass_of_family(Oid family, Oid type, Oid am)
{
	Oid			result = GetDefaultOpClass(type, am);
	CatCList   *list;
	int			i;

	if (OidIsValid(result) && get_opclass_family(result) == family)
		return result;
	result = InvalidOid;
	list = SearchSysCacheList1(CLAAMNAMENSP, ObjectIdGetDatum(am));
	for (i = 0; i < list->n_members && !OidIsValid(result); i++)
	{
		Form_pg_opclass form = (Form_pg_opclass)
			GETSTRUCT(&list->members[i]->tuple);

		if (form->opcfamily == family &&
			IsBinaryCoercible(type, form->opcintype))
			result = form->oid;
	}
	ReleaseSysCacheList(list);
	return result;
}

/* Is it how far a column is from something? */
static bool
is_distance(Node *node)
{
	CatCList   *list;
	bool		result = false;
	int			i;

	if (!IsA(node, OpExpr))
		return false;
	list = SearchSysCacheList1(AMOPOPID,
							   ObjectIdGetDatum(((OpExpr *) node)->opno));
	for (i = 0; i < list->n_members; i++)
		result = result || ((Form_pg_amop)
							GETSTRUCT(&list->members[i]->tuple))->amoppurpose == AMOP_ORDER;
	ReleaseSysCacheList(list);
	return result;
}

/* Other access methods that serve an operator. */
static void
add_special(ScRelUse *use, Node *col, Oid opno, Oid collation, char purpose)
{
	static const Oid methods[] = {GIN_AM_OID, GIST_AM_OID, SPGIST_AM_OID};
	CatCList   *list = SearchSysCacheList1(AMOPOPID, ObjectIdGetDatum(opno));
	bool		found = false;
	int			m;
	int			i;

	for (m = 0; m < lengthof(methods) && !found; m++)
	{
		for (i = 0; i < list->n_members; i++)
		{
			Form_pg_amop form = (Form_pg_amop)
				GETSTRUCT(&list->members[i]->tuple);
			Oid			opclass;

			if (form->amopmethod != methods[m] ||
				form->amoppurpose != purpose)
				continue;
			opclass = opclass_of_family(form->amopfamily, exprType(col),
										methods[m]);
			if (!OidIsValid(opclass))
				continue;
			use->special = lappend(use->special,
								   sc_make_keycol(col, methods[m], opclass,
											   collation, SC_ROLE_SEARCH));
			found = true;
		}
	}
	ReleaseSysCacheList(list);
}

/* Can the start of what matches this pattern be told? */
static bool
has_prefix(Oid opno, Node *pattern)
{
	char	   *s;
	bool		result;

	if (!IsA(pattern, Const))
		return opno == OID_TEXT_LIKE_OP || opno == OID_BPCHAR_LIKE_OP ||
			opno == TextPrefixOperator;
	if (((Const *) pattern)->constisnull ||
		((Const *) pattern)->consttype != TEXTOID)
		return false;
	s = TextDatumGetCString(((Const *) pattern)->constvalue);
	if (opno == OID_TEXT_REGEXEQ_OP || opno == OID_BPCHAR_REGEXEQ_OP)
		result = s[0] == '^' && isalnum((unsigned char) s[1]);
	else if (opno == TextPrefixOperator)
		result = s[0] != '\0';
	else
		result = s[0] != '\0' && s[0] != '%' && s[0] != '_';
	return result;
}

static void
add_pattern(ScRelUse *use, Node *col, Oid opno, Oid collation, Node *pattern)
{
	Oid			type = exprType(col);
	const char *name;
	Oid			opclass;

	if (!has_prefix(opno, pattern) ||
		(type != TEXTOID && type != VARCHAROID && type != BPCHAROID))
		return;
	if (lc_collate_is_c(collation))
		opclass = GetDefaultOpClass(type, BTREE_AM_OID);
	else
	{
		name = type == TEXTOID ? "text_pattern_ops" :
			(type == VARCHAROID ? "varchar_pattern_ops" :
			 "bpchar_pattern_ops");
		opclass = get_opclass_oid(BTREE_AM_OID,
								  list_make2(makeString("pg_catalog"),
											 makeString((char *) name)),
								  true);
	}
	if (OidIsValid(opclass))
		use->range = lappend(use->range,
							 sc_make_keycol(col, BTREE_AM_OID, opclass,
										 collation, SC_ROLE_PATTERN));
}

/*
 * Clauses
 */

/* Do values of this column say what kind of row it is, and not which? */
static bool
names_kind(Oid relid, Node *col, bool range)
{
	/* Of a fraction of the rows, there are more the more rows there are. */
	double		d = sc_ndistinct(relid, col, 1e9);
	char		category;
	bool		preferred;

	get_type_category_preferred(exprType(col), &category, &preferred);
	return d > 0 && d <= (category == TYPCATEGORY_NUMERIC && !range ?
						  SC_PRED_CODES : SC_PRED_DISTINCT);
}

/* Is a constant of it the value of a parameter, which stood in its place? */
bool
sc_has_parameter(Node *node, List *places)
{
	if (node == NULL)
		return false;
	if (IsA(node, Const))
		return list_member_int(places, ((Const *) node)->location);
	return expression_tree_walker(node, sc_has_parameter, places);
}

/*
 * Is it one end of a range of numbers or times, of which there are many?  Only
 * who asks for the very same range, or for a part of it, has any use for an index
 * of these rows.
 */
bool
sc_is_span(Oid relid, Node *clause)
{
	ScBound		bound;
	char		category;
	bool		preferred;

	if (!sc_bound_of(clause, &bound) ||
		bound.strategy == BTEqualStrategyNumber)
		return false;
	if (sc_is_time((Node *) bound.column))
		return true;
	get_type_category_preferred(exprType((Node *) bound.column), &category,
								&preferred);
	return category == TYPCATEGORY_NUMERIC &&
		!names_kind(relid, (Node *) bound.column, true);
}

/*
 * Is a condition on a column of times about some time that passes?  What all ask
 * for today nobody asks for next week.  But a day that is written into the
 * statement and compared for equality may stand for never.
 */
static bool
will_pass(ScRelUse *use, Node *clause, Node *col, bool range)
{
	return sc_is_time(col) &&
		(range || sc_has_parameter(clause, use->places));
}

/*
 * Could this condition select the rows of a partial index?  Of those that are
 * spans, recurs() in candidates.c has more to ask.
 */
static bool
pred_eligible(ScRelUse *use, Node *clause, Node *col, bool range)
{
	if (contain_mutable_functions(clause) || !indexable(clause, use->relid))
		return false;
	if (IsA(clause, NullTest))
		return true;
	if (exprType(col) == BOOLOID)
		return true;
	if (sc_is_span(use->relid, clause))
		return true;
	if (IsA(clause, OpExpr) || IsA(clause, ScalarArrayOpExpr))
		return names_kind(use->relid, col, range) &&
			!will_pass(use, clause, col, range);
	return false;
}

static ScKeyCol *
btree_column(Node *col, ScRole role)
{
	Oid			opclass = GetDefaultOpClass(exprType(col), BTREE_AM_OID);

	/* From where distances are measured is another place each time. */
	if (!OidIsValid(opclass) || is_distance(col))
		return NULL;
	return sc_make_keycol(col, BTREE_AM_OID, opclass, exprCollation(col), role);
}

/* col OP other, where other has nothing of the table. */
static void
use_operator(ScRelUse *use, Node *clause, Node *col, Oid opno, Oid inputcoll,
			 Node *other, bool isjoin)
{
	ScKeyCol   *key = btree_column(col, SC_ROLE_EQ);
	bool		none_of = IsA(clause, ScalarArrayOpExpr) &&
		!((ScalarArrayOpExpr *) clause)->useOr;
	Oid			collation;
	int			strategy = 0;

	if (key != NULL && !none_of)
		strategy = get_op_opfamily_strategy(opno,
											get_opclass_family(key->opclass));
	if (key != NULL && OidIsValid(key->collation) && OidIsValid(inputcoll))
		key->collation = inputcoll;
	if (strategy == BTEqualStrategyNumber)
	{
		if (isjoin)
		{
			key->role = SC_ROLE_JOIN;
			use->join = lappend(use->join, key);
			return;
		}
		if (pred_eligible(use, clause, col, false))
		{
			key->clause = clause;
			use->preds = lappend(use->preds, clause);
		}
		use->eq = lappend(use->eq, key);
		return;
	}
	if (strategy != 0)
	{
		key->role = SC_ROLE_RANGE;
		if (!isjoin && pred_eligible(use, clause, col, true))
		{
			key->clause = clause;
			use->preds = lappend(use->preds, clause);
			if (sc_is_span(use->relid, clause))
				use->spans = lappend(use->spans, clause);
		}
		use->range = lappend(use->range, key);
		return;
	}
	if (key != NULL)
	{
		Oid			negator = get_negator(opno);

		if (OidIsValid(negator) &&
			get_op_opfamily_strategy(negator, get_opclass_family(key->opclass)) ==
			BTEqualStrategyNumber)
		{
			if (!isjoin && pred_eligible(use, clause, col, true))
				use->preds = lappend(use->preds, clause);
			return;
		}
	}
	if (!IsA(clause, OpExpr))
		return;
	/* The column's may be another one, and one that knows no patterns. */
	collation = exprCollation(col);
	if (OidIsValid(collation) && OidIsValid(inputcoll))
		collation = inputcoll;
	if (opno == OID_TEXT_LIKE_OP || opno == OID_BPCHAR_LIKE_OP ||
		opno == OID_TEXT_REGEXEQ_OP || opno == OID_BPCHAR_REGEXEQ_OP ||
		opno == TextPrefixOperator)
		add_pattern(use, col, opno, collation, other);
	/* A network's addresses are a range; others are those of its opclasses. */
	if (key != NULL && !isjoin &&
		(opno == OID_INET_SUB_OP || opno == OID_INET_SUBEQ_OP))
	{
		key->role = SC_ROLE_RANGE;
		use->range = lappend(use->range, key);
	}
	add_special(use, col, opno, collation, AMOP_SEARCH);
}

static void use_clause(PlannerInfo *root, ScRelUse *use, Index rti,
					   Node *clause, bool isjoin);

static void
use_null_test(PlannerInfo *root, ScRelUse *use, Index rti, NullTest *test)
{
	Node	   *col = sc_strip((Node *) test->arg);
	ScKeyCol   *key;
	Node	   *clause;

	if (test->argisrow || !is_column(root, col, rti, use->relid))
		return;
	key = btree_column(renumbered(col, rti), SC_ROLE_EQ);
	if (key == NULL)
		return;
	clause = renumbered((Node *) test, rti);
	use->preds = lappend(use->preds, clause);
	if (test->nulltesttype == IS_NULL)
	{
		key->clause = clause;
		use->eq = lappend(use->eq, key);
	}
	else
	{
		key->role = SC_ROLE_RANGE;
		use->range = lappend(use->range, key);
	}
}

/* The condition that a column is true, or false, or neither of these. */
static void
use_boolean(PlannerInfo *root, ScRelUse *use, Index rti, Node *clause,
			Node *col, bool searched)
{
	ScKeyCol   *key;

	col = sc_strip(col);
	if (!is_column(root, col, rti, use->relid))
		return;
	key = btree_column(renumbered(col, rti), SC_ROLE_EQ);
	if (key == NULL)
		return;
	key->clause = renumbered(clause, rti);
	use->preds = lappend(use->preds, key->clause);
	if (searched && IsA(col, Var))
		use->eq = lappend(use->eq, key);
}

/*
 * A comparison of two columns of the table has no constants that could be
 * others next time.
 */
static void
use_own_columns(ScRelUse *use, OpExpr *clause)
{
	Node	   *left = sc_strip((Node *) linitial(clause->args));
	Node	   *right = sc_strip((Node *) lsecond(clause->args));

	if (!IsA(left, Var) || !IsA(right, Var) ||
		contain_mutable_functions((Node *) clause) ||
		!indexable((Node *) clause, use->relid))
		return;
	/* One spelling for all statements. */
	if (((Var *) left)->varattno > ((Var *) right)->varattno &&
		OidIsValid(get_commutator(clause->opno)))
		CommuteOpExpr(clause);
	use->preds = lappend(use->preds, clause);
}

static void
use_opexpr(PlannerInfo *root, ScRelUse *use, Index rti, OpExpr *op,
		   bool isjoin)
{
	Node	   *left = sc_strip((Node *) linitial(op->args));
	Node	   *right = sc_strip((Node *) lsecond(op->args));
	Node	   *clause = renumbered((Node *) op, rti);

	if (is_column(root, left, rti, use->relid) &&
		!bms_is_member(rti, pull_varnos(root, right)))
		use_operator(use, clause, renumbered(left, rti), op->opno,
					 op->inputcollid, right, isjoin);
	else if (is_column(root, right, rti, use->relid) &&
			 !bms_is_member(rti, pull_varnos(root, left)) &&
			 OidIsValid(get_commutator(op->opno)))
		use_operator(use, clause, renumbered(right, rti),
					 get_commutator(op->opno), op->inputcollid, left, isjoin);
	else if (!isjoin)
		use_own_columns(use, (OpExpr *) clause);
}

/* starts_with(), which the planner takes for its operator */
static void
use_start(PlannerInfo *root, ScRelUse *use, Index rti, FuncExpr *func)
{
	Node	   *col = sc_strip((Node *) linitial(func->args));
	Node	   *start = (Node *) lsecond(func->args);
	Oid			collation = func->inputcollid;

	if (is_column(root, col, rti, use->relid) &&
		!bms_is_member(rti, pull_varnos(root, start)))
		add_pattern(use, renumbered(col, rti), TextPrefixOperator, collation,
					sc_strip(start));
}

static void
use_clause(PlannerInfo *root, ScRelUse *use, Index rti, Node *clause,
		   bool isjoin)
{
	if (IsA(clause, OpExpr) && list_length(((OpExpr *) clause)->args) == 2)
		use_opexpr(root, use, rti, (OpExpr *) clause, isjoin);
	else if (IsA(clause, ScalarArrayOpExpr))
	{
		ScalarArrayOpExpr *op = (ScalarArrayOpExpr *) clause;
		Node	   *left = sc_strip((Node *) linitial(op->args));

		if (is_column(root, left, rti, use->relid) &&
			!bms_is_member(rti, pull_varnos(root, lsecond(op->args))))
			use_operator(use, renumbered(clause, rti), renumbered(left, rti),
						 op->opno, op->inputcollid, lsecond(op->args), isjoin);
	}
	else if (IsA(clause, FuncExpr) && !isjoin &&
			 ((FuncExpr *) clause)->funcid == F_STARTS_WITH)
		use_start(root, use, rti, (FuncExpr *) clause);
	else if (IsA(clause, NullTest))
		use_null_test(root, use, rti, (NullTest *) clause);
	else if (IsA(clause, RowCompareExpr))
	{
		Node	   *left = sc_strip((Node *) linitial(((RowCompareExpr *) clause)->largs));
		ScKeyCol   *key;

		if (is_column(root, left, rti, use->relid) &&
			(key = btree_column(renumbered(left, rti), SC_ROLE_RANGE)) != NULL)
			use->range = lappend(use->range, key);
	}
	else if (IsA(clause, Var) && exprType(clause) == BOOLOID)
		use_boolean(root, use, rti, clause, clause, true);
	else if (IsA(clause, BooleanTest))
	{
		BooleanTest *test = (BooleanTest *) clause;
		Node	   *arg = sc_strip((Node *) test->arg);

		/* The planner looks for TRUE and FALSE in an index. */
		if (IsA(arg, Var))
			use_boolean(root, use, rti, clause, arg,
						test->booltesttype == IS_TRUE ||
						test->booltesttype == IS_FALSE);
	}
	else if (is_notclause(clause))
	{
		Node	   *arg = sc_strip((Node *) get_notclausearg(clause));

		if (IsA(arg, Var))
			use_boolean(root, use, rti, clause, arg, true);
	}
	else if (is_andclause(clause))
	{
		ListCell   *lc;

		foreach(lc, ((BoolExpr *) clause)->args)
			use_clause(root, use, rti, (Node *) lfirst(lc), isjoin);
	}
}

/* An OR is served by an index for each of its arms. */
static List *
use_arms(PlannerInfo *root, ScRelUse *whole, Index rti, BoolExpr *clause)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, clause->args)
	{
		ScRelUse   *use = (ScRelUse *) palloc0(sizeof(ScRelUse));

		use->relid = whole->relid;
		use->variant = whole->variant;
		use->weight = whole->weight;
		use->sampled = whole->sampled;
		use->places = whole->places;
		use->eq = list_copy(whole->eq);
		use_clause(root, use, rti, (Node *) lfirst(lc), false);
		/* Nobody makes a partial index for each arm. */
		use->preds = NIL;
		if (list_length(use->eq) > list_length(whole->eq) ||
			use->range != NIL || use->special != NIL)
			result = lappend(result, use);
	}
	return result;
}

/*
 * Joins and orders, from equivalence classes
 */

static EquivalenceMember *
member_of(EquivalenceClass *ec, RelOptInfo *rel)
{
	bool		child = rel->reloptkind == RELOPT_OTHER_MEMBER_REL;
	ListCell   *lc;

	foreach(lc, ec->ec_members)
	{
		EquivalenceMember *em = (EquivalenceMember *) lfirst(lc);
		int			varno;

		if (em->em_is_child == child && !em->em_is_const &&
			bms_get_singleton_member(em->em_relids, &varno) &&
			varno == rel->relid)
			return em;
	}
	return NULL;
}

static void
use_joins(PlannerInfo *root, ScRelUse *use, RelOptInfo *rel)
{
	ListCell   *lc;

	foreach(lc, root->eq_classes)
	{
		EquivalenceClass *ec = (EquivalenceClass *) lfirst(lc);
		EquivalenceMember *em;
		ScKeyCol   *key;
		Node	   *col;

		if (ec->ec_has_const || ec->ec_has_volatile || ec->ec_merged ||
			bms_membership(ec->ec_relids) != BMS_MULTIPLE ||
			(em = member_of(ec, rel)) == NULL)
			continue;
		col = sc_strip((Node *) em->em_expr);
		if (!is_column(root, col, rel->relid, use->relid))
			continue;
		key = btree_column(renumbered(col, rel->relid), SC_ROLE_JOIN);
		if (key != NULL && list_member_oid(ec->ec_opfamilies,
										   get_opclass_family(key->opclass)))
			use->join = lappend(use->join, key);
	}
	foreach(lc, rel->joininfo)
		use_clause(root, use, rel->relid,
				   (Node *) lfirst_node(RestrictInfo, lc)->clause, true);
}

/* The columns of the table that an order starts with. */
static void
use_order(PlannerInfo *root, ScRelUse *use, RelOptInfo *rel, List *pathkeys,
		  ScRole role)
{
	List	   *order = NIL;
	bool		flip = false;
	ListCell   *lc;

	foreach(lc, pathkeys)
	{
		PathKey    *pathkey = (PathKey *) lfirst(lc);
		EquivalenceMember *em = member_of(pathkey->pk_eclass, rel);
		ScKeyCol   *key;
		Node	   *col;

		if (em == NULL)
			break;
		col = sc_strip((Node *) em->em_expr);
		if (!is_column(root, col, rel->relid, use->relid))
			break;
		if (order == NIL && IsA(col, OpExpr) &&
			list_length(((OpExpr *) col)->args) == 2)
		{
			Node	   *arg = sc_strip(linitial(((OpExpr *) col)->args));

			if (is_column(root, arg, rel->relid, use->relid))
				add_special(use, renumbered(arg, rel->relid),
							((OpExpr *) col)->opno, exprCollation(arg),
							AMOP_ORDER);
		}
		key = btree_column(renumbered(col, rel->relid), role);
		if (key == NULL ||
			get_opclass_family(key->opclass) != pathkey->pk_opfamily)
			break;
		key->collation = pathkey->pk_eclass->ec_collation;
		if (pathkey->pk_strategy == BTGreaterStrategyNumber)
			key->option |= INDOPTION_DESC;
		if (pathkey->pk_nulls_first)
			key->option |= INDOPTION_NULLS_FIRST;
		/* Indexes are read in either direction. */
		if (order == NIL)
			flip = (key->option & INDOPTION_DESC) != 0;
		if (flip)
			key->option ^= INDOPTION_DESC | INDOPTION_NULLS_FIRST;
		order = lappend(order, key);
	}
	if (order != NIL)
		use->orders = lappend(use->orders, order);
}

/*
 * The hook
 */

static void
harvest_rel(PlannerInfo *root, RelOptInfo *rel, Index rti, Oid relid)
{
	MemoryContext oldcxt = MemoryContextSwitchTo(harvest_advice->study->cxt);
	ScRelUse   *use = (ScRelUse *) palloc0(sizeof(ScRelUse));
	Bitmapset  *attrs = NULL;
	List	   *ors = NIL;
	ListCell   *lc;
	int			x = -1;

	use->relid = relid;
	use->variant = harvest_variant;
	use->weight = harvest_variant->weight;
	use->sampled = harvest_variant->sampled;
	use->places = harvest_places;
	foreach(lc, rel->baserestrictinfo)
	{
		Node	   *clause = (Node *) lfirst_node(RestrictInfo, lc)->clause;

		use->clauses = lappend(use->clauses, renumbered(clause, rti));
		if (is_orclause(clause))
			ors = lappend(ors, clause);
		else
			use_clause(root, use, rti, clause, false);
	}
	use_joins(root, use, rel);
	use_order(root, use, rel, root->sort_pathkeys, SC_ROLE_SORT);
	use_order(root, use, rel, root->group_pathkeys, SC_ROLE_GROUP);
	use_order(root, use, rel, root->distinct_pathkeys, SC_ROLE_GROUP);
	use_order(root, use, rel, root->window_pathkeys, SC_ROLE_SORT);
	if (use->orders == NIL)
		use_order(root, use, rel, root->query_pathkeys, SC_ROLE_SORT);

	pull_varattnos((Node *) rel->reltarget->exprs, rti, &attrs);
	use->coverable = true;
	while ((x = bms_next_member(attrs, x)) >= 0)
	{
		int			attno = x + FirstLowInvalidHeapAttributeNumber;

		if (attno <= 0)
			use->coverable = false;
		else
			use->target = bms_add_member(use->target, attno);
	}
	harvest_item->uses = lappend(harvest_item->uses, use);
	foreach(lc, ors)
		harvest_item->uses = list_concat(harvest_item->uses,
										 use_arms(root, use, rti,
												  (BoolExpr *) lfirst(lc)));
	harvest_item->relids = list_append_unique_oid(harvest_item->relids, relid);
	harvest_variant->nrels++;
	MemoryContextSwitchTo(oldcxt);
}

/*
 * Is an index for it one of this table?  One of a partitioned table has all
 * its partitions, but one of a table that others inherit from has only its
 * own rows; among those who inherit is the table itself.
 */
static bool
has_own_indexes(PlannerInfo *root, RelOptInfo *rel, RangeTblEntry *rte)
{
	RangeTblEntry *parent;

	if (rel->reloptkind == RELOPT_OTHER_MEMBER_REL)
	{
		/* The parent may be a UNION ALL. */
		parent = root->simple_rte_array[root->append_rel_array[rel->relid]->parent_relid];
		if (parent->rtekind == RTE_RELATION &&
			parent->relkind == RELKIND_PARTITIONED_TABLE)
			return false;
	}
	else if (rel->reloptkind != RELOPT_BASEREL)
		return false;
	return rte->relkind == RELKIND_PARTITIONED_TABLE ||
		rte->relkind == RELKIND_MATVIEW ||
		(rte->relkind == RELKIND_RELATION && !rte->inh);
}

static void
sc_set_rel_pathlist(PlannerInfo *root, RelOptInfo *rel, Index rti,
					RangeTblEntry *rte)
{
	if (prev_set_rel_pathlist)
		prev_set_rel_pathlist(root, rel, rti, rte);

	/* What functions execute meanwhile is not the statement. */
	if (harvest_item == NULL || !sc_query_is_planned(root))
		return;
	if (rel->reloptkind == RELOPT_OTHER_MEMBER_REL)
		harvest_variant->nparts++;
	if (rte->rtekind == RTE_RELATION &&
		rte->relid >= FirstNormalObjectId && has_own_indexes(root, rel, rte) &&
		!OidIsValid(getExtensionOfObject(RelationRelationId, rte->relid)))
		harvest_rel(root, rel, rti, rte->relid);
}

/*
 * Where in the text parameters are; and -1, where a constant that was computed
 * seems to be, if something is computed from them alone.
 */
static bool
places_walker(Node *node, List **places)
{
	int			n = list_length(*places);

	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, places_walker, places, 0);
	(void) expression_tree_walker(node, places_walker, places);
	if (IsA(node, Param) && ((Param *) node)->location >= 0)
		*places = lappend_int(*places, ((Param *) node)->location);
	else if (list_length(*places) > n && !IsA(node, List) &&
			 !IsA(node, TargetEntry) && !contain_var_clause(node))
		*places = list_append_unique_int(*places, -1);
	return false;
}

/* Plan an execution as things are, and collect how it uses its tables. */
double
sc_harvest(ScAdvice *advice, ScItem *item, ScVariant *variant)
{
	double		cost;
	MemoryContext oldcxt = MemoryContextSwitchTo(advice->study->cxt);

	harvest_places = NIL;
	(void) places_walker((Node *) variant->query->queries, &harvest_places);
	MemoryContextSwitchTo(oldcxt);
	harvest_advice = advice;
	harvest_item = item;
	harvest_variant = variant;
	PG_TRY();
	{
		cost = sc_query_cost(NULL, variant->query, NULL);
	}
	PG_FINALLY();
	{
		harvest_advice = NULL;
		harvest_item = NULL;
		harvest_variant = NULL;
	}
	PG_END_TRY();
	return cost;
}

void
sc_harvest_init(void)
{
	prev_set_rel_pathlist = set_rel_pathlist_hook;
	set_rel_pathlist_hook = sc_set_rel_pathlist;
}
