/*
 * stored.h: the parts of a rollup of a join, for stored*.c only.
 */
#ifndef SC_STORED_H
#define SC_STORED_H

#include "nodes/plannodes.h"

#include "rollup/rollup.h"

struct ScParts
{
	ScSpec	   *fact;			/* the rollup itself; all are pinned */
	ScSpec	   *stored;
	int			nlogs;
	ScSpec	  **logs;
	ScGroups   *changes;		/* pending of the source */
	ScGroups  **logged;			/* pending of each log */
	ScMark	  **marks;			/* of the logs, to be put by a fold */
	bool	   *changed;
	int64	   *taken;			/* how many changes a fold took */
	Cost		whole;			/* about what joining all groups costs, or 0 */
	bool		own;			/* its transaction may have made changes */
	bool		lost;			/* the stored groups are not right any more */
};

/* Where a slot of the stored groups gets its input from. */
typedef struct ScInput
{
	int			slot;			/* of the source's groups, or -1: arguments */
	bool		filtered;
} ScInput;

/* A query for what is to be added to the stored groups. */
typedef struct ScTermPlan
{
	PlannedStmt *stmt;
	ScInput    *inputs;			/* one for each slot */
} ScTermPlan;

/* stored_plan.c */
extern ScTermPlan *sc_term_plan_find(List *key, uint64 *seen);
extern ScTermPlan *sc_term_plan_keep(List *key, const ScTermPlan *plan,
									 int ninputs, uint64 seen);

/* stored.c */
extern ScSpec *sc_parts_captured(ScParts *p, int i);
extern bool sc_parts_possible(ScSpec *fact, ScSpec *stored);
extern bool sc_parts_correct(ScParts *p, ScGroups *target, Snapshot snapshot);
extern bool sc_parts_collect(ScParts *p, ScGroups *target, Snapshot snapshot);

#endif							/* SC_STORED_H */
