/*
 * state.c: what an aggregate keeps, so that rows can be added and retracted.
 * See state.h.
 *
 * All sums are exact.  The value is computed by the aggregate's own final
 * function from a transition value made of the sums.
 */
#include "postgres.h"

#include <float.h>
#include <math.h>

#include "access/htup_details.h"
#include "access/tupmacs.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "libpq/pqformat.h"
#include "nodes/execnodes.h"
#include "nodes/nodeFuncs.h"
#include "access/stratnum.h"
#include "access/nbtree.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "rollup/exact.h"
#include "rollup/state.h"

#define DEC		SC_BASE_DECIMAL
#define BIN		SC_BASE_BINARY

/* Distinct values kept for min and max. */
#define EXTREME_VALUES	32

/* Positions of digits accepted when reading a packed sum. */
#define MAX_POSITION	100000

typedef struct CountState
{
	int64		n;
} CountState;

typedef struct IntState
{
	int64		n;
	int128		sum;
	int128		sumsq;
} IntState;

typedef struct ScaleCount
{
	int32		dscale;
	int64		count;
} ScaleCount;

/* The number of finite inputs is the sum of the scale counts. */
typedef struct NumState
{
	ScExact		sum;
	ScExact		sumsq;
	int64		nan;
	int64		pinf;
	int64		ninf;
	int32		nscales;
	int32		allocated;
	ScaleCount *scales;
} NumState;

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

typedef struct IntervalState
{
	int64		n;
	int64		month;
	int64		day;
	int128		time;
} IntervalState;

typedef struct BoolState
{
	int64		ntrue;
	int64		nfalse;
} BoolState;

typedef struct BitsState
{
	int64		n;
	int64		count[64];
} BitsState;

typedef struct ExtremeEntry
{
	Datum		value;
	int64		count;
} ExtremeEntry;

/*
 * The entries are sorted, best first, and are all better than the floor.
 * Nothing is known of values at the floor or worse.
 */
typedef struct ExtremeState
{
	int64		n;
	Datum		floor;
	bool		hasfloor;
	int32		nentries;
	ExtremeEntry *entries;		/* room for EXTREME_VALUES + 1 */
} ExtremeState;

/* ------------------------------------------------------------------------
 * Classification
 * ------------------------------------------------------------------------
 */
static bool
classify_builtin(Oid fn, ScStateDef *def)
{
	switch (fn)
	{
		case F_COUNT_:
		case F_COUNT_ANY:
			def->kind = SC_STATE_COUNT;
			return true;

		case F_SUM_INT2:
		case F_SUM_INT4:
		case F_SUM_INT8:
		case F_SUM_MONEY:
		case F_AVG_INT2:
		case F_AVG_INT4:
		case F_AVG_INT8:
			def->kind = SC_STATE_INT;
			return true;

		case F_VARIANCE_INT2:
		case F_VARIANCE_INT4:
		case F_VAR_SAMP_INT2:
		case F_VAR_SAMP_INT4:
		case F_VAR_POP_INT2:
		case F_VAR_POP_INT4:
		case F_STDDEV_INT2:
		case F_STDDEV_INT4:
		case F_STDDEV_SAMP_INT2:
		case F_STDDEV_SAMP_INT4:
		case F_STDDEV_POP_INT2:
		case F_STDDEV_POP_INT4:
			def->kind = SC_STATE_INT;
			def->squares = true;
			return true;

		case F_SUM_NUMERIC:
		case F_AVG_NUMERIC:
			def->kind = SC_STATE_NUMERIC;
			return true;

		case F_VARIANCE_INT8:
		case F_VAR_SAMP_INT8:
		case F_VAR_POP_INT8:
		case F_STDDEV_INT8:
		case F_STDDEV_SAMP_INT8:
		case F_STDDEV_POP_INT8:
		case F_VARIANCE_NUMERIC:
		case F_VAR_SAMP_NUMERIC:
		case F_VAR_POP_NUMERIC:
		case F_STDDEV_NUMERIC:
		case F_STDDEV_SAMP_NUMERIC:
		case F_STDDEV_POP_NUMERIC:
			def->kind = SC_STATE_NUMERIC;
			def->squares = true;
			return true;

		case F_SUM_FLOAT4:
		case F_SUM_FLOAT8:
		case F_AVG_FLOAT4:
		case F_AVG_FLOAT8:
			def->kind = SC_STATE_FLOAT;
			return true;

		case F_VARIANCE_FLOAT4:
		case F_VARIANCE_FLOAT8:
		case F_VAR_SAMP_FLOAT4:
		case F_VAR_SAMP_FLOAT8:
		case F_VAR_POP_FLOAT4:
		case F_VAR_POP_FLOAT8:
		case F_STDDEV_FLOAT4:
		case F_STDDEV_FLOAT8:
		case F_STDDEV_SAMP_FLOAT4:
		case F_STDDEV_SAMP_FLOAT8:
		case F_STDDEV_POP_FLOAT4:
		case F_STDDEV_POP_FLOAT8:
			def->kind = SC_STATE_FLOAT;
			def->squares = true;
			return true;

		case F_REGR_COUNT:
		case F_REGR_SXX:
		case F_REGR_SYY:
		case F_REGR_SXY:
		case F_REGR_AVGX:
		case F_REGR_AVGY:
		case F_REGR_R2:
		case F_REGR_SLOPE:
		case F_REGR_INTERCEPT:
		case F_COVAR_POP:
		case F_COVAR_SAMP:
		case F_CORR:
			def->kind = SC_STATE_REGR;
			def->squares = true;
			return true;

		case F_SUM_INTERVAL:
		case F_AVG_INTERVAL:
			def->kind = SC_STATE_INTERVAL;
			return true;

		case F_BOOL_AND:
		case F_BOOL_OR:
		case F_EVERY:
			def->kind = SC_STATE_BOOL;
			return true;

		case F_BIT_AND_INT2:
		case F_BIT_AND_INT4:
		case F_BIT_AND_INT8:
		case F_BIT_OR_INT2:
		case F_BIT_OR_INT4:
		case F_BIT_OR_INT8:
		case F_BIT_XOR_INT2:
		case F_BIT_XOR_INT4:
		case F_BIT_XOR_INT8:
			def->kind = SC_STATE_BITS;
			return true;

		default:
			return false;
	}
}

