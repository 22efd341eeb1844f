/*
 * rules.c: what a cache rule is, read from its catalog row.
 *
 * The row holds text as the user wrote it, and the names that the columns
 * had then, by attribute number; the text is read with those names, so a
 * rule means the same columns after a rename.  (define.c rewrites the text
 * as well, for people and for dumps.)
 *
 * Text of a value must not depend on who writes, so it is made under fixed
 * settings and the time zone of the rule's creation.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_relation.h"
#include "storage/lmgr.h"
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

#include "base/changed.h"
#include "base/owner.h"
#include "cache/cache.h"
#include "cache/rules.h"

#define RECENT		512			/* a power of two */

static List *cache = NIL;
static MemoryContext cache_cxt = NULL;
/* By id: a rule of the cache, or NULL, which says nothing. */
static ScRule *recent[RECENT];

/* The last answer about a relation, whose rules were these. */
static Oid	asked_about = InvalidOid;
static List *had_rules = NIL;
static uint64 changes = 0;		/* of relations, rules' among them, so far */

static ScRule **
recent_place(int64 id)
{
	return &recent[id & (RECENT - 1)];
}

/* It is not, or not any more, in the cache's list. */
static void
rule_free(ScRule *rule)
{
	if (*recent_place(rule->id) == rule)
		*recent_place(rule->id) = NULL;
	MemoryContextDelete(rule->cxt);
}

static void
invalidate(Datum arg, Oid relid)
{
	ListCell   *lc;

	asked_about = InvalidOid;
	changes++;

	foreach(lc, cache)
	{
		ScRule	   *rule = lfirst(lc);
		bool		mine = !OidIsValid(relid) || relid == rule->relid;

		for (ScRuleEval *e = rule->evals; e && !mine; e = e->next)
			mine = e->relid == relid;
		if (mine)
			rule->valid = false;
	}
}

/* What a condition calls may have changed. */
static void
invalidate_conditions(Datum arg, int cacheid, uint32 hashvalue)
{
	ListCell   *lc;

	foreach(lc, cache)
	{
		ScRule	   *rule = lfirst(lc);

		if (rule->condition)
			rule->valid = false;
	}
}

void
sc_rules_init(void)
{
	cache_cxt = AllocSetContextCreate(TopMemoryContext, "scalecache rules",
									  ALLOCSET_SMALL_SIZES);
	sc_on_relation_changed(invalidate);
	CacheRegisterSyscacheCallback(PROCOID, invalidate_conditions, (Datum) 0);
}

/* InvalidOid when the extension is not in this database. */
Oid
sc_cache_catalog_relid(void)
{
	Oid			nsp = sc_own_namespace();

	return OidIsValid(nsp) ? get_relname_relid("cache_rule", nsp) : InvalidOid;
}

/*
 * The catalog, or NULL when the extension is not in this database: somebody may
 * drop it, and create it again, while we wait for the lock.
 */
Relation
sc_rules_open(LOCKMODE mode)
{
	Oid			relid;
	Relation	rel = NULL;

	while (rel == NULL && OidIsValid(relid = sc_cache_catalog_relid()))
		rel = try_table_open(relid, mode);
	return rel;
}

/* A copy of a rule's row, or NULL. */
HeapTuple
sc_rule_fetch(Relation rel, int64 id)
{
	Oid			index = get_relname_relid("cache_rule_pkey",
										  RelationGetNamespace(rel));
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_cache_rule_id, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(id));
	scan = systable_beginscan(rel, index, OidIsValid(index), NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		tuple = heap_copytuple(tuple);
	systable_endscan(scan);
	return tuple;
}

static char *
text_column(HeapTuple tuple, TupleDesc desc, int attno)
{
	bool		isnull;
	Datum		d = heap_getattr(tuple, attno, desc, &isnull);

	return isnull ? NULL : TextDatumGetCString(d);
}

/* ---- key templates ---- */

static void
bad_template(const char *template, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR),
			 errmsg("invalid key template \"%s\"", template),
			 errdetail("%s", detail),
			 errhint("Write a column as {column}, and a brace itself as {{ or }}.")));
}

