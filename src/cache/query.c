/*
 * query.c: the cache from SQL.
 *
 * The cache is never in the way: whatever is wrong with it, cached_query runs
 * the query.  Memory is asked first, then Redis.  What a transaction that has
 * written anything reads may be its own, so nothing of that is kept.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "parser/parser.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/attempt.h"
#include "base/position.h"
#include "cache/cache.h"
#include "cache/link.h"
#include "cache/memory.h"
#include "cache/session.h"

#define TRIES	3				/* to get the value that somebody else loads */

PG_FUNCTION_INFO_V1(scalecache_cache_get);
PG_FUNCTION_INFO_V1(scalecache_cache_set);
PG_FUNCTION_INFO_V1(scalecache_cache_delete);
PG_FUNCTION_INFO_V1(scalecache_cached_query);
PG_FUNCTION_INFO_V1(scalecache_cache_stats);

/* ---- arguments ---- */

static void
check_key(text *key)
{
	if (VARSIZE_ANY_EXHDR(key) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cache key must not be empty"),
				 errdetail("Values are found by their keys."),
				 errhint("Give what the value is stored under.")));
	if (VARSIZE_ANY_EXHDR(key) > SC_STRING_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("cache key is longer than %d bytes", SC_STRING_MAX),
				 errdetail("Redis has none that are longer."),
				 errhint("Use a hash of it.")));
}

/* The argument's key; an error when it is null. */
static text *
key_argument(FunctionCallInfo fcinfo)
{
	text	   *key;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("cache key must not be null"),
				 errdetail("Values are found by their keys."),
				 errhint("Give what the value is stored under.")));
	key = PG_GETARG_TEXT_PP(0);
	check_key(key);
	return key;
}

/* Microseconds; 0 for null: the value does not expire. */
static int64
ttl_argument(FunctionCallInfo fcinfo, int n)
{
	Interval   *ttl;
	int64		us;

	if (PG_ARGISNULL(n))
		return 0;
	ttl = PG_GETARG_INTERVAL_P(n);
	us = sc_interval_us(ttl);
	if (us <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("ttl of a cached value must be positive"),
				 errdetail("The value would have expired before it is stored."),
				 errhint("Use null for a value that does not expire.")));
	return us;
}

/* ---- by hand ---- */

/*
 * A result of cached_query in Redis is a JSON object that says whose it is.
 * Values set by hand never look so.
 */
static const char result_mark[] = "{\"scalecache\":\"result\",\"of\":";

static bool
is_result(const char *value, uint32 length)
{
	return length >= strlen(result_mark) &&
		memcmp(value, result_mark, strlen(result_mark)) == 0;
}

/*
 * Ask Redis for a key that is not in memory.  A hit is as new as every commit
 * that is visible, or it is none; *clock goes with it into memory.
 */
static ScSessionReply
ask_redis(const char *key, uint32 keylen, bool lease, char **value,
		  uint32 *length, int64 *ttl, uint64 *clock)
{
	ScSessionReply reply;

	if (!sc_session_ready(clock) || !sc_memory_fresh(key, keylen, NULL, *clock))
		return SC_SESSION_FAILED;
	reply = sc_session_get(key, keylen, lease, value, length, ttl);
	if (reply == SC_SESSION_HIT && !sc_memory_fresh(key, keylen, NULL, *clock))
		return SC_SESSION_FAILED;
	return reply;
}

Datum
scalecache_cache_get(PG_FUNCTION_ARGS)
{
	text	   *key = key_argument(fcinfo);
	const char *name = VARDATA_ANY(key);
	uint32		namelen = VARSIZE_ANY_EXHDR(key);
	char	   *value;
	uint32		length;
	int64		ttl;
	uint64		clock;

	if (!sc_memory_usable() || sc_cache_wrote_key(name, namelen))
		PG_RETURN_NULL();
	switch (sc_memory_get(name, namelen, SC_OWNER_ANY, NULL, NULL, &value, &length))
	{
		case SC_HIT:
			PG_RETURN_TEXT_P(cstring_to_text_with_len(value, length));
		case SC_BYPASS:
			PG_RETURN_NULL();
		default:
			break;
	}
	if (ask_redis(name, namelen, false, &value, &length, &ttl, &clock) != SC_SESSION_HIT ||
		is_result(value, length))
		PG_RETURN_NULL();
	(void) sc_memory_put(name, namelen, SC_OWNER_ANY, value, length, ttl, NULL, clock);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(value, length));
}

