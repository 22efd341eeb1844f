/*-------------------------------------------------------------------------
 *
 * price.c
 *	  What a set of candidates costs: the plans of the workload, the writes,
 *	  and the space.
 *
 * What must always hold:
 *
 * - An execution is planned again only when a candidate that could matter to
 *	 it came or went, and not when its last plan did without what went.
 *
 * - Each plan that was found is kept: with any set that has its indexes the
 *	 execution costs at most that.  So what a set costs at most can be told
 *	 without planning, and for a set that was planned this is what it costs.
 *	 Where the planner, which compares costs roughly while it joins, took a
 *	 worse plan than a known one, that is kept in mind too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/relation.h"
#include "access/sysattr.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "access/genam.h"
#include "catalog/pg_index.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "utils/float.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "advisor/choose.h"

/* Rent of an index on the keys of one that exists, with more included. */
#define SC_COPY_RENT		0.10
/* Part of updates that find room on their page. */
#define SC_HOT				0.9
/* A lost HOT update costs more than its entries: dead entries, vacuum. */
#define SC_HOT_LOSS			5.0
/* Keys of a row in a GIN index, some of which are written together. */
#define SC_GIN_KEYS			8
/* Effort of planning for a partition, as a part of that for a table. */
#define SC_PART_EFFORT		0.3
/* Costs that differ less are the same to the planner while it joins. */
#define SC_ROUGHLY			0.001
/* Estimated sizes may be a little too small, more so when entries share. */
#define SC_SIZE_MARGIN		1.01
#define SC_SHARED_MARGIN	1.10

typedef struct Memo
{
	Bitmapset  *set;			/* must be first */
	double		cost;
	Bitmapset  *used;
	Bitmapset  *scanned;		/* of these, not by statistics alone */
} Memo;

/*
 * The cost of the workload with a set of candidates.
 */

ScCandidate *
sc_candidate(ScAdvice *advice, int id)
{
	return (ScCandidate *) list_nth(advice->candidates, id);
}

static double
effort_of(ScVariant *variant)
{
	return 1 + 0.5 * variant->nrels * variant->nrels +
		SC_PART_EFFORT * variant->nparts;
}

/* A plan that was found and does without what is missing from the set. */
static Memo *
find_memo(ScVariant *variant, Bitmapset *set)
{
	HASH_SEQ_STATUS seq;
	Memo	   *memo = hash_search(variant->memo, &set, HASH_FIND, NULL);

	if (memo != NULL)
		return memo;
	hash_seq_init(&seq, variant->memo);
	while ((memo = hash_seq_search(&seq)) != NULL)
	{
		if (bms_is_subset(memo->used, set) && bms_is_subset(set, memo->set))
		{
			hash_seq_term(&seq);
			return memo;
		}
	}
	return NULL;
}

/* What is no subset of another when folded is none. */
static bitmapword
folded(const Bitmapset *set)
{
	bitmapword	result = 0;
	int			i;

	for (i = 0; set != NULL && i < set->nwords; i++)
		result |= set->words[i];
	return result;
}

/* The least that a known plan costs with a set. */
static double
known_cost(ScVariant *variant, Bitmapset *set)
{
	double		best = variant->base;
	bitmapword	lacking = ~folded(set);
	ListCell   *lc;
	int			i;

	for (i = 0; i < variant->nplans; i++)
	{
		if ((variant->plans[i].folded & lacking) == 0 &&
			bms_is_subset(variant->plans[i].used, set))
		{
			best = variant->plans[i].cost;
			break;
		}
	}
	foreach(lc, variant->traps)
	{
		ScTrap	   *trap = (ScTrap *) lfirst(lc);

		if (best >= trap->instead && best < trap->cost &&
			bms_is_subset(trap->used, set))
			best = trap->cost;
	}
	return best;
}

