/*
 * deliver.c: one turn of the worker that sends keys to Redis.
 *
 * A turn reads what has been committed, sends it in one pipeline, looks at
 * every reply and deletes from the outbox what was acknowledged.  Anything
 * but success leaves the outbox as it is; after a pause with jitter, longer
 * from failure to failure, the turn is taken again on a new connection.
 *
 * An epoch (all keys of a rule) takes a walk over Redis' keys.  The walk goes
 * on a little in each turn, between the other keys, and the outbox tuple
 * stays until it has ended.
 */
#include "postgres.h"

#include <math.h>

#include "access/transam.h"
#include "access/xact.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/guc.h"
#include "base/owner.h"
#include "cache/cache.h"
#include "cache/link.h"
#include "cache/memory.h"
#include "cache/route.h"

#define BATCH_BYTES		(256 * 1024)	/* of outbox entries in a pipeline */
#define FIRST_RETRY_MS	50
#define WALK_STEPS		8		/* of a walk in one turn */
#define GATHER_RATE		1000	/* transactions/s from which keys gather */
#define GATHER_MS		8		/* between two turns at that rate */
#define GATHER_MAX_MS	32		/* the same at four times the rate */
#define ROTATE_BYTES	(64 * 1024)	/* acknowledged before tables are cut */
#define LOOK_MS			2000	/* between looks at the route */
#define REDIRECTIONS	4		/* of a batch in a turn */
#define BLOCKED_MS		100		/* between turns while a node is away */
#define UNSET_LIMIT		(1024 * 1024)	/* bytes queued for no Redis */

static ScRedisStatus status;
static char *used_url = NULL;	/* that we are or were connected to */
static int	failures = 0;		/* in a row */
static TimestampTz last_ping = 0;
static TimestampTz last_look = 0;	/* whether the route is still right */

/* A tuple that waits for a walk, and for which of its patterns. */
typedef struct WalkItem
{
	ScOutboxItem item;			/* without entries */
	Bitmapset  *patterns;
} WalkItem;

/* The walk for epochs: what it is for and the tuples waiting for it. */
typedef struct Walk
{
	MemoryContext cxt;
	List	   *patterns;		/* of char *, what to delete */
	List	   *items;			/* of WalkItem * */
	uint64		since;			/* values stored later are left alone */
	bool		arms;			/* when it ends Redis holds nothing old */
	int			current;		/* index of the one being walked */
	Bitmapset  *refused;		/* those that Redis did not delete all of */
	char		why[256];		/* as it said, now or the last time */
	ScWalkState *state;
} Walk;

static Walk *walk = NULL;		/* under way */
static Walk *next_walk = NULL;	/* for tuples seen since it began */
static Walk *held = NULL;		/* what was refused waits until then */
static TimestampTz held_until = 0;

/*
 * The tuples that wait for any of them, and with no table the transactions
 * that these are of.  There may be thousands.
 */
typedef struct WaitingKey
{
	uint64		xid;
	int32		table;
	ItemPointerData tid;
} WaitingKey;

typedef struct Waiting
{
	WaitingKey	key;			/* must be first */
	int			n;
} Waiting;

#define NO_TABLE		(-1)

static MemoryContext waiting_cxt = NULL;
static HTAB *waiting = NULL;	/* NULL: none */

/* Load, to choose between promptness and few wake-ups. */
static double rate = 0;			/* transactions per second, smoothed */
static TimestampTz last_turn = 0;
static TimestampTz turn_start = 0;
static Size acknowledged = 0;	/* bytes since tables were cut */
static bool flushed = false;	/* the commits that the snapshot sees */
static bool blocked = false;	/* tuples wait for a node that is away, or */
static char refused[256] = "";	/* why Redis does not do what they ask for */

/* ---- failure and recovery ---- */

static bool
any_walks(void)
{
	return walk || next_walk || held;
}

static void
forget_waiting(void)
{
	if (waiting)
		MemoryContextDelete(waiting_cxt);
	waiting = NULL;
}

static void
forget_walks(void)
{
	if (walk)
		MemoryContextDelete(walk->cxt);
	if (next_walk)
		MemoryContextDelete(next_walk->cxt);
	if (held)
		MemoryContextDelete(held->cxt);
	walk = next_walk = held = NULL;
	forget_waiting();
	sc_link_forget_stored();
}

/* Their tuples are moved, and will be found elsewhere, with other ids. */
static void
forget_items(void)
{
	if (walk)
		walk->items = NIL;
	if (next_walk)
		next_walk->items = NIL;
	if (held)
		held->items = NIL;
	forget_waiting();
}

