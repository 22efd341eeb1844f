/*
 * ddl.c: what happens to a rollup's source and view.
 *
 *	ddl_command_start	while the rows of what goes can still be read
 *	sql_drop			storage of rollups that have gone, goes; row types that
 *						lost an attribute
 *	ddl_command_end		members that came or went, triggers that changed,
 *						functions and types that are other ones (depends.c)
 *	TRUNCATE triggers	before and after, on each member
 *
 * Nothing here may be needed for being exact against an honest catalog: a
 * source whose members are not those that the storage counts is answered
 * from itself.  Only what comes and goes unseen in between must be caught.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/partition.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_shdepend.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "commands/tablecmds.h"
#include "commands/trigger.h"
#include "commands/user.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_type.h"
#include "replication/logicalworker.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/owner.h"
#include "rollup/rollup.h"

/* So often all locks are tried for at once, before they are waited for in turn. */
#define LOCK_ROUNDS		100

PG_FUNCTION_INFO_V1(scalecache_rollup_truncate);
PG_FUNCTION_INFO_V1(scalecache_rollup_protect);
PG_FUNCTION_INFO_V1(scalecache_rollup_starting);
PG_FUNCTION_INFO_V1(scalecache_rollup_dropped);
PG_FUNCTION_INFO_V1(scalecache_rollup_altered);

/* ---- which rollups a relation is part of ---- */

static List *
parents_of(Oid relid)
{
	Relation	rel = table_open(InheritsRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *parents = NIL;

	ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, InheritsRelidSeqnoIndexId, true, NULL, 1,
							  &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		parents = lappend_oid(parents,
							  ((Form_pg_inherits) GETSTRUCT(tuple))->inhparent);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return parents;
}

/* Views of rollups whose source is one of these or above one of them. */
static List *
rollups_over(List *relids)
{
	List	   *views = NIL;

	relids = list_copy(relids);
	for (int i = 0; i < list_length(relids); i++)
	{
		Oid			relid = list_nth_oid(relids, i);

		views = list_concat_unique_oid(views, sc_catalog_views_on(relid));
		relids = list_concat_unique_oid(relids, parents_of(relid));
	}
	return views;
}

static List *
add_named(List *relids, RangeVar *rv)
{
	Oid			relid = rv ? RangeVarGetRelid(rv, NoLock, true) : InvalidOid;

	return OidIsValid(relid) ? list_append_unique_oid(relids, relid) : relids;
}

static void
make_stale(Oid view)
{
	ScSpec	   *spec = sc_rollup_lock(view);

	if (spec == NULL)
		return;
	if (spec->stored == SC_LIVE || spec->stored == SC_FILLING)
		sc_catalog_set(spec->id, SC_STALE, true, InvalidOid, NULL, NIL);
	sc_spec_release(spec);
}

/* ---- TRUNCATE ---- */

static bool
all_truncated(List *members)
{
	ListCell   *lc;

	foreach(lc, members)
	{
		LOCKTAG		tag;

		SET_LOCKTAG_RELATION(tag, MyDatabaseId, lfirst_oid(lc));
		if (!LockHeldByMe(&tag, AccessExclusiveLock))
			return false;
	}
	return true;
}

/*
 * Rows of a member are about to go.  When nobody but us can look at any, all
 * members are probably being truncated: then the storage is emptied, and who
 * still has rows is counted anew at the end.
 */
static void
before_truncate(Oid view, Oid relid)
{
	ScSpec	   *spec = sc_rollup_lock(view);

	if (spec == NULL)
		return;
	if (spec->stored == SC_LIVE && list_member_oid(spec->recorded, relid))
	{
		if (all_truncated(spec->recorded))
		{
			(void) sc_capture_flush(spec, NULL);
			sc_storage_clear(spec);
			sc_catalog_set_members(spec->id, NIL, true);
		}
		else
			sc_members_subtract(spec, list_make1_oid(relid));
	}
	sc_spec_release(spec);
}

Datum
scalecache_rollup_truncate(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	ScSpec	   *spec;
	Oid			view;
	bool		wanted;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BY_TRUNCATE(data->tg_event) ||
		data->tg_trigger->tgnargs != 1)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" serves rollup triggers only", "rollup_truncate"),
				 errhint("Create rollups with scalecache.create_rollup.")));
	spec = sc_spec_by_id(strtoll(data->tg_trigger->tgargs[0], NULL, 10));
	if (spec == NULL)
		return PointerGetDatum(NULL);
	view = spec->view;
	wanted = spec->stored == SC_LIVE &&
		(TRIGGER_FIRED_BEFORE(data->tg_event) || spec->state != SC_LIVE);
	sc_spec_release(spec);
	sc_notify_all_groups(view);
	if (!wanted)
		return PointerGetDatum(NULL);
	if (TRIGGER_FIRED_BEFORE(data->tg_event))
		before_truncate(view, RelationGetRelid(data->tg_relation));
	else
		sc_members_reconcile(view, false);
	return PointerGetDatum(NULL);
}

