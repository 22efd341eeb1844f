/*
 * capture.c: from row changes to the keys of a transaction.
 *
 * An AFTER ROW trigger, or its condition, makes the keys of the old and the
 * new row and keeps them, once each, in one buffer.  Subtransactions nest, so
 * what one of them added is the end of the buffer from some mark on: its abort
 * cuts that off, its commit hands it to its parent.  Before commit or prepare
 * the buffer is written to the outbox, so it has the fate of the rows.
 *
 * Above max_keys_per_transaction the keys of a rule give way to one entry
 * that stands for all its keys, and further rows cost next to nothing.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "replication/logicalworker.h"
#include "storage/proc.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/attempt.h"
#include "base/condition.h"
#include "base/hooks.h"
#include "base/known.h"
#include "cache/cache.h"
#include "cache/memory.h"
#include "cache/rules.h"
#include "worker/launcher.h"

#define MAX_BUFFER		(64 * 1024 * 1024)	/* bytes of keys */
#define KEEP_BUFFER		65536	/* kept from one transaction to the next */
#define DELETED			PG_UINT32_MAX

typedef struct Mark
{
	SubTransactionId subid;
	uint32		nentries;		/* before this level */
	uint32		length;
} Mark;

typedef struct Epoch
{
	int64		rule;
	uint32		entry;			/* its number */
} Epoch;

/* Everything here lives in one context, reset when it has grown. */
static MemoryContext keys_cxt = NULL;
static StringInfoData entries;	/* as they go to the outbox */
static uint32 *offsets = NULL;	/* of each entry */
static uint32 nentries = 0;
static uint32 maxentries = 0;
static uint32 *table = NULL;	/* entry number + 1, 0, or DELETED */
static uint32 tablesize = 0;
static uint32 tableused = 0;	/* deleted ones included */
static Mark *marks = NULL;
static int	nmarks = 0;
static int	maxmarks = 0;
static Epoch *epochs = NULL;	/* rules with an entry for all keys */
static int	nepochs = 0;
static int	maxepochs = 0;
static bool collapsed = false;	/* some rule reached the limit */

/* By rule: the number + 1 of one in epochs, or 0 when there is none. */
#define EPOCH_PLACES	512		/* a power of two */
static int	epoch_places[EPOCH_PLACES];

static bool wrote = false;		/* the outbox has a tuple of ours */
static bool fenced = false;
static FullTransactionId my_xid;	/* where fences are up */
static bool async = false;		/* this commit may be lost in a crash */
static bool wait_after = false; /* for synchronous_invalidation */
static ScAwaited awaited;		/* then */

static ScKnown capturing;		/* the trigger function */
static ExecutorStart_hook_type prev_start = NULL;

PG_FUNCTION_INFO_V1(scalecache_cache_capture);
PG_FUNCTION_INFO_V1(scalecache_cache_truncate);

/* ---- the buffer ---- */

static int *
epoch_place(int64 rule)
{
	return &epoch_places[rule & (EPOCH_PLACES - 1)];
}

/* Several rules may share a place: the first of them is asked for there. */
static bool
has_epoch(int64 rule)
{
	int			i = *epoch_place(rule);

	if (i == 0)
		return false;
	for (i--; i < nepochs; i++)
		if (epochs[i].rule == rule)
			return true;
	return false;
}

/* Those that came last, until n are left. */
static void
forget_epochs(int n)
{
	while (nepochs > n)
	{
		int		   *place = epoch_place(epochs[--nepochs].rule);

		if (*place == nepochs + 1)
			*place = 0;
	}
}

static void
forget_all(void)
{
	if (keys_cxt == NULL)
		return;
	forget_epochs(0);
	nentries = nmarks = tableused = 0;
	collapsed = false;
	if (MemoryContextMemAllocated(keys_cxt, true) > KEEP_BUFFER)
	{
		MemoryContextReset(keys_cxt);
		offsets = table = NULL;
		marks = NULL;
		epochs = NULL;
		maxentries = tablesize = maxmarks = maxepochs = 0;
		entries.data = NULL;
		return;
	}
	if (tablesize)
		memset(table, 0, sizeof(uint32) * tablesize);
	if (entries.data)
		resetStringInfo(&entries);
}

