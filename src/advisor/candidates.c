/*-------------------------------------------------------------------------
 *
 * candidates.c
 *	  Which indexes a statement could use, from how it uses its tables.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "catalog/pg_am.h"
#include "catalog/pg_statistic.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/acl.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "advisor/choose.h"

/* Of a statement's executions, those that must have a constant. */
#define SC_PRED_WEIGHT		0.8
/* All of them, but for rounding. */
#define SC_ALL				0.999
/* Executions that had a value as a parameter, for it to be a constant. */
#define SC_PRED_SEEN		4
/* The same that had a range of many values written into them ... */
#define SC_SPAN_SEEN		3
/* ... and, of times, for so long: a day's report is gone the next day. */
#define SC_SPAN_AGE			USECS_PER_DAY
/* A partial index must leave out at least the rest of the rows... */
#define SC_PRED_PART		0.75
/* ...or of those not deleted, as marked by a time or a boolean. */
#define SC_LIVE_PART		0.97
/* A column of which this part is NULL may be indexed without these rows. */
#define SC_SPARSE			0.5
/* Columns with so few values are no good as the first. */
#define SC_COARSE			10
#define SC_MAX_EQ			4
#define SC_MAX_KEYS			10
#define SC_MAX_INCLUDE		8
/* Widest covering index, as a part of the row's width. */
#define SC_MAX_WIDTH		0.6
#define SC_BRIN_PAGES		2048
/* Bytes of values that are long, on average, of so many rows. */
#define SC_LONG_VALUE		256
/* Bytes that may be too many for an entry of a btree, with its headers. */
#define SC_TOO_LONG			(BLCKSZ / 3 - 64)

/* Fill factor of an index that is only read. */
#define SC_FULL				100
#define SC_BRIN_CORRELATION 0.9

/* How a column's order goes with the table's, from -1 to 1; 0 when not known. */
static double
correlation_of(Oid relid, Node *expr)
{
	HeapTuple	tuple;
	AttStatsSlot slot;
	double		result = 0;

	if (!IsA(expr, Var))
		return 0;
	tuple = SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(relid),
							Int16GetDatum(((Var *) expr)->varattno),
							BoolGetDatum(false));
	if (!HeapTupleIsValid(tuple))
		return 0;
	if (get_attstatsslot(&slot, tuple, STATISTIC_KIND_CORRELATION, InvalidOid,
						 ATTSTATSSLOT_NUMBERS))
	{
		if (slot.nnumbers > 0)
			result = slot.numbers[0];
		free_attstatsslot(&slot);
	}
	ReleaseSysCache(tuple);
	return result;
}

static bool
same_column(ScKeyCol *a, ScKeyCol *b)
{
	return equal(a->expr, b->expr);
}

static bool
has_column(List *keys, ScKeyCol *col)
{
	ListCell   *lc;

	foreach(lc, keys)
	{
		if (same_column((ScKeyCol *) lfirst(lc), col))
			return true;
	}
	return false;
}

/* Keys with further ones, each column once. */
static List *
extended(List *keys, List *more)
{
	List	   *result = list_copy(keys);
	ListCell   *lc;

	foreach(lc, more)
	{
		ScKeyCol   *col = (ScKeyCol *) lfirst(lc);

		if (!has_column(result, col) && list_length(result) < INDEX_MAX_KEYS)
			result = lappend(result, col);
	}
	return result;
}

static void
append_signature(StringInfo buf, Node *node)
{
	/* Where in the text something stood makes no difference. */
	char	   *text = nodeToString(node);
	char	   *at;

	while ((at = strstr(text, ":location ")) != NULL)
	{
		appendBinaryStringInfo(buf, text, at - text);
		text = at + strlen(":location ");
		while (*text == '-' || isdigit((unsigned char) *text))
			text++;
	}
	appendStringInfoString(buf, text);
}

static char *
signature_of(Oid relid, List *keys, List *include, List *pred)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	appendStringInfo(&buf, "%u", relid);
	foreach(lc, keys)
	{
		ScKeyCol   *col = (ScKeyCol *) lfirst(lc);

		appendStringInfo(&buf, " %u %u %d ", col->opclass, col->collation,
						 col->option);
		if (IsA(col->expr, Var))
			appendStringInfo(&buf, "%d", ((Var *) col->expr)->varattno);
		else
			append_signature(&buf, col->expr);
	}
	foreach(lc, include)
		appendStringInfo(&buf, " +%d", lfirst_int(lc));
	foreach(lc, pred)
	{
		appendStringInfoString(&buf, " ? ");
		append_signature(&buf, (Node *) lfirst(lc));
	}
	return buf.data;
}

