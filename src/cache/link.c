/*
 * link.c: what the worker says to Redis, in Redis' words.
 *
 * The commands of a pipeline may be repeated at will: each of them leaves the
 * same behind, however often it comes.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "cache/cache.h"
#include "cache/link.h"
#include "cache/route.h"
#include "cache/token.h"

#define KEYS_PER_COMMAND	512
#define MANY_TOMBSTONES		200000
#define FULL_MS				10000	/* no values are sent to a full Redis */
#define STORED_MAX			10000	/* keys that a walk knows to leave alone */

static ScRedis *redis = NULL;
static bool functions = false;	/* Redis has them */
static bool is_armed = false;
static bool plain = false;		/* a walk's deletions leave no tombstones */
static TimestampTz full_at = 0; /* Redis said that it is out of memory */
static TimestampTz last_rotation = 0;
static int64 sent_since_rotation = 0;
static StringInfoData snapshot_text;
static char link_id[24] = "";	/* of this connection */
static char link_address[64] = "";	/* of its other end */
static ScHost link_host;
static ScUrlKind link_mode;
static char identity[80] = "";

/* The command being put together. */
static const char *argv[KEYS_PER_COMMAND + 16];
static size_t lens[KEYS_PER_COMMAND + 16];
static int	argc = 0;

/* Keys to be deleted by the next command. */
static const char *keys[KEYS_PER_COMMAND];
static size_t keylens[KEYS_PER_COMMAND];
static int	nkeys = 0;

/* Their places and xids as MessagePack: a list's head, then for each key ... */
#define HEAD_BYTES			5
#define KEY_BYTES			12
static unsigned char packed[HEAD_BYTES + KEYS_PER_COMMAND * KEY_BYTES];

/*
 * Values stored since a walk was asked for: newer than what it is to delete.
 * Without it a key written just after its rule was made would vanish again.
 */
typedef struct StoredKey
{
	const char *key;
	uint32		length;
} StoredKey;

typedef struct Stored
{
	StoredKey	key;			/* must be first */
	uint64		position;
} Stored;

static MemoryContext stored_cxt = NULL;
static HTAB *stored = NULL;		/* NULL: nobody asks */
static uint64 position = 0;

/* What the replies said. */
typedef struct Replies
{
	char		error[256];
} Replies;

static Replies replies;

static void
add_arg(const char *s, size_t len)
{
	argv[argc] = s;
	lens[argc++] = len;
}

static void
add_word(const char *s)
{
	add_arg(s, strlen(s));
}

static void
send_command(void)
{
	sc_redis_append(redis, argc, argv, lens);
	argc = 0;
}

static void
check_reply(int n, const ScReply *reply, void *arg)
{
	Replies    *r = arg;

	if (reply->type == SC_REPLY_ERROR && r->error[0] == '\0')
		strlcpy(r->error, reply->str, sizeof(r->error));
}

static bool
exchange(ScReplyCallback callback, void *arg, char *error, Size errlen)
{
	return sc_redis_exchange(redis, sc_redis_timeout, callback, arg, error, errlen);
}

bool
sc_link_ok(void)
{
	return sc_redis_ok(redis);
}

void
sc_link_close(void)
{
	sc_redis_close_all();
	redis = NULL;
	argc = nkeys = 0;
	is_armed = plain = false;
}

bool
sc_link_has_functions(void)
{
	return functions;
}

void
sc_link_describe(ScDelivered *delivered)
{
	strlcpy(delivered->link, link_id, sizeof(delivered->link));
	strlcpy(delivered->address, link_address, sizeof(delivered->address));
	delivered->port = link_host.port;
}

void
sc_link_identity(char *buf, Size size)
{
	strlcpy(buf, identity, size);
}

/* Whom the tombstones are from: this database of this cluster. */
const char *
sc_link_source_id(void)
{
	static char id[40] = "";

	if (id[0] == '\0')
		snprintf(id, sizeof(id), UINT64_FORMAT "/%u", GetSystemIdentifier(), MyDatabaseId);
	return id;
}

