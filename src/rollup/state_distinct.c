/*
 * state_distinct.c: aggregates of distinct values, as a multiset beside the
 * state of the aggregate without DISTINCT.  See state.h.
 *
 * What must always hold: in a base row, the inner state has one input for
 * each set of equal values that some row has; a change of the number of rows
 * touches it only when that becomes positive or stops to be.
 *
 * Writers know nothing of the base, so a change is a list of values and
 * signed numbers of rows.  Small multisets are in the base row's state; the
 * values of others are rows of the rollup's table of values, under an
 * identifier that the state has.  Resolving a state looks up the values that
 * changed, in the reader's snapshot.
 *
 * Values that are equal and look different (1.0 and 1.00) are counted apart,
 * so that the aggregate is computed from a value that is still there.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "rollup/rollup.h"
#include "rollup/state_private.h"

/* A multiset up to this large stays in the base row. */
#define INLINE_VALUES	48
#define INLINE_BYTES	1000

/* Columns of the table of values. */
#define Anum_values_id		1
#define Anum_values_rows	2
#define Anum_values_hash	3
#define Anum_values_value	4
#define Natts_values		4

const char	sc_distincts_columns[] = "id bigint, rows bigint, hash integer, value bytea";
const char	sc_distincts_index[] = "id, hash";

typedef struct DistinctEntry
{
	Datum		value;
	uint32		hash;			/* by the type; set by resolving */
	int64		base;			/* rows of the base */
	int64		change;
	bool		stored;			/* tid is its row in the table of values */
	ItemPointerData tid;
} DistinctEntry;

typedef struct EntryRef
{
	DistinctEntry *entry;
	uint32		image;			/* hash of the value's bytes */
	char		status;
} EntryRef;

static bool same_image(const ScStateDef *def, Datum a, Datum b);

#define SH_PREFIX entries
#define SH_ELEMENT_TYPE EntryRef
#define SH_KEY_TYPE DistinctEntry *
#define SH_KEY entry
#define SH_HASH_KEY(tb, key) \
	datum_image_hash((key)->value, \
					 ((const ScStateDef *) (tb)->private_data)->typbyval, \
					 ((const ScStateDef *) (tb)->private_data)->typlen)
#define SH_EQUAL(tb, a, b) \
	same_image((const ScStateDef *) (tb)->private_data, (a)->value, (b)->value)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) ((a)->image)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* The inner state follows, MAXALIGNed. */
typedef struct DistinctState
{
	int64		id;				/* in the table of values, or 0 */
	int64		n;				/* distinct values */
	bool		isbase;			/* id, n and the inner state are right */
	bool		pending;		/* some entry may have a change */
	bool		mixed;			/* of several base rows: means nothing */
	entries_hash *entries;
} DistinctState;

#define INNER(s) ((ScState *) ((char *) (s) + MAXALIGN(sizeof(DistinctState))))

/* Kept open while groups are resolved or written. */
struct ScValues
{
	ScSpec	   *spec;
	Snapshot	snapshot;
	bool		write;
	Relation	rel;			/* NULL until needed */
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	int64		nextid;
	EState	   *estate;
	ResultRelInfo *rri;
	TupleTableSlot *newslot;
};

static bool
same_image(const ScStateDef *def, Datum a, Datum b)
{
	Size		len;

	if (def->typbyval)
		return a == b;
	if (def->typlen > 0)
		return memcmp(DatumGetPointer(a), DatumGetPointer(b), def->typlen) == 0;
	len = VARSIZE_ANY_EXHDR(DatumGetPointer(a));
	return len == VARSIZE_ANY_EXHDR(DatumGetPointer(b)) &&
		memcmp(VARDATA_ANY(DatumGetPointer(a)), VARDATA_ANY(DatumGetPointer(b)),
			   len) == 0;
}

Size
sc_distinct_size(const ScStateDef *def)
{
	return MAXALIGN(sizeof(DistinctState)) + def->inner->size;
}

/*
 * The entry of a value in the form of sc_value_form; NULL if there is none
 * and cxt is NULL.
 */
static DistinctEntry *
get_entry(const ScStateDef *def, DistinctState *s, Datum value,
		  MemoryContext cxt)
{
	DistinctEntry key;
	DistinctEntry *entry;
	EntryRef   *ref;
	bool		found;

	key.value = value;
	if (s->entries == NULL)
	{
		if (cxt == NULL)
			return NULL;
		s->entries = entries_create(cxt, 2, unconstify(ScStateDef *, def));
	}
	if (cxt == NULL)
	{
		ref = entries_lookup(s->entries, &key);
		return ref ? ref->entry : NULL;
	}
	ref = entries_insert(s->entries, &key, &found);
	if (found)
		return ref->entry;
	entry = MemoryContextAllocZero(cxt, sizeof(DistinctEntry));
	entry->value = sc_value_copy(def, value, cxt);
	ref->entry = entry;
	return entry;
}

