/*
 * shared.c: what a database's worker and its sessions share about delivery,
 * and the views of it.
 *
 * A turn of the worker that began after a commit sees that commit's entries.
 * So whoever waits remembers the number of the latest turn begun and waits
 * for a later one that left nothing undelivered.
 *
 * One lock guards everything but the atomics.  It is held for copying only.
 */
#include "postgres.h"

#ifdef __linux__
#include <sched.h>
#endif

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "cache/cache.h"
#include "cache/memory.h"
#include "worker/launcher.h"

#define MAX_DATABASES	64
#define COMMITS			1024	/* whose times are kept, for the statistics */
#define STEP_MS			50		/* between looks at cancel and the clock */
#define TARGETS			64		/* CPUs whose writers have a page of their own */

typedef struct CacheDb
{
	Oid			dboid;			/* InvalidOid: free */
	pg_atomic_uint32 active;	/* outbox table that writers append to */
	pg_atomic_uint64 begun;		/* latest turn */
	pg_atomic_uint64 drained;	/* latest turn that left nothing */
	pg_atomic_uint64 moves;		/* entries were moved to other transactions */
	ConditionVariable changed;	/* drained or acked has */
	ScDelivered delivered;		/* under the lock */
	ScAcked		acked;			/* under the lock */
	pg_atomic_uint32 session_failures;	/* in a row */
	pg_atomic_uint64 session_retry_at;
	pg_atomic_uint64 targets[TARGETS];	/* pages that writers append to */
	ScRedisStatus status;
} CacheDb;

/* When a transaction with keys was done committing, by its id. */
typedef struct CommitTime
{
	pg_atomic_uint32 xid;
	pg_atomic_uint64 at;		/* 0: not yet */
} CommitTime;

typedef struct Shared
{
	LWLock	   *lock;
	char		boot[20];		/* of this start of the server */
	pg_atomic_uint32 async;		/* commits under way that may be lost */
	pg_atomic_uint64 async_lsn; /* where the last of them ends */
	CommitTime	commits[COMMITS];
	CacheDb		db[MAX_DATABASES];
} Shared;

static Shared *shared = NULL;
static CacheDb *mine = NULL;	/* of MyDatabaseId */
static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;
static ProcessUtility_hook_type prev_ProcessUtility_hook = NULL;

PG_FUNCTION_INFO_V1(scalecache_wait_for_cache);
PG_FUNCTION_INFO_V1(scalecache_redis_status);
PG_FUNCTION_INFO_V1(scalecache_cache_queue);

/* ---- memory ---- */

static void
request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(MAXALIGN(sizeof(Shared)));
	RequestNamedLWLockTranche("scalecache delivery", 1);
	sc_memory_request();
}

static void
startup(void)
{
	bool		found;
	uint64		boot;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("scalecache delivery", sizeof(Shared), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(Shared));
		if (!pg_strong_random(&boot, sizeof(boot)))
			boot = (uint64) GetCurrentTimestamp();
		snprintf(shared->boot, sizeof(shared->boot), UINT64_FORMAT, boot);
		pg_atomic_init_u32(&shared->async, 0);
		pg_atomic_init_u64(&shared->async_lsn, 0);
		for (int i = 0; i < COMMITS; i++)
		{
			pg_atomic_init_u32(&shared->commits[i].xid, InvalidTransactionId);
			pg_atomic_init_u64(&shared->commits[i].at, 0);
		}
		shared->lock = &(GetNamedLWLockTranche("scalecache delivery"))->lock;
		for (int i = 0; i < MAX_DATABASES; i++)
		{
			pg_atomic_init_u32(&shared->db[i].active, 0);
			pg_atomic_init_u64(&shared->db[i].begun, 0);
			pg_atomic_init_u64(&shared->db[i].drained, 0);
			pg_atomic_init_u64(&shared->db[i].moves, 0);
			pg_atomic_init_u32(&shared->db[i].session_failures, 0);
			pg_atomic_init_u64(&shared->db[i].session_retry_at, 0);
			for (int j = 0; j < TARGETS; j++)
				pg_atomic_init_u64(&shared->db[i].targets[j], 0);
			ConditionVariableInit(&shared->db[i].changed);
		}
	}
	sc_memory_startup();
	LWLockRelease(AddinShmemInitLock);
}

