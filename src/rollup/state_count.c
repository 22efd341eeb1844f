/*
 * state_count.c: states made of a few integers: counts, boolean and bit
 * aggregates, intervals.  See state.h.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"

#include "rollup/state_private.h"

typedef struct CountState
{
	int64		n;
} CountState;

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

/* ---- count ---- */

static pg_attribute_hot void
count_accum(const ScStateDef *def, ScState *st, const Datum *args,
			int sign, MemoryContext cxt)
{
	((CountState *) st)->n += sign;
}

static bool
count_is_empty(ScState *st)
{
	return ((CountState *) st)->n == 0;
}

static pg_attribute_hot void
count_pack(const ScStateDef *def, ScState *st, StringInfo buf)
{
	sc_put_int(buf, ((CountState *) st)->n);
}

static void
count_merge(const ScStateDef *def, ScState *st, const char **data,
			const char *end, MemoryContext cxt)
{
	((CountState *) st)->n += sc_get_int(data, end);
}

static void
count_negate(ScState *st)
{
	((CountState *) st)->n *= -1;
}

static bool
count_final(const ScStateDef *def, const ScFinalDef *fin, ScState *st,
			Datum *value, bool *isnull, bool *overflow)
{
	*value = Int64GetDatum(((CountState *) st)->n);
	*isnull = false;
	return true;
}

const ScStateOps sc_count_ops = {
	.size = sizeof(CountState),
	.accum = count_accum,
	.is_empty = count_is_empty,
	.pack = count_pack,
	.merge = count_merge,
	.negate = count_negate,
	.final = count_final,
};

/* ---- sum and avg of intervals ---- */

static void
interval_accum(const ScStateDef *def, ScState *st, const Datum *args,
			   int sign, MemoryContext cxt)
{
	IntervalState *s = (IntervalState *) st;
	Interval   *v = DatumGetIntervalP(args[0]);

	s->n += sign;
	s->month += (int64) v->month * sign;
	s->day += (int64) v->day * sign;
	s->time += (int128) v->time * sign;
}

static bool
interval_is_empty(ScState *st)
{
	IntervalState *s = (IntervalState *) st;

	return s->n == 0 && s->month == 0 && s->day == 0 &&
		s->time == 0;
}

static void
interval_pack(const ScStateDef *def, ScState *st, StringInfo buf)
{
	IntervalState *s = (IntervalState *) st;

	sc_put_int(buf, s->n);
	sc_put_int(buf, s->month);
	sc_put_int(buf, s->day);
	sc_put_int128(buf, s->time);
}

static void
interval_merge(const ScStateDef *def, ScState *st, const char **data,
			   const char *end, MemoryContext cxt)
{
	IntervalState *s = (IntervalState *) st;

	s->n += sc_get_int(data, end);
	s->month += sc_get_int(data, end);
	s->day += sc_get_int(data, end);
	s->time += sc_get_int128(data, end);
}

static void
interval_negate(ScState *st)
{
	IntervalState *s = (IntervalState *) st;

	s->n = -s->n;
	s->month = -s->month;
	s->day = -s->day;
	s->time = -s->time;
}

static bool
interval_final(const ScStateDef *def, const ScFinalDef *fin, ScState *st,
			   Datum *value, bool *isnull, bool *overflow)
{
	IntervalState *s = (IntervalState *) st;
	Interval   *sum;
	Interval	count;
	Datum		elems[2];
	ArrayType  *arr;

	if (s->n == 0)
		return true;
	if (s->month > PG_INT32_MAX || s->month < PG_INT32_MIN ||
		s->day > PG_INT32_MAX || s->day < PG_INT32_MIN ||
		s->time > PG_INT64_MAX || s->time < PG_INT64_MIN)
	{
		*overflow = true;
		return true;
	}
	sum = palloc0(sizeof(Interval));
	sum->month = (int32) s->month;
	sum->day = (int32) s->day;
	sum->time = (TimeOffset) s->time;
	if (fin->aggfnoid == F_SUM_INTERVAL)
	{
		*value = IntervalPGetDatum(sum);
		*isnull = false;
		return true;
	}
	memset(&count, 0, sizeof(count));
	count.time = s->n;
	elems[0] = IntervalPGetDatum(sum);
	elems[1] = IntervalPGetDatum(&count);
	arr = construct_array(elems, 2, INTERVALOID, sizeof(Interval), false,
						  TYPALIGN_DOUBLE);
	*value = sc_call_final(fin->finalfn, NULL, fin->collation,
						   PointerGetDatum(arr), isnull);
	return true;
}

static int64
interval_count(ScState *st)
{
	return ((IntervalState *) st)->n;
}

const ScStateOps sc_interval_ops = {
	.size = sizeof(IntervalState),
	.accum = interval_accum,
	.is_empty = interval_is_empty,
	.pack = interval_pack,
	.merge = interval_merge,
	.negate = interval_negate,
	.final = interval_final,
	.count = interval_count,
};

