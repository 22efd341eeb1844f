/*
 * rewrite_whole.c: a query that asks for the groups of a rollup, all of them.
 *
 * That is the commonest query by far, and the cheapest to answer, so that
 * most of its time went into planning what is then not run: the plain query,
 * with its table's size, indexes and partitions.  So it is recognized before
 * planning, where it is sure that nothing is cheaper, and made a scan of the
 * rollup's base table, as the view is (see scan.c).  The source's entry stays
 * in the range table, for permissions and locks.
 *
 * The plain query goes with the scan, not planned: its keys and aggregates,
 * as a row of the base table has them.  It is planned and run when the storage
 * cannot answer, or the session's time zone has changed since.
 *
 * Whatever is not as simple as that is left to rewrite.c.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/explain.h"
#include "executor/tstoreReceiver.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "pgtime.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/guc.h"
#include "rollup/rewrite.h"

/*
 * A table is surely slower to read than a rollup if it has so many times the
 * pages, and so many rows for each of the rollup's pages.
 */
#define SURE_PAGES		10
#define SURE_ROWS		1000

/* Of a table with an index a few rows can be all that is read of it. */
#define FEW_PAGES		10

typedef struct WholeContext
{
	ScMatch    *m;
	Expr	  **keys;			/* in the query, by the rollup's number */
	List	   *keynos;			/* of the target list's entries, likewise */
	List	   *calls;			/* the query's Aggrefs */
	List	   *numbers;		/* of these in the rollup */
	bool		failed;
} WholeContext;

/*
 * What was found out about a query, for the next one that is equal: to match
 * it takes as long as to plan what it becomes.  Forgotten whenever something
 * changes for which PostgreSQL plans anew: see InitPlanCache.
 */
typedef struct WholeMemo
{
	MemoryContext cxt;			/* holds all of this; NULL: nothing is known */
	Oid			view;			/* invalid: no rollup, or several */
	Oid			user;			/* functions in SQL are read as this one */
	OverrideSearchPath *path;	/* and with this search_path */
	RangeTblEntry *rte;
	List	   *targets;		/* what the query was */
	List	   *groups;
	List	   *tlist;			/* what it becomes */
	List	   *keynos;			/* see SC_WHOLE_QUERY */
	List	   *numbers;
	List	   *functions;
	List	   *zone;
} WholeMemo;

#define MEMOS	4

static WholeMemo memos[MEMOS];
static int	next_memo = 0;
static bool memos_valid = false;

/* ---- does it ask for all groups, and nothing else? ---- */

/* One table, grouped, and no more than sorted and cut off after that. */
static bool
is_simple(Query *parse)
{
	RangeTblEntry *rte;

	if (parse->commandType != CMD_SELECT || list_length(parse->rtable) != 1 ||
		!(parse->hasAggs || parse->groupClause != NIL))
		return false;
	rte = linitial_node(RangeTblEntry, parse->rtable);
	return rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_RELATION &&
		rte->tablesample == NULL && rte->securityQuals == NIL &&
		list_length(parse->jointree->fromlist) == 1 &&
		IsA(linitial(parse->jointree->fromlist), RangeTblRef) &&
		parse->jointree->quals == NULL && parse->havingQual == NULL &&
		parse->groupingSets == NIL && parse->distinctClause == NIL &&
		parse->windowClause == NIL && parse->setOperations == NULL &&
		parse->cteList == NIL && parse->rowMarks == NIL && parse->utilityStmt == NULL &&
		!parse->hasWindowFuncs && !parse->hasTargetSRFs && !parse->hasSubLinks &&
		!parse->hasForUpdate;
}

/* An expression of the query as the rollup's are: see sc_match_normalize. */
static Node *
as_form(ScMatch *m, void *expr)
{
	return eval_const_expressions(NULL, sc_match_normalize(m, expr));
}

