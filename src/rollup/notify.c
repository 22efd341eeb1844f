/*
 * notify.c: telling cache rules which groups a transaction changes.
 *
 * A group's keys are told when its delta is written, which is in the
 * subtransaction that makes it visible.  What no delta tells, as no changes
 * are captured or all of the source is emptied, concerns every group.
 */
#include "postgres.h"

#include "catalog/pg_inherits.h"
#include "optimizer/optimizer.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"

#include "base/hooks.h"
#include "rollup/rollup.h"

/* The view's column of a group key; 0 when it shows none. */
static AttrNumber
column_of_key(ScSpec *spec, int key)
{
	TargetEntry *tle;

	tle = get_sortgroupclause_tle(list_nth(spec->query->groupClause, key),
								  spec->query->targetList);
	return tle->resjunk ? InvalidAttrNumber : tle->resno;
}

pg_attribute_hot void
sc_notify_groups(ScGroups *groups)
{
	ScSpec	   *spec = groups->spec;
	AttrNumber *attnos;
	ScGroup    *group = NULL;

	if (sc_group_changed_hook == NULL || !sc_view_has_rules_hook(spec->view))
		return;
	/* Other tables say which groups of a join a group is in. */
	if (spec->joined)
	{
		sc_notify_all_groups(spec->view);
		return;
	}
	attnos = palloc(sizeof(AttrNumber) * (spec->nkeys + 1));
	for (int i = 0; i < spec->nkeys; i++)
		attnos[i] = column_of_key(spec, i);
	while ((group = sc_groups_next(groups, group)) != NULL)
		if (!sc_group_is_empty(groups, group))
			sc_group_changed_hook(spec->view, spec->nkeys, attnos,
								  group->keys, group->nulls);
	pfree(attnos);
}

void
sc_notify_all_groups(Oid view)
{
	if (sc_group_changed_hook && sc_view_has_rules_hook(view))
		sc_group_changed_hook(view, 0, NULL, NULL, NULL);
}

/* Can changes of the view be told?  One of a join is refused in words. */
static bool
is_rollup(Oid view)
{
	ScSpec	   *spec = sc_spec_by_view(view);
	bool		joined;

	if (spec == NULL)
		return false;
	joined = spec->joined != NULL;
	sc_spec_release(spec);
	if (joined)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot create a cache rule for \"%s\"", get_rel_name(view)),
				 errdetail("It is a rollup of a join, and changes of the tables beside its source are not captured."),
				 errhint("Make a rule for each of the joined tables, or a rollup of one table.")));
	return true;
}

static void
lock_rollup(Oid view)
{
	ScSpec	   *spec = sc_spec_by_view(view);
	Oid			source;

	if (spec == NULL)
		return;
	source = spec->source;
	sc_spec_release(spec);
	LockRelationOid(source, ShareRowExclusiveLock);
	(void) find_all_inheritors(source, ShareRowExclusiveLock, NULL);
	spec = sc_spec_by_view(view);
	if (!sc_members_intact(spec, true))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot create a cache rule for \"%s\"", get_rel_name(view)),
				 errdetail("Changes of \"%s\" are not captured for this rollup.",
						   get_rel_name(source)),
				 errhint("Fill it with scalecache.rebuild_rollup, or wait for the worker to do it.")));
	sc_spec_release(spec);
}

static bool
is_key(Oid view, AttrNumber attno)
{
	ScSpec	   *spec = sc_spec_by_view(view);
	bool		found = false;

	if (spec == NULL)
		return false;
	for (int i = 0; i < spec->nkeys && spec->joined == NULL; i++)
		if (column_of_key(spec, i) == attno)
			found = true;
	sc_spec_release(spec);
	return found;
}

void
sc_notify_init(void)
{
	sc_is_rollup_hook = is_rollup;
	sc_is_rollup_key_hook = is_key;
	sc_lock_rollup_hook = lock_rollup;
}
