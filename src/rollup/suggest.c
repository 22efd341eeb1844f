/*
 * suggest.c: rollups that a workload would gain from.
 *
 * Each aggregation of one table in the workload, or of an inner join of
 * several, asks for a rollup: its group keys, the columns it filters by, and
 * its aggregates; one of another join, for a rollup of one table.  Keys that cut a time
 * become days (or hours), of which all coarser units and aligned ranges
 * follow, and what several queries ask for is put into one rollup while that
 * has few groups.  What it would save is found out by planning every query
 * as if it were there: the same matching decides as for real ones.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "parser/parsetree.h"
#include "pgtime.h"
#include "rewrite/rewriteManip.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "base/attempt.h"
#include "base/guc.h"
#include "base/owner.h"
#include "base/queries.h"
#include "rollup/rewrite.h"

PG_FUNCTION_INFO_V1(scalecache_suggest_rollups);

/* One statement of the workload. */
typedef struct Statement
{
	char	   *sql;
	double		weight;
	int64		id;				/* or 0 */
	double		cost;			/* of one execution; negative: no plan */
} Statement;

/* A key of a candidate, over varno 1, or over the tables of its join. */
typedef struct WantedKey
{
	Node	   *expr;
	Node	   *time;			/* what is cut to unit, or NULL */
	ScUnit		unit;
} WantedKey;

typedef struct Candidate
{
	Oid			source;
	List	   *entries;		/* tables of a join, or NIL */
	List	   *joinquals;		/* what these are joined by */
	List	   *keys;			/* of WantedKey */
	List	   *aggs;			/* of Aggref */
	double		groups;
	char	   *query;
	ScSpec	   *spec;
	ScSpec	   *stored;			/* of a join: its own groups */
	double		sourcegroups;	/* of a join: the source's, joined in places */
} Candidate;

/* ---- what an aggregation asks for ---- */

static bool
is_time(Oid type)
{
	return type == TIMESTAMPTZOID || type == TIMESTAMPOID;
}

/* The time that a function cuts or reads a field of, and its unit. */
static Node *
cut_time(Node *expr, ScUnit *unit)
{
	FuncExpr   *f = (FuncExpr *) expr;
	Node	   *time;

	if (!IsA(f, FuncExpr) || f->args == NIL)
		return NULL;
	switch (f->funcid)
	{
		case F_DATE_TRUNC_TEXT_TIMESTAMPTZ:
		case F_DATE_TRUNC_TEXT_TIMESTAMP:
			*unit = sc_time_unit(linitial(f->args), false);
			time = lsecond(f->args);
			break;
		case F_EXTRACT_TEXT_TIMESTAMPTZ:
		case F_EXTRACT_TEXT_TIMESTAMP:
		case F_DATE_PART_TEXT_TIMESTAMPTZ:
		case F_DATE_PART_TEXT_TIMESTAMP:
			*unit = sc_time_unit(linitial(f->args), true);
			time = lsecond(f->args);
			break;
		case F_TO_CHAR_TIMESTAMPTZ_TEXT:
		case F_TO_CHAR_TIMESTAMP_TEXT:
			*unit = sc_format_unit(lsecond(f->args));
			time = linitial(f->args);
			break;
		case F_DATE_TIMESTAMPTZ:
		case F_DATE_TIMESTAMP:
			*unit = SC_UNIT_DAY;
			time = linitial(f->args);
			break;
		default:
			return NULL;
	}
	if (*unit == SC_UNIT_NONE || *unit < SC_UNIT_MINUTE)
		return NULL;
	*unit = Min(*unit, SC_UNIT_DAY);
	return time;
}

/* The date that a time is made of, or NULL. */
static Node *
date_of(Node *time)
{
	FuncExpr   *f = (FuncExpr *) time;

	return f && IsA(f, FuncExpr) &&
		(f->funcid == F_TIMESTAMPTZ_DATE || f->funcid == F_TIMESTAMP_DATE) ? linitial(f->args) : NULL;
}

