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
 *
 * Bins, which are all of one length, know no clocks: those of instants are
 * taken for local times of UTC.
 */
#include "postgres.h"

#include <ctype.h>

#include "access/stratnum.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "parser/scansup.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "rollup/rewrite.h"

PG_FUNCTION_INFO_V1(scalecache_bucket_is_split);

static bool zone_skips_days(const char *zone);

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
	/* The year 2000 is of the 20th century, others of its decade are not. */
	if (bucket == SC_UNIT_DECADE)
		return wanted == bucket;
	return bucket <= wanted;
}

/* ---- bins ---- */

/* As of a division that rounds down. */
int64
sc_modulo(int64 a, int64 b)
{
	int64		rest = a % b;

	return rest < 0 ? rest + b : rest;
}

/* So far that arithmetic might overflow, or infinite? */
static bool
is_far(Timestamp t)
{
	return t < MIN_TIMESTAMP / 2 || t > DT_NOEND / 4;
}

/* Are bins of this length and origin of a size that can be reckoned with? */
bool
sc_bin_is_sound(int64 stride, int64 origin)
{
	return stride > 0 && stride <= INT64CONST(36525) * USECS_PER_DAY && !is_far(origin);
}

/* Versions differ in where date_bin puts the start of a bin before the origin. */
static bool
bins_have_their_starts(void)
{
	static int	known = -1;

	if (known < 0)
	{
		Interval	hour = {.time = USECS_PER_HOUR};

		known = DatumGetTimestamp(DirectFunctionCall3(timestamp_bin, IntervalPGetDatum(&hour),
													  TimestampGetDatum(-USECS_PER_HOUR),
													  TimestampGetDatum(0))) == -USECS_PER_HOUR;
	}
	return known;
}

/* The bins of a call of date_bin; false: they are not known, or not usual. */
static bool
bins_of(FuncExpr *f, int64 *stride, int64 *origin)
{
	Const	   *length = linitial(f->args);
	Const	   *start = lthird(f->args);
	Interval   *i;

	if (!IsA(length, Const) || length->constisnull || !IsA(start, Const) || start->constisnull)
		return false;
	i = DatumGetIntervalP(length->constvalue);
	if (i->month != 0 || i->day < 0 || i->day > 36525 || i->time < 0 ||
		i->time > INT64CONST(36525) * USECS_PER_DAY)
		return false;
	*stride = i->day * USECS_PER_DAY + i->time;
	*origin = DatumGetTimestamp(start->constvalue);
	return sc_bin_is_sound(*stride, *origin) && bins_have_their_starts();
}

/* Length of units that are all of one, and a time at which one starts; or 0. */
static int64
unit_length(ScUnit unit, int64 *start)
{
	*start = 0;					/* 2000-01-01, a Saturday */
	switch (unit)
	{
		case SC_UNIT_SECOND:
			return USECS_PER_SEC;
		case SC_UNIT_MINUTE:
			return USECS_PER_MINUTE;
		case SC_UNIT_HOUR:
			return USECS_PER_HOUR;
		case SC_UNIT_DAY:
			return USECS_PER_DAY;
		case SC_UNIT_WEEK:
			*start = 2 * USECS_PER_DAY;
			return 7 * USECS_PER_DAY;
		default:
			return 0;
	}
}

/* Is each of a bucket's own within one bin? */
static bool
lies_in_bins(ScBucket *bucket, int64 stride, int64 origin)
{
	int64		start = bucket->origin;
	int64		length = bucket->unit == SC_UNIT_BIN ? bucket->stride :
		unit_length(bucket->unit, &start);

	return length > 0 && stride % length == 0 && sc_modulo(origin - start, length) == 0;
}

/* Does the start of a bucket tell what all of the bucket have in a unit? */
static bool
bucket_serves(ScBucket *bucket, ScUnit wanted)
{
	int64		start;
	int64		length;

	if (bucket->unit != SC_UNIT_BIN)
		return unit_serves(bucket->unit, wanted);
	/* Units above days are made of days. */
	length = unit_length(Min(wanted, SC_UNIT_DAY), &start);
	return length > 0 && length % bucket->stride == 0 &&
		sc_modulo(bucket->origin, bucket->stride) == 0;
}

