/*-------------------------------------------------------------------------
 *
 * queryid.c
 *	  The server's query ids, computed seldom.
 *
 * The server computes an id by writing out the whole query, which is a
 * fortieth of a primary key lookup.  So it is asked for each query once in a
 * backend.  Afterwards the query is known by its fingerprint, for which the
 * same fields are multiplied into one number on the way.
 *
 * What must always hold: queries with the same fingerprint have the same id.
 * So all that JumbleQuery looks at has to go in, in its order; more may.  Of
 * queries with anything else in them there is no fingerprint, and the server
 * is asked each time.  Builds with assertions ask it each time in any case.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "nodes/primnodes.h"
#include "utils/queryjumble.h"

#include "advisor/queryid.h"

#define SC_KNOWN_SIZE		512 /* fingerprints a backend remembers */
#define SC_MULTIPLIER		UINT64CONST(0x9E3779B97F4A7C15)

typedef struct Known
{
	uint64		fingerprint;
	uint64		queryid;		/* 0: none */
} Known;

static Known known[SC_KNOWN_SIZE];

/* Was there something that is not looked into here? */
static bool strange;

static uint64 add_query(uint64 h, Query *query);

/* Two numbers of 32 bits at a time; each step is one to one in both. */
#define ADD2(a, b) \
	(h = add(h, (uint64) (uint32) (a) | (uint64) (uint32) (b) << 32))

/* Something may be absent, and what follows must not take its place. */
#define ADD_CHILD(child) \
	(h = (child) != NULL ? add_node(h, child) : h + SC_MULTIPLIER)

static inline uint64
add(uint64 h, uint64 value)
{
	h = (h ^ value) * SC_MULTIPLIER;
	return h ^ (h >> 32);
}

static uint64
add_string(uint64 h, const char *s)
{
	return add(h, hash_bytes_extended((const unsigned char *) s, strlen(s), 0));
}

