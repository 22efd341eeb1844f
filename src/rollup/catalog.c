/*
 * catalog.c: the table scalecache.rollup, one row a rollup.
 *
 * A row is read with a fresh catalog snapshot, except where the question is
 * what some snapshot sees.  Who changes which relations a rollup counts
 * holds ShareUpdateExclusiveLock on its base table, so that no two do it at
 * once.  Every change invalidates the view and the base table, on which the
 * caches of spec.c depend.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "base/owner.h"
#include "rollup/rollup.h"

/*
 * What a row is like, which the table may not be asked for: it may be gone.
 * Only columns that this library knows: an update of the extension may add
 * others, long before every session has the library that goes with them.
 */
static TupleDesc row_desc = NULL;

/*
 * A function of the extension's, whether or not the user may look into its
 * schema; invalid: there is none.
 */
Oid
sc_own_function(const char *name, int nargs, const Oid *types)
{
	Oid			nsp = sc_own_namespace();

	return GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(name),
						   PointerGetDatum(buildoidvector(types, nargs)),
						   ObjectIdGetDatum(nsp));
}

/* InvalidOid when the extension is not in this database. */
Oid
sc_catalog_relid(void)
{
	Oid			nsp = sc_own_namespace();

	return OidIsValid(nsp) ? get_relname_relid("rollup", nsp) : InvalidOid;
}

/* NULL when the extension is not, or no more, in this database. */
Relation
sc_catalog_open(LOCKMODE mode)
{
	Relation	rel = sc_own_table_open("rollup", mode);

	if (rel && (row_desc == NULL || row_desc->natts <
				Min(RelationGetNumberOfAttributes(rel), Natts_rollup)))
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		row_desc = CreateTemplateTupleDesc(Min(RelationGetNumberOfAttributes(rel),
											   Natts_rollup));
		for (int i = 1; i <= row_desc->natts; i++)
			TupleDescCopyEntry(row_desc, i, RelationGetDescr(rel), i);
		MemoryContextSwitchTo(old);
	}
	return rel;
}

static SysScanDesc
begin_scan(Relation rel, int attno, Datum value, Snapshot snapshot,
		   ScanKeyData *key)
{
	const char *name = NULL;
	Oid			index = InvalidOid;

	switch (attno)
	{
		case Anum_rollup_id:
			name = "rollup_pkey";
			break;
		case Anum_rollup_rollup:
			name = "rollup_rollup_key";
			break;
		case Anum_rollup_source:
			name = "rollup_source_idx";
			break;
		case Anum_rollup_base:
			name = "rollup_base_idx";
			break;
	}
	if (name == NULL)
		return systable_beginscan(rel, InvalidOid, false, snapshot, 0, NULL);
	ScanKeyInit(key, attno, BTEqualStrategyNumber,
				attno == Anum_rollup_id ? F_INT8EQ : F_OIDEQ, value);
	index = get_relname_relid(name, RelationGetNamespace(rel));
	return systable_beginscan(rel, index, OidIsValid(index), snapshot, 1, key);
}

/*
 * The same without a predicate lock, which only MVCC snapshots take.  A row
 * that is being replaced might be missed in both its versions, so look twice.
 */
static HeapTuple
fetch_current(Relation rel, int attno, Datum value)
{
	HeapTuple	tuple = NULL;

	for (int tries = 0; tuple == NULL && tries < 2; tries++)
	{
		ScanKeyData key;
		SysScanDesc scan = begin_scan(rel, attno, value, SnapshotSelf, &key);

		tuple = systable_getnext(scan);
		if (HeapTupleIsValid(tuple))
			tuple = heap_copytuple(tuple);
		systable_endscan(scan);
	}
	return tuple;
}

