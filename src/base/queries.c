/*
 * queries.c: queries and weights, as the calls for advice take them.
 *
 * What must always hold: a weight is a finite number, so that sums of
 * weighted costs are, and can be compared.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "base/queries.h"

/* With costs, and all of them added up, it must stay finite. */
#define SC_MAX_WEIGHT	1e100

static double *
read_weights(ArrayType *array, int nqueries)
{
	double	   *weights = (double *) palloc(sizeof(double) * Max(1, nqueries));
	Datum	   *values;
	bool	   *nulls;
	int			n;

	deconstruct_array(array, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &values, &nulls, &n);
	if (n != nqueries)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("there are %d queries and %d weights", nqueries, n),
				 errdetail("A weight says how often its query is executed."),
				 errhint("Give one weight for each query, or none at all.")));
	for (int i = 0; i < n; i++)
	{
		weights[i] = nulls[i] ? -1 : DatumGetFloat8(values[i]);
		if (isnan(weights[i]) || weights[i] > SC_MAX_WEIGHT || weights[i] < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 weights[i] > SC_MAX_WEIGHT && !isinf(weights[i]) ?
					 errmsg("weight %d is greater than %g", i + 1, SC_MAX_WEIGHT) :
					 errmsg("weight %d is not a number of zero or more", i + 1),
					 errhint("A weight says how often its query is executed.")));
	}
	return weights;
}

int
sc_queries_given(FunctionCallInfo fcinfo, int n, char ***queries,
				 double **weights)
{
	Datum	   *texts;
	bool	   *nulls;
	int			nqueries;

	if (PG_ARGISNULL(n))
	{
		if (!PG_ARGISNULL(n + 1))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("weights cannot be given without queries"),
					 errhint("Recorded statements are weighted by their calls.")));
		return -1;
	}
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(n), TEXTOID, -1, false,
					  TYPALIGN_INT, &texts, &nulls, &nqueries);
	*queries = (char **) palloc(sizeof(char *) * Max(1, nqueries));
	for (int i = 0; i < nqueries; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("query %d is null", i + 1),
					 errhint("Leave it out.")));
		(*queries)[i] = TextDatumGetCString(texts[i]);
	}
	if (!PG_ARGISNULL(n + 1))
		*weights = read_weights(PG_GETARG_ARRAYTYPE_P(n + 1), nqueries);
	else
	{
		*weights = (double *) palloc(sizeof(double) * Max(1, nqueries));
		for (int i = 0; i < nqueries; i++)
			(*weights)[i] = 1;
	}
	return nqueries;
}

/* SELECT ... INTO is CREATE TABLE AS, too. */
static void
strip_into(Node *node)
{
	SelectStmt *stmt = (SelectStmt *) node;

	if (!IsA(node, SelectStmt))
		return;
	/* Of UNION and the like the first one has it. */
	while (stmt->op != SETOP_NONE)
		stmt = stmt->larg;
	stmt->intoClause = NULL;
}

RawStmt *
sc_query_inside(RawStmt *raw)
{
	Node	   *stmt = raw->stmt;

	for (;;)
	{
		if (IsA(stmt, ExplainStmt))
			stmt = ((ExplainStmt *) stmt)->query;
		else if (IsA(stmt, DeclareCursorStmt))
			stmt = ((DeclareCursorStmt *) stmt)->query;
		else if (IsA(stmt, CreateTableAsStmt) &&
				 !IsA(((CreateTableAsStmt *) stmt)->query, ExecuteStmt))
			stmt = ((CreateTableAsStmt *) stmt)->query;
		else if (IsA(stmt, PrepareStmt))
			stmt = ((PrepareStmt *) stmt)->query;
		else if (IsA(stmt, CopyStmt) && ((CopyStmt *) stmt)->query != NULL)
			stmt = ((CopyStmt *) stmt)->query;
		else
			break;
	}
	if (stmt != raw->stmt)
	{
		raw = (RawStmt *) copyObject(raw);
		raw->stmt = stmt;
	}
	strip_into(raw->stmt);
	return raw;
}
