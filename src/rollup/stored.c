/*
 * stored.c: the groups of a join, stored.
 *
 * A rollup of a join keeps groups of its source (join.c).  When there are many
 * of these, as with one for each order, joining them with the other tables
 * takes long.  So where it is possible the query's own groups are kept too,
 * by more rows of scalecache.rollup, the parts of the rollup:
 *
 *	1		the stored groups: a base table as of any rollup, without deltas
 *	2, 3, ...	a log for each other table of the join: the columns that the query
 *			reads, of each row that came or went, with its sign; written as
 *			deltas are, by the same triggers.  Its base table stays empty
 *
 * A part has no view; its base table stands for it.  The rollup and its parts
 * are folded together, in one transaction and one snapshot.  So whoever sees
 * the mark M of that fold sees the stored groups Q(M), the source's groups
 * F(M), and as pending what has changed since: dF of the source, and dD of
 * another table D.  A join is linear in each of its tables that no row of
 * nulls stands for.  With D for the tables as a snapshot sees them now, and
 * D(M) = D - dD, what has to be added to Q(M) is
 *
 *	dF |><| D, and for each set A of tables that have changed, with the sign
 *	(-1)^(|A| + 1),  F(M) |><| (dD of those in A) |><| (D of the others)
 *
 * All of it is read in one snapshot, so concurrent changes of several tables
 * have no cross term that could be missed; writers only append.  A change of
 * a table on the nullable side of an outer join, of too many tables, or one
 * that is costly to correct for is not corrected: readers then join the
 * source's groups as without this, and the fold computes the stored groups
 * anew, from the source's.
 */
#include "postgres.h"

#include <math.h>

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/queryenvironment.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"

#include "rollup/stored.h"

/* Changes of more entries of FROM than this are not corrected. */
#define MAX_CHANGED		4

/* ---- parts ---- */

/* Known from the rollup's, so that a dump's triggers find their parts again. */
int64
sc_part_id(int64 id, int part)
{
	return (id + 2 * (int64) part) & INT64CONST(0x7fffffffffffffff);
}

void
sc_parts_close(ScParts *p)
{
	sc_spec_release(p->fact);
	if (p->stored)
		sc_spec_release(p->stored);
	for (int i = 0; i < p->nlogs; i++)
		if (p->logs[i])
			sc_spec_release(p->logs[i]);
}

/* A rollup with all its parts, or NULL. */
ScParts *
sc_parts_open(Oid view)
{
	ScSpec	   *fact = sc_spec_by_view(view);
	ScParts    *p;
	List	   *tables;
	bool		complete;

	if (fact == NULL || !fact->hasparts)
	{
		if (fact)
			sc_spec_release(fact);
		return NULL;
	}
	tables = sc_join_tables(fact->joined, sc_join_fact(fact->joined, fact->source));
	p = palloc0(sizeof(ScParts));
	p->fact = fact;
	p->stored = sc_spec_by_id(sc_part_id(fact->id, SC_PART_STORED));
	p->nlogs = list_length(tables);
	p->logs = palloc0(sizeof(ScSpec *) * (p->nlogs + 1));
	p->logged = palloc0(sizeof(ScGroups *) * (p->nlogs + 1));
	p->marks = palloc0(sizeof(ScMark *) * (p->nlogs + 1));
	p->taken = palloc0(sizeof(int64) * (p->nlogs + 1));
	p->changed = palloc0(sizeof(bool) * (p->nlogs + 1));
	complete = p->stored != NULL;
	for (int i = 0; i < p->nlogs; i++)
	{
		p->logs[i] = sc_spec_by_id(sc_part_id(fact->id, SC_PART_LOG + i));
		if (p->logs[i] == NULL || p->logs[i]->source != list_nth_oid(tables, i))
			complete = false;
	}
	if (complete)
		return p;
	sc_parts_close(p);
	return NULL;
}

