/*-------------------------------------------------------------------------
 *
 * candidates.c
 *	  Which indexes a statement could use.
 *
 * Conditions are taken from the planner while it plans, and not from the
 * text: there views are expanded, subqueries pulled up, constants folded and
 * equalities carried over joins.
 *
 * What must always hold: a candidate calls no function but the table owner's
 * and superusers', since whoever builds it runs them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/sysattr.h"
#include "access/transam.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_amop.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_type.h"
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
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_locale.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "advisor/choose.h"

/* Values a column may have for one of them to make a predicate. */
#define SC_PRED_DISTINCT	50
/* The same of a number, which is a code less often, and who or what more. */
#define SC_PRED_CODES		10
/* Of a statement's executions, those that must have a constant. */
#define SC_PRED_WEIGHT		0.8
/* A partial index must leave out at least the rest of the rows... */
#define SC_PRED_PART		0.75
/* ...or of those not deleted, as marked by a time or a boolean. */
#define SC_LIVE_PART		0.97
/* Columns with so few values are no good as the first. */
#define SC_COARSE			10
#define SC_MAX_EQ			4
#define SC_MAX_INCLUDE		8
/* Widest covering index, as a part of the row's width. */
#define SC_MAX_WIDTH		0.6
#define SC_BRIN_PAGES		2048
/* Fill factor of an index that is only read. */
#define SC_FULL				100
#define SC_BRIN_CORRELATION 0.9

/* Whose conditions are being collected, or NULL. */
static ScAdvice *harvest_advice = NULL;
static ScItem *harvest_item = NULL;
static ScVariant *harvest_variant = NULL;

static set_rel_pathlist_hook_type prev_set_rel_pathlist = NULL;

/*
 * Expressions
 */

static Node *
strip(Node *node)
{
	while (node && IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	return node;
}

static bool
untrusted_function(Oid funcid, void *context)
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
	if (check_functions_in_node(node, untrusted_function, context))
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

static ScKeyCol *
make_keycol(Node *expr, Oid am, Oid opclass, Oid collation, ScRole role)
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
	return make_keycol((Node *) makeVar(1, attnum, type, typmod, collation,
										0),
					   BTREE_AM_OID, opclass, collation, SC_ROLE_SORT);
}

/* Distinct values of a column; 0 when not known. */
static double
ndistinct_of(Oid relid, Node *expr, double tuples)
{
	HeapTuple	tuple;
	bool		inherited;
	double		d = 0;

	if (exprType(expr) == BOOLOID)
		return 2;
	if (!IsA(expr, Var))
		return 0;
	inherited = get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE;
	tuple = SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(relid),
							Int16GetDatum(((Var *) expr)->varattno),
							BoolGetDatum(inherited));
	if (HeapTupleIsValid(tuple))
	{
		d = ((Form_pg_statistic) GETSTRUCT(tuple))->stadistinct;
		if (d < 0)
			d = -d * tuples;
		ReleaseSysCache(tuple);
	}
	return d;
}

static double
correlation_of(Oid relid, Node *expr)
{
	HeapTuple	tuple;
	AttStatsSlot slot;
	double		result = 0;

	if (!IsA(expr, Var))
		return 0;
	tuple = SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(relid),
							Int16GetDatum(((Var *) expr)->varattno),
							BoolGetDatum(false));
	if (!HeapTupleIsValid(tuple))
		return 0;
	if (get_attstatsslot(&slot, tuple, STATISTIC_KIND_CORRELATION, InvalidOid,
						 ATTSTATSSLOT_NUMBERS))
	{
		if (slot.nnumbers > 0)
			result = slot.numbers[0];
		free_attstatsslot(&slot);
	}
	ReleaseSysCache(tuple);
	return result;
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
								   make_keycol(col, methods[m], opclass,
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
		return opno == OID_TEXT_LIKE_OP || opno == OID_BPCHAR_LIKE_OP;
	if (((Const *) pattern)->constisnull ||
		((Const *) pattern)->consttype != TEXTOID)
		return false;
	s = TextDatumGetCString(((Const *) pattern)->constvalue);
	if (opno == OID_TEXT_REGEXEQ_OP || opno == OID_BPCHAR_REGEXEQ_OP)
		result = s[0] == '^' && isalnum((unsigned char) s[1]);
	else
		result = s[0] != '\0' && s[0] != '%' && s[0] != '_';
	return result;
}

