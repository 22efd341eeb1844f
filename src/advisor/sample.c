/*-------------------------------------------------------------------------
 *
 * sample.c
 *	  Rows of a table, to estimate the sizes of indexes from, and statistics
 *	  of expressions as ANALYZE would make them once the index exists.
 *
 * What must always hold:
 *
 * - A sample is the same each time while the table is: the blocks are chosen
 *	 by a generator with a fixed seed.
 *
 * - It is small: at most SC_SAMPLE_BLOCKS blocks are read.  Those of many
 *	 partitions are smaller still.  To count the rows of a condition that few
 *	 of them meet, at most SC_FEW_BLOCKS blocks are read besides.
 *
 * - Of a block it has as many rows as ANALYZE takes.  Where rows with the
 *	 same values lie together, more of them would show fewer values.
 *
 * - The caller has checked that the user may read the table, and whatever is
 *	 evaluated over its rows runs between sc_owner_begin() and _end().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_type.h"
#include "commands/vacuum.h"
#include "common/pg_prng.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/plancat.h"
#include "storage/bufmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "advisor/advisor.h"

#define SC_SAMPLE_BLOCKS	12000
#define SC_SAMPLE_ROWS		30000
/* Blocks, and rows, to see which keys are next to each other. */
#define SC_NEAR_BLOCKS		50
#define SC_NEAR_ROWS		5000
/* Full text is slow to take apart. */
#define SC_SAMPLE_TEXTS		2000
#define SC_SAMPLE_BYTES		(24 * 1024 * 1024)
/* All partitions of a table share what so many tables have ... */
#define SC_FULL_SAMPLES		8
/* ... but each has at least so many rows and blocks. */
#define SC_SAMPLE_LEAST		200

/* Rows of a sample that meet a condition, but few, to be looked around. */
#define SC_FEW_BLOCKS		1000
#define SC_FEW_TESTED		100000

/*
 * Rights
 */

/*
 * May a user be told what follows from the values of some columns
 * in all of a table's rows?  attrs is as pull_varattnos() makes it.  What is
 * evaluated tells more than sizes, by errors if by nothing else, so then the
 * rows must not be subject to his row-level security either.
 */
bool
sc_rows_visible(Oid relid, Oid userid, Bitmapset *attrs, bool evaluated)
{
	int			i = -1;

	if (evaluated && check_enable_rls(relid, userid, true) == RLS_ENABLED)
		return false;
	if (pg_class_aclcheck(relid, userid, ACL_SELECT) == ACLCHECK_OK)
		return true;
	while ((i = bms_next_member(attrs, i)) >= 0)
	{
		AttrNumber	attnum = i + FirstLowInvalidHeapAttributeNumber;
		AclResult	result;

		if (attnum == InvalidAttrNumber)
			result = pg_attribute_aclcheck_all(relid, userid, ACL_SELECT,
											   ACLMASK_ALL);
		else
			result = pg_attribute_aclcheck(relid, attnum, userid, ACL_SELECT);
		if (result != ACLCHECK_OK)
			return false;
	}
	return attrs != NULL;
}

/*
 * Functions in an index's expressions are run by the table's owner when the
 * index is built, and so they are here, if the current user could build it.
 * Otherwise he runs them himself: a stranger's choice of function is no
 * business of the owner's.  After an error, the end of the subtransaction
 * undoes this.
 */
void
sc_owner_begin(Oid relid, ScOwner *saved)
{
	Oid			userid;
	HeapTuple	tuple;

	GetUserIdAndSecContext(&saved->userid, &saved->seccxt);
	userid = saved->userid;
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	if (pg_class_ownercheck(relid, userid))
		userid = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	SetUserIdAndSecContext(userid, saved->seccxt |
						   SECURITY_RESTRICTED_OPERATION |
						   SECURITY_LOCAL_USERID_CHANGE);
}

void
sc_owner_end(const ScOwner *saved)
{
	SetUserIdAndSecContext(saved->userid, saved->seccxt);
}

/*
 * Reading
 */