/* The i-th of the specifications that changes are captured for. */
ScSpec *
sc_parts_captured(ScParts *p, int i)
{
	return i == 0 ? p->fact : p->logs[i - 1];
}

/* Do the stored groups belong to what the other parts have captured? */
bool
sc_parts_usable(ScParts *p)
{
	if (p->stored->state != SC_LIVE || p->stored->nepochs != p->nlogs + 1)
		return false;
	for (int i = 0; i <= p->nlogs; i++)
		if (sc_parts_captured(p, i)->state != SC_LIVE ||
			sc_parts_captured(p, i)->epoch != p->stored->epochs[i])
			return false;
	return true;
}

/* The stored groups of a rollup's view, pinned, if they may answer; or NULL. */
ScSpec *
sc_stored_of(Oid view)
{
	ScParts    *p = sc_parts_open(view);
	ScSpec	   *stored = NULL;

	if (p == NULL)
		return NULL;
	if (sc_parts_usable(p))
	{
		stored = p->stored;
		sc_spec_pin(stored);
	}
	sc_parts_close(p);
	return stored;
}

/* The view of a rollup that this is, or is a part of. */
Oid
sc_rollup_of(Oid view)
{
	ScSpec	   *spec = sc_spec_by_view(view);

	if (spec == NULL)
		return view;
	if (spec->part != 0)
		view = spec->part_of;
	sc_spec_release(spec);
	return view;
}

/* ---- the join with what has changed ---- */

/* What is read for a slot of the stored groups. */
typedef struct Input
{
	ScInput		from;
	List	   *args;
	Expr	   *filter;
} Input;

static bool
reads_only(Node *node, Index varno)
{
	return bms_is_subset(pull_varnos(NULL, node), bms_make_singleton(varno));
}

static Node *
renumbered(void *node, Index varno)
{
	Node	   *copy = copyObject(node);

	ChangeVarNodes(copy, varno, 1, 0);
	return copy;
}

/* The source's state that adds up to this slot, or -1. */
static int
find_slot(ScSpec *fact, ScSlot *slot, Index varno, bool filter)
{
	Node	   *args = renumbered(slot->args, varno);
	Node	   *cond = filter ? renumbered(slot->filter, varno) : NULL;

	for (int i = 0; i < fact->nslots; i++)
		if (sc_state_same(&fact->slots[i].def, &slot->def) &&
			equal(fact->slots[i].args, args) && equal(fact->slots[i].filter, cond))
			return i;
	return -1;
}

static Input *
find_inputs(ScParts *p, Index varno)
{
	Input	   *inputs = palloc0(sizeof(Input) * (p->stored->nslots + 1));

	for (int i = 0; i < p->stored->nslots; i++)
	{
		ScSlot	   *slot = &p->stored->slots[i];
		Input	   *input = &inputs[i];

		input->from.slot = -1;
		if (reads_only((Node *) slot->args, varno) &&
			reads_only((Node *) slot->filter, varno))
			input->from.slot = find_slot(p->fact, slot, varno, true);
		if (input->from.slot >= 0)
			continue;
		if (reads_only((Node *) slot->args, varno))
			input->from.slot = find_slot(p->fact, slot, varno, false);
		input->filter = slot->filter;
		input->from.filtered = slot->filter != NULL;
		if (input->from.slot < 0)
			input->args = slot->args;
	}
	return inputs;
}

/* A term of the sum. */
typedef struct Term
{
	int			sign;
	int			nweights;
	ScTermPlan *plan;
	QueryEnvironment *env;
	List	   *stores;			/* of Tuplestorestate, that env refers to */
} Term;

static void
append_column(Query *query, Expr *expr)
{
	query->targetList = lappend(query->targetList,
								makeTargetEntry(copyObject(expr),
												list_length(query->targetList) + 1,
												NULL, false));
}

