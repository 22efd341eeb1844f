/*
 * rollup.h: what a rollup is, for the files of this folder.
 *
 * A rollup is a view holding the user's query, so that the query alone
 * decides what is right, and private storage that answers it faster:
 *
 *	base	one row a group: keys, aggregate values, row count, packed states
 *	delta	one row a change: keys, packed change; appended by writers, merged
 *			into base by a fold, which leaves a mark of what it has merged
 *
 * A snapshot's answer is base merged with the deltas it sees that the newest
 * mark it sees does not name.
 */
#ifndef SC_ROLLUP_H
#define SC_ROLLUP_H

#include "postgres.h"
#include "catalog/objectaddress.h"
#include "executor/executor.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "rollup/state.h"
#include "storage/block.h"
#include "tcop/dest.h"
#include "utils/queryenvironment.h"
#include "utils/rel.h"
#include "utils/snapshot.h"
#include "utils/timestamp.h"

/* scalecache.rollup.state */
#define SC_LIVE		'l'			/* storage answers */
#define SC_FILLING	'f'			/* changes are captured, the source answers */
#define SC_STALE	's'			/* nothing is captured, the source answers */
#define SC_UNFILLED	'u'			/* the same, until somebody asks for a rebuild */

/*
 * scalecache.rollup.part: the groups of a join, and the first of the logs of
 * changes of the tables beside its source.  See stored.c.
 */
#define SC_PART_STORED	1
#define SC_PART_LOG		2

typedef struct ScKey
{
	Expr	   *expr;			/* over the source, varno 1 */
	Oid			type;
	int32		typmod;
	Oid			collation;
	int16		typlen;
	bool		typbyval;
	char		typalign;
	FmgrInfo	eq;
	FmgrInfo	hash;			/* fn_oid invalid: hash the image, or nothing */
	bool		imagehash;		/* equal values have equal images */
	bool		imageeq;		/* other images are other values */
} ScKey;

typedef struct ScSlot
{
	Size		offset;			/* into a group's states */
	ScStateDef	def;
	List	   *args;			/* of Expr over the source, varno 1 */
	Expr	   *filter;
} ScSlot;

typedef struct ScAgg
{
	Aggref	   *aggref;			/* as in the view's query */
	int			slot;
	ScFinalDef	fin;
} ScAgg;

/* Maps of a relation that its new rows are entered in: see zones.c. */
#define SC_ZONES_EACH		8

typedef struct ScZoneMap ScZoneMap;

typedef struct ScZones
{
	uint64		version;		/* they are looked up again when it changes */
	int			n;
	AttrNumber	attnos[SC_ZONES_EACH];
	int			shifts[SC_ZONES_EACH];
	ScZoneMap  *maps[SC_ZONES_EACH];	/* perhaps of another relation now */
} ScZones;

/* Compiled expressions for one relation of the source's tree. */
typedef struct ScEval
{
	/* What a row of columns needs, and no more of zones as a rule. */
	Oid			relid;
	bool		counted;		/* the storage counts this relation's rows */
	bool		filtered;		/* there are filters */
	bool		plain;			/* there are only columns */
	struct ScEval *next;
	ExprState  *qual;
	AttrNumber *columns;		/* that an expression is, or 0: of each key, and
								 * two of each slot */
	ScZones		zones;
	ExprState **keys;
	ExprState ***args;			/* [slot][arg] */
	ExprState **filters;		/* [slot] */
	Bitmapset  *used;			/* attribute numbers read */
} ScEval;

/*
 * What queries are compared with: a rollup's expressions over the source,
 * varno 1, simplified by the planner.
 */
typedef struct ScForms
{
	Expr	  **keys;
	bool	   *sharp;			/* equal values of the key are identical */
	Bitmapset  *keyattrs;		/* columns that the keys read */
	List	   *aggs;			/* of Aggref */
	List	  **args;			/* [slot] */
	Node	  **filters;		/* [slot] */
	List	   *quals;			/* implicitly ANDed */
} ScForms;

