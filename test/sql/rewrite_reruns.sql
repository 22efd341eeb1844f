-- Queries answered from rollups that are run again for other rows.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
SET scalecache.enable_rewrite = on;
SET compute_query_id = off;
CREATE TABLE sales (id int PRIMARY KEY, country int, product int, note text, amount numeric(10,2), n int);
INSERT INTO sales SELECT i, i % 5, i % 7, 'n' || i % 3, i % 1000, nullif(i % 10, 7) FROM generate_series(1, 20000) i;
CREATE TABLE countries (id int PRIMARY KEY, name text, part int);
INSERT INTO countries SELECT i, 'c' || i, i % 3 FROM generate_series(0, 7) i;
VACUUM ANALYZE sales, countries;

\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /rewrite_helper.sql
\set ECHO none
\i :helper
\set ECHO all

SELECT scalecache.create_rollup('by_country', $$
	SELECT country, product, sum(amount) AS s, count(n) AS c, avg(n) AS a, count(DISTINCT n) AS d FROM sales GROUP BY 1, 2 $$);
-- Groups with deltas, too
INSERT INTO sales SELECT i, i % 6, i % 7, 'x', i, i % 11 FROM generate_series(20001, 20200) i;
UPDATE sales SET country = 2 WHERE id % 1000 = 0;

-- each run has its own groups, those with deltas among them
SELECT answer($$SELECT c.id, l.* FROM countries c LEFT JOIN LATERAL
	(SELECT count(*), sum(amount), avg(n), count(DISTINCT product) AS k FROM sales WHERE country = c.id) l ON true$$, 'on by_country');
SELECT answer($$SELECT c.id, (SELECT sum(amount) FROM sales s WHERE s.country = c.part) FROM countries c$$, 'on by_country');
SELECT answer($$SELECT c.id, l.* FROM countries c JOIN LATERAL
	(SELECT country, product, sum(amount), count(n) FROM sales WHERE country = c.id OR product = c.part GROUP BY 1, 2) l ON true$$, 'on by_country');

-- one that is pulled up into the joined query, whose join is planned again
EXPLAIN (COSTS OFF) SELECT c.name, sum(s.amount) FROM countries c JOIN LATERAL (SELECT * FROM sales WHERE country = c.id) s ON true GROUP BY 1;
SELECT answer($$SELECT (SELECT count(*) FROM (SELECT c.name || c.part, sum(s.amount)
	FROM countries c JOIN LATERAL (SELECT * FROM sales WHERE country = c.id) s ON true GROUP BY 1) z)$$, 'on by_country');