void
sc_state_classify(Aggref *agg, ScStateDef *def)
{
	ListCell   *lc;
	int			nargs = 0;

	memset(def, 0, sizeof(*def));
	def->kind = SC_STATE_RECOMPUTE;

	foreach(lc, agg->args)
	{
		TargetEntry *tle = (TargetEntry *) lfirst(lc);

		if (tle->resjunk)
			continue;
		if (nargs < 2)
			def->argtypes[nargs] = exprType((Node *) tle->expr);
		nargs++;
	}

	if (agg->aggkind == AGGKIND_NORMAL && nargs <= 2)
	{
		def->nargs = nargs;
		if (!classify_builtin(agg->aggfnoid, def) && nargs == 1)
		{
			HeapTuple	tup;
			Oid			sortop;
			Oid			opfamily;
			Oid			opcintype;
			int16		strategy;

			tup = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(agg->aggfnoid));
			if (!HeapTupleIsValid(tup))
				elog(ERROR, "cache lookup failed for aggregate %u",
					 agg->aggfnoid);
			sortop = ((Form_pg_aggregate) GETSTRUCT(tup))->aggsortop;
			ReleaseSysCache(tup);

			if (OidIsValid(sortop) &&
				get_ordering_op_properties(sortop, &opfamily, &opcintype,
										   &strategy) &&
				get_typlen(def->argtypes[0]) != -2)
			{
				def->kind = SC_STATE_EXTREME;
				def->sortop = sortop;
				def->descending = (strategy == BTGreaterStrategyNumber);
				def->collation = agg->inputcollid;
			}
		}
	}

	if (def->kind == SC_STATE_RECOMPUTE)
	{
		def->nargs = 0;
		def->argtypes[0] = def->argtypes[1] = InvalidOid;
	}
}

void
sc_state_prepare(ScStateDef *def, MemoryContext cxt)
{
	Size		size = 0;

	if (def->nargs > 0)
		get_typlenbyvalalign(def->argtypes[0], &def->typlen, &def->typbyval,
							 &def->typalign);

	switch (def->kind)
	{
		case SC_STATE_COUNT:
			size = sizeof(CountState);
			break;
		case SC_STATE_INT:
			size = sizeof(IntState);
			break;
		case SC_STATE_NUMERIC:
			size = sizeof(NumState);
			break;
		case SC_STATE_FLOAT:
			size = sizeof(FloatState);
			break;
		case SC_STATE_REGR:
			size = sizeof(RegrState);
			break;
		case SC_STATE_INTERVAL:
			size = sizeof(IntervalState);
			break;
		case SC_STATE_BOOL:
			size = sizeof(BoolState);
			break;
		case SC_STATE_BITS:
			size = sizeof(BitsState);
			break;
		case SC_STATE_EXTREME:
			{
				Oid			opfamily;
				Oid			opcintype;
				Oid			proc;
				int16		strategy;

				if (!get_ordering_op_properties(def->sortop, &opfamily,
												&opcintype, &strategy))
					elog(ERROR, "operator %u is not a valid ordering operator",
						 def->sortop);
				proc = get_opfamily_proc(opfamily, opcintype, opcintype,
										 BTORDER_PROC);
				if (!OidIsValid(proc))
					elog(ERROR, "missing support function %d for type %u in operator family %u",
						 BTORDER_PROC, opcintype, opfamily);
				def->cmp = MemoryContextAllocZero(cxt, sizeof(FmgrInfo));
				fmgr_info_cxt(proc, def->cmp, cxt);
				size = sizeof(ExtremeState);
				break;
			}
		case SC_STATE_RECOMPUTE:
			break;
	}
	def->size = MAXALIGN(size);
}

void
sc_final_prepare(Aggref *agg, ScFinalDef *fin, MemoryContext cxt)
{
	HeapTuple	tup;
	Oid			finalfn;

	memset(fin, 0, sizeof(*fin));
	fin->aggfnoid = agg->aggfnoid;
	fin->resulttype = agg->aggtype;
	fin->collation = agg->inputcollid;
	get_typlenbyval(agg->aggtype, &fin->resulttyplen, &fin->resulttypbyval);

	tup = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(agg->aggfnoid));
	if (!HeapTupleIsValid(tup))
		elog(ERROR, "cache lookup failed for aggregate %u", agg->aggfnoid);
	finalfn = ((Form_pg_aggregate) GETSTRUCT(tup))->aggfinalfn;
	ReleaseSysCache(tup);

	if (OidIsValid(finalfn))
	{
		fin->finalfn = MemoryContextAllocZero(cxt, sizeof(FmgrInfo));
		fmgr_info_cxt(finalfn, fin->finalfn, cxt);
	}
}

/* ------------------------------------------------------------------------
 * Packing of numbers
 * ------------------------------------------------------------------------
 */
static void
corrupted(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("packed aggregate state is corrupted")));
}

static void
put_uint128(StringInfo buf, uint128 v)
{
	while (v >= 0x80)
	{
		appendStringInfoCharMacro(buf, (char) ((v & 0x7F) | 0x80));
		v >>= 7;
	}
	appendStringInfoCharMacro(buf, (char) v);
}

static void
put_int128(StringInfo buf, int128 v)
{
	put_uint128(buf, ((uint128) v << 1) ^ (uint128) (v >> 127));
}

static void
put_uint(StringInfo buf, uint64 v)
{
	while (v >= 0x80)
	{
		appendStringInfoCharMacro(buf, (char) ((v & 0x7F) | 0x80));
		v >>= 7;
	}
	appendStringInfoCharMacro(buf, (char) v);
}

static void
put_int(StringInfo buf, int64 v)
{
	put_uint(buf, ((uint64) v << 1) ^ (uint64) (v >> 63));
}

static uint128
get_uint128(const char **p, const char *end)
{
	uint128		v = 0;
	int			shift = 0;

	for (;;)
	{
		unsigned char c;

		if (*p >= end || shift > 126)
			corrupted();
		c = (unsigned char) *(*p)++;
		v |= (uint128) (c & 0x7F) << shift;
		if ((c & 0x80) == 0)
			return v;
		shift += 7;
	}
}

static int128
get_int128(const char **p, const char *end)
{
	uint128		v = get_uint128(p, end);

	return (int128) ((v >> 1) ^ -(v & 1));
}

static uint64
get_uint(const char **p, const char *end)
{
	uint64		v = 0;
	int			shift = 0;

	for (;;)
	{
		unsigned char c;

		if (*p >= end || shift > 63)
			corrupted();
		c = (unsigned char) *(*p)++;
		v |= (uint64) (c & 0x7F) << shift;
		if ((c & 0x80) == 0)
			return v;
		shift += 7;
	}
}

static int64
get_int(const char **p, const char *end)
{
	uint64		v = get_uint(p, end);

	return (int64) ((v >> 1) ^ -(v & 1));
}