/* Keep a plan, unless another costs no more and needs nothing else. */
static void
note_plan(ScVariant *variant, Bitmapset *used, double cost)
{
	int			at = 0;
	int			kept;
	int			i;

	variant->seen = bms_add_members(variant->seen, used);
	for (; at < variant->nplans && variant->plans[at].cost <= cost; at++)
	{
		if (bms_is_subset(variant->plans[at].used, used))
			return;
	}
	/* Those that it outdoes go. */
	for (i = kept = at; i < variant->nplans; i++)
	{
		if (!bms_is_subset(used, variant->plans[i].used))
			variant->plans[kept++] = variant->plans[i];
	}
	variant->nplans = kept;
	if (variant->nplans == variant->maxplans)
	{
		variant->maxplans = variant->maxplans == 0 ? 16 :
			variant->maxplans * 2;
		variant->plans = variant->plans == NULL ?
			(ScPlanned *) palloc(sizeof(ScPlanned) * variant->maxplans) :
			(ScPlanned *) repalloc(variant->plans,
								   sizeof(ScPlanned) * variant->maxplans);
	}
	memmove(variant->plans + at + 1, variant->plans + at,
			sizeof(ScPlanned) * (variant->nplans - at));
	variant->plans[at].used = used;
	variant->plans[at].folded = folded(used);
	variant->plans[at].cost = cost;
	variant->nplans++;
}

/* Its size is another now, so are plans with it. */
void
sc_forget_plans(ScAdvice *advice, ScCandidate *cand)
{
	ListCell   *lc;

	foreach(lc, advice->items)
	{
		ScItem	   *item = (ScItem *) lfirst(lc);
		ListCell   *l;

		foreach(l, item->variants)
		{
			ScVariant  *variant = (ScVariant *) lfirst(l);
			HASH_SEQ_STATUS seq;
			Memo	   *memo;
			ListCell   *t;
			int			kept = 0;
			int			i;

			for (i = 0; i < variant->nplans; i++)
			{
				if (!bms_is_member(cand->id, variant->plans[i].used))
					variant->plans[kept++] = variant->plans[i];
			}
			variant->nplans = kept;
			foreach(t, variant->traps)
			{
				if (bms_is_member(cand->id, ((ScTrap *) lfirst(t))->used))
					variant->traps = foreach_delete_current(variant->traps, t);
			}
			if (variant->memo == NULL)
				continue;
			/* It may have been left aside for its size, too. */
			hash_seq_init(&seq, variant->memo);
			while ((memo = hash_seq_search(&seq)) != NULL)
			{
				if (bms_is_member(cand->id, memo->set))
					(void) hash_search(variant->memo, &memo->set,
									   HASH_REMOVE, NULL);
			}
		}
	}
}

