-- A rollup is answered from its storage wherever a query may name it.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
CREATE TABLE t (k int, v int);
INSERT INTO t SELECT i % 5, i FROM generate_series(1, 100) i;
SELECT scalecache.create_rollup('r', 'SELECT k, sum(v) AS s, count(*) AS n FROM t GROUP BY k');
SET scalecache.enable_rewrite = off;

-- How many scans of the rollup the plan has, and whether the rows are right
CREATE FUNCTION scans(query text, OUT scans int, OUT same boolean) LANGUAGE plpgsql AS $$
DECLARE
	line text;
	rows text := format('SELECT array_agg(x::text ORDER BY x::text) FROM (%s) x', query);
	a text[];
	b text[];
BEGIN
	scans := 0;
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		scans := scans + (line ~ 'ScaleCacheRollup')::int;
	END LOOP;
	EXECUTE rows INTO a;
	SET LOCAL scalecache.enable_rollup_scan = off;
	EXECUTE rows INTO b;
	SET LOCAL scalecache.enable_rollup_scan = on;
	same := a IS NOT DISTINCT FROM b;
END $$;

-- Not folded, so that reading the stored groups alone would be wrong
BEGIN;
INSERT INTO t VALUES (1, 1000), (7, 7);
DELETE FROM t WHERE k = 2;
CREATE VIEW above AS SELECT k, s FROM r WHERE n > 0;
SELECT q, (scans(q)).* FROM unnest(ARRAY[
	'SELECT * FROM r',
	'SELECT * FROM above',
	'SELECT * FROM (SELECT * FROM r) x',
	'WITH c AS (SELECT * FROM r) SELECT * FROM c',
	'WITH c AS MATERIALIZED (SELECT * FROM r) SELECT * FROM c x, c y WHERE x.k = y.k',
	'WITH RECURSIVE c AS (SELECT k, 1 AS d FROM r UNION ALL SELECT r.k, d + 1 FROM c JOIN r USING (k) WHERE d < 3) SELECT * FROM c',
	'SELECT * FROM r UNION ALL SELECT * FROM r',
	'SELECT * FROM r EXCEPT SELECT * FROM above JOIN r USING (k, s)',
	'SELECT (SELECT sum(s) FROM r)',
	'SELECT * FROM t WHERE k IN (SELECT k FROM r WHERE s > 1000)',
	'SELECT * FROM t WHERE EXISTS (SELECT FROM r WHERE r.k = t.k AND r.s > t.v * 50)',
	'SELECT * FROM t, LATERAL (SELECT s FROM r WHERE r.k = t.k LIMIT 1) x',
	'SELECT * FROM generate_series(1, (SELECT max(k) FROM r)) g',
	'VALUES ((SELECT max(s) FROM r)), (1)',
	'SELECT k, count(*) FROM t GROUP BY k HAVING count(*) < (SELECT max(s) FROM r)',
	'SELECT k, row_number() OVER (ORDER BY (SELECT max(s) FROM r), k) FROM t',
	'SELECT * FROM t ORDER BY (SELECT s FROM r WHERE r.k = t.k), v LIMIT (SELECT min(n) FROM r)',
	'SELECT CASE WHEN k IN (SELECT k FROM above) THEN 1 END FROM t',
	'SELECT array(SELECT s FROM r ORDER BY k)'
]) WITH ORDINALITY AS u (q, n) ORDER BY n;
COMMIT;

-- A parallel query after a change that is pending: no id can be assigned to
-- the subtransaction once it runs, nor a delta written.
CREATE TABLE few (k int, v int);
CREATE TABLE big AS SELECT g FROM generate_series(1, 10000) g;
ANALYZE big;
SELECT scalecache.create_rollup('r_few', 'SELECT k, sum(v) AS s FROM few GROUP BY k');
INSERT INTO few SELECT g % 3, g FROM generate_series(1, 30) g;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
BEGIN;
INSERT INTO few VALUES (1, 100);
SAVEPOINT a;
EXPLAIN (COSTS OFF) SELECT count(*), (SELECT sum(s) FROM r_few) AS s FROM big;
SELECT count(*), (SELECT sum(s) FROM r_few) AS s FROM big;
ROLLBACK TO a;
SELECT count(*), (SELECT sum(s) FROM r_few) AS s FROM big;
COMMIT;
SELECT sum(s) FROM r_few;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
RESET max_parallel_workers_per_gather;
DROP TABLE few, big CASCADE;

-- In statements that write
CREATE TABLE u (k int, s bigint);
EXPLAIN (COSTS OFF) INSERT INTO u SELECT k, s FROM r;
EXPLAIN (COSTS OFF) UPDATE u SET s = r.s FROM r WHERE u.k = r.k AND r.k = 3;
EXPLAIN (COSTS OFF) DELETE FROM u WHERE k IN (SELECT k FROM r WHERE k = 3);
EXPLAIN (COSTS OFF) WITH w AS (INSERT INTO u SELECT k, s FROM r RETURNING *) SELECT * FROM w;
EXPLAIN (COSTS OFF) CREATE TABLE made AS SELECT * FROM r;
DROP FUNCTION scans;
DROP TABLE u, t CASCADE;
DROP EXTENSION scalecache;
