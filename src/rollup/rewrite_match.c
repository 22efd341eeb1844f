/*
 * rewrite_match.c: does a rollup hold what a query asks for?
 *
 * Everything is compared after the same simplification by the planner, with
 * what depends on the time zone pinned to the rollup's.  The rule: each
 * group of the query is a union of groups of the rollup.  So the query's
 * keys and filters have to be functions of the rollup's keys, its rows have
 * to satisfy the rollup's WHERE, and its aggregates have to be in the
 * states.  What is not provable is refused, with a reason that
 * explain_rewrite shows.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_amop.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/prep.h"
#include "optimizer/restrictinfo.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "rollup/rewrite.h"

static bool never_null(ScMatch *m, Expr *expr);

static bool
fail(ScMatch *m, const char *reason)
{
	if (m->reason == NULL)
		m->reason = reason;
	return false;
}

/* An expression of the query as text, for reasons. */
static const char *
text_of(ScMatch *m, Node *expr)
{
	RangeTblEntry *rte = m->root->simple_rte_array[m->srcvarno];
	Node	   *copy;

	if (!sc_rewrite_noting())
		return "";
	copy = copyObject(expr);
	if (contain_subplans(copy) ||
		!bms_is_subset(pull_varnos(m->root, copy), bms_make_singleton(m->srcvarno)))
		return "...";
	ChangeVarNodes(copy, m->srcvarno, 1, 0);
	return deparse_expression(copy, deparse_context_for(get_rel_name(rte->relid), rte->relid),
							  false, false);
}

/* ---- the same form for both sides ---- */

/* A cast that changes nothing of a value: numeric(10,2)::numeric. */
static bool
is_plain_cast(Node *node)
{
	RelabelType *cast = (RelabelType *) node;

	return IsA(cast, RelabelType) && cast->resulttypmod < 0 &&
		cast->resulttype == exprType((Node *) cast->arg) &&
		cast->resultcollid == exprCollation((Node *) cast->arg);
}

static bool
has_plain_cast(Node *node, void *context)
{
	return node != NULL &&
		(is_plain_cast(node) || expression_tree_walker(node, has_plain_cast, context));
}

Node *
sc_strip_plain_casts(Node *node, void *context)
{
	if (node == NULL)
		return NULL;
	if (is_plain_cast(node))
		return sc_strip_plain_casts((Node *) ((RelabelType *) node)->arg, context);
	return expression_tree_mutator(node, sc_strip_plain_casts, context);
}

/* An expression of the query, in the form the rollup's are in; not a copy. */
Node *
sc_match_normalize(ScMatch *m, Node *expr)
{
	Node	   *pinned;

	if (has_plain_cast(expr, NULL))
		expr = sc_strip_plain_casts(expr, NULL);
	if (IsA(expr, Aggref))
	{
		Aggref	   *agg = makeNode(Aggref);

		*agg = *(Aggref *) expr;
		agg->aggno = agg->aggtransno = -1;
		expr = (Node *) agg;
	}
	if (m->spec->zone == NULL || !sc_zone_matters(expr, NULL))
		return expr;
	pinned = sc_pin_zone(expr, m->spec->zone);
	if (equal(pinned, expr))
		return expr;
	m->zoned = true;
	return eval_const_expressions(m->root, pinned);
}

/* The default btree operator family of a type, or invalid. */
Oid
sc_btree_family(Oid type)
{
	return lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY)->btree_opf;
}

/* A form of the rollup's as the query would say; not a copy, unless it has to be. */
void *
sc_match_as_query(ScMatch *m, void *form)
{
	Node	   *copy;

	if (m->varmap)
		return sc_stored_as_query(m, form);
	if (m->srcvarno == 1 || form == NULL)
		return form;
	copy = copyObject(form);
	ChangeVarNodes(copy, 1, m->srcvarno, 0);
	return copy;
}

/*
 * Can the query's keys follow from the rollup's, as far as the columns tell
 * that they read?  Most rollups that do not match are passed over so.
 */
bool
sc_match_reads_keys(ScMatch *m, List *groupclause, List *tlist)
{
	Bitmapset  *attrs = NULL;
	ListCell   *lc;

	if (!sc_spec_has_forms(m->spec))
		return false;
	foreach(lc, groupclause)
		pull_varattnos((Node *) get_sortgroupclause_tle(lfirst(lc), tlist)->expr,
					   m->srcvarno, &attrs);
	return bms_is_subset(attrs, m->spec->forms->keyattrs);
}

