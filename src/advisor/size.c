/*-------------------------------------------------------------------------
 *
 * size.c
 *	  How large an index would be, and how high.
 *
 * Entries are formed from sampled rows by the code that forms those of real
 * indexes, so that widths, nulls, alignment and compression need no model.
 * What is modelled is how a build packs them: a btree's deduplication and
 * fill factors, a hash index's buckets, GIN's posting lists.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/brin.h"
#include "access/brin_page.h"
#include "access/brin_revmap.h"
#include "access/detoast.h"
#include "access/genam.h"
#include "access/gin.h"
#include "access/ginblock.h"
#include "access/gist.h"
#include "access/hash.h"
#include "access/htup_details.h"
#include "access/itup.h"
#include "access/nbtree.h"
#include "access/spgist.h"
#include "catalog/pg_am.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "advisor/advisor.h"

/* Rows that widths and keys are taken from. */
#define SC_WIDTH_ROWS		12000
/* The same where entries may be alike: how many are, more rows tell. */
#define SC_KEY_ROWS			30000
/* There are hardly so many times the keys that the sample makes expect. */
#define SC_MANY_MORE		2.0
/* Rows of the sample that make a value frequent. */
#define SC_FREQUENT			20
/* So many rows alike, and so many of them neighbours, tell how a table is laid out. */
#define SC_ALIKE			20
#define SC_CLUSTERED		0.9
/* By how much that may be off, of so few blocks. */
#define SC_CLUSTERED_DOUBT	1.03
#define SC_GIN_ROWS			4000
/* More of them where rows have few keys: about so many keys in all. */
#define SC_GIN_KEYS			60000
#define SC_GIST_ROWS		1000

/* How full pages are that are filled by splitting, by what is split how. */
#define SC_GIST_FILL		0.70
#define SC_GIST_UNEVEN_FILL	0.49
#define SC_GIST_SORTED_FILL	0.68
#define SC_SPGIST_FILL		0.60
/* Not that full, but entries have no prefixes that they share. */
#define SC_SPGIST_TEXT_FILL	0.80

/* The longest posting list in an entry, and memory a posting takes. */
#define SC_GIN_INLINE		2650
#define SC_GIN_POSTING_MEM	10.5
/* What a split leaves beyond half a page, as a part of an entry. */
#define SC_GIN_OVERHANG		0.75
/* Rows of a key come in their order, so a build fills the tree's pages. */
#define SC_GIN_TREE_FILL	0.95

#define SC_PAGE_SPACE		(BLCKSZ - SizeOfPageHeaderData)
#define SC_NONLEAF_FILL		(BTREE_NONLEAF_FILLFACTOR / 100.0)
/* What BTMaxItemSize() says of any page. */
#define SC_BTREE_MAX \
	(MAXALIGN_DOWN((BLCKSZ - \
					MAXALIGN(SizeOfPageHeaderData + 3 * sizeof(ItemIdData)) - \
					MAXALIGN(sizeof(BTPageOpaqueData))) / 3) - \
	 MAXALIGN(sizeof(ItemPointerData)))
/* Longer values are not put into entries of other kinds, to be measured. */
#define SC_LONG_VALUE		2000

/* What the sample says about the entries of an index. */
typedef struct Entries
{
	int			nrows;			/* rows looked at */
	int			nmatch;			/* of these, rows in the index */
	int			nnulls;			/* rows that would be, but for a NULL */
	double		size;			/* sum of entry sizes */
	double		keysize;		/* likewise, key columns alone */
	uint64	   *hashes;			/* of the matching rows' entries, and sizes */
	BlockNumber *blocks;		/* these rows' */
	double		distinct;		/* known number of keys, or 0 */
} Entries;

/* An entry's size is in the last bits of its hash: equal ones have the same. */
#define HashedSize(hash)	((double) ((hash) & INDEX_SIZE_MASK))

/*
 * Going over the sample.
 */

static TupleDesc
entry_desc(ScHypo *hypo, ScHypoLeaf *leaf, int natts)
{
	TupleDesc	desc = CreateTemplateTupleDesc(natts);
	ListCell   *lc;
	int			i = 0;

	foreach(lc, leaf->columns)
	{
		Node	   *column = (Node *) lfirst(lc);
		Oid			type = exprType(column);

		if (i >= natts)
			break;
		if (i < hypo->nkeys)
		{
			Oid			keytype = get_opclass_input_type(hypo->opclass[i]);

			/* A btree over name stores cstrings, over varchar itself. */
			if (type == NAMEOID && hypo->am == BTREE_AM_OID)
				type = CSTRINGOID;
			else if (!IsPolymorphicType(keytype) && type == UNKNOWNOID)
				type = keytype;
		}
		TupleDescInitEntry(desc, ++i, NULL, type, exprTypmod(column), 0);
		if (!IsA(column, Var))
			continue;
		TupleDescAttr(desc, i - 1)->attstorage =
			get_typstorage(type);
	}
	return desc;
}

/*
 * An entry, as the index would have it.  What does not fit is refused, as it
 * would be by a build.
 */
static IndexTuple
form_entry(ScHypo *hypo, TupleDesc desc, Datum *values, bool *nulls)
{
	IndexTuple	itup = index_form_tuple(desc, values, nulls);

	if (hypo->am == BTREE_AM_OID && IndexTupleSize(itup) > SC_BTREE_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("an entry of the index on \"%s\" would have %zu bytes, and may have %zu",
						get_rel_name(hypo->relid),
						(size_t) IndexTupleSize(itup), (size_t) SC_BTREE_MAX),
				 errdetail("Values larger than 1/3 of a buffer page cannot be indexed."),
				 errhint("Consider a hash index, an index on a function of the value such as its MD5 hash, or full text indexing.")));
	return itup;
}

/*
 * The size of an entry that has not the values themselves, or 0 if it has
 * them.  Those that are long are left out of it.
 */
static Size
other_entry_size(ScHypo *hypo, TupleDesc desc, Datum *values, bool *nulls)
{
	int			i;

	if (hypo->am == HASH_AM_OID || hypo->am == GIN_AM_OID)
		return MAXALIGN(sizeof(IndexTupleData) + sizeof(uint32));
	if (hypo->am == BTREE_AM_OID || hypo->am == BRIN_AM_OID)
		return 0;
	for (i = 0; i < desc->natts; i++)
	{
		if (!nulls[i] && TupleDescAttr(desc, i)->attlen == -1 &&
			toast_raw_datum_size(values[i]) > SC_LONG_VALUE)
			nulls[i] = true;
	}
	return 0;
}