static void
set_retry(void)
{
	double		ms = FIRST_RETRY_MS * pow(2, Min(failures - 1, 20));

	ms = Min(ms, sc_redis_retry_max);
	ms *= 0.5 + pg_prng_double(&pg_global_prng_state) / 2;
	status.retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), (int64) ms + 1);
}

/* Sessions do without Redis until everything is delivered again. */
static void
lose_link(void)
{
	ScDelivered nothing;

	sc_link_close();
	memset(&nothing, 0, sizeof(nothing));
	sc_cache_set_delivered(&nothing);
}

static void
note_failure(const char *error)
{
	lose_link();
	forget_walks();
	failures++;
	status.failures++;
	status.connected = false;
	status.library = false;
	strlcpy(status.last_error, error, sizeof(status.last_error));
	status.last_error_at = GetCurrentTimestamp();
	if (failures == 1 || (failures == sc_breaker_threshold &&
						  status.breaker == SC_BREAKER_CLOSED))
		ereport(LOG,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("scalecache could not reach Redis at %s: %s",
						status.server, error),
				 errdetail("Invalidations stay queued; the next attempt follows shortly.")));
	if (failures >= sc_breaker_threshold || status.breaker != SC_BREAKER_CLOSED)
		status.breaker = SC_BREAKER_OPEN;
	set_retry();
}

static void
note_success(void)
{
	if (failures > 0)
		ereport(LOG, (errmsg("scalecache has reached Redis at %s again", status.server)));
	failures = 0;
	status.breaker = SC_BREAKER_CLOSED;
	status.retry_at = 0;
}

/* The turn ended with an error: what was in flight is unknown. */
void
sc_cache_work_failed(void)
{
	lose_link();
	forget_walks();
	status.connected = false;
	sc_cache_set_status(&status);
}

/* What Redis refuses waits, and everything else is delivered. */
static void
note_refused(void)
{
	static bool told = false;
	Walk	   *const walks[] = {held, walk, next_walk};

	for (int i = 0; i < lengthof(walks) && refused[0] == '\0'; i++)
		if (walks[i])
			strlcpy(refused, walks[i]->why, sizeof(refused));
	if (refused[0] == '\0')
	{
		told = false;
		return;
	}
	strlcpy(status.last_error, refused, sizeof(status.last_error));
	status.last_error_at = GetCurrentTimestamp();
	snprintf(status.warning, sizeof(status.warning), "keys are not deleted: %s", refused);
	if (!told)
		ereport(LOG,
				(errmsg("Redis refuses to delete keys: %s", refused),
				 errdetail("Their invalidations stay queued.")));
	told = true;
}

/* Some masters are away: the others get their keys. */
static void
note_absent(void)
{
	static bool told = false;
	const char *why = sc_link_why_absent();

	if (!sc_link_absent())
	{
		told = false;
		return;
	}
	strlcpy(status.last_error, why, sizeof(status.last_error));
	strlcpy(status.warning, why, sizeof(status.warning));
	status.last_error_at = GetCurrentTimestamp();
	if (!told)
		ereport(LOG,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("scalecache could not reach a master of the cluster: %s", why),
				 errdetail("Invalidations of its keys stay queued.")));
	told = true;
}

/* ---- connecting ---- */

/* Before it is known where the URL leads to */
static void
describe_url(const ScRedisUrl *url)
{
	char		host[300];

	status.mode = url->kind;
	sc_host_text(&url->hosts[0], host, sizeof(host));
	if (url->kind == SC_URL_SINGLE)
		snprintf(status.server, sizeof(status.server), "%s, database %d", host, url->db);
	else if (url->kind == SC_URL_SENTINEL)
		snprintf(status.server, sizeof(status.server),
				 "master \"%s\" of the Sentinel at %s and %d others, database %d",
				 url->master, host, url->nhosts - 1, url->db);
	else
		snprintf(status.server, sizeof(status.server), "cluster of %s and others", host);
}

/* True when there is a connection. */
static bool
be_connected(void)
{
	ScRedisUrl	url;
	const char *why;
	const char *hint;
	char		error[256] = "";
	bool		ok;

	if (sc_link_ok())
		return true;
	if (status.retry_at > GetCurrentTimestamp())
		return false;
	if (status.breaker == SC_BREAKER_OPEN)
	{
		status.breaker = SC_BREAKER_HALF_OPEN;
		sc_cache_set_status(&status);
	}
	if (!sc_redis_url_parse(sc_redis_url, &url, &why, &hint))
	{
		note_failure("the URL is not valid");
		return false;
	}
	describe_url(&url);
	ok = sc_link_open(&url, &status, error, sizeof(error));
	explicit_bzero(&url, sizeof(url));
	if (!ok)
	{
		note_failure(error);
		return false;
	}
	status.connected = true;
	status.connected_at = GetCurrentTimestamp();
	status.connects++;
	last_ping = 0;
	last_look = GetCurrentTimestamp();
	note_absent();
	return true;
}

