/*
 * capture.c: from row changes to deltas.
 *
 * An AFTER ROW trigger adds each changed row, with its sign, to groups in
 * memory; they are appended to the delta table before the transaction (or
 * subtransaction) commits or is prepared, and before anything reads the
 * rollup.  Appending never waits for another writer.
 *
 * Changes are kept for each subtransaction apart, so that an abort takes
 * along just its own.  A reader in a deeper subtransaction makes outer
 * changes visible to itself by writing them there; if that one aborts they
 * are unwritten again, so they are kept until their own level ends.
 *
 * Changes of several commands become one delta, of the last of these, so no
 * snapshot that is still to be read with may lie between them: a cursor's, or
 * that of a query that calls functions.  Queries that start while changes are
 * pending are therefore remembered until they end.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/sysattr.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/guc.h"
#include "rollup/rollup.h"
#include "rollup/zones.h"
#include "worker/launcher.h"

typedef struct Pending
{
	ScSpec	   *spec;			/* pinned */
	SubTransactionId subid;		/* that made the changes */
	SubTransactionId written;	/* that wrote them to the delta table */
	CommandId	mincid;
	CommandId	maxcid;
	ScGroups   *groups;
	int64		nchanges;
	struct Pending *next;
} Pending;

/* A query that was started when changes were pending, in its memory */
typedef struct Reader
{
	CommandId	curcid;			/* sees what earlier commands did */
	CommandId	cid;			/* changes made by the query itself */
	MemoryContextCallback callback;
	struct Reader *next;
} Reader;

/* Where changes are not gathered anyway, what fits the processor's cache. */
#define SC_SMALL_BUFFER		(4 * 1024 * 1024)

static Pending *pending = NULL; /* innermost level first */
static MemoryContext pending_cxt = NULL;
static Reader *readers = NULL;
static bool scattered = false;	/* most groups got one change */
static bool wrote = false;		/* this transaction left deltas */

PG_FUNCTION_INFO_V1(scalecache_rollup_capture);
PG_FUNCTION_INFO_V1(scalecache_row_differs);

/* Changes of the usual few rows, to be used again. */
#define SC_SPARE_BYTES	(16 * 1024)

static Pending *spare = NULL;

static pg_attribute_hot void
forget(Pending **link)
{
	Pending    *p = *link;

	*link = p->next;
	sc_spec_release(p->spec);
	/* It has no children. */
	if (spare == NULL && p->groups->cxt->mem_allocated <= SC_SPARE_BYTES)
	{
		spare = p;
		return;
	}
	MemoryContextDelete(p->groups->cxt);
	pfree(p);
}

/* Append the groups as deltas of command cid. */
static pg_attribute_hot void
write_out(Pending *p, CommandId cid)
{
	if (sc_delta_append(p->groups, cid) > 0)
		wrote = true;
	sc_notify_groups(p->groups);
}

/* Is there a query that sees what p has, and is not to see command cid? */
static bool
is_read_between(Pending *p, CommandId cid)
{
	for (Reader *r = readers; r; r = r->next)
		if (r->curcid > p->mincid && r->curcid <= cid && r->cid != cid)
			return true;
	return false;
}

/* Zeros, but for the specification and no groups. */
static pg_attribute_hot Pending *
make_pending(ScSpec *spec)
{
	Pending    *p;
	ScGroups   *groups;

	if (pending_cxt == NULL)
		pending_cxt = AllocSetContextCreate(TopMemoryContext, "scalecache changes",
											ALLOCSET_SMALL_SIZES);
	if (spare == NULL)
	{
		p = MemoryContextAlloc(pending_cxt, sizeof(Pending));
		groups = sc_groups_create(spec, pending_cxt);
	}
	else
	{
		p = spare;
		spare = NULL;
		groups = sc_groups_renew(p->groups, spec);
	}
	memset(p, 0, sizeof(Pending));
	p->spec = spec;
	p->groups = groups;
	return p;
}