/* "user:{id}" as literal, column, literal, ..., literal */
List *
sc_template_parse(const char *template)
{
	StringInfoData lit;
	List	   *parts = NIL;
	const char *p = template;

	initStringInfo(&lit);
	while (*p)
	{
		const char *close;

		if ((*p == '{' || *p == '}') && p[1] == *p)
		{
			appendStringInfoChar(&lit, *p);
			p += 2;
			continue;
		}
		if (*p == '}')
			bad_template(template, "A closing brace has no opening brace.");
		if (*p != '{')
		{
			appendStringInfoChar(&lit, *p++);
			continue;
		}
		close = strchr(p, '}');
		if (close == NULL || memchr(p + 1, '{', close - p - 1))
			bad_template(template, "An opening brace has no closing brace.");
		if (close == p + 1)
			bad_template(template, "A pair of braces names no column.");
		parts = lappend(parts, pstrdup(lit.data));
		parts = lappend(parts, pnstrdup(p + 1, close - p - 1));
		resetStringInfo(&lit);
		p = close + 1;
	}
	parts = lappend(parts, lit.data);
	return parts;
}

/* ---- expressions over the relation, with the names of back then ---- */

/* The names by attribute number: those recorded, or the present ones. */
char	  **
sc_rule_names(TupleDesc desc, Datum recorded, bool isnull)
{
	char	  **names = palloc0(sizeof(char *) * (desc->natts + 1));
	Datum	   *elems = NULL;
	int			n = 0;

	if (!isnull)
		deconstruct_array(DatumGetArrayTypeP(recorded), NAMEOID, NAMEDATALEN,
						  false, TYPALIGN_CHAR, &elems, NULL, &n);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped)
			names[i] = pstrdup("");
		else if (i < n)
			names[i] = pstrdup(NameStr(*DatumGetName(elems[i])));
		else
			names[i] = pstrdup(NameStr(att->attname));
	}
	return names;
}

AttrNumber
sc_rule_attno(TupleDesc desc, char **names, const char *name)
{
	for (int i = 0; i < desc->natts; i++)
		if (names[i][0] != '\0' && strcmp(names[i], name) == 0)
			return i + 1;
	return InvalidAttrNumber;
}

/* ---- loading ---- */

static bool
depends_on_settings(Oid type)
{
	char		category;
	bool		preferred;

	type = getBaseType(type);
	switch (type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case NUMERICOID:
		case OIDOID:
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case NAMEOID:
		case CHAROID:
		case BOOLOID:
		case UUIDOID:
		case INETOID:
		case CIDROID:
			return false;
	}
	get_type_category_preferred(type, &category, &preferred);
	return category != TYPCATEGORY_ENUM;
}

char *
sc_template_pattern(List *parts)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < list_length(parts); i += 2)
	{
		for (const char *p = list_nth(parts, i); *p; p++)
		{
			if (strchr("*?[]\\^-", *p))
				appendStringInfoChar(&buf, '\\');
			appendStringInfoChar(&buf, *p);
		}
		if (i + 1 < list_length(parts))
			appendStringInfoChar(&buf, '*');
	}
	return buf.data;
}

static void
load_template(ScRule *rule, char **names)
{
	List	   *parts = sc_template_parse(rule->template);

	rule->pattern = sc_template_pattern(parts);
	rule->npieces = 0;
	rule->pieces = palloc0(sizeof(ScPiece) * (list_length(parts) / 2 + 1));
	rule->outfuncs = palloc0(sizeof(FmgrInfo) * (list_length(parts) / 2 + 1));
	for (int i = 0; i < list_length(parts); i += 2)
	{
		ScPiece    *piece = &rule->pieces[rule->npieces];
		Oid			type;
		Oid			func;
		bool		varlena;

		piece->literal = list_nth(parts, i);
		piece->length = strlen(piece->literal);
		if (i + 1 < list_length(parts))
		{
			char	   *name = list_nth(parts, i + 1);

			piece->attno = sc_rule_attno(rule->desc, names, name);
			if (piece->attno == InvalidAttrNumber)
				ereport(ERROR,
						(errcode(ERRCODE_UNDEFINED_COLUMN),
						 errmsg("column \"%s\" of relation \"%s\" does not exist",
								name, get_rel_name(rule->relid)),
						 errdetail("The key template of cache rule \"%s\" names it.",
								   rule->name),
						 errhint("Names are as in the catalog, without quotes; write a brace itself as {{ or }}.")));
			type = TupleDescAttr(rule->desc, piece->attno - 1)->atttypid;
			getTypeOutputInfo(type, &func, &varlena);
			fmgr_info_cxt(func, &rule->outfuncs[rule->npieces], rule->cxt);
			if (depends_on_settings(type))
				rule->modes = true;
		}
		rule->npieces++;
	}
}