/* ---- opening ---- */

/* Copy the value of "name:" in a reply to INFO. */
static void
info_field(const char *info, const char *name, char *dst, Size size)
{
	Size		len = strlen(name);
	const char *p = info;

	dst[0] = '\0';
	while (p)
	{
		if (strncmp(p, name, len) == 0 && p[len] == ':')
		{
			Size		n = strcspn(p + len + 1, "\r\n");

			strlcpy(dst, p + len + 1, Min(size, n + 1));
			return;
		}
		p = strchr(p, '\n');
		if (p)
			p++;
	}
}

typedef struct Info
{
	char		error[256];
	char		version[32];
	char		run_id[48];
	char		role[16];
	char		policy[32];
	char		limit[24];
	char		used[24];
	char		evicted[24];
} Info;

static void
read_info(int n, const ScReply *reply, void *arg)
{
	Info	   *info = arg;

	if (reply->type == SC_REPLY_ERROR)
		strlcpy(info->error, reply->str, sizeof(info->error));
	else if (reply->type != SC_REPLY_STRING)
		strlcpy(info->error, "unexpected reply to INFO", sizeof(info->error));
	else
	{
		info_field(reply->str, "redis_version", info->version, sizeof(info->version));
		info_field(reply->str, "run_id", info->run_id, sizeof(info->run_id));
		info_field(reply->str, "role", info->role, sizeof(info->role));
		info_field(reply->str, "maxmemory_policy", info->policy, sizeof(info->policy));
		info_field(reply->str, "maxmemory", info->limit, sizeof(info->limit));
		info_field(reply->str, "used_memory", info->used, sizeof(info->used));
		info_field(reply->str, "evicted_keys", info->evicted, sizeof(info->evicted));
	}
}

/* Learn who the server is; false when it is of no use to us. */
static bool
get_info(ScRedisStatus *status, char *error, Size errlen)
{
	Info		info;

	memset(&info, 0, sizeof(info));
	argc = 0;
	add_word("INFO");
	send_command();
	if (!exchange(read_info, &info, error, errlen))
		return false;
	if (info.error[0] != '\0')
	{
		strlcpy(error, info.error, errlen);
		return false;
	}
	strlcpy(status->version, info.version, sizeof(status->version));
	strlcpy(status->run_id, info.run_id, sizeof(status->run_id));
	status->used_memory = strtoll(info.used, NULL, 10);
	status->evictions = strtoll(info.evicted, NULL, 10);
	if (functions)
		status->warning[0] = '\0';
	if (strtoll(info.limit, NULL, 10) > 0 && strcmp(info.policy, "noeviction") == 0)
		strlcpy(status->warning,
				"maxmemory-policy is noeviction: a full Redis refuses to be filled",
				sizeof(status->warning));
	if (info.role[0] && strcmp(info.role, "master") != 0)
	{
		snprintf(error, errlen, "the server is a %s, and cannot be written to", info.role);
		return false;
	}
	return true;
}

/* ---- the library ---- */

/* What scalecache_hello says. */
typedef struct Hello
{
	char		error[256];
	char		version[32];
	bool		armed;
	int64		tombstones;
	int64		counters[5];
} Hello;

static void
read_hello(int n, const ScReply *reply, void *arg)
{
	Hello	   *hello = arg;
	ScReply		e;

	if (reply->type == SC_REPLY_ERROR)
	{
		strlcpy(hello->error, reply->str, sizeof(hello->error));
		return;
	}
	sc_reply_element(reply, 0, &e);
	strlcpy(hello->version, e.str, sizeof(hello->version));
	sc_reply_element(reply, 1, &e);
	hello->armed = e.integer == 1;
	sc_reply_element(reply, 2, &e);
	hello->tombstones = e.integer;
	for (int i = 0; i < 5; i++)
	{
		sc_reply_element(reply, 3 + i, &e);
		hello->counters[i] = e.integer;
	}
}

