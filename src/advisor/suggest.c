/*-------------------------------------------------------------------------
 *
 * suggest.c
 *	  suggest_indexes(): from statements to advice, with its reasons.
 *
 * What must always hold:
 *
 * - A statement is planned as the user who ran it, and only if the caller may
 *	 read all of its tables.
 *
 * - A statement that cannot be planned is left out and counted; it does not
 *	 make the others fail.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "advisor/apply.h"
#include "advisor/choose.h"
#include "advisor/statements.h"
#include "base/guc.h"
#include "base/limit.h"
#include "base/queries.h"

PG_FUNCTION_INFO_V1(scalecache_suggest_indexes);

/*
 * Statements
 */

typedef struct Loader
{
	ScAdvice   *advice;
	ScItem	   *item;
	const char *text;
	int			nparams;
	Oid		   *types;
	char	  **values;
	const char *settings;
	Oid			userid;
	double		weight;			/* of the variant */
	double		sampled;		/* executions like it */
	double		rows;			/* written by one execution; -1: planned */
	bool		check;			/* must the user be allowed to execute it? */
} Loader;

static ParamListInfo
make_params(int nparams, const Oid *types, char **values)
{
	ParamListInfo params = makeParamList(nparams);
	int			i;

	for (i = 0; i < nparams; i++)
	{
		ParamExternData *param = &params->params[i];
		Oid			input;
		Oid			ioparam;

		param->ptype = types[i];
		param->pflags = PARAM_FLAG_CONST;
		param->isnull = values[i] == NULL;
		if (param->isnull)
			continue;
		getTypeInputInfo(types[i], &input, &ioparam);
		param->value = OidInputFunctionCall(input, values[i], ioparam, -1);
	}
	return params;
}

/*
 * Parse a statement as its user, with his search path.  Both stay set until
 * the end of the subtransaction.  Result is in the current memory context.
 */
static ScQuery *
parse_as_user(const char *text, Oid userid, const char *settings,
			  int nparams, Oid *types, char **values, bool check)
{
	ScQuery    *query;

	if (settings != NULL)
		sc_settings_apply(settings);
	SetUserIdAndSecContext(userid, SECURITY_RESTRICTED_OPERATION |
						   SECURITY_LOCAL_USERID_CHANGE);
	query = sc_query_parse(text, types, nparams, check);
	query->userid = userid;
	query->settings = settings;
	query->nparams = nparams;
	query->types = types;
	query->values = values;
	if (values != NULL)
		query->params = make_params(nparams, types, values);
	return query;
}

/*
 * The same statement parsed anew: its tables, types and functions may have
 * changed since, if their locks were given up.
 */
ScQuery *
sc_query_reload(const ScQuery *old)
{
	return parse_as_user(old->text, old->userid, old->settings,
						 old->nparams, old->types, old->values, false);
}

/* Does a statement touch what the caller, *context, may not read? */
static bool
unreadable_walker(Node *node, void *context)
{
	ListCell   *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, unreadable_walker, context);
	foreach(lc, ((Query *) node)->rtable)
	{
		Oid			userid = *(Oid *) context;
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);
		Bitmapset  *columns;

		if (rte->rtekind != RTE_RELATION || rte->relid < FirstNormalObjectId ||
			rte->requiredPerms == 0)
			continue;
		columns = bms_union(bms_union(rte->selectedCols, rte->insertedCols),
							rte->updatedCols);
		if (pg_class_aclcheck(rte->relid, userid, ACL_SELECT) != ACLCHECK_OK &&
			(columns == NULL ?
			 pg_attribute_aclcheck_all(rte->relid, userid, ACL_SELECT,
									   ACLMASK_ANY) != ACLCHECK_OK :
			 !sc_rows_visible(rte->relid, userid, columns, false)))
			return true;
	}
	return query_tree_walker((Query *) node, unreadable_walker, context, 0);
}