/* number of digits and sign, position of the first, digits */
static void
put_exact(StringInfo buf, ScExact *e, int64 base)
{
	int			first,
				last,
				i;
	bool		negative;

	if (!sc_exact_trim(e, base, &first, &last))
	{
		put_uint(buf, 0);
		return;
	}
	negative = e->d[last] < 0;
	put_uint(buf, ((uint64) (last - first + 1) << 1) | (negative ? 1 : 0));
	put_int(buf, e->lo + first);
	for (i = first; i <= last; i++)
		put_uint(buf, negative ? -e->d[i] : e->d[i]);
}

static void
get_exact(const char **p, const char *end, ScExact *e, int64 base,
		  MemoryContext cxt)
{
	uint64		head = get_uint(p, end);
	int64		lo;
	uint64		n = head >> 1;
	int			sign = (head & 1) ? -1 : 1;
	uint64		i;

	if (n == 0)
		return;
	lo = get_int(p, end);
	if (lo < -MAX_POSITION || lo > MAX_POSITION || n > MAX_POSITION ||
		n > (uint64) (end - *p))
		corrupted();
	sc_exact_reserve(e, (int) lo, (int) (lo + n - 1), cxt);
	for (i = 0; i < n; i++)
	{
		uint64		digit = get_uint(p, end);

		if (digit >= (uint64) base)
			corrupted();
		if (digit != 0)
			sc_exact_add(e, base, (int) (lo + i), sign * (int64) digit);
	}
}

/* ------------------------------------------------------------------------
 * Numeric
 * ------------------------------------------------------------------------
 */
static void
count_scale(NumState *s, int dscale, int64 count, MemoryContext cxt)
{
	int			i;

	if (count == 0)
		return;
	for (i = 0; i < s->nscales; i++)
	{
		if (s->scales[i].dscale == dscale)
		{
			s->scales[i].count += count;
			if (s->scales[i].count == 0)
				s->scales[i] = s->scales[--s->nscales];
			return;
		}
	}
	if (s->nscales == s->allocated)
	{
		int			newalloc = Max(2, s->allocated * 2);

		if (s->scales == NULL)
			s->scales = MemoryContextAlloc(cxt, sizeof(ScaleCount) * newalloc);
		else
			s->scales = repalloc(s->scales, sizeof(ScaleCount) * newalloc);
		s->allocated = newalloc;
	}
	s->scales[s->nscales].dscale = dscale;
	s->scales[s->nscales].count = count;
	s->nscales++;
}

/* Digits are most significant first, the first one at position weight. */
static void
add_digits(NumState *s, bool squares, const int16 *digits, int ndigits,
		   int weight, int sign, bool negative, MemoryContext cxt)
{
	int			i,
				j;
	int			dsign = negative ? -sign : sign;

	if (ndigits == 0)
		return;
	sc_exact_reserve(&s->sum, weight - ndigits + 1, weight, cxt);
	for (i = 0; i < ndigits; i++)
		sc_exact_add(&s->sum, DEC, weight - i, dsign * (int64) digits[i]);
	if (!squares)
		return;
	sc_exact_reserve(&s->sumsq, 2 * (weight - ndigits + 1), 2 * weight, cxt);
	for (i = 0; i < ndigits; i++)
	{
		int64		d = sign * (int64) digits[i];

		sc_exact_add(&s->sumsq, DEC, 2 * (weight - i), d * digits[i]);
		for (j = i + 1; j < ndigits; j++)
			sc_exact_add(&s->sumsq, DEC, 2 * weight - i - j,
						 2 * d * digits[j]);
	}
}

static void
numeric_accum_int8(NumState *s, bool squares, int64 value, int sign,
				   MemoryContext cxt)
{
	int16		digits[5];
	int			n = 5;
	uint64		v = value < 0 ? -(uint64) value : (uint64) value;

	while (v != 0)
	{
		digits[--n] = (int16) (v % 10000);
		v /= 10000;
	}
	add_digits(s, squares, digits + n, 5 - n, 4 - n, sign, value < 0, cxt);
	count_scale(s, 0, sign, cxt);
}

static void
numeric_accum_datum(NumState *s, bool squares, Datum value, int sign,
					MemoryContext cxt)
{
	struct varlena *p = PG_DETOAST_DATUM_PACKED(value);
	const char *data = VARDATA_ANY(p);
	int			len = VARSIZE_ANY_EXHDR(p);
	uint16		header;
	int			weight,
				dscale,
				ndigits;
	bool		negative;
	int16		small[32];
	int16	   *digits = small;

	if (len < (int) sizeof(uint16))
		corrupted();
	memcpy(&header, data, sizeof(uint16));
	data += sizeof(uint16);
	len -= sizeof(uint16);

	if ((header & 0xC000) == 0xC000)
	{
		if ((header & 0xF000) == 0xD000)
			s->pinf += sign;
		else if ((header & 0xF000) == 0xF000)
			s->ninf += sign;
		else
			s->nan += sign;
		return;
	}
	if (header & 0x8000)
	{
		negative = (header & 0x2000) != 0;
		dscale = (header & 0x1F80) >> 7;
		weight = ((header & 0x0040) ? ~0x003F : 0) | (header & 0x003F);
	}
	else
	{
		int16		w;

		if (len < (int) sizeof(int16))
			corrupted();
		memcpy(&w, data, sizeof(int16));
		data += sizeof(int16);
		len -= sizeof(int16);
		negative = (header & 0x4000) != 0;
		dscale = header & 0x3FFF;
		weight = w;
	}
	ndigits = len / sizeof(int16);
	if (ndigits > (int) lengthof(small))
		digits = palloc(sizeof(int16) * ndigits);
	memcpy(digits, data, sizeof(int16) * ndigits);
	add_digits(s, squares, digits, ndigits, weight, sign, negative, cxt);
	count_scale(s, dscale, sign, cxt);
	if (digits != small)
		pfree(digits);
	if ((Pointer) p != DatumGetPointer(value))
		pfree(p);
}

/* ------------------------------------------------------------------------
 * Floats
 * ------------------------------------------------------------------------
 */

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
	put_int(buf, sp->nan);
	put_int(buf, sp->pinf);
	put_int(buf, sp->ninf);
	put_int(buf, sp->nzero);
}

