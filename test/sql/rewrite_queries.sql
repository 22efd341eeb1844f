-- Grouping sets, aggregates of distinct keys, and other spellings of a query.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
SET TimeZone = 'Europe/Berlin';
SET scalecache.enable_rewrite = on;
SET compute_query_id = off;
CREATE TABLE sales (id int PRIMARY KEY, at timestamptz NOT NULL, local timestamp, country text, product int, price numeric, amount numeric(10,2), n int, f float8);
INSERT INTO sales
SELECT i, '2023-11-01'::timestamptz + i * interval '23 minutes', timestamp '2024-01-01' + i * interval '23 minutes',
	(array['DE', 'FR', 'IT', NULL])[1 + i % 4], i % 7, (i % 3)::numeric, i % 1000, nullif(i % 10, 7), i / 7.0
FROM generate_series(1, 40000) i;
VACUUM ANALYZE sales;

\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /rewrite_helper.sql
\set ECHO none
\i :helper
\set ECHO all

SELECT scalecache.create_rollup('monthly', $$
	SELECT date_trunc('month', at) AS month, country, product, sum(amount) AS s, count(*) AS c, min(n) AS lo, max(amount) AS hi,
		sum(f) AS f, count(DISTINCT n) AS d
	FROM sales GROUP BY 1, 2, 3 $$);

-- grouping sets
EXPLAIN (COSTS OFF, VERBOSE) SELECT country, product, sum(amount), grouping(product, country) FROM sales GROUP BY CUBE (1, 2);
SELECT country, product > 3 AS p, sum(amount), count(*), min(n), grouping(country), grouping(product > 3, country) FROM sales
	GROUP BY ROLLUP (1, 2) ORDER BY 1, 2, 6, 7;
SELECT try($$SELECT country, date_trunc('year', at), sum(amount), avg(amount), count(*), round(sum(f)::numeric, 3), min(n), max(amount), grouping(country),
	grouping(country, date_trunc('year', at)) FROM sales GROUP BY ROLLUP (1, 2)$$);
SELECT try($$SELECT country, product, count(*) FROM sales GROUP BY GROUPING SETS ((country), (product), (), (), (country, product)) ORDER BY 1, 2, 3$$);
SELECT try($$SELECT country, product, sum(amount) FROM sales GROUP BY CUBE (1, 2) HAVING grouping(product) > 0 OR sum(amount) > 600000 ORDER BY grouping(product), 1 LIMIT 7$$);
SELECT try($$SELECT count(*) FROM sales GROUP BY GROUPING SETS ((), ())$$);
SELECT try($$SELECT country, count(*), max(amount) FROM sales WHERE country = 'XX' GROUP BY GROUPING SETS ((), (country))$$);
SELECT try($$SELECT country, upper(country) || 'x', coalesce(country, 'all'), count(*) FROM sales WHERE at >= '2024-02-01' GROUP BY ROLLUP (country)$$);
SELECT try($$SELECT country, count(*), grouping(country) FROM sales GROUP BY country$$);
SELECT try($$SELECT country, product, extract(year FROM at), count(*) FROM sales GROUP BY ROLLUP (1, 2), CUBE (3, 1)$$);
SELECT try($$SELECT country, product, count(*) FROM sales GROUP BY DISTINCT ROLLUP (1, 2), ROLLUP (1, 2)$$);
SELECT try($$SELECT 1 AS one, country, count(*) FROM sales GROUP BY ROLLUP (1, 2)$$);
SELECT try($$SELECT country, count(DISTINCT n) FROM sales GROUP BY ROLLUP (1)$$);
SELECT try($$SELECT DISTINCT country, count(*) FROM sales GROUP BY ROLLUP (country, product)$$);
SELECT try($$SELECT DISTINCT country, product FROM sales WHERE country = 'DE' AND product < 3 GROUP BY CUBE (1, 2)$$);
SELECT try($$SELECT g.country, x FROM (SELECT country, sum(amount) AS x FROM sales GROUP BY ROLLUP (1)) g JOIN (VALUES ('DE')) v ON v.column1 = g.country$$);

-- aggregates of distinct keys
SELECT try($$SELECT count(DISTINCT country), count(DISTINCT product), sum(DISTINCT product), avg(DISTINCT product % 3), count(DISTINCT date_trunc('year', at)) FROM sales$$);
SELECT try($$SELECT country, count(DISTINCT product), count(DISTINCT at::date), max(DISTINCT product), sum(amount) FROM sales GROUP BY 1$$);
SELECT try($$SELECT country, count(DISTINCT product), count(DISTINCT to_char(at, 'YYYY')) FROM sales GROUP BY 1$$);
SELECT try($$SELECT date_trunc('month', at), country, product, count(DISTINCT product), count(DISTINCT country) FROM sales GROUP BY 1, 2, 3$$);
SELECT try($$SELECT country, product, count(DISTINCT product), sum(DISTINCT extract(year FROM at)) FROM sales GROUP BY CUBE (1, 2)$$);
SELECT try($$SELECT DISTINCT product, country FROM sales$$);
SELECT try($$SELECT count(*) FROM (SELECT DISTINCT product, country FROM sales WHERE country IS NOT NULL) x$$);
SELECT try($$SELECT min(at) FROM sales$$);
SELECT try($$SELECT max(product), min(country), min(date_trunc('quarter', at)), max(product * 2) FROM sales WHERE product < 5$$);