/* Where changes by command cid of this subtransaction go. */
static pg_attribute_hot Pending *
pending_for(ScSpec *spec, CommandId cid)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	Pending    *p;

	for (p = pending; p; p = p->next)
		if (p->spec == spec && p->subid == subid &&
			p->written == InvalidSubTransactionId &&
			!(readers && is_read_between(p, cid)))
		{
			p->mincid = Min(p->mincid, cid);
			p->maxcid = Max(p->maxcid, cid);
			return p;
		}
	p = make_pending(spec);
	sc_spec_pin(spec);
	p->subid = subid;
	p->mincid = p->maxcid = cid;
	p->next = pending;
	pending = p;
	return p;
}

/* What row_differs has found out about its arguments, in FmgrInfo's context. */
typedef struct Pairs
{
	int			table;			/* argument NEW.tableoid, or 0 */
	int			tid;			/* argument NEW.ctid, or 0 */
	AttrNumber *attnos;			/* of NEW, for each pair */
	ScZones		zones;
	bool	   *typbyval;
	int16		typlen[FLEXIBLE_ARRAY_MEMBER];
} Pairs;

static Pairs *
read_pairs(FunctionCallInfo fcinfo)
{
	int			n = PG_NARGS();
	FmgrInfo   *flinfo = fcinfo->flinfo;
	MemoryContext old = MemoryContextSwitchTo(flinfo->fn_mcxt);
	Pairs	   *pairs = palloc0(offsetof(Pairs, typlen) + n * sizeof(int16));
	FuncExpr   *call = (FuncExpr *) flinfo->fn_expr;

	pairs->typbyval = palloc0(n * sizeof(bool));
	pairs->attnos = palloc0(n * sizeof(AttrNumber));
	for (int i = 0; i < n; i++)
	{
		Oid			type = get_fn_expr_argtype(flinfo, i);
		Var		   *var;

		if (n % 2 != 0 || !OidIsValid(type) || get_fn_expr_variadic(flinfo) ||
			type != get_fn_expr_argtype(flinfo, i - i % 2))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("arguments of \"%s\" must be pairs of one type",
							"row_differs"),
					 errhint("It serves the triggers of rollups.")));
		get_typlenbyval(type, &pairs->typlen[i], &pairs->typbyval[i]);
		var = call && IsA(call, FuncExpr) && i % 2 == 1 ? list_nth(call->args, i) : NULL;
		/* NEW, as the executor names it, has system columns only there. */
		if (var == NULL || !IsA(var, Var) || var->varno != OUTER_VAR)
			continue;
		if (var->varattno == TableOidAttributeNumber)
			pairs->table = i;
		else if (var->varattno == SelfItemPointerAttributeNumber)
			pairs->tid = i;
		else
			pairs->attnos[i] = var->varattno;
	}
	MemoryContextSwitchTo(old);
	flinfo->fn_extra = pairs;
	return pairs;
}

/* Nothing of the row has changed but its place, which maps of zones need. */
static void
enter_moved(FunctionCallInfo fcinfo, Pairs *pairs)
{
	Oid			relid = PG_GETARG_OID(pairs->table);
	ItemPointer tid = (ItemPointer) PG_GETARG_POINTER(pairs->tid);

	if (!sc_zones_wanted(&pairs->zones, InvalidOid, relid))
		return;
	for (int j = 0; j < pairs->zones.n; j++)
		for (int i = 1; i < PG_NARGS(); i += 2)
			if (pairs->attnos[i] == pairs->zones.attnos[j] && !PG_ARGISNULL(i))
				sc_zones_enter(&pairs->zones, j, tid, PG_GETARG_DATUM(i));
}

/* One toasted value is found out without reading it. */
static bool
same_image(Datum a, Datum b, bool typbyval, int16 typlen)
{
	if (typlen == -1 && VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(a)) &&
		VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(b)) &&
		memcmp(DatumGetPointer(a), DatumGetPointer(b),
			   VARSIZE_EXTERNAL(DatumGetPointer(a))) == 0)
		return true;
	return datum_image_eq(a, b, typbyval, typlen);
}

/*
 * row_differs(old, new, ...): is any pair not the same image?  The condition
 * of UPDATE triggers; types need not have an equality operator.  Given the
 * table and the place of the row, it does what the trigger does not.
 */
