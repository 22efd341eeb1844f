-- Ranges of time that begin or end inside a bucket.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
SET TimeZone = 'Europe/Berlin';
SET scalecache.enable_rewrite = on;
SET max_parallel_workers_per_gather = 0;
SET compute_query_id = off;
CREATE TABLE orders (id int, created_at timestamptz, local timestamp, country text, amount numeric(10,2), n int, f float8)
	PARTITION BY RANGE (id);
CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (0) TO (12000);
CREATE TABLE orders_2 PARTITION OF orders FOR VALUES FROM (12000) TO (100000);
INSERT INTO orders
SELECT i, '2023-11-01'::timestamptz + i * interval '43 minutes', timestamp '2024-01-01' + i * interval '31 minutes',
	(array['DE', 'FR', 'IT', NULL])[1 + i % 4], i % 1000, nullif(i % 10, 7), i / 7.0
FROM generate_series(1, 24000) i;
INSERT INTO orders VALUES (50000, 'infinity', 'infinity', 'DE', 1, 1, 1), (50001, '-infinity', '-infinity', 'DE', 1, 1, 1),
	(50002, NULL, NULL, 'FR', 3, 3, 3);
CREATE INDEX ON orders (created_at);
CREATE INDEX ON orders (local);
ANALYZE orders;

\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /rewrite_helper.sql
\set ECHO none
\i :helper
\set ECHO all

SELECT scalecache.create_rollup('monthly', $$
	SELECT date_trunc('month', created_at) AS month, country, sum(amount) AS s, count(*) AS c, min(n) AS lo, max(amount) AS hi,
		sum(f) AS f, count(n) FILTER (WHERE amount > 500) AS few, avg(n) AS a, count(DISTINCT n) AS d
	FROM orders GROUP BY 1, 2 $$);
-- at both ends, at one, without a whole bucket
SELECT try($$SELECT country, sum(amount), count(*) FROM orders WHERE created_at >= '2024-01-13' AND created_at < '2024-09-20 12:00' GROUP BY 1$$);
SELECT try($$SELECT country, sum(amount), count(*) FROM orders WHERE created_at > '2024-01-31 13:00' AND created_at <= '2024-10-01' GROUP BY 1$$);
SELECT try($$SELECT country, sum(amount), count(*) FROM orders WHERE created_at >= '2024-01-31 13:00' GROUP BY 1$$);
SELECT try($$SELECT sum(amount), count(*) FROM orders WHERE created_at < '2025-01-10'$$);
SELECT try($$SELECT count(*) FROM orders WHERE created_at >= '2023-11-30' AND created_at <= '2024-11-01 00:00'$$);
SELECT try($$SELECT country, sum(amount), count(*) FROM orders WHERE created_at BETWEEN '2024-02-03' AND '2024-02-05' GROUP BY 1$$);
-- everything that is added up
SELECT try($$SELECT country, avg(amount), avg(n), sum(f), min(n), max(amount), count(n) FILTER (WHERE amount > 500),
	max(date_trunc('month', created_at)), min(country) FROM orders
	WHERE created_at >= '2024-01-30' AND created_at < '2024-12-02' GROUP BY 1 HAVING count(*) > 3 ORDER BY 2 LIMIT 3$$);
SELECT try($$SELECT date_trunc('year', created_at), upper(country), sum(amount) FROM orders
	WHERE created_at >= '2023-12-31' AND created_at < '2024-12-02' AND country > 'DE' GROUP BY 1, 2$$);
SELECT try($$SELECT DISTINCT date_trunc('month', created_at) FROM orders WHERE created_at >= '2023-12-31' AND created_at < '2024-12-02'$$);
SELECT try($$SELECT date_trunc('month', created_at), country, sum(amount) FROM orders
	WHERE created_at >= '2023-12-31' AND created_at < '2024-12-02' GROUP BY 1, 2$$);
-- what cannot be added up; what is cheaper from the table
SELECT try($$SELECT date_trunc('month', created_at), country, count(DISTINCT n) FROM orders WHERE created_at >= '2023-12-31' GROUP BY 1, 2$$);
SELECT try($$SELECT date_trunc('month', created_at), country, count(DISTINCT n) FROM orders WHERE created_at >= '2023-12-01' GROUP BY 1, 2$$);
SELECT reason FROM scalecache.explain_rewrite($$SELECT date_trunc('month', created_at), country, count(DISTINCT n)
	FROM orders WHERE created_at >= '2023-12-31' GROUP BY 1, 2$$);
SELECT reason ~ 'not cheaper' FROM scalecache.explain_rewrite($$SELECT count(*) FROM orders WHERE created_at BETWEEN '2024-02-03' AND '2024-02-05'$$);
-- bounds that are known later
SELECT try($$SELECT country, sum(amount) FROM orders WHERE created_at >= date '2024-01-13' AND created_at < timestamp '2024-09-20 12:00' GROUP BY 1$$);
SELECT try($$SELECT country, sum(amount) FROM orders WHERE created_at >= now() - now() + '2024-01-13'::timestamptz GROUP BY 1$$);
SELECT try($$SELECT country, sum(amount) FROM orders WHERE created_at >= (SELECT '2024-01-13'::timestamptz + g * interval '1 hour'
	FROM generate_series(1, 1) g) GROUP BY 1$$);