/* ---- bool_and, bool_or, every ---- */

static void
bool_accum(const ScStateDef *def, ScState *st, const Datum *args,
		   int sign, MemoryContext cxt)
{
	BoolState  *s = (BoolState *) st;

	if (DatumGetBool(args[0]))
		s->ntrue += sign;
	else
		s->nfalse += sign;
}

static bool
bool_is_empty(ScState *st)
{
	BoolState  *s = (BoolState *) st;

	return s->ntrue == 0 && s->nfalse == 0;
}

static void
bool_pack(const ScStateDef *def, ScState *st, StringInfo buf)
{
	BoolState  *s = (BoolState *) st;

	sc_put_int(buf, s->ntrue);
	sc_put_int(buf, s->nfalse);
}

static void
bool_merge(const ScStateDef *def, ScState *st, const char **data,
		   const char *end, MemoryContext cxt)
{
	BoolState  *s = (BoolState *) st;

	s->ntrue += sc_get_int(data, end);
	s->nfalse += sc_get_int(data, end);
}

static void
bool_negate(ScState *st)
{
	BoolState  *s = (BoolState *) st;

	s->ntrue = -s->ntrue;
	s->nfalse = -s->nfalse;
}

static bool
bool_final(const ScStateDef *def, const ScFinalDef *fin, ScState *st,
		   Datum *value, bool *isnull, bool *overflow)
{
	BoolState  *s = (BoolState *) st;

	if (s->ntrue == 0 && s->nfalse == 0)
		return true;
	*value = BoolGetDatum(fin->aggfnoid == F_BOOL_OR ?
						  s->ntrue != 0 : s->nfalse == 0);
	*isnull = false;
	return true;
}

static int64
bool_count(ScState *st)
{
	return ((BoolState *) st)->ntrue + ((BoolState *) st)->nfalse;
}

const ScStateOps sc_bool_ops = {
	.size = sizeof(BoolState),
	.accum = bool_accum,
	.is_empty = bool_is_empty,
	.pack = bool_pack,
	.merge = bool_merge,
	.negate = bool_negate,
	.final = bool_final,
	.count = bool_count,
};

/* ---- bit_and, bit_or, bit_xor ---- */

static void
bits_accum(const ScStateDef *def, ScState *st, const Datum *args,
		   int sign, MemoryContext cxt)
{
	int			i;
	BitsState  *s = (BitsState *) st;
	uint64		v = (uint64) sc_int_arg(def, args[0]);

	s->n += sign;
	for (i = 0; i < 64 && v != 0; i++, v >>= 1)
	{
		if (v & 1)
			s->count[i] += sign;
	}
}

static bool
bits_is_empty(ScState *st)
{
	BitsState  *s = (BitsState *) st;
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

static void
bits_pack(const ScStateDef *def, ScState *st, StringInfo buf)
{
	/*
	 * The number of inputs, the mask of bits with a count, and
	 * the counts unless all are the number of inputs.
	 */
	BitsState  *s = (BitsState *) st;
	int			i;
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
	sc_put_int(buf, s->n);
	/* Zigzag, as small negative numbers have all the high bits. */
	sc_put_int(buf, (int64) mask);
	if (!same)
	{
		for (i = 0; i < 64; i++)
		{
			if (s->count[i] != 0)
				sc_put_int(buf, s->count[i]);
		}
	}
}

static void
bits_merge(const ScStateDef *def, ScState *st, const char **data,
		   const char *end, MemoryContext cxt)
{
	int			i;
	BitsState  *s = (BitsState *) st;
	uint64		same = sc_get_uint(data, end);
	int64		n = sc_get_int(data, end);
	uint64		mask = (uint64) sc_get_int(data, end);

	s->n += n;
	for (i = 0; i < 64; i++)
	{
		if ((mask >> i) & 1)
			s->count[i] += same ? n : sc_get_int(data, end);
	}
}

static void
bits_negate(ScState *st)
{
	BitsState  *s = (BitsState *) st;

	s->n = -s->n;
	for (int i = 0; i < 64; i++)
		s->count[i] = -s->count[i];
}

static bool
bits_final(const ScStateDef *def, const ScFinalDef *fin, ScState *st,
		   Datum *value, bool *isnull, bool *overflow)
{
	BitsState  *s = (BitsState *) st;
	uint64		v = 0;
	int			i;

	if (s->n == 0)
		return true;
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
	return true;
}

static int64
bits_count(ScState *st)
{
	return ((BitsState *) st)->n;
}

const ScStateOps sc_bits_ops = {
	.size = sizeof(BitsState),
	.accum = bits_accum,
	.is_empty = bits_is_empty,
	.pack = bits_pack,
	.merge = bits_merge,
	.negate = bits_negate,
	.final = bits_final,
	.count = bits_count,
};
