/*
 * rewrite.c: a query answered from a rollup: the planner's side.
 *
 * For an aggregate query of one table that has rollups, a custom path is
 * added to the grouping's paths, for the cheapest rollup that holds what the
 * query asks for.  It has two children: a scan of the rollup's base table,
 * and the plain query's own path, which answers when the storage cannot
 * (see rewrite_exec.c).  The source stays in the query's range table, so
 * permissions are checked and locks taken as without the rewrite.
 *
 * Queries of tables without rollups cost one lookup in a sorted array.
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/plancat.h"
#include "optimizer/planner.h"
#include "optimizer/restrictinfo.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "pgtime.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/syscache.h"

#include "base/changed.h"
#include "base/guc.h"
#include "rollup/rewrite.h"

static create_upper_paths_hook_type prev_upper_paths = NULL;

/* ---- which rollups are there ---- */

typedef struct SourceEntry
{
	Oid			source;
	Oid			view;
} SourceEntry;

static SourceEntry *entries = NULL; /* sorted by source */
static int	nentries = 0;
static Oid	entries_catalog = InvalidOid;
static bool entries_valid = false;

static void
forget_entries(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == entries_catalog)
		entries_valid = false;
	sc_whole_forget();
}

static int
compare_entries(const void *a, const void *b)
{
	const SourceEntry *x = a;
	const SourceEntry *y = b;

	if (x->source != y->source)
		return x->source < y->source ? -1 : 1;
	return x->view < y->view ? -1 : x->view > y->view;
}

static void
load_entries(Relation rel)
{
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;
	int			allocated = 16;
	SourceEntry *loaded = palloc(sizeof(SourceEntry) * allocated);
	int			n = 0;
	bool		isnull;

	/* An invalidation while reading must not be lost. */
	entries_catalog = RelationGetRelid(rel);
	entries_valid = true;
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		if (DatumGetInt32(heap_getattr(tuple, Anum_rollup_part,
									   RelationGetDescr(rel), &isnull)) != 0)
			continue;
		if (n == allocated)
			loaded = repalloc(loaded, sizeof(SourceEntry) * (allocated *= 2));
		loaded[n].source =
			DatumGetObjectId(heap_getattr(tuple, Anum_rollup_source,
										  RelationGetDescr(rel), &isnull));
		loaded[n++].view =
			DatumGetObjectId(heap_getattr(tuple, Anum_rollup_rollup,
										  RelationGetDescr(rel), &isnull));
	}
	systable_endscan(scan);
	qsort(loaded, n, sizeof(SourceEntry), compare_entries);
	if (entries)
		pfree(entries);
	nentries = 0;
	entries = MemoryContextAlloc(CacheMemoryContext, sizeof(SourceEntry) * Max(n, 1));
	memcpy(entries, loaded, sizeof(SourceEntry) * n);
	nentries = n;
	pfree(loaded);
}

/* Views of the rollups of a table, in CurrentMemoryContext. */
List *
sc_rollups_on(Oid source)
{
	List	   *views = NIL;
	int			lo = 0;
	int			hi;

	if (!entries_valid)
	{
		Relation	catalog = sc_catalog_open(AccessShareLock);

		if (catalog == NULL)
			return NIL;
		load_entries(catalog);
		table_close(catalog, AccessShareLock);
	}
	hi = nentries;
	while (lo < hi)
	{
		int			mid = lo + (hi - lo) / 2;

		if (entries[mid].source < source)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < nentries && entries[lo].source == source; lo++)
		views = lappend_oid(views, entries[lo].view);
	return views;
}

/* ---- the path ---- */

typedef struct RewritePath
{
	CustomPath	cpath;			/* must be first */
	ScMatch    *match;
	List	   *having;
	Path	   *join;			/* of the base with other tables, or NULL */
} RewritePath;

static Plan *plan_rewrite(PlannerInfo *root, RelOptInfo *rel, CustomPath *best_path,
						  List *tlist, List *clauses, List *custom_plans);
static List *
reparameterize(PlannerInfo *root, List *custom_private, RelOptInfo *child_rel)
{
	return custom_private;
}

static const CustomPathMethods path_methods = {
	.CustomName = "ScaleCacheRollup",
	.PlanCustomPath = plan_rewrite,
	.ReparameterizeCustomPathByChild = reparameterize,
};

/*
 * The planner takes small tables that were never vacuumed for larger ones, of
 * ten pages.
 */
