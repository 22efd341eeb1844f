/*
 * follow.c: what happens to the tables and types of cache rules.
 *
 * Event triggers keep a rule's row and triggers as what they are of is renamed,
 * gets or loses members, or loses columns; where keys or values may have another
 * text after a command, all of the rule's keys are invalidated.  See define.c
 * for the order of locks.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/attempt.h"
#include "cache/cache.h"
#include "cache/define.h"
#include "cache/rules.h"

PG_FUNCTION_INFO_V1(scalecache_cache_dropped);
PG_FUNCTION_INFO_V1(scalecache_cache_altered);

/*
 * Does the rule still have what it needs?  Views have no triggers, and one
 * that has come from a dump, and has no members yet, gets them in the end.
 */
static bool
is_alive(Relation catalog, HeapTuple tuple)
{
	TupleDesc	desc = RelationGetDescr(catalog);
	bool		isnull;
	int64		id = DatumGetInt64(heap_getattr(tuple, Anum_cache_rule_id, desc, &isnull));
	Oid			relid = sc_rule_relation(catalog, tuple);
	char		kind = get_rel_relkind(relid);

	if (kind == '\0')
		return false;
	(void) heap_getattr(tuple, Anum_cache_rule_members, desc, &isnull);
	return isnull || kind == RELKIND_VIEW ||
		HeapTupleIsValid(sc_rule_find_trigger(id, relid, SC_ROW_FUNCTION));
}

/* Has some rule lost what it needs?  Whoever defines one is not waited for. */
static bool
some_rule_is_dead(void)
{
	Relation	rel = sc_rules_open(AccessShareLock);
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		result = false;

	if (rel == NULL)
		return false;
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (!result && HeapTupleIsValid(tuple = systable_getnext(scan)))
		result = !is_alive(rel, tuple);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

static void
refuse_lost(Relation rel, const char *column, const char *rule, bool restored)
{
	if (restored)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of relation \"%s\" does not exist", column,
						RelationGetRelationName(rel)),
				 errdetail("The key template of cache rule \"%s\" names it.", rule)));
	ereport(ERROR,
			(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
			 errmsg("cannot drop column \"%s\" of table \"%s\" because a cache rule depends on it",
					column, RelationGetRelationName(rel)),
			 errdetail("It is in the key of cache rule \"%s\".", rule),
			 errhint("Drop the rule first with scalecache.drop_cache_rule.")));
}

/* The template with the columns' present names; complains of lost ones. */
static char *
rename_template(Relation rel, char **names, const char *template, const char *rule,
				bool restored)
{
	List	   *parts = sc_template_parse(template);
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < list_length(parts); i += 2)
	{
		for (const char *p = list_nth(parts, i); *p; p++)
		{
			if (*p == '{' || *p == '}')
				appendStringInfoChar(&buf, *p);
			appendStringInfoChar(&buf, *p);
		}
		if (i + 1 < list_length(parts))
		{
			AttrNumber	attno = sc_rule_attno(RelationGetDescr(rel), names,
											  list_nth(parts, i + 1));
			const char *name;

			if (attno == InvalidAttrNumber)
				refuse_lost(rel, list_nth(parts, i + 1), rule, restored);
			name = NameStr(TupleDescAttr(RelationGetDescr(rel), attno - 1)->attname);
			if (strpbrk(name, "{}"))
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("column \"%s\" of table \"%s\" cannot be in the key of a cache rule",
								name, RelationGetRelationName(rel)),
						 errdetail("A name with a brace cannot stand in braces."),
						 errhint("Choose another name, or drop the rule with scalecache.drop_cache_rule.")));
			appendStringInfo(&buf, "{%s}", name);
		}
	}
	return buf.data;
}

