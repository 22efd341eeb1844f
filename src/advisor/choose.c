/*-------------------------------------------------------------------------
 *
 * choose.c
 *	  Which of the candidates make the best set.
 *
 * The measure of a set is the planner's cost of the whole weighted workload,
 * plus what the indexes cost the writes, plus a small rent for space.  Here
 * it is settled which candidates come into question; search.c looks for the
 * best set of them.
 *
 * What must always hold:
 *
 * - The same statements and tables give the same set: nothing depends on
 *	 time, and ties are broken by the order of candidates.
 *
 * - What a set costs is for price.c to say.
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
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
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

/* Bytes of an index that cannot be built: there is no place for it. */
#define SC_NO_ROOM			1e15
/* Tables up to this size are read faster than any index. */
#define SC_TINY_PAGES		10
/* Rent of a database's worth of index, as a part of that cost. */
#define SC_RENT				0.01
/* Rounds of looking for other indexes for the same statement. */
#define SC_ROUNDS			6
#define SC_FOREIGN_ROUNDS	4
#define SC_CALM_ROUNDS		2
/* Rows of a table to measure candidates by. */
#define SC_ROUGH_ROWS		2500
#define SC_MAX_COLUMNS		10
#define SC_MAX_MERGES		200
/* Indexes help a statement if they leave less than this part of its cost. */
#define SC_HELPED			0.9
/* One that costs so many times the median of these is an outlier. */
#define SC_OUTLIER			30
/* Merges of what best plans use that are new. */
#define SC_LIKED_MERGES		100

List	   *sc_unwanted = NIL;

static bool
same_key(ScHypo *a, int i, Node *ea, ScHypo *b, int j, Node *eb)
{
	return a->opclass[i] == b->opclass[j] &&
		a->collation[i] == b->collation[j] &&
		a->options[i] == b->options[j] && equal(ea, eb);
}

/*
 * Are the keys of a those that b starts with, over the same rows?  Then b
 * serves what a does, but for a's INCLUDE columns.
 */
static bool
is_prefix(ScCandidate *a, ScCandidate *b)
{
	ScHypo	   *x = a->hypo;
	ScHypo	   *y = b->hypo;
	int			i;

	if (x->relid != y->relid || x->am != y->am || x->am == BRIN_AM_OID ||
		x->nkeys > y->nkeys || !equal(x->pred, y->pred) ||
		(x->am != BTREE_AM_OID && x->nkeys != y->nkeys))
		return false;
	for (i = 0; i < x->nkeys; i++)
	{
		if (!same_key(x, i, ((ScKeyCol *) list_nth(a->keys, i))->expr,
					  y, i, ((ScKeyCol *) list_nth(b->keys, i))->expr))
			return false;
	}
	return true;
}

/*
 * Does an index that the table has start with the candidate's keys?  *copy
 * tells whether one does but for columns that it lacks, or is unique on the
 * first of the keys.
 */
static bool
is_redundant(ScAdvice *advice, ScCandidate *cand, bool *copy)
{
	ScHypo	   *hypo = cand->hypo;
	Relation	rel = relation_open(hypo->relid, NoLock);
	bool		result = false;
	ListCell   *lc;

	*copy = false;
	foreach(lc, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;
		List	   *exprs = RelationGetIndexExpressions(index);
		bool		same = form->indisvalid &&
			index->rd_rel->relam == hypo->am &&
			!list_member_oid(advice->study->hidden, lfirst_oid(lc)) &&
			(form->indnkeyatts >= hypo->nkeys ||
			 (form->indisunique && hypo->pred == NIL)) &&
			(hypo->am == BTREE_AM_OID || form->indnkeyatts == hypo->nkeys) &&
			equal(RelationGetIndexPredicate(index), hypo->pred);
		int			nth = 0;
		int			hypoth = 0;
		int			i;

		for (i = 0; same && i < Min(hypo->nkeys, form->indnkeyatts); i++)
		{
			AttrNumber	attnum = form->indkey.values[i];

			same = attnum == hypo->attnums[i] &&
				index->rd_opcintype[i] == hypo->opcintype[i] &&
				index->rd_opfamily[i] == hypo->opfamily[i] &&
				index->rd_indcollation[i] == hypo->collation[i] &&
				index->rd_indoption[i] == hypo->options[i];
			if (same && attnum == 0)
				same = nth < list_length(exprs) &&
					equal(list_nth(exprs, nth++),
						  list_nth(hypo->exprs, hypoth++));
		}
		/* Where BRIN finds pages, a btree that starts with the column finds rows. */
		if (hypo->am == BRIN_AM_OID && index->rd_rel->relam == BTREE_AM_OID &&
			form->indisvalid && form->indkey.values[0] == hypo->attnums[0] &&
			form->indkey.values[0] != 0 &&
			RelationGetIndexPredicate(index) == NIL &&
			!list_member_oid(advice->study->hidden, lfirst_oid(lc)))
			result = true;
		*copy = *copy || same;
		/* With columns that the other lacks, it can answer alone. */
		for (i = Min(hypo->nkeys, form->indnkeyatts); same && i < hypo->natts; i++)
		{
			int			k;

			for (k = 0; k < form->indnatts; k++)
			{
				if (form->indkey.values[k] == hypo->attnums[i])
					break;
			}
			same = k < form->indnatts;
		}
		index_close(index, AccessShareLock);
		result = result || same;
	}
	relation_close(rel, NoLock);
	return result;
}

