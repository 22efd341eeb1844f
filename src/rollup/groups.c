/*
 * groups.c: groups in memory, where rows and packed changes are added up.
 *
 * A hash table that owns its memory context.  Groups whose keys cannot be
 * hashed share one bucket chain.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/nbtree.h"
#include "access/skey.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "rollup/rollup.h"

/* Room for the first group, most often all that a transaction changes. */
#define SC_FIRST_ROOM	256

static pg_attribute_hot ScGroups *
make_groups(ScSpec *spec, MemoryContext cxt)
{
	ScGroups   *groups = MemoryContextAllocZero(cxt, MAXALIGN(sizeof(ScGroups)) + SC_FIRST_ROOM);

	groups->chunk = (char *) groups + MAXALIGN(sizeof(ScGroups));
	groups->room = SC_FIRST_ROOM;
	groups->spec = spec;
	groups->cxt = cxt;
	groups->nbuckets = lengthof(groups->few);
	groups->buckets = groups->few;
	return groups;
}

ScGroups *
sc_groups_create(ScSpec *spec, MemoryContext parent)
{
	return make_groups(spec, AllocSetContextCreate(parent, "scalecache groups",
												   ALLOCSET_DEFAULT_SIZES));
}

/* No groups, in the memory context of these, which are gone. */
pg_attribute_hot ScGroups *
sc_groups_renew(ScGroups *groups, ScSpec *spec)
{
	MemoryContext cxt = groups->cxt;

	MemoryContextReset(cxt);
	return make_groups(spec, cxt);
}

static uint32
hash_keys(ScSpec *spec, const Datum *keys, const bool *nulls)
{
	uint32		hash = 0;

	for (int i = 0; i < spec->nkeys; i++)
	{
		ScKey	   *key = &spec->keys[i];
		uint32		h = 0;

		if (nulls[i])
			h = 0x9e3779b9;
		else if (OidIsValid(key->hash.fn_oid))
			h = DatumGetUInt32(FunctionCall1Coll(&key->hash, key->collation, keys[i]));
		else if (key->imagehash)
			h = datum_image_hash(keys[i], key->typbyval, key->typlen);
		hash = hash_combine(hash, h);
	}
	return murmurhash32(hash);
}

static bool
keys_equal(ScSpec *spec, const Datum *a, const bool *an, const Datum *b,
		   const bool *bn)
{
	for (int i = 0; i < spec->nkeys; i++)
	{
		ScKey	   *key = &spec->keys[i];

		if (an[i] != bn[i])
			return false;
		/* The same value is equal to itself. */
		if (key->typbyval && a[i] == b[i])
			continue;
		if (!an[i] &&
			!(key->imageeq ? datum_image_eq(a[i], b[i], key->typbyval, key->typlen) :
			  DatumGetBool(FunctionCall2Coll(&key->eq, key->collation, a[i], b[i]))))
			return false;
	}
	return true;
}

static void
grow(ScGroups *groups)
{
	uint32		n = groups->nbuckets * 4;
	ScGroup   **buckets = MemoryContextAllocExtended(groups->cxt, sizeof(ScGroup *) * n,
													 MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);

	for (uint32 i = 0; i < groups->nbuckets; i++)
	{
		ScGroup    *g = groups->buckets[i];

		while (g)
		{
			ScGroup    *next = g->next;

			g->next = buckets[g->hash & (n - 1)];
			buckets[g->hash & (n - 1)] = g;
			g = next;
		}
	}
	if (groups->buckets != groups->few)
		pfree(groups->buckets);
	groups->buckets = buckets;
	groups->nbuckets = n;
}

/*
 * Space for a group, zeroed, at the end of the list.  It comes from chunks
 * that hold as many groups as there are already, so that one costs little and
 * a million are close together, in the order they came.
 */
