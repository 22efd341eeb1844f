/* scalecache--0.1.sql */

\echo Use "CREATE EXTENSION scalecache" to load this file. \quit

-- Made here, and not by the control file, so that it goes with the extension.
CREATE SCHEMA scalecache;
GRANT USAGE ON SCHEMA scalecache TO PUBLIC;

-- Private storage of rollups: tables named after them.
CREATE SCHEMA scalecache_data;

CREATE TABLE scalecache.rollup (
	id bigint PRIMARY KEY,
	rollup regclass NOT NULL UNIQUE,	-- the view
	source regclass NOT NULL,	-- the table whose rows the storage counts
	base oid NOT NULL,
	delta1 oid NOT NULL,
	delta2 oid NOT NULL,
	turn bigint NOT NULL,	-- which of them is written
	epoch bigint NOT NULL,
	state "char" NOT NULL,
	members oid[],
	time_zone text,
	distincts oid NOT NULL,	-- values of DISTINCT aggregates, or 0
	rewrite boolean NOT NULL DEFAULT true,	-- may it answer queries of the source
	views regclass[],	-- views that its query was taken apart from
	part_of oid NOT NULL DEFAULT 0,	-- the view, in rows of what else is kept for a join
	part integer NOT NULL DEFAULT 0,	-- which part: see src/rollup/stored.c
	epochs bigint[],	-- of the other parts, when the join's groups were stored
	search_path text	-- of its creation: where SQL functions that are inlined find names
);
CREATE INDEX rollup_source_idx ON scalecache.rollup (source);
CREATE INDEX rollup_base_idx ON scalecache.rollup (base);
REVOKE ALL ON scalecache.rollup FROM PUBLIC;
-- So that whoever may dump the rest of the database can dump, and restore, it all.
GRANT SELECT, INSERT ON scalecache.rollup TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('scalecache.rollup', 'WHERE part = 0');

-- What the folds have merged, one row a rollup; see src/rollup/delta.c.
CREATE TABLE scalecache.fold (
	id bigint,
	seq bigint,
	at timestamptz NOT NULL,
	mark bytea NOT NULL,
	PRIMARY KEY (id, seq)
);
REVOKE ALL ON scalecache.fold FROM PUBLIC;

-- A dump carries what defines a rollup; its storage is made anew.
CREATE FUNCTION scalecache.rollup_restored() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	-- Ids of parts are not far from the rollup's: see sc_part_id.
	IF EXISTS (SELECT FROM scalecache.rollup r WHERE r.id BETWEEN new.id - 256 AND new.id + 256 OR r.rollup = new.rollup) THEN
		RETURN NULL;
	END IF;
	new.part_of := 0;
	new.part := 0;
	new.epochs := NULL;
	new.epoch := 1;
	new.base := 0;
	new.delta1 := 0;
	new.delta2 := 0;
	new.distincts := 0;
	new.turn := 0;
	new.members := NULL;
	new.state := CASE new.state WHEN 'u' THEN 'u' ELSE 's' END;
	RETURN new;
END $$;
REVOKE ALL ON FUNCTION scalecache.rollup_restored() FROM PUBLIC;
CREATE TRIGGER restored BEFORE INSERT ON scalecache.rollup
	FOR EACH ROW EXECUTE FUNCTION scalecache.rollup_restored();
ALTER TABLE scalecache.rollup ENABLE ALWAYS TRIGGER restored;
-- Only what its owner could have created.
CREATE FUNCTION scalecache.rollup_check() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_rollup_check';
REVOKE ALL ON FUNCTION scalecache.rollup_check() FROM PUBLIC;
CREATE TRIGGER checked AFTER INSERT ON scalecache.rollup
	FOR EACH ROW EXECUTE FUNCTION scalecache.rollup_check();
ALTER TABLE scalecache.rollup ENABLE ALWAYS TRIGGER checked;

CREATE FUNCTION scalecache.create_rollup(name text, query text, with_data boolean DEFAULT true)
RETURNS regclass LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_create_rollup';

CREATE PROCEDURE scalecache.create_rollup_concurrently(name text, query text)
LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_create_rollup_concurrently';

CREATE FUNCTION scalecache.drop_rollup(rollup regclass)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_drop_rollup';

CREATE FUNCTION scalecache.fold_rollup(rollup regclass)
RETURNS bigint LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_fold_rollup';

CREATE FUNCTION scalecache.rebuild_rollup(rollup regclass)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_rebuild_rollup';

CREATE FUNCTION scalecache.verify_rollup(rollup regclass)
RETURNS bigint LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_verify_rollup';