/* With the generated columns that are computed from those that change. */
static Bitmapset *
with_generated(Oid relid, Bitmapset *columns)
{
	Relation	rel = table_open(relid, NoLock);
	TupleConstr *constr = RelationGetDescr(rel)->constr;
	Bitmapset  *result = bms_copy(columns);
	int			i;

	for (i = 0; constr != NULL && constr->has_generated_stored &&
		 i < constr->num_defval; i++)
	{
		AttrNumber	attnum = constr->defval[i].adnum;
		Bitmapset  *from = NULL;
		int			x = -1;

		if (!TupleDescAttr(RelationGetDescr(rel), attnum - 1)->attgenerated)
			continue;
		pull_varattnos(stringToNode(constr->defval[i].adbin), 1, &from);
		while ((x = bms_next_member(from, x)) >= 0)
		{
			int			attno = x + FirstLowInvalidHeapAttributeNumber;

			/* It may be tableoid, too. */
			if (attno > 0 && bms_is_member(attno, columns))
				result = bms_add_member(result, attnum);
		}
	}
	table_close(rel, NoLock);
	return result;
}

static void
add_write(ScAdvice *advice, Oid relid, CmdType command, double rows,
		  Bitmapset *columns)
{
	ScWrite    *write;
	ListCell   *lc;

	if (rows <= 0)
		return;
	if (columns != NULL)
		columns = with_generated(relid, columns);
	foreach(lc, advice->writes)
	{
		write = (ScWrite *) lfirst(lc);
		if (write->relid == relid && write->command == command &&
			bms_equal(write->columns, columns))
		{
			write->rows += rows;
			return;
		}
	}
	write = (ScWrite *) palloc0(sizeof(ScWrite));
	write->relid = relid;
	write->command = command;
	write->rows = rows;
	write->columns = bms_copy(columns);
	advice->writes = lappend(advice->writes, write);
}

/*
 * The same, and that of the partitioned table it is part of, which indexes are
 * suggested for; of that alone if not "self".
 */
static void
add_table_write(ScAdvice *advice, Oid relid, bool self, CmdType command,
				double rows, List *attnums)
{
	Bitmapset  *columns = NULL;
	List	   *ancestors = NIL;
	ListCell   *lc;

	/* There are none where DETACH CONCURRENTLY has not been finalized. */
	if (get_rel_relispartition(relid))
		ancestors = get_partition_ancestors(relid);
	foreach(lc, attnums)
		columns = bms_add_member(columns, lfirst_int(lc));
	if (self || ancestors == NIL)
	{
		add_write(advice, relid, command, rows, columns);
		if (command == CMD_DELETE)
			advice->deleted = list_append_unique_oid(advice->deleted, relid);
	}
	if (ancestors != NIL)
	{
		Oid			top = llast_oid(ancestors);

		LockRelationOid(top, AccessShareLock);
		columns = NULL;
		foreach(lc, attnums)
		{
			AttrNumber	attnum = get_attnum(top, get_attname(relid, lfirst_int(lc),
															 false));

			if (attnum > 0)
				columns = bms_add_member(columns, attnum);
		}
		add_write(advice, top, command, rows, columns);
		if (command == CMD_DELETE)
			advice->deleted = list_append_unique_oid(advice->deleted, top);
	}
}

/* What is done to the nth of the tables that a plan changes. */
static void
note_changes(ScAdvice *advice, ModifyTable *mt, int nth, Oid relid, bool self,
			 double rows)
{
	List	   *actions = NIL;
	double		n = 0;
	ListCell   *lc;

	switch (mt->operation)
	{
		case CMD_INSERT:
			add_table_write(advice, relid, self, CMD_INSERT, rows, NIL);
			if (mt->onConflictAction == ONCONFLICT_UPDATE)
				add_table_write(advice, relid, self, CMD_UPDATE, rows,
								mt->onConflictCols);
			break;
		case CMD_UPDATE:
			add_table_write(advice, relid, self, CMD_UPDATE, rows,
							(List *) list_nth(mt->updateColnosLists, nth));
			break;
		case CMD_DELETE:
			add_table_write(advice, relid, self, CMD_DELETE, rows, NIL);
			break;
		case CMD_MERGE:
			actions = (List *) list_nth(mt->mergeActionLists, nth);
			break;
		default:
			break;
	}
	/* How often each of them is taken is not known. */
	foreach(lc, actions)
		n += lfirst_node(MergeAction, lc)->commandType != CMD_NOTHING ? 1 : 0;
	foreach(lc, actions)
	{
		MergeAction *action = lfirst_node(MergeAction, lc);

		if (action->commandType != CMD_NOTHING)
			add_table_write(advice, relid, self, action->commandType,
							rows / n, action->updateColnos);
	}
}

static double
rows_of(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	double		rows = 0;

	if (HeapTupleIsValid(tuple))
	{
		rows = ((Form_pg_class) GETSTRUCT(tuple))->reltuples;
		ReleaseSysCache(tuple);
	}
	return Max(rows, 1);
}