static void
get_specials(const char **p, const char *end, Specials *sp)
{
	sp->nan += get_int(p, end);
	sp->pinf += get_int(p, end);
	sp->ninf += get_int(p, end);
	sp->nzero += get_int(p, end);
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

/* ------------------------------------------------------------------------
 * Extremes
 * ------------------------------------------------------------------------
 */

/*
 * The form that is compared: detoasted, but maybe with a short header; by
 * value as fetch_att gives it.
 */
static Datum
extreme_form(const ScStateDef *def, Datum value)
{
	if (def->typbyval)
	{
		switch (def->typlen)
		{
			case sizeof(char):
				return CharGetDatum(DatumGetChar(value));
			case sizeof(int16):
				return Int16GetDatum(DatumGetInt16(value));
			case sizeof(int32):
				return Int32GetDatum(DatumGetInt32(value));
			default:
				return value;
		}
	}
	if (def->typlen == -1)
		return PointerGetDatum(PG_DETOAST_DATUM_PACKED(value));
	return value;
}

/* A copy in cxt, a varlena one with a long header. */
static Datum
extreme_copy(const ScStateDef *def, Datum value, MemoryContext cxt)
{
	char	   *res;

	if (def->typbyval)
		return value;
	if (def->typlen == -1)
	{
		Size		len = VARSIZE_ANY_EXHDR(DatumGetPointer(value));

		res = MemoryContextAlloc(cxt, VARHDRSZ + len);
		SET_VARSIZE(res, VARHDRSZ + len);
		memcpy(VARDATA(res), VARDATA_ANY(DatumGetPointer(value)), len);
	}
	else
	{
		res = MemoryContextAlloc(cxt, def->typlen);
		memcpy(res, DatumGetPointer(value), def->typlen);
	}
	return PointerGetDatum(res);
}

static void
extreme_free(const ScStateDef *def, Datum value)
{
	if (!def->typbyval)
		pfree(DatumGetPointer(value));
}

/*
 * Less than zero if a is better than b.  Values that are equal to the type
 * but look different (1.0 and 1.00) are kept apart, so that taking out the
 * one leaves the other.
 */
static int
extreme_cmp(const ScStateDef *def, Datum a, Datum b)
{
	int			c;
	const char *pa,
			   *pb;
	Size		la,
				lb;

	c = DatumGetInt32(FunctionCall2Coll(def->cmp, def->collation, a, b));
	if (c != 0)
	{
		if (def->descending)
			return c < 0 ? 1 : -1;
		return c < 0 ? -1 : 1;
	}
	if (def->typbyval)
		return a == b ? 0 : (a < b ? -1 : 1);
	pa = DatumGetPointer(a);
	pb = DatumGetPointer(b);
	if (def->typlen > 0)
		return memcmp(pa, pb, def->typlen);
	la = VARSIZE_ANY_EXHDR(pa);
	lb = VARSIZE_ANY_EXHDR(pb);
	c = memcmp(VARDATA_ANY(pa), VARDATA_ANY(pb), Min(la, lb));
	if (c != 0)
		return c;
	return la == lb ? 0 : (la < lb ? -1 : 1);
}

/* Forget the entries from the given one on. */
static void
extreme_truncate(const ScStateDef *def, ExtremeState *s, int from)
{
	int			i;

	for (i = from; i < s->nentries; i++)
		extreme_free(def, s->entries[i].value);
	s->nentries = Min(s->nentries, from);
}

/* Add count times a value, in the form made by extreme_form. */
static void
extreme_add(const ScStateDef *def, ExtremeState *s, Datum value, int64 count,
			MemoryContext cxt)
{
	int			lo = 0,
				hi = s->nentries;

	if (count == 0)
		return;
	if (s->hasfloor && extreme_cmp(def, value, s->floor) >= 0)
		return;

	while (lo < hi)
	{
		int			mid = (lo + hi) / 2;
		int			c = extreme_cmp(def, value, s->entries[mid].value);

		if (c == 0)
		{
			s->entries[mid].count += count;
			if (s->entries[mid].count == 0)
			{
				extreme_free(def, s->entries[mid].value);
				s->nentries--;
				memmove(&s->entries[mid], &s->entries[mid + 1],
						sizeof(ExtremeEntry) * (s->nentries - mid));
			}
			return;
		}
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}

	if (s->entries == NULL)
		s->entries = MemoryContextAlloc(cxt, sizeof(ExtremeEntry) *
										(EXTREME_VALUES + 1));
	memmove(&s->entries[lo + 1], &s->entries[lo],
			sizeof(ExtremeEntry) * (s->nentries - lo));
	s->entries[lo].value = extreme_copy(def, value, cxt);
	s->entries[lo].count = count;
	s->nentries++;

	if (s->nentries > EXTREME_VALUES)
	{
		if (s->hasfloor)
			extreme_free(def, s->floor);
		s->hasfloor = true;
		s->floor = s->entries[--s->nentries].value;
	}
}

/* Raise the floor to the given value if that is better. */
static void
extreme_raise(const ScStateDef *def, ExtremeState *s, Datum value,
			  MemoryContext cxt)
{
	int			i;

	if (s->hasfloor)
	{
		if (extreme_cmp(def, value, s->floor) >= 0)
			return;
		extreme_free(def, s->floor);
	}
	s->hasfloor = true;
	s->floor = extreme_copy(def, value, cxt);
	for (i = s->nentries; i > 0; i--)
	{
		if (extreme_cmp(def, s->entries[i - 1].value, s->floor) < 0)
			break;
	}
	extreme_truncate(def, s, i);
}

static void
put_value(const ScStateDef *def, StringInfo buf, Datum value)
{
	if (def->typbyval)
	{
		union
		{
			Datum		align;
			char		data[sizeof(Datum)];
		}			u;

		store_att_byval(u.data, value, def->typlen);
		appendBinaryStringInfo(buf, u.data, def->typlen);
	}
	else if (def->typlen == -1)
	{
		Size		len = VARSIZE_ANY_EXHDR(DatumGetPointer(value));

		put_uint(buf, len);
		appendBinaryStringInfo(buf, VARDATA_ANY(DatumGetPointer(value)), len);
	}
	else
		appendBinaryStringInfo(buf, DatumGetPointer(value), def->typlen);
}

/* By reference in the current context: the caller frees it. */
static Datum
get_value(const ScStateDef *def, const char **p, const char *end)
{
	Datum		value;
	char	   *res;

	if (def->typlen == -1)
	{
		uint64		len = get_uint(p, end);

		if (len > (uint64) (end - *p) || len > MaxAllocSize - VARHDRSZ)
			corrupted();
		res = palloc(VARHDRSZ + len);
		SET_VARSIZE(res, VARHDRSZ + len);
		memcpy(VARDATA(res), *p, len);
		*p += len;
		return PointerGetDatum(res);
	}
	if (end - *p < def->typlen)
		corrupted();
	if (def->typbyval)
	{
		union
		{
			Datum		align;
			char		data[sizeof(Datum)];
		}			u;

		memcpy(u.data, *p, def->typlen);
		value = fetch_att(u.data, true, def->typlen);
	}
	else
	{
		res = palloc(def->typlen);
		memcpy(res, *p, def->typlen);
		value = PointerGetDatum(res);
	}
	*p += def->typlen;
	return value;
}

/* ------------------------------------------------------------------------
 * Rows
 * ------------------------------------------------------------------------
 */
static int64
int_arg(const ScStateDef *def, Datum arg)
{
	switch (def->typlen)
	{
		case 2:
			return DatumGetInt16(arg);
		case 4:
			return DatumGetInt32(arg);
		default:
			return DatumGetInt64(arg);
	}
}

static double
float_arg(Oid type, Datum arg)
{
	return type == FLOAT4OID ? (double) DatumGetFloat4(arg) : DatumGetFloat8(arg);
}

void
sc_state_accum(const ScStateDef *def, ScState *st, const Datum *args,
			   const bool *nulls, int sign, MemoryContext cxt)
{
	int			i;

	for (i = 0; i < def->nargs; i++)
	{
		if (nulls[i])
			return;
	}

	switch (def->kind)
	{
		case SC_STATE_COUNT:
			((CountState *) st)->n += sign;
			break;

		case SC_STATE_INT:
			{
				IntState   *s = (IntState *) st;
				int64		v = int_arg(def, args[0]);

				s->n += sign;
				s->sum += (int128) v * sign;
				if (def->squares)
					s->sumsq += (int128) v * v * sign;
				break;
			}

		case SC_STATE_NUMERIC:
			{
				NumState   *s = (NumState *) st;

				if (def->typbyval)
					numeric_accum_int8(s, def->squares, int_arg(def, args[0]),
									   sign, cxt);
				else
					numeric_accum_datum(s, def->squares, args[0], sign, cxt);
				break;
			}

		case SC_STATE_FLOAT:
			{
				FloatState *s = (FloatState *) st;
				double		x = float_arg(def->argtypes[0], args[0]);

				s->n += sign;
				if (!count_special(&s->sp, x, sign))
					break;
				sc_exact_add_double(&s->sum, x, sign, cxt);
				if (def->squares)
					sc_exact_add_product(&s->sumsq, x, x, sign, cxt);
				break;
			}

		case SC_STATE_REGR:
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
				break;
			}

		case SC_STATE_INTERVAL:
			{
				IntervalState *s = (IntervalState *) st;
				Interval   *v = DatumGetIntervalP(args[0]);

				s->n += sign;
				s->month += (int64) v->month * sign;
				s->day += (int64) v->day * sign;
				s->time += (int128) v->time * sign;
				break;
			}

		case SC_STATE_BOOL:
			{
				BoolState  *s = (BoolState *) st;

				if (DatumGetBool(args[0]))
					s->ntrue += sign;
				else
					s->nfalse += sign;
				break;
			}

		case SC_STATE_BITS:
			{
				BitsState  *s = (BitsState *) st;
				uint64		v = (uint64) int_arg(def, args[0]);

				s->n += sign;
				for (i = 0; i < 64 && v != 0; i++, v >>= 1)
				{
					if (v & 1)
						s->count[i] += sign;
				}
				break;
			}

		case SC_STATE_EXTREME:
			{
				ExtremeState *s = (ExtremeState *) st;
				Datum		v = extreme_form(def, args[0]);

				s->n += sign;
				extreme_add(def, s, v, sign, cxt);
				if (!def->typbyval && v != args[0])
					pfree(DatumGetPointer(v));
				break;
			}

		case SC_STATE_RECOMPUTE:
			break;
	}
}

