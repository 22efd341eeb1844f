-- Rollups from views and from other rollups.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
SET max_parallel_workers_per_gather = 0;
SET timezone = 'Europe/Berlin';
SET datestyle = iso;

CREATE TABLE orders (id bigserial PRIMARY KEY, product_id int, created_at timestamptz NOT NULL, status text,
	amount numeric(10,2), qty int, f float8);
CREATE TABLE product (id int PRIMARY KEY, label text);
INSERT INTO product SELECT i, 'p' || i % 3 FROM generate_series(1, 10) i;
INSERT INTO orders (product_id, created_at, status, amount, qty, f)
	SELECT i % 12, '2024-01-01 00:00+01'::timestamptz + i % 500 * interval '1 day', (ARRAY['new','paid'])[i % 2 + 1], i % 97, i % 5, i
	FROM generate_series(1, 5000) i;
-- Rows that a rollup and a query do not have in common
CREATE FUNCTION differ(rollup text, query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE n bigint; d bigint;
BEGIN
	EXECUTE format('SELECT (SELECT count(*) FROM (%2$s) q), (SELECT count(*) FROM ((SELECT x::text FROM %1$I x EXCEPT ALL SELECT p::text FROM (%2$s) p)
		UNION ALL (SELECT p::text FROM (%2$s) p EXCEPT ALL SELECT x::text FROM %1$I x)) d)', rollup, query) INTO n, d;
	RETURN format('%s rows, %s differ, %s to verify', n, d, scalecache.verify_rollup(rollup::regclass));
END $$;

-- A view that renames, computes and selects; and a view of that
CREATE VIEW paid AS SELECT id AS order_id, product_id AS product, created_at AS at, amount * 2 AS twice, f FROM orders WHERE status = 'paid';
CREATE VIEW paid_late (o, p, t, a) AS SELECT order_id, product, at, twice FROM paid WHERE at >= '2024-06-01';
SELECT scalecache.create_rollup('by_product', $$ SELECT product, sum(twice) AS s, count(*) AS n FROM paid x WHERE x.twice > 10 GROUP BY product $$);
SELECT scalecache.create_rollup('late', $$ SELECT date_trunc('month', t) AS month, max(a) AS most FROM paid_late GROUP BY 1 HAVING count(*) > 3 $$);
SELECT scalecache.create_rollup('labels', $$ SELECT l.label, sum(twice) AS s FROM paid JOIN product l ON l.id = paid.product GROUP BY 1 $$);
SELECT scalecache.create_rollup('labels_left', $$ SELECT label, order_product, count(*) AS n FROM (paid LEFT JOIN product l(product, label) USING (product)) AS j(order_product, order_id) GROUP BY 1, 2 $$);
SELECT scalecache.create_rollup('labels_three', $$ SELECT l.label, count(*) AS n FROM product l JOIN paid ON l.id = product JOIN product m ON m.id = product + 1 GROUP BY 1 $$);
SELECT pg_get_viewdef('labels_left');
SELECT rollup, source, state FROM scalecache.rollups ORDER BY 1;
SELECT query FROM scalecache.rollups WHERE rollup = 'by_product'::regclass;
SELECT pg_get_viewdef('late');
UPDATE orders SET status = 'paid' WHERE id % 10 = 0;
DELETE FROM orders WHERE amount = 96;
SELECT differ('by_product', 'SELECT product, sum(twice) AS s, count(*) AS n FROM paid x WHERE x.twice > 10 GROUP BY product');
SELECT differ('late', $$ SELECT date_trunc('month', t) AS month, max(a) AS most FROM paid_late GROUP BY 1 HAVING count(*) > 3 $$);
SELECT differ('labels', 'SELECT l.label, sum(twice) AS s FROM paid JOIN product l ON l.id = paid.product GROUP BY 1');
SELECT differ('labels_left', 'SELECT label, order_product, count(*) AS n FROM (paid LEFT JOIN product l(product, label) USING (product)) AS j(order_product, order_id) GROUP BY 1, 2');
SELECT differ('labels_three', 'SELECT l.label, count(*) AS n FROM product l JOIN paid ON l.id = product JOIN product m ON m.id = product + 1 GROUP BY 1');

