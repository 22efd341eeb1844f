/*
 * state_pack.c: the packed form of numbers and values, and what the kinds of
 * state share.  See state_private.h.
 */
#include "postgres.h"

#include "access/tupmacs.h"
#include "nodes/execnodes.h"
#include "utils/memutils.h"

#include "rollup/exact.h"
#include "rollup/state_private.h"

/* Positions of digits accepted when reading a packed sum. */
#define MAX_POSITION	100000

/* A uint64, in groups of 7 bits. */
#define MAX_UINT_BYTES	10

/* ------------------------------------------------------------------------
 * Packing of numbers
 * ------------------------------------------------------------------------
 */
void
sc_state_corrupted(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("rollup state is damaged"),
			 errhint("Recompute the rollup with scalecache.rebuild_rollup.")));
}

static pg_attribute_hot void
put_uint128(StringInfo buf, uint128 v)
{
	while (v >= 0x80)
	{
		appendStringInfoCharMacro(buf, (char) ((v & 0x7F) | 0x80));
		v >>= 7;
	}
	appendStringInfoCharMacro(buf, (char) v);
}

pg_attribute_hot void
sc_put_int128(StringInfo buf, int128 v)
{
	put_uint128(buf, ((uint128) v << 1) ^ (uint128) (v >> 127));
}

/* There is room for it. */
static inline char *
put_digits(char *p, uint64 v)
{
	while (v >= 0x80)
	{
		*p++ = (char) ((v & 0x7F) | 0x80);
		v >>= 7;
	}
	*p++ = (char) v;
	return p;
}

/* What sc_put_uint does not do itself. */
void
sc_put_long(StringInfo buf, uint64 v)
{
	char	   *p;

	if (buf->maxlen - buf->len <= MAX_UINT_BYTES)
		enlargeStringInfo(buf, MAX_UINT_BYTES);
	p = put_digits(buf->data + buf->len, v);
	*p = '\0';
	buf->len = p - buf->data;
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
			sc_state_corrupted();
		c = (unsigned char) *(*p)++;
		v |= (uint128) (c & 0x7F) << shift;
		if ((c & 0x80) == 0)
			return v;
		shift += 7;
	}
}

int128
sc_get_int128(const char **p, const char *end)
{
	uint128		v = get_uint128(p, end);

	return (int128) ((v >> 1) ^ -(v & 1));
}

static inline uint64
get_uint(const char **p, const char *end)
{
	uint64		v = 0;
	int			shift = 0;

	for (;;)
	{
		unsigned char c;

		if (*p >= end || shift > 63)
			sc_state_corrupted();
		c = (unsigned char) *(*p)++;
		v |= (uint64) (c & 0x7F) << shift;
		if ((c & 0x80) == 0)
			return v;
		shift += 7;
	}
}

uint64
sc_get_uint(const char **p, const char *end)
{
	return get_uint(p, end);
}

int64
sc_get_int(const char **p, const char *end)
{
	uint64		v = get_uint(p, end);

	return (int64) ((v >> 1) ^ -(v & 1));
}

/* number of digits and sign, position of the first, digits */
pg_attribute_hot void
sc_put_exact(StringInfo buf, ScExact *e, int64 base)
{
	int			first,
				last,
				i;
	int			room;
	bool		negative;
	char	   *p;

	if (!sc_exact_trim(e, base, &first, &last))
	{
		sc_put_uint(buf, 0);
		return;
	}
	negative = e->d[last] < 0;
	sc_put_uint(buf, ((uint64) (last - first + 1) << 1) | (negative ? 1 : 0));
	sc_put_int(buf, e->lo + first);
	room = (last - first + 1) * MAX_UINT_BYTES;
	if (buf->maxlen - buf->len <= room)
		enlargeStringInfo(buf, room);
	p = buf->data + buf->len;
	for (i = first; i <= last; i++)
		p = put_digits(p, negative ? -e->d[i] : e->d[i]);
	*p = '\0';
	buf->len = p - buf->data;
}

void
sc_get_exact(const char **p, const char *end, ScExact *e, int64 base,
			 MemoryContext cxt)
{
	uint64		head = sc_get_uint(p, end);
	int64		lo;
	uint64		n = head >> 1;
	int			sign = (head & 1) ? -1 : 1;
	uint64		i;

	if (n == 0)
		return;
	lo = sc_get_int(p, end);
	if (lo < -MAX_POSITION || lo > MAX_POSITION || n > MAX_POSITION ||
		n > (uint64) (end - *p))
		sc_state_corrupted();
	sc_exact_reserve(e, (int) lo, (int) (lo + n - 1), cxt);
	for (i = 0; i < n; i++)
	{
		uint64		digit = get_uint(p, end);

		if (digit >= (uint64) base)
			sc_state_corrupted();
		if (digit != 0)
			sc_exact_add(e, base, (int) (lo + i), sign * (int64) digit);
	}
}

/* ---- values of the argument's type ---- */

/*
 * The form that is compared: detoasted, but maybe with a short header; by
 * value as fetch_att gives it.
 */
Datum
sc_value_form(const ScStateDef *def, Datum value)
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
Datum
sc_value_copy(const ScStateDef *def, Datum value, MemoryContext cxt)
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

void
sc_value_free(const ScStateDef *def, Datum value)
{
	if (!def->typbyval)
		pfree(DatumGetPointer(value));
}

/*
 * Less than zero if a is better than b.  Values that are equal to the type
 * but look different (1.0 and 1.00) are kept apart, so that taking out the
 * one leaves the other.
 */
int
sc_value_cmp(const ScStateDef *def, Datum a, Datum b)
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

void
sc_put_value(const ScStateDef *def, StringInfo buf, Datum value)
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

		sc_put_uint(buf, len);
		appendBinaryStringInfo(buf, VARDATA_ANY(DatumGetPointer(value)), len);
	}
	else
		appendBinaryStringInfo(buf, DatumGetPointer(value), def->typlen);
}

/* By reference in the current context: the caller frees it. */
Datum
sc_get_value(const ScStateDef *def, const char **p, const char *end)
{
	Datum		value;
	char	   *res;

	if (def->typlen == -1)
	{
		uint64		len = sc_get_uint(p, end);

		if (len > (uint64) (end - *p) || len > MaxAllocSize - VARHDRSZ)
			sc_state_corrupted();
		res = palloc(VARHDRSZ + len);
		SET_VARSIZE(res, VARHDRSZ + len);
		memcpy(VARDATA(res), *p, len);
		*p += len;
		return PointerGetDatum(res);
	}
	if (end - *p < def->typlen)
		sc_state_corrupted();
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
pg_attribute_hot int64
sc_int_arg(const ScStateDef *def, Datum arg)
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

/* ---- final functions ---- */

/* Call a function of one argument the way an aggregate does. */
Datum
sc_call_final(FmgrInfo *flinfo, PGFunction fn, Oid collation, Datum arg,
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
