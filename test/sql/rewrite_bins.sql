-- date_bin: as keys, of finer buckets, and ranges of bins.
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

CREATE TABLE binned (at timestamptz, local timestamp, v int);
INSERT INTO binned SELECT timestamptz '2024-10-20 UTC' + i * interval '171 seconds', timestamp '1999-12-20' + i * interval '171 seconds', i % 100 FROM generate_series(1, 15000) i;
INSERT INTO binned VALUES ('infinity', '-infinity', 1), (NULL, NULL, 2), ('1960-01-01 UTC', '1960-01-01', 3), ('1960-01-01 00:07:31.25 UTC', '1960-01-01 00:07:31.25', 4);
ANALYZE binned;

-- bins of instants, of a quarter of an hour
SELECT scalecache.create_rollup('by_bin', $$SELECT date_bin('15 minutes', at, timestamptz '2000-01-01 UTC') AS b, sum(v) AS s, count(*) AS c FROM binned GROUP BY 1$$);
SELECT * FROM try_all('SELECT %s, sum(v), count(*) FROM binned GROUP BY 1', $$date_bin('15 minutes', at, timestamptz '2000-01-01 UTC')$$, $$date_bin('15 minutes', at, timestamptz '2024-01-01 00:45 UTC')$$,
	$$date_bin('30 minutes', at, timestamptz '2024-01-01 00:45 UTC')$$, $$date_bin('1 day', at, timestamptz '2024-01-01 Europe/Berlin')$$, $$date_bin('20 minutes', at, timestamptz '2000-01-01 UTC')$$,
	$$date_bin('15 minutes', at, timestamptz '2000-01-01 00:05 UTC')$$, $$date_trunc('hour', at, 'UTC')$$, $$date_trunc('month', at, 'UTC')$$, $$date_trunc('minute', at, 'UTC')$$, $$date_trunc('day', at)$$,
	$$extract(dow FROM at AT TIME ZONE 'UTC')$$, $$(at AT TIME ZONE 'UTC')::date$$, $$to_char(at AT TIME ZONE 'UTC', 'HH24')$$, $$to_char(at AT TIME ZONE 'UTC', 'HH24:MI')$$, $$date_bin('7 days', at, timestamptz '2000-01-03 UTC')$$);
SELECT * FROM try_all('SELECT sum(v), count(*) FROM binned WHERE %s', $$at >= '2024-10-27 02:30+02' AND at < '2024-10-27 02:30+01'$$, $$at >= '2024-10-27 02:31+02'$$, $$at > '2024-10-27 02:30+02'$$,
	$$at < '1960-01-01 UTC'$$, $$at <= '1960-01-01 UTC'$$, $$date_bin('1 hour', at, timestamptz '2000-01-01 UTC') >= '2024-10-27 12:00 UTC'$$, $$(at AT TIME ZONE 'UTC')::date >= '2024-10-27'$$, $$at IS NULL$$, $$at >= '2024-10-27'::date$$,
	$$at::date >= '2024-10-27'$$);
SET plan_cache_mode = force_generic_plan;
PREPARE since(timestamptz) AS SELECT sum(v), count(*) FROM binned WHERE at >= $1 AND at < $1 + interval '1 hour';
SET enable_bitmapscan = off;	-- it shows a number of blocks
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE since('2024-10-27 02:30+02');
EXECUTE since('2024-10-27 02:30+02');
EXECUTE since('2024-10-27 02:31:07+02');
EXECUTE since('infinity');
SET scalecache.enable_rewrite = off;
EXECUTE since('2024-10-27 02:30+02');
EXECUTE since('2024-10-27 02:31:07+02');
EXECUTE since('infinity');
SET scalecache.enable_rewrite = on;
RESET plan_cache_mode;
DEALLOCATE since;
DROP VIEW by_bin;

-- of local times, with an origin of their own
SELECT scalecache.create_rollup('by_bin', $$SELECT date_bin('12 hours', local, timestamp '2000-01-01 06:00') AS b, sum(v) AS s, count(*) AS c FROM binned GROUP BY 1$$);
SELECT * FROM try_all('SELECT %s, sum(v), count(*) FROM binned GROUP BY 1', $$date_bin('12 hours', local, timestamp '2000-01-01 06:00')$$, $$date_bin('1 day', local, timestamp '2000-01-01 18:00')$$, $$date_bin('1 day', local, timestamp '2000-01-01')$$,
	$$local::date$$, $$date_trunc('year', local)$$);
SELECT * FROM try_all('SELECT sum(v), count(*) FROM binned WHERE %s', $$local >= '1999-12-25 06:00'$$, $$local < '2000-01-01 18:00'$$, $$local >= '1999-12-25 07:00'$$, $$local <= '1960-01-01'$$);
DROP VIEW by_bin;

