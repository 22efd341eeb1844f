/*
 * cache.h: cache rules, for the files of this folder and for init.c.
 *
 * A rule turns a row change into a key.  Keys travel in three steps: they
 * gather in the writer's memory (capture.c), one outbox tuple for each
 * transaction carries them over the commit (outbox.c), and a worker sends
 * them to Redis and deletes the tuple when it was acknowledged (deliver.c).
 */
#ifndef SC_CACHE_H
#define SC_CACHE_H

#include "postgres.h"
#include "access/attmap.h"
#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "nodes/execnodes.h"
#include "nodes/pg_list.h"
#include "port/atomics.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* A key longer than this is invalidated by its rule's epoch. */
#define SC_KEY_MAX			7000
/* As much of a pattern's beginning tells readers which keys it is about. */
#define SC_PREFIX_MAX		64
/* What Redis takes as a key or a value. */
#define SC_STRING_MAX		(512 * 1024 * 1024)

/* Entries of an outbox tuple. */
#define SC_ENTRY_KEY		'K' /* delete the key */
#define SC_ENTRY_WRITE		'W' /* store the row's value under the key */
#define SC_ENTRY_EPOCH		'E' /* delete every key that matches a pattern */

typedef struct ScEntry
{
	char		kind;
	int64		rule;
	const char *key;			/* not terminated */
	uint32		keylen;
	const char *parts;			/* kind W: the template's columns as text, */
	uint32		partslen;		/* each a length and bytes */
} ScEntry;

/* ---- settings.c ---- */

extern const char *sc_redis_url;	/* never NULL */
extern int	sc_redis_timeout;	/* ms */
extern int	sc_redis_retry_max; /* ms */
extern int	sc_session_timeout; /* ms */
extern int	sc_breaker_threshold;
extern int	sc_max_keys_per_transaction;
extern int	sc_queue_limit;		/* kB */
extern bool sc_synchronous_invalidation;
extern int	sc_synchronous_timeout; /* ms */
extern int	sc_cache_size;		/* kB */
extern int	sc_lease_time;		/* ms */
extern int	sc_tombstone_time;	/* ms */

extern void sc_cache_settings_init(void);
extern char *sc_mask_passwords(const char *text);

/* ---- url.c ---- */

#define SC_HOSTS_MAX		16

typedef enum ScUrlKind
{
	SC_URL_SINGLE,
	SC_URL_SENTINEL,
	SC_URL_CLUSTER
} ScUrlKind;

typedef struct ScHost
{
	char		host[256];		/* or a socket's path */
	int			port;
} ScHost;

typedef struct ScRedisUrl
{
	ScUrlKind	kind;
	bool		is_unix;
	int			nhosts;
	ScHost		hosts[SC_HOSTS_MAX];	/* Sentinels, or nodes of a cluster */
	char		master[256];	/* as Sentinels name it */
	char		user[128];		/* empty: none */
	char		password[512];	/* empty: none */
	char		sentinel_user[128];
	char		sentinel_password[512];
	int			db;
} ScRedisUrl;

extern bool sc_redis_url_parse(const char *url, ScRedisUrl *result,
							   const char **problem, const char **hint);

/* ---- rules.c ---- */

typedef struct ScPiece
{
	char	   *literal;		/* comes before the column */
	int			length;
	AttrNumber	attno;			/* of the rule's relation; 0: no column */
} ScPiece;

/* A rule as compiled for one member of its relation's tree. */
typedef struct ScRuleEval
{
	Oid			relid;
	AttrMap    *map;			/* to the rule's relation, or NULL */
	TupleTableSlot *slot[2];	/* for converted rows */
	struct ScRuleEval *next;
} ScRuleEval;