static Datum
rename_list(Relation rel, char **names, Datum columns)
{
	Datum	   *elems;
	int			n;
	int			kept = 0;

	deconstruct_array(DatumGetArrayTypeP(columns), NAMEOID, NAMEDATALEN, false,
					  TYPALIGN_CHAR, &elems, NULL, &n);
	for (int i = 0; i < n; i++)
	{
		AttrNumber	attno = sc_rule_attno(RelationGetDescr(rel), names,
										  NameStr(*DatumGetName(elems[i])));

		if (attno != InvalidAttrNumber)
			elems[kept++] = NameGetDatum(&TupleDescAttr(RelationGetDescr(rel), attno - 1)->attname);
	}
	return PointerGetDatum(construct_array(elems, kept, NAMEOID, NAMEDATALEN,
										   false, TYPALIGN_CHAR));
}

/* What a command does to a rule's expressions fails without naming the rule. */
static void
name_rule(void *arg)
{
	errcontext("cache rule \"%s\", which the command would break", (const char *) arg);
}

/* Does the command rename the relation's columns, itself or from above? */
static bool
renames_columns_of(const RenameStmt *rename, List *touched, Oid relid)
{
	ListCell   *lc;

	if (rename == NULL)
		return false;
	if (list_member_oid(touched, relid))
		return true;
	if (!get_rel_relispartition(relid))
		return false;
	foreach(lc, get_partition_ancestors(relid))
		if (list_member_oid(touched, lfirst_oid(lc)))
			return true;
	return false;
}

/*
 * The names that the rule's texts use.  One from a dump has none on record, and
 * uses those of the dump, which are the present ones but for the command's own.
 */
static char **
names_in_use(Relation rel, Datum recorded, bool isnull, const RenameStmt *rename)
{
	char	  **names = sc_rule_names(RelationGetDescr(rel), recorded, isnull);

	for (int i = 0; isnull && rename && i < RelationGetNumberOfAttributes(rel); i++)
		if (strcmp(names[i], rename->newname) == 0)
			names[i] = rename->subname;
	return names;
}

/*
 * Write the present names of a rule's relation into its row.  rename is what
 * the command does to its columns, or NULL; restored: nobody has written them yet.
 */
static void
follow_names(Relation catalog, HeapTuple tuple, Relation rel, const RenameStmt *rename,
			 bool restored)
{
	TupleDesc	desc = RelationGetDescr(catalog);
	Datum		values[Natts_cache_rule] = {0};
	bool		nulls[Natts_cache_rule] = {0};
	bool		repl[Natts_cache_rule] = {0};
	bool		isnull;
	Datum		recorded = heap_getattr(tuple, Anum_cache_rule_attnames, desc, &isnull);
	char	  **names = names_in_use(rel, recorded, isnull, rename);
	char	   *rule = TextDatumGetCString(heap_getattr(tuple, Anum_cache_rule_name, desc, &isnull));
	ErrorContextCallback callback = {error_context_stack, name_rule, rule};
	static const int expressions[] = {Anum_cache_rule_value, Anum_cache_rule_condition};
	Datum		d;

	d = heap_getattr(tuple, Anum_cache_rule_key, desc, &isnull);
	values[Anum_cache_rule_key - 1] =
		CStringGetTextDatum(rename_template(rel, names, TextDatumGetCString(d), rule, restored));
	repl[Anum_cache_rule_key - 1] = true;
	error_context_stack = &callback;
	for (int i = 0; i < 2; i++)
	{
		d = heap_getattr(tuple, expressions[i], desc, &isnull);
		if (isnull)
			continue;
		values[expressions[i] - 1] =
			CStringGetTextDatum(sc_rule_rename_columns(rel, names, TextDatumGetCString(d)));
		repl[expressions[i] - 1] = true;
	}
	error_context_stack = callback.previous;
	d = heap_getattr(tuple, Anum_cache_rule_columns, desc, &isnull);
	if (!isnull)
	{
		values[Anum_cache_rule_columns - 1] = rename_list(rel, names, d);
		repl[Anum_cache_rule_columns - 1] = true;
	}
	values[Anum_cache_rule_attnames - 1] = sc_rule_name_array(RelationGetDescr(rel));
	repl[Anum_cache_rule_attnames - 1] = true;
	CatalogTupleUpdate(catalog, &tuple->t_self,
					   heap_modify_tuple(tuple, desc, values, nulls, repl));
	CommandCounterIncrement();
}

