/*
 * delta.c: where changes wait to be folded.
 *
 * Writers append deltas and nobody deletes them.  A fold leaves a mark
 * instead: a row of scalecache.fold, written in the fold's transaction, that
 * names the transactions whose deltas are in the base table.  So a snapshot
 * which sees the base table of a fold sees that fold's mark too, and what is
 * pending for it are the deltas it sees of transactions that the newest mark
 * it sees does not name.  One row a fold replaces one deletion a delta, and a
 * snapshot held open for long leaves nothing that later readers must step
 * over.
 *
 * A mark also holds a block below which nothing is pending.  That takes care:
 * writers append to a block they have claimed, or to what was the last block
 * when they looked.  Claims can be taken back (see claim.c).  Without them,
 * writers append under RowExclusiveLock on the delta table, and release it
 * right after; so once all holders have let go that were there when the table
 * had n blocks, no block before the last of these n gets another delta.
 * AccessShareLock is what writers keep until the end of the transaction.
 * Blocks must not go away at the end, where others could come to be that are
 * below a mark's, so VACUUM does not truncate unless it is told to, and who
 * reads looks if it was (passed_over); after VACUUM FULL marks' blocks mean
 * nothing.
 *
 * Two delta tables take turns, so that space comes back.  With "turn" in the
 * catalog, counted modulo 4:
 *
 *	0	the first table is written, the other one is empty
 *	1	the second is written, the first is drained and waits until no snapshot
 *		can need it
 *	2, 3	the same with the tables exchanged
 *
 * A turn changes together with a mark, in one transaction.  A snapshot whose
 * newest mark is so old that a table it needs was emptied since (only a
 * standby can meet one) has to ask the source.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/heap.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/predicate.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/owner.h"
#include "rollup/rollup.h"

/* Columns of scalecache.fold. */
#define Anum_fold_id		1
#define Anum_fold_seq		2
#define Anum_fold_at		3
#define Anum_fold_mark		4
#define Natts_fold			4

/* A delta table is retired at this size, or when its marks get this old. */
#define SC_RETIRE_PAGES		1024
#define SC_RETIRE_AGE		100000000

/*
 * Ids wrap around, and to a mark of this age new transactions would soon look
 * like old ones.
 */
#define SC_USABLE_AGE		2000000000

/* Blocks at the end that writers may keep, if it is not two for each. */
#define SC_KEPT_BLOCKS		8

#define IsRetiring(turn)	((turn) % 2 == 1)

/* ---- marks ---- */

/* Is this top-level transaction one whose deltas are in the base table? */
static bool
mark_has(const ScMark *mark, TransactionId xid)
{
	if (mark == NULL || !TransactionIdIsValid(mark->xmin))
		return false;
	if (TransactionIdPrecedes(xid, mark->xmin))
		return true;
	if (!TransactionIdPrecedes(xid, mark->xmax))
		return false;
	for (int i = 0; i < mark->nxip; i++)
		if (mark->xip[i] == xid)
			return false;
	return true;
}

/*
 * What a fold in this snapshot will cover: all transactions it sees, but not
 * the current one, whose later deltas could not be told from the earlier.
 */
static ScMark *
mark_for_snapshot(Snapshot snapshot)
{
	ScMark	   *mark = palloc0(offsetof(ScMark, xip) +
							   sizeof(TransactionId) * (snapshot->xcnt + 1));
	TransactionId own = GetTopTransactionIdIfAny();
	FullTransactionId next;

	mark->xmin = snapshot->xmin;
	mark->xmax = snapshot->xmax;
	memcpy(mark->xip, snapshot->xip, sizeof(TransactionId) * snapshot->xcnt);
	mark->nxip = snapshot->xcnt;
	if (TransactionIdIsValid(own))
	{
		if (TransactionIdPrecedes(own, mark->xmin))
			mark->xmin = own;
		mark->xip[mark->nxip++] = own;
	}
	next = ReadNextFullTransactionId();
	mark->epoch = EpochFromFullTransactionId(next) -
		(mark->xmin > XidFromFullTransactionId(next) ? 1 : 0);
	SET_VARSIZE(mark, offsetof(ScMark, xip) + sizeof(TransactionId) * mark->nxip);
	return mark;
}