/*
 * Would nothing ever come between the entries that a build has packed?  What
 * was recorded is not all that happens, so the table's counters must agree.
 */
static bool
is_read_only(ScAdvice *advice, Oid relid)
{
	ListCell   *lc;

	/* Partitions are written under their own name and under others. */
	if (get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE ||
		get_rel_relispartition(relid))
		return false;

	foreach(lc, advice->writes)
	{
		if (((ScWrite *) lfirst(lc))->relid == relid)
			return false;
	}
	return advice->given ||
		DatumGetInt64(DirectFunctionCall1(pg_stat_get_mod_since_analyze,
										  ObjectIdGetDatum(relid))) == 0;
}

static ScHypo *
make_hypo(ScAdvice *advice, Oid relid, List *keys, List *include, List *pred)
{
	ScHypo	   *hypo = (ScHypo *) palloc0(sizeof(ScHypo));
	ListCell   *lc;
	int			i = 0;

	hypo->relid = relid;
	hypo->am = ((ScKeyCol *) linitial(keys))->am;
	hypo->nkeys = list_length(keys);
	hypo->natts = hypo->nkeys + list_length(include);
	hypo->attnums = (AttrNumber *) palloc0(sizeof(AttrNumber) * hypo->natts);
	hypo->opclass = (Oid *) palloc0(sizeof(Oid) * hypo->nkeys);
	hypo->opfamily = (Oid *) palloc0(sizeof(Oid) * hypo->nkeys);
	hypo->opcintype = (Oid *) palloc0(sizeof(Oid) * hypo->nkeys);
	hypo->collation = (Oid *) palloc0(sizeof(Oid) * hypo->nkeys);
	hypo->options = (int16 *) palloc0(sizeof(int16) * hypo->nkeys);
	hypo->dedup = true;
	/* Where space counts, none is left for entries that will not come. */
	if (advice->max_size >= 0 && hypo->am == BTREE_AM_OID &&
		is_read_only(advice, relid))
		hypo->fillfactor = SC_FULL;
	foreach(lc, keys)
	{
		ScKeyCol   *col = (ScKeyCol *) lfirst(lc);

		if (IsA(col->expr, Var))
			hypo->attnums[i] = ((Var *) col->expr)->varattno;
		else
			hypo->exprs = lappend(hypo->exprs, col->expr);
		hypo->opclass[i] = col->opclass;
		hypo->collation[i] = col->collation;
		hypo->options[i] = col->am == BTREE_AM_OID ? col->option : 0;
		i++;
	}
	foreach(lc, include)
		hypo->attnums[i++] = lfirst_int(lc);
	hypo->pred = (List *) copyObject(pred);
	return hypo;
}

static Bitmapset *
columns_of(List *keys, List *include, List *pred)
{
	Bitmapset  *attrs = NULL;
	Bitmapset  *result = NULL;
	ListCell   *lc;
	int			x = -1;

	foreach(lc, keys)
		pull_varattnos(((ScKeyCol *) lfirst(lc))->expr, 1, &attrs);
	pull_varattnos((Node *) pred, 1, &attrs);
	while ((x = bms_next_member(attrs, x)) >= 0)
		result = bms_add_member(result,
								x + FirstLowInvalidHeapAttributeNumber);
	foreach(lc, include)
		result = bms_add_member(result, lfirst_int(lc));
	return result;
}

static int
compare_signature(const ListCell *a, const ListCell *b)
{
	StringInfoData x;
	StringInfoData y;

	initStringInfo(&x);
	initStringInfo(&y);
	append_signature(&x, (Node *) lfirst(a));
	append_signature(&y, (Node *) lfirst(b));
	return strcmp(x.data, y.data);
}

/* The candidate with these columns, new or not. */
ScCandidate *
sc_candidate_add(ScAdvice *advice, Oid relid, List *keys, List *include,
				 List *pred)
{
	MemoryContext oldcxt = MemoryContextSwitchTo(advice->study->cxt);
	ScCandidate *cand;
	char	   *signature;
	ListCell   *lc;

	pred = list_copy(pred);
	list_sort(pred, compare_signature);
	include = list_copy(include);
	list_sort(include, list_int_cmp);
	signature = signature_of(relid, keys, include, pred);
	foreach(lc, advice->candidates)
	{
		cand = (ScCandidate *) lfirst(lc);
		if (strcmp(cand->signature, signature) == 0)
		{
			MemoryContextSwitchTo(oldcxt);
			return cand;
		}
	}
	cand = (ScCandidate *) palloc0(sizeof(ScCandidate));
	cand->id = list_length(advice->candidates);
	cand->signature = signature;
	cand->keys = keys;
	cand->include = include;
	cand->columns = columns_of(keys, include, pred);
	cand->hypo = make_hypo(advice, relid, keys, include, pred);
	advice->candidates = lappend(advice->candidates, cand);
	MemoryContextSwitchTo(oldcxt);
	return cand;
}

