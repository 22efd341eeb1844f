/*
 * memory.c: the server's own cache, in shared memory.
 *
 * Keys are spread over parts, each with a lock, a hash table, entries, blocks
 * that hold key and value, and a clock hand that evicts what was not used.
 *
 * No reader meets a value older than what has been committed.  A writer raises
 * a fence on its keys before it commits, which drops their values, and lifts
 * it when the commit is visible to all, or when it has aborted.  Lifting after
 * a commit stamps the key with a counter, and with the writer's xid.  A value
 * is taken only if no fence is up and its snapshot is newer than the stamp:
 * taken after the counter had passed it, or seeing the writers.
 *
 * A key that is not here gets no entry from its writers: of such keys each
 * part has a few slots, by hash, with the fences and stamps of all keys of a
 * slot.  Memory that writers touch stays small, and in their caches.  What
 * is evicted leaves its stamp to its slot; so forgetting, and sharing a slot,
 * refuses values and never allows one.
 *
 * Fences on all keys with a prefix, for the epochs of rules, are a short list
 * that every access looks through.  When it is full, those that were fenced
 * least recently go: what they had cut off is dropped, and their stamps are
 * left to all keys of a part, for fills only.
 *
 * Locks: a part's, then that of the prefixes.  Nothing fails under either.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "cache/cache.h"
#include "cache/memory.h"

#define PARTS			16
#define BLOCK_BYTES		248		/* of content; with its link, 256 */
#define BYTES_PER_ENTRY	512		/* expected, to choose the number of entries */
#define SLOTS			256		/* of a part, for keys without an entry */
#define PREFIXES		64
#define PREFIX_BYTES	SC_PREFIX_MAX
#define FORGET			16		/* prefixes at a time, when there are too many */
#define NONE			(-1)
#define LOADERS			2		/* roles that load a key at the same time */
#define STUCK_MS		1000	/* blocked so long, a loader seems stuck */

typedef struct Block
{
	int32		next;
	char		data[BLOCK_BYTES];
} Block;

/* When a key was last invalid.  All zeros: never. */
typedef struct Stamp
{
	uint64		clock;
	uint64		below;			/* every writer but the last has a lower xid */
	uint64		xid;			/* the last writer, with its epoch; 0: unknown */
} Stamp;

/*
 * Who has a lease.  Nobody waits for a value that another role gets, and that
 * may take as long as that role likes; where more roles load one key than there
 * are places, the others do without.
 */
typedef struct Loader
{
	int			pid;			/* 0: nobody */
	Oid			owner;
} Loader;

typedef struct Entry
{
	uint64		hash;
	Oid			db;
	Oid			owner;			/* of the value */
	int32		next;			/* in the bucket, or in the free list */
	int32		blocks;			/* key, then value */
	uint32		keylen;
	uint32		length;			/* of the value */
	TimestampTz expires;
	uint64		filled;			/* clock of the value's snapshot */
	int64		number;			/* of the fill, in the part */
	uint32		fences;
	Loader		loaders[LOADERS];
	Stamp		stamp;
	bool		used;			/* in the hash table */
	bool		has_value;
	bool		recent;			/* since the hand passed */
} Entry;

/* What is known of keys that have, or had, no entry. */
typedef struct Slot
{
	uint32		fences;
	Stamp		stamp;
} Slot;

typedef struct Part
{
	LWLock	   *lock;
	ConditionVariable loaded;
	int32		hand;
	int32		free_entry;
	int32		free_block;
	int32		nfree_blocks;
	int32		nentries;
	uint32		fences;			/* on all keys: the prefixes were too many */
	Stamp		floor;			/* of all keys */
	Stamp		forgotten;		/* of prefixes that have left the list */
	Slot		slots[SLOTS];
	pg_atomic_uint64 hits;
	pg_atomic_uint64 misses;
	int64		fills;
	int64		refused;
	int64		evictions;
} Part;

typedef struct Prefix
{
	Oid			db;
	uint32		length;
	char		text[PREFIX_BYTES];
	uint32		fences;
	Stamp		stamp;
} Prefix;

typedef struct Memory
{
	pg_atomic_uint64 clock;
	pg_atomic_uint32 nprefixes;
	LWLock	   *prefix_lock;
	Prefix		prefixes[PREFIXES];
	Part		parts[PARTS];
} Memory;

static Memory *memory = NULL;
/* Geometry of a part, and where its arrays begin. */
static int32 part_entries;
static int32 part_blocks;
static int32 part_buckets;
static char *arrays;

/* The lease that this session has. */
static bool have_lease = false;
static uint64 lease_hash;

/* ---- layout ---- */