static void
prepare_buffer(void)
{
	if (keys_cxt == NULL)
		keys_cxt = AllocSetContextCreate(TopMemoryContext, "scalecache keys",
										 ALLOCSET_DEFAULT_SIZES);
	if (entries.data == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(keys_cxt);

		initStringInfo(&entries);
		MemoryContextSwitchTo(old);
	}
}

/* Make room for one more element of an array in keys_cxt. */
static void *
grow(void *array, int *max, int n, Size size)
{
	if (n < *max)
		return array;
	*max = *max ? *max * 2 : 16;
	if (array == NULL)
		return MemoryContextAlloc(keys_cxt, *max * size);
	return repalloc(array, *max * size);
}

static uint32
entry_end(uint32 i)
{
	return i + 1 < nentries ? offsets[i + 1] : (uint32) entries.len;
}

static uint32
hash_bytes_of(const char *p, uint32 len)
{
	return hash_bytes((const unsigned char *) p, (int) len);
}

static void
table_insert(uint32 i)
{
	uint32		h = hash_bytes_of(entries.data + offsets[i],
								  entry_end(i) - offsets[i]) & (tablesize - 1);

	while (table[h] != 0 && table[h] != DELETED)
		h = (h + 1) & (tablesize - 1);
	if (table[h] == 0)
		tableused++;
	table[h] = i + 1;
}

static void
table_rebuild(void)
{
	uint32		size = 64;

	while (size < nentries * 4)
		size *= 2;
	if (size != tablesize)
	{
		if (table)
			pfree(table);
		table = MemoryContextAlloc(keys_cxt, sizeof(uint32) * size);
		tablesize = size;
	}
	memset(table, 0, sizeof(uint32) * tablesize);
	tableused = 0;
	for (uint32 i = 0; i < nentries; i++)
		table_insert(i);
}

/* Is an equal entry there already?  The candidate is the buffer's tail. */
static bool
table_contains(const char *p, uint32 len)
{
	uint32		h;

	/* A few are compared faster than hashed. */
	if (nentries < 8)
	{
		for (uint32 i = 0; i < nentries; i++)
			if (entry_end(i) - offsets[i] == len &&
				memcmp(entries.data + offsets[i], p, len) == 0)
				return true;
		return false;
	}
	if (tablesize == 0 || tableused == 0)
		table_rebuild();
	h = hash_bytes_of(p, len) & (tablesize - 1);
	for (; table[h] != 0; h = (h + 1) & (tablesize - 1))
	{
		uint32		i = table[h] - 1;

		if (table[h] == DELETED)
			continue;
		if (entry_end(i) - offsets[i] == len &&
			memcmp(entries.data + offsets[i], p, len) == 0)
			return true;
	}
	return false;
}

static void
table_delete(uint32 i)
{
	uint32		h;

	if (tableused == 0)
		return;
	h = hash_bytes_of(entries.data + offsets[i], entry_end(i) - offsets[i]) &
		(tablesize - 1);
	for (; table[h] != 0; h = (h + 1) & (tablesize - 1))
		if (table[h] == i + 1)
		{
			table[h] = DELETED;
			return;
		}
}

/* Remember where the current subtransaction begins in the buffer. */
static void
mark_level(void)
{
	SubTransactionId subid = GetCurrentSubTransactionId();

	if (nmarks > 0 && marks[nmarks - 1].subid == subid)
		return;
	marks = grow(marks, &maxmarks, nmarks, sizeof(Mark));
	marks[nmarks].subid = subid;
	marks[nmarks].nentries = nentries;
	marks[nmarks].length = entries.len;
	nmarks++;
}

