/*
 * exact.c: sums without rounding.  See exact.h.
 */
#include "postgres.h"

#include <float.h>
#include <math.h>

#include "port/pg_bitutils.h"
#include "utils/float.h"
#include "utils/memutils.h"

#include "rollup/exact.h"

/*
 * Digits kept free above the highest position asked for.  They take the
 * carries of any number of additions that an int64 can count.
 */
#define HEADROOM		8

/* Make room for additions at positions lo to hi. */
pg_attribute_hot void
sc_exact_reserve(ScExact *e, int lo, int hi, MemoryContext cxt)
{
	int			newlo,
				newtop;
	int64	   *d;

	if (e->d != NULL && lo >= e->lo && hi + HEADROOM < e->lo + e->n)
		return;

	newlo = lo;
	newtop = hi + HEADROOM + 1;
	if (e->d != NULL)
	{
		newlo = Min(newlo, e->lo);
		newtop = Max(newtop, e->lo + e->n);
	}
	d = MemoryContextAllocZero(cxt, sizeof(int64) * (newtop - newlo));
	if (e->d != NULL)
	{
		memcpy(d + (e->lo - newlo), e->d, sizeof(int64) * e->n);
		pfree(e->d);
	}
	e->d = d;
	e->lo = newlo;
	e->n = newtop - newlo;
}

/* The index of the last digit that is not zero, or -1. */
static pg_attribute_hot int
last_digit(ScExact *e)
{
	int			i = e->n - 1;

	while (i >= 0 && e->d[i] == 0)
		i--;
	return i;
}

/* Sums are digits already, most often, and dividing takes long. */
static pg_attribute_hot bool
is_normal(ScExact *e, int64 base, int last)
{
	int64		least = 0;
	int64		greatest = 0;

	for (int i = 0; i <= last; i++)
	{
		least = Min(least, e->d[i]);
		greatest = Max(greatest, e->d[i]);
	}
	return least > -base && greatest < base && (least == 0 || greatest == 0);
}

/* Carry, so that all digits are below the base and of one sign. */
static void
carry_over(ScExact *e, int64 base, int last)
{
	int64		carry = 0;
	int			i;

	for (i = 0; i <= last || (carry != 0 && i < e->n); i++)
	{
		int64		v = e->d[i] + carry;

		carry = 0;
		if (v < 0 || v >= base)
		{
			carry = v / base;
			if (v - carry * base < 0)
				carry--;
			v -= carry * base;
		}
		e->d[i] = v;
	}
	if (carry == 0)
		return;
	Assert(carry == -1);

	/* The sum is negative: complement, and negate the digits. */
	for (i = 0; i < e->n && e->d[i] == 0; i++)
		;
	if (i < e->n)
	{
		e->d[i] = -(base - e->d[i]);
		for (i++; i < e->n; i++)
			e->d[i] = -(base - 1 - e->d[i]);
	}
}

/* The same, where it has to be done; the index of the last digit, or -1. */
static pg_attribute_hot int
normalized(ScExact *e, int64 base)
{
	int			last = last_digit(e);

	if (e->pending == 0)
		return last;
	e->pending = 0;
	if (is_normal(e, base, last))
		return last;
	carry_over(e, base, last);
	return last_digit(e);
}

void
sc_exact_normalize(ScExact *e, int64 base)
{
	(void) normalized(e, base);
}

/*
 * Normalize, and find the first and the last digit (as indexes) that are not
 * zero.  Returns false if there is none.
 */
pg_attribute_hot bool
sc_exact_trim(ScExact *e, int64 base, int *first, int *last)
{
	*first = 0;
	*last = -1;
	if (e->d == NULL)
		return false;
	*last = normalized(e, base);
	while (*first < *last && e->d[*first] == 0)
		(*first)++;
	return *last >= 0;
}

bool
sc_exact_is_zero(ScExact *e, int64 base)
{
	int			first,
				last;

	return !sc_exact_trim(e, base, &first, &last);
}

void
sc_exact_negate(ScExact *e)
{
	for (int i = 0; i < e->n; i++)
		e->d[i] = -e->d[i];
}

static inline int
floor_div32(int x)
{
	return x >= 0 ? x / 32 : -((31 - x) / 32);
}

/* Add sign * m * 2^exp. */
static void
add_scaled(ScExact *e, uint64 m, int exp, int sign, MemoryContext cxt)
{
	int			pos = floor_div32(exp);
	uint128		v;
	int			i;

	if (m == 0)
		return;
	v = (uint128) m << (exp - pos * 32);
	sc_exact_reserve(e, pos, pos + 2, cxt);
	for (i = 0; i < 3 && v != 0; i++)
	{
		int64		digit = (int64) (v & 0xFFFFFFFF);

		if (digit != 0)
			sc_exact_add(e, SC_BASE_BINARY, pos + i, sign * digit);
		v >>= 32;
	}
}

/* x = sign * m * 2^exp, with m an odd integer of up to 53 bits, or zero */
static void
split_double(double x, uint64 *m, int *exp, int *sign)
{
	double		f;

	*sign = 1;
	if (x < 0)
	{
		*sign = -1;
		x = -x;
	}
	if (x == 0)
	{
		*m = 0;
		*exp = 0;
		return;
	}
	f = frexp(x, exp);
	*m = (uint64) ldexp(f, 53);
	*exp -= 53;
	while ((*m & 1) == 0)
	{
		*m >>= 1;
		(*exp)++;
	}
}