/* Start anew when the setting has changed. */
static void
follow_url(void)
{
	if (used_url && strcmp(used_url, sc_redis_url) == 0)
		return;
	lose_link();
	sc_link_forget_limits();
	forget_walks();
	if (used_url)
		pfree(used_url);
	used_url = MemoryContextStrdup(TopMemoryContext, sc_redis_url);
	failures = 0;
	memset(&status, 0, sizeof(status));
}

/* ---- walks ---- */

static WaitingKey
waiting_key(const ScOutboxItem *item, bool whole)
{
	WaitingKey	key;

	memset(&key, 0, sizeof(key));	/* padding as well */
	key.xid = item->xid;
	key.table = whole ? NO_TABLE : item->table;
	if (!whole)
		key.tid = item->tid;
	return key;
}

static void
make_waiting(void)
{
	HASHCTL		ctl;

	if (waiting)
		return;
	waiting_cxt = AllocSetContextCreate(TopMemoryContext, "scalecache waiting tuples",
										ALLOCSET_DEFAULT_SIZES);
	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(WaitingKey);
	ctl.entrysize = sizeof(Waiting);
	ctl.hcxt = waiting_cxt;
	waiting = hash_create("scalecache waiting tuples", 64, &ctl,
						  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* The tuple waits, or does not any more. */
static void
note_waiting(const ScOutboxItem *item, bool waits)
{
	make_waiting();
	for (int whole = 0; whole < 2; whole++)
	{
		WaitingKey	key = waiting_key(item, whole == 1);
		bool		found;
		Waiting    *w = hash_search(waiting, &key, waits ? HASH_ENTER : HASH_FIND, &found);

		if (waits)
			w->n = found ? w->n + 1 : 1;
		else if (w && --w->n <= 0)
			(void) hash_search(waiting, &key, HASH_REMOVE, NULL);
	}
}

/* Does the tuple wait for a walk, or some tuple of its transaction? */
static bool
is_waiting(const ScOutboxItem *item, bool whole)
{
	WaitingKey	key;

	if (waiting == NULL)
		return false;
	key = waiting_key(item, whole);
	return hash_search(waiting, &key, HASH_FIND, NULL) != NULL;
}

static Walk *
new_walk(void)
{
	MemoryContext cxt = AllocSetContextCreate(TopMemoryContext, "scalecache walk",
											  ALLOCSET_SMALL_SIZES);
	Walk	   *w = MemoryContextAllocZero(cxt, sizeof(Walk));

	w->cxt = cxt;
	w->state = sc_link_walk_new(cxt);
	return w;
}

static int
pattern_index(Walk *w, const char *pattern)
{
	ListCell   *lc;

	foreach(lc, w->patterns)
		if (strcmp(lfirst(lc), pattern) == 0)
			return foreach_current_index(lc);
	w->patterns = lappend(w->patterns, pstrdup(pattern));
	return list_length(w->patterns) - 1;
}

/* Have a walk that has not begun include the patterns of the tuple, or arm. */
static void
add_to_walk(Walk *w, const ScOutboxItem *item, List *patterns, uint64 since)
{
	MemoryContext old = MemoryContextSwitchTo(w->cxt);
	Bitmapset  *indexes = NULL;
	ListCell   *lc;

	w->since = Max(w->since, since);
	foreach(lc, patterns)
		indexes = bms_add_member(indexes, pattern_index(w, lfirst(lc)));
	if (item)
	{
		WalkItem   *copy = palloc(sizeof(WalkItem));

		copy->item = *item;
		copy->item.entries = NULL;
		copy->patterns = indexes;
		w->items = lappend(w->items, copy);
	}
	else
		w->arms = true;
	MemoryContextSwitchTo(old);
}

static void
add_to_next_walk(const ScOutboxItem *item, List *patterns, uint64 since)
{
	if (next_walk == NULL)
		next_walk = new_walk();
	sc_link_walk_missing(next_walk->state, item == NULL);
	add_to_walk(next_walk, item, patterns, since);
}

/* Have the next walk include the patterns of the tuple's epochs, or arm. */
static void
ask_for_walk(const ScOutboxItem *item, List *patterns, uint64 since)
{
	if (item)
		note_waiting(item, true);
	add_to_next_walk(item, patterns, since);
}

static void
count_latency(const ScOutboxItem *item)
{
	TimestampTz done = sc_cache_commit_time((TransactionId) item->xid, item->queued_at);
	int64		us = GetCurrentTimestamp() - done;
	int			bucket = 0;

	while (bucket < SC_HISTOGRAM - 1 && us >= ((int64) 16 << bucket))
		bucket++;
	status.histogram[bucket]++;
}

/* Leave out of the mark what waits for a walk; false when it is too much. */
static bool
except_waiting(ScAcked *mark)
{
	HASH_SEQ_STATUS seq;
	Waiting    *w;

	if (waiting == NULL)
		return true;
	hash_seq_init(&seq, waiting);
	while ((w = hash_seq_search(&seq)) != NULL)
		if (w->key.table == NO_TABLE && !sc_acked_except(mark, w->key.xid))
		{
			hash_seq_term(&seq);
			return false;
		}
	return true;
}

static void
delete_items(List *items)
{
	if (items == NIL)
		return;
	/* A deletion that a crash undoes only sends a key again. */
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	sc_outbox_delete(items);
}

/*
 * Have the items done with: by the mark, if they are all that was left to send
 * of what it names, or else one by one.
 */
static void
acknowledge(List *items, ScAcked *mark)
{
	List	   *single = NIL;
	ListCell   *lc;

	if (mark && !except_waiting(mark))
		mark = NULL;
	foreach(lc, items)
	{
		ScOutboxItem *item = lfirst(lc);

		count_latency(item);
		acknowledged += item->entries ? VARSIZE(item->entries) : 0;
		if (mark == NULL || item->table == SC_OUTBOX_RING || is_waiting(item, true))
			single = lappend(single, item);
	}
	delete_items(single);
	if (mark == NULL)
		return;
	sc_cache_set_acked(mark);
	if (!any_walks())
		sc_outbox_acknowledged();
}

/* Those of the walk's patterns; all of them that were refused if NULL. */
static List *
refused_patterns(const Bitmapset *of)
{
	List	   *result = NIL;
	int			i = -1;

	while ((i = bms_next_member(walk->refused, i)) >= 0)
		if (of == NULL || bms_is_member(i, of))
			result = lappend(result, list_nth(walk->patterns, i));
	return result;
}

/* What was refused is tried again after a while: a walk is a lot of work. */
static void
hold_refused(const ScOutboxItem *item, List *patterns)
{
	if (held == NULL)
	{
		held = new_walk();
		held_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), sc_redis_retry_max);
	}
	strlcpy(held->why, walk->why, sizeof(held->why));
	add_to_walk(held, item, patterns, walk->since);
}

