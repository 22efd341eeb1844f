/*
 * spec.c: from a rollup's view to what its storage holds.
 *
 * The view's query is the only definition: keys, aggregates and quals are
 * read from it, so renames and dumps need no care here.  Specifications are
 * cached for the session and thrown away by relcache invalidations of the
 * view, the source and its partitions, and the storage; one in use (pinned)
 * is freed when its last user lets go.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tupconvert.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "commands/defrem.h"
#include "parser/parse_oper.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "rewrite/rewriteHandler.h"
#include "rewrite/rewriteSupport.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "rollup/rollup.h"

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
#define Anum_rollup_distincts	12
#define Natts_rollup			12

static List *cache = NIL;		/* of ScSpec, in cache_cxt */
static MemoryContext cache_cxt = NULL;
static bool registered = false;

static void
spec_free(ScSpec *spec)
{
	cache = list_delete_ptr(cache, spec);
	MemoryContextDelete(spec->cxt);
}

static void
invalidate(Datum arg, Oid relid)
{
	ListCell   *lc;

	foreach(lc, cache)
	{
		ScSpec	   *spec = lfirst(lc);

		if (!OidIsValid(relid) || relid == spec->view ||
			relid == spec->source || relid == spec->base ||
			relid == spec->delta[0] || relid == spec->delta[1] ||
			list_member_oid(spec->members, relid))
			spec->valid = false;
	}
}

void
sc_spec_cache_init(void)
{
	if (registered)
		return;
	cache_cxt = AllocSetContextCreate(TopMemoryContext, "scalecache rollups",
									  ALLOCSET_DEFAULT_SIZES);
	CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
	registered = true;
}

/* InvalidOid when the extension is not in this database. */
Oid
sc_catalog_relid(void)
{
	Oid			nsp = get_namespace_oid("scalecache", true);

	return OidIsValid(nsp) ? get_relname_relid("rollup", nsp) : InvalidOid;
}

/* The source and, when it is partitioned, all below it, sorted. */
List *
sc_source_members(Oid source)
{
	List	   *members;

	if (get_rel_relkind(source) != RELKIND_PARTITIONED_TABLE)
		return list_make1_oid(source);
	members = find_all_inheritors(source, NoLock, NULL);
	list_sort(members, list_oid_cmp);
	return members;
}

/* Find a row by id, or by view when id is 0.  A copy, or NULL. */
static HeapTuple
catalog_fetch(int64 id, Oid view, Snapshot snapshot)
{
	Oid			relid = sc_catalog_relid();
	Relation	rel;
	SysScanDesc scan;
	ScanKeyData key[1];
	HeapTuple	tuple;
	Oid			index;

	if (!OidIsValid(relid))
		return NULL;
	if (id != 0)
		ScanKeyInit(&key[0], Anum_rollup_id, BTEqualStrategyNumber, F_INT8EQ,
					Int64GetDatum(id));
	else
		ScanKeyInit(&key[0], Anum_rollup_rollup, BTEqualStrategyNumber,
					F_OIDEQ, ObjectIdGetDatum(view));
	index = get_relname_relid(id != 0 ? "rollup_pkey" : "rollup_rollup_key",
							  get_rel_namespace(relid));
	rel = table_open(relid, AccessShareLock);
	scan = systable_beginscan(rel, index, OidIsValid(index), snapshot, 1, key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		tuple = heap_copytuple(tuple);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return tuple;
}

/*
 * Does the storage answer for this snapshot?  The row it sees must be the
 * one the specification was read from: a snapshot older than a fill sees
 * neither what was filled nor the changes before it.
 */
bool
sc_catalog_row_matches(ScSpec *spec, Snapshot snapshot)
{
	HeapTuple	tuple;
	Relation	rel;
	bool		isnull;
	bool		result;

	if (spec->state != SC_LIVE)
		return false;
	tuple = catalog_fetch(spec->id, InvalidOid, snapshot);
	if (tuple == NULL)
		return false;
	rel = table_open(sc_catalog_relid(), AccessShareLock);
	result = DatumGetChar(heap_getattr(tuple, Anum_rollup_state,
									   RelationGetDescr(rel), &isnull)) == SC_LIVE &&
		DatumGetInt64(heap_getattr(tuple, Anum_rollup_epoch,
								   RelationGetDescr(rel), &isnull)) == spec->epoch;
	/* Filled by this transaction, from a newer snapshot than its own. */
	if (IsolationUsesXactSnapshot() &&
		TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data)))
		result = false;
	table_close(rel, AccessShareLock);
	heap_freetuple(tuple);
	return result;
}