/*
 * On base and delta tables, and those of the extension that say what they are:
 * nobody changes them by hand.  A publisher's are of no use to a subscriber, who
 * has his own; what comes of them is passed over.
 */
Datum
scalecache_rollup_protect(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" serves rollup triggers only", "rollup_protect"),
				 errhint("Create rollups with scalecache.create_rollup.")));
	if (IsLogicalWorker())
		return PointerGetDatum(NULL);
	/* Rows are looked at in these only, for their triggers fire always. */
	if (TRIGGER_FIRED_FOR_ROW(data->tg_event))
		return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(data->tg_event) ?
							   data->tg_newtuple : data->tg_trigtuple);
	/* Scripts that update the extension may. */
	if (!sc_own_command && !creating_extension)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot change \"%s\" directly",
						RelationGetRelationName(data->tg_relation)),
				 errdetail("It is the storage of a rollup."),
				 errhint("Change the rollup's source. Use scalecache.rebuild_rollup to compute the rollup anew.")));
	return PointerGetDatum(NULL);
}

/* ---- before a command ---- */

/* Lock a table and what is below it as DROP TABLE will, if we may drop it. */
static bool
lock_for_drop(RangeVar *rv, Oid relid)
{
	List	   *parents = parents_of(relid);
	ListCell   *lc;

	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)) ||
		(!pg_class_ownercheck(relid, GetUserId()) &&
		 !pg_namespace_ownercheck(get_rel_namespace(relid), GetUserId())))
		return false;
	if (get_rel_relispartition(relid))
		foreach(lc, parents)
			LockRelationOid(lfirst_oid(lc), AccessExclusiveLock);
	LockRelationOid(relid, AccessExclusiveLock);
	/* Somebody else may have dropped or detached it meanwhile. */
	if (RangeVarGetRelid(rv, NoLock, true) != relid ||
		!equal(parents, parents_of(relid)))
		return false;
	(void) find_all_inheritors(relid, AccessExclusiveLock, NULL);
	return true;
}

/* Rows of members that DROP TABLE names are taken out while they are there. */
static void
start_drop_table(DropStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->objects)
	{
		RangeVar   *rv = makeRangeVarFromNameList(lfirst(lc));
		Oid			relid = RangeVarGetRelid(rv, NoLock, true);
		List	   *views;
		ListCell   *l2;

		if (!OidIsValid(relid) || parents_of(relid) == NIL)
			continue;
		views = rollups_over(parents_of(relid));
		if (views == NIL || !lock_for_drop(rv, relid))
			continue;
		foreach(l2, views)
		{
			ScSpec	   *spec = sc_rollup_lock(lfirst_oid(l2));
			bool		detaching;
			bool		unfit;

			if (spec == NULL)
				continue;
			if (spec->stored == SC_LIVE && !spec->detaching)
				sc_members_subtract(spec,
									sc_source_members(relid, true, &detaching,
													  &unfit));
			sc_spec_release(spec);
		}
	}
}

/*
 * Lock all these, holding none while waiting for another: who has one of them
 * may come to want the next, as who has written to a source reads its rollup.
 * Others may come between again and again, so at last they are waited for in
 * the order given.  Nothing that is held already is released.
 */
static void
lock_all(List *relids, LOCKMODE mode)
{
	int			n = list_length(relids);
	int			first = 0;

	for (int round = 0; n > 0 && round < LOCK_ROUNDS; round++)
	{
		int			i;

		LockRelationOid(list_nth_oid(relids, first), mode);
		for (i = 0; i < n; i++)
			if (i != first && !ConditionalLockRelationOid(list_nth_oid(relids, i), mode))
				break;
		if (i == n)
			return;
		UnlockRelationOid(list_nth_oid(relids, first), mode);
		for (int j = 0; j < i; j++)
			if (j != first)
				UnlockRelationOid(list_nth_oid(relids, j), mode);
		first = i;
	}
	for (int i = 0; i < n; i++)
		LockRelationOid(list_nth_oid(relids, i), mode);
}

/*
 * Tables whose triggers go, from the top, as those who write to it lock it.
 * Without triggers nobody need wait for them.
 */
static List *
captured(ScSpec *spec)
{
	if (!sc_has_triggers(spec))
		return NIL;
	return OidIsValid(spec->source) ? lcons_oid(spec->source, list_copy(spec->members)) :
		list_copy(spec->members);
}