static Node *
trunc_to(Node *time, ScUnit unit)
{
	const char *name = unit == SC_UNIT_DAY ? "day" : unit == SC_UNIT_HOUR ? "hour" : "minute";
	Oid			type = exprType(time);

	return (Node *) makeFuncExpr(type == TIMESTAMPTZOID ? F_DATE_TRUNC_TEXT_TIMESTAMPTZ :
								 F_DATE_TRUNC_TEXT_TIMESTAMP, type,
								 list_make2(makeConst(TEXTOID, -1, DEFAULT_COLLATION_OID, -1,
													  CStringGetTextDatum(name), false, false),
											copyObject(time)),
								 InvalidOid, DEFAULT_COLLATION_OID, COERCE_EXPLICIT_CALL);
}

static void
want_time(Candidate *cand, Node *time, ScUnit unit)
{
	WantedKey  *key;
	ListCell   *lc;

	foreach(lc, cand->keys)
	{
		key = lfirst(lc);
		if (key->time && equal(key->time, time))
		{
			if (unit < key->unit)
			{
				key->unit = unit;
				key->expr = trunc_to(time, unit);
			}
			return;
		}
	}
	key = palloc0(sizeof(WantedKey));
	key->time = time;
	key->unit = unit;
	key->expr = trunc_to(time, unit);
	cand->keys = lappend(cand->keys, key);
}

/* False when no rollup can have such a key. */
static bool
want_key(Candidate *cand, Node *expr)
{
	ScUnit		unit;
	Node	   *time = cut_time(expr, &unit);
	WantedKey  *key;
	ListCell   *lc;

	if (IsA(expr, FuncExpr) && ((FuncExpr *) expr)->funcid == F_EXTRACT_TEXT_DATE &&
		IsA(linitial(((FuncExpr *) expr)->args), Const))
		return want_key(cand, lsecond(((FuncExpr *) expr)->args));
	/* A date is one of its days, in all time zones. */
	if (date_of(time))
		expr = date_of(time);
	else if (time)
	{
		want_time(cand, time, unit);
		return true;
	}
	if (IsA(expr, Const))
		return true;
	if (contain_mutable_functions(expr) || contain_subplans(expr) ||
		!OidIsValid(lookup_type_cache(exprType(expr), TYPECACHE_EQ_OPR)->eq_opr))
		return false;
	foreach(lc, cand->keys)
		if (equal(((WantedKey *) lfirst(lc))->expr, expr))
			return true;
	key = palloc0(sizeof(WantedKey));
	key->expr = expr;
	cand->keys = lappend(cand->keys, key);
	return true;
}

/* What a condition reads has to be a key. */
static bool
want_condition(Candidate *cand, Node *qual)
{
	ScUnit		unit;
	ListCell   *lc;

	if (IsA(qual, OpExpr) && list_length(((OpExpr *) qual)->args) == 2)
	{
		foreach(lc, ((OpExpr *) qual)->args)
		{
			Node	   *side = lfirst(lc);
			Node	   *other = foreach_current_index(lc) == 0 ?
			lsecond(((OpExpr *) qual)->args) : linitial(((OpExpr *) qual)->args);

			if (contain_var_clause(other))
				continue;
			if (is_time(exprType(side)) && IsA(side, Var))
			{
				want_time(cand, side, SC_UNIT_DAY);
				return true;
			}
			if (cut_time(side, &unit))
				return want_key(cand, side);
		}
	}
	if (checkExprHasSubLink(qual))
		return false;
	foreach(lc, pull_var_clause(qual, 0))
	{
		Node	   *var = lfirst(lc);

		if (is_time(exprType(var)) || !want_key(cand, var))
			return false;
	}
	return true;
}

