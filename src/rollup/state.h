/*
 * state.h: what an aggregate keeps, so that rows can be added and retracted.
 *
 * A state belongs to one group.  It is changed row by row with a sign (+1 for
 * a row that came, -1 for one that went), merged with other states of the
 * same definition in any order, and turned into the aggregate's value.  The
 * packed form is a byte string without alignment, small for one row.
 */
#ifndef SC_STATE_H
#define SC_STATE_H

#include "postgres.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "nodes/primnodes.h"

typedef enum ScStateKind
{
	SC_STATE_COUNT,				/* non-null inputs, or rows when nargs is 0 */
	SC_STATE_INT,				/* int2/int4 (sum, avg, variance family), int8
								 * sum/avg, money sum: int128 sums */
	SC_STATE_NUMERIC,			/* numeric family, int8 variance family */
	SC_STATE_FLOAT,				/* float4/float8 sum, avg, variance family */
	SC_STATE_REGR,				/* two-argument float8 family */
	SC_STATE_INTERVAL,			/* sum, avg of interval */
	SC_STATE_BOOL,				/* bool_and, bool_or, every */
	SC_STATE_BITS,				/* bit_and, bit_or, bit_xor of int2/4/8 */
	SC_STATE_EXTREME,			/* min, max and all with a sort operator */
	SC_STATE_DISTINCT,			/* one of the first with DISTINCT: a multiset */
	SC_STATE_RECOMPUTE			/* anything else: keeps nothing */
} ScStateKind;

typedef struct ScStateDef
{
	ScStateKind kind;
	int			nargs;			/* arguments evaluated for each row, 0 to 2 */
	Oid			argtypes[2];
	Oid			collation;		/* input collation, for EXTREME and DISTINCT */
	bool		squares;		/* keeps the sum of squares too */
	bool		descending;		/* SC_STATE_EXTREME: largest first (max) */
	Oid			sortop;			/* SC_STATE_EXTREME: the aggregate's operator */
	Oid			eqop;			/* SC_STATE_DISTINCT: when values are the same */
	struct ScStateDef *inner;	/* SC_STATE_DISTINCT: without DISTINCT */
	/* Filled by sc_state_prepare. */
	int16		typlen;
	bool		typbyval;
	char		typalign;
	FmgrInfo   *cmp;			/* btree comparison of the argument type */
	FmgrInfo   *eq;
	FmgrInfo   *hash;			/* NULL: equal values have equal bytes */
	Size		size;			/* bytes of one state in memory, MAXALIGNed */
} ScStateDef;

/* An aggregate call and the state it is computed from. */
typedef struct ScFinalDef
{
	Oid			aggfnoid;
	Oid			resulttype;
	Oid			resultcollation;
	Oid			collation;		/* of its arguments */
	int16		resulttyplen;
	bool		resulttypbyval;
	FmgrInfo   *finalfn;		/* NULL if the aggregate has none */
} ScFinalDef;

typedef void ScState;

/*
 * Fill what comes before typlen for an aggregate call, in CurrentMemoryContext.
 * FILTER is the caller's affair; ORDER BY changes no value but those that are
 * recomputed.
 */
extern void sc_state_classify(Aggref *agg, ScStateDef *def);
extern bool sc_state_same(const ScStateDef *a, const ScStateDef *b);
extern bool sc_state_counts(const ScStateDef *def);

/* Look up what the definition needs; lookups are allocated in cxt. */
extern void sc_state_prepare(ScStateDef *def, MemoryContext cxt);
extern void sc_final_prepare(Aggref *agg, ScFinalDef *fin, MemoryContext cxt);

/* "st" points to def->size zeroed bytes: the empty state. */

/* Add sign times one row.  What the state keeps beside itself is in cxt. */
extern void sc_state_accum(const ScStateDef *def, ScState *st,
						   const Datum *args, const bool *nulls, int sign,
						   MemoryContext cxt);

/* The same for any number of equal rows; what is in scratch can go then. */
extern void sc_state_accum_often(const ScStateDef *def, ScState *st,
								 const Datum *args, const bool *nulls,
								 int64 times, MemoryContext cxt,
								 MemoryContext scratch);

/* True when adding the state to any other would change nothing. */
extern bool sc_state_is_empty(const ScStateDef *def, const ScState *st);

/* Append the packed form. */
extern void sc_state_pack(const ScStateDef *def, const ScState *st,
						  StringInfo buf);

/*
 * Add a packed state at *data to st, and move *data past it.  Raises
 * ERRCODE_DATA_CORRUPTED if it does not fit before end.
 */
extern void sc_state_merge(const ScStateDef *def, ScState *st,
						   const char **data, const char *end,
						   MemoryContext cxt);

/* The same as often as times says; a negative number retracts. */
extern void sc_state_merge_often(const ScStateDef *def, ScState *st,
								 const char **data, const char *end,
								 int64 times, MemoryContext cxt,
								 MemoryContext scratch);

/* Let a state retract what it has added; false if its kind cannot. */
extern bool sc_state_negate(const ScStateDef *def, ScState *st);

/*
 * Let a state that all rows of its group have been added to, and nothing
 * retracted, tell its value.
 */
extern void sc_state_settle(const ScStateDef *def, ScState *st,
							MemoryContext cxt);

/*
 * The aggregate's value, in CurrentMemoryContext.  Returns false when the
 * state can not tell (a retracted extreme with nothing known below it, a
 * multiset that is not resolved, a SC_STATE_RECOMPUTE aggregate): the caller recomputes from the source.
 * *overflow is set, and the value NULL, when the value cannot be represented
 * (the plain query would raise ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE too).
 */
extern bool sc_state_final(const ScStateDef *def, const ScFinalDef *fin,
						   const ScState *st, Datum *value, bool *isnull,
						   bool *overflow);

#endif							/* SC_STATE_H */
