-- What a rollup costs an UPDATE that does not concern it, what others may do
-- to its view and storage, and how it says what it cannot do.
CREATE EXTENSION scalecache;
\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /helper.sql
\set ECHO none
\i :helper
\set ECHO all
SET client_min_messages = warning;
-- Triggers that a statement fires, and how often
CREATE FUNCTION fired(sql text) RETURNS TABLE (name text, calls int) LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) ' || sql INTO plan;
	RETURN QUERY SELECT t ->> 'Trigger Name', (t ->> 'Calls')::int
		FROM json_array_elements(plan -> 0 -> 'Triggers') t ORDER BY 1;
END $$;
CREATE TABLE t (id int PRIMARY KEY, k int, v numeric, f float8, j json, p point, big text,
	twice int GENERATED ALWAYS AS (k * 2) STORED, note text, d timestamptz, only_date date);
INSERT INTO t (id, k, v, f, j, p, big, note, d, only_date)
SELECT g, g % 3, g, g, '{"a": 1}', point(g % 2, 0), repeat('x' || g, 100), 'n', '2026-01-01', '2026-01-01'
FROM generate_series(1, 10) g;
ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
UPDATE t SET big = (SELECT string_agg(md5(id || '/' || i), '') FROM generate_series(1, 300) i);
SELECT scalecache.create_rollup('r', $$
	SELECT k, sum(v) AS s, sum(f) AS f, sum((j ->> 'a')::int) AS ja, sum(p[0]) AS px, sum(length(big)) AS l, max(twice) AS tw
	FROM t WHERE note IS DISTINCT FROM 'skip' GROUP BY k $$);
SELECT pg_get_triggerdef(oid) ~ 'WHEN' AS has_when, tgname FROM pg_trigger WHERE tgrelid = 't'::regclass ORDER BY 2;
-- columns that it does not read, and those it does
SELECT * FROM fired('UPDATE t SET d = now()');
SELECT * FROM fired('UPDATE t SET d = now(), v = v, j = j, p = p, big = big, f = f');
SELECT * FROM fired('UPDATE t SET v = v + 1 WHERE id = 1');
SELECT * FROM fired($$UPDATE t SET note = 'skip' WHERE id = 2$$);
SELECT * FROM fired('UPDATE t SET k = 7 WHERE id = 3');
SELECT * FROM fired($$UPDATE t SET j = '{"a":  1}' WHERE id = 3$$);
SELECT * FROM fired('UPDATE t SET p = point(5, 5) WHERE id = 3');
SELECT * FROM fired($$UPDATE t SET big = big || 'y' WHERE id = 3$$);
SELECT * FROM fired('UPDATE t SET v = NULL WHERE id = 4');
SELECT * FROM fired('UPDATE t SET v = NULL WHERE id = 4');
SELECT * FROM fired('UPDATE t SET f = -f * 0 WHERE id < 3');
SELECT * FROM checked('r');
-- by other statements
SELECT * FROM fired('INSERT INTO t (id, k) VALUES (5, 1) ON CONFLICT (id) DO UPDATE SET d = now()');
SELECT * FROM fired('INSERT INTO t (id, k) VALUES (5, 1) ON CONFLICT (id) DO UPDATE SET v = t.v + 2');
SELECT * FROM fired('WITH u AS (UPDATE t SET d = now() RETURNING v) SELECT sum(v) FROM u');
SELECT * FROM fired('WITH u AS (UPDATE t SET v = v + 1 WHERE id = 6 RETURNING v) SELECT sum(v) FROM u');
SELECT * FROM fired('MERGE INTO t USING generate_series(7, 8) n ON n = id WHEN MATCHED AND n = 7 THEN UPDATE SET d = now() WHEN MATCHED THEN UPDATE SET v = 9');
SELECT * FROM checked('r');
-- numeric scale is seen: 1.0 and 1.00 print differently
SELECT * FROM fired('UPDATE t SET v = v + 0.00 WHERE id = 5');
SELECT * FROM checked('r');
-- a BEFORE trigger that changes a column which the statement does not name
CREATE FUNCTION before() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN new.v := new.v + 1; RETURN new; END $$;
CREATE TRIGGER b BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION before();
SELECT * FROM fired('UPDATE t SET d = now() WHERE id = 6');
DROP TRIGGER b ON t;
SELECT * FROM checked('r');
-- renamed
ALTER TABLE t RENAME v TO amount;
ALTER TABLE t RENAME note TO "Note it";
SELECT * FROM fired('UPDATE t SET d = now()');
SELECT * FROM fired('UPDATE t SET amount = 3 WHERE id = 7');
SELECT * FROM checked('r');
SELECT error_of('ALTER TABLE t DROP COLUMN amount');
SELECT error_of('ALTER TABLE t ALTER amount TYPE int');
-- Storage is heap tables, whatever tables of the session are.
CREATE ACCESS METHOD heap_too TYPE TABLE HANDLER heap_tableam_handler;
SET default_table_access_method = heap_too;
SELECT scalecache.create_rollup('r_heap', 'SELECT k, count(DISTINCT id) AS n FROM t GROUP BY k');
RESET default_table_access_method;
SELECT count(*), bool_and(a.amname = 'heap') FROM pg_class c JOIN pg_am a ON a.oid = c.relam
	WHERE c.relnamespace = 'scalecache_data'::regnamespace AND c.relname ~ 'r_heap' AND c.relkind = 'r';
