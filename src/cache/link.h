/*
 * link.h: what the worker says to Redis, in its words.
 *
 * A pipeline goes from sc_link_begin to sc_link_finish, which is true only
 * when every reply was what it should be.
 */
#ifndef SC_CACHE_LINK_H
#define SC_CACHE_LINK_H

#include "cache/cache.h"

extern bool sc_link_open(const ScRedisUrl *url, ScRedisStatus *status,
						 char *error, Size errlen);
extern bool sc_link_ok(void);
extern void sc_link_close(void);
extern void sc_link_set_snapshot(Snapshot snapshot);
extern void sc_link_begin(void);
extern void sc_link_delete(const char *key, uint32 keylen, TransactionId xid);
extern void sc_link_store(const char *key, uint32 keylen, const char *value,
						  int64 ttl_ms, TransactionId xid);
extern void sc_link_epoch(const char *prefix, uint32 length, TransactionId xid);
extern bool sc_link_finish(char *error, Size errlen);
extern bool sc_link_walk_step(const char *pattern, char *cursor, Size size,
							  char *error, Size errlen);
extern bool sc_link_ping(ScRedisStatus *status, char *error, Size errlen);
/* Does Redis hold nothing older than what was acknowledged to us? */
extern bool sc_link_armed(void);
/* Say who we are.  *walk: older values may be about; delete them, say done. */
extern bool sc_link_arm(bool done, bool *walk, char *error, Size errlen);
extern bool sc_link_rotate(char *error, Size errlen);

/* lua.c */
extern const char *sc_library_version(void);
extern char *sc_library_code(void);

#endif							/* SC_CACHE_LINK_H */
