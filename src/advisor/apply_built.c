/*-------------------------------------------------------------------------
 *
 * apply_built.c
 *	  Which indexes an action has built, whatever they are called by now.
 *
 * A name proves nothing: anybody may have given it to an index of his own, and
 * may rename that of the action.  So each index is entered in the action's row
 * as it is made.
 *
 * What must always hold: an index that the builder makes for an action, and
 * the entry that says so, are committed by the same transaction.  CREATE INDEX
 * CONCURRENTLY commits before the index is built, so there is no other place
 * to do that in than the server's hook for new objects.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "advisor/apply_built.h"

/* The action that is under way; 0: none */
static int64 action_id = 0;
static Oid	action_table;		/* that its row is in */
static char *action_prefix = NULL;	/* of the names of its indexes */
static List *built = NIL;		/* of Oid, in TopMemoryContext */

static object_access_hook_type prev_object_access = NULL;

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
	action_prefix = pstrdup(prefix);
	MemoryContextSwitchTo(oldcxt);
	action_id = action;
	action_table = tableoid;
}

/* Those built so far, of Oid; some may be gone. */
List *
sc_built_list(void)
{
	return built;
}

/*
 * The one of a table, or InvalidOid.  If it is gone, it may have been rebuilt by
 * REINDEX CONCURRENTLY, which leaves another index with its name.  In a
 * transaction.
 */
Oid
sc_built_index(Oid relid, const char *name, bool *valid)
{
	List	   *candidates = list_copy(built);
	ListCell   *lc;

	if (built != NIL)
		candidates = lappend_oid(candidates,
								 get_relname_relid(name,
												   get_rel_namespace(relid)));
	foreach(lc, candidates)
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID,
											ObjectIdGetDatum(lfirst_oid(lc)));
		Form_pg_index form;
		bool		found;

		if (!HeapTupleIsValid(tuple))
			continue;
		form = (Form_pg_index) GETSTRUCT(tuple);
		found = form->indrelid == relid;
		*valid = form->indisvalid;
		ReleaseSysCache(tuple);
		if (found)
			return lfirst_oid(lc);
	}
	return InvalidOid;
}