/* Owned by the specification cache; valid until sc_spec_release. */
typedef struct ScSpec
{
	/* What a row that is written needs, in two cache lines. */
	int64		id;
	bool		valid;			/* false after an invalidation */
	char		state;			/* what readers may rely on */
	char		stored;			/* what the catalog says */
	bool		recompute;		/* some state keeps nothing */
	int			pins;
	Oid			view;
	Oid			source;
	Oid			base;
	Oid			delta[2];		/* written in turns: see delta.c */
	int64		turn;
	ScEval	   *evals;
	ExprContext *econtext;
	int			nkeys;
	int			nslots;
	int			fixedsize;		/* room for all keys in a row, or -1: some vary */
	ScKey	   *keys;
	ScSlot	   *slots;
	Size		statesize;		/* bytes of all states of a group */
	/* The rest. */
	Oid			distincts;		/* table of distinct values, if there are any */
	int64		epoch;			/* counts changes that no snapshot can undo */
	MemoryContext cxt;
	Query	   *query;			/* the view's query, or the source's part of it */
	Query	   *joined;			/* the view's query if that is a join, or NULL */
	Oid			part_of;		/* the view, if this is a part of a rollup */
	int			part;			/* which: see stored.c */
	bool		hasparts;		/* has others like that */
	int			nepochs;		/* of the other parts, when this one was filled */
	int64	   *epochs;
	Index		srcvarno;		/* the source in query's range table */
	Oid			owner;			/* the view's */
	bool		rewrite;		/* may answer queries of the source */
	char	   *zone;			/* time zone its query is pinned to, or NULL */
	char	   *path;			/* search_path of its creation, or NULL */
	List	   *members;		/* source and all that it includes, sorted */
	List	   *recorded;		/* those whose rows the storage counts, sorted */
	bool		inherits;		/* the source is read with its children */
	bool		detaching;		/* snapshots disagree about the members */
	bool		unfit;			/* a member can change without our knowing */
	bool		unstable;		/* so may what the query makes of a row */
	int			naggs;
	ScAgg	   *aggs;
	bool		maywide;		/* keys can be too large for a btree */
	bool		distinct;		/* some state is a multiset */
	List	   *quals;			/* of Expr, varno 1, implicitly ANDed */
	ScForms    *forms;			/* made by the first query */
	char	   *formless;		/* why they cannot be made, or NULL */
	TimestampTz formless_at;	/* when that was found out */
	int32		width;			/* of the base table's rows, or 0: not known yet */
	double		pages;			/* of the delta tables, as last seen */
	TimestampTz pages_at;		/* when that was */
	double		basepages;		/* the same of the base table */
	TimestampTz basepages_at;
} ScSpec;

/* Columns of scalecache.rollup. */
#define Anum_rollup_id			1
#define Anum_rollup_rollup		2
#define Anum_rollup_source		3
#define Anum_rollup_base		4
#define Anum_rollup_delta1		5
#define Anum_rollup_delta2		6
#define Anum_rollup_turn		7
#define Anum_rollup_epoch		8
#define Anum_rollup_state		9
#define Anum_rollup_members		10
#define Anum_rollup_time_zone	11
#define Anum_rollup_distincts	12
#define Anum_rollup_rewrite		13
#define Anum_rollup_views		14
#define Anum_rollup_part_of		15
#define Anum_rollup_part		16
#define Anum_rollup_epochs		17
#define Anum_rollup_path		18
#define Natts_rollup			18

/* Attribute numbers of a base table. */
#define ScBaseKey(i)			((i) + 1)
#define ScBaseAgg(spec, i)		((spec)->nkeys + (i) + 1)
#define ScBaseRows(spec)		((spec)->nkeys + (spec)->naggs + 1)
#define ScBaseOverflow(spec)	((spec)->nkeys + (spec)->naggs + 2)
#define ScBaseState(spec)		((spec)->nkeys + (spec)->naggs + 3)
#define ScBaseWide(spec)		((spec)->nkeys + (spec)->naggs + 4)
#define ScBaseNatts(spec)		((spec)->nkeys + (spec)->naggs + 4)

