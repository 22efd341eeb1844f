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
/* False when another server than ours is the master now, as Sentinels say. */
extern bool sc_link_still_right(const ScRedisUrl *url);
extern bool sc_link_ok(void);
extern const char *sc_link_source_id(void);
extern void sc_link_close(void);
extern bool sc_link_has_functions(void);
/* A name for this connection, and where its other end is. */
extern void sc_link_describe(ScDelivered *delivered);
/* Which Redis, and which of its databases. */
extern void sc_link_identity(char *buf, Size size);
extern void sc_link_set_snapshot(Snapshot snapshot);
extern void sc_link_begin(void);
extern void sc_link_delete(const char *key, uint32 keylen, uint64 xid);
extern void sc_link_store(const char *key, uint32 keylen, const char *value,
						  int64 ttl_ms, uint64 xid);
extern void sc_link_epoch(const char *prefix, uint32 length, uint64 xid);
extern bool sc_link_finish(char *error, Size errlen);
/* A position among the values that are stored; from now on they are noted. */
extern uint64 sc_link_position(void);
extern void sc_link_forget_stored(void);
/* Leaves alone what was stored after the position. */
extern bool sc_link_walk_step(const char *pattern, uint64 since, char *cursor,
							  Size size, char *error, Size errlen);
extern bool sc_link_ping(ScRedisStatus *status, char *error, Size errlen);
/* Does Redis hold nothing older than what was acknowledged to us? */
extern bool sc_link_armed(void);
/* Say who we are.  *walk: older values may be about; delete them, say done. */
typedef enum ScArmPhase
{
	SC_ARM_BEGIN,				/* this may be the Redis that we know */
	SC_ARM_ANEW,				/* we were with another one since */
	SC_ARM_DONE					/* there is nothing older any more */
} ScArmPhase;

extern bool sc_link_arm(ScArmPhase phase, bool *walk, char *error, Size errlen);
extern bool sc_link_rotate(char *error, Size errlen);

/* lua.c */
extern const char *sc_library_version(void);
extern char *sc_library_code(void);

#endif							/* SC_CACHE_LINK_H */
