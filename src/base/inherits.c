/*
 * inherits.c: what is below a table.
 *
 * The server's own functions fail when one of the tables is dropped meanwhile.
 * Here no lock is needed: a table that is gone has no children.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_inherits.h"
#include "utils/fmgroids.h"

#include "base/inherits.h"

List *
sc_children(Oid relid, bool *detaching)
{
	Relation	rel = table_open(InheritsRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *children = NIL;

	ScanKeyInit(&key, Anum_pg_inherits_inhparent, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, InheritsParentIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_inherits form = (Form_pg_inherits) GETSTRUCT(tuple);

		if (form->inhdetachpending && detaching == NULL)
			continue;
		children = lappend_oid(children, form->inhrelid);
		if (form->inhdetachpending)
			*detaching = true;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return children;
}