/* Is it time to try again? */
static void
retry_held(void)
{
	Walk	   *w = held;
	ListCell   *lc;

	if (w == NULL || held_until > GetCurrentTimestamp())
		return;
	foreach(lc, w->items)
	{
		WalkItem   *waits = lfirst(lc);
		List	   *patterns = NIL;
		int			i = -1;

		while ((i = bms_next_member(waits->patterns, i)) >= 0)
			patterns = lappend(patterns, list_nth(w->patterns, i));
		add_to_next_walk(&waits->item, patterns, w->since);
	}
	if (w->arms)
		add_to_next_walk(NULL, w->patterns, w->since);
	if (next_walk)
		strlcpy(next_walk->why, w->why, sizeof(next_walk->why));
	held = NULL;
	MemoryContextDelete(w->cxt);
}

/* The tuples whose patterns have been walked over are done with. */
static void
end_walk(void)
{
	List	   *done = NIL;
	ListCell   *lc;

	if (walk->arms && walk->refused)
		hold_refused(NULL, refused_patterns(NULL));
	foreach(lc, walk->items)
	{
		WalkItem   *waits = lfirst(lc);

		if (bms_overlap(waits->patterns, walk->refused))
			hold_refused(&waits->item, refused_patterns(waits->patterns));
		else
			done = lappend(done, &waits->item);
	}
	acknowledge(done, NULL);
	foreach(lc, done)
		note_waiting(lfirst(lc), false);
	MemoryContextDelete(walk->cxt);
	walk = NULL;
	if (any_walks())
		return;
	forget_waiting();
	sc_link_forget_stored();
}

/*
 * Take some steps of the walk.  False when the connection failed.
 */
