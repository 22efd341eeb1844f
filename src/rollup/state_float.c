/*
 * state_float.c: exact sums of floats and of pairs of them.  See state.h.
 */
#include "postgres.h"

#include <float.h>
#include <math.h>

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/float.h"
#include "utils/fmgroids.h"

#include "rollup/exact.h"
#include "rollup/state_private.h"

#define BIN		SC_BASE_BINARY

/* Inputs that no sum can hold. */
typedef struct Specials
{
	int64		nan;
	int64		pinf;
	int64		ninf;
	int64		nzero;			/* negative zeros */
} Specials;

typedef struct FloatState
{
	int64		n;				/* all inputs */
	Specials	sp;
	ScExact		sum;
	ScExact		sumsq;
} FloatState;

typedef struct RegrState
{
	int64		n;
	Specials	spx;
	Specials	spy;
	ScExact		sx;
	ScExact		sy;
	ScExact		sxx;
	ScExact		syy;
	ScExact		sxy;
} RegrState;

/* Returns true if the value is finite. */
static bool
count_special(Specials *sp, double x, int sign)
{
	if (isnan(x))
		sp->nan += sign;
	else if (isinf(x))
	{
		if (x > 0)
			sp->pinf += sign;
		else
			sp->ninf += sign;
	}
	else
	{
		if (x == 0 && signbit(x))
			sp->nzero += sign;
		return true;
	}
	return false;
}

static inline bool
any_special(const Specials *sp)
{
	return sp->nan != 0 || sp->pinf != 0 || sp->ninf != 0;
}

static inline bool
specials_empty(const Specials *sp)
{
	return !any_special(sp) && sp->nzero == 0;
}

static void
put_specials(StringInfo buf, const Specials *sp)
{
	sc_put_int(buf, sp->nan);
	sc_put_int(buf, sp->pinf);
	sc_put_int(buf, sp->ninf);
	sc_put_int(buf, sp->nzero);
}

static void
get_specials(const char **p, const char *end, Specials *sp)
{
	sp->nan += sc_get_int(p, end);
	sp->pinf += sc_get_int(p, end);
	sp->ninf += sc_get_int(p, end);
	sp->nzero += sc_get_int(p, end);
}

static void
negate_specials(Specials *sp)
{
	sp->nan = -sp->nan;
	sp->pinf = -sp->pinf;
	sp->ninf = -sp->ninf;
	sp->nzero = -sp->nzero;
}

/* The value of a sum with inputs that are not finite. */
static double
special_sum(const Specials *sp)
{
	if (sp->nan != 0 || (sp->pinf != 0 && sp->ninf != 0))
		return get_float8_nan();
	if (sp->pinf != 0)
		return get_float8_infinity();
	return -get_float8_infinity();
}

static double
float_sum(const Specials *sp, ScExact *sum)
{
	return any_special(sp) ? special_sum(sp) : sc_exact_to_double(sum);
}

static double
float_arg(Oid type, Datum arg)
{
	return type == FLOAT4OID ? (double) DatumGetFloat4(arg) : DatumGetFloat8(arg);
}

static Datum
float8_array(const double *v, int n)
{
	Datum		elems[6];
	int			i;

	for (i = 0; i < n; i++)
		elems[i] = Float8GetDatum(v[i]);
	return PointerGetDatum(construct_array(elems, n, FLOAT8OID,
										   sizeof(float8), FLOAT8PASSBYVAL,
										   TYPALIGN_DOUBLE));
}

/* ---- one argument ---- */

static void
float_accum(const ScStateDef *def, ScState *st, const Datum *args,
			int sign, MemoryContext cxt)
{
	FloatState *s = (FloatState *) st;
	double		x = float_arg(def->argtypes[0], args[0]);

	s->n += sign;
	if (!count_special(&s->sp, x, sign))
		return;
	sc_exact_add_double(&s->sum, x, sign, cxt);
	if (def->squares)
		sc_exact_add_product(&s->sumsq, x, x, sign, cxt);
}

static bool
float_is_empty(ScState *st)
{
	FloatState *s = (FloatState *) st;

	return s->n == 0 && specials_empty(&s->sp) &&
		sc_exact_is_zero(&s->sum, BIN) &&
		sc_exact_is_zero(&s->sumsq, BIN);
}

