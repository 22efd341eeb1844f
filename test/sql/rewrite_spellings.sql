-- Many ways to say the same.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
SET TimeZone = 'Europe/Berlin';
SET scalecache.enable_rewrite = on;
SET max_parallel_workers_per_gather = 0;
SET compute_query_id = off;
CREATE TABLE spelled (id int, at timestamptz NOT NULL, local timestamp, state varchar(9), paid bool, amount numeric(10,2), n int, b bigint, f float8,
	i interval, day date);
INSERT INTO spelled
SELECT i, '2023-11-01'::timestamptz + i * interval '29 minutes', timestamp '2023-11-01' + i * interval '29 minutes', (array['new', 'paid', NULL])[1 + i % 3],
	nullif(i % 3, 2) = 1, nullif(i % 1000, 7) / 4.0, nullif(i % 10, 7), i, nullif(i % 7, 3), nullif(i % 5, 2) * interval '1 hour', date '2023-11-01' + i % 300
FROM generate_series(1, 20000) i;
INSERT INTO spelled VALUES (30000, 'infinity', 'infinity', 'new', true, 1, 1, 1, 1, '1 hour', 'infinity'), (30001, '-infinity', '-infinity', 'new', true, 1, 1, 1, 'NaN', '1 hour', '-infinity'),
	(30002, '2024-02-02', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), (30003, '0044-03-15 12:00 BC', '0044-03-15 12:00 BC', 'new', true, 1, 1, 1, 1, NULL, NULL);
ANALYZE spelled;

\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /rewrite_helper.sql
\set ECHO none
\i :helper
\set ECHO all

SELECT scalecache.create_rollup('monthly', $$ SELECT date_trunc('month', at) AS month, state, paid, sum(amount) AS s, max(amount) AS hi,
	count(*) AS c, avg(n) AS a, sum(f) AS f, sum(i) AS i, bool_or(amount > 3) AS o, bit_or(b) AS bits, sum(n) FILTER (WHERE n > 2) AS few, string_agg(state, ',') AS l
	FROM spelled GROUP BY 1, 2, 3 $$);
SELECT scalecache.create_rollup('local', 'SELECT date_trunc(''month'', local) AS month, sum(amount) AS s FROM spelled GROUP BY 1');
SELECT scalecache.create_rollup('partial_days', 'SELECT state, sum(amount) AS s FROM spelled WHERE n > 3 AND day < ''2024-03-01'' AND b > 0 GROUP BY 1');
CREATE FUNCTION try_all(from_what text, VARIADIC queries text[]) RETURNS TABLE (query text, answered text) LANGUAGE sql AS
	$$ SELECT q, try(format(from_what, q)) FROM unnest(queries) WITH ORDINALITY AS u (q, n) ORDER BY n $$;

-- ranges of dates, of days and of local times: of whole months, and not
SELECT * FROM try_all('SELECT sum(amount), count(*) FROM spelled WHERE %s',
	$$at::date >= '2024-02-01'$$, $$at::date > '2024-02-17'$$, $$at::date < '2024-05-01'$$, $$'2024-04-30' >= at::date$$, $$at::date = '2024-05-01'$$,
	$$date(at) BETWEEN '2024-02-01' AND '2024-04-30'$$, $$date_trunc('day', at) >= '2024-02-01'$$, $$date_trunc('day', at) > '2024-02-29'$$,
	$$date_trunc('day', at) <= '2024-02-29 13:00'$$, $$date_trunc('day', at) < '2024-02-29 13:00'$$, $$date_trunc('week', at) >= '2024-04-01'$$, $$date_trunc('week', at) > '2024-04-03'$$,
	$$date_trunc('day', at) BETWEEN '2024-02-03' AND '2024-04-30'$$, $$date_trunc('week', at) = '2024-04-01'$$, $$date_trunc('hour', at) > '2024-02-29'$$,
	$$at::timestamp >= '2024-02-01'$$, $$at AT TIME ZONE 'Europe/Berlin' < date '2024-02-15'$$, $$at::date > date 'infinity' - 1$$, $$at::date < date '-infinity'$$,
	$$at::date >= current_date - current_date + date '2024-02-01'$$, $$at::date = (SELECT date '2024-05-01')$$,
	$$local::date > '2024-02-29'$$, $$date_trunc('hour', local) >= '2024-02-29 22:30'$$, $$local::date <= '2024-02-28'$$, $$local::date BETWEEN '2024-02-01' AND '2024-02-29'$$);