static void
truncate_to(const Mark *mark)
{
	for (uint32 i = mark->nentries; i < nentries; i++)
		table_delete(i);
	nentries = mark->nentries;
	entries.len = mark->length;
	entries.data[entries.len] = '\0';
	while (nepochs > 0 && epochs[nepochs - 1].entry >= nentries)
		forget_epochs(nepochs - 1);
}

/* Add an entry unless it is there. */
static void
add_entry(char kind, int64 rule, const char *key, uint32 keylen,
		  const char *parts, uint32 partslen)
{
	uint32		start;
	uint32		len;

	prepare_buffer();
	mark_level();
	start = entries.len;
	sc_entry_append(&entries, kind, rule, key, keylen, parts, partslen);
	len = entries.len - start;
	/* Only entries in front of it are compared: their ends are known. */
	if (nentries > 0)
	{
		int			whole = entries.len;
		bool		there;

		entries.len = start;
		there = table_contains(entries.data + start, len);
		entries.len = whole;
		if (there)
		{
			entries.len = start;
			return;
		}
	}
	offsets = grow(offsets, (int *) &maxentries, nentries, sizeof(uint32));
	offsets[nentries++] = start;
	if (nentries > 8 || tableused > 0)
	{
		if (tablesize == 0 || tableused == 0 || tableused * 2 >= tablesize)
			table_rebuild();
		else
			table_insert(nentries - 1);
	}
}

static void
add_epoch(int64 rule, const char *pattern)
{
	if (has_epoch(rule))
		return;
	add_entry(SC_ENTRY_EPOCH, rule, pattern, strlen(pattern), NULL, 0);
	epochs = grow(epochs, &maxepochs, nepochs, sizeof(Epoch));
	epochs[nepochs].rule = rule;
	epochs[nepochs++].entry = nentries - 1;
	if (*epoch_place(rule) == 0)
		*epoch_place(rule) = nepochs;
}

/* Delete a key when this transaction commits, whatever the rules say. */
void
sc_cache_add_delete(const char *key, uint32 keylen)
{
	add_entry(SC_ENTRY_KEY, 0, key, keylen, NULL, 0);
}

static void
add_key(ScRule *rule, StringInfo key, StringInfo parts)
{
	if (key->len + (parts ? parts->len : 0) > SC_KEY_MAX ||
		nentries >= sc_max_keys_per_transaction || entries.len > MAX_BUFFER)
	{
		collapsed = true;
		add_epoch(rule->id, rule->pattern);
	}
	else if (parts)
		add_entry(SC_ENTRY_WRITE, rule->id, key->data, key->len,
				  parts->data, parts->len);
	else
		add_entry(SC_ENTRY_KEY, rule->id, key->data, key->len, NULL, 0);
}

/* Every key of the rule is invalid once this transaction has committed. */
void
sc_cache_touch_rule(ScRule *rule)
{
	add_epoch(rule->id, rule->pattern);
}

/* The same for a rule that goes: nobody will invalidate its keys any more. */
void
sc_cache_touch_pattern(int64 rule, const char *pattern)
{
	add_epoch(rule, pattern);
}

/* The same for a rule that cannot be loaded now; one that has gone has no keys. */
static void
touch_unloaded(int64 id)
{
	char	   *pattern;
	char	   *prefix;

	if (sc_rule_pattern(id, &pattern, &prefix))
		add_epoch(id, pattern);
}

/*
 * Which groups of a rollup have changed is told when their deltas are written,
 * which is late: until then it may be any.
 */
static bool
is_of_changed_rollup(const char *key, uint32 keylen)
{
	ListCell   *lc;

	foreach(lc, sc_changed_views_hook ? sc_changed_views_hook() : NIL)
	{
		int			n;
		int64	   *ids = sc_rules_of_view(lfirst_oid(lc), &n);

		for (int i = 0; i < n; i++)
		{
			char	   *pattern;
			char	   *prefix;

			if (sc_rule_pattern(ids[i], &pattern, &prefix) && strlen(prefix) <= keylen &&
				memcmp(prefix, key, strlen(prefix)) == 0)
				return true;
		}
	}
	return false;
}