SELECT scalecache.drop_rollup('r_heap');
DROP ACCESS METHOD heap_too;
-- one that reads no column has no trigger for UPDATE
SELECT scalecache.create_rollup('n', 'SELECT count(*) AS n FROM t');
SELECT tgname FROM pg_trigger WHERE tgrelid = 't'::regclass AND tgname ~ '_n_' ORDER BY 1;
SELECT * FROM checked('n');
-- more columns than a function takes arguments
SELECT format('CREATE TABLE wide (%s)', string_agg('c' || g || ' int DEFAULT 0', ', ')) FROM generate_series(1, 120) g \gexec
SELECT format('SELECT scalecache.create_rollup(''w'', ''SELECT %s FROM wide'')', string_agg('sum(c' || g || ') AS c' || g, ', ')) FROM generate_series(1, 119) g \gexec
INSERT INTO wide DEFAULT VALUES;
SELECT * FROM fired('UPDATE wide SET c120 = 1');
SELECT * FROM fired('UPDATE wide SET c119 = 1');
SELECT * FROM fired('UPDATE wide SET c51 = 1');
SELECT * FROM checked('w');
DROP TABLE wide CASCADE;

-- names of triggers: the schema where it is not public, 63 bytes, and twice
CREATE SCHEMA s;
SELECT scalecache.create_rollup('s.r', 'SELECT count(*) AS n FROM t');
SELECT scalecache.create_rollup('a_name_that_is_as_long_as_a_name_can_be_in_postgresql_63_bytes_', 'SELECT count(*) AS n FROM t');
ALTER VIEW r RENAME TO r_old;
SELECT scalecache.create_rollup('r', 'SELECT sum(k) AS k FROM t');
SELECT tgname FROM pg_trigger WHERE tgrelid = 't'::regclass ORDER BY 1;
SELECT * FROM checked('r_old');
SELECT * FROM checked('r');
DROP VIEW a_name_that_is_as_long_as_a_name_can_be_in_postgresql_63_bytes_, r, s.r, n;
ALTER VIEW r_old RENAME TO r;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass;

