/*
 * define.c: creating, dropping and following cache rules.
 *
 * A rule is a row of scalecache.cache_rule and triggers on its table, which
 * belong to the extension and go with it.  Only a table's owner makes rules
 * for it.  Whatever changes rows without firing row triggers (TRUNCATE,
 * partitions that come and go, rewrites) bumps the rule's epoch.
 *
 * Lock order: the relation, its members, the catalog of rules, a rule.  A command
 * about a member comes to the rules without a lock on the relation, and takes none.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/partition.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_func.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "pgtime.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "base/guc.h"
#include "base/hooks.h"
#include "base/inherits.h"
#include "base/owner.h"
#include "cache/cache.h"
#include "cache/rules.h"

PG_FUNCTION_INFO_V1(scalecache_create_cache_rule);
PG_FUNCTION_INFO_V1(scalecache_drop_cache_rule);
PG_FUNCTION_INFO_V1(scalecache_cache_dropped);
PG_FUNCTION_INFO_V1(scalecache_cache_altered);

#define TEMPLATE_MAX	3000	/* its pattern must fit an outbox entry */

static bool own_commands = false;

/* ---- small tools ---- */

int64
sc_interval_ms(const Interval *interval)
{
	return interval->time / 1000 +
		(interval->day + (int64) interval->month * DAYS_PER_MONTH) *
		(USECS_PER_DAY / 1000);
}

/* At most some 73,000 years, so that an instant can be added. */
int64
sc_interval_us(const Interval *interval)
{
	int64		ms = sc_interval_ms(interval);

	if (ms > PG_INT64_MAX / 4000)
		return PG_INT64_MAX / 4;
	if (ms < PG_INT64_MIN / 4000)
		return PG_INT64_MIN / 4;
	return ms * 1000 + interval->time % 1000;
}

/* "OPERATOR(schema.=)" of a type's default equality, or NULL. */
char *
sc_equality_operator(Oid type)
{
	TypeCacheEntry *tc = lookup_type_cache(type, TYPECACHE_EQ_OPR);
	HeapTuple	tuple;
	Form_pg_operator op;
	char	   *result;

	if (!OidIsValid(tc->eq_opr))
		return NULL;
	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(tc->eq_opr));
	if (!HeapTupleIsValid(tuple))
		return NULL;
	op = (Form_pg_operator) GETSTRUCT(tuple);
	result = psprintf("OPERATOR(%s.%s)",
					  quote_identifier(get_namespace_name(op->oprnamespace)),
					  NameStr(op->oprname));
	ReleaseSysCache(tuple);
	return result;
}

/* ---- expressions ---- */

static void
refuse_expression(const char *what, const char *has)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s of a cache rule has %s", what, has),
			 errdetail("It is computed from one row of the table alone."),
			 errhint("Use an expression over the table's columns.")));
}

static bool
has_system_column(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var) && ((Var *) node)->varattno < 0)
		return true;
	return expression_tree_walker(node, has_system_column, context);
}

#define EXPRESSION_PREFIX	"SELECT ("

/* Errors are at a place in the expression, not in the user's statement. */
static void
locate_error(void *arg)
{
	int			position = geterrposition();

	if (position <= 0)
		return;
	errposition(0);
	internalerrposition(Max(1, position - (int) strlen(EXPRESSION_PREFIX)));
	internalerrquery((const char *) arg);
}

/* table.*, by whatever name the table had when the rule was made */
static Node *
whole_row(ParseState *pstate, ColumnRef *cref, Node *var)
{
	ParseNamespaceItem *item = linitial(pstate->p_namespace);

	if (var || list_length(cref->fields) != 2 || !IsA(lsecond(cref->fields), A_Star))
		return NULL;
	return (Node *) makeWholeRowVar(item->p_rte, item->p_rtindex, 0, true);
}

/*
 * Parse text as an expression over rel, whose columns are called names, and
 * coerce it to type.  With any_table, whole rows may be of any table's name.
 */
Node *
sc_rule_expression(Relation rel, char **names, const char *text,
				   const char *what, Oid type, bool any_table)
{
	ErrorContextCallback callback = {error_context_stack, locate_error, (void *) text};
	List	   *raw;
	SelectStmt *select;
	ParseState *pstate;
	ParseNamespaceItem *item;
	Node	   *node;
	ListCell   *lc;
	int			i = 0;
	/* It means the same whoever writes, and to the worker. */
	int			nest = sc_fixed_path_begin();

	sc_rule_expression_modes();
	error_context_stack = &callback;
	raw = raw_parser(psprintf(EXPRESSION_PREFIX "%s\n)", text), RAW_PARSE_DEFAULT);
	select = list_length(raw) == 1 ?
		(SelectStmt *) linitial_node(RawStmt, raw)->stmt : NULL;
	if (select == NULL || !IsA(select, SelectStmt) ||
		list_length(select->targetList) != 1 || select->fromClause ||
		select->whereClause || select->groupClause || select->havingClause ||
		select->windowClause || select->sortClause || select->limitCount ||
		select->limitOffset || select->lockingClause || select->intoClause ||
		select->op != SETOP_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("%s of a cache rule must be one expression", what),
				 errdetail("It is \"%s\".", text),
				 errhint("Write what may stand after SELECT, without a comma or a clause.")));
	pstate = make_parsestate(NULL);
	item = addRangeTableEntryForRelation(pstate, rel, AccessShareLock, NULL,
										 false, true);
	foreach(lc, item->p_rte->eref->colnames)
		lfirst(lc) = makeString(names[i++]);
	addNSItemToQuery(pstate, item, true, true, true);
	if (any_table)
		pstate->p_post_columnref_hook = whole_row;
	node = transformExpr(pstate,
						 linitial_node(ResTarget, select->targetList)->val,
						 EXPR_KIND_OTHER);
	if (OidIsValid(type))
		node = coerce_to_specific_type(pstate, node, type, what);
	assign_expr_collations(pstate, node);
	if (pstate->p_hasSubLinks)
		refuse_expression(what, "a subquery");
	if (pstate->p_hasAggs)
		refuse_expression(what, "an aggregate");
	if (pstate->p_hasWindowFuncs)
		refuse_expression(what, "a window function");
	if (pstate->p_hasTargetSRFs || expression_returns_set(node))
		refuse_expression(what, "a set-returning function");
	if (has_system_column(node, NULL))
		refuse_expression(what, "a system column");
	if (contain_volatile_functions(node))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("%s of a cache rule is volatile", what),
				 errdetail("It would give another result each time."),
				 errhint("Use only immutable and stable functions.")));
	free_parsestate(pstate);
	error_context_stack = callback.previous;
	AtEOXact_GUC(true, nest);
	return node;
}

static char *
expression_text(Relation rel, Node *node)
{
	int			nest = sc_fixed_path_begin();
	char	   *result;

	result = deparse_expression(node,
								deparse_context_for(RelationGetRelationName(rel),
													RelationGetRelid(rel)),
								false, false);
	AtEOXact_GUC(true, nest);
	return result;
}

/* The expression as text, with the columns' present names. */
static char *
rename_columns(Relation rel, char **names, const char *text)
{
	return expression_text(rel, sc_rule_expression(rel, names, text, "expression",
												   InvalidOid, true));
}