static bool
want_aggregates(Candidate *cand, Node *expr)
{
	List	   *calls = NIL;
	ListCell   *lc;

	(void) sc_collect_calls(expr, &calls);
	foreach(lc, calls)
	{
		Aggref	   *agg = lfirst(lc);
		ScStateDef	def;

		sc_state_classify(agg, &def);
		if (def.kind == SC_STATE_RECOMPUTE || def.kind == SC_STATE_DISTINCT ||
			agg->agglevelsup > 0 || contain_mutable_functions((Node *) agg->args))
			return false;
		cand->aggs = list_append_unique(cand->aggs, agg);
	}
	return true;
}

/* The conditions are those of the query, in whose numbers cand is. */
static Candidate *
want_all(Candidate *cand, Query *query, List *conditions)
{
	ListCell   *lc;

	foreach(lc, query->groupClause)
		if (!want_key(cand, (Node *) get_sortgroupclause_tle(lfirst(lc), query->targetList)->expr))
			return NULL;
	foreach(lc, conditions)
		if (!want_condition(cand, lfirst(lc)))
			return NULL;
	if (!want_aggregates(cand, (Node *) query->targetList) ||
		!want_aggregates(cand, query->havingQual))
		return NULL;
	return cand;
}

static Candidate *wanted_by_table(Query *query);

/*
 * Of other joins, and of tables with something else, groups can be stored of
 * one of the tables: what is joined with these is as it is when it is read.
 */
static Candidate *
wanted_of_fact(Query *query)
{
	Query	   *fact;

	/* Columns that a subquery reads are not seen. */
	if (query->hasSubLinks)
		return NULL;
	fact = sc_join_query(query, InvalidOid, false);
	return fact && (fact->hasAggs || fact->groupClause) ? wanted_by_table(fact) : NULL;
}

/* The same for a join. */
static Candidate *
wanted_by_join(Query *query)
{
	Candidate  *cand = palloc0(sizeof(Candidate));
	Query	   *flat;
	List	   *conditions;
	ListCell   *lc;

	flat = sc_suggest_flatten(query, &cand->entries, &conditions);
	if (flat == NULL)
		return wanted_of_fact(query);
	foreach(lc, conditions)
	{
		Node	   *qual = lfirst(lc);

		if (!sc_suggest_joins(qual))
			continue;
		if (contain_mutable_functions(qual) || checkExprHasSubLink(qual))
			return NULL;
		cand->joinquals = lappend(cand->joinquals, qual);
	}
	return want_all(cand, flat, list_difference_ptr(conditions, cand->joinquals));
}

/* The same for one table. */
static Candidate *
wanted_by_table(Query *query)
{
	Candidate  *cand;
	RangeTblEntry *rte;
	Index		varno;

	if (!IsA(linitial(query->jointree->fromlist), RangeTblRef))
		return NULL;
	varno = linitial_node(RangeTblRef, query->jointree->fromlist)->rtindex;
	rte = rt_fetch(varno, query->rtable);
	if (rte->rtekind != RTE_RELATION || rte->tablesample || !rte->inh ||
		(rte->relkind != RELKIND_RELATION && rte->relkind != RELKIND_PARTITIONED_TABLE) ||
		rte->relid < FirstNormalObjectId)
		return NULL;
	query = copyObject(query);
	ChangeVarNodes((Node *) query->targetList, varno, 1, 0);
	ChangeVarNodes(query->jointree->quals, varno, 1, 0);
	ChangeVarNodes(query->havingQual, varno, 1, 0);

	cand = palloc0(sizeof(Candidate));
	cand->source = rte->relid;
	return want_all(cand, query, make_ands_implicit((Expr *) query->jointree->quals));
}

/*
 * What a query groups by as GROUP BY alone would say it: sets of keys are of
 * groups of all of them, and DISTINCT of what is no aggregation is one.
 */
static Query *
with_plain_groups(Query *query)
{
	Query	   *copy;

	if (query->groupingSets == NIL && query->distinctClause == NIL)
		return query;
	copy = copyObject(query);
	copy->groupingSets = NIL;
	if (!copy->hasAggs && copy->groupClause == NIL && copy->havingQual == NULL &&
		!copy->hasDistinctOn && !copy->hasWindowFuncs)
	{
		copy->groupClause = copy->distinctClause;
		copy->distinctClause = NIL;
	}
	return copy;
}