/*
 * Write the present members into a rule's row.  Those that have gone lose its
 * trigger.  One that is in use stays on record: who detaches it has it locked,
 * or the next command sees to it.  False when nothing has changed.
 */
static bool
follow_members(Relation catalog, int64 id, List *members)
{
	TupleDesc	desc = RelationGetDescr(catalog);
	HeapTuple	tuple = sc_rule_fetch(catalog, id);
	Datum		values[Natts_cache_rule] = {0};
	bool		nulls[Natts_cache_rule] = {0};
	bool		repl[Natts_cache_rule] = {0};
	bool		isnull;
	Datum		d = heap_getattr(tuple, Anum_cache_rule_members, desc, &isnull);
	List	   *recorded = isnull ? NIL : sc_rule_oid_list(d);
	List	   *kept = list_copy(members);
	ListCell   *lc;

	foreach(lc, list_difference_oid(recorded, members))
	{
		if (ConditionalLockRelationOid(lfirst_oid(lc), AccessExclusiveLock))
			sc_rule_drop_trigger(id, lfirst_oid(lc), SC_TRUNCATE_FUNCTION);
		else
			kept = lappend_oid(kept, lfirst_oid(lc));
	}
	if (list_difference_oid(kept, recorded) == NIL &&
		list_length(kept) == list_length(recorded))
		return false;
	values[Anum_cache_rule_members - 1] = sc_rule_oid_array(kept);
	repl[Anum_cache_rule_members - 1] = true;
	CatalogTupleUpdate(catalog, &tuple->t_self,
					   heap_modify_tuple(tuple, desc, values, nulls, repl));
	CommandCounterIncrement();
	return true;
}

/* Oids of the relations, and of the types, that the current DDL command has touched. */
static void
touched_objects(List **relations, List **types)
{
	*relations = *types = NIL;
	SPI_connect();
	if (SPI_execute("SELECT objid, classid FROM pg_catalog.pg_event_trigger_ddl_commands()"
					" WHERE classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass"
					" OR classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass", true, 0) == SPI_OK_SELECT)
	{
		uint64		n = SPI_processed;

		for (uint64 i = 0; i < n; i++)
		{
			bool		isnull;
			Oid			oid = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i],
															 SPI_tuptable->tupdesc, 1, &isnull));
			Oid			classid = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i],
																 SPI_tuptable->tupdesc, 2, &isnull));
			MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

			if (classid == RelationRelationId)
				*relations = lappend_oid(*relations, oid);
			else
				*types = lappend_oid(*types, oid);
			MemoryContextSwitchTo(old);
		}
	}
	SPI_finish();
}

/* Have columns been renamed or dropped, or come, since the rule was written? */
static bool
names_differ(Oid relid, Datum recorded)
{
	Datum	   *elems;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(recorded), NAMEOID, NAMEDATALEN, false,
					  TYPALIGN_CHAR, &elems, NULL, &n);
	for (int i = 0; i <= n; i++)
	{
		HeapTuple	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid),
											Int16GetDatum(i + 1));
		bool		same = !HeapTupleIsValid(tuple);

		if (HeapTupleIsValid(tuple))
		{
			same = i < n && strcmp(NameStr(((Form_pg_attribute) GETSTRUCT(tuple))->attname),
								   NameStr(*DatumGetName(elems[i]))) == 0;
			ReleaseSysCache(tuple);
		}
		if (!same)
			return i < n || HeapTupleIsValid(tuple);
	}
	return false;
}

/* Rows of inheriting tables are read with the parent's, and have no trigger. */
static void
refuse_heirs(Oid relid, List *touched, const char *rule)
{
	ListCell   *lc;

	foreach(lc, sc_rule_heirs_of(relid))
		if (list_member_oid(touched, lfirst_oid(lc)))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("table \"%s\" cannot inherit from \"%s\"",
							get_rel_name(lfirst_oid(lc)), get_rel_name(relid)),
					 errdetail("Changes of its rows would not be noticed by cache rule \"%s\".", rule),
					 errhint("Drop the rule with scalecache.drop_cache_rule, or use a partitioned table.")));
}