static void
add_pattern(ScRelUse *use, Node *col, Oid opno, Node *pattern)
{
	Oid			type = exprType(col);
	Oid			collation = exprCollation(col);
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
							 make_keycol(col, BTREE_AM_OID, opclass,
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
	double		d = ndistinct_of(relid, col, 1e9);
	char		category;
	bool		preferred;

	get_type_category_preferred(exprType(col), &category, &preferred);
	return d > 0 && d <= (category == TYPCATEGORY_NUMERIC && !range ?
						  SC_PRED_CODES : SC_PRED_DISTINCT);
}

/* Could this condition select the rows of a partial index? */
static bool
pred_eligible(ScRelUse *use, Node *clause, Node *col, bool range)
{
	if (contain_mutable_functions(clause) || !indexable(clause, use->relid))
		return false;
	if (IsA(clause, NullTest))
		return true;
	if (exprType(col) == BOOLOID)
		return true;
	if (IsA(clause, OpExpr) || IsA(clause, ScalarArrayOpExpr))
		return names_kind(use->relid, col, range);
	return false;
}

static ScKeyCol *
btree_column(Node *col, ScRole role)
{
	Oid			opclass = GetDefaultOpClass(exprType(col), BTREE_AM_OID);

	if (!OidIsValid(opclass))
		return NULL;
	return make_keycol(col, BTREE_AM_OID, opclass, exprCollation(col), role);
}

/* col OP other, where other has nothing of the table. */
static void
use_operator(ScRelUse *use, Node *clause, Node *col, Oid opno, Oid inputcoll,
			 Node *other, bool isjoin)
{
	ScKeyCol   *key = btree_column(col, SC_ROLE_EQ);
	int			strategy = 0;

	if (key != NULL)
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
		}
		use->range = lappend(use->range, key);
		return;
	}
	if (!IsA(clause, OpExpr))
		return;
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
	if (opno == OID_TEXT_LIKE_OP || opno == OID_BPCHAR_LIKE_OP ||
		opno == OID_TEXT_REGEXEQ_OP || opno == OID_BPCHAR_REGEXEQ_OP)
		add_pattern(use, col, opno, other);
	add_special(use, col, opno, exprCollation(col), AMOP_SEARCH);
}

static void use_clause(PlannerInfo *root, ScRelUse *use, Index rti,
					   Node *clause, bool isjoin);

