/*
 * cluster.c: the nodes of a Redis Cluster, and who has which slot.
 *
 * Where the masters are, one node tells.  Which slots a master has, and which
 * are on their way to or from it, it is asked itself, as only that is what it
 * will answer by.  Masters without slots belong to it: what is on its way to
 * them is there already.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/memutils.h"

#include "cache/cache.h"
#include "cache/route.h"

/* Where masters were when last looked, for when no host of the URL answers. */
static ScHost last_hosts[SC_HOSTS_MAX];
static int	nlast_hosts = 0;
static uint64 last_url;			/* that they were found by, as a hash */

/* ---- slots ---- */

/* CRC16-CCITT as XMODEM has it, which is what a slot is made of */
static uint16
crc16(const char *s, uint32 len)
{
	uint16		crc = 0;

	for (uint32 i = 0; i < len; i++)
	{
		crc ^= (uint16) ((unsigned char) s[i] << 8);
		for (int bit = 0; bit < 8; bit++)
			crc = (uint16) (crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1);
	}
	return crc;
}

/* Of a key with {tag}, not empty, the tag alone counts. */
int
sc_key_slot(const char *key, uint32 keylen)
{
	const char *open = memchr(key, '{', keylen);
	const char *close = open ? memchr(open, '}', keylen - (open - key)) : NULL;

	if (close && close > open + 1)
		return crc16(open + 1, (uint32) (close - open - 1)) % SC_SLOTS;
	return crc16(key, keylen) % SC_SLOTS;
}

/* ---- what is known ---- */

ScCluster *
sc_cluster_new(MemoryContext parent, bool with_state)
{
	MemoryContext cxt = AllocSetContextCreate(parent, "scalecache cluster",
											  ALLOCSET_DEFAULT_SIZES);
	ScCluster  *c = MemoryContextAllocZero(cxt, sizeof(ScCluster));

	c->cxt = cxt;
	c->owner = MemoryContextAlloc(cxt, SC_SLOTS * sizeof(int16));
	if (with_state)
	{
		c->state = MemoryContextAllocZero(cxt, SC_SLOTS * sizeof(uint64));
		c->open = MemoryContextAllocZero(cxt, SC_SLOTS * sizeof(bool));
	}
	for (int i = 0; i < SC_SLOTS; i++)
		c->owner[i] = -1;
	return c;
}

void
sc_cluster_free(ScCluster *cluster)
{
	if (cluster)
		MemoryContextDelete(cluster->cxt);
}

bool
sc_cluster_same(const ScCluster *a, const ScCluster *b)
{
	if (a->n != b->n || a->nopen != b->nopen)
		return false;
	for (int i = 0; i < a->n; i++)
		if (strcmp(a->nodes[i].id, b->nodes[i].id) != 0)
			return false;
	return memcmp(a->owner, b->owner, SC_SLOTS * sizeof(int16)) == 0 &&
		memcmp(a->state, b->state, SC_SLOTS * sizeof(uint64)) == 0;
}

int
sc_cluster_find(const ScCluster *cluster, const ScHost *host)
{
	for (int i = 0; i < cluster->n; i++)
		if (cluster->nodes[i].host.port == host->port &&
			strcmp(cluster->nodes[i].host.host, host->host) == 0)
			return i;
	return -1;
}

/* ---- asking one node for all of them ---- */

typedef struct Asked
{
	ScCluster  *cluster;
	const ScHost *from;
	char	   *error;
	Size		errlen;
	bool		ok;
} Asked;

static int
find_id(const ScCluster *cluster, const char *id, Size len)
{
	for (int i = 0; i < cluster->n; i++)
		if (strlen(cluster->nodes[i].id) == len &&
			memcmp(cluster->nodes[i].id, id, len) == 0)
			return i;
	return -1;
}

/* Room for one more node; false: there is no memory, as it must not throw. */
static bool
have_room(ScCluster *c)
{
	int			max = Max(8, c->max * 2);
	ScNode	   *nodes;

	if (c->n < c->max)
		return true;
	nodes = MemoryContextAllocExtended(c->cxt, max * sizeof(ScNode), MCXT_ALLOC_NO_OOM);
	if (nodes == NULL)
		return false;
	if (c->n > 0)
		memcpy(nodes, c->nodes, c->n * sizeof(ScNode));
	c->nodes = nodes;
	c->max = max;
	return true;
}

