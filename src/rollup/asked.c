/*
 * asked.c: which groups a reader has asked for.
 *
 * Deltas of groups that the filters on keys do not let through need not be
 * merged.  That is all of it, unless the reader is SERIALIZABLE.
 *
 * Then it depends on whoever writes a delta of a group that it asked for, and
 * on nobody else.  So it leaves predicate locks on the delta tables, and
 * writers look for them there: on the table, when any group may have been
 * asked for, else on pages.  These are no pages of the table but
 * tags, hash values of what the filters say of the keys: of all keys, or of
 * one.  Locks on many tags become one on the table, as for real pages.
 *
 * A reader locks before it scans the deltas, and a writer looks after it has
 * appended one, so one of them meets the other.
 *
 * When writers append no more, because the rollup is dropped or stale, the
 * locks of its readers still matter as long as transactions go on that those
 * overlapped.  They become one lock each on the orphanage, a name that nothing
 * else locks, where every SERIALIZABLE writer looks before it commits.  A
 * rollup can become stale while it is read.  So the locks are taken there
 * before that is committed and once more right after, and a reader that has
 * left locks makes sure that the rollup is not stale before it goes on.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "storage/predicate.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "base/owner.h"
#include "rollup/rollup.h"

/* Values that a filter may give a key, or tags, before it is all groups. */
#define SC_ASKED_TAGS	16

struct ScAsked
{
	ScKeysWanted wanted;		/* is this group asked for? */
	void	   *arg;
	bool		table;			/* SERIALIZABLE: locks the table, not tags */
	int			ntags;
	BlockNumber tags[SC_ASKED_TAGS];
};

/* Nothing is asked for, only looked after. */
const ScAsked sc_asked_nothing = {0};

/* What filters say of a key: one of these, by hash value. */
typedef struct KeyValues
{
	bool		known;
	int			n;
	uint32		hashes[SC_ASKED_TAGS];
} KeyValues;

#define SC_NULL_HASH	0x9e3779b9

static BlockNumber
tag_of(uint32 seed, uint32 hash)
{
	uint32		tag = murmurhash32(hash_combine(murmurhash32(seed), hash));

	return tag == InvalidBlockNumber ? 0 : tag;
}

/* ---- readers ---- */

/* Would another execution of the same node read other groups? */
static bool
varies(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Param) && ((Param *) node)->paramkind != PARAM_EXTERN)
		return true;
	return expression_tree_walker(node, varies, context);
}

