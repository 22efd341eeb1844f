-- Where a rollup's answer could differ from the plain query's in a corner.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
SET scalecache.enable_rewrite = on;
SET max_parallel_workers_per_gather = 0;
SET timezone = 'UTC';

\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /rewrite_helper.sql
\set ECHO none
\i :helper
\set ECHO all

-- A CASE that is counted: some results by a sum's state, others by rows
CREATE TABLE corners (id int, k int NOT NULL, at timestamp, amount numeric(10,2), span interval, x float8, m money, n int, other int NOT NULL);
INSERT INTO corners SELECT i, i % 4, '1985-01-01'::timestamp + i * interval '3 days', nullif(i % 7, 2), i % 5 * interval '1 hour',
	nullif(i % 3, 1), (i % 9)::numeric::money, nullif(i % 6, 3), i FROM generate_series(1, 12000) i;
ANALYZE corners;
SELECT scalecache.create_rollup('by_k', 'SELECT k, sum(amount) AS a, sum(span) AS s, sum(x) AS x, sum(m) AS m, sum(n) AS n FROM corners GROUP BY k');
SELECT answer($$ SELECT count(CASE WHEN k = 1 THEN amount WHEN k = 2 THEN 1 END) FROM corners $$, 'From: rollup');
SELECT answer($$ SELECT k % 2, count(CASE WHEN k < 2 THEN amount ELSE 0 END), count(CASE WHEN k < 2 THEN 7 WHEN k = 2 THEN amount END) FROM corners GROUP BY 1 $$, 'From: rollup');
SELECT answer($$ SELECT k % 2, count(CASE WHEN k = 1 THEN span ELSE '1 day' END), count(CASE WHEN k = 1 THEN x ELSE 1 END), count(CASE k WHEN 1 THEN m ELSE '5' END) FROM corners GROUP BY 1 $$, 'From: rollup');
SELECT answer($$ SELECT count(CASE WHEN k = 1 THEN n WHEN k = 2 THEN k ELSE 3 END), count(CASE WHEN k = 1 THEN n ELSE k::bigint END) FROM corners $$, 'From: rollup');
SELECT answer($$ SELECT count(CASE WHEN k = 1 THEN other WHEN k = 2 THEN 8 END), count(CASE WHEN k = 1 THEN other END) FROM corners $$, 'From: rollup');
SELECT answer($$ SELECT count(CASE WHEN k = 1 THEN n WHEN k = 2 THEN other END) FROM corners $$, 'From: rollup');
DROP VIEW by_k;

-- The 20th century ends within a decade.
SELECT scalecache.create_rollup('by_decade', $$ SELECT date_trunc('decade', at) AS d, count(*) AS c FROM corners GROUP BY 1 $$);
SELECT answer($$ SELECT date_trunc('decade', at), count(*) FROM corners GROUP BY 1 $$, 'From: rollup');
SELECT answer($$ SELECT extract(decade FROM at), count(*) FROM corners GROUP BY 1 $$, 'From: rollup');
SELECT answer($$ SELECT date_trunc('century', at), count(*) FROM corners GROUP BY 1 $$, 'From: rollup');
SELECT answer($$ SELECT extract(century FROM at), count(*) FROM corners GROUP BY 1 $$, 'From: rollup');
SELECT answer($$ SELECT extract(millennium FROM at), count(*) FROM corners GROUP BY 1 $$, 'From: rollup');
SELECT answer($$ SELECT to_char(at, 'CC'), count(*) FROM corners GROUP BY 1 $$, 'From: rollup');
SELECT answer($$ SELECT count(*) FROM corners WHERE extract(century FROM at) = 20 $$, 'From: rollup');
SELECT answer($$ SELECT count(*) FROM corners WHERE date_trunc('century', at) = '1901-01-01' $$, 'From: rollup');
DROP VIEW by_decade;
SELECT scalecache.create_rollup('by_century', $$ SELECT date_trunc('century', at) AS d, count(*) AS c FROM corners GROUP BY 1 $$);
SELECT answer($$ SELECT extract(millennium FROM at), count(*) FROM corners GROUP BY 1 $$, 'From: rollup');
DROP VIEW by_century;

