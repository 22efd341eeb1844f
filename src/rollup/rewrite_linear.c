/*
 * rewrite_linear.c: sums of what is computed from sums that a rollup keeps.
 *
 * sum(x * 2), sum(x::bigint), sum(1.19 * x - 5) and the averages and counts of
 * these follow from the sum and the count of x: a sum of a * x + b is a times
 * the sum of x and b times the count.  With several columns, all of them NOT
 * NULL, likewise.  All arithmetic is that of numeric, which is exact, decimals
 * behind the point included.
 *
 * The plain query computes the expression for each row, and fails if one of
 * them is out of range.  So every step must be one that cannot fail for any
 * value of the columns: the types say how large these can be.
 */
#include "postgres.h"

#include <math.h>

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"

#include "rollup/rewrite.h"

/* Far from where numeric overflows, and where a double does. */
#define MAX_MAGNITUDE	1e300

/* Of which sums are made out, and what the rollup keeps of them. */
typedef struct LinearContext
{
	ScMatch    *m;
	Expr	   *filter;
} LinearContext;

/* factor times each term, and a constant */
typedef struct Linear
{
	List	   *slots;			/* of the terms */
	List	   *aggs;			/* the sum of each, an Aggref */
	List	   *factors;		/* numeric, a Const for each */
	Datum		constant;		/* numeric */
	double		magnitude;		/* no absolute value is above */
} Linear;

/* ---- in the planner ---- */

static Const *
numeric_const(Datum value)
{
	return makeConst(NUMERICOID, -1, InvalidOid, -1, value, false, false);
}

/* Values of an integer type are at most this; 0 for other types. */
static double
integer_limit(Oid type)
{
	return type == INT2OID ? -(double) PG_INT16_MIN :
		type == INT4OID ? -(double) PG_INT32_MIN :
		type == INT8OID ? -(double) PG_INT64_MIN : 0;
}

static Aggref *
sum_of(Node *arg, Expr *filter)
{
	Aggref	   *agg = makeNode(Aggref);
	Oid			type = exprType(arg);

	agg->aggfnoid = type == INT2OID ? F_SUM_INT2 : type == INT4OID ? F_SUM_INT4 :
		type == INT8OID ? F_SUM_INT8 : F_SUM_NUMERIC;
	agg->aggtype = type == INT2OID || type == INT4OID ? INT8OID : NUMERICOID;
	agg->aggargtypes = list_make1_oid(type);
	agg->args = list_make1(makeTargetEntry((Expr *) arg, 1, NULL, false));
	agg->aggfilter = filter;
	agg->aggkind = 'n';
	agg->aggno = agg->aggtransno = -1;
	agg->location = -1;
	return agg;
}

/* The largest absolute value of what a sum is kept of; negative: unknown. */
static double
magnitude_of(Node *node)
{
	Oid			type = exprType(node);
	int32		typmod = exprTypmod(node);

	if (type != NUMERICOID)
		return integer_limit(type);
	/* A column can hold no more digits than it was declared with, or NaN. */
	if (IsA(node, Var) && ((Var *) node)->varattno > 0 && typmod >= (int32) VARHDRSZ)
	{
		int			precision = ((typmod - VARHDRSZ) >> 16) & 0xffff;
		int			scale = (((typmod - VARHDRSZ) & 0x7ff) ^ 1024) - 1024;

		return pow(10, Min(precision - Min(scale, 0), 300));
	}
	return -1;
}

static bool
constant_of(Const *c, Linear *result)
{
	Datum		value = c->constvalue;

	if (c->constisnull)
		return false;
	switch (c->consttype)
	{
		case INT2OID:
			value = NumericGetDatum(int64_to_numeric(DatumGetInt16(value)));
			break;
		case INT4OID:
			value = NumericGetDatum(int64_to_numeric(DatumGetInt32(value)));
			break;
		case INT8OID:
			value = NumericGetDatum(int64_to_numeric(DatumGetInt64(value)));
			break;
		case NUMERICOID:
			if (numeric_is_nan(DatumGetNumeric(value)) || numeric_is_inf(DatumGetNumeric(value)))
				return false;
			break;
		default:
			return false;
	}
	result->constant = value;
	result->magnitude =
		fabs(DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, value)));
	return result->magnitude < MAX_MAGNITUDE;
}