static void
load_columns(ScRule *rule, char **names, Datum columns)
{
	Datum	   *elems;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(columns), NAMEOID, NAMEDATALEN, false,
					  TYPALIGN_CHAR, &elems, NULL, &n);
	for (int i = 0; i < n; i++)
	{
		AttrNumber	attno = sc_rule_attno(rule->desc, names,
										  NameStr(*DatumGetName(elems[i])));

		if (attno == InvalidAttrNumber)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of relation \"%s\" does not exist",
							NameStr(*DatumGetName(elems[i])),
							get_rel_name(rule->relid)),
					 errdetail("It is in the columns of cache rule \"%s\".",
							   rule->name),
					 errhint("Names are as in the catalog, without quotes.")));
		rule->columns = bms_add_member(rule->columns, attno);
	}
	/* A key that changes counts in any case. */
	for (int i = 0; i < rule->npieces; i++)
		if (rule->pieces[i].attno)
			rule->columns = bms_add_member(rule->columns, rule->pieces[i].attno);
}

/* Who writes to it has it locked, and need not queue behind who waits to alter it. */
static bool
is_being_written(Oid relid)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	return LockHeldByMe(&tag, RowExclusiveLock);
}

/*
 * The rule's relation, for a writer.  Who has locked a partition only does not
 * wait for who comes from above: it would be a deadlock.
 */
static Relation
open_unless_altered(ScRule *rule)
{
	Relation	rel = NULL;

	if (is_being_written(rule->relid))
		rel = try_relation_open(rule->relid, AccessShareLock);
	else if (ConditionalLockRelationOid(rule->relid, AccessShareLock))
		rel = try_relation_open(rule->relid, NoLock);
	/* The caller takes any error for a condition that holds. */
	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("relation of cache rule \"%s\" is being altered", rule->name)));
	return rel;
}

/*
 * Make the condition ready to be evaluated.  An error leaves the rule as it
 * was; what the condition calls may have been dropped.
 */
