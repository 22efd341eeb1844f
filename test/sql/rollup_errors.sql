-- Each refusal has its SQLSTATE, says why and what to do, and leaves nothing
-- behind.
CREATE EXTENSION scalecache;
\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /helper.sql
\set ECHO none
\i :helper
\set ECHO all
\pset format unaligned
\pset tuples_only on
CREATE TABLE t (a int, v int, ts timestamptz, tz timetz, j json, p point, note text, "A b" int);
CREATE TABLE u (a int);
CREATE VIEW v AS SELECT * FROM t LIMIT 1;
CREATE MATERIALIZED VIEW mv AS SELECT * FROM t;
CREATE SEQUENCE seq;
CREATE TEMP TABLE tmp (a int);
CREATE UNLOGGED TABLE unl (a int);
CREATE FOREIGN DATA WRAPPER sc_nothing;
CREATE SERVER sc_nowhere FOREIGN DATA WRAPPER sc_nothing;
CREATE FOREIGN TABLE far (a int) SERVER sc_nowhere;
CREATE FUNCTION stable_one(int) RETURNS int STABLE LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION "Volatile one"(int) RETURNS int VOLATILE LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION rows_of(int) RETURNS SETOF t STABLE LANGUAGE sql AS 'SELECT * FROM t';
CREATE OPERATOR ### (FUNCTION = stable_one, RIGHTARG = int);
CREATE FUNCTION refused(query text, name text DEFAULT 'r') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN E'\n' || query || E'\n' || error_of(format('SELECT scalecache.create_rollup(%L, %L)', name, query));
END $$;