static void
drop_entries(const ScStateDef *def, DistinctState *s)
{
	entries_iterator it;
	EntryRef   *ref;

	if (s->entries == NULL)
		return;
	entries_start_iterate(s->entries, &it);
	while ((ref = entries_iterate(s->entries, &it)) != NULL)
	{
		sc_value_free(def, ref->entry->value);
		pfree(ref->entry);
	}
	entries_destroy(s->entries);
	s->entries = NULL;
}

/* ---- the kind ---- */

static void
distinct_accum(const ScStateDef *def, ScState *st, const Datum *args,
			   int sign, MemoryContext cxt)
{
	DistinctState *s = (DistinctState *) st;
	Datum		v = sc_value_form(def, args[0]);

	get_entry(def, s, v, cxt)->change += sign;
	s->pending = true;
	if (!def->typbyval && v != args[0])
		pfree(DatumGetPointer(v));
}

/* How many entries have to be packed. */
static uint64
count_entries(DistinctState *s, bool base)
{
	entries_iterator it;
	EntryRef   *ref;
	uint64		n = 0;

	if (s->entries == NULL || (base && s->id != 0))
		return 0;
	entries_start_iterate(s->entries, &it);
	while ((ref = entries_iterate(s->entries, &it)) != NULL)
		if ((base ? ref->entry->base : ref->entry->change) != 0)
			n++;
	return n;
}

static bool
distinct_is_empty(ScState *st)
{
	DistinctState *s = (DistinctState *) st;

	return !s->isbase && count_entries(s, false) == 0;
}

/* A change is the values; a base the inner state, and the values if few. */
static void
distinct_pack(const ScStateDef *def, ScState *st, StringInfo buf)
{
	DistinctState *s = (DistinctState *) st;
	uint64		n = count_entries(s, s->isbase);
	entries_iterator it;
	EntryRef   *ref;

	sc_put_uint(buf, (n << 1) | (s->isbase ? 1 : 0));
	if (s->isbase)
	{
		sc_put_uint(buf, s->id);
		sc_put_uint(buf, s->n);
		sc_state_pack(def->inner, INNER(s), buf);
	}
	if (n == 0)
		return;
	entries_start_iterate(s->entries, &it);
	while ((ref = entries_iterate(s->entries, &it)) != NULL)
	{
		int64		count = s->isbase ? ref->entry->base : ref->entry->change;

		if (count == 0)
			continue;
		sc_put_int(buf, count);
		sc_put_value(def, buf, ref->entry->value);
	}
}

static void
distinct_merge(const ScStateDef *def, ScState *st, const char **data,
			   const char *end, MemoryContext cxt)
{
	DistinctState *s = (DistinctState *) st;
	uint64		head = sc_get_uint(data, end);
	bool		base = (head & 1) != 0;

	if (base)
	{
		s->mixed |= s->isbase;
		s->isbase = true;
		s->id = sc_get_uint(data, end);
		s->n = sc_get_uint(data, end);
		sc_state_merge(def->inner, INNER(s), data, end, cxt);
	}
	for (uint64 k = head >> 1; k > 0; k--)
	{
		int64		count = sc_get_int(data, end);
		Datum		v = sc_get_value(def, data, end);
		DistinctEntry *entry = get_entry(def, s, v, cxt);

		if (base)
			entry->base += count;
		else
		{
			entry->change += count;
			s->pending = true;
		}
		if (!def->typbyval)
			pfree(DatumGetPointer(v));
	}
}

static bool
distinct_final(const ScStateDef *def, const ScFinalDef *fin, ScState *st,
			   Datum *value, bool *isnull, bool *overflow)
{
	DistinctState *s = (DistinctState *) st;

	if (s->pending || s->mixed)
		return false;			/* not resolved */
	return sc_state_final(def->inner, fin, INNER(s), value, isnull, overflow);
}

const ScStateOps sc_distinct_ops = {
	.size = sizeof(DistinctState),	/* see sc_distinct_size */
	.accum = distinct_accum,
	.is_empty = distinct_is_empty,
	.pack = distinct_pack,
	.merge = distinct_merge,
	.final = distinct_final,
};