-- Dates beyond the last timestamp, and times that the zone puts there
SELECT scalecache.create_rollup('by_month', $$ SELECT date_trunc('month', at) AS d, count(*) AS c FROM corners GROUP BY 1 $$);
SELECT answer($$ SELECT count(*) FROM corners WHERE at < date '300000-01-01' $$, 'From: rollup');
SELECT answer($$ SELECT count(*) FROM corners WHERE at::date <= '5874897-12-31' AND at >= '2000-01-01' $$, 'From: rollup');
SELECT answer($$ SELECT count(*) FROM corners WHERE at > '4714-11-24 BC'::date $$, 'From: rollup');
SELECT answer($$ SELECT count(*) FROM corners WHERE at < 'infinity' AND at >= '-infinity'::date $$, 'From: rollup');
DROP VIEW by_month;
SET timezone = 'America/New_York';
ALTER TABLE corners ADD tz timestamptz;
UPDATE corners SET tz = at;
VACUUM FULL corners;
ANALYZE corners;
SELECT scalecache.create_rollup('by_month', $$ SELECT date_trunc('month', tz) AS d, count(*) AS c FROM corners GROUP BY 1 $$);
SELECT answer($$ SELECT count(*) FROM corners WHERE tz::timestamp < '294276-12-31 23:59' AND tz::timestamp > '4714-11-24 00:00 BC' $$, 'From: rollup');
SELECT answer($$ SELECT count(*) FROM corners WHERE tz >= '4714-11-24 BC'::date AND tz < '294276-12-31'::date $$, 'From: rollup');
SELECT answer($$ SELECT count(*) FROM corners WHERE tz::date = '294276-12-31' OR tz::date > '4714-11-24 BC' $$, 'From: rollup');
SET timezone = 'UTC';
DROP TABLE corners CASCADE;

-- Tables that inherit may do without NOT NULL.
CREATE TABLE parent (k int, v int NOT NULL, w int NOT NULL);
CREATE TABLE child () INHERITS (parent);
ALTER TABLE child ALTER v DROP NOT NULL;
INSERT INTO parent SELECT i % 3, i, i FROM generate_series(1, 5000) i;
INSERT INTO child SELECT i % 3, nullif(i % 5, 0), i FROM generate_series(1, 5000) i;
ANALYZE parent, child;
SELECT scalecache.create_rollup('of_parent', 'SELECT k, count(*) AS c, sum(w) AS w FROM parent GROUP BY k');
SELECT answer('SELECT k, count(v) FROM parent GROUP BY k', 'From: rollup');
SELECT answer('SELECT k, count(w) FROM parent GROUP BY k', 'From: rollup');
SELECT answer('SELECT k, count(*) FROM parent WHERE v IS NOT NULL GROUP BY k', 'From: rollup');
SELECT answer('SELECT k, count(*) FROM parent WHERE w IS NOT NULL GROUP BY k', 'From: rollup');
SELECT answer('SELECT count(CASE WHEN k = 1 THEN v END) FROM parent', 'From: rollup');
PREPARE counted AS SELECT k, count(w) FROM parent GROUP BY k ORDER BY k;
EXECUTE counted;
ALTER TABLE child ALTER w DROP NOT NULL;
UPDATE child SET w = NULL WHERE k = 1;
EXECUTE counted;
DEALLOCATE counted;
DROP TABLE parent CASCADE;

-- A rollup without keys has a group without rows, queries by constants have not.
CREATE TABLE lonely (v int, pad text);
INSERT INTO lonely SELECT i, repeat('x', 100) FROM generate_series(1, 5000) i;
SELECT scalecache.create_rollup('alone', 'SELECT sum(v) AS s, count(*) AS c FROM lonely');
ANALYZE lonely;
SELECT answer($$ SELECT 1 AS one, sum(v) FROM lonely GROUP BY 1 $$, 'From: rollup');
SELECT answer($$ SELECT DISTINCT 1 FROM lonely $$, 'From: rollup');
DELETE FROM lonely;
SELECT answer($$ SELECT sum(v), count(*) FROM lonely $$, 'From: rollup');
SELECT 1 AS one, sum(v) FROM lonely GROUP BY 1;
SELECT 'a' AS one, 2 AS two, count(*), sum(v) FROM lonely GROUP BY 1, 2 HAVING count(*) < 5;
SELECT DISTINCT 1 FROM lonely;
SELECT scalecache.fold_rollup('alone') > 0 AS folded;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT 1 AS one, sum(v) FROM lonely GROUP BY 1;
SELECT 'a' AS one, 2 AS two, count(*), sum(v) FROM lonely GROUP BY 1, 2 HAVING count(*) < 5;
SELECT DISTINCT 1 FROM lonely;
SELECT answer($$ SELECT sum(v), count(*) FROM lonely $$, 'From: rollup');
DROP TABLE lonely CASCADE;

