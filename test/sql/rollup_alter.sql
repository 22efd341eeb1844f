-- Every way the table and the rollup change: renames keep it live, what it
-- needs cannot be taken away, what it does not need can, and CASCADE takes
-- the rollup whole.
CREATE EXTENSION scalecache;
\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /helper.sql
\set ECHO none
\i :helper
\set ECHO all
-- What is left of rollups: catalog rows, storage, triggers
CREATE VIEW left_over AS
SELECT (SELECT count(*) FROM scalecache.rollup) AS rollups,
	(SELECT count(*) FROM pg_class WHERE relnamespace = 'scalecache_data'::regnamespace) AS storage,
	(SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'scalecache_%') AS triggers;
CREATE SCHEMA one;
CREATE SCHEMA two;
CREATE TABLE one.t (id int PRIMARY KEY, k int, v numeric, w text, x int);
CREATE INDEX t_k ON one.t (k);
INSERT INTO one.t SELECT g, g % 3, g, 'w', g FROM generate_series(1, 9) g;
SELECT scalecache.create_rollup('one.r', 'SELECT k, sum(v) AS s, count(*) AS n FROM one.t WHERE w <> ''z'' GROUP BY k');
CREATE FUNCTION step(r regclass, source regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	c record;
BEGIN
	EXECUTE format('INSERT INTO %s VALUES ((SELECT max(id) + 1 FROM %1$s), 1, 1, ''w'', 7)', source);
	EXECUTE format('UPDATE %s SET x = x + 1', source);
	c := checked(r);
	RETURN concat_ws('; ', c.pending, c.folded, c.answered);
END $$;

-- renames and schemas
ALTER TABLE one.t RENAME TO s;
SELECT step('one.r', 'one.s');
ALTER TABLE one.s RENAME COLUMN v TO amount;
ALTER TABLE one.s RENAME COLUMN k TO "Key, quoted";
SELECT step('one.r', 'one.s');
ALTER TABLE one.s SET SCHEMA two;
SELECT step('one.r', 'two.s');
ALTER VIEW one.r RENAME TO "the Rollup";
SELECT step('one."the Rollup"', 'two.s');
ALTER VIEW one."the Rollup" SET SCHEMA two;
SELECT step('two."the Rollup"', 'two.s');
ALTER VIEW two."the Rollup" RENAME COLUMN s TO total;
SELECT step('two."the Rollup"', 'two.s');
ALTER SCHEMA two RENAME TO three;
SELECT step('three."the Rollup"', 'three.s');
SELECT rollup, source, state FROM scalecache.rollups;
ALTER VIEW three."the Rollup" RENAME TO r;
ALTER VIEW three.r RENAME COLUMN total TO s;
ALTER TABLE three.s RENAME COLUMN amount TO v;
ALTER TABLE three.s RENAME COLUMN "Key, quoted" TO k;
ALTER TABLE three.s RENAME TO t;
ALTER SCHEMA three RENAME TO two;
SET search_path = two, public;
SELECT step('r', 't');

-- What is used stays; so do names that the rollup takes.
SELECT error_of('ALTER TABLE t DROP COLUMN v');
SELECT error_of('ALTER TABLE t DROP COLUMN w');
SELECT error_of('ALTER TABLE t ALTER COLUMN v TYPE float8');
SELECT error_of('ALTER TABLE t ALTER COLUMN k TYPE bigint');
SELECT error_of('DROP TABLE t');
SELECT error_of('DROP SCHEMA two');
SELECT step('r', 't');
-- What is not used is free.
ALTER TABLE t DROP COLUMN x;
ALTER TABLE t ADD COLUMN x int;
SELECT step('r', 't');
ALTER TABLE t ALTER COLUMN x TYPE bigint;
SELECT step('r', 't');
ALTER TABLE t ADD COLUMN y int DEFAULT 3, ADD COLUMN z float8 DEFAULT random();
SELECT step('r', 't');
ALTER TABLE t DROP COLUMN y;
ALTER TABLE t ALTER COLUMN v SET DEFAULT 5, ALTER COLUMN k SET NOT NULL, ADD CHECK (v > -100),
	ALTER COLUMN v SET STATISTICS 10, ALTER COLUMN w SET STORAGE EXTERNAL;
ALTER TABLE t DROP CONSTRAINT t_pkey;
ALTER TABLE t ADD PRIMARY KEY (id);
SELECT step('r', 't');
ALTER TABLE t SET (fillfactor = 50), REPLICA IDENTITY FULL;
ANALYZE t;
VACUUM t;
VACUUM FULL t;
SELECT step('r', 't');
CLUSTER t USING t_k;
SELECT step('r', 't');
REINDEX TABLE t;
REINDEX TABLE CONCURRENTLY t;
SELECT step('r', 't');
DROP INDEX t_k;
CREATE INDEX CONCURRENTLY t_k ON t (k);
-- Unlogged, a crash would empty it unseen: its query answers from then on.
ALTER TABLE t SET UNLOGGED;
ALTER TABLE t SET LOGGED;
SELECT step('r', 't');
SELECT scalecache.rebuild_rollup('r');
SELECT step('r', 't');
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE sc_space LOCATION '';
ALTER TABLE t SET TABLESPACE sc_space;
SELECT step('r', 't');
ALTER TABLE t SET TABLESPACE pg_default;
DROP TABLESPACE sc_space;
SELECT step('r', 't');
-- The storage likewise
VACUUM FULL scalecache_data.r;
CLUSTER scalecache_data.r USING r_k1_idx;
REINDEX SCHEMA scalecache_data;
SELECT step('r', 't');

-- Others' views on the rollup, and its own definition
CREATE VIEW above AS SELECT sum(s) AS s FROM r;
SELECT s = (SELECT sum(v) FROM t) AS same FROM above;
SELECT error_of('DROP VIEW r');
SELECT error_of('SELECT scalecache.drop_rollup(''r'')');
SELECT step('r', 't');
DROP VIEW above;
-- Its triggers and storage
SELECT error_of('DROP TABLE scalecache_data.r');
SELECT error_of('ALTER EXTENSION scalecache DROP TABLE scalecache_data.r') = 'no error' AS by_superuser;
ALTER EXTENSION scalecache ADD TABLE scalecache_data.r;
SELECT step('r', 't');
ALTER TABLE t DISABLE TRIGGER ALL;
INSERT INTO t VALUES (-1, 5, 5, 'w');
SELECT same('r');
ALTER TABLE t ENABLE TRIGGER ALL;
INSERT INTO t VALUES (-2, 5, 5, 'w');
SELECT same('r');
SELECT scalecache.rebuild_rollup('r');
SELECT step('r', 't');

-- CASCADE, and DROP in each other way
SELECT rollups, storage > 0 AS storage, triggers > 0 AS triggers FROM left_over;
BEGIN;
ALTER TABLE t DROP COLUMN v CASCADE;
TABLE left_over;
ROLLBACK;
SELECT step('r', 't');
ALTER TABLE t DROP COLUMN w CASCADE;
TABLE left_over;
ALTER TABLE t ADD COLUMN w text DEFAULT 'w';
SELECT scalecache.create_rollup('r', 'SELECT k, sum(v) AS s, count(*) AS n FROM t GROUP BY k');
DROP TABLE t CASCADE;
TABLE left_over;
CREATE TABLE t (k int, v int, w text);
SELECT scalecache.create_rollup('r', 'SELECT k, sum(v) AS s FROM t GROUP BY k');
SELECT scalecache.create_rollup('public.r', 'SELECT k, sum(v) AS s FROM t GROUP BY k');
DROP VIEW r;
SELECT rollup FROM scalecache.rollups;
SELECT scalecache.drop_rollup('r');
TABLE left_over;
SELECT scalecache.create_rollup('r', 'SELECT k, sum(v) AS s FROM t GROUP BY k');
BEGIN;
INSERT INTO t VALUES (1, 1);
DROP VIEW r;
INSERT INTO t VALUES (1, 1);
COMMIT;
TABLE left_over;
SELECT scalecache.create_rollup('r', 'SELECT k, sum(v) AS s FROM t GROUP BY k');
BEGIN;
INSERT INTO t VALUES (1, 1);
SELECT scalecache.create_rollup('q', 'SELECT w, sum(v) AS s FROM t GROUP BY w');
INSERT INTO t VALUES (2, 2);
SELECT same('r'), same('q');
SAVEPOINT a;
DROP VIEW q;
INSERT INTO t VALUES (3, 3);
ROLLBACK TO a;
SELECT same('r'), same('q');
DROP VIEW q;
COMMIT;
SELECT same('r');
-- A prepared statement outlives what it was planned for.
PREPARE p AS SELECT sum(s) FROM r;
EXECUTE p;
INSERT INTO t VALUES (3, 3);
EXECUTE p;
SELECT scalecache.rebuild_rollup('r');
EXECUTE p;
DROP VIEW r;
SELECT error_of('EXECUTE p') LIKE '42P01%' AS gone;
SELECT scalecache.create_rollup('r', 'SELECT k, sum(v) AS s FROM t GROUP BY k');
EXECUTE p;
TRUNCATE t;
EXECUTE p;
-- The schema of one of them; the extension
CREATE SCHEMA other;
SELECT scalecache.create_rollup('other.r', 'SELECT w, sum(v) AS s FROM t GROUP BY w');
DROP SCHEMA other CASCADE;
SELECT rollup FROM scalecache.rollups;
DROP SCHEMA two CASCADE;
TABLE left_over;
RESET search_path;
-- DROP OWNED
CREATE ROLE sc_owner;
CREATE SCHEMA four AUTHORIZATION sc_owner;
SET ROLE sc_owner;
CREATE TABLE four.t (k int);
SELECT scalecache.create_rollup('four.r', 'SELECT k, count(*) AS c FROM four.t GROUP BY k');
INSERT INTO four.t VALUES (1);
SELECT c FROM four.r;
RESET ROLE;
ALTER TABLE four.t OWNER TO CURRENT_USER;
INSERT INTO four.t VALUES (1);
SELECT error_of('SELECT c FROM four.r');
GRANT SELECT ON four.t TO sc_owner;
SELECT c FROM four.r;
ALTER VIEW four.r OWNER TO CURRENT_USER;
SELECT * FROM checked('four.r');
ALTER VIEW four.r OWNER TO sc_owner;
DROP OWNED BY sc_owner CASCADE;
TABLE left_over;
DROP SCHEMA one;
DROP ROLE sc_owner;
DROP VIEW left_over;
DROP EXTENSION scalecache;
DROP FUNCTION same, answered_from, checked, exact, answered, error_of, step;
