/*
 * zones.c: which times are in which blocks of a rollup's source.
 *
 * A range of time that cuts through buckets needs rows of the table.  Where
 * no index finds them the table would have to be read through; so for each
 * zone, some blocks that follow each other, the least and the greatest time
 * in it are remembered in shared memory, and zones that cannot have rows of
 * the range are passed over (zone_scan.c).
 *
 * A zone's times only have to include those of all rows that anybody may see.
 * Rows that go make no zone wrong, so what matters is that no row comes
 * unnoticed.  A map is made known, empty, before its first block is read.
 * A row that is on a page before that page is read for the map is counted
 * there, whatever its transaction comes to.  One that is put there later is
 * noticed: by what captures changes for the rollup, or, if the rollup has no
 * use for the change, by the condition of its UPDATE trigger; after the row is
 * on its page, before its transaction commits, and so before any snapshot of
 * another transaction that sees it.  That holds as long as all changes are
 * captured, which is what "epoch" stands for: a snapshot for which the rollup
 * answers sees no row that came unnoticed since the rollup was filled, and a
 * map is only used with the epoch that it was made in.
 *
 * Maps are found, made, and given away under the lock.  Times are widened
 * without it: at worst those of a zone that has meanwhile become another
 * map's, which does no harm.  A zone is said to be known under the lock, so
 * never one of another map.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_am_d.h"
#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/snapmgr.h"

#include "base/guc.h"
#include "rollup/zones.h"

/* Maps, and chunks of zones that each may have. */
#define SC_ZONE_MAPS		128
#define SC_MAP_CHUNKS		512
#define SC_CHUNK_ZONES		256

/* A zone has at least so many blocks, as a power of two. */
#define SC_ZONE_SHIFT		7

typedef struct Zone
{
	pg_atomic_uint64 min;		/* as int64 */
	pg_atomic_uint64 max;
} Zone;

typedef struct Chunk
{
	pg_atomic_uint32 known[SC_CHUNK_ZONES / 32];
	Zone		zones[SC_CHUNK_ZONES];
} Chunk;

struct ScZoneMap
{
	ScZoneKey	key;			/* base is invalid: a free map */
	uint64		generation;		/* counts whose map it has been */
	int			shift;			/* of a zone */
	pg_atomic_uint64 used;		/* when, by the shared clock */
	pg_atomic_uint32 chunks[SC_MAP_CHUNKS]; /* number + 1, or 0 */
};

typedef struct Shared
{
	pg_atomic_uint64 version;	/* counts maps that came or went */
	pg_atomic_uint64 clock;
	int			nchunks;
	int			nfree;
	ScZoneMap	maps[SC_ZONE_MAPS];
	/* Followed by the numbers of free chunks, and the chunks. */
} Shared;

static Shared *shared = NULL;
static uint32 *free_chunks;
static Chunk *chunks;
static LWLock *lock;
static shmem_request_hook_type prev_request = NULL;
static shmem_startup_hook_type prev_startup = NULL;

/* ---- the shared memory ---- */

static int
count_chunks(void)
{
	return (int) ((Size) sc_zone_map_size * 1024 / (sizeof(Chunk) + sizeof(uint32)));
}

static Size
chunks_offset(int n)
{
	return CACHELINEALIGN(sizeof(Shared) + n * sizeof(uint32));
}

static Size
shared_size(void)
{
	int			n = count_chunks();

	return add_size(chunks_offset(n), mul_size(n, sizeof(Chunk)));
}

static void
request(void)
{
	if (prev_request)
		prev_request();
	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche("scalecache_zones", 1);
}

