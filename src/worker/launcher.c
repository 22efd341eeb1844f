/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  The background workers: one launcher, and for each database that has
 *	  the extension one worker that folds and one that delivers.
 *
 * The launcher is connected to no database.  It cannot see from outside
 * whether a database has the extension, so it starts a worker in each one
 * that it does not know about; a worker that finds no extension notes that
 * in shared memory and exits, and the launcher tries again later, each time
 * after twice as long, or as soon as the extension has been created.
 *
 * When max_worker_processes is too small for all databases their workers take
 * turns: see give_way().
 *
 * What must always hold:
 *
 * - The array of databases is read and changed under the one lock, but for
 *	 the atomic "dirty" and for sc_worker_notify()'s look at dboid.
 *
 * - An entry's pid is set by the worker before it connects, and cleared by
 *	 it after it has left the array of processes.  So a pid seen under the
 *	 lock is that of our worker, and once it is zero the worker no longer
 *	 keeps anyone from dropping the database.
 *
 * - No worker takes an entry that is paused or that already has a pid.
 *
 * - "dirty" is cleared before the deltas are read, never after, so that a
 *	 writer who finds it set can rely on being seen.
 *
 * - "hurry" is set after the waiter has read the number of the latest turn,
 *	 and cleared before a turn takes its number.
 *
 * - Who sets "dirty" looks at "awake" after that; the worker clears "awake"
 *	 before it looks at "dirty" and sleeps.  One of them sees the other.
 *
 * - No worker is in a database that someone who may drop it is dropping,
 *	 copying, moving or renaming.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>
#include <signal.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "advisor/apply.h"
#include "base/guc.h"
#include "cache/cache.h"
#include "rollup/rollup.h"
#include "worker/launcher.h"

#define SC_MAX_DATABASES		1024
#define SC_MAX_ENTRIES			(SC_MAX_DATABASES * SC_WORKER_KINDS)

#define SC_ABSENT_RETRY_MS		10000	/* look again for the extension */
#define SC_ABSENT_DOUBLINGS		5	/* of that, where it is not found again */
#define SC_STARVED_MS			60000	/* others give way after a failed start */
#define SC_SHARE_MS				10000	/* once they have run for so long */
#define SC_FAILED_RETRY_MS		5000	/* restart a worker that failed */
#define SC_START_TIMEOUT_MS		30000	/* a worker that never started */
#define SC_ERROR_BACKOFF_MS		1000	/* after an error while working */
#define SC_PAUSE_MS				10000	/* longest pause of a database */
#define SC_PAUSE_WAIT_MS		5000	/* longest wait for a worker's exit */
#define SC_RESUME_MS			1000	/* pause left to a renamed database */
#define SC_NUDGE_MS				100 /* between nudges of the launcher */
#define SC_IDLE_TURNS			10	/* without a change: writers have paused */

typedef enum ScDbState
{
	SC_DB_STOPPED,				/* no worker; one is due at retry_at */
	SC_DB_STARTING,				/* asked for; given up on at retry_at */
	SC_DB_RUNNING,				/* has a worker */
	SC_DB_ABSENT				/* had no extension; next look at retry_at */
} ScDbState;

/* Each database has a worker of each kind: Redis must not delay folding. */
typedef enum ScWorkerKind
{
	SC_WORKER_FOLD,
	SC_WORKER_CACHE,
	SC_WORKER_KINDS
} ScWorkerKind;

/* One for each database and kind. */
typedef struct ScDb
{
	Oid			dboid;			/* InvalidOid when the entry is free */
	ScWorkerKind kind;
	ScDbState	state;
	pid_t		pid;			/* of the worker, 0 when there is none */
	Latch	   *latch;			/* of the worker, NULL when there is none */
	TimestampTz retry_at;
	TimestampTz paused_until;
	int			absences;		/* looks in a row that found no extension */
	TimestampTz starved;		/* since when there was no process left for it */
	pg_atomic_uint32 dirty;		/* deltas wait to be folded */
	pg_atomic_uint32 awake;		/* and will look at dirty: needs no latch */
	pg_atomic_uint32 hurry;		/* somebody waits for the next turn */
} ScDb;

typedef struct ScShared
{
	LWLock	   *lock;
	Latch	   *launcher_latch; /* NULL when there is no launcher */
	TimestampTz starved_until;	/* a worker could not be started just now */
	int			used;			/* entries from this one on never were */
	ScDb		db[SC_MAX_ENTRIES];
} ScShared;

PGDLLEXPORT void sc_launcher_main(Datum main_arg);
PGDLLEXPORT void sc_worker_main(Datum main_arg);
PGDLLEXPORT void sc_cache_worker_main(Datum main_arg);

