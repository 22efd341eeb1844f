/*
 * state.c: which state serves an aggregate, and what all kinds have in
 * common.  See state.h; the kinds are in state_*.c.
 *
 * All sums are exact.  The value is computed by the aggregate's own final
 * function from a transition value made of the sums.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/stratnum.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "nodes/nodeFuncs.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "rollup/state_private.h"

/* SC_STATE_RECOMPUTE has none. */
static const ScStateOps *const state_ops[] = {
	[SC_STATE_COUNT] = &sc_count_ops,
	[SC_STATE_INT] = &sc_int_ops,
	[SC_STATE_NUMERIC] = &sc_num_ops,
	[SC_STATE_FLOAT] = &sc_float_ops,
	[SC_STATE_REGR] = &sc_regr_ops,
	[SC_STATE_INTERVAL] = &sc_interval_ops,
	[SC_STATE_BOOL] = &sc_bool_ops,
	[SC_STATE_BITS] = &sc_bits_ops,
	[SC_STATE_EXTREME] = &sc_extreme_ops,
	[SC_STATE_DISTINCT] = &sc_distinct_ops,
	[SC_STATE_RECOMPUTE] = NULL,
};

/* ------------------------------------------------------------------------
 * Classification
 * ------------------------------------------------------------------------
 */
static bool
classify_builtin(Oid fn, ScStateDef *def)
{
	switch (fn)
	{
		case F_COUNT_:
		case F_COUNT_ANY:
			def->kind = SC_STATE_COUNT;
			return true;

		case F_SUM_INT2:
		case F_SUM_INT4:
		case F_SUM_INT8:
		case F_SUM_MONEY:
		case F_AVG_INT2:
		case F_AVG_INT4:
		case F_AVG_INT8:
			def->kind = SC_STATE_INT;
			return true;

		case F_VARIANCE_INT2:
		case F_VARIANCE_INT4:
		case F_VAR_SAMP_INT2:
		case F_VAR_SAMP_INT4:
		case F_VAR_POP_INT2:
		case F_VAR_POP_INT4:
		case F_STDDEV_INT2:
		case F_STDDEV_INT4:
		case F_STDDEV_SAMP_INT2:
		case F_STDDEV_SAMP_INT4:
		case F_STDDEV_POP_INT2:
		case F_STDDEV_POP_INT4:
			def->kind = SC_STATE_INT;
			def->squares = true;
			return true;

		case F_SUM_NUMERIC:
		case F_AVG_NUMERIC:
			def->kind = SC_STATE_NUMERIC;
			return true;

		case F_VARIANCE_INT8:
		case F_VAR_SAMP_INT8:
		case F_VAR_POP_INT8:
		case F_STDDEV_INT8:
		case F_STDDEV_SAMP_INT8:
		case F_STDDEV_POP_INT8:
		case F_VARIANCE_NUMERIC:
		case F_VAR_SAMP_NUMERIC:
		case F_VAR_POP_NUMERIC:
		case F_STDDEV_NUMERIC:
		case F_STDDEV_SAMP_NUMERIC:
		case F_STDDEV_POP_NUMERIC:
			def->kind = SC_STATE_NUMERIC;
			def->squares = true;
			return true;

		case F_SUM_FLOAT4:
		case F_SUM_FLOAT8:
		case F_AVG_FLOAT4:
		case F_AVG_FLOAT8:
			def->kind = SC_STATE_FLOAT;
			return true;

		case F_VARIANCE_FLOAT4:
		case F_VARIANCE_FLOAT8:
		case F_VAR_SAMP_FLOAT4:
		case F_VAR_SAMP_FLOAT8:
		case F_VAR_POP_FLOAT4:
		case F_VAR_POP_FLOAT8:
		case F_STDDEV_FLOAT4:
		case F_STDDEV_FLOAT8:
		case F_STDDEV_SAMP_FLOAT4:
		case F_STDDEV_SAMP_FLOAT8:
		case F_STDDEV_POP_FLOAT4:
		case F_STDDEV_POP_FLOAT8:
			def->kind = SC_STATE_FLOAT;
			def->squares = true;
			return true;

		case F_REGR_COUNT:
		case F_REGR_SXX:
		case F_REGR_SYY:
		case F_REGR_SXY:
		case F_REGR_AVGX:
		case F_REGR_AVGY:
		case F_REGR_R2:
		case F_REGR_SLOPE:
		case F_REGR_INTERCEPT:
		case F_COVAR_POP:
		case F_COVAR_SAMP:
		case F_CORR:
			def->kind = SC_STATE_REGR;
			def->squares = true;
			return true;

		case F_SUM_INTERVAL:
		case F_AVG_INTERVAL:
			def->kind = SC_STATE_INTERVAL;
			return true;

		case F_BOOL_AND:
		case F_BOOL_OR:
		case F_EVERY:
			def->kind = SC_STATE_BOOL;
			return true;

		case F_BIT_AND_INT2:
		case F_BIT_AND_INT4:
		case F_BIT_AND_INT8:
		case F_BIT_OR_INT2:
		case F_BIT_OR_INT4:
		case F_BIT_OR_INT8:
		case F_BIT_XOR_INT2:
		case F_BIT_XOR_INT4:
		case F_BIT_XOR_INT8:
			def->kind = SC_STATE_BITS;
			return true;

		default:
			return false;
	}
}

