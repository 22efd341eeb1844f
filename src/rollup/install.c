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
#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_trigger.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "commands/tablecmds.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parser.h"
#include "pgstat.h"
#include "port/pg_bitutils.h"
#include "storage/lmgr.h"
#include "storage/predicate.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "base/owner.h"
#include "rollup/rollup.h"

bool		sc_own_command = false;

/* ---- running commands as the extension's owner ---- */

/* Our event triggers know what we do ourselves. */
static void
exec_own_command(const char *sql)
{
	bool		outer = sc_own_command;

	sc_own_command = true;
	PG_TRY();
	{
		sc_exec_as_owner(sql);
	}
	PG_FINALLY();
	{
		sc_own_command = outer;
	}
	PG_END_TRY();
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
		return psprintf("%s) USING heap WITH (fillfactor = 80)", sc_distincts_columns);
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
					spec->aggs[i].fin.resultcollation);
	}
	if (base)
		appendStringInfoString(&sql, SC_BASE_COLUMNS ") USING heap WITH (fillfactor = 80)");
	else
		appendStringInfoString(&sql, "change bytea) USING heap WITH (autovacuum_enabled = off, "
							   "vacuum_truncate = off)");
	return sql.data;
}

/*
 * Keep what is written to a table of ours from logical decoding.  A
 * publication FOR ALL TABLES has each, and a subscriber that lacks one stops
 * at the first row of it.  The server decodes nothing of a table that says
 * that it is written for another one, as those of VACUUM FULL do.
 */
static void
set_relrewrite(Oid relid)
{
	Relation	rel = table_open(RelationRelationId, RowExclusiveLock);
	HeapTuple	tuple = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(relid));

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	((Form_pg_class) GETSTRUCT(tuple))->relrewrite = relid;
	CatalogTupleUpdate(rel, &tuple->t_self, tuple);
	heap_freetuple(tuple);
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

static void
hide_from_decoding(Oid relid)
{
	Relation	rel = table_open(relid, ShareUpdateExclusiveLock);
	Oid			toast = rel->rd_rel->reltoastrelid;

	table_close(rel, NoLock);
	set_relrewrite(relid);
	if (OidIsValid(toast))
	{
		LockRelationOid(toast, ShareUpdateExclusiveLock);
		set_relrewrite(toast);
	}
}

