/*-------------------------------------------------------------------------
 *
 * apply_auto.c
 *	  scalecache.auto_index: what a builder asks for by itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "advisor/apply.h"
#include "advisor/choose.h"
#include "base/attempt.h"
#include "base/guc.h"

static void
request_index(void *arg)
{
	(void) DirectFunctionCall1(scalecache_apply_index, CStringGetTextDatum((char *) arg));
}

/* Ask for an index; false, with a line in the log, if that is refused. */
static bool
apply_suggestion(char *ddl)
{
	ErrorData  *error = sc_attempt(request_index, ddl, true);

	if (error == NULL)
		return true;
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
		error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
		ReThrowError(error);
	ereport(LOG,
			(errmsg("could not apply a suggested index: %s", error->message),
			 errdetail("%s", ddl)));
	return false;
}

/* Bytes of the indexes that were built automatically and are still there. */
static int64
automatic_bytes(void)
{
	bool		isnull;

	/* One that was rebuilt by REINDEX CONCURRENTLY has the name, but another OID. */
	if (SPI_execute("SELECT coalesce(pg_catalog.sum(pg_catalog.pg_relation_size(i.oid)), 0)::bigint "
					"FROM (SELECT DISTINCT coalesce(p.relid, c.oid) AS oid "
					"FROM scalecache.index_action a "
					"JOIN pg_catalog.pg_index x ON x.indrelid = a.relid "
					"JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid AND (c.relname = a.index_name OR c.oid = ANY (a.built)) "
					"LEFT JOIN LATERAL pg_catalog.pg_partition_tree(c.oid) p ON true "
					"WHERE a.automatic AND a.state = 'kept') i",
					true, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not read the sizes of indexes");
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
									   SPI_tuptable->tupdesc, 1, &isnull));
}

/*
 * scalecache.auto_index: the first suggestion that can be applied, if nothing
 * else is under way.  What was kept and is suggested again has been dropped by
 * somebody, who does not want it.
 */
void
sc_apply_advice(void *arg)
{
	SPITupleTable *rows;
	int64		left;
	uint64		n;
	uint64		i;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	/*
	 * They must not take the space of others while one chooses.  What is
	 * interrupted again and again may be what ends the builder.
	 */
	if (SPI_execute("SELECT advice FROM scalecache.index_action WHERE requested_at > pg_catalog.now() - interval '7 days' "
					"GROUP BY advice HAVING pg_catalog.bool_or(state <> 'interrupted') OR pg_catalog.count(*) > 2",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the actions");
	for (i = 0; i < SPI_processed; i++)
		sc_unwanted = lappend(sc_unwanted,
							  SPI_getvalue(SPI_tuptable->vals[i],
										   SPI_tuptable->tupdesc, 1));
	left = (int64) sc_auto_index_max_size * 1024 * 1024 - automatic_bytes();
	if (SPI_execute(psprintf("SELECT s.ddl FROM scalecache.suggest_indexes(" INT64_FORMAT ") s "
							 "JOIN pg_catalog.pg_class c ON c.oid = s.relation AND c.relkind IN ('r', 'p') "
							 "WHERE NOT EXISTS (SELECT FROM scalecache.index_action a WHERE a.finished_at IS NULL AND a.outcome IS NULL) "
							 "ORDER BY s.rank", Max(left, 0)),
					false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not apply advice");
	rows = SPI_tuptable;
	n = SPI_processed;
	for (i = 0; i < n; i++)
	{
		if (apply_suggestion(SPI_getvalue(rows->vals[i], rows->tupdesc, 1)))
			break;
	}
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
}
