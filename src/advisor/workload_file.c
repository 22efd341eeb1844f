/*-------------------------------------------------------------------------
 *
 * workload_file.c
 *	  What is recorded of statements, over restarts.
 *
 * The file is written by the postmaster when it shuts down in order, and read
 * when it starts.  After a crash it is read again, so it is written anew
 * without what reset_workload() forgets.
 *
 * What must always hold: whatever is in the file, the server starts.  What
 * comes before the first damaged entry is read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"
#include "utils/memutils.h"

#include "advisor/recorded.h"
#include "base/guc.h"

#define SC_DUMP_FILE		PGSTAT_STAT_PERMANENT_DIRECTORY "/scalecache_workload.stat"
#define SC_DUMP_MAGIC		0x53435734	/* another one for another format */

/* A file, and the checksum of what has been written or read of an entry. */
typedef struct DumpFile
{
	FILE	   *file;
	pg_crc32c	crc;
} DumpFile;

static bool
put(DumpFile *dump, const void *data, Size len)
{
	COMP_CRC32C(dump->crc, data, len);
	return fwrite(data, 1, len, dump->file) == len;
}

/* A chain is no longer than it says, whatever state a crash left it in. */
static bool
put_bytes(DumpFile *dump, const Bytes *bytes)
{
	uint32		at;
	uint32		done = 0;

	if (!put(dump, &bytes->len, sizeof(bytes->len)))
		return false;
	for (at = bytes->first; at != 0 && done < bytes->len;
		 at = sc_recorded->chunks[at].next)
	{
		Chunk	   *chunk = &sc_recorded->chunks[at];
		uint32		n = Min(bytes->len - done, sizeof(chunk->data));

		if (!put(dump, chunk->data, n))
			return false;
		done += n;
	}
	return true;
}

/* What an entry is but for its bytes. */
typedef struct DumpHeader
{
	StmtKey		key;
	uint64		calls;
	uint64		rows;
	double		total_ms;
	double		usage;
	double		slowest_ms;
	TimestampTz first_seen;
	uint64		observed;
	uint32		nsamples;
	int32		slowest;		/* of those samples; -1: none */
} DumpHeader;

static bool
put_checksum(DumpFile *dump)
{
	pg_crc32c	crc = dump->crc;

	FIN_CRC32C(crc);
	return put(dump, &crc, sizeof(crc));
}

static bool
dump_entry(DumpFile *dump, Stmt *stmt)
{
	DumpHeader	header;
	int			i;

	memset(&header, 0, sizeof(header));
	header.key = stmt->key;
	header.calls = stmt->calls;
	header.rows = stmt->rows;
	header.total_ms = stmt->total_ms;
	header.usage = stmt->usage;
	header.slowest_ms = stmt->slowest_ms;
	header.first_seen = stmt->first_seen;
	header.observed = stmt->observed;
	header.slowest = -1;
	for (i = 0; i < SC_SAMPLES; i++)
	{
		if (stmt->samples[i].data.first == 0)
			continue;
		if (i == stmt->slowest)
			header.slowest = header.nsamples;
		header.nsamples++;
	}

	INIT_CRC32C(dump->crc);
	if (!put(dump, &header, sizeof(header)) ||
		!put_bytes(dump, &stmt->text) ||
		!put_bytes(dump, &stmt->settings))
		return false;
	for (i = 0; i < SC_SAMPLES; i++)
	{
		Sample	   *sample = &stmt->samples[i];

		if (sample->data.first != 0 &&
			(!put(dump, &sample->count, sizeof(sample->count)) ||
			 !put_bytes(dump, &sample->data)))
			return false;
	}
	return put_checksum(dump);
}