/*
 * What one node of a plan changes.  Of a table that others inherit from the
 * rows may be in any of these, which have indexes of their own; those of a
 * partitioned table are its own.  rows: of one execution; -1: as planned.
 */
static void
note_modify(Loader *l, PlannedStmt *plan, ModifyTable *mt, double rows)
{
	double		all = 0;
	ListCell   *lc;
	bool		partitioned = mt->rootRelation != 0 &&
		rt_fetch(mt->rootRelation, plan->rtable)->relkind == RELKIND_PARTITIONED_TABLE;

	if (rows < 0)
		rows = outerPlan(mt)->plan_rows;
	rows *= l->item->weight * l->weight;
	foreach(lc, mt->resultRelations)
		all += rows_of(rt_fetch(lfirst_int(lc), plan->rtable)->relid);
	foreach(lc, mt->resultRelations)
	{
		Oid			relid = rt_fetch(lfirst_int(lc), plan->rtable)->relid;

		note_changes(l->advice, mt, foreach_current_index(lc), relid,
					 !partitioned,
					 partitioned ? rows : rows * rows_of(relid) / all);
		/* Where they go does not matter, nor which of them is asked. */
		if (partitioned)
			break;
	}
}

/* What a statement changes, all its executions together. */
static void
note_writes(Loader *l, List *plans)
{
	ListCell   *lc;

	foreach(lc, plans)
	{
		PlannedStmt *plan = lfirst_node(PlannedStmt, lc);
		ListCell   *p;

		if (plan->commandType == CMD_UTILITY)
			continue;
		if (IsA(plan->planTree, ModifyTable))
			note_modify(l, plan, (ModifyTable *) plan->planTree, l->rows);
		/* Those in WITH, whose rows were not counted */
		foreach(p, plan->subplans)
		{
			if (lfirst(p) != NULL && IsA(lfirst(p), ModifyTable))
				note_modify(l, plan, (ModifyTable *) lfirst(p), -1);
		}
	}
}

/* Does a text have this word in it?  In lower case. */
static bool
mentions(const char *text, const char *word)
{
	for (; *text != '\0'; text++)
	{
		if (pg_strncasecmp(text, word, strlen(word)) == 0)
			return true;
	}
	return false;
}

/*
 * COPY FROM, of which nothing can be planned, but what it writes counts.
 * False if the statement is another one.
 */
static bool
load_copy(Loader *l)
{
	Oid			caller = GetUserId();
	CopyStmt   *copy;
	Oid			relid;

	if (!mentions(l->text, "copy"))
		return false;
	if (l->settings != NULL)
		sc_settings_apply(l->settings);
	copy = (CopyStmt *) sc_parse_one(l->text);
	if (!IsA(copy, CopyStmt) || !copy->is_from || copy->relation == NULL)
		return false;
	SetUserIdAndSecContext(l->userid, SECURITY_RESTRICTED_OPERATION |
						   SECURITY_LOCAL_USERID_CHANGE);
	relid = RangeVarGetRelid(copy->relation, AccessShareLock, false);
	if (pg_class_aclcheck(relid, caller, ACL_SELECT) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for a table of the statement")));
	if (relid >= FirstNormalObjectId)
		add_table_write(l->advice, relid, true, CMD_INSERT,
						l->rows * l->item->weight * l->weight, NIL);
	return true;
}

static void
load_one(Loader *l)
{
	ScVariant  *variant = (ScVariant *) palloc0(sizeof(ScVariant));
	Oid			caller = GetUserId();
	ScQuery    *query;
	List	   *plans;
	ListCell   *lc;

	/* The caller's own statements are to be planned, or refused. */
	if (!l->check && load_copy(l))
		return;
	query = parse_as_user(l->text, l->userid, l->settings, l->nparams,
						  l->types, l->values, l->check);
	foreach(lc, query->queries)
	{
		if (unreadable_walker((Node *) lfirst(lc), &caller))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("permission denied for a table of the statement")));
	}
	/* A rule may have made nothing of it. */
	if (l->item->shape == 0 && query->queries != NIL)
		l->item->shape = linitial_node(Query, query->queries)->queryId;
	variant->query = query;
	variant->weight = l->weight;
	variant->sampled = l->sampled;
	variant->base = sc_harvest(l->advice, l->item, variant);
	(void) sc_query_cost(NULL, query, &plans);
	note_writes(l, plans);
	l->item->variants = lappend(l->item->variants, variant);
}