/* The tables of the schema scalecache, which a script has made. */
void
sc_hide_from_decoding(void)
{
	Oid			nsp = sc_own_namespace();
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *relids = NIL;
	ListCell   *lc;

	if (!OidIsValid(nsp))
		return;
	rel = table_open(RelationRelationId, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		if (form->relnamespace == nsp && form->relkind == RELKIND_RELATION &&
			!OidIsValid(form->relrewrite))
			relids = lappend_oid(relids, form->oid);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	foreach(lc, relids)
		if (ConditionalLockRelationOid(lfirst_oid(lc), ShareUpdateExclusiveLock) &&
			SearchSysCacheExists1(RELOID, ObjectIdGetDatum(lfirst_oid(lc))))
			hide_from_decoding(lfirst_oid(lc));
}

/*
 * Is this name free, and ours until the transaction ends?  Nobody waits for
 * anybody: rollups of one name in several schemas are made at the same time.
 */
static bool
take_name(Oid nsp, const char *name)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, nsp,
					   DatumGetUInt32(hash_any((const unsigned char *) name, strlen(name))), 0);
	if (LockAcquire(&tag, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	/* Who had it before may have made the table. */
	AcceptInvalidationMessages();
	return !OidIsValid(get_relname_relid(name, nsp));
}

/* The rollup's own name for its base if that is free: EXPLAIN shows it. */
static char *
choose_name(Oid nsp, const char *name, const char *kind, bool own)
{
	for (int n = 0;; n++)
	{
		char	   *chosen = own && n == 0 ? pstrdup(name) :
			makeObjectName(name, NULL, n > own ? psprintf("%s%d", kind, n - own) : kind);

		if (take_name(nsp, chosen))
			return chosen;
	}
}

static Oid
create_table(ScSpec *spec, const char *name, const char *kind)
{
	Oid			nsp = get_namespace_oid("scalecache_data", false);
	bool		base = strcmp(kind, "base") == 0;
	char	   *relname = choose_name(nsp, name, kind, base);
	ObjectAddress self,
				ext;
	Oid			relid;
	ListCell   *lc;

	exec_own_command(psprintf("CREATE TABLE scalecache_data.%s (%s",
							  quote_identifier(relname),
							  table_columns(spec, kind)));
	relid = get_relname_relid(relname, nsp);
	if (base && spec->part < SC_PART_LOG)
		foreach(lc, sc_base_index_commands(spec, sc_qualified_name(relid)))
			exec_own_command(lfirst(lc));
	if (strcmp(kind, "distinct") == 0)
		exec_own_command(psprintf("CREATE INDEX ON scalecache_data.%s (%s)",
								  quote_identifier(relname), sc_distincts_index));
	exec_own_command(psprintf("CREATE TRIGGER protect BEFORE INSERT OR UPDATE OR "
							  "DELETE OR TRUNCATE ON scalecache_data.%s "
							  "EXECUTE FUNCTION scalecache.rollup_protect()",
							  quote_identifier(relname)));
	sc_exec_as_owner(psprintf("CREATE TRIGGER protect_rows BEFORE INSERT OR UPDATE OR "
							  "DELETE ON scalecache_data.%s FOR EACH ROW "
							  "EXECUTE FUNCTION scalecache.rollup_protect()",
							  quote_identifier(relname)));
	sc_exec_as_owner(psprintf("ALTER TABLE scalecache_data.%s ENABLE ALWAYS TRIGGER protect_rows",
							  quote_identifier(relname)));
	hide_from_decoding(relid);
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

/* As TRUNCATE does it, but nothing of it is decoded. */
static void
empty_table(Oid relid)
{
	Relation	rel;
	Oid			toast;
	ReindexParams params = {0};

	if (!OidIsValid(relid))
		return;
	rel = table_open(relid, AccessExclusiveLock);
	CheckTableNotInUse(rel, "TRUNCATE");
	CheckTableForSerializableConflictIn(rel);
	toast = rel->rd_rel->reltoastrelid;
	RelationSetNewRelfilenode(rel, rel->rd_rel->relpersistence);
	pgstat_count_truncate(rel);
	table_close(rel, NoLock);
	if (OidIsValid(toast))
	{
		rel = table_open(toast, AccessExclusiveLock);
		RelationSetNewRelfilenode(rel, rel->rd_rel->relpersistence);
		table_close(rel, NoLock);
	}
	reindex_relation(relid, REINDEX_REL_PROCESS_TOAST, &params);
}

/* Empty the tables.  Changes that are not written yet must have been. */
void
sc_storage_clear(ScSpec *spec)
{
	empty_table(spec->base);
	empty_table(spec->delta[0]);
	empty_table(spec->delta[1]);
	empty_table(spec->distincts);
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
	sc_catalog_insert_part(part->id, base, part->source, part->zone, part->path,
						   part->part_of, part->part);
	sc_catalog_set(part->id, SC_STALE, true, base, delta, NIL);
	sc_mark_reset(part->id, 0);
}

/* Make the tables anew if one is missing; triggers may come from a dump. */
void
sc_install_storage(Oid view)
{
	ScSpec	   *spec = sc_spec_by_view(view);

	if (spec == NULL)
		return;
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
		sc_query_check(copyObject(spec->query), false);
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
triggers_of(ScSpec *spec, Relation rel, int listed, List **oids)
{
	Oid			capture = sc_own_function("rollup_capture", 0, NULL);
	Oid			truncate = sc_own_function("rollup_truncate", 0, NULL);
	char	   *arg = psprintf(INT64_FORMAT, spec->id);
	int			kinds = 0;

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
	return kinds;
}

static int
find_triggers(ScSpec *spec, Oid relid, int listed, List **oids)
{
	Relation	rel = try_table_open(relid, AccessShareLock);
	int			kinds = 0;

	if (rel)
	{
		kinds = triggers_of(spec, rel, listed, oids);
		table_close(rel, NoLock);
	}
	return kinds;
}

/* Columns that the rollup reads, by the numbers they have in this member. */
static Bitmapset *
used_columns(ScSpec *spec, Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	Bitmapset  *used = sc_spec_used(spec, rel);

	table_close(rel, NoLock);
	return used;
}

static int
wanted(Bitmapset *used)
{
	return INSERTS | DELETES | TRUNCATE | TRUNCATED |
		(bms_is_empty(used) ? 0 : UPDATES);
}

/* In any mode: who waits for a stronger lock is in the way of a weaker one. */
static bool
is_locked_by_me(Oid relid)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	for (LOCKMODE mode = AccessShareLock; mode <= AccessExclusiveLock; mode++)
		if (LockHeldByMe(&tag, mode))
			return true;
	return false;
}

/*
 * Lock and open; NULL: it is gone.  If not to wait, *locked is false, and the
 * result NULL, where somebody else has it locked.
 */
static Relation
open_member(Oid relid, bool wait, bool *locked)
{
	*locked = wait || is_locked_by_me(relid) ||
		ConditionalLockRelationOid(relid, AccessShareLock);
	return *locked ? try_table_open(relid, wait ? AccessShareLock : NoLock) : NULL;
}

/*
 * Will every change of this member be noticed?  Not when somebody has dropped
 * the source, on which the caller need not hold a lock.  One that is not to be
 * waited for is taken to be as it was: who has it locked looks for himself, if
 * he changes what matters.
 */
bool
sc_triggers_intact(ScSpec *spec, Oid relid, bool wait)
{
	bool		locked;
	Relation	rel = open_member(relid, wait, &locked);
	Relation	source;
	bool		intact = !locked;

	if (rel == NULL)
		return intact;
	source = open_member(spec->source, wait, &locked);
	if (source || !locked)
		intact = (wanted(sc_spec_used(spec, source ? source : rel)) &
				  ~triggers_of(spec, rel, 0, NULL)) == 0;
	if (source)
		table_close(source, NoLock);
	table_close(rel, NoLock);
	return intact;
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
	Bitmapset  *used = used_columns(spec, spec->source);
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

/*
 * Have a relation's triggers of these kinds fire always, if there is one of
 * each.  ShareRowExclusiveLock is enough for that.  To drop them and make others
 * takes more, and who has the one lock and waits for the other is in a deadlock
 * with somebody who reads the table and wants to lock it against writers.
 */
static bool
enable_triggers(ScSpec *spec, Oid relid, int kinds)
{
	Relation	rel = try_table_open(relid, ShareRowExclusiveLock);
	List	   *oids = NIL;
	List	   *names = NIL;
	ListCell   *lc;

	if (rel == NULL)
		return false;
	(void) triggers_of(spec, rel, kinds, &oids);
	for (int i = 0; oids && i < rel->trigdesc->numtriggers; i++)
		if (list_member_oid(oids, rel->trigdesc->triggers[i].tgoid))
			names = lappend(names, pstrdup(rel->trigdesc->triggers[i].tgname));
	/* With two of a kind each row would be counted twice. */
	if (list_length(names) == pg_popcount32(kinds))
		foreach(lc, names)
			EnableDisableTrigger(rel, lfirst(lc), TRIGGER_FIRES_ALWAYS, false,
								 ShareRowExclusiveLock);
	table_close(rel, NoLock);
	CommandCounterIncrement();
	return (kinds & ~find_triggers(spec, relid, 0, NULL)) == 0;
}

/* Triggers for rows: on the source for its partitions too, else on each. */
static void
install_row_triggers(ScSpec *spec, List *members)
{
	bool		cloned = get_rel_relkind(spec->source) == RELKIND_PARTITIONED_TABLE;
	List	   *on = cloned ? list_make1_oid(spec->source) : members;
	int			need;
	bool		whole = true;
	ListCell   *lc;

	if (members == NIL)
		return;
	/* Not of the source: who has it locked may wait for a member. */
	need = wanted(used_columns(spec, linitial_oid(members))) & ROWS;
	foreach(lc, members)
		if ((need & ~find_triggers(spec, lfirst_oid(lc), 0, NULL)) &&
			!enable_triggers(spec, lfirst_oid(lc), need))
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

		for (int kind = TRUNCATE; kind <= TRUNCATED; kind *= 2)
			if ((lacks & kind) && enable_triggers(spec, relid, kind))
				lacks &= ~kind;
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