void
sc_rule_compile_condition(ScRule *rule)
{
	Relation	rel;
	MemoryContext cxt;
	MemoryContext old;
	Node	   *node;
	EState	   *estate;
	ExprContext *econtext;
	ExprState  *state;

	if (rule->condstate)
		return;
	/* In the caller's context until it is whole, so that errors free it. */
	cxt = AllocSetContextCreate(CurrentMemoryContext, "scalecache condition",
								ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(cxt);
	rel = open_unless_altered(rule);
	node = sc_rule_expression(rel, rule->names, rule->condition, "condition",
							  BOOLOID, true);
	relation_close(rel, AccessShareLock);
	estate = CreateExecutorState();
	econtext = CreateExprContext(estate);
	state = ExecInitExpr(expression_planner((Expr *) node), NULL);
	MemoryContextSwitchTo(old);
	MemoryContextSetParent(cxt, rule->cxt);
	rule->econtext = econtext;
	rule->condstate = state;
}

/* Fill rule from its row; the current context is the rule's own. */
static void
load(ScRule *rule, HeapTuple tuple, TupleDesc desc, Relation rel)
{
	bool		isnull;
	Datum		d;
	char	  **names;

	rule->name = text_column(tuple, desc, Anum_cache_rule_name);
	rule->relid = RelationGetRelid(rel);
	rule->is_rollup = rel->rd_rel->relkind == RELKIND_VIEW;
	rule->desc = CreateTupleDescCopyConstr(RelationGetDescr(rel));
	rule->template = text_column(tuple, desc, Anum_cache_rule_key);
	rule->time_zone = text_column(tuple, desc, Anum_cache_rule_time_zone);
	rule->write = strcmp(text_column(tuple, desc, Anum_cache_rule_action),
						 "write") == 0;
	rule->value = text_column(tuple, desc, Anum_cache_rule_value);
	d = heap_getattr(tuple, Anum_cache_rule_ttl, desc, &isnull);
	if (!isnull)
		rule->ttl_ms = sc_interval_ms(DatumGetIntervalP(d));
	d = heap_getattr(tuple, Anum_cache_rule_attnames, desc, &isnull);
	names = rule->names = sc_rule_names(rule->desc, d, isnull);
	rule->owner = rel->rd_rel->relowner;
	load_template(rule, names);
	d = heap_getattr(tuple, Anum_cache_rule_columns, desc, &isnull);
	if (!isnull)
		load_columns(rule, names, d);
	rule->failing = true;		/* until the first value has shown otherwise */
	rule->condition = text_column(tuple, desc, Anum_cache_rule_condition);
}

/* One of the cache that is valid, or NULL. */
static ScRule *
find_rule(int64 id)
{
	ScRule	  **place = recent_place(id);
	ListCell   *lc;

	if (*place && (*place)->id == id && (*place)->valid)
		return *place;
	foreach(lc, cache)
	{
		ScRule	   *rule = lfirst(lc);

		if (rule->id == id && rule->valid)
		{
			*place = rule;
			return rule;
		}
	}
	return NULL;
}

/*
 * NULL when there is no such rule (any more).  With busy, whose relation is
 * locked by somebody else is not waited for, and *busy says so: a writer that has
 * locked a partition, or a rollup's table, would deadlock with who comes from above.
 */
ScRule *
sc_rule_find(int64 id, bool *busy)
{
	ListCell   *lc;
	ScRule	   *rule = NULL;
	Relation	catrel;
	Relation	rel;
	Oid			relid;
	HeapTuple	tuple;
	MemoryContext old;
	MemoryContext cxt;
	bool		isnull;

	if (busy)
		*busy = false;
	rule = find_rule(id);
	if (rule)
	{
		rule->pins++;
		return rule;
	}
	catrel = sc_rules_open(AccessShareLock);
	if (catrel == NULL)
		return NULL;
	tuple = sc_rule_fetch(catrel, id);
	relid = tuple ? DatumGetObjectId(heap_getattr(tuple, Anum_cache_rule_relation,
												  RelationGetDescr(catrel), &isnull)) : InvalidOid;
	rel = NULL;
	if (tuple && (busy == NULL || is_being_written(relid)))
		rel = try_relation_open(relid, AccessShareLock);
	else if (tuple && ConditionalLockRelationOid(relid, AccessShareLock))
		rel = try_relation_open(relid, NoLock);
	else if (tuple)
		*busy = true;
	if (rel == NULL)
	{
		table_close(catrel, AccessShareLock);
		return NULL;
	}
	/* In the caller's context until it is whole, so that errors free it. */
	cxt = AllocSetContextCreate(CurrentMemoryContext, "scalecache rule",
								ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(cxt);
	rule = palloc0(sizeof(ScRule));
	rule->id = id;
	rule->cxt = cxt;
	load(rule, tuple, RelationGetDescr(catrel), rel);
	MemoryContextSwitchTo(cache_cxt);
	cache = lappend(cache, rule);
	MemoryContextSetParent(cxt, cache_cxt);
	MemoryContextSwitchTo(old);
	rule->valid = true;
	rule->pins = 1;
	*recent_place(id) = rule;
	relation_close(rel, AccessShareLock);
	table_close(catrel, AccessShareLock);
	heap_freetuple(tuple);

	/* Its predecessors go when nobody holds them. */
	foreach(lc, cache)
	{
		ScRule	   *other = lfirst(lc);

		if (!other->valid && other->pins == 0)
		{
			cache = foreach_delete_current(cache, lc);
			rule_free(other);
		}
	}
	return rule;
}

ScRule *
sc_rule_by_id(int64 id)
{
	return sc_rule_find(id, NULL);
}

void
sc_rule_release(ScRule *rule)
{
	if (--rule->pins <= 0)
	{
		rule->pins = 0;
		if (!rule->valid)
		{
			cache = list_delete_ptr(cache, rule);
			rule_free(rule);
		}
	}
}

/* Ids of the rules of a relation, or of all, as palloc'd int64. */
List *
sc_rules_of_relation(Oid relid)
{
	Relation	rel = sc_rules_open(AccessShareLock);
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *ids = NIL;
	bool		isnull;

	if (rel == NULL)
		return NIL;
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		TupleDesc	desc = RelationGetDescr(rel);
		int64	   *id;

		if (OidIsValid(relid) &&
			DatumGetObjectId(heap_getattr(tuple, Anum_cache_rule_relation,
										  desc, &isnull)) != relid)
			continue;
		id = palloc(sizeof(int64));
		*id = DatumGetInt64(heap_getattr(tuple, Anum_cache_rule_id, desc,
										 &isnull));
		ids = lappend(ids, id);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return ids;
}

/*
 * Ids of the rules of a relation.  Asked for each group of a rollup that
 * changes, so it remembers.  Valid until the next lock is taken.
 */
static List *
remembered_rules(Oid relid)
{
	uint64		before = changes;
	MemoryContext old;
	List	   *ids;
	ListCell   *lc;

	if (asked_about == relid)
		return had_rules;
	asked_about = InvalidOid;
	list_free_deep(had_rules);
	had_rules = NIL;
	ids = sc_rules_of_relation(relid);
	old = MemoryContextSwitchTo(cache_cxt);
	foreach(lc, ids)
	{
		int64	   *id = palloc(sizeof(int64));

		*id = *(int64 *) lfirst(lc);
		had_rules = lappend(had_rules, id);
	}
	MemoryContextSwitchTo(old);
	/* Reading may bring news of changes. */
	if (changes == before)
		asked_about = relid;
	return had_rules;
}

bool
sc_relation_has_rules(Oid relid)
{
	return remembered_rules(relid) != NIL;
}

/* As palloc'd int64, n of them */
int64 *
sc_rules_of_view(Oid relid, int *n)
{
	List	   *ids = remembered_rules(relid);
	int64	   *result = palloc(sizeof(int64) * Max(list_length(ids), 1));
	ListCell   *lc;

	*n = 0;
	foreach(lc, ids)
		result[(*n)++] = *(int64 *) lfirst(lc);
	return result;
}

List *
sc_rules_all(void)
{
	return sc_rules_of_relation(InvalidOid);
}

/* ---- from rows to keys ---- */

ScRuleEval *
sc_rule_eval(ScRule *rule, Relation rel)
{
	ScRuleEval *eval;
	MemoryContext old;

	for (eval = rule->evals; eval; eval = eval->next)
		if (eval->relid == RelationGetRelid(rel))
			return eval;
	old = MemoryContextSwitchTo(rule->cxt);
	eval = palloc0(sizeof(ScRuleEval));
	eval->relid = RelationGetRelid(rel);
	if (eval->relid != rule->relid)
		eval->map = build_attrmap_by_name_if_req(RelationGetDescr(rel), rule->desc);
	if (eval->map)
		for (int i = 0; i < 2; i++)
			eval->slot[i] = MakeSingleTupleTableSlot(rule->desc, &TTSOpsVirtual);
	eval->next = rule->evals;
	rule->evals = eval;
	MemoryContextSwitchTo(old);
	return eval;
}

static void
set_quietly(const char *name, const char *value)
{
	const char *present = GetConfigOption(name, true, false);

	/* Mostly it is what it should be, and setting it takes longer. */
	if (present && strcmp(present, value) == 0)
		return;
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/* The settings under which values become text.  Undo with AtEOXact_GUC. */
int
sc_rule_modes(ScRule *rule)
{
	int			nest = NewGUCNestLevel();

	set_quietly("DateStyle", "ISO, MDY");
	set_quietly("IntervalStyle", "postgres");
	set_quietly("extra_float_digits", "1");
	set_quietly("bytea_output", "hex");
	set_quietly("lc_monetary", "C");
	set_quietly("quote_all_identifiers", "off");
	set_quietly("search_path", "pg_catalog, pg_temp");
	if (rule->time_zone)
		set_quietly("TimeZone", rule->time_zone);
	return nest;
}

/* Those on which the meaning of a rule's expressions depends, in addition. */
void
sc_rule_expression_modes(void)
{
	set_quietly("standard_conforming_strings", "on");
	set_quietly("transform_null_equals", "off");
	set_quietly("array_nulls", "on");
	set_quietly("xmloption", "content");
	set_quietly("xmlbinary", "base64");
	set_quietly("lc_numeric", "C");
	set_quietly("lc_time", "C");
	set_quietly("default_text_search_config", "pg_catalog.simple");
}

static void
append_part(StringInfo parts, const char *s, uint32 len)
{
	appendBinaryStringInfo(parts, (char *) &len, sizeof(len));
	appendBinaryStringInfo(parts, s, len);
}

/*
 * Make the key of a row given by attribute; with parts, also the text of each
 * column in it.  False when a part of the key is null, or the key is empty:
 * there is nothing to delete then.
 */
bool
sc_rule_key_values(ScRule *rule, const Datum *values, const bool *nulls,
				   StringInfo key, StringInfo parts)
{
	int			nest = 0;
	bool		ok = true;

	resetStringInfo(key);
	if (parts)
		resetStringInfo(parts);
	if (rule->modes)
		nest = sc_rule_modes(rule);
	for (int i = 0; i < rule->npieces && ok; i++)
	{
		ScPiece    *piece = &rule->pieces[i];
		char	   *s;

		appendBinaryStringInfo(key, piece->literal, piece->length);
		if (piece->attno == 0)
			break;
		if (nulls[piece->attno - 1])
			ok = false;
		else
		{
			s = OutputFunctionCall(&rule->outfuncs[i], values[piece->attno - 1]);
			appendStringInfoString(key, s);
			if (parts)
				append_part(parts, s, strlen(s));
			pfree(s);
		}
	}
	if (rule->modes)
		AtEOXact_GUC(true, nest);
	return ok && key->len > 0;
}

bool
sc_rule_key(ScRule *rule, TupleTableSlot *slot, StringInfo key,
			StringInfo parts)
{
	AttrNumber	last = 0;

	for (int i = 0; i < rule->npieces; i++)
		last = Max(last, rule->pieces[i].attno);
	slot_getsomeattrs(slot, last);
	return sc_rule_key_values(rule, slot->tts_values, slot->tts_isnull, key,
							  parts);
}

/*
 * A glob pattern that every key of the rule matches, and what every key
 * begins with.  False when the rule has gone.  Takes no lock on the table.
 */
bool
sc_rule_pattern(int64 id, char **pattern, char **prefix)
{
	Relation	rel = sc_rules_open(AccessShareLock);
	HeapTuple	tuple;
	List	   *parts;

	if (rel == NULL)
		return false;
	tuple = sc_rule_fetch(rel, id);
	parts = tuple ? sc_template_parse(text_column(tuple, RelationGetDescr(rel),
												  Anum_cache_rule_key)) : NIL;
	table_close(rel, AccessShareLock);
	if (parts == NIL)
		return false;
	*prefix = linitial(parts);
	*pattern = sc_template_pattern(parts);
	return true;
}

/* What every key that matches begins with; at most size bytes of it. */
uint32
sc_pattern_prefix(const char *pattern, uint32 length, char *buf, uint32 size)
{
	uint32		n = 0;

	for (uint32 i = 0; i < length && n < size; i++)
	{
		if (pattern[i] == '*')
			break;
		if (pattern[i] == '\\' && i + 1 < length)
			i++;
		buf[n++] = pattern[i];
	}
	return n;
}

/*
 * Lock a rule's row before it is read to be changed, until the end of the
 * transaction: a worker that notes a failure and a command that renames a
 * column may both want to.  False when somebody else has it, if not to wait.
 */
bool
sc_rule_lock(int64 id, bool wait)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, sc_cache_catalog_relid(), (Oid) id, 0);
	return LockAcquire(&tag, ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

static Relation
open_failures(LOCKMODE mode)
{
	Oid			nsp = sc_own_namespace();
	Oid			relid = OidIsValid(nsp) ? get_relname_relid("cache_failure", nsp) : InvalidOid;

	/* NULL: the extension is being dropped. */
	return OidIsValid(relid) ? try_table_open(relid, mode) : NULL;
}

static SysScanDesc
scan_failure(Relation rel, int64 rule)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(rule));
	return systable_beginscan(rel,
							  get_relname_relid("cache_failure_pkey", RelationGetNamespace(rel)),
							  true, NULL, 1, &key);
}

static bool
says(Relation rel, HeapTuple tuple, const char *message)
{
	bool		isnull;
	Datum		said = heap_getattr(tuple, 2, RelationGetDescr(rel), &isnull);

	return strcmp(TextDatumGetCString(said), message) == 0;
}

/* Does the rule's row of cache_failure say so? */
bool
sc_failure_is(int64 rule, const char *message)
{
	Relation	rel = open_failures(AccessShareLock);
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		result;

	if (rel == NULL)
		return false;
	scan = scan_failure(rel, rule);
	tuple = systable_getnext(scan);
	result = tuple && says(rel, tuple, message);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

/* Have the rule's row of cache_failure say so; NULL: have none. */
void
sc_failure_set(int64 rule, const char *message)
{
	Relation	rel = open_failures(RowExclusiveLock);
	TupleDesc	desc;
	SysScanDesc scan;
	HeapTuple	old;
	Datum		values[2] = {Int64GetDatum(rule)};
	bool		nulls[2] = {false, false};

	if (rel == NULL)
		return;
	desc = RelationGetDescr(rel);
	scan = scan_failure(rel, rule);
	old = systable_getnext(scan);
	if (message)
		values[1] = CStringGetTextDatum(message);
	if (old && message && !says(rel, old, message))
		CatalogTupleUpdate(rel, &old->t_self, heap_form_tuple(desc, values, nulls));
	else if (old && message == NULL)
		CatalogTupleDelete(rel, &old->t_self);
	else if (old == NULL && message)
		CatalogTupleInsert(rel, heap_form_tuple(desc, values, nulls));
	systable_endscan(scan);
	table_close(rel, NoLock);
}

/* Note why the rule's value could not be had; NULL: it could. */
void
sc_rule_set_failing(ScRule *rule, const char *message)
{
	Oid			catalog = sc_cache_catalog_relid();
	Relation	rel;
	HeapTuple	tuple;

	if ((!rule->failing && message == NULL) || !OidIsValid(catalog))
		return;
	/* Not worth waiting for somebody who defines rules. */
	if (!ConditionalLockRelationOid(catalog, RowExclusiveLock) ||
		!sc_rule_lock(rule->id, false) ||
		(rel = try_table_open(catalog, NoLock)) == NULL)
		return;
	tuple = sc_rule_fetch(rel, rule->id);
	if (tuple)
	{
		sc_failure_set(rule->id, message);
		rule->failing = message != NULL;
	}
	table_close(rel, NoLock);
}

/* The query for the value of the rows with the key's parts $1, $2, ... */
char *
sc_rule_value_query(ScRule *rule)
{
	StringInfoData buf;
	int			n = 0;
	char	   *name = get_rel_name(rule->relid);

	initStringInfo(&buf);
	if (rule->value)
		appendStringInfo(&buf, "SELECT (%s\n)::pg_catalog.text", rule->value);
	else
		appendStringInfo(&buf, "SELECT pg_catalog.row_to_json(%s.*)::pg_catalog.text",
						 quote_identifier(name));
	appendStringInfo(&buf, " FROM %s WHERE true",
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(rule->relid)),
												name));
	for (int i = 0; i < rule->npieces; i++)
	{
		AttrNumber	attno = rule->pieces[i].attno;
		Form_pg_attribute att;
		const char *column;
		char	   *type;
		char	   *eq;

		if (attno == 0)
			continue;
		att = TupleDescAttr(rule->desc, attno - 1);
		column = quote_identifier(get_attname(rule->relid, attno, false));
		type = format_type_extended(att->atttypid, att->atttypmod,
									FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
		n++;
		/*
		 * The equality reaches an index, the text decides: byte by byte,
		 * whatever the column's collation takes for the same.
		 */
		eq = sc_equality_operator(att->atttypid);
		if (eq)
			appendStringInfo(&buf, " AND %s.%s %s $%d::%s",
							 quote_identifier(name), column, eq, n, type);
		appendStringInfo(&buf, " AND pg_catalog.format('%%s', %s.%s) COLLATE pg_catalog.\"C\" OPERATOR(pg_catalog.=) $%d",
						 quote_identifier(name), column, n);
	}
	appendStringInfoString(&buf, " LIMIT 2");
	return buf.data;
}
