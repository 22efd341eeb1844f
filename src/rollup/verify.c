/*
 * verify.c: proving a rollup right.
 *
 * The query is run on the source in the caller's snapshot and compared with
 * everything the storage says in the same snapshot: the merged groups, the
 * stored values, the values of the states behind them, and how many rows there
 * are, which answers count(*) whether it was asked for or not.
 *
 * The query rounds sums of floats at each row, and where large ones cancel
 * there can be little right in its result.  Then the rows are added up anew,
 * as exactly as the storage does it, and that has to be the same to the bit.
 *
 * What depends on the order of rows (array_agg without ORDER BY, or by what is
 * the same for several) may have been computed when they lay otherwise: it has
 * to have the same parts.
 */
#include "postgres.h"

#include <math.h>

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "parser/parse_clause.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"
#include "utils/typcache.h"

#include "rollup/rollup.h"

PG_FUNCTION_INFO_V1(scalecache_verify_rollup);

static bool
values_equal(Oid type, Oid collation, Datum a, bool an, Datum b, bool bn)
{
	TypeCacheEntry *tc;

	if (an || bn)
		return an == bn;
	if (type == FLOAT8OID || type == FLOAT4OID)
	{
		/* The plain sum rounds at each step, in any order. */
		double		x = type == FLOAT8OID ? DatumGetFloat8(a) : DatumGetFloat4(a);
		double		y = type == FLOAT8OID ? DatumGetFloat8(b) : DatumGetFloat4(b);

		if (x == y || (isnan(x) && isnan(y)))
			return true;
		return fabs(x - y) <= (type == FLOAT8OID ? 1e-9 : 1e-4) * Max(fabs(x), fabs(y));
	}
	tc = lookup_type_cache(type, TYPECACHE_EQ_OPR_FINFO);
	if (OidIsValid(tc->eq_opr_finfo.fn_oid))
		return DatumGetBool(FunctionCall2Coll(&tc->eq_opr_finfo, collation, a, b));
	return datum_image_eq(a, b, tc->typbyval, tc->typlen);
}

/* What the query says, and exact sums of the same rows once they are needed. */
typedef struct Truth
{
	ScGroups   *groups;
	ScGroups   *exact;
	Snapshot	snapshot;
} Truth;

static bool
is_float_sum(ScSpec *spec, int agg)
{
	ScStateDef *def = &spec->slots[spec->aggs[agg].slot].def;
	ScStateKind kind = def->kind == SC_STATE_DISTINCT ? def->inner->kind : def->kind;

	return kind == SC_STATE_FLOAT || kind == SC_STATE_REGR;
}

/* The group of the exact sums with these keys, or NULL. */
static ScGroup *
exact_group(Truth *truth, ScGroup *group)
{
	ScSpec	   *spec = truth->groups->spec;
	ScGroup    *found;

	if (truth->exact == NULL)
	{
		truth->exact = sc_groups_create(spec, CurrentMemoryContext);
		for (int i = 0; i < spec->naggs; i++)
			if (is_float_sum(spec, i))
				truth->exact->slots =
					bms_add_member(truth->exact->slots, spec->aggs[i].slot);
		if (spec->part == SC_PART_STORED)
			sc_stored_scan(truth->exact, truth->snapshot);
		else
			sc_source_scan(truth->exact, truth->snapshot);
	}
	found = sc_groups_get(truth->exact, group->keys, group->nulls, false);
	if (found && !found->finished)
	{
		for (int i = 0; i < spec->nslots; i++)
			sc_state_settle(&spec->slots[i].def, found->states + spec->slots[i].offset,
							truth->exact->cxt);
		sc_group_finish(truth->exact, found);
	}
	return found;
}

/* Do rows that ORDER BY takes for equal all have the same of this, to the bit? */
static bool
is_sorted_by(Expr *expr, Aggref *aggref)
{
	ListCell   *lc;

	foreach(lc, aggref->args)
	{
		TargetEntry *tle = lfirst(lc);

		if (equal(tle->expr, expr) && targetIsInSortList(tle, InvalidOid, aggref->aggorder))
			return sc_expr_is_sharp(expr);
	}
	return false;
}

/* Or of the columns that it is made of? */
static bool
follows_from_order(TargetEntry *tle, Aggref *aggref)
{
	ListCell   *lc;

	if (is_sorted_by(tle->expr, aggref))
		return true;
	/* Arrays of equal elements are compared as equal. */
	if (OidIsValid(get_element_type(aggref->aggtype)) &&
		targetIsInSortList(tle, InvalidOid, aggref->aggorder))
		return true;
	foreach(lc, pull_var_clause((Node *) tle->expr, 0))
		if (!is_sorted_by(lfirst(lc), aggref))
			return false;
	return true;
}