/* Load an execution; an error leaves no trace, and says why in *why. */
static bool
load_safely(Loader *l, int *sqlerrcode, bool rethrow)
{
	MemoryContext oldcxt = CurrentMemoryContext;
	ResourceOwner oldowner = CurrentResourceOwner;
	Oid			userid;
	int			seccxt;
	volatile bool ok = true;
	bool		over = false;
	List	   *uses = list_copy(l->item->uses);
	List	   *relids = list_copy(l->item->relids);

	GetUserIdAndSecContext(&userid, &seccxt);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(l->advice->study->cxt);
	PG_TRY();
	{
		if (sc_apply_in_builder)
			sc_limit_begin(sc_advisor_verify_timeout);
		load_one(l);
		if (sc_apply_in_builder)
			(void) sc_limit_end();
		SetUserIdAndSecContext(userid, seccxt);
		/* Locks go to the outer transaction: the trees need them. */
		if (l->advice->unlocked)
			RollbackAndReleaseCurrentSubTransaction();
		else
			ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(oldcxt);
		CurrentResourceOwner = oldowner;
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(oldcxt);
		if (sc_apply_in_builder)
			over = sc_limit_end();
		edata = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(oldcxt);
		CurrentResourceOwner = oldowner;
		SetUserIdAndSecContext(userid, seccxt);
		*sqlerrcode = edata->sqlerrcode;
		if (rethrow ||
			(edata->sqlerrcode == ERRCODE_QUERY_CANCELED && !over) ||
			edata->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
			ReThrowError(edata);
		FreeErrorData(edata);
		l->item->uses = uses;
		l->item->relids = relids;
		ok = false;
	}
	PG_END_TRY();
	return ok;
}

static ScItem *
new_item(ScAdvice *advice, int64 id, double weight, const char *text)
{
	ScItem	   *item = (ScItem *) palloc0(sizeof(ScItem));

	item->id = id;
	item->weight = weight;
	item->text = pstrdup(text);
	return item;
}

/* The statements given by the caller. */
static void
load_given(ScAdvice *advice, char **queries, int n, double *weights)
{
	int			i;

	for (i = 0; i < n; i++)
	{
		char	   *sql = queries[i];
		Loader		l;
		int			sqlerrcode;

		CHECK_FOR_INTERRUPTS();
		memset(&l, 0, sizeof(l));
		l.advice = advice;
		l.item = new_item(advice, i + 1, weights[i], sql);
		l.text = sql;
		l.userid = GetUserId();
		l.weight = 1;
		l.rows = -1;
		l.check = true;
		if (weights[i] <= 0)
			continue;
		/* The caller is here to be told what is wrong with his query. */
		(void) load_safely(&l, &sqlerrcode, true);
		advice->items = lappend(advice->items, l.item);
	}
}

static bool
load_statement(ScAdvice *advice, ScStatement *stmt, int *sqlerrcode)
{
	ScItem	   *item = new_item(advice, (int64) stmt->queryid, stmt->calls,
								stmt->text);
	Loader		l;
	bool		ok = false;
	int			i;

	memset(&l, 0, sizeof(l));
	l.advice = advice;
	l.item = item;
	l.userid = stmt->userid;
	l.rows = stmt->calls > 0 ? (double) stmt->rows / stmt->calls : 0;
	item->mean_ms = stmt->calls > 0 ? stmt->total_ms / stmt->calls : 0;
	item->since = stmt->first_seen;

	for (i = 0; i < stmt->nexecutions; i++)
	{
		ScExecution *execution = &stmt->executions[i];

		l.text = execution->text ? execution->text : stmt->text;
		l.settings = execution->text ? execution->settings : stmt->settings;
		l.nparams = execution->nparams;
		l.types = execution->types;
		l.values = execution->values;
		l.weight = execution->part;
		l.sampled = execution->count;
		ok = load_safely(&l, sqlerrcode, false) || ok;
	}
	if (!ok)
	{
		/* Without values, or without those of any execution. */
		l.text = stmt->text;
		l.settings = stmt->settings;
		l.nparams = 0;
		l.types = NULL;
		l.values = NULL;
		l.weight = 1;
		ok = load_safely(&l, sqlerrcode, false);
	}
	if (ok)
		advice->items = lappend(advice->items, item);
	return ok;
}

/* The recorded statements; those that cannot be planned are counted. */
void
sc_advice_load_recorded(ScAdvice *advice, bool report)
{
	List	   *statements = sc_statements_list(false);
	int			broken = 0;
	int			denied = 0;
	ListCell   *lc;

	foreach(lc, statements)
	{
		ScStatement *stmt = (ScStatement *) lfirst(lc);
		int			sqlerrcode = 0;

		CHECK_FOR_INTERRUPTS();
		if (stmt->calls == 0 ||
			!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(stmt->userid)))
			continue;
		if (load_statement(advice, stmt, &sqlerrcode))
			continue;
		if (sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE)
			denied++;
		else if (!stmt->seeded)
			broken++;
	}
	advice->denied = denied;
	if (report && broken + denied > 0)
		ereport(NOTICE,
				(errmsg("%d of %d recorded statements were left out",
						broken + denied, list_length(statements)),
				 errdetail("%d could not be planned any more, %d are of tables you may not read.",
						   broken, denied)));
}