/* What collect_row reads, but for the source's rows and weights. */
static Query *
select_query(ScParts *p, Input *inputs)
{
	Query	   *query = copyObject(p->stored->query);
	ListCell   *lc;

	query->targetList = NIL;
	for (int i = 0; i < p->stored->nkeys; i++)
		append_column(query, p->stored->keys[i].expr);
	for (int i = 0; i < p->stored->nslots; i++)
	{
		if (inputs[i].filter)
			append_column(query, inputs[i].filter);
		foreach(lc, inputs[i].args)
			append_column(query, lfirst(lc));
	}
	query->groupClause = NIL;
	query->havingQual = NULL;
	query->hasAggs = false;
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		/* All columns are those of tables by now. */
		if (rte->rtekind == RTE_JOIN)
			rte->joinaliasvars = rte->joinleftcols = rte->joinrightcols = NIL;
	}
	return query;
}

static TupleDesc
desc_of(ScSpec *spec, bool states)
{
	TupleDesc	desc = CreateTemplateTupleDesc(spec->nkeys + (states ? 2 : 1));

	for (int i = 0; i < spec->nkeys; i++)
	{
		TupleDescInitEntry(desc, i + 1, psprintf("k%d", i + 1), spec->keys[i].type,
						   spec->keys[i].typmod, 0);
		TupleDescInitEntryCollation(desc, i + 1, spec->keys[i].collation);
	}
	TupleDescInitEntry(desc, spec->nkeys + 1, "rows", INT8OID, -1, 0);
	if (states)
		TupleDescInitEntry(desc, spec->nkeys + 2, "state", BYTEAOID, -1, 0);
	return desc;
}

/* Groups as rows of desc_of, in the term's environment under this name. */
static EphemeralNamedRelation
register_groups(Term *term, const char *name, ScGroups *groups, bool states)
{
	ScSpec	   *spec = groups->spec;
	EphemeralNamedRelation enr = palloc0(sizeof(EphemeralNamedRelationData));
	Tuplestorestate *store = tuplestore_begin_heap(true, false, work_mem);
	Datum	   *values = palloc0(sizeof(Datum) * (spec->nkeys + 2));
	bool	   *nulls = palloc0(sizeof(bool) * (spec->nkeys + 2));
	ScGroup    *group = NULL;
	double		n = 0;
	double		about = 1;

	enr->md.name = pstrdup(name);
	enr->md.tupdesc = desc_of(spec, states);
	while ((group = sc_groups_next(groups, group)) != NULL)
	{
		if (sc_group_is_empty(groups, group))
			continue;
		memcpy(values, group->keys, sizeof(Datum) * spec->nkeys);
		memcpy(nulls, group->nulls, sizeof(bool) * spec->nkeys);
		values[spec->nkeys] = Int64GetDatum(group->nrows);
		if (states)
			values[spec->nkeys + 1] = PointerGetDatum(sc_group_pack(groups, group));
		tuplestore_putvalues(store, enr->md.tupdesc, values, nulls);
		if (states)
			pfree(DatumGetPointer(values[spec->nkeys + 1]));
		n++;
	}
	enr->md.reliddesc = InvalidOid;
	enr->md.enrtype = ENR_NAMED_TUPLESTORE;
	/* So that plans of about as many are the same. */
	while (about < n)
		about *= 2;
	enr->md.enrtuples = about;
	enr->reldata = store;
	register_ENR(term->env, enr);
	term->stores = lappend(term->stores, store);
	return enr;
}

/* The range table entry for it. */
static RangeTblEntry *
groups_entry(EphemeralNamedRelation enr)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	TupleDesc	desc = enr->md.tupdesc;

	rte->rtekind = RTE_NAMEDTUPLESTORE;
	rte->enrname = enr->md.name;
	rte->enrtuples = enr->md.enrtuples;
	rte->eref = makeAlias(enr->md.name, NIL);
	rte->inFromCl = true;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		rte->eref->colnames = lappend(rte->eref->colnames,
									  makeString(pstrdup(NameStr(att->attname))));
		rte->coltypes = lappend_oid(rte->coltypes, att->atttypid);
		rte->coltypmods = lappend_int(rte->coltypmods, att->atttypmod);
		rte->colcollations = lappend_oid(rte->colcollations, att->attcollation);
	}
	return rte;
}

