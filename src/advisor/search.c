/*-------------------------------------------------------------------------
 *
 * search.c
 *	  The search for the best set of candidates.
 *
 * Planning is what takes time, so it is done in turns with searching.  The
 * search moves through sets by what they cost at most, which plans that are
 * known tell at once: it brings candidates in, takes members out and
 * exchanges them while that is better, from several beginnings, and again
 * after being pushed away from where it ended.  Where it ends the planner is
 * asked what every single change of that set would bring; when that finds
 * plans that were not known, the search goes on.
 *
 * What must always hold:
 *
 * - A set replaces the best one only if the planner says so.
 *
 * - The same statements and tables give the same set: nothing depends on
 *	 time, chance has a fixed seed, and ties are broken by the order of
 *	 candidates.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_am.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "utils/float.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "advisor/choose.h"

/* An index must gain this part of what no index can save ... */
#define SC_MIN_GAIN			0.002
/* ... or this part of the cost of one statement, and then a little. */
#define SC_MIN_ITEM_GAIN	0.10
#define SC_LITTLE_GAIN		(SC_MIN_GAIN * 0.1)
/*
 * What two must save of a statement's cost as it is, over one with the columns
 * of both.
 */
#define SC_PAIR_GAIN		0.001
/* What is nearly the same as another must leave so much of some cost at most. */
#define SC_SHADOW_COST		0.5
/* The part of all updates that indexes may keep from being HOT ... */
#define SC_COLD_PART		0.22
/* ... unless it would cost this many times what it saves the writes ... */
#define SC_HOT_PRICE		10
/* ... or, in all, this part of the cost as things are. */
#define SC_HOT_BUDGET		0.005
/* Plannings, weighted by the number of tables, after which to settle. */
#define SC_MAX_EFFORT		40000.0
/* The same for looking for one index in place of two, after that. */
#define SC_MERGE_EFFORT		10000.0
/* Looking at the known plans of a statement, in the same unit. */
#define SC_LOOK_EFFORT		0.005
/* Plannings of one statement to get to know other plans. */
#define SC_BRANCHES			12
/* Part of the effort for that. */
#define SC_SURVEY_PART		0.4
#define SC_KICKS			60
#define SC_KICK_PLANS		24
/* Annealing: steps, the first and the last heat, how often one is taken out. */
#define SC_STEPS			4000
#define SC_HEAT				0.02
#define SC_COOLING			0.01
#define SC_TAKE_OUT			0.2
#define SC_ROUNDS			12
/* Looking for the price of space: the first one, how often, how near. */
#define SC_CHEAP			1000
#define SC_BIDS				20
#define SC_CLOSE_BIDS		1.02

/* A set, with what it costs at most. */
typedef struct Place
{
	Bitmapset  *set;
	double	   *items;			/* cost of each item, weighted */
	double		cost;
	double		bytes;
} Place;

typedef struct Search
{
	ScAdvice   *advice;
	MemoryContext cxt;			/* for moves that are tried; reset often */
	int			nitems;
	int			ncands;
	ScItem	  **items;
	ScCandidate **cands;
	bool		unlimited;		/* ignore max_size for now */
	double		price;			/* of a byte, while there is no limit */
	double		limit;			/* of the effort, when to settle */
	int64		plannings;		/* known when last looked at */
	double	   *changes;		/* what the place costs more with a candidate
								 * brought in, or a member taken out */
	bool	   *stale;			/* is that no longer known? */
	pg_prng_state prng;
} Search;

static bool
tired(Search *s)
{
	CHECK_FOR_INTERRUPTS();
	return s->advice->effort > s->limit;
}

static bool
fits(Search *s, Bitmapset *set)
{
	return s->unlimited || sc_set_fits(s->advice, set);
}

/* May a candidate be added to a set, and does any known plan use it? */
static bool
admissible(Bitmapset *set, ScCandidate *cand)
{
	return cand->alive && cand->picked != NULL &&
		!bms_is_member(cand->id, set) && !bms_overlap(cand->above, set);
}

/* The set with a candidate, without those it makes redundant. */
static Bitmapset *
with_candidate(Bitmapset *set, ScCandidate *cand)
{
	return bms_add_member(bms_difference(set, cand->below), cand->id);
}

static Bitmapset *
without(Bitmapset *set, int x)
{
	return bms_del_member(bms_copy(set), x);
}

/*
 * Places
 */

/* What does not depend on statements. */
static double
upkeep(Search *s, Bitmapset *set)
{
	return sc_set_rent(s->advice, set) +
		s->price * sc_set_bytes(s->advice, set) +
		bms_num_members(set) * SC_LITTLE_GAIN * s->advice->best +
		sc_write_cost(s->advice, set);
}

/* Note for which statements there are known plans with each candidate. */
static void
note_picked(Search *s)
{
	int			i;

	if (s->plannings == s->advice->plannings)
		return;
	s->plannings = s->advice->plannings;
	for (i = 0; i < s->nitems; i++)
	{
		ListCell   *lc;

		foreach(lc, s->items[i]->variants)
		{
			Bitmapset  *seen = ((ScVariant *) lfirst(lc))->seen;
			int			x = -1;

			while ((x = bms_next_member(seen, x)) >= 0)
				s->cands[x]->picked = bms_add_member(s->cands[x]->picked, i);
		}
	}
}