/* A partition that is detached while its rollup is stale keeps triggers. */
static List *
left_behind(Oid view)
{
	Relation	depend = table_open(DependRelationId, AccessShareLock);
	Relation	rel = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *triggers = NIL;
	List	   *tables = NIL;
	ListCell   *lc;

	ScanKeyInit(&key[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&key[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(view));
	scan = systable_beginscan(depend, DependReferenceIndexId, true, NULL, 2, key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		if (((Form_pg_depend) GETSTRUCT(tuple))->classid == TriggerRelationId)
			triggers = lappend_oid(triggers, ((Form_pg_depend) GETSTRUCT(tuple))->objid);
	systable_endscan(scan);
	foreach(lc, triggers)
	{
		ScanKeyInit(&key[0], Anum_pg_trigger_oid, BTEqualStrategyNumber,
					F_OIDEQ, ObjectIdGetDatum(lfirst_oid(lc)));
		scan = systable_beginscan(rel, TriggerOidIndexId, true, NULL, 1, key);
		if (HeapTupleIsValid(tuple = systable_getnext(scan)))
			tables = lappend_oid(tables, ((Form_pg_trigger) GETSTRUCT(tuple))->tgrelid);
		systable_endscan(scan);
	}
	table_close(rel, AccessShareLock);
	table_close(depend, AccessShareLock);
	return tables;
}

/* What to lock before a rollup is dropped, but for its view and storage. */
static List *
tables_to_lock(Oid view)
{
	ScSpec	   *spec = sc_spec_by_view(view);
	List	   *tables;
	ListCell   *lc;

	if (spec == NULL)
		return NIL;
	tables = captured(spec);
	sc_spec_release(spec);
	foreach(lc, sc_parts_logs(view))
	{
		ScSpec	   *log = sc_spec_by_view(lfirst_oid(lc));

		if (log == NULL)
			continue;
		tables = list_concat(tables, captured(log));
		sc_spec_release(log);
	}
	return list_concat(tables, left_behind(view));
}

/*
 * Lock rollups that are about to be dropped: their views and the tables whose
 * triggers go, then the storage, and with it the rows of the catalog.  So do
 * those who read or fold them.  Other tables that are to be locked come first,
 * after the views.
 */
static void
lock_rollups(List *views, List *tables)
{
	List	   *locked = NIL;
	ListCell   *lc;

	/* They may be others by the time that we have them. */
	for (;;)
	{
		List	   *relids = list_concat_copy(views, tables);

		foreach(lc, views)
			relids = list_concat(relids, tables_to_lock(lfirst_oid(lc)));
		relids = list_concat_unique_oid(NIL, relids);
		if (list_difference_oid(relids, locked) == NIL)
			break;
		foreach(lc, locked)
			UnlockRelationOid(lfirst_oid(lc), AccessExclusiveLock);
		lock_all(relids, AccessExclusiveLock);
		locked = relids;
	}
	foreach(lc, views)
	{
		ScSpec	   *spec = sc_spec_by_view(lfirst_oid(lc));

		if (spec == NULL)
			continue;
		if (OidIsValid(spec->base))
			LockRelationOid(spec->base, AccessExclusiveLock);
		sc_spec_release(spec);
	}
}

/* May the user drop it?  Without a word, for the command will say it. */
static bool
may_drop(const ObjectAddress *object)
{
	Oid			nsp = get_object_namespace(object);
	Oid			user = GetUserId();

	if (OidIsValid(nsp) && pg_namespace_ownercheck(nsp, user))
		return true;
	switch (object->classId)
	{
		case RelationRelationId:
			return pg_class_ownercheck(object->objectId, user);
		case NamespaceRelationId:
			return pg_namespace_ownercheck(object->objectId, user);
		case ProcedureRelationId:
			return pg_proc_ownercheck(object->objectId, user);
		case TypeRelationId:
			return pg_type_ownercheck(object->objectId, user);
		case OperatorRelationId:
			return pg_oper_ownercheck(object->objectId, user);
		case CollationRelationId:
			return pg_collation_ownercheck(object->objectId, user);
		case ExtensionRelationId:
			return pg_extension_ownercheck(object->objectId, user);
		default:
			return superuser();
	}
}

/* What DROP names, if it is there. */
static ObjectAddress
named_object(DropStmt *stmt, Node *name)
{
	ObjectAddress object = InvalidObjectAddress;
	Relation	rel = NULL;

	switch (stmt->removeType)
	{
		case OBJECT_TABLE:
		case OBJECT_VIEW:
			ObjectAddressSet(object, RelationRelationId,
							 RangeVarGetRelid(makeRangeVarFromNameList((List *) name),
											  NoLock, true));
			return object;
		case OBJECT_SCHEMA:
			ObjectAddressSet(object, NamespaceRelationId,
							 get_namespace_oid(strVal(name), true));
			return object;
		case OBJECT_EXTENSION:
			ObjectAddressSet(object, ExtensionRelationId,
							 get_extension_oid(strVal(name), true));
			return object;
		default:
			/* With the lock that DROP takes. */
			return get_object_address(stmt->removeType, name, &rel,
									  AccessExclusiveLock, true);
	}
}

/* Lock those of these rollups that have storage, and tables with them. */
static void
lock_stored(List *views, List *tables)
{
	List	   *stored = NIL;
	ListCell   *lc;

	foreach(lc, views)
	{
		ScSpec	   *spec = sc_spec_by_view(lfirst_oid(lc));

		if (spec == NULL)
			continue;
		if (OidIsValid(spec->base))
			stored = lappend_oid(stored, lfirst_oid(lc));
		sc_spec_release(spec);
	}
	if (stored)
		lock_rollups(stored, tables);
}

/*
 * DROP drops the triggers of a partitioned table's partitions before its own,
 * and would lock them in that order: a deadlock with who inserts rows.  With
 * CASCADE it would lock a table, and then the view, which who reads it locks
 * first.
 */
static void
start_drop(DropStmt *stmt)
{
	ObjectAddress *objects = palloc(sizeof(ObjectAddress) * list_length(stmt->objects));
	List	   *views = NIL;
	List	   *tables = NIL;
	int			n = 0;
	ListCell   *lc;

	if (stmt->behavior != DROP_CASCADE && stmt->removeType != OBJECT_VIEW)
		return;
	/* Those without it drop no rollup; do not look for their names. */
	if (sc_catalog_views() == NIL)
		return;
	foreach(lc, stmt->objects)
	{
		ObjectAddress object = named_object(stmt, lfirst(lc));

		if (!OidIsValid(object.objectId) || !may_drop(&object))
			continue;
		objects[n++] = object;
		if (stmt->removeType == OBJECT_TABLE)
			tables = lappend_oid(tables, object.objectId);
		else if (stmt->removeType == OBJECT_VIEW)
			views = lappend_oid(views, object.objectId);
	}
	if (stmt->behavior == DROP_CASCADE)
		views = sc_rollups_with(objects, n);
	lock_stored(views, tables);
}

/* The same for what roles own. */
static void
start_drop_owned(DropOwnedStmt *stmt)
{
	Relation	rel = table_open(SharedDependRelationId, AccessShareLock);
	int			room = 64;
	int			n = 0;
	ObjectAddress *objects = palloc(sizeof(ObjectAddress) * room);
	ListCell   *lc;

	foreach(lc, roleSpecsToIds(stmt->roles))
	{
		ScanKeyData key[2];
		SysScanDesc scan;
		HeapTuple	tuple;

		if (!has_privs_of_role(GetUserId(), lfirst_oid(lc)))
			continue;
		ScanKeyInit(&key[0], Anum_pg_shdepend_refclassid, BTEqualStrategyNumber,
					F_OIDEQ, ObjectIdGetDatum(AuthIdRelationId));
		ScanKeyInit(&key[1], Anum_pg_shdepend_refobjid, BTEqualStrategyNumber,
					F_OIDEQ, ObjectIdGetDatum(lfirst_oid(lc)));
		scan = systable_beginscan(rel, SharedDependReferenceIndexId, true, NULL, 2, key);
		while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			Form_pg_shdepend depend = (Form_pg_shdepend) GETSTRUCT(tuple);

			if (depend->dbid != MyDatabaseId ||
				depend->deptype != SHARED_DEPENDENCY_OWNER)
				continue;
			if (n == room)
				objects = repalloc(objects, sizeof(ObjectAddress) * (room *= 2));
			ObjectAddressSet(objects[n], depend->classid, depend->objid);
			n++;
		}
		systable_endscan(scan);
	}
	table_close(rel, AccessShareLock);
	lock_stored(sc_rollups_with(objects, n), NIL);
}

/* And for a column. */
static void
start_drop_column(AlterTableStmt *stmt, const char *column)
{
	Oid			relid = RangeVarGetRelid(stmt->relation, NoLock, true);

	if (OidIsValid(relid) && pg_class_ownercheck(relid, GetUserId()))
		lock_stored(sc_rollups_with_column(relid, column), list_make1_oid(relid));
}

/*
 * DETACH PARTITION CONCURRENTLY commits in the middle, and snapshots disagree
 * about the partition until it is done: the source answers, from the moment
 * on that the first half commits.
 */
static void
start_alter_table(AlterTableStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst(lc);
		Oid			relid;
		List	   *views;

		if (cmd->subtype == AT_DropColumn && cmd->behavior == DROP_CASCADE)
		{
			start_drop_column(stmt, cmd->name);
			continue;
		}
		if (cmd->subtype != AT_DetachPartition ||
			!((PartitionCmd *) cmd->def)->concurrent)
			continue;
		/* Lock and check rights as ALTER TABLE will. */
		relid = AlterTableLookupRelation(stmt, AlterTableGetLockLevel(stmt->cmds));
		if (!OidIsValid(relid))
			continue;
		views = rollups_over(list_make1_oid(relid));
		foreach(lc, views)
			make_stale(lfirst_oid(lc));
		return;
	}
}

/* Tables of others that have triggers of ours, from the top. */
static List *
triggered_tables(void)
{
	Relation	rel = table_open(TriggerRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	Oid			nsp = sc_own_namespace();
	Oid			data = get_namespace_oid("scalecache_data", true);
	HeapTuple	tuple;
	List	   *tables = NIL;
	List	   *parts = NIL;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);
		Oid			of = get_rel_namespace(form->tgrelid);

		if (get_func_namespace(form->tgfoid) != nsp || of == nsp || of == data)
			continue;
		if (get_rel_relispartition(form->tgrelid))
			parts = lappend_oid(parts, form->tgrelid);
		else
			tables = lappend_oid(tables, form->tgrelid);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	list_sort(tables, list_oid_cmp);
	list_deduplicate_oid(tables);
	list_sort(parts, list_oid_cmp);
	list_deduplicate_oid(parts);
	return list_concat(tables, parts);
}

/*
 * Who has a table locked, be it only to read it, may have to look into the
 * extension's tables, so DROP EXTENSION is not to wait for him with these
 * locked.
 */
static bool
start_drop_extension(DropStmt *stmt)
{
	Oid			extension = get_extension_oid("scalecache", true);
	List	   *views = NIL;
	bool		ours = false;
	ListCell   *lc;

	if (stmt->removeType != OBJECT_EXTENSION)
		return false;
	foreach(lc, stmt->objects)
		ours |= strcmp(strVal(lfirst(lc)), "scalecache") == 0;
	if (!ours || !OidIsValid(extension) ||
		!pg_extension_ownercheck(extension, GetUserId()))
		return false;
	foreach(lc, sc_catalog_views())
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_VIEW)
			views = lappend_oid(views, lfirst_oid(lc));
	lock_rollups(views, triggered_tables());
	return true;
}

