/*
 * define.c: making, changing and dropping rollups.
 *
 * The view is made as the user, with the user's rights.  Storage and
 * triggers belong to the extension's owner, so nobody else can touch them.
 * Dependencies: triggers go with the view, the view with the extension;
 * storage is a member of the extension (so dumps leave it out) and is
 * removed by an event trigger when its view has gone.
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/catalog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/analyze.h"
#include "parser/parse_func.h"
#include "parser/parser.h"
#include "parser/parsetree.h"
#include "pgtime.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/ruleutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"
#include "utils/typcache.h"
#include "utils/varlena.h"

#include "rollup/rollup.h"

PG_FUNCTION_INFO_V1(scalecache_create_rollup);
PG_FUNCTION_INFO_V1(scalecache_create_rollup_concurrently);
PG_FUNCTION_INFO_V1(scalecache_drop_rollup);
PG_FUNCTION_INFO_V1(scalecache_fold_rollup);
PG_FUNCTION_INFO_V1(scalecache_rebuild_rollup);
PG_FUNCTION_INFO_V1(scalecache_verify_rollup);
PG_FUNCTION_INFO_V1(scalecache_rollup_stats);
PG_FUNCTION_INFO_V1(scalecache_rollup_truncate);
PG_FUNCTION_INFO_V1(scalecache_rollup_dropped);
PG_FUNCTION_INFO_V1(scalecache_rollup_altered);

/* ---- running commands as the extension's owner ---- */

static void
exec_as_owner(const char *sql)
{
	Oid			saveuser;
	int			savesec;
	int			nest = NewGUCNestLevel();

	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	GetUserIdAndSecContext(&saveuser, &savesec);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID,
						   savesec | SECURITY_LOCAL_USERID_CHANGE);
	SPI_connect();
	if (SPI_execute(sql, false, 0) < 0)
		elog(ERROR, "could not execute \"%s\"", sql);
	SPI_finish();
	SetUserIdAndSecContext(saveuser, savesec);
	AtEOXact_GUC(false, nest);
}

static char *
qualified(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

/* generate_collation_name leaves the schema out where search_path finds it. */
static char *
qualified_collation(Oid collation)
{
	HeapTuple	tup = SearchSysCache1(COLLOID, ObjectIdGetDatum(collation));
	Form_pg_collation form;
	char	   *result;

	if (!HeapTupleIsValid(tup))
		elog(ERROR, "cache lookup failed for collation %u", collation);
	form = (Form_pg_collation) GETSTRUCT(tup);
	result = quote_qualified_identifier(get_namespace_name(form->collnamespace),
										NameStr(form->collname));
	ReleaseSysCache(tup);
	return result;
}

/* ---- checking the query ---- */

static void
refuse(const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("rollup query has %s", what),
			 errdetail("A rollup is one SELECT from one table, with GROUP BY and aggregates."),
			 errhint("%s", hint)));
}

/* Functions of timestamptz that depend on nothing but the time zone. */
static Expr *
at_zone(Node *arg, text *zone)
{
	return (Expr *) makeFuncExpr(F_TIMEZONE_TEXT_TIMESTAMPTZ, TIMESTAMPOID,
								 list_make2(makeConst(TEXTOID, -1, DEFAULT_COLLATION_OID, -1,
													  PointerGetDatum(zone), false, false),
											arg),
								 InvalidOid, DEFAULT_COLLATION_OID, COERCE_EXPLICIT_CALL);
}