static void
move_to(Search *s, Place *place, Bitmapset *set)
{
	int			i;

	note_picked(s);
	place->set = bms_copy(set);
	place->cost = upkeep(s, set);
	place->bytes = sc_set_bytes(s->advice, set);
	for (i = 0; i < s->nitems; i++)
	{
		place->items[i] = s->items[i]->weight *
			sc_item_known_cost(s->items[i], set);
		place->cost += place->items[i];
	}
	memset(s->stale, true, sizeof(bool) * s->ncands);
	s->advice->effort += s->nitems * SC_LOOK_EFFORT;
}

/* What another set would cost at most; only what differs is looked at. */
static double
known_cost(Search *s, Place *place, Bitmapset *set)
{
	Bitmapset  *added = bms_difference(set, place->set);
	Bitmapset  *removed = bms_difference(place->set, set);
	Bitmapset  *changed = bms_union(added, removed);
	Bitmapset  *affected = NULL;
	List	   *relids = NIL;
	double		cost = place->cost;
	ListCell   *lc;
	int			x = -1;

	while ((x = bms_next_member(changed, x)) >= 0)
	{
		ScCandidate *cand = s->cands[x];

		affected = bms_add_members(affected, cand->picked);
		relids = list_append_unique_oid(relids, cand->hypo->relid);
	}
	x = -1;
	while ((x = bms_next_member(affected, x)) >= 0)
	{
		cost += s->items[x]->weight * sc_item_known_cost(s->items[x], set) -
			place->items[x];
		s->advice->effort += SC_LOOK_EFFORT;
	}
	foreach(lc, relids)
		cost += sc_write_cost_of(s->advice, lfirst_oid(lc), set) -
			sc_write_cost_of(s->advice, lfirst_oid(lc), place->set);
	cost += (bms_num_members(added) - bms_num_members(removed)) *
		SC_LITTLE_GAIN * s->advice->best +
		sc_set_rent(s->advice, added) - sc_set_rent(s->advice, removed);
	if (s->price > 0)
		cost += s->price * (sc_set_bytes(s->advice, added) -
							sc_set_bytes(s->advice, removed));
	return cost;
}

/* What the place would cost more with a candidate, or without a member. */
static double
change_by(Search *s, Place *place, int x)
{
	if (s->stale[x])
	{
		Bitmapset  *set = bms_is_member(x, place->set) ?
			without(place->set, x) : with_candidate(place->set, s->cands[x]);

		s->changes[x] = known_cost(s, place, set) - place->cost;
		s->stale[x] = false;
	}
	return s->changes[x];
}

/*
 * Move by one candidate; what others would change is looked at again only
 * where it is of the same table, or of a statement that may be planned
 * otherwise now.
 */
static void
step_to(Search *s, Place *place, int x)
{
	ScCandidate *cand = s->cands[x];
	Bitmapset  *before = place->set;
	Bitmapset  *picked = bms_copy(cand->picked);
	bool	   *stale;
	int			i;

	if (s->plannings != s->advice->plannings)
		memset(s->stale, true, sizeof(bool) * s->ncands);
	stale = (bool *) palloc(sizeof(bool) * s->ncands);
	memcpy(stale, s->stale, sizeof(bool) * s->ncands);
	move_to(s, place, bms_is_member(x, before) ? without(before, x) :
			with_candidate(before, cand));
	i = -1;
	while ((i = bms_next_member(before, i)) >= 0)
	{
		if (!bms_is_member(i, place->set))
			picked = bms_add_members(picked, s->cands[i]->picked);
	}
	for (i = 0; i < s->ncands; i++)
		s->stale[i] = stale[i] ||
			s->cands[i]->hypo->relid == cand->hypo->relid ||
			bms_overlap(s->cands[i]->picked, picked);
	pfree(stale);
}

/* The best move that has been tried. */
typedef struct Move
{
	Bitmapset  *set;			/* NULL: none is any good */
	double		score;			/* less is better */
	double		cost;
} Move;

static void
consider(Search *s, Move *move, Bitmapset *set, double cost, double score)
{
	if (score < move->score)
	{
		MemoryContext oldcxt = MemoryContextSwitchTo(s->advice->study->cxt);

		move->set = bms_copy(set);
		move->cost = cost;
		move->score = score;
		MemoryContextSwitchTo(oldcxt);
	}
}

/* What each member is missed by, per byte; for others it is zero. */
static double *
losses(Search *s, Place *place)
{
	double	   *loss = (double *) palloc0(sizeof(double) * s->ncands);
	int			x = -1;

	while ((x = bms_next_member(place->set, x)) >= 0)
		loss[x] = (known_cost(s, place, without(place->set, x)) -
				   place->cost) / Max(1, s->cands[x]->hypo->bytes);
	return loss;
}

/* Take out what is missed least until the rest fits; not the one kept. */
static Bitmapset *
make_room(Search *s, Bitmapset *set, int keep, double *loss)
{
	while (!fits(s, set))
	{
		int			least = -1;
		int			x = -1;

		while ((x = bms_next_member(set, x)) >= 0)
		{
			if (x != keep && (least < 0 || loss[x] < loss[least]))
				least = x;
		}
		if (least < 0)
			return NULL;
		set = bms_del_member(set, least);
	}
	return set;
}