/*
 * The base table as it is.  Its alias tells it from a reader's, which has the
 * deltas merged, and for whom the unique index is complete (base.c).
 */
static RangeTblEntry *
base_entry(ScSpec *spec)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	rte->rtekind = RTE_RELATION;
	rte->relid = spec->base;
	rte->relkind = RELKIND_RELATION;
	rte->rellockmode = AccessShareLock;
	rte->alias = makeAlias("base", NIL);
	rte->eref = makeAlias("base", NIL);
	rte->inFromCl = true;
	for (int i = 0; i < ScBaseNatts(spec); i++)
		rte->eref->colnames = lappend(rte->eref->colnames,
									  makeString(get_attname(spec->base, i + 1, false)));
	return rte;
}

static void
set_entry(Query *query, Index varno, RangeTblEntry *rte)
{
	lfirst(list_nth_cell(query->rtable, varno - 1)) = rte;
}

#define COLUMN(varno, attno, type) \
	((Expr *) makeVar(varno, attno, type, -1, InvalidOid, 0))

/* Which log is that of an entry of FROM? */
static int
log_of(ScParts *p, Index varno)
{
	Oid			relid = rt_fetch(varno, p->stored->query->rtable)->relid;

	for (int i = 0; i < p->nlogs; i++)
		if (p->logs[i]->source == relid)
			return i;
	elog(ERROR, "table %u of a join has no log", relid);
}

/* About what it costs to join all groups of the source. */
static Cost
whole_cost(ScParts *p)
{
	Cost		cost = 0;

	if (p->whole > 0)
		return p->whole;
	for (int i = 0; i <= p->nlogs; i++)
	{
		Relation	rel = table_open(i == 0 ? p->fact->base : p->logs[i - 1]->source,
									 AccessShareLock);

		if (RELKIND_HAS_STORAGE(rel->rd_rel->relkind))
			cost += RelationGetNumberOfBlocks(rel) * seq_page_cost;
		if (rel->rd_rel->reltuples > 0)
			cost += rel->rd_rel->reltuples * 4 * cpu_tuple_cost;
		table_close(rel, NoLock);
	}
	return p->whole = Max(cost, 1);
}

/* A log's or the source's changes, for a term. */
typedef struct Changed
{
	Index		varno;
	ScSpec	   *spec;
	EphemeralNamedRelation enr;
} Changed;

static Changed *
register_changed(Term *term, Index varno, const char *name, ScGroups *groups,
				 bool states)
{
	Changed    *changed = palloc(sizeof(Changed));

	changed->varno = varno;
	changed->spec = groups->spec;
	changed->enr = register_groups(term, name, groups, states);
	return changed;
}

/* Which rows of the source's base table a term joins. */
typedef enum Rows
{
	NO_ROWS,					/* its changes instead */
	ALL_ROWS,
	NARROW_ROWS,				/* those that the index on the keys has, or */
	WIDE_ROWS					/* not: see base.c */
} Rows;

/* Add the condition that an index on some of the rows asks for. */
static void
restrict_rows(Query *query, ScSpec *fact, Index varno, Rows rows)
{
	NullTest   *test = makeNode(NullTest);

	test->arg = (Expr *) makeVar(varno, ScBaseWide(fact), get_atttype(fact->base, ScBaseWide(fact)),
								 -1, InvalidOid, 0);
	test->nulltesttype = rows == WIDE_ROWS ? IS_NOT_NULL : IS_NULL;
	test->location = -1;
	query->jointree->quals =
		make_and_qual(query->jointree->quals, (Node *) test);
}

