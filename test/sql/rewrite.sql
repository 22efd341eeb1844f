-- Queries answered from rollups without being changed.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
ALTER SYSTEM SET scalecache.worker = off;
SELECT pg_reload_conf();
SET TimeZone = 'Europe/Berlin';
SET scalecache.enable_rewrite = on;
SET max_parallel_workers_per_gather = 0;
SET compute_query_id = off;
CREATE TABLE orders (id bigint PRIMARY KEY, created_at timestamptz NOT NULL, local timestamp,
	day date, country text, amount numeric(10,2), n int, price numeric, f float8);
INSERT INTO orders
SELECT i, '2023-11-01'::timestamptz + i * interval '47 minutes', timestamp '2024-01-01' + i * interval '31 minutes',
	date '2024-01-01' + i % 500, (array['DE', 'FR', 'IT', NULL])[1 + i % 4], i % 1000, i % 10,
	(i % 5)::numeric, i / 7.0
FROM generate_series(1, 20000) i;
ANALYZE orders;

\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /rewrite_helper.sql
\set ECHO none
\i :helper
\set ECHO all
-- The one reason of each rollup that is not used.
CREATE FUNCTION why_not(query text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT rollup || ': ' || reason FROM scalecache.explain_rewrite(query)
	WHERE NOT used ORDER BY rollup::text
$$;

-- one rollup, the query everybody writes
SELECT scalecache.create_rollup('monthly_sales', $$
	SELECT date_trunc('month', created_at) AS month, sum(amount) AS total_sales
	FROM orders GROUP BY 1 $$);
EXPLAIN (COSTS OFF) SELECT date_trunc('month', created_at), sum(amount) FROM orders GROUP BY 1;
EXPLAIN (COSTS OFF, VERBOSE) SELECT date_trunc('year', created_at), sum(amount) FROM orders GROUP BY 1;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF)
SELECT date_trunc('month', created_at), sum(amount) FROM orders GROUP BY 1 HAVING sum(amount) > 450000;
SELECT try($$SELECT date_trunc('month', created_at), sum(amount) FROM orders GROUP BY 1$$);
SELECT try($$SELECT sum(amount) / 2 AS half, to_char(date_trunc('month', created_at), 'Mon YYYY') FROM orders
	GROUP BY date_trunc('month', created_at) HAVING sum(amount) > 100 ORDER BY 1 LIMIT 3$$);
SELECT try($$WITH x AS (SELECT date_trunc('month', created_at) AS m, sum(amount) AS s FROM orders GROUP BY 1)
	SELECT m, s FROM x WHERE s > 100 UNION ALL SELECT max(m), sum(s) FROM x$$);
SELECT try($$SELECT * FROM (SELECT date_trunc('month', created_at) AS m, sum(amount) AS s FROM orders GROUP BY m) x
	JOIN generate_series(1, 3) g ON extract(month FROM m) = g$$);
SELECT try($$SELECT g, (SELECT sum(amount) FROM orders WHERE date_trunc('month', created_at) = '2024-01-01'::timestamptz + g * interval '1 month')
	FROM generate_series(1, 3) g$$);
CREATE VIEW renamed AS SELECT created_at AS c, amount + 0 AS a, amount FROM orders;
SELECT try($$SELECT date_trunc('month', c), sum(amount) FROM renamed GROUP BY 1$$);
DROP VIEW renamed;
CREATE TABLE copied AS SELECT date_trunc('month', created_at) AS m, sum(amount) AS s FROM orders GROUP BY 1;
SELECT count(*) FROM copied;
INSERT INTO copied SELECT date_trunc('month', created_at) AS m, sum(amount) AS s FROM orders GROUP BY 1;
SELECT count(*), count(DISTINCT (m, s)) FROM copied;
DROP TABLE copied;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT date_trunc('month', created_at), sum(amount) FROM orders GROUP BY 1 ORDER BY 1;
FETCH 2 FROM c;
FETCH BACKWARD 1 FROM c;
COMMIT;

-- own writes, before and after a fold; a statement of the same transaction
BEGIN;
INSERT INTO orders VALUES (30001, '2024-02-10', NULL, NULL, 'DE', 5);
SELECT try($$SELECT date_trunc('month', created_at), sum(amount) FROM orders GROUP BY 1$$);
SELECT try($$SELECT sum(amount) FROM orders$$);
DELETE FROM orders WHERE created_at < '2024-01-10';
SELECT try($$SELECT date_trunc('month', created_at), sum(amount) FROM orders GROUP BY 1$$);
SAVEPOINT a;
TRUNCATE orders;
SELECT try($$SELECT date_trunc('month', created_at), sum(amount) FROM orders GROUP BY 1$$);
ROLLBACK TO a;
SELECT try($$SELECT date_trunc('month', created_at), sum(amount) FROM orders GROUP BY 1$$);
SELECT try($$SELECT sum(amount) FROM orders$$);
ROLLBACK;
WITH x AS (INSERT INTO orders VALUES (30002, '2024-02-10', NULL, NULL, 'DE', 5) RETURNING amount)
SELECT (SELECT sum(amount) FROM orders) - (SELECT sum(amount) FROM orders WHERE id > 0) AS zero, (SELECT amount FROM x);
DELETE FROM orders WHERE id = 30002;