/*
 * Redis first: what it refuses, or may not have heard of, memory must not
 * keep in front of what Redis has.
 */
static bool
set_in_redis(const char *key, uint32 keylen, const char *value, uint32 length,
			 int64 ttl)
{
	uint64		clock;

	if (length > SC_SESSION_VALUE_MAX || is_result(value, length) ||
		!sc_session_ready(&clock))
		return false;
	switch (sc_session_fill(key, keylen, value, length, ttl, GetActiveSnapshot()))
	{
		case SC_SESSION_HIT:
			return true;
		case SC_SESSION_FAILED:
			/* It may be there, or not. */
			(void) sc_memory_delete(key, keylen);
			return false;
		default:
			return false;
	}
}

/* True when the value was taken. */
Datum
scalecache_cache_set(PG_FUNCTION_ARGS)
{
	text	   *key = key_argument(fcinfo);
	int64		ttl = ttl_argument(fcinfo, 2);
	text	   *value;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("cached value must not be null"),
				 errdetail("Null is what cache_get returns for a key without a value."),
				 errhint("Use scalecache.cache_delete to remove one.")));
	value = PG_GETARG_TEXT_PP(1);
	if (VARSIZE_ANY_EXHDR(value) > SC_STRING_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("cached value is longer than %d bytes", SC_STRING_MAX),
				 errdetail("Redis has none that are longer."),
				 errhint("Store it in parts.")));
	if (!sc_memory_usable() || TransactionIdIsValid(GetTopTransactionIdIfAny()))
		PG_RETURN_BOOL(false);
	if (sc_redis_url[0] != '\0')
	{
		if (!set_in_redis(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key),
						  VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), ttl))
			PG_RETURN_BOOL(false);
		/* If memory has no room for it, the former one must go. */
		if (!sc_memory_put(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key), SC_OWNER_ANY,
						   VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), ttl,
						   GetActiveSnapshot(), 0))
			(void) sc_memory_delete(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key));
		PG_RETURN_BOOL(true);
	}
	PG_RETURN_BOOL(sc_memory_put(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key), SC_OWNER_ANY,
								 VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), ttl,
								 GetActiveSnapshot(), 0));
}

/*
 * Keys that were deleted by hand cannot give way to their rule's epoch, so they
 * are refused when the queue is far above its limit.
 */
static void
check_queue(void)
{
	ScRedisStatus status;

	sc_cache_get_status(&status);
	if (sc_redis_url[0] == '\0' || status.connected ||
		sc_outbox_size() / 2 <= (int64) sc_queue_limit * 1024)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("too many keys wait to be deleted"),
			 errdetail("Redis is away, and the queue is twice as large as scalecache.queue_limit."),
			 errhint("Try again when Redis is back, or raise scalecache.queue_limit.")));
}

/*
 * Gone from memory now, and from Redis when this transaction has committed.
 * Returns how many were in memory.
 */
Datum
scalecache_cache_delete(PG_FUNCTION_ARGS)
{
	Datum	   *keys;
	bool	   *nulls;
	int			n;
	int64		found = 0;

	if (PG_ARGISNULL(0))
		PG_RETURN_INT64(0);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT,
					  &keys, &nulls, &n);
	PreventCommandIfReadOnly("cache_delete()");
	PreventCommandIfParallelMode("cache_delete()");
	check_queue();
	for (int i = 0; i < n; i++)
	{
		text	   *key;

		if (nulls[i])
			continue;
		key = DatumGetTextPP(keys[i]);
		check_key(key);
		if (VARSIZE_ANY_EXHDR(key) > SC_KEY_MAX)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("key to be deleted is longer than %d bytes", SC_KEY_MAX),
					 errdetail("It has to fit the queue."),
					 errhint("Delete it in Redis.")));
		if (sc_memory_usable() &&
			sc_memory_delete(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key)))
			found++;
		sc_cache_add_delete(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key));
	}
	PG_RETURN_INT64(found);
}