/* How many of an index's keys a candidate starts with, in any order. */
static int
keys_shared(ScHypo *hypo, Form_pg_index form, bool *in_order)
{
	int			n = Min(hypo->nkeys, form->indnkeyatts);
	int			shared = 0;
	int			i;
	int			j;

	*in_order = true;
	for (i = 0; i < n; i++)
	{
		for (j = 0; j < form->indnkeyatts; j++)
		{
			if (hypo->attnums[i] == form->indkey.values[j])
				break;
		}
		if (j == form->indnkeyatts || hypo->attnums[i] == 0)
			return shared;
		*in_order = *in_order && i == j;
		shared++;
	}
	return shared;
}

/*
 * Does an index of all rows that the table has find most of what the candidate
 * would?  It starts with the candidate's keys, be these of fewer rows; or it is
 * unique, and the candidate starts with its columns in another order.
 */
static bool
is_near_existing(ScAdvice *advice, ScHypo *hypo)
{
	Relation	rel;
	bool		result = false;
	ListCell   *lc;

	if (hypo->am != BTREE_AM_OID)
		return false;
	rel = relation_open(hypo->relid, NoLock);
	foreach(lc, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;
		bool		in_order;
		int			shared = keys_shared(hypo, form, &in_order);

		if (form->indisvalid && index->rd_rel->relam == BTREE_AM_OID &&
			RelationGetIndexPredicate(index) == NIL &&
			!list_member_oid(advice->study->hidden, lfirst_oid(lc)) &&
			((shared == hypo->nkeys && in_order) ||
			 (form->indisunique && shared == form->indnkeyatts)))
			result = true;
		index_close(index, AccessShareLock);
	}
	relation_close(rel, NoLock);
	return result;
}

/*
 * Which candidates come into question.
 */

static bool
tiny(ScAdvice *advice, ScCandidate *cand)
{
	double		pages = 0;
	ListCell   *lc;

	foreach(lc, cand->hypo->leaves)
		pages += sc_sample_get(advice->study,
							   ((ScHypoLeaf *) lfirst(lc))->relid)->pages;
	return pages <= SC_TINY_PAGES;
}

typedef struct Finish
{
	ScStudy    *study;
	ScHypo	   *hypo;
	bool		exact;
} Finish;

static void
finish_one(void *arg)
{
	Finish	   *f = (Finish *) arg;

	if (f->exact)
		sc_hypo_measure(f->study, f->hypo);
	else
		sc_hypo_finish(f->study, f->hypo, false);
}

/* Could a value be too long for an entry? */
static bool
may_be_long(ScHypo *hypo)
{
	int			i;

	for (i = 0; i < hypo->natts; i++)
	{
		Oid			type = get_atttype(hypo->relid, hypo->attnums[i]);

		if (get_typlen(type) == -1 && type != NUMERICOID)
			return true;
	}
	return false;
}

/*
 * Expressions may fail on some row, and values be too long; then there can be
 * no such index.
 */
