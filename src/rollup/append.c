/*
 * append.c: writing changes to the delta table.
 *
 * A transaction that changes one group leaves one row, and what that takes is
 * most of what a rollup costs its writers.  So a session remembers the place
 * where its last row went, and puts the next one there in the way of
 * heap_insert, without opening the table.  A place is good as long as nothing
 * about the table has changed, which the lock on the table makes known, and as
 * long as the session has claimed its block (see claim.c).  Whatever is out of
 * the ordinary takes heap_insert itself.
 *
 * Rows that are put so are no news to the server's statistics.  Nobody asks
 * for these: delta tables are not vacuumed for what was inserted.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/heapam_xlog.h"
#include "access/hio.h"
#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xloginsert.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/changed.h"
#include "rollup/rollup.h"

/* Rows appended with one WAL record, and bytes of them. */
#define SC_APPEND_ROWS		256
#define SC_APPEND_BYTES		65536

/* Rows without header that may need the TOAST table. */
#define SC_WIDE_BYTES		1900

/* ---- places ---- */

/* Where this session's last row went, in a table that is written to WAL. */
typedef struct Place
{
	Oid			relid;			/* invalid: not known */
	RelFileNode node;
	BlockNumber block;
	Buffer		buffer;			/* that the block was in */
} Place;

static Place places[16];		/* by table */

#define PlaceOf(relid)	(&places[(relid) % lengthof(places)])

static void
forget_places(Datum arg, Oid relid)
{
	if (!OidIsValid(relid))
		memset(places, 0, sizeof(places));
	else if (PlaceOf(relid)->relid == relid)
		PlaceOf(relid)->relid = InvalidOid;
}

/* A row has been inserted into rel, and its block is claimed. */
static void
note_place(Relation rel, Buffer buffer)
{
	Place	   *place = PlaceOf(RelationGetRelid(rel));

	if (!RelationIsPermanent(rel) || !RelationNeedsWAL(rel))
		return;
	place->relid = RelationGetRelid(rel);
	place->node = rel->rd_node;
	place->block = RelationGetTargetBlock(rel);
	place->buffer = buffer;
}

/*
 * Pin the buffer of a place, if the block is still there.  That does not count
 * as use, by which the buffer pool keeps pages; so now and then it is not done.
 */
static pg_attribute_hot bool
pin_place(Place *place)
{
	static uint8 n = 0;

	return ++n % 32 != 0 &&
		ReadRecentBuffer(place->node, MAIN_FORKNUM, place->block, place->buffer);
}

static pg_attribute_hot void
log_insert(Buffer buffer, HeapTuple tuple)
{
	HeapTupleHeader header = tuple->t_data;
	xl_heap_insert xlrec;
	xl_heap_header xlhdr;
	XLogRecPtr	recptr;

	xlrec.offnum = ItemPointerGetOffsetNumber(&tuple->t_self);
	xlrec.flags = 0;
	xlhdr.t_infomask2 = header->t_infomask2;
	xlhdr.t_infomask = header->t_infomask;
	xlhdr.t_hoff = header->t_hoff;
	XLogBeginInsert();
	XLogRegisterData((char *) &xlrec, SizeOfHeapInsert);
	XLogRegisterBuffer(0, buffer, REGBUF_STANDARD);
	XLogRegisterBufData(0, (char *) &xlhdr, SizeOfHeapHeader);
	XLogRegisterBufData(0, (char *) header + SizeofHeapTupleHeader,
						tuple->t_len - SizeofHeapTupleHeader);
	XLogSetRecordFlags(XLOG_INCLUDE_ORIGIN);
	recptr = XLogInsert(RM_HEAP_ID, XLOG_HEAP_INSERT);
	PageSetLSN(BufferGetPage(buffer), recptr);
}

/*
 * heap_insert for a small row and a page that has rows already, and room.
 * False: it is not such a page.
 */