static double
attribute_width(Oid relid, AttrNumber attnum)
{
	double		width = get_attavgwidth(relid, attnum);

	if (width <= 0)
		width = get_typavgwidth(get_atttype(relid, attnum), -1);
	return width;
}

/* An index nearly as wide as the table is no longer an index. */
static bool
narrow_enough(Oid relid, Bitmapset *keys, List *include)
{
	Relation	rel = relation_open(relid, NoLock);
	int			natts = RelationGetNumberOfAttributes(rel);
	double		all = 24;
	double		mine = 8;
	int			nlive = 0;
	ListCell   *lc;
	int			x = -1;
	int			i;

	for (i = 1; i <= natts; i++)
	{
		if (TupleDescAttr(RelationGetDescr(rel), i - 1)->attisdropped)
			continue;
		all += attribute_width(relid, i);
		nlive++;
	}
	relation_close(rel, NoLock);
	while ((x = bms_next_member(keys, x)) >= 0)
		mine += attribute_width(relid, x);
	foreach(lc, include)
		mine += attribute_width(relid, lfirst_int(lc));
	return mine <= SC_MAX_WIDTH * all &&
		bms_num_members(keys) + list_length(include) < nlive;
}

/* Columns an index lacks to answer alone; false when that cannot be. */
static bool
missing_columns(ScRelUse *use, List *keys, List *pred, List **include)
{
	Bitmapset  *attrs = NULL;
	Bitmapset  *have = columns_of(keys, NIL, NIL);
	ListCell   *lc;
	int			x = -1;

	*include = NIL;
	if (!use->coverable)
		return false;
	foreach(lc, keys)
	{
		/* An expression's column is not the column. */
		if (!IsA(((ScKeyCol *) lfirst(lc))->expr, Var))
			return false;
	}
	foreach(lc, use->clauses)
	{
		/* The planner does not check what the predicate tells already. */
		if (pred == NIL ||
			!predicate_implied_by(list_make1(lfirst(lc)), pred, false))
			pull_varattnos((Node *) lfirst(lc), 1, &attrs);
	}
	while ((x = bms_next_member(attrs, x)) >= 0)
	{
		int			attno = x + FirstLowInvalidHeapAttributeNumber;

		if (attno <= 0)
			return false;
		if (!bms_is_member(attno, have))
			*include = list_append_unique_int(*include, attno);
	}
	x = -1;
	while ((x = bms_next_member(use->target, x)) >= 0)
	{
		if (!bms_is_member(x, have))
			*include = list_append_unique_int(*include, x);
	}
	return list_length(*include) <= SC_MAX_INCLUDE &&
		narrow_enough(use->relid, have, *include);
}

typedef struct Maker
{
	ScAdvice   *advice;
	ScItem	   *item;
	ScRelUse   *use;
	List	   *pred;
	List	   *fixed;			/* conditions that make partial indexes */
} Maker;

/*
 * Does it begin with a column that has few values, of which the statement always
 * asks for the same?  An index of the rows with that value does the same, and is
 * smaller; the planner only thinks less of it where the column's order goes with
 * the table's, as that of nearly always the same value does.
 */
static bool
begins_fixed(Maker *m, List *keys)
{
	ScKeyCol   *first = (ScKeyCol *) linitial(keys);
	double		n;

	if (m->pred != NIL || first->clause == NULL ||
		!list_member(m->fixed, first->clause))
		return false;
	n = sc_ndistinct(m->use->relid, first->expr, 1e6);
	return n > 0 && n <= SC_COARSE;
}

static void
make_one(Maker *m, List *keys, bool cover)
{
	ScCandidate *cand;
	List	   *include;

	if (keys == NIL || list_length(keys) > SC_MAX_KEYS ||
		begins_fixed(m, keys))
		return;
	cand = sc_candidate_add(m->advice, m->use->relid, keys, NIL, m->pred);
	m->item->raw = list_append_unique_int(m->item->raw, cand->id);
	if (cover && missing_columns(m->use, keys, m->pred, &include) &&
		include != NIL)
	{
		cand = sc_candidate_add(m->advice, m->use->relid, keys, include,
								m->pred);
		m->item->raw = list_append_unique_int(m->item->raw, cand->id);
	}
}

/*
 * Columns compared by equality that an order can follow: to the planner IS
 * NULL makes nothing equal.
 */
static List *
before_order(List *cols)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, cols)
	{
		Node	   *clause = ((ScKeyCol *) lfirst(lc))->clause;

		if (clause == NULL || !IsA(clause, NullTest))
			result = lappend(result, lfirst(lc));
	}
	return result;
}