void
sc_plan_variant(ScAdvice *advice, ScVariant *variant, Bitmapset *set,
			 double *cost, Bitmapset **used)
{
	MemoryContext tmpcxt = AllocSetContextCreate(advice->study->cxt,
												 "scalecache planning",
												 ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcxt = MemoryContextSwitchTo(tmpcxt);
	List	   *plans;
	List	   *ids = NIL;
	double		known;
	ListCell   *lc;
	int			x = -1;

	CHECK_FOR_INTERRUPTS();
	advice->effort += effort_of(variant);
	advice->plannings++;
	advice->study->hypos = NIL;
	while ((x = bms_next_member(set, x)) >= 0)
	{
		sc_candidate(advice, x)->hypo->informed = false;
		advice->study->hypos = lappend(advice->study->hypos,
									   sc_candidate(advice, x)->hypo);
	}
	*cost = sc_query_cost(advice->study, variant->query, &plans);
	foreach(lc, plans)
	{
		ListCell   *l;

		foreach(l, sc_plan_indexes(lfirst_node(PlannedStmt, lc)))
		{
			ScHypo	   *hypo = sc_study_find(advice->study, lfirst_oid(l));

			if (hypo != NULL)
				ids = lappend_int(ids, hypo->tag);
		}
	}
	advice->study->hypos = NIL;
	MemoryContextSwitchTo(advice->study->cxt);
	*used = NULL;
	x = -1;
	foreach(lc, ids)
		*used = bms_add_member(*used, lfirst_int(lc));
	variant->scanned = bms_copy(*used);
	/* An index on an expression can change plans by its statistics alone. */
	while ((x = bms_next_member(set, x)) >= 0)
	{
		if (sc_candidate(advice, x)->hypo->informed)
			*used = bms_add_member(*used, x);
	}
	known = known_cost(variant, set);
	if (known < *cost * (1 - SC_ROUGHLY))
	{
		ScTrap	   *trap = (ScTrap *) palloc(sizeof(ScTrap));

		trap->used = *used;
		trap->cost = *cost;
		trap->instead = known;
		variant->traps = lappend(variant->traps, trap);
	}
	note_plan(variant, *used, *cost);
	MemoryContextSwitchTo(oldcxt);
	MemoryContextDelete(tmpcxt);
}

static Memo *
variant_memo(ScAdvice *advice, ScVariant *variant, Bitmapset *set,
			 Bitmapset *among)
{
	MemoryContext oldcxt = MemoryContextSwitchTo(advice->study->cxt);
	Bitmapset  *key = bms_intersect(set, among);
	Memo	   *memo;

	if (variant->memo == NULL)
	{
		HASHCTL		ctl;

		memset(&ctl, 0, sizeof(ctl));
		ctl.keysize = sizeof(Bitmapset *);
		ctl.entrysize = sizeof(Memo);
		ctl.hash = bitmap_hash;
		ctl.match = bitmap_match;
		ctl.hcxt = advice->study->cxt;
		variant->memo = hash_create("scalecache plans", 64, &ctl,
									HASH_ELEM | HASH_FUNCTION | HASH_COMPARE |
									HASH_CONTEXT);
	}
	memo = find_memo(variant, key);
	if (memo == NULL)
	{
		double		cost;
		Bitmapset  *used;

		sc_plan_variant(advice, variant, key, &cost, &used);
		memo = hash_search(variant->memo, &key, HASH_ENTER, NULL);
		memo->cost = cost;
		memo->used = used;
		memo->scanned = variant->scanned;
	}
	else
		bms_free(key);
	MemoryContextSwitchTo(oldcxt);
	return memo;
}

/*
 * An item's cost of one execution, on average, when it may use those of a set
 * that are among others; adds the members that its plans use.
 */
static double
item_cost(ScAdvice *advice, ScItem *item, Bitmapset *set, Bitmapset *among,
		  Bitmapset **used)
{
	double		cost = 0;
	ListCell   *lc;

	foreach(lc, item->variants)
	{
		ScVariant  *variant = (ScVariant *) lfirst(lc);
		Memo	   *memo = variant_memo(advice, variant, set, among);

		cost += variant->weight * memo->cost;
		if (used != NULL)
			*used = bms_add_members(*used, memo->used);
	}
	return cost;
}

double
sc_item_cost(ScAdvice *advice, ScItem *item, Bitmapset *set)
{
	return item_cost(advice, item, set, item->cands, NULL);
}

/*
 * The same when it may use whatever there is on its tables.  What turns out
 * to be of use is considered for the statement from then on.
 */
double
sc_item_true_cost(ScAdvice *advice, ScItem *item, Bitmapset *set)
{
	Bitmapset  *used = NULL;
	double		cost = item_cost(advice, item, set, item->reach, &used);
	MemoryContext oldcxt = MemoryContextSwitchTo(advice->study->cxt);
	int			x = -1;

	while ((x = bms_next_member(used, x)) >= 0)
	{
		ScCandidate *cand = sc_candidate(advice, x);

		item->cands = bms_add_member(item->cands, x);
		cand->items = bms_add_member(cand->items, item->index);
	}
	MemoryContextSwitchTo(oldcxt);
	return cost;
}

/* Members of a set that its executions read with it. */
Bitmapset *
sc_item_scanned(ScAdvice *advice, ScItem *item, Bitmapset *set)
{
	Bitmapset  *result = NULL;
	ListCell   *lc;

	foreach(lc, item->variants)
		result = bms_add_members(result,
								 variant_memo(advice, (ScVariant *) lfirst(lc),
											  set, item->cands)->scanned);
	return result;
}

/* What an execution costs at most, by the plans that are known; nothing is planned. */
double
sc_item_known_cost(ScItem *item, Bitmapset *set)
{
	double		cost = 0;
	ListCell   *lc;

	foreach(lc, item->variants)
	{
		ScVariant  *variant = (ScVariant *) lfirst(lc);
		cost += variant->weight * known_cost(variant, set);
	}
	return cost;
}

/* By how much some statements' costs with two sets differ, weighted. */
static double
items_lose(ScAdvice *advice, Bitmapset *items, Bitmapset *before,
		   Bitmapset *after)
{
	double		loss = 0;
	int			i = -1;

	while ((i = bms_next_member(items, i)) >= 0)
	{
		ScItem	   *item = (ScItem *) list_nth(advice->items, i);

		loss += item->weight * (sc_item_cost(advice, item, after) -
								sc_item_cost(advice, item, before));
	}
	return loss;
}

double
sc_workload_cost(ScAdvice *advice, Bitmapset *set)
{
	double		cost = 0;
	ListCell   *lc;

	foreach(lc, advice->items)
	{
		ScItem	   *item = (ScItem *) lfirst(lc);

		cost += item->weight * sc_item_cost(advice, item, set);
	}
	return cost;
}

/*
 * The cost of writing.
 */

/* What inserting one row costs an index, in the planner's units. */
static double
entry_cost(ScCandidate *cand)
{
	ScHypo	   *hypo = cand->hypo;
	ScHypoLeaf *leaf;
	double		height;
	double		cost;

	if (hypo->leaves == NIL)
		return 0;
	leaf = (ScHypoLeaf *) linitial(hypo->leaves);
	if (hypo->am == BRIN_AM_OID)
		return cpu_operator_cost;
	height = Max(1, leaf->height);
	/* Going down, half a page to read, its share of a page to write. */
	cost = (height + 1) * 50 * cpu_operator_cost + 0.5 * random_page_cost +
		hypo->width / BLCKSZ * 4;
	if (hypo->am == GIN_AM_OID)
		cost *= SC_GIN_KEYS;
	else if (hypo->am != BTREE_AM_OID && hypo->am != HASH_AM_OID)
		cost *= 2;
	return cost;
}

/* The part of a table's rows that an index has. */
double
sc_index_part(ScAdvice *advice, ScCandidate *cand)
{
	double		all = 0;
	double		tuples = 0;
	ListCell   *lc;

	if (cand->hypo->pred == NIL)
		return 1;
	foreach(lc, cand->hypo->leaves)
	{
		ScHypoLeaf *leaf = (ScHypoLeaf *) lfirst(lc);

		tuples += leaf->tuples;
		all += sc_sample_get(advice->study, leaf->relid)->tuples;
	}
	return all > 0 ? Min(1, tuples / all) : 1;
}

/* What the indexes that the table has mean for an UPDATE. */
static void
look_at_existing(ScWrite *write)
{
	Relation	rel;
	Bitmapset  *attrs;
	int			x = -1;

	if (write->looked)
		return;
	rel = relation_open(write->relid, NoLock);
	attrs = RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_ALL);
	write->nindexes = list_length(RelationGetIndexList(rel));
	while ((x = bms_next_member(attrs, x)) >= 0)
	{
		int			attno = x + FirstLowInvalidHeapAttributeNumber;

		if (attno > 0 && bms_is_member(attno, write->columns))
			write->never_hot = true;
	}
	relation_close(rel, NoLock);
	write->looked = true;
}