static Linear
scaled(Linear *x, Datum factor, double magnitude)
{
	Linear		result = *x;
	ListCell   *lc;

	result.factors = NIL;
	foreach(lc, x->factors)
		result.factors = lappend(result.factors,
								 numeric_const(DirectFunctionCall2(numeric_mul,
																   lfirst_node(Const, lc)->constvalue,
																   factor)));
	result.constant = DirectFunctionCall2(numeric_mul, x->constant, factor);
	result.magnitude = x->magnitude * magnitude;
	return result;
}

static Linear
added(Linear *a, Linear *b)
{
	Linear		result = *a;

	result.slots = list_concat_copy(a->slots, b->slots);
	result.aggs = list_concat_copy(a->aggs, b->aggs);
	result.factors = list_concat_copy(a->factors, b->factors);
	result.constant = DirectFunctionCall2(numeric_add, a->constant, b->constant);
	result.magnitude = a->magnitude + b->magnitude;
	return result;
}

static Datum
minus_one(void)
{
	return NumericGetDatum(int64_to_numeric(-1));
}

static bool linear_of(LinearContext *cxt, Node *node, Linear *result);

/* +, - and * of PostgreSQL's own exact numbers. */
static bool
operation_of(LinearContext *cxt, OpExpr *op, Linear *result)
{
	char	   *name = op->opno < FirstNormalObjectId ? get_opname(op->opno) : NULL;
	Linear		args[2];
	int			n = 0;
	double		limit = integer_limit(op->opresulttype);
	ListCell   *lc;

	if (name == NULL || name[1] != '\0' || strchr("+-*", name[0]) == NULL)
		return false;
	foreach(lc, op->args)
		if (!linear_of(cxt, lfirst(lc), &args[n++]))
			return false;
	if (n == 1)
		*result = name[0] == '-' ? scaled(&args[0], minus_one(), 1) : args[0];
	else if (name[0] == '*' && args[1].slots == NIL)
		*result = scaled(&args[0], args[1].constant, args[1].magnitude);
	else if (name[0] == '*' && args[0].slots == NIL)
		*result = scaled(&args[1], args[0].constant, args[0].magnitude);
	else if (name[0] == '*')
		return false;
	else
	{
		if (name[0] == '-')
			args[1] = scaled(&args[1], minus_one(), 1);
		*result = added(&args[0], &args[1]);
	}
	/* Magnitudes are rounded.  -limit is in the type, and limit is not. */
	return result->magnitude < (limit > 0 ? limit * 0.999 : MAX_MAGNITUDE);
}

/* Take the expression apart; false if it is not linear, or can fail. */
static bool
linear_of(LinearContext *cxt, Node *node, Linear *result)
{
	Oid			type = exprType(node);
	FuncExpr   *func = (FuncExpr *) node;
	Aggref	   *sum;
	ScStateDef	def;
	int			slot;

	memset(result, 0, sizeof(*result));
	if (integer_limit(type) == 0 && type != NUMERICOID)
		return false;
	if (IsA(node, Const))
		return constant_of((Const *) node, result);

	sum = sum_of(node, cxt->filter);
	sc_state_classify(sum, &def);
	slot = sc_match_slot(cxt->m, sum, &def);
	result->magnitude = magnitude_of(node);
	if (slot >= 0 && result->magnitude >= 0)
	{
		result->slots = list_make1_int(slot);
		result->aggs = list_make1(sum);
		result->factors = list_make1(numeric_const(NumericGetDatum(int64_to_numeric(1))));
		result->constant = NumericGetDatum(int64_to_numeric(0));
		return true;
	}
	if (IsA(node, OpExpr))
		return operation_of(cxt, (OpExpr *) node, result);
	/* To a type that has all values. */
	return IsA(node, FuncExpr) &&
		(func->funcid == F_INT4_INT2 || func->funcid == F_INT8_INT2 ||
		 func->funcid == F_INT8_INT4 || func->funcid == F_NUMERIC_INT2 ||
		 func->funcid == F_NUMERIC_INT4 || func->funcid == F_NUMERIC_INT8) &&
		linear_of(cxt, linitial(func->args), result);
}

/* Is the expression null where, and only where, each of the terms is? */
static bool
null_together(ScMatch *m, Linear *linear)
{
	Expr	   *first = NULL;
	bool		same = true;
	bool		never = true;
	ListCell   *lc;

	foreach(lc, linear->aggs)
	{
		Expr	   *arg = linitial_node(TargetEntry, lfirst_node(Aggref, lc)->args)->expr;

		if (first == NULL)
			first = arg;
		same &= equal(arg, first);
		never &= sc_match_never_null(m, arg);
	}
	return same || never;
}

/*
 * Does the aggregate, normalized, follow from sums of the rollup?  *count is
 * the state that counts its inputs, if that is all that it asks for; else the
 * result is appended to m->linears.
 */