/* All but the buckets' zones lives as long as the specification is pinned. */
static bool
read_rollup(ScMatch *m)
{
	ScSpec	   *spec = m->spec;

	if (!sc_spec_has_forms(spec))
		return fail(m, spec->formless ?
					psprintf("planning its expressions fails: %s", spec->formless) :
					"its functions are not looked into by a parallel worker");
	m->keys = palloc0(sizeof(Expr *) * (spec->nkeys + 1));
	m->buckets = palloc0(sizeof(ScBucket *) * (spec->nkeys + 1));
	m->sharp = spec->forms->sharp;
	for (int i = 0; i < spec->nkeys; i++)
		m->keys[i] = sc_match_as_query(m, spec->forms->keys[i]);
	m->aggs = sc_match_as_query(m, spec->forms->aggs);
	m->rollupquals = sc_match_as_query(m, spec->forms->quals);
	return true;
}

/* ---- functions of the keys ---- */

typedef struct DeriveContext
{
	ScMatch    *m;
	bool		ranges;			/* see sc_bucket_compare */
	bool		failed;
} DeriveContext;

static Node *
key_var(ScMatch *m, int i)
{
	ScKey	   *key = &m->spec->keys[i];

	return (Node *) makeVar(m->basevarno, ScBaseKey(i), key->type, key->typmod,
							key->collation, 0);
}

/* A key as a bucket of time: most queries name the key as it is. */
ScBucket *
sc_match_bucket(ScMatch *m, int i)
{
	if (m->buckets[i] == NULL)
	{
		m->buckets[i] = palloc(sizeof(ScBucket));
		sc_bucket_of_key(m->buckets[i], m->keys[i], (Expr *) key_var(m, i));
	}
	return m->buckets[i];
}

static int
key_index(ScMatch *m, Node *node)
{
	for (int i = 0; i < m->spec->nkeys; i++)
		if (equal(node, m->keys[i]))
			return i;
	return -1;
}

/* Does the operator sort, or compare, as the key's groups are made? */
static bool
sorts_as_key(ScMatch *m, int i, Oid opno, Oid inputcollid)
{
	Oid			family = sc_btree_family(m->spec->keys[i].type);

	return OidIsValid(family) && inputcollid == m->spec->keys[i].collation &&
		op_in_opfamily(opno, family);
}

static Node *derive_mutator(Node *node, void *context);

/* The key that is null where the expression is, or -1. */
static int
key_tested(ScMatch *m, Node *node)
{
	int			key = key_index(m, node);

	/* A bucket is null if its time is. */
	for (int i = 0; i < m->spec->nkeys && key < 0; i++)
	{
		ScBucket   *b = sc_match_bucket(m, i);

		if (b->unit != SC_UNIT_NONE &&
			(equal(node, b->instant) || equal(node, b->local) ||
			 equal(node, sc_bucket_day(b))))
			key = i;
	}
	return key;
}

/*
 * The key that an operator's argument is, perhaps taken for a type that its
 * own consists of, and this of the base table in *var; or -1.
 */
static int
key_compared(ScMatch *m, Node *arg, Node **var)
{
	int			i = key_index(m, arg);

	if (i >= 0)
		*var = key_var(m, i);
	else if (IsA(arg, RelabelType) &&
			 (i = key_compared(m, (Node *) ((RelabelType *) arg)->arg, var)) >= 0)
	{
		RelabelType *copy = makeNode(RelabelType);

		*copy = *(RelabelType *) arg;
		copy->arg = (Expr *) *var;
		*var = (Node *) copy;
	}
	return i;
}

/*
 * A comparison or NULL test of a key whose equal values may differ: right
 * for all of them if it is an operator of the key's own order.
 */
static Node *
derive_comparison(Node *node, DeriveContext *cxt)
{
	ScMatch    *m = cxt->m;
	List	   *args;
	Oid			opno;
	Oid			coll;
	Node	   *copy;

	if (IsA(node, NullTest))
	{
		int			i = key_tested(m, (Node *) ((NullTest *) node)->arg);
		NullTest   *test;

		if (i < 0 || ((NullTest *) node)->argisrow)
			return NULL;
		test = makeNode(NullTest);
		*test = *(NullTest *) node;
		test->arg = (Expr *) key_var(m, i);
		return (Node *) test;
	}
	if (IsA(node, OpExpr))
	{
		args = ((OpExpr *) node)->args;
		opno = ((OpExpr *) node)->opno;
		coll = ((OpExpr *) node)->inputcollid;
	}
	else if (IsA(node, ScalarArrayOpExpr))
	{
		args = ((ScalarArrayOpExpr *) node)->args;
		opno = ((ScalarArrayOpExpr *) node)->opno;
		coll = ((ScalarArrayOpExpr *) node)->inputcollid;
	}
	else
		return NULL;
	if (list_length(args) != 2)
		return NULL;
	for (int side = 0; side < 2; side++)
	{
		Node	   *var;
		int			i = key_compared(m, list_nth(args, side), &var);
		List	   *newargs;

		if (i < 0 || m->sharp[i] || !sorts_as_key(m, i, opno, coll))
			continue;
		if (side == 1 && IsA(node, ScalarArrayOpExpr))
			return NULL;
		newargs = list_make2(side == 0 ? var : derive_mutator(linitial(args), cxt),
							 side == 1 ? var : derive_mutator(lsecond(args), cxt));
		copy = copyObject(node);
		if (IsA(node, OpExpr))
			((OpExpr *) copy)->args = newargs;
		else
			((ScalarArrayOpExpr *) copy)->args = newargs;
		return copy;
	}
	return NULL;
}