static bool
finish_candidate(ScAdvice *advice, ScCandidate *cand, bool exact)
{
	Finish		f = {advice->study, cand->hypo, exact};
	MemoryContext oldcxt = CurrentMemoryContext;
	volatile bool ok = true;

	if (cand->hypo->exprs == NIL && cand->hypo->pred == NIL &&
		!may_be_long(cand->hypo))
	{
		finish_one(&f);
		return true;
	}
	/* Samples of partitions outlive the subtransaction; so must their locks. */
	if (get_rel_relkind(cand->hypo->relid) == RELKIND_PARTITIONED_TABLE)
		list_free(find_all_inheritors(cand->hypo->relid, AccessShareLock, NULL));
	PG_TRY();
	{
		sc_study_run(finish_one, &f);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(oldcxt);
		edata = CopyErrorData();
		if (edata->sqlerrcode == ERRCODE_QUERY_CANCELED ||
			edata->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
			PG_RE_THROW();
		FlushErrorState();
		advice->study->leaves = 0;
		ok = false;
	}
	PG_END_TRY();
	return ok;
}

/* Measure a chosen one by the whole sample: does its size change much? */
bool
sc_candidate_measure(ScAdvice *advice, ScCandidate *cand)
{
	double		before = cand->hypo->bytes;

	if (cand->exact)
		return false;
	cand->exact = true;
	/* More rows were looked at than before, so there may be an error. */
	if (!finish_candidate(advice, cand, true))
	{
		cand->alive = false;
		cand->hypo->bytes = SC_NO_ROOM;
	}
	return fabs(cand->hypo->bytes - before) > 0.005 * before;
}

/* Is it one that somebody does not want?  However it would be packed. */
static bool
is_unwanted(ScHypo *hypo)
{
	ScHypo		plain = *hypo;
	char	   *ddl;
	ListCell   *lc;

	if (sc_unwanted == NIL)
		return false;
	ddl = sc_hypo_ddl(hypo, NULL);
	plain.fillfactor = hypo->fillfactor == 0 ? 100 : 0;
	foreach(lc, sc_unwanted)
	{
		if (strcmp((char *) lfirst(lc), ddl) == 0 ||
			strcmp((char *) lfirst(lc), sc_hypo_ddl(&plain, NULL)) == 0)
			return true;
	}
	return false;
}

/*
 * Does its predicate leave out enough of the rows?  Those of a partitioned table
 * are not looked at before.
 */
static bool
selects_part(ScAdvice *advice, ScCandidate *cand)
{
	return cand->hypo->pred == NIL ||
		get_rel_relkind(cand->hypo->relid) != RELKIND_PARTITIONED_TABLE ||
		sc_index_part(advice, cand) <= sc_pred_limit(cand->hypo->pred);
}

/* Sizes by statistics, for all; false ones are left out for good. */
static void
prepare_candidates(ScAdvice *advice)
{
	ListCell   *lc;

	foreach(lc, advice->candidates)
	{
		ScCandidate *cand = (ScCandidate *) lfirst(lc);

		if (cand->prepared)
			continue;
		CHECK_FOR_INTERRUPTS();
		cand->hypo->tag = cand->id;
		cand->prepared = true;
		cand->usable = finish_candidate(advice, cand, false) &&
			cand->hypo->leaves != NIL && !tiny(advice, cand) &&
			selects_part(advice, cand) &&
			!is_redundant(advice, cand, &cand->copy) &&
			!is_unwanted(cand->hypo);
		cand->near = cand->usable && is_near_existing(advice, cand->hypo);
		elog(DEBUG3, "candidate %d: %s, %.0f bytes%s", cand->id,
			 sc_hypo_ddl(cand->hypo, NULL), cand->hypo->bytes,
			 cand->usable ? "" : ", unusable");
	}
}

/*
 * Let the planner pick from many, take away what it picked and let it pick
 * again: what it never picks, it never needs.
 */
static Bitmapset *
peel(ScAdvice *advice, ScVariant *variant, Bitmapset *from, int rounds)
{
	Bitmapset  *left = bms_copy(from);
	Bitmapset  *result = NULL;
	int			round;

	for (round = 0; round < rounds && !bms_is_empty(left); round++)
	{
		double		cost;
		Bitmapset  *used;

		sc_plan_variant(advice, variant, left, &cost, &used);
		if (cost >= variant->base * 0.998 || bms_is_empty(used))
			break;
		if (cost < variant->best)
		{
			variant->best = cost;
			variant->used = bms_copy(used);
		}
		result = bms_add_members(result, used);
		left = bms_del_members(left, used);
	}
	return result;
}

/* Those of a set whose columns no UPDATE changes. */
static Bitmapset *
unchanging(ScAdvice *advice, Bitmapset *set)
{
	Bitmapset  *result = NULL;
	int			x = -1;

	while ((x = bms_next_member(set, x)) >= 0)
	{
		ScCandidate *cand = sc_candidate(advice, x);
		ListCell   *lc;

		foreach(lc, advice->writes)
		{
			ScWrite    *write = (ScWrite *) lfirst(lc);

			if (write->relid == cand->hypo->relid &&
				bms_overlap(write->columns, cand->columns))
				break;
		}
		if (lc == NULL)
			result = bms_add_member(result, x);
	}
	return result;
}

static void
survivors(ScAdvice *advice, ScItem *item)
{
	Bitmapset  *all = NULL;
	Bitmapset  *calm;
	ListCell   *lc;
	int			x;

	foreach(lc, item->raw)
	{
		if (sc_candidate(advice, lfirst_int(lc))->usable)
			all = bms_add_member(all, lfirst_int(lc));
	}
	calm = unchanging(advice, all);
	foreach(lc, item->variants)
	{
		ScVariant  *variant = (ScVariant *) lfirst(lc);

		variant->best = variant->base;
		item->survived = bms_add_members(item->survived,
										 peel(advice, variant, all,
											  SC_ROUNDS));
		/* Those that come first may all be too dear to keep up. */
		if (!bms_equal(calm, all))
			item->survived = bms_add_members(item->survived,
											 peel(advice, variant, calm,
												  SC_CALM_ROUNDS));
		x = -1;
		while ((x = bms_next_member(variant->used, x)) >= 0)
			sc_candidate(advice, x)->liked = true;
	}
	x = -1;
	while ((x = bms_next_member(item->survived, x)) >= 0)
		sc_candidate(advice, x)->alive = true;
}

/*
 * Executions that are planned alike need not be planned twice while choosing.
 */
static void
unite_variants(ScItem *item)
{
	List	   *kept = NIL;
	ListCell   *lc;

	foreach(lc, item->variants)
	{
		ScVariant  *execution = (ScVariant *) palloc(sizeof(ScVariant));

		*execution = *(ScVariant *) lfirst(lc);
		execution->memo = NULL;
		execution->plans = NULL;
		execution->nplans = execution->maxplans = 0;
		item->executions = lappend(item->executions, execution);
	}

	foreach(lc, item->variants)
	{
		ScVariant  *variant = (ScVariant *) lfirst(lc);
		bool		found = false;
		ListCell   *l;

		foreach(l, kept)
		{
			ScVariant  *other = (ScVariant *) lfirst(l);

			if (fabs(variant->base - other->base) <= 0.02 * other->base &&
				fabs(variant->best - other->best) <=
				0.05 * other->best + 0.01 * other->base &&
				bms_equal(variant->used, other->used))
			{
				other->weight += variant->weight;
				found = true;
				break;
			}
		}
		if (!found)
			kept = lappend(kept, variant);
	}
	item->variants = kept;
}

static void
enliven(ScAdvice *advice, Oid relid, List *keys, List *include, List *pred)
{
	sc_candidate_add(advice, relid, keys, include, pred)->alive = true;
}

/* The plainer forms of what is alive, which may serve others as well. */
static void
add_plain_forms(ScAdvice *advice)
{
	int			n = list_length(advice->candidates);
	int			i;

	for (i = 0; i < n; i++)
	{
		ScCandidate *cand = sc_candidate(advice, i);
		Oid			relid = cand->hypo->relid;

		if (!cand->alive)
			continue;
		if (cand->include != NIL)
			enliven(advice, relid, cand->keys, NIL, cand->hypo->pred);
		if (cand->hypo->pred != NIL)
			enliven(advice, relid, cand->keys, NIL, NIL);
	}
}

bool
sc_keys_start_with(List *keys, List *start)
{
	ListCell   *a;
	ListCell   *b;

	if (list_length(start) > list_length(keys))
		return false;
	forboth(a, keys, b, start)
	{
		ScKeyCol   *x = (ScKeyCol *) lfirst(a);
		ScKeyCol   *y = (ScKeyCol *) lfirst(b);

		if (x->opclass != y->opclass || x->option != y->option ||
			x->collation != y->collation || !equal(x->expr, y->expr))
			return false;
	}
	return true;
}

/* Included columns of both that are not keys. */
static List *
united_include(ScCandidate *a, ScCandidate *b, List *keys)
{
	List	   *both = list_union_int(a->include, b->include);
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, both)
	{
		ListCell   *l;
		bool		key = false;

		foreach(l, keys)
		{
			Node	   *expr = ((ScKeyCol *) lfirst(l))->expr;

			key = key || (IsA(expr, Var) &&
						  ((Var *) expr)->varattno == lfirst_int(lc));
		}
		if (!key)
			result = lappend_int(result, lfirst_int(lc));
	}
	return result;
}

