/*
 * limit.c: what users' functions may take of a worker's time.
 *
 * A worker calls functions of whoever made a rollup or ran a statement, with
 * nobody there to stop them.  One may catch that it is canceled and go on, so
 * it is canceled again and again, and at last the worker ends, which nothing
 * can catch.  What the worker leaves for its successor, lest that do the same,
 * is its own business.
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "base/limit.h"

/*
 * How often it is canceled, and after how long again: after the same time, but
 * not so soon that what looks for interrupts now and then seems to go on.
 */
#define CANCELS			5
#define AGAIN_LEAST_MS	1000
#define AGAIN_MOST_MS	10000

static TimeoutId timer = MAX_TIMEOUTS;
static volatile sig_atomic_t reached = 0;	/* times */

static void
time_is_over(void)
{
	reached++;
	kill(MyProcPid, reached <= CANCELS ? SIGINT : SIGTERM);
}

void
sc_limit_begin(int ms)
{
	if (timer == MAX_TIMEOUTS)
		timer = RegisterTimeout(USER_TIMEOUT, time_is_over);
	reached = 0;
	enable_timeout_every(timer,
						 TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms),
						 Max(AGAIN_LEAST_MS, Min(ms, AGAIN_MOST_MS)));
}

bool
sc_limit_end(void)
{
	if (timer != MAX_TIMEOUTS)
		disable_timeout(timer, false);
	if (reached > 0)
		QueryCancelPending = false;
	return reached > 0;
}

bool
sc_limit_killed(void)
{
	return reached > CANCELS;
}