/* Has this transaction, as far as it has got, changed this key? */
bool
sc_cache_wrote_key(const char *key, uint32 keylen)
{
	const char *p = entries.data;
	const char *end = entries.data + entries.len;

	if (is_of_changed_rollup(key, keylen))
		return true;
	if (nentries == 0)
		return false;
	while (p < end)
	{
		ScEntry		e;

		p = sc_entry_read(p, end, &e);
		if (e.kind == SC_ENTRY_EPOCH ||
			(e.keylen == keylen && memcmp(e.key, key, keylen) == 0))
			return true;
	}
	return false;
}

/* ---- the trigger ---- */

typedef struct Condition
{
	ScRule	   *rule;
	TupleTableSlot *slot;
	bool		holds;			/* out */
} Condition;

/*
 * It is the owner's, as the rule's value is: writers need no rights for it, and
 * none of their settings, search_path least of all, has a say in it.
 */
static void
evaluate_condition(void *arg)
{
	Condition  *condition = arg;
	ScRule	   *rule = condition->rule;
	Oid			saveuser;
	int			savesec;
	int			nest = sc_rule_modes(rule);
	bool		isnull;
	Datum		d;

	GetUserIdAndSecContext(&saveuser, &savesec);
	sc_rule_expression_modes();
	SetUserIdAndSecContext(rule->owner, savesec | SECURITY_RESTRICTED_OPERATION);
	sc_rule_compile_condition(rule);
	rule->econtext->ecxt_scantuple = condition->slot;
	d = ExecEvalExprSwitchContext(rule->condstate, rule->econtext, &isnull);
	condition->holds = !isnull && DatumGetBool(d);
	SetUserIdAndSecContext(saveuser, savesec);
	AtEOXact_GUC(true, nest);
}

/*
 * Does the condition hold?  If it fails, the key had better go, and no value be
 * stored, of which nobody knows whether it is to be there.
 */
static bool
holds(ScRule *rule, TupleTableSlot *slot, bool *failed)
{
	Condition	condition = {rule, slot, true};
	ErrorData  *error;

	if (rule->condstate == NULL && rule->broken_in == MyProc->lxid)
	{
		*failed = true;
		return true;
	}
	error = sc_attempt(evaluate_condition, &condition, true);
	if (error && !sc_error_is_harmless(error->sqlerrcode))
		ReThrowError(error);
	if (error)
	{
		*failed = true;
		FreeErrorData(error);
	}
	if (rule->condstate)
		ResetExprContext(rule->econtext);
	else
		rule->broken_in = MyProc->lxid; /* not for each row anew */
	return condition.holds;
}

static bool
same_column(AttrNumber attno, TupleTableSlot *a, TupleTableSlot *b)
{
	Form_pg_attribute att = TupleDescAttr(a->tts_tupleDescriptor, attno - 1);
	bool		na;
	bool		nb;
	Datum		da = slot_getattr(a, attno, &na);
	Datum		db = slot_getattr(b, attno, &nb);

	return na == nb &&
		(na || datum_image_eq(da, db, att->attbyval, att->attlen));
}

static bool
same_columns(ScRule *rule, TupleTableSlot *a, TupleTableSlot *b)
{
	int			attno = -1;

	while ((attno = bms_next_member(rule->columns, attno)) >= 0)
		if (!same_column(attno, a, b))
			return false;
	return true;
}

static bool
same_key(ScRule *rule, TupleTableSlot *a, TupleTableSlot *b)
{
	for (int i = 0; i < rule->npieces; i++)
		if (rule->pieces[i].attno && !same_column(rule->pieces[i].attno, a, b))
			return false;
	return true;
}

static TupleTableSlot *
converted(ScRuleEval *eval, TupleTableSlot *slot, int which)
{
	if (slot == NULL || eval->map == NULL)
		return slot;
	return execute_attr_map_slot(eval->map, slot, eval->slot[which]);
}