SELECT try($$SELECT g, x.* FROM generate_series(0, 5) g, LATERAL (SELECT sum(amount), count(*) FROM orders
	WHERE created_at >= '2024-01-01'::timestamptz + g * interval '15 days' AND created_at < '2024-12-05'::timestamptz - g * interval '1 month') x$$);
SET plan_cache_mode = force_generic_plan;
PREPARE p(timestamptz, timestamptz) AS SELECT country, sum(amount), count(*), min(n) FROM orders WHERE created_at >= $1 AND created_at <= $2 GROUP BY 1;
EXPLAIN (COSTS OFF) EXECUTE p(NULL, NULL);
PREPARE e(timestamptz, timestamptz) AS SELECT date_trunc('month', created_at), country, count(DISTINCT n) FROM orders
	WHERE created_at >= $1 AND created_at < $2 GROUP BY 1, 2;
SET scalecache.enable_rewrite = off;
PREPARE p2(timestamptz, timestamptz) AS SELECT country, sum(amount), count(*), min(n) FROM orders WHERE created_at >= $1 AND created_at <= $2 GROUP BY 1;
PREPARE e2(timestamptz, timestamptz) AS SELECT date_trunc('month', created_at), country, count(DISTINCT n) FROM orders
	WHERE created_at >= $1 AND created_at < $2 GROUP BY 1, 2;