/* Lock the source as ALTER DOMAIN will, before the storage, and empty that. */
static void
empty_storage(Oid view)
{
	ScSpec	   *spec = sc_spec_by_view(view);
	ListCell   *lc;

	if (spec == NULL)
		return;
	if (OidIsValid(spec->source))
		LockRelationOid(spec->source, ShareLock);
	foreach(lc, spec->members)
		LockRelationOid(lfirst_oid(lc), ShareLock);
	sc_spec_release(spec);
	spec = sc_rollup_lock(view);
	if (spec == NULL)
		return;
	sc_notify_all_groups(view);
	(void) sc_capture_flush(spec, NULL);
	sc_storage_clear(spec);
	sc_catalog_set(spec->id, SC_STALE, true, InvalidOid, NULL, NIL);
	sc_spec_release(spec);
}

/*
 * Values that have gone from a table are still in deltas, and in groups that
 * are not folded.  A domain's new constraint must not fail on these.
 *
 * ALTER DOMAIN locks the views too, and DROP VIEW the view before the source:
 * so all views come first.
 */
static void
start_alter_domain(AlterDomainStmt *stmt)
{
	Oid			type = LookupTypeNameOid(NULL, makeTypeNameFromNameList(stmt->typeName), true);
	List	   *relids;
	List	   *views = NIL;
	ListCell   *lc;

	if (stmt->subtype != 'C' && stmt->subtype != 'V' && stmt->subtype != 'O')
		return;
	if (!OidIsValid(type) || get_typtype(type) != TYPTYPE_DOMAIN ||
		!pg_type_ownercheck(type, GetUserId()))
		return;
	relids = sc_depending_on_type(type);
	foreach(lc, sc_catalog_views())
	{
		ScSpec	   *spec = sc_spec_by_view(lfirst_oid(lc));
		bool		has;

		if (spec == NULL)
			continue;
		has = list_member_oid(relids, spec->base) ||
			list_member_oid(relids, spec->delta[0]) ||
			list_member_oid(relids, spec->delta[1]);
		sc_spec_release(spec);
		if (has)
			views = lappend_oid(views, lfirst_oid(lc));
	}
	foreach(lc, views)
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_VIEW)
			LockRelationOid(lfirst_oid(lc), ShareLock);
	foreach(lc, views)
		empty_storage(lfirst_oid(lc));
}

