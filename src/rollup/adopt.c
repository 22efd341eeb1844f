/*
 * adopt.c: dependencies that a dump does not carry.
 *
 * A view depends (auto) on the extension, and on the views that its query was
 * taken apart from (pullup.c); a rollup's triggers depend (auto) on its view.
 * pg_dump and pg_upgrade lose all of that, and with it that DROP VIEW and DROP
 * EXTENSION take everything, or ask.  So they are put back: by the worker
 * when it starts, before each command that drops something, when a trigger
 * comes after that, and when the storage is filled anew.  And who restores a
 * dump need not fail because the worker was there first.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_trigger.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "commands/tablecmds.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "pgtime.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "base/owner.h"
#include "rollup/rollup.h"

/* A trigger of a log that is yet to be made may be of one of so many. */
#define MAX_JOINED		64

PG_FUNCTION_INFO_V1(scalecache_rollup_adopt);
PG_FUNCTION_INFO_V1(scalecache_rollup_check);

/* The trigger that was passed over last, for it will be made later. */
static Oid	passed_over_on = InvalidOid;
static NameData passed_over;

static bool
depends(const ObjectAddress *object, const ObjectAddress *on)
{
	Relation	rel = table_open(DependRelationId, AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	ScanKeyInit(&key[0], Anum_pg_depend_classid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(object->classId));
	ScanKeyInit(&key[1], Anum_pg_depend_objid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(object->objectId));
	scan = systable_beginscan(rel, DependDependerIndexId, true, NULL, 2, key);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend dep = (Form_pg_depend) GETSTRUCT(tuple);

		found = dep->refclassid == on->classId &&
			dep->refobjid == on->objectId && dep->refobjsubid == 0;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/* Was the trigger made for the rollup with this id? */
static bool
belongs(HeapTuple tuple, TupleDesc desc, const char *id)
{
	Form_pg_trigger trigger = (Form_pg_trigger) GETSTRUCT(tuple);
	bool		isnull;
	Datum		args;

	if (trigger->tgnargs != 1 || OidIsValid(trigger->tgparentid) ||
		get_func_namespace(trigger->tgfoid) != sc_own_namespace())
		return false;
	args = heap_getattr(tuple, Anum_pg_trigger_tgargs, desc, &isnull);
	return !isnull && strcmp(VARDATA_ANY(DatumGetByteaPP(args)), id) == 0;
}

static void
adopt_triggers(Oid relid, const char *id, const ObjectAddress *view)
{
	Relation	rel = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, TriggerRelidNameIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		ObjectAddress self;

		ObjectAddressSet(self, TriggerRelationId,
						 ((Form_pg_trigger) GETSTRUCT(tuple))->oid);
		if (belongs(tuple, RelationGetDescr(rel), id) && !depends(&self, view))
			recordDependencyOn(&self, view, DEPENDENCY_AUTO);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

static bool
has_trigger(Oid relid, const char *id)
{
	Relation	rel = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, TriggerRelidNameIndexId, true, NULL, 1, &key);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
		found = belongs(tuple, RelationGetDescr(rel), id);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/* Are there any?  One that is being created concurrently may have none yet. */
bool
sc_has_triggers(ScSpec *spec)
{
	char	   *id = psprintf(INT64_FORMAT, spec->id);
	bool		found = OidIsValid(spec->source) && has_trigger(spec->source, id);
	ListCell   *lc;

	foreach(lc, spec->members)
		found = found || has_trigger(lfirst_oid(lc), id);
	return found;
}

/* A rollup's triggers go with its view, whoever has made them. */
void
sc_adopt_triggers(ScSpec *spec)
{
	ObjectAddress view;
	ListCell   *lc;

	ObjectAddressSet(view, RelationRelationId, spec->view);
	foreach(lc, spec->members)
		adopt_triggers(lfirst_oid(lc), psprintf(INT64_FORMAT, spec->id), &view);
}

/*
 * So do those of a join's other tables.  They belong to the logs, or to what
 * has none yet, and then they are known by the ids that the logs will have.
 */
static void
adopt_log_triggers(ScSpec *spec)
{
	ObjectAddress view;
	ListCell   *lc;
	int			part = SC_PART_LOG;
	bool		detaching;
	bool		unfit;

	if (spec->joined == NULL)
		return;
	if (spec->hasparts)
	{
		foreach(lc, sc_parts_logs(spec->view))
		{
			ScSpec	   *log = sc_spec_by_view(lfirst_oid(lc));

			if (log == NULL)
				continue;
			sc_adopt_triggers(log);
			sc_spec_release(log);
		}
		return;
	}
	ObjectAddressSet(view, RelationRelationId, spec->view);
	foreach(lc, sc_join_tables(spec->joined,
							   sc_join_fact(spec->joined, spec->source)))
	{
		char	   *id = psprintf(INT64_FORMAT, sc_part_id(spec->id, part++));
		ListCell   *member;

		foreach(member, sc_source_members(lfirst_oid(lc), true, &detaching, &unfit))
			adopt_triggers(lfirst_oid(member), id, &view);
	}
}

/*
 * The view, or what stands for it, of the rollup with this id.  When that is
 * the id of a log that is not there yet, the view of the join.
 */
static Oid
view_of_id(int64 id)
{
	for (int part = 0; part <= SC_PART_LOG + MAX_JOINED; part++)
	{
		HeapTuple	row;
		bool		isnull;

		if (part == SC_PART_STORED)
			continue;
		row = sc_catalog_fetch(Anum_rollup_id,
							   Int64GetDatum(sc_part_id(id, -part)), NULL);
		if (row && (part == 0 ||
					DatumGetInt32(sc_catalog_attr(row, Anum_rollup_part, &isnull)) == 0))
			return DatumGetObjectId(sc_catalog_attr(row, Anum_rollup_rollup, &isnull));
	}
	return InvalidOid;
}

/*
 * After CREATE TRIGGER: one that a dump brings when the rollup has been taken
 * over already.
 */
void
sc_adopt_trigger(CreateTrigStmt *stmt)
{
	ObjectAddress self;
	ObjectAddress view;
	Oid			relid;
	char	   *end;

	if (list_length(stmt->funcname) != 2 || list_length(stmt->args) != 1 ||
		strcmp(strVal(linitial(stmt->funcname)), "scalecache") != 0)
		return;
	relid = RangeVarGetRelid(stmt->relation, NoLock, true);
	if (!OidIsValid(relid))
		return;
	ObjectAddressSet(self, TriggerRelationId,
					 get_trigger_oid(relid, stmt->trigname, true));
	ObjectAddressSet(view, RelationRelationId,
					 view_of_id(strtoi64(strVal(linitial(stmt->args)), &end, 10)));
	if (OidIsValid(self.objectId) && *end == '\0' &&
		SearchSysCacheExists1(RELOID, ObjectIdGetDatum(view.objectId)) &&
		!depends(&self, &view))
		recordDependencyOn(&self, &view, DEPENDENCY_AUTO);
}

/* A rollup goes with the views that it was made from. */
void
sc_adopt_by_views(Oid view, List *views)
{
	ObjectAddress self;
	ListCell   *lc;

	ObjectAddressSet(self, RelationRelationId, view);
	foreach(lc, views)
	{
		ObjectAddress on;

		ObjectAddressSet(on, RelationRelationId, lfirst_oid(lc));
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(lfirst_oid(lc))) &&
			!depends(&self, &on))
			recordDependencyOn(&self, &on, DEPENDENCY_NORMAL);
	}
}

/* Put back what is missing, for all rollups of this database. */
void
sc_adopt(void)
{
	ObjectAddress extension;
	ListCell   *lc;

	ObjectAddressSet(extension, ExtensionRelationId,
					 get_extension_oid("scalecache", true));
	if (!OidIsValid(extension.objectId))
		return;
	foreach(lc, sc_catalog_views())
	{
		Oid			relid = lfirst_oid(lc);
		ObjectAddress view;
		HeapTuple	row;
		ScSpec	   *spec;

		ObjectAddressSet(view, RelationRelationId, relid);
		/* Somebody who has locked it out is changing or dropping it. */
		if (depends(&view, &extension) ||
			!ConditionalLockRelationOid(relid, AccessShareLock))
			continue;
		spec = sc_spec_by_view(relid);
		if (spec == NULL)
			continue;
		sc_adopt_triggers(spec);
		adopt_log_triggers(spec);
		row = sc_catalog_fetch(Anum_rollup_rollup, ObjectIdGetDatum(relid), NULL);
		if (row)
			sc_adopt_by_views(relid, sc_catalog_oids(row, Anum_rollup_views));
		recordDependencyOn(&view, &extension, DEPENDENCY_AUTO_EXTENSION);
		sc_spec_release(spec);
	}
	CommandCounterIncrement();
}

/*
 * Is it of a form that rollups' triggers have?  Any other one would capture
 * rows too early, or once more.
 */
static void
check_form(CreateTrigStmt *stmt, bool capture)
{
	bool		right = capture ?
		stmt->row && stmt->timing == TRIGGER_TYPE_AFTER &&
		(stmt->events == TRIGGER_TYPE_INSERT || stmt->events == TRIGGER_TYPE_DELETE ||
		 stmt->events == TRIGGER_TYPE_UPDATE) && stmt->columns == NIL :
		!stmt->row && stmt->events == TRIGGER_TYPE_TRUNCATE;

	if (!right || stmt->isconstraint || list_length(stmt->args) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("trigger \"%s\" is not one that rollups have", stmt->trigname),
				 capture ?
				 errdetail("They have one after INSERT, one after DELETE and one after UPDATE of any column, for each row.") :
				 errdetail("They have one before TRUNCATE and one after it, for each statement."),
				 errhint("Create rollups with scalecache.create_rollup. What they lack, scalecache.rebuild_rollup makes.")));
}

