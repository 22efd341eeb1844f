/*
 * walk.c: walking over Redis' keys, and what was stored meanwhile.
 *
 * In a cluster a walk goes over one node after another, and a key may go from
 * one that was not looked at yet to one that was.  So when a walk has been
 * everywhere, the slots whose state is not what it was when it began are
 * walked over again.  A slot that is on its way all the time sends its keys
 * from one node to another: those are then looked at in this order if all nodes
 * are looked at twice.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "cache/cache.h"
#include "cache/link_private.h"

#define STORED_MAX			10000	/* keys that a walk knows to leave alone */

/* ---- what was stored ---- */

/*
 * Values stored since a walk was asked for: newer than what it is to delete.
 * Without it a key written just after its rule was made would vanish again.
 */
typedef struct StoredKey
{
	const char *key;
	uint32		length;
} StoredKey;

typedef struct Stored
{
	StoredKey	key;			/* must be first */
	uint64		position;
} Stored;

static MemoryContext stored_cxt = NULL;
static HTAB *stored = NULL;		/* NULL: nobody asks */
static uint64 position = 0;

static uint32
stored_hash(const void *key, Size keysize)
{
	const StoredKey *k = key;

	return hash_bytes((const unsigned char *) k->key, (int) k->length);
}

static int
stored_compare(const void *a, const void *b, Size keysize)
{
	const StoredKey *ka = a;
	const StoredKey *kb = b;

	return ka->length != kb->length || memcmp(ka->key, kb->key, ka->length) != 0;
}