/* Change a row; an invalid Oid, NULL and NIL leave the column. */
void
sc_catalog_set(int64 id, char state, bool bump_epoch, Oid base,
			   const Oid *delta, List *members)
{
	Relation	rel = table_open(sc_catalog_relid(), RowExclusiveLock);
	HeapTuple	tuple = catalog_fetch(id, InvalidOid, NULL);
	Datum		values[Natts_rollup] = {0};
	bool		nulls[Natts_rollup] = {0};
	bool		repl[Natts_rollup] = {0};
	bool		isnull;
	Oid			view;
	HeapTuple	newtuple;
	bool		snapshot = ActiveSnapshotSet();

	if (tuple == NULL)
		elog(ERROR, "rollup " INT64_FORMAT " has no catalog row", id);
	view = DatumGetObjectId(heap_getattr(tuple, Anum_rollup_rollup,
										 RelationGetDescr(rel), &isnull));
	repl[Anum_rollup_state - 1] = true;
	values[Anum_rollup_state - 1] = CharGetDatum(state);
	if (bump_epoch)
	{
		repl[Anum_rollup_epoch - 1] = true;
		values[Anum_rollup_epoch - 1] =
			Int64GetDatum(DatumGetInt64(heap_getattr(tuple, Anum_rollup_epoch,
													 RelationGetDescr(rel), &isnull)) + 1);
	}
	if (OidIsValid(base))
	{
		repl[Anum_rollup_base - 1] = true;
		values[Anum_rollup_base - 1] = ObjectIdGetDatum(base);
	}
	if (delta)
	{
		repl[Anum_rollup_delta1 - 1] = repl[Anum_rollup_delta2 - 1] = true;
		values[Anum_rollup_delta1 - 1] = ObjectIdGetDatum(delta[0]);
		values[Anum_rollup_delta2 - 1] = ObjectIdGetDatum(delta[1]);
	}
	if (members != NIL)
	{
		Datum	   *elems = palloc(sizeof(Datum) * list_length(members));
		int			n = 0;
		ListCell   *lc;

		foreach(lc, members)
			elems[n++] = ObjectIdGetDatum(lfirst_oid(lc));
		repl[Anum_rollup_members - 1] = true;
		values[Anum_rollup_members - 1] =
			PointerGetDatum(construct_array(elems, n, OIDOID, sizeof(Oid),
											true, TYPALIGN_INT));
	}
	newtuple = heap_modify_tuple(tuple, RelationGetDescr(rel), values, nulls,
								 repl);
	/* There is none at the end of DETACH PARTITION CONCURRENTLY. */
	if (!snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	CatalogTupleUpdate(rel, &newtuple->t_self, newtuple);
	if (!snapshot)
		PopActiveSnapshot();
	table_close(rel, NoLock);
	if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(view)))
		CacheInvalidateRelcacheByRelid(view);
	CommandCounterIncrement();
}

/* Change one column of a row. */
static void
catalog_update(int64 id, int attnum, Datum value)
{
	Relation	rel = table_open(sc_catalog_relid(), RowExclusiveLock);
	HeapTuple	tuple = catalog_fetch(id, InvalidOid, NULL);
	Datum		values[Natts_rollup] = {0};
	bool		nulls[Natts_rollup] = {0};
	bool		repl[Natts_rollup] = {0};
	bool		isnull;
	Oid			view;

	if (tuple == NULL)
		elog(ERROR, "rollup " INT64_FORMAT " has no catalog row", id);
	view = DatumGetObjectId(heap_getattr(tuple, Anum_rollup_rollup,
										 RelationGetDescr(rel), &isnull));
	repl[attnum - 1] = true;
	values[attnum - 1] = value;
	tuple = heap_modify_tuple(tuple, RelationGetDescr(rel), values, nulls, repl);
	CatalogTupleUpdate(rel, &tuple->t_self, tuple);
	table_close(rel, NoLock);
	CacheInvalidateRelcacheByRelid(view);
	CommandCounterIncrement();
}

