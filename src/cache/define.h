/*
 * define.h: rules' rows, members and triggers, between define.c and follow.c.
 */
#ifndef SC_CACHE_DEFINE_H
#define SC_CACHE_DEFINE_H

#include "postgres.h"
#include "access/htup.h"
#include "nodes/pg_list.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"

/* What the triggers of a rule's tables call. */
#define SC_ROW_FUNCTION		"cache_capture"
#define SC_TRUNCATE_FUNCTION	"cache_truncate"

/* The library's own commands are not to be followed. */
extern bool sc_rule_own_commands;

extern char *sc_rule_rename_columns(Relation rel, char **names, const char *text);
extern List *sc_rule_heirs_of(Oid relid);
extern List *sc_rule_members_of(Oid relid, LOCKMODE mode);
extern void sc_rule_check_members(Oid of, List *members);
extern Datum sc_rule_oid_array(List *oids);
extern List *sc_rule_oid_list(Datum array);
extern Datum sc_rule_name_array(TupleDesc desc);
extern HeapTuple sc_rule_find_trigger(int64 id, Oid relid, const char *function);
extern void sc_rule_create_triggers(int64 id, Oid relid, List *members);
extern void sc_rule_forget(Relation catalog, HeapTuple tuple);
extern void sc_rule_drop_trigger(int64 id, Oid relid, const char *function);
extern Oid sc_rule_relation(Relation catalog, HeapTuple tuple);

#endif							/* SC_CACHE_DEFINE_H */
