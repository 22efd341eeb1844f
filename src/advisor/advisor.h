/*-------------------------------------------------------------------------
 *
 * advisor.h
 *	  What the files of the index advisor share.
 *
 * A "study" is one question asked of the planner: a set of hypothetical
 * indexes, a set of existing ones to leave out, and the samples of tables
 * that sizes were estimated from.  Everything a study holds is in its memory
 * context and goes with it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SC_ADVISOR_H
#define SC_ADVISOR_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"
#include "nodes/bitmapset.h"
#include "nodes/params.h"
#include "nodes/parsenodes.h"
#include "nodes/pathnodes.h"
#include "nodes/plannodes.h"
#include "storage/block.h"

/* Rows of a sample that meet a condition are few, if fewer than so many. */
#define SC_FEW				200

/* Statistics of an expression, as ANALYZE would make them of an index. */
typedef struct ScExprStats
{
	Node	   *expr;			/* varno 1 */
	Oid			collation;
	HeapTuple	tuple;			/* a pg_statistic row, or NULL */
	double		ndistinct;		/* as in pg_statistic; 0 is unknown */
} ScExprStats;

/* The part of a table's rows that satisfies a condition. */
typedef struct ScPart
{
	List	   *pred;			/* implicitly ANDed, varno 1 */
	double		fraction;
	int			nrows;			/* of the sample */
	double		count;			/* of the table; -1: not looked at */
} ScPart;

/* Rows of a table, in physical order. */
typedef struct ScSample
{
	Oid			relid;
	TupleDesc	desc;
	BlockNumber pages;			/* of the table, as the planner sees it */
	double		tuples;			/* likewise */
	bool		complete;		/* are these all of its rows? */
	double		read;			/* the part of its blocks that was looked at */
	int			nrows;
	HeapTuple  *rows;
	int			nnear;
	HeapTuple  *near;			/* all rows of a few blocks, unless complete */
	List	   *exprstats;		/* of ScExprStats */
	List	   *parts;			/* of ScPart */
} ScSample;

/* A hypothetical index in one table that has storage. */
typedef struct ScHypoLeaf
{
	Oid			relid;
	Oid			indexoid;		/* not in use for a real object */
	AttrNumber *attnums;		/* of all columns; 0 is an expression */
	List	   *exprs;			/* varno 1 */
	List	   *pred;			/* implicitly ANDed, varno 1 */
	List	   *columns;		/* of Expr, one a column, varno 1 */
	BlockNumber pages;
	double		tuples;
	double		width;			/* average bytes of an entry */
	int			height;			/* -1: as if unknown */
	double		most;			/* bytes if far fewer entries were alike */
	List	   *stats;			/* of ScExprStats, one an expression */
} ScHypoLeaf;

typedef struct ScHypo
{
	Oid			relid;			/* the table, perhaps a partitioned one */
	char	   *ddl;			/* as given, or NULL */
	char	   *name;			/* what EXPLAIN shows */
	Oid			am;
	bool		unique;
	int			nkeys;			/* without INCLUDE columns */
	int			natts;			/* with them */
	AttrNumber *attnums;		/* [natts]; 0 is an expression */
	List	   *exprs;			/* varno 1 */
	List	   *pred;			/* implicitly ANDed, varno 1 */
	Oid		   *opclass;		/* [nkeys] */
	Oid		   *opfamily;
	Oid		   *opcintype;
	Oid		   *collation;
	int16	   *options;		/* INDOPTION_* */
	List	  **classoptions;	/* [nkeys], of DefElem; NULL: none at all */
	int			fillfactor;		/* 0: the access method's default */
	bool		dedup;			/* deduplicate_items, where it can */
	int			tag;			/* the caller's */
	bool		informed;		/* has its statistics been used? */
	bool		unsized;		/* sizes are for the planner to ask for */
	List	   *leaves;			/* of ScHypoLeaf */
	double		bytes;			/* of all leaves */
	double		most;			/* the same if far fewer entries were alike */
	double		width;			/* average bytes of an entry */
} ScHypo;

typedef struct ScStudy
{
	MemoryContext cxt;
	List	   *samples;		/* of ScSample */
	List	   *hypos;			/* of ScHypo: those that exist now */
	List	   *hidden;			/* of Oid: indexes that do not */
	int			rows;			/* of a sample to measure entries by; 0: many */
	int			leaves;			/* of the index that is being measured; 0: one */
	struct ScNumbered *numbered;	/* by number: those that are planned with */
	uint32		nnumbered;
	uint32		maxnumbered;
} ScStudy;

/* A statement to be planned; its trees are copied for each planning. */
typedef struct ScQuery
{
	char	   *text;
	List	   *queries;		/* of Query, rewritten */
	ParamListInfo params;		/* or NULL: a generic plan */
	Oid			userid;			/* planned as this user */

	/* To parse it again: */
	const char *settings;		/* see sc_settings_apply(); NULL: as they are */
	int			nparams;
	Oid		   *types;
	char	  **values;			/* NULL: params are not known */
} ScQuery;

/* Who runs the functions of an index's expressions; see sc_owner_begin(). */
typedef struct ScOwner
{
	Oid			userid;			/* as before */
	int			seccxt;
} ScOwner;

/* sample.c */
extern bool sc_rows_visible(Oid relid, Oid userid, Bitmapset *attrs,
							bool evaluated);
extern void sc_owner_begin(Oid relid, ScOwner *saved);
extern void sc_owner_end(const ScOwner *saved);
extern ScSample *sc_sample_get(ScStudy *study, Oid relid);
extern ScExprStats *sc_sample_expr_stats(ScStudy *study, ScSample *sample,
										 Node *expr, Oid collation);
extern double sc_sample_fraction(ScStudy *study, ScSample *sample,
								 List *pred);
extern double sc_sample_count(ScStudy *study, ScSample *sample, List *pred);

/* size.c */
extern void sc_size_estimate(ScStudy *study, ScHypo *hypo, ScHypoLeaf *leaf);
extern void sc_size_guess(ScStudy *study, ScHypo *hypo, ScHypoLeaf *leaf);
extern double sc_column_ndistinct(Oid relid, AttrNumber attnum, bool inherited, double tuples);
extern bool sc_size_dedup_safe(const ScHypo *hypo);

/* hypo.c */
extern ScHypo *sc_hypo_from_ddl(ScStudy *study, const char *ddl, bool sized);
extern void sc_hypo_finish(ScStudy *study, ScHypo *hypo, bool exact);
extern void sc_hypo_measure(ScStudy *study, ScHypo *hypo);
extern Oid	sc_hypo_drop_target(const char *ddl);
extern char *sc_hypo_ddl(const ScHypo *hypo, const char *name);
extern char *sc_hypo_pred(const ScHypo *hypo);
extern Node *sc_parse_one(const char *sql);

/* whatif.c */
extern void sc_whatif_init(void);
extern ScStudy *sc_study_begin(void);
extern void sc_study_run(void (*fn) (void *arg), void *arg);
extern ScQuery *sc_query_parse(const char *text, const Oid *types,
							   int ntypes, bool check);
extern double sc_query_cost(ScStudy *study, ScQuery *query, List **plans);
extern bool sc_query_is_planned(PlannerInfo *root);
extern List *sc_plan_indexes(PlannedStmt *plan);
extern ScHypo *sc_study_find(ScStudy *study, Oid indexoid);

#endif							/* SC_ADVISOR_H */