/* ---- the table of values ---- */

/*
 * The table is opened when it is needed.  A writer must be the only one, and
 * sees what it has written; others see what the snapshot does.
 */
ScValues *
sc_values_open(ScSpec *spec, Snapshot snapshot, bool write)
{
	ScValues   *values = palloc0(sizeof(ScValues));

	values->spec = spec;
	values->snapshot = write ? SnapshotSelf : snapshot;
	values->write = write;
	return values;
}

static void
values_need(ScValues *values)
{
	List	   *indexes;

	if (values->rel)
		return;
	values->rel = table_open(values->spec->distincts, values->write ?
							 RowExclusiveLock : AccessShareLock);
	indexes = RelationGetIndexList(values->rel);
	if (indexes == NIL)
		elog(ERROR, "table \"%s\" has no index",
			 RelationGetRelationName(values->rel));
	values->index = index_open(linitial_oid(indexes), AccessShareLock);
	values->scan = index_beginscan(values->rel, values->index, values->snapshot,
								   2, 0);
	values->slot = table_slot_create(values->rel, NULL);
	if (values->write)
	{
		values->estate = CreateExecutorState();
		values->rri = makeNode(ResultRelInfo);
		InitResultRelInfo(values->rri, values->rel, 0, NULL, 0);
		ExecOpenIndices(values->rri, false);
		values->newslot = MakeSingleTupleTableSlot(RelationGetDescr(values->rel),
												   &TTSOpsHeapTuple);
	}
}

void
sc_values_close(ScValues *values)
{
	if (values->rel)
	{
		index_endscan(values->scan);
		index_close(values->index, AccessShareLock);
		ExecDropSingleTupleTableSlot(values->slot);
		if (values->write)
		{
			ExecCloseIndices(values->rri);
			ExecDropSingleTupleTableSlot(values->newslot);
			FreeExecutorState(values->estate);
		}
		table_close(values->rel, NoLock);
	}
	pfree(values);
}

/* Position the scan on the rows of an identifier, or of a hash within it. */
static void
values_search(ScValues *values, int64 id, const uint32 *hash)
{
	ScanKeyData keys[2];

	values_need(values);
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(id));
	if (hash)
		ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT4EQ,
					Int32GetDatum((int32) *hash));
	else
		ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT4GE,
					Int32GetDatum(PG_INT32_MIN));
	index_rescan(values->scan, keys, 2, NULL, 0);
}

/* One above all that are in use. */
static int64
new_id(ScValues *values)
{
	values_need(values);
	if (values->nextid == 0)
	{
		IndexScanDesc scan = index_beginscan(values->rel, values->index,
											 values->snapshot, 0, 0);

		index_rescan(scan, NULL, 0, NULL, 0);
		values->nextid = 1;
		if (index_getnext_slot(scan, BackwardScanDirection, values->slot))
		{
			bool		isnull;

			values->nextid += DatumGetInt64(slot_getattr(values->slot,
														 Anum_values_id, &isnull));
		}
		index_endscan(scan);
	}
	return values->nextid++;
}

static void
store_entry(const ScStateDef *def, int64 id, DistinctEntry *entry,
			ScValues *values)
{
	Datum		row[Natts_values];
	bool		nulls[Natts_values] = {0};
	StringInfoData buf;
	HeapTuple	tuple;
	bool		update_indexes = true;

	initStringInfo(&buf);
	appendStringInfoSpaces(&buf, VARHDRSZ);
	sc_put_value(def, &buf, entry->value);
	SET_VARSIZE(buf.data, buf.len);
	row[Anum_values_id - 1] = Int64GetDatum(id);
	row[Anum_values_rows - 1] = Int64GetDatum(entry->base);
	row[Anum_values_hash - 1] = Int32GetDatum((int32) entry->hash);
	row[Anum_values_value - 1] = PointerGetDatum(buf.data);
	tuple = heap_form_tuple(RelationGetDescr(values->rel), row, nulls);
	ExecStoreHeapTuple(tuple, values->newslot, false);
	if (entry->stored)
		simple_table_tuple_update(values->rel, &entry->tid, values->newslot,
								  InvalidSnapshot, &update_indexes);
	else
		simple_table_tuple_insert(values->rel, values->newslot);
	entry->stored = true;
	entry->tid = values->newslot->tts_tid;
	if (update_indexes)
		ExecInsertIndexTuples(values->rri, values->newslot, values->estate,
							  false, false, NULL, NIL);
	ExecClearTuple(values->newslot);
	ResetPerTupleExprContext(values->estate);
	heap_freetuple(tuple);
	pfree(buf.data);
}

