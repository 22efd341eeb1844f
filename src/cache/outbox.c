/*
 * outbox.c: keys on their way from a transaction to the worker.
 *
 * A transaction appends one tuple with its keys (more only when they do not
 * fit a page) to a table without indexes, before it commits or is prepared.
 * The worker reads what its snapshot sees, never by a sequence: a key may be
 * sent twice, and is never lost.  When it has sent all that its snapshot saw,
 * a mark in shared memory says so, which is that snapshot; tuples of the
 * transactions it names count for nothing and wait until their table is cut.
 * A restart forgets the mark, and their keys are sent again.  What cannot be
 * told by a mark (not all could be sent at once, or some wait for a walk) is
 * deleted when acknowledged.
 *
 * The tables take turns, so that churn leaves no bloat, whatever old snapshots
 * there are.  Writers append to the active one.  One that is not active, whose
 * every inserter has ended and that has no live tuple left, is cut to nothing
 * as VACUUM cuts a table's end.  A writer holds RowExclusiveLock until it has
 * ended, so whoever gets AccessExclusiveLock, without waiting, knows.  Prepared
 * transactions may hold their lock for days and have a table of their own, from
 * which all is deleted.
 *
 * The queue is bounded: above queue_limit, keys give way to one entry for each
 * rule, committed before anything is cut.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/hio.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/storage.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/changed.h"
#include "base/owner.h"
#include "cache/cache.h"
#include "cache/token.h"

#define TUPLE_BYTES		7900	/* of entries in one tuple, fits a page */
#define ROTATE_BLOCKS	32		/* size at which another table's turn comes */
#define READ_BLOCKS		256		/* of a table, that can be skipped */
#define NOTES			64		/* blocks skipped from the next turn on */
#define REST_BYTES		(1024 * 1024)	/* of what is left, written at a time */

static const char *const names[SC_OUTBOX_TABLES] = {
	"cache_outbox_0", "cache_outbox_1", "cache_outbox_2", "cache_outbox_3",
	"cache_outbox_prepared"
};

/* Found once; a change of the table's definition has it looked up again. */
static Oid	relids[SC_OUTBOX_TABLES];

static void
forget_relid(Datum arg, Oid relid)
{
	for (int i = 0; i < SC_OUTBOX_TABLES; i++)
		if (!OidIsValid(relid) || relids[i] == relid)
			relids[i] = InvalidOid;
}

void
sc_outbox_init(void)
{
	sc_on_relation_changed(forget_relid);
}

Oid
sc_outbox_relid(int table)
{
	if (!OidIsValid(relids[table]))
	{
		Oid			nsp = sc_own_namespace();

		if (OidIsValid(nsp))
			relids[table] = get_relname_relid(names[table], nsp);
	}
	return relids[table];
}

bool
sc_outbox_exists(void)
{
	return OidIsValid(sc_outbox_relid(SC_OUTBOX_TABLES - 1));
}

/*
 * NULL when the extension goes, or has gone.  It may be dropped, and created
 * again, while we wait for the lock.  Every transaction with keys comes here, so
 * it is the relation cache alone that is asked whether the table is there.
 */
static Relation
open_for_change(int table)
{
	Oid			relid;

	while (OidIsValid(relid = sc_outbox_relid(table)))
	{
		Relation	rel;

		LockRelationOid(relid, RowExclusiveLock);
		rel = RelationIdGetRelation(relid);
		if (rel != NULL)
		{
			pgstat_init_relation(rel);
			return rel;
		}
		UnlockRelationOid(relid, RowExclusiveLock);
	}
	return NULL;
}

/* ---- entries ---- */

void
sc_entry_append(StringInfo buf, char kind, int64 rule, const char *key,
				uint32 keylen, const char *parts, uint32 partslen)
{
	appendStringInfoChar(buf, kind);
	appendBinaryStringInfo(buf, (char *) &rule, sizeof(rule));
	appendBinaryStringInfo(buf, (char *) &keylen, sizeof(keylen));
	appendBinaryStringInfo(buf, key, keylen);
	if (kind != SC_ENTRY_WRITE)
		return;
	appendBinaryStringInfo(buf, (char *) &partslen, sizeof(partslen));
	appendBinaryStringInfo(buf, parts, partslen);
}