bool
sc_state_is_empty(const ScStateDef *def, const ScState *st)
{
	/* Sums are normalized in place, which does not change their value. */
	switch (def->kind)
	{
		case SC_STATE_COUNT:
			return ((const CountState *) st)->n == 0;

		case SC_STATE_INT:
			{
				const IntState *s = (const IntState *) st;

				return s->n == 0 && s->sum == 0 && s->sumsq == 0;
			}

		case SC_STATE_NUMERIC:
			{
				NumState   *s = (NumState *) unconstify(ScState *, st);

				return s->nscales == 0 && s->nan == 0 && s->pinf == 0 &&
					s->ninf == 0 && sc_exact_is_zero(&s->sum, DEC) &&
					sc_exact_is_zero(&s->sumsq, DEC);
			}

		case SC_STATE_FLOAT:
			{
				FloatState *s = (FloatState *) unconstify(ScState *, st);

				return s->n == 0 && specials_empty(&s->sp) &&
					sc_exact_is_zero(&s->sum, BIN) &&
					sc_exact_is_zero(&s->sumsq, BIN);
			}

		case SC_STATE_REGR:
			{
				RegrState  *s = (RegrState *) unconstify(ScState *, st);

				return s->n == 0 && specials_empty(&s->spx) &&
					specials_empty(&s->spy) &&
					sc_exact_is_zero(&s->sx, BIN) &&
					sc_exact_is_zero(&s->sy, BIN) &&
					sc_exact_is_zero(&s->sxx, BIN) &&
					sc_exact_is_zero(&s->syy, BIN) &&
					sc_exact_is_zero(&s->sxy, BIN);
			}

		case SC_STATE_INTERVAL:
			{
				const IntervalState *s = (const IntervalState *) st;

				return s->n == 0 && s->month == 0 && s->day == 0 &&
					s->time == 0;
			}

		case SC_STATE_BOOL:
			{
				const BoolState *s = (const BoolState *) st;

				return s->ntrue == 0 && s->nfalse == 0;
			}

		case SC_STATE_BITS:
			{
				const BitsState *s = (const BitsState *) st;
				int			i;

				if (s->n != 0)
					return false;
				for (i = 0; i < 64; i++)
				{
					if (s->count[i] != 0)
						return false;
				}
				return true;
			}

		case SC_STATE_EXTREME:
			{
				const ExtremeState *s = (const ExtremeState *) st;

				return s->n == 0 && s->nentries == 0 && !s->hasfloor;
			}

		case SC_STATE_RECOMPUTE:
			break;
	}
	return true;
}