static void
geometry(void)
{
	Size		bytes = (Size) sc_cache_size * 1024 / PARTS;

	part_entries = Max(8, bytes / BYTES_PER_ENTRY);
	part_buckets = 8;
	while (part_buckets < part_entries)
		part_buckets *= 2;
	bytes -= Min(bytes, part_entries * sizeof(Entry) + part_buckets * sizeof(int32));
	part_blocks = Max(16, bytes / sizeof(Block));
}

static Size
part_bytes(void)
{
	return MAXALIGN(part_entries * sizeof(Entry)) +
		MAXALIGN(part_buckets * sizeof(int32)) +
		MAXALIGN((Size) part_blocks * sizeof(Block));
}

static Entry *
entries_of(int p)
{
	return (Entry *) (arrays + p * part_bytes());
}

static int32 *
buckets_of(int p)
{
	return (int32 *) ((char *) entries_of(p) + MAXALIGN(part_entries * sizeof(Entry)));
}

static Block *
blocks_of(int p)
{
	return (Block *) ((char *) buckets_of(p) + MAXALIGN(part_buckets * sizeof(int32)));
}

void
sc_memory_request(void)
{
	if (sc_cache_size == 0)
		return;
	geometry();
	RequestAddinShmemSpace(MAXALIGN(sizeof(Memory)) + PARTS * part_bytes());
	RequestNamedLWLockTranche("scalecache memory", PARTS + 1);
}

static void
init_part(int p)
{
	Part	   *part = &memory->parts[p];

	part->lock = &GetNamedLWLockTranche("scalecache memory")[p].lock;
	ConditionVariableInit(&part->loaded);
	pg_atomic_init_u64(&part->hits, 0);
	pg_atomic_init_u64(&part->misses, 0);
	for (int i = 0; i < part_buckets; i++)
		buckets_of(p)[i] = NONE;
	for (int i = 0; i < part_entries; i++)
	{
		memset(&entries_of(p)[i], 0, sizeof(Entry));
		entries_of(p)[i].blocks = NONE;
		entries_of(p)[i].next = i + 1 < part_entries ? i + 1 : NONE;
	}
	for (int i = 0; i < part_blocks; i++)
		blocks_of(p)[i].next = i + 1 < part_blocks ? i + 1 : NONE;
	part->nfree_blocks = part_blocks;
}

/* Called with AddinShmemInitLock held. */
void
sc_memory_startup(void)
{
	bool		found;

	memory = NULL;
	if (sc_cache_size == 0)
		return;
	geometry();
	memory = ShmemInitStruct("scalecache memory",
							 MAXALIGN(sizeof(Memory)) + PARTS * part_bytes(), &found);
	arrays = (char *) memory + MAXALIGN(sizeof(Memory));
	if (found)
		return;
	memset(memory, 0, sizeof(Memory));
	pg_atomic_init_u64(&memory->clock, 1);
	pg_atomic_init_u32(&memory->nprefixes, 0);
	memory->prefix_lock = &GetNamedLWLockTranche("scalecache memory")[PARTS].lock;
	for (int p = 0; p < PARTS; p++)
		init_part(p);
}

/* A standby replays commits that raise no fences, so it caches nothing. */
bool
sc_memory_usable(void)
{
	return memory != NULL && !RecoveryInProgress();
}

/* ---- finding ---- */

static uint64
hash_key(const char *key, uint32 keylen)
{
	return hash_bytes_extended((const unsigned char *) key, (int) keylen, MyDatabaseId);
}

static int
part_of(uint64 hash)
{
	return (int) (hash >> 60) & (PARTS - 1);
}

static Slot *
slot_of(int p, uint64 hash)
{
	return &memory->parts[p].slots[(hash >> 32) & (SLOTS - 1)];
}

/* Compare, or copy to dst, n bytes from offset on of a chain. */
static bool
chain_equals(int p, int32 block, const char *s, uint32 n)
{
	while (n > 0)
	{
		uint32		some = Min(n, BLOCK_BYTES);

		if (memcmp(blocks_of(p)[block].data, s, some) != 0)
			return false;
		s += some;
		n -= some;
		block = blocks_of(p)[block].next;
	}
	return true;
}

static void
chain_read(int p, int32 block, uint32 offset, char *dst, uint32 n)
{
	for (; offset >= BLOCK_BYTES; offset -= BLOCK_BYTES)
		block = blocks_of(p)[block].next;
	while (n > 0)
	{
		uint32		some = Min(n, BLOCK_BYTES - offset);

		memcpy(dst, blocks_of(p)[block].data + offset, some);
		dst += some;
		n -= some;
		offset = 0;
		block = blocks_of(p)[block].next;
	}
}

