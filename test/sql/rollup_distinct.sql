-- DISTINCT aggregates are kept: the storage answers, whatever is pending.
CREATE EXTENSION scalecache;
\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /helper.sql
\set ECHO none
\i :helper
\set ECHO all
ALTER SYSTEM SET scalecache.worker = off;
SELECT pg_reload_conf();
SET client_min_messages = warning;
-- answered without the source
CREATE FUNCTION kept(r regclass) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	a record := answered(format('TABLE %s', r));
BEGIN
	IF a.who <> 'rollup' OR a.recomputed <> 0 THEN
		RAISE WARNING '% is answered by the %, % recomputed', r, a.who, a.recomputed;
	END IF;
	RETURN exact(r);
END $$;
-- rows in the tables of distinct values
CREATE FUNCTION stored(r regclass) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
	EXECUTE (SELECT format('SELECT count(*) FROM %s', distincts::regclass) FROM scalecache.rollup WHERE rollup = r) INTO n;
	RETURN n;
END $$;

CREATE TABLE t (id serial PRIMARY KEY, k int, i int, b bigint, n numeric, f float8, s text, m money, iv interval, d date, bo boolean);
INSERT INTO t (k, i, b, n, f, s, m, iv, d, bo)
SELECT g % 4, g % 7, g % 200, g % 90 / 10.0, g % 150 / 8.0, 's' || g % 300, g % 33, g % 21 * interval '1 day', '2024-01-01'::date + g % 500, g % 2 = 0
FROM generate_series(1, 4000) g;
SELECT scalecache.create_rollup('d', $$
	SELECT k, count(*) AS rows, count(DISTINCT i) AS i, count(DISTINCT s) AS s, count(DISTINCT d) AS d, count(DISTINCT m) AS m,
		count(DISTINCT bo) AS bo, sum(DISTINCT b) AS sb, avg(DISTINCT b) AS ab, sum(DISTINCT n) AS sn, avg(DISTINCT n) AS an,
		sum(DISTINCT f) AS sf, sum(DISTINCT m) AS sm, sum(DISTINCT iv) AS siv, variance(DISTINCT i) AS vi, bit_xor(DISTINCT i) AS x,
		bit_or(DISTINCT i) AS o, max(DISTINCT s) AS max, bool_and(DISTINCT bo) AS ba,
		count(DISTINCT s) FILTER (WHERE i > 3) AS filtered, count(DISTINCT lower(s) || i::text) AS expr, sum(DISTINCT b) + count(DISTINCT i) AS both,
		count(DISTINCT s ORDER BY s) AS ordered
	FROM t GROUP BY k $$);
SELECT scalecache.create_rollup('total', 'SELECT count(DISTINCT s) AS s, sum(DISTINCT b) AS b, avg(DISTINCT n) AS n FROM t WHERE i < 6');
SELECT scalecache.create_rollup('fine', 'SELECT k, d, count(DISTINCT s) AS s FROM t GROUP BY 1, 2 HAVING count(DISTINCT s) > 0');
SELECT kept('d'), kept('total'), kept('fine');
SELECT stored('d') > 1000 AS large, stored('total') > 300 AS large, stored('fine') AS small;

