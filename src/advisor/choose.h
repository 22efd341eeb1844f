/*-------------------------------------------------------------------------
 *
 * choose.h
 *	  From statements to a set of indexes: what harvest.c, candidates.c,
 *	  choose.c and suggest.c share.  Everything is in the study's memory context.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SC_CHOOSE_H
#define SC_CHOOSE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "nodes/bitmapset.h"
#include "utils/hsearch.h"

#include "advisor/advisor.h"

/* What a column of an index is for. */
typedef enum ScRole
{
	SC_ROLE_EQ,
	SC_ROLE_JOIN,
	SC_ROLE_RANGE,
	SC_ROLE_SORT,
	SC_ROLE_GROUP,
	SC_ROLE_PATTERN,			/* LIKE 'abc%' */
	SC_ROLE_SEARCH				/* containment, full text, nearest ... */
} ScRole;

typedef struct ScKeyCol
{
	Node	   *expr;			/* varno 1 */
	Oid			am;
	Oid			opclass;
	Oid			collation;
	int16		option;			/* INDOPTION_* */
	ScRole		role;
	Node	   *clause;			/* could be a predicate instead, or NULL */
} ScKeyCol;

/* How one execution of a statement uses one of its tables. */
typedef struct ScRelUse
{
	Oid			relid;
	const struct ScVariant *variant;	/* whose it is; only to be compared */
	double		weight;
	double		sampled;		/* executions like this */
	List	   *places;			/* of int: where parameters were in the text */
	List	   *eq;				/* of ScKeyCol */
	List	   *range;
	List	   *join;
	List	   *special;		/* for access methods other than btree */
	List	   *orders;			/* of List of ScKeyCol */
	List	   *preds;			/* clauses that could be predicates */
	List	   *spans;			/* those of them that are ranges of many values */
	List	   *clauses;		/* all restrictions, varno 1 */
	Bitmapset  *target;			/* columns needed above the scan */
	bool		coverable;		/* could an index alone answer? */
} ScRelUse;

/* A comparison of a column with a constant: column < value and the like. */
typedef struct ScBound
{
	Var		   *column;
	Const	   *value;
	int			strategy;		/* of a btree, as if the column came first */
} ScBound;

/* A plan that was found: it can be had wherever its indexes are. */
typedef struct ScPlanned
{
	Bitmapset  *used;			/* candidates */
	bitmapword	folded;			/* all words of that in one */
	double		cost;
} ScPlanned;

/* A plan that the planner prefers though a cheaper one is known. */
typedef struct ScTrap
{
	Bitmapset  *used;
	double		cost;
	double		instead;		/* cost of the other */
} ScTrap;

typedef struct ScVariant
{
	ScQuery    *query;
	double		weight;			/* of the item's, all variants' sum is 1 */
	double		sampled;		/* executions like this */
	double		base;			/* cost without any suggestion */
	double		best;			/* with all its candidates */
	Bitmapset  *used;			/* candidates in that plan */
	HTAB	   *memo;			/* candidates -> cost */
	ScPlanned  *plans;			/* cheapest first, none without a point */
	int			nplans;
	int			maxplans;
	List	   *traps;			/* of ScTrap */
	Bitmapset  *scanned;		/* candidates read by the last plan */
	Bitmapset  *seen;			/* candidates of any plan ever found */
	int			nrels;
	int			nparts;			/* partitions and the like */
} ScVariant;

/* A change to a table by a statement. */
typedef struct ScWrite
{
	Oid			relid;
	CmdType		command;
	double		rows;			/* all executions' */
	Bitmapset  *columns;		/* an UPDATE's, attribute numbers */
	Bitmapset  *cands;			/* candidates on the table */
	bool		looked;			/* are the next two filled in? */
	int			nindexes;		/* that the table has */
	bool		never_hot;		/* one of these has such a column */
} ScWrite;

typedef struct ScItem
{
	int			index;			/* in advice->items */
	int64		id;				/* query id, or 1... of a given query */
	uint64		shape;			/* same for same but for constants; 0: unknown */
	double		weight;			/* calls, or the given weight */
	double		mean_ms;		/* 0: not known */
	TimestampTz since;			/* 0: not recorded */
	char	   *text;
	char	   *constraint;		/* of a foreign key's check, or NULL */
	List	   *variants;		/* of ScVariant, alike ones united */
	List	   *executions;		/* of ScVariant, all of them */
	List	   *uses;			/* of ScRelUse, all variants' */
	List	   *relids;			/* tables it touches */
	List	   *raw;			/* of int: candidates made for it */
	Bitmapset  *reach;			/* candidates on its tables */
	Bitmapset  *cands;			/* those that could matter to it */
	Bitmapset  *survived;		/* those the planner picked from all */
	double		best;			/* cost with all of them */
} ScItem;