static bool
has_qualified(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, ColumnRef))
		return list_length(((ColumnRef *) node)->fields) > 1;
	return raw_expression_tree_walker(node, has_qualified, context);
}

static bool
has_whole_row(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var) && ((Var *) node)->varattno == InvalidAttrNumber)
		return true;
	return expression_tree_walker(node, has_whole_row, context);
}

/*
 * Check an expression of a new rule.  The text to keep is as written, unless
 * it names the table, which may be renamed: then only whole rows have a name.
 */
static char *
check_expression(Relation rel, const char *text, const char *what, Oid type)
{
	Node	   *node = sc_rule_expression(rel, sc_rule_names(RelationGetDescr(rel), 0, true),
										  text, what, type, false);
	List	   *raw = raw_parser(psprintf(EXPRESSION_PREFIX "%s\n)", text), RAW_PARSE_DEFAULT);

	if (has_whole_row(node, NULL) ||
		has_qualified(linitial_node(RawStmt, raw)->stmt, NULL))
		return expression_text(rel, node);
	return pstrdup(text);
}

/* ---- which relations ---- */

/* Tables that inherit from an ordinary one */
static List *
heirs_of(Oid relid)
{
	/* The flag stays when they have gone. */
	if (get_rel_relkind(relid) != RELKIND_RELATION || !has_subclass(relid))
		return NIL;
	return find_inheritance_children(relid, NoLock);
}

static void
check_relation(Relation rel)
{
	const char *bad = NULL;
	Oid			relid = RelationGetRelid(rel);

	switch (rel->rd_rel->relkind)
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
			break;
		case RELKIND_VIEW:
			if (!sc_is_rollup_hook || !sc_is_rollup_hook(relid))
				bad = "a view, and not a rollup's";
			break;
		case RELKIND_MATVIEW:
			bad = "a materialized view";
			break;
		case RELKIND_FOREIGN_TABLE:
			bad = "a foreign table";
			break;
		default:
			bad = "not a table";
	}
	if (bad == NULL && rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		bad = "a temporary table";
	if (bad == NULL && rel->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED)
		bad = "an unlogged table, which a crash empties without firing triggers";
	if (bad == NULL && (IsCatalogRelation(rel) || IsToastRelation(rel)))
		bad = "a system catalog";
	if (bad == NULL &&
		getExtensionOfObject(RelationRelationId, relid) ==
		get_extension_oid("scalecache", false))
		bad = "scalecache's own";
	if (bad == NULL && heirs_of(relid) != NIL)
		bad = "a parent of inheriting tables";
	if (bad)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot create a cache rule for \"%s\"", RelationGetRelationName(rel)),
				 errdetail("It is %s.", bad),
				 errhint("Rules are for ordinary and partitioned tables and for rollups.")));
	if (!pg_class_ownercheck(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(rel->rd_rel->relkind),
					   RelationGetRelationName(rel));
}

/*
 * The relation and, when it is partitioned, all below it, sorted.  Without a
 * lock those below may go at any time.
 */
static List *
members_of(Oid relid, LOCKMODE mode)
{
	List	   *members;

	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		return list_make1_oid(relid);
	if (mode != NoLock)
		members = find_all_inheritors(relid, mode, NULL);
	else
	{
		members = list_make1_oid(relid);
		for (int i = 0; i < list_length(members); i++)
			members = list_concat(members, sc_children(list_nth_oid(members, i), NULL));
	}
	list_sort(members, list_oid_cmp);
	return members;
}

/* Rows of all members have to come and go by this server's transactions. */
static void
check_members(Oid of, List *members)
{
	ListCell   *lc;

	foreach(lc, members)
	{
		Oid			relid = lfirst_oid(lc);
		HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
		Form_pg_class form;
		const char *bad = NULL;

		if (!HeapTupleIsValid(tuple))
			continue;			/* dropped just now */
		form = (Form_pg_class) GETSTRUCT(tuple);
		if (form->relkind == RELKIND_FOREIGN_TABLE)
			bad = "a foreign table, whose changes by others fire no triggers";
		else if (form->relpersistence == RELPERSISTENCE_UNLOGGED)
			bad = "an unlogged table, which a crash empties without firing triggers";
		if (bad)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("\"%s\" cannot have a cache rule", NameStr(form->relname)),
					 relid == of ? errdetail("It would be %s.", bad) :
					 errdetail("It is %s, and a partition of \"%s\".", bad,
							   get_rel_name(of)),
					 errhint("Drop the rule with scalecache.drop_cache_rule, or do without.")));
		ReleaseSysCache(tuple);
	}
}

static Datum
oid_array(List *oids)
{
	Datum	   *elems = palloc(sizeof(Datum) * (list_length(oids) + 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, oids)
		elems[n++] = ObjectIdGetDatum(lfirst_oid(lc));
	return PointerGetDatum(construct_array(elems, n, OIDOID, sizeof(Oid), true,
										   TYPALIGN_INT));
}

static List *
oid_list(Datum array)
{
	Datum	   *elems;
	int			n;
	List	   *oids = NIL;

	deconstruct_array(DatumGetArrayTypeP(array), OIDOID, sizeof(Oid), true,
					  TYPALIGN_INT, &elems, NULL, &n);
	for (int i = 0; i < n; i++)
		oids = lappend_oid(oids, DatumGetObjectId(elems[i]));
	return oids;
}

static Datum
name_array(TupleDesc desc)
{
	Datum	   *elems = palloc(sizeof(Datum) * (desc->natts + 1));

	for (int i = 0; i < desc->natts; i++)
		elems[i] = NameGetDatum(&TupleDescAttr(desc, i)->attname);
	return PointerGetDatum(construct_array(elems, desc->natts, NAMEOID,
										   NAMEDATALEN, false, TYPALIGN_CHAR));
}

/* ---- triggers ---- */

/* What a rule's triggers on a table call */
#define ROW_FUNCTION		"cache_capture"
#define TRUNCATE_FUNCTION	"cache_truncate"

static char *
trigger_name(int64 id, const char *function)
{
	return psprintf("scalecache_rule_" INT64_FORMAT "_%s", id,
					strcmp(function, ROW_FUNCTION) == 0 ? "row" : "truncate");
}

/*
 * A copy of a rule's trigger on a relation, or NULL.  It is known by its
 * function and argument, as its name may have been changed.
 */
static HeapTuple
find_trigger(int64 id, Oid relid, const char *function)
{
	Oid			funcid = LookupFuncName(list_make2(makeString("scalecache"),
												   makeString(pstrdup(function))),
										0, NULL, true);
	char	   *arg = psprintf(INT64_FORMAT, id);
	Relation	rel = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	HeapTuple	result = NULL;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, TriggerRelidNameIndexId, true, NULL, 1, &key);
	while (result == NULL && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger trigger = (Form_pg_trigger) GETSTRUCT(tuple);
		bool		isnull;
		Datum		args;

		if (trigger->tgfoid != funcid || trigger->tgnargs != 1)
			continue;
		args = fastgetattr(tuple, Anum_pg_trigger_tgargs, RelationGetDescr(rel), &isnull);
		/* Each argument ends with a zero byte. */
		if (!isnull && strcmp(VARDATA_ANY(DatumGetByteaPP(args)), arg) == 0)
			result = heap_copytuple(tuple);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

/* False when it has just been dropped. */
static bool
lock_member(Oid relid)
{
	LockRelationOid(relid, ShareRowExclusiveLock);
	return SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid));
}

