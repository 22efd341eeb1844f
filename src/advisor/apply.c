/*-------------------------------------------------------------------------
 *
 * apply.c
 *	  apply_index(): build an index in the background, and keep it only if it
 *	  is worth keeping.
 *
 * An action is a row of scalecache.index_action.  A background worker takes
 * the actions of a database one after the other: it times the recorded
 * statements of the table, builds the index concurrently, times them again,
 * and drops the index unless they became faster in all and none became too
 * slow.
 *
 * What must always hold:
 *
 * - Only one worker of a database is at it: it holds an advisory lock for as
 *	 long as it lives.  So an action that is under way while nobody holds the
 *	 lock was interrupted, and whoever takes the lock cleans up after it.
 *
 * - Replayed statements change nothing: they run read-only, in a
 *	 subtransaction that is rolled back, as the user who ran them, within a
 *	 timeout, and only if they call no volatile function.
 *
 * - No invalid index is left behind.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "executor/executor.h"
#include "executor/instrument.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/planner.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "advisor/apply.h"
#include "advisor/choose.h"
#include "advisor/statements.h"
#include "base/guc.h"
#include "worker/launcher.h"

PG_FUNCTION_INFO_V1(scalecache_apply_index);
PGDLLEXPORT void sc_apply_main(Datum main_arg);

/* Of the advisory lock that the one worker of a database holds. */
#define SC_APPLY_LOCK		"(1396913236, 1)"
#define SC_APPLY_TRIES		5
#define SC_DROP_TRIES		20
#define SC_APPLY_PAUSE_MS	500
/* Executions of each statement that are timed; the best counts. */
#define SC_TIMINGS			3
/* And all statements in this many times the timeout of one. */
#define SC_TIMEOUTS			30
/* Differences below this are noise. */
#define SC_NOISE_MS			0.5
/* All of them together must take less than this part of the time. */
#define SC_MIN_SPEEDUP		0.98

typedef struct Action
{
	int64		id;
	char	   *ddl;			/* complete, with the index's name */
	Oid			relid;
	char	   *schema;
	char	   *name;
	char	   *table;
	bool		analyze;		/* has it expressions? */
	bool		queued;			/* not begun yet */
	bool		partitioned;
} Action;

/*
 * apply_index()
 */

static void
check_partitions(Oid relid)
{
	ListCell   *lc;

	foreach(lc, find_all_inheritors(relid, NoLock, NULL))
	{
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_FOREIGN_TABLE)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("partition \"%s\" of \"%s\" is a foreign table",
							get_rel_name(lfirst_oid(lc)),
							get_rel_name(relid)),
					 errdetail("An index that has no part there cannot be put together."),
					 errhint("Apply the index to the other partitions.")));
	}
}

static void
check_target(ScHypo *hypo, IndexStmt *stmt)
{
	char		relkind = get_rel_relkind(hypo->relid);

	if (!pg_class_ownercheck(hypo->relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(relkind),
					   get_rel_name(hypo->relid));
	if (relkind == RELKIND_PARTITIONED_TABLE)
		check_partitions(hypo->relid);
	if (get_rel_persistence(hypo->relid) == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("\"%s\" is a temporary table",
						get_rel_name(hypo->relid)),
				 errdetail("A background worker cannot see it.")));
	if (hypo->unique)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("apply_index does not build unique indexes"),
				 errdetail("It would be dropped again if it made no query faster."),
				 errhint("Use CREATE UNIQUE INDEX.")));
	if (stmt->tableSpace != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("apply_index does not support TABLESPACE")));
}

/* A name that is free, beginning with what CREATE INDEX would choose. */
static char *
free_name(ScHypo *hypo, IndexStmt *stmt)
{
	Oid			nsp = get_rel_namespace(hypo->relid);
	char	   *base = hypo->name;
	int			n;

	if (stmt->idxname != NULL)
	{
		if (OidIsValid(get_relname_relid(stmt->idxname, nsp)))
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_TABLE),
					 errmsg("relation \"%s\" already exists", stmt->idxname)));
		return pstrdup(stmt->idxname);
	}
	for (n = 0;; n++)
	{
		char		suffix[16] = "";
		char		name[NAMEDATALEN];

		if (n > 0)
			snprintf(suffix, sizeof(suffix), "%d", n);
		snprintf(name, sizeof(name), "%.*s%s",
				 (int) (NAMEDATALEN - 1 - strlen(suffix)), base, suffix);
		if (!OidIsValid(get_relname_relid(name, nsp)))
			return pstrdup(name);
	}
}

/*
 * Complete DDL in which every name is qualified.  Of a partitioned table's
 * index only the root is made by it.
 */