/* Owned by the rule cache; valid until sc_rule_release. */
typedef struct ScRule
{
	int64		id;
	char	   *name;
	Oid			relid;
	bool		is_rollup;
	bool		valid;			/* false after an invalidation */
	int			pins;
	MemoryContext cxt;
	TupleDesc	desc;			/* of the relation */
	char	   *template;
	char	   *pattern;		/* that its keys match */
	int			npieces;
	ScPiece    *pieces;
	FmgrInfo   *outfuncs;		/* one a piece */
	bool		modes;			/* some text depends on settings */
	char	   *time_zone;
	bool		write;
	char	   *value;			/* NULL: the row as JSON */
	int64		ttl_ms;			/* 0: none */
	bool		failing;		/* it may be that cache_failure has a row */
	Bitmapset  *columns;		/* attribute numbers; NULL: all */
	char	  **names;			/* of the columns, in the texts */
	Oid			owner;			/* of the relation */
	char	   *condition;
	ExprState  *condstate;		/* NULL: not compiled yet */
	ExprContext *econtext;
	LocalTransactionId broken_in;	/* where compiling it failed */
	ScRuleEval *evals;
} ScRule;

extern void sc_rules_init(void);
extern ScRule *sc_rule_find(int64 id, bool *busy);
extern ScRule *sc_rule_by_id(int64 id);
extern void sc_rule_release(ScRule *rule);
extern List *sc_rules_of_relation(Oid relid);	/* ids, as palloc'd int64 */
extern List *sc_rules_all(void);
extern bool sc_relation_has_rules(Oid relid);
extern int64 *sc_rules_of_view(Oid relid, int *n);
extern Oid	sc_cache_catalog_relid(void);
extern ScRuleEval *sc_rule_eval(ScRule *rule, Relation rel);
extern void sc_rule_compile_condition(ScRule *rule);
extern bool sc_rule_key(ScRule *rule, TupleTableSlot *slot, StringInfo key,
						StringInfo parts);
extern bool sc_rule_key_values(ScRule *rule, const Datum *values,
							   const bool *nulls, StringInfo key,
							   StringInfo parts);
extern bool sc_rule_pattern(int64 id, char **pattern, char **prefix);
extern uint32 sc_pattern_prefix(const char *pattern, uint32 length,
								char *buf, uint32 size);
extern char *sc_rule_value_query(ScRule *rule);
extern int64 sc_interval_us(const Interval *interval);
extern bool sc_failure_is(int64 rule, const char *message);
extern void sc_failure_set(int64 rule, const char *message);
extern void sc_rule_set_failing(ScRule *rule, const char *message);

/* ---- define.c ---- */


/* ---- capture.c ---- */

extern void sc_cache_capture_init(void);
extern void sc_cache_touch_rule(ScRule *rule);
extern void sc_cache_touch_pattern(int64 rule, const char *pattern);
extern bool sc_cache_wrote_key(const char *key, uint32 keylen);
extern void sc_cache_add_delete(const char *key, uint32 keylen);
extern void sc_cache_committed_prepared(void);

/* ---- outbox.c ---- */

#define SC_OUTBOX_RING		4	/* tables that take turns */
#define SC_OUTBOX_TABLES	(SC_OUTBOX_RING + 1)	/* one more for PREPARE */

/*
 * Transactions whose keys have been acknowledged, whether or not their tuples
 * are still there.  Ids have their epoch.  All zeros: none.
 */
#define SC_ACKED_MAX			256
typedef struct ScAcked
{
	uint64		xmin;			/* all below are */
	uint64		xmax;			/* none from here on is */
	int			n;
	uint64		xip[SC_ACKED_MAX];	/* between them, those that are not */
} ScAcked;

/* One committed outbox tuple. */
typedef struct ScOutboxItem
{
	int			table;
	Oid			file;			/* that the table was in */
	ItemPointerData tid;
	uint64		xid;			/* with its epoch */
	TimestampTz queued_at;
	bytea	   *entries;		/* in the reader's context */
} ScOutboxItem;

/* Where a reader is.  All zeros: at the beginning. */
typedef struct ScOutboxPos
{
	int			table;
	BlockNumber block;
} ScOutboxPos;

