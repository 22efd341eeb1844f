/*-------------------------------------------------------------------------
 *
 * guc.h
 *	  The settings of the extension.
 *
 * What must always hold: these variables are written by the GUC machinery
 * alone; everyone else reads them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SC_BASE_GUC_H
#define SC_BASE_GUC_H

extern int	sc_fold_delay;		/* ms a worker lets deltas gather */
extern int	sc_fold_timeout;	/* ms one rollup may take of the worker's time */
extern int	sc_naptime;			/* ms between two unasked looks */
extern bool sc_worker;			/* do workers run? */
extern bool sc_enable_rollup_scan;	/* do views read the rollup's storage? */
extern bool sc_enable_rewrite;	/* are queries answered from rollups? */
extern int	sc_rollup_buffer;	/* kB of pending changes kept in memory */
extern bool sc_advisor_record;	/* are statements recorded? */
extern int	sc_advisor_max_statements;
extern int	sc_advisor_memory;	/* kB of their texts and parameters */
extern double sc_advisor_sample_rate;	/* fraction of executions */
extern int	sc_advisor_verify_timeout;	/* ms a replayed statement may take */
extern int	sc_advisor_lock_timeout;	/* ms */
extern double sc_advisor_max_slowdown;	/* of one statement by an index */
extern bool sc_auto_index;		/* is advice applied? */
extern int	sc_auto_index_interval; /* s between two looks */
extern int	sc_auto_index_max_size; /* MB */
extern int	sc_partition_limit; /* kB of a partition read at once; -1: any */
extern int	sc_zone_map_size;	/* kB of shared memory for zones; 0: none */
extern int	sc_trigger_lock_timeout;	/* ms an attempt may block writers */

extern void sc_guc_init(void);
extern int	sc_portable_begin(void);
extern int	sc_fixed_path_begin(void);
extern int	sc_path_begin(const char *path);
extern char *sc_current_path(void);

#endif							/* SC_BASE_GUC_H */
