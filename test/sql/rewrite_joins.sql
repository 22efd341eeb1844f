-- Queries that join a table with others, answered from a rollup of the table.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
SET scalecache.enable_rewrite = on;
SET max_parallel_workers_per_gather = 0;
SET timezone = 'Europe/Berlin';
SET datestyle = iso;
SET compute_query_id = off;

CREATE TABLE joins_category (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE joins_product (id int PRIMARY KEY, category_id int, price numeric(10,2), label text, code text);
CREATE TABLE joins_order (id bigserial PRIMARY KEY, product_id int, status text, created_at timestamptz NOT NULL,
	amount numeric(10,2), qty int, rate numeric, x float8);
INSERT INTO joins_category SELECT i, 'category ' || i FROM generate_series(1, 6) i;
INSERT INTO joins_product SELECT i, nullif(i % 7, 0), i * 1.25, 'p' || i % 10, nullif('c' || i % 4, 'c3') FROM generate_series(1, 30) i;
INSERT INTO joins_order (product_id, status, created_at, amount, qty, rate, x)
	SELECT nullif(i % 35, 0), (ARRAY['new','paid','sent'])[i % 3 + 1],
		'2024-01-01 00:00+01'::timestamptz + i % 600 * interval '1 day', i % 97 + 0.5, i % 3, i % 2, i * 0.5
	FROM generate_series(1, 24000) i;
ANALYZE joins_category, joins_product, joins_order;

\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /rewrite_helper.sql
\set ECHO none
\i :helper
\set ECHO all

-- Was it the rollup that answered, and right?
CREATE FUNCTION joins_check(query text) RETURNS text LANGUAGE sql AS
	$$ SELECT answer(query, 'Groups Joined') $$;

SELECT scalecache.create_rollup('joins_fact', $$
	SELECT product_id, qty, date_trunc('month', created_at) AS month, sum(amount) AS total, avg(x) AS mean,
		min(amount) AS least, max(amount) AS most, count(*) FILTER (WHERE status = 'paid') AS paid
	FROM joins_order GROUP BY 1, 2, 3 $$);

EXPLAIN (COSTS OFF)
SELECT c.name, sum(o.amount) FROM joins_order o JOIN joins_product p ON p.id = o.product_id
	JOIN joins_category c ON c.id = p.category_id GROUP BY 1;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, VERBOSE)
SELECT p.label, sum(o.amount) FROM joins_order o JOIN joins_product p ON p.id = o.product_id GROUP BY 1;
EXPLAIN (COSTS OFF)
SELECT p.label, sum(o.amount) FROM joins_order o LEFT JOIN joins_product p ON p.id = o.product_id GROUP BY 1 ORDER BY 2 DESC LIMIT 3;

-- Inner joins, however they are written
SELECT joins_check($$ SELECT c.name, sum(o.amount), avg(o.x), count(*), max(o.amount) FROM joins_order o
	JOIN joins_product p ON p.id = o.product_id JOIN joins_category c ON c.id = p.category_id GROUP BY 1 $$);
SELECT joins_check($$ SELECT c.name, date_trunc('year', o.created_at), sum(o.amount) FROM joins_category c, joins_product p, joins_order o
	WHERE o.product_id = p.id AND c.id = p.category_id AND p.price > 10 AND c.name <> 'category 2' GROUP BY 1, 2 $$);
