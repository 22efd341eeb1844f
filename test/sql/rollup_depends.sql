-- Functions and types that a rollup's query uses become other ones.
CREATE EXTENSION scalecache;
\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /helper.sql
\set ECHO none
\i :helper
\set ECHO all
-- Before and after a rebuild, and with what is written after it
CREATE FUNCTION kept(r regclass, OUT was text, OUT before text, OUT after text, OUT written text) LANGUAGE plpgsql AS $$
BEGIN
	SELECT state INTO was FROM scalecache.rollups WHERE rollup = r;
	before := same(r);
	PERFORM scalecache.rebuild_rollup(r);
	after := same(r) || ', from ' || answered_from(r);
	INSERT INTO t (v, p, ps) VALUES (7, ROW(1, 1), ARRAY[ROW(2, 2)::pair]);
	written := same(r) || ', from ' || answered_from(r);
END $$;

CREATE TYPE pair AS (a int, b int);
CREATE FUNCTION bucket(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 % 3';
CREATE FUNCTION slow_bucket(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1 % 3; END';
CREATE FUNCTION add(int, int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + $2';
CREATE AGGREGATE total(int) (SFUNC = add, STYPE = int, INITCOND = '0');
CREATE FUNCTION near(int, int) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT abs($1 - $2) < 5';
CREATE OPERATOR ~~~ (FUNCTION = near, LEFTARG = int, RIGHTARG = int);
CREATE TABLE t (v int, p pair, ps pair[]);
INSERT INTO t SELECT i, ROW(i % 2, i % 3), ARRAY[ROW(i % 2, i % 3)::pair] FROM generate_series(1, 20) i;
SELECT scalecache.create_rollup('by_bucket', 'SELECT bucket(v) AS k, count(*) AS n FROM t GROUP BY 1');
SELECT scalecache.create_rollup('by_slow', 'SELECT slow_bucket(v) AS k, count(*) AS n FROM t GROUP BY 1');
SELECT scalecache.create_rollup('totals', 'SELECT v % 2 AS k, total(v) AS s FROM t GROUP BY 1');
SELECT scalecache.create_rollup('nears', 'SELECT v ~~~ 10 AS k, count(*) AS n FROM t GROUP BY 1');
SELECT scalecache.create_rollup('by_pair', 'SELECT p AS k, count(*) AS n FROM t GROUP BY 1');
SELECT scalecache.create_rollup('by_pairs', 'SELECT ps AS k, count(*) AS n FROM t GROUP BY 1');

-- What changes nothing
ALTER FUNCTION bucket(int) RENAME TO bucket3;
CREATE OR REPLACE FUNCTION unused(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
ALTER TYPE pair RENAME ATTRIBUTE a TO first CASCADE;
SELECT rollup, state FROM scalecache.rollups ORDER BY rollup::text;

-- A function, inlined by the planner or not
CREATE OR REPLACE FUNCTION bucket3(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 % 4';
CREATE OR REPLACE FUNCTION slow_bucket(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1 % 5; END';
SELECT rollup, state FROM scalecache.rollups ORDER BY rollup::text;
SELECT * FROM kept('by_bucket');
SELECT * FROM kept('by_slow');
ALTER FUNCTION slow_bucket(int) STRICT;
SELECT * FROM kept('by_slow');
-- through an aggregate, and through an operator
CREATE OR REPLACE FUNCTION add(int, int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + 2 * $2';
SELECT * FROM kept('totals');
CREATE OR REPLACE FUNCTION near(int, int) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT abs($1 - $2) < 3';
SELECT * FROM kept('nears');
-- A composite type, itself or in an array
ALTER TYPE pair DROP ATTRIBUTE first CASCADE;
ALTER TYPE pair ADD ATTRIBUTE c int CASCADE;
SELECT * FROM kept('by_pair');
SELECT * FROM kept('by_pairs');
-- Taken back
SELECT scalecache.rebuild_rollup('by_bucket');
BEGIN;
CREATE OR REPLACE FUNCTION bucket3(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 % 7';
SELECT same('by_bucket'), answered_from('by_bucket');
ROLLBACK;
SELECT same('by_bucket'), answered_from('by_bucket');

DROP TABLE t CASCADE;
DROP FUNCTION kept, same, answered_from, checked, exact, answered, error_of, bucket3, slow_bucket, unused;
DROP AGGREGATE total(int);
DROP OPERATOR ~~~ (int, int);
DROP FUNCTION add, near;
DROP TYPE pair;
DROP EXTENSION scalecache;
