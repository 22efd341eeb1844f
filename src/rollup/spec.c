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

#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/relation.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "access/tupconvert.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_rewrite.h"
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
#include "rewrite/rewriteDefine.h"
#include "rewrite/rewriteSupport.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "base/changed.h"
#include "base/guc.h"
#include "rollup/rollup.h"

/* What a relation is to rollups. */
typedef struct Entry
{
	Oid			relid;			/* must be first */
	ScSpec	   *spec;			/* of a view; NULL: known to be none */
	Oid			view;			/* of a base table; invalid: known to be none */
} Entry;

static List *cache = NIL;		/* of ScSpec, in cache_cxt */
static HTAB *by_view = NULL;	/* of Entry */
static HTAB *by_base = NULL;	/* of Entry */
static HTAB *by_id = NULL;		/* int64 to ScSpec */
static ScSpec *latest = NULL;	/* that was found there */
static MemoryContext cache_cxt = NULL;
static int64 npins = 0;			/* of all of them; mostly none at the end */
static uint64 ninvalidations = 0;

typedef struct IdEntry
{
	int64		id;				/* must be first */
	ScSpec	   *spec;
} IdEntry;

static void
spec_free(ScSpec *spec)
{
	Entry	   *entry = hash_search(by_view, &spec->view, HASH_FIND, NULL);
	IdEntry    *ident = hash_search(by_id, &spec->id, HASH_FIND, NULL);

	if (entry && entry->spec == spec)
		hash_search(by_view, &spec->view, HASH_REMOVE, NULL);
	if (ident && ident->spec == spec)
		hash_search(by_id, &spec->id, HASH_REMOVE, NULL);
	cache = list_delete_ptr(cache, spec);
	if (latest == spec)
		latest = NULL;
	MemoryContextDelete(spec->cxt);
}

static bool
sorted_member(List *oids, Oid oid)
{
	int			lo = 0;
	int			hi = list_length(oids);

	while (lo < hi)
	{
		int			mid = (lo + hi) / 2;

		if (list_nth_oid(oids, mid) == oid)
			return true;
		if (list_nth_oid(oids, mid) < oid)
			lo = mid + 1;
		else
			hi = mid;
	}
	return false;
}

static void
forget_negative(HTAB *table)
{
	HASH_SEQ_STATUS seq;
	Entry	   *entry;

	hash_seq_init(&seq, table);
	while ((entry = hash_seq_search(&seq)) != NULL)
		if (entry->spec == NULL)
			hash_search(table, &entry->relid, HASH_REMOVE, NULL);
}

static void
invalidate(Datum arg, Oid relid)
{
	ListCell   *lc;

	ninvalidations++;
	foreach(lc, cache)
	{
		ScSpec	   *spec = lfirst(lc);

		if (!spec->valid)
			continue;
		if (!OidIsValid(relid) || relid == spec->view || relid == spec->part_of ||
			relid == spec->source || relid == spec->base ||
			relid == spec->delta[0] || relid == spec->delta[1] ||
			sorted_member(spec->members, relid) ||
			sorted_member(spec->recorded, relid))
			spec->valid = false;
	}
	if (OidIsValid(relid))
	{
		Entry	   *entry = hash_search(by_view, &relid, HASH_FIND, NULL);

		if (entry && entry->spec == NULL)
			hash_search(by_view, &relid, HASH_REMOVE, NULL);
		hash_search(by_base, &relid, HASH_REMOVE, NULL);
	}
	else
	{
		forget_negative(by_view);
		forget_negative(by_base);
	}
}

/* Pins that an error left behind; what they kept is freed at the next use. */
static pg_attribute_hot void
unpin_all(XactEvent event, void *arg)
{
	ListCell   *lc;

	if (npins == 0 ||
		(event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		 event != XACT_EVENT_PREPARE))
		return;
	foreach(lc, cache)
		((ScSpec *) lfirst(lc))->pins = 0;
	npins = 0;
}

