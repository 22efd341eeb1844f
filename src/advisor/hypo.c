/*-------------------------------------------------------------------------
 *
 * hypo.c
 *	  Hypothetical indexes: from CREATE INDEX to what the planner needs, and
 *	  back.
 *
 * What must always hold:
 *
 * - What CREATE INDEX would refuse is refused here, with the same SQLSTATE.
 *
 * - No lock is taken on a table but AccessShareLock, and nothing is written
 *	 to the catalogs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/amapi.h"
#include "access/attmap.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/reloptions.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/heap.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_tablespace_d.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/tablespace.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_utilcmd.h"
#include "parser/parser.h"
#include "rewrite/rewriteManip.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "advisor/advisor.h"
#include "base/guc.h"
#include "base/position.h"

/* The one statement in a string, unanalyzed. */
Node *
sc_parse_one(const char *sql)
{
	ErrorContextCallback callback;
	List	   *statements;

	callback.callback = sc_text_error_callback;
	callback.arg = (void *) sql;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	statements = raw_parser(sql, RAW_PARSE_DEFAULT);
	error_context_stack = callback.previous;

	if (list_length(statements) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("expected one statement, found %d",
						list_length(statements)),
				 errhint("Pass each statement as an argument of its own.")));
	return linitial_node(RawStmt, statements)->stmt;
}

/* The server's own tables have the indexes that it knows of. */
static void
check_not_catalog(Oid relid, Oid nsp)
{
	if (!allowSystemTableMods &&
		(IsCatalogRelationOid(relid) || IsToastNamespace(nsp)))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("\"%s\" is a system catalog", get_rel_name(relid)),
				 errdetail("Indexes of system catalogs are the server's own."),
				 errhint("Name a table that was created by a user.")));
}

/*
 * If the DDL is DROP INDEX name, the index's OID, locked as for planning;
 * otherwise InvalidOid.
 */
Oid
sc_hypo_drop_target(const char *ddl)
{
	Node	   *stmt = sc_parse_one(ddl);
	DropStmt   *drop = (DropStmt *) stmt;
	RangeVar   *name;
	Oid			indexoid;
	char		relkind;

	if (!IsA(stmt, DropStmt) || drop->removeType != OBJECT_INDEX)
		return InvalidOid;
	if (list_length(drop->objects) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("expected the name of one index"),
				 errhint("Pass one DROP INDEX for each index.")));
	name = makeRangeVarFromNameList((List *) linitial(drop->objects));
	indexoid = RangeVarGetRelid(name, AccessShareLock, false);
	relkind = get_rel_relkind(indexoid);
	if (relkind != RELKIND_INDEX && relkind != RELKIND_PARTITIONED_INDEX)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not an index", name->relname)));
	check_not_catalog(indexoid, get_rel_namespace(indexoid));
	return indexoid;
}

/*
 * Checks.
 */

static void
check_relation(Relation rel)
{
	char		relkind = rel->rd_rel->relkind;

	if (relkind != RELKIND_RELATION && relkind != RELKIND_MATVIEW &&
		relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot create index on relation \"%s\"",
						RelationGetRelationName(rel)),
				 errdetail_relkind_not_supported(relkind)));
	if (RELATION_IS_OTHER_TEMP(rel))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot use temporary tables of other sessions")));
	check_not_catalog(rel->rd_id, rel->rd_rel->relnamespace);
}

/* Sizes tell something about the rows, and errors of expressions more. */
static void
check_visible(ScHypo *hypo, Relation rel)
{
	Bitmapset  *attrs = NULL;
	bool		evaluated = hypo->exprs != NIL || hypo->pred != NIL;
	int			i;

	for (i = 0; i < hypo->natts; i++)
	{
		if (hypo->attnums[i] > 0)
			attrs = bms_add_member(attrs, hypo->attnums[i] -
								   FirstLowInvalidHeapAttributeNumber);
	}
	pull_varattnos((Node *) hypo->exprs, 1, &attrs);
	pull_varattnos((Node *) hypo->pred, 1, &attrs);
	if (!sc_rows_visible(hypo->relid, GetUserId(), attrs, false))
		aclcheck_error(ACLCHECK_NO_PRIV,
					   get_relkind_objtype(rel->rd_rel->relkind),
					   RelationGetRelationName(rel));
	if (evaluated && !sc_rows_visible(hypo->relid, GetUserId(), attrs, true))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("row-level security hides rows of \"%s\" from you",
						RelationGetRelationName(rel)),
				 errdetail("The size of an index with an expression or a condition would tell what is in them."),
				 errhint("Ask the table's owner, or leave out expressions and WHERE.")));
}

