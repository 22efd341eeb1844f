/*
 * rewrite_edges.c: ranges of time that do not begin and end with a bucket.
 *
 * The whole buckets of such a range come from the rollup, the rows of the
 * ragged ends from the table.  Between them lies an edge for each bound: an
 * instant where all instants before it are in earlier buckets, and all others
 * not.  Both sides compute it by the same function of the bound's value,
 * scalecache.bucket_edge, so no row is lost or read twice, whatever the value
 * of a parameter is.  Where there is no such instant nearby the edge is
 * infinite, and the table answers for all.
 *
 * When there is no whole bucket, the edges are in the wrong order: the table
 * is read for the whole range, the rollup for nothing.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/planner.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "rollup/rewrite.h"

/* Edges that are looked at before giving up. */
#define MAX_STEPS		4

PG_FUNCTION_INFO_V1(scalecache_bucket_edge_tz);
PG_FUNCTION_INFO_V1(scalecache_bucket_edge);

/* ---- edges ---- */

typedef struct Cut
{
	ScUnit		unit;
	const char *name;			/* of the unit */
	Datum		zone;			/* text, or NULL: times are local */
	bool		wall;			/* with a zone: local times are cut */
	Interval	length;
	int64		origin;			/* SC_UNIT_BIN: where one starts */
} Cut;

static const struct
{
	ScUnit		unit;
	const char *name;
	int32		months;
	int32		days;
	int64		seconds;
}			units[] =
{
	{SC_UNIT_SECOND, "second", 0, 0, 1},
	{SC_UNIT_MINUTE, "minute", 0, 0, 60},
	{SC_UNIT_HOUR, "hour", 0, 0, 3600},
	{SC_UNIT_DAY, "day", 0, 1, 0},
	{SC_UNIT_WEEK, "week", 0, 7, 0},
	{SC_UNIT_MONTH, "month", 1, 0, 0},
	{SC_UNIT_QUARTER, "quarter", 3, 0, 0},
	{SC_UNIT_YEAR, "year", 12, 0, 0},
	{SC_UNIT_DECADE, "decade", 120, 0, 0},
	{SC_UNIT_CENTURY, "century", 1200, 0, 0},
	{SC_UNIT_MILLENNIUM, "millennium", 12000, 0, 0}
};

static bool
cut_by_unit(Cut *cut, ScUnit unit)
{
	for (int i = 0; i < lengthof(units); i++)
		if (units[i].unit == unit)
		{
			cut->unit = unit;
			cut->name = units[i].name;
			cut->length.month = units[i].months;
			cut->length.day = units[i].days;
			cut->length.time = units[i].seconds * USECS_PER_SEC;
			return true;
		}
	return false;
}

bool
sc_unit_length(ScUnit unit, Interval *length)
{
	Cut			cut;

	if (!cut_by_unit(&cut, unit))
		return false;
	*length = cut.length;
	return true;
}

#define BIN_NAME	"bin " INT64_FORMAT " " INT64_FORMAT

static void
cut_by_bin(Cut *cut, int64 stride, int64 origin)
{
	cut->unit = SC_UNIT_BIN;
	cut->name = "bin";
	cut->length.time = stride;
	cut->origin = origin;
}

static bool
cut_by_bucket(Cut *cut, ScBucket *bucket)
{
	if (bucket->unit != SC_UNIT_BIN)
		return cut_by_unit(cut, bucket->unit);
	cut_by_bin(cut, bucket->stride, bucket->origin);
	cut->name = psprintf(BIN_NAME, bucket->stride, bucket->origin);
	return true;
}

static bool
cut_by_name(Cut *cut, const char *name)
{
	int64		stride;
	int64		origin;

	if (sscanf(name, BIN_NAME, &stride, &origin) == 2 && sc_bin_is_sound(stride, origin))
	{
		cut_by_bin(cut, stride, origin);
		return true;
	}
	for (int i = 0; i < lengthof(units); i++)
		if (strcmp(units[i].name, name) == 0)
			return cut_by_unit(cut, units[i].unit);
	return false;
}

static int64
to_wall(const Cut *cut, int64 t)
{
	return DatumGetTimestamp(DirectFunctionCall2(timestamptz_zone, cut->zone,
												 TimestampTzGetDatum(t)));
}