-- its query cannot be replaced
SELECT error_of('CREATE OR REPLACE VIEW r AS SELECT 1 AS k, 2::numeric AS s, 3::float8 AS f, 4::bigint AS ja, 5::float8 AS px, 6::bigint AS l, 7 AS tw');
SELECT error_of('CREATE OR REPLACE RULE "_RETURN" AS ON SELECT TO r DO INSTEAD SELECT 1 AS k, 2::numeric AS s, 3::float8 AS f, 4::bigint AS ja, 5::float8 AS px, 6::bigint AS l, 7 AS tw');
-- but other rules are none of its query
CREATE RULE keeps AS ON DELETE TO r DO INSTEAD NOTHING;
DELETE FROM r;
DROP RULE keeps ON r;
SELECT * FROM checked('r');
-- owners
CREATE ROLE sc_new_owner;
GRANT CREATE ON SCHEMA public TO sc_new_owner;
ALTER TABLE t OWNER TO sc_new_owner;
INSERT INTO t (id, k, amount) VALUES (20, 1, 1);
SELECT * FROM checked('r');
ALTER VIEW r OWNER TO sc_new_owner;
SET ROLE sc_new_owner;
INSERT INTO t (id, k, amount) VALUES (21, 1, 1);
SELECT k, s FROM r WHERE k = 1;
SELECT scalecache.verify_rollup('r');
-- its owner may disable triggers, or drop them: then its query answers
ALTER TABLE t DISABLE TRIGGER ALL;
INSERT INTO t (id, k, amount) VALUES (22, 1, 1);
SELECT same('r'), answered_from('r');
ALTER TABLE t ENABLE TRIGGER ALL;
INSERT INTO t (id, k, amount) VALUES (23, 1, 1);
SELECT same('r'), answered_from('r');
SELECT scalecache.rebuild_rollup('r');
INSERT INTO t (id, k, amount) VALUES (24, 1, 1);
SELECT * FROM checked('r');
ALTER TABLE t DISABLE TRIGGER scalecache_r_update;
UPDATE t SET amount = 2 WHERE id = 24;
SELECT same('r'), answered_from('r');
SELECT scalecache.rebuild_rollup('r');
DROP TRIGGER scalecache_r_insert ON t;
INSERT INTO t (id, k, amount) VALUES (25, 1, 1);
SELECT same('r'), answered_from('r');
SELECT scalecache.rebuild_rollup('r');
ALTER TABLE t DISABLE TRIGGER scalecache_r_truncate;
BEGIN;
TRUNCATE t;
INSERT INTO t (id, k, amount) VALUES (25, 1, 1);
SELECT same('r'), answered_from('r');
ROLLBACK;
SELECT same('r'), answered_from('r');
SELECT scalecache.rebuild_rollup('r');
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END $$;
CREATE OR REPLACE TRIGGER scalecache_r_insert AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION nothing();
INSERT INTO t (id, k, amount) VALUES (26, 1, 1);
SELECT same('r'), answered_from('r');
SELECT scalecache.rebuild_rollup('r');
INSERT INTO t (id, k, amount) VALUES (27, 1, 1);
SELECT * FROM checked('r');
SELECT tgname FROM pg_trigger WHERE tgrelid = 't'::regclass ORDER BY 1;
ALTER TRIGGER scalecache_r_update ON t RENAME TO my_name_for_it;
UPDATE t SET amount = 2 WHERE id = 27;
SELECT * FROM checked('r');
-- the storage is not theirs, nor anybody's to change by hand
SELECT error_of('DELETE FROM scalecache_data.r');
SELECT error_of('SELECT * FROM scalecache_data.r');
SELECT error_of('DROP TABLE scalecache_data.r');
RESET ROLE;
GRANT pg_write_all_data TO sc_new_owner;
SET ROLE sc_new_owner;
SELECT error_of('INSERT INTO scalecache_data.r (k1) VALUES (1)');
SELECT error_of('UPDATE scalecache_data.r SET rows = 0');
RESET ROLE;
SELECT error_of('DELETE FROM scalecache_data.r');
SELECT error_of('TRUNCATE scalecache_data.r_delta');
SELECT error_of('COPY scalecache_data.r (k1) FROM PROGRAM ''echo 1''');
SELECT error_of('DROP TABLE scalecache_data.r');
SELECT * FROM checked('r');
-- tampering by force is found
SET session_replication_role = replica;
UPDATE scalecache_data.r SET rows = rows + 1, a1 = a1 + 1 WHERE k1 = 1;
DELETE FROM scalecache_data.r WHERE k1 = 0;
INSERT INTO scalecache_data.r (k1, rows, overflow, state) SELECT 99, 1, false, state FROM scalecache_data.r WHERE k1 = 2;
RESET session_replication_role;
SELECT scalecache.verify_rollup('r');
SELECT scalecache.rebuild_rollup('r');
SELECT * FROM checked('r');
-- its storage taken out of the extension and dropped: made anew
ALTER EXTENSION scalecache DROP TABLE scalecache_data.r;
SELECT * FROM checked('r');
DROP TABLE scalecache_data.r;
INSERT INTO t (id, k, amount) VALUES (30, 1, 1);
SELECT same('r'), answered_from('r');
SELECT scalecache.rebuild_rollup('r');
INSERT INTO t (id, k, amount) VALUES (31, 1, 1);
SELECT * FROM checked('r');
SELECT count(*) FROM pg_class WHERE relnamespace = 'scalecache_data'::regnamespace AND relkind = 'r';

