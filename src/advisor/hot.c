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
void
sc_search_warm_up(Search *s, Place *place, Best *best)
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