SELECT joins_check($$ SELECT sum(o.amount), count(*) FROM joins_order o JOIN (SELECT * FROM joins_product WHERE price < 30) p ON p.id = o.product_id $$);
SELECT joins_check($$ SELECT category_id, sum(amount) FROM joins_order JOIN joins_product p(product_id) USING (product_id) GROUP BY 1 HAVING sum(amount) > 50000 ORDER BY 2 DESC LIMIT 3 $$);
SELECT joins_check($$ SELECT DISTINCT p.label FROM joins_order o JOIN joins_product p ON p.id = o.product_id $$);
-- A row of the other table may match many, and many may match one
SELECT joins_check($$ SELECT o.qty, count(*), sum(o.amount), avg(o.x), min(o.amount) FROM joins_order o JOIN joins_product p ON p.id % 5 = o.product_id % 5 GROUP BY 1 $$);
SELECT joins_check($$ SELECT p.label, count(*), sum(o.amount) FROM joins_order o JOIN joins_product p ON o.product_id BETWEEN p.id - 2 AND p.id + 2 GROUP BY 1 $$);
SELECT joins_check($$ SELECT count(*), sum(amount) FROM joins_order CROSS JOIN joins_category $$);
-- Columns that depend on a primary key among the keys, whether grouped by or not
SELECT joins_check($$ SELECT p.id, p.label, sum(o.amount) FROM joins_order o JOIN joins_product p ON p.id = o.product_id GROUP BY p.id, p.label $$);
SELECT joins_check($$ SELECT p.label, upper(p.code) || p.price, sum(o.amount) FROM joins_order o JOIN joins_product p ON p.id = o.product_id
	GROUP BY p.id HAVING p.category_id > 2 ORDER BY p.price $$);
SELECT joins_check($$ SELECT p.label, c.name, c.id, date_trunc('year', o.created_at), count(*) FROM joins_order o LEFT JOIN joins_product p ON p.id = o.product_id
	LEFT JOIN joins_category c ON c.id = p.category_id WHERE o.created_at > '2024-02-12' GROUP BY p.id, c.id, c.name, 4 $$);
SELECT joins_check($$ SELECT p.label, o.qty, sum(o.amount), grouping(o.qty) FROM joins_order o JOIN joins_product p ON p.id = o.product_id
	GROUP BY GROUPING SETS ((p.id), (p.id, o.qty)) $$);
SELECT joins_check($$ SELECT p.id, p.label, sum(o.amount), grouping(p.label) FROM joins_order o JOIN joins_product p ON p.id = o.product_id GROUP BY ROLLUP (p.id, p.label) $$);
-- Outer joins
SELECT joins_check($$ SELECT c.name, sum(o.amount), count(p.id), count(*) FROM joins_order o
	LEFT JOIN joins_product p ON p.id = o.product_id LEFT JOIN joins_category c ON c.id = p.category_id GROUP BY 1 $$);
SELECT joins_check($$ SELECT p.label, sum(o.amount), count(*) FROM joins_product p RIGHT JOIN joins_order o
	ON p.id = o.product_id AND p.price > 20 AND o.qty > 0 GROUP BY 1 $$);
SELECT joins_check($$ SELECT p.label, sum(o.amount) FROM joins_order o LEFT JOIN joins_product p ON p.id = o.product_id WHERE p.id IS NULL GROUP BY 1 $$);
SELECT joins_check($$ SELECT o.qty, sum(o.amount) FROM joins_order o WHERE EXISTS (SELECT FROM joins_product p WHERE p.id = o.product_id AND p.code = 'c1') GROUP BY 1 $$);
SELECT joins_check($$ SELECT o.qty, sum(o.amount) FROM joins_order o WHERE NOT EXISTS (SELECT FROM joins_product p WHERE p.id = o.product_id) GROUP BY 1 $$);
SELECT joins_check($$ SELECT o.qty, sum(o.amount) FROM joins_order o WHERE product_id IN (SELECT id FROM joins_product WHERE category_id = 2) GROUP BY 1 $$);
SELECT joins_check($$ SELECT p.label, sum(o.amount) FROM joins_product p LEFT JOIN joins_order o ON p.id = o.product_id GROUP BY 1 $$);
SELECT joins_check($$ SELECT p.label, sum(o.amount) FROM joins_product p FULL JOIN joins_order o ON p.id = o.product_id GROUP BY 1 $$);
SELECT joins_check($$ SELECT p.label, count(*) FROM joins_product p WHERE p.id IN (SELECT product_id FROM joins_order) GROUP BY 1 $$);
-- Aggregates of other tables' columns count as often as there are rows
SELECT joins_check($$ SELECT c.id, sum(p.price), avg(p.price), count(p.code), stddev(p.price), sum(p.price::float8), sum(p.id), sum(p.id::bigint), bool_or(p.code IS NULL), bit_or(p.id), min(p.label)
	FROM joins_order o JOIN joins_product p ON p.id = o.product_id LEFT JOIN joins_category c ON c.id = p.category_id GROUP BY 1 $$);
