/*
 * query.c: which queries can be a rollup, and how they are written down.
 *
 * A query is refused unless its answer follows from the rows of its tables
 * alone.  What depends on the session's time zone is pinned to the zone of
 * creation, so that the stored query means the same in every session.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "parser/parsetree.h"
#include "pgtime.h"
#include "rewrite/rewriteManip.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "base/owner.h"
#include "base/position.h"
#include "rollup/rollup.h"

PG_FUNCTION_INFO_V1(scalecache_rollup_query);

static bool check_walker(Node *node, void *context);

static void
refuse(const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("rollup query has %s", what),
			 errdetail("A rollup is one SELECT from tables, with GROUP BY and aggregates."),
			 errhint("%s", hint)));
}

/* Functions of timestamptz that depend on nothing but the time zone. */
static Expr *
at_zone(Node *arg, text *zone)
{
	return (Expr *) makeFuncExpr(F_TIMEZONE_TEXT_TIMESTAMPTZ, TIMESTAMPOID,
								 list_make2(makeConst(TEXTOID, -1, DEFAULT_COLLATION_OID, -1,
													  PointerGetDatum(zone), false, false),
											arg),
								 InvalidOid, DEFAULT_COLLATION_OID, COERCE_EXPLICIT_CALL);
}

/* The same for what makes a timestamptz of a local time. */
static Expr *
from_zone(Node *arg, text *zone)
{
	return (Expr *) makeFuncExpr(F_TIMEZONE_TEXT_TIMESTAMP, TIMESTAMPTZOID,
								 list_make2(makeConst(TEXTOID, -1, DEFAULT_COLLATION_OID, -1,
													  PointerGetDatum(zone), false, false),
											arg),
								 InvalidOid, DEFAULT_COLLATION_OID, COERCE_EXPLICIT_CALL);
}

/* What at_zone or from_zone was given, if with this zone; else NULL. */
static Node *
zone_arg(Node *node, Oid funcid, text *zone)
{
	FuncExpr   *f = (FuncExpr *) node;
	Const	   *name;

	if (!IsA(node, FuncExpr) || f->funcid != funcid ||
		f->funcformat != COERCE_EXPLICIT_CALL)
		return NULL;
	name = linitial(f->args);
	if (!IsA(name, Const) || name->constisnull ||
		!DatumGetBool(DirectFunctionCall2Coll(texteq, DEFAULT_COLLATION_OID,
											  name->constvalue,
											  PointerGetDatum(zone))))
		return NULL;
	return lsecond(f->args);
}

static Node *
zoned(Node *node, text *zone)
{
	return zone_arg(node, F_TIMEZONE_TEXT_TIMESTAMPTZ, zone);
}

/* The reverse of pin_zone, to show. */
static Node *
unpin_zone(Node *node, void *zone)
{
	FuncExpr   *f;
	Node	   *arg;

	if (node == NULL)
		return NULL;
	if (IsA(node, Query))
		return (Node *) query_tree_mutator((Query *) node, unpin_zone, zone, 0);
	if ((arg = zoned(node, zone)) != NULL)
		return (Node *) makeFuncExpr(F_TIMESTAMP_TIMESTAMPTZ, TIMESTAMPOID,
									 list_make1(unpin_zone(arg, zone)),
									 InvalidOid, InvalidOid,
									 COERCE_EXPLICIT_CAST);
	if ((arg = zone_arg(node, F_TIMEZONE_TEXT_TIMESTAMP, zone)) != NULL)
		return (Node *) makeFuncExpr(F_TIMESTAMPTZ_TIMESTAMP, TIMESTAMPTZOID,
									 list_make1(unpin_zone(arg, zone)),
									 InvalidOid, InvalidOid,
									 COERCE_EXPLICIT_CAST);
	if (IsA(node, FuncExpr))
	{
		int			n = list_length(((FuncExpr *) node)->args);

		f = (FuncExpr *) copyObject(node);
		if (f->funcid == F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT &&
			IsA(lthird(f->args), Const) &&
			DatumGetBool(DirectFunctionCall2Coll(texteq, DEFAULT_COLLATION_OID,
												 ((Const *) lthird(f->args))->constvalue,
												 PointerGetDatum((text *) zone))))
		{
			f->funcid = F_DATE_TRUNC_TEXT_TIMESTAMPTZ;
			f->args = list_truncate(f->args, 2);
		}
		else if (f->funcid == F_TO_CHAR_TIMESTAMP_TEXT &&
				 (arg = zoned(linitial(f->args), zone)) != NULL)
		{
			f->funcid = F_TO_CHAR_TIMESTAMPTZ_TEXT;
			linitial(f->args) = arg;
		}
		else if (f->funcid == F_DATE_TIMESTAMP &&
				 (arg = zoned(linitial(f->args), zone)) != NULL)
		{
			f->funcid = F_DATE_TIMESTAMPTZ;
			linitial(f->args) = arg;
		}
		else if ((f->funcid == F_EXTRACT_TEXT_TIMESTAMP ||
				  f->funcid == F_DATE_PART_TEXT_TIMESTAMP) && n == 2 &&
				 (arg = zoned(lsecond(f->args), zone)) != NULL)
		{
			f->funcid = f->funcid == F_EXTRACT_TEXT_TIMESTAMP ?
				F_EXTRACT_TEXT_TIMESTAMPTZ : F_DATE_PART_TEXT_TIMESTAMPTZ;
			lsecond(f->args) = arg;
		}
		node = (Node *) f;
	}
	return expression_tree_mutator(node, unpin_zone, zone);
}