/* What a command is to a rule */
typedef enum Touch
{
	TOUCH_NONE,
	TOUCH_RESTORED,				/* nothing; the rule has come from a dump */
	TOUCH_KEPT,					/* columns and members are what they were */
	TOUCH_CHANGED
} Touch;

/* Does ALTER TABLE do nothing but what a dump ends with? */
static bool
keeps_columns(Node *stmt)
{
	ListCell   *lc;

	if (!IsA(stmt, AlterTableStmt))
		return false;
	foreach(lc, ((AlterTableStmt *) stmt)->cmds)
		switch (((AlterTableCmd *) lfirst(lc))->subtype)
		{
			case AT_AddConstraint:
			case AT_ClusterOn:
			case AT_ReplicaIdentity:
			case AT_EnableAlwaysTrig:
			case AT_EnableRowSecurity:
				break;
			default:
				return false;
		}
	return true;
}

/*
 * Is the command about the rule?  Any DDL asks, so no table is locked for it:
 * it would wait for whoever alters a table with a rule, or deadlock.
 */
static Touch
is_touched(int64 id, List *touched, bool kept, const RenameStmt *rename, bool *restored)
{
	Relation	catalog = sc_rules_open(AccessShareLock);
	HeapTuple	tuple;
	TupleDesc	desc;
	Oid			relid = InvalidOid;
	List	   *members;
	Datum		d;
	bool		isnull;
	Touch		result = TOUCH_NONE;
	char		kind = '\0';
	ListCell   *lc;

	*restored = false;
	if (catalog == NULL)
		return TOUCH_NONE;
	tuple = sc_rule_fetch(catalog, id);
	desc = RelationGetDescr(catalog);
	if (tuple)
	{
		relid = sc_rule_relation(catalog, tuple);
		kind = get_rel_relkind(relid);
	}
	if (kind != '\0')
	{
		d = heap_getattr(tuple, Anum_cache_rule_name, desc, &isnull);
		refuse_heirs(relid, touched, TextDatumGetCString(d));
		members = sc_rule_members_of(relid, NoLock);
		d = heap_getattr(tuple, Anum_cache_rule_members, desc, &isnull);
		*restored = isnull;
		/* The old name will not be known any more. */
		if (isnull)
			result = renames_columns_of(rename, touched, relid) ? TOUCH_CHANGED : TOUCH_RESTORED;
		foreach(lc, members)
			if (list_member_oid(touched, lfirst_oid(lc)))
				result = kept ? TOUCH_KEPT : TOUCH_CHANGED;
		if (!isnull &&
			!DatumGetBool(OidFunctionCall2Coll(F_ARRAY_EQ, C_COLLATION_OID, d, sc_rule_oid_array(members))))
			result = TOUCH_CHANGED;
		d = heap_getattr(tuple, Anum_cache_rule_attnames, desc, &isnull);
		if (!isnull && names_differ(relid, d))
			result = TOUCH_CHANGED;
	}
	table_close(catalog, AccessShareLock);
	return result;
}

static bool
wants_trigger(int64 id, Oid relid, const char *function)
{
	HeapTuple	tuple = sc_rule_find_trigger(id, relid, function);

	return !HeapTupleIsValid(tuple) ||
		((Form_pg_trigger) GETSTRUCT(tuple))->tgenabled == TRIGGER_FIRES_ON_ORIGIN;
}

/*
 * Lock what follow() will.  pg_restore works on several tables of a rule at
 * the same time, in one transaction for each: who has locked one of them must
 * not wait for the others.
 */
