-- Sums, averages and counts of what follows from sums that a rollup keeps.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
SET scalecache.enable_rewrite = on;
SET compute_query_id = off;
CREATE TABLE lines (id int, kind int, at timestamptz, s smallint, i int, b bigint, n numeric(12,2), free numeric, m int NOT NULL, price numeric(8,3) NOT NULL);
INSERT INTO lines
SELECT i, i % 7, '2024-01-01'::timestamptz + i * interval '1 hour', nullif(i % 100 - 50, 0), nullif(i * 1000, 5000000), i * 1000000000000,
	CASE WHEN i % 1000 = 7 THEN 'NaN' WHEN i % 5 = 0 THEN NULL ELSE i / 7.0 END, i / 3.0, i, i / 11.0
FROM generate_series(1, 20000) i;
-- what is as large as its type allows
INSERT INTO lines VALUES (-1, 8, '2024-01-02', -32768, -2147483648, -9223372036854775807, -9999999999.99, 1e1000, -2147483648, 99999.999),
	(-2, 8, '2024-01-02', 32767, 2147483647, 9223372036854775807, 9999999999.99, 1e-1000, 2147483647, 0.001), (-3, 9, '2024-01-02', NULL, NULL, NULL, NULL, NULL, 0, 0);
CREATE INDEX ON lines (at);
VACUUM ANALYZE lines;

\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /rewrite_helper.sql
\set ECHO none
\i :helper
\set ECHO all

SELECT scalecache.create_rollup('by_kind', $$
	SELECT kind, date_trunc('month', at) AS month, sum(s) AS s, avg(i) AS i, sum(b) AS b, sum(n) AS n, sum(free) AS free, sum(m) AS m, sum(price) AS price,
		sum(m * price) AS worth, sum(n) FILTER (WHERE i > 5) AS few
	FROM lines GROUP BY 1, 2 $$);
INSERT INTO lines SELECT i, i % 8, '2024-02-01', i, i, i, i / 3.0, i, i, i FROM generate_series(1, 30) i;
DELETE FROM lines WHERE id % 1000 = 7 AND kind < 3;

-- steps that cannot fail
SELECT try('SELECT kind, sum(i::bigint), avg(i::bigint), sum(s::int), avg(s::bigint), sum(i::numeric), avg(i::numeric), count(i::bigint) FROM lines GROUP BY 1');
SELECT try('SELECT kind, sum(i::bigint * 2), sum(-i::bigint), avg(i::bigint * -3 + 7), sum(2 * s), sum(s - 5), avg(7 - s * 100), sum(+s::int) FROM lines GROUP BY 1');
SELECT try('SELECT kind, sum(n * 2), sum(-n), sum(n * 1.190), avg(n * 1.19 - 0.5), sum(1.5 - n), sum(n + n * 0.1), sum(n - n), sum(n * 0), sum(n * 2.50 - n * 2.50) FROM lines GROUP BY 1');
SELECT try('SELECT kind, sum(i * 1.19), sum(i / 1.0), avg(i - 0.25), sum(s * 2.5 + 1), count(s * 2.5 + 1), count(n * 2), sum(b * 1.5), avg(b::numeric * 3) FROM lines GROUP BY 1');
SELECT try('SELECT kind, sum(i * 1.19), avg(i - 0.25), sum(s * 2.5 + 1), count(s * 2.5 + 1), count(n * 2), sum(b * 1.5), avg(b::numeric * 3) FROM lines GROUP BY 1');
SELECT try('SELECT sum(n * 2) FILTER (WHERE i > 5), avg(n + 1) FILTER (WHERE i > 5), sum(n) FROM lines');
SELECT try('SELECT kind, sum(m * price), sum(price * 1.25), count(price * 2) FROM lines GROUP BY 1');
-- of several columns, if none of them can be null
SELECT try('SELECT kind, sum(m - price), avg(price * 2 + m::bigint - 7) FROM lines GROUP BY 1');
SELECT try('SELECT kind, sum(i - n) FROM lines GROUP BY 1');
-- a group of the query is one of the rollup; none; sets; a range with ragged ends
SELECT try($$SELECT kind, date_trunc('month', at), sum(i::bigint * 2), avg(n * 1.5) FROM lines GROUP BY 1, 2$$);
SELECT try('SELECT sum(n * 2), avg(s - 1), count(n + 1) FROM lines WHERE kind = 100');
SELECT try('SELECT kind, sum(n * 2), avg(s * 3) FROM lines GROUP BY CUBE (1) HAVING sum(-n) < 0');
SELECT try($$SELECT kind, sum(n * 2), avg(s * 3), sum(price - 1) FROM lines WHERE at >= '2024-02-03' AND at < '2025-01-17' GROUP BY 1$$);
SELECT answer('SELECT kind, sum(n * 2) FROM lines WHERE kind = 8 GROUP BY 1', 'on by_kind');

-- of some groups only
SELECT answer('SELECT sum(n * 2) FILTER (WHERE kind > 3), avg(s - 1) FILTER (WHERE kind = 2), sum(n * 2), count(n * 3) FILTER (WHERE kind IN (1, 5)) FROM lines', 'From: rollup');
SELECT answer($$SELECT kind % 2, sum(i * 1.19) FILTER (WHERE kind <> 8 AND at >= '2024-03-01'), avg(i::bigint * 2) FILTER (WHERE i > 5) FROM lines GROUP BY 1$$, 'From: rollup');
SELECT answer($$SELECT kind % 2, sum(n * 2) FILTER (WHERE i > 5), sum(n * 2) FILTER (WHERE kind > 1) FROM lines WHERE at >= '2024-02-03' GROUP BY 1$$, 'From: rollup');

-- steps that can fail, which the plain query has to take for each row; and what is not exact
SELECT try('SELECT sum(i * 2) FROM lines WHERE kind <> 8');
SELECT sum(i * 2) FROM lines WHERE kind = 8;
SELECT try('SELECT sum(-i) FROM lines WHERE kind <> 8');
SELECT sum(-i) FROM lines WHERE kind = 8;
SELECT try('SELECT sum(-s) FROM lines WHERE kind <> 8');
SELECT -sum(s), sum(-s) FROM lines WHERE kind = 8;
SELECT try('SELECT sum(s * 100000) FROM lines WHERE kind <> 8');
SELECT try('SELECT sum(m * 2) FROM lines WHERE kind <> 8');
SELECT try('SELECT sum(b + 1) FROM lines WHERE kind <> 8');
SELECT try('SELECT sum(free * 2) FROM lines WHERE kind <> 8');
SELECT try('SELECT sum(n / 3) FROM lines WHERE kind <> 8');
SELECT try('SELECT sum(n::numeric(12,1)) FROM lines WHERE kind <> 8');
SELECT try($$SELECT sum(n::int) FROM lines WHERE kind <> 8 AND n <> 'NaN'$$);
SELECT try('SELECT sum(i::float8) FROM lines');
SELECT try('SELECT sum(DISTINCT n * 2) FROM lines');
SELECT try('SELECT stddev(n * 2) FROM lines');
SELECT try('SELECT max(n * 2) FROM lines');
SELECT try('SELECT sum(n * n), sum(n * s) FROM lines');
SELECT try('SELECT sum(n * NULL) FROM lines');

DROP EXTENSION scalecache CASCADE;
DROP TABLE lines;
DROP FUNCTION answer(text, text), try(text), rows_of(text);