CREATE FUNCTION scalecache.rollup_stats(rollup regclass, OUT groups bigint, OUT pending_deltas bigint, OUT size_bytes bigint,
	OUT state "char")
RETURNS record LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'scalecache_rollup_stats';

CREATE FUNCTION scalecache.rollup_capture() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_rollup_capture';
CREATE FUNCTION scalecache.rollup_truncate() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_rollup_truncate';
CREATE FUNCTION scalecache.rollup_protect() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_rollup_protect';
REVOKE ALL ON FUNCTION scalecache.rollup_capture(), scalecache.rollup_truncate(), scalecache.rollup_protect() FROM PUBLIC;
-- A subscriber has marks of his own, whatever a publication FOR ALL TABLES has.
CREATE TRIGGER protect_rows BEFORE INSERT OR UPDATE OR DELETE ON scalecache.fold
	FOR EACH ROW EXECUTE FUNCTION scalecache.rollup_protect();
ALTER TABLE scalecache.fold ENABLE ALWAYS TRIGGER protect_rows;
-- Nobody but the library changes what it goes by, members of pg_write_all_data included.
CREATE TRIGGER protect BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON scalecache.fold
	FOR EACH STATEMENT EXECUTE FUNCTION scalecache.rollup_protect();
CREATE TRIGGER protect BEFORE UPDATE OR DELETE OR TRUNCATE ON scalecache.rollup
	FOR EACH STATEMENT EXECUTE FUNCTION scalecache.rollup_protect();

-- The condition of UPDATE triggers; whoever updates evaluates it.
CREATE FUNCTION scalecache.row_differs(VARIADIC "any") RETURNS boolean
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'scalecache_row_differs';

-- The condition of INSERT triggers during COPY; whoever copies evaluates it.
CREATE FUNCTION scalecache.rollup_inserted(rollup bigint, VARIADIC columns "any") RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_rollup_inserted';

CREATE FUNCTION scalecache.rollup_starting() RETURNS event_trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_rollup_starting';
CREATE FUNCTION scalecache.rollup_dropped() RETURNS event_trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_rollup_dropped';
CREATE FUNCTION scalecache.rollup_altered() RETURNS event_trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_rollup_altered';
REVOKE ALL ON FUNCTION scalecache.rollup_starting(), scalecache.rollup_dropped(), scalecache.rollup_altered() FROM PUBLIC;

CREATE EVENT TRIGGER scalecache_starting ON ddl_command_start
	WHEN TAG IN ('ALTER TABLE', 'DROP TABLE', 'DROP VIEW', 'DROP EXTENSION', 'ALTER DOMAIN', 'ALTER SCHEMA',
		'DROP SCHEMA', 'DROP OWNED', 'DROP FUNCTION', 'DROP PROCEDURE', 'DROP ROUTINE', 'DROP AGGREGATE',
		'DROP TYPE', 'DROP DOMAIN', 'DROP OPERATOR', 'DROP COLLATION',
		'DROP TEXT SEARCH CONFIGURATION', 'DROP TEXT SEARCH DICTIONARY')
	EXECUTE FUNCTION scalecache.rollup_starting();
ALTER EVENT TRIGGER scalecache_starting ENABLE ALWAYS;

-- What a dump did not carry is put back before something is dropped.
CREATE FUNCTION scalecache.rollup_adopt() RETURNS event_trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_rollup_adopt';
REVOKE ALL ON FUNCTION scalecache.rollup_adopt() FROM PUBLIC;
CREATE EVENT TRIGGER scalecache_adopt ON ddl_command_start
	WHEN TAG IN ('DROP VIEW', 'DROP EXTENSION', 'DROP SCHEMA', 'DROP OWNED', 'DROP TABLE', 'ALTER TABLE')
	EXECUTE FUNCTION scalecache.rollup_adopt();
ALTER EVENT TRIGGER scalecache_adopt ENABLE ALWAYS;

CREATE EVENT TRIGGER scalecache_dropped ON sql_drop
	EXECUTE FUNCTION scalecache.rollup_dropped();
ALTER EVENT TRIGGER scalecache_dropped ENABLE ALWAYS;
CREATE EVENT TRIGGER scalecache_altered ON ddl_command_end
	WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE', 'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE',
		'CREATE TRIGGER', 'CREATE VIEW', 'CREATE RULE', 'CREATE SCHEMA', 'ALTER SCHEMA',
		'CREATE FUNCTION', 'ALTER FUNCTION', 'ALTER ROUTINE', 'CREATE AGGREGATE', 'ALTER TYPE',
		'ALTER TEXT SEARCH CONFIGURATION', 'ALTER TEXT SEARCH DICTIONARY')
	EXECUTE FUNCTION scalecache.rollup_altered();
