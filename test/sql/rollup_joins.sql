-- Rollups whose query joins a table with others.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
SET max_parallel_workers_per_gather = 0;
SET timezone = 'Europe/Berlin';
SET datestyle = iso;
SET compute_query_id = off;

CREATE TABLE category (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE product (id int PRIMARY KEY, category_id int REFERENCES category, price numeric(10,2), label text);
CREATE TABLE orders (id bigserial PRIMARY KEY, product_id int REFERENCES product, created_at timestamptz NOT NULL,
	amount numeric(10,2), qty int, rate numeric, f float8);
INSERT INTO category SELECT i, 'category ' || i FROM generate_series(1, 5) i;
INSERT INTO product SELECT i, nullif(i % 6, 0), i * 1.25, 'p' || i % 10 FROM generate_series(1, 30) i;
INSERT INTO orders (product_id, created_at, amount, qty, rate, f)
	SELECT nullif(i % 31, 0), '2024-01-01 00:00+01'::timestamptz + i % 300 * interval '1 day', i % 97 + 0.5, i % 3, i % 5, i * 0.5
	FROM generate_series(1, 20000) i;
ANALYZE category, product, orders;

CREATE TABLE rollup_query (rollup text, query text);
CREATE FUNCTION make(rollup text, query text) RETURNS regclass LANGUAGE sql AS
	'INSERT INTO rollup_query VALUES ($1, $2); SELECT scalecache.create_rollup($1, $2)';
-- Rows that the view and its query, run plainly, do not have in common; 0 is right.
CREATE FUNCTION differ() RETURNS TABLE (rollup text, rows bigint, differ bigint) LANGUAGE plpgsql AS $$
DECLARE q text;
BEGIN
	FOR rollup, q IN SELECT r.rollup, query FROM rollup_query r ORDER BY 1 LOOP
		EXECUTE format('CREATE TEMP TABLE plain AS %s', q);
		EXECUTE format('SELECT (SELECT count(*) FROM plain), (SELECT count(*) FROM ((SELECT x::text FROM %1$I x EXCEPT ALL SELECT p::text FROM plain p)
			UNION ALL (SELECT p::text FROM plain p EXCEPT ALL SELECT x::text FROM %1$I x)) d)', rollup) INTO rows, differ;
		DROP TABLE plain;
		RETURN NEXT;
	END LOOP;
END $$;

SELECT make('by_category', $$ SELECT c.name, date_trunc('month', o.created_at) AS month, sum(o.amount) AS total, count(*) AS n,
	avg(o.f) AS mean, min(o.amount) AS least, max(o.amount) AS most
	FROM orders o JOIN product p ON p.id = o.product_id JOIN category c ON c.id = p.category_id GROUP BY 1, 2 $$);
-- The orders of FROM and the way of writing do not matter
SELECT make('revenue', $$ SELECT p.label, sum(o.qty * p.price) AS revenue, count(DISTINCT c.id) AS categories
	FROM category c, product p, orders o WHERE o.product_id = p.id AND c.id = p.category_id AND o.amount > 10 GROUP BY p.label HAVING count(*) > 10 $$);
SELECT make('left_join', $$ SELECT c.name, count(p.id) AS known, count(*) AS n, sum(o.amount) FILTER (WHERE p.price > 10) AS dear, sum(p.price) AS prices
	FROM orders o LEFT JOIN product p ON p.id = o.product_id AND o.qty > 0 LEFT JOIN category c ON c.id = p.category_id GROUP BY 1 $$);