/*
 * The query of a term: the source's groups, those that changed or what is in
 * its base table, joined with what has been logged of some entries of FROM
 * and with the tables themselves for the others.  NULL: the query cannot be
 * put so.
 */
static Query *
term_query(ScParts *p, Input *inputs, Index varno, Rows rows, List *changed)
{
	ScSpec	   *fact = p->fact;
	Query	   *query = select_query(p, inputs);
	ListCell   *lc;

	if (rows != NO_ROWS)
	{
		if (!sc_join_replace(query, varno, fact))
			return NULL;
		set_entry(query, varno, base_entry(fact));
		append_column(query, COLUMN(varno, ScBaseRows(fact), INT8OID));
		append_column(query, COLUMN(varno, ScBaseState(fact), BYTEAOID));
		if (rows != ALL_ROWS)
			restrict_rows(query, fact, varno, rows);
	}
	foreach(lc, changed)
	{
		Changed    *c = lfirst(lc);

		if (!sc_join_replace(query, c->varno, c->spec))
			return NULL;
		set_entry(query, c->varno, groups_entry(c->enr));
		append_column(query, COLUMN(c->varno, c->spec->nkeys + 1, INT8OID));
		if (c->varno == varno)
			append_column(query, COLUMN(varno, fact->nkeys + 2, BYTEAOID));
	}
	return query;
}

/* What a term's plan depends on, other than the definitions of the tables. */
static List *
term_key(ScParts *p, Rows rows, List *changed)
{
	List	   *key = list_make4_int((int) p->fact->view, (int) p->fact->base,
									 (int) log2(whole_cost(p)), rows);
	ListCell   *lc;

	foreach(lc, changed)
	{
		Changed    *c = lfirst(lc);

		key = lappend_int(lappend_int(key, c->varno), (int) log2(c->enr->md.enrtuples));
	}
	return key;
}

/*
 * What has just been changed is in memory, and likely what belongs to it: so
 * looking it up by an index is not as costly as random reads are.
 */
static PlannedStmt *
plan_cached(Query *query, Snapshot snapshot)
{
	double		save = random_page_cost;
	PlannedStmt *volatile stmt = NULL;

	random_page_cost = Min(random_page_cost, 1.1 * seq_page_cost);
	PG_TRY();
	{
		stmt = sc_query_plan(query, snapshot);
	}
	PG_FINALLY();
	{
		random_page_cost = save;
	}
	PG_END_TRY();
	return stmt;
}

static ScTermPlan *
plan_query(ScParts *p, Index varno, Rows rows, List *changed, Snapshot snapshot)
{
	uint64		seen;
	List	   *key = term_key(p, rows, changed);
	ScTermPlan *plan = sc_term_plan_find(key, &seen);
	Input	   *inputs;
	Query	   *query;
	ScTermPlan	made;

	if (plan)
		return plan;
	inputs = find_inputs(p, varno);
	query = term_query(p, inputs, varno, rows, changed);
	if (query == NULL)
		return NULL;
	made.inputs = palloc(sizeof(ScInput) * (p->stored->nslots + 1));
	for (int i = 0; i < p->stored->nslots; i++)
		made.inputs[i] = inputs[i].from;
	made.stmt = changed ? plan_cached(query, snapshot) : sc_query_plan(query, snapshot);
	return sc_term_plan_keep(key, &made, p->stored->nslots, seen);
}

/*
 * Plan a term: with the source's changes or with rows of its base table, and
 * with what has been logged of some entries of FROM.  NULL: it cannot be.
 */
