/*-------------------------------------------------------------------------
 *
 * whatif.c
 *	  The planner's answer as if some indexes existed and others did not.
 *
 * What must always hold:
 *
 * - Hypothetical indexes exist only while sc_query_cost() or what_if() plans,
 *	 in this backend, whatever way it ends.  And only for the statement itself:
 *	 what functions that are called meanwhile execute is planned with what
 *	 there is.
 *
 * - Everything is done in a subtransaction that is rolled back, so that no
 *	 lock, no setting and no change of user outlives it, even after an error.
 *
 * - Numbers of hypothetical indexes are below FirstNormalObjectId, where no
 *	 index of a user's is, and none of them is used for a catalog's.  When
 *	 these are used up, as by thousands of partitions, they are those from
 *	 the top that no relation has.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/amapi.h"
#include "access/gist.h"
#include "access/spgist.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_statistic.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/plancat.h"
#include "optimizer/planner.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "rewrite/rewriteManip.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/selfuncs.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "advisor/advisor.h"
#include "base/attempt.h"
#include "base/position.h"
#include "base/queries.h"
#include "rollup/rollup.h"

PG_FUNCTION_INFO_V1(scalecache_what_if);
PG_FUNCTION_INFO_V1(scalecache_what_if_size);

/* What planning is to see, or NULL. */
static ScStudy *active_study = NULL;

/* And the parameters that the statement is planned with, which no other has. */
static ParamListInfo active_params = NULL;

static get_relation_info_hook_type prev_get_relation_info = NULL;
static get_index_stats_hook_type prev_get_index_stats = NULL;
static explain_get_index_name_hook_type prev_explain_get_index_name = NULL;

/*
 * Hooks.
 */

static bool
can_return(ScHypo *hypo, int i)
{
	if (hypo->am == BTREE_AM_OID)
		return true;
	if (hypo->am == GIST_AM_OID)
		return i >= hypo->nkeys ||
			OidIsValid(get_opfamily_proc(hypo->opfamily[i],
										 hypo->opcintype[i],
										 hypo->opcintype[i],
										 GIST_FETCH_PROC)) ||
			!OidIsValid(get_opfamily_proc(hypo->opfamily[i],
										  hypo->opcintype[i],
										  hypo->opcintype[i],
										  GIST_COMPRESS_PROC));
	if (hypo->am == SPGIST_AM_OID && i < hypo->nkeys)
	{
		spgConfigIn in;
		spgConfigOut out;
		Oid			proc = get_opfamily_proc(hypo->opfamily[i],
											 hypo->opcintype[i],
											 hypo->opcintype[i],
											 SPGIST_CONFIG_PROC);

		memset(&out, 0, sizeof(out));
		in.attType = hypo->opcintype[i];
		if (OidIsValid(proc))
			OidFunctionCall2(proc, PointerGetDatum(&in),
							 PointerGetDatum(&out));
		return out.canReturnData;
	}
	return hypo->am == SPGIST_AM_OID;
}

static void
set_sort_order(IndexOptInfo *info, ScHypo *hypo)
{
	int			i;

	if (hypo->am != BTREE_AM_OID)
		return;
	info->sortopfamily = info->opfamily;
	info->reverse_sort = (bool *) palloc(sizeof(bool) * hypo->nkeys);
	info->nulls_first = (bool *) palloc(sizeof(bool) * hypo->nkeys);
	for (i = 0; i < hypo->nkeys; i++)
	{
		info->reverse_sort[i] = (hypo->options[i] & INDOPTION_DESC) != 0;
		info->nulls_first[i] =
			(hypo->options[i] & INDOPTION_NULLS_FIRST) != 0;
	}
}

static void
set_am(IndexOptInfo *info, ScHypo *hypo, Oid relid)
{
	IndexAmRoutine *am = GetIndexAmRoutineByAmId(hypo->am, false);
	Relation	rel = table_open(relid, NoLock);

	info->relam = hypo->am;
	info->amcanorderbyop = am->amcanorderbyop;
	info->amoptionalkey = am->amoptionalkey;
	info->amsearcharray = am->amsearcharray;
	info->amsearchnulls = am->amsearchnulls;
	info->amcanparallel = am->amcanparallel;
	info->amhasgettuple = (am->amgettuple != NULL);
	info->amhasgetbitmap = am->amgetbitmap != NULL &&
		rel->rd_tableam->scan_bitmap_next_block != NULL;
	info->amcanmarkpos = (am->ammarkpos != NULL && am->amrestrpos != NULL);
	info->amcostestimate = am->amcostestimate;
	table_close(rel, NoLock);
}