static uint64
hash_key(Datum key, int16 typlen, bool typbyval, double *size)
{
	if (typbyval)
	{
		*size += typlen;
		return hash_bytes_extended((unsigned char *) &key, sizeof(Datum), 0);
	}
	if (typlen == -1)
	{
		struct varlena *v = PG_DETOAST_DATUM_PACKED(key);

		*size += VARSIZE_ANY_EXHDR(v) + VARHDRSZ_SHORT;
		return hash_bytes_extended((unsigned char *) VARDATA_ANY(v),
								   VARSIZE_ANY_EXHDR(v), 0);
	}
	if (typlen == -2)
	{
		char	   *s = DatumGetCString(key);

		*size += strlen(s) + 1;
		return hash_bytes_extended((unsigned char *) s, strlen(s), 0);
	}
	*size += typlen;
	return hash_bytes_extended((unsigned char *) DatumGetPointer(key),
							   typlen, 0);
}

static void
collect_entries(ScSample *sample, ScHypo *hypo, ScHypoLeaf *leaf,
				int rows, Entries *entries)
{
	EState	   *estate = CreateExecutorState();
	ExprContext *econtext = GetPerTupleExprContext(estate);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(sample->desc,
													&TTSOpsHeapTuple);
	ExprState  *pred = ExecPrepareQual(leaf->pred, estate);
	List	   *columns = ExecPrepareExprList(leaf->columns, estate);
	TupleDesc	desc = entry_desc(hypo, leaf, hypo->natts);
	TupleDesc	keydesc = entry_desc(hypo, leaf, hypo->nkeys);
	double		part = rows / (double) Max(1, sample->nrows);
	pg_prng_state prng;
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];
	int			i;

	memset(entries, 0, sizeof(Entries));
	entries->hashes = (uint64 *)
		palloc(sizeof(uint64) * Max(1, sample->nrows));
	entries->blocks = (BlockNumber *)
		palloc(sizeof(BlockNumber) * Max(1, sample->nrows));
	econtext->ecxt_scantuple = slot;
	pg_prng_seed(&prng, 20);
	for (i = 0; i < sample->nrows; i++)
	{
		MemoryContext oldcxt;
		ListCell   *lc;
		IndexTuple	itup;
		Size		other;
		int			k = 0;

		/* By chance: neighbours may be alike, every other row never is. */
		if (part < 1 && pg_prng_double(&prng) >= part)
			continue;
		entries->nrows++;
		ResetExprContext(econtext);
		ExecStoreHeapTuple(sample->rows[i], slot, false);
		if (pred != NULL && !ExecQual(pred, econtext))
			continue;
		oldcxt = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
		foreach(lc, columns)
		{
			values[k] = ExecEvalExpr((ExprState *) lfirst(lc), econtext,
									 &nulls[k]);
			k++;
		}
		/* A hash index has no NULLs. */
		if (hypo->am == HASH_AM_OID && nulls[0])
		{
			entries->nnulls++;
			MemoryContextSwitchTo(oldcxt);
			continue;
		}
		other = other_entry_size(hypo, desc, values, nulls);
		if (other > 0)
		{
			double		unused = 0;

			if (hypo->am == HASH_AM_OID)
				entries->hashes[entries->nmatch] =
					(hash_key(values[0], TupleDescAttr(desc, 0)->attlen,
							  TupleDescAttr(desc, 0)->attbyval, &unused) &
					 ~(uint64) INDEX_SIZE_MASK) | other;
			entries->size += other;
			entries->keysize += other;
			entries->nmatch++;
			MemoryContextSwitchTo(oldcxt);
			continue;
		}
		itup = form_entry(hypo, desc, values, nulls);
		entries->size += IndexTupleSize(itup);
		entries->blocks[entries->nmatch] =
			ItemPointerGetBlockNumberNoCheck(&sample->rows[i]->t_self);
		entries->hashes[entries->nmatch++] =
			(hash_bytes_extended((unsigned char *) itup +
								 sizeof(IndexTupleData),
								 IndexTupleSize(itup) -
								 sizeof(IndexTupleData),
								 IndexTupleHasNulls(itup)) &
			 ~(uint64) INDEX_SIZE_MASK) | IndexTupleSize(itup);
		if (hypo->nkeys < hypo->natts)
			itup = index_form_tuple(keydesc, values, nulls);
		entries->keysize += IndexTupleSize(itup);
		MemoryContextSwitchTo(oldcxt);
	}
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
}

static int
compare_hashes(const void *a, const void *b)
{
	uint64		x = *(const uint64 *) a;
	uint64		y = *(const uint64 *) b;

	return x < y ? -1 : (x > y ? 1 : 0);
}

/* How entries repeat. */
typedef struct Groups
{
	double		distinct;		/* keys */
	int			alike;			/* rows seen with a key seen before */
	double		frequent;		/* of these, often seen in the sample */
	double		frequent_rows;	/* entries that those have */
	double		frequent_size;	/* the average of these, and of the others */
	double		size;
} Groups;

/*
 * Distinct values among "total" rows, from the hashes of n of them.  ANALYZE's
 * estimator thinks too little of many rare values beside frequent ones; then
 * that of Chao, by the values seen once and twice, is higher.  Both are lower
 * bounds, more or less.  That of Charikar et al., between the least and the
 * most that could be, is right for skewed values and too high for others; half
 * of what it says is believed.  Sorts the hashes.
 */
static Groups
estimate_groups(uint64 *hashes, int n, double total)
{
	Groups		result = {0};
	double		sizes = 0;
	int			seen = 0;
	double		d = 0;
	double		f1 = 0;
	double		f2 = 0;
	double		chao;
	double		low;
	double		middle;
	int			i = 0;

	if (n == 0)
		return result;
	qsort(hashes, n, sizeof(uint64), compare_hashes);
	while (i < n)
	{
		int			j = i + 1;

		while (j < n && hashes[j] == hashes[i])
			j++;
		d++;
		if (j == i + 1)
			f1++;
		else if (j == i + 2)
			f2++;
		else if (j - i >= SC_FREQUENT)
		{
			result.frequent++;
			result.frequent_rows += (j - i) * Max(1, total / n);
			result.frequent_size += (j - i) * HashedSize(hashes[i]);
			seen += j - i;
		}
		sizes += (j - i) * HashedSize(hashes[i]);
		i = j;
	}
	result.size = n > seen ? (sizes - result.frequent_size) / (n - seen) : sizes / n;
	result.frequent_size /= Max(1, seen);
	result.distinct = d;
	result.alike = n - d;
	if (n >= total)
		return result;
	/* At most, what was seen once is there once. */
	chao = Min(d + f1 * (f1 - 1) / (2 * (f2 + 1)),
			   d - f1 + f1 * total / n);
	low = Max(n * d / (n - f1 + f1 * n / total), chao);
	middle = Max(low, d - f1 + f1 * sqrt(total / n));
	result.distinct = Min((low + middle) / 2, total);
	return result;
}

