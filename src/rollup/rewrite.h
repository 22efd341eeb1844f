/*
 * rewrite.h: a query answered from a rollup, between the files rewrite*.c.
 *
 * rewrite_forms.c	a rollup's expressions, as queries are compared with them
 * rewrite_match.c	does a rollup hold what a query asks for, or why not
 * rewrite_time.c	buckets of time: which are derivable from which
 * rewrite_edges.c	ranges that do not begin and end with a bucket
 * zone_scan.c		the table's rows at their ends
 * rewrite.c		the planner's path and plan
 * rewrite_stored.c	the join of a rollup, in a query
 * rewrite_join.c	the same where the source is joined with other tables
 * rewrite_parts.c	aggregates there, and what each group adds to them
 * rewrite_join_exec.c	the execution of that
 * rewrite_exec.c	the execution
 * rewrite_whole.c	queries for all of a rollup's groups, decided before planning
 * rewrite_explain.c	what was decided, for people
 */
#ifndef SC_REWRITE_H
#define SC_REWRITE_H

#include "postgres.h"
#include "nodes/extensible.h"
#include "nodes/pathnodes.h"
#include "nodes/plannodes.h"

#include "datatype/timestamp.h"
#include "rollup/rollup.h"

/* How a column of the query's answer comes from the storage. */
typedef enum ScItemKind
{
	SC_ITEM_KEY,				/* the query's group key number arg */
	SC_ITEM_STORED,				/* the rollup's aggregate number arg */
	SC_ITEM_SLOT,				/* another aggregate of state number arg */
	SC_ITEM_ROWS,				/* count(*) */
	SC_ITEM_KEYSTATE,			/* an aggregate of expression number arg, to
								 * which it does not matter how often a value
								 * comes */
	SC_ITEM_LINEAR,				/* number arg of those computed from sums */
	SC_ITEM_GROUPING			/* grouping() number arg */
} ScItemKind;

typedef struct ScItem
{
	ScItemKind	kind;
	int			arg;
	Expr	   *expr;			/* in the query */
} ScItem;

/* A group key of the query. */
typedef struct ScQueryKey
{
	Expr	   *expr;			/* in the query */
	Expr	   *derived;		/* over the base table */
	SortGroupClause *sgc;
} ScQueryKey;

/* Where a bound of a range is, as far as the planner knows. */
typedef enum ScBoundPlace
{
	SC_BOUND_EDGE,				/* on the start of a bucket */
	SC_BOUND_INSIDE,
	SC_BOUND_UNKNOWN
} ScBoundPlace;

/*
 * A bound of a range of the raw timestamp.  The buckets from its edge on, or
 * before it, are whole; what is between edge and bound is left to the table.
 */
typedef struct ScBound
{
	Expr	   *time;			/* in the query */
	Expr	   *edge;			/* towards the inside of the range */
	Expr	   *outer;			/* the other way; the same on an edge */
	ScBoundPlace where;
	bool		lower;
	bool		strict;			/* the table answers for all if it is inside */
	int			key;			/* of the rollup */
} ScBound;

/* What a query's filter or key asks of a bucket. */
typedef enum ScUnit
{
	SC_UNIT_NONE,
	SC_UNIT_MICROSECOND,
	SC_UNIT_MILLISECOND,
	SC_UNIT_SECOND,
	SC_UNIT_MINUTE,
	SC_UNIT_HOUR,
	SC_UNIT_DAY,
	SC_UNIT_WEEK,
	SC_UNIT_MONTH,
	SC_UNIT_QUARTER,
	SC_UNIT_YEAR,
	SC_UNIT_DECADE,
	SC_UNIT_CENTURY,
	SC_UNIT_MILLENNIUM,
	SC_UNIT_BIN					/* date_bin's; only of buckets */
} ScUnit;

/* A rollup key that is a bucket of time; unit is SC_UNIT_NONE if not. */
typedef struct ScBucket
{
	ScUnit		unit;
	int64		stride;			/* SC_UNIT_BIN: microseconds */
	int64		origin;			/* likewise: where one starts */
	Expr	   *instant;		/* the timestamptz that is cut, or NULL */
	Const	   *zone;			/* with instant: where */
	Expr	   *local;			/* the timestamp that is cut */
	Expr	   *instant_start;	/* over the key, with instant */
	Expr	   *local_start;	/* over the key */
} ScBucket;