/* Are equal values of the type the same bytes? */
static bool
has_equal_images(Oid type, Oid collation)
{
	Oid			opclass = GetDefaultOpClass(type, BTREE_AM_OID);
	Oid			opcintype;
	Oid			proc;

	if (!OidIsValid(opclass))
		return false;
	opcintype = get_opclass_input_type(opclass);
	proc = get_opfamily_proc(get_opclass_family(opclass), opcintype, opcintype,
							 BTEQUALIMAGE_PROC);
	return OidIsValid(proc) &&
		DatumGetBool(OidFunctionCall1Coll(proc, collation,
										  ObjectIdGetDatum(opcintype)));
}

/*
 * Does a value count once anyway?  Else wrap the state into a multiset, if
 * the type's values can be found again by a hash.
 */
static void
classify_distinct(Aggref *agg, ScStateDef *def)
{
	SortGroupClause *sgc = linitial_node(SortGroupClause, agg->aggdistinct);
	Oid			type = def->argtypes[0];
	Oid			hashfn;
	ScStateDef *inner;

	switch (def->kind)
	{
		case SC_STATE_EXTREME:
		case SC_STATE_BOOL:
		case SC_STATE_RECOMPUTE:
			return;
		case SC_STATE_BITS:
			if (agg->aggfnoid != F_BIT_XOR_INT2 &&
				agg->aggfnoid != F_BIT_XOR_INT4 &&
				agg->aggfnoid != F_BIT_XOR_INT8)
				return;
			break;
		default:
			break;
	}
	/* A pseudo-type's values mean nothing to another session. */
	if (def->nargs != 1 || get_typlen(type) == -2 ||
		get_typtype(type) == TYPTYPE_PSEUDO ||
		!((sgc->hashable && get_op_hash_functions(sgc->eqop, &hashfn, NULL)) ||
		  has_equal_images(type, agg->inputcollid)))
	{
		def->kind = SC_STATE_RECOMPUTE;
		return;
	}
	inner = palloc(sizeof(ScStateDef));
	*inner = *def;
	def->kind = SC_STATE_DISTINCT;
	def->inner = inner;
	def->eqop = sgc->eqop;
	def->collation = agg->inputcollid;
	def->squares = false;
}

void
sc_state_classify(Aggref *agg, ScStateDef *def)
{
	ListCell   *lc;
	int			nargs = 0;

	memset(def, 0, sizeof(*def));
	def->kind = SC_STATE_RECOMPUTE;

	foreach(lc, agg->args)
	{
		TargetEntry *tle = (TargetEntry *) lfirst(lc);

		if (tle->resjunk)
			continue;
		if (nargs < 2)
			def->argtypes[nargs] = exprType((Node *) tle->expr);
		nargs++;
	}

	if (agg->aggkind == AGGKIND_NORMAL && nargs <= 2)
	{
		def->nargs = nargs;
		if (!classify_builtin(agg->aggfnoid, def) && nargs == 1)
		{
			HeapTuple	tup;
			Oid			sortop;
			Oid			opfamily;
			Oid			opcintype;
			int16		strategy;

			tup = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(agg->aggfnoid));
			if (!HeapTupleIsValid(tup))
				elog(ERROR, "cache lookup failed for aggregate %u",
					 agg->aggfnoid);
			sortop = ((Form_pg_aggregate) GETSTRUCT(tup))->aggsortop;
			ReleaseSysCache(tup);

			if (OidIsValid(sortop) &&
				get_ordering_op_properties(sortop, &opfamily, &opcintype,
										   &strategy) &&
				get_typlen(def->argtypes[0]) != -2)
			{
				def->kind = SC_STATE_EXTREME;
				def->sortop = sortop;
				def->descending = (strategy == BTGreaterStrategyNumber);
				def->collation = agg->inputcollid;
			}
		}
	}

	if (agg->aggdistinct != NIL)
		classify_distinct(agg, def);
	if (def->kind == SC_STATE_RECOMPUTE)
	{
		def->nargs = 0;
		def->argtypes[0] = def->argtypes[1] = InvalidOid;
	}
}