/* Are there rows that ORDER BY takes for equal, and the aggregate does not? */
static bool
has_ties(Aggref *aggref)
{
	ListCell   *lc;

	foreach(lc, aggref->args)
	{
		TargetEntry *tle = lfirst(lc);

		if (!tle->resjunk && !follows_from_order(tle, aggref))
			return true;
	}
	return false;
}

/*
 * Does the order of rows decide what the aggregate makes of them?  Where it is
 * not asked for, that is the order they lie in, which a VACUUM FULL or an
 * UPDATE of something else changes; and so it is for rows that ORDER BY does
 * not tell apart.
 */
static bool
is_of_any_order(ScSpec *spec, int agg)
{
	Aggref	   *aggref = spec->aggs[agg].aggref;

	return spec->slots[spec->aggs[agg].slot].def.kind == SC_STATE_RECOMPUTE &&
		aggref->aggkind == AGGKIND_NORMAL && aggref->aggdistinct == NIL &&
		has_ties(aggref);
}

static int
compare_bytes(const void *a, const void *b)
{
	return *(const unsigned char *) a - *(const unsigned char *) b;
}

static int
compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* One text of the parts, in an order of their own. */
static char *
join_sorted(char **parts, int n)
{
	StringInfoData all;

	qsort(parts, n, sizeof(char *), compare_texts);
	initStringInfo(&all);
	for (int i = 0; i < n; i++)
		appendStringInfo(&all, "%zu:%s", strlen(parts[i]), parts[i]);
	return all.data;
}

static char *
sorted_elements(Oid element, Datum value)
{
	Oid			output;
	bool		varlena;
	int16		typlen;
	bool		typbyval;
	char		typalign;
	Datum	   *elems;
	bool	   *nulls;
	int			n;
	char	  **texts;

	get_typlenbyvalalign(element, &typlen, &typbyval, &typalign);
	getTypeOutputInfo(element, &output, &varlena);
	deconstruct_array(DatumGetArrayTypeP(value), element, typlen, typbyval,
					  typalign, &elems, &nulls, &n);
	texts = palloc(sizeof(char *) * (n + 1));
	for (int i = 0; i < n; i++)
		texts[i] = nulls[i] ? "" :
			psprintf("=%s", OidOutputFunctionCall(output, elems[i]));
	return join_sorted(texts, n);
}

/*
 * What the aggregate writes between the parts, or NULL: not known, or it can
 * begin within itself, so that where parts end depends on what comes next.
 */
static char *
delimiter(Aggref *aggref)
{
	Node	   *arg;
	char	   *delim;
	int			len;

	if (aggref->aggtype == JSONOID || aggref->aggtype == JSONBOID)
		return ", ";
	if (aggref->aggfnoid != F_STRING_AGG_TEXT_TEXT)
		return NULL;
	arg = (Node *) lsecond_node(TargetEntry, aggref->args)->expr;
	if (!IsA(arg, Const) || ((Const *) arg)->constisnull)
		return NULL;
	delim = TextDatumGetCString(((Const *) arg)->constvalue);
	len = strlen(delim);
	for (int n = 1; n < len; n++)
		if (memcmp(delim, delim + len - n, n) == 0)
			return NULL;
	return len > 0 ? delim : NULL;
}

/*
 * The value's text without the order of its parts: elements, what is between
 * delimiters, or else bytes.  NULL: it has no parts.
 */
static char *
sorted_text(Aggref *aggref, Oid type, Datum value)
{
	Oid			element = get_base_element_type(type);
	bool		json = type == JSONOID || type == JSONBOID;
	Oid			output;
	bool		varlena;
	char	   *text;
	char	   *delim;
	char	   *end;
	char	  **parts;
	int			n = 0;

	if (OidIsValid(element))
		return sorted_elements(element, value);
	if (!json && type != TEXTOID && type != BYTEAOID && type != XMLOID)
		return NULL;
	getTypeOutputInfo(type, &output, &varlena);
	text = OidOutputFunctionCall(output, value);
	delim = delimiter(aggref);
	if (delim == NULL)
	{
		qsort(text, strlen(text), 1, compare_bytes);
		return text;
	}
	parts = palloc(sizeof(char *) * (strlen(text) + 1));
	/* Brackets, and lines that json_agg breaks between some, are of no part. */
	if (json)
		text[strlen(text) - 1] = *text = ' ';
	for (char *part = text; part; part = end)
	{
		end = strstr(part, delim);
		if (end)
		{
			*end = '\0';
			end += strlen(delim);
		}
		parts[n++] = part;
		if (!json)
			continue;
		parts[n - 1] += strspn(part, " \n");
		for (char *last = part + strlen(part); last > part && last[-1] == ' ';)
			*--last = '\0';
	}
	return join_sorted(parts, n);
}