/* How a column of a joined query's answer comes about. */
typedef enum ScJoinKind
{
	SC_JOIN_KEY,				/* the query's group key number arg */
	SC_JOIN_ROWS,				/* count(*), of the rows that the part selects */
	SC_JOIN_STATE,				/* a state that parts are added to, as state
								 * number arg of the rollup, or -1: its own */
	SC_JOIN_LINEAR,				/* number arg of those computed from sums */
	SC_JOIN_GROUPING			/* grouping() number arg */
} ScJoinKind;

/*
 * What a group adds to an aggregate, if it passes the filter: one of its
 * states, or a value as often as it has rows.
 */
typedef struct ScJoinPart
{
	int			slot;			/* -1: args */
	Expr	   *filter;			/* over base and other tables, or NULL */
	List	   *args;			/* likewise */
} ScJoinPart;

typedef struct ScJoinItem
{
	ScJoinKind	kind;
	int			arg;
	Expr	   *expr;			/* in the query */
	List	   *parts;			/* of ScJoinPart; no two select the same row */
	List	   *sums;			/* SC_JOIN_LINEAR: items of joinitems */
} ScJoinItem;

/* A rollup that answers a query, and how.  In the planner's context. */
typedef struct ScMatch
{
	PlannerInfo *root;
	RelOptInfo *input;
	Oid			view;
	ScSpec	   *spec;			/* pinned while matching */
	Index		srcvarno;		/* in the query's range table */
	int		   *varmap;			/* stored groups of a join: for each entry of
								 * the rollup's range table the query's */
	Index		basevarno;		/* the same; appended if the match holds */
	Expr	  **keys;			/* the rollup's, as the query would say */
	ScBucket  **buckets;		/* of these; NULL: see sc_match_bucket */
	bool	   *sharp;			/* equal values of the key are identical */
	List	   *aggs;			/* the rollup's Aggrefs, likewise */
	List	   *rollupquals;	/* the rollup's WHERE, likewise */
	bool		zoned;			/* right only in the rollup's time zone */
	List	   *quals;			/* the query's WHERE over the base table */
	List	   *bounds;			/* of ScBound */
	bool		ragged;			/* some bound is inside a bucket */
	bool		edges;			/* the table is read beyond edges */
	List	   *guards;			/* keys whose buckets must not be split */
	List	   *qkeys;			/* of ScQueryKey */
	List	   *items;			/* of ScItem */
	List	   *keystates;		/* of Expr over the base table */
	List	   *keyargs;		/* the same, in the query */
	List	   *linears;		/* of lists: states, their sums as Aggref, a
								 * Const factor each, a Const for all */
	List	   *sets;			/* grouping sets: see SC_PRIVATE_SETS */
	bool		exact;			/* a group of the query is one of the rollup */
	bool		joined;			/* the query joins the source */
	List	   *joinitems;		/* of ScJoinItem, if so */
	FromExpr   *from;			/* likewise: with the base table */
	List	   *fresh;			/* likewise: entries that it needs copies of,
								 * to follow the base table's */
	List	   *freshof;		/* what these are copies of */
	List	   *columns;		/* likewise: what the join returns */
	PlannerInfo *joinroot;		/* likewise: what planned it */
	List	   *edgepaths;		/* likewise: of rows beyond edges */
	List	   *edgeroots;		/* what planned these */
	const char *zone;			/* the rollup's, if zoned */
	const char *reason;			/* why not */
} ScMatch;

/* rewrite_forms.c */
extern bool sc_spec_has_forms(ScSpec *spec);

/* rewrite_match.c */
extern Node *sc_strip_plain_casts(Node *node, void *context);
extern bool sc_match(ScMatch *m, List *groupclause, List *groupingsets,
					 List *tlist, List *outputs, List *having);
