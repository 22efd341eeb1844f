/*-------------------------------------------------------------------------
 *
 * apply_request.c
 *	  apply_index(): what is asked for is checked, made complete and recorded,
 *	  and a builder is started, which is apply.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "advisor/advisor.h"
#include "advisor/apply.h"
#include "advisor/statements.h"
#include "base/guc.h"
#include "rollup/rollup.h"
#include "worker/launcher.h"

PG_FUNCTION_INFO_V1(scalecache_apply_index);

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
	Oid			extension;

	if (!pg_class_ownercheck(hypo->relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(relkind),
					   get_rel_name(hypo->relid));
	if (hypo->relid < FirstNormalObjectId)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("\"%s\" is a system catalog",
						get_rel_name(hypo->relid)),
				 errdetail("Indexes of system catalogs are the server's own."),
				 errhint("Name a table that was created by a user.")));
	extension = getExtensionOfObject(RelationRelationId, hypo->relid);
	if (OidIsValid(extension))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("\"%s\" is a table of extension \"%s\"",
						get_rel_name(hypo->relid),
						get_extension_name(extension)),
				 errdetail("Its indexes are the extension's own."),
				 errhint("Name a table that was created by a user.")));
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
				 errmsg("apply_index does not support TABLESPACE"),
				 errdetail("The index is built in the default tablespace."),
				 errhint("Move the index later with ALTER INDEX ... SET TABLESPACE.")));
}

/* A name that is free in a schema, beginning with some other. */
char *
sc_apply_free_name(Oid nsp, const char *base)
{
	int			n;

	for (n = 0;; n++)
	{
		char		suffix[16] = "";
		char		name[NAMEDATALEN];
		int			len;

		if (n > 0)
			snprintf(suffix, sizeof(suffix), "%d", n);
		len = pg_mbcliplen(base, strlen(base),
						   NAMEDATALEN - 1 - strlen(suffix));
		snprintf(name, sizeof(name), "%.*s%s", len, base, suffix);
		if (!OidIsValid(get_relname_relid(name, nsp)))
			return pstrdup(name);
	}
}

/* The one that was asked for, or else what CREATE INDEX would choose. */
static char *
index_name(ScHypo *hypo, IndexStmt *stmt)
{
	Oid			nsp = get_rel_namespace(hypo->relid);

	if (stmt->idxname == NULL)
		return sc_apply_free_name(nsp, hypo->name);
	if (OidIsValid(get_relname_relid(stmt->idxname, nsp)))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_TABLE),
				 errmsg("relation \"%s\" already exists", stmt->idxname),
				 errhint("Leave out the name to have one chosen.")));
	return pstrdup(stmt->idxname);
}

/*
 * Complete DDL in which every name is qualified, and what in it follows the
 * table's name.  Of a partitioned table's index only the root is made by it.
 * The builder reads it, whatever the caller's settings are.
 */
