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
INSERT INTO t SELECT i, ROW(i % 2, i % 3)::pair, ARRAY[ROW(i % 2, i % 3)::pair] FROM generate_series(1, 20) i;
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
ALTER ROUTINE slow_bucket(int) CALLED ON NULL INPUT;
SELECT * FROM kept('by_slow');
-- One that is not immutable any more: the source answers until it is again.
ALTER FUNCTION slow_bucket(int) VOLATILE;
SELECT error_of('SELECT scalecache.rebuild_rollup(''by_slow'')');
INSERT INTO t (v) VALUES (7);
SELECT same('by_slow'), answered_from('by_slow');
SELECT state FROM scalecache.rollups WHERE rollup = 'by_slow'::regclass;
ALTER FUNCTION slow_bucket(int) IMMUTABLE;
SELECT * FROM kept('by_slow');
ALTER FUNCTION add(int, int) STABLE;
SELECT error_of('SELECT scalecache.rebuild_rollup(''totals'')');
SELECT same('totals'), answered_from('totals');
ALTER FUNCTION add(int, int) IMMUTABLE;
SELECT * FROM kept('totals');
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
-- A table's row type is one, and loses what it has in whatever way.
CREATE TYPE part AS (x int);
CREATE TABLE kind (a int, b int, c part);
CREATE TABLE u (kd kind);
INSERT INTO u SELECT ROW(i % 2, i % 3, ROW(i % 5))::kind FROM generate_series(1, 30) i;
SELECT scalecache.create_rollup('by_kind', 'SELECT kd AS k, count(*) AS n FROM u GROUP BY 1');
ALTER TABLE kind DROP COLUMN a;
SELECT state FROM scalecache.rollups WHERE rollup = 'by_kind'::regclass;
SELECT same('by_kind');
SELECT scalecache.rebuild_rollup('by_kind');
DROP TYPE part CASCADE;
SELECT state FROM scalecache.rollups WHERE rollup = 'by_kind'::regclass;
SELECT same('by_kind');
SELECT scalecache.rebuild_rollup('by_kind');
INSERT INTO u VALUES (ROW(1));
SELECT same('by_kind'), answered_from('by_kind');
-- JSON has names of attributes and of an enum's values in it; keys have not.
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TABLE j (k int, m mood, kd kind);
INSERT INTO j VALUES (1, 'sad', ROW(1)), (2, 'glad', ROW(2));
SELECT scalecache.create_rollup('json_moods', 'SELECT k, json_agg(m) AS l FROM j GROUP BY 1');
SELECT scalecache.create_rollup('json_kinds', 'SELECT k, jsonb_agg(kd) AS l FROM j GROUP BY 1');
SELECT scalecache.create_rollup('moods', 'SELECT m, kd, count(*) AS n FROM j GROUP BY 1, 2');
CREATE FUNCTION made_anew() RETURNS TABLE (r regclass, was text, shows text) LANGUAGE plpgsql AS $$
BEGIN
	FOR r, was IN SELECT rollup, state FROM scalecache.rollups WHERE source = 'j'::regclass ORDER BY rollup::text LOOP
		shows := same(r);
		PERFORM scalecache.rebuild_rollup(r);
		RETURN NEXT;
	END LOOP;
END $$;
ALTER TYPE mood RENAME VALUE 'sad' TO 'blue';
SELECT * FROM made_anew();
ALTER TABLE kind RENAME COLUMN b TO d;
SELECT * FROM made_anew();
ALTER TABLE kind ADD COLUMN e int;
SELECT * FROM made_anew();
ALTER TYPE mood ADD VALUE 'angry';
ALTER TABLE j RENAME COLUMN m TO n;
SELECT * FROM made_anew();
-- How texts are parsed
CREATE TEXT SEARCH DICTIONARY plain (TEMPLATE = simple);
CREATE TEXT SEARCH CONFIGURATION words (PARSER = "default");
ALTER TEXT SEARCH CONFIGURATION words ADD MAPPING FOR asciiword, word WITH plain;
SELECT scalecache.create_rollup('by_words',
	$$SELECT to_tsvector('words', (ARRAY['one', 'two', '3'])[v % 3 + 1]) AS k, count(*) AS n FROM t GROUP BY 1$$);
SELECT * FROM by_words ORDER BY k;
ALTER TEXT SEARCH CONFIGURATION words ADD MAPPING FOR uint WITH plain;
SELECT * FROM kept('by_words');
ALTER TEXT SEARCH DICTIONARY plain (ACCEPT = false);
SELECT * FROM kept('by_words');
SELECT * FROM by_words ORDER BY k;
-- A domain whose new constraint the table fulfils: not so what is left in the storage
CREATE DOMAIN small AS int;
CREATE TABLE d (k small, v int);
CREATE TABLE names (k small PRIMARY KEY, name text);
INSERT INTO d VALUES (1, 1), (2, 2), (1000, 3), (NULL, 4);
INSERT INTO names VALUES (1, 'one'), (2, 'two'), (1000, 'thousand');
SELECT scalecache.create_rollup('by_small', 'SELECT k, count(*) AS n, max(k) AS hi, count(DISTINCT k) AS d FROM d GROUP BY k');
SELECT scalecache.create_rollup('by_name', 'SELECT names.name, count(*) AS n FROM d JOIN names ON d.k = names.k GROUP BY names.name');
INSERT INTO d VALUES (2000, 5);
DELETE FROM d WHERE k > 100;
DELETE FROM names WHERE k > 100;
SELECT scalecache.fold_rollup('by_small') > 0;
INSERT INTO d VALUES (3000, 6);
DELETE FROM d WHERE k > 100;
ALTER DOMAIN small ADD CONSTRAINT few CHECK (VALUE < 100);
SELECT rollup, state FROM scalecache.rollups WHERE rollup::text IN ('by_small', 'by_name') ORDER BY rollup::text;
SELECT same('by_small'), same('by_name');
SELECT scalecache.rebuild_rollup('by_small'), scalecache.rebuild_rollup('by_name');
SELECT same('by_small'), answered_from('by_small'), same('by_name'), answered_from('by_name');
DELETE FROM d WHERE k IS NULL;
ALTER DOMAIN small SET NOT NULL;
SELECT scalecache.rebuild_rollup('by_small');
INSERT INTO d VALUES (3, 1);
SELECT same('by_small'), answered_from('by_small');
-- one that it does not
SELECT error_of('ALTER DOMAIN small ADD CHECK (VALUE < 3)');
ALTER DOMAIN small DROP CONSTRAINT few;
SELECT same('by_small'), answered_from('by_small');
DROP TABLE d, names CASCADE;
DROP DOMAIN small;
-- Taken back
SELECT scalecache.rebuild_rollup('by_bucket');
BEGIN;
CREATE OR REPLACE FUNCTION bucket3(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 % 7';
SELECT same('by_bucket'), answered_from('by_bucket');
ROLLBACK;
SELECT same('by_bucket'), answered_from('by_bucket');

DROP TABLE t, u, j CASCADE;
DROP TABLE kind;
DROP FUNCTION made_anew, kept, same, answered_from, checked, exact, answered, error_of, bucket3, slow_bucket, unused;
DROP AGGREGATE total(int);
DROP OPERATOR ~~~ (int, int);
DROP FUNCTION add, near;
DROP TYPE pair, mood;
DROP TYPE pair;
DROP TEXT SEARCH CONFIGURATION words;
DROP TEXT SEARCH DICTIONARY plain;
DROP EXTENSION scalecache;