/*
 * ENABLE TRIGGER ALL leaves triggers that the replica role does not fire.
 * One that somebody has disabled stays so.
 */
static void
keep_always(Oid relid, HeapTuple tuple)
{
	Form_pg_trigger trigger;

	if (!HeapTupleIsValid(tuple))
		return;
	trigger = (Form_pg_trigger) GETSTRUCT(tuple);
	if (trigger->tgenabled == TRIGGER_FIRES_ON_ORIGIN && lock_member(relid))
		sc_exec_as_owner(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s",
								  sc_qualified_name(relid),
								  quote_identifier(NameStr(trigger->tgname))));
}

static void
create_trigger(int64 id, Oid relid, const char *events, const char *level,
			   const char *function)
{
	char	   *name = trigger_name(id, function);
	HeapTuple	tuple = find_trigger(id, relid, function);
	ObjectAddress self;
	ObjectAddress ext;

	if (HeapTupleIsValid(tuple))
	{
		keep_always(relid, tuple);
		return;
	}
	if (!lock_member(relid))
		return;
	sc_exec_as_owner(psprintf("CREATE TRIGGER %s AFTER %s ON %s FOR EACH %s EXECUTE FUNCTION scalecache.%s('" INT64_FORMAT "')",
							  name, events, sc_qualified_name(relid), level, function, id));
	sc_exec_as_owner(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s",
							  sc_qualified_name(relid), name));
	ObjectAddressSet(self, TriggerRelationId, get_trigger_oid(relid, name, false));
	ObjectAddressSet(ext, ExtensionRelationId, get_extension_oid("scalecache", false));
	recordDependencyOn(&self, &ext, DEPENDENCY_AUTO_EXTENSION);
}

/* Makes those that are missing. */
static void
create_triggers(int64 id, Oid relid, List *members)
{
	ListCell   *lc;

	/* The commands run here are no news to the event trigger. */
	own_commands = true;
	PG_TRY();
	{
		create_trigger(id, relid, "INSERT OR UPDATE OR DELETE", "ROW",
					   ROW_FUNCTION);
		foreach(lc, members)
		{
			create_trigger(id, lfirst_oid(lc), "TRUNCATE", "STATEMENT",
						   TRUNCATE_FUNCTION);
			/* A partition's copy of the one above */
			keep_always(lfirst_oid(lc),
						find_trigger(id, lfirst_oid(lc), ROW_FUNCTION));
		}
	}
	PG_FINALLY();
	{
		own_commands = false;
	}
	PG_END_TRY();
}

/* ---- creating ---- */

static char *
text_arg(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

static void
check_arguments(FunctionCallInfo fcinfo, const char *action)
{
	bool		write = strcmp(action, "write") == 0;

	if (!write && strcmp(action, "invalidate") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown action \"%s\" of a cache rule", action),
				 errdetail("A rule deletes keys, or stores values."),
				 errhint("Use \"invalidate\" or \"write\".")));
	if (!write && !PG_ARGISNULL(4))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a cache rule that invalidates stores no value"),
				 errdetail("It deletes the key, and whoever reads the row next stores it."),
				 errhint("Use action \"write\" to store one.")));
	if (!write && !PG_ARGISNULL(5))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a cache rule that invalidates has no ttl"),
				 errdetail("It deletes the key."),
				 errhint("Use action \"write\", or give the ttl where the key is stored.")));
	if (!PG_ARGISNULL(5) && sc_interval_ms(PG_GETARG_INTERVAL_P(5)) <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("ttl of a cache rule must be positive"),
				 errdetail("The value would have expired before it is stored."),
				 errhint("Leave it out for a value that does not expire.")));
	if (!PG_ARGISNULL(6) &&
		array_contains_nulls(PG_GETARG_ARRAYTYPE_P(6)))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("columns of a cache rule must not be null"),
				 errdetail("One of them is."),
				 errhint("Leave them out for a rule that applies whatever changes.")));
	if (!PG_ARGISNULL(6) && ArrayGetNItems(ARR_NDIM(PG_GETARG_ARRAYTYPE_P(6)),
										   ARR_DIMS(PG_GETARG_ARRAYTYPE_P(6))) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("columns of a cache rule must not be empty"),
				 errdetail("The rule would apply only when its key changes."),
				 errhint("Leave them out for a rule that applies whatever changes.")));
}

static void
check_template(const char *key, bool write)
{
	List	   *parts;

	if (key[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key of a cache rule must not be empty"),
				 errdetail("It says which key of the cache stands for a row."),
				 errhint("Write a template such as user:{id}.")));
	if (strlen(key) > TEMPLATE_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("key template is longer than %d bytes", TEMPLATE_MAX),
				 errdetail("It has %zu.", strlen(key)),
				 errhint("Use a shorter one: a key is made of it for each row.")));
	parts = sc_template_parse(key);
	if (write && list_length(parts) == 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key of a cache rule that writes must name a column"),
				 errdetail("Which row's value to store would be unknown."),
				 errhint("Put the primary key's columns into the key.")));
}

/* A rollup's group is known by its keys alone. */
static void
check_rollup_keys(ScRule *rule)
{
	for (int i = 0; i < rule->npieces; i++)
	{
		AttrNumber	attno = rule->pieces[i].attno;

		if (attno != 0 && !sc_is_rollup_key_hook(rule->relid, attno))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("column \"%s\" is not a group key of rollup \"%s\"",
							get_attname(rule->relid, attno, false),
							get_rel_name(rule->relid)),
					 errdetail("It is computed from the group's rows."),
					 errhint("Only group keys can be in the key of a rollup's rule.")));
	}
	if (rule->columns || rule->condition)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a rollup's cache rule has neither columns nor a condition"),
				 errdetail("It applies whenever a group changes."),
				 errhint("Put what makes the difference into the rollup's query.")));
}

static Relation
open_catalog(LOCKMODE mode)
{
	Relation	catalog = sc_rules_open(mode);

	if (catalog == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"%s\" does not exist", "scalecache"),
				 errdetail("Somebody has dropped it just now."),
				 errhint("Use CREATE EXTENSION to have it again.")));
	return catalog;
}

/* A copy of the rule's row, or NULL. */
static HeapTuple
rule_by_name(Relation catalog, const char *name)
{
	SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;
	bool		isnull;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		if (strcmp(TextDatumGetCString(heap_getattr(tuple, Anum_cache_rule_name,
													RelationGetDescr(catalog), &isnull)),
				   name) == 0)
		{
			tuple = heap_copytuple(tuple);
			break;
		}
	systable_endscan(scan);
	return tuple;
}

static int64
random_id(void)
{
	int64		id;

	if (!pg_strong_random(&id, sizeof(id)))
		elog(ERROR, "could not get a random number");
	return (id & INT64CONST(0x7fffffffffffffff)) | 1;
}