static const char *
read_string(const char *p, const char *end, const char **s, uint32 *len)
{
	if (end - p < (ptrdiff_t) sizeof(*len))
		elog(ERROR, "outbox entry is damaged");
	memcpy(len, p, sizeof(*len));
	p += sizeof(*len);
	if (*len > (Size) (end - p))
		elog(ERROR, "outbox entry is damaged");
	*s = p;
	return p + *len;
}

/* Read the entry at p; returns where the next one begins. */
const char *
sc_entry_read(const char *p, const char *end, ScEntry *e)
{
	memset(e, 0, sizeof(*e));
	if (end - p < (ptrdiff_t) (1 + sizeof(e->rule)))
		elog(ERROR, "outbox entry is damaged");
	e->kind = *p++;
	memcpy(&e->rule, p, sizeof(e->rule));
	p += sizeof(e->rule);
	p = read_string(p, end, &e->key, &e->keylen);
	if (e->kind == SC_ENTRY_WRITE)
		p = read_string(p, end, &e->parts, &e->partslen);
	return p;
}

/* ---- writing ---- */

/*
 * Writers append to the page that the last one on the same CPU has appended
 * to: that is in the CPU's caches, as one of each session's own is not, and the
 * worker has fewer pages to read.  Those on other CPUs do not wait for it.  In
 * which buffer it was is noted, too.  If it is not there any more, for one
 * because the table was cut, the page is found as for any table.
 */
static void
insert_at_target(Relation rel, HeapTuple tuple)
{
	pg_atomic_uint64 *target = sc_cache_target();
	uint64		before = target ? pg_atomic_read_u64(target) : 0;
	BlockNumber block = (BlockNumber) (before >> 32);
	Buffer		buffer = (Buffer) (uint32) before;
	BulkInsertStateData state = {NULL, InvalidBuffer};
	uint64		after;

	if (buffer != InvalidBuffer &&
		ReadRecentBuffer(rel->rd_node, MAIN_FORKNUM, block, buffer))
		state.current_buf = buffer;
	heap_insert(rel, tuple, GetCurrentCommandId(true), 0, &state);
	after = (uint64) BufferGetBlockNumber(state.current_buf) << 32 |
		(uint32) state.current_buf;
	ReleaseBuffer(state.current_buf);
	if (target && after != before)
		pg_atomic_write_u64(target, after);
}

static void
insert_tuple(Relation rel, const char *p, uint32 len, bool prepare)
{
	bytea	   *data = palloc(VARHDRSZ + len);
	Datum		values[2];
	bool		nulls[2] = {false, false};
	HeapTuple	tuple;

	SET_VARSIZE(data, VARHDRSZ + len);
	memcpy(VARDATA(data), p, len);
	values[0] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[1] = PointerGetDatum(data);
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	if (prepare)
		heap_insert(rel, tuple, GetCurrentCommandId(true), 0, NULL);
	else
		insert_at_target(rel, tuple);
	heap_freetuple(tuple);
	pfree(data);
}

/* n entries, the i-th from offsets[i] on, length bytes in all */
void
sc_outbox_write(const char *entries, const uint32 *offsets, uint32 n,
				uint32 length, bool prepare)
{
	int			table = prepare ? SC_OUTBOX_RING : sc_cache_active_table();
	Relation	rel = open_for_change(table);
	uint32		start = 0;

	if (rel == NULL)
		return;
	for (uint32 i = 0; i < n; i++)
	{
		uint32		end = i + 1 < n ? offsets[i + 1] : length;

		if (i + 1 == n ||
			(i + 2 < n ? offsets[i + 2] : length) - start > TUPLE_BYTES)
		{
			insert_tuple(rel, entries + start, end - start, prepare);
			start = end;
		}
	}
	table_close(rel, NoLock);
}

/* ---- marks ---- */

/* All that the snapshot sees.  False when it is too large for a mark. */
bool
sc_acked_make(ScAcked *mark, Snapshot snapshot)
{
	FullTransactionId next = ReadNextFullTransactionId();

	if (snapshot->xcnt > SC_ACKED_MAX)
		return false;
	mark->xmin = sc_full_xid(snapshot->xmin, next);
	mark->xmax = sc_full_xid(snapshot->xmax, next);
	mark->n = (int) snapshot->xcnt;
	for (int i = 0; i < mark->n; i++)
		mark->xip[i] = sc_full_xid(snapshot->xip[i], next);
	return true;
}

