/*-------------------------------------------------------------------------
 *
 * workload.c
 *	  Recording what the server executes: statements by query id, in shared
 *	  memory, with counts, times, and the parameters of some executions.
 *
 * What must always hold:
 *
 * - The usual execution of a known statement takes one spinlock and nothing
 *	 else: it is found by a small table of the backend's own.
 *
 * - An entry's key is changed under both the lock, exclusively, and the
 *	 entry's mutex; so whoever holds either may compare it.  Counters are
 *	 under the mutex; texts and samples, which are in the area, under the
 *	 lock.
 *
 * - Memory is bounded: entries are an array, everything of variable size is
 *	 in an area that cannot grow.  Both are made room in by removing the
 *	 least used entries.
 *
 * - Nothing here makes a statement fail.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "executor/executor.h"
#include "executor/instrument.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "parser/scansup.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/queryjumble.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "advisor/named.h"
#include "advisor/queryid.h"
#include "advisor/recorded.h"
#include "advisor/workload.h"
#include "base/guc.h"

#define SC_LOCAL_SIZE		512 /* statements a backend finds by itself */
/*
 * What is as slow as no other is found among many; and it has to be that by
 * far, lest samples be taken of a statement that becomes ever slower.  What
 * was slow long ago is forgotten.
 */
#define SC_SLOWEST_AFTER	16
#define SC_SLOWER			1.25
#define SC_SLOWEST_DECAY	0.98	/* with each sample */
#define SC_LOOK_AGAIN		10000	/* executions after which the rate is read */
typedef struct StmtHash
{
	StmtKey		key;			/* must be first */
	int			index;
} StmtHash;

typedef struct LocalEntry
{
	uint64		queryid;
	Oid			userid;
	int			index;			/* -1: not to be recorded */
} LocalEntry;

/* What the meaning of a text depends on.  Of all, the values are kept. */
static const char *const setting_names[] = {
	"search_path", "DateStyle", "IntervalStyle", "TimeZone",
	"standard_conforming_strings"
};

bool		sc_workload_paused = false;

ScRecorded *sc_recorded = NULL;
static HTAB *shared_hash = NULL;
static LocalEntry local[SC_LOCAL_SIZE];
static int	countdown = 0;	/* executions until the next sample, or the */
static bool countdown_samples = false;	/* next look at the rate */

static shmem_request_hook_type prev_shmem_request = NULL;
static shmem_startup_hook_type prev_shmem_startup = NULL;
static ExecutorRun_hook_type prev_ExecutorRun = NULL;
static ProcessUtility_hook_type prev_ProcessUtility = NULL;
static post_parse_analyze_hook_type prev_post_parse_analyze = NULL;

PG_FUNCTION_INFO_V1(scalecache_reset_workload);

/*
 * Shared memory
 */

static Size
area_size(void)
{
	return (Size) sc_advisor_memory * 1024;
}

static Size
shared_size(void)
{
	return add_size(offsetof(ScRecorded, stmts),
					mul_size(sc_advisor_max_statements, sizeof(Stmt)));
}

static void
sc_shmem_request(void)
{
	if (prev_shmem_request)
		prev_shmem_request();
	RequestAddinShmemSpace(MAXALIGN(shared_size()));
	RequestAddinShmemSpace(MAXALIGN(area_size()));
	RequestAddinShmemSpace(hash_estimate_size(sc_advisor_max_statements,
											  sizeof(StmtHash)));
	RequestNamedLWLockTranche("scalecache_advisor", 2);
}

/*
 * The area.  Under the lock: shared to read, exclusive to change.
 */

static void
bytes_free(Bytes *bytes)
{
	uint32		at = bytes->first;

	while (at != 0)
	{
		Chunk	   *chunk = &sc_recorded->chunks[at];
		uint32		next = chunk->next;

		chunk->next = sc_recorded->free_chunk;
		sc_recorded->free_chunk = at;
		at = next;
	}
	bytes->first = 0;
	bytes->len = 0;
}

/* Result is in the current memory context; NULL for none. */
static char *
bytes_read(const Bytes *bytes)
{
	char	   *result;
	uint32		at;
	uint32		done = 0;

	if (bytes->first == 0)
		return NULL;
	result = (char *) palloc(bytes->len);
	for (at = bytes->first; at != 0; at = sc_recorded->chunks[at].next)
	{
		Chunk	   *chunk = &sc_recorded->chunks[at];
		uint32		n = Min(bytes->len - done, sizeof(chunk->data));

		memcpy(result + done, chunk->data, n);
		done += n;
	}
	return result;
}

static bool
bytes_begin_with(const Bytes *bytes, const char *data, uint32 len)
{
	uint32		at;
	uint32		done = 0;

	if (bytes->len < len)
		return false;
	for (at = bytes->first; at != 0 && done < len; at = sc_recorded->chunks[at].next)
	{
		Chunk	   *chunk = &sc_recorded->chunks[at];
		uint32		n = Min(len - done, sizeof(chunk->data));

		if (memcmp(data + done, chunk->data, n) != 0)
			return false;
		done += n;
	}
	return true;
}

