/*
 * define.c: the calls that make, change and drop rollups.
 *
 * The view is made as the user, with the user's rights.  Storage and
 * triggers belong to the extension's owner (install.c).  Dependencies:
 * triggers go with the view, the view with the extension; storage is removed
 * by an event trigger when its view has gone (ddl.c).
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "pgtime.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "base/attempt.h"
#include "base/guc.h"
#include "base/owner.h"
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

/*
 * Do something of which nothing is to remain, the locks least of all.  Its
 * result is in the caller's memory context.
 */
static void
do_aside(void (*what) (void *arg), void *arg)
{
	ErrorData  *error = sc_attempt(what, arg, false);

	if (error)
		ReThrowError(error);
}

typedef struct WhyNot
{
	Oid			view;
	const char *reason;
} WhyNot;

/*
 * Why a rollup could not answer its own query, or NULL.  Planning locks
 * indexes and partitions of tables that are locked against writers only
 * afterwards: a deadlock with REINDEX and ATTACH PARTITION, who lock these in
 * the other order.  So this is done aside.
 */
static void
why_not(void *arg)
{
	WhyNot	   *answer = arg;

	answer->reason = sc_rewrite_why_not(answer->view);
}

/* A rollup of a join is good for nothing if it could not answer its own query. */
static void
check_join(Oid view)
{
	ScSpec	   *spec = sc_spec_by_view(view);
	bool		joined = spec->joined != NULL;
	char	   *source = get_rel_name(spec->source);
	WhyNot		answer = {view, NULL};

	sc_spec_release(spec);
	if (joined)
		do_aside(why_not, &answer);
	if (answer.reason)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("rollup query cannot be answered from groups of \"%s\"", source),
				 errdetail("The reason is: %s.", answer.reason),
				 errhint("Columns of \"%s\" that go into expressions with other tables' must have one form for equal values: give numeric columns a scale, and cast floats to it.",
						 source)));
}

/* What a value takes in a row at least, if it is not null. */
static Size
least_size(int16 typlen)
{
	return typlen > 0 ? typlen : VARHDRSZ_SHORT;
}

/*
 * A group is one row of the storage, and there is more in it than in a row of
 * the view; a fold that cannot write it would fail again and again.
 */
static void
check_size(Oid view)
{
	ScSpec	   *spec = sc_spec_by_view(view);
	int			natts = ScBaseNatts(spec);
	Size		size = MAXALIGN(SizeofHeapTupleHeader + BITMAPLEN(natts)) +
		sizeof(int64) + sizeof(bool) + VARHDRSZ_SHORT + sizeof(int32);

	for (int i = 0; i < spec->nkeys; i++)
		size += least_size(spec->keys[i].typlen);
	for (int i = 0; i < spec->naggs; i++)
		size += least_size(spec->aggs[i].fin.resulttyplen);
	sc_spec_release(spec);
	if (natts > MaxHeapAttributeNumber || size > MaxHeapTupleSize)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_COLUMNS),
				 errmsg("rollup query has too many group keys and aggregates"),
				 errdetail("A group is stored in a row of %d columns and %zu bytes; %d and %zu are possible.",
						   natts, size, MaxHeapAttributeNumber, (Size) MaxHeapTupleSize),
				 errhint("Create several rollups, each with some of the aggregates.")));
}

static void
refuse_existing(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_DUPLICATE_TABLE),
			 errmsg("relation \"%s\" already exists", name),
			 errdetail("A rollup is a view of that name."),
			 errhint("Drop it, or choose another name for the rollup.")));
}

/*
 * Make the view, as the user.  Who makes something of that name at the same
 * time is waited for by a unique index of the catalog, whose message says
 * nothing of rollups.
 */
static Oid
create_view(const char *name, Oid nsp, Query *query)
{
	MemoryContext cxt = CurrentMemoryContext;
	int			nest = sc_portable_begin();
	char	   *sql = psprintf("CREATE VIEW %s AS %s",
							   quote_qualified_identifier(get_namespace_name(nsp), name),
							   pg_get_querydef(query, false));

	/* All digits of a constant, that is, and no name of a zone that means two. */
	AtEOXact_GUC(false, nest);
	PG_TRY();
	{
		SPI_connect();
		if (SPI_execute(sql, false, 0) < 0)
			elog(ERROR, "could not create the view of the rollup");
		SPI_finish();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_UNIQUE_VIOLATION ||
			error->schema_name == NULL || error->table_name == NULL ||
			strcmp(error->schema_name, "pg_catalog") != 0 ||
			(strcmp(error->table_name, "pg_class") != 0 &&
			 strcmp(error->table_name, "pg_type") != 0))
			PG_RE_THROW();
		FlushErrorState();
		refuse_existing(name);
	}
	PG_END_TRY();
	return get_relname_relid(name, nsp);
}

