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

#include "fmgr.h"

/* What a builder is told in its bgw_extra. */
typedef struct ScApplyOrders
{
	TransactionId xid;			/* to wait for */
	bool		advise;			/* and to look for something to build */
} ScApplyOrders;

/* apply_request.c */
extern PGDLLEXPORT Datum scalecache_apply_index(PG_FUNCTION_ARGS);
extern bool sc_apply_in_builder;	/* is this one, acting on its own advice? */
extern char *sc_apply_free_name(Oid nsp, const char *base);
extern bool sc_apply_start_builder(TransactionId xid, bool advise);

/* apply_auto.c */
extern void sc_apply_advice(void *arg);

/* apply.c */
extern void sc_apply_work(void);

#endif							/* SC_APPLY_H */