/* Begin to write a file; false, with a message, when that is not possible. */
static bool
begin_file(DumpFile *dump, int elevel)
{
	uint32		header[2] = {SC_DUMP_MAGIC, PG_VERSION_NUM};

	INIT_CRC32C(dump->crc);
	dump->file = AllocateFile(SC_DUMP_FILE ".tmp", PG_BINARY_W);
	if (dump->file == NULL)
		ereport(elevel,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", SC_DUMP_FILE)));
	return dump->file != NULL && put(dump, header, sizeof(header));
}

/* It takes the place of the one before, unless something went wrong. */
static bool
end_file(DumpFile *dump, bool ok, int elevel)
{
	if (dump->file == NULL)
		return false;
	if (FreeFile(dump->file) != 0)
		ok = false;
	if (ok)
		return durable_rename(SC_DUMP_FILE ".tmp", SC_DUMP_FILE, elevel) == 0;
	ereport(elevel,
			(errcode_for_file_access(),
			 errmsg("could not write file \"%s\": %m", SC_DUMP_FILE)));
	unlink(SC_DUMP_FILE ".tmp");
	return false;
}

void
sc_workload_dump(int code, Datum arg)
{
	DumpFile	dump;
	int			i;
	bool		ok;

	/*
	 * Not after a crash: memory may be in any state.  Nor if somebody was
	 * changing it when an immediate shutdown killed him, who still has the
	 * lock.
	 */
	if (code != 0 || sc_recorded == NULL ||
		!LWLockConditionalAcquire(sc_recorded->lock, LW_SHARED))
		return;
	ok = begin_file(&dump, LOG);
	for (i = 0; ok && i < sc_advisor_max_statements; i++)
	{
		if (OidIsValid(sc_recorded->stmts[i].key.dbid))
			ok = dump_entry(&dump, &sc_recorded->stmts[i]);
	}
	(void) end_file(&dump, ok, LOG);
	LWLockRelease(sc_recorded->lock);
}

static bool
get(DumpFile *dump, void *data, Size len)
{
	if (fread(data, 1, len, dump->file) != len)
		return false;
	COMP_CRC32C(dump->crc, data, len);
	return true;
}

/* Bytes; false when they are too many, or the file ends. */
static bool
get_bytes(DumpFile *dump, char **data, uint32 *len, uint32 max)
{
	if (!get(dump, len, sizeof(*len)) || *len > max)
		return false;
	*data = (char *) palloc(Max(1, *len));
	return get(dump, *data, *len);
}

typedef struct DumpEntry
{
	DumpHeader	header;
	char	   *text;
	uint32		textlen;
	char	   *settings;
	uint32		settingslen;
	uint64		counts[SC_SAMPLES];
	char	   *samples[SC_SAMPLES];
	uint32		lens[SC_SAMPLES];
} DumpEntry;

/* Read one entry; false at the end of the file, or where it is damaged. */
static bool
read_dumped(DumpFile *dump, DumpEntry *e)
{
	pg_crc32c	crc;
	pg_crc32c	found;
	uint32		i;

	INIT_CRC32C(dump->crc);
	if (!get(dump, &e->header, sizeof(e->header)) ||
		!get_bytes(dump, &e->text, &e->textlen, SC_TEXT_MAX + 1) ||
		!get_bytes(dump, &e->settings, &e->settingslen, SC_SETTINGS_MAX) ||
		e->header.nsamples > SC_SAMPLES)
		return false;
	for (i = 0; i < e->header.nsamples; i++)
	{
		if (!get(dump, &e->counts[i], sizeof(e->counts[i])) ||
			!get_bytes(dump, &e->samples[i], &e->lens[i],
					   SC_SAMPLE_MAX * 2 + SC_SETTINGS_MAX +
					   SC_VALUE_MAX * 4))
			return false;
	}
	crc = dump->crc;
	FIN_CRC32C(crc);
	return get(dump, &found, sizeof(found)) && EQ_CRC32C(crc, found) &&
		OidIsValid(e->header.key.dbid) && e->textlen > 0 &&
		e->text[e->textlen - 1] == '\0';
}

static void
enter_dumped(DumpEntry *e)
{
	Stmt	   *stmt;
	uint32		i;

	/* There may be less room now. */
	if (sc_recorded->nfree == 0 || sc_recorded_find(&e->header.key) != NULL)
		return;
	stmt = sc_recorded_make(&e->header.key, e->text, e->textlen - 1,
							e->settings, e->settingslen);
	if (stmt == NULL)
		return;
	stmt->calls = e->header.calls;
	stmt->usage = e->header.usage;
	stmt->rows = e->header.rows;
	stmt->total_ms = e->header.total_ms;
	stmt->slowest_ms = e->header.slowest_ms;
	stmt->first_seen = e->header.first_seen;
	for (i = 0; i < e->header.nsamples; i++)
	{
		Sample	   *place = sc_recorded_sample(stmt, e->samples[i], e->lens[i],
											   (int) i == e->header.slowest);

		if (place != NULL)
			place->count = Max(1, e->counts[i]);
	}
	stmt->observed = e->header.observed;
}

/* Open the file to be read; false if there is none, or none of ours. */
static bool
open_file(DumpFile *dump)
{
	uint32		header[2];

	INIT_CRC32C(dump->crc);
	dump->file = AllocateFile(SC_DUMP_FILE, PG_BINARY_R);
	if (dump->file == NULL)
		return false;
	/* Query ids are not the same in another major version. */
	if (get(dump, header, sizeof(header)) && header[0] == SC_DUMP_MAGIC &&
		header[1] / 100 == PG_VERSION_NUM / 100)
		return true;
	FreeFile(dump->file);
	return false;
}

void
sc_workload_load(void)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext,
											  "scalecache workload file",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcxt = MemoryContextSwitchTo(cxt);
	DumpFile	dump;
	DumpEntry	entry;

	if (open_file(&dump))
	{
		while (read_dumped(&dump, &entry))
		{
			enter_dumped(&entry);
			MemoryContextReset(cxt);
		}
		FreeFile(dump.file);
	}
	MemoryContextSwitchTo(oldcxt);
	MemoryContextDelete(cxt);
}