extern void sc_outbox_init(void);
extern void sc_outbox_write(const char *entries, const uint32 *offsets,
							uint32 n, uint32 length, bool prepare);
extern bool sc_acked_make(ScAcked *mark, Snapshot snapshot);
extern bool sc_acked_except(ScAcked *mark, uint64 xid);
extern bool sc_acked_has(const ScAcked *mark, uint64 xid);
extern List *sc_outbox_read(ScOutboxPos *pos, Snapshot snapshot,
							const ScAcked *acked, Size max_bytes);
extern void sc_outbox_acknowledged(void);
extern void sc_outbox_lock(void);
extern void sc_outbox_unlock(void);
extern bool sc_outbox_at_end(const ScOutboxPos *pos);
extern void sc_outbox_delete(List *items);
extern void sc_outbox_rotate(bool idle);
extern bool sc_outbox_collapse(void);
extern int64 sc_outbox_size(void);
extern bool sc_outbox_exists(void);
extern Oid	sc_outbox_relid(int table);
extern void sc_entry_append(StringInfo buf, char kind, int64 rule,
							const char *key, uint32 keylen,
							const char *parts, uint32 partslen);
extern const char *sc_entry_read(const char *p, const char *end, ScEntry *e);

/* ---- redis.c ---- */

typedef struct ScRedis ScRedis;

typedef enum ScReplyType
{
	SC_REPLY_STRING,
	SC_REPLY_INTEGER,
	SC_REPLY_NIL,
	SC_REPLY_STATUS,
	SC_REPLY_ERROR,
	SC_REPLY_ARRAY
} ScReplyType;

/* Valid within the callback only. */
typedef struct ScReply
{
	ScReplyType type;
	int64		integer;
	const char *str;			/* terminated */
	size_t		len;
	int			elements;
	const void *impl;
} ScReply;

/* Called once for each reply, in order; must not throw. */
typedef void (*ScReplyCallback) (int n, const ScReply *reply, void *arg);

/* Whom to connect to, and as whom. */
typedef struct ScRedisPeer
{
	bool		is_unix;
	const char *host;			/* or the socket's path */
	int			port;
	const char *user;			/* empty: none */
	const char *password;		/* empty: none */
	int			db;				/* -1: it has none */
} ScRedisPeer;

extern ScRedis *sc_redis_open(const ScRedisPeer *peer, int timeout_ms,
							  char *err, Size errlen);
extern void sc_redis_close(ScRedis *redis);
extern void sc_redis_close_all(void);
extern bool sc_redis_ok(ScRedis *redis);
extern void sc_redis_address(ScRedis *redis, char *buf, Size size);
extern void sc_redis_append(ScRedis *redis, int argc, const char **argv,
							const size_t *lens);
extern bool sc_redis_exchange(ScRedis *redis, int timeout_ms,
							  ScReplyCallback callback, void *arg,
							  char *err, Size errlen);
/* Send what was appended, and do not wait for replies yet. */
extern bool sc_redis_flush(ScRedis *redis, int timeout_ms, char *err, Size errlen);
extern void sc_reply_element(const ScReply *reply, int i, ScReply *element);

/* ---- deliver.c ---- */

typedef struct ScTurn
{
	long		wait_ms;		/* until the next turn; -1: as usual */
	bool		gather;			/* and no wake-up shortens that, */
	bool		hurries;		/* but for somebody who waits for a turn */
} ScTurn;

extern ScTurn sc_cache_work(void);
extern void sc_cache_work_failed(void);
extern void sc_cache_work_ended(void);

/* ---- target.c ---- */

extern bool sc_targets_differ(void);
extern void sc_targets_remember(void);

/* ---- encoding.c ---- */

extern bool sc_text_is_converted(void);
extern const char *sc_text_for_redis(const char *s, uint32 length, uint32 *newlen);
extern char *sc_text_from_redis(char *s, uint32 length, uint32 *newlen);

/* ---- attempt.c ---- */