static pg_attribute_hot bool
put_row(Place *place, HeapTuple tuple, TransactionId xid, CommandId cid)
{
	HeapTupleHeader header = tuple->t_data;
	OffsetNumber offset;
	Page		page;
	ItemId		item;

	Assert(!IsParallelWorker());
	if (!pin_place(place))
		return false;
	header->t_infomask |= HEAP_XMAX_INVALID;
	HeapTupleHeaderSetXmin(header, xid);
	HeapTupleHeaderSetCmin(header, cid);
	HeapTupleHeaderSetXmax(header, InvalidTransactionId);
	LockBuffer(place->buffer, BUFFER_LOCK_EXCLUSIVE);
	page = BufferGetPage(place->buffer);
	if (PageIsNew(page) || PageIsAllVisible(page) ||
		PageGetMaxOffsetNumber(page) < FirstOffsetNumber ||
		PageGetHeapFreeSpace(page) < MAXALIGN(tuple->t_len))
	{
		UnlockReleaseBuffer(place->buffer);
		return false;
	}

	/* No errors until the change is logged. */
	START_CRIT_SECTION();
	offset = PageAddItem(page, (Item) header, tuple->t_len, InvalidOffsetNumber,
						 false, true);
	if (offset == InvalidOffsetNumber)
		elog(PANIC, "failed to add tuple to page");
	ItemPointerSet(&tuple->t_self, place->block, offset);
	item = PageGetItemId(page, offset);
	((HeapTupleHeader) PageGetItem(page, item))->t_ctid = tuple->t_self;
	MarkBufferDirty(place->buffer);
	log_insert(place->buffer, tuple);
	END_CRIT_SECTION();

	UnlockReleaseBuffer(place->buffer);
	return true;
}

/* ---- the table ---- */

/*
 * Lock the delta table that is written now.  Once it is locked, whoever
 * retires it waits for this transaction, so look at the turn again after.
 * The specification is pinned, but may be an old one.  Invalid when the rollup
 * has been dropped meanwhile.
 */
static pg_attribute_hot Oid
lock_written(ScSpec *given)
{
	int64		id = given->id;

	for (;;)
	{
		ScSpec	   *spec = given;
		Oid			relid;
		bool		valid;

		if (given->valid)
			sc_spec_pin(spec);
		else if ((spec = sc_spec_by_id(id)) == NULL)
			return InvalidOid;
		relid = spec->delta[ScWrittenDelta(spec->turn)];
		LockRelationOid(relid, AccessShareLock);
		valid = spec->valid;
		sc_spec_release(spec);
		if (valid)
			return relid;
		spec = sc_spec_by_id(id);
		valid = spec != NULL && spec->delta[ScWrittenDelta(spec->turn)] == relid;
		if (spec)
			sc_spec_release(spec);
		if (valid)
			return relid;
	}
}

/*
 * Start to append to the block this session has claimed or to the last one.
 * The free space map is not asked, and what else the session remembers does
 * not count.  begun: the block has been claimed just now.
 */
static bool
begin_append(Relation rel, BlockNumber begun)
{
	BlockNumber block = RelationGetTargetBlock(rel);
	bool		claims = true;

	if ((begun == InvalidBlockNumber || begun != block) &&
		!sc_claim_begin(RelationGetRelid(rel), block, &claims))
		RelationSetTargetBlock(rel, InvalidBlockNumber);
	if (!claims)
		LockRelation(rel, RowExclusiveLock);
	return claims;
}

static void
end_append(Relation rel, bool claims)
{
	if (claims)
		sc_claim_end(RelationGetTargetBlock(rel));
	else
		UnlockRelation(rel, RowExclusiveLock);
}

/* ---- rows ---- */

/* Packed changes up to this size are made in memory that is kept. */
#define SC_KEPT_BYTES		8192