static ScShared *sc_shared = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;
static ProcessUtility_hook_type prev_ProcessUtility_hook = NULL;

/* Does this transaction create the extension? */
static bool extension_created = false;

/* The worker's own entry, and what it leaves there when it exits. */
static ScDb *my_db = NULL;
static ScDbState exit_state = SC_DB_STOPPED;
static int	exit_retry_ms = SC_FAILED_RETRY_MS;

/*
 * Shared memory.
 */

static void
sc_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();

	RequestAddinShmemSpace(MAXALIGN(sizeof(ScShared)));
	RequestNamedLWLockTranche("scalecache", 1);
}

static void
sc_shmem_startup(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	sc_shared = ShmemInitStruct("scalecache workers", sizeof(ScShared),
								&found);
	if (!found)
	{
		int			i;

		memset(sc_shared, 0, sizeof(ScShared));
		sc_shared->lock = &(GetNamedLWLockTranche("scalecache"))->lock;
		for (i = 0; i < SC_MAX_ENTRIES; i++)
		{
			pg_atomic_init_u32(&sc_shared->db[i].dirty, 0);
			pg_atomic_init_u32(&sc_shared->db[i].awake, 0);
			pg_atomic_init_u32(&sc_shared->db[i].hurry, 0);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

/* The entry of a database, or NULL.  The caller holds the lock. */
static ScDb *
find_db(Oid dboid, ScWorkerKind kind)
{
	int			i;

	for (i = 0; i < sc_shared->used; i++)
	{
		if (sc_shared->db[i].dboid == dboid &&
			(!OidIsValid(dboid) || sc_shared->db[i].kind == kind))
			return &sc_shared->db[i];
	}
	return NULL;
}

/*
 * The entry of a database, made if need be, or NULL when the array is full.
 * The caller holds the lock exclusively.
 */
static ScDb *
find_or_make_db(Oid dboid, ScWorkerKind kind)
{
	ScDb	   *db = find_db(dboid, kind);

	if (db != NULL)
		return db;

	db = find_db(InvalidOid, kind);
	if (db == NULL && sc_shared->used < SC_MAX_ENTRIES)
		db = &sc_shared->db[sc_shared->used++];
	if (db == NULL)
		return NULL;

	db->state = SC_DB_STOPPED;
	db->pid = 0;
	db->latch = NULL;
	db->retry_at = 0;
	db->paused_until = 0;
	db->absences = 0;
	db->starved = 0;
	pg_atomic_write_u32(&db->dirty, 0);
	db->kind = kind;
	db->dboid = dboid;
	return db;
}

static void
wake_launcher(void)
{
	Latch	   *latch;

	LWLockAcquire(sc_shared->lock, LW_SHARED);
	latch = sc_shared->launcher_latch;
	LWLockRelease(sc_shared->lock);

	if (latch != NULL)
		SetLatch(latch);
}

/*
 * The writers' side.
 */

/* This database's entry, or NULL. */
static pg_attribute_hot ScDb *
my_entry(ScWorkerKind kind)
{
	static ScDb *cached[SC_WORKER_KINDS] = {NULL};
	ScDb	   *db = cached[kind];

	if (db == NULL || db->dboid != MyDatabaseId || db->kind != kind)
	{
		LWLockAcquire(sc_shared->lock, LW_SHARED);
		db = find_db(MyDatabaseId, kind);
		LWLockRelease(sc_shared->lock);
		cached[kind] = db;
	}
	return db;
}

/* False when there is no worker to be woken. */
static bool
wake_worker(ScDb *db, ScWorkerKind kind)
{
	Latch	   *latch = NULL;

	LWLockAcquire(sc_shared->lock, LW_SHARED);
	if (db->dboid == MyDatabaseId && db->kind == kind)
		latch = db->latch;
	LWLockRelease(sc_shared->lock);
	if (latch != NULL)
		SetLatch(latch);
	return latch != NULL;
}

static pg_attribute_hot void
notify(ScWorkerKind kind)
{
	static TimestampTz last_nudge = 0;
	ScDb	   *db;
	TimestampTz now;

	if (sc_shared == NULL || !OidIsValid(MyDatabaseId))
		return;

	db = my_entry(kind);
	if (db != NULL)
	{
		/* The commit comes before the look at the flag. */
		pg_memory_barrier();
		if (pg_atomic_read_u32(&db->dirty) != 0)
			return;
		if (pg_atomic_exchange_u32(&db->dirty, 1) != 0)
			return;
		if (pg_atomic_read_u32(&db->awake) != 0)
			return;
		if (wake_worker(db, kind))
			return;
	}

	/* There is no worker, so it is for the launcher to start one. */
	now = GetCurrentTimestamp();
	if (TimestampDifferenceExceeds(last_nudge, now, SC_NUDGE_MS))
	{
		last_nudge = now;
		wake_launcher();
	}
}

pg_attribute_hot void
sc_worker_notify(void)
{
	notify(SC_WORKER_FOLD);
}

void
sc_cache_notify(void)
{
	notify(SC_WORKER_CACHE);
}

void
sc_cache_hurry(void)
{
	ScDb	   *db;

	sc_cache_notify();
	if (sc_shared == NULL || !OidIsValid(MyDatabaseId) ||
		(db = my_entry(SC_WORKER_CACHE)) == NULL)
		return;
	if (pg_atomic_exchange_u32(&db->hurry, 1) == 0)
		(void) wake_worker(db, SC_WORKER_CACHE);
}

/*
 * What a worker and the launcher share.
 */

/*
 * How a process that was asked to end does so: the launcher starts workers
 * again, and the postmaster only a launcher whose exit code is not 0.
 */
static int	asked_exit_code = 0;

/*
 * Wait for the latch or for a time, then do what signals have asked for.  A
 * process that was asked to end while it waited ends without a word.
 */
static void
wait_a_while(long ms)
{
	(void) WaitLatch(MyLatch,
					 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);

	if (ProcDiePending)
		proc_exit(asked_exit_code);

	CHECK_FOR_INTERRUPTS();

	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/*
 * Wait for a whole stretch of time, whatever happens to the latch, but for
 * "hurry" if that is given.
 */
static void
wait_all_of(int ms, pg_atomic_uint32 *hurry)
{
	TimestampTz until;

	until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
	for (;;)
	{
		long		left;

		if (hurry != NULL && pg_atomic_read_u32(hurry) != 0)
			break;
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
		if (left <= 0)
			break;
		wait_a_while(left);
	}
}

/*
 * The worker of one database.
 */

/* The last thing a worker does, when it has left the array of processes. */
static void
worker_exit(int code, Datum arg)
{
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(sc_shared->lock, LW_EXCLUSIVE);
	my_db->pid = 0;
	my_db->latch = NULL;
	pg_atomic_write_u32(&my_db->awake, 0);
	my_db->state = exit_state;
	my_db->retry_at = TimestampTzPlusMilliseconds(now, exit_retry_ms);
	/* The launcher is told of our end, and has a process for another one. */
	for (int i = 0; i < sc_shared->used && sc_shared->starved_until > now; i++)
		if (sc_shared->db[i].starved && sc_shared->db[i].state == SC_DB_STOPPED)
			sc_shared->db[i].retry_at = 0;
	LWLockRelease(sc_shared->lock);
}

/* Take the entry of a database, or exit when it isn't to be had. */
static void
worker_attach(Oid dboid, ScWorkerKind kind)
{
	TimestampTz now = GetCurrentTimestamp();
	ScDb	   *db;

	LWLockAcquire(sc_shared->lock, LW_EXCLUSIVE);
	db = find_db(dboid, kind);
	if (db == NULL || db->pid != 0)
	{
		LWLockRelease(sc_shared->lock);
		proc_exit(0);
	}
	if (db->paused_until > now)
	{
		db->state = SC_DB_STOPPED;
		db->retry_at = 0;
		LWLockRelease(sc_shared->lock);
		proc_exit(0);
	}
	db->state = SC_DB_RUNNING;
	db->starved = 0;
	db->pid = MyProcPid;
	db->latch = MyLatch;
	my_db = db;
	LWLockRelease(sc_shared->lock);

	/*
	 * Set up before we connect, and not as a before_shmem_exit callback, so
	 * that it runs after we have left the array of processes.
	 */
	on_shmem_exit(worker_exit, (Datum) 0);
}

/* After an error in a turn: report it and abort. */
static void
recover(MemoryContext turn_context)
{
	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(turn_context);
	EmitErrorReport();
	AbortCurrentTransaction();
	LWLockReleaseAll();
	FlushErrorState();
	RESUME_INTERRUPTS();
}

bool
sc_extension_exists(void)
{
	bool		exists;

	StartTransactionCommand();
	exists = OidIsValid(get_extension_oid("scalecache", true));
	CommitTransactionCommand();
	return exists;
}

/* Turns without a change, up to SC_IDLE_TURNS. */
static int	idle_turns = 0;

/*
 * One turn of work: returns whether there is more to do at once.  An error
 * is reported, and ends the turn but not the worker.
 */
static bool
worker_turn(MemoryContext turn_context)
{
	volatile bool more = false;
	volatile bool failed = false;
	volatile bool exists = true;

	if (pg_atomic_exchange_u32(&my_db->dirty, 0) != 0)
		idle_turns = 0;
	else if (idle_turns < SC_IDLE_TURNS)
		idle_turns++;
	MemoryContextSwitchTo(turn_context);

	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		pgstat_report_activity(STATE_RUNNING, "folding rollups");
		exists = sc_extension_exists();
		MemoryContextSwitchTo(turn_context);
		if (exists)
		{
			more = sc_rollup_work(idle_turns == SC_IDLE_TURNS);
			MemoryContextSwitchTo(turn_context);
			sc_apply_work();
		}
	}
	PG_CATCH();
	{
		recover(turn_context);
		failed = true;
	}
	PG_END_TRY();

	MemoryContextSwitchTo(turn_context);
	MemoryContextReset(turn_context);
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);

	if (!exists)
	{
		exit_state = SC_DB_ABSENT;
		exit_retry_ms = SC_ABSENT_RETRY_MS << Min(my_db->absences, SC_ABSENT_DOUBLINGS);
		my_db->absences++;
		proc_exit(0);
	}
	if (my_db->absences > 0)
	{
		my_db->absences = 0;
		/* The one that delivers may start now. */
		wake_launcher();
	}

	if (failed)
	{
		wait_all_of(SC_ERROR_BACKOFF_MS, NULL);
		return true;
	}
	return more;
}

/*
 * A database may be set to another role, and, other than for its users' own
 * sessions, to another session's user.  No worker is to become either.
 */
void
sc_worker_stay_itself(void)
{
	StartTransactionCommand();
	SetConfigOption("session_authorization",
					GetUserNameFromId(BOOTSTRAP_SUPERUSERID, false),
					PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("role", "none", PGC_SUSET, PGC_S_OVERRIDE);
	CommitTransactionCommand();
}

static void
worker_settings(void)
{
	/* What a database is set to is meant for its users. */
	sc_worker_stay_itself();
	SetConfigOption("default_transaction_isolation", "read committed",
					PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_read_only", "false",
					PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_deferrable", "false",
					PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("session_replication_role", "origin",
					PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("lock_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
}

/*
 * Become the worker of that kind in a database, or exit.  The result is a
 * context to be reset after each turn.
 */
static MemoryContext
worker_start(Oid dboid, ScWorkerKind kind)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);

	if (sc_shared == NULL)
		proc_exit(0);
	worker_attach(dboid, kind);

	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(dboid, InvalidOid, 0);

	worker_settings();
	return AllocSetContextCreate(TopMemoryContext, "scalecache turn",
								 ALLOCSET_DEFAULT_SIZES);
}

/* A worker ends, and another one may be started at once. */
static void
exit_if_disabled(void)
{
	if (sc_worker)
		return;
	exit_retry_ms = 0;
	proc_exit(0);
}

/*
 * When there are not as many processes as databases they take turns: a worker
 * that is idle ends until there is some work, and others after a while.
 */
static void
give_way(bool idle)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		starved;

	LWLockAcquire(sc_shared->lock, LW_SHARED);
	starved = sc_shared->starved_until > now;
	LWLockRelease(sc_shared->lock);
	if (!starved)
		return;
	if (idle && pg_atomic_read_u32(&my_db->dirty) == 0)
		exit_state = SC_DB_ABSENT;
	else if (!TimestampDifferenceExceeds(MyStartTimestamp, now, SC_SHARE_MS))
		return;
	exit_retry_ms = SC_ABSENT_RETRY_MS;
	proc_exit(0);
}

void
sc_worker_main(Datum main_arg)
{
	MemoryContext turn_context = worker_start(DatumGetObjectId(main_arg),
											  SC_WORKER_FOLD);
	bool		more;

	/* What was left undone by whoever was here before us comes first. */
	more = worker_turn(turn_context);

	for (;;)
	{
		/* A wait for a lock in the turn may have used up the latch. */
		if (!more && pg_atomic_read_u32(&my_db->dirty) == 0)
			wait_a_while(sc_naptime);
		exit_if_disabled();
		give_way(!more && idle_turns == SC_IDLE_TURNS);

		/*
		 * Let the deltas of other writers join the first one's.  They don't
		 * wake us meanwhile, as the flag is set until the turn begins.
		 */
		if (more || pg_atomic_read_u32(&my_db->dirty) != 0)
			wait_all_of(sc_fold_delay, NULL);

		more = worker_turn(turn_context);
	}
}

/*
 * The worker that sends cache invalidations.
 */

/* Is there anything to deliver, now or later, or a Redis to watch? */
static bool
delivery_wanted(void)
{
	bool		wanted;

	StartTransactionCommand();
	wanted = OidIsValid(get_extension_oid("scalecache", true)) &&
		sc_outbox_exists() &&
		(sc_redis_url[0] != '\0' || sc_rules_all() != NIL ||
		 sc_outbox_size() > 0);
	CommitTransactionCommand();
	return wanted;
}

static ScTurn
delivery_turn(MemoryContext turn_context)
{
	static int	turns = 0;
	ScTurn		turn = {SC_ERROR_BACKOFF_MS, true, false};
	volatile ScTurn result = turn;
	volatile bool wanted = true;

	pg_atomic_exchange_u32(&my_db->dirty, 0);
	pg_atomic_exchange_u32(&my_db->hurry, 0);
	MemoryContextSwitchTo(turn_context);
	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		pgstat_report_activity(STATE_RUNNING, "delivering cache invalidations");
		if (turns++ % 64 == 0)
		{
			uint64		number = sc_cache_turn_begin();

			wanted = delivery_wanted();
			/* There is nothing that anybody could wait for. */
			if (!wanted)
				sc_cache_turn_end(number, true);
		}
		MemoryContextSwitchTo(turn_context);
		if (wanted)
		{
			turn = sc_cache_work();
			result = turn;
		}
		else
			sc_cache_work_ended();
	}
	PG_CATCH();
	{
		recover(turn_context);
		sc_cache_work_failed();
		/* It may be that the extension has been dropped. */
		turns = 0;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(turn_context);
	MemoryContextReset(turn_context);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	if (!wanted)
	{
		exit_state = SC_DB_ABSENT;
		exit_retry_ms = SC_ABSENT_RETRY_MS;
		proc_exit(0);
	}
	turn = result;
	return turn;
}

void
sc_cache_worker_main(Datum main_arg)
{
	MemoryContext turn_context = worker_start(DatumGetObjectId(main_arg),
											  SC_WORKER_CACHE);

	/* It is a superuser: whose operators it finds is not the database's to say. */
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_SUSET, PGC_S_OVERRIDE);
	for (;;)
	{
		ScTurn		turn;

		/* Nobody needs to wake us until we say that we sleep. */
		pg_atomic_write_u32(&my_db->awake, 1);
		turn = delivery_turn(turn_context);
		if (turn.gather && turn.wait_ms > 0)
			wait_all_of(turn.wait_ms, turn.hurries ? &my_db->hurry : NULL);
		else if (turn.wait_ms == 0)
			wait_a_while(0);
		else
		{
			(void) pg_atomic_exchange_u32(&my_db->awake, 0);
			if (pg_atomic_read_u32(&my_db->dirty) != 0)
				turn.wait_ms = 0;
			else if (turn.wait_ms < 0)
				turn.wait_ms = sc_naptime;
			wait_a_while(turn.wait_ms);
		}
		exit_if_disabled();
		/* It is never done: it keeps its connection, and looks at Redis. */
		give_way(false);
	}
}

/*
 * The launcher.
 */

static void
launcher_exit(int code, Datum arg)
{
	LWLockAcquire(sc_shared->lock, LW_EXCLUSIVE);
	sc_shared->launcher_latch = NULL;
	LWLockRelease(sc_shared->lock);
}

/*
 * The databases that may have a worker, in the caller's memory context.  *gone
 * loses those that there are.
 */
static List *
list_databases(List **gone)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *dboids = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tup;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();

	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tup = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tup);
		MemoryContext old;

		*gone = list_delete_oid(*gone, form->oid);
		if (!form->datallowconn || form->datistemplate)
			continue;

		old = MemoryContextSwitchTo(context);
		dboids = lappend_oid(dboids, form->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);

	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return dboids;
}