static void
begin_function(const char *name, const char *nkeys)
{
	argc = 0;
	add_word("FCALL");
	add_word(name);
	add_word(nkeys);
}

static bool
say_hello(Hello *hello, char *error, Size errlen)
{
	memset(hello, 0, sizeof(*hello));
	begin_function("scalecache_hello", "0");
	add_word(sc_link_source_id());
	send_command();
	return exchange(read_hello, hello, error, errlen);
}

/* Run one command; false with its error reply. */
static bool
run_command(char *error, Size errlen)
{
	replies.error[0] = '\0';
	send_command();
	if (!exchange(check_reply, &replies, error, errlen))
		return false;
	if (replies.error[0] != '\0')
		strlcpy(error, replies.error, errlen);
	return replies.error[0] == '\0';
}

static bool
load_library(char *error, Size errlen)
{
	char	   *code = sc_library_code();
	bool		ok;

	argc = 0;
	add_word("FUNCTION");
	add_word("LOAD");
	add_word("REPLACE");
	add_word(code);
	ok = run_command(error, errlen);
	pfree(code);
	return ok;
}

/* Have our library there, if that server has functions at all. */
static bool
ensure_library(ScRedisStatus *status, char *error, Size errlen)
{
	Hello		hello;

	if (!say_hello(&hello, error, errlen))
		return false;
	functions = strstr(hello.error, "unknown command") == NULL;
	if (!functions)
	{
		strlcpy(status->warning,
				"Redis 7 or later is needed for scalecache_get and scalecache_fill",
				sizeof(status->warning));
		return true;
	}
	if (hello.error[0] == '\0' && strcmp(hello.version, sc_library_version()) == 0)
		return true;
	/* One that is not there can be loaded; else that would not help. */
	if (hello.error[0] != '\0' && strstr(hello.error, "not found") == NULL)
	{
		strlcpy(error, hello.error, errlen);
		return false;
	}
	return load_library(error, errlen);
}

typedef struct Armed
{
	char		error[256];
	bool		walk;
} Armed;

static void
read_armed(int n, const ScReply *reply, void *arg)
{
	Armed	   *a = arg;

	if (reply->type == SC_REPLY_ERROR)
		strlcpy(a->error, reply->str, sizeof(a->error));
	else if (reply->type != SC_REPLY_STRING)
		strlcpy(a->error, "unexpected reply to scalecache_arm", sizeof(a->error));
	else
		a->walk = strcmp(reply->str, "ok") != 0;
}

bool
sc_link_armed(void)
{
	return is_armed;
}

bool
sc_link_arm(ScArmPhase phase, bool *walk, char *error, Size errlen)
{
	static const char *const phases[] = {"begin", "anew", "done"};
	bool		done = phase == SC_ARM_DONE;
	Armed		armed = {"", false};
	char		cluster[24];
	char		timeline[16];
	char		lease[16];

	*walk = false;
	if (!functions)
	{
		/* Nothing there can be older than what we have deleted, or will. */
		*walk = !done;
		is_armed = done;
		return true;
	}
	/*
	 * A replica that has been the master keeps what the library knew then,
	 * and might believe it when it becomes the master again.  Loading is
	 * replicated, and empties it.
	 */
	if (phase == SC_ARM_ANEW && link_mode != SC_URL_SINGLE &&
		!load_library(error, errlen))
		return false;
	snprintf(cluster, sizeof(cluster), UINT64_FORMAT, GetSystemIdentifier());
	snprintf(timeline, sizeof(timeline), "%u", sc_timeline());
	snprintf(lease, sizeof(lease), "%d", sc_lease_time);
	begin_function("scalecache_arm", "0");
	add_word(sc_link_source_id());
	add_word(cluster);
	add_word(timeline);
	add_word(sc_cache_boot_id());
	add_word(snapshot_text.data);
	add_word(lease);
	add_word(phases[phase]);
	add_word(link_id);
	send_command();
	if (!exchange(read_armed, &armed, error, errlen))
		return false;
	if (armed.error[0] != '\0')
	{
		strlcpy(error, armed.error, errlen);
		return false;
	}
	*walk = armed.walk;
	is_armed = !armed.walk;
	last_rotation = GetCurrentTimestamp();
	sent_since_rotation = 0;
	return true;
}

