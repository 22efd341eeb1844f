/*
 * link.c: what the worker says to Redis, in Redis' words.
 *
 * The commands of a pipeline may be repeated at will: each of them leaves the
 * same behind, however often it comes.
 */
#include "postgres.h"

#include "access/transam.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "cache/cache.h"
#include "cache/link.h"

#define KEYS_PER_COMMAND	64

static ScRedis *redis = NULL;

/* The command being put together. */
static const char *argv[KEYS_PER_COMMAND + 8];
static size_t lens[KEYS_PER_COMMAND + 8];
static int	argc = 0;

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
	sc_redis_close(redis);
	redis = NULL;
	argc = 0;
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
	status->warning[0] = '\0';
	if (info.role[0] && strcmp(info.role, "master") != 0)
	{
		snprintf(error, errlen, "the server is a %s, and cannot be written to", info.role);
		return false;
	}
	return true;
}

bool
sc_link_open(const ScRedisUrl *url, ScRedisStatus *status, char *error, Size errlen)
{
	sc_link_close();
	redis = sc_redis_open(url, sc_redis_timeout, error, errlen);
	if (redis == NULL)
		return false;
	if (!get_info(status, error, errlen))
	{
		sc_link_close();
		return false;
	}
	return true;
}

bool
sc_link_ping(ScRedisStatus *status, char *error, Size errlen)
{
	replies.error[0] = '\0';
	argc = 0;
	add_word("PING");
	send_command();
	if (!exchange(check_reply, &replies, error, errlen))
		return false;
	if (replies.error[0] != '\0')
		strlcpy(error, replies.error, errlen);
	return replies.error[0] == '\0';
}

/* ---- a pipeline ---- */

void
sc_link_set_snapshot(Snapshot snapshot)
{
}

void
sc_link_begin(void)
{
	argc = 0;
	replies.error[0] = '\0';
}

static void
flush_deletes(void)
{
	if (argc > 0)
		send_command();
}

void
sc_link_delete(const char *key, uint32 keylen, TransactionId xid)
{
	if (argc == 0)
		add_word("UNLINK");
	add_arg(key, keylen);
	if (argc > KEYS_PER_COMMAND)
		flush_deletes();
}

void
sc_link_store(const char *key, uint32 keylen, const char *value, int64 ttl_ms,
			  TransactionId xid)
{
	char		ttl[32];

	flush_deletes();
	add_word("SET");
	add_arg(key, keylen);
	add_word(value);
	if (ttl_ms > 0)
	{
		snprintf(ttl, sizeof(ttl), INT64_FORMAT, ttl_ms);
		add_word("PX");
		add_word(ttl);
	}
	send_command();
}

void
sc_link_epoch(const char *prefix, uint32 length, TransactionId xid)
{
}

bool
sc_link_finish(char *error, Size errlen)
{
	flush_deletes();
	if (!exchange(check_reply, &replies, error, errlen))
		return false;
	if (replies.error[0] == '\0')
		return true;
	strlcpy(error, replies.error, errlen);
	return false;
}

/* ---- walking over the keys ---- */

typedef struct Found
{
	char		error[256];
	char	   *cursor;
	Size		size;
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
		sc_link_delete(key.str, (uint32) key.len, InvalidTransactionId);
	}
	flush_deletes();
}

/* One step: look at some keys, delete those that match. */
bool
sc_link_walk_step(const char *pattern, char *cursor, Size size, char *error, Size errlen)
{
	Found		found = {"", cursor, size};

	sc_link_begin();
	add_word("SCAN");
	add_word(cursor);
	add_word("MATCH");
	add_word(pattern);
	add_word("COUNT");
	add_word("1000");
	send_command();
	if (!exchange(read_scan, &found, error, errlen))
		return false;
	strlcpy(error, found.error, errlen);
	return found.error[0] == '\0';
}
