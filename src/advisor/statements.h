/*-------------------------------------------------------------------------
 *
 * statements.h
 *	  The statements a user may be told of.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SC_STATEMENTS_H
#define SC_STATEMENTS_H

#include "postgres.h"

#include "advisor/workload.h"

extern bool sc_statements_may_read(void);
extern List *sc_statements_list(bool everyone);

#endif							/* SC_STATEMENTS_H */