static Node *
derive_mutator(Node *node, void *context)
{
	DeriveContext *cxt = context;
	ScMatch    *m = cxt->m;
	Node	   *derived;
	int			i;

	if (node == NULL || cxt->failed)
		return node;
	i = key_index(m, node);
	if (i >= 0)
	{
		if (!m->sharp[i])
			cxt->failed = true;
		return key_var(m, i);
	}
	if ((derived = derive_comparison(node, cxt)) != NULL ||
		(derived = sc_bucket_derive(m, node)) != NULL ||
		(cxt->ranges && (derived = (Node *) sc_bucket_compare(m, (OpExpr *) node)) != NULL))
		return derived;
	/* Columns of other tables are joined to the rollup's groups. */
	if (m->joined && IsA(node, Var) && ((Var *) node)->varlevelsup == 0 &&
		((Var *) node)->varno != m->srcvarno)
		return copyObject(node);
	if (IsA(node, Var) || IsA(node, PlaceHolderVar) || IsA(node, Aggref) ||
		IsA(node, GroupingFunc) || IsA(node, WindowFunc) || IsA(node, SubLink) ||
		IsA(node, SubPlan) || IsA(node, AlternativeSubPlan))
	{
		cxt->failed = true;
		return node;
	}
	return expression_tree_mutator(node, derive_mutator, context);
}

/*
 * The expression over the base table, or NULL.  With ranges: also where the
 * raw time is compared with the edge of a bucket.
 */
static Expr *
derive(ScMatch *m, Node *expr, bool ranges)
{
	DeriveContext cxt = {m, ranges, false};
	Node	   *result = derive_mutator(expr, &cxt);

	return cxt.failed ? NULL : (Expr *) result;
}

/* ---- WHERE ---- */

/*
 * A condition as the planner wants them: with no AND directly in an AND, or OR
 * in an OR, where an expression stands for what was one comparison.
 */
List *
sc_flat_quals(Expr *qual)
{
	return qual ? make_ands_implicit(canonicalize_qual(qual, false)) : NIL;
}

/*
 * A condition over the base table, or NIL.  It may be wrong for a bucket that
 * a change of the clocks cuts in two; such a group passes, so that who reads
 * it finds out, and asks the table.
 */
static List *
derive_qual(ScMatch *m, Node *qual, bool ranges)
{
	List	   *before = m->guards;
	Expr	   *derived;
	ListCell   *lc;

	m->guards = NIL;
	derived = derive(m, qual, ranges);
	foreach(lc, derived ? m->guards : NIL)
		derived = make_orclause(list_make2(derived,
										   sc_bucket_is_split_call(sc_match_bucket(m, lfirst_int(lc)),
																   key_var(m, lfirst_int(lc)))));
	m->guards = list_union_int(before, m->guards);
	return sc_flat_quals(derived);
}

/*
 * The conditions of the query's only table, those among them that read none
 * of its columns too (EXISTS (SELECT ...), a parameter): these say the same
 * of all groups.
 */
static List *
table_conditions(RelOptInfo *rel)
{
	return list_concat(extract_actual_clauses(rel->baserestrictinfo, false),
					   extract_actual_clauses(rel->baserestrictinfo, true));
}

/* ---- conditions that imply others ---- */

/*
 * Comparisons of whole numbers and days with constants, as >= and <=: so that
 * n > 3 and n >= 4 are seen to say the same.
 */