/* Are the query's keys those of the rollup? */
static bool
match_keys(WholeContext *cxt, Query *parse)
{
	ScSpec	   *spec = cxt->m->spec;
	ListCell   *lc;

	if (list_length(parse->groupClause) != spec->nkeys)
		return false;
	foreach(lc, parse->groupClause)
	{
		SortGroupClause *sgc = lfirst_node(SortGroupClause, lc);
		Expr	   *expr = get_sortgroupclause_tle(sgc, parse->targetList)->expr;
		Node	   *form = as_form(cxt->m, expr);
		int			i = 0;

		while (i < spec->nkeys && !equal(form, spec->forms->keys[i]))
			i++;
		if (i == spec->nkeys || cxt->keys[i] != NULL ||
			get_opcode(sgc->eqop) != spec->keys[i].eq.fn_oid)
			return false;
		cxt->keys[i] = expr;
	}
	for (int i = 0; i < spec->nkeys; i++)
	{
		foreach(lc, parse->groupClause)
		{
			TargetEntry *tle = get_sortgroupclause_tle(lfirst(lc), parse->targetList);

			if (tle->expr == cxt->keys[i])
				cxt->keynos = lappend_int(cxt->keynos, tle->resno);
		}
	}
	return true;
}

static Node *
fail(WholeContext *cxt)
{
	cxt->failed = true;
	return NULL;
}

/* What the query returns, over the base table, varno 2. */
static Node *
to_base(Node *node, void *context)
{
	WholeContext *cxt = context;
	ScSpec	   *spec = cxt->m->spec;
	int			i = 0;

	if (node == NULL || cxt->failed)
		return NULL;
	for (i = 0; i < spec->nkeys; i++)
		if (equal(node, cxt->keys[i]))
			return (Node *) makeVar(cxt->m->basevarno, ScBaseKey(i), spec->keys[i].type,
									spec->keys[i].typmod, spec->keys[i].collation, 0);
	if (IsA(node, Aggref))
	{
		Node	   *form = as_form(cxt->m, node);
		ListCell   *lc;

		i = 0;
		foreach(lc, spec->forms->aggs)
		{
			if (((Aggref *) node)->agglevelsup == 0 && equal(form, lfirst(lc)))
			{
				cxt->calls = lappend(cxt->calls, node);
				cxt->numbers = lappend_int(cxt->numbers, i);
				return (Node *) makeVar(cxt->m->basevarno, ScBaseAgg(spec, i),
										spec->aggs[i].fin.resulttype, -1,
										spec->aggs[i].fin.resultcollation, 0);
			}
			i++;
		}
		return fail(cxt);
	}
	if (IsA(node, Var) || IsA(node, GroupingFunc) || IsA(node, SubLink) || IsA(node, Query))
		return fail(cxt);
	return expression_tree_mutator(node, to_base, cxt);
}

/*
 * The query's target list over the base table, or NIL: it asks for something
 * else than the rollup has.
 */
static List *
match_targets(WholeContext *cxt, Query *parse)
{
	List	   *tlist;

	if (!match_keys(cxt, parse) || contain_volatile_functions((Node *) parse->targetList))
		return NIL;
	tlist = (List *) to_base((Node *) parse->targetList, cxt);
	return cxt->failed ? NIL : tlist;
}

/* ---- is it surely cheaper? ---- */

/* With an index, may the table answer from some of its rows? */
static bool
may_stop_early(Query *parse)
{
	return parse->limitCount != NULL || parse->groupClause == NIL;
}

static bool
is_surely_cheaper(ScSpec *spec, bool early)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(spec->source));
	double		pages = 0;
	double		rows = 0;
	double		own;

	if (HeapTupleIsValid(tuple))
	{
		pages = ((Form_pg_class) GETSTRUCT(tuple))->relpages;
		rows = ((Form_pg_class) GETSTRUCT(tuple))->reltuples;
		ReleaseSysCache(tuple);
	}
	own = sc_rewrite_pages(spec);
	return pages > own * SURE_PAGES && rows > own * SURE_ROWS && !(early && own > FEW_PAGES);
}

/* ---- the query, replaced ---- */

/*
 * Are there aggregates that the planner leaves out, as in CASE WHEN false?
 * Their arguments must not be looked at: they may fail, like 1/0.
 */
static bool
has_dead_calls(Node *targets, Node *simplified)
{
	List	   *calls = NIL;
	List	   *left = NIL;

	(void) sc_collect_calls(targets, &calls);
	(void) sc_collect_calls(simplified, &left);
	return list_length(calls) != list_length(left);
}

/* Which of the rollup's aggregates they are, in the order of that. */
static List *
numbers_in_order(WholeContext *cxt, List *targets)
{
	List	   *calls = NIL;
	List	   *numbers = NIL;
	ListCell   *lc;

	(void) sc_collect_calls((Node *) targets, &calls);
	foreach(lc, calls)
	{
		ListCell   *l2;
		ListCell   *l3;

		forboth(l2, cxt->calls, l3, cxt->numbers)
			if (lfirst(l2) == lfirst(lc))
			{
				numbers = lappend_int(numbers, lfirst_int(l3));
				break;
			}
	}
	return numbers;
}

