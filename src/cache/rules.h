/*
 * rules.h: the catalog of cache rules, shared by rules.c, define.c and follow.c only.
 */
#ifndef SC_CACHE_RULES_H
#define SC_CACHE_RULES_H

#include "access/htup.h"
#include "datatype/timestamp.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"

#include "cache/cache.h"

enum
{
	Anum_cache_rule_id = 1,
	Anum_cache_rule_name,
	Anum_cache_rule_relation,
	Anum_cache_rule_key,
	Anum_cache_rule_action,
	Anum_cache_rule_value,
	Anum_cache_rule_ttl,
	Anum_cache_rule_columns,
	Anum_cache_rule_condition,
	Anum_cache_rule_time_zone,
	Anum_cache_rule_attnames,	/* by attribute number, when last written */
	Anum_cache_rule_members,	/* the relation and its partitions */
	Natts_cache_rule = Anum_cache_rule_members
};

extern Relation sc_rules_open(LOCKMODE mode);
extern HeapTuple sc_rule_fetch(Relation rel, int64 id);
extern bool sc_rule_lock(int64 id, bool wait);
extern List *sc_template_parse(const char *template);
extern char *sc_template_pattern(List *parts);
extern char **sc_rule_names(TupleDesc desc, Datum recorded, bool isnull);
extern AttrNumber sc_rule_attno(TupleDesc desc, char **names,
								const char *name);
extern Node *sc_rule_expression(Relation rel, char **names, const char *text,
								const char *what, Oid type, bool any_table);
extern int64 sc_interval_ms(const Interval *interval);
extern char *sc_equality_operator(Oid type);
extern int	sc_rule_modes(ScRule *rule);
extern void sc_rule_expression_modes(void);

#endif							/* SC_CACHE_RULES_H */