/* Keys of b, those that a has first; NIL when the order of b matters. */
static List *
reordered(List *a, List *b)
{
	List	   *result = list_copy(a);
	int			matched = 0;
	ListCell   *lc;

	foreach(lc, a)
	{
		ScKeyCol   *col = (ScKeyCol *) lfirst(lc);

		if (col->role != SC_ROLE_EQ && col->role != SC_ROLE_JOIN)
			return NIL;
	}
	foreach(lc, b)
	{
		ScKeyCol   *col = (ScKeyCol *) lfirst(lc);
		ListCell   *l;
		bool		found = false;

		foreach(l, a)
			found = found || equal(((ScKeyCol *) lfirst(l))->expr, col->expr);
		if (found)
		{
			if (col->role != SC_ROLE_EQ && col->role != SC_ROLE_JOIN)
				return NIL;
			matched++;
		}
		else
			result = lappend(result, col);
	}
	return matched == list_length(a) ? result : NIL;
}

static bool
all_equal(List *keys)
{
	ListCell   *lc;

	foreach(lc, keys)
	{
		ScRole		role = ((ScKeyCol *) lfirst(lc))->role;

		if (role != SC_ROLE_EQ && role != SC_ROLE_JOIN)
			return false;
	}
	return true;
}

static bool
has_expr(List *keys, Node *expr)
{
	ListCell   *lc;

	foreach(lc, keys)
	{
		if (equal(((ScKeyCol *) lfirst(lc))->expr, expr))
			return true;
	}
	return false;
}

