/*
 * memory.h: the server's own cache, in shared memory.
 */
#ifndef SC_CACHE_MEMORY_H
#define SC_CACHE_MEMORY_H

#include "access/transam.h"
#include "datatype/timestamp.h"
#include "utils/snapshot.h"

/* Called while shared memory is sized, and while it is set up. */
extern void sc_memory_request(void);
extern void sc_memory_startup(void);

/* Is there such a cache for this session? */
extern bool sc_memory_usable(void);

/*
 * Entries as in the outbox: from fence to lift nobody gets or fills values
 * of their keys.  Lifting never fails.
 */
extern void sc_memory_fence(const char *entries, uint32 length);
extern void sc_memory_lift(const char *entries, uint32 length, bool committed,
						   FullTransactionId xid);
/* The same for every key of the database. */
extern void sc_memory_fence_all(void);
extern void sc_memory_lift_all(bool committed);

/* Whose value it is: cached_query's are for the role that ran the query. */
#define SC_OWNER_ANY	InvalidOid

typedef enum ScLookup
{
	SC_HIT,
	SC_MISS,					/* load it; *leased says that only you do */
	SC_LOADING,					/* somebody else has the lease */
	SC_BYPASS					/* fenced: load it, and keep it to yourself */
} ScLookup;

/*
 * What has been filled since the caller's first look, which *since is to tell
 * apart (-1 for that one), is new enough, even if it has expired already.
 */
extern ScLookup sc_memory_get(const char *key, uint32 keylen, Oid owner,
							  bool *leased, int64 *since,
							  char **value, uint32 *length);
/* Wait for the one that loads for the role; false when it seems stuck. */
extern bool sc_memory_wait(const char *key, uint32 keylen, Oid owner);
extern void sc_memory_end_lease(void);
extern bool sc_memory_has_lease(void);
/* The point in time before which a snapshot is to be taken. */
extern uint64 sc_memory_clock(void);
/*
 * Keep a value read with the snapshot, which was taken after sc_memory_clock
 * said clock (0: not known).  False when it is, or may be, stale.
 */
extern bool sc_memory_put(const char *key, uint32 keylen, Oid owner,
						  const char *value, uint32 length, int64 ttl_us,
						  Snapshot snapshot, uint64 clock);
/* May that be known as well as put says, whether or not there is room? */
extern bool sc_memory_fresh(const char *key, uint32 keylen,
							Snapshot snapshot, uint64 clock);
extern bool sc_memory_delete(const char *key, uint32 keylen);
/* The database has been dropped; another one may get its oid. */
extern void sc_memory_forget_database(Oid dboid);

typedef struct ScMemoryStats
{
	int64		size;
	int64		used;
	int64		entries;
	int64		hits;
	int64		misses;
	int64		fills;
	int64		refused;
	int64		evictions;
} ScMemoryStats;

extern void sc_memory_stats(ScMemoryStats *stats);

#endif							/* SC_CACHE_MEMORY_H */
