/*
 * fold.c: merging deltas into the base table, and filling it.
 *
 * Both happen in one snapshot and one transaction: the deltas that the
 * snapshot sees are merged, and a mark names them (see delta.c), so any other
 * snapshot sees all of a fold or nothing.  ShareUpdateExclusiveLock on the
 * base table keeps it to one at a time; neither writers nor readers conflict
 * with it.  Locks are taken in the order source, base, delta.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/snapmgr.h"

#include "base/guc.h"
#include "base/limit.h"
#include "rollup/rollup.h"

/* More groups than this go to the base table even under an old snapshot. */
#define SC_SPARE_GROUPS		1000

/* And more than this: every fold would write it again. */
#define SC_SPARE_BYTES		(4 * 1024 * 1024)

/* Values of all groups, from the source where their states cannot tell. */
static void
compute_values(ScGroups *groups, Snapshot snapshot)
{
	ScGroup    *group = NULL;

	while ((group = sc_groups_next(groups, group)) != NULL)
		sc_group_finish(groups, group);
	sc_source_states(groups, snapshot);
	sc_source_values(groups, snapshot);
}

/*
 * While an old snapshot is held, every version of a base row stays, and who
 * reads the base has to step over it.  Few groups are then better appended as
 * merged deltas, which the next fold takes over.
 */
static bool
may_spare_base(ScGroups *groups, Relation base, ScMark *mark)
{
	return groups->ngroups <= SC_SPARE_GROUPS &&
		MemoryContextMemAllocated(groups->cxt, true) <= SC_SPARE_BYTES &&
		TransactionIdIsValid(mark->basexid) &&
		!TransactionIdPrecedes(mark->basexid,
							   GetOldestNonRemovableTransactionId(base));
}

/*
 * A fold rewrites the base row of each group it meets.  Where changes are
 * scattered over many groups the worker lets more of them gather, so that one
 * row rewritten stands for several deltas, up to some pages of them, which is
 * what readers may have to look through.  When writers pause it folds the
 * rest.  Readers of a join look up what belongs to each change, so there less
 * may gather.
 */
typedef struct Pace
{
	Oid			view;			/* must be first */
	int			delays;			/* to wait for, each scalecache.fold_delay */
	TimestampTz last;			/* fold */
	BlockNumber pages;			/* of the written delta table then */
	int			failures;		/* in a row, of the worker's turns */
	TimestampTz not_before;		/* of the turn after a failure */
	int64		id;				/* of the rollup, when last looked at */
	int64		epoch;			/* then, or of what failed */
	bool		unfinished;		/* and was not live then */
	bool		blind;			/* looking at it is what failed */
	bool		shown;			/* people can see that it fails */
} Pace;

#define SC_DELTAS_PER_GROUP	8
#define SC_MAX_DELAYS		64
#define SC_MAX_JOIN_DELAYS	4
#define SC_GATHER_PAGES		64

/*
 * A rollup that fails is left alone, longer each time, up to 32 seconds, and
 * for longer where all of its source is read again.  One that has taken all of
 * its time is tried again only after a multiple of it.
 */
#define SC_FAILED_PAUSE_MS	1000
#define SC_FILL_PAUSE_MS	30000
#define SC_MAX_DOUBLINGS	5
#define SC_OVER_FACTOR		10

/* One whose tables somebody has locked can be filled once he has done. */
#define SC_LOCKED_PAUSE_MS	1000

static HTAB *paces = NULL;

static Pace *
pace_of(Oid view)
{
	bool		found;
	Pace	   *pace;

	if (paces == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(Pace)};

		paces = hash_create("scalecache fold paces", 16, &ctl,
							HASH_ELEM | HASH_BLOBS);
	}
	pace = hash_search(paces, &view, HASH_ENTER, &found);
	if (!found)
	{
		pace->delays = 1;
		pace->last = 0;
		pace->pages = 0;
		pace->failures = 0;
		pace->not_before = 0;
		pace->id = 0;
		pace->epoch = 0;
		pace->unfinished = false;
		pace->blind = false;
		pace->shown = false;
	}
	return pace;
}

static bool quiet;				/* nothing has been written for a while */
static bool deferred;			/* a rollup was passed over, not being due */