void
sc_state_pack(const ScStateDef *def, const ScState *st, StringInfo buf)
{
	int			i;

	switch (def->kind)
	{
		case SC_STATE_COUNT:
			put_int(buf, ((const CountState *) st)->n);
			break;

		case SC_STATE_INT:
			{
				const IntState *s = (const IntState *) st;

				put_int(buf, s->n);
				put_int128(buf, s->sum);
				if (def->squares)
					put_int128(buf, s->sumsq);
				break;
			}

		case SC_STATE_NUMERIC:
			{
				NumState   *s = (NumState *) unconstify(ScState *, st);
				bool		special = s->nan != 0 || s->pinf != 0 || s->ninf != 0;

				put_uint(buf, ((uint64) s->nscales << 1) | (special ? 1 : 0));
				if (special)
				{
					put_int(buf, s->nan);
					put_int(buf, s->pinf);
					put_int(buf, s->ninf);
				}
				for (i = 0; i < s->nscales; i++)
				{
					put_uint(buf, s->scales[i].dscale);
					put_int(buf, s->scales[i].count);
				}
				put_exact(buf, &s->sum, DEC);
				if (def->squares)
					put_exact(buf, &s->sumsq, DEC);
				break;
			}

		case SC_STATE_FLOAT:
			{
				FloatState *s = (FloatState *) unconstify(ScState *, st);
				bool		special = !specials_empty(&s->sp);

				put_uint(buf, special ? 1 : 0);
				put_int(buf, s->n);
				if (special)
					put_specials(buf, &s->sp);
				put_exact(buf, &s->sum, BIN);
				if (def->squares)
					put_exact(buf, &s->sumsq, BIN);
				break;
			}

		case SC_STATE_REGR:
			{
				RegrState  *s = (RegrState *) unconstify(ScState *, st);
				bool		special = !specials_empty(&s->spx) ||
					!specials_empty(&s->spy);

				put_uint(buf, special ? 1 : 0);
				put_int(buf, s->n);
				if (special)
				{
					put_specials(buf, &s->spx);
					put_specials(buf, &s->spy);
				}
				put_exact(buf, &s->sx, BIN);
				put_exact(buf, &s->sy, BIN);
				put_exact(buf, &s->sxx, BIN);
				put_exact(buf, &s->syy, BIN);
				put_exact(buf, &s->sxy, BIN);
				break;
			}

		case SC_STATE_INTERVAL:
			{
				const IntervalState *s = (const IntervalState *) st;

				put_int(buf, s->n);
				put_int(buf, s->month);
				put_int(buf, s->day);
				put_int128(buf, s->time);
				break;
			}

		case SC_STATE_BOOL:
			{
				const BoolState *s = (const BoolState *) st;

				put_int(buf, s->ntrue);
				put_int(buf, s->nfalse);
				break;
			}

		case SC_STATE_BITS:
			{
				/*
				 * The number of inputs, the mask of bits with a count, and
				 * the counts unless all are the number of inputs.
				 */
				const BitsState *s = (const BitsState *) st;
				uint64		mask = 0;
				bool		same = true;

				for (i = 0; i < 64; i++)
				{
					if (s->count[i] == 0)
						continue;
					mask |= UINT64CONST(1) << i;
					if (s->count[i] != s->n)
						same = false;
				}
				appendStringInfoCharMacro(buf, same ? 1 : 0);
				put_int(buf, s->n);
				/* Zigzag, as small negative numbers have all the high bits. */
				put_int(buf, (int64) mask);
				if (!same)
				{
					for (i = 0; i < 64; i++)
					{
						if (s->count[i] != 0)
							put_int(buf, s->count[i]);
					}
				}
				break;
			}

		case SC_STATE_EXTREME:
			{
				const ExtremeState *s = (const ExtremeState *) st;

				put_uint(buf, ((uint64) s->nentries << 1) |
						 (s->hasfloor ? 1 : 0));
				put_int(buf, s->n);
				if (s->hasfloor)
					put_value(def, buf, s->floor);
				for (i = 0; i < s->nentries; i++)
				{
					put_int(buf, s->entries[i].count);
					put_value(def, buf, s->entries[i].value);
				}
				break;
			}

		case SC_STATE_RECOMPUTE:
			break;
	}
}

void
sc_state_merge(const ScStateDef *def, ScState *st, const char **data,
			   const char *end, MemoryContext cxt)
{
	int			i;

	switch (def->kind)
	{
		case SC_STATE_COUNT:
			((CountState *) st)->n += get_int(data, end);
			break;

		case SC_STATE_INT:
			{
				IntState   *s = (IntState *) st;

				s->n += get_int(data, end);
				s->sum += get_int128(data, end);
				if (def->squares)
					s->sumsq += get_int128(data, end);
				break;
			}

		case SC_STATE_NUMERIC:
			{
				NumState   *s = (NumState *) st;
				uint64		head = get_uint(data, end);
				uint64		k;

				if (head & 1)
				{
					s->nan += get_int(data, end);
					s->pinf += get_int(data, end);
					s->ninf += get_int(data, end);
				}
				for (k = head >> 1; k > 0; k--)
				{
					uint64		dscale = get_uint(data, end);
					int64		count = get_int(data, end);

					if (dscale > 0x3FFF)
						corrupted();
					count_scale(s, (int) dscale, count, cxt);
				}
				get_exact(data, end, &s->sum, DEC, cxt);
				if (def->squares)
					get_exact(data, end, &s->sumsq, DEC, cxt);
				break;
			}

		case SC_STATE_FLOAT:
			{
				FloatState *s = (FloatState *) st;
				uint64		head = get_uint(data, end);

				s->n += get_int(data, end);
				if (head & 1)
					get_specials(data, end, &s->sp);
				get_exact(data, end, &s->sum, BIN, cxt);
				if (def->squares)
					get_exact(data, end, &s->sumsq, BIN, cxt);
				break;
			}

		case SC_STATE_REGR:
			{
				RegrState  *s = (RegrState *) st;
				uint64		head = get_uint(data, end);

				s->n += get_int(data, end);
				if (head & 1)
				{
					get_specials(data, end, &s->spx);
					get_specials(data, end, &s->spy);
				}
				get_exact(data, end, &s->sx, BIN, cxt);
				get_exact(data, end, &s->sy, BIN, cxt);
				get_exact(data, end, &s->sxx, BIN, cxt);
				get_exact(data, end, &s->syy, BIN, cxt);
				get_exact(data, end, &s->sxy, BIN, cxt);
				break;
			}

		case SC_STATE_INTERVAL:
			{
				IntervalState *s = (IntervalState *) st;

				s->n += get_int(data, end);
				s->month += get_int(data, end);
				s->day += get_int(data, end);
				s->time += get_int128(data, end);
				break;
			}

		case SC_STATE_BOOL:
			{
				BoolState  *s = (BoolState *) st;

				s->ntrue += get_int(data, end);
				s->nfalse += get_int(data, end);
				break;
			}

		case SC_STATE_BITS:
			{
				BitsState  *s = (BitsState *) st;
				uint64		same = get_uint(data, end);
				int64		n = get_int(data, end);
				uint64		mask = (uint64) get_int(data, end);

				s->n += n;
				for (i = 0; i < 64; i++)
				{
					if ((mask >> i) & 1)
						s->count[i] += same ? n : get_int(data, end);
				}
				break;
			}

		case SC_STATE_EXTREME:
			{
				ExtremeState *s = (ExtremeState *) st;
				uint64		head = get_uint(data, end);
				uint64		k;

				s->n += get_int(data, end);
				if ((head >> 1) > EXTREME_VALUES)
					corrupted();
				if (head & 1)
				{
					Datum		v = get_value(def, data, end);

					extreme_raise(def, s, v, cxt);
					if (!def->typbyval)
						pfree(DatumGetPointer(v));
				}
				for (k = head >> 1; k > 0; k--)
				{
					int64		count = get_int(data, end);
					Datum		v = get_value(def, data, end);

					extreme_add(def, s, v, count, cxt);
					if (!def->typbyval)
						pfree(DatumGetPointer(v));
				}
				break;
			}

		case SC_STATE_RECOMPUTE:
			break;
	}
}