static void
know_size(RelOptInfo *rel, Relation base)
{
	BlockNumber pages;

	if (rel->pages != 10)
		return;
	pages = Max(RelationGetNumberOfBlocks(base), 1);
	if (pages < rel->pages)
	{
		rel->tuples = clamp_row_est(rel->tuples * pages / rel->pages);
		rel->pages = pages;
	}
}

/*
 * A rollup's base table, to be appended to a query's range table.  The names
 * of a table's columns are read from the catalog, by whoever shows them.
 */
RangeTblEntry *
sc_base_entry(ScSpec *spec)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	rte->rtekind = RTE_RELATION;
	rte->relid = spec->base;
	rte->relkind = RELKIND_RELATION;
	rte->rellockmode = AccessShareLock;
	rte->eref = makeAlias(get_rel_name(spec->view), NIL);
	rte->inFromCl = true;
	return rte;
}

/* Append what the query's keys are computed with, and compared with. */
void
sc_key_exprs(ScMatch *m, List **exprs, List **ops)
{
	ListCell   *lc;

	foreach(lc, m->qkeys)
	{
		ScQueryKey *key = lfirst(lc);

		*exprs = lappend(*exprs, key->derived);
		*ops = lappend_oid(lappend_oid(*ops, key->sgc->eqop),
						   key->sgc->hashable ? 1 : 0);
	}
}

/* What the planner is to know of a base table that is read for some groups. */
static RelOptInfo *
base_rel_for_some(ScMatch *m, Relation base)
{
	RelOptInfo *rel = build_simple_rel(m->root, m->basevarno, NULL);
	ListCell   *lc;

	know_size(rel, base);
	foreach(lc, m->quals)
		rel->baserestrictinfo = lappend(rel->baserestrictinfo,
										make_simple_restrictinfo(m->root, lfirst(lc)));
	/* No index is looked into for conditions that it has not been told of. */
	check_index_predicates(m->root, rel);
	return rel;
}

/*
 * The same if all of it is read: its size.  To look up its indexes and how
 * wide its columns are would take longer than the matching.
 */
static RelOptInfo *
base_rel_for_all(ScMatch *m, Relation base)
{
	RangeTblEntry *rte = m->root->simple_rte_array[m->basevarno];
	RelOptInfo *rel;

	rte->rtekind = RTE_RESULT;
	rel = build_simple_rel(m->root, m->basevarno, NULL);
	rel->rtekind = rte->rtekind = RTE_RELATION;
	rel->reltablespace = base->rd_rel->reltablespace;
	estimate_rel_size(base, NULL, &rel->pages, &rel->tuples, &rel->allvisfrac);
	know_size(rel, base);
	rel->rows = clamp_row_est(rel->tuples);
	if (m->spec->width == 0)
		m->spec->width = get_relation_data_width(m->spec->base, NULL);
	rel->reltarget->width = m->spec->width;
	return rel;
}

/* Put the base table into the query's range table, and plan its scan. */
static Path *
scan_base(ScMatch *m)
{
	PlannerInfo *root = m->root;
	ScSpec	   *spec = m->spec;
	Relation	base = table_open(spec->base, NoLock);
	RangeTblEntry *rte = sc_base_entry(spec);
	RelOptInfo *rel;

	root->parse->rtable = lappend(root->parse->rtable, rte);
	expand_planner_arrays(root, 1);
	root->simple_rte_array[m->basevarno] = rte;

	rel = m->quals ? base_rel_for_some(m, base) : base_rel_for_all(m, base);
	rel->consider_parallel = false;
	rel->reltarget->exprs = NIL;
	for (int i = 0; i < ScBaseNatts(spec); i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(base), i);

		rel->reltarget->exprs = lappend(rel->reltarget->exprs,
										makeVar(m->basevarno, i + 1, att->atttypid,
												att->atttypmod, att->attcollation, 0));
	}
	table_close(base, NoLock);
	if (m->quals)
		set_baserel_size_estimates(root, rel);
	add_path(rel, create_seqscan_path(root, rel, NULL, 0));
	/* Its order is of no use.  The planner has counted the pages of the query's tables only. */
	root->total_table_pages += rel->pages;
	if (m->quals)
		create_index_paths(root, rel);
	root->total_table_pages -= rel->pages;
	set_cheapest(rel);
	return rel->cheapest_total_path;
}

