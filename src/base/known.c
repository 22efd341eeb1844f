/*
 * known.c: oids of functions, without a look into the catalog each time.
 *
 * Whoever is called as the function says so.  What was learned holds until
 * the catalog's entry changes, so a trigger that has the oid calls it.
 */
#include "postgres.h"

#include "utils/inval.h"
#include "utils/syscache.h"

#include "base/known.h"

static void
forget(Datum arg, int cacheid, uint32 hashvalue)
{
	ScKnown    *known = (ScKnown *) DatumGetPointer(arg);

	if (hashvalue == 0 || hashvalue == known->hash)
		known->function = InvalidOid;
}

void
sc_known_init(ScKnown *known)
{
	CacheRegisterSyscacheCallback(PROCOID, forget, PointerGetDatum(known));
}

void
sc_known_learn(ScKnown *known, Oid function)
{
	if (function == known->function)
		return;
	known->function = function;
	if (OidIsValid(function))
		known->hash = GetSysCacheHashValue1(PROCOID, ObjectIdGetDatum(function));
}
