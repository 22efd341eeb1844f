/*
 * settings.c: the cache's settings.
 *
 * What must always hold: a password never leaves this file but in sc_redis_url
 * and the ScRedisUrl that is connected with (url.c).  The setting's value as
 * the server knows it has none, and what the server would write to its log is
 * masked.
 */
#include "postgres.h"

#include <ctype.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "tcop/tcopprot.h"
#include "utils/elog.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "cache/cache.h"

const char *sc_redis_url = "";
int			sc_redis_timeout = 1000;
int			sc_redis_retry_max = 30000;
int			sc_session_timeout = 100;
int			sc_breaker_threshold = 3;
int			sc_max_keys_per_transaction = 10000;
int			sc_queue_limit = 262144;
bool		sc_synchronous_invalidation = false;
int			sc_synchronous_timeout = 5000;
int			sc_cache_size = 65536;
int			sc_lease_time = 2000;
int			sc_tombstone_time = 30000;

static char *shown_redis_url = NULL;	/* without its credentials */
static emit_log_hook_type prev_emit_log_hook = NULL;

/* ---- passwords ---- */

/* Overwrite the value of an option "...password=" before end. */
static bool
mask_options(char *s, char *end)
{
	static const char name[] = "password=";
	bool		masked = false;

	for (char *p = strstr(s, name); p && p < end; p = strstr(p, name))
		for (p += strlen(name); p < end && *p != '&'; p++)
		{
			*p = '*';
			masked = true;
		}
	return masked;
}

/*
 * Overwrite with '*' whatever stands between "://" and the last "@" of a URL,
 * and passwords after it.  Of Redis' URLs; with all, of any.  True when there
 * was something.
 */
static bool
mask(char *s, bool all)
{
	bool		masked = false;
	char	   *sep;

	for (char *p = s; (sep = strstr(p, "://")) != NULL; p = sep + 3)
	{
		char	   *scheme = sep;
		char	   *at = NULL;
		char	   *q;
		char		quote;

		while (scheme > s && (isalpha((unsigned char) scheme[-1]) || scheme[-1] == '+'))
			scheme--;
		if (!all && pg_strncasecmp(scheme, "redis", 5) != 0)
			continue;
		/* What a URL looks like, as our own messages say. */
		if (strncmp(sep + 3, "[[user]:", 8) == 0)
			continue;
		/* Within quotes it ends where they do, and may have blanks. */
		quote = scheme > s ? scheme[-1] : '\0';
		for (q = sep + 3; *q && *q != '\n'; q++)
		{
			if (*q == '@')
				at = q;
			else if (quote == '\'' && *q == '\'' && q[1] == '\'')
				q++;
			else if (quote == '\'' || quote == '"' ? *q == quote :
					 strchr(" \t\r'\"", *q) != NULL)
				break;
		}
		if (at)
		{
			memset(sep + 3, '*', at - sep - 3);
			masked = true;
		}
		if (mask_options(sep + 3, q))
			masked = true;
	}
	return masked;
}

static bool
names_the_setting(const char *s)
{
	static const char name[] = "redis_url";

	for (; *s; s++)
		if (pg_strncasecmp(s, name, strlen(name)) == 0)
			return true;
	return false;
}

/* A copy as long as the text, with stars for passwords, or NULL: it has none. */
char *
sc_mask_passwords(const char *text)
{
	char	   *copy;

	if (strstr(text, "://") == NULL ||
		(strchr(text, '@') == NULL && strstr(text, "password=") == NULL))
		return NULL;
	copy = pstrdup(text);
	if (mask(copy, names_the_setting(text)))
		return copy;
	pfree(copy);
	return NULL;
}

/*
 * The statement that sets it stays in pg_stat_activity until the next one: by
 * set_config() or within DO it is no command that shared.c knows.
 */
static void
hide_statement(void)
{
	char	   *masked = debug_query_string ? sc_mask_passwords(debug_query_string) : NULL;

	if (masked == NULL)
		return;
	pgstat_report_activity(STATE_RUNNING, masked);
	pfree(masked);
}

/*
 * What the server knows as the setting's value, and shows in more places than
 * SHOW, has its credentials masked.  The URL itself is what goes with it.
 */
static bool
check_redis_url(char **newval, void **extra, GucSource source)
{
	ScRedisUrl	url;
	const char *problem = NULL;
	const char *hint = NULL;
	bool		ok;
	char	   *real;
	char	   *sep;
	char	   *at = NULL;

	if (*newval == NULL || **newval == '\0')
		return true;
	hide_statement();
	ok = sc_redis_url_parse(*newval, &url, &problem, &hint);
	explicit_bzero(&url, sizeof(url));
	if (!ok)
	{
		/* The usual message would repeat the value. */
		GUC_check_errcode(ERRCODE_INVALID_PARAMETER_VALUE);
		GUC_check_errmsg("invalid value for parameter \"%s\"", "scalecache.redis_url");
		GUC_check_errdetail("%s", problem);
		GUC_check_errhint("%s", hint);
		return false;
	}
	real = strdup(*newval);
	if (real == NULL)
		return false;
	sep = strstr(*newval, "://") + 3;
	for (char *q = sep; *q && *q != '/' && *q != '?'; q++)
		if (*q == '@')
			at = q;
	if (at)
	{
		int			n = Min(3, (int) (at - sep));

		memset(sep, '*', n);
		memmove(sep + n, at, strlen(at) + 1);
	}
	for (char *q = sep; (q = strstr(q, "password=")) != NULL;)
	{
		Size		n;

		q += strlen("password=");
		n = strcspn(q, "&");
		memset(q, '*', Min(3, n));
		if (n > 3)
			memmove(q + 3, q + n, strlen(q + n) + 1);
	}
	*extra = real;
	return true;
}