/* Its index; -1: no room, or it is not what it should be. */
static int
add_node(Asked *a, const char *id, Size idlen, const char *host, Size hostlen, int port)
{
	ScCluster  *c = a->cluster;
	int			i = find_id(c, id, idlen);
	ScNode	   *node;

	if (i >= 0)
		return i;
	if (c->n == SC_NODES_MAX || idlen == 0 || idlen >= sizeof(node->id) ||
		hostlen >= sizeof(node->host.host) || port <= 0 || port > 65535 ||
		!have_room(c))
		return -1;
	node = &c->nodes[c->n];
	memset(node, 0, sizeof(*node));
	memcpy(node->id, id, idlen);
	/* A node that does not know its own address is where we asked it. */
	if (hostlen == 0 || (hostlen == 1 && *host == '?'))
		strlcpy(node->host.host, a->from->host, sizeof(node->host.host));
	else
		memcpy(node->host.host, host, hostlen);
	node->host.port = port;
	return c->n++;
}

/* One element of CLUSTER SLOTS: first, last, the master, replicas */
static bool
read_range(Asked *a, const ScReply *range)
{
	ScReply		first;
	ScReply		last;
	ScReply		master;
	ScReply		host;
	ScReply		port;
	ScReply		id;
	int			node;

	sc_reply_element(range, 0, &first);
	sc_reply_element(range, 1, &last);
	sc_reply_element(range, 2, &master);
	sc_reply_element(&master, 0, &host);
	sc_reply_element(&master, 1, &port);
	sc_reply_element(&master, 2, &id);
	if (first.type != SC_REPLY_INTEGER || last.type != SC_REPLY_INTEGER ||
		port.type != SC_REPLY_INTEGER || id.type != SC_REPLY_STRING ||
		first.integer < 0 || last.integer >= SC_SLOTS || first.integer > last.integer)
		return false;
	node = add_node(a, id.str, id.len, host.str, host.len, (int) port.integer);
	if (node < 0)
		return false;
	for (int64 slot = first.integer; slot <= last.integer; slot++)
		a->cluster->owner[slot] = (int16) node;
	return true;
}

static void
read_slots(int n, const ScReply *reply, void *arg)
{
	Asked	   *a = arg;

	if (reply->type == SC_REPLY_ERROR)
	{
		strlcpy(a->error, reply->str, a->errlen);
		return;
	}
	a->ok = reply->type == SC_REPLY_ARRAY;
	for (int i = 0; a->ok && i < reply->elements; i++)
	{
		ScReply		range;

		sc_reply_element(reply, i, &range);
		a->ok = read_range(a, &range);
	}
	if (!a->ok)
		strlcpy(a->error, "unexpected reply to CLUSTER SLOTS", a->errlen);
	else if (a->cluster->n == 0)
	{
		strlcpy(a->error, "the cluster has no master with slots", a->errlen);
		a->ok = false;
	}
}

bool
sc_cluster_ask(ScRedis *seed, const ScHost *host, int timeout_ms, ScCluster *cluster,
			   char *error, Size errlen)
{
	const char *argv[] = {"CLUSTER", "SLOTS"};
	Asked		a = {cluster, host, error, errlen, false};

	sc_redis_append(seed, lengthof(argv), argv, NULL);
	return sc_redis_exchange(seed, timeout_ms, read_slots, &a, error, errlen) && a.ok;
}

/* ---- lines of CLUSTER NODES ---- */

/*
 * id host:port@cport[,hostname] flags master ping pong epoch link slot ...
 */
#define NODE_FIELDS		8

typedef struct NodeLine
{
	const char *field[NODE_FIELDS];
	int			length[NODE_FIELDS];
	const char *slots;			/* what comes after them */
	const char *end;
} NodeLine;

/* The line that begins at p; NULL: it is none. */
static const char *
read_line(const char *p, NodeLine *line)
{
	line->end = p + strcspn(p, "\r\n");
	for (int i = 0; i < NODE_FIELDS; i++)
	{
		line->field[i] = p;
		line->length[i] = (int) Min(strcspn(p, " "), (Size) (line->end - p));
		p += line->length[i];
		if (line->length[i] == 0 || (i < NODE_FIELDS - 1 && p >= line->end))
			return NULL;
		if (p < line->end)
			p++;
	}
	line->slots = p;
	return line->end + strspn(line->end, "\r\n");
}

static bool
has_flag(const NodeLine *line, const char *flag)
{
	const char *p = line->field[2];
	const char *end = p + line->length[2];
	Size		len = strlen(flag);

	while (p < end)
	{
		Size		n = Min(strcspn(p, ", "), (Size) (end - p));

		if (n == len && memcmp(p, flag, n) == 0)
			return true;
		p += n + 1;
	}
	return false;
}