/* But for this one.  False when there is no room. */
bool
sc_acked_except(ScAcked *mark, uint64 xid)
{
	if (mark->n == SC_ACKED_MAX)
		return false;
	mark->xmin = Min(mark->xmin, xid);
	mark->xip[mark->n++] = xid;
	return true;
}

bool
sc_acked_has(const ScAcked *mark, uint64 xid)
{
	if (xid < mark->xmin)
		return true;
	if (xid >= mark->xmax)
		return false;
	for (int i = 0; i < mark->n; i++)
		if (mark->xip[i] == xid)
			return false;
	return true;
}

/* ---- reading ---- */

/*
 * Pages with nothing but acknowledged tuples, as of an LSN: another tuple
 * changes that, and pages of a table that was cut are newer.  Notes of this
 * turn count once it is acknowledged.
 */
typedef struct Note
{
	int			table;
	BlockNumber block;
	XLogRecPtr	lsn;
} Note;

static XLogRecPtr finished[SC_OUTBOX_RING][READ_BLOCKS];
static Note notes[NOTES];
static int	nnotes = 0;

static BlockNumber
table_blocks(int table)
{
	Oid			relid = sc_outbox_relid(table);
	Relation	rel = OidIsValid(relid) ? try_table_open(relid, AccessShareLock) : NULL;
	BlockNumber blocks;

	if (rel == NULL)
		return 0;
	blocks = RelationGetNumberOfBlocks(rel);
	table_close(rel, AccessShareLock);
	return blocks;
}

int64
sc_outbox_size(void)
{
	int64		blocks = 0;

	for (int i = 0; i < SC_OUTBOX_TABLES; i++)
		blocks += table_blocks(i);
	return blocks * BLCKSZ;
}

static ScOutboxItem *
make_item(Relation rel, int table, uint64 xid, HeapTuple tuple)
{
	ScOutboxItem *item = palloc(sizeof(ScOutboxItem));
	TupleDesc	desc = RelationGetDescr(rel);
	bool		isnull;

	item->table = table;
	item->file = rel->rd_node.relNode;
	item->tid = tuple->t_self;
	item->xid = xid;
	item->queued_at = DatumGetTimestampTz(heap_getattr(tuple, 1, desc, &isnull));
	item->entries = DatumGetByteaPCopy(heap_getattr(tuple, 2, desc, &isnull));
	return item;
}

/* Is there nothing in the block but what was acknowledged? */
static bool
is_finished(Relation rel, int table, BlockNumber block, Note *note)
{
	Buffer		buffer = ReadBuffer(rel, block);

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	note->table = table;
	note->block = block;
	note->lsn = PageGetLSN(BufferGetPage(buffer));
	UnlockReleaseBuffer(buffer);
	/* At wal_level minimal a page may have none; ours at first are none, too. */
	return table < SC_OUTBOX_RING && block < READ_BLOCKS &&
		!XLogRecPtrIsInvalid(note->lsn) && finished[table][block] == note->lsn;
}

/* The block's tuples, of which *n are visible, that are not acknowledged. */
static List *
read_block(TableScanDesc scan, int table, const ScAcked *acked, List *items,
		   Size *bytes, int *n)
{
	FullTransactionId next = ReadNextFullTransactionId();
	HeapTuple	tuple;

	*n = 0;
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		uint64		xid = sc_full_xid(HeapTupleHeaderGetRawXmin(tuple->t_data), next);
		ScOutboxItem *item;

		(*n)++;
		if (table < SC_OUTBOX_RING && sc_acked_has(acked, xid))
			continue;
		item = make_item(scan->rs_rd, table, xid, tuple);
		*bytes += VARSIZE(item->entries);
		items = lappend(items, item);
	}
	return items;
}

static int
line_pointers(Relation rel, BlockNumber block)
{
	Buffer		buffer = ReadBuffer(rel, block);
	int			n;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	n = PageGetMaxOffsetNumber(BufferGetPage(buffer));
	UnlockReleaseBuffer(buffer);
	return n;
}

