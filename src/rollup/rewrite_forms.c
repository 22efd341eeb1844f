/*
 * rewrite_forms.c: a rollup's expressions, as queries are compared with them.
 *
 * They are simplified as the planner simplifies a query's, once for all
 * queries of a session.  The queries need not name the rollup, nor their users
 * know it.  So nothing that goes wrong here is theirs: it is the reason why
 * the rollup does not answer.  And bodies of SQL functions are inlined with
 * names found as when the rollup was created, and as who writes does it,
 * whatever the session's search_path is.  A query whose own functions are
 * inlined to something else does not match.
 */
#include "postgres.h"

#include "access/nbtree.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/prep.h"
#include "rewrite/rewriteManip.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "base/attempt.h"
#include "rollup/rewrite.h"

/* Are values of the expression that are equal also identical? */
bool
sc_expr_is_sharp(Expr *expr)
{
	Oid			exprtype = exprType((Node *) expr);
	Oid			collation = exprCollation((Node *) expr);
	TypeCacheEntry *type = lookup_type_cache(exprtype, TYPECACHE_BTREE_OPFAMILY);
	Oid			intype = type->btree_opintype;
	int32		typmod = exprTypmod((Node *) expr);
	Oid			proc;

	/* A column of so many decimals has all of them. */
	if (exprtype == NUMERICOID && typmod >= VARHDRSZ && IsA(expr, Var))
		return true;
	/* What indexes are told of these is not so in some versions. */
	switch (getBaseTypeAndTypmod(exprtype, &typmod))
	{
		case BPCHAROID:
			/* Blanks at the end are no part of it, but octet_length counts them. */
			return typmod >= (int32) VARHDRSZ && IsA(expr, Var) &&
				get_collation_isdeterministic(collation);
		case INTERVALOID:
			return false;
		default:
			break;
	}
	if (!OidIsValid(type->btree_opf))
		return false;
	proc = get_opfamily_proc(type->btree_opf, intype, intype, BTEQUALIMAGE_PROC);
	return OidIsValid(proc) &&
		DatumGetBool(OidFunctionCall1Coll(proc, collation, ObjectIdGetDatum(intype)));
}

/* Simplified as a query's are, over varno 1, in CurrentMemoryContext. */
static Node *
simplified(void *expr, Index varno)
{
	Node	   *copy = copyObject(expr);

	if (varno != 1)
		ChangeVarNodes(copy, varno, 1, 0);
	return eval_const_expressions(NULL, sc_strip_plain_casts(copy, NULL));
}

static ScForms *
make_forms(ScSpec *spec)
{
	ScForms    *forms = palloc0(sizeof(ScForms));
	ListCell   *lc;

	forms->keys = palloc0(sizeof(Expr *) * (spec->nkeys + 1));
	forms->sharp = palloc0(sizeof(bool) * (spec->nkeys + 1));
	forms->args = palloc0(sizeof(List *) * (spec->nslots + 1));
	forms->filters = palloc0(sizeof(Node *) * (spec->nslots + 1));
	for (int i = 0; i < spec->nkeys; i++)
	{
		forms->keys[i] = (Expr *) simplified(spec->keys[i].expr, 1);
		forms->sharp[i] = sc_expr_is_sharp(spec->keys[i].expr);
		pull_varattnos((Node *) forms->keys[i], 1, &forms->keyattrs);
	}
	for (int i = 0; i < spec->naggs; i++)
		forms->aggs = lappend(forms->aggs, simplified(spec->aggs[i].aggref, spec->srcvarno));
	for (int i = 0; i < spec->nslots; i++)
	{
		forms->args[i] = (List *) simplified(spec->slots[i].args, 1);
		if (spec->slots[i].filter)
			forms->filters[i] = simplified(spec->slots[i].filter, 1);
	}
	foreach(lc, spec->part == SC_PART_STORED ? sc_stored_quals(spec) : spec->quals)
		forms->quals = lappend(forms->quals, simplified(lfirst(lc), 1));
	if (forms->quals)
		forms->quals =
			make_ands_implicit(canonicalize_qual(make_ands_explicit(forms->quals), false));
	return forms;
}

typedef struct Making
{
	ScSpec	   *spec;
	MemoryContext cxt;			/* what was made goes when the rest cannot be */
} Making;

/* With the rights that what the rollup runs has elsewhere too. */
static void
make_forms_as_owner(void *arg)
{
	Making	   *making = arg;
	ScSpec	   *spec = making->spec;
	MemoryContext old = MemoryContextSwitchTo(making->cxt);
	ScIdentity	caller;
	ScForms    *forms;

	sc_become_owner(spec, &caller);
	forms = make_forms(spec);
	sc_become_caller(&caller);
	spec->forms = forms;
	MemoryContextSwitchTo(old);
}

/* Make them, or find out why that cannot be done. */
static void
try_forms(ScSpec *spec)
{
	Making		making = {spec, AllocSetContextCreate(spec->cxt, "scalecache forms",
													  ALLOCSET_SMALL_SIZES)};
	ErrorData  *error = sc_attempt(make_forms_as_owner, &making, true);

	if (error == NULL)
		return;
	spec->forms = NULL;
	MemoryContextDelete(making.cxt);
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	if (spec->formless)
		pfree(spec->formless);
	spec->formless = MemoryContextStrdup(spec->cxt, error->message);
	spec->formless_at = GetCurrentStatementStartTimestamp();
	FreeErrorData(error);
}

static bool
is_of_users(Oid funcid, void *context)
{
	return funcid >= FirstNormalObjectId;
}

static bool
calls_functions_of_users(Node *node, void *context)
{
	return node != NULL &&
		(check_functions_in_node(node, is_of_users, context) ||
		 (IsA(node, Query) ?
		  query_tree_walker((Query *) node, calls_functions_of_users, context, 0) :
		  expression_tree_walker(node, calls_functions_of_users, context)));
}

/*
 * Has the rollup, which is pinned, forms to be compared with?  If not,
 * spec->formless says why, or nothing where it cannot be tried.
 */
bool
sc_spec_has_forms(ScSpec *spec)
{
	if (spec->forms)
		return true;
	/* What is missing may come back, of which nothing tells us. */
	if (spec->formless &&
		GetCurrentStatementStartTimestamp() - spec->formless_at < USECS_PER_SEC)
		return false;
	/*
	 * Subtransactions cannot be begun there: only what worked when the rollup
	 * was created, and can have become nothing else since, is done without.
	 */
	if (!IsInParallelMode())
		try_forms(spec);
	else if (!calls_functions_of_users((Node *) spec->query, NULL))
		make_forms_as_owner(&(Making) {spec, spec->cxt});
	return spec->forms != NULL;
}