/* Bring one in, making room for it. */
static void
try_entries(Search *s, Place *place, Move *move)
{
	double	   *loss = losses(s, place);
	int			i;

	for (i = 0; i < s->ncands; i++)
	{
		Bitmapset  *set;
		double		cost;

		if (!admissible(place->set, s->cands[i]))
			continue;
		set = make_room(s, with_candidate(place->set, s->cands[i]), i, loss);
		if (set == NULL)
			continue;
		cost = known_cost(s, place, set);
		consider(s, move, set, cost, cost);
	}
}

static void
try_exits(Search *s, Place *place, Move *move)
{
	int			x = -1;

	while ((x = bms_next_member(place->set, x)) >= 0)
	{
		Bitmapset  *set = without(place->set, x);
		double		cost = known_cost(s, place, set);

		consider(s, move, set, cost, cost);
	}
}

/* Exchange members for others of the same table. */
static void
try_exchanges(Search *s, Place *place, Move *move)
{
	int			x = -1;

	while ((x = bms_next_member(place->set, x)) >= 0 && !tired(s))
	{
		Bitmapset  *rest = without(place->set, x);
		int			i;

		for (i = 0; i < s->ncands; i++)
		{
			Bitmapset  *set;
			double		cost;

			if (i == x || s->cands[i]->hypo->relid != s->cands[x]->hypo->relid ||
				!admissible(rest, s->cands[i]))
				continue;
			set = with_candidate(rest, s->cands[i]);
			if (!fits(s, set))
				continue;
			cost = known_cost(s, place, set);
			consider(s, move, set, cost, cost);
		}
		MemoryContextReset(s->cxt);
		rest = NULL;
	}
}

/*
 * The set with all that a plan needs, making room for it; NULL when that
 * cannot be.  Of what each member is missed by, that of the plan's is changed.
 */
static Bitmapset *
with_plan(Search *s, Bitmapset *set, ScPlanned *plan, double *loss)
{
	int			x = -1;

	while ((x = bms_next_member(plan->used, x)) >= 0)
	{
		if (!s->cands[x]->alive)
			return NULL;
		set = bms_difference(set, s->cands[x]->above);
		set = with_candidate(set, s->cands[x]);
		loss[x] = get_float8_infinity();
	}
	if (!bms_is_subset(plan->used, set) || !fits(s, plan->used))
		return NULL;
	return make_room(s, set, -1, loss);
}

/* Where there is space for all: bring one in, or take one out, and so on. */
static void
slide(Search *s, Place *place)
{
	while (!tired(s))
	{
		MemoryContext oldcxt = MemoryContextSwitchTo(s->cxt);
		double		least = -place->cost * 1e-7;
		int			best = -1;
		int			i;

		for (i = 0; i < s->ncands; i++)
		{
			if (!bms_is_member(i, place->set) &&
				!admissible(place->set, s->cands[i]))
				continue;
			if (change_by(s, place, i) < least)
			{
				least = change_by(s, place, i);
				best = i;
			}
		}
		MemoryContextSwitchTo(oldcxt);
		MemoryContextReset(s->cxt);
		if (best < 0)
			break;
		step_to(s, place, best);
	}
}

/* Go on while there is a better place next to this one. */
static void
descend(Search *s, Place *place)
{
	bool		roomy = s->unlimited || s->advice->max_size < 0;

	while (!tired(s))
	{
		MemoryContext oldcxt;
		Move		move = {NULL, 0, 0};

		if (roomy)
			slide(s, place);
		move.score = place->cost * (1 - 1e-7);
		oldcxt = MemoryContextSwitchTo(s->cxt);
		if (!roomy)
		{
			try_exits(s, place, &move);
			try_entries(s, place, &move);
		}
		MemoryContextReset(s->cxt);
		if (move.set == NULL)
			try_exchanges(s, place, &move);
		MemoryContextSwitchTo(oldcxt);
		MemoryContextReset(s->cxt);
		if (move.set == NULL)
			break;
		move_to(s, place, move.set);
	}
}

/* From nothing, by what gains most for its size to this power. */
static void
ascend(Search *s, Place *place, double exponent)
{
	move_to(s, place, NULL);
	while (!tired(s))
	{
		MemoryContext oldcxt = MemoryContextSwitchTo(s->cxt);
		double		least = 0;
		int			best = -1;
		int			i;

		for (i = 0; i < s->ncands; i++)
		{
			ScCandidate *cand = s->cands[i];
			double		score;

			if (!admissible(place->set, cand))
				continue;
			score = change_by(s, place, i) /
				pow(Max(1, cand->hypo->bytes / BLCKSZ), exponent);
			if (score < least && fits(s, with_candidate(place->set, cand)))
			{
				least = score;
				best = i;
			}
		}
		MemoryContextSwitchTo(oldcxt);
		MemoryContextReset(s->cxt);
		if (best < 0)
			break;
		step_to(s, place, best);
	}
}

/*
 * Take members out, or put smaller ones in their places, where that loses
 * least for the space it frees, until the rest fits.
 */