/*
 * Foreign keys: deleting a row looks for rows that refer to it.
 */

static int16 *
fk_columns(HeapTuple tuple, Relation rel, AttrNumber attnum, int *n)
{
	bool		isnull;
	Datum		datum = heap_getattr(tuple, attnum, RelationGetDescr(rel),
									 &isnull);
	ArrayType  *array = DatumGetArrayTypeP(datum);

	*n = ARR_DIMS(array)[0];
	return (int16 *) ARR_DATA_PTR(array);
}

/* The look for the rows that refer to one, as the trigger does it. */
static void
fk_check(Loader *l, Form_pg_constraint con, HeapTuple tuple, Relation rel)
{
	bool		isnull;
	int16	   *referring = fk_columns(tuple, rel, Anum_pg_constraint_conkey,
									   &l->nparams);
	int16	   *referred = fk_columns(tuple, rel, Anum_pg_constraint_confkey,
									  &l->nparams);
	Oid		   *operators = (Oid *)
		ARR_DATA_PTR(DatumGetArrayTypeP(heap_getattr(tuple,
													 Anum_pg_constraint_conpfeqop,
													 RelationGetDescr(rel),
													 &isnull)));
	StringInfoData buf;
	int			i;

	initStringInfo(&buf);
	appendStringInfo(&buf, "SELECT 1 FROM %s x WHERE",
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(con->conrelid)),
												get_rel_name(con->conrelid)));
	l->types = (Oid *) palloc(sizeof(Oid) * l->nparams);
	for (i = 0; i < l->nparams; i++)
	{
		l->types[i] = get_atttype(con->confrelid, referred[i]);
		appendStringInfoString(&buf, i > 0 ? " AND " : " ");
		generate_operator_clause(&buf, psprintf("$%d", i + 1), l->types[i],
								 operators[i],
								 quote_identifier(get_attname(con->conrelid,
															  referring[i],
															  false)),
								 get_atttype(con->conrelid, referring[i]));
	}
	appendStringInfoString(&buf, " FOR KEY SHARE OF x");
	l->text = buf.data;
}

static double
deleted_rows(ScAdvice *advice, Oid relid)
{
	double		rows = 0;
	ListCell   *lc;

	foreach(lc, advice->writes)
	{
		ScWrite    *write = (ScWrite *) lfirst(lc);

		if (write->relid == relid && write->command == CMD_DELETE)
			rows += write->rows;
	}
	return rows;
}