bool
sc_cache_shared_exists(void)
{
	return shared != NULL;
}

/* Another database had it.  The condition variable has no waiters then. */
static void
reset_part(CacheDb *part)
{
	pg_atomic_write_u32(&part->active, 0);
	pg_atomic_write_u64(&part->begun, 0);
	pg_atomic_write_u64(&part->drained, 0);
	pg_atomic_write_u32(&part->session_failures, 0);
	pg_atomic_write_u64(&part->session_retry_at, 0);
	memset(&part->delivered, 0, sizeof(part->delivered));
	memset(&part->acked, 0, sizeof(part->acked));
	memset(&part->status, 0, sizeof(part->status));
}

/* This database's part, or NULL: not preloaded, or too many databases. */
static CacheDb *
my_part(void)
{
	if (shared == NULL || !OidIsValid(MyDatabaseId))
		return NULL;
	if (mine && mine->dboid == MyDatabaseId)
		return mine;
	mine = NULL;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_DATABASES && mine == NULL; i++)
		if (shared->db[i].dboid == MyDatabaseId)
			mine = &shared->db[i];
	for (int i = 0; i < MAX_DATABASES && mine == NULL; i++)
		if (!OidIsValid(shared->db[i].dboid))
		{
			mine = &shared->db[i];
			reset_part(mine);
			mine->dboid = MyDatabaseId;
		}
	LWLockRelease(shared->lock);
	return mine;
}

/* The databases that have a part, in the caller's memory context. */
List *
sc_cache_databases(void)
{
	Oid			oids[MAX_DATABASES];
	List	   *result = NIL;

	if (shared == NULL)
		return NIL;
	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < MAX_DATABASES; i++)
		oids[i] = shared->db[i].dboid;
	LWLockRelease(shared->lock);
	for (int i = 0; i < MAX_DATABASES; i++)
		if (OidIsValid(oids[i]))
			result = lappend_oid(result, oids[i]);
	return result;
}

/* These have been dropped, so nobody is in them. */
void
sc_cache_forget_databases(List *dboids)
{
	ListCell   *lc;

	if (shared == NULL || dboids == NIL)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_DATABASES; i++)
		if (OidIsValid(shared->db[i].dboid) && list_member_oid(dboids, shared->db[i].dboid))
			shared->db[i].dboid = InvalidOid;
	LWLockRelease(shared->lock);
	foreach(lc, dboids)
		sc_attempt_forget(lfirst_oid(lc));
}

int
sc_cache_active_table(void)
{
	CacheDb    *part = my_part();

	return part ? (int) pg_atomic_read_u32(&part->active) : 0;
}

void
sc_cache_set_active_table(int table)
{
	CacheDb    *part = my_part();

	if (part)
		pg_atomic_write_u32(&part->active, (uint32) table);
}

/*
 * The page that writers on this CPU append to, as outbox.c has noted it; NULL:
 * there is no place for it.  A process may be moved at any time, so two CPUs
 * may use a page for a moment.
 */
pg_atomic_uint64 *
sc_cache_target(void)
{
	CacheDb    *part = my_part();
	int			cpu = -1;

	if (part == NULL)
		return NULL;
#ifdef __linux__
	cpu = sched_getcpu();
#endif
	if (cpu < 0)
		cpu = MyProc->pgprocno;
	return &part->targets[cpu % TARGETS];
}

/*
 * What has been acknowledged is known here, and lost in a restart: then keys
 * whose tuples have not been cut away yet are sent again.
 */
void
sc_cache_get_acked(ScAcked *mark)
{
	CacheDb    *part = my_part();

	memset(mark, 0, offsetof(ScAcked, xip));
	if (part == NULL)
		return;
	LWLockAcquire(shared->lock, LW_SHARED);
	memcpy(mark, &part->acked, offsetof(ScAcked, xip) + part->acked.n * sizeof(uint64));
	LWLockRelease(shared->lock);
}