/* The index as the planner would read it from the catalogs. */
static IndexOptInfo *
make_index_info(ScHypo *hypo, ScHypoLeaf *leaf, RelOptInfo *rel)
{
	IndexOptInfo *info = makeNode(IndexOptInfo);
	List	   *columns;
	ListCell   *lc;
	int			i;

	info->indexoid = leaf->indexoid;
	info->reltablespace = rel->reltablespace;
	info->rel = rel;
	info->ncolumns = hypo->natts;
	info->nkeycolumns = hypo->nkeys;
	info->indexkeys = (int *) palloc(sizeof(int) * hypo->natts);
	info->canreturn = (bool *) palloc(sizeof(bool) * hypo->natts);
	for (i = 0; i < hypo->natts; i++)
	{
		info->indexkeys[i] = leaf->attnums[i];
		info->canreturn[i] = can_return(hypo, i);
	}
	/* No options of operator classes; cost functions read the array. */
	info->opclassoptions = (bytea **) palloc0(sizeof(bytea *) * hypo->natts);
	/* Read-only, and outlive the planning. */
	info->indexcollations = hypo->collation;
	info->opfamily = hypo->opfamily;
	info->opcintype = hypo->opcintype;
	set_am(info, hypo, leaf->relid);
	set_sort_order(info, hypo);

	info->indexprs = (List *) copyObject(leaf->exprs);
	info->indpred = (List *) copyObject(leaf->pred);
	columns = (List *) copyObject(leaf->columns);
	if (rel->relid != 1)
	{
		ChangeVarNodes((Node *) info->indexprs, 1, rel->relid, 0);
		ChangeVarNodes((Node *) info->indpred, 1, rel->relid, 0);
		ChangeVarNodes((Node *) columns, 1, rel->relid, 0);
	}
	i = 0;
	foreach(lc, columns)
		info->indextlist = lappend(info->indextlist,
								   makeTargetEntry((Expr *) lfirst(lc), ++i,
												   NULL, false));
	info->unique = hypo->unique;
	info->immediate = true;
	info->hypothetical = true;
	info->pages = leaf->pages;
	info->tuples = leaf->pred == NIL ? rel->tuples :
		Min(leaf->tuples, rel->tuples);
	info->tree_height = leaf->height;
	return info;
}

/*
 * Is this planning that of sc_query_cost(), and not one for a function that
 * it calls?
 */
bool
sc_query_is_planned(PlannerInfo *root)
{
	return active_params != NULL &&
		root->glob->boundParams == active_params;
}

static void
sc_get_relation_info(PlannerInfo *root, Oid relid, bool inhparent,
					 RelOptInfo *rel)
{
	ListCell   *lc;

	if (prev_get_relation_info)
		prev_get_relation_info(root, relid, inhparent, rel);
	if (active_study == NULL || inhparent || !sc_query_is_planned(root))
		return;

	foreach(lc, rel->indexlist)
	{
		IndexOptInfo *info = (IndexOptInfo *) lfirst(lc);

		if (list_member_oid(active_study->hidden, info->indexoid))
			rel->indexlist = foreach_delete_current(rel->indexlist, lc);
	}
	foreach(lc, active_study->hypos)
	{
		ScHypo	   *hypo = (ScHypo *) lfirst(lc);
		ListCell   *l;

		foreach(l, hypo->leaves)
		{
			ScHypoLeaf *leaf = (ScHypoLeaf *) lfirst(l);

			if (leaf->relid != relid)
				continue;
			/* Rows of tables that the statement has no use for are not read. */
			if (hypo->unsized)
				sc_hypo_measure(active_study, hypo);
			rel->indexlist = lcons(make_index_info(hypo, leaf, rel),
								   rel->indexlist);
		}
	}
}