SELECT joins_check($$ SELECT p.label, sum(o.qty * p.price), sum(o.qty), min(o.qty * p.price), regr_count(p.price, o.qty), sum(interval '1 day' * p.id) FROM joins_order o JOIN joins_product p ON p.id = o.product_id GROUP BY 1 $$);
SELECT joins_check($$ SELECT o.qty, count(DISTINCT p.label), count(DISTINCT o.product_id), sum(DISTINCT p.price), count(DISTINCT p.code) FROM joins_order o LEFT JOIN joins_product p ON p.id = o.product_id GROUP BY 1 $$);
SELECT joins_check($$ SELECT o.qty, sum(o.amount) FILTER (WHERE p.code = 'c1'), count(*) FILTER (WHERE p.code IS NULL AND o.qty > 0), count(*) FILTER (WHERE o.status = 'paid'),
	sum(p.price) FILTER (WHERE p.price > 10) FROM joins_order o LEFT JOIN joins_product p ON p.id = o.product_id GROUP BY 1 $$);
-- What cannot be told from the groups
SELECT joins_check($$ SELECT p.label, sum(o.rate) FROM joins_order o JOIN joins_product p ON p.id = o.product_id GROUP BY 1 $$);
SELECT joins_check($$ SELECT p.label, sum(o.amount * p.price) FROM joins_order o JOIN joins_product p ON p.id = o.product_id GROUP BY 1 $$);
SELECT joins_check($$ SELECT p.label, sum(o.amount) FROM joins_order o JOIN joins_product p ON p.id = o.product_id AND o.status = p.code GROUP BY 1 $$);
SELECT joins_check($$ SELECT p.label, string_agg(p.code, ',') FROM joins_order o JOIN joins_product p ON p.id = o.product_id GROUP BY 1 $$);
SELECT joins_check($$ SELECT p.label, sum(o.amount) FROM joins_order o JOIN joins_product p ON p.id = o.product_id WHERE created_at >= '2024-02-10' GROUP BY 1 $$);
SELECT joins_check($$ SELECT p.label, sum(o.amount) FROM joins_order o JOIN joins_product p ON p.id = o.product_id WHERE p.price > (SELECT avg(price) FROM joins_product q WHERE q.category_id = p.category_id) GROUP BY 1 $$);
SELECT joins_check($$ SELECT p.label, sum(o.amount) FROM joins_order o JOIN joins_product p TABLESAMPLE BERNOULLI (100) REPEATABLE (1) ON p.id = o.product_id GROUP BY 1 $$);
SELECT used, reason FROM scalecache.explain_rewrite($$ SELECT p.label, sum(o.amount) FROM joins_product p LEFT JOIN joins_order o ON p.id = o.product_id GROUP BY 1 $$);
SELECT used, reason FROM scalecache.explain_rewrite($$ SELECT p.label, sum(o.amount * p.price) FROM joins_order o JOIN joins_product p ON p.id = o.product_id GROUP BY 1 $$);
SELECT used, reason FROM scalecache.explain_rewrite($$ SELECT p.label, sum(o.amount) FROM joins_order o JOIN joins_product p ON p.id = o.product_id AND o.status = p.code GROUP BY 1 $$);
-- Ranges of whole months
SELECT joins_check($$ SELECT p.label, sum(o.amount) FROM joins_order o JOIN joins_product p ON p.id = o.product_id WHERE created_at >= '2024-03-01' AND created_at < '2025-01-01' GROUP BY 1 $$);
-- The table joined with itself
SELECT joins_check($$ SELECT a.qty, sum(a.amount) FROM joins_order a JOIN joins_order b ON a.product_id = b.product_id AND b.id < 60 GROUP BY 1 $$);
-- In views, subqueries and prepared statements
CREATE VIEW joins_view AS SELECT o.*, p.label, p.price FROM joins_order o LEFT JOIN joins_product p ON p.id = o.product_id;
SELECT joins_check($$ SELECT label, sum(amount), sum(qty * price) FROM joins_view GROUP BY 1 $$);
SELECT joins_check($$ SELECT c.name, (SELECT sum(o.amount) FROM joins_order o JOIN joins_product p ON p.id = o.product_id WHERE p.category_id = c.id) FROM joins_category c $$);
SELECT joins_check($$ SELECT x.label, x.s, c.name FROM (SELECT p.label, p.category_id, sum(o.amount) s FROM joins_order o JOIN joins_product p ON p.id = o.product_id GROUP BY 1, 2) x JOIN joins_category c ON c.id = x.category_id $$);
SET plan_cache_mode = force_generic_plan;
PREPARE joins_q(int, text) AS SELECT count(*), sum(o.amount) FROM joins_order o JOIN joins_product p ON p.id = o.product_id WHERE o.qty = $1 AND p.label = $2;
EXECUTE joins_q(1, 'p3');
SET scalecache.enable_rewrite = off;
SELECT count(*), sum(o.amount) FROM joins_order o JOIN joins_product p ON p.id = o.product_id WHERE o.qty = 1 AND p.label = 'p3';
SET scalecache.enable_rewrite = on;
-- Own changes, and those in the middle of a statement
BEGIN;
UPDATE joins_order SET amount = amount + 1, product_id = product_id + 1 WHERE id % 3 = 0;
UPDATE joins_product SET category_id = 1 WHERE id < 10;
DELETE FROM joins_product WHERE id = 12;
DELETE FROM joins_order WHERE amount > 96;
SELECT joins_check($$ SELECT c.name, sum(o.amount), count(*), max(o.amount), min(o.amount) FROM joins_order o
	JOIN joins_product p ON p.id = o.product_id JOIN joins_category c ON c.id = p.category_id GROUP BY 1 $$);
