/*
 * token.h: snapshots as text.
 */
#ifndef SC_CACHE_TOKEN_H
#define SC_CACHE_TOKEN_H

#include "lib/stringinfo.h"
#include "utils/snapshot.h"

extern uint64 sc_full_xid(TransactionId xid, FullTransactionId next);
extern void sc_snapshot_text(Snapshot snapshot, StringInfo buf);
extern void sc_token_text(Snapshot snapshot, StringInfo buf);
extern TimeLineID sc_timeline(void);

#endif							/* SC_CACHE_TOKEN_H */