static char *
complete_ddl(ScHypo *hypo, IndexStmt *stmt, const char *name,
			 char **definition)
{
	int			nestlevel = sc_portable_begin();
	bool		partitioned =
		get_rel_relkind(hypo->relid) == RELKIND_PARTITIONED_TABLE;
	ScHypo		plain = *hypo;
	StringInfoData buf;
	char	   *start;
	char	   *table;
	char	   *ddl;
	char	   *where;
	ListCell   *lc;

	(void) set_config_option("search_path", "", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	/* Its options follow, all of them. */
	plain.fillfactor = 0;
	ddl = sc_hypo_ddl(&plain, name);
	where = hypo->pred != NIL ? sc_hypo_pred(hypo) : NULL;
	table = quote_qualified_identifier(get_namespace_name(get_rel_namespace(hypo->relid)),
									   get_rel_name(hypo->relid));
	start = psprintf("CREATE INDEX %s ON %s ", quote_identifier(name), table);
	if (strncmp(ddl, start, strlen(start)) != 0)
		elog(ERROR, "unexpected DDL: %s", ddl);

	initStringInfo(&buf);
	if (where != NULL)
		ddl[strlen(ddl) - strlen(where) - strlen(" WHERE ")] = '\0';
	appendStringInfoString(&buf, ddl + strlen(start));
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
	*definition = buf.data;
	ddl = psprintf("CREATE INDEX %s%s ON %s%s %s",
				   partitioned ? "" : "CONCURRENTLY ", quote_identifier(name),
				   partitioned ? "ONLY " : "", table, buf.data);
	AtEOXact_GUC(false, nestlevel);
	return ddl;
}

typedef struct Request
{
	const char *ddl;
	MemoryContext cxt;
	Oid			relid;
	char	   *name;
	char	   *complete;
	char	   *definition;
	bool		analyze;
} Request;

bool		sc_apply_in_builder = false;

/* Check the DDL as what_if() does, and make it complete. */
static void
request_run(void *arg)
{
	Request    *r = (Request *) arg;
	ScStudy    *study = sc_study_begin();
	ScHypo	   *hypo = sc_hypo_from_ddl(study, r->ddl, true);
	IndexStmt  *stmt = (IndexStmt *) sc_parse_one(r->ddl);
	MemoryContext oldcxt;

	check_target(hypo, stmt);
	oldcxt = MemoryContextSwitchTo(r->cxt);
	r->relid = hypo->relid;
	r->name = index_name(hypo, stmt);
	r->complete = complete_ddl(hypo, stmt, r->name, &r->definition);
	r->analyze = hypo->exprs != NIL;
	MemoryContextSwitchTo(oldcxt);
	MemoryContextDelete(study->cxt);
}

/* As the extension's owner, whose table it is. */
static int64
insert_action(Request *r)
{
	Oid			types[] = {TEXTOID, OIDOID, NAMEOID, BOOLOID, OIDOID, TEXTOID,
	TEXTOID, BOOLOID};
	Datum		values[8];
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
	values[6] = CStringGetTextDatum(r->definition);
	values[7] = BoolGetDatum(sc_apply_in_builder);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID,
						   seccxt | SECURITY_LOCAL_USERID_CHANGE);
	if (SPI_execute_with_args("INSERT INTO scalecache.index_action (ddl, relid, index_name, expressions, requested_by, advice, definition, automatic) "
							  "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id",
							  8, types, values, NULL, false, 1) != SPI_OK_INSERT_RETURNING)
		elog(ERROR, "could not record the action");
	id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
									 SPI_tuptable->tupdesc, 1, &isnull));
	SetUserIdAndSecContext(userid, seccxt);
	SPI_finish();
	return id;
}

/*
 * Start a worker for this database; false when there is no slot for one.  One
 * does for all actions of a transaction.
 */
bool
sc_apply_start_builder(TransactionId xid, bool advise)
{
	static TransactionId started = InvalidTransactionId;
	BackgroundWorker worker;
	ScApplyOrders		orders;

	if (TransactionIdIsValid(xid) && xid == started)
		return true;
	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "scalecache");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "sc_apply_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, SC_BUILDER);
	snprintf(worker.bgw_type, BGW_MAXLEN, SC_BUILDER);
	worker.bgw_main_arg = ObjectIdGetDatum(MyDatabaseId);
	memset(&orders, 0, sizeof(orders));
	orders.xid = xid;
	orders.advise = advise;
	StaticAssertStmt(sizeof(orders) <= BGW_EXTRALEN, "too many orders");
	memcpy(worker.bgw_extra, &orders, sizeof(orders));
	if (!RegisterDynamicBackgroundWorker(&worker, NULL))
		return false;
	started = xid;
	return true;
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
	sc_refuse_nulls(fcinfo, "ddl");
	PreventCommandIfReadOnly("apply_index()");
	memset(&r, 0, sizeof(r));
	r.ddl = text_to_cstring(PG_GETARG_TEXT_PP(0));
	r.cxt = CurrentMemoryContext;
	sc_study_run(request_run, &r);
	id = insert_action(&r);
	if (!sc_apply_in_builder && !sc_apply_start_builder(GetTopTransactionId(), false))
		ereport(NOTICE,
				(errmsg("no background worker is free now"),
				 errdetail("The index will be built when one is."),
				 errhint("Increase max_worker_processes.")));
	PG_RETURN_INT64(id);
}