/* Numbers below FirstNormalObjectId */
#define SC_LOW_NUMBERS	((uint32) (FirstNormalObjectId - FirstUnpinnedObjectId))
#define SC_MAX_NUMBERS	1000000

typedef struct ScNumbered
{
	ScHypo	   *hypo;			/* NULL: some relation has the number */
	ScHypoLeaf *leaf;
} ScNumbered;

static Oid
nth_number(uint32 n)
{
	return n < SC_LOW_NUMBERS ? FirstNormalObjectId - 1 - n :
		OID_MAX - (n - SC_LOW_NUMBERS);
}

static ScHypoLeaf *
find_leaf(ScStudy *study, Oid indexoid, ScHypo **owner)
{
	uint32		n = indexoid < FirstNormalObjectId ?
		FirstNormalObjectId - 1 - indexoid :
		OID_MAX - indexoid + SC_LOW_NUMBERS;

	if (study == NULL || study->hypos == NIL || n >= study->nnumbered ||
		nth_number(n) != indexoid || study->numbered[n].hypo == NULL)
		return NULL;
	*owner = study->numbered[n].hypo;
	return study->numbered[n].leaf;
}

/* The hypothetical index with a number, or NULL. */
ScHypo *
sc_study_find(ScStudy *study, Oid indexoid)
{
	ScHypo	   *hypo = NULL;

	return find_leaf(study, indexoid, &hypo) != NULL ? hypo : NULL;
}

static void
free_nothing(HeapTuple tuple)
{
	/* The statistics are the study's. */
}

static bool
sc_get_index_stats(PlannerInfo *root, Oid indexoid, AttrNumber attnum,
				   VariableStatData *vardata)
{
	ScHypo	   *hypo;
	ScHypoLeaf *leaf = find_leaf(active_study, indexoid, &hypo);
	int			nth = 0;
	int			i;

	if (leaf == NULL)
		return prev_get_index_stats &&
			prev_get_index_stats(root, indexoid, attnum, vardata);

	/*
	 * Of a partial index the planner takes the order of its entries, but not
	 * how many rows of the table a condition selects.
	 */
	if (leaf->pred != NIL && vardata->rel != NULL)
		return true;
	for (i = 0; i < attnum - 1; i++)
	{
		if (leaf->attnums[i] == 0)
			nth++;
	}
	if (leaf->attnums[attnum - 1] == 0 && nth < list_length(leaf->stats))
	{
		ScExprStats *stats = (ScExprStats *) list_nth(leaf->stats, nth);

		vardata->statsTuple = stats->tuple;
		if (vardata->rel != NULL && stats->tuple != NULL)
			hypo->informed = true;
		vardata->freefunc = free_nothing;
		/* As for a real index: operators may see values the user may see. */
		vardata->acl_ok = vardata->rel != NULL &&
			planner_rt_fetch(vardata->rel->relid, root)->securityQuals == NIL &&
			pg_class_aclcheck(leaf->relid, GetUserId(),
							  ACL_SELECT) == ACLCHECK_OK;
	}
	return true;
}

static const char *
sc_explain_get_index_name(Oid indexoid)
{
	ScHypo	   *hypo;

	if (find_leaf(active_study, indexoid, &hypo) != NULL)
		return hypo->name;
	return prev_explain_get_index_name ?
		prev_explain_get_index_name(indexoid) : NULL;
}

/*
 * Studies.
 */

/* A study in the current memory context. */
ScStudy *
sc_study_begin(void)
{
	ScStudy    *study = (ScStudy *) palloc0(sizeof(ScStudy));

	study->cxt = AllocSetContextCreate(CurrentMemoryContext,
									   "scalecache study",
									   ALLOCSET_DEFAULT_SIZES);
	return study;
}

typedef struct Planning
{
	void		(*fn) (void *arg);
	void	   *arg;
} Planning;

static void
plan_read_only(void *arg)
{
	Planning   *planning = arg;

	/* Planning calls functions; not all that they do is rolled back. */
	XactReadOnly = true;
	planning->fn(planning->arg);
}

/*
 * Run something that plans in a subtransaction, and undo all it did but what
 * it left in memory.
 */
