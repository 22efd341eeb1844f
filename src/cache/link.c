/*
 * link.c: to which nodes there are connections, and what they are told first.
 *
 * Each node is told who we are, and in a cluster which slots it has.  Until it
 * has heard that a slot is another node's it would believe that it has seen
 * all invalidations of its keys; so nothing is sent to a slot's new node before
 * all nodes have been told.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "cache/cache.h"
#include "cache/link_private.h"
#include "cache/token.h"

#define MANY_TOMBSTONES		200000
#define OTHERS				8	/* databases looked at at a time */

Peer	   *sc_nodes = NULL;
int			sc_nnodes = 0;
ScCluster  *sc_cluster = NULL;
bool	   *sc_missing = NULL;
uint64		sc_generation = 0;
bool		sc_functions = false;
StringInfoData sc_snapshot;

static ScRedisStatus *status = NULL;	/* the worker's */
static bool introduced = false; /* nodes know what they have */
static bool is_armed = false;	/* and nothing older is there */
static bool no_room = false;	/* for the functions, in a full Redis */
static TimestampTz last_rotation = 0;
static char link_id[24] = "";	/* of these connections */
static ScUrlKind link_mode;
static int	link_db = 0;
static List *others = NIL;		/* databases of this server, at the last ping */

bool
sc_link_ok(void)
{
	for (int i = 0; i < sc_nnodes; i++)
		if (sc_nodes[i].redis && !sc_redis_ok(sc_nodes[i].redis))
			return false;
	return sc_nnodes > 0;
}

bool
sc_link_absent(void)
{
	return sc_cluster && sc_cluster->nabsent > 0;
}

const char *
sc_link_why_absent(void)
{
	return sc_link_absent() ? sc_cluster->why : "";
}

void
sc_link_close(void)
{
	sc_redis_close_all();
	if (sc_cluster)
		sc_cluster_free(sc_cluster);
	else if (sc_nodes)
		pfree(sc_nodes);
	sc_cluster = NULL;
	sc_nodes = NULL;
	sc_missing = NULL;
	sc_nnodes = 0;
	sc_pipeline_reset();
	introduced = is_armed = sc_walking = false;
}

bool
sc_link_has_functions(void)
{
	return sc_functions;
}

void
sc_link_describe(ScDelivered *delivered)
{
	int			i = 0;

	while (i < sc_nnodes - 1 && sc_nodes[i].redis == NULL)
		i++;
	strlcpy(delivered->link, link_id, sizeof(delivered->link));
	sc_redis_address(sc_nodes[i].redis, delivered->address, sizeof(delivered->address));
	delivered->port = sc_nodes[i].host.port;
}

int
sc_link_count(void)
{
	return sc_nnodes;
}

/* Empty for one that cannot be reached. */
void
sc_link_identity(int i, char *buf, Size size)
{
	buf[0] = '\0';
	if (sc_nodes[i].redis == NULL)
		return;
	snprintf(buf, size, "%s %d", sc_nodes[i].run_id, link_db);
}

void
sc_link_mark_other(int i, bool another)
{
	sc_nodes[i].another = another;
}

static void
source_id(Oid dboid, char *buf, Size size)
{
	snprintf(buf, size, UINT64_FORMAT "/%u", GetSystemIdentifier(), dboid);
}

