/*
 * adopt.c: dependencies that a dump does not carry.
 *
 * A view depends (auto) on the extension, and on the views that its query was
 * taken apart from (pullup.c); a rollup's triggers depend (auto) on its view.
 * pg_dump and pg_upgrade lose all of that, and with it that DROP VIEW and DROP
 * EXTENSION take everything, or ask.  So they are put back: by the worker
 * when it starts, before each command that drops something, when a trigger
 * comes after that, and when the storage is filled anew.  And who restores a dump need not fail because the
 * worker was there first.
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
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "commands/tablecmds.h"
#include "commands/trigger.h"
#include "parser/parse_func.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "rollup/rollup.h"

/* A trigger of a log that is yet to be made may be of one of so many. */
#define MAX_JOINED		64

PG_FUNCTION_INFO_V1(scalecache_rollup_adopt);

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
		get_func_namespace(trigger->tgfoid) != get_namespace_oid("scalecache", true))
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

		foreach(member, find_all_inheritors(lfirst_oid(lc), NoLock, NULL))
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
 * While a database is being restored its worker may make a trigger before the
 * dump does.  Is one there already with this name, function, arguments and
 * events?  (Its condition is of the worker's making, and at least as good.)
 */
bool
sc_trigger_restored(CreateTrigStmt *stmt)
{
	Oid			relid;
	Oid			oid;
	Relation	rel;
	bool		same = false;
	int16		type = stmt->timing | stmt->events |
		(stmt->row ? TRIGGER_TYPE_ROW : 0);

	if (stmt->isconstraint || stmt->replace ||
		list_length(stmt->funcname) != 2 ||
		strcmp(strVal(linitial(stmt->funcname)), "scalecache") != 0)
		return false;
	/* As CREATE TRIGGER: the worker may be about to commit its own. */
	relid = RangeVarGetRelidExtended(stmt->relation, ShareRowExclusiveLock,
									 RVR_MISSING_OK,
									 RangeVarCallbackOwnsTable, NULL);
	oid = OidIsValid(relid) ? get_trigger_oid(relid, stmt->trigname, true) :
		InvalidOid;
	if (!OidIsValid(oid))
		return false;
	rel = table_open(relid, NoLock);
	for (int i = 0; i < rel->trigdesc->numtriggers; i++)
	{
		Trigger    *t = &rel->trigdesc->triggers[i];
		ListCell   *lc;
		int			nth = 0;

		if (t->tgoid != oid)
			continue;
		same = t->tgtype == type && t->tgnargs == list_length(stmt->args) &&
			t->tgfoid == LookupFuncName(stmt->funcname, 0, NULL, true);
		foreach(lc, stmt->args)
			same = same &&
				strcmp(strVal(lfirst(lc)), t->tgargs[nth++]) == 0;
	}
	table_close(rel, NoLock);
	if (same)
		ereport(NOTICE,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("trigger \"%s\" for relation \"%s\" already exists, skipping",
						stmt->trigname, get_rel_name(relid))));
	return same;
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
