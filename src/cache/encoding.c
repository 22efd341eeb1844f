/*
 * encoding.c: text as Redis has it.
 *
 * Applications make keys in UTF-8, and read values in it, whatever the
 * database's encoding is.  So keys and values are converted at the door: here
 * they have the server's encoding, there they are UTF-8.  What has no
 * equivalent stays as it is, byte by byte, and so does all of SQL_ASCII, of
 * which nobody knows what it is.  Nothing fails: a key has to be deleted.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "cache/cache.h"

/* Or else it stays as it is. */
bool
sc_text_is_converted(void)
{
	return GetDatabaseEncoding() != PG_UTF8 && GetDatabaseEncoding() != PG_SQL_ASCII;
}

/* In CurrentMemoryContext, terminated.  NULL: it cannot be converted. */
static char *
convert(const char *s, uint32 length, int from, int to, uint32 *newlen)
{
	Oid			function = FindDefaultConversionProc(from, to);
	Size		size = (Size) length * MAX_CONVERSION_GROWTH + 1;
	char	   *result;

	if (!OidIsValid(function) || size > MaxAllocSize)
		return NULL;
	result = palloc(size);
	if (pg_do_encoding_conversion_buf(function, from, to, (unsigned char *) unconstify(char *, s),
									  (int) length, (unsigned char *) result, (int) size,
									  true) != (int) length)
	{
		pfree(result);
		return NULL;
	}
	*newlen = strlen(result);
	return result;
}

/*
 * For Redis; s itself when it is not converted, or cannot be: a value is better
 * not stored then.
 */
const char *
sc_text_for_redis(const char *s, uint32 length, uint32 *newlen)
{
	const char *result = NULL;

	if (sc_text_is_converted())
		result = convert(s, length, GetDatabaseEncoding(), PG_UTF8, newlen);
	if (result)
		return result;
	*newlen = length;
	return s;
}

/*
 * From Redis, terminated; may be s itself.  NULL: it is no text that this
 * database could have.
 */
char *
sc_text_from_redis(char *s, uint32 length, uint32 *newlen)
{
	*newlen = length;
	if (!sc_text_is_converted())
		return pg_verifymbstr(s, (int) length, true) ? s : NULL;
	if (!pg_verify_mbstr(PG_UTF8, s, (int) length, true))
		return NULL;
	return convert(s, length, PG_UTF8, GetDatabaseEncoding(), newlen);
}
