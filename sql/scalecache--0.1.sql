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
	source oid NOT NULL,
	base oid NOT NULL,
	delta1 oid NOT NULL,
	delta2 oid NOT NULL,
	turn bigint NOT NULL,	-- which of them is written
	epoch bigint NOT NULL,
	state "char" NOT NULL,
	members oid[],
	time_zone text,
	distincts oid NOT NULL	-- values of DISTINCT aggregates, or 0
);
REVOKE ALL ON scalecache.rollup FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('scalecache.rollup', '');

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
	IF EXISTS (SELECT FROM scalecache.rollup r WHERE r.id = new.id OR r.rollup = new.rollup) THEN
		RETURN NULL;
	END IF;
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

CREATE FUNCTION scalecache.create_rollup(name text, query text, with_data boolean DEFAULT true)
RETURNS regclass LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'scalecache_create_rollup';

CREATE PROCEDURE scalecache.create_rollup_concurrently(name text, query text)
LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_create_rollup_concurrently';

CREATE FUNCTION scalecache.drop_rollup(rollup regclass)
RETURNS void LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'scalecache_drop_rollup';

CREATE FUNCTION scalecache.fold_rollup(rollup regclass)
RETURNS bigint LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'scalecache_fold_rollup';

CREATE FUNCTION scalecache.rebuild_rollup(rollup regclass)
RETURNS void LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'scalecache_rebuild_rollup';

CREATE FUNCTION scalecache.verify_rollup(rollup regclass)
RETURNS bigint LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'scalecache_verify_rollup';

CREATE FUNCTION scalecache.rollup_stats(rollup regclass, OUT groups bigint, OUT pending_deltas bigint, OUT size_bytes bigint)
RETURNS record LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'scalecache_rollup_stats';

CREATE FUNCTION scalecache.rollup_capture() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_rollup_capture';
CREATE FUNCTION scalecache.rollup_truncate() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_rollup_truncate';
REVOKE ALL ON FUNCTION scalecache.rollup_capture(), scalecache.rollup_truncate() FROM PUBLIC;

CREATE FUNCTION scalecache.rollup_dropped() RETURNS event_trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_rollup_dropped';
CREATE FUNCTION scalecache.rollup_altered() RETURNS event_trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_rollup_altered';
REVOKE ALL ON FUNCTION scalecache.rollup_dropped(), scalecache.rollup_altered() FROM PUBLIC;

CREATE EVENT TRIGGER scalecache_dropped ON sql_drop
	EXECUTE FUNCTION scalecache.rollup_dropped();
ALTER EVENT TRIGGER scalecache_dropped ENABLE ALWAYS;
CREATE EVENT TRIGGER scalecache_altered ON ddl_command_end
	WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE', 'DROP TABLE', 'CREATE TRIGGER')
	EXECUTE FUNCTION scalecache.rollup_altered();
ALTER EVENT TRIGGER scalecache_altered ENABLE ALWAYS;

CREATE VIEW scalecache.rollups AS
SELECT r.rollup,
	r.source::regclass AS source,
	pg_catalog.pg_get_viewdef(r.rollup) AS query,
	CASE r.state WHEN 'l' THEN 'live' WHEN 'f' THEN 'filling'
		WHEN 's' THEN 'stale' ELSE 'unfilled' END AS state,
	r.time_zone,
	s.groups, s.pending_deltas, s.size_bytes
FROM scalecache.rollup r
	JOIN pg_catalog.pg_class c ON c.oid = r.rollup,
	LATERAL scalecache.rollup_stats(r.rollup) s;
GRANT SELECT ON scalecache.rollups TO PUBLIC;

-- Indexes

CREATE FUNCTION scalecache.what_if(query text, VARIADIC ddl text[] DEFAULT '{}',
	OUT cost_before float8, OUT cost_after float8, OUT used text[], OUT plan text)
RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'scalecache_what_if';

CREATE FUNCTION scalecache.what_if_size(ddl text)
RETURNS bigint LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'scalecache_what_if_size';

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