/*
 * Keys of both: first those that both have, by which either is found; what
 * the other one lacks is compared in the index.  NIL when they have none in
 * common, or their order matters.
 */
static List *
shared_first(List *a, List *b)
{
	List	   *common = NIL;
	List	   *rest = NIL;
	ListCell   *lc;

	if (!all_equal(a) || !all_equal(b))
		return NIL;
	foreach(lc, a)
	{
		if (has_expr(b, ((ScKeyCol *) lfirst(lc))->expr))
			common = lappend(common, lfirst(lc));
		else
			rest = lappend(rest, lfirst(lc));
	}
	if (common == NIL)
		return NIL;
	foreach(lc, b)
	{
		if (!has_expr(common, ((ScKeyCol *) lfirst(lc))->expr))
			rest = lappend(rest, lfirst(lc));
	}
	return list_concat(common, rest);
}

/* For each set of keys, one index with what all of them include. */
static void
add_unions(ScAdvice *advice)
{
	int			n = list_length(advice->candidates);
	int			i;
	int			j;

	for (i = 0; i < n; i++)
	{
		ScCandidate *a = sc_candidate(advice, i);
		List	   *include = a->include;
		int			merged = 0;

		if (!a->alive || a->hypo->am != BTREE_AM_OID || a->include == NIL)
			continue;
		for (j = 0; j < n; j++)
		{
			ScCandidate *b = sc_candidate(advice, j);

			if (i == j || !b->alive || b->include == NIL ||
				!is_prefix(a, b) || !is_prefix(b, a))
				continue;
			/* Those before it have done so already. */
			if (j < i)
				break;
			include = list_union_int(include, b->include);
			merged++;
		}
		if (j == n && merged > 1 &&
			list_length(a->keys) + list_length(include) <= SC_MAX_COLUMNS)
			enliven(advice, a->hypo->relid, a->keys, include, a->hypo->pred);
	}
}

/*
 * Does another column come first than b has it, and is one that hardly selects?
 * To the planner that looks good where its values are mostly the same: it takes
 * all of the index for as well correlated with the table as that column.
 */
static bool
begins_coarser(Oid relid, List *keys, List *b)
{
	ScKeyCol   *first = (ScKeyCol *) linitial(keys);

	return !equal(first->expr, ((ScKeyCol *) linitial(b))->expr) &&
		sc_is_coarse(relid, first);
}

/*
 * One index for what two were for; false when there is none, or it would be
 * too wide.
 */
static bool
add_merge(ScAdvice *advice, ScCandidate *a, ScCandidate *b, bool share)
{
	List	   *keys;
	List	   *include;

	if (a == b || !b->alive || b->hypo->am != BTREE_AM_OID ||
		a->hypo->relid != b->hypo->relid ||
		!equal(a->hypo->pred, b->hypo->pred) ||
		list_length(a->keys) > list_length(b->keys))
		return false;
	if (sc_keys_start_with(b->keys, a->keys))
		keys = b->keys;
	else
		keys = reordered(a->keys, b->keys);
	if (keys == NIL && share)
		keys = shared_first(a->keys, b->keys);
	if (keys == NIL || begins_coarser(a->hypo->relid, keys, b->keys))
		return false;
	include = united_include(a, b, keys);
	if (list_length(keys) + list_length(include) > SC_MAX_COLUMNS)
		return false;
	enliven(advice, a->hypo->relid, keys, include, a->hypo->pred);
	return true;
}

