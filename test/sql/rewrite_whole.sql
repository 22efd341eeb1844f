-- Queries that ask for all groups of a rollup are told from others before they
-- are planned: the plan then reads the base table's columns themselves.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
SET TimeZone = 'Europe/Berlin';
SET scalecache.enable_rewrite = on;
SET max_parallel_workers_per_gather = 0;
SET compute_query_id = off;
CREATE TABLE sales (id int PRIMARY KEY, at timestamptz NOT NULL, shop int, amount numeric(10,2), filler text);
INSERT INTO sales
SELECT i, '2023-11-01'::timestamptz + i * interval '47 minutes', i % 7, i % 1000, repeat('x', 100)
FROM generate_series(1, 20000) i;
ANALYZE sales;
\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /rewrite_helper.sql
\set ECHO none
\i :helper
\set ECHO all
SELECT scalecache.create_rollup('monthly', $$ SELECT date_trunc('month', at) AS month, sum(amount) AS total,
	count(*) AS n FROM sales GROUP BY 1 $$);
SELECT scalecache.create_rollup('shops', $$ SELECT shop, max(amount) AS most FROM sales GROUP BY 1 $$);
SELECT scalecache.create_rollup('totals', $$ SELECT sum(amount) AS total FROM sales $$);
-- Is it one of those?
CREATE FUNCTION whole(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
	how text := 'planned';
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (VERBOSE, COSTS OFF) ' || query LOOP
		IF line ~ '^ *Output: .*\m(monthly|shops|totals|small_shops)\.(k|a)1.*' AND line !~ 'wide' THEN
			how := 'whole';
		END IF;
	END LOOP;
	RETURN how || ', ' || try(query);
END $$;

EXPLAIN (ANALYZE, VERBOSE, COSTS OFF, TIMING OFF, SUMMARY OFF)
SELECT date_trunc('month', at), sum(amount) FROM sales GROUP BY 1;
SELECT whole($$SELECT date_trunc('month', at), sum(amount) FROM sales GROUP BY 1$$);
SELECT whole($$SELECT count(*) / 2, sum(amount) + 1, date_trunc('month', at)::date FROM sales
	GROUP BY date_trunc('month', at) ORDER BY 2 DESC LIMIT 3$$);
SELECT whole($$SELECT sum(amount) FROM sales GROUP BY date_trunc('month', at)$$);
SELECT whole($$SELECT date_trunc('month', at, 'Europe/Berlin') FROM sales GROUP BY 1$$);
SELECT whole($$SELECT max(amount), shop FROM sales s GROUP BY shop$$);
SELECT whole($$SELECT sum(amount) FROM sales$$);
-- what asks for something else is left to the planner
SELECT whole($$SELECT date_trunc('month', at), avg(amount) FROM sales GROUP BY 1$$);
SELECT whole($$SELECT date_trunc('month', at), sum(amount) FROM sales GROUP BY 1 HAVING sum(amount) > 5$$);
SELECT whole($$SELECT date_trunc('month', at), sum(amount) FROM sales WHERE at < '2024-02-01' GROUP BY 1$$);
SELECT whole($$SELECT DISTINCT sum(amount) FROM sales GROUP BY date_trunc('month', at)$$);
SELECT whole($$SELECT sum(amount) FROM sales GROUP BY ROLLUP (date_trunc('month', at))$$);
SELECT whole($$SELECT shop, max(amount), sum(max(amount)) OVER () FROM sales GROUP BY shop$$);
SELECT whole($$SELECT shop, max(amount) FROM sales TABLESAMPLE bernoulli (100) GROUP BY shop$$);
SELECT whole($$SELECT shop, max(amount), (SELECT max(s.amount)) FROM sales s GROUP BY shop$$);
SELECT whole($$SELECT id, shop FROM sales GROUP BY id$$);
-- so are aggregates that it leaves out: their arguments may fail
SELECT whole($$SELECT shop, CASE WHEN false THEN sum(1 / 0) ELSE max(amount) END FROM sales GROUP BY shop$$);
SELECT whole($$SELECT shop, CASE WHEN true THEN max(amount) END FROM sales GROUP BY shop$$);
-- so is the choice between two
SELECT scalecache.create_rollup('shops2', $$ SELECT shop, max(amount) AS most, count(*) AS n FROM sales GROUP BY 1 $$);
SELECT whole($$SELECT max(amount), shop FROM sales s GROUP BY shop$$);
SELECT scalecache.set_rollup_rewrite('shops2', false);
SELECT whole($$SELECT max(amount), shop FROM sales s GROUP BY shop$$);
SELECT scalecache.drop_rollup('shops2');
-- and a table that is not surely slower
CREATE TABLE small AS SELECT * FROM sales WHERE id < 100;
SELECT scalecache.create_rollup('small_shops', $$ SELECT shop, max(amount) AS most FROM small GROUP BY 1 $$);
ANALYZE small;
SELECT whole($$SELECT shop, max(amount) FROM small GROUP BY 1$$);
DROP TABLE small CASCADE;
-- or that may be read in part, while there is much to merge
CREATE TABLE ends AS SELECT * FROM sales;
CREATE INDEX ON ends (id);
ANALYZE ends;
SELECT scalecache.create_rollup('ends_shops', $$ SELECT shop, min(id) AS first, max(id) AS last FROM ends GROUP BY 1 $$);
SELECT scalecache.create_rollup('ends_all', $$ SELECT min(id) AS first, max(id) AS last FROM ends $$);
EXPLAIN (COSTS OFF) SELECT max(id) FROM ends;
EXPLAIN (COSTS OFF) SELECT shop, max(id) FROM ends GROUP BY shop LIMIT 1;
DO $$ BEGIN
	FOR i IN 1..800 LOOP
		INSERT INTO ends VALUES (30000 + i, '2024-01-01', 1, 1);
		COMMIT;
	END LOOP;
END $$;
-- sizes are looked at anew
SELECT scalecache.set_rollup_rewrite(r, true) FROM unnest('{ends_shops,ends_all}'::regclass[]) r;
EXPLAIN (COSTS OFF) SELECT max(id) FROM ends;
SELECT max(id) FROM ends;
EXPLAIN (VERBOSE, COSTS OFF) SELECT shop, max(id) FROM ends GROUP BY shop LIMIT 1;
EXPLAIN (VERBOSE, COSTS OFF) SELECT shop, max(id) FROM ends GROUP BY shop;
DROP TABLE ends CASCADE;
-- pending deltas, an extreme that went
BEGIN;
DELETE FROM sales WHERE amount > 990;
DELETE FROM sales WHERE shop = 3;
INSERT INTO sales VALUES (30000, '2030-01-01', 99, 17), (30001, '2030-01-01', NULL, NULL);
SELECT whole($$SELECT date_trunc('month', at), sum(amount) FROM sales GROUP BY 1$$);
SELECT whole($$SELECT max(amount), shop FROM sales GROUP BY shop$$);
SELECT whole($$SELECT sum(amount) FROM sales$$);
ROLLBACK;
-- in the middle of a statement that changes the table
WITH x AS (INSERT INTO sales VALUES (30002, '2024-02-10', 1, 5) RETURNING amount)
SELECT (SELECT sum(amount) FROM sales) - (SELECT sum(amount) FROM sales WHERE id > 0) AS zero, (SELECT amount FROM x);
CREATE FUNCTION seen() RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE a numeric;
BEGIN
	EXECUTE 'SELECT sum(amount) FROM sales' INTO a;
	RETURN a - (SELECT sum(amount) FROM sales WHERE id > 0);
END $$;
UPDATE sales SET amount = amount + 1 WHERE id < 100 AND seen() = 0;
SELECT whole($$SELECT sum(amount) FROM sales$$);
-- another time zone than the plan was made for: as the plain query
SET plan_cache_mode = force_generic_plan;
PREPARE p AS SELECT date_trunc('month', at) AS month, to_char(date_trunc('month', at), 'HH24 TZH') AS hour, sum(amount)
	FROM sales GROUP BY 1 ORDER BY 1 LIMIT 2;
EXECUTE p;
SET TimeZone = 'America/New_York';
EXECUTE p;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE p;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, FORMAT yaml) EXECUTE p;
SELECT whole($$SELECT date_trunc('month', at), sum(amount) FROM sales GROUP BY 1$$);
SELECT whole($$SELECT date_trunc('month', at, 'Europe/Berlin') AS m, sum(amount) FROM sales GROUP BY m$$);
SET TimeZone = 'Europe/Berlin';
EXECUTE p;
-- the setting, and a rollup that goes
SET scalecache.enable_rewrite = off;
EXPLAIN (COSTS OFF) EXECUTE p;
SET scalecache.enable_rewrite = on;
EXPLAIN (COSTS OFF) EXECUTE p;
SELECT scalecache.drop_rollup('monthly');
EXPLAIN (COSTS OFF) EXECUTE p;
DEALLOCATE p;
-- cursors, and scans that are started again
BEGIN;
DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT shop, max(amount) FROM sales GROUP BY shop ORDER BY 1;
FETCH 2 FROM c;
COMMIT;
DELETE FROM sales WHERE shop = 5;
FETCH BACKWARD 1 FROM c;
FETCH 5 FROM c;
CLOSE c;
CREATE FUNCTION most(OUT shop int, OUT most numeric) RETURNS SETOF record LANGUAGE sql STABLE AS
	'SELECT s.shop, max(amount) FROM sales s GROUP BY s.shop';