Datum
scalecache_row_differs(PG_FUNCTION_ARGS)
{
	Pairs	   *pairs = fcinfo->flinfo->fn_extra;

	if (pairs == NULL)
		pairs = read_pairs(fcinfo);
	for (int i = 0; i < PG_NARGS(); i += 2)
	{
		Datum		a = PG_GETARG_DATUM(i);
		Datum		b = PG_GETARG_DATUM(i + 1);

		if (pairs->tid == i + 1)
			continue;
		if (PG_ARGISNULL(i) || PG_ARGISNULL(i + 1))
		{
			if (PG_ARGISNULL(i) != PG_ARGISNULL(i + 1))
				PG_RETURN_BOOL(true);
			continue;
		}
		if (!same_image(a, b, pairs->typbyval[i], pairs->typlen[i]))
			PG_RETURN_BOOL(true);
	}
	if (pairs->table && pairs->tid)
		enter_moved(fcinfo, pairs);
	PG_RETURN_BOOL(false);
}

/* Write changes out that take too much memory. */
static pg_attribute_hot void
bound(Pending *p)
{
	Size		limit = (Size) sc_rollup_buffer * 1024;

	p->nchanges++;
	if (scattered)
		limit = Min(limit, SC_SMALL_BUFFER);
	if (p->groups->cxt->mem_allocated <= limit)
		return;
	scattered = p->nchanges < 2 * p->groups->ngroups;
	write_out(p, p->maxcid);
	for (Pending **link = &pending; *link; link = &(*link)->next)
		if (*link == p)
		{
			forget(link);
			break;
		}
}

static bool
same_columns(ScEval *eval, TupleTableSlot *a, TupleTableSlot *b)
{
	TupleDesc	desc = a->tts_tupleDescriptor;
	int			i = -1;

	while ((i = bms_next_member(eval->used, i)) >= 0)
	{
		AttrNumber	attno = i + FirstLowInvalidHeapAttributeNumber;
		Form_pg_attribute att;
		Datum		da,
					db;
		bool		na,
					nb;

		if (attno <= 0)
			return false;
		att = TupleDescAttr(desc, attno - 1);
		da = slot_getattr(a, attno, &na);
		db = slot_getattr(b, attno, &nb);
		if (na != nb ||
			(!na && !same_image(da, db, att->attbyval, att->attlen)))
			return false;
	}
	return true;
}

/* The rollup a trigger names; most often the one it named before. */
int64
sc_capture_rollup_id(const char *arg)
{
	static char last[24] = "";
	static int64 id = 0;

	if (strcmp(arg, last) != 0)
	{
		id = strtoll(arg, NULL, 10);
		strlcpy(last, arg, sizeof(last));
	}
	return id;
}

static pg_attribute_hot bool
is_captured(ScSpec *spec)
{
	return spec->stored == SC_LIVE || spec->stored == SC_FILLING;
}

/*
 * How to count rows of rel, or NULL, with the listeners told, when they are
 * not counted one by one.
 */
static pg_attribute_hot ScEval *
counting(ScSpec *spec, Relation rel)
{
	ScEval	   *eval = NULL;

	if (is_captured(spec))
		eval = sc_spec_eval(spec, rel);
	if (eval && eval->counted)
		return eval;
	sc_notify_all_groups(spec->view);
	return NULL;
}

/* Are rows of rel counted one by one for the rollup, if there is such? */
bool
sc_capture_counts(int64 id, Relation rel)
{
	ScSpec	   *spec = sc_spec_by_id(id);
	bool		counts = spec && is_captured(spec) && sc_spec_eval(spec, rel)->counted;

	if (spec)
		sc_spec_release(spec);
	return counts;
}

/*
 * row_differs, for rows of rel whose trigger names this rollup: has it to be
 * called?
 */
bool
sc_capture_differs(int64 id, Relation rel, TupleTableSlot *old,
				   TupleTableSlot *new)
{
	ScSpec	   *spec = sc_spec_by_id(id);
	ScEval	   *eval = spec && is_captured(spec) ? sc_spec_eval(spec, rel) : NULL;
	bool		differs = eval == NULL || !eval->counted ||
		!same_columns(eval, old, new);

	if (!differs)
		sc_zones_enter_row(&eval->zones, spec->base, rel, new, &new->tts_tid);
	if (spec)
		sc_spec_release(spec);
	return differs;
}