static void
describe_server(const ScRedisUrl *url, ScRedisStatus *status)
{
	char		host[300];

	sc_host_text(&link_host, host, sizeof(host));
	strlcpy(status->nodes, host, sizeof(status->nodes));
	snprintf(status->server, sizeof(status->server), "%s, database %d", host, url->db);
}

bool
sc_link_still_right(const ScRedisUrl *url)
{
	return link_mode != SC_URL_SENTINEL || sc_sentinel_agrees(url, &link_host);
}

bool
sc_link_open(const ScRedisUrl *url, ScRedisStatus *status, char *error, Size errlen)
{
	uint64		id;

	sc_link_close();
	if (!pg_strong_random(&id, sizeof(id)))
		id = (uint64) GetCurrentTimestamp();
	snprintf(link_id, sizeof(link_id), UINT64_FORMAT, id);
	link_mode = url->kind;
	link_host = url->hosts[0];
	redis = url->kind == SC_URL_SENTINEL ?
		sc_sentinel_connect(url, &link_host, error, errlen) :
		sc_route_connect(url, &link_host, sc_redis_timeout, error, errlen);
	if (redis == NULL)
		return false;
	describe_server(url, status);
	if (!get_info(status, error, errlen) ||
		!ensure_library(status, error, errlen))
	{
		sc_link_close();
		return false;
	}
	snprintf(identity, sizeof(identity), "%s %d", status->run_id, url->db);
	sc_redis_address(redis, link_address, sizeof(link_address));
	return true;
}

/* Is it there, and does it still know us?  Once in a while, how it does. */
bool
sc_link_ping(ScRedisStatus *status, char *error, Size errlen)
{
	Hello		hello;

	if (!functions)
	{
		argc = 0;
		add_word("PING");
		return run_command(error, errlen);
	}
	if (!say_hello(&hello, error, errlen))
		return false;
	if (hello.error[0] != '\0' ||
		strcmp(hello.version, sc_library_version()) != 0 || !hello.armed)
	{
		snprintf(error, errlen, "Redis has lost the function library: %s", hello.error);
		return false;
	}
	status->hits = hello.counters[0];
	status->misses = hello.counters[1];
	status->fills = hello.counters[2];
	status->refused = hello.counters[3];
	return get_info(status, error, errlen);
}

/* Let Redis forget old tombstones when it is time, or when they are many. */
bool
sc_link_rotate(char *error, Size errlen)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!functions || !is_armed ||
		(sent_since_rotation < MANY_TOMBSTONES &&
		 !TimestampDifferenceExceeds(last_rotation, now, sc_tombstone_time)))
		return true;
	begin_function("scalecache_rotate", "0");
	add_word(sc_link_source_id());
	add_word(snapshot_text.data);
	if (!run_command(error, errlen))
		return false;
	last_rotation = now;
	sent_since_rotation = 0;
	return true;
}

/* ---- a pipeline ---- */

void
sc_link_set_snapshot(Snapshot snapshot)
{
	if (snapshot_text.data == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		initStringInfo(&snapshot_text);
		MemoryContextSwitchTo(old);
	}
	resetStringInfo(&snapshot_text);
	sc_snapshot_text(snapshot, &snapshot_text);
}

void
sc_link_begin(void)
{
	argc = nkeys = 0;
	replies.error[0] = '\0';
}

/* The key's place among the tombstones, as the library finds it. */
static uint16
place_of(const char *key, uint32 keylen)
{
	const unsigned char *p = (const unsigned char *) key;
	uint32		h = keylen;

	for (uint32 i = 0; i < keylen; i += 4)
	{
		h *= 1664525;
		for (uint32 j = i; j < Min(i + 4, keylen); j++)
			h += (uint32) p[j] << (8 * (j - i));
	}
	return (uint16) ((h * 1664525) >> 16);
}

