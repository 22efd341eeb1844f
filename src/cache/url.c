/*
 * url.c: what a Redis URL means.
 *
 *   redis://[[user]:password@]host[:port][/db]
 *   redis+unix://[[user]:password@]/path[?db=number]
 *   redis+sentinel://[[user]:password@]host[:port][,...]/master[/db][?options]
 *   redis+cluster://[[user]:password@]host[:port][,...]
 *
 * User, password, path and the master's name may have %xx for a byte.
 */
#include "postgres.h"

#include <ctype.h>
#include <limits.h>

#include "cache/cache.h"

#define SINGLE_FORM \
	"redis://[[user]:password@]host[:port][/db]"
#define UNIX_FORM \
	"redis+unix://[[user]:password@]/path[?db=number]"
#define SENTINEL_FORM \
	"redis+sentinel://[[user]:password@]host[:port][,host[:port]...]/master[/db]"
#define CLUSTER_FORM \
	"redis+cluster://[[user]:password@]host[:port][,host[:port]...]"

typedef struct Scheme
{
	const char *prefix;
	ScUrlKind	kind;
	bool		is_unix;
	int			port;
	const char *hint;
} Scheme;

static const Scheme schemes[] = {
	{"redis://", SC_URL_SINGLE, false, 6379,
	"A URL of one server looks like " SINGLE_FORM "."},
	{"redis+unix://", SC_URL_SINGLE, true, 0,
	"A URL of a socket looks like " UNIX_FORM "."},
	{"redis+sentinel://", SC_URL_SENTINEL, false, 26379,
	"A URL of Sentinels looks like " SENTINEL_FORM
	", and options sentinel_user and sentinel_password may follow a \"?\"."},
	{"redis+cluster://", SC_URL_CLUSTER, false, 6379,
	"A URL of a cluster looks like " CLUSTER_FORM "."}
};

/* Decode %xx from src to src + len; false when it does not fit or is bad. */
static bool
decode(const char *src, int len, char *dst, Size size)
{
	Size		n = 0;

	for (int i = 0; i < len; i++)
	{
		char		c = src[i];

		if (c == '%')
		{
			char		hex[3];

			if (i + 2 >= len || !isxdigit((unsigned char) src[i + 1]) ||
				!isxdigit((unsigned char) src[i + 2]))
				return false;
			hex[0] = src[i + 1];
			hex[1] = src[i + 2];
			hex[2] = '\0';
			c = (char) strtol(hex, NULL, 16);
			i += 2;
		}
		if (c == '\0' || n + 1 >= size)
			return false;
		dst[n++] = c;
	}
	dst[n] = '\0';
	return true;
}

static bool
parse_number(const char *s, int len, int max, int *result)
{
	int64		n = 0;

	if (len == 0 || len > 9)
		return false;
	for (int i = 0; i < len; i++)
	{
		if (!isdigit((unsigned char) s[i]))
			return false;
		n = n * 10 + (s[i] - '0');
	}
	if (n > max)
		return false;
	*result = (int) n;
	return true;
}

/* user:password, :password or user, before the @ */
static const char *
parse_credentials(const char *s, int len, ScRedisUrl *result)
{
	const char *colon = memchr(s, ':', len);
	int			userlen = colon ? (int) (colon - s) : len;

	if (!decode(s, userlen, result->user, sizeof(result->user)))
		return "The user is too long, or a % in it is not followed by two hexadecimal digits.";
	if (colon && !decode(colon + 1, len - userlen - 1, result->password,
						 sizeof(result->password)))
		return "The password is too long, or a % in it is not followed by two hexadecimal digits.";
	return NULL;
}

/* host, host:port, [v6]:port */
static const char *
parse_host(const char *s, Size len, const Scheme *scheme, ScRedisUrl *result)
{
	const char *end = s + len;
	const char *colon;
	int			hostlen;
	ScHost	   *host;

	if (result->nhosts == SC_HOSTS_MAX)
		return "It names more than 16 hosts.";
	host = &result->hosts[result->nhosts++];
	host->port = scheme->port;
	if (len > 0 && *s == '[')
	{
		const char *close = memchr(s, ']', len);

		if (close == NULL)
			return "A \"[\" of an address has no \"]\".";
		hostlen = (int) (close - s - 1);
		s++;
		colon = close + 1 < end ? close + 1 : NULL;
		if (colon && *colon != ':')
			return "After the \"]\" of an address there is something other than a port.";
	}
	else
	{
		colon = memchr(s, ':', len);
		hostlen = (int) (colon ? colon - s : (ptrdiff_t) len);
	}
	if (hostlen == 0 && scheme->kind == SC_URL_SENTINEL)
		return "It names no host where a Sentinel is.";
	if (hostlen == 0 && scheme->kind == SC_URL_CLUSTER)
		return "It names no host where a node of the cluster is.";
	if (hostlen == 0)
		strlcpy(host->host, "localhost", sizeof(host->host));
	else if (!decode(s, hostlen, host->host, sizeof(host->host)))
		return "A host's name is too long, or a % in it is not followed by two hexadecimal digits.";
	if (colon && (!parse_number(colon + 1, (int) (end - colon - 1), 65535,
								&host->port) || host->port == 0))
		return "The port is not a number from 1 to 65535.";
	return NULL;
}