static Entry *
find(int p, uint64 hash, const char *key, uint32 keylen)
{
	int32		i;

	/* Writers of keys that nobody caches leave the buckets alone. */
	if (memory->parts[p].nentries == 0)
		return NULL;
	i = buckets_of(p)[hash & (part_buckets - 1)];
	for (; i != NONE; i = entries_of(p)[i].next)
	{
		Entry	   *e = &entries_of(p)[i];

		if (e->hash == hash && e->db == MyDatabaseId && e->keylen == keylen &&
			chain_equals(p, e->blocks, key, keylen))
			return e;
	}
	return NULL;
}

/* ---- stamps ---- */

/* The writer xid has committed, or some below a bound that are not known. */
static void
stamp_add(Stamp *stamp, uint64 clock, uint64 below, uint64 xid)
{
	stamp->clock = Max(stamp->clock, clock);
	/* All but the last are known by an upper bound. */
	if (stamp->xid != xid)
		below = Max(below, stamp->xid + 1);
	stamp->below = Max(stamp->below, below);
	stamp->xid = xid;
}

static void
stamp_merge(Stamp *floor, const Stamp *stamp)
{
	floor->clock = Max(floor->clock, stamp->clock);
	floor->below = Max(floor->below, stamp->below);
	if (stamp->xid != 0)
		floor->below = Max(floor->below, stamp->xid + 1);
}

/* xmin of a snapshot, with its epoch */
static uint64
full_xmin(Snapshot snapshot)
{
	FullTransactionId next = ReadNextFullTransactionId();
	uint32		epoch = EpochFromFullTransactionId(next);

	if (snapshot->xmin > XidFromFullTransactionId(next))
		epoch--;
	return U64FromFullTransactionId(FullTransactionIdFromEpochAndXid(epoch, snapshot->xmin));
}

/* Does whoever took the snapshot see what the stamp is about? */
static bool
stamp_seen(const Stamp *stamp, Snapshot snapshot, uint64 clock)
{
	if (stamp->clock <= clock)
		return true;
	if (snapshot == NULL || stamp->below > full_xmin(snapshot))
		return false;
	return stamp->xid == 0 ||
		!XidInMVCCSnapshot((TransactionId) stamp->xid, snapshot);
}

/* ---- prefixes ---- */

static bool
prefix_matches(const Prefix *prefix, const char *key, uint32 keylen)
{
	return prefix->db == MyDatabaseId && prefix->length <= keylen &&
		memcmp(prefix->text, key, prefix->length) == 0;
}

/* Is a value of the key, filled at the clock, cut off by an epoch? */
static bool
cut_off(const char *key, uint32 keylen, uint64 filled)
{
	uint32		n = pg_atomic_read_u32(&memory->nprefixes);
	bool		result = false;

	if (n == 0)
		return false;
	LWLockAcquire(memory->prefix_lock, LW_SHARED);
	for (uint32 i = 0; i < n && !result; i++)
		if (prefix_matches(&memory->prefixes[i], key, keylen))
			result = memory->prefixes[i].fences > 0 ||
				memory->prefixes[i].stamp.clock > filled;
	LWLockRelease(memory->prefix_lock);
	return result;
}

/* May a value read with the snapshot be kept, as far as epochs go? */
static bool
prefixes_seen(const char *key, uint32 keylen, Snapshot snapshot, uint64 clock)
{
	uint32		n = pg_atomic_read_u32(&memory->nprefixes);
	bool		result = true;

	if (n == 0)
		return true;
	LWLockAcquire(memory->prefix_lock, LW_SHARED);
	for (uint32 i = 0; i < n && result; i++)
		if (prefix_matches(&memory->prefixes[i], key, keylen))
			result = memory->prefixes[i].fences == 0 &&
				stamp_seen(&memory->prefixes[i].stamp, snapshot, clock);
	LWLockRelease(memory->prefix_lock);
	return result;
}

/* ---- room ---- */

static void
free_blocks(int p, int32 block)
{
	Part	   *part = &memory->parts[p];

	while (block != NONE)
	{
		int32		next = blocks_of(p)[block].next;

		blocks_of(p)[block].next = part->free_block;
		part->free_block = block;
		part->nfree_blocks++;
		block = next;
	}
}

/* Take an entry out of the table; its stamp stays behind. */
static void
remove_entry(int p, Entry *e)
{
	Part	   *part = &memory->parts[p];
	int32		i = (int32) (e - entries_of(p));
	int32	   *link = &buckets_of(p)[e->hash & (part_buckets - 1)];

	while (*link != i)
		link = &entries_of(p)[*link].next;
	*link = e->next;
	stamp_merge(&slot_of(p, e->hash)->stamp, &e->stamp);
	free_blocks(p, e->blocks);
	memset(e, 0, sizeof(Entry));
	e->blocks = NONE;
	e->next = part->free_entry;
	part->free_entry = i;
	part->nentries--;
}

static bool
is_leased(const Entry *e)
{
	for (int i = 0; i < LOADERS; i++)
		if (e->loaders[i].pid != 0)
			return true;
	return false;
}