/* ---- resolving ---- */

static uint32
value_hash(const ScStateDef *def, Datum value)
{
	if (def->hash)
		return DatumGetUInt32(FunctionCall1Coll(def->hash, def->collation, value));
	return datum_image_hash(value, def->typbyval, def->typlen);
}

static int
compare_hashes(const void *a, const void *b)
{
	uint32		x = (*(DistinctEntry *const *) a)->hash;
	uint32		y = (*(DistinctEntry *const *) b)->hash;

	return x < y ? -1 : x > y ? 1 : 0;
}

/* Which of equal values the aggregate is computed from. */
static bool
comes_first(const ScStateDef *def, Datum a, Datum b)
{
	Size		la,
				lb;

	if (def->typbyval)
		return a < b;
	if (def->typlen > 0)
		return memcmp(DatumGetPointer(a), DatumGetPointer(b), def->typlen) < 0;
	la = VARSIZE_ANY_EXHDR(DatumGetPointer(a));
	lb = VARSIZE_ANY_EXHDR(DatumGetPointer(b));
	if (la != lb)
		return la < lb;
	return memcmp(VARDATA_ANY(DatumGetPointer(a)),
				  VARDATA_ANY(DatumGetPointer(b)), la) < 0;
}

/* Let the inner state follow the change of some equal values. */
static void
resolve_class(const ScStateDef *def, DistinctState *s, DistinctEntry **class,
			  int n, MemoryContext cxt)
{
	DistinctEntry *before = NULL;
	DistinctEntry *after = NULL;
	int64		total = 0;
	const bool	notnull = false;

	for (int i = 0; i < n; i++)
	{
		DistinctEntry *e = class[i];

		total += e->base + e->change;
		if (e->base > 0 &&
			(before == NULL || comes_first(def, e->value, before->value)))
			before = e;
	}
	if (total < 0)
		sc_state_corrupted();
	for (int i = 0; i < n; i++)
	{
		DistinctEntry *e = class[i];

		/* A value may have been taken out that looked different: 1.00 for 1.0 */
		for (int j = 0; j < n && e->base + e->change < 0; j++)
		{
			int64		give = Min(class[j]->base + class[j]->change,
								   -(e->base + e->change));

			if (give > 0)
			{
				class[j]->change -= give;
				e->change += give;
			}
		}
	}
	for (int i = 0; i < n; i++)
	{
		DistinctEntry *e = class[i];

		if (e->base + e->change > 0 &&
			(after == NULL || comes_first(def, e->value, after->value)))
			after = e;
	}
	if (before == after)
		return;
	if (before)
	{
		sc_state_accum(def->inner, INNER(s), &before->value, &notnull, -1, cxt);
		s->n--;
	}
	if (after)
	{
		sc_state_accum(def->inner, INNER(s), &after->value, &notnull, 1, cxt);
		s->n++;
	}
}

/* The rows of the table of values, with one hash or all, become entries. */
static void
fetch_entries(const ScStateDef *def, DistinctState *s, const uint32 *hash,
			  ScValues *values, MemoryContext cxt, List **added)
{
	values_search(values, s->id, hash);
	while (index_getnext_slot(values->scan, ForwardScanDirection, values->slot))
	{
		bool		isnull;
		Datum		packed = slot_getattr(values->slot, Anum_values_value, &isnull);
		bytea	   *plain = (bytea *) PG_DETOAST_DATUM_PACKED(packed);
		const char *p = VARDATA_ANY(plain);
		const char *end = p + VARSIZE_ANY_EXHDR(plain);
		Datum		v = sc_get_value(def, &p, end);
		DistinctEntry *e = get_entry(def, s, v, NULL);

		CHECK_FOR_INTERRUPTS();
		if (e == NULL)
		{
			e = get_entry(def, s, v, cxt);
			e->hash = (uint32) DatumGetInt32(slot_getattr(values->slot,
														  Anum_values_hash,
														  &isnull));
			if (added)
				*added = lappend(*added, e);
		}
		e->base = DatumGetInt64(slot_getattr(values->slot, Anum_values_rows, &isnull));
		e->stored = true;
		e->tid = values->slot->tts_tid;
		if (!def->typbyval)
			pfree(DatumGetPointer(v));
		if ((Pointer) plain != DatumGetPointer(packed))
			pfree(plain);
	}
}