/* One of so many shares. */
static int
share_of(int all, int share)
{
	return Min(all, Max(all / share, SC_SAMPLE_LEAST));
}

/* Read a part of a block's rows, and perhaps all of them as neighbours. */
static void
sample_block(ScSample *sample, TableScanDesc scan, TupleTableSlot *slot,
			 BlockNumber block, double part, int share, bool near,
			 pg_prng_state *prng, Size *bytes)
{
	ItemPointerData low;
	ItemPointerData high;

	ItemPointerSet(&low, block, FirstOffsetNumber);
	ItemPointerSet(&high, block, MaxOffsetNumber);
	table_rescan_tidrange(scan, &low, &high);

	while (table_scan_getnextslot_tidrange(scan, ForwardScanDirection, slot))
	{
		HeapTuple	tuple;

		if (near && sample->nnear < share_of(SC_NEAR_ROWS, share) &&
			*bytes <= SC_SAMPLE_BYTES / share)
		{
			tuple = ExecCopySlotHeapTuple(slot);
			*bytes += tuple->t_len;
			sample->near[sample->nnear++] = tuple;
		}
		/* By chance and not every n-th: data may have periods. */
		if (part < 1 && pg_prng_double(prng) >= part)
			continue;
		if (sample->nrows >= share_of(SC_SAMPLE_ROWS, share) ||
			*bytes > SC_SAMPLE_BYTES / share)
		{
			sample->complete = false;
			return;
		}
		tuple = ExecCopySlotHeapTuple(slot);
		*bytes += tuple->t_len;
		sample->rows[sample->nrows++] = tuple;
	}
}

static void
sample_read(ScSample *sample, Relation rel, int share)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(rel);
	BlockNumber nread = Min(nblocks, share_of(SC_SAMPLE_BLOCKS, share));
	int			most = share_of(SC_SAMPLE_ROWS, share);
	double		rows = nblocks > 0 ? sample->tuples / nblocks * nread : 0;
	double		per_block = Max(1, most / Max(1.0, nblocks));
	double		part = Min(1, per_block * nread * 0.98 / Max(1, rows));
	pg_prng_state prng;
	TupleTableSlot *slot;
	TableScanDesc scan;
	ItemPointerData low;
	ItemPointerData high;
	Size		bytes = 0;
	double		near;
	BlockNumber every;
	BlockNumber i;

	sample->rows = (HeapTuple *) palloc(sizeof(HeapTuple) * most);
	sample->near = (HeapTuple *) palloc(sizeof(HeapTuple) *
										share_of(SC_NEAR_ROWS, share));
	/* As many as have so many rows, from all over the table. */
	near = share_of(SC_NEAR_ROWS, share) * (nblocks / Max(1, sample->tuples));
	every = Max(1, ceil(nread / Max(1, Min(SC_NEAR_BLOCKS, near))));
	sample->complete = (nread == nblocks && part >= 1);
	sample->read = nread / (double) Max(1, nblocks);
	if (nblocks == 0 || rel->rd_tableam->scan_set_tidrange == NULL ||
		rel->rd_tableam->scan_getnextslot_tidrange == NULL)
		return;

	pg_prng_seed(&prng, 20);
	slot = table_slot_create(rel, NULL);
	ItemPointerSet(&low, 0, FirstOffsetNumber);
	ItemPointerSet(&high, 0, MaxOffsetNumber);
	scan = table_beginscan_tidrange(rel, GetActiveSnapshot(), &low, &high);
	for (i = 0; i < nread; i++)
	{
		/* One block of each of nread stretches. */
		BlockNumber from = (uint64) i * nblocks / nread;
		BlockNumber to = (uint64) (i + 1) * nblocks / nread;

		CHECK_FOR_INTERRUPTS();
		if (nread < nblocks)
			from += (BlockNumber) (pg_prng_double(&prng) * (to - from));
		sample_block(sample, scan, slot, from, part, share,
					 !sample->complete && i % every == 0, &prng, &bytes);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
}

/*
 * The sample of a table, which the caller has locked.  Result is the study's.
 */