/* A copy that add_path of a better path does not free; NULL: unknown kind. */
static Path *
copy_path(Path *path)
{
	Size		size;
	Path	   *copy;

	switch (nodeTag(path))
	{
		case T_AggPath:
			size = sizeof(AggPath);
			break;
		case T_GroupPath:
			size = sizeof(GroupPath);
			break;
		case T_GroupingSetsPath:
			size = sizeof(GroupingSetsPath);
			break;
		case T_GatherPath:
			size = sizeof(GatherPath);
			break;
		case T_GatherMergePath:
			size = sizeof(GatherMergePath);
			break;
		case T_AppendPath:
			size = sizeof(AppendPath);
			break;
		case T_MergeAppendPath:
			size = sizeof(MergeAppendPath);
			break;
		case T_ProjectionPath:
			size = sizeof(ProjectionPath);
			break;
		case T_UpperUniquePath:
			size = sizeof(UpperUniquePath);
			break;
		default:
			return NULL;
	}
	copy = palloc(size);
	memcpy(copy, path, size);
	return copy;
}

/* The plain query's path to fall back to. */
static Path *
raw_path(RelOptInfo *rel, PathTarget *target)
{
	Path	   *best = NULL;
	ListCell   *lc;

	foreach(lc, rel->pathlist)
	{
		Path	   *path = lfirst(lc);

		if (path->param_info == NULL && equal(path->pathtarget->exprs, target->exprs) &&
			(best == NULL || path->total_cost < best->total_cost) &&
			copy_path(path) != NULL)
			best = path;
	}
	return best ? copy_path(best) : NULL;
}

/*
 * Pages of the delta tables that have to be read.  What was true a second ago will do where it
 * decides nothing: opening two tables costs as much as the matching.
 */
static double
delta_pages(ScSpec *spec, bool roughly)
{
	TimestampTz now = GetCurrentStatementStartTimestamp();

	if (roughly && spec->pages_at > now - USECS_PER_SEC && spec->pages_at <= now)
		return spec->pages;
	spec->pages_at = now;
	return spec->pages = sc_delta_pages_to_read(spec);
}

/*
 * About how many pages an answer from the rollup reads, those of deltas
 * weighed by what merging them costs.
 */
double
sc_rewrite_pages(ScSpec *spec)
{
	TimestampTz now = GetCurrentStatementStartTimestamp();

	if (spec->basepages_at <= now - USECS_PER_SEC || spec->basepages_at > now)
	{
		Relation	base = try_table_open(spec->base, AccessShareLock);

		/* Locked from now on. */
		spec->basepages = base ? Max(RelationGetNumberOfBlocks(base), 1) : 1;
		if (base)
			table_close(base, NoLock);
		spec->basepages_at = now;
	}
	return spec->basepages + 3 * delta_pages(spec, true);
}

static void
cost_rewrite(Path *path, ScMatch *m, Path *base, Cost raw, double edgerows, Cost edgecost)
{
	double		merged = base->rows;
	Cost		startup;
	Cost		perrow = cpu_tuple_cost;

	/* Some sixty deltas fit on a page; each is looked up in the base. */
	startup = delta_pages(m->spec, raw > 10 * base->total_cost) *
		(seq_page_cost + 60 * 4 * cpu_tuple_cost);
	if (m->exact)
	{
		path->startup_cost = startup + base->startup_cost;
		path->total_cost = startup + base->total_cost + merged * perrow;
		return;
	}
	perrow += cpu_operator_cost * (list_length(m->qkeys) + 2 * m->spec->nslots);
	/* Edges that may turn out to be none cost what the table would. */
	if (m->ragged)
	{
		startup += edgecost;
		merged += edgerows;
	}
	path->startup_cost = startup + base->total_cost +
		merged * perrow * Max(1, list_length(m->sets));
	path->total_cost = path->startup_cost + path->rows * cpu_tuple_cost;
}

/* Why the rollup cannot be asked by this query at all, or NULL. */
static const char *
refuse_rollup(ScSpec *spec, RangeTblEntry *rte, bool own)
{
	if (!spec->rewrite && !own)
		return "it is switched off; see set_rollup_rewrite";
	if (spec->state == SC_UNFILLED && !sc_rewrite_checking())
		return "it has no data; see rebuild_rollup";
	if (spec->state != SC_LIVE && !sc_rewrite_checking())
		return "it is being filled";
	if (rte->inh ? !spec->inherits : list_length(spec->members) != 1)
		return "the query reads other rows than its source's (ONLY, or inheritance)";
	return NULL;
}

