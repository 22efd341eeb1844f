/*
 * attempt.c: values that end their worker.
 *
 * The expression of a value may crash the worker, and the server with it, or
 * terminate it.  The entry stays queued, so the next worker meets it again.  A
 * file says which value is being computed, of which rule: a worker that finds
 * one there has had a predecessor that was ended by it, or meanwhile.  After
 * some times with the same key, and no success with it between, the rule's
 * values are not computed any more.
 *
 * The file is written for each value, and never synced: it is to outlive the
 * process, not the machine.  Where it cannot be written nothing is counted.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/hashfn.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "utils/wait_event.h"

#include "cache/cache.h"

#define MAGIC		0x5ca1e001
#define TIMES		3			/* that a value may end its worker */
#define STOPPED_MAX	64

typedef struct Attempt
{
	int64		rule;
	uint64		key;			/* as a hash */
} Attempt;

typedef struct Attempts
{
	uint32		magic;
	Oid			catalog;		/* of which the rules' ids are */
	Attempt		now;			/* if begun */
	bool		begun;
	int32		times;			/* that workers have ended */
	Attempt		suspect;		/* with this */
	int32		nstopped;
	int64		stopped[STOPPED_MAX];	/* rules; the oldest gives way */
} Attempts;

static Attempts known;
static File file = -1;
static bool tried = false;		/* to open it */

static void
file_path(Oid dboid, char *buf, Size size)
{
	snprintf(buf, size, PGSTAT_STAT_PERMANENT_DIRECTORY "/scalecache_values.%u", dboid);
}

static bool
same(const Attempt *a, const Attempt *b)
{
	return a->rule == b->rule && a->key == b->key;
}

static void
open_file(void)
{
	char		path[MAXPGPATH];

	tried = true;
	file_path(MyDatabaseId, path, sizeof(path));
	file = PathNameOpenFile(path, O_RDWR | O_CREAT | PG_BINARY);
	if (file < 0)
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	if (file < 0 ||
		FileRead(file, (char *) &known, sizeof(known), 0, PG_WAIT_EXTENSION) != sizeof(known) ||
		known.magic != MAGIC || known.catalog != sc_cache_catalog_relid() ||
		known.nstopped < 0 || known.nstopped > STOPPED_MAX)
	{
		memset(&known, 0, sizeof(known));
		known.magic = MAGIC;
		known.catalog = sc_cache_catalog_relid();
	}
	if (known.begun)
	{
		known.times = same(&known.now, &known.suspect) ? known.times + 1 : 1;
		known.suspect = known.now;
		known.begun = false;
	}
}

static void
write_file(Size bytes)
{
	if (file >= 0)
		(void) FileWrite(file, (char *) &known, (int) bytes, 0, PG_WAIT_EXTENSION);
}

static bool
is_stopped(int64 rule)
{
	for (int i = 0; i < known.nstopped; i++)
		if (known.stopped[i] == rule)
			return true;
	return false;
}

static void
stop(int64 rule)
{
	if (known.nstopped == STOPPED_MAX)
		memmove(&known.stopped[0], &known.stopped[1], --known.nstopped * sizeof(int64));
	known.stopped[known.nstopped++] = rule;
	known.times = 0;
	write_file(sizeof(known));
}

/* May the entry's value be computed?  If so, say when that has ended. */
bool
sc_attempt_begin(const ScEntry *e)
{
	if (!tried)
		open_file();
	if (is_stopped(e->rule))
		return false;
	known.now.rule = e->rule;
	known.now.key = hash_bytes_extended((const unsigned char *) e->key, (int) e->keylen, 0);
	if (known.times >= TIMES && same(&known.now, &known.suspect))
	{
		stop(e->rule);
		return false;
	}
	known.begun = true;
	write_file(sizeof(known));
	return true;
}

void
sc_attempt_end(void)
{
	if (!known.begun)
		return;
	known.begun = false;
	if (same(&known.now, &known.suspect))
		known.times = 0;
	write_file(offsetof(Attempts, nstopped));
}

/* The database has been dropped. */
void
sc_attempt_forget(Oid dboid)
{
	char		path[MAXPGPATH];

	file_path(dboid, path, sizeof(path));
	(void) unlink(path);
}
