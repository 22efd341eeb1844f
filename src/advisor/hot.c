/*-------------------------------------------------------------------------
 *
 * hot.c
 *	  Sets of candidates that keep updates HOT.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/float.h"
#include "utils/lsyscache.h"

#include "advisor/search.h"

/* The part of all updates that indexes may keep from being HOT ... */
#define SC_COLD_PART		0.22
/* ... unless it would cost this many times what it saves the writes ... */
#define SC_HOT_PRICE		10
/* ... or, in all, this part of the cost as things are. */
#define SC_HOT_BUDGET		0.005

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
	sc_search_settle(s, place, best);
	x = -1;
	while ((x = bms_next_member(touched, x)) >= 0)
		s->cands[x]->alive = true;
}

/*
 * An index with a column that an UPDATE changes makes it write to all others.
 * While there are two of these, taking out either saves nothing of that, so
 * try to do without all of them.
 */
void
sc_search_keep_hot(Search *s, Place *place, Best *best)
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
	double		price;			/* for each part of the updates */
	bool		taken;
} Warming;

static int
compare_warming(const ListCell *a, const ListCell *b)
{
	const Warming *x = (const Warming *) lfirst(a);
	const Warming *y = (const Warming *) lfirst(b);

	return x->price < y->price ? -1 : x->price > y->price;
}

/* What doing without some candidates takes, or NULL if that is too much. */
static Warming *
try_warming(Search *s, Place *place, Best *best, ScWrite *write, double limit)
{
	Warming    *w = (Warming *) palloc(sizeof(Warming));
	Best		other = {NULL, get_float8_infinity()};
	double		saved;
	double		warmed;

	w->touched = touched_by(s, write);
	w->taken = false;
	settle_without(s, place, best->set, w->touched, &other);
	saved = sc_write_cost(s->advice, best->set) -
		sc_write_cost(s->advice, other.set);
	warmed = cold_part(s, best->set) - cold_part(s, other.set);
	elog(DEBUG2, "%.0f updates of %s that could be HOT: cost %.0f more, writes save %.0f",
		 write->rows, get_rel_name(write->relid), other.cost - best->cost,
		 saved);
	if (saved <= 0 || warmed <= 0 || other.cost > limit ||
		other.cost - best->cost > SC_HOT_PRICE * saved)
		return NULL;
	w->price = (other.cost - best->cost) / warmed;
	return w;
}

/* All that those taken do without. */
static Bitmapset *
taken_away(List *warmings)
{
	Bitmapset  *result = NULL;
	ListCell   *lc;

	foreach(lc, warmings)
	{
		if (((Warming *) lfirst(lc))->taken)
			result = bms_add_members(result,
									 ((Warming *) lfirst(lc))->touched);
	}
	return result;
}

static bool
is_warm(Search *s, Bitmapset *set, List *warmings)
{
	return cold_part(s, bms_difference(set, taken_away(warmings))) <=
		SC_COLD_PART;
}

/*
 * Where most updates could be HOT, they should be: tables that are updated
 * in place do not bloat, which no cost of a single update tells.  So of the
 * indexes that keep updates from being HOT, those go whose going costs least
 * for the updates it helps, as long as none is worth many times what it costs
 * the writes, and all of them together are worth little of what the statements
 * cost as things are.  If that does not get most updates to be HOT, there is
 * no reason to go without any: what a few cost the writes has been counted.
 */
void
sc_search_warm_up(Search *s, Place *place, Best *best)
{
	double		limit = best->cost + SC_HOT_BUDGET * s->advice->base;
	List	   *warmings = NIL;
	Best		warm = {NULL, get_float8_infinity()};
	Bitmapset  *away;
	ListCell   *lc;
	int			i;
	int			x = -1;

	if (cold_part(s, best->set) <= SC_COLD_PART)
		return;
	foreach(lc, s->advice->writes)
	{
		ScWrite    *write = (ScWrite *) lfirst(lc);
		Warming    *w;

		if (write->command != CMD_UPDATE ||
			sc_write_hot(s->advice, write, best->set) || write->never_hot)
			continue;
		w = try_warming(s, place, best, write, limit);
		if (w != NULL)
			warmings = lappend(warmings, w);
	}
	list_sort(warmings, compare_warming);
	for (i = 0; i < list_length(warmings) &&
		 !is_warm(s, best->set, warmings); i++)
		((Warming *) list_nth(warmings, i))->taken = true;
	if (!is_warm(s, best->set, warmings))
		return;
	/* Of the cheap ones some may have become needless by a dear one. */
	while (--i >= 0)
	{
		Warming    *w = (Warming *) list_nth(warmings, i);

		w->taken = false;
		if (!is_warm(s, best->set, warmings))
			w->taken = true;
	}
	away = taken_away(warmings);
	settle_without(s, place, best->set, away, &warm);
	if (warm.cost > limit || cold_part(s, warm.set) > SC_COLD_PART)
		return;
	*best = warm;
	/* For good: what follows must not bring them back. */
	while ((x = bms_next_member(away, x)) >= 0)
		s->cands[x]->alive = false;
}