/* The place of who loads the value for a role; of 0, a free one.  Or NULL. */
static Loader *
find_loader(Entry *e, Oid owner)
{
	for (int i = 0; i < LOADERS; i++)
		if (owner == InvalidOid ? e->loaders[i].pid == 0 :
			e->loaders[i].pid != 0 && e->loaders[i].owner == owner)
			return &e->loaders[i];
	return NULL;
}

/* Let the hand go on until it has evicted something, or gone round twice. */
static bool
evict_one(int p, const Entry *spare)
{
	Part	   *part = &memory->parts[p];

	for (int32 n = 0; n < part_entries * 2; n++)
	{
		Entry	   *e = &entries_of(p)[part->hand];

		part->hand = (part->hand + 1) % part_entries;
		if (!e->used || e == spare || e->fences > 0 || is_leased(e))
			continue;
		if (e->recent && n < part_entries)
		{
			e->recent = false;
			continue;
		}
		if (e->has_value)
			part->evictions++;
		remove_entry(p, e);
		return true;
	}
	return false;
}

/* A chain for n bytes, or NONE when there is no room. */
static int32
take_blocks(int p, uint32 n, const Entry *spare)
{
	Part	   *part = &memory->parts[p];
	int32		wanted = Max(1, (n + BLOCK_BYTES - 1) / BLOCK_BYTES);
	int32		first = NONE;

	if (wanted > part_blocks / 2)
		return NONE;
	while (part->nfree_blocks < wanted)
		if (!evict_one(p, spare))
			return NONE;
	part->nfree_blocks -= wanted;
	for (; wanted > 0; wanted--)
	{
		int32		block = part->free_block;

		part->free_block = blocks_of(p)[block].next;
		blocks_of(p)[block].next = first;
		first = block;
	}
	return first;
}

static int32
chain_write(int p, int32 block, uint32 *offset, const char *src, uint32 n)
{
	while (n > 0)
	{
		uint32		some = Min(n, BLOCK_BYTES - *offset);

		memcpy(blocks_of(p)[block].data + *offset, src, some);
		src += some;
		n -= some;
		*offset += some;
		if (*offset == BLOCK_BYTES && blocks_of(p)[block].next != NONE)
		{
			block = blocks_of(p)[block].next;
			*offset = 0;
		}
	}
	return block;
}

/* An entry for the key, without a value, or NULL when there is no room. */
static Entry *
make_entry(int p, uint64 hash, const char *key, uint32 keylen)
{
	Part	   *part = &memory->parts[p];
	int32		chain;
	Entry	   *e;
	uint32		offset = 0;

	while (part->free_entry == NONE)
		if (!evict_one(p, NULL))
			return NULL;
	chain = take_blocks(p, keylen, NULL);
	if (chain == NONE)
		return NULL;
	e = &entries_of(p)[part->free_entry];
	part->free_entry = e->next;
	memset(e, 0, sizeof(Entry));
	e->hash = hash;
	e->db = MyDatabaseId;
	e->keylen = keylen;
	e->blocks = chain;
	e->used = true;
	/* What is not known about it is what the slot knows about its keys. */
	e->stamp = slot_of(p, hash)->stamp;
	e->next = buckets_of(p)[hash & (part_buckets - 1)];
	buckets_of(p)[hash & (part_buckets - 1)] = (int32) (e - entries_of(p));
	part->nentries++;
	(void) chain_write(p, chain, &offset, key, keylen);
	return e;
}

static void
drop_value(int p, Entry *e)
{
	int32		block = e->blocks;

	if (!e->has_value)
		return;
	e->has_value = false;
	/* Keep the blocks of the key. */
	for (uint32 n = BLOCK_BYTES; n < e->keylen; n += BLOCK_BYTES)
		block = blocks_of(p)[block].next;
	free_blocks(p, blocks_of(p)[block].next);
	blocks_of(p)[block].next = NONE;
	e->length = 0;
}

/* ---- the list of prefixes ---- */

static Prefix *
find_prefix(Oid db, const char *text, uint32 length)
{
	uint32		n = pg_atomic_read_u32(&memory->nprefixes);

	for (uint32 i = 0; i < n; i++)
	{
		Prefix	   *prefix = &memory->prefixes[i];

		if (prefix->db == db && prefix->length == length &&
			memcmp(prefix->text, text, length) == 0)
			return prefix;
	}
	return NULL;
}

/* NULL when the list is full. */
static Prefix *
add_prefix(const char *text, uint32 length)
{
	uint32		n = pg_atomic_read_u32(&memory->nprefixes);
	Prefix	   *prefix;

	if (n >= PREFIXES)
		return NULL;
	prefix = &memory->prefixes[n];
	memset(prefix, 0, sizeof(*prefix));
	prefix->db = MyDatabaseId;
	prefix->length = length;
	memcpy(prefix->text, text, length);
	pg_atomic_write_u32(&memory->nprefixes, n + 1);
	return prefix;
}