static unsigned char *
pack(unsigned char *p, unsigned char type, uint64 value, int bytes)
{
	*p++ = type;
	while (bytes-- > 0)
		*p++ = (unsigned char) (value >> (8 * bytes));
	return p;
}

/* Pack what the tombstone of keys[i] needs to know. */
static void
pack_key(int i, uint64 xid)
{
	unsigned char *p = packed + HEAD_BYTES + i * KEY_BYTES;

	p = pack(p, 0xcd, place_of(keys[i], (uint32) keylens[i]), 2);
	(void) pack(p, 0xcf, xid, 8);
}

/* FCALL scalecache_bury 0 id snapshot places */
static void
send_tombstones(void)
{
	(void) pack(packed, 0xdd, (uint64) nkeys * 2, 4);
	begin_function("scalecache_bury", "0");
	add_word(sc_link_source_id());
	add_word(snapshot_text.data);
	add_arg((char *) packed, HEAD_BYTES + (size_t) nkeys * KEY_BYTES);
	send_command();
}

/*
 * The tombstones come first: a fill between the two is then refused, or its
 * value is new and deleted without need.
 */
static void
flush_deletes(void)
{
	if (nkeys == 0)
		return;
	if (functions && !plain)
		send_tombstones();
	argc = 0;
	add_word("UNLINK");
	for (int i = 0; i < nkeys; i++)
		add_arg(keys[i], keylens[i]);
	send_command();
	nkeys = 0;
}

void
sc_link_delete(const char *key, uint32 keylen, uint64 xid)
{
	keys[nkeys] = key;
	keylens[nkeys] = keylen;
	pack_key(nkeys, xid);
	sent_since_rotation++;
	if (++nkeys == KEYS_PER_COMMAND)
		flush_deletes();
}

static uint32
stored_hash(const void *key, Size keysize)
{
	const StoredKey *k = key;

	return hash_bytes((const unsigned char *) k->key, (int) k->length);
}

static int
stored_compare(const void *a, const void *b, Size keysize)
{
	const StoredKey *ka = a;
	const StoredKey *kb = b;

	return ka->length != kb->length || memcmp(ka->key, kb->key, ka->length) != 0;
}

