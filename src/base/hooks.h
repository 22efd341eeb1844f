/*
 * hooks.h: how rollups and cache rules meet without including each other.
 *
 * The rollups' side calls the first two and fills in the others; either side may
 * be absent, and then its pointers are NULL.
 */
#ifndef SC_BASE_HOOKS_H
#define SC_BASE_HOOKS_H

#include "access/attnum.h"
#include "nodes/pg_list.h"

/*
 * A group of the rollup changes in this (sub)transaction.  Keys are given by
 * the view's attribute number, attno[i] for the i-th; keys NULL: any group.
 */
typedef void (*sc_group_changed_hook_type) (Oid view, int nkeys,
											const AttrNumber *attnos,
											const Datum *keys,
											const bool *nulls);
typedef bool (*sc_view_has_rules_hook_type) (Oid view);
typedef bool (*sc_is_rollup_hook_type) (Oid view);
typedef bool (*sc_is_rollup_key_hook_type) (Oid view, AttrNumber attno);
/* Wait for all who change the rollup, and have others wait for this transaction. */
typedef void (*sc_lock_rollup_hook_type) (Oid view);
/* Views of rollups that this transaction has changed and not told of yet. */
typedef List *(*sc_changed_views_hook_type) (void);

extern sc_group_changed_hook_type sc_group_changed_hook;
extern sc_view_has_rules_hook_type sc_view_has_rules_hook;
extern sc_is_rollup_hook_type sc_is_rollup_hook;
extern sc_is_rollup_key_hook_type sc_is_rollup_key_hook;
extern sc_lock_rollup_hook_type sc_lock_rollup_hook;
extern sc_changed_views_hook_type sc_changed_views_hook;

#endif							/* SC_BASE_HOOKS_H */