static void
check_am(IndexStmt *stmt, IndexAmRoutine *am)
{
	const char *name = stmt->accessMethod;

	if (stmt->unique && !am->amcanunique)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("access method \"%s\" does not support unique indexes",
						name)));
	if (stmt->indexIncludingParams != NIL && !am->amcaninclude)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("access method \"%s\" does not support included columns",
						name)));
	if (list_length(stmt->indexParams) > 1 && !am->amcanmulticol)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("access method \"%s\" does not support multicolumn indexes",
						name)));
	if (stmt->excludeOpNames != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("exclusion constraints are not supported here")));
	if (list_length(stmt->indexParams) +
		list_length(stmt->indexIncludingParams) > INDEX_MAX_KEYS)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_COLUMNS),
				 errmsg("cannot use more than %d columns in an index",
						INDEX_MAX_KEYS)));
}

static Node *
check_immutable(Node *node, bool predicate)
{
	node = (Node *) expression_planner((Expr *) node);
	if (contain_mutable_functions(node))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 predicate ?
				 errmsg("functions in index predicate must be marked IMMUTABLE") :
				 errmsg("functions in index expression must be marked IMMUTABLE")));
	return node;
}

/* Expressions and conditions of system columns are not allowed either. */
static void
check_no_system_columns(ScHypo *hypo)
{
	Bitmapset  *attrs = NULL;
	int			i;

	pull_varattnos((Node *) hypo->exprs, 1, &attrs);
	pull_varattnos((Node *) hypo->pred, 1, &attrs);
	for (i = FirstLowInvalidHeapAttributeNumber + 1; i < 0; i++)
	{
		if (bms_is_member(i - FirstLowInvalidHeapAttributeNumber, attrs))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("index creation on system columns is not supported")));
	}
}

static void
check_included(IndexElem *elem)
{
	const char *what = NULL;

	if (elem->collation != NIL)
		what = "a collation";
	else if (elem->opclass != NIL)
		what = "an operator class";
	else if (elem->ordering != SORTBY_DEFAULT)
		what = "ASC/DESC options";
	else if (elem->nulls_ordering != SORTBY_NULLS_DEFAULT)
		what = "NULLS FIRST/LAST options";
	if (what != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("including column does not support %s", what)));
}

/* Parameters of an operator class: as it would check them itself. */
static void
check_class_options(ScHypo *hypo, IndexAmRoutine *am, int i, List *options)
{
	Oid			family = get_opclass_family(hypo->opclass[i]);
	Oid			type = get_opclass_input_type(hypo->opclass[i]);
	Oid			proc = InvalidOid;
	local_relopts relopts;

	if (am->amoptsprocnum != 0)
		proc = get_opfamily_proc(family, type, type, am->amoptsprocnum);
	if (!OidIsValid(proc))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("operator class %s has no options",
						generate_opclass_name(hypo->opclass[i]))));
	init_local_reloptions(&relopts, 0);
	(void) OidFunctionCall1(proc, PointerGetDatum(&relopts));
	(void) build_local_reloptions(&relopts,
								  transformRelOptions((Datum) 0, options,
													  NULL, NULL, false,
													  false), true);
}

/*
 * From CREATE INDEX.
 */