/* Distinct values of a single column by its statistics; 0 is unknown. */
double
sc_column_ndistinct(Oid relid, AttrNumber attnum, bool inherited, double tuples)
{
	HeapTuple	tuple;
	double		d = 0;

	tuple = SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(relid),
							Int16GetDatum(attnum), BoolGetDatum(inherited));
	if (HeapTupleIsValid(tuple))
	{
		d = ((Form_pg_statistic) GETSTRUCT(tuple))->stadistinct;
		if (d < 0)
			d = -d * tuples;
		ReleaseSysCache(tuple);
	}
	return d;
}

/*
 * btree
 */

/* Is equality of values the same as equality of images? */
bool
sc_size_dedup_safe(const ScHypo *hypo)
{
	int			i;

	if (hypo->natts > hypo->nkeys)
		return false;
	for (i = 0; i < hypo->nkeys; i++)
	{
		Oid			proc = get_opfamily_proc(hypo->opfamily[i],
											 hypo->opcintype[i],
											 hypo->opcintype[i],
											 BTEQUALIMAGE_PROC);

		if (!OidIsValid(proc) ||
			!DatumGetBool(OidFunctionCall1Coll(proc, hypo->collation[i],
											   ObjectIdGetDatum(hypo->opcintype[i]))))
			return false;
	}
	return true;
}

/*
 * Bytes of the leaf items of n entries with d distinct keys; how many items
 * is added to *items.
 */
static double
group_bytes(double n, double d, double keysize, double *items)
{
	double		maxpost = MAXALIGN_DOWN(BLCKSZ / 10) - sizeof(ItemIdData);
	double		cap = Max(2, floor((maxpost - keysize) /
								   sizeof(ItemPointerData)));
	double		single = MAXALIGN((Size) ceil(keysize)) + sizeof(ItemIdData);
	double		g = n / Max(1, d);
	double		lambda = g;
	double		p1;
	double		rest;
	double		posting;
	int			i;

	if (g <= 1.0001)
	{
		*items += n;
		return n * single;
	}
	/* Sizes of groups as of a Poisson distribution without zero. */
	for (i = 0; i < 50; i++)
		lambda = g * (1 - exp(-Max(lambda, 1e-6)));
	p1 = lambda * exp(-lambda) / Max(1e-9, 1 - exp(-lambda));
	p1 = Min(Max(p1, 0), 1);
	rest = p1 < 1 ? (g - p1) / (1 - p1) : 2;
	/* A group is cut into postings of at most cap entries. */
	posting = ceil(rest / cap - 1e-9);
	if (rest > cap)
		posting = rest / cap + 0.5;
	*items += d * (p1 + (1 - p1) * posting);
	return d * (p1 * single +
				(1 - p1) * (posting * (single + 3.5) +
							rest * sizeof(ItemPointerData)));
}

/* The same when all entries are known.  Sorts the hashes. */
static double
known_group_bytes(uint64 *hashes, int n, double *items)
{
	double		maxpost = MAXALIGN_DOWN(BLCKSZ / 10) - sizeof(ItemIdData);
	double		bytes = 0;
	int			i = 0;

	*items = 0;
	qsort(hashes, n, sizeof(uint64), compare_hashes);
	while (i < n)
	{
		double		keysize = HashedSize(hashes[i]);
		int			cap = Max(2, (int) floor((maxpost - keysize) /
											 sizeof(ItemPointerData)));
		int			j = i + 1;

		while (j < n && j - i < cap && hashes[j] == hashes[i])
			j++;
		bytes += keysize + sizeof(ItemIdData);
		(*items)++;
		if (j - i > 1)
			bytes += MAXALIGN((j - i) * sizeof(ItemPointerData));
		i = j;
	}
	return bytes;
}

/*
 * Distinct values, by statistics, of the column that has most of them, among
 * the rows that are in the index; 0 is unknown.
 */
static double
keys_distinct(ScHypo *hypo, ScHypoLeaf *leaf, ScSample *sample)
{
	double		result = 0;
	double		part = sample->tuples > 0 ?
		leaf->tuples / sample->tuples : 1;
	int			nth = 0;
	int			i;

	for (i = 0; i < hypo->nkeys; i++)
	{
		double		d;

		if (leaf->attnums[i] != 0)
			d = sc_column_ndistinct(leaf->relid, leaf->attnums[i], false, sample->tuples);
		else
		{
			d = ((ScExprStats *) list_nth(leaf->stats, nth++))->ndistinct;
			if (d < 0)
				d = -d * sample->tuples;
		}
		/* Of g rows with a value, some are likely to be among the part. */
		if (d > 0 && part < 1)
			d *= 1 - pow(1 - part, sample->tuples / d);
		result = Max(result, d);
	}
	return result;
}

/* Rows of a sample that have the key of the one before them. */
static int
count_neighbours(Entries *e)
{
	int			result = 0;
	int			i;

	for (i = 1; i < e->nmatch; i++)
		result += e->hashes[i] == e->hashes[i - 1] ? 1 : 0;
	return result;
}

/*
 * Where the rows of a key are next to each other, how many there are of each is
 * seen in the blocks that were read as a whole.  A sample knows keys by those it
 * has twice, which are mostly of large groups, so it has too few of them.  0 where
 * no block tells.
 */
