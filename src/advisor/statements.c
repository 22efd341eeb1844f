/*-------------------------------------------------------------------------
 *
 * statements.c
 *	  The recorded statements as SQL shows them, and those that
 *	  pg_stat_statements knew before.
 *
 * What must always hold: texts and parameters are seen by members of
 * pg_read_all_stats only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "advisor/statements.h"

PG_FUNCTION_INFO_V1(scalecache_workload);

bool
sc_statements_may_read(void)
{
	return has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
}

static bool
is_known(List *known, uint64 queryid)
{
	ListCell   *lc;

	foreach(lc, known)
	{
		if (((ScStatement *) lfirst(lc))->queryid == queryid)
			return true;
	}
	return false;
}

static ScStatement *
seeded_statement(HeapTuple tuple, TupleDesc desc)
{
	ScStatement *result = (ScStatement *) palloc0(sizeof(ScStatement));
	bool		isnull;

	result->queryid = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
	result->userid = DatumGetObjectId(SPI_getbinval(tuple, desc, 2, &isnull));
	result->text = TextDatumGetCString(SPI_getbinval(tuple, desc, 3, &isnull));
	result->calls = DatumGetInt64(SPI_getbinval(tuple, desc, 4, &isnull));
	result->rows = DatumGetInt64(SPI_getbinval(tuple, desc, 5, &isnull));
	result->total_ms = DatumGetFloat8(SPI_getbinval(tuple, desc, 6, &isnull));
	result->seeded = true;
	return result;
}

/*
 * The query of what pg_stat_statements has seen; NULL if there is none, or if
 * it is not for the current user, which is no reason to tell him nothing.
 */
static char *
seeds_query(void)
{
	Oid			extension = get_extension_oid("pg_stat_statements", true);
	char	   *schema;
	Oid			nspid;
	Oid			view;

	/* The view fails where the library is not preloaded. */
	if (!OidIsValid(extension) ||
		GetConfigOption("pg_stat_statements.max", true, false) == NULL)
		return NULL;
	if (SPI_execute(psprintf("SELECT extnamespace FROM pg_catalog.pg_extension "
							 "WHERE oid OPERATOR(pg_catalog.=) %u::pg_catalog.oid",
							 extension),
					true, 1) != SPI_OK_SELECT || SPI_processed != 1)
		return NULL;
	schema = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	nspid = atooid(schema);
	schema = get_namespace_name(nspid);
	view = get_relname_relid("pg_stat_statements", nspid);
	if (schema == NULL || !OidIsValid(view) ||
		pg_namespace_aclcheck(nspid, GetUserId(), ACL_USAGE) != ACLCHECK_OK ||
		pg_class_aclcheck(view, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		return NULL;
	/* Versions before 1.8, as pg_upgrade leaves them, have another name. */
	return psprintf("SELECT queryid, userid, query, calls, rows, %s "
					"FROM %s.pg_stat_statements "
					"WHERE dbid OPERATOR(pg_catalog.=) %u::pg_catalog.oid "
					"AND queryid IS NOT NULL AND query IS NOT NULL "
					"ORDER BY queryid, userid",
					get_attnum(view, "total_exec_time") != InvalidAttrNumber ?
					"total_exec_time" : "total_time",
					quote_identifier(schema), MyDatabaseId);
}

/* What pg_stat_statements has seen, and nobody recorded. */
static List *
seeds(List *known, Oid onlyuser)
{
	MemoryContext cxt = CurrentMemoryContext;
	List	   *result = NIL;
	char	   *sql;
	uint64		i;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	sql = seeds_query();
	if (sql == NULL)
	{
		SPI_finish();
		return NIL;
	}
	if (SPI_execute(sql, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read pg_stat_statements");
	for (i = 0; i < SPI_processed; i++)
	{
		MemoryContext oldcxt = MemoryContextSwitchTo(cxt);
		ScStatement *stmt = seeded_statement(SPI_tuptable->vals[i],
											 SPI_tuptable->tupdesc);

		if (!is_known(known, stmt->queryid) &&
			(!OidIsValid(onlyuser) || stmt->userid == onlyuser))
			result = lappend(result, stmt);
		MemoryContextSwitchTo(oldcxt);
	}
	SPI_finish();
	return result;
}

/*
 * All statements that the current user may be told of.  Result is in the
 * current memory context.
 */
List *
sc_statements_list(bool everyone)
{
	Oid			onlyuser = InvalidOid;
	bool		saved = sc_workload_paused;
	List	   *result;

	if (!everyone && !sc_statements_may_read())
		onlyuser = GetUserId();
	result = sc_workload_list(onlyuser);
	sc_workload_paused = true;
	PG_TRY();
	{
		result = list_concat(result, seeds(result, onlyuser));
	}
	PG_FINALLY();
	{
		sc_workload_paused = saved;
	}
	PG_END_TRY();
	return result;
}

/* The sampled executions, as JSON. */
static char *
executions_json(ScStatement *stmt)
{
	StringInfoData buf;
	int			i;
	int			k;

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '[');
	for (i = 0; i < stmt->nexecutions; i++)
	{
		ScExecution *execution = &stmt->executions[i];

		appendStringInfo(&buf, "%s{\"count\": " UINT64_FORMAT ", ",
						 i > 0 ? ", " : "", execution->count);
		if (execution->text != NULL)
		{
			appendStringInfoString(&buf, "\"text\": ");
			escape_json(&buf, execution->text);
			if (execution->nparams == 0)
			{
				appendStringInfoChar(&buf, '}');
				continue;
			}
			appendStringInfoString(&buf, ", ");
		}
		appendStringInfoString(&buf, "\"parameters\": [");
		for (k = 0; k < execution->nparams; k++)
		{
			if (k > 0)
				appendStringInfoString(&buf, ", ");
			if (execution->values[k] == NULL)
				appendStringInfoString(&buf, "null");
			else
				escape_json(&buf, execution->values[k]);
		}
		appendStringInfoString(&buf, "]}");
	}
	appendStringInfoChar(&buf, ']');
	return buf.data;
}

/* What the view workload shows. */
Datum
scalecache_workload(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		may_read = sc_statements_may_read();
	List	   *statements;
	ListCell   *lc;

	InitMaterializedSRF(fcinfo, 0);
	if (!sc_workload_available())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("nothing is recorded"),
				 errdetail("scalecache is not in shared_preload_libraries."),
				 errhint("Add it there and restart the server.")));
	statements = sc_statements_list(true);
	foreach(lc, statements)
	{
		ScStatement *stmt = (ScStatement *) lfirst(lc);
		Datum		values[10];
		bool		nulls[10] = {0};

		values[0] = Int64GetDatum((int64) stmt->queryid);
		values[1] = ObjectIdGetDatum(stmt->userid);
		values[2] = Int64GetDatum((int64) stmt->calls);
		values[3] = Float8GetDatum(stmt->total_ms);
		values[4] = Float8GetDatum(stmt->calls > 0 ?
								   stmt->total_ms / stmt->calls : 0);
		values[5] = Int64GetDatum((int64) stmt->rows);
		values[6] = TimestampTzGetDatum(stmt->first_seen);
		nulls[6] = stmt->seeded;
		values[7] = CStringGetTextDatum(stmt->seeded ? "pg_stat_statements" :
										"recorded");
		nulls[0] = nulls[8] = nulls[9] = !may_read;
		if (may_read)
		{
			values[8] = CStringGetTextDatum(stmt->text);
			values[9] = DirectFunctionCall1(jsonb_in,
											CStringGetDatum(executions_json(stmt)));
		}
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values,
							 nulls);
	}
	return (Datum) 0;
}
