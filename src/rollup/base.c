/*
 * base.c: the rows of the base table, read into groups and written from them.
 *
 * Keys too wide for a btree have rows too.  A unique index holds those with
 * narrow keys; rows with wide ones have the keys' hash in the column "wide",
 * and another, mostly empty index on that.  A group can be in either,
 * whatever its keys look like here: 1.0 may be written with a thousand zeros.
 * The planner is told that the unique index holds all rows, and the scan
 * returns those that it does not.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/nbtree.h"
#include "access/skey.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "commands/defrem.h"
#include "executor/executor.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/plancat.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "rollup/rollup.h"

/* Keys above this may not fit a btree: a third of a page less overhead. */
#define SC_NARROW_BYTES		2560

static get_relation_info_hook_type prev_relation_info = NULL;

/* ---- indexes ---- */

/*
 * The commands that make the indexes of a base table, whose qualified name is
 * given.  None when a key cannot be sorted.
 */
List *
sc_base_index_commands(ScSpec *spec, const char *table)
{
	StringInfoData sql;
	List	   *commands = NIL;

	if (spec->nkeys == 0)
		return NIL;
	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE UNIQUE INDEX ON %s (", table);
	for (int i = 0; i < spec->nkeys; i++)
	{
		if (!OidIsValid(GetDefaultOpClass(spec->keys[i].type, BTREE_AM_OID)))
			return NIL;
		appendStringInfo(&sql, "%sk%d", i ? ", " : "", i + 1);
	}
	appendStringInfoString(&sql, ") NULLS NOT DISTINCT");
	if (spec->maywide)
	{
		appendStringInfoString(&sql, " WHERE wide IS NULL");
		commands = lappend(commands,
						   psprintf("CREATE INDEX ON %s (wide) WHERE wide IS NOT NULL", table));
	}
	return lcons(sql.data, commands);
}

/* The unique index on the keys, or the one of rows with wide keys. */
static Relation
open_index(Relation base, bool unique)
{
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(base))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (index->rd_index->indisunique == unique)
			return index;
		index_close(index, AccessShareLock);
	}
	return NULL;
}

/* The index of rows with wide keys, if there can be such rows. */
static Relation
open_wide_index(ScSpec *spec, Relation base)
{
	Relation	index = spec->maywide ? open_index(base, false) : NULL;

	/* The first block is about the index itself. */
	if (index && RelationGetNumberOfBlocks(index) <= 1)
	{
		index_close(index, AccessShareLock);
		return NULL;
	}
	return index;
}

/* Could the keys be too large for the unique index? */
static bool
is_wide(ScSpec *spec, ScGroup *group)
{
	Size		size = 0;

	if (!spec->maywide)
		return false;
	for (int i = 0; i < spec->nkeys; i++)
	{
		if (group->nulls[i])
			continue;
		size += spec->keys[i].typlen > 0 ? MAXALIGN(spec->keys[i].typlen) :
			MAXALIGN(VARSIZE_ANY(DatumGetPointer(group->keys[i])));
	}
	return size > SC_NARROW_BYTES;
}

/*
 * Does the entry stand for a rollup's view?  Others ask for permission, or
 * have an alias: see stored.c.
 */
bool
sc_is_base_entry(RangeTblEntry *rte)
{
	return rte->rtekind == RTE_RELATION && rte->requiredPerms == 0 && rte->alias == NULL &&
		rte->relkind == RELKIND_RELATION &&
		get_rel_namespace(rte->relid) == get_namespace_oid("scalecache_data", true);
}

static void
complete_index(PlannerInfo *root, Oid relid, bool inhparent, RelOptInfo *rel)
{
	RangeTblEntry *rte = root->simple_rte_array[rel->relid];
	ListCell   *lc;

	if (prev_relation_info)
		prev_relation_info(root, relid, inhparent, rel);
	if (!IS_SIMPLE_REL(rel) || !sc_is_base_entry(rte))
		return;
	foreach(lc, rel->indexlist)
	{
		IndexOptInfo *index = lfirst(lc);

		if (index->unique)
			index->indpred = NIL;
	}
}

void
sc_base_init(void)
{
	prev_relation_info = get_relation_info_hook;
	get_relation_info_hook = complete_index;
}

/* ---- reading ---- */

static void
merge_base_row(ScGroups *groups, ScGroup *group, TupleTableSlot *slot)
{
	Datum		packed;
	bytea	   *plain;

	slot_getallattrs(slot);
	packed = slot->tts_values[ScBaseState(groups->spec) - 1];
	plain = (bytea *) PG_DETOAST_DATUM_PACKED(packed);
	sc_group_merge(groups, group, plain);
	if ((Pointer) plain != DatumGetPointer(packed))
		pfree(plain);
	group->inbase = true;
	group->tid = slot->tts_tid;
}