static void
capture(ScRule *rule, TupleTableSlot *old, TupleTableSlot *new)
{
	static StringInfoData key;
	static StringInfoData parts;
	MemoryContext cxt;
	StringInfo	wanted;
	bool		failed = false;

	if (key.data == NULL)
	{
		cxt = MemoryContextSwitchTo(TopMemoryContext);
		initStringInfo(&key);
		initStringInfo(&parts);
		MemoryContextSwitchTo(cxt);
	}
	if (old && new && rule->columns && same_columns(rule, old, new))
		return;
	if (rule->condition && !(old && holds(rule, old, &failed)) &&
		!(new && holds(rule, new, &failed)))
		return;
	wanted = rule->write && !failed ? &parts : NULL;
	if (old && sc_rule_key(rule, old, &key, wanted))
		add_key(rule, &key, wanted);
	if (new && !(old && same_key(rule, old, new)) &&
		sc_rule_key(rule, new, &key, wanted))
		add_key(rule, &key, wanted);
	if (key.maxlen > KEEP_BUFFER || parts.maxlen > KEEP_BUFFER)
	{
		pfree(key.data);
		pfree(parts.data);
		key.data = NULL;
	}
}

/* The trigger's argument is a number as the rule's creation wrote it. */
static int64
parse_id(const char *s)
{
	uint64		id = 0;

	for (; *s >= '0' && *s <= '9'; s++)
		id = id * 10 + (*s - '0');
	return (int64) id;
}

static int64
rule_of_trigger(FunctionCallInfo fcinfo, const char *function, bool row)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(data->tg_event) ||
		data->tg_trigger->tgnargs != 1 ||
		(row ? !TRIGGER_FIRED_FOR_ROW(data->tg_event) :
		 !TRIGGER_FIRED_BY_TRUNCATE(data->tg_event)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" serves cache rules only", function),
				 errdetail("It is called by their triggers."),
				 errhint("Create rules with scalecache.create_cache_rule.")));
	return parse_id(data->tg_trigger->tgargs[0]);
}

/*
 * A row of rel has changed; one of the slots may be NULL.  With conditions
 * false the rule is left alone if it has one, and the result is false.
 */
static bool
row_changed(int64 id, Relation rel, TupleTableSlot *old, TupleTableSlot *new,
			bool conditions)
{
	ScRule	   *rule;
	bool		done = true;
	bool		busy;

	if (nepochs > 0 && has_epoch(id))
		return true;
	rule = sc_rule_find(id, &busy);
	if (rule == NULL)
	{
		if (busy)
			touch_unloaded(id);
		return true;
	}
	if (rule->condition && !conditions)
		done = false;
	else
	{
		ScRuleEval *eval = sc_rule_eval(rule, rel);

		capture(rule, converted(eval, old, 0), converted(eval, new, 1));
	}
	sc_rule_release(rule);
	return done;
}

Datum
scalecache_cache_capture(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	int64		id = rule_of_trigger(fcinfo, "cache_capture", true);
	TupleTableSlot *old = data->tg_trigslot;
	TupleTableSlot *new = data->tg_newslot;

	sc_known_learn(&capturing, fcinfo->flinfo->fn_oid);
	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
	{
		new = old;
		old = NULL;
	}
	(void) row_changed(id, data->tg_relation, old, new, true);
	return PointerGetDatum(NULL);
}

Datum
scalecache_cache_truncate(PG_FUNCTION_ARGS)
{
	int64		id = rule_of_trigger(fcinfo, "cache_truncate", false);

	if (!has_epoch(id))
		touch_unloaded(id);
	return PointerGetDatum(NULL);
}

/* ---- without an event ---- */

/*
 * An AFTER trigger's condition is evaluated when the row has just been
 * changed, with the old and the new row at hand.  If it holds, an event is
 * queued, which fetches both rows again.  So our triggers are given a condition
 * that captures the keys and says no, in the executor's own copy of the
 * table's triggers, and need no event.  What does not come from a plan's
 * ModifyTable (COPY, logical apply, routed rows) has the event.
 */