/* ---- cache-aside in one call ---- */

/*
 * The query without what may come after it.  It is to stand in brackets, so
 * it must be exactly one, and one that returns rows.
 */
static char *
check_query(const char *query)
{
	ErrorContextCallback callback = {error_context_stack, sc_text_error_callback, (void *) query};
	List	   *raw;
	RawStmt    *stmt;

	error_context_stack = &callback;
	raw = raw_parser(query, RAW_PARSE_DEFAULT);
	error_context_stack = callback.previous;
	if (list_length(raw) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("cached query must be one SELECT"),
				 errdetail("It has %d statements.", list_length(raw)),
				 errhint("Cache each query under a key of its own.")));
	stmt = linitial_node(RawStmt, raw);
	if (!IsA(stmt->stmt, SelectStmt) || ((SelectStmt *) stmt->stmt)->intoClause)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cached query must be one SELECT"),
				 errdetail("Only what SELECT, VALUES or TABLE return can be kept."),
				 errhint("Run other statements by themselves.")));
	return stmt->stmt_len > 0 ?
		pnstrdup(query + stmt->stmt_location, stmt->stmt_len) :
		pstrdup(query + stmt->stmt_location);
}

/* Run the query with the active snapshot; the rows as one jsonb array. */
static Jsonb *
run_query(const char *query)
{
	MemoryContext cxt = CurrentMemoryContext;
	MemoryContext old;
	StringInfoData sql;
	bool		isnull;
	Datum		d;
	Jsonb	   *result;

	initStringInfo(&sql);
	appendStringInfo(&sql,
					 "SELECT coalesce(pg_catalog.jsonb_agg(q.*), '[]'::pg_catalog.jsonb) FROM (\n%s\n) q",
					 check_query(query));
	SPI_connect();
	if (SPI_execute(sql.data, true, 0) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "unexpected result of \"%s\"", sql.data);
	d = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	old = MemoryContextSwitchTo(cxt);
	result = (Jsonb *) PG_DETOAST_DATUM_COPY(d);
	MemoryContextSwitchTo(old);
	SPI_finish();
	return result;
}

/* ---- results in Redis ---- */

/* What a result of the current role begins with. */
static void
append_mark(StringInfo buf)
{
	appendStringInfoString(buf, result_mark);
	/* Numbers, as who gets a name again is another role. */
	appendStringInfo(buf, "\"%s/%u\",\"rows\":", sc_link_source_id(), GetUserId());
}

/*
 * Redis is for roles that may reach its keys by hand.  Others would get at
 * what is not theirs by choosing a key.
 */
static bool
may_use_redis(void)
{
	static const Oid text_text_interval[] = {TEXTOID, TEXTOID, INTERVALOID};
	List	   *name = list_make2(makeString("scalecache"), makeString("cache_set"));
	Oid			function = LookupFuncName(name, 3, text_text_interval, true);

	return OidIsValid(function) &&
		pg_proc_aclcheck(function, GetUserId(), ACL_EXECUTE) == ACLCHECK_OK;
}

typedef struct Rows
{
	char	   *text;
	Jsonb	   *jsonb;			/* out */
} Rows;

static void
read_rows(void *arg)
{
	Rows	   *rows = arg;

	rows->jsonb = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(rows->text)));
}