-- prepared statements come and go with the rollup; another time zone
PREPARE p AS SELECT date_trunc('month', created_at), sum(amount) FROM orders GROUP BY 1;
EXPLAIN (COSTS OFF) EXECUTE p;
SET TimeZone = 'America/New_York';
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE p;
SELECT try($$SELECT date_trunc('month', created_at), sum(amount) FROM orders GROUP BY 1$$);
SELECT why_not($$SELECT date_trunc('month', created_at), sum(amount) FROM orders GROUP BY 1$$);
SELECT try($$SELECT date_trunc('month', created_at, 'Europe/Berlin'), sum(amount) FROM orders GROUP BY 1$$);
SET TimeZone = 'Europe/Berlin';
DROP VIEW monthly_sales;
EXPLAIN (COSTS OFF) EXECUTE p;
CALL scalecache.create_rollup_concurrently('monthly_sales', $$
	SELECT date_trunc('month', created_at) AS month, sum(amount) AS total_sales
	FROM orders GROUP BY 1 $$);
EXPLAIN (COSTS OFF) EXECUTE p;
SET scalecache.enable_rewrite = off;
EXPLAIN (COSTS OFF) EXECUTE p;
SELECT why_not($$SELECT date_trunc('month', created_at), sum(amount) FROM orders GROUP BY 1$$);
SET scalecache.enable_rewrite = on;
EXPLAIN (COSTS OFF) EXECUTE p;
DEALLOCATE p;

-- more keys
SELECT scalecache.create_rollup('daily', $$
	SELECT date_trunc('day', created_at) AS day, country, sum(amount) AS s, count(*) AS c,
		min(n) AS lo, max(created_at) AS last, variance(n) AS v, sum(f) AS f, count(DISTINCT n) AS d
	FROM orders GROUP BY 1, 2 $$);
SELECT try($$SELECT date_trunc('day', created_at), country, count(DISTINCT n), sum(amount) FROM orders GROUP BY 1, 2$$);
SELECT try($$SELECT country, date_trunc('day', created_at), avg(amount), count(1), sum(n), stddev(n), avg(n) FROM orders GROUP BY 1, 2$$);
SELECT try($$SELECT country, sum(amount), avg(amount), count(*), min(n), max(created_at), round(sum(f)::numeric, 3) FROM orders GROUP BY 1$$);
SELECT try($$SELECT sum(amount), count(*), count(created_at), var_pop(n) FROM orders$$);
SELECT try($$SELECT sum(amount), count(*) FROM orders WHERE country = 'XX'$$);
SELECT try($$SELECT country, sum(amount) FROM orders WHERE country = 'XX' GROUP BY 1$$);
SELECT try($$SELECT DISTINCT country FROM orders$$);
SELECT try($$SELECT DISTINCT country, created_at::date FROM orders WHERE country <> 'DE' ORDER BY 2, 1$$);
SELECT try($$SELECT country FROM orders GROUP BY country$$);
SELECT try($$SELECT upper(country), count(*) FROM orders GROUP BY 1$$);
SELECT try($$SELECT country IS NULL, max(date_trunc('day', created_at)), min(country), max(upper(country)) FROM orders GROUP BY 1$$);
SELECT try($$SELECT country, sum(n) FROM orders WHERE country IN ('DE', 'FR') OR country IS NULL GROUP BY 1$$);
-- one value of a key
SELECT try($$SELECT date_trunc('day', created_at), count(DISTINCT n) FROM orders WHERE country = 'DE' GROUP BY 1$$);
-- coarser dates
SELECT try($$SELECT date_trunc('week', created_at), sum(amount) FROM orders GROUP BY 1$$);
SELECT try($$SELECT date_trunc('quarter', created_at), sum(amount) FROM orders GROUP BY 1$$);
SELECT try($$SELECT extract(year FROM created_at), extract(month FROM created_at), count(*) FROM orders GROUP BY 1, 2$$);
SELECT try($$SELECT created_at::date, count(*) FROM orders GROUP BY 1$$);
SELECT try($$SELECT to_char(created_at, 'YYYY-MM'), count(*) FROM orders GROUP BY 1$$);
SELECT try($$SELECT to_char(created_at, 'IYYY-IW'), date_part('dow', created_at), count(*) FROM orders GROUP BY 1, 2$$);
SELECT try($$SELECT date_trunc('month', created_at AT TIME ZONE 'Europe/Berlin'), count(*) FROM orders GROUP BY 1$$);
-- ranges
SELECT try($$SELECT country, sum(n) FROM orders WHERE created_at >= '2024-02-01' AND created_at < '2024-05-01' GROUP BY 1$$);
SELECT try($$SELECT country, sum(n) FROM orders WHERE created_at BETWEEN '2024-02-01' AND '2024-04-30 23:59:59.999999' GROUP BY 1$$);
SELECT try($$SELECT country, sum(n) FROM orders WHERE '2024-02-01' <= created_at AND date '2024-05-01' > created_at GROUP BY 1$$);
SELECT try($$SELECT country, sum(n) FROM orders WHERE date_trunc('month', created_at) = '2024-02-01' GROUP BY 1$$);
SELECT try($$SELECT country, sum(n) FROM orders WHERE extract(year FROM created_at) = 2024 AND created_at::date < '2024-03-03' GROUP BY 1$$);
SELECT try($$SELECT country, sum(n) FROM orders WHERE created_at > '2024-02-01' GROUP BY 1$$);
SELECT why_not($$SELECT country, sum(n) FROM orders WHERE created_at <> '2024-02-01' GROUP BY 1$$);
SET plan_cache_mode = force_generic_plan;
PREPARE r(timestamptz, timestamptz) AS SELECT country, sum(n) FROM orders WHERE created_at >= $1 AND created_at < $2 GROUP BY 1 ORDER BY 1;
CREATE FUNCTION plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || query LOOP
		RETURN NEXT regexp_replace(line, 'Memory: \d+kB', 'Memory: N');
	END LOOP;