-- A rollup of a rollup, and of that
SELECT scalecache.create_rollup('monthly', $$ SELECT date_trunc('month', created_at) AS month, product_id, sum(amount) AS total, sum(qty) AS pieces, count(*) AS n,
	min(amount) AS least, bool_or(qty > 3) AS many FROM orders GROUP BY 1, 2 $$);
SELECT scalecache.create_rollup('yearly', $$ SELECT date_trunc('year', month) AS year, sum(total) AS total, sum(pieces) AS pieces, sum(n) AS n,
	min(least) AS least, bool_or(many) AS many FROM monthly WHERE product_id > 2 GROUP BY 1 HAVING sum(n) > 1 $$);
SELECT scalecache.create_rollup('bad', $$ SELECT sum(total) AS total, min(least) AS least FROM yearly $$);
SELECT scalecache.create_rollup('pieces', $$ SELECT product_id, max(least) AS most FROM monthly GROUP BY 1 $$);
SELECT scalecache.create_rollup('total', $$ SELECT sum(total) AS total, min(least) AS least FROM monthly $$);
SELECT pg_get_viewdef('yearly');
INSERT INTO orders (product_id, created_at, amount, qty) SELECT i % 12, '2025-12-31', i, i FROM generate_series(1, 30) i;
SELECT differ('yearly', $$ SELECT date_trunc('year', month) AS year, sum(total) AS total, sum(pieces) AS pieces, sum(n) AS n,
	min(least) AS least, bool_or(many) AS many FROM monthly WHERE product_id > 2 GROUP BY 1 HAVING sum(n) > 1 $$);
SELECT differ('total', 'SELECT sum(total) AS total, min(least) AS least FROM monthly');
TRUNCATE orders;
SELECT differ('total', 'SELECT sum(total) AS total, min(least) AS least FROM monthly');

-- What does not follow from the rollup's aggregates, or from one table
SELECT scalecache.create_rollup('bad', 'SELECT count(*) AS n FROM monthly');
SELECT scalecache.create_rollup('bad', 'SELECT avg(total) AS a FROM monthly');
SELECT scalecache.create_rollup('bad', 'SELECT sum(n) AS a FROM monthly');
SELECT scalecache.create_rollup('bad', 'SELECT total, count(*) AS n FROM monthly GROUP BY 1');
SELECT scalecache.create_rollup('bad', 'SELECT month, sum(n) AS n FROM monthly WHERE total > 5 GROUP BY 1');
SELECT scalecache.create_rollup('bad', 'SELECT p.label, sum(n) AS n FROM monthly m JOIN product p ON p.id = m.product_id GROUP BY 1');
CREATE VIEW barrier WITH (security_barrier) AS SELECT * FROM orders;
SELECT scalecache.create_rollup('bad', 'SELECT count(*) AS n FROM barrier');
CREATE VIEW limited AS SELECT * FROM orders LIMIT 5;
SELECT scalecache.create_rollup('bad', 'SELECT count(*) AS n FROM limited');
CREATE VIEW joined AS SELECT o.id FROM orders o JOIN product p ON p.id = o.product_id;
SELECT scalecache.create_rollup('bad', 'SELECT count(*) AS n FROM joined');
-- The view's owner is not the table's
CREATE ROLE other;
GRANT CREATE ON SCHEMA public TO other;
GRANT SELECT ON paid TO other;
SET ROLE other;
SELECT scalecache.create_rollup('bad', 'SELECT count(*) AS n FROM paid');
RESET ROLE;

-- The view cannot be dropped without the rollup
DROP VIEW paid;
DROP VIEW monthly;
DROP VIEW paid CASCADE;
DROP VIEW monthly CASCADE;
SELECT rollup FROM scalecache.rollups;
DROP TABLE orders, product CASCADE;
DROP FUNCTION differ;
REVOKE CREATE ON SCHEMA public FROM other;
DROP ROLE other;
DROP EXTENSION scalecache;