static char *
complete_ddl(ScHypo *hypo, IndexStmt *stmt, const char *name)
{
	int			nestlevel = NewGUCNestLevel();
	ScHypo		plain = *hypo;
	StringInfoData buf;
	char	   *ddl;
	char	   *where;
	ListCell   *lc;

	(void) set_config_option("search_path", "", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	/* Its options follow, all of them. */
	plain.fillfactor = 0;
	ddl = sc_hypo_ddl(&plain, name);
	where = hypo->pred != NIL ? sc_hypo_pred(hypo) : NULL;
	AtEOXact_GUC(false, nestlevel);

	initStringInfo(&buf);
	if (where != NULL)
		ddl[strlen(ddl) - strlen(where) - strlen(" WHERE ")] = '\0';
	if (get_rel_relkind(hypo->relid) == RELKIND_PARTITIONED_TABLE)
	{
		Size		start = strlen("CREATE INDEX ") +
			strlen(quote_identifier(name)) + strlen(" ON ");

		appendStringInfo(&buf, "CREATE INDEX %s ON ONLY %s",
						 quote_identifier(name), ddl + start);
	}
	else
		appendStringInfo(&buf, "CREATE INDEX CONCURRENTLY %s",
						 ddl + strlen("CREATE INDEX "));
	foreach(lc, stmt->options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		appendStringInfo(&buf, "%s%s = %s",
						 lc == list_head(stmt->options) ? " WITH (" : ", ",
						 quote_identifier(def->defname),
						 quote_literal_cstr(def->arg ? defGetString(def) : "true"));
	}
	if (stmt->options != NIL)
		appendStringInfoChar(&buf, ')');
	if (where != NULL)
		appendStringInfo(&buf, " WHERE %s", where);
	return buf.data;
}

typedef struct Request
{
	const char *ddl;
	MemoryContext cxt;
	Oid			relid;
	char	   *name;
	char	   *complete;
	bool		analyze;
} Request;

/* Check the DDL as what_if() does, and make it complete. */
static void
request_run(void *arg)
{
	Request    *r = (Request *) arg;
	ScStudy    *study = sc_study_begin();
	ScHypo	   *hypo = sc_hypo_from_ddl(study, r->ddl);
	IndexStmt  *stmt = (IndexStmt *) sc_parse_one(r->ddl);
	MemoryContext oldcxt;

	check_target(hypo, stmt);
	oldcxt = MemoryContextSwitchTo(r->cxt);
	r->relid = hypo->relid;
	r->name = free_name(hypo, stmt);
	r->complete = complete_ddl(hypo, stmt, r->name);
	r->analyze = hypo->exprs != NIL;
	MemoryContextSwitchTo(oldcxt);
	MemoryContextDelete(study->cxt);
}

/* As the extension's owner, whose table it is. */
static int64
insert_action(Request *r)
{
	Oid			types[] = {TEXTOID, OIDOID, NAMEOID, BOOLOID, OIDOID, TEXTOID};
	Datum		values[6];
	NameData	name;
	Oid			userid;
	int			seccxt;
	int64		id;
	bool		isnull;

	namestrcpy(&name, r->name);
	GetUserIdAndSecContext(&userid, &seccxt);
	values[0] = CStringGetTextDatum(r->complete);
	values[1] = ObjectIdGetDatum(r->relid);
	values[2] = NameGetDatum(&name);
	values[3] = BoolGetDatum(r->analyze);
	values[4] = ObjectIdGetDatum(userid);
	values[5] = CStringGetTextDatum(r->ddl);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID,
						   seccxt | SECURITY_LOCAL_USERID_CHANGE);
	if (SPI_execute_with_args("INSERT INTO scalecache.index_action (ddl, relid, index_name, expressions, requested_by, advice) "
							  "VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
							  6, types, values, NULL, false, 1) != SPI_OK_INSERT_RETURNING)
		elog(ERROR, "could not record the action");
	id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
									 SPI_tuptable->tupdesc, 1, &isnull));
	SetUserIdAndSecContext(userid, seccxt);
	SPI_finish();
	return id;
}

/* Start a worker for this database; false when there is no slot for one. */
bool
sc_apply_start(TransactionId xid)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "scalecache");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "sc_apply_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "scalecache index builder");
	snprintf(worker.bgw_type, BGW_MAXLEN, "scalecache index builder");
	worker.bgw_main_arg = ObjectIdGetDatum(MyDatabaseId);
	memcpy(worker.bgw_extra, &xid, sizeof(xid));
	return RegisterDynamicBackgroundWorker(&worker, NULL);
}