static void
float_pack(const ScStateDef *def, ScState *st, StringInfo buf)
{
	FloatState *s = (FloatState *) st;
	bool		special = !specials_empty(&s->sp);

	sc_put_uint(buf, special ? 1 : 0);
	sc_put_int(buf, s->n);
	if (special)
		put_specials(buf, &s->sp);
	sc_put_exact(buf, &s->sum, BIN);
	if (def->squares)
		sc_put_exact(buf, &s->sumsq, BIN);
}

static void
float_merge(const ScStateDef *def, ScState *st, const char **data,
			const char *end, MemoryContext cxt)
{
	FloatState *s = (FloatState *) st;
	uint64		head = sc_get_uint(data, end);

	s->n += sc_get_int(data, end);
	if (head & 1)
		get_specials(data, end, &s->sp);
	sc_get_exact(data, end, &s->sum, BIN, cxt);
	if (def->squares)
		sc_get_exact(data, end, &s->sumsq, BIN, cxt);
}

static void
float_negate(ScState *st)
{
	FloatState *s = (FloatState *) st;

	s->n = -s->n;
	negate_specials(&s->sp);
	sc_exact_negate(&s->sum);
	sc_exact_negate(&s->sumsq);
}

static bool
float_final(const ScStateDef *def, const ScFinalDef *fin, ScState *st,
			Datum *value, bool *isnull, bool *overflow)
{
	FloatState *s = (FloatState *) st;
	double		v[3];
	bool		special = any_special(&s->sp);

	if (s->n == 0)
		return true;

	if (fin->aggfnoid == F_SUM_FLOAT4)
	{
		float		f;

		if (special)
			f = (float) special_sum(&s->sp);
		else
			f = sc_exact_to_float(&s->sum);
		if (isinf(f) && !special)
		{
			*overflow = true;
			return true;
		}
		if (s->sp.nzero == s->n)
			f = -0.0f;
		*value = Float4GetDatum(f);
		*isnull = false;
		return true;
	}

	v[0] = (double) s->n;
	v[1] = float_sum(&s->sp, &s->sum);
	if (isinf(v[1]) && !special)
	{
		*overflow = true;
		return true;
	}
	if (fin->aggfnoid == F_SUM_FLOAT8)
	{
		if (s->sp.nzero == s->n)
			v[1] = -0.0;
		*value = Float8GetDatum(v[1]);
		*isnull = false;
		return true;
	}

	if (special)
		v[2] = get_float8_nan();
	else if (!def->squares)
		v[2] = 0.0;
	else
	{
		v[2] = sc_exact_moment(&s->sumsq, &s->sum, &s->sum, s->n);
		if (isinf(v[2]))
		{
			*overflow = true;
			return true;
		}
	}
	*value = sc_call_final(fin->finalfn, NULL, fin->collation,
						   float8_array(v, 3), isnull);
	return true;
}

static int64
float_count(ScState *st)
{
	return ((FloatState *) st)->n;
}

const ScStateOps sc_float_ops = {
	.size = sizeof(FloatState),
	.accum = float_accum,
	.is_empty = float_is_empty,
	.pack = float_pack,
	.merge = float_merge,
	.negate = float_negate,
	.final = float_final,
	.count = float_count,
};

/* ---- two arguments ---- */

static void
regr_accum(const ScStateDef *def, ScState *st, const Datum *args,
		   int sign, MemoryContext cxt)
{
	RegrState  *s = (RegrState *) st;
	double		y = float_arg(def->argtypes[0], args[0]);
	double		x = float_arg(def->argtypes[1], args[1]);
	bool		okx = count_special(&s->spx, x, sign);
	bool		oky = count_special(&s->spy, y, sign);

	s->n += sign;
	if (okx)
	{
		sc_exact_add_double(&s->sx, x, sign, cxt);
		sc_exact_add_product(&s->sxx, x, x, sign, cxt);
	}
	if (oky)
	{
		sc_exact_add_double(&s->sy, y, sign, cxt);
		sc_exact_add_product(&s->syy, y, y, sign, cxt);
	}
	if (okx && oky)
		sc_exact_add_product(&s->sxy, x, y, sign, cxt);
}