SELECT joins_check($$ SELECT p.label, sum(o.amount), avg(o.x), max(o.amount) FROM joins_order o LEFT JOIN joins_product p ON p.id = o.product_id GROUP BY 1 $$);
TRUNCATE joins_order;
SELECT joins_check($$ SELECT sum(o.amount), count(*) FROM joins_order o JOIN joins_product p ON p.id = o.product_id $$);
ROLLBACK;
CREATE FUNCTION joins_middle() RETURNS bigint LANGUAGE sql VOLATILE AS
	'SELECT count(*) FROM joins_order o JOIN joins_product p ON p.id = o.product_id';
BEGIN;
INSERT INTO joins_order (product_id, created_at, amount, qty) SELECT 1, now(), joins_middle(), 0 FROM generate_series(1, 3) RETURNING amount;
ROLLBACK;
-- Other time zones
SET timezone = 'UTC';
EXECUTE joins_q(1, 'p3');
SELECT joins_check($$ SELECT p.label, date_trunc('month', o.created_at), sum(o.amount) FROM joins_order o JOIN joins_product p ON p.id = o.product_id GROUP BY 1, 2 $$);
SET timezone = 'Europe/Berlin';
-- Privileges are those of the tables
CREATE ROLE joins_user;
GRANT SELECT ON joins_order TO joins_user;
SET ROLE joins_user;
SELECT p.label, sum(o.amount) FROM joins_order o JOIN joins_product p ON p.id = o.product_id GROUP BY 1;
RESET ROLE;
-- Row-level security of either table
ALTER TABLE joins_product ENABLE ROW LEVEL SECURITY;
CREATE POLICY joins_policy ON joins_product USING (id < 5);
GRANT SELECT ON joins_product TO joins_user;
SET ROLE joins_user;
SELECT sum(o.amount), count(*) FROM joins_order o JOIN joins_product p ON p.id = o.product_id;
SET scalecache.enable_rewrite = off;
SELECT sum(o.amount), count(*) FROM joins_order o JOIN joins_product p ON p.id = o.product_id;
SET scalecache.enable_rewrite = on;
RESET ROLE;
ALTER TABLE joins_product DISABLE ROW LEVEL SECURITY;
-- Partitioned and inheriting tables on the other side
CREATE TABLE joins_part (id int, name text) PARTITION BY RANGE (id);
CREATE TABLE joins_part1 PARTITION OF joins_part FOR VALUES FROM (0) TO (10);
CREATE TABLE joins_part2 PARTITION OF joins_part FOR VALUES FROM (10) TO (40);
INSERT INTO joins_part SELECT i, 'n' || i % 3 FROM generate_series(1, 35) i;
SELECT joins_check($$ SELECT r.name, sum(o.amount) FROM joins_order o JOIN joins_part r ON r.id = o.product_id GROUP BY 1 $$);
SELECT joins_check($$ SELECT r.name, sum(o.amount) FROM joins_order o JOIN joins_part r ON r.id = o.product_id WHERE r.id < 5 GROUP BY 1 $$);
SELECT joins_check($$ SELECT v.n, sum(o.amount) FROM joins_order o JOIN (VALUES (1, 'one'), (2, 'two')) v(i, n) ON v.i = o.product_id GROUP BY 1 $$);
SELECT joins_check($$ SELECT g, sum(o.amount) FROM joins_order o JOIN generate_series(1, 5) g ON g = o.qty GROUP BY 1 $$);
SELECT joins_check($$ SELECT g, sum(o.amount) FROM joins_order o, LATERAL generate_series(1, o.qty) g GROUP BY 1 $$);
-- Ranges that start and end inside a month
CREATE INDEX joins_order_created ON joins_order (created_at);
ANALYZE joins_order;
SELECT joins_check($$ SELECT p.label, sum(o.amount), count(*), avg(o.x), min(o.amount), sum(o.qty * p.price), count(*) FILTER (WHERE o.status = 'paid'), count(p.code) FILTER (WHERE p.price > 9)
	FROM joins_order o JOIN joins_product p ON p.id = o.product_id WHERE created_at >= '2024-02-10' AND created_at < '2025-04-20 13:00' GROUP BY 1 $$);