/* The rollup this query level asks for, or NULL. */
static Candidate *
wanted_by(Query *query)
{
	query = with_plain_groups(query);
	if (query->commandType != CMD_SELECT || (!query->hasAggs && query->groupClause == NIL) ||
		query->hasTargetSRFs || query->rowMarks ||
		query->jointree == NULL || query->jointree->fromlist == NIL)
		return NULL;
	return sc_query_joins(query) ? wanted_by_join(query) : wanted_by_table(query);
}

static bool
collect_wanted(Node *node, List **wanted)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Candidate  *cand = wanted_by((Query *) node);

		if (cand)
			*wanted = lappend(*wanted, cand);
		return query_tree_walker((Query *) node, collect_wanted, wanted, 0);
	}
	return expression_tree_walker(node, collect_wanted, wanted);
}

/* ---- from what is asked for to a query ---- */

static void
append_name(List **names, const char *name)
{
	char	   *unique = pstrdup(name);
	ListCell   *lc;
	int			n = 1;

again:
	foreach(lc, *names)
		if (strcmp(lfirst(lc), unique) == 0)
		{
			unique = psprintf("%s%d", name, ++n);
			goto again;
		}
	*names = lappend(*names, unique);
}

/* The table that a Var is of. */
static Oid
relid_of(Candidate *cand, Var *var)
{
	return cand->entries ? rt_fetch(var->varno, cand->entries)->relid : cand->source;
}

static const char *
column_name(Candidate *cand, Node *expr)
{
	Var		   *var = (Var *) expr;

	return IsA(var, Var) && var->varattno > 0 ?
		get_attname(relid_of(cand, var), var->varattno, false) : NULL;
}

/* What the candidate's query selects, and how it calls that. */
static List *
select_list(Candidate *cand, List **names)
{
	List	   *exprs = NIL;
	ListCell   *lc;
	bool		count = false;

	*names = NIL;
	foreach(lc, cand->keys)
	{
		WantedKey  *key = lfirst(lc);
		const char *name = column_name(cand, key->expr);

		exprs = lappend(exprs, key->expr);
		append_name(names, name ? name : key->time == NULL ? "key" :
					key->unit == SC_UNIT_DAY ? "day" : key->unit == SC_UNIT_HOUR ? "hour" : "minute");
	}
	foreach(lc, cand->aggs)
	{
		Aggref	   *agg = lfirst(lc);
		const char *arg = agg->args ?
		column_name(cand, (Node *) linitial_node(TargetEntry, agg->args)->expr) : NULL;
		char	   *name = get_func_name(agg->aggfnoid);

		count |= agg->aggstar && agg->aggfilter == NULL;
		exprs = lappend(exprs, agg);
		append_name(names, arg ? psprintf("%s_%s", name, arg) : name);
	}
	if (!count)
	{
		Aggref	   *agg = makeNode(Aggref);

		agg->aggfnoid = F_COUNT_;
		agg->aggtype = INT8OID;
		agg->aggstar = true;
		agg->aggkind = AGGKIND_NORMAL;
		agg->aggno = agg->aggtransno = agg->location = -1;
		exprs = lappend(exprs, agg);
		append_name(names, "count");
	}
	return exprs;
}

/* The candidate's query, as create_rollup takes it; NULL if it would not. */
static char *
query_text(Candidate *cand)
{
	StringInfoData sql;
	List	   *names;
	List	   *exprs = select_list(cand, &names);
	List	   *context;
	Query	   *query;

	if (cand->entries)
	{
		query = sc_suggest_query(cand->entries, cand->joinquals, exprs,
								 list_length(cand->keys), names);
		return query ? sc_suggest_text(query) : NULL;
	}
	context = deparse_context_for(get_rel_name(cand->source), cand->source);
	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (int i = 0; i < list_length(exprs); i++)
		appendStringInfo(&sql, "%s%s AS %s", i ? ", " : "",
						 deparse_expression(list_nth(exprs, i), context, false, false),
						 quote_identifier(list_nth(names, i)));
	appendStringInfo(&sql, " FROM %s", sc_qualified_name(cand->source));
	for (int i = 0; i < list_length(cand->keys); i++)
		appendStringInfo(&sql, "%s%d", i ? ", " : " GROUP BY ", i + 1);
	return sql.data;
}

