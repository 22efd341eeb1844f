/*
 * install.c: a rollup's tables and triggers.
 *
 * Tables belong to the extension's owner and are members of the extension,
 * so dumps leave them out and nobody else can touch them.  Triggers sit on
 * the source: those for rows are cloned to partitions by the server, all
 * others are made for each member here.  They fire always, depend on the
 * view, and are known by their function and argument, never by their name.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_trigger.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_func.h"
#include "parser/parser.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "rollup/rollup.h"

bool		sc_own_command = false;

/* ---- running commands as the extension's owner ---- */

void
sc_exec_as_owner(const char *sql)
{
	Oid			saveuser;
	int			savesec;
	int			nest = NewGUCNestLevel();
	bool		outer = sc_own_command;

	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	GetUserIdAndSecContext(&saveuser, &savesec);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID,
						   savesec | SECURITY_LOCAL_USERID_CHANGE);
	sc_own_command = true;
	PG_TRY();
	{
		SPI_connect();
		if (SPI_execute(sql, false, 0) < 0)
			elog(ERROR, "could not execute \"%s\"", sql);
		SPI_finish();
	}
	PG_FINALLY();
	{
		sc_own_command = outer;
	}
	PG_END_TRY();
	SetUserIdAndSecContext(saveuser, savesec);
	AtEOXact_GUC(false, nest);
}

char *
sc_qualified_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

/* ---- tables ---- */

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

static void
append_type(StringInfo sql, Oid type, int32 typmod, Oid collation)
{
	appendStringInfoString(sql,
						   format_type_extended(type, typmod,
												FORMAT_TYPE_TYPEMOD_GIVEN |
												FORMAT_TYPE_FORCE_QUALIFY));
	if (OidIsValid(collation) && type_is_collatable(type))
		appendStringInfo(sql, " COLLATE %s",
						 qualified_collation(collation));
	appendStringInfoString(sql, ", ");
}

static char *
table_columns(ScSpec *spec, const char *kind)
{
	bool		base = strcmp(kind, "base") == 0;
	StringInfoData sql;

	if (strcmp(kind, "distinct") == 0)
		return psprintf("%s) WITH (fillfactor = 80)", sc_distincts_columns);
	initStringInfo(&sql);
	for (int i = 0; i < spec->nkeys; i++)
	{
		appendStringInfo(&sql, "k%d ", i + 1);
		append_type(&sql, spec->keys[i].type, spec->keys[i].typmod,
					spec->keys[i].collation);
	}
	for (int i = 0; base && i < spec->naggs; i++)
	{
		appendStringInfo(&sql, "a%d ", i + 1);
		append_type(&sql, spec->aggs[i].fin.resulttype, -1,
					spec->aggs[i].fin.collation);
	}
	if (base)
		appendStringInfoString(&sql, SC_BASE_COLUMNS ") WITH (fillfactor = 80)");
	else
		appendStringInfoString(&sql, "change bytea) WITH (autovacuum_enabled = off)");
	return sql.data;
}

static Oid
create_table(ScSpec *spec, const char *name, const char *kind)
{
	Oid			nsp = get_namespace_oid("scalecache_data", false);
	char	   *relname = pstrdup(name);
	bool		base = strcmp(kind, "base") == 0;
	ObjectAddress self,
				ext;
	Oid			relid;
	ListCell   *lc;

	/* The rollup's own name if it is free: EXPLAIN shows it. */
	if (!base || OidIsValid(get_relname_relid(relname, nsp)))
		relname = ChooseRelationName(name, NULL, kind, nsp, false);
	sc_exec_as_owner(psprintf("CREATE TABLE scalecache_data.%s (%s",
							  quote_identifier(relname),
							  table_columns(spec, kind)));
	relid = get_relname_relid(relname, nsp);
	if (base && spec->part < SC_PART_LOG)
		foreach(lc, sc_base_index_commands(spec, sc_qualified_name(relid)))
			sc_exec_as_owner(lfirst(lc));
	if (strcmp(kind, "distinct") == 0)
		sc_exec_as_owner(psprintf("CREATE INDEX ON scalecache_data.%s (%s)",
								  quote_identifier(relname), sc_distincts_index));
	sc_exec_as_owner(psprintf("CREATE TRIGGER protect BEFORE INSERT OR UPDATE OR "
							  "DELETE OR TRUNCATE ON scalecache_data.%s "
							  "EXECUTE FUNCTION scalecache.rollup_protect()",
							  quote_identifier(relname)));
	ObjectAddressSet(self, RelationRelationId, relid);
	ObjectAddressSet(ext, ExtensionRelationId,
					 get_extension_oid("scalecache", false));
	recordDependencyOn(&self, &ext, DEPENDENCY_EXTENSION);
	CommandCounterIncrement();
	return relid;
}

