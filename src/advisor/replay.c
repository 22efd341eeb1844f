/*-------------------------------------------------------------------------
 *
 * replay.c
 *	  How long the recorded statements of a table take, before and after an
 *	  index was built.
 *
 * What must always hold:
 *
 * - Replayed statements change nothing: they run read-only, in a
 *	 subtransaction that is rolled back, as the user who ran them, within a
 *	 timeout, as are the functions that are called while they are parsed and
 *	 planned, and only if they call no volatile function.
 *
 * - They are parsed anew each time: between two timings a table may have been
 *	 changed or dropped.
 *
 * - Each runs in a transaction of its own, so no lock is held for long.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type_d.h"
#include "executor/executor.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/planner.h"
#include "parser/parsetree.h"
#include "storage/lock.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "advisor/choose.h"
#include "advisor/replay.h"
#include "base/guc.h"
#include "base/limit.h"

/* Executions of each statement that are timed; the best counts. */
#define SC_TIMINGS			3
/* And all statements in this many times the timeout of one. */
#define SC_TIMEOUTS			30
/* Differences below this are noise. */
#define SC_NOISE_MS			0.5

typedef struct Timed
{
	ScQuery    *query;
	double		weight;			/* executions */
	double		expected;		/* ms, all of these */
	double		before;			/* ms, negative: could not be timed */
	double		after;
	bool		uses;			/* is its plan with the new index? */
} Timed;

/* Take out row locks, and the rights to make them, down to all subqueries. */
static bool
remove_locks(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;
		ListCell   *lc;

		if (query->commandType == CMD_SELECT)
		{
			query->rowMarks = NIL;
			query->hasForUpdate = false;
			foreach(lc, query->rtable)
				lfirst_node(RangeTblEntry, lc)->requiredPerms &= ACL_SELECT;
		}
		return query_tree_walker(query, remove_locks, context, 0);
	}
	return expression_tree_walker(node, remove_locks, context);
}

/*
 * What is executed of a statement, as a copy: all of a SELECT but its locks,
 * and of an UPDATE or DELETE the search for the rows, which is what an index
 * helps with.  Whether they may be changed does not matter then.
 */
static Query *
search_of(const Query *statement)
{
	Query	   *tree = (Query *) copyObject(statement);

	if (tree->commandType == CMD_UPDATE || tree->commandType == CMD_DELETE)
	{
		char		relkind = rt_fetch(tree->resultRelation, tree->rtable)->relkind;
		Var		   *tid = makeVar(tree->resultRelation,
								  SelfItemPointerAttributeNumber, TIDOID, -1,
								  InvalidOid, 0);

		/* Of a view with triggers there are no rows. */
		if (relkind != RELKIND_RELATION && relkind != RELKIND_PARTITIONED_TABLE)
			return tree;
		tree->commandType = CMD_SELECT;
		tree->resultRelation = 0;
		tree->targetList = list_make1(makeTargetEntry((Expr *) tid, 1,
													  pstrdup("ctid"), false));
		tree->returningList = NIL;
		tree->withCheckOptions = NIL;
	}
	else if (tree->commandType != CMD_SELECT)
		return tree;
	(void) remove_locks((Node *) tree, NULL);
	return tree;
}

static bool
has_locks(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return ((Query *) node)->rowMarks != NIL ||
			query_tree_walker((Query *) node, has_locks, context, 0);
	return expression_tree_walker(node, has_locks, context);
}

/* What changes or locks rows has no parallel plan, and so is not timed with one. */
static int
cursor_options(const Query *statement)
{
	return statement->commandType == CMD_SELECT &&
		!has_locks((Node *) statement, NULL) ? CURSOR_OPT_PARALLEL_OK : 0;
}

/* May this be executed to see how long it takes? */
static bool
replayable(ScQuery *query)
{
	Query	   *tree;

	if (list_length(query->queries) != 1)
		return false;
	tree = search_of(linitial_node(Query, query->queries));
	return tree->commandType == CMD_SELECT && !tree->hasModifyingCTE &&
		!contain_volatile_functions((Node *) tree);
}

/* Of a statement that sc_query_reload() has just parsed. */
static double
execute_once(ScQuery *query, List *indexes, bool *uses)
{
	Query	   *statement;
	Query	   *tree;
	PlannedStmt *plan;
	QueryDesc  *qd;
	ListCell   *lc;
	instr_time	start;
	instr_time	end;

	statement = linitial_node(Query, query->queries);
	tree = search_of(statement);
	/* It is nobody's query, for those who count. */
	tree->queryId = 0;
	PushActiveSnapshot(GetTransactionSnapshot());
	sc_limit_begin(sc_advisor_verify_timeout);
	plan = planner(tree, query->text, cursor_options(statement), query->params);
	foreach(lc, sc_plan_indexes(plan))
		*uses = *uses || list_member_oid(indexes, lfirst_oid(lc));
	qd = CreateQueryDesc(plan, query->text, GetActiveSnapshot(),
						 InvalidSnapshot, None_Receiver, query->params, NULL,
						 0);
	sc_limit_begin(sc_advisor_verify_timeout);
	INSTR_TIME_SET_CURRENT(start);
	ExecutorStart(qd, 0);
	ExecutorRun(qd, ForwardScanDirection, 0, true);
	ExecutorFinish(qd);
	INSTR_TIME_SET_CURRENT(end);
	(void) sc_limit_end();
	ExecutorEnd(qd);
	FreeQueryDesc(qd);
	PopActiveSnapshot();
	INSTR_TIME_SUBTRACT(end, start);
	return INSTR_TIME_GET_MILLISEC(end);
}