/* Rollups that are being created may have the schema in their path. */
static void
start_rename_schema(RenameStmt *stmt)
{
	Oid			schema = get_namespace_oid(stmt->subname, true);

	if (OidIsValid(schema) && pg_namespace_ownercheck(schema, GetUserId()))
		sc_catalog_lock_schema(schema, ExclusiveLock);
}

Datum
scalecache_rollup_starting(PG_FUNCTION_ARGS)
{
	EventTriggerData *data = (EventTriggerData *) fcinfo->context;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo) || sc_own_command ||
		!OidIsValid(sc_catalog_relid()))
		PG_RETURN_NULL();
	if (IsA(data->parsetree, AlterTableStmt))
		start_alter_table((AlterTableStmt *) data->parsetree);
	else if (IsA(data->parsetree, AlterDomainStmt))
		start_alter_domain((AlterDomainStmt *) data->parsetree);
	else if (IsA(data->parsetree, DropOwnedStmt))
		start_drop_owned((DropOwnedStmt *) data->parsetree);
	else if (IsA(data->parsetree, RenameStmt) &&
			 ((RenameStmt *) data->parsetree)->renameType == OBJECT_SCHEMA)
		start_rename_schema((RenameStmt *) data->parsetree);
	else if (IsA(data->parsetree, DropStmt))
	{
		DropStmt   *stmt = (DropStmt *) data->parsetree;

		if (!start_drop_extension(stmt))
			start_drop(stmt);
		if (stmt->removeType == OBJECT_TABLE)
			start_drop_table(stmt);
	}
	PG_RETURN_NULL();
}