/* Everything that can follow a set of columns compared by equality. */
static void
make_from(Maker *m, List *base, bool cover)
{
	ScRelUse   *use = m->use;
	ListCell   *lc;
	ListCell   *l;

	make_one(m, base, cover);
	foreach(lc, use->range)
	{
		List	   *keys = extended(base, list_make1(lfirst(lc)));

		make_one(m, keys, cover);
		/* After a range only its own order goes on. */
		foreach(l, use->orders)
		{
			if (cover && same_column((ScKeyCol *) lfirst(lc),
									 (ScKeyCol *) linitial((List *) lfirst(l))))
				make_one(m, extended(keys, (List *) lfirst(l)), false);
		}
	}
	foreach(lc, use->orders)
	{
		List	   *keys = extended(before_order(base), (List *) lfirst(lc));

		make_one(m, keys, cover);
		foreach(l, use->range)
			make_one(m, extended(keys, list_make1(lfirst(l))), false);
	}
	if (!cover)
		return;
	foreach(lc, use->join)
	{
		List	   *one = list_make1(lfirst(lc));

		make_one(m, extended(base, one), cover);
		make_one(m, extended(one, base), cover);
		foreach(l, use->range)
			make_one(m, extended(extended(base, one), list_make1(lfirst(l))),
					 cover);
	}
	if (list_length(use->join) > 1)
	{
		make_one(m, extended(base, use->join), cover);
		foreach(lc, use->join)
			make_one(m, extended(extended(list_make1(lfirst(lc)), use->join),
								 base), cover);
	}
}

/* How many statements compare a column of a table. */
static double
popularity(ScAdvice *advice, Oid relid, ScKeyCol *col)
{
	double		n = 0;
	ListCell   *lc;

	foreach(lc, advice->items)
	{
		ScItem	   *item = (ScItem *) lfirst(lc);
		ListCell   *l;

		foreach(l, item->uses)
		{
			ScRelUse   *use = (ScRelUse *) lfirst(l);

			if (use->relid == relid &&
				(has_column(use->eq, col) || has_column(use->join, col)))
			{
				n++;
				break;
			}
		}
	}
	return n;
}

/* Has a column so few values that it is no good as the first of several? */
bool
sc_is_coarse(Oid relid, ScKeyCol *col)
{
	double		ndistinct = sc_ndistinct(relid, col->expr, 1e6);

	return ndistinct > 0 && ndistinct <= SC_COARSE;
}

typedef struct Ranked
{
	ScKeyCol   *col;
	double		popularity;
	double		ndistinct;
	bool		coarse;			/* has few values */
	int			position;
} Ranked;

static int
compare_ranked(const void *a, const void *b)
{
	const Ranked *x = (const Ranked *) a;
	const Ranked *y = (const Ranked *) b;

	/* What hardly selects comes last: others want the rest without it. */
	if (x->coarse != y->coarse)
		return x->coarse ? 1 : -1;
	if (x->popularity != y->popularity)
		return x->popularity > y->popularity ? -1 : 1;
	if (x->ndistinct != y->ndistinct)
		return x->ndistinct > y->ndistinct ? -1 : 1;
	return x->position - y->position;
}

/* Columns in the order they are best shared in, each once. */
static List *
ranked_columns(ScAdvice *advice, Oid relid, List *cols, bool by_popularity)
{
	int			n = list_length(cols);
	Ranked	   *ranked = (Ranked *) palloc(sizeof(Ranked) * Max(1, n));
	List	   *result = NIL;
	ListCell   *lc;
	int			i = 0;

	foreach(lc, cols)
	{
		ranked[i].col = (ScKeyCol *) lfirst(lc);
		ranked[i].popularity = by_popularity ?
			popularity(advice, relid, ranked[i].col) : 0;
		ranked[i].ndistinct = sc_ndistinct(relid, ranked[i].col->expr, 1e6);
		ranked[i].coarse = sc_is_coarse(relid, ranked[i].col);
		ranked[i].position = i;
		i++;
	}
	qsort(ranked, n, sizeof(Ranked), compare_ranked);
	for (i = 0; i < n && list_length(result) < SC_MAX_EQ; i++)
	{
		if (!has_column(result, ranked[i].col))
			result = lappend(result, ranked[i].col);
	}
	return result;
}

/* Without the columns that a predicate fixes. */
static List *
without_preds(List *cols, List *pred)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, cols)
	{
		ScKeyCol   *col = (ScKeyCol *) lfirst(lc);

		if (col->clause == NULL || !list_member(pred, col->clause))
			result = lappend(result, col);
	}
	return result;
}