static void
squeeze(Search *s, Place *place)
{
	while (!fits(s, place->set))
	{
		MemoryContext oldcxt = MemoryContextSwitchTo(s->cxt);
		Move		move = {NULL, get_float8_infinity(), 0};
		int			x = -1;

		while ((x = bms_next_member(place->set, x)) >= 0)
		{
			Bitmapset  *rest = without(place->set, x);
			int			i;

			for (i = -1; i < s->ncands; i++)
			{
				Bitmapset  *set = rest;
				double		freed;
				double		cost;

				if (i >= 0)
				{
					if (s->cands[i]->hypo->relid != s->cands[x]->hypo->relid ||
						s->cands[i]->hypo->bytes >= s->cands[x]->hypo->bytes ||
						!admissible(rest, s->cands[i]))
						continue;
					set = with_candidate(rest, s->cands[i]);
				}
				freed = place->bytes - sc_set_bytes(s->advice, set);
				if (freed <= 0)
					continue;
				cost = known_cost(s, place, set);
				consider(s, &move, set, cost, (cost - place->cost) / freed);
			}
		}
		MemoryContextSwitchTo(oldcxt);
		MemoryContextReset(s->cxt);
		if (move.set == NULL)
			break;
		move_to(s, place, move.set);
	}
}

/*
 * Getting to know plans
 */

/*
 * What the planner would pick without one of the indexes of its best plan,
 * and without one of those of that plan, and so on: what else there is when
 * there is no space for all of them.
 */
static void
branch_out(Search *s, ScItem *item, ScVariant *variant)
{
	List	   *queue = list_make1(item->cands);
	List	   *seen = NIL;
	int			n = 0;

	while (queue != NIL && n < SC_BRANCHES && !tired(s))
	{
		Bitmapset  *set = (Bitmapset *) linitial(queue);
		Bitmapset  *used;
		double		cost;
		ListCell   *lc;
		int			x = -1;

		queue = list_delete_first(queue);
		foreach(lc, seen)
		{
			if (bms_equal((Bitmapset *) lfirst(lc), set))
				break;
		}
		if (lc != NULL)
			continue;
		seen = lappend(seen, set);
		sc_plan_variant(s->advice, variant, set, &cost, &used);
		n++;
		if (cost >= variant->base)
			continue;
		while ((x = bms_next_member(used, x)) >= 0)
			queue = lappend(queue, without(set, x));
	}
}

/* Each candidate alone, and the alternatives of the best plans. */
static void
survey(Search *s)
{
	double		until = s->advice->effort +
		(s->limit - s->advice->effort) * SC_SURVEY_PART;
	double		limit = s->limit;
	int			i;

	for (i = 0; i < s->nitems; i++)
	{
		ScItem	   *item = s->items[i];
		ListCell   *lc;
		int			x = -1;

		/* What one leaves of its share the others get. */
		s->limit = s->advice->effort +
			(until - s->advice->effort) / (s->nitems - i);
		foreach(lc, item->variants)
			branch_out(s, item, (ScVariant *) lfirst(lc));
		while ((x = bms_next_member(item->cands, x)) >= 0 && !tired(s))
			(void) sc_item_cost(s->advice, item, bms_make_singleton(x));
	}
	s->limit = limit;
}

/* The most that a candidate could still save beside a set. */
static double
hope(Search *s, Place *place, ScCandidate *cand)
{
	double		gain = 0;
	int			x = -1;

	while ((x = bms_next_member(cand->picked, x)) >= 0)
		gain += Max(0, place->items[x] -
					0.98 * s->items[x]->weight * s->items[x]->best);
	return gain;
}

/* What it costs at least to make room for so much more. */
static double
price_of_room(Search *s, Place *place, double bytes, double *loss)
{
	Bitmapset  *left = bms_copy(place->set);
	double		cost = 0;

	if (s->advice->max_size < 0)
		return 0;
	bytes -= s->advice->max_size - place->bytes;
	while (bytes > 0 && !bms_is_empty(left))
	{
		int			least = -1;
		int			x = -1;
		double		size;

		while ((x = bms_next_member(left, x)) >= 0)
		{
			if (least < 0 || loss[x] < loss[least])
				least = x;
		}
		left = bms_del_member(left, least);
		size = s->cands[least]->hypo->bytes;
		cost += loss[least] * Min(bytes, size);
		bytes -= size;
	}
	bms_free(left);
	return cost;
}

/*
 * The members that a candidate could stand in for: those that find the same
 * rows by the same first column.
 */
static Bitmapset *
kin(Search *s, Bitmapset *set, ScCandidate *cand)
{
	ScKeyCol   *first = (ScKeyCol *) linitial(cand->keys);
	Bitmapset  *result = NULL;
	int			x = -1;

	while ((x = bms_next_member(set, x)) >= 0)
	{
		ScCandidate *other = s->cands[x];

		if (other->hypo->relid == cand->hypo->relid &&
			other->hypo->am == cand->hypo->am &&
			equal(((ScKeyCol *) linitial(other->keys))->expr, first->expr) &&
			equal(other->hypo->pred, cand->hypo->pred))
			result = bms_add_member(result, x);
	}
	return result;
}

static void
ask_about(Search *s, Bitmapset *set, Bitmapset *items)
{
	int			x = -1;

	while ((x = bms_next_member(items, x)) >= 0)
		(void) sc_item_cost(s->advice, s->items[x], set);
}

/*
 * Ask the planner what each change of a set would bring, if it can bring
 * more than the room it takes is worth.  A wide index may be too large beside
 * the members that it could stand in for, but not in their place.
 */
