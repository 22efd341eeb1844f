/*
 * build.c: giving a rollup its storage, with or without blocking writers.
 *
 * Steps, each committed before the next begins:
 *
 *	1. tables						state stays stale
 *	2. triggers						state becomes filling
 *	3. wait for the writers that may not have known of step 2
 *	4. fill, in one snapshot		state becomes live
 *
 * CREATE TRIGGER waits for writers, and makes those who come after it wait:
 * so step 2 gives up soon, lets them pass, and tries again.  Whatever stops
 * this in the middle leaves a rollup that its source answers; the worker
 * goes on from there.  One session at a time does it, under a lock of its
 * own that nobody else waits for.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/attempt.h"
#include "base/guc.h"
#include "rollup/rollup.h"

/* The worker, who has other rollups too, comes back when it has waited so long. */
#define LOCK_TIMEOUT	"100ms"

/* Let writers pass so many times longer than they were made to wait. */
#define PASS_FACTOR		9

/* Writers that may not have known of the triggers. */
typedef struct Waiting
{
	Oid			view;
	int64		epoch;			/* of the rollup, when they were listed */
	TimestampTz not_before;		/* of the next attempt */
	int			n;
	VirtualTransactionId *writers;
} Waiting;

static List *waiting = NIL;		/* in TopMemoryContext */

static Waiting *
waiting_for(Oid view)
{
	MemoryContext old;
	Waiting    *w;
	ListCell   *lc;

	foreach(lc, waiting)
	{
		w = lfirst(lc);
		if (w->view == view)
			return w;
	}
	old = MemoryContextSwitchTo(TopMemoryContext);
	w = palloc0(sizeof(Waiting));
	w->view = view;
	waiting = lappend(waiting, w);
	MemoryContextSwitchTo(old);
	return w;
}

static void
forget_waiting(Oid view)
{
	Waiting    *w = waiting_for(view);

	waiting = list_delete_ptr(waiting, w);
	if (w->writers)
		pfree(w->writers);
	pfree(w);
}

/* ---- the lock ---- */

static void
set_build_tag(LOCKTAG *tag, Oid view)
{
	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, sc_catalog_relid(), view, 0);
}

static bool
lock_build(Oid view)
{
	LOCKTAG		tag;

	set_build_tag(&tag, view);
	return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

static void
unlock_build(Oid view)
{
	LOCKTAG		tag;

	set_build_tag(&tag, view);
	LockRelease(&tag, ExclusiveLock, true);
}

/* ---- the steps ---- */

typedef struct Wanted
{
	Oid			relid;
	LOCKMODE	mode;
	long		timeout;		/* ms */
} Wanted;

static void
wait_for_lock(void *arg)
{
	Wanted	   *wanted = arg;
	int			nest = NewGUCNestLevel();

	set_config_option("lock_timeout", psprintf("%ld", wanted->timeout), PGC_USERSET,
					  PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	LockRelationOid(wanted->relid, wanted->mode);
	AtEOXact_GUC(false, nest);
}

/* Wait for a lock, but not beyond the deadline. */
static bool
lock_until(Oid relid, LOCKMODE mode, TimestampTz deadline)
{
	Wanted		wanted = {relid, mode,
	TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline)};
	ErrorData  *error;

	if (ConditionalLockRelationOid(relid, mode))
		return true;
	if (wanted.timeout <= 0)
		return false;
	error = sc_attempt(wait_for_lock, &wanted, true);
	if (error && error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(error);
	return error == NULL;
}

/* Step 1.  False: there is nothing to be done now. */
static bool
make_tables(Oid view)
{
	ScSpec	   *spec = sc_keep_rollup(view) ? sc_spec_by_view(view) : NULL;
	bool		possible = spec != NULL && !spec->unfit && !spec->detaching &&
		spec->stored != SC_UNFILLED && spec->part != SC_PART_STORED;

	if (spec)
		sc_spec_release(spec);
	if (possible)
		sc_install_storage(view);
	return possible;
}

/* Lock all members against writers, the source first, or give up in time. */
static bool
lock_members(ScSpec *spec)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													   sc_trigger_lock_timeout);
	List	   *members = lcons_oid(spec->source,
									list_delete_oid(list_copy(spec->members),
													spec->source));
	ListCell   *lc;

	foreach(lc, members)
	{
		if (sc_trigger_lock_timeout == 0)
			LockRelationOid(lfirst_oid(lc), ShareRowExclusiveLock);
		else if (!lock_until(lfirst_oid(lc), ShareRowExclusiveLock, deadline))
			return false;
	}
	return true;
}