/* Look up the base row of each group in the unique index on the keys. */
static void
load_base_by_index(ScGroups *groups, Relation base, Relation index,
				   Snapshot snapshot)
{
	ScSpec	   *spec = groups->spec;
	IndexScanDesc scan = index_beginscan(base, index, snapshot, spec->nkeys, 0);
	TupleTableSlot *slot = table_slot_create(base, NULL);
	RegProcedure equal[INDEX_MAX_KEYS];
	ScanKeyData keys[INDEX_MAX_KEYS];
	ScGroup    *group = NULL;

	for (int i = 0; i < spec->nkeys; i++)
		equal[i] = get_opcode(get_opfamily_member(index->rd_opfamily[i],
												  index->rd_opcintype[i],
												  index->rd_opcintype[i],
												  BTEqualStrategyNumber));
	while ((group = sc_groups_next(groups, group)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (group->loaded || group->unwanted)
			continue;
		for (int i = 0; i < spec->nkeys; i++)
			ScanKeyEntryInitialize(&keys[i],
								   group->nulls[i] ? SK_ISNULL | SK_SEARCHNULL : 0,
								   i + 1, BTEqualStrategyNumber, InvalidOid,
								   index->rd_indcollation[i],
								   group->nulls[i] ? InvalidOid : equal[i],
								   group->keys[i]);
		index_rescan(scan, keys, spec->nkeys, NULL, 0);
		if (index_getnext_slot(scan, ForwardScanDirection, slot))
			merge_base_row(groups, group, slot);
	}
	ExecDropSingleTupleTableSlot(slot);
	index_endscan(scan);
}

/* The same for those that are not found there, because of a wide key. */
static void
load_base_by_hash(ScGroups *groups, Relation base, Relation index,
				  Snapshot snapshot)
{
	ScSpec	   *spec = groups->spec;
	IndexScanDesc scan = index_beginscan(base, index, snapshot, 1, 0);
	TupleTableSlot *slot = table_slot_create(base, NULL);
	ScGroup    *group = NULL;

	while ((group = sc_groups_next(groups, group)) != NULL)
	{
		ScanKeyData key;

		CHECK_FOR_INTERRUPTS();
		if (group->loaded || group->unwanted || group->inbase)
			continue;
		ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT4EQ,
					Int32GetDatum((int32) group->hash));
		index_rescan(scan, &key, 1, NULL, 0);
		while (index_getnext_slot(scan, ForwardScanDirection, slot))
		{
			slot_getsomeattrs(slot, spec->nkeys);
			if (sc_groups_get(groups, slot->tts_values, slot->tts_isnull, false) != group)
				continue;
			merge_base_row(groups, group, slot);
			break;
		}
	}
	ExecDropSingleTupleTableSlot(slot);
	index_endscan(scan);
}