/* Give back the entries of databases that are no longer on the list. */
static void
reclaim_entries(List *dboids)
{
	TimestampTz now = GetCurrentTimestamp();
	int			i;

	LWLockAcquire(sc_shared->lock, LW_EXCLUSIVE);
	for (i = 0; i < sc_shared->used; i++)
	{
		ScDb	   *db = &sc_shared->db[i];

		if (!OidIsValid(db->dboid) || db->paused_until > now ||
			list_member_oid(dboids, db->dboid))
			continue;

		/* A worker has no more business in a database made a template. */
		if (db->pid != 0)
			kill(db->pid, SIGTERM);
		else
			db->dboid = InvalidOid;
	}
	LWLockRelease(sc_shared->lock);
}

/*
 * Has the worker that folds found no extension, so that the other one need not
 * look, too?  The caller holds the lock.
 */
static bool
known_absent(Oid dboid, ScWorkerKind kind)
{
	ScDb	   *fold = kind == SC_WORKER_FOLD ? NULL : find_db(dboid, SC_WORKER_FOLD);

	return fold != NULL && fold->absences > 0;
}

/*
 * Who has waited longest for a process, and has not been tried just now?  Or
 * false.
 */
static bool
longest_starved(List *dboids, Oid *dboid, ScWorkerKind *kind)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz since = 0;

	LWLockAcquire(sc_shared->lock, LW_SHARED);
	for (int i = 0; i < sc_shared->used; i++)
	{
		ScDb	   *db = &sc_shared->db[i];

		if (!db->starved || (since && db->starved >= since) || db->pid != 0 ||
			db->retry_at > now || db->paused_until > now ||
			known_absent(db->dboid, db->kind) || !list_member_oid(dboids, db->dboid))
			continue;
		since = db->starved;
		*dboid = db->dboid;
		*kind = db->kind;
	}
	LWLockRelease(sc_shared->lock);
	return since != 0;
}

