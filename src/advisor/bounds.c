/*-------------------------------------------------------------------------
 *
 * bounds.c
 *	  Ranges in conditions: which they are, and what a person calls them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "lib/stringinfo.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "advisor/choose.h"

/* Is it a date, a time, or both? */
bool
sc_is_time(Node *expr)
{
	char		category;
	bool		preferred;

	get_type_category_preferred(exprType(expr), &category, &preferred);
	return category == TYPCATEGORY_DATETIME;
}

/* Does a clause compare a column with a constant?  *bound says how. */
bool
sc_bound_of(Node *clause, ScBound *bound)
{
	OpExpr	   *op = (OpExpr *) clause;
	Oid			opno;
	Node	   *left;
	Node	   *right;
	Oid			opclass;

	if (!IsA(clause, OpExpr) || list_length(op->args) != 2)
		return false;
	opno = op->opno;
	left = sc_strip((Node *) linitial(op->args));
	right = sc_strip((Node *) lsecond(op->args));
	if (IsA(right, Var))
	{
		Node	   *swap = left;

		left = right;
		right = swap;
		opno = get_commutator(opno);
	}
	if (!IsA(left, Var) || !IsA(right, Const) || !OidIsValid(opno))
		return false;
	opclass = GetDefaultOpClass(exprType(left), BTREE_AM_OID);
	if (!OidIsValid(opclass))
		return false;
	bound->column = (Var *) left;
	bound->value = (Const *) right;
	bound->strategy = get_op_opfamily_strategy(opno,
											   get_opclass_family(opclass));
	return bound->strategy != 0;
}

/*
 * What people call a range
 */

/* The day, counted from 2000-01-01, that a time begins; false if it begins none. */
static bool
day_of(Const *value, DateADT *day)
{
	Timestamp	time;
	struct pg_tm tm;
	fsec_t		fsec;
	int			tz;
	bool		zoned = value->consttype == TIMESTAMPTZOID;

	if (value->constisnull)
		return false;
	if (value->consttype == DATEOID)
	{
		*day = DatumGetDateADT(value->constvalue);
		return !DATE_NOT_FINITE(*day);
	}
	if (value->consttype != TIMESTAMPOID && !zoned)
		return false;
	time = DatumGetTimestamp(value->constvalue);
	if (TIMESTAMP_NOT_FINITE(time) ||
		timestamp2tm(time, zoned ? &tz : NULL, &tm, &fsec, NULL, NULL) != 0 ||
		tm.tm_hour != 0 || tm.tm_min != 0 || tm.tm_sec != 0 || fsec != 0)
		return false;
	*day = date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) - POSTGRES_EPOCH_JDATE;
	return true;
}

static void
decode_day(DateADT day, int *year, int *month, int *mday)
{
	j2date(day + POSTGRES_EPOCH_JDATE, year, month, mday);
}

static void
append_value(StringInfo buf, Const *value)
{
	DateADT		day;
	int			year;
	int			month;
	int			mday;
	Oid			output;
	bool		isvarlena;

	if (day_of(value, &day))
	{
		decode_day(day, &year, &month, &mday);
		if (year > 0)
		{
			appendStringInfo(buf, "%04d-%02d-%02d", year, month, mday);
			return;
		}
	}
	getTypeOutputInfo(value->consttype, &output, &isvarlena);
	appendStringInfoString(buf, OidOutputFunctionCall(output,
													  value->constvalue));
}