/* A statement that waits for a lock is not slow: it cannot be timed. */
static void
set_short_lock_timeout(void)
{
	(void) set_config_option("lock_timeout",
							 psprintf("%d", Max(1, Min(sc_advisor_verify_timeout / 2, sc_advisor_lock_timeout))),
							 PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0,
							 false);
}

/*
 * The best of some executions in ms; the timeout if it was reached, negative
 * after another error.  Everything is undone, locks are released, and the
 * user and his search path are as before.
 */
static double
time_query(const ScQuery *known, List *indexes, bool *uses)
{
	MemoryContext oldcxt = CurrentMemoryContext;
	ResourceOwner oldowner = CurrentResourceOwner;
	volatile double best = -1;
	volatile int i;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		ScQuery    *query;

		XactReadOnly = true;
		set_short_lock_timeout();
		sc_limit_begin(sc_advisor_verify_timeout);
		query = sc_query_reload(known);
		(void) sc_limit_end();
		for (i = 0; i < SC_TIMINGS && replayable(query); i++)
		{
			double		ms = execute_once(query, indexes, uses);

			if (best < 0 || ms < best)
				best = ms;
			/*
			 * Slow ones need not be repeated more than once; but once, lest
			 * the machine stood still for a moment.
			 */
			if (i > 0 && ms > sc_advisor_verify_timeout / 5.0)
				break;
		}
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		int			sqlerrcode;

		MemoryContextSwitchTo(oldcxt);
		(void) sc_limit_end();
		sqlerrcode = geterrcode();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (sqlerrcode == ERRCODE_QUERY_CANCELED && !ProcDiePending)
			best = best < 0 ? sc_advisor_verify_timeout : best;
		else
			best = -1;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(oldcxt);
	CurrentResourceOwner = oldowner;
	CHECK_FOR_INTERRUPTS();
	return best;
}

/* The most expensive first. */
static int
compare_timed(const ListCell *a, const ListCell *b)
{
	const Timed *x = (const Timed *) lfirst(a);
	const Timed *y = (const Timed *) lfirst(b);

	return x->expected > y->expected ? -1 : (x->expected < y->expected ? 1 : 0);
}

/* The statements of a table that can be timed, the most expensive first. */
static List *
timed_statements(ScAdvice *advice, Oid relid)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, advice->items)
	{
		ScItem	   *item = (ScItem *) lfirst(lc);
		ListCell   *l;

		if (!list_member_oid(item->relids, relid))
			continue;
		foreach(l, item->variants)
		{
			ScVariant  *variant = (ScVariant *) lfirst(l);
			Timed	   *timed;

			if (!replayable(variant->query))
				continue;
			timed = (Timed *) palloc0(sizeof(Timed));
			timed->query = variant->query;
			timed->weight = item->weight * variant->weight;
			timed->expected = timed->weight * item->mean_ms;
			timed->before = -1;
			timed->after = -1;
			result = lappend(result, timed);
		}
	}
	list_sort(result, compare_timed);
	return result;
}

/*
 * The recorded statements of a table that can be replayed, a List for the
 * functions that follow.  In a transaction of its own; the result is in the
 * current memory context.
 */
List *
sc_replay_load(Oid relid)
{
	MemoryContext cxt = CurrentMemoryContext;
	ScAdvice   *advice;
	List	   *result;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(cxt);
	/* Planning calls functions. */
	XactReadOnly = true;
	advice = (ScAdvice *) palloc0(sizeof(ScAdvice));
	advice->study = sc_study_begin();
	advice->unlocked = true;
	sc_advice_load_recorded(advice, false);
	result = timed_statements(advice, relid);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return result;
}

/*
 * Time statements; the second time those that could be timed the first time,
 * and see which are planned with one of the indexes.  There may be thousands,
 * so the first time ends after a while.  What their functions leave in the
 * session, locks say, is for the caller to remove after each.
 */
void
sc_replay_time(List *statements, bool again, List *indexes,
			   void (*clean_up) (void))
{
	MemoryContext cxt = CurrentMemoryContext;
	TimestampTz start = GetCurrentTimestamp();
	ListCell   *lc;

	foreach(lc, statements)
	{
		Timed	   *timed = (Timed *) lfirst(lc);
		double		ms;

		if (again && timed->before < 0)
			continue;
		if (!again &&
			TimestampDifferenceExceeds(start, GetCurrentTimestamp(),
									   SC_TIMEOUTS * sc_advisor_verify_timeout))
			break;
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		ms = time_query(timed->query, indexes, &timed->uses);
		PopActiveSnapshot();
		CommitTransactionCommand();
		clean_up();
		MemoryContextSwitchTo(cxt);
		if (again)
			timed->after = ms;
		else
			timed->before = ms;
	}
}

/*
 * A statement that is not planned with the index is planned as before, unless
 * there are new statistics too; then what differs is noise.
 */
void
sc_replay_compare(List *statements, bool new_statistics, ScVerdict *v)
{
	ListCell   *lc;

	memset(v, 0, sizeof(*v));
	foreach(lc, statements)
	{
		Timed	   *timed = (Timed *) lfirst(lc);

		if (timed->before < 0 || timed->after < 0)
			continue;
		if (!timed->uses && !new_statistics)
			timed->after = timed->before;
		v->n++;
		v->users += timed->uses ? 1 : 0;
		v->before += timed->weight * timed->before;
		v->after += timed->weight * timed->after;
		if (timed->after - timed->before > SC_NOISE_MS)
			v->worst = Max(v->worst,
						   timed->after / Max(0.001, timed->before));
		else
			v->worst = Max(v->worst, 1);
	}
}

/* Has any of the statements been timed? */
bool
sc_replay_any(List *statements)
{
	ListCell   *lc;

	foreach(lc, statements)
	{
		if (((Timed *) lfirst(lc))->before >= 0)
			return true;
	}
	return false;
}
