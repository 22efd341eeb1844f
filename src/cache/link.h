/*
 * link.h: what the worker says to Redis, in its words.
 *
 * A pipeline goes from sc_link_begin to sc_link_finish, which is true only
 * when every reply was what it should be.
 */
#ifndef SC_CACHE_LINK_H
#define SC_CACHE_LINK_H

#include "cache/cache.h"

/* The worker's status is kept up to date from then on. */
extern bool sc_link_open(const ScRedisUrl *url, ScRedisStatus *status,
						 char *error, Size errlen);
/*
 * See where the URL leads to now.  False when that is another server; what has
 * changed in a cluster is followed, and nodes may have to be told anew.
 */
extern bool sc_link_look(char *error, Size errlen);
extern bool sc_link_ok(void);
/* Are there masters that cannot be reached?  *why not, if so. */
extern bool sc_link_absent(void);
extern const char *sc_link_why_absent(void);
extern const char *sc_link_source_id(void);
extern void sc_link_close(void);
extern bool sc_link_has_functions(void);
/* A name for these connections, and where the first one's other end is. */
extern void sc_link_describe(ScDelivered *delivered);
/* The nodes, and of each which Redis it is, and which of its databases. */
extern int	sc_link_count(void);
extern void sc_link_identity(int i, char *buf, Size size);
/* What we have not been with since, it has missed. */
extern void sc_link_mark_other(int i, bool another);
extern bool sc_link_ping(char *error, Size errlen);
/* Other databases of this server that Redis has heard of, and one that has gone. */
extern List *sc_link_others(void);
extern bool sc_link_forget(Oid dboid, char *error, Size errlen);

/* ---- telling who we are ---- */

/* Have the nodes been told who we are and what they have? */
extern bool sc_link_introduced(void);
/* Does Redis hold nothing older than what was acknowledged to us? */
extern bool sc_link_armed(void);
/* Say who we are.  *walk: older values may be about; delete them, say done. */
extern bool sc_link_arm(bool done, bool *walk, char *error, Size errlen);
extern bool sc_link_rotate(char *error, Size errlen);

/* ---- a pipeline ---- */

extern void sc_link_set_snapshot(Snapshot snapshot);
extern void sc_link_begin(void);
/* False: a node that it is for cannot be reached, the others get it. */
extern bool sc_link_delete(const char *key, uint32 keylen, uint64 xid);
extern bool sc_link_store(const char *key, uint32 keylen, const char *value,
						  int64 ttl_ms, uint64 xid);
extern bool sc_link_epoch(const char *prefix, uint32 length, uint64 xid);
extern bool sc_link_finish(char *error, Size errlen);
/* Was it in vain because other nodes have the slots now? */
extern bool sc_link_redirected(void);
/* Or did Redis take all of it, but for commands that it refused? */
extern bool sc_link_refused(void);
/* Are there so many values in the pipeline that it had better be finished? */
extern bool sc_link_much(void);
/* Bytes that a value may have. */
extern Size sc_link_value_limit(void);
extern void sc_link_forget_limits(void);

/* ---- walks ---- */

/* A position among the values that are stored; from now on they are noted. */
extern uint64 sc_link_position(void);
extern void sc_link_forget_stored(void);

typedef struct ScWalkState ScWalkState;

extern ScWalkState *sc_link_walk_new(MemoryContext cxt);
/* Go where older values may be only; else wherever there are keys. */
extern void sc_link_walk_missing(ScWalkState *w, bool missing_only);
/* Leaves alone what was stored after the position. */
extern bool sc_link_walk_step(ScWalkState *w, const char *pattern, uint64 since,
							  bool *done, char *error, Size errlen);
/* When it was done: why Redis did not delete all keys, or NULL. */
extern const char *sc_link_walk_refusal(ScWalkState *w);

/* lua.c */
extern const char *sc_library_version(void);
extern char *sc_library_code(void);

#endif							/* SC_CACHE_LINK_H */