static void
ask_planner(Search *s, Place *place)
{
	double	   *loss = losses(s, place);
	double		little = SC_LITTLE_GAIN * s->advice->best;
	int			i;

	for (i = 0; i < s->ncands && !tired(s); i++)
	{
		ScCandidate *cand = s->cands[i];
		Bitmapset  *others;
		Bitmapset  *items;
		double		gain;
		double		freed;
		int			x = -1;

		if (bms_is_member(i, place->set))
		{
			ask_about(s, without(place->set, i), cand->picked);
			continue;
		}
		if (!cand->alive)
			continue;
		gain = hope(s, place, cand) - little;
		if (gain <= 0)
			continue;
		if (admissible(place->set, cand) &&
			gain > price_of_room(s, place, cand->hypo->bytes, loss))
			ask_about(s, with_candidate(place->set, cand), cand->picked);
		if (s->advice->max_size < 0)
			continue;
		others = kin(s, place->set, cand);
		if (bms_is_subset(others, cand->below))
			continue;
		items = bms_copy(cand->picked);
		freed = 0;
		while ((x = bms_next_member(others, x)) >= 0)
		{
			items = bms_add_members(items, s->cands[x]->picked);
			freed += s->cands[x]->hypo->bytes;
		}
		if (gain > price_of_room(s, place, cand->hypo->bytes - freed, loss))
			ask_about(s, with_candidate(bms_difference(place->set, others),
										cand), items);
	}
	pfree(loss);
}

/*
 * Measure members by all of the sample.  Where that changes the size of one,
 * what is known of plans with it is forgotten.
 */
static bool
measure(Search *s, Bitmapset *set)
{
	bool		changed = false;
	int			x = -1;

	while ((x = bms_next_member(set, x)) >= 0)
	{
		if (sc_candidate_measure(s->advice, s->cands[x]))
		{
			sc_forget_plans(s->advice, s->cands[x]);
			changed = true;
		}
	}
	return changed;
}

/*
 * The best set so far
 */

typedef struct Best
{
	Bitmapset  *set;
	double		cost;			/* by the planner, and for each member */
} Best;

/*
 * What a set costs when each statement may use any of its members, and not
 * only what was thought to matter to it.
 */
static double
true_cost(Search *s, Bitmapset *set)
{
	double		cost = sc_write_cost(s->advice, set) +
		sc_set_rent(s->advice, set) +
		bms_num_members(set) * SC_LITTLE_GAIN * s->advice->best;
	int			i;

	for (i = 0; i < s->nitems; i++)
		cost += s->items[i]->weight *
			sc_item_true_cost(s->advice, s->items[i], set);
	return cost;
}

static bool
accept(Search *s, Best *best, Bitmapset *set)
{
	double		cost;

	if (measure(s, set))
	{
		best->cost = true_cost(s, best->set);
		if (!fits(s, best->set))
		{
			best->set = NULL;
			best->cost = true_cost(s, NULL);
		}
	}
	cost = true_cost(s, set);
	if (!fits(s, set) || cost >= best->cost * (1 - 1e-9))
		return false;
	best->set = bms_copy(set);
	best->cost = cost;
	return true;
}

/* One of a statement's better plans, by chance. */
static ScPlanned *
some_plan(Search *s)
{
	ScItem	   *item = s->items[pg_prng_uint64_range(&s->prng, 0,
													 s->nitems - 1)];
	ScVariant  *variant;

	if (item->variants == NIL)
		return NULL;
	variant = (ScVariant *)
		list_nth(item->variants,
				 pg_prng_uint64_range(&s->prng, 0,
									  list_length(item->variants) - 1));
	if (variant->nplans == 0)
		return NULL;
	return &variant->plans[pg_prng_uint64_range(&s->prng, 0,
												Min(variant->nplans, SC_KICK_PLANS) - 1)];
}

/*
 * Away from a set, to see whether another way leads further: what a plan of
 * some statement needs comes in together.
 */
static bool
kick(Search *s, Place *place, Bitmapset *from)
{
	ScPlanned  *plan = some_plan(s);
	double	   *loss;
	Bitmapset  *set;

	if (plan == NULL || bms_is_subset(plan->used, from))
		return false;
	move_to(s, place, from);
	loss = losses(s, place);
	set = with_plan(s, from, plan, loss);
	pfree(loss);
	if (set == NULL)
		return false;
	move_to(s, place, set);
	return true;
}

/*
 * Simulated annealing by the plans that are known: from a set to one that is
 * worse at times, less and less so, since the best set is seldom only one
 * change away from a good one.  Ends at the best place that was visited.
 */