/*
 * First of those that best plans use, which are most likely to be chosen.  What
 * only spares one of two indexes is for where space is no matter: otherwise the
 * search has enough to choose from.
 */
static void
add_merges(ScAdvice *advice)
{
	int			n = list_length(advice->candidates);
	int			merges = 0;
	int			i;
	int			j;

	for (i = 0; i < n; i++)
	{
		ScCandidate *a = sc_candidate(advice, i);

		if (!a->liked || !a->alive || a->hypo->am != BTREE_AM_OID)
			continue;
		for (j = 0; j < n; j++)
		{
			ScCandidate *b = sc_candidate(advice, j);

			if (b->liked && list_length(advice->candidates) < n + SC_LIKED_MERGES)
				(void) add_merge(advice, a, b, advice->max_size < 0);
		}
	}
	for (i = 0; i < n; i++)
	{
		ScCandidate *a = sc_candidate(advice, i);

		if (!a->alive || a->hypo->am != BTREE_AM_OID)
			continue;
		for (j = 0; j < n && merges < SC_MAX_MERGES; j++)
		{
			if (add_merge(advice, a, sc_candidate(advice, j), false))
				merges++;
		}
	}
}

/* Could the candidate change how a statement is planned? */
static bool
matters(ScCandidate *cand, ScItem *item)
{
	ScKeyCol   *first = (ScKeyCol *) linitial(cand->keys);
	ListCell   *lc;

	if (list_member_int(item->raw, cand->id))
		return true;
	foreach(lc, item->uses)
	{
		ScRelUse   *use = (ScRelUse *) lfirst(lc);
		bool		found = false;
		List	   *cols;
		ListCell   *l;

		if (use->relid != cand->hypo->relid)
			continue;
		if (cand->hypo->pred != NIL)
		{
			/* Its rows are few, whatever they are ordered by. */
			if (predicate_implied_by(cand->hypo->pred, use->clauses, false))
				return true;
			continue;
		}
		cols = list_concat(list_concat(list_concat(list_copy(use->eq),
												   use->range), use->join),
						   use->special);
		foreach(l, use->orders)
			cols = lappend(cols, linitial((List *) lfirst(l)));
		foreach(l, cols)
			found = found || equal(((ScKeyCol *) lfirst(l))->expr,
								   first->expr);
		if (found)
			return true;
		/* Everything in it: then it is smaller than the table. */
		if (use->coverable && use->clauses != NIL &&
			bms_is_subset(use->target, cand->columns))
			return true;
	}
	return false;
}

/*
 * Does a btree begin with the column of a BRIN index?  Then it finds all that
 * the other does; that the planner would combine both makes nobody want both.
 */
static bool
outdoes_brin(ScCandidate *brin, ScCandidate *btree)
{
	return brin->hypo->am == BRIN_AM_OID && btree->hypo->am == BTREE_AM_OID &&
		brin->hypo->relid == btree->hypo->relid &&
		btree->hypo->pred == NIL &&
		equal(((ScKeyCol *) linitial(brin->keys))->expr,
			  ((ScKeyCol *) linitial(btree->keys))->expr);
}

/* Which candidates make which others redundant. */
static void
compare_candidates(ScAdvice *advice)
{
	ListCell   *lc;

	foreach(lc, advice->candidates)
	{
		ScCandidate *a = (ScCandidate *) lfirst(lc);
		ListCell   *l;

		CHECK_FOR_INTERRUPTS();
		if (!a->alive)
			continue;
		foreach(l, advice->candidates)
		{
			ScCandidate *b = (ScCandidate *) lfirst(l);

			if (a == b || !b->alive ||
				!(is_prefix(a, b) || outdoes_brin(a, b)))
				continue;
			b->below = bms_add_member(b->below, a->id);
			/* With the same keys each may take the other's place. */
			if (!is_prefix(b, a))
				a->above = bms_add_member(a->above, b->id);
		}
	}
}

static void
relate(ScAdvice *advice)
{
	ListCell   *lc;

	foreach(lc, advice->items)
	{
		ScItem	   *item = (ScItem *) lfirst(lc);
		ListCell   *l;

		item->index = foreach_current_index(lc);
		item->cands = NULL;
		foreach(l, advice->candidates)
		{
			ScCandidate *cand = (ScCandidate *) lfirst(l);

			if (!cand->alive ||
				!list_member_oid(item->relids, cand->hypo->relid))
				continue;
			item->reach = bms_add_member(item->reach, cand->id);
			if (matters(cand, item))
				item->cands = bms_add_member(item->cands, cand->id);
		}
	}
}

