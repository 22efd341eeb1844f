/*
 * pipeline.c: commands to Redis, and what becomes of them.
 *
 * The commands of a pipeline may be repeated at will: each of them leaves the
 * same behind, however often it comes.  So when a cluster has moved slots, the
 * pipeline is sent again as a whole, to the nodes that have them now.
 *
 * While a slot moves its keys are here or there, and nobody knows which but the
 * node that it leaves: keys of such slots are deleted one by one, and where
 * that node says ASK, at the other as well.  Values are not stored then; their
 * keys are deleted.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "cache/cache.h"
#include "cache/link_private.h"

#define HASHED_BYTES		8192	/* of a key, as in the library */
#define FULL_MS				10000	/* no values are sent to a full Redis */
#define PIPELINE_BYTES		(8 * 1024 * 1024)	/* of values before replies are read */
#define LARGE_BYTES			(64 * 1024)	/* a value that may be too large */
#define LARGE_MS			(10 * 60 * 1000)	/* until a larger one is tried again */
#define LARGE_FAILURES		2		/* in a row, with such a value */

Peer	   *sc_current = NULL;
Replies		sc_replies;
bool		sc_walking = false;
int64		sc_sent_since_rotation = 0;

static TimestampTz full_at = 0; /* Redis said that it is out of memory */

/*
 * A server that finds a value too large may just hang up, as Redis does above
 * its proto-max-bulk-len.
 */
static Size value_bytes = 0;	/* in the pipeline */
static Size value_largest = 0;
static Size value_limit = SC_STRING_MAX;
static TimestampTz limited_at = 0;
static int	large_failures = 0;

/* The command being put together. */
static const char *argv[KEYS_PER_COMMAND + 16];
static size_t lens[KEYS_PER_COMMAND + 16];
static int	argc = 0;

/* What was sent to nodes of a cluster; malloc'd, as replies must not throw. */
static Sent *sent = NULL;
static int	nsent = 0;
static int	max_sent = 0;

/* Keys that may be at another node. */
typedef struct Asked
{
	const char *key;
	uint32		keylen;
	ScHost		host;
} Asked;

static Asked *asked = NULL;
static int	nasked = 0;
static int	max_asked = 0;

/* ---- commands ---- */

void
sc_add_arg(const char *s, size_t len)
{
	argv[argc] = s;
	lens[argc++] = len;
}

void
sc_add_word(const char *s)
{
	sc_add_arg(s, strlen(s));
}

void
sc_begin_command(const char *name)
{
	argc = 0;
	sc_add_word(name);
}

void
sc_begin_function(const char *name, const char *nkeys)
{
	sc_begin_command("FCALL");
	sc_add_word(name);
	sc_add_word(nkeys);
}

/* Room for one more; false when there is no memory. */
static bool
have_room(void **array, int n, int *max, Size size)
{
	int			more = Max(256, *max * 2);
	void	   *p;

	if (n < *max)
		return true;
	p = realloc(*array, more * size);
	if (p == NULL)
	{
		strlcpy(sc_replies.error, "out of memory", sizeof(sc_replies.error));
		return false;
	}
	*array = p;
	*max = more;
	return true;
}

static void
note_sent(Peer *node, const char *key, uint32 keylen)
{
	if (sc_cluster == NULL ||
		!have_room((void **) &sent, nsent, &max_sent, sizeof(Sent)))
		return;
	sent[nsent].next = -1;
	sent[nsent].key = key;
	sent[nsent].keylen = keylen;
	if (node->last_sent >= 0)
		sent[node->last_sent].next = nsent;
	else
		node->first_sent = nsent;
	node->last_sent = nsent++;
}

/* To a node that cannot be reached nothing is sent. */
void
sc_send(Peer *node)
{
	if (node->redis == NULL)
		return;
	sc_redis_append(node->redis, argc, argv, lens);
	note_sent(node, NULL, 0);
	argc = 0;
}

/* Forget what was begun. */
void
sc_pipeline_reset(void)
{
	argc = 0;
	nsent = nasked = 0;
	for (int i = 0; i < sc_nnodes; i++)
	{
		sc_nodes[i].nkeys = 0;
		sc_nodes[i].first_sent = sc_nodes[i].last_sent = -1;
	}
}

/* ---- replies ---- */

bool
sc_is_redirection(const char *error)
{
	return strncmp(error, "MOVED ", 6) == 0 || strncmp(error, "ASK ", 4) == 0 ||
		strncmp(error, "TRYAGAIN", 8) == 0;
}

static Sent *
next_sent(Peer *node)
{
	Sent	   *s = NULL;

	if (sc_cluster && node->first_sent >= 0)
	{
		s = &sent[node->first_sent];
		node->first_sent = s->next;
		if (s->next < 0)
			node->last_sent = -1;
	}
	return s;
}