/* ---- after a drop ---- */

/* What was dropped: relations, and those that lost a column or a trigger. */
static void
dropped_objects(List **relids, List **narrowed, List **retriggered)
{
	MemoryContext cxt = CurrentMemoryContext;

	SPI_connect();
	if (SPI_execute("SELECT classid, objid, objsubid, address_names "
					"FROM pg_catalog.pg_event_trigger_dropped_objects()",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not list dropped objects");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		Oid			classid = DatumGetObjectId(SPI_getbinval(tuple, desc, 1, &isnull));
		Oid			objid = DatumGetObjectId(SPI_getbinval(tuple, desc, 2, &isnull));
		int			subid = DatumGetInt32(SPI_getbinval(tuple, desc, 3, &isnull));
		Datum		names = SPI_getbinval(tuple, desc, 4, &isnull);
		MemoryContext old = MemoryContextSwitchTo(cxt);

		if (classid == RelationRelationId && subid == 0)
			*relids = lappend_oid(*relids, objid);
		else if (classid == RelationRelationId)
			*narrowed = list_append_unique_oid(*narrowed, objid);
		else if (classid == TriggerRelationId && !isnull)
		{
			Datum	   *elems;
			int			n;

			deconstruct_array(DatumGetArrayTypeP(names), TEXTOID, -1, false,
							  TYPALIGN_INT, &elems, NULL, &n);
			if (n >= 2)
				*retriggered = add_named(*retriggered,
										 makeRangeVar(TextDatumGetCString(elems[0]),
													  TextDatumGetCString(elems[1]), -1));
		}
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
}

/* The tables of a rollup's row. */
static List *
storage_of(HeapTuple tuple)
{
	static const int columns[] = {
		Anum_rollup_base, Anum_rollup_delta1, Anum_rollup_delta2,
		Anum_rollup_distincts
	};
	List	   *tables = NIL;
	bool		isnull;

	for (int i = 0; i < lengthof(columns); i++)
	{
		Oid			relid = DatumGetObjectId(sc_catalog_attr(tuple, columns[i],
															 &isnull));

		if (OidIsValid(relid))
			tables = lappend_oid(tables, relid);
	}
	return tables;
}

static bool
any_of(List *a, List *b)
{
	ListCell   *lc;

	foreach(lc, a)
		if (list_member_oid(b, lfirst_oid(lc)))
			return true;
	return false;
}

/* Rollups that have lost the table of a part: all parts are made anew. */
static List *
incomplete(Relation rel, List *relids)
{
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;
	List	   *views = NIL;
	bool		isnull;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		if (DatumGetInt32(sc_catalog_attr(tuple, Anum_rollup_part, &isnull)) != 0 &&
			any_of(relids, storage_of(tuple)))
			views = lappend_oid(views,
								DatumGetObjectId(sc_catalog_attr(tuple, Anum_rollup_part_of,
																 &isnull)));
	systable_endscan(scan);
	return views;
}

/*
 * Then it has no use for what was dropped, and who drops it may wait for our
 * locks: those on triggers that a partition keeps when it is detached.
 */
static bool
is_stale(HeapTuple tuple)
{
	bool		isnull;
	char		state = DatumGetChar(sc_catalog_attr(tuple, Anum_rollup_state, &isnull));

	return state != SC_LIVE && state != SC_FILLING;
}

static void
drop_relations(List *relids)
{
	Relation	rel = sc_catalog_open(RowExclusiveLock);
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *tables = NIL;
	List	   *stale = NIL;
	List	   *views;
	ListCell   *lc;
	bool		isnull;

	if (rel == NULL)
		return;
	views = list_concat_copy(relids, incomplete(rel, relids));
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Oid			view = DatumGetObjectId(sc_catalog_attr(tuple, Anum_rollup_rollup, &isnull));
		Oid			part_of = DatumGetObjectId(sc_catalog_attr(tuple, Anum_rollup_part_of, &isnull));

		if (OidIsValid(part_of) ? list_member_oid(views, part_of) :
			list_member_oid(relids, view))
		{
			int64		id = DatumGetInt64(sc_catalog_attr(tuple, Anum_rollup_id,
														   &isnull));
			Oid			base = DatumGetObjectId(sc_catalog_attr(tuple, Anum_rollup_base,
																&isnull));

			/* The worker may be about to change the row. */
			if (OidIsValid(base))
				LockRelationOid(base, AccessExclusiveLock);
			tuple = sc_catalog_fetch(Anum_rollup_id, Int64GetDatum(id), NULL);
			if (tuple == NULL)
				continue;
			tables = list_concat(tables, storage_of(tuple));
			sc_mark_drop(id);
			sc_rollup_stats_forget(id);
			CatalogTupleDelete(rel, &tuple->t_self);
			CacheInvalidateRelcache(rel);
			if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(part_of)))
				CacheInvalidateRelcacheByRelid(part_of);
		}
		else if (!is_stale(tuple) &&
				 (any_of(relids, sc_catalog_oids(tuple, Anum_rollup_members)) ||
				  any_of(relids, storage_of(tuple))))
			stale = lappend_oid(stale, view);
	}
	systable_endscan(scan);
	table_close(rel, NoLock);
	if (tables)
		CommandCounterIncrement();
	foreach(lc, tables)
		sc_storage_drop(lfirst_oid(lc));
	foreach(lc, stale)
		make_stale(lfirst_oid(lc));
}