/* Whom the tombstones are from: this database of this cluster. */
const char *
sc_link_source_id(void)
{
	static char id[40] = "";

	if (id[0] == '\0')
		source_id(MyDatabaseId, id, sizeof(id));
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
	Info	   *info = (Info *) arg + (sc_current - sc_nodes);

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

/* What one node said; false when it is of no use to us. */
static bool
take_info(Peer *node, const Info *info, char *error, Size errlen)
{
	if (info->error[0] != '\0')
	{
		strlcpy(error, info->error, errlen);
		return false;
	}
	strlcpy(node->run_id, info->run_id, sizeof(node->run_id));
	strlcpy(status->version, info->version, sizeof(status->version));
	strlcpy(status->run_id, info->run_id, sizeof(status->run_id));
	status->used_memory += strtoll(info->used, NULL, 10);
	status->evictions += strtoll(info->evicted, NULL, 10);
	if (strtoll(info->limit, NULL, 10) > 0 && strcmp(info->policy, "noeviction") == 0)
		strlcpy(status->warning,
				"maxmemory-policy is noeviction: a full Redis refuses to be filled",
				sizeof(status->warning));
	if (info->role[0] && strcmp(info->role, "master") != 0)
	{
		snprintf(error, errlen, "the server is a %s, and cannot be written to", info->role);
		return false;
	}
	return true;
}

/* Learn who the nodes are; false when one is of no use to us. */
static bool
get_info(char *error, Size errlen)
{
	Info	   *info = palloc0(sc_nnodes * sizeof(Info));
	bool		ok;

	for (int i = 0; i < sc_nnodes; i++)
	{
		sc_begin_command("INFO");
		sc_send(&sc_nodes[i]);
	}
	ok = sc_exchange(read_info, info, error, errlen);
	if (ok)
	{
		status->used_memory = status->evictions = 0;
		if (sc_functions)
			status->warning[0] = '\0';
	}
	for (int i = sc_nnodes - 1; ok && i >= 0; i--)
		if (sc_nodes[i].redis)
			ok = take_info(&sc_nodes[i], &info[i], error, errlen);
	pfree(info);
	return ok;
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
	int			nothers;
	Oid			others[OTHERS];
} Hello;

/*
 * Databases of this server in a list of whom the library knows.  Of many some,
 * each as likely as any other: the list may be in the same order every time.
 */
static void
read_others(Hello *hello, const char *list)
{
	const char *p = list;
	uint64		n = 0;

	while (*p)
	{
		char	   *rest;
		uint64		cluster = strtou64(p, &rest, 10);

		if (*rest == '/' && cluster == GetSystemIdentifier())
		{
			uint64		i = n < OTHERS ? n : pg_prng_uint64_range(&pg_global_prng_state, 0, n);

			if (i < OTHERS)
				hello->others[i] = (Oid) strtoul(rest + 1, NULL, 10);
			hello->nothers = (int) Min(++n, OTHERS);
		}
		p = strchr(p, ' ');
		if (p == NULL)
			break;
		p++;
	}
}

static void
read_hello(int n, const ScReply *reply, void *arg)
{
	Hello	   *hello = (Hello *) arg + (sc_current - sc_nodes);
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
	sc_reply_element(reply, 8, &e);
	hello->nothers = 0;
	if (e.type == SC_REPLY_STRING)
		read_others(hello, e.str);
}

/* Of each node; in CurrentMemoryContext.  NULL: it failed. */
static Hello *
say_hello(char *error, Size errlen)
{
	Hello	   *hello = palloc0(sc_nnodes * sizeof(Hello));

	for (int i = 0; i < sc_nnodes; i++)
	{
		sc_begin_function("scalecache_hello", "0");
		sc_add_word(sc_link_source_id());
		sc_send(&sc_nodes[i]);
	}
	if (sc_exchange(read_hello, hello, error, errlen))
		return hello;
	pfree(hello);
	return NULL;
}

static void
send_library(Peer *node, const char *code)
{
	sc_begin_command("FUNCTION");
	sc_add_word("LOAD");
	sc_add_word("REPLACE");
	sc_add_word(code);
	sc_send(node);
}

static bool
is_ours(const Hello *hello)
{
	return hello->error[0] == '\0' && strcmp(hello->version, sc_library_version()) == 0;
}

/*
 * A full Redis takes no library, and an older one would not hear of what is
 * deleted: it has to go.  Keys are deleted all the same, which makes room.
 */
static bool
do_without_library(char *error, Size errlen)
{
	for (int i = 0; i < sc_nnodes; i++)
	{
		sc_begin_command("FUNCTION");
		sc_add_word("DELETE");
		sc_add_word("scalecache");
		sc_send(&sc_nodes[i]);
	}
	if (!sc_exchange_checked(error, errlen) && strstr(error, "not found") == NULL)
		return false;
	error[0] = '\0';
	sc_functions = false;
	no_room = true;
	strlcpy(status->warning,
			"Redis is full and does not take the functions: nothing can be filled by them",
			sizeof(status->warning));
	return true;
}

/* Load it where it is to be. */
static bool
load_library(const bool *where, char *error, Size errlen)
{
	char	   *code = sc_library_code();
	bool		ok;

	for (int i = 0; i < sc_nnodes; i++)
		if (where[i])
			send_library(&sc_nodes[i], code);
	ok = sc_exchange_checked(error, errlen);
	pfree(code);
	if (!ok && strncmp(error, "OOM", 3) == 0)
		return do_without_library(error, errlen);
	return ok;
}

/* Have our library at all nodes, if they have functions at all. */
static bool
ensure_library(char *error, Size errlen)
{
	Hello	   *hello = say_hello(error, errlen);
	bool	   *where;
	bool		ok = true;

	if (hello == NULL)
		return false;
	sc_functions = true;
	no_room = false;
	for (int i = 0; i < sc_nnodes; i++)
		if (strstr(hello[i].error, "unknown command"))
			sc_functions = false;
	if (!sc_functions)
	{
		strlcpy(status->warning,
				"Redis 7 or later is needed for scalecache_get and scalecache_fill",
				sizeof(status->warning));
		pfree(hello);
		return true;
	}
	where = palloc0(sc_nnodes * sizeof(bool));
	for (int i = 0; ok && i < sc_nnodes; i++)
	{
		/* One that is not there can be loaded; else that would not help. */
		if (hello[i].error[0] != '\0' && strstr(hello[i].error, "not found") == NULL &&
			strncmp(hello[i].error, "OOM", 3) != 0)
		{
			strlcpy(error, hello[i].error, errlen);
			ok = false;
		}
		else if (!is_ours(&hello[i]))
			where[i] = true;
	}
	ok = ok && load_library(where, error, errlen);
	pfree(where);
	pfree(hello);
	return ok;
}

/* ---- arming ---- */

typedef struct Armed
{
	char		error[256];
	bool		walk;
} Armed;

/* Note slots of the node that may hold older values; all it has if no text. */
static void
note_missing(int node, const char *text)
{
	const char *p = text;

	if (sc_missing == NULL)
		return;
	for (int slot = 0; text == NULL && slot < SC_SLOTS; slot++)
		if (sc_cluster->owner[slot] == node)
			sc_missing[slot] = true;
	while (p && *p)
	{
		char	   *rest;
		long		first = strtol(p, &rest, 10);
		long		last = *rest == '-' ? strtol(rest + 1, &rest, 10) : first;

		for (long slot = Max(first, 0); slot <= Min(last, SC_SLOTS - 1); slot++)
			sc_missing[slot] = true;
		if (*rest != ',')
			break;
		p = rest + 1;
	}
}

/* 'ok', 'walk', or slots */
static void
read_armed(int n, const ScReply *reply, void *arg)
{
	Armed	   *a = arg;

	if (reply->type == SC_REPLY_ERROR)
		strlcpy(a->error, reply->str, sizeof(a->error));
	else if (reply->type != SC_REPLY_STRING)
		strlcpy(a->error, "unexpected reply to scalecache_arm", sizeof(a->error));
	else if (strcmp(reply->str, "ok") != 0)
	{
		a->walk = true;
		note_missing((int) (sc_current - sc_nodes),
					 strcmp(reply->str, "walk") == 0 ? NULL : reply->str);
	}
}

bool
sc_link_armed(void)
{
	return is_armed;
}

bool
sc_link_introduced(void)
{
	return introduced;
}

/* The node's slots as "first-last,first-last" */
static void
slots_text(int node, StringInfo buf)
{
	int			first = -1;

	for (int slot = 0; slot <= SC_SLOTS; slot++)
	{
		bool		has = slot < SC_SLOTS && sc_cluster->owner[slot] == node;

		if (has && first < 0)
			first = slot;
		else if (!has && first >= 0)
		{
			appendStringInfo(buf, "%s%d-%d", buf->len > 0 ? "," : "", first, slot - 1);
			first = -1;
		}
	}
}

static void
send_arm(int i, const char *phase)
{
	char		cluster[24];
	char		timeline[16];
	char		lease[16];
	StringInfoData slots;

	snprintf(cluster, sizeof(cluster), UINT64_FORMAT, GetSystemIdentifier());
	snprintf(timeline, sizeof(timeline), "%u", sc_timeline());
	snprintf(lease, sizeof(lease), "%d", sc_lease_time);
	sc_begin_function("scalecache_arm", "0");
	sc_add_word(sc_link_source_id());
	sc_add_word(cluster);
	sc_add_word(timeline);
	sc_add_word(sc_cache_boot_id());
	sc_add_word(sc_snapshot.data);
	sc_add_word(lease);
	sc_add_word(phase);
	sc_add_word(link_id);
	initStringInfo(&slots);
	if (sc_cluster)
	{
		slots_text(i, &slots);
		sc_add_arg(slots.data, slots.len);
	}
	sc_send(&sc_nodes[i]);
	pfree(slots.data);
}

/*
 * A replica that has been a master keeps what the library knew then, and might
 * believe it when it becomes a master again.  Loading is replicated, and
 * empties it.
 */
static bool
load_anew(char *error, Size errlen)
{
	bool	   *where;
	bool		ok;

	if (link_mode == SC_URL_SINGLE)
		return true;
	where = palloc(sc_nnodes * sizeof(bool));
	for (int i = 0; i < sc_nnodes; i++)
		where[i] = sc_nodes[i].another;
	ok = load_library(where, error, errlen);
	pfree(where);
	return ok;
}

bool
sc_link_arm(bool done, bool *walk, char *error, Size errlen)
{
	Armed		armed = {"", false};

	*walk = false;
	if (sc_missing)
		memset(sc_missing, 0, SC_SLOTS * sizeof(bool));
	if (sc_functions && !done && !load_anew(error, errlen))
		return false;
	if (!sc_functions)
	{
		/* Nothing there can be older than what we have deleted, or will. */
		for (int i = 0; !done && i < sc_nnodes; i++)
			note_missing(i, NULL);
		*walk = !done;
		is_armed = done;
		introduced = true;
		return true;
	}
	for (int i = 0; i < sc_nnodes; i++)
		send_arm(i, done ? "done" : sc_nodes[i].another ? "anew" : "begin");
	if (!sc_exchange(read_armed, &armed, error, errlen))
		return false;
	if (armed.error[0] != '\0')
	{
		strlcpy(error, armed.error, errlen);
		return false;
	}
	for (int i = 0; i < sc_nnodes; i++)
		sc_nodes[i].another = false;
	*walk = armed.walk;
	is_armed = !armed.walk;
	introduced = true;
	last_rotation = GetCurrentTimestamp();
	sc_sent_since_rotation = 0;
	return true;
}

/* ---- connecting ---- */

static void
describe_server(void)
{
	char		host[300];
	Size		used = 0;

	sc_host_text(&sc_nodes[0].host, host, sizeof(host));
	if (sc_cluster)
		snprintf(status->server, sizeof(status->server), "cluster of %d masters, %s and others",
				 sc_nnodes, host);
	else
		snprintf(status->server, sizeof(status->server), "%s, database %d", host, link_db);
	status->nodes[0] = '\0';
	for (int i = 0; i < sc_nnodes; i++)
	{
		if (sc_nodes[i].redis == NULL)
			continue;
		sc_host_text(&sc_nodes[i].host, host, sizeof(host));
		if (used + strlen(host) + 2 > sizeof(status->nodes))
			break;
		used += snprintf(status->nodes + used, sizeof(status->nodes) - used, "%s%s",
						 used > 0 ? "," : "", host);
	}
}

static void
new_link_id(void)
{
	uint64		id;

	if (!pg_strong_random(&id, sizeof(id)))
		id = (uint64) GetCurrentTimestamp();
	snprintf(link_id, sizeof(link_id), UINT64_FORMAT, id);
}

/* Have the cluster's nodes in the place of those that there were. */
static void
adopt(ScCluster *c)
{
	ScCluster  *older = sc_cluster;
	bool		same = older && sc_cluster_same(older, c);
	Peer	   *nodes = MemoryContextAllocZero(c->cxt, Max(c->n, 1) * sizeof(Peer));
	bool	   *missing = MemoryContextAllocZero(c->cxt, SC_SLOTS * sizeof(bool));

	for (int i = 0; i < c->n; i++)
	{
		nodes[i].redis = c->nodes[i].redis;
		nodes[i].host = c->nodes[i].host;
		for (int j = 0; j < sc_nnodes; j++)
			if (sc_nodes[j].redis && sc_nodes[j].redis == nodes[i].redis)
			{
				strlcpy(nodes[i].run_id, sc_nodes[j].run_id, sizeof(nodes[i].run_id));
				nodes[i].another = sc_nodes[j].another;
			}
		if (same && nodes[i].redis != sc_nodes[i].redis)
			same = false;
	}
	if (same)
		memcpy(missing, sc_missing, SC_SLOTS * sizeof(bool));
	for (int i = 0; older && i < older->n; i++)
		sc_redis_close(older->nodes[i].redis);
	sc_cluster = c;
	sc_nodes = nodes;
	sc_nnodes = c->n;
	sc_missing = missing;
	sc_cluster_free(older);
	sc_pipeline_reset();
	if (!same)
	{
		sc_generation++;
		introduced = is_armed = false;
		describe_server();
	}
}

static bool
look_at_cluster(const ScRedisUrl *url, char *error, Size errlen)
{
	uint64		generation = sc_generation;
	ScCluster  *c = sc_cluster_look(url, sc_cluster, error, errlen);

	if (c == NULL)
		return false;
	adopt(c);
	if (sc_generation == generation)
		return true;
	return get_info(error, errlen) && ensure_library(error, errlen);
}

/* Is what we are connected to still what the URL leads to? */
static bool
look_at(const ScRedisUrl *url, char *error, Size errlen)
{
	switch (link_mode)
	{
		case SC_URL_SINGLE:
			break;
		case SC_URL_SENTINEL:
			if (sc_sentinel_agrees(url, &sc_nodes[0].host))
				break;
			strlcpy(error, "another server is the master now", errlen);
			return false;
		case SC_URL_CLUSTER:
			return look_at_cluster(url, error, errlen);
	}
	return true;
}

bool
sc_look(char *error, Size errlen)
{
	ScRedisUrl	url;
	const char *why;
	const char *hint;
	bool		ok = false;

	if (sc_redis_url_parse(sc_redis_url, &url, &why, &hint))
		ok = look_at(&url, error, errlen);
	else
		strlcpy(error, "the URL is not valid", errlen);
	explicit_bzero(&url, sizeof(url));
	return ok;
}

bool
sc_link_look(char *error, Size errlen)
{
	return sc_look(error, errlen);
}

static bool
connect_one(const ScRedisUrl *url, char *error, Size errlen)
{
	ScHost		host = url->hosts[0];
	ScRedis    *redis = url->kind == SC_URL_SENTINEL ?
	sc_sentinel_connect(url, &host, error, errlen) :
	sc_route_connect(url, &host, sc_redis_timeout, error, errlen);

	if (redis == NULL)
		return false;
	sc_nodes = MemoryContextAllocZero(TopMemoryContext, sizeof(Peer));
	sc_nnodes = 1;
	sc_nodes[0].redis = redis;
	sc_nodes[0].host = host;
	sc_pipeline_reset();
	describe_server();
	return get_info(error, errlen) && ensure_library(error, errlen);
}

bool
sc_link_open(const ScRedisUrl *url, ScRedisStatus *worker, char *error, Size errlen)
{
	bool		ok;

	sc_link_close();
	new_link_id();
	status = worker;
	link_mode = url->kind;
	link_db = url->db;
	ok = url->kind == SC_URL_CLUSTER ? look_at_cluster(url, error, errlen) :
		connect_one(url, error, errlen);
	if (!ok)
		sc_link_close();
	return ok;
}

/* ---- once in a while ---- */

static void
note_others(const Hello *hello)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	for (int i = 0; i < hello->nothers; i++)
		others = list_append_unique_oid(others, hello->others[i]);
	MemoryContextSwitchTo(old);
}

