/*-------------------------------------------------------------------------
 *
 * apply.c
 *	  The builder: build an index in the background, and keep it only if it
 *	  is worth keeping.
 *
 * An action is a row of scalecache.index_action.  A background worker takes
 * the actions of a database one after the other: it times the recorded
 * statements of the table, builds the index concurrently, times them again,
 * and drops the index unless they became faster in all and none became too
 * slow.
 *
 * What must always hold:
 *
 * - Only one worker of a database is at it: it holds an advisory lock for as
 *	 long as it lives.  So an action that is under way while nobody holds the
 *	 lock was interrupted, and whoever takes the lock cleans up after it.
 *
 * - No invalid index is left behind, and no index of anybody else's is
 *	 dropped: the action's row has the numbers of what was built for it, see
 *	 apply_built.c.  Until it is kept, the index is named after the action.  It
 *	 gets the name that was asked for in the transaction that ends the action.
 *
 * - The index is built in the name of who asked for it, so his rights are
 *	 checked again, with the table locked: he, or the table, may have changed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/tablecmds.h"
#include "commands/defrem.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/procarray.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "advisor/apply.h"
#include "advisor/apply_built.h"
#include "advisor/choose.h"
#include "advisor/replay.h"
#include "advisor/statements.h"
#include "base/attempt.h"
#include "base/guc.h"
#include "base/owner.h"
#include "worker/launcher.h"

PGDLLEXPORT void sc_apply_main(Datum main_arg);

/*
 * The lock that the one worker of a database holds, for as long as it lives:
 * an advisory one, for these outlive failed transactions, but of a class that
 * SQL functions cannot take.
 */
#define SC_APPLY_LOCK(tag) \
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 1396913236, 3)
#define SC_APPLY_TRIES		5
#define SC_DROP_TRIES		20
/* Where there is another builder to go on, and others wait. */
#define SC_DROP_FEW_TRIES	3
#define SC_RETRY_MS			15000	/* until that one */
#define SC_APPLY_PAUSE_MS	500
/* A lock that others wait behind: how long an attempt takes, and how many. */
#define SC_BRIEF_LOCK_MS	200
#define SC_BRIEF_TRIES		10
#define SC_APPLY_WAIT_MS	30000	/* for the caller's transaction */
/* All of them together must take less than this part of the time. */
#define SC_MIN_SPEEDUP		0.98

typedef struct Action
{
	int64		id;
	Oid			tableoid;		/* of the table that its row is in */
	char	   *ddl;			/* complete, with the index's name */
	char	   *definition;		/* of it, what follows the table's name */
	Oid			relid;
	Oid			role;			/* who asked */
	char	   *name;			/* to be, when it is kept */
	char	   *build_name;		/* until then */
	List	   *built;			/* of Oid, by builders before this one */
	bool		exists;			/* is the table still there? */
	bool		analyze;		/* has it expressions? */
	bool		queued;			/* not begun yet */
	char	   *outcome;		/* state to be, when it is cleaned up after */
	char	   *verdict;		/* with that */
	bool		partitioned;
} Action;

/*
 * The worker: small things
 */

static bool drop_index(int most, ErrorData **error);
static void pause_ms(long ms);

/*
 * Do something that begins and ends transactions; false, with the error, when
 * it failed.
 */