-- Deltas that have been folded cost nothing, though they are still there.
CREATE TABLE busy (id int PRIMARY KEY, k int, v int) WITH (fillfactor = 50);
INSERT INTO busy SELECT i, i % 5, i FROM generate_series(1, 3000) i;
SELECT scalecache.create_rollup('of_busy', 'SELECT k, sum(v) AS s FROM busy GROUP BY k');
VACUUM ANALYZE busy;
DO $$ BEGIN FOR i IN 1 .. 6000 LOOP UPDATE busy SET v = v + 1 WHERE id = 1 + i % 3000; COMMIT; END LOOP; END $$;
SELECT scalecache.fold_rollup('of_busy') >= 0 AS folded;
VACUUM ANALYZE busy;
EXPLAIN (COSTS OFF) SELECT sum(v) FROM busy;
SELECT answer('SELECT k, sum(v) FROM busy GROUP BY 1', 'From: rollup');
DROP TABLE busy CASCADE;

-- A rollup that is larger than the table, by its index.
CREATE TABLE many (k int, v int);
INSERT INTO many SELECT i, i FROM generate_series(1, 3000) i;
SELECT scalecache.create_rollup('of_many', 'SELECT k, sum(v) AS s, avg(v) AS a, max(v) AS m FROM many GROUP BY k');
VACUUM ANALYZE many;
EXPLAIN (COSTS OFF) SELECT k, sum(v) FROM many WHERE k IN (5, 7) OR k = 9 GROUP BY 1;
SELECT answer('SELECT k, sum(v) FROM many WHERE k IN (5, 7) OR k = 9 GROUP BY 1', 'From: rollup');
EXPLAIN (COSTS OFF) SELECT k, max(v) FROM many WHERE k = 7 GROUP BY 1;
EXPLAIN (COSTS OFF) SELECT sum(v) FROM many WHERE k BETWEEN 2990 AND 2999;
INSERT INTO many VALUES (7, 1), (2999, 2), (3005, 3);
DELETE FROM many WHERE k IN (8, 2998);
SELECT answer('SELECT k, max(v) FROM many WHERE k = 7 GROUP BY 1', 'Index Scan');
SELECT answer('SELECT sum(v) FROM many WHERE k = 8', 'Index Scan');
SELECT answer('SELECT sum(v), count(DISTINCT k) FROM many WHERE k BETWEEN 2990 AND 2999', 'Index Scan');
SELECT answer('SELECT x, s FROM (VALUES (7), (8), (9), (3005)) AS p (x), LATERAL (SELECT sum(v) AS s FROM many WHERE k = x) AS q', 'Index Scan');
DROP TABLE many CASCADE;

-- Keys that are too large for that are not in it.
CREATE TABLE lengthy (t text, v int);
INSERT INTO lengthy SELECT 's' || i % 2000, i FROM generate_series(1, 6000) i;
INSERT INTO lengthy SELECT repeat('q', 4000 + i % 2), i FROM generate_series(1, 9) i;
SELECT scalecache.create_rollup('of_lengthy', 'SELECT t, sum(v) AS s FROM lengthy GROUP BY t');
ANALYZE lengthy;
INSERT INTO lengthy VALUES (repeat('q', 4000), 1), (repeat('q', 5000), 1);
SELECT answer('SELECT t, sum(v) FROM lengthy WHERE t = repeat(''q'', 4000) GROUP BY 1', 'Index Scan');
SELECT answer('SELECT length(t), sum(v) FROM lengthy WHERE t >= ''q'' AND t < ''s1'' GROUP BY 1', 'Index Scan');
DROP TABLE lengthy CASCADE;

-- A stored sum is beyond its type: that matters where it is asked for.
CREATE TABLE beyond (k int, r float4);
INSERT INTO beyond SELECT i % 5, 1 FROM generate_series(1, 3000) i;
INSERT INTO beyond VALUES (2, 3e38), (2, 3e38);
ANALYZE beyond;
SELECT scalecache.create_rollup('of_beyond', 'SELECT k, sum(r) AS s, count(*) AS n FROM beyond GROUP BY k');
SELECT answer('SELECT k, count(*) FROM beyond GROUP BY 1', 'From: rollup');
SELECT answer('SELECT sum(r), k FROM beyond WHERE k <> 2 GROUP BY k', 'From: rollup');
SELECT k, sum(r) FROM beyond GROUP BY 1;
SET scalecache.enable_rewrite = off;
SELECT k, sum(r) FROM beyond GROUP BY 1;
SET scalecache.enable_rewrite = on;
DELETE FROM beyond WHERE r > 1;
SELECT answer('SELECT k, sum(r) FROM beyond GROUP BY 1', 'From: rollup');
DROP TABLE beyond CASCADE;
DROP FUNCTION answer, rows_of, try;
DROP EXTENSION scalecache;