static bool
is_due(ScSpec *spec)
{
	Pace	   *pace = pace_of(spec->view);

	return quiet || pace->delays == 1 ||
		TimestampDifferenceExceeds(pace->last, GetCurrentTimestamp(),
								   pace->delays * sc_fold_delay) ||
		sc_delta_pages(spec) >= pace->pages + SC_GATHER_PAGES;
}

static void
set_pace(ScSpec *spec, int64 ndeltas, int64 ngroups)
{
	Pace	   *pace = pace_of(spec->view);

	if (ndeltas < SC_DELTAS_PER_GROUP * ngroups)
		pace->delays = Min(pace->delays * 2,
						   spec->hasparts ? SC_MAX_JOIN_DELAYS : SC_MAX_DELAYS);
	else if (ndeltas > 2 * SC_DELTAS_PER_GROUP * ngroups)
		pace->delays = Max(pace->delays / 2, 1);
	pace->last = GetCurrentTimestamp();
	pace->pages = sc_delta_pages(spec);
}

/*
 * Merge pending deltas.  Returns how many; 0 when there is nothing to do, or
 * with nowait when somebody else is at it.
 */
int64
sc_fold(Oid view, bool nowait)
{
	ScSpec	   *spec = sc_spec_by_view(view);
	Relation	base;
	ScGroups   *groups;
	ScMark	   *mark;
	bool		changed;
	int64		n = 0;
	ScIdentity	caller;
	Oid			baseid;
	Oid			sourceid;
	List	   *members;
	bool		locked;
	int64		logged;
	ScParts    *parts;

	if (spec == NULL || spec->state != SC_LIVE || spec->part != 0)
	{
		if (spec)
			sc_spec_release(spec);
		return 0;
	}
	baseid = spec->base;
	sourceid = spec->source;
	sc_spec_release(spec);
	spec = sc_spec_by_view(view);
	if (spec == NULL)
		return 0;
	/* The source first: so does who drops the rollup. */
	if (nowait && !ConditionalLockRelationOid(sourceid, AccessShareLock))
	{
		sc_spec_release(spec);
		return 0;
	}
	if (!nowait)
		LockRelationOid(sourceid, AccessShareLock);
	/* Who may have to read the source keeps it from being truncated. */
	locked = !sc_spec_rescans(spec) || sc_members_lock(spec, nowait);
	members = list_copy(spec->members);
	sc_spec_release(spec);
	parts = locked ? sc_parts_open(view) : NULL;
	if (parts)
		locked = sc_parts_lock_tables(parts, nowait);
	if (!locked)
	{
		if (parts)
			sc_parts_close(parts);
		return 0;
	}
	if (nowait && !ConditionalLockRelationOid(baseid, ShareUpdateExclusiveLock))
		return 0;
	if (!nowait)
		LockRelationOid(baseid, ShareUpdateExclusiveLock);
	if (parts && (parts = sc_parts_lock(parts, nowait)) == NULL)
		return 0;
	/* What was true before the locks may not be any more. */
	spec = sc_spec_by_view(view);
	if (spec == NULL)
		return 0;
	if (spec->hasparts != (parts != NULL) || spec->state != SC_LIVE || spec->base != baseid ||
		!equal(spec->members, members) ||
		(base = try_table_open(baseid, NoLock)) == NULL)
	{
		sc_spec_release(spec);
		return 0;
	}

	sc_capture_flush(spec, NULL);
	CommandCounterIncrement();
	sc_become_owner(spec, &caller);
	groups = sc_groups_create(spec, CurrentMemoryContext);
	PushActiveSnapshot(GetTransactionSnapshot());
	n = sc_delta_take(groups, !nowait || quiet, &mark, &changed);
	logged = n >= 0 && mark && parts ? sc_parts_take(parts, !nowait || quiet) : 0;
	if (n < 0)
	{
		/* What the marks know of is gone: have it made anew. */
		sc_catalog_set(spec->id, SC_STALE, true, InvalidOid, NULL, NIL);
		n = 0;
	}
	else if (logged < 0)
		n = 0;
	else if (mark != NULL)
	{
		sc_bound_start(spec);
		if (n + logged > 0 && may_spare_base(groups, base, mark))
		{
			if (n > 0)
				(void) sc_delta_append(groups, GetCurrentCommandId(true));
			if (parts)
				sc_parts_spare(parts);
		}
		else if (n + logged > 0)
		{
			if (parts)
				sc_parts_fold(parts, groups, n);
			sc_groups_load_base(groups, base, GetActiveSnapshot());
			/* What this transaction did is pending: do not count it here. */
			PushCopiedSnapshot(GetActiveSnapshot());
			GetActiveSnapshot()->curcid = FirstCommandId;
			compute_values(groups, GetActiveSnapshot());
			PopActiveSnapshot();
			sc_groups_write_base(groups, base);
			if (n > 0)
				mark->basexid = GetTopTransactionId();
		}
		if (parts)
			sc_parts_put_marks(parts);
		changed |= sc_delta_retire(spec, mark);
		if (n > 0 || changed)
			sc_mark_put(spec->id, mark);
		if (n > 0)
			set_pace(spec, n, groups->ngroups);
	}
	if (n > 0)
		sc_rollup_stats_fold(spec->id);
	if (parts)
	{
		CommandCounterIncrement();
		PushCopiedSnapshot(GetActiveSnapshot());
		UpdateActiveSnapshotCommandId();
		if (n >= 0 && logged >= 0)
			sc_parts_settle(parts, nowait);
		PopActiveSnapshot();
		sc_parts_close(parts);
		n += Max(logged, 0);
	}
	(void) sc_bound_stop();
	sc_rollup_stats_recover(spec->id);
	MemoryContextDelete(groups->cxt);
	PopActiveSnapshot();
	sc_become_caller(&caller);
	CommandCounterIncrement();
	table_close(base, NoLock);
	sc_spec_release(spec);
	return n;
}