ScSample *
sc_sample_get(ScStudy *study, Oid relid)
{
	MemoryContext oldcxt;
	Relation	rel;
	ScSample   *sample;
	ListCell   *lc;
	double		allvisfrac;

	foreach(lc, study->samples)
	{
		sample = (ScSample *) lfirst(lc);
		if (sample->relid == relid)
			return sample;
	}

	oldcxt = MemoryContextSwitchTo(study->cxt);
	rel = table_open(relid, NoLock);
	sample = (ScSample *) palloc0(sizeof(ScSample));
	sample->relid = relid;
	/* With the values of columns added after the rows were written */
	sample->desc = CreateTupleDescCopyConstr(RelationGetDescr(rel));
	estimate_rel_size(rel, NULL, &sample->pages, &sample->tuples,
					  &allvisfrac);
	sample_read(sample, rel, Max(1, study->leaves / SC_FULL_SAMPLES));
	/* What was counted is nearer than what was estimated. */
	if (sample->complete && rel->rd_rel->reltuples < 0)
		sample->tuples = sample->nrows;
	table_close(rel, NoLock);
	study->samples = lappend(study->samples, sample);
	MemoryContextSwitchTo(oldcxt);
	return sample;
}

/* The part of the rows that satisfies all of some conditions, as counted. */
static ScPart *
sample_part(ScStudy *study, ScSample *sample, List *pred)
{
	MemoryContext oldcxt;
	EState	   *estate;
	ExprContext *econtext;
	TupleTableSlot *slot;
	ExprState  *qual;
	ScPart	   *part;
	ListCell   *lc;
	int			n = 0;
	int			i;

	foreach(lc, sample->parts)
	{
		part = (ScPart *) lfirst(lc);
		if (equal(part->pred, pred))
			return part;
	}
	estate = CreateExecutorState();
	econtext = GetPerTupleExprContext(estate);
	slot = MakeSingleTupleTableSlot(sample->desc, &TTSOpsHeapTuple);
	qual = ExecPrepareQual(pred, estate);
	econtext->ecxt_scantuple = slot;
	for (i = 0; i < sample->nrows; i++)
	{
		ResetExprContext(econtext);
		ExecStoreHeapTuple(sample->rows[i], slot, false);
		if (ExecQual(qual, econtext))
			n++;
	}
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);

	oldcxt = MemoryContextSwitchTo(study->cxt);
	part = (ScPart *) palloc(sizeof(ScPart));
	part->pred = (List *) copyObject(pred);
	/* Nothing found in a sample is not nothing in the table. */
	part->fraction = n == 0 && !sample->complete ? 0.5 / sample->nrows :
		(double) n / sample->nrows;
	part->nrows = n;
	part->count = -1;
	sample->parts = lappend(sample->parts, part);
	MemoryContextSwitchTo(oldcxt);
	return part;
}

double
sc_sample_fraction(ScStudy *study, ScSample *sample, List *pred)
{
	if (pred == NIL || sample->nrows == 0)
		return 1;
	return sample_part(study, sample, pred)->fraction;
}

/* Looking around in a table. */
typedef struct Around
{
	TableScanDesc scan;
	TupleTableSlot *slot;
	ExprState  *qual;
	ExprContext *econtext;
	double		rows;			/* chance of a row to be taken of a block that is read */
	double		blocks;			/* chance of a block to be read */
	int			nblocks;		/* that may be read yet */
	int			ntested;		/* rows, likewise */
	double		missed;			/* logarithm of the chance to have seen no row of a run */
} Around;

/* Rows of a block that meet the condition. */
static int
count_block(Around *around, BlockNumber block)
{
	ItemPointerData low;
	ItemPointerData high;
	int			n = 0;

	around->nblocks--;
	ItemPointerSet(&low, block, FirstOffsetNumber);
	ItemPointerSet(&high, block, MaxOffsetNumber);
	table_rescan_tidrange(around->scan, &low, &high);
	around->econtext->ecxt_scantuple = around->slot;
	while (around->ntested > 0 &&
		   table_scan_getnextslot_tidrange(around->scan, ForwardScanDirection,
										   around->slot))
	{
		CHECK_FOR_INTERRUPTS();
		around->ntested--;
		ResetExprContext(around->econtext);
		if (ExecQual(around->qual, around->econtext))
			n++;
	}
	around->missed += log1p(-around->blocks * (1 - pow(1 - around->rows, n)));
	return n;
}