static bool
continue_walk(char *error, Size errlen)
{
	if (walk == NULL)
	{
		walk = next_walk;
		next_walk = NULL;
		if (walk == NULL)
			return true;
	}
	for (int step = 0; step < WALK_STEPS; step++)
	{
		const char *why;
		bool		done;

		if (walk->current >= list_length(walk->patterns))
			break;
		if (!sc_link_walk_step(walk->state, list_nth(walk->patterns, walk->current),
							   walk->since, &done, error, errlen))
			return false;
		if (!done)
			continue;
		why = sc_link_walk_refusal(walk->state);
		if (why)
		{
			MemoryContext old = MemoryContextSwitchTo(walk->cxt);

			walk->refused = bms_add_member(walk->refused, walk->current);
			MemoryContextSwitchTo(old);
			strlcpy(walk->why, why, sizeof(walk->why));
		}
		walk->current++;
		status.epochs++;
	}
	if (walk->current >= list_length(walk->patterns))
	{
		bool		more;

		/* Nodes that have changed since have to be told first. */
		if (walk->arms && !sc_link_introduced())
			return true;
		if (walk->arms && !walk->refused && !sc_link_arm(true, &more, error, errlen))
			return false;
		end_walk();
	}
	return true;
}

/* ---- batches ---- */

/* What becomes of the tuples of a batch. */
typedef struct Batch
{
	List	   *done;			/* of ScOutboxItem *, acknowledged */
	List	   *walks;			/* of the same, whose epochs need a walk, */
	List	   *patterns;		/* the patterns of each, */
	uint64		since;			/* and the position of the last */
	int			nblocked;		/* some node could not be reached */
	int			nrefused;
} Batch;

/*
 * Put an entry into the pipeline.  False when there is a node that is away and
 * concerned.
 */
static bool
send_entry(const ScOutboxItem *item, const ScEntry *e, bool store, List **epochs)
{
	char	   *value = NULL;
	int64		ttl_ms = 0;
	bool		sent;
	/* What is in the pipeline lives as long as the batch. */
	uint32		keylen;
	const char *key = sc_text_for_redis(e->key, e->keylen, &keylen);

	if (e->kind == SC_ENTRY_EPOCH)
	{
		char		prefix[SC_PREFIX_MAX];
		uint32		n = sc_pattern_prefix(key, keylen, prefix, sizeof(prefix));

		*epochs = lappend(*epochs, pnstrdup(key, keylen));
		return sc_link_epoch(prefix, n, item->xid);
	}
	if (e->kind == SC_ENTRY_WRITE && store)
		value = sc_value_of(e, &ttl_ms);
	if (value)
	{
		/* It must not outlive, through a crash, the commit that made it. */
		if (!flushed)
			sc_cache_flush_commits();
		flushed = true;
		sent = sc_link_store(key, keylen, value, ttl_ms, item->xid);
		pfree(value);
	}
	else
		sent = sc_link_delete(key, keylen, item->xid);
	if (sent)
		status.keys++;
	return sent;
}

/* What is to be done about a tuple that Redis has taken. */
static void
note_taken(Batch *b, ScOutboxItem *item, bool all, List *epochs)
{
	if (!all)
		b->nblocked++;
	else if (epochs)
	{
		b->walks = lappend(b->walks, item);
		b->patterns = lappend(b->patterns, epochs);
	}
	else
		b->done = lappend(b->done, item);
}

/*
 * Send a tuple's entries one by one, as Redis refuses some of them.  Instead of
 * a value that it refuses the key is deleted; where that is refused, the tuple
 * waits, as one does for a node that is away.
 */
static bool
send_singly(Batch *b, ScOutboxItem *item, char *error, Size errlen)
{
	const char *p = VARDATA(item->entries);
	const char *end = p + VARSIZE(item->entries) - VARHDRSZ;
	List	   *epochs = NIL;
	bool		all = true;
	bool		taken = true;

	while (p < end)
	{
		ScEntry		e;

		p = sc_entry_read(p, end, &e);
		for (int store = e.kind == SC_ENTRY_WRITE ? 1 : 0; store >= 0; store--)
		{
			sc_link_begin();
			if (!send_entry(item, &e, store == 1, &epochs))
				all = false;
			if (e.kind == SC_ENTRY_EPOCH)
				b->since = sc_link_position();
			if (sc_link_finish(error, errlen))
				break;
			if (!sc_link_refused())
				return false;
			if (store)
				sc_value_refused(&e, error);
			else
			{
				taken = false;
				strlcpy(refused, error, sizeof(refused));
			}
		}
	}
	if (taken)
		note_taken(b, item, all, epochs);
	else
		b->nrefused++;
	return true;
}