static double
clustered_bytes(ScHypo *hypo, ScHypoLeaf *leaf, ScSample *sample,
				double keysize, double *items)
{
	double		maxpost = MAXALIGN_DOWN(BLCKSZ / 10) - sizeof(ItemIdData);
	double		cap = Max(2, floor((maxpost - keysize) /
								   sizeof(ItemPointerData)));
	double		single = MAXALIGN((Size) ceil(keysize)) + sizeof(ItemIdData);
	double		n = leaf->tuples;
	ScSample	near = *sample;
	Entries		e;
	double		pairs = 0;
	double		starts = 0;
	double		inner = 0;
	double		alone = 0;
	double		groups;
	double		postings;
	int			i;

	near.rows = sample->near;
	near.nrows = sample->nnear;
	collect_entries(&near, hypo, leaf, near.nrows, &e);
	for (i = 1; i < e.nmatch; i++)
	{
		bool		start = e.hashes[i] != e.hashes[i - 1];

		if (e.blocks[i] != e.blocks[i - 1])
			continue;
		pairs++;
		starts += start ? 1 : 0;
		if (i + 1 < e.nmatch && e.blocks[i + 1] == e.blocks[i])
		{
			inner++;
			alone += start && e.hashes[i + 1] != e.hashes[i] ? 1 : 0;
		}
	}
	if (inner == 0)
		return 0;
	groups = n * starts / pairs;
	alone = Min(n * alone / inner, groups);
	postings = Max(groups - alone, (n - alone) / cap);
	*items = alone + postings;
	return alone * single + postings * (single + 3.5) +
		(n - alone) * sizeof(ItemPointerData);
}

/*
 * The same of an index, by the sample or by what is known of its keys.  In
 * *most it would be if there were many more keys than are expected.
 */
static double
dedup_bytes(ScHypo *hypo, ScHypoLeaf *leaf, Entries *e, ScSample *sample,
			double keysize, double *items, double *most)
{
	double		n = leaf->tuples;
	Groups		groups = {.distinct = e->distinct,.size = keysize};
	double		frequent;
	double		rows;
	double		d;
	double		more = 0;
	double		clustered = 0;

	*items = 0;
	if (e->hashes != NULL && sample->complete && e->nmatch == n)
		return *most = known_group_bytes(e->hashes, e->nmatch, items);
	if (e->distinct <= 0)
	{
		int			neighbours = count_neighbours(e);

		groups = estimate_groups(e->hashes, e->nmatch, n);
		if (groups.alike >= SC_ALIKE && neighbours >= SC_CLUSTERED * groups.alike)
			clustered = clustered_bytes(hypo, leaf, sample, keysize, items);
		/* Few rows that a predicate chooses may have fewer than their share. */
		if (!sample->complete &&
			(leaf->pred == NIL || e->nmatch < SC_FREQUENT || e->nmatch >= SC_FEW))
			groups.distinct = Max(groups.distinct,
								  keys_distinct(hypo, leaf, sample));
	}
	if (clustered > 0)
	{
		*most = clustered * SC_CLUSTERED_DOUBT;
		return clustered;
	}
	/* Those that are frequent are not like the others. */
	frequent = group_bytes(groups.frequent_rows, groups.frequent,
						   groups.frequent_size, items);
	rows = Max(0, n - groups.frequent_rows);
	d = Max(0, groups.distinct - groups.frequent);
	*most = frequent + group_bytes(rows, Min(rows, d * SC_MANY_MORE),
								   groups.size, &more);
	return frequent + group_bytes(rows, d, groups.size, items);
}

/*
 * Bytes of items that a build leaves on a page, on average.  It goes on until
 * less than the reserve is free, not counting what the last item's posting
 * list would free as a high key, or until the next one has no place.  Then
 * the last one goes to the next page.
 */
static double
page_content(double space, double reserve, double item, double posting)
{
	double		enough = space - reserve + posting;
	double		fit = Min(1, (space - enough) / item);

	if (enough + item <= space)
		return enough - item / 2;
	if (enough >= space)
		return space - 1.5 * item;
	return fit * (enough + space) / 2 +
		(1 - fit) * (space - item + enough) / 2 - item;
}

static void
size_btree(ScHypo *hypo, ScHypoLeaf *leaf, Entries *e, ScSample *sample)
{
	double		fill = hypo->fillfactor > 0 ? hypo->fillfactor :
		BTREE_DEFAULT_FILLFACTOR;
	double		avg = e->nmatch > 0 ? e->size / e->nmatch : leaf->width;
	double		keyavg = e->nmatch > 0 ? e->keysize / e->nmatch : avg;
	double		item = ceil(avg / MAXIMUM_ALIGNOF) * MAXIMUM_ALIGNOF +
		sizeof(ItemIdData);
	double		pivot = keyavg + sizeof(ItemIdData);
	double		space;
	double		bytes;
	double		most;
	double		items = leaf->tuples;
	double		pages;
	double		level;
	int			height = 0;

	if (e->nmatch > 0)
		item = avg + sizeof(ItemIdData);	/* sizes are aligned already */
	bytes = leaf->tuples * item;
	most = bytes;
	if (hypo->dedup && !hypo->unique && e->nmatch > 0)
	{
		double		many;
		double		dedup = dedup_bytes(hypo, leaf, e, sample, avg, &items,
										&many);

		bytes = Min(bytes, dedup);
		most = Min(most, many);
	}

	/* Less a pointer to the high key, which is put where the last item was. */
	space = SC_PAGE_SPACE - MAXALIGN(sizeof(BTPageOpaqueData)) -
		sizeof(ItemIdData) - MAXALIGN(sizeof(ItemPointerData));
	if (leaf->tuples > 0)
	{
		double		each = bytes / Max(1, items);

		space = Max(each, page_content(space, BLCKSZ * (100 - fill) / 100.0,
									   each, Max(0, each - item)));
	}
	/* One without entries has no page but the metapage. */
	pages = leaf->tuples > 0 ? Max(1, ceil(bytes / space)) : 0;

	level = pages;
	while (level > 1)
	{
		double		fanout = floor((SC_PAGE_SPACE -
									MAXALIGN(sizeof(BTPageOpaqueData))) *
								   SC_NONLEAF_FILL / pivot);

		level = ceil(level / Max(2, fanout));
		pages += level;
		height++;
	}
	leaf->height = height;
	leaf->pages = (BlockNumber) pages + 1;	/* the metapage */
	leaf->most = (double) leaf->pages * BLCKSZ * most / Max(1, bytes);
}

/*
 * hash, BRIN, GiST and others
 */

/*
 * Pages of a bucket, on average, if "mean" entries fall into one and a key of
 * "more" comes on top: quantiles of a normal distribution.
 */