static Term *
plan_term(ScParts *p, Rows rows, List *logged, int sign, Snapshot snapshot)
{
	Term	   *term = palloc0(sizeof(Term));
	Index		varno = sc_join_fact(p->stored->query, p->fact->source);
	List	   *changed = NIL;
	ListCell   *lc;

	term->sign = sign;
	term->env = create_queryEnv();
	term->nweights = list_length(logged);
	if (rows == NO_ROWS)
		changed = lappend(changed, register_changed(term, varno, "changes", p->changes, true));
	foreach(lc, logged)
	{
		Index		entry = lfirst_int(lc);

		changed = lappend(changed, register_changed(term, entry, psprintf("log%d", (int) entry),
													p->logged[log_of(p, entry)], false));
	}
	term->plan = plan_query(p, varno, rows, changed, snapshot);
	return term->plan ? term : NULL;
}

/* Does the join read nothing of the source but what its groups have? */
bool
sc_parts_possible(ScSpec *fact, ScSpec *stored)
{
	ScParts		p = {.fact = fact,.stored = stored};
	Index		varno = sc_join_fact(stored->query, fact->source);

	return sc_join_replace(select_query(&p, find_inputs(&p, varno)), varno, fact);
}

/* Receives the rows of a term. */
typedef struct Collector
{
	DestReceiver pub;			/* must be first */
	ScParts    *p;
	Term	   *term;
	ScGroups   *target;
	bool	   *passed;			/* for each slot, whether a state is wanted */
	MemoryContext scratch;		/* reset for each row */
} Collector;

static void
collector_nothing(DestReceiver *self)
{
}

static void
collector_startup(DestReceiver *self, int operation, TupleDesc typeinfo)
{
}

/* Add times the states of a row of the source's groups that are wanted. */
static void
collect_states(Collector *c, ScGroup *group, Datum packed, int64 times)
{
	ScSpec	   *stored = c->p->stored;
	bytea	   *bytes = (bytea *) PG_DETOAST_DATUM_PACKED(packed);
	const char *p = VARDATA_ANY(bytes);
	const char *end = p + VARSIZE_ANY_EXHDR(bytes);

	(void) sc_packed_rows(&p, end);
	for (int s = 0; s < c->p->fact->nslots; s++)
	{
		ScStateDef *def = &c->p->fact->slots[s].def;
		const char *start = p;

		for (int i = 0; i < stored->nslots; i++)
		{
			const char *q = start;

			if (c->term->plan->inputs[i].slot != s || !c->passed[i])
				continue;
			sc_state_merge_often(def, group->states + stored->slots[i].offset, &q, end,
								 times, c->target->cxt, c->scratch);
			p = q;
		}
		if (p == start)
			sc_state_merge(def, MemoryContextAllocZero(c->scratch, def->size), &p, end,
						   c->scratch);
	}
}

static bool
collect_row(TupleTableSlot *slot, DestReceiver *self)
{
	Collector  *c = (Collector *) self;
	ScSpec	   *stored = c->p->stored;
	MemoryContext old = MemoryContextSwitchTo(c->scratch);
	Datum	   *values;
	bool	   *nulls;
	ScGroup    *group;
	int64		times;
	int			rows;
	int			n = stored->nkeys;
	bool		states = false;

	slot_getallattrs(slot);
	values = slot->tts_values;
	nulls = slot->tts_isnull;
	rows = slot->tts_tupleDescriptor->natts - c->term->nweights - 2;
	times = c->term->sign;
	for (int i = 0; i < c->term->nweights; i++)
		times *= DatumGetInt64(values[rows + 2 + i]);
	group = sc_groups_get(c->target, values, nulls, true);
	group->nrows += times * DatumGetInt64(values[rows]);
	for (int i = 0; i < stored->nslots; i++)
	{
		ScInput    *input = &c->term->plan->inputs[i];
		ScSlot	   *ss = &stored->slots[i];
		bool		pass = true;

		if (input->filtered)
		{
			pass = !nulls[n] && DatumGetBool(values[n]);
			n++;
		}
		c->passed[i] = pass;
		if (input->slot >= 0)
		{
			states |= pass;
			continue;
		}
		if (pass)
			sc_state_accum_often(&ss->def, group->states + ss->offset, values + n,
								 nulls + n, times * DatumGetInt64(values[rows]),
								 c->target->cxt, c->scratch);
		n += ss->def.nargs;
	}
	if (states && times != 0)
		collect_states(c, group, values[rows + 1], times);
	MemoryContextSwitchTo(old);
	MemoryContextReset(c->scratch);
	return true;
}