void
sc_cache_set_acked(const ScAcked *mark)
{
	CacheDb    *part = my_part();

	if (part == NULL)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	memcpy(&part->acked, mark, offsetof(ScAcked, xip) + mark->n * sizeof(uint64));
	LWLockRelease(shared->lock);
	ConditionVariableBroadcast(&part->changed);
}

/*
 * How often entries were given to a transaction of the worker's, to make room:
 * what is known of the one that wrote them says nothing about them any more.
 */
uint64
sc_cache_moves(void)
{
	CacheDb    *part = my_part();

	return part ? pg_atomic_read_u64(&part->moves) : 0;
}

void
sc_cache_note_move(void)
{
	CacheDb    *part = my_part();

	if (part)
		pg_atomic_fetch_add_u64(&part->moves, 1);
}

/* Is all that the transaction wrote acknowledged, whatever else is not? */
static bool
is_acked(CacheDb *part, const ScAwaited *awaited)
{
	bool		result;

	if (awaited->xid == 0)
		return false;
	LWLockAcquire(shared->lock, LW_SHARED);
	result = sc_acked_has(&part->acked, awaited->xid);
	LWLockRelease(shared->lock);
	return result && pg_atomic_read_u64(&part->moves) == awaited->moves;
}

/* ---- commits that a crash may take back ---- */

const char *
sc_cache_boot_id(void)
{
	return shared ? shared->boot : "0";
}

/* Between these, a commit with synchronous_commit off becomes visible. */
void
sc_cache_async_begin(void)
{
	if (shared)
		pg_atomic_fetch_add_u32(&shared->async, 1);
}

void
sc_cache_async_end(XLogRecPtr lsn)
{
	uint64		last;

	if (shared == NULL)
		return;
	last = pg_atomic_read_u64(&shared->async_lsn);
	while (last < lsn &&
		   !pg_atomic_compare_exchange_u64(&shared->async_lsn, &last, lsn))
		;
	pg_atomic_fetch_sub_u32(&shared->async, 1);
}

/*
 * Where the last record ends.  The next one's place is behind the page's header
 * if that is where a page begins, and as long as there is no next one that is
 * more than can be flushed.
 */
