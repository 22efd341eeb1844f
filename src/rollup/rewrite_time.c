/*
 * rewrite_time.c: buckets of time.
 *
 * A key that cuts a timestamp to a unit stands for all instants of that
 * bucket.  What reads no finer field of the local time is the same for the
 * bucket's start: years and quarters from months, months from days, also
 * extract, to_char and casts to date.  A range of the raw timestamp is a
 * range of buckets, and what is left at its ends (see rewrite_edges.c).
 *
 * Where clocks are set back, local time runs twice, and an instant may sort
 * before the start of its bucket.  Bounds near such a place are no edges
 * (sc_bucket_is_edge), and buckets shorter than a day that a change of the
 * offset cuts in two derive nothing (sc_bucket_is_whole): the source answers.
 */
#include "postgres.h"

#include <ctype.h>

#include "access/stratnum.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "parser/parse_func.h"
#include "parser/scansup.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "rollup/rewrite.h"

PG_FUNCTION_INFO_V1(scalecache_bucket_is_split);

/* ---- units ---- */

/* The unit an argument of date_trunc, extract or date_part names. */
ScUnit
sc_time_unit(Node *arg, bool field)
{
	Const	   *c = (Const *) arg;
	char	   *name;
	int			type;
	int			val;

	if (!IsA(arg, Const) || c->constisnull || c->consttype != TEXTOID)
		return SC_UNIT_NONE;
	name = TextDatumGetCString(c->constvalue);
	name = downcase_truncate_identifier(name, strlen(name), false);
	type = DecodeUnits(0, name, &val);
	if (type == UNKNOWN_FIELD && field)
		type = DecodeSpecial(0, name, &val);
	if (type != UNITS)
		return SC_UNIT_NONE;
	switch (val)
	{
		case DTK_SECOND:
			/* The field has a fraction. */
			return field ? SC_UNIT_MICROSECOND : SC_UNIT_SECOND;
		case DTK_MINUTE:
			return SC_UNIT_MINUTE;
		case DTK_HOUR:
			return SC_UNIT_HOUR;
		case DTK_DAY:
			return SC_UNIT_DAY;
		case DTK_DOW:
		case DTK_ISODOW:
		case DTK_DOY:
			return field ? SC_UNIT_DAY : SC_UNIT_NONE;
		case DTK_WEEK:
			return SC_UNIT_WEEK;
		case DTK_ISOYEAR:
			return field ? SC_UNIT_WEEK : SC_UNIT_NONE;
		case DTK_MONTH:
			return SC_UNIT_MONTH;
		case DTK_QUARTER:
			return SC_UNIT_QUARTER;
		case DTK_YEAR:
			return SC_UNIT_YEAR;
		case DTK_DECADE:
			return SC_UNIT_DECADE;
		case DTK_CENTURY:
			return SC_UNIT_CENTURY;
		case DTK_MILLENNIUM:
			return SC_UNIT_MILLENNIUM;
		default:
			return SC_UNIT_NONE;
	}
}

/* What follows text in double quotes, which a backslash may be in. */
static char *
skip_quoted(char *p)
{
	for (p++; *p && *p != '"'; p++)
		if (*p == '\\' && p[1])
			p++;
	return *p ? p + 1 : p;
}