void
sc_exact_add_double(ScExact *e, double x, int sign, MemoryContext cxt)
{
	uint64		m;
	int			exp,
				s;

	split_double(x, &m, &exp, &s);
	add_scaled(e, m, exp, s * sign, cxt);
}

void
sc_exact_add_product(ScExact *e, double x, double y, int sign,
					 MemoryContext cxt)
{
	uint64		mx,
				my;
	int			ex,
				ey,
				sx,
				sy;
	uint128		p;

	split_double(x, &mx, &ex, &sx);
	split_double(y, &my, &ey, &sy);
	p = (uint128) mx * my;
	add_scaled(e, (uint64) p, ex + ey, sx * sy * sign, cxt);
	add_scaled(e, (uint64) (p >> 64), ex + ey + 64, sx * sy * sign, cxt);
}

/*
 * The sum rounded to nearest, ties to even, as q * 2^exp with q of up to prec
 * bits and exp not less than minexp.
 */
static double
round_sum(ScExact *e, int prec, int minexp, int *exp)
{
	int			first,
				last,
				topbits,
				bits,
				drop,
				i;
	bool		negative;
	bool		sticky = false;
	uint128		acc = 0;
	uint64		m,
				q;

	*exp = 0;
	if (!sc_exact_trim(e, SC_BASE_BINARY, &first, &last))
		return 0.0;

	negative = e->d[last] < 0;
	for (i = last; i > last - 3; i--)
	{
		acc <<= 32;
		if (i >= first)
			acc |= (uint64) (negative ? -e->d[i] : e->d[i]);
	}
	/* Digits below are not all zero, as the first one is not. */
	if (first <= last - 3)
		sticky = true;

	topbits = pg_leftmost_one_pos32((uint32) (acc >> 64)) + 1;
	bits = (e->lo + last) * 32 + topbits;
	m = (uint64) (acc >> topbits);
	if ((acc & (((uint128) 1 << topbits) - 1)) != 0)
		sticky = true;

	/* The value is m * 2^(bits - 64) and a bit more if sticky. */
	drop = 64 - Min(prec, bits - minexp);
	if (drop > 64)
		return negative ? -0.0 : 0.0;
	if (drop == 64)
	{
		uint64		half = UINT64CONST(1) << 63;

		q = (m > half || (m == half && sticky)) ? 1 : 0;
	}
	else
	{
		uint64		half = UINT64CONST(1) << (drop - 1);
		uint64		rem = m & ((half << 1) - 1);

		q = m >> drop;
		if (rem > half || (rem == half && (sticky || (q & 1))))
			q++;
	}
	*exp = bits - 64 + drop;
	return negative ? -(double) q : (double) q;
}

double
sc_exact_to_double(ScExact *e)
{
	int			exp;
	double		q = round_sum(e, DBL_MANT_DIG, -1074, &exp);

	return ldexp(q, exp);
}

float
sc_exact_to_float(ScExact *e)
{
	int			exp;
	double		q = round_sum(e, FLT_MANT_DIG, -149, &exp);

	q = ldexp(q, exp);
	if (q > FLT_MAX)
		return get_float4_infinity();
	if (q < -FLT_MAX)
		return -get_float4_infinity();
	return (float) q;
}

double
sc_exact_moment(ScExact *sxy, ScExact *sx, ScExact *sy, int64 n)
{
	ScExact		r;
	int			f,
				l,
				fx,
				lx,
				fy,
				ly,
				i,
				j,
				exp;
	double		q;

	memset(&r, 0, sizeof(r));
	if (n == 0)
		return 0.0;
	if (sc_exact_trim(sxy, SC_BASE_BINARY, &f, &l))
	{
		sc_exact_reserve(&r, sxy->lo + f, sxy->lo + l + 2,
						 CurrentMemoryContext);
		for (i = f; i <= l; i++)
		{
			int128		p = (int128) sxy->d[i] * n;
			int			sign = p < 0 ? -1 : 1;

			if (p < 0)
				p = -p;
			for (j = 0; p != 0; j++)
			{
				sc_exact_add(&r, SC_BASE_BINARY, sxy->lo + i + j,
							 sign * (int64) (p & 0xFFFFFFFF));
				p >>= 32;
			}
		}
	}
	if (sc_exact_trim(sx, SC_BASE_BINARY, &fx, &lx) &&
		sc_exact_trim(sy, SC_BASE_BINARY, &fy, &ly))
	{
		sc_exact_reserve(&r, sx->lo + fx + sy->lo + fy,
						 sx->lo + lx + sy->lo + ly + 1,
						 CurrentMemoryContext);
		for (i = fx; i <= lx; i++)
		{
			for (j = fy; j <= ly; j++)
			{
				int64		a = sx->d[i];
				int64		b = sy->d[j];
				int			sign = (a < 0) == (b < 0) ? -1 : 1;
				uint64		p = (uint64) (a < 0 ? -a : a) * (uint64) (b < 0 ? -b : b);
				int			pos = sx->lo + i + sy->lo + j;

				sc_exact_add(&r, SC_BASE_BINARY, pos,
							 sign * (int64) (p & 0xFFFFFFFF));
				sc_exact_add(&r, SC_BASE_BINARY, pos + 1,
							 sign * (int64) (p >> 32));
			}
		}
	}
	/* No limit to the exponent here: the division may bring it back. */
	q = round_sum(&r, DBL_MANT_DIG, -100000, &exp);
	if (r.d != NULL)
		pfree(r.d);
	return ldexp(q / (double) n, exp);
}