/*
 * Do members lack triggers?  In a transaction of its own: who looks keeps weak
 * locks, with which to wait for stronger ones would be a deadlock with whoever
 * has written to a member and wants to truncate it.
 */
static bool
lacks_triggers(Oid view)
{
	ScSpec	   *spec = sc_spec_by_view(view);
	bool		lacks = spec != NULL && !sc_members_intact(spec, true);

	if (spec)
		sc_spec_release(spec);
	return lacks;
}

/* What has changed without them was told to nobody. */
static void
install_triggers(ScSpec *spec)
{
	if (!sc_members_intact(spec, true))
		sc_notify_all_groups(spec->view);
	sc_install_triggers(spec, spec->members);
}

/*
 * Step 2.  Lock the members first if they lack triggers.  False: writers were
 * in the way, or what lacks_triggers() said is not true any more.
 */
static bool
make_triggers(Oid view, bool lock, bool *gone)
{
	ScSpec	   *spec = sc_keep_rollup(view) ? sc_spec_by_view(view) : NULL;
	List	   *members;
	bool		done;

	*gone = spec == NULL || spec->unfit || spec->detaching;
	if (*gone)
	{
		if (spec)
			sc_spec_release(spec);
		return true;
	}
	members = list_copy(spec->members);
	done = lock ? lock_members(spec) : sc_members_intact(spec, true);
	sc_spec_release(spec);
	if (!done)
		return false;
	spec = sc_rollup_lock(view);
	*gone = spec == NULL || spec->unfit || spec->detaching;
	if (*gone)
	{
		if (spec)
			sc_spec_release(spec);
		return true;
	}
	/* No lock on a member may be taken after that on the base table. */
	done = lock ? equal(members, spec->members) : sc_members_intact(spec, true);
	if (done)
	{
		if (lock)
			install_triggers(spec);
		sc_adopt_triggers(spec);
		sc_catalog_set(spec->id, SC_FILLING, true, InvalidOid, NULL,
					   spec->members);
	}
	sc_spec_release(spec);
	return done;
}

/* Step 3: whose locks were taken before the triggers could be seen. */
static void
list_writers(ScSpec *spec, Waiting *w)
{
	ListCell   *lc;
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	if (w->writers)
		pfree(w->writers);
	w->writers = palloc(sizeof(VirtualTransactionId));
	w->n = 0;
	w->epoch = spec->epoch;
	foreach(lc, spec->members)
	{
		LOCKTAG		tag;
		int			n;
		VirtualTransactionId *more;

		SET_LOCKTAG_RELATION(tag, MyDatabaseId, lfirst_oid(lc));
		more = GetLockConflicts(&tag, ShareLock, &n);
		w->writers = repalloc(w->writers,
							  (w->n + n + 1) * sizeof(VirtualTransactionId));
		memcpy(w->writers + w->n, more, n * sizeof(VirtualTransactionId));
		w->n += n;
	}
	MemoryContextSwitchTo(old);
}

static bool
writers_have_gone(Oid view, bool wait)
{
	ScSpec	   *spec = sc_spec_by_view(view);
	Waiting    *w = waiting_for(view);

	if (spec == NULL)
		return true;
	if (w->writers == NULL || w->epoch != spec->epoch)
		list_writers(spec, w);
	sc_spec_release(spec);
	while (w->n > 0)
	{
		if (!VirtualXactLock(w->writers[w->n - 1], wait))
			return false;
		w->n--;
	}
	return true;
}

/* ---- in one transaction ---- */

/* Lock all members against writers, and the rollup.  Its specification, pinned. */
static ScSpec *
lock_all_members(Oid view)
{
	for (;;)
	{
		ScSpec	   *spec = sc_spec_by_view(view);
		List	   *members = list_copy(spec->members);
		ListCell   *lc;

		LockRelationOid(spec->source, ShareRowExclusiveLock);
		sc_spec_release(spec);
		foreach(lc, members)
			LockRelationOid(lfirst_oid(lc), ShareRowExclusiveLock);
		spec = sc_rollup_lock(view);
		if (equal(spec->members, members))
			return spec;
		/* Others have come meanwhile, and may have writers. */
		UnlockRelationOid(spec->base, ShareUpdateExclusiveLock);
		sc_spec_release(spec);
	}
}

/*
 * Make what is missing and fill it, blocking writers until the caller's
 * transaction ends.
 */
