/*
 * zones.h: which times are in which blocks of a rollup's source: see zones.c.
 */
#ifndef SC_ZONES_H
#define SC_ZONES_H

#include "postgres.h"
#include "executor/tuptable.h"
#include "storage/itemptr.h"
#include "utils/rel.h"

#include "rollup/rollup.h"

/* What tells a map from others; compared as memory. */
typedef struct ScZoneKey
{
	int64		epoch;			/* of the rollup */
	Oid			dboid;
	Oid			base;			/* the rollup's base table */
	Oid			relid;			/* a member of its source */
	Oid			relnode;
	int32		attno;			/* of a timestamp or timestamptz */
	int32		unused;
} ScZoneKey;

/* A map that is being read. */
typedef struct ScZoneReader
{
	ScZoneMap  *map;
	uint64		generation;
	int			shift;			/* of blocks to zones */
} ScZoneReader;

typedef struct ScZoneTimes
{
	bool		known;
	bool		learnable;		/* there is room for it */
	int64		min;
	int64		max;
} ScZoneTimes;

extern void sc_zones_init(void);
extern bool sc_zones_enabled(void);
extern bool sc_zones_wanted(ScZones *zones, Oid base, Oid relid);
extern void sc_zones_enter(ScZones *zones, int i, ItemPointer tid, Datum value);
extern void sc_zones_enter_row(ScZones *zones, Oid base, Relation rel,
							   TupleTableSlot *row, ItemPointer tid);
extern void sc_zones_forget(Oid relid);
extern ScZoneKey sc_zone_key(ScSpec *spec, Relation rel, AttrNumber attno);
extern bool sc_zone_fits(Relation rel, AttrNumber attno);
extern bool sc_zone_open(const ScZoneKey *key, BlockNumber nblocks, bool make,
						 ScZoneReader *reader);
extern void sc_zone_look(ScZoneReader *reader, uint32 first, int n,
						 ScZoneTimes *times);
extern void sc_zone_learn(ScZoneReader *reader, uint32 zone, int64 min, int64 max);

#endif							/* SC_ZONES_H */
