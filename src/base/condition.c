/*
 * condition.c: conditions of row triggers that are functions in C.
 */
#include "postgres.h"

#include "executor/executor.h"

#include "base/condition.h"

void
sc_condition_set(EState *estate, ResultRelInfo *target, int trigger,
				 ExprStateEvalFunc function, int64 id)
{
	ScCondition *cond = MemoryContextAllocZero(estate->es_query_cxt, sizeof(ScCondition));

	NodeSetTag(cond, T_ExprState);
	cond->state.flags = EEO_FLAG_IS_QUAL;
	cond->state.evalfunc = function;
	cond->id = id;
	cond->rel = target->ri_RelationDesc;
	target->ri_TrigWhenExprs[trigger] = &cond->state;
}