static bool
bytes_equal(const Bytes *bytes, const char *data, uint32 len)
{
	return bytes->len == len && bytes_begin_with(bytes, data, len);
}

/* Copy bytes into the area; false when there is no room. */
static bool
bytes_store_noevict(Bytes *bytes, const char *data, uint32 len)
{
	uint32	   *link = &bytes->first;
	uint32		done = 0;

	bytes->first = 0;
	bytes->len = len;
	while (done < len)
	{
		uint32		at = sc_recorded->free_chunk;
		Chunk	   *chunk = &sc_recorded->chunks[at];
		uint32		n = Min(len - done, sizeof(chunk->data));

		if (at == 0)
		{
			bytes_free(bytes);
			return false;
		}
		sc_recorded->free_chunk = chunk->next;
		chunk->next = 0;
		*link = at;
		link = &chunk->next;
		memcpy(chunk->data, data + done, n);
		done += n;
	}
	return true;
}

/*
 * Entries.  All of these are called with the lock held exclusively.
 */

static void
clear_entry(Stmt *stmt)
{
	int			i;

	(void) hash_search(shared_hash, &stmt->key, HASH_REMOVE, NULL);
	SpinLockAcquire(&stmt->mutex);
	stmt->key.dbid = InvalidOid;
	stmt->key.queryid = 0;
	SpinLockRelease(&stmt->mutex);
	bytes_free(&stmt->text);
	bytes_free(&stmt->settings);
	for (i = 0; i < SC_SAMPLES; i++)
		bytes_free(&stmt->samples[i].data);
	sc_recorded->nfree++;
}

static int
compare_usage(const void *a, const void *b)
{
	double		x = sc_recorded->stmts[*(const int *) a].usage;
	double		y = sc_recorded->stmts[*(const int *) b].usage;

	return x < y ? -1 : (x > y ? 1 : 0);
}

/* Remove a twentieth of the entries, the least used ones. */
static void
evict(void)
{
	int		   *used = (int *) palloc(sizeof(int) * sc_advisor_max_statements);
	int			nused = 0;
	int			n;
	int			i;

	for (i = 0; i < sc_advisor_max_statements; i++)
	{
		if (!OidIsValid(sc_recorded->stmts[i].key.dbid))
			continue;
		sc_recorded->stmts[i].usage *= 0.99;
		used[nused++] = i;
	}
	qsort(used, nused, sizeof(int), compare_usage);
	n = Max(1, nused / 20);
	for (i = 0; i < n && i < nused; i++)
		clear_entry(&sc_recorded->stmts[used[i]]);
	pfree(used);
}

/* Copy bytes into the area, making room if need be; may fail. */
static bool
bytes_store(Bytes *bytes, const char *data, uint32 len)
{
	while (!bytes_store_noevict(bytes, data, len))
	{
		if (sc_recorded->nfree == sc_advisor_max_statements)
			return false;
		evict();
	}
	return true;
}

Stmt *
sc_recorded_find(StmtKey *key)
{
	StmtHash   *found = hash_search(shared_hash, key, HASH_FIND, NULL);

	return found ? &sc_recorded->stmts[found->index] : NULL;
}

/* A new entry with a text, or NULL. */
Stmt *
sc_recorded_make(StmtKey *key, const char *text, Size textlen,
				 const char *settings, Size settingslen)
{
	Bytes		textbytes;
	Bytes		settingsbytes = {0, 0};
	StmtHash   *hash;
	bool		found;
	int			i;

	if (sc_recorded->nfree == 0)
		evict();
	if (!bytes_store(&textbytes, text, textlen + 1))
		return NULL;
	(void) bytes_store_noevict(&settingsbytes, settings, settingslen);
	for (i = 0; i < sc_advisor_max_statements; i++)
	{
		Stmt	   *stmt = &sc_recorded->stmts[i];

		if (OidIsValid(stmt->key.dbid))
			continue;
		hash = hash_search(shared_hash, key, HASH_ENTER_NULL, &found);
		if (hash == NULL)
			break;
		hash->index = i;
		stmt->calls = 0;
		stmt->rows = 0;
		stmt->total_ms = 0;
		stmt->usage = 1;
		stmt->slowest_ms = 0;
		stmt->slowest = -1;
		stmt->first_seen = GetCurrentTimestamp();
		stmt->text = textbytes;
		stmt->settings = settingsbytes;
		stmt->observed = 0;
		memset(stmt->samples, 0, sizeof(stmt->samples));
		SpinLockAcquire(&stmt->mutex);
		stmt->key = *key;
		SpinLockRelease(&stmt->mutex);
		sc_recorded->nfree--;
		return stmt;
	}
	bytes_free(&textbytes);
	bytes_free(&settingsbytes);
	return NULL;
}

/*
 * The place of the samples that the next one can have, or NULL.  By chance, so
 * that each execution is as likely as any other to be among those kept; but
 * the slowest has a place of its own, which the next slowest takes.
 */