ALTER EVENT TRIGGER scalecache_altered ENABLE ALWAYS;

-- Whether queries of the source may be answered from the rollup.
CREATE FUNCTION scalecache.set_rollup_rewrite(rollup regclass, enabled boolean)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_set_rollup_rewrite';

-- For each rollup, whether the query would be answered from it, or why not.
CREATE FUNCTION scalecache.explain_rewrite(query text, OUT rollup regclass, OUT used boolean, OUT reason text)
RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_explain_rewrite';

-- The start of a bucket of time that is next to an instant, which is where the
-- rollup's part of a range ends and the source's begins.
CREATE FUNCTION scalecache.bucket_edge("time" timestamptz, unit text, zone text, wall boolean, after boolean, up boolean)
RETURNS timestamptz LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'scalecache_bucket_edge_tz';
CREATE FUNCTION scalecache.bucket_edge("time" timestamp, unit text, after boolean, up boolean)
RETURNS timestamp LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'scalecache_bucket_edge';
CREATE FUNCTION scalecache.bucket_is_split(start timestamptz, zone text, seconds integer)
RETURNS boolean LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'scalecache_bucket_is_split';

CREATE FUNCTION scalecache.rollup_query(rollup regclass, time_zone text)
RETURNS text LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'scalecache_rollup_query';
CREATE FUNCTION scalecache.rollup_counters(id bigint, OUT last_fold timestamptz, OUT rewrites bigint,
	OUT failing text)
RETURNS record LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'scalecache_rollup_counters';

CREATE VIEW scalecache.rollups AS
SELECT r.rollup,
	r.source::regclass AS source,
	scalecache.rollup_query(r.rollup, r.time_zone) AS query,
	-- A live one is stale while its source has members that it does not count.
	CASE coalesce(s.state, r.state) WHEN 'l' THEN 'live' WHEN 'f' THEN 'filling'
		WHEN 's' THEN 'stale' ELSE 'unfilled' END AS state,
	r.time_zone,
	s.groups, s.pending_deltas, s.size_bytes,
	n.last_fold, n.rewrites, n.failing
FROM scalecache.rollup r
	JOIN pg_catalog.pg_class c ON c.oid = r.rollup,
	LATERAL scalecache.rollup_stats(r.rollup) s,
	LATERAL scalecache.rollup_counters(r.id) n
WHERE r.part = 0;
GRANT SELECT ON scalecache.rollups TO PUBLIC;

-- Indexes

CREATE FUNCTION scalecache.what_if(query text, VARIADIC ddl text[] DEFAULT '{}',
	OUT cost_before float8, OUT cost_after float8, OUT used text[], OUT plan text)
RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_what_if';

CREATE FUNCTION scalecache.what_if_size(ddl text)
RETURNS bigint LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_what_if_size';

CREATE FUNCTION scalecache.workload_entries(OUT query_id bigint, OUT userid oid,
	OUT calls bigint, OUT total_time_ms float8, OUT mean_time_ms float8, OUT rows bigint,
	OUT first_seen timestamptz, OUT source text, OUT text text, OUT samples jsonb)
RETURNS SETOF record LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'scalecache_workload';

-- Texts and parameters are NULL to all but members of pg_read_all_stats.
CREATE VIEW scalecache.workload AS
SELECT w.query_id, w.userid::regrole AS "user", w.calls, w.total_time_ms, w.mean_time_ms,
	w.rows, w.text, w.samples, w.first_seen, w.source
FROM scalecache.workload_entries() w;
GRANT SELECT ON scalecache.workload TO PUBLIC;

CREATE FUNCTION scalecache.reset_workload() RETURNS void
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'scalecache_reset_workload';
REVOKE ALL ON FUNCTION scalecache.reset_workload() FROM PUBLIC;

-- Cache rules.

CREATE TABLE scalecache.cache_rule (
	id bigint PRIMARY KEY,
	name text NOT NULL UNIQUE,
	relation regclass NOT NULL,
	key text NOT NULL,
	action text NOT NULL,
	value text,
	ttl interval,
	columns name[],
	condition text,
	time_zone text,
	attnames name[],	-- of the relation, by number, that the text above uses
	members oid[]		-- the relation and its partitions
);
REVOKE ALL ON scalecache.cache_rule FROM PUBLIC;
-- As scalecache.rollup; but rows of it are restored by superusers only.
GRANT SELECT, INSERT ON scalecache.cache_rule TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('scalecache.cache_rule', '');