void
sc_study_run(void (*fn) (void *arg), void *arg)
{
	Planning	planning = {fn, arg};
	ScStudy    *saved = active_study;
	ErrorData  *error = sc_attempt(plan_read_only, &planning, false);

	active_study = saved;
	if (error)
		ReThrowError(error);
}

static void
refuse_statement(const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot plan this statement"),
			 errdetail("%s", why),
			 errhint("Pass one SELECT, INSERT, UPDATE, DELETE or MERGE.")));
}

/* Refuse what the current user may not execute, subqueries included. */
static bool
check_rights(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, check_rights, context);
	(void) ExecCheckRTPerms(((Query *) node)->rtable, true);
	return query_tree_walker((Query *) node, check_rights, context, 0);
}

/* Analyze what has been parsed, which is to be one statement. */
static Query *
analyze_raws(List *raws, const char *text, const Oid *types, int ntypes)
{
	RawStmt    *raw;
	Oid		   *vartypes = NULL;
	int			nvartypes = 0;

	if (list_length(raws) != 1)
		refuse_statement(raws == NIL ? "There is no statement in it." :
						 "There is more than one statement in it.");
	raw = sc_query_inside(linitial_node(RawStmt, raws));
	if (ntypes > 0)
		return parse_analyze_fixedparams(raw, text, types, ntypes, NULL);
	return parse_analyze_varparams(raw, text, &vartypes, &nvartypes, NULL);
}

typedef struct Recorded
{
	const char *text;
	const Oid  *types;
	int			ntypes;
	RawParseMode mode;
	bool		parsed;
	Query	   *query;
} Recorded;

static void
analyze_as(void *arg)
{
	Recorded   *r = (Recorded *) arg;
	List	   *raws = raw_parser(r->text, r->mode);
	RawStmt    *raw = raws != NIL ? linitial_node(RawStmt, raws) : NULL;

	r->parsed = true;
	if (raw != NULL && IsA(raw->stmt, PLAssignStmt))
		raw->stmt = (Node *) ((PLAssignStmt *) raw->stmt)->val;
	r->query = analyze_raws(raws, r->text, r->types, r->ntypes);
}

/*
 * What is recorded may be a part of a PL/pgSQL statement: an expression, as of
 * IF, or an assignment, of which what is assigned counts.  "x = y" may be
 * either.
 */
static Query *
analyze_recorded(const char *text, const Oid *types, int ntypes)
{
	static const RawParseMode modes[] = {
		RAW_PARSE_DEFAULT, RAW_PARSE_PLPGSQL_EXPR, RAW_PARSE_PLPGSQL_ASSIGN1
	};
	ErrorData  *first = NULL;
	int			i;

	for (i = 0; i < lengthof(modes); i++)
	{
		Recorded	r = {text, types, ntypes, modes[i]};
		ErrorData  *error = sc_attempt(analyze_as, &r, true);

		if (error == NULL)
			return r.query;
		if ((r.parsed && modes[i] == RAW_PARSE_DEFAULT) ||
			!sc_error_is_harmless(error->sqlerrcode))
			ReThrowError(error);
		if (first == NULL)
			first = error;
	}
	ReThrowError(first);
	return NULL;				/* keep compiler quiet */
}

/*
 * Parse, analyze and rewrite one statement, as the current user, whose own it
 * is if it is to be checked, and a recorded one if not.  Result is in the
 * current memory context.
 */
ScQuery *
sc_query_parse(const char *text, const Oid *types, int ntypes, bool check)
{
	ScQuery    *result = (ScQuery *) palloc0(sizeof(ScQuery));
	ErrorContextCallback callback;
	Query	   *query;
	ListCell   *lc;

	callback.callback = sc_text_error_callback;
	callback.arg = (void *) text;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	query = check ?
		analyze_raws(pg_parse_query(text), text, types, ntypes) :
		analyze_recorded(text, types, ntypes);
	error_context_stack = callback.previous;
	if (query->commandType == CMD_UTILITY)
		refuse_statement("It is a utility statement.");
	result->text = pstrdup(text);
	result->userid = GetUserId();
	result->queries = pg_rewrite_query(query);
	if (!check)
		return result;
	foreach(lc, result->queries)
		(void) check_rights((Node *) lfirst(lc), NULL);
	return result;
}

