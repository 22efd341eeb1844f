/*-------------------------------------------------------------------------
 *
 * last_look.c
 *	  The best set, without what it does not need.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_am.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "advisor/search.h"

/*
 * Without a limit, an index must save this part of what statements usually
 * cost as they are, or leave no more than this part of one that costs at least
 * this.
 */
#define SC_MIN_ALL			0.0002
#define SC_MOST_LEFT		0.5
#define SC_SLOW				100.0
/*
 * What two must save of a statement's cost as it is, over one with the columns
 * of both.
 */
#define SC_PAIR_GAIN		0.001
/*
 * An index of some rows is preferred if it takes this part of the space, and no
 * statement costs more by this part of its cost as it is, nor all of them.
 */
#define SC_NARROW			0.25
#define SC_NARROW_LOSS		0.01
#define SC_NARROW_LOSS_ALL	0.0005
/* The same, where the other begins with a column of few values. */
#define SC_COARSE_LOSS		0.02
/* What is nearly the same as another must leave so much of some cost at most. */
#define SC_SHADOW_COST		0.5

/* Statements that could be planned in other ways with one set than another. */
static Bitmapset *
affected_items(Search *s, Bitmapset *a, Bitmapset *b)
{
	Bitmapset  *changed = bms_add_members(bms_difference(a, b),
										  bms_difference(b, a));
	Bitmapset  *items = NULL;
	int			x = -1;

	while ((x = bms_next_member(changed, x)) >= 0)
		items = bms_add_members(items, s->cands[x]->items);
	bms_free(changed);
	return items;
}

/*
 * Is a gain worth an index?  In all, or for a statement that needs it.  Where
 * space is no matter, what is best may cost so little that any index saves a
 * part of that: then it must save a part of what all statements cost as they
 * are, or half of what a slow one does.
 */
static bool
worthwhile(Search *s, Bitmapset *before, Bitmapset *after, double gain)
{
	bool		roomy = s->advice->max_size < 0;
	double		most = roomy ? SC_MOST_LEFT : 1 - SC_MIN_ITEM_GAIN;
	double		least = roomy ? SC_SLOW : 0;
	Bitmapset  *items;
	int			i = -1;

	if (gain <= 0)
		return false;
	if (gain >= SC_MIN_GAIN * s->advice->best &&
		(!roomy || gain >= SC_MIN_ALL * s->advice->usual))
		return true;
	items = affected_items(s, before, after);
	while ((i = bms_next_member(items, i)) >= 0)
	{
		double		a = sc_item_cost(s->advice, s->items[i], before);
		double		b = sc_item_cost(s->advice, s->items[i], after);

		if (b < most * a && a >= least &&
			s->items[i]->weight * (a - b) > SC_LITTLE_GAIN * s->advice->best)
			return true;
	}
	return false;
}

/*
 * Leave out members that no statement reads: an index on an expression tells
 * the planner how many values that has, and a better guess costs less at
 * times, but nothing is done faster.
 */
Bitmapset *
sc_search_read_members(Search *s, Bitmapset *set)
{
	Bitmapset  *before;

	do
	{
		Bitmapset  *scanned = NULL;
		int			i;

		before = set;
		for (i = 0; i < s->nitems; i++)
			scanned = bms_add_members(scanned,
									  sc_item_scanned(s->advice, s->items[i],
													  set));
		set = bms_intersect(set, scanned);
	} while (!bms_equal(set, before));
	return set;
}

/* Are both of the same column, by operator classes of the same method? */
static bool
same_search(ScCandidate *a, ScCandidate *b)
{
	return a->hypo->am == b->hypo->am && a->hypo->am != BTREE_AM_OID &&
		a->hypo->nkeys == 1 && b->hypo->nkeys == 1 &&
		equal(((ScKeyCol *) linitial(a->keys))->expr,
			  ((ScKeyCol *) linitial(b->keys))->expr);
}

/*
 * Does it begin like an index that the table has, be it of more rows, but not
 * many more?  Or are its keys those that another member starts with, be it of
 * other rows or by another operator class?
 */
static bool
is_shadow(Search *s, Bitmapset *set, ScCandidate *cand)
{
	int			x = -1;

	if (cand->copy ||
		(cand->near && sc_index_part(s->advice, cand) > SC_NARROW))
		return true;
	while ((x = bms_next_member(set, x)) >= 0)
	{
		if (x != cand->id && s->cands[x]->hypo->relid == cand->hypo->relid &&
			(sc_keys_start_with(s->cands[x]->keys, cand->keys) ||
			 same_search(s->cands[x], cand)))
			return true;
	}
	return false;
}