/* ---- planning ---- */

/* Call in a subtransaction that leaves nothing behind; false: it failed. */
static bool
guarded(void (*call) (void *arg), void *arg)
{
	bool		saved = sc_enable_rewrite;
	ErrorData  *error = sc_attempt(call, arg, false);

	sc_enable_rewrite = saved;
	sc_rewrite_suppose(NIL);
	if (error && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	return error == NULL;
}

typedef struct PlanCall
{
	Statement  *stmt;
	List	   *supposed;		/* of ScSupposed */
	List	   *wanted;			/* out, of Candidate, if collect */
	bool		collect;
	double		cost;			/* out */
} PlanCall;

static void
plan_statement(void *arg)
{
	PlanCall   *call = arg;
	List	   *raw = raw_parser(call->stmt->sql, RAW_PARSE_DEFAULT);
	Oid		   *types = NULL;
	int			ntypes = 0;
	ListCell   *lc;

	call->cost = 0;
	if (list_length(raw) != 1)
		elog(ERROR, "not one statement");
	foreach(lc, pg_analyze_and_rewrite_varparams(sc_query_inside(linitial_node(RawStmt, raw)),
												 call->stmt->sql, &types, &ntypes, NULL))
	{
		Query	   *query = lfirst_node(Query, lc);
		PlannedStmt *plan;

		if (query->commandType == CMD_UTILITY)
			elog(ERROR, "a utility statement");
		if (call->collect)
			collect_wanted((Node *) query, &call->wanted);
		sc_enable_rewrite = true;
		sc_rewrite_suppose(call->supposed);
		plan = pg_plan_query(query, call->stmt->sql, 0, NULL);
		sc_rewrite_suppose(NIL);
		(void) ExecCheckRTPerms(plan->rtable, true);
		call->cost += plan->planTree->total_cost;
	}
}

/* How many units the column's values span, by its statistics; 0: unknown. */
static double
span_of(Oid relid, Var *var, ScUnit unit)
{
	HeapTuple	tuple = NULL;
	AttStatsSlot slot;
	double		units = 0;

	for (int inherited = 1; inherited >= 0 && !HeapTupleIsValid(tuple); inherited--)
		tuple = SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(relid),
								Int16GetDatum(var->varattno), BoolGetDatum(inherited));
	if (!HeapTupleIsValid(tuple))
		return 0;
	if (get_attstatsslot(&slot, tuple, STATISTIC_KIND_HISTOGRAM, InvalidOid,
						 ATTSTATSSLOT_VALUES))
	{
		if (slot.nvalues > 1)
			units = 2 + ((double) DatumGetInt64(slot.values[slot.nvalues - 1]) -
						 (double) DatumGetInt64(slot.values[0])) / USECS_PER_SEC /
				(unit == SC_UNIT_DAY ? SECS_PER_DAY :
				 unit == SC_UNIT_HOUR ? SECS_PER_HOUR : SECS_PER_MINUTE);
		free_attstatsslot(&slot);
	}
	ReleaseSysCache(tuple);
	return units;
}

/*
 * The planner does not know how many days a column has, so the groups are
 * those of the other keys, for each of the days.
 */