/* The finest unit a to_char format reads. */
ScUnit
sc_format_unit(Node *arg)
{
	static const struct
	{
		const char *token;
		ScUnit		unit;
	}			tokens[] =
	{
		{"YYYY", SC_UNIT_YEAR}, {"IYYY", SC_UNIT_WEEK}, {"HH24", SC_UNIT_HOUR},
		{"HH12", SC_UNIT_HOUR}, {"MONTH", SC_UNIT_MONTH}, {"MON", SC_UNIT_MONTH},
		{"DAY", SC_UNIT_DAY}, {"DDD", SC_UNIT_DAY}, {"IDDD", SC_UNIT_DAY},
		{"DD", SC_UNIT_DAY}, {"DY", SC_UNIT_DAY}, {"ID", SC_UNIT_DAY},
		{"IW", SC_UNIT_WEEK}, {"WW", SC_UNIT_DAY}, {"MM", SC_UNIT_MONTH},
		{"MI", SC_UNIT_MINUTE}, {"HH", SC_UNIT_HOUR}, {"SS", SC_UNIT_SECOND},
		{"Y,YYY", SC_UNIT_YEAR}, {"IYY", SC_UNIT_WEEK}, {"IY", SC_UNIT_WEEK},
		{"YYY", SC_UNIT_YEAR}, {"YY", SC_UNIT_YEAR}, {"Y", SC_UNIT_YEAR},
		{"AD", SC_UNIT_YEAR}, {"BC", SC_UNIT_YEAR}, {"AM", SC_UNIT_HOUR},
		{"PM", SC_UNIT_HOUR}, {"RM", SC_UNIT_MONTH}, {"I", SC_UNIT_WEEK},
		{"CC", SC_UNIT_CENTURY}, {"Q", SC_UNIT_QUARTER},
		{"D", SC_UNIT_DAY}, {"W", SC_UNIT_DAY}, {"J", SC_UNIT_DAY},
		{NULL, SC_UNIT_NONE}
	};
	Const	   *c = (Const *) arg;
	char	   *p;
	ScUnit		finest = SC_UNIT_MILLENNIUM;

	if (!IsA(arg, Const) || c->constisnull || c->consttype != TEXTOID)
		return SC_UNIT_NONE;
	for (p = TextDatumGetCString(c->constvalue); *p;)
	{
		int			i;

		if (*p == '"')
		{
			p = skip_quoted(p);
			continue;
		}
		if (!isascii((unsigned char) *p) || *p == '\\')
			return SC_UNIT_NONE;
		if (!isalpha((unsigned char) *p))
		{
			p++;
			continue;
		}
		if (pg_strncasecmp(p, "FM", 2) == 0 || pg_strncasecmp(p, "TH", 2) == 0 ||
			pg_strncasecmp(p, "TM", 2) == 0)
		{
			p += 2;
			continue;
		}
		for (i = 0; tokens[i].token; i++)
			if (pg_strncasecmp(p, tokens[i].token, strlen(tokens[i].token)) == 0)
				break;
		if (tokens[i].token == NULL)
			return SC_UNIT_NONE;
		/* Weeks are not parts of months, nor months of weeks. */
		if ((tokens[i].unit == SC_UNIT_WEEK) != (finest == SC_UNIT_WEEK) &&
			finest >= SC_UNIT_WEEK && tokens[i].unit >= SC_UNIT_WEEK &&
			finest != SC_UNIT_MILLENNIUM)
			finest = SC_UNIT_DAY;
		else
			finest = Min(finest, tokens[i].unit);
		p += strlen(tokens[i].token);
	}
	return finest;
}

/* Does the start of a bucket tell what all of the bucket have in a unit? */
static bool
unit_serves(ScUnit bucket, ScUnit wanted)
{
	if (bucket == SC_UNIT_NONE || wanted == SC_UNIT_NONE)
		return false;
	if (bucket == SC_UNIT_WEEK || wanted == SC_UNIT_WEEK)
		return bucket <= SC_UNIT_DAY || bucket == wanted;
	return bucket <= wanted;
}

/* ---- keys ---- */

static Expr *
call(Oid funcid, Oid type, List *args, Oid inputcoll)
{
	return (Expr *) makeFuncExpr(funcid, type, args, InvalidOid, inputcoll,
								 COERCE_EXPLICIT_CALL);
}

static void
look_through_zone(ScBucket *bucket, Expr *local)
{
	FuncExpr   *f = (FuncExpr *) local;

	bucket->local = local;
	if (IsA(f, FuncExpr) && f->funcid == F_TIMEZONE_TEXT_TIMESTAMPTZ &&
		IsA(linitial(f->args), Const))
	{
		bucket->zone = copyObject(linitial(f->args));
		bucket->instant = lsecond(f->args);
	}
}