extern bool sc_attempt_begin(const ScEntry *e);
extern void sc_attempt_end(void);
extern void sc_attempt_forget(Oid dboid);

/* ---- value.c ---- */

extern char *sc_value_of(const ScEntry *e, int64 *ttl_ms);
extern void sc_value_begin_turn(void);
extern void sc_value_refused(const ScEntry *e, const char *why);
extern void sc_value_write_notes(void);

/* ---- shared.c ---- */

typedef enum ScBreaker
{
	SC_BREAKER_CLOSED,
	SC_BREAKER_OPEN,
	SC_BREAKER_HALF_OPEN
} ScBreaker;

#define SC_HISTOGRAM		24	/* bucket i: below 2^i * 16 us */

/* What a worker says of itself; read and written under the lock. */
typedef struct ScRedisStatus
{
	bool		configured;
	bool		connected;
	ScBreaker	breaker;
	TimestampTz retry_at;
	TimestampTz connected_at;
	int64		latency_us;
	int64		connects;
	int64		failures;
	int64		sent;			/* commands acknowledged */
	int64		keys;			/* keys acknowledged */
	int64		epochs;
	ScUrlKind	mode;
	char		server[300];	/* without user and password */
	char		nodes[2048];	/* those connected to, with commas between */
	char		version[32];
	char		run_id[48];
	char		last_error[300];
	TimestampTz last_error_at;
	char		warning[300];
	int64		db_keys;		/* what Redis and the library count */
	int64		used_memory;
	int64		hits;
	int64		misses;
	int64		fills;
	int64		refused;
	int64		evictions;
	bool		library;		/* functions are loaded and armed */
	int64		histogram[SC_HISTOGRAM];	/* commit to acknowledgement */
} ScRedisStatus;

/* What sessions may take a Redis for.  All zeros: nothing. */
typedef struct ScDelivered
{
	uint64		url_hash;		/* of the Redis that this is about */
	uint64		clock;			/* commits stamped up to it are acknowledged */
	char		link[24];		/* of the worker's connection */
	char		address[64];	/* of the server, as digits */
	int			port;
} ScDelivered;

extern bool sc_cache_shared_exists(void);
extern List *sc_cache_databases(void);
extern void sc_cache_forget_databases(List *dboids);
extern int	sc_cache_active_table(void);
extern void sc_cache_set_active_table(int table);
extern pg_atomic_uint64 *sc_cache_target(void);
extern void sc_cache_get_acked(ScAcked *mark);
extern void sc_cache_set_acked(const ScAcked *mark);
extern const char *sc_cache_boot_id(void);
extern void sc_cache_async_begin(void);
extern void sc_cache_async_end(XLogRecPtr lsn);
extern void sc_cache_flush_commits(void);
extern void sc_cache_note_commit(TransactionId xid, TimestampTz at);
extern TimestampTz sc_cache_commit_time(TransactionId xid, TimestampTz queued_at);
extern uint64 sc_cache_turn_begin(void);
extern void sc_cache_turn_end(uint64 turn, bool drained);
extern void sc_cache_set_delivered(const ScDelivered *delivered);
extern bool sc_cache_delivered(uint64 url_hash, ScDelivered *delivered);
extern void sc_cache_session_failed(void);
extern void sc_cache_session_succeeded(void);

/* What a commit waits for.  All zeros: everything. */
typedef struct ScAwaited
{
	uint64		xid;			/* with its epoch */
	uint64		moves;			/* before it was visible */
} ScAwaited;

extern uint64 sc_cache_moves(void);
extern void sc_cache_note_move(void);
extern bool sc_cache_wait(int timeout_ms, bool in_commit, const ScAwaited *awaited);
extern void sc_cache_get_status(ScRedisStatus *status);
extern void sc_cache_set_status(const ScRedisStatus *status);

/* ---- session.c ---- */

extern uint64 sc_url_hash(const char *url);

/* init */
extern void sc_cache_init(void);
extern void sc_cache_preload_init(void);

#endif							/* SC_CACHE_H */