/* Writing a query down locks its tables.  Is there none to be waited for? */
static bool
lock_tables(Query *query)
{
	ListCell   *lc;

	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind == RTE_RELATION &&
			(!ConditionalLockRelationOid(rte->relid, AccessShareLock) ||
			 !SearchSysCacheExists1(RELOID, ObjectIdGetDatum(rte->relid))))
			return false;
	}
	return true;
}

/*
 * rollup_query(rollup, zone): its query as the user would write it now, in
 * that zone, with all columns by their present names.  NULL while it or a table
 * is locked, for who looks at the rollups is not to wait for it, and when the
 * rollup is gone.
 */
Datum
scalecache_rollup_query(PG_FUNCTION_ARGS)
{
	ScSpec	   *spec = sc_keep_rollup(PG_GETARG_OID(0)) ?
		sc_spec_by_view(PG_GETARG_OID(0)) : NULL;
	Query	   *query;
	char	   *written;
	ListCell   *lc;

	if (spec == NULL || !OidIsValid(spec->source))
	{
		if (spec)
			sc_spec_release(spec);
		PG_RETURN_NULL();
	}
	query = copyObject(spec->joined ? spec->joined : spec->query);
	if (spec->joined == NULL)
	{
		query->rtable = list_make1(rt_fetch(spec->srcvarno, query->rtable));
		ChangeVarNodes((Node *) query, spec->srcvarno, 1, 0);
	}
	sc_spec_release(spec);
	if (!lock_tables(query))
		PG_RETURN_NULL();
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (!tle->resjunk &&
			(tle->resname = get_attname(PG_GETARG_OID(0), tle->resno, true)) == NULL)
			PG_RETURN_NULL();
	}
	query = (Query *) unpin_zone((Node *) query, PG_GETARG_TEXT_PP(1));
	written = pg_get_querydef(query, true);
	PG_RETURN_TEXT_P(cstring_to_text(written + strspn(written, " ")));
}

/* Has a format of to_char this word, in upper or lower case, out of quotes? */
static bool
format_has(const char *format, const char *word)
{
	bool		quoted = false;

	for (const char *p = format; *p; p++)
	{
		if (*p == '\\' && (p[1] == '"' || (quoted && p[1] != '\0')))
			p++;
		else if (*p == '"')
			quoted = !quoted;
		else if (!quoted && pg_strncasecmp(p, word, strlen(word)) == 0)
			return true;
	}
	return false;
}

/*
 * The format of a call of to_char, if a time without a zone is written the
 * same in any session: it is known, and leaves lc_time out.  Else NULL.
 */
static char *
fixed_format(Node *call)
{
	Const	   *fmt;
	char	   *format;

	if (!IsA(call, FuncExpr))
		return NULL;
	fmt = lsecond(((FuncExpr *) call)->args);
	if (!IsA(fmt, Const) || fmt->constisnull)
		return NULL;
	format = TextDatumGetCString(fmt->constvalue);
	return format_has(format, "TM") ? NULL : format;
}