static XLogRecPtr
end_of_log(void)
{
	XLogRecPtr	lsn = GetXLogInsertRecPtr();

	if (XLogSegmentOffset(lsn, wal_segment_size) == SizeOfXLogLongPHD)
		return lsn - SizeOfXLogLongPHD;
	if (lsn % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		return lsn - SizeOfXLogShortPHD;
	return lsn;
}

/* Have on disk whatever commit of rows with rules a snapshot may see. */
void
sc_cache_flush_commits(void)
{
	if (shared == NULL || pg_atomic_read_u32(&shared->async) > 0)
		XLogFlush(end_of_log());
	else
		XLogFlush((XLogRecPtr) pg_atomic_read_u64(&shared->async_lsn));
}

/*
 * Called before the commit with 0, and with the time when it is done.  Others
 * may take the slot between; for statistics that is good enough.
 */
void
sc_cache_note_commit(TransactionId xid, TimestampTz at)
{
	CommitTime *c;

	if (shared == NULL)
		return;
	c = &shared->commits[xid % COMMITS];
	if (at == 0)
		pg_atomic_write_u32(&c->xid, xid);
	if (pg_atomic_read_u32(&c->xid) == xid)
		pg_atomic_write_u64(&c->at, (uint64) at);
}

/*
 * When the transaction was done, or now if it is not yet, though others see
 * it.  One that has lost its slot is taken to have been as it was queued.
 */
TimestampTz
sc_cache_commit_time(TransactionId xid, TimestampTz queued_at)
{
	CommitTime *c;
	uint64		at;

	if (shared == NULL)
		return queued_at;
	c = &shared->commits[xid % COMMITS];
	at = pg_atomic_read_u64(&c->at);
	if (pg_atomic_read_u32(&c->xid) != xid)
		return queued_at;
	return at ? (TimestampTz) at : GetCurrentTimestamp();
}

/* ---- turns ---- */

/* Called before the turn's first snapshot. */
uint64
sc_cache_turn_begin(void)
{
	CacheDb    *part = my_part();

	return part ? pg_atomic_add_fetch_u64(&part->begun, 1) : 0;
}

void
sc_cache_turn_end(uint64 turn, bool drained)
{
	CacheDb    *part = my_part();
	uint64		last;

	if (part == NULL || !drained)
		return;
	last = pg_atomic_read_u64(&part->drained);
	while (last < turn &&
		   !pg_atomic_compare_exchange_u64(&part->drained, &last, turn))
		;
	ConditionVariableBroadcast(&part->changed);
}

/* Let sessions know what Redis has acknowledged. */
void
sc_cache_set_delivered(const ScDelivered *delivered)
{
	CacheDb    *part = my_part();

	if (part == NULL)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	part->delivered = *delivered;
	LWLockRelease(shared->lock);
}

/* False when sessions had better leave that Redis alone. */
bool
sc_cache_delivered(uint64 url_hash, ScDelivered *delivered)
{
	CacheDb    *part = my_part();

	if (part == NULL ||
		(pg_atomic_read_u32(&part->session_failures) > 0 &&
		 (TimestampTz) pg_atomic_read_u64(&part->session_retry_at) > GetCurrentTimestamp()))
		return false;
	LWLockAcquire(shared->lock, LW_SHARED);
	*delivered = part->delivered;
	LWLockRelease(shared->lock);
	return delivered->url_hash == url_hash && delivered->clock > 0;
}

/* What one session found, all believe for a while. */
void
sc_cache_session_failed(void)
{
	CacheDb    *part = my_part();
	uint32		n;
	int64		ms;

	if (part == NULL)
		return;
	n = pg_atomic_fetch_add_u32(&part->session_failures, 1);
	ms = Min((int64) sc_session_timeout << Min(n, 16), sc_redis_retry_max);
	pg_atomic_write_u64(&part->session_retry_at,
						TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms));
}

void
sc_cache_session_succeeded(void)
{
	CacheDb    *part = my_part();

	if (part && pg_atomic_read_u32(&part->session_failures) > 0)
		pg_atomic_write_u32(&part->session_failures, 0);
}

/* Is there a Redis to wait for?  The worker may have read the setting before. */
static bool
has_redis(CacheDb *part)
{
	bool		result;

	if (sc_redis_url[0] != '\0')
		return true;
	LWLockAcquire(shared->lock, LW_SHARED);
	result = part->status.configured;
	LWLockRelease(shared->lock);
	return result;
}

/*
 * Wait until everything committed before is acknowledged, or at least what is
 * awaited.  In a commit, where nothing may fail any more, a cancel ends the wait
 * with a warning.
 */
bool
sc_cache_wait(int timeout_ms, bool in_commit, const ScAwaited *awaited)
{
	CacheDb    *part = my_part();
	TimestampTz deadline;
	uint64		after;
	bool		ok = false;

	/* Memory alone has forgotten the keys when the commit was visible. */
	if (part && in_commit && !has_redis(part))
		return true;
	deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	if (part)
	{
		after = pg_atomic_read_u64(&part->begun);
		ConditionVariablePrepareToSleep(&part->changed);
		for (;;)
		{
			long		left;

			if (pg_atomic_read_u64(&part->drained) > after || is_acked(part, awaited))
			{
				ok = true;
				break;
			}
			left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
			if (left <= 0)
				break;
			if (in_commit && (QueryCancelPending || ProcDiePending))
				break;
			sc_cache_hurry();
			(void) ConditionVariableTimedSleep(&part->changed, Min(left, STEP_MS),
											   PG_WAIT_EXTENSION);
		}
		ConditionVariableCancelSleep();
	}
	if (!in_commit || ok)
		return ok;
	ereport(WARNING,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("the transaction has committed, but its cache invalidations are not acknowledged yet"),
			 errdetail("They stay queued and will be delivered."),
			 errhint("The view scalecache.redis_status says how Redis does.")));
	/* As for synchronous replication: the cancel was for the wait. */
	if (QueryCancelPending && !ProcDiePending)
		QueryCancelPending = false;
	return ok;
}