/* Read a table from *block on, up to max_bytes. */
static List *
read_table(Relation rel, int table, Snapshot snapshot, const ScAcked *acked,
		   BlockNumber *block, List *items, Size *bytes, Size max_bytes)
{
	BlockNumber blocks = RelationGetNumberOfBlocks(rel);
	TableScanDesc scan = NULL;

	for (; *block < blocks && *bytes < max_bytes; (*block)++)
	{
		Note		note;
		int			n;

		CHECK_FOR_INTERRUPTS();
		if (is_finished(rel, table, *block, &note))
			continue;
		if (scan)
			table_rescan(scan, NULL);
		else
			scan = table_beginscan_strat(rel, snapshot, 0, NULL, true, false);
		heap_setscanlimits(scan, *block, 1);
		items = read_block(scan, table, acked, items, bytes, &n);
		/* A tuple that came since has changed the LSN. */
		if (table < SC_OUTBOX_RING && *block < READ_BLOCKS && nnotes < NOTES &&
			n == line_pointers(rel, *block))
			notes[nnotes++] = note;
	}
	if (scan)
		table_endscan(scan);
	return items;
}

/*
 * The next tuples that the snapshot sees and that are not acknowledged, about
 * max_bytes of them; NIL when all tables have been read.
 */
List *
sc_outbox_read(ScOutboxPos *pos, Snapshot snapshot, const ScAcked *acked,
			   Size max_bytes)
{
	List	   *items = NIL;
	Size		bytes = 0;

	if (pos->table == 0 && pos->block == 0)
		nnotes = 0;
	for (; pos->table < SC_OUTBOX_TABLES; pos->table++, pos->block = 0)
	{
		Oid			relid = sc_outbox_relid(pos->table);
		Relation	rel = OidIsValid(relid) ? try_table_open(relid, AccessShareLock) : NULL;

		if (rel == NULL)
			continue;
		items = read_table(rel, pos->table, snapshot, acked, &pos->block, items,
						   &bytes, max_bytes);
		table_close(rel, AccessShareLock);
		if (bytes >= max_bytes)
			break;
	}
	return items;
}

/* Keep tables from being cut, and entries from being moved between them. */
void
sc_outbox_lock(void)
{
	for (int i = 0; i < SC_OUTBOX_TABLES; i++)
		if (OidIsValid(sc_outbox_relid(i)))
			LockRelationOid(sc_outbox_relid(i), AccessShareLock);
}

void
sc_outbox_unlock(void)
{
	for (int i = 0; i < SC_OUTBOX_TABLES; i++)
		if (OidIsValid(sc_outbox_relid(i)))
			UnlockRelationOid(sc_outbox_relid(i), AccessShareLock);
}

/* All that was read, and nothing was left out, is acknowledged by a mark. */
void
sc_outbox_acknowledged(void)
{
	for (int i = 0; i < nnotes; i++)
		finished[notes[i].table][notes[i].block] = notes[i].lsn;
	nnotes = 0;
}

bool
sc_outbox_at_end(const ScOutboxPos *pos)
{
	return pos->table >= SC_OUTBOX_TABLES;
}

/*
 * Is the item's tuple where it was read?  VACUUM FULL moves tuples, to another
 * file, and no other one must go in its place, be it of the same transaction.
 * One that has moved is read again.
 */
static bool
is_in_place(Relation rel, const ScOutboxItem *item)
{
	BlockNumber block = ItemPointerGetBlockNumber(&item->tid);
	OffsetNumber offset = ItemPointerGetOffsetNumber(&item->tid);
	Buffer		buffer;
	Page		page;
	bool		result = false;

	if (rel->rd_node.relNode != item->file || block >= RelationGetNumberOfBlocks(rel))
		return false;
	buffer = ReadBuffer(rel, block);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	if (offset <= PageGetMaxOffsetNumber(page))
	{
		ItemId		id = PageGetItemId(page, offset);

		result = ItemIdIsNormal(id) &&
			HeapTupleHeaderGetRawXmin((HeapTupleHeader) PageGetItem(page, id)) == (TransactionId) item->xid;
	}
	UnlockReleaseBuffer(buffer);
	return result;
}