/* Fill bucket from a rollup's key; var is the key in the base table. */
void
sc_bucket_of_key(ScBucket *bucket, Expr *key, Expr *var)
{
	FuncExpr   *f = (FuncExpr *) key;

	memset(bucket, 0, sizeof(*bucket));
	if (!IsA(f, FuncExpr))
		return;
	switch (f->funcid)
	{
		case F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT:
			if (!IsA(lthird(f->args), Const) ||
				((Const *) lthird(f->args))->constisnull)
				return;
			bucket->unit = sc_time_unit(linitial(f->args), false);
			bucket->instant = lsecond(f->args);
			bucket->zone = copyObject(lthird(f->args));
			bucket->local = call(F_TIMEZONE_TEXT_TIMESTAMPTZ, TIMESTAMPOID,
								 list_make2(bucket->zone, bucket->instant),
								 DEFAULT_COLLATION_OID);
			bucket->instant_start = var;
			bucket->local_start = call(F_TIMEZONE_TEXT_TIMESTAMPTZ, TIMESTAMPOID,
									   list_make2(bucket->zone, var),
									   DEFAULT_COLLATION_OID);
			return;
		case F_DATE_TRUNC_TEXT_TIMESTAMP:
			bucket->unit = sc_time_unit(linitial(f->args), false);
			look_through_zone(bucket, lsecond(f->args));
			bucket->local_start = var;
			break;
		case F_DATE_TIMESTAMP:
			bucket->unit = SC_UNIT_DAY;
			look_through_zone(bucket, linitial(f->args));
			bucket->local_start = call(F_TIMESTAMP_DATE, TIMESTAMPOID,
									   list_make1(var), InvalidOid);
			break;
		default:
			return;
	}
	if (bucket->instant)
		bucket->instant_start = call(F_TIMEZONE_TEXT_TIMESTAMP, TIMESTAMPTZOID,
									 list_make2(bucket->zone, bucket->local_start),
									 DEFAULT_COLLATION_OID);
}

/*
 * Seconds that a bucket shorter than a day lasts, when the key is an
 * instant; 0 for others.
 */
int
sc_bucket_guard_seconds(ScUnit unit)
{
	switch (unit)
	{
		case SC_UNIT_HOUR:
			return 3600;
		case SC_UNIT_MINUTE:
			return 60;
		case SC_UNIT_SECOND:
		case SC_UNIT_MILLISECOND:
		case SC_UNIT_MICROSECOND:
			return 1;
		default:
			return 0;
	}
}

/* The same for a key of a type: 0 when the key is a local time. */
int
sc_bucket_key_seconds(ScBucket *bucket, Oid type)
{
	return bucket->instant && type == TIMESTAMPTZOID ?
		sc_bucket_guard_seconds(bucket->unit) : 0;
}

/*
 * The node with the time in it replaced by the start of its bucket, or NULL
 * when it is no function of a bucket.
 */
Node *
sc_bucket_derive(ScMatch *m, Node *node)
{
	FuncExpr   *f = (FuncExpr *) node;
	FuncExpr   *copy;
	ScUnit		unit;
	Node	   *time;
	int			pos;

	if (!IsA(f, FuncExpr))
		return NULL;
	switch (f->funcid)
	{
		case F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT:
		case F_DATE_TRUNC_TEXT_TIMESTAMP:
			unit = sc_time_unit(linitial(f->args), false);
			pos = 1;
			break;
		case F_EXTRACT_TEXT_TIMESTAMP:
		case F_DATE_PART_TEXT_TIMESTAMP:
			unit = sc_time_unit(linitial(f->args), true);
			pos = 1;
			break;
		case F_TO_CHAR_TIMESTAMP_TEXT:
			unit = sc_format_unit(lsecond(f->args));
			pos = 0;
			break;
		case F_DATE_TIMESTAMP:
			unit = SC_UNIT_DAY;
			pos = 0;
			break;
		default:
			return NULL;
	}
	if (unit == SC_UNIT_NONE)
		return NULL;
	time = list_nth(f->args, pos);
	for (int i = 0; i < m->spec->nkeys; i++)
	{
		ScBucket   *b = &m->buckets[i];
		bool		instant = f->funcid == F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT;

		if (!unit_serves(b->unit, unit))
			continue;
		if (instant)
		{
			if (b->instant == NULL || !equal(b->instant, time) ||
				!equal(b->zone, lthird(f->args)))
				continue;
		}
		else if (!equal(b->local, time))
			continue;
		/* A local time that is cut does not meet the clock again. */
		if (b->instant && b->unit < SC_UNIT_DAY &&
			b->local_start != NULL && !IsA(b->local_start, Var))
			m->guards = list_append_unique_int(m->guards, i);
		else if (b->instant && b->unit < SC_UNIT_DAY && instant)
			continue;
		copy = copyObject(f);
		list_nth_cell(copy->args, pos)->ptr_value =
			copyObject(instant ? b->instant_start : b->local_start);
		return (Node *) copy;
	}
	return NULL;
}