static Sample *
sample_place(Stmt *stmt, bool slowest)
{
	Sample	   *place = NULL;
	int			i;

	if (!slowest && pg_prng_double(&pg_global_prng_state) * stmt->observed >=
		SC_SAMPLES)
		return NULL;
	if (slowest && stmt->slowest >= 0 &&
		stmt->samples[stmt->slowest].count <= 1)
		return &stmt->samples[stmt->slowest];
	for (i = 0; i < SC_SAMPLES; i++)
	{
		if ((slowest || i != stmt->slowest) &&
			(place == NULL || stmt->samples[i].count < place->count))
			place = &stmt->samples[i];
	}
	if (slowest)
		return place;
	if (place->count > 1)
		place->count--;
	return place->count > 1 ? NULL : place;
}

/*
 * Keep a sampled execution: count it where it came before, fill a free
 * place, or replace one.  Result is where it is, or NULL.
 */
Sample *
sc_recorded_sample(Stmt *stmt, const char *data, uint32 len, bool slowest)
{
	uint32		hash = hash_bytes((const unsigned char *) data, len);
	Sample	   *place = NULL;
	int			i;

	stmt->observed++;
	for (i = 0; i < SC_SAMPLES; i++)
	{
		Sample	   *sample = &stmt->samples[i];

		if (sample->data.first == 0)
		{
			if (place == NULL)
				place = sample;
			continue;
		}
		if (sample->hash == hash && bytes_equal(&sample->data, data, len))
		{
			sample->count++;
			if (slowest)
				stmt->slowest = i;
			return sample;
		}
	}
	if (place == NULL)
	{
		place = sample_place(stmt, slowest);
		if (place == NULL)
			return NULL;
		bytes_free(&place->data);
		if (stmt->slowest == place - stmt->samples)
			stmt->slowest = -1;
	}
	if (!bytes_store_noevict(&place->data, data, len))
		return NULL;
	place->hash = hash;
	place->count = 1;
	if (slowest)
		stmt->slowest = place - stmt->samples;
	return place;
}

/*
 * Settings.  As bytes: the values, each with a final zero.
 */

static void
append_settings(StringInfo buf)
{
	int			i;

	for (i = 0; i < lengthof(setting_names); i++)
	{
		const char *value = GetConfigOption(setting_names[i], false, false);

		appendBinaryStringInfo(buf, value, strlen(value) + 1);
	}
}

/* The length of the settings that some bytes begin with; 0: none. */
static uint32
settings_length(const char *data, uint32 len)
{
	const char *at = data;
	int			i;

	for (i = 0; i < lengthof(setting_names); i++)
	{
		const char *end = memchr(at, '\0', len - (at - data));

		if (end == NULL)
			return 0;
		at = end + 1;
	}
	return at - data;
}

/* Set them, for the rest of the transaction level. */
void
sc_settings_apply(const char *settings)
{
	int			i;

	for (i = 0; i < lengthof(setting_names); i++)
	{
		if (strcmp(settings, GetConfigOption(setting_names[i], false,
											 false)) != 0)
			(void) set_config_option(setting_names[i], settings, PGC_USERSET,
									 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
									 false);
		settings += strlen(settings) + 1;
	}
	/* Who sent the text has been warned. */
	if (!standard_conforming_strings)
		(void) set_config_option("escape_string_warning", "off", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
								 false);
}

/*
 * Samples.  As bytes: 'p', int32 count, then of each parameter its type,
 * int32 length (-1 is null) and text; or 't', settings and a text; or 'q',
 * settings, int32 length and a text, with a 'p' sample after it.
 */

/* Append one value; false when it is too long to keep. */
static bool
append_value(StringInfo buf, ParamExternData *param)
{
	Oid			output;
	bool		isvarlena;
	char	   *text;
	int32		len = -1;

	appendBinaryStringInfo(buf, (char *) &param->ptype, sizeof(Oid));
	if (param->isnull || !OidIsValid(param->ptype))
	{
		appendBinaryStringInfo(buf, (char *) &len, sizeof(len));
		return true;
	}
	/* The statement may have dropped the type, by a function. */
	if (!get_typisdefined(param->ptype) ||
		get_typtype(param->ptype) == TYPTYPE_PSEUDO)
		return false;
	getTypeOutputInfo(param->ptype, &output, &isvarlena);
	if (isvarlena &&
		toast_raw_datum_size(param->value) > SC_VALUE_MAX)
		return false;
	text = OidOutputFunctionCall(output, param->value);
	len = strlen(text);
	if (len > SC_VALUE_MAX * 2)
		return false;
	appendBinaryStringInfo(buf, (char *) &len, sizeof(len));
	appendBinaryStringInfo(buf, text, len);
	return true;
}