static void
anneal(Search *s, Place *place)
{
	Bitmapset  *best = place->set;
	double		best_cost = place->cost;
	double		heat = SC_HEAT * place->cost;
	double		cooling = pow(SC_COOLING, 1.0 / SC_STEPS);
	double	   *loss = NULL;
	double	   *left = (double *) palloc(sizeof(double) * s->ncands);
	int			step;

	for (step = 0; step < SC_STEPS && s->nitems > 0 && !tired(s); step++)
	{
		MemoryContext oldcxt = MemoryContextSwitchTo(s->cxt);
		double		dice = pg_prng_double(&s->prng);
		Bitmapset  *set = NULL;
		double		cost;

		heat *= cooling;
		if (loss == NULL)
			loss = losses(s, place);
		if (dice < SC_TAKE_OUT)
		{
			int			n = bms_num_members(place->set);
			int			x = -1;

			if (n > 0)
			{
				n = pg_prng_uint64_range(&s->prng, 0, n - 1);
				while (n-- >= 0)
					x = bms_next_member(place->set, x);
				set = without(place->set, x);
			}
		}
		else
		{
			ScPlanned  *plan = some_plan(s);

			if (plan != NULL && !bms_is_subset(plan->used, place->set))
			{
				memcpy(left, loss, sizeof(double) * s->ncands);
				set = with_plan(s, place->set, plan, left);
			}
		}
		if (set != NULL)
		{
			cost = known_cost(s, place, set);
			if (cost <= place->cost ||
				pg_prng_double(&s->prng) < exp((place->cost - cost) / heat))
			{
				MemoryContextSwitchTo(oldcxt);
				move_to(s, place, set);
				if (place->cost < best_cost * (1 - 1e-7))
				{
					best = place->set;
					best_cost = place->cost;
				}
				MemoryContextReset(s->cxt);
				loss = NULL;
			}
		}
		MemoryContextSwitchTo(oldcxt);
	}
	MemoryContextReset(s->cxt);
	pfree(left);
	move_to(s, place, best);
}

/* Search and ask in turns, until there is nothing new. */
static void
settle(Search *s, Place *place, Best *best)
{
	int			round;

	for (round = 0; round < SC_ROUNDS; round++)
	{
		bool		better;

		move_to(s, place, place->set);
		if (!fits(s, place->set))
			squeeze(s, place);
		descend(s, place);
		better = accept(s, best, place->set);
		if ((!better && fits(s, place->set)) || tired(s))
			break;
		move_to(s, place, place->set);
		ask_planner(s, place);
	}
}

/*
 * Let bytes have a price instead of a limit, and find the price at which
 * what is bought just fits.  Then an exchange that only saves space is worth
 * it, and what it saves goes to whatever pays most.
 */
static void
auction(Search *s, Place *place)
{
	Bitmapset  *start = place->set;
	Bitmapset  *fitting = NULL;
	double		low = 0;		/* too much is bought */
	double		high = 0;		/* it fits; 0: not known yet */
	int			bid;

	/* Any price will do to begin with: what all of the gain would pay. */
	s->price = s->advice->base / Max(1, s->advice->max_size) / SC_CHEAP;
	for (bid = 0; bid < SC_BIDS && !tired(s); bid++)
	{
		move_to(s, place, start);
		s->unlimited = true;
		descend(s, place);
		s->unlimited = false;
		if (fits(s, place->set))
		{
			high = s->price;
			fitting = place->set;
		}
		else
		{
			/* At a higher price what is bought is mostly less of this. */
			low = s->price;
			start = place->set;
		}
		if (high == 0)
			s->price *= 2;
		else if (low == 0)
			s->price /= 2;
		else if (high < low * SC_CLOSE_BIDS)
			break;
		else
			s->price = sqrt(low * high);
	}
	s->price = 0;
	move_to(s, place, fitting);
}

/*
 * The last look
 */

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

