/*
 * exact.h: sums without rounding, so that what was added can be taken out.
 *
 * The sum is a vector of signed digits over a window of positions that grows
 * as needed.  Digits may exceed the base between normalizations; after one,
 * they are all of one sign and below the base, which is the canonical form.
 */
#ifndef SC_EXACT_H
#define SC_EXACT_H

#include "postgres.h"
#include "lib/stringinfo.h"

#define SC_BASE_DECIMAL		INT64CONST(10000)
#define SC_BASE_BINARY		(INT64CONST(1) << 32)

typedef struct ScExact
{
	int64	   *d;				/* digits, least significant first */
	int32		lo;				/* position of d[0] */
	int32		n;				/* digits in the window */
	int32		pending;		/* additions since the last normalization */
} ScExact;

extern void sc_exact_reserve(ScExact *e, int lo, int hi, MemoryContext cxt);
extern void sc_exact_normalize(ScExact *e, int64 base);
extern bool sc_exact_trim(ScExact *e, int64 base, int *first, int *last);
extern bool sc_exact_is_zero(ScExact *e, int64 base);
extern void sc_exact_negate(ScExact *e);

/* Binary sums. */
extern void sc_exact_add_double(ScExact *e, double x, int sign,
								MemoryContext cxt);
extern void sc_exact_add_product(ScExact *e, double x, double y, int sign,
								 MemoryContext cxt);
extern double sc_exact_to_double(ScExact *e);
extern float sc_exact_to_float(ScExact *e);

/* Additions, of at most 2^32 each, before digits have to be normalized. */
#define SC_MAX_PENDING	(1 << 28)

/* The position must be reserved, and |value| be at most 2^32. */
static inline void
sc_exact_add(ScExact *e, int64 base, int pos, int64 value)
{
	Assert(pos >= e->lo && pos < e->lo + e->n);
	if (unlikely(e->pending >= SC_MAX_PENDING))
		sc_exact_normalize(e, base);
	e->pending++;
	e->d[pos - e->lo] += value;
}

/* (n * sxy - sx * sy) / n, with the numerator rounded once */
extern double sc_exact_moment(ScExact *sxy, ScExact *sx, ScExact *sy, int64 n);

#endif							/* SC_EXACT_H */
