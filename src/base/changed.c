/*
 * changed.c: being told of relations that have changed.
 *
 * A session has room for ten that are told, of whom the server, with logical
 * replication, takes four: one too many ends the session.  So ours share one
 * place, and leave the rest to other extensions.
 */
#include "postgres.h"

#include "base/changed.h"

static RelcacheCallbackFunction all[16];
static int	n = 0;

static void
tell_all(Datum arg, Oid relid)
{
	for (int i = 0; i < n; i++)
		all[i] (arg, relid);
}

void
sc_on_relation_changed(RelcacheCallbackFunction told)
{
	if (n == lengthof(all))
		elog(ERROR, "too many functions that are told of changed relations");
	if (n == 0)
		CacheRegisterRelcacheCallback(tell_all, (Datum) 0);
	all[n++] = told;
}