/*
 * Remove what is left of rollups whose views have gone and no event trigger
 * was told: what a session has temporarily goes with all that depends on it,
 * and a server in single-user mode fires none.
 */
void
sc_drop_remains(List *views)
{
	List	   *gone = NIL;
	ListCell   *lc;

	foreach(lc, views)
		/* Who is just making it has it locked until we can know of it. */
		if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(lfirst_oid(lc))) &&
			ConditionalLockRelationOid(lfirst_oid(lc), AccessExclusiveLock) &&
			!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(lfirst_oid(lc))))
			gone = lappend_oid(gone, lfirst_oid(lc));
	if (gone)
		drop_relations(gone);
}

/*
 * Let the sources answer for rollups that are, or read, one of these; if names
 * have changed, for those that write them.
 */
static void
forget_groups(List *relids, bool names)
{
	List	   *views = rollups_over(relids);
	List	   *forgotten = NIL;
	List	   *bases = NIL;
	ListCell   *lc;

	views = list_concat_unique_oid(views, relids);
	foreach(lc, views)
	{
		ScSpec	   *spec = sc_spec_by_view(lfirst_oid(lc));

		if (spec == NULL)
			continue;
		if (!names || sc_spec_writes_names(spec))
		{
			forgotten = lappend_oid(forgotten, lfirst_oid(lc));
			if (OidIsValid(spec->base))
				bases = lappend_oid(bases, spec->base);
		}
		sc_spec_release(spec);
	}
	/* Whoever has one of them may come to want another, in any order. */
	lock_all(bases, ShareUpdateExclusiveLock);
	foreach(lc, forgotten)
	{
		make_stale(lfirst_oid(lc));
		/* A stale one may have been so for its functions. */
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(lfirst_oid(lc))))
			CacheInvalidateRelcacheByRelid(lfirst_oid(lc));
	}
}

Datum
scalecache_rollup_dropped(PG_FUNCTION_ARGS)
{
	List	   *relids = NIL;
	List	   *narrowed = NIL;
	List	   *retriggered = NIL;
	ListCell   *lc;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo) || sc_own_command ||
		!OidIsValid(sc_catalog_relid()))
		PG_RETURN_NULL();
	dropped_objects(&relids, &narrowed, &retriggered);
	if (relids)
		drop_relations(relids);
	if (narrowed)
		forget_groups(sc_depending_on_rows(narrowed), false);
	foreach(lc, rollups_over(retriggered))
		sc_members_reconcile(lfirst_oid(lc), false);
	PG_RETURN_NULL();
}

/* ---- after another command ---- */

/*
 * A dump may replace the query of a rollup that has no storage yet.  Nobody
 * else: the new one has not been checked to be of tables of his.
 */
static void
refuse_new_query(RangeVar *rv)
{
	Oid			relid = RangeVarGetRelid(rv, NoLock, true);
	ScSpec	   *spec = OidIsValid(relid) ? sc_spec_by_view(relid) : NULL;
	bool		stored = spec && (OidIsValid(spec->base) || !superuser());

	if (spec)
		sc_spec_release(spec);
	if (stored)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot replace the query of rollup \"%s\"", rv->relname),
				 errdetail("Its storage was made for the query it was created with."),
				 errhint("Drop it, and create it anew with scalecache.create_rollup.")));
}