static void
startup(void)
{
	bool		found;
	int			n = count_chunks();

	if (prev_startup)
		prev_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("scalecache zones", shared_size(), &found);
	free_chunks = (uint32 *) (shared + 1);
	chunks = (Chunk *) ((char *) shared + chunks_offset(n));
	lock = &GetNamedLWLockTranche("scalecache_zones")->lock;
	if (!found)
	{
		memset(shared, 0, sizeof(Shared));
		/* Not 0, which sessions start with. */
		pg_atomic_init_u64(&shared->version, 1);
		pg_atomic_init_u64(&shared->clock, 0);
		shared->nchunks = shared->nfree = n;
		for (int i = 0; i < n; i++)
			free_chunks[i] = i;
		for (int i = 0; i < SC_ZONE_MAPS; i++)
		{
			pg_atomic_init_u64(&shared->maps[i].used, 0);
			for (int j = 0; j < SC_MAP_CHUNKS; j++)
				pg_atomic_init_u32(&shared->maps[i].chunks[j], 0);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

/* Call while the library is being preloaded. */
void
sc_zones_init(void)
{
	if (sc_zone_map_size == 0)
		return;
	prev_request = shmem_request_hook;
	shmem_request_hook = request;
	prev_startup = shmem_startup_hook;
	shmem_startup_hook = startup;
}

/*
 * May zones be used at all?  Nothing is captured during recovery; and where
 * rows that an old snapshot sees may be removed, only who reads finds out.
 */
bool
sc_zones_enabled(void)
{
	return shared != NULL && !RecoveryInProgress() && !OldSnapshotThresholdActive();
}

/* ---- maps; call with the lock held ---- */

static ScZoneMap *
find_map(const ScZoneKey *key)
{
	for (int i = 0; i < SC_ZONE_MAPS; i++)
	{
		ScZoneMap  *map = &shared->maps[i];

		if (OidIsValid(map->key.base) && memcmp(&map->key, key, sizeof(ScZoneKey)) == 0)
			return map;
	}
	return NULL;
}

/* Give a map's memory back; call with the lock held exclusively. */
static void
free_map(ScZoneMap *map)
{
	for (int i = 0; i < SC_MAP_CHUNKS; i++)
	{
		uint32		n = pg_atomic_read_u32(&map->chunks[i]);

		if (n == 0)
			continue;
		pg_atomic_write_u32(&map->chunks[i], 0);
		free_chunks[shared->nfree++] = n - 1;
	}
	memset(&map->key, 0, sizeof(ScZoneKey));
	map->generation++;
	pg_atomic_fetch_add_u64(&shared->version, 1);
}

/* Free the map that was used longest ago, but not this one; false: none. */
static bool
free_oldest(ScZoneMap *but)
{
	ScZoneMap  *oldest = NULL;

	for (int i = 0; i < SC_ZONE_MAPS; i++)
	{
		ScZoneMap  *map = &shared->maps[i];

		if (OidIsValid(map->key.base) && map != but &&
			(oldest == NULL ||
			 pg_atomic_read_u64(&map->used) < pg_atomic_read_u64(&oldest->used)))
			oldest = map;
	}
	if (oldest)
		free_map(oldest);
	return oldest != NULL;
}

/* Maps of the key's relation, or only of its rollup and column too. */
static void
free_maps(const ScZoneKey *key, bool column)
{
	for (int i = 0; i < SC_ZONE_MAPS; i++)
	{
		ScZoneKey  *other = &shared->maps[i].key;

		if (other->dboid == key->dboid && other->relid == key->relid &&
			(!column || (other->base == key->base && other->attno == key->attno)))
			free_map(&shared->maps[i]);
	}
}

static int
count_maps(const ScZoneKey *key)
{
	int			n = 0;

	for (int i = 0; i < SC_ZONE_MAPS; i++)
		if (shared->maps[i].key.dboid == key->dboid &&
			shared->maps[i].key.relid == key->relid)
			n++;
	return n;
}

/* A map for the key, of a relation of so many blocks. */
static ScZoneMap *
make_map(const ScZoneKey *key, BlockNumber nblocks)
{
	ScZoneMap  *map = NULL;

	/* An older one of the same column will not be used again. */
	free_maps(key, true);
	/* A session that writes does not look at more. */
	if (count_maps(key) == SC_ZONES_EACH)
		free_maps(key, false);
	for (;;)
	{
		for (int i = 0; i < SC_ZONE_MAPS && map == NULL; i++)
			if (!OidIsValid(shared->maps[i].key.base))
				map = &shared->maps[i];
		if (map || !free_oldest(NULL))
			break;
	}
	if (map == NULL)
		return NULL;
	map->key = *key;
	map->generation++;
	/* It may grow to twice its size. */
	map->shift = SC_ZONE_SHIFT;
	while ((nblocks >> map->shift) > SC_MAP_CHUNKS * SC_CHUNK_ZONES / 2)
		map->shift++;
	pg_atomic_fetch_add_u64(&shared->version, 1);
	return map;
}

/* Have chunks for so many blocks, if there is room. */
static void
fill_map(ScZoneMap *map, BlockNumber nblocks)
{
	int			n = nblocks == 0 ? 0 : ((nblocks - 1) >> map->shift) / SC_CHUNK_ZONES + 1;

	for (int i = 0; i < Min(n, SC_MAP_CHUNKS); i++)
	{
		Chunk	   *chunk;

		if (pg_atomic_read_u32(&map->chunks[i]) != 0)
			continue;
		while (shared->nfree == 0)
			if (!free_oldest(map))
				return;
		shared->nfree--;
		chunk = &chunks[free_chunks[shared->nfree]];
		for (int j = 0; j < lengthof(chunk->known); j++)
			pg_atomic_init_u32(&chunk->known[j], 0);
		for (int j = 0; j < SC_CHUNK_ZONES; j++)
		{
			pg_atomic_init_u64(&chunk->zones[j].min, (uint64) PG_INT64_MAX);
			pg_atomic_init_u64(&chunk->zones[j].max, (uint64) PG_INT64_MIN);
		}
		pg_write_barrier();
		pg_atomic_write_u32(&map->chunks[i], free_chunks[shared->nfree] + 1);
	}
}

/* The chunk of a zone, or NULL. */
static Chunk *
chunk_of(ScZoneMap *map, uint32 zone)
{
	uint32		n;

	if (zone / SC_CHUNK_ZONES >= SC_MAP_CHUNKS)
		return NULL;
	n = pg_atomic_read_u32(&map->chunks[zone / SC_CHUNK_ZONES]);
	return n == 0 ? NULL : &chunks[n - 1];
}

static void
widen(Zone *zone, int64 min, int64 max)
{
	uint64		old = pg_atomic_read_u64(&zone->min);

	while ((int64) old > min &&
		   !pg_atomic_compare_exchange_u64(&zone->min, &old, (uint64) min))
		;
	old = pg_atomic_read_u64(&zone->max);
	while ((int64) old < max &&
		   !pg_atomic_compare_exchange_u64(&zone->max, &old, (uint64) max))
		;
}

/* ---- who writes ---- */

/* Look up the maps of a relation that has rows of the rollup, or of any. */
static void
find_maps(ScZones *zones, Oid base, Oid relid)
{
	LWLockAcquire(lock, LW_SHARED);
	zones->version = pg_atomic_read_u64(&shared->version);
	zones->n = 0;
	for (int i = 0; i < SC_ZONE_MAPS; i++)
	{
		ScZoneMap  *map = &shared->maps[i];

		if (!OidIsValid(map->key.base) || map->key.dboid != MyDatabaseId ||
			map->key.relid != relid || (OidIsValid(base) && map->key.base != base))
			continue;
		if (zones->n == SC_ZONES_EACH)
			break;				/* none is made beyond these */
		zones->maps[zones->n] = map;
		zones->attnos[zones->n] = map->key.attno;
		zones->shifts[zones->n++] = map->shift;
	}
	LWLockRelease(lock);
}

/* Are there maps that a new row of the relation has to be entered in? */
pg_attribute_hot bool
sc_zones_wanted(ScZones *zones, Oid base, Oid relid)
{
	if (shared == NULL)
		return false;
	/* Maps are made known before pages are read, rows are noted after. */
	if (zones->version != pg_atomic_read_u64(&shared->version))
		find_maps(zones, base, relid);
	return zones->n > 0;
}

/* There is, or will be, a row with this time in this place. */
void
sc_zones_enter(ScZones *zones, int i, ItemPointer tid, Datum value)
{
	uint32		zone = ItemPointerGetBlockNumber(tid) >> zones->shifts[i];
	Chunk	   *chunk = chunk_of(zones->maps[i], zone);
	int64		time = DatumGetInt64(value);

	if (chunk)
		widen(&chunk->zones[zone % SC_CHUNK_ZONES], time, time);
}

/* The same for a row of rel; tid NULL: nobody knows where it is. */
pg_attribute_hot void
sc_zones_enter_row(ScZones *zones, Oid base, Relation rel, TupleTableSlot *row,
				   ItemPointer tid)
{
	if (!sc_zones_wanted(zones, base, RelationGetRelid(rel)))
		return;
	if (tid == NULL || !ItemPointerIsValid(tid))
	{
		sc_zones_forget(RelationGetRelid(rel));
		return;
	}
	for (int i = 0; i < zones->n; i++)
	{
		bool		isnull;
		Datum		value = slot_getattr(row, zones->attnos[i], &isnull);

		if (!isnull)
			sc_zones_enter(zones, i, tid, value);
	}
}

/* Rows of the relation may have come unnoticed. */
void
sc_zones_forget(Oid relid)
{
	ScZoneKey	key = {.dboid = MyDatabaseId, .relid = relid};

	if (shared == NULL)
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	free_maps(&key, false);
	LWLockRelease(lock);
}

/* ---- who reads ---- */

/* What a map of a relation's column is known by. */
ScZoneKey
sc_zone_key(ScSpec *spec, Relation rel, AttrNumber attno)
{
	ScZoneKey	key;

	memset(&key, 0, sizeof(key));
	key.epoch = spec->epoch;
	key.dboid = MyDatabaseId;
	key.base = spec->base;
	key.relid = RelationGetRelid(rel);
	key.relnode = rel->rd_node.relNode;
	key.attno = attno;
	return key;
}

/* May the relation have maps? */
bool
sc_zone_fits(Relation rel, AttrNumber attno)
{
	Form_pg_attribute att;

	if (rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rel->relam != HEAP_TABLE_AM_OID ||
		RelationUsesLocalBuffers(rel) || attno < 1 || attno > RelationGetNumberOfAttributes(rel))
		return false;
	att = TupleDescAttr(RelationGetDescr(rel), attno - 1);
	return !att->attisdropped && (att->atttypid == TIMESTAMPOID || att->atttypid == TIMESTAMPTZOID);
}

/*
 * Open the map for a key, of a relation of so many blocks.  If make, it is
 * made or grows when need be: read pages after that only, and their number.
 * False when there is none.
 */
bool
sc_zone_open(const ScZoneKey *key, BlockNumber nblocks, bool make, ScZoneReader *reader)
{
	ScZoneMap  *map;

	LWLockAcquire(lock, LW_SHARED);
	map = find_map(key);
	if (make && (map == NULL || (nblocks > 0 && chunk_of(map, (nblocks - 1) >> map->shift) == NULL)))
	{
		LWLockRelease(lock);
		LWLockAcquire(lock, LW_EXCLUSIVE);
		map = find_map(key);
		if (map == NULL)
			map = make_map(key, nblocks);
		if (map)
			fill_map(map, nblocks);
	}
	if (map)
	{
		reader->map = map;
		reader->generation = map->generation;
		reader->shift = map->shift;
		pg_atomic_write_u64(&map->used, pg_atomic_fetch_add_u64(&shared->clock, 1) + 1);
	}
	LWLockRelease(lock);
	return map != NULL;
}

/*
 * Look zones up: from "first" on, n of them.  What is not known is said to
 * have any time, or, with nothing, to be worth learning.
 */
void
sc_zone_look(ScZoneReader *reader, uint32 first, int n, ScZoneTimes *times)
{
	LWLockAcquire(lock, LW_SHARED);
	for (int i = 0; i < n; i++)
	{
		uint32		zone = first + i;
		Chunk	   *chunk = reader->map->generation == reader->generation ?
			chunk_of(reader->map, zone) : NULL;

		times[i].known = false;
		times[i].learnable = chunk != NULL;
		if (chunk == NULL)
			continue;
		zone %= SC_CHUNK_ZONES;
		times[i].known = (pg_atomic_read_u32(&chunk->known[zone / 32]) &
						  ((uint32) 1 << (zone % 32))) != 0;
		pg_read_barrier();
		times[i].min = (int64) pg_atomic_read_u64(&chunk->zones[zone].min);
		times[i].max = (int64) pg_atomic_read_u64(&chunk->zones[zone].max);
	}
	LWLockRelease(lock);
}

/* All tuples on the zone's pages have been looked at since sc_zone_open. */
void
sc_zone_learn(ScZoneReader *reader, uint32 zone, int64 min, int64 max)
{
	Chunk	   *chunk;

	LWLockAcquire(lock, LW_SHARED);
	if (reader->map->generation == reader->generation &&
		(chunk = chunk_of(reader->map, zone)) != NULL)
	{
		zone %= SC_CHUNK_ZONES;
		widen(&chunk->zones[zone], min, max);
		pg_write_barrier();
		pg_atomic_fetch_or_u32(&chunk->known[zone / 32], (uint32) 1 << (zone % 32));
	}
	LWLockRelease(lock);
}