/* Is a gain worth an index?  In all, or for a statement that needs it. */
static bool
worthwhile(Search *s, Bitmapset *before, Bitmapset *after, double gain)
{
	Bitmapset  *items;
	int			i = -1;

	if (gain <= 0)
		return false;
	if (gain >= SC_MIN_GAIN * s->advice->best)
		return true;
	items = affected_items(s, before, after);
	while ((i = bms_next_member(items, i)) >= 0)
	{
		double		a = sc_item_cost(s->advice, s->items[i], before);
		double		b = sc_item_cost(s->advice, s->items[i], after);

		if (a - b > SC_MIN_ITEM_GAIN * a &&
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
static Bitmapset *
read_members(Search *s, Bitmapset *set)
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

/*
 * Does it begin like an index that the table has, or are its keys those that
 * another member starts with, be it of other rows?
 */
static bool
is_shadow(Search *s, Bitmapset *set, ScCandidate *cand)
{
	int			x = -1;

	if (cand->copy)
		return true;
	while ((x = bms_next_member(set, x)) >= 0)
	{
		if (x != cand->id && s->cands[x]->hypo->relid == cand->hypo->relid &&
			sc_keys_start_with(s->cands[x]->keys, cand->keys))
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
 * that are nearly the same as others and do little more.
 */
static Bitmapset *
thinned(Search *s, Bitmapset *set)
{
	int			x = -1;

	while ((x = bms_next_member(set, x)) >= 0)
	{
		Bitmapset  *rest = without(set, x);

		CHECK_FOR_INTERRUPTS();
		if (worthwhile(s, rest, set,
					   sc_set_misses(s->advice, set, s->cands[x])) &&
			(s->advice->max_size >= 0 || !is_shadow(s, set, s->cands[x]) ||
			 stands_out(s, rest, set)))
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

/* Does some statement cost more with a set, by a part of what it costs now? */
static bool
missed(Search *s, Bitmapset *set, Bitmapset *better)
{
	Bitmapset  *items = affected_items(s, set, better);
	int			i = -1;

	while ((i = bms_next_member(items, i)) >= 0)
	{
		double		more = sc_item_cost(s->advice, s->items[i], set) -
			sc_item_cost(s->advice, s->items[i], better);

		if (more > SC_PAIR_GAIN * sc_item_cost(s->advice, s->items[i], NULL))
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
	Bitmapset  *rest = without(without(set, x), y);
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
		next = with_candidate(rest, cand);
		(void) measure(s, next);
		if (!cand->alive)
			continue;
		change = true_change(s, set, next, cand->hypo->relid);
		if (change > 0 && worthwhile(s, next, set, change) &&
			missed(s, next, set))
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
static Bitmapset *
merged(Search *s, Bitmapset *set)
{
	int			x = -1;

	while ((x = bms_next_member(set, x)) >= 0 && !tired(s))
	{
		Bitmapset  *better = NULL;
		int			y = x;

		while (better == NULL && !tired(s) && (y = bms_next_member(set, y)) >= 0)
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
static Bitmapset *
plainest(Search *s, Bitmapset *set)
{
	int			x = -1;

	while ((x = bms_next_member(set, x)) >= 0)
	{
		Bitmapset  *rest = without(set, x);
		int			best = x;
		int			y = -1;

		while ((y = bms_next_member(s->cands[x]->below, y)) >= 0)
		{
			ScCandidate *cand = s->cands[y];

			if (!cand->alive || bms_is_member(y, set) ||
				bms_overlap(cand->above, rest) ||
				cand->hypo->natts >= s->cands[best]->hypo->natts)
				continue;
			CHECK_FOR_INTERRUPTS();
			(void) measure(s, bms_make_singleton(y));
			if (cand->alive &&
				as_good(s, bms_add_member(bms_copy(rest), y), set))
				best = y;
		}
		if (best != x)
			set = bms_add_member(rest, best);
	}
	return set;
}

/*
 * HOT updates
 */

/* Candidates that have a column that an UPDATE changes. */
static Bitmapset *
touched_by(Search *s, ScWrite *write)
{
	Bitmapset  *touched = NULL;
	int			x = -1;

	while ((x = bms_next_member(write->cands, x)) >= 0)
	{
		if (s->cands[x]->alive &&
			bms_overlap(s->cands[x]->columns, write->columns))
			touched = bms_add_member(touched, x);
	}
	return touched;
}

/* Search on without some candidates, from a set without them. */
static void
settle_without(Search *s, Place *place, Bitmapset *from, Bitmapset *touched,
			   Best *best)
{
	int			x = -1;

	while ((x = bms_next_member(touched, x)) >= 0)
		s->cands[x]->alive = false;
	place->set = bms_difference(from, touched);
	settle(s, place, best);
	x = -1;
	while ((x = bms_next_member(touched, x)) >= 0)
		s->cands[x]->alive = true;
}

/*
 * An index with a column that an UPDATE changes makes it write to all others.
 * While there are two of these, taking out either saves nothing of that, so
 * try to do without all of them.
 */
static void
keep_hot(Search *s, Place *place, Best *best)
{
	ListCell   *lc;

	foreach(lc, s->advice->writes)
	{
		Bitmapset  *touched = touched_by(s, (ScWrite *) lfirst(lc));

		if (bms_overlap(touched, best->set))
			settle_without(s, place, best->set, touched, best);
	}
}

/* The part of all updated rows that a set keeps from being HOT. */
static double
cold_part(Search *s, Bitmapset *set)
{
	double		all = 0;
	double		cold = 0;
	ListCell   *lc;

	foreach(lc, s->advice->writes)
	{
		ScWrite    *write = (ScWrite *) lfirst(lc);

		if (write->command != CMD_UPDATE)
			continue;
		all += write->rows;
		if (!sc_write_hot(s->advice, write, set))
			cold += write->rows;
	}
	return all > 0 ? cold / all : 0;
}

/* An UPDATE that could be HOT, and what that would cost. */
typedef struct Warming
{
	Bitmapset  *touched;		/* candidates to do without */
	double		price;			/* of what the writes save */
} Warming;

static int
compare_warming(const ListCell *a, const ListCell *b)
{
	const Warming *x = (const Warming *) lfirst(a);
	const Warming *y = (const Warming *) lfirst(b);

	return x->price < y->price ? -1 : x->price > y->price;
}

/* What a set without some candidates costs more, per cost that writes save. */
static double
price_of_warmth(Search *s, Best *best, Best *other)
{
	double		saved = sc_write_cost(s->advice, best->set) -
		sc_write_cost(s->advice, other->set);

	if (saved <= 0)
		return get_float8_infinity();
	return (other->cost - best->cost) / saved;
}

/*
 * Where most updates could be HOT, they should be: tables that are updated
 * in place do not bloat, which no cost of a single update tells.  So of the
 * indexes that keep updates from being HOT, those that are worth least for it
 * go while there are too many such updates, as long as none is worth many
 * times what it costs the writes, and all of them together are worth little of
 * what the statements cost as things are.
 */
static void
warm_up(Search *s, Place *place, Best *best)
{
	double		limit = best->cost + SC_HOT_BUDGET * s->advice->base;
	List	   *warmings = NIL;
	ListCell   *lc;

	if (cold_part(s, best->set) <= SC_COLD_PART)
		return;
	foreach(lc, s->advice->writes)
	{
		ScWrite    *write = (ScWrite *) lfirst(lc);
		Warming    *w;
		Best		other = {NULL, get_float8_infinity()};

		if (write->command != CMD_UPDATE || write->never_hot ||
			sc_write_hot(s->advice, write, best->set))
			continue;
		w = (Warming *) palloc(sizeof(Warming));
		w->touched = touched_by(s, write);
		settle_without(s, place, best->set, w->touched, &other);
		w->price = price_of_warmth(s, best, &other);
		elog(DEBUG2, "%.0f updates of %s that could be HOT: cost %.0f more, %.1f of what the writes save",
			 write->rows, get_rel_name(write->relid),
			 other.cost - best->cost, w->price);
		if (w->price <= SC_HOT_PRICE)
			warmings = lappend(warmings, w);
	}
	list_sort(warmings, compare_warming);
	foreach(lc, warmings)
	{
		Warming    *w = (Warming *) lfirst(lc);
		Best		other = {NULL, get_float8_infinity()};
		int			x = -1;

		if (cold_part(s, best->set) <= SC_COLD_PART)
			break;
		settle_without(s, place, best->set, w->touched, &other);
		if (other.cost > limit || price_of_warmth(s, best, &other) > SC_HOT_PRICE)
			continue;
		*best = other;
		/* For good: what follows must not bring them back. */
		while ((x = bms_next_member(w->touched, x)) >= 0)
			s->cands[x]->alive = false;
	}
}

static void
begin_search(Search *s, ScAdvice *advice)
{
	ListCell   *lc;

	memset(s, 0, sizeof(*s));
	s->advice = advice;
	s->cxt = AllocSetContextCreate(advice->study->cxt, "scalecache moves",
								   ALLOCSET_DEFAULT_SIZES);
	s->nitems = list_length(advice->items);
	s->ncands = list_length(advice->candidates);
	s->items = (ScItem **) palloc0(sizeof(ScItem *) * Max(1, s->nitems));
	s->cands = (ScCandidate **) palloc0(sizeof(ScCandidate *) *
										Max(1, s->ncands));
	foreach(lc, advice->items)
		s->items[foreach_current_index(lc)] = (ScItem *) lfirst(lc);
	foreach(lc, advice->candidates)
		s->cands[foreach_current_index(lc)] = (ScCandidate *) lfirst(lc);
	s->limit = SC_MAX_EFFORT;
	s->changes = (double *) palloc(sizeof(double) * Max(1, s->ncands));
	s->stale = (bool *) palloc(sizeof(bool) * Max(1, s->ncands));
	pg_prng_seed(&s->prng, 20);
}

/* Where a search may begin. */
typedef enum Beginning
{
	SC_FROM_GAINS,				/* what gains most for its size comes first */
	SC_FROM_ABOVE,				/* as if there were space, and then less */
	SC_FROM_PRICES				/* space has a price instead of a limit */
} Beginning;

static void
begin_at(Search *s, Place *place, Beginning beginning)
{
	if (beginning == SC_FROM_GAINS || s->advice->max_size < 0)
	{
		ascend(s, place, 1);
		return;
	}
	s->unlimited = true;
	ascend(s, place, 0);
	descend(s, place);
	s->unlimited = false;
	if (beginning == SC_FROM_PRICES && !fits(s, place->set))
		auction(s, place);
}

/* The best set of candidates that was found; the study's. */
Bitmapset *
sc_search(ScAdvice *advice)
{
	static const Beginning beginnings[] = {
		SC_FROM_GAINS, SC_FROM_ABOVE, SC_FROM_PRICES
	};
	Search		s;
	Place		place;
	Best		best = {NULL, 0};
	int			i;

	begin_search(&s, advice);
	memset(&place, 0, sizeof(place));
	place.items = (double *) palloc0(sizeof(double) * Max(1, s.nitems));
	survey(&s);
	elog(DEBUG2, "effort %.0f after the survey", advice->effort);

	best.cost = true_cost(&s, NULL);
	for (i = 0; i < lengthof(beginnings); i++)
	{
		begin_at(&s, &place, beginnings[i]);
		settle(&s, &place, &best);
		elog(DEBUG2, "beginning %d: cost %.0f, best %.0f with %d indexes, effort %.0f",
			 i, place.cost, best.cost, bms_num_members(best.set),
			 advice->effort);
		/* Where space is no matter, one beginning is as good as another. */
		if (advice->max_size < 0)
			break;
	}
	for (i = 0; i < SC_KICKS && s.nitems > 0 && !tired(&s); i++)
	{
		double		before = best.cost;

		/* Where there is space for all, nothing has to go for another. */
		if (i % 4 == 0 && advice->max_size >= 0)
		{
			move_to(&s, &place, best.set);
			anneal(&s, &place);
			if (bms_equal(place.set, best.set))
				continue;
		}
		else if (!kick(&s, &place, best.set))
			continue;
		settle(&s, &place, &best);
		if (best.cost < before)
			elog(DEBUG2, "kick %d: best %.0f with %d indexes, effort %.0f",
				 i, best.cost, bms_num_members(best.set), advice->effort);
	}
	keep_hot(&s, &place, &best);
	warm_up(&s, &place, &best);
	best.set = thinned(&s, read_members(&s, best.set));
	/* With a limit, space is what decides between one and two. */
	if (advice->max_size < 0)
	{
		s.limit = advice->effort + SC_MERGE_EFFORT;
		best.set = plainest(&s, thinned(&s, merged(&s, best.set)));
	}
	MemoryContextDelete(s.cxt);
	return best.set;
}