extern Oid	sc_btree_family(Oid type);
extern Node *sc_match_normalize(ScMatch *m, Node *expr);
extern void *sc_match_as_query(ScMatch *m, void *form);
extern bool sc_match_reads_keys(ScMatch *m, List *groupclause, List *tlist);
extern bool sc_match_read(ScMatch *m);
extern bool sc_match_keys(ScMatch *m, List *groupclause, List *tlist,
						  List *outputs, List *having);
extern ScBucket *sc_match_bucket(ScMatch *m, int i);
extern Expr *sc_match_derive(ScMatch *m, Node *expr);
extern List *sc_flat_quals(Expr *qual);
extern bool sc_match_rollupquals(ScMatch *m, List *quals);
extern bool sc_match_always(ScMatch *m, Node *qual);
extern Expr *sc_match_derive_key(ScMatch *m, Node *expr);
extern bool sc_match_is_key(ScMatch *m, Node *expr);
extern bool sc_match_sets(ScMatch *m, List *groupingsets, List *groupings);
extern List *sc_match_args(Aggref *agg);
extern int	sc_match_slot(ScMatch *m, Aggref *agg, ScStateDef *def);
extern bool sc_match_never_null(ScMatch *m, Expr *expr);
extern const char *sc_match_text(ScMatch *m, Node *expr);
extern bool sc_match_fail(ScMatch *m, const char *reason);

/* suggest_join.c */
extern Query *sc_suggest_flatten(Query *query, List **entries, List **quals);
extern bool sc_suggest_joins(Node *qual);
extern bool sc_suggest_same_join(List *entries1, List *quals1, List *entries2,
								 List *quals2);
extern Query *sc_suggest_query(List *entries, List *quals, List *exprs, int nkeys,
							   List *names);
extern char *sc_suggest_text(Query *query);

/* rewrite_linear.c */
typedef struct ScLinearState ScLinearState;
extern bool sc_linear_match(ScMatch *m, Aggref *agg, int *count);
extern Bitmapset *sc_linear_slots(List *linear, Bitmapset *slots);
extern ScLinearState *sc_linear_prepare(List *linear, Aggref *agg, MemoryContext cxt);
extern int	sc_linear_sums(const ScLinearState *state);
extern int	sc_linear_slot(const ScLinearState *state, int i);
extern void sc_linear_final(ScLinearState *state, const ScStateDef **defs,
							ScState **sums, Datum *value, bool *isnull);

/* rewrite_stored.c */
extern ScSpec *sc_stored_for_query(PlannerInfo *root, Oid view, int **varmap);
extern int *sc_stored_map_supposed(PlannerInfo *root, ScSpec *fact, ScSpec *stored);
extern Node *sc_stored_as_query(ScMatch *m, void *expr);
extern List *sc_stored_quals(ScSpec *stored);
extern bool sc_stored_conditions(ScMatch *m, List **quals);

/* rewrite_edges.c */
extern bool sc_unit_length(ScUnit unit, Interval *length);
extern bool sc_bound_settle(ScMatch *m, ScBound *bound, Expr *value, bool after);
extern List *sc_edge_paths(ScMatch *m, double *rows, Cost *cost);

/* zone_scan.c */
extern void sc_zone_scan_init(void);
extern void sc_zone_paths(PlannerInfo *root, RelOptInfo *rel, RangeTblEntry *rte);
extern void sc_zone_plan_for(ScMatch *m);

/* rewrite_parts.c */
extern bool sc_join_items(ScMatch *m, Node *node);

/* rewrite_join.c */
extern bool sc_join_match(ScMatch *m, List *groupclause, List *groupingsets,
						  List *tlist, List *outputs, List *having);
extern Path *sc_join_path(ScMatch *m);
extern Path *sc_join_edge_path(ScMatch *m, List *quals);
extern Plan *sc_join_plan(ScMatch *m, Path *path, List *tlist, List *having,
						  List *custom_plans);
extern Bitmapset *sc_join_relations(PlannerInfo *root);
extern Oid	sc_join_view(PlannerInfo *root);