-- Rules whose last value could not be had.  What is said there may quote the
-- row, which not everybody may read.
CREATE TABLE scalecache.cache_failure (
	rule bigint PRIMARY KEY,
	message text NOT NULL
);
REVOKE ALL ON scalecache.cache_failure FROM PUBLIC;

-- The Redis that keys were sent to last, by its run id and database number.
CREATE TABLE scalecache.cache_target (redis text NOT NULL);
REVOKE ALL ON scalecache.cache_target FROM PUBLIC;

-- Oids and column numbers are other ones after a restore.
CREATE FUNCTION scalecache.cache_rule_restored() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF EXISTS (SELECT FROM scalecache.cache_rule r WHERE r.id = new.id OR r.name = new.name) THEN
		RETURN NULL;
	END IF;
	IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = current_user AND r.rolsuper) THEN
		RAISE insufficient_privilege USING
			MESSAGE = format('permission denied to restore cache rule "%s"', new.name),
			DETAIL = 'Only a superuser may.',
			HINT = 'Create it with scalecache.create_cache_rule.';
	END IF;
	new.attnames := NULL;
	new.members := NULL;
	RETURN new;
END $$;
REVOKE ALL ON FUNCTION scalecache.cache_rule_restored() FROM PUBLIC;
CREATE TRIGGER restored BEFORE INSERT ON scalecache.cache_rule
	FOR EACH ROW EXECUTE FUNCTION scalecache.cache_rule_restored();
ALTER TABLE scalecache.cache_rule ENABLE ALWAYS TRIGGER restored;

-- Keys on their way to the worker: one tuple for each transaction.  Tables
-- take turns and are emptied as a whole, so vacuum has nothing to do.
-- A TOAST table would bloat, and a tuple always fits a page: no storage for one.
CREATE TABLE scalecache.cache_outbox_0 (queued_at timestamptz) WITH (autovacuum_enabled = off);
ALTER TABLE scalecache.cache_outbox_0 ADD entries bytea, ALTER entries SET STORAGE PLAIN;
CREATE TABLE scalecache.cache_outbox_1 (LIKE scalecache.cache_outbox_0 INCLUDING STORAGE)
	WITH (autovacuum_enabled = off);
CREATE TABLE scalecache.cache_outbox_2 (LIKE scalecache.cache_outbox_0 INCLUDING STORAGE)
	WITH (autovacuum_enabled = off);
CREATE TABLE scalecache.cache_outbox_3 (LIKE scalecache.cache_outbox_0 INCLUDING STORAGE)
	WITH (autovacuum_enabled = off);
CREATE TABLE scalecache.cache_outbox_prepared (LIKE scalecache.cache_outbox_0 INCLUDING STORAGE);

-- As scalecache.fold and scalecache.rollup are; whose rows may be restored has
-- been said above.
CREATE FUNCTION scalecache.cache_protect() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_cache_protect';
REVOKE ALL ON FUNCTION scalecache.cache_protect() FROM PUBLIC;
DO $$
DECLARE
	name text;
BEGIN
	FOREACH name IN ARRAY '{cache_rule, cache_failure, cache_target, cache_outbox_0, cache_outbox_1,
		cache_outbox_2, cache_outbox_3, cache_outbox_prepared}'::pg_catalog.text[] LOOP
		EXECUTE pg_catalog.format('CREATE TRIGGER protect_rows BEFORE INSERT OR UPDATE OR DELETE
			ON scalecache.%I FOR EACH ROW EXECUTE FUNCTION scalecache.cache_protect()', name);
		EXECUTE pg_catalog.format('ALTER TABLE scalecache.%I ENABLE ALWAYS TRIGGER protect_rows', name);
		EXECUTE pg_catalog.format('CREATE TRIGGER protect BEFORE %s ON scalecache.%I
			FOR EACH STATEMENT EXECUTE FUNCTION scalecache.cache_protect()',
			CASE name WHEN 'cache_rule' THEN '' ELSE 'INSERT OR ' END OPERATOR(pg_catalog.||)
			'UPDATE OR DELETE OR TRUNCATE', name);
	END LOOP;
END $$;

CREATE FUNCTION scalecache.create_cache_rule(name text, relation regclass, key text,
	action text DEFAULT 'invalidate', value text DEFAULT NULL, ttl interval DEFAULT NULL,
	columns name[] DEFAULT NULL, condition text DEFAULT NULL)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_create_cache_rule';

CREATE FUNCTION scalecache.drop_cache_rule(name text)
RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_drop_cache_rule';

CREATE FUNCTION scalecache.cache_capture() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_cache_capture';
CREATE FUNCTION scalecache.cache_truncate() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_cache_truncate';
REVOKE ALL ON FUNCTION scalecache.cache_capture(), scalecache.cache_truncate() FROM PUBLIC;

CREATE FUNCTION scalecache.cache_dropped() RETURNS event_trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_cache_dropped';
CREATE FUNCTION scalecache.cache_altered() RETURNS event_trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_cache_altered';
REVOKE ALL ON FUNCTION scalecache.cache_dropped(), scalecache.cache_altered() FROM PUBLIC;

CREATE EVENT TRIGGER scalecache_cache_dropped ON sql_drop
	EXECUTE FUNCTION scalecache.cache_dropped();
ALTER EVENT TRIGGER scalecache_cache_dropped ENABLE ALWAYS;
CREATE EVENT TRIGGER scalecache_cache_altered ON ddl_command_end
	WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'CREATE FOREIGN TABLE', 'CREATE SCHEMA',
		'ALTER TABLE', 'ALTER FOREIGN TABLE', 'ALTER TYPE', 'ALTER VIEW', 'DROP TABLE')
	EXECUTE FUNCTION scalecache.cache_altered();
