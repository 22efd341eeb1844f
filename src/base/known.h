/*
 * known.h: a function of the extension whose oid a session has come to know.
 */
#ifndef SC_BASE_KNOWN_H
#define SC_BASE_KNOWN_H

#include "postgres.h"

/* Static, and all zeros until its first call of sc_known_learn. */
typedef struct ScKnown
{
	Oid			function;		/* InvalidOid: not known, or not any more */
	uint32		hash;			/* of its syscache entry */
} ScKnown;

/* Forget the function when its entry in the catalog changes. */
extern void sc_known_init(ScKnown *known);
extern void sc_known_learn(ScKnown *known, Oid function);

#endif							/* SC_BASE_KNOWN_H */