static pg_attribute_hot ScGroup *
new_group(ScGroups *groups)
{
	ScSpec	   *spec = groups->spec;
	Size		size = MAXALIGN(MAXALIGN(sizeof(ScGroup)) + spec->statesize +
								(sizeof(Datum) + sizeof(bool)) * spec->nkeys);
	ScGroup    *g;

	if (groups->room < size)
	{
		groups->room = size * Min(Max(groups->ngroups, 1), 65536 / size + 1);
		groups->chunk = MemoryContextAllocZero(groups->cxt, groups->room);
	}
	g = (ScGroup *) groups->chunk;
	groups->chunk += size;
	groups->room -= size;
	if (groups->newest)
		groups->newest->younger = g;
	else
		groups->oldest = g;
	groups->newest = g;
	groups->ngroups++;
	return g;
}

static void
add_to_bucket(ScGroups *groups, ScGroup *g)
{
	ScGroup   **bucket = &groups->buckets[g->hash & (groups->nbuckets - 1)];

	g->next = *bucket;
	*bucket = g;
}

/* Is it the only group?  So it is for a fold that merges many deltas of one. */
static pg_attribute_hot bool
is_only_group(ScGroups *groups, const Datum *keys, const bool *nulls)
{
	ScGroup    *g = groups->oldest;
	ScSpec	   *spec = groups->spec;

	if (groups->ngroups != 1)
		return false;
	for (int i = 0; i < spec->nkeys; i++)
		if (nulls[i] != g->nulls[i] ||
			(!nulls[i] && (!spec->keys[i].typbyval || keys[i] != g->keys[i])))
			return false;
	return true;
}

pg_attribute_hot ScGroup *
sc_groups_get(ScGroups *groups, const Datum *keys, const bool *nulls,
			  bool create)
{
	ScSpec	   *spec = groups->spec;
	uint32		hash;
	ScGroup    *g;
	MemoryContext old;

	if (is_only_group(groups, keys, nulls))
		return groups->oldest;
	if (groups->ngroups == 0 && !create)
		return NULL;
	if (groups->unhashed)
	{
		groups->unhashed = false;
		groups->oldest->hash = hash_keys(spec, groups->oldest->keys, groups->oldest->nulls);
		add_to_bucket(groups, groups->oldest);
	}
	/* There may never be another; wide keys' hashes are stored. */
	groups->unhashed = groups->ngroups == 0 && spec->fixedsize >= 0;
	hash = groups->unhashed ? 0 : hash_keys(spec, keys, nulls);
	for (g = groups->buckets[hash & (groups->nbuckets - 1)]; g; g = g->next)
		if (g->hash == hash && keys_equal(spec, g->keys, g->nulls, keys, nulls))
			return g;
	if (!create)
		return NULL;

	if (groups->ngroups >= groups->nbuckets)
		grow(groups);
	g = new_group(groups);
	old = MemoryContextSwitchTo(groups->cxt);
	/* The keys first: they are compared right after the hashes. */
	g->keys = (Datum *) ((char *) g + MAXALIGN(sizeof(ScGroup)));
	g->states = (char *) (g->keys + spec->nkeys);
	g->nulls = (bool *) (g->states + spec->statesize);
	g->hash = hash;
	for (int i = 0; i < spec->nkeys; i++)
	{
		g->nulls[i] = nulls[i];
		if (nulls[i])
			continue;
		if (spec->keys[i].typlen == -1)
			g->keys[i] = PointerGetDatum(PG_DETOAST_DATUM_COPY(keys[i]));
		else
			g->keys[i] = datumCopy(keys[i], spec->keys[i].typbyval,
								   spec->keys[i].typlen);
	}
	if (!groups->unhashed)
		add_to_bucket(groups, g);
	MemoryContextSwitchTo(old);
	return g;
}

/* What is most often a column is taken from the row at once. */
static inline Datum
row_value(AttrNumber column, ExprState **expr, TupleTableSlot *slot,
		  ExprContext *econtext, bool *isnull)
{
	return column > 0 ? slot_getattr(slot, column, isnull) :
		ExecEvalExpr(*expr, econtext, isnull);
}