EXPLAIN (COSTS OFF) EXECUTE p2(NULL, NULL);
EXPLAIN (COSTS OFF) EXECUTE e2(NULL, NULL);
SET scalecache.enable_rewrite = on;
CREATE FUNCTION try_with(p text, lo text, hi text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	query text := format('EXECUTE %s(%L, %L)', p, lo, hi);
	line text;
	used text := 'not used';
	a text[] := '{}';
	b text[] := '{}';
	r record;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || query LOOP
		IF line ~ 'Answered From' THEN
			used := substring(line FROM 'Answered From: (.*)');
		ELSIF line ~ 'Rows Added' THEN
			used := used || ',' || substring(line FROM ' *Rows Added.*');
		END IF;
	END LOOP;
	FOR r IN EXECUTE query LOOP a := a || r::text; END LOOP;
	FOR r IN EXECUTE format('EXECUTE %s2(%L, %L)', p, lo, hi) LOOP b := b || r::text; END LOOP;
	RETURN CASE WHEN a @> b AND b @> a AND cardinality(a) = cardinality(b) THEN '' ELSE 'WRONG ROWS, ' END || used;
END $$;
SELECT lo, hi, try_with('p', lo, hi) FROM (VALUES ('2024-01-13', '2024-09-20 12:00'), ('2024-02-01', '2024-02-29 23:59:59.999999'),
	('2024-02-03', '2024-02-05'), ('2024-12-01', '2024-02-05'), ('2024-02-01', '2024-03-01'), ('1900-01-01', '2100-01-01'),
	('-infinity', '2024-03-01'), ('2024-03-05', 'infinity'), ('infinity', '-infinity'), (NULL, '2024-01-05'), ('2024-01-05', NULL),
	('4714-11-24 00:00:00+00 BC', '294276-12-31 23:59:59.999999')) v (lo, hi);
SELECT lo, hi, try_with('e', lo, hi) FROM (VALUES ('2024-01-13', '2024-09-20 12:00'), ('2024-02-01', '2024-04-01')) v (lo, hi);
RESET plan_cache_mode;
DEALLOCATE ALL;

-- own writes beyond the edges, and in whole buckets; an extreme that goes
BEGIN;
INSERT INTO orders VALUES (60000, '2024-01-20', NULL, 'XX', 77, 5, 1), (60001, '2024-01-12', NULL, 'XX', 77, 5, 1), (60002, '2024-05-05', NULL, 'XX', 77, 5, 1);
UPDATE orders SET created_at = '2024-03-20' WHERE created_at BETWEEN '2024-09-18' AND '2024-09-22';
SELECT try($$SELECT country, sum(amount), count(*), min(n) FROM orders WHERE created_at >= '2024-01-13' AND created_at < '2024-09-20 12:00' GROUP BY 1$$);
DELETE FROM orders WHERE n = 0 AND created_at < '2024-05-05';
SELECT try($$SELECT country, sum(amount), count(*), min(n) FROM orders WHERE created_at >= '2024-01-13' AND created_at < '2024-09-20 12:00' GROUP BY 1$$);
ROLLBACK;
-- another session's time zone
SET TimeZone = 'America/New_York';
SELECT try($$SELECT country, sum(amount), count(*) FROM orders WHERE created_at >= '2024-01-01' AND created_at < '2024-10-01' GROUP BY 1$$);
SELECT try($$SELECT date_trunc('month', created_at, 'Europe/Berlin'), sum(amount) FROM orders WHERE created_at >= '2024-01-01' AND created_at < '2024-10-01' GROUP BY 1$$);
SET TimeZone = 'Europe/Berlin';
DROP VIEW monthly;

-- clocks that are set: days and hours of instants and of local time
CREATE TABLE ticks (at timestamptz, n int);
INSERT INTO ticks SELECT s + i * interval '10 seconds', i FROM generate_series(timestamptz '2024-03-30', '2024-10-26', '210 days') s, generate_series(0, 25000) i;
CREATE INDEX ON ticks (at);
ANALYZE ticks;
CREATE FUNCTION try_ranges() RETURNS TABLE (lo text, hi text, answer text) LANGUAGE sql AS $$
	SELECT lo, hi, try(format('SELECT sum(n), count(*) FROM ticks WHERE at >= %L AND at < %L', lo, hi))
	FROM (VALUES ('2024-03-31 01:30', '2024-10-27 01:10+02'), ('2024-03-31 01:00', '2024-10-27 02:00+01'), ('2024-03-30 23:00', '2024-10-27 02:30+02'),
		('2024-03-31 00:59', '2024-10-27 02:30+01'), ('2024-03-31', '2024-10-28'), ('2024-03-31', '2024-10-27'), ('2024-04-01', '2024-10-27 03:00')) v (lo, hi);
$$;
SELECT scalecache.create_rollup('ticked', $$SELECT date_trunc('hour', at) AS h, sum(n) AS s FROM ticks GROUP BY 1$$);
SELECT * FROM try_ranges();
DROP VIEW ticked;
SELECT scalecache.create_rollup('ticked', $$SELECT date_trunc('hour', at AT TIME ZONE 'Europe/Berlin') AS h, sum(n) AS s FROM ticks GROUP BY 1$$);
SELECT * FROM try_ranges();
DROP VIEW ticked;
SELECT scalecache.create_rollup('ticked', $$SELECT at::date AS d, sum(n) AS s FROM ticks GROUP BY 1$$);
SELECT * FROM try_ranges();
DROP TABLE ticks CASCADE;
SELECT scalecache.create_rollup('by_day', $$SELECT created_at::date AS d, date_trunc('week', local) AS h, sum(amount) AS s FROM orders GROUP BY 1, 2$$);
SELECT try($$SELECT count(*), sum(amount) FROM orders WHERE local >= '2024-02-02 02:02' AND local < '2024-12-12 12:12' AND created_at >= '2024-02-02 02:02'$$);
DROP VIEW by_day;

-- An edge parts the instants as it parts the buckets.
SELECT zone, unit, count(*) FILTER (WHERE (x >= e) <> (date_trunc(unit, x, zone) >= e)) AS wrong,
	count(*) FILTER (WHERE up AND e < t OR NOT up AND e > t) AS misplaced, max(abs(extract(epoch FROM e) - extract(epoch FROM t)) / 86400)::int AS days
FROM unnest(ARRAY['Europe/Berlin', 'Australia/Lord_Howe', 'America/Sao_Paulo', 'Asia/Beirut', 'Africa/Casablanca', 'Pacific/Apia', 'UTC']) zone,
	unnest(ARRAY['hour', 'day', 'week', 'month', 'year']) unit,
	unnest(ARRAY[true, false]) up,
	generate_series(timestamptz '2011-01-01', '2011-12-31', '5 hours 11 minutes') t,
	scalecache.bucket_edge(t, unit, zone, false, false, up) e,
	LATERAL (SELECT e + i * interval '29 minutes' AS x FROM generate_series(-3, 3) i) y
GROUP BY 1, 2 ORDER BY 1, 2;
SELECT scalecache.bucket_edge(timestamptz 'now', 'fortnight', 'UTC', false, false, true);
SELECT scalecache.bucket_edge(timestamptz 'now', 'day', 'Nowhere', false, false, true);
SELECT scalecache.bucket_edge(timestamp '2024-02-03', u, false, true), scalecache.bucket_edge(timestamp '2024-02-03', u, false, false)
FROM unnest(ARRAY['second', 'minute', 'hour', 'day', 'week', 'month', 'quarter', 'year', 'decade', 'century', 'millennium']) u;

-- An hour that was cut in two when clocks were set back at a minute past midnight: of its rows some are of 11 p.m.
SET TimeZone = 'America/St_Johns';
CREATE TABLE late AS SELECT timestamptz '2010-11-07 00:00 UTC' + i % 40 * interval '10 minutes' AS at, i AS n FROM generate_series(1, 4000) i;
ANALYZE late;
SELECT scalecache.create_rollup('late_hours', 'SELECT date_trunc(''hour'', at) AS h, sum(n) AS s FROM late GROUP BY 1');
SELECT try($$SELECT date_trunc('hour', at), sum(n) FROM late GROUP BY 1$$);
SELECT try($$SELECT date_trunc('hour', at), sum(n) FROM late WHERE extract(hour FROM at) = 23 GROUP BY 1$$);
SELECT try($$SELECT sum(n) FROM late WHERE at AT TIME ZONE 'America/St_Johns' < '2010-11-07'$$);
DROP TABLE late CASCADE;

DROP TABLE orders CASCADE;
DROP FUNCTION answer, rows_of, try, try_with, try_ranges;
DROP EXTENSION scalecache;
