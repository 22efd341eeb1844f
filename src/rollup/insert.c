/*
 * insert.c: capturing what an INSERT inserts without queueing events.
 *
 * An AFTER ROW trigger costs an event for each row, and reads the row again
 * at the end of the statement.  Plain INSERTs can do without: a row that the
 * plan below ModifyTable returns is in the table by the time the next one is
 * asked for, and has not changed on the way when no trigger, conflict or
 * generated column comes between.  So the plan node is tapped: before it is
 * asked for another row, and before the AFTER triggers fire, the row that it
 * returned last is added to the changes, and the trigger is switched off in
 * the executor's own copy of the table's triggers.
 *
 * COPY has no plan, but evaluates the conditions of triggers right after a
 * row has got into the table and its indexes, with the row still at hand.  So
 * before a COPY our trigger is given a condition that captures the row, and
 * says no.  It is put into the relation cache only, whose triggers the
 * executor copies when it starts.  Should the cache lose it before, there are
 * events; should it stay longer, other statements capture that way too: each
 * row is captured once, in either way.
 *
 * All other changes, routed rows among them, take the trigger.  Of an UPDATE
 * only the trigger's condition is answered here, without reading its text.
 *
 * A reader in the middle of the statement does not rely on changes that are
 * not complete: see source_is_changing() in scan.c.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parsetree.h"
#include "rewrite/prs2lock.h"
#include "tcop/utility.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/changed.h"
#include "base/condition.h"
#include "base/known.h"
#include "rollup/rollup.h"

/* Rollups of one table beyond these take the trigger. */
#define SC_TAPPED		8

/* A plan node that is tapped.  Lives, like the node, in the query's context. */
typedef struct Tap
{
	PlanState  *node;
	ExecProcNodeMtd next;		/* what the node does itself */
	TupleTableSlot *row;		/* returned, but not captured yet */
	Relation	rel;			/* that it goes to */
	ResultRelInfo *target;		/* likewise */
	CommandId	cid;			/* that inserts it */
	int			n;
	ScSpec	   *specs[SC_TAPPED];	/* pinned */
	QueryDesc  *query;
	MemoryContextCallback callback;
	struct Tap *outer;			/* of a query that was started before */
} Tap;

static Tap *taps = NULL;		/* innermost first */
static ScKnown capturing;		/* the trigger function */
static ExecutorStart_hook_type prev_start = NULL;
static ExecutorFinish_hook_type prev_finish = NULL;
static ProcessUtility_hook_type prev_utility = NULL;

PG_FUNCTION_INFO_V1(scalecache_rollup_inserted);

/* The capturing function has been called as the trigger function it is. */
void
sc_insert_learn(Oid function)
{
	sc_known_learn(&capturing, function);
}

/* The query's memory goes. */
static void
remove_tap(void *arg)
{
	for (Tap **link = &taps; *link; link = &(*link)->outer)
		if (*link == arg)
		{
			*link = (*link)->outer;
			return;
		}
}

static pg_attribute_hot void
capture_row(Tap *tap)
{
	TupleTableSlot *row = tap->row;
	TupleTableSlot *stored = tap->target->ri_newTupleSlot;

	/* A row in a slot of another kind has been copied before. */
	if (stored == NULL || stored->tts_ops == row->tts_ops)
		stored = row;
	tap->row = NULL;
	for (int i = 0; i < tap->n; i++)
		sc_capture_insert(&tap->specs[i], tap->rel, row, &stored->tts_tid, tap->cid);
}

static pg_attribute_hot TupleTableSlot *
tapped_node(PlanState *node)
{
	Tap		   *tap = taps;

	while (tap->node != node)
		tap = tap->outer;
	if (tap->row)
		capture_row(tap);
	tap->row = tap->next(node);
	if (TupIsNull(tap->row))
	{
		TupleTableSlot *end = tap->row;

		tap->row = NULL;
		return end;
	}
	return tap->row;
}

/* Does the plan return what is inserted, column by column? */
static pg_attribute_hot bool
returns_rows(Plan *plan)
{
	ListCell   *lc;

	foreach(lc, plan->targetlist)
		if (lfirst_node(TargetEntry, lc)->resjunk)
			return false;
	return true;
}