/* Pin what depends on the session's time zone to zone, a text. */
static Node *
pin_zone(Node *node, void *zone)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Query))
		return (Node *) query_tree_mutator((Query *) node, pin_zone, zone, 0);
	node = expression_tree_mutator(node, pin_zone, zone);
	if (IsA(node, FuncExpr))
	{
		FuncExpr   *f = (FuncExpr *) node;
		Oid			to = InvalidOid;

		switch (f->funcid)
		{
			case F_DATE_TRUNC_TEXT_TIMESTAMPTZ:
				f->funcid = F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT;
				f->args = lappend(list_copy(f->args),
								  makeConst(TEXTOID, -1, DEFAULT_COLLATION_OID, -1,
											PointerGetDatum((text *) zone), false, false));
				return node;
			case F_EXTRACT_TEXT_TIMESTAMPTZ:
				to = F_EXTRACT_TEXT_TIMESTAMP;
				break;
			case F_DATE_PART_TEXT_TIMESTAMPTZ:
				to = F_DATE_PART_TEXT_TIMESTAMP;
				break;
			case F_TO_CHAR_TIMESTAMPTZ_TEXT:
				to = F_TO_CHAR_TIMESTAMP_TEXT;
				break;
			case F_DATE_TIMESTAMPTZ:
				to = F_DATE_TIMESTAMP;
				break;
			case F_TIMESTAMP_TIMESTAMPTZ:
				return (Node *) at_zone(linitial(f->args), zone);
			case F_TIMESTAMPTZ_TIMESTAMP:
				return (Node *) from_zone(linitial(f->args), zone);
			case F_TIMESTAMPTZ_DATE:
				return (Node *)
					from_zone((Node *) makeFuncExpr(F_TIMESTAMP_DATE, TIMESTAMPOID,
													f->args, InvalidOid, InvalidOid,
													COERCE_EXPLICIT_CALL), zone);
			default:
				return node;
		}
		if (to == F_EXTRACT_TEXT_TIMESTAMP || to == F_DATE_PART_TEXT_TIMESTAMP)
		{
			Node	   *field = linitial(f->args);
			char	   *name;

			/* Only fields that are the same for the local time. */
			if (!IsA(field, Const) || ((Const *) field)->constisnull)
				return node;
			name = TextDatumGetCString(((Const *) field)->constvalue);
			if (pg_strncasecmp(name, "timezone", 8) == 0 ||
				pg_strcasecmp(name, "epoch") == 0)
				return node;
			f->args = list_make2(field, at_zone(lsecond(f->args), zone));
		}
		else if (to == F_TO_CHAR_TIMESTAMP_TEXT)
		{
			char	   *format = fixed_format(node);

			if (format == NULL || format_has(format, "TZ") || format_has(format, "OF"))
				return node;
			f->args = list_make2(at_zone(linitial(f->args), zone), lsecond(f->args));
		}
		else
			f->args = list_make1(at_zone(linitial(f->args), zone));
		f->funcid = to;
	}
	return node;
}

/* May sc_pin_zone change the expression? */
bool
sc_zone_matters(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr))
		switch (((FuncExpr *) node)->funcid)
		{
			case F_DATE_TRUNC_TEXT_TIMESTAMPTZ:
			case F_EXTRACT_TEXT_TIMESTAMPTZ:
			case F_DATE_PART_TEXT_TIMESTAMPTZ:
			case F_TO_CHAR_TIMESTAMPTZ_TEXT:
			case F_DATE_TIMESTAMPTZ:
			case F_TIMESTAMP_TIMESTAMPTZ:
			case F_TIMESTAMPTZ_TIMESTAMP:
			case F_TIMESTAMPTZ_DATE:
				return true;
			default:
				break;
		}
	return expression_tree_walker(node, sc_zone_matters, context);
}

Node *
sc_pin_zone(Node *node, const char *zone)
{
	return pin_zone(node, cstring_to_text(zone));
}

/* What to write instead of a function that is not immutable. */
static const char *
hint_for(Oid funcid)
{
	Oid		   *argtypes;
	int			nargs;
	bool		local = get_func_rettype(funcid) == TIMESTAMPTZOID;

	(void) get_func_signature(funcid, &argtypes, &nargs);
	for (int i = 0; i < nargs; i++)
		local |= argtypes[i] == TIMESTAMPTZOID;
	if (get_func_namespace(funcid) != PG_CATALOG_NAMESPACE)
		return "If it depends on nothing but its arguments, declare it IMMUTABLE.";
	if (nargs == 0 || func_volatile(funcid) == PROVOLATILE_VOLATILE)
		return "Leave it out, and apply it when reading the rollup.";
	if (local)
		return "It depends on the session's time zone. Name one first, as in "
			"(column AT TIME ZONE 'Europe/Berlin') + interval '1 day'.";
	return "It depends on the session's settings. Use only immutable functions in a rollup.";
}

/* Some output functions follow settings, whatever the catalog says. */
static char
volatility(Oid funcid)
{
	if (funcid == F_INTERVAL_OUT || funcid == F_BYTEAOUT || funcid == F_CASH_OUT)
		return PROVOLATILE_STABLE;
	return func_volatile(funcid);
}