/* How many transactions ago was it made? */
static uint64
mark_age(const ScMark *mark)
{
	/* Without the lock: whether it is a little more does not matter. */
	uint64		next = U64FromFullTransactionId(ShmemVariableCache->nextXid);

	if (!TransactionIdIsValid(mark->xmin))
		return 0;
	return next - U64FromFullTransactionId(FullTransactionIdFromEpochAndXid(mark->epoch,
																			 mark->xmin));
}

/* NULL when the extension has been dropped. */
static Relation
open_marks(LOCKMODE mode, Relation *index)
{
	Relation	rel = sc_own_table_open("fold", mode);

	*index = rel == NULL ? NULL :
		index_open(get_relname_relid("fold_pkey", RelationGetNamespace(rel)), mode);
	return rel;
}

/* The newest row of a rollup that snapshot sees is put into slot. */
static bool
newest_mark(Relation rel, Relation index, int64 id, Snapshot snapshot,
			TupleTableSlot *slot)
{
	IndexScanDesc scan = index_beginscan(rel, index, snapshot, 1, 0);
	ScanKeyData key;
	bool		found;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	index_rescan(scan, &key, 1, NULL, 0);
	found = index_getnext_slot(scan, BackwardScanDirection, slot);
	if (found)
		ExecMaterializeSlot(slot);
	index_endscan(scan);
	return found;
}

/*
 * The newest mark that snapshot sees, in CurrentMemoryContext, or NULL when
 * nothing was ever folded.
 */
ScMark *
sc_mark_get(int64 id, Snapshot snapshot, TimestampTz *at)
{
	Relation	index;
	Relation	rel = open_marks(AccessShareLock, &index);
	TupleTableSlot *slot;
	ScMark	   *mark = NULL;

	/* Who reads the storage has it locked; nobody does any more. */
	if (rel == NULL)
		return NULL;
	slot = table_slot_create(rel, NULL);
	if (newest_mark(rel, index, id, snapshot, slot))
	{
		slot_getallattrs(slot);
		mark = (ScMark *) PG_DETOAST_DATUM_COPY(slot->tts_values[Anum_fold_mark - 1]);
		if (at)
			*at = DatumGetTimestampTz(slot->tts_values[Anum_fold_at - 1]);
	}
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return mark;
}