static bool
sample_params(StringInfo buf, ParamListInfo params, ScNamedText *names)
{
	int32		n = names ? names->nparams : params->numParams;
	int			start = buf->len;
	int			i;

	appendStringInfoChar(buf, 'p');
	appendBinaryStringInfo(buf, (char *) &n, sizeof(n));
	for (i = 0; i < n; i++)
	{
		int			id = names ? names->paramids[i] : i + 1;
		ParamExternData workspace;
		ParamExternData *param;

		if (id < 1 || id > params->numParams)
			return false;
		if (params->paramFetch != NULL)
			param = params->paramFetch(params, id, true, &workspace);
		else
			param = &params->params[id - 1];
		if (!append_value(buf, param) || buf->len - start > SC_SAMPLE_MAX)
			return false;
	}
	return true;
}

static ScNamedText *
names_of(QueryDesc *qd)
{
	return sc_named_find(qd->plannedstmt->queryId, qd->sourceText,
					  qd->plannedstmt->stmt_location);
}

/*
 * Is a statement one of a function whose variables' places in the text have
 * been forgotten?  Nobody could parse it.
 */
static bool
is_nameless(QueryDesc *qd, ScNamedText *names)
{
	return names == NULL && qd->params != NULL &&
		qd->params->paramFetch != NULL;
}

/*
 * The length of a text without a comment at its end, as clients put it there to
 * say who asks: it differs where the statement does not.  What looks like one but
 * may be a part of another stays.
 */
static int
uncommented_length(const char *text, int len)
{
	int			at = len - 2;

	if (len < 4 || strncmp(text + at, "*/", 2) != 0)
		return len;
	while (--at > 0)
	{
		if (strncmp(text + at, "*/", 2) == 0 ||
			strncmp(text + at, "--", 2) == 0)
			return len;
		if (strncmp(text + at, "/*", 2) == 0)
			break;
	}
	while (at > 0 && scanner_isspace(text[at - 1]))
		at--;
	return at > 0 ? at : len;
}

/* The text of a statement, without those around it. */
static const char *
statement_text(QueryDesc *qd, int *len)
{
	ScNamedText *names = names_of(qd);
	int			location = qd->plannedstmt->stmt_location;
	const char *text;

	if (names != NULL)
	{
		*len = strlen(names->text);
		return names->text;
	}
	*len = qd->plannedstmt->stmt_len;
	text = CleanQuerytext(qd->sourceText, &location, len);
	*len = uncommented_length(text, *len);
	return text;
}

/* Is it the text that an entry has?  With the lock held. */
static bool
is_text(Stmt *stmt, const char *text, int len)
{
	return stmt->text.len == len + 1 &&
		bytes_begin_with(&stmt->text, text, len);
}

static bool
is_own_text(Stmt *stmt, const char *text, int len)
{
	bool		result;

	LWLockAcquire(sc_recorded->lock, LW_SHARED);
	result = is_text(stmt, text, len);
	LWLockRelease(sc_recorded->lock);
	return result;
}

/*
 * The id knows no constants, so this execution may have had others beside its
 * parameters than the statement's text.  Of long texts just the parameters are
 * kept.
 */
static void
sample_text(StringInfo buf, const char *text, int32 len)
{
	if (len > SC_SAMPLE_MAX)
		return;
	appendStringInfoChar(buf, 'q');
	append_settings(buf);
	if (buf->len > SC_SETTINGS_MAX)
	{
		resetStringInfo(buf);
		return;
	}
	appendBinaryStringInfo(buf, (char *) &len, sizeof(len));
	appendBinaryStringInfo(buf, text, len);
}

static void
take_sample(QueryDesc *qd, Stmt *stmt, StmtKey *key, bool slowest)
{
	MemoryContext tmpcxt = AllocSetContextCreate(CurrentMemoryContext,
												 "scalecache sample",
												 ALLOCSET_SMALL_SIZES);
	MemoryContext oldcxt = MemoryContextSwitchTo(tmpcxt);
	ScNamedText *names = names_of(qd);
	StringInfoData buf;
	int			len;
	const char *text = statement_text(qd, &len);
	bool		own = is_own_text(stmt, text, len);
	bool		ok;

	initStringInfo(&buf);
	if (is_nameless(qd, names))
		ok = false;
	else if (qd->params != NULL && (names != NULL || qd->params->numParams > 0))
	{
		/* Whoever plans with them may have another DateStyle. */
		int			nestlevel;

		if (!own)
			sample_text(&buf, text, len);
		nestlevel = sc_portable_begin();
		ok = sample_params(&buf, qd->params, names);
		AtEOXact_GUC(false, nestlevel);
	}
	else
	{
		appendStringInfoChar(&buf, 't');
		append_settings(&buf);
		ok = buf.len <= SC_SETTINGS_MAX && len <= SC_SAMPLE_MAX;
		if (ok)
			appendBinaryStringInfo(&buf, text, len);
	}
	if (ok)
	{
		LWLockAcquire(sc_recorded->lock, LW_EXCLUSIVE);
		if (memcmp(&stmt->key, key, sizeof(StmtKey)) == 0 &&
			is_text(stmt, text, len) == own)
		{
			SpinLockAcquire(&stmt->mutex);
			stmt->slowest_ms *= SC_SLOWEST_DECAY;
			SpinLockRelease(&stmt->mutex);
			(void) sc_recorded_sample(stmt, buf.data, buf.len, slowest);
		}
		LWLockRelease(sc_recorded->lock);
	}
	MemoryContextSwitchTo(oldcxt);
	MemoryContextDelete(tmpcxt);
}