-- what the list of rollups shows: the query as it would be written now
SET TimeZone = 'Europe/Berlin';
SELECT scalecache.create_rollup('zoned', $$
	SELECT date_trunc('month', d) AS month, extract(hour FROM d) AS h, to_char(d, 'YYYY') AS y, d::date AS day,
		d::timestamp AS local, d AT TIME ZONE 'Europe/Berlin' AS named, sum(amount) AS s
	FROM t WHERE k > 0 GROUP BY 1, 2, 3, 4, 5, 6 HAVING sum(amount) > 0$$);
ALTER VIEW zoned RENAME COLUMN s TO total;
SELECT query, time_zone, last_fold IS NULL AS never_folded, rewrites FROM scalecache.rollups WHERE rollup = 'zoned'::regclass;
INSERT INTO t (id, k, amount, d) VALUES (40, 1, 1, '2026-02-01');
SELECT * FROM checked('zoned');
SELECT now() - last_fold < interval '1 minute' AS folded FROM scalecache.rollups WHERE rollup = 'zoned'::regclass;
DROP VIEW zoned;
RESET TimeZone;

-- what depends on the time, the zone, or more than the table
SELECT error_of(format('SELECT scalecache.create_rollup(''bad'', %L)', q)) FROM unnest(ARRAY[
	$$SELECT d + interval '1 day' AS x, count(*) AS n FROM t GROUP BY 1$$,
	$$SELECT d - interval '1 month' AS x, count(*) AS n FROM t GROUP BY 1$$,
	$$SELECT k, count(*) AS n FROM t WHERE d > date '2026-01-01' GROUP BY 1$$,
	$$SELECT k, count(*) AS n FROM t WHERE d > now() - interval '1 day' GROUP BY 1$$,
	$$SELECT k, count(*) AS n FROM t WHERE only_date < current_date GROUP BY 1$$,
	$$SELECT k, count(*) AS n FROM t WHERE d < CURRENT_TIMESTAMP GROUP BY 1$$,
	$$SELECT current_user AS u, count(*) AS n FROM t GROUP BY 1$$,
	$$SELECT d::text AS x, count(*) AS n FROM t GROUP BY 1$$,
	$$SELECT d::time AS x, count(*) AS n FROM t GROUP BY 1$$,
	$$SELECT to_char(d, 'TZ') AS x, count(*) AS n FROM t GROUP BY 1$$,
	$$SELECT age(d) AS x, count(*) AS n FROM t GROUP BY 1$$,
	$$SELECT k, sum(random()) AS n FROM t GROUP BY 1$$,
	$$SELECT id, k, count(*) AS n FROM t GROUP BY id$$,
	$$SELECT t AS x, count(*) AS n FROM t GROUP BY 1$$,
	$$SELECT xmin AS x, count(*) AS n FROM t GROUP BY 1$$]) q;
-- and what does not
SELECT scalecache.create_rollup('good', $$
	SELECT only_date + interval '1 day' AS a, d AT TIME ZONE 'Europe/Berlin' AS b,
		(d AT TIME ZONE 'Europe/Berlin' + interval '1 day') AT TIME ZONE 'Europe/Berlin' AS c,
		only_date + make_interval(days => 2) AS e, only_date - 1 AS g, count(*) AS n
	FROM t GROUP BY 1, 2, 3, 4, 5$$);