/* A match to be filled, for a rollup and a table of the query. */
static ScMatch *
new_match(PlannerInfo *root, RelOptInfo *input, Index srcvarno, ScSpec *spec)
{
	ScMatch    *m = palloc0(sizeof(ScMatch));

	m->root = root;
	m->input = input;
	m->srcvarno = srcvarno;
	m->basevarno = root->simple_rel_array_size;
	m->view = spec->view;
	m->spec = spec;
	return m;
}

/*
 * Match the query with the rollup; the result has a reason if it does not.
 * Queries of one table that ask for more than a state for each aggregate are
 * taken for a join of it with nothing.
 */
static ScMatch *
match_query(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input,
			Index srcvarno, ScSpec *spec, List *having, List *outputs)
{
	List	   *groups = stage == UPPERREL_DISTINCT ? root->parse->distinctClause :
		root->parse->groupClause;
	List	   *sets = root->parse->groupingSets;
	bool		joined = input->reloptkind == RELOPT_JOINREL;
	ScMatch    *m = new_match(root, input, srcvarno, spec);
	ScMatch    *second;
	const char *reason = "its time zone is %s, the session's is %s";

	if (!sc_rewrite_noting() && !sc_match_reads_keys(m, groups, root->processed_tlist))
	{
		m->reason = "";			/* nobody asks for it */
		return m;
	}
	if (!(joined ? sc_join_match(m, groups, sets, root->processed_tlist, outputs, having) :
		  sc_match(m, groups, sets, root->processed_tlist, outputs, having)))
	{
		if (joined)
			return m;
		second = new_match(root, input, srcvarno, spec);
		if (!sc_join_match(second, groups, sets, root->processed_tlist, outputs, having))
			return m;
		m = second;
	}
	m->reason = NULL;
	if (m->zoned && strcmp(pg_get_timezone_name(session_timezone), spec->zone) != 0)
		m->reason = psprintf(reason, spec->zone, pg_get_timezone_name(session_timezone));
	return m;
}

/* The path for a match, with the plain query's to fall back to. */
static RewritePath *
make_path(ScMatch *m, RelOptInfo *rel, List *having, Path *raw)
{
	RewritePath *path;
	Path	   *base;
	List	   *edges = NIL;
	double		edgerows = 0;
	Cost		edgecost = 0;

	base = m->joined ? sc_join_path(m) : scan_base(m);
	if (m->edges)
		edges = sc_edge_paths(m, &edgerows, &edgecost);
	path = (RewritePath *) newNode(sizeof(RewritePath), T_CustomPath);
	path->match = m;
	path->having = having;
	path->cpath.path.pathtype = T_CustomScan;
	path->cpath.path.parent = rel;
	path->cpath.path.pathtarget = raw->pathtarget;
	/* The rollup knows better how many groups there are. */
	path->cpath.path.rows = m->qkeys && m->sets == NIL ? Min(raw->rows, base->rows) : raw->rows;
	if (m->ragged)
		path->cpath.path.rows = raw->rows;
	path->cpath.custom_paths = list_concat(list_make2(base, raw), edges);
	if (m->joined)
	{
		/* Planned by planner states of their own. */
		path->join = base;
		path->cpath.custom_paths = list_make1(raw);
		m->edgepaths = edges;
		m->zone = m->spec->zone ? pstrdup(m->spec->zone) : NULL;
	}
	path->cpath.methods = &path_methods;
	cost_rewrite(&path->cpath.path, m, base, raw->total_cost, edgerows, edgecost);
	return path;
}

/* A path that answers from this rollup of a table of the query, or NULL. */
static RewritePath *
try_rollup(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input,
		   Index srcvarno, RelOptInfo *rel, Oid view, bool own, List *having,
		   Path *raw)
{
	ScSpec	   *spec = sc_spec_by_view(view);
	ScMatch    *m;
	RewritePath *path;
	const char *reason;

	if (spec == NULL)
		return NULL;
	reason = refuse_rollup(spec, root->simple_rte_array[srcvarno], own);
	if (reason == NULL)
	{
		m = match_query(root, stage, input, srcvarno, spec, having, raw->pathtarget->exprs);
		reason = m->reason;
	}
	if (reason == NULL && sc_rewrite_checking())
	{
		sc_rewrite_note_match(view);
		sc_spec_release(spec);
		return NULL;
	}
	if (reason == NULL)
	{
		LockRelationOid(spec->base, AccessShareLock);
		if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(spec->base)))
			reason = "its storage has gone";
	}
	if (reason)
	{
		sc_rewrite_note(view, reason);
		sc_spec_release(spec);
		return NULL;
	}

	path = make_path(m, rel, having, raw);
	sc_spec_release(spec);
	return path;
}