/*
 * Rows of the run of blocks with rows that meet the condition, around one that
 * has.  *end is where the last run ended, and becomes where this one does.
 */
static double
count_run(Around *around, BlockNumber block, BlockNumber nblocks,
		  BlockNumber *end)
{
	BlockNumber start;
	double		n;
	int			more;

	around->missed = 0;
	n = count_block(around, block);
	for (start = block; start > *end && around->nblocks > 0; start--)
	{
		more = count_block(around, start - 1);
		if (more == 0)
			break;
		n += more;
	}
	for (*end = block + 1; *end < nblocks && around->nblocks > 0; (*end)++)
	{
		more = count_block(around, *end);
		if (more == 0)
			break;
		n += more;
	}
	return n;
}

/*
 * Rows that meet a condition which few of the sample meet, by looking at the
 * blocks around those: what is rare in a table is often what is new in it,
 * and lies together.  This is adaptive cluster sampling (Thompson, 1990): a
 * run of blocks that have such rows counts for as many as it has, divided by
 * the chance that the sample had any of them.  For rows that lie apart that is
 * what the sample says.  -1: that would be too many blocks.
 */
static double
count_around(ScSample *sample, List *pred, int share)
{
	EState	   *estate = CreateExecutorState();
	Relation	rel = table_open(sample->relid, NoLock);
	BlockNumber nblocks = RelationGetNumberOfBlocks(rel);
	BlockNumber end = 0;		/* of the last run */
	TupleTableSlot *row = MakeSingleTupleTableSlot(sample->desc,
												   &TTSOpsHeapTuple);
	Around		around = {0};
	ItemPointerData low;
	ItemPointerData high;
	double		result = 0;
	int			i;

	around.slot = table_slot_create(rel, NULL);
	around.qual = ExecPrepareQual(pred, estate);
	around.econtext = GetPerTupleExprContext(estate);
	around.blocks = sample->read;
	around.rows = Min(1, sample->nrows / sample->tuples / sample->read);
	around.nblocks = share_of(SC_FEW_BLOCKS, share);
	around.ntested = share_of(SC_FEW_TESTED, share);
	ItemPointerSet(&low, 0, FirstOffsetNumber);
	ItemPointerSet(&high, 0, MaxOffsetNumber);
	around.scan = table_beginscan_tidrange(rel, GetActiveSnapshot(), &low,
										   &high);
	for (i = 0; i < sample->nrows && result >= 0; i++)
	{
		BlockNumber block = ItemPointerGetBlockNumber(&sample->rows[i]->t_self);
		double		n;

		if (block < end || block >= nblocks)
			continue;
		CHECK_FOR_INTERRUPTS();
		ResetExprContext(around.econtext);
		ExecStoreHeapTuple(sample->rows[i], row, false);
		around.econtext->ecxt_scantuple = row;
		if (!ExecQual(around.qual, around.econtext))
			continue;
		n = count_run(&around, block, nblocks, &end);
		if (around.nblocks <= 0 || around.ntested <= 0)
			result = -1;
		else if (n > 0)
			result += n / -expm1(around.missed);
	}
	table_endscan(around.scan);
	ExecDropSingleTupleTableSlot(row);
	ExecDropSingleTupleTableSlot(around.slot);
	table_close(rel, NoLock);
	FreeExecutorState(estate);
	return result;
}

/*
 * The number of rows that satisfy all of some conditions.  Like the sample it
 * is of rows that the caller may see, and tested with the same rights.
 */