static int64
from_wall(const Cut *cut, int64 t)
{
	return DatumGetTimestampTz(DirectFunctionCall2(timestamp_zone, cut->zone,
												   TimestampGetDatum(t)));
}

/* Start of the bucket that a time is in. */
static int64
bucket_start(const Cut *cut, int64 t)
{
	Datum		unit;

	if (cut->unit == SC_UNIT_BIN)
		return t - sc_modulo(t - cut->origin, cut->length.time);
	unit = CStringGetTextDatum(cut->name);
	if (cut->zone && !cut->wall)
		return DatumGetTimestampTz(DirectFunctionCall3(timestamptz_trunc_zone, unit,
													   TimestampTzGetDatum(t), cut->zone));
	if (cut->zone)
		t = to_wall(cut, t);
	t = DatumGetTimestamp(DirectFunctionCall2(timestamp_trunc, unit,
											  TimestampGetDatum(t)));
	return cut->zone ? from_wall(cut, t) : t;
}

/* The start of a bucket that is some buckets on. */
static int64
step(const Cut *cut, int64 t, int n)
{
	Interval	length;
	bool		wall = cut->zone != (Datum) 0 &&
		(cut->wall || cut->unit >= SC_UNIT_DAY);

	length.month = cut->length.month * n;
	length.day = cut->length.day * n;
	length.time = cut->length.time * n;
	if (wall)
		t = to_wall(cut, t);
	t = DatumGetTimestamp(DirectFunctionCall2(timestamp_pl_interval,
											  TimestampGetDatum(t),
											  IntervalPGetDatum(&length)));
	if (wall)
		t = from_wall(cut, t);
	/* A day without a midnight starts later, the next one does not. */
	return bucket_start(cut, t);
}

static bool
is_edge(const Cut *cut, int64 t)
{
	return bucket_start(cut, t) == t &&
		sc_bucket_is_edge(cut->zone ? TIMESTAMPTZOID : TIMESTAMPOID,
						  TimestampGetDatum(t),
						  cut->zone ? TextDatumGetCString(cut->zone) : NULL,
						  cut->wall ? 0 : sc_bucket_guard_seconds(cut->unit));
}

/*
 * The edge at t or next to it.  False if t is infinite: there is nothing
 * after it, nor before.
 */
static bool
find_edge(const Cut *cut, int64 t, bool after, bool up, int64 *edge)
{
	/* Far from where arithmetic would overflow. */
	const int64 margin = INT64CONST(5000) * 366 * USECS_PER_DAY;
	int64		start;

	if (TIMESTAMP_NOT_FINITE(t))
		return false;
	if (up)
		TIMESTAMP_NOEND(*edge);
	else
		TIMESTAMP_NOBEGIN(*edge);
	if (t < MIN_TIMESTAMP + margin || t > END_TIMESTAMP - margin)
		return true;
	if (after)
		t++;
	start = bucket_start(cut, t);
	for (int i = 0; i <= MAX_STEPS; i++)
	{
		int64		try = step(cut, start, up ? i : -i);

		if ((up ? try < t : try > t) || !is_edge(cut, try))
			continue;
		*edge = try;
		return true;
	}
	return true;
}

/* What a call has found out, for the next one: most are of the same time. */
typedef struct Memo
{
	Cut			cut;
	int64		t;
	bool		after;
	bool		up;
	bool		found;
	int64		edge;
} Memo;

static void
set_unit(Cut *cut, text *unit)
{
	char	   *name = text_to_cstring(unit);

	if (!cut_by_name(cut, name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timestamp units \"%s\" not recognized", name)));
}