static bool
lock_without_waiting(int64 id, Relation catalog, HeapTuple tuple)
{
	Oid			relid = sc_rule_relation(catalog, tuple);
	List	   *members = sc_rule_members_of(relid, NoLock);
	bool		complete = true;
	ListCell   *lc;

	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return false;
	if (get_rel_relkind(relid) != RELKIND_VIEW)
		foreach(lc, members)
			complete = complete && !wants_trigger(id, lfirst_oid(lc), SC_ROW_FUNCTION) &&
				!wants_trigger(id, lfirst_oid(lc), SC_TRUNCATE_FUNCTION);
	foreach(lc, members)
		if (!complete && !ConditionalLockRelationOid(lfirst_oid(lc), ShareRowExclusiveLock))
			return false;
	return ConditionalLockRelationOid(RelationGetRelid(catalog), RowExclusiveLock) &&
		sc_rule_lock(id, false);
}

/*
 * A rule that need not be followed is nevertheless, so that one from a dump
 * gets what it lacks: but not if that takes waiting.
 */
static bool
can_wait(int64 id, Touch touch)
{
	Relation	catalog = sc_rules_open(AccessShareLock);
	HeapTuple	tuple = catalog ? sc_rule_fetch(catalog, id) : NULL;
	char	   *pattern;
	char	   *prefix;
	bool		result = tuple == NULL || !lock_without_waiting(id, catalog, tuple);

	if (result && tuple && touch == TOUCH_KEPT && sc_rule_pattern(id, &pattern, &prefix))
		sc_cache_touch_pattern(id, pattern);
	if (catalog)
		table_close(catalog, NoLock);
	return result;
}

typedef struct Following
{
	int64		id;
	List	   *touched;
	const RenameStmt *rename;
	Touch		touch;
} Following;

/*
 * The relation is opened only for new names, when the command has locked it: one
 * about a partition would deadlock with one that comes down from the relation.
 */
static void
follow_now(void *arg)
{
	Following  *f = arg;
	Relation	catalog = sc_rules_open(RowExclusiveLock);
	HeapTuple	tuple;
	Relation	rel;
	Oid			relid;
	List	   *members;
	Datum		d;
	bool		isnull;
	bool		changed;
	char		kind;
	char	   *pattern;
	char	   *prefix;

	if (catalog == NULL)
		return;
	(void) sc_rule_lock(f->id, true);
	tuple = sc_rule_fetch(catalog, f->id);
	relid = tuple ? sc_rule_relation(catalog, tuple) : InvalidOid;
	kind = get_rel_relkind(relid);
	if (kind == '\0')
	{
		table_close(catalog, NoLock);
		return;
	}
	members = sc_rule_members_of(relid, NoLock);
	sc_rule_check_members(relid, members);
	changed = list_length(list_difference_oid(members, f->touched)) < list_length(members);
	d = heap_getattr(tuple, Anum_cache_rule_attnames, RelationGetDescr(catalog), &isnull);
	if ((isnull || list_member_oid(f->touched, relid) || names_differ(relid, d)) &&
		(rel = try_relation_open(relid, AccessShareLock)) != NULL)
	{
		follow_names(catalog, tuple, rel,
					 renames_columns_of(f->rename, f->touched, relid) ? f->rename : NULL,
					 isnull);
		relation_close(rel, NoLock);
		changed = true;
		/* What may have been in the way before, see follow. */
		if (isnull)
			sc_failure_set(f->id, NULL);
	}
	if (!follow_members(catalog, f->id, members) && !changed)
	{
		table_close(catalog, NoLock);
		return;
	}
	CacheInvalidateRelcacheByRelid(relid);
	if (kind != RELKIND_VIEW)
		sc_rule_create_triggers(f->id, relid, members);
	if (sc_rule_pattern(f->id, &pattern, &prefix))
		sc_cache_touch_pattern(f->id, pattern);
	table_close(catalog, NoLock);
}

static void
follow_gently(void *arg)
{
	Following  *f = arg;

	if (f->touch == TOUCH_CHANGED || !can_wait(f->id, f->touch))
		follow_now(f);
}

/*
 * A rule from a dump may not fit its table, where that was another one's and
 * there before.  That is no reason for commands to fail, about that table or any
 * other, or to keep it locked.
 */