double
sc_sample_count(ScStudy *study, ScSample *sample, List *pred)
{
	ScPart	   *part;

	if (pred == NIL || sample->nrows == 0)
		return sample->tuples;
	part = sample_part(study, sample, pred);
	if (part->count < 0)
	{
		double		count = -1;

		/* There are rows, so the table can be read by ranges of blocks. */
		if (part->nrows > 0 && part->nrows < SC_FEW && !sample->complete &&
			sample->nrows < sample->tuples)
			count = count_around(sample, pred,
								 Max(1, study->leaves / SC_FULL_SAMPLES));
		part->count = count >= 0 ? Min(count, sample->tuples) :
			sample->tuples * part->fraction;
	}
	return part->count;
}

/*
 * Statistics of an expression.
 */

static Datum
fetch_value(VacAttrStatsP stats, int rownum, bool *isNull)
{
	*isNull = stats->exprnulls[rownum];
	return stats->exprvals[rownum];
}

/* The values of an expression over a sample. */
static void
evaluate(ScSample *sample, Node *expr, int n, Datum *values, bool *nulls)
{
	EState	   *estate = CreateExecutorState();
	ExprContext *econtext = GetPerTupleExprContext(estate);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(sample->desc,
													&TTSOpsHeapTuple);
	ExprState  *state = ExecPrepareExpr((Expr *) expr, estate);
	int16		typlen;
	bool		typbyval;
	int			i;

	get_typlenbyval(exprType(expr), &typlen, &typbyval);
	econtext->ecxt_scantuple = slot;
	for (i = 0; i < n; i++)
	{
		Datum		value;

		ResetExprContext(econtext);
		ExecStoreHeapTuple(sample->rows[(int) ((double) i * sample->nrows / n)],
						   slot, false);
		value = ExecEvalExprSwitchContext(state, econtext, &nulls[i]);
		values[i] = nulls[i] ? (Datum) 0 :
			datumCopy(value, typbyval, typlen);
	}
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
}

/* Let the type's own function make statistics; false when it makes none. */
static bool
analyze_values(VacAttrStats *stats, ScSample *sample, int n, Node *expr,
			   Oid collation)
{
	HeapTuple	typtuple;
	bool		ok;
	int			i;

	stats->attr = (Form_pg_attribute) palloc0(ATTRIBUTE_FIXED_PART_SIZE);
	stats->attr->attnum = 1;
	stats->attr->attstattarget = -1;
	stats->attrtypid = exprType(expr);
	stats->attrtypmod = exprTypmod(expr);
	stats->attrcollid = OidIsValid(collation) ? collation :
		exprCollation(expr);
	typtuple = SearchSysCacheCopy1(TYPEOID,
								   ObjectIdGetDatum(stats->attrtypid));
	if (!HeapTupleIsValid(typtuple))
		return false;
	stats->attrtype = (Form_pg_type) GETSTRUCT(typtuple);
	stats->anl_context = CurrentMemoryContext;
	stats->tupattnum = 1;
	for (i = 0; i < STATISTIC_NUM_SLOTS; i++)
	{
		stats->statypid[i] = stats->attrtypid;
		stats->statyplen[i] = stats->attrtype->typlen;
		stats->statypbyval[i] = stats->attrtype->typbyval;
		stats->statypalign[i] = stats->attrtype->typalign;
	}
	if (OidIsValid(stats->attrtype->typanalyze))
		ok = DatumGetBool(OidFunctionCall1(stats->attrtype->typanalyze,
										   PointerGetDatum(stats)));
	else
		ok = std_typanalyze(stats);
	if (!ok || stats->compute_stats == NULL || stats->minrows <= 0)
		return false;
	stats->compute_stats(stats, fetch_value, n, sample->tuples);
	return stats->stats_valid;
}