static void
use_null_test(PlannerInfo *root, ScRelUse *use, Index rti, NullTest *test)
{
	Node	   *col = strip((Node *) test->arg);
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

static void
use_boolean(PlannerInfo *root, ScRelUse *use, Index rti, Node *clause,
			Node *col)
{
	ScKeyCol   *key;

	col = strip(col);
	if (!is_column(root, col, rti, use->relid))
		return;
	key = btree_column(renumbered(col, rti), SC_ROLE_EQ);
	if (key == NULL)
		return;
	key->clause = renumbered(clause, rti);
	use->preds = lappend(use->preds, key->clause);
	if (IsA(col, Var))
		use->eq = lappend(use->eq, key);
}

/*
 * A comparison of two columns of the table has no constants that could be
 * others next time.
 */
static void
use_own_columns(ScRelUse *use, OpExpr *clause)
{
	Node	   *left = strip((Node *) linitial(clause->args));
	Node	   *right = strip((Node *) lsecond(clause->args));

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
	Node	   *left = strip((Node *) linitial(op->args));
	Node	   *right = strip((Node *) lsecond(op->args));
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

static void
use_clause(PlannerInfo *root, ScRelUse *use, Index rti, Node *clause,
		   bool isjoin)
{
	if (IsA(clause, OpExpr) && list_length(((OpExpr *) clause)->args) == 2)
		use_opexpr(root, use, rti, (OpExpr *) clause, isjoin);
	else if (IsA(clause, ScalarArrayOpExpr))
	{
		ScalarArrayOpExpr *op = (ScalarArrayOpExpr *) clause;
		Node	   *left = strip((Node *) linitial(op->args));

		if (op->useOr && is_column(root, left, rti, use->relid) &&
			!bms_is_member(rti, pull_varnos(root, lsecond(op->args))))
			use_operator(use, renumbered(clause, rti), renumbered(left, rti),
						 op->opno, op->inputcollid, lsecond(op->args), isjoin);
	}
	else if (IsA(clause, NullTest))
		use_null_test(root, use, rti, (NullTest *) clause);
	else if (IsA(clause, RowCompareExpr))
	{
		Node	   *left = strip((Node *) linitial(((RowCompareExpr *) clause)->largs));
		ScKeyCol   *key;

		if (is_column(root, left, rti, use->relid) &&
			(key = btree_column(renumbered(left, rti), SC_ROLE_RANGE)) != NULL)
			use->range = lappend(use->range, key);
	}
	else if (IsA(clause, Var) && exprType(clause) == BOOLOID)
		use_boolean(root, use, rti, clause, clause);
	else if (is_notclause(clause))
	{
		Node	   *arg = strip((Node *) get_notclausearg(clause));

		if (IsA(arg, Var))
			use_boolean(root, use, rti, clause, arg);
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
		use->weight = whole->weight;
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
member_of(EquivalenceClass *ec, Index rti)
{
	ListCell   *lc;

	foreach(lc, ec->ec_members)
	{
		EquivalenceMember *em = (EquivalenceMember *) lfirst(lc);
		int			varno;

		if (!em->em_is_child && !em->em_is_const &&
			bms_get_singleton_member(em->em_relids, &varno) && varno == rti)
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
			(em = member_of(ec, rel->relid)) == NULL)
			continue;
		col = strip((Node *) em->em_expr);
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
		EquivalenceMember *em = member_of(pathkey->pk_eclass, rel->relid);
		ScKeyCol   *key;
		Node	   *col;

		if (em == NULL)
			break;
		col = strip((Node *) em->em_expr);
		if (!is_column(root, col, rel->relid, use->relid))
			break;
		if (order == NIL && IsA(col, OpExpr) &&
			list_length(((OpExpr *) col)->args) == 2)
		{
			Node	   *arg = strip(linitial(((OpExpr *) col)->args));

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
	use->weight = harvest_variant->weight;
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

static void
sc_set_rel_pathlist(PlannerInfo *root, RelOptInfo *rel, Index rti,
					RangeTblEntry *rte)
{
	if (prev_set_rel_pathlist)
		prev_set_rel_pathlist(root, rel, rti, rte);

	if (harvest_item != NULL && rte->rtekind == RTE_RELATION &&
		rel->reloptkind == RELOPT_BASEREL &&
		rte->relid >= FirstNormalObjectId &&
		(rte->relkind == RELKIND_RELATION ||
		 rte->relkind == RELKIND_MATVIEW ||
		 rte->relkind == RELKIND_PARTITIONED_TABLE))
		harvest_rel(root, rel, rti, rte->relid);
}

/* Plan an execution as things are, and collect how it uses its tables. */
double
sc_harvest(ScAdvice *advice, ScItem *item, ScVariant *variant)
{
	double		cost;

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

/*
 * Making candidates
 */

static bool
same_column(ScKeyCol *a, ScKeyCol *b)
{
	return equal(a->expr, b->expr);
}

static bool
has_column(List *keys, ScKeyCol *col)
{
	ListCell   *lc;

	foreach(lc, keys)
	{
		if (same_column((ScKeyCol *) lfirst(lc), col))
			return true;
	}
	return false;
}

/* Keys with further ones, each column once. */
static List *
extended(List *keys, List *more)
{
	List	   *result = list_copy(keys);
	ListCell   *lc;

	foreach(lc, more)
	{
		ScKeyCol   *col = (ScKeyCol *) lfirst(lc);

		if (!has_column(result, col) && list_length(result) < INDEX_MAX_KEYS)
			result = lappend(result, col);
	}
	return result;
}

static void
append_signature(StringInfo buf, Node *node)
{
	/* Where in the text something stood makes no difference. */
	char	   *text = nodeToString(node);
	char	   *at;

	while ((at = strstr(text, ":location ")) != NULL)
	{
		appendBinaryStringInfo(buf, text, at - text);
		text = at + strlen(":location ");
		while (*text == '-' || isdigit((unsigned char) *text))
			text++;
	}
	appendStringInfoString(buf, text);
}

static char *
signature_of(Oid relid, List *keys, List *include, List *pred)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	appendStringInfo(&buf, "%u", relid);
	foreach(lc, keys)
	{
		ScKeyCol   *col = (ScKeyCol *) lfirst(lc);

		appendStringInfo(&buf, " %u %u %d ", col->opclass, col->collation,
						 col->option);
		if (IsA(col->expr, Var))
			appendStringInfo(&buf, "%d", ((Var *) col->expr)->varattno);
		else
			append_signature(&buf, col->expr);
	}
	foreach(lc, include)
		appendStringInfo(&buf, " +%d", lfirst_int(lc));
	foreach(lc, pred)
	{
		appendStringInfoString(&buf, " ? ");
		append_signature(&buf, (Node *) lfirst(lc));
	}
	return buf.data;
}

/*
 * Would nothing ever come between the entries that a build has packed?  What
 * was recorded is not all that happens, so the table's counters must agree.
 */
static bool
is_read_only(ScAdvice *advice, Oid relid)
{
	ListCell   *lc;

	/* Its partitions are written under other names. */
	if (get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE)
		return false;

	foreach(lc, advice->writes)
	{
		if (((ScWrite *) lfirst(lc))->relid == relid)
			return false;
	}
	return advice->given ||
		DatumGetInt64(DirectFunctionCall1(pg_stat_get_mod_since_analyze,
										  ObjectIdGetDatum(relid))) == 0;
}

static ScHypo *
make_hypo(ScAdvice *advice, Oid relid, List *keys, List *include, List *pred)
{
	ScHypo	   *hypo = (ScHypo *) palloc0(sizeof(ScHypo));
	ListCell   *lc;
	int			i = 0;

	hypo->relid = relid;
	hypo->am = ((ScKeyCol *) linitial(keys))->am;
	hypo->nkeys = list_length(keys);
	hypo->natts = hypo->nkeys + list_length(include);
	hypo->attnums = (AttrNumber *) palloc0(sizeof(AttrNumber) * hypo->natts);
	hypo->opclass = (Oid *) palloc0(sizeof(Oid) * hypo->nkeys);
	hypo->opfamily = (Oid *) palloc0(sizeof(Oid) * hypo->nkeys);
	hypo->opcintype = (Oid *) palloc0(sizeof(Oid) * hypo->nkeys);
	hypo->collation = (Oid *) palloc0(sizeof(Oid) * hypo->nkeys);
	hypo->options = (int16 *) palloc0(sizeof(int16) * hypo->nkeys);
	hypo->dedup = true;
	/* Where space counts, none is left for entries that will not come. */
	if (advice->max_size >= 0 && hypo->am == BTREE_AM_OID &&
		is_read_only(advice, relid))
		hypo->fillfactor = SC_FULL;
	foreach(lc, keys)
	{
		ScKeyCol   *col = (ScKeyCol *) lfirst(lc);

		if (IsA(col->expr, Var))
			hypo->attnums[i] = ((Var *) col->expr)->varattno;
		else
			hypo->exprs = lappend(hypo->exprs, col->expr);
		hypo->opclass[i] = col->opclass;
		hypo->collation[i] = col->collation;
		hypo->options[i] = col->am == BTREE_AM_OID ? col->option : 0;
		i++;
	}
	foreach(lc, include)
		hypo->attnums[i++] = lfirst_int(lc);
	hypo->pred = (List *) copyObject(pred);
	return hypo;
}

static Bitmapset *
columns_of(List *keys, List *include, List *pred)
{
	Bitmapset  *attrs = NULL;
	Bitmapset  *result = NULL;
	ListCell   *lc;
	int			x = -1;

	foreach(lc, keys)
		pull_varattnos(((ScKeyCol *) lfirst(lc))->expr, 1, &attrs);
	pull_varattnos((Node *) pred, 1, &attrs);
	while ((x = bms_next_member(attrs, x)) >= 0)
		result = bms_add_member(result,
								x + FirstLowInvalidHeapAttributeNumber);
	foreach(lc, include)
		result = bms_add_member(result, lfirst_int(lc));
	return result;
}

static int
compare_signature(const ListCell *a, const ListCell *b)
{
	StringInfoData x;
	StringInfoData y;

	initStringInfo(&x);
	initStringInfo(&y);
	append_signature(&x, (Node *) lfirst(a));
	append_signature(&y, (Node *) lfirst(b));
	return strcmp(x.data, y.data);
}

/* The candidate with these columns, new or not. */
ScCandidate *
sc_candidate_add(ScAdvice *advice, Oid relid, List *keys, List *include,
				 List *pred)
{
	MemoryContext oldcxt = MemoryContextSwitchTo(advice->study->cxt);
	ScCandidate *cand;
	char	   *signature;
	ListCell   *lc;

	pred = list_copy(pred);
	list_sort(pred, compare_signature);
	include = list_copy(include);
	list_sort(include, list_int_cmp);
	signature = signature_of(relid, keys, include, pred);
	foreach(lc, advice->candidates)
	{
		cand = (ScCandidate *) lfirst(lc);
		if (strcmp(cand->signature, signature) == 0)
		{
			MemoryContextSwitchTo(oldcxt);
			return cand;
		}
	}
	cand = (ScCandidate *) palloc0(sizeof(ScCandidate));
	cand->id = list_length(advice->candidates);
	cand->signature = signature;
	cand->keys = keys;
	cand->include = include;
	cand->columns = columns_of(keys, include, pred);
	cand->hypo = make_hypo(advice, relid, keys, include, pred);
	advice->candidates = lappend(advice->candidates, cand);
	MemoryContextSwitchTo(oldcxt);
	return cand;
}

static double
attribute_width(Oid relid, AttrNumber attnum)
{
	double		width = get_attavgwidth(relid, attnum);

	if (width <= 0)
		width = get_typavgwidth(get_atttype(relid, attnum), -1);
	return width;
}

/* An index nearly as wide as the table is no longer an index. */
static bool
narrow_enough(Oid relid, Bitmapset *keys, List *include)
{
	Relation	rel = relation_open(relid, NoLock);
	int			natts = RelationGetNumberOfAttributes(rel);
	double		all = 24;
	double		mine = 8;
	int			nlive = 0;
	ListCell   *lc;
	int			x = -1;
	int			i;

	for (i = 1; i <= natts; i++)
	{
		if (TupleDescAttr(RelationGetDescr(rel), i - 1)->attisdropped)
			continue;
		all += attribute_width(relid, i);
		nlive++;
	}
	relation_close(rel, NoLock);
	while ((x = bms_next_member(keys, x)) >= 0)
		mine += attribute_width(relid, x);
	foreach(lc, include)
		mine += attribute_width(relid, lfirst_int(lc));
	return mine <= SC_MAX_WIDTH * all &&
		bms_num_members(keys) + list_length(include) < nlive;
}

/* Columns an index lacks to answer alone; false when that cannot be. */
static bool
missing_columns(ScRelUse *use, List *keys, List *pred, List **include)
{
	Bitmapset  *attrs = NULL;
	Bitmapset  *have = columns_of(keys, NIL, NIL);
	ListCell   *lc;
	int			x = -1;

	*include = NIL;
	if (!use->coverable)
		return false;
	foreach(lc, keys)
	{
		/* An expression's column is not the column. */
		if (!IsA(((ScKeyCol *) lfirst(lc))->expr, Var))
			return false;
	}
	foreach(lc, use->clauses)
	{
		/* The planner does not check what the predicate tells already. */
		if (pred == NIL ||
			!predicate_implied_by(list_make1(lfirst(lc)), pred, false))
			pull_varattnos((Node *) lfirst(lc), 1, &attrs);
	}
	while ((x = bms_next_member(attrs, x)) >= 0)
	{
		int			attno = x + FirstLowInvalidHeapAttributeNumber;

		if (attno <= 0)
			return false;
		if (!bms_is_member(attno, have))
			*include = list_append_unique_int(*include, attno);
	}
	x = -1;
	while ((x = bms_next_member(use->target, x)) >= 0)
	{
		if (!bms_is_member(x, have))
			*include = list_append_unique_int(*include, x);
	}
	return list_length(*include) <= SC_MAX_INCLUDE &&
		narrow_enough(use->relid, have, *include);
}

typedef struct Maker
{
	ScAdvice   *advice;
	ScItem	   *item;
	ScRelUse   *use;
	List	   *pred;
} Maker;

static void
make_one(Maker *m, List *keys, bool cover)
{
	ScCandidate *cand;
	List	   *include;

	if (keys == NIL)
		return;
	cand = sc_candidate_add(m->advice, m->use->relid, keys, NIL, m->pred);
	m->item->raw = list_append_unique_int(m->item->raw, cand->id);
	if (cover && missing_columns(m->use, keys, m->pred, &include) &&
		include != NIL)
	{
		cand = sc_candidate_add(m->advice, m->use->relid, keys, include,
								m->pred);
		m->item->raw = list_append_unique_int(m->item->raw, cand->id);
	}
}

/*
 * Columns compared by equality that an order can follow: to the planner IS
 * NULL makes nothing equal.
 */
static List *
before_order(List *cols)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, cols)
	{
		Node	   *clause = ((ScKeyCol *) lfirst(lc))->clause;

		if (clause == NULL || !IsA(clause, NullTest))
			result = lappend(result, lfirst(lc));
	}
	return result;
}

/* Everything that can follow a set of columns compared by equality. */
static void
make_from(Maker *m, List *base, bool cover)
{
	ScRelUse   *use = m->use;
	ListCell   *lc;
	ListCell   *l;

	make_one(m, base, cover);
	foreach(lc, use->range)
	{
		List	   *keys = extended(base, list_make1(lfirst(lc)));

		make_one(m, keys, cover);
		/* After a range only its own order goes on. */
		foreach(l, use->orders)
		{
			if (cover && same_column((ScKeyCol *) lfirst(lc),
									 (ScKeyCol *) linitial((List *) lfirst(l))))
				make_one(m, extended(keys, (List *) lfirst(l)), false);
		}
	}
	foreach(lc, use->orders)
	{
		List	   *keys = extended(before_order(base), (List *) lfirst(lc));

		make_one(m, keys, cover);
		foreach(l, use->range)
			make_one(m, extended(keys, list_make1(lfirst(l))), false);
	}
	if (!cover)
		return;
	foreach(lc, use->join)
	{
		List	   *one = list_make1(lfirst(lc));

		make_one(m, extended(base, one), cover);
		make_one(m, extended(one, base), cover);
		foreach(l, use->range)
			make_one(m, extended(extended(base, one), list_make1(lfirst(l))),
					 cover);
	}
	if (list_length(use->join) > 1)
	{
		make_one(m, extended(base, use->join), cover);
		foreach(lc, use->join)
			make_one(m, extended(extended(list_make1(lfirst(lc)), use->join),
								 base), cover);
	}
}

/* How many statements compare a column of a table. */
static double
popularity(ScAdvice *advice, Oid relid, ScKeyCol *col)
{
	double		n = 0;
	ListCell   *lc;

	foreach(lc, advice->items)
	{
		ScItem	   *item = (ScItem *) lfirst(lc);
		ListCell   *l;

		foreach(l, item->uses)
		{
			ScRelUse   *use = (ScRelUse *) lfirst(l);

			if (use->relid == relid &&
				(has_column(use->eq, col) || has_column(use->join, col)))
			{
				n++;
				break;
			}
		}
	}
	return n;
}

typedef struct Ranked
{
	ScKeyCol   *col;
	double		popularity;
	double		ndistinct;
	bool		coarse;			/* has few values */
	int			position;
} Ranked;

static int
compare_ranked(const void *a, const void *b)
{
	const Ranked *x = (const Ranked *) a;
	const Ranked *y = (const Ranked *) b;

	/* What hardly selects comes last: others want the rest without it. */
	if (x->coarse != y->coarse)
		return x->coarse ? 1 : -1;
	if (x->popularity != y->popularity)
		return x->popularity > y->popularity ? -1 : 1;
	if (x->ndistinct != y->ndistinct)
		return x->ndistinct > y->ndistinct ? -1 : 1;
	return x->position - y->position;
}

/* Columns in the order they are best shared in, each once. */
static List *
ranked_columns(ScAdvice *advice, Oid relid, List *cols, bool by_popularity)
{
	int			n = list_length(cols);
	Ranked	   *ranked = (Ranked *) palloc(sizeof(Ranked) * Max(1, n));
	List	   *result = NIL;
	ListCell   *lc;
	int			i = 0;

	foreach(lc, cols)
	{
		ranked[i].col = (ScKeyCol *) lfirst(lc);
		ranked[i].popularity = by_popularity ?
			popularity(advice, relid, ranked[i].col) : 0;
		ranked[i].ndistinct = ndistinct_of(relid, ranked[i].col->expr, 1e6);
		ranked[i].coarse = ranked[i].ndistinct > 0 &&
			ranked[i].ndistinct <= SC_COARSE;
		ranked[i].position = i;
		i++;
	}
	qsort(ranked, n, sizeof(Ranked), compare_ranked);
	for (i = 0; i < n && list_length(result) < SC_MAX_EQ; i++)
	{
		if (!has_column(result, ranked[i].col))
			result = lappend(result, ranked[i].col);
	}
	return result;
}

/* Without the columns that a predicate fixes. */
static List *
without_preds(List *cols, List *pred)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, cols)
	{
		ScKeyCol   *col = (ScKeyCol *) lfirst(lc);

		if (col->clause == NULL || !list_member(pred, col->clause))
			result = lappend(result, col);
	}
	return result;
}

/* The first column of the primary key, or of the table. */
static List *
small_key(Oid relid)
{
	Relation	rel = relation_open(relid, NoLock);
	Bitmapset  *attrs = RelationGetIndexAttrBitmap(rel,
												   INDEX_ATTR_BITMAP_PRIMARY_KEY);
	int			x = bms_next_member(attrs, -1);
	AttrNumber	attnum = x >= 0 ? x + FirstLowInvalidHeapAttributeNumber : 1;
	ScKeyCol   *col = NULL;

	relation_close(rel, NoLock);
	if (attnum > 0 && OidIsValid(get_atttype(relid, attnum)))
		col = sc_plain_column(relid, attnum);
	return col ? list_make1(col) : NIL;
}

static void
make_for_pred(ScAdvice *advice, ScItem *item, ScRelUse *whole, List *pred)
{
	ScRelUse   *use = (ScRelUse *) palloc(sizeof(ScRelUse));
	Maker		m = {advice, item, use, pred};
	List	   *cols = without_preds(whole->eq, pred);
	List	   *eq = ranked_columns(advice, whole->relid, cols, true);
	List	   *other = ranked_columns(advice, whole->relid, cols, false);
	ListCell   *lc;

	*use = *whole;
	use->range = without_preds(whole->range, pred);
	make_from(&m, eq, true);
	if (list_length(eq) > 1 && !equal(eq, other))
		make_from(&m, other, false);
	if (list_length(eq) > 1)
	{
		foreach(lc, eq)
			make_from(&m, list_make1(lfirst(lc)), false);
		if (list_length(eq) > 2)
			make_from(&m, list_copy_head(eq, 2), false);
	}
	if (eq != NIL)
		make_from(&m, NIL, false);
	foreach(lc, use->special)
		make_one(&m, list_make1(lfirst(lc)), false);
	/* Rows that only the predicate selects: any small key will do. */
	if (pred != NIL && cols == NIL && use->range == NIL &&
		use->join == NIL && use->orders == NIL)
		make_one(&m, small_key(use->relid), true);
}

/* A scan of a whole table may be one of a smaller index. */
static void
make_cover(ScAdvice *advice, ScItem *item, ScRelUse *use)
{
	Maker		m = {advice, item, use, NIL};
	List	   *missing;
	List	   *keys = NIL;
	ListCell   *lc;

	if (use->eq != NIL || use->range != NIL || use->orders != NIL ||
		!missing_columns(use, NIL, NIL, &missing) || missing == NIL)
		return;
	foreach(lc, missing)
	{
		ScKeyCol   *col = sc_plain_column(use->relid, lfirst_int(lc));

		if (col == NULL)
			return;
		keys = lappend(keys, col);
	}
	make_one(&m, keys, false);
}

static void
make_brin(ScAdvice *advice, ScItem *item, ScRelUse *use)
{
	Maker		m = {advice, item, use, NIL};
	ListCell   *lc;

	if (get_rel_relkind(use->relid) != RELKIND_RELATION ||
		sc_sample_get(advice->study, use->relid)->pages < SC_BRIN_PAGES)
		return;
	foreach(lc, use->range)
	{
		ScKeyCol   *col = (ScKeyCol *) lfirst(lc);
		Oid			opclass;

		if (fabs(correlation_of(use->relid, col->expr)) < SC_BRIN_CORRELATION)
			continue;
		opclass = GetDefaultOpClass(exprType(col->expr), BRIN_AM_OID);
		if (OidIsValid(opclass))
			make_one(&m, list_make1(make_keycol(col->expr, BRIN_AM_OID,
												opclass, col->collation,
												SC_ROLE_RANGE)), false);
	}
}

/* The part of a table's rows that conditions select. */
static double
pred_part(ScAdvice *advice, Oid relid, List *pred)
{
	/* Partitions are looked at when the size is estimated. */
	if (get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE)
		return 0;
	return sc_sample_fraction(advice->study,
							  sc_sample_get(advice->study, relid), pred);
}

/* The part of a statement's executions that have this condition. */
static double
part_with(ScItem *item, ScRelUse *use, Node *clause)
{
	double		weight = 0;
	ListCell   *lc;

	foreach(lc, item->uses)
	{
		ScRelUse   *other = (ScRelUse *) lfirst(lc);

		if (other->relid == use->relid && list_member(other->preds, clause))
			weight += other->weight;
	}
	return weight;
}

/*
 * Does a condition come with nearly every execution of the statement?  Those
 * that differ from it in nothing but constants are executions of it.
 */
static bool
recurs(ScAdvice *advice, ScItem *item, ScRelUse *use, Node *clause)
{
	double		with = 0;
	double		all = 0;
	ListCell   *lc;

	foreach(lc, advice->items)
	{
		ScItem	   *other = (ScItem *) lfirst(lc);

		if (other != item && (item->shape == 0 || other->shape != item->shape))
			continue;
		with += other->weight * part_with(other, use, clause);
		all += other->weight;
	}
	return with >= SC_PRED_WEIGHT * all;
}

/*
 * Do so few rows meet the conditions that an index of these is worth having?
 * That a row is live comes with so many statements that a little is enough.
 */
static bool
selects_part(ScAdvice *advice, Oid relid, List *pred)
{
	double		limit = SC_LIVE_PART;
	ListCell   *lc;

	foreach(lc, pred)
	{
		if (IsA(lfirst(lc), OpExpr) || IsA(lfirst(lc), ScalarArrayOpExpr))
			limit = SC_PRED_PART;
	}
	return pred_part(advice, relid, pred) <= limit;
}

/*
 * Lists of conditions that recur and leave out enough of the rows; those on
 * the same columns, such as both ends of a range, go together.
 */
static List *
recurring_preds(ScAdvice *advice, ScItem *item, ScRelUse *use)
{
	List	   *groups = NIL;
	List	   *columns = NIL;
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, use->preds)
	{
		Node	   *clause = (Node *) lfirst(lc);
		Bitmapset  *attrs = NULL;
		ListCell   *g;
		ListCell   *c;

		if (!recurs(advice, item, use, clause))
			continue;
		pull_varattnos(clause, 1, &attrs);
		forboth(g, groups, c, columns)
		{
			if (bms_equal((Bitmapset *) lfirst(c), attrs))
				break;
		}
		if (g != NULL)
			lfirst(g) = list_append_unique((List *) lfirst(g), clause);
		else
		{
			groups = lappend(groups, list_make1(clause));
			columns = lappend(columns, attrs);
		}
	}
	foreach(lc, groups)
	{
		if (selects_part(advice, use->relid, (List *) lfirst(lc)))
			result = lappend(result, lfirst(lc));
	}
	return result;
}

/* All candidates of all statements. */
void
sc_candidates_make(ScAdvice *advice)
{
	MemoryContext oldcxt = MemoryContextSwitchTo(advice->study->cxt);
	ListCell   *lc;

	foreach(lc, advice->items)
	{
		ScItem	   *item = (ScItem *) lfirst(lc);
		ListCell   *l;

		CHECK_FOR_INTERRUPTS();
		foreach(l, item->uses)
		{
			ScRelUse   *use = (ScRelUse *) lfirst(l);
			List	   *preds = recurring_preds(advice, item, use);
			List	   *all = NIL;
			ListCell   *p;

			make_for_pred(advice, item, use, NIL);
			make_cover(advice, item, use);
			make_brin(advice, item, use);
			foreach(p, preds)
			{
				make_for_pred(advice, item, use, (List *) lfirst(p));
				all = list_union(all, (List *) lfirst(p));
			}
			if (list_length(preds) > 1)
				make_for_pred(advice, item, use, all);
		}
	}
	MemoryContextSwitchTo(oldcxt);
}

void
sc_candidates_init(void)
{
	prev_set_rel_pathlist = set_rel_pathlist_hook;
	set_rel_pathlist_hook = sc_set_rel_pathlist;
}
