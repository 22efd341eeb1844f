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
#include "miscadmin.h"
#include "utils/float.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "advisor/search.h"

/* Plannings, weighted by the number of tables, after which to settle. */
#define SC_MAX_EFFORT		90000.0
/* The same for looking for one index in place of two, after that. */
#define SC_MERGE_EFFORT		10000.0
/* Looking at the known plans of a statement, in the same unit. */
#define SC_LOOK_EFFORT		0.005
/* Plannings of one statement to get to know other plans. */
#define SC_BRANCHES			12
/* Part of the effort for that. */
#define SC_SURVEY_PART		0.4
#define SC_KICKS			140
#define SC_KICK_PLANS		24
/* Annealing: steps, the first and the last heat, how often one is taken out. */
#define SC_STEPS			2500
#define SC_HEAT				0.02
#define SC_COOLING			0.01
#define SC_TAKE_OUT			0.2
#define SC_ROUNDS			12
/* Looking for the price of space: the first one, how often, how near. */
#define SC_CHEAP			1000
#define SC_BIDS				20
#define SC_CLOSE_BIDS		1.02

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
			sc_without(place->set, x) : sc_with_candidate(place->set, s->cands[x]);

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
	move_to(s, place, bms_is_member(x, before) ? sc_without(before, x) :
			sc_with_candidate(before, cand));
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
		loss[x] = (known_cost(s, place, sc_without(place->set, x)) -
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
		set = make_room(s, sc_with_candidate(place->set, s->cands[i]), i, loss);
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
		Bitmapset  *set = sc_without(place->set, x);
		double		cost = known_cost(s, place, set);

		consider(s, move, set, cost, cost);
	}
}

/* Exchange members for others of the same table. */
static void
try_exchanges(Search *s, Place *place, Move *move)
{
	int			x = -1;

	while ((x = bms_next_member(place->set, x)) >= 0 && !sc_search_tired(s))
	{
		Bitmapset  *rest = sc_without(place->set, x);
		int			i;

		for (i = 0; i < s->ncands; i++)
		{
			Bitmapset  *set;
			double		cost;

			if (i == x || s->cands[i]->hypo->relid != s->cands[x]->hypo->relid ||
				!admissible(rest, s->cands[i]))
				continue;
			set = sc_with_candidate(rest, s->cands[i]);
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
		set = sc_with_candidate(set, s->cands[x]);
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
	while (!sc_search_tired(s))
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

	while (!sc_search_tired(s))
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
	while (!sc_search_tired(s))
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
			if (score < least && fits(s, sc_with_candidate(place->set, cand)))
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
			Bitmapset  *rest = sc_without(place->set, x);
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
					set = sc_with_candidate(rest, s->cands[i]);
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

	while (queue != NIL && n < SC_BRANCHES && !sc_search_tired(s))
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
			queue = lappend(queue, sc_without(set, x));
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
		while ((x = bms_next_member(item->cands, x)) >= 0 && !sc_search_tired(s))
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

	for (i = 0; i < s->ncands && !sc_search_tired(s); i++)
	{
		ScCandidate *cand = s->cands[i];
		Bitmapset  *others;
		Bitmapset  *items;
		double		gain;
		double		freed;
		int			x = -1;

		if (bms_is_member(i, place->set))
		{
			ask_about(s, sc_without(place->set, i), cand->picked);
			continue;
		}
		if (!cand->alive)
			continue;
		gain = hope(s, place, cand) - little;
		if (gain <= 0)
			continue;
		if (admissible(place->set, cand) &&
			gain > price_of_room(s, place, cand->hypo->bytes, loss))
			ask_about(s, sc_with_candidate(place->set, cand), cand->picked);
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
			ask_about(s, sc_with_candidate(bms_difference(place->set, others),
										   cand), items);
	}
	pfree(loss);
}

/*
 * Measure members by all of the sample.  Where that changes the size of one,
 * what is known of plans with it is forgotten.
 */
bool
sc_search_measure(Search *s, Bitmapset *set)
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
 * What a set costs when each statement may use any of its members, and not
 * only what was thought to matter to it.
 */
double
sc_search_cost(Search *s, Bitmapset *set)
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

	if (sc_search_measure(s, set))
	{
		best->cost = sc_search_cost(s, best->set);
		if (!fits(s, best->set))
		{
			best->set = NULL;
			best->cost = sc_search_cost(s, NULL);
		}
	}
	cost = sc_search_cost(s, set);
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

	for (step = 0; step < SC_STEPS && s->nitems > 0 && !sc_search_tired(s); step++)
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
				set = sc_without(place->set, x);
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
void
sc_search_settle(Search *s, Place *place, Best *best)
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
		if ((!better && fits(s, place->set)) || sc_search_tired(s))
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
	for (bid = 0; bid < SC_BIDS && !sc_search_tired(s); bid++)
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

	best.cost = sc_search_cost(&s, NULL);
	for (i = 0; i < lengthof(beginnings); i++)
	{
		begin_at(&s, &place, beginnings[i]);
		sc_search_settle(&s, &place, &best);
		elog(DEBUG2, "beginning %d: cost %.0f, best %.0f with %d indexes, effort %.0f",
			 i, place.cost, best.cost, bms_num_members(best.set),
			 advice->effort);
		/* Where space is no matter, one beginning is as good as another. */
		if (advice->max_size < 0)
			break;
	}
	for (i = 0; i < SC_KICKS && s.nitems > 0 && !sc_search_tired(&s); i++)
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
		sc_search_settle(&s, &place, &best);
		if (best.cost < before)
			elog(DEBUG2, "kick %d: best %.0f with %d indexes, effort %.0f",
				 i, best.cost, bms_num_members(best.set), advice->effort);
	}
	sc_search_keep_hot(&s, &place, &best);
	sc_search_warm_up(&s, &place, &best);
	best.set = sc_search_thinned(&s, sc_search_read_members(&s, best.set));
	/* With a limit, space is what decides between one and two. */
	if (advice->max_size < 0)
	{
		s.limit = advice->effort + SC_MERGE_EFFORT;
		best.set = sc_search_thinned(&s, sc_search_merged(&s, best.set));
		best.set = sc_search_plainest(&s, sc_search_narrowed(&s, best.set));
	}
	MemoryContextDelete(s.cxt);
	return best.set;
}