/* Have the other delta table written: see delta.c. */
void
sc_catalog_set_turn(int64 id, int64 turn)
{
	catalog_update(id, Anum_rollup_turn, Int64GetDatum(turn));
}

/* The table of distinct values. */
void
sc_catalog_set_distincts(int64 id, Oid relid)
{
	catalog_update(id, Anum_rollup_distincts, ObjectIdGetDatum(relid));
}

/* Views of all rollups in this database, in CurrentMemoryContext. */
List *
sc_catalog_views(void)
{
	Oid			relid = sc_catalog_relid();
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *views = NIL;
	bool		isnull;

	if (!OidIsValid(relid))
		return NIL;
	rel = table_open(relid, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		views = lappend_oid(views,
							DatumGetObjectId(heap_getattr(tuple,
														  Anum_rollup_rollup,
														  RelationGetDescr(rel),
														  &isnull)));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return views;
}

/* ---- reading the query ---- */

static Expr *
to_source_vars(ScSpec *spec, void *expr)
{
	Node	   *copy = copyObject(expr);

	if (spec->srcvarno != 1)
		ChangeVarNodes(copy, spec->srcvarno, 1, 0);
	return (Expr *) copy;
}

static void
key_prepare(ScSpec *spec, ScKey *key, SortGroupClause *sgc, Expr *expr)
{
	Oid			hashfn;
	Oid			opclass;

	key->expr = to_source_vars(spec, expr);
	key->type = exprType((Node *) expr);
	key->typmod = exprTypmod((Node *) expr);
	key->collation = exprCollation((Node *) expr);
	get_typlenbyval(key->type, &key->typlen, &key->typbyval);
	if (key->typlen == -1)
		spec->maywide = true;
	fmgr_info_cxt(get_opcode(sgc->eqop), &key->eq, spec->cxt);
	if (sgc->hashable && get_op_hash_functions(sgc->eqop, &hashfn, NULL))
		fmgr_info_cxt(hashfn, &key->hash, spec->cxt);
	else if (OidIsValid(opclass = GetDefaultOpClass(key->type, BTREE_AM_OID)))
	{
		Oid			proc = get_opfamily_proc(get_opclass_family(opclass),
											 get_opclass_input_type(opclass),
											 get_opclass_input_type(opclass),
											 BTEQUALIMAGE_PROC);

		key->imagehash = OidIsValid(proc) &&
			DatumGetBool(OidFunctionCall1Coll(proc, key->collation,
											  ObjectIdGetDatum(get_opclass_input_type(opclass))));
	}
}

/* The slot for an aggregate call, shared with an equal one. */
static int
slot_for(ScSpec *spec, Aggref *agg)
{
	ScSlot		slot = {0};
	ListCell   *lc;

	sc_state_classify(agg, &slot.def);
	if (slot.def.kind != SC_STATE_RECOMPUTE)
	{
		foreach(lc, agg->args)
		{
			TargetEntry *tle = lfirst(lc);

			if (!tle->resjunk)
				slot.args = lappend(slot.args, to_source_vars(spec, tle->expr));
		}
		if (agg->aggfilter)
			slot.filter = to_source_vars(spec, agg->aggfilter);
	}
	else
		spec->recompute = true;
	if (slot.def.kind == SC_STATE_DISTINCT)
		spec->distinct = true;

	for (int i = 0; i < spec->nslots; i++)
	{
		ScSlot	   *other = &spec->slots[i];

		if (sc_state_same(&other->def, &slot.def) &&
			equal(other->args, slot.args) && equal(other->filter, slot.filter))
			return i;
	}
	sc_state_prepare(&slot.def, spec->cxt);
	slot.offset = spec->statesize;
	spec->statesize += MAXALIGN(slot.def.size);
	spec->slots[spec->nslots] = slot;
	return spec->nslots++;
}

static bool
collect_aggrefs(Node *node, List **aggs)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
	{
		*aggs = list_append_unique(*aggs, node);
		return false;
	}
	return expression_tree_walker(node, collect_aggrefs, aggs);
}