-- bins made of units
SELECT scalecache.create_rollup('by_hour', $$SELECT date_trunc('hour', local) AS h, sum(v) AS s, count(*) AS c FROM binned GROUP BY 1$$);
SELECT scalecache.create_rollup('utc_day', $$SELECT date_trunc('day', at, 'UTC') AS d, sum(v) AS s, count(*) AS c FROM binned GROUP BY 1$$);
SELECT scalecache.create_rollup('zone_day', $$SELECT date_trunc('day', at) AS d, max(v) AS m, sum(v) AS s FROM binned GROUP BY 1$$);
SELECT * FROM try_all('SELECT %s, sum(v), count(*) FROM binned GROUP BY 1', $$date_bin('6 hours', local, timestamp '2020-02-02 05:00')$$, $$date_bin('90 minutes', local, timestamp '2000-01-01')$$, $$date_bin('1 hour', local, timestamp '2000-01-01 00:30')$$,
	$$date_bin('1 day', at, timestamptz '2000-01-01 UTC')$$, $$date_bin('7 days', at, timestamptz '2024-10-21 UTC')$$, $$date_bin('7 days', at, timestamptz '2024-10-21 12:00 UTC')$$, $$date_bin('1 day', at AT TIME ZONE 'UTC', timestamp '2000-01-01')$$);
SELECT * FROM try_all('SELECT %s, max(v) FROM binned GROUP BY 1', $$date_bin('1 day', at AT TIME ZONE 'Europe/Berlin', timestamp '2000-01-01')$$, $$date_bin('1 day', at, timestamptz '2000-01-01 Europe/Berlin')$$);
DROP VIEW by_hour, utc_day, zone_day;
-- weeks start on Mondays
SELECT scalecache.create_rollup('by_week', $$SELECT date_trunc('week', local) AS w, sum(v) AS s FROM binned GROUP BY 1$$);
SELECT * FROM try_all('SELECT %s, sum(v) FROM binned GROUP BY 1', $$date_bin('14 days', local, timestamp '1999-12-20')$$, $$date_bin('7 days', local, timestamp '2000-01-01')$$);
DROP VIEW by_week;
-- intervals that no bin is of
SELECT scalecache.bucket_edge(timestamp '2024-01-01', 'bin 0 0', false, true);
SELECT scalecache.bucket_edge(timestamp '2024-01-01', 'bin -5', false, true);
SELECT scalecache.bucket_edge(timestamp '2024-01-01 00:00:01', 'bin 900000000 0', false, true);
-- hours of a zone whose clocks are never set, in joins too
SET timezone = 'UTC';
CREATE TABLE labels (v int, label text);
INSERT INTO labels SELECT i, 'l' || i % 3 FROM generate_series(0, 99) i;
ANALYZE labels;
SELECT scalecache.create_rollup('hours', $$SELECT date_trunc('hour', at) AS h, v % 10 AS v, count(*) AS c FROM binned GROUP BY 1, 2$$);
EXPLAIN (COSTS OFF) SELECT at::date, count(*) FROM binned WHERE at::date > '2024-10-26' GROUP BY 1;
SELECT * FROM try_all('SELECT %s, count(*) FROM binned GROUP BY 1', $$at::date$$, $$date_trunc('day', at)$$, $$extract(hour FROM at)$$, $$date_bin('2 hours', at, '2000-01-01')$$);
SELECT * FROM try_all('SELECT count(*) FROM binned WHERE %s', $$at::timestamp >= '2024-10-26 13:00' AND at::timestamp < '2024-10-28 01:00'$$, $$at::timestamp > '2024-10-26 13:00'$$,
	$$at::timestamp >= '2024-10-26 13:30'$$, $$at::date <= '2024-10-26' AND at::timestamp >= '2024-10-25 07:00'$$);
SELECT try($$SELECT l.label, at::date, count(*) FROM binned b JOIN labels l ON l.v = b.v % 10 GROUP BY 1, 2$$);
SET timezone = 'Asia/Kolkata';
SELECT scalecache.create_rollup('hours_of', $$SELECT date_trunc('hour', at) AS h, v % 10 AS v, count(*) AS c FROM binned GROUP BY 1, 2$$);
SELECT * FROM try_all('SELECT %s, count(*) FROM binned GROUP BY 1', $$at::date$$, $$date_bin('2 hours', at, '2000-01-01')$$, $$date_bin('2 hours', at, '2000-01-01 UTC')$$);
DROP TABLE binned, labels CASCADE;
DROP FUNCTION try_all, answer, rows_of, try;
DROP EXTENSION scalecache;