static double
bucket_pages(double mean, double spread, double capacity, double more)
{
	static const double quantiles[] = {
		-1.96, -1.44, -1.15, -0.93, -0.76, -0.60, -0.45, -0.32, -0.19, -0.06,
		0.06, 0.19, 0.32, 0.45, 0.60, 0.76, 0.93, 1.15, 1.44, 1.96
	};
	double		deviation = spread * sqrt(mean);
	double		pages = 0;
	int			i;

	for (i = 0; i < lengthof(quantiles); i++)
	{
		double		entries = Max(0, mean + deviation * quantiles[i]) + more;

		pages += Max(1, ceil(entries / capacity));
	}
	return pages / lengthof(quantiles);
}

/* Buckets for so many, which come in quarters of a doubling. */
static double
whole_phases(double want)
{
	double		buckets = 2;

	while (buckets < want)
	{
		double		base = buckets;
		int			i;

		if (base < 512)
			buckets *= 2;
		else
		{
			for (i = 0; i < 4 && buckets < want; i++)
				buckets += base / 4;
		}
	}
	return buckets;
}

/*
 * The build asks for buckets by the rows of the table, whatever the index's
 * predicate, in _hash_init().  Where these are no power of two, those that
 * are not split yet have twice the entries of the others; and all entries of
 * a value are in one.
 */
static void
size_hash(ScHypo *hypo, ScHypoLeaf *leaf, Entries *e, ScSample *sample)
{
	double		fill = hypo->fillfactor > 0 ? hypo->fillfactor :
		HASH_DEFAULT_FILLFACTOR;
	double		item = MAXALIGN(sizeof(IndexTupleData) + sizeof(uint32)) +
		sizeof(ItemIdData);
	double		capacity = floor((SC_PAGE_SPACE -
								  MAXALIGN(sizeof(HashPageOpaqueData))) /
								 item);
	double		ffactor = Max(10, floor(BLCKSZ * fill / 100 / item));
	double		scale = leaf->tuples / Max(1, e->nmatch);
	Groups		groups = estimate_groups(e->hashes, e->nmatch, leaf->tuples);
	double		used;
	double		buckets;
	double		whole = 2;
	double		split;			/* the part of these that are split */
	double		few;			/* entries of a bucket that is split */
	double		spread;			/* what a deviation is above Poisson's */
	double		others;
	double		squares;
	double		pages;
	int			i;
	int			j;

	/* At first, and then one at a time; but pages come for all of a phase. */
	used = Max(whole_phases(floor(sample->tuples / ffactor)),
			   ceil(leaf->tuples / ffactor));
	buckets = whole_phases(used);
	while (whole * 2 <= used)
		whole *= 2;
	split = (used - whole) / whole;

	/* Values with more entries than a page has are counted one by one. */
	others = Max(0, leaf->tuples - groups.frequent_rows);
	squares = others * others / Max(1, groups.distinct - groups.frequent);
	for (i = 0; i < e->nmatch; i = j)
	{
		double		rows;

		for (j = i + 1; j < e->nmatch && e->hashes[j] == e->hashes[i];)
			j++;
		rows = (j - i) * scale;
		if (j - i >= SC_FREQUENT && rows <= capacity)
		{
			others += rows;
			squares += rows * rows;
		}
	}
	few = others / whole / 2;
	spread = others > 0 ? sqrt(Max(1, squares / others)) : 1;
	pages = buckets - used + whole *
		(2 * split * bucket_pages(few, spread, capacity, 0) +
		 (1 - split) * bucket_pages(2 * few, spread, capacity, 0));
	for (i = 0; i < e->nmatch; i = j)
	{
		double		rows;

		for (j = i + 1; j < e->nmatch && e->hashes[j] == e->hashes[i];)
			j++;
		rows = (j - i) * scale;
		if (j - i >= SC_FREQUENT && rows > capacity)
			pages += split * (bucket_pages(few, spread, capacity, rows) -
							  bucket_pages(few, spread, capacity, 0)) +
				(1 - split) * (bucket_pages(2 * few, spread, capacity, rows) -
							   bucket_pages(2 * few, spread, capacity, 0));
	}
	leaf->pages = (BlockNumber) ceil(pages) + 2;	/* metapage and bitmap */
	leaf->height = -1;
}

static void
size_brin(ScHypo *hypo, ScHypoLeaf *leaf, Entries *e, ScSample *sample)
{
	double		per_range = BRIN_DEFAULT_PAGES_PER_RANGE;
	double		ranges = ceil(sample->pages / per_range);
	double		avg = e->nmatch > 0 ? e->size / e->nmatch : leaf->width;
	double		item = MAXALIGN((Size) (2 * (avg - sizeof(IndexTupleData)) +
										8)) + sizeof(ItemIdData);

	leaf->pages = 2 + (BlockNumber) (ceil(ranges / REVMAP_PAGE_MAXITEMS) +
									 ceil(ranges * item / SC_PAGE_SPACE)) - 1;
	leaf->height = -1;
}

/* The storage type of an opclass's keys, or InvalidOid: the column's. */
static Oid
opclass_keytype(Oid opclass)
{
	HeapTuple	tuple = SearchSysCache1(CLAOID, ObjectIdGetDatum(opclass));
	Oid			result = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_opclass) GETSTRUCT(tuple))->opckeytype;
		ReleaseSysCache(tuple);
	}
	return result;
}

