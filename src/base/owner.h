/*
 * owner.h: the extension's tables, and commands that are run as its owner.
 */
#ifndef SC_BASE_OWNER_H
#define SC_BASE_OWNER_H

#include "postgres.h"

#include "storage/lockdefs.h"
#include "utils/relcache.h"

extern Oid	sc_own_namespace(void);

/* A table of the extension, or NULL when there is none (any more) */
extern Relation sc_own_table_open(const char *name, LOCKMODE mode);

/* What has to be locked, to be read, before other tables of the extension */
extern void sc_own_tables_hold(void);

/* One without rows; whatever is not of pg_catalog has to be qualified. */
extern void sc_exec_as_owner(const char *sql);

/* schema.name of a relation, quoted */
extern char *sc_qualified_name(Oid relid);

#endif							/* SC_BASE_OWNER_H */
