/*
 * session.c: a session's own way to Redis, behind the memory tier.
 *
 * The connection is opened when it is first needed, kept, and closed when
 * the session ends.  Sessions only read and fill; what has to go from Redis
 * is the worker's business.
 *
 * Nothing here is in a query's way.  All that a call does ends within
 * session_timeout; after a failure all sessions leave Redis alone for a
 * while, longer from failure to failure, as they do while the worker has no
 * connection, or has found that Redis may hold older values.  The address is
 * the one that the worker is connected to, so no resolver is asked.
 *
 * A value from Redis may be older than a commit that the worker has yet to
 * deliver.  So whoever asks takes, before, the clock up to which everything
 * has been acknowledged, and the value only if the memory tier has no later
 * stamp for the key, and no fence.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "cache/cache.h"
#include "cache/link.h"
#include "cache/memory.h"
#include "cache/route.h"
#include "cache/session.h"
#include "cache/token.h"

static ScRedis *redis = NULL;	/* that is asked now */
static ScUrlKind used_kind;
static ScCluster *map = NULL;	/* of a cluster, with connections to its nodes */
static char used_link[24];		/* the worker's connection then */
static ScDelivered delivered;	/* as of the last sc_session_ready */
static bool busy = false;		/* an exchange was begun and not ended */

/* The reply to one command. */
typedef struct Answer
{
	ScReplyType type;
	int64		integer;
	char	   *value;			/* NULL: there was no room for it */
	uint32		length;
	int64		ttl_ms;
	bool		redirected;		/* other nodes have the keys now */
	MemoryContext cxt;
} Answer;

uint64
sc_url_hash(const char *url)
{
	return hash_bytes_extended((const unsigned char *) url, (int) strlen(url), 0);
}

static void
close_link(void)
{
	sc_redis_close_all();
	redis = NULL;
	sc_cluster_free(map);
	map = NULL;
	busy = false;
}

static void
close_at_exit(int code, Datum arg)
{
	close_link();
}

static bool
failed(void)
{
	close_link();
	sc_cache_session_failed();
	return false;
}

/* ---- one command ---- */

static void
read_answer(int n, const ScReply *reply, void *arg)
{
	Answer	   *a = arg;
	ScReply		value = *reply;
	ScReply		ttl;

	a->type = reply->type;
	a->integer = reply->integer;
	if (reply->type == SC_REPLY_ERROR)
		a->redirected = strncmp(reply->str, "MOVED ", 6) == 0 ||
			strncmp(reply->str, "ASK ", 4) == 0 ||
			strncmp(reply->str, "CLUSTERDOWN", 11) == 0;
	if (reply->type != SC_REPLY_ARRAY)
		return;
	sc_reply_element(reply, 0, &value);
	sc_reply_element(reply, 1, &ttl);
	a->ttl_ms = ttl.integer;
	if (value.type != SC_REPLY_STRING || value.len > SC_SESSION_VALUE_MAX)
		return;
	/* Must not throw here. */
	a->value = MemoryContextAllocExtended(a->cxt, value.len + 1, MCXT_ALLOC_NO_OOM);
	if (a->value == NULL)
		return;
	memcpy(a->value, value.str, value.len);
	a->value[value.len] = '\0';
	a->length = (uint32) value.len;
}

static int
ms_to(TimestampTz deadline)
{
	return (int) Max(1, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline));
}

/* Learn from the worker's node which node has which slots. */
static bool
read_map(const ScRedisUrl *url, TimestampTz deadline)
{
	char		error[256];
	ScRedis    *seed = sc_route_connect(url, &url->hosts[0], ms_to(deadline), error,
										sizeof(error));
	int			node;

	if (seed == NULL)
		return false;
	map = sc_cluster_new(TopMemoryContext, false);
	if (!sc_cluster_ask(seed, &url->hosts[0], ms_to(deadline), map, error, sizeof(error)))
		return false;
	node = sc_cluster_find(map, &url->hosts[0]);
	if (node >= 0)
		map->nodes[node].redis = seed;
	else
		sc_redis_close(seed);
	return true;
}

/* The connection to the node that has the key */
static ScRedis *
connect_for(const ScRedisUrl *url, const char *key, uint32 keylen, TimestampTz deadline)
{
	char		error[256];
	ScNode	   *node;
	int			owner;

	if (url->kind != SC_URL_CLUSTER)
		return sc_route_connect(url, &url->hosts[0], ms_to(deadline), error, sizeof(error));
	if (map == NULL && !read_map(url, deadline))
		return NULL;
	owner = map->owner[sc_key_slot(key, keylen)];
	if (owner < 0)
		return NULL;
	node = &map->nodes[owner];
	if (node->redis == NULL)
		node->redis = sc_route_connect(url, &node->host, ms_to(deadline), error, sizeof(error));
	return node->redis;
}

/* Is there a connection for the key already? */
static bool
is_connected(const char *key, uint32 keylen)
{
	int			owner;

	if (used_kind == SC_URL_CLUSTER)
	{
		owner = map ? map->owner[sc_key_slot(key, keylen)] : -1;
		redis = owner >= 0 ? map->nodes[owner].redis : NULL;
	}
	if (redis && !sc_redis_ok(redis))
		close_link();
	return redis != NULL;
}