static void
set_column(ScHypo *hypo, int i, IndexElem *elem, Relation rel)
{
	Oid			type;
	Oid			collation;
	bool		iskey = i < hypo->nkeys;

	if (elem->name != NULL)
	{
		HeapTuple	tuple = SearchSysCacheAttName(RelationGetRelid(rel),
												  elem->name);
		Form_pg_attribute att;

		if (!HeapTupleIsValid(tuple))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" does not exist", elem->name)));
		att = (Form_pg_attribute) GETSTRUCT(tuple);
		if (att->attnum < 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("index creation on system columns is not supported")));
		hypo->attnums[i] = att->attnum;
		type = att->atttypid;
		collation = att->attcollation;
		ReleaseSysCache(tuple);
	}
	else
	{
		Node	   *expr = elem->expr;

		if (!iskey)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("expressions are not supported in included columns")));
		while (IsA(expr, CollateExpr))
			expr = (Node *) ((CollateExpr *) expr)->arg;
		type = exprType(elem->expr);
		collation = exprCollation(elem->expr);
		if (IsA(expr, Var) && ((Var *) expr)->varattno > 0)
			hypo->attnums[i] = ((Var *) expr)->varattno;
		else
		{
			CheckAttributeType(elem->indexcolname ? elem->indexcolname : "expr",
							   type, collation, NIL, 0);
			hypo->attnums[i] = 0;
			hypo->exprs = lappend(hypo->exprs,
								  check_immutable(expr, false));
		}
	}
	if (!iskey)
	{
		check_included(elem);
		return;
	}

	if (elem->collation != NIL)
		collation = get_collation_oid(elem->collation, false);
	if (!OidIsValid(collation) && type_is_collatable(type))
		ereport(ERROR,
				(errcode(ERRCODE_INDETERMINATE_COLLATION),
				 errmsg("could not determine which collation to use for index expression"),
				 errhint("Use the COLLATE clause to set the collation explicitly.")));
	if (OidIsValid(collation) && !type_is_collatable(type))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("collations are not supported by type %s",
						format_type_be(type))));
	hypo->collation[i] = collation;
	hypo->opclass[i] = ResolveOpClass(elem->opclass, type,
									  get_am_name(hypo->am), hypo->am);
	if (elem->ordering == SORTBY_DESC)
		hypo->options[i] |= INDOPTION_DESC;
	if (elem->nulls_ordering == SORTBY_NULLS_FIRST ||
		(elem->nulls_ordering == SORTBY_NULLS_DEFAULT &&
		 elem->ordering == SORTBY_DESC))
		hypo->options[i] |= INDOPTION_NULLS_FIRST;
}

static void
set_options(ScHypo *hypo, IndexAmRoutine *am, IndexStmt *stmt)
{
	Datum		reloptions;
	ListCell   *lc;

	hypo->dedup = true;
	reloptions = transformRelOptions((Datum) 0, stmt->options, NULL, NULL,
									 false, false);
	(void) index_reloptions(am->amoptions, reloptions, true);
	foreach(lc, stmt->options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		if (pg_strcasecmp(def->defname, "fillfactor") == 0)
			(void) parse_int(defGetString(def), &hypo->fillfactor, 0, NULL);
		else if (pg_strcasecmp(def->defname, "deduplicate_items") == 0)
			hypo->dedup = defGetBoolean(def);
	}
}

static char *
default_name(ScHypo *hypo)
{
	StringInfoData buf;
	int			i;

	initStringInfo(&buf);
	appendStringInfoString(&buf, get_rel_name(hypo->relid));
	for (i = 0; i < hypo->nkeys; i++)
		appendStringInfo(&buf, "_%s", hypo->attnums[i] == 0 ? "expr" :
						 get_attname(hypo->relid, hypo->attnums[i], false));
	appendStringInfoString(&buf, "_idx");
	if (buf.len >= NAMEDATALEN)
		buf.data[pg_mbcliplen(buf.data, buf.len, NAMEDATALEN - 1)] = '\0';
	return buf.data;
}

static void
hypo_alloc(ScHypo *hypo)
{
	hypo->attnums = (AttrNumber *) palloc0(sizeof(AttrNumber) * hypo->natts);
	hypo->opclass = (Oid *) palloc0(sizeof(Oid) * hypo->nkeys);
	hypo->opfamily = (Oid *) palloc0(sizeof(Oid) * hypo->nkeys);
	hypo->opcintype = (Oid *) palloc0(sizeof(Oid) * hypo->nkeys);
	hypo->collation = (Oid *) palloc0(sizeof(Oid) * hypo->nkeys);
	hypo->options = (int16 *) palloc0(sizeof(int16) * hypo->nkeys);
}