static Node *
close_ranges(Node *node, void *context)
{
	OpExpr	   *op = (OpExpr *) node;
	Const	   *c;
	Oid			family;
	int			strategy;
	int64		value;
	int64		limit;
	int			step;
	Oid			type;

	if (node == NULL)
		return NULL;
	if (!IsA(op, OpExpr) || list_length(op->args) != 2)
		return expression_tree_mutator(node, close_ranges, context);
	c = lsecond(op->args);
	if (!IsA(c, Const))
	{
		if (!IsA(linitial(op->args), Const) || !OidIsValid(get_commutator(op->opno)))
			return (Node *) copyObject(op);
		op = copyObject(op);
		CommuteOpExpr(op);
		c = lsecond(op->args);
	}
	type = exprType(linitial(op->args));
	if (c->constisnull ||
		!(c->consttype == INT2OID || c->consttype == INT4OID || c->consttype == INT8OID ||
		  (c->consttype == DATEOID && type == DATEOID)))
		return (Node *) copyObject(op);
	family = sc_btree_family(c->consttype);
	strategy = OidIsValid(family) ? get_op_opfamily_strategy(op->opno, family) : 0;
	if (strategy != BTGreaterStrategyNumber && strategy != BTLessStrategyNumber)
		return (Node *) copyObject(op);
	step = strategy == BTGreaterStrategyNumber ? 1 : -1;
	value = c->consttype == INT2OID ? DatumGetInt16(c->constvalue) :
		c->consttype == INT8OID ? DatumGetInt64(c->constvalue) : DatumGetInt32(c->constvalue);
	limit = c->consttype == INT2OID ? (step > 0 ? PG_INT16_MAX : PG_INT16_MIN) :
		c->consttype == INT8OID ? (step > 0 ? PG_INT64_MAX : PG_INT64_MIN) :
		(step > 0 ? PG_INT32_MAX : PG_INT32_MIN);
	/* Nor may a day become infinite, or stop being so. */
	if (value == limit || (c->consttype == DATEOID &&
						   (DATE_NOT_FINITE((DateADT) value) || value + step == limit)))
		return (Node *) copyObject(op);
	c = copyObject(c);
	value += step;
	c->constvalue = c->consttype == INT2OID ? Int16GetDatum(value) :
		c->consttype == INT8OID ? Int64GetDatum(value) : Int32GetDatum(value);
	return (Node *)
		make_opclause(get_opfamily_member(family, type, c->consttype,
										  step > 0 ? BTGreaterEqualStrategyNumber :
										  BTLessEqualStrategyNumber),
					  BOOLOID, false, copyObject(linitial(op->args)), (Expr *) c,
					  InvalidOid, InvalidOid);
}

static bool
implied(List *quals, List *by)
{
	return predicate_implied_by(quals, by, false) ||
		predicate_implied_by((List *) close_ranges((Node *) quals, NULL),
							 (List *) close_ranges((Node *) by, NULL), false);
}

/* Do rows that satisfy the query's conditions satisfy the rollup's? */
bool
sc_match_rollupquals(ScMatch *m, List *quals)
{
	return m->rollupquals == NIL || implied(m->rollupquals, quals);
}

/* Is a condition of the query satisfied by all rows that the rollup counts? */
bool
sc_match_always(ScMatch *m, Node *qual)
{
	if (IsA(qual, NullTest) && ((NullTest *) qual)->nulltesttype == IS_NOT_NULL &&
		!((NullTest *) qual)->argisrow && never_null(m, ((NullTest *) qual)->arg))
		return true;
	return m->rollupquals && implied(list_make1(qual), m->rollupquals);
}

static bool
match_where(ScMatch *m)
{
	List	   *quals = NIL;
	List	   *clauses = NIL;
	ListCell   *lc;

	if (m->varmap)
		(void) sc_stored_conditions(m, &clauses);
	else
		clauses = table_conditions(m->input);
	foreach(lc, clauses)
	{
		if (contain_volatile_functions(lfirst(lc)))
			return fail(m, "its WHERE calls a volatile function");
		quals = lappend(quals, sc_match_normalize(m, lfirst(lc)));
	}
	if (!sc_match_rollupquals(m, quals))
		return fail(m, psprintf("the query's rows need not satisfy the rollup's condition %s",
								text_of(m, (Node *) make_ands_explicit(m->rollupquals))));
	foreach(lc, quals)
	{
		Node	   *qual = lfirst(lc);
		List	   *derived;

		if (sc_match_always(m, qual))
			continue;
		derived = derive_qual(m, qual, false);
		if (derived == NIL && m->varmap == NULL && sc_bucket_range(m, (OpExpr *) qual))
			continue;
		if (derived == NIL)
			derived = derive_qual(m, qual, true);
		m->quals = list_concat(m->quals, derived);
		if (derived == NIL)
			return fail(m, psprintf("the condition %s is not on its group keys, or cuts through groups",
									text_of(m, qual)));
	}
	return true;
}

/* ---- GROUP BY ---- */

