/*
 * memory.h: the server's own cache, in shared memory.
 */
#ifndef SC_CACHE_MEMORY_H
#define SC_CACHE_MEMORY_H

/* Called while shared memory is sized, and while it is set up. */
extern void sc_memory_request(void);
extern void sc_memory_startup(void);

/* Entries as in the outbox: nobody reads or fills their keys until lifted. */
extern void sc_memory_fence(const char *entries, uint32 length);
extern void sc_memory_lift(const char *entries, uint32 length, bool committed);

#endif							/* SC_CACHE_MEMORY_H */