static void
add_numbered(ScStudy *study, ScHypo *hypo, ScHypoLeaf *leaf)
{
	uint32		n = study->nnumbered++;

	if (n >= SC_MAX_NUMBERS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many hypothetical indexes at once")));
	if (n == study->maxnumbered)
	{
		study->maxnumbered = Max(64, n * 2);
		study->numbered = study->numbered == NULL ?
			(ScNumbered *) MemoryContextAlloc(study->cxt,
											  sizeof(ScNumbered) * study->maxnumbered) :
			(ScNumbered *) repalloc(study->numbered,
									sizeof(ScNumbered) * study->maxnumbered);
	}
	study->numbered[n].hypo = hypo;
	study->numbered[n].leaf = leaf;
}

/* Give numbers to the hypothetical indexes that exist now. */
static void
number_hypos(ScStudy *study)
{
	ListCell   *lc;

	study->nnumbered = 0;
	foreach(lc, study->hypos)
	{
		ScHypo	   *hypo = (ScHypo *) lfirst(lc);
		ListCell   *l;

		foreach(l, hypo->leaves)
		{
			ScHypoLeaf *leaf = (ScHypoLeaf *) lfirst(l);

			while (study->nnumbered >= SC_LOW_NUMBERS &&
				   SearchSysCacheExists1(RELOID,
										 ObjectIdGetDatum(nth_number(study->nnumbered))))
				add_numbered(study, NULL, NULL);
			leaf->indexoid = nth_number(study->nnumbered);
			add_numbered(study, hypo, leaf);
		}
	}
}

/*
 * Plan a statement in a study (NULL: as things are) and return its cost.
 * If plans is not NULL, *plans becomes the list of PlannedStmts.
 */
double
sc_query_cost(ScStudy *study, ScQuery *query, List **plans)
{
	ScStudy    *saved = active_study;
	ParamListInfo saved_params = active_params;
	ParamListInfo params = query->params;
	double		cost = 0;
	Oid			userid;
	int			seccxt;

	/* Planning may call functions: as the one whose statement it is. */
	GetUserIdAndSecContext(&userid, &seccxt);
	if (query->userid != userid)
		SetUserIdAndSecContext(query->userid,
							   seccxt | SECURITY_RESTRICTED_OPERATION |
							   SECURITY_LOCAL_USERID_CHANGE);
	if (plans)
		*plans = NIL;
	if (study != NULL)
		number_hypos(study);
	/* Without values: none at all is a list, too, and ours. */
	if (params == NULL)
		params = makeParamList(0);
	active_study = study;
	active_params = params;
	PG_TRY();
	{
		ListCell   *lc;

		foreach(lc, query->queries)
		{
			Query	   *tree = lfirst_node(Query, lc);
			PlannedStmt *plan;

			if (tree->commandType == CMD_UTILITY)
				continue;
			plan = planner((Query *) copyObject(tree), query->text,
						   CURSOR_OPT_PARALLEL_OK, params);
			cost += plan->planTree->total_cost;
			if (plans)
				*plans = lappend(*plans, plan);
		}
	}
	PG_FINALLY();
	{
		active_study = saved;
		active_params = saved_params;
		SetUserIdAndSecContext(userid, seccxt);
	}
	PG_END_TRY();
	return cost;
}

/*
 * Looking at plans.
 */

static void walk_plans(List *plans, List **oids, bool strip);

static void
walk_plan(Plan *plan, List **oids, bool strip)
{
	if (plan == NULL)
		return;
	check_stack_depth();
	walk_plan(plan->lefttree, oids, strip);
	walk_plan(plan->righttree, oids, strip);
	switch (nodeTag(plan))
	{
		case T_IndexScan:
			*oids = list_append_unique_oid(*oids,
										   ((IndexScan *) plan)->indexid);
			break;
		case T_IndexOnlyScan:
			*oids = list_append_unique_oid(*oids,
										   ((IndexOnlyScan *) plan)->indexid);
			break;
		case T_BitmapIndexScan:
			*oids = list_append_unique_oid(*oids,
										   ((BitmapIndexScan *) plan)->indexid);
			break;
		case T_Append:
			/* Nobody gives values to $n here, so nothing can be pruned. */
			if (strip)
				((Append *) plan)->part_prune_info = NULL;
			walk_plans(((Append *) plan)->appendplans, oids, strip);
			break;
		case T_MergeAppend:
			if (strip)
				((MergeAppend *) plan)->part_prune_info = NULL;
			walk_plans(((MergeAppend *) plan)->mergeplans, oids, strip);
			break;
		case T_BitmapAnd:
			walk_plans(((BitmapAnd *) plan)->bitmapplans, oids, strip);
			break;
		case T_BitmapOr:
			walk_plans(((BitmapOr *) plan)->bitmapplans, oids, strip);
			break;
		case T_SubqueryScan:
			walk_plan(((SubqueryScan *) plan)->subplan, oids, strip);
			break;
		case T_CustomScan:
			walk_plans(((CustomScan *) plan)->custom_plans, oids, strip);
			break;
		default:
			break;
	}
}

static void
walk_plans(List *plans, List **oids, bool strip)
{
	ListCell   *lc;

	foreach(lc, plans)
		walk_plan((Plan *) lfirst(lc), oids, strip);
}

/* OIDs of the indexes that a plan reads, hypothetical or not. */
List *
sc_plan_indexes(PlannedStmt *plan)
{
	List	   *oids = NIL;

	walk_plan(plan->planTree, &oids, false);
	walk_plans(plan->subplans, &oids, false);
	return oids;
}

/*
 * what_if()
 */

typedef struct WhatIf
{
	ScStudy    *study;
	char	   *query;
	int			nddl;
	Datum	   *ddl;
	MemoryContext cxt;			/* of the results */
	double		before;
	double		after;
	List	   *used;			/* of char * */
	char	   *plan;
} WhatIf;

static void
note_never_analyzed(ScStudy *study)
{
	ListCell   *lc;

	foreach(lc, study->samples)
	{
		ScSample   *sample = (ScSample *) lfirst(lc);
		Relation	rel = table_open(sample->relid, NoLock);
		bool		never = rel->rd_rel->reltuples < 0 && sample->nrows > 0;
		char	   *name = pstrdup(RelationGetRelationName(rel));

		table_close(rel, NoLock);
		if (never)
			ereport(WARNING,
					(errcode(ERRCODE_WARNING),
					 errmsg("table \"%s\" has never been analyzed", name),
					 errdetail("The planner guesses, and so do these costs."),
					 errhint("Run ANALYZE on it first.")));
	}
}

/* EXPLAIN's text. */
static char *
explain_plans(ScStudy *study, ScQuery *query, List *plans)
{
	ExplainState *es = NewExplainState();
	ListCell   *lc;

	active_study = study;
	es->costs = true;
	ExplainBeginOutput(es);
	foreach(lc, plans)
	{
		PlannedStmt *plan = lfirst_node(PlannedStmt, lc);
		List	   *oids = NIL;

		walk_plan(plan->planTree, &oids, true);
		walk_plans(plan->subplans, &oids, true);
		if (lc != list_head(plans))
			ExplainSeparatePlans(es);
		ExplainOnePlan(plan, NULL, es, query->text, query->params, NULL,
					   NULL, NULL);
	}
	ExplainEndOutput(es);
	while (es->str->len > 0 && es->str->data[es->str->len - 1] == '\n')
		es->str->data[--es->str->len] = '\0';
	return es->str->data;
}

static void
add_ddl(WhatIf *w, Datum value)
{
	char	   *ddl = TextDatumGetCString(value);
	Oid			hidden = sc_hypo_drop_target(ddl);

	if (OidIsValid(hidden))
	{
		List	   *all = list_make1_oid(hidden);

		if (get_rel_relkind(hidden) == RELKIND_PARTITIONED_INDEX)
			all = find_all_inheritors(hidden, AccessShareLock, NULL);
		w->study->hidden = list_concat_unique_oid(w->study->hidden, all);
	}
	else
		w->study->hypos = lappend(w->study->hypos,
								  sc_hypo_from_ddl(w->study, ddl, false));
}

static void
what_if_run(void *arg)
{
	WhatIf	   *w = (WhatIf *) arg;
	ScQuery    *query = sc_query_parse(w->query, NULL, 0, true);
	MemoryContext oldcxt;
	List	   *plans;
	ListCell   *lc;
	int			i;

	for (i = 0; i < w->nddl; i++)
		add_ddl(w, w->ddl[i]);
	w->before = sc_query_cost(NULL, query, NULL);
	w->after = sc_query_cost(w->study, query, &plans);
	note_never_analyzed(w->study);

	oldcxt = MemoryContextSwitchTo(w->cxt);
	foreach(lc, plans)
	{
		List	   *oids = sc_plan_indexes(lfirst_node(PlannedStmt, lc));
		ListCell   *l;

		foreach(l, oids)
		{
			ScHypo	   *hypo = sc_study_find(w->study, lfirst_oid(l));

			if (hypo != NULL)
				w->used = list_append_unique(w->used,
											 makeString(pstrdup(hypo->ddl)));
		}
	}
	w->plan = pstrdup(explain_plans(w->study, query, plans));
	MemoryContextSwitchTo(oldcxt);
}

static Datum
text_array(List *strings)
{
	Datum	   *values = (Datum *) palloc(sizeof(Datum) *
										  Max(1, list_length(strings)));
	ListCell   *lc;
	int			n = 0;

	foreach(lc, strings)
		values[n++] = CStringGetTextDatum(strVal(lfirst(lc)));
	return PointerGetDatum(construct_array(values, n, TEXTOID, -1, false,
										   TYPALIGN_INT));
}

/* what_if(query text, VARIADIC ddl text[]) */
Datum
scalecache_what_if(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	WhatIf		w;
	Datum		values[4];
	bool		nulls[4] = {0};
	bool	   *ddlnulls;
	int			i;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("query must not be null"),
				 errhint("Give the statement to be planned.")));
	memset(&w, 0, sizeof(w));
	w.cxt = CurrentMemoryContext;
	w.query = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (!PG_ARGISNULL(1))
	{
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false,
						  TYPALIGN_INT, &w.ddl, &ddlnulls, &w.nddl);
		for (i = 0; i < w.nddl; i++)
		{
			if (ddlnulls[i])
				ereport(ERROR,
						(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						 errmsg("ddl must not be null"),
						 errhint("Give CREATE INDEX or DROP INDEX, or nothing.")));
		}
	}
	InitMaterializedSRF(fcinfo, 0);
	w.study = sc_study_begin();
	sc_study_run(what_if_run, &w);

	values[0] = Float8GetDatum(w.before);
	values[1] = Float8GetDatum(w.after);
	values[2] = text_array(w.used);
	values[3] = CStringGetTextDatum(w.plan);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	MemoryContextDelete(w.study->cxt);
	return (Datum) 0;
}

static void
what_if_size_run(void *arg)
{
	WhatIf	   *w = (WhatIf *) arg;

	w->study->hypos = list_make1(sc_hypo_from_ddl(w->study, w->query, true));
}

/* what_if_size(ddl text): bytes the index would have */
Datum
scalecache_what_if_size(PG_FUNCTION_ARGS)
{
	WhatIf		w;
	double		bytes;

	sc_refuse_nulls(fcinfo, "ddl");
	memset(&w, 0, sizeof(w));
	w.query = text_to_cstring(PG_GETARG_TEXT_PP(0));
	w.study = sc_study_begin();
	sc_study_run(what_if_size_run, &w);
	bytes = ((ScHypo *) linitial(w.study->hypos))->bytes;
	MemoryContextDelete(w.study->cxt);
	PG_RETURN_INT64((int64) bytes);
}

void
sc_whatif_init(void)
{
	prev_get_relation_info = get_relation_info_hook;
	get_relation_info_hook = sc_get_relation_info;
	prev_get_index_stats = get_index_stats_hook;
	get_index_stats_hook = sc_get_index_stats;
	prev_explain_get_index_name = explain_get_index_name_hook;
	explain_get_index_name_hook = sc_explain_get_index_name;
}