/* Does b serve what a does, with columns to spare perhaps? */
static bool
stands_in(ScCandidate *a, ScCandidate *b)
{
	ListCell   *lc;

	if (!is_prefix(a, b))
		return false;
	foreach(lc, a->include)
	{
		if (!bms_is_member(lfirst_int(lc), b->columns))
			return false;
	}
	return true;
}

/*
 * What was kept, what does nearly the same in less space, and what does the
 * same for other statements as well: the planner would not pick these when
 * it has the best, but there may not be space for the best of each.
 */
static Bitmapset *
with_other_forms(ScAdvice *advice, Bitmapset *from, Bitmapset *kept)
{
	Bitmapset  *result = bms_copy(kept);
	int			x = -1;

	while ((x = bms_next_member(from, x)) >= 0)
	{
		ScCandidate *cand = sc_candidate(advice, x);
		int			y = -1;

		while ((y = bms_next_member(kept, y)) >= 0)
		{
			ScCandidate *other = sc_candidate(advice, y);

			if (is_prefix(cand, other) ||
				(advice->max_size >= 0 && stands_in(other, cand)))
			{
				result = bms_add_member(result, x);
				break;
			}
		}
	}
	return result;
}

/*
 * Keep what the planner picked of a statement's own candidates, and what it
 * picks of those made for others; find out how cheap the statement can get.
 */
static void
narrow(ScAdvice *advice)
{
	ListCell   *lc;

	foreach(lc, advice->items)
	{
		ScItem	   *item = (ScItem *) lfirst(lc);
		Bitmapset  *foreign = bms_copy(item->cands);
		Bitmapset  *kept = bms_intersect(item->cands, item->survived);
		ListCell   *l;
		int			x;

		foreach(l, item->raw)
			foreign = bms_del_member(foreign, lfirst_int(l));
		foreach(l, item->variants)
			kept = bms_add_members(kept,
								   peel(advice, (ScVariant *) lfirst(l),
										foreign, SC_FOREIGN_ROUNDS));
		item->cands = with_other_forms(advice, item->cands, kept);
		x = -1;
		while ((x = bms_next_member(item->cands, x)) >= 0)
		{
			ScCandidate *cand = sc_candidate(advice, x);

			cand->items = bms_add_member(cand->items, item->index);
		}
		item->best = sc_item_cost(advice, item, kept);
		advice->best += item->weight * item->best;
		elog(DEBUG2, "statement " INT64_FORMAT ": cost %.0f, at best %.0f with %d of %d candidates",
			 item->id, sc_item_cost(advice, item, NULL), item->best,
			 bms_num_members(kept), list_length(item->raw));
	}
}

/* Whom each change to a table could cost something. */
static void
relate_writes(ScAdvice *advice)
{
	ListCell   *lc;

	foreach(lc, advice->writes)
	{
		ScWrite    *write = (ScWrite *) lfirst(lc);
		ListCell   *l;

		foreach(l, advice->candidates)
		{
			ScCandidate *cand = (ScCandidate *) lfirst(l);

			if (cand->hypo->relid == write->relid)
				write->cands = bms_add_member(write->cands, cand->id);
		}
	}
}

static void
gather(ScAdvice *advice)
{
	ListCell   *lc;

	sc_candidates_make(advice);
	prepare_candidates(advice);
	foreach(lc, advice->items)
	{
		survivors(advice, (ScItem *) lfirst(lc));
		unite_variants((ScItem *) lfirst(lc));
	}
	add_plain_forms(advice);
	add_unions(advice);
	add_merges(advice);
	prepare_candidates(advice);
	advice->study->rows = SC_ROUGH_ROWS;
	foreach(lc, advice->candidates)
	{
		ScCandidate *cand = (ScCandidate *) lfirst(lc);

		if (!cand->alive || !cand->usable)
		{
			cand->alive = false;
			continue;
		}
		CHECK_FOR_INTERRUPTS();
		if (!finish_candidate(advice, cand, true))
			cand->alive = false;
	}
	advice->study->rows = 0;
	/* Plans made before sizes were measured say nothing any more. */
	foreach(lc, advice->items)
	{
		ListCell   *l;

		foreach(l, ((ScItem *) lfirst(lc))->variants)
		{
			((ScVariant *) lfirst(l))->nplans = 0;
			((ScVariant *) lfirst(l))->traps = NIL;
			((ScVariant *) lfirst(l))->seen = NULL;
		}
	}
	compare_candidates(advice);
	relate(advice);
	relate_writes(advice);
	narrow(advice);
}