/* Is a worker to be started?  If so, its entry says that one was. */
static bool
claim_start(Oid dboid, ScWorkerKind kind)
{
	static bool complained = false;
	TimestampTz now = GetCurrentTimestamp();
	bool		start = false;
	ScDb	   *db;

	LWLockAcquire(sc_shared->lock, LW_EXCLUSIVE);
	db = find_or_make_db(dboid, kind);
	if (db != NULL && db->pid == 0 && db->paused_until <= now)
	{
		start = db->retry_at <= now && !known_absent(dboid, kind);
		if (db->state == SC_DB_ABSENT &&
			pg_atomic_read_u32(&db->dirty) != 0)
			start = true;
	}
	if (start)
	{
		db->state = SC_DB_STARTING;
		db->retry_at = TimestampTzPlusMilliseconds(now, SC_START_TIMEOUT_MS);
	}
	LWLockRelease(sc_shared->lock);

	if (db == NULL && !complained)
	{
		complained = true;
		ereport(LOG,
				(errmsg("scalecache serves at most %d databases",
						SC_MAX_DATABASES)));
	}
	return start;
}

static void
start_worker(Oid dboid, ScWorkerKind kind)
{
	BackgroundWorker worker;
	TimestampTz now;
	bool		news;
	ScDb	   *db;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "scalecache");
	snprintf(worker.bgw_function_name, BGW_MAXLEN,
			 kind == SC_WORKER_FOLD ? "sc_worker_main" : "sc_cache_worker_main");
	snprintf(worker.bgw_type, BGW_MAXLEN,
			 kind == SC_WORKER_FOLD ? "scalecache worker" : "scalecache delivery");
	snprintf(worker.bgw_name, BGW_MAXLEN, "%s for database %u",
			 worker.bgw_type, dboid);
	worker.bgw_main_arg = ObjectIdGetDatum(dboid);
	worker.bgw_notify_pid = MyProcPid;

	if (RegisterDynamicBackgroundWorker(&worker, NULL))
		return;

	now = GetCurrentTimestamp();
	LWLockAcquire(sc_shared->lock, LW_EXCLUSIVE);
	db = find_db(dboid, kind);
	if (db != NULL && db->pid == 0)
	{
		if (!db->starved)
			db->starved = now;
		db->state = SC_DB_STOPPED;
		db->retry_at = TimestampTzPlusMilliseconds(now, SC_FAILED_RETRY_MS);
	}
	news = sc_shared->starved_until <= now;
	sc_shared->starved_until = TimestampTzPlusMilliseconds(now, SC_STARVED_MS);
	/* Those who only wait for something to do are to know, too. */
	for (int i = 0; i < sc_shared->used; i++)
		if (sc_shared->db[i].latch)
			SetLatch(sc_shared->db[i].latch);
	LWLockRelease(sc_shared->lock);

	if (news)
		ereport(LOG,
				(errmsg("could not start a scalecache worker"),
				 errhint("You might need to increase "
						 "max_worker_processes.")));
}