void
sc_outbox_delete(List *items)
{
	Relation	rels[SC_OUTBOX_TABLES] = {0};
	bool		gone[SC_OUTBOX_TABLES] = {0};	/* with the extension */
	ListCell   *lc;

	foreach(lc, items)
	{
		ScOutboxItem *item = lfirst(lc);
		TM_FailureData failure;

		if (rels[item->table] == NULL && !gone[item->table])
		{
			rels[item->table] = open_for_change(item->table);
			gone[item->table] = rels[item->table] == NULL;
		}
		if (gone[item->table] || !is_in_place(rels[item->table], item))
			continue;
		(void) heap_delete(rels[item->table], &item->tid, GetCurrentCommandId(true),
						   InvalidSnapshot, false, &failure, false);
	}
	for (int i = 0; i < SC_OUTBOX_TABLES; i++)
		if (rels[i])
			table_close(rels[i], NoLock);
}

/* ---- taking turns ---- */

/*
 * The next live tuple of a scan that is not acknowledged.  Prepared
 * transactions' are deleted then.
 */
static HeapTuple
next_pending(TableScanDesc scan, int table, const ScAcked *acked)
{
	FullTransactionId next = ReadNextFullTransactionId();
	HeapTuple	tuple;

	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
		if (table == SC_OUTBOX_RING ||
			!sc_acked_has(acked, sc_full_xid(HeapTupleHeaderGetRawXmin(tuple->t_data), next)))
			break;
	return tuple;
}

static bool
has_pending(Relation rel, int table)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan_strat(rel, snapshot, 0, NULL, true, false);
	ScAcked		acked;
	bool		found;

	sc_cache_get_acked(&acked);
	found = next_pending(scan, table, &acked) != NULL;
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	return found;
}

/* Lock a table against everyone, if that takes no waiting. */
static Relation
lock_for_cut(int table)
{
	Oid			relid = sc_outbox_relid(table);

	if (!OidIsValid(relid) ||
		!ConditionalLockRelationOid(relid, AccessExclusiveLock))
		return NULL;
	return try_table_open(relid, NoLock);
}

static int
empty_table(void)
{
	for (int i = 0; i < SC_OUTBOX_RING; i++)
		if (i != sc_cache_active_table() && table_blocks(i) == 0)
			return i;
	return -1;
}

/* Let writers append elsewhere when the active table has grown to n blocks. */
static void
next_turn(BlockNumber n)
{
	int			next;

	if (table_blocks(sc_cache_active_table()) < n)
		return;
	next = empty_table();
	if (next >= 0)
		sc_cache_set_active_table(next);
}

/*
 * Cut tables that are done with, each in a transaction of its own.  When there
 * is nothing else to do, so that a crash has little sent again, no table stays.
 */
void
sc_outbox_rotate(bool idle)
{
	for (int i = 0; i < SC_OUTBOX_TABLES; i++)
	{
		Relation	rel;

		StartTransactionCommand();
		if (i != sc_cache_active_table() && table_blocks(i) > 0 &&
			(rel = lock_for_cut(i)) != NULL)
		{
			if (!has_pending(rel, i))
				RelationTruncate(rel, 0);
			table_close(rel, NoLock);
		}
		CommitTransactionCommand();
	}
	StartTransactionCommand();
	next_turn(idle ? 1 : ROTATE_BLOCKS);
	CommitTransactionCommand();
}

/* ---- bounding ---- */

/* What is left of a table's entries. */
typedef struct Rest
{
	StringInfoData entries;
	uint32	   *offsets;
	uint32		n;
	uint32		max;
	int64	   *rules;			/* those whose pattern is in entries */
	int			nrules;
	int			maxrules;
} Rest;

static void
rest_add(Rest *rest, const ScEntry *e)
{
	if (rest->n >= rest->max)
	{
		rest->max *= 2;
		rest->offsets = repalloc(rest->offsets, rest->max * sizeof(uint32));
	}
	rest->offsets[rest->n++] = rest->entries.len;
	sc_entry_append(&rest->entries, e->kind, e->rule, e->key, e->keylen,
					e->parts, e->partslen);
}

/*
 * Have the rule's pattern instead of the entry.  One that no rule stands
 * behind, deleted by hand or its rule dropped, stays: cache_delete itself minds
 * the limit.  But with no Redis set, what was deleted by hand has nowhere to go.
 */