/*
 * The command that made the change.  By the time the trigger fires others may
 * have been run, by triggers that fired before it.
 */
static CommandId
command_of(TriggerData *data)
{
	HeapTupleHeader inserted;

	if (data->tg_relation->rd_tableam != GetHeapamTableAmRoutine())
		return GetCurrentCommandId(true);
	if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
		return HeapTupleHeaderGetCmax(data->tg_trigtuple->t_data);
	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		return HeapTupleHeaderGetCmin(data->tg_newtuple->t_data);
	inserted = data->tg_trigtuple->t_data;
	/* COPY FREEZE hides the transaction, which the other way of asking checks. */
	return HeapTupleHeaderXminFrozen(inserted) ?
		HeapTupleHeaderGetRawCommandId(inserted) : HeapTupleHeaderGetCmin(inserted);
}

Datum
scalecache_rollup_capture(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	TupleTableSlot *new;
	ScSpec	   *spec;
	ScEval	   *eval;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(data->tg_event) ||
		!TRIGGER_FIRED_AFTER(data->tg_event) || data->tg_trigger->tgnargs != 1)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" serves rollup triggers only", "rollup_capture"),
				 errhint("Create rollups with scalecache.create_rollup.")));

	sc_insert_learn(fcinfo->flinfo->fn_oid);
	new = TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newslot : data->tg_trigslot;
	spec = sc_spec_by_id(sc_capture_rollup_id(data->tg_trigger->tgargs[0]));
	if (spec == NULL)
		return PointerGetDatum(NULL);
	eval = counting(spec, data->tg_relation);
	/* A new version of a row is in a new place, whatever it has. */
	if (eval && !TRIGGER_FIRED_BY_DELETE(data->tg_event))
		sc_zones_enter_row(&eval->zones, spec->base, data->tg_relation, new,
						   &new->tts_tid);
	if (eval && !(TRIGGER_FIRED_BY_UPDATE(data->tg_event) &&
				  same_columns(eval, data->tg_trigslot, data->tg_newslot)))
	{
		Pending    *p = pending_for(spec, command_of(data));

		if (!TRIGGER_FIRED_BY_INSERT(data->tg_event))
			sc_groups_add_row(p->groups, eval, data->tg_trigslot, -1);
		if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
			sc_groups_add_row(p->groups, eval, data->tg_trigslot, 1);
		else if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
			sc_groups_add_row(p->groups, eval, data->tg_newslot, 1);
		bound(p);
	}
	sc_spec_release(spec);
	return PointerGetDatum(NULL);
}

/*
 * A row that command cid has inserted into rel, in the place tid (NULL: not
 * known).  *spec, pinned, is replaced when it has become invalid meanwhile.
 */
pg_attribute_hot void
sc_capture_insert(ScSpec **spec, Relation rel, TupleTableSlot *row, ItemPointer tid,
				  CommandId cid)
{
	ScEval	   *eval;
	Pending    *p;

	if (!(*spec)->valid)
	{
		ScSpec	   *fresh = sc_spec_by_id((*spec)->id);

		if (fresh == NULL)
			return;
		sc_spec_release(*spec);
		*spec = fresh;
	}
	eval = counting(*spec, rel);
	if (eval == NULL)
		return;
	sc_zones_enter_row(&eval->zones, (*spec)->base, rel, row, tid);
	p = pending_for(*spec, cid);
	sc_groups_add_row(p->groups, eval, row, 1);
	bound(p);
}

/*
 * Add sign times all rows of a member that came or went as a whole, and that
 * nobody else is changing.
 */
void
sc_capture_scan(ScSpec *spec, Relation rel, Snapshot snapshot, int sign)
{
	ScEval	   *eval = sc_spec_eval(spec, rel);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		Pending    *p = pending_for(spec, GetCurrentCommandId(true));

		CHECK_FOR_INTERRUPTS();
		sc_groups_add_row(p->groups, eval, slot, sign);
		bound(p);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
}

/*
 * Make this transaction's changes visible to a reader with snapshot.  False
 * when some belong to it and others do not: the caller asks the source.
 */