static bool
add_key(ScMatch *m, Expr *expr, SortGroupClause *sgc)
{
	Node	   *normal = sc_match_normalize(m, (Node *) expr);
	ScQueryKey *key = palloc0(sizeof(ScQueryKey));
	int			i = key_index(m, normal);

	key->expr = expr;
	key->sgc = sgc;
	if (i < 0 &&
		(contain_volatile_functions(normal) || contain_subplans(normal) ||
		 expression_returns_set(normal)))
		return fail(m, psprintf("the group key %s is volatile or a subquery",
								text_of(m, normal)));
	/* It would be taken for the scan's own column. */
	if (!m->joined && !IsA(expr, Const) && !contain_var_clause((Node *) expr))
		return fail(m, "a group key of the query does not read its source");
	if (i >= 0)
	{
		key->derived = (Expr *) key_var(m, i);
		if (get_opcode(sgc->eqop) != m->spec->keys[i].eq.fn_oid)
			return fail(m, psprintf("%s is grouped by another equality operator",
									text_of(m, normal)));
	}
	else
		key->derived = derive(m, normal, true);
	if (key->derived == NULL)
		return fail(m, psprintf("the group key %s does not follow from its group keys",
								text_of(m, normal)));
	m->qkeys = lappend(m->qkeys, key);
	return true;
}

/*
 * Columns that the query returns and does not group by: PostgreSQL allows
 * that, or has dropped them from GROUP BY, where a primary key is among the
 * keys.  They are keys as well, that do not tell more groups apart.
 */
static bool
add_dependent(Node *node, void *context)
{
	ScMatch    *m = context;
	SortGroupClause *sgc;
	TypeCacheEntry *type;

	if (node == NULL || sc_match_is_key(m, node) || IsA(node, Aggref) ||
		IsA(node, GroupingFunc))
		return false;
	if (!IsA(node, Var))
		return expression_tree_walker(node, add_dependent, context);
	type = lookup_type_cache(exprType(node), TYPECACHE_EQ_OPR | TYPECACHE_HASH_PROC);
	if (!OidIsValid(type->eq_opr))
		return !fail(m, psprintf("%s, of a type without equality, is not a group key of the query",
								 text_of(m, node)));
	sgc = makeNode(SortGroupClause);
	sgc->eqop = type->eq_opr;
	sgc->hashable = OidIsValid(type->hash_proc);
	return !add_key(m, (Expr *) node, sgc);
}

static bool
match_keys(ScMatch *m, List *groupclause, List *tlist, List *outputs,
		   List *having)
{
	ListCell   *lc;

	foreach(lc, groupclause)
	{
		SortGroupClause *sgc = lfirst_node(SortGroupClause, lc);

		if (!add_key(m, get_sortgroupclause_tle(sgc, tlist)->expr, sgc))
			return false;
	}
	return groupclause == NIL ||
		!(add_dependent((Node *) outputs, m) || add_dependent((Node *) having, m));
}

/* A condition that a column of the base table is null, true or false. */
static bool
fixes_key(Node *qual, AttrNumber attno)
{
	if (IsA(qual, NullTest) && ((NullTest *) qual)->nulltesttype == IS_NULL)
		qual = (Node *) ((NullTest *) qual)->arg;
	else if (IsA(qual, BooleanTest) &&
			 (((BooleanTest *) qual)->booltesttype == IS_TRUE ||
			  ((BooleanTest *) qual)->booltesttype == IS_FALSE ||
			  ((BooleanTest *) qual)->booltesttype == IS_UNKNOWN))
		qual = (Node *) ((BooleanTest *) qual)->arg;
	else if (is_notclause(qual))
		qual = (Node *) get_notclausearg(qual);
	else if (!IsA(qual, Var))
		return false;
	return IsA(qual, Var) && ((Var *) qual)->varattno == attno;
}

static Node *
without_relabel(Node *node)
{
	while (IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	return node;
}

/* Is the rollup's key one of the query's, or the same for all rows? */
static bool
key_is_fixed(ScMatch *m, int i)
{
	ListCell   *lc;

	foreach(lc, m->qkeys)
	{
		Var		   *var = (Var *) ((ScQueryKey *) lfirst(lc))->derived;

		if (IsA(var, Var) && var->varattno == ScBaseKey(i))
			return true;
	}
	foreach(lc, m->quals)
	{
		OpExpr	   *op = lfirst(lc);
		Var		   *var;
		Node	   *other;

		if (fixes_key(lfirst(lc), ScBaseKey(i)))
			return true;
		if (!IsA(op, OpExpr) || list_length(op->args) != 2)
			continue;
		/* A varchar is compared as a text. */
		var = (Var *) without_relabel(linitial(op->args));
		other = lsecond(op->args);
		if (!IsA(var, Var))
		{
			var = (Var *) without_relabel(lsecond(op->args));
			other = linitial(op->args);
		}
		if (IsA(var, Var) && var->varattno == ScBaseKey(i) &&
			!contain_var_clause(other) &&
			get_opcode(op->opno) == m->spec->keys[i].eq.fn_oid &&
			op->inputcollid == m->spec->keys[i].collation)
			return true;
	}
	return false;
}

/* ---- aggregates ---- */

static bool
is_not_null_column(Oid relid, AttrNumber attno)
{
	HeapTuple	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid), Int16GetDatum(attno));
	bool		result = false;

	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_attribute) GETSTRUCT(tuple))->attnotnull;
		ReleaseSysCache(tuple);
	}
	return result;
}