void
sc_delete_all(Relation rel, Snapshot snapshot)
{
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		simple_heap_delete(rel, &slot->tts_tid);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
}

/*
 * Are all rows that change now captured, and were since before the snapshot?
 * A command that found the rollup stale, and was committed afterwards, may have
 * given it a member, or disabled a trigger, without a thought of that.
 */
static bool
misses_nothing(ScSpec *spec)
{
	if (spec->recorded == NIL)
		return true;			/* truncated, in this transaction */
	return equal(spec->members, spec->recorded) &&
		(spec->stored == SC_LIVE || sc_members_intact(spec, true));
}

/*
 * Fill the base table from the source in one snapshot, drop the deltas that
 * snapshot sees, and let the storage answer for newer ones.  Changes must
 * have been captured since before the snapshot, or be locked out.  False:
 * that has changed, so there is nothing to fill.
 */
bool
sc_fill(Oid view)
{
	ScSpec	   *spec = sc_rollup_lock_with_members(view);
	Relation	base;
	ScGroups   *groups;
	Snapshot	snapshot;
	ScIdentity	caller;

	if (spec == NULL)
		return false;
	if ((spec->stored != SC_LIVE && spec->stored != SC_FILLING) ||
		spec->part == SC_PART_STORED ||
		spec->unfit || spec->detaching)
	{
		sc_spec_release(spec);
		return false;
	}
	if (!misses_nothing(spec))
	{
		if (spec->stored == SC_FILLING)
			sc_catalog_set(spec->id, SC_STALE, true, InvalidOid, NULL, NIL);
		sc_spec_release(spec);
		return false;
	}
	base = table_open(spec->base, ShareUpdateExclusiveLock);
	sc_capture_flush(spec, NULL);
	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	PushActiveSnapshot(snapshot);
	sc_become_owner(spec, &caller);
	sc_bound_start(spec);

	sc_delta_discard(spec, snapshot);
	sc_delete_all(base, snapshot);
	groups = sc_groups_create(spec, CurrentMemoryContext);
	if (spec->distinct)
	{
		Relation	rel = table_open(spec->distincts, RowExclusiveLock);

		sc_delete_all(rel, snapshot);
		table_close(rel, NoLock);
		CommandCounterIncrement();
		groups->values = sc_values_open(spec, InvalidSnapshot, true);
	}
	/* Nothing is kept of a log but what is pending. */
	if (spec->part == 0)
		sc_source_scan(groups, snapshot);
	if (spec->nkeys == 0 && spec->part == 0)
		sc_groups_get(groups, NULL, NULL, true);
	if (spec->distinct)
	{
		sc_groups_resolve(groups, groups->values);
		sc_values_close(groups->values);
	}
	groups->complete = true;
	compute_values(groups, snapshot);
	sc_groups_write_base(groups, base);
	MemoryContextDelete(groups->cxt);
	(void) sc_bound_stop();
	sc_rollup_stats_recover(spec->id);

	sc_become_caller(&caller);
	sc_catalog_set(spec->id, SC_LIVE, true, InvalidOid, NULL, spec->members);
	PopActiveSnapshot();
	UnregisterSnapshot(snapshot);
	table_close(base, NoLock);
	sc_spec_release(spec);
	return true;
}