/* One year, month or day from low to before high, if it is one. */
static bool
append_period(StringInfo buf, ScBound *low, ScBound *high)
{
	DateADT		from;
	DateADT		until;
	int			year[2];
	int			month[2];
	int			mday[2];

	if (!day_of(low->value, &from) || !day_of(high->value, &until))
		return false;
	/* Days are whole numbers. */
	if (low->strategy == BTGreaterStrategyNumber)
	{
		if (low->value->consttype != DATEOID ||
			exprType((Node *) low->column) != DATEOID)
			return false;
		from++;
	}
	if (high->strategy == BTLessEqualStrategyNumber)
	{
		if (high->value->consttype != DATEOID ||
			exprType((Node *) high->column) != DATEOID)
			return false;
		until++;
	}
	decode_day(from, &year[0], &month[0], &mday[0]);
	decode_day(until, &year[1], &month[1], &mday[1]);
	if (year[0] <= 0)
		return false;
	if (until == from + 1)
		appendStringInfo(buf, " on %04d-%02d-%02d", year[0], month[0], mday[0]);
	else if (mday[0] != 1 || mday[1] != 1)
		return false;
	else if (month[0] == 1 && month[1] == 1 && year[1] == year[0] + 1)
		appendStringInfo(buf, " in %04d", year[0]);
	else if (year[0] * 12 + month[0] + 1 == year[1] * 12 + month[1])
		appendStringInfo(buf, " in %04d-%02d", year[0], month[0]);
	else
		return false;
	return true;
}

static void
append_bound(StringInfo buf, ScBound *bound)
{
	static const char *const signs[] = {"<", "<=", "=", ">=", ">"};

	appendStringInfo(buf, " %s ", signs[bound->strategy - 1]);
	append_value(buf, bound->value);
}

/* Is a clause an end of a range of a column of numbers or times? */
static bool
is_end(Node *clause, ScBound *bound)
{
	char		category;
	bool		preferred;

	if (!sc_bound_of(clause, bound) || bound->value->constisnull ||
		bound->strategy == BTEqualStrategyNumber)
		return false;
	get_type_category_preferred(exprType((Node *) bound->column), &category,
								&preferred);
	return category == TYPCATEGORY_NUMERIC || category == TYPCATEGORY_DATETIME;
}

/* The ends of a range of one column: of ScBound. */
static List *
ends_of(List *pred, AttrNumber attnum)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, pred)
	{
		ScBound		bound;

		if (is_end((Node *) lfirst(lc), &bound) &&
			bound.column->varattno == attnum)
			result = lappend(result, memcpy(palloc(sizeof(ScBound)), &bound,
											sizeof(ScBound)));
	}
	return result;
}

static void
append_range(StringInfo buf, List *ends)
{
	ScBound    *one = (ScBound *) linitial(ends);
	ScBound    *other = (ScBound *) llast(ends);
	ListCell   *lc;

	if (list_length(ends) == 2)
	{
		ScBound    *low = one->strategy > other->strategy ? one : other;
		ScBound    *high = low == one ? other : one;

		if (low->strategy > BTEqualStrategyNumber &&
			high->strategy < BTEqualStrategyNumber)
		{
			if (append_period(buf, low, high))
				return;
			ends = list_make2(low, high);
		}
	}
	foreach(lc, ends)
	{
		if (foreach_current_index(lc) > 0)
			appendStringInfoString(buf, " and");
		append_bound(buf, (ScBound *) lfirst(lc));
	}
}

/*
 * Append for which ranges alone a predicate lets an index be used, as "x in
 * 1994 and y < 24"; returns the other clauses.
 */
List *
sc_bounds_append(StringInfo buf, Oid relid, List *pred)
{
	List	   *rest = NIL;
	Bitmapset  *done = NULL;
	ListCell   *lc;

	foreach(lc, pred)
	{
		ScBound		bound;
		AttrNumber	attnum;

		if (!is_end((Node *) lfirst(lc), &bound))
		{
			rest = lappend(rest, lfirst(lc));
			continue;
		}
		attnum = bound.column->varattno;
		if (bms_is_member(attnum, done))
			continue;
		appendStringInfo(buf, "%s%s", done == NULL ? "" : " and ",
						 quote_identifier(get_attname(relid, attnum, false)));
		done = bms_add_member(done, attnum);
		append_range(buf, ends_of(pred, attnum));
	}
	return rest;
}