/* ---- ranges ---- */

/* Orders date, timestamp and timestamptz among each other. */
static Oid
time_family(void)
{
	return sc_btree_family(TIMESTAMPOID);
}

/* A bound as a value of the type of the time it is compared with. */
Expr *
sc_bound_as(Expr *bound, Oid type)
{
	Oid			from = exprType((Node *) bound);

	if (from == type)
		return bound;
	if (from == DATEOID && type == TIMESTAMPOID)
		return call(F_TIMESTAMP_DATE, type, list_make1(bound), InvalidOid);
	if (from == DATEOID && type == TIMESTAMPTZOID)
		return call(F_TIMESTAMPTZ_DATE, type, list_make1(bound), InvalidOid);
	if (from == TIMESTAMPOID && type == TIMESTAMPTZOID)
		return call(F_TIMESTAMPTZ_TIMESTAMP, type, list_make1(bound), InvalidOid);
	return NULL;
}

/* A bound that is a local time, as one of the raw time. */
static Expr *
raw_of_local(ScBucket *b, Expr *local)
{
	if (local == NULL || b->instant == NULL)
		return local;
	return call(F_TIMEZONE_TEXT_TIMESTAMP, TIMESTAMPTZOID,
				list_make2(copyObject(b->zone), local), DEFAULT_COLLATION_OID);
}

static Expr *
timestamp_const(Datum t)
{
	return (Expr *) makeConst(TIMESTAMPOID, -1, InvalidOid, sizeof(Timestamp), t, false,
							  FLOAT8PASSBYVAL);
}

/*
 * A value that a bucket's time, cut to a unit, is compared with: *next is the
 * local time at which the first unit after it starts, *from the value itself,
 * NULL if no unit starts with it.  False if it is something else.
 */
static bool
cut_bounds(ScBucket *b, FuncExpr *f, Node *value, Expr **from, Expr **next)
{
	bool		instant = f->funcid == F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT;
	Const	   *c = (Const *) value;
	ScUnit		unit = sc_time_unit(linitial(f->args), false);
	Datum		name = ((Const *) linitial(f->args))->constvalue;
	Interval	length;
	int64		t;
	int64		start;
	Datum		local;

	if (instant ? !(b->instant && equal(lsecond(f->args), b->instant) &&
					equal(lthird(f->args), b->zone)) :
		!equal(lsecond(f->args), b->local))
		return false;
	if (!sc_unit_length(unit, &length) ||
		(b->instant && sc_bucket_guard_seconds(unit) != 0) ||
		!IsA(c, Const) || c->constisnull ||
		c->consttype != (instant ? TIMESTAMPTZOID : TIMESTAMPOID))
		return false;
	t = DatumGetInt64(c->constvalue);
	/* Far from where arithmetic would overflow. */
	if (t < DT_NOBEGIN / 4 || t > DT_NOEND / 4)
		return false;
	start = DatumGetInt64(instant ?
						  DirectFunctionCall3(timestamptz_trunc_zone, name, c->constvalue,
											  b->zone->constvalue) :
						  DirectFunctionCall2(timestamp_trunc, name, c->constvalue));
	/* The first of two midnights: its day starts later. */
	if (start > t)
		return false;
	local = instant ? DirectFunctionCall2(timestamptz_zone, b->zone->constvalue, c->constvalue) :
		c->constvalue;
	local = DirectFunctionCall2(timestamp_trunc, name, local);
	*from = start < t ? NULL : timestamp_const(local);
	*next = timestamp_const(DirectFunctionCall2(timestamp_pl_interval, local,
												IntervalPGetDatum(&length)));
	return true;
}