/* The same by reading all of the base table, when groups are many. */
static void
load_base_by_scan(ScGroups *groups, Relation base, Snapshot snapshot,
				  int64 want)
{
	ScSpec	   *spec = groups->spec;
	TupleTableSlot *slot = table_slot_create(base, NULL);
	TableScanDesc scan = table_beginscan_strat(base, snapshot, 0, NULL, true, false);
	int64		found = 0;

	while (found < want &&
		   table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		ScGroup    *group;

		CHECK_FOR_INTERRUPTS();
		slot_getsomeattrs(slot, Max(spec->nkeys, 1));
		group = sc_groups_get(groups, slot->tts_values, slot->tts_isnull, false);
		if (group == NULL || group->loaded || group->unwanted || group->inbase)
			continue;
		merge_base_row(groups, group, slot);
		found++;
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
}

/*
 * Merge in the base rows of the groups that are here and wanted, and have not
 * been loaded before.
 */
void
sc_groups_load_base(ScGroups *groups, Relation base, Snapshot snapshot)
{
	Relation	index;
	Relation	wide;
	ScGroup    *group = NULL;
	int64		want = 0;

	while ((group = sc_groups_next(groups, group)) != NULL)
		if (!group->loaded && !group->unwanted)
			want++;
	if (want == 0)
		return;

	/* A page of base rows is read about as fast as two groups looked up. */
	if (want < 2 * (int64) RelationGetNumberOfBlocks(base) &&
		(index = open_index(base, true)) != NULL)
	{
		load_base_by_index(groups, base, index, snapshot);
		index_close(index, AccessShareLock);
		if ((wide = open_wide_index(groups->spec, base)) != NULL)
		{
			load_base_by_hash(groups, base, wide, snapshot);
			index_close(wide, AccessShareLock);
		}
	}
	else
		load_base_by_scan(groups, base, snapshot, want);
	while ((group = sc_groups_next(groups, group)) != NULL)
		if (!group->unwanted)
			group->loaded = true;
	if (groups->spec->distinct)
	{
		ScValues   *values = sc_values_open(groups->spec, snapshot, false);

		sc_groups_resolve(groups, values);
		sc_values_close(values);
	}
}

/*
 * Add the groups with wide keys that are not here and are wanted, with their
 * values.  The groups here must have been loaded.
 */
void
sc_groups_load_wide(ScGroups *groups, Relation base, Snapshot snapshot,
					ScKeysWanted wanted, void *arg)
{
	ScSpec	   *spec = groups->spec;
	Relation	index = open_wide_index(spec, base);
	IndexScanDesc scan;
	TupleTableSlot *slot;

	if (index == NULL)
		return;
	scan = index_beginscan(base, index, snapshot, 0, 0);
	slot = table_slot_create(base, NULL);
	index_rescan(scan, NULL, 0, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		ScGroup    *group;
		MemoryContext old;

		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		if (sc_groups_get(groups, slot->tts_values, slot->tts_isnull, false) ||
			!wanted(arg, slot->tts_values, slot->tts_isnull))
			continue;
		group = sc_groups_get(groups, slot->tts_values, slot->tts_isnull, true);
		sc_group_alloc_values(groups, group);
		merge_base_row(groups, group, slot);
		group->overflow = sc_base_overflows(spec, slot);
		group->loaded = true;
		group->finished = group->known = true;
		old = MemoryContextSwitchTo(groups->cxt);
		for (int i = 0; i < spec->naggs; i++)
		{
			ScFinalDef *fin = &spec->aggs[i].fin;

			group->isnull[i] = slot->tts_isnull[spec->nkeys + i];
			if (!group->isnull[i])
				group->values[i] = datumCopy(slot->tts_values[spec->nkeys + i],
											 fin->resulttypbyval, fin->resulttyplen);
		}
		MemoryContextSwitchTo(old);
	}
	ExecDropSingleTupleTableSlot(slot);
	index_endscan(scan);
	index_close(index, AccessShareLock);
}

/*
 * Does an aggregate of this base row exceed its type?  True or NULL is stored,
 * so that most often no column has to be looked at.
 */
bool
sc_base_overflows(ScSpec *spec, TupleTableSlot *row)
{
	if (TTS_IS_BUFFERTUPLE(row) && ((HeapTupleTableSlot *) row)->tuple)
		return !heap_attisnull(((HeapTupleTableSlot *) row)->tuple,
							   ScBaseOverflow(spec), NULL);
	return !slot_attisnull(row, ScBaseOverflow(spec));
}

/* ---- writing ---- */

/* Bring the base rows of all groups to what the groups are. */
void
sc_groups_write_base(ScGroups *groups, Relation base)
{
	ScSpec	   *spec = groups->spec;
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *rri = makeNode(ResultRelInfo);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(base), &TTSOpsHeapTuple);
	Datum	   *values = palloc0(sizeof(Datum) * ScBaseNatts(spec));
	bool	   *nulls = palloc0(sizeof(bool) * ScBaseNatts(spec));
	ScGroup    *group = NULL;
	MemoryContext row = AllocSetContextCreate(CurrentMemoryContext, "scalecache base row",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = CurrentMemoryContext;
	ScValues   *distincts = sc_values_open(spec, InvalidSnapshot, true);

	InitResultRelInfo(rri, base, 0, NULL, 0);
	ExecOpenIndices(rri, false);
	while ((group = sc_groups_next(groups, group)) != NULL)
	{
		HeapTuple	tuple;
		bool		update_indexes = true;

		CHECK_FOR_INTERRUPTS();
		if (spec->distinct)
			sc_group_write_values(groups, group, distincts);
		if (group->nrows == 0 && spec->nkeys > 0)
		{
			if (group->inbase)
				simple_heap_delete(base, &group->tid);
			continue;
		}
		MemoryContextSwitchTo(row);
		memcpy(values, group->keys, sizeof(Datum) * spec->nkeys);
		memcpy(nulls, group->nulls, sizeof(bool) * spec->nkeys);
		memcpy(values + spec->nkeys, group->values, sizeof(Datum) * spec->naggs);
		memcpy(nulls + spec->nkeys, group->isnull, sizeof(bool) * spec->naggs);
		values[ScBaseRows(spec) - 1] = Int64GetDatum(group->nrows);
		values[ScBaseOverflow(spec) - 1] = BoolGetDatum(true);
		nulls[ScBaseOverflow(spec) - 1] = !group->overflow;
		values[ScBaseState(spec) - 1] = PointerGetDatum(sc_group_pack(groups, group));
		nulls[ScBaseWide(spec) - 1] = !is_wide(spec, group);
		values[ScBaseWide(spec) - 1] = Int32GetDatum((int32) group->hash);
		tuple = heap_form_tuple(RelationGetDescr(base), values, nulls);
		ExecStoreHeapTuple(tuple, slot, false);
		if (group->inbase)
			simple_table_tuple_update(base, &group->tid, slot, InvalidSnapshot,
									  &update_indexes);
		else
			simple_table_tuple_insert(base, slot);
		MemoryContextSwitchTo(old);
		if (update_indexes && rri->ri_NumIndices > 0)
			ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL);
		ExecClearTuple(slot);
		ResetPerTupleExprContext(estate);
		MemoryContextReset(row);
	}
	ExecCloseIndices(rri);
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
	MemoryContextDelete(row);
	sc_values_close(distincts);
}