Datum
scalecache_wait_for_cache(PG_FUNCTION_ARGS)
{
	const ScAwaited everything = {0};
	int64		us;
	Interval   *timeout;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("timeout must not be null"),
				 errdetail("How long to wait would be unknown."),
				 errhint("Leave it out for 5 s.")));
	timeout = PG_GETARG_INTERVAL_P(0);
	us = sc_interval_us(timeout);
	if (us < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must not be negative"),
				 errdetail("It is the time to wait for."),
				 errhint("Use 0 to look without waiting.")));
	/* No worker runs for nothing. */
	if (sc_redis_url[0] == '\0' && sc_rules_all() == NIL && sc_outbox_size() == 0)
		PG_RETURN_BOOL(true);
	PG_RETURN_BOOL(sc_cache_wait((int) Min(us / 1000, INT_MAX / 2), false, &everything));
}

/* ---- status ---- */

void
sc_cache_get_status(ScRedisStatus *status)
{
	CacheDb    *part = my_part();

	memset(status, 0, sizeof(*status));
	if (part == NULL)
		return;
	LWLockAcquire(shared->lock, LW_SHARED);
	*status = part->status;
	LWLockRelease(shared->lock);
}

void
sc_cache_set_status(const ScRedisStatus *status)
{
	CacheDb    *part = my_part();

	if (part == NULL)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	part->status = *status;
	LWLockRelease(shared->lock);
}

static Datum
text_or_null(const char *s, bool *isnull)
{
	*isnull = s[0] == '\0';
	return *isnull ? (Datum) 0 : CStringGetTextDatum(s);
}

static Datum
time_or_null(TimestampTz t, bool *isnull)
{
	*isnull = t == 0;
	return TimestampTzGetDatum(t);
}

/* That there is something is no secret. */
static void
hide(char *text, Size size)
{
	if (text[0] != '\0')
		strlcpy(text, "<insufficient privilege>", size);
}

Datum
scalecache_redis_status(PG_FUNCTION_ARGS)
{
	static const char *const breakers[] = {"closed", "open", "half-open"};
	ScRedisStatus s;
	TupleDesc	desc;
	static const char *const modes[] = {"single", "sentinel", "cluster"};
	Datum		values[20] = {0};
	bool		nulls[20] = {0};
	Datum		histogram[SC_HISTOGRAM];
	int			n = 0;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	sc_cache_get_status(&s);
	/* Where Redis is, and what it says, is nothing for everybody. */
	if (!has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS))
	{
		hide(s.server, sizeof(s.server));
		hide(s.nodes, sizeof(s.nodes));
		hide(s.run_id, sizeof(s.run_id));
		hide(s.last_error, sizeof(s.last_error));
		hide(s.warning, sizeof(s.warning));
	}
	values[n++] = BoolGetDatum(s.configured);
	values[n++] = BoolGetDatum(s.connected);
	values[n++] = CStringGetTextDatum(breakers[s.breaker]);
	values[n] = time_or_null(s.retry_at, &nulls[n]);
	n++;
	values[n] = text_or_null(s.server, &nulls[n]);
	n++;
	values[n] = text_or_null(s.version, &nulls[n]);
	n++;
	values[n] = text_or_null(s.run_id, &nulls[n]);
	n++;
	values[n] = time_or_null(s.connected_at, &nulls[n]);
	n++;
	values[n++] = Float8GetDatum(s.latency_us / 1000.0);
	values[n++] = Int64GetDatum(s.connects);
	values[n++] = Int64GetDatum(s.failures);
	values[n++] = Int64GetDatum(s.keys);
	values[n++] = Int64GetDatum(s.epochs);
	values[n++] = BoolGetDatum(s.library);
	values[n] = text_or_null(s.last_error, &nulls[n]);
	n++;
	values[n] = time_or_null(s.last_error_at, &nulls[n]);
	n++;
	values[n] = text_or_null(s.warning, &nulls[n]);
	n++;
	for (int i = 0; i < SC_HISTOGRAM; i++)
		histogram[i] = Int64GetDatum(s.histogram[i]);
	values[n++] = PointerGetDatum(construct_array(histogram, SC_HISTOGRAM, INT8OID,
												  sizeof(int64), FLOAT8PASSBYVAL,
												  TYPALIGN_DOUBLE));
	values[n++] = CStringGetTextDatum(modes[s.mode]);
	values[n] = text_or_null(s.nodes, &nulls[n]);
	n++;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/*
 * Entries, tuples, bytes on disk and the oldest.  Entries may be on their way
 * from one table to another, by a transaction that a snapshot of before does
 * not see; that takes a lock on the one, so with all of them locked a new
 * snapshot misses nothing.
 */