Datum
scalecache_create_cache_rule(PG_FUNCTION_ARGS)
{
	char	   *name = text_arg(fcinfo, 0);
	Oid			relid = PG_ARGISNULL(1) ? InvalidOid : PG_GETARG_OID(1);
	char	   *key = text_arg(fcinfo, 2);
	char	   *action = text_arg(fcinfo, 3);
	char	   *value = text_arg(fcinfo, 4);
	char	   *condition = text_arg(fcinfo, 7);
	Relation	rel;
	Relation	catalog;
	Datum		values[Natts_cache_rule] = {0};
	bool		nulls[Natts_cache_rule] = {0};
	ScRule	   *rule;
	List	   *members;
	int64		id = random_id();

	if (name == NULL || !OidIsValid(relid) || key == NULL || action == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name, relation, key and action of a cache rule must not be null"),
				 errdetail("One of them is."),
				 errhint("Leave out what is to have its default.")));
	if (name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("name of a cache rule must not be empty"),
				 errdetail("It is how the rule is known."),
				 errhint("Choose one to drop the rule by.")));
	PreventCommandIfReadOnly("create_cache_rule()");
	check_arguments(fcinfo, action);
	check_template(key, strcmp(action, "write") == 0);
	rel = try_relation_open(relid, AccessShareLock);
	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid),
				 errdetail("It may have been dropped just now."),
				 errhint("Give the name of a table or of a rollup.")));
	check_relation(rel);
	/* What is written before it is committed has no keys for it. */
	if (rel->rd_rel->relkind == RELKIND_VIEW)
		sc_lock_rollup_hook(relid);
	else
	{
		LockRelationOid(relid, ShareRowExclusiveLock);
		/* Whom it waited for may have made a table that inherits from it. */
		check_relation(rel);
	}
	members = members_of(relid, ShareRowExclusiveLock);
	check_members(relid, members);

	catalog = open_catalog(ShareRowExclusiveLock);
	if (rule_by_name(catalog, name))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("cache rule \"%s\" already exists", name),
				 errdetail("Each rule of a database has a name of its own."),
				 errhint("Drop it with scalecache.drop_cache_rule, or choose another name.")));
	values[Anum_cache_rule_id - 1] = Int64GetDatum(id);
	values[Anum_cache_rule_name - 1] = CStringGetTextDatum(name);
	values[Anum_cache_rule_relation - 1] = ObjectIdGetDatum(relid);
	values[Anum_cache_rule_key - 1] = CStringGetTextDatum(key);
	values[Anum_cache_rule_action - 1] = CStringGetTextDatum(action);
	for (int i = 4; i < 8; i++)
	{
		nulls[Anum_cache_rule_value - 1 + i - 4] = PG_ARGISNULL(i);
		if (!PG_ARGISNULL(i))
			values[Anum_cache_rule_value - 1 + i - 4] = PG_GETARG_DATUM(i);
	}
	values[Anum_cache_rule_time_zone - 1] =
		CStringGetTextDatum(pg_get_timezone_name(session_timezone));
	values[Anum_cache_rule_attnames - 1] = name_array(RelationGetDescr(rel));
	values[Anum_cache_rule_members - 1] = oid_array(members);
	if (value)
		values[Anum_cache_rule_value - 1] =
			CStringGetTextDatum(check_expression(rel, value, "value", InvalidOid));
	if (condition)
		values[Anum_cache_rule_condition - 1] =
			CStringGetTextDatum(check_expression(rel, condition, "condition", BOOLOID));
	CatalogTupleInsert(catalog, heap_form_tuple(RelationGetDescr(catalog), values, nulls));
	table_close(catalog, NoLock);
	CacheInvalidateRelcacheByRelid(relid);
	CommandCounterIncrement();

	/* Reading it back checks the rest. */
	rule = sc_rule_by_id(id);
	relation_close(rel, NoLock);
	if (rule->is_rollup)
		check_rollup_keys(rule);
	else
		create_triggers(id, relid, members);
	/* Keys of before may be in the cache. */
	sc_cache_touch_rule(rule);
	sc_rule_release(rule);
	if (!sc_cache_shared_exists())
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("nothing delivers invalidations without shared_preload_libraries"),
				 errhint("Add scalecache to shared_preload_libraries and restart the server.")));
	PG_RETURN_VOID();
}

/* ---- dropping ---- */

/* Delete a rule's row; its keys go, as nobody else will see to them. */
static void
forget_rule(Relation catalog, HeapTuple tuple)
{
	TupleDesc	desc = RelationGetDescr(catalog);
	bool		isnull;
	Datum		id = heap_getattr(tuple, Anum_cache_rule_id, desc, &isnull);
	Datum		key = heap_getattr(tuple, Anum_cache_rule_key, desc, &isnull);

	sc_cache_touch_pattern(DatumGetInt64(id),
						   sc_template_pattern(sc_template_parse(TextDatumGetCString(key))));
	CatalogTupleDelete(catalog, &tuple->t_self);
	sc_failure_set(DatumGetInt64(id), NULL);
}

static void
drop_trigger(int64 id, Oid relid, const char *function)
{
	HeapTuple	tuple;

	/* A dump may have brought a second one, by another name. */
	while (HeapTupleIsValid(tuple = find_trigger(id, relid, function)))
	{
		ObjectAddress self;

		ObjectAddressSet(self, TriggerRelationId,
						 ((Form_pg_trigger) GETSTRUCT(tuple))->oid);
		deleteDependencyRecordsForClass(TriggerRelationId, self.objectId,
										ExtensionRelationId,
										DEPENDENCY_AUTO_EXTENSION);
		CommandCounterIncrement();
		performDeletion(&self, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
		CommandCounterIncrement();
	}
}

/* Partitions have copies of the first, which go with it. */
static void
drop_triggers(int64 id, Oid relid, List *members)
{
	ListCell   *lc;

	drop_trigger(id, relid, ROW_FUNCTION);
	foreach(lc, members)
		drop_trigger(id, lfirst_oid(lc), TRUNCATE_FUNCTION);
}

static Oid
rule_relation(Relation catalog, HeapTuple tuple)
{
	bool		isnull;

	return DatumGetObjectId(heap_getattr(tuple, Anum_cache_rule_relation,
										 RelationGetDescr(catalog), &isnull));
}

static void
refuse_unknown(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("cache rule \"%s\" does not exist", name),
			 errdetail("It may have gone with its table."),
			 errhint("See the view scalecache.cache_rules.")));
}

/*
 * The table is locked before the catalog, as by all DDL that changes a table
 * with rules; and as dropping its triggers does it.
 */
static void
lock_for_drop(Oid relid)
{
	bool		is_view = get_rel_relkind(relid) == RELKIND_VIEW;

	LockRelationOid(relid, is_view ? AccessShareLock : AccessExclusiveLock);
	(void) members_of(relid, AccessExclusiveLock);
}

Datum
scalecache_drop_cache_rule(PG_FUNCTION_ARGS)
{
	char	   *name;
	Relation	catalog;
	HeapTuple	tuple;
	bool		isnull;
	Oid			relid;
	int64		id;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("name of a cache rule must not be null"),
				 errdetail("Which one to drop would be unknown."),
				 errhint("The view cache_rules lists them.")));
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));

	PreventCommandIfReadOnly("drop_cache_rule()");
	catalog = open_catalog(AccessShareLock);
	tuple = rule_by_name(catalog, name);
	if (tuple == NULL)
		refuse_unknown(name);
	id = DatumGetInt64(heap_getattr(tuple, Anum_cache_rule_id, RelationGetDescr(catalog), &isnull));
	relid = rule_relation(catalog, tuple);
	table_close(catalog, AccessShareLock);
	if (!pg_class_ownercheck(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(get_rel_relkind(relid)),
					   get_rel_name(relid));
	lock_for_drop(relid);
	catalog = open_catalog(ShareRowExclusiveLock);
	tuple = sc_rule_fetch(catalog, id);
	if (tuple == NULL)
		refuse_unknown(name);
	forget_rule(catalog, tuple);
	table_close(catalog, NoLock);
	CacheInvalidateRelcacheByRelid(relid);
	CommandCounterIncrement();
	drop_triggers(id, relid, members_of(relid, NoLock));
	PG_RETURN_VOID();
}