/* The row where a column has this value.  A copy, or NULL. */
HeapTuple
sc_catalog_fetch(int attno, Datum value, Snapshot snapshot)
{
	Relation	rel = sc_catalog_open(AccessShareLock);
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;

	if (rel == NULL)
		return NULL;
	/* What is only looked up is no reason for a serialization failure. */
	if (snapshot == NULL && IsolationIsSerializable())
		tuple = fetch_current(rel, attno, value);
	else
	{
		scan = begin_scan(rel, attno, value, snapshot, &key);
		tuple = systable_getnext(scan);
		if (HeapTupleIsValid(tuple))
			tuple = heap_copytuple(tuple);
		systable_endscan(scan);
	}
	table_close(rel, AccessShareLock);
	return tuple;
}

Datum
sc_catalog_attr(HeapTuple tuple, int attno, bool *isnull)
{
	Relation	rel = row_desc ? NULL : sc_catalog_open(AccessShareLock);

	if (rel)
		table_close(rel, AccessShareLock);
	if (attno > row_desc->natts)
	{
		*isnull = true;
		return (Datum) 0;
	}
	return heap_getattr(tuple, attno, row_desc, isnull);
}

/* A column of type oid[], as a list in CurrentMemoryContext. */
List *
sc_catalog_oids(HeapTuple tuple, int attno)
{
	List	   *oids = NIL;
	bool		isnull;
	Datum		value = sc_catalog_attr(tuple, attno, &isnull);
	Datum	   *elems;
	int			n;

	if (isnull)
		return NIL;
	deconstruct_array(DatumGetArrayTypeP(value), ARR_ELEMTYPE(DatumGetArrayTypeP(value)),
					  sizeof(Oid), true, TYPALIGN_INT, &elems, NULL, &n);
	for (int i = 0; i < n; i++)
		oids = lappend_oid(oids, DatumGetObjectId(elems[i]));
	return oids;
}

/*
 * Does the storage answer for this snapshot?  The row it sees must be the
 * one the specification was read from: a snapshot older than a fill sees
 * neither what was filled nor the changes before it.
 */
bool
sc_catalog_row_matches(ScSpec *spec, Snapshot snapshot)
{
	HeapTuple	tuple;
	bool		isnull;
	bool		result;

	if (spec->state != SC_LIVE)
		return false;
	tuple = sc_catalog_fetch(Anum_rollup_id, Int64GetDatum(spec->id), snapshot);
	if (tuple == NULL)
		return false;
	result = DatumGetChar(sc_catalog_attr(tuple, Anum_rollup_state, &isnull)) == SC_LIVE &&
		DatumGetInt64(sc_catalog_attr(tuple, Anum_rollup_epoch, &isnull)) == spec->epoch;
	/* Filled by this transaction, from a newer snapshot than its own. */
	if (IsolationUsesXactSnapshot() &&
		TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data)))
		result = false;
	heap_freetuple(tuple);
	return result;
}

static Datum
oid_array(List *oids, Oid type)
{
	Datum	   *elems = palloc(sizeof(Datum) * (list_length(oids) + 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, oids)
		elems[n++] = ObjectIdGetDatum(lfirst_oid(lc));
	return PointerGetDatum(construct_array(elems, n, type, sizeof(Oid),
										   true, TYPALIGN_INT));
}

static void
refuse_gone(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("the rollup has been dropped"),
			 errdetail("Somebody did that at the same time.")));
}

static Relation
open_to_change(void)
{
	Relation	rel = sc_catalog_open(RowExclusiveLock);

	if (rel == NULL)
		refuse_gone();
	return rel;
}