/* Masters that have no slots */
static void
read_others(int n, const ScReply *reply, void *arg)
{
	Asked	   *a = arg;
	const char *p = reply->str;
	NodeLine	line;

	if (reply->type != SC_REPLY_STRING)
	{
		strlcpy(a->error, reply->type == SC_REPLY_ERROR ? reply->str :
				"unexpected reply to CLUSTER NODES", a->errlen);
		return;
	}
	while (*p && (p = read_line(p, &line)) != NULL)
	{
		const char *at = memchr(line.field[1], '@', line.length[1]);
		const char *colon = at;

		if (at == NULL || !has_flag(&line, "master") || has_flag(&line, "fail") ||
			has_flag(&line, "noaddr") || has_flag(&line, "handshake"))
			continue;
		while (colon > line.field[1] && *colon != ':')
			colon--;
		(void) add_node(a, line.field[0], line.length[0], line.field[1],
						colon - line.field[1], atoi(colon + 1));
	}
	a->ok = true;
}

static uint64
mix(uint64 a, uint64 b)
{
	return hash_combine64(a, b);
}

/* "first-last", "slot", "[slot->-id]" or "[slot-<-id]" */
static void
read_claim(ScCluster *c, int node, const char *s, int len)
{
	char	   *rest;
	long		first;
	long		last;
	bool		open = *s == '[';

	first = strtol(open ? s + 1 : s, &rest, 10);
	last = first;
	if (!open && *rest == '-')
		last = strtol(rest + 1, NULL, 10);
	if (first < 0 || last >= SC_SLOTS)
		return;
	for (long slot = first; slot <= last; slot++)
	{
		int			other = c->owner[slot];

		if (open)
		{
			/* Both sides have their part in it, in either order. */
			c->state[slot] += hash_bytes_extended((const unsigned char *) s, len, node);
			c->open[slot] = true;
		}
		else if (other < 0 || c->nodes[other].redis == NULL ||
				 c->nodes[other].epoch < c->nodes[node].epoch)
			c->owner[slot] = (int16) node;
	}
}

typedef struct Self
{
	ScCluster  *cluster;
	int			node;
	char	   *error;
	Size		errlen;
	bool		ok;
} Self;

/* What a master says of itself */
static void
read_self(int n, const ScReply *reply, void *arg)
{
	Self	   *self = arg;
	const char *p = reply->str;
	NodeLine	line;

	strlcpy(self->error, reply->type == SC_REPLY_ERROR ? reply->str :
			"unexpected reply to CLUSTER NODES", self->errlen);
	if (reply->type != SC_REPLY_STRING)
		return;
	while (*p && (p = read_line(p, &line)) != NULL)
	{
		ScNode	   *node = &self->cluster->nodes[self->node];

		if (!has_flag(&line, "myself"))
			continue;
		if (!has_flag(&line, "master"))
		{
			strlcpy(self->error, "the node is not a master any more", self->errlen);
			return;
		}
		strlcpy(node->id, line.field[0], Min(sizeof(node->id), line.length[0] + 1));
		node->epoch = strtoull(line.field[6], NULL, 10);
		for (const char *s = line.slots; s < line.end; s++)
		{
			int			len = (int) Min(strcspn(s, " "), (Size) (line.end - s));

			if (len > 0)
				read_claim(self->cluster, self->node, s, len);
			s += len;
		}
		self->ok = true;
		return;
	}
}

/* ---- looking at all of them ---- */

static void
blame_node(const ScNode *node, char *error, Size errlen)
{
	char		why[256];
	char		host[300];

	strlcpy(why, error, sizeof(why));
	sc_host_text(&node->host, host, sizeof(host));
	snprintf(error, errlen, "node %s: %s", host, why);
}

/* Ask a node that answers who the masters are. */
static bool
ask_any(const ScRedisUrl *url, ScCluster *older, ScCluster *c, char *error, Size errlen)
{
	const char *argv[] = {"CLUSTER", "NODES"};

	for (int i = older ? -1 : 0; i < url->nhosts + nlast_hosts; i++)
	{
		const ScHost *host = i < 0 ? &older->nodes[0].host :
		i < url->nhosts ? &url->hosts[i] : &last_hosts[i - url->nhosts];
		ScRedis    *seed = i < 0 ? older->nodes[0].redis :
		sc_route_connect(url, host, sc_redis_timeout, error, errlen);
		Asked		a = {c, host, error, errlen, false};
		bool		ok;

		if (seed == NULL)
			continue;
		c->n = 0;
		ok = sc_cluster_ask(seed, host, sc_redis_timeout, c, error, errlen);
		if (ok)
		{
			sc_redis_append(seed, lengthof(argv), argv, NULL);
			ok = sc_redis_exchange(seed, sc_redis_timeout, read_others, &a, error,
								   errlen) && a.ok;
		}
		if (i >= 0)
			sc_redis_close(seed);
		if (ok)
			return true;
	}
	return false;
}