SELECT joins_check($$ SELECT c.name, o.qty, date_trunc('year', o.created_at), sum(o.amount) FROM joins_order o LEFT JOIN joins_product p ON p.id = o.product_id
	LEFT JOIN joins_category c ON c.id = p.category_id AND c.id > 1 WHERE created_at BETWEEN '2024-02-10' AND '2025-04-20 13:00' AND (p.id IS NULL OR p.id < 20) GROUP BY 1, 2, 3 $$);
SELECT joins_check($$ SELECT count(*), sum(o.amount) FROM joins_order o JOIN joins_product p ON p.id = o.product_id WHERE created_at > '2024-02-10' AND created_at < '2024-02-12' $$);
SELECT joins_check($$ SELECT count(*), sum(o.amount) FROM joins_order o JOIN joins_order b ON b.id = o.product_id AND b.created_at > '2024-01-05' WHERE o.created_at > '2024-02-10' $$);
SELECT joins_check($$ SELECT count(*), sum(o.amount) FROM joins_order o LEFT JOIN joins_product p ON p.id = o.product_id AND o.created_at > '2024-02-10' $$);
SET enable_bitmapscan = off;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF)
SELECT p.label, sum(o.amount) FROM joins_order o JOIN joins_product p ON p.id = o.product_id WHERE created_at >= '2024-02-28' AND created_at < '2025-04-02' GROUP BY 1;
RESET enable_bitmapscan;
SELECT joins_check($$ SELECT p.label, sum(o.amount) FROM joins_order o JOIN joins_product p ON p.id = o.product_id WHERE created_at >= '2024-02-28' AND created_at < '2025-04-02' GROUP BY 1 $$);
PREPARE joins_since(timestamptz, timestamptz) AS SELECT p.label, sum(o.amount) FROM joins_order o JOIN joins_product p ON p.id = o.product_id
	WHERE created_at >= $1 AND created_at < $2 GROUP BY 1 ORDER BY 1 LIMIT 2;