-- where they can only be on an edge
SELECT * FROM try_all('SELECT sum(amount), count(*) FROM spelled WHERE %s',
	$$at < '2024-02-01' OR at >= '2024-05-01'$$, $$NOT (at >= '2024-02-01' AND at < '2024-05-01')$$, $$(state = 'new' AND at >= '2024-02-01') OR (paid AND at::date <= '2024-04-30')$$,
	$$state = 'new' OR at > '2024-02-01'$$, $$at::date NOT BETWEEN '2024-02-01' AND '2024-04-30'$$, $$(at >= '2024-02-01') IS NOT TRUE$$,
	$$state = 'new' OR at >= (SELECT timestamptz '2024-02-01')$$, $$state = 'new' OR at >= (SELECT timestamptz '2024-02-03')$$,
	$$(state = 'new' OR at >= '2024-03-01') AND at >= '2024-02-03'$$, $$(local < '2024-02-01' OR local >= '2024-05-01')$$);
SELECT * FROM try_all('SELECT state, %s FROM spelled GROUP BY 1',
	$$sum(amount) FILTER (WHERE at >= '2024-03-01')$$, $$sum(amount) FILTER (WHERE at::date < '2024-03-01'), count(*) FILTER (WHERE at < '2024-02-01')$$,
	$$sum(CASE WHEN at < '2024-02-01' THEN amount WHEN at < '2024-05-01' THEN 0 END)$$, $$count(*) FILTER (WHERE at >= (SELECT timestamptz '2024-02-01'))$$,
	$$sum(amount) FILTER (WHERE at >= now() - now() + '2024-02-01'::timestamptz)$$, $$sum(amount) FILTER (WHERE at >= '2024-03-02')$$);
SELECT try('SELECT at >= ''2024-02-01'', sum(amount) FROM spelled GROUP BY 1');
PREPARE edge(timestamptz) AS SELECT state, count(*) FILTER (WHERE at < $1) AS c FROM spelled WHERE at >= $1 - interval '1 year' GROUP BY 1 ORDER BY 1;
SET plan_cache_mode = force_generic_plan;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE edge('2025-01-01');
EXECUTE edge('2024-12-01');
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE edge('2024-12-03');
EXECUTE edge('2024-12-03');
EXECUTE edge(NULL);
RESET plan_cache_mode;
-- nulls
SELECT * FROM try_all('SELECT sum(amount), count(*) FROM spelled WHERE %s',
	$$at IS NOT NULL$$, $$at IS NOT NULL AND at >= '2024-02-01'$$, $$at IS NULL OR state = 'new'$$, $$local IS NOT NULL AND local >= '2024-02-01'$$, $$local IS NULL$$, $$local::date IS NULL$$);
-- formats
SELECT * FROM try_all('SELECT %s, sum(amount) FROM spelled GROUP BY 1',
	$$to_char(at, 'YYYY-"Q"Q')$$, $$to_char(at, 'YYYY "the \"DD\" one" MM')$$, $$to_char(at, 'YYYY "DD')$$, $$to_char(at, 'DD "DD"')$$, $$to_char(at, 'YYYY BC, Y,YYY YYY Y CC Q RM')$$,
	$$to_char(at, 'YYYY HH AM')$$, $$to_char(at, 'IYY I')$$, $$to_char(at, 'YYYY MS')$$, $$to_char(local, 'TMMonth AD YYYY')$$, $$to_char(at, 'YYYY \Q')$$);
-- casts that change nothing
SELECT * FROM try_all('SELECT %s FROM spelled GROUP BY state',
	'state, sum(amount::numeric), avg(amount::numeric), max(amount::numeric)', 'state::text', 'sum(amount::numeric(10,1))', 'count(n::int), avg(n::int)');
-- counts of what other states count
SELECT * FROM try_all('SELECT state, %s FROM spelled GROUP BY state', 'count(amount)', 'count(n)', 'count(f)', 'count(i)', 'count(amount > 3)', 'count(b)', 'count(n) FILTER (WHERE n > 2)',
	'count(day)', 'count(n) FILTER (WHERE paid)', 'count(CASE WHEN paid THEN amount END)', 'sum(amount) / nullif(count(amount), 0) = avg(amount)', 'count(DISTINCT n)');