static void
collect_term(ScParts *p, Term *term, ScGroups *target, Snapshot snapshot)
{
	Collector	c = {{collect_row, collector_startup, collector_nothing,
	collector_nothing, DestNone}};
	ListCell   *lc;

	c.p = p;
	c.term = term;
	c.target = target;
	c.passed = palloc0(sizeof(bool) * (p->stored->nslots + 1));
	c.scratch = AllocSetContextCreate(CurrentMemoryContext, "scalecache join row",
									  ALLOCSET_DEFAULT_SIZES);
	sc_query_run(term->plan->stmt, snapshot, &c.pub, term->env);
	foreach(lc, term->stores)
		tuplestore_end(lfirst(lc));
	MemoryContextDelete(c.scratch);
}

static bool
has_changes(ScGroups *groups)
{
	ScGroup    *group = NULL;

	while (groups && (group = sc_groups_next(groups, group)) != NULL)
		if (!sc_group_is_empty(groups, group))
			return true;
	return false;
}

/* Entries of FROM whose tables have changed; false: not to be corrected. */
static bool
changed_entries(ScParts *p, List **entries)
{
	List	   *candidates = sc_join_candidates(p->stored->query);
	Index		fact = sc_join_fact(p->stored->query, p->fact->source);
	bool		possible = true;

	for (int varno = 1; varno <= list_length(p->stored->query->rtable); varno++)
	{
		RangeTblEntry *rte = rt_fetch(varno, p->stored->query->rtable);
		bool		logged = false;

		if (varno == fact || rte->rtekind != RTE_RELATION || rte->relkind == RELKIND_VIEW)
			continue;
		for (int i = 0; i < p->nlogs; i++)
			logged |= p->logs[i]->source == rte->relid && has_changes(p->logged[i]);
		if (!logged)
			continue;
		possible &= list_member_int(candidates, varno);
		*entries = lappend_int(*entries, varno);
	}
	return possible && list_length(*entries) <= MAX_CHANGED;
}

/*
 * Add to target what the stored groups lack in this snapshot, from the
 * changes in p.  False, with nothing added: it cannot be done, or not for
 * less than joining all groups.
 */
bool
sc_parts_correct(ScParts *p, ScGroups *target, Snapshot snapshot)
{
	List	   *entries = NIL;
	List	   *terms = NIL;
	Cost		cost = 0;
	ListCell   *lc;

	if (!changed_entries(p, &entries))
		return false;
	if (has_changes(p->changes))
		terms = lappend(terms, plan_term(p, NO_ROWS, NIL, 1, snapshot));
	for (int set = 1; set < 1 << list_length(entries); set++)
	{
		List	   *logged = NIL;
		int			sign = -1;
		bool		wide = p->fact->maywide;

		for (int i = 0; i < list_length(entries); i++)
			if (set & (1 << i))
			{
				logged = lappend_int(logged, list_nth_int(entries, i));
				sign = -sign;
			}
		terms = lappend(terms, plan_term(p, wide ? NARROW_ROWS : ALL_ROWS, logged, sign,
										 snapshot));
		if (wide)
			terms = lappend(terms, plan_term(p, WIDE_ROWS, logged, sign, snapshot));
	}
	foreach(lc, terms)
	{
		if (lfirst(lc) == NULL)
			return false;
		/* What the source's changes cost, joining all groups would as well. */
		if (((Term *) lfirst(lc))->nweights > 0)
			cost += ((Term *) lfirst(lc))->plan->stmt->planTree->total_cost;
	}
	if (cost > 1000 && cost > whole_cost(p))
		return false;
	foreach(lc, terms)
		collect_term(p, lfirst(lc), target, snapshot);
	return true;
}