static IndexStmt *
parse_index(const char *ddl)
{
	Node	   *stmt = sc_parse_one(ddl);

	if (!IsA(stmt, IndexStmt))
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("not a CREATE INDEX statement: %s", ddl),
				 errhint("Write CREATE INDEX ON table (column, ...), or DROP INDEX name to plan without an existing index.")));
	return (IndexStmt *) stmt;
}

static void hypo_leaves(ScStudy *study, ScHypo *hypo);

/*
 * A hypothetical index as a CREATE INDEX describes it.  Result is the
 * study's; the table stays locked until the end of the (sub)transaction.
 * Unless sized, no row of it has been read yet; see sc_hypo_measure().
 */
ScHypo *
sc_hypo_from_ddl(ScStudy *study, const char *ddl, bool sized)
{
	MemoryContext oldcxt = MemoryContextSwitchTo(study->cxt);
	IndexStmt  *stmt = parse_index(ddl);
	ScHypo	   *hypo = (ScHypo *) palloc0(sizeof(ScHypo));
	ErrorContextCallback callback;
	IndexAmRoutine *am;
	Relation	rel;
	ListCell   *lc;
	int			i = 0;

	hypo->relid = RangeVarGetRelid(stmt->relation, AccessShareLock, false);
	rel = relation_open(hypo->relid, NoLock);
	check_relation(rel);
	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE &&
		!stmt->relation->inh)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("an index on ONLY a partitioned table serves no query"),
				 errhint("Leave out ONLY, for an index of each partition.")));
	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE && stmt->concurrent)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot create index on partitioned table \"%s\" concurrently",
						RelationGetRelationName(rel)),
				 errhint("Leave out CONCURRENTLY.")));
	if (stmt->tableSpace != NULL &&
		get_tablespace_oid(stmt->tableSpace, false) == GLOBALTABLESPACE_OID &&
		!rel->rd_rel->relisshared)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("only shared relations can be placed in pg_global tablespace")));
	hypo->am = get_index_am_oid(stmt->accessMethod, false);
	am = GetIndexAmRoutineByAmId(hypo->am, false);
	check_am(stmt, am);
	callback.callback = sc_text_error_callback;
	callback.arg = (void *) ddl;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	stmt = transformIndexStmt(hypo->relid, stmt, ddl);
	error_context_stack = callback.previous;

	hypo->ddl = pstrdup(ddl);
	hypo->unique = stmt->unique;
	hypo->nkeys = list_length(stmt->indexParams);
	hypo->natts = hypo->nkeys + list_length(stmt->indexIncludingParams);
	hypo_alloc(hypo);
	foreach(lc, stmt->indexParams)
		set_column(hypo, i++, lfirst_node(IndexElem, lc), rel);
	foreach(lc, stmt->indexIncludingParams)
		set_column(hypo, i++, lfirst_node(IndexElem, lc), rel);
	i = 0;
	foreach(lc, stmt->indexParams)
	{
		List	   *options = lfirst_node(IndexElem, lc)->opclassopts;

		if (options != NIL)
		{
			check_class_options(hypo, am, i, options);
			if (hypo->classoptions == NULL)
				hypo->classoptions = (List **) palloc0(sizeof(List *) *
													   hypo->nkeys);
			hypo->classoptions[i] = (List *) copyObject(options);
		}
		i++;
	}
	for (i = 0; i < hypo->nkeys; i++)
	{
		if (hypo->options[i] != 0 && !am->amcanorder)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("access method \"%s\" does not support ASC/DESC options",
							stmt->accessMethod)));
	}
	set_options(hypo, am, stmt);
	if (stmt->whereClause != NULL)
	{
		Node	   *pred = check_immutable(stmt->whereClause, true);

		hypo->pred = make_ands_implicit((Expr *) canonicalize_qual((Expr *) pred,
																   false));
	}
	check_no_system_columns(hypo);
	check_visible(hypo, rel);
	relation_close(rel, NoLock);
	hypo->name = stmt->idxname ? pstrdup(stmt->idxname) : default_name(hypo);
	if (sized)
		sc_hypo_finish(study, hypo, true);
	else
		hypo_leaves(study, hypo);
	MemoryContextSwitchTo(oldcxt);
	return hypo;
}

