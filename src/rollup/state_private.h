/*
 * state_private.h: the kinds of state, for state*.c only.
 */
#ifndef SC_STATE_PRIVATE_H
#define SC_STATE_PRIVATE_H

#include "rollup/exact.h"
#include "rollup/state.h"

/*
 * What a kind of state does; see the functions of state.h.  No argument of
 * accum is null.  Before final, the value is null and not an overflow.
 */
typedef struct ScStateOps
{
	Size		size;
	void		(*accum) (const ScStateDef *def, ScState *st,
						  const Datum *args, int sign, MemoryContext cxt);
	bool		(*is_empty) (ScState *st);
	void		(*pack) (const ScStateDef *def, ScState *st, StringInfo buf);
	void		(*merge) (const ScStateDef *def, ScState *st,
						  const char **data, const char *end,
						  MemoryContext cxt);
	void		(*negate) (ScState *st);
	bool		(*final) (const ScStateDef *def, const ScFinalDef *fin,
						  ScState *st, Datum *value, bool *isnull,
						  bool *overflow);
	int64		(*count) (ScState *st); /* of inputs, or NULL: not kept */
} ScStateOps;

extern const ScStateOps sc_count_ops;
extern const ScStateOps sc_interval_ops;
extern const ScStateOps sc_bool_ops;
extern const ScStateOps sc_bits_ops;
extern const ScStateOps sc_int_ops;
extern const ScStateOps sc_num_ops;
extern const ScStateOps sc_float_ops;
extern const ScStateOps sc_regr_ops;
extern const ScStateOps sc_extreme_ops;
extern const ScStateOps sc_distinct_ops;

/* Of both the multiset and the inner state, which has been prepared. */
extern Size sc_distinct_size(const ScStateDef *def);

/* ---- state_pack.c ---- */

extern void sc_state_corrupted(void) pg_attribute_noreturn();
extern void sc_put_long(StringInfo buf, uint64 v);

/* Groups of 7 bits; most numbers are small. */
static inline void
sc_put_uint(StringInfo buf, uint64 v)
{
	if (v >= 0x80 || buf->maxlen - buf->len < 2)
	{
		sc_put_long(buf, v);
		return;
	}
	buf->data[buf->len++] = (char) v;
	buf->data[buf->len] = '\0';
}

/* Small ones of either sign are small numbers. */
static inline void
sc_put_int(StringInfo buf, int64 v)
{
	sc_put_uint(buf, ((uint64) v << 1) ^ (uint64) (v >> 63));
}

extern void sc_put_int128(StringInfo buf, int128 v);
extern uint64 sc_get_uint(const char **p, const char *end);
extern int64 sc_get_int(const char **p, const char *end);
extern int128 sc_get_int128(const char **p, const char *end);
extern void sc_put_exact(StringInfo buf, ScExact *e, int64 base);
extern void sc_get_exact(const char **p, const char *end, ScExact *e,
						 int64 base, MemoryContext cxt);

/* Values of def's first argument type, not null. */
extern Datum sc_value_form(const ScStateDef *def, Datum value);
extern Datum sc_value_copy(const ScStateDef *def, Datum value,
						   MemoryContext cxt);
extern void sc_value_free(const ScStateDef *def, Datum value);
extern int	sc_value_cmp(const ScStateDef *def, Datum a, Datum b);
extern void sc_put_value(const ScStateDef *def, StringInfo buf, Datum value);
extern Datum sc_get_value(const ScStateDef *def, const char **p,
						  const char *end);
extern int64 sc_int_arg(const ScStateDef *def, Datum arg);

extern Datum sc_call_final(FmgrInfo *flinfo, PGFunction fn, Oid collation,
						   Datum arg, bool *isnull);

#endif							/* SC_STATE_PRIVATE_H */
