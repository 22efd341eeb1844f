-- Who may not call a function of the query is not shown what it has returned.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
SET scalecache.enable_rewrite = on;
SET max_parallel_workers_per_gather = 0;
CREATE ROLE rights_reader;
CREATE FUNCTION plain_text(bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN convert_from($1, 'UTF8'); END $$;
CREATE FUNCTION good(int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN $1 > 2; END $$;
CREATE FUNCTION adds(int, int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN coalesce($1, 0) + coalesce($2, 0); END $$;
CREATE AGGREGATE total(int) (SFUNC = adds, STYPE = int);
CREATE TABLE rights (k int, secret bytea, v int);
CREATE TABLE rights_name (k int PRIMARY KEY, name text);
INSERT INTO rights SELECT i % 5, convert_to('s' || i % 3, 'UTF8'), i FROM generate_series(1, 8000) i;
INSERT INTO rights_name SELECT i, 'n' || i FROM generate_series(0, 4) i;
ANALYZE rights, rights_name;
SELECT scalecache.create_rollup('rights_by', 'SELECT plain_text(secret) AS secret, k, sum(v) AS s, count(*) AS c, total(v) AS t FROM rights GROUP BY 1, 2');
SELECT scalecache.create_rollup('rights_join', 'SELECT plain_text(r.secret) AS secret, n.name, sum(r.v) AS s FROM rights r JOIN rights_name n ON n.k = r.k GROUP BY 1, 2');
GRANT SELECT ON rights, rights_name, rights_by, rights_join TO rights_reader;
-- what the rollups answer for who may
EXPLAIN (COSTS OFF) SELECT plain_text(secret), sum(v) FROM rights GROUP BY 1;
EXPLAIN (COSTS OFF) SELECT n.name, sum(r.v) FROM rights r JOIN rights_name n ON n.k = r.k WHERE plain_text(r.secret) = 's1' GROUP BY 1;
PREPARE by_secret AS SELECT plain_text(secret), sum(v) FROM rights GROUP BY 1 ORDER BY 1;
EXECUTE by_secret;
SET ROLE rights_reader;
SELECT plain_text(secret), sum(v) FROM rights GROUP BY 1 ORDER BY 1;
RESET ROLE;
REVOKE EXECUTE ON FUNCTION plain_text, good, total FROM PUBLIC;
SET ROLE rights_reader;
EXECUTE by_secret;
SELECT plain_text(secret), sum(v) FROM rights GROUP BY 1;
SELECT sum(v) FROM rights WHERE plain_text(secret) = 's1';
SELECT sum(v) FILTER (WHERE plain_text(secret) = 's1') FROM rights;
SELECT k, plain_text(secret), total(v) FROM rights GROUP BY 1, 2;
SELECT k, sum(v) FROM rights GROUP BY 1 HAVING good(count(*)::int) ORDER BY 1;
SELECT DISTINCT plain_text(secret) FROM rights;
SELECT n.name, sum(r.v) FROM rights r JOIN rights_name n ON n.k = r.k WHERE plain_text(r.secret) = 's1' GROUP BY 1;
SELECT n.name, plain_text(r.secret), count(*) FROM rights r LEFT JOIN rights_name n ON n.k = r.k GROUP BY 1, 2;
BEGIN;
DECLARE c CURSOR FOR SELECT plain_text(secret), sum(v) FROM rights GROUP BY 1;
ROLLBACK;
-- other queries go on being answered, and the views, which are as they were
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT k, sum(v) FROM rights GROUP BY 1;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT n.name, sum(r.v) FROM rights r JOIN rights_name n ON n.k = r.k GROUP BY 1;
SELECT secret, k, s FROM rights_by ORDER BY 1, 2 LIMIT 2;
SELECT secret, name, s FROM rights_join ORDER BY 1, 2 LIMIT 2;
RESET ROLE;
EXECUTE by_secret;
-- who may call what others may not
SELECT plain_text(secret), sum(v) FROM rights GROUP BY 1 ORDER BY 1;
SELECT n.name, sum(r.v) FROM rights r JOIN rights_name n ON n.k = r.k WHERE plain_text(r.secret) = 's1' GROUP BY 1 ORDER BY 1;
SELECT n.name, plain_text(r.secret), count(*), grouping(n.name) FROM rights r JOIN rights_name n ON n.k = r.k
	WHERE n.k < 2 GROUP BY CUBE (1, 2) ORDER BY 1, 2;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF)
SELECT n.name, plain_text(r.secret), count(*) FROM rights r LEFT JOIN rights_name n ON n.k = r.k AND good(r.k) GROUP BY 1, 2;
-- what a rollup calls besides, for changes that are pending, the reader need not be able to call
CREATE FUNCTION cut(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN $1 % 3; END $$;
REVOKE EXECUTE ON FUNCTION cut FROM PUBLIC;
SELECT scalecache.create_rollup('rights_cut', 'SELECT cut(r.k) AS c, cut(n.k) AS d, n.name, max(r.v) AS m, count(*) AS n
	FROM rights r JOIN rights_name n ON n.k = r.k GROUP BY 1, 2, 3');
GRANT SELECT ON rights_cut TO rights_reader;
BEGIN;
INSERT INTO rights SELECT i, NULL, 9000 + i FROM generate_series(0, 4) i;
SET LOCAL ROLE rights_reader;
EXPLAIN (COSTS OFF) SELECT n.name, max(r.v), count(*) FROM rights r JOIN rights_name n ON n.k = r.k GROUP BY 1;
SELECT n.name, max(r.v), count(*) FROM rights r JOIN rights_name n ON n.k = r.k GROUP BY 1 ORDER BY 1;
RESET ROLE;
UPDATE rights_name SET name = 'm' WHERE k = 3;
DELETE FROM rights WHERE v > 7000;
SET LOCAL ROLE rights_reader;
SELECT n.name, max(r.v), count(*) FROM rights r JOIN rights_name n ON n.k = r.k GROUP BY 1 ORDER BY 1;
SELECT * FROM rights_cut ORDER BY 3, 1 LIMIT 3;
SELECT secret, k, t FROM rights_by ORDER BY 1, 2 LIMIT 2;
ROLLBACK;
DROP VIEW rights_cut;
DROP FUNCTION cut;
-- a built-in aggregate
REVOKE EXECUTE ON FUNCTION sum(int) FROM PUBLIC;
SET ROLE rights_reader;
SELECT k, sum(v) FROM rights GROUP BY 1;
RESET ROLE;
GRANT EXECUTE ON FUNCTION sum(int) TO PUBLIC;
-- who may not look into the extension's schema, nor call what is there
SET timezone = 'Europe/Berlin';
CREATE TABLE rights_at (at timestamptz, v int);
INSERT INTO rights_at SELECT '2024-01-01'::timestamptz + i * interval '11 minutes', i FROM generate_series(1, 20000) i;
ANALYZE rights_at;
GRANT SELECT ON rights_at TO rights_reader;
SELECT scalecache.create_rollup('rights_hour', $$SELECT date_trunc('hour', at) AS h, sum(v) AS s FROM rights_at GROUP BY 1$$);
REVOKE USAGE ON SCHEMA scalecache FROM PUBLIC;
SET plan_cache_mode = force_generic_plan;
SET enable_bitmapscan = off;	-- it shows a number of blocks
PREPARE since(timestamptz) AS SELECT at::date, sum(v) FROM rights_at WHERE at >= $1 AND at::date <= '2024-05-28' GROUP BY 1 ORDER BY 1;
SET ROLE rights_reader;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE since('2024-05-27 13:00');
EXECUTE since('2024-05-27 13:00');
RESET ROLE;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA scalecache FROM PUBLIC;
SET ROLE rights_reader;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE since('2024-05-27 13:00');
EXECUTE since('2024-05-27 13:00');
RESET ROLE;
DEALLOCATE since;
DROP TABLE rights_at CASCADE;
DEALLOCATE by_secret;
DROP TABLE rights, rights_name CASCADE;
DROP FUNCTION plain_text, good;
DROP AGGREGATE total(int);
DROP FUNCTION adds;
DROP ROLE rights_reader;
DROP EXTENSION scalecache;