/*
 * The name of a relation's trigger that does what this one would, or NULL.  Of
 * a partition it may be that of the whole table.
 */
static char *
trigger_like(Oid relid, CreateTrigStmt *stmt, bool *cloned)
{
	Relation	rel = table_open(relid, NoLock);
	Oid			function = LookupFuncName(stmt->funcname, 0, NULL, true);
	int16		type = stmt->timing | stmt->events |
		(stmt->row ? TRIGGER_TYPE_ROW : 0);
	char	   *name = NULL;

	for (int i = 0; rel->trigdesc && i < rel->trigdesc->numtriggers; i++)
	{
		Trigger    *t = &rel->trigdesc->triggers[i];
		bool		same = t->tgtype == type && t->tgfoid == function &&
			t->tgnargs == list_length(stmt->args);
		ListCell   *lc;
		int			nth = 0;

		if (!same)
			continue;
		foreach(lc, stmt->args)
			same = same &&
				strcmp(strVal(lfirst(lc)), t->tgargs[nth++]) == 0;
		/* If there are several, the one with its name. */
		if (same && (name == NULL || strcmp(t->tgname, stmt->trigname) == 0))
		{
			name = pstrdup(t->tgname);
			*cloned = t->tgisclone;
		}
	}
	table_close(rel, NoLock);
	return name;
}