/* Replace the newest mark.  The caller holds the rollup's fold lock. */
void
sc_mark_put(int64 id, ScMark *mark)
{
	Relation	index;
	Relation	rel = open_marks(RowExclusiveLock, &index);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Datum		values[Natts_fold];
	bool		nulls[Natts_fold] = {0};
	HeapTuple	tuple;
	int64		seq = 1;

	if (newest_mark(rel, index, id, SnapshotSelf, slot))
	{
		slot_getallattrs(slot);
		seq = DatumGetInt64(slot->tts_values[Anum_fold_seq - 1]) + 1;
		simple_heap_delete(rel, &slot->tts_tid);
	}
	mark->seq = seq;
	values[Anum_fold_id - 1] = Int64GetDatum(id);
	values[Anum_fold_seq - 1] = Int64GetDatum(seq);
	values[Anum_fold_at - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[Anum_fold_mark - 1] = PointerGetDatum(mark);
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	simple_heap_insert(rel, tuple);
	index_insert(index, values, nulls, &tuple->t_self, rel, UNIQUE_CHECK_NO,
				 false, NULL);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/* Forget what was folded: the storage is new, or has been emptied. */
void
sc_mark_reset(int64 id, int64 turn)
{
	ScMark	   *mark = palloc0(offsetof(ScMark, xip));

	SET_VARSIZE(mark, offsetof(ScMark, xip));
	mark->turn = turn;
	sc_mark_put(id, mark);
	pfree(mark);
}

/* The rollup has gone. */
void
sc_mark_drop(int64 id)
{
	Relation	index;
	Relation	rel = open_marks(RowExclusiveLock, &index);
	TupleTableSlot *slot;

	if (rel == NULL)
		return;
	slot = table_slot_create(rel, NULL);
	while (newest_mark(rel, index, id, SnapshotSelf, slot))
	{
		simple_heap_delete(rel, &slot->tts_tid);
		CommandCounterIncrement();
	}
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	table_close(rel, NoLock);
}

/* ---- reading ---- */

/* One pass over a delta table. */
typedef struct DeltaScan
{
	ScGroups   *groups;
	Snapshot	snapshot;
	const ScAsked *asked;		/* deltas of other groups are not merged */
	const ScMark *folded;		/* deltas of these are not pending */
	const ScMark *next;			/* a fold: only deltas of these are merged */
	bool		own;			/* some that are seen may be ours, not of next */
	bool		remove;			/* a fill: delete instead of merging */
	BlockNumber left;			/* first block with a delta not in next */
	BlockNumber low[2];			/* blocks of each table that were passed over */
	int64		n;
} DeltaScan;

/* The transaction that a delta counts for. */
static TransactionId
delta_xid(HeapTuple tuple, Relation rel)
{
	TransactionId xid = HeapTupleHeaderGetRawXmin(tuple->t_data);
	TupleDesc	desc = RelationGetDescr(rel);
	bool		isnull;
	Datum		change = heap_getattr(tuple, desc->natts, desc, &isnull);
	bytea	   *plain = (bytea *) PG_DETOAST_DATUM_PACKED(change);

	if (VARSIZE_ANY_EXHDR(plain) > sizeof(TransactionId) &&
		*VARDATA_ANY(plain) == SC_PACK_TOP_XID)
		memcpy(&xid, VARDATA_ANY(plain) + 1, sizeof(TransactionId));
	if ((Pointer) plain != DatumGetPointer(change))
		pfree(plain);
	return xid;
}

/* A subtransaction's id is higher than its parent's. */
static bool
delta_is_in(const ScMark *mark, HeapTuple tuple, Relation rel)
{
	if (mark == NULL || !TransactionIdIsValid(mark->xmin))
		return false;
	if (TransactionIdPrecedes(HeapTupleHeaderGetRawXmin(tuple->t_data), mark->xmin))
		return true;
	return mark_has(mark, delta_xid(tuple, rel));
}

static void
merge_delta(DeltaScan *ds, HeapTuple tuple, Relation rel)
{
	ScSpec	   *spec = ds->groups->spec;
	Datum		values[INDEX_MAX_KEYS + 1];
	bool		nulls[INDEX_MAX_KEYS + 1];
	int64		ngroups = ds->groups->ngroups;
	ScGroup    *group;
	bytea	   *plain;

	heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
	group = sc_groups_get(ds->groups, values, nulls, true);
	if (ds->groups->ngroups > ngroups)
		group->skipped = !sc_asked_selects(ds->asked, group);
	if (group->skipped)
		return;
	plain = (bytea *) PG_DETOAST_DATUM_PACKED(values[spec->nkeys]);
	sc_group_merge(ds->groups, group, plain);
	if ((Pointer) plain != DatumGetPointer(values[spec->nkeys]))
		pfree(plain);
}

/* A delta that the snapshot does not see: whose it is, we come before. */
static void
depend_on(DeltaScan *ds, Relation rel, HeapTuple tuple, Buffer buffer)
{
	Datum		values[INDEX_MAX_KEYS + 1];
	bool		nulls[INDEX_MAX_KEYS + 1];

	heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
	if (!sc_asked_wants(ds->asked, values, nulls))
		return;
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	HeapCheckForSerializableConflictOut(false, rel, tuple, buffer, ds->snapshot);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
}

static void
scan_block(DeltaScan *ds, Relation rel, BlockNumber block)
{
	Buffer		buffer = ReadBuffer(rel, block);
	Page		page = BufferGetPage(buffer);
	OffsetNumber offsets[MaxHeapTuplesPerPage];
	bool		visible[MaxHeapTuplesPerPage];
	HeapTupleData tuple;
	int			n = 0;

	tuple.t_tableOid = RelationGetRelid(rel);
	/* Visibility needs the lock; the tuples stay as long as the pin. */
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	for (OffsetNumber off = FirstOffsetNumber;
		 off <= PageGetMaxOffsetNumber(page); off++)
	{
		ItemId		item = PageGetItemId(page, off);

		if (!ItemIdIsNormal(item))
			continue;
		tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
		tuple.t_len = ItemIdGetLength(item);
		ItemPointerSet(&tuple.t_self, block, off);
		visible[n] = HeapTupleSatisfiesVisibility(&tuple, ds->snapshot, buffer);
		offsets[n++] = off;
	}
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);

	for (int i = 0; i < n; i++)
	{
		ItemId		item = PageGetItemId(page, offsets[i]);

		tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
		tuple.t_len = ItemIdGetLength(item);
		ItemPointerSet(&tuple.t_self, block, offsets[i]);
		if (!visible[i] && IsolationIsSerializable())
			depend_on(ds, rel, &tuple, buffer);
		if (!visible[i] && ds->next == NULL)
			continue;
		if (delta_is_in(ds->folded, &tuple, rel))
			continue;
		/* What the snapshot sees is what the mark was made of. */
		if (ds->next && (ds->own || !visible[i]) &&
			!delta_is_in(ds->next, &tuple, rel))
		{
			ds->left = Min(ds->left, block);
			continue;
		}
		if (!visible[i])
			continue;
		if (ds->remove)
			simple_heap_delete(rel, &tuple.t_self);
		else
			merge_delta(ds, &tuple, rel);
		ds->n++;
	}
	ReleaseBuffer(buffer);
}

static void
scan_table(DeltaScan *ds, Relation rel, BlockNumber low)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(rel);

	sc_asked_lock(ds->asked, rel, ds->snapshot);
	for (BlockNumber block = low; block < nblocks; block++)
	{
		CHECK_FOR_INTERRUPTS();
		scan_block(ds, rel, block);
	}
}

