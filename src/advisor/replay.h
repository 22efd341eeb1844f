/*-------------------------------------------------------------------------
 *
 * replay.h
 *	  Timing recorded statements before and after a change.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SC_REPLAY_H
#define SC_REPLAY_H

#include "postgres.h"

#include "nodes/pg_list.h"

typedef struct ScVerdict
{
	int			n;				/* statements compared */
	int			users;			/* of these, planned with the index */
	double		before;			/* ms, all executions */
	double		after;
	double		worst;			/* after / before of the worst */
} ScVerdict;

extern List *sc_replay_load(Oid relid);
extern void sc_replay_time(List *statements, bool again, List *indexes,
						   void (*clean_up) (void));
extern bool sc_replay_any(List *statements);
extern void sc_replay_compare(List *statements, bool new_statistics,
							  ScVerdict *v);

#endif							/* SC_REPLAY_H */