/* May a function give something else for the same arguments? */
static bool
is_unstable(Oid funcid, void *node)
{
	if (funcid == F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT ||
		(funcid == F_TO_CHAR_TIMESTAMP_TEXT && fixed_format(node) != NULL))
		return false;
	return func_volatile(funcid) != PROVOLATILE_IMMUTABLE &&
		get_func_prokind(funcid) != PROKIND_AGGREGATE;
}

static bool
unstable_function(Oid funcid, void *node)
{
	bool		stable = func_volatile(funcid) == PROVOLATILE_STABLE;
	char	   *what;

	if (!is_unstable(funcid, node))
		return false;
	what = psprintf("function \"%s\"", get_func_name(funcid));
	if (IsA((Node *) node, OpExpr))
		what = psprintf("%s (operator %s)", what,
						get_opname(((OpExpr *) node)->opno));
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("rollup query calls %s %s", stable ? "stable" : "volatile", what),
			 errdetail("Its result could not be kept equal to the query's."),
			 errhint("%s", hint_for(funcid))));
	return false;
}

/* Does a value of the type become the same JSON in every session? */
static bool
is_same_json(Oid type)
{
	Oid			output;
	bool		varlena;

	type = getBaseType(type);
	/* Dates and local times are written as ISO 8601 has them. */
	if (type == DATEOID || type == TIMESTAMPOID || type_is_enum(type))
		return true;
	if (OidIsValid(get_element_type(type)))
		return is_same_json(get_element_type(type));
	if (type != RECORDOID && type_is_rowtype(type))
	{
		TupleDesc	desc = lookup_rowtype_tupdesc(type, -1);
		bool		same = true;

		for (int i = 0; i < desc->natts; i++)
			if (!TupleDescAttr(desc, i)->attisdropped)
				same &= is_same_json(TupleDescAttr(desc, i)->atttypid);
		ReleaseTupleDesc(desc);
		return same;
	}
	/* Ranges are written as their bounds are. */
	if (type_is_multirange(type))
		type = get_multirange_range(type);
	if (type_is_range(type))
		type = get_range_subtype(type);
	getTypeOutputInfo(type, &output, &varlena);
	return volatility(output) == PROVOLATILE_IMMUTABLE;
}

static bool
is_same_json_expr(Node *node)
{
	ListCell   *lc;

	if (!IsA(node, RowExpr) || ((RowExpr *) node)->row_typeid != RECORDOID)
		return is_same_json(exprType(node));
	foreach(lc, ((RowExpr *) node)->args)
		if (!is_same_json_expr(lfirst(lc)))
			return false;
	return true;
}

/* The same for XML, which is declared to be written immutably. */
static bool
is_same_xml(Oid type)
{
	type = getBaseType(type);
	if (OidIsValid(get_element_type(type)))
		return is_same_xml(get_element_type(type));
	/* These have no form of XML. */
	if (type_is_enum(type) || type_is_rowtype(type))
		return false;
	return is_same_json(type);
}

static void
refuse_to_write(const char *function, Oid type)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("rollup query calls stable function \"%s\"", function),
			 errdetail("How it writes values of type %s depends on the session's settings.",
					   format_type_be(type)),
			 errhint("Convert them first, times as in column AT TIME ZONE 'Europe/Berlin', "
					 "bytes as in encode(column, 'hex').")));
}

/* One of them is declared immutable, and is not. */
bool
sc_writes_json(Oid aggregate)
{
	return aggregate == F_JSON_AGG || aggregate == F_JSONB_AGG ||
		aggregate == F_JSON_OBJECT_AGG || aggregate == F_JSONB_OBJECT_AGG;
}

/* All aggregates are declared immutable, whatever they call. */
static void
support_functions(Aggref *agg, Oid functions[2])
{
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(agg->aggfnoid));
	Form_pg_aggregate form;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", agg->aggfnoid);
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	functions[0] = form->aggtransfn;
	functions[1] = form->aggfinalfn;
	ReleaseSysCache(tuple);
}

static void
check_support(Aggref *agg)
{
	Oid			functions[2];

	support_functions(agg, functions);
	for (int i = 0; i < lengthof(functions); i++)
		if (OidIsValid(functions[i]))
			(void) unstable_function(functions[i], agg);
}

/*
 * Does a rollup's query call what has become volatile or stable since it was
 * created?
 */
bool
sc_query_is_unstable(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, sc_query_is_unstable, context, 0);
	if (IsA(node, Aggref) && ((Aggref *) node)->aggfnoid >= FirstNormalObjectId)
	{
		Oid			functions[2];

		support_functions((Aggref *) node, functions);
		for (int i = 0; i < lengthof(functions); i++)
			if (OidIsValid(functions[i]) && is_unstable(functions[i], node))
				return true;
	}
	return check_functions_in_node(node, is_unstable, node) ||
		expression_tree_walker(node, sc_query_is_unstable, context);
}