static Node *
pin_zone(Node *node, void *zone)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Query))
		return (Node *) query_tree_mutator((Query *) node, pin_zone, zone, 0);
	node = expression_tree_mutator(node, pin_zone, zone);
	if (IsA(node, FuncExpr))
	{
		FuncExpr   *f = (FuncExpr *) node;
		Oid			to = InvalidOid;

		switch (f->funcid)
		{
			case F_DATE_TRUNC_TEXT_TIMESTAMPTZ:
				f->funcid = F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT;
				f->args = lappend(list_copy(f->args),
								  makeConst(TEXTOID, -1, DEFAULT_COLLATION_OID, -1,
											PointerGetDatum((text *) zone), false, false));
				return node;
			case F_EXTRACT_TEXT_TIMESTAMPTZ:
				to = F_EXTRACT_TEXT_TIMESTAMP;
				break;
			case F_DATE_PART_TEXT_TIMESTAMPTZ:
				to = F_DATE_PART_TEXT_TIMESTAMP;
				break;
			case F_TO_CHAR_TIMESTAMPTZ_TEXT:
				to = F_TO_CHAR_TIMESTAMP_TEXT;
				break;
			case F_DATE_TIMESTAMPTZ:
				to = F_DATE_TIMESTAMP;
				break;
			case F_TIMESTAMP_TIMESTAMPTZ:
				return (Node *) at_zone(linitial(f->args), zone);
			default:
				return node;
		}
		if (to == F_EXTRACT_TEXT_TIMESTAMP || to == F_DATE_PART_TEXT_TIMESTAMP)
		{
			Node	   *field = linitial(f->args);
			char	   *name;

			/* Only fields that are the same for the local time. */
			if (!IsA(field, Const) || ((Const *) field)->constisnull)
				return node;
			name = TextDatumGetCString(((Const *) field)->constvalue);
			if (pg_strncasecmp(name, "timezone", 8) == 0 ||
				pg_strcasecmp(name, "epoch") == 0)
				return node;
			f->args = list_make2(field, at_zone(lsecond(f->args), zone));
		}
		else if (to == F_TO_CHAR_TIMESTAMP_TEXT)
		{
			Node	   *fmt = lsecond(f->args);
			char	   *format;

			if (!IsA(fmt, Const) || ((Const *) fmt)->constisnull)
				return node;
			format = TextDatumGetCString(((Const *) fmt)->constvalue);
			if (strstr(format, "TZ") || strstr(format, "tz") || strstr(format, "OF") ||
				strstr(format, "TM"))
				return node;
			f->args = list_make2(at_zone(linitial(f->args), zone), fmt);
		}
		else
			f->args = list_make1(at_zone(linitial(f->args), zone));
		f->funcid = to;
	}
	return node;
}

static bool
unstable_function(Oid funcid, void *context)
{
	char		volatility;

	if (funcid == F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT ||
		funcid == F_TO_CHAR_TIMESTAMP_TEXT)
		return false;			/* pinned; the format was looked at */
	volatility = func_volatile(funcid);
	if (volatility != PROVOLATILE_IMMUTABLE && get_func_prokind(funcid) != PROKIND_AGGREGATE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("rollup query calls %s function \"%s\"",
						volatility == PROVOLATILE_STABLE ? "stable" : "volatile",
						get_func_name(funcid)),
				 errdetail("Its result could not be kept equal to the query's."),
				 errhint("Use only immutable functions in a rollup.")));
	return false;
}

static bool
check_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubLink))
		refuse("a subquery", "Joins and subqueries are not supported yet.");
	if (IsA(node, GroupingFunc))
		refuse("GROUPING()", "Create one rollup for each grouping set.");
	if (IsA(node, Param))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_PARAMETER),
				 errmsg("rollup query has a parameter"),
				 errhint("Write the value into the query.")));
	if (IsA(node, SQLValueFunction))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("rollup query depends on the current time or user"),
				 errdetail("Its result could not be kept equal to the query's."),
				 errhint("Use only immutable expressions in a rollup.")));
	if (IsA(node, Var) && ((Var *) node)->varattno <= 0)
		refuse(((Var *) node)->varattno == 0 ? "a whole-row reference" : "a system column",
			   "Name the columns.");
	check_functions_in_node(node, unstable_function, context);
	return expression_tree_walker(node, check_walker, context);
}

static void
check_source(RangeTblEntry *rte)
{
	Relation	rel = table_open(rte->relid, NoLock);
	const char *bad = NULL;

	if (rel->rd_rel->relkind == RELKIND_FOREIGN_TABLE)
		bad = "a foreign table";
	else if (rel->rd_rel->relkind != RELKIND_RELATION &&
			 rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		bad = "not a table";
	else if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		bad = "a temporary table";
	else if (rel->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED)
		bad = "an unlogged table";
	else if (IsCatalogRelation(rel))
		bad = "a system catalog";
	else if (rel->rd_rel->relkind == RELKIND_RELATION && rte->inh &&
			 has_subclass(rte->relid))
		bad = "a parent of inheriting tables";
	if (bad)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot create a rollup from \"%s\"", RelationGetRelationName(rel)),
				 errdetail("It is %s.", bad),
				 errhint("Rollups are made from ordinary and partitioned tables.")));
	if (!pg_class_ownercheck(rte->relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, RelationGetRelationName(rel));
	if (check_enable_rls(rte->relid, InvalidOid, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot create a rollup from \"%s\"", RelationGetRelationName(rel)),
				 errdetail("Its row-level security hides rows from you, and a rollup counts all rows."),
				 errhint("Create it as a role that bypasses row-level security.")));
	table_close(rel, NoLock);
}

