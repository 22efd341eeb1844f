/*
 * stored.h: the parts of a rollup of a join, for stored*.c only.
 */
#ifndef SC_STORED_H
#define SC_STORED_H

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
	bool		own;			/* its transaction may have made changes */
	bool		lost;			/* the stored groups are not right any more */
};

/* stored.c */
extern ScSpec *sc_parts_captured(ScParts *p, int i);
extern bool sc_parts_possible(ScSpec *fact, ScSpec *stored);
extern bool sc_parts_correct(ScParts *p, ScGroups *target, Snapshot snapshot);
extern bool sc_parts_collect(ScParts *p, ScGroups *target, Snapshot snapshot);

#endif							/* SC_STORED_H */