/* The error that says so. */
void
sc_query_refuse_unstable(Query *query)
{
	bool		evaluate = false;

	query_tree_walker(query, check_walker, &evaluate, 0);
}

static void
check_aggregate(Aggref *agg)
{
	ListCell   *lc;

	/* Of the server's own only those that write JSON call such functions. */
	if (agg->aggfnoid >= FirstNormalObjectId)
		check_support(agg);
	if (!sc_writes_json(agg->aggfnoid))
		return;
	foreach(lc, agg->args)
	{
		TargetEntry *tle = lfirst(lc);

		if (!tle->resjunk && !is_same_json_expr((Node *) tle->expr))
			refuse_to_write(get_func_name(agg->aggfnoid),
							exprType((Node *) tle->expr));
	}
}

static void
check_xml(XmlExpr *xml)
{
	ListCell   *lc;

	if (xml->op != IS_XMLELEMENT && xml->op != IS_XMLFOREST)
		return;
	foreach(lc, list_concat_copy(xml->named_args, xml->args))
		if (!is_same_xml(exprType(lfirst(lc))))
			refuse_to_write(xml->op == IS_XMLELEMENT ? "xmlelement" : "xmlforest",
							exprType(lfirst(lc)));
}

/*
 * Types whose output functions are declared immutable, and follow a setting
 * nevertheless: what to do instead of having them write, or NULL.
 */
static const char *
instead_of_text(Oid type)
{
	switch (type)
	{
		case FLOAT4OID:
		case FLOAT8OID:
			return "Convert it to numeric first, as in column::numeric::text.";
		case BYTEAOID:
			return "Use encode(column, 'hex').";
		case POINTOID:
		case LSEGOID:
		case PATHOID:
		case BOXOID:
		case POLYGONOID:
		case LINEOID:
		case CIRCLEOID:
			return "Use its coordinates, as in column[0]::numeric.";
		default:
			return NULL;
	}
}

/*
 * What decides which group a row belongs to, and what it adds: a row may come
 * by one session and go by another.
 */
static bool
check_written(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, CoerceViaIO))
	{
		CoerceViaIO *coerce = (CoerceViaIO *) node;
		Oid			type = getBaseType(exprType((Node *) coerce->arg));
		const char *hint = instead_of_text(type);

		if (hint)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("rollup query converts type %s to %s",
							format_type_be(type), format_type_be(coerce->resulttype)),
					 errdetail("How it writes values depends on the session's settings."),
					 errhint("%s", hint)));
	}
	return expression_tree_walker(node, check_written, context);
}

static const char *
value_function_name(SQLValueFunction *f)
{
	switch (f->op)
	{
		case SVFOP_CURRENT_DATE:
			return "CURRENT_DATE";
		case SVFOP_CURRENT_TIME:
		case SVFOP_CURRENT_TIME_N:
			return "CURRENT_TIME";
		case SVFOP_CURRENT_TIMESTAMP:
		case SVFOP_CURRENT_TIMESTAMP_N:
			return "CURRENT_TIMESTAMP";
		case SVFOP_LOCALTIME:
		case SVFOP_LOCALTIME_N:
			return "LOCALTIME";
		case SVFOP_LOCALTIMESTAMP:
		case SVFOP_LOCALTIMESTAMP_N:
			return "LOCALTIMESTAMP";
		case SVFOP_CURRENT_CATALOG:
			return "CURRENT_CATALOG";
		case SVFOP_CURRENT_SCHEMA:
			return "CURRENT_SCHEMA";
		default:
			return "CURRENT_USER";
	}
}

/* A value that each of these functions takes, or NULL: no such type. */
static const char *
sample_of(Oid type)
{
	switch (type)
	{
		case TEXTOID:
		case NAMEOID:
		case BPCHAROID:
			return "";
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return "2000-01-01";
		case TIMEOID:
			return "00:00";
		case TIMETZOID:
			return "00:00+00";
		case INTERVALOID:
			return "0";
		default:
			return NULL;
	}
}

/*
 * Does the function read a unit, zone, stride or pattern, and fail for
 * each row if it does not know that?
 */