/* Parse, check and pin the query. */
static Query *
analyze_query(const char *sql)
{
	List	   *raw = raw_parser(sql, RAW_PARSE_DEFAULT);
	RawStmt    *stmt;
	Query	   *query;
	RangeTblEntry *rte;
	ListCell   *lc;
	List	   *names = NIL;

	if (list_length(raw) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("rollup query must be one statement"),
				 errdetail("There are %d.", list_length(raw)),
				 errhint("Create one rollup for each.")));
	stmt = linitial_node(RawStmt, raw);
	if (!IsA(stmt->stmt, SelectStmt) || ((SelectStmt *) stmt->stmt)->intoClause)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("rollup query must be a SELECT"),
				 errhint("Write SELECT ... FROM table GROUP BY ...")));
	query = parse_analyze_fixedparams(stmt, sql, NULL, 0, NULL);

	if (query->setOperations)
		refuse("a set operation", "Create one rollup for each part.");
	if (query->cteList)
		refuse("a WITH clause", "Write the query on the table itself.");
	if (query->rtable == NIL || query->jointree->fromlist == NIL)
		refuse("no FROM", "Select from the table to be aggregated.");
	if (list_length(query->jointree->fromlist) != 1 ||
		!IsA(linitial(query->jointree->fromlist), RangeTblRef))
		refuse("a join", "Joins and subqueries are not supported yet.");
	if (query->sortClause)
		refuse("ORDER BY", "Order the rows when reading the rollup.");
	if (query->limitCount || query->limitOffset)
		refuse("LIMIT or OFFSET", "Limit the rows when reading the rollup.");
	if (query->hasWindowFuncs)
		refuse("a window function", "Apply it when reading the rollup.");
	if (query->hasTargetSRFs)
		refuse("a set-returning function", "Apply it when reading the rollup.");
	if (query->groupingSets)
		refuse("GROUPING SETS", "Create one rollup for each grouping set.");
	if (query->distinctClause)
		refuse("DISTINCT", "Use GROUP BY.");
	if (query->rowMarks)
		refuse("a locking clause", "Leave it out.");
	if (!query->hasAggs && query->groupClause == NIL)
		refuse("neither GROUP BY nor an aggregate", "Add one; a plain SELECT needs an index, not a rollup.");
	rte = rt_fetch(linitial_node(RangeTblRef, query->jointree->fromlist)->rtindex,
				   query->rtable);
	if (rte->rtekind != RTE_RELATION)
		refuse(rte->rtekind == RTE_SUBQUERY ? "a subquery" : "no table in FROM",
			   "Joins and subqueries are not supported yet.");
	if (rte->tablesample)
		refuse("TABLESAMPLE", "Leave it out.");
	check_source(rte);
	if (list_length(query->groupClause) > INDEX_MAX_KEYS)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_COLUMNS),
				 errmsg("rollup query has more than %d group keys", INDEX_MAX_KEYS),
				 errhint("Group by fewer expressions.")));

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (tle->resjunk)
			continue;
		if (tle->resname == NULL || strcmp(tle->resname, "?column?") == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_COLUMN_DEFINITION),
					 errmsg("column %d of the rollup query has no name", tle->resno),
					 errhint("Name it with AS.")));
		{
			ListCell   *l2;

			foreach(l2, names)
				if (strcmp(lfirst(l2), tle->resname) == 0)
					ereport(ERROR,
							(errcode(ERRCODE_DUPLICATE_COLUMN),
							 errmsg("column \"%s\" of the rollup query comes twice", tle->resname),
							 errhint("Rename one with AS.")));
		}
		names = lappend(names, tle->resname);
	}

	query = (Query *) pin_zone((Node *) query, cstring_to_text(pg_get_timezone_name(session_timezone)));
	query_tree_walker(query, check_walker, NULL, 0);
	return query;
}

/* ---- storage ---- */