/* How long until the launcher has something to do without being asked? */
static long
launcher_naptime(void)
{
	TimestampTz now = GetCurrentTimestamp();
	long		ms = Min((long) sc_naptime * 5, INT_MAX);
	int			i;

	if (!sc_worker)
		return ms;

	LWLockAcquire(sc_shared->lock, LW_SHARED);
	for (i = 0; i < sc_shared->used; i++)
	{
		ScDb	   *db = &sc_shared->db[i];
		TimestampTz due = Max(db->retry_at, db->paused_until);

		if (OidIsValid(db->dboid) && db->pid == 0 &&
			!known_absent(db->dboid, db->kind))
			ms = Min(ms, TimestampDifferenceMilliseconds(now, due));
	}
	LWLockRelease(sc_shared->lock);

	return Max(ms, SC_NUDGE_MS);
}

void
sc_launcher_main(Datum main_arg)
{
	MemoryContext turn_context;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	if (sc_shared == NULL)
		proc_exit(0);
	asked_exit_code = 1;

	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	LWLockAcquire(sc_shared->lock, LW_EXCLUSIVE);
	sc_shared->launcher_latch = MyLatch;
	LWLockRelease(sc_shared->lock);
	on_shmem_exit(launcher_exit, (Datum) 0);

	turn_context = AllocSetContextCreate(TopMemoryContext,
										 "scalecache launcher",
										 ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		MemoryContextSwitchTo(turn_context);

		if (sc_worker)
		{
			/* Taken before, or one made meanwhile would count as gone. */
			List	   *gone = list_concat_unique_oid(sc_cache_databases(),
														  sc_rollup_stats_databases());
			List	   *dboids = list_databases(&gone);
			ListCell   *lc;
			Oid			dboid;
			ScWorkerKind kind;

			reclaim_entries(dboids);
			sc_cache_forget_databases(gone);
			sc_rollup_stats_forget_databases(gone);
			/* Those first that there was no process left for. */
			while (longest_starved(dboids, &dboid, &kind) && claim_start(dboid, kind))
				start_worker(dboid, kind);
			foreach(lc, dboids)
				for (kind = 0; kind < SC_WORKER_KINDS; kind++)
					if (claim_start(lfirst_oid(lc), kind))
						start_worker(lfirst_oid(lc), kind);
		}

		MemoryContextReset(turn_context);
		wait_a_while(launcher_naptime());
	}
}