static void
follow(int64 id, List *touched, bool kept, const RenameStmt *rename)
{
	bool		restored;
	Touch		touch = is_touched(id, touched, kept, rename, &restored);
	Following	following = {id, touched, rename, touch};
	ErrorData  *error;

	if (touch == TOUCH_NONE)
		return;
	if (!restored)
	{
		follow_gently(&following);
		return;
	}
	error = sc_attempt(follow_gently, &following, true);
	if (error == NULL)
		return;
	if (!sc_error_is_harmless(error->sqlerrcode))
		ReThrowError(error);
	/* If somebody else has the rule's lock, he says so. */
	if (sc_failure_is(id, error->message) || !sc_rule_lock(id, false))
		return;
	sc_failure_set(id, error->message);
	CommandCounterIncrement();
}

/* ---- types whose values get another text ---- */

/* May the text, or the JSON, of values that are there be another one now? */
static bool
changes_texts(Node *stmt)
{
	ListCell   *lc;

	if (IsA(stmt, AlterEnumStmt))
		return ((AlterEnumStmt *) stmt)->oldVal != NULL;
	if (IsA(stmt, RenameStmt))
		return ((RenameStmt *) stmt)->renameType == OBJECT_ATTRIBUTE ||
			((RenameStmt *) stmt)->renameType == OBJECT_COLUMN;
	if (!IsA(stmt, AlterTableStmt))
		return false;
	foreach(lc, ((AlterTableStmt *) stmt)->cmds)
		switch (((AlterTableCmd *) lfirst(lc))->subtype)
		{
			case AT_AddColumn:
			case AT_DropColumn:
			case AT_AlterColumnType:
				return true;
			default:
				break;
		}
	return false;
}

static bool relation_has_type(Oid relid, const List *types);

/* Is the type one of them, or made of one? */
static bool
has_type(Oid type, const List *types)
{
	HeapTuple	tuple;
	FormData_pg_type form;

	if (list_member_oid(types, type))
		return true;
	check_stack_depth();
	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	if (!HeapTupleIsValid(tuple))
		return false;
	form = *(Form_pg_type) GETSTRUCT(tuple);
	ReleaseSysCache(tuple);
	if (IsTrueArrayType(&form))
		return has_type(form.typelem, types);
	switch (form.typtype)
	{
		case TYPTYPE_DOMAIN:
			return has_type(form.typbasetype, types);
		case TYPTYPE_RANGE:
			return has_type(get_range_subtype(type), types);
		case TYPTYPE_MULTIRANGE:
			return has_type(get_multirange_range(type), types);
		case TYPTYPE_COMPOSITE:
			return relation_has_type(form.typrelid, types);
		default:
			return false;
	}
}

static Oid
column_type(Oid relid, AttrNumber attno)
{
	HeapTuple	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid), Int16GetDatum(attno));
	Oid			type = InvalidOid;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	if (!((Form_pg_attribute) GETSTRUCT(tuple))->attisdropped)
		type = ((Form_pg_attribute) GETSTRUCT(tuple))->atttypid;
	ReleaseSysCache(tuple);
	return type;
}

static bool
relation_has_type(Oid relid, const List *types)
{
	for (AttrNumber attno = 1;
		 SearchSysCacheExists2(ATTNUM, ObjectIdGetDatum(relid), Int16GetDatum(attno));
		 attno++)
		if (has_type(column_type(relid, attno), types))
			return true;
	return false;
}

static bool
collect_tables(Node *node, List **tables)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		/* A view's own entries are in it, too. */
		if (rte->rtekind == RTE_RELATION && rte->relkind != RELKIND_VIEW)
			*tables = list_append_unique_oid(*tables, rte->relid);
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, collect_tables, tables,
								 QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, collect_tables, tables);
}

/* The tables that a view reads, which is locked. */
static List *
tables_of(Oid relid)
{
	List	   *tables = NIL;
	Relation	view = try_relation_open(relid, NoLock);

	if (view)
	{
		(void) collect_tables((Node *) get_view_query(view), &tables);
		relation_close(view, NoLock);
	}
	return tables;
}