static uint64
add_node(uint64 h, void *node)
{
	ListCell   *lc;

	/* No chain of these is long without a list: no look at the stack. */
	switch (nodeTag(node))
	{
		case T_Var:
			ADD2(T_Var, ((Var *) node)->varno);
			ADD2(((Var *) node)->varattno, ((Var *) node)->varlevelsup);
			return h;
		case T_Const:
			ADD2(T_Const, ((Const *) node)->consttype);
			return h;
		case T_Param:
			ADD2(T_Param, ((Param *) node)->paramkind);
			ADD2(((Param *) node)->paramid, ((Param *) node)->paramtype);
			return h;
		case T_RangeTblRef:
			ADD2(T_RangeTblRef, ((RangeTblRef *) node)->rtindex);
			return h;
		case T_SortGroupClause:
			{
				SortGroupClause *clause = (SortGroupClause *) node;

				ADD2(T_SortGroupClause, clause->tleSortGroupRef);
				ADD2(clause->eqop, clause->sortop);
				ADD2(clause->nulls_first, 0);
				return h;
			}
		case T_SetToDefault:
			ADD2(T_SetToDefault, ((SetToDefault *) node)->typeId);
			return h;
		case T_CaseTestExpr:
			ADD2(T_CaseTestExpr, ((CaseTestExpr *) node)->typeId);
			return h;
		case T_SQLValueFunction:
			ADD2(T_SQLValueFunction, ((SQLValueFunction *) node)->op);
			ADD2(((SQLValueFunction *) node)->typmod, 0);
			return h;
		case T_TargetEntry:
			ADD2(T_TargetEntry, ((TargetEntry *) node)->resno);
			ADD2(((TargetEntry *) node)->ressortgroupref, 0);
			ADD_CHILD(((TargetEntry *) node)->expr);
			return h;
		case T_FromExpr:
			ADD2(T_FromExpr, 0);
			ADD_CHILD(((FromExpr *) node)->fromlist);
			ADD_CHILD(((FromExpr *) node)->quals);
			return h;
		case T_OpExpr:
		case T_DistinctExpr:	/* struct-equivalent to OpExpr */
		case T_NullIfExpr:		/* struct-equivalent to OpExpr */
			ADD2(nodeTag(node), ((OpExpr *) node)->opno);
			ADD_CHILD(((OpExpr *) node)->args);
			return h;
		case T_ScalarArrayOpExpr:
			ADD2(T_ScalarArrayOpExpr, ((ScalarArrayOpExpr *) node)->opno);
			ADD2(((ScalarArrayOpExpr *) node)->useOr, 0);
			ADD_CHILD(((ScalarArrayOpExpr *) node)->args);
			return h;
		case T_FuncExpr:
			ADD2(T_FuncExpr, ((FuncExpr *) node)->funcid);
			ADD_CHILD(((FuncExpr *) node)->args);
			return h;
		case T_BoolExpr:
			ADD2(T_BoolExpr, ((BoolExpr *) node)->boolop);
			ADD_CHILD(((BoolExpr *) node)->args);
			return h;
		case T_Aggref:
			{
				Aggref	   *agg = (Aggref *) node;

				ADD2(T_Aggref, agg->aggfnoid);
				ADD_CHILD(agg->aggdirectargs);
				ADD_CHILD(agg->args);
				ADD_CHILD(agg->aggorder);
				ADD_CHILD(agg->aggdistinct);
				ADD_CHILD(agg->aggfilter);
				return h;
			}
		case T_IntList:
			ADD2(T_IntList, list_length(node));
			foreach(lc, (List *) node)
				ADD2(lfirst_int(lc), 0);
			return h;
		default:
			break;
	}

	check_stack_depth();

	switch (nodeTag(node))
	{
		case T_List:
			ADD2(T_List, list_length(node));
			foreach(lc, (List *) node)
				ADD_CHILD(lfirst(lc));
			break;
		case T_JoinExpr:
			{
				JoinExpr   *join = (JoinExpr *) node;

				ADD2(T_JoinExpr, join->jointype);
				ADD2(join->isNatural, join->rtindex);
				ADD_CHILD(join->larg);
				ADD_CHILD(join->rarg);
				ADD_CHILD(join->quals);
				break;
			}
		case T_WindowFunc:
			{
				WindowFunc *func = (WindowFunc *) node;

				ADD2(T_WindowFunc, func->winfnoid);
				ADD2(func->winref, 0);
				ADD_CHILD(func->args);
				ADD_CHILD(func->aggfilter);
				break;
			}
		case T_WindowClause:
			{
				WindowClause *clause = (WindowClause *) node;

				ADD2(T_WindowClause, clause->winref);
				ADD2(clause->frameOptions, 0);
				ADD_CHILD(clause->partitionClause);
				ADD_CHILD(clause->orderClause);
				ADD_CHILD(clause->startOffset);
				ADD_CHILD(clause->endOffset);
				break;
			}
		case T_SubLink:
			{
				SubLink    *sublink = (SubLink *) node;

				ADD2(T_SubLink, sublink->subLinkType);
				ADD2(sublink->subLinkId, 0);
				ADD_CHILD(sublink->testexpr);
				h = add_query(h, castNode(Query, sublink->subselect));
				break;
			}
		case T_RelabelType:
			ADD2(T_RelabelType, ((RelabelType *) node)->resulttype);
			ADD_CHILD(((RelabelType *) node)->arg);
			break;
		case T_CoerceViaIO:
			ADD2(T_CoerceViaIO, ((CoerceViaIO *) node)->resulttype);
			ADD_CHILD(((CoerceViaIO *) node)->arg);
			break;
		case T_NullTest:
			ADD2(T_NullTest, ((NullTest *) node)->nulltesttype);
			ADD_CHILD(((NullTest *) node)->arg);
			break;
		case T_BooleanTest:
			ADD2(T_BooleanTest, ((BooleanTest *) node)->booltesttype);
			ADD_CHILD(((BooleanTest *) node)->arg);
			break;
		case T_CaseExpr:
			ADD2(T_CaseExpr, list_length(((CaseExpr *) node)->args));
			ADD_CHILD(((CaseExpr *) node)->arg);
			foreach(lc, ((CaseExpr *) node)->args)
			{
				ADD_CHILD(lfirst_node(CaseWhen, lc)->expr);
				ADD_CHILD(lfirst_node(CaseWhen, lc)->result);
			}
			ADD_CHILD(((CaseExpr *) node)->defresult);
			break;
		case T_CoalesceExpr:
			ADD2(T_CoalesceExpr, 0);
			ADD_CHILD(((CoalesceExpr *) node)->args);
			break;
		case T_MinMaxExpr:
			ADD2(T_MinMaxExpr, ((MinMaxExpr *) node)->op);
			ADD_CHILD(((MinMaxExpr *) node)->args);
			break;
		case T_ArrayExpr:
			ADD2(T_ArrayExpr, 0);
			ADD_CHILD(((ArrayExpr *) node)->elements);
			break;
		case T_RowExpr:
			ADD2(T_RowExpr, 0);
			ADD_CHILD(((RowExpr *) node)->args);
			break;
		case T_CommonTableExpr:
			{
				CommonTableExpr *cte = (CommonTableExpr *) node;

				ADD2(T_CommonTableExpr, cte->ctematerialized);
				h = add_string(h, cte->ctename);
				h = add_query(h, castNode(Query, cte->ctequery));
				break;
			}
		case T_SetOperationStmt:
			ADD2(T_SetOperationStmt, ((SetOperationStmt *) node)->op);
			ADD2(((SetOperationStmt *) node)->all, 0);
			ADD_CHILD(((SetOperationStmt *) node)->larg);
			ADD_CHILD(((SetOperationStmt *) node)->rarg);
			break;
		case T_OnConflictExpr:
			{
				OnConflictExpr *conflict = (OnConflictExpr *) node;

				ADD2(T_OnConflictExpr, conflict->action);
				ADD2(conflict->constraint, conflict->exclRelIndex);
				ADD_CHILD(conflict->arbiterElems);
				ADD_CHILD(conflict->arbiterWhere);
				ADD_CHILD(conflict->onConflictSet);
				ADD_CHILD(conflict->onConflictWhere);
				ADD_CHILD(conflict->exclRelTlist);
				break;
			}
		case T_InferenceElem:
			ADD2(T_InferenceElem, 0);
			ADD2(((InferenceElem *) node)->infercollid,
				 ((InferenceElem *) node)->inferopclass);
			ADD_CHILD(((InferenceElem *) node)->expr);
			break;
		case T_RowMarkClause:
			{
				RowMarkClause *mark = (RowMarkClause *) node;

				ADD2(mark->rti, mark->strength);
				ADD2(mark->waitPolicy, mark->pushedDown);
				break;
			}
		case T_RangeTblFunction:
			ADD2(T_RangeTblFunction, 0);
			ADD_CHILD(((RangeTblFunction *) node)->funcexpr);
			break;
		default:
			strange = true;
			break;
	}
	return h;
}