/* Is a delta of this block, any one, of the mark?  False also if it has none. */
static bool
block_is_of(const ScMark *mark, Relation rel, BlockNumber block, bool *empty)
{
	Buffer		buffer = ReadBuffer(rel, block);
	Page		page = BufferGetPage(buffer);
	HeapTupleData tuple;
	bool		found = false;

	*empty = true;
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	for (OffsetNumber off = FirstOffsetNumber;
		 *empty && off <= PageGetMaxOffsetNumber(page); off++)
	{
		ItemId		item = PageGetItemId(page, off);

		if (!ItemIdIsNormal(item))
			continue;
		*empty = false;
		tuple.t_tableOid = RelationGetRelid(rel);
		tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
		tuple.t_len = ItemIdGetLength(item);
		ItemPointerSet(&tuple.t_self, block, off);
	}
	/* It stays as long as the pin. */
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	if (!*empty)
		found = delta_is_in(mark, &tuple, rel);
	ReleaseBuffer(buffer);
	return found;
}

/*
 * How many blocks of a table a reader passes over.
 *
 * VACUUM that was told to truncate may have taken blocks away whose deltas had
 * all been rolled back, and others have come since.  A block has deltas of the
 * mark only, if it is the one that the mark is about, and later ones only, if
 * it has come since; then those before it may have, too.
 */