/* The same from the stored groups of a rollup of the query's join. */
static RewritePath *
try_stored(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input,
		   Index srcvarno, RelOptInfo *rel, Oid view, List *having, Path *raw)
{
	int		   *varmap;
	ScSpec	   *stored = sc_stored_for_query(root, view, &varmap);
	RewritePath *path = NULL;
	ScMatch    *m;

	if (stored == NULL)
		return NULL;
	m = new_match(root, input, srcvarno, stored);
	m->varmap = varmap;
	if (sc_match(m, stage == UPPERREL_DISTINCT ? root->parse->distinctClause :
				 root->parse->groupClause, root->parse->groupingSets,
				 root->processed_tlist, raw->pathtarget->exprs, having) &&
		!(m->zoned && strcmp(pg_get_timezone_name(session_timezone), stored->zone) != 0))
	{
		LockRelationOid(stored->base, AccessShareLock);
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(stored->base)))
			path = make_path(m, rel, having, raw);
	}
	sc_spec_release(stored);
	return path;
}

/* ---- rollups that are not there ---- */

static List *supposed = NIL;	/* of ScSupposed */

/* Plan the following queries as if these rollups existed, and note savings. */
void
sc_rewrite_suppose(List *rollups)
{
	supposed = rollups;
}

bool
sc_rewrite_supposing(void)
{
	return supposed != NIL;
}

/* Bytes of a base table with so many groups. */
double
sc_supposed_size(ScSpec *spec, double groups)
{
	double		width = 64 + 24 * spec->nslots;

	for (int i = 0; i < spec->nkeys; i++)
		width += get_typavgwidth(spec->keys[i].type, spec->keys[i].typmod);
	for (int i = 0; i < spec->naggs; i++)
		width += get_typavgwidth(spec->aggs[i].fin.resulttype, -1);
	return BLCKSZ * ceil(groups * width / 0.6 / BLCKSZ);
}

/* The match of the query with a supposed rollup of one of its tables, or NULL. */
static ScMatch *
match_supposed_table(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input,
					 List *having, Path *raw, ScSpec *spec)
{
	int			i = -1;

	while ((i = bms_next_member(input->relids, i)) >= 0)
	{
		RangeTblEntry *rte = root->simple_rte_array[i];
		ScMatch    *m;

		if (rte->rtekind != RTE_RELATION || rte->relid != spec->source)
			continue;
		m = match_query(root, stage, input, i, spec, having, raw->pathtarget->exprs);
		if (m->reason == NULL)
			return m;
	}
	return NULL;
}

/* The match of the query with a supposed rollup, or NULL. */
static ScMatch *
match_supposed(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input,
			   List *having, Path *raw, ScSupposed *s)
{
	ScMatch    *m;
	int		   *varmap;

	if (s->stored == NULL)
		return match_supposed_table(root, stage, input, having, raw, s->spec);
	if (input->reloptkind == RELOPT_BASEREL ||
		(varmap = sc_stored_map_supposed(root, s->spec, s->stored)) == NULL)
		return NULL;
	m = new_match(root, input, varmap[sc_join_fact(s->stored->query, s->spec->source)],
				  s->stored);
	m->varmap = varmap;
	return sc_match(m, stage == UPPERREL_DISTINCT ? root->parse->distinctClause :
					root->parse->groupClause, root->parse->groupingSets,
					root->processed_tlist, raw->pathtarget->exprs, having) ? m : NULL;
}

/* What is saved beside a rollup that answers already is at least this part. */
#define SUPPOSED_PART		0.01

/* What it costs to add up groups of a supposed rollup. */
static Cost
cost_supposed(PlannerInfo *root, RelOptInfo *input, ScMatch *m, double groups)
{
	Cost		perrow = cpu_tuple_cost +
		cpu_operator_cost * (list_length(m->qkeys) + 2 * m->spec->nslots);
	Cost		cost = sc_supposed_size(m->spec, groups) / BLCKSZ * seq_page_cost;
	double		rows = groups;
	int			i = -1;

	/* Joined with the other tables, which are read as they are. */
	while (m->joined && (i = bms_next_member(input->relids, i)) >= 0)
	{
		RelOptInfo *rel = root->simple_rel_array[i];

		if (i == m->srcvarno)
			rows = Max(groups, input->rows * Min(groups / Max(rel->tuples, 1), 1));
		else if (rel && rel->cheapest_total_path)
			cost += rel->cheapest_total_path->total_cost + rel->rows * cpu_tuple_cost;
	}
	return cost + rows * perrow;
}