/* ---- following what happens to the tables ---- */

/*
 * Does the rule still have what it needs?  Views have no triggers, and one
 * that has come from a dump, and has no members yet, gets them in the end.
 */
static bool
is_alive(Relation catalog, HeapTuple tuple)
{
	TupleDesc	desc = RelationGetDescr(catalog);
	bool		isnull;
	int64		id = DatumGetInt64(heap_getattr(tuple, Anum_cache_rule_id, desc, &isnull));
	Oid			relid = rule_relation(catalog, tuple);
	char		kind = get_rel_relkind(relid);

	if (kind == '\0')
		return false;
	(void) heap_getattr(tuple, Anum_cache_rule_members, desc, &isnull);
	return isnull || kind == RELKIND_VIEW ||
		HeapTupleIsValid(find_trigger(id, relid, ROW_FUNCTION));
}

/* Has some rule lost what it needs?  Whoever defines one is not waited for. */
static bool
some_rule_is_dead(void)
{
	Relation	rel = sc_rules_open(AccessShareLock);
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		result = false;

	if (rel == NULL)
		return false;
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (!result && HeapTupleIsValid(tuple = systable_getnext(scan)))
		result = !is_alive(rel, tuple);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

/* The template with the columns' present names; complains of lost ones. */
static char *
rename_template(Relation rel, char **names, const char *template, const char *rule)
{
	List	   *parts = sc_template_parse(template);
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < list_length(parts); i += 2)
	{
		for (const char *p = list_nth(parts, i); *p; p++)
		{
			if (*p == '{' || *p == '}')
				appendStringInfoChar(&buf, *p);
			appendStringInfoChar(&buf, *p);
		}
		if (i + 1 < list_length(parts))
		{
			AttrNumber	attno = sc_rule_attno(RelationGetDescr(rel), names,
											  list_nth(parts, i + 1));
			const char *name;

			if (attno == InvalidAttrNumber)
				ereport(ERROR,
						(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
						 errmsg("cannot drop column \"%s\" of table \"%s\" because a cache rule depends on it",
								(char *) list_nth(parts, i + 1), RelationGetRelationName(rel)),
						 errdetail("It is in the key of cache rule \"%s\".", rule),
						 errhint("Drop the rule first with scalecache.drop_cache_rule.")));
			name = NameStr(TupleDescAttr(RelationGetDescr(rel), attno - 1)->attname);
			if (strpbrk(name, "{}"))
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("column \"%s\" of table \"%s\" cannot be in the key of a cache rule",
								name, RelationGetRelationName(rel)),
						 errdetail("A name with a brace cannot stand in braces."),
						 errhint("Choose another name, or drop the rule with scalecache.drop_cache_rule.")));
			appendStringInfo(&buf, "{%s}", name);
		}
	}
	return buf.data;
}

static Datum
rename_list(Relation rel, char **names, Datum columns)
{
	Datum	   *elems;
	int			n;
	int			kept = 0;

	deconstruct_array(DatumGetArrayTypeP(columns), NAMEOID, NAMEDATALEN, false,
					  TYPALIGN_CHAR, &elems, NULL, &n);
	for (int i = 0; i < n; i++)
	{
		AttrNumber	attno = sc_rule_attno(RelationGetDescr(rel), names,
										  NameStr(*DatumGetName(elems[i])));

		if (attno != InvalidAttrNumber)
			elems[kept++] = NameGetDatum(&TupleDescAttr(RelationGetDescr(rel), attno - 1)->attname);
	}
	return PointerGetDatum(construct_array(elems, kept, NAMEOID, NAMEDATALEN,
										   false, TYPALIGN_CHAR));
}

/* What a command does to a rule's expressions fails without naming the rule. */
static void
name_rule(void *arg)
{
	errcontext("cache rule \"%s\", which the command would break", (const char *) arg);
}

/* Does the command rename the relation's columns, itself or from above? */
static bool
renames_columns_of(const RenameStmt *rename, List *touched, Oid relid)
{
	ListCell   *lc;

	if (rename == NULL)
		return false;
	if (list_member_oid(touched, relid))
		return true;
	if (!get_rel_relispartition(relid))
		return false;
	foreach(lc, get_partition_ancestors(relid))
		if (list_member_oid(touched, lfirst_oid(lc)))
			return true;
	return false;
}

/*
 * The names that the rule's texts use.  One from a dump has none on record, and
 * uses those of the dump, which are the present ones but for the command's own.
 */
static char **
names_in_use(Relation rel, Datum recorded, bool isnull, const RenameStmt *rename)
{
	char	  **names = sc_rule_names(RelationGetDescr(rel), recorded, isnull);

	for (int i = 0; isnull && rename && i < RelationGetNumberOfAttributes(rel); i++)
		if (strcmp(names[i], rename->newname) == 0)
			names[i] = rename->subname;
	return names;
}

/*
 * Write the present names of a rule's relation into its row.  rename is what
 * the command does to its columns, or NULL.
 */
static void
follow_names(Relation catalog, HeapTuple tuple, Relation rel, const RenameStmt *rename)
{
	TupleDesc	desc = RelationGetDescr(catalog);
	Datum		values[Natts_cache_rule] = {0};
	bool		nulls[Natts_cache_rule] = {0};
	bool		repl[Natts_cache_rule] = {0};
	bool		isnull;
	Datum		recorded = heap_getattr(tuple, Anum_cache_rule_attnames, desc, &isnull);
	char	  **names = names_in_use(rel, recorded, isnull, rename);
	char	   *rule = TextDatumGetCString(heap_getattr(tuple, Anum_cache_rule_name, desc, &isnull));
	ErrorContextCallback callback = {error_context_stack, name_rule, rule};
	static const int expressions[] = {Anum_cache_rule_value, Anum_cache_rule_condition};
	Datum		d;

	d = heap_getattr(tuple, Anum_cache_rule_key, desc, &isnull);
	values[Anum_cache_rule_key - 1] =
		CStringGetTextDatum(rename_template(rel, names, TextDatumGetCString(d), rule));
	repl[Anum_cache_rule_key - 1] = true;
	error_context_stack = &callback;
	for (int i = 0; i < 2; i++)
	{
		d = heap_getattr(tuple, expressions[i], desc, &isnull);
		if (isnull)
			continue;
		values[expressions[i] - 1] =
			CStringGetTextDatum(rename_columns(rel, names, TextDatumGetCString(d)));
		repl[expressions[i] - 1] = true;
	}
	error_context_stack = callback.previous;
	d = heap_getattr(tuple, Anum_cache_rule_columns, desc, &isnull);
	if (!isnull)
	{
		values[Anum_cache_rule_columns - 1] = rename_list(rel, names, d);
		repl[Anum_cache_rule_columns - 1] = true;
	}
	values[Anum_cache_rule_attnames - 1] = name_array(RelationGetDescr(rel));
	repl[Anum_cache_rule_attnames - 1] = true;
	CatalogTupleUpdate(catalog, &tuple->t_self,
					   heap_modify_tuple(tuple, desc, values, nulls, repl));
	CommandCounterIncrement();
}