static bool
looks_like_ours(Trigger *trigger, int16 event)
{
	return TRIGGER_TYPE_MATCHES(trigger->tgtype, TRIGGER_TYPE_ROW, TRIGGER_TYPE_AFTER, event) &&
		trigger->tgnargs == 1 && trigger->tgnattr == 0;
}

/* Is it a rollup's, for this event? */
static bool
is_ours(Trigger *trigger, int16 event)
{
	return looks_like_ours(trigger, event) &&
		trigger->tgfoid == capturing.function;
}

/*
 * A session that has not seen the function called asks the catalog for it,
 * where a trigger of desc looks like one.  Not for the relation cache's own
 * desc, which may be made anew meanwhile.
 */
static void
learn_from(TriggerDesc *desc, int16 event)
{
	for (int i = 0; !OidIsValid(capturing.function) && i < desc->numtriggers; i++)
		if (looks_like_ours(&desc->triggers[i], event) &&
			desc->triggers[i].tgenabled == TRIGGER_FIRES_ALWAYS)
		{
			sc_insert_learn(sc_own_function("rollup_capture", 0, NULL));
			return;
		}
}

static pg_attribute_hot bool
counts_rows(ScSpec *spec, Relation rel)
{
	return (spec->stored == SC_LIVE || spec->stored == SC_FILLING) &&
		sc_spec_eval(spec, rel)->counted;
}

/*
 * The specification, pinned, of the rollup whose trigger this is.  NULL where
 * its rows are not counted one by one.
 */
static ScSpec *
spec_of(Trigger *trigger, Relation rel)
{
	ScSpec	   *spec = sc_spec_by_id(sc_capture_rollup_id(trigger->tgargs[0]));

	if (spec == NULL || counts_rows(spec, rel))
		return spec;
	sc_spec_release(spec);
	return NULL;
}

/*
 * Whose row triggers an INSERT into rel fires, of the rollups that can be told
 * the rows; *others is true when there are more triggers.  If off, they are
 * switched off in *desc.  That may be the relation cache's own, which is made
 * anew, with the same triggers, while a specification is looked up.
 */
static int
rollups_of_triggers(TriggerDesc *const *desc, Relation rel, bool off,
					ScSpec **specs, bool *others)
{
	int			n = 0;

	*others = false;
	for (int i = 0; i < (*desc)->numtriggers; i++)
	{
		Trigger    *trigger = &(*desc)->triggers[i];

		if (!TRIGGER_FOR_ROW(trigger->tgtype) ||
			!TRIGGER_FOR_AFTER(trigger->tgtype) ||
			!TRIGGER_FOR_INSERT(trigger->tgtype))
			continue;
		if (n < SC_TAPPED && is_ours(trigger, TRIGGER_TYPE_INSERT) &&
			trigger->tgenabled == TRIGGER_FIRES_ALWAYS &&
			(specs[n] = spec_of(trigger, rel)) != NULL)
		{
			if (off)
				trigger->tgenabled = TRIGGER_DISABLED;
			n++;
		}
		else
			*others = true;
	}
	return n;
}

/* Switch our triggers off in this copy.  Returns how many, and whose. */
static int
take_triggers(TriggerDesc *desc, Relation rel, ScSpec **specs)
{
	learn_from(desc, TRIGGER_TYPE_INSERT);
	return rollups_of_triggers(&desc, rel, true, specs, &desc->trig_insert_after_row);
}

/* Tap the node below an INSERT for the rollups of these n specifications. */
static pg_attribute_hot void
tap_node(QueryDesc *query, ScSpec **specs, int n)
{
	ModifyTableState *mt = (ModifyTableState *) query->planstate;
	Tap		   *tap = MemoryContextAlloc(query->estate->es_query_cxt, sizeof(Tap));

	tap->node = outerPlanState(mt);
	tap->next = tap->node->ExecProcNodeReal;
	tap->row = NULL;
	tap->rel = mt->resultRelInfo->ri_RelationDesc;
	tap->target = mt->resultRelInfo;
	tap->cid = query->estate->es_output_cid;
	tap->n = n;
	memcpy(tap->specs, specs, n * sizeof(ScSpec *));
	tap->query = query;
	tap->callback.func = remove_tap;
	tap->callback.arg = tap;
	MemoryContextRegisterResetCallback(query->estate->es_query_cxt, &tap->callback);
	tap->outer = taps;
	taps = tap;
	ExecSetExecProcNode(tap->node, tapped_node);
}