/* Send tuples from one to before another in one pipeline. */
static bool
send_range(Batch *b, List *items, int from, int to, char *error, Size errlen)
{
	List	  **epochs = palloc0((to - from) * sizeof(List *));
	bool	   *all = palloc0((to - from) * sizeof(bool));
	uint64		since = b->since;
	bool		ok = true;

	sc_link_begin();
	for (int i = from; ok && i < to; i++)
	{
		ScOutboxItem *item = list_nth(items, i);
		const char *p = VARDATA(item->entries);
		const char *end = p + VARSIZE(item->entries) - VARHDRSZ;

		all[i - from] = true;
		while (ok && p < end)
		{
			ScEntry		e;

			p = sc_entry_read(p, end, &e);
			if (!send_entry(item, &e, true, &epochs[i - from]))
				all[i - from] = false;
			/* Values stored from here on are newer than what the epoch is about. */
			if (e.kind == SC_ENTRY_EPOCH)
				since = sc_link_position();
			if (sc_link_much())
			{
				ok = sc_link_finish(error, errlen);
				if (ok)
					sc_link_begin();
			}
		}
	}
	ok = ok && sc_link_finish(error, errlen);
	if (ok)
		for (int i = from; i < to; i++)
			note_taken(b, list_nth(items, i), all[i - from], epochs[i - from]);
	if (ok)
		b->since = since;
	return ok;
}

/* The same; those that Redis refuses are found by halves. */
static bool
send_items(Batch *b, List *items, int from, int to, char *error, Size errlen)
{
	int			middle = (from + to) / 2;

	CHECK_FOR_INTERRUPTS();
	if (send_range(b, items, from, to, error, errlen))
		return true;
	if (!sc_link_refused())
		return false;
	if (to - from == 1)
		return send_singly(b, list_nth(items, from), error, errlen);
	return send_items(b, items, from, middle, error, errlen) &&
		send_items(b, items, middle, to, error, errlen);
}

/*
 * Send a batch.  With a mark, they are all that was left to send of what the
 * mark names.
 */
static bool
send_batch(List *items, ScAcked *mark, int *n, char *error, Size errlen)
{
	Batch		b = {0};
	List	   *wanted = NIL;
	ListCell   *lc;
	ListCell   *lc2;
	instr_time	start;
	instr_time	took;

	foreach(lc, items)
		if (!is_waiting(lfirst(lc), false))
			wanted = lappend(wanted, lfirst(lc));
	*n = list_length(wanted);
	INSTR_TIME_SET_CURRENT(start);
	if (wanted && !send_items(&b, wanted, 0, *n, error, errlen))
		return false;
	INSTR_TIME_SET_CURRENT(took);
	INSTR_TIME_SUBTRACT(took, start);
	if (b.done)
		status.latency_us = INSTR_TIME_GET_MICROSEC(took);
	forboth(lc, b.walks, lc2, b.patterns)
		ask_for_walk(lfirst(lc), lfirst(lc2), b.since);
	/* The mark is for all of them. */
	if (b.nblocked + b.nrefused > 0)
		blocked = true;
	acknowledge(b.done, b.nblocked + b.nrefused > 0 ? NULL : mark);
	return true;
}

