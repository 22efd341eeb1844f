/*
 * hooks.c: the pointers of hooks.h.
 */
#include "postgres.h"

#include "base/hooks.h"

sc_group_changed_hook_type sc_group_changed_hook = NULL;
sc_view_has_rules_hook_type sc_view_has_rules_hook = NULL;
sc_is_rollup_hook_type sc_is_rollup_hook = NULL;
sc_is_rollup_key_hook_type sc_is_rollup_key_hook = NULL;
sc_lock_rollup_hook_type sc_lock_rollup_hook = NULL;
sc_changed_views_hook_type sc_changed_views_hook = NULL;