/* What a base table has after keys and aggregates. */
#define SC_BASE_COLUMNS			"rows bigint, overflow boolean, state bytea, wide integer"

/*
 * What a fold has covered: transactions below xmin, and those below xmax that
 * are not in xip (top-level ones).  xmin is invalid when nothing was folded.
 */
typedef struct ScMark
{
	int32		vl_len_;
	TransactionId xmin;
	TransactionId xmax;
	uint32		epoch;			/* of xmin */
	TransactionId basexid;		/* that wrote the base table last */
	TransactionId drainxid;		/* that found the retired table drained */
	TransactionId since;		/* next one when this turn began */
	BlockNumber low[2];			/* nothing is pending before these blocks */
	Oid			node[2];		/* of these files: VACUUM FULL moves rows */
	bool		drained;		/* nothing is pending in the retired table */
	int64		turn;
	int64		seq;
	int32		nxip;
	TransactionId xip[FLEXIBLE_ARRAY_MEMBER];
} ScMark;

/* First byte of a packed change: the top transaction's id follows. */
#define SC_PACK_TOP_XID		126

/* A group in memory. */
typedef struct ScGroup
{
	/* What a lookup reads, in one cache line. */
	uint32		hash;
	bool		overflow;
	bool		finished;
	bool		known;			/* false: the source has to be asked */
	struct ScGroup *next;		/* in the bucket */
	Datum	   *keys;
	bool	   *nulls;
	char	   *states;
	int64		nrows;
	struct ScGroup *younger;	/* in order of creation */
	/* Set by sc_group_finish, as are overflow and finished. */
	Datum	   *values;
	bool	   *isnull;
	Bitmapset  *lost;			/* slots whose states can no longer tell */
	/* Set by readers and folds. */
	bool		skipped;		/* not asked for: its deltas were not merged */
	bool		unwanted;		/* sc_groups_load_base passes over it */
	bool		loaded;			/* its base row was looked for */
	bool		inbase;
	ItemPointerData tid;		/* of the base row */
} ScGroup;

typedef struct ScGroups
{
	ScSpec	   *spec;
	MemoryContext cxt;			/* holds everything here */
	uint32		nbuckets;
	ScGroup   **buckets;
	ScGroup    *few[8];			/* the first ones */
	int64		ngroups;
	ScGroup    *oldest;
	ScGroup    *newest;
	char	   *chunk;			/* for the next groups */
	Size		room;			/* bytes left there */
	struct ScValues *values;	/* where a fill may put distinct values */
	bool		complete;		/* every group of the source is here */
	bool		closed;			/* rows of other groups are passed over */
	bool		unhashed;		/* the first group is in no bucket yet */
	Bitmapset  *slots;			/* add rows to these only; NULL: all */
} ScGroups;

typedef struct ScValues ScValues;
typedef struct ScAsked ScAsked;
typedef struct ScParts ScParts;

/* spec.c */
extern ScSpec *sc_spec_by_view(Oid view);
extern ScSpec *sc_spec_by_id(int64 id);
extern ScSpec *sc_spec_by_base(Oid base);
extern void sc_spec_pin(ScSpec *spec);
extern void sc_spec_release(ScSpec *spec);
extern ScEval *sc_spec_eval(ScSpec *spec, Relation rel);
extern Bitmapset *sc_spec_used(ScSpec *spec, Relation rel);
extern bool sc_spec_analyze(ScSpec *spec, Query *query);
/* Who called, while the view's owner acts. */
typedef struct ScIdentity
{
	Oid			user;
	int			security;		/* context */
	int			settings;		/* nest level */
} ScIdentity;