static Node *
strip(Node *node)
{
	while (node && IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	return node;
}

/* The number of the key that this is, or -1. */
static int
key_number(ScSpec *spec, Node *node)
{
	node = strip(node);
	if (node && IsA(node, Var) && ((Var *) node)->varattno >= 1 &&
		((Var *) node)->varattno <= spec->nkeys &&
		OidIsValid(spec->keys[((Var *) node)->varattno - 1].hash.fn_oid))
		return ((Var *) node)->varattno - 1;
	return -1;
}

/* Add what an array, or else a plain value, has of values. */
static void
add_values(KeyValues *values, Oid hashfn, Oid collation, Oid type, Datum value,
		   bool isarray)
{
	Datum	   *elems = &value;
	bool	   *nulls = NULL;
	int			n = 1;

	if (isarray)
	{
		int16		len;
		bool		byval;
		char		align;

		get_typlenbyvalalign(type, &len, &byval, &align);
		deconstruct_array(DatumGetArrayTypeP(value), type, len, byval, align,
						  &elems, &nulls, &n);
	}
	if (n > SC_ASKED_TAGS)
	{
		values->known = false;
		return;
	}
	for (int i = 0; i < n; i++)
		if (nulls == NULL || !nulls[i])
			values->hashes[values->n++] =
				DatumGetUInt32(OidFunctionCall1Coll(hashfn, collation, elems[i]));
}

/* Is the qual "key = value", or "key = ANY (values)"?  The values, then. */
static void
learn_equality(ScSpec *spec, Node *qual, PlanState *ps, KeyValues *known)
{
	bool		isarray = IsA(qual, ScalarArrayOpExpr);
	List	   *args;
	Oid			opno;
	Oid			collation;
	Oid			hashfns[2];
	Node	   *other;
	KeyValues	values = {.known = true};
	Oid			type;
	Datum		value;
	bool		isnull;
	int			side = 0;
	int			key;

	if (isarray)
	{
		args = ((ScalarArrayOpExpr *) qual)->args;
		opno = ((ScalarArrayOpExpr *) qual)->opno;
		collation = ((ScalarArrayOpExpr *) qual)->inputcollid;
	}
	else
	{
		args = ((OpExpr *) qual)->args;
		opno = ((OpExpr *) qual)->opno;
		collation = ((OpExpr *) qual)->inputcollid;
	}
	if (list_length(args) != 2 || (isarray && !((ScalarArrayOpExpr *) qual)->useOr))
		return;
	key = key_number(spec, linitial(args));
	if (key < 0 && !isarray)
		key = key_number(spec, list_nth(args, side = 1));
	if (key < 0 || known[key].known || collation != spec->keys[key].collation)
		return;
	other = list_nth(args, 1 - side);
	if (contain_var_clause(other) ||
		!get_op_hash_functions(opno, &hashfns[0], &hashfns[1]) ||
		hashfns[side] != spec->keys[key].hash.fn_oid)
		return;
	type = isarray ? get_base_element_type(exprType(other)) : InvalidOid;
	if (isarray && !OidIsValid(type))
		return;
	value = ExecEvalExprSwitchContext(ExecInitExpr((Expr *) other, ps),
									  ps->ps_ExprContext, &isnull);
	if (!isnull)
		add_values(&values, hashfns[1 - side], collation, type, value, isarray);
	known[key] = values;
}

/* The same for other ways to ask for one value. */
static void
learn(ScSpec *spec, Node *qual, PlanState *ps, KeyValues *known)
{
	Node	   *arg = qual;
	bool		truth = true;
	int			key;

	if (IsA(qual, OpExpr) || IsA(qual, ScalarArrayOpExpr))
		learn_equality(spec, qual, ps, known);
	else if (IsA(qual, NullTest))
	{
		NullTest   *test = (NullTest *) qual;

		key = key_number(spec, (Node *) test->arg);
		if (key < 0 || test->argisrow || test->nulltesttype != IS_NULL)
			return;
		known[key] = (KeyValues) {.known = true,.n = 1,.hashes = {SC_NULL_HASH}};
	}
	else
	{
		if (IsA(qual, BoolExpr) && ((BoolExpr *) qual)->boolop == NOT_EXPR)
		{
			arg = linitial(((BoolExpr *) qual)->args);
			truth = false;
		}
		key = key_number(spec, arg);
		if (key < 0 || spec->keys[key].type != BOOLOID)
			return;
		known[key] = (KeyValues) {.known = true,.n = 1,.hashes =
			{DatumGetUInt32(FunctionCall1(&spec->keys[key].hash, BoolGetDatum(truth)))}};
	}
}

/* Every combination of the values of all keys. */
static void
combine(ScAsked *asked, ScSpec *spec, KeyValues *known, int key, uint32 hash)
{
	if (key == spec->nkeys)
	{
		asked->tags[asked->ntags++] = tag_of(0, hash);
		return;
	}
	for (int i = 0; i < known[key].n; i++)
		combine(asked, spec, known, key + 1, hash_combine(hash, known[key].hashes[i]));
}

/*
 * What a scan asks for whose quals on keys these are, as it does with wanted,
 * in CurrentMemoryContext.  NULL is everything, also when another execution
 * of the same node may want what this one does not.
 * Keys are Vars with the key's number, whatever the varno.
 */
const ScAsked *
sc_asked(ScSpec *spec, List *quals, PlanState *ps, ScKeysWanted wanted, void *arg)
{
	KeyValues  *known;
	ScAsked    *asked;
	ListCell   *lc;
	int64		product = 1;
	int			fewest = -1;

	if (quals == NIL || spec->nkeys == 0 ||
		varies((Node *) quals, NULL) || contain_subplans((Node *) quals))
		return NULL;
	asked = palloc0(sizeof(ScAsked));
	asked->wanted = wanted;
	asked->arg = arg;
	asked->table = true;
	if (!IsolationIsSerializable())
		return asked;
	known = palloc0(sizeof(KeyValues) * spec->nkeys);
	foreach(lc, quals)
		learn(spec, lfirst(lc), ps, known);

	for (int i = 0; i < spec->nkeys; i++)
	{
		product = known[i].known ? Min(product * known[i].n, SC_ASKED_TAGS + 1) :
			SC_ASKED_TAGS + 1;
		if (known[i].known && (fewest < 0 || known[i].n < known[fewest].n))
			fewest = i;
	}
	if (fewest < 0)
		return asked;
	asked->table = false;
	if (product <= SC_ASKED_TAGS)
		combine(asked, spec, known, 0, 0);
	else
		for (int i = 0; i < known[fewest].n; i++)
			asked->tags[asked->ntags++] = tag_of(fewest + 1, known[fewest].hashes[i]);
	return asked;
}

/* Leave locks on a delta table for what is asked for. */
void
sc_asked_lock(const ScAsked *asked, Relation delta, Snapshot snapshot)
{
	if (asked == NULL || asked->table)
	{
		PredicateLockRelation(delta, snapshot);
		return;
	}
	for (int i = 0; i < asked->ntags; i++)
		PredicateLockPage(delta, asked->tags[i], snapshot);
}

/* Does the reader depend on who changes the group? */
bool
sc_asked_wants(const ScAsked *asked, const Datum *keys, const bool *nulls)
{
	return asked == NULL || asked->table ||
		(asked->wanted != NULL && asked->wanted(asked->arg, keys, nulls));
}

/* Do its filters let the group through? */
bool
sc_asked_selects(const ScAsked *asked, const ScGroup *group)
{
	return asked == NULL || asked->wanted == NULL ||
		asked->wanted(asked->arg, group->keys, group->nulls);
}

/* ---- writers ---- */

/*
 * A delta of a group has been appended: see who has asked for it.  Those who
 * have locked the table were seen when it was.
 */
pg_attribute_hot void
sc_asked_check(ScSpec *spec, Relation delta, const Datum *keys, const bool *nulls)
{
	uint32		all = 0;
	bool		hashable = true;

	if (!IsolationIsSerializable())
		return;
	for (int i = 0; i < spec->nkeys; i++)
	{
		ScKey	   *key = &spec->keys[i];
		uint32		hash = SC_NULL_HASH;

		if (!OidIsValid(key->hash.fn_oid))
		{
			hashable = false;
			continue;
		}
		if (!nulls[i])
			hash = DatumGetUInt32(FunctionCall1Coll(&key->hash, key->collation, keys[i]));
		all = hash_combine(all, hash);
		if (spec->nkeys > 1)
			CheckForSerializableConflictIn(delta, NULL, tag_of(i + 1, hash));
	}
	if (hashable && spec->nkeys > 0)
		CheckForSerializableConflictIn(delta, NULL, tag_of(0, all));
}

/* ---- when writers append no more ---- */

/* Delta tables to be looked at once more at commit, in TopTransactionContext. */
static List *left = NIL;

/* No more of a relation than predicate locks are about. */
typedef struct LockedRelation
{
	RelationData rel;
	FormData_pg_class form;
	FormData_pg_index index;
} LockedRelation;

static Relation
locked_relation(LockedRelation *locked, Oid relid)
{
	memset(locked, 0, sizeof(LockedRelation));
	locked->rel.rd_id = relid;
	locked->rel.rd_node.dbNode = MyDatabaseId;
	locked->rel.rd_rel = &locked->form;
	locked->form.relpersistence = RELPERSISTENCE_PERMANENT;
	return &locked->rel;
}

/* The orphanage: a view has no locks of its own.  Invalid: no extension. */
static Oid
orphanage(void)
{
	Oid			nsp = sc_own_namespace();

	return OidIsValid(nsp) ? get_relname_relid("rollups", nsp) : InvalidOid;
}

/* As if the delta table were an index of the orphanage, and dropped. */
static void
move_locks(Oid delta, Oid to)
{
	LockedRelation from;
	Relation	rel = locked_relation(&from, delta);

	rel->rd_index = &from.index;
	from.index.indrelid = to;
	TransferPredicateLocksToHeapRelation(rel);
}

/*
 * A delta table that nobody reads or writes any more, as it is locked
 * exclusively, or will not be written to once this transaction has committed.
 */
void
sc_asked_leave(Oid delta, bool exclusive)
{
	Oid			to = orphanage();
	MemoryContext old;

	if (!OidIsValid(delta) || !OidIsValid(to))
		return;
	move_locks(delta, to);
	if (exclusive)
		return;
	old = MemoryContextSwitchTo(TopTransactionContext);
	left = lappend_oid(lappend_oid(left, delta), to);
	MemoryContextSwitchTo(old);
}

/* A SERIALIZABLE writer is about to commit or to prepare. */
pg_attribute_hot void
sc_asked_check_left(void)
{
	LockedRelation at;
	Oid			relid;

	if (IsolationIsSerializable() &&
		TransactionIdIsValid(GetTopTransactionIdIfAny()) &&
		OidIsValid(relid = orphanage()))
		CheckForSerializableConflictIn(locked_relation(&at, relid), NULL,
									   InvalidBlockNumber);
}

/* The transaction is over. */
pg_attribute_hot void
sc_asked_end(bool committed)
{
	for (int i = 0; committed && i + 1 < list_length(left); i += 2)
		move_locks(list_nth_oid(left, i), list_nth_oid(left, i + 1));
	left = NIL;
}