/*
 * A row was added by a command, not by create_rollup: a dump is being
 * restored, or somebody makes one up.  It has to be what its owner could have
 * created, for the worker makes the storage of whatever is there.
 */
Datum
scalecache_rollup_check(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	bool		isnull;
	Oid			view;
	Oid			source;
	Datum		zone;
	ScSpec	   *spec;
	const char *path;
	List	   *names;
	ListCell   *lc;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_INSERT(data->tg_event) ||
		!TRIGGER_FIRED_AFTER(data->tg_event) || !TRIGGER_FIRED_FOR_ROW(data->tg_event) ||
		RelationGetRelid(data->tg_relation) != sc_catalog_relid())
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" serves rollup triggers only", "rollup_check"),
				 errhint("Create rollups with scalecache.create_rollup.")));
	if (superuser())
		return PointerGetDatum(NULL);
	view = DatumGetObjectId(sc_catalog_attr(data->tg_trigtuple, Anum_rollup_rollup, &isnull));
	source = DatumGetObjectId(sc_catalog_attr(data->tg_trigtuple, Anum_rollup_source, &isnull));
	zone = sc_catalog_attr(data->tg_trigtuple, Anum_rollup_time_zone, &isnull);
	/* Nobody is to give it another query from now on. */
	LockRelationOid(view, AccessShareLock);
	if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(view)))
		CacheInvalidateRelcacheByRelid(view);
	CommandCounterIncrement();
	sc_check_rollup(view);
	sc_refuse_temporary(view);
	spec = sc_spec_by_view(view);
	path = spec->path;
	if (spec->query == NULL || spec->source != source || isnull ||
		pg_tzset(TextDatumGetCString(zone)) == NULL ||
		(path && !SplitIdentifierString(pstrdup(path), ',', &names)))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("rollup \"%s\" does not fit its view", get_rel_name(view)),
				 errhint("Create rollups with scalecache.create_rollup.")));
	sc_query_check(copyObject(spec->query), true);
	if (spec->joined)
		sc_query_check(copyObject(spec->joined), true);
	sc_spec_release(spec);
	/* It will not go without these. */
	foreach(lc, sc_catalog_oids(data->tg_trigtuple, Anum_rollup_views))
		if (get_rel_relkind(lfirst_oid(lc)) != RELKIND_VIEW ||
			pg_class_aclcheck(lfirst_oid(lc), GetUserId(), ACL_SELECT) != ACLCHECK_OK)
			aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_VIEW, get_rel_name(lfirst_oid(lc)));
	return PointerGetDatum(NULL);
}