extern void sc_become_owner(ScSpec *spec, ScIdentity *caller);
extern void sc_become_caller(const ScIdentity *caller);
extern bool sc_spec_current(ScSpec *spec);
extern bool sc_spec_rescans(ScSpec *spec);
extern ScSpec *sc_spec_of_part(ScSpec *fact, int part, Oid source);
extern bool sc_spec_counts(ScSpec *spec, Oid relid);
extern void sc_spec_cache_init(void);

/* catalog.c */
extern Oid	sc_own_function(const char *name, int nargs, const Oid *types);
extern Oid	sc_catalog_relid(void);
extern Relation sc_catalog_open(LOCKMODE mode);
extern HeapTuple sc_catalog_fetch(int attno, Datum value, Snapshot snapshot);
extern Datum sc_catalog_attr(HeapTuple tuple, int attno, bool *isnull);
extern List *sc_catalog_oids(HeapTuple tuple, int attno);
extern bool sc_catalog_row_matches(ScSpec *spec, Snapshot snapshot);
extern void sc_catalog_insert(int64 id, Oid view, Oid source, char state,
							  const char *zone, const char *path, List *views);
extern void sc_catalog_insert_part(int64 id, Oid handle, Oid source, const char *zone,
								   const char *path, Oid part_of, int part);
extern void sc_catalog_set(int64 id, char state, bool bump_epoch,
						   Oid base, const Oid *delta, List *members);
extern void sc_catalog_set_members(int64 id, List *members, bool bump_epoch);
extern bool sc_catalog_lock_row(int64 id, bool nowait);
extern void sc_catalog_set_turn(int64 id, int64 turn);
extern void sc_catalog_lock_schema(Oid schema, LOCKMODE mode);
extern void sc_catalog_rename_schema(const char *old, const char *now);
extern void sc_catalog_set_distincts(int64 id, Oid relid);
extern void sc_catalog_set_rewrite(int64 id, bool enabled);
extern void sc_catalog_set_epochs(int64 id, const int64 *epochs, int n);
extern List *sc_catalog_views(void);
extern List *sc_catalog_views_on(Oid source);

/* members.c */
extern List *sc_source_members(Oid source, bool inherits, bool *detaching,
							   bool *unfit);
extern bool sc_members_lock(ScSpec *spec, bool nowait);
extern void sc_members_refuse_changing(ScSpec *spec);
extern bool sc_members_intact(ScSpec *spec, bool wait);
extern ScSpec *sc_rollup_lock(Oid view);
extern ScSpec *sc_rollup_lock_with_members(Oid view);
extern void sc_members_subtract(ScSpec *spec, List *relids);
extern void sc_members_reconcile(Oid view, bool rewritten);

/* groups.c */
extern ScGroups *sc_groups_create(ScSpec *spec, MemoryContext parent);
extern ScGroups *sc_groups_renew(ScGroups *groups, ScSpec *spec);
extern ScGroup *sc_groups_get(ScGroups *groups, const Datum *keys,
							  const bool *nulls, bool create);
extern void sc_groups_add_row(ScGroups *groups, ScEval *eval,
							  TupleTableSlot *slot, int sign);
extern void sc_group_merge(ScGroups *groups, ScGroup *group, bytea *packed);
extern void sc_group_merge_some(ScGroups *groups, ScGroup *group,
								bytea *packed, Bitmapset *slots,
								MemoryContext trash);
extern int64 sc_packed_rows(const char **data, const char *end);
extern void sc_group_put(ScGroups *groups, ScGroup *group, StringInfo buf);
extern bytea *sc_group_pack(ScGroups *groups, ScGroup *group);
extern bool sc_group_is_empty(ScGroups *groups, ScGroup *group);
extern void sc_group_finish(ScGroups *groups, ScGroup *group);
extern void sc_group_alloc_values(ScGroups *groups, ScGroup *group);
extern void sc_groups_resolve(ScGroups *groups, ScValues *values);
extern ScGroup *sc_groups_next(ScGroups *groups, ScGroup *last);

