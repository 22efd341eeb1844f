/*
 * depends.c: which rollups' values depend on what a command has changed.
 *
 * Groups were computed by the functions and types that the query had then.
 * When a function is replaced, a composite type (a table's row type is one)
 * loses an attribute, or texts are parsed in another way, the same rows belong
 * to other groups, so the source answers until a rebuild.
 * What pg_depend does not tell, such as calls in a function's body, is not
 * found: see the README.
 *
 * And which rollups a command would drop with what it names.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_class.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_ts_config.h"
#include "catalog/pg_ts_dict.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_type.h"
#include "rewrite/rewriteSupport.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "rollup/rollup.h"

/* The view that a rule belongs to. */
static Oid
rule_relation(Oid rule)
{
	Relation	rel = table_open(RewriteRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			relid = InvalidOid;

	ScanKeyInit(&key, Anum_pg_rewrite_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(rule));
	scan = systable_beginscan(rel, RewriteOidIndexId, true, NULL, 1, &key);
	if (HeapTupleIsValid(tuple = systable_getnext(scan)))
		relid = ((Form_pg_rewrite) GETSTRUCT(tuple))->ev_class;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return relid;
}

/* What a command can change without a lock on it. */
static bool
is_changed_unlocked(Oid classid)
{
	return classid == ProcedureRelationId || classid == TypeRelationId ||
		classid == TSConfigRelationId || classid == TSDictionaryRelationId;
}

/*
 * Add an object, and all with which it would be dropped; and if wanted, to a
 * list of those that can be changed unlocked.
 */
static void
add_needed(Oid classid, Oid objid, ObjectAddresses *needed, List **unlocked)
{
	ObjectAddress object;
	Relation	rel;
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ObjectAddressSet(object, classid, objid);
	if (object_address_present(&object, needed))
		return;
	check_stack_depth();
	add_exact_object_address(&object, needed);
	if (unlocked && is_changed_unlocked(classid))
		*unlocked = lappend_oid(*unlocked, objid);
	rel = table_open(DependRelationId, AccessShareLock);
	ScanKeyInit(&key[0], Anum_pg_depend_classid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(classid));
	ScanKeyInit(&key[1], Anum_pg_depend_objid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(objid));
	scan = systable_beginscan(rel, DependDependerIndexId, true, NULL, 2, key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend depend = (Form_pg_depend) GETSTRUCT(tuple);

		add_needed(depend->refclassid, depend->refobjid, needed, unlocked);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/*
 * Who changes such an object waits for rollups that are being created with it,
 * for he could not see them; and who creates one for what is being changed.
 */
static void
lock_object(Oid objid, LOCKMODE mode)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, sc_catalog_relid(), objid, 3);
	(void) LockAcquire(&tag, mode, false, false);
	AcceptInvalidationMessages();
}

/* Until the transaction ends, nobody changes what a rollup's values depend on. */
void
sc_depends_lock(Oid view)
{
	HeapTuple	rule = SearchSysCache2(RULERELNAME, ObjectIdGetDatum(view),
									   PointerGetDatum(ViewSelectRuleName));
	ObjectAddresses *needed = new_object_addresses();
	List	   *oids = NIL;
	ListCell   *lc;

	if (!HeapTupleIsValid(rule))
		elog(ERROR, "view %u has no query", view);
	add_needed(RewriteRelationId, ((Form_pg_rewrite) GETSTRUCT(rule))->oid, needed, &oids);
	ReleaseSysCache(rule);
	free_object_addresses(needed);
	list_sort(oids, list_oid_cmp);
	foreach(lc, oids)
		lock_object(lfirst_oid(lc), ShareLock);
}

/* Views of the rollups that go when one of these objects is dropped CASCADE. */
List *
sc_rollups_with(const ObjectAddress *objects, int n)
{
	List	   *views = NIL;
	ListCell   *lc;

	foreach(lc, n ? sc_catalog_views() : NIL)
	{
		Oid			view = lfirst_oid(lc);
		HeapTuple	rule = SearchSysCache2(RULERELNAME, ObjectIdGetDatum(view),
										   PointerGetDatum(ViewSelectRuleName));
		ObjectAddresses *needed;
		bool		found = false;

		/* A part of a rollup has none. */
		if (!HeapTupleIsValid(rule))
			continue;
		needed = new_object_addresses();
		add_needed(RelationRelationId, view, needed, NULL);
		add_needed(RewriteRelationId, ((Form_pg_rewrite) GETSTRUCT(rule))->oid, needed, NULL);
		ReleaseSysCache(rule);
		for (int i = 0; i < n && !found; i++)
			found = object_address_present(&objects[i], needed);
		free_object_addresses(needed);
		if (found)
			views = lappend_oid(views, view);
	}
	return views;
}

/* Is a column generated from another one? */
static bool
is_generated_from(Oid relid, int column, int from)
{
	Relation	rel = table_open(DependRelationId, AccessShareLock);
	ScanKeyData key[3];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	ScanKeyInit(&key[0], Anum_pg_depend_classid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&key[1], Anum_pg_depend_objid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	ScanKeyInit(&key[2], Anum_pg_depend_objsubid, BTEqualStrategyNumber,
				F_INT4EQ, Int32GetDatum(column));
	scan = systable_beginscan(rel, DependDependerIndexId, true, NULL, 3, key);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend depend = (Form_pg_depend) GETSTRUCT(tuple);

		found = depend->refclassid == RelationRelationId &&
			depend->refobjid == relid && depend->refobjsubid == from;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * Does the view go with a column of the table?  If it was made from other views
 * it may go with these: then the answer is yes.
 */
static bool
needs_column(Oid view, Oid relid, AttrNumber attnum)
{
	HeapTuple	rule = SearchSysCache2(RULERELNAME, ObjectIdGetDatum(view),
									   PointerGetDatum(ViewSelectRuleName));
	Relation	rel = table_open(DependRelationId, AccessShareLock);
	ObjectAddress dependers[2];
	bool		found = false;

	ObjectAddressSet(dependers[0], RelationRelationId, view);
	ObjectAddressSet(dependers[1], RewriteRelationId,
					 HeapTupleIsValid(rule) ? ((Form_pg_rewrite) GETSTRUCT(rule))->oid : InvalidOid);
	if (HeapTupleIsValid(rule))
		ReleaseSysCache(rule);
	for (int i = 0; i < lengthof(dependers); i++)
	{
		ScanKeyData key[2];
		SysScanDesc scan;
		HeapTuple	tuple;

		ScanKeyInit(&key[0], Anum_pg_depend_classid, BTEqualStrategyNumber,
					F_OIDEQ, ObjectIdGetDatum(dependers[i].classId));
		ScanKeyInit(&key[1], Anum_pg_depend_objid, BTEqualStrategyNumber,
					F_OIDEQ, ObjectIdGetDatum(dependers[i].objectId));
		scan = systable_beginscan(rel, DependDependerIndexId, true, NULL, 2, key);
		while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			Form_pg_depend depend = (Form_pg_depend) GETSTRUCT(tuple);

			if (depend->refclassid != RelationRelationId)
				continue;
			if (depend->refobjid == relid)
				found = depend->refobjsubid == attnum ||
					(depend->refobjsubid > 0 &&
					 is_generated_from(relid, depend->refobjsubid, attnum));
			else
				found = depend->refobjid != view &&
					get_rel_relkind(depend->refobjid) == RELKIND_VIEW;
		}
		systable_endscan(scan);
	}
	table_close(rel, AccessShareLock);
	return found;
}

/* Views of the rollups that go when this column is dropped CASCADE. */
List *
sc_rollups_with_column(Oid relid, const char *column)
{
	ObjectAddress object;
	List	   *views = NIL;
	ListCell   *lc;

	foreach(lc, find_all_inheritors(relid, NoLock, NULL))
	{
		AttrNumber	attnum = get_attnum(lfirst_oid(lc), column);
		ListCell   *l2;

		if (attnum == InvalidAttrNumber)
			continue;
		ObjectAddressSet(object, RelationRelationId, lfirst_oid(lc));
		foreach(l2, sc_rollups_with(&object, 1))
			if (needs_column(lfirst_oid(l2), lfirst_oid(lc), attnum))
				views = list_append_unique_oid(views, lfirst_oid(l2));
	}
	return views;
}

/* Add the relations that depend on an object, also through others. */
static void
follow(Oid classid, Oid objid, ObjectAddresses *seen, List **relids)
{
	ObjectAddress object;
	Relation	rel;
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ObjectAddressSet(object, classid, objid);
	if (!OidIsValid(objid) || object_address_present(&object, seen))
		return;
	check_stack_depth();
	add_exact_object_address(&object, seen);
	rel = table_open(DependRelationId, AccessShareLock);
	ScanKeyInit(&key[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(classid));
	ScanKeyInit(&key[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(objid));
	scan = systable_beginscan(rel, DependReferenceIndexId, true, NULL, 2, key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend depend = (Form_pg_depend) GETSTRUCT(tuple);

		if (depend->classid == RewriteRelationId)
			*relids = list_append_unique_oid(*relids, rule_relation(depend->objid));
		else if (depend->classid == RelationRelationId)
		{
			*relids = list_append_unique_oid(*relids, depend->objid);
			follow(TypeRelationId, get_rel_type_id(depend->objid), seen, relids);
		}
		else if (depend->classid == TypeRelationId ||
				 depend->classid == ProcedureRelationId ||
				 depend->classid == OperatorRelationId ||
				 depend->classid == TSConfigRelationId)
			follow(depend->classid, depend->objid, seen, relids);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/* The same for one that a command has changed. */
static void
follow_changed(Oid classid, Oid objid, ObjectAddresses *seen, List **relids)
{
	if (OidIsValid(objid))
		lock_object(objid, ExclusiveLock);
	follow(classid, objid, seen, relids);
}

/* The functions that the command in progress has replaced or altered. */
static List *
changed_functions(void)
{
	MemoryContext cxt = CurrentMemoryContext;
	List	   *oids = NIL;

	SPI_connect();
	if (SPI_execute("SELECT objid FROM pg_catalog.pg_event_trigger_ddl_commands() "
					"WHERE classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not list changed functions");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Datum		oid = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
		MemoryContext old = MemoryContextSwitchTo(cxt);

		oids = lappend_oid(oids, DatumGetObjectId(oid));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return oids;
}

static bool
has_command(AlterTableStmt *stmt, AlterTableType type)
{
	ListCell   *lc;

	foreach(lc, stmt->cmds)
		if (lfirst_node(AlterTableCmd, lc)->subtype == type)
			return true;
	return false;
}

/* Tables and views that read rows of these relations' types. */
List *
sc_depending_on_rows(List *relids)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, relids)
	{
		Oid			type = get_rel_type_id(lfirst_oid(lc));
		ObjectAddresses *seen = new_object_addresses();
		List	   *found = NIL;

		follow(TypeRelationId, type, seen, &found);
		free_object_addresses(seen);
		seen = new_object_addresses();
		/* Hardly a table's row type is used, and there may be many of them. */
		if (found || get_rel_relkind(lfirst_oid(lc)) == RELKIND_COMPOSITE_TYPE)
			follow_changed(TypeRelationId, type, seen, &result);
		free_object_addresses(seen);
	}
	return result;
}

/* The same, for the relation of a command and what inherits from it. */
static List *
depending_on_rows_of(RangeVar *rv)
{
	Oid			relid = rv ? RangeVarGetRelid(rv, NoLock, true) : InvalidOid;

	return OidIsValid(relid) ?
		sc_depending_on_rows(find_all_inheritors(relid, NoLock, NULL)) : NIL;
}

static bool
writes_json(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref) && sc_writes_json(((Aggref *) node)->aggfnoid))
		return true;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, writes_json, context, 0);
	return expression_tree_walker(node, writes_json, context);
}

bool
sc_spec_writes_names(ScSpec *spec)
{
	return writes_json((Node *) spec->query, NULL);
}

/*
 * Tables and views whose values have other names in them now: JSON has those
 * of a composite type's attributes, and of an enum's values.
 */
List *
sc_depending_on_names(Node *stmt)
{
	if (IsA(stmt, AlterEnumStmt) && ((AlterEnumStmt *) stmt)->oldVal != NULL)
	{
		TypeName   *name = makeTypeNameFromNameList(((AlterEnumStmt *) stmt)->typeName);
		ObjectAddresses *seen = new_object_addresses();
		List	   *relids = NIL;

		follow_changed(TypeRelationId, typenameTypeId(NULL, name), seen, &relids);
		free_object_addresses(seen);
		return relids;
	}
	if (IsA(stmt, RenameStmt) &&
		(((RenameStmt *) stmt)->renameType == OBJECT_ATTRIBUTE ||
		 ((RenameStmt *) stmt)->renameType == OBJECT_COLUMN))
		return depending_on_rows_of(((RenameStmt *) stmt)->relation);
	if (IsA(stmt, AlterTableStmt) &&
		has_command((AlterTableStmt *) stmt, AT_AddColumn))
		return depending_on_rows_of(((AlterTableStmt *) stmt)->relation);
	return NIL;
}

/*
 * Tables and views whose rows a command may have given another meaning.
 * Attributes that are lost, by whatever command, are seen as dropped objects.
 */
List *
sc_depending_on(Node *stmt)
{
	ObjectAddresses *seen = new_object_addresses();
	List	   *relids = NIL;

	if (IsA(stmt, AlterFunctionStmt) ||
		(IsA(stmt, CreateFunctionStmt) && ((CreateFunctionStmt *) stmt)->replace) ||
		(IsA(stmt, DefineStmt) && ((DefineStmt *) stmt)->replace))
	{
		ListCell   *lc;

		foreach(lc, changed_functions())
			follow_changed(ProcedureRelationId, lfirst_oid(lc), seen, &relids);
	}
	else if (IsA(stmt, AlterTableStmt) && ((AlterTableStmt *) stmt)->objtype == OBJECT_TYPE &&
			 has_command((AlterTableStmt *) stmt, AT_AlterColumnType))
		relids = depending_on_rows_of(((AlterTableStmt *) stmt)->relation);
	else if (IsA(stmt, AlterTSConfigurationStmt))
		follow_changed(TSConfigRelationId,
					   get_ts_config_oid(((AlterTSConfigurationStmt *) stmt)->cfgname, true),
					   seen, &relids);
	else if (IsA(stmt, AlterTSDictionaryStmt))
		follow_changed(TSDictionaryRelationId,
					   get_ts_dict_oid(((AlterTSDictionaryStmt *) stmt)->dictname, true),
					   seen, &relids);
	free_object_addresses(seen);
	return relids;
}

/* Relations that have, or read, values of a type. */
List *
sc_depending_on_type(Oid type)
{
	ObjectAddresses *seen = new_object_addresses();
	List	   *relids = NIL;

	follow(TypeRelationId, type, seen, &relids);
	free_object_addresses(seen);
	return relids;
}