Datum
scalecache_cache_queue(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[6];
	bool		nulls[6] = {0};
	ScOutboxPos pos = {0};
	ScAcked		acked;
	Snapshot	snapshot;
	List	   *items;
	int64		transactions = 0;
	int64		keys = 0;
	int64		epochs = 0;
	int64		bytes = 0;
	TimestampTz oldest = 0;
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "outbox",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	old = MemoryContextSwitchTo(cxt);
	sc_outbox_lock();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	sc_cache_get_acked(&acked);
	while ((items = sc_outbox_read(&pos, snapshot, &acked, 1024 * 1024)) != NIL)
	{
		ListCell   *lc;

		foreach(lc, items)
		{
			ScOutboxItem *item = lfirst(lc);
			const char *p = VARDATA(item->entries);
			const char *end = p + VARSIZE(item->entries) - VARHDRSZ;

			transactions++;
			bytes += end - p;
			if (oldest == 0 || item->queued_at < oldest)
				oldest = item->queued_at;
			while (p < end)
			{
				ScEntry		e;

				p = sc_entry_read(p, end, &e);
				if (e.kind == SC_ENTRY_EPOCH)
					epochs++;
				else
					keys++;
			}
		}
		MemoryContextReset(cxt);
	}
	UnregisterSnapshot(snapshot);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	values[0] = Int64GetDatum(transactions);
	values[1] = Int64GetDatum(keys);
	values[2] = Int64GetDatum(epochs);
	values[3] = Int64GetDatum(bytes);
	values[4] = Int64GetDatum(sc_outbox_size());
	sc_outbox_unlock();
	values[5] = time_or_null(oldest, &nulls[5]);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* ---- start ---- */

/*
 * A dump makes the triggers of its rules, after the rules.  An ALTER TABLE
 * between has made them already, as for any rule.
 */
static PlannedStmt *
permit_replacement(PlannedStmt *pstmt, bool readOnlyTree)
{
	static const char prefix[] = "scalecache_rule_";
	CreateTrigStmt *stmt = (CreateTrigStmt *) pstmt->utilityStmt;

	if (!IsA(stmt, CreateTrigStmt) || list_length(stmt->funcname) != 2 ||
		strcmp(strVal(linitial(stmt->funcname)), "scalecache") != 0 ||
		strncmp(stmt->trigname, prefix, strlen(prefix)) != 0)
		return pstmt;
	if (readOnlyTree)
		pstmt = copyObject(pstmt);
	((CreateTrigStmt *) pstmt->utilityStmt)->replace = true;
	return pstmt;
}

/* A statement that sets the URL does so without the password being seen. */
static const char *
hide_url(PlannedStmt *pstmt, const char *queryString, ProcessUtilityContext context)
{
	Node	   *node = pstmt->utilityStmt;
	VariableSetStmt *set = NULL;
	char	   *masked;

	if (IsA(node, VariableSetStmt))
		set = (VariableSetStmt *) node;
	else if (IsA(node, AlterSystemStmt))
		set = ((AlterSystemStmt *) node)->setstmt;
	else if (IsA(node, AlterRoleSetStmt))
		set = ((AlterRoleSetStmt *) node)->setstmt;
	else if (IsA(node, AlterDatabaseSetStmt))
		set = ((AlterDatabaseSetStmt *) node)->setstmt;
	if (set == NULL || set->name == NULL ||
		pg_strcasecmp(set->name, "scalecache.redis_url") != 0 ||
		(masked = sc_mask_passwords(queryString)) == NULL)
		return queryString;
	if (context == PROCESS_UTILITY_TOPLEVEL)
		pgstat_report_activity(STATE_RUNNING, masked);
	return masked;
}

/*
 * Whoever waits for acknowledgements when the extension goes waits for nothing.
 * The worker notices late, if Redis is away: it pauses then, and for longer
 * than a commit waits.
 */
static bool may_have_dropped = false;

static void
tell_waiters(XactEvent event, void *arg)
{
	static uint64 turn = 0;

	if (!may_have_dropped)
		return;
	if (event == XACT_EVENT_PRE_COMMIT)
		turn = sc_outbox_exists() ? 0 : sc_cache_turn_begin();
	if (event == XACT_EVENT_COMMIT)
		sc_cache_turn_end(turn, turn != 0);
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT ||
		event == XACT_EVENT_PREPARE)
		may_have_dropped = false;
}

