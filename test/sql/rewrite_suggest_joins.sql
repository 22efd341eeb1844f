-- Rollups of joins that a workload would gain from.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
SET TimeZone = 'UTC';
SET scalecache.enable_rewrite = on;
SET compute_query_id = off;
CREATE TABLE categories (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE products (id int PRIMARY KEY, category_id int NOT NULL REFERENCES categories, price numeric(8,2) NOT NULL);
CREATE TABLE orders (id int PRIMARY KEY, product_id int NOT NULL REFERENCES products, created_at timestamptz NOT NULL, qty int NOT NULL,
	amount numeric(10,2) NOT NULL, state text NOT NULL);
INSERT INTO categories SELECT i, 'category ' || i FROM generate_series(1, 10) i;
INSERT INTO products SELECT i, 1 + i % 10, i FROM generate_series(1, 50) i;
INSERT INTO orders SELECT i, 1 + i % 50, '2024-01-01'::timestamptz + i * interval '5 minutes', i % 3, i % 1000, (array['new', 'paid', 'sent'])[1 + i % 3]
FROM generate_series(1, 50000) i;
VACUUM ANALYZE categories, products, orders;
CREATE FUNCTION gains(queries text[]) RETURNS TABLE (rank int, ddl text, source regclass, gains boolean, reason text) LANGUAGE sql AS $$
	SELECT rank, ddl, source, cost_after < cost_before / 5 AND size_bytes > 0 AND write_cost > 0, substring(reason FROM 'serves \d+ of \d+') FROM scalecache.suggest_rollups(queries)
$$;

-- one for several spellings of a join, and for months, days and conditions
SELECT * FROM gains(ARRAY[
	$$SELECT c.name, date_trunc('month', o.created_at), sum(o.amount) FROM orders o JOIN products p ON p.id = o.product_id JOIN categories c ON c.id = p.category_id GROUP BY 1, 2$$,
	$$SELECT name, sum(amount) FROM categories cc, products pp, orders oo WHERE oo.product_id = pp.id AND pp.category_id = cc.id AND oo.created_at >= '2024-02-01' AND oo.created_at < '2024-03-01' GROUP BY 1$$,
	$$SELECT count(*) FROM products p JOIN categories c ON p.category_id = c.id JOIN orders o ON o.product_id = p.id AND o.state = 'paid' WHERE c.name LIKE '%1'$$]);
-- the statement is accepted, and its rollup answers them
SELECT ddl FROM gains(ARRAY[
	$$SELECT c.name, date_trunc('month', o.created_at), sum(o.amount) FROM orders o JOIN products p ON p.id = o.product_id JOIN categories c ON c.id = p.category_id GROUP BY 1, 2$$,
	$$SELECT name, sum(amount) FROM categories cc, products pp, orders oo WHERE oo.product_id = pp.id AND pp.category_id = cc.id AND oo.created_at >= '2024-02-01' AND oo.created_at < '2024-03-01' GROUP BY 1$$,
	$$SELECT count(*) FROM products p JOIN categories c ON p.category_id = c.id JOIN orders o ON o.product_id = p.id AND o.state = 'paid' WHERE c.name LIKE '%1'$$]) \gexec
SELECT rollup, used FROM scalecache.explain_rewrite($$SELECT c.name, date_trunc('month', o.created_at), sum(o.amount)
	FROM orders o JOIN products p ON p.id = o.product_id JOIN categories c ON c.id = p.category_id GROUP BY 1, 2$$);
SELECT rollup, used FROM scalecache.explain_rewrite($$SELECT count(*) FROM products p JOIN categories c ON p.category_id = c.id
	JOIN orders o ON o.product_id = p.id AND o.state = 'paid' WHERE c.name LIKE '%1'$$);
-- little to gain beyond it
SELECT * FROM gains(ARRAY[
	$$SELECT c.name, date_trunc('month', o.created_at), sum(o.amount) FROM orders o JOIN products p ON p.id = o.product_id JOIN categories c ON c.id = p.category_id GROUP BY 1, 2$$]);
SELECT scalecache.drop_rollup('orders_rollup');

-- sets of keys, and keys alone; of a LEFT JOIN too
SELECT * FROM gains(ARRAY[
	'SELECT c.name, o.state, sum(o.amount), grouping(c.name) FROM orders o JOIN products p ON p.id = o.product_id JOIN categories c ON c.id = p.category_id GROUP BY CUBE (1, 2)',
	'SELECT DISTINCT c.name FROM orders o JOIN products p ON p.id = o.product_id JOIN categories c ON c.id = p.category_id',
	'SELECT o.state, p.price, count(*), grouping(o.state, p.price) FROM orders o LEFT JOIN products p ON p.id = o.product_id GROUP BY GROUPING SETS ((1, 2), (1), ())']);

-- other conditions, other joins; a table twice; with a rollup of one table
SELECT rank, source, gains, reason FROM gains(ARRAY[
	'SELECT p.price, sum(o.qty) FROM orders o JOIN products p ON p.id = o.product_id GROUP BY 1',
	'SELECT p.price, sum(o.qty) FROM orders o JOIN products p ON p.id > o.product_id + 45 GROUP BY 1',
	'SELECT a.name, b.name, count(*) FROM orders o JOIN categories a ON a.id = o.qty JOIN categories b ON b.id = o.qty + 1 GROUP BY 1, 2',
	'SELECT state, sum(amount) FROM orders GROUP BY 1']);
SELECT ddl FROM gains(ARRAY[
	'SELECT p.price, sum(o.qty) FROM orders o JOIN products p ON p.id = o.product_id GROUP BY 1',
	'SELECT p.price, sum(o.qty) FROM orders o JOIN products p ON p.id > o.product_id + 45 GROUP BY 1',
	'SELECT a.name, b.name, count(*) FROM orders o JOIN categories a ON a.id = o.qty JOIN categories b ON b.id = o.qty + 1 GROUP BY 1, 2',
	'SELECT state, sum(amount) FROM orders GROUP BY 1']) \gexec
SELECT rollup, scalecache.verify_rollup(rollup) FROM scalecache.rollups ORDER BY rollup::text;
SELECT count(scalecache.drop_rollup(rollup)) FROM scalecache.rollups;

-- a price that counts as often as it is ordered
SELECT ddl FROM gains(ARRAY['SELECT o.state, sum(p.price * o.qty) FROM orders o JOIN products p ON p.id = o.product_id GROUP BY 1']);
-- of other joins, the groups of one table
CREATE FUNCTION left_joins() RETURNS text[] LANGUAGE sql AS $f$ SELECT ARRAY[
	$$SELECT p.price, o.qty > 1, sum(o.qty) FROM orders o LEFT JOIN products p ON p.id = o.product_id AND o.state <> 'sent' GROUP BY 1, 2$$,
	$$SELECT c.name, count(*), max(o.amount) FROM categories c RIGHT JOIN (orders o LEFT JOIN products p ON p.id = o.product_id) ON c.id = p.category_id
		WHERE o.state = 'paid' AND p.price > 5 GROUP BY 1$$,
	'SELECT p.price, sum(o.qty) FROM orders o JOIN (SELECT * FROM products LIMIT 10) p ON p.id = o.product_id GROUP BY 1'] $f$;
SELECT * FROM gains(left_joins());
SELECT ddl FROM gains(left_joins()) \gexec
SELECT x.rollup, x.used FROM unnest(left_joins()) q, scalecache.explain_rewrite(q) x;
-- what it said that they would cost is not far from what they do
SELECT scalecache.drop_rollup('orders_rollup');
CREATE TABLE said AS SELECT ddl, cost_after FROM scalecache.suggest_rollups(left_joins());
SELECT ddl FROM said \gexec
CREATE FUNCTION cost_of(query text) RETURNS float8 LANGUAGE plpgsql AS $f$ DECLARE plan json;
	BEGIN EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan; RETURN plan #>> '{0,Plan,Total Cost}'; END $f$;
SELECT sum(cost_of(q)) BETWEEN cost_after / 5 AND cost_after * 2 AS near FROM said, unnest(left_joins()) q GROUP BY cost_after;
SELECT scalecache.drop_rollup('orders_rollup');
-- not where the table is on the nullable side, nor of more groups than it is worth, subqueries in conditions, what cannot be added up, volatile conditions
SELECT * FROM gains(ARRAY[
	'SELECT p.price, sum(o.qty) FROM products p LEFT JOIN orders o ON p.id = o.product_id GROUP BY 1',
	'SELECT p.price, o.created_at, sum(o.qty) FROM orders o LEFT JOIN products p ON p.id = o.product_id GROUP BY 1, 2',
	'SELECT p.price, sum(o.qty) FROM orders o LEFT JOIN products p ON p.id = o.product_id WHERE o.qty < (SELECT max(id) FROM products WHERE id < o.id) GROUP BY 1',
	'SELECT o.id, sum(p.price) FROM orders o JOIN products p ON p.id = o.product_id GROUP BY 1',
	$$SELECT o.state, string_agg(p.id::text, ',') FROM orders o JOIN products p ON p.id = o.product_id GROUP BY 1$$,
	$$SELECT o.state, string_agg(p.id::text, ',') FROM orders o LEFT JOIN products p ON p.id = o.product_id GROUP BY 1$$,
	'SELECT o.state, count(*) FROM orders o JOIN products p ON p.id = o.product_id + (random() * 0)::int GROUP BY 1',
	'SELECT o.state, count(*) FROM orders o LEFT JOIN products p ON p.id = o.product_id + (random() * 0)::int GROUP BY 1']);
-- nor of tables that one does not own
CREATE ROLE sc_suggest_reader;
GRANT SELECT ON orders, products TO sc_suggest_reader;
SET ROLE sc_suggest_reader;
SELECT count(*) FROM scalecache.suggest_rollups(ARRAY['SELECT p.price, sum(o.qty) FROM orders o JOIN products p ON p.id = o.product_id GROUP BY 1']);
RESET ROLE;
ALTER TABLE orders OWNER TO sc_suggest_reader;
SET ROLE sc_suggest_reader;
SELECT count(*) FROM scalecache.suggest_rollups(ARRAY['SELECT p.price, sum(o.qty) FROM orders o JOIN products p ON p.id = o.product_id GROUP BY 1']);
RESET ROLE;

DROP EXTENSION scalecache CASCADE;
DROP TABLE orders, products, categories;
DROP ROLE sc_suggest_reader;
DROP TABLE said;
DROP FUNCTION gains(text[]), left_joins, cost_of;