/* The other databases of this server that Redis knew at the last ping */
List *
sc_link_others(void)
{
	return others;
}

/*
 * Nobody invalidates the database's keys any more.  As long as Redis waits for
 * it to say that nothing older is there, it serves and stores nothing.
 */
bool
sc_link_forget(Oid dboid, char *error, Size errlen)
{
	char		id[40];
	char		timeline[16];

	if (!sc_functions)
		return true;
	source_id(dboid, id, sizeof(id));
	snprintf(timeline, sizeof(timeline), "%u", sc_timeline());
	for (int i = 0; i < sc_nnodes; i++)
	{
		sc_begin_function("scalecache_forget", "0");
		sc_add_word(id);
		sc_add_word(timeline);
		sc_send(&sc_nodes[i]);
	}
	return sc_exchange_checked(error, errlen);
}

/* Is it there, and does it still know us?  And how it does. */
bool
sc_link_ping(char *error, Size errlen)
{
	Hello	   *hello;
	bool		ok = true;

	if (!sc_functions)
	{
		for (int i = 0; i < sc_nnodes; i++)
		{
			sc_begin_command("PING");
			sc_send(&sc_nodes[i]);
		}
		if (!sc_exchange_checked(error, errlen))
			return false;
		if (!no_room)
			return true;
		if (!ensure_library(error, errlen))
			return false;
		/* There is room now: begin anew. */
		if (sc_functions)
			introduced = is_armed = false;
		return true;
	}
	hello = say_hello(error, errlen);
	if (hello == NULL)
		return false;
	status->hits = status->misses = status->fills = status->refused = 0;
	list_free(others);
	others = NIL;
	for (int i = 0; i < sc_nnodes; i++)
	{
		if (sc_nodes[i].redis == NULL)
			continue;
		note_others(&hello[i]);
		if (!is_ours(&hello[i]) || !hello[i].armed)
		{
			snprintf(error, errlen, "Redis has lost the function library: %s", hello[i].error);
			ok = false;
		}
		status->hits += hello[i].counters[0];
		status->misses += hello[i].counters[1];
		status->fills += hello[i].counters[2];
		status->refused += hello[i].counters[3];
	}
	pfree(hello);
	ok = ok && get_info(error, errlen);
	if (ok && sc_link_absent())
		strlcpy(status->warning, sc_link_why_absent(), sizeof(status->warning));
	return ok;
}

/* Let Redis forget old tombstones when it is time, or when they are many. */
bool
sc_link_rotate(char *error, Size errlen)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!sc_functions || !is_armed ||
		(sc_sent_since_rotation < MANY_TOMBSTONES &&
		 !TimestampDifferenceExceeds(last_rotation, now, sc_tombstone_time)))
		return true;
	for (int i = 0; i < sc_nnodes; i++)
	{
		sc_begin_function("scalecache_rotate", "0");
		sc_add_word(sc_link_source_id());
		sc_add_word(sc_snapshot.data);
		sc_send(&sc_nodes[i]);
	}
	if (!sc_exchange_checked(error, errlen))
		return false;
	last_rotation = now;
	sc_sent_since_rotation = 0;
	return true;
}

void
sc_link_set_snapshot(Snapshot snapshot)
{
	if (sc_snapshot.data == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		initStringInfo(&sc_snapshot);
		MemoryContextSwitchTo(old);
	}
	resetStringInfo(&sc_snapshot);
	sc_snapshot_text(snapshot, &sc_snapshot);
}