static void
refuse_temporary_view(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
			 errmsg("a rollup cannot be temporary"),
			 errdetail("Others write to its source, and their changes go into the rollup."),
			 errhint("Name a schema that is not temporary.")));
}

/* The innermost type of an array's elements, or the type. */
static Oid
element_of(Oid type)
{
	Oid			element;

	while (OidIsValid(element = get_element_type(type)))
		type = element;
	return type;
}

/*
 * What a session takes along as it ends is dropped without event triggers, and
 * what depends on it as well: the view, but not what we have stored for it.
 */
static void
refuse_temporary(const ObjectAddress *self)
{
	Relation	depend = table_open(DependRelationId, AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key[0], Anum_pg_depend_classid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(self->classId));
	ScanKeyInit(&key[1], Anum_pg_depend_objid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(self->objectId));
	scan = systable_beginscan(depend, DependDependerIndexId, true, NULL, 2, key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend dep = (Form_pg_depend) GETSTRUCT(tuple);
		ObjectAddress on;

		ObjectAddressSubSet(on, dep->refclassid, dep->refobjid, dep->refobjsubid);
		if (on.classId == RelationRelationId && on.objectSubId > 0 &&
			!isAnyTempNamespace(get_object_namespace(&on)))
			ObjectAddressSet(on, TypeRelationId,
							 element_of(get_atttype(on.objectId, on.objectSubId)));
		if (isAnyTempNamespace(get_object_namespace(&on)))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
					 errmsg("rollup query reads temporary objects"),
					 errdetail("It depends on %s, which goes when its session ends.",
							   getObjectDescription(&on, false)),
					 errhint("Create that in a schema that is not temporary.")));
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
}

/* The same for all that a rollup's view needs. */
void
sc_refuse_temporary(Oid view)
{
	Relation	rel = table_open(view, AccessShareLock);
	ObjectAddress self;

	if (isAnyTempNamespace(RelationGetNamespace(rel)))
		refuse_temporary_view();
	ObjectAddressSet(self, RelationRelationId, view);
	refuse_temporary(&self);
	for (int i = 0; rel->rd_rules && i < rel->rd_rules->numLocks; i++)
	{
		ObjectAddressSet(self, RewriteRelationId, rel->rd_rules->rules[i]->ruleId);
		refuse_temporary(&self);
	}
	table_close(rel, NoLock);
}

static RangeVar *
parse_name(const char *name)
{
	char	   *copy = pstrdup(name);
	List	   *names;

	if (!SplitIdentifierString(copy, '.', &names) || names == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid name of a rollup: \"%s\"", name),
				 errdetail("It is read as in SQL: with a schema or without, in double quotes if it is not a plain identifier."),
				 errhint("Write '\"two words\"', or use quote_ident().")));
	return makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(name)));
}

/* The table whose rows the storage counts. */
static Oid
source_of(Query *query)
{
	if (sc_query_joins(query))
		return sc_join_source(query)->relid;
	return rt_fetch(linitial_node(RangeTblRef, query->jointree->fromlist)->rtindex,
					query->rtable)->relid;
}

/* Until the transaction ends, no schema of the path gets another name. */
static void
lock_path(void)
{
	List	   *locked = NIL;
	List	   *path;

	while ((path = list_difference_oid(fetch_search_path(true), locked)) != NIL)
	{
		ListCell   *lc;

		foreach(lc, path)
			sc_catalog_lock_schema(lfirst_oid(lc), ShareLock);
		locked = list_concat(locked, path);
	}
}

/* Make the view and a row of the catalog. */
static Oid
define(const char *name, const char *sql, char state)
{
	List	   *views = NIL;
	Query	   *query;
	RangeVar   *rv;
	Oid			nsp;
	Oid			view;
	int64		id;
	Oid			source;

	lock_path();
	query = sc_query_analyze(sql, &views);
	rv = parse_name(name);
	nsp = RangeVarGetCreationNamespace(rv);
	source = source_of(query);

	if (isAnyTempNamespace(nsp))
		refuse_temporary_view();
	if (OidIsValid(get_relname_relid(rv->relname, nsp)))
		refuse_existing(rv->relname);
	view = create_view(rv->relname, nsp, query);
	sc_adopt_by_views(view, views);
	CommandCounterIncrement();
	sc_depends_lock(view);
	sc_refuse_temporary(view);

	if (!pg_strong_random(&id, sizeof(id)))
		elog(ERROR, "could not get a random number");
	id = (id & INT64CONST(0x7fffffffffffffff)) | 1;
	sc_catalog_insert(id, view, source, state,
					  pg_get_timezone_name(session_timezone), sc_current_path(), views);
	check_size(view);
	check_join(view);
	return view;
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
		bool		live = log->state == SC_LIVE && sc_delta_usable(log);

		sc_spec_release(log);
		if (!live)
			sc_ensure_storage(lfirst_oid(lc));
	}
	sc_parts_fill(view);
}