/*
 * Getting out of the way of commands that want a database for themselves.
 */

/* Are this database's workers gone? */
static bool
workers_gone(Oid dboid)
{
	bool		gone = true;

	LWLockAcquire(sc_shared->lock, LW_SHARED);
	for (int kind = 0; kind < SC_WORKER_KINDS; kind++)
	{
		ScDb	   *db = find_db(dboid, kind);

		if (db != NULL && db->pid != 0)
			gone = false;
	}
	LWLockRelease(sc_shared->lock);
	return gone;
}

/*
 * Have index builders of a database end; false when there are none.  What
 * they were at is cleaned up after when workers run there again.
 */
static bool
end_builders(Oid dboid)
{
	bool		found = false;
	int			n;

	pgstat_clear_backend_activity_snapshot();
	n = pgstat_fetch_stat_numbackends();
	for (int i = 1; i <= n; i++)
	{
		PgBackendStatus *entry = pgstat_fetch_stat_beentry(i);
		const char *type;

		if (entry == NULL || entry->st_backendType != B_BG_WORKER ||
			entry->st_databaseid != dboid)
			continue;
		type = GetBackgroundWorkerTypeByPid(entry->st_procpid);
		if (type == NULL || strcmp(type, SC_BUILDER) != 0)
			continue;
		kill(entry->st_procpid, SIGTERM);
		found = true;
	}
	pgstat_clear_backend_activity_snapshot();
	return found;
}