/* Average size of GiST's compressed leaf keys; 0 is unknown. */
static double
gist_key_size(ScSample *sample, ScHypo *hypo, ScHypoLeaf *leaf)
{
	Node	   *expr = (Node *) linitial(leaf->columns);
	Oid			keytype = opclass_keytype(hypo->opclass[0]);
	Oid			proc = get_opfamily_proc(hypo->opfamily[0],
										 hypo->opcintype[0],
										 hypo->opcintype[0],
										 GIST_COMPRESS_PROC);
	EState	   *estate;
	ExprContext *econtext;
	TupleTableSlot *slot;
	ExprState  *state;
	FmgrInfo	compress;
	double		size = 0;
	int			n = 0;
	int			i;

	if (!OidIsValid(proc) || !OidIsValid(keytype))
		return 0;
	if (get_typlen(keytype) > 0)
		return get_typlen(keytype);
	fmgr_info(proc, &compress);
	estate = CreateExecutorState();
	econtext = GetPerTupleExprContext(estate);
	slot = MakeSingleTupleTableSlot(sample->desc, &TTSOpsHeapTuple);
	state = ExecPrepareExpr((Expr *) expr, estate);
	econtext->ecxt_scantuple = slot;
	for (i = 0; i < sample->nrows && n < SC_GIST_ROWS; i++)
	{
		MemoryContext oldcxt;
		GISTENTRY	entry;
		bool		isnull;
		Datum		value;

		ResetExprContext(econtext);
		ExecStoreHeapTuple(sample->rows[i], slot, false);
		oldcxt = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
		value = ExecEvalExpr(state, econtext, &isnull);
		if (!isnull)
		{
			gistentryinit(entry, value, NULL, NULL, InvalidOffsetNumber,
						  true);
			value = ((GISTENTRY *)
					 DatumGetPointer(FunctionCall1Coll(&compress,
													   hypo->collation[0],
													   PointerGetDatum(&entry))))->key;
			size += VARATT_CAN_MAKE_SHORT(DatumGetPointer(value)) ?
				VARATT_CONVERTED_SHORT_SIZE(DatumGetPointer(value)) :
				VARSIZE_ANY(DatumGetPointer(value));
			n++;
		}
		MemoryContextSwitchTo(oldcxt);
	}
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
	return n > 0 ? size / n : 0;
}

/* Trees whose pages are filled by splitting. */
static void
size_split_tree(ScHypo *hypo, ScHypoLeaf *leaf, Entries *e, ScSample *sample)
{
	double		avg = e->nmatch > 0 ? e->size / e->nmatch : leaf->width;
	double		fill = hypo->am == SPGIST_AM_OID ? SC_SPGIST_FILL : SC_GIST_FILL;
	double		item = avg + sizeof(ItemIdData);

	if (hypo->am == SPGIST_AM_OID &&
		get_opfamily_proc(hypo->opfamily[0], hypo->opcintype[0],
						  hypo->opcintype[0],
						  SPGIST_PICKSPLIT_PROC) == F_SPG_TEXT_PICKSPLIT)
		fill = SC_SPGIST_TEXT_FILL;
	if (hypo->am == GIST_AM_OID && hypo->nkeys == 1)
	{
		double		keysize = gist_key_size(sample, hypo, leaf);
		Oid			picksplit;

		if (keysize > 0)
			item = ceil((sizeof(IndexTupleData) + keysize) /
						MAXIMUM_ALIGNOF) * MAXIMUM_ALIGNOF +
				sizeof(ItemIdData);
		picksplit = get_opfamily_proc(hypo->opfamily[0],
									  hypo->opcintype[0],
									  hypo->opcintype[0],
									  GIST_PICKSPLIT_PROC);
		/* These would rather have little overlap than even halves. */
		if (picksplit == F_GIST_BOX_PICKSPLIT ||
			picksplit == F_RANGE_GIST_PICKSPLIT)
			fill = SC_GIST_UNEVEN_FILL;

		/*
		 * Those that can sort fill four pages at a time, and then split these
		 * again: gist_indexsortbuild_levelstate_flush().
		 */
		if (OidIsValid(get_opfamily_proc(hypo->opfamily[0],
										 hypo->opcintype[0],
										 hypo->opcintype[0],
										 GIST_SORTSUPPORT_PROC)))
			fill = SC_GIST_SORTED_FILL;
	}
	leaf->pages = 1 + (BlockNumber) ceil(leaf->tuples * item * 1.01 /
										 (SC_PAGE_SPACE * fill));
	leaf->height = -1;
}

/*
 * GIN
 */

typedef struct GinKeys
{
	uint64	   *hashes;
	int			nkeys;
	int			maxkeys;
	double		keybytes;
	int			nrows;
} GinKeys;

static void
add_keys(GinKeys *keys, FmgrInfo *extract, Oid collation, Datum value,
		 int16 typlen, bool typbyval, MemoryContext cxt)
{
	int32		n = 0;
	bool	   *nullflags = NULL;
	Datum	   *datums;
	int			i;

	datums = (Datum *)
		DatumGetPointer(FunctionCall3Coll(extract, collation, value,
										  PointerGetDatum(&n),
										  PointerGetDatum(&nullflags)));
	if (datums == NULL || n <= 0)
		return;
	if (keys->nkeys + n > keys->maxkeys)
	{
		MemoryContext oldcxt = MemoryContextSwitchTo(cxt);

		keys->maxkeys = (keys->nkeys + n) * 2;
		if (keys->hashes == NULL)
			keys->hashes = (uint64 *)
				MemoryContextAllocHuge(cxt, sizeof(uint64) * keys->maxkeys);
		else
			keys->hashes = (uint64 *)
				repalloc_huge(keys->hashes, sizeof(uint64) * keys->maxkeys);
		MemoryContextSwitchTo(oldcxt);
	}
	for (i = 0; i < n; i++)
	{
		if (nullflags != NULL && nullflags[i])
			continue;
		keys->hashes[keys->nkeys++] = hash_key(datums[i], typlen, typbyval,
											   &keys->keybytes);
	}
}