/*
 * The command has changed how values of the types look: an enum's label, a
 * composite type's attributes.  Keys that were made of them are not those that
 * writers make from now on, and cached rows show what was.  Writers that have
 * made theirs, and have yet to commit, are waited for, and later ones wait for
 * the command: nobody else would delete the key that they did not think of.
 *
 * So are readers.  What a type's values look like does not depend on a snapshot
 * but on the catalog's cache, and a commit is seen by new snapshots before other
 * sessions are told to forget that: one in between would fill a cache with the
 * old text under a snapshot that sees the command.  Who waits for the lock of
 * the table is told when it is granted.  Views come first, as whoever reads one
 * locks it before its tables.
 */
static void
follow_types(const List *ids, const List *types)
{
	List	   *concerned = NIL;
	List	   *views = NIL;
	List	   *tables = NIL;
	ListCell   *lc;

	foreach(lc, ids)
	{
		Relation	catalog = sc_rules_open(AccessShareLock);
		HeapTuple	tuple = catalog ? sc_rule_fetch(catalog, *(int64 *) lfirst(lc)) : NULL;
		Oid			relid = tuple ? sc_rule_relation(catalog, tuple) : InvalidOid;
		char		kind = get_rel_relkind(relid);

		if (catalog)
			table_close(catalog, AccessShareLock);
		if (kind == '\0' || !relation_has_type(relid, types))
			continue;
		concerned = lappend(concerned, lfirst(lc));
		if (kind == RELKIND_VIEW)
			views = list_append_unique_oid(views, relid);
		else
			tables = list_append_unique_oid(tables, relid);
	}
	foreach(lc, views)
		LockRelationOid(lfirst_oid(lc), AccessExclusiveLock);
	foreach(lc, views)
		tables = list_concat_unique_oid(tables, tables_of(lfirst_oid(lc)));
	list_sort(tables, list_oid_cmp);
	foreach(lc, tables)
	{
		LockRelationOid(lfirst_oid(lc), AccessExclusiveLock);
		(void) sc_rule_members_of(lfirst_oid(lc), AccessExclusiveLock);
	}
	foreach(lc, concerned)
	{
		char	   *pattern;
		char	   *prefix;

		if (sc_rule_pattern(*(int64 *) lfirst(lc), &pattern, &prefix))
			sc_cache_touch_pattern(*(int64 *) lfirst(lc), pattern);
	}
}

static void
forget_dead_rules(void)
{
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		isnull;

	if (!some_rule_is_dead() || (rel = sc_rules_open(RowExclusiveLock)) == NULL)
		return;
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		int64		id = DatumGetInt64(heap_getattr(tuple, Anum_cache_rule_id,
													RelationGetDescr(rel), &isnull));
		Oid			relid = sc_rule_relation(rel, tuple);

		if (is_alive(rel, tuple))
			continue;
		/* A worker must not note a failure of it from here on, and wait for us. */
		(void) sc_rule_lock(id, true);
		tuple = sc_rule_fetch(rel, id);
		if (tuple)
			sc_rule_forget(rel, tuple);
		if (get_rel_relkind(relid) != '\0')
			CacheInvalidateRelcacheByRelid(relid);
	}
	systable_endscan(scan);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

static void
check_called(FunctionCallInfo fcinfo, const char *function)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" serves an event trigger only", function),
				 errdetail("It looks at the command that has fired it."),
				 errhint("The extension's event triggers call it.")));
}

/* Oids of the objects of a catalog that the command has dropped, or of which a column. */
static List *
dropped_objects(Oid catalog, bool columns)
{
	MemoryContext cxt = CurrentMemoryContext;
	List	   *oids = NIL;

	SPI_connect();
	if (SPI_execute(psprintf("SELECT objid FROM pg_catalog.pg_event_trigger_dropped_objects()"
							 " WHERE classid OPERATOR(pg_catalog.=) %u::pg_catalog.oid"
							 " AND (objsubid OPERATOR(pg_catalog.<>) 0) OPERATOR(pg_catalog.=) %s",
							 catalog, columns ? "true" : "false"), true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read what was dropped");
	MemoryContextSwitchTo(cxt);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		oids = lappend_oid(oids, DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i],
																SPI_tuptable->tupdesc, 1, &isnull)));
	}
	SPI_finish();
	return oids;
}