/* Is it the same but for the order of its parts? */
static bool
same_parts(Aggref *aggref, Oid type, Datum a, Datum b)
{
	char	   *x = sorted_text(aggref, type, a);

	return x != NULL && strcmp(x, sorted_text(aggref, type, b)) == 0;
}

/*
 * Are these the values of a group of the truth?  If they are from states (else
 * NULL), those that the states cannot tell are passed over.
 */
static bool
same_values(Truth *truth, const Datum *values, const bool *isnull, ScGroup *states,
			ScGroup *group)
{
	ScSpec	   *spec = truth->groups->spec;

	for (int i = 0; i < spec->naggs; i++)
	{
		ScFinalDef *fin = &spec->aggs[i].fin;
		int			slot = spec->aggs[i].slot;
		ScGroup    *exact;

		if (states && (spec->slots[slot].def.kind == SC_STATE_RECOMPUTE ||
					   bms_is_member(slot, states->lost)))
			continue;
		if (values_equal(fin->resulttype, fin->resultcollation, values[i], isnull[i],
						 group->values[i], group->isnull[i]))
			continue;
		if (is_of_any_order(spec, i) && !isnull[i] && !group->isnull[i] &&
			same_parts(spec->aggs[i].aggref, fin->resulttype, values[i],
					   group->values[i]))
			continue;
		if (!is_float_sum(spec, i) ||
			(exact = exact_group(truth, group)) == NULL ||
			isnull[i] != exact->isnull[i] ||
			(!isnull[i] && !datum_image_eq(values[i], exact->values[i],
										   fin->resulttypbyval, fin->resulttyplen)))
			return false;
	}
	return true;
}

/* What differs from the base table in the snapshot; NULL: it does not answer. */
static ScGroups *
load_changed(ScSpec *spec, Relation base, Snapshot snapshot)
{
	ScGroups   *changed = sc_groups_create(spec, CurrentMemoryContext);
	ScGroups   *loaded = NULL;
	int64		n = 0;

	if (spec->part != SC_PART_STORED)
		return sc_delta_load(changed, snapshot, NULL) < 0 ? NULL : changed;
	if (!sc_stored_load(spec, base, snapshot, CurrentMemoryContext, &loaded, &n))
		return NULL;
	return loaded ? loaded : changed;
}

/* The number of the aggregate that counts rows, or -1. */
static int
row_count(ScSpec *spec)
{
	for (int i = 0; i < spec->naggs; i++)
		if (spec->aggs[i].aggref->aggstar && spec->aggs[i].aggref->aggfilter == NULL &&
			spec->slots[spec->aggs[i].slot].def.kind == SC_STATE_COUNT)
			return i;
	return -1;
}

