-- Buckets of columns that are dates, and buckets that are kept as dates.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
SET scalecache.enable_rewrite = on;
SET max_parallel_workers_per_gather = 0;
SET timezone = 'Europe/Berlin';

\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /rewrite_helper.sql
\set ECHO none
\i :helper
CREATE FUNCTION try_all(template text, VARIADIC parts text[]) RETURNS TABLE (query text, answered text) LANGUAGE sql AS
	$$ SELECT p, try(format(template, p)) FROM unnest(parts) p $$;
\set ECHO all

CREATE TABLE dated (id int, day date, at timestamptz, local timestamp, amount int);
INSERT INTO dated SELECT i, nullif(date '2023-11-20' + i % 500, '2024-02-02'), timestamptz '2023-11-20 UTC' + i * interval '47 minutes',
	timestamp '2023-11-20' + i * interval '53 minutes', i % 100 FROM generate_series(1, 15000) i;
INSERT INTO dated VALUES (0, 'infinity', 'infinity', 'infinity', 1), (0, '-infinity', '-infinity', '-infinity', 2), (0, '4713-11-30 BC', NULL, NULL, 3);
ANALYZE dated;

-- a column that is a date
SELECT scalecache.create_rollup('by_month', $$SELECT date_trunc('month', day) AS month, sum(amount) AS s, count(*) AS c FROM dated GROUP BY 1$$);
SELECT * FROM try_all('SELECT %s, sum(amount) FROM dated GROUP BY 1', $$date_trunc('month', day)$$, $$date_trunc('year', day)$$, $$extract(year FROM day)$$, $$extract(month FROM day)$$,
	$$extract(quarter FROM day)$$, $$to_char(day, 'YYYY-MM')$$, $$date_trunc('month', day)::date$$, $$date_part('year', day)$$, $$extract(day FROM day)$$, $$extract(week FROM day)$$, $$day$$,
	$$date_trunc('month', day::timestamp)$$, $$extract(century FROM day)$$, $$extract(epoch FROM day)$$, $$extract(isoyear FROM day)$$);
SELECT * FROM try_all('SELECT sum(amount), count(*) FROM dated WHERE %s', $$day >= '2024-01-01'$$, $$day > '2023-12-31'$$, $$day < '2024-03-01'$$, $$day <= '2024-02-29'$$,
	$$day BETWEEN '2024-01-01' AND '2024-03-31'$$, $$day >= date '2024-01-01' AND day < date '2024-01-01' + interval '3 months'$$, $$day > timestamp '2023-12-31 12:00'$$,
	$$day <= timestamp '2024-02-29'$$, $$day <= timestamp '2024-03-01 00:00:00.000001'$$, $$day < timestamp '2024-02-29 00:00:01'$$, $$day = '2024-01-01'$$, $$day = timestamp '2024-01-01 00:01'$$,
	$$day >= '2024-01-02'$$, $$day IS NULL$$, $$day IS NOT NULL AND day < '2024-02-01'$$, $$day >= 'infinity'$$, $$day < 'infinity' AND day > '-infinity'$$, $$day >= '5874897-12-31'$$, $$day < '4713-12-31 BC'$$,
	$$extract(year FROM day) = 2024$$, $$(day >= '2024-02-01' OR day IS NULL)$$, $$(day > '2024-02-01' OR day IS NULL)$$, $$NOT day < '2024-02-01'$$, $$day >= timestamptz '2024-02-01'$$);
