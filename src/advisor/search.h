/*-------------------------------------------------------------------------
 *
 * search.h
 *	  What the files of the search for the best set of candidates share.
 *
 * search.c		the search
 * hot.c		sets that keep updates HOT
 * last_look.c	a set without what it does not need
 *
 * Sets are bitmaps of ScCandidate.id; those that functions return are the
 * caller's or one that was given, and nobody changes one that is not his.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SC_SEARCH_H
#define SC_SEARCH_H

#include "common/pg_prng.h"
#include "miscadmin.h"

#include "advisor/choose.h"

/* An index must gain this part of what no index can save ... */
#define SC_MIN_GAIN			0.002
/* ... or this part of the cost of one statement, and then a little. */
#define SC_MIN_ITEM_GAIN	0.10
#define SC_LITTLE_GAIN		(SC_MIN_GAIN * 0.1)

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

/* The best set so far. */
typedef struct Best
{
	Bitmapset  *set;
	double		cost;			/* by the planner, and for each member */
} Best;

static inline bool
sc_search_tired(Search *s)
{
	CHECK_FOR_INTERRUPTS();
	return s->advice->effort > s->limit;
}

/* The set with a candidate, without those it makes redundant. */
static inline Bitmapset *
sc_with_candidate(Bitmapset *set, ScCandidate *cand)
{
	return bms_add_member(bms_difference(set, cand->below), cand->id);
}

static inline Bitmapset *
sc_without(Bitmapset *set, int x)
{
	return bms_del_member(bms_copy(set), x);
}

/* search.c */
extern double sc_search_cost(Search *s, Bitmapset *set);
extern bool sc_search_measure(Search *s, Bitmapset *set);
extern void sc_search_settle(Search *s, Place *place, Best *best);

/* hot.c */
extern void sc_search_keep_hot(Search *s, Place *place, Best *best);
extern void sc_search_warm_up(Search *s, Place *place, Best *best);

/* last_look.c */
extern Bitmapset *sc_search_read_members(Search *s, Bitmapset *set);
extern Bitmapset *sc_search_thinned(Search *s, Bitmapset *set);
extern Bitmapset *sc_search_merged(Search *s, Bitmapset *set);
extern Bitmapset *sc_search_narrowed(Search *s, Bitmapset *set);
extern Bitmapset *sc_search_plainest(Search *s, Bitmapset *set);

#endif							/* SC_SEARCH_H */