/* A group's change, good until the next call. */
static pg_attribute_hot bytea *
pack_change(ScGroups *groups, ScGroup *group, TransactionId top)
{
	static StringInfoData buf = {NULL};

	if (buf.maxlen > SC_KEPT_BYTES)
	{
		pfree(buf.data);
		buf.data = NULL;
		buf.maxlen = 0;
	}
	if (buf.data == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		initStringInfo(&buf);
		MemoryContextSwitchTo(old);
	}
	buf.len = VARHDRSZ;
	if (TransactionIdIsValid(top))
	{
		appendStringInfoCharMacro(&buf, SC_PACK_TOP_XID);
		appendBinaryStringInfo(&buf, (char *) &top, sizeof(TransactionId));
	}
	sc_group_put(groups, group, &buf);
	SET_VARSIZE(buf.data, buf.len);
	return (bytea *) buf.data;
}

/* Rows up to this size are made in memory that is kept, good until the next. */
#define SC_KEPT_ROW		512
#define SC_KEPT_DATA	(SC_KEPT_ROW - \
						 MAXALIGN(SizeofHeapTupleHeader + BITMAPLEN(INDEX_MAX_KEYS + 1)))

static HeapTupleData kept;
static union
{
	HeapTupleHeaderData header;
	int64		align;
	char		data[SC_KEPT_ROW];
}			kept_row;

/* Start one: the place of its first attribute. */
static pg_attribute_hot char *
keep_row(int natts, bool hasnull)
{
	HeapTupleHeader header = &kept_row.header;

	memset(header, 0, SizeofHeapTupleHeader);
	ItemPointerSetInvalid(&kept.t_self);
	ItemPointerSetInvalid(&header->t_ctid);
	HeapTupleHeaderSetNatts(header, natts);
	header->t_hoff = MAXALIGN(SizeofHeapTupleHeader + (hasnull ? BITMAPLEN(natts) : 0));
	memset(kept_row.data + SizeofHeapTupleHeader, 0,
		   header->t_hoff - SizeofHeapTupleHeader);
	kept.t_data = header;
	return kept_row.data + header->t_hoff;
}

/* heap_form_tuple, but a small row is kept. */
static HeapTuple
form_row(TupleDesc desc, Datum *values, bool *nulls)
{
	bool		hasnull = memchr(nulls, true, desc->natts) != NULL;
	Size		size = heap_compute_data_size(desc, values, nulls);
	char	   *data;

	if (size > SC_KEPT_DATA)
		return heap_form_tuple(desc, values, nulls);
	data = keep_row(desc->natts, hasnull);
	memset(data, 0, size);
	kept.t_len = kept_row.header.t_hoff + size;
	heap_fill_tuple(desc, values, nulls, data, size, &kept_row.header.t_infomask,
					hasnull ? kept_row.header.t_bits : NULL);
	return &kept;
}

/*
 * The same without the table's description: keys are of fixed length, what
 * comes after them is short.  NULL: it is not.
 */
static pg_attribute_hot HeapTuple
form_fixed(ScSpec *spec, ScGroup *group, bytea *change)
{
	int			nkeys = spec->nkeys;
	bool		hasnull = memchr(group->nulls, true, nkeys) != NULL;
	Size		len = VARSIZE(change) - VARHDRSZ;
	HeapTupleHeader header = &kept_row.header;
	char	   *data;
	char	   *p;

	if (!VARATT_CAN_MAKE_SHORT(change) ||
		spec->fixedsize > SC_KEPT_DATA - VARATT_SHORT_MAX)
		return NULL;
	data = p = keep_row(nkeys + 1, hasnull);
	for (int i = 0; i < nkeys; i++)
	{
		ScKey	   *key = &spec->keys[i];
		char	   *start = (char *) att_align_nominal(p, key->typalign);

		if (group->nulls[i])
			continue;
		memset(p, 0, start - p);
		if (key->typbyval)
			store_att_byval(start, group->keys[i], key->typlen);
		else
			memcpy(start, DatumGetPointer(group->keys[i]), key->typlen);
		p = start + key->typlen;
		if (hasnull)
			header->t_bits[i >> 3] |= 1 << (i & 7);
	}
	SET_VARSIZE_SHORT(p, len + VARHDRSZ_SHORT);
	memcpy(p + VARHDRSZ_SHORT, VARDATA(change), len);
	p += VARHDRSZ_SHORT + len;
	header->t_infomask = HEAP_HASVARWIDTH;
	if (hasnull)
	{
		header->t_infomask |= HEAP_HASNULL;
		header->t_bits[nkeys >> 3] |= 1 << (nkeys & 7);
	}
	kept.t_len = header->t_hoff + (p - data);
	return &kept;
}

