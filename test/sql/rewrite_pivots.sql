-- Aggregates of some groups only, by FILTER or CASE, and of values times rows.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
SET scalecache.enable_rewrite = on;
SET max_parallel_workers_per_gather = 0;
SET timezone = 'UTC';
SET compute_query_id = off;

CREATE TABLE pivots (id bigserial PRIMARY KEY, status text, region int, d timestamptz NOT NULL, amount numeric(10,2),
	qty int NOT NULL, hits int, x float8, ok bool);
INSERT INTO pivots (status, region, d, amount, qty, hits, x, ok)
	SELECT (ARRAY['new','paid','sent',NULL])[i % 4 + 1], nullif(i % 5, 4), '2024-01-01'::timestamptz + i % 400 * interval '1 day',
		nullif(i % 97 + 0.5, 3.5), i % 3, nullif(i % 4, 2), i * 0.5, nullif(i % 7, 3) = 2
	FROM generate_series(1, 12000) i;
ANALYZE pivots;

\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /rewrite_helper.sql
\set ECHO none
\i :helper
\set ECHO all

-- Was it the rollup that answered, and right?
CREATE FUNCTION pivots_check(query text) RETURNS text LANGUAGE sql AS
	$$ SELECT answer(query, 'Answered From: rollup') $$;

SELECT scalecache.create_rollup('pivots_month', $$
	SELECT status, region, qty, date_trunc('month', d) AS month, sum(amount) AS total, avg(hits) AS mean, min(amount) AS least, max(amount) AS most,
		sum(x) AS s, bool_or(ok) AS some, count(amount) AS n, sum(hits) FILTER (WHERE ok) AS okhits, count(*) FILTER (WHERE ok) AS oks, bit_or(hits) AS bits
	FROM pivots GROUP BY 1, 2, 3, 4 $$);

EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF)
SELECT date_trunc('month', d), sum(amount) FILTER (WHERE status = 'paid') FROM pivots GROUP BY 1 ORDER BY 1 LIMIT 1;

-- FILTER on keys, beside the rollup's own
SELECT pivots_check($$ SELECT date_trunc('month', d), sum(amount) FILTER (WHERE status = 'paid'), sum(amount) FILTER (WHERE status <> 'paid'), sum(amount),
	count(*) FILTER (WHERE status IS NULL), avg(hits) FILTER (WHERE region > 1), max(amount) FILTER (WHERE qty = 2), bool_or(ok) FILTER (WHERE region = 1),
	sum(x) FILTER (WHERE status IN ('new', 'sent')), bit_or(hits) FILTER (WHERE qty < 2) FROM pivots GROUP BY 1 $$);
SELECT pivots_check($$ SELECT region, sum(amount) FILTER (WHERE extract(year FROM d) = 2025), count(*) FILTER (WHERE d < '2024-03-01') FROM pivots GROUP BY 1 $$);
SELECT pivots_check($$ SELECT region, count(*) FILTER (WHERE ok), sum(hits) FILTER (WHERE ok), count(*) FILTER (WHERE qty = 1) FROM pivots GROUP BY 1 $$);
SELECT pivots_check($$ SELECT sum(amount) FILTER (WHERE status = 'none'), count(*) FILTER (WHERE status = 'none') FROM pivots $$);
SELECT pivots_check($$ SELECT region, sum(amount) FILTER (WHERE ok) FROM pivots GROUP BY 1 $$);
SELECT pivots_check($$ SELECT region, sum(amount) FILTER (WHERE x > 10) FROM pivots GROUP BY 1 $$);
-- CASE in all its forms
SELECT pivots_check($$ SELECT date_trunc('month', d), sum(CASE WHEN status = 'paid' THEN amount END), sum(CASE WHEN status = 'paid' THEN amount ELSE 0 END),
	sum(CASE status WHEN 'paid' THEN amount WHEN 'sent' THEN -1 WHEN NULL THEN 7 ELSE 0.125 END), count(CASE WHEN status = 'paid' THEN 1 END),
	sum(CASE WHEN status = 'paid' THEN 1 ELSE 0 END), count(CASE WHEN region = 1 THEN amount END), count(CASE WHEN region = 1 THEN qty END) FROM pivots GROUP BY 1 $$);
SELECT pivots_check($$ SELECT status, avg(CASE WHEN region = 0 THEN hits WHEN region = 1 THEN 4 ELSE NULL END), max(CASE WHEN qty > 0 THEN amount ELSE 50 END),
	min(CASE WHEN qty > 0 THEN amount ELSE -50 END), bool_or(CASE WHEN qty > 1 THEN ok ELSE false END), sum(CASE WHEN qty = 0 THEN x ELSE 0 END) FROM pivots GROUP BY 1 $$);