SELECT count(*), sum(most) FROM generate_series(1, 3) g, LATERAL most() m WHERE g > 0;
-- rights: on columns, on functions, on rows
CREATE FUNCTION twice(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 * 2; END';
SELECT scalecache.create_rollup('doubled', $$ SELECT twice(shop) AS two, sum(amount) AS total FROM sales GROUP BY 1 $$);
CREATE ROLE regress_whole;
GRANT SELECT (shop, amount) ON sales TO regress_whole;
SET ROLE regress_whole;
SELECT count(*) FROM (SELECT twice(shop), sum(amount) FROM sales GROUP BY 1) x;
PREPARE q AS SELECT twice(shop), sum(amount) FROM sales GROUP BY 1 ORDER BY 1 LIMIT 2;
EXECUTE q;
RESET ROLE;
REVOKE EXECUTE ON FUNCTION twice FROM PUBLIC;
SET ROLE regress_whole;
EXECUTE q;
EXPLAIN (COSTS OFF) EXECUTE q;
EXPLAIN (COSTS OFF) SELECT twice(shop), sum(amount) FROM sales GROUP BY 1;
SELECT shop, max(amount) FROM sales GROUP BY 1 ORDER BY 1 LIMIT 1;
RESET ROLE;
-- those too that a function in SQL calls
GRANT EXECUTE ON FUNCTION twice TO PUBLIC;
CREATE FUNCTION in_sql(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT twice($1)';
SELECT scalecache.create_rollup('inlined', $$ SELECT in_sql(shop) AS two, count(amount) AS n FROM sales GROUP BY 1 $$);
SET ROLE regress_whole;
PREPARE i AS SELECT in_sql(shop), count(amount) FROM sales GROUP BY 1 ORDER BY 1 LIMIT 1;
EXECUTE i;
EXPLAIN (COSTS OFF) EXECUTE i;
RESET ROLE;
REVOKE EXECUTE ON FUNCTION twice FROM PUBLIC;
SET ROLE regress_whole;
EXECUTE i;
SELECT in_sql(shop), count(amount) FROM sales GROUP BY 1 ORDER BY 1 LIMIT 1;
RESET ROLE;
REVOKE SELECT (amount) ON sales FROM regress_whole;
SET ROLE regress_whole;
SELECT shop, max(amount) FROM sales GROUP BY 1 ORDER BY 1 LIMIT 1;
SELECT shop FROM sales GROUP BY 1 ORDER BY 1 LIMIT 1;
RESET ROLE;
GRANT SELECT ON sales TO regress_whole;
SET ROLE regress_whole;
PREPARE r AS SELECT shop, max(amount) FROM sales GROUP BY 1 ORDER BY 1;
EXECUTE r;
RESET ROLE;
CREATE POLICY own ON sales USING (shop = 2);
ALTER TABLE sales ENABLE ROW LEVEL SECURITY;
SET ROLE regress_whole;
EXECUTE r;
RESET ROLE;
EXECUTE r;
-- a function in SQL is read anew with another search_path
CREATE SCHEMA whole1;
CREATE SCHEMA whole2;
CREATE FUNCTION whole1.bump(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE FUNCTION whole2.bump(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 2';
SET search_path = public, whole1;
CREATE FUNCTION bumped(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT bump($1)';
SELECT scalecache.create_rollup('bumps', $$ SELECT bumped(shop) AS b, sum(amount) AS total FROM sales GROUP BY 1 $$);
SELECT bumped(shop), sum(amount) FROM sales GROUP BY 1 ORDER BY 1 LIMIT 2;
SET search_path = public, whole2;
SELECT bumped(shop), sum(amount) FROM sales GROUP BY 1 ORDER BY 1 LIMIT 2;
-- or when another schema gets the name
SET search_path = public, whole3, whole1;
SELECT bumped(shop), sum(amount) FROM sales GROUP BY 1 ORDER BY 1 LIMIT 2;
ALTER SCHEMA whole2 RENAME TO whole3;
SELECT bumped(shop), sum(amount) FROM sales GROUP BY 1 ORDER BY 1 LIMIT 2;
SELECT scalecache.drop_rollup('bumps');
RESET search_path;
-- counted, and explained
SELECT rewrites > 0 FROM scalecache.rollups WHERE rollup = 'shops'::regclass;
SELECT rollup, used FROM scalecache.explain_rewrite('SELECT shop, max(amount) FROM sales GROUP BY 1') ORDER BY 1;
DROP TABLE sales CASCADE;
DROP FUNCTION bumped, in_sql;
DROP SCHEMA whole1, whole3 CASCADE;
DROP ROLE regress_whole;
DROP FUNCTION most, twice, seen, whole;
\set ECHO none
DROP FUNCTION try, rows_of, answer;
DROP EXTENSION scalecache;
