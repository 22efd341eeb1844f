/*
 * stats.c: counters of rollups, and why they fail, in shared memory.
 *
 * They are for people: not transactional, lost in a crash, kept over a clean
 * restart in a file.  Without preloading there are none.  The lock guards the
 * table; counters of an entry are atomic.  When the table is full, rollups
 * that come later are not counted.
 */
#include "postgres.h"

#include <unistd.h>

#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "rollup/rollup.h"

#define STATS_FILE		PGSTAT_STAT_PERMANENT_DIRECTORY "/scalecache_rollups.stat"
#define STATS_MAGIC		0x5ca1e001
#define MAX_ENTRIES		8192

/* Rollups that fail at a time; of more, only the log tells. */
#define MAX_FAILURES	256
#define MAX_MESSAGE		200

typedef struct Key
{
	int64		id;				/* of the rollup */
	Oid			dboid;
	Oid			unused;			/* no padding in a hashed key */
} Key;

typedef struct Counters
{
	Key			key;			/* must be first */
	pg_atomic_uint64 last_fold; /* a TimestampTz, or 0 */
	pg_atomic_uint64 rewrites;
} Counters;

typedef struct Saved
{
	Key			key;
	uint64		last_fold;
	uint64		rewrites;
} Saved;

/* Why the worker could not fold or fill a rollup. */
typedef struct Failure
{
	Key			key;			/* must be first */
	int64		epoch;			/* of the rollup that failed */
	TimestampTz until;			/* it is left alone, also by the next worker */
	char		message[MAX_MESSAGE];
} Failure;

static HTAB *counters = NULL;
static HTAB *failures = NULL;
static LWLock *lock = NULL;
static shmem_request_hook_type prev_shmem_request = NULL;
static shmem_startup_hook_type prev_shmem_startup = NULL;

PG_FUNCTION_INFO_V1(scalecache_rollup_counters);

/* Call with the lock held, exclusively to create an entry. */
static Counters *
find(Oid dboid, int64 id, bool create)
{
	Key			key = {.id = id, .dboid = dboid};
	Counters   *entry = hash_search(counters, &key, HASH_FIND, NULL);

	if (entry || !create)
		return entry;
	entry = hash_search(counters, &key, HASH_ENTER_NULL, NULL);
	if (entry)
	{
		pg_atomic_init_u64(&entry->last_fold, 0);
		pg_atomic_init_u64(&entry->rewrites, 0);
	}
	return entry;
}

static void
count(int64 id, bool fold)
{
	Counters   *entry;

	if (counters == NULL)
		return;
	LWLockAcquire(lock, LW_SHARED);
	entry = find(MyDatabaseId, id, false);
	if (entry == NULL)
	{
		LWLockRelease(lock);
		LWLockAcquire(lock, LW_EXCLUSIVE);
		entry = find(MyDatabaseId, id, true);
	}
	if (entry && fold)
		pg_atomic_write_u64(&entry->last_fold, (uint64) GetCurrentTimestamp());
	else if (entry)
		pg_atomic_fetch_add_u64(&entry->rewrites, 1);
	LWLockRelease(lock);
}

/* Deltas were merged. */
void
sc_rollup_stats_fold(int64 id)
{
	count(id, true);
}

/* A query on the source was answered from the rollup. */
void
sc_rollup_stats_rewrite(int64 id)
{
	count(id, false);
}

/* The worker has met with an error.  False: there is no room to say so. */
bool
sc_rollup_stats_fail(int64 id, const char *message, int64 epoch, TimestampTz until)
{
	Key			key = {.id = id, .dboid = MyDatabaseId};
	Failure    *failure;

	if (failures == NULL)
		return false;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	failure = hash_search(failures, &key, HASH_FIND, NULL);
	if (failure == NULL && hash_get_num_entries(failures) < MAX_FAILURES)
		failure = hash_search(failures, &key, HASH_ENTER_NULL, NULL);
	if (failure)
	{
		int			len = pg_mbcliplen(message, strlen(message), MAX_MESSAGE - 1);

		memcpy(failure->message, message, len);
		failure->message[len] = '\0';
		failure->epoch = epoch;
		failure->until = until;
	}
	LWLockRelease(lock);
	return failure != NULL;
}