static void
rest_collapse(Rest *rest, const ScEntry *e)
{
	ScEntry		epoch = {SC_ENTRY_EPOCH, e->rule};
	char	   *pattern;
	char	   *prefix;

	if (e->rule == 0 && sc_redis_url[0] == '\0')
		return;
	for (int i = 0; i < rest->nrules; i++)
		if (rest->rules[i] == e->rule)
			return;
	if (e->kind == SC_ENTRY_EPOCH)
		epoch = *e;
	else if (e->rule != 0 && sc_rule_pattern(e->rule, &pattern, &prefix))
	{
		epoch.key = pattern;
		epoch.keylen = strlen(pattern);
	}
	else
	{
		rest_add(rest, e);
		return;
	}
	rest_add(rest, &epoch);
	if (rest->nrules >= rest->maxrules)
	{
		rest->maxrules *= 2;
		rest->rules = repalloc(rest->rules, rest->maxrules * sizeof(int64));
	}
	rest->rules[rest->nrules++] = e->rule;
}

static void
rest_write(Rest *rest)
{
	if (rest->n > 0)
		sc_outbox_write(rest->entries.data, rest->offsets, rest->n,
						rest->entries.len, false);
	rest->n = 0;
	resetStringInfo(&rest->entries);
}

static void
collapse_entries(Relation rel, int table, Rest *rest)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan_strat(rel, snapshot, 0, NULL, true, false);
	ScAcked		acked;
	HeapTuple	tuple;

	sc_cache_get_acked(&acked);
	memset(rest, 0, sizeof(*rest));
	initStringInfo(&rest->entries);
	rest->max = rest->maxrules = 16;
	rest->offsets = palloc(rest->max * sizeof(uint32));
	rest->rules = palloc(rest->maxrules * sizeof(int64));
	while ((tuple = next_pending(scan, table, &acked)) != NULL)
	{
		bool		isnull;
		bytea	   *data = DatumGetByteaPP(heap_getattr(tuple, 2, RelationGetDescr(rel), &isnull));
		const char *p = VARDATA_ANY(data);
		const char *end = p + VARSIZE_ANY_EXHDR(data);

		CHECK_FOR_INTERRUPTS();
		while (p < end)
		{
			ScEntry		e;

			p = sc_entry_read(p, end, &e);
			rest_collapse(rest, &e);
		}
		/* What was deleted by hand may be more than memory has. */
		if (rest->entries.len > REST_BYTES)
			rest_write(rest);
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
}

/*
 * Replace the entries of one table by one entry for each rule, in the active
 * table.  They are committed first, so a crash between leaves both.  The
 * lock outlives the first transaction as a session lock.  False when somebody
 * else has a lock.
 */
static bool
collapse_table(int table)
{
	Rest		rest;
	Relation	rel;
	LockRelId	lockid;

	StartTransactionCommand();
	rel = lock_for_cut(table);
	if (rel == NULL)
	{
		CommitTransactionCommand();
		return false;
	}
	lockid = rel->rd_lockInfo.lockRelId;
	LockRelationIdForSession(&lockid, AccessExclusiveLock);
	/* From now on acknowledgements do not tell of whom the entries are. */
	sc_cache_note_move();
	PG_TRY();
	{
		collapse_entries(rel, table, &rest);
		rest_write(&rest);
		table_close(rel, NoLock);
		ForceSyncCommit();
		CommitTransactionCommand();

		StartTransactionCommand();
		rel = table_open(lockid.relId, AccessExclusiveLock);
		RelationTruncate(rel, 0);
		table_close(rel, NoLock);
		CommitTransactionCommand();
	}
	PG_FINALLY();
	{
		UnlockRelationIdForSession(&lockid, AccessExclusiveLock);
	}
	PG_END_TRY();
	return true;
}

/*
 * Make room: every table but the active one, then that one's turn is over.
 * False when somebody is reading one of them.
 */
bool
sc_outbox_collapse(void)
{
	bool		all = true;

	for (int i = 0; i < SC_OUTBOX_TABLES; i++)
		if (i != sc_cache_active_table())
		{
			BlockNumber blocks;

			StartTransactionCommand();
			blocks = table_blocks(i);
			CommitTransactionCommand();
			if (blocks > 0 && !collapse_table(i))
				all = false;
		}
	StartTransactionCommand();
	next_turn(ROTATE_BLOCKS);
	CommitTransactionCommand();
	return all;
}