/* Does any statement change a column? */
static bool
is_updated(ScAdvice *advice, Oid relid, AttrNumber attnum)
{
	ListCell   *lc;

	foreach(lc, advice->writes)
	{
		ScWrite    *write = (ScWrite *) lfirst(lc);

		if (write->relid == relid && bms_is_member(attnum, write->columns))
			return true;
	}
	return false;
}

/*
 * A column that costs little as a key: of fixed and small width, and not
 * changed.  The first of the primary key if it is like that.
 */
static List *
small_key(ScAdvice *advice, Oid relid)
{
	Relation	rel = relation_open(relid, NoLock);
	Bitmapset  *attrs = RelationGetIndexAttrBitmap(rel,
												   INDEX_ATTR_BITMAP_PRIMARY_KEY);
	ScKeyCol   *best = NULL;
	int			best_score = 0;
	int			i;

	for (i = 1; i <= RelationGetNumberOfAttributes(rel); i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), i - 1);
		ScKeyCol   *col;
		int			score;

		if (att->attisdropped || att->attlen <= 0 || att->attlen > 16)
			continue;
		score = att->attlen <= 8 ? 2 : 1;
		if (bms_is_member(i - FirstLowInvalidHeapAttributeNumber, attrs))
			score += 2;
		if (!is_updated(advice, relid, i))
			score += 4;
		if (score > best_score && (col = sc_plain_column(relid, i)) != NULL)
		{
			best = col;
			best_score = score;
		}
	}
	relation_close(rel, NoLock);
	return best ? list_make1(best) : NIL;
}

static void
make_for_pred(ScAdvice *advice, ScItem *item, ScRelUse *whole, List *pred,
			  List *fixed)
{
	ScRelUse   *use = (ScRelUse *) palloc(sizeof(ScRelUse));
	Maker		m = {advice, item, use, pred, fixed};
	List	   *cols = without_preds(whole->eq, pred);
	List	   *eq = ranked_columns(advice, whole->relid, cols, true);
	List	   *other = ranked_columns(advice, whole->relid, cols, false);
	ListCell   *lc;

	*use = *whole;
	use->range = without_preds(whole->range, pred);
	make_from(&m, eq, true);
	if (list_length(eq) > 1 && !equal(eq, other))
		make_from(&m, other, false);
	if (list_length(eq) > 1)
	{
		foreach(lc, eq)
			make_from(&m, list_make1(lfirst(lc)), false);
		if (list_length(eq) > 2)
			make_from(&m, list_copy_head(eq, 2), false);
	}
	if (eq != NIL)
		make_from(&m, NIL, false);
	foreach(lc, use->special)
		make_one(&m, list_make1(lfirst(lc)), false);
	/*
	 * Rows that only the predicate selects: any small key will do, also where
	 * others have a column that changes all the time.
	 */
	if (pred != NIL && cols == NIL && use->join == NIL)
		make_one(&m, small_key(advice, use->relid), true);
}

/* A scan of a whole table may be one of a smaller index. */
static void
make_cover(ScAdvice *advice, ScItem *item, ScRelUse *use)
{
	Maker		m = {advice, item, use, NIL, NIL};
	List	   *missing;
	List	   *keys = NIL;
	ListCell   *lc;

	if (use->eq != NIL || use->range != NIL || use->orders != NIL ||
		!missing_columns(use, NIL, NIL, &missing) || missing == NIL)
		return;
	foreach(lc, missing)
	{
		ScKeyCol   *col = sc_plain_column(use->relid, lfirst_int(lc));

		if (col == NULL)
			return;
		keys = lappend(keys, col);
	}
	make_one(&m, keys, false);
}

static void
make_brin(ScAdvice *advice, ScItem *item, ScRelUse *use)
{
	Maker		m = {advice, item, use, NIL, NIL};
	ListCell   *lc;

	if (get_rel_relkind(use->relid) != RELKIND_RELATION ||
		sc_sample_get(advice->study, use->relid)->pages < SC_BRIN_PAGES)
		return;
	foreach(lc, use->range)
	{
		ScKeyCol   *col = (ScKeyCol *) lfirst(lc);
		Oid			opclass;

		if (fabs(correlation_of(use->relid, col->expr)) < SC_BRIN_CORRELATION)
			continue;
		opclass = GetDefaultOpClass(exprType(col->expr), BRIN_AM_OID);
		if (OidIsValid(opclass))
			make_one(&m, list_make1(sc_make_keycol(col->expr, BRIN_AM_OID,
												opclass, col->collation,
												SC_ROLE_RANGE)), false);
	}
}

/*
 * Are a column's values so long that a btree of them is no good, or some of them
 * perhaps too long for its entries?
 */
