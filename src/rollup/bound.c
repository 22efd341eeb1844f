/*
 * bound.c: what one rollup may take of the worker's time.
 *
 * A fold or fill calls the functions of whoever made the rollup, and one that
 * does not return would keep the worker from all others of the database.  So
 * there is a time for it, that grows with what may have to be read; locks are
 * not waited for in it.  When it is over, limit.c ends what runs, or the
 * worker.  Sessions that fold or fill have their own timeouts.
 */
#include "postgres.h"

#include <limits.h>

#include "access/table.h"
#include "catalog/pg_class.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/guc.h"
#include "base/limit.h"
#include "rollup/rollup.h"

#define GIGABYTE		(1024.0 * 1024 * 1024)

/* For how long a size is good */
#define RECENT_MS		60000

static bool working = false;	/* this is the worker, at a rollup */
static bool limited = false;	/* and it computes */
static ScTried tried;

/* Of a relation that may be locked by somebody whom nobody waits for. */
static double
gigabytes_of(Oid relid)
{
	Relation	rel;
	double		size = 0;

	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return 0;
	rel = try_table_open(relid, NoLock);
	if (rel)
	{
		if (RELKIND_HAS_STORAGE(rel->rd_rel->relkind))
			size = RelationGetNumberOfBlocks(rel) * (BLCKSZ / GIGABYTE);
		table_close(rel, NoLock);
	}
	UnlockRelationOid(relid, AccessShareLock);
	return size;
}

static double
gigabytes(ScSpec *spec)
{
	double		size = 0;
	ListCell   *lc;

	foreach(lc, spec->members)
		size += gigabytes_of(lfirst_oid(lc));
	if (!spec->hasparts)
		return size;
	foreach(lc, sc_parts_logs(spec->view))
	{
		ScSpec	   *log = sc_spec_by_view(lfirst_oid(lc));

		if (log == NULL)
			continue;
		size += gigabytes(log);
		sc_spec_release(log);
	}
	return size;
}

/* Of one with thousands of partitions, that is not found out for each fold. */
static double
recent_gigabytes(ScSpec *spec)
{
	static struct
	{
		int64		id;
		double		size;
		TimestampTz at;
	}			known[64];
	int			n = (uint64) spec->id % lengthof(known);
	TimestampTz now = GetCurrentTimestamp();

	if (known[n].id != spec->id ||
		TimestampDifferenceExceeds(known[n].at, now, RECENT_MS))
	{
		known[n].size = gigabytes(spec);
		known[n].id = spec->id;
		known[n].at = now;
	}
	return known[n].size;
}

/* The worker begins with a rollup. */
void
sc_bound_begin(void)
{
	memset(&tried, 0, sizeof(tried));
	working = true;
}

/* With its locks, it starts to compute. */
void
sc_bound_start(ScSpec *spec)
{
	char	   *name;

	if (!working)
		return;
	name = get_rel_name(spec->view);
	tried.id = spec->id;
	tried.epoch = spec->epoch;
	strlcpy(NameStr(tried.name), name ? name : "?", NAMEDATALEN);
	if (sc_fold_timeout == 0)
		return;
	tried.ms = Min(sc_fold_timeout * (1 + recent_gigabytes(spec)), INT_MAX);
	limited = true;
	sc_limit_begin(tried.ms);
}

/* It has computed, or failed.  Was the time over? */
bool
sc_bound_stop(void)
{
	if (!limited)
		return false;
	limited = false;
	return sc_limit_end();
}

/* The worker has done with the rollup; what it computed last, if anything. */
const ScTried *
sc_bound_end(void)
{
	working = false;
	return &tried;
}