/* Does an INSERT put the rows that its plan returns into rel as they are? */
static bool
takes_rows(ModifyTable *plan, Relation rel, TriggerDesc *triggers)
{
	return triggers != NULL && triggers->trig_insert_after_row &&
		!triggers->trig_insert_before_row &&
		!triggers->trig_insert_instead_row &&
		rel->rd_rel->relkind == RELKIND_RELATION &&
		plan->onConflictAction == ONCONFLICT_NONE &&
		!(rel->rd_att->constr && rel->rd_att->constr->has_generated_stored) &&
		returns_rows(outerPlan(plan));
}

/* Tap the plan below an INSERT, if it is one that allows it. */
static void
tap_insert(QueryDesc *query)
{
	ModifyTableState *mt = (ModifyTableState *) query->planstate;
	ResultRelInfo *target = mt->resultRelInfo;
	ScSpec	   *specs[SC_TAPPED];
	int			n;

	if (mt->operation != CMD_INSERT || mt->mt_nrels != 1 ||
		!takes_rows((ModifyTable *) mt->ps.plan, target->ri_RelationDesc,
					target->ri_TrigDesc))
		return;
	n = take_triggers(target->ri_TrigDesc, target->ri_RelationDesc, specs);
	if (n > 0)
		tap_node(query, specs, n);
}

/*
 * The executor copies all triggers of a table, with their names and
 * conditions, for a single row too.  Where that would be for ours only, which
 * are switched off then, it is better not shown them.
 */

/* The rollups of rel's triggers, if an INSERT calls no others; else 0. */
static int
rollups_only(Relation rel, ScSpec **specs)
{
	TriggerDesc *desc = rel->trigdesc;
	bool		others;
	int			n;

	if (desc->trig_insert_before_statement || desc->trig_insert_after_statement ||
		desc->trig_insert_new_table)
		return 0;
	n = rollups_of_triggers(&rel->trigdesc, rel, false, specs, &others);
	while (others && n > 0)
		sc_spec_release(specs[--n]);
	return n;
}

/*
 * The table that a single row was put into last, if all that its triggers do
 * with it is to tell one rollup.  Nothing about the table has changed since.
 */
static Oid	usual_target = InvalidOid;
static int64 usual_rollup = 0;
static uint64 ninvalidations = 0;

static void
forget_target(Datum arg, Oid relid)
{
	ninvalidations++;
	if (!OidIsValid(relid) || relid == usual_target)
		usual_target = InvalidOid;
}

/* The specification, pinned, of the one rollup of rel if that is known, or NULL. */
static pg_attribute_hot ScSpec *
usual_spec(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	ScSpec	   *spec;

	if (relid != usual_target || (spec = sc_spec_by_id(usual_rollup)) == NULL)
		return NULL;
	/* Looking it up may have told that something has changed. */
	if (relid == usual_target && counts_rows(spec, rel))
		return spec;
	sc_spec_release(spec);
	return NULL;
}

/* As rollups_only, where rel takes rows as they are. */
static pg_attribute_hot int
find_rollups(ModifyTable *plan, Relation rel, ScSpec **specs)
{
	uint64		before;
	int			n;

	if (plan->onConflictAction == ONCONFLICT_NONE && returns_rows(outerPlan(plan)) &&
		(specs[0] = usual_spec(rel)) != NULL)
		return 1;
	before = ninvalidations;
	n = takes_rows(plan, rel, rel->trigdesc) ? rollups_only(rel, specs) : 0;
	if (n == 1 && before == ninvalidations)
	{
		usual_target = RelationGetRelid(rel);
		usual_rollup = specs[0]->id;
	}
	return n;
}