/* Has the zone one offset from UTC, always? */
static bool
is_fixed(Const *zone, long *offset)
{
	pg_tz	   *tz = pg_tzset(TextDatumGetCString(zone->constvalue));

	return tz && pg_get_timezone_offset(tz, offset);
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

/* Is it the local start of a bucket of a day or longer?  Fill the bucket, then. */
static bool
cuts_to_days(ScBucket *bucket, Expr *expr)
{
	FuncExpr   *f = (FuncExpr *) expr;
	FuncExpr   *cut = f;

	if (!IsA(f, FuncExpr))
		return false;
	if (f->funcid == F_TIMEZONE_TEXT_TIMESTAMPTZ)
		cut = lsecond(f->args);
	if (!IsA(cut, FuncExpr) ||
		cut->funcid != (cut == f ? F_DATE_TRUNC_TEXT_TIMESTAMP : F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT) ||
		(cut != f && (!IsA(linitial(f->args), Const) ||
					  !equal(linitial(f->args), lthird(cut->args)))) ||
		sc_time_unit(linitial(cut->args), false) < SC_UNIT_DAY)
		return false;
	bucket->unit = sc_time_unit(linitial(cut->args), false);
	look_through_zone(bucket, cut == f ? lsecond(f->args) :
					  call(F_TIMEZONE_TEXT_TIMESTAMPTZ, TIMESTAMPOID,
						   list_make2(linitial(f->args), lsecond(cut->args)),
						   DEFAULT_COLLATION_OID));
	return true;
}

/* Of a bucket with a zone: var is the instant at which it starts. */
static void
start_at(ScBucket *bucket, Expr *var)
{
	bucket->local = call(F_TIMEZONE_TEXT_TIMESTAMPTZ, TIMESTAMPOID,
						 list_make2(bucket->zone, bucket->instant),
						 DEFAULT_COLLATION_OID);
	bucket->instant_start = var;
	bucket->local_start = call(F_TIMEZONE_TEXT_TIMESTAMPTZ, TIMESTAMPOID,
							   list_make2(bucket->zone, var),
							   DEFAULT_COLLATION_OID);
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
			start_at(bucket, var);
			return;
		case F_DATE_TRUNC_TEXT_TIMESTAMP:
			bucket->unit = sc_time_unit(linitial(f->args), false);
			look_through_zone(bucket, lsecond(f->args));
			bucket->local_start = var;
			break;
		case F_DATE_TIMESTAMP:
			if (!cuts_to_days(bucket, linitial(f->args)))
			{
				bucket->unit = SC_UNIT_DAY;
				look_through_zone(bucket, linitial(f->args));
			}
			bucket->local_start = call(F_TIMESTAMP_DATE, TIMESTAMPOID,
									   list_make1(var), InvalidOid);
			break;
		case F_DATE_BIN_INTERVAL_TIMESTAMP_TIMESTAMP:
			if (!bins_of(f, &bucket->stride, &bucket->origin))
				return;
			bucket->unit = SC_UNIT_BIN;
			bucket->local = lsecond(f->args);
			bucket->local_start = var;
			return;
		case F_DATE_BIN_INTERVAL_TIMESTAMPTZ_TIMESTAMPTZ:
			if (!bins_of(f, &bucket->stride, &bucket->origin))
				return;
			bucket->unit = SC_UNIT_BIN;
			bucket->instant = lsecond(f->args);
			bucket->zone = makeConst(TEXTOID, -1, DEFAULT_COLLATION_OID, -1,
									 CStringGetTextDatum("UTC"), false, false);
			start_at(bucket, var);
			return;
		default:
			return;
	}
	if (bucket->instant)
		bucket->instant_start = call(F_TIMEZONE_TEXT_TIMESTAMP, TIMESTAMPTZOID,
									 list_make2(bucket->zone, bucket->local_start),
									 DEFAULT_COLLATION_OID);
}

/*
 * The date that a bucket's time is the start of, a column perhaps; or NULL.
 * Where a zone has skipped a day, that starts when the next one does.
 */
Expr *
sc_bucket_day(ScBucket *bucket)
{
	FuncExpr   *f = (FuncExpr *) (bucket->instant ? bucket->instant : bucket->local);

	if (bucket->instant)
	{
		if (!IsA(f, FuncExpr) || f->funcid != F_TIMEZONE_TEXT_TIMESTAMP ||
			!equal(linitial(f->args), bucket->zone) ||
			zone_skips_days(TextDatumGetCString(bucket->zone->constvalue)))
			return NULL;
		f = lsecond(f->args);
	}
	return f && IsA(f, FuncExpr) && f->funcid == F_TIMESTAMP_DATE ? linitial(f->args) : NULL;
}

/* Is it the date of a bucket's time? */
static bool
is_date_of(ScBucket *bucket, Node *node)
{
	FuncExpr   *f = (FuncExpr *) node;
	Expr	   *day = sc_bucket_day(bucket);

	return (day && equal(node, day)) ||
		(IsA(f, FuncExpr) && f->funcid == F_DATE_TIMESTAMP &&
		 equal(linitial(f->args), bucket->local));
}