/* Can two aggregates of the same arguments and filter share a state? */
bool
sc_state_same(const ScStateDef *a, const ScStateDef *b)
{
	return a->kind == b->kind && a->descending == b->descending &&
		a->sortop == b->sortop && a->squares == b->squares &&
		a->eqop == b->eqop && a->collation == b->collation &&
		(a->inner == NULL || sc_state_same(a->inner, b->inner));
}

/* Does the state of another aggregate than count tell the count, too? */
bool
sc_state_counts(const ScStateDef *def)
{
	return state_ops[def->kind] != NULL && state_ops[def->kind]->count != NULL;
}

static void
prepare_extreme(ScStateDef *def, MemoryContext cxt)
{
	Oid			opfamily;
	Oid			opcintype;
	Oid			proc;
	int16		strategy;

	if (!get_ordering_op_properties(def->sortop, &opfamily, &opcintype,
									&strategy))
		elog(ERROR, "operator %u is not a valid ordering operator",
			 def->sortop);
	proc = get_opfamily_proc(opfamily, opcintype, opcintype, BTORDER_PROC);
	if (!OidIsValid(proc))
		elog(ERROR, "missing support function %d for type %u in operator family %u",
			 BTORDER_PROC, opcintype, opfamily);
	def->cmp = MemoryContextAllocZero(cxt, sizeof(FmgrInfo));
	fmgr_info_cxt(proc, def->cmp, cxt);
}

static void
prepare_distinct(ScStateDef *def, MemoryContext cxt)
{
	Oid			hashfn;

	sc_state_prepare(def->inner, cxt);
	def->eq = MemoryContextAllocZero(cxt, sizeof(FmgrInfo));
	fmgr_info_cxt(get_opcode(def->eqop), def->eq, cxt);
	if (op_hashjoinable(def->eqop, def->argtypes[0]) &&
		get_op_hash_functions(def->eqop, &hashfn, NULL))
	{
		def->hash = MemoryContextAllocZero(cxt, sizeof(FmgrInfo));
		fmgr_info_cxt(hashfn, def->hash, cxt);
	}
}

void
sc_state_prepare(ScStateDef *def, MemoryContext cxt)
{
	if (def->nargs > 0)
		get_typlenbyvalalign(def->argtypes[0], &def->typlen, &def->typbyval,
							 &def->typalign);
	if (def->kind == SC_STATE_EXTREME)
		prepare_extreme(def, cxt);
	if (state_ops[def->kind])
		def->size = MAXALIGN(state_ops[def->kind]->size);
	if (def->kind == SC_STATE_DISTINCT)
	{
		prepare_distinct(def, cxt);
		def->size = MAXALIGN(sc_distinct_size(def));
	}
}

void
sc_final_prepare(Aggref *agg, ScFinalDef *fin, MemoryContext cxt)
{
	HeapTuple	tup;
	Oid			finalfn;

	memset(fin, 0, sizeof(*fin));
	fin->aggfnoid = agg->aggfnoid;
	fin->resulttype = agg->aggtype;
	fin->collation = agg->inputcollid;
	fin->resultcollation = agg->aggcollid;
	get_typlenbyval(agg->aggtype, &fin->resulttyplen, &fin->resulttypbyval);

	tup = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(agg->aggfnoid));
	if (!HeapTupleIsValid(tup))
		elog(ERROR, "cache lookup failed for aggregate %u", agg->aggfnoid);
	finalfn = ((Form_pg_aggregate) GETSTRUCT(tup))->aggfinalfn;
	ReleaseSysCache(tup);

	if (OidIsValid(finalfn))
	{
		fin->finalfn = MemoryContextAllocZero(cxt, sizeof(FmgrInfo));
		fmgr_info_cxt(finalfn, fin->finalfn, cxt);
	}
}

/* ---- by kind ---- */

pg_attribute_hot void
sc_state_accum(const ScStateDef *def, ScState *st, const Datum *args,
			   const bool *nulls, int sign, MemoryContext cxt)
{
	for (int i = 0; i < def->nargs; i++)
	{
		if (nulls[i])
			return;
	}
	if (state_ops[def->kind])
		state_ops[def->kind]->accum(def, st, args, sign, cxt);
}

bool
sc_state_is_empty(const ScStateDef *def, const ScState *st)
{
	/* Sums are normalized in place, which does not change their value. */
	return state_ops[def->kind] == NULL ||
		state_ops[def->kind]->is_empty(unconstify(ScState *, st));
}