/* ------------------------------------------------------------------------
 * Values
 * ------------------------------------------------------------------------
 */

/* Call a function of one argument the way an aggregate does. */
static Datum
call_final(FmgrInfo *flinfo, PGFunction fn, Oid collation, Datum arg,
		   bool *isnull)
{
	static WindowAggState fake;
	LOCAL_FCINFO(fcinfo, 2);
	Datum		res;

	NodeSetTag(&fake, T_WindowAggState);
	fake.curaggcontext = CurrentMemoryContext;
	InitFunctionCallInfoData(*fcinfo, flinfo, flinfo ? flinfo->fn_nargs : 2,
							 collation, (fmNodePtr) &fake, NULL);
	fcinfo->args[0].value = arg;
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = (Datum) 0;
	fcinfo->args[1].isnull = false;
	if (flinfo)
		res = FunctionCallInvoke(fcinfo);
	else
		res = fn(fcinfo);
	*isnull = fcinfo->isnull;
	return res;
}

/* As numericvar_serialize writes it: digits are most significant first. */
static void
send_var(StringInfo buf, ScExact *e, int dscale)
{
	int			first,
				last,
				i;
	bool		negative;

	if (!sc_exact_trim(e, DEC, &first, &last))
	{
		pq_sendint32(buf, 0);
		pq_sendint32(buf, 0);
		pq_sendint32(buf, 0);
		pq_sendint32(buf, dscale);
		return;
	}
	negative = e->d[last] < 0;
	pq_sendint32(buf, last - first + 1);
	pq_sendint32(buf, e->lo + last);
	pq_sendint32(buf, negative ? 0x4000 : 0);
	pq_sendint32(buf, dscale);
	for (i = last; i >= first; i--)
		pq_sendint16(buf, (int16) (negative ? -e->d[i] : e->d[i]));
}

static void
send_int128(StringInfo buf, int128 v)
{
	uint128		u = v < 0 ? -(uint128) v : (uint128) v;
	int16		digits[10];
	int			n = lengthof(digits);
	int			i;

	while (u != 0)
	{
		digits[--n] = (int16) (u % 10000);
		u /= 10000;
	}
	pq_sendint32(buf, lengthof(digits) - n);
	pq_sendint32(buf, n == lengthof(digits) ? 0 : (int) lengthof(digits) - n - 1);
	pq_sendint32(buf, v < 0 ? 0x4000 : 0);
	pq_sendint32(buf, 0);
	for (i = n; i < (int) lengthof(digits); i++)
		pq_sendint16(buf, digits[i]);
}

static void
int_final(const ScStateDef *def, const ScFinalDef *fin, const IntState *s,
		  Datum *value, bool *isnull, bool *overflow)
{
	StringInfoData buf;
	Datum		state;

	if (s->n == 0)
		return;

	switch (fin->aggfnoid)
	{
		case F_SUM_MONEY:
			/* This sum wraps around. */
			*value = Int64GetDatum((int64) (uint64) (uint128) s->sum);
			*isnull = false;
			return;

		case F_SUM_INT2:
		case F_SUM_INT4:
			if (s->sum > PG_INT64_MAX || s->sum < PG_INT64_MIN)
			{
				*overflow = true;
				return;
			}
			*value = Int64GetDatum((int64) s->sum);
			*isnull = false;
			return;

		case F_AVG_INT2:
		case F_AVG_INT4:
			{
				Datum		elems[2];

				if (s->sum > PG_INT64_MAX || s->sum < PG_INT64_MIN)
				{
					*overflow = true;
					return;
				}
				elems[0] = Int64GetDatum(s->n);
				elems[1] = Int64GetDatum((int64) s->sum);
				state = PointerGetDatum(construct_array(elems, 2, INT8OID,
														sizeof(int64),
														FLOAT8PASSBYVAL,
														TYPALIGN_DOUBLE));
				break;
			}

		default:
			pq_begintypsend(&buf);
			pq_sendint64(&buf, s->n);
			send_int128(&buf, s->sum);
			if (def->squares)
				send_int128(&buf, s->sumsq);
			state = PointerGetDatum(pq_endtypsend(&buf));
			state = call_final(NULL, def->squares ? numeric_poly_deserialize :
							   int8_avg_deserialize, InvalidOid, state,
							   isnull);
			break;
	}
	*value = call_final(fin->finalfn, NULL, fin->collation, state, isnull);
}