static bool
is_true(ExprState *expr, ExprContext *econtext)
{
	bool		isnull;
	Datum		result = ExecEvalExpr(expr, econtext, &isnull);

	return !isnull && DatumGetBool(result);
}

/* The same, in a context for what the row needs; econtext has the row. */
static pg_attribute_hot void
add_row(ScGroups *groups, ScEval *eval, TupleTableSlot *slot,
		ExprContext *econtext, int sign)
{
	ScSpec	   *spec = groups->spec;
	AttrNumber *columns = eval->columns;
	Datum		keys[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];
	ScGroup    *group;

	if (eval->qual && !is_true(eval->qual, econtext))
		return;
	for (int i = 0; i < spec->nkeys; i++)
		keys[i] = row_value(*columns++, &eval->keys[i], slot, econtext, &nulls[i]);
	group = sc_groups_get(groups, keys, nulls, !groups->closed);
	if (group == NULL)
		return;
	group->nrows += sign;
	for (int i = 0; i < spec->nslots; i++, columns += 2)
	{
		ScSlot	   *ss = &spec->slots[i];
		Datum		args[2] = {0};
		bool		argnulls[2] = {0};

		if (ss->def.kind == SC_STATE_RECOMPUTE ||
			(groups->slots != NULL && !bms_is_member(i, groups->slots)))
			continue;
		if (eval->filtered && eval->filters[i] && !is_true(eval->filters[i], econtext))
			continue;
		for (int a = 0; a < ss->def.nargs; a++)
			args[a] = row_value(columns[a], columns[a] > 0 ? NULL : &eval->args[i][a],
								slot, econtext, &argnulls[a]);
		sc_state_accum(&ss->def, group->states + ss->offset, args, argnulls,
					   sign, groups->cxt);
	}
}

/* Add sign times the row in slot, if it passes the quals. */
pg_attribute_hot void
sc_groups_add_row(ScGroups *groups, ScEval *eval, TupleTableSlot *slot,
				  int sign)
{
	ExprContext *econtext = NULL;
	MemoryContext old;

	/* One row of columns needs next to nothing. */
	if (eval->plain && groups->ngroups == 0)
		old = MemoryContextSwitchTo(groups->cxt);
	else
	{
		econtext = groups->spec->econtext;
		ResetExprContext(econtext);
		econtext->ecxt_scantuple = slot;
		old = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
	}
	add_row(groups, eval, slot, econtext, sign);
	MemoryContextSwitchTo(old);
}

/* Append the packed form: the signed row count, then each state. */
pg_attribute_hot void
sc_group_put(ScGroups *groups, ScGroup *group, StringInfo buf)
{
	ScSpec	   *spec = groups->spec;

	if (group->nrows >= -100 && group->nrows <= 100)
		appendStringInfoCharMacro(buf, (char) group->nrows);
	else
	{
		appendStringInfoChar(buf, 127);
		appendBinaryStringInfo(buf, (char *) &group->nrows, sizeof(int64));
	}
	for (int i = 0; i < spec->nslots; i++)
		if (spec->slots[i].def.kind != SC_STATE_RECOMPUTE)
			sc_state_pack(&spec->slots[i].def, group->states + spec->slots[i].offset, buf);
}

bytea *
sc_group_pack(ScGroups *groups, ScGroup *group)
{
	StringInfoData buf;

	initStringInfo(&buf);
	buf.len = VARHDRSZ;
	sc_group_put(groups, group, &buf);
	SET_VARSIZE(buf.data, buf.len);
	return (bytea *) buf.data;
}

/* The row count of a packed change or state, moving *data past it. */
int64
sc_packed_rows(const char **data, const char *end)
{
	const char *p = *data;
	int64		n = 0;

	/* A delta may have its transaction's id in front: see append.c. */
	if (end - p > (int) sizeof(TransactionId) && *p == SC_PACK_TOP_XID)
		p += 1 + sizeof(TransactionId);
	if (p < end)
		n = (signed char) *p++;
	if (n == 127)
	{
		if (end - p < (int) sizeof(int64))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("rollup state is damaged"),
					 errhint("Recompute the rollup with scalecache.rebuild_rollup.")));
		memcpy(&n, p, sizeof(int64));
		p += sizeof(int64);
	}
	*data = p;
	return n;
}