static double
guess_groups(Candidate *cand)
{
	StringInfoData sql;
	List	   *keys = NIL;
	List	   *context;
	List	   *raw;
	Query	   *query;
	double		times = 1;
	ListCell   *lc;

	foreach(lc, cand->keys)
	{
		WantedKey  *key = lfirst(lc);
		List	   *vars = key->time ? pull_var_clause(key->time, 0) : NIL;
		double		span = list_length(vars) == 1 && is_time(exprType(linitial(vars))) ?
		span_of(relid_of(cand, linitial(vars)), linitial(vars), key->unit) : 0;

		if (span > 0)
			times *= span;
		else
			keys = lappend(keys, key->expr);
	}
	if (keys == NIL)
		return times;
	if (cand->entries)
	{
		query = sc_suggest_query(cand->entries, cand->joinquals, keys, list_length(keys), NIL);
		return times * pg_plan_query(query, "", 0, NULL)->planTree->plan_rows;
	}
	context = deparse_context_for(get_rel_name(cand->source), cand->source);
	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT FROM %s", sc_qualified_name(cand->source));
	foreach(lc, keys)
		appendStringInfo(&sql, "%s%s", foreach_current_index(lc) ? ", " : " GROUP BY ",
						 deparse_expression(lfirst(lc), context, false, false));
	raw = raw_parser(sql.data, RAW_PARSE_DEFAULT);
	query = parse_analyze_fixedparams(linitial_node(RawStmt, raw), sql.data, NULL, 0, NULL);
	return times * pg_plan_query(query, sql.data, 0, NULL)->planTree->plan_rows;
}

/* The parts of a rollup of a join. */
static void
settle_join(Candidate *cand)
{
	ScSpec	   *spec = cand->spec;

	cand->source = spec->source;
	cand->stored = sc_spec_of_part(spec, SC_PART_STORED, InvalidOid);
	if (!sc_parts_storable(spec, cand->stored))
		elog(ERROR, "its groups cannot be stored");
	cand->stored->rewrite = true;
	cand->sourcegroups =
		pg_plan_query(copyObject(spec->query), "", 0, NULL)->planTree->plan_rows;
}

/* Whoever planned the statements has let go of their tables. */
static void
lock_tables(Candidate *cand)
{
	List	   *relids = NIL;
	ListCell   *lc;

	foreach(lc, cand->entries)
		relids = lappend_oid(relids, lfirst_node(RangeTblEntry, lc)->relid);
	if (cand->entries == NIL)
		relids = list_make1_oid(cand->source);
	foreach(lc, relids)
	{
		LockRelationOid(lfirst_oid(lc), AccessShareLock);
		if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(lfirst_oid(lc))))
			elog(ERROR, "the table has gone");
	}
}

/* Check the candidate's query, read its specification, guess its groups. */
static void
settle(void *arg)
{
	Candidate  *cand = arg;
	List	   *views = NIL;
	Query	   *query;
	ScSpec	   *spec = palloc0(sizeof(ScSpec));

	lock_tables(cand);
	cand->query = query_text(cand);
	if (cand->query == NULL)
		elog(ERROR, "no query");
	query = sc_query_analyze(cand->query, &views);
	sc_enable_rewrite = false;
	cand->groups = guess_groups(cand);
	spec->owner = GetUserId();
	spec->path = sc_current_path();
	spec->cxt = CurrentMemoryContext;
	spec->state = SC_LIVE;
	spec->rewrite = true;
	spec->zone = pstrdup(pg_get_timezone_name(session_timezone));
	if (!sc_spec_analyze(spec, query))
		elog(ERROR, "not a rollup");
	spec->members = list_make1_oid(spec->source);
	cand->spec = spec;
	if (cand->entries)
		settle_join(cand);
}

static double
rows_of(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	double		rows = 0;

	if (HeapTupleIsValid(tuple))
	{
		rows = Max(((Form_pg_class) GETSTRUCT(tuple))->reltuples, 0);
		ReleaseSysCache(tuple);
	}
	return rows;
}

/* False when a rollup cannot be made of it, or has too many groups. */
static bool
is_worth_it(Candidate *cand)
{
	return guarded(settle, cand) && cand->groups <= Max(rows_of(cand->source) / 5, 100);
}