SELECT pivots_check($$ SELECT status, sum(CASE WHEN region = 1 THEN hits ELSE qty END) FILTER (WHERE ok), sum(CASE WHEN region = 1 THEN hits END) FILTER (WHERE ok),
	sum(CASE WHEN region = 1 THEN hits ELSE 0 END) FILTER (WHERE qty > 0) FROM pivots GROUP BY 1 $$);
SELECT pivots_check($$ SELECT status, sum(CASE WHEN region = 1 THEN hits END) FILTER (WHERE ok), sum(CASE WHEN region = 1 THEN hits ELSE qty END) FILTER (WHERE qty > 0) FROM pivots GROUP BY 1 $$);
SELECT pivots_check($$ SELECT status, count(DISTINCT CASE WHEN region = 1 THEN qty ELSE 9 END) FROM pivots GROUP BY 1 $$);
SELECT pivots_check($$ SELECT status, sum(CASE WHEN region = 1 THEN CASE WHEN qty = 1 THEN 2 ELSE 3 END WHEN (CASE qty WHEN 2 THEN true END) THEN hits ELSE 0 END) FROM pivots GROUP BY 1 $$);
-- What is not kept, and a division that only its own groups may do
SELECT pivots_check($$ SELECT status, sum(CASE WHEN region = 1 THEN id END) FROM pivots GROUP BY 1 $$);
SELECT pivots_check($$ SELECT status, sum(CASE WHEN x > 5 THEN amount END) FROM pivots GROUP BY 1 $$);
SELECT pivots_check($$ SELECT sum(CASE WHEN qty <> 0 THEN 12 / qty END), sum(12 / qty) FILTER (WHERE qty <> 0), sum(CASE WHEN qty = 0 THEN 1 WHEN 6 / qty > 3 THEN 2 END) FROM pivots $$);
-- Values of keys, as often as there are rows
SELECT pivots_check($$ SELECT status, sum(qty), avg(qty), stddev(qty * 2.5), sum(qty * region), count(region), regr_count(qty, region), bit_xor(qty) FROM pivots GROUP BY 1 $$);
SELECT pivots_check($$ SELECT sum(qty::numeric / 3), sum(extract(year FROM d)), sum(length(status)) FROM pivots WHERE region = 1 $$);
-- Keys that read no column
SELECT pivots_check($$ SELECT q.i, (SELECT sum(amount) FROM pivots WHERE qty = q.i GROUP BY q.i, q.i + 1) FROM generate_series(0, 2) q(i) $$);
SELECT pivots_check($$ SELECT current_date > '2024-01-01', region, sum(amount) FROM pivots GROUP BY 1, 2 $$);
SELECT pivots_check($$ SELECT 1 AS one, sum(amount) FROM pivots GROUP BY 1 $$);
CREATE INDEX pivots_d ON pivots (d);
ANALYZE pivots;
-- With ragged ranges, grouping sets, HAVING, parameters and own changes
SELECT pivots_check($$ SELECT region, sum(CASE WHEN status = 'paid' THEN amount ELSE 0 END), sum(qty), count(*) FILTER (WHERE qty = 1) FROM pivots
	WHERE d >= '2024-01-30' AND d < '2024-12-02' GROUP BY 1 $$);
SELECT pivots_check($$ SELECT region, qty, grouping(qty), sum(CASE WHEN status = 'paid' THEN amount ELSE 0 END), sum(amount) FILTER (WHERE status = 'new') FROM pivots
	WHERE d >= '2024-02-10' GROUP BY ROLLUP (1, 2) HAVING count(*) FILTER (WHERE status = 'sent') > 3 $$);
SET plan_cache_mode = force_generic_plan;
PREPARE pivots_q(text, timestamptz) AS SELECT sum(amount) FILTER (WHERE status = $1), sum(CASE status WHEN $1 THEN qty ELSE 0 END) FROM pivots WHERE d >= $2;
EXPLAIN (COSTS OFF) EXECUTE pivots_q('paid', '2024-06-01');
EXECUTE pivots_q('paid', '2024-06-01');
EXECUTE pivots_q('sent', '2024-06-02');
SET scalecache.enable_rewrite = off;
EXECUTE pivots_q('paid', '2024-06-01');
EXECUTE pivots_q('sent', '2024-06-02');
SET scalecache.enable_rewrite = on;
BEGIN;
UPDATE pivots SET status = 'paid', amount = amount * 2 WHERE id % 3 = 0;
DELETE FROM pivots WHERE amount > 180;
SELECT pivots_check($$ SELECT region, sum(CASE WHEN status = 'paid' THEN amount ELSE 0 END), sum(qty), max(amount) FILTER (WHERE qty = 1) FROM pivots GROUP BY 1 $$);
ROLLBACK;
SELECT used, reason FROM scalecache.explain_rewrite($$ SELECT sum(CASE WHEN x > 5 THEN amount END) FROM pivots $$);
DROP VIEW pivots_month;
DEALLOCATE pivots_q;
DROP TABLE pivots;
DROP FUNCTION pivots_check, answer, rows_of, try;
DROP EXTENSION scalecache;