/* Does it save some statement much of what it costs, with others or without? */
static bool
stands_out(Search *s, Bitmapset *rest, Bitmapset *set)
{
	Bitmapset  *items = affected_items(s, rest, set);
	int			i = -1;

	while ((i = bms_next_member(items, i)) >= 0)
	{
		double		a = sc_item_cost(s->advice, s->items[i], rest);
		double		b = sc_item_cost(s->advice, s->items[i], set);

		if (b < SC_SHADOW_COST * a ||
			a - b > SC_MIN_ITEM_GAIN * sc_item_cost(s->advice, s->items[i],
													NULL))
			return true;
	}
	return false;
}

/*
 * Leave out members that are not missed; where space is no matter, also those
 * that are nearly the same as others and do little more, or for few: but those
 * of few rows cost little.
 */
Bitmapset *
sc_search_thinned(Search *s, Bitmapset *set)
{
	int			x = -1;

	while ((x = bms_next_member(set, x)) >= 0)
	{
		Bitmapset  *rest = sc_without(set, x);
		double		gain;

		CHECK_FOR_INTERRUPTS();
		gain = sc_set_misses(s->advice, set, s->cands[x]);
		if (worthwhile(s, rest, set, gain) &&
			(s->advice->max_size >= 0 || !is_shadow(s, set, s->cands[x]) ||
			 ((gain >= SC_MIN_ALL * s->advice->usual ||
			   sc_index_part(s->advice, s->cands[x]) <= SC_NARROW) &&
			  stands_out(s, rest, set))))
		{
			bms_free(rest);
			continue;
		}
		set = rest;
		x = -1;
	}
	return set;
}

/* Could one index do what two of a table do? */
static bool
mergeable(ScCandidate *a, ScCandidate *b)
{
	return a->hypo->relid == b->hypo->relid && a->hypo->am == b->hypo->am &&
		a->hypo->am == BTREE_AM_OID && equal(a->hypo->pred, b->hypo->pred);
}

/* Does a statement cost more with a set, by this part of what it costs now? */
static bool
missed(Search *s, Bitmapset *set, Bitmapset *better, double part)
{
	Bitmapset  *items = affected_items(s, set, better);
	int			i = -1;

	while ((i = bms_next_member(items, i)) >= 0)
	{
		double		more = sc_item_cost(s->advice, s->items[i], set) -
			sc_item_cost(s->advice, s->items[i], better);

		if (more > part * sc_item_cost(s->advice, s->items[i], NULL))
			return true;
	}
	return false;
}

/* What another set costs more, by the planner, where one table's indexes differ. */
static double
true_change(Search *s, Bitmapset *set, Bitmapset *next, Oid relid)
{
	double		change = sc_write_cost_of(s->advice, relid, next) -
		sc_write_cost_of(s->advice, relid, set) +
		sc_set_rent(s->advice, next) - sc_set_rent(s->advice, set) +
		(bms_num_members(next) - bms_num_members(set)) *
		SC_LITTLE_GAIN * s->advice->best;
	int			i;

	for (i = 0; i < s->nitems; i++)
	{
		if (list_member_oid(s->items[i]->relids, relid))
			change += s->items[i]->weight *
				(sc_item_true_cost(s->advice, s->items[i], next) -
				 sc_item_true_cost(s->advice, s->items[i], set));
	}
	return change;
}

/* The best set that has one other index for two, and is hardly worse, or NULL. */
static Bitmapset *
merge_two(Search *s, Bitmapset *set, int x, int y)
{
	Bitmapset  *rest = sc_without(sc_without(set, x), y);
	Bitmapset  *columns = bms_union(s->cands[x]->columns,
									s->cands[y]->columns);
	Bitmapset  *best = NULL;
	double		best_change = 0;
	int			i;

	for (i = 0; i < s->ncands; i++)
	{
		ScCandidate *cand = s->cands[i];
		Bitmapset  *next;
		double		change;

		/* It may be one of the two. */
		if (!cand->alive || (bms_is_member(i, set) && i != x && i != y) ||
			!mergeable(cand, s->cands[x]) ||
			!bms_is_subset(columns, cand->columns) ||
			bms_overlap(cand->above, rest))
			continue;
		CHECK_FOR_INTERRUPTS();
		next = sc_with_candidate(rest, cand);
		(void) sc_search_measure(s, next);
		if (!cand->alive)
			continue;
		change = true_change(s, set, next, cand->hypo->relid);
		if (change > 0 && worthwhile(s, next, set, change) &&
			missed(s, next, set, SC_PAIR_GAIN))
			continue;
		if (best == NULL || change < best_change)
		{
			best = next;
			best_change = change;
		}
	}
	return best;
}

/*
 * Where one index has the columns of two, it is the better answer unless the
 * two are worth more than it by what an index must be worth, and by some part of
 * what a statement costs without either: nobody wants two that are nearly the
 * same for a little of what is hardly left.
 */