/* ---- few for many ---- */

static Candidate *
merged(Candidate *a, Candidate *b)
{
	Candidate  *cand = palloc0(sizeof(Candidate));
	ListCell   *lc;

	cand->source = a->source;
	cand->entries = a->entries;
	cand->joinquals = a->joinquals;
	foreach(lc, a->keys)
	{
		WantedKey  *key = palloc(sizeof(WantedKey));

		*key = *(WantedKey *) lfirst(lc);
		cand->keys = lappend(cand->keys, key);
	}
	foreach(lc, b->keys)
	{
		WantedKey  *key = lfirst(lc);

		if (key->time)
			want_time(cand, key->time, key->unit);
		else
			(void) want_key(cand, key->expr);
	}
	cand->aggs = list_union(a->aggs, b->aggs);
	return cand;
}

static List *
merge_all(List *wanted)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, wanted)
	{
		Candidate  *cand = lfirst(lc);
		ListCell   *l2;
		bool		done = false;

		CHECK_FOR_INTERRUPTS();
		if (!is_worth_it(cand))
			continue;
		foreach(l2, result)
		{
			Candidate  *other = lfirst(l2);
			Candidate  *both;

			if (other->source != cand->source ||
				!sc_suggest_same_join(other->entries, other->joinquals,
									  cand->entries, cand->joinquals))
				continue;
			both = merged(other, cand);
			if (is_worth_it(both) &&
				both->groups <= Max(5 * (cand->groups + other->groups),
									rows_of(cand->source) / 100))
			{
				lfirst(l2) = both;
				done = true;
				break;
			}
		}
		if (!done)
			result = lappend(result, cand);
	}
	return result;
}

/* ---- the call ---- */

static List *
read_given(char **queries, double *weights, int n)
{
	List	   *result = NIL;

	for (int i = 0; i < n; i++)
	{
		Statement  *stmt = palloc0(sizeof(Statement));

		stmt->sql = queries[i];
		stmt->weight = weights[i];
		result = lappend(result, stmt);
	}
	return result;
}

static List *
read_workload(void)
{
	List	   *result = NIL;
	MemoryContext cxt = CurrentMemoryContext;
	MemoryContext old;

	SPI_connect();
	if (SPI_execute("SELECT query_id, calls, text FROM scalecache.workload"
					" WHERE text ILIKE '%select%' ORDER BY total_time_ms DESC LIMIT 1000",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the workload");
	old = MemoryContextSwitchTo(cxt);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Statement  *stmt = palloc0(sizeof(Statement));
		HeapTuple	tuple = SPI_tuptable->vals[i];
		bool		isnull;

		stmt->id = DatumGetInt64(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 1, &isnull));
		stmt->weight = (double) DatumGetInt64(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 2, &isnull));
		stmt->sql = SPI_getvalue(tuple, SPI_tuptable->tupdesc, 3);
		if (stmt->sql)
			result = lappend(result, stmt);
	}
	MemoryContextSwitchTo(old);
	SPI_finish();
	return result;
}

typedef struct Suggestion
{
	Candidate  *cand;
	double		before;			/* of all statements it serves */
	double		after;
	int			nserved;
	List	   *ids;			/* of int64 pointers */
} Suggestion;

static int
by_gain(const ListCell *a, const ListCell *b)
{
	Suggestion *x = lfirst(a);
	Suggestion *y = lfirst(b);
	double		d = (y->before - y->after) - (x->before - x->after);

	return d < 0 ? -1 : d > 0 ? 1 : 0;
}