SELECT make('totals', $$ SELECT sum(o.amount) AS total, count(*) AS n FROM orders o JOIN product p ON p.id = o.product_id WHERE p.price < 20 $$);
SELECT make('other', $$ SELECT p.label, sum(o.amount) AS total FROM orders o JOIN product p ON o.product_id BETWEEN p.id - 1 AND p.id + 1 GROUP BY 1 $$);
SELECT make('self', $$ SELECT a.qty, count(*) AS n, sum(a.amount) AS total FROM orders a JOIN orders b ON a.product_id = b.product_id AND b.id < 50 GROUP BY 1 $$);
SELECT make('counted', $$ SELECT count(*) AS n FROM product p JOIN orders o(id, product) ON p.id = o.product $$);
SELECT rollup, source, state FROM scalecache.rollups ORDER BY 1;
SELECT query FROM scalecache.rollups WHERE rollup = 'left_join'::regclass;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT * FROM by_category WHERE name = 'category 3' ORDER BY month;
SELECT count(*) FROM by_category WHERE EXISTS (SELECT FROM totals);
SELECT * FROM differ();

-- Changes of the source, and of the other tables
INSERT INTO orders (product_id, created_at, amount, qty, f) SELECT i % 30 + 1, now(), i, i % 4, i FROM generate_series(1, 50) i;
UPDATE orders SET product_id = 5, amount = amount + 1 WHERE id % 50 = 0;
DELETE FROM orders WHERE amount > 96;
SELECT * FROM differ();
UPDATE product SET category_id = 2 WHERE id < 8;
UPDATE category SET name = 'Category 1' WHERE id = 1;
INSERT INTO category VALUES (6, 'new');
UPDATE product SET category_id = 6, price = price * 2 WHERE id % 7 = 0;
SELECT * FROM differ();
BEGIN;
UPDATE product SET category_id = 3;
SAVEPOINT a;
DELETE FROM orders WHERE product_id = 4;
DELETE FROM product WHERE id = 4;
SELECT * FROM differ();
ROLLBACK TO a;
INSERT INTO orders (product_id, created_at, amount, qty) VALUES (4, now(), 1, 1);
SELECT * FROM differ();
ROLLBACK;
SELECT scalecache.fold_rollup(rollup::regclass) > 0 AS folded, scalecache.verify_rollup(rollup::regclass) FROM rollup_query ORDER BY rollup;
SELECT * FROM differ();
TRUNCATE orders;
SELECT * FROM differ();
SELECT * FROM totals;
INSERT INTO orders (product_id, created_at, amount, qty, f) SELECT i % 30 + 1, '2024-05-05', i % 90, i % 4, i FROM generate_series(1, 3000) i;
SELECT * FROM differ();

-- Renames follow; what is read cannot be dropped
ALTER TABLE product RENAME TO item;
ALTER TABLE item RENAME COLUMN label TO tag;
ALTER TABLE orders RENAME COLUMN product_id TO item_id;
INSERT INTO orders (item_id, created_at, amount, qty, f) VALUES (3, '2024-05-05', 7, 2, 1);
SELECT query FROM scalecache.rollups WHERE rollup = 'revenue'::regclass;
SELECT scalecache.verify_rollup('revenue');
SELECT count(*) FROM revenue;
DROP TABLE item;
ALTER TABLE item DROP COLUMN price;
ALTER TABLE item ALTER COLUMN price TYPE float8;
ALTER TABLE orders RENAME COLUMN item_id TO product_id;
ALTER TABLE item RENAME COLUMN tag TO label;
ALTER TABLE item RENAME TO product;
SELECT * FROM differ();

-- Others read it like any view
CREATE ROLE reader;
GRANT SELECT ON by_category TO reader;
SET ROLE reader;
SELECT count(*) > 0 FROM by_category;
SELECT count(*) FROM totals;
RESET ROLE;