static bool
be_connected(const char *key, uint32 keylen, TimestampTz deadline)
{
	static bool registered = false;
	ScRedisUrl	url;
	const char *why;
	const char *hint;

	if (busy || strcmp(used_link, delivered.link) != 0)
		close_link();
	if (is_connected(key, keylen))
		return true;
	if (!registered)
		on_proc_exit(close_at_exit, (Datum) 0);
	registered = true;
	if (!sc_redis_url_parse(sc_redis_url, &url, &why, &hint))
		return false;
	if (!url.is_unix)
	{
		strlcpy(url.hosts[0].host, delivered.address, sizeof(url.hosts[0].host));
		url.hosts[0].port = delivered.port;
	}
	used_kind = url.kind;
	strlcpy(used_link, delivered.link, sizeof(used_link));
	/* An interrupt may throw; the next call then begins anew. */
	busy = true;
	redis = connect_for(&url, key, keylen, deadline);
	busy = false;
	explicit_bzero(&url, sizeof(url));
	if (redis == NULL)
		return failed();
	return true;
}

/* The fourth argument is the key. */
static bool
ask(int argc, const char **argv, const size_t *lens, Answer *answer)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													   sc_session_timeout);
	char		error[256];

	memset(answer, 0, sizeof(*answer));
	answer->cxt = CurrentMemoryContext;
	if (!be_connected(argv[3], (uint32) lens[3], deadline))
		return false;
	/* An interrupt may throw; the next call then opens another one. */
	busy = true;
	sc_redis_append(redis, argc, argv, lens);
	if (!sc_redis_exchange(redis, ms_to(deadline), read_answer, answer, error,
						   sizeof(error)))
		return failed();
	busy = false;
	/* The next one will know better. */
	if (answer->redirected)
		close_link();
	sc_cache_session_succeeded();
	return true;
}

/* ---- what sessions say ---- */

bool
sc_session_ready(uint64 *clock)
{
	if (sc_redis_url[0] == '\0' || !sc_memory_usable())
		return false;
	/* A worker has a connection of its own. */
	if (MyBackendType == B_BG_WORKER)
		return false;
	if (!sc_cache_delivered(sc_url_hash(sc_redis_url), &delivered))
		return false;
	*clock = delivered.clock;
	return true;
}

ScSessionReply
sc_session_get(const char *key, uint32 keylen, bool lease, char **value,
			   uint32 *length, int64 *ttl_us)
{
	uint32		n;
	const char *name = sc_text_for_redis(key, keylen, &n);
	const char *argv[] = {"FCALL", "scalecache_read", "1", name, sc_link_source_id(),
	lease ? "1" : "0", delivered.link};
	size_t		lens[] = {5, 15, 1, n, strlen(argv[4]), 1, strlen(delivered.link)};
	Answer		a;

	if (!ask(lengthof(argv), argv, lens, &a))
		return SC_SESSION_FAILED;
	if (a.type == SC_REPLY_NIL)
		return SC_SESSION_MISS;
	/* Others load it, it is too long, or the functions are not there. */
	if (a.value == NULL)
		return SC_SESSION_FAILED;
	/* What is not text in this database's encoding is of no use to it. */
	*value = sc_text_from_redis(a.value, a.length, length);
	if (*value == NULL)
		return SC_SESSION_FAILED;
	/* It may be in its last millisecond; -1: it has no end. */
	*ttl_us = a.ttl_ms >= 0 ? Max(a.ttl_ms, 1) * 1000 : 0;
	return SC_SESSION_HIT;
}

ScSessionReply
sc_session_fill(const char *key, uint32 keylen, const char *value,
				uint32 length, int64 ttl_us, Snapshot snapshot)
{
	StringInfoData token;
	char		ttl[32];
	uint32		n;
	uint32		bytes;
	const char *name = sc_text_for_redis(key, keylen, &n);
	const char *text = sc_text_for_redis(value, length, &bytes);
	const char *argv[] = {"FCALL", "scalecache_fill", "1", name, text, NULL, ttl};
	size_t		lens[] = {5, 15, 1, n, bytes, 0, 0};
	Answer		a;

	if (text == value && sc_text_is_converted())
		return SC_SESSION_MISS;
	/* It may be longer there, and nobody would fetch it. */
	if (bytes > SC_SESSION_VALUE_MAX)
		return SC_SESSION_MISS;
	initStringInfo(&token);
	sc_token_text(snapshot, &token);
	argv[5] = token.data;
	lens[5] = token.len;
	/* Less than a millisecond must not become forever. */
	snprintf(ttl, sizeof(ttl), INT64_FORMAT, ttl_us > 0 ? (ttl_us + 999) / 1000 : 0);
	lens[6] = strlen(ttl);
	if (!ask(lengthof(argv), argv, lens, &a))
		return SC_SESSION_FAILED;
	if (a.type != SC_REPLY_INTEGER)
		return SC_SESSION_FAILED;
	return a.integer == 1 ? SC_SESSION_HIT : SC_SESSION_MISS;
}