static bool
regr_is_empty(ScState *st)
{
	RegrState  *s = (RegrState *) st;

	return s->n == 0 && specials_empty(&s->spx) &&
		specials_empty(&s->spy) &&
		sc_exact_is_zero(&s->sx, BIN) &&
		sc_exact_is_zero(&s->sy, BIN) &&
		sc_exact_is_zero(&s->sxx, BIN) &&
		sc_exact_is_zero(&s->syy, BIN) &&
		sc_exact_is_zero(&s->sxy, BIN);
}

static void
regr_pack(const ScStateDef *def, ScState *st, StringInfo buf)
{
	RegrState  *s = (RegrState *) st;
	bool		special = !specials_empty(&s->spx) ||
		!specials_empty(&s->spy);

	sc_put_uint(buf, special ? 1 : 0);
	sc_put_int(buf, s->n);
	if (special)
	{
		put_specials(buf, &s->spx);
		put_specials(buf, &s->spy);
	}
	sc_put_exact(buf, &s->sx, BIN);
	sc_put_exact(buf, &s->sy, BIN);
	sc_put_exact(buf, &s->sxx, BIN);
	sc_put_exact(buf, &s->syy, BIN);
	sc_put_exact(buf, &s->sxy, BIN);
}

static void
regr_merge(const ScStateDef *def, ScState *st, const char **data,
		   const char *end, MemoryContext cxt)
{
	RegrState  *s = (RegrState *) st;
	uint64		head = sc_get_uint(data, end);

	s->n += sc_get_int(data, end);
	if (head & 1)
	{
		get_specials(data, end, &s->spx);
		get_specials(data, end, &s->spy);
	}
	sc_get_exact(data, end, &s->sx, BIN, cxt);
	sc_get_exact(data, end, &s->sy, BIN, cxt);
	sc_get_exact(data, end, &s->sxx, BIN, cxt);
	sc_get_exact(data, end, &s->syy, BIN, cxt);
	sc_get_exact(data, end, &s->sxy, BIN, cxt);
}

static void
regr_negate(ScState *st)
{
	RegrState  *s = (RegrState *) st;

	s->n = -s->n;
	negate_specials(&s->spx);
	negate_specials(&s->spy);
	sc_exact_negate(&s->sx);
	sc_exact_negate(&s->sy);
	sc_exact_negate(&s->sxx);
	sc_exact_negate(&s->syy);
	sc_exact_negate(&s->sxy);
}

static bool
regr_final(const ScStateDef *def, const ScFinalDef *fin, ScState *st,
		   Datum *value, bool *isnull, bool *overflow)
{
	RegrState  *s = (RegrState *) st;
	double		v[6];
	bool		spx = any_special(&s->spx);
	bool		spy = any_special(&s->spy);

	if (fin->aggfnoid == F_REGR_COUNT)
	{
		*value = Int64GetDatum(s->n);
		*isnull = false;
		return true;
	}

	v[0] = (double) s->n;
	v[1] = v[2] = v[3] = v[4] = v[5] = 0.0;
	if (s->n != 0)
	{
		v[1] = float_sum(&s->spx, &s->sx);
		v[2] = spx ? get_float8_nan() :
			sc_exact_moment(&s->sxx, &s->sx, &s->sx, s->n);
		v[3] = float_sum(&s->spy, &s->sy);
		v[4] = spy ? get_float8_nan() :
			sc_exact_moment(&s->syy, &s->sy, &s->sy, s->n);
		v[5] = (spx || spy) ? get_float8_nan() :
			sc_exact_moment(&s->sxy, &s->sx, &s->sy, s->n);
		if ((!spx && (isinf(v[1]) || isinf(v[2]))) ||
			(!spy && (isinf(v[3]) || isinf(v[4]))) || isinf(v[5]))
		{
			*overflow = true;
			return true;
		}
	}
	*value = sc_call_final(fin->finalfn, NULL, fin->collation,
						   float8_array(v, 6), isnull);
	return true;
}

const ScStateOps sc_regr_ops = {
	.size = sizeof(RegrState),
	.accum = regr_accum,
	.is_empty = regr_is_empty,
	.pack = regr_pack,
	.merge = regr_merge,
	.negate = regr_negate,
	.final = regr_final,
};