-- What is refused
SELECT scalecache.create_cache_rule('joined', 'by_category', key => 'c:{category}');
\set VERBOSITY sqlstate
SELECT scalecache.create_rollup('bad', 'SELECT p.label, sum(o.amount) FROM product p LEFT JOIN orders o ON o.product_id = p.id GROUP BY 1');
SELECT scalecache.create_rollup('bad', 'SELECT p.label, sum(o.amount) FROM product p FULL JOIN orders o ON o.product_id = p.id GROUP BY 1');
\set VERBOSITY default
SELECT scalecache.create_rollup('bad', 'SELECT p.label, count(*) FROM product p CROSS JOIN orders o GROUP BY 1');
CREATE TEMP TABLE own (id int);
SELECT scalecache.create_rollup('bad', 'SELECT count(*) FROM orders o JOIN own ON own.id = o.product_id');
DROP TABLE own;
SELECT scalecache.create_rollup('bad', 'SELECT p.label, array_agg(o.id) FROM product p JOIN orders o ON o.product_id = p.id GROUP BY 1');
SELECT scalecache.create_rollup('bad', 'SELECT p.label, sum(o.rate * p.price) FROM product p JOIN orders o ON o.product_id = p.id GROUP BY 1');
-- before anything is filled
SELECT scalecache.create_rollup('bad', 'SELECT p.label, sum(o.rate * p.price) FROM product p JOIN orders o ON o.product_id = p.id GROUP BY 1', false);
CALL scalecache.create_rollup_concurrently('bad', 'SELECT p.label, sum(o.rate * p.price) FROM product p JOIN orders o ON o.product_id = p.id GROUP BY 1');
SELECT count(*) FROM pg_class WHERE relname ~ '^bad';
SELECT scalecache.create_rollup('bad', 'SELECT p.label, count(*) FROM orders o JOIN (SELECT * FROM product) p ON o.product_id = p.id GROUP BY 1');
SELECT scalecache.create_rollup('bad', 'SELECT g, count(*) FROM orders o, LATERAL generate_series(1, o.qty) g GROUP BY 1');
SELECT scalecache.create_rollup('bad', 'SELECT g, count(*) FROM orders o, generate_series(1, 3) g GROUP BY 1');
SELECT scalecache.create_rollup('bad', 'SELECT p.id, count(*) FROM orders o JOIN product p TABLESAMPLE SYSTEM (10) ON p.id = o.product_id GROUP BY 1');
SELECT scalecache.create_rollup('bad', 'SELECT p.id, p.label, count(*) FROM orders o JOIN product p ON p.id = o.product_id GROUP BY 1');
SELECT scalecache.create_rollup('bad', 'SELECT p.id, count(*) FROM orders o JOIN product p ON p.id = o.product_id AND o.created_at < now() GROUP BY 1');
SELECT scalecache.create_rollup('bad', 'SELECT p.id, count(*) FROM orders o JOIN product p ON p.id = o.product_id WHERE p.category_id IN (SELECT id FROM category) GROUP BY 1');
SELECT scalecache.create_rollup('bad', 'SELECT count(*) FROM (VALUES (1)) a, (VALUES (2)) b');
SET ROLE reader;
SELECT scalecache.create_rollup('pg_temp.bad', 'SELECT p.id, count(*) FROM public.orders o JOIN public.product p ON p.id = o.product_id GROUP BY 1');
RESET ROLE;
SELECT rollup FROM scalecache.rollups WHERE rollup::text = 'bad';
-- Values that cannot be grouped by; also when the view is replaced by such a query
CREATE FUNCTION same(json, int) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN $1::text = $2::text;
ALTER TABLE orders ADD COLUMN doc json;
SELECT scalecache.create_rollup('bad', 'SELECT p.id, count(*) FROM orders o JOIN product p ON same(o.doc, p.id) GROUP BY 1');
CREATE OR REPLACE VIEW counted AS SELECT count(*) AS n FROM orders o JOIN product p ON same(o.doc, p.id);
SELECT * FROM counted;
SELECT rollup, state FROM scalecache.rollups WHERE rollup = 'counted'::regclass;
INSERT INTO orders (product_id, created_at, doc) VALUES (1, '2024-05-05', '7');
SELECT * FROM counted;

-- Nothing stays behind
DROP TABLE category CASCADE;
SELECT rollup FROM scalecache.rollups ORDER BY 1;
DROP TABLE product CASCADE;
DROP TABLE orders CASCADE;
SELECT rollup FROM scalecache.rollups ORDER BY 1;
SELECT relname FROM pg_class WHERE relnamespace = 'scalecache_data'::regnamespace;
DROP TABLE rollup_query;
DROP FUNCTION make, differ, same;
DROP ROLE reader;
DROP EXTENSION scalecache;