/* Fill keys, aggs, slots and quals from the query, in spec->cxt. */
bool
sc_spec_analyze(ScSpec *spec, Query *query)
{
	MemoryContext old = MemoryContextSwitchTo(spec->cxt);
	List	   *aggs = NIL;
	ListCell   *lc;

	spec->query = query;
	if (list_length(query->jointree->fromlist) != 1 ||
		!IsA(linitial(query->jointree->fromlist), RangeTblRef))
	{
		MemoryContextSwitchTo(old);
		return false;
	}
	spec->srcvarno = linitial_node(RangeTblRef, query->jointree->fromlist)->rtindex;
	spec->source = rt_fetch(spec->srcvarno, query->rtable)->relid;
	spec->quals = make_ands_implicit((Expr *) to_source_vars(spec, query->jointree->quals));

	spec->keys = palloc0(sizeof(ScKey) * (list_length(query->groupClause) + 1));
	foreach(lc, query->groupClause)
	{
		SortGroupClause *sgc = lfirst(lc);

		key_prepare(spec, &spec->keys[spec->nkeys++], sgc,
					get_sortgroupclause_tle(sgc, query->targetList)->expr);
	}

	collect_aggrefs((Node *) query->targetList, &aggs);
	collect_aggrefs(query->havingQual, &aggs);
	spec->aggs = palloc0(sizeof(ScAgg) * (list_length(aggs) + 1));
	spec->slots = palloc0(sizeof(ScSlot) * (list_length(aggs) + 1));
	foreach(lc, aggs)
	{
		ScAgg	   *agg = &spec->aggs[spec->naggs++];

		agg->aggref = lfirst(lc);
		agg->slot = slot_for(spec, agg->aggref);
		sc_final_prepare(agg->aggref, &agg->fin, spec->cxt);
	}
	MemoryContextSwitchTo(old);
	return true;
}

/* ---- the cache ---- */