Bitmapset *
sc_search_merged(Search *s, Bitmapset *set)
{
	int			x = -1;

	while ((x = bms_next_member(set, x)) >= 0 && !sc_search_tired(s))
	{
		Bitmapset  *better = NULL;
		int			y = x;

		while (better == NULL && !sc_search_tired(s) && (y = bms_next_member(set, y)) >= 0)
		{
			if (mergeable(s->cands[x], s->cands[y]))
				better = merge_two(s, set, x, y);
		}
		if (better == NULL)
			continue;
		set = better;
		x = -1;
	}
	return set;
}

/*
 * Is a set good enough that has an index of few rows for another?  The planner
 * takes an index of several columns for as well correlated with the table as
 * its first column is.  One with few values is so by being mostly the same, and
 * then what the other seems to save it does not.
 */
static bool
small_enough(Search *s, Bitmapset *set, Bitmapset *next, ScCandidate *wide,
			  double *change)
{
	Oid			relid = wide->hypo->relid;
	bool		coarse = sc_is_coarse(relid, (ScKeyCol *) linitial(wide->keys));

	if (sc_write_cost_of(s->advice, relid, next) >
		sc_write_cost_of(s->advice, relid, set) ||
		missed(s, next, set, coarse ? SC_COARSE_LOSS : SC_NARROW_LOSS))
		return false;
	*change = true_change(s, set, next, relid);
	return coarse || *change <= SC_NARROW_LOSS_ALL * s->advice->usual;
}

/* The best set that has a much smaller index for one, or NULL. */
static Bitmapset *
narrow_one(Search *s, Bitmapset *set, ScCandidate *wide)
{
	Bitmapset  *rest = sc_without(set, wide->id);
	Bitmapset  *best = NULL;
	double		best_change = 0;
	int			i;

	for (i = 0; i < s->ncands && !sc_search_tired(s); i++)
	{
		ScCandidate *cand = s->cands[i];
		Bitmapset  *next;
		double		change;

		if (!cand->alive || bms_is_member(i, set) ||
			cand->hypo->relid != wide->hypo->relid ||
			cand->hypo->am != BTREE_AM_OID || cand->hypo->pred == NIL ||
			!bms_overlap(cand->items, wide->items) ||
			bms_overlap(cand->above, rest))
			continue;
		next = sc_with_candidate(rest, cand);
		(void) sc_search_measure(s, next);
		if (cand->alive && cand->hypo->bytes <= SC_NARROW * wide->hypo->bytes &&
			small_enough(s, set, next, wide, &change) &&
			(best == NULL || change < best_change))
		{
			best = next;
			best_change = change;
		}
	}
	return best;
}

/*
 * Where an index of few rows does what one of all rows is for, it is the better
 * answer, even if the planner thinks a little less of it: it stays in memory,
 * and most rows that are written have no entry in it.
 */
Bitmapset *
sc_search_narrowed(Search *s, Bitmapset *set)
{
	int			x = -1;

	while ((x = bms_next_member(set, x)) >= 0 && !sc_search_tired(s))
	{
		Bitmapset  *better = NULL;

		if (s->cands[x]->hypo->am == BTREE_AM_OID)
			better = narrow_one(s, set, s->cands[x]);
		if (better == NULL)
			continue;
		set = better;
		x = -1;
	}
	return set;
}

/* Does no statement cost more with a set than with another? */
static bool
as_good(Search *s, Bitmapset *set, Bitmapset *other)
{
	Bitmapset  *items = affected_items(s, set, other);
	int			i = -1;

	while ((i = bms_next_member(items, i)) >= 0)
	{
		if (sc_item_cost(s->advice, s->items[i], set) >
			(1 + SC_PAIR_GAIN) * sc_item_cost(s->advice, s->items[i], other))
			return false;
	}
	return true;
}

/*
 * Members without what nobody needs of them: columns that only a statement
 * wanted which has found a better index.
 */
Bitmapset *
sc_search_plainest(Search *s, Bitmapset *set)
{
	int			x = -1;

	while ((x = bms_next_member(set, x)) >= 0)
	{
		Bitmapset  *rest = sc_without(set, x);
		int			best = x;
		int			y = -1;

		while ((y = bms_next_member(s->cands[x]->below, y)) >= 0)
		{
			ScCandidate *cand = s->cands[y];

			if (!cand->alive || bms_is_member(y, set) ||
				cand->hypo->am != s->cands[x]->hypo->am ||
				bms_overlap(cand->above, rest) ||
				cand->hypo->natts >= s->cands[best]->hypo->natts)
				continue;
			CHECK_FOR_INTERRUPTS();
			(void) sc_search_measure(s, bms_make_singleton(y));
			if (cand->alive &&
				as_good(s, bms_add_member(bms_copy(rest), y), set))
				best = y;
		}
		if (best != x)
			set = bms_add_member(rest, best);
	}
	return set;
}
