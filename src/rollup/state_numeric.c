/*
 * state_numeric.c: exact sums of integers, money and numeric.  See state.h.
 *
 * The value is computed by the aggregate's own final function from a
 * transition value made of the sums.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "libpq/pqformat.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"

#include "rollup/exact.h"
#include "rollup/state_private.h"

#define DEC		SC_BASE_DECIMAL

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
	int32		allocated;		/* of "more" */
	ScaleCount	only;			/* most often there is one */
	ScaleCount *more;			/* all of them, or NULL */
} NumState;

/* ---- integers ---- */

static pg_attribute_hot void
int_accum(const ScStateDef *def, ScState *st, const Datum *args,
		  int sign, MemoryContext cxt)
{
	IntState   *s = (IntState *) st;
	int64		v = sc_int_arg(def, args[0]);

	s->n += sign;
	s->sum += (int128) v * sign;
	if (def->squares)
		s->sumsq += (int128) v * v * sign;
}

static bool
int_is_empty(ScState *st)
{
	IntState   *s = (IntState *) st;

	return s->n == 0 && s->sum == 0 && s->sumsq == 0;
}

static pg_attribute_hot void
int_pack(const ScStateDef *def, ScState *st, StringInfo buf)
{
	IntState   *s = (IntState *) st;

	sc_put_int(buf, s->n);
	sc_put_int128(buf, s->sum);
	if (def->squares)
		sc_put_int128(buf, s->sumsq);
}