/* Let no worker run in a database, and wait for those that are there. */
static void
pause_database(Oid dboid)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz give_up;

	give_up = TimestampTzPlusMilliseconds(now, SC_PAUSE_WAIT_MS);

	LWLockAcquire(sc_shared->lock, LW_EXCLUSIVE);
	for (int kind = 0; kind < SC_WORKER_KINDS; kind++)
	{
		ScDb	   *db = find_or_make_db(dboid, kind);

		if (db == NULL)
			continue;
		db->paused_until = TimestampTzPlusMilliseconds(now, SC_PAUSE_MS);
		if (db->pid != 0)
			kill(db->pid, SIGTERM);
	}
	LWLockRelease(sc_shared->lock);

	/* The database's worker may have started a builder just now. */
	while ((!workers_gone(dboid) || end_builders(dboid)) &&
		   GetCurrentTimestamp() < give_up)
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 10L, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Let workers run in a database again after some time. */
static void
resume_database(Oid dboid, int ms)
{
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(sc_shared->lock, LW_EXCLUSIVE);
	for (int kind = 0; kind < SC_WORKER_KINDS; kind++)
	{
		ScDb	   *db = find_db(dboid, kind);

		if (db == NULL)
			continue;
		db->paused_until = TimestampTzPlusMilliseconds(now, ms);
		db->retry_at = 0;
	}
	LWLockRelease(sc_shared->lock);

	wake_launcher();
}

static bool
may_create_databases(void)
{
	bool		result = false;
	HeapTuple	tup;

	if (superuser())
		return true;

	tup = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (HeapTupleIsValid(tup))
	{
		result = ((Form_pg_authid) GETSTRUCT(tup))->rolcreatedb;
		ReleaseSysCache(tup);
	}
	return result;
}

