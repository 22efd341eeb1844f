/*
 * link_private.h: what link.c, pipeline.c and walk.c share.
 *
 * There is one link for a process, to one or several nodes.  One server, or
 * the master behind Sentinels, is a single node that has everything; in a
 * cluster each node has the keys of its slots.
 */
#ifndef SC_CACHE_LINK_PRIVATE_H
#define SC_CACHE_LINK_PRIVATE_H

#include "cache/link.h"
#include "cache/route.h"

#define KEYS_PER_COMMAND	512

/* Places and xids as MessagePack: a list's head, then for each key ... */
#define HEAD_BYTES			5
#define KEY_BYTES			12

typedef struct Peer
{
	ScRedis    *redis;			/* NULL: it cannot be reached */
	ScHost		host;
	char		run_id[48];
	bool		another;		/* we were not with it the last time */
	/* Keys to be deleted by the next commands */
	int			nkeys;
	const char *keys[KEYS_PER_COMMAND];
	size_t		keylens[KEYS_PER_COMMAND];
	int16		slots[KEYS_PER_COMMAND];
	unsigned char packed[HEAD_BYTES + KEYS_PER_COMMAND * KEY_BYTES];
	/* In a cluster, the commands whose replies are awaited */
	int			first_sent;
	int			last_sent;
} Peer;

/* A command in a cluster; key: what it deletes, if it may be asked elsewhere. */
typedef struct Sent
{
	int			next;
	const char *key;
	uint32		keylen;
} Sent;

/* What the replies said. */
typedef struct Replies
{
	char		error[256];		/* that any command would get */
	char		refusal[256];	/* of one command for its own sake */
	bool		redirected;		/* who has which slots has changed */
} Replies;

/* link.c */
extern Peer *sc_nodes;
extern int	sc_nnodes;
extern ScCluster *sc_cluster;	/* NULL: not in a cluster */
extern bool *sc_missing;		/* slots that may hold older values */
extern uint64 sc_generation;	/* of the cluster's nodes and slots */
extern bool sc_functions;		/* Redis has them */
extern StringInfoData sc_snapshot;	/* as text */
extern bool sc_look(char *error, Size errlen);

/* pipeline.c */
extern Peer *sc_current;		/* whose replies are being read */
extern Replies sc_replies;
extern bool sc_walking;			/* deletions leave no tombstones */
extern int64 sc_sent_since_rotation;
extern void sc_add_arg(const char *s, size_t len);
extern void sc_add_word(const char *s);
extern void sc_begin_command(const char *name);
extern void sc_begin_function(const char *name, const char *nkeys);
extern void sc_send(Peer *node);
extern void sc_delete_at(Peer *node, const char *key, uint32 keylen, int slot,
						 uint64 xid);
extern void sc_flush_deletes(Peer *node);
extern bool sc_is_redirection(const char *error);
extern bool sc_is_of_server(const char *error);
extern void sc_check_reply(int n, const ScReply *reply, void *arg);
extern bool sc_exchange(ScReplyCallback callback, void *arg, char *error, Size errlen);
extern bool sc_exchange_checked(char *error, Size errlen);
extern void sc_pipeline_reset(void);

/* walk.c */
extern void sc_note_stored(const char *key, uint32 keylen);

#endif							/* SC_CACHE_LINK_PRIVATE_H */
