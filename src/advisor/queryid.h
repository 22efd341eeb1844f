/*
 * queryid.h: the server's query ids, computed seldom.
 */
#ifndef SC_QUERYID_H
#define SC_QUERYID_H

#include "nodes/parsenodes.h"

/* Gives a parsed query the id that compute_query_id = on would give it. */
extern void sc_queryid_set(Query *query, const char *source);

#endif							/* SC_QUERYID_H */