static HeapTuple
form_statistics(VacAttrStats *stats)
{
	Relation	sd = table_open(StatisticRelationId, AccessShareLock);
	Datum		values[Natts_pg_statistic];
	bool		nulls[Natts_pg_statistic];
	HeapTuple	tuple;
	int			k;

	memset(values, 0, sizeof(values));
	memset(nulls, 0, sizeof(nulls));
	values[Anum_pg_statistic_starelid - 1] = ObjectIdGetDatum(InvalidOid);
	values[Anum_pg_statistic_staattnum - 1] = Int16GetDatum(1);
	values[Anum_pg_statistic_stainherit - 1] = BoolGetDatum(false);
	values[Anum_pg_statistic_stanullfrac - 1] =
		Float4GetDatum(stats->stanullfrac);
	values[Anum_pg_statistic_stawidth - 1] = Int32GetDatum(stats->stawidth);
	values[Anum_pg_statistic_stadistinct - 1] =
		Float4GetDatum(stats->stadistinct);
	for (k = 0; k < STATISTIC_NUM_SLOTS; k++)
	{
		int			number = Anum_pg_statistic_stanumbers1 - 1 + k;
		int			value = Anum_pg_statistic_stavalues1 - 1 + k;
		int			n = stats->numnumbers[k];

		values[Anum_pg_statistic_stakind1 - 1 + k] =
			Int16GetDatum(stats->stakind[k]);
		values[Anum_pg_statistic_staop1 - 1 + k] =
			ObjectIdGetDatum(stats->staop[k]);
		values[Anum_pg_statistic_stacoll1 - 1 + k] =
			ObjectIdGetDatum(stats->stacoll[k]);
		nulls[number] = (n <= 0);
		if (n > 0)
		{
			Datum	   *datums = (Datum *) palloc(n * sizeof(Datum));
			int			i;

			for (i = 0; i < n; i++)
				datums[i] = Float4GetDatum(stats->stanumbers[k][i]);
			values[number] = PointerGetDatum(construct_array(datums, n,
															 FLOAT4OID,
															 sizeof(float4),
															 true,
															 TYPALIGN_INT));
		}
		nulls[value] = (stats->numvalues[k] <= 0);
		if (stats->numvalues[k] > 0)
			values[value] =
				PointerGetDatum(construct_array(stats->stavalues[k],
												stats->numvalues[k],
												stats->statypid[k],
												stats->statyplen[k],
												stats->statypbyval[k],
												stats->statypalign[k]));
	}
	tuple = heap_form_tuple(RelationGetDescr(sd), values, nulls);
	table_close(sd, AccessShareLock);
	return tuple;
}

/* Result is the study's. */
ScExprStats *
sc_sample_expr_stats(ScStudy *study, ScSample *sample, Node *expr,
					 Oid collation)
{
	MemoryContext oldcxt;
	MemoryContext tmpcxt;
	ScExprStats *result;
	VacAttrStats *stats;
	ListCell   *lc;
	int			n = sample->nrows;

	foreach(lc, sample->exprstats)
	{
		result = (ScExprStats *) lfirst(lc);
		if (result->collation == collation && equal(result->expr, expr))
			return result;
	}

	tmpcxt = AllocSetContextCreate(study->cxt, "scalecache expression",
								   ALLOCSET_DEFAULT_SIZES);
	oldcxt = MemoryContextSwitchTo(tmpcxt);
	stats = (VacAttrStats *) palloc0(sizeof(VacAttrStats));
	stats->exprvals = (Datum *) palloc(Max(1, sample->nrows) * sizeof(Datum));
	stats->exprnulls = (bool *) palloc(Max(1, sample->nrows) * sizeof(bool));
	if (exprType(expr) == TSVECTOROID)
		n = Min(n, SC_SAMPLE_TEXTS);
	evaluate(sample, expr, n, stats->exprvals, stats->exprnulls);

	MemoryContextSwitchTo(study->cxt);
	result = (ScExprStats *) palloc0(sizeof(ScExprStats));
	result->expr = copyObject(expr);
	result->collation = collation;
	MemoryContextSwitchTo(tmpcxt);
	if (n > 0 && analyze_values(stats, sample, n, expr, collation))
	{
		HeapTuple	tuple = form_statistics(stats);

		MemoryContextSwitchTo(study->cxt);
		result->tuple = heap_copytuple(tuple);
		result->ndistinct = stats->stadistinct;
	}
	MemoryContextSwitchTo(study->cxt);
	sample->exprstats = lappend(sample->exprstats, result);
	MemoryContextSwitchTo(oldcxt);
	MemoryContextDelete(tmpcxt);
	return result;
}
