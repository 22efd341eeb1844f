/*
 * define.c: creating and dropping cache rules.
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
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
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
#include "replication/logicalworker.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
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
#include "cache/define.h"
#include "cache/rules.h"

PG_FUNCTION_INFO_V1(scalecache_create_cache_rule);
PG_FUNCTION_INFO_V1(scalecache_drop_cache_rule);
PG_FUNCTION_INFO_V1(scalecache_cache_protect);

#define TEMPLATE_MAX	3000	/* its pattern must fit an outbox entry */

bool		sc_rule_own_commands = false;

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
char *
sc_rule_rename_columns(Relation rel, char **names, const char *text)
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
List *
sc_rule_heirs_of(Oid relid)
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
	if (bad == NULL && sc_rule_heirs_of(relid) != NIL)
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
List *
sc_rule_members_of(Oid relid, LOCKMODE mode)
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
void
sc_rule_check_members(Oid of, List *members)
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

Datum
sc_rule_oid_array(List *oids)
{
	Datum	   *elems = palloc(sizeof(Datum) * (list_length(oids) + 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, oids)
		elems[n++] = ObjectIdGetDatum(lfirst_oid(lc));
	return PointerGetDatum(construct_array(elems, n, OIDOID, sizeof(Oid), true,
										   TYPALIGN_INT));
}

List *
sc_rule_oid_list(Datum array)
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

Datum
sc_rule_name_array(TupleDesc desc)
{
	Datum	   *elems = palloc(sizeof(Datum) * (desc->natts + 1));

	for (int i = 0; i < desc->natts; i++)
		elems[i] = NameGetDatum(&TupleDescAttr(desc, i)->attname);
	return PointerGetDatum(construct_array(elems, desc->natts, NAMEOID,
										   NAMEDATALEN, false, TYPALIGN_CHAR));
}

/* ---- triggers ---- */

/* What a rule's triggers on a table call */

static char *
trigger_name(int64 id, const char *function)
{
	return psprintf("scalecache_rule_" INT64_FORMAT "_%s", id,
					strcmp(function, SC_ROW_FUNCTION) == 0 ? "row" : "truncate");
}

/*
 * A copy of a rule's trigger on a relation, or NULL.  It is known by its
 * function and argument, as its name may have been changed.
 */
HeapTuple
sc_rule_find_trigger(int64 id, Oid relid, const char *function)
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
	HeapTuple	tuple = sc_rule_find_trigger(id, relid, function);
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
void
sc_rule_create_triggers(int64 id, Oid relid, List *members)
{
	ListCell   *lc;

	/* The commands run here are no news to the event trigger. */
	sc_rule_own_commands = true;
	PG_TRY();
	{
		create_trigger(id, relid, "INSERT OR UPDATE OR DELETE", "ROW",
					   SC_ROW_FUNCTION);
		foreach(lc, members)
		{
			create_trigger(id, lfirst_oid(lc), "TRUNCATE", "STATEMENT",
						   SC_TRUNCATE_FUNCTION);
			/* A partition's copy of the one above */
			keep_always(lfirst_oid(lc),
						sc_rule_find_trigger(id, lfirst_oid(lc), SC_ROW_FUNCTION));
		}
	}
	PG_FINALLY();
	{
		sc_rule_own_commands = false;
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
	members = sc_rule_members_of(relid, ShareRowExclusiveLock);
	sc_rule_check_members(relid, members);

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
	values[Anum_cache_rule_attnames - 1] = sc_rule_name_array(RelationGetDescr(rel));
	values[Anum_cache_rule_members - 1] = sc_rule_oid_array(members);
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
		sc_rule_create_triggers(id, relid, members);
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
void
sc_rule_forget(Relation catalog, HeapTuple tuple)
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

void
sc_rule_drop_trigger(int64 id, Oid relid, const char *function)
{
	HeapTuple	tuple;

	/* A dump may have brought a second one, by another name. */
	while (HeapTupleIsValid(tuple = sc_rule_find_trigger(id, relid, function)))
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

	sc_rule_drop_trigger(id, relid, SC_ROW_FUNCTION);
	foreach(lc, members)
		sc_rule_drop_trigger(id, lfirst_oid(lc), SC_TRUNCATE_FUNCTION);
}

Oid
sc_rule_relation(Relation catalog, HeapTuple tuple)
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
	(void) sc_rule_members_of(relid, AccessExclusiveLock);
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
	relid = sc_rule_relation(catalog, tuple);
	table_close(catalog, AccessShareLock);
	if (!pg_class_ownercheck(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(get_rel_relkind(relid)),
					   get_rel_name(relid));
	lock_for_drop(relid);
	catalog = open_catalog(ShareRowExclusiveLock);
	tuple = sc_rule_fetch(catalog, id);
	if (tuple == NULL)
		refuse_unknown(name);
	sc_rule_forget(catalog, tuple);
	table_close(catalog, NoLock);
	CacheInvalidateRelcacheByRelid(relid);
	CommandCounterIncrement();
	drop_triggers(id, relid, sc_rule_members_of(relid, NoLock));
	PG_RETURN_VOID();
}

/* ---- by hand ---- */

/*
 * On the tables of rules and of keys.  The library writes to them without
 * firing triggers, so whoever fires these is somebody else: members of
 * pg_write_all_data, and superusers who are to know what they do.  A publisher's
 * rows are of no use to a subscriber, who has his own; they are passed over.
 */
Datum
scalecache_cache_protect(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" serves cache rules only", "cache_protect"),
				 errdetail("It is called by triggers of the extension's tables."),
				 errhint("Create rules with scalecache.create_cache_rule.")));
	if (IsLogicalWorker())
		return PointerGetDatum(NULL);
	/* Rows are looked at for subscribers only. */
	if (TRIGGER_FIRED_FOR_ROW(data->tg_event))
		return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(data->tg_event) ?
							   data->tg_newtuple : data->tg_trigtuple);
	/* Scripts that update the extension may. */
	if (!creating_extension)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot change \"%s\" directly",
						RelationGetRelationName(data->tg_relation)),
				 errdetail("It is what cache rules, and the delivery of their keys, go by."),
				 errhint("Use scalecache.create_cache_rule and scalecache.drop_cache_rule.")));
	return PointerGetDatum(NULL);
}