void
sc_ensure_storage(Oid view)
{
	ScSpec	   *spec;

	sc_install_storage(view);
	spec = lock_all_members(view);
	sc_members_refuse_changing(spec);
	if (spec->unstable)
		sc_query_refuse_unstable(copyObject(spec->joined ? spec->joined : spec->query));
	if (spec->unfit || spec->detaching)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("rollup \"%s\" cannot be filled now", get_rel_name(view)),
				 spec->detaching ?
				 errdetail("A partition of \"%s\" is being detached.",
						   get_rel_name(spec->source)) :
				 errdetail("\"%s\" includes a foreign, temporary or unlogged table.",
						   get_rel_name(spec->source)),
				 spec->detaching ?
				 errhint("Wait for it, or use ALTER TABLE ... DETACH PARTITION ... FINALIZE.") :
				 errhint("Detach or drop that table. Until then the source answers for the rollup.")));
	install_triggers(spec);
	sc_catalog_set(spec->id, SC_FILLING, true, InvalidOid, NULL,
				   spec->members);
	sc_spec_release(spec);
	(void) sc_fill(view);
}

/* ---- in a procedure ---- */

static void
let_pass(int attempt, TimestampTz *reported, Oid view)
{
	TimestampTz now = GetCurrentTimestamp();

	if (attempt == 1 || TimestampDifferenceExceeds(*reported, now, 10000))
	{
		ScSpec	   *spec = sc_spec_by_view(view);

		ereport(NOTICE,
				(errmsg("waiting for a moment without writers to \"%s\"",
						spec ? get_rel_name(spec->source) : "?"),
				 errdetail("Attempt %d to create the triggers of the rollup did not get its lock within %d ms.",
						   attempt, sc_trigger_lock_timeout)));
		if (spec)
			sc_spec_release(spec);
		*reported = now;
	}
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 (long) sc_trigger_lock_timeout * PASS_FACTOR,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* All steps, in a procedure that may commit. */
void
sc_build(Oid view)
{
	TimestampTz reported = 0;
	bool		made = false;
	bool		gone = false;

	if (!lock_build(view))
	{
		ereport(NOTICE,
				(errmsg("rollup \"%s\" is being filled by the worker",
						get_rel_name(view))));
		return;
	}
	if (make_tables(view))
	{
		SPI_commit();
		for (int attempt = 1; !made; attempt++)
		{
			bool		lock;

			if (attempt > 1)
				let_pass(attempt - 1, &reported, view);
			PushActiveSnapshot(GetTransactionSnapshot());
			lock = lacks_triggers(view);
			PopActiveSnapshot();
			SPI_commit();
			PushActiveSnapshot(GetTransactionSnapshot());
			made = make_triggers(view, lock, &gone);
			PopActiveSnapshot();
			SPI_commit();
		}
		if (!gone)
		{
			(void) writers_have_gone(view, true);
			PushActiveSnapshot(GetTransactionSnapshot());
			(void) sc_fill(view);
			PopActiveSnapshot();
			SPI_commit();
		}
		forget_waiting(view);
	}
	unlock_build(view);
}

/* ---- in the worker ---- */

static void
begin(void)
{
	CHECK_FOR_INTERRUPTS();
	StartTransactionCommand();
	set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION,
					  GUC_ACTION_LOCAL, true, 0, false);
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* As far as possible without waiting.  Begins and ends outside of any. */
static void
build_steps(Oid view)
{
	ScSpec	   *spec;
	bool		gone = false;
	bool		done;
	char		state;

	begin();
	spec = sc_spec_by_view(view);
	state = spec ? spec->stored : SC_UNFILLED;
	if (spec)
		sc_spec_release(spec);
	/* A filling one may have lost its tables, but not its triggers. */
	done = !make_tables(view);
	commit();
	if (done)
		return;
	if (state != SC_FILLING)
	{
		bool		lock;

		begin();
		lock = lacks_triggers(view);
		commit();
		begin();
		done = make_triggers(view, lock, &gone);
		commit();
		if (!done)
			waiting_for(view)->not_before =
				TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
											sc_trigger_lock_timeout * PASS_FACTOR);
		if (!done || gone)
			return;
	}
	begin();
	done = writers_have_gone(view, false);
	if (done)
	{
		(void) sc_fill(view);
		forget_waiting(view);
	}
	commit();
}

/* One attempt at a rollup that is not live, by the worker. */
void
sc_build_step(Oid view)
{
	MemoryContext cxt = CurrentMemoryContext;
	bool		mine;

	if (waiting_for(view)->not_before > GetCurrentTimestamp())
		return;
	begin();
	mine = lock_build(view);
	commit();
	MemoryContextSwitchTo(cxt);
	if (!mine)
		return;
	/* An error gives up the lock, too. */
	build_steps(view);
	MemoryContextSwitchTo(cxt);
	begin();
	unlock_build(view);
	commit();
	MemoryContextSwitchTo(cxt);
}