/* The rows as jsonb; NULL when they are none. */
static Jsonb *
parse_rows(char *text)
{
	Rows		rows = {text};
	ErrorData  *error = sc_attempt(read_rows, &rows, true);

	if (error && !sc_error_is_harmless(error->sqlerrcode))
		ReThrowError(error);
	return error ? NULL : rows.jsonb;
}

/*
 * A result of this role's from Redis, which is kept in memory too, or NULL.
 * *fill says that one may be stored there: nothing else is under the key.
 */
static Jsonb *
fetch_from_redis(text *key, int64 ttl, bool *fill)
{
	const char *name = VARDATA_ANY(key);
	uint32		namelen = VARSIZE_ANY_EXHDR(key);
	StringInfoData mark;
	char	   *value;
	uint32		length;
	int64		left;
	uint64		clock;
	Jsonb	   *result;

	*fill = false;
	switch (ask_redis(name, namelen, true, &value, &length, &left, &clock))
	{
		case SC_SESSION_FAILED:
			return NULL;
		case SC_SESSION_MISS:
			*fill = true;
			return NULL;
		default:
			break;
	}
	initStringInfo(&mark);
	append_mark(&mark);
	if (length <= mark.len || memcmp(value, mark.data, mark.len) != 0 ||
		value[length - 1] != '}')
		return NULL;
	value[length - 1] = '\0';
	result = parse_rows(value + mark.len);
	if (result)
		(void) sc_memory_put(name, namelen, GetUserId(), (char *) result,
							 VARSIZE(result), left > 0 ? Min(left, ttl) : ttl,
							 NULL, clock);
	return result;
}

static void
fill_redis(text *key, Jsonb *result, int64 ttl, Snapshot snapshot)
{
	StringInfoData buf;

	/* As text it is up to six times as long. */
	if (VARSIZE(result) > SC_SESSION_VALUE_MAX / 8)
		return;
	initStringInfo(&buf);
	append_mark(&buf);
	(void) JsonbToCString(&buf, &result->root, VARSIZE(result));
	appendStringInfoChar(&buf, '}');
	(void) sc_session_fill(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key), buf.data,
						   (uint32) buf.len, ttl, snapshot);
	pfree(buf.data);
}

/* Run it, and keep the result if that is right. */
static Jsonb *
load(text *key, const char *query, int64 ttl, bool keep, bool fill)
{
	bool		fresh = !IsolationUsesXactSnapshot();
	uint64		clock = keep && fresh ? sc_memory_clock() : 0;
	Snapshot	snapshot;
	Jsonb	   *result;

	PushCopiedSnapshot(GetTransactionSnapshot());
	CommandCounterIncrement();
	UpdateActiveSnapshotCommandId();
	snapshot = RegisterSnapshot(GetActiveSnapshot());
	result = run_query(query);
	PopActiveSnapshot();
	/* A temporary table is not what others would see under that name. */
	if (keep && !TransactionIdIsValid(GetTopTransactionIdIfAny()) &&
		!(MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE))
	{
		(void) sc_memory_put(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key), GetUserId(),
							 (char *) result, VARSIZE(result), ttl, snapshot, clock);
		if (fill && sc_memory_fresh(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key), snapshot, clock))
			fill_redis(key, result, ttl, snapshot);
	}
	UnregisterSnapshot(snapshot);
	return result;
}

/* A cached result, or NULL with what to do instead. */
static Jsonb *
fetch(text *key, bool *leased, bool *keep)
{
	const char *name = VARDATA_ANY(key);
	uint32		namelen = VARSIZE_ANY_EXHDR(key);
	bool		may_fill = !TransactionIdIsValid(GetTopTransactionIdIfAny());
	int64		since = -1;
	char	   *value;
	uint32		length;

	*leased = false;
	*keep = false;
	if (!sc_memory_usable() || sc_cache_wrote_key(name, namelen))
		return NULL;
	for (int i = 0; i < TRIES; i++)
	{
		switch (sc_memory_get(name, namelen, GetUserId(), may_fill ? leased : NULL,
							  &since, &value, &length))
		{
			case SC_HIT:
				return (Jsonb *) value;
			case SC_BYPASS:
				return NULL;
			case SC_MISS:
				*keep = may_fill;
				return NULL;
			case SC_LOADING:
				/* Who loads something must not wait for a loader. */
				if (sc_memory_has_lease() || !sc_memory_wait(name, namelen, GetUserId()))
				{
					*keep = may_fill;
					return NULL;
				}
				break;
		}
	}
	*keep = may_fill;
	return NULL;
}