static void
insert_row(int64 id, Oid view, Oid source, char state, const char *zone,
		   const char *path, List *views, Oid part_of, int part)
{
	Relation	rel = open_to_change();
	TupleDesc	desc = RelationGetDescr(rel);
	int			natts = Max(desc->natts, Natts_rollup);
	Datum	   *values = palloc0(sizeof(Datum) * natts);
	bool	   *nulls = palloc0(sizeof(bool) * natts);

	values[Anum_rollup_id - 1] = Int64GetDatum(id);
	values[Anum_rollup_rollup - 1] = ObjectIdGetDatum(view);
	values[Anum_rollup_source - 1] = ObjectIdGetDatum(source);
	values[Anum_rollup_base - 1] = ObjectIdGetDatum(InvalidOid);
	values[Anum_rollup_delta1 - 1] = ObjectIdGetDatum(InvalidOid);
	values[Anum_rollup_delta2 - 1] = ObjectIdGetDatum(InvalidOid);
	values[Anum_rollup_distincts - 1] = ObjectIdGetDatum(InvalidOid);
	values[Anum_rollup_rewrite - 1] = BoolGetDatum(part == 0);
	values[Anum_rollup_turn - 1] = Int64GetDatum(0);
	values[Anum_rollup_epoch - 1] = Int64GetDatum(1);
	values[Anum_rollup_state - 1] = CharGetDatum(state);
	nulls[Anum_rollup_members - 1] = true;
	values[Anum_rollup_time_zone - 1] = CStringGetTextDatum(zone);
	values[Anum_rollup_part_of - 1] = ObjectIdGetDatum(part_of);
	values[Anum_rollup_part - 1] = Int32GetDatum(part);
	nulls[Anum_rollup_epochs - 1] = true;
	nulls[Anum_rollup_path - 1] = path == NULL;
	if (path)
		values[Anum_rollup_path - 1] = CStringGetTextDatum(path);
	nulls[Anum_rollup_views - 1] = views == NIL;
	if (views != NIL)
		values[Anum_rollup_views - 1] = oid_array(views, REGCLASSOID);
	/* Columns that we do not know have what older rows got. */
	for (int i = Natts_rollup; i < desc->natts; i++)
		values[i] = getmissingattr(desc, i + 1, &nulls[i]);
	CatalogTupleInsert(rel, heap_form_tuple(desc, values, nulls));
	/* Sessions remember which tables have rollups. */
	CacheInvalidateRelcache(rel);
	table_close(rel, NoLock);
	CacheInvalidateRelcacheByRelid(OidIsValid(part_of) ? part_of : view);
	CommandCounterIncrement();
}

void
sc_catalog_insert(int64 id, Oid view, Oid source, char state,
				  const char *zone, const char *path, List *views)
{
	insert_row(id, view, source, state, zone, path, views, InvalidOid, 0);
}

/* A part of a rollup is known by its base table instead of a view. */
void
sc_catalog_insert_part(int64 id, Oid handle, Oid source, const char *zone,
					   const char *path, Oid part_of, int part)
{
	insert_row(id, handle, source, SC_STALE, zone, path, NIL, part_of, part);
}

/*
 * Lock a rollup's row, which not everybody who changes it has the base table
 * locked for, to the end of the transaction.  False: not to be had at once.
 */
bool
sc_catalog_lock_row(int64 id, bool nowait)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, sc_catalog_relid(), (Oid) id, 1);
	return LockAcquire(&tag, ExclusiveLock, false, nowait) != LOCKACQUIRE_NOT_AVAIL;
}