/* Has nobody folded or filled it since?  If so, what was said then. */
bool
sc_rollup_stats_fails(int64 id, int64 *epoch, TimestampTz *until)
{
	Key			key = {.id = id, .dboid = MyDatabaseId};
	Failure    *failure;

	/* As a rule there is none, which takes no lock to see. */
	if (failures == NULL || hash_get_num_entries(failures) == 0)
		return false;
	LWLockAcquire(lock, LW_SHARED);
	failure = hash_search(failures, &key, HASH_FIND, NULL);
	if (failure)
	{
		*epoch = failure->epoch;
		*until = failure->until;
	}
	LWLockRelease(lock);
	return failure != NULL;
}

/* Somebody has folded or filled it. */
void
sc_rollup_stats_recover(int64 id)
{
	Key			key = {.id = id, .dboid = MyDatabaseId};

	if (failures == NULL || hash_get_num_entries(failures) == 0)
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	(void) hash_search(failures, &key, HASH_REMOVE, NULL);
	LWLockRelease(lock);
}

/* The rollup has gone, or its going may yet be rolled back: no matter. */
void
sc_rollup_stats_forget(int64 id)
{
	Key			key = {.id = id, .dboid = MyDatabaseId};

	if (counters == NULL)
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	(void) hash_search(counters, &key, HASH_REMOVE, NULL);
	(void) hash_search(failures, &key, HASH_REMOVE, NULL);
	LWLockRelease(lock);
}

/*
 * Databases of which something was counted, in the caller's memory context.
 * Who drops a database drops no rollup in it.
 */
List *
sc_rollup_stats_databases(void)
{
	List	   *dboids = NIL;
	HASH_SEQ_STATUS seq;
	Counters   *entry;
	Failure    *failure;

	if (counters == NULL)
		return NIL;
	LWLockAcquire(lock, LW_SHARED);
	hash_seq_init(&seq, counters);
	while ((entry = hash_seq_search(&seq)) != NULL)
		if (dboids == NIL || llast_oid(dboids) != entry->key.dboid)
			dboids = lappend_oid(dboids, entry->key.dboid);
	hash_seq_init(&seq, failures);
	while ((failure = hash_seq_search(&seq)) != NULL)
		dboids = lappend_oid(dboids, failure->key.dboid);
	LWLockRelease(lock);
	list_sort(dboids, list_oid_cmp);
	list_deduplicate_oid(dboids);
	return dboids;
}

/* These have been dropped. */
void
sc_rollup_stats_forget_databases(List *dboids)
{
	HASH_SEQ_STATUS seq;
	Counters   *entry;
	Failure    *failure;

	if (counters == NULL || dboids == NIL)
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	hash_seq_init(&seq, counters);
	while ((entry = hash_seq_search(&seq)) != NULL)
		if (list_member_oid(dboids, entry->key.dboid))
			(void) hash_search(counters, &entry->key, HASH_REMOVE, NULL);
	hash_seq_init(&seq, failures);
	while ((failure = hash_seq_search(&seq)) != NULL)
		if (list_member_oid(dboids, failure->key.dboid))
			(void) hash_search(failures, &failure->key, HASH_REMOVE, NULL);
	LWLockRelease(lock);
}

/* Messages may have values of rows in them. */
static bool
may_see_failure(int64 id)
{
	HeapTuple	row = sc_catalog_fetch(Anum_rollup_id, Int64GetDatum(id), NULL);
	HeapTuple	view;
	bool		isnull;
	bool		may = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);

	if (may || row == NULL)
		return may;
	view = SearchSysCache1(RELOID, sc_catalog_attr(row, Anum_rollup_rollup, &isnull));
	if (!HeapTupleIsValid(view))
		return false;
	may = has_privs_of_role(GetUserId(), ((Form_pg_class) GETSTRUCT(view))->relowner);
	ReleaseSysCache(view);
	return may;
}

