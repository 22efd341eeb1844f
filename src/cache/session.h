/*
 * session.h: a session's own way to Redis.
 */
#ifndef SC_CACHE_SESSION_H
#define SC_CACHE_SESSION_H

#include "utils/snapshot.h"

/* Longer values are not sent or fetched by sessions. */
#define SC_SESSION_VALUE_MAX	(16 * 1024 * 1024)

typedef enum ScSessionReply
{
	SC_SESSION_FAILED,			/* as if there were no Redis */
	SC_SESSION_HIT,				/* or stored */
	SC_SESSION_MISS				/* or refused */
} ScSessionReply;

/*
 * May Redis be asked now?  If so, *clock says which of the memory tier's
 * stamps are about commits that Redis had acknowledged before.
 */
extern bool sc_session_ready(uint64 *clock);

/* Value in CurrentMemoryContext; *ttl_us is what it has left, 0: no end. */
extern ScSessionReply sc_session_get(const char *key, uint32 keylen,
									 bool lease, char **value,
									 uint32 *length, int64 *ttl_us);
/* Store what was read with the snapshot. */
extern ScSessionReply sc_session_fill(const char *key, uint32 keylen,
									  const char *value, uint32 length,
									  int64 ttl_us, Snapshot snapshot);

#endif							/* SC_CACHE_SESSION_H */
