/*-------------------------------------------------------------------------
 *
 * apply.h
 *	  Building indexes in the background.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SC_APPLY_H
#define SC_APPLY_H

#include "postgres.h"

extern bool sc_apply_start(TransactionId xid);
extern void sc_apply_work(void);

#endif							/* SC_APPLY_H */