/* The plain query's keys and aggregates, in the places of the base table's. */
static Query *
plain_query(ScSpec *spec, List *private)
{
	List	   *asked = copyObject(list_nth(private, SC_WHOLE_QUERY));
	List	   *targets = lsecond(asked);
	List	   *numbers = list_nth(asked, 4);
	List	   *calls = NIL;
	Query	   *query = makeNode(Query);
	RangeTblRef *ref = makeNode(RangeTblRef);
	int			n = 0;
	ListCell   *lc;

	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	query->rtable = list_make1(linitial(asked));
	ref->rtindex = 1;
	query->jointree = makeFromExpr(list_make1(ref), NULL);
	foreach(lc, (List *) lfourth(asked))
	{
		TargetEntry *old = list_nth(targets, lfirst_int(lc) - 1);
		TargetEntry *tle = makeTargetEntry(old->expr, ++n, pstrdup("key"), false);

		tle->ressortgroupref = old->ressortgroupref;
		query->targetList = lappend(query->targetList, tle);
	}
	query->groupClause = lthird(asked);
	(void) sc_collect_calls((Node *) targets, &calls);
	for (int i = 0; i < spec->naggs; i++)
	{
		ScFinalDef *fin = &spec->aggs[i].fin;
		Expr	   *expr = NULL;
		ListCell   *l2;

		forboth(lc, calls, l2, numbers)
			if (lfirst_int(l2) == i)
				expr = lfirst(lc);
		if (expr)
			query->hasAggs = true;
		else
			expr = (Expr *) makeNullConst(fin->resulttype, -1, fin->resultcollation);
		query->targetList = lappend(query->targetList,
									makeTargetEntry(copyObject(expr), ++n, pstrdup("value"), false));
	}
	return query;
}

/*
 * What the scan has to know: see ScWholePrivate.  The query's own nodes are
 * as long there as its plan, which nobody changes.
 */
static List *
scan_private(Query *parse, WholeMemo *memo)
{
	List	   *asked = list_make4(linitial(parse->rtable), parse->targetList,
								   parse->groupClause, list_copy(memo->keynos));

	return list_make3(lappend(asked, list_copy(memo->numbers)),
					  list_copy(memo->functions), copyObject(memo->zone));
}

static void
read_base(Query *parse, ScSpec *spec, List *private, List *tlist)
{
	RangeTblRef *ref = makeNode(RangeTblRef);
	RangeTblEntry *base = sc_base_entry(spec);

	/*
	 * An entry of a table has no functions: nobody else looks there, and what
	 * is there goes where the entry goes.
	 */
	base->functions = private;
	parse->rtable = lappend(parse->rtable, base);
	ref->rtindex = list_length(parse->rtable);
	parse->jointree = makeFromExpr(list_make1(ref), NULL);
	parse->targetList = tlist;
	parse->groupClause = NIL;
	parse->hasAggs = false;
}

/* A match with one rollup; NIL: it does not. */
static List *
try_rollup(ScSpec *spec, Query *parse, WholeContext *cxt)
{
	RangeTblEntry *rte = linitial(parse->rtable);
	ScMatch    *m = palloc0(sizeof(ScMatch));

	if (spec->state != SC_LIVE || !spec->rewrite || spec->joined || spec->quals != NIL ||
		list_length(spec->members) != 1 || (rte->inh && !spec->inherits))
		return NIL;
	m->spec = spec;
	m->srcvarno = 1;
	m->basevarno = 2;
	memset(cxt, 0, sizeof(WholeContext));
	cxt->m = m;
	if (list_length(parse->groupClause) != spec->nkeys ||
		!sc_match_reads_keys(m, parse->groupClause, parse->targetList))
		return NIL;
	cxt->keys = palloc0(sizeof(Expr *) * (spec->nkeys + 1));
	return match_targets(cxt, parse);
}

/* What the scan of this entry has to know, or NIL: see ScWholePrivate. */
List *
sc_whole_private(RangeTblEntry *rte)
{
	return rte->rtekind == RTE_RELATION ? rte->functions : NIL;
}