/*
 * The target, opened, of an INSERT of a single row, whose triggers are to be
 * hidden while it starts, and the *n rollups to tap it for; else NULL.
 */
static pg_attribute_hot Relation
hidden_target(QueryDesc *query, ScSpec **specs, int *n)
{
	ModifyTable *plan = (ModifyTable *) query->plannedstmt->planTree;
	RangeTblEntry *rte;
	Relation	rel;

	/* Nothing else is to be started meanwhile that could meet the table. */
	if (!IsA(plan, ModifyTable) || plan->operation != CMD_INSERT ||
		list_length(plan->resultRelations) != 1 ||
		query->plannedstmt->subplans != NIL ||
		!IsA(outerPlan(plan), Result) || outerPlan(outerPlan(plan)) != NULL)
		return NULL;
	rte = rt_fetch(linitial_int(plan->resultRelations), query->plannedstmt->rtable);
	rel = RelationIdGetRelation(rte->relid);
	if (rel == NULL)
		return NULL;
	*n = find_rollups(plan, rel, specs);
	if (*n > 0)
		return rel;
	RelationClose(rel);
	return NULL;
}

/* Whose triggers are hidden, and what they are. */
static Relation hidden_from = NULL;
static TriggerDesc *hidden = NULL;

/*
 * Show the triggers again.  When the cache entry has been built anew meanwhile
 * it has them already: who inserts has a lock against changing them.
 */
static pg_attribute_hot void
show_triggers(void)
{
	if (hidden_from == NULL)
		return;
	if (hidden_from->trigdesc == NULL)
		hidden_from->trigdesc = hidden;
	else
		FreeTriggerDesc(hidden);
	hidden_from = NULL;
}

static pg_attribute_hot void
start(QueryDesc *query, int eflags)
{
	if (prev_start)
		prev_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
}

/* Start an INSERT into rel, opened, and tap it for n rollups. */
static pg_attribute_hot void
start_hiding(QueryDesc *query, int eflags, Relation rel, ScSpec **specs, int n)
{
	hidden = rel->trigdesc;
	hidden_from = rel;
	rel->trigdesc = NULL;
	PG_TRY();
	{
		start(query, eflags);
	}
	PG_CATCH();
	{
		show_triggers();
		PG_RE_THROW();
	}
	PG_END_TRY();
	show_triggers();
	RelationClose(rel);
	if (((ModifyTableState *) query->planstate)->resultRelInfo->ri_TrigDesc == NULL)
		tap_node(query, specs, n);
	else
	{
		while (n > 0)
			sc_spec_release(specs[--n]);
		tap_insert(query);
	}
}

/* ---- UPDATE ---- */

static Datum
row_differs(ExprState *state, ExprContext *econtext, bool *isnull)
{
	ScCondition *cond = (ScCondition *) state;

	*isnull = false;
	return BoolGetDatum(sc_capture_differs(cond->id, cond->rel,
										   econtext->ecxt_innertuple,
										   econtext->ecxt_outertuple));
}

/*
 * For each statement the server reads a trigger's condition from its text, for
 * a single row too.  It need not where it finds one that is ready.
 */
static pg_attribute_hot void
prepare_conditions(EState *estate)
{
	ListCell   *lc;

	foreach(lc, estate->es_opened_result_relations)
	{
		ResultRelInfo *target = lfirst(lc);
		TriggerDesc *desc = target->ri_TrigDesc;

		if (desc == NULL || !desc->trig_update_after_row ||
			target->ri_RelationDesc->rd_rel->relkind != RELKIND_RELATION)
			continue;
		learn_from(desc, TRIGGER_TYPE_UPDATE);
		for (int i = 0; i < desc->numtriggers; i++)
		{
			Trigger    *trigger = &desc->triggers[i];

			if (trigger->tgqual != NULL && is_ours(trigger, TRIGGER_TYPE_UPDATE) &&
				sc_capture_counts(sc_capture_rollup_id(trigger->tgargs[0]),
								  target->ri_RelationDesc))
				sc_condition_set(estate, target, i, row_differs,
								 sc_capture_rollup_id(trigger->tgargs[0]));
		}
	}
}