/*
 * Write the present members into a rule's row.  Those that have gone lose its
 * trigger.  One that is in use stays on record: who detaches it has it locked,
 * or the next command sees to it.  False when nothing has changed.
 */
static bool
follow_members(Relation catalog, int64 id, List *members)
{
	TupleDesc	desc = RelationGetDescr(catalog);
	HeapTuple	tuple = sc_rule_fetch(catalog, id);
	Datum		values[Natts_cache_rule] = {0};
	bool		nulls[Natts_cache_rule] = {0};
	bool		repl[Natts_cache_rule] = {0};
	bool		isnull;
	Datum		d = heap_getattr(tuple, Anum_cache_rule_members, desc, &isnull);
	List	   *recorded = isnull ? NIL : oid_list(d);
	List	   *kept = list_copy(members);
	ListCell   *lc;

	foreach(lc, list_difference_oid(recorded, members))
	{
		if (ConditionalLockRelationOid(lfirst_oid(lc), AccessExclusiveLock))
			drop_trigger(id, lfirst_oid(lc), TRUNCATE_FUNCTION);
		else
			kept = lappend_oid(kept, lfirst_oid(lc));
	}
	if (list_difference_oid(kept, recorded) == NIL &&
		list_length(kept) == list_length(recorded))
		return false;
	values[Anum_cache_rule_members - 1] = oid_array(kept);
	repl[Anum_cache_rule_members - 1] = true;
	CatalogTupleUpdate(catalog, &tuple->t_self,
					   heap_modify_tuple(tuple, desc, values, nulls, repl));
	CommandCounterIncrement();
	return true;
}

/* Oids of the relations, and of the types, that the current DDL command has touched. */
static void
touched_objects(List **relations, List **types)
{
	*relations = *types = NIL;
	SPI_connect();
	if (SPI_execute("SELECT objid, classid FROM pg_catalog.pg_event_trigger_ddl_commands()"
					" WHERE classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass"
					" OR classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass", true, 0) == SPI_OK_SELECT)
	{
		uint64		n = SPI_processed;

		for (uint64 i = 0; i < n; i++)
		{
			bool		isnull;
			Oid			oid = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i],
															 SPI_tuptable->tupdesc, 1, &isnull));
			Oid			classid = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i],
																 SPI_tuptable->tupdesc, 2, &isnull));
			MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

			if (classid == RelationRelationId)
				*relations = lappend_oid(*relations, oid);
			else
				*types = lappend_oid(*types, oid);
			MemoryContextSwitchTo(old);
		}
	}
	SPI_finish();
}

/* Have columns been renamed or dropped, or come, since the rule was written? */
static bool
names_differ(Oid relid, Datum recorded)
{
	Datum	   *elems;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(recorded), NAMEOID, NAMEDATALEN, false,
					  TYPALIGN_CHAR, &elems, NULL, &n);
	for (int i = 0; i <= n; i++)
	{
		HeapTuple	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid),
											Int16GetDatum(i + 1));
		bool		same = !HeapTupleIsValid(tuple);

		if (HeapTupleIsValid(tuple))
		{
			same = i < n && strcmp(NameStr(((Form_pg_attribute) GETSTRUCT(tuple))->attname),
								   NameStr(*DatumGetName(elems[i]))) == 0;
			ReleaseSysCache(tuple);
		}
		if (!same)
			return i < n || HeapTupleIsValid(tuple);
	}
	return false;
}

/* Rows of inheriting tables are read with the parent's, and have no trigger. */
static void
refuse_heirs(Oid relid, List *touched, const char *rule)
{
	ListCell   *lc;

	foreach(lc, heirs_of(relid))
		if (list_member_oid(touched, lfirst_oid(lc)))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("table \"%s\" cannot inherit from \"%s\"",
							get_rel_name(lfirst_oid(lc)), get_rel_name(relid)),
					 errdetail("Changes of its rows would not be noticed by cache rule \"%s\".", rule),
					 errhint("Drop the rule with scalecache.drop_cache_rule, or use a partitioned table.")));
}

/* What a command is to a rule */
typedef enum Touch
{
	TOUCH_NONE,
	TOUCH_RESTORED,				/* nothing; the rule has come from a dump */
	TOUCH_KEPT,					/* columns and members are what they were */
	TOUCH_CHANGED
} Touch;

/* Does ALTER TABLE do nothing but what a dump ends with? */
static bool
keeps_columns(Node *stmt)
{
	ListCell   *lc;

	if (!IsA(stmt, AlterTableStmt))
		return false;
	foreach(lc, ((AlterTableStmt *) stmt)->cmds)
		switch (((AlterTableCmd *) lfirst(lc))->subtype)
		{
			case AT_AddConstraint:
			case AT_ClusterOn:
			case AT_ReplicaIdentity:
			case AT_EnableAlwaysTrig:
			case AT_EnableRowSecurity:
				break;
			default:
				return false;
		}
	return true;
}

/*
 * Is the command about the rule?  Any DDL asks, so no table is locked for it:
 * it would wait for whoever alters a table with a rule, or deadlock.
 */
static Touch
is_touched(int64 id, List *touched, bool kept, const RenameStmt *rename)
{
	Relation	catalog = sc_rules_open(AccessShareLock);
	HeapTuple	tuple;
	TupleDesc	desc;
	Oid			relid = InvalidOid;
	List	   *members;
	Datum		d;
	bool		isnull;
	Touch		result = TOUCH_NONE;
	char		kind = '\0';
	ListCell   *lc;

	if (catalog == NULL)
		return TOUCH_NONE;
	tuple = sc_rule_fetch(catalog, id);
	desc = RelationGetDescr(catalog);
	if (tuple)
	{
		relid = rule_relation(catalog, tuple);
		kind = get_rel_relkind(relid);
	}
	if (kind != '\0')
	{
		d = heap_getattr(tuple, Anum_cache_rule_name, desc, &isnull);
		refuse_heirs(relid, touched, TextDatumGetCString(d));
		members = members_of(relid, NoLock);
		d = heap_getattr(tuple, Anum_cache_rule_members, desc, &isnull);
		/* The old name will not be known any more. */
		if (isnull)
			result = renames_columns_of(rename, touched, relid) ? TOUCH_CHANGED : TOUCH_RESTORED;
		foreach(lc, members)
			if (list_member_oid(touched, lfirst_oid(lc)))
				result = kept ? TOUCH_KEPT : TOUCH_CHANGED;
		if (!isnull &&
			!DatumGetBool(OidFunctionCall2Coll(F_ARRAY_EQ, C_COLLATION_OID, d, oid_array(members))))
			result = TOUCH_CHANGED;
		d = heap_getattr(tuple, Anum_cache_rule_attnames, desc, &isnull);
		if (!isnull && names_differ(relid, d))
			result = TOUCH_CHANGED;
	}
	table_close(catalog, AccessShareLock);
	return result;
}