static bool
attempt(void (*fn) (void *arg), void *arg, ErrorData **error)
{
	MemoryContext cxt = CurrentMemoryContext;
	volatile bool ok = true;

	PG_TRY();
	{
		fn(arg);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		*error = CopyErrorData();
		HOLD_INTERRUPTS();
		FlushErrorState();
		/* A portal of a failed statement is dropped by this, too. */
		AbortCurrentTransaction();
		RESUME_INTERRUPTS();
		ok = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	return ok;
}

typedef struct Update
{
	const char *sql;
	uint64		rows;
} Update;

static void
run_update(void *arg)
{
	Update	   *update = (Update *) arg;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT ||
		SPI_execute(update->sql, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not execute: %s", update->sql);
	update->rows = SPI_processed;
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/*
 * The action's row may be gone, with the extension: then there will be nobody
 * to clean up after it, so that is done now, and it is the end.
 */
static void
set_state(Action *action, const char *state, const char *more)
{
	Update		update = {0};
	ErrorData  *error;

	update.sql = psprintf("UPDATE scalecache.index_action SET state = %s%s "
						  "WHERE id = " INT64_FORMAT " AND tableoid = %u",
						  quote_literal_cstr(state), more ? more : "",
						  action->id, action->tableoid);
	if (!attempt(run_update, &update, &error) &&
		error->sqlerrcode != ERRCODE_UNDEFINED_TABLE &&
		error->sqlerrcode != ERRCODE_UNDEFINED_SCHEMA)
		ReThrowError(error);
	if (update.rows == 0)
	{
		(void) drop_index(SC_DROP_TRIES, &error);
		proc_exit(0);
	}
}

static void
finish_action(Action *action, const char *state, const char *verdict)
{
	set_state(action, state,
			  psprintf(", finished_at = pg_catalog.clock_timestamp(), verdict = %s",
					   quote_literal_cstr(verdict)));
}

/*
 * A utility statement at top level, as a client would send it: CREATE INDEX
 * CONCURRENTLY commits on its way.
 */
static void
execute_utility(const char *sql)
{
	RawStmt    *raw;
	List	   *plans;
	Portal		portal;
	QueryCompletion qc;
	DestReceiver *dest;

	raw = linitial_node(RawStmt, pg_parse_query(sql));
	plans = pg_plan_queries(pg_analyze_and_rewrite_fixedparams(raw, sql, NULL,
															   0, NULL),
							sql, 0, NULL);
	portal = CreatePortal("", true, true);
	portal->visible = false;
	PortalDefineQuery(portal, NULL, sql, CreateCommandTag(raw->stmt), plans,
					  NULL);
	PortalStart(portal, NULL, 0, InvalidSnapshot);
	dest = CreateDestReceiver(DestNone);
	(void) PortalRun(portal, FETCH_ALL, true, true, dest, dest, &qc);
	PortalDrop(portal, false);
}

/*
 * Wait for a lock without a snapshot.  Who has it may be building an index
 * concurrently, and would wait for the snapshot to go.
 */
static void
lock_relation(Oid relid, LOCKMODE mode)
{
	InvalidateCatalogSnapshot();
	LockRelationOid(relid, mode);
}

/*
 * An index that is made is entered in the action's row: that is locked before
 * the table is, as who drops the extension does it.
 */
static void
run_utility(void *arg)
{
	const char *sql = (const char *) arg;
	MemoryContext cxt = CurrentMemoryContext;

	StartTransactionCommand();
	MemoryContextSwitchTo(cxt);
	if (strncmp(sql, "CREATE ", strlen("CREATE ")) == 0)
	{
		Relation	rel = sc_own_table_open("index_action", RowExclusiveLock);

		if (rel != NULL)
			table_close(rel, NoLock);
	}
	execute_utility(sql);
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
}

/*
 * The same, in the name of a role, or of the worker's own if that is
 * InvalidOid; false, with the error, when it failed.
 */
static bool
try_utility(Oid role, char *sql, ErrorData **error)
{
	bool		ok;

	/* As SET ROLE does; that it reports "is_superuser" matters to no one. */
	if (OidIsValid(role))
		SetCurrentRoleId(role, role == BOOTSTRAP_SUPERUSERID);
	ok = attempt(run_utility, sql, error);
	SetCurrentRoleId(InvalidOid, false);
	return ok;
}

/* May an error go by? */
static bool
passing_error(ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
		error->sqlerrcode == ERRCODE_OBJECT_IN_USE;
}

static void
set_lock_timeout(int ms)
{
	SetConfigOption("lock_timeout", psprintf("%d", ms), PGC_SUSET,
					PGC_S_OVERRIDE);
}

/*
 * The same for what is not done concurrently: while it waits for its lock,
 * everybody else waits behind it, so it asks for that in short attempts.
 */
static bool
try_briefly(Oid role, void (*fn) (void *arg), void *arg, ErrorData **error)
{
	int			tries;

	for (tries = 1;; tries++)
	{
		bool		ok;

		set_lock_timeout(Min(SC_BRIEF_LOCK_MS, sc_advisor_lock_timeout));
		if (OidIsValid(role))
			SetCurrentRoleId(role, role == BOOTSTRAP_SUPERUSERID);
		ok = attempt(fn, arg, error);
		SetCurrentRoleId(InvalidOid, false);
		set_lock_timeout(sc_advisor_lock_timeout);
		if (ok || tries == SC_BRIEF_TRIES || !passing_error(*error))
			return ok;
		pause_ms(SC_BRIEF_LOCK_MS * tries);
	}
}

/* An error of ours, for where try_utility() would have given one. */
static ErrorData *
make_error(int sqlerrcode, const char *message)
{
	ErrorData  *error = (ErrorData *) palloc0(sizeof(ErrorData));

	error->sqlerrcode = sqlerrcode;
	error->message = pstrdup(message);
	return error;
}

/* A relation's qualified name; NULL when it is gone.  In a transaction. */
static char *
qualified_name(Oid relid)
{
	char	   *name = get_rel_name(relid);
	char	   *nsp = name ? get_namespace_name(get_rel_namespace(relid)) : NULL;

	return nsp ? quote_qualified_identifier(nsp, name) : NULL;
}

/* An index as it is now. */
typedef struct Found
{
	Oid			oid;
	bool		valid;
	char	   *qualified;
} Found;

/* Find what was built for a table. */
static bool
find_built(Oid relid, Found *found)
{
	MemoryContext cxt = CurrentMemoryContext;

	memset(found, 0, sizeof(*found));
	StartTransactionCommand();
	MemoryContextSwitchTo(cxt);
	found->oid = sc_built_index(relid, &found->valid);
	if (OidIsValid(found->oid))
		found->qualified = qualified_name(found->oid);
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return found->qualified != NULL;
}

/* The action's index; of a partitioned table, the root. */
static bool
find_index(Action *action, Found *found)
{
	return find_built(action->relid, found);
}

/*
 * Drop an index.  It is locked, and its table before it, so that it has still
 * the name by which it is dropped.  One that has become part of somebody
 * else's, by ATTACH PARTITION or the like, is his.
 */
static void
run_drop(void *arg)
{
	Oid			indexoid = *(Oid *) arg;
	MemoryContext cxt = CurrentMemoryContext;
	bool		concurrently;
	LOCKMODE	mode;
	Oid			relid;
	char	   *name;

	StartTransactionCommand();
	MemoryContextSwitchTo(cxt);
	concurrently = get_rel_relkind(indexoid) == RELKIND_INDEX;
	mode = concurrently ? ShareUpdateExclusiveLock : AccessExclusiveLock;
	relid = IndexGetRelation(indexoid, true);
	if (OidIsValid(relid))
	{
		lock_relation(relid, mode);
		lock_relation(indexoid, mode);
		name = qualified_name(indexoid);
		if (name != NULL && get_rel_relispartition(indexoid))
			sc_built_unmark(indexoid);
		else if (name != NULL)
			execute_utility(psprintf("DROP INDEX %s %s",
									 concurrently ? "CONCURRENTLY" : "", name));
	}
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
}

/* The same; false, with the error, when it failed. */
static bool
drop_built(Oid indexoid, ErrorData **error)
{
	MemoryContext cxt = CurrentMemoryContext;
	char		relkind;

	StartTransactionCommand();
	relkind = get_rel_relkind(indexoid);
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return relkind == RELKIND_PARTITIONED_INDEX ?
		try_briefly(InvalidOid, run_drop, &indexoid, error) :
		attempt(run_drop, &indexoid, error);
}

/* The table's name now, or NULL, and whether who asked still exists. */
static char *
action_table(Action *action, bool *has_role)
{
	MemoryContext cxt = CurrentMemoryContext;
	char	   *result;

	StartTransactionCommand();
	MemoryContextSwitchTo(cxt);
	result = qualified_name(action->relid);
	*has_role = SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(action->role));
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return result;
}

static bool
take_lock(void)
{
	LOCKTAG		tag;

	SC_APPLY_LOCK(tag);
	return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

/*
 * Give up advisory locks that functions of a replayed statement have taken,
 * which no rollback does, and take our own again, as they may have given that
 * up.
 */
static void
drop_replayed_locks(void)
{
	LockReleaseSession(USER_LOCKMETHOD);
	if (!take_lock())
		proc_exit(0);
}

static void
pause_ms(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * Build the index itself; of a partitioned table, the root.  What was built
 * is the action's only if the table is: names may be exchanged meanwhile.
 */
static bool
build_root(Action *action, ErrorData **error)
{
	Found		found;
	bool		has_role;
	char	   *table = action_table(action, &has_role);
	char	   *sql;

	if (table == NULL || !has_role)
	{
		*error = table == NULL ?
			make_error(ERRCODE_UNDEFINED_TABLE, "the table was dropped") :
			make_error(ERRCODE_UNDEFINED_OBJECT,
					   "the role that asked for it was dropped");
		return false;
	}
	sql = psprintf("CREATE INDEX %s %s ON %s %s %s",
				   action->partitioned ? "" : "CONCURRENTLY",
				   quote_identifier(action->build_name),
				   action->partitioned ? "ONLY" : "", table,
				   action->definition);
	if (action->partitioned ?
		!try_briefly(action->role, run_utility, sql, error) :
		!try_utility(action->role, sql, error))
		return false;
	if (find_index(action, &found))
		return true;
	*error = make_error(ERRCODE_UNDEFINED_TABLE,
						"the table or the index was replaced");
	return false;
}

/*
 * Indexes of partitioned tables
 *
 * The root is made first, on ONLY the table, and is invalid until the last
 * partition's index has been attached.  Partitions that are made meanwhile
 * get theirs by themselves.  The others' are named after the root's and the
 * partition's OID.
 */

/* The partition that comes next; relid is 0 when there is none left. */
typedef struct Part
{
	Oid			relid;
	Oid			role;			/* who may build an index of it */
	bool		leaf;
	char	   *table;			/* qualified */
	char	   *name;			/* of its index, ours */
	char	   *parent;			/* the index it belongs to, qualified */
} Part;

static char *
part_index_name(const char *name, Oid relid)
{
	return makeObjectName(name, psprintf("%u", relid), NULL);
}

/* Read a partition from a row of oid, nspname, relname and four more. */
static void
read_part(Action *action, Part *part, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;

	part->relid = DatumGetObjectId(SPI_getbinval(tuple, desc, 1, &isnull));
	part->table = quote_qualified_identifier(SPI_getvalue(tuple, desc, 2),
											 SPI_getvalue(tuple, desc, 3));
	part->leaf = DatumGetBool(SPI_getbinval(tuple, desc, 4, &isnull));
	part->parent = quote_qualified_identifier(SPI_getvalue(tuple, desc, 5),
											  SPI_getvalue(tuple, desc, 6));
	/* An index of a table is one of its partitions', whoever owns them. */
	part->role = action->role;
	if (!pg_class_ownercheck(part->relid, action->role))
		part->role = DatumGetObjectId(SPI_getbinval(tuple, desc, 7, &isnull));
	part->name = part_index_name(action->build_name, part->relid);
}

/* Partitions without a part of the index, the nearest to the root first. */
static List *
missing_parts(Action *action, Oid root)
{
	MemoryContext cxt = CurrentMemoryContext;
	List	   *result = NIL;
	uint64		i;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT ||
		SPI_execute(psprintf("WITH parts AS (SELECT x.indrelid, x.indexrelid FROM pg_catalog.pg_partition_tree(%u) p "
							 "JOIN pg_catalog.pg_index x ON x.indexrelid = p.relid) "
							 "SELECT t.relid::pg_catalog.oid, n.nspname, c.relname, t.isleaf, xn.nspname, xc.relname, c.relowner "
							 "FROM pg_catalog.pg_partition_tree(%u) t "
							 "JOIN pg_catalog.pg_class c ON c.oid = t.relid "
							 "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
							 "JOIN parts x ON x.indrelid = t.parentrelid "
							 "JOIN pg_catalog.pg_class xc ON xc.oid = x.indexrelid "
							 "JOIN pg_catalog.pg_namespace xn ON xn.oid = xc.relnamespace "
							 "WHERE NOT EXISTS (SELECT FROM parts p WHERE p.indrelid = t.relid) "
							 "ORDER BY t.level, t.relid", root, action->relid),
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read partitions");
	for (i = 0; i < SPI_processed; i++)
	{
		MemoryContext oldcxt = MemoryContextSwitchTo(cxt);
		Part	   *part = (Part *) palloc0(sizeof(Part));

		read_part(action, part, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
		result = lappend(result, part);
		MemoryContextSwitchTo(oldcxt);
	}
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return result;
}

static bool
create_part(Action *action, Part *part, Found *found, ErrorData **error)
{
	char	   *sql = psprintf("CREATE INDEX %s %s ON %s %s %s",
							   part->leaf ? "CONCURRENTLY" : "",
							   quote_identifier(part->name),
							   part->leaf ? "" : "ONLY", part->table,
							   action->definition);
	ErrorData  *other;

	if (part->leaf ? try_utility(part->role, sql, error) :
		try_briefly(part->role, run_utility, sql, error))
	{
		if (find_built(part->relid, found))
			return true;
		*error = make_error(ERRCODE_UNDEFINED_TABLE,
							"a partition or its index was replaced");
	}
	else if (find_built(part->relid, found))
		(void) drop_built(found->oid, &other);
	return false;
}

static bool
build_part(Action *action, Part *part, ErrorData **error)
{
	Found		found;
	bool		built = find_built(part->relid, &found);

	/* One that failed, and could not be dropped then, is not one that was built. */
	if (built && part->leaf && !found.valid)
	{
		if (!drop_built(found.oid, error))
			return false;
		built = false;
	}
	if (!built && !create_part(action, part, &found, error))
		return false;
	return try_briefly(InvalidOid, run_utility,
					   psprintf("ALTER INDEX %s ATTACH PARTITION %s",
								part->parent, found.qualified), error);
}

/* Is a partition one of those that lack a part of the index? */
static bool
is_missing(Action *action, Oid root, Oid relid)
{
	ListCell   *lc;

	foreach(lc, missing_parts(action, root))
	{
		if (((Part *) lfirst(lc))->relid == relid)
			return true;
	}
	return false;
}

/*
 * Build what is missing; may be called again after an error.  Partitions may
 * come and go meanwhile: what fails for one that is none any more does not
 * matter.
 */
static bool
build_partitioned(Action *action, ErrorData **error)
{
	Found		root;
	List	   *parts;

	if (!find_index(action, &root) &&
		(!build_root(action, error) || !find_index(action, &root)))
		return false;
	/* Those below a partitioned one are seen when it has its index. */
	while ((parts = missing_parts(action, root.oid)) != NIL)
	{
		ListCell   *lc;

		foreach(lc, parts)
		{
			Part	   *part = (Part *) lfirst(lc);
			Found		found;

			if (build_part(action, part, error))
				continue;
			if (ProcDiePending || is_missing(action, root.oid, part->relid))
				return false;
			if (find_built(part->relid, &found) &&
				!drop_built(found.oid, error))
				return false;
		}
	}
	return true;
}

/* The indexes that plans are to be looked for. */
static List *
action_indexes(Action *action)
{
	MemoryContext cxt = CurrentMemoryContext;
	Found		found;
	List	   *result;

	if (!find_index(action, &found))
		return NIL;
	StartTransactionCommand();
	MemoryContextSwitchTo(cxt);
	result = find_all_inheritors(found.oid, NoLock, NULL);
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return result;
}

/* What was built, the root first; only what is there, and to be dropped? */
static List *
all_built(bool left)
{
	MemoryContext cxt = CurrentMemoryContext;
	List	   *result = NIL;
	ListCell   *lc;

	StartTransactionCommand();
	MemoryContextSwitchTo(cxt);
	foreach(lc, sc_built_all())
	{
		if (!left || (get_rel_relkind(lfirst_oid(lc)) != '\0' &&
					  !get_rel_relispartition(lfirst_oid(lc))))
			result = lappend_oid(result, lfirst_oid(lc));
	}
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return result;
}

/*
 * Drop what was built, the root with what is attached to it first; tries again
 * when it is locked, so many times at most.  False, with the last error, when
 * it is still there.
 */
static bool
drop_index(int most, ErrorData **error)
{
	int			tries;

	for (tries = 0; tries < most; tries++)
	{
		bool		ok = true;

		if (tries > 0)
			pause_ms(Min(SC_APPLY_PAUSE_MS * tries, 10000));
		/* What was found may have been rebuilt before it was locked. */
		do
		{
			ListCell   *lc;

			foreach(lc, all_built(false))
				ok = ok && drop_built(lfirst_oid(lc), error);
		} while (ok && all_built(true) != NIL);
		if (ok)
			return true;
	}
	return false;
}

/*
 * Keeping it
 */

/* The name that was asked for, or if that has been taken, one like it. */
static void
rename_index(Oid indexoid, const char *name)
{
	RenameRelationInternal(indexoid,
						   sc_apply_free_name(get_rel_namespace(indexoid), name),
						   false, true);
}

typedef struct Keeping
{
	Action	   *action;
	const char *verdict;
} Keeping;

/*
 * Give the index its name, and those of partitions names after it, and end
 * the action, all in one transaction.
 */
static void
keep(void *arg)
{
	Action	   *action = ((Keeping *) arg)->action;
	Found		found;
	char	   *name;
	List	   *all;
	ListCell   *lc;

	if (!find_index(action, &found))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the index was dropped")));
	StartTransactionCommand();
	lock_relation(found.oid, ShareUpdateExclusiveLock);
	/* Partitions that were detached since have their indexes, too. */
	all = list_concat_unique_oid(find_all_inheritors(found.oid, NoLock, NULL),
								 sc_built_all());
	foreach(lc, all)
		lock_relation(lfirst_oid(lc), ShareUpdateExclusiveLock);
	PushActiveSnapshot(GetTransactionSnapshot());
	name = get_rel_name(found.oid);
	/* Or rebuilt, which will be seen when this is tried again. */
	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("the index was dropped")));
	/* If somebody has renamed it, that is its name. */
	if (strcmp(name, action->build_name) == 0)
		rename_index(found.oid, action->name);
	CommandCounterIncrement();
	foreach(lc, all)
	{
		Oid			relid = IndexGetRelation(lfirst_oid(lc), true);
		char	   *now = get_rel_name(lfirst_oid(lc));

		if (now != NULL && strcmp(now, part_index_name(action->build_name,
													   relid)) == 0)
		{
			rename_index(lfirst_oid(lc), part_index_name(action->name, relid));
			CommandCounterIncrement();
		}
		if (now != NULL)
			sc_built_unmark(lfirst_oid(lc));
	}
	if (SPI_connect() != SPI_OK_CONNECT ||
		SPI_execute(psprintf("UPDATE scalecache.index_action SET state = 'kept', "
							 "finished_at = pg_catalog.clock_timestamp(), verdict = %s, index_name = %s "
							 "WHERE id = " INT64_FORMAT " AND tableoid = %u",
							 quote_literal_cstr(((Keeping *) arg)->verdict),
							 quote_literal_cstr(get_rel_name(found.oid)),
							 action->id, action->tableoid),
					false, 0) != SPI_OK_UPDATE || SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the action was dropped")));
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/*
 * The worker: one action
 */

/* Those whose index cannot be dropped now, by their numbers as text. */
static List *put_off = NIL;

/*
 * Drop what was built, and finish the action.  What cannot be dropped now must
 * not hold up others: it is put off, and is for the next builder, whom the
 * database's worker starts.  That one tries once, and others first.
 */
static void
give_up(Action *action, const char *state, const char *verdict)
{
	bool		again = action->outcome != NULL;
	ErrorData  *error = NULL;
	MemoryContext oldcxt;

	if (!again)
		set_state(action, "cleaning",
				  psprintf(", outcome = %s, verdict = %s",
						   quote_literal_cstr(state),
						   quote_literal_cstr(verdict)));
	if (drop_index(again ? 1 :
				   sc_worker ? SC_DROP_FEW_TRIES : SC_DROP_TRIES, &error))
	{
		finish_action(action, state, verdict);
		return;
	}
	if (!again)
		ereport(LOG,
				(errmsg("could not drop the index of action " INT64_FORMAT ": %s",
						action->id, error->message),
				 errdetail("It will be tried again.")));
	oldcxt = MemoryContextSwitchTo(TopMemoryContext);
	put_off = lappend(put_off, psprintf(INT64_FORMAT, action->id));
	MemoryContextSwitchTo(oldcxt);
}

/* Build; false, with the action finished, when that is not possible. */
static bool
build(Action *action)
{
	int			tries;
	ErrorData  *error = NULL;
	ErrorData  *other;

	for (tries = 0; tries < SC_APPLY_TRIES; tries++)
	{
		set_state(action, "building", ", attempts = attempts + 1");
		if (action->partitioned ? build_partitioned(action, &error) :
			build_root(action, &error))
			return true;
		if (ProcDiePending)
			CHECK_FOR_INTERRUPTS();
		if (!passing_error(error) || tries == SC_APPLY_TRIES - 1)
			break;
		/* Of a partitioned one what is there stays for the next try. */
		if (!action->partitioned &&
			!drop_index(SC_DROP_FEW_TRIES, &other))
			break;
		pause_ms(SC_APPLY_PAUSE_MS << tries);
	}
	give_up(action, "failed", error->message);
	return false;
}

static void
judge(Action *action, List *statements)
{
	ScVerdict	v;
	Keeping		keeping;
	ErrorData  *error;
	int			tries;

	sc_replay_compare(statements, action->analyze, &v);
	set_state(action, "verified",
			  psprintf(", statements = %d, before_ms = %g, after_ms = %g, worst_ratio = %g",
					   v.n, v.before, v.after, v.worst));
	if (v.n == 0)
		give_up(action, "dropped", "no recorded statement can be timed any more");
	else if (v.users == 0)
		give_up(action, "dropped", "no recorded statement is planned with it");
	else if (v.worst > sc_advisor_max_slowdown)
		give_up(action, "dropped",
				psprintf("a statement takes %.1f times as long", v.worst));
	else if (v.after >= v.before * SC_MIN_SPEEDUP)
		give_up(action, "dropped",
				"the recorded statements did not become faster");
	else
	{
		keeping.action = action;
		keeping.verdict = psprintf("%d recorded statements take %.0f%% of the time they took",
								   v.n, 100 * v.after / v.before);
		for (tries = 1; !attempt(keep, &keeping, &error); tries++)
		{
			if (tries < SC_APPLY_TRIES && error->sqlerrcode != ERRCODE_UNDEFINED_OBJECT)
			{
				pause_ms(SC_APPLY_PAUSE_MS << tries);
				continue;
			}
			give_up(action, "failed", error->message);
			break;
		}
	}
}

/* The name of another index that is the same as the action's, or NULL. */
static char *
twin(Action *action)
{
	MemoryContext cxt = CurrentMemoryContext;
	Found		found;
	char	   *result = NULL;

	if (!find_index(action, &found))
		return NULL;
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT ||
		SPI_execute(psprintf("WITH defined AS (SELECT c.oid, c.relname, x.indisvalid, pg_catalog.substr(pg_catalog.pg_get_indexdef(c.oid), "
							 "pg_catalog.length(CASE WHEN x.indisunique THEN 'CREATE UNIQUE INDEX ' ELSE 'CREATE INDEX ' END "
							 "|| pg_catalog.quote_ident(c.relname)) + 1) AS def "
							 "FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid WHERE x.indrelid = %u) "
							 "SELECT o.relname FROM defined o JOIN defined m ON m.def = o.def AND m.oid = %u "
							 "WHERE o.oid <> m.oid AND o.indisvalid ORDER BY 1",
							 action->relid, found.oid),
					true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for indexes that are alike");
	if (SPI_processed > 0)
	{
		MemoryContext oldcxt = MemoryContextSwitchTo(cxt);

		result = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
		MemoryContextSwitchTo(oldcxt);
	}
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return result;
}

/* What has the name that the index is built under, or NULL. */
static char *
name_taken(Action *action)
{
	MemoryContext cxt = CurrentMemoryContext;
	Oid			taken;
	char	   *result = NULL;

	StartTransactionCommand();
	MemoryContextSwitchTo(cxt);
	taken = get_relname_relid(action->build_name,
							  get_rel_namespace(action->relid));
	if (OidIsValid(taken))
		result = qualified_name(taken);
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return result;
}

static void
perform(Action *action)
{
	MemoryContext cxt = CurrentMemoryContext;
	List	   *statements;
	ErrorData  *error;
	char	   *taken;
	char	   *same;

	set_state(action, "measuring",
			  ", started_at = pg_catalog.clock_timestamp()");
	MemoryContextSwitchTo(cxt);
	taken = name_taken(action);
	if (taken != NULL)
	{
		finish_action(action, "refused",
					  psprintf("%s has the name that it would be built under",
							   taken));
		return;
	}
	statements = sc_replay_load(action->relid);
	sc_replay_time(statements, false, NIL, drop_replayed_locks);
	if (!sc_replay_any(statements))
	{
		finish_action(action, "refused",
					  "no recorded statement of the table can be timed");
		return;
	}
	if (!build(action))
		return;
	/* Of two alike the planner takes one, and chance says which is faster. */
	same = twin(action);
	if (same != NULL)
	{
		give_up(action, "dropped", psprintf("it is the same as %s", same));
		return;
	}
	/* Statistics of expressions are part of what an index gives. */
	if (action->analyze)
	{
		bool		has_role;
		char	   *table = action_table(action, &has_role);

		if (table != NULL && has_role)
			(void) try_utility(action->role, psprintf("ANALYZE %s", table),
							   &error);
	}
	set_state(action, "verifying", NULL);
	sc_replay_time(statements, true, action_indexes(action),
				   drop_replayed_locks);
	judge(action, statements);
}

static List *
oid_list(Datum array)
{
	List	   *result = NIL;
	Datum	   *values;
	int			n;
	int			i;

	deconstruct_array(DatumGetArrayTypeP(array), OIDOID, sizeof(Oid), true,
					  TYPALIGN_INT, &values, NULL, &n);
	for (i = 0; i < n; i++)
		result = lappend_oid(result, DatumGetObjectId(values[i]));
	return result;
}

/*
 * The oldest action that is not finished, or NULL.  What could not be dropped
 * before comes last.
 */
static Action *
next_action(void)
{
	MemoryContext cxt = CurrentMemoryContext;
	Action	   *action = NULL;
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	appendStringInfoString(&sql,
						   "SELECT a.id, a.ddl, a.relid, a.definition, a.index_name, a.expressions, a.state, a.requested_by, c.relkind = 'p', "
						   "a.outcome, a.verdict, a.tableoid, a.built "
						   "FROM scalecache.index_action a "
						   "LEFT JOIN pg_catalog.pg_class c ON c.oid = a.relid "
						   "WHERE a.finished_at IS NULL");
	foreach(lc, put_off)
		appendStringInfo(&sql, "%s%s",
						 lc == list_head(put_off) ? " AND a.id NOT IN (" : ", ",
						 (char *) lfirst(lc));
	appendStringInfo(&sql, "%s ORDER BY a.outcome IS NOT NULL, a.id",
					 put_off != NIL ? ")" : "");

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT ||
		SPI_execute(sql.data, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the actions");
	if (SPI_processed > 0)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		MemoryContext oldcxt = MemoryContextSwitchTo(cxt);
		bool		isnull;

		action = (Action *) palloc0(sizeof(Action));
		action->id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		action->ddl = pstrdup(SPI_getvalue(tuple, desc, 2));
		action->relid = DatumGetObjectId(SPI_getbinval(tuple, desc, 3, &isnull));
		action->definition = SPI_getvalue(tuple, desc, 4);
		action->name = SPI_getvalue(tuple, desc, 5);
		action->analyze = DatumGetBool(SPI_getbinval(tuple, desc, 6, &isnull));
		action->queued = strcmp(SPI_getvalue(tuple, desc, 7), "queued") == 0;
		action->role = DatumGetObjectId(SPI_getbinval(tuple, desc, 8, &isnull));
		action->partitioned =
			DatumGetBool(SPI_getbinval(tuple, desc, 9, &isnull)) && !isnull;
		action->exists = !isnull;
		action->outcome = SPI_getvalue(tuple, desc, 10);
		action->verdict = SPI_getvalue(tuple, desc, 11);
		action->tableoid = DatumGetObjectId(SPI_getbinval(tuple, desc, 12, &isnull));
		action->build_name = psprintf("scalecache_" INT64_FORMAT, action->id);
		action->built = oid_list(SPI_getbinval(tuple, desc, 13, &isnull));
		MemoryContextSwitchTo(oldcxt);
	}
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return action;
}

/*
 * Wait for the transaction that asked for the action to end.  If it takes
 * long, as one that was prepared may, the database's worker starts another
 * builder for what it has asked for.
 */
static void
wait_for_caller(TransactionId xid)
{
	TimestampTz start = GetCurrentTimestamp();

	while (TransactionIdIsValid(xid) && TransactionIdIsInProgress(xid))
	{
		if (sc_worker &&
			TimestampDifferenceExceeds(start, GetCurrentTimestamp(),
									   SC_APPLY_WAIT_MS))
			proc_exit(0);
		pause_ms(50);
	}
}

/*
 * The worker: advice of its own
 */

static void
take_advice(void)
{
	ErrorData  *error;

	pgstat_report_activity(STATE_RUNNING, "suggesting indexes");
	sc_unwanted = NIL;
	if (!attempt(sc_apply_advice, NULL, &error))
		ereport(LOG,
				(errmsg("could not look for an index to build: %s",
						error->message)));
	sc_unwanted = NIL;
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * The worker itself
 */

void
sc_apply_main(Datum main_arg)
{
	ScApplyOrders		orders;
	MemoryContext cxt;
	int			tries;

	memcpy(&orders, MyBgworkerEntry->bgw_extra, sizeof(orders));
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, StatementCancelHandler);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(main_arg),
											  InvalidOid, 0);
	sc_worker_stay_itself();
	sc_workload_paused = true;
	sc_apply_in_builder = true;
	sc_built_init();
	cxt = AllocSetContextCreate(TopMemoryContext, SC_BUILDER,
								ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(cxt);
	set_lock_timeout(sc_advisor_lock_timeout);
	SetConfigOption("search_path", "", PGC_SUSET, PGC_S_OVERRIDE);
	/* Whatever is usual in this database */
	SetConfigOption("default_transaction_read_only", "off", PGC_SUSET,
					PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_isolation", "read committed",
					PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("standard_conforming_strings", "on", PGC_SUSET,
					PGC_S_OVERRIDE);
	wait_for_caller(orders.xid);
	if (!sc_extension_exists())
		proc_exit(0);

	/* Another one may be about to end, or will see what is to be done. */
	for (tries = 0; !take_lock(); tries++)
	{
		if (tries >= 10)
			proc_exit(0);
		pause_ms(200);
	}
	if (orders.advise)
		take_advice();
	for (;;)
	{
		Action	   *action;

		MemoryContextReset(cxt);
		MemoryContextSwitchTo(cxt);
		CHECK_FOR_INTERRUPTS();
		action = sc_extension_exists() ? next_action() : NULL;
		if (action == NULL)
			break;
		pgstat_report_activity(STATE_RUNNING, action->ddl);
		sc_built_begin(action->id, action->tableoid, action->build_name,
					   action->built);
		if (action->outcome != NULL)
			give_up(action, action->outcome, action->verdict);
		else if (!action->exists)
			finish_action(action, "failed", "the table was dropped");
		else if (action->queued)
			perform(action);
		else
			give_up(action, "interrupted",
					"its worker ended; what it built was dropped");
		pgstat_report_activity(STATE_IDLE, NULL);
	}
	proc_exit(0);
}

/*
 * For the worker of the database: when to start a builder.
 */

static bool
orphaned_actions(TimestampTz now)
{
	static TimestampTz last_retry = 0;
	bool		isnull;

	if (SPI_execute("SELECT bool_or(outcome IS NULL) FROM scalecache.index_action WHERE finished_at IS NULL "
					"AND requested_at < pg_catalog.clock_timestamp() - interval '3 seconds' "
					"AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity "
					"WHERE datid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) "
					"AND backend_type = '" SC_BUILDER "')",
					true, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not read the actions");
	if (DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0],
								   SPI_tuptable->tupdesc, 1, &isnull)))
		return true;
	/* All that is left to do has failed before. */
	if (isnull || !TimestampDifferenceExceeds(last_retry, now, SC_RETRY_MS))
		return false;
	last_retry = now;
	return true;
}

/* Called now and then by the database's worker, outside a transaction. */
void
sc_apply_work(void)
{
	static TimestampTz last_look = 0;
	static TimestampTz last_advice = 0;
	TimestampTz now = GetCurrentTimestamp();
	bool		start;
	bool		advise = false;
	int			nestlevel;

	if (!TimestampDifferenceExceeds(last_look, now, 5000) ||
		!sc_workload_available())
		return;
	last_look = now;
	/* What this worker does is nobody's workload. */
	sc_workload_paused = true;
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	/* A database's owner sets its search_path, and this is a superuser. */
	nestlevel = sc_fixed_path_begin();
	sc_own_tables_hold();
	/* No rollup has an answer. */
	(void) set_config_option("scalecache.enable_rewrite", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	start = orphaned_actions(now);
	SPI_finish();
	AtEOXact_GUC(false, nestlevel);
	PopActiveSnapshot();
	CommitTransactionCommand();
	/* Advice takes seconds, for which rollups are not to wait. */
	if (sc_auto_index &&
		TimestampDifferenceExceeds(last_advice, now,
								   sc_auto_index_interval * 1000))
	{
		last_advice = now;
		advise = true;
	}
	if (start || advise)
		(void) sc_apply_start_builder(InvalidTransactionId, advise);
}