static void
begin_transaction(void)
{
	flushed = false;
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
end_transaction(void)
{
	sc_value_write_notes();
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* Say who we are; if Redis may hold older values, have them deleted. */
static bool
introduce(char *error, Size errlen)
{
	List	   *patterns = NIL;
	ListCell   *lc;
	bool		older;
	bool		others;

	if (sc_link_introduced())
		return true;
	/* Walks under way do not arm what they were not asked for. */
	if (walk)
		walk->arms = false;
	if (next_walk)
		next_walk->arms = false;
	if (held)
		held->arms = false;
	sc_own_tables_hold();
	others = sc_targets_differ();
	if (!sc_link_arm(false, &older, error, errlen))
		return false;
	if (others)
		sc_targets_remember();
	if (!older)
		return true;
	foreach(lc, sc_rules_all())
	{
		char	   *pattern;
		char	   *prefix;

		if (sc_rule_pattern(*(int64 *) lfirst(lc), &pattern, &prefix))
		{
			uint32		length;
			const char *text = sc_text_for_redis(pattern, strlen(pattern), &length);

			patterns = lappend(patterns, pnstrdup(text, length));
		}
	}
	ask_for_walk(NULL, patterns, sc_link_position());
	return true;
}

/*
 * Send a batch, and again when a cluster's slots have moved: then to those who
 * have them, when all nodes have been told.
 */
static bool
deliver_batch(List *items, ScAcked *mark, int *ntransactions, char *error, Size errlen)
{
	for (int attempt = 0; attempt < REDIRECTIONS; attempt++)
	{
		int			n;

		if (attempt > 0 &&
			(!sc_link_look(error, errlen) || !introduce(error, errlen)))
			return false;
		if (send_batch(items, mark, &n, error, errlen))
		{
			*ntransactions += n;
			return true;
		}
		if (!sc_link_redirected())
			return false;
	}
	return false;
}

/* Deliver all that was committed when the turn began. */
static bool
deliver(MemoryContext turn_cxt, int *ntransactions)
{
	MemoryContext cxt = AllocSetContextCreate(turn_cxt, "scalecache batch",
											  ALLOCSET_DEFAULT_SIZES);
	ScOutboxPos pos = {0};
	ScAcked		acked;
	ScAcked		mark;
	char		error[256] = "";
	bool		ok = true;
	bool		first = true;
	bool		more = true;

	retry_held();
	sc_cache_get_acked(&acked);
	for (; ok && more; first = false)
	{
		List	   *items;
		bool		some;
		bool		all;

		begin_transaction();
		MemoryContextSwitchTo(cxt);
		items = sc_outbox_read(&pos, GetActiveSnapshot(), &acked, BATCH_BYTES);
		some = items != NIL;
		all = first && sc_outbox_at_end(&pos) &&
			sc_acked_make(&mark, GetActiveSnapshot());
		sc_link_set_snapshot(GetActiveSnapshot());
		ok = introduce(error, sizeof(error));
		if (!ok)
			;
		else if (some)
			ok = deliver_batch(items, all ? &mark : NULL, ntransactions, error,
							   sizeof(error));
		else if (walk || next_walk)
			ok = continue_walk(error, sizeof(error));
		ok = ok && sc_link_rotate(error, sizeof(error));
		end_transaction();
		MemoryContextSwitchTo(turn_cxt);
		MemoryContextReset(cxt);
		if (!ok)
			note_failure(error);
		else if (some)
			note_success();
		/* A walk goes on when all that was read is delivered. */
		more = some && (walk || next_walk || !sc_outbox_at_end(&pos));
	}
	MemoryContextDelete(cxt);
	return ok;
}

/*
 * A master that Sentinels have replaced may go on answering us, where it is
 * the network that has failed; and an idle cluster's slots may move.
 */
static bool
look_at_route(void)
{
	char		error[256] = "";

	if (status.mode == SC_URL_SINGLE ||
		!TimestampDifferenceExceeds(last_look, GetCurrentTimestamp(), LOOK_MS))
		return true;
	last_look = GetCurrentTimestamp();
	if (sc_link_look(error, sizeof(error)))
	{
		note_absent();
		return true;
	}
	note_failure(error);
	return false;
}

/* Redis need not wait for what databases that were dropped had to say. */
static bool
forget_dropped(char *error, Size errlen)
{
	ListCell   *lc;
	bool		ok = true;

	if (sc_link_others() == NIL)
		return true;
	StartTransactionCommand();
	foreach(lc, sc_link_others())
		if (ok && !SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(lfirst_oid(lc))))
			ok = sc_link_forget(lfirst_oid(lc), error, errlen);
	CommitTransactionCommand();
	return ok;
}

/*
 * Ask Redis whether it is still there, and the same; also while there is much
 * to deliver, as nobody else says which databases have gone.
 */
static bool
ping(void)
{
	char		error[256] = "";

	if (any_walks())
		return true;
	if (!TimestampDifferenceExceeds(last_ping, GetCurrentTimestamp(), sc_naptime))
		return true;
	last_ping = GetCurrentTimestamp();
	if (!sc_link_ping(error, sizeof(error)) || !forget_dropped(error, sizeof(error)))
	{
		note_failure(error);
		return false;
	}
	note_success();
	return true;
}

/* ---- the turn ---- */

static int64
queue_size(void)
{
	int64		size;

	StartTransactionCommand();
	size = sc_outbox_size();
	CommitTransactionCommand();
	return size;
}

/*
 * What no epoch can stand for, keys deleted by hand, is written anew when room
 * is made.  When each table has had its turn and there is no more room, that is
 * left alone until as much has come as is worth the work.
 */
static void
bound_queue(int64 limit)
{
	static int	in_vain = 0;	/* times in a row */
	static int64 left = 0;		/* what was there after one of them, at least */
	int64		size = queue_size();
	int64		after;
	bool		all;

	if (size < left || size - left >= limit / 8)
		in_vain = 0;
	if (size <= limit || in_vain >= SC_OUTBOX_RING)
		return;
	forget_items();
	all = sc_outbox_collapse();
	after = queue_size();
	/* Keys that came during one of them are not of what is left for good. */
	left = in_vain > 0 ? Min(left, after) : after;
	if (after <= size - size / 8)
		in_vain = 0;
	else if (all)
		in_vain++;
}

static ScTurn
turn_of(long wait_ms, bool gather)
{
	ScTurn		turn = {wait_ms, gather, false};

	return turn;
}

/*
 * How long the next keys gather.  A turn costs much the same, however many
 * keys it has, so the higher the rate, the more a longer pause saves.  Whoever
 * waits for a turn ends the pause.
 */
static ScTurn
gathering(void)
{
	ScTurn		turn = turn_of((long) Min(GATHER_MAX_MS, GATHER_MS * rate / GATHER_RATE),
							   true);

	turn.hurries = true;
	return turn;
}

/* Without a Redis keys only pile up, and whoever waits has nothing to wait for. */
static ScTurn
idling(void)
{
	ScTurn		turn = turn_of(sc_naptime, true);

	turn.hurries = true;
	return turn;
}

static ScTurn
after_delivery(int ntransactions)
{
	TimestampTz now = GetCurrentTimestamp();
	double		seconds = (now - last_turn) / 1000000.0;
	double		weight = Min(1.0, seconds * 20);

	if (seconds > 0)
		rate += weight * (ntransactions / seconds - rate);
	last_turn = now;
	status.library = sc_link_armed() && sc_link_has_functions();
	/* What waits is read again each time, and is not little after a while. */
	if (blocked)
		return turn_of(Max(BLOCKED_MS, Min(sc_redis_retry_max, 4 * (now - turn_start) / 1000)), true);
	if (walk || next_walk)
		return turn_of(0, false);
	if (rate > GATHER_RATE)
		return gathering();
	return turn_of(-1, false);
}

/* Let sessions know what Redis has acknowledged, if it can be asked. */
static void
publish(uint64 clock)
{
	ScDelivered d;

	memset(&d, 0, sizeof(d));
	if (!sc_link_has_functions())
		return;
	d.url_hash = sc_url_hash(used_url);
	d.clock = clock;
	sc_link_describe(&d);
	sc_cache_set_delivered(&d);
}

/*
 * There is nothing to deliver any more, for the extension has been dropped.  If
 * Redis is away it is not told: then it knows less than that when it is back.
 */
void
sc_cache_work_ended(void)
{
	char		error[256];

	/* This worker has not been with any, or the setting has changed. */
	if (used_url == NULL || used_url[0] == '\0' || strcmp(used_url, sc_redis_url) != 0)
		return;
	if (be_connected())
		(void) sc_link_forget(MyDatabaseId, error, sizeof(error));
	lose_link();
}

/* Called outside of a transaction. */
ScTurn
sc_cache_work(void)
{
	MemoryContext turn_cxt = CurrentMemoryContext;
	uint64		number = sc_cache_turn_begin();
	uint64		clock = sc_memory_usable() ? sc_memory_clock() : 0;
	int64		limit = (int64) sc_queue_limit * 1024;
	int			ntransactions = 0;
	bool		ok;

	blocked = false;
	refused[0] = '\0';
	turn_start = GetCurrentTimestamp();
	sc_value_begin_turn();
	follow_url();
	status.configured = sc_redis_url[0] != '\0';
	if (!status.configured)
	{
		bound_queue(Min(limit, UNSET_LIMIT));
		MemoryContextSwitchTo(turn_cxt);
		sc_cache_set_status(&status);
		sc_cache_turn_end(number, true);
		return idling();
	}
	ok = be_connected() && look_at_route() && deliver(turn_cxt, &ntransactions) && ping();
	MemoryContextSwitchTo(turn_cxt);
	if (ok)
	{
		note_refused();
		/* Cutting tables takes a look at each: not worth it every time. */
		if (ntransactions == 0 || acknowledged >= ROTATE_BYTES)
		{
			sc_outbox_rotate(ntransactions == 0);
			acknowledged = 0;
		}
		if (!any_walks() && !blocked)
			publish(clock);
		sc_cache_turn_end(number, !any_walks() && !blocked);
	}
	/* Tuples that wait keep their tables from being cut. */
	if (!ok || blocked || any_walks())
		bound_queue(limit);
	MemoryContextSwitchTo(turn_cxt);
	sc_cache_set_status(&status);
	if (ok)
		return after_delivery(ntransactions);
	return turn_of(Max(10, TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
														  status.retry_at)), true);
}