static Oid
create_table(ScSpec *spec, const char *name, const char *kind)
{
	StringInfoData sql;
	Oid			nsp = get_namespace_oid("scalecache_data", false);
	char	   *relname = pstrdup(name);
	ObjectAddress self,
				ext;
	Oid			relid;
	ListCell   *lc;
	bool		base = strcmp(kind, "base") == 0;
	bool		distincts = strcmp(kind, "distinct") == 0;

	/* The rollup's own name if it is free: EXPLAIN shows it. */
	if (!base || OidIsValid(get_relname_relid(relname, nsp)))
		relname = ChooseRelationName(name, NULL, kind, nsp, false);
	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE scalecache_data.%s (", quote_identifier(relname));
	for (int i = 0; i < spec->nkeys && !distincts; i++)
	{
		ScKey	   *key = &spec->keys[i];

		appendStringInfo(&sql, "k%d %s", i + 1,
						 format_type_extended(key->type, key->typmod,
											  FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
		if (OidIsValid(key->collation))
			appendStringInfo(&sql, " COLLATE %s", qualified_collation(key->collation));
		appendStringInfoString(&sql, ", ");
	}
	if (base)
	{
		for (int i = 0; i < spec->naggs; i++)
		{
			appendStringInfo(&sql, "a%d %s", i + 1,
							 format_type_extended(spec->aggs[i].fin.resulttype, -1,
												  FORMAT_TYPE_FORCE_QUALIFY));
			if (OidIsValid(spec->aggs[i].fin.collation) &&
				type_is_collatable(spec->aggs[i].fin.resulttype))
				appendStringInfo(&sql, " COLLATE %s",
								 qualified_collation(spec->aggs[i].fin.collation));
			appendStringInfoString(&sql, ", ");
		}
		appendStringInfoString(&sql, "" SC_BASE_COLUMNS ") WITH (fillfactor = 60)");
	}
	else if (distincts)
		appendStringInfo(&sql, "%s)", sc_distincts_columns);
	else
		appendStringInfoString(&sql, "change bytea) WITH (autovacuum_enabled = off)");
	exec_as_owner(sql.data);
	relid = get_relname_relid(relname, nsp);
	if (base)
	{
		foreach(lc, sc_base_index_commands(spec, qualified(relid)))
			exec_as_owner(lfirst(lc));
	}
	if (distincts)
		exec_as_owner(psprintf("CREATE INDEX ON scalecache_data.%s (%s)",
							   quote_identifier(relname), sc_distincts_index));
	ObjectAddressSet(self, RelationRelationId, relid);
	ObjectAddressSet(ext, ExtensionRelationId, get_extension_oid("scalecache", false));
	recordDependencyOn(&self, &ext, DEPENDENCY_EXTENSION);
	CommandCounterIncrement();
	return relid;
}

static void
drop_table(Oid relid)
{
	ObjectAddress self;

	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
		return;
	ObjectAddressSet(self, RelationRelationId, relid);
	deleteDependencyRecordsForClass(RelationRelationId, relid, ExtensionRelationId,
									DEPENDENCY_EXTENSION);
	CommandCounterIncrement();
	performDeletion(&self, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
}

static void
create_trigger(ScSpec *spec, Oid relid, const char *suffix, const char *events,
			   const char *level, const char *function)
{
	char	   *name = psprintf("scalecache_" INT64_FORMAT "_%s", spec->id, suffix);
	ObjectAddress self,
				view;

	if (OidIsValid(get_trigger_oid(relid, name, true)))
		exec_as_owner(psprintf("DROP TRIGGER %s ON %s", name, qualified(relid)));
	exec_as_owner(psprintf("CREATE TRIGGER %s AFTER %s ON %s FOR EACH %s EXECUTE FUNCTION scalecache.%s('" INT64_FORMAT "')",
						   name, events, qualified(relid), level, function, spec->id));
	exec_as_owner(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", qualified(relid), name));
	ObjectAddressSet(self, TriggerRelationId, get_trigger_oid(relid, name, false));
	ObjectAddressSet(view, RelationRelationId, spec->view);
	recordDependencyOn(&self, &view, DEPENDENCY_AUTO);
}

/*
 * Give a rollup that has no (right) storage new triggers and tables, and
 * leave it capturing changes.  Blocks writers until the transaction ends.
 */
static void
install(Oid view)
{
	ScSpec	   *spec = sc_spec_by_view(view);
	List	   *members;
	ListCell   *lc;
	Oid			base = spec->base;
	Oid			delta[2] = {spec->delta[0], spec->delta[1]};
	ObjectAddress self,
				ext;

	LockRelationOid(spec->source, ShareRowExclusiveLock);
	create_trigger(spec, spec->source, "row", "INSERT OR UPDATE OR DELETE", "ROW",
				   "rollup_capture");
	members = sc_source_members(spec->source);
	foreach(lc, members)
	{
		LockRelationOid(lfirst_oid(lc), ShareRowExclusiveLock);
		create_trigger(spec, lfirst_oid(lc), "truncate", "TRUNCATE", "STATEMENT",
					   "rollup_truncate");
	}
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(base)))
		base = create_table(spec, get_rel_name(view), "base");
	for (int i = 0; i < 2; i++)
		if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(delta[i])))
			delta[i] = create_table(spec, get_rel_name(base), "delta");
	ObjectAddressSet(self, RelationRelationId, view);
	ObjectAddressSet(ext, ExtensionRelationId, get_extension_oid("scalecache", false));
	deleteDependencyRecordsForClass(RelationRelationId, view, ExtensionRelationId,
									DEPENDENCY_AUTO_EXTENSION);
	recordDependencyOn(&self, &ext, DEPENDENCY_AUTO_EXTENSION);
	if (spec->distinct &&
		!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(spec->distincts)))
		sc_catalog_set_distincts(spec->id,
								 create_table(spec, get_rel_name(base), "distinct"));
	sc_catalog_set(spec->id, SC_FILLING, true, base, delta, members);
	sc_mark_reset(spec->id, spec->turn);
	sc_spec_release(spec);
}