/* Add the whole join, of the groups in the source's base table. */
bool
sc_parts_collect(ScParts *p, ScGroups *target, Snapshot snapshot)
{
	Term	   *term = plan_term(p, ALL_ROWS, NIL, 1, snapshot);

	if (term == NULL)
		return false;
	collect_term(p, term, target, snapshot);
	return true;
}

/*
 * Add every row of the join that snapshot sees, read from its tables, to
 * groups of the stored ones' specification.
 */
void
sc_stored_scan(ScGroups *groups, Snapshot snapshot)
{
	ScSpec	   *stored = groups->spec;
	ScParts		p = {.stored = stored};
	Input	   *inputs = palloc0(sizeof(Input) * (stored->nslots + 1));
	ScTermPlan	plan = {.inputs = palloc0(sizeof(ScInput) * (stored->nslots + 1))};
	Term		term = {.sign = 1,.plan = &plan};
	Query	   *query;

	for (int i = 0; i < stored->nslots; i++)
	{
		inputs[i].args = stored->slots[i].args;
		inputs[i].filter = stored->slots[i].filter;
		inputs[i].from.slot = -1;
		inputs[i].from.filtered = inputs[i].filter != NULL;
		plan.inputs[i] = inputs[i].from;
	}
	query = select_query(&p, inputs);
	append_column(query, (Expr *) makeConst(INT8OID, -1, InvalidOid, sizeof(int64),
											Int64GetDatum(1), false, FLOAT8PASSBYVAL));
	append_column(query, (Expr *) makeNullConst(BYTEAOID, -1, InvalidOid));
	plan.stmt = sc_query_plan(query, snapshot);
	collect_term(&p, &term, groups, snapshot);
}

/* ---- reading ---- */

/*
 * As sc_scan_load, for the stored groups: *groups are those that differ in
 * this snapshot, by how much.  False: the source's groups have to be joined.
 */
bool
sc_stored_load(ScSpec *stored, Relation base, Snapshot snapshot,
			   MemoryContext cxt, ScGroups **groups, int64 *ndeltas)
{
	MemoryContext work = AllocSetContextCreate(CurrentMemoryContext, "scalecache changes of a join",
											   ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(work);
	ScParts    *p = sc_parts_open(stored->part_of);
	bool		known = p != NULL && sc_parts_usable(p) && stored->valid &&
		stored->base == RelationGetRelid(base) &&
		sc_catalog_row_matches(stored, snapshot);

	for (int i = 0; known && i <= p->nlogs; i++)
		known = sc_scan_answers_part(sc_parts_captured(p, i), snapshot) &&
			sc_capture_flush(sc_parts_captured(p, i), snapshot);
	for (int i = 0; known && i <= p->nlogs; i++)
	{
		ScGroups   *pending = sc_groups_create(sc_parts_captured(p, i), work);
		int64		n = sc_delta_load(pending, snapshot, NULL);

		known = n >= 0;
		*ndeltas += n;
		if (i == 0)
			p->changes = pending;
		else
			p->logged[i - 1] = pending;
	}
	if (known && (*ndeltas > 0 || stored->maywide))
	{
		*groups = sc_groups_create(stored, cxt);
		if (*ndeltas > 0)
		{
			ScIdentity	caller;

			/* Who reads may not be able to call what the rollup's query calls. */
			sc_become_owner(p->fact, &caller);
			known = sc_parts_correct(p, *groups, snapshot);
			sc_become_caller(&caller);
		}
		/* By then it has read all tables: see sc_spec_current. */
		for (int i = 0; known && i <= p->nlogs; i++)
			known = sc_spec_current(sc_parts_captured(p, i));
		if (known && (*groups)->ngroups == 0 && !stored->maywide)
			*groups = NULL;
	}
	if (p)
		sc_parts_close(p);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(work);
	return known;
}
