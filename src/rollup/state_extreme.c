/*
 * state_extreme.c: min, max and others with a sort operator.  See state.h.
 */
#include "postgres.h"

#include "rollup/state_private.h"

/* Distinct values kept. */
#define EXTREME_VALUES	32

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

/* Forget the entries from the given one on. */
static void
extreme_truncate(const ScStateDef *def, ExtremeState *s, int from)
{
	int			i;

	for (i = from; i < s->nentries; i++)
		sc_value_free(def, s->entries[i].value);
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
	if (s->hasfloor && sc_value_cmp(def, value, s->floor) >= 0)
		return;

	while (lo < hi)
	{
		int			mid = (lo + hi) / 2;
		int			c = sc_value_cmp(def, value, s->entries[mid].value);

		if (c == 0)
		{
			s->entries[mid].count += count;
			if (s->entries[mid].count == 0)
			{
				sc_value_free(def, s->entries[mid].value);
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
	s->entries[lo].value = sc_value_copy(def, value, cxt);
	s->entries[lo].count = count;
	s->nentries++;

	if (s->nentries > EXTREME_VALUES)
	{
		if (s->hasfloor)
			sc_value_free(def, s->floor);
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
		if (sc_value_cmp(def, value, s->floor) >= 0)
			return;
		sc_value_free(def, s->floor);
	}
	s->hasfloor = true;
	s->floor = sc_value_copy(def, value, cxt);
	for (i = s->nentries; i > 0; i--)
	{
		if (sc_value_cmp(def, s->entries[i - 1].value, s->floor) < 0)
			break;
	}
	extreme_truncate(def, s, i);
}

static void
extreme_accum(const ScStateDef *def, ScState *st, const Datum *args,
			  int sign, MemoryContext cxt)
{
	ExtremeState *s = (ExtremeState *) st;
	Datum		v = sc_value_form(def, args[0]);

	s->n += sign;
	extreme_add(def, s, v, sign, cxt);
	if (!def->typbyval && v != args[0])
		pfree(DatumGetPointer(v));
}

static bool
extreme_is_empty(ScState *st)
{
	ExtremeState *s = (ExtremeState *) st;

	return s->n == 0 && s->nentries == 0 && !s->hasfloor;
}

static void
extreme_pack(const ScStateDef *def, ScState *st, StringInfo buf)
{
	int			i;
	ExtremeState *s = (ExtremeState *) st;

	sc_put_uint(buf, ((uint64) s->nentries << 1) |
				(s->hasfloor ? 1 : 0));
	sc_put_int(buf, s->n);
	if (s->hasfloor)
		sc_put_value(def, buf, s->floor);
	for (i = 0; i < s->nentries; i++)
	{
		sc_put_int(buf, s->entries[i].count);
		sc_put_value(def, buf, s->entries[i].value);
	}
}

static void
extreme_merge(const ScStateDef *def, ScState *st, const char **data,
			  const char *end, MemoryContext cxt)
{
	ExtremeState *s = (ExtremeState *) st;
	uint64		head = sc_get_uint(data, end);
	uint64		k;

	s->n += sc_get_int(data, end);
	if ((head >> 1) > EXTREME_VALUES)
		sc_state_corrupted();
	if (head & 1)
	{
		Datum		v = sc_get_value(def, data, end);

		extreme_raise(def, s, v, cxt);
		if (!def->typbyval)
			pfree(DatumGetPointer(v));
	}
	for (k = head >> 1; k > 0; k--)
	{
		int64		count = sc_get_int(data, end);
		Datum		v = sc_get_value(def, data, end);

		extreme_add(def, s, v, count, cxt);
		if (!def->typbyval)
			pfree(DatumGetPointer(v));
	}
}

static void
extreme_negate(ScState *st)
{
	ExtremeState *s = (ExtremeState *) st;

	s->n = -s->n;
	for (int i = 0; i < s->nentries; i++)
		s->entries[i].count = -s->entries[i].count;
}

static bool
extreme_final(const ScStateDef *def, const ScFinalDef *fin, ScState *st,
			  Datum *value, bool *isnull, bool *overflow)
{
	ExtremeState *s = (ExtremeState *) st;
	int			i;

	if (s->n == 0)
		return true;
	for (i = 0; i < s->nentries; i++)
	{
		if (s->entries[i].count > 0)
		{
			*value = sc_value_copy(def, s->entries[i].value,
								   CurrentMemoryContext);
			*isnull = false;
			return true;
		}
	}
	return false;
}

const ScStateOps sc_extreme_ops = {
	.size = sizeof(ExtremeState),
	.accum = extreme_accum,
	.is_empty = extreme_is_empty,
	.pack = extreme_pack,
	.merge = extreme_merge,
	.negate = extreme_negate,
	.final = extreme_final,
};