void
sc_ensure_storage(Oid view)
{
	install(view);
	sc_fill(view);
}

/* ---- the calls ---- */

static Oid
define(const char *name, const char *sql)
{
	Query	   *query = analyze_query(sql);
	RangeVar   *rv = makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(name)));
	Oid			nsp;
	Oid			view;
	Relation	rel;
	Datum		values[12];
	bool		nulls[12] = {0};
	int64		id;
	HeapTuple	tuple;
	Oid			source = rt_fetch(linitial_node(RangeTblRef, query->jointree->fromlist)->rtindex,
								  query->rtable)->relid;

	nsp = RangeVarGetCreationNamespace(rv);
	if (OidIsValid(get_relname_relid(rv->relname, nsp)))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_TABLE),
				 errmsg("relation \"%s\" already exists", rv->relname),
				 errhint("Drop it, or choose another name for the rollup.")));
	SPI_connect();
	if (SPI_execute(psprintf("CREATE VIEW %s AS %s",
							 quote_qualified_identifier(get_namespace_name(nsp), rv->relname),
							 pg_get_querydef(query, false)), false, 0) < 0)
		elog(ERROR, "could not create the view of the rollup");
	SPI_finish();
	view = get_relname_relid(rv->relname, nsp);

	if (!pg_strong_random(&id, sizeof(id)))
		elog(ERROR, "could not get a random number");
	id = (id & INT64CONST(0x7fffffffffffffff)) | 1;
	values[0] = Int64GetDatum(id);
	values[1] = ObjectIdGetDatum(view);
	values[2] = ObjectIdGetDatum(source);
	values[3] = values[4] = values[5] = ObjectIdGetDatum(InvalidOid);
	values[6] = Int64GetDatum(0);
	values[7] = Int64GetDatum(1);
	values[8] = CharGetDatum(SC_UNFILLED);
	nulls[9] = true;
	values[10] = CStringGetTextDatum(pg_get_timezone_name(session_timezone));
	values[11] = ObjectIdGetDatum(InvalidOid);
	rel = table_open(sc_catalog_relid(), RowExclusiveLock);
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	CatalogTupleInsert(rel, tuple);
	table_close(rel, NoLock);
	CacheInvalidateRelcacheByRelid(view);
	CommandCounterIncrement();
	return view;
}

Datum
scalecache_create_rollup(PG_FUNCTION_ARGS)
{
	Oid			view = define(text_to_cstring(PG_GETARG_TEXT_PP(0)),
							  text_to_cstring(PG_GETARG_TEXT_PP(1)));

	if (PG_GETARG_BOOL(2))
		sc_ensure_storage(view);
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
				 errhint("Call it alone, or use scalecache.create_rollup.")));
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name and query of a rollup must not be null")));
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	view = define(text_to_cstring(PG_GETARG_TEXT_PP(0)),
				  text_to_cstring(PG_GETARG_TEXT_PP(1)));
	install(view);
	SPI_commit();
	sc_fill(view);
	SPI_finish();
	PG_RETURN_VOID();
}

/* The rollup's view, checked to be one and the caller's. */
static void
check_rollup(Oid view)
{
	ScSpec	   *spec = sc_spec_by_view(view);

	if (spec == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a rollup", get_rel_name(view) ? get_rel_name(view) : "?"),
				 errhint("See the view scalecache.rollups.")));
	sc_spec_release(spec);
	if (!pg_class_ownercheck(view, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_VIEW, get_rel_name(view));
}

Datum
scalecache_drop_rollup(PG_FUNCTION_ARGS)
{
	Oid			view = PG_GETARG_OID(0);

	check_rollup(view);
	SPI_connect();
	if (SPI_execute(psprintf("DROP VIEW %s", qualified(view)), false, 0) < 0)
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
	check_rollup(PG_GETARG_OID(0));
	refuse_old_snapshot("fold_rollup");
	PG_RETURN_INT64(sc_fold(PG_GETARG_OID(0), false));
}