/* Copy to old those without fences whose stamps are oldest, FORGET at most. */
static int
choose_old(Prefix *old)
{
	int			n = 0;

	LWLockAcquire(memory->prefix_lock, LW_SHARED);
	for (uint32 i = 0; i < pg_atomic_read_u32(&memory->nprefixes); i++)
	{
		const Prefix *prefix = &memory->prefixes[i];
		int			j;

		if (prefix->fences > 0)
			continue;
		for (j = n; j > 0 && old[j - 1].stamp.clock > prefix->stamp.clock; j--)
			if (j < FORGET)
				old[j] = old[j - 1];
		if (j < FORGET)
		{
			old[j] = *prefix;
			n = Min(n + 1, FORGET);
		}
	}
	LWLockRelease(memory->prefix_lock);
	return n;
}

/* Drop those values of a part that the prefix has cut off. */
static void
drop_cut_off(int p, const Prefix *prefix)
{
	for (int32 i = 0; i < part_entries; i++)
	{
		Entry	   *e = &entries_of(p)[i];

		/* A prefix is shorter than a block. */
		if (e->has_value && e->db == prefix->db && e->keylen >= prefix->length &&
			e->filled < prefix->stamp.clock &&
			memcmp(blocks_of(p)[e->blocks].data, prefix->text, prefix->length) == 0)
			drop_value(p, e);
	}
}

/* The others move up.  One that was fenced meanwhile stays. */
static void
remove_prefix(const Prefix *old)
{
	Prefix	   *prefix = find_prefix(old->db, old->text, old->length);
	uint32		last = pg_atomic_read_u32(&memory->nprefixes) - 1;

	if (prefix == NULL || prefix->fences > 0 || prefix->stamp.clock != old->stamp.clock)
		return;
	/* Who has read the number before looks at the last one twice. */
	*prefix = memory->prefixes[last];
	pg_atomic_write_u32(&memory->nprefixes, last);
}

/* Make room in the list; false when all are fenced. */
static bool
forget_prefixes(void)
{
	Prefix		old[FORGET];
	int			n = choose_old(old);

	for (int p = 0; n > 0 && p < PARTS; p++)
	{
		LWLockAcquire(memory->parts[p].lock, LW_EXCLUSIVE);
		for (int i = 0; i < n; i++)
		{
			stamp_merge(&memory->parts[p].forgotten, &old[i].stamp);
			drop_cut_off(p, &old[i]);
		}
		LWLockRelease(memory->parts[p].lock);
	}
	LWLockAcquire(memory->prefix_lock, LW_EXCLUSIVE);
	for (int i = 0; i < n; i++)
		remove_prefix(&old[i]);
	LWLockRelease(memory->prefix_lock);
	return n > 0;
}

/*
 * Fence the prefix.  When there is no room for it in the list, every part is
 * fenced: then nothing is cached for a moment.
 */
static void
fence_prefix(const char *text, uint32 length)
{
	Prefix	   *prefix;

	length = Min(length, PREFIX_BYTES);
	do
	{
		LWLockAcquire(memory->prefix_lock, LW_EXCLUSIVE);
		prefix = find_prefix(MyDatabaseId, text, length);
		if (prefix == NULL)
			prefix = add_prefix(text, length);
		if (prefix)
			prefix->fences++;
		LWLockRelease(memory->prefix_lock);
	} while (prefix == NULL && forget_prefixes());
	for (int p = 0; prefix == NULL && p < PARTS; p++)
	{
		LWLockAcquire(memory->parts[p].lock, LW_EXCLUSIVE);
		memory->parts[p].fences++;
		LWLockRelease(memory->parts[p].lock);
	}
}

/*
 * Whose fence it is does not matter, only their number: if the prefix has one,
 * it is taken away there, and who has put it there will find it at the parts.
 */
static void
lift_prefix(const char *text, uint32 length, bool committed, uint64 xid)
{
	uint64		clock = committed ? pg_atomic_add_fetch_u64(&memory->clock, 1) : 0;
	uint64		below = U64FromFullTransactionId(ReadNextFullTransactionId());
	Prefix	   *prefix;
	bool		lifted = false;

	length = Min(length, PREFIX_BYTES);
	LWLockAcquire(memory->prefix_lock, LW_EXCLUSIVE);
	prefix = find_prefix(MyDatabaseId, text, length);
	if (prefix && prefix->fences > 0)
	{
		if (committed)
			stamp_add(&prefix->stamp, clock, below, xid);
		prefix->fences--;
		lifted = true;
	}
	LWLockRelease(memory->prefix_lock);
	for (int p = 0; !lifted && p < PARTS; p++)
	{
		Part	   *part = &memory->parts[p];

		LWLockAcquire(part->lock, LW_EXCLUSIVE);
		part->fences--;
		if (committed)
			stamp_add(&part->floor, clock, below, xid);
		LWLockRelease(part->lock);
	}
}

