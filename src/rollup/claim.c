/*
 * claim.c: which block of a delta table a session appends to.
 *
 * Each session keeps to a block of its own, so that writers do not queue for
 * one page, and need not ask for the size of the table every time.  The block
 * is claimed in shared memory, where a fold can see it and take it back: once
 * it has, and no append is going on, nothing more goes to the blocks that the
 * table had, except to the last one.  While writers are at work a fold leaves
 * them their blocks, and takes back those that have fallen behind.
 *
 * A claim is one 64-bit word.  Its owner sets the busy bit, by compare and
 * exchange, before it appends, and is then the only one who may change it; a
 * fold clears words that are not busy.  No lock is held, nobody waits.
 *
 * Without shared memory (the library was not preloaded) nothing is claimed,
 * and appends hold RowExclusiveLock instead: see append.c.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/backendid.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#include "rollup/rollup.h"

/* Delta tables that a session can have blocks in at once. */
#define SC_CLAIMS		8

/* Table in the upper half, block + 1 or 0 in the lower one, and one bit. */
#define SC_CLAIM_BUSY	UINT64CONST(0x80000000)
#define ClaimWord(relid, block) \
	(((uint64) (relid) << 32) | (((uint64) (block) + 1) & 0x7fffffff))
#define ClaimTable(word)	((Oid) ((word) >> 32))
#define ClaimBlock(word)	((BlockNumber) (((word) & 0x7fffffff) - 1))

static pg_atomic_uint64 *claims = NULL; /* SC_CLAIMS for each backend */
static pg_atomic_uint64 *busy = NULL;	/* ours, while appending */
static shmem_request_hook_type prev_request = NULL;
static shmem_startup_hook_type prev_startup = NULL;

static Size
claims_size(void)
{
	return mul_size(MaxBackends, SC_CLAIMS * sizeof(pg_atomic_uint64));
}

static void
request(void)
{
	if (prev_request)
		prev_request();
	RequestAddinShmemSpace(claims_size());
}

static void
startup(void)
{
	bool		found;

	if (prev_startup)
		prev_startup();
	claims = ShmemInitStruct("scalecache claims", claims_size(), &found);
	if (!found)
		for (int i = 0; i < MaxBackends * SC_CLAIMS; i++)
			pg_atomic_init_u64(&claims[i], 0);
}

/* Call while the library is being preloaded. */
void
sc_claims_init(void)
{
	prev_request = shmem_request_hook;
	shmem_request_hook = request;
	prev_startup = shmem_startup_hook;
	shmem_startup_hook = startup;
}

/*
 * Start to append.  The session's block is that one if the result is true,
 * else the last block of the table, to be looked up after this call.  *used
 * is false when claims are not in use.
 */
pg_attribute_hot bool
sc_claim_begin(Oid relid, BlockNumber block, bool *used)
{
	pg_atomic_uint64 *mine;
	uint64		word;
	uint64		want;

	*used = claims != NULL && MyBackendId != InvalidBackendId;
	if (!*used)
		return false;
	mine = &claims[(MyBackendId - 1) * SC_CLAIMS + murmurhash32(relid) % SC_CLAIMS];
	word = pg_atomic_read_u64(mine);
	do
	{
		want = ClaimWord(relid, InvalidBlockNumber);
		if (block != InvalidBlockNumber && word == ClaimWord(relid, block))
			want = word;
	} while (!pg_atomic_compare_exchange_u64(mine, &word, want | SC_CLAIM_BUSY));
	busy = mine;
	return want != ClaimWord(relid, InvalidBlockNumber);
}

/* Done; the next append is to go to block. */
pg_attribute_hot void
sc_claim_end(BlockNumber block)
{
	if (busy == NULL)
		return;
	/* What was read and written is complete before others see this. */
	pg_read_barrier();
	pg_write_barrier();
	pg_atomic_write_u64(busy, ClaimWord(ClaimTable(pg_atomic_read_u64(busy)), block));
	busy = NULL;
}

/* An error came between. */
pg_attribute_hot void
sc_claim_abort(void)
{
	if (busy)
		pg_atomic_write_u64(busy, 0);
	busy = NULL;
}

/* How many claims on a table there are. */
int
sc_claims_count(Oid relid)
{
	int			n = 0;

	for (int i = 0; claims && i < MaxBackends * SC_CLAIMS; i++)
		if (ClaimTable(pg_atomic_read_u64(&claims[i])) == relid)
			n++;
	return n;
}

/*
 * Take back the claims on blocks of a table before a certain one.  Returns
 * the first block that is claimed now, 0 when somebody is appending and it is
 * not yet known where, or InvalidBlockNumber when there are no claims.  *used
 * is false when claims are not in use.
 */
BlockNumber
sc_claims_revoke(Oid relid, BlockNumber before, bool *used)
{
	BlockNumber first = InvalidBlockNumber;

	*used = claims != NULL;
	if (claims == NULL)
		return first;
	pg_memory_barrier();
	for (int i = 0; i < MaxBackends * SC_CLAIMS; i++)
	{
		uint64		word = pg_atomic_read_u64(&claims[i]);

		while (ClaimTable(word) == relid && !(word & SC_CLAIM_BUSY) &&
			   (ClaimBlock(word) < before || ClaimBlock(word) == InvalidBlockNumber))
			if (pg_atomic_compare_exchange_u64(&claims[i], &word, 0))
				word = 0;
		if (ClaimTable(word) == relid)
			first = Min(first, ClaimBlock(word) == InvalidBlockNumber ? 0 : ClaimBlock(word));
	}
	return first;
}