static void
collect_gin(ScSample *sample, ScHypo *hypo, ScHypoLeaf *leaf, int column,
			GinKeys *keys)
{
	Node	   *expr = (Node *) list_nth(leaf->columns, column);
	Oid			proc = get_opfamily_proc(hypo->opfamily[column],
										 hypo->opcintype[column],
										 hypo->opcintype[column],
										 GIN_EXTRACTVALUE_PROC);
	MemoryContext cxt = CurrentMemoryContext;
	EState	   *estate = CreateExecutorState();
	ExprContext *econtext = GetPerTupleExprContext(estate);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(sample->desc,
													&TTSOpsHeapTuple);
	ExprState  *pred = ExecPrepareQual(leaf->pred, estate);
	ExprState  *state = ExecPrepareExpr((Expr *) expr, estate);
	pg_prng_state prng;
	Oid			keytype = opclass_keytype(hypo->opclass[column]);
	int16		typlen;
	bool		typbyval;
	FmgrInfo	extract;
	int			i;

	memset(keys, 0, sizeof(GinKeys));
	if (!OidIsValid(proc))
		return;
	fmgr_info(proc, &extract);
	if (!OidIsValid(keytype))
		keytype = hypo->opcintype[column];
	if (IsPolymorphicType(keytype))
		keytype = get_base_element_type(exprType(expr));
	if (!OidIsValid(keytype))
		keytype = TEXTOID;
	get_typlenbyval(keytype, &typlen, &typbyval);

	econtext->ecxt_scantuple = slot;
	/* Some rows tell how many keys one has, and so how many rows to look at. */
	for (int pass = 0; pass < 2; pass++)
	{
		double		rows = pass == 0 ? SC_GIN_ROWS / 10 :
			Max(SC_GIN_ROWS, SC_GIN_KEYS * (double) keys->nrows /
				Max(1, keys->nkeys));
		double		part = rows / Max(1, sample->nrows);

		keys->nkeys = keys->nrows = 0;
		keys->keybytes = 0;
		pg_prng_seed(&prng, 20);
		for (i = 0; i < sample->nrows; i++)
		{
			MemoryContext oldcxt;
			Datum		value;
			bool		isnull;

			if (part < 1 && pg_prng_double(&prng) >= part)
				continue;
			CHECK_FOR_INTERRUPTS();
			ResetExprContext(econtext);
			ExecStoreHeapTuple(sample->rows[i], slot, false);
			keys->nrows++;
			if (pred != NULL && !ExecQual(pred, econtext))
				continue;
			oldcxt = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
			value = ExecEvalExpr(state, econtext, &isnull);
			if (!isnull)
				add_keys(keys, &extract, hypo->collation[column], value,
						 typlen, typbyval, cxt);
			MemoryContextSwitchTo(oldcxt);
		}
	}
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
}

/*
 * Bytes of a compressed posting list of n rows of a table.  The first of them
 * is in its header.  The others are differences, 11 bits of which are for
 * places in a page, in bytes of 7 bits; pages between are distributed as
 * between random ones.
 */
static double
posting_bytes(double n, ScSample *sample)
{
	double		rows_per_page = sample->tuples / Max(1, sample->pages);
	double		pages = sample->pages *
		(1 - exp(-n / Max(1, sample->pages)));
	double		gap = Max(1, sample->pages / Max(1, pages));
	double		other_page = 2 + exp(-8 / gap) + exp(-1024 / gap) +
		exp(-131072 / gap);

	return offsetof(GinPostingList, bytes) + Max(0, pages - 1) * other_page +
		(n - pages) * (rows_per_page > 64 ? 1.1 : 1);
}

/* An entry of a key with n rows, and its item pointer. */
static double
entry_bytes(double keysize, double n, ScSample *sample)
{
	double		size = MAXALIGN((Size) ceil(sizeof(IndexTupleData) + keysize)) +
		posting_bytes(n, sample);

	/* What alignment adds to a size of any length. */
	if (n > 1)
		size += (MAXIMUM_ALIGNOF - 1) / 2.0;
	return size + sizeof(ItemIdData);
}

/* How often keys were seen in the sample: [1] once, and so on. */
#define SC_SEEN		4

/*
 * How many keys those seen once stand for, with those not seen.  Keys seen
 * three and four times tell of a class of keys that are as frequent as each
 * other, and how many of these were seen twice and once: as many as of a
 * Poisson distribution.  Those that are left are rarer, and how many of them
 * there are is for Chao's estimator to say.
 */
static double
rare_keys(const double *seen, double scale, int nkeys)
{
	double		most = seen[1] * scale;
	double		once = seen[1];
	double		twice = seen[2];
	double		class = 0;
	double		all;

	/*
	 * Nearly all of them are different.  If they are as frequent as each other,
	 * pairs tell how many there could be, and not all of these need be in the
	 * table.
	 */
	if (seen[1] > 0.9 * nkeys)
	{
		all = once * Max(1, once - 1) / (2 * (twice + 1));
		return Max(once, all * (1 - exp(-most / all)));
	}
	if (seen[3] > 0 && seen[4] > 0)
	{
		double		lambda = 4 * seen[4] / seen[3];
		double		class_twice = 3 * seen[3] / lambda;
		double		class_once = 2 * class_twice / lambda;

		/* If that would be all of them, there are no rarer ones. */
		if (class_once < once)
		{
			twice -= Min(0.75 * twice, class_twice);
			once -= class_once;
			class = class_once + class_once / lambda;
		}
	}
	if (once > 1)
		class += once + once * (once - 1) / (2 * (twice + 1));
	return Min(most, Max(class, seen[1]));
}

static double
gin_column_bytes(GinKeys *keys, ScSample *sample, double batches,
				 double *trees, double *squares)
{
	double		scale = keys->nrows > 0 ? sample->tuples / keys->nrows : 1;
	double		keysize = keys->nkeys > 0 ? keys->keybytes / keys->nkeys : 8;
	double		before = batches > 1 ? (batches - 1) / batches : 0;
	double		seen[SC_SEEN + 1] = {0};
	double		bytes = 0;
	int			i = 0;

	if (keys->nkeys == 0)
		return 0;
	qsort(keys->hashes, keys->nkeys, sizeof(uint64), compare_hashes);
	while (i < keys->nkeys)
	{
		int			j = i + 1;
		double		n;
		double		posting;
		double		size;

		while (j < keys->nkeys && keys->hashes[j] == keys->hashes[i])
			j++;
		if (j - i <= SC_SEEN)
			seen[j - i]++;
		n = (j - i) * scale;
		if (j - i == 1 && scale > 1)
		{
			/* Most of these stand for other keys that were not seen. */
			i = j;
			continue;
		}
		posting = posting_bytes(n, sample);
		if (posting > SC_GIN_INLINE)
		{
			if (posting < SC_PAGE_SPACE)
				*trees += 1;
			else
				*trees += 1 + ceil(posting / (SC_PAGE_SPACE * SC_GIN_TREE_FILL));
			/* What the list took before it became a tree stays free. */
			size = entry_bytes(keysize, 1, sample) +
				Min(posting * before, SC_GIN_INLINE);
		}
		else
			size = entry_bytes(keysize, n, sample);
		bytes += size;
		*squares += size * size;
		i = j;
	}

	/* Keys seen once, with those not seen. */
	if (seen[1] > 0 && scale > 1)
	{
		double		d = Max(1, rare_keys(seen, scale, keys->nkeys));

		double		size = entry_bytes(keysize, Max(1, seen[1] * scale / d),
									   sample);

		bytes += d * size;
		*squares += d * size * size;
	}
	return bytes;
}