ALTER EVENT TRIGGER scalecache_cache_altered ENABLE ALWAYS;

CREATE VIEW scalecache.cache_rules AS
SELECT r.name, r.relation, r.key, r.action, r.value, r.ttl, r.columns, r.condition,
	r.time_zone,
	CASE WHEN f.message IS NULL OR pg_catalog.pg_has_role(c.relowner, 'USAGE')
		OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') THEN f.message
		ELSE '<insufficient privilege>' END AS failing
FROM scalecache.cache_rule r LEFT JOIN scalecache.cache_failure f ON f.rule = r.id
	LEFT JOIN pg_catalog.pg_class c ON c.oid = r.relation;
GRANT SELECT ON scalecache.cache_rules TO PUBLIC;

CREATE FUNCTION scalecache.wait_for_cache(timeout interval DEFAULT '5 s')
RETURNS boolean LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_wait_for_cache';

CREATE FUNCTION scalecache.cache_queue_stats(OUT transactions bigint, OUT keys bigint,
	OUT epochs bigint, OUT bytes bigint, OUT size_bytes bigint, OUT oldest timestamptz)
RETURNS record LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_cache_queue';
CREATE VIEW scalecache.cache_queue AS
SELECT q.transactions, q.keys, q.epochs, q.keys + q.epochs AS entries, q.bytes, q.size_bytes,
	pg_catalog.clock_timestamp() - q.oldest AS oldest_age
FROM scalecache.cache_queue_stats() q;
GRANT SELECT ON scalecache.cache_queue TO PUBLIC;

CREATE FUNCTION scalecache.redis_status_get(OUT configured boolean, OUT connected boolean,
	OUT breaker text, OUT retry_at timestamptz, OUT server text, OUT version text, OUT run_id text,
	OUT connected_at timestamptz, OUT latency_ms float8, OUT connects bigint, OUT failures bigint,
	OUT keys_acknowledged bigint, OUT epochs_acknowledged bigint, OUT functions_loaded boolean,
	OUT last_error text, OUT last_error_at timestamptz, OUT warning text, OUT latency_histogram bigint[],
	OUT mode text, OUT nodes text)
RETURNS record LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_redis_status';
CREATE VIEW scalecache.redis_status AS
SELECT s.configured, s.connected, s.breaker, s.retry_at, s.server, s.version, s.run_id,
	s.connected_at, s.latency_ms, s.connects,
	GREATEST(s.connects - 1, 0) AS reconnects, s.failures,
	s.keys_acknowledged, s.epochs_acknowledged, s.functions_loaded, s.last_error,
	s.last_error_at, s.warning,
	CASE WHEN s.configured THEN s.mode END AS mode,
	CASE WHEN s.connected THEN pg_catalog.string_to_array(s.nodes, ',') END AS nodes
FROM scalecache.redis_status_get() s;
GRANT SELECT ON scalecache.redis_status TO PUBLIC;

-- The cache by hand, and cache-aside in one call.