SELECT * FROM try_all('SELECT sum(amount) FILTER (WHERE %s) FROM dated', $$day >= '2024-01-01'$$, $$day <= '2024-01-31'$$, $$day <= '2024-02-01'$$);
SET plan_cache_mode = force_generic_plan;
PREPARE between_days(date, date) AS SELECT sum(amount), count(*) FROM dated WHERE day >= $1 AND day <= $2;
PREPARE some_months(date, int) AS SELECT sum(amount), count(*) FROM dated WHERE day >= $1 AND day < $1 + $2 * interval '1 month';
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE between_days('2024-01-01', '2024-02-29');
EXECUTE between_days('2024-01-01', '2024-02-29');
EXECUTE between_days('2024-01-02', '2024-02-28');
EXECUTE between_days('-infinity', 'infinity');
EXECUTE some_months('2024-01-01', 2);
EXECUTE some_months('2024-01-15', 2);
SET scalecache.enable_rewrite = off;
EXECUTE between_days('2024-01-01', '2024-02-29');
EXECUTE between_days('2024-01-02', '2024-02-28');
EXECUTE between_days('-infinity', 'infinity');
EXECUTE some_months('2024-01-01', 2);
EXECUTE some_months('2024-01-15', 2);
SET scalecache.enable_rewrite = on;
RESET plan_cache_mode;
DEALLOCATE ALL;
-- without the session's zone, too, where nothing depends on it
SET timezone = 'Asia/Tokyo';
SELECT * FROM try_all('SELECT %s, sum(amount) FROM dated GROUP BY 1', $$extract(year FROM day)$$, $$date_trunc('month', day)$$);
SELECT * FROM try_all('SELECT sum(amount) FROM dated WHERE %s', $$day >= '2024-01-01'$$, $$day <= '2024-02-29'$$);
SET timezone = 'Europe/Berlin';
DROP VIEW by_month;

-- of local times, without a zone
SELECT scalecache.create_rollup('by_month', $$SELECT date_trunc('month', day::timestamp) AS month, sum(amount) AS s, count(*) AS c FROM dated GROUP BY 1$$);
SELECT * FROM try_all('SELECT %s, sum(amount) FROM dated GROUP BY 1', $$extract(year FROM day)$$, $$date_trunc('month', day)$$, $$date_trunc('year', day::timestamp)$$);
SELECT * FROM try_all('SELECT sum(amount) FROM dated WHERE %s', $$day >= '2024-01-01' AND day <= '2024-02-29'$$, $$day > '2024-01-01'$$);
DROP VIEW by_month;

-- months, weeks and years that are kept as dates
SELECT scalecache.create_rollup('at_month', $$SELECT date_trunc('month', at)::date AS month, sum(amount) AS s, count(*) AS c FROM dated GROUP BY 1$$);
SELECT scalecache.create_rollup('local_week', $$SELECT date_trunc('week', local)::date AS week, sum(amount) AS s, count(*) AS c FROM dated GROUP BY 1$$);
SELECT scalecache.create_rollup('day_year', $$SELECT date_trunc('year', day)::date AS year, sum(amount) AS s, count(*) AS c FROM dated GROUP BY 1$$);
SELECT * FROM try_all('SELECT %s, sum(amount), count(*) FROM dated GROUP BY 1', $$date_trunc('month', at)::date$$, $$date_trunc('month', at)$$, $$date_trunc('year', at)::date$$, $$extract(year FROM at)$$,
	$$to_char(at, 'YYYY-MM')$$, $$extract(quarter FROM at::date)$$, $$date_trunc('month', at::timestamp)$$, $$at::date$$, $$date_trunc('week', at)::date$$, $$date_trunc('quarter', date_trunc('month', at))$$,
	$$extract(day FROM date_trunc('month', at))$$, $$date_trunc('week', local)::date$$, $$date_trunc('week', local)$$, $$to_char(local, 'IYYY-IW')$$, $$date_trunc('month', local)$$, $$local::date$$,
	$$extract(isoyear FROM local::date)$$, $$extract(year FROM local::date)$$, $$date_trunc('year', day)::date$$, $$extract(year FROM day)$$, $$extract(decade FROM day)$$, $$date_trunc('month', day)$$);