/*
 * The answer
 */

/*
 * Put the members of the set in the order of what they gain.  What one gains
 * is changed only by those that have a table or a statement in common with it.
 */
static void
rank(ScAdvice *advice, Bitmapset *set)
{
	int			ncands = list_length(advice->candidates);
	double	   *gains = (double *) palloc0(sizeof(double) * Max(1, ncands));
	Bitmapset  *known = NULL;
	Bitmapset  *left = bms_copy(set);
	Bitmapset  *done = NULL;

	while (!bms_is_empty(left))
	{
		ScCandidate *best = NULL;
		int			x = -1;

		CHECK_FOR_INTERRUPTS();
		while ((x = bms_next_member(left, x)) >= 0)
		{
			ScCandidate *cand = sc_candidate(advice, x);

			if (!bms_is_member(x, known))
			{
				Bitmapset  *with = bms_add_member(bms_copy(done), x);

				gains[x] = sc_set_misses(advice, with, cand);
				known = bms_add_member(known, x);
				bms_free(with);
			}
			if (best == NULL || gains[x] > gains[best->id])
				best = cand;
		}
		best->write = sc_write_cost(advice, done);
		done = bms_add_member(done, best->id);
		best->write = sc_write_cost(advice, done) - best->write;
		best->gain = gains[best->id];
		left = bms_del_member(left, best->id);
		advice->chosen = lappend(advice->chosen, best);
		x = -1;
		while ((x = bms_next_member(left, x)) >= 0)
		{
			ScCandidate *cand = sc_candidate(advice, x);

			if (cand->hypo->relid == best->hypo->relid ||
				bms_overlap(cand->items, best->items))
				known = bms_del_member(known, x);
		}
	}
}

static double
total_pages(ScAdvice *advice)
{
	double		pages = 0;
	ListCell   *lc;

	foreach(lc, advice->study->samples)
		pages += ((ScSample *) lfirst(lc))->pages;
	return Max(1, pages);
}

static int
compare_doubles(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return x < y ? -1 : x > y;
}

/*
 * What the statements cost as things are, but none more than many times what
 * the median of those does that indexes help.  One that would take hours does
 * not make what all others gain worth nothing.
 */
static double
usual_cost(ScAdvice *advice)
{
	int			n = list_length(advice->items);
	double	   *costs = (double *) palloc(sizeof(double) * Max(1, n));
	double		result = 0;
	double		most;
	int			helped = 0;
	ListCell   *lc;

	foreach(lc, advice->items)
	{
		ScItem	   *item = (ScItem *) lfirst(lc);
		double		cost = sc_item_cost(advice, item, NULL);

		if (item->best < SC_HELPED * cost)
			costs[helped++] = item->weight * cost;
	}
	if (helped == 0)
		return advice->base;
	qsort(costs, helped, sizeof(double), compare_doubles);
	most = SC_OUTLIER * costs[(helped - 1) / 2];
	foreach(lc, advice->items)
	{
		ScItem	   *item = (ScItem *) lfirst(lc);

		result += Min(most,
					  item->weight * sc_item_cost(advice, item, NULL));
	}
	pfree(costs);
	return result;
}

/* Choose; items have been harvested.  Fills in advice->chosen. */
void
sc_choose(ScAdvice *advice)
{
	MemoryContext oldcxt = MemoryContextSwitchTo(advice->study->cxt);
	Bitmapset  *best;
	ListCell   *lc;

	gather(advice);
	elog(DEBUG2, "effort %.0f when gathered", advice->effort);
	advice->base = sc_workload_cost(advice, NULL);
	advice->usual = usual_cost(advice);
	advice->rent = SC_RENT * advice->best / total_pages(advice) / BLCKSZ;
	best = sc_search(advice);
	foreach(lc, advice->items)
	{
		ScItem	   *item = (ScItem *) lfirst(lc);

		elog(DEBUG2, "statement " INT64_FORMAT ": cost %.0f, at best %.0f, chosen %.0f",
			 item->id, sc_item_cost(advice, item, NULL), item->best,
			 sc_item_cost(advice, item, best));
	}
	elog(DEBUG2, "effort %.0f when chosen", advice->effort);
	rank(advice, best);
	MemoryContextSwitchTo(oldcxt);
}
