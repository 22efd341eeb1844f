/*
 * attempt.h: doing what may fail, in a subtransaction.
 */
#ifndef SC_BASE_ATTEMPT_H
#define SC_BASE_ATTEMPT_H

#include "postgres.h"

/*
 * Call fn in a subtransaction, which is undone if it fails, and if not is kept
 * or undone as well, locks included.  It starts in the caller's memory context.
 * NULL, or the error, which is the caller's, in his memory context; the user,
 * the settings and the memory context are then as they were.
 */
extern ErrorData *sc_attempt(void (*fn) (void *arg), void *arg, bool keep);

/* An error of what a user has written, and not a cancel or out of memory */
extern bool sc_error_is_harmless(int sqlerrcode);

#endif							/* SC_BASE_ATTEMPT_H */