static void
num_final(const ScStateDef *def, const ScFinalDef *fin, NumState *s,
		  Datum *value, bool *isnull, bool *overflow)
{
	StringInfoData buf;
	Datum		state;
	int64		n = 0;
	int64		maxcount = 0;
	int			maxscale = 0;
	int			first,
				last,
				i;

	for (i = 0; i < s->nscales; i++)
	{
		n += s->scales[i].count;
		if (s->scales[i].count > 0 && s->scales[i].dscale >= maxscale)
		{
			maxscale = s->scales[i].dscale;
			maxcount = s->scales[i].count;
		}
	}

	/* The final function would raise an error. */
	if (!def->squares && s->nan == 0 && s->pinf == 0 && s->ninf == 0 &&
		sc_exact_trim(&s->sum, DEC, &first, &last) &&
		s->sum.lo + last > PG_INT16_MAX)
	{
		*overflow = true;
		return;
	}

	pq_begintypsend(&buf);
	pq_sendint64(&buf, n);
	send_var(&buf, &s->sum, maxscale);
	if (def->squares)
		send_var(&buf, &s->sumsq, maxscale * 2);
	pq_sendint32(&buf, maxscale);
	pq_sendint64(&buf, maxcount);
	pq_sendint64(&buf, s->nan);
	pq_sendint64(&buf, s->pinf);
	pq_sendint64(&buf, s->ninf);
	state = PointerGetDatum(pq_endtypsend(&buf));
	state = call_final(NULL, def->squares ? numeric_deserialize :
					   numeric_avg_deserialize, InvalidOid, state, isnull);
	*value = call_final(fin->finalfn, NULL, fin->collation, state, isnull);
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

static void
float_final(const ScStateDef *def, const ScFinalDef *fin, FloatState *s,
			Datum *value, bool *isnull, bool *overflow)
{
	double		v[3];
	bool		special = any_special(&s->sp);

	if (s->n == 0)
		return;

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
			return;
		}
		if (s->sp.nzero == s->n)
			f = -0.0f;
		*value = Float4GetDatum(f);
		*isnull = false;
		return;
	}

	v[0] = (double) s->n;
	v[1] = float_sum(&s->sp, &s->sum);
	if (isinf(v[1]) && !special)
	{
		*overflow = true;
		return;
	}
	if (fin->aggfnoid == F_SUM_FLOAT8)
	{
		if (s->sp.nzero == s->n)
			v[1] = -0.0;
		*value = Float8GetDatum(v[1]);
		*isnull = false;
		return;
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
			return;
		}
	}
	*value = call_final(fin->finalfn, NULL, fin->collation,
						float8_array(v, 3), isnull);
}

static void
regr_final(const ScStateDef *def, const ScFinalDef *fin, RegrState *s,
		   Datum *value, bool *isnull, bool *overflow)
{
	double		v[6];
	bool		spx = any_special(&s->spx);
	bool		spy = any_special(&s->spy);

	if (fin->aggfnoid == F_REGR_COUNT)
	{
		*value = Int64GetDatum(s->n);
		*isnull = false;
		return;
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
			return;
		}
	}
	*value = call_final(fin->finalfn, NULL, fin->collation,
						float8_array(v, 6), isnull);
}

static void
interval_final(const ScFinalDef *fin, const IntervalState *s, Datum *value,
			   bool *isnull, bool *overflow)
{
	Interval   *sum;
	Interval	count;
	Datum		elems[2];
	ArrayType  *arr;

	if (s->n == 0)
		return;
	if (s->month > PG_INT32_MAX || s->month < PG_INT32_MIN ||
		s->day > PG_INT32_MAX || s->day < PG_INT32_MIN ||
		s->time > PG_INT64_MAX || s->time < PG_INT64_MIN)
	{
		*overflow = true;
		return;
	}
	sum = palloc0(sizeof(Interval));
	sum->month = (int32) s->month;
	sum->day = (int32) s->day;
	sum->time = (TimeOffset) s->time;
	if (fin->aggfnoid == F_SUM_INTERVAL)
	{
		*value = IntervalPGetDatum(sum);
		*isnull = false;
		return;
	}
	memset(&count, 0, sizeof(count));
	count.time = s->n;
	elems[0] = IntervalPGetDatum(sum);
	elems[1] = IntervalPGetDatum(&count);
	arr = construct_array(elems, 2, INTERVALOID, sizeof(Interval), false,
						  TYPALIGN_DOUBLE);
	*value = call_final(fin->finalfn, NULL, fin->collation,
						PointerGetDatum(arr), isnull);
}

static void
bits_final(const ScStateDef *def, const ScFinalDef *fin, const BitsState *s,
		   Datum *value, bool *isnull)
{
	uint64		v = 0;
	int			i;

	if (s->n == 0)
		return;
	for (i = 0; i < 64; i++)
	{
		bool		set;

		switch (fin->aggfnoid)
		{
			case F_BIT_AND_INT2:
			case F_BIT_AND_INT4:
			case F_BIT_AND_INT8:
				set = s->count[i] == s->n;
				break;
			case F_BIT_OR_INT2:
			case F_BIT_OR_INT4:
			case F_BIT_OR_INT8:
				set = s->count[i] != 0;
				break;
			default:
				set = (s->count[i] & 1) != 0;
				break;
		}
		if (set)
			v |= UINT64CONST(1) << i;
	}
	if (def->typlen == 2)
		*value = Int16GetDatum((int16) v);
	else if (def->typlen == 4)
		*value = Int32GetDatum((int32) v);
	else
		*value = Int64GetDatum((int64) v);
	*isnull = false;
}

static bool
extreme_final(const ScStateDef *def, const ExtremeState *s, Datum *value,
			  bool *isnull)
{
	int			i;

	if (s->n == 0)
		return true;
	for (i = 0; i < s->nentries; i++)
	{
		if (s->entries[i].count > 0)
		{
			*value = extreme_copy(def, s->entries[i].value,
								  CurrentMemoryContext);
			*isnull = false;
			return true;
		}
	}
	return false;
}

bool
sc_state_final(const ScStateDef *def, const ScFinalDef *fin,
			   const ScState *st, Datum *value, bool *isnull, bool *overflow)
{
	/* Sums are normalized in place, which does not change their value. */
	ScState    *s = unconstify(ScState *, st);

	*value = (Datum) 0;
	*isnull = true;
	*overflow = false;

	switch (def->kind)
	{
		case SC_STATE_COUNT:
			*value = Int64GetDatum(((CountState *) s)->n);
			*isnull = false;
			break;

		case SC_STATE_INT:
			int_final(def, fin, s, value, isnull, overflow);
			break;

		case SC_STATE_NUMERIC:
			num_final(def, fin, s, value, isnull, overflow);
			break;

		case SC_STATE_FLOAT:
			float_final(def, fin, s, value, isnull, overflow);
			break;

		case SC_STATE_REGR:
			regr_final(def, fin, s, value, isnull, overflow);
			break;

		case SC_STATE_INTERVAL:
			interval_final(fin, s, value, isnull, overflow);
			break;

		case SC_STATE_BOOL:
			{
				BoolState  *b = (BoolState *) s;

				if (b->ntrue == 0 && b->nfalse == 0)
					break;
				*value = BoolGetDatum(fin->aggfnoid == F_BOOL_OR ?
									  b->ntrue != 0 : b->nfalse == 0);
				*isnull = false;
				break;
			}

		case SC_STATE_BITS:
			bits_final(def, fin, s, value, isnull);
			break;

		case SC_STATE_EXTREME:
			return extreme_final(def, s, value, isnull);

		case SC_STATE_RECOMPUTE:
			return false;
	}
	return true;
}