void
sc_group_merge(ScGroups *groups, ScGroup *group, bytea *packed)
{
	sc_group_merge_some(groups, group, packed, NULL, NULL);
}

/* The same for some slots only, and the others' states lost in trash. */
void
sc_group_merge_some(ScGroups *groups, ScGroup *group, bytea *packed,
					Bitmapset *slots, MemoryContext trash)
{
	ScSpec	   *spec = groups->spec;
	const char *p = VARDATA_ANY(packed);
	const char *end = p + VARSIZE_ANY_EXHDR(packed);

	group->nrows += sc_packed_rows(&p, end);
	for (int i = 0; i < spec->nslots; i++)
	{
		ScStateDef *def = &spec->slots[i].def;

		if (def->kind == SC_STATE_RECOMPUTE)
			continue;
		if (trash == NULL || bms_is_member(i, slots))
			sc_state_merge(def, group->states + spec->slots[i].offset, &p, end,
						   groups->cxt);
		else
			sc_state_merge(def, MemoryContextAllocZero(trash, def->size), &p, end, trash);
	}
}

/* True when the change cancels out, and nothing has to be recomputed. */
pg_attribute_hot bool
sc_group_is_empty(ScGroups *groups, ScGroup *group)
{
	ScSpec	   *spec = groups->spec;

	if (group->nrows != 0 || spec->recompute)
		return false;
	for (int i = 0; i < spec->nslots; i++)
		if (!sc_state_is_empty(&spec->slots[i].def, group->states + spec->slots[i].offset))
			return false;
	return true;
}

void
sc_group_alloc_values(ScGroups *groups, ScGroup *group)
{
	int			n = groups->spec->naggs + 1;

	if (group->values)
		return;
	group->values = MemoryContextAllocZero(groups->cxt, sizeof(Datum) * n);
	group->isnull = MemoryContextAllocZero(groups->cxt, sizeof(bool) * n);
}

/* Compute the aggregates' values; group->known tells if all could be. */
void
sc_group_finish(ScGroups *groups, ScGroup *group)
{
	ScSpec	   *spec = groups->spec;
	MemoryContext old = MemoryContextSwitchTo(groups->cxt);

	sc_group_alloc_values(groups, group);
	group->finished = true;
	group->known = true;
	group->lost = NULL;
	group->overflow = false;
	if (group->nrows == 0 && spec->nkeys > 0)
	{
		MemoryContextSwitchTo(old);
		return;					/* there is no such group */
	}
	for (int i = 0; i < spec->naggs; i++)
	{
		ScAgg	   *agg = &spec->aggs[i];
		ScSlot	   *ss = &spec->slots[agg->slot];
		bool		overflow = false;

		group->isnull[i] = true;
		group->values[i] = (Datum) 0;
		if (ss->def.kind == SC_STATE_RECOMPUTE)
			group->known = false;
		else if (!sc_state_final(&ss->def, &agg->fin,
								 group->states + ss->offset,
								 &group->values[i], &group->isnull[i],
								 &overflow))
		{
			group->known = false;
			group->lost = bms_add_member(group->lost, agg->slot);
		}
		if (overflow)
			group->overflow = true;
	}
	MemoryContextSwitchTo(old);
}

/* Let the multisets of wanted groups, merged with their bases, be known. */
void
sc_groups_resolve(ScGroups *groups, ScValues *values)
{
	ScGroup    *group = NULL;

	while ((group = sc_groups_next(groups, group)) != NULL)
		if (!group->unwanted)
			sc_group_resolve(groups, group, values);
}

/* All groups in the order they came; start with NULL. */
pg_attribute_hot ScGroup *
sc_groups_next(ScGroups *groups, ScGroup *last)
{
	return last ? last->younger : groups->oldest;
}