static BlockNumber
passed_over(const ScMark *mark, int i, Relation rel)
{
	BlockNumber low = mark && mark->node[i] == rel->rd_node.relNode ? mark->low[i] : 0;
	bool		empty = true;

	if (low > 0 && RelationGetNumberOfBlocks(rel) < low)
		return 0;
	for (; low > 0 && empty; low--)
		if (block_is_of(mark, rel, low - 1, &empty))
			return low;
	return 0;
}

/*
 * Can the tables still answer for a snapshot whose newest mark is this?  One
 * may get too old where nobody folds.
 */
static bool
tables_are_those_of(const ScMark *mark, int64 turn)
{
	if (mark == NULL)
		return true;
	if (mark_age(mark) > SC_USABLE_AGE)
		return false;
	if (!IsRetiring(mark->turn))
		return turn < mark->turn + 2;
	return turn < mark->turn + (mark->drained ? 3 : 1);
}

/*
 * Pass over what may be pending for ds->snapshot.  False: ask the source.
 * With left, the first block of each table that has a delta not in ds->next.
 */
static bool
scan_pending(DeltaScan *ds, BlockNumber left[2])
{
	ScSpec	   *spec = ds->groups->spec;
	const ScMark *mark = ds->folded;
	int64		turn = mark ? mark->turn : spec->turn;
	Relation	rels[2] = {NULL, NULL};
	bool		wanted[2] = {mark == NULL, mark == NULL};
	bool		usable = true;

	wanted[ScWrittenDelta(turn)] = true;
	if (IsRetiring(turn) && (mark == NULL || !mark->drained))
		wanted[1 - ScWrittenDelta(turn)] = true;
	for (int i = 0; i < 2; i++)
		if (wanted[i] || IsolationIsSerializable())
			rels[i] = table_open(spec->delta[i], AccessShareLock);
	if (!spec->valid)
	{
		ScSpec	   *now = sc_spec_by_id(spec->id);

		usable = now && now->delta[0] == spec->delta[0] &&
			now->delta[1] == spec->delta[1] &&
			tables_are_those_of(mark, now->turn);
		if (now)
			sc_spec_release(now);
	}
	else
		usable = tables_are_those_of(mark, spec->turn);
	for (int i = 0; i < 2; i++)
	{
		if (rels[i] == NULL)
			continue;
		ds->left = InvalidBlockNumber;
		if (usable && wanted[i])
		{
			ds->low[i] = passed_over(mark, i, rels[i]);
			scan_table(ds, rels[i], ds->low[i]);
		}
		else
			sc_asked_lock(ds->asked, rels[i], ds->snapshot);
		if (left)
			left[i] = ds->left;
		table_close(rels[i], NoLock);
	}
	return usable;
}

/* Can its pending deltas still be told from others? */
bool
sc_delta_usable(ScSpec *spec)
{
	ScMark	   *mark = sc_mark_get(spec->id, SnapshotSelf, NULL);

	return mark == NULL || mark_age(mark) <= SC_USABLE_AGE;
}

/*
 * Merge the deltas pending for snapshot.  Groups not asked for are there, but
 * skipped.  Returns how many are pending, or -1 when the source has to be
 * asked.
 */
int64
sc_delta_load(ScGroups *groups, Snapshot snapshot, const ScAsked *asked)
{
	DeltaScan	ds = {.groups = groups, .snapshot = snapshot, .asked = asked};

	ds.folded = sc_mark_get(groups->spec->id, snapshot, NULL);
	if (!scan_pending(&ds, NULL))
		return -1;
	/* If it is stale by now, who writes may not have met our locks. */
	if (IsolationIsSerializable() && asked != &sc_asked_nothing &&
		!sc_catalog_row_matches(groups->spec, SnapshotSelf))
		return -1;
	return ds.n;
}

