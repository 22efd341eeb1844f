/*
 * rewrite_explain.c: why a query is answered from a rollup, or is not.
 *
 * The query is planned as EXPLAIN would; the planner's hook leaves a note
 * for each rollup it looks at, and the plan tells which one is used.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/plannodes.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/guc.h"
#include "base/owner.h"
#include "rollup/rewrite.h"

PG_FUNCTION_INFO_V1(scalecache_explain_rewrite);
PG_FUNCTION_INFO_V1(scalecache_set_rollup_rewrite);

static List *notes = NIL;		/* of list (view Oid), String */
static List *chosen = NIL;		/* the same, of those that were the cheapest */
static List *matched = NIL;		/* views that a path was made for */
static bool noting = false;
static bool checking = false;	/* only whether a rollup could answer */

/* Remember what the planner found out about a rollup. */
void
sc_rewrite_note(Oid view, const char *reason)
{
	if (noting)
		notes = lappend(notes, list_make2(list_make1_oid(view),
										  makeString(pstrdup(reason))));
}

/* Remember that a rollup was the cheapest, which holds if it is used. */
void
sc_rewrite_note_chosen(Oid view, const char *reason)
{
	if (noting)
		chosen = lappend(chosen, list_make2(list_make1_oid(view),
											makeString(pstrdup(reason))));
}

/* The last reason that was noted for a rollup, or the other one. */
static const char *
last_note(List *list, Oid view, const char *other)
{
	ListCell   *lc;

	foreach(lc, list)
		if (linitial_oid(linitial(lfirst(lc))) == view)
			other = strVal(lsecond(lfirst(lc)));
	return other;
}

static List *plan_query(const char *sql);

/* Remember that a rollup could answer, at whatever cost. */
void
sc_rewrite_note_match(Oid view)
{
	if (noting)
		matched = lappend_oid(matched, view);
}

/*
 * Why a rollup cannot answer its own view's query, or could not if it were
 * filled; NULL: it can.
 */
const char *
sc_rewrite_why_not(Oid view)
{
	const char *reason = NULL;

	notes = chosen = matched = NIL;
	noting = checking = true;
	PG_TRY();
	{
		(void) plan_query(psprintf("SELECT * FROM %s", sc_qualified_name(view)));
		reason = list_member_oid(matched, view) ? NULL : last_note(notes, view, NULL);
	}
	PG_FINALLY();
	{
		noting = checking = false;
		notes = chosen = matched = NIL;
	}
	PG_END_TRY();
	return reason;
}

bool
sc_rewrite_noting(void)
{
	return noting;
}

/* Is it only asked if rollups match, as yet without storage perhaps? */
bool
sc_rewrite_checking(void)
{
	return checking;
}

static void
used_in_plan(Plan *plan, List **views)
{
	CustomScan *scan = (CustomScan *) plan;
	ListCell   *lc;

	if (plan == NULL)
		return;
	check_stack_depth();
	if (IsA(plan, CustomScan) && scan->methods == &sc_scan_methods &&
		(scan->custom_scan_tlist != NIL || list_length(scan->custom_private) > 1))
		*views = list_append_unique_oid(*views,
										sc_rollup_of(linitial_oid(linitial(scan->custom_private))));
	foreach(lc, sc_node_children(plan))
		used_in_plan(lfirst(lc), views);
}

/* Views of the rollups that a statement's plan uses. */
List *
sc_rewrite_used(PlannedStmt *stmt)
{
	List	   *views = NIL;
	ListCell   *lc;

	used_in_plan(stmt->planTree, &views);
	foreach(lc, stmt->subplans)
		used_in_plan(lfirst(lc), &views);
	return views;
}

/* Parse and plan one statement; its rules may make several of it. */
static List *
plan_query(const char *sql)
{
	List	   *raw = raw_parser(sql, RAW_PARSE_DEFAULT);
	List	   *plans = NIL;
	Oid		   *types = NULL;
	int			ntypes = 0;
	ListCell   *lc;

	if (list_length(raw) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("query must be one statement"),
				 errdetail("There are %d.", list_length(raw)),
				 errhint("Explain one at a time.")));
	foreach(lc, pg_analyze_and_rewrite_varparams(linitial_node(RawStmt, raw), sql,
												 &types, &ntypes, NULL))
	{
		Query	   *query = lfirst_node(Query, lc);
		PlannedStmt *stmt;

		if (query->commandType == CMD_UTILITY)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("query is a utility statement"),
					 errdetail("It has no plan."),
					 errhint("Explain a SELECT, INSERT, UPDATE, DELETE or MERGE.")));
		stmt = pg_plan_query(query, sql, CURSOR_OPT_PARALLEL_OK, NULL);
		(void) ExecCheckRTPerms(stmt->rtable, true);
		plans = lappend(plans, stmt);
	}
	return plans;
}

Datum
scalecache_explain_rewrite(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *sql;
	List	   *plans = NIL;
	List	   *used = NIL;
	List	   *found;
	List	   *cheapest;
	ListCell   *lc;

	sc_refuse_nulls(fcinfo, "query");
	sql = text_to_cstring(PG_GETARG_TEXT_PP(0));
	InitMaterializedSRF(fcinfo, 0);
	notes = chosen = matched = NIL;
	noting = true;
	PG_TRY();
	{
		plans = plan_query(sql);
	}
	PG_FINALLY();
	{
		noting = false;
		found = notes;
		cheapest = chosen;
		notes = chosen = matched = NIL;
	}
	PG_END_TRY();
	foreach(lc, plans)
		used = list_union_oid(used, sc_rewrite_used(lfirst(lc)));

	foreach(lc, sc_catalog_views())
	{
		Oid			view = lfirst_oid(lc);
		const char *reason = sc_enable_rewrite ?
			"the query has no aggregation of its source" : "scalecache.enable_rewrite is off";
		Datum		values[3];
		bool		nulls[3] = {false};

		if (get_rel_relkind(view) != RELKIND_VIEW)
			continue;
		/* A query can have several aggregations, and use it for one of them. */
		reason = last_note(found, view, last_note(cheapest, view, reason));
		if (list_member_oid(used, view))
			reason = last_note(cheapest, view, reason);
		values[0] = ObjectIdGetDatum(view);
		values[1] = BoolGetDatum(list_member_oid(used, view));
		values[2] = CStringGetTextDatum(reason);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

Datum
scalecache_set_rollup_rewrite(PG_FUNCTION_ARGS)
{
	Oid			view;
	ScSpec	   *spec;
	int64		id;

	sc_refuse_nulls(fcinfo, "rollup, enabled");
	PreventCommandIfReadOnly("set_rollup_rewrite()");
	view = PG_GETARG_OID(0);
	sc_lock_rollup(view);
	spec = sc_spec_by_view(view);
	id = spec->id;
	sc_spec_release(spec);
	sc_catalog_set_rewrite(id, PG_GETARG_BOOL(1));
	PG_RETURN_VOID();
}