static void
assign_redis_url(const char *newval, void *extra)
{
	sc_redis_url = extra ? (char *) extra : "";
}

static void
hide_in(char **text)
{
	char	   *masked = *text ? sc_mask_passwords(*text) : NULL;

	if (masked)
		*text = masked;
}

/* Reloads, ALTER SYSTEM and failed statements would log the value. */
static void
hide_passwords(ErrorData *edata)
{
	static bool busy = false;

	if (!busy && edata->output_to_server)
	{
		MemoryContext old = MemoryContextSwitchTo(ErrorContext);

		busy = true;
		hide_in(&edata->message);
		hide_in(&edata->detail);
		hide_in(&edata->detail_log);
		hide_in(&edata->hint);
		hide_in(&edata->context);
		hide_in(&edata->internalquery);
		if (debug_query_string && sc_mask_passwords(debug_query_string))
			edata->hide_stmt = true;
		busy = false;
		MemoryContextSwitchTo(old);
	}
	if (prev_emit_log_hook)
		prev_emit_log_hook(edata);
}

/* ---- the settings ---- */

static void
define_int(const char *name, const char *what, int *variable, int boot,
		   int min, int max, GucContext context, int flags)
{
	DefineCustomIntVariable(name, what, NULL, variable, boot, min, max,
							context, flags, NULL, NULL, NULL);
}

void
sc_cache_settings_init(void)
{
	DefineCustomStringVariable("scalecache.redis_url",
							   "Where Redis is, as a URL.",
							   "Empty for none.",
							   &shown_redis_url, "",
							   PGC_SUSET, GUC_SUPERUSER_ONLY,
							   check_redis_url, assign_redis_url, NULL);
	define_int("scalecache.redis_timeout",
			   "Longest wait for Redis in each step.",
			   &sc_redis_timeout, 1000, 1, 600000, PGC_SIGHUP, GUC_UNIT_MS);
	define_int("scalecache.redis_retry_max",
			   "Longest pause between two attempts to reach Redis.",
			   &sc_redis_retry_max, 30000, 10, 3600000, PGC_SIGHUP,
			   GUC_UNIT_MS);
	define_int("scalecache.session_timeout",
			   "Longest wait of a session for Redis before it does without.",
			   &sc_session_timeout, 100, 1, 600000, PGC_USERSET, GUC_UNIT_MS);
	define_int("scalecache.breaker_threshold",
			   "Failures in a row that open the circuit breaker.",
			   &sc_breaker_threshold, 3, 1, 1000, PGC_SIGHUP, 0);
	define_int("scalecache.max_keys_per_transaction",
			   "Keys of a transaction above which a whole rule is invalidated.",
			   &sc_max_keys_per_transaction, 10000, 1, 1000000, PGC_USERSET,
			   0);
	define_int("scalecache.queue_limit",
			   "Size of the queue at which whole rules replace keys.",
			   &sc_queue_limit, 262144, 64, MAX_KILOBYTES, PGC_SIGHUP,
			   GUC_UNIT_KB);
	DefineCustomBoolVariable("scalecache.synchronous_invalidation",
							 "COMMIT waits until its invalidations are acknowledged.",
							 NULL,
							 &sc_synchronous_invalidation, false,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	define_int("scalecache.synchronous_timeout",
			   "Longest wait of a COMMIT for its invalidations.",
			   &sc_synchronous_timeout, 5000, 1, 3600000, PGC_USERSET,
			   GUC_UNIT_MS);
	/* Without shared memory it has no meaning, and is not allowed. */
	if (process_shared_preload_libraries_in_progress)
		define_int("scalecache.cache_size",
				   "Shared memory of the server's own cache.",
				   &sc_cache_size, 65536, 0, MAX_KILOBYTES, PGC_POSTMASTER,
				   GUC_UNIT_KB);
	define_int("scalecache.lease_time",
			   "Time that one reader has for loading a missing key.",
			   &sc_lease_time, 2000, 1, 600000, PGC_SIGHUP, GUC_UNIT_MS);
	define_int("scalecache.tombstone_time",
			   "Time for which an invalidated key is remembered.",
			   &sc_tombstone_time, 30000, 100, 3600000, PGC_SIGHUP,
			   GUC_UNIT_MS);

	prev_emit_log_hook = emit_log_hook;
	emit_log_hook = hide_passwords;
}