void
sc_memory_fence_all(void)
{
	if (memory)
		fence_prefix("", 0);
}

void
sc_memory_lift_all(bool committed)
{
	if (memory)
		lift_prefix("", 0, committed, 0);
}

/* ---- fences ---- */

static void
fence_key(const char *key, uint32 keylen)
{
	uint64		hash = hash_key(key, keylen);
	int			p = part_of(hash);
	Part	   *part = &memory->parts[p];
	Entry	   *e;

	LWLockAcquire(part->lock, LW_EXCLUSIVE);
	e = find(p, hash, key, keylen);
	if (e)
	{
		drop_value(p, e);
		e->fences++;
	}
	else
		slot_of(p, hash)->fences++;
	LWLockRelease(part->lock);
}

static void
lift_key(const char *key, uint32 keylen, bool committed, uint64 xid)
{
	uint64		hash = hash_key(key, keylen);
	int			p = part_of(hash);
	Part	   *part = &memory->parts[p];
	Slot	   *slot = slot_of(p, hash);
	Entry	   *e;
	uint64		clock = committed ? pg_atomic_add_fetch_u64(&memory->clock, 1) : 0;

	LWLockAcquire(part->lock, LW_EXCLUSIVE);
	e = find(p, hash, key, keylen);
	/* Whose fence it is does not matter, only their number. */
	if (e && e->fences > 0)
		e->fences--;
	else
		slot->fences--;
	if (committed)
		stamp_add(e ? &e->stamp : &slot->stamp, clock, 0, xid);
	LWLockRelease(part->lock);
}

static void
for_each_entry(const char *entries, uint32 length, bool fence, bool committed,
			   uint64 xid)
{
	const char *p = entries;
	const char *end = entries + length;

	while (p < end)
	{
		ScEntry		e;

		p = sc_entry_read(p, end, &e);
		if (e.kind == SC_ENTRY_EPOCH)
		{
			char		prefix[PREFIX_BYTES];
			uint32		n = sc_pattern_prefix(e.key, e.keylen, prefix, sizeof(prefix));

			if (fence)
				fence_prefix(prefix, n);
			else
				lift_prefix(prefix, n, committed, xid);
		}
		else if (fence)
			fence_key(e.key, e.keylen);
		else
			lift_key(e.key, e.keylen, committed, xid);
	}
}

void
sc_memory_fence(const char *entries, uint32 length)
{
	if (memory)
		for_each_entry(entries, length, true, false, 0);
}

void
sc_memory_lift(const char *entries, uint32 length, bool committed,
			   FullTransactionId xid)
{
	if (memory)
		for_each_entry(entries, length, false, committed,
					   U64FromFullTransactionId(xid));
}

/* ---- leases ---- */

static void
give_back(uint64 hash)
{
	int			p = part_of(hash);
	Part	   *part = &memory->parts[p];
	int32		i;

	LWLockAcquire(part->lock, LW_EXCLUSIVE);
	i = buckets_of(p)[hash & (part_buckets - 1)];
	for (; i != NONE; i = entries_of(p)[i].next)
		for (int j = 0; entries_of(p)[i].hash == hash && j < LOADERS; j++)
			if (entries_of(p)[i].loaders[j].pid == MyProcPid)
				entries_of(p)[i].loaders[j].pid = 0;
	LWLockRelease(part->lock);
	ConditionVariableBroadcast(&part->loaded);
}

void
sc_memory_end_lease(void)
{
	if (!have_lease)
		return;
	have_lease = false;
	give_back(lease_hash);
}

bool
sc_memory_has_lease(void)
{
	return have_lease;
}

static void
lease_at_exit(int code, Datum arg)
{
	sc_memory_end_lease();
}

static void
take_lease(Entry *e, Loader *place, Oid owner)
{
	static bool registered = false;

	if (!registered)
		before_shmem_exit(lease_at_exit, (Datum) 0);
	registered = true;
	place->pid = MyProcPid;
	place->owner = owner;
	have_lease = true;
	lease_hash = e->hash;
}

/* Who loads the key for the role? */
static int
loader_of(int p, uint64 hash, const char *key, uint32 keylen, Oid owner)
{
	Entry	   *e;
	Loader	   *loader;
	int			pid;

	LWLockAcquire(memory->parts[p].lock, LW_SHARED);
	e = find(p, hash, key, keylen);
	loader = e ? find_loader(e, owner) : NULL;
	pid = loader ? loader->pid : 0;
	LWLockRelease(memory->parts[p].lock);
	return pid;
}