SELECT try('SELECT count(n), count(f), count(amount), count(i) FROM spelled WHERE at >= ''2024-02-03''');
-- conditions that imply the rollup's
SELECT * FROM try_all('SELECT state, sum(amount) FROM spelled WHERE %s GROUP BY 1',
	$$n >= 4 AND day <= '2024-02-29' AND b >= 1$$, $$3 < n AND '2024-02-29' >= day AND 1 <= b$$, $$n > 4 AND day < '2024-03-01' AND b > 0$$, $$n >= 4::bigint AND day < '2024-03-01' AND b > 0::smallint$$,
	$$n >= 3 AND day < '2024-03-01' AND b > 0$$, $$n > 3 AND day <= '2024-03-01' AND b > 0$$, $$n > 3 AND day < '2024-03-01' AND b > -1$$);
SELECT query, answered = 'not used' AS table FROM try_all('SELECT count(*) FROM spelled WHERE %s', 'b > 9223372036854775807', 'n < -2147483648', $$day > 'infinity'$$, $$day < '-infinity'$$);
-- what cannot be added up, of one group of the rollup
SELECT * FROM try_all('SELECT string_agg(state, '','') FROM spelled WHERE %s GROUP BY date_trunc(''month'', at)',
	$$state = 'new' AND paid$$, $$state = 'new' AND NOT paid$$, $$state IS NULL AND paid IS UNKNOWN$$, $$state = 'new' AND paid IS TRUE$$, $$state = 'new' AND paid IS NOT TRUE$$,
	$$state = 'new' AND paid IS FALSE$$, $$state = 'new' AND paid IS NOT NULL$$);

-- where midnight comes twice, or not at all
SET TimeZone = 'America/Havana';
CREATE TABLE clocks (at timestamptz, v int);
INSERT INTO clocks SELECT c + i * interval '10 min', i FROM unnest(array['2022-03-13', '2022-11-06']::timestamptz[]) c, generate_series(-500, 500) i, generate_series(1, 9);
ANALYZE clocks;
SELECT scalecache.create_rollup('clocks_month', 'SELECT date_trunc(''month'', at) AS m, sum(v) AS s FROM clocks GROUP BY 1');
SELECT scalecache.create_rollup('clocks_day', 'SELECT at::date AS m, sum(v) AS s FROM clocks GROUP BY 1');
SET seq_page_cost = 100;
SET cpu_tuple_cost = 1;
SELECT r = 'not used' AS table, r ~ 'WRONG' AS wrong, count(*) FROM (SELECT try(format('SELECT sum(v), count(*) FROM clocks WHERE %s %s %L', time, op,
		t::timestamptz)) AS r
	FROM unnest(array['2022-03-12 23:30', '2022-03-13 00:00', '2022-03-13 00:30', '2022-03-13 01:00', '2022-03-14', '2022-11-05 23:00',
		'2022-11-05 23:30', '2022-11-06', '2022-11-06 00:30', '2022-11-07', '2022-12-01 00:00', '2022-12-01 00:00:00.000001']) t,
	unnest(array['at', 'at::timestamp', 'at::date', 'date_trunc(''day'', at)', 'date_trunc(''week'', at)']) time,
	unnest(array['>=', '>', '<=', '<', '=']) op) x GROUP BY 1, 2 ORDER BY 1, 2;
-- the first of two midnights, which is no start of a day
SELECT scalecache.drop_rollup('clocks_day');
SELECT scalecache.create_rollup('clocks_week', 'SELECT date_trunc(''week'', at) AS w, sum(v) AS s FROM clocks GROUP BY 1');
SELECT DISTINCT try(format('SELECT sum(v), count(*) FROM clocks WHERE date_trunc(''day'', at) %s %L', op, timestamptz '2022-11-06 04:00 UTC' + i * interval '30 min')) ~ 'WRONG' AS wrong
	FROM unnest(array['>=', '>', '<=', '<', '=']) op, generate_series(-4, 4) i;
RESET seq_page_cost;
RESET cpu_tuple_cost;
DROP TABLE clocks CASCADE;

DROP TABLE spelled CASCADE;
DROP FUNCTION try_all, answer, rows_of, try;
DROP EXTENSION scalecache;