/* Who answers: not known before the first row. */
typedef enum ScAnswer
{
	SC_UNDECIDED,
	SC_FROM_ROLLUP,
	SC_FROM_TABLE
} ScAnswer;

/* Where the bounds of a range are, once they are known. */
typedef enum ScRange
{
	SC_RANGE_WHOLE,				/* all on edges of buckets */
	SC_RANGE_RAGGED,
	SC_RANGE_UNKNOWN			/* NULL, or infinite */
} ScRange;

/* The groups of a grouping set, or all that there is without. */
typedef struct ScSetResult
{
	ScGroups   *groups;
	List	   *set;			/* see SC_PRIVATE_SETS; NIL: all keys */
} ScSetResult;

/* A projection that only picks columns; n is 0 for others. */
typedef struct ScCopied
{
	int			n;
	AttrNumber	last;
	AttrNumber *attnos;
} ScCopied;

typedef void (*ScMergeGroup) (void *arg, ScGroup *from, ScGroup *into);

/* rewrite_node.c */
extern ScRange sc_node_range(ExprState **bounds, int n, ExprContext *econtext);
extern List *sc_node_sets(ScGroups *target, List *sets, ScMergeGroup merge,
						  void *arg);
extern ScSetResult *sc_node_next_group(List *results, int *n, ScGroup **group);
extern Datum sc_node_key_of_set(List *set, ScGroup *group, int key,
								bool *isnull);
extern Datum sc_node_grouping_of_set(List *set, int n);
extern ScSpec *sc_node_spec(Oid view);
extern ScSpec *sc_node_target(const ScSpec *like, List *exprs, List *ops,
							  int nkeys, Size statesize);
extern bool sc_node_zone_holds(List *zone);
extern List *sc_node_children(Plan *plan);
extern void sc_node_open_plain(CustomScanState *node, int eflags, PlanState **plain);
extern bool sc_node_anybody_may_call(List *functions);
extern bool sc_node_allowed(CustomScanState *node, List *functions, int eflags,
							PlanState **plain);
extern void sc_node_overflow(void) pg_attribute_noreturn();
extern TupleTableSlot *sc_node_plain_row(CustomScanState *node, PlanState *plain);
extern void sc_node_find_copied(PlanState *ps, int varno, ScCopied *copied);
extern TupleTableSlot *sc_node_copy(PlanState *ps, ScCopied *copied, TupleTableSlot *row);
extern bool sc_node_recheck(ScanState *ss, TupleTableSlot *slot);
typedef struct ScHold ScHold;
extern List *sc_node_hold(CustomScanState *node, ScSpec *spec);
extern void sc_node_let_go(List *held);
extern int	sc_node_holds(Oid relid);
extern void sc_node_end(CustomScanState *node, ScSpec *spec, List *held);
extern void sc_node_rescan(CustomScanState *node);
extern void sc_node_explain_keys(CustomScanState *node, List *ancestors,
								 int nkeys, List *sets, bool prefix,
								 struct ExplainState *es);
extern List *sc_node_open_plans(CustomScanState *node, int first, int eflags);
extern void sc_node_merge_state(ScStateDef *def, ScState *from, ScState *into,
								MemoryContext cxt, MemoryContext scratch);
extern bool sc_node_explain_answer(ScAnswer source, PlanState *plain,
								   struct ExplainState *es);
extern void sc_node_explain_rollup(Oid view, struct ExplainState *es);

/* rewrite_join_exec.c */
extern Node *sc_join_create_state(CustomScan *cscan);

/* rewrite_time.c */
extern ScUnit sc_time_unit(Node *name, bool field);
extern ScUnit sc_format_unit(Node *format);
extern void sc_bucket_of_key(ScBucket *bucket, Expr *key, Expr *var);
extern Node *sc_bucket_derive(ScMatch *m, Node *node);
extern bool sc_bucket_range(ScMatch *m, OpExpr *op);
extern Expr *sc_bucket_compare(ScMatch *m, OpExpr *op);
extern Expr *sc_bound_as(Expr *bound, Oid type);
extern int	sc_bucket_guard_seconds(ScUnit unit);
extern Expr *sc_bucket_day(ScBucket *bucket);
extern bool sc_bin_is_sound(int64 stride, int64 origin);
extern int64 sc_modulo(int64 a, int64 b);
extern Expr *sc_bucket_is_split_call(ScBucket *bucket, Node *key);
extern bool sc_bucket_is_whole(Oid type, Datum start, const char *zone,
							   int seconds);