/* How many groups differ of what this specification's storage says. */
static int64
count_different(ScSpec *spec, Snapshot snapshot)
{
	ScGroups   *truth;
	Truth		compared = {NULL, NULL, snapshot};
	ScGroups   *changed;
	Relation	base;
	Tuplestorestate *store;
	TupleDesc	desc;
	TupleTableSlot *slot;
	TableScanDesc scan;
	int64		differ = 0;
	int			count;
	bool		counted;		/* it is known how many rows groups have */
	ScGroup    *group = NULL;
	ScGroup    *other;
	ScValues   *distincts;

	/* Else the source itself answers. */
	if (!sc_catalog_row_matches(spec, snapshot) ||
		!sc_capture_flush(spec, snapshot))
		return 0;
	base = table_open(spec->base, AccessShareLock);
	truth = compared.groups = sc_groups_create(spec, CurrentMemoryContext);
	desc = sc_source_desc(spec);
	store = tuplestore_begin_heap(false, false, work_mem);
	sc_source_run(spec, snapshot, store, desc);
	slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	while (tuplestore_gettupleslot(store, true, true, slot))
	{
		slot_getallattrs(slot);
		group = sc_groups_get(truth, slot->tts_values, slot->tts_isnull, true);
		sc_group_finish(truth, group);
		for (int i = 0; i < spec->naggs; i++)
		{
			group->isnull[i] = slot->tts_isnull[spec->nkeys + i];
			if (!group->isnull[i])
			{
				MemoryContext old = MemoryContextSwitchTo(truth->cxt);

				group->values[i] = datumCopy(slot->tts_values[spec->nkeys + i],
											 spec->aggs[i].fin.resulttypbyval,
											 spec->aggs[i].fin.resulttyplen);
				MemoryContextSwitchTo(old);
			}
		}
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(store);
	/* Reading the source may have waited for somebody who truncates it. */
	changed = sc_spec_current(spec) ? load_changed(spec, base, snapshot) : NULL;
	if (changed == NULL)
	{
		table_close(base, NoLock);
		return 0;
	}
	count = row_count(spec);
	counted = spec->part != SC_PART_STORED && (spec->distinct || count < 0);
	if (counted)
	{
		/*
		 * The aggregates do not tell how often each value is there, nor how
		 * many rows.  No other states are needed; there is no slot nslots.
		 */
		truth->slots = bms_make_singleton(spec->nslots);
		for (int i = 0; i < spec->nslots; i++)
			if (spec->slots[i].def.kind == SC_STATE_DISTINCT)
				truth->slots = bms_add_member(truth->slots, i);
		truth->closed = true;
		sc_source_scan(truth, snapshot);
	}
	group = NULL;
	while (!counted && count >= 0 && (group = sc_groups_next(truth, group)) != NULL)
		group->nrows = DatumGetInt64(group->values[count]);
	counted = counted || count >= 0;
	distincts = sc_values_open(spec, snapshot, false);

	sc_groups_load_base(changed, base, snapshot);
	group = NULL;
	while ((group = sc_groups_next(changed, group)) != NULL)
	{
		sc_group_finish(changed, group);
		if (group->nrows == 0 && spec->nkeys > 0)
			continue;
		other = sc_groups_get(truth, group->keys, group->nulls, false);
		if (other == NULL || (counted && group->nrows != other->nrows) ||
			!sc_group_same_values(changed, group, other, distincts) ||
			(!group->overflow &&
			 !same_values(&compared, group->values, group->isnull, group, other)))
			differ++;
		if (other)
			other->inbase = true;
	}

	/* Unchanged groups: the stored values, and the state behind them. */
	scan = table_beginscan(base, snapshot, 0, NULL);
	slot = table_slot_create(base, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		ScGroups   *one;

		slot_getallattrs(slot);
		if (sc_groups_get(changed, slot->tts_values, slot->tts_isnull, false))
			continue;
		other = sc_groups_get(truth, slot->tts_values, slot->tts_isnull, false);
		if (other == NULL || other->inbase)
		{
			differ++;
			continue;
		}
		other->inbase = true;
		if (slot->tts_isnull[ScBaseState(spec) - 1] || slot->tts_isnull[ScBaseRows(spec) - 1])
		{
			differ++;
			continue;
		}
		one = sc_groups_create(spec, CurrentMemoryContext);
		group = sc_groups_get(one, slot->tts_values, slot->tts_isnull, true);
		sc_group_merge(one, group,
					   (bytea *) PG_DETOAST_DATUM_PACKED(slot->tts_values[ScBaseState(spec) - 1]));
		sc_group_finish(one, group);
		if (!same_values(&compared, slot->tts_values + spec->nkeys,
						 slot->tts_isnull + spec->nkeys, NULL, other) ||
			DatumGetInt64(slot->tts_values[ScBaseRows(spec) - 1]) != group->nrows ||
			slot->tts_isnull[ScBaseOverflow(spec) - 1] == group->overflow ||
			(counted && group->nrows != other->nrows) ||
			!sc_group_same_values(one, group, other, distincts) ||
			!same_values(&compared, group->values, group->isnull, group, other))
			differ++;
		MemoryContextDelete(one->cxt);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);

	group = NULL;
	while ((group = sc_groups_next(truth, group)) != NULL)
		if (!group->inbase)
			differ++;
	sc_values_close(distincts);
	table_close(base, NoLock);
	return differ;
}

/*
 * Lock what the query reads, as who changes or drops the rollup does: the
 * source, the other tables, and only then the storage.
 */
static void
lock_tables(Oid view)
{
	ScSpec	   *spec = sc_spec_by_view(view);
	ListCell   *lc;

	if (OidIsValid(spec->source))
		LockRelationOid(spec->source, AccessShareLock);
	(void) sc_members_lock(spec, false);
	if (spec->joined)
		foreach(lc, sc_join_tables(spec->joined, sc_join_fact(spec->joined, spec->source)))
			LockRelationOid(lfirst_oid(lc), AccessShareLock);
	sc_spec_release(spec);
}

Datum
scalecache_verify_rollup(PG_FUNCTION_ARGS)
{
	Snapshot	snapshot = GetActiveSnapshot();
	ScSpec	   *spec;
	ScSpec	   *stored;
	int64		differ;
	ScIdentity	caller;

	sc_refuse_nulls(fcinfo, "rollup");
	sc_lock_rollup(PG_GETARG_OID(0));
	lock_tables(PG_GETARG_OID(0));
	spec = sc_spec_by_view(PG_GETARG_OID(0));
	sc_become_owner(spec, &caller);
	differ = count_different(spec, snapshot);
	stored = sc_stored_of(spec->view);
	if (stored)
	{
		differ += count_different(stored, snapshot);
		sc_spec_release(stored);
	}
	sc_become_caller(&caller);
	sc_spec_release(spec);
	PG_RETURN_INT64(differ);
}