/* The string value of an option in a list of DefElems, or NULL. */
static char *
string_option(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *def = (DefElem *) lfirst(lc);

		if (strcmp(def->defname, name) == 0 && def->arg != NULL)
			return defGetString(def);
	}
	return NULL;
}

/*
 * The database that a command wants for itself, or InvalidOid when there is
 * none, or when the user may not do that (as the command itself will say).
 * *resume_ms is how long the pause lasts after the command has succeeded.
 */
static Oid
database_wanted(Node *stmt, bool toplevel, int *resume_ms)
{
	char	   *name = NULL;
	Oid			dboid;

	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			/* It is there for all to see until the transaction ends. */
			if (toplevel)
				name = ((DropdbStmt *) stmt)->dbname;
			*resume_ms = SC_PAUSE_MS;
			break;

		case T_CreatedbStmt:
			if (toplevel && may_create_databases())
			{
				name = string_option(((CreatedbStmt *) stmt)->options,
									 "template");
				if (name == NULL)
					name = "template1";
			}
			*resume_ms = 0;
			break;

		case T_AlterDatabaseStmt:
			if (toplevel &&
				string_option(((AlterDatabaseStmt *) stmt)->options,
							  "tablespace") != NULL)
				name = ((AlterDatabaseStmt *) stmt)->dbname;
			*resume_ms = SC_RESUME_MS;
			break;

		case T_RenameStmt:
			if (((RenameStmt *) stmt)->renameType == OBJECT_DATABASE &&
				may_create_databases())
				name = ((RenameStmt *) stmt)->subname;
			*resume_ms = SC_RESUME_MS;
			break;

		default:
			break;
	}

	if (name == NULL || !IsTransactionState())
		return InvalidOid;

	dboid = get_database_oid(name, true);
	/* One's own can be copied, and nothing else. */
	if (!OidIsValid(dboid) ||
		(dboid == MyDatabaseId && !IsA(stmt, CreatedbStmt)) ||
		!pg_database_ownercheck(dboid, GetUserId()))
		return InvalidOid;
	return dboid;
}

/*
 * A worker that looks before the extension is there for others to see would
 * not look again for long, and rollups that a dump brings wait for it.
 */
static void
launcher_xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && extension_created)
		sc_worker_notify();
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT ||
		event == XACT_EVENT_PREPARE)
		extension_created = false;
}

static bool
creates_extension(Node *stmt)
{
	return IsA(stmt, CreateExtensionStmt) &&
		strcmp(((CreateExtensionStmt *) stmt)->extname, "scalecache") == 0;
}

static void
sc_ProcessUtility(PlannedStmt *pstmt, const char *queryString,
				  bool readOnlyTree, ProcessUtilityContext context,
				  ParamListInfo params, QueryEnvironment *queryEnv,
				  DestReceiver *dest, QueryCompletion *qc)
{
	ProcessUtility_hook_type next = prev_ProcessUtility_hook;
	int			resume_ms = 0;
	Oid			dboid = InvalidOid;

	if (next == NULL)
		next = standard_ProcessUtility;

	if (sc_shared != NULL && IsUnderPostmaster && !RecoveryInProgress())
		dboid = database_wanted(pstmt->utilityStmt,
								context == PROCESS_UTILITY_TOPLEVEL &&
								!IsTransactionBlock(),
								&resume_ms);

	if (!OidIsValid(dboid))
	{
		if (creates_extension(pstmt->utilityStmt))
			extension_created = true;
		next(pstmt, queryString, readOnlyTree, context, params, queryEnv,
			 dest, qc);
		return;
	}

	PG_TRY();
	{
		pause_database(dboid);
		next(pstmt, queryString, readOnlyTree, context, params, queryEnv,
			 dest, qc);
	}
	PG_CATCH();
	{
		/* A lock of ours cannot be held here, as nothing fails under it. */
		resume_database(dboid, 0);
		PG_RE_THROW();
	}
	PG_END_TRY();

	resume_database(dboid, resume_ms);
}

/*
 * Registration.
 */

void
sc_launcher_register(void)
{
	BackgroundWorker worker;

	if (IsBinaryUpgrade)
		return;

	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = sc_shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = sc_shmem_startup;
	prev_ProcessUtility_hook = ProcessUtility_hook;
	ProcessUtility_hook = sc_ProcessUtility;
	RegisterXactCallback(launcher_xact_callback, NULL);

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 5;
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "scalecache");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "sc_launcher_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "scalecache launcher");
	snprintf(worker.bgw_type, BGW_MAXLEN, "scalecache launcher");
	RegisterBackgroundWorker(&worker);
}