/* All entries with one hash: find those equal to each other. */
static void
resolve_hash(const ScStateDef *def, DistinctState *s, DistinctEntry **run,
			 int n, ScValues *values, MemoryContext cxt)
{
	List	   *added = NIL;
	DistinctEntry **all;
	DistinctEntry **class;
	ListCell   *lc;

	if (s->id != 0)
		fetch_entries(def, s, &run[0]->hash, values, cxt, &added);
	if (n == 1 && added == NIL)
	{
		resolve_class(def, s, run, 1, cxt);
		return;
	}
	all = palloc(sizeof(DistinctEntry *) * (n + list_length(added)));
	class = palloc(sizeof(DistinctEntry *) * (n + list_length(added)));
	memcpy(all, run, sizeof(DistinctEntry *) * n);
	foreach(lc, added)
		all[n++] = lfirst(lc);
	list_free(added);
	while (n > 0)
	{
		int			nclass = 0;
		int			rest = 0;
		Datum		first = all[0]->value;

		for (int i = 0; i < n; i++)
		{
			if (i == 0 ||
				DatumGetBool(FunctionCall2Coll(def->eq, def->collation, first,
											   all[i]->value)))
				class[nclass++] = all[i];
			else
				all[rest++] = all[i];
		}
		resolve_class(def, s, class, nclass, cxt);
		n = rest;
	}
	pfree(all);
	pfree(class);
}

/* Make the state what it is with its changes. */
static void
distinct_resolve(const ScStateDef *def, DistinctState *s, ScValues *values,
				 MemoryContext cxt)
{
	DistinctEntry **changed;
	entries_iterator it;
	EntryRef   *ref;
	int			n = 0;

	s->isbase = true;
	if (!s->pending)
		return;
	changed = MemoryContextAllocHuge(CurrentMemoryContext,
									 sizeof(DistinctEntry *) * s->entries->members);
	entries_start_iterate(s->entries, &it);
	while ((ref = entries_iterate(s->entries, &it)) != NULL)
	{
		/*
		 * Also those whose changes cancel out: an equal one may change, and
		 * what is known already is not found in the table of values again.
		 */
		ref->entry->hash = value_hash(def, ref->entry->value);
		changed[n++] = ref->entry;
	}
	qsort(changed, n, sizeof(DistinctEntry *), compare_hashes);
	for (int i = 0, next; i < n; i = next)
	{
		bool		some = changed[i]->change != 0;

		CHECK_FOR_INTERRUPTS();
		for (next = i + 1; next < n && changed[next]->hash == changed[i]->hash; next++)
			some |= changed[next]->change != 0;
		if (some)
			resolve_hash(def, s, &changed[i], next - i, values, cxt);
	}
	pfree(changed);
	s->pending = false;
}

void
sc_state_settle(const ScStateDef *def, ScState *st, MemoryContext cxt)
{
	if (def->kind == SC_STATE_DISTINCT)
		distinct_resolve(def, (DistinctState *) st, NULL, cxt);
}

/* Resolve all states of a group that was merged with its base row. */
void
sc_group_resolve(ScGroups *groups, ScGroup *group, ScValues *values)
{
	ScSpec	   *spec = groups->spec;

	for (int i = 0; i < spec->nslots; i++)
		if (spec->slots[i].def.kind == SC_STATE_DISTINCT)
			distinct_resolve(&spec->slots[i].def,
							 (DistinctState *) (group->states + spec->slots[i].offset),
							 values, groups->cxt);
}

/* ---- proving ---- */

/* Does s, resolved or not, have the values that were counted in truth? */
static bool
same_multiset(const ScStateDef *def, DistinctState *s, DistinctState *truth,
			  ScValues *values, MemoryContext cxt)
{
	entries_iterator it;
	EntryRef   *ref;
	uint64		n = 0;

	if (s->id != 0)
		fetch_entries(def, s, NULL, values, cxt, NULL);
	if (s->entries)
	{
		entries_start_iterate(s->entries, &it);
		while ((ref = entries_iterate(s->entries, &it)) != NULL)
		{
			DistinctEntry *e = ref->entry;
			DistinctEntry *t;

			CHECK_FOR_INTERRUPTS();
			if (e->base + e->change == 0)
				continue;
			t = get_entry(def, truth, e->value, NULL);
			if (t == NULL || t->change != e->base + e->change)
				return false;
			n++;
		}
	}
	return n == count_entries(truth, false);
}

/*
 * Are the multisets of a group, merged with its base row, those of truth,
 * to which all rows of the source have been added?
 */