/* Is it the midnight that a bucket's time is made of, in no zone? */
static bool
is_start_of(ScBucket *bucket, Node *node)
{
	FuncExpr   *f = (FuncExpr *) node;
	Expr	   *day = sc_bucket_day(bucket);

	return day && bucket->instant && IsA(f, FuncExpr) && f->funcid == F_TIMESTAMP_DATE &&
		equal(linitial(f->args), day);
}

/* The date of a bucket's start, as a date or its midnight. */
static Expr *
day_of_start(ScBucket *bucket, Oid type)
{
	return sc_bound_as(call(F_DATE_TIMESTAMP, DATEOID, list_make1(copyObject(bucket->local_start)),
							InvalidOid), type);
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
	int64		stride = 0;		/* of bins */
	int64		origin = 0;
	long		offset = 0;

	if (!IsA(f, FuncExpr))
		return NULL;
	switch (f->funcid)
	{
		case F_DATE_BIN_INTERVAL_TIMESTAMP_TIMESTAMP:
		case F_DATE_BIN_INTERVAL_TIMESTAMPTZ_TIMESTAMPTZ:
			if (!bins_of(f, &stride, &origin))
				return NULL;
			unit = SC_UNIT_BIN;
			pos = 1;
			break;
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
		case F_EXTRACT_TEXT_DATE:
			unit = sc_time_unit(linitial(f->args), true);
			/* There are no hours of dates. */
			if (unit < SC_UNIT_DAY)
				return NULL;
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
		ScBucket   *b = sc_match_bucket(m, i);
		bool		instant = f->funcid == F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT ||
			f->funcid == F_DATE_BIN_INTERVAL_TIMESTAMPTZ_TIMESTAMPTZ;
		bool		date = f->funcid == F_EXTRACT_TEXT_DATE;

		if (!(stride > 0 ? lies_in_bins(b, stride, origin) : bucket_serves(b, unit)))
			continue;
		if (date)
		{
			/* A key itself is taken as it is. */
			if (equal(time, m->keys[i]))
				return NULL;
			if (!is_date_of(b, time))
				continue;
		}
		else if (instant)
		{
			if (b->instant == NULL || !equal(b->instant, time) ||
				!(stride > 0 ? is_fixed(b->zone, &offset) && offset == 0 :
				  equal(b->zone, lthird(f->args))))
				continue;
		}
		else if (unit >= SC_UNIT_DAY && is_start_of(b, time))
			date = true;
		else if (!equal(b->local, time))
			continue;
		/* A local time that is cut does not meet the clock again. */
		if (b->instant && b->unit < SC_UNIT_DAY && !is_fixed(b->zone, &offset))
		{
			if (b->local_start != NULL && !IsA(b->local_start, Var))
				m->guards = list_append_unique_int(m->guards, i);
			else if (instant)
				continue;
		}
		copy = copyObject(f);
		list_nth_cell(copy->args, pos)->ptr_value =
			copyObject(instant ? b->instant_start : b->local_start);
		if (date)
			list_nth_cell(copy->args, pos)->ptr_value =
				day_of_start(b, exprType(time));
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

/*
 * Can the start of a day be told?  Dates go on for longer than timestamps, and
 * are compared with these nevertheless.
 */
static bool
has_start(Expr *day)
{
	Const	   *c = (Const *) day;
	DateADT		d;

	if (!IsA(day, Const) || c->constisnull)
		return true;
	d = DatumGetDateADT(c->constvalue);
	/* Two days for the time zone, and the day after. */
	return DATE_NOT_FINITE(d) || (d > DATETIME_MIN_JULIAN - POSTGRES_EPOCH_JDATE + 2 &&
								  d < TIMESTAMP_END_JULIAN - POSTGRES_EPOCH_JDATE - 2);
}

/*
 * A bound as a value of the type of the time it is compared with; NULL: there
 * is none.
 */
Expr *
sc_bound_as(Expr *bound, Oid type)
{
	Oid			from = exprType((Node *) bound);

	if (from == type)
		return bound;
	if (from == DATEOID && !has_start(bound))
		return NULL;
	if (from == DATEOID && type == TIMESTAMPOID)
		return call(F_TIMESTAMP_DATE, type, list_make1(bound), InvalidOid);
	if (from == DATEOID && type == TIMESTAMPTZOID)
		return call(F_TIMESTAMPTZ_DATE, type, list_make1(bound), InvalidOid);
	if (from == TIMESTAMPOID && type == TIMESTAMPTZOID)
		return call(F_TIMESTAMPTZ_TIMESTAMP, type, list_make1(bound), InvalidOid);
	return NULL;
}

/* A bound that is a local time, as one of the raw time; NULL: there is none. */
static Expr *
raw_of_local(ScBucket *b, Expr *local)
{
	if (local == NULL || b->instant == NULL)
		return local;
	if (IsA(local, Const) && !((Const *) local)->constisnull)
	{
		Timestamp	t = DatumGetTimestamp(((Const *) local)->constvalue);

		/* The zone may put it beyond the last instant that there is. */
		if (!TIMESTAMP_NOT_FINITE(t) && (t < MIN_TIMESTAMP + 2 * USECS_PER_DAY ||
										 t > END_TIMESTAMP - 2 * USECS_PER_DAY))
			return NULL;
	}
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
	if (is_far(t))
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
date_bounds(ScBucket *b, Node *date, Node *value, Expr **from, Expr **next)
{
	Const	   *c = (Const *) value;
	Expr	   *day;
	Timestamp	t;
	Timestamp	start;

	if (!is_date_of(b, date))
		return false;
	/* As in date >= date '2024-01-01' + interval '1 month'. */
	if (exprType(value) == TIMESTAMPOID && IsA(c, Const) && !c->constisnull)
	{
		t = DatumGetTimestamp(c->constvalue);
		if (is_far(t))
			return false;
		start = t - t % USECS_PER_DAY - (t % USECS_PER_DAY < 0 ? USECS_PER_DAY : 0);
		*from = start < t ? NULL : timestamp_const(TimestampGetDatum(start));
		*next = timestamp_const(TimestampGetDatum(start + USECS_PER_DAY));
		return true;
	}
	if (exprType(value) != DATEOID || !has_start((Expr *) value))
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
	ScBucket   *b = sc_match_bucket(m, key);
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
 * Nor are any edges of a zone that has one offset.
 */
static bool
bounds_of_key(ScMatch *m, int key, Node *left, Node *right, int strategy,
			  List **bounds)
{
	ScBucket   *b = sc_match_bucket(m, key);
	bool		lower = strategy == BTGreaterEqualStrategyNumber ||
		strategy == BTGreaterStrategyNumber;
	bool		after = strategy == BTGreaterStrategyNumber ||
		strategy == BTLessEqualStrategyNumber;
	bool		exact = strategy == BTEqualStrategyNumber;
	Expr	   *value = (Expr *) copyObject(right);
	Expr	   *from;
	Expr	   *next;
	long		offset;

	if (equal(left, b->instant ? b->instant : b->local))
		return !exact && add_bound(m, key, bounds, sc_bound_as(value, exprType(left)),
								   lower, after);
	if (b->instant && sc_bucket_guard_seconds(b->unit) != 0 && !is_fixed(b->zone, &offset))
		return false;
	if (equal(left, b->local))
		return !exact && add_bound(m, key, bounds,
								   raw_of_local(b, sc_bound_as(value, TIMESTAMPOID)),
								   lower, after);
	if (!date_bounds(b, left, right, &from, &next) &&
		!(IsA(left, FuncExpr) &&
		  (((FuncExpr *) left)->funcid == F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT ||
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

		if (sc_match_bucket(m, i)->unit != SC_UNIT_NONE &&
			bounds_of_key(m, i, left, right, strategy, &bounds))
			return bounds;
	}
	return NIL;
}

/* Is the key of a group beyond the bound's edge, on the inside? */
static Expr *
inside_edge(ScMatch *m, ScBound *bound)
{
	ScBucket   *b = sc_match_bucket(m, bound->key);
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

/* Has the zone, or will it have, a date that it leaves out? */
static bool
zone_skips_days(const char *zone)
{
	static char last[TZ_STRLEN_MAX + 1] = "";
	static bool skips;
	const pg_time_t end = (pg_time_t) (3000 - 1970) * 366 * SECS_PER_DAY;
	pg_tz	   *tz;
	pg_time_t	t = (pg_time_t) (1000 - 1970) * 366 * SECS_PER_DAY;

	if (strcmp(zone, last) == 0)
		return skips;
	tz = pg_tzset(zone);
	if (tz == NULL)
		return true;
	skips = false;
	while (t < end && !skips)
	{
		long		before,
					after;
		int			isdst;
		pg_time_t	boundary;

		if (pg_next_dst_boundary(&t, &before, &isdst, &boundary, &after, &isdst, tz) <= 0)
			break;
		skips = after - before >= SECS_PER_DAY - SECS_PER_HOUR;
		t = boundary;
	}
	strlcpy(last, zone, sizeof(last));
	return skips;
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
	Oid			funcid = sc_own_function("bucket_is_split", 3, types);
	int			seconds = sc_bucket_guard_seconds(bucket->unit);

	if (!OidIsValid(funcid))
		elog(ERROR, "function bucket_is_split has gone");
	return call(funcid, BOOLOID,
				list_make3(key, copyObject(bucket->zone),
						   makeConst(INT4OID, -1, InvalidOid, sizeof(int32),
									 Int32GetDatum(seconds), false, true)), InvalidOid);
}