static void
load_foreign_keys(ScAdvice *advice)
{
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (advice->deleted == NIL)
		return;
	rel = table_open(ConstraintRelationId, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_constraint con = (Form_pg_constraint) GETSTRUCT(tuple);
		Loader		l;
		int			sqlerrcode;

		if (con->contype != CONSTRAINT_FOREIGN ||
			OidIsValid(con->conparentid) ||
			!list_member_oid(advice->deleted, con->confrelid))
			continue;
		memset(&l, 0, sizeof(l));
		fk_check(&l, con, tuple, rel);
		l.advice = advice;
		l.item = new_item(advice, 0, deleted_rows(advice, con->confrelid),
						  l.text);
		l.item->constraint = pstrdup(NameStr(con->conname));
		l.userid = GetUserId();
		l.weight = 1;
		if (load_safely(&l, &sqlerrcode, false))
			advice->items = lappend(advice->items, l.item);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/*
 * Reasons
 */

static const char *
role_phrase(ScRole role)
{
	switch (role)
	{
		case SC_ROLE_EQ:
			return "equality on";
		case SC_ROLE_JOIN:
			return "the join on";
		case SC_ROLE_RANGE:
			return "the range of";
		case SC_ROLE_SORT:
			return "the order by";
		case SC_ROLE_GROUP:
			return "grouping by";
		case SC_ROLE_PATTERN:
			return "the prefix of";
		case SC_ROLE_SEARCH:
			return "the search in";
	}
	return "";
}

/* What a column is for in a statement, if it is for anything. */
static bool
role_in(ScItem *item, ScCandidate *cand, ScKeyCol *col, ScRole *role)
{
	ListCell   *lc;

	foreach(lc, item->uses)
	{
		ScRelUse   *use = (ScRelUse *) lfirst(lc);
		List	   *cols;
		ListCell   *l;

		if (use->relid != cand->hypo->relid)
			continue;
		cols = list_concat(list_concat(list_concat(list_copy(use->eq),
												   use->join), use->range),
						   use->special);
		foreach(l, use->orders)
			cols = list_concat(cols, (List *) lfirst(l));
		foreach(l, cols)
		{
			ScKeyCol   *other = (ScKeyCol *) lfirst(l);

			if (equal(other->expr, col->expr))
			{
				*role = other->role;
				return true;
			}
		}
	}
	return false;
}

/* In the one that gains most, or else in any of those served. */
static bool
role_of(List *served, ScItem *most, ScCandidate *cand, ScKeyCol *col,
		ScRole *role)
{
	ListCell   *lc;

	if (role_in(most, cand, col, role))
		return true;
	foreach(lc, served)
	{
		if (role_in((ScItem *) lfirst(lc), cand, col, role))
			return true;
	}
	return false;
}

/* A comma, unless it would be the first thing said. */
static void
append_comma(StringInfo buf, int start)
{
	if (buf->len > start)
		appendStringInfoString(buf, ", ");
}

/* Which rows an index has, and for which ranges alone it can be used. */
static void
append_rows(StringInfo buf, int start, ScHypo *hypo)
{
	StringInfoData spans;
	ScHypo		rest = *hypo;

	initStringInfo(&spans);
	rest.pred = sc_bounds_append(&spans, hypo->relid, hypo->pred);
	if (rest.pred != NIL)
	{
		append_comma(buf, start);
		appendStringInfo(buf, "only rows where %s", sc_hypo_pred(&rest));
	}
	if (spans.len > 0)
	{
		append_comma(buf, start);
		appendStringInfo(buf, "only for %s", spans.data);
	}
}

/*
 * What its columns do.  Some do nothing: an index of few rows, or a narrow one
 * to be read instead of the table, has to have some key.
 */
static void
append_columns(StringInfo buf, List *served, ScItem *most, ScCandidate *cand)
{
	List	   *context = deparse_context_for(get_rel_name(cand->hypo->relid),
											  cand->hypo->relid);
	int			start = buf->len;
	int			last = -1;
	ListCell   *lc;

	foreach(lc, cand->keys)
	{
		ScKeyCol   *col = (ScKeyCol *) lfirst(lc);
		ScRole		role;
		char	   *name = deparse_expression(col->expr, context, false,
											  false);

		if (!role_of(served, most, cand, col, &role))
			continue;
		if ((int) role == last)
			appendStringInfo(buf, " and %s", name);
		else
			appendStringInfo(buf, "%s%s %s", last < 0 ? "" : ", then ",
							 role_phrase(role), name);
		last = role;
	}
	append_rows(buf, start, cand->hypo);
	if (buf->len == start)
		appendStringInfoString(buf, "read instead of the table");
	else if (cand->include != NIL)
	{
		append_comma(buf, start);
		appendStringInfoString(buf, "answered from the index alone");
	}
}

static char *
grouped(double n)
{
	char		digits[64];
	StringInfoData buf;
	int			len;
	int			i;

	snprintf(digits, sizeof(digits), "%.0f", n);
	len = strlen(digits);
	initStringInfo(&buf);
	for (i = 0; i < len; i++)
	{
		appendStringInfoChar(&buf, digits[i]);
		if ((len - i - 1) % 3 == 0 && i < len - 1)
			appendStringInfoChar(&buf, ',');
	}
	return buf.data;
}

static char *
short_ms(double ms)
{
	if (ms >= 100)
		return psprintf("%.0f ms", ms);
	if (ms >= 10)
		return psprintf("%.1f ms", ms);
	return psprintf("%.2f ms", Max(ms, 0.01));
}

/* Statements that a chosen index serves, and the one that gains most. */
static List *
served_by(ScAdvice *advice, ScCandidate *cand, Bitmapset *all,
		  ScItem **most, double *before, double *after)
{
	Bitmapset  *without = bms_del_member(bms_copy(all), cand->id);
	List	   *result = NIL;
	double		best = -1;
	ListCell   *lc;

	*most = NULL;
	foreach(lc, advice->items)
	{
		ScItem	   *item = (ScItem *) lfirst(lc);
		double		a;
		double		b;

		if (!list_member_oid(item->relids, cand->hypo->relid))
			continue;
		b = sc_item_cost(advice, item, without);
		a = sc_item_cost(advice, item, all);
		if (b - a <= 0.005 * b)
			continue;
		result = lappend(result, item);
		if (item->weight * (b - a) > best)
		{
			best = item->weight * (b - a);
			*most = item;
			*before = b;
			*after = a;
		}
	}
	return result;
}

static char *
reason_for(ScCandidate *cand, List *served, ScItem *most, double before,
		   double after)
{
	StringInfoData buf;
	int			n = list_length(served);
	double		calls = 0;
	TimestampTz since = 0;
	ListCell   *lc;

	initStringInfo(&buf);
	if (most == NULL)
	{
		appendStringInfoString(&buf, "helps together with the others");
		return buf.data;
	}
	if (most->constraint != NULL && n == 1)
		appendStringInfo(&buf, "finds the rows that refer to a deleted one (foreign key %s): ",
						 quote_identifier(most->constraint));
	else
		appendStringInfo(&buf, "serves %d %s: ", n,
						 n == 1 ? "query" : "queries");
	append_columns(&buf, served, most, cand);
	foreach(lc, served)
	{
		ScItem	   *item = (ScItem *) lfirst(lc);

		if (item->since == 0)
			continue;
		calls += item->weight;
		if (since == 0 || item->since < since)
			since = item->since;
	}
	if (since != 0)
	{
		double		hours = (GetCurrentTimestamp() - since) /
			(double) USECS_PER_HOUR;

		if (hours >= 1)
			appendStringInfo(&buf, "; %s calls/h", grouped(calls / hours));
		else
			appendStringInfo(&buf, "; %s calls", grouped(calls));
	}
	if (most->mean_ms > 0)
		appendStringInfo(&buf, ", %s -> %s", short_ms(most->mean_ms),
						 short_ms(most->mean_ms * after / before));
	else
		appendStringInfo(&buf, "; cost %s -> %s", grouped(before),
						 grouped(after));
	return buf.data;
}

/*
 * suggest_indexes()
 */

static void
warn_never_analyzed(ScAdvice *advice)
{
	ListCell   *lc;

	foreach(lc, advice->study->samples)
	{
		ScSample   *sample = (ScSample *) lfirst(lc);
		Relation	rel = table_open(sample->relid, NoLock);

		if (rel->rd_rel->reltuples < 0 && sample->nrows > 0)
			ereport(WARNING,
					(errcode(ERRCODE_WARNING),
					 errmsg("table \"%s\" has never been analyzed",
							RelationGetRelationName(rel)),
					 errdetail("The planner guesses, and so does this advice."),
					 errhint("Run ANALYZE on it first.")));
		table_close(rel, NoLock);
	}
}

typedef struct Suggest
{
	ScAdvice   *advice;
	char	  **queries;
	int			nqueries;		/* -1: the recorded workload */
	double	   *weights;
	ReturnSetInfo *rsinfo;
} Suggest;

static void
put_row(Suggest *s, ScCandidate *cand, int rank, Bitmapset *all,
		double before, double after)
{
	ScAdvice   *advice = s->advice;
	Datum		values[9];
	bool		nulls[9] = {0};
	ScItem	   *most;
	double		b = 0;
	double		a = 0;
	List	   *served = served_by(advice, cand, all, &most, &b, &a);
	Datum	   *ids = (Datum *) palloc(sizeof(Datum) *
									   Max(1, list_length(served)));
	int			nids = 0;
	ListCell   *lc;

	foreach(lc, served)
	{
		if (((ScItem *) lfirst(lc))->id != 0)
			ids[nids++] = Int64GetDatum(((ScItem *) lfirst(lc))->id);
	}
	values[0] = Int32GetDatum(rank);
	values[1] = CStringGetTextDatum(sc_hypo_ddl(cand->hypo, NULL));
	values[2] = ObjectIdGetDatum(cand->hypo->relid);
	values[3] = Int64GetDatum((int64) cand->hypo->bytes);
	values[4] = Float8GetDatum(before);
	values[5] = Float8GetDatum(after);
	values[6] = Float8GetDatum(cand->write);
	values[7] = PointerGetDatum(construct_array(ids, nids, INT8OID, 8,
												FLOAT8PASSBYVAL,
												TYPALIGN_DOUBLE));
	values[8] = CStringGetTextDatum(reason_for(cand, served, most, b, a));
	tuplestore_putvalues(s->rsinfo->setResult, s->rsinfo->setDesc, values,
						 nulls);
}

/*
 * What was taken for alike while choosing is told apart for the figures, and
 * each statement may use any of the chosen indexes.
 */
static void
tell_apart(ScAdvice *advice)
{
	ListCell   *lc;

	foreach(lc, advice->items)
	{
		ScItem	   *item = (ScItem *) lfirst(lc);
		ListCell   *l;

		item->variants = item->executions;
		item->cands = NULL;
		foreach(l, advice->chosen)
		{
			ScCandidate *cand = (ScCandidate *) lfirst(l);

			if (list_member_oid(item->relids, cand->hypo->relid))
				item->cands = bms_add_member(item->cands, cand->id);
		}
	}
}

/* A row for each chosen index. */
static void
put_rows(Suggest *s)
{
	ScAdvice   *advice = s->advice;
	int			n = list_length(advice->chosen);
	Bitmapset **sets = (Bitmapset **) palloc(sizeof(Bitmapset *) * (n + 1));
	double	   *costs = (double *) palloc(sizeof(double) * (n + 1));
	int			i;

	sets[0] = NULL;
	for (i = 0; i < n; i++)
		sets[i + 1] = bms_add_member(bms_copy(sets[i]),
									 ((ScCandidate *) list_nth(advice->chosen, i))->id);
	/* A plan with all of them often does for fewer, so from the last one. */
	for (i = n; i >= 0; i--)
		costs[i] = sc_workload_cost(advice, sets[i]);
	for (i = 0; i < n; i++)
		put_row(s, (ScCandidate *) list_nth(advice->chosen, i), i + 1,
				sets[n], costs[i], costs[i + 1]);
}

static void
suggest_run(void *arg)
{
	Suggest    *s = (Suggest *) arg;
	ScAdvice   *advice = s->advice;

	if (s->nqueries >= 0)
	{
		load_given(advice, s->queries, s->nqueries, s->weights);
		load_foreign_keys(advice);
	}
	else
		sc_advice_load_recorded(advice, true);
	sc_choose(advice);
	warn_never_analyzed(advice);
	tell_apart(advice);
	put_rows(s);
	elog(DEBUG1, "%d statements, %d candidates, effort %.0f",
		 list_length(advice->items), list_length(advice->candidates),
		 advice->effort);
}

/* suggest_indexes(max_size bigint, queries text[], weights float8[]) */
Datum
scalecache_suggest_indexes(PG_FUNCTION_ARGS)
{
	Suggest		s;
	bool		saved = sc_workload_paused;

	memset(&s, 0, sizeof(s));
	s.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	InitMaterializedSRF(fcinfo, 0);
	if (!PG_ARGISNULL(0) && PG_GETARG_INT64(0) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_size must not be negative"),
				 errhint("It is in bytes; null is no limit.")));
	s.nqueries = sc_queries_given(fcinfo, 1, &s.queries, &s.weights);
	if (s.nqueries < 0 && !sc_workload_available())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("nothing is recorded"),
				 errdetail("scalecache is not in shared_preload_libraries."),
				 errhint("Add it there and restart the server, or pass queries.")));

	s.advice = (ScAdvice *) palloc0(sizeof(ScAdvice));
	s.advice->study = sc_study_begin();
	s.advice->max_size = PG_ARGISNULL(0) ? -1 : (double) PG_GETARG_INT64(0);
	s.advice->given = s.nqueries >= 0;
	sc_workload_paused = true;
	PG_TRY();
	{
		sc_study_run(suggest_run, &s);
	}
	PG_FINALLY();
	{
		sc_workload_paused = saved;
	}
	PG_END_TRY();
	MemoryContextDelete(s.advice->study->cxt);
	return (Datum) 0;
}