static bool
has_long_values(ScAdvice *advice, Oid relid, Node *expr)
{
	ScSample   *sample;
	AttrNumber	attnum;
	double		bytes = 0;
	bool		too_long = false;
	int			n;
	int			i;

	if (!IsA(expr, Var) || get_typlen(exprType(expr)) != -1)
		return false;
	attnum = ((Var *) expr)->varattno;
	sample = sc_sample_get(advice->study, relid);
	n = sample->nrows;
	for (i = 0; i < n; i++)
	{
		bool		isnull;
		Datum		value = heap_getattr(sample->rows[i],
										 attnum, sample->desc, &isnull);

		if (isnull)
			continue;
		bytes += toast_raw_datum_size(value);
		too_long = too_long ||
			toast_raw_datum_size(value) > SC_TOO_LONG;
	}
	return too_long || (n > 0 && bytes / n >= SC_LONG_VALUE);
}

/*
 * Where values are long, or too long for a btree, their hashes do for
 * equality.
 */
static void
make_hash(ScAdvice *advice, ScItem *item, ScRelUse *use)
{
	Maker		m = {advice, item, use, NIL, NIL};
	ListCell   *lc;

	if (get_rel_relkind(use->relid) == RELKIND_PARTITIONED_TABLE)
		return;
	foreach(lc, use->eq)
	{
		ScKeyCol   *col = (ScKeyCol *) lfirst(lc);
		Oid			opclass = GetDefaultOpClass(exprType(col->expr),
												HASH_AM_OID);

		if (OidIsValid(opclass) &&
			(col->clause == NULL || !IsA(col->clause, NullTest)) &&
			has_long_values(advice, use->relid, col->expr))
			make_one(&m, list_make1(sc_make_keycol(col->expr, HASH_AM_OID,
												   opclass, col->collation,
												   SC_ROLE_EQ)), false);
	}
}

/* The part of a table's rows that conditions select. */
static double
pred_part(ScAdvice *advice, Oid relid, List *pred)
{
	ScOwner		saved;
	double		part;

	/* Partitions are looked at when the size is estimated. */
	if (get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE)
		return 0;
	sc_owner_begin(relid, &saved);
	part = sc_sample_fraction(advice->study,
							  sc_sample_get(advice->study, relid), pred);
	sc_owner_end(&saved);
	return part;
}

/*
 * The part of a statement's executions that have this condition, be it for
 * several of their relations; *seen is how many were seen to have it.
 */
static double
part_with(ScItem *item, ScRelUse *use, Node *clause, double *seen)
{
	double		weight = 0;
	const struct ScVariant *last = NULL;
	ListCell   *lc;

	foreach(lc, item->uses)
	{
		ScRelUse   *other = (ScRelUse *) lfirst(lc);

		if (other->relid == use->relid && other->variant != last &&
			list_member(other->preds, clause))
		{
			weight += other->weight;
			*seen += other->sampled;
			last = other->variant;
		}
	}
	return weight;
}

/*
 * Will a range that all executions have in common be asked for again?  Those who
 * give statements say so.  In a recorded one whose other values are parameters,
 * this one was written on purpose; where it came without any, all of them may
 * have been put into the text, so they must have been the same some times.
 */
static bool
span_stays(ScAdvice *advice, ScItem *item, ScRelUse *use, Node *clause,
		   double seen)
{
	ScBound		bound;

	if (advice->given)
		return true;
	if (sc_has_parameter(clause, use->places))
		return false;
	if (use->places != NIL)
		return true;
	if (seen < SC_SPAN_SEEN || !sc_bound_of(clause, &bound))
		return false;
	return !sc_is_time((Node *) bound.column) ||
		(item->since != 0 &&
		 GetCurrentTimestamp() - item->since >= SC_SPAN_AGE);
}

/*
 * Does a condition come with nearly every execution of the statement?  Those
 * that differ from it in nothing but constants are executions of it.  What two
 * executions had as a parameter, the third need not have.  And where one of many
 * values is not the same in all of them, it was a parameter.
 */
static bool
recurs(ScAdvice *advice, ScItem *item, ScRelUse *use, Node *clause)
{
	double		with = 0;
	double		all = 0;
	double		seen = 0;
	ListCell   *lc;

	foreach(lc, advice->items)
	{
		ScItem	   *other = (ScItem *) lfirst(lc);

		if (other != item && (item->shape == 0 || other->shape != item->shape))
			continue;
		with += other->weight * part_with(other, use, clause, &seen);
		all += other->weight;
	}
	if (list_member_ptr(use->spans, clause))
		return with >= SC_ALL * all &&
			span_stays(advice, item, use, clause, seen);
	return with >= SC_PRED_WEIGHT * all &&
		(advice->given || seen >= SC_PRED_SEEN ||
		 !sc_has_parameter(clause, use->places));
}