static bool
wants_trigger(int64 id, Oid relid, const char *function)
{
	HeapTuple	tuple = find_trigger(id, relid, function);

	return !HeapTupleIsValid(tuple) ||
		((Form_pg_trigger) GETSTRUCT(tuple))->tgenabled == TRIGGER_FIRES_ON_ORIGIN;
}

/*
 * Lock what follow() will.  pg_restore works on several tables of a rule at
 * the same time, in one transaction for each: who has locked one of them must
 * not wait for the others.
 */
static bool
lock_without_waiting(int64 id, Relation catalog, HeapTuple tuple)
{
	Oid			relid = rule_relation(catalog, tuple);
	List	   *members = members_of(relid, NoLock);
	bool		complete = true;
	ListCell   *lc;

	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return false;
	if (get_rel_relkind(relid) != RELKIND_VIEW)
		foreach(lc, members)
			complete = complete && !wants_trigger(id, lfirst_oid(lc), ROW_FUNCTION) &&
				!wants_trigger(id, lfirst_oid(lc), TRUNCATE_FUNCTION);
	foreach(lc, members)
		if (!complete && !ConditionalLockRelationOid(lfirst_oid(lc), ShareRowExclusiveLock))
			return false;
	return ConditionalLockRelationOid(RelationGetRelid(catalog), RowExclusiveLock) &&
		sc_rule_lock(id, false);
}

/*
 * A rule that need not be followed is nevertheless, so that one from a dump
 * gets what it lacks: but not if that takes waiting.
 */
static bool
can_wait(int64 id, Touch touch)
{
	Relation	catalog = sc_rules_open(AccessShareLock);
	HeapTuple	tuple = catalog ? sc_rule_fetch(catalog, id) : NULL;
	char	   *pattern;
	char	   *prefix;
	bool		result = tuple == NULL || !lock_without_waiting(id, catalog, tuple);

	if (result && tuple && touch == TOUCH_KEPT && sc_rule_pattern(id, &pattern, &prefix))
		sc_cache_touch_pattern(id, pattern);
	if (catalog)
		table_close(catalog, NoLock);
	return result;
}

/*
 * The relation is opened only for new names, when the command has locked it: one
 * about a partition would deadlock with one that comes down from the relation.
 */
static void
follow(int64 id, List *touched, bool kept, const RenameStmt *rename)
{
	Touch		touch = is_touched(id, touched, kept, rename);
	Relation	catalog;
	HeapTuple	tuple;
	Relation	rel;
	Oid			relid;
	List	   *members;
	Datum		d;
	bool		isnull;
	bool		changed;
	char		kind;
	char	   *pattern;
	char	   *prefix;

	if (touch == TOUCH_NONE || (touch != TOUCH_CHANGED && can_wait(id, touch)))
		return;
	catalog = sc_rules_open(RowExclusiveLock);
	if (catalog == NULL)
		return;
	(void) sc_rule_lock(id, true);
	tuple = sc_rule_fetch(catalog, id);
	relid = tuple ? rule_relation(catalog, tuple) : InvalidOid;
	kind = get_rel_relkind(relid);
	if (kind == '\0')
	{
		table_close(catalog, NoLock);
		return;
	}
	members = members_of(relid, NoLock);
	check_members(relid, members);
	changed = list_length(list_difference_oid(members, touched)) < list_length(members);
	d = heap_getattr(tuple, Anum_cache_rule_attnames, RelationGetDescr(catalog), &isnull);
	if ((isnull || list_member_oid(touched, relid) || names_differ(relid, d)) &&
		(rel = try_relation_open(relid, AccessShareLock)) != NULL)
	{
		follow_names(catalog, tuple, rel,
					 renames_columns_of(rename, touched, relid) ? rename : NULL);
		relation_close(rel, NoLock);
		changed = true;
	}
	if (!follow_members(catalog, id, members) && !changed)
	{
		table_close(catalog, NoLock);
		return;
	}
	CacheInvalidateRelcacheByRelid(relid);
	if (kind != RELKIND_VIEW)
		create_triggers(id, relid, members);
	if (sc_rule_pattern(id, &pattern, &prefix))
		sc_cache_touch_pattern(id, pattern);
	table_close(catalog, NoLock);
}

/* ---- types whose values get another text ---- */

/* May the text, or the JSON, of values that are there be another one now? */
static bool
changes_texts(Node *stmt)
{
	ListCell   *lc;

	if (IsA(stmt, AlterEnumStmt))
		return ((AlterEnumStmt *) stmt)->oldVal != NULL;
	if (IsA(stmt, RenameStmt))
		return ((RenameStmt *) stmt)->renameType == OBJECT_ATTRIBUTE ||
			((RenameStmt *) stmt)->renameType == OBJECT_COLUMN;
	if (!IsA(stmt, AlterTableStmt))
		return false;
	foreach(lc, ((AlterTableStmt *) stmt)->cmds)
		switch (((AlterTableCmd *) lfirst(lc))->subtype)
		{
			case AT_AddColumn:
			case AT_DropColumn:
			case AT_AlterColumnType:
				return true;
			default:
				break;
		}
	return false;
}

static bool relation_has_type(Oid relid, const List *types);

/* Is the type one of them, or made of one? */
static bool
has_type(Oid type, const List *types)
{
	HeapTuple	tuple;
	FormData_pg_type form;

	if (list_member_oid(types, type))
		return true;
	check_stack_depth();
	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	if (!HeapTupleIsValid(tuple))
		return false;
	form = *(Form_pg_type) GETSTRUCT(tuple);
	ReleaseSysCache(tuple);
	if (IsTrueArrayType(&form))
		return has_type(form.typelem, types);
	switch (form.typtype)
	{
		case TYPTYPE_DOMAIN:
			return has_type(form.typbasetype, types);
		case TYPTYPE_RANGE:
			return has_type(get_range_subtype(type), types);
		case TYPTYPE_MULTIRANGE:
			return has_type(get_multirange_range(type), types);
		case TYPTYPE_COMPOSITE:
			return relation_has_type(form.typrelid, types);
		default:
			return false;
	}
}

static Oid
column_type(Oid relid, AttrNumber attno)
{
	HeapTuple	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid), Int16GetDatum(attno));
	Oid			type = InvalidOid;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	if (!((Form_pg_attribute) GETSTRUCT(tuple))->attisdropped)
		type = ((Form_pg_attribute) GETSTRUCT(tuple))->atttypid;
	ReleaseSysCache(tuple);
	return type;
}

static bool
relation_has_type(Oid relid, const List *types)
{
	for (AttrNumber attno = 1;
		 SearchSysCacheExists2(ATTNUM, ObjectIdGetDatum(relid), Int16GetDatum(attno));
		 attno++)
		if (has_type(column_type(relid, attno), types))
			return true;
	return false;
}

/* Is a column of such a type in the rule's key? */
static bool
key_has_type(Relation catalog, HeapTuple tuple, const List *types)
{
	TupleDesc	desc = RelationGetDescr(catalog);
	Oid			relid = rule_relation(catalog, tuple);
	bool		isnull;
	List	   *parts;
	Datum		d = heap_getattr(tuple, Anum_cache_rule_key, desc, &isnull);

	parts = sc_template_parse(TextDatumGetCString(d));
	for (int i = 1; i < list_length(parts); i += 2)
		if (has_type(column_type(relid, get_attnum(relid, list_nth(parts, i))), types))
			return true;
	return false;
}