static void
int_merge(const ScStateDef *def, ScState *st, const char **data,
		  const char *end, MemoryContext cxt)
{
	IntState   *s = (IntState *) st;

	s->n += sc_get_int(data, end);
	s->sum += sc_get_int128(data, end);
	if (def->squares)
		s->sumsq += sc_get_int128(data, end);
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
int_negate(ScState *st)
{
	IntState   *s = (IntState *) st;

	s->n = -s->n;
	s->sum = -s->sum;
	s->sumsq = -s->sumsq;
}

static bool
int_final(const ScStateDef *def, const ScFinalDef *fin, ScState *st,
		  Datum *value, bool *isnull, bool *overflow)
{
	IntState   *s = (IntState *) st;
	StringInfoData buf;
	Datum		state;

	if (s->n == 0)
		return true;

	switch (fin->aggfnoid)
	{
		case F_SUM_MONEY:
		case F_SUM_INT2:
		case F_SUM_INT4:
			if (s->sum > PG_INT64_MAX || s->sum < PG_INT64_MIN)
			{
				*overflow = true;
				return true;
			}
			*value = Int64GetDatum((int64) s->sum);
			*isnull = false;
			return true;

		case F_AVG_INT2:
		case F_AVG_INT4:
			{
				Datum		elems[2];

				if (s->sum > PG_INT64_MAX || s->sum < PG_INT64_MIN)
				{
					*overflow = true;
					return true;
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
			state = sc_call_final(NULL, def->squares ? numeric_poly_deserialize :
								  int8_avg_deserialize, InvalidOid, state,
								  isnull);
			break;
	}
	*value = sc_call_final(fin->finalfn, NULL, fin->collation, state, isnull);
	return true;
}

static int64
int_count(ScState *st)
{
	return ((IntState *) st)->n;
}

const ScStateOps sc_int_ops = {
	.size = sizeof(IntState),
	.accum = int_accum,
	.is_empty = int_is_empty,
	.pack = int_pack,
	.merge = int_merge,
	.negate = int_negate,
	.final = int_final,
	.count = int_count,
};

/* ---- numeric ---- */

/* ------------------------------------------------------------------------
 * Numeric
 * ------------------------------------------------------------------------
 */
static inline ScaleCount *
scales_of(NumState *s)
{
	return s->more ? s->more : &s->only;
}

/* Room for more than there are. */
static pg_noinline ScaleCount *
more_scales(NumState *s, MemoryContext cxt)
{
	int			n = Max(4, s->allocated * 2);

	if (s->more)
		s->more = repalloc(s->more, sizeof(ScaleCount) * n);
	else
	{
		s->more = MemoryContextAlloc(cxt, sizeof(ScaleCount) * n);
		s->more[0] = s->only;
	}
	s->allocated = n;
	return s->more;
}

static pg_attribute_hot void
count_scale(NumState *s, int dscale, int64 count, MemoryContext cxt)
{
	ScaleCount *scales = scales_of(s);
	int			i;

	if (count == 0)
		return;
	for (i = 0; i < s->nscales; i++)
	{
		if (scales[i].dscale == dscale)
		{
			scales[i].count += count;
			if (scales[i].count == 0)
				scales[i] = scales[--s->nscales];
			return;
		}
	}
	if (s->nscales == (s->more ? s->allocated : 1))
		scales = more_scales(s, cxt);
	scales[s->nscales].dscale = dscale;
	scales[s->nscales].count = count;
	s->nscales++;
}

/* Digits are most significant first, the first one at position weight. */
static pg_attribute_hot void
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

static pg_attribute_hot void
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
		sc_state_corrupted();
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
			sc_state_corrupted();
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

static pg_attribute_hot void
num_accum(const ScStateDef *def, ScState *st, const Datum *args,
		  int sign, MemoryContext cxt)
{
	NumState   *s = (NumState *) st;

	if (def->typbyval)
		numeric_accum_int8(s, def->squares, sc_int_arg(def, args[0]),
						   sign, cxt);
	else
		numeric_accum_datum(s, def->squares, args[0], sign, cxt);
}

static bool
num_is_empty(ScState *st)
{
	NumState   *s = (NumState *) st;

	return s->nscales == 0 && s->nan == 0 && s->pinf == 0 &&
		s->ninf == 0 && sc_exact_is_zero(&s->sum, DEC) &&
		sc_exact_is_zero(&s->sumsq, DEC);
}

static pg_attribute_hot void
num_pack(const ScStateDef *def, ScState *st, StringInfo buf)
{
	int			i;
	NumState   *s = (NumState *) st;
	bool		special = s->nan != 0 || s->pinf != 0 || s->ninf != 0;

	sc_put_uint(buf, ((uint64) s->nscales << 1) | (special ? 1 : 0));
	if (special)
	{
		sc_put_int(buf, s->nan);
		sc_put_int(buf, s->pinf);
		sc_put_int(buf, s->ninf);
	}
	for (i = 0; i < s->nscales; i++)
	{
		sc_put_uint(buf, scales_of(s)[i].dscale);
		sc_put_int(buf, scales_of(s)[i].count);
	}
	sc_put_exact(buf, &s->sum, DEC);
	if (def->squares)
		sc_put_exact(buf, &s->sumsq, DEC);
}

static void
num_merge(const ScStateDef *def, ScState *st, const char **data,
		  const char *end, MemoryContext cxt)
{
	NumState   *s = (NumState *) st;
	uint64		head = sc_get_uint(data, end);
	uint64		k;

	if (head & 1)
	{
		s->nan += sc_get_int(data, end);
		s->pinf += sc_get_int(data, end);
		s->ninf += sc_get_int(data, end);
	}
	for (k = head >> 1; k > 0; k--)
	{
		uint64		dscale = sc_get_uint(data, end);
		int64		count = sc_get_int(data, end);

		if (dscale > 0x3FFF)
			sc_state_corrupted();
		count_scale(s, (int) dscale, count, cxt);
	}
	sc_get_exact(data, end, &s->sum, DEC, cxt);
	if (def->squares)
		sc_get_exact(data, end, &s->sumsq, DEC, cxt);
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
num_negate(ScState *st)
{
	NumState   *s = (NumState *) st;

	sc_exact_negate(&s->sum);
	sc_exact_negate(&s->sumsq);
	s->nan = -s->nan;
	s->pinf = -s->pinf;
	s->ninf = -s->ninf;
	for (int i = 0; i < s->nscales; i++)
		scales_of(s)[i].count = -scales_of(s)[i].count;
}

static bool
num_final(const ScStateDef *def, const ScFinalDef *fin, ScState *st,
		  Datum *value, bool *isnull, bool *overflow)
{
	NumState   *s = (NumState *) st;
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
		n += scales_of(s)[i].count;
		if (scales_of(s)[i].count > 0 && scales_of(s)[i].dscale >= maxscale)
		{
			maxscale = scales_of(s)[i].dscale;
			maxcount = scales_of(s)[i].count;
		}
	}

	/* The final function would raise an error. */
	if (!def->squares && s->nan == 0 && s->pinf == 0 && s->ninf == 0 &&
		sc_exact_trim(&s->sum, DEC, &first, &last) &&
		s->sum.lo + last > PG_INT16_MAX)
	{
		*overflow = true;
		return true;
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
	state = sc_call_final(NULL, def->squares ? numeric_deserialize :
						  numeric_avg_deserialize, InvalidOid, state, isnull);
	*value = sc_call_final(fin->finalfn, NULL, fin->collation, state, isnull);
	return true;
}

static int64
num_count(ScState *st)
{
	NumState   *s = (NumState *) st;
	int64		n = s->nan + s->pinf + s->ninf;

	for (int i = 0; i < s->nscales; i++)
		n += scales_of(s)[i].count;
	return n;
}

const ScStateOps sc_num_ops = {
	.size = sizeof(NumState),
	.accum = num_accum,
	.is_empty = num_is_empty,
	.pack = num_pack,
	.merge = num_merge,
	.negate = num_negate,
	.final = num_final,
	.count = num_count,
};