/*
 * Who may not call the function cannot create the trigger either; but for a
 * rollup of his it will be made with the storage.
 */
static bool
pass_over(CreateTrigStmt *stmt, Oid relid)
{
	Oid			function = LookupFuncName(stmt->funcname, 0, NULL, true);
	Oid			view;
	char	   *end;

	if (pg_proc_aclcheck(function, GetUserId(), ACL_EXECUTE) == ACLCHECK_OK)
		return false;
	view = view_of_id(strtoi64(strVal(linitial(stmt->args)), &end, 10));
	if (*end != '\0' || !SearchSysCacheExists1(RELOID, ObjectIdGetDatum(view)) ||
		!pg_class_ownercheck(view, GetUserId()))
		return false;
	ereport(NOTICE,
			(errmsg("trigger \"%s\" for relation \"%s\" will be made with rollup \"%s\", skipping",
					stmt->trigname, get_rel_name(relid), get_rel_name(view))));
	passed_over_on = relid;
	namestrcpy(&passed_over, stmt->trigname);
	return true;
}

/* A dump goes on to have it fire always. */
bool
sc_trigger_passed_over(AlterTableStmt *stmt)
{
	AlterTableCmd *cmd = linitial_node(AlterTableCmd, stmt->cmds);

	return OidIsValid(passed_over_on) && list_length(stmt->cmds) == 1 &&
		cmd->subtype == AT_EnableAlwaysTrig &&
		strcmp(cmd->name, NameStr(passed_over)) == 0 &&
		RangeVarGetRelid(stmt->relation, NoLock, true) == passed_over_on &&
		!OidIsValid(get_trigger_oid(passed_over_on, cmd->name, true));
}

/*
 * While a database is being restored its worker may make a trigger before the
 * dump does.  Is one there already with this function, arguments and events?
 * (Its condition is of the worker's making, and at least as good.)  It may be
 * called otherwise, as the view has been renamed since the dump's was made;
 * with both of them each row would be captured twice.
 */
bool
sc_trigger_restored(CreateTrigStmt *stmt)
{
	char	   *called = strVal(llast(stmt->funcname));
	Oid			function;
	bool		capture;
	Oid			relid;
	char	   *name;
	bool		cloned = false;

	if (strcmp(called, "rollup_capture") != 0 && strcmp(called, "rollup_truncate") != 0)
		return false;
	function = LookupFuncName(stmt->funcname, 0, NULL, true);
	if (!OidIsValid(function))
		return false;
	capture = function == sc_own_function("rollup_capture", 0, NULL);
	if (!capture && function != sc_own_function("rollup_truncate", 0, NULL))
		return false;
	check_form(stmt, capture);
	/* As CREATE TRIGGER: the worker may be about to commit its own. */
	relid = RangeVarGetRelidExtended(stmt->relation, ShareRowExclusiveLock,
									 RVR_MISSING_OK,
									 RangeVarCallbackOwnsTable, NULL);
	if (!OidIsValid(relid))
		return false;
	name = trigger_like(relid, stmt, &cloned);
	if (name == NULL)
		return !stmt->replace && pass_over(stmt, relid);
	if ((cloned || stmt->replace) && strcmp(name, stmt->trigname) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("trigger \"%s\" for relation \"%s\" already exists, as \"%s\"",
						stmt->trigname, get_rel_name(relid), name),
				 errdetail("With both of them each row would be captured twice."),
				 errhint("Create rollups with scalecache.create_rollup, which makes their triggers.")));
	if (stmt->replace)
		return false;
	if (strcmp(name, stmt->trigname) != 0)
	{
		RenameStmt *rename = makeNode(RenameStmt);

		/* The dump goes on to enable it by its own name. */
		rename->renameType = OBJECT_TRIGGER;
		rename->relation = stmt->relation;
		rename->subname = name;
		rename->newname = stmt->trigname;
		(void) renametrig(rename);
		CommandCounterIncrement();
	}
	ereport(NOTICE,
			(errcode(ERRCODE_DUPLICATE_OBJECT),
			 errmsg("trigger \"%s\" for relation \"%s\" already exists, skipping",
					stmt->trigname, get_rel_name(relid))));
	return true;
}

/* ddl_command_start of what may drop a rollup or its extension */
Datum
scalecache_rollup_adopt(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" serves an event trigger only", "rollup_adopt")));
	sc_adopt();
	PG_RETURN_NULL();
}
