/*-------------------------------------------------------------------------
 *
 * init.c
 *	  Where the library is loaded: a table of contents, nothing more.
 *
 * What must always hold: everything that works in a session that was not
 * preloaded comes before the test of process_shared_preload_libraries_in_
 * progress, and everything that needs shared memory or a background worker
 * comes after it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "advisor/choose.h"
#include "advisor/workload.h"
#include "base/guc.h"
#include "cache/cache.h"
#include "rollup/rollup.h"
#include "rollup/zones.h"
#include "worker/launcher.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	sc_cache_settings_init();
	sc_guc_init();
	/* Before rollups: of callbacks at commit, the last registered is first. */
	sc_cache_init();
	sc_rollup_init();
	sc_whatif_init();
	sc_harvest_init();

	if (!process_shared_preload_libraries_in_progress)
		return;

	sc_workload_init();
	sc_rollup_stats_init();

	sc_cache_preload_init();
	sc_claims_init();
	sc_zones_init();
	sc_launcher_register();
}
