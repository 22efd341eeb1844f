/*
 * value.c: the value that a "write" rule stores for a row.
 *
 * The worker reads the row as its snapshot shows it, as the table's owner
 * and under restrictions, in a subtransaction: whatever the expression does,
 * the worst is that the key is deleted instead and the rule shows as failing.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"

#include "cache/cache.h"
#include "cache/link.h"
#include "cache/rules.h"

#define LOCK_TIMEOUT_MS	"100"
#define VALUE_TIMEOUT_MS	5000	/* at most; less if statement_timeout says so */
#define TURN_MS		10000		/* for all values of a rule in a turn */
#define MAX_SPENT	64

static Oid
owner_of(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

/* The texts of the key's columns as parameters. */
static int
read_parts(const ScEntry *e, Datum **values, Oid **types)
{
	const char *p = e->parts;
	const char *end = p + e->partslen;
	/* Each has its length first. */
	int			max = e->partslen / sizeof(uint32);
	int			n = 0;

	*values = palloc(max * sizeof(Datum));
	*types = palloc(max * sizeof(Oid));
	while (p < end)
	{
		uint32		len;

		memcpy(&len, p, sizeof(len));
		p += sizeof(len);
		(*values)[n] = PointerGetDatum(cstring_to_text_with_len(p, len));
		(*types)[n++] = TEXTOID;
		p += len;
	}
	return n;
}

/* Others' keys must not wait for an expression that takes for ever. */
static void
begin_timeout(void)
{
	int			ms = VALUE_TIMEOUT_MS;

	if (StatementTimeout > 0)
		ms = Min(ms, StatementTimeout);
	enable_timeout_after(STATEMENT_TIMEOUT, ms);
}

static void
end_timeout(void)
{
	disable_timeout(STATEMENT_TIMEOUT, false);
	/* It may have fired after the expression had ended. */
	QueryCancelPending = false;
}

/*
 * Time spent for the values of rules in this turn.  Others' keys must not wait
 * for many slow values of one rule either.
 */
typedef struct Spent
{
	int64		rule;
	int64		us;
} Spent;

static Spent spent[MAX_SPENT];
static int	nspent = 0;

/* NULL: too many of them, so this one is not limited. */
static Spent *
spent_by(int64 rule)
{
	for (int i = 0; i < nspent; i++)
		if (spent[i].rule == rule)
			return &spent[i];
	if (nspent == MAX_SPENT)
		return NULL;
	spent[nspent].rule = rule;
	spent[nspent].us = 0;
	return &spent[nspent++];
}

void
sc_value_begin_turn(void)
{
	nspent = 0;
}

/* Why the value is not to be computed at all; NULL: it is, from now on. */
static const char *
begin_value(const ScEntry *e)
{
	Spent	   *s = spent_by(e->rule);

	if (s && s->us > TURN_MS * INT64CONST(1000))
		return "values take too long, and of many of them the keys are deleted instead";
	if (!sc_attempt_begin(e))
		return "the value has ended its worker again and again, and is not computed until the rule is made anew";
	return NULL;
}

/* Beyond its timeout it was the machine that stood still, or a clock that was set. */
static void
end_value(const ScEntry *e, TimestampTz start)
{
	Spent	   *s = spent_by(e->rule);

	sc_attempt_end();
	if (s && start != 0)
		s->us += Min(Max(GetCurrentTimestamp() - start, 0), VALUE_TIMEOUT_MS * INT64CONST(1000));
}

static const char *
value_for_redis(const char *s)
{
	uint32		length;
	const char *result = sc_text_for_redis(s, (uint32) strlen(s), &length);

	if (result == s && sc_text_is_converted())
		ereport(ERROR,
				(errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
				 errmsg("value cannot be converted to UTF8")));
	return result;
}

/* NULL: no such row, several, or a null value. */
static char *
run(ScRule *rule, const ScEntry *e, MemoryContext cxt)
{
	Datum	   *values;
	Oid		   *types;
	int			n;
	char	   *result = NULL;
	char	   *query = sc_rule_value_query(rule);

	SPI_connect();
	n = read_parts(e, &values, &types);
	if (SPI_execute_with_args(query, n, types, values, NULL, true, 2) != SPI_OK_SELECT)
		elog(ERROR, "unexpected result of \"%s\"", query);
	if (SPI_processed == 1)
	{
		char	   *s = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);

		if (s && strlen(s) > sc_link_value_limit())
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("value has %zu bytes, and Redis seems to take no more than %zu",
							strlen(s), sc_link_value_limit())));
		if (s)
			result = MemoryContextStrdup(cxt, value_for_redis(s));
	}
	SPI_finish();
	return result;
}