static bool
never_null(ScMatch *m, Expr *expr)
{
	RangeTblEntry *rte = m->root->simple_rte_array[m->srcvarno];
	Var		   *var = (Var *) expr;
	char	   *name;
	ListCell   *lc;

	if (IsA(expr, Const))
		return !((Const *) expr)->constisnull;
	if (!IsA(var, Var) || var->varno != m->srcvarno || var->varattno <= 0 ||
		!is_not_null_column(rte->relid, var->varattno))
		return false;
	if (!rte->inh || rte->relkind == RELKIND_PARTITIONED_TABLE)
		return true;
	/* Tables that inherit, unlike partitions, may do without the constraint. */
	name = get_attname(rte->relid, var->varattno, false);
	foreach(lc, find_all_inheritors(rte->relid, NoLock, NULL))
		if (!is_not_null_column(lfirst_oid(lc), get_attnum(lfirst_oid(lc), name)))
			return false;
	return true;
}

/* An aggregate's arguments, without what only sorts its input. */
List *
sc_match_args(Aggref *agg)
{
	List	   *args = NIL;
	ListCell   *lc;

	foreach(lc, agg->args)
	{
		TargetEntry *tle = lfirst(lc);

		if (!tle->resjunk)
			args = lappend(args, tle->expr);
	}
	return args;
}

/* Does each of the query's keys depend on the row? */
static bool
keys_differ(ScMatch *m)
{
	ListCell   *lc;

	foreach(lc, m->qkeys)
		if (!contain_var_clause((Node *) ((ScQueryKey *) lfirst(lc))->expr))
			return false;
	return true;
}

/* A state that holds what the aggregate needs, or -1. */
static int
find_slot(ScMatch *m, Aggref *agg, ScStateDef *def)
{
	List	   *args = sc_match_args(agg);
	int			counting = -1;

	for (int i = 0; i < m->spec->nslots; i++)
	{
		ScSlot	   *slot = &m->spec->slots[i];
		ScStateDef	probe = *def;

		bool		same;

		/* Sums are kept beside sums of squares. */
		probe.squares |= slot->def.squares;
		same = sc_state_same(&slot->def, &probe);
		if (!same && !(def->kind == SC_STATE_COUNT && sc_state_counts(&slot->def)))
			continue;
		if (!equal(sc_match_as_query(m, m->spec->forms->args[i]), args) ||
			!equal(sc_match_as_query(m, m->spec->forms->filters[i]), agg->aggfilter))
			continue;
		if (same)
			return i;
		counting = i;
	}
	return counting;
}

static bool
add_item(ScMatch *m, ScItemKind kind, int arg, Aggref *agg)
{
	ScItem	   *item = palloc0(sizeof(ScItem));

	item->kind = kind;
	item->arg = arg;
	item->expr = (Expr *) agg;
	m->items = lappend(m->items, item);
	return true;
}

static bool
is_true(Node *node)
{
	return IsA(node, Const) && !((Const *) node)->constisnull &&
		DatumGetBool(((Const *) node)->constvalue);
}

