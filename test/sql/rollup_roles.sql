-- Roles: who may make, write to, read, maintain and drop; row-level security;
-- hostile names.
CREATE EXTENSION scalecache;
\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /helper.sql
\set ECHO none
\i :helper
\set ECHO all
CREATE ROLE sc_owner;
CREATE ROLE sc_writer;
CREATE ROLE sc_reader;
CREATE ROLE sc_member IN ROLE sc_owner;
CREATE ROLE sc_bypass BYPASSRLS;
CREATE SCHEMA app AUTHORIZATION sc_owner;
GRANT USAGE ON SCHEMA app TO PUBLIC;

-- The owner of the table makes it, a plain role.
SET ROLE sc_owner;
CREATE TABLE app.t (id int, k int, v int);
CREATE FUNCTION app.whoami(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE 'called as %', current_user;
	RETURN $1;
END $$;
REVOKE ALL ON FUNCTION app.whoami(int) FROM PUBLIC;
SELECT scalecache.create_rollup('app.r', 'SELECT k, sum(v) AS s FROM app.t GROUP BY k');
GRANT INSERT, UPDATE, DELETE ON app.t TO sc_writer;
GRANT SELECT (id) ON app.t TO sc_writer;
RESET ROLE;
-- Others do not, even when they may read; a member of the owner may.
GRANT SELECT ON app.t TO sc_reader;
GRANT CREATE ON SCHEMA app TO sc_reader;
SET ROLE sc_reader;
SELECT error_of('SELECT scalecache.create_rollup(''app.q'', ''SELECT k, sum(v) AS s FROM app.t GROUP BY k'')');
RESET ROLE;
REVOKE SELECT ON app.t FROM sc_reader;
REVOKE CREATE ON SCHEMA app FROM sc_reader;
SET ROLE sc_reader;
SELECT error_of('SELECT scalecache.create_rollup(''app.q'', ''SELECT k, sum(v) AS s FROM app.t GROUP BY k'')');
SET ROLE sc_member;
SELECT scalecache.create_rollup('app.m', 'SELECT k, count(*) AS n FROM app.t GROUP BY k');
SET ROLE sc_owner;
SELECT error_of('SELECT scalecache.create_rollup(''pg_catalog.q'', ''SELECT k, sum(v) AS s FROM app.t GROUP BY k'')');
CREATE TABLE app.mine (k int);
REVOKE SELECT ON app.mine FROM sc_owner;
BEGIN;
SELECT error_of('SELECT scalecache.create_rollup(''app.q'', ''SELECT k, count(*) AS s FROM app.mine GROUP BY k'')');
ROLLBACK;
SELECT rollup FROM scalecache.rollups ORDER BY rollup::text;

-- Writers need no right on the rollup, and get none to it.
SET ROLE sc_writer;
INSERT INTO app.t VALUES (1, 1, 1), (2, 2, 2), (3, 2, 3);
UPDATE app.t SET v = 5 WHERE id = 2;
DELETE FROM app.t WHERE id = 3;
SELECT error_of('SELECT * FROM app.r');
SELECT error_of('SELECT * FROM scalecache_data.r');
SELECT error_of('INSERT INTO scalecache_data.r DEFAULT VALUES');
SELECT error_of('UPDATE scalecache.rollup SET epoch = 1');
SELECT error_of('SELECT scalecache.fold_rollup(''app.r'')');
SELECT error_of('SELECT scalecache.rebuild_rollup(''app.r'')');
SELECT error_of('SELECT scalecache.verify_rollup(''app.r'')');
SELECT error_of('SELECT scalecache.drop_rollup(''app.r'')');
SELECT error_of('DROP VIEW app.r');
-- Readers need SELECT on the view, and nothing else.
SET ROLE sc_reader;
SELECT error_of('SELECT * FROM app.r');
SET ROLE sc_owner;
GRANT SELECT (k) ON app.r TO sc_reader;
SET ROLE sc_reader;
SELECT k FROM app.r ORDER BY k;
SELECT error_of('SELECT s FROM app.r');
SET ROLE sc_owner;
GRANT SELECT ON app.r TO sc_reader WITH GRANT OPTION;
SET ROLE sc_reader;
SELECT * FROM app.r ORDER BY k;
EXPLAIN (COSTS OFF) SELECT * FROM app.r;
GRANT SELECT ON app.r TO sc_writer;
SELECT error_of('SELECT * FROM app.t');
SELECT error_of('SELECT * FROM scalecache_data.r');
SELECT error_of('SELECT scalecache.fold_rollup(''app.r'')');
SET ROLE sc_writer;
SELECT * FROM app.r ORDER BY k;
SET ROLE sc_owner;
REVOKE ALL ON app.r FROM sc_reader CASCADE;
SET ROLE sc_writer;
SELECT error_of('SELECT * FROM app.r');
-- security_invoker asks the reader for SELECT on the table, as for any view.
SET ROLE sc_owner;
GRANT SELECT ON app.r TO sc_reader;
ALTER VIEW app.r SET (security_invoker = true);
SET ROLE sc_reader;
SELECT error_of('SELECT * FROM app.r');
SET ROLE sc_owner;
SELECT * FROM app.r ORDER BY k;
ALTER VIEW app.r RESET (security_invoker);
-- The owner, and a member, maintain it; storage is nobody's.
SELECT scalecache.fold_rollup('app.r') > 0 AS folded;
SELECT scalecache.rebuild_rollup('app.r');
SELECT scalecache.verify_rollup('app.r');
SELECT error_of('UPDATE scalecache_data.r SET a1 = 1');
SELECT error_of('DROP TABLE scalecache_data.r');
SELECT error_of('TRUNCATE scalecache_data.r');
SELECT error_of('DELETE FROM scalecache.rollup');
SET ROLE sc_member;
SELECT scalecache.fold_rollup('app.m');
SELECT scalecache.drop_rollup('app.m');
RESET ROLE;
-- Nor is what the storage is known by, for who may write everywhere else.
CREATE ROLE sc_anywhere;
GRANT pg_write_all_data, pg_read_all_data TO sc_anywhere;
SET ROLE sc_anywhere;
SELECT error_of('UPDATE scalecache.rollup SET base = ''app.t''::regclass');
SELECT error_of('DELETE FROM scalecache.rollup');
SELECT error_of('UPDATE scalecache.fold SET mark = ''''');
SELECT error_of('DELETE FROM scalecache.fold');
SELECT error_of('INSERT INTO scalecache.fold VALUES (1, 1, now(), '''')');
SELECT error_of('UPDATE scalecache_data.r SET a1 = 1');
RESET ROLE;
DROP ROLE sc_anywhere;
-- The trigger functions are not for others' triggers.
SET ROLE sc_owner;
SELECT error_of('CREATE TRIGGER x AFTER INSERT ON app.mine FOR EACH ROW EXECUTE FUNCTION scalecache.rollup_capture(''1'')');
RESET ROLE;
SELECT error_of('SELECT scalecache.rollup_capture()');

-- Who writes needs no right to a query's functions, which run as in an index's
-- expression; folding and rebuilding is done as the owner.
SET ROLE sc_owner;
SELECT scalecache.create_rollup('app.w', 'SELECT app.whoami(k) AS k, count(*) AS n FROM app.t WHERE id > 100 GROUP BY 1');
SET ROLE sc_writer;
INSERT INTO app.t VALUES (101, 1, 1);
RESET ROLE;
SELECT scalecache.fold_rollup('app.w');
SELECT scalecache.rebuild_rollup('app.w');
SELECT scalecache.verify_rollup('app.w');
DROP VIEW app.w;
-- So are aggregates that a fold computes from the source.
SET ROLE sc_owner;
SELECT scalecache.create_rollup('app.w', 'SELECT k, mode() WITHIN GROUP (ORDER BY app.whoami(id)) AS m FROM app.t WHERE id > 100 GROUP BY 1');
RESET ROLE;
INSERT INTO app.t VALUES (103, 1, 1);
SELECT scalecache.fold_rollup('app.w');
DROP VIEW app.w;
DELETE FROM app.t WHERE id = 103;
-- What they set then is not for who called.
SET ROLE sc_owner;
CREATE FUNCTION app.sets(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	IF current_user = 'sc_owner' AND current_user <> session_user THEN
		PERFORM set_config('search_path', 'app', false);
	END IF;
	RETURN $1;
END $$;
SELECT scalecache.create_rollup('app.w', 'SELECT app.sets(k) AS k, mode() WITHIN GROUP (ORDER BY id) AS m FROM app.t WHERE id > 100 GROUP BY 1');
RESET ROLE;
SET search_path = public;
INSERT INTO app.t VALUES (102, 1, 1);
SELECT scalecache.fold_rollup('app.w');
SHOW search_path;
SELECT scalecache.rebuild_rollup('app.w');
SHOW search_path;
SELECT scalecache.verify_rollup('app.w');
SHOW search_path;
DROP VIEW app.w;
-- ... and with a restored rollup's constants
SET ROLE sc_owner;
CREATE FUNCTION app.unit(int) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	IF current_user <> 'sc_owner' THEN
		RAISE 'called as %', current_user;
	END IF;
	RETURN 'month';
END $$;
CREATE TABLE app.ut (ts timestamp);
CREATE VIEW app.u AS SELECT date_trunc(app.unit(1), ts) AS m, count(*) AS n FROM app.ut GROUP BY 1;
INSERT INTO scalecache.rollup (id, rollup, source, base, delta1, delta2, turn, epoch, state, distincts, time_zone)
	VALUES (777777, 'app.u', 'app.ut', 0, 0, 0, 0, 1, 'u', 0, 'UTC');
CREATE TEMP VIEW u AS SELECT k, count(*) AS n FROM app.t GROUP BY k;
SELECT error_of('INSERT INTO scalecache.rollup (id, rollup, source, base, delta1, delta2, turn, epoch, state, distincts, time_zone)
	VALUES (888888, ''pg_temp.u'', ''app.t'', 0, 0, 0, 0, 1, ''u'', 0, ''UTC'')');
DROP VIEW u;
RESET ROLE;
SELECT scalecache.rebuild_rollup('app.u');
SET ROLE sc_owner;
INSERT INTO app.ut VALUES ('2026-01-02');
TABLE app.u;
DROP TABLE app.ut CASCADE;
RESET ROLE;
-- ... and for the rows of partitions that somebody else brings and takes
SET ROLE sc_owner;
CREATE TABLE app.pt (k int) PARTITION BY LIST (k);
SELECT scalecache.create_rollup('app.w', 'SELECT app.whoami(k) AS k, count(*) AS n FROM app.pt GROUP BY 1');
RESET ROLE;
CREATE TABLE app.pt1 AS SELECT 1 AS k;
ALTER TABLE app.pt ATTACH PARTITION app.pt1 FOR VALUES IN (1);
ALTER TABLE app.pt DETACH PARTITION app.pt1;
ALTER TABLE app.pt ATTACH PARTITION app.pt1 FOR VALUES IN (1);
SELECT * FROM app.w;
TRUNCATE app.pt1;
DROP TABLE app.pt CASCADE;

-- Row-level security: refused to whom it hides rows, and why
SET ROLE sc_owner;
CREATE TABLE app.rls (k int, v int);
INSERT INTO app.rls VALUES (1, 1), (2, 2), (3, 3);
ALTER TABLE app.rls ENABLE ROW LEVEL SECURITY;
CREATE POLICY some_rows ON app.rls USING (k < 3);
-- not for the owner, whom policies do not bind
SELECT scalecache.create_rollup('app.by_owner', 'SELECT k, sum(v) AS s FROM app.rls GROUP BY k');
SELECT * FROM app.by_owner ORDER BY k;
DROP VIEW app.by_owner;
ALTER TABLE app.rls FORCE ROW LEVEL SECURITY;
SELECT error_of('SELECT scalecache.create_rollup(''app.q'', ''SELECT k, sum(v) AS s FROM app.rls GROUP BY k'')');
RESET ROLE;
ALTER TABLE app.rls OWNER TO sc_bypass;
GRANT CREATE ON SCHEMA app TO sc_bypass;
SET ROLE sc_bypass;
SELECT scalecache.create_rollup('app.q', 'SELECT k, sum(v) AS s FROM app.rls GROUP BY k');
INSERT INTO app.rls VALUES (3, 3);
SELECT * FROM app.q ORDER BY k;
RESET ROLE;
SELECT * FROM checked('app.q');
-- A plan made for whom no policy binds is not for others.
GRANT SELECT ON app.rls, app.q TO sc_reader;
SET ROLE sc_bypass;
ALTER VIEW app.q SET (security_invoker = true);
PREPARE q AS SELECT * FROM app.q ORDER BY k;
EXECUTE q;
SET ROLE sc_reader;
EXECUTE q;
SET ROLE sc_bypass;
EXECUTE q;
ALTER VIEW app.q RESET (security_invoker);
REVOKE SELECT ON app.rls, app.q FROM sc_reader;
RESET ROLE;
-- Security that comes later binds the rollup's reader as any view's.
ALTER ROLE sc_bypass NOBYPASSRLS;
SET ROLE sc_bypass;
SELECT * FROM app.q ORDER BY k;
SET ROLE sc_reader;
SELECT error_of('SELECT * FROM app.q');
SET ROLE sc_bypass;
GRANT SELECT ON app.q TO sc_reader;
SET ROLE sc_reader;
SELECT * FROM app.q ORDER BY k;
RESET ROLE;
DROP VIEW app.q;

-- Who may not look into the extension's schema writes as without it.
REVOKE USAGE ON SCHEMA scalecache FROM PUBLIC;
CREATE TABLE app.w (k int, v int);
SELECT scalecache.create_rollup('app.wr', 'SELECT k, count(*) AS n, sum(v) AS s FROM app.w GROUP BY k');
ALTER TABLE app.w OWNER TO sc_owner;
ALTER VIEW app.wr OWNER TO sc_owner;
SET ROLE sc_owner;
COPY app.w FROM stdin;
1	1
\.
INSERT INTO app.w VALUES (1, 2);
UPDATE app.w SET v = 3 WHERE v = 2;
ALTER TABLE app.w ADD x int;
COPY app.w FROM stdin;
1	5	6
\.
TABLE app.wr;
RESET ROLE;
SELECT scalecache.verify_rollup('app.wr');
DROP TABLE app.w CASCADE;
GRANT USAGE ON SCHEMA scalecache TO PUBLIC;

-- Hostile names: none of these may be called or read.
CREATE SCHEMA evil;
CREATE FUNCTION evil.trap() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE FUNCTION evil.eq(a int, b int) RETURNS boolean LANGUAGE sql AS 'SELECT evil.trap()';
CREATE FUNCTION evil.eq(a oid, b oid) RETURNS boolean LANGUAGE sql AS 'SELECT evil.trap()';
CREATE FUNCTION evil.eq(a bigint, b bigint) RETURNS boolean LANGUAGE sql AS 'SELECT evil.trap()';
CREATE FUNCTION evil.eq(a "char", b "char") RETURNS boolean LANGUAGE sql AS 'SELECT evil.trap()';
CREATE FUNCTION evil.eq(a text, b text) RETURNS boolean LANGUAGE sql AS 'SELECT evil.trap()';
CREATE OPERATOR evil.= (FUNCTION = evil.eq, LEFTARG = int, RIGHTARG = int);
CREATE OPERATOR evil.= (FUNCTION = evil.eq, LEFTARG = oid, RIGHTARG = oid);
CREATE OPERATOR evil.= (FUNCTION = evil.eq, LEFTARG = bigint, RIGHTARG = bigint);
CREATE OPERATOR evil.= (FUNCTION = evil.eq, LEFTARG = "char", RIGHTARG = "char");
CREATE OPERATOR evil.= (FUNCTION = evil.eq, LEFTARG = text, RIGHTARG = text);
CREATE FUNCTION evil.pg_get_viewdef(oid) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE FUNCTION evil.pg_event_trigger_dropped_objects() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE FUNCTION evil.timezone(text, timestamptz) RETURNS timestamp LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE FUNCTION evil.date_trunc(text, timestamptz, text) RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE TABLE evil.rollup (a int);
CREATE TABLE evil.pg_class (a int);
CREATE TABLE evil.pg_trigger (a int);
CREATE DOMAIN evil.int8 AS pg_catalog.int8 CHECK (evil.trap());
CREATE DOMAIN evil.bytea AS pg_catalog.bytea CHECK (evil.trap());
CREATE DOMAIN evil.bool AS pg_catalog.bool CHECK (evil.trap());
CREATE COLLATION evil."default" FROM "C";
CREATE TABLE app.h (k int, c varchar(10), ts timestamptz, v bigint);
SET search_path = evil, pg_catalog;
SET TimeZone = 'Europe/Berlin';
SELECT scalecache.create_rollup('app.hr', $$
	SELECT k, c, date_trunc('day', ts) AS d, extract(hour FROM ts) AS h, sum(v) AS s, count(*) AS n, max(c) AS hi
	FROM app.h GROUP BY k, c, date_trunc('day', ts), extract(hour FROM ts) $$);
CALL scalecache.create_rollup_concurrently('app.hc', 'SELECT k, count(DISTINCT c) AS n, sum(v) AS s FROM app.h GROUP BY k');
SELECT DISTINCT attrelid::regclass::text COLLATE "C" AS table, attname, typnamespace::regnamespace
FROM pg_attribute JOIN pg_type y ON y.oid OPERATOR(pg_catalog.=) atttypid
WHERE typname OPERATOR(pg_catalog.=) 'bytea' AND attnum OPERATOR(pg_catalog.>) 0
	AND attrelid OPERATOR(pg_catalog.=) ANY ('{scalecache_data.hr,scalecache_data.hr_delta}'::regclass[]) ORDER BY 1;
INSERT INTO app.h VALUES (1, 'a', '2026-01-01 12:00', 1), (1, 'b', '2026-01-01 12:00', 2);
UPDATE app.h SET v = v + 1;
SELECT * FROM app.hr ORDER BY c;
SELECT scalecache.fold_rollup('app.hr'), scalecache.fold_rollup('app.hc');
SELECT * FROM app.hc;
SELECT scalecache.verify_rollup('app.hr'), scalecache.verify_rollup('app.hc');
SELECT scalecache.rebuild_rollup('app.hr');
TRUNCATE app.h;
SELECT rollup, state, groups, pending_deltas FROM scalecache.rollups WHERE source OPERATOR(pg_catalog.=) 'app.h'::regclass ORDER BY rollup::text COLLATE "C";
ALTER TABLE app.h ADD COLUMN x int;
SELECT scalecache.drop_rollup('app.hr');
DROP VIEW app.hc;
RESET search_path;
RESET TimeZone;
SELECT rollup FROM scalecache.rollups;
SET client_min_messages = warning;
DROP SCHEMA evil CASCADE;
DROP OWNED BY sc_owner, sc_reader, sc_writer, sc_member, sc_bypass CASCADE;
DROP TABLE IF EXISTS app.h;
DROP ROLE sc_owner, sc_reader, sc_writer, sc_member, sc_bypass;
SELECT count(*) FROM pg_class WHERE relnamespace = 'scalecache_data'::regnamespace;
DROP EXTENSION scalecache;
DROP FUNCTION same, answered_from, checked, exact, answered, error_of;

-- Without the extension, a schema of its name says nothing.
CREATE SCHEMA scalecache;
CREATE TABLE scalecache.rollup (a int, b text);
CREATE TABLE scalecache.cache_rule (a int);
INSERT INTO scalecache.rollup VALUES (1, 'a');
INSERT INTO scalecache.cache_rule VALUES (1);
CREATE FUNCTION scalecache.rollup_capture() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TABLE t (k int, v int);
CREATE TRIGGER t AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION scalecache.rollup_capture('1');
ALTER TABLE t ENABLE ALWAYS TRIGGER t;
INSERT INTO t VALUES (1, 1);
UPDATE t SET v = 2;
SELECT k, sum(v) FROM t GROUP BY k;
DROP TABLE t;
DROP SCHEMA scalecache CASCADE;
CREATE EXTENSION scalecache;
CREATE TABLE t (k int, v int);
SELECT scalecache.create_rollup('r', 'SELECT k, sum(v) AS s FROM t GROUP BY k');
INSERT INTO t VALUES (1, 3);
SELECT * FROM r;
DROP TABLE t CASCADE;
DROP EXTENSION scalecache;
