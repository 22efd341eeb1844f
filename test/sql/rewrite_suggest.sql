-- Rollups a workload would gain from.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
SET TimeZone = 'Europe/Berlin';
SET scalecache.enable_rewrite = on;
CREATE TABLE orders (id bigint PRIMARY KEY, created_at timestamptz NOT NULL, country text,
	amount numeric(10,2), n int, customer int, about json);
INSERT INTO orders
SELECT i, '2024-01-01'::timestamptz + i * interval '10 minutes', (array['DE', 'FR', 'IT', NULL])[1 + i % 4],
	i % 1000, i % 10, i
FROM generate_series(1, 50000) i;
ANALYZE orders;
SET client_min_messages = notice;
CREATE FUNCTION gains(queries text[], weights float8[] DEFAULT NULL)
RETURNS TABLE (rank int, ddl text, source regclass, gains boolean) LANGUAGE sql AS $$
	SELECT rank, ddl, source, cost_after < cost_before / 5 AND size_bytes > 0 AND write_cost > 0
	FROM scalecache.suggest_rollups(queries, weights)
$$;

-- one at day level for three queries, another for other keys
SELECT * FROM gains(ARRAY[
	'SELECT date_trunc(''month'', created_at), sum(amount) FROM orders GROUP BY 1',
	'SELECT extract(year FROM created_at), country, avg(amount) FROM orders GROUP BY 1, 2',
	'SELECT country, count(*) FROM orders WHERE created_at >= ''2024-02-01'' AND created_at < ''2024-03-01'' GROUP BY 1',
	'SELECT n, max(amount) FROM orders WHERE country = $1 GROUP BY 1'],
	ARRAY[100, 10, 5, 1]);
-- nothing to gain, nothing that a rollup could keep, nothing that can be planned
SELECT * FROM gains(ARRAY[
	'SELECT customer, sum(amount) FROM orders GROUP BY 1',
	'SELECT country, string_agg(country, '','') FROM orders GROUP BY 1',
	'SELECT about::text, count(*) FROM orders WHERE random() < 1 GROUP BY 1',
	'SELECT * FROM orders WHERE id = 3',
	'SELECT nonsense', 'VACUUM', 'SELECT 1; SELECT 2']);
-- of a date, which is its own day
CREATE TABLE shipped (id int, day date, at timestamptz, price numeric(10,2));
INSERT INTO shipped SELECT i, '2023-01-01'::date + i % 700, '2023-01-01'::timestamptz + i * interval '40 minutes', i % 100 FROM generate_series(1, 40000) i;
ANALYZE shipped;
SELECT * FROM gains(ARRAY[
	'SELECT date_trunc(''month'', day), sum(price) FROM shipped GROUP BY 1',
	'SELECT extract(year FROM day), count(*) FROM shipped GROUP BY 1',
	'SELECT to_char(day, ''YYYY-MM''), max(price) FROM shipped WHERE day >= date ''2023-03-01'' AND day < date ''2023-03-01'' + interval ''1 year'' GROUP BY 1',
	'SELECT sum(price) FROM shipped WHERE day BETWEEN ''2023-02-01'' AND ''2023-02-11''']);
SELECT * FROM gains(ARRAY['SELECT extract(year FROM at::date), sum(price) FROM shipped GROUP BY 1']);
DROP TABLE shipped;
-- sets of keys, and keys alone
SELECT * FROM gains(ARRAY['SELECT country, n, sum(amount), grouping(n) FROM orders GROUP BY ROLLUP (country, n)']);
SELECT * FROM gains(ARRAY['SELECT country, n, count(*) FROM orders GROUP BY GROUPING SETS ((country), (n), ())',
	'SELECT DISTINCT country FROM orders', 'SELECT DISTINCT n, count(*) FROM orders WHERE country = ''DE'' GROUP BY n']);
SELECT * FROM gains(ARRAY['SELECT DISTINCT country FROM orders WHERE created_at >= ''2024-02-01'' ORDER BY 1']);
SELECT * FROM gains(ARRAY['SELECT DISTINCT ON (country) country, id FROM orders', 'SELECT DISTINCT customer FROM orders']);
-- inside other queries; hours
SELECT * FROM gains(ARRAY['WITH x AS (SELECT date_trunc(''hour'', created_at) AS h, count(*) FROM orders
	GROUP BY 1) SELECT * FROM x ORDER BY 1']);
-- inside statements that run them, as the recorded workload may have them
SELECT ddl, gains FROM gains(ARRAY['PREPARE p(text) AS SELECT n, sum(amount) FROM orders WHERE country = $1 GROUP BY 1',
	'DECLARE c CURSOR FOR SELECT country, max(amount) FROM orders GROUP BY 1',
	'CREATE TABLE copied AS SELECT country, n, count(*) FROM orders GROUP BY 1, 2', 'EXECUTE p(''DE'')']);
-- the statement it gives is accepted, and the rollup is used
SELECT ddl FROM gains(ARRAY['SELECT date_trunc(''month'', created_at), sum(amount) FROM orders GROUP BY 1']) \gexec
SELECT rollup, used FROM scalecache.explain_rewrite('SELECT date_trunc(''month'', created_at), sum(amount) FROM orders GROUP BY 1');
SELECT count(*) FROM gains(ARRAY['SELECT date_trunc(''month'', created_at), sum(amount) FROM orders GROUP BY 1'])
WHERE ddl LIKE '%orders_rollup_2%';
-- nor is a guess of its size a reason for another one like it
CREATE TABLE visits AS SELECT i AS id, i % 7 AS shop, i % 1000 AS amount FROM generate_series(1, 30000) i;
ANALYZE visits;
SELECT scalecache.create_rollup('visits_shops', 'SELECT shop, max(amount) AS most FROM visits GROUP BY 1');
SELECT ddl FROM scalecache.suggest_rollups(ARRAY['SELECT shop, max(amount) FROM visits GROUP BY 1']);
DROP TABLE visits CASCADE;
SELECT count(*) >= 0 FROM scalecache.suggest_rollups();
SELECT * FROM scalecache.suggest_rollups('{}');
SELECT * FROM scalecache.suggest_rollups(ARRAY['SELECT 1'], ARRAY[1, 2]);
SELECT * FROM scalecache.suggest_rollups(ARRAY['SELECT 1'], ARRAY[-1]);
SELECT * FROM scalecache.suggest_rollups(ARRAY['SELECT 1'], ARRAY['Infinity'::float8]);
SELECT * FROM scalecache.suggest_rollups(ARRAY['SELECT 1', NULL]);
SELECT * FROM scalecache.suggest_rollups(NULL, ARRAY[1]);

-- nothing of tables one may not read, or does not own
CREATE ROLE sc_stranger;
SET ROLE sc_stranger;
SELECT * FROM scalecache.suggest_rollups(ARRAY['SELECT country, sum(amount) FROM orders GROUP BY 1']);
RESET ROLE;
DROP ROLE sc_stranger;
SET client_min_messages = warning;
DROP TABLE orders CASCADE;
DROP FUNCTION gains;
DROP EXTENSION scalecache;
