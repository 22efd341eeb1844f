-- min and max keep some of the best values, and where their knowledge ends:
-- what was beyond is never forgotten, whatever becomes of the values kept.
CREATE EXTENSION scalecache;
\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /helper.sql
\set ECHO none
\i :helper
\set ECHO all
CREATE TABLE t (k int, v numeric);
SELECT scalecache.create_rollup('r', 'SELECT k, min(v) AS lo, max(-v) AS hi, count(*) AS n FROM t GROUP BY k');
CREATE VIEW state AS SELECT * FROM checked('r'), (SELECT min(lo) AS lo, max(hi) AS hi FROM r WHERE k = 1) x;

-- More values than are kept; all of those go, when a worse one has come.
INSERT INTO t SELECT 1, g FROM generate_series(1, 40) g;
TABLE state;
DELETE FROM t WHERE v <= 10;
TABLE state;
INSERT INTO t VALUES (1, 50);
TABLE state;
DELETE FROM t WHERE v <= 32;
TABLE state;
DELETE FROM t WHERE v <= 40;
TABLE state;

-- The same in one transaction
TRUNCATE t;
BEGIN;
INSERT INTO t SELECT 1, g FROM generate_series(1, 40) g;
DELETE FROM t WHERE v <= 10;
INSERT INTO t VALUES (1, 50);
DELETE FROM t WHERE v <= 32;
COMMIT;
TABLE state;

-- A change with all that is known of what is there, and a worse one
TRUNCATE t;
INSERT INTO t SELECT 1, g FROM generate_series(1, 40) g;
TABLE state;
DELETE FROM t WHERE v <= 10;
TABLE state;
BEGIN;
INSERT INTO t VALUES (1, 50);
DELETE FROM t WHERE v <= 32;
COMMIT;
TABLE state;

-- A change of as many rows more as less, none of which is kept
TRUNCATE t;
INSERT INTO t SELECT 1, g FROM generate_series(41, 48) g;
TABLE state;
BEGIN;
INSERT INTO t SELECT 1, g FROM generate_series(1, 40) g;
DELETE FROM t WHERE v <= 32 OR v > 40;
COMMIT;
TABLE state;

-- A change whose knowledge ends before that of what is there
TRUNCATE t;
INSERT INTO t SELECT 1, g FROM generate_series(5, 50) g;
TABLE state;
BEGIN;
INSERT INTO t SELECT 1, g / 10.0 FROM generate_series(1, 40) g;
DELETE FROM t WHERE v <= 3.2;
COMMIT;
TABLE state;

-- A change with what is beyond that of what is there
INSERT INTO t VALUES (1, 60), (1, 70);
DELETE FROM t WHERE v < 50;
TABLE state;
DELETE FROM t WHERE v < 60;
TABLE state;

DROP EXTENSION scalecache CASCADE;
DROP TABLE t;
DROP FUNCTION same, answered_from, checked, exact, answered, error_of;