/* A group's delta of rel.  If keep, it may be good until the next call only. */
static HeapTuple
form_delta(Relation rel, ScSpec *spec, ScGroup *group, bytea *change, bool keep)
{
	Datum		values[INDEX_MAX_KEYS + 1];
	bool		nulls[INDEX_MAX_KEYS + 1];

	memcpy(values, group->keys, sizeof(Datum) * spec->nkeys);
	memcpy(nulls, group->nulls, sizeof(bool) * spec->nkeys);
	values[spec->nkeys] = PointerGetDatum(change);
	nulls[spec->nkeys] = false;
	return keep ? form_row(RelationGetDescr(rel), values, nulls) :
		heap_form_tuple(RelationGetDescr(rel), values, nulls);
}

/* ---- appending ---- */

/*
 * A row that goes to no place that is known.  begun: the block that was claimed
 * for it, or invalid.
 */
static pg_noinline void
insert_row(Relation rel, HeapTuple tuple, CommandId cid, BlockNumber begun)
{
	BulkInsertStateData at = {NULL, InvalidBuffer};
	bool		snapshot = !ActiveSnapshotSet();
	bool		claims;

#ifndef USE_ASSERT_CHECKING
	/* Only the TOAST table needs one, whatever the assertion says. */
	snapshot = snapshot && tuple->t_len > SC_WIDE_BYTES;
#endif
	if (snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	claims = begin_append(rel, begun);
	heap_insert(rel, tuple, cid, HEAP_INSERT_SKIP_FSM, &at);
	if (claims)
		note_place(rel, at.current_buf);
	end_append(rel, claims);
	ReleaseBuffer(at.current_buf);
	if (snapshot)
		PopActiveSnapshot();
}

/* One delta, by far the most common case.  False: the table has gone. */
static pg_attribute_hot bool
append_one(Oid relid, ScGroups *groups, ScGroup *group, TransactionId top,
		   CommandId cid)
{
	ScSpec	   *spec = groups->spec;
	Place	   *place = PlaceOf(relid);
	bytea	   *change = pack_change(groups, group, top);
	HeapTuple	tuple = spec->fixedsize >= 0 ? form_fixed(spec, group, change) : NULL;
	BlockNumber begun = InvalidBlockNumber;
	Relation	rel = NULL;
	bool		claims;

	if (tuple == NULL)
	{
		rel = RelationIdGetRelation(relid);
		if (rel == NULL)
			return false;
		tuple = form_delta(rel, spec, group, change, true);
	}
	/* SERIALIZABLE looks for readers of the table, which heap_insert does. */
	if (place->relid == relid && tuple->t_data == &kept_row.header &&
		!HeapTupleHasExternal(tuple) && !IsolationIsSerializable() &&
		sc_claim_begin(relid, place->block, &claims))
	{
		begun = place->block;
		if (put_row(place, tuple, GetCurrentTransactionId(), cid))
		{
			sc_claim_end(begun);
			if (rel)
				RelationClose(rel);
			return true;
		}
	}
	if (rel == NULL && (rel = RelationIdGetRelation(relid)) == NULL)
		return false;
	insert_row(rel, tuple, cid, begun);
	sc_asked_check(spec, rel, group->keys, group->nulls);
	RelationClose(rel);
	return true;
}

/*
 * Append a batch, and free it; rows that need the TOAST table need a snapshot
 * as well.
 */
static void
append_batch(Relation rel, ScSpec *spec, TupleTableSlot **slots, int n,
			 CommandId cid)
{
	Place	   *place = PlaceOf(RelationGetRelid(rel));
	bool		snapshot = !ActiveSnapshotSet();
	bool		claims;

	/* A table with a TOAST table is written under a snapshot. */
	if (snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	claims = begin_append(rel, InvalidBlockNumber);
	table_multi_insert(rel, slots, n, cid, HEAP_INSERT_SKIP_FSM, NULL);
	/* Who asked for the block that is left would lose the one that is claimed. */
	if (place->relid == RelationGetRelid(rel) && place->block != RelationGetTargetBlock(rel))
		place->relid = InvalidOid;
	end_append(rel, claims);
	for (int i = 0; i < n; i++)
	{
		if (IsolationIsSerializable())
		{
			slot_getallattrs(slots[i]);
			sc_asked_check(spec, rel, slots[i]->tts_values, slots[i]->tts_isnull);
		}
		ExecClearTuple(slots[i]);
	}
	if (snapshot)
		PopActiveSnapshot();
}

/*
 * Any number of deltas, made in memory that is reset for each batch.  Not in
 * line, so that it is out of the way of the one.
 */
static pg_noinline int64
append_many(Relation rel, ScGroups *groups, TransactionId top, CommandId cid)
{
	static MemoryContext batch = NULL;
	TupleTableSlot *slots[SC_APPEND_ROWS];
	ScGroup    *group = NULL;
	int			nslots = 0;
	int			used = 0;
	Size		bytes = 0;
	int64		n = 0;

	if (batch == NULL)
		batch = AllocSetContextCreate(TopMemoryContext, "scalecache deltas",
									  ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(batch);
	while ((group = sc_groups_next(groups, group)) != NULL)
	{
		MemoryContext old;
		HeapTuple	tuple;

		if (sc_group_is_empty(groups, group))
			continue;
		n++;
		old = MemoryContextSwitchTo(batch);
		tuple = form_delta(rel, groups->spec, group, pack_change(groups, group, top),
						   false);
		MemoryContextSwitchTo(old);
		if (used == nslots)
			slots[nslots++] = MakeSingleTupleTableSlot(RelationGetDescr(rel),
													   &TTSOpsHeapTuple);
		/* The slot's, so that it is not copied again. */
		ExecStoreHeapTuple(tuple, slots[used++], true);
		bytes += tuple->t_len;
		if (used == SC_APPEND_ROWS || bytes > SC_APPEND_BYTES)
		{
			CHECK_FOR_INTERRUPTS();
			append_batch(rel, groups->spec, slots, used, cid);
			MemoryContextReset(batch);
			used = 0;
			bytes = 0;
		}
	}
	if (used > 0)
		append_batch(rel, groups->spec, slots, used, cid);
	for (int i = 0; i < nslots; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	return n;
}

/*
 * Append the groups as deltas of command cid.  Returns how many, or -1 when
 * the rollup has been dropped meanwhile.
 */
pg_attribute_hot int64
sc_delta_append(ScGroups *groups, CommandId cid)
{
	TransactionId xid = GetCurrentTransactionId();
	TransactionId top = GetTopTransactionId();
	Oid			relid = lock_written(groups->spec);
	ScGroup    *first = sc_groups_next(groups, NULL);
	MemoryContext old;
	Relation	rel;
	int64		n = 0;

	if (!OidIsValid(relid))
		return -1;
	if (xid == top)
		top = InvalidTransactionId;
	if (groups->ngroups == 1)
	{
		if (sc_group_is_empty(groups, first))
			return 0;
		old = MemoryContextSwitchTo(groups->cxt);
		n = append_one(relid, groups, first, top, cid) ? 1 : -1;
		MemoryContextSwitchTo(old);
		return n;
	}
	rel = RelationIdGetRelation(relid);
	if (rel == NULL)
		return -1;
	n = append_many(rel, groups, top, cid);
	RelationClose(rel);
	return n;
}

void
sc_append_init(void)
{
	sc_on_relation_changed(forget_places);
}
