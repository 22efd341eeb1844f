/*
 * queries.h: queries and weights, as the calls for advice take them.
 */
#ifndef SC_BASE_QUERIES_H
#define SC_BASE_QUERIES_H

#include "fmgr.h"
#include "nodes/parsenodes.h"

/*
 * What arguments n, a text[], and n + 1, a float8[], give: how many queries,
 * -1 for the recorded ones.  *queries and *weights are as long, and in
 * CurrentMemoryContext.  A weight that was not given is 1.
 */
extern int	sc_queries_given(FunctionCallInfo fcinfo, int n, char ***queries,
							 double **weights);

/* The statement inside of EXPLAIN, PREPARE and the like; raw may be changed. */
extern RawStmt *sc_query_inside(RawStmt *raw);

#endif							/* SC_BASE_QUERIES_H */
