/*-------------------------------------------------------------------------
 *
 * named.c
 *	  Statements whose parameters have names.
 *
 * In functions the text names variables where the tree has parameters.  A
 * backend keeps such texts with $1... in these places, those used last.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "common/hashfn.h"
#include "lib/ilist.h"
#include "lib/stringinfo.h"
#include "nodes/nodeFuncs.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/queryjumble.h"

#include "advisor/named.h"
#include "advisor/recorded.h"

#define SC_NAMED_MAX		(2 * 1024 * 1024)	/* bytes of what is kept */

/*
 * Which text it is: two functions may have the same statement but for its
 * constants, and those have no part in the id.
 */
typedef struct NamedKey
{
	uint64		queryid;
	uint64		place;			/* hash of the source and where in it */
} NamedKey;

typedef struct Named
{
	NamedKey	key;			/* must be first */
	dlist_node	node;			/* of named_used */
	ScNamedText text;
} Named;

#define named_size(entry) \
	(sizeof(Named) + strlen((entry)->text.text) + \
	 sizeof(int) * (entry)->text.nparams)

static HTAB *named = NULL;
static dlist_head named_used = DLIST_STATIC_INIT(named_used);	/* last first */
static Size named_bytes = 0;

static NamedKey
named_key(uint64 queryid, const char *source, int location)
{
	NamedKey	key;

	key.queryid = queryid;
	key.place = hash_bytes_extended((const unsigned char *) source,
									strlen(source), Max(location, 0));
	return key;
}

/* What is kept of a statement at some place of a source text, or NULL. */
ScNamedText *
sc_named_find(uint64 queryid, const char *source, int location)
{
	Named	   *found = NULL;

	if (named != NULL && source != NULL)
	{
		NamedKey	key = named_key(queryid, source, location);

		found = hash_search(named, &key, HASH_FIND, NULL);
	}
	if (found != NULL)
		dlist_move_head(&named_used, &found->node);
	return found != NULL ? &found->text : NULL;
}

typedef struct ParamPlaces
{
	List	   *params;			/* of Param */
} ParamPlaces;

static bool
collect_params(Node *node, ParamPlaces *places)
{
	if (node == NULL)
		return false;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXTERN &&
		((Param *) node)->location >= 0)
		places->params = lappend(places->params, node);
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, collect_params, places, 0);
	return expression_tree_walker(node, collect_params, places);
}

static int
compare_location(const ListCell *a, const ListCell *b)
{
	return ((Param *) lfirst(a))->location - ((Param *) lfirst(b))->location;
}

/* Where a name, perhaps qualified, ends. */
static const char *
skip_name(const char *s)
{
	for (;;)
	{
		if (*s == '"')
		{
			s++;
			while (*s != '\0' && (*s != '"' || s[1] == '"'))
				s += (*s == '"') ? 2 : 1;
			if (*s == '"')
				s++;
		}
		else
		{
			while (*s == '_' || *s == '$' || isalnum((unsigned char) *s) ||
				   IS_HIGHBIT_SET(*s))
				s++;
		}
		if (*s != '.')
			return s;
		s++;
	}
}

/* Forget the statements that were not used for longest. */
static void
forget_named(void)
{
	while (named_bytes > SC_NAMED_MAX)
	{
		Named	   *last = dlist_tail_element(Named, node, &named_used);

		dlist_delete(&last->node);
		named_bytes -= named_size(last);
		pfree(last->text.text);
		pfree(last->text.paramids);
		(void) hash_search(named, &last->key, HASH_REMOVE, NULL);
	}
}

/* False if no parameter has a name. */
static bool
keep_named(Query *query, const char *source, List *params)
{
	int			location = query->stmt_location;
	int			len = query->stmt_len;
	const char *text = CleanQuerytext(source, &location, &len);
	const char *from = text;
	const char *end = text + len;
	NamedKey	key = named_key(query->queryId, source,
								query->stmt_location);
	Named	   *entry;
	char	   *kept_text;
	int		   *kept_ids;
	StringInfoData buf;
	ListCell   *lc;
	bool		anynamed = false;
	int		   *ids = (int *) palloc(sizeof(int) * list_length(params));
	int			nids = 0;
	bool		found;

	list_sort(params, compare_location);
	initStringInfo(&buf);
	foreach(lc, params)
	{
		Param	   *param = (Param *) lfirst(lc);
		const char *at = source + param->location;
		int			k;

		if (at < from || at >= end)
			continue;
		if (*at != '$')
			anynamed = true;
		for (k = 0; k < nids && ids[k] != param->paramid; k++)
			;
		if (k == nids)
			ids[nids++] = param->paramid;
		appendBinaryStringInfo(&buf, from, at - from);
		from = skip_name(at);
		if (*from == '*' && from[-1] == '.')
		{
			appendStringInfo(&buf, "($%d).*", k + 1);
			from++;
		}
		else
			appendStringInfo(&buf, "$%d", k + 1);
	}
	if (!anynamed || from > end || len > SC_TEXT_MAX)
		return false;
	appendBinaryStringInfo(&buf, from, end - from);

	if (named == NULL)
	{
		HASHCTL		ctl;

		ctl.keysize = sizeof(NamedKey);
		ctl.entrysize = sizeof(Named);
		named = hash_create("scalecache named parameters", 64, &ctl,
							HASH_ELEM | HASH_BLOBS);
	}
	kept_text = MemoryContextStrdup(TopMemoryContext, buf.data);
	kept_ids = (int *) MemoryContextAlloc(TopMemoryContext,
										  sizeof(int) * nids);
	memcpy(kept_ids, ids, sizeof(int) * nids);
	entry = hash_search(named, &key, HASH_ENTER, &found);
	Assert(!found);
	entry->text.text = kept_text;
	entry->text.nparams = nids;
	entry->text.paramids = kept_ids;
	dlist_push_head(&named_used, &entry->node);
	named_bytes += named_size(entry);
	forget_named();
	return true;
}

/* Keep a statement that has just been parsed.  False if it need not be. */
bool
sc_named_keep(Query *query, const char *source)
{
	ParamPlaces places = {NIL};

	if (sc_named_find(query->queryId, source, query->stmt_location) != NULL)
		return false;
	(void) collect_params((Node *) query, &places);
	return places.params != NIL && keep_named(query, source, places.params);
}
