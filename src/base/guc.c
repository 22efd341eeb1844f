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

#include "catalog/namespace.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"

#include "base/guc.h"

int			sc_fold_delay = 100;
int			sc_fold_timeout = 60000;
int			sc_naptime = 1000;
bool		sc_worker = true;
bool		sc_enable_rollup_scan = true;
bool		sc_enable_rewrite = true;
int			sc_rollup_buffer = 65536;
int			sc_partition_limit = 262144;
int			sc_zone_map_size = 4096;
int			sc_trigger_lock_timeout = 100;
bool		sc_advisor_record = true;
int			sc_advisor_max_statements = 2000;
int			sc_advisor_memory = 16384;
double		sc_advisor_sample_rate = 0.01;
int			sc_advisor_verify_timeout = 10000;
int			sc_advisor_lock_timeout = 30000;
double		sc_advisor_max_slowdown = 1.5;
bool		sc_auto_index = false;
int			sc_auto_index_interval = 3600;
int			sc_auto_index_max_size = 1024;

static void
define_advisor_memory(void)
{
	DefineCustomIntVariable("scalecache.advisor_max_statements",
							"Number of statements recorded for the index "
							"advisor.",
							"The least used ones make room for new ones.",
							&sc_advisor_max_statements,
							2000, 100, 1000000,
							PGC_POSTMASTER,
							0,
							NULL, NULL, NULL);

	DefineCustomIntVariable("scalecache.advisor_memory",
							"Shared memory for texts and parameters of "
							"recorded statements.",
							NULL,
							&sc_advisor_memory,
							16384, 1024, MAX_KILOBYTES,
							PGC_POSTMASTER,
							GUC_UNIT_KB,
							NULL, NULL, NULL);
}