/*
 * Recording.
 */

/* What the statement itself has dropped is not. */
static bool
is_temporary(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	result = ((Form_pg_class) GETSTRUCT(tuple))->relpersistence ==
		RELPERSISTENCE_TEMP;
	ReleaseSysCache(tuple);
	return result;
}

/*
 * Does a statement touch anything an index could be advised for?  Of one with
 * a temporary table nobody else could make anything, but might take it for one
 * with another table of that name.
 */
static bool
has_user_relation(PlannedStmt *plan)
{
	bool		result = false;
	ListCell   *lc;

	foreach(lc, plan->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind != RTE_RELATION || rte->relid < FirstNormalObjectId)
			continue;
		if (is_temporary(rte->relid))
			return false;
		result = true;
	}
	return result;
}

/* Where a backend remembers a statement, or another one. */
static LocalEntry *
local_entry(uint64 queryid)
{
	return &local[(queryid ^ (queryid >> 32)) % SC_LOCAL_SIZE];
}

/*
 * The index of a statement's entry, made if need be, or -1; and is that so for
 * all of its executions?
 */
static int
lookup(QueryDesc *qd, StmtKey *key, bool *always)
{
	Stmt	   *stmt;
	const char *text;
	int			len;

	*always = true;
	if (!has_user_relation(qd->plannedstmt))
		return -1;
	LWLockAcquire(sc_recorded->lock, LW_SHARED);
	stmt = sc_recorded_find(key);
	LWLockRelease(sc_recorded->lock);
	if (stmt == NULL)
	{
		char	   *copy;
		StringInfoData settings;

		if (is_nameless(qd, names_of(qd)))
			return -1;
		text = statement_text(qd, &len);
		*always = false;
		if (len <= 0 || len > SC_TEXT_MAX)
			return -1;
		copy = pnstrdup(text, len);
		initStringInfo(&settings);
		append_settings(&settings);
		if (settings.len > SC_SETTINGS_MAX)
			settings.len = 0;
		LWLockAcquire(sc_recorded->lock, LW_EXCLUSIVE);
		stmt = sc_recorded_find(key);
		if (stmt == NULL)
			stmt = sc_recorded_make(key, copy, len, settings.data, settings.len);
		LWLockRelease(sc_recorded->lock);
		pfree(copy);
		pfree(settings.data);
	}
	return stmt ? stmt - sc_recorded->stmts : -1;
}

/*
 * After how many executions one is sampled again, by chance.  Not long ahead:
 * the rate may be changed.
 */
static void
count_anew(void)
{
	double		n = SC_LOOK_AGAIN + 1;

	if (sc_advisor_sample_rate > 0)
		n = 1 + floor(log(1 - pg_prng_double(&pg_global_prng_state)) /
					  log1p(-sc_advisor_sample_rate));
	countdown_samples = n <= SC_LOOK_AGAIN;
	countdown = countdown_samples ? (int) n : SC_LOOK_AGAIN;
}

/* Is it the turn of this execution to be sampled? */
static bool
count_down(void)
{
	bool		due;

	if (countdown == 0)
		count_anew();
	if (--countdown > 0)
		return false;
	due = countdown_samples;
	count_anew();
	return due;
}

static void
note(QueryDesc *qd, double ms, bool first)
{
	StmtKey		key;
	LocalEntry *entry;
	int			tries;

	key.queryid = qd->plannedstmt->queryId;
	key.dbid = MyDatabaseId;
	key.userid = GetUserId();
	entry = local_entry(key.queryid);

	for (tries = 0; tries < 2; tries++)
	{
		Stmt	   *stmt;
		uint64		calls = 0;
		bool		slowest = false;
		bool		ok;

		if (entry->queryid != key.queryid || entry->userid != key.userid)
		{
			bool		always;

			entry->index = lookup(qd, &key, &always);
			entry->queryid = entry->index >= 0 || always ? key.queryid : 0;
			entry->userid = key.userid;
		}
		if (entry->index < 0)
			return;
		stmt = &sc_recorded->stmts[entry->index];

		SpinLockAcquire(&stmt->mutex);
		ok = stmt->key.queryid == key.queryid &&
			stmt->key.userid == key.userid && stmt->key.dbid == key.dbid;
		if (ok)
		{
			if (first)
			{
				calls = ++stmt->calls;
				stmt->usage++;
				if (ms > stmt->slowest_ms && calls > SC_SLOWEST_AFTER)
				{
					slowest = true;
					stmt->slowest_ms = ms * SC_SLOWER;
				}
			}
			stmt->total_ms += ms;
			stmt->rows += qd->estate->es_processed;
		}
		SpinLockRelease(&stmt->mutex);
		if (!ok)
		{
			/* It has been removed. */
			entry->queryid = 0;
			continue;
		}
		if (first &&
			(count_down() || slowest || (calls & (calls - 1)) == 0))
			take_sample(qd, stmt, &key, slowest);
		return;
	}
}