Datum
scalecache_rebuild_rollup(PG_FUNCTION_ARGS)
{
	Oid			view = PG_GETARG_OID(0);
	ScSpec	   *spec;
	bool		captured;

	check_rollup(view);
	spec = sc_spec_by_view(view);
	captured = spec->state == SC_LIVE || spec->state == SC_FILLING;
	sc_spec_release(spec);
	if (captured)
	{
		refuse_old_snapshot("rebuild_rollup");
		sc_fill(view);
	}
	else
		sc_ensure_storage(view);
	PG_RETURN_VOID();
}

Datum
scalecache_rollup_stats(PG_FUNCTION_ARGS)
{
	ScSpec	   *spec = sc_spec_by_view(PG_GETARG_OID(0));
	TupleDesc	desc;
	Datum		values[3] = {0};
	bool		nulls[3] = {true, true, true};
	Oid			rels[4];

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (spec && SearchSysCacheExists1(RELOID, ObjectIdGetDatum(spec->base)))
	{
		ScGroups   *groups = sc_groups_create(spec, CurrentMemoryContext);
		Relation	base = table_open(spec->base, AccessShareLock);
		TableScanDesc scan = table_beginscan(base, GetActiveSnapshot(), 0, NULL);
		int64		n = 0;
		int64		size = 0;

		while (heap_getnext(scan, ForwardScanDirection))
			n++;
		table_endscan(scan);
		table_close(base, AccessShareLock);
		values[0] = Int64GetDatum(n);
		nulls[0] = false;
		values[1] = Int64GetDatum(sc_delta_load(groups, GetActiveSnapshot()));
		nulls[1] = DatumGetInt64(values[1]) < 0;
		rels[0] = spec->base;
		rels[1] = spec->delta[0];
		rels[2] = spec->delta[1];
		rels[3] = spec->distincts;
		for (int i = 0; i < 4; i++)
			if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(rels[i])))
				size += DatumGetInt64(DirectFunctionCall1(pg_total_relation_size,
														  ObjectIdGetDatum(rels[i])));
		values[2] = Int64GetDatum(size);
		nulls[2] = false;
		sc_spec_release(spec);
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* ---- proving ---- */

static bool
values_equal(Oid type, Oid collation, Datum a, bool an, Datum b, bool bn)
{
	TypeCacheEntry *tc;

	if (an || bn)
		return an == bn;
	if (type == FLOAT8OID || type == FLOAT4OID)
	{
		/* The plain sum rounds at each step, in any order. */
		double		x = type == FLOAT8OID ? DatumGetFloat8(a) : DatumGetFloat4(a);
		double		y = type == FLOAT8OID ? DatumGetFloat8(b) : DatumGetFloat4(b);

		if (x == y || (isnan(x) && isnan(y)))
			return true;
		return fabs(x - y) <= (type == FLOAT8OID ? 1e-9 : 1e-4) * Max(fabs(x), fabs(y));
	}
	tc = lookup_type_cache(type, TYPECACHE_EQ_OPR_FINFO);
	if (OidIsValid(tc->eq_opr_finfo.fn_oid))
		return DatumGetBool(FunctionCall2Coll(&tc->eq_opr_finfo, collation, a, b));
	return datum_image_eq(a, b, tc->typbyval, tc->typlen);
}

static bool
same_values(ScSpec *spec, const Datum *a, const bool *an, const Datum *b, const bool *bn)
{
	for (int i = 0; i < spec->naggs; i++)
		if (!values_equal(spec->aggs[i].fin.resulttype, spec->aggs[i].fin.collation,
						  a[i], an[i], b[i], bn[i]))
			return false;
	return true;
}