static Datum
capture_row(ExprState *state, ExprContext *econtext, bool *isnull)
{
	ScCondition *cond = (ScCondition *) state;

	*isnull = false;
	/* A rule's own condition may need a subtransaction: not here. */
	return BoolGetDatum(!row_changed(cond->id, cond->rel,
									 econtext->ecxt_innertuple,
									 econtext->ecxt_outertuple, false));
}

static void
set_conditions(EState *estate, ResultRelInfo *target)
{
	TriggerDesc *desc = target->ri_TrigDesc;

	if (desc == NULL ||
		target->ri_RelationDesc->rd_rel->relkind != RELKIND_RELATION)
		return;
	for (int i = 0; i < desc->numtriggers; i++)
	{
		Trigger    *trigger = &desc->triggers[i];

		if (trigger->tgfoid != capturing.function || trigger->tgqual ||
			!TRIGGER_FOR_ROW(trigger->tgtype) ||
			!TRIGGER_FOR_AFTER(trigger->tgtype) || trigger->tgnargs != 1)
			continue;
		sc_condition_set(estate, target, i, capture_row, parse_id(trigger->tgargs[0]));
		/* Says that there is one; what it is has been prepared above. */
		trigger->tgqual = "";
	}
}

static void
executor_start(QueryDesc *query, int eflags)
{
	ModifyTableState *mt;

	if (prev_start)
		prev_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
	if (query->operation == CMD_SELECT || !OidIsValid(capturing.function) ||
		(eflags & EXEC_FLAG_EXPLAIN_ONLY) || query->planstate == NULL ||
		!IsA(query->planstate, ModifyTableState))
		return;
	mt = (ModifyTableState *) query->planstate;
	for (int i = 0; i < mt->mt_nrels; i++)
		set_conditions(query->estate, &mt->resultRelInfo[i]);
}

/* ---- rollups ---- */

static void
group_changed(Oid view, int nkeys, const AttrNumber *attnos,
			  const Datum *keys, const bool *nulls)
{
	int			n;
	int64	   *ids = sc_rules_of_view(view, &n);

	for (int r = 0; r < n; r++)
	{
		int64		id = ids[r];
		ScRule	   *rule;
		Datum	   *values;
		bool	   *isnull;
		StringInfoData key;
		StringInfoData parts;
		bool		busy = true;

		if (has_epoch(id))
			continue;
		rule = keys ? sc_rule_find(id, &busy) : NULL;
		if (rule == NULL)
		{
			if (busy)
				touch_unloaded(id);
			continue;
		}
		values = palloc0(sizeof(Datum) * rule->desc->natts);
		isnull = palloc(sizeof(bool) * rule->desc->natts);
		memset(isnull, true, sizeof(bool) * rule->desc->natts);
		for (int i = 0; i < nkeys; i++)
			if (attnos[i] > 0)
			{
				values[attnos[i] - 1] = keys[i];
				isnull[attnos[i] - 1] = nulls[i];
			}
		initStringInfo(&key);
		initStringInfo(&parts);
		if (sc_rule_key_values(rule, values, isnull, &key, &parts))
			add_key(rule, &key, rule->write ? &parts : NULL);
		sc_rule_release(rule);
	}
}

/* ---- transactions ---- */

/* Leave out the keys of rules all of whose keys go anyway. */
static void
compact(void)
{
	uint32		kept = 0;
	uint32		length = 0;

	for (uint32 i = 0; i < nentries; i++)
	{
		uint32		len = entry_end(i) - offsets[i];
		ScEntry		e;

		(void) sc_entry_read(entries.data + offsets[i],
							 entries.data + entry_end(i), &e);
		if (e.kind != SC_ENTRY_EPOCH && has_epoch(e.rule))
			continue;
		/* The end of entry i was read before its offset is overwritten. */
		memmove(entries.data + length, entries.data + offsets[i], len);
		offsets[kept++] = length;
		length += len;
	}
	nentries = kept;
	entries.len = length;
	tableused = 0;
}