static void
sc_ExecutorRun(QueryDesc *qd, ScanDirection direction, uint64 count,
			   bool once)
{
	ExecutorRun_hook_type next = prev_ExecutorRun ? prev_ExecutorRun :
		standard_ExecutorRun;
	bool		first = !qd->already_executed;
	instr_time	start;
	instr_time	end;

	if (!sc_advisor_record || sc_workload_paused || sc_recorded == NULL ||
		qd->plannedstmt->queryId == 0 || IsParallelWorker())
	{
		next(qd, direction, count, once);
		return;
	}
	INSTR_TIME_SET_CURRENT(start);
	next(qd, direction, count, once);
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	note(qd, INSTR_TIME_GET_MILLISEC(end), first);
}

/*
 * COPY FROM, which is no query but may write more than all others.  It has no
 * id either unless the server gives one to every statement.
 */
static void
note_copy(uint64 queryid, const char *text, int len, double ms, uint64 rows)
{
	StmtKey		key;
	Stmt	   *stmt;
	char	   *copy;
	StringInfoData settings;

	if (len <= 0 || len > SC_TEXT_MAX)
		return;
	key.queryid = queryid != 0 ? queryid :
		hash_bytes_extended((const unsigned char *) text, len, 0) | 1;
	key.dbid = MyDatabaseId;
	key.userid = GetUserId();
	copy = pnstrdup(text, len);
	initStringInfo(&settings);
	append_settings(&settings);
	if (settings.len > SC_SETTINGS_MAX)
		settings.len = 0;
	LWLockAcquire(sc_recorded->lock, LW_EXCLUSIVE);
	stmt = sc_recorded_find(&key);
	if (stmt == NULL)
		stmt = sc_recorded_make(&key, copy, len, settings.data, settings.len);
	if (stmt != NULL)
	{
		SpinLockAcquire(&stmt->mutex);
		stmt->calls++;
		stmt->usage++;
		stmt->total_ms += ms;
		stmt->rows += rows;
		SpinLockRelease(&stmt->mutex);
	}
	LWLockRelease(sc_recorded->lock);
	pfree(copy);
	pfree(settings.data);
}

static void
sc_ProcessUtility(PlannedStmt *pstmt, const char *source, bool readonly,
				  ProcessUtilityContext context, ParamListInfo params,
				  QueryEnvironment *env, DestReceiver *dest,
				  QueryCompletion *qc)
{
	ProcessUtility_hook_type next = prev_ProcessUtility ?
		prev_ProcessUtility : standard_ProcessUtility;
	CopyStmt   *copy = (CopyStmt *) pstmt->utilityStmt;
	uint64		queryid = pstmt->queryId;
	int			location = pstmt->stmt_location;
	int			len = pstmt->stmt_len;
	bool		temporary;
	instr_time	start;
	instr_time	end;

	if (!IsA(copy, CopyStmt) || !copy->is_from || copy->relation == NULL ||
		qc == NULL || !sc_advisor_record || sc_workload_paused ||
		sc_recorded == NULL || compute_query_id == COMPUTE_QUERY_ID_OFF)
	{
		next(pstmt, source, readonly, context, params, env, dest, qc);
		return;
	}
	/* Triggers may change by what path, and by whom, it would be found then. */
	temporary = is_temporary(RangeVarGetRelid(copy->relation, NoLock, true));
	INSTR_TIME_SET_CURRENT(start);
	next(pstmt, source, readonly, context, params, env, dest, qc);
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	if (temporary)
		return;
	source = CleanQuerytext(source, &location, &len);
	/* Of the last statement it is all that follows. */
	while (len > 0 && (source[len - 1] == ';' ||
					   scanner_isspace(source[len - 1])))
		len--;
	note_copy(queryid, source, len, INSTR_TIME_GET_MILLISEC(end),
			  qc->nprocessed);
}

/*
 * The query of a cursor or of a new table, to which the server, other than to
 * that of EXPLAIN, gives no id.  NULL for other utility statements.  Of all
 * of these the text is the whole statement's.
 */
static Query *
inner_query(Query *query)
{
	Node	   *stmt = query->utilityStmt;
	Node	   *inner = NULL;

	if (IsA(stmt, DeclareCursorStmt))
		inner = ((DeclareCursorStmt *) stmt)->query;
	else if (IsA(stmt, CreateTableAsStmt))
		inner = ((CreateTableAsStmt *) stmt)->query;
	else if (IsA(stmt, ExplainStmt))
		inner = ((ExplainStmt *) stmt)->query;
	if (inner == NULL || !IsA(inner, Query))
		return NULL;
	((Query *) inner)->stmt_location = query->stmt_location;
	((Query *) inner)->stmt_len = query->stmt_len;
	if (((Query *) inner)->commandType == CMD_UTILITY)
		(void) inner_query((Query *) inner);
	if (IsA(stmt, ExplainStmt) ||
		((Query *) inner)->commandType == CMD_UTILITY)
		return NULL;
	return (Query *) inner;
}