/*
 * Does it change neither members nor triggers?  A dump ends with commands like
 * that, and pg_restore runs several at a time: each has a partition locked, and
 * must not wait for the others that the rollup is of.
 */
static bool
is_indifferent(AlterTableCmd *cmd)
{
	return cmd->subtype == AT_AddConstraint || cmd->subtype == AT_ClusterOn ||
		cmd->subtype == AT_ReplicaIdentity || cmd->subtype == AT_EnableRowSecurity;
}

/* Relations that a command may have given or taken members or triggers. */
static List *
touched_by(Node *stmt, bool *rewritten)
{
	List	   *relids = NIL;
	ListCell   *lc;

	if (IsA(stmt, CreateForeignTableStmt))
		stmt = (Node *) &((CreateForeignTableStmt *) stmt)->base;
	if (IsA(stmt, CreateStmt))
	{
		foreach(lc, ((CreateStmt *) stmt)->inhRelations)
			relids = add_named(relids, lfirst(lc));
	}
	else if (IsA(stmt, CreateTrigStmt))
		relids = add_named(relids, ((CreateTrigStmt *) stmt)->relation);
	else if (IsA(stmt, AlterTableStmt))
	{
		AlterTableStmt *alter = (AlterTableStmt *) stmt;

		foreach(lc, alter->cmds)
		{
			AlterTableCmd *cmd = lfirst(lc);

			if (!is_indifferent(cmd))
				relids = add_named(relids, alter->relation);
			if ((cmd->subtype == AT_AddInherit || cmd->subtype == AT_DropInherit) &&
				IsA(cmd->def, RangeVar))
				relids = add_named(relids, (RangeVar *) cmd->def);
		}
		*rewritten = list_length(alter->cmds) > 1;
	}
	return relids;
}

/*
 * A restore with --disable-triggers must not get past the trigger that takes
 * what is of another database out of the rows of a dump, and "enables" those
 * that are to fire always, for a publisher's rows, for its own rows only.
 */
static void
keep_always(Node *parsetree)
{
	static const char *const names[] = {"restored", "checked", "protect_rows"};
	AlterTableStmt *stmt = (AlterTableStmt *) parsetree;
	Oid			relid;
	Relation	rel;

	if (!IsA(parsetree, AlterTableStmt) || stmt->objtype != OBJECT_TABLE)
		return;
	relid = RangeVarGetRelid(stmt->relation, NoLock, true);
	if (!OidIsValid(relid) ||
		get_rel_namespace(relid) != get_rel_namespace(sc_catalog_relid()))
		return;
	rel = table_open(relid, ShareRowExclusiveLock);
	for (int i = 0; i < lengthof(names); i++)
		if (OidIsValid(get_trigger_oid(relid, names[i], true)))
			EnableDisableTrigger(rel, names[i], TRIGGER_FIRES_ALWAYS, false,
								 ShareRowExclusiveLock);
	table_close(rel, NoLock);
}

Datum
scalecache_rollup_altered(PG_FUNCTION_ARGS)
{
	EventTriggerData *data = (EventTriggerData *) fcinfo->context;
	List	   *views;
	ListCell   *lc;
	bool		rewritten = false;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo) || sc_own_command ||
		!OidIsValid(sc_catalog_relid()))
		PG_RETURN_NULL();
	if (IsA(data->parsetree, ViewStmt))
		refuse_new_query(((ViewStmt *) data->parsetree)->view);
	else if (IsA(data->parsetree, RuleStmt) &&
			 ((RuleStmt *) data->parsetree)->event == CMD_SELECT)
		refuse_new_query(((RuleStmt *) data->parsetree)->relation);
	else if (IsA(data->parsetree, CreateTrigStmt))
		sc_adopt_trigger((CreateTrigStmt *) data->parsetree);
	keep_always(data->parsetree);
	if (IsA(data->parsetree, RenameStmt) &&
		((RenameStmt *) data->parsetree)->renameType == OBJECT_SCHEMA)
		sc_catalog_rename_schema(((RenameStmt *) data->parsetree)->subname,
								 ((RenameStmt *) data->parsetree)->newname);
	forget_groups(sc_depending_on(data->parsetree), false);
	forget_groups(sc_depending_on_names(data->parsetree), true);
	if (IsA(data->parsetree, CreateSchemaStmt))
		views = sc_catalog_views();
	else
		views = rollups_over(touched_by(data->parsetree, &rewritten));
	foreach(lc, views)
		sc_members_reconcile(lfirst_oid(lc), rewritten);
	PG_RETURN_NULL();
}