pg_attribute_hot void
sc_state_pack(const ScStateDef *def, const ScState *st, StringInfo buf)
{
	if (state_ops[def->kind])
		state_ops[def->kind]->pack(def, unconstify(ScState *, st), buf);
}

void
sc_state_merge(const ScStateDef *def, ScState *st, const char **data,
			   const char *end, MemoryContext cxt)
{
	if (state_ops[def->kind])
		state_ops[def->kind]->merge(def, st, data, end, cxt);
}

/* Add a packed state times times, by doubling it. */
static void
merge_often(const ScStateDef *def, ScState *st, const char *p, const char *end,
			int64 times, MemoryContext cxt, MemoryContext scratch)
{
	MemoryContext old = MemoryContextSwitchTo(scratch);
	ScState    *twofold = palloc0(def->size);
	uint64		rest = times < 0 ? -(uint64) times : (uint64) times;
	StringInfoData buf;

	sc_state_merge(def, twofold, &p, end, scratch);
	if (times < 0)
		(void) sc_state_negate(def, twofold);
	initStringInfo(&buf);
	while (rest > 0)
	{
		resetStringInfo(&buf);
		sc_state_pack(def, twofold, &buf);
		p = buf.data;
		if (rest & 1)
			sc_state_merge(def, st, &p, buf.data + buf.len, cxt);
		rest >>= 1;
		p = buf.data;
		if (rest > 0)
			sc_state_merge(def, twofold, &p, buf.data + buf.len, scratch);
	}
	MemoryContextSwitchTo(old);
}

void
sc_state_accum_often(const ScStateDef *def, ScState *st, const Datum *args,
					 const bool *nulls, int64 times, MemoryContext cxt,
					 MemoryContext scratch)
{
	MemoryContext old;
	ScState    *once;
	StringInfoData buf;

	for (int i = 0; i < def->nargs; i++)
		if (nulls[i])
			return;
	/* Those that multiply by the sign. */
	if (def->kind == SC_STATE_COUNT || def->kind == SC_STATE_INT ||
		def->kind == SC_STATE_BOOL || def->kind == SC_STATE_EXTREME)
	{
		for (; times > INT_MAX; times -= INT_MAX)
			sc_state_accum(def, st, args, nulls, INT_MAX, cxt);
		for (; times < -INT_MAX; times += INT_MAX)
			sc_state_accum(def, st, args, nulls, -INT_MAX, cxt);
		if (times != 0)
			sc_state_accum(def, st, args, nulls, (int) times, cxt);
		return;
	}
	if (times >= -4 && times <= 4)
	{
		for (; times > 0; times--)
			sc_state_accum(def, st, args, nulls, 1, cxt);
		for (; times < 0; times++)
			sc_state_accum(def, st, args, nulls, -1, cxt);
		return;
	}
	old = MemoryContextSwitchTo(scratch);
	once = palloc0(def->size);
	initStringInfo(&buf);
	sc_state_accum(def, once, args, nulls, 1, scratch);
	sc_state_pack(def, once, &buf);
	MemoryContextSwitchTo(old);
	merge_often(def, st, buf.data, buf.data + buf.len, times, cxt, scratch);
}

/* As sc_state_merge, for times such states; times can be negative. */
void
sc_state_merge_often(const ScStateDef *def, ScState *st, const char **data,
					 const char *end, int64 times, MemoryContext cxt,
					 MemoryContext scratch)
{
	const char *start = *data;

	if (times == 1)
	{
		sc_state_merge(def, st, data, end, cxt);
		return;
	}
	/* Where it ends is only known after merging it somewhere. */
	sc_state_merge(def, MemoryContextAllocZero(scratch, def->size), data, end, scratch);
	merge_often(def, st, start, *data, times, cxt, scratch);
}

bool
sc_state_negate(const ScStateDef *def, ScState *st)
{
	if (state_ops[def->kind] == NULL || state_ops[def->kind]->negate == NULL)
		return false;
	state_ops[def->kind]->negate(st);
	return true;
}

bool
sc_state_final(const ScStateDef *def, const ScFinalDef *fin,
			   const ScState *st, Datum *value, bool *isnull, bool *overflow)
{
	*value = (Datum) 0;
	*isnull = true;
	*overflow = false;
	/* Asked of a sum, or the like, of the same: sc_state_counts. */
	if (fin->aggfnoid == F_COUNT_ANY && sc_state_counts(def))
	{
		*value = Int64GetDatum(state_ops[def->kind]->count(unconstify(ScState *, st)));
		*isnull = false;
		return true;
	}
	return state_ops[def->kind] != NULL &&
		state_ops[def->kind]->final(def, fin, unconstify(ScState *, st),
									value, isnull, overflow);
}