static void
update_row(int64 id, Datum *values, bool *repl, bool bump_epoch)
{
	Relation	rel = open_to_change();
	HeapTuple	tuple;
	TupleDesc	desc = RelationGetDescr(rel);
	int			natts = Max(desc->natts, Natts_rollup);
	Datum	   *all = palloc0(sizeof(Datum) * natts);
	bool	   *nulls = palloc0(sizeof(bool) * natts);
	bool	   *replace = palloc0(sizeof(bool) * natts);
	bool		snapshot = ActiveSnapshotSet();
	bool		isnull;
	Oid			invalid[4];

	(void) sc_catalog_lock_row(id, false);
	tuple = sc_catalog_fetch(Anum_rollup_id, Int64GetDatum(id), NULL);
	if (tuple == NULL)
		refuse_gone();
	if (bump_epoch)
	{
		repl[Anum_rollup_epoch - 1] = true;
		values[Anum_rollup_epoch - 1] =
			Int64GetDatum(DatumGetInt64(sc_catalog_attr(tuple,
														Anum_rollup_epoch,
														&isnull)) + 1);
	}
	memcpy(all, values, sizeof(Datum) * Natts_rollup);
	memcpy(replace, repl, sizeof(bool) * Natts_rollup);
	tuple = heap_modify_tuple(tuple, desc, all, nulls, replace);
	/* There is none at the end of DETACH PARTITION CONCURRENTLY. */
	if (!snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	CatalogTupleUpdate(rel, &tuple->t_self, tuple);
	if (!snapshot)
		PopActiveSnapshot();
	invalid[0] = DatumGetObjectId(sc_catalog_attr(tuple, Anum_rollup_rollup,
												  &isnull));
	invalid[1] = DatumGetObjectId(sc_catalog_attr(tuple, Anum_rollup_base,
												  &isnull));
	/* Queries on the source are planned anew, with the rollup or without. */
	invalid[2] = repl[Anum_rollup_state - 1] || repl[Anum_rollup_rewrite - 1] ?
		DatumGetObjectId(sc_catalog_attr(tuple, Anum_rollup_source, &isnull)) : InvalidOid;
	invalid[3] = repl[Anum_rollup_state - 1] ?
		DatumGetObjectId(sc_catalog_attr(tuple, Anum_rollup_part_of, &isnull)) : InvalidOid;
	table_close(rel, NoLock);
	for (int i = 0; i < lengthof(invalid); i++)
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(invalid[i])))
			CacheInvalidateRelcacheByRelid(invalid[i]);
	CommandCounterIncrement();
}

/* Some rows, or all, are captured no more: see asked.c. */
static void
leave_deltas(int64 id)
{
	HeapTuple	tuple = sc_catalog_fetch(Anum_rollup_id, Int64GetDatum(id), NULL);
	bool		isnull;

	for (int attno = Anum_rollup_delta1; attno <= Anum_rollup_delta2; attno++)
		sc_asked_leave(DatumGetObjectId(sc_catalog_attr(tuple, attno, &isnull)), false);
	heap_freetuple(tuple);
}

/* Change a row; an invalid Oid, NULL and NIL leave the column. */
void
sc_catalog_set(int64 id, char state, bool bump_epoch, Oid base,
			   const Oid *delta, List *members)
{
	Datum		values[Natts_rollup] = {0};
	bool		repl[Natts_rollup] = {0};

	repl[Anum_rollup_state - 1] = true;
	values[Anum_rollup_state - 1] = CharGetDatum(state);
	if (OidIsValid(base))
	{
		repl[Anum_rollup_base - 1] = true;
		values[Anum_rollup_base - 1] = ObjectIdGetDatum(base);
	}
	if (delta)
	{
		repl[Anum_rollup_delta1 - 1] = repl[Anum_rollup_delta2 - 1] = true;
		values[Anum_rollup_delta1 - 1] = ObjectIdGetDatum(delta[0]);
		values[Anum_rollup_delta2 - 1] = ObjectIdGetDatum(delta[1]);
	}
	if (members != NIL)
	{
		repl[Anum_rollup_members - 1] = true;
		values[Anum_rollup_members - 1] = oid_array(members, OIDOID);
	}
	update_row(id, values, repl, bump_epoch);
	if (state != SC_LIVE && state != SC_FILLING)
		leave_deltas(id);
}

/* The storage counts the rows of these relations from now on. */
void
sc_catalog_set_members(int64 id, List *members, bool bump_epoch)
{
	Datum		values[Natts_rollup] = {0};
	bool		repl[Natts_rollup] = {0};

	repl[Anum_rollup_members - 1] = true;
	values[Anum_rollup_members - 1] = oid_array(members, OIDOID);
	update_row(id, values, repl, bump_epoch);
	leave_deltas(id);
}

static void
set_column(int64 id, int attno, Datum value)
{
	Datum		values[Natts_rollup] = {0};
	bool		repl[Natts_rollup] = {0};

	repl[attno - 1] = true;
	values[attno - 1] = value;
	update_row(id, values, repl, false);
}

