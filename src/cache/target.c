/*
 * target.c: which Redis gets our keys is on record.
 *
 * So one that we come back to after a time with another is known to have missed
 * some.  A change of the record is committed no later than what that Redis
 * acknowledges.  It is not made by SQL, for which the table is protected.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "base/owner.h"
#include "cache/cache.h"
#include "cache/link.h"

static Relation
open_targets(LOCKMODE mode)
{
	return sc_own_table_open("cache_target", mode);
}

/* NIL as well when the extension is being dropped. */
static List *
recorded(void)
{
	Relation	rel = open_targets(AccessShareLock);
	List	   *result = NIL;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (rel == NULL)
		return NIL;
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;

		result = lappend(result, TextDatumGetCString(heap_getattr(tuple, 1, RelationGetDescr(rel),
																  &isnull)));
	}
	systable_endscan(scan);
	table_close(rel, NoLock);
	return result;
}

static bool
is_among(List *names, const char *name)
{
	ListCell   *lc;

	foreach(lc, names)
		if (strcmp(lfirst(lc), name) == 0)
			return true;
	return false;
}

/* Which of the nodes were we not with the last time?  True: some. */
bool
sc_targets_differ(void)
{
	List	   *known = recorded();
	bool		some = false;
	int			present = 0;

	for (int i = 0; i < sc_link_count(); i++)
	{
		char		identity[80];
		bool		another;

		sc_link_identity(i, identity, sizeof(identity));
		if (identity[0] == '\0')
			continue;
		present++;
		another = !is_among(known, identity);
		sc_link_mark_other(i, another);
		some |= another;
	}
	return some || list_length(known) != present;
}

void
sc_targets_remember(void)
{
	Relation	rel = open_targets(RowExclusiveLock);
	SysScanDesc scan;
	HeapTuple	tuple;

	if (rel == NULL)
		return;
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		CatalogTupleDelete(rel, &tuple->t_self);
	systable_endscan(scan);
	for (int i = 0; i < sc_link_count(); i++)
	{
		char		identity[80];
		Datum		value;
		bool		isnull = false;

		sc_link_identity(i, identity, sizeof(identity));
		if (identity[0] == '\0')
			continue;
		value = CStringGetTextDatum(identity);
		CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel), &value, &isnull));
	}
	table_close(rel, NoLock);
	CommandCounterIncrement();
}