static pg_attribute_hot void
executor_start(QueryDesc *query, int eflags)
{
	ScSpec	   *specs[SC_TAPPED];
	Relation	rel;
	int			n;

	/* Should another hook run a query while ours starts, that sees them. */
	show_triggers();
	if (query->operation != CMD_INSERT || (eflags & EXEC_FLAG_EXPLAIN_ONLY))
		start(query, eflags);
	else if (OidIsValid(capturing.function) &&
			 (rel = hidden_target(query, specs, &n)) != NULL)
		start_hiding(query, eflags, rel, specs, n);
	else
	{
		start(query, eflags);
		if (query->planstate && IsA(query->planstate, ModifyTableState))
			tap_insert(query);
	}
	if (!(eflags & EXEC_FLAG_EXPLAIN_ONLY))
	{
		prepare_conditions(query->estate);
		sc_capture_query_started(query);
	}
}

/* The last row, where the plan was not asked for another one. */
static pg_attribute_hot void
executor_finish(QueryDesc *query)
{
	Tap		   *tap = taps;

	while (tap && tap->query != query)
		tap = tap->outer;
	if (tap)
	{
		if (tap->row)
			capture_row(tap);
		while (tap->n > 0)
			sc_spec_release(tap->specs[--tap->n]);
	}
	if (prev_finish)
		prev_finish(query);
	else
		standard_ExecutorFinish(query);
}

/* ---- COPY ---- */

/* Leaves of a partitioned table beyond these take the trigger. */
#define SC_CONDITIONS		256

static Expr *
new_column(Oid relid, AttrNumber attno)
{
	Oid			type = OIDOID;
	int32		typmod = -1;
	Oid			collation = InvalidOid;

	if (attno > 0)
		get_atttypetypmodcoll(relid, attno, &type, &typmod, &collation);
	else if (attno == SelfItemPointerAttributeNumber)
		type = TIDOID;
	return (Expr *) makeVar(PRS2_NEW_VARNO, attno, type, typmod, collation, 0);
}

/*
 * rollup_inserted(rollup, NEW.tableoid, NEW.ctid, NEW.a, ...), as the catalog would
 * have it, or NULL when a function cannot be given all that the rollup reads.
 */
static char *
condition_of(Trigger *trigger, Relation rel)
{
	Oid			types[2] = {INT8OID, ANYOID};
	ScSpec	   *spec = spec_of(trigger, rel);
	List	   *args;
	Bitmapset  *used;
	Oid			function;
	int			i = -1;

	if (spec == NULL)
		return NULL;
	used = sc_spec_used(spec, rel);
	args = list_make3(makeConst(INT8OID, -1, InvalidOid, sizeof(int64),
								Int64GetDatum(spec->id), false, FLOAT8PASSBYVAL),
					  new_column(RelationGetRelid(rel), TableOidAttributeNumber),
					  new_column(RelationGetRelid(rel), SelfItemPointerAttributeNumber));
	while ((i = bms_next_member(used, i)) >= 0)
		args = lappend(args, new_column(RelationGetRelid(rel),
										i + FirstLowInvalidHeapAttributeNumber));
	sc_spec_release(spec);
	function = sc_own_function("rollup_inserted", 2, types);
	if (!OidIsValid(function) || list_length(args) > FUNC_MAX_ARGS)
		return NULL;
	return nodeToString(makeFuncExpr(function, BOOLOID, args, InvalidOid,
									 InvalidOid, COERCE_EXPLICIT_CALL));
}

