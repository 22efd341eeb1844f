/*
 * redis.c: connections of a worker or a session; the only file that includes
 * hiredis.
 *
 * Nothing here blocks: the socket is non-blocking, every wait is for the
 * latch as well and ends at a deadline, and interrupts are served.  What
 * hiredis allocates hangs on the ScRedis, and that in a list of all of them,
 * so nothing leaks when one throws: whoever catches it, or begins anew,
 * closes them all.  After any failure a connection is of no more use; its
 * owner closes it and opens another.
 */
#include "postgres.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "lib/ilist.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "cache/cache.h"

#define MAX_REPLY_BYTES		(64 * 1024 * 1024)

struct ScRedis
{
	dlist_node	node;			/* in the list of all */
	redisContext *context;
	bool		fd_acquired;
	int			expected;		/* replies not yet read */
	bool		failed;
	size_t		sent;			/* of the bytes to be sent */
	WaitEventSet *set;			/* made at the first wait */
	int			socket_at;		/* its place in the set */
};

static dlist_head all = DLIST_STATIC_INIT(all);

static void
problem(char *err, Size errlen, const char *fmt, const char *arg)
{
	snprintf(err, errlen, fmt, arg);
}

static long
time_left(TimestampTz deadline)
{
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
}

static void
make_set(ScRedis *redis, int event)
{
	WaitEventSet *set = CreateWaitEventSet(TopMemoryContext, 3);

	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	redis->socket_at = AddWaitEventToSet(set, event, redis->context->fd, NULL, NULL);
	redis->set = set;
}

/* Wait until the socket is ready; false at the deadline. */
static bool
wait_for_socket(ScRedis *redis, int event, TimestampTz deadline)
{
	if (redis->set == NULL)
		make_set(redis, event);
	ModifyWaitEvent(redis->set, redis->socket_at, event, NULL);
	for (;;)
	{
		long		ms = time_left(deadline);
		WaitEvent	occurred;

		if (ms <= 0)
			return false;
		if (WaitEventSetWait(redis->set, ms, &occurred, 1, PG_WAIT_EXTENSION) == 0)
			continue;
		if (occurred.events & event)
			return true;
		if (occurred.events & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			/* A writer's wake-up is found again by the next turn. */
			CHECK_FOR_INTERRUPTS();
		}
	}
}

void
sc_redis_close(ScRedis *redis)
{
	if (redis == NULL)
		return;
	if (redis->context)
		redisFree(redis->context);
	if (redis->set)
		FreeWaitEventSet(redis->set);
	if (redis->fd_acquired)
		ReleaseExternalFD();
	dlist_delete(&redis->node);
	pfree(redis);
}

/* Their owners must not use them any more. */
void
sc_redis_close_all(void)
{
	while (!dlist_is_empty(&all))
		sc_redis_close(dlist_head_element(ScRedis, node, &all));
}

bool
sc_redis_ok(ScRedis *redis)
{
	return redis != NULL && redis->context != NULL && !redis->failed;
}

/* The peer's address as digits; empty for a socket in the file system. */
void
sc_redis_address(ScRedis *redis, char *buf, Size size)
{
	struct sockaddr_storage addr;
	socklen_t	len = sizeof(addr);

	if (!sc_redis_ok(redis) ||
		getpeername(redis->context->fd, (struct sockaddr *) &addr, &len) != 0 ||
		addr.ss_family == AF_UNIX ||
		getnameinfo((struct sockaddr *) &addr, len, buf, size, NULL, 0, NI_NUMERICHOST) != 0)
		buf[0] = '\0';
}

static bool
fail(ScRedis *redis, char *err, Size errlen, const char *fmt)
{
	const char *why = "out of memory";

	if (redis->context && redis->context->err)
		why = redis->context->errstr;
	problem(err, errlen, fmt, why);
	redis->failed = true;
	return false;
}