/* Give a rollup of a join its parts, if it can have them. */
static void
install_parts(Oid view)
{
	ScSpec	   *spec = sc_spec_by_view(view);
	bool		lacks;

	if (spec == NULL)
		return;
	lacks = spec->joined != NULL && !spec->hasparts && spec->state == SC_LIVE &&
		ConditionalLockRelationOid(spec->base, ShareUpdateExclusiveLock);
	sc_spec_release(spec);
	if (lacks)
		(void) sc_parts_install(view);
}

static void
fold_one(Oid view)
{
	ScSpec	   *spec = sc_spec_by_view(view);
	bool		due = spec != NULL && is_due(spec);

	if (spec)
		sc_spec_release(spec);
	if (due)
		(void) sc_fold(view, true);
	else if (spec)
		deferred = true;
}

/*
 * Is it to be worked on?  Not when it has failed, unless it was folded or
 * filled by somebody else since, or has lost what it had then.  And does it
 * need its storage made anew, or what is being made finished?
 */
static bool
is_wanted(Oid view, Pace *pace, bool paused)
{
	ScSpec	   *spec;
	bool		wanted = !paused;

	if (paused && pace->blind)
		return false;
	pace->blind = true;
	StartTransactionCommand();
	spec = sc_keep_rollup(view) ? sc_spec_by_view(view) : NULL;
	pace->unfinished = spec != NULL && spec->part != SC_PART_STORED &&
		(spec->stored == SC_STALE || spec->stored == SC_FILLING);
	if (spec)
	{
		int64		epoch;
		TimestampTz until;
		bool		fails = sc_rollup_stats_fails(spec->id, &epoch, &until);

		/* What another worker has left alone, this one does. */
		if (pace->id == 0 && fails)
		{
			pace->shown = true;
			pace->epoch = epoch;
			pace->not_before = until;
			wanted = until <= GetCurrentTimestamp();
		}
		if (pace->epoch != spec->epoch || (pace->shown && !fails))
			wanted = true;
		pace->id = spec->id;
		if (wanted)
			pace->epoch = spec->epoch;
		sc_spec_release(spec);
	}
	CommitTransactionCommand();
	pace->blind = false;
	return wanted;
}

/* Give back the space of folded deltas; the locks as for a fold. */
static void
reclaim(Oid view)
{
	ScSpec	   *spec = sc_spec_by_view(view);
	Oid			base;

	if (spec == NULL)
		return;
	base = spec->base;
	if (spec->state == SC_LIVE && spec->turn % 2 == 1 &&
		ConditionalLockRelationOid(base, ShareUpdateExclusiveLock) &&
		spec->valid)
		(void) sc_delta_empty(spec);
	sc_spec_release(spec);
}

static void
in_transaction(void (*work) (Oid view), Oid view)
{
	MemoryContext keep = CurrentMemoryContext;

	CHECK_FOR_INTERRUPTS();
	StartTransactionCommand();
	/* A crash before the commit reaches disk leaves the deltas. */
	set_config_option("synchronous_commit", "off", PGC_USERSET,
					  PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	PushActiveSnapshot(GetTransactionSnapshot());
	if (sc_keep_rollup(view))
		work(view);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(keep);
}

static void
take_turn(Oid view, Pace *pace, bool paused)
{
	if (!is_wanted(view, pace, paused))
		return;
	if (pace->unfinished)
		sc_build_step(view);
	else
		in_transaction(fold_one, view);
	in_transaction(reclaim, view);
	in_transaction(install_parts, view);
	pace->failures = 0;
	pace->not_before = 0;
}

/* In the log, and in the view scalecache.rollups. */
static void
report_failure(Pace *pace, const char *message, int64 pause)
{
	pace->not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause);
	pace->failures = Min(pace->failures + 1, SC_MAX_DOUBLINGS);
	pace->shown = pace->id != 0 &&
		sc_rollup_stats_fail(pace->id, message, pace->epoch, pace->not_before);
}