static uint64
add_entry(uint64 h, RangeTblEntry *rte)
{
	switch (rte->rtekind)
	{
		case RTE_RELATION:
			ADD2(RTE_RELATION, rte->relid);
			ADD2(rte->inh, 0);
			ADD_CHILD(rte->tablesample);
			break;
		case RTE_SUBQUERY:
			ADD2(RTE_SUBQUERY, 0);
			h = add_query(h, rte->subquery);
			break;
		case RTE_JOIN:
			ADD2(RTE_JOIN, rte->jointype);
			break;
		case RTE_FUNCTION:
			ADD2(RTE_FUNCTION, 0);
			ADD_CHILD(rte->functions);
			break;
		case RTE_VALUES:
			ADD2(RTE_VALUES, 0);
			ADD_CHILD(rte->values_lists);
			break;
		case RTE_CTE:
			ADD2(RTE_CTE, rte->ctelevelsup);
			h = add_string(h, rte->ctename);
			break;
		case RTE_RESULT:
			ADD2(RTE_RESULT, 0);
			break;
		default:
			strange = true;
			break;
	}
	return h;
}

static uint64
add_query(uint64 h, Query *query)
{
	ListCell   *lc;

	ADD2(query->commandType, list_length(query->rtable));
	ADD2(query->groupDistinct, query->limitOption);
	if (query->mergeActionList || query->groupingSets)
		strange = true;
	ADD_CHILD(query->cteList);
	foreach(lc, query->rtable)
		h = add_entry(h, lfirst_node(RangeTblEntry, lc));
	ADD_CHILD(query->jointree);
	ADD_CHILD(query->targetList);
	ADD_CHILD(query->onConflict);
	ADD_CHILD(query->returningList);
	ADD_CHILD(query->groupClause);
	ADD_CHILD(query->havingQual);
	ADD_CHILD(query->windowClause);
	ADD_CHILD(query->distinctClause);
	ADD_CHILD(query->sortClause);
	ADD_CHILD(query->limitOffset);
	ADD_CHILD(query->limitCount);
	ADD_CHILD(query->rowMarks);
	ADD_CHILD(query->setOperations);
	return h;
}

/* What the server says. */
static uint64
ask_server(Query *query, const char *source)
{
	uint64		before = query->queryId;
	bool		enabled = query_id_enabled;
	uint64		result;

	/* It asserts that somebody wants ids. */
	query_id_enabled = true;
	PG_TRY();
	{
		(void) JumbleQuery(query, source);
	}
	PG_FINALLY();
	{
		query_id_enabled = enabled;
	}
	PG_END_TRY();
	result = query->queryId;
	query->queryId = before;
	return result;
}

void
sc_queryid_set(Query *query, const char *source)
{
	uint64		fingerprint;
	Known	   *entry;

	Assert(query->utilityStmt == NULL);
	strange = false;
	fingerprint = add_query(0, query);
	if (strange)
	{
		query->queryId = ask_server(query, source);
		return;
	}
	entry = &known[fingerprint % SC_KNOWN_SIZE];
	if (entry->fingerprint != fingerprint || entry->queryid == 0)
	{
		entry->queryid = ask_server(query, source);
		entry->fingerprint = fingerprint;
	}
	Assert(entry->queryid == ask_server(query, source));
	query->queryId = entry->queryid;
}