END $$;
SET enable_bitmapscan = off;	-- it shows a number of blocks
SELECT plan_of($$EXECUTE r('2024-02-01', '2024-03-01')$$);
EXECUTE r('2024-02-01', '2024-03-01');
SELECT plan_of($$EXECUTE r('2024-02-01', '2024-03-01 12:00')$$);
EXECUTE r('2024-02-01', '2024-03-01 12:00');
SET scalecache.enable_rewrite = off;
EXECUTE r('2024-02-01', '2024-03-01');
EXECUTE r('2024-02-01', '2024-03-01 12:00');
SET scalecache.enable_rewrite = on;
RESET plan_cache_mode;
DEALLOCATE r;

-- conditions of the rollup
SELECT scalecache.create_rollup('big', $$
	SELECT date_trunc('hour', local) AS hour, country, sum(amount) AS s
	FROM orders WHERE n >= 5 GROUP BY 1, 2 $$);
SELECT try($$SELECT local::date, sum(amount) FROM orders WHERE n >= 5 GROUP BY 1$$);
SELECT try($$SELECT local::date, sum(amount) FROM orders WHERE n > 7 GROUP BY 1$$);
SELECT try($$SELECT local::date, sum(amount) FROM orders WHERE n >= 5 AND local < '2024-05-05 05:00' GROUP BY 1$$);
SELECT try($$SELECT local::date, sum(amount) FROM orders WHERE n >= 5 AND country = 'DE' GROUP BY 1$$);
SELECT try($$SELECT local::date, sum(amount) FROM orders GROUP BY 1$$);
SELECT why_not($$SELECT local::date, sum(amount) FROM orders GROUP BY 1$$);
SELECT why_not($$SELECT local::date, sum(amount) FROM orders WHERE n > 7 GROUP BY 1$$);

-- keys whose equal values may differ
SELECT scalecache.create_rollup('by_price', $$
	SELECT price, day, count(*) AS c FROM orders GROUP BY 1, 2 $$);
SELECT try($$SELECT price, count(*) FROM orders WHERE price > 1 GROUP BY 1$$);
SELECT try($$SELECT day, count(*) FROM orders WHERE price IN (1, 2.0) GROUP BY 1$$);
SELECT try($$SELECT day, count(*) FROM orders WHERE price IS NOT NULL GROUP BY 1$$);
SELECT try($$SELECT price::text, count(*) FROM orders GROUP BY 1$$);
SELECT try($$SELECT day, count(*) FROM orders WHERE price::text = '1' GROUP BY 1$$);
SELECT try($$SELECT date_trunc('month', day), count(*) FROM orders WHERE day >= '2024-03-03' GROUP BY 1$$);