EXECUTE joins_since('2024-02-28', '2025-04-02');
EXECUTE joins_since('2024-03-01', '2025-04-01');
EXECUTE joins_since('2024-03-01', NULL);
EXECUTE joins_since('2024-03-01', 'infinity');
SET scalecache.enable_rewrite = off;
EXECUTE joins_since('2024-02-28', '2025-04-02');
EXECUTE joins_since('2024-03-01', '2025-04-01');
EXECUTE joins_since('2024-03-01', 'infinity');
SET scalecache.enable_rewrite = on;
BEGIN;
UPDATE joins_order SET created_at = created_at + interval '9 days', amount = amount + 1 WHERE id % 50 = 0;
SELECT joins_check($$ SELECT p.label, sum(o.amount), count(*) FROM joins_order o JOIN joins_product p ON p.id = o.product_id WHERE created_at >= '2024-02-28' AND created_at < '2025-04-02' GROUP BY 1 $$);
ROLLBACK;
DROP INDEX joins_order_created;
-- Grouping sets
SELECT joins_check($$ SELECT c.name, o.qty, grouping(c.name, o.qty), grouping(o.qty), sum(o.amount), count(*), avg(o.x), max(o.amount), count(DISTINCT p.label), sum(p.price)
	FROM joins_order o JOIN joins_product p ON p.id = o.product_id JOIN joins_category c ON c.id = p.category_id GROUP BY CUBE (1, 2) $$);
SELECT joins_check($$ SELECT p.label, date_trunc('year', o.created_at), date_trunc('quarter', o.created_at), sum(o.amount) FROM joins_order o LEFT JOIN joins_product p ON p.id = o.product_id
	WHERE created_at < '2025-04-12' GROUP BY ROLLUP (1, (2, 3)) HAVING sum(o.amount) > 100 $$);
SELECT joins_check($$ SELECT o.qty, p.label, sum(o.amount), count(*) FROM joins_order o JOIN joins_product p ON p.id = o.product_id WHERE p.id < 0 GROUP BY GROUPING SETS ((1), (2), (), ()) $$);
EXPLAIN (COSTS OFF)
SELECT o.qty, p.label, sum(o.amount) FROM joins_order o JOIN joins_product p ON p.id = o.product_id GROUP BY ROLLUP (1, 2);
-- LATERAL, subqueries and WITH
SELECT joins_check($$ SELECT g, sum(o.amount) FROM joins_order o, LATERAL generate_series(1, o.qty) g GROUP BY 1 $$);
SELECT joins_check($$ SELECT v.l, sum(o.amount) FROM joins_order o JOIN joins_product p ON p.id = o.product_id, LATERAL (VALUES (p.label || o.qty), (p.code)) v(l) GROUP BY 1 $$);
SELECT joins_check($$ SELECT p.n, sum(o.amount), count(*) FROM joins_order o JOIN (SELECT category_id, count(*) n FROM joins_product GROUP BY 1) p ON p.category_id = o.qty GROUP BY 1 $$);
SELECT joins_check($$ SELECT l.label, sum(o.amount), count(*) FROM joins_order o LEFT JOIN LATERAL
	(SELECT label FROM joins_product p WHERE p.id <= o.product_id AND p.category_id > o.qty ORDER BY price DESC LIMIT 1) l ON true GROUP BY 1 $$);
SELECT joins_check($$ SELECT l.m, sum(o.amount) FROM joins_order o JOIN joins_product q ON q.id = o.product_id, LATERAL
	(SELECT max(p.price) m FROM joins_product p WHERE p.category_id = q.category_id AND p.id IN (SELECT category_id FROM joins_product r WHERE r.id < o.product_id)) l GROUP BY 1 $$);
