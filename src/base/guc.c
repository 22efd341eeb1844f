/*-------------------------------------------------------------------------
 *
 * guc.c
 *	  The settings of the extension.
 *
 * What must always hold: every setting is named scalecache.*, its variable
 * is initialized to its boot value, and the prefix is reserved only after
 * the last setting has been defined.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc.h"

#include "base/guc.h"

int			sc_fold_delay = 100;
int			sc_naptime = 1000;
bool		sc_worker = true;
bool		sc_enable_rollup_scan = true;
int			sc_rollup_buffer = 65536;

void
sc_guc_init(void)
{
	DefineCustomIntVariable("scalecache.fold_delay",
							"Time a worker lets changes gather before it "
							"folds them into the rollups.",
							NULL,
							&sc_fold_delay,
							100, 1, 60000,
							PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomIntVariable("scalecache.naptime",
							"Time after which a worker looks for work "
							"without having been asked to.",
							NULL,
							&sc_naptime,
							1000, 10, 3600000,
							PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomBoolVariable("scalecache.worker",
							 "Runs a background worker in each database "
							 "that has the extension.",
							 NULL,
							 &sc_worker,
							 true,
							 PGC_SIGHUP,
							 0,
							 NULL, NULL, NULL);

	DefineCustomBoolVariable("scalecache.enable_rollup_scan",
							 "Answers a query of a rollup's view from the "
							 "rollup's storage.",
							 "When off, the query is answered from the "
							 "source table.",
							 &sc_enable_rollup_scan,
							 true,
							 PGC_USERSET,
							 0,
							 NULL, NULL, NULL);

	DefineCustomIntVariable("scalecache.rollup_buffer",
							"Memory for the pending changes of one "
							"transaction before they are written out.",
							NULL,
							&sc_rollup_buffer,
							65536, 64, MAX_KILOBYTES,
							PGC_USERSET,
							GUC_UNIT_KB,
							NULL, NULL, NULL);

	MarkGUCPrefixReserved("scalecache");
}