/* All arguments but the first and booleans are constants, or never kept. */
static Datum
edge_of(FunctionCallInfo fcinfo, bool zoned)
{
	FmgrInfo   *flinfo = fcinfo->flinfo;
	Memo	   *memo = flinfo->fn_extra;
	int			first = zoned ? 4 : 2;
	bool		after = PG_GETARG_BOOL(first);
	bool		up = PG_GETARG_BOOL(first + 1);
	int64		t = PG_GETARG_INT64(0);
	bool		fresh = memo == NULL;
	MemoryContext old;

	if (fresh)
	{
		memo = MemoryContextAllocZero(flinfo->fn_mcxt, sizeof(Memo));
		set_unit(&memo->cut, PG_GETARG_TEXT_PP(1));
		if (zoned)
		{
			memo->cut.zone = PG_GETARG_DATUM(2);
			memo->cut.wall = PG_GETARG_BOOL(3);
		}
		if (get_fn_expr_arg_stable(flinfo, 1) &&
			(!zoned || (get_fn_expr_arg_stable(flinfo, 2) &&
						get_fn_expr_arg_stable(flinfo, 3))))
		{
			if (zoned)
			{
				old = MemoryContextSwitchTo(flinfo->fn_mcxt);
				memo->cut.zone = PointerGetDatum(PG_GETARG_TEXT_P_COPY(2));
				MemoryContextSwitchTo(old);
			}
			flinfo->fn_extra = memo;
		}
	}
	if (fresh || t != memo->t || after != memo->after || up != memo->up)
	{
		memo->found = find_edge(&memo->cut, t, after, up, &memo->edge);
		memo->t = t;
		memo->after = after;
		memo->up = up;
	}
	if (!memo->found)
		PG_RETURN_NULL();
	PG_RETURN_INT64(memo->edge);
}

/* bucket_edge(time, unit, zone, wall, after, up) */
Datum
scalecache_bucket_edge_tz(PG_FUNCTION_ARGS)
{
	return edge_of(fcinfo, true);
}

/* bucket_edge(local time, unit, after, up) */
Datum
scalecache_bucket_edge(PG_FUNCTION_ARGS)
{
	return edge_of(fcinfo, false);
}

/* ---- bounds ---- */

static Expr *
text_const(const char *text)
{
	return (Expr *) makeConst(TEXTOID, -1, DEFAULT_COLLATION_OID, -1,
							  CStringGetTextDatum(text), false, false);
}

/* The edge next to a value that is not known yet; NULL: no function for it. */
static Expr *
edge_call(Cut *cut, Expr *value, bool after, bool up)
{
	Oid			type = exprType((Node *) value);
	Oid			types[] = {type, TEXTOID, TEXTOID, BOOLOID, BOOLOID, BOOLOID};
	Oid			localtypes[] = {type, TEXTOID, BOOLOID, BOOLOID};
	List	   *args = list_make2(copyObject(value), text_const(cut->name));
	Oid			funcid;

	if (cut->zone)
	{
		args = lappend(args, makeConst(TEXTOID, -1, DEFAULT_COLLATION_OID, -1,
									   cut->zone, false, false));
		args = lappend(args, makeBoolConst(cut->wall, false));
	}
	args = lappend(lappend(args, makeBoolConst(after, false)),
				   makeBoolConst(up, false));
	funcid = cut->zone ? sc_own_function("bucket_edge", 6, types) :
		sc_own_function("bucket_edge", 4, localtypes);
	if (!OidIsValid(funcid))
		return NULL;
	return (Expr *) makeFuncExpr(funcid, type, args, InvalidOid, InvalidOid,
								 COERCE_EXPLICIT_CALL);
}

static Expr *
edge_const(Cut *cut, Const *value, bool after, bool up)
{
	Const	   *result = copyObject(value);
	int64		edge = 0;

	if (!value->constisnull)
		result->constisnull = !find_edge(cut, DatumGetInt64(value->constvalue),
										 after, up, &edge);
	result->constvalue = Int64GetDatum(edge);
	return (Expr *) result;
}

/*
 * Compare the bound with the edges of the key's buckets; "after": it is the
 * first instant after the value.  False if that cannot be told.
 */