/*
 * What follows from the columns: operator families, the tables that have
 * storage, sizes.
 */

static ScHypoLeaf *
make_leaf(ScStudy *study, ScHypo *hypo, Oid relid)
{
	ScHypoLeaf *leaf = (ScHypoLeaf *) palloc0(sizeof(ScHypoLeaf));
	Relation	rel = table_open(relid, NoLock);
	ListCell   *expr;
	int			i;

	leaf->relid = relid;
	leaf->attnums = (AttrNumber *) palloc(sizeof(AttrNumber) * hypo->natts);
	memcpy(leaf->attnums, hypo->attnums, sizeof(AttrNumber) * hypo->natts);
	leaf->exprs = (List *) copyObject(hypo->exprs);
	leaf->pred = (List *) copyObject(hypo->pred);
	if (relid != hypo->relid)
	{
		Relation	parent = table_open(hypo->relid, NoLock);
		AttrMap    *map = build_attrmap_by_name(RelationGetDescr(rel),
												RelationGetDescr(parent));
		bool		whole;

		for (i = 0; i < hypo->natts; i++)
		{
			if (leaf->attnums[i] > 0)
				leaf->attnums[i] = map->attnums[leaf->attnums[i] - 1];
		}
		leaf->exprs = (List *) map_variable_attnos((Node *) leaf->exprs, 1, 0,
												   map, InvalidOid, &whole);
		leaf->pred = (List *) map_variable_attnos((Node *) leaf->pred, 1, 0,
												  map, InvalidOid, &whole);
		table_close(parent, NoLock);
	}

	expr = list_head(leaf->exprs);
	for (i = 0; i < hypo->natts; i++)
	{
		Node	   *column;

		if (leaf->attnums[i] != 0)
		{
			Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel),
												  leaf->attnums[i] - 1);

			column = (Node *) makeVar(1, leaf->attnums[i], att->atttypid,
									  att->atttypmod, att->attcollation, 0);
		}
		else
		{
			column = (Node *) lfirst(expr);
			expr = lnext(leaf->exprs, expr);
		}
		leaf->columns = lappend(leaf->columns, column);
	}
	table_close(rel, NoLock);
	return leaf;
}

static void
leaf_stats(ScStudy *study, ScHypo *hypo, ScHypoLeaf *leaf)
{
	ListCell   *lc;
	int			i = 0;

	if (leaf->exprs == NIL)
		return;
	foreach(lc, leaf->columns)
	{
		if (leaf->attnums[i] == 0)
			leaf->stats = lappend(leaf->stats,
								  sc_sample_expr_stats(study,
													   sc_sample_get(study, leaf->relid),
													   (Node *) lfirst(lc),
													   hypo->collation[i]));
		i++;
	}
}

/* Statistics and sizes of all leaves. */
static void
measure_leaves(ScStudy *study, ScHypo *hypo, bool exact)
{
	double		tuples = 0;
	ScOwner		saved;
	ListCell   *lc;

	hypo->bytes = 0;
	hypo->most = 0;
	hypo->width = 0;
	study->leaves = list_length(hypo->leaves);
	sc_owner_begin(hypo->relid, &saved);
	foreach(lc, hypo->leaves)
	{
		ScHypoLeaf *leaf = (ScHypoLeaf *) lfirst(lc);

		if (hypo->unsized)
			leaf_stats(study, hypo, leaf);
		if (exact)
			sc_size_estimate(study, hypo, leaf);
		else
			sc_size_guess(study, hypo, leaf);
		hypo->bytes += (double) leaf->pages * BLCKSZ;
		hypo->most += Max(leaf->most, (double) leaf->pages * BLCKSZ);
		hypo->width += leaf->width * leaf->tuples;
		tuples += leaf->tuples;
	}
	sc_owner_end(&saved);
	study->leaves = 0;
	if (tuples > 0)
		hypo->width /= tuples;
	hypo->unsized = false;
}

/*
 * Sizes by samples, where so far there were none, or they were by statistics.
 */
void
sc_hypo_measure(ScStudy *study, ScHypo *hypo)
{
	MemoryContext oldcxt = MemoryContextSwitchTo(study->cxt);

	measure_leaves(study, hypo, true);
	MemoryContextSwitchTo(oldcxt);
}