/* Plan every statement as if the candidate were there. */
static Suggestion *
evaluate(Candidate *cand, List *statements)
{
	Suggestion *s = palloc0(sizeof(Suggestion));
	ListCell   *lc;

	s->cand = cand;
	foreach(lc, statements)
	{
		Statement  *stmt = lfirst(lc);
		ScSupposed	supposed = {cand->spec, cand->stored, cand->groups, 0};
		PlanCall	call = {stmt, list_make1(&supposed), NIL, false, 0};

		CHECK_FOR_INTERRUPTS();
		if (stmt->cost < 0 || !guarded(plan_statement, &call) || supposed.saved <= 0)
			continue;
		s->before += stmt->weight * stmt->cost;
		s->after += stmt->weight * Max(stmt->cost - supposed.saved, 0);
		s->nserved++;
		if (stmt->id != 0)
			s->ids = lappend(s->ids, &stmt->id);
	}
	return s;
}

static void
put_suggestion(ReturnSetInfo *rsinfo, int rank, Suggestion *s, List *statements)
{
	Candidate  *cand = s->cand;
	Datum		values[9];
	bool		nulls[9] = {0};
	Datum	   *ids = palloc(sizeof(Datum) * (list_length(s->ids) + 1));
	int			n = 0;
	ListCell   *lc;
	char	   *source = get_rel_name(cand->source);
	char	   *name;

	if (source == NULL)
		return;					/* dropped just now */
	name = psprintf("%s_rollup", source);
	for (int i = 2; OidIsValid(RelnameGetRelid(name)) || i - 1 < rank; i++)
		name = psprintf("%s_rollup_%d", source, i);
	foreach(lc, s->ids)
		ids[n++] = Int64GetDatum(*(int64 *) lfirst(lc));
	values[0] = Int32GetDatum(rank);
	values[1] = CStringGetTextDatum(psprintf("SELECT scalecache.create_rollup(%s, %s)",
											 quote_literal_cstr(quote_identifier(name)),
											 quote_literal_cstr(cand->query)));
	values[2] = ObjectIdGetDatum(cand->source);
	values[3] = Int64GetDatum((int64) (cand->stored ?
									   sc_supposed_size(cand->stored, cand->groups) +
									   sc_supposed_size(cand->spec, cand->sourcegroups) :
									   sc_supposed_size(cand->spec, cand->groups)));
	values[4] = Float8GetDatum(s->before);
	values[5] = Float8GetDatum(s->after);
	values[6] = Float8GetDatum(cpu_tuple_cost +
							   cpu_operator_cost * (cand->spec->nkeys + cand->spec->nslots));
	values[7] = PointerGetDatum(construct_array(ids, n, INT8OID, sizeof(int64),
												FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[8] = CStringGetTextDatum(psprintf("serves %d of %d queries from about %.0f groups instead of %.0f rows",
											 s->nserved, list_length(statements), cand->groups,
											 rows_of(cand->source)));
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
scalecache_suggest_rollups(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char	  **queries = NULL;
	double	   *weights = NULL;
	int			n;
	List	   *statements;
	List	   *wanted = NIL;
	List	   *suggestions = NIL;
	ListCell   *lc;
	int			rank = 0;
	int			skipped = 0;

	InitMaterializedSRF(fcinfo, 0);
	n = sc_queries_given(fcinfo, 0, &queries, &weights);
	statements = n < 0 ? read_workload() : read_given(queries, weights, n);
	foreach(lc, statements)
	{
		Statement  *stmt = lfirst(lc);
		PlanCall	call = {stmt, NIL, NIL, true, 0};

		if (guarded(plan_statement, &call))
		{
			stmt->cost = call.cost;
			wanted = list_concat(wanted, call.wanted);
		}
		else
		{
			stmt->cost = -1;
			skipped++;
		}
	}
	foreach(lc, merge_all(wanted))
	{
		Suggestion *s = evaluate(lfirst(lc), statements);

		if (s->nserved > 0 && s->after < s->before)
			suggestions = lappend(suggestions, s);
	}
	list_sort(suggestions, by_gain);
	foreach(lc, suggestions)
		put_suggestion(rsinfo, ++rank, lfirst(lc), statements);
	if (skipped > 0 && n >= 0)
		ereport(NOTICE,
				(errmsg("%d of %d queries could not be planned and were left out",
						skipped, list_length(statements))));
	return (Datum) 0;
}