static double
one_write_cost(ScAdvice *advice, ScWrite *write, Bitmapset *set)
{
	double		entries = 0;
	double		touched = 0;
	bool		hot = true;
	Bitmapset  *mine = bms_intersect(set, write->cands);
	int			x = -1;

	while ((x = bms_next_member(mine, x)) >= 0)
	{
		ScCandidate *cand = sc_candidate(advice, x);

		entries += entry_cost(cand) * sc_index_part(advice, cand);
		if (bms_overlap(cand->columns, write->columns))
		{
			hot = false;
			touched += entry_cost(cand);
		}
	}
	bms_free(mine);
	if (write->command == CMD_INSERT)
		return write->rows * entries;
	if (write->command == CMD_UPDATE)
	{
		double		entry = 3 * 50 * cpu_operator_cost +
			0.5 * random_page_cost;

		look_at_existing(write);
		if (write->never_hot)
			return write->rows * (entries + touched);
		if (hot)
			return write->rows * (1 - SC_HOT) * entries;
		return write->rows * SC_HOT_LOSS *
			(entries + touched + SC_HOT * write->nindexes * entry +
			 0.5 * random_page_cost);
	}
	return 0;
}

/* Does no index, old or new, keep an UPDATE from being HOT? */
bool
sc_write_hot(ScAdvice *advice, ScWrite *write, Bitmapset *set)
{
	int			x = -1;

	look_at_existing(write);
	if (write->never_hot)
		return false;
	while ((x = bms_next_member(set, x)) >= 0)
	{
		ScCandidate *cand = sc_candidate(advice, x);

		if (bms_is_member(x, write->cands) &&
			bms_overlap(cand->columns, write->columns))
			return false;
	}
	return true;
}