/* Operator families, a name, and the tables that have storage. */
static void
hypo_leaves(ScStudy *study, ScHypo *hypo)
{
	List	   *relids;
	ListCell   *lc;
	int			i;

	for (i = 0; i < hypo->nkeys; i++)
	{
		hypo->opfamily[i] = get_opclass_family(hypo->opclass[i]);
		hypo->opcintype[i] = get_opclass_input_type(hypo->opclass[i]);
	}
	if (hypo->am == BTREE_AM_OID)
		hypo->dedup = hypo->dedup && sc_size_dedup_safe(hypo);
	if (hypo->name == NULL)
		hypo->name = default_name(hypo);

	if (get_rel_relkind(hypo->relid) == RELKIND_PARTITIONED_TABLE)
		relids = find_all_inheritors(hypo->relid, AccessShareLock, NULL);
	else
		relids = list_make1_oid(hypo->relid);
	foreach(lc, relids)
	{
		Oid			relid = lfirst_oid(lc);
		char		relkind = get_rel_relkind(relid);

		if (relkind == RELKIND_RELATION || relkind == RELKIND_MATVIEW)
			hypo->leaves = lappend(hypo->leaves, make_leaf(study, hypo, relid));
	}
	hypo->unsized = true;
}

/*
 * The caller has locked the table, and filled in all columns' attributes.
 * exact: take sizes from samples, and not from statistics, which is faster.
 */
void
sc_hypo_finish(ScStudy *study, ScHypo *hypo, bool exact)
{
	MemoryContext oldcxt = MemoryContextSwitchTo(study->cxt);

	hypo_leaves(study, hypo);
	measure_leaves(study, hypo, exact);
	MemoryContextSwitchTo(oldcxt);
}

/*
 * Back to CREATE INDEX.
 */

/* Without parentheses around all of it. */
static char *
unwrapped(char *text)
{
	int			len = strlen(text);
	int			depth = 0;
	char		quote = '\0';
	int			i;

	if (text[0] != '(' || text[len - 1] != ')')
		return text;
	for (i = 0; i < len; i++)
	{
		if (quote != '\0')
			quote = text[i] == quote ? '\0' : quote;
		else if (text[i] == '\'' || text[i] == '"')
			quote = text[i];
		else if (text[i] == '(')
			depth++;
		else if (text[i] == ')' && --depth == 0 && i < len - 1)
			return text;
	}
	return pnstrdup(text + 1, len - 2);
}

static void
append_collation(StringInfo buf, ScHypo *hypo, int i, Node *column)
{
	Oid			natural = exprCollation(column);

	if (OidIsValid(hypo->collation[i]) && hypo->collation[i] != natural)
		appendStringInfo(buf, " COLLATE %s",
						 generate_collation_name(hypo->collation[i]));
}

static void
append_opclass(StringInfo buf, ScHypo *hypo, int i, Node *column)
{
	List	   *options = hypo->classoptions ? hypo->classoptions[i] : NIL;
	HeapTuple	tuple;
	Form_pg_opclass form;
	ListCell   *lc;

	if (options == NIL &&
		GetDefaultOpClass(exprType(column), hypo->am) == hypo->opclass[i])
		return;
	tuple = SearchSysCache1(CLAOID, ObjectIdGetDatum(hypo->opclass[i]));
	if (!HeapTupleIsValid(tuple))
		return;
	form = (Form_pg_opclass) GETSTRUCT(tuple);
	if (OpclassIsVisible(hypo->opclass[i]))
		appendStringInfo(buf, " %s",
						 quote_identifier(NameStr(form->opcname)));
	else
		appendStringInfo(buf, " %s",
						 quote_qualified_identifier(get_namespace_name(form->opcnamespace),
													NameStr(form->opcname)));
	ReleaseSysCache(tuple);
	foreach(lc, options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		appendStringInfo(buf, "%s%s = %s",
						 lc == list_head(options) ? " (" : ", ",
						 quote_identifier(def->defname),
						 quote_literal_cstr(def->arg ? defGetString(def) : "true"));
	}
	if (options != NIL)
		appendStringInfoChar(buf, ')');
}

