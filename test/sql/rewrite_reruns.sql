-- Queries answered from rollups that are run again for other rows.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
SET scalecache.enable_rewrite = on;
SET compute_query_id = off;
CREATE TABLE sales (id int PRIMARY KEY, country int, product int, note text, amount numeric(10,2), n int);
INSERT INTO sales SELECT i, i % 5, i % 7, 'n' || i % 3, i % 1000, nullif(i % 10, 7) FROM generate_series(1, 20000) i;
CREATE TABLE countries (id int PRIMARY KEY, name text, part int);
INSERT INTO countries SELECT i, 'c' || i, i % 3 FROM generate_series(0, 7) i;
VACUUM ANALYZE sales, countries;

\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /rewrite_helper.sql
\set ECHO none
\i :helper
\set ECHO all

SELECT scalecache.create_rollup('by_country', $$
	SELECT country, product, sum(amount) AS s, count(n) AS c, avg(n) AS a, count(DISTINCT n) AS d FROM sales GROUP BY 1, 2 $$);
-- Groups with deltas, too
INSERT INTO sales SELECT i, i % 6, i % 7, 'x', i, i % 11 FROM generate_series(20001, 20200) i;
UPDATE sales SET country = 2 WHERE id % 1000 = 0;

-- each run has its own groups, those with deltas among them
SELECT answer($$SELECT c.id, l.* FROM countries c LEFT JOIN LATERAL
	(SELECT count(*), sum(amount), avg(n), count(DISTINCT product) AS k FROM sales WHERE country = c.id) l ON true$$, 'on by_country');
SELECT answer($$SELECT c.id, (SELECT sum(amount) FROM sales s WHERE s.country = c.part) FROM countries c$$, 'on by_country');
SELECT answer($$SELECT c.id, l.* FROM countries c JOIN LATERAL
	(SELECT country, product, sum(amount), count(n) FROM sales WHERE country = c.id OR product = c.part GROUP BY 1, 2) l ON true$$, 'on by_country');

-- one that is pulled up into the joined query, whose join is planned again
EXPLAIN (COSTS OFF) SELECT c.name, sum(s.amount) FROM countries c JOIN LATERAL (SELECT * FROM sales WHERE country = c.id) s ON true GROUP BY 1;
SELECT answer($$SELECT (SELECT count(*) FROM (SELECT c.name || c.part, sum(s.amount)
	FROM countries c JOIN LATERAL (SELECT * FROM sales WHERE country = c.id) s ON true GROUP BY 1) z)$$, 'on by_country');

-- A table is in use by a cursor of its session, as without the rollup: it may yet have to answer
SELECT scalecache.create_rollup('by_product', 'SELECT product, sum(amount) AS s FROM sales GROUP BY 1');
SELECT scalecache.create_rollup('by_name', 'SELECT c.name, sum(s.amount) AS s FROM sales s JOIN countries c ON c.id = s.country GROUP BY 1');
\set VERBOSITY terse
EXPLAIN (COSTS OFF) SELECT product + 1, sum(amount) FROM sales GROUP BY 1;
BEGIN;
DECLARE c CURSOR FOR SELECT product + 1, sum(amount) FROM sales GROUP BY 1;
ALTER TABLE sales ALTER id TYPE bigint;
ROLLBACK;
EXPLAIN (COSTS OFF) SELECT c.name, c.id, sum(s.amount) FROM sales s JOIN countries c ON c.id = s.country GROUP BY 1, 2;
BEGIN;
DECLARE c CURSOR FOR SELECT c.name, c.id, sum(s.amount) FROM sales s JOIN countries c ON c.id = s.country GROUP BY 1, 2;
ALTER TABLE sales ALTER id TYPE bigint;
ROLLBACK;
EXPLAIN (COSTS OFF) SELECT c.name, sum(s.amount) FROM sales s JOIN countries c ON c.id = s.country GROUP BY 1;
BEGIN;
DECLARE c CURSOR FOR SELECT c.name, sum(s.amount) FROM sales s JOIN countries c ON c.id = s.country GROUP BY 1;
ALTER TABLE countries ALTER part TYPE bigint;
ROLLBACK;
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM by_product;
ALTER TABLE sales ALTER id TYPE bigint;
ROLLBACK;
-- which is not to be taken for being changed
BEGIN;
DECLARE c CURSOR FOR SELECT product + 1, sum(amount) FROM sales GROUP BY 1;
INSERT INTO sales VALUES (0, 1, 1, 'x', 100, 1);
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT product + 1, sum(amount) FROM sales GROUP BY 1;
SAVEPOINT a;
SELECT product + 1, sum(amount) / (product - 1) FROM sales GROUP BY product;
ROLLBACK TO a;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT product + 1, sum(amount) FROM sales GROUP BY 1;
COMMIT;
ALTER TABLE sales ALTER id TYPE bigint;
-- nor do cursors hold it that have failed: a DELETE in its midst is noticed
CREATE FUNCTION amount_left() RETURNS numeric LANGUAGE plpgsql AS $$ BEGIN
	RETURN (SELECT sum(n) FROM (SELECT product + 1, sum(amount) AS n FROM sales GROUP BY 1) x); END $$;
SELECT sum(amount) - amount_left() FROM sales;
BEGIN;
DECLARE c CURSOR FOR SELECT product + 1, 1 / (sum(amount) - sum(amount)) FROM sales GROUP BY 1;
DECLARE d CURSOR FOR SELECT product + 1, 1 / (sum(amount) - sum(amount)) FROM sales GROUP BY 1;
SAVEPOINT a;
FETCH c;
ROLLBACK TO a;
FETCH d;
ROLLBACK TO a;
CREATE TEMP TABLE before AS SELECT amount_left() AS n;
WITH gone AS (DELETE FROM sales WHERE id IN (SELECT id FROM sales ORDER BY id LIMIT 3) RETURNING amount_left() AS n)
	SELECT before.n - gone.n FROM before, gone;
ROLLBACK;
DROP FUNCTION amount_left();
DROP EXTENSION scalecache CASCADE;
DROP TABLE sales, countries;
DROP FUNCTION answer(text, text), try(text), rows_of(text);