/*
 * A rule that has lost its row trigger goes.  One that has lost a trigger for
 * TRUNCATE would stay, and not notice it: that one is made again, by who has
 * just had the table locked to drop it.
 */
static void
keep_truncate_triggers(int64 id)
{
	Relation	catalog = sc_rules_open(AccessShareLock);
	HeapTuple	tuple = catalog ? sc_rule_fetch(catalog, id) : NULL;
	Oid			relid = tuple ? sc_rule_relation(catalog, tuple) : InvalidOid;
	bool		isnull = true;
	List	   *lost = NIL;
	ListCell   *lc;

	if (tuple)
		(void) heap_getattr(tuple, Anum_cache_rule_members, RelationGetDescr(catalog), &isnull);
	if (catalog)
		table_close(catalog, AccessShareLock);
	if (isnull || get_rel_relkind(relid) == '\0' || get_rel_relkind(relid) == RELKIND_VIEW)
		return;
	foreach(lc, sc_rule_members_of(relid, NoLock))
		if (CheckRelationOidLockedByMe(lfirst_oid(lc), ShareRowExclusiveLock, true) &&
			!HeapTupleIsValid(sc_rule_find_trigger(id, lfirst_oid(lc), SC_TRUNCATE_FUNCTION)))
			lost = lappend_oid(lost, lfirst_oid(lc));
	if (lost)
		sc_rule_create_triggers(id, relid, lost);
}

/*
 * sql_drop: rules go with their table, or with their trigger.  A partition
 * takes its rows along, whatever drops it: DROP SCHEMA, DROP OWNED.  DROP TYPE
 * may take a column from what is a type itself, for which no other event tells.
 */
Datum
scalecache_cache_dropped(PG_FUNCTION_ARGS)
{
	List	   *ids;
	List	   *types = NIL;
	ListCell   *lc;

	check_called(fcinfo, "cache_dropped");
	if (sc_rule_own_commands)
		PG_RETURN_NULL();
	forget_dead_rules();
	ids = sc_rules_all();
	if (ids == NIL)
		PG_RETURN_NULL();
	foreach(lc, ids)
		follow(*(int64 *) lfirst(lc), NIL, false, NULL);
	if (dropped_objects(TriggerRelationId, false))
		foreach(lc, ids)
			keep_truncate_triggers(*(int64 *) lfirst(lc));
	foreach(lc, dropped_objects(RelationRelationId, true))
		if (OidIsValid(get_rel_type_id(lfirst_oid(lc))))
			types = lappend_oid(types, get_rel_type_id(lfirst_oid(lc)));
	if (types)
		follow_types(ids, types);
	PG_RETURN_NULL();
}

/* ddl_command_end: names, partitions, rewritten tables, and types. */
Datum
scalecache_cache_altered(PG_FUNCTION_ARGS)
{
	Node	   *stmt;
	RenameStmt *rename = NULL;
	List	   *ids;
	List	   *touched;
	List	   *types;
	bool		kept;
	ListCell   *lc;

	check_called(fcinfo, "cache_altered");
	ids = sc_rule_own_commands ? NIL : sc_rules_all();
	if (ids == NIL)
		PG_RETURN_NULL();
	stmt = ((EventTriggerData *) fcinfo->context)->parsetree;
	touched_objects(&touched, &types);
	kept = keeps_columns(stmt);
	if (IsA(stmt, RenameStmt) && ((RenameStmt *) stmt)->renameType == OBJECT_COLUMN)
		rename = (RenameStmt *) stmt;
	foreach(lc, ids)
		follow(*(int64 *) lfirst(lc), touched, kept, rename);
	if (!changes_texts(stmt))
		PG_RETURN_NULL();
	/* A relation's rows are a type, too. */
	foreach(lc, touched)
		if (OidIsValid(get_rel_type_id(lfirst_oid(lc))))
			types = lappend_oid(types, get_rel_type_id(lfirst_oid(lc)));
	if (types)
		follow_types(ids, types);
	PG_RETURN_NULL();
}
