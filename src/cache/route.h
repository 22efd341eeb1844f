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

#endif							/* SC_CACHE_ROUTE_H */
