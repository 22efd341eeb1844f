/*-------------------------------------------------------------------------
 *
 * recorded.h
 *	  What is recorded of statements, in shared memory: see workload.c for
 *	  what protects it, workload_file.c for how it survives a restart.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SC_RECORDED_H
#define SC_RECORDED_H

#include "storage/lwlock.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#define SC_SAMPLES			8	/* executions kept of a statement */
#define SC_VALUE_MAX		2048	/* longest parameter value kept */
#define SC_SAMPLE_MAX		16384	/* longest sample kept */
#define SC_TEXT_MAX			65536	/* longest statement recorded */
#define SC_SETTINGS_MAX		4096	/* longest settings kept */
#define SC_CHUNK			256 /* bytes the area is given out in */

typedef struct StmtKey
{
	uint64		queryid;
	Oid			dbid;			/* InvalidOid in an entry not in use */
	Oid			userid;
} StmtKey;

/* Bytes in the area: a chain of chunks, all of one size. */
typedef struct Bytes
{
	uint32		first;			/* 0: none */
	uint32		len;
} Bytes;

typedef struct Chunk
{
	uint32		next;			/* 0: the last */
	char		data[SC_CHUNK - sizeof(uint32)];
} Chunk;

typedef struct Sample
{
	Bytes		data;			/* none in one not in use */
	uint32		hash;
	uint64		count;
} Sample;

typedef struct Stmt
{
	slock_t		mutex;
	StmtKey		key;
	uint64		calls;
	uint64		rows;
	double		total_ms;
	double		usage;			/* calls, decaying */
	double		slowest_ms;		/* what a slower execution must exceed */
	TimestampTz first_seen;
	Bytes		text;			/* with the final zero */
	Bytes		settings;		/* that it was parsed with */
	uint64		observed;		/* executions sampled so far */
	int			slowest;		/* of samples; -1: none is kept for that */
	Sample		samples[SC_SAMPLES];
} Stmt;

typedef struct ScRecorded
{
	LWLock	   *lock;
	LWLock	   *file_lock;		/* of whoever writes the file */
	int			nfree;			/* entries */
	uint32		free_chunk;		/* first of a chain, 0: none left */
	Chunk	   *chunks;			/* the first is not used */
	Stmt		stmts[FLEXIBLE_ARRAY_MEMBER];
} ScRecorded;

/* workload.c; NULL: nothing is recorded */
extern ScRecorded *sc_recorded;
extern Stmt *sc_recorded_find(StmtKey *key);
extern Stmt *sc_recorded_make(StmtKey *key, const char *text, Size textlen,
							  const char *settings, Size settingslen);
extern Sample *sc_recorded_sample(Stmt *stmt, const char *data, uint32 len,
								  bool slowest);

/* workload_file.c */
extern void sc_workload_dump(int code, Datum arg);
extern void sc_workload_load(void);
extern void sc_workload_forget_file(void);

#endif							/* SC_RECORDED_H */
