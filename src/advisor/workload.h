/*-------------------------------------------------------------------------
 *
 * workload.h
 *	  The statements that the server has executed, as recorded.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SC_WORKLOAD_H
#define SC_WORKLOAD_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* One execution: the values of $1..., or another text with other literals. */
typedef struct ScExecution
{
	uint64		count;			/* sampled executions that were the same */
	double		part;			/* of all executions, as far as is known */
	char	   *text;			/* NULL: the statement's */
	char	   *settings;		/* with that, for sc_settings_apply() */
	int			nparams;
	Oid		   *types;
	char	  **values;			/* as the types print them; NULL is null */
} ScExecution;

typedef struct ScStatement
{
	uint64		queryid;
	Oid			userid;
	char	   *text;
	char	   *settings;		/* NULL: not known */
	uint64		calls;
	uint64		rows;
	double		total_ms;
	TimestampTz first_seen;
	bool		seeded;			/* from pg_stat_statements */
	int			nexecutions;
	ScExecution *executions;
} ScStatement;

extern bool sc_workload_paused; /* true: this backend records nothing */

extern void sc_workload_init(void);
extern bool sc_workload_available(void);
extern List *sc_workload_list(Oid onlyuser);
extern void sc_settings_apply(const char *settings);

#endif							/* SC_WORKLOAD_H */