bool
sc_group_same_values(ScGroups *groups, ScGroup *group, ScGroup *truth,
					 ScValues *values)
{
	ScSpec	   *spec = groups->spec;

	for (int i = 0; i < spec->nslots; i++)
		if (spec->slots[i].def.kind == SC_STATE_DISTINCT &&
			!same_multiset(&spec->slots[i].def,
						   (DistinctState *) (group->states + spec->slots[i].offset),
						   (DistinctState *) (truth->states + spec->slots[i].offset),
						   values, groups->cxt))
			return false;
	return true;
}

/* ---- writing ---- */

static bool
is_large(const ScStateDef *def, DistinctState *s)
{
	Size		bytes = 0;
	entries_iterator it;
	EntryRef   *ref;

	if (s->n > INLINE_VALUES)
		return true;
	if (s->entries == NULL || s->n == 0)
		return false;
	entries_start_iterate(s->entries, &it);
	while ((ref = entries_iterate(s->entries, &it)) != NULL)
		if (ref->entry->base != 0)
			bytes += def->typlen > 0 ? def->typlen :
				VARSIZE_ANY_EXHDR(DatumGetPointer(ref->entry->value));
	return bytes > INLINE_BYTES;
}

/* Bring the table of values to what the state is. */
static void
distinct_write(const ScStateDef *def, DistinctState *s, ScValues *values)
{
	entries_iterator it;
	EntryRef   *ref;
	bool		spill;

	if (s->entries == NULL)
		return;
	entries_start_iterate(s->entries, &it);
	while ((ref = entries_iterate(s->entries, &it)) != NULL)
	{
		DistinctEntry *e = ref->entry;

		e->base += e->change;
		if (s->id == 0)
			e->change = 0;		/* not stored, so nothing to write */
	}
	spill = s->id == 0 && is_large(def, s);
	if (s->id == 0 && !spill)
		return;
	if (spill)
		s->id = new_id(values);
	values_need(values);
	entries_start_iterate(s->entries, &it);
	while ((ref = entries_iterate(s->entries, &it)) != NULL)
	{
		DistinctEntry *e = ref->entry;

		CHECK_FOR_INTERRUPTS();
		if (spill ? e->base == 0 : e->change == 0)
			continue;
		if (spill)
			e->hash = value_hash(def, e->value);
		e->change = 0;
		if (e->base != 0)
			store_entry(def, s->id, e, values);
		else if (e->stored)
		{
			simple_heap_delete(values->rel, &e->tid);
			e->stored = false;
		}
	}
	if (s->n == 0)
		s->id = 0;
}

static void
remove_values(int64 id, ScValues *values)
{
	values_search(values, id, NULL);
	while (index_getnext_slot(values->scan, ForwardScanDirection, values->slot))
		simple_heap_delete(values->rel, &values->slot->tts_tid);
}

/* Write what a group has in the table of values, before it is packed. */
void
sc_group_write_values(ScGroups *groups, ScGroup *group, ScValues *values)
{
	ScSpec	   *spec = groups->spec;
	bool		gone = group->nrows == 0 && spec->nkeys > 0;

	for (int i = 0; i < spec->nslots; i++)
	{
		DistinctState *s = (DistinctState *) (group->states + spec->slots[i].offset);

		if (spec->slots[i].def.kind != SC_STATE_DISTINCT)
			continue;
		if (!gone)
			distinct_write(&spec->slots[i].def, s, values);
		else if (s->id != 0)
			remove_values(s->id, values);
	}
}

/*
 * Write the values of all groups that have many, and forget them here.  Only
 * for a fill: the groups are not merged with base rows.
 */
void
sc_groups_spill(ScGroups *groups, ScValues *values)
{
	ScSpec	   *spec = groups->spec;
	ScGroup    *group = NULL;

	while ((group = sc_groups_next(groups, group)) != NULL)
	{
		for (int i = 0; i < spec->nslots; i++)
		{
			ScStateDef *def = &spec->slots[i].def;
			DistinctState *s = (DistinctState *) (group->states + spec->slots[i].offset);

			if (def->kind != SC_STATE_DISTINCT || s->entries == NULL ||
				s->entries->members <= INLINE_VALUES)
				continue;
			distinct_resolve(def, s, values, groups->cxt);
			distinct_write(def, s, values);
			if (s->id != 0)
				drop_entries(def, s);
		}
	}
	/* What was written can be updated by a later command only. */
	CommandCounterIncrement();
}