-- values that are there, that are new, that go, that come again
INSERT INTO t (k, i, b, n, f, s, m, iv, d, bo) VALUES (1, 1, 1, 0.1, 1, 's1', 1, '1 day', '2024-01-01', true),
	(1, 100, 1000, 100, 100, 'new', 1000, '1 year', '2030-01-01', NULL), (1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	(NULL, 5, 5, 5, 5, 'five', 5, '5 days', '2024-05-05', false), (77, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT kept('d'), kept('total'), kept('fine');
DELETE FROM t WHERE s IN ('s1', 's2', 's3');
SELECT kept('d'), kept('total'), kept('fine');
SELECT scalecache.fold_rollup('d') > 0, scalecache.fold_rollup('total') > 0, scalecache.fold_rollup('fine') > 0;
SELECT kept('d'), kept('total'), kept('fine');
INSERT INTO t (k, i, b, n, f, s, m, iv, d, bo) SELECT 2, 3, 3, 3, 3, 's' || g, 3, '3 days', '2024-01-03', true FROM generate_series(1, 3) g;
UPDATE t SET s = upper(s), b = b + 1 WHERE id % 10 = 0;
SELECT kept('d'), kept('total'), kept('fine');
-- one value moves from group to group
UPDATE t SET k = k + 1 WHERE s = 's7';
SELECT kept('d'), kept('total'), kept('fine');
BEGIN;
DELETE FROM t WHERE k = 3;
SELECT kept('d'), kept('total'), kept('fine');
SAVEPOINT a;
INSERT INTO t (k, s, b) SELECT 3, 'x' || g % 10, g FROM generate_series(1, 100) g;
SELECT kept('d'), kept('total'), kept('fine');
ROLLBACK TO a;
SELECT kept('d'), kept('total'), kept('fine');
SELECT scalecache.fold_rollup('d') > 0, scalecache.fold_rollup('total') > 0;
SELECT kept('d'), kept('total'), kept('fine');
COMMIT;
SELECT scalecache.fold_rollup('d') > 0, scalecache.fold_rollup('total') > 0, scalecache.fold_rollup('fine') > 0;
SELECT kept('d'), kept('total'), kept('fine');

-- from few values to many and back to none
CREATE TABLE g (k int, v text);
SELECT scalecache.create_rollup('grow', 'SELECT k, count(DISTINCT v) AS n FROM g GROUP BY k');
INSERT INTO g SELECT g % 2, 'v' || g FROM generate_series(1, 60) g;
SELECT scalecache.fold_rollup('grow'), stored('grow');
SELECT kept('grow');
INSERT INTO g SELECT 0, 'v' || g FROM generate_series(1, 60) g;
INSERT INTO g VALUES (1, repeat('long', 500));
SELECT scalecache.fold_rollup('grow'), stored('grow');
SELECT kept('grow');
DELETE FROM g WHERE v LIKE 'v%5';
DELETE FROM g WHERE v LIKE 'long%';
SELECT kept('grow');
SELECT scalecache.fold_rollup('grow'), stored('grow');
SELECT kept('grow');
DELETE FROM g WHERE k = 0;
SELECT kept('grow');
SELECT scalecache.fold_rollup('grow'), stored('grow');
SELECT kept('grow');
UPDATE g SET v = NULL;
SELECT scalecache.fold_rollup('grow'), stored('grow');
SELECT * FROM grow;
INSERT INTO g SELECT 5, 'w' || g FROM generate_series(1, 100) g;
SELECT scalecache.fold_rollup('grow'), stored('grow');
SELECT kept('grow');

-- TRUNCATE, rolled back and not; rebuild; drop
BEGIN; TRUNCATE g; SELECT * FROM grow; ROLLBACK;
SELECT kept('grow'), stored('grow');
TRUNCATE g;
SELECT stored('grow');
INSERT INTO g SELECT 6, 'w' || g % 70 FROM generate_series(1, 100) g;
SELECT kept('grow');
SELECT scalecache.rebuild_rollup('grow');
SELECT kept('grow'), stored('grow');
SELECT distincts::regclass AS distincts FROM scalecache.rollup WHERE rollup = 'grow'::regclass \gset
SET session_replication_role = replica;
DELETE FROM :distincts;
RESET session_replication_role;
DROP VIEW grow;
SELECT to_regclass(:'distincts');

-- a fill that does not fit into memory
SET scalecache.rollup_buffer = '64kB';
INSERT INTO g SELECT g % 3, 'many' || g % 20000 FROM generate_series(1, 60000) g;
SELECT scalecache.create_rollup('filled', 'SELECT k, count(DISTINCT v) AS n FROM g GROUP BY k');
SELECT kept('filled'), stored('filled');
DELETE FROM g WHERE v LIKE '%7';
SELECT kept('filled');
SELECT scalecache.fold_rollup('filled') > 0, stored('filled');
SELECT kept('filled');
RESET scalecache.rollup_buffer;

-- equality is the type's
CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN positive AS numeric CHECK (value > 0);
CREATE TYPE pair AS (a int, b text);
CREATE TABLE e (id serial, s text COLLATE nocase, n numeric, f float8, iv interval, j jsonb, a numeric[], m mood, p positive, c char(8), pr pair, r numrange, v varbit);
INSERT INTO e (s, n, f, iv, j, a, m, p, c, pr, r, v) VALUES
	('abc', 1.0, 0.0, '1 month', '{"a": 1.0}', '{1.0}', 'ok', 1, 'x', (1, 'x'), '[1,2]', '101'),
	('ABC', 1.00, '-0', '30 days', '{"a": 1.00}', '{1.00}', 'ok', 1.0, 'x ', (1, 'x'), '[1.0,2.0]', '101'),
	('abd', 2, 'NaN', '1 day', '[]', '{}', 'sad', 2, 'y', (1, NULL), 'empty', '1'),
	('abd', 'NaN', 'NaN', '24 hours', '[]', '{NULL}', 'happy', 3, 'z', NULL, '(,)', '01');
SELECT scalecache.create_rollup('eq', $$
	SELECT count(DISTINCT s) AS s, count(DISTINCT n) AS n, count(DISTINCT f) AS f, count(DISTINCT iv) AS iv, count(DISTINCT j) AS j,
		count(DISTINCT a) AS a, count(DISTINCT m) AS m, count(DISTINCT p) AS p, count(DISTINCT c) AS c, count(DISTINCT pr) AS pr,
		count(DISTINCT r) AS r, count(DISTINCT v) AS v, count(DISTINCT s COLLATE "C") AS sc, sum(DISTINCT f) AS sf, avg(DISTINCT n) AS an FROM e $$);
SELECT scalecache.create_rollup('eqs', 'SELECT sum(DISTINCT n) AS n, sum(DISTINCT iv) AS iv FROM e WHERE id <> 4');
TABLE eq;
SELECT kept('eq');
-- what is taken out is the other one of two equal values
DELETE FROM e WHERE id = 1;
SELECT kept('eq'), kept('eqs');
TABLE eqs;
SELECT scalecache.fold_rollup('eq'), scalecache.fold_rollup('eqs');
INSERT INTO e (s, n, f, iv) VALUES ('AbC', 1.0, 0, '1 month');
DELETE FROM e WHERE id = 2;
SELECT kept('eq'), kept('eqs');
TABLE eqs;
SELECT scalecache.fold_rollup('eq'), scalecache.fold_rollup('eqs');
SELECT kept('eq'), kept('eqs');
INSERT INTO e (n, f) VALUES (1e20, 1e20), (1, 1), ('Infinity', 'Infinity'), ('-Infinity', NULL);
SELECT trim_scale(an) AS an, sf FROM eq;
DELETE FROM e WHERE n IN ('Infinity', '-Infinity', 'NaN') OR f = 'NaN';
SELECT trim_scale(an) AS an, sf FROM eq;
DELETE FROM e WHERE n = 1e20;
SELECT trim_scale(an) AS an, sf FROM eq;
SELECT kept('eq');

-- equal values that look different leave in any order, few of them and many
CREATE TABLE look (k int, n numeric, iv interval);
SELECT scalecache.create_rollup('looks', 'SELECT k, sum(DISTINCT n) AS n, sum(DISTINCT iv) AS iv, count(DISTINCT n) AS c FROM look GROUP BY k');
INSERT INTO look SELECT k, v.n, v.iv FROM generate_series(1, 12) k,
	(VALUES (7.0, interval '1 month'), (7.00, '30 days'), (7.000, '720 hours')) v (n, iv);
INSERT INTO look SELECT k, g, g * interval '1 hour' FROM generate_series(7, 12) k, generate_series(100, 200) g;
SELECT scalecache.fold_rollup('looks') > 0;
DELETE FROM look WHERE scale(n) = (ARRAY[1, 1, 2, 2, 3, 3])[k % 6 + 1];
SELECT scalecache.fold_rollup('looks') > 0;
DELETE FROM look WHERE scale(n) = (ARRAY[2, 3, 1, 3, 1, 2])[k % 6 + 1];
SELECT kept('looks');
SELECT scalecache.fold_rollup('looks') > 0;
SELECT kept('looks');
DELETE FROM look WHERE scale(n) > 0;
SELECT kept('looks');
SELECT scalecache.fold_rollup('looks') > 0;
SELECT kept('looks'), stored('looks');

-- values with one hash: the upper half of a bigint is mixed into the lower
CREATE TABLE c (k int, b bigint);
SELECT scalecache.create_rollup('collide', 'SELECT k, count(DISTINCT b) AS n, sum(DISTINCT b) AS s FROM c GROUP BY k');
INSERT INTO c SELECT g % 2, (g % 190::bigint << 32) | (g % 190 # 5) FROM generate_series(1, 400) g;
SELECT count(DISTINCT hashint8(b)) FROM c;
SELECT kept('collide');
SELECT scalecache.fold_rollup('collide');
INSERT INTO c VALUES (0, 5), (0, 6), (1, (191::bigint << 32) | (191 # 5)), (1, 5);
DELETE FROM c WHERE b BETWEEN 20::bigint << 32 AND 60::bigint << 32;
SELECT kept('collide');
SELECT scalecache.fold_rollup('collide'), stored('collide');
SELECT kept('collide');

-- what cannot be found again by a hash is recomputed
CREATE TABLE u (k int, a int, b text, v tsvector);
SELECT scalecache.create_rollup('unkept', 'SELECT k, count(DISTINCT (a, b)) AS ab, count(DISTINCT v) AS v, regr_count(DISTINCT a, k) AS r FROM u GROUP BY k');
INSERT INTO u VALUES (1, 1, 'x', 'a b'), (1, 1, 'x', 'b a'), (1, 2, 'x', 'c'), (2, 1, 'x', NULL);
SELECT * FROM answered('TABLE unkept');
SELECT * FROM unkept ORDER BY k;

-- changes of one image of a value that cancel out, beside one of another image
CREATE TABLE images (n numeric);
INSERT INTO images SELECT generate_series(1, 100);
SELECT scalecache.create_rollup('imaged', 'SELECT count(DISTINCT n) AS c, sum(DISTINCT n) AS s FROM images');
INSERT INTO images VALUES (66), (66.00);
DELETE FROM images WHERE ctid IN (SELECT max(ctid) FROM images WHERE n::text = '66');
SELECT c, trim_scale(s) AS s FROM imaged;
SELECT scalecache.fold_rollup('imaged') > 0, scalecache.verify_rollup('imaged');
DROP TABLE images CASCADE;

-- damage is found, said, and repaired
SELECT distincts::regclass AS distincts, base::regclass AS base FROM scalecache.rollup WHERE rollup = 'filled'::regclass \gset
SET session_replication_role = replica;
UPDATE :distincts SET rows = rows + 1 WHERE ctid = (SELECT min(ctid) FROM :distincts);
RESET session_replication_role;
SELECT scalecache.verify_rollup('filled');
SET session_replication_role = replica;
DELETE FROM :distincts;
RESET session_replication_role;
SELECT scalecache.verify_rollup('filled');
DELETE FROM g WHERE k = 1 AND v < 'many2';
SET client_min_messages = error;
SELECT sum(n) FROM filled;
SELECT scalecache.rebuild_rollup('filled');
SELECT kept('filled');

-- A function whose equal results look different when the row leaves
CREATE FUNCTION shown(int) RETURNS numeric IMMUTABLE LANGUAGE plpgsql AS
	$$ BEGIN RETURN CASE current_setting('my.scale', true) WHEN '2' THEN $1 + 0.00 ELSE $1 + 0.0 END; END $$;
CREATE TABLE shows (k int, v int);
SELECT scalecache.create_rollup('shown_few', 'SELECT count(DISTINCT shown(v)) AS c, sum(DISTINCT shown(v)) AS s FROM shows');
SELECT scalecache.create_rollup('shown_many', 'SELECT k, count(DISTINCT shown(v)) AS c FROM shows GROUP BY k');
INSERT INTO shows SELECT 1, g FROM generate_series(1, 10) g;
INSERT INTO shows SELECT 2, g FROM generate_series(1, 200) g;
SELECT scalecache.fold_rollup('shown_few') > 0, scalecache.fold_rollup('shown_many') > 0;
SET my.scale = '2';
DELETE FROM shows WHERE v % 2 = 0;
INSERT INTO shows VALUES (1, 4), (2, 4);
RESET my.scale;
TABLE shown_few;
SELECT * FROM shown_many ORDER BY k;
SELECT scalecache.fold_rollup('shown_few') > 0, scalecache.fold_rollup('shown_many') > 0;
TABLE shown_few;
SELECT * FROM shown_many ORDER BY k;

-- Sets of groups that become large one after the other keep apart.
INSERT INTO shows SELECT k, g FROM generate_series(3, 5) k, generate_series(1, 100) g;
SELECT scalecache.fold_rollup('shown_many') > 0;
INSERT INTO shows SELECT k, g FROM generate_series(6, 7) k, generate_series(50, 200) g;
SELECT scalecache.fold_rollup('shown_many') > 0;
DELETE FROM shows WHERE k = 6 AND v > 60 OR k = 3 AND v > 10;
SELECT k, c FROM shown_many ORDER BY k;
SELECT scalecache.fold_rollup('shown_many') > 0;
SELECT k, c FROM shown_many ORDER BY k;

DROP EXTENSION scalecache;
SELECT count(*) FROM pg_class WHERE relname ~ 'distinct';
DROP TABLE t, g, e, u, c, look, shows;
DROP FUNCTION shown;
DROP FUNCTION same, answered_from, checked, exact, answered, error_of, kept, stored;
DROP TYPE mood, pair;
DROP DOMAIN positive;
DROP COLLATION nocase;