/* ---- what is known of queries ---- */

/* Something has changed that may matter. */
void
sc_whole_forget(void)
{
	memos_valid = false;
}

static void
forget_object(Datum arg, int cacheid, uint32 hashvalue)
{
	sc_whole_forget();
}

static void
memo_free(WholeMemo *memo)
{
	MemoryContext cxt = memo->cxt;

	memset(memo, 0, sizeof(WholeMemo));
	if (cxt)
		MemoryContextDelete(cxt);
}

static WholeMemo *
memo_find(Query *parse)
{
	static bool registered = false;

	if (!registered)
	{
		CacheRegisterSyscacheCallback(PROCOID, forget_object, (Datum) 0);
		CacheRegisterSyscacheCallback(TYPEOID, forget_object, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, forget_object, (Datum) 0);
		CacheRegisterSyscacheCallback(OPEROID, forget_object, (Datum) 0);
		CacheRegisterSyscacheCallback(AMOPOPID, forget_object, (Datum) 0);
		registered = true;
	}
	if (!memos_valid)
	{
		for (int i = 0; i < MEMOS; i++)
			memo_free(&memos[i]);
		memos_valid = true;
		return NULL;
	}
	for (int i = 0; i < MEMOS; i++)
		if (memos[i].cxt && memos[i].user == GetUserId() &&
			OverrideSearchPathMatchesCurrent(memos[i].path) &&
			equal(memos[i].targets, parse->targetList) &&
			equal(memos[i].groups, parse->groupClause) &&
			equal(memos[i].rte, linitial(parse->rtable)))
			return &memos[i];
	return NULL;
}

/* Keep what was found out, without what it took. */
static WholeMemo *
memo_keep(const WholeMemo *found)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "scalecache whole query",
											  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	WholeMemo	memo = {.cxt = cxt, .view = found->view, .user = found->user};

	memo.path = GetOverrideSearchPath(cxt);
	memo.rte = copyObject(found->rte);
	memo.targets = copyObject(found->targets);
	memo.groups = copyObject(found->groups);
	memo.tlist = copyObject(found->tlist);
	memo.keynos = list_copy(found->keynos);
	memo.numbers = list_copy(found->numbers);
	memo.functions = list_copy(found->functions);
	memo.zone = copyObject(found->zone);
	MemoryContextSwitchTo(old);
	MemoryContextSetParent(cxt, CacheMemoryContext);
	next_memo = (next_memo + 1) % MEMOS;
	memo_free(&memos[next_memo]);
	memos[next_memo] = memo;
	return &memos[next_memo];
}

/*
 * Find out which rollup, the only one, the query asks for.  The result is
 * valid until the next invalidation.
 */
static WholeMemo *
memo_make(Query *parse, List *views)
{
	WholeMemo	found = {
		.user = GetUserId(),
		.rte = linitial(parse->rtable),
		.targets = parse->targetList,
		.groups = parse->groupClause
	};
	Node	   *targets = (Node *) parse->targetList;
	Node	   *simplified = eval_const_expressions(NULL, targets);
	int			nmatches = 0;
	ListCell   *lc;

	/* The plain query calls what is left of functions in SQL, too. */
	(void) sc_collect_functions(targets, &found.functions);
	(void) sc_collect_functions(simplified, &found.functions);
	foreach(lc, has_dead_calls(targets, simplified) ||
			!sc_node_anybody_may_call(found.functions) ? NIL : views)
	{
		ScSpec	   *spec = sc_spec_by_view(lfirst_oid(lc));
		WholeContext match;
		List	   *tlist = spec ? try_rollup(spec, parse, &match) : NIL;

		/* Which one of several is cheaper the planner has to decide. */
		if (tlist && nmatches++ == 0)
		{
			found.view = spec->view;
			found.tlist = tlist;
			found.keynos = match.keynos;
			found.numbers = numbers_in_order(&match, parse->targetList);
			if (match.m->zoned)
				found.zone = list_make1(makeString(pstrdup(spec->zone)));
		}
		if (spec)
			sc_spec_release(spec);
	}
	if (nmatches > 1)
		found.view = InvalidOid;
	return memo_keep(&found);
}

/*
 * If the query is one that asks for all groups of a rollup, and of one only,
 * have it read them.
 */
