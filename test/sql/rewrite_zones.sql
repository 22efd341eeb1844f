-- The ends of a range of time, read by zones of the table.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
SET TimeZone = 'UTC';
SET max_parallel_workers_per_gather = 0;
SET compute_query_id = off;

\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /rewrite_helper.sql
\set ECHO none
\i :helper
\set ECHO all
-- The rows are the same, and zones were passed over, or learned.
CREATE FUNCTION zones(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
	result text := 'no zones';
	skipped int := 0;
	learned int := 0;
BEGIN
	SET LOCAL scalecache.enable_rewrite = on;
	FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || query LOOP
		skipped := skipped + coalesce(substring(line FROM 'Blocks Skipped: (\d+)')::int, 0);
		learned := learned + coalesce(substring(line FROM 'Blocks Learned: (\d+)')::int, 0);
		IF line ~ 'ScaleCacheZones' THEN
			result := 'zones';
		END IF;
	END LOOP;
	RETURN result || CASE WHEN learned > 0 THEN ', learned' ELSE '' END || CASE WHEN skipped > 0 THEN ', skipped' ELSE '' END ||
		', ' || try(query);
END $$;

CREATE TABLE events (id serial, pad text, at timestamptz, local timestamp, v int);
INSERT INTO events (pad, at, local, v) SELECT repeat('x', 700), timestamptz '2024-01-01' + i * interval '131 minutes',
	timestamp '2023-01-01' + i * interval '131 minutes', i FROM generate_series(1, 8000) i;
SELECT scalecache.create_rollup('events_by_month', 'SELECT date_trunc(''month'', at) AS m, sum(v) AS s, count(*) AS n FROM events GROUP BY 1');
SELECT scalecache.create_rollup('events_local', 'SELECT date_trunc(''month'', local) AS m, sum(v) AS s, count(*) AS n FROM events GROUP BY 1');
ANALYZE events;
-- one end, the other, both; and a column without time zone
SELECT zones($$SELECT count(*), sum(v) FROM events WHERE at >= '2024-05-01' AND at < '2024-08-16'$$);
SELECT zones($$SELECT count(*), sum(v) FROM events WHERE at >= '2024-05-13' AND at < '2024-08-01'$$);
SELECT zones($$SELECT count(*), sum(v) FROM events WHERE at >= '2024-05-13' AND at < '2024-08-16'$$);
SELECT zones($$SELECT count(*), sum(v) FROM events WHERE at > '2024-05-13' AND at <= date '2024-08-16'$$);
SELECT zones($$SELECT count(*), sum(v) FROM events WHERE at BETWEEN '2024-05-13' AND '2024-05-16'$$);
SELECT zones($$SELECT count(*), sum(v) FROM events WHERE at < '2024-05-16'$$);
SELECT zones($$SELECT date_trunc('month', local), count(*), sum(v) FROM events WHERE local >= '2023-02-11' AND local < '2023-05-05' GROUP BY 1$$);
SELECT zones($$SELECT date_trunc('month', local), count(*), sum(v) FROM events WHERE local >= '2023-02-11' AND local < '2023-05-05' GROUP BY 1$$);
-- bounds that are known at execution only
SET plan_cache_mode = force_generic_plan;
PREPARE p(timestamptz, timestamptz) AS SELECT count(*), sum(v) FROM events WHERE at >= $1 AND at < $2;
SET scalecache.enable_rewrite = on;
EXPLAIN (COSTS OFF) EXECUTE p('2024-05-13', '2024-08-16');
EXECUTE p('2024-05-13', '2024-08-16');
EXECUTE p('2024-05-13', NULL);
EXECUTE p('2024-05-13', 'infinity');
RESET plan_cache_mode;
-- what comes by COPY, is infinite or NULL, and a column that came later
COPY events (id, at, local, v) FROM STDIN;
10001	2024-08-11	2023-05-03	1
10002	\N	\N	1
10003	infinity	-infinity	1
\.
SELECT zones($$SELECT count(*), sum(v) FROM events WHERE at >= '2024-05-01' AND at < '2024-08-16'$$);
-- a row that came while nothing was captured, into a zone that is known for other times
SELECT zones($$SELECT count(*), sum(v) FROM events WHERE at >= '2024-05-01 12:00' AND at < '2024-08-01'$$);
ALTER TABLE events DISABLE TRIGGER USER;
INSERT INTO events (at, local, v) VALUES ('2024-05-02', '2023-05-02', 100000);
SELECT scalecache.rebuild_rollup('events_by_month'), scalecache.rebuild_rollup('events_local');
SELECT zones($$SELECT count(*), sum(v) FROM events WHERE at >= '2024-05-01 12:00' AND at < '2024-08-01'$$);
SELECT zones($$SELECT count(*), sum(v) FROM events WHERE at >= '2025-05-05'$$);
SELECT zones($$SELECT date_trunc('month', local), count(*), sum(v) FROM events WHERE local < '2023-05-05' GROUP BY 1$$);
ALTER TABLE events ADD more timestamptz DEFAULT '2030-03-03';
ANALYZE events;
SELECT scalecache.create_rollup('events_more', 'SELECT date_trunc(''year'', more) AS y, sum(v) AS s FROM events GROUP BY 1');
SELECT zones($$SELECT sum(v) FROM events WHERE more < '2030-06-01'$$);
SELECT zones($$SELECT sum(v) FROM events WHERE more < '2030-02-01'$$);
-- in a join
CREATE TABLE names (v int, name text);
INSERT INTO names SELECT i, 'name ' || i % 3 FROM generate_series(1, 40) i;
SELECT scalecache.create_rollup('events_joined', 'SELECT date_trunc(''month'', at) AS m, v % 40 AS w, count(*) AS n FROM events GROUP BY 1, 2');
SELECT zones($$SELECT n.name, count(*) FROM events e JOIN names n ON n.v = e.v % 40 WHERE at >= '2024-05-01' AND at < '2024-08-16' GROUP BY 1$$);
SELECT zones($$SELECT n.name, count(*) FROM events e JOIN names n ON n.v = e.v % 40 WHERE at >= '2024-05-01' AND at < '2024-08-16' GROUP BY 1$$);
-- own changes, and not while they are made
BEGIN;
UPDATE events SET at = '2024-08-12' WHERE id = 8000;
SELECT zones($$SELECT count(*), sum(v) FROM events WHERE at >= '2024-05-01' AND at < '2024-08-16'$$);
ROLLBACK;
-- another file, and none; no map is made by a transaction that may yet abort with an epoch of its own
VACUUM FULL events;
BEGIN;
SELECT pg_current_xact_id() IS NULL AS none;
SELECT zones($$SELECT count(*), sum(v) FROM events WHERE at >= '2024-05-01' AND at < '2024-08-16'$$);
SELECT scalecache.rebuild_rollup('events_by_month');
SELECT zones($$SELECT count(*), sum(v) FROM events WHERE at >= '2024-05-01' AND at < '2024-08-16'$$);
ROLLBACK;
SELECT zones($$SELECT count(*), sum(v) FROM events WHERE at >= '2024-05-01' AND at < '2024-08-16'$$);
TRUNCATE events;
SELECT zones($$SELECT count(*), sum(v) FROM events WHERE at >= '2024-05-01' AND at < '2024-08-16'$$);
-- nothing for a column with an index
CREATE INDEX ON events (at);
SELECT zones($$SELECT count(*), sum(v) FROM events WHERE at >= '2024-05-01' AND at < '2024-08-16'$$);
DROP TABLE events CASCADE;

-- Partitions have maps of their own; one comes, goes, and comes again.
CREATE TABLE parts (at timestamptz, v int, pad text) PARTITION BY LIST (v);
CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE part2 (gone int, pad text, v int, at timestamptz);
ALTER TABLE part2 DROP gone;
ALTER TABLE parts ATTACH PARTITION part2 FOR VALUES IN (2);
INSERT INTO parts SELECT timestamptz '2024-01-01' + i * interval '131 minutes', 1 + i % 2, repeat('x', 700) FROM generate_series(1, 8000) i;
SELECT scalecache.create_rollup('parts_by_month', 'SELECT date_trunc(''month'', at) AS m, sum(v) AS s, count(*) AS n FROM parts GROUP BY 1');
ANALYZE parts;
SELECT zones($$SELECT count(*), sum(v) FROM parts WHERE at >= '2024-05-01' AND at < '2024-08-16'$$);
SELECT zones($$SELECT count(*), sum(v) FROM parts WHERE at >= '2024-05-01' AND at < '2024-08-16'$$);
INSERT INTO parts VALUES ('2024-08-12', 2, '');
COPY parts FROM STDIN;
2024-08-12	1	x
2024-08-12	2	x
\.
UPDATE parts SET v = 3 - v WHERE at >= '2024-08-01' AND at < '2024-08-03';
SELECT zones($$SELECT count(*), sum(v) FROM parts WHERE at >= '2024-05-01' AND at < '2024-08-16'$$);
ALTER TABLE parts DETACH PARTITION part2;
INSERT INTO part2 (at, v) VALUES ('2024-08-12', 2);
SELECT zones($$SELECT count(*), sum(v) FROM parts WHERE at >= '2024-05-01' AND at < '2024-08-16'$$);
ALTER TABLE parts ATTACH PARTITION part2 FOR VALUES IN (2);
SELECT zones($$SELECT count(*), sum(v) FROM parts WHERE at >= '2024-05-01' AND at < '2024-08-16'$$);
SELECT zones($$SELECT count(*), sum(v) FROM parts WHERE at >= '2024-05-01' AND at < '2024-08-16'$$);
-- the same of one that is empty when it goes and comes
TRUNCATE part2;
SELECT zones($$SELECT count(*), sum(v) FROM parts WHERE at >= '2024-05-01' AND at < '2024-08-16'$$);
SELECT scalecache.verify_rollup('parts_by_month');
DROP TABLE parts CASCADE;
DROP FUNCTION zones;
DROP TABLE names CASCADE;
DROP FUNCTION try, answer, rows_of;
DROP EXTENSION scalecache;