static void
sc_post_parse_analyze(ParseState *pstate, Query *query, JumbleState *jstate)
{
	if (prev_post_parse_analyze)
		prev_post_parse_analyze(pstate, query, jstate);

	if (!sc_advisor_record || sc_recorded == NULL)
		return;
	if (query->commandType == CMD_UTILITY)
		query = inner_query(query);
	if (query == NULL)
		return;
	/* Whoever sets this to off may have ids of another kind. */
	if (query->queryId == 0 && compute_query_id != COMPUTE_QUERY_ID_OFF)
		sc_queryid_set(query, pstate->p_sourcetext);

	if (query->queryId != 0 &&
		(pstate->p_pre_columnref_hook != NULL ||
		 pstate->p_post_columnref_hook != NULL) &&
		pstate->p_sourcetext != NULL &&
		sc_named_keep(query, pstate->p_sourcetext))
	{
		/* It may have been executed when the names were not known. */
		local_entry(query->queryId)->queryid = 0;
	}
}

/*
 * Reading
 */

bool
sc_workload_available(void)
{
	return sc_recorded != NULL;
}

/* False: these are not the bytes of a sample. */
static bool
read_sample(ScExecution *execution, const char *data, uint32 len)
{
	const char *end = data + len;
	int32		n;
	int			i;

	if (len > 0 && data[0] == 't')
	{
		uint32		n = settings_length(data + 1, len - 1);

		if (n == 0)
			return false;
		execution->settings = (char *) memcpy(palloc(n), data + 1, n);
		execution->text = pnstrdup(data + 1 + n, len - 1 - n);
		return true;
	}
	if (len > 0 && data[0] == 'q')
	{
		uint32		n = settings_length(data + 1, len - 1);
		int32		textlen;

		data += 1 + n;
		if (n == 0 || end - data < sizeof(textlen))
			return false;
		execution->settings = (char *) memcpy(palloc(n), data - n, n);
		memcpy(&textlen, data, sizeof(textlen));
		data += sizeof(textlen);
		if (textlen < 0 || textlen > end - data)
			return false;
		execution->text = pnstrdup(data, textlen);
		data += textlen;
	}
	if (end - data < 1 + sizeof(n) || data[0] != 'p')
		return false;
	data++;
	memcpy(&n, data, sizeof(n));
	data += sizeof(n);
	if (n < 0 || n > (end - data) / (sizeof(Oid) + sizeof(int32)))
		return false;
	execution->nparams = n;
	execution->types = (Oid *) palloc0(sizeof(Oid) * Max(1, n));
	execution->values = (char **) palloc0(sizeof(char *) * Max(1, n));
	for (i = 0; i < n; i++)
	{
		int32		vallen;

		if (end - data < sizeof(Oid) + sizeof(vallen))
			return false;
		memcpy(&execution->types[i], data, sizeof(Oid));
		data += sizeof(Oid);
		memcpy(&vallen, data, sizeof(vallen));
		data += sizeof(vallen);
		if (vallen < 0)
			continue;
		if (end - data < vallen)
			return false;
		execution->values[i] = pnstrdup(data, vallen);
		data += vallen;
	}
	return true;
}

/*
 * How often each execution comes.  Those kept by chance are like those that
 * are not; the slowest was sampled once because it was that, of all calls, and
 * then by chance, too.
 */
static void
set_parts(ScStatement *stmt, int slowest, uint64 observed)
{
	double		all = 0;
	double		part = 0;
	int			i;

	for (i = 0; i < stmt->nexecutions; i++)
		all += stmt->executions[i].count;
	if (slowest >= 0 && all > stmt->executions[slowest].count)
	{
		double		sampled = Max(all, (double) observed);

		part = (stmt->executions[slowest].count - 1) / sampled +
			1 / Max(sampled, (double) stmt->calls);
		all -= stmt->executions[slowest].count;
	}
	else
		slowest = -1;
	for (i = 0; i < stmt->nexecutions; i++)
		stmt->executions[i].part = i == slowest ? part :
			(1 - part) * stmt->executions[i].count / all;
}

static ScStatement *
read_entry(Stmt *stmt)
{
	ScStatement *result = (ScStatement *) palloc0(sizeof(ScStatement));
	int			slowest = -1;
	int			i;

	SpinLockAcquire(&stmt->mutex);
	result->calls = stmt->calls;
	result->rows = stmt->rows;
	result->total_ms = stmt->total_ms;
	SpinLockRelease(&stmt->mutex);
	result->queryid = stmt->key.queryid;
	result->userid = stmt->key.userid;
	result->first_seen = stmt->first_seen;
	result->text = bytes_read(&stmt->text);
	result->settings = bytes_read(&stmt->settings);
	if (result->settings != NULL &&
		settings_length(result->settings, stmt->settings.len) == 0)
		result->settings = NULL;
	result->executions = (ScExecution *)
		palloc0(sizeof(ScExecution) * SC_SAMPLES);
	for (i = 0; i < SC_SAMPLES; i++)
	{
		Sample	   *sample = &stmt->samples[i];
		ScExecution *execution = &result->executions[result->nexecutions];

		if (sample->data.first == 0)
			continue;
		execution->count = sample->count;
		if (!read_sample(execution, bytes_read(&sample->data),
						 sample->data.len))
		{
			memset(execution, 0, sizeof(*execution));
			continue;
		}
		if (i == stmt->slowest)
			slowest = result->nexecutions;
		result->nexecutions++;
	}
	set_parts(result, slowest, stmt->observed);
	return result;
}