/*
 * What is to be noted in rules' rows.  That waits for the end of the
 * transaction, when no more tables are to be locked: who alters one of them
 * holds it, and may wait for the row.
 */
typedef struct Note
{
	int64		rule;
	char		message[256];	/* empty: its value could be had */
} Note;

#define MAX_NOTES	64

static Note notes[MAX_NOTES];
static int	nnotes = 0;

static void
note(int64 rule, const char *message)
{
	int			i = 0;

	while (i < nnotes && notes[i].rule != rule)
		i++;
	if (i == MAX_NOTES)
		return;					/* the next value will tell */
	notes[i].rule = rule;
	strlcpy(notes[i].message, message, sizeof(notes[i].message));
	nnotes = Max(nnotes, i + 1);
}

/* Redis has refused the value; its key is deleted. */
void
sc_value_refused(const ScEntry *e, const char *why)
{
	char		message[256];

	snprintf(message, sizeof(message), "Redis has refused the value: %s", why);
	note(e->rule, message);
}

/* Call before a transaction ends in which there have been values. */
void
sc_value_write_notes(void)
{
	while (nnotes > 0)
	{
		Note	   *n = &notes[--nnotes];
		ScRule	   *rule = sc_rule_by_id(n->rule);

		if (rule == NULL)
			continue;
		sc_rule_set_failing(rule, n->message[0] ? n->message : NULL);
		sc_rule_release(rule);
	}
}

/* The rule and, so that it stays as it is, a lock on its table; or NULL. */
static ScRule *
lock_rule(int64 id)
{
	ScRule	   *rule = sc_rule_by_id(id);
	Oid			relid;

	if (rule == NULL)
		return NULL;
	relid = rule->relid;
	sc_rule_release(rule);
	LockRelationOid(relid, AccessShareLock);
	return sc_rule_by_id(id);
}

/* Result is in the caller's context; NULL: delete the key. */
char *
sc_value_of(const ScEntry *e, int64 *ttl_ms)
{
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	Oid			saveuser;
	int			savesec;
	char	   *volatile result = NULL;
	ScRule	   *volatile rule = NULL;
	volatile TimestampTz start = 0;
	const char *why;
	char		message[256] = "";

	GetUserIdAndSecContext(&saveuser, &savesec);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		int			nest = NewGUCNestLevel();

		/* Somebody may be altering the table. */
		(void) set_config_option("lock_timeout", LOCK_TIMEOUT_MS, PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
		rule = lock_rule(e->rule);
		if (rule)
		{
			SetUserIdAndSecContext(owner_of(rule->relid),
								   savesec | SECURITY_RESTRICTED_OPERATION);
			(void) sc_rule_modes(rule);
			sc_rule_expression_modes();
			(void) set_config_option("row_security", "off", PGC_USERSET, PGC_S_SESSION,
									 GUC_ACTION_SAVE, true, 0, false);
			*ttl_ms = rule->ttl_ms;
			why = begin_value(e);
			if (why == NULL)
			{
				start = GetCurrentTimestamp();
				begin_timeout();
				result = run(rule, e, cxt);
				end_timeout();
				end_value(e, start);
			}
			else
				strlcpy(message, why, sizeof(message));
			SetUserIdAndSecContext(saveuser, savesec);
		}
		AtEOXact_GUC(true, nest);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(cxt);
		end_timeout();
		end_value(e, start);
		/* Whatever it is, other keys must not wait for this one for ever. */
		edata = CopyErrorData();
		FlushErrorState();
		strlcpy(message, edata->message, sizeof(message));
		RollbackAndReleaseCurrentSubTransaction();
		SetUserIdAndSecContext(saveuser, savesec);
		result = NULL;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	if (rule)
	{
		if (rule->failing || message[0])
			note(rule->id, message);
		sc_rule_release(rule);
	}
	return result;
}