SELECT * FROM try_all('SELECT sum(amount), count(*) FROM dated WHERE %s', $$at >= '2024-01-01'$$, $$at >= '2024-01-01 00:00:01'$$, $$at::date <= '2024-03-31'$$, $$at < '2024-04-01' AND at >= '2024-03-15'$$,
	$$at::timestamp < '2024-04-01'$$, $$date_trunc('month', at) >= '2024-02-01'$$, $$date_trunc('month', at)::date > '2024-02-01'$$, $$at IS NULL$$, $$local >= '2024-01-01'$$, $$local >= '2024-01-02'$$,
	$$local::date <= '2024-01-07'$$, $$date_trunc('week', local)::date BETWEEN '2024-01-01' AND '2024-02-01'$$, $$day < '2025-01-01'$$, $$day <= '2024-12-31'$$, $$day <= '2025-01-01'$$);
SET plan_cache_mode = force_generic_plan;
PREPARE since(timestamptz) AS SELECT sum(amount), count(*) FROM dated WHERE at >= $1;
EXECUTE since('2024-03-01');
EXECUTE since('2024-03-31 12:00');
SET scalecache.enable_rewrite = off;
EXECUTE since('2024-03-01');
EXECUTE since('2024-03-31 12:00');
SET scalecache.enable_rewrite = on;
RESET plan_cache_mode;
DEALLOCATE since;
DROP TABLE dated CASCADE;

-- where midnight comes twice, or not at all, and where a day does not come
SET timezone = 'America/Havana';
CREATE TABLE days (day date, at timestamptz, v int);
INSERT INTO days SELECT c + i / 6, c + i * interval '4 hours', i FROM unnest(array['2022-03-13', '2022-11-06', '1994-12-31']::date[]) c, generate_series(-600, 600, 3) i, generate_series(1, 9);
ANALYZE days;
SELECT scalecache.create_rollup('months', $$SELECT date_trunc('month', day) AS m, sum(v) AS s, count(*) AS c FROM days GROUP BY 1$$);
SELECT scalecache.create_rollup('weeks', $$SELECT date_trunc('week', at)::date AS m, sum(v) AS s, count(*) AS c FROM days GROUP BY 1$$);
SET seq_page_cost = 100;
SET cpu_tuple_cost = 1;
CREATE VIEW tries AS SELECT t.how, count(*) FROM unnest(array['2022-03-12', '2022-03-13', '2022-03-14', '2022-11-05', '2022-11-06', '2022-11-07', '2022-04-01', '2022-10-31', '1994-12-30', '1994-12-31', '1995-01-01', '1995-01-02']) d,
	unnest(array['day', 'at', 'at::date', 'at::timestamp', 'date_trunc(''month'', day)', 'extract(year FROM day) = 1994 AND day']) time, unnest(array['>=', '>', '<=', '<', '=']) op,
	LATERAL (SELECT regexp_replace(regexp_replace(try(format('SELECT sum(v), count(*) FROM days WHERE %s %s %L', time, op, d)), 'Rows Added.*', 'ragged'), '.*(WRONG ROWS|not used).*', '\1') AS how) t GROUP BY 1 ORDER BY 1;
SELECT * FROM tries;
DROP VIEW months, weeks;
SET timezone = 'Pacific/Kiritimati';
SELECT scalecache.create_rollup('months', $$SELECT date_trunc('month', day) AS m, sum(v) AS s, count(*) AS c FROM days GROUP BY 1$$);
SELECT scalecache.create_rollup('weeks', $$SELECT date_trunc('week', at)::date AS m, sum(v) AS s, count(*) AS c FROM days GROUP BY 1$$);
SELECT * FROM tries WHERE how ~ 'WRONG';
SELECT try($$SELECT extract(year FROM day), sum(v) FROM days GROUP BY 1$$);
RESET seq_page_cost;
RESET cpu_tuple_cost;
DROP TABLE days CASCADE;
DROP VIEW tries;
DROP FUNCTION try_all, answer, rows_of, try;
DROP EXTENSION scalecache;