static const char *
parse_hosts(const char *p, const char *end, const Scheme *scheme, ScRedisUrl *result)
{
	const char *why = NULL;
	bool		more = true;

	/* Only these may name several. */
	bool		list = scheme->kind != SC_URL_SINGLE;

	if (!list && memchr(p, ',', end - p))
		return "It names several hosts.";
	while (more && why == NULL)
	{
		const char *comma = list ? memchr(p, ',', end - p) : NULL;
		const char *stop = comma ? comma : end;

		why = parse_host(p, stop - p, scheme, result);
		more = comma != NULL;
		p = stop + 1;
	}
	return why;
}

static const char *
parse_db(const char *s, const char *end, ScRedisUrl *result)
{
	if (parse_number(s, (int) (end - s), INT_MAX, &result->db))
		return NULL;
	return "The database is not a number.";
}

/* What comes after the hosts, a "/" first or nothing at all */
static const char *
parse_path(const char *p, const char *end, const Scheme *scheme, ScRedisUrl *result)
{
	const char *slash;
	const char *why;

	if (p < end)
		p++;
	switch (scheme->kind)
	{
		case SC_URL_SINGLE:
			return p < end ? parse_db(p, end, result) : NULL;
		case SC_URL_CLUSTER:
			if (p < end && (why = parse_db(p, end, result)) != NULL)
				return why;
			return result->db == 0 ? NULL : "A Redis Cluster has no databases but 0.";
		case SC_URL_SENTINEL:
			slash = memchr(p, '/', end - p);
			if (slash == NULL)
				slash = end;
			if (p == slash)
				return "It does not name the master that the Sentinels know.";
			if (!decode(p, (int) (slash - p), result->master, sizeof(result->master)))
				return "The master's name is too long, or a % in it is not followed by two hexadecimal digits.";
			return slash + 1 < end ? parse_db(slash + 1, end, result) : NULL;
	}
	return NULL;
}

/* name=value of s to s + len: into dst if it is this one */
static bool
option(const char *s, int len, const char *name, char *dst, Size size, bool *ok)
{
	int			n = (int) strlen(name);

	if (len <= n || strncmp(s, name, n) != 0 || s[n] != '=')
		return false;
	*ok = decode(s + n + 1, len - n - 1, dst, size);
	return true;
}

/* name=value&name=value */
static const char *
parse_options(const char *s, const Scheme *scheme, ScRedisUrl *result)
{
	for (;;)
	{
		int			len = (int) strcspn(s, "&");
		bool		ok = true;

		if (scheme->kind == SC_URL_SENTINEL &&
			(option(s, len, "sentinel_user", result->sentinel_user,
					sizeof(result->sentinel_user), &ok) ||
			 option(s, len, "sentinel_password", result->sentinel_password,
					sizeof(result->sentinel_password), &ok)))
		{
			if (!ok)
				return "An option's value is too long, or a % in it is not followed by two hexadecimal digits.";
		}
		else if (len > 3 && strncmp(s, "db=", 3) == 0)
		{
			const char *why = parse_db(s + 3, s + len, result);

			if (why)
				return why;
		}
		else
			return "It has an option that is not known.";
		if (s[len] == '\0')
			return NULL;
		s += len + 1;
	}
}

/* Why it cannot be used, or NULL */
static const char *
parse(const char *p, const Scheme *scheme, ScRedisUrl *result)
{
	const char *options = strchr(p, '?');
	const char *end = options ? options : p + strlen(p);
	const char *path = memchr(p, '/', end - p);
	const char *at = NULL;
	const char *why;

	if (path == NULL)
		path = end;
	for (const char *q = p; q < path; q++)
		if (*q == '@')
			at = q;
	if (at)
	{
		why = parse_credentials(p, (int) (at - p), result);
		if (why)
			return why;
		p = at + 1;
	}
	if (options && (why = parse_options(options + 1, scheme, result)) != NULL)
		return why;
	if (scheme->is_unix)
	{
		result->nhosts = 1;
		if (p != path || path + 1 >= end)
			return "It does not name the path of a socket.";
		if (!decode(path, (int) (end - path), result->hosts[0].host,
					sizeof(result->hosts[0].host)))
			return "The path is too long, or a % in it is not followed by two hexadecimal digits.";
		return NULL;
	}
	why = parse_hosts(p, path, scheme, result);
	if (why == NULL)
		why = parse_path(path, end, scheme, result);
	return why;
}

/* False with the problem and a hint, which do not repeat the URL. */
bool
sc_redis_url_parse(const char *url, ScRedisUrl *result, const char **problem,
				   const char **hint)
{
	memset(result, 0, sizeof(*result));
	if (strncmp(url, "rediss://", 9) == 0)
	{
		*problem = "TLS is not supported.";
		*hint = "Use redis:// in a network that is trusted, or through a tunnel such as stunnel.";
		return false;
	}
	for (int i = 0; i < lengthof(schemes); i++)
	{
		const Scheme *scheme = &schemes[i];
		Size		n = strlen(scheme->prefix);

		if (strncmp(url, scheme->prefix, n) != 0)
			continue;
		result->kind = scheme->kind;
		result->is_unix = scheme->is_unix;
		*hint = scheme->hint;
		*problem = parse(url + n, scheme, result);
		return *problem == NULL;
	}
	*problem = "It begins with none of redis://, redis+unix://, redis+sentinel:// and redis+cluster://.";
	*hint = "A URL looks like " SINGLE_FORM ", " UNIX_FORM ", " SENTINEL_FORM " or " CLUSTER_FORM ".";
	return false;
}