-- what a query is not
SELECT refused('');
SELECT refused(';');
SELECT refused('-- nothing');
SELECT refused('SELECT');
SELECT refused('SELECT 1 AS one');
SELECT refused('SELECT count(*) AS c');
SELECT refused('VALUES (1)');
SELECT refused('TABLE t');
SELECT refused('SELECT * FROM t');
SELECT refused('SELECT count(*) AS c FROM t; SELECT 1');
SELECT refused('SELECT count(*) AS c FROM t; DROP TABLE t');
SELECT refused('DELETE FROM t');
SELECT refused('INSERT INTO t SELECT * FROM t RETURNING *');
SELECT refused('DROP TABLE t');
SELECT refused('EXPLAIN SELECT count(*) AS c FROM t');
SELECT refused('SELECT count(*) AS c INTO x FROM t');
SELECT refused('SELECT a FROM');
SELECT refused('SELECT nothing, count(*) AS c FROM t GROUP BY 1');
SELECT refused('SELECT a, count(*) AS c FROM nothing GROUP BY a');
SELECT refused('SELECT a, v, count(*) AS c FROM t GROUP BY a');
-- The place of an error is in the rollup's query.
SELECT scalecache.create_rollup('r', 'SELECT a, count(*) AS c FROM t GROUP BYE a');
SELECT scalecache.create_rollup('r', 'SELECT a, count(*) AS c FROM nothing GROUP BY a');
-- clauses
SELECT refused('SELECT a, count(*) AS c FROM t WHERE v = $1 GROUP BY a');
SELECT refused('SELECT a, count(*) AS c FROM t GROUP BY a ORDER BY a');
SELECT refused('SELECT a, count(*) AS c FROM t GROUP BY a LIMIT 1');
SELECT refused('SELECT a, count(*) AS c FROM t GROUP BY a OFFSET 1');
SELECT refused('SELECT a, count(*) AS c FROM t GROUP BY a FETCH FIRST ROW ONLY');
SELECT refused('SELECT a, sum(count(*)) OVER () AS c FROM t GROUP BY a');
SELECT refused('SELECT a, generate_series(1, 2) AS g, count(*) AS c FROM t GROUP BY a');
SELECT refused('SELECT a, count(*) AS c FROM t GROUP BY ROLLUP (a)');
SELECT refused('SELECT a, count(*) AS c FROM t GROUP BY CUBE (a, v)');
SELECT refused('SELECT a, count(*) AS c FROM t GROUP BY GROUPING SETS (a, ())');
SELECT refused('SELECT a, grouping(a) AS g FROM t GROUP BY a');
SELECT refused('SELECT DISTINCT a FROM t');
SELECT refused('SELECT DISTINCT ON (a) a, count(*) AS c FROM t GROUP BY a');
SELECT refused('SELECT a, count(*) AS c FROM t GROUP BY a FOR UPDATE');
SELECT refused('SELECT a FROM t FOR UPDATE');
SELECT refused('SELECT a, count(*) AS c FROM t GROUP BY a UNION SELECT a, 1 FROM u');
SELECT refused('WITH x AS (SELECT * FROM t) SELECT a, count(*) AS c FROM x GROUP BY a');
SELECT refused('WITH x AS (DELETE FROM t RETURNING a) SELECT a, count(*) AS c FROM x GROUP BY a');
SELECT refused('SELECT a, count(*) AS c FROM t TABLESAMPLE system (10) GROUP BY a');
-- joins and subqueries
SELECT refused('SELECT t.a, count(*) AS c FROM t, LATERAL (SELECT t.a) x GROUP BY t.a');
SELECT refused('SELECT a, count(*) AS c FROM (SELECT a FROM t) x GROUP BY a');
SELECT refused('SELECT a, count(*) AS c FROM t WHERE a IN (SELECT a FROM u) GROUP BY a');
SELECT refused('SELECT a, (SELECT max(a) FROM u) AS m, count(*) AS c FROM t GROUP BY a');
SELECT refused('SELECT a, count(*) AS c FROM t GROUP BY a HAVING count(*) > (SELECT max(a) FROM u)');
-- what is not a table to roll up
SELECT refused('SELECT a, count(*) AS c FROM generate_series(1, 3) a GROUP BY a');
SELECT refused('SELECT a, count(*) AS c FROM rows_of(1) GROUP BY a');
SELECT refused('SELECT a, count(*) AS c FROM (VALUES (1)) x (a) GROUP BY a');
SELECT refused('SELECT a, count(*) AS c FROM v GROUP BY a');
SELECT refused('SELECT a, count(*) AS c FROM mv GROUP BY a');
SELECT refused('SELECT last_value, count(*) AS c FROM seq GROUP BY last_value');
SELECT refused('SELECT a, count(*) AS c FROM tmp GROUP BY a');
SELECT refused('SELECT a, count(*) AS c FROM unl GROUP BY a');
SELECT refused('SELECT a, count(*) AS c FROM far GROUP BY a');
SELECT refused('SELECT relkind, count(*) AS c FROM pg_class GROUP BY relkind');
SELECT refused('SELECT datname, count(*) AS c FROM pg_database GROUP BY datname');
SELECT refused('SELECT table_name, count(*) AS c FROM information_schema.tables GROUP BY 1');
SELECT refused('SELECT state, count(*) AS c FROM scalecache.rollup GROUP BY state');
-- what goes when the session ends
CREATE FUNCTION pg_temp.half(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 / 2';
CREATE OPERATOR pg_temp.### (FUNCTION = pg_temp.half, RIGHTARG = int);
CREATE AGGREGATE pg_temp.total(int) (sfunc = int4_sum, stype = bigint);
CREATE DOMAIN pg_temp.brief AS int;
CREATE TYPE pg_temp.mood AS ENUM ('well');
CREATE COLLATION pg_temp.by_byte (locale = 'C');
CREATE TEMP VIEW glance AS SELECT a, v FROM t;
CREATE TABLE briefly (a int, b pg_temp.brief, c pg_temp.brief[]);
SELECT regexp_replace(refused('SELECT pg_temp.half(a) AS a, count(*) AS c FROM t GROUP BY 1'), 'pg_temp_\d+', 'pg_temp');
SELECT regexp_replace(refused('SELECT a, count(*) FILTER (WHERE OPERATOR(pg_temp.###) v = 1) AS c FROM t GROUP BY a'), 'pg_temp_\d+', 'pg_temp');
SELECT regexp_replace(refused('SELECT a, pg_temp.total(v) AS c FROM t GROUP BY a'), 'pg_temp_\d+', 'pg_temp');
SELECT regexp_replace(refused('SELECT a::pg_temp.brief AS a, count(*) AS c FROM t GROUP BY 1'), 'pg_temp_\d+', 'pg_temp');
SELECT regexp_replace(refused('SELECT a, ''well''::pg_temp.mood AS m, count(*) AS c FROM t GROUP BY a'), 'pg_temp_\d+', 'pg_temp');
SELECT regexp_replace(refused('SELECT note COLLATE pg_temp.by_byte AS note, count(*) AS c FROM t GROUP BY 1'), 'pg_temp_\d+', 'pg_temp');
SELECT regexp_replace(refused('SELECT a, count(*) AS c FROM glance GROUP BY a'), 'pg_temp_\d+', 'pg_temp');
SELECT regexp_replace(refused('SELECT a, count(b) AS c FROM briefly GROUP BY a'), 'pg_temp_\d+', 'pg_temp');
SELECT regexp_replace(refused('SELECT a, count(c) AS c FROM briefly GROUP BY a'), 'pg_temp_\d+', 'pg_temp');
DROP TABLE briefly;
DROP VIEW glance;
-- more than a row of the storage has room for
SELECT error_of(format('SELECT scalecache.create_rollup(''r'', ''SELECT a, %s FROM t GROUP BY a'')',
	string_agg(format('sum(v + %s) AS s%1$s', i), ', '))) FROM generate_series(1, 1010) i;
SELECT error_of(format('SELECT scalecache.create_rollup(''r'', ''SELECT a, %s FROM t GROUP BY a'')',
	string_agg(format('bool_or(v = %s) AS s%1$s', i), ', '))) FROM generate_series(1, 1599) i;
SELECT error_of(format('SELECT scalecache.create_rollup(''most'', ''SELECT a, %s FROM t GROUP BY a'')',
	string_agg(format('sum(v + %s) AS s%1$s', i), ', '))) FROM generate_series(1, 970) i;
INSERT INTO t (a, v) VALUES (1, 1);
SELECT scalecache.fold_rollup('most'), s1, s970, scalecache.verify_rollup('most') FROM most;
DELETE FROM t;
DROP VIEW most;
-- functions and expressions
SELECT refused('SELECT a, sum(random()) AS c FROM t GROUP BY a');
SELECT refused('SELECT stable_one(a) AS a, count(*) AS c FROM t GROUP BY 1');
SELECT refused('SELECT "Volatile one"(a) AS a, count(*) AS c FROM t GROUP BY 1');
SELECT refused('SELECT ### a AS a, count(*) AS c FROM t GROUP BY 1');
CREATE FUNCTION drifts(bigint, int) RETURNS bigint LANGUAGE sql AS 'SELECT $1 + $2';
CREATE AGGREGATE drift(int) (sfunc = drifts, stype = bigint, initcond = '0');
CREATE FUNCTION settles(bigint) RETURNS bigint STABLE LANGUAGE sql AS 'SELECT $1';
CREATE AGGREGATE settled(int) (sfunc = int4_sum, stype = bigint, finalfunc = settles);
SELECT refused('SELECT a, drift(a) AS c FROM t GROUP BY a');
SELECT refused('SELECT a, settled(a) AS c FROM t GROUP BY a');
DROP AGGREGATE drift(int);
DROP AGGREGATE settled(int);
DROP FUNCTION drifts, settles;
SELECT refused('SELECT a, count(*) AS c FROM t WHERE ts < now() GROUP BY a');
SELECT refused('SELECT a, count(*) AS c FROM t WHERE ts < current_timestamp GROUP BY a');
SELECT refused('SELECT a, count(*) FILTER (WHERE note = current_user) AS c FROM t GROUP BY a');
SELECT refused('SELECT a, count(*) AS c FROM t GROUP BY a HAVING count(*) > random()');
SELECT refused('SELECT a, count(*) + random() AS c FROM t GROUP BY a');
SELECT refused('SELECT extract(timezone FROM ts) AS tz, count(*) AS c FROM t GROUP BY 1');
SELECT refused('SELECT to_char(ts, ''TZ'') AS tz, count(*) AS c FROM t GROUP BY 1');
SELECT refused('SELECT to_char(ts, note) AS tz, count(*) AS c FROM t GROUP BY 1');
SELECT refused(format('SELECT to_char(%s) AS x, count(*) AS c FROM t GROUP BY 1', a)) FROM unnest(ARRAY[
	'ts::timestamp, note', 'ts::timestamp, ''TMMonth''', 'ts, ''tmMonth''', 'ts, ''DD tz''', 'ts, ''DD of''']) a;
SELECT refused('SELECT ts::text AS ts, count(*) AS c FROM t GROUP BY 1');
SELECT refused('SELECT tz::time AS tz, max(to_timestamp(note, ''YYYY'')) AS c FROM t GROUP BY 1');
-- Written in other ways by other sessions: in groups, conditions and aggregates, not in what is shown
ALTER TABLE t ADD f float8, ADD i interval, ADD b bytea, ADD m money;
SELECT refused('SELECT f::text AS f, count(*) AS c FROM t GROUP BY 1');
SELECT refused('SELECT a, count(DISTINCT i::text) AS c FROM t GROUP BY a');
SELECT refused('SELECT a, count(*) FILTER (WHERE b::text <> note) AS c FROM t GROUP BY a');
SELECT refused('SELECT a, max(note) AS c FROM t WHERE m::varchar(10) = note GROUP BY a');
SELECT refused('SELECT p::text AS p, count(*) AS c FROM t GROUP BY p::text');
SELECT refused('SELECT upper(CAST(sqrt(a) AS text)) AS s, count(*) AS c FROM t GROUP BY 1');
SELECT scalecache.create_rollup('shown', 'SELECT f::text AS k, f::numeric::text AS n, avg(f)::text AS a FROM t GROUP BY f, f::numeric::text');
INSERT INTO t (f) VALUES (0.1::float8 + 0.2), (1), (NULL);
SELECT * FROM shown ORDER BY n;
SET extra_float_digits = 0;
SELECT * FROM shown ORDER BY n;
DELETE FROM t WHERE f < 1;
SELECT * FROM shown ORDER BY n;
SELECT same('shown');
RESET extra_float_digits;
SELECT scalecache.drop_rollup('shown');
-- Constants are kept whatever the session's settings would make of them.
SET extra_float_digits = 0;
SET datestyle = 'Postgres';
SET timezone = 'Asia/Kolkata';
SELECT scalecache.create_rollup('constants', $$SELECT count(*) FILTER (WHERE a > 0.30000000000000004::float8) AS f,
	count(*) FILTER (WHERE ts > '2026-01-01 00:00+00'::timestamptz) AS t FROM t$$);
RESET extra_float_digits;
SET datestyle = 'ISO';
SET timezone = 'UTC';
SELECT pg_get_viewdef('constants') ~ '0.30000000000000004', pg_get_viewdef('constants') ~ '2026-01-01 00:00:00\+00';
RESET timezone;
RESET datestyle;
SELECT scalecache.drop_rollup('constants');
ALTER TABLE t DROP f, DROP i, DROP b, DROP m;
TRUNCATE t;
SELECT refused('SELECT t, count(*) AS c FROM t GROUP BY t');
SELECT refused('SELECT t.*::text AS x, count(*) AS c FROM t GROUP BY 1');
SELECT refused('SELECT ctid, count(*) AS c FROM t GROUP BY ctid');
SELECT refused('SELECT a, max(xmin::text) AS c FROM t GROUP BY a');
SELECT refused('SELECT a, tableoid, count(*) AS c FROM t GROUP BY 1, 2');
SELECT refused('SELECT row(a, v) AS x, count(*) AS c FROM t GROUP BY 1');
SELECT refused('SELECT j, count(*) AS c FROM t GROUP BY j');
SELECT refused('SELECT p, count(*) AS c FROM t GROUP BY p');
SELECT refused('SELECT nothing(a) AS c FROM t GROUP BY a');
SELECT refused('SELECT sum(note) AS c FROM t');
SELECT refused('SELECT sum(count(*)) AS c FROM t');
SELECT refused('SELECT count(*) AS c FROM t WHERE count(*) > 1');
SELECT refused('SELECT ' || string_agg('a + ' || g, ', ') || ', count(*) AS c FROM t GROUP BY ' || string_agg('a + ' || g, ', '))
	~ 'more than 32 group keys' AS ok FROM generate_series(1, 33) g;
-- names of columns and of the rollup
SELECT refused('SELECT a, count(*) AS a FROM t GROUP BY 1');
SELECT refused('SELECT a, count(*), count(v) FROM t GROUP BY a');
SELECT refused('SELECT a, 1 + count(*) FROM t GROUP BY a');
SELECT refused('SELECT a, NULL, count(*) AS c FROM t GROUP BY a');
SELECT refused('SELECT count(*) AS c FROM t', 't');
SELECT refused('SELECT count(*) AS c FROM t', 'seq');
SELECT refused('SELECT count(*) AS c FROM t', '');
SELECT refused('SELECT count(*) AS c FROM t', 'a b');
SELECT refused('SELECT count(*) AS c FROM t', 'a.b.c.d');
SELECT refused('SELECT count(*) AS c FROM t', '"');
SELECT refused('SELECT count(*) AS c FROM t', '""');
SELECT refused('SELECT count(*) AS c FROM t', 'other_db.public.r');
SELECT refused('SELECT count(*) AS c FROM t', 'nowhere.r');
SELECT refused('SELECT count(*) AS c FROM t', 'pg_temp.r');
SELECT refused('SELECT count(*) AS c FROM t', 'pg_toast.r');
SELECT refused('SELECT count(*) AS c FROM t', 'information_schema.tables');
-- NULL
SELECT error_of('SELECT scalecache.create_rollup(NULL, ''SELECT count(*) AS c FROM t'')');
SELECT error_of('SELECT scalecache.create_rollup(''r'', NULL)');
SELECT error_of('SELECT scalecache.create_rollup(''r'', ''SELECT count(*) AS c FROM t'', NULL)');
CALL scalecache.create_rollup_concurrently(NULL, 'SELECT count(*) AS c FROM t');
CALL scalecache.create_rollup_concurrently('r', NULL);
SELECT error_of('SELECT scalecache.drop_rollup(NULL)');
SELECT error_of('SELECT scalecache.fold_rollup(NULL)');
SELECT error_of('SELECT scalecache.rebuild_rollup(NULL)');
SELECT error_of('SELECT scalecache.verify_rollup(NULL)');
-- what is not a rollup
SELECT error_of('SELECT scalecache.drop_rollup(''t'')');
SELECT error_of('SELECT scalecache.fold_rollup(''v'')');
SELECT error_of('SELECT scalecache.rebuild_rollup(''t'')');
SELECT error_of('SELECT scalecache.verify_rollup(0)');
SELECT error_of('SELECT scalecache.verify_rollup(4294967295)');
SELECT error_of('SELECT scalecache.verify_rollup(''nothing'')');
SELECT * FROM scalecache.rollup_stats(0::regclass);
-- where it cannot run
SELECT error_of('CALL scalecache.create_rollup_concurrently(''r'', ''SELECT count(*) AS c FROM t'')');
BEGIN;
CALL scalecache.create_rollup_concurrently('r', 'SELECT count(*) AS c FROM t');
ROLLBACK;
CALL scalecache.create_rollup_concurrently('t', 'SELECT count(*) AS c FROM t');
CALL scalecache.create_rollup_concurrently('r', 'SELECT count(*) AS c FROM t ORDER BY 1');
SELECT scalecache.create_rollup('r_ok', 'SELECT count(*) AS c FROM t');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT error_of('SELECT scalecache.fold_rollup(''r_ok'')');
SELECT error_of('SELECT scalecache.rebuild_rollup(''r_ok'')');
SELECT c FROM r_ok;
COMMIT;
BEGIN READ ONLY;
SELECT error_of('SELECT scalecache.create_rollup(''r'', ''SELECT count(*) AS c FROM t'')');
SELECT error_of('SELECT scalecache.drop_rollup(''r_ok'')');
SELECT error_of('SELECT scalecache.fold_rollup(''r_ok'')');
SELECT error_of('SELECT scalecache.rebuild_rollup(''r_ok'')');
SELECT error_of('SELECT scalecache.set_rollup_rewrite(''r_ok'', false)');
SELECT scalecache.verify_rollup('r_ok');
SELECT c FROM r_ok;
COMMIT;
SELECT error_of('INSERT INTO r_ok VALUES (1)');
SELECT error_of('SELECT * FROM r_ok FOR UPDATE');
SELECT error_of('SELECT scalecache.create_rollup(''r'', ''SELECT c, count(*) AS n FROM r_ok GROUP BY c'')');
SELECT error_of('SELECT scalecache.create_rollup(''r'', ''SELECT a1, count(*) AS n FROM scalecache_data.r_ok GROUP BY a1'')');
DROP VIEW r_ok;
-- a value that fails in the middle of filling, or of a write
INSERT INTO t VALUES (1, 1), (0, 0);
SELECT refused('SELECT 10 / a AS q, count(*) AS c FROM t GROUP BY 1');
SELECT refused('SELECT a, count(*) AS c FROM t WHERE 10 / v > 1 GROUP BY 1');
DELETE FROM t WHERE a = 0;
SELECT scalecache.create_rollup('r_div', 'SELECT 10 / a AS q, count(*) AS c FROM t GROUP BY 1');
SELECT error_of('INSERT INTO t VALUES (0, 0)');
SELECT count(*), (SELECT sum(c) FROM r_div) FROM t;
DROP VIEW r_div;
-- functions that serve triggers
SELECT error_of('SELECT scalecache.row_differs(1)');
SELECT error_of('SELECT scalecache.row_differs(1, ''a''::text)');
SELECT error_of('SELECT scalecache.row_differs(1, NULL)');
SELECT error_of('SELECT scalecache.row_differs(VARIADIC ARRAY[1, 2])');
SELECT error_of('SELECT scalecache.' || f || '()') FROM unnest('{rollup_capture,rollup_truncate,rollup_protect}'::text[]) f;
SELECT scalecache.row_differs(1, 1), scalecache.row_differs(NULL::int, NULL::int), scalecache.row_differs(1.0, 1.00),
	scalecache.row_differs(1, 1, 'a'::text, NULL::text);
-- Triggers like those of a rollup, by hand: no row is captured twice, or too early.
CREATE TABLE parts (a int, v int) PARTITION BY LIST (a);
CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1);
SELECT scalecache.create_rollup('r_parts', 'SELECT a, sum(v) AS s FROM parts GROUP BY a');
SELECT error_of(format('CREATE %s FUNCTION scalecache.rollup_%s(''%s'')', t, f, id))
	FROM scalecache.rollup, (VALUES
		('TRIGGER x AFTER INSERT ON part1 FOR EACH ROW EXECUTE', 'capture'),
		('TRIGGER x AFTER INSERT OR UPDATE ON part1 FOR EACH ROW EXECUTE', 'capture'),
		('TRIGGER x AFTER INSERT OR UPDATE OR DELETE ON parts FOR EACH ROW EXECUTE', 'capture'),
		('TRIGGER x AFTER UPDATE OF v ON parts FOR EACH ROW EXECUTE', 'capture'),
		('CONSTRAINT TRIGGER x AFTER INSERT ON parts DEFERRABLE FOR EACH ROW EXECUTE', 'capture'),
		('OR REPLACE TRIGGER x AFTER INSERT ON part1 FOR EACH ROW EXECUTE', 'capture'),
		('TRIGGER x BEFORE INSERT ON part1 FOR EACH ROW EXECUTE', 'capture'),
		('TRIGGER x AFTER INSERT ON part1 EXECUTE', 'capture'),
		('TRIGGER x AFTER INSERT ON part1 EXECUTE', 'truncate')) x (t, f)
	WHERE rollup = 'r_parts'::regclass;
