/*
 * condition.h: conditions of row triggers that are functions in C.
 *
 * The executor evaluates an AFTER trigger's condition when the row has just
 * been changed, with the old row in ecxt_innertuple and the new one in
 * ecxt_outertuple, and queues no event where it does not hold.
 */
#ifndef SC_BASE_CONDITION_H
#define SC_BASE_CONDITION_H

#include "postgres.h"

#include "nodes/execnodes.h"

/* What the function is called with, as its ExprState */
typedef struct ScCondition
{
	ExprState	state;			/* must be first */
	int64		id;				/* of the rollup or the rule */
	Relation	rel;			/* that is written */
} ScCondition;

/* Give the target's trigger of that number its condition, for this query. */
extern void sc_condition_set(EState *estate, ResultRelInfo *target, int trigger,
							 ExprStateEvalFunc function, int64 id);

#endif							/* SC_BASE_CONDITION_H */