bool
sc_bound_settle(ScMatch *m, ScBound *bound, Expr *value, bool after)
{
	ScBucket   *b = sc_match_bucket(m, bound->key);
	Cut			cut = {0};
	Const	   *inner;
	Const	   *outer;

	if (!cut_by_bucket(&cut, b))
		return false;
	if (exprType((Node *) value) == TIMESTAMPTZOID)
		cut.zone = b->zone->constvalue;
	cut.wall = cut.zone && m->spec->keys[bound->key].type != TIMESTAMPTZOID;
	if (IsA(value, Const))
	{
		bound->edge = edge_const(&cut, (Const *) value, after, bound->lower);
		bound->outer = edge_const(&cut, (Const *) value, after, !bound->lower);
		if (((Const *) bound->edge)->constisnull)
			return false;
	}
	else
	{
		bound->edge = edge_call(&cut, value, after, bound->lower);
		bound->outer = edge_call(&cut, value, after, !bound->lower);
		if (bound->edge == NULL)
			return false;
	}
	inner = (Const *) estimate_expression_value(m->root, copyObject((Node *) bound->edge));
	outer = (Const *) estimate_expression_value(m->root, copyObject((Node *) bound->outer));
	bound->where = SC_BOUND_UNKNOWN;
	if (IsA(inner, Const) && IsA(outer, Const) && !inner->constisnull)
		bound->where = DatumGetInt64(inner->constvalue) == DatumGetInt64(outer->constvalue) ?
			SC_BOUND_EDGE : SC_BOUND_INSIDE;
	return true;
}

/* ---- the rows beyond the edges ---- */

/* Is a row of the table on the other side of the bound's edge, or not? */
static Expr *
beyond(ScBound *bound, bool yes)
{
	Oid			type = exprType((Node *) bound->time);
	Oid			family = sc_btree_family(type);
	Oid			op = get_opfamily_member(family, type, type, bound->lower == yes ?
										 BTLessStrategyNumber : BTGreaterEqualStrategyNumber);

	return make_opclause(op, BOOLOID, false, copyObject(bound->time),
						 copyObject(bound->edge), InvalidOid, InvalidOid);
}

static List *
add_column(List *tlist, void *expr)
{
	return lappend(tlist, makeTargetEntry(copyObject((Expr *) expr),
										  list_length(tlist) + 1,
										  psprintf("c%d", list_length(tlist) + 1), false));
}

/*
 * What is needed of a row: the query's keys, then the arguments and the
 * filter of each state that is asked for, then the arguments of key states.
 */
static List *
edge_columns(ScMatch *m)
{
	List	   *tlist = NIL;
	Bitmapset  *slots = NULL;
	ListCell   *lc;
	int			i = -1;

	foreach(lc, m->qkeys)
		tlist = add_column(tlist, ((ScQueryKey *) lfirst(lc))->expr);
	foreach(lc, m->items)
	{
		ScItem	   *item = lfirst(lc);

		if (item->kind == SC_ITEM_STORED)
			slots = bms_add_member(slots, m->spec->aggs[item->arg].slot);
		else if (item->kind == SC_ITEM_SLOT)
			slots = bms_add_member(slots, item->arg);
		else if (item->kind == SC_ITEM_LINEAR)
			slots = sc_linear_slots(list_nth(m->linears, item->arg), slots);
	}
	while ((i = bms_next_member(slots, i)) >= 0)
	{
		foreach(lc, sc_match_as_query(m, m->spec->forms->args[i]))
			tlist = add_column(tlist, lfirst(lc));
		if (m->spec->forms->filters[i])
			tlist = add_column(tlist, sc_match_as_query(m, m->spec->forms->filters[i]));
	}
	foreach(lc, m->keyargs)
		tlist = add_column(tlist, lfirst(lc));
	return tlist;
}

/* The query's rows that pass some more quals. */
static Query *
edge_query(ScMatch *m, List *quals)
{
	Query	   *query = makeNode(Query);
	RangeTblEntry *rte = copyObject(m->root->simple_rte_array[m->srcvarno]);
	RangeTblRef *ref = makeNode(RangeTblRef);
	ListCell   *lc;

	/* The query's own entry is checked. */
	rte->requiredPerms = 0;
	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	query->rtable = list_make1(rte);
	query->targetList = edge_columns(m);
	foreach(lc, m->input->baserestrictinfo)
		quals = lappend(quals, copyObject(lfirst_node(RestrictInfo, lc)->clause));
	ref->rtindex = 1;
	query->jointree = makeFromExpr(list_make1(ref), (Node *) make_ands_explicit(quals));
	ChangeVarNodes((Node *) query->targetList, m->srcvarno, 1, 0);
	ChangeVarNodes(query->jointree->quals, m->srcvarno, 1, 0);
	return query;
}