Datum
scalecache_cached_query(PG_FUNCTION_ARGS)
{
	text	   *key = key_argument(fcinfo);
	int64		ttl = ttl_argument(fcinfo, 2);
	Jsonb	   *volatile result;
	bool		leased;
	bool		keep;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("cached query must not be null"),
				 errdetail("It is run when the cache has no result of it."),
				 errhint("To read what is there, use scalecache.cache_get.")));
	result = fetch(key, &leased, &keep);
	if (result)
		PG_RETURN_JSONB_P(result);
	/* Whatever fails from here on, others must not wait for the lease. */
	PG_TRY();
	{
		char	   *query = text_to_cstring(PG_GETARG_TEXT_PP(1));
		bool		fill = false;

		if (keep && sc_redis_url[0] != '\0' && may_use_redis())
			result = fetch_from_redis(key, ttl, &fill);
		if (result == NULL)
			result = load(key, query, ttl, keep, fill);
	}
	PG_FINALLY();
	{
		if (leased)
			sc_memory_end_lease();
	}
	PG_END_TRY();
	PG_RETURN_JSONB_P(result);
}

/* ---- numbers ---- */

/* The latency below which a fraction of the acknowledgements were, in ms. */
static double
percentile(const int64 *histogram, double fraction)
{
	int64		total = 0;
	int64		sum = 0;

	for (int i = 0; i < SC_HISTOGRAM; i++)
		total += histogram[i];
	for (int i = 0; i < SC_HISTOGRAM && total > 0; i++)
	{
		double		low = i == 0 ? 0 : 16 << (i - 1);
		double		high = 16 << i;

		sum += histogram[i];
		/* Within a bucket they are taken to be spread evenly. */
		if (histogram[i] > 0 && sum >= total * fraction)
			return (low + (high - low) *
					(total * fraction - (sum - histogram[i])) / histogram[i]) / 1000.0;
	}
	return 0;
}

Datum
scalecache_cache_stats(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	ScMemoryStats m;
	ScRedisStatus s;
	Datum		values[12];
	bool		nulls[12] = {0};

	InitMaterializedSRF(fcinfo, 0);
	sc_memory_stats(&m);
	values[0] = CStringGetTextDatum("memory");
	values[1] = Int64GetDatum(m.entries);
	values[2] = Int64GetDatum(m.size);
	values[3] = Int64GetDatum(m.used);
	values[4] = Int64GetDatum(m.hits);
	values[5] = Int64GetDatum(m.misses);
	values[6] = Int64GetDatum(m.fills);
	values[7] = Int64GetDatum(m.refused);
	values[8] = Int64GetDatum(m.evictions);
	nulls[9] = nulls[10] = nulls[11] = true;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);

	sc_cache_get_status(&s);
	memset(nulls, 0, sizeof(nulls));
	values[0] = CStringGetTextDatum("redis");
	values[1] = Int64GetDatum(s.db_keys);
	nulls[2] = true;
	values[3] = Int64GetDatum(s.used_memory);
	values[4] = Int64GetDatum(s.hits);
	values[5] = Int64GetDatum(s.misses);
	values[6] = Int64GetDatum(s.fills);
	values[7] = Int64GetDatum(s.refused);
	values[8] = Int64GetDatum(s.evictions);
	values[9] = Int64GetDatum(s.keys);
	values[10] = Float8GetDatum(percentile(s.histogram, 0.5));
	values[11] = Float8GetDatum(percentile(s.histogram, 0.99));
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	return (Datum) 0;
}
