/*
 * inherits.h: what is below a table.
 */
#ifndef SC_BASE_INHERITS_H
#define SC_BASE_INHERITS_H

#include "postgres.h"

#include "nodes/pg_list.h"

/*
 * Children of a table.  Partitions that are being detached are among them, and
 * *detaching is set, or with NULL they are not.
 */
extern List *sc_children(Oid relid, bool *detaching);

#endif							/* SC_BASE_INHERITS_H */