/* Give our triggers on a relation their condition, or take it from them. */
static void
set_conditions(Oid relid, bool set)
{
	Relation	rel = RelationIdGetRelation(relid);

	for (int i = 0; rel && rel->trigdesc && i < rel->trigdesc->numtriggers; i++)
	{
		Trigger    *trigger = &rel->trigdesc->triggers[i];
		Oid			oid = trigger->tgoid;
		char	   *condition;

		/* It asks for NEW, so what fires for other events is left alone. */
		if (!is_ours(trigger, TRIGGER_TYPE_INSERT) || (trigger->tgqual == NULL) != set ||
			TRIGGER_FOR_DELETE(trigger->tgtype) ||
			TRIGGER_FOR_UPDATE(trigger->tgtype))
			continue;
		if (!set)
		{
			pfree(trigger->tgqual);
			trigger->tgqual = NULL;
			continue;
		}
		condition = condition_of(trigger, rel);
		/* The cache entry may have been built anew on the way. */
		if (rel->trigdesc == NULL || i >= rel->trigdesc->numtriggers ||
			rel->trigdesc->triggers[i].tgoid != oid)
			break;
		if (condition)
			rel->trigdesc->triggers[i].tgqual =
				MemoryContextStrdup(CacheMemoryContext, condition);
	}
	if (rel)
		RelationClose(rel);
}

/* The tables whose triggers a COPY can fire, if one may be a source. */
static List *
copy_targets(CopyStmt *copy)
{
	Oid			relid;
	char		relkind;
	List	   *leaves = NIL;

	if (!copy->is_from || copy->relation == NULL || RecoveryInProgress())
		return NIL;
	sc_insert_learn(sc_own_function("rollup_capture", 0, NULL));
	if (!OidIsValid(capturing.function))
		return NIL;
	/* What COPY will do first itself. */
	relid = RangeVarGetRelid(copy->relation, RowExclusiveLock, true);
	relkind = OidIsValid(relid) ? get_rel_relkind(relid) : 0;
	if (relkind == RELKIND_RELATION)
		leaves = list_make1_oid(relid);
	else if (relkind == RELKIND_PARTITIONED_TABLE)
		leaves = find_all_inheritors(relid, NoLock, NULL);
	return list_length(leaves) <= SC_CONDITIONS ? leaves : NIL;
}

static void
utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
		ProcessUtilityContext context, ParamListInfo params,
		QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	ProcessUtility_hook_type next = prev_utility ? prev_utility
		: standard_ProcessUtility;

	List	   *targets = NIL;
	ListCell   *lc;

	if (IsA(pstmt->utilityStmt, CopyStmt))
		targets = copy_targets((CopyStmt *) pstmt->utilityStmt);
	else if (IsA(pstmt->utilityStmt, CreateTrigStmt) &&
			 sc_trigger_restored((CreateTrigStmt *) pstmt->utilityStmt))
		return;
	else if (IsA(pstmt->utilityStmt, AlterTableStmt) &&
			 sc_trigger_passed_over((AlterTableStmt *) pstmt->utilityStmt))
		return;
	foreach(lc, targets)
		set_conditions(lfirst_oid(lc), true);
	next(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	foreach(lc, targets)
		set_conditions(lfirst_oid(lc), false);
}

/* What a condition has found out about itself, in the FmgrInfo's context. */
typedef struct Condition
{
	int64		id;				/* of the rollup */
	Oid			relid;			/* whose trigger has it */
	Bitmapset  *given;			/* columns it gets, as ScEval's "used" */
	AttrNumber *attnos;			/* the same in order, argument by argument */
	int			tid;			/* the argument that says where, or 0 */
	TupleTableSlot *row;
} Condition;

static bool
is_new(Node *arg)
{
	return IsA(arg, Var) && ((Var *) arg)->varno == OUTER_VAR;
}

/* Does rel have the trigger of this rollup, which nobody else can make? */
static bool
has_trigger(Relation rel, int64 id)
{
	TriggerDesc *desc;

	if (!OidIsValid(capturing.function))
		sc_insert_learn(sc_own_function("rollup_capture", 0, NULL));
	desc = rel ? rel->trigdesc : NULL;
	for (int i = 0; desc && i < desc->numtriggers; i++)
		if (is_ours(&desc->triggers[i], TRIGGER_TYPE_INSERT) &&
			sc_capture_rollup_id(desc->triggers[i].tgargs[0]) == id)
			return true;
	return false;
}

/*
 * Anybody may call it who may insert, so it has to be sure that this is a
 * trigger's condition: nowhere else does NEW, as the executor names it, have
 * system columns.  So rel cannot be made up.
 */
