/*-------------------------------------------------------------------------
 *
 * workload_file.c
 *	  What is recorded of statements, over restarts.
 *
 * The file is written by the postmaster when it shuts down in order, and read
 * when it starts.
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
#define SC_DUMP_MAGIC		0x53435733

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

static bool
put_bytes(DumpFile *dump, const Bytes *bytes)
{
	uint32		at;
	uint32		done = 0;

	if (!put(dump, &bytes->len, sizeof(bytes->len)))
		return false;
	for (at = bytes->first; at != 0; at = sc_recorded->chunks[at].next)
	{
		Chunk	   *chunk = &sc_recorded->chunks[at];
		uint32		n = Min(bytes->len - done, sizeof(chunk->data));

		if (!put(dump, chunk->data, n))
			return false;
		done += n;
	}
	return true;
}

static bool
dump_entry(DumpFile *dump, Stmt *stmt)
{
	uint32		nsamples = 0;
	pg_crc32c	crc;
	int			i;

	INIT_CRC32C(dump->crc);
	for (i = 0; i < SC_SAMPLES; i++)
		nsamples += stmt->samples[i].data.first != 0 ? 1 : 0;
	if (!put(dump, &stmt->key, sizeof(stmt->key)) ||
		!put(dump, &stmt->calls, sizeof(stmt->calls)) ||
		!put(dump, &stmt->rows, sizeof(stmt->rows)) ||
		!put(dump, &stmt->total_ms, sizeof(stmt->total_ms)) ||
		!put(dump, &stmt->first_seen, sizeof(stmt->first_seen)) ||
		!put(dump, &stmt->observed, sizeof(stmt->observed)) ||
		!put_bytes(dump, &stmt->text) ||
		!put_bytes(dump, &stmt->settings) ||
		!put(dump, &nsamples, sizeof(nsamples)))
		return false;
	for (i = 0; i < SC_SAMPLES; i++)
	{
		Sample	   *sample = &stmt->samples[i];

		if (sample->data.first != 0 &&
			(!put(dump, &sample->count, sizeof(sample->count)) ||
			 !put_bytes(dump, &sample->data)))
			return false;
	}
	crc = dump->crc;
	FIN_CRC32C(crc);
	return put(dump, &crc, sizeof(crc));
}

void
sc_workload_dump(int code, Datum arg)
{
	uint32		header[2] = {SC_DUMP_MAGIC, PG_VERSION_NUM};
	DumpFile	dump;
	int			i;
	bool		ok;

	/* Not after a crash: memory may be in any state. */
	if (code != 0 || sc_recorded == NULL)
		return;
	dump.file = AllocateFile(SC_DUMP_FILE ".tmp", PG_BINARY_W);
	if (dump.file == NULL)
	{
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", SC_DUMP_FILE)));
		return;
	}
	INIT_CRC32C(dump.crc);
	ok = put(&dump, header, sizeof(header));
	for (i = 0; ok && i < sc_advisor_max_statements; i++)
	{
		if (OidIsValid(sc_recorded->stmts[i].key.dbid))
			ok = dump_entry(&dump, &sc_recorded->stmts[i]);
	}
	if (FreeFile(dump.file) != 0)
		ok = false;
	if (ok)
		(void) durable_rename(SC_DUMP_FILE ".tmp", SC_DUMP_FILE, LOG);
	else
	{
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", SC_DUMP_FILE)));
		unlink(SC_DUMP_FILE ".tmp");
	}
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
	*data = (char *) palloc(*len);
	return get(dump, *data, *len);
}

typedef struct DumpEntry
{
	StmtKey		key;
	uint64		calls;
	uint64		rows;
	double		total_ms;
	TimestampTz first_seen;
	uint64		observed;
	char	   *text;
	uint32		textlen;
	char	   *settings;
	uint32		settingslen;
	uint32		nsamples;
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
	if (!get(dump, &e->key, sizeof(e->key)) ||
		!get(dump, &e->calls, sizeof(e->calls)) ||
		!get(dump, &e->rows, sizeof(e->rows)) ||
		!get(dump, &e->total_ms, sizeof(e->total_ms)) ||
		!get(dump, &e->first_seen, sizeof(e->first_seen)) ||
		!get(dump, &e->observed, sizeof(e->observed)) ||
		!get_bytes(dump, &e->text, &e->textlen, SC_TEXT_MAX + 1) ||
		!get_bytes(dump, &e->settings, &e->settingslen, SC_SETTINGS_MAX) ||
		!get(dump, &e->nsamples, sizeof(e->nsamples)) ||
		e->nsamples > SC_SAMPLES)
		return false;
	for (i = 0; i < e->nsamples; i++)
	{
		if (!get(dump, &e->counts[i], sizeof(e->counts[i])) ||
			!get_bytes(dump, &e->samples[i], &e->lens[i],
					   SC_SAMPLE_MAX + SC_SETTINGS_MAX + SC_VALUE_MAX * 4))
			return false;
	}
	crc = dump->crc;
	FIN_CRC32C(crc);
	return get(dump, &found, sizeof(found)) && EQ_CRC32C(crc, found) &&
		e->textlen > 0;
}

static void
enter_dumped(DumpEntry *e)
{
	Stmt	   *stmt;
	uint32		i;

	/* There may be less room now. */
	if (sc_recorded->nfree == 0 || sc_recorded_find(&e->key) != NULL)
		return;
	stmt = sc_recorded_make(&e->key, e->text, e->textlen - 1, e->settings,
							e->settingslen);
	if (stmt == NULL)
		return;
	stmt->calls = e->calls;
	stmt->usage = e->calls;
	stmt->rows = e->rows;
	stmt->total_ms = e->total_ms;
	stmt->first_seen = e->first_seen;
	for (i = 0; i < e->nsamples; i++)
	{
		Sample	   *place = sc_recorded_sample(stmt, e->samples[i], e->lens[i]);

		if (place != NULL)
			place->count = e->counts[i];
	}
	stmt->observed = e->observed;
}

void
sc_workload_load(void)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext,
											  "scalecache workload file",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcxt = MemoryContextSwitchTo(cxt);
	DumpFile	dump;
	uint32		header[2];
	DumpEntry	entry;

	INIT_CRC32C(dump.crc);
	dump.file = AllocateFile(SC_DUMP_FILE, PG_BINARY_R);
	if (dump.file != NULL)
	{
		/* Query ids are not the same in another major version. */
		if (get(&dump, header, sizeof(header)) &&
			header[0] == SC_DUMP_MAGIC &&
			header[1] / 100 == PG_VERSION_NUM / 100)
		{
			while (read_dumped(&dump, &entry))
			{
				enter_dumped(&entry);
				MemoryContextReset(cxt);
			}
		}
		FreeFile(dump.file);
	}
	MemoryContextSwitchTo(oldcxt);
	MemoryContextDelete(cxt);
}

/* After a crash statements that were forgotten would be read from there again. */
void
sc_workload_remove_file(void)
{
	if (unlink(SC_DUMP_FILE) != 0 && errno != ENOENT)
		ereport(WARNING,
				(errcode_for_file_access(),
				 errmsg("could not remove file \"%s\": %m", SC_DUMP_FILE)));
}