/*
 * Do conditions on a time leave its end open?  What has happened since some day
 * is more every day, and one day the day is another.
 */
static bool
is_open_ended(List *clauses)
{
	bool		open = false;
	ListCell   *lc;

	foreach(lc, clauses)
	{
		ScBound		bound;

		if (!sc_bound_of((Node *) lfirst(lc), &bound) ||
			!sc_is_time((Node *) bound.column))
			continue;
		if (bound.strategy < BTEqualStrategyNumber)
			return false;
		open = open || bound.strategy > BTEqualStrategyNumber;
	}
	return open;
}

/*
 * The most of the rows that may meet the conditions for an index of these to be
 * worth having.  That a row is live comes with so many statements that leaving
 * out a few is enough.
 */
double
sc_pred_limit(List *pred)
{
	ListCell   *lc;

	foreach(lc, pred)
	{
		if (IsA(lfirst(lc), OpExpr) || IsA(lfirst(lc), ScalarArrayOpExpr))
			return SC_PRED_PART;
	}
	return SC_LIVE_PART;
}

static bool
selects_part(ScAdvice *advice, Oid relid, List *pred)
{
	return pred_part(advice, relid, pred) <= sc_pred_limit(pred);
}

/* Columns with a range of which one end or the other does not recur. */
static Bitmapset *
passing_spans(ScAdvice *advice, ScItem *item, ScRelUse *use)
{
	Bitmapset  *result = NULL;
	ListCell   *lc;

	foreach(lc, use->spans)
	{
		ScBound		bound;

		if (sc_bound_of((Node *) lfirst(lc), &bound) &&
			!recurs(advice, item, use, (Node *) lfirst(lc)))
			result = bms_add_member(result, bound.column->varattno);
	}
	return result;
}

/*
 * May it select the rows of an index?  One of a range is for where space is
 * limited: where it is not, one of all rows serves this range nearly as well, and
 * the next one, too.
 */
static bool
may_select(ScAdvice *advice, ScItem *item, ScRelUse *use, Node *clause,
		   Bitmapset *passing)
{
	ScBound		bound;

	if (!list_member_ptr(use->spans, clause))
		return recurs(advice, item, use, clause);
	return advice->max_size >= 0 && sc_bound_of(clause, &bound) &&
		!bms_is_member(bound.column->varattno, passing);
}

/*
 * Lists of conditions that recur and leave out enough of the rows; those on
 * the same columns, such as both ends of a range, go together.
 */
static List *
recurring_preds(ScAdvice *advice, ScItem *item, ScRelUse *use)
{
	Bitmapset  *passing = passing_spans(advice, item, use);
	List	   *groups = NIL;
	List	   *columns = NIL;
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, use->preds)
	{
		Node	   *clause = (Node *) lfirst(lc);
		Bitmapset  *attrs = NULL;
		ListCell   *g;
		ListCell   *c;

		if (!may_select(advice, item, use, clause, passing))
			continue;
		pull_varattnos(clause, 1, &attrs);
		forboth(g, groups, c, columns)
		{
			if (bms_equal((Bitmapset *) lfirst(c), attrs))
				break;
		}
		if (g != NULL)
			lfirst(g) = list_append_unique((List *) lfirst(g), clause);
		else
		{
			groups = lappend(groups, list_make1(clause));
			columns = lappend(columns, attrs);
		}
	}
	foreach(lc, groups)
	{
		if ((advice->given || !is_open_ended((List *) lfirst(lc))) &&
			selects_part(advice, use->relid, (List *) lfirst(lc)))
			result = lappend(result, lfirst(lc));
	}
	return result;
}

/* The part of a column's values that are NULL, as far as is known. */
static double
null_fraction(Oid relid, AttrNumber attnum)
{
	bool		parted = get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE;
	HeapTuple	tuple = SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(relid),
										Int16GetDatum(attnum),
										BoolGetDatum(parted));
	double		result = 0;

	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_statistic) GETSTRUCT(tuple))->stanullfrac;
		ReleaseSysCache(tuple);
	}
	return result;
}

/* That a column which is mostly NULL is not, or NULL for others. */
static Node *
not_null(Oid relid, ScKeyCol *col)
{
	NullTest   *test;

	if (!IsA(col->expr, Var) ||
		(col->clause != NULL && IsA(col->clause, NullTest)) ||
		null_fraction(relid, ((Var *) col->expr)->varattno) < SC_SPARSE)
		return NULL;
	test = makeNode(NullTest);
	test->arg = (Expr *) copyObject(col->expr);
	test->nulltesttype = IS_NOT_NULL;
	test->location = -1;
	return (Node *) test;
}