-- A table is in use by a cursor of its session, as without the rollup: it may yet have to answer
SELECT scalecache.create_rollup('by_product', 'SELECT product, sum(amount) AS s FROM sales GROUP BY 1');
SELECT scalecache.create_rollup('by_name', 'SELECT c.name, sum(s.amount) AS s FROM sales s JOIN countries c ON c.id = s.country GROUP BY 1');
\set VERBOSITY terse
EXPLAIN (COSTS OFF) SELECT product + 1, sum(amount) FROM sales GROUP BY 1;
BEGIN;
DECLARE c CURSOR FOR SELECT product + 1, sum(amount) FROM sales GROUP BY 1;
ALTER TABLE sales ALTER id TYPE bigint;
ROLLBACK;
EXPLAIN (COSTS OFF) SELECT c.name, c.id, sum(s.amount) FROM sales s JOIN countries c ON c.id = s.country GROUP BY 1, 2;
BEGIN;
DECLARE c CURSOR FOR SELECT c.name, c.id, sum(s.amount) FROM sales s JOIN countries c ON c.id = s.country GROUP BY 1, 2;
ALTER TABLE sales ALTER id TYPE bigint;
ROLLBACK;
EXPLAIN (COSTS OFF) SELECT c.name, sum(s.amount) FROM sales s JOIN countries c ON c.id = s.country GROUP BY 1;
BEGIN;
DECLARE c CURSOR FOR SELECT c.name, sum(s.amount) FROM sales s JOIN countries c ON c.id = s.country GROUP BY 1;
ALTER TABLE countries ALTER part TYPE bigint;
ROLLBACK;
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM by_product;
ALTER TABLE sales ALTER id TYPE bigint;
ROLLBACK;
-- so are the indexes and partitions that the plain query reads
CREATE TABLE shards (k int, v int, filler text) PARTITION BY LIST (k);
CREATE TABLE shards_1 PARTITION OF shards FOR VALUES IN (1);
CREATE TABLE shards_2 PARTITION OF shards FOR VALUES IN (2, 3);
INSERT INTO shards SELECT 1 + i % 3, i % 100, repeat('x', 50) FROM generate_series(1, 9000) i;
CREATE INDEX shards_v ON shards_2 (v);
ANALYZE shards;
SELECT scalecache.create_rollup('by_v', 'SELECT k, v, sum(v) AS s FROM shards GROUP BY 1, 2');
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT k, sum(v) FROM shards WHERE k > 1 AND v = 5 GROUP BY 1;
BEGIN;
DECLARE c CURSOR FOR SELECT k, sum(v) FROM shards WHERE k > 1 AND v = 5 GROUP BY 1 ORDER BY 1;
INSERT INTO shards VALUES (2, 5);
SAVEPOINT a;
DROP INDEX shards_v;
ROLLBACK TO a;
DROP TABLE shards_2;
ROLLBACK TO a;
FETCH ALL FROM c;
CLOSE c;
DROP INDEX shards_v;
COMMIT;
RESET enable_seqscan;
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM by_v;
DROP TABLE shards_1;
ROLLBACK;
DROP TABLE shards CASCADE;
-- which is not to be taken for being changed
BEGIN;
DECLARE c CURSOR FOR SELECT product + 1, sum(amount) FROM sales GROUP BY 1;
INSERT INTO sales VALUES (0, 1, 1, 'x', 100, 1);
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT product + 1, sum(amount) FROM sales GROUP BY 1;
SAVEPOINT a;
SELECT product + 1, sum(amount) / (product - 1) FROM sales GROUP BY product;
ROLLBACK TO a;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT product + 1, sum(amount) FROM sales GROUP BY 1;
COMMIT;
ALTER TABLE sales ALTER id TYPE bigint;
-- One that has failed holds nothing: a statement that changes the table is seen
CREATE FUNCTION total() RETURNS numeric LANGUAGE plpgsql VOLATILE AS $$ BEGIN RETURN (SELECT sum(amount) FROM sales WHERE product = 1); END $$;
SELECT total();
BEGIN;
DECLARE c CURSOR FOR SELECT 1 / (product - 3), sum(amount) FROM sales WHERE product > 2 GROUP BY product;
DECLARE d CURSOR FOR SELECT 1 / (product - 3), sum(amount) FROM sales WHERE product > 2 GROUP BY product;
SAVEPOINT a;
FETCH ALL FROM c;
ROLLBACK TO a;
FETCH ALL FROM d;
ROLLBACK TO a;
UPDATE sales SET amount = amount + 10000 WHERE id IN (1, 8, 15) RETURNING total();
ROLLBACK;
DROP FUNCTION total;
-- Who fetches from it needs no right that who has opened it had, also if the storage does not answer then
SET timezone = 'Europe/Berlin';
CREATE TABLE visits (at timestamptz, n int);
INSERT INTO visits SELECT timestamptz '2025-01-01' + i * interval '19 minutes', 1 FROM generate_series(1, 30000) i;
ANALYZE visits;
CREATE FUNCTION own(timestamptz) RETURNS timestamptz LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END';
SELECT scalecache.create_rollup('by_month', $$SELECT date_trunc('month', at) AS month, sum(n) AS s, max(own(at)) AS last FROM visits GROUP BY 1$$);
REVOKE EXECUTE ON FUNCTION own FROM PUBLIC;
CREATE ROLE scalecache_fetcher;
BEGIN;
DECLARE c CURSOR FOR SELECT date_trunc('month', at), sum(n) FROM visits GROUP BY 1 ORDER BY 1;
DECLARE d CURSOR FOR SELECT date_trunc('month', at), max(own(at)) FROM visits GROUP BY 1 ORDER BY 1;
DECLARE e CURSOR FOR SELECT own(date_trunc('year', at)), sum(n) FROM visits GROUP BY date_trunc('year', at) ORDER BY 1;
DECLARE f CURSOR FOR SELECT own(date_trunc('month', at)), p.name, sum(n) FROM visits, (VALUES ('x'), ('y')) p (name) GROUP BY date_trunc('month', at), p.name ORDER BY 1, 2;
SET LOCAL timezone = 'UTC';
SET LOCAL ROLE scalecache_fetcher;
FETCH 1 FROM c;
FETCH 1 FROM d;
FETCH 1 FROM e;
FETCH 1 FROM f;
ROLLBACK;
DROP TABLE visits CASCADE;
DROP FUNCTION own;
DROP ROLE scalecache_fetcher;
DROP EXTENSION scalecache CASCADE;
DROP TABLE sales, countries;
DROP FUNCTION answer(text, text), try(text), rows_of(text);