SELECT error_of('CREATE TRIGGER x AFTER INSERT ON part1 FOR EACH ROW EXECUTE FUNCTION scalecache.rollup_capture()');
INSERT INTO part1 VALUES (1, 1);
SELECT s, scalecache.verify_rollup('r_parts') FROM r_parts;
DROP TABLE parts CASCADE;

-- Nothing is left of any of that.
SELECT count(*) FROM scalecache.rollups;
SELECT count(*) FROM pg_class WHERE relnamespace = 'scalecache_data'::regnamespace;
SELECT count(*) FROM pg_class WHERE relname = 'r';
SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass;
SELECT count(*) FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'x';

-- JSON and XML are written as the session's settings say, of some types.
CREATE TABLE j (k int, z timestamptz, m money, l timestamp, r int4range, tr tstzrange, za timestamptz[], n numeric, iv interval, b bytea);
SELECT refused(format('SELECT k, %s AS x FROM j GROUP BY k', a)) FROM unnest(ARRAY[
	'json_agg(z)', 'jsonb_object_agg(k, m)', 'jsonb_agg(za ORDER BY n)', 'json_agg((k, (n, tr)))', 'json_agg(k::regclass)',
	'json_agg(iv)', 'json_agg(b)', 'xmlagg(xmlelement(name x, b))', 'xmlagg(xmlelement(name x, z))', 'xmlagg(xmlforest(k, m))', 'count(xmlelement(name x, xmlattributes(za AS y), k))']) a;