/* A subquery, planned here and appended to the query's range table. */
static Path *
edge_path(ScMatch *m, List *quals)
{
	PlannerInfo *root = m->root;
	Index		varno = root->simple_rel_array_size;
	RangeTblEntry *rte;
	RelOptInfo *rel;
	RelOptInfo *final;
	List	   *names = NIL;
	ListCell   *lc;

	if (m->joined)
		return sc_join_edge_path(m, quals);
	rte = makeNode(RangeTblEntry);
	rte->rtekind = RTE_SUBQUERY;
	rte->subquery = edge_query(m, quals);
	foreach(lc, rte->subquery->targetList)
		names = lappend(names, makeString(lfirst_node(TargetEntry, lc)->resname));
	rte->eref = makeAlias("edges", names);
	root->parse->rtable = lappend(root->parse->rtable, rte);
	expand_planner_arrays(root, 1);
	root->simple_rte_array[varno] = rte;

	rel = build_simple_rel(root, varno, NULL);
	rel->consider_parallel = false;
	rel->subroot = subquery_planner(root->glob, copyObject(rte->subquery), root, false, 0.0);
	foreach(lc, rte->subquery->targetList)
		rel->reltarget->exprs = lappend(rel->reltarget->exprs,
										makeVarFromTargetEntry(varno, lfirst(lc)));
	set_subquery_size_estimates(root, rel);
	final = fetch_upper_rel(rel->subroot, UPPERREL_FINAL, NULL);
	return (Path *) create_subqueryscan_path(root, rel, final->cheapest_total_path,
											 NIL, NULL);
}

static bool
by_index(Path *path)
{
	ListCell   *lc;

	if (IsA(path, ProjectionPath))
		return by_index(((ProjectionPath *) path)->subpath);
	if (IsA(path, AppendPath))
	{
		foreach(lc, ((AppendPath *) path)->subpaths)
			if (!by_index(lfirst(lc)))
				return false;
		return true;
	}
	if (IsA(path, NestPath) || IsA(path, MergePath) || IsA(path, HashPath))
		return by_index(((JoinPath *) path)->outerjoinpath) ||
			by_index(((JoinPath *) path)->innerjoinpath);
	return IsA(path, IndexPath) || IsA(path, BitmapHeapPath);
}

/*
 * Paths for the rows beyond the edges: one for each bound, which an index
 * serves best, or one for all.
 */
static List *
make_edge_paths(ScMatch *m, double *rows, Cost *cost)
{
	List	   *paths = NIL;
	List	   *ors = NIL;
	List	   *inside = NIL;
	Path	   *all;
	bool		unknown = true;
	ListCell   *lc;

	*rows = 0;
	*cost = 0;
	foreach(lc, m->bounds)
	{
		ScBound    *bound = lfirst(lc);
		Path	   *path;

		if (bound->strict)
			continue;
		path = edge_path(m, lappend(list_copy(inside), beyond(bound, true)));
		*rows += path->rows;
		*cost += path->total_cost;
		paths = lappend(paths, path);
		unknown &= bound->where == SC_BOUND_UNKNOWN &&
			by_index(m->joined ? path : ((SubqueryScanPath *) path)->subpath);
		ors = lappend(ors, beyond(bound, true));
		inside = lappend(inside, beyond(bound, false));
	}
	/* The planner has no idea how much is between two parameters. */
	if (list_length(ors) < 2 || unknown)
		return paths;
	all = edge_path(m, list_make1(make_orclause(ors)));
	if (all->total_cost >= *cost)
		return paths;
	*cost = all->total_cost;
	return list_make1(all);
}

List *
sc_edge_paths(ScMatch *m, double *rows, Cost *cost)
{
	List	   *paths = NIL;

	sc_zone_plan_for(m);
	PG_TRY();
	{
		paths = make_edge_paths(m, rows, cost);
	}
	PG_FINALLY();
	{
		sc_zone_plan_for(NULL);
	}
	PG_END_TRY();
	return paths;
}