typedef struct Reading
{
	ScReplyCallback callback;
	void	   *arg;
	Sent	   *command;		/* that the reply is to */
} Reading;

static Reading reading;

static void
read_reply(int n, const ScReply *reply, void *arg)
{
	reading.command = next_sent(sc_current);
	reading.callback(n, reply, reading.arg);
}

/* Send all that was appended; the replies of one node after another. */
bool
sc_exchange(ScReplyCallback callback, void *arg, char *error, Size errlen)
{
	bool		ok = true;

	reading.callback = callback;
	reading.arg = arg;
	/* One that fails is no reason for the others to get nothing. */
	for (int i = 0; sc_nnodes > 1 && i < sc_nnodes; i++)
		if (sc_nodes[i].redis &&
			!sc_redis_flush(sc_nodes[i].redis, sc_redis_timeout, error, errlen))
			ok = false;
	for (int i = 0; ok && i < sc_nnodes; i++)
	{
		sc_current = &sc_nodes[i];
		if (sc_current->redis == NULL)
			continue;
		ok = sc_redis_exchange(sc_current->redis, sc_redis_timeout, read_reply, NULL,
							   error, errlen);
		if (!ok && sc_cluster)
		{
			char		why[256];
			char		host[300];

			strlcpy(why, error, sizeof(why));
			sc_host_text(&sc_current->host, host, sizeof(host));
			snprintf(error, errlen, "node %s: %s", host, why);
		}
	}
	nsent = 0;
	return ok;
}

static void
note_asked(const char *error)
{
	Asked	   *a;

	if (!have_room((void **) &asked, nasked, &max_asked, sizeof(Asked)))
		return;
	a = &asked[nasked];
	a->key = reading.command->key;
	a->keylen = reading.command->keylen;
	if (sc_redirection(error, &sc_current->host, &a->host))
		nasked++;
	else
		sc_replies.redirected = true;
}

/* Would any other command get this error as well? */
bool
sc_is_of_server(const char *error)
{
	static const char *const beginnings[] = {
		"ASK ", "BUSY", "CLUSTERDOWN", "ERR Function not found",
		"ERR Protocol error", "ERR unknown command", "LOADING", "MASTERDOWN",
		"MISCONF", "MOVED ", "NOAUTH", "NOREPLICAS", "NOSCRIPT", "OOM",
		"READONLY", "TIMELINE", "TRYAGAIN", "UNARMED"
	};

	for (int i = 0; i < lengthof(beginnings); i++)
		if (strncmp(error, beginnings[i], strlen(beginnings[i])) == 0)
			return true;
	return false;
}

void
sc_check_reply(int n, const ScReply *reply, void *arg)
{
	if (reply->type != SC_REPLY_ERROR)
		return;
	if (sc_cluster && strncmp(reply->str, "ASK ", 4) == 0 && reading.command &&
		reading.command->key)
	{
		note_asked(reply->str);
		return;
	}
	if (sc_cluster && (sc_is_redirection(reply->str) ||
					   strncmp(reply->str, "READONLY", 8) == 0))
		sc_replies.redirected = true;
	if (!sc_is_of_server(reply->str))
		strlcpy(sc_replies.refusal, reply->str, sizeof(sc_replies.refusal));
	else if (sc_replies.error[0] == '\0')
		strlcpy(sc_replies.error, reply->str, sizeof(sc_replies.error));
}

/* False with the first error that a reply was. */
bool
sc_exchange_checked(char *error, Size errlen)
{
	memset(&sc_replies, 0, sizeof(sc_replies));
	if (!sc_exchange(sc_check_reply, NULL, error, errlen))
		return false;
	if (sc_replies.error[0] == '\0')
		strlcpy(sc_replies.error, sc_replies.refusal, sizeof(sc_replies.error));
	if (sc_replies.error[0] != '\0')
		strlcpy(error, sc_replies.error, errlen);
	return sc_replies.error[0] == '\0';
}

bool
sc_link_redirected(void)
{
	return sc_replies.redirected;
}

bool
sc_link_refused(void)
{
	return sc_replies.refusal[0] != '\0' && sc_replies.error[0] == '\0' &&
		!sc_replies.redirected;
}

/* ---- large values ---- */

Size
sc_link_value_limit(void)
{
	if (value_limit < SC_STRING_MAX &&
		TimestampDifferenceExceeds(limited_at, GetCurrentTimestamp(), LARGE_MS))
		value_limit = SC_STRING_MAX;
	return value_limit;
}

/* Another server is not full, and takes what the former one did not. */
void
sc_link_forget_limits(void)
{
	full_at = 0;
	value_limit = SC_STRING_MAX;
	large_failures = 0;
}

bool
sc_link_much(void)
{
	return value_bytes > PIPELINE_BYTES;
}