Datum
scalecache_apply_index(PG_FUNCTION_ARGS)
{
	Request		r;
	int64		id;

	if (!sc_workload_available())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("nothing is recorded"),
				 errdetail("An index is verified by recorded statements, and scalecache is not in shared_preload_libraries."),
				 errhint("Add it there and restart the server.")));
	PreventCommandIfReadOnly("apply_index()");
	memset(&r, 0, sizeof(r));
	r.ddl = text_to_cstring(PG_GETARG_TEXT_PP(0));
	r.cxt = CurrentMemoryContext;
	sc_study_run(request_run, &r);
	id = insert_action(&r);
	if (!sc_apply_start(GetTopTransactionId()))
		ereport(NOTICE,
				(errmsg("no background worker is free now"),
				 errdetail("The index will be built when one is."),
				 errhint("Increase max_worker_processes.")));
	PG_RETURN_INT64(id);
}

/*
 * The worker: small things
 */

/* Run SQL in a transaction of its own. */
static void
run_sql(const char *sql)
{
	MemoryContext cxt = CurrentMemoryContext;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT ||
		SPI_execute(sql, false, 0) < 0)
		elog(ERROR, "could not execute: %s", sql);
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
}

static void
set_state(Action *action, const char *state, const char *more)
{
	run_sql(psprintf("UPDATE scalecache.index_action SET state = %s%s "
					 "WHERE id = " INT64_FORMAT,
					 quote_literal_cstr(state), more ? more : "",
					 action->id));
}

static void
finish_action(Action *action, const char *state, const char *verdict)
{
	set_state(action, state,
			  psprintf(", finished_at = pg_catalog.clock_timestamp(), verdict = %s",
					   quote_literal_cstr(verdict)));
}

/*
 * A utility statement at top level, as a client would send it: CREATE INDEX
 * CONCURRENTLY commits on its way.
 */
static void
run_utility(const char *sql)
{
	MemoryContext cxt = CurrentMemoryContext;
	RawStmt    *raw;
	List	   *plans;
	Portal		portal;
	QueryCompletion qc;
	DestReceiver *dest;

	StartTransactionCommand();
	MemoryContextSwitchTo(cxt);
	raw = linitial_node(RawStmt, pg_parse_query(sql));
	plans = pg_plan_queries(pg_analyze_and_rewrite_fixedparams(raw, sql, NULL,
															   0, NULL),
							sql, 0, NULL);
	portal = CreatePortal("", true, true);
	portal->visible = false;
	PortalDefineQuery(portal, NULL, sql, CreateCommandTag(raw->stmt), plans,
					  NULL);
	PortalStart(portal, NULL, 0, InvalidSnapshot);
	dest = CreateDestReceiver(DestNone);
	(void) PortalRun(portal, FETCH_ALL, true, true, dest, dest, &qc);
	PortalDrop(portal, false);
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
}

/* The same; false, with the error, when it failed. */
static bool
try_utility(const char *sql, ErrorData **error)
{
	MemoryContext cxt = CurrentMemoryContext;
	volatile bool ok = true;

	PG_TRY();
	{
		run_utility(sql);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		*error = CopyErrorData();
		HOLD_INTERRUPTS();
		FlushErrorState();
		AbortCurrentTransaction();
		/* A portal of a failed statement is dropped at abort. */
		MemoryContextSwitchTo(cxt);
		RESUME_INTERRUPTS();
		ok = false;
	}
	PG_END_TRY();
	return ok;
}

/* OID of the action's index, as far as it exists, and whether it is valid. */
static Oid
action_index(Action *action, bool *valid)
{
	Oid			nsp;
	Oid			index = InvalidOid;
	HeapTuple	tuple;
	MemoryContext cxt = CurrentMemoryContext;

	*valid = false;
	StartTransactionCommand();
	nsp = get_namespace_oid(action->schema, true);
	if (OidIsValid(nsp))
		index = get_relname_relid(action->name, nsp);
	if (OidIsValid(index))
	{
		tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
		/* Another relation of that name is not ours. */
		if (!HeapTupleIsValid(tuple) ||
			((Form_pg_index) GETSTRUCT(tuple))->indrelid != action->relid)
			index = InvalidOid;
		if (HeapTupleIsValid(tuple))
		{
			*valid = ((Form_pg_index) GETSTRUCT(tuple))->indisvalid;
			ReleaseSysCache(tuple);
		}
	}
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return index;
}