void
sc_whole_replace(Query *parse)
{
	RangeTblEntry *rte;
	WholeMemo  *memo;
	ScSpec	   *spec;

	if (!is_simple(parse) || !sc_enable_rewrite || sc_rewrite_noting() || sc_rewrite_supposing())
		return;
	rte = linitial_node(RangeTblEntry, parse->rtable);
	for (int tries = 0; tries < 3; tries++)
	{
		List	   *views = sc_rollups_on(rte->relid);
		bool		done = true;

		if (views == NIL ||
			check_enable_rls(rte->relid, rte->checkAsUser, true) == RLS_ENABLED)
			return;
		memo = memo_find(parse);
		if (memo == NULL)
			memo = memo_make(parse, views);
		if (!OidIsValid(memo->view) || !sc_node_zone_holds(memo->zone) ||
			(spec = sc_spec_by_view(memo->view)) == NULL)
			return;
		if (is_surely_cheaper(spec, may_stop_early(parse)))
		{
			LockRelationOid(spec->base, AccessShareLock);
			/* Something may have changed by the time it is locked. */
			done = memos_valid;
			if (done && SearchSysCacheExists1(RELOID, ObjectIdGetDatum(spec->base)))
				read_base(parse, spec, scan_private(parse, memo), copyObject(memo->tlist));
		}
		sc_spec_release(spec);
		if (done)
			return;
	}
}

/* ---- the execution ---- */

/*
 * May the user call the functions that the plain query calls?  If not it is
 * started here, for its error; without one it has to answer.
 */
bool
sc_whole_allowed(ScSpec *spec, List *private, Snapshot snapshot)
{
	ListCell   *lc;

	foreach(lc, list_nth(private, SC_WHOLE_CALLED))
	{
		PlannedStmt *plan;
		QueryDesc  *qd;

		if (pg_proc_aclcheck(lfirst_oid(lc), GetUserId(), ACL_EXECUTE) == ACLCHECK_OK)
			continue;
		plan = sc_query_plan(plain_query(spec, private), snapshot);
		qd = CreateQueryDesc(plan, "scalecache rollup", snapshot, InvalidSnapshot,
							 None_Receiver, NULL, NULL, 0);
		ExecutorStart(qd, EXEC_FLAG_EXPLAIN_ONLY);
		ExecutorEnd(qd);
		FreeQueryDesc(qd);
		return false;
	}
	return true;
}

/* Does the rollup stand for the plain query in this session's time zone? */
bool
sc_whole_holds(List *private)
{
	return sc_node_zone_holds(list_nth(private, SC_WHOLE_ZONE));
}

/*
 * Run the plain query, into store, as rows of the base table.  What is returned
 * is for sc_whole_explain, and to be given to sc_whole_end; NULL where nobody
 * explains.
 */
QueryDesc *
sc_whole_run(ScSpec *spec, List *private, EState *estate, Tuplestorestate *store)
{
	DestReceiver *dest = CreateDestReceiver(DestTuplestore);
	PlannedStmt *plan = sc_query_plan(plain_query(spec, private), estate->es_snapshot);
	QueryDesc  *qd;

	SetTuplestoreDestReceiverParams(dest, store, CurrentMemoryContext, false, NULL, NULL);
	PushActiveSnapshot(estate->es_snapshot);
	qd = CreateQueryDesc(plan, "scalecache rollup", GetActiveSnapshot(), InvalidSnapshot,
						 dest, NULL, NULL, estate->es_instrument);
	ExecutorStart(qd, 0);
	ExecutorRun(qd, ForwardScanDirection, 0, true);
	ExecutorFinish(qd);
	PopActiveSnapshot();
	dest->rDestroy(dest);
	if (estate->es_instrument != 0)
		return qd;
	sc_whole_end(qd);
	return NULL;
}

void
sc_whole_end(QueryDesc *qd)
{
	ExecutorEnd(qd);
	FreeQueryDesc(qd);
}

/* Show the plan of what has been run, in the place of a child. */
void
sc_whole_explain(QueryDesc *qd, ExplainState *es)
{
	ExplainState outer = *es;

	es->settings = false;
	ExplainPrintPlan(es, qd);
	es->settings = outer.settings;
	es->pstmt = outer.pstmt;
	es->rtable = outer.rtable;
	es->rtable_names = outer.rtable_names;
	es->deparse_cxt = outer.deparse_cxt;
	es->printed_subplans = outer.printed_subplans;
	es->hide_workers = outer.hide_workers;
}
