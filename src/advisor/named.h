/*
 * named.h: statements whose parameters have names.
 */
#ifndef SC_NAMED_H
#define SC_NAMED_H

#include "nodes/parsenodes.h"

/* The text with $1... instead, and the parameters that these are. */
typedef struct ScNamedText
{
	char	   *text;
	int			nparams;
	int		   *paramids;
} ScNamedText;

extern ScNamedText *sc_named_find(uint64 queryid, const char *source,
								  int location);
extern bool sc_named_keep(Query *query, const char *source);

#endif							/* SC_NAMED_H */