static void
before_end(bool prepare)
{
	if (nentries == 0)
		return;
	if (nepochs > 0)
		compact();
	sc_outbox_write(entries.data, offsets, nentries, entries.len, prepare);
	wrote = true;
}

/* Called when the transaction is over and its locks are gone. */
static void
after_transaction(void *arg)
{
	if (!wait_after)
		return;
	wait_after = false;
	(void) sc_cache_wait(sc_synchronous_timeout, true, &awaited);
}

static void
arrange_wait(void)
{
	MemoryContextCallback *callback;

	callback = MemoryContextAlloc(TopTransactionContext, sizeof(*callback));
	callback->func = after_transaction;
	callback->arg = NULL;
	MemoryContextRegisterResetCallback(TopTransactionContext, callback);
}

/*
 * Logical apply commits prepared transactions by no command: a transaction of
 * its own that writes nothing may have done so.
 */
static void
applied_prepared(void)
{
	sc_memory_fence_all();
	sc_memory_lift_all(true);
	sc_cache_notify();
}

static void
xact_callback(XactEvent event, void *arg)
{
	static bool had_xid = false;

	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			before_end(false);
			had_xid = TransactionIdIsValid(GetTopTransactionIdIfAny());
			/* No more errors after this, or the fences would stay. */
			if (wrote && sc_synchronous_invalidation && !IsBackgroundWorker)
			{
				arrange_wait();
				wait_after = true;
				awaited.xid = U64FromFullTransactionId(GetTopFullTransactionId());
				awaited.moves = sc_cache_moves();
			}
			if (nentries > 0 && synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
			{
				sc_cache_async_begin();
				async = true;
			}
			if (nentries > 0)
			{
				my_xid = GetTopFullTransactionIdIfAny();
				sc_cache_note_commit(XidFromFullTransactionId(my_xid), 0);
				sc_memory_fence(entries.data, entries.len);
				fenced = true;
			}
			break;
		case XACT_EVENT_PRE_PREPARE:
			before_end(true);
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			if (fenced && event == XACT_EVENT_COMMIT)
				sc_cache_note_commit(XidFromFullTransactionId(my_xid),
									 GetCurrentTimestamp());
			if (fenced)
				sc_memory_lift(entries.data, entries.len,
							   event == XACT_EVENT_COMMIT, my_xid);
			fenced = false;
			if (async)
				sc_cache_async_end(event == XACT_EVENT_COMMIT ? XactLastCommitEnd : 0);
			async = false;
			forget_all();
			if (event != XACT_EVENT_COMMIT)
				wait_after = false;
			if (event == XACT_EVENT_COMMIT && IsLogicalWorker() && !had_xid)
				applied_prepared();
			if (wrote && event == XACT_EVENT_COMMIT)
				sc_cache_notify();
			wrote = false;
			break;
		default:
			break;
	}
}

static void
subxact_callback(SubXactEvent event, SubTransactionId mySubid,
				 SubTransactionId parentSubid, void *arg)
{
	Mark	   *mark;

	if (nmarks == 0 || marks[nmarks - 1].subid != mySubid)
		return;
	mark = &marks[nmarks - 1];
	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		truncate_to(mark);
		nmarks--;
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		if (nmarks > 1 && marks[nmarks - 2].subid == parentSubid)
			nmarks--;
		else
			mark->subid = parentSubid;
	}
}

/* The keys of COMMIT PREPARED are in the outbox, and nowhere else. */
void
sc_cache_committed_prepared(void)
{
	wrote = true;
	if (sc_synchronous_invalidation)
	{
		arrange_wait();
		wait_after = true;
		/* Whose keys they are is not known here. */
		memset(&awaited, 0, sizeof(awaited));
	}
}

void
sc_cache_capture_init(void)
{
	sc_group_changed_hook = group_changed;
	sc_view_has_rules_hook = sc_relation_has_rules;
	sc_known_init(&capturing);
	prev_start = ExecutorStart_hook;
	ExecutorStart_hook = executor_start;
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}