/* rollup_counters(id, OUT last_fold, OUT rewrites, OUT failing) */
Datum
scalecache_rollup_counters(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	int64		id = PG_GETARG_INT64(0);
	Datum		values[3] = {0};
	bool		nulls[3] = {true, counters == NULL, true};
	char		message[MAX_MESSAGE];

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (counters != NULL)
	{
		Key			key = {.id = id, .dboid = MyDatabaseId};
		Counters   *entry;
		Failure    *failure;

		LWLockAcquire(lock, LW_SHARED);
		entry = find(MyDatabaseId, id, false);
		if (entry)
		{
			values[0] = TimestampTzGetDatum((TimestampTz) pg_atomic_read_u64(&entry->last_fold));
			nulls[0] = pg_atomic_read_u64(&entry->last_fold) == 0;
			values[1] = Int64GetDatum((int64) pg_atomic_read_u64(&entry->rewrites));
		}
		failure = hash_search(failures, &key, HASH_FIND, NULL);
		if (failure)
		{
			strlcpy(message, failure->message, MAX_MESSAGE);
			nulls[2] = false;
		}
		LWLockRelease(lock);
		if (!nulls[2])
			values[2] = CStringGetTextDatum(may_see_failure(id) ? message :
											"<insufficient privilege>");
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/* ---- over a restart ---- */

static void
save(int code, Datum arg)
{
	FILE	   *file;
	HASH_SEQ_STATUS seq;
	Counters   *entry;
	uint32		magic = STATS_MAGIC;
	bool		ok;

	if (code != 0 || counters == NULL)
		return;					/* shared memory is not to be trusted */
	file = AllocateFile(STATS_FILE ".tmp", PG_BINARY_W);
	ok = file != NULL && fwrite(&magic, sizeof(magic), 1, file) == 1;
	hash_seq_init(&seq, counters);
	while ((entry = hash_seq_search(&seq)) != NULL)
	{
		Saved		saved = {.key = entry->key};

		saved.last_fold = pg_atomic_read_u64(&entry->last_fold);
		saved.rewrites = pg_atomic_read_u64(&entry->rewrites);
		ok = ok && fwrite(&saved, sizeof(saved), 1, file) == 1;
	}
	if (file != NULL && FreeFile(file) != 0)
		ok = false;
	if (ok)
		(void) durable_rename(STATS_FILE ".tmp", STATS_FILE, LOG);
	else
	{
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", STATS_FILE ".tmp")));
		unlink(STATS_FILE ".tmp");
	}
}

static void
load(void)
{
	FILE	   *file = AllocateFile(STATS_FILE, PG_BINARY_R);
	uint32		magic;
	Saved		saved;

	if (file == NULL)
		return;
	if (fread(&magic, sizeof(magic), 1, file) == 1 && magic == STATS_MAGIC)
		while (fread(&saved, sizeof(saved), 1, file) == 1)
		{
			Counters   *entry = find(saved.key.dboid, saved.key.id, true);

			if (entry == NULL)
				break;
			pg_atomic_write_u64(&entry->last_fold, saved.last_fold);
			pg_atomic_write_u64(&entry->rewrites, saved.rewrites);
		}
	FreeFile(file);
	/* After a crash it would be old. */
	unlink(STATS_FILE);
}

static void
shmem_request(void)
{
	if (prev_shmem_request)
		prev_shmem_request();
	RequestAddinShmemSpace(hash_estimate_size(MAX_ENTRIES, sizeof(Counters)));
	RequestAddinShmemSpace(hash_estimate_size(MAX_FAILURES, sizeof(Failure)));
	RequestNamedLWLockTranche("scalecache_rollups", 1);
}

static void
shmem_startup(void)
{
	HASHCTL		ctl = {.keysize = sizeof(Key), .entrysize = sizeof(Counters)};

	if (prev_shmem_startup)
		prev_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	counters = ShmemInitHash("scalecache rollup counters", 128, MAX_ENTRIES,
							 &ctl, HASH_ELEM | HASH_BLOBS);
	ctl.entrysize = sizeof(Failure);
	failures = ShmemInitHash("scalecache rollup failures", 16, MAX_FAILURES,
							 &ctl, HASH_ELEM | HASH_BLOBS);
	lock = &GetNamedLWLockTranche("scalecache_rollups")->lock;
	LWLockRelease(AddinShmemInitLock);
	if (IsUnderPostmaster)
		return;
	on_shmem_exit(save, (Datum) 0);
	load();
}

/* Called once, while shared_preload_libraries are being loaded. */
void
sc_rollup_stats_init(void)
{
	prev_shmem_request = shmem_request_hook;
	shmem_request_hook = shmem_request;
	prev_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
}
