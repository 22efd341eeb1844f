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
 * A reader in the middle of the statement does not rely on changes that are
 * not complete: see source_is_changing() in scan.c.
 *
 * All other changes, COPY and routed rows among them, take the trigger.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/syscache.h"

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
	CommandId	cid;			/* that inserts it */
	int			n;
	ScSpec	   *specs[SC_TAPPED];	/* pinned */
	QueryDesc  *query;
	MemoryContextCallback callback;
	struct Tap *outer;			/* of a query that was started before */
} Tap;

static Tap *taps = NULL;		/* innermost first */
static Oid	capture_function = InvalidOid;	/* once seen in this session */
static uint32 capture_hash;		/* of its syscache entry */
static ExecutorStart_hook_type prev_start = NULL;
static ExecutorFinish_hook_type prev_finish = NULL;

/* The capturing function has been called as the trigger function it is. */
void
sc_insert_learn(Oid function)
{
	if (function == capture_function)
		return;
	capture_function = function;
	capture_hash = GetSysCacheHashValue1(PROCOID, ObjectIdGetDatum(function));
}

static void
forget_function(Datum arg, int cacheid, uint32 hashvalue)
{
	if (hashvalue == 0 || hashvalue == capture_hash)
		capture_function = InvalidOid;
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

static void
capture_row(Tap *tap)
{
	TupleTableSlot *row = tap->row;

	tap->row = NULL;
	for (int i = 0; i < tap->n; i++)
		sc_capture_insert(&tap->specs[i], tap->rel, row, tap->cid);
}

static TupleTableSlot *
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
static bool
returns_rows(Plan *plan)
{
	ListCell   *lc;

	foreach(lc, plan->targetlist)
		if (lfirst_node(TargetEntry, lc)->resjunk)
			return false;
	return true;
}

static bool
is_ours(Trigger *trigger)
{
	return trigger->tgfoid == capture_function &&
		trigger->tgenabled == TRIGGER_FIRES_ALWAYS &&
		TRIGGER_FOR_ROW(trigger->tgtype) &&
		TRIGGER_FOR_AFTER(trigger->tgtype) &&
		TRIGGER_FOR_INSERT(trigger->tgtype) &&
		trigger->tgnargs == 1 && trigger->tgnattr == 0 &&
		trigger->tgqual == NULL;
}

/*
 * The specification, pinned, of the rollup whose trigger this is.  NULL where
 * its rows are not counted one by one, or need more than the columns.
 */
static ScSpec *
spec_of(Trigger *trigger, Relation rel)
{
	ScSpec	   *spec = sc_spec_by_id(sc_capture_rollup_id(trigger->tgargs[0]));
	ScEval	   *eval;

	if (spec == NULL)
		return NULL;
	if (spec->stored == SC_LIVE || spec->stored == SC_FILLING)
	{
		eval = sc_spec_eval(spec, rel);
		if (eval->counted &&
			bms_next_member(eval->used, -1) > -FirstLowInvalidHeapAttributeNumber)
			return spec;
	}
	sc_spec_release(spec);
	return NULL;
}

/* Switch our triggers off in this copy.  Returns how many, and whose. */
static int
take_triggers(TriggerDesc *desc, Relation rel, ScSpec **specs)
{
	bool		others = false;
	int			n = 0;

	for (int i = 0; i < desc->numtriggers; i++)
	{
		Trigger    *trigger = &desc->triggers[i];

		if (!TRIGGER_FOR_ROW(trigger->tgtype) ||
			!TRIGGER_FOR_AFTER(trigger->tgtype) ||
			!TRIGGER_FOR_INSERT(trigger->tgtype))
			continue;
		if (n < SC_TAPPED && is_ours(trigger) &&
			(specs[n] = spec_of(trigger, rel)) != NULL)
		{
			trigger->tgenabled = TRIGGER_DISABLED;
			n++;
		}
		else
			others = true;
	}
	desc->trig_insert_after_row = others;
	return n;
}

/* Tap the plan below an INSERT, if it is one that allows it. */
static void
tap_insert(QueryDesc *query)
{
	ModifyTableState *mt = (ModifyTableState *) query->planstate;
	ResultRelInfo *target = mt->resultRelInfo;
	TriggerDesc *triggers;
	Relation	rel;
	Tap		   *tap;
	ScSpec	   *specs[SC_TAPPED];
	int			n;

	if (mt->operation != CMD_INSERT || mt->mt_nrels != 1)
		return;
	rel = target->ri_RelationDesc;
	triggers = target->ri_TrigDesc;
	if (triggers == NULL || !triggers->trig_insert_after_row ||
		triggers->trig_insert_before_row ||
		triggers->trig_insert_instead_row ||
		rel->rd_rel->relkind != RELKIND_RELATION ||
		((ModifyTable *) mt->ps.plan)->onConflictAction != ONCONFLICT_NONE ||
		(rel->rd_att->constr && rel->rd_att->constr->has_generated_stored) ||
		!returns_rows(outerPlan(mt->ps.plan)))
		return;
	n = take_triggers(triggers, rel, specs);
	if (n == 0)
		return;
	tap = MemoryContextAlloc(query->estate->es_query_cxt, sizeof(Tap));
	tap->node = outerPlanState(mt);
	tap->next = tap->node->ExecProcNodeReal;
	tap->row = NULL;
	tap->rel = rel;
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

static void
executor_start(QueryDesc *query, int eflags)
{
	if (prev_start)
		prev_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
	if (query->operation == CMD_INSERT && OidIsValid(capture_function) &&
		!(eflags & EXEC_FLAG_EXPLAIN_ONLY) && query->planstate &&
		IsA(query->planstate, ModifyTableState))
		tap_insert(query);
}

/* The last row, where the plan was not asked for another one. */
static void
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

void
sc_insert_init(void)
{
	prev_start = ExecutorStart_hook;
	ExecutorStart_hook = executor_start;
	prev_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = executor_finish;
	CacheRegisterSyscacheCallback(PROCOID, forget_function, (Datum) 0);
}