/* known: the cost as it is, raw's or that of a rollup. */
static void
try_supposed(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input,
			 List *having, Path *raw, Cost known)
{
	ListCell   *lc;

	foreach(lc, supposed)
	{
		ScSupposed *s = lfirst(lc);
		ScMatch    *m = match_supposed(root, stage, input, having, raw, s);
		Cost		cost;

		if (m == NULL || m->ragged)
			continue;
		cost = cost_supposed(root, input, m, s->groups);
		/* A guess that is not much lower than what is known is none. */
		if (cost < known / 2 && known - cost > SUPPOSED_PART * raw->total_cost)
			s->saved += known - cost;
	}
}

/* Why no rollup can answer this kind of query, or NULL. */
static const char *
refuse_query(PlannerInfo *root, UpperRelationKind stage, Index srcvarno)
{
	Query	   *parse = root->parse;
	RangeTblEntry *rte = root->simple_rte_array[srcvarno];
	ListCell   *lc;

	if (rte->tablesample)
		return "the query samples the table";
	if (parse->rowMarks || root->rowMarks)
		return "the query locks rows";
	if (rte->securityQuals)
		return "row-level security applies to the query";
	if (check_enable_rls(rte->relid, rte->checkAsUser, true) == RLS_ENABLED)
		return "row-level security applies to the query";
	if (stage == UPPERREL_DISTINCT &&
		(parse->hasDistinctOn || parse->hasAggs || parse->groupClause || parse->groupingSets ||
		 parse->hasWindowFuncs || parse->havingQual || parse->hasTargetSRFs))
		return "the query has DISTINCT on top of something else";
	foreach(lc, parse->rtable)
		if (lfirst_node(RangeTblEntry, lc)->securityQuals)
			return "row-level security applies to the query";
	return NULL;
}

static void
note_costs(List *paths, RewritePath *best, Path *raw)
{
	ListCell   *lc;

	foreach(lc, paths)
	{
		RewritePath *path = lfirst(lc);
		Cost		cost = path->cpath.path.total_cost;
		Oid			view = sc_rollup_of(path->match->view);

		sc_rewrite_note_match(view);
		/* The better one of what is stored, and what its groups are joined to. */
		if (path != best && sc_rollup_of(best->match->view) == view)
			continue;
		if (cost >= raw->total_cost)
			sc_rewrite_note(view, psprintf("it is not cheaper: its cost is %.2f, that of the table %.2f",
										   cost, raw->total_cost));
		else if (path != best)
			sc_rewrite_note(view, psprintf("another rollup is cheaper: \"%s\"",
										   get_rel_name(sc_rollup_of(best->match->view))));
		else
			sc_rewrite_note_chosen(view, psprintf("its cost is %.2f, that of the table %.2f",
												  cost, raw->total_cost));
	}
}

/* Add to paths one for each rollup of a table of the query that matches. */
static List *
try_table(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input,
		  Index varno, RelOptInfo *rel, Oid own, List *having, Path **raw,
		  List *paths)
{
	List	   *views = sc_rollups_on(root->simple_rte_array[varno]->relid);
	const char *refusal;
	ListCell   *lc;

	if (views == NIL)
		return paths;
	refusal = refuse_query(root, stage, varno);
	if (refusal)
	{
		foreach(lc, views)
			sc_rewrite_note(lfirst_oid(lc), refusal);
		return paths;
	}
	if (*raw == NULL)
		*raw = raw_path(rel, root->upper_targets[stage]);
	foreach(lc, *raw ? views : NIL)
	{
		Oid			view = lfirst_oid(lc);
		RewritePath *path = NULL;

		if (sc_enable_rewrite || view == own)
			path = try_rollup(root, stage, input, varno, rel, view, view == own,
							  having, *raw);
		if (path)
			paths = lappend(paths, path);
		/* Its own groups, joined, can stand in for what is stored of a join. */
		if (sc_enable_rewrite && input->reloptkind == RELOPT_JOINREL)
			path = try_stored(root, stage, input, varno, rel, view, having,
							  path ? &path->cpath.path : *raw);
		else
			path = NULL;
		if (path)
			paths = lappend(paths, path);
	}
	return paths;
}

/* Is there a table that the query may not be answered for? */
static bool
is_refused(PlannerInfo *root, UpperRelationKind stage, Bitmapset *tables)
{
	int			i = -1;

	while ((i = bms_next_member(tables, i)) >= 0)
		if (refuse_query(root, stage, i))
			return true;
	return false;
}

