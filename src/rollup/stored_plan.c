/*
 * stored_plan.c: plans of what is added to the stored groups of a join, kept.
 *
 * Whoever reads while tables of the join are being changed runs a few small
 * queries (stored.c), whose planning takes as long as running them.  They are
 * the same each time, but for the numbers of changes.  So a backend keeps the
 * plans, for numbers rounded up to a power of two, until something that they
 * depend on changes, as plancache.c does for queries that can be written down.
 */
#include "postgres.h"

#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "base/changed.h"
#include "rollup/stored.h"

/* Plans that a backend keeps. */
#define MAX_PLANS		64

typedef struct KeptPlan
{
	MemoryContext cxt;			/* owns all of it */
	List	   *key;
	ScTermPlan	plan;
	bool		valid;
	int			pins;
} KeptPlan;

static List *kept = NIL;		/* of KeptPlan, the newest last */
static uint64 changes = 0;		/* that have been heard of */

/* ---- invalidation ---- */

static void
relation_changed(Datum arg, Oid relid)
{
	ListCell   *lc;

	changes++;
	foreach(lc, kept)
	{
		KeptPlan   *k = lfirst(lc);

		if (!OidIsValid(relid) || list_member_oid(k->plan.stmt->relationOids, relid))
			k->valid = false;
	}
}

/* Functions, types and operators change so seldom that all are forgotten. */
static void
object_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	ListCell   *lc;

	changes++;
	foreach(lc, kept)
		((KeptPlan *) lfirst(lc))->valid = false;
}

static void
register_callbacks(void)
{
	static bool registered = false;

	if (registered)
		return;
	registered = true;
	sc_on_relation_changed(relation_changed);
	CacheRegisterSyscacheCallback(PROCOID, object_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, object_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(OPEROID, object_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AMOPOPID, object_changed, (Datum) 0);
}

/* ---- pins ---- */

static void
release(KeptPlan *k)
{
	if (!list_member_ptr(kept, k) && k->pins == 0)
		MemoryContextDelete(k->cxt);
}

static void
unpin(void *arg)
{
	KeptPlan   *k = arg;

	k->pins--;
	release(k);
}

/* It is not freed as long as CurrentMemoryContext is there. */
static ScTermPlan *
pinned(KeptPlan *k)
{
	MemoryContextCallback *callback = palloc(sizeof(MemoryContextCallback));

	callback->func = unpin;
	callback->arg = k;
	k->pins++;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	return &k->plan;
}

static void
forget(KeptPlan *k)
{
	kept = list_delete_ptr(kept, k);
	release(k);
}

/* ---- keeping ---- */

/* Waits for locks, and so learns of changes. */
static void
lock_tables(PlannedStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind == RTE_RELATION)
			LockRelationOid(rte->relid, rte->rellockmode);
	}
}

static KeptPlan *
find(List *key)
{
	ListCell   *lc;

	foreach(lc, kept)
		if (equal(((KeptPlan *) lfirst(lc))->key, key))
			return lfirst(lc);
	return NULL;
}

/*
 * The plan that was kept by this key, a list of integers, or NULL; then *seen
 * is for keeping what is planned instead.
 */
ScTermPlan *
sc_term_plan_find(List *key, uint64 *seen)
{
	KeptPlan   *k = find(key);
	ScTermPlan *plan;

	register_callbacks();
	*seen = changes;
	if (k == NULL)
		return NULL;
	plan = pinned(k);
	if (k->valid)
		lock_tables(k->plan.stmt);
	if (k->valid)
		return plan;
	/* Freed with its pin. */
	forget(k);
	*seen = changes;
	return NULL;
}

/* Keep a copy of a plan by a key that none is kept by. */
ScTermPlan *
sc_term_plan_keep(List *key, const ScTermPlan *plan, int ninputs, uint64 seen)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "scalecache plan of a join",
											  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	KeptPlan   *k = palloc0(sizeof(KeptPlan));

	k->cxt = cxt;
	k->key = list_copy(key);
	k->plan.stmt = copyObject(plan->stmt);
	k->plan.inputs = palloc(sizeof(ScInput) * (ninputs + 1));
	memcpy(k->plan.inputs, plan->inputs, sizeof(ScInput) * ninputs);
	/* It may have been planned before what has been heard of since. */
	k->valid = seen == changes;
	MemoryContextSwitchTo(CacheMemoryContext);
	if (list_length(kept) >= MAX_PLANS)
		forget(linitial(kept));
	kept = lappend(kept, k);
	MemoryContextSetParent(cxt, CacheMemoryContext);
	MemoryContextSwitchTo(old);
	return pinned(k);
}