uint64
sc_link_position(void)
{
	HASHCTL		ctl;

	if (stored)
		return position;
	stored_cxt = AllocSetContextCreate(TopMemoryContext, "scalecache stored keys",
									   ALLOCSET_DEFAULT_SIZES);
	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(StoredKey);
	ctl.entrysize = sizeof(Stored);
	ctl.hash = stored_hash;
	ctl.match = stored_compare;
	ctl.hcxt = stored_cxt;
	stored = hash_create("scalecache stored keys", 256, &ctl,
						 HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	return position;
}

void
sc_link_forget_stored(void)
{
	if (stored)
		MemoryContextDelete(stored_cxt);
	stored = NULL;
}

static void
note_stored(const char *key, uint32 keylen)
{
	StoredKey	k = {key, keylen};
	Stored	   *s;
	char	   *copy;

	position++;
	if (stored == NULL)
		return;
	s = hash_search(stored, &k, HASH_FIND, NULL);
	if (s == NULL)
	{
		if (hash_get_num_entries(stored) >= STORED_MAX)
			return;
		copy = MemoryContextAlloc(stored_cxt, keylen);
		memcpy(copy, key, keylen);
		k.key = copy;
		s = hash_search(stored, &k, HASH_ENTER, NULL);
	}
	s->position = position;
}

static bool
was_stored(const char *key, uint32 keylen, uint64 since)
{
	StoredKey	k = {key, keylen};
	Stored	   *s = stored ? hash_search(stored, &k, HASH_FIND, NULL) : NULL;

	return s && s->position > since;
}

void
sc_link_store(const char *key, uint32 keylen, const char *value, int64 ttl_ms,
			  uint64 xid)
{
	char		ttl[32];
	char		x[24];

	/* A full Redis takes no values. */
	if (!TimestampDifferenceExceeds(full_at, GetCurrentTimestamp(), FULL_MS))
	{
		sc_link_delete(key, keylen, xid);
		return;
	}
	flush_deletes();
	note_stored(key, keylen);
	snprintf(ttl, sizeof(ttl), INT64_FORMAT, ttl_ms);
	snprintf(x, sizeof(x), UINT64_FORMAT, xid);
	if (functions)
	{
		begin_function("scalecache_store", "1");
		add_arg(key, keylen);
		add_word(sc_link_source_id());
		add_word(snapshot_text.data);
		add_word(x);
		add_word(value);
		add_word(ttl);
		sent_since_rotation++;
	}
	else
	{
		argc = 0;
		add_word("SET");
		add_arg(key, keylen);
		add_word(value);
		if (ttl_ms > 0)
		{
			add_word("PX");
			add_word(ttl);
		}
	}
	send_command();
}

/* From now on no reader may fill a key that begins so with an older value. */
void
sc_link_epoch(const char *prefix, uint32 length, uint64 xid)
{
	char		x[24];

	if (!functions)
		return;
	flush_deletes();
	snprintf(x, sizeof(x), UINT64_FORMAT, xid);
	begin_function("scalecache_epoch", "0");
	add_word(sc_link_source_id());
	add_word(snapshot_text.data);
	add_word(x);
	add_arg(prefix, length);
	send_command();
}

bool
sc_link_finish(char *error, Size errlen)
{
	flush_deletes();
	if (!exchange(check_reply, &replies, error, errlen))
		return false;
	if (replies.error[0] == '\0')
		return true;
	if (strncmp(replies.error, "OOM", 3) == 0)
		full_at = GetCurrentTimestamp();
	strlcpy(error, replies.error, errlen);
	return false;
}

/* ---- walking over the keys ---- */

typedef struct Found
{
	char		error[256];
	char	   *cursor;
	Size		size;
	uint64		since;
} Found;

/* The reply to SCAN, then those to the deletions that follow from it. */
static void
read_scan(int n, const ScReply *reply, void *arg)
{
	Found	   *found = arg;
	ScReply		cursor;
	ScReply		keys;

	if (reply->type == SC_REPLY_ERROR)
	{
		strlcpy(found->error, reply->str, sizeof(found->error));
		return;
	}
	if (n > 0)
		return;
	argc = 0;
	sc_reply_element(reply, 0, &cursor);
	sc_reply_element(reply, 1, &keys);
	if (cursor.type != SC_REPLY_STRING || keys.type != SC_REPLY_ARRAY)
	{
		strlcpy(found->error, "unexpected reply to SCAN", sizeof(found->error));
		return;
	}
	strlcpy(found->cursor, cursor.str, found->size);
	for (int i = 0; i < keys.elements; i++)
	{
		ScReply		key;

		sc_reply_element(&keys, i, &key);
		if (!was_stored(key.str, (uint32) key.len, found->since))
			sc_link_delete(key.str, (uint32) key.len, 0);
	}
	flush_deletes();
}

/* One step: look at some keys, delete those that match. */
bool
sc_link_walk_step(const char *pattern, uint64 since, char *cursor, Size size,
				  char *error, Size errlen)
{
	Found		found = {"", cursor, size, since};
	bool		ok;

	sc_link_begin();
	/* The epoch's own tombstone covers them. */
	plain = true;
	add_word("SCAN");
	add_word(cursor);
	add_word("MATCH");
	add_word(pattern);
	add_word("COUNT");
	add_word("1000");
	send_command();
	ok = exchange(read_scan, &found, error, errlen);
	plain = false;
	if (!ok)
		return false;
	strlcpy(error, found.error, errlen);
	return found.error[0] == '\0';
}