/* Delete the deltas pending for snapshot, because a fill has counted them. */
void
sc_delta_discard(ScSpec *spec, Snapshot snapshot)
{
	ScGroups	nowhere = {.spec = spec};
	DeltaScan	ds = {.groups = &nowhere, .snapshot = snapshot,
		.asked = &sc_asked_nothing, .remove = true};
	ScMark	   *mark = sc_mark_get(spec->id, snapshot, NULL);

	/* One that is too old to be of use goes with what it named. */
	if (mark == NULL || mark_age(mark) <= SC_USABLE_AGE)
		ds.folded = mark;
	(void) scan_pending(&ds, NULL);
	if (ds.folded != mark)
		sc_mark_reset(spec->id, spec->turn);
}

/*
 * About how many pages a reader passes over.  Those before the marks have been
 * folded: a table that readers keep from being emptied may have many.
 */
double
sc_delta_pages_to_read(ScSpec *spec)
{
	ScMark	   *mark = ActiveSnapshotSet() ? sc_mark_get(spec->id, GetActiveSnapshot(), NULL) : NULL;
	double		pages = 0;

	for (int i = 0; i < 2; i++)
	{
		Relation	delta;
		BlockNumber low = mark ? mark->low[i] : 0;

		if (mark && i != ScWrittenDelta(mark->turn) &&
			(!IsRetiring(mark->turn) || mark->drained))
			continue;
		delta = try_table_open(spec->delta[i], AccessShareLock);
		if (delta == NULL)
			continue;
		pages += RelationGetNumberOfBlocks(delta) - Min(low, RelationGetNumberOfBlocks(delta));
		table_close(delta, AccessShareLock);
	}
	if (mark)
		pfree(mark);
	return pages;
}

/* ---- folding ---- */

/* Size of the delta table that is written; 0 if it is locked exclusively. */
BlockNumber
sc_delta_pages(ScSpec *spec)
{
	Oid			relid = spec->delta[ScWrittenDelta(spec->turn)];
	BlockNumber pages = 0;
	Relation	rel;

	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return 0;
	rel = try_table_open(relid, NoLock);
	if (rel)
	{
		pages = RelationGetNumberOfBlocks(rel);
		table_close(rel, NoLock);
	}
	UnlockRelationOid(relid, AccessShareLock);
	return pages;
}

static bool
still_there(VirtualTransactionId *before, int nbefore, Relation rel)
{
	LOCKTAG		tag;
	VirtualTransactionId *now;
	int			nnow;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, RelationGetRelid(rel));
	now = GetLockConflicts(&tag, ShareLock, &nnow);
	for (int i = 0; i < nbefore; i++)
		for (int j = 0; j < nnow; j++)
			if (VirtualTransactionIdEquals(before[i], now[j]))
				return true;
	return false;
}

/* As sc_claims_revoke, where appends hold a lock instead. */
static BlockNumber
appends_in_progress(Relation rel, VirtualTransactionId *before, int nbefore)
{
	return still_there(before, nbefore, rel) ? 0 : InvalidBlockNumber;
}

/*
 * The last of n blocks that has been written to.  One that was made by a session
 * that came no further, because it could not be serialized or the server crashed,
 * is not in the WAL: a standby does not have it, nor this server, perhaps, after
 * the machine has crashed.  There deltas would be appended before it.
 */
static BlockNumber
last_written(Relation rel, BlockNumber n)
{
	bool		unwritten = true;

	while (n > 1 && unwritten)
	{
		Buffer		buffer = ReadBuffer(rel, n - 1);

		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		unwritten = PageIsEmpty(BufferGetPage(buffer));
		UnlockReleaseBuffer(buffer);
		if (unwritten)
			n--;
	}
	return n - 1;
}

/*
 * The block before which no delta is appended any more.  That is the last one
 * if close is true and nobody is appending.  Else writers keep the blocks that
 * they are filling, but for stragglers, for whoever loses a block has to find
 * or to make another.
 */