static void
define_apply_settings(void)
{
	DefineCustomIntVariable("scalecache.advisor_verify_timeout",
							"Longest time a recorded statement is run to see "
							"whether an index helps.",
							NULL,
							&sc_advisor_verify_timeout,
							10000, 10, 3600000,
							PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomIntVariable("scalecache.advisor_lock_timeout",
							"Time apply_index waits for a lock before it "
							"tries again.",
							NULL,
							&sc_advisor_lock_timeout,
							30000, 1, 3600000,
							PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomRealVariable("scalecache.advisor_max_slowdown",
							 "Factor by which an applied index may slow down "
							 "a statement and be kept.",
							 NULL,
							 &sc_advisor_max_slowdown,
							 1.5, 1.0, 1000.0,
							 PGC_SIGHUP,
							 0,
							 NULL, NULL, NULL);

	DefineCustomBoolVariable("scalecache.auto_index",
							 "Applies the index advisor's suggestions, one "
							 "after the other.",
							 NULL,
							 &sc_auto_index,
							 false,
							 PGC_SIGHUP,
							 0,
							 NULL, NULL, NULL);

	DefineCustomIntVariable("scalecache.auto_index_interval",
							"Time between two looks for an index to apply "
							"automatically.",
							NULL,
							&sc_auto_index_interval,
							3600, 1, 604800,
							PGC_SIGHUP,
							GUC_UNIT_S,
							NULL, NULL, NULL);

	DefineCustomIntVariable("scalecache.auto_index_max_size",
							"Size of all indexes that are built "
							"automatically.",
							NULL,
							&sc_auto_index_max_size,
							1024, 1, 1048576,
							PGC_SIGHUP,
							GUC_UNIT_MB,
							NULL, NULL, NULL);
}

static void
define_advisor_settings(void)
{
	define_apply_settings();

	/* Without shared memory these have no meaning, and are not allowed. */
	if (process_shared_preload_libraries_in_progress)
		define_advisor_memory();

	DefineCustomBoolVariable("scalecache.advisor_record",
							 "Records executed statements for the index "
							 "advisor.",
							 NULL,
							 &sc_advisor_record,
							 true,
							 PGC_SUSET,
							 0,
							 NULL, NULL, NULL);

	DefineCustomRealVariable("scalecache.advisor_sample_rate",
							 "Fraction of executions whose parameters are "
							 "looked at.",
							 "The first executions of a statement are looked "
							 "at in any case.",
							 &sc_advisor_sample_rate,
							 0.01, 0.0, 1.0,
							 PGC_SUSET,
							 0,
							 NULL, NULL, NULL);
}

/* What tables that come, go and change ask for. */
static void
define_table_settings(void)
{
	/* Without shared memory it has no meaning, and is not allowed. */
	if (process_shared_preload_libraries_in_progress)
		DefineCustomIntVariable("scalecache.zone_map_size",
								"Shared memory for what times are in which "
								"blocks of the sources of rollups.",
								"0 means none.",
								&sc_zone_map_size,
								4096, 0, MAX_KILOBYTES,
								PGC_POSTMASTER,
								GUC_UNIT_KB,
								NULL, NULL, NULL);

	DefineCustomIntVariable("scalecache.partition_limit",
							"Size up to which a partition or child table that "
							"is attached, detached, dropped or truncated is "
							"read at once to keep rollups filled.",
							"For a bigger one the source answers until the "
							"worker has rebuilt the rollup. -1 means no limit.",
							&sc_partition_limit,
							262144, -1, MAX_KILOBYTES,
							PGC_USERSET,
							GUC_UNIT_KB,
							NULL, NULL, NULL);

	DefineCustomIntVariable("scalecache.trigger_lock_timeout",
							"Time that writers may be made to wait by an "
							"attempt to create a rollup's triggers "
							"concurrently.",
							"After an attempt writers pass for nine times as "
							"long. 0 waits for the lock as long as it takes.",
							&sc_trigger_lock_timeout,
							100, 0, 60000,
							PGC_USERSET,
							GUC_UNIT_MS,
							NULL, NULL, NULL);
}

/* Prepared statements are planned anew, with or without rollups. */
static void
assign_enable_rollup_scan(bool newval, void *extra)
{
	if (newval != sc_enable_rollup_scan)
		ResetPlanCache();
}

static void
assign_enable_rewrite(bool newval, void *extra)
{
	if (newval != sc_enable_rewrite)
		ResetPlanCache();
}

/* Only what differs: this is done for values of executed statements. */
static void
set_portable(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Have values and DDL written so that they mean the same in any session,
 * until AtEOXact_GUC(false, result).
 */
int
sc_portable_begin(void)
{
	int			nestlevel = NewGUCNestLevel();

	if (DateStyle != USE_ISO_DATES)
		set_portable("datestyle", "ISO");
	if (IntervalStyle != INTSTYLE_POSTGRES)
		set_portable("intervalstyle", "postgres");
	if (extra_float_digits < 1)
		set_portable("extra_float_digits", "1");
	if (!standard_conforming_strings)
		set_portable("standard_conforming_strings", "on");
	if (quote_all_identifiers)
		set_portable("quote_all_identifiers", "off");
	return nestlevel;
}

/*
 * Have names in SQL found in pg_catalog only, whoever runs it, until
 * AtEOXact_GUC(false, result).
 */
int
sc_fixed_path_begin(void)
{
	return sc_path_begin(NULL);
}

/* Have them found along this path instead; NULL: in pg_catalog only. */
int
sc_path_begin(const char *path)
{
	int			nestlevel = NewGUCNestLevel();

	set_portable("search_path", path ? path : "pg_catalog, pg_temp");
	return nestlevel;
}

/* The session's path as it is in force, with nothing temporary but at its end. */
char *
sc_current_path(void)
{
	StringInfoData path;
	ListCell   *lc;

	initStringInfo(&path);
	foreach(lc, fetch_search_path(true))
	{
		char	   *name = get_namespace_name(lfirst_oid(lc));

		if (name && !isAnyTempNamespace(lfirst_oid(lc)))
			appendStringInfo(&path, "%s, ", quote_identifier(name));
	}
	appendStringInfoString(&path, "pg_temp");
	return path.data;
}

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

	DefineCustomIntVariable("scalecache.fold_timeout",
							"Time that a worker spends on one rollup before "
							"it goes on with the others.",
							"The same again for each gigabyte of its source. "
							"0 means no limit.",
							&sc_fold_timeout,
							60000, 0, INT_MAX,
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
							 NULL, assign_enable_rollup_scan, NULL);

	DefineCustomBoolVariable("scalecache.enable_rewrite",
							 "Answers aggregate queries of a table from its "
							 "rollups, where that is the same and cheaper.",
							 "Off too when scalecache.enable_rollup_scan is.",
							 &sc_enable_rewrite,
							 true,
							 PGC_USERSET,
							 0,
							 NULL, assign_enable_rewrite, NULL);

	DefineCustomIntVariable("scalecache.rollup_buffer",
							"Memory for the pending changes of one "
							"transaction before they are written out.",
							NULL,
							&sc_rollup_buffer,
							65536, 64, MAX_KILOBYTES,
							PGC_USERSET,
							GUC_UNIT_KB,
							NULL, NULL, NULL);

	define_advisor_settings();
	define_table_settings();

	MarkGUCPrefixReserved("scalecache");
}