CREATE FUNCTION scalecache.cache_get(key text)
RETURNS text LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'scalecache_cache_get';
CREATE FUNCTION scalecache.cache_set(key text, value text, ttl interval DEFAULT NULL)
RETURNS boolean LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'scalecache_cache_set';
CREATE FUNCTION scalecache.cache_delete(VARIADIC keys text[])
RETURNS bigint LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'scalecache_cache_delete';
-- They reach every key of Redis, whoever stored it.
REVOKE ALL ON FUNCTION scalecache.cache_get(text), scalecache.cache_set(text, text, interval),
	scalecache.cache_delete(text[]) FROM PUBLIC;
CREATE FUNCTION scalecache.cached_query(key text, query text, ttl interval DEFAULT '1 hour')
RETURNS jsonb LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'scalecache_cached_query';

CREATE FUNCTION scalecache.cache_stats_get(OUT tier text, OUT entries bigint, OUT size_bytes bigint,
	OUT used_bytes bigint, OUT hits bigint, OUT misses bigint, OUT fills bigint,
	OUT refused_fills bigint, OUT evictions bigint, OUT invalidations bigint,
	OUT acknowledged_p50_ms float8, OUT acknowledged_p99_ms float8)
RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_cache_stats';
CREATE VIEW scalecache.cache_stats AS
SELECT s.tier, s.entries, s.size_bytes, s.used_bytes, s.hits, s.misses, s.fills, s.refused_fills,
	s.evictions, s.invalidations, s.acknowledged_p50_ms, s.acknowledged_p99_ms
FROM scalecache.cache_stats_get() s;
GRANT SELECT ON scalecache.cache_stats TO PUBLIC;

-- Rollups that the recorded workload, or the queries, would gain from.
CREATE FUNCTION scalecache.suggest_rollups(queries text[] DEFAULT NULL, weights float8[] DEFAULT NULL,
	OUT rank int, OUT ddl text, OUT source regclass, OUT size_bytes bigint,
	OUT cost_before float8, OUT cost_after float8, OUT write_cost float8,
	OUT query_ids bigint[], OUT reason text)
RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_suggest_rollups';

CREATE FUNCTION scalecache.suggest_indexes(max_size bigint DEFAULT NULL,
	queries text[] DEFAULT NULL, weights float8[] DEFAULT NULL,
	OUT rank int, OUT ddl text, OUT relation regclass, OUT size_bytes bigint,
	OUT cost_before float8, OUT cost_after float8, OUT write_cost float8,
	OUT query_ids bigint[], OUT reason text)
RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_suggest_indexes';

CREATE FUNCTION scalecache.suggest_index_drops(OUT ddl text, OUT index regclass,
	OUT relation regclass, OUT size_bytes bigint, OUT scans bigint, OUT reason text)
RETURNS SETOF record LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'scalecache_suggest_index_drops';

-- What the calling query sees, for FCALL scalecache_fill.
CREATE FUNCTION scalecache.cache_token()
RETURNS text LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'scalecache_cache_token';

CREATE TABLE scalecache.index_action (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	ddl text NOT NULL,
	advice text NOT NULL,		-- as it was given
	definition text NOT NULL,	-- what follows the table's name in ddl
	relid oid NOT NULL,
	index_name name NOT NULL,
	expressions boolean NOT NULL,
	requested_by oid NOT NULL,
	automatic boolean NOT NULL,	-- asked for by scalecache.auto_index
	requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	started_at timestamptz,
	finished_at timestamptz,
	state text NOT NULL DEFAULT 'queued',
	outcome text,				-- state to be, when it is cleaned up after
	attempts int NOT NULL DEFAULT 0,
	built oid[] NOT NULL DEFAULT '{}',	-- indexes, some of them dropped again
	statements int,
	before_ms float8,
	after_ms float8,
	worst_ratio float8,
	verdict text
);
REVOKE ALL ON scalecache.index_action FROM PUBLIC;

CREATE FUNCTION scalecache.apply_index(ddl text) RETURNS bigint
LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_apply_index';

-- To others than pg_read_all_stats the server does not say what the builder,
-- who is not they, is at.
CREATE FUNCTION scalecache.index_build_phase() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT p.phase FROM pg_stat_progress_create_index p JOIN pg_stat_activity a ON a.pid = p.pid
	WHERE p.datname = current_database() AND a.backend_type = 'scalecache index builder'
$$;

-- Everybody sees what was asked for by a role of his.
CREATE VIEW scalecache.index_actions AS
SELECT a.id, a.ddl, c.oid::regclass AS relation, a.index_name AS index, a.state,
	a.requested_by::regrole AS requested_by, a.requested_at, a.started_at, a.finished_at,
	a.attempts, a.statements, a.before_ms, a.after_ms, a.worst_ratio, a.verdict,
	CASE WHEN a.state = 'building' THEN scalecache.index_build_phase() END AS phase