/* The same for the date of the time. */
static bool
date_bounds(ScBucket *b, FuncExpr *f, Node *value, Expr **from, Expr **next)
{
	Expr	   *day;

	if (f->funcid != F_DATE_TIMESTAMP || !equal(linitial(f->args), b->local) ||
		exprType(value) != DATEOID)
		return false;
	*from = sc_bound_as((Expr *) copyObject(value), TIMESTAMPOID);
	/* What is infinite stays so, and then the table answers. */
	day = call(F_DATE_PLI, DATEOID,
			   list_make2(copyObject(value),
						  makeConst(INT4OID, -1, InvalidOid, sizeof(int32),
									Int32GetDatum(1), false, true)), InvalidOid);
	*next = sc_bound_as(day, TIMESTAMPOID);
	return true;
}

static bool
add_bound(ScMatch *m, int key, List **bounds, Expr *value, bool lower, bool after)
{
	ScBucket   *b = &m->buckets[key];
	ScBound    *bound = palloc0(sizeof(ScBound));

	if (value == NULL)
		return false;
	bound->key = key;
	bound->time = copyObject(b->instant ? b->instant : b->local);
	bound->lower = lower;
	*bounds = lappend(*bounds, bound);
	return sc_bound_settle(m, bound, (Expr *) eval_const_expressions(m->root, (Node *) value),
						   after);
}

/*
 * A comparison of a bucket's time, or of its local time, date or start of a
 * unit, as bounds of the time itself.
 *
 * Local times of an instant do not sort as it does, where clocks are set
 * back.  But the edges of days and longer buckets are not near such a place:
 * all instants before one have earlier local times, and no others.  So what
 * is true of local times on one side of an edge is of the instants there.
 */
static bool
bounds_of_key(ScMatch *m, int key, Node *left, Node *right, int strategy,
			  List **bounds)
{
	ScBucket   *b = &m->buckets[key];
	bool		lower = strategy == BTGreaterEqualStrategyNumber ||
		strategy == BTGreaterStrategyNumber;
	bool		after = strategy == BTGreaterStrategyNumber ||
		strategy == BTLessEqualStrategyNumber;
	bool		exact = strategy == BTEqualStrategyNumber;
	Expr	   *value = (Expr *) copyObject(right);
	Expr	   *from;
	Expr	   *next;

	if (equal(left, b->instant ? b->instant : b->local))
		return !exact && add_bound(m, key, bounds, sc_bound_as(value, exprType(left)),
								   lower, after);
	if (b->instant && sc_bucket_guard_seconds(b->unit) != 0)
		return false;
	if (equal(left, b->local))
		return !exact && add_bound(m, key, bounds,
								   raw_of_local(b, sc_bound_as(value, TIMESTAMPOID)),
								   lower, after);
	if (!IsA(left, FuncExpr))
		return false;
	if (!date_bounds(b, (FuncExpr *) left, right, &from, &next) &&
		!((((FuncExpr *) left)->funcid == F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT ||
		   ((FuncExpr *) left)->funcid == F_DATE_TRUNC_TEXT_TIMESTAMP) &&
		  cut_bounds(b, (FuncExpr *) left, right, &from, &next)))
		return false;
	from = raw_of_local(b, from);
	next = raw_of_local(b, next);
	if (exact)
		return add_bound(m, key, bounds, from, true, false) &&
			add_bound(m, key, bounds, next, false, false);
	/* What is no start of a unit lies between two. */
	return add_bound(m, key, bounds, after || from == NULL ? next : from, lower, false);
}