static void
size_gin(ScHypo *hypo, ScHypoLeaf *leaf, ScSample *sample)
{
	double		bytes = 0;
	double		trees = 0;
	double		squares = 0;
	double		fill = 0.51;
	int			i;

	for (i = 0; i < hypo->nkeys; i++)
	{
		GinKeys		keys;
		double		batches;

		collect_gin(sample, hypo, leaf, i, &keys);
		/* A build sorts as much as fits; later batches fill up pages. */
		batches = keys.nkeys * sample->tuples / Max(1, keys.nrows) *
			SC_GIN_POSTING_MEM / (maintenance_work_mem * 1024.0);
		batches = Max(1, ceil(batches));
		if (batches > 1)
			fill = 0.66;
		bytes += gin_column_bytes(&keys, sample, batches, &trees, &squares);
		if (keys.hashes != NULL)
			pfree(keys.hashes);
	}
	/*
	 * A page is split where more than half of it is on the left, so what stays
	 * there is half a page and a part of an entry, more likely of a long one.
	 */
	if (bytes > 0)
		fill = Max(fill, Min(0.5 + SC_GIN_OVERHANG * squares / bytes / SC_PAGE_SPACE,
							 SC_GIN_TREE_FILL));
	leaf->pages = 2 + (BlockNumber) (ceil(bytes / (SC_PAGE_SPACE * fill)) +
									 trees);
	leaf->height = -1;
}

/*
 * The rule for all of them.
 */

/* Width of an entry by declared types, where there is no row to look at. */
static double
declared_width(ScHypoLeaf *leaf)
{
	double		width = sizeof(IndexTupleData);
	ListCell   *lc;

	foreach(lc, leaf->columns)
		width += get_typavgwidth(exprType((Node *) lfirst(lc)),
								 exprTypmod((Node *) lfirst(lc)));
	return MAXALIGN((Size) width);
}

/* Average bytes of a column, by statistics. */
static double
column_width(ScHypoLeaf *leaf, Node *column, ScExprStats *stats)
{
	double		width = 0;

	if (IsA(column, Var))
		width = get_attavgwidth(leaf->relid, ((Var *) column)->varattno);
	else if (stats != NULL && stats->tuple != NULL)
		width = ((Form_pg_statistic) GETSTRUCT(stats->tuple))->stawidth;
	if (width <= 0)
		width = get_typavgwidth(exprType(column), exprTypmod(column));
	return width;
}

/*
 * The same by statistics alone, without looking at rows: for comparing many
 * candidates.
 */
void
sc_size_guess(ScStudy *study, ScHypo *hypo, ScHypoLeaf *leaf)
{
	ScSample   *sample = sc_sample_get(study, leaf->relid);
	Entries		e;
	double		width = sizeof(IndexTupleData);
	double		keywidth = 0;
	double		d = 1;
	ListCell   *lc;
	int			nth = 0;
	int			i = 0;

	if (hypo->am != BTREE_AM_OID && hypo->am != BRIN_AM_OID)
	{
		sc_size_estimate(study, hypo, leaf);
		return;
	}
	leaf->tuples = rint(sample->tuples *
						sc_sample_fraction(study, sample, leaf->pred));
	foreach(lc, leaf->columns)
	{
		Node	   *column = (Node *) lfirst(lc);
		ScExprStats *stats = NULL;
		int16		typlen;
		bool		typbyval;
		char		typalign;
		double		n;

		if (leaf->attnums[i] == 0 && nth < list_length(leaf->stats))
			stats = (ScExprStats *) list_nth(leaf->stats, nth++);
		get_typlenbyvalalign(exprType(column), &typlen, &typbyval, &typalign);
		if (typalign == TYPALIGN_DOUBLE)
			width = MAXALIGN((Size) width);
		width += column_width(leaf, column, stats);
		n = stats != NULL ? stats->ndistinct :
			sc_column_ndistinct(leaf->relid, leaf->attnums[i], false, sample->tuples);
		if (n < 0)
			n = -n * sample->tuples;
		if (i < hypo->nkeys)
		{
			d *= n > 0 ? n : 200;
			keywidth = width;
		}
		i++;
	}
	memset(&e, 0, sizeof(e));
	leaf->width = ceil(width / MAXIMUM_ALIGNOF) * MAXIMUM_ALIGNOF;
	/* As if one entry had been looked at. */
	e.nmatch = e.nrows = 1;
	e.size = leaf->width;
	e.keysize = ceil(keywidth / MAXIMUM_ALIGNOF) * MAXIMUM_ALIGNOF;
	e.distinct = Max(1, Min(d, leaf->tuples));
	if (hypo->am == BTREE_AM_OID)
		size_btree(hypo, leaf, &e, sample);
	else
		size_brin(hypo, leaf, &e, sample);
}

/* Fill in pages, tuples, width and height of a hypothetical index. */
void
sc_size_estimate(ScStudy *study, ScHypo *hypo, ScHypoLeaf *leaf)
{
	ScSample   *sample = sc_sample_get(study, leaf->relid);
	MemoryContext tmpcxt = AllocSetContextCreate(study->cxt,
												 "scalecache index size",
												 ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcxt = MemoryContextSwitchTo(tmpcxt);
	Entries		e;

	collect_entries(sample, hypo, leaf, study->rows > 0 ? study->rows :
					hypo->am == BTREE_AM_OID && hypo->dedup ? SC_KEY_ROWS :
					SC_WIDTH_ROWS, &e);
	leaf->most = 0;
	leaf->width = e.nmatch > 0 ? e.size / e.nmatch : declared_width(leaf);
	leaf->tuples = rint(sc_sample_count(study, sample, leaf->pred));
	if (e.nnulls > 0)
		leaf->tuples = rint(leaf->tuples * e.nmatch / (e.nmatch + e.nnulls));

	switch (hypo->am)
	{
		case BTREE_AM_OID:
			size_btree(hypo, leaf, &e, sample);
			break;
		case HASH_AM_OID:
			size_hash(hypo, leaf, &e, sample);
			break;
		case BRIN_AM_OID:
			size_brin(hypo, leaf, &e, sample);
			break;
		case GIN_AM_OID:
			size_gin(hypo, leaf, sample);
			break;
		default:
			size_split_tree(hypo, leaf, &e, sample);
			break;
	}
	MemoryContextSwitchTo(oldcxt);
	MemoryContextDelete(tmpcxt);
}
