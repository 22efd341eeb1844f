-- GROUP BY takes the equality operator that an ORDER BY of the same expression names.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /rewrite_helper.sql
\set ECHO none
\i :helper
\set ECHO all

CREATE TABLE counted (k int, v int);
INSERT INTO counted SELECT i % 5 - 2, i FROM generate_series(1, 1000) i;
ANALYZE counted;
SELECT scalecache.create_rollup('by_k', 'SELECT k, sum(v) AS s, count(*) AS n FROM counted GROUP BY k');

-- Numbers of one size are equal here.
CREATE FUNCTION size_less(int, int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT abs($1) < abs($2)';
CREATE FUNCTION size_equal(int, int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT abs($1) = abs($2)';
CREATE FUNCTION size_more(int, int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT abs($1) > abs($2)';
CREATE FUNCTION size_compare(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT abs($1) - abs($2)';
CREATE OPERATOR |<| (FUNCTION = size_less, LEFTARG = int, RIGHTARG = int, COMMUTATOR = |>|);
CREATE OPERATOR |=| (FUNCTION = size_equal, LEFTARG = int, RIGHTARG = int, COMMUTATOR = |=|, MERGES);
CREATE OPERATOR |>| (FUNCTION = size_more, LEFTARG = int, RIGHTARG = int, COMMUTATOR = |<|);
CREATE OPERATOR CLASS size_ops FOR TYPE int USING btree AS
	OPERATOR 1 |<|, OPERATOR 3 |=|, OPERATOR 5 |>|, FUNCTION 1 size_compare(int, int);

SELECT try($$SELECT sum(v), count(*) FROM counted GROUP BY k ORDER BY k$$);
SELECT try($$SELECT sum(v), count(*) FROM counted GROUP BY k ORDER BY k USING >$$);
SELECT try($$SELECT sum(v), count(*) FROM counted GROUP BY k ORDER BY k USING |<|$$);
SELECT sum(v), count(*) FROM counted GROUP BY k ORDER BY k USING |<|;
SET scalecache.enable_rewrite = on;
SELECT reason FROM scalecache.explain_rewrite($$SELECT sum(v), count(*) FROM counted GROUP BY k ORDER BY k USING |<|$$);
-- Orders are another matter
SELECT try($$SELECT k, s FROM (SELECT k, sum(v) AS s FROM counted GROUP BY k) x ORDER BY k USING |<|$$);

DROP TABLE counted CASCADE;
DROP OPERATOR FAMILY size_ops USING btree;
DROP OPERATOR |<| (int, int);
DROP OPERATOR |=| (int, int);
DROP OPERATOR |>| (int, int);
DROP FUNCTION size_less, size_equal, size_more, size_compare;
DROP FUNCTION answer, rows_of, try;
DROP EXTENSION scalecache;