/* The bounds that a comparison is, or NIL. */
static List *
bounds_of(ScMatch *m, OpExpr *op)
{
	Node	   *left;
	Node	   *right;
	Oid			opno = op->opno;
	int			strategy;

	if (!IsA(op, OpExpr) || list_length(op->args) != 2)
		return NIL;
	left = linitial(op->args);
	right = lsecond(op->args);
	if (!bms_is_member(m->srcvarno, pull_varnos(m->root, left)))
	{
		Node	   *swap = left;

		left = right;
		right = swap;
		opno = get_commutator(opno);
	}
	if (!OidIsValid(opno) || contain_var_clause(right) ||
		contain_volatile_functions(right) || contain_subplans(right))
		return NIL;
	strategy = get_op_opfamily_strategy(opno, time_family());
	if (strategy == 0)
		return NIL;
	for (int i = 0; i < m->spec->nkeys; i++)
	{
		List	   *bounds = NIL;

		if (m->buckets[i].unit != SC_UNIT_NONE &&
			bounds_of_key(m, i, left, right, strategy, &bounds))
			return bounds;
	}
	return NIL;
}

/* Is the key of a group beyond the bound's edge, on the inside? */
static Expr *
inside_edge(ScMatch *m, ScBound *bound)
{
	ScBucket   *b = &m->buckets[bound->key];
	Oid			type = exprType((Node *) bound->time);
	Oid			cmp = get_opfamily_member(time_family(), type, type,
										  bound->lower ? BTGreaterEqualStrategyNumber :
										  BTLessStrategyNumber);

	return make_opclause(cmp, BOOLOID, false,
						 copyObject(b->instant ? b->instant_start : b->local_start),
						 bound->edge, InvalidOid, InvalidOid);
}

/*
 * A comparison of the time of a bucket with something that is the same for
 * all rows: add its bounds, and quals on the key.  False if it is none.
 */
bool
sc_bucket_range(ScMatch *m, OpExpr *op)
{
	List	   *bounds = bounds_of(m, op);
	ListCell   *lc;

	foreach(lc, bounds)
	{
		ScBound    *bound = lfirst(lc);

		m->ragged |= bound->where == SC_BOUND_INSIDE;
		m->edges |= bound->where != SC_BOUND_EDGE;
		if (bound->where != SC_BOUND_EDGE || !IsA(bound->edge, Const))
			m->bounds = lappend(m->bounds, bound);
		/* Whole buckets from the edge on, or before it. */
		m->quals = lappend(m->quals, inside_edge(m, bound));
	}
	return bounds != NIL;
}

/* CASE WHEN a = b THEN a END */
static Expr *
if_equal(Expr *a, Expr *b)
{
	Oid			type = exprType((Node *) a);
	CaseExpr   *result = makeNode(CaseExpr);
	CaseWhen   *when = makeNode(CaseWhen);
	Oid			eq = get_opfamily_member(time_family(), type, type, BTEqualStrategyNumber);

	when->expr = make_opclause(eq, BOOLOID, false, copyObject(a), copyObject(b),
							   InvalidOid, InvalidOid);
	when->result = copyObject(a);
	when->location = -1;
	result->casetype = type;
	result->args = list_make1(when);
	result->defresult = (Expr *) makeNullConst(type, -1, InvalidOid);
	result->location = -1;
	return (Expr *) result;
}

/*
 * The same as an expression over the base table, for where rows beyond the
 * edges could not be looked up; NULL if there are some.  When the query
 * starts this is looked at again, unless all is known.
 */
Expr *
sc_bucket_compare(ScMatch *m, OpExpr *op)
{
	List	   *bounds = bounds_of(m, op);
	List	   *tests = NIL;
	ListCell   *lc;

	foreach(lc, bounds)
		if (((ScBound *) lfirst(lc))->where == SC_BOUND_INSIDE)
			return NULL;
	foreach(lc, bounds)
	{
		ScBound    *bound = lfirst(lc);

		tests = lappend(tests, inside_edge(m, bound));
		if (IsA(bound->edge, Const) && bound->where == SC_BOUND_EDGE)
			continue;
		/* An edge that is NULL is taken for one of which nothing is known. */
		bound->edge = if_equal(bound->edge, bound->outer);
		bound->strict = true;
		m->bounds = lappend(m->bounds, bound);
	}
	return tests ? make_ands_explicit(tests) : NULL;
}

