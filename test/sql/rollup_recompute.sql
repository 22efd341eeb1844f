-- Aggregates that keep no state: only the groups that changed are computed
-- from the source, by readers and by folds, through indexes where there are.
CREATE EXTENSION scalecache;
\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /helper.sql
\set ECHO none
\i :helper
\set ECHO all
ALTER SYSTEM SET scalecache.worker = off;
SELECT pg_reload_conf();
SET TimeZone = 'Europe/Berlin';
SET client_min_messages = warning;

-- rows of a table that a query reads, all in all
CREATE FUNCTION rows_read(query text, tab text, OUT by_scan bigint, OUT by_index bigint) LANGUAGE plpgsql AS $$
DECLARE
	s bigint;
	i bigint;
BEGIN
	SELECT seq_tup_read, coalesce(idx_tup_fetch, 0) INTO s, i FROM pg_stat_xact_user_tables WHERE relname = tab;
	EXECUTE query;
	SELECT seq_tup_read - s, coalesce(idx_tup_fetch, 0) - i INTO by_scan, by_index
	FROM pg_stat_xact_user_tables WHERE relname = tab;
END $$;

CREATE TABLE t (id serial PRIMARY KEY, k int, s text, f float8, ts timestamptz, j jsonb);
INSERT INTO t (k, s, f, ts, j)
SELECT i % 100, 's' || i % 7, i / 4.0, timestamptz '2024-01-01' + i * interval '3 hours', jsonb_build_object('a', i % 5)
FROM generate_series(1, 5000) i;
CREATE INDEX ON t (k);
CREATE INDEX ON t (ts);
ANALYZE t;

SELECT scalecache.create_rollup('by_k', $$
	SELECT k, count(*) AS n, sum(f) AS total,
		percentile_cont(0.5) WITHIN GROUP (ORDER BY f) AS median,
		percentile_disc(ARRAY[0.1, 0.9]) WITHIN GROUP (ORDER BY f) AS tails,
		mode() WITHIN GROUP (ORDER BY s) AS common,
		rank(2) WITHIN GROUP (ORDER BY k) AS ranked,
		string_agg(s, ',' ORDER BY id DESC) AS names,
		string_agg(DISTINCT s, ',') FILTER (WHERE f > 100) AS some,
		array_agg(f ORDER BY f) AS fs, jsonb_agg(j ORDER BY id) AS js
	FROM t GROUP BY k $$);
SELECT scalecache.create_rollup('by_month', $$
	SELECT date_trunc('month', ts) AS month, array_agg(id ORDER BY id) AS ids FROM t GROUP BY 1 $$);
SELECT scalecache.create_rollup('by_day', $$
	SELECT ts::date AS day, k, string_agg(s, '' ORDER BY id) AS names FROM t GROUP BY 1, 2 $$);