/* base.c */
typedef bool (*ScKeysWanted) (void *arg, const Datum *keys, const bool *nulls);
extern List *sc_base_index_commands(ScSpec *spec, const char *table);
extern bool sc_is_base_entry(RangeTblEntry *rte);
extern void sc_groups_load_base(ScGroups *groups, Relation base,
								Snapshot snapshot);
extern void sc_groups_load_wide(ScGroups *groups, Relation base,
								Snapshot snapshot, ScKeysWanted wanted,
								void *arg);
extern bool sc_base_overflows(ScSpec *spec, TupleTableSlot *row);
extern void sc_groups_write_base(ScGroups *groups, Relation base);
extern void sc_base_init(void);

/* notify.c */
extern void sc_notify_init(void);
extern void sc_notify_groups(ScGroups *groups);
extern void sc_notify_all_groups(Oid view);

/* capture.c */
extern void sc_capture_init(void);
extern int64 sc_capture_rollup_id(const char *arg);
extern bool sc_capture_counts(int64 id, Relation rel);
extern bool sc_capture_differs(int64 id, Relation rel, TupleTableSlot *old,
							   TupleTableSlot *new);
extern void sc_capture_insert(ScSpec **spec, Relation rel, TupleTableSlot *row,
							  ItemPointer tid, CommandId cid);
extern bool sc_capture_flush(ScSpec *spec, Snapshot snapshot);
extern List *sc_capture_changed_views(void);
extern void sc_capture_query_started(QueryDesc *query);
extern void sc_capture_scan(ScSpec *spec, Relation rel, Snapshot snapshot,
							int sign);

/* insert.c */
extern void sc_insert_init(void);
extern void sc_insert_learn(Oid function);

/* claim.c */
extern void sc_claims_init(void);
extern bool sc_claim_begin(Oid relid, BlockNumber block, bool *used);
extern void sc_claim_end(BlockNumber block);
extern void sc_claim_abort(void);
extern int	sc_claims_count(Oid relid);
extern BlockNumber sc_claims_revoke(Oid relid, BlockNumber before, bool *used);

/* asked.c */
extern const ScAsked sc_asked_nothing;
extern const ScAsked *sc_asked(ScSpec *spec, List *quals, PlanState *ps,
							   ScKeysWanted wanted, void *arg);
extern void sc_asked_lock(const ScAsked *asked, Relation delta,
						  Snapshot snapshot);
extern bool sc_asked_wants(const ScAsked *asked, const Datum *keys,
						   const bool *nulls);
extern bool sc_asked_selects(const ScAsked *asked, const ScGroup *group);
extern void sc_asked_check(ScSpec *spec, Relation delta, const Datum *keys,
						   const bool *nulls);
extern void sc_asked_leave(Oid delta, bool exclusive);
extern void sc_asked_check_left(void);
extern void sc_asked_end(bool committed);

/* append.c */
extern int64 sc_delta_append(ScGroups *groups, CommandId cid);
extern void sc_append_init(void);

/* delta.c */

/* Which of the two tables is written in this turn. */
#define ScWrittenDelta(turn)	((int) ((((turn) + 1) / 2) % 2))

extern int64 sc_delta_load(ScGroups *groups, Snapshot snapshot,
						   const ScAsked *asked);
extern bool sc_delta_usable(ScSpec *spec);
extern void sc_delta_discard(ScSpec *spec, Snapshot snapshot);
extern int64 sc_delta_take(ScGroups *groups, bool close, ScMark **next, bool *changed);
extern BlockNumber sc_delta_pages(ScSpec *spec);
extern double sc_delta_pages_to_read(ScSpec *spec);
extern bool sc_delta_retire(ScSpec *spec, ScMark *mark);
extern bool sc_delta_empty(ScSpec *spec);
extern ScMark *sc_mark_get(int64 id, Snapshot snapshot, TimestampTz *at);
extern void sc_mark_put(int64 id, ScMark *mark);
extern void sc_mark_reset(int64 id, int64 turn);
extern void sc_mark_drop(int64 id);