static BlockNumber
closed_block(Relation rel, bool close)
{
	Oid			relid = RelationGetRelid(rel);
	BlockNumber nblocks = RelationGetNumberOfBlocks(rel);
	BlockNumber kept = Max(2 * sc_claims_count(relid), SC_KEPT_BLOCKS);
	BlockNumber before = InvalidBlockNumber;
	BlockNumber first;
	LOCKTAG		tag;
	VirtualTransactionId *holders;
	bool		claims;
	int			n;

	if (nblocks < 2)
		return 0;
	if (!close)
		before = nblocks > kept ? nblocks - kept : 0;
	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	first = sc_claims_revoke(relid, before, &claims);
	holders = claims ? NULL : GetLockConflicts(&tag, ShareLock, &n);
	for (int tries = 0;; tries++)
	{
		if (!claims)
			first = appends_in_progress(rel, holders, n);
		if (first == InvalidBlockNumber || tries == 10 || (claims && !close))
			return Min(first, last_written(rel, nblocks));
		CHECK_FOR_INTERRUPTS();
		pg_usleep(1000L);
		if (claims)
			first = sc_claims_revoke(relid, before, &claims);
	}
}

/* The file that has a table's rows. */
static Oid
file_of(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			node = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		node = ((Form_pg_class) GETSTRUCT(tuple))->relfilenode;
		ReleaseSysCache(tuple);
	}
	return node;
}

/* Nobody but us has a lock that a writer of this table would hold. */
static bool
is_closed(Oid relid)
{
	LOCKTAG		tag;
	int			n;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	(void) GetLockConflicts(&tag, AccessExclusiveLock, &n);
	return n == 0;
}

/*
 * Merge, for a fold, the pending deltas of all transactions that are over.
 * That is done in the active snapshot; *next becomes the mark to put if the
 * fold goes through, or when it is *changed without one; NULL when a fold is
 * not possible in this snapshot.  -1 as in sc_delta_load.
 * With close, readers are to find as few blocks as possible after it.  The
 * caller holds the fold lock.
 */
int64
sc_delta_take(ScGroups *groups, bool close, ScMark **next, bool *changed)
{
	ScSpec	   *spec = groups->spec;
	int			written = ScWrittenDelta(spec->turn);
	Relation	rel = table_open(spec->delta[written], AccessShareLock);
	BlockNumber closed = closed_block(rel, close);
	bool		retired = IsRetiring(spec->turn) &&
		is_closed(spec->delta[1 - written]);
	DeltaScan	ds = {.groups = groups, .asked = &sc_asked_nothing};
	BlockNumber left[2] = {InvalidBlockNumber, InvalidBlockNumber};
	ScMark	   *newest;
	ScMark	   *mark;

	*changed = false;
	table_close(rel, NoLock);
	ds.snapshot = GetActiveSnapshot();
	ds.folded = sc_mark_get(spec->id, ds.snapshot, NULL);
	ds.next = mark = *next = mark_for_snapshot(ds.snapshot);
	ds.own = TransactionIdIsValid(GetTopTransactionIdIfAny());
	newest = sc_mark_get(spec->id, SnapshotSelf, NULL);
	/* In an old snapshot, somebody else may have folded since. */
	if (newest && (ds.folded == NULL || ds.folded->seq != newest->seq))
	{
		*next = NULL;
		return 0;
	}
	if (!scan_pending(&ds, left))
		return -1;
	mark->turn = spec->turn;
	for (int i = 0; i < 2; i++)
		mark->node[i] = file_of(spec->delta[i]);
	if (ds.folded)
	{
		mark->drained = ds.folded->drained;
		mark->drainxid = ds.folded->drainxid;
		mark->basexid = ds.folded->basexid;
		mark->since = ds.folded->since;
		for (int i = 0; i < 2; i++)
			if (mark->node[i] == ds.folded->node[i])
				mark->low[i] = ds.low[i];
		if (mark_age(ds.folded) > SC_RETIRE_AGE)
		{
			/* Nobody can be held up by that base any more, and nobody is to be misled. */
			mark->basexid = InvalidTransactionId;
			*changed = true;
		}
	}
	else
		mark->since = ReadNextTransactionId();
	mark->low[written] = Max(mark->low[written], Min(left[written], closed));
	if (close && ds.folded && mark->low[written] > ds.folded->low[written])
		*changed = true;
	if (ds.folded && mark->low[written] < ds.folded->low[written])
		*changed = true;
	if (ds.folded && mark->node[written] != ds.folded->node[written])
		*changed = true;
	if (retired && !mark->drained && left[1 - written] == InvalidBlockNumber)
	{
		mark->drained = true;
		mark->drainxid = GetCurrentTransactionId();
		*changed = true;
	}
	return ds.n;
}

