/*
 * query.c: the cache from SQL.
 *
 * The cache is never in the way: whatever is wrong with it, cached_query runs
 * the query.  What a transaction that has written anything reads may be its
 * own, so nothing of that is kept.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "cache/cache.h"
#include "cache/memory.h"

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
				 errmsg("cache key must not be empty")));
	if (VARSIZE_ANY_EXHDR(key) > SC_STRING_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("cache key is longer than %d bytes", SC_STRING_MAX)));
}

/* The argument's key; an error when it is null. */
static text *
key_argument(FunctionCallInfo fcinfo)
{
	text	   *key;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("cache key must not be null")));
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
	us = ttl->time + (ttl->day + (int64) ttl->month * DAYS_PER_MONTH) * USECS_PER_DAY;
	if (us <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("ttl of a cached value must be positive"),
				 errhint("Use null for a value that does not expire.")));
	return us;
}

/* ---- by hand ---- */

Datum
scalecache_cache_get(PG_FUNCTION_ARGS)
{
	text	   *key = key_argument(fcinfo);
	char	   *value;
	uint32		length;

	if (!sc_memory_usable() ||
		sc_cache_wrote_key(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key)) ||
		sc_memory_get(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key), SC_OWNER_ANY,
					  NULL, &value, &length) != SC_HIT)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text_with_len(value, length));
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
				 errhint("Use scalecache.cache_delete to remove one.")));
	value = PG_GETARG_TEXT_PP(1);
	if (VARSIZE_ANY_EXHDR(value) > SC_STRING_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("cached value is longer than %d bytes", SC_STRING_MAX)));
	if (!sc_memory_usable() || TransactionIdIsValid(GetTopTransactionIdIfAny()))
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(sc_memory_put(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key), SC_OWNER_ANY,
								 VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), ttl,
								 GetActiveSnapshot(), 0));
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
					 errmsg("key to be deleted is longer than %d bytes", SC_KEY_MAX)));
		if (sc_memory_usable() &&
			sc_memory_delete(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key)))
			found++;
		sc_cache_add_delete(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key));
	}
	PG_RETURN_INT64(found);
}

/* ---- cache-aside in one call ---- */

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
					 "SELECT coalesce(pg_catalog.jsonb_agg(q), '[]'::pg_catalog.jsonb) FROM (\n%s\n) q",
					 query);
	SPI_connect();
	if (SPI_execute(sql.data, true, 0) != SPI_OK_SELECT || SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("cached query must be one SELECT")));
	d = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	old = MemoryContextSwitchTo(cxt);
	result = (Jsonb *) PG_DETOAST_DATUM_COPY(d);
	MemoryContextSwitchTo(old);
	SPI_finish();
	return result;
}

/* Run it, and keep the result if that is right. */
static Jsonb *
load(text *key, const char *query, int64 ttl, bool keep)
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
	if (keep && !TransactionIdIsValid(GetTopTransactionIdIfAny()))
		(void) sc_memory_put(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key), GetUserId(),
							 (char *) result, VARSIZE(result), ttl, snapshot, clock);
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
	char	   *value;
	uint32		length;

	*leased = false;
	*keep = false;
	if (!sc_memory_usable() || sc_cache_wrote_key(name, namelen))
		return NULL;
	for (int i = 0; i < TRIES; i++)
	{
		switch (sc_memory_get(name, namelen, GetUserId(), may_fill ? leased : NULL,
							  &value, &length))
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
				if (sc_memory_has_lease() || !sc_memory_wait(name, namelen))
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
	char	   *query;
	Jsonb	   *volatile result;
	bool		leased;
	bool		keep;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("cached query must not be null")));
	result = fetch(key, &leased, &keep);
	if (result)
		PG_RETURN_JSONB_P(result);
	query = text_to_cstring(PG_GETARG_TEXT_PP(1));
	PG_TRY();
	{
		result = load(key, query, ttl, keep);
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
