/*
 * depends.c: which rollups' values depend on what a command has changed.
 *
 * Groups were computed by the functions and types that the query had then.
 * When a function is replaced, or a composite type loses an attribute, the
 * same rows belong to other groups, so the source answers until a rebuild.
 * What pg_depend does not tell, such as calls in a function's body, is not
 * found: see the README.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

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
				 depend->classid == OperatorRelationId)
			follow(depend->classid, depend->objid, seen, relids);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
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
changes_attributes(AlterTableStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->cmds)
	{
		AlterTableType type = lfirst_node(AlterTableCmd, lc)->subtype;

		if (type == AT_DropColumn || type == AT_AlterColumnType)
			return true;
	}
	return false;
}

/* Tables and views whose rows a command may have given another meaning. */
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
			follow(ProcedureRelationId, lfirst_oid(lc), seen, &relids);
	}
	else if (IsA(stmt, AlterTableStmt) && ((AlterTableStmt *) stmt)->objtype == OBJECT_TYPE &&
			 changes_attributes((AlterTableStmt *) stmt))
		follow(TypeRelationId,
			   get_rel_type_id(RangeVarGetRelid(((AlterTableStmt *) stmt)->relation,
												NoLock, true)), seen, &relids);
	free_object_addresses(seen);
	return relids;
}