-- what is not answered, and why
SELECT why_not($$SELECT country, sum(amount) FROM orders WHERE id < 10 GROUP BY 1$$);
SELECT why_not($$SELECT country, string_agg(country, ',') FROM orders GROUP BY 1$$);
SELECT why_not($$SELECT n, sum(amount) FROM orders GROUP BY 1$$);
SELECT why_not($$SELECT country, count(DISTINCT n) FROM orders GROUP BY 1$$);
SELECT why_not($$SELECT country, sum(amount) FROM orders WHERE random() < 2 GROUP BY 1$$);
SELECT why_not($$SELECT country, sum(amount), random() FROM orders GROUP BY 1$$);
SELECT why_not($$SELECT country, sum(amount) FROM orders TABLESAMPLE system (50) GROUP BY 1$$);
SELECT why_not($$SELECT sum(amount) FROM (SELECT amount FROM orders FOR UPDATE) x$$);
SELECT why_not($$SELECT count(*) FROM pg_class$$);
SELECT * FROM scalecache.explain_rewrite(NULL);
SELECT scalecache.set_rollup_rewrite(NULL, true);
SELECT * FROM scalecache.explain_rewrite('SELECT 1; SELECT 2');
SELECT * FROM scalecache.explain_rewrite('VACUUM');
SELECT * FROM scalecache.explain_rewrite('SELECT nonsense');

-- the switch of a rollup, and how many queries it has answered
PREPARE p AS SELECT date_trunc('week', created_at), sum(amount) FROM orders GROUP BY 1;
EXPLAIN (COSTS OFF) EXECUTE p;
SELECT scalecache.set_rollup_rewrite('daily', false);
EXPLAIN (COSTS OFF) EXECUTE p;
SELECT why_not($$SELECT date_trunc('week', created_at), sum(amount) FROM orders GROUP BY 1$$);
SELECT scalecache.set_rollup_rewrite('daily', true);
EXPLAIN (COSTS OFF) EXECUTE p;
DEALLOCATE p;
SELECT scalecache.set_rollup_rewrite('orders', true);
SELECT rewrites > 10 FROM scalecache.rollups WHERE rollup = 'daily'::regclass;
-- of several aggregations, that which it answers is what counts
SELECT rollup, used, reason ~ '^its cost is' FROM scalecache.explain_rewrite($$SELECT sum(amount) FROM orders
	UNION ALL SELECT sum(amount) FROM orders WHERE id = 3$$) WHERE used;

-- permissions stay, row-level security too
CREATE ROLE sc_reader;
CREATE ROLE sc_stranger;
GRANT SELECT ON orders TO sc_reader;
GRANT SELECT ON daily TO sc_stranger;
SET ROLE sc_stranger;
SELECT scalecache.set_rollup_rewrite('daily', false);
SELECT sum(amount) FROM orders;
SELECT * FROM scalecache.explain_rewrite('SELECT sum(amount) FROM orders');
SET ROLE sc_reader;
EXPLAIN (COSTS OFF) SELECT country, sum(amount) FROM orders GROUP BY 1;
SELECT country, sum(amount) FROM orders GROUP BY 1 ORDER BY 1;
RESET ROLE;
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON orders USING (country = 'DE');
SET ROLE sc_reader;
SELECT country, sum(amount) FROM orders GROUP BY 1 ORDER BY 1;
SELECT why_not($$SELECT country, sum(amount) FROM orders GROUP BY 1$$);
RESET ROLE;
ALTER TABLE orders DISABLE ROW LEVEL SECURITY;
DROP POLICY p ON orders;

-- pending deltas, extremes that go
DELETE FROM orders WHERE id % 30 = 0;
UPDATE orders SET n = 9, country = 'ES' WHERE id % 70 = 1;
SELECT try($$SELECT country, sum(amount), min(n), max(created_at), count(*) FROM orders GROUP BY 1$$);
SELECT try($$SELECT country, min(country), max(date_trunc('day', created_at)) FROM orders WHERE country > 'E' GROUP BY 1$$);
SELECT try($$SELECT date_trunc('day', created_at), country, sum(amount), avg(n) FROM orders GROUP BY 1, 2$$);
SELECT try($$SELECT date_trunc('day', created_at), country, count(DISTINCT n) FROM orders GROUP BY 1, 2$$);
SELECT scalecache.fold_rollup('daily') > 0;
VACUUM ANALYZE orders;
VACUUM scalecache_data.daily;
SELECT try($$SELECT country, sum(amount), min(n), max(created_at), count(*) FROM orders GROUP BY 1$$);
SELECT try($$SELECT date_trunc('day', created_at), country, count(DISTINCT n) FROM orders GROUP BY 1, 2$$);

DROP TABLE orders CASCADE;
DROP ROLE sc_reader;
DROP ROLE sc_stranger;
DROP FUNCTION answer, rows_of, try, why_not;
DROP EXTENSION scalecache;