/* Of a table that the query reads, with what it includes, against writers. */
static void
lock_source(Query *query, Oid relid)
{
	bool		inherits = false;
	bool		detaching;
	bool		unfit;
	ListCell   *lc;

	foreach(lc, query->rtable)
		if (((RangeTblEntry *) lfirst(lc))->relid == relid)
			inherits |= ((RangeTblEntry *) lfirst(lc))->inh;
	LockRelationOid(relid, ShareRowExclusiveLock);
	foreach(lc, sc_source_members(relid, inherits, &detaching, &unfit))
		LockRelationOid(lfirst_oid(lc), ShareRowExclusiveLock);
}

typedef struct Sources
{
	const char *sql;
	Query	   *query;
	Oid			source;
	List	   *others;			/* of the tables that it is joined with */
} Sources;

static void
find_sources(void *arg)
{
	Sources    *sources = arg;
	List	   *views = NIL;

	/* What it has to say is said when it is read again. */
	(void) set_config_option("client_min_messages", "error", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	sources->query = sc_query_analyze(sources->sql, &views);
	sources->source = source_of(sources->query);
	if (sc_query_joins(sources->query))
		sources->others = sc_join_tables(sources->query,
										 sc_join_fact(sources->query, sources->source));
}

/*
 * Lock the tables of the query against writers, before anything else locks
 * them more weakly: who has written to one, and then wants it for himself,
 * would wait for that lock, and we for him.
 */
static void
lock_sources(const char *sql)
{
	Sources		sources = {sql};
	ListCell   *lc;

	do_aside(find_sources, &sources);
	lock_source(sources.query, sources.source);
	/* They will be locked if the groups of the join can be stored. */
	foreach(lc, sources.others)
		if (pg_class_ownercheck(lfirst_oid(lc), GetUserId()))
			lock_source(sources.query, lfirst_oid(lc));
}

Datum
scalecache_create_rollup(PG_FUNCTION_ARGS)
{
	Oid			view;

	sc_refuse_nulls(fcinfo, "name, query, with_data");
	PreventCommandIfReadOnly("create_rollup()");
	if (PG_GETARG_BOOL(2))
		lock_sources(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	view = define(text_to_cstring(PG_GETARG_TEXT_PP(0)),
				  text_to_cstring(PG_GETARG_TEXT_PP(1)), SC_UNFILLED);
	if (PG_GETARG_BOOL(2))
	{
		sc_ensure_storage(view);
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
	PreventCommandIfReadOnly("create_rollup_concurrently()");
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

/*
 * The same, and nobody drops it, or the extension, before the transaction ends.
 * Who does locks the view before the source, so this has to be the first lock.
 */
void
sc_lock_rollup(Oid view)
{
	sc_check_rollup(view);
	LockRelationOid(view, AccessShareLock);
	LockRelationOid(sc_catalog_relid(), AccessShareLock);
	sc_check_rollup(view);
}

/*
 * For who has no lock on the source, and is not to wait: keep a rollup from
 * being dropped, with the types and functions that its specification is made
 * with, before that is looked up.  False if it is being dropped, or was.  What
 * stands for a part of one is a table that is dropped last.
 */
bool
sc_keep_rollup(Oid view)
{
	return ConditionalLockRelationOid(view, AccessShareLock) &&
		SearchSysCacheExists1(RELOID, ObjectIdGetDatum(view));
}

Datum
scalecache_drop_rollup(PG_FUNCTION_ARGS)
{
	Oid			view;

	sc_refuse_nulls(fcinfo, "rollup");
	PreventCommandIfReadOnly("drop_rollup()");
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
	PreventCommandIfReadOnly("fold_rollup()");
	PreventCommandDuringRecovery("fold_rollup()");
	sc_lock_rollup(PG_GETARG_OID(0));
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
	PreventCommandIfReadOnly("rebuild_rollup()");
	PreventCommandDuringRecovery("rebuild_rollup()");
	view = PG_GETARG_OID(0);
	sc_lock_rollup(view);
	spec = sc_spec_by_view(view);
	live = spec->state == SC_LIVE;
	sc_members_refuse_changing(spec);
	sc_spec_release(spec);
	if (live)
		refuse_old_snapshot("rebuild_rollup");
	if (!live || !sc_fill(view))
		sc_ensure_storage(view);
	store_groups(view);
	PG_RETURN_VOID();
}

#define SC_TABLES	4

static void
tables_of(ScSpec *spec, Oid *tables)
{
	tables[0] = spec->base;
	tables[1] = spec->delta[0];
	tables[2] = spec->delta[1];
	tables[3] = spec->distincts;
}

static void
unlock_tables(const Oid *tables, int n)
{
	for (int i = 0; i < n; i++)
		if (OidIsValid(tables[i]))
			UnlockRelationOid(tables[i], AccessShareLock);
}

/* Who looks at the rollups is not to wait for one that is being emptied. */
static bool
lock_tables(const Oid *tables)
{
	for (int i = 0; i < SC_TABLES; i++)
		if (OidIsValid(tables[i]) &&
			!ConditionalLockRelationOid(tables[i], AccessShareLock))
		{
			unlock_tables(tables, i);
			return false;
		}
	return true;
}

/* Bytes of a part's tables and indexes. */
static int64
storage_size(const Oid *tables)
{
	int64		size = 0;

	for (int i = 0; i < SC_TABLES; i++)
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(tables[i])))
			size += DatumGetInt64(DirectFunctionCall1(pg_total_relation_size,
													  ObjectIdGetDatum(tables[i])));
	return size;
}

/* Deltas that the active snapshot sees, or -1: it is not known. */
static int64
pending(ScSpec *spec)
{
	return sc_delta_load(sc_groups_create(spec, CurrentMemoryContext), GetActiveSnapshot(),
						 &sc_asked_nothing);
}

/*
 * Add what a part has, pending deltas only if it is captured.  A number that
 * is not known is negative.
 */
static void
add_part(ScSpec *part, bool captured, int64 *ndeltas, int64 *size)
{
	Oid			tables[SC_TABLES];
	int64		n = 0;

	tables_of(part, tables);
	if (!lock_tables(tables))
	{
		*size = -1;
		if (captured)
			*ndeltas = -1;
		return;
	}
	if (*size >= 0)
		*size += storage_size(tables);
	if (captured && SearchSysCacheExists1(RELOID, ObjectIdGetDatum(part->base)))
		n = pending(part);
	*ndeltas = n < 0 || *ndeltas < 0 ? -1 : *ndeltas + n;
	unlock_tables(tables, SC_TABLES);
}

/* Add those of a rollup of a join: its logs and stored groups. */
static void
add_parts(ScSpec *spec, int64 *ndeltas, int64 *size)
{
	ScSpec	   *stored = sc_spec_by_id(sc_part_id(spec->id, SC_PART_STORED));
	ListCell   *lc;

	if (stored)
	{
		add_part(stored, false, ndeltas, size);
		sc_spec_release(stored);
	}
	foreach(lc, sc_parts_logs(spec->view))
	{
		ScSpec	   *part = sc_spec_by_view(lfirst_oid(lc));

		if (part == NULL)
			continue;
		add_part(part, true, ndeltas, size);
		sc_spec_release(part);
	}
}

static int64
count_rows(Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	TableScanDesc scan = table_beginscan(rel, GetActiveSnapshot(), 0, NULL);
	int64		n = 0;

	while (heap_getnext(scan, ForwardScanDirection))
		n++;
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	return n;
}

/* What cannot be told without waiting is NULL. */
Datum
scalecache_rollup_stats(PG_FUNCTION_ARGS)
{
	bool		kept = sc_keep_rollup(PG_GETARG_OID(0));
	ScSpec	   *spec = kept ? sc_spec_by_view(PG_GETARG_OID(0)) : NULL;
	TupleDesc	desc;
	Oid			tables[SC_TABLES] = {0};
	Datum		values[4] = {0};
	bool		nulls[4] = {true, true, true, true};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (spec)
	{
		tables_of(spec, tables);
		values[3] = CharGetDatum(spec->state);
		nulls[3] = false;
	}
	if (spec && lock_tables(tables))
	{
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(spec->base)))
		{
			int64		ndeltas = pending(spec);
			int64		size = storage_size(tables);

			values[0] = Int64GetDatum(count_rows(spec->base));
			nulls[0] = false;
			if (spec->hasparts)
				add_parts(spec, &ndeltas, &size);
			values[1] = Int64GetDatum(ndeltas);
			nulls[1] = ndeltas < 0;
			values[2] = Int64GetDatum(size);
			nulls[2] = size < 0;
		}
		unlock_tables(tables, SC_TABLES);
	}
	if (spec)
		sc_spec_release(spec);
	if (kept)
		UnlockRelationOid(PG_GETARG_OID(0), AccessShareLock);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