Datum
scalecache_verify_rollup(PG_FUNCTION_ARGS)
{
	ScSpec	   *spec;
	ScGroups   *truth;
	ScGroups   *changed;
	Relation	base;
	Tuplestorestate *store;
	TupleDesc	desc;
	TupleTableSlot *slot;
	TableScanDesc scan;
	Snapshot	snapshot = GetActiveSnapshot();
	int64		differ = 0;
	uint32		bucket = 0;
	ScGroup    *group = NULL;
	ScGroup    *other;
	ScValues   *distincts;

	check_rollup(PG_GETARG_OID(0));
	spec = sc_spec_by_view(PG_GETARG_OID(0));
	if (!sc_catalog_row_matches(spec, snapshot) ||
		!sc_capture_flush(spec, snapshot))
	{
		sc_spec_release(spec);
		PG_RETURN_INT64(0);		/* the source itself answers */
	}
	base = table_open(spec->base, AccessShareLock);
	truth = sc_groups_create(spec, CurrentMemoryContext);
	changed = sc_groups_create(spec, CurrentMemoryContext);

	desc = sc_source_desc(spec);
	store = tuplestore_begin_heap(false, false, work_mem);
	sc_source_run(spec, snapshot, store, desc);
	slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	while (tuplestore_gettupleslot(store, true, true, slot))
	{
		slot_getallattrs(slot);
		group = sc_groups_get(truth, slot->tts_values, slot->tts_isnull, true);
		sc_group_finish(truth, group);
		for (int i = 0; i < spec->naggs; i++)
		{
			group->isnull[i] = slot->tts_isnull[spec->nkeys + i];
			if (!group->isnull[i])
			{
				MemoryContext old = MemoryContextSwitchTo(truth->cxt);

				group->values[i] = datumCopy(slot->tts_values[spec->nkeys + i],
											 spec->aggs[i].fin.resulttypbyval,
											 spec->aggs[i].fin.resulttyplen);
				MemoryContextSwitchTo(old);
			}
		}
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(store);
	if (spec->distinct)
	{
		/* The aggregates do not tell how often each value is there. */
		for (int i = 0; i < spec->nslots; i++)
			if (spec->slots[i].def.kind == SC_STATE_DISTINCT)
				truth->slots = bms_add_member(truth->slots, i);
		truth->closed = true;
		sc_source_scan(truth, snapshot);
	}
	distincts = sc_values_open(spec, snapshot, false);

	if (sc_delta_load(changed, snapshot) < 0)
	{
		table_close(base, NoLock);
		sc_spec_release(spec);
		PG_RETURN_INT64(0);
	}
	sc_groups_load_base(changed, base, snapshot);
	bucket = 0;
	group = NULL;
	while ((group = sc_groups_next(changed, &bucket, group)) != NULL)
	{
		sc_group_finish(changed, group);
		if (group->nrows == 0 && spec->nkeys > 0)
			continue;
		other = sc_groups_get(truth, group->keys, group->nulls, false);
		if (other == NULL ||
			!sc_group_same_values(changed, group, other, distincts) ||
			(group->known && !group->overflow &&
			 !same_values(spec, group->values, group->isnull, other->values, other->isnull)))
			differ++;
		if (other)
			other->inbase = true;
	}

	/* Unchanged groups: the stored values, and the state behind them. */
	scan = table_beginscan(base, snapshot, 0, NULL);
	slot = table_slot_create(base, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		ScGroups   *one;

		slot_getallattrs(slot);
		if (sc_groups_get(changed, slot->tts_values, slot->tts_isnull, false))
			continue;
		other = sc_groups_get(truth, slot->tts_values, slot->tts_isnull, false);
		if (other == NULL || other->inbase)
		{
			differ++;
			continue;
		}
		other->inbase = true;
		one = sc_groups_create(spec, CurrentMemoryContext);
		group = sc_groups_get(one, slot->tts_values, slot->tts_isnull, true);
		sc_group_merge(one, group,
					   (bytea *) PG_DETOAST_DATUM_PACKED(slot->tts_values[ScBaseState(spec) - 1]));
		sc_group_finish(one, group);
		if (!same_values(spec, slot->tts_values + spec->nkeys, slot->tts_isnull + spec->nkeys,
						 other->values, other->isnull) ||
			!sc_group_same_values(one, group, other, distincts) ||
			(group->known && !same_values(spec, group->values, group->isnull,
										  other->values, other->isnull)))
			differ++;
		MemoryContextDelete(one->cxt);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);

	bucket = 0;
	group = NULL;
	while ((group = sc_groups_next(truth, &bucket, group)) != NULL)
		if (!group->inbase)
			differ++;
	sc_values_close(distincts);
	table_close(base, NoLock);
	sc_spec_release(spec);
	PG_RETURN_INT64(differ);
}

/* ---- what happens to the source and the view ---- */

static bool
all_empty(List *members)
{
	ListCell   *lc;

	foreach(lc, members)
	{
		Relation	rel = table_open(lfirst_oid(lc), AccessShareLock);
		bool		some = RELKIND_HAS_STORAGE(rel->rd_rel->relkind) &&
			RelationGetNumberOfBlocks(rel) > 0;

		table_close(rel, NoLock);
		if (some)
			return false;
	}
	return true;
}

Datum
scalecache_rollup_truncate(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	ScSpec	   *spec;
	int64		id;
	Oid			view;
	Oid			base;
	Oid			delta[2];
	Oid			distincts;
	int64		turn;
	List	   *members;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_TRUNCATE(data->tg_event) ||
		data->tg_trigger->tgnargs != 1)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" serves rollup triggers only", "rollup_truncate")));
	id = strtoll(data->tg_trigger->tgargs[0], NULL, 10);
	spec = sc_spec_by_id(id);
	if (spec == NULL)
		return PointerGetDatum(NULL);
	if (spec->state != SC_LIVE && spec->state != SC_FILLING)
	{
		sc_spec_release(spec);
		return PointerGetDatum(NULL);
	}
	view = spec->view;
	base = spec->base;
	delta[0] = spec->delta[0];
	delta[1] = spec->delta[1];
	distincts = spec->distincts;
	turn = spec->turn;
	members = list_copy(spec->members);
	sc_capture_flush(spec, NULL);
	if (spec->state == SC_LIVE && all_empty(members))
	{
		sc_spec_release(spec);
		exec_as_owner(psprintf("TRUNCATE %s, %s, %s", qualified(base),
							   qualified(delta[0]), qualified(delta[1])));
		if (OidIsValid(distincts))
			exec_as_owner(psprintf("TRUNCATE %s", qualified(distincts)));
		sc_mark_reset(id, turn);
		sc_fill(view);
	}
	else
	{
		sc_spec_release(spec);
		sc_catalog_set(id, SC_STALE, true, InvalidOid, NULL, NIL);
	}
	return PointerGetDatum(NULL);
}

