/*-------------------------------------------------------------------------
 *
 * launcher.h
 *	  The background workers: one launcher, and one worker for each database
 *	  that has the extension.
 *
 * What must always hold: sc_worker_notify() may be called in any backend,
 * preloaded or not, and never raises an error.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SC_WORKER_LAUNCHER_H
#define SC_WORKER_LAUNCHER_H

/* Called once, while shared_preload_libraries are being loaded. */
extern void sc_launcher_register(void);

/* A transaction that left deltas in this database has committed. */
extern void sc_worker_notify(void);

/* What the advisor's workers are called, which are not the launcher's. */
#define SC_BUILDER	"scalecache index builder"

/* One that left cache invalidations. */
extern void sc_cache_notify(void);

/* The caller is going to wait for a turn that begins from now on. */
extern void sc_cache_hurry(void);

/* Be who a worker is, whatever sessions of the database are set to. */
extern void sc_worker_stay_itself(void);

/* Is the extension in this database?  In a transaction of its own. */
extern bool sc_extension_exists(void);

#endif							/* SC_WORKER_LAUNCHER_H */