void
sc_spec_cache_init(void)
{
	HASHCTL		ctl = {0};

	if (cache_cxt != NULL)
		return;
	cache_cxt = AllocSetContextCreate(TopMemoryContext, "scalecache rollups",
									  ALLOCSET_DEFAULT_SIZES);
	ctl.hcxt = cache_cxt;
	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(Entry);
	by_view = hash_create("scalecache views", 64, &ctl,
						  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	by_base = hash_create("scalecache base tables", 64, &ctl,
						  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	ctl.keysize = sizeof(int64);
	ctl.entrysize = sizeof(IdEntry);
	by_id = hash_create("scalecache rollup ids", 64, &ctl,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	sc_on_relation_changed(invalidate);
	RegisterXactCallback(unpin_all, NULL);
}

/* Does the storage count the rows of this relation? */
bool
sc_spec_counts(ScSpec *spec, Oid relid)
{
	return sorted_member(spec->stored == SC_LIVE ? spec->recorded
						 : spec->members, relid);
}

/*
 * Does the specification still say what is true?  Who reads the source after
 * its snapshot was taken may have waited for somebody who truncates a part of
 * it, of which the snapshot shows nothing.
 */
bool
sc_spec_current(ScSpec *spec)
{
	ScSpec	   *now;
	bool		result;

	if (spec->valid)
		return true;
	now = sc_spec_by_id(spec->id);
	if (now == NULL)
		return false;
	result = now->state == SC_LIVE && now->base == spec->base && now->epoch == spec->epoch;
	sc_spec_release(now);
	return result;
}

/*
 * Until sc_become_caller, functions in the query run with the view owner's
 * rights, and what they SET goes with them: else a superuser who maintains a
 * rollup would run its owner's code as himself, or with a search_path of his.
 * What is inlined means what it did when the rollup was created.
 */
void
sc_become_owner(ScSpec *spec, ScIdentity *caller)
{
	GetUserIdAndSecContext(&caller->user, &caller->security);
	SetUserIdAndSecContext(spec->owner, caller->security | SECURITY_RESTRICTED_OPERATION);
	caller->settings = sc_path_begin(spec->path);
}

void
sc_become_caller(const ScIdentity *caller)
{
	AtEOXact_GUC(false, caller->settings);
	SetUserIdAndSecContext(caller->user, caller->security);
}

/* May groups have to be computed from the source again? */
bool
sc_spec_rescans(ScSpec *spec)
{
	if (spec->recompute)
		return true;
	for (int i = 0; i < spec->nslots; i++)
		if (spec->slots[i].def.kind == SC_STATE_EXTREME)
			return true;
	return false;
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
key_type(ScSpec *spec, ScKey *key)
{
	get_typlenbyvalalign(key->type, &key->typlen, &key->typbyval, &key->typalign);
	if (key->typlen < 0)
		spec->fixedsize = -1;
	else if (spec->fixedsize >= 0)
		spec->fixedsize += key->typlen + MAXIMUM_ALIGNOF;
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
	key_type(spec, key);
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

/* Fill keys, aggs and slots from the query, in spec->cxt. */
static void
read_groups(ScSpec *spec, Query *query)
{
	List	   *aggs = NIL;
	ListCell   *lc;

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
}

/* The groups of a join, whose expressions keep their varnos. */
static void
analyze_stored(ScSpec *spec, Query *query)
{
	MemoryContext old = MemoryContextSwitchTo(spec->cxt);

	spec->query = sc_join_flatten(query);
	spec->srcvarno = 1;
	read_groups(spec, spec->query);
	MemoryContextSwitchTo(old);
}

/* The log of a table in a join: each row's columns that the query reads. */
static bool
analyze_log(ScSpec *spec, Query *query)
{
	MemoryContext old = MemoryContextSwitchTo(spec->cxt);
	RangeTblEntry *rte;
	List	   *columns = sc_join_columns(query, spec->source, &rte);
	ListCell   *lc;

	spec->srcvarno = 1;
	spec->keys = palloc0(sizeof(ScKey) * (list_length(columns) + 1));
	spec->aggs = palloc0(sizeof(ScAgg));
	spec->slots = palloc0(sizeof(ScSlot));
	foreach(lc, columns)
	{
		ScKey	   *key = &spec->keys[spec->nkeys++];
		Var		   *var = lfirst_node(Var, lc);

		key->expr = (Expr *) var;
		key->type = var->vartype;
		key->typmod = var->vartypmod;
		key->collation = var->varcollid;
		key_type(spec, key);
		key->imagehash = key->imageeq = true;
	}
	spec->query = query;
	if (rte)
		spec->inherits = rte->inh;
	MemoryContextSwitchTo(old);
	return rte != NULL;
}

/* The same for a rollup's view, and quals too. */
bool
sc_spec_analyze(ScSpec *spec, Query *query)
{
	MemoryContext old = MemoryContextSwitchTo(spec->cxt);

	if (sc_query_joins(query))
	{
		spec->joined = query;
		query = sc_join_query(query, spec->source, false);
		if (query == NULL)
		{
			MemoryContextSwitchTo(old);
			return false;
		}
	}
	spec->query = query;
	if (list_length(query->jointree->fromlist) != 1 ||
		!IsA(linitial(query->jointree->fromlist), RangeTblRef))
	{
		MemoryContextSwitchTo(old);
		return false;
	}
	spec->srcvarno = linitial_node(RangeTblRef, query->jointree->fromlist)->rtindex;
	spec->source = rt_fetch(spec->srcvarno, query->rtable)->relid;
	spec->inherits = rt_fetch(spec->srcvarno, query->rtable)->inh;
	if (!OidIsValid(spec->source))
	{
		MemoryContextSwitchTo(old);
		return false;
	}
	spec->quals = make_ands_implicit((Expr *) to_source_vars(spec, query->jointree->quals));
	read_groups(spec, query);
	MemoryContextSwitchTo(old);
	return true;
}

/*
 * What a part of a rollup would be, in CurrentMemoryContext, before there is
 * one: its columns and names.
 */
ScSpec *
sc_spec_of_part(ScSpec *fact, int part, Oid source)
{
	ScSpec	   *spec = palloc0(sizeof(ScSpec));

	spec->cxt = CurrentMemoryContext;
	spec->id = sc_part_id(fact->id, part);
	spec->part_of = fact->view;
	spec->part = part;
	spec->source = source;
	spec->owner = fact->owner;
	spec->path = fact->path;
	spec->zone = fact->zone;
	if (part == SC_PART_STORED)
		analyze_stored(spec, fact->joined);
	else
		(void) analyze_log(spec, fact->joined);
	return spec;
}

/* ---- the cache ---- */

/* What the source includes, against what the storage counts. */
static void
find_members(ScSpec *spec)
{
	bool		unfit;

	spec->members = sc_source_members(spec->source, spec->inherits,
									  &spec->detaching, &unfit);
	spec->unfit |= unfit;
	if (spec->state == SC_LIVE &&
		(spec->detaching || spec->unfit ||
		 !equal(spec->members, spec->recorded)))
		spec->state = SC_STALE;
}

static void
read_epochs(ScSpec *spec, Datum value)
{
	Datum	   *elems;

	deconstruct_array(DatumGetArrayTypeP(value), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &elems, NULL, &spec->nepochs);
	spec->epochs = palloc(sizeof(int64) * (spec->nepochs + 1));
	for (int i = 0; i < spec->nepochs; i++)
		spec->epochs[i] = DatumGetInt64(elems[i]);
}

/* Does a view look at its tables with the rights of whoever reads it? */
static bool
invokes(HeapTuple view)
{
	bool		isnull;
	Datum		value = SysCacheGetAttr(RELOID, view, Anum_pg_class_reloptions, &isnull);
	ListCell   *lc;

	foreach(lc, isnull ? NIL : untransformRelOptions(value))
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "security_invoker") == 0)
			return defGetBoolean(option);
	}
	return false;
}

/*
 * A view's query and owner; NULL when there is no such view.
 *
 * The view is not locked: who captures a change holds locks on the source that
 * someone who drops the view, and has it locked, waits for.  So its rows may go
 * one by one while they are read, which the relation cache does not bear: it
 * fails for want of columns, or has a view without a rule.
 */
static Query *
read_view(Oid relid, Oid *owner)
{
	HeapTuple	view = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	HeapTuple	rule = SearchSysCache2(RULERELNAME, ObjectIdGetDatum(relid),
									   PointerGetDatum(ViewSelectRuleName));
	Query	   *query = NULL;
	bool		isnull;

	if (HeapTupleIsValid(view) && HeapTupleIsValid(rule) &&
		((Form_pg_class) GETSTRUCT(view))->relkind == RELKIND_VIEW)
	{
		Datum		action = SysCacheGetAttr(RULERELNAME, rule,
											 Anum_pg_rewrite_ev_action, &isnull);

		*owner = ((Form_pg_class) GETSTRUCT(view))->relowner;
		query = linitial_node(Query, stringToNode(TextDatumGetCString(action)));
		setRuleCheckAsUser((Node *) query, invokes(view) ? InvalidOid : *owner);
	}
	if (HeapTupleIsValid(rule))
		ReleaseSysCache(rule);
	if (HeapTupleIsValid(view))
		ReleaseSysCache(view);
	return query;
}

static ScSpec *
spec_build(HeapTuple tuple)
{
	MemoryContext cxt;
	MemoryContext old;
	ScSpec	   *spec;
	Oid			owner;
	Oid			part_of;
	Datum		zone;
	Datum		value;
	Query	   *query;
	bool		analyzed = true;
	bool		isnull;

	cxt = AllocSetContextCreate(CurrentMemoryContext, "scalecache rollup",
								ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(cxt);
	part_of = DatumGetObjectId(sc_catalog_attr(tuple, Anum_rollup_part_of, &isnull));
	query = read_view(OidIsValid(part_of) ? part_of :
					  DatumGetObjectId(sc_catalog_attr(tuple, Anum_rollup_rollup, &isnull)),
					  &owner);
	if (query == NULL)
	{
		MemoryContextSwitchTo(old);
		MemoryContextDelete(cxt);
		return NULL;
	}
	spec = palloc0(sizeof(ScSpec));
	spec->cxt = cxt;
#define GET(n) sc_catalog_attr(tuple, n, &isnull)
	spec->id = DatumGetInt64(GET(Anum_rollup_id));
	spec->view = DatumGetObjectId(GET(Anum_rollup_rollup));
	spec->base = DatumGetObjectId(GET(Anum_rollup_base));
	spec->delta[0] = DatumGetObjectId(GET(Anum_rollup_delta1));
	spec->delta[1] = DatumGetObjectId(GET(Anum_rollup_delta2));
	spec->distincts = DatumGetObjectId(GET(Anum_rollup_distincts));
	spec->turn = DatumGetInt64(GET(Anum_rollup_turn));
	spec->epoch = DatumGetInt64(GET(Anum_rollup_epoch));
	spec->state = spec->stored = DatumGetChar(GET(Anum_rollup_state));
	spec->rewrite = DatumGetBool(GET(Anum_rollup_rewrite));
	zone = GET(Anum_rollup_time_zone);
	if (!isnull)
		spec->zone = TextDatumGetCString(zone);
	value = GET(Anum_rollup_path);
	if (!isnull)
		spec->path = TextDatumGetCString(value);
	spec->part_of = part_of;
	spec->part = DatumGetInt32(GET(Anum_rollup_part));
	value = GET(Anum_rollup_epochs);
	if (!isnull)
		read_epochs(spec, value);
#undef GET
	spec->recorded = sc_catalog_oids(tuple, Anum_rollup_members);

	spec->owner = owner;
	spec->source = DatumGetObjectId(sc_catalog_attr(tuple, Anum_rollup_source,
													&isnull));
	if (spec->part == SC_PART_STORED)
		analyze_stored(spec, query);
	else if (spec->part >= SC_PART_LOG)
		analyzed = analyze_log(spec, query);
	else
		analyzed = sc_spec_analyze(spec, query);
	spec->unstable = sc_query_is_unstable((Node *) query, NULL);
	if (!analyzed || spec->unstable)
	{
		spec->state = SC_STALE;
		spec->unfit = true;
	}
	if (spec->joined)
		spec->hasparts = sc_catalog_fetch(Anum_rollup_id, Int64GetDatum(sc_part_id(spec->id, SC_PART_STORED)),
										  NULL) != NULL;
	spec->econtext = CreateStandaloneExprContext();
	if (OidIsValid(spec->source))
		find_members(spec);
	spec->valid = true;
	MemoryContextSwitchTo(old);
	return spec;
}

/* Free what was invalidated and is not in use. */
static void
sweep(void)
{
	List	   *dead = NIL;
	ListCell   *lc;

	foreach(lc, cache)
	{
		ScSpec	   *spec = lfirst(lc);

		if (!spec->valid && spec->pins == 0)
			dead = lappend(dead, spec);
	}
	foreach(lc, dead)
		spec_free(lfirst(lc));
	list_free(dead);
}

/* Read the rollup whose row has this value, and pin it; NULL: there is none. */
static ScSpec *
spec_load(int attno, Datum value)
{
	ScSpec	   *spec;
	MemoryContext old;
	HeapTuple	tuple;
	uint64		before;

	sweep();
	for (int tries = 0;; tries++)
	{
		before = ninvalidations;
		tuple = sc_catalog_fetch(attno, value, NULL);
		spec = tuple ? spec_build(tuple) : NULL;
		/* What was read may have changed while it was being read. */
		if (before == ninvalidations || tries == 5)
			break;
		if (spec)
			MemoryContextDelete(spec->cxt);
	}
	if (spec == NULL)
		return NULL;
	spec->valid = before == ninvalidations;
	MemoryContextSetParent(spec->cxt, cache_cxt);
	old = MemoryContextSwitchTo(cache_cxt);
	cache = lappend(cache, spec);
	MemoryContextSwitchTo(old);
	((Entry *) hash_search(by_view, &spec->view, HASH_ENTER, NULL))->spec = spec;
	((IdEntry *) hash_search(by_id, &spec->id, HASH_ENTER, NULL))->spec = spec;
	sc_spec_pin(spec);
	return spec;
}

/* The specification of a rollup's view, pinned; NULL for anything else. */
ScSpec *
sc_spec_by_view(Oid view)
{
	Entry	   *entry;
	ScSpec	   *spec;

	sc_spec_cache_init();
	entry = hash_search(by_view, &view, HASH_FIND, NULL);
	if (entry && entry->spec == NULL)
		return NULL;
	if (entry && entry->spec->valid)
	{
		sc_spec_pin(entry->spec);
		return entry->spec;
	}
	if (!IsTransactionState())
		return NULL;
	spec = spec_load(Anum_rollup_rollup, ObjectIdGetDatum(view));
	if (spec == NULL)
		((Entry *) hash_search(by_view, &view, HASH_ENTER, NULL))->spec = NULL;
	return spec;
}

pg_attribute_hot ScSpec *
sc_spec_by_id(int64 id)
{
	IdEntry    *entry;

	sc_spec_cache_init();
	if (latest && latest->id == id && latest->valid)
	{
		sc_spec_pin(latest);
		return latest;
	}
	entry = hash_search(by_id, &id, HASH_FIND, NULL);
	if (entry && entry->spec->valid)
	{
		latest = entry->spec;
		sc_spec_pin(latest);
		return latest;
	}
	if (!IsTransactionState())
		return NULL;
	return spec_load(Anum_rollup_id, Int64GetDatum(id));
}

/* The specification of the rollup that a base table belongs to. */
ScSpec *
sc_spec_by_base(Oid base)
{
	Entry	   *entry;
	HeapTuple	tuple;
	bool		isnull;
	Oid			view = InvalidOid;
	ScSpec	   *spec;

	sc_spec_cache_init();
	entry = hash_search(by_base, &base, HASH_FIND, NULL);
	if (entry)
		view = entry->view;
	else if ((tuple = sc_catalog_fetch(Anum_rollup_base,
									   ObjectIdGetDatum(base), NULL)) != NULL)
		view = DatumGetObjectId(sc_catalog_attr(tuple, Anum_rollup_rollup,
												&isnull));
	spec = OidIsValid(view) ? sc_spec_by_view(view) : NULL;
	if (spec && spec->base != base)
	{
		sc_spec_release(spec);
		spec = NULL;
	}
	entry = hash_search(by_base, &base, HASH_ENTER, NULL);
	entry->spec = NULL;
	entry->view = spec ? view : InvalidOid;
	return spec;
}

pg_attribute_hot void
sc_spec_pin(ScSpec *spec)
{
	spec->pins++;
	npins++;
}

pg_attribute_hot void
sc_spec_release(ScSpec *spec)
{
	if (spec->pins > 0)
	{
		spec->pins--;
		npins--;
	}
}

/*
 * The source's columns to those of a member, or NULL if they have the same
 * numbers.  It is not locked: who detaches rel has the source locked, and waits
 * for us who have rel.  The columns in question cannot change without it.
 */
static AttrMap *
member_map(ScSpec *spec, Relation rel)
{
	Relation	source;
	AttrMap    *map;

	if (RelationGetRelid(rel) == spec->source)
		return NULL;
	source = RelationIdGetRelation(spec->source);
	if (source == NULL)
		elog(ERROR, "source %u of a rollup has gone", spec->source);
	map = build_attrmap_by_name_if_req(RelationGetDescr(rel), RelationGetDescr(source));
	RelationClose(source);
	return map;
}

/* An expression of the rollup over the columns of a member; a copy. */
static Expr *
of_member(void *expr, AttrMap *map)
{
	bool		whole;

	return map ? (Expr *) map_variable_attnos(expr, 1, 0, map, InvalidOid, &whole) :
		copyObject((Expr *) expr);
}

/*
 * Columns that the rollup reads, by the numbers they have in this member.
 * Nothing is planned, and so no function's body read.
 */
Bitmapset *
sc_spec_used(ScSpec *spec, Relation rel)
{
	AttrMap    *map = member_map(spec, rel);
	Bitmapset  *used = NULL;
	List	   *exprs = list_copy(spec->quals);

	for (int i = 0; i < spec->nkeys; i++)
		exprs = lappend(exprs, spec->keys[i].expr);
	/* What is recomputed from the source is read too. */
	for (int i = 0; i < spec->naggs; i++)
		exprs = lappend(exprs, to_source_vars(spec, spec->aggs[i].aggref));
	pull_varattnos((Node *) of_member(exprs, map), 1, &used);
	return used;
}

/* The column that an expression is, or 0. */
static AttrNumber
column_of(Expr *expr)
{
	while (IsA(expr, RelabelType))
		expr = ((RelabelType *) expr)->arg;
	return IsA(expr, Var) && ((Var *) expr)->varattno > 0 ? ((Var *) expr)->varattno : 0;
}

/* Compile an expression of the rollup over the columns of a member. */
static ExprState *
compile(void *expr, AttrMap *map, AttrNumber *column)
{
	Expr	   *planned = expression_planner(of_member(expr, map));

	if (column)
		*column = column_of(planned);
	return ExecInitExpr(planned, NULL);
}

static bool
has_columns_only(ScSpec *spec, ScEval *eval)
{
	for (int i = 0; i < spec->nkeys; i++)
		if (eval->columns[i] == 0)
			return false;
	for (int i = 0; i < spec->nslots; i++)
		for (int a = 0; a < spec->slots[i].def.nargs; a++)
			if (eval->columns[spec->nkeys + 2 * i + a] == 0)
				return false;
	return true;
}

static pg_noinline ScEval *
make_eval(ScSpec *spec, Relation rel)
{
	ScEval	   *eval;
	MemoryContext cxt;
	MemoryContext old;
	AttrMap    *map;
	ScIdentity	caller;

	/* Functions are called with the owner's rights to them. */
	sc_become_owner(spec, &caller);
	/* Of a try that fails nothing is to stay with the specification. */
	cxt = AllocSetContextCreate(CurrentMemoryContext, "scalecache member",
								ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(cxt);
	map = member_map(spec, rel);
	eval = palloc0(sizeof(ScEval));
	eval->relid = RelationGetRelid(rel);
	eval->counted = sc_spec_counts(spec, eval->relid);
	if (spec->quals)
		eval->qual = compile(make_ands_explicit(spec->quals), map, NULL);
	eval->columns = palloc0(sizeof(AttrNumber) * (spec->nkeys + 2 * spec->nslots + 1));
	eval->keys = palloc0(sizeof(ExprState *) * (spec->nkeys + 1));
	for (int i = 0; i < spec->nkeys; i++)
		eval->keys[i] = compile(spec->keys[i].expr, map, &eval->columns[i]);
	eval->args = palloc0(sizeof(ExprState **) * (spec->nslots + 1));
	eval->filters = palloc0(sizeof(ExprState *) * (spec->nslots + 1));
	for (int i = 0; i < spec->nslots; i++)
	{
		ListCell   *lc;
		int			n = 0;

		eval->args[i] = palloc0(sizeof(ExprState *) * 2);
		foreach(lc, spec->slots[i].args)
		{
			eval->args[i][n] = compile(lfirst(lc), map,
									   &eval->columns[spec->nkeys + 2 * i + n]);
			n++;
		}
		if (spec->slots[i].filter)
		{
			eval->filters[i] = compile(spec->slots[i].filter, map, NULL);
			eval->filtered = true;
		}
	}
	eval->plain = eval->qual == NULL && !eval->filtered && has_columns_only(spec, eval);
	eval->used = sc_spec_used(spec, rel);
	eval->next = spec->evals;
	spec->evals = eval;
	MemoryContextSetParent(cxt, spec->cxt);
	MemoryContextSwitchTo(old);
	sc_become_caller(&caller);
	return eval;
}

/* Expressions of spec over rel, a member of the source. */
pg_attribute_hot ScEval *
sc_spec_eval(ScSpec *spec, Relation rel)
{
	for (ScEval *eval = spec->evals; eval; eval = eval->next)
		if (eval->relid == RelationGetRelid(rel))
			return eval;
	return make_eval(spec, rel);
}