/* sql_drop: storage of rollups whose view has gone, goes. */
Datum
scalecache_rollup_dropped(PG_FUNCTION_ARGS)
{
	Oid			catalog = sc_catalog_relid();
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *tables = NIL;
	ListCell   *lc;

	if (!OidIsValid(catalog))
		PG_RETURN_NULL();
	rel = table_open(catalog, RowExclusiveLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		TupleDesc	desc = RelationGetDescr(rel);

		if (SearchSysCacheExists1(RELOID, heap_getattr(tuple, 2, desc, &isnull)))
			continue;
		tables = lappend_oid(tables, DatumGetObjectId(heap_getattr(tuple, 4, desc, &isnull)));
		tables = lappend_oid(tables, DatumGetObjectId(heap_getattr(tuple, 5, desc, &isnull)));
		tables = lappend_oid(tables, DatumGetObjectId(heap_getattr(tuple, 6, desc, &isnull)));
		tables = lappend_oid(tables, DatumGetObjectId(heap_getattr(tuple, 12, desc, &isnull)));
		sc_mark_drop(DatumGetInt64(heap_getattr(tuple, 1, desc, &isnull)));
		CatalogTupleDelete(rel, &tuple->t_self);
	}
	systable_endscan(scan);
	table_close(rel, NoLock);
	if (tables)
		CommandCounterIncrement();
	foreach(lc, tables)
		drop_table(lfirst_oid(lc));
	PG_RETURN_NULL();
}

static bool
captures(ScSpec *spec)
{
	Relation	rel = try_table_open(spec->source, AccessShareLock);
	bool		found = false;
	char	   *name = psprintf("scalecache_" INT64_FORMAT "_row", spec->id);

	if (rel == NULL)
		return false;
	if (rel->trigdesc)
		for (int i = 0; i < rel->trigdesc->numtriggers; i++)
			if (strcmp(rel->trigdesc->triggers[i].tgname, name) == 0 &&
				rel->trigdesc->triggers[i].tgenabled == TRIGGER_FIRES_ALWAYS)
				found = true;
	table_close(rel, NoLock);
	return found;
}

/*
 * ddl_command_end: a live rollup whose partitions or triggers changed does
 * not know all rows any more; the source answers until it is rebuilt.
 */
Datum
scalecache_rollup_altered(PG_FUNCTION_ARGS)
{
	ListCell   *lc;

	foreach(lc, sc_catalog_views())
	{
		ScSpec	   *spec = sc_spec_by_view(lfirst_oid(lc));
		int64		id;
		bool		stale;

		if (spec == NULL)
			continue;
		id = spec->id;
		stale = spec->state == SC_STALE || (spec->state == SC_LIVE && !captures(spec));
		sc_spec_release(spec);
		if (stale)
			sc_catalog_set(id, SC_STALE, true, InvalidOid, NULL, NIL);
	}
	PG_RETURN_NULL();
}
