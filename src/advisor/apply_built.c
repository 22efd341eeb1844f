/*-------------------------------------------------------------------------
 *
 * apply_built.c
 *	  Which indexes an action has built, whatever they are called by now.
 *
 * A name proves nothing: anybody may have given it to an index of his own, and
 * may rename that of the action.  So each index is entered in the action's row
 * as it is made.  What is dropped and made anew by REINDEX CONCURRENTLY, or
 * because the type of a column changes, has another number, but keeps its
 * comment: so each is marked by one, too.
 *
 * What must always hold: an index that the builder makes for an action, and
 * the entry that says so, are committed by the same transaction.  CREATE INDEX
 * CONCURRENTLY commits before the index is built, so there is no other place
 * to do that in than the server's hook for new objects.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_description.h"
#include "catalog/pg_index.h"
#include "commands/comment.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "advisor/apply_built.h"

/* The action that is under way; 0: none */
static int64 action_id = 0;
static Oid	action_table;		/* that its row is in */
static char *action_prefix = NULL;	/* of the names of its indexes */
static char *action_mark = NULL;	/* how the comment on each begins */
static List *built = NIL;		/* of Oid, in TopMemoryContext */

static object_access_hook_type prev_object_access = NULL;

/* The comment on an index of a table, which a copy of that would have, too. */
static char *
mark_of(Oid relid)
{
	return psprintf("%s, on table %u)", action_mark, relid);
}

/* As the extension's owner, whose table it is, whoever the index is built as. */
static void
enter_index(Oid indexoid)
{
	MemoryContext oldcxt;
	Oid			userid;
	int			seccxt;

	GetUserIdAndSecContext(&userid, &seccxt);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID,
						   seccxt | SECURITY_LOCAL_USERID_CHANGE);
	if (SPI_execute(psprintf("UPDATE scalecache.index_action SET built = pg_catalog.array_append(built, %u::pg_catalog.oid) "
							 "WHERE id OPERATOR(pg_catalog.=) " INT64_FORMAT " AND tableoid OPERATOR(pg_catalog.=) %u",
							 indexoid, action_id, action_table),
					false, 0) != SPI_OK_UPDATE || SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the action was dropped")));
	SetUserIdAndSecContext(userid, seccxt);
	SPI_finish();
	oldcxt = MemoryContextSwitchTo(TopMemoryContext);
	built = lappend_oid(built, indexoid);
	MemoryContextSwitchTo(oldcxt);
	/* The update has made the index visible. */
	CreateComments(indexoid, RelationRelationId, 0,
				   mark_of(IndexGetRelation(indexoid, false)));
}

/*
 * The catalogs do not show the index yet, but the relation's own descriptor
 * has its name.  Whatever else is made meanwhile, by an event trigger say, is
 * called something else.
 */
static void
note_object(ObjectAccessType access, Oid classid, Oid objectid, int subid,
			void *arg)
{
	Relation	rel;
	bool		ours;

	if (prev_object_access)
		prev_object_access(access, classid, objectid, subid, arg);
	if (access != OAT_POST_CREATE || classid != RelationRelationId ||
		subid != 0 || action_id == 0)
		return;
	rel = RelationIdGetRelation(objectid);
	if (!RelationIsValid(rel))
		return;
	ours = (rel->rd_rel->relkind == RELKIND_INDEX ||
			rel->rd_rel->relkind == RELKIND_PARTITIONED_INDEX) &&
		strncmp(RelationGetRelationName(rel), action_prefix,
				strlen(action_prefix)) == 0;
	RelationClose(rel);
	if (ours)
		enter_index(objectid);
}

/* In a builder, which is of no use for anything else. */
void
sc_built_init(void)
{
	prev_object_access = object_access_hook;
	object_access_hook = note_object;
}

/*
 * From now on indexes are of this action, of which some are known, if their
 * names begin so.
 */
void
sc_built_begin(int64 action, Oid tableoid, const char *prefix, List *known)
{
	MemoryContext oldcxt = MemoryContextSwitchTo(TopMemoryContext);

	list_free(built);
	built = list_copy(known);
	if (action_prefix)
		pfree(action_prefix);
	if (action_mark)
		pfree(action_mark);
	action_prefix = pstrdup(prefix);
	/* The numbers of actions begin anew with the extension. */
	action_mark = psprintf("made by scalecache, to see whether it helps (action " INT64_FORMAT " of table %u",
						   action, tableoid);
	MemoryContextSwitchTo(oldcxt);
	action_id = action;
	action_table = tableoid;
}

/*
 * Is a comment that of the action's indexes?  Anybody can give it to what is
 * his, and CREATE TABLE (LIKE ... INCLUDING ALL) copies it.
 */
static bool
is_mark(Oid relid, const char *comment)
{
	HeapTuple	tuple;
	Form_pg_index form;
	bool		result;

	if (strncmp(comment, action_mark, strlen(action_mark)) != 0)
		return false;
	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(relid));
	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_index) GETSTRUCT(tuple);
	/* Unique ones are not built, and may belong to a constraint. */
	result = !form->indisunique && !form->indisexclusion &&
		strcmp(comment, mark_of(form->indrelid)) == 0;
	ReleaseSysCache(tuple);
	return result;
}

/*
 * All that there may be of them, of Oid, as they were built; some may be gone.
 * In a transaction, in the current memory context.
 */
List *
sc_built_all(void)
{
	List	   *all = list_copy(built);
	Relation	rel = table_open(DescriptionRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0,
										  NULL);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_description form = (Form_pg_description) GETSTRUCT(tuple);
		Datum		comment;
		bool		isnull;

		if (form->classoid != RelationRelationId || form->objsubid != 0)
			continue;
		comment = heap_getattr(tuple, Anum_pg_description_description,
							   RelationGetDescr(rel), &isnull);
		if (!isnull && is_mark(form->objoid, TextDatumGetCString(comment)))
			all = list_append_unique_oid(all, form->objoid);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return all;
}

static bool
is_marked(Oid indexoid)
{
	char	   *comment = GetComment(indexoid, RelationRelationId, 0);

	return comment != NULL && is_mark(indexoid, comment);
}

/* It is not the action's any more.  With the index locked. */
void
sc_built_unmark(Oid indexoid)
{
	if (is_marked(indexoid))
		CreateComments(indexoid, RelationRelationId, 0, NULL);
}

/*
 * The one of a table, or InvalidOid.  While REINDEX CONCURRENTLY goes on there
 * are two, of which the one with the mark will stay.  In a transaction; the
 * table need not be locked.
 */
Oid
sc_built_index(Oid relid, bool *valid)
{
	Oid			result = InvalidOid;
	Relation	rel;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	rel = table_open(IndexRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_index_indrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, IndexIndrelidIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_index form = (Form_pg_index) GETSTRUCT(tuple);
		bool		marked = is_marked(form->indexrelid);

		if (!marked && (OidIsValid(result) ||
						!list_member_oid(built, form->indexrelid)))
			continue;
		result = form->indexrelid;
		*valid = form->indisvalid;
		if (marked)
			break;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}