static Condition *
read_condition(FunctionCallInfo fcinfo, Relation rel)
{
	FuncExpr   *call = (FuncExpr *) fcinfo->flinfo->fn_expr;
	MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	Condition  *cond = palloc0(sizeof(Condition));
	bool		fits = call && IsA(call, FuncExpr) && !call->funcvariadic &&
		list_length(call->args) >= 2 && IsA(linitial(call->args), Const) &&
		is_new(lsecond(call->args)) &&
		((Var *) lsecond(call->args))->varattno == TableOidAttributeNumber;

	cond->attnos = palloc0(sizeof(AttrNumber) * PG_NARGS());
	for (int i = 2; fits && i < PG_NARGS(); i++)
	{
		Var		   *var = list_nth(call->args, i);

		fits = is_new((Node *) var) &&
			(var->varattno > 0 || var->varattno == SelfItemPointerAttributeNumber);
		if (!fits)
			break;
		if (var->varattno < 0)
		{
			cond->tid = i;
			continue;
		}
		cond->attnos[i] = var->varattno;
		cond->given = bms_add_member(cond->given,
									 var->varattno - FirstLowInvalidHeapAttributeNumber);
	}
	if (!fits || PG_ARGISNULL(0) || !has_trigger(rel, PG_GETARG_INT64(0)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" serves rollup triggers only", "rollup_inserted"),
				 errhint("Create rollups with scalecache.create_rollup.")));
	cond->id = PG_GETARG_INT64(0);
	cond->relid = RelationGetRelid(rel);
	MemoryContextSwitchTo(old);
	fcinfo->flinfo->fn_extra = cond;
	return cond;
}

/* The row that was inserted, as far as it is known. */
static TupleTableSlot *
given_row(Condition *cond, FunctionCallInfo fcinfo, Relation rel)
{
	if (cond->row == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		cond->row = MakeSingleTupleTableSlot(CreateTupleDescCopy(RelationGetDescr(rel)),
											 &TTSOpsVirtual);
		memset(cond->row->tts_isnull, true,
			   sizeof(bool) * RelationGetDescr(rel)->natts);
		MemoryContextSwitchTo(old);
	}
	ExecClearTuple(cond->row);
	for (int i = 2; i < PG_NARGS(); i++)
	{
		if (i == cond->tid)
			continue;
		cond->row->tts_values[cond->attnos[i] - 1] = PG_GETARG_DATUM(i);
		cond->row->tts_isnull[cond->attnos[i] - 1] = PG_ARGISNULL(i);
	}
	return ExecStoreVirtualTuple(cond->row);
}

/*
 * rollup_inserted(rollup, NEW.tableoid, NEW.ctid, NEW.a, ...): captures the row and is
 * false, or true when the trigger has to do that.
 */
Datum
scalecache_rollup_inserted(PG_FUNCTION_ARGS)
{
	Condition  *cond = fcinfo->flinfo->fn_extra;
	Relation	rel = PG_ARGISNULL(1) ? NULL : RelationIdGetRelation(PG_GETARG_OID(1));
	ScSpec	   *spec;
	bool		left = false;

	if (cond == NULL)
		cond = read_condition(fcinfo, rel);
	spec = sc_spec_by_id(cond->id);
	if (spec)
	{
		if (spec->stored == SC_LIVE || spec->stored == SC_FILLING)
			left = rel == NULL || cond->relid != RelationGetRelid(rel) ||
				!bms_is_subset(sc_spec_eval(spec, rel)->used, cond->given);
		if (!left)
			sc_capture_insert(&spec, rel, given_row(cond, fcinfo, rel),
							  cond->tid ? (ItemPointer) PG_GETARG_POINTER(cond->tid) : NULL,
							  GetCurrentCommandId(true));
		sc_spec_release(spec);
	}
	if (rel)
		RelationClose(rel);
	PG_RETURN_BOOL(left);
}

void
sc_insert_init(void)
{
	prev_start = ExecutorStart_hook;
	ExecutorStart_hook = executor_start;
	prev_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = executor_finish;
	prev_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility;
	sc_known_init(&capturing);
	sc_on_relation_changed(forget_target);
}