/*
 * Whoever compares a column finds no NULL, so where most are NULL, an index
 * can do without these rows, whatever value comes.
 */
static List *
sparse_preds(ScRelUse *use)
{
	List	   *compared = list_concat(list_concat_copy(use->eq, use->range),
									   use->join);
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, compared)
	{
		Node	   *test = not_null(use->relid, (ScKeyCol *) lfirst(lc));

		if (test != NULL && !list_member(use->preds, test))
			result = list_append_unique(result, test);
	}
	return result;
}

/*
 * Rights: what an expression or a condition would be evaluated for
 */

/* A domain's constraint may call anything. */
static bool
users_walker(Node *node, void *context)
{
	Oid			nobody = InvalidOid;

	if (node == NULL)
		return false;
	return IsA(node, CoerceToDomain) ||
		check_functions_in_node(node, sc_untrusted_function, &nobody) ||
		expression_tree_walker(node, users_walker, context);
}

/*
 * May an expression be evaluated over all rows of a table?  Whoever could not
 * build the index runs it himself, and then not what others have written.
 */
static bool
may_evaluate(Oid relid, Node *node)
{
	Bitmapset  *attrs = NULL;

	if (IsA(node, Var))
		return true;
	pull_varattnos(node, 1, &attrs);
	return sc_rows_visible(relid, GetUserId(), attrs, true) &&
		(pg_class_ownercheck(relid, GetUserId()) ||
		 !users_walker(node, NULL));
}

static List *
permitted_columns(Oid relid, List *columns)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, columns)
	{
		if (may_evaluate(relid, ((ScKeyCol *) lfirst(lc))->expr))
			result = lappend(result, lfirst(lc));
	}
	return result;
}

/* An order that lacks a column is another one. */
static List *
permitted_orders(Oid relid, List *orders)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, orders)
	{
		List	   *order = (List *) lfirst(lc);

		if (list_length(permitted_columns(relid, order)) == list_length(order))
			result = lappend(result, order);
	}
	return result;
}

/* Leave out what the caller may not have evaluated. */
static void
permitted_use(ScRelUse *use)
{
	List	   *preds = NIL;
	ListCell   *lc;

	use->eq = permitted_columns(use->relid, use->eq);
	use->range = permitted_columns(use->relid, use->range);
	use->join = permitted_columns(use->relid, use->join);
	use->special = permitted_columns(use->relid, use->special);
	use->orders = permitted_orders(use->relid, use->orders);
	foreach(lc, use->preds)
	{
		if (may_evaluate(use->relid, (Node *) lfirst(lc)))
			preds = lappend(preds, lfirst(lc));
	}
	use->preds = preds;
}

/* All candidates of all statements. */
void
sc_candidates_make(ScAdvice *advice)
{
	MemoryContext oldcxt = MemoryContextSwitchTo(advice->study->cxt);
	ListCell   *lc;

	foreach(lc, advice->items)
	{
		ListCell   *l;

		CHECK_FOR_INTERRUPTS();
		foreach(l, ((ScItem *) lfirst(lc))->uses)
			permitted_use((ScRelUse *) lfirst(l));
	}
	foreach(lc, advice->items)
	{
		ScItem	   *item = (ScItem *) lfirst(lc);
		ListCell   *l;

		CHECK_FOR_INTERRUPTS();
		foreach(l, item->uses)
		{
			ScRelUse   *use = (ScRelUse *) lfirst(l);
			List	   *preds = recurring_preds(advice, item, use);
			List	   *sparse = sparse_preds(use);
			List	   *all = NIL;
			ListCell   *p;

			foreach(p, preds)
				all = list_union(all, (List *) lfirst(p));
			make_for_pred(advice, item, use, NIL,
						  get_rel_relkind(use->relid) ==
						  RELKIND_PARTITIONED_TABLE ? NIL : all);
			make_cover(advice, item, use);
			make_brin(advice, item, use);
			make_hash(advice, item, use);
			foreach(p, preds)
				make_for_pred(advice, item, use, (List *) lfirst(p), NIL);
			if (list_length(preds) > 1)
				make_for_pred(advice, item, use, all, NIL);
			foreach(p, sparse)
			{
				make_for_pred(advice, item, use, list_make1(lfirst(p)), NIL);
				if (all != NIL &&
					!predicate_implied_by(list_make1(lfirst(p)), all, false))
					make_for_pred(advice, item, use,
								  lappend(list_copy(all), lfirst(p)), NIL);
			}
		}
	}
	MemoryContextSwitchTo(oldcxt);
}
