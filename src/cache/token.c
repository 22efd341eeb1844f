/*
 * token.c: snapshots as text, for whoever fills a cache.
 *
 * A token says which transactions its query saw, and where: in which cluster,
 * on which timeline, and since which start of the server, as ids assigned
 * after the last checkpoint may come again after a crash.  A standby's ids
 * are all in the WAL that it replays, so they never do.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "cache/cache.h"
#include "cache/token.h"

PG_FUNCTION_INFO_V1(scalecache_cache_token);

/* The id with its epoch, which is that of the next id or the one before. */
uint64
sc_full_xid(TransactionId xid, FullTransactionId next)
{
	uint32		epoch = EpochFromFullTransactionId(next);

	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return U64FromFullTransactionId(FullTransactionIdFromEpochAndXid(epoch, xid));
}

/* "xmax:xid,xid": what it sees is below xmax and not in the list. */
void
sc_snapshot_text(Snapshot snapshot, StringInfo buf)
{
	/* On a standby they are all here, and those of subtransactions. */
	TransactionId *running = snapshot->takenDuringRecovery ? snapshot->subxip : snapshot->xip;
	int			n = snapshot->takenDuringRecovery ? snapshot->subxcnt : (int) snapshot->xcnt;
	FullTransactionId next = ReadNextFullTransactionId();

	appendStringInfo(buf, UINT64_FORMAT ":", sc_full_xid(snapshot->xmax, next));
	for (int i = 0; i < n; i++)
		appendStringInfo(buf, i ? "," UINT64_FORMAT : UINT64_FORMAT, sc_full_xid(running[i], next));
}

TimeLineID
sc_timeline(void)
{
	TimeLineID	tli;

	if (!RecoveryInProgress())
		return GetWALInsertionTimeLine();
	(void) GetXLogReplayRecPtr(&tli);
	return tli;
}

/* The token of a snapshot that sees nothing of this transaction's own. */
void
sc_token_text(Snapshot snapshot, StringInfo buf)
{
	appendStringInfo(buf, UINT64_FORMAT ":%u:%s:", GetSystemIdentifier(), sc_timeline(),
					 snapshot->takenDuringRecovery ? "s" : sc_cache_boot_id());
	/* A value must not outlive, through a crash, the commit that made it. */
	if (!snapshot->takenDuringRecovery)
		sc_cache_flush_commits();
	sc_snapshot_text(snapshot, buf);
}

/* The snapshot of the query that calls; "none" is never accepted. */
Datum
scalecache_cache_token(PG_FUNCTION_ARGS)
{
	Snapshot	snapshot = GetActiveSnapshot();
	StringInfoData buf;

	/* What it has written itself may be in the result, and be rolled back. */
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		PG_RETURN_TEXT_P(cstring_to_text("none"));
	initStringInfo(&buf);
	sc_token_text(snapshot, &buf);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(buf.data, buf.len));
}