typedef struct ScCandidate
{
	int			id;
	ScHypo	   *hypo;
	char	   *signature;
	List	   *keys;			/* of ScKeyCol */
	List	   *include;		/* of int: attribute numbers */
	Bitmapset  *columns;		/* all columns it depends on */
	Bitmapset  *items;			/* indexes of those it could matter to */
	Bitmapset  *picked;			/* and for which it has been picked */
	Bitmapset  *below;			/* candidates it makes redundant */
	Bitmapset  *above;			/* candidates that make it redundant */
	bool		alive;			/* considered by the choice */
	bool		liked;			/* does the best plan of a statement use it? */
	bool		prepared;		/* has the hypothetical index been made? */
	bool		usable;			/* could it be built, and would it be new? */
	bool		copy;			/* are its keys those of an existing index? */
	bool		near;			/* or nearly, or those of more rows? */
	bool		exact;			/* has it been measured by all of the sample? */
	double		gain;			/* at its turn */
	double		write;			/* its part of the write cost */
} ScCandidate;

typedef struct ScAdvice
{
	ScStudy    *study;
	List	   *items;			/* of ScItem */
	List	   *writes;			/* of ScWrite */
	List	   *candidates;		/* of ScCandidate, by id */
	List	   *chosen;			/* of ScCandidate, best first */
	double		max_size;		/* bytes; negative: any */
	bool		given;			/* did the caller give the statements? */
	bool		unlocked;		/* will all be parsed again, so keep no locks? */
	double		base;			/* the workload's cost as things are */
	double		usual;			/* that without what is out of all proportion */
	double		best;			/* and with all candidates */
	double		rent;			/* of a byte */
	double		effort;			/* plannings so far, weighted */
	int64		plannings;		/* the same, not weighted */
	List	   *deleted;		/* of Oid: tables that rows are deleted from */
	int			denied;			/* recorded statements of unreadable tables */
} ScAdvice;

/* harvest.c */
extern Node *sc_strip(Node *node);
extern bool sc_untrusted_function(Oid funcid, void *context);
extern void sc_harvest_init(void);
extern double sc_harvest(ScAdvice *advice, ScItem *item, ScVariant *variant);
extern ScKeyCol *sc_make_keycol(Node *expr, Oid am, Oid opclass, Oid collation,
								ScRole role);
extern bool sc_has_parameter(Node *node, List *places);
extern ScKeyCol *sc_plain_column(Oid relid, AttrNumber attnum);
extern bool sc_is_span(Oid relid, Node *clause);
extern double sc_ndistinct(Oid relid, Node *expr, double tuples);
extern bool sc_is_coarse(Oid relid, ScKeyCol *col);

/* bounds.c */
extern bool sc_is_time(Node *expr);
extern bool sc_bound_of(Node *clause, ScBound *bound);
extern List *sc_bounds_append(StringInfo buf, Oid relid, List *pred);

/* candidates.c */
extern void sc_candidates_make(ScAdvice *advice);
extern ScCandidate *sc_candidate_add(ScAdvice *advice, Oid relid, List *keys,
									 List *include, List *pred);
extern double sc_pred_limit(List *pred);

/* suggest.c */
extern void sc_advice_load_recorded(ScAdvice *advice, bool report);
extern ScQuery *sc_query_reload(const ScQuery *old);

/* choose.c */
extern List *sc_unwanted;		/* of char *: DDL not to be suggested */
extern void sc_choose(ScAdvice *advice);
extern bool sc_keys_start_with(List *keys, List *start);
extern bool sc_candidate_measure(ScAdvice *advice, ScCandidate *cand);

/* search.c */
extern Bitmapset *sc_search(ScAdvice *advice);

/* price.c */
extern ScCandidate *sc_candidate(ScAdvice *advice, int id);
extern void sc_plan_variant(ScAdvice *advice, ScVariant *variant,
							Bitmapset *set, double *cost, Bitmapset **used);
extern double sc_set_bytes(ScAdvice *advice, Bitmapset *set);
extern bool sc_set_fits(ScAdvice *advice, Bitmapset *set);
extern double sc_set_misses(ScAdvice *advice, Bitmapset *set,
							ScCandidate *cand);
extern double sc_item_cost(ScAdvice *advice, ScItem *item, Bitmapset *set);
extern double sc_item_true_cost(ScAdvice *advice, ScItem *item,
								Bitmapset *set);
extern Bitmapset *sc_item_scanned(ScAdvice *advice, ScItem *item,
								  Bitmapset *set);
extern double sc_item_known_cost(ScItem *item, Bitmapset *set);
extern void sc_forget_plans(ScAdvice *advice, ScCandidate *cand);
extern double sc_index_part(ScAdvice *advice, ScCandidate *cand);
extern double sc_write_cost(ScAdvice *advice, Bitmapset *set);
extern double sc_write_cost_of(ScAdvice *advice, Oid relid, Bitmapset *set);
extern bool sc_write_hot(ScAdvice *advice, ScWrite *write, Bitmapset *set);
extern double sc_set_rent(ScAdvice *advice, Bitmapset *set);
extern double sc_workload_cost(ScAdvice *advice, Bitmapset *set);

#endif							/* SC_CHOOSE_H */