/* The connection broke with values on the way. */
static void
note_large_failure(void)
{
	if (value_largest < LARGE_BYTES || ++large_failures < LARGE_FAILURES)
		return;
	large_failures = 0;
	value_limit = value_largest / 2;
	limited_at = GetCurrentTimestamp();
}

/* ---- keys ---- */

void
sc_link_begin(void)
{
	sc_pipeline_reset();
	memset(&sc_replies, 0, sizeof(sc_replies));
	value_bytes = value_largest = 0;
}

/* The key's place among the tombstones, as the library finds it. */
static uint16
place_of(const char *key, uint32 keylen)
{
	const unsigned char *p = (const unsigned char *) key;
	uint32		h = keylen;

	for (uint32 i = 0; i < Min(keylen, HASHED_BYTES); i += 4)
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

/* Pack what the tombstone of the node's keys[i] needs to know. */
static void
pack_key(Peer *node, int i, uint64 xid)
{
	unsigned char *p = node->packed + HEAD_BYTES + i * KEY_BYTES;

	p = pack(p, 0xcd, place_of(node->keys[i], (uint32) node->keylens[i]), 2);
	(void) pack(p, 0xcf, xid, 8);
}

/* FCALL scalecache_bury 0 id snapshot places */
static void
send_tombstones(Peer *node)
{
	(void) pack(node->packed, 0xdd, (uint64) node->nkeys * 2, 4);
	sc_begin_function("scalecache_bury", "0");
	sc_add_word(sc_link_source_id());
	sc_add_word(sc_snapshot.data);
	sc_add_arg((char *) node->packed, HEAD_BYTES + (size_t) node->nkeys * KEY_BYTES);
	sc_send(node);
}

/* One UNLINK for keys from i on; the first that it is not for. */
static int
send_unlink(Peer *node, int i)
{
	int			slot = node->slots[i];

	sc_begin_command("UNLINK");
	if (sc_cluster && sc_cluster->open[slot])
	{
		sc_add_arg(node->keys[i], node->keylens[i]);
		sc_redis_append(node->redis, argc, argv, lens);
		note_sent(node, node->keys[i], (uint32) node->keylens[i]);
		argc = 0;
		return i + 1;
	}
	/* A command's keys must be of one slot. */
	for (; i < node->nkeys && node->slots[i] == slot; i++)
		sc_add_arg(node->keys[i], node->keylens[i]);
	sc_send(node);
	return i;
}

/*
 * The tombstones come first: a fill between the two is then refused, or its
 * value is new and deleted without need.
 */
void
sc_flush_deletes(Peer *node)
{
	if (node->nkeys == 0)
		return;
	if (sc_functions && !sc_walking)
		send_tombstones(node);
	for (int i = 0; i < node->nkeys;)
		i = send_unlink(node, i);
	node->nkeys = 0;
}

static void
flush_all_deletes(void)
{
	for (int i = 0; i < sc_nnodes; i++)
		sc_flush_deletes(&sc_nodes[i]);
}

void
sc_delete_at(Peer *node, const char *key, uint32 keylen, int slot, uint64 xid)
{
	node->keys[node->nkeys] = key;
	node->keylens[node->nkeys] = keylen;
	node->slots[node->nkeys] = (int16) slot;
	pack_key(node, node->nkeys, xid);
	sc_sent_since_rotation++;
	if (++node->nkeys == KEYS_PER_COMMAND)
		sc_flush_deletes(node);
}

/* Whose the key is; NULL: nobody's who can be reached. */
static Peer *
node_of(const char *key, uint32 keylen, int *slot)
{
	int			owner = 0;

	*slot = 0;
	if (sc_cluster)
	{
		*slot = sc_key_slot(key, keylen);
		owner = sc_cluster->owner[*slot];
	}
	return owner >= 0 && sc_nodes[owner].redis ? &sc_nodes[owner] : NULL;
}

/* As the next ones, false: a node that it is for cannot be reached. */
bool
sc_link_delete(const char *key, uint32 keylen, uint64 xid)
{
	int			slot;
	Peer	   *node = node_of(key, keylen, &slot);

	if (node)
		sc_delete_at(node, key, keylen, slot, xid);
	return node != NULL;
}

bool
sc_link_store(const char *key, uint32 keylen, const char *value, int64 ttl_ms,
			  uint64 xid)
{
	int			slot;
	Peer	   *node = node_of(key, keylen, &slot);
	char		ttl[32];
	char		x[24];

	if (node == NULL)
		return false;
	/* A full Redis takes no values. */
	if ((sc_cluster && sc_cluster->open[slot]) ||
		!TimestampDifferenceExceeds(full_at, GetCurrentTimestamp(), FULL_MS))
	{
		sc_delete_at(node, key, keylen, slot, xid);
		return true;
	}
	sc_flush_deletes(node);
	sc_note_stored(key, keylen);
	value_bytes += strlen(value);
	value_largest = Max(value_largest, strlen(value));
	snprintf(ttl, sizeof(ttl), INT64_FORMAT, ttl_ms);
	snprintf(x, sizeof(x), UINT64_FORMAT, xid);
	if (sc_functions)
	{
		sc_begin_function("scalecache_store", "1");
		sc_add_arg(key, keylen);
		sc_add_word(sc_link_source_id());
		sc_add_word(sc_snapshot.data);
		sc_add_word(x);
		sc_add_word(value);
		sc_add_word(ttl);
		sc_sent_since_rotation++;
	}
	else
	{
		sc_begin_command("SET");
		sc_add_arg(key, keylen);
		sc_add_word(value);
		if (ttl_ms > 0)
		{
			sc_add_word("PX");
			sc_add_word(ttl);
		}
	}
	sc_send(node);
	return true;
}

/*
 * From now on no reader may fill a key that begins so with an older value.
 * Keys of all slots do, so every node has to know.
 */
bool
sc_link_epoch(const char *prefix, uint32 length, uint64 xid)
{
	char		x[24];

	if (!sc_functions)
		return !sc_link_absent();
	snprintf(x, sizeof(x), UINT64_FORMAT, xid);
	for (int i = 0; i < sc_nnodes; i++)
	{
		sc_flush_deletes(&sc_nodes[i]);
		sc_begin_function("scalecache_epoch", "0");
		sc_add_word(sc_link_source_id());
		sc_add_word(sc_snapshot.data);
		sc_add_word(x);
		sc_add_arg(prefix, length);
		sc_send(&sc_nodes[i]);
	}
	return !sc_link_absent();
}

/* ---- keys that are, as their node says, at another one ---- */

/* A node that we have no slots from may have them soon. */
static ScRedis *
connect_other(const ScHost *host, char *error, Size errlen)
{
	ScRedisUrl	url;
	const char *why;
	const char *hint;
	ScRedis    *redis = NULL;

	if (sc_redis_url_parse(sc_redis_url, &url, &why, &hint))
		redis = sc_route_connect(&url, host, sc_redis_timeout, error, errlen);
	explicit_bzero(&url, sizeof(url));
	return redis;
}

static void
read_asked(int n, const ScReply *reply, void *arg)
{
	if (reply->type != SC_REPLY_ERROR)
		return;
	sc_replies.redirected = true;
	if (sc_replies.error[0] == '\0')
		strlcpy(sc_replies.error, reply->str, sizeof(sc_replies.error));
}

/* Delete what those before said is at the host of asked[i]. */
static bool
follow(int first, char *error, Size errlen)
{
	const ScHost host = asked[first].host;
	int			node = sc_cluster_find(sc_cluster, &host);
	ScRedis    *redis = node >= 0 && sc_nodes[node].redis ? sc_nodes[node].redis :
		connect_other(&host, error, errlen);
	bool		ok;

	if (redis == NULL)
		return false;
	for (int i = first; i < nasked; i++)
	{
		const char *asking[] = {"ASKING"};
		const char *unlink[] = {"UNLINK", asked[i].key};
		size_t		unlink_lens[] = {6, asked[i].keylen};

		if (asked[i].key == NULL || asked[i].host.port != host.port ||
			strcmp(asked[i].host.host, host.host) != 0)
			continue;
		sc_redis_append(redis, 1, asking, NULL);
		sc_redis_append(redis, 2, unlink, unlink_lens);
		asked[i].key = NULL;
	}
	ok = sc_redis_exchange(redis, sc_redis_timeout, read_asked, NULL, error, errlen);
	if (node < 0 || sc_nodes[node].redis == NULL)
		sc_redis_close(redis);
	return ok;
}

bool
sc_link_finish(char *error, Size errlen)
{
	flush_all_deletes();
	if (!sc_exchange(sc_check_reply, NULL, error, errlen))
	{
		note_large_failure();
		return false;
	}
	if (value_largest >= LARGE_BYTES)
		large_failures = 0;
	for (int i = 0; i < nasked; i++)
		if (asked[i].key && !follow(i, error, errlen))
			return false;
	nasked = 0;
	if (sc_replies.error[0] == '\0' && sc_replies.refusal[0] == '\0' &&
		!sc_replies.redirected)
		return true;
	if (strncmp(sc_replies.error, "OOM", 3) == 0)
		full_at = GetCurrentTimestamp();
	/* In the end the server hangs up, having said why. */
	if (strncmp(sc_replies.error, "ERR Protocol error", 18) == 0)
		note_large_failure();
	strlcpy(error, sc_link_refused() ? sc_replies.refusal : sc_replies.error, errlen);
	return false;
}