static bool
reads_word(Oid funcid)
{
	switch (funcid)
	{
		case F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT:
		case F_DATE_TRUNC_TEXT_TIMESTAMP:
		case F_DATE_TRUNC_TEXT_INTERVAL:
		case F_DATE_PART_TEXT_TIMESTAMPTZ:
		case F_DATE_PART_TEXT_TIMESTAMP:
		case F_DATE_PART_TEXT_DATE:
		case F_DATE_PART_TEXT_TIME:
		case F_DATE_PART_TEXT_TIMETZ:
		case F_DATE_PART_TEXT_INTERVAL:
		case F_EXTRACT_TEXT_TIMESTAMPTZ:
		case F_EXTRACT_TEXT_TIMESTAMP:
		case F_EXTRACT_TEXT_DATE:
		case F_EXTRACT_TEXT_TIME:
		case F_EXTRACT_TEXT_TIMETZ:
		case F_EXTRACT_TEXT_INTERVAL:
		case F_TIMEZONE_TEXT_TIMESTAMPTZ:
		case F_TIMEZONE_TEXT_TIMESTAMP:
		case F_TIMEZONE_INTERVAL_TIMESTAMPTZ:
		case F_TIMEZONE_INTERVAL_TIMESTAMP:
		case F_DATE_BIN_INTERVAL_TIMESTAMP_TIMESTAMP:
		case F_DATE_BIN_INTERVAL_TIMESTAMPTZ_TIMESTAMPTZ:
		case F_TEXTREGEXEQ:
		case F_TEXTREGEXNE:
		case F_TEXTICREGEXEQ:
		case F_TEXTICREGEXNE:
		case F_BPCHARREGEXEQ:
		case F_BPCHARREGEXNE:
		case F_NAMEREGEXEQ:
		case F_NAMEREGEXNE:
		case F_SUBSTRING_TEXT_TEXT:
		case F_REGEXP_REPLACE_TEXT_TEXT_TEXT:
		case F_REGEXP_REPLACE_TEXT_TEXT_TEXT_TEXT:
		case F_REGEXP_MATCH_TEXT_TEXT:
		case F_REGEXP_MATCH_TEXT_TEXT_TEXT:
		case F_REGEXP_SPLIT_TO_ARRAY_TEXT_TEXT:
		case F_REGEXP_SPLIT_TO_ARRAY_TEXT_TEXT_TEXT:
		case F_REGEXP_COUNT_TEXT_TEXT:
		case F_REGEXP_INSTR_TEXT_TEXT:
		case F_REGEXP_LIKE_TEXT_TEXT:
		case F_REGEXP_LIKE_TEXT_TEXT_TEXT:
		case F_REGEXP_SUBSTR_TEXT_TEXT:
			return true;
		default:
			return false;
	}
}

static void
word_error_callback(void *arg)
{
	errdetail("Function \"%s\" in the rollup query would fail for every row that is written.",
			  get_func_name(*(Oid *) arg));
	errhint("Correct its constant arguments.");
}

/*
 * A wrong unit, as in date_trunc('mnoth', ts), is an error of the query as soon
 * as there is a row, and would be one of whoever writes the row.  So the
 * function is called, with a value in the place of what is read from the row.
 */
static void
check_words(Oid funcid, List *args, Oid collation)
{
	FuncExpr   *call;
	int			nread = 0;
	ErrorContextCallback context = {error_context_stack, word_error_callback, &funcid};
	ListCell   *lc;

	if (!reads_word(funcid))
		return;
	args = (List *) eval_const_expressions(NULL, copyObject((Node *) args));
	/* A unit, zone or stride that is read from the row: no sample is any good. */
	if (!IsA(linitial(args), Const) && exprType(lsecond(args)) != TEXTOID)
		return;
	foreach(lc, args)
	{
		Oid			type = exprType(lfirst(lc));
		const char *sample = sample_of(type);
		Oid			input;
		Oid			ioparam;
		int16		typlen;
		bool		typbyval;

		if (IsA(lfirst(lc), Const) && !((Const *) lfirst(lc))->constisnull)
			continue;
		if (IsA(lfirst(lc), Const) || sample == NULL || nread++ > 0)
			return;
		getTypeInputInfo(type, &input, &ioparam);
		get_typlenbyval(type, &typlen, &typbyval);
		lfirst(lc) = makeConst(type, -1, get_typcollation(type), typlen,
							   OidInputFunctionCall(input, pstrdup(sample), ioparam, -1),
							   false, typbyval);
	}
	call = makeFuncExpr(funcid, get_func_rettype(funcid), args, InvalidOid, collation,
						COERCE_EXPLICIT_CALL);
	error_context_stack = &context;
	(void) evaluate_expr((Expr *) call, call->funcresulttype, -1, collation);
	error_context_stack = context.previous;
}