/* Wait until the connection is there. */
static bool
finish_connect(ScRedis *redis, TimestampTz deadline, char *err, Size errlen)
{
	int			error = 0;
	socklen_t	len = sizeof(error);

	if (!wait_for_socket(redis, WL_SOCKET_CONNECTED, deadline))
	{
		problem(err, errlen, "%s", "timeout while connecting");
		return false;
	}
	if (getsockopt(redis->context->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		error = errno;
	if (error != 0)
	{
		problem(err, errlen, "could not connect: %s", strerror(error));
		return false;
	}
	return true;
}

/*
 * Send what the socket takes.  redisBufferWrite moves what is left to the
 * buffer's beginning each time, which a large value takes too long for.
 */
static bool
send_some(ScRedis *redis, bool *progress)
{
	redisContext *c = redis->context;
	ssize_t		n;

	*progress = false;
	if (c->err)
		return false;
	if (redis->sent < sdslen(c->obuf))
	{
		n = send(c->fd, c->obuf + redis->sent, sdslen(c->obuf) - redis->sent, MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
		{
			c->err = REDIS_ERR_IO;
			strlcpy(c->errstr, strerror(errno), sizeof(c->errstr));
			return false;
		}
		if (n > 0)
		{
			redis->sent += n;
			*progress = true;
		}
	}
	return true;
}

static bool
all_sent(ScRedis *redis)
{
	return redis->sent == sdslen(redis->context->obuf);
}

/*
 * Send all.  A worker has the timeout for each step that makes progress, as a
 * value may take its time; sessions for all of it.
 */
static bool
flush_out(ScRedis *redis, TimestampTz deadline, int timeout_ms, char *err, Size errlen)
{
	for (;;)
	{
		bool		progress;

		if (!send_some(redis, &progress))
			return fail(redis, err, errlen, "could not send: %s");
		if (all_sent(redis))
		{
			sdsfree(redis->context->obuf);
			redis->context->obuf = sdsempty();
			redis->sent = 0;
			return true;
		}
		if (progress && IsBackgroundWorker)
			deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
		if (!wait_for_socket(redis, WL_SOCKET_WRITEABLE, deadline))
		{
			redis->failed = true;
			problem(err, errlen, "%s", "timeout while sending");
			return false;
		}
	}
}

static void
convert(const redisReply *r, ScReply *reply)
{
	memset(reply, 0, sizeof(*reply));
	reply->str = r->str ? r->str : "";
	reply->len = r->len;
	reply->integer = r->integer;
	reply->elements = (int) r->elements;
	reply->impl = r;
	switch (r->type)
	{
		case REDIS_REPLY_STRING:
			reply->type = SC_REPLY_STRING;
			break;
		case REDIS_REPLY_INTEGER:
			reply->type = SC_REPLY_INTEGER;
			break;
		case REDIS_REPLY_NIL:
			reply->type = SC_REPLY_NIL;
			break;
		case REDIS_REPLY_STATUS:
			reply->type = SC_REPLY_STATUS;
			break;
		case REDIS_REPLY_ARRAY:
			reply->type = SC_REPLY_ARRAY;
			break;
		default:
			reply->type = SC_REPLY_ERROR;
			break;
	}
}

void
sc_reply_element(const ScReply *reply, int i, ScReply *element)
{
	const redisReply *r = reply->impl;

	memset(element, 0, sizeof(*element));
	element->type = SC_REPLY_NIL;
	element->str = "";
	if (r && r->type == REDIS_REPLY_ARRAY && i >= 0 && i < (int) r->elements &&
		r->element[i])
		convert(r->element[i], element);
}

/* Hand over the replies that are complete. */
static bool
take_replies(ScRedis *redis, int *n, ScReplyCallback callback, void *arg,
			 char *err, Size errlen)
{
	while (redis->expected > 0)
	{
		void	   *r = NULL;
		ScReply		reply;

		if (redisGetReplyFromReader(redis->context, &r) != REDIS_OK)
			return fail(redis, err, errlen, "bad reply: %s");
		if (r == NULL)
			break;
		convert(r, &reply);
		if (callback)
			callback((*n)++, &reply, arg);
		freeReplyObject(r);
		redis->expected--;
	}
	return true;
}

bool
sc_redis_flush(ScRedis *redis, int timeout_ms, char *err, Size errlen)
{
	return flush_out(redis, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms),
					 timeout_ms, err, errlen);
}

/*
 * Send what was appended and read a reply to each command.  The timeout is
 * for each step that makes progress.
 */
bool
sc_redis_exchange(ScRedis *redis, int timeout_ms, ScReplyCallback callback,
				  void *arg, char *err, Size errlen)
{
	int			n = 0;
	size_t		pending = 0;
	TimestampTz deadline;

	deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	while (redis->expected > 0)
	{
		int			before = redis->expected;

		/* The callback may have appended more. */
		if (!all_sent(redis))
		{
			if (!flush_out(redis, deadline, timeout_ms, err, errlen))
				return false;
			if (IsBackgroundWorker)
				deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
		}
		if (!wait_for_socket(redis, WL_SOCKET_READABLE, deadline))
		{
			redis->failed = true;
			problem(err, errlen, "%s", "timeout while waiting for a reply");
			return false;
		}
		if (redisBufferRead(redis->context) != REDIS_OK)
			return fail(redis, err, errlen, "could not receive: %s");
		if (!take_replies(redis, &n, callback, arg, err, errlen))
			return false;
		pending = redis->context->reader->len - redis->context->reader->pos;
		if (pending > MAX_REPLY_BYTES)
		{
			redis->failed = true;
			problem(err, errlen, "%s", "a reply is too long");
			return false;
		}
		if (redis->expected != before)
			deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	}
	/* A reply nobody asked for means that we are out of step. */
	if (pending > 0)
	{
		redis->failed = true;
		problem(err, errlen, "%s", "a reply that no command was sent for");
		return false;
	}
	return true;
}

void
sc_redis_append(ScRedis *redis, int argc, const char **argv, const size_t *lens)
{
	if (redisAppendCommandArgv(redis->context, argc, argv, lens) != REDIS_OK)
		redis->failed = true;
	redis->expected++;
}

/* ---- opening ---- */

typedef struct Greeting
{
	bool		failed;
	char	   *err;
	Size		errlen;
} Greeting;

static void
check_greeting(int n, const ScReply *reply, void *arg)
{
	Greeting   *g = arg;

	if (reply->type == SC_REPLY_ERROR && !g->failed)
	{
		g->failed = true;
		snprintf(g->err, g->errlen, "%s", reply->str);
	}
	else if (reply->type != SC_REPLY_STATUS && !g->failed)
	{
		g->failed = true;
		snprintf(g->err, g->errlen, "%s", "the server does not speak the Redis protocol");
	}
}

/* Log in and choose the database. */
static bool
greet(ScRedis *redis, const ScRedisPeer *peer, int timeout_ms, char *err, Size errlen)
{
	Greeting	g = {false, err, errlen};
	const char *argv[3];
	char		number[16];

	if (peer->password[0] != '\0')
	{
		int			argc = 0;

		argv[argc++] = "AUTH";
		if (peer->user[0] != '\0')
			argv[argc++] = peer->user;
		argv[argc++] = peer->password;
		sc_redis_append(redis, argc, argv, NULL);
	}
	snprintf(number, sizeof(number), "%d", peer->db);
	argv[0] = peer->db < 0 ? "PING" : "SELECT";
	argv[1] = number;
	sc_redis_append(redis, peer->db < 0 ? 1 : 2, argv, NULL);
	if (!sc_redis_exchange(redis, timeout_ms, check_greeting, &g, err, errlen))
		return false;
	return !g.failed;
}

/* NULL when it cannot be had; err then says why. */
ScRedis *
sc_redis_open(const ScRedisPeer *peer, int timeout_ms, char *err, Size errlen)
{
	ScRedis    *redis = MemoryContextAllocZero(TopMemoryContext, sizeof(ScRedis));
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	int			one = 1;

	dlist_push_tail(&all, &redis->node);
	redis->fd_acquired = AcquireExternalFD();
	if (!redis->fd_acquired)
	{
		problem(err, errlen, "%s", "too many open files");
		sc_redis_close(redis);
		return NULL;
	}
	redis->context = peer->is_unix ? redisConnectUnixNonBlock(peer->host) :
		redisConnectNonBlock(peer->host, peer->port);
	if (redis->context == NULL || redis->context->err)
	{
		fail(redis, err, errlen, "could not connect: %s");
		sc_redis_close(redis);
		return NULL;
	}
	if (!peer->is_unix)
		(void) setsockopt(redis->context->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (!finish_connect(redis, deadline, err, errlen) ||
		!greet(redis, peer, (int) Max(1, time_left(deadline)), err, errlen))
	{
		sc_redis_close(redis);
		return NULL;
	}
	return redis;
}
