/*
 * lua.c: the function library that the worker loads into Redis, as text.
 *
 * library.lua is its source.  Its version is a hash of itself, so that the
 * worker notices an older or a newer one.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "cache/link.h"

static const char library[] =
#include "library_text.h"
;

const char *
sc_library_version(void)
{
	static char version[20] = "";

	if (version[0] == '\0')
		snprintf(version, sizeof(version), UINT64_FORMAT,
				 hash_bytes_extended((const unsigned char *) library, sizeof(library), 0));
	return version;
}

/* In CurrentMemoryContext. */
char *
sc_library_code(void)
{
	static const char mark[] = "@VERSION@";
	const char *at = strstr(library, mark);
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, "#!lua name=scalecache\n");
	appendBinaryStringInfo(&buf, library, (int) (at - library));
	appendStringInfoString(&buf, sc_library_version());
	appendStringInfoString(&buf, at + strlen(mark));
	return buf.data;
}