/* A loader that waits for a lock may be waiting for us. */
static bool
is_blocked(int pid)
{
	PGPROC	   *proc = BackendPidGetProc(pid);

	return proc == NULL || proc->waitStatus == PROC_WAIT_STATUS_WAITING;
}

bool
sc_memory_wait(const char *key, uint32 keylen, Oid owner)
{
	uint64		hash = hash_key(key, keylen);
	int			p = part_of(hash);
	bool		ok = true;
	TimestampTz look_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), STUCK_MS);

	ConditionVariablePrepareToSleep(&memory->parts[p].loaded);
	for (;;)
	{
		int			pid = loader_of(p, hash, key, keylen, owner);
		long		left;

		if (pid == 0)
			break;
		/* Loaders of other keys wake us all the time. */
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), look_at);
		if (left <= 0 && is_blocked(pid))
		{
			ok = false;
			break;
		}
		if (left <= 0)
		{
			left = STUCK_MS;
			look_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), left);
		}
		(void) ConditionVariableTimedSleep(&memory->parts[p].loaded, left,
										   PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	return ok;
}

/* ---- reading and filling ---- */

uint64
sc_memory_clock(void)
{
	uint64		clock = pg_atomic_read_u64(&memory->clock);

	/* The snapshot comes after it. */
	pg_memory_barrier();
	return clock;
}

/* Value in CurrentMemoryContext; not if it is longer than what fits there. */
static ScLookup
look_up(const char *key, uint32 keylen, Oid owner, int64 *since,
		char **value, uint32 *length)
{
	uint64		hash = hash_key(key, keylen);
	int			p = part_of(hash);
	Part	   *part = &memory->parts[p];
	Entry	   *e;
	ScLookup	result = SC_MISS;
	char	   *copy = NULL;
	uint32		room = 0;

	for (;;)
	{
		uint32		wanted = 0;

		LWLockAcquire(part->lock, LW_SHARED);
		e = find(p, hash, key, keylen);
		result = SC_MISS;
		if (since && *since < 0)
			*since = part->fills;
		if (part->fences > 0 || (e && e->fences > 0))
			result = SC_BYPASS;
		else if (e && e->has_value && e->owner == owner &&
				 (e->expires > GetCurrentTimestamp() || (since && e->number > *since)) &&
				 part->floor.clock <= e->filled &&
				 !cut_off(key, keylen, e->filled))
		{
			result = SC_HIT;
			wanted = e->length;
			if (copy && wanted <= room)
			{
				chain_read(p, e->blocks, e->keylen, copy, wanted);
				e->recent = true;
				*length = wanted;
			}
		}
		LWLockRelease(part->lock);
		if (result != SC_HIT || (copy && wanted <= room))
			break;
		/* Allocating may fail, so not under the lock. */
		if (copy)
			pfree(copy);
		room = wanted;
		copy = palloc(room + 1);
	}
	if (result == SC_HIT)
	{
		copy[*length] = '\0';
		*value = copy;
		pg_atomic_fetch_add_u64(&part->hits, 1);
	}
	else if (copy)
		pfree(copy);
	return result;
}

ScLookup
sc_memory_get(const char *key, uint32 keylen, Oid owner, bool *leased,
			  int64 *since, char **value, uint32 *length)
{
	uint64		hash = hash_key(key, keylen);
	int			p = part_of(hash);
	Part	   *part = &memory->parts[p];
	ScLookup	result;
	int64		seen = 0;		/* the value that was no hit */
	Entry	   *e;
	Loader	   *loader;

again:
	result = look_up(key, keylen, owner, since, value, length);
	if (leased)
		*leased = false;
	if (result == SC_HIT)
		return result;
	pg_atomic_fetch_add_u64(&part->misses, 1);
	if (!leased || result == SC_BYPASS)
		return result;
	LWLockAcquire(part->lock, LW_EXCLUSIVE);
	e = find(p, hash, key, keylen);
	if (e == NULL)
		e = make_entry(p, hash, key, keylen);
	if (e && e->has_value && e->number != seen)
	{
		/* Somebody has loaded it just now. */
		seen = e->number;
		LWLockRelease(part->lock);
		pg_atomic_fetch_sub_u64(&part->misses, 1);
		goto again;
	}
	loader = e ? find_loader(e, owner) : NULL;
	if (loader && loader->pid != MyProcPid)
		result = SC_LOADING;
	else if (e && !have_lease && (loader = find_loader(e, InvalidOid)) != NULL)
	{
		take_lease(e, loader, owner);
		*leased = true;
	}
	LWLockRelease(part->lock);
	return result;
}

/* The moment a value expires: a little earlier than asked, each another. */
static TimestampTz
expiry(int64 ttl_us)
{
	double		jitter = 1.0 - pg_prng_double(&pg_global_prng_state) * 0.1;

	if (ttl_us <= 0)
		return DT_NOEND;
	return GetCurrentTimestamp() + (int64) (ttl_us * jitter);
}