SELECT joins_check($$ SELECT l.m, sum(o.amount) FROM joins_order o, LATERAL (SELECT max(p.price) m FROM joins_product p WHERE p.id <= o.rate) l GROUP BY 1 $$);
-- what it hands through an outer join, that perhaps is none
SELECT joins_check($$ SELECT count(*) FROM joins_order o LEFT JOIN LATERAL (SELECT o.qty AS n, p.* FROM joins_product p) s ON s.id = o.product_id WHERE s.n = s.category_id $$);
SELECT joins_check($$ SELECT s.n, sum(o.amount), count(s.n) FROM joins_order o LEFT JOIN LATERAL (SELECT coalesce(o.qty, 1) AS n, p.* FROM joins_product p) s ON s.id = o.product_id GROUP BY 1 $$);
SELECT joins_check($$ WITH w AS MATERIALIZED (SELECT id, label FROM joins_product WHERE price > 5) SELECT w.label, sum(o.amount) FROM joins_order o JOIN w ON w.id = o.product_id GROUP BY 1 $$);
SELECT joins_check($$ WITH w AS MATERIALIZED (SELECT id, label FROM joins_product WHERE price > 5) SELECT w.label, sum(o.amount) FROM joins_order o JOIN w ON w.id = o.product_id
	JOIN w v ON v.label = w.label WHERE o.created_at > '2024-02-12' GROUP BY 1 $$);
SELECT joins_check($$ WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 20) SELECT r.i % 3, sum(o.amount) FROM joins_order o JOIN r ON r.i = o.product_id GROUP BY 1 $$);
SELECT joins_check($$ SELECT u.label, sum(o.amount) FROM joins_order o JOIN (SELECT id, label FROM joins_product UNION ALL SELECT id, name FROM joins_category) u ON u.id = o.product_id GROUP BY 1 $$);
SELECT joins_check($$ SELECT u.label, sum(o.amount) FROM joins_order o JOIN (SELECT id, label FROM joins_product UNION SELECT id, name FROM joins_category) u ON u.id = o.product_id WHERE o.created_at > '2024-02-12' GROUP BY 1 $$);
SET seq_page_cost = 200;
SELECT joins_check($$ SELECT u.label, count(*), sum(o.amount) FROM joins_order o LEFT JOIN (SELECT id, label FROM joins_product WHERE id < 9 UNION ALL SELECT id, name FROM joins_category UNION ALL SELECT 3, 'three') u ON u.id = o.product_id WHERE o.created_at >= '2024-02-01' GROUP BY 1 $$);
SELECT joins_check($$ SELECT u.label, sum(o.amount) FROM joins_order o, LATERAL (SELECT label FROM joins_product p WHERE p.id = o.product_id UNION ALL SELECT 'x' || o.product_id) u GROUP BY 1 $$);
SELECT joins_check($$ SELECT u.label, sum(o.amount) FROM joins_order o JOIN (SELECT id, label FROM joins_product UNION ALL SELECT id, label FROM joins_product WHERE random() >= 0) u ON u.id = o.product_id GROUP BY 1 $$);
RESET seq_page_cost;
SELECT joins_check($$ SELECT p.label, sum(o.amount) FROM joins_order o JOIN (SELECT id, label, random() r FROM joins_product OFFSET 0) p ON p.id = o.product_id GROUP BY 1 $$);
SELECT joins_check($$ SELECT x.s, sum(o.amount) FROM joins_order o JOIN (SELECT product_id, sum(amount) s FROM joins_order GROUP BY 1) x USING (product_id) GROUP BY 1 $$);
-- Keys that are expressions of the other tables, also within others
SELECT joins_check($$ SELECT p.id % 3, upper(p.label), sum(o.amount), sum(p.id % 3), sum((p.id % 3) * o.qty), max(upper(p.label)) FILTER (WHERE p.id % 3 > 0)
	FROM joins_order o JOIN joins_product p ON p.id = o.product_id GROUP BY 1, 2 HAVING length(upper(p.label)) > 1 $$);