static void
add_rewrite_paths(PlannerInfo *root, UpperRelationKind stage,
				  RelOptInfo *input, RelOptInfo *rel, void *extra)
{
	Bitmapset  *tables;
	List	   *having = NIL;
	ListCell   *lc;
	Path	   *raw = NULL;
	RewritePath *best = NULL;
	List	   *paths = NIL;
	int			i = -1;
	Oid			own = sc_join_view(root);

	if (prev_upper_paths)
		prev_upper_paths(root, stage, input, rel, extra);
	if ((stage != UPPERREL_GROUP_AGG && stage != UPPERREL_DISTINCT) ||
		(!sc_enable_rewrite && own == InvalidOid) || !sc_enable_rollup_scan || rel->reloptkind != RELOPT_UPPER_REL ||
		IS_DUMMY_REL(input))
		return;
	if (input->reloptkind == RELOPT_JOINREL)
		tables = sc_join_relations(root);
	else if (input->reloptkind == RELOPT_BASEREL && input->rtekind == RTE_RELATION)
		tables = bms_make_singleton(input->relid);
	else
		return;
	if (stage == UPPERREL_GROUP_AGG)
		having = (List *) ((GroupPathExtraData *) extra)->havingQual;
	while ((i = bms_next_member(tables, i)) >= 0)
		paths = try_table(root, stage, input, i, rel, own, having, &raw, paths);
	if (supposed && raw == NULL && !is_refused(root, stage, tables))
		raw = raw_path(rel, root->upper_targets[stage]);
	if (raw == NULL)
		return;
	foreach(lc, paths)
	{
		RewritePath *path = lfirst(lc);

		if (best == NULL || path->cpath.path.total_cost < best->cpath.path.total_cost)
			best = path;
	}
	if (sc_rewrite_noting())
		note_costs(paths, best, raw);
	if (supposed)
		try_supposed(root, stage, input, having, raw,
					 best ? Min(best->cpath.path.total_cost, raw->total_cost) : raw->total_cost);
	if (best)
		add_path(rel, &best->cpath.path);
}

/* ---- the plan ---- */

static TargetEntry *
scan_column(List *tlist, Expr *expr)
{
	return makeTargetEntry(expr, list_length(tlist) + 1, NULL, false);
}

static bool
add_function(Oid funcid, void *functions)
{
	*(List **) functions = list_append_unique_oid(*(List **) functions, funcid);
	return false;
}

/* Add the functions that are called, each once, to a list of Oids. */
bool
sc_collect_functions(Node *node, void *functions)
{
	if (node == NULL)
		return false;
	(void) check_functions_in_node(node, add_function, functions);
	return expression_tree_walker(node, sc_collect_functions, functions);
}

/* Add the aggregates to a list, each time that they are called. */
bool
sc_collect_calls(Node *node, void *calls)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
	{
		*(List **) calls = lappend(*(List **) calls, node);
		return false;
	}
	return expression_tree_walker(node, sc_collect_calls, calls);
}

/*
 * The functions that the plain query calls: who may not call one gets an error
 * from it, and so must not be shown what the rollup has kept of its results.
 * And those that are called instead.  A rollup's own view asks for no more
 * than SELECT.
 */
List *
sc_called_functions(ScMatch *m)
{
	PlannerInfo *root = m->root;
	List	   *functions = NIL;
	Oid			own = sc_join_view(root);
	ListCell   *lc;

	if (OidIsValid(own) && own == sc_rollup_of(m->view))
		return NIL;
	(void) sc_collect_functions((Node *) root->processed_tlist, &functions);
	(void) sc_collect_functions((Node *) root->parse->jointree, &functions);
	(void) sc_collect_functions(root->parse->havingQual, &functions);
	(void) sc_collect_functions((Node *) m->quals, &functions);
	(void) sc_collect_functions((Node *) m->from, &functions);
	(void) sc_collect_functions((Node *) m->keystates, &functions);
	foreach(lc, m->qkeys)
		(void) sc_collect_functions((Node *) ((ScQueryKey *) lfirst(lc))->derived, &functions);
	foreach(lc, m->bounds)
		(void) sc_collect_functions((Node *) list_make2(((ScBound *) lfirst(lc))->edge,
														((ScBound *) lfirst(lc))->outer), &functions);
	return functions;
}

static String *
zone_name(ScBucket *bucket)
{
	return makeString(bucket->zone ? TextDatumGetCString(bucket->zone->constvalue) :
					  pstrdup(""));
}