static bool
match_aggref(ScMatch *m, Aggref *agg)
{
	Aggref	   *normal = (Aggref *) sc_match_normalize(m, (Node *) agg);
	ScStateDef	def;
	ListCell   *lc;
	int			i = 0;

	foreach(lc, m->items)
		if (equal(((ScItem *) lfirst(lc))->expr, agg))
			return true;
	if (normal->aggfilter && is_true((Node *) normal->aggfilter))
		normal->aggfilter = NULL;
	if (agg->agglevelsup > 0 || agg->aggsplit != AGGSPLIT_SIMPLE)
		return fail(m, "an aggregate belongs to an outer query");
	foreach(lc, m->aggs)
	{
		if (equal(lfirst(lc), normal))
			return add_item(m, SC_ITEM_STORED, i, agg);
		i++;
	}
	if (contain_volatile_functions((Node *) agg->args) || contain_subplans((Node *) agg->args) ||
		contain_volatile_functions((Node *) agg->aggfilter) ||
		contain_subplans((Node *) agg->aggfilter))
		return fail(m, "an aggregate's argument is volatile or a subquery");
	if (agg->aggorder != NIL || agg->aggkind != AGGKIND_NORMAL)
		return fail(m, psprintf("it does not keep %s", text_of(m, (Node *) normal)));
	sc_state_classify(normal, &def);
	if (def.kind == SC_STATE_RECOMPUTE)
		return fail(m, psprintf("it does not keep %s", text_of(m, (Node *) normal)));
	if (def.kind == SC_STATE_COUNT && normal->aggfilter == NULL &&
		(agg->args == NIL ||
		 never_null(m, ((TargetEntry *) linitial(normal->args))->expr)))
		return add_item(m, SC_ITEM_ROWS, 0, agg);
	i = def.kind == SC_STATE_DISTINCT ? -1 : find_slot(m, normal, &def);
	if (i >= 0)
		return add_item(m, SC_ITEM_SLOT, i, agg);
	if (sc_linear_match(m, normal, &i))
		return i >= 0 ? add_item(m, SC_ITEM_SLOT, i, agg) :
			add_item(m, SC_ITEM_LINEAR, list_length(m->linears) - 1, agg);
	if ((def.kind == SC_STATE_EXTREME || def.kind == SC_STATE_DISTINCT) &&
		def.nargs == 1 && normal->aggfilter == NULL)
	{
		Node	   *arg = linitial(sc_match_args(normal));
		Expr	   *derived = derive(m, arg, true);

		if (derived)
		{
			m->keystates = lappend(m->keystates, derived);
			m->keyargs = lappend(m->keyargs, linitial(sc_match_args(agg)));
			return add_item(m, SC_ITEM_KEYSTATE, list_length(m->keystates) - 1, agg);
		}
	}
	return fail(m, psprintf("it does not keep %s", text_of(m, (Node *) normal)));
}

/* ---- the query's columns ---- */

static void
add_grouping(ScMatch *m, GroupingFunc *func)
{
	int			n = 0;
	ScItem	   *item;
	ListCell   *lc;

	foreach(lc, m->items)
	{
		item = lfirst(lc);
		if (equal(item->expr, func))
			return;
		if (item->kind == SC_ITEM_GROUPING)
			n++;
	}
	item = palloc0(sizeof(ScItem));
	item->kind = SC_ITEM_GROUPING;
	item->arg = n;
	item->expr = (Expr *) func;
	m->items = lappend(m->items, item);
}

/* Is the query's key of this number in a set of sortgrouprefs? */
static bool
key_in_set(ScMatch *m, int key, List *set)
{
	ScQueryKey *qkey = list_nth(m->qkeys, key);

	/* A column that depends on a primary key: that is in all sets. */
	if (qkey->sgc->tleSortGroupRef == 0)
		return true;
	return list_member_int(set, qkey->sgc->tleSortGroupRef);
}

/*
 * Bring the grouping sets into the form that the execution reads, with the
 * value of each grouping() in them.
 */
bool
sc_match_sets(ScMatch *m, List *groupingsets, List *groupings)
{
	ListCell   *lc;

	/* A column that is the same in all rows is null in some sets. */
	if (groupingsets && !keys_differ(m))
		return fail(m, "a key of the query's grouping sets is a constant");
	/*
	 * The planner takes what WHERE says of a column to hold in all sets, where
	 * it is null in some: which rows are the same depends on the plan.
	 */
	if (groupingsets &&
		list_length(m->root->distinct_pathkeys) < list_length(m->root->parse->distinctClause))
		return fail(m, "the query is DISTINCT on a column of its grouping sets that WHERE holds constant");
	foreach(lc, groupingsets)
	{
		List	   *refs = lfirst(lc);
		List	   *set = NIL;
		ListCell   *l2;

		for (int i = 0; i < list_length(m->qkeys); i++)
			if (key_in_set(m, i, refs))
				set = lappend_int(set, i);
		set = lcons_int(list_length(set), set);
		foreach(l2, groupings)
		{
			ListCell   *l3;
			int			value = 0;

			foreach(l3, lfirst_node(GroupingFunc, l2)->refs)
				value = (value << 1) | (list_member_int(refs, lfirst_int(l3)) ? 0 : 1);
			set = lappend_int(set, value);
		}
		m->sets = lappend(m->sets, set);
	}
	return true;
}

/* Is it one of the query's group keys? */
bool
sc_match_is_key(ScMatch *m, Node *expr)
{
	ListCell   *lc;

	foreach(lc, m->qkeys)
		if (equal(expr, ((ScQueryKey *) lfirst(lc))->expr))
			return true;
	return false;
}

static bool
is_volatile(Oid funcid, void *context)
{
	return func_volatile(funcid) == PROVOLATILE_VOLATILE;
}