SELECT joins_check($$ SELECT q.i, (SELECT sum(o.amount) FROM joins_order o JOIN joins_product p ON p.id = o.product_id WHERE o.qty = q.i GROUP BY q.i, q.i + 1) FROM generate_series(0, 2) q(i) $$);
-- CASE
SELECT joins_check($$ SELECT p.label, sum(CASE WHEN c.id = 1 THEN o.amount WHEN c.id IS NULL THEN NULL ELSE 0 END), count(CASE c.name WHEN 'category 2' THEN 1 END),
	max(CASE WHEN o.qty > 0 THEN o.amount END), sum(CASE WHEN o.qty = 1 THEN p.price ELSE 1 END), avg(CASE WHEN p.price > 9 THEN o.amount ELSE 5 END)
	FROM joins_order o LEFT JOIN joins_product p ON p.id = o.product_id LEFT JOIN joins_category c ON c.id = p.category_id GROUP BY 1 $$);
-- What is computed from sums
SELECT joins_check($$ SELECT p.label, sum(o.amount * 1.190), avg(o.amount - 5), count(o.amount * 2), sum(-o.amount), sum(o.amount), sum(p.price * 2) FROM joins_order o JOIN joins_product p ON p.id = o.product_id GROUP BY 1 $$);
SELECT joins_check($$ SELECT p.label, o.qty, sum(o.amount * 1.19) FILTER (WHERE p.price > 9), avg(o.amount * 2) FILTER (WHERE o.qty = 1), sum(o.amount * 1.19) FROM joins_order o LEFT JOIN joins_product p ON p.id = o.product_id
	WHERE o.created_at > '2024-02-12' GROUP BY CUBE (1, 2) HAVING sum(o.amount * 3) > 9 $$);
SELECT joins_check($$ SELECT sum(o.amount * 2), avg(o.amount + 1), count(o.amount + 1) FROM joins_order o JOIN joins_product p ON p.id = o.product_id WHERE p.id < 0 $$);
SELECT joins_check($$ SELECT p.label, sum(o.amount * p.price) FROM joins_order o JOIN joins_product p ON p.id = o.product_id GROUP BY 1 $$);
SELECT joins_check($$ SELECT p.label, sum(o.amount * 2) FILTER (WHERE o.status = 'paid') FROM joins_order o JOIN joins_product p ON p.id = o.product_id GROUP BY 1 $$);
-- Folded, the same
SELECT scalecache.fold_rollup('joins_fact') >= 0;
SELECT joins_check($$ SELECT c.name, sum(o.amount), avg(o.x), count(*) FROM joins_order o
	JOIN joins_product p ON p.id = o.product_id JOIN joins_category c ON c.id = p.category_id GROUP BY 1 $$);
DEALLOCATE joins_since;
DROP VIEW joins_fact;
EXECUTE joins_q(1, 'p3');
DROP VIEW joins_view;
-- Groups that are stored without keys, of which nothing is read: they are only counted.
SELECT scalecache.create_rollup('joins_all', 'SELECT count(o.status) AS n FROM joins_order o JOIN joins_product p ON p.id = o.product_id');
EXPLAIN (COSTS OFF)
SELECT count(*) FROM (SELECT count(o.status) FROM joins_order o JOIN joins_product p ON p.id = o.product_id OFFSET 0) x;
SELECT answer('SELECT count(*) FROM (SELECT count(o.status) FROM joins_order o JOIN joins_product p ON p.id = o.product_id OFFSET 0) x', 'From: rollup');
SELECT answer('SELECT EXISTS (SELECT count(o.status) FROM joins_order o JOIN joins_product p ON p.id = o.product_id)', 'From: rollup');
DROP VIEW joins_all;
DROP TABLE joins_order, joins_product, joins_category, joins_part;
DROP FUNCTION joins_check, answer, joins_middle, rows_of, try;
DROP ROLE joins_user;
DROP EXTENSION scalecache;