/* Is it a table of ours?  An id from elsewhere must not stand for another one. */
static bool
exists(Oid relid)
{
	return OidIsValid(relid) &&
		get_rel_namespace(relid) == get_namespace_oid("scalecache_data", true);
}

void
sc_storage_drop(Oid relid)
{
	ObjectAddress self;

	if (!exists(relid))
		return;
	LockRelationOid(relid, AccessExclusiveLock);
	sc_asked_leave(relid, true);
	ObjectAddressSet(self, RelationRelationId, relid);
	deleteDependencyRecordsForClass(RelationRelationId, relid,
									ExtensionRelationId, DEPENDENCY_EXTENSION);
	CommandCounterIncrement();
	performDeletion(&self, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
}

/* Empty the tables.  Changes that are not written yet must have been. */
void
sc_storage_clear(ScSpec *spec)
{
	sc_exec_as_owner(psprintf("TRUNCATE %s, %s, %s%s%s",
							  sc_qualified_name(spec->base),
							  sc_qualified_name(spec->delta[0]),
							  sc_qualified_name(spec->delta[1]),
							  OidIsValid(spec->distincts) ? ", " : "",
							  OidIsValid(spec->distincts) ?
							  sc_qualified_name(spec->distincts) : ""));
	sc_mark_reset(spec->id, spec->turn);
}

/* Make all tables, and have the view go with the extension. */
static void
create_storage(ScSpec *spec)
{
	Oid			base = create_table(spec, get_rel_name(spec->view), "base");
	Oid			delta[2];
	ObjectAddress self,
				ext;

	for (int i = 0; i < 2; i++)
		delta[i] = create_table(spec, get_rel_name(base), "delta");
	ObjectAddressSet(self, RelationRelationId, spec->view);
	ObjectAddressSet(ext, ExtensionRelationId,
					 get_extension_oid("scalecache", false));
	deleteDependencyRecordsForClass(RelationRelationId, spec->view,
									ExtensionRelationId,
									DEPENDENCY_AUTO_EXTENSION);
	recordDependencyOn(&self, &ext, DEPENDENCY_AUTO_EXTENSION);
	if (spec->distinct)
		sc_catalog_set_distincts(spec->id,
								 create_table(spec, get_rel_name(base), "distinct"));
	sc_catalog_set(spec->id,
				   spec->stored == SC_UNFILLED ? SC_UNFILLED : SC_STALE,
				   true, base, delta, NIL);
	sc_mark_reset(spec->id, spec->turn);
}

/* Make the tables of a part of a rollup, and its row of the catalog. */
void
sc_install_part(ScSpec *part, const char *name)
{
	Oid			base = create_table(part, name, "base");
	Oid			delta[2] = {InvalidOid, InvalidOid};

	for (int i = 0; i < 2 && part->part >= SC_PART_LOG; i++)
		delta[i] = create_table(part, get_rel_name(base), "delta");
	sc_catalog_insert_part(part->id, base, part->source, part->zone, part->part_of,
						   part->part);
	sc_catalog_set(part->id, SC_STALE, true, base, delta, NIL);
	sc_mark_reset(part->id, 0);
}

/* Make the tables anew if one is missing; triggers may come from a dump. */
void
sc_install_storage(Oid view)
{
	ScSpec	   *spec = sc_spec_by_view(view);

	if (spec->part != 0)
	{
		/* They are made together: see stored_fold.c. */
		sc_spec_release(spec);
		return;
	}
	if (!exists(spec->base) || !exists(spec->delta[0]) ||
		!exists(spec->delta[1]) ||
		(spec->distinct && !exists(spec->distincts)))
	{
		sc_query_check(copyObject(spec->query));
		sc_storage_drop(spec->base);
		sc_storage_drop(spec->delta[0]);
		sc_storage_drop(spec->delta[1]);
		sc_storage_drop(spec->distincts);
		create_storage(spec);
	}
	sc_spec_release(spec);
}

/* ---- triggers ---- */

/* What a trigger of ours does. */
#define INSERTS		1			/* AFTER INSERT, each row */
#define DELETES		2			/* AFTER DELETE, each row */
#define UPDATES		4			/* AFTER UPDATE, each row */
#define TRUNCATE	8			/* BEFORE TRUNCATE */
#define TRUNCATED	16			/* AFTER TRUNCATE */
#define ROWS		(INSERTS | DELETES | UPDATES)

static Oid
our_function(const char *name)
{
	return LookupFuncName(list_make2(makeString("scalecache"),
									 makeString(pstrdup(name))), 0, NULL, true);
}

static int
trigger_kind(Trigger *trigger, Oid capture, Oid truncate)
{
	int			type = trigger->tgtype;

	if (trigger->tgfoid == capture && TRIGGER_FOR_ROW(type) &&
		TRIGGER_FOR_AFTER(type))
		return (TRIGGER_FOR_INSERT(type) ? INSERTS : 0) |
			(TRIGGER_FOR_DELETE(type) ? DELETES : 0) |
			(TRIGGER_FOR_UPDATE(type) ? UPDATES : 0);
	if (trigger->tgfoid == truncate && TRIGGER_FOR_TRUNCATE(type))
		return TRIGGER_FOR_BEFORE(type) ? TRUNCATE : TRUNCATED;
	return 0;
}

#define ALL_KINDS	(ROWS | TRUNCATE | TRUNCATED)

/*
 * What the rollup's triggers on a relation do that fire always; and the Oids
 * of those of some kinds, firing or not.
 */
static int
find_triggers(ScSpec *spec, Oid relid, int listed, List **oids)
{
	Oid			capture = our_function("rollup_capture");
	Oid			truncate = our_function("rollup_truncate");
	char	   *arg = psprintf(INT64_FORMAT, spec->id);
	Relation	rel = try_table_open(relid, AccessShareLock);
	int			kinds = 0;

	if (rel == NULL)
		return 0;
	for (int i = 0; rel->trigdesc && i < rel->trigdesc->numtriggers; i++)
	{
		Trigger    *trigger = &rel->trigdesc->triggers[i];
		int			kind = trigger_kind(trigger, capture, truncate);

		if (kind == 0 || trigger->tgnargs != 1 ||
			strcmp(trigger->tgargs[0], arg) != 0)
			continue;
		if (kind & listed)
			*oids = lappend_oid(*oids, trigger->tgoid);
		if (trigger->tgenabled == TRIGGER_FIRES_ALWAYS)
			kinds |= kind;
	}
	table_close(rel, NoLock);
	return kinds;
}

static Bitmapset *
used_columns(ScSpec *spec)
{
	Relation	source = table_open(spec->source, AccessShareLock);
	Bitmapset  *used = sc_spec_eval(spec, source)->used;

	table_close(source, NoLock);
	return used;
}

static int
wanted(ScSpec *spec)
{
	return INSERTS | DELETES | TRUNCATE | TRUNCATED |
		(bms_is_empty(used_columns(spec)) ? 0 : UPDATES);
}

/* Will every change of this member be noticed? */
bool
sc_triggers_intact(ScSpec *spec, Oid relid)
{
	return (wanted(spec) & ~find_triggers(spec, relid, 0, NULL)) == 0;
}

static void
drop_trigger(Oid oid)
{
	ObjectAddress self;

	ObjectAddressSet(self, TriggerRelationId, oid);
	performDeletion(&self, DROP_CASCADE, PERFORM_DELETION_INTERNAL);
}

static void
remove_triggers(ScSpec *spec, Oid relid, int kinds)
{
	List	   *oids = NIL;
	ListCell   *lc;

	(void) find_triggers(spec, relid, kinds, &oids);
	foreach(lc, oids)
		drop_trigger(lfirst_oid(lc));
}

/* Take the triggers from a relation that is no member any more. */
void
sc_remove_triggers(ScSpec *spec, Oid relid)
{
	remove_triggers(spec, relid, ALL_KINDS);
}

/*
 * A name that tells the rollup, free on all members.  The schema is part of
 * it unless it is public: names of clones must not meet others' either.
 */
static char *
trigger_name(ScSpec *spec, List *members, const char *label)
{
	char	   *nsp = get_namespace_name(get_rel_namespace(spec->view));
	char	   *name1 = strcmp(nsp, "public") == 0 ? pstrdup("scalecache")
		: psprintf("scalecache_%s", nsp);

	for (int n = 0;; n++)
	{
		char	   *name = makeObjectName(name1, get_rel_name(spec->view),
										  n ? psprintf("%s%d", label, n) : label);
		bool		taken = false;
		ListCell   *lc;

		foreach(lc, members)
			if (OidIsValid(get_trigger_oid(lfirst_oid(lc), name, true)))
				taken = true;
		if (!taken)
			return name;
	}
}

/*
 * " WHEN (...)": a column that the rollup reads has changed.  The row's place
 * is no part of that, but maps of zones have to know it.
 */
static char *
update_condition(ScSpec *spec)
{
	Bitmapset  *used = used_columns(spec);
	StringInfoData sql;
	int			i = -1;
	int			n = 0;

	initStringInfo(&sql);
	appendStringInfoString(&sql, " WHEN (");
	while ((i = bms_next_member(used, i)) >= 0)
	{
		const char *column = quote_identifier(get_attname(spec->source,
														  i + FirstLowInvalidHeapAttributeNumber,
														  false));

		/* As many pairs as a function takes arguments. */
		if (n % (FUNC_MAX_ARGS / 2 - 2) == 0)
			appendStringInfo(&sql, "%sscalecache.row_differs(OLD.tableoid, NEW.tableoid, OLD.ctid, NEW.ctid",
							 n ? ") OR " : "");
		appendStringInfo(&sql, ", OLD.%s, NEW.%s", column, column);
		n++;
	}
	appendStringInfoString(&sql, "))");
	return sql.data;
}

/* The view already depends on the columns that the condition names. */
static void
forget_columns(ScSpec *spec, Oid relid)
{
	List	   *oids = NIL;
	ListCell   *lc;

	(void) find_triggers(spec, relid, ALL_KINDS, &oids);
	foreach(lc, oids)
		deleteDependencyRecordsForClass(TriggerRelationId, lfirst_oid(lc),
										RelationRelationId, DEPENDENCY_NORMAL);
}

static void
create_trigger(ScSpec *spec, Oid relid, const char *name, const char *when,
			   const char *rest)
{
	char	   *sql = psprintf("CREATE TRIGGER %s %s ON %s %s('" INT64_FORMAT "')",
							   quote_identifier(name), when,
							   sc_qualified_name(relid), rest, spec->id);
	RawStmt    *raw = linitial_node(RawStmt, raw_parser(sql, RAW_PARSE_DEFAULT));
	Oid			saveuser;
	int			savesec;
	ObjectAddress self,
				view;

	GetUserIdAndSecContext(&saveuser, &savesec);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID,
						   savesec | SECURITY_LOCAL_USERID_CHANGE);
	self = CreateTriggerFiringOn((CreateTrigStmt *) raw->stmt, sql, relid,
								 InvalidOid, InvalidOid, InvalidOid, InvalidOid,
								 InvalidOid, NULL, false, false,
								 TRIGGER_FIRES_ALWAYS);
	SetUserIdAndSecContext(saveuser, savesec);
	ObjectAddressSet(view, RelationRelationId, spec->view);
	recordDependencyOn(&self, &view, DEPENDENCY_AUTO);
	CommandCounterIncrement();
}