/* Of the writes to one table, or to all if it is InvalidOid. */
double
sc_write_cost_of(ScAdvice *advice, Oid relid, Bitmapset *set)
{
	double		cost = 0;
	ListCell   *lc;

	foreach(lc, advice->writes)
	{
		ScWrite    *write = (ScWrite *) lfirst(lc);

		if (!OidIsValid(relid) || write->relid == relid)
			cost += one_write_cost(advice, write, set);
	}
	return cost;
}

double
sc_write_cost(ScAdvice *advice, Bitmapset *set)
{
	return sc_write_cost_of(advice, InvalidOid, set);
}

/*
 * Sets
 */

double
sc_set_bytes(ScAdvice *advice, Bitmapset *set)
{
	double		bytes = 0;
	int			x = -1;

	while ((x = bms_next_member(set, x)) >= 0)
		bytes += sc_candidate(advice, x)->hypo->bytes;
	return bytes;
}

/* By how much an index may turn out larger than estimated. */
static double
size_doubt(ScHypo *hypo)
{
	double		doubt = hypo->bytes * (SC_SHARED_MARGIN - 1);

	if (hypo->am == GIN_AM_OID)
		return doubt;
	return Min(doubt, hypo->most * SC_SIZE_MARGIN - hypo->bytes);
}

/* The doubts about indexes have nothing to do with each other. */
bool
sc_set_fits(ScAdvice *advice, Bitmapset *set)
{
	double		bytes = 0;
	double		doubts = 0;
	int			x = -1;

	if (advice->max_size < 0)
		return true;
	while ((x = bms_next_member(set, x)) >= 0)
	{
		ScHypo	   *hypo = sc_candidate(advice, x)->hypo;
		double		doubt = size_doubt(hypo);

		bytes += hypo->bytes;
		doubts += doubt * doubt;
	}
	return bytes + sqrt(doubts) <= advice->max_size;
}

/* Rent, and more for what is nearly there already. */
double
sc_set_rent(ScAdvice *advice, Bitmapset *set)
{
	double		rent = advice->rent * sc_set_bytes(advice, set);
	int			x = -1;

	while ((x = bms_next_member(set, x)) >= 0)
	{
		if (sc_candidate(advice, x)->copy)
			rent += SC_COPY_RENT * advice->best;
	}
	return rent;
}

/*
 * What a set would cost more without a candidate, which is of one table and
 * matters to few statements.
 */
double
sc_set_misses(ScAdvice *advice, Bitmapset *set, ScCandidate *cand)
{
	Bitmapset  *rest = bms_del_member(bms_copy(set), cand->id);
	Oid			relid = cand->hypo->relid;
	double		loss = items_lose(advice, cand->items, set, rest) +
		sc_write_cost_of(advice, relid, rest) -
		sc_write_cost_of(advice, relid, set) +
		sc_set_rent(advice, rest) - sc_set_rent(advice, set);

	bms_free(rest);
	return loss;
}