static int
compare_statements(const ListCell *a, const ListCell *b)
{
	const ScStatement *x = (const ScStatement *) lfirst(a);
	const ScStatement *y = (const ScStatement *) lfirst(b);

	if (x->queryid != y->queryid)
		return x->queryid < y->queryid ? -1 : 1;
	return x->userid < y->userid ? -1 : (x->userid > y->userid ? 1 : 0);
}

/*
 * The statements recorded in this database, by query id; of one user alone
 * unless that is InvalidOid.  List of ScStatement, in the current context.
 */
List *
sc_workload_list(Oid onlyuser)
{
	List	   *result = NIL;
	int			i;

	if (sc_recorded == NULL)
		return NIL;
	LWLockAcquire(sc_recorded->lock, LW_SHARED);
	for (i = 0; i < sc_advisor_max_statements; i++)
	{
		Stmt	   *stmt = &sc_recorded->stmts[i];

		if (stmt->key.dbid == MyDatabaseId &&
			(!OidIsValid(onlyuser) || stmt->key.userid == onlyuser))
			result = lappend(result, read_entry(stmt));
	}
	LWLockRelease(sc_recorded->lock);
	list_sort(result, compare_statements);
	return result;
}

/* reset_workload(): forget this database's statements */
Datum
scalecache_reset_workload(PG_FUNCTION_ARGS)
{
	int			i;

	if (sc_recorded == NULL)
		PG_RETURN_VOID();
	LWLockAcquire(sc_recorded->lock, LW_EXCLUSIVE);
	for (i = 0; i < sc_advisor_max_statements; i++)
	{
		if (sc_recorded->stmts[i].key.dbid == MyDatabaseId)
			clear_entry(&sc_recorded->stmts[i]);
	}
	LWLockRelease(sc_recorded->lock);
	sc_workload_forget_file();
	PG_RETURN_VOID();
}

static void
init_shared(void)
{
	LWLockPadded *locks;
	uint32		nchunks = area_size() / SC_CHUNK;
	uint32		k;
	int			i;

	memset(sc_recorded, 0, offsetof(ScRecorded, stmts));
	locks = GetNamedLWLockTranche("scalecache_advisor");
	sc_recorded->lock = &locks[0].lock;
	sc_recorded->file_lock = &locks[1].lock;
	sc_recorded->nfree = sc_advisor_max_statements;
	for (i = 0; i < sc_advisor_max_statements; i++)
	{
		memset(&sc_recorded->stmts[i], 0, sizeof(Stmt));
		SpinLockInit(&sc_recorded->stmts[i].mutex);
	}
	sc_recorded->chunks = (Chunk *) ShmemAlloc(area_size());
	for (k = nchunks - 1; k > 0; k--)
	{
		sc_recorded->chunks[k].next = sc_recorded->free_chunk;
		sc_recorded->free_chunk = k;
	}
	sc_workload_load();
}

static void
sc_shmem_startup(void)
{
	HASHCTL		ctl;
	bool		found;

	if (prev_shmem_startup)
		prev_shmem_startup();

	sc_recorded = NULL;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	ctl.keysize = sizeof(StmtKey);
	ctl.entrysize = sizeof(StmtHash);
	shared_hash = ShmemInitHash("scalecache workload index",
								sc_advisor_max_statements,
								sc_advisor_max_statements, &ctl,
								HASH_ELEM | HASH_BLOBS);
	sc_recorded = ShmemInitStruct("scalecache workload", shared_size(), &found);
	if (!found)
		init_shared();
	LWLockRelease(AddinShmemInitLock);

	if (!IsUnderPostmaster)
		on_shmem_exit(sc_workload_dump, (Datum) 0);
}

void
sc_workload_init(void)
{
	if (IsBinaryUpgrade)
		return;
	prev_shmem_request = shmem_request_hook;
	shmem_request_hook = sc_shmem_request;
	prev_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = sc_shmem_startup;
	prev_ExecutorRun = ExecutorRun_hook;
	ExecutorRun_hook = sc_ExecutorRun;
	prev_ProcessUtility = ProcessUtility_hook;
	ProcessUtility_hook = sc_ProcessUtility;
	prev_post_parse_analyze = post_parse_analyze_hook;
	post_parse_analyze_hook = sc_post_parse_analyze;
}