/*
 * What a row of the scan is: the rollup's keys, then the query's keys and
 * aggregates.  custom_exprs is over that.
 */
static Plan *
plan_rewrite(PlannerInfo *root, RelOptInfo *rel, CustomPath *best_path, List *tlist,
			 List *clauses, List *custom_plans)
{
	RewritePath *path = (RewritePath *) best_path;
	ScMatch    *m = path->match;
	CustomScan *cscan;
	ScSpec	   *spec;
	List	   *items = NIL;
	List	   *zones = NIL;
	List	   *ops = NIL;
	List	   *guards = NIL;
	List	   *exprs = NIL;
	List	   *columns = NIL;
	List	   *failing = NIL;
	Plan	   *child;
	ListCell   *lc;

	/* Planned anew when the view changes. */
	root->glob->relationOids = lappend_oid(root->glob->relationOids, m->view);
	if (m->joined)
		return sc_join_plan(m, path->join, tlist, path->having, custom_plans);
	cscan = makeNode(CustomScan);
	spec = sc_spec_by_view(m->view);
	if (spec == NULL)
		elog(ERROR, "rollup has gone");
	for (int i = 0; i < spec->nkeys; i++)
	{
		ScKey	   *key = &spec->keys[i];

		columns = lappend(columns, scan_column(columns, (Expr *)
											   makeVar(m->basevarno, ScBaseKey(i), key->type,
													   key->typmod, key->collation, 0)));
	}
	foreach(lc, m->items)
	{
		ScItem	   *item = lfirst(lc);

		columns = lappend(columns, scan_column(columns, item->expr));
		items = lappend_int(lappend_int(items, item->kind), item->arg);
	}
	/* Nothing is read of a row where a query only counts them: still it is ours. */
	if (columns == NIL)
		columns = list_make1(scan_column(NIL, (Expr *) makeNullConst(BOOLOID, -1, InvalidOid)));
	sc_key_exprs(m, &exprs, &ops);
	exprs = list_concat(exprs, m->keystates);
	foreach(lc, m->bounds)
	{
		ScBound    *bound = lfirst(lc);

		exprs = lappend(lappend(exprs, bound->edge), bound->outer);
	}
	foreach(lc, m->guards)
	{
		ScBucket   *b = sc_match_bucket(m, lfirst_int(lc));

		guards = lappend_int(lappend_int(guards, lfirst_int(lc)),
							 sc_bucket_guard_seconds(b->unit));
		zones = lappend(zones, zone_name(b));
	}
	/* Conditions that can fail are asked last, of groups that have rows. */
	foreach(lc, m->quals)
	{
		if (sc_qual_can_fail(lfirst(lc), NULL))
			failing = lappend(failing, lfirst(lc));
		else
			exprs = lappend(exprs, lfirst(lc));
	}
	exprs = list_concat(exprs, failing);
	child = linitial(custom_plans);
	if (IsA(child, Result) && child->lefttree)
		child = child->lefttree;
	foreach(lc, child->qual)
		if (sc_qual_can_fail(lfirst(lc), NULL))
			child->qual = foreach_delete_current(child->qual, lc);

	cscan->scan.plan.targetlist = tlist;
	cscan->scan.plan.qual = path->having;
	cscan->scan.scanrelid = m->basevarno;
	cscan->flags = best_path->flags;
	cscan->custom_plans = custom_plans;
	cscan->custom_scan_tlist = columns;
	cscan->custom_exprs = exprs;
	cscan->custom_private = list_make3(list_make1_oid(spec->view),
									   list_make5_int(m->exact, list_length(m->qkeys),
													  list_length(m->keystates),
													  list_length(m->bounds),
													  list_length(failing)),
									   items);
	cscan->custom_private = list_concat(cscan->custom_private,
										list_make5(ops, m->sets, guards, zones,
												   m->zoned ? list_make1(makeString(pstrdup(spec->zone))) : NIL));
	cscan->custom_private = lappend(cscan->custom_private, copyObject(m->linears));
	cscan->custom_private = lappend(cscan->custom_private, sc_called_functions(m));
	cscan->methods = &sc_scan_methods;
	sc_spec_release(spec);
	return &cscan->scan.plan;
}

void
sc_rewrite_init(void)
{
	sc_on_relation_changed(forget_entries);
	prev_upper_paths = create_upper_paths_hook;
	create_upper_paths_hook = add_rewrite_paths;
}