/* ---- clocks ---- */

/*
 * Does the zone's offset change at an instant after "from" and before "to",
 * so that the local time "local" (seconds since 1970, unless NULL) runs
 * twice, or at all?
 */
static bool
clock_is_set(const char *zone, pg_time_t from, pg_time_t to,
			 const pg_time_t *local)
{
	pg_tz	   *tz = pg_tzset(zone);
	pg_time_t	t = from;

	if (tz == NULL)
		return true;
	for (;;)
	{
		long		before,
					after;
		int			isdst;
		pg_time_t	boundary;

		if (pg_next_dst_boundary(&t, &before, &isdst, &boundary, &after, &isdst, tz) <= 0)
			return false;
		if (boundary >= to)
			return false;
		if (local == NULL ? before != after :
			(before > after && boundary + after <= *local && *local < boundary + before))
			return true;
		t = boundary;
	}
}

static pg_time_t
seconds_of(int64 timestamp)
{
	int64		days = POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE;
	int64		seconds = timestamp / USECS_PER_SEC;

	if (timestamp % USECS_PER_SEC < 0)
		seconds--;
	return (pg_time_t) (seconds + days * SECS_PER_DAY);
}

/* Is a bucket of some seconds that starts here in one piece? */
bool
sc_bucket_is_whole(Oid type, Datum start, const char *zone, int seconds)
{
	TimestampTz t = DatumGetTimestampTz(start);
	pg_time_t	from;

	if (type != TIMESTAMPTZOID || TIMESTAMP_NOT_FINITE(t))
		return true;
	from = seconds_of(t);
	return !clock_is_set(zone, from, from + seconds, NULL);
}

/*
 * Is an instant that starts a bucket one where all instants before it are in
 * earlier buckets, and all others not?
 */
bool
sc_bucket_is_edge(Oid type, Datum value, const char *zone, int seconds)
{
	TimestampTz t = DatumGetTimestampTz(value);
	Timestamp	local;
	pg_time_t	from;
	pg_time_t	wall;

	if (TIMESTAMP_NOT_FINITE(t))
		return false;
	if (type != TIMESTAMPTZOID)
		return true;
	from = seconds_of(t);
	if (seconds > 0)
		return !clock_is_set(zone, from, from + seconds, NULL);
	local = DatumGetTimestamp(DirectFunctionCall2(timestamptz_zone,
												  CStringGetTextDatum(zone), value));
	wall = seconds_of(local);
	return !clock_is_set(zone, from - 2 * SECS_PER_DAY, from + 2 * SECS_PER_DAY, &wall);
}

/* bucket_is_split(start, zone, seconds) */
Datum
scalecache_bucket_is_split(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(!sc_bucket_is_whole(TIMESTAMPTZOID, PG_GETARG_DATUM(0),
									   text_to_cstring(PG_GETARG_TEXT_PP(1)),
									   PG_GETARG_INT32(2)));
}

/* The same as an expression, for a key that is guarded. */
Expr *
sc_bucket_is_split_call(ScBucket *bucket, Node *key)
{
	Oid			types[] = {TIMESTAMPTZOID, TEXTOID, INT4OID};
	Oid			funcid = LookupFuncName(list_make2(makeString("scalecache"),
												   makeString("bucket_is_split")),
										3, types, false);
	int			seconds = sc_bucket_guard_seconds(bucket->unit);

	return call(funcid, BOOLOID,
				list_make3(key, copyObject(bucket->zone),
						   makeConst(INT4OID, -1, InvalidOid, sizeof(int32),
									 Int32GetDatum(seconds), false, true)), InvalidOid);
}