SELECT refused(format('SELECT %s::text AS k, count(*) AS n FROM j GROUP BY 1', a)) FROM unnest('{iv,b,m,k}'::text[]) a;
SELECT refused('SELECT xmlserialize(content xmlelement(name x, z) AS text) AS k, count(*) AS n FROM j GROUP BY 1');
SELECT scalecache.create_rollup('written', $$
	SELECT k, json_agg(l ORDER BY z) AS a, jsonb_agg(r ORDER BY z) AS b, json_object_agg(n, (k, l, n) ORDER BY z) AS c,
		jsonb_agg(z AT TIME ZONE 'Europe/Berlin' ORDER BY z) AS d
	FROM j GROUP BY k $$);
SET TimeZone = 'Asia/Tokyo';
INSERT INTO j VALUES (1, '2026-01-01 00:00+00', 1, '2026-01-01', '[1,2]', NULL, NULL, 1.50);
SELECT * FROM written;
RESET TimeZone;
DROP TABLE j CASCADE;

-- Constants with which a function would fail for every row, and so whoever
-- writes one: the plain query's error, while there is no row yet.
SELECT refused('SELECT date_trunc(''mnoth'', ts) AS m, count(*) AS c FROM t GROUP BY 1');
SELECT refused('SELECT date_trunc(''day'', ts, ''Mars'') AS m, count(*) AS c FROM t GROUP BY 1');
SELECT refused('SELECT extract(year FROM ts AT TIME ZONE ''Mars'') AS y, count(*) AS c FROM t GROUP BY 1');
SELECT refused('SELECT extract(hour FROM ts::date) AS y, count(*) AS c FROM t GROUP BY 1');
SELECT refused('SELECT date_bin(''0 min'', ts, ''2020-01-01'') AS y, count(*) AS c FROM t GROUP BY 1');
SELECT refused('SELECT count(*) FILTER (WHERE note ~ ''('') AS c FROM t');
SELECT refused('SELECT regexp_replace(note, ''a'', ''b'', ''z'') AS s, count(*) AS c FROM t GROUP BY 1');
-- What one of a row is has to be seen.
SELECT scalecache.create_rollup('unit', 'SELECT date_trunc(note, ts AT TIME ZONE ''UTC'') AS y, count(*) AS c FROM t GROUP BY 1');
DROP VIEW unit;
SELECT scalecache.create_rollup('unit', $$SELECT date_trunc(note, timestamp '2020-01-01') AS y, extract(year FROM timestamptz '2020-01-01' AT TIME ZONE note) AS z,
	date_bin(make_interval(mins => a), timestamp '2020-01-01', '2000-01-01') AS b, 'x' ~ note AS x, count(*) AS c FROM t GROUP BY 1, 2, 3, 4$$);