/* Triggers for rows: on the source for its partitions too, else on each. */
static void
install_row_triggers(ScSpec *spec, List *members)
{
	bool		cloned = get_rel_relkind(spec->source) == RELKIND_PARTITIONED_TABLE;
	List	   *on = cloned ? list_make1_oid(spec->source) : members;
	int			need = wanted(spec) & ROWS;
	bool		whole = true;
	ListCell   *lc;

	foreach(lc, members)
		if (need & ~find_triggers(spec, lfirst_oid(lc), 0, NULL))
			whole = false;
	if (whole)
		return;
	foreach(lc, on)
	{
		Oid			relid = lfirst_oid(lc);

		if (!cloned &&
			(need & ~find_triggers(spec, relid, 0, NULL)) == 0)
			continue;
		remove_triggers(spec, relid, ROWS);
		members = cloned ? spec->members : list_make1_oid(relid);
		create_trigger(spec, relid, trigger_name(spec, members, "insert"),
					   "AFTER INSERT",
					   "FOR EACH ROW EXECUTE FUNCTION scalecache.rollup_capture");
		create_trigger(spec, relid, trigger_name(spec, members, "delete"),
					   "AFTER DELETE",
					   "FOR EACH ROW EXECUTE FUNCTION scalecache.rollup_capture");
		if (need & UPDATES)
			create_trigger(spec, relid, trigger_name(spec, members, "update"),
						   "AFTER UPDATE",
						   psprintf("FOR EACH ROW%s EXECUTE FUNCTION scalecache.rollup_capture",
									update_condition(spec)));
	}
}

/*
 * Make the triggers that these members lack.  Takes ShareRowExclusiveLock on
 * those, until the transaction ends.
 */
void
sc_install_triggers(ScSpec *spec, List *members)
{
	ListCell   *lc;

	install_row_triggers(spec, members);
	foreach(lc, members)
	{
		Oid			relid = lfirst_oid(lc);
		int			lacks = (TRUNCATE | TRUNCATED) & ~find_triggers(spec, relid, 0, NULL);

		if (lacks)
			LockRelationOid(relid, ShareRowExclusiveLock);
		remove_triggers(spec, relid, lacks);
		if (lacks & TRUNCATE)
			create_trigger(spec, relid,
						   trigger_name(spec, list_make1_oid(relid), "truncate"),
						   "BEFORE TRUNCATE",
						   "FOR EACH STATEMENT EXECUTE FUNCTION scalecache.rollup_truncate");
		if (lacks & TRUNCATED)
			create_trigger(spec, relid,
						   trigger_name(spec, list_make1_oid(relid), "truncated"),
						   "AFTER TRUNCATE",
						   "FOR EACH STATEMENT EXECUTE FUNCTION scalecache.rollup_truncate");
		forget_columns(spec, relid);
	}
}