SELECT * FROM checked('good');
-- What a dump has about a rollup is of another database, also when it is
-- restored with --disable-triggers.
CREATE TABLE another (a int);
INSERT INTO another VALUES (1);
CREATE VIEW from_dump AS SELECT a, count(*) AS n FROM another GROUP BY a;
ALTER TABLE scalecache.rollup DISABLE TRIGGER ALL;
ALTER TABLE scalecache.cache_rule DISABLE TRIGGER restored;
INSERT INTO scalecache.rollup (id, rollup, source, base, delta1, delta2, turn, epoch, state, members, distincts)
	SELECT 1, 'from_dump', o, o, o, o, 5, 1, 'l', ARRAY[o], o FROM CAST('another'::regclass AS oid) o;
ALTER TABLE scalecache.rollup ENABLE TRIGGER ALL;
ALTER TABLE scalecache.cache_rule DISABLE TRIGGER ALL, ENABLE TRIGGER ALL;
SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger
	WHERE tgrelid IN ('scalecache.rollup'::regclass, 'scalecache.cache_rule'::regclass) ORDER BY tgrelid::regclass::text, tgname;
SELECT base, delta1, distincts, state FROM scalecache.rollup WHERE id = 1;
SELECT scalecache.rebuild_rollup('from_dump');
INSERT INTO another VALUES (1), (2);
SELECT * FROM from_dump ORDER BY a;
SELECT scalecache.verify_rollup('from_dump');
-- The worker has made its triggers before the dump does, which knows them by
-- the name that the view had once: each row is captured once.
DO $$
DECLARE
	event text;
BEGIN
	FOREACH event IN ARRAY '{INSERT,UPDATE,DELETE}'::text[] LOOP
		EXECUTE format('CREATE TRIGGER scalecache_once_%1$s AFTER %1$s ON another FOR EACH ROW
			EXECUTE FUNCTION scalecache.rollup_capture(''1'')', event);
		EXECUTE format('ALTER TABLE another ENABLE ALWAYS TRIGGER scalecache_once_%s', event);
	END LOOP;
END $$;
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'another'::regclass ORDER BY 1;
INSERT INTO another VALUES (2);
SELECT * FROM from_dump ORDER BY a;
SELECT scalecache.verify_rollup('from_dump');
DROP VIEW from_dump;
SELECT * FROM another;
DROP TABLE another;

-- An update of the extension adds columns to its table, while other sessions
-- go on with the library from before.
ALTER TABLE scalecache.rollup ADD COLUMN later int NOT NULL DEFAULT 7;
CREATE TABLE another (a int);
INSERT INTO another VALUES (1), (1);
SELECT scalecache.create_rollup('from_before', 'SELECT a, count(*) AS n FROM another GROUP BY a');
SELECT later FROM scalecache.rollup WHERE rollup = 'from_before'::regclass;
SET session_replication_role = replica;
UPDATE scalecache.rollup SET later = 8 WHERE rollup = 'from_before'::regclass;
RESET session_replication_role;
INSERT INTO another VALUES (1), (2);
ALTER TABLE another DISABLE TRIGGER ALL;
ALTER TABLE another ENABLE TRIGGER ALL;
SELECT scalecache.rebuild_rollup('from_before');
SELECT later, state FROM scalecache.rollup WHERE rollup = 'from_before'::regclass;
SELECT * FROM from_before ORDER BY a;
ALTER TABLE scalecache.rollup DROP COLUMN later;
INSERT INTO another VALUES (2);
SELECT * FROM from_before ORDER BY a;
SELECT scalecache.verify_rollup('from_before');
DROP TABLE another CASCADE;

DROP EXTENSION scalecache CASCADE;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass;
DROP TABLE t;
DROP SCHEMA s;
REVOKE CREATE ON SCHEMA public FROM sc_new_owner;
DROP OWNED BY sc_new_owner;
DROP ROLE sc_new_owner;
DROP FUNCTION IF EXISTS fired, before, nothing, same, answered_from, checked, exact, answered, error_of;
