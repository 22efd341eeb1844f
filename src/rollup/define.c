/*
 * define.c: the calls that make, change and drop rollups.
 *
 * The view is made as the user, with the user's rights.  Storage and
 * triggers belong to the extension's owner (install.c).  Dependencies:
 * triggers go with the view, the view with the extension; storage is removed
 * by an event trigger when its view has gone (ddl.c).
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "parser/parsetree.h"
#include "pgtime.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "rollup/rollup.h"

PG_FUNCTION_INFO_V1(scalecache_create_rollup);
PG_FUNCTION_INFO_V1(scalecache_create_rollup_concurrently);
PG_FUNCTION_INFO_V1(scalecache_drop_rollup);
PG_FUNCTION_INFO_V1(scalecache_fold_rollup);
PG_FUNCTION_INFO_V1(scalecache_rebuild_rollup);
PG_FUNCTION_INFO_V1(scalecache_rollup_stats);

void
sc_refuse_nulls(FunctionCallInfo fcinfo, const char *args)
{
	for (int i = 0; i < fcinfo->nargs; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument %d of %s must not be null", i + 1,
							get_func_name(fcinfo->flinfo->fn_oid)),
					 errdetail("Its arguments are: %s.", args),
					 errhint("Give a value for each.")));
}

/* Make the view, as the user, and a row of the catalog. */
static Oid
define(const char *name, const char *sql, char state)
{
	List	   *views = NIL;
	Query	   *query = sc_query_analyze(sql, &views);
	RangeVar   *rv = makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(name)));
	Oid			nsp = RangeVarGetCreationNamespace(rv);
	Oid			view;
	int64		id;
	Oid			source = sc_query_joins(query) ? sc_join_source(query)->relid :
		rt_fetch(linitial_node(RangeTblRef, query->jointree->fromlist)->rtindex,
				 query->rtable)->relid;

	if (isAnyTempNamespace(nsp))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("a rollup cannot be temporary"),
				 errdetail("Others write to its source, and their changes go into the rollup."),
				 errhint("Name a schema that is not temporary.")));
	if (OidIsValid(get_relname_relid(rv->relname, nsp)))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_TABLE),
				 errmsg("relation \"%s\" already exists", rv->relname),
				 errdetail("A rollup is a view of that name."),
				 errhint("Drop it, or choose another name for the rollup.")));
	SPI_connect();
	if (SPI_execute(psprintf("CREATE VIEW %s AS %s",
							 quote_qualified_identifier(get_namespace_name(nsp), rv->relname),
							 pg_get_querydef(query, false)), false, 0) < 0)
		elog(ERROR, "could not create the view of the rollup");
	SPI_finish();
	view = get_relname_relid(rv->relname, nsp);
	sc_adopt_by_views(view, views);

	if (!pg_strong_random(&id, sizeof(id)))
		elog(ERROR, "could not get a random number");
	id = (id & INT64CONST(0x7fffffffffffffff)) | 1;
	sc_catalog_insert(id, view, source, state,
					  pg_get_timezone_name(session_timezone), views);
	return view;
}

/* A rollup of a join is good for nothing if it cannot answer its own query. */
static void
check_join(Oid view)
{
	ScSpec	   *spec = sc_spec_by_view(view);
	bool		joined = spec->joined != NULL && spec->state == SC_LIVE;
	char	   *source = get_rel_name(spec->source);
	const char *reason;

	sc_spec_release(spec);
	if (joined && (reason = sc_rewrite_why_not(view)) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("rollup query cannot be answered from groups of \"%s\"", source),
				 errdetail("The reason is: %s.", reason),
				 errhint("Columns of \"%s\" that go into expressions with other tables' must have one form for equal values: give numeric columns a scale, and cast floats to it.",
						 source)));
}

/* Store the groups of a join, if that can be; other writers are locked out. */
static void
store_groups(Oid view)
{
	ListCell   *lc;

	(void) sc_parts_install(view);
	foreach(lc, sc_parts_logs(view))
	{
		ScSpec	   *log = sc_spec_by_view(lfirst_oid(lc));
		bool		live = log->state == SC_LIVE;

		sc_spec_release(log);
		if (!live)
			sc_ensure_storage(lfirst_oid(lc));
	}
	sc_parts_fill(view);
}

Datum
scalecache_create_rollup(PG_FUNCTION_ARGS)
{
	Oid			view;

	sc_refuse_nulls(fcinfo, "name, query, with_data");
	PreventCommandIfReadOnly("create_rollup");
	view = define(text_to_cstring(PG_GETARG_TEXT_PP(0)),
				  text_to_cstring(PG_GETARG_TEXT_PP(1)), SC_UNFILLED);
	if (PG_GETARG_BOOL(2))
	{
		sc_ensure_storage(view);
		check_join(view);
		store_groups(view);
	}
	PG_RETURN_OID(view);
}

Datum
scalecache_create_rollup_concurrently(PG_FUNCTION_ARGS)
{
	CallContext *call = (CallContext *) fcinfo->context;
	Oid			view;

	if (call == NULL || !IsA(call, CallContext) || call->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("create_rollup_concurrently cannot run inside a transaction block"),
				 errdetail("It commits in between."),
				 errhint("Call it alone, or use scalecache.create_rollup.")));
	sc_refuse_nulls(fcinfo, "name, query");
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	/* Stale: should this end in the middle, the worker goes on. */
	view = define(text_to_cstring(PG_GETARG_TEXT_PP(0)),
				  text_to_cstring(PG_GETARG_TEXT_PP(1)), SC_STALE);
	sc_build(view);
	SPI_finish();
	PG_RETURN_VOID();
}