/* ---- taking turns ---- */

/*
 * Have the other table written from now on, when this one has grown large or
 * old.  Changes mark, which the caller puts then.
 */
bool
sc_delta_retire(ScSpec *spec, ScMark *mark)
{
	int			written = ScWrittenDelta(mark->turn);
	Relation	rel = table_open(spec->delta[written], AccessShareLock);
	BlockNumber nblocks = RelationGetNumberOfBlocks(rel);

	table_close(rel, NoLock);
	if (IsRetiring(mark->turn) || nblocks == 0)
		return false;
	if ((nblocks < SC_RETIRE_PAGES || mark->low[written] < nblocks / 2) &&
		!TransactionIdPrecedes(mark->since + SC_RETIRE_AGE,
							   ReadNextTransactionId()))
		return false;
	/* There is time: the worker, and readers, are not to wait for who has it. */
	if (!sc_catalog_lock_row(spec->id, true))
		return false;
	mark->turn++;
	mark->since = ReadNextTransactionId();
	sc_catalog_set_turn(spec->id, mark->turn);
	return true;
}

static void
empty_table(Relation rel)
{
	Oid			toast = rel->rd_rel->reltoastrelid;
	ReindexParams params = {0};
	bool		claims;

	(void) sc_claims_revoke(RelationGetRelid(rel), InvalidBlockNumber, &claims);
	RelationSetNewRelfilenode(rel, rel->rd_rel->relpersistence);
	if (OidIsValid(toast))
	{
		Relation	toastrel = relation_open(toast, AccessExclusiveLock);

		RelationSetNewRelfilenode(toastrel, toastrel->rd_rel->relpersistence);
		table_close(toastrel, NoLock);
		reindex_relation(toast, 0, &params);
	}
}

/*
 * Empty the retired table once no snapshot can need it, unless somebody has
 * it locked.  The caller holds the fold lock.
 */
bool
sc_delta_empty(ScSpec *spec)
{
	Oid			relid = spec->delta[1 - ScWrittenDelta(spec->turn)];
	ScMark	   *mark;
	Relation	rel;

	if (!IsRetiring(spec->turn))
		return false;
	mark = sc_mark_get(spec->id, SnapshotSelf, NULL);
	if (mark == NULL || mark->turn != spec->turn || !mark->drained ||
		!sc_catalog_lock_row(spec->id, true) ||
		!ConditionalLockRelationOid(relid, AccessExclusiveLock))
		return false;
	rel = try_table_open(relid, NoLock);
	if (rel == NULL)
		return false;
	if (!TransactionIdPrecedes(mark->drainxid,
							   GetOldestNonRemovableTransactionId(rel)))
	{
		table_close(rel, NoLock);
		UnlockRelationOid(relid, AccessExclusiveLock);
		return false;
	}
	empty_table(rel);
	table_close(rel, NoLock);
	/* As the next turn finds it. */
	mark->turn++;
	mark->drained = false;
	mark->low[1 - ScWrittenDelta(spec->turn)] = 0;
	sc_catalog_set_turn(spec->id, mark->turn);
	sc_mark_put(spec->id, mark);
	return true;
}