DROP VIEW unit;

-- Names that need quotes, or are as long as names can be, work.
SELECT scalecache.create_rollup('"Odd ""Name"""', 'SELECT "A b" AS "C ""d""", count(*) AS "select" FROM t GROUP BY "A b"');
SELECT length(scalecache.create_rollup(repeat('n', 63), format('SELECT a AS %I, count(*) AS %I FROM t GROUP BY a',
	repeat('c', 63), repeat('d', 63)))::text);
SELECT length(scalecache.create_rollup(repeat('n', 62) || 'm', 'SELECT a, count(*) AS c FROM t GROUP BY a')::text);
SELECT scalecache.create_rollup('"日本 é"', 'SELECT a AS "á", count(*) AS "数" FROM t GROUP BY a');
SELECT scalecache.create_rollup('"a.b"', 'SELECT count(*) AS c FROM t');
SELECT scalecache.create_rollup('public."select"', 'SELECT count(*) AS c FROM t');
INSERT INTO t (a, "A b") VALUES (1, 2);
SELECT * FROM "Odd ""Name""" ORDER BY 1;
SELECT bool_and(same(rollup) = 'same, verified'), bool_and(scalecache.fold_rollup(rollup) > 0), bool_and(same(rollup) = 'same, verified'), count(*)
	FROM scalecache.rollups;
-- A name that is too long is cut as for any table, and refused if that is there.
SELECT refused('SELECT a, count(*) AS c FROM t GROUP BY a', repeat('n', 70));
SELECT scalecache.drop_rollup('"Odd ""Name"""');
DROP VIEW "日本 é";
SELECT count(*) FROM scalecache.rollups;
DROP EXTENSION scalecache;
SELECT count(*) FROM pg_class WHERE relname ~ '^nnn';
DROP TABLE t, u, unl CASCADE;
DROP SEQUENCE seq;
DROP FOREIGN DATA WRAPPER sc_nothing CASCADE;
DROP OPERATOR ### (NONE, int);
DROP FUNCTION refused, stable_one, "Volatile one";
DROP FUNCTION same, answered_from, checked, exact, answered, error_of;