/* An entry as it was read. */
static bool
put_dumped(DumpFile *dump, const DumpEntry *e)
{
	uint32		i;

	INIT_CRC32C(dump->crc);
	if (!put(dump, &e->header, sizeof(e->header)) ||
		!put(dump, &e->textlen, sizeof(e->textlen)) ||
		!put(dump, e->text, e->textlen) ||
		!put(dump, &e->settingslen, sizeof(e->settingslen)) ||
		!put(dump, e->settings, e->settingslen))
		return false;
	for (i = 0; i < e->header.nsamples; i++)
	{
		if (!put(dump, &e->counts[i], sizeof(e->counts[i])) ||
			!put(dump, &e->lens[i], sizeof(e->lens[i])) ||
			!put(dump, e->samples[i], e->lens[i]))
			return false;
	}
	return put_checksum(dump);
}

/*
 * After a crash statements that were forgotten would be read from the file
 * again.  It is written anew with those of the other databases.
 */
void
sc_workload_forget_file(void)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext,
											  "scalecache workload file",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcxt = MemoryContextSwitchTo(cxt);
	DumpFile	from;
	DumpFile	to;
	DumpEntry	entry;
	bool		others = false;

	LWLockAcquire(sc_recorded->file_lock, LW_EXCLUSIVE);
	if (open_file(&from))
	{
		bool		ok = begin_file(&to, WARNING);

		while (ok && read_dumped(&from, &entry))
		{
			if (entry.header.key.dbid != MyDatabaseId)
			{
				ok = put_dumped(&to, &entry);
				others = true;
			}
			MemoryContextReset(cxt);
		}
		FreeFile(from.file);
		others = end_file(&to, ok, WARNING) && others;
	}
	/* A damaged file, or one that could not be written, must not come back. */
	if (!others && unlink(SC_DUMP_FILE) != 0 && errno != ENOENT)
		ereport(WARNING,
				(errcode_for_file_access(),
				 errmsg("could not remove file \"%s\": %m", SC_DUMP_FILE)));
	LWLockRelease(sc_recorded->file_lock);
	MemoryContextSwitchTo(oldcxt);
	MemoryContextDelete(cxt);
}