static bool all_fenced = false;

static void lift_at_exit(int code, Datum arg);

static void
fence_all(void)
{
	static bool registered = false;

	if (!registered)
		before_shmem_exit(lift_at_exit, (Datum) 0);
	registered = true;
	sc_memory_fence_all();
	all_fenced = true;
}

static void
lift_all(bool committed)
{
	if (all_fenced)
		sc_memory_lift_all(committed);
	all_fenced = false;
}

/* The session ends within COMMIT PREPARED, which may have done its work. */
static void
lift_at_exit(int code, Datum arg)
{
	lift_all(true);
}

/* What was known of the database is not to be believed of another with its oid. */
static void
forget_database(Oid dboid)
{
	if (!OidIsValid(dboid))
		return;
	sc_memory_forget_database(dboid);
	sc_cache_forget_databases(list_make1_oid(dboid));
}

/* COMMIT PREPARED commits keys that this session never had. */
static void
utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
		ProcessUtilityContext context, ParamListInfo params,
		QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	ProcessUtility_hook_type next = prev_ProcessUtility_hook ?
		prev_ProcessUtility_hook : standard_ProcessUtility;
	bool		prepared = IsA(pstmt->utilityStmt, TransactionStmt) &&
		((TransactionStmt *) pstmt->utilityStmt)->kind == TRANS_STMT_COMMIT_PREPARED;
	Oid			dropped = InvalidOid;

	pstmt = permit_replacement(pstmt, readOnlyTree);
	queryString = hide_url(pstmt, queryString, context);
	/* A schema's or a role's objects may include it. */
	if ((IsA(pstmt->utilityStmt, DropStmt) || IsA(pstmt->utilityStmt, DropOwnedStmt)) &&
		IsTransactionState() && sc_outbox_exists())
		may_have_dropped = true;
	if (IsA(pstmt->utilityStmt, DropdbStmt) && IsTransactionState())
		dropped = get_database_oid(((DropdbStmt *) pstmt->utilityStmt)->dbname, true);
	if (!prepared || !IsTransactionState() || !sc_outbox_exists())
	{
		next(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
		forget_database(dropped);
		return;
	}
	fence_all();
	PG_TRY();
	{
		next(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	}
	PG_CATCH();
	{
		lift_all(false);
		PG_RE_THROW();
	}
	PG_END_TRY();
	lift_all(true);
	sc_cache_committed_prepared();
}

void
sc_cache_init(void)
{
	sc_rules_init();
	sc_outbox_init();
	sc_cache_capture_init();
	prev_ProcessUtility_hook = ProcessUtility_hook;
	ProcessUtility_hook = utility;
	RegisterXactCallback(tell_waiters, NULL);
}

void
sc_cache_preload_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup;
}