/* Connect to a master, or take the connection that there is. */
static bool
connect_node(const ScRedisUrl *url, ScCluster *older, ScNode *node, char *error, Size errlen)
{
	int			old = older ? sc_cluster_find(older, &node->host) : -1;

	if (old >= 0 && sc_redis_ok(older->nodes[old].redis))
	{
		node->redis = older->nodes[old].redis;
		older->nodes[old].redis = NULL;
	}
	else
		node->redis = sc_route_connect(url, &node->host, sc_redis_timeout, error, errlen);
	return node->redis != NULL;
}

/*
 * One with slots that cannot be reached is absent; without, it is left out.
 * The owners are then those nodes' that are absent.
 */
static bool
connect_all(const ScRedisUrl *url, ScCluster *older, ScCluster *c, char *error, Size errlen)
{
	bool	   *needed = MemoryContextAllocZero(c->cxt, c->n + 1);
	int16	   *index = MemoryContextAllocZero(c->cxt, (c->n + 1) * sizeof(int16));
	int			n = 0;

	for (int slot = 0; slot < SC_SLOTS; slot++)
		if (c->owner[slot] >= 0)
			needed[c->owner[slot]] = true;
	for (int i = 0; i < c->n; i++)
	{
		ScNode		node = c->nodes[i];

		index[i] = -1;
		if (!connect_node(url, older, &node, error, errlen))
		{
			if (!needed[i])
				continue;
			blame_node(&node, error, errlen);
			strlcpy(c->why, error, sizeof(c->why));
			c->nabsent++;
			index[i] = (int16) n;
		}
		c->nodes[n++] = node;
	}
	c->n = n;
	for (int slot = 0; slot < SC_SLOTS; slot++)
		c->owner[slot] = c->owner[slot] >= 0 ? index[c->owner[slot]] : -1;
	return c->nabsent < n;
}

static bool
ask_all(ScCluster *c, char *error, Size errlen)
{
	const char *argv[] = {"CLUSTER", "NODES"};

	for (int i = 0; i < c->n; i++)
	{
		if (c->nodes[i].redis == NULL)
			continue;
		sc_redis_append(c->nodes[i].redis, lengthof(argv), argv, NULL);
		if (!sc_redis_flush(c->nodes[i].redis, sc_redis_timeout, error, errlen))
			return false;
	}
	for (int i = 0; i < c->n; i++)
	{
		Self		self = {c, i, error, errlen, false};

		if (c->nodes[i].redis == NULL)
			continue;
		if (!sc_redis_exchange(c->nodes[i].redis, sc_redis_timeout, read_self, &self,
							   error, errlen) || !self.ok)
		{
			blame_node(&c->nodes[i], error, errlen);
			return false;
		}
	}
	for (int slot = 0; slot < SC_SLOTS; slot++)
	{
		ScNode	   *owner = c->owner[slot] >= 0 ? &c->nodes[c->owner[slot]] : NULL;

		c->nopen += c->open[slot];
		if (owner)
			c->state[slot] += mix(hash_bytes_extended((unsigned char *) owner->id,
													  (int) strlen(owner->id), 0),
								  owner->epoch);
	}
	return true;
}

ScCluster *
sc_cluster_look(const ScRedisUrl *url, ScCluster *older, char *error, Size errlen)
{
	static ScCluster *unfinished = NULL;	/* when it threw */
	ScCluster  *c;

	if (last_url != sc_url_hash(sc_redis_url))
		nlast_hosts = 0;
	last_url = sc_url_hash(sc_redis_url);
	sc_cluster_free(unfinished);
	c = unfinished = sc_cluster_new(TopMemoryContext, true);
	if (!ask_any(url, older, c, error, errlen) ||
		!connect_all(url, older, c, error, errlen) ||
		!ask_all(c, error, errlen))
		return NULL;
	unfinished = NULL;
	nlast_hosts = Min(c->n, SC_HOSTS_MAX);
	for (int i = 0; i < nlast_hosts; i++)
		last_hosts[i] = c->nodes[i].host;
	return c;
}

bool
sc_redirection(const char *error, const ScHost *from, ScHost *to)
{
	const char *p = strchr(error, ' ');
	const char *host = p ? strchr(p + 1, ' ') : NULL;
	const char *colon = host ? strrchr(host, ':') : NULL;
	Size		len;

	if (colon == NULL)
		return false;
	len = colon - ++host;
	if (len >= sizeof(to->host))
		return false;
	if (len == 0)
		strlcpy(to->host, from->host, sizeof(to->host));
	else
		strlcpy(to->host, host, len + 1);
	to->port = atoi(colon + 1);
	return to->port > 0 && to->port <= 65535;
}
