/*
 * changed.h: being told of relations that have changed.
 */
#ifndef SC_BASE_CHANGED_H
#define SC_BASE_CHANGED_H

#include "postgres.h"

#include "utils/inval.h"

/* As CacheRegisterRelcacheCallback, with 0 for its argument. */
extern void sc_on_relation_changed(RelcacheCallbackFunction told);

#endif							/* SC_BASE_CHANGED_H */