extern bool sc_bucket_is_edge(Oid type, Datum value, const char *zone,
							  int seconds);

/* scan.c */
extern const CustomScanMethods sc_scan_methods;
extern bool sc_qual_can_fail(Node *node, void *context);

/* A rollup that is supposed to be there, and what it would save. */
typedef struct ScSupposed
{
	ScSpec	   *spec;
	ScSpec	   *stored;			/* of a join: its own groups, else NULL */
	double		groups;
	Cost		saved;			/* out */
} ScSupposed;

/* rewrite.c */
extern List *sc_rollups_on(Oid source);
extern RangeTblEntry *sc_base_entry(ScSpec *spec);
extern void sc_key_exprs(ScMatch *m, List **exprs, List **ops);
extern void sc_rewrite_suppose(List *rollups);
extern double sc_supposed_size(ScSpec *spec, double groups);
extern bool sc_collect_functions(Node *node, void *functions);
extern bool sc_collect_calls(Node *node, void *calls);
extern List *sc_called_functions(ScMatch *m);
extern bool sc_rewrite_supposing(void);
extern double sc_rewrite_pages(ScSpec *spec);

/* rewrite_whole.c */
extern void sc_whole_replace(Query *parse);
extern List *sc_whole_private(RangeTblEntry *rte);
extern void sc_whole_forget(void);
extern bool sc_whole_allowed(ScSpec *spec, List *private, Snapshot snapshot);
extern bool sc_whole_holds(List *private);
extern QueryDesc *sc_whole_run(ScSpec *spec, List *private, EState *estate,
							   Tuplestorestate *store);
extern void sc_whole_end(QueryDesc *qd);
extern void sc_whole_explain(QueryDesc *qd, struct ExplainState *es);

/* What the scan that stands for a query is told, beside the view. */
typedef enum ScWholePrivate
{
	SC_WHOLE_QUERY,				/* the plain query: its table, target list, groups;
								 * which of its targets the rollup's keys are, and
								 * of the rollup's aggregates its calls */
	SC_WHOLE_CALLED,			/* functions that it calls */
	SC_WHOLE_ZONE				/* NIL, or the zone the session must have */
} ScWholePrivate;

/* rewrite_explain.c */
extern void sc_rewrite_note(Oid view, const char *reason);
extern void sc_rewrite_note_chosen(Oid view, const char *reason);
extern void sc_rewrite_note_match(Oid view);
extern bool sc_rewrite_noting(void);
extern bool sc_rewrite_checking(void);
extern List *sc_rewrite_used(PlannedStmt *stmt);

/* rewrite_exec.c */
extern Node *sc_rewrite_create_state(CustomScan *cscan);

/* Members of CustomScan.custom_private. */
typedef enum ScRewritePrivate
{
	SC_PRIVATE_VIEW,			/* list of one Oid */
	SC_PRIVATE_FLAGS,			/* exact, number of query keys, of key
								 * states, of bounds, of filters that can fail */
	SC_PRIVATE_ITEMS,			/* kind, arg, kind, arg, ... */
	SC_PRIVATE_GROUPOPS,		/* equality operator, hashable, ... */
	SC_PRIVATE_SETS,			/* lists of: number of keys, keys, values of
								 * each grouping() */
	SC_PRIVATE_GUARDS,			/* key, seconds, ... */
	SC_PRIVATE_ZONES,			/* of the guards */
	SC_PRIVATE_SESSIONZONE,		/* NIL, or the zone the session must have */
	SC_PRIVATE_LINEARS,			/* as in ScMatch */
	SC_PRIVATE_CALLED			/* Oids of functions: see sc_called_functions */
} ScRewritePrivate;

#endif							/* SC_REWRITE_H */