static void
pause_ms(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * Indexes of partitioned tables
 *
 * The root is made first, on ONLY the table, and is invalid until the last
 * partition's index has been attached.  Partitions that are made meanwhile
 * get theirs by themselves.  The others' are named after the root's and the
 * partition's OID, so that those not attached yet can be found again.
 */

/* The partition that comes next; relid is 0 when there is none left. */
typedef struct Part
{
	Oid			relid;
	bool		leaf;
	char	   *table;			/* qualified, as the following */
	char	   *index;			/* its index, ours */
	char	   *parent;			/* the index it belongs to */
	bool		built;
} Part;

static char *
part_index_name(Action *action, Oid relid)
{
	return makeObjectName(action->name, psprintf("%u", relid), NULL);
}

/* Read a partition from a row of oid, nspname, relname and three more. */
static void
read_part(Action *action, Part *part, HeapTuple tuple, TupleDesc desc)
{
	char	   *name;
	char	   *nsp = SPI_getvalue(tuple, desc, 2);
	Oid			nspid;
	Oid			index;
	bool		isnull;

	part->relid = DatumGetObjectId(SPI_getbinval(tuple, desc, 1, &isnull));
	part->table = quote_qualified_identifier(nsp, SPI_getvalue(tuple, desc, 3));
	part->leaf = DatumGetBool(SPI_getbinval(tuple, desc, 4, &isnull));
	if (SPI_getvalue(tuple, desc, 5) != NULL)
		part->parent = quote_qualified_identifier(SPI_getvalue(tuple, desc, 5),
												  SPI_getvalue(tuple, desc, 6));
	name = part_index_name(action, part->relid);
	part->index = quote_qualified_identifier(nsp, name);
	nspid = get_namespace_oid(nsp, true);
	index = OidIsValid(nspid) ? get_relname_relid(name, nspid) : InvalidOid;
	part->built = OidIsValid(index) &&
		IndexGetRelation(index, true) == part->relid;
}

/* Partitions by a query that has the columns of read_part(); List of Part. */
static List *
list_parts(Action *action, const char *sql)
{
	MemoryContext cxt = CurrentMemoryContext;
	List	   *result = NIL;
	uint64		i;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT ||
		SPI_execute(sql, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read partitions");
	for (i = 0; i < SPI_processed; i++)
	{
		MemoryContext oldcxt = MemoryContextSwitchTo(cxt);
		Part	   *part = (Part *) palloc0(sizeof(Part));

		read_part(action, part, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
		result = lappend(result, part);
		MemoryContextSwitchTo(oldcxt);
	}
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return result;
}

/* Partitions without a part of the index, the nearest to the root first. */
static List *
missing_parts(Action *action, Oid root)
{
	return list_parts(action, psprintf(
		"WITH parts AS (SELECT x.indrelid, x.indexrelid FROM pg_catalog.pg_partition_tree(%u) p "
		"JOIN pg_catalog.pg_index x ON x.indexrelid = p.relid) "
		"SELECT t.relid::pg_catalog.oid, n.nspname, c.relname, t.isleaf, xn.nspname, xc.relname "
		"FROM pg_catalog.pg_partition_tree(%u) t "
		"JOIN pg_catalog.pg_class c ON c.oid = t.relid "
		"JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
		"JOIN parts x ON x.indrelid = t.parentrelid "
		"JOIN pg_catalog.pg_class xc ON xc.oid = x.indexrelid "
		"JOIN pg_catalog.pg_namespace xn ON xn.oid = xc.relnamespace "
		"WHERE NOT EXISTS (SELECT FROM parts p WHERE p.indrelid = t.relid) "
		"ORDER BY t.level, t.relid", root, action->relid));
}

static List *
all_parts(Action *action)
{
	return list_parts(action, psprintf(
		"SELECT t.relid::pg_catalog.oid, n.nspname, c.relname, t.isleaf, NULL, NULL "
		"FROM pg_catalog.pg_partition_tree(%u) t "
		"JOIN pg_catalog.pg_class c ON c.oid = t.relid "
		"JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
		"WHERE t.level > 0 ORDER BY t.level DESC, t.relid", action->relid));
}

/* What follows the table's name in the root's DDL. */
static const char *
index_definition(Action *action)
{
	char	   *start = psprintf("CREATE INDEX %s ON ONLY %s ",
								 quote_identifier(action->name),
								 quote_qualified_identifier(action->schema,
															action->table));

	if (strncmp(action->ddl, start, strlen(start)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the table was renamed")));
	return action->ddl + strlen(start);
}

static bool
build_part(Action *action, Part *part, ErrorData **error)
{
	char	   *name = part_index_name(action, part->relid);

	if (!part->built &&
		!try_utility(psprintf("CREATE INDEX %s %s ON %s %s %s",
							  part->leaf ? "CONCURRENTLY" : "",
							  quote_identifier(name),
							  part->leaf ? "" : "ONLY", part->table,
							  index_definition(action)), error))
	{
		ErrorData  *other;

		/* An invalid one must not be taken for one that was built. */
		(void) try_utility(psprintf("DROP INDEX CONCURRENTLY IF EXISTS %s",
									part->index), &other);
		return false;
	}
	return try_utility(psprintf("ALTER INDEX %s ATTACH PARTITION %s",
								part->parent, part->index), error);
}

/* Build what is missing; may be called again after an error. */
static bool
build_partitioned(Action *action, ErrorData **error)
{
	bool		valid;
	Oid			root = action_index(action, &valid);
	List	   *parts;

	if (!OidIsValid(root))
	{
		if (!try_utility(action->ddl, error))
			return false;
		root = action_index(action, &valid);
	}
	/* Those below a partitioned one are seen when it has its index. */
	while ((parts = missing_parts(action, root)) != NIL)
	{
		ListCell   *lc;

		foreach(lc, parts)
		{
			if (!build_part(action, (Part *) lfirst(lc), error))
				return false;
		}
	}
	return true;
}

/* Drop the root with what is attached to it, then what is not. */
static bool
drop_partitioned(Action *action)
{
	ErrorData  *error;
	bool		valid;
	bool		ok = true;
	ListCell   *lc;

	if (OidIsValid(action_index(action, &valid)) &&
		!try_utility(psprintf("DROP INDEX %s",
							  quote_qualified_identifier(action->schema,
														 action->name)),
					 &error))
		return false;
	foreach(lc, all_parts(action))
	{
		Part	   *part = (Part *) lfirst(lc);

		if (part->built)
			ok = try_utility(psprintf("DROP INDEX %s %s",
									  part->leaf ? "CONCURRENTLY" : "",
									  part->index), &error) && ok;
	}
	return ok;
}

/* The indexes that plans are to be looked for. */
static List *
action_indexes(Action *action)
{
	bool		valid;
	Oid			index = action_index(action, &valid);
	MemoryContext cxt = CurrentMemoryContext;
	List	   *result;

	if (!OidIsValid(index))
		return NIL;
	StartTransactionCommand();
	MemoryContextSwitchTo(cxt);
	result = find_all_inheritors(index, NoLock, NULL);
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return result;
}

/*
 * Drop the action's index if there is one; tries again when it is locked.
 * A partitioned one is not valid until all of it is there, so of such none is
 * left by an unfinished build.
 */
static bool
drop_index(Action *action, bool only_invalid)
{
	int			tries;

	for (tries = 0; tries < SC_DROP_TRIES; tries++)
	{
		ErrorData  *error;
		bool		valid;

		if (action->partitioned)
		{
			if (drop_partitioned(action))
				return true;
			pause_ms(Min(SC_APPLY_PAUSE_MS * (tries + 1), 10000));
			continue;
		}
		if (!OidIsValid(action_index(action, &valid)) ||
			(only_invalid && valid))
			return true;
		if (try_utility(psprintf("DROP INDEX CONCURRENTLY %s",
								 quote_qualified_identifier(action->schema,
															action->name)),
						&error))
			return true;
		pause_ms(Min(SC_APPLY_PAUSE_MS * (tries + 1), 10000));
	}
	return false;
}

/*
 * Timing
 */

typedef struct Timed
{
	ScQuery    *query;
	double		weight;			/* executions */
	double		expected;		/* ms, all of these */
	double		before;			/* ms, negative: could not be timed */
	double		after;
	bool		uses;			/* is its plan with the new index? */
} Timed;

/* May this be executed to see how long it takes? */
static bool
replayable(ScQuery *query)
{
	Query	   *tree;

	if (list_length(query->queries) != 1)
		return false;
	tree = linitial_node(Query, query->queries);
	return tree->commandType == CMD_SELECT && tree->rowMarks == NIL &&
		!tree->hasModifyingCTE &&
		!contain_volatile_functions((Node *) tree);
}

/* Of a statement that sc_query_reload() has just parsed. */
static double
execute_once(ScQuery *query, List *indexes, bool *uses)
{
	Query	   *tree;
	PlannedStmt *plan;
	QueryDesc  *qd;
	ListCell   *lc;
	instr_time	start;
	instr_time	end;

	tree = (Query *) copyObject(linitial(query->queries));
	/* It is nobody's query, for those who count. */
	tree->queryId = 0;
	PushActiveSnapshot(GetTransactionSnapshot());
	plan = planner(tree, query->text, CURSOR_OPT_PARALLEL_OK, query->params);
	foreach(lc, sc_plan_indexes(plan))
		*uses = *uses || list_member_oid(indexes, lfirst_oid(lc));
	qd = CreateQueryDesc(plan, query->text, GetActiveSnapshot(),
						 InvalidSnapshot, None_Receiver, query->params, NULL,
						 0);
	enable_timeout_after(STATEMENT_TIMEOUT, sc_advisor_verify_timeout);
	INSTR_TIME_SET_CURRENT(start);
	ExecutorStart(qd, 0);
	ExecutorRun(qd, ForwardScanDirection, 0, true);
	ExecutorFinish(qd);
	INSTR_TIME_SET_CURRENT(end);
	disable_timeout(STATEMENT_TIMEOUT, false);
	ExecutorEnd(qd);
	FreeQueryDesc(qd);
	PopActiveSnapshot();
	INSTR_TIME_SUBTRACT(end, start);
	return INSTR_TIME_GET_MILLISEC(end);
}

/*
 * The best of some executions in ms; the timeout if it was reached, negative
 * after another error.  Everything is undone, locks are released, and the
 * user and his search path are as before.
 */
static double
time_query(const ScQuery *known, List *indexes, bool *uses)
{
	MemoryContext oldcxt = CurrentMemoryContext;
	ResourceOwner oldowner = CurrentResourceOwner;
	volatile double best = -1;
	volatile int i;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		ScQuery    *query = sc_query_reload(known);

		XactReadOnly = true;
		for (i = 0; i < SC_TIMINGS && replayable(query); i++)
		{
			double		ms = execute_once(query, indexes, uses);

			if (best < 0 || ms < best)
				best = ms;
			/* Slow ones need not be repeated. */
			if (ms > sc_advisor_verify_timeout / 5.0)
				break;
		}
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		int			sqlerrcode;

		MemoryContextSwitchTo(oldcxt);
		disable_timeout(STATEMENT_TIMEOUT, false);
		sqlerrcode = geterrcode();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (sqlerrcode == ERRCODE_QUERY_CANCELED && !ProcDiePending)
			best = best < 0 ? sc_advisor_verify_timeout : best;
		else
			best = -1;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(oldcxt);
	CurrentResourceOwner = oldowner;
	CHECK_FOR_INTERRUPTS();
	return best;
}

/* The most expensive first. */
static int
compare_timed(const ListCell *a, const ListCell *b)
{
	const Timed *x = (const Timed *) lfirst(a);
	const Timed *y = (const Timed *) lfirst(b);

	return x->expected > y->expected ? -1 : (x->expected < y->expected ? 1 : 0);
}

/* The statements of a table that can be timed, the most expensive first. */
static List *
timed_statements(ScAdvice *advice, Oid relid)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, advice->items)
	{
		ScItem	   *item = (ScItem *) lfirst(lc);
		ListCell   *l;

		if (!list_member_oid(item->relids, relid))
			continue;
		foreach(l, item->variants)
		{
			ScVariant  *variant = (ScVariant *) lfirst(l);
			Timed	   *timed;

			if (!replayable(variant->query))
				continue;
			timed = (Timed *) palloc0(sizeof(Timed));
			timed->query = variant->query;
			timed->weight = item->weight * variant->weight;
			timed->expected = timed->weight * item->mean_ms;
			timed->before = -1;
			timed->after = -1;
			result = lappend(result, timed);
		}
	}
	list_sort(result, compare_timed);
	return result;
}

/* The statements of a table.  Result is in cxt. */
static List *
load_statements(Oid relid, MemoryContext cxt)
{
	ScAdvice   *advice;
	List	   *result;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(cxt);
	advice = (ScAdvice *) palloc0(sizeof(ScAdvice));
	advice->study = sc_study_begin();
	sc_advice_load_recorded(advice, false);
	result = timed_statements(advice, relid);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return result;
}

/*
 * Time statements, each in a transaction of its own, so that no lock is held
 * for long; the second time those that could be timed the first time.  There
 * may be thousands, so the first time ends after a while.
 */
static void
time_statements(List *statements, bool again, List *indexes)
{
	MemoryContext cxt = CurrentMemoryContext;
	TimestampTz start = GetCurrentTimestamp();
	ListCell   *lc;

	foreach(lc, statements)
	{
		Timed	   *timed = (Timed *) lfirst(lc);
		double		ms;

		if (again && timed->before < 0)
			continue;
		if (!again &&
			TimestampDifferenceExceeds(start, GetCurrentTimestamp(),
									   SC_TIMEOUTS * sc_advisor_verify_timeout))
			break;
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		ms = time_query(timed->query, indexes, &timed->uses);
		PopActiveSnapshot();
		CommitTransactionCommand();
		MemoryContextSwitchTo(cxt);
		if (again)
			timed->after = ms;
		else
			timed->before = ms;
	}
}

typedef struct Verdict
{
	int			n;				/* statements compared */
	int			users;			/* of these, planned with the index */
	double		before;			/* ms, all executions */
	double		after;
	double		worst;			/* after / before of the worst */
} Verdict;

static void
compare(List *statements, Verdict *v)
{
	ListCell   *lc;

	memset(v, 0, sizeof(*v));
	foreach(lc, statements)
	{
		Timed	   *timed = (Timed *) lfirst(lc);

		if (timed->before < 0 || timed->after < 0)
			continue;
		v->n++;
		v->users += timed->uses ? 1 : 0;
		v->before += timed->weight * timed->before;
		v->after += timed->weight * timed->after;
		if (timed->after - timed->before > SC_NOISE_MS)
			v->worst = Max(v->worst,
						   timed->after / Max(0.001, timed->before));
		else
			v->worst = Max(v->worst, 1);
	}
}

/*
 * The worker: one action
 */

/* Build; false, with the action finished, when that is not possible. */
static bool
build(Action *action)
{
	int			tries;
	ErrorData  *error = NULL;

	for (tries = 0; tries < SC_APPLY_TRIES; tries++)
	{
		set_state(action, "building", ", attempts = attempts + 1");
		if (action->partitioned ? build_partitioned(action, &error) :
			try_utility(action->ddl, &error))
			return true;
		if (ProcDiePending)
			CHECK_FOR_INTERRUPTS();
		/* Of a partitioned one what is there stays for the next try. */
		if (!action->partitioned && !drop_index(action, true))
		{
			/* The next builder, whom the database's worker starts, goes on. */
			set_state(action, "cleaning", NULL);
			proc_exit(0);
		}
		/* Only what goes by is worth another try. */
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
			error->sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED &&
			error->sqlerrcode != ERRCODE_OBJECT_IN_USE)
			break;
		pause_ms(SC_APPLY_PAUSE_MS << tries);
	}
	if (action->partitioned && !drop_index(action, false))
	{
		set_state(action, "cleaning", NULL);
		proc_exit(0);
	}
	finish_action(action, "failed", error->message);
	return false;
}

static void
judge(Action *action, List *statements)
{
	Verdict		v;
	const char *numbers;

	compare(statements, &v);
	numbers = psprintf(", statements = %d, before_ms = %g, after_ms = %g, worst_ratio = %g",
					   v.n, v.before, v.after, v.worst);
	set_state(action, "verified", numbers);
	if (v.users > 0 && v.after < v.before * SC_MIN_SPEEDUP &&
		v.worst <= sc_advisor_max_slowdown)
	{
		finish_action(action, "kept",
					  psprintf("%d recorded statements take %.0f%% of the time they took",
							   v.n, 100 * v.after / v.before));
		return;
	}
	if (!drop_index(action, false))
	{
		finish_action(action, "failed",
					  "it did not help, and could not be dropped again");
		return;
	}
	if (v.users == 0)
		finish_action(action, "dropped",
					  "no recorded statement is planned with it");
	else if (v.worst > sc_advisor_max_slowdown)
		finish_action(action, "dropped",
					  psprintf("a statement takes %.1f times as long", v.worst));
	else
		finish_action(action, "dropped",
					  "the recorded statements did not become faster");
}

/* Has any of the statements been timed? */
static bool
any_timed(List *statements)
{
	ListCell   *lc;

	foreach(lc, statements)
	{
		if (((Timed *) lfirst(lc))->before >= 0)
			return true;
	}
	return false;
}

static void
perform(Action *action)
{
	MemoryContext cxt = CurrentMemoryContext;
	List	   *statements;
	ErrorData  *error;

	set_state(action, "measuring",
			  ", started_at = pg_catalog.clock_timestamp()");
	MemoryContextSwitchTo(cxt);
	statements = load_statements(action->relid, cxt);
	time_statements(statements, false, NIL);
	if (!any_timed(statements))
	{
		finish_action(action, "refused",
					  "no recorded statement of the table can be timed");
		return;
	}
	if (!build(action))
		return;
	/* Statistics of expressions are part of what an index gives. */
	if (action->analyze)
		(void) try_utility(psprintf("ANALYZE %s",
									quote_qualified_identifier(action->schema,
															   action->table)),
						   &error);
	set_state(action, "verifying", NULL);
	time_statements(statements, true, action_indexes(action));
	judge(action, statements);
}

/* The oldest action that is not finished, or NULL. */
static Action *
next_action(void)
{
	MemoryContext cxt = CurrentMemoryContext;
	Action	   *action = NULL;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT ||
		SPI_execute("SELECT a.id, a.ddl, a.relid, n.nspname, a.index_name, a.expressions, a.state, c.relname, c.relkind = 'p' "
					"FROM scalecache.index_action a "
					"LEFT JOIN pg_catalog.pg_class c ON c.oid = a.relid "
					"LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
					"WHERE a.finished_at IS NULL ORDER BY a.id",
					true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the actions");
	if (SPI_processed > 0)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		MemoryContext oldcxt = MemoryContextSwitchTo(cxt);
		bool		isnull;

		action = (Action *) palloc0(sizeof(Action));
		action->id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		action->ddl = pstrdup(SPI_getvalue(tuple, desc, 2));
		action->relid = DatumGetObjectId(SPI_getbinval(tuple, desc, 3, &isnull));
		action->schema = SPI_getvalue(tuple, desc, 4);
		action->name = SPI_getvalue(tuple, desc, 5);
		action->analyze = DatumGetBool(SPI_getbinval(tuple, desc, 6, &isnull));
		action->queued = strcmp(SPI_getvalue(tuple, desc, 7), "queued") == 0;
		action->table = SPI_getvalue(tuple, desc, 8);
		action->partitioned =
			DatumGetBool(SPI_getbinval(tuple, desc, 9, &isnull)) && !isnull;
		MemoryContextSwitchTo(oldcxt);
	}
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return action;
}

/* An action that its worker did not live to finish. */
static void
clean_up(Action *action)
{
	if (drop_index(action, false))
		finish_action(action, "interrupted",
					  "its worker ended; what it built was dropped");
	else
		finish_action(action, "failed",
					  "its worker ended, and what it built could not be dropped");
}

static bool
take_lock(void)
{
	bool		got;
	bool		isnull;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT ||
		SPI_execute("SELECT pg_catalog.pg_try_advisory_lock" SC_APPLY_LOCK,
					false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not take the lock");
	got = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
									 SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	return got;
}

/* Wait for the transaction that asked for the action to end. */
static void
wait_for_caller(TransactionId xid)
{
	while (TransactionIdIsValid(xid) && TransactionIdIsInProgress(xid))
		pause_ms(50);
}

void
sc_apply_main(Datum main_arg)
{
	TransactionId xid;
	MemoryContext cxt;
	int			tries;

	memcpy(&xid, MyBgworkerEntry->bgw_extra, sizeof(xid));
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, StatementCancelHandler);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(main_arg),
											  InvalidOid, 0);
	sc_workload_paused = true;
	cxt = AllocSetContextCreate(TopMemoryContext, "scalecache index builder",
								ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(cxt);
	SetConfigOption("lock_timeout",
					psprintf("%d", sc_advisor_lock_timeout), PGC_SUSET,
					PGC_S_OVERRIDE);
	SetConfigOption("search_path", "", PGC_SUSET, PGC_S_OVERRIDE);
	wait_for_caller(xid);
	if (!sc_extension_exists())
		proc_exit(0);

	/* Another one may be about to end, or will see what is to be done. */
	for (tries = 0; !take_lock(); tries++)
	{
		if (tries >= 10)
			proc_exit(0);
		pause_ms(200);
	}
	for (;;)
	{
		Action	   *action;

		MemoryContextReset(cxt);
		MemoryContextSwitchTo(cxt);
		CHECK_FOR_INTERRUPTS();
		action = next_action();
		if (action == NULL)
			break;
		pgstat_report_activity(STATE_RUNNING, action->ddl);
		if (action->schema == NULL)
			finish_action(action, "failed", "the table was dropped");
		else if (action->queued)
			perform(action);
		else
			clean_up(action);
		pgstat_report_activity(STATE_IDLE, NULL);
	}
	proc_exit(0);
}

/*
 * For the worker of the database: actions without a builder, and
 * scalecache.auto_index.
 */

static bool
orphaned_actions(void)
{
	bool		result;

	if (SPI_execute("SELECT FROM scalecache.index_action WHERE finished_at IS NULL "
					"AND requested_at < pg_catalog.clock_timestamp() - interval '3 seconds' "
					"AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity "
					"WHERE datid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) "
					"AND backend_type = 'scalecache index builder') LIMIT 1",
					true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the actions");
	result = SPI_processed > 0;
	return result;
}

static void
apply_advice(void)
{
	if (SPI_execute(psprintf("SELECT scalecache.apply_index(s.ddl) FROM ("
							 "SELECT s.ddl FROM scalecache.suggest_indexes(%lld) s "
							 "JOIN pg_catalog.pg_class c ON c.oid = s.relation AND c.relkind IN ('r', 'p') "
							 "WHERE NOT EXISTS (SELECT FROM scalecache.index_action a WHERE a.finished_at IS NULL) "
							 "AND NOT EXISTS (SELECT FROM scalecache.index_action a WHERE a.relid = s.relation "
							 "AND a.advice = s.ddl AND a.state IN ('dropped', 'refused', 'failed') "
							 "AND a.requested_at > pg_catalog.now() - interval '7 days') "
							 "ORDER BY s.rank LIMIT 1) s",
							 (long long) sc_auto_index_max_size * 1024 * 1024),
					false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not apply advice");
}

/* Called now and then by the database's worker, outside a transaction. */
void
sc_apply_work(void)
{
	static TimestampTz last_look = 0;
	static TimestampTz last_advice = 0;
	TimestampTz now = GetCurrentTimestamp();
	bool		start = false;

	if (!TimestampDifferenceExceeds(last_look, now, 5000) ||
		!sc_workload_available())
		return;
	last_look = now;
	/* What this worker does is nobody's workload. */
	sc_workload_paused = true;
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	start = orphaned_actions();
	if (!start && sc_auto_index &&
		TimestampDifferenceExceeds(last_advice, now,
								   sc_auto_index_interval * 1000))
	{
		last_advice = now;
		apply_advice();
	}
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	if (start)
		(void) sc_apply_start(InvalidTransactionId);
}