/* The rollup's view, checked to be one and the caller's. */
void
sc_check_rollup(Oid view)
{
	ScSpec	   *spec = sc_spec_by_view(view);

	if (spec == NULL && get_rel_name(view) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", view),
				 errhint("See the view scalecache.rollups.")));
	if (spec == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a rollup", get_rel_name(view)),
				 errdetail("It was not made by scalecache.create_rollup."),
				 errhint("See the view scalecache.rollups.")));
	sc_spec_release(spec);
	if (!pg_class_ownercheck(view, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_VIEW, get_rel_name(view));
}

Datum
scalecache_drop_rollup(PG_FUNCTION_ARGS)
{
	Oid			view;

	sc_refuse_nulls(fcinfo, "rollup");
	view = PG_GETARG_OID(0);
	sc_check_rollup(view);
	SPI_connect();
	if (SPI_execute(psprintf("DROP VIEW %s", sc_qualified_name(view)), false, 0) < 0)
		elog(ERROR, "could not drop the view of the rollup");
	SPI_finish();
	PG_RETURN_VOID();
}

static void
refuse_old_snapshot(const char *function)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s cannot run in a REPEATABLE READ or SERIALIZABLE transaction", function),
				 errdetail("It has to see what other transactions committed meanwhile."),
				 errhint("Run it in READ COMMITTED.")));
}

Datum
scalecache_fold_rollup(PG_FUNCTION_ARGS)
{
	sc_refuse_nulls(fcinfo, "rollup");
	PreventCommandIfReadOnly("fold_rollup");
	PreventCommandDuringRecovery("fold_rollup");
	sc_check_rollup(PG_GETARG_OID(0));
	refuse_old_snapshot("fold_rollup");
	PG_RETURN_INT64(sc_fold(PG_GETARG_OID(0), false));
}

Datum
scalecache_rebuild_rollup(PG_FUNCTION_ARGS)
{
	Oid			view;
	ScSpec	   *spec;
	bool		live;

	sc_refuse_nulls(fcinfo, "rollup");
	PreventCommandIfReadOnly("rebuild_rollup");
	PreventCommandDuringRecovery("rebuild_rollup");
	view = PG_GETARG_OID(0);
	sc_check_rollup(view);
	spec = sc_spec_by_view(view);
	live = spec->state == SC_LIVE;
	sc_spec_release(spec);
	if (live)
		refuse_old_snapshot("rebuild_rollup");
	if (!live || !sc_fill(view))
		sc_ensure_storage(view);
	store_groups(view);
	PG_RETURN_VOID();
}

/* Bytes of a part's tables and indexes. */
static int64
storage_size(ScSpec *spec)
{
	Oid			rels[] = {spec->base, spec->delta[0], spec->delta[1], spec->distincts};
	int64		size = 0;

	for (int i = 0; i < lengthof(rels); i++)
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(rels[i])))
			size += DatumGetInt64(DirectFunctionCall1(pg_total_relation_size,
													  ObjectIdGetDatum(rels[i])));
	return size;
}

/* Deltas that the active snapshot sees, or -1: it is not known. */
static int64
pending(ScSpec *spec)
{
	return sc_delta_load(sc_groups_create(spec, CurrentMemoryContext), GetActiveSnapshot(),
						 &sc_asked_nothing);
}

/* Add those of a rollup of a join: its logs and stored groups. */
static void
add_parts(ScSpec *spec, int64 *ndeltas, int64 *size)
{
	ScSpec	   *stored = sc_spec_by_id(sc_part_id(spec->id, SC_PART_STORED));
	ListCell   *lc;

	if (stored)
	{
		*size += storage_size(stored);
		sc_spec_release(stored);
	}
	foreach(lc, sc_parts_logs(spec->view))
	{
		ScSpec	   *part = sc_spec_by_view(lfirst_oid(lc));
		int64		n;

		if (part == NULL)
			continue;
		*size += storage_size(part);
		n = pending(part);
		*ndeltas = n < 0 || *ndeltas < 0 ? -1 : *ndeltas + n;
		sc_spec_release(part);
	}
}

Datum
scalecache_rollup_stats(PG_FUNCTION_ARGS)
{
	ScSpec	   *spec = sc_spec_by_view(PG_GETARG_OID(0));
	TupleDesc	desc;
	Datum		values[3] = {0};
	bool		nulls[3] = {true, true, true};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (spec && SearchSysCacheExists1(RELOID, ObjectIdGetDatum(spec->base)))
	{
		Relation	base = table_open(spec->base, AccessShareLock);
		TableScanDesc scan = table_beginscan(base, GetActiveSnapshot(), 0, NULL);
		int64		n = 0;
		int64		ndeltas = pending(spec);
		int64		size = storage_size(spec);

		while (heap_getnext(scan, ForwardScanDirection))
			n++;
		table_endscan(scan);
		table_close(base, AccessShareLock);
		values[0] = Int64GetDatum(n);
		nulls[0] = false;
		if (spec->hasparts)
			add_parts(spec, &ndeltas, &size);
		values[1] = Int64GetDatum(ndeltas);
		nulls[1] = ndeltas < 0;
		values[2] = Int64GetDatum(size);
		nulls[2] = false;
		sc_spec_release(spec);
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