/* state_distinct.c */
extern const char sc_distincts_columns[];
extern const char sc_distincts_index[];
extern ScValues *sc_values_open(ScSpec *spec, Snapshot snapshot, bool write);
extern void sc_values_close(ScValues *values);
extern void sc_group_resolve(ScGroups *groups, ScGroup *group,
							 ScValues *values);
extern void sc_group_write_values(ScGroups *groups, ScGroup *group,
								  ScValues *values);
extern bool sc_group_same_values(ScGroups *groups, ScGroup *group,
								 ScGroup *truth, ScValues *values);
extern void sc_groups_spill(ScGroups *groups, ScValues *values);

/* fold.c */
extern int64 sc_fold(Oid view, bool nowait);
extern bool sc_fill(Oid view);
extern void sc_delete_all(Relation rel, Snapshot snapshot);
extern bool sc_rollup_work(bool idle);

/* bound.c */
typedef struct ScTried
{
	int64		id;				/* of the rollup; 0: it came to nothing */
	int64		epoch;
	int			ms;				/* that it may take, or 0 */
	NameData	name;
} ScTried;

extern void sc_bound_begin(void);
extern void sc_bound_start(ScSpec *spec);
extern bool sc_bound_stop(void);
extern const ScTried *sc_bound_end(void);

/* source.c */
extern TupleDesc sc_source_desc(ScSpec *spec);
extern PlannedStmt *sc_query_plan(Query *query, Snapshot snapshot);
extern void sc_query_run(PlannedStmt *plan, Snapshot snapshot, DestReceiver *dest,
						 QueryEnvironment *env);
extern void sc_source_run(ScSpec *spec, Snapshot snapshot,
						  Tuplestorestate *store, TupleDesc desc);
extern int64 sc_source_values(ScGroups *groups, Snapshot snapshot);
extern void sc_source_states(ScGroups *groups, Snapshot snapshot);
extern void sc_source_scan(ScGroups *groups, Snapshot snapshot);

/* query.c */
extern Query *sc_query_analyze(const char *sql, List **views);
extern bool sc_query_is_unstable(Node *node, void *context);
extern void sc_query_refuse_unstable(Query *query);
extern void sc_query_check(Query *query, bool evaluate);
extern bool sc_writes_json(Oid aggregate);
extern Node *sc_pin_zone(Node *node, const char *zone);
extern bool sc_zone_matters(Node *node, void *context);

/* join.c */
extern bool sc_query_joins(Query *query);
extern List *sc_join_candidates(Query *query);
extern RangeTblEntry *sc_join_source(Query *query);
extern Query *sc_join_query(Query *query, Oid source, bool strict);
extern RangeTblEntry *sc_join_check(Query *query);
extern Query *sc_join_flatten(Query *query);
extern Index sc_join_fact(Query *query, Oid source);
extern List *sc_join_columns(Query *query, Oid relid, RangeTblEntry **rte);
extern List *sc_join_tables(Query *query, Index fact);
extern bool sc_join_replace(Query *query, Index varno, ScSpec *spec);

/* stored.c */
extern int64 sc_part_id(int64 id, int part);
extern ScParts *sc_parts_open(Oid view);
extern void sc_parts_close(ScParts *p);
extern bool sc_parts_usable(ScParts *p);
extern ScSpec *sc_stored_of(Oid view);
extern Oid	sc_rollup_of(Oid view);
extern bool sc_stored_load(ScSpec *stored, Relation base, Snapshot snapshot,
						   MemoryContext cxt, ScGroups **groups, int64 *ndeltas);
extern void sc_stored_scan(ScGroups *groups, Snapshot snapshot);

