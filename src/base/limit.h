/*
 * limit.h: what users' functions may take of a worker's time.
 */
#ifndef SC_BASE_LIMIT_H
#define SC_BASE_LIMIT_H

#include "postgres.h"

/* After so many ms what runs is canceled.  Begun anew, it starts anew. */
extern void sc_limit_begin(int ms);

/* That is over: was the time, too?  Then nobody is to be canceled any more. */
extern bool sc_limit_end(void);

/* Did nothing help but to end the worker, which is about to? */
extern bool sc_limit_killed(void);

#endif							/* SC_BASE_LIMIT_H */