static void
append_order(StringInfo buf, int16 option)
{
	if (option & INDOPTION_DESC)
	{
		appendStringInfoString(buf, " DESC");
		if (!(option & INDOPTION_NULLS_FIRST))
			appendStringInfoString(buf, " NULLS LAST");
	}
	else if (option & INDOPTION_NULLS_FIRST)
		appendStringInfoString(buf, " NULLS FIRST");
}

/* A table's name, qualified unless the search path finds it. */
static char *
table_name(Oid relid)
{
	char	   *name = get_rel_name(relid);

	if (RelationIsVisible(relid))
		return (char *) quote_identifier(name);
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  name);
}

/* The condition of a partial index. */
char *
sc_hypo_pred(const ScHypo *hypo)
{
	List	   *context = deparse_context_for(get_rel_name(hypo->relid),
											  hypo->relid);
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, hypo->pred)
	{
		char	   *text = deparse_expression((Node *) lfirst(lc), context,
											  false, false);

		if (lc != list_head(hypo->pred))
			appendStringInfoString(&buf, " AND ");
		appendStringInfoString(&buf, IsA(lfirst(lc), BoolExpr) &&
							   list_length(hypo->pred) > 1 ? text :
							   unwrapped(text));
	}
	return buf.data;
}

/*
 * CREATE INDEX for a hypothetical index; name may be NULL.  It means the same in
 * any session, whatever way of writing dates that has.
 */
char *
sc_hypo_ddl(const ScHypo *hypo_in, const char *name)
{
	ScHypo	   *hypo = (ScHypo *) hypo_in;
	List	   *context = deparse_context_for(get_rel_name(hypo->relid),
											  hypo->relid);
	ListCell   *expr = list_head(hypo->exprs);
	int			nestlevel = sc_portable_begin();
	StringInfoData buf;
	int			i;

	initStringInfo(&buf);
	appendStringInfo(&buf, "CREATE %sINDEX ", hypo->unique ? "UNIQUE " : "");
	if (name != NULL)
		appendStringInfo(&buf, "%s ", quote_identifier(name));
	appendStringInfo(&buf, "ON %s ", table_name(hypo->relid));
	if (hypo->am != BTREE_AM_OID)
		appendStringInfo(&buf, "USING %s ",
						 quote_identifier(get_am_name(hypo->am)));
	for (i = 0; i < hypo->natts; i++)
	{
		Node	   *column;

		if (i == hypo->nkeys)
			appendStringInfoString(&buf, ") INCLUDE (");
		else
			appendStringInfoString(&buf, i == 0 ? "(" : ", ");
		if (hypo->attnums[i] != 0)
		{
			char	   *attname = get_attname(hypo->relid, hypo->attnums[i],
											  false);
			Oid			type;
			int32		typmod;
			Oid			collation;

			get_atttypetypmodcoll(hypo->relid, hypo->attnums[i], &type,
								  &typmod, &collation);
			column = (Node *) makeVar(1, hypo->attnums[i], type, typmod,
									  collation, 0);
			appendStringInfoString(&buf, quote_identifier(attname));
		}
		else
		{
			char	   *text;

			column = (Node *) lfirst(expr);
			expr = lnext(hypo->exprs, expr);
			text = deparse_expression(column, context, false, false);
			/* A call needs no parentheses, anything else does. */
			if (IsA(column, FuncExpr) &&
				((FuncExpr *) column)->funcformat == COERCE_EXPLICIT_CALL)
				appendStringInfoString(&buf, text);
			else
				appendStringInfo(&buf, "(%s)", unwrapped(text));
		}
		if (i >= hypo->nkeys)
			continue;
		append_collation(&buf, hypo, i, column);
		append_opclass(&buf, hypo, i, column);
		append_order(&buf, hypo->options[i]);
	}
	appendStringInfoChar(&buf, ')');
	if (hypo->fillfactor > 0)
		appendStringInfo(&buf, " WITH (fillfactor = %d)", hypo->fillfactor);
	if (hypo->pred != NIL)
		appendStringInfo(&buf, " WHERE %s", sc_hypo_pred(hypo));
	AtEOXact_GUC(false, nestlevel);
	return buf.data;
}