/*
 * The command has changed how values of the types look: an enum's label, a
 * composite type's attributes.  Keys that were made of them are not those that
 * writers make from now on, and cached rows show what was.  Writers that have
 * made theirs, and have yet to commit, are waited for, and later ones wait for
 * the command: nobody else would delete the key that they did not think of.
 */
static void
follow_types(int64 id, const List *types)
{
	Relation	catalog = sc_rules_open(AccessShareLock);
	HeapTuple	tuple = catalog ? sc_rule_fetch(catalog, id) : NULL;
	Oid			relid = tuple ? rule_relation(catalog, tuple) : InvalidOid;
	char		kind = get_rel_relkind(relid);
	bool		concerned = kind != '\0' && relation_has_type(relid, types);
	bool		in_key = concerned && kind != RELKIND_VIEW && key_has_type(catalog, tuple, types);
	char	   *pattern;
	char	   *prefix;

	if (catalog)
		table_close(catalog, AccessShareLock);
	if (!concerned)
		return;
	if (in_key)
	{
		LockRelationOid(relid, ShareRowExclusiveLock);
		(void) members_of(relid, ShareRowExclusiveLock);
	}
	if (sc_rule_pattern(id, &pattern, &prefix))
		sc_cache_touch_pattern(id, pattern);
}

static void
forget_dead_rules(void)
{
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		isnull;

	if (!some_rule_is_dead() || (rel = sc_rules_open(RowExclusiveLock)) == NULL)
		return;
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		int64		id = DatumGetInt64(heap_getattr(tuple, Anum_cache_rule_id,
													RelationGetDescr(rel), &isnull));
		Oid			relid = rule_relation(rel, tuple);

		if (is_alive(rel, tuple))
			continue;
		/* A worker must not note a failure of it from here on, and wait for us. */
		(void) sc_rule_lock(id, true);
		tuple = sc_rule_fetch(rel, id);
		if (tuple)
			forget_rule(rel, tuple);
		if (get_rel_relkind(relid) != '\0')
			CacheInvalidateRelcacheByRelid(relid);
	}
	systable_endscan(scan);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

static void
check_called(FunctionCallInfo fcinfo, const char *function)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" serves an event trigger only", function),
				 errdetail("It looks at the command that has fired it."),
				 errhint("The extension's event triggers call it.")));
}

/* Oids of the objects of a catalog that the command has dropped, or of which a column. */
static List *
dropped_objects(Oid catalog, bool columns)
{
	MemoryContext cxt = CurrentMemoryContext;
	List	   *oids = NIL;

	SPI_connect();
	if (SPI_execute(psprintf("SELECT objid FROM pg_catalog.pg_event_trigger_dropped_objects()"
							 " WHERE classid OPERATOR(pg_catalog.=) %u::pg_catalog.oid"
							 " AND (objsubid OPERATOR(pg_catalog.<>) 0) OPERATOR(pg_catalog.=) %s",
							 catalog, columns ? "true" : "false"), true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read what was dropped");
	MemoryContextSwitchTo(cxt);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		oids = lappend_oid(oids, DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i],
																SPI_tuptable->tupdesc, 1, &isnull)));
	}
	SPI_finish();
	return oids;
}

/*
 * A rule that has lost its row trigger goes.  One that has lost a trigger for
 * TRUNCATE would stay, and not notice it: that one is made again, by who has
 * just had the table locked to drop it.
 */
static void
keep_truncate_triggers(int64 id)
{
	Relation	catalog = sc_rules_open(AccessShareLock);
	HeapTuple	tuple = catalog ? sc_rule_fetch(catalog, id) : NULL;
	Oid			relid = tuple ? rule_relation(catalog, tuple) : InvalidOid;
	bool		isnull = true;
	List	   *lost = NIL;
	ListCell   *lc;

	if (tuple)
		(void) heap_getattr(tuple, Anum_cache_rule_members, RelationGetDescr(catalog), &isnull);
	if (catalog)
		table_close(catalog, AccessShareLock);
	if (isnull || get_rel_relkind(relid) == '\0' || get_rel_relkind(relid) == RELKIND_VIEW)
		return;
	foreach(lc, members_of(relid, NoLock))
		if (CheckRelationOidLockedByMe(lfirst_oid(lc), ShareRowExclusiveLock, true) &&
			!HeapTupleIsValid(find_trigger(id, lfirst_oid(lc), TRUNCATE_FUNCTION)))
			lost = lappend_oid(lost, lfirst_oid(lc));
	if (lost)
		create_triggers(id, relid, lost);
}

/*
 * sql_drop: rules go with their table, or with their trigger.  A partition
 * takes its rows along, whatever drops it: DROP SCHEMA, DROP OWNED.  DROP TYPE
 * may take a column from what is a type itself, for which no other event tells.
 */
Datum
scalecache_cache_dropped(PG_FUNCTION_ARGS)
{
	List	   *ids;
	List	   *types = NIL;
	ListCell   *lc;

	check_called(fcinfo, "cache_dropped");
	if (own_commands)
		PG_RETURN_NULL();
	forget_dead_rules();
	ids = sc_rules_all();
	if (ids == NIL)
		PG_RETURN_NULL();
	foreach(lc, ids)
		follow(*(int64 *) lfirst(lc), NIL, false, NULL);
	if (dropped_objects(TriggerRelationId, false))
		foreach(lc, ids)
			keep_truncate_triggers(*(int64 *) lfirst(lc));
	foreach(lc, dropped_objects(RelationRelationId, true))
		if (OidIsValid(get_rel_type_id(lfirst_oid(lc))))
			types = lappend_oid(types, get_rel_type_id(lfirst_oid(lc)));
	foreach(lc, types ? ids : NIL)
		follow_types(*(int64 *) lfirst(lc), types);
	PG_RETURN_NULL();
}

/* ddl_command_end: names, partitions, rewritten tables, and types. */
Datum
scalecache_cache_altered(PG_FUNCTION_ARGS)
{
	Node	   *stmt;
	RenameStmt *rename = NULL;
	List	   *ids;
	List	   *touched;
	List	   *types;
	bool		kept;
	ListCell   *lc;

	check_called(fcinfo, "cache_altered");
	ids = own_commands ? NIL : sc_rules_all();
	if (ids == NIL)
		PG_RETURN_NULL();
	stmt = ((EventTriggerData *) fcinfo->context)->parsetree;
	touched_objects(&touched, &types);
	kept = keeps_columns(stmt);
	if (IsA(stmt, RenameStmt) && ((RenameStmt *) stmt)->renameType == OBJECT_COLUMN)
		rename = (RenameStmt *) stmt;
	foreach(lc, ids)
		follow(*(int64 *) lfirst(lc), touched, kept, rename);
	if (!changes_texts(stmt))
		PG_RETURN_NULL();
	/* A relation's rows are a type, too. */
	foreach(lc, touched)
		if (OidIsValid(get_rel_type_id(lfirst_oid(lc))))
			types = lappend_oid(types, get_rel_type_id(lfirst_oid(lc)));
	foreach(lc, types ? ids : NIL)
		follow_types(*(int64 *) lfirst(lc), types);
	PG_RETURN_NULL();
}