/* Collect the keys and aggregates in node; true stops, at a failure. */
static bool
collect_items(Node *node, void *context)
{
	ScMatch    *m = context;

	if (node == NULL || sc_match_is_key(m, node))
		return false;
	if (IsA(node, Aggref))
		return !match_aggref(m, (Aggref *) node);
	if (IsA(node, GroupingFunc))
	{
		add_grouping(m, (GroupingFunc *) node);
		return false;
	}
	if (IsA(node, Var) || IsA(node, PlaceHolderVar))
		return !fail(m, psprintf("%s is not a group key of the query",
								 IsA(node, Var) ? text_of(m, node) : "an expression"));
	if (check_functions_in_node(node, is_volatile, NULL))
		return !fail(m, "the query calls a volatile function");
	return expression_tree_walker(node, collect_items, context);
}

static void
decide_exactness(ScMatch *m)
{
	ListCell   *lc;

	m->exact = m->guards == NIL && !m->ragged && m->sets == NIL;
	/* Without keys there is a row even if no group is left. */
	if (m->qkeys == NIL && (m->spec->nkeys > 0 || m->quals != NIL))
		m->exact = false;
	for (int i = 0; i < m->spec->nkeys && m->exact; i++)
		m->exact = key_is_fixed(m, i);
	foreach(lc, m->items)
	{
		ScItem	   *item = lfirst(lc);

		if (item->kind == SC_ITEM_SLOT &&
			m->spec->slots[item->arg].def.kind == SC_STATE_EXTREME)
			m->exact = false;
		if (item->kind == SC_ITEM_KEYSTATE && ((Aggref *) item->expr)->aggdistinct)
			m->exact = false;
	}
}

static bool
can_be_added(ScStateDef *def)
{
	return def->kind != SC_STATE_RECOMPUTE && def->kind != SC_STATE_DISTINCT;
}

/*
 * Fill the match for a query that groups tlist by groupclause, or by sets of
 * its members, and returns outputs of the groups that pass having.  False, with a reason, if not.
 */
bool
sc_match(ScMatch *m, List *groupclause, List *groupingsets, List *tlist,
		 List *outputs, List *having)
{
	ListCell   *lc;
	List	   *keyitems = NIL;
	List	   *groupings = NIL;
	int			i = 0;

	if (!read_rollup(m) || !match_where(m) || !match_keys(m, groupclause, tlist, outputs, having))
		return false;
	if (collect_items((Node *) outputs, m) || collect_items((Node *) having, m))
		return false;
	foreach(lc, m->qkeys)
	{
		ScItem	   *item = palloc0(sizeof(ScItem));

		item->kind = SC_ITEM_KEY;
		item->arg = i++;
		item->expr = ((ScQueryKey *) lfirst(lc))->expr;
		keyitems = lappend(keyitems, item);
	}
	foreach(lc, m->items)
		if (((ScItem *) lfirst(lc))->kind == SC_ITEM_GROUPING)
			groupings = lappend(groupings, ((ScItem *) lfirst(lc))->expr);
	if (!sc_match_sets(m, groupingsets, groupings))
		return false;
	m->items = list_concat(keyitems, m->items);
	decide_exactness(m);
	foreach(lc, m->items)
	{
		ScItem	   *item = lfirst(lc);

		if (item->kind != SC_ITEM_STORED ||
			can_be_added(&m->spec->slots[m->spec->aggs[item->arg].slot].def))
			continue;
		if (!m->exact)
			return fail(m, psprintf("%s cannot be added up from its groups",
									text_of(m, (Node *) item->expr)));
		m->edges = false;
	}
	return true;
}

/* ---- for joins ---- */

bool
sc_match_read(ScMatch *m)
{
	return read_rollup(m);
}

bool
sc_match_keys(ScMatch *m, List *groupclause, List *tlist, List *outputs,
			  List *having)
{
	return match_keys(m, groupclause, tlist, outputs, having);
}

Expr *
sc_match_derive(ScMatch *m, Node *expr)
{
	return derive(m, expr, true);
}

/* The same without what needs a look at the query's values when it starts. */
Expr *
sc_match_derive_key(ScMatch *m, Node *expr)
{
	return derive(m, expr, false);
}

int
sc_match_slot(ScMatch *m, Aggref *agg, ScStateDef *def)
{
	return find_slot(m, agg, def);
}

bool
sc_match_never_null(ScMatch *m, Expr *expr)
{
	return never_null(m, expr);
}

const char *
sc_match_text(ScMatch *m, Node *expr)
{
	return text_of(m, expr);
}

bool
sc_match_fail(ScMatch *m, const char *reason)
{
	return fail(m, reason);
}
