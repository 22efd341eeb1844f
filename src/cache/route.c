/*
 * route.c: which servers a URL leads to.
 *
 * Sentinels are asked in turn, those that have answered first.  What they say
 * may be out of date, so the server is asked for its role as well; where it is
 * not a master the next Sentinel is asked.  Nothing of their answers is kept
 * from one connection to the next.
 */
#include "postgres.h"

#include "cache/cache.h"
#include "cache/route.h"

/* Where the last good answer came from. */
static int	first_sentinel = 0;

void
sc_host_text(const ScHost *host, char *buf, Size size)
{
	if (host->port == 0)
		strlcpy(buf, host->host, size);
	else
		snprintf(buf, size, strchr(host->host, ':') ? "[%s]:%d" : "%s:%d",
				 host->host, host->port);
}

ScRedis *
sc_route_connect(const ScRedisUrl *url, const ScHost *host, int timeout_ms,
				 char *error, Size errlen)
{
	ScRedisPeer peer = {url->is_unix, host->host, host->port, url->user,
	url->password, url->db};

	return sc_redis_open(&peer, timeout_ms, error, errlen);
}

/* ---- Sentinel ---- */

static ScRedis *
connect_sentinel(const ScRedisUrl *url, int i, char *error, Size errlen)
{
	ScRedisPeer peer = {false, url->hosts[i].host, url->hosts[i].port,
	url->sentinel_user, url->sentinel_password, -1};

	return sc_redis_open(&peer, sc_redis_timeout, error, errlen);
}

typedef struct MasterAnswer
{
	ScHost	   *master;
	char	   *error;
	Size		errlen;
	bool		ok;
} MasterAnswer;

static void
read_master(int n, const ScReply *reply, void *arg)
{
	MasterAnswer *a = arg;
	ScReply		host;
	ScReply		port;

	sc_reply_element(reply, 0, &host);
	sc_reply_element(reply, 1, &port);
	if (reply->type == SC_REPLY_ERROR)
		strlcpy(a->error, reply->str, a->errlen);
	else if (reply->type == SC_REPLY_NIL)
		strlcpy(a->error, "it knows no master of that name", a->errlen);
	else if (host.type != SC_REPLY_STRING || port.type != SC_REPLY_STRING ||
			 host.len == 0 || host.len >= sizeof(a->master->host) ||
			 atoi(port.str) <= 0 || atoi(port.str) > 65535)
		strlcpy(a->error, "unexpected reply to SENTINEL", a->errlen);
	else
	{
		strlcpy(a->master->host, host.str, sizeof(a->master->host));
		a->master->port = atoi(port.str);
		a->ok = true;
	}
}

/* What that Sentinel says. */
static bool
ask_sentinel(const ScRedisUrl *url, int i, ScHost *master, char *error, Size errlen)
{
	const char *argv[] = {"SENTINEL", "get-master-addr-by-name", url->master};
	MasterAnswer a = {master, error, errlen, false};
	ScRedis    *redis = connect_sentinel(url, i, error, errlen);

	if (redis == NULL)
		return false;
	sc_redis_append(redis, lengthof(argv), argv, NULL);
	if (!sc_redis_exchange(redis, sc_redis_timeout, read_master, &a, error, errlen))
		a.ok = false;
	sc_redis_close(redis);
	return a.ok;
}

static void
read_role(int n, const ScReply *reply, void *arg)
{
	MasterAnswer *a = arg;
	ScReply		role;

	sc_reply_element(reply, 0, &role);
	if (reply->type == SC_REPLY_ERROR)
		strlcpy(a->error, reply->str, a->errlen);
	else if (role.type != SC_REPLY_STRING)
		strlcpy(a->error, "unexpected reply to ROLE", a->errlen);
	else if (strcmp(role.str, "master") != 0)
		snprintf(a->error, a->errlen, "the server named is a %s, not a master", role.str);
	else
		a->ok = true;
}

static bool
is_master(ScRedis *redis, char *error, Size errlen)
{
	const char *argv[] = {"ROLE"};
	MasterAnswer a = {NULL, error, errlen, false};

	sc_redis_append(redis, 1, argv, NULL);
	return sc_redis_exchange(redis, sc_redis_timeout, read_role, &a, error, errlen) &&
		a.ok;
}

/* Say in front of the error whom it is about. */
static void
blame(char *error, Size errlen, const char *whom, const ScHost *host)
{
	char		why[256];
	char		name[300];

	strlcpy(why, error, sizeof(why));
	sc_host_text(host, name, sizeof(name));
	snprintf(error, errlen, "%s %s: %s", whom, name, why);
}

ScRedis *
sc_sentinel_connect(const ScRedisUrl *url, ScHost *master, char *error, Size errlen)
{
	for (int k = 0; k < url->nhosts; k++)
	{
		int			i = (first_sentinel + k) % url->nhosts;
		ScRedis    *redis;

		if (!ask_sentinel(url, i, master, error, errlen))
		{
			blame(error, errlen, "Sentinel", &url->hosts[i]);
			continue;
		}
		redis = sc_route_connect(url, master, sc_redis_timeout, error, errlen);
		if (redis && is_master(redis, error, errlen))
		{
			first_sentinel = i;
			return redis;
		}
		sc_redis_close(redis);
		blame(error, errlen, "master", master);
	}
	return NULL;
}

bool
sc_sentinel_agrees(const ScRedisUrl *url, const ScHost *master)
{
	for (int k = 0; k < url->nhosts; k++)
	{
		int			i = (first_sentinel + k) % url->nhosts;
		ScHost		named;
		char		error[256];

		if (ask_sentinel(url, i, &named, error, sizeof(error)))
			return strcmp(named.host, master->host) == 0 && named.port == master->port;
	}
	return true;
}