bool
sc_capture_flush(ScSpec *spec, Snapshot snapshot)
{
	Pending   **link = &pending;
	SubTransactionId subid = GetCurrentSubTransactionId();

	while (*link)
	{
		Pending    *p = *link;

		if (p->spec->id != spec->id || p->written != InvalidSubTransactionId)
		{
			link = &p->next;
			continue;
		}
		if (snapshot && p->maxcid >= snapshot->curcid)
		{
			if (p->mincid < snapshot->curcid)
				return false;
			link = &p->next;	/* none of it is for this reader */
			continue;
		}
		write_out(p, p->maxcid);
		if (p->subid == subid)
			forget(link);
		else
		{
			p->written = subid;
			link = &p->next;
		}
	}
	return true;
}

/* Views of rollups with changes that no delta tells of yet. */
List *
sc_capture_changed_views(void)
{
	List	   *views = NIL;

	for (Pending *p = pending; p; p = p->next)
		if (p->written == InvalidSubTransactionId)
			views = list_append_unique_oid(views, p->spec->view);
	return views;
}

static pg_attribute_hot void
flush_level(SubTransactionId subid)
{
	Pending   **link = &pending;

	while (*link)
	{
		if ((*link)->subid != subid)
		{
			link = &(*link)->next;
			continue;
		}
		if ((*link)->written == InvalidSubTransactionId)
			write_out(*link, (*link)->maxcid);
		forget(link);
	}
}

/* The query's memory goes. */
static void
remove_reader(void *arg)
{
	for (Reader **link = &readers; *link; link = &(*link)->next)
		if (*link == arg)
		{
			*link = (*link)->next;
			return;
		}
}

/*
 * A query has been started.  Transaction ids cannot be assigned any more once
 * workers are, and these do not have what is pending here.
 */
pg_attribute_hot void
sc_capture_query_started(QueryDesc *query)
{
	EState	   *estate = query->estate;
	Reader	   *reader;

	if (pending == NULL || query->snapshot == InvalidSnapshot)
		return;
	if (query->plannedstmt->parallelModeNeeded && !IsInParallelMode())
	{
		SubTransactionId subid = GetCurrentSubTransactionId();

		for (Pending **link = &pending; *link;)
		{
			Pending    *p = *link;

			if (p->written == InvalidSubTransactionId &&
				(p->maxcid < query->snapshot->curcid ||
				 p->mincid >= query->snapshot->curcid))
			{
				write_out(p, p->maxcid);
				p->written = subid;
			}
			if (p->written == subid && p->subid == subid)
				forget(link);
			else
				link = &p->next;
		}
		return;
	}
	reader = MemoryContextAlloc(estate->es_query_cxt, sizeof(Reader));
	reader->curcid = query->snapshot->curcid;
	reader->cid = query->operation == CMD_SELECT && !query->plannedstmt->hasModifyingCTE ?
		InvalidCommandId : estate->es_output_cid;
	reader->callback.func = remove_reader;
	reader->callback.arg = reader;
	MemoryContextRegisterResetCallback(estate->es_query_cxt, &reader->callback);
	reader->next = readers;
	readers = reader;
}

static void
subxact_callback(SubXactEvent event, SubTransactionId mySubid,
				 SubTransactionId parentSubid, void *arg)
{
	Pending   **link = &pending;

	if (event == SUBXACT_EVENT_PRE_COMMIT_SUB)
		flush_level(mySubid);
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		while (*link)
		{
			if ((*link)->written == mySubid)
				(*link)->written = parentSubid;
			link = &(*link)->next;
		}
	}
	else if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		sc_claim_abort();
		while (*link)
		{
			if ((*link)->written == mySubid)
				(*link)->written = InvalidSubTransactionId;
			if ((*link)->subid == mySubid)
				forget(link);
			else
				link = &(*link)->next;
		}
	}
}

static pg_attribute_hot void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			if (pending)
				flush_level(GetCurrentSubTransactionId());
			sc_asked_check_left();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			sc_claim_abort();
			sc_asked_end(event == XACT_EVENT_COMMIT);
			while (pending)
				forget(&pending);
			if (wrote && event == XACT_EVENT_COMMIT)
				sc_worker_notify();
			wrote = false;
			scattered = false;
			break;
		default:
			break;
	}
}

void
sc_capture_init(void)
{
	sc_append_init();
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}