/* Have the other delta table written: see delta.c. */
void
sc_catalog_set_turn(int64 id, int64 turn)
{
	set_column(id, Anum_rollup_turn, Int64GetDatum(turn));
}

/*
 * Until the transaction ends nobody renames a schema that a rollup is being
 * created with in its path, as its row cannot be seen yet; or the other way
 * round, nobody creates one with a name that is about to go.
 */
void
sc_catalog_lock_schema(Oid schema, LOCKMODE mode)
{
	Oid			relid = sc_catalog_relid();
	LOCKTAG		tag;

	if (!OidIsValid(relid))
		return;
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, relid, schema, 2);
	(void) LockAcquire(&tag, mode, false, false);
	AcceptInvalidationMessages();
}

/* The same list of schemas, one of which has another name; NULL: it is not there. */
static char *
renamed(const char *path, const char *old, const char *now)
{
	List	   *names;
	ListCell   *lc;
	StringInfoData result;
	bool		found = false;

	if (!SplitIdentifierString(pstrdup(path), ',', &names))
		return NULL;
	initStringInfo(&result);
	foreach(lc, names)
	{
		const char *name = lfirst(lc);

		if (strcmp(name, old) == 0)
		{
			name = now;
			found = true;
		}
		appendStringInfo(&result, "%s%s", foreach_current_index(lc) ? ", " : "",
						 quote_identifier(name));
	}
	return found ? result.data : NULL;
}

void
sc_catalog_rename_schema(const char *old, const char *now)
{
	Relation	rel = sc_catalog_open(AccessShareLock);
	List	   *ids = NIL;
	List	   *paths = NIL;
	ListCell   *lc;
	ListCell   *l2;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (rel == NULL)
		return;
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Datum		path = sc_catalog_attr(tuple, Anum_rollup_path, &isnull);
		char	   *other = isnull ? NULL : renamed(TextDatumGetCString(path), old, now);
		int64	   *id = palloc(sizeof(int64));

		if (other == NULL)
			continue;
		*id = DatumGetInt64(sc_catalog_attr(tuple, Anum_rollup_id, &isnull));
		ids = lappend(ids, id);
		paths = lappend(paths, other);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	forboth(lc, ids, l2, paths)
		set_column(*(int64 *) lfirst(lc), Anum_rollup_path, CStringGetTextDatum(lfirst(l2)));
}

/* The table of distinct values. */
void
sc_catalog_set_distincts(int64 id, Oid relid)
{
	set_column(id, Anum_rollup_distincts, ObjectIdGetDatum(relid));
}

/* May it answer queries of the source? */
void
sc_catalog_set_rewrite(int64 id, bool enabled)
{
	set_column(id, Anum_rollup_rewrite, BoolGetDatum(enabled));
}

/* The state that the other parts of a rollup were in: see stored.c. */
void
sc_catalog_set_epochs(int64 id, const int64 *epochs, int n)
{
	Datum	   *elems = palloc(sizeof(Datum) * n);

	for (int i = 0; i < n; i++)
		elems[i] = Int64GetDatum(epochs[i]);
	set_column(id, Anum_rollup_epochs,
			   PointerGetDatum(construct_array(elems, n, INT8OID, sizeof(int64),
											   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)));
}

static List *
views_where(int attno, Datum value)
{
	Relation	rel = sc_catalog_open(AccessShareLock);
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	List	   *views = NIL;
	bool		isnull;

	if (rel == NULL)
		return NIL;
	scan = begin_scan(rel, attno, value, NULL, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		views = lappend_oid(views,
							DatumGetObjectId(heap_getattr(tuple,
														  Anum_rollup_rollup,
														  RelationGetDescr(rel),
														  &isnull)));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return views;
}

/* Views of all rollups in this database, in CurrentMemoryContext. */
List *
sc_catalog_views(void)
{
	return views_where(0, (Datum) 0);
}

/* Views of the rollups that read this table by its name. */
List *
sc_catalog_views_on(Oid source)
{
	return views_where(Anum_rollup_source, ObjectIdGetDatum(source));
}
