/*
 * route.h: which servers a URL leads to.
 */
#ifndef SC_CACHE_ROUTE_H
#define SC_CACHE_ROUTE_H

#include "cache/cache.h"

/* A connection to that host as the URL's user, or NULL. */
extern ScRedis *sc_route_connect(const ScRedisUrl *url, const ScHost *host,
								 int timeout_ms, char *error, Size errlen);
extern void sc_host_text(const ScHost *host, char *buf, Size size);

/* A connection to the master that the Sentinels name, and where it is. */
extern ScRedis *sc_sentinel_connect(const ScRedisUrl *url, ScHost *master,
									char *error, Size errlen);
/* False when a Sentinel that can be reached names another one. */
extern bool sc_sentinel_agrees(const ScRedisUrl *url, const ScHost *master);

/* ---- cluster.c ---- */

#define SC_SLOTS			16384
#define SC_NODES_MAX		1000

typedef struct ScNode
{
	ScHost		host;
	char		id[48];			/* in the cluster */
	uint64		epoch;			/* of its configuration */
	ScRedis    *redis;			/* NULL: not connected, or it cannot be */
} ScNode;

/*
 * The masters of a cluster, and who has which slot.  What a slot's state is
 * changes whenever it goes to another node, or begins or ends to.
 */
typedef struct ScCluster
{
	MemoryContext cxt;			/* holds all of it */
	int			n;
	int			max;			/* that nodes has room for */
	ScNode	   *nodes;
	int16	   *owner;			/* of each slot a node's index; -1: none */
	uint64	   *state;			/* NULL, as the next: not asked for */
	bool	   *open;			/* it is going from one node to another */
	int			nopen;
	int			nabsent;		/* with slots, and not to be reached */
	char		why[256];		/* one of them is not */
} ScCluster;

extern int	sc_key_slot(const char *key, uint32 keylen);
extern ScCluster *sc_cluster_new(MemoryContext parent, bool with_state);
extern void sc_cluster_free(ScCluster *cluster);
/* The masters and slots as one node says; connected to none of them. */
extern bool sc_cluster_ask(ScRedis *seed, const ScHost *host, int timeout_ms,
						   ScCluster *cluster, char *error, Size errlen);
/*
 * The same, each connected to and asked itself.  Connections of an older look
 * are used again, and are then no longer the older one's.
 */
extern ScCluster *sc_cluster_look(const ScRedisUrl *url, ScCluster *older,
								  char *error, Size errlen);
extern bool sc_cluster_same(const ScCluster *a, const ScCluster *b);
extern int	sc_cluster_find(const ScCluster *cluster, const ScHost *host);
/* Where "MOVED 99 host:port" or "ASK ..." points to. */
extern bool sc_redirection(const char *error, const ScHost *from, ScHost *to);

#endif							/* SC_CACHE_ROUTE_H */