static ScSpec *
spec_build(HeapTuple tuple)
{
	Relation	rel = table_open(sc_catalog_relid(), AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	MemoryContext cxt;
	MemoryContext old;
	ScSpec	   *spec;
	Relation	view;
	bool		isnull;
	Datum		members;
	List	   *recorded = NIL;

	cxt = AllocSetContextCreate(CurrentMemoryContext, "scalecache rollup",
								ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(cxt);
	spec = palloc0(sizeof(ScSpec));
	spec->cxt = cxt;
#define GET(n) heap_getattr(tuple, n, desc, &isnull)
	spec->id = DatumGetInt64(GET(Anum_rollup_id));
	spec->view = DatumGetObjectId(GET(Anum_rollup_rollup));
	spec->base = DatumGetObjectId(GET(Anum_rollup_base));
	spec->delta[0] = DatumGetObjectId(GET(Anum_rollup_delta1));
	spec->delta[1] = DatumGetObjectId(GET(Anum_rollup_delta2));
	spec->distincts = DatumGetObjectId(GET(Anum_rollup_distincts));
	spec->turn = DatumGetInt64(GET(Anum_rollup_turn));
	spec->epoch = DatumGetInt64(GET(Anum_rollup_epoch));
	spec->state = DatumGetChar(GET(Anum_rollup_state));
	members = GET(Anum_rollup_members);
#undef GET
	if (!isnull)
	{
		Datum	   *elems;
		int			n;

		deconstruct_array(DatumGetArrayTypeP(members), OIDOID, sizeof(Oid),
						  true, TYPALIGN_INT, &elems, NULL, &n);
		for (int i = 0; i < n; i++)
			recorded = lappend_oid(recorded, DatumGetObjectId(elems[i]));
	}
	table_close(rel, AccessShareLock);

	view = try_relation_open(spec->view, AccessShareLock);
	if (view == NULL || view->rd_rel->relkind != RELKIND_VIEW)
	{
		if (view)
			relation_close(view, AccessShareLock);
		MemoryContextSwitchTo(old);
		MemoryContextDelete(cxt);
		return NULL;
	}
	spec->owner = view->rd_rel->relowner;
	if (!sc_spec_analyze(spec, copyObject(get_view_query(view))))
		spec->state = SC_STALE;
	relation_close(view, AccessShareLock);
	spec->econtext = CreateStandaloneExprContext();
	spec->members = sc_source_members(spec->source);
	/* A partition came or went without the storage knowing. */
	if (!equal(spec->members, recorded))
		spec->state = SC_STALE;
	spec->valid = true;
	MemoryContextSwitchTo(old);
	return spec;
}

static ScSpec *
spec_get(int64 id, Oid view)
{
	ListCell   *lc;
	HeapTuple	tuple;
	ScSpec	   *spec;

	sc_spec_cache_init();
	foreach(lc, cache)
	{
		spec = lfirst(lc);
		if (id != 0 ? spec->id != id : spec->view != view)
			continue;
		if (spec->valid)
		{
			spec->pins++;
			return spec;
		}
		if (spec->pins == 0)
		{
			spec_free(spec);
			break;
		}
	}
	if (!IsTransactionState())
		return NULL;
	tuple = catalog_fetch(id, view, NULL);
	if (tuple == NULL)
		return NULL;
	spec = spec_build(tuple);
	if (spec != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(cache_cxt);

		MemoryContextSetParent(spec->cxt, cache_cxt);
		cache = lcons(spec, cache);
		MemoryContextSwitchTo(old);
		spec->pins = 1;
	}
	return spec;
}

ScSpec *
sc_spec_by_view(Oid view)
{
	return spec_get(0, view);
}

ScSpec *
sc_spec_by_id(int64 id)
{
	return spec_get(id, InvalidOid);
}

void
sc_spec_release(ScSpec *spec)
{
	spec->pins--;
}

/* Expressions of spec over rel, a member of the source. */
ScEval *
sc_spec_eval(ScSpec *spec, Relation rel)
{
	ScEval	   *eval;
	MemoryContext old;
	AttrMap    *map = NULL;
	Oid			saveuser;
	int			savesec;
	bool		whole;

	for (eval = spec->evals; eval; eval = eval->next)
		if (eval->relid == RelationGetRelid(rel))
			return eval;

	/* Functions are called with the owner's rights to them. */
	GetUserIdAndSecContext(&saveuser, &savesec);
	SetUserIdAndSecContext(spec->owner, savesec | SECURITY_RESTRICTED_OPERATION);
	old = MemoryContextSwitchTo(spec->cxt);
	if (RelationGetRelid(rel) != spec->source)
	{
		Relation	source = table_open(spec->source, AccessShareLock);

		map = build_attrmap_by_name_if_req(RelationGetDescr(rel),
										   RelationGetDescr(source));
		table_close(source, NoLock);
	}
#define COMPILE(e) \
	(pull_varattnos((Node *) MAPPED(e), 1, &eval->used), \
	 ExecInitExpr(expression_planner(MAPPED(e)), NULL))
#define MAPPED(e) \
	((Expr *) (map ? map_variable_attnos((Node *) (e), 1, 0, map, InvalidOid, &whole) \
	 : copyObject((Node *) (e))))
	eval = palloc0(sizeof(ScEval));
	eval->relid = RelationGetRelid(rel);
	if (spec->quals)
		eval->qual = COMPILE(make_ands_explicit(spec->quals));
	eval->keys = palloc0(sizeof(ExprState *) * (spec->nkeys + 1));
	for (int i = 0; i < spec->nkeys; i++)
		eval->keys[i] = COMPILE(spec->keys[i].expr);
	eval->args = palloc0(sizeof(ExprState **) * (spec->nslots + 1));
	eval->filters = palloc0(sizeof(ExprState *) * (spec->nslots + 1));
	for (int i = 0; i < spec->nslots; i++)
	{
		ListCell   *lc;
		int			n = 0;

		eval->args[i] = palloc0(sizeof(ExprState *) * 2);
		foreach(lc, spec->slots[i].args)
			eval->args[i][n++] = COMPILE(lfirst(lc));
		if (spec->slots[i].filter)
			eval->filters[i] = COMPILE(spec->slots[i].filter);
	}
	/* What is recomputed from the source is read too. */
	for (int i = 0; i < spec->naggs; i++)
	{
		Expr	   *call = to_source_vars(spec, spec->aggs[i].aggref);

		pull_varattnos((Node *) MAPPED(call), 1, &eval->used);
	}
	eval->next = spec->evals;
	spec->evals = eval;
	MemoryContextSwitchTo(old);
	SetUserIdAndSecContext(saveuser, savesec);
	return eval;
}