/* context: may functions be called?  See sc_query_check. */
static bool
check_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubLink))
		refuse("a subquery", "Join the table instead.");
	if (IsA(node, GroupingFunc))
		refuse("GROUPING()", "Create one rollup for each grouping set.");
	if (IsA(node, SQLValueFunction))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("rollup query calls stable function \"%s\"",
						value_function_name((SQLValueFunction *) node)),
				 errdetail("Its result could not be kept equal to the query's."),
				 errhint("Leave it out, and apply it when reading the rollup.")));
	if (IsA(node, Var) && ((Var *) node)->varattno <= 0)
		refuse(((Var *) node)->varattno == 0 ? "a whole-row reference" : "a system column",
			   "Name the columns.");
	/* Arguments first: now() is to be named, not what is done with it. */
	(void) expression_tree_walker(node, check_walker, context);
	if (IsA(node, Aggref))
	{
		check_aggregate((Aggref *) node);
		(void) expression_tree_walker(node, check_written, NULL);
	}
	if (IsA(node, XmlExpr))
		check_xml((XmlExpr *) node);
	if (!*(bool *) context)
		return check_functions_in_node(node, unstable_function, node);
	if (IsA(node, FuncExpr))
		check_words(((FuncExpr *) node)->funcid, ((FuncExpr *) node)->args,
					((FuncExpr *) node)->inputcollid);
	else if (IsA(node, OpExpr))
	{
		set_opfuncid((OpExpr *) node);
		check_words(((OpExpr *) node)->opfuncid, ((OpExpr *) node)->args,
					((OpExpr *) node)->inputcollid);
	}
	return check_functions_in_node(node, unstable_function, node);
}

static void
check_source(RangeTblEntry *rte)
{
	Relation	rel = table_open(rte->relid, AccessShareLock);
	const char *bad = NULL;

	if (rel->rd_rel->relkind == RELKIND_FOREIGN_TABLE)
		bad = "a foreign table";
	else if (rel->rd_rel->relkind == RELKIND_VIEW)
		bad = "a view that does more than select from one table of yours, or group its rows";
	else if (rel->rd_rel->relkind != RELKIND_RELATION &&
			 rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		bad = "not a table";
	else if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		bad = "a temporary table";
	else if (rel->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED)
		bad = "an unlogged table";
	else if (IsCatalogRelation(rel))
		bad = "a system catalog";
	else if (RelationGetNamespace(rel) == sc_own_namespace() ||
			 RelationGetNamespace(rel) == get_namespace_oid("scalecache_data", true))
		bad = "a table of the extension's own";
	else if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE && !rte->inh)
		bad = "read with ONLY, and a partitioned table has no rows of its own";
	else
	{
		bool		detaching;
		bool		unfit;

		(void) sc_source_members(rte->relid, rte->inh, &detaching, &unfit);
		if (unfit)
			bad = "a parent of a foreign, temporary or unlogged table";
	}
	if (bad)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot create a rollup from \"%s\"", RelationGetRelationName(rel)),
				 errdetail("It is %s.", bad),
				 errhint("Rollups are made from ordinary and partitioned tables.")));
	if (!pg_class_ownercheck(rte->relid, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of table %s", RelationGetRelationName(rel)),
				 errdetail("A rollup adds triggers to the table."),
				 errhint("Let the table's owner create the rollup, and grant SELECT on it.")));
	(void) ExecCheckRTPerms(list_make1(rte), true);
	if (check_enable_rls(rte->relid, InvalidOid, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot create a rollup from \"%s\"", RelationGetRelationName(rel)),
				 errdetail("Its row-level security hides rows from you, and a rollup counts all rows."),
				 errhint("Create it as a role that bypasses row-level security.")));
	table_close(rel, NoLock);
}

/*
 * Refuse a query that cannot be a rollup.  evaluate: it is the user's own, so
 * what would fail for every row is tried.  With another's query, as that of a
 * restored rollup is to the worker, that would run his functions as the user.
 */