bool
sc_linear_match(ScMatch *m, Aggref *agg, int *count)
{
	LinearContext cxt = {m, agg->aggfilter};
	Linear		linear;

	*count = -1;
	if (agg->aggdistinct != NIL || agg->aggorder != NIL || list_length(agg->args) != 1)
		return false;
	switch (agg->aggfnoid)
	{
		case F_SUM_INT2:
		case F_SUM_INT4:
		case F_SUM_INT8:
		case F_SUM_NUMERIC:
		case F_AVG_INT2:
		case F_AVG_INT4:
		case F_AVG_INT8:
		case F_AVG_NUMERIC:
		case F_COUNT_ANY:
			break;
		default:
			return false;
	}
	if (!linear_of(&cxt, (Node *) linitial_node(TargetEntry, agg->args)->expr, &linear) ||
		linear.slots == NIL || !null_together(m, &linear))
		return false;
	if (agg->aggfnoid == F_COUNT_ANY)
		*count = linitial_int(linear.slots);
	else
		m->linears = lappend(m->linears,
							 list_make4(linear.slots, linear.aggs, linear.factors,
										numeric_const(linear.constant)));
	return true;
}

/* ---- in the executor ---- */

struct ScLinearState
{
	bool		average;
	Oid			resulttype;
	List	   *slots;
	List	   *factors;		/* of Const */
	Datum		constant;
	ScFinalDef *sums;			/* of each slot */
	ScFinalDef	count;
};

/* The states that a member of m->linears is computed from. */
Bitmapset *
sc_linear_slots(List *linear, Bitmapset *slots)
{
	ListCell   *lc;

	foreach(lc, (List *) linitial(linear))
		slots = bms_add_member(slots, lfirst_int(lc));
	return slots;
}

/* Result is in cxt. */
ScLinearState *
sc_linear_prepare(List *linear, Aggref *agg, MemoryContext cxt)
{
	ScLinearState *state = MemoryContextAllocZero(cxt, sizeof(ScLinearState));
	List	   *aggs = lsecond(linear);

	state->average = agg->aggfnoid == F_AVG_INT2 || agg->aggfnoid == F_AVG_INT4 ||
		agg->aggfnoid == F_AVG_INT8 || agg->aggfnoid == F_AVG_NUMERIC;
	state->resulttype = agg->aggtype;
	state->slots = linitial(linear);
	state->factors = lthird(linear);
	state->constant = lfourth_node(Const, linear)->constvalue;
	state->sums = MemoryContextAlloc(cxt, sizeof(ScFinalDef) * list_length(aggs));
	for (int i = 0; i < list_length(aggs); i++)
		sc_final_prepare(list_nth(aggs, i), &state->sums[i], cxt);
	state->count.aggfnoid = F_COUNT_ANY;
	state->count.resulttype = INT8OID;
	return state;
}

/* How many sums it is computed from, and of which state the i-th is. */
int
sc_linear_sums(const ScLinearState *state)
{
	return list_length(state->slots);
}

int
sc_linear_slot(const ScLinearState *state, int i)
{
	return list_nth_int(state->slots, i);
}

/* The aggregate's value for a group with these sums, in CurrentMemoryContext. */
void
sc_linear_final(ScLinearState *state, const ScStateDef **defs, ScState **sums,
				Datum *value, bool *isnull)
{
	Datum		count;
	Datum		sum;
	bool		overflow;

	(void) sc_state_final(defs[0], &state->count, sums[0], &count, isnull, &overflow);
	count = NumericGetDatum(int64_to_numeric(DatumGetInt64(count)));
	sum = DirectFunctionCall2(numeric_mul, state->constant, count);
	for (int i = 0; i < list_length(state->slots); i++)
	{
		Datum		term;

		(void) sc_state_final(defs[i], &state->sums[i], sums[i], &term, isnull, &overflow);
		if (overflow)
			sc_node_overflow();
		/* There are no inputs. */
		if (*isnull)
			return;
		if (state->sums[i].resulttype == INT8OID)
			term = NumericGetDatum(int64_to_numeric(DatumGetInt64(term)));
		term = DirectFunctionCall2(numeric_mul, term,
								   list_nth_node(Const, state->factors, i)->constvalue);
		sum = DirectFunctionCall2(numeric_add, sum, term);
	}
	*value = state->average ? DirectFunctionCall2(numeric_div, sum, count) :
		state->resulttype == INT8OID ? DirectFunctionCall1(numeric_int8, sum) : sum;
}