uint64
sc_link_position(void)
{
	HASHCTL		ctl;

	if (stored)
		return position;
	stored_cxt = AllocSetContextCreate(TopMemoryContext, "scalecache stored keys",
									   ALLOCSET_DEFAULT_SIZES);
	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(StoredKey);
	ctl.entrysize = sizeof(Stored);
	ctl.hash = stored_hash;
	ctl.match = stored_compare;
	ctl.hcxt = stored_cxt;
	stored = hash_create("scalecache stored keys", 256, &ctl,
						 HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	return position;
}

void
sc_link_forget_stored(void)
{
	if (stored)
		MemoryContextDelete(stored_cxt);
	stored = NULL;
}

void
sc_note_stored(const char *key, uint32 keylen)
{
	StoredKey	k = {key, keylen};
	Stored	   *s;
	char	   *copy;

	position++;
	if (stored == NULL)
		return;
	s = hash_search(stored, &k, HASH_FIND, NULL);
	if (s == NULL)
	{
		if (hash_get_num_entries(stored) >= STORED_MAX)
			return;
		copy = MemoryContextAlloc(stored_cxt, keylen);
		memcpy(copy, key, keylen);
		k.key = copy;
		s = hash_search(stored, &k, HASH_ENTER, NULL);
	}
	s->position = position;
}

static bool
was_stored(const char *key, uint32 keylen, uint64 since)
{
	StoredKey	k = {key, keylen};
	Stored	   *s = stored ? hash_search(stored, &k, HASH_FIND, NULL) : NULL;

	return s && s->position > since;
}

/* ---- a walk ---- */

struct ScWalkState
{
	char		cursor[32];		/* empty: at the beginning of a pattern */
	bool		singly;			/* each key by a command of its own */
	char		refusal[256];	/* why some key of the pattern is still there */
	int			node;
	int			rounds;			/* over all nodes, this one included */
	uint64		generation;
	bool		all;			/* slots are wanted, or else */
	bool	   *wanted;			/* these */
	bool	   *todo;			/* those not done yet, of this pattern */
	uint64	   *before;			/* their state when this pass began */
};

/* For no slots yet.  In cxt. */
ScWalkState *
sc_link_walk_new(MemoryContext cxt)
{
	ScWalkState *w = MemoryContextAllocZero(cxt, sizeof(ScWalkState));

	if (sc_cluster == NULL)
		return w;
	w->wanted = MemoryContextAllocZero(cxt, SC_SLOTS * sizeof(bool));
	w->todo = MemoryContextAllocZero(cxt, SC_SLOTS * sizeof(bool));
	w->before = MemoryContextAllocZero(cxt, SC_SLOTS * sizeof(uint64));
	return w;
}

void
sc_link_walk_missing(ScWalkState *w, bool missing_only)
{
	if (!missing_only)
		w->all = true;
	for (int slot = 0; sc_cluster && missing_only && slot < SC_SLOTS; slot++)
		if (sc_missing[slot])
			w->wanted[slot] = true;
}

typedef struct Found
{
	char		error[256];
	char		refusal[256];	/* of a command for its own sake */
	char	   *cursor;
	Size		size;
	uint64		since;
	ScWalkState *walk;
} Found;

/* A key of a slot that another node has is on its way from or to there. */
static void
delete_found(Found *found, const char *key, uint32 keylen)
{
	int			node = (int) (sc_current - sc_nodes);
	int			slot;

	if (sc_cluster == NULL)
	{
		sc_delete_at(sc_current, key, keylen, 0, 0);
		if (found->walk->singly)
			sc_flush_deletes(sc_current);
		return;
	}
	slot = sc_key_slot(key, keylen);
	if (!found->walk->todo[slot])
		return;
	if (sc_cluster->owner[slot] == node)
	{
		sc_delete_at(sc_current, key, keylen, slot, 0);
		if (found->walk->singly)
			sc_flush_deletes(sc_current);
	}
	else if (sc_cluster->open[slot])
	{
		sc_begin_command("ASKING");
		sc_send(sc_current);
		sc_begin_command("UNLINK");
		sc_add_arg(key, keylen);
		sc_send(sc_current);
	}
}

/* The reply to SCAN, then those to the deletions that follow from it. */
static void
read_scan(int n, const ScReply *reply, void *arg)
{
	Found	   *found = arg;
	ScReply		cursor;
	ScReply		keys;

	if (reply->type == SC_REPLY_ERROR)
	{
		/* Then the slot's state has changed, or the key comes up again. */
		if (sc_cluster && n > 0 && sc_is_redirection(reply->str))
			return;
		if (sc_is_of_server(reply->str))
			strlcpy(found->error, reply->str, sizeof(found->error));
		else
			strlcpy(found->refusal, reply->str, sizeof(found->refusal));
		/* Who may not look for keys has nothing to go on with. */
		if (n == 0)
			strlcpy(found->cursor, "0", found->size);
		return;
	}
	if (n > 0)
		return;
	sc_reply_element(reply, 0, &cursor);
	sc_reply_element(reply, 1, &keys);
	if (cursor.type != SC_REPLY_STRING || keys.type != SC_REPLY_ARRAY)
	{
		strlcpy(found->error, "unexpected reply to SCAN", sizeof(found->error));
		return;
	}
	strlcpy(found->cursor, cursor.str, found->size);
	for (int i = 0; i < keys.elements; i++)
	{
		ScReply		key;

		sc_reply_element(&keys, i, &key);
		if (!was_stored(key.str, (uint32) key.len, found->since))
			delete_found(found, key.str, (uint32) key.len);
	}
	sc_flush_deletes(sc_current);
}

/*
 * Look at some keys of the node, delete those that match.  One that Redis does
 * not delete keeps it from deleting the others of the same command, so the step
 * is then taken again, with a command for each.
 */
static bool
scan(ScWalkState *w, const char *pattern, uint64 since, bool *again,
	 char *error, Size errlen)
{
	Found		found = {"", "", w->cursor, sizeof(w->cursor), since, w};
	char		before[sizeof(w->cursor)];
	bool		ok;

	strlcpy(before, w->cursor, sizeof(before));

	sc_link_begin();
	/* The epoch's own tombstone covers them. */
	sc_walking = true;
	sc_begin_command("SCAN");
	sc_add_word(w->cursor);
	sc_add_word("MATCH");
	sc_add_word(pattern);
	sc_add_word("COUNT");
	sc_add_word("1000");
	sc_send(&sc_nodes[w->node]);
	ok = sc_exchange(read_scan, &found, error, errlen);
	sc_walking = false;
	if (!ok)
		return false;
	if (found.error[0] != '\0')
	{
		strlcpy(error, found.error, errlen);
		return false;
	}
	if (found.refusal[0] == '\0')
		return true;
	if (w->singly)
		strlcpy(w->refusal, found.refusal, sizeof(w->refusal));
	else
	{
		w->singly = true;
		strlcpy(w->cursor, before, sizeof(w->cursor));
		*again = true;
	}
	return true;
}

/* Why the pattern just walked over has keys left; NULL: it has none. */
const char *
sc_link_walk_refusal(ScWalkState *w)
{
	return w->refusal[0] != '\0' ? w->refusal : NULL;
}

/* Begin with the first node, with the slots left to do. */
static void
begin_pass(ScWalkState *w)
{
	strcpy(w->cursor, "0");
	w->node = 0;
	w->rounds = 1;
	if (sc_cluster == NULL)
		return;
	w->rounds = sc_cluster->nopen > 0 ? 2 : 1;
	w->generation = sc_generation;
	memcpy(w->before, sc_cluster->state, SC_SLOTS * sizeof(uint64));
}

static bool
begin_pattern(ScWalkState *w, char *error, Size errlen)
{
	if (sc_cluster)
	{
		if (!sc_look(error, errlen))
			return false;
		for (int slot = 0; slot < SC_SLOTS; slot++)
			w->todo[slot] = w->all || w->wanted[slot];
	}
	w->singly = false;
	w->refusal[0] = '\0';
	begin_pass(w);
	return true;
}

/* All nodes have been looked at: is there a slot whose keys may have escaped? */
static bool
end_pass(ScWalkState *w, bool *done, char *error, Size errlen)
{
	*done = true;
	if (sc_cluster == NULL)
		return true;
	if (!sc_look(error, errlen))
		return false;
	for (int slot = 0; slot < SC_SLOTS; slot++)
	{
		w->todo[slot] = w->todo[slot] && w->before[slot] != sc_cluster->state[slot];
		if (w->todo[slot])
			*done = false;
	}
	return true;
}

/* One step of the walk over the keys that match; *done after the last. */
bool
sc_link_walk_step(ScWalkState *w, const char *pattern, uint64 since, bool *done,
				  char *error, Size errlen)
{
	bool		again = false;

	*done = false;
	if (w->cursor[0] == '\0' && !begin_pattern(w, error, errlen))
		return false;
	/* Nodes have come or gone: who was looked at is not known any more. */
	if (sc_cluster && w->generation != sc_generation)
		begin_pass(w);
	/* What cannot be reached was not with us when it comes back. */
	if (sc_nodes[w->node].redis && !scan(w, pattern, since, &again, error, errlen))
		return false;
	if (again || strcmp(w->cursor, "0") != 0)
		return true;
	if (++w->node < sc_nnodes)
		return true;
	w->node = 0;
	if (--w->rounds > 0)
		return true;
	if (!end_pass(w, done, error, errlen))
		return false;
	if (*done)
		w->cursor[0] = '\0';
	else
		begin_pass(w);
	return true;
}