/* The same for one that took all of its time. */
static void
report_over(Pace *pace, const ScTried *what, const char *context)
{
	int64		pause = (int64) what->ms * SC_OVER_FACTOR;
	char	   *message = psprintf("took the worker more than %d ms", what->ms);

	ereport(WARNING,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("rollup \"%s\" %s", NameStr(what->name), message),
			 errdetail("It is left alone for %d s, so that others have their turn. Its queries add up what is pending.",
					   (int) (pause / 1000)),
			 errhint("scalecache.fold_rollup and scalecache.rebuild_rollup take as long as they need. If that is more, raise scalecache.fold_timeout."),
			 context ? errcontext("%s", context) : 0));
	report_failure(pace, message, pause);
}

/* What is worked on. */
static Pace *working = NULL;

/*
 * The worker ends, as it does when a rollup's function goes on although it is
 * canceled.  The next one is to leave that rollup alone.
 */
static void
report_end(int code, Datum arg)
{
	const ScTried *what = sc_bound_end();

	if (working == NULL || what->id == 0 || !sc_limit_killed())
		return;
	MemoryContextSwitchTo(TopMemoryContext);
	working->id = what->id;
	working->epoch = what->epoch;
	report_over(working, what, NULL);
}

/*
 * What there is to do for one rollup.  Its functions may raise errors, or not
 * return, and go on like that until its rows have changed; this is reported
 * here, so that other rollups have their turn.
 */
static void
work_on(Oid view)
{
	Pace	   *pace = pace_of(view);
	MemoryContext keep = CurrentMemoryContext;
	bool		paused = pace->not_before > GetCurrentTimestamp();

	working = pace;
	sc_bound_begin();
	PG_TRY();
	{
		take_turn(view, pace, paused);
		(void) sc_bound_end();
	}
	PG_CATCH();
	{
		const ScTried *what = sc_bound_end();
		bool		over = sc_bound_stop();
		int64		pause = (int64) SC_FAILED_PAUSE_MS << pace->failures;
		ErrorData  *error;

		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(keep);
		error = CopyErrorData();
		/* A function that is canceled may raise whatever it likes. */
		if (!(over && error->sqlerrcode == ERRCODE_QUERY_CANCELED) &&
			error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
			EmitErrorReport();
		AbortCurrentTransaction();
		FlushErrorState();
		MemoryContextSwitchTo(keep);
		if (what->id != 0)
			pace->epoch = what->epoch;
		if (over)
			report_over(pace, what, error->context);
		else if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
			report_failure(pace, "somebody has locked one of its tables", SC_LOCKED_PAUSE_MS);
		else
			report_failure(pace, error->message,
						   pace->unfinished ? Max(pause, SC_FILL_PAUSE_MS) : pause);
		RESUME_INTERRUPTS();
		FreeErrorData(error);
	}
	PG_END_TRY();
	working = NULL;
	MemoryContextSwitchTo(keep);
}

/*
 * One turn of the background worker: every rollup in its own transaction.
 * True when there may be something to fold before the next change comes.
 * idle: there has been no change for several turns.
 */
bool
sc_rollup_work(bool idle)
{
	static bool begun = false;
	static bool adopted = false;
	List	   *views;
	ListCell   *lc;
	MemoryContext keep = CurrentMemoryContext;

	if (!begun)
		before_shmem_exit(report_end, (Datum) 0);
	begun = true;
	if (!adopted)
	{
		/*
		 * pg_upgrade makes the tables anew.  With all of them locked, none is
		 * to be waited for: somebody may be dropping the extension.
		 */
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		sc_hide_from_decoding();
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (!adopted)
		sc_adopt();
	MemoryContextSwitchTo(keep);
	views = sc_catalog_views();
	sc_drop_remains(views);
	PopActiveSnapshot();
	CommitTransactionCommand();
	adopted = true;
	quiet = idle;
	deferred = false;

	foreach(lc, views)
		work_on(lfirst_oid(lc));
	return deferred;
}