-- the same query in other words
SELECT try($$SELECT sum(amount) FROM sales WHERE at BETWEEN '2024-02-01' AND '2024-04-30 23:59:59.999999'$$);
SELECT try($$SELECT sum(amount) FROM sales WHERE '2024-02-01' <= at AND '2024-05-01' > at AND 3 < product$$);
SELECT try($$SELECT sum(amount) FROM sales WHERE NOT (at < '2024-02-01' OR at >= '2024-05-01')$$);
SELECT try($$SELECT to_char(at, 'YYYY-MM'), sum(amount) FROM sales WHERE to_char(at, 'YYYY') = '2024' GROUP BY 1$$);
SELECT try($$SELECT to_char(date_trunc('month', at), 'YYYY-MM-DD HH24:MI'), sum(amount) FROM sales GROUP BY 1$$);
SELECT try($$SELECT to_char(at, 'YYYY-MM-DD'), sum(amount) FROM sales GROUP BY 1$$);
SELECT try($$SELECT date_part('month', at), date_part('year', at), sum(amount) FROM sales GROUP BY 1, 2$$);
SELECT try($$SELECT date_trunc('MONTH', at), sum(amount) FROM sales GROUP BY 1$$);
SELECT try($$SELECT date_trunc('months', at)::timestamptz, country::text, sum(amount) FROM sales GROUP BY 1, 2$$);
SELECT try($$SELECT date_trunc('month', at)::date, sum((amount)::numeric(10,2)) FROM sales WHERE country::text = 'DE'::varchar GROUP BY 1$$);
SELECT try($$SELECT country || '-' || product, sum(amount) FROM sales GROUP BY country, product$$);
SELECT try($$SELECT sum(amount) / count(*), avg(amount), sum(amount) FILTER (WHERE true) FROM sales WHERE country IN ('DE') OR country = ANY ('{FR,IT}')$$);
SELECT try($$SELECT CASE WHEN product IN (1, 2) THEN 'a' ELSE 'b' END AS class, sum(amount) FROM sales GROUP BY 1$$);
SELECT try($$SELECT sum(amount) FROM sales WHERE date_trunc('year', at) IN ('2024-01-01', '2025-01-01') AND extract(quarter FROM at) < 3$$);
SELECT try($$SELECT sum(amount) FROM ONLY sales$$);
SELECT try($$SELECT s.country, sum(s.amount) FROM public.sales AS s GROUP BY s.country$$);

-- conditions that say the same of all rows
PREPARE told(bool) AS SELECT country, sum(amount) FROM sales WHERE $1 GROUP BY 1 ORDER BY 1;
SELECT try($$SELECT country, sum(amount) FROM sales WHERE EXISTS (SELECT 1) GROUP BY 1$$);
SELECT try($$SELECT country, sum(amount) FROM sales WHERE now() > '2024-01-01' AND at >= '2024-01-20' GROUP BY 1$$);
SELECT try($$SELECT country, sum(amount) FROM sales WHERE now() < '2024-01-01' AND at >= '2024-01-20' GROUP BY 1$$);
SELECT try($$SELECT count(*) FROM sales WHERE EXISTS (SELECT 1 FROM pg_class WHERE relname = 'nothing')$$);
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF) EXECUTE told(true);
EXECUTE told(true);
EXECUTE told(false);
RESET plan_cache_mode;
DEALLOCATE told;

-- where parallel plans are cheap; cursors; what a query feeds
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT try($$SELECT country, sum(amount) FROM sales GROUP BY 1$$);
SELECT try($$SELECT country, product, count(*) FROM sales GROUP BY ROLLUP (1, 2)$$);
SELECT try($$SELECT s.id, x.total FROM sales s JOIN (SELECT country, sum(amount) AS total FROM sales GROUP BY 1) x USING (country) WHERE s.n = 3$$);
SELECT try($$SELECT country, sum(amount) FROM sales WHERE at >= '2024-01-20' GROUP BY 1$$);
SELECT try($$SELECT n, sum(amount) FROM sales GROUP BY 1$$);
CREATE TABLE copied AS SELECT country, product, sum(amount) AS s, grouping(product) AS g FROM sales GROUP BY ROLLUP (1, 2);
INSERT INTO copied SELECT country, product, sum(amount), grouping(product) FROM sales GROUP BY ROLLUP (1, 2);
SET scalecache.enable_rewrite = off;
SELECT count(*) FROM (SELECT country, product, sum(amount), grouping(product) FROM sales GROUP BY ROLLUP (1, 2)
	EXCEPT ALL SELECT * FROM copied) x;
SELECT count(*), count(DISTINCT (country, product, s, g)) FROM copied;
SET scalecache.enable_rewrite = on;
CREATE MATERIALIZED VIEW kept AS SELECT country, product, sum(amount) AS s FROM sales GROUP BY 1, 2;
INSERT INTO sales VALUES (50000, '2024-03-03', NULL, 'ES', 1, 1, 100);
REFRESH MATERIALIZED VIEW kept;
SELECT * FROM kept WHERE country = 'ES';
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT country, sum(amount), grouping(country) FROM sales GROUP BY ROLLUP (1) ORDER BY 3, 1;
DECLARE h CURSOR WITH HOLD FOR SELECT country, count(DISTINCT product) FROM sales GROUP BY 1 ORDER BY 1;
FETCH 2 FROM c;
-- it does not see this
INSERT INTO sales VALUES (50001, '2024-03-03', NULL, 'ES', 1, 1, 100);
FETCH FROM c;
FETCH BACKWARD 1 FROM c;
MOVE LAST FROM c;
FETCH PRIOR FROM c;
COMMIT;
FETCH ALL FROM h;
CLOSE h;
SELECT country, sum(amount) FROM sales WHERE country = 'ES' GROUP BY 1;

DROP TABLE sales CASCADE;
DROP TABLE copied;
DROP FUNCTION answer, rows_of, try;
DROP EXTENSION scalecache;