SELECT scalecache.create_rollup('overall', 'SELECT string_agg(s, '''' ORDER BY id) AS names, count(*) AS n FROM t');
SELECT exact('by_k'), exact('by_month'), exact('by_day'), exact('overall');

-- one group changed
INSERT INTO t (k, s, f, ts) VALUES (7, 'x', 1, '2024-03-31 23:30');
SELECT * FROM answered('TABLE by_k');
SELECT * FROM answered('TABLE by_month');
SELECT * FROM answered('TABLE by_day');
SELECT * FROM answered('TABLE overall');
SELECT exact('by_k'), exact('by_month'), exact('by_day'), exact('overall');
SELECT by_scan, by_index < 100 AS few FROM rows_read('TABLE by_k', 't');
SELECT by_scan, by_index < 300 AS few FROM rows_read('TABLE by_month', 't');
SELECT by_scan, by_index < 100 AS few FROM rows_read('TABLE by_day', 't');
SELECT by_scan, by_index < 100 AS few FROM rows_read('SELECT scalecache.fold_rollup(''by_k'')', 't');
SELECT by_scan, by_index < 300 AS few FROM rows_read('SELECT scalecache.fold_rollup(''by_month'')', 't');
SELECT exact('by_k'), exact('by_month');

-- only groups that are asked for
UPDATE t SET s = s || '!' WHERE k IN (3, 4, 5);
SELECT * FROM answered('TABLE by_k');
SELECT * FROM answered('SELECT * FROM by_k WHERE k = 4');
SELECT * FROM answered('SELECT * FROM by_k WHERE k = 9');
SELECT * FROM answered('SELECT * FROM by_k WHERE k BETWEEN 4 AND 50 AND n > 0');
SELECT * FROM answered('SELECT * FROM generate_series(1, 4) g, LATERAL (SELECT * FROM by_k WHERE k = g OFFSET 0) r');
SELECT * FROM answered('SELECT * FROM generate_series(1, 40) g, LATERAL (SELECT * FROM by_k WHERE k = g OFFSET 0) r');
SELECT g, names IS NOT NULL AS found FROM generate_series(98, 101) g
	LEFT JOIN LATERAL (SELECT * FROM by_k WHERE k = g OFFSET 0) r ON true;
SELECT exact('by_k');

-- null keys, new groups, groups that go, own writes, rollback
BEGIN;
INSERT INTO t (k, s, f, ts) VALUES (NULL, 'n', 1, NULL), (1000, 'n', 1, '1999-05-05'), (1001, 'n', 1, 'infinity');
DELETE FROM t WHERE k = 11;
UPDATE t SET k = NULL, ts = NULL WHERE k = 12;
SELECT exact('by_k'), exact('by_month'), exact('by_day'), exact('overall');
SAVEPOINT a;
DELETE FROM t WHERE k IS NULL;
SELECT exact('by_k'), exact('by_month'), exact('by_day'), exact('overall');
ROLLBACK TO a;
SELECT exact('by_k'), exact('by_month'), exact('by_day'), exact('overall');
COMMIT;
SELECT * FROM answered('TABLE by_k');
SELECT scalecache.fold_rollup('by_k') > 0, scalecache.fold_rollup('by_month') > 0,
	scalecache.fold_rollup('by_day') > 0, scalecache.fold_rollup('overall') > 0;
SELECT exact('by_k'), exact('by_month'), exact('by_day'), exact('overall');
SELECT * FROM answered('TABLE by_k');

-- the hour that comes twice, the hour that is left out, far times
INSERT INTO t (k, s, f, ts) SELECT 1, 'z', 1, timestamptz '2024-10-26 21:00 UTC' + i * interval '30 min' FROM generate_series(1, 12) i;
INSERT INTO t (k, s, f, ts) SELECT 1, 'z', 1, timestamptz '2024-03-30 21:00 UTC' + i * interval '30 min' FROM generate_series(1, 12) i;
INSERT INTO t (k, s, f, ts) VALUES (1, 'y', 1, '4000-01-01 BC'), (1, 'y', 1, '290000-12-31 23:59 UTC'), (1, 'y', 1, '-infinity');
SELECT scalecache.create_rollup('by_hour', $$
	SELECT date_trunc('hour', ts) AS hour, date_trunc('quarter', ts) AS q, array_agg(id ORDER BY id) AS ids FROM t GROUP BY 1, 2 $$);
UPDATE t SET s = s || '?' WHERE k = 1;
INSERT INTO t (k, s, f, ts) SELECT 1, 'z', 1, timestamptz '2024-10-26 21:10 UTC' + i * interval '30 min' FROM generate_series(1, 12) i;
SELECT exact('by_k'), exact('by_month'), exact('by_day'), exact('by_hour');
-- more groups than a qual is made for
UPDATE t SET f = f + 1, ts = ts + interval '1 minute' WHERE isfinite(ts) AND ts > '2000-01-01' AND ts < '2100-01-01';
SELECT exact('by_k'), exact('by_month'), exact('by_day'), exact('by_hour');

-- all that can be a key
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN code AS text CHECK (value ~ '^c');
CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE keys (id serial, e mood, c code, nc text COLLATE nocase, n numeric, j jsonb, a int[], m money, b bit varying, r int4range, v varchar(10), ch char(5), iv interval);
INSERT INTO keys (e, c, nc, n, j, a, m, b, r, v, ch, iv)
SELECT (ARRAY['sad', 'ok', 'happy'])[i % 3 + 1]::mood, 'c' || i % 2, CASE i % 2 WHEN 0 THEN 'Ab' ELSE 'aB' END, i % 2 + 1.0,
	jsonb_build_object('k', i % 2), ARRAY[i % 2], i % 2, (i % 4)::bit(3), int4range(0, i % 2 + 1), 'v' || i % 2, 'x', i % 2 * interval '1 month'
FROM generate_series(1, 40) i;
INSERT INTO keys SELECT FROM generate_series(1, 3);
DO $$
DECLARE col text;
BEGIN
	FOREACH col IN ARRAY ARRAY['e', 'c', 'nc', 'n', 'j', 'a', 'm', 'b', 'r', 'v', 'ch', 'iv'] LOOP
		PERFORM scalecache.create_rollup('by_' || col, format('SELECT %I, array_agg(id ORDER BY id) AS ids FROM keys GROUP BY %1$I', col));
	END LOOP;
	UPDATE keys SET nc = upper(nc), n = n + 0.000, iv = iv + interval '30 days' - interval '30 days', id = id + 100 WHERE id % 5 = 0;
	INSERT INTO keys (e, c, nc, n, j, a, m, b, r, v, ch, iv) VALUES ('ok', 'c1', 'AB', 1.000, '{"k": 1.0}', '{1}', 1, '001', '[0,1]', 'v1', 'x  ', '30 days'), (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
	FOREACH col IN ARRAY ARRAY['e', 'c', 'nc', 'n', 'j', 'a', 'm', 'b', 'r', 'v', 'ch', 'iv'] LOOP
		IF (SELECT recomputed FROM answered('TABLE by_' || col)) = 0 THEN
			RAISE WARNING '% is not recomputed', col;
		END IF;
	END LOOP;
END $$;
-- any of several equal keys may stand for the group: compare what it has
CREATE FUNCTION same_ids(r text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE a text[]; b text[];
BEGIN
	EXECUTE format('SELECT array_agg(ids::text ORDER BY ids::text) FROM %I', r) INTO a;
	SET LOCAL scalecache.enable_rollup_scan = off;
	EXECUTE format('SELECT array_agg(ids::text ORDER BY ids::text) FROM %I', r) INTO b;
	SET LOCAL scalecache.enable_rollup_scan = on;
	RETURN a = b AND scalecache.verify_rollup(r::regclass) = 0;
END $$;
SELECT col, same_ids('by_' || col) FROM unnest(ARRAY['e', 'c', 'nc', 'n', 'j', 'a', 'm', 'b', 'r', 'v', 'ch', 'iv']) col;
SELECT count(scalecache.fold_rollup(rollup)) FROM scalecache.rollups WHERE source = 'keys'::regclass;
SELECT col, same_ids('by_' || col) FROM unnest(ARRAY['e', 'c', 'nc', 'n', 'j', 'a', 'm', 'b', 'r', 'v', 'ch', 'iv']) col;

-- user-defined aggregates, with an inverse and without
CREATE FUNCTION add_up(bigint, int) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT $1 + coalesce($2, 0)';
CREATE FUNCTION take_away(bigint, int) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT $1 - coalesce($2, 0)';
CREATE AGGREGATE my_sum (int) (sfunc = add_up, stype = bigint, initcond = '0');
CREATE AGGREGATE my_moving_sum (int) (sfunc = add_up, stype = bigint, initcond = '0',
	msfunc = add_up, minvfunc = take_away, mstype = bigint, minitcond = '0');
SELECT scalecache.create_rollup('mine', 'SELECT k % 10 AS k, my_sum(id) AS a, my_moving_sum(id) AS b, my_sum(DISTINCT k) AS c FROM t GROUP BY 1');
DELETE FROM t WHERE k = 33;
SELECT * FROM answered('TABLE mine');
SELECT exact('mine');
-- a text that is made of numbers has no collation from its arguments
CREATE FUNCTION spelt(bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT $1 || ' in all' $$;
CREATE AGGREGATE my_text (int) (sfunc = add_up, stype = bigint, initcond = '0', finalfunc = spelt);
SELECT scalecache.create_rollup('spelt', 'SELECT k % 10 AS k, my_text(id) AS a FROM t GROUP BY 1');
SELECT exact('spelt');
-- nor has a number that is made of texts
SELECT scalecache.create_rollup('counted', 'SELECT k % 10 AS k, count(s) AS n, count(DISTINCT s) AS d FROM t GROUP BY 1');
CREATE TABLE kept AS TABLE counted;
SELECT count(*) FROM (TABLE kept EXCEPT TABLE counted) x;
CREATE TABLE kept2 AS SELECT k % 10 AS k, count(s) AS n FROM t GROUP BY 1;
DROP TABLE kept, kept2;
DROP VIEW spelt, counted;
DROP AGGREGATE my_text(int);
DROP FUNCTION spelt;

-- min and max: the 32 best values spare the source, then one group is read
CREATE TABLE m (g int, v int, s text COLLATE "C", e mood, i interval, c money, nc text COLLATE nocase);
INSERT INTO m SELECT i % 4, i, 's' || i % 1000, (ARRAY['sad', 'ok', 'happy'])[i % 3 + 1]::mood, i * interval '1 hour', i, chr(65 + i % 2 * 32 + i % 26)
FROM generate_series(1, 2000) i;
CREATE INDEX ON m (g);
ANALYZE m;
SELECT scalecache.create_rollup('best', 'SELECT g, max(v) AS hi, min(v) AS lo, min(s) AS s, max(e) AS e, max(i) AS i, max(c) AS c, count(*) AS n FROM m GROUP BY g');
DELETE FROM m WHERE v IN (SELECT v FROM m WHERE g = 1 ORDER BY v DESC LIMIT 5);
SELECT * FROM answered('TABLE best');
SELECT exact('best');
DELETE FROM m WHERE v IN (SELECT v FROM m WHERE g = 1 ORDER BY v DESC LIMIT 40);
SELECT * FROM answered('TABLE best');
SELECT exact('best');
SELECT by_scan, by_index < 500 AS few FROM rows_read('TABLE best', 'm');
SELECT by_scan, by_index < 500 AS few FROM rows_read('SELECT scalecache.fold_rollup(''best'')', 'm');
SELECT exact('best');
-- the fold has found the next best values
DELETE FROM m WHERE v IN (SELECT v FROM m WHERE g = 1 ORDER BY v DESC LIMIT 20);
SELECT * FROM answered('TABLE best');
SELECT exact('best');
DELETE FROM m WHERE e = 'happy' AND g = 2;
SELECT * FROM answered('TABLE best');
SELECT exact('best');
DELETE FROM m WHERE g = 3;
SELECT exact('best');
-- a fold that looks for extremes leaves out what its own transaction did
DELETE FROM m WHERE v IN (SELECT v FROM m WHERE g = 0 ORDER BY v DESC LIMIT 40);
BEGIN;
INSERT INTO m (g, v) VALUES (0, 9999);
DELETE FROM m WHERE g = 0 AND v > 1700 AND v < 1750;
SELECT scalecache.fold_rollup('best') > 0;
SELECT exact('best');
COMMIT;
SELECT exact('best');
DELETE FROM m WHERE v = 9999;
SELECT scalecache.fold_rollup('best') > 0;
SELECT exact('best');
-- an index on the group and the value finds the extreme of one group
SELECT scalecache.create_rollup('top', 'SELECT g, max(v) AS hi, count(*) AS n FROM m GROUP BY g');
CREATE INDEX ON m (g, v);
DELETE FROM m WHERE v IN (SELECT v FROM m WHERE g = 1 ORDER BY v DESC LIMIT 40);
SELECT exact('top');
SELECT * FROM answered('TABLE top');
SELECT by_scan, by_index < 5 AS few FROM rows_read('TABLE top', 'm');
-- values that are equal and look different
SELECT scalecache.create_rollup('ends', 'SELECT g, lower(min(nc)) AS lo, lower(max(nc)) AS hi FROM m GROUP BY g');
DELETE FROM m WHERE nc = 'z' AND g <> 2;
DELETE FROM m WHERE nc IN ('a', 'b') AND nc COLLATE "C" = upper(nc) COLLATE "C";
SELECT exact('ends');

-- in no order: rows that have moved make no difference, others do
CREATE TABLE heap (k int, v int);
INSERT INTO heap SELECT g % 2, g FROM generate_series(1, 8) g;
INSERT INTO heap VALUES (1, NULL);
CREATE INDEX heap_idx ON heap (v DESC);
CREATE AGGREGATE product(bigint) (SFUNC = int8mul, STYPE = bigint, INITCOND = '1');
SELECT scalecache.create_rollup('any_order', $$
	SELECT k, array_agg(v) AS a, string_agg(v::text, ',') AS s, jsonb_agg(v) AS j, json_object_agg(coalesce(v, 0), v) AS o,
	product(v) AS p, json_agg(row(k, v)) AS r, string_agg(v::text, ', ') AS d, string_agg(v::text, '--') AS e FROM heap GROUP BY k $$);
CLUSTER heap USING heap_idx;
SELECT a, s FROM any_order WHERE k = 0;
SELECT array_agg(v), string_agg(v::text, ',') FROM heap WHERE k = 0;
SELECT scalecache.verify_rollup('any_order');
SET session_replication_role = replica;
UPDATE scalecache_data.any_order SET a1 = '{8,6,4,3}' WHERE k1 = 0;
SELECT scalecache.verify_rollup('any_order');
UPDATE scalecache_data.any_order SET a1 = '{8,6,4,2}', a2 = '8,6,4,2,2' WHERE k1 = 0;
SELECT scalecache.verify_rollup('any_order');
UPDATE scalecache_data.any_order SET a2 = '86,42,,' WHERE k1 = 0;
SELECT scalecache.verify_rollup('any_order');
UPDATE scalecache_data.any_order SET a2 = '4,2,8,6', a3 = '[24, 86]' WHERE k1 = 0;
SELECT scalecache.verify_rollup('any_order');
UPDATE scalecache_data.any_order SET a3 = '[2, 4, 6, 8]', a5 = 843 WHERE k1 = 0;
SELECT a5, scalecache.verify_rollup('any_order') FROM scalecache_data.any_order WHERE k1 = 0;
UPDATE scalecache_data.any_order SET a5 = 384 WHERE k1 = 0;
SELECT scalecache.verify_rollup('any_order');
RESET session_replication_role;
DROP VIEW any_order;
-- nor do those of rows that ORDER BY takes for equal
SELECT scalecache.create_rollup('ties', $$
	SELECT k, array_agg(v ORDER BY v) AS a, string_agg(v::text, ',' ORDER BY k) AS s, array_agg(v ORDER BY k, v) AS b FROM heap GROUP BY k $$);
CREATE INDEX heap_up ON heap (v);
CLUSTER heap USING heap_up;
SELECT string_agg(v::text, ',' ORDER BY k) FROM heap WHERE k = 0;
SELECT scalecache.verify_rollup('ties');
SET session_replication_role = replica;
UPDATE scalecache_data.ties SET a2 = '8,6,4,3' WHERE k1 = 0;
SELECT scalecache.verify_rollup('ties');
UPDATE scalecache_data.ties SET a2 = '8,6,4,2', a1 = '{2,4,8,6}' WHERE k1 = 0;
SELECT scalecache.verify_rollup('ties');
UPDATE scalecache_data.ties SET a1 = '{2,4,6,8}', a3 = '{2,4,8,6}' WHERE k1 = 0;
SELECT scalecache.verify_rollup('ties');
UPDATE scalecache_data.ties SET a3 = '{2,4,6,8}' WHERE k1 = 0;
SELECT scalecache.verify_rollup('ties');
RESET session_replication_role;
DROP VIEW ties;
-- What is made of columns in ORDER BY has no ties, but where these are equal and not the same
CREATE TABLE spelt (k int, v int, x numeric);
INSERT INTO spelt VALUES (0, 1, 1.0), (0, 2, 1.00), (0, 3, 2);
SELECT scalecache.create_rollup('ties', $$
	SELECT k, string_agg(v::text, ',' ORDER BY v) AS s, string_agg(x::text, ',' ORDER BY x) AS t FROM spelt GROUP BY k $$);
UPDATE spelt SET v = v WHERE v = 1;
SELECT string_agg(x::text, ',' ORDER BY x) FROM spelt;
SELECT scalecache.verify_rollup('ties');
SET session_replication_role = replica;
UPDATE scalecache_data.ties SET a1 = '2,1,3';
SELECT scalecache.verify_rollup('ties');
UPDATE scalecache_data.ties SET a1 = '1,2,3', a2 = '1.00,1.0,3';
SELECT scalecache.verify_rollup('ties');
RESET session_replication_role;
DROP VIEW ties;
-- States are compared beside aggregates that have none, and rows where nothing counts them
INSERT INTO spelt VALUES (1, 7, 7), (2, 5, 5), (2, 6, 6), (2, 7, 7), (3, 7, 7), (3, NULL, 8);
SELECT scalecache.create_rollup('beside', $$SELECT k, sum(v) AS s, string_agg(v::text, ',' ORDER BY v) AS t FROM spelt GROUP BY k$$);
SELECT scalecache.verify_rollup('beside');
SET session_replication_role = replica;
UPDATE scalecache_data.beside SET rows = 4 WHERE k1 = 0;
SELECT scalecache.verify_rollup('beside');
UPDATE scalecache_data.beside SET rows = 3, state = (SELECT state FROM scalecache_data.beside WHERE k1 = 2) WHERE k1 = 0;
SELECT scalecache.verify_rollup('beside');
UPDATE scalecache_data.beside SET state = (SELECT state FROM scalecache_data.beside WHERE k1 = 1), rows = 1 WHERE k1 = 3;
SELECT scalecache.verify_rollup('beside');
UPDATE scalecache_data.beside SET overflow = true WHERE k1 = 2;
SELECT scalecache.verify_rollup('beside');
UPDATE scalecache_data.beside SET state = NULL WHERE k1 = 1;
SELECT scalecache.verify_rollup('beside');
RESET session_replication_role;
DROP TABLE spelt CASCADE;
DROP TABLE heap CASCADE;
DROP AGGREGATE product(bigint);

-- a view that hides groups keeps them from functions that tell
CREATE VIEW few WITH (security_barrier) AS SELECT * FROM by_k WHERE n < 50;
CREATE FUNCTION tell(int) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$BEGIN RAISE NOTICE 'key %', $1; RETURN true; END $$ IMMUTABLE;
UPDATE t SET k = 1 WHERE k = 2;
UPDATE t SET s = 'told' WHERE k = 1;
SET client_min_messages = notice;
SELECT count(*) FROM few WHERE k < 2 AND tell(k);
DROP VIEW few;
DROP EXTENSION scalecache;
DROP TABLE t, m, keys;
DROP FUNCTION same, answered_from, checked, exact, answered, error_of, same_ids, rows_read, tell;
DROP AGGREGATE my_sum(int), my_moving_sum(int);
DROP FUNCTION add_up, take_away;
DROP TYPE mood;
DROP DOMAIN code;
DROP COLLATION nocase;