void
sc_query_check(Query *query, bool evaluate)
{
	RangeTblEntry *rte;
	ListCell   *lc;
	List	   *names = NIL;

	if (query->setOperations)
		refuse("a set operation", "Create one rollup for each part.");
	if (query->cteList)
		refuse("a WITH clause", "Write the query on the table itself.");
	if (query->rtable == NIL || query->jointree->fromlist == NIL)
		refuse("no FROM", "Select from the table to be aggregated.");
	if (query->sortClause)
		refuse("ORDER BY", "Order the rows when reading the rollup.");
	if (query->limitCount || query->limitOffset)
		refuse("LIMIT or OFFSET", "Limit the rows when reading the rollup.");
	if (query->hasWindowFuncs)
		refuse("a window function", "Apply it when reading the rollup.");
	if (query->hasTargetSRFs)
		refuse("a set-returning function", "Apply it when reading the rollup.");
	if (query->groupingSets)
		refuse("GROUPING SETS", "Create one rollup for each grouping set.");
	if (query->distinctClause)
		refuse("DISTINCT", "Use GROUP BY.");
	if (query->rowMarks)
		refuse("a locking clause", "Leave it out.");
	if (query->constraintDeps)
		refuse("a column that is neither grouped nor aggregated",
			   "Add it to GROUP BY.");
	if (!query->hasAggs && query->groupClause == NIL)
		refuse("neither GROUP BY nor an aggregate", "Add one; a plain SELECT needs an index, not a rollup.");
	if (sc_query_joins(query))
		rte = sc_join_check(query);
	else
		rte = rt_fetch(linitial_node(RangeTblRef, query->jointree->fromlist)->rtindex,
					   query->rtable);
	if (rte->rtekind != RTE_RELATION)
		refuse(rte->rtekind == RTE_SUBQUERY ? "a subquery" : "no table in FROM",
			   "Select from the table itself.");
	if (rte->tablesample)
		refuse("TABLESAMPLE", "Leave it out.");
	check_source(rte);
	if (list_length(query->groupClause) > INDEX_MAX_KEYS)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_COLUMNS),
				 errmsg("rollup query has more than %d group keys", INDEX_MAX_KEYS),
				 errdetail("It has %d.", list_length(query->groupClause)),
				 errhint("Group by fewer expressions.")));

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (tle->resjunk)
			continue;
		if (tle->resname == NULL || strcmp(tle->resname, "?column?") == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_COLUMN_DEFINITION),
					 errmsg("column %d of the rollup query has no name", tle->resno),
					 errdetail("The columns of the rollup are named as those of the query."),
					 errhint("Name it with AS.")));
		{
			ListCell   *l2;

			foreach(l2, names)
				if (strcmp(lfirst(l2), tle->resname) == 0)
					ereport(ERROR,
							(errcode(ERRCODE_DUPLICATE_COLUMN),
							 errmsg("column \"%s\" of the rollup query comes twice", tle->resname),
							 errdetail("The columns of the rollup are named as those of the query."),
							 errhint("Rename one with AS.")));
		}
		names = lappend(names, tle->resname);
	}
	query_tree_walker(query, check_walker, &evaluate, 0);
	foreach(lc, query->groupClause)
		(void) check_written(get_sortgroupclause_expr(lfirst(lc), query->targetList), NULL);
	(void) check_written((Node *) query->jointree, NULL);
}

static Node *
refuse_parameter(ParseState *pstate, ParamRef *ref)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_PARAMETER),
			 errmsg("rollup query has a parameter, $%d", ref->number),
			 errdetail("A rollup is kept for one query, with all its values."),
			 errhint("Write the value into the query, or group by what is compared with it."),
			 parser_errposition(pstate, ref->location)));
	return NULL;
}

static void
refuse_parameters(ParseState *pstate, void *arg)
{
	pstate->p_paramref_hook = refuse_parameter;
}

static Query *
parse(const char *sql)
{
	List	   *raw = raw_parser(sql, RAW_PARSE_DEFAULT);
	RawStmt    *stmt;

	if (raw == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("rollup query is empty"),
				 errdetail("A rollup is one SELECT from tables, with GROUP BY and aggregates."),
				 errhint("Write SELECT ... FROM table GROUP BY ...")));
	if (list_length(raw) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("rollup query must be one statement"),
				 errdetail("There are %d.", list_length(raw)),
				 errhint("Create one rollup for each.")));
	stmt = linitial_node(RawStmt, raw);
	if (!IsA(stmt->stmt, SelectStmt) || ((SelectStmt *) stmt->stmt)->intoClause)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("rollup query must be a SELECT"),
				 errdetail("A rollup is one SELECT from tables, with GROUP BY and aggregates."),
				 errhint("Write SELECT ... FROM table GROUP BY ...")));
	return parse_analyze_withcb(stmt, sql, refuse_parameters, NULL, NULL);
}

/* Parse, check and pin the query; the views it was made from go to *views. */
Query *
sc_query_analyze(const char *sql, List **views)
{
	text	   *zone = cstring_to_text(pg_get_timezone_name(session_timezone));
	ErrorContextCallback context = {error_context_stack, sc_text_error_callback,
	(void *) sql};
	Query	   *query;

	error_context_stack = &context;
	query = parse(sql);
	error_context_stack = context.previous;
	query = sc_pull_up_views(query, views);
	query = (Query *) pin_zone((Node *) query, zone);
	sc_query_check(query, true);
	return query;
}
