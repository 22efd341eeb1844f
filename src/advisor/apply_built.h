/*-------------------------------------------------------------------------
 *
 * apply_built.h
 *	  The indexes that a builder has built.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SC_APPLY_BUILT_H
#define SC_APPLY_BUILT_H

#include "postgres.h"

#include "nodes/pg_list.h"

extern void sc_built_init(void);
extern void sc_built_begin(int64 action, Oid tableoid, const char *prefix,
						   List *known);
extern List *sc_built_all(void);
extern Oid	sc_built_index(Oid relid, bool *valid);
extern void sc_built_unmark(Oid indexoid);

#endif							/* SC_APPLY_BUILT_H */