FROM scalecache.index_action a LEFT JOIN pg_catalog.pg_class c ON c.oid = a.relid
WHERE pg_catalog.pg_has_role(a.requested_by, 'MEMBER');
GRANT SELECT ON scalecache.index_actions TO PUBLIC;

-- What is written to these tables is of no use to subscribers: nothing of it is
-- decoded (see set_relrewrite in src/rollup/install.c).
UPDATE pg_catalog.pg_class c SET relrewrite = c.oid
FROM pg_catalog.pg_class t JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
WHERE n.nspname OPERATOR(pg_catalog.=) 'scalecache' AND t.relkind OPERATOR(pg_catalog.=) 'r'
	AND c.oid OPERATOR(pg_catalog.=) ANY (ARRAY[t.oid, t.reltoastrelid]);

-- What \dn+, \df+ and \d+ say.  test/sql/comments.sql finds what is missing.

COMMENT ON SCHEMA scalecache IS 'rollups, caching and index advice: what users call';
COMMENT ON SCHEMA scalecache_data IS 'storage of rollups; not to be changed by hand';

COMMENT ON TABLE scalecache.rollup IS 'one row a rollup; see the view rollups';
COMMENT ON TABLE scalecache.fold IS 'which transactions'' changes each rollup''s storage includes';
COMMENT ON VIEW scalecache.rollups IS 'the rollups, their state and size';
COMMENT ON FUNCTION scalecache.create_rollup IS 'keep the result of an aggregate query as a view that is always exact';
COMMENT ON PROCEDURE scalecache.create_rollup_concurrently IS 'create a rollup without blocking writers to its source';
COMMENT ON FUNCTION scalecache.drop_rollup IS 'remove a rollup with its triggers and storage, as DROP VIEW does';
COMMENT ON FUNCTION scalecache.fold_rollup IS 'merge a rollup''s pending deltas now; returns how many';
COMMENT ON FUNCTION scalecache.rebuild_rollup IS 'recompute a rollup from its source';
COMMENT ON FUNCTION scalecache.verify_rollup IS 'compare a rollup with its query; returns the number of groups that differ';
COMMENT ON FUNCTION scalecache.set_rollup_rewrite IS 'whether queries of the source may be answered from this rollup';
COMMENT ON FUNCTION scalecache.explain_rewrite IS 'for each rollup, whether it would answer the query, or why not';
COMMENT ON FUNCTION scalecache.suggest_rollups IS 'rollups that the recorded workload, or the given queries, would gain from';

COMMENT ON FUNCTION scalecache.rollup_stats IS 'internal: numbers for the view rollups';
COMMENT ON FUNCTION scalecache.rollup_query IS 'internal: a rollup''s query for the view rollups';
COMMENT ON FUNCTION scalecache.rollup_counters IS 'internal: counters for the view rollups';
COMMENT ON FUNCTION scalecache.rollup_capture IS 'internal: trigger on a rollup''s source, for row changes';
COMMENT ON FUNCTION scalecache.rollup_truncate IS 'internal: trigger on a rollup''s source, for TRUNCATE';
COMMENT ON FUNCTION scalecache.rollup_protect IS 'internal: trigger on a rollup''s storage, refuses changes by hand';
COMMENT ON FUNCTION scalecache.rollup_restored IS 'internal: trigger that makes a restored rollup stale';
COMMENT ON FUNCTION scalecache.rollup_check IS 'internal: trigger that checks who restores a rollup';
COMMENT ON FUNCTION scalecache.rollup_inserted IS 'internal: condition of a rollup''s trigger during COPY, captures the row';
COMMENT ON FUNCTION scalecache.row_differs IS 'internal: condition of triggers, is any pair of values not the same';
COMMENT ON FUNCTION scalecache.rollup_starting IS 'internal: event trigger for what happens to a rollup''s source';
COMMENT ON FUNCTION scalecache.rollup_dropped IS 'internal: event trigger that removes what a dropped rollup leaves';
COMMENT ON FUNCTION scalecache.rollup_altered IS 'internal: event trigger for partitions and triggers that came or went';
COMMENT ON FUNCTION scalecache.rollup_adopt IS 'internal: event trigger that takes restored rollups over';
COMMENT ON FUNCTION scalecache.bucket_edge(timestamptz, text, text, boolean, boolean, boolean)
	IS 'internal: where a time bucket begins or ends';
COMMENT ON FUNCTION scalecache.bucket_edge(timestamp, text, boolean, boolean)
	IS 'internal: where a time bucket begins or ends';