/* Is no fence up, and does the snapshot see all that was?  e may be NULL. */
static bool
is_fresh(int p, uint64 hash, const Entry *e, const char *key, uint32 keylen,
		 Snapshot snapshot, uint64 clock)
{
	Part	   *part = &memory->parts[p];
	Slot	   *slot = slot_of(p, hash);

	/* Commits that a standby has replayed left no stamps. */
	if (snapshot && snapshot->takenDuringRecovery)
		return false;
	return part->fences == 0 && slot->fences == 0 &&
		(e == NULL || e->fences == 0) &&
		stamp_seen(e ? &e->stamp : &slot->stamp, snapshot, clock) &&
		stamp_seen(&part->floor, snapshot, clock) &&
		stamp_seen(&part->forgotten, snapshot, clock) &&
		prefixes_seen(key, keylen, snapshot, clock);
}

bool
sc_memory_fresh(const char *key, uint32 keylen, Snapshot snapshot, uint64 clock)
{
	uint64		hash = hash_key(key, keylen);
	int			p = part_of(hash);
	bool		ok;

	LWLockAcquire(memory->parts[p].lock, LW_SHARED);
	ok = is_fresh(p, hash, find(p, hash, key, keylen), key, keylen, snapshot, clock);
	LWLockRelease(memory->parts[p].lock);
	return ok;
}

bool
sc_memory_put(const char *key, uint32 keylen, Oid owner, const char *value,
			  uint32 length, int64 ttl_us, Snapshot snapshot, uint64 clock)
{
	uint64		hash = hash_key(key, keylen);
	int			p = part_of(hash);
	Part	   *part = &memory->parts[p];
	TimestampTz expires = expiry(ttl_us);
	/* Read before the prefixes are looked at: a later epoch cuts it off. */
	uint64		filled = clock ? clock : sc_memory_clock();
	Entry	   *e;
	bool		ok;
	int32		chain = NONE;

	LWLockAcquire(part->lock, LW_EXCLUSIVE);
	e = find(p, hash, key, keylen);
	if (e == NULL)
		e = make_entry(p, hash, key, keylen);
	ok = e && is_fresh(p, hash, e, key, keylen, snapshot, clock);
	if (!ok && e)
		part->refused++;
	if (ok)
	{
		chain = take_blocks(p, keylen + length, e);
		ok = chain != NONE;
	}
	if (ok)
	{
		uint32		offset = 0;
		int32		block = chain_write(p, chain, &offset, key, keylen);

		(void) chain_write(p, block, &offset, value, length);
		free_blocks(p, e->blocks);
		e->blocks = chain;
		e->length = length;
		e->owner = owner;
		e->expires = expires;
		e->filled = filled;
		e->has_value = true;
		e->recent = true;
		e->number = ++part->fills;
	}
	LWLockRelease(part->lock);
	return ok;
}

bool
sc_memory_delete(const char *key, uint32 keylen)
{
	uint64		hash = hash_key(key, keylen);
	int			p = part_of(hash);
	Entry	   *e;
	bool		found = false;

	LWLockAcquire(memory->parts[p].lock, LW_EXCLUSIVE);
	e = find(p, hash, key, keylen);
	if (e)
	{
		found = e->has_value && e->expires > GetCurrentTimestamp();
		drop_value(p, e);
	}
	LWLockRelease(memory->parts[p].lock);
	return found;
}

void
sc_memory_forget_database(Oid dboid)
{
	for (int p = 0; memory && p < PARTS; p++)
	{
		LWLockAcquire(memory->parts[p].lock, LW_EXCLUSIVE);
		for (int32 i = 0; i < part_entries; i++)
			if (entries_of(p)[i].used && entries_of(p)[i].db == dboid)
				drop_value(p, &entries_of(p)[i]);
		LWLockRelease(memory->parts[p].lock);
	}
}

void
sc_memory_stats(ScMemoryStats *stats)
{
	memset(stats, 0, sizeof(*stats));
	if (memory == NULL)
		return;
	for (int p = 0; p < PARTS; p++)
	{
		Part	   *part = &memory->parts[p];

		LWLockAcquire(part->lock, LW_SHARED);
		stats->size += (int64) part_blocks * BLOCK_BYTES;
		stats->used += (int64) (part_blocks - part->nfree_blocks) * BLOCK_BYTES;
		stats->entries += part->nentries;
		stats->hits += pg_atomic_read_u64(&part->hits);
		stats->misses += pg_atomic_read_u64(&part->misses);
		stats->fills += part->fills;
		stats->refused += part->refused;
		stats->evictions += part->evictions;
		LWLockRelease(part->lock);
	}
}