/* stored_fold.c */
extern bool sc_parts_storable(ScSpec *fact, ScSpec *stored);
extern bool sc_parts_install(Oid view);
extern List *sc_parts_logs(Oid view);
extern bool sc_parts_lock_tables(ScParts *p, bool nowait);
extern ScParts *sc_parts_lock(ScParts *p, bool nowait);
extern int64 sc_parts_take(ScParts *p, bool close);
extern void sc_parts_spare(ScParts *p);
extern void sc_parts_fold(ScParts *p, ScGroups *changes, int64 n);
extern void sc_parts_put_marks(ScParts *p);
extern void sc_parts_settle(ScParts *p, bool worker);
extern void sc_parts_fill(Oid view);

/* pullup.c */
extern Query *sc_pull_up_views(Query *query, List **views);

/* install.c */
extern bool sc_own_command;		/* a command of ours is running */
extern void sc_depends_lock(Oid view);
extern List *sc_depending_on(Node *stmt);
extern List *sc_depending_on_names(Node *stmt);
extern List *sc_depending_on_rows(List *relids);
extern List *sc_depending_on_type(Oid type);
extern List *sc_rollups_with_column(Oid relid, const char *column);
extern List *sc_rollups_with(const ObjectAddress *objects, int n);
extern bool sc_spec_writes_names(ScSpec *spec);
extern void sc_install_storage(Oid view);
extern void sc_install_part(ScSpec *part, const char *name);
extern void sc_install_triggers(ScSpec *spec, List *members);
extern void sc_remove_triggers(ScSpec *spec, Oid relid);
extern bool sc_triggers_intact(ScSpec *spec, Oid relid, bool wait);
extern void sc_storage_drop(Oid relid);
extern void sc_storage_clear(ScSpec *spec);
extern void sc_hide_from_decoding(void);

/* build.c */
extern void sc_ensure_storage(Oid view);
extern void sc_build(Oid view);
extern void sc_build_step(Oid view);

/* define.c */
extern void sc_check_rollup(Oid view);
extern void sc_lock_rollup(Oid view);
extern bool sc_keep_rollup(Oid view);
extern void sc_refuse_temporary(Oid view);
extern void sc_refuse_nulls(FunctionCallInfo fcinfo, const char *args);

/* ddl.c */
extern void sc_drop_remains(List *views);

/* adopt.c */
extern void sc_adopt(void);
extern void sc_adopt_by_views(Oid view, List *views);
extern bool sc_has_triggers(ScSpec *spec);
extern void sc_adopt_triggers(ScSpec *spec);
extern void sc_adopt_trigger(CreateTrigStmt *stmt);
extern bool sc_trigger_restored(CreateTrigStmt *stmt);
extern bool sc_trigger_passed_over(AlterTableStmt *stmt);

/* stats.c */
extern void sc_rollup_stats_init(void);
extern void sc_rollup_stats_fold(int64 id);
extern bool sc_rollup_stats_fail(int64 id, const char *message, int64 epoch,
								 TimestampTz until);
extern bool sc_rollup_stats_fails(int64 id, int64 *epoch, TimestampTz *until);
extern void sc_rollup_stats_recover(int64 id);
extern void sc_rollup_stats_rewrite(int64 id);
extern void sc_rollup_stats_forget(int64 id);
extern List *sc_rollup_stats_databases(void);
extern void sc_rollup_stats_forget_databases(List *dboids);

/* scan.c */
extern void sc_scan_init(void);
extern int64 sc_scan_recompute(ScGroups *groups, bool states, Snapshot snapshot);
extern bool sc_scan_answers_part(ScSpec *spec, Snapshot snapshot);
extern bool sc_scan_answers(ScSpec *spec, Relation base, Snapshot snapshot);
extern bool sc_scan_load(ScSpec *spec, Relation base, Snapshot snapshot,
						 const ScAsked *asked, MemoryContext cxt, ScGroups **groups,
						 int64 *ndeltas);

/* rewrite.c */
extern void sc_rewrite_init(void);

/* rewrite_forms.c */
extern bool sc_expr_is_sharp(Expr *expr);

/* rewrite_explain.c */
extern const char *sc_rewrite_why_not(Oid view);

/* init */
extern void sc_rollup_init(void);

#endif							/* SC_ROLLUP_H */