COMMENT ON FUNCTION scalecache.bucket_is_split IS 'internal: does a change of the clocks cut a time bucket in two';

COMMENT ON TABLE scalecache.cache_rule IS 'one row a cache rule; see the view cache_rules';
COMMENT ON TABLE scalecache.cache_failure IS 'why a rule''s last value could not be had; see the view cache_rules';
COMMENT ON TABLE scalecache.cache_target IS 'the Redis that keys were sent to last';
COMMENT ON TABLE scalecache.cache_outbox_0 IS 'keys that wait to be sent; written in turns';
COMMENT ON TABLE scalecache.cache_outbox_1 IS 'keys that wait to be sent; written in turns';
COMMENT ON TABLE scalecache.cache_outbox_2 IS 'keys that wait to be sent; written in turns';
COMMENT ON TABLE scalecache.cache_outbox_3 IS 'keys that wait to be sent; written in turns';
COMMENT ON TABLE scalecache.cache_outbox_prepared IS 'keys of prepared transactions that wait to be sent';
COMMENT ON VIEW scalecache.cache_rules IS 'which keys stand for which rows';
COMMENT ON VIEW scalecache.cache_queue IS 'invalidations that wait to be acknowledged';
COMMENT ON VIEW scalecache.cache_stats IS 'hits, misses and size of the cache';
COMMENT ON VIEW scalecache.redis_status IS 'the connection to Redis';
COMMENT ON FUNCTION scalecache.create_cache_rule IS 'delete or write a key of the cache whenever a row changes';
COMMENT ON FUNCTION scalecache.drop_cache_rule IS 'remove a cache rule';
COMMENT ON FUNCTION scalecache.wait_for_cache IS 'wait until all invalidations committed before are acknowledged';
COMMENT ON FUNCTION scalecache.cache_get IS 'the value of a key in the cache, or null';
COMMENT ON FUNCTION scalecache.cache_set IS 'store a value in the cache';
COMMENT ON FUNCTION scalecache.cache_delete IS 'delete keys of the cache; returns how many were there';
COMMENT ON FUNCTION scalecache.cached_query IS 'the rows of a query as JSON, from the cache or run once for all sessions';
COMMENT ON FUNCTION scalecache.cache_token IS 'the query''s snapshot, for filling the cache from an application';
COMMENT ON FUNCTION scalecache.cache_capture IS 'internal: trigger of cache rules, for row changes';
COMMENT ON FUNCTION scalecache.cache_truncate IS 'internal: trigger of cache rules, for TRUNCATE';
COMMENT ON FUNCTION scalecache.cache_protect IS 'internal: trigger on the tables of cache rules, refuses changes by hand';
COMMENT ON FUNCTION scalecache.cache_rule_restored IS 'internal: trigger for cache rules that come from a dump';
COMMENT ON FUNCTION scalecache.cache_dropped IS 'internal: event trigger that removes cache rules of dropped tables';
COMMENT ON FUNCTION scalecache.cache_altered IS 'internal: event trigger for changes of tables with cache rules';
COMMENT ON FUNCTION scalecache.cache_queue_stats IS 'internal: numbers for the view cache_queue';
COMMENT ON FUNCTION scalecache.cache_stats_get IS 'internal: numbers for the view cache_stats';
COMMENT ON FUNCTION scalecache.redis_status_get IS 'internal: numbers for the view redis_status';

COMMENT ON VIEW scalecache.workload IS 'the recorded statements';
COMMENT ON FUNCTION scalecache.reset_workload IS 'forget the recorded statements';
COMMENT ON FUNCTION scalecache.index_build_phase IS 'internal: what the index builder of this database is at';
COMMENT ON FUNCTION scalecache.workload_entries IS 'internal: rows of the view workload';
COMMENT ON FUNCTION scalecache.what_if IS 'plan a query as if these indexes existed';
COMMENT ON FUNCTION scalecache.what_if_size IS 'bytes that an index would have';
COMMENT ON FUNCTION scalecache.suggest_indexes IS 'the set of indexes that the recorded workload, or the given queries, would gain from';
COMMENT ON FUNCTION scalecache.suggest_index_drops IS 'indexes that are invalid, duplicate, redundant, unused or cost more than they save';
COMMENT ON FUNCTION scalecache.apply_index IS 'build an index in the background, and drop it again if it does not help';
COMMENT ON TABLE scalecache.index_action IS 'indexes that were asked for; see the view index_actions';
COMMENT ON VIEW scalecache.index_actions IS 'progress and verdict of indexes that apply_index was asked for';
