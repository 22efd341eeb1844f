-- Query ids are those that compute_query_id = on gives, statements that nearly are the same included.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
CREATE SCHEMA ids;
SET search_path = ids;
CREATE TABLE a (x int PRIMARY KEY, y int, t text, f float8, d timestamptz, e int[]);
CREATE TABLE b (LIKE a INCLUDING ALL);
CREATE TABLE statements (n int GENERATED ALWAYS AS IDENTITY, text text);
INSERT INTO statements (text) SELECT unnest($${
	"SELECT x FROM a", "SELECT y FROM a", "SELECT x FROM b", "SELECT x FROM ONLY a", "SELECT x, x FROM a", "SELECT a FROM a",
	"SELECT DISTINCT x FROM a", "SELECT x FROM a GROUP BY x", "SELECT x FROM a ORDER BY x DESC", "SELECT x FROM a ORDER BY x NULLS FIRST",
	"SELECT x FROM a WHERE x = 1", "SELECT x FROM a WHERE x < 1", "SELECT x FROM a WHERE x = 10000000000", "SELECT x FROM a WHERE y = 1",
	"SELECT x FROM a WHERE x = 1 AND y = 1", "SELECT x FROM a WHERE x = 1 OR y = 1", "SELECT x FROM a WHERE NOT x = 1",
	"SELECT x FROM a WHERE x IN (1, 2)", "SELECT x FROM a WHERE x IN (1, 2, 3)", "SELECT x FROM a WHERE x <> ALL (ARRAY[1])", "SELECT x FROM a WHERE x = ANY (ARRAY[1])",
	"SELECT x FROM a WHERE x IS NULL", "SELECT x FROM a WHERE x IS NOT NULL", "SELECT x FROM a WHERE (x = 1) IS TRUE", "SELECT x FROM a WHERE (x = 1) IS UNKNOWN",
	"SELECT x FROM a WHERE x IS DISTINCT FROM 1", "SELECT nullif(x, 1) FROM a", "SELECT coalesce(x, 1) FROM a", "SELECT greatest(x, 1) FROM a", "SELECT least(x, 1) FROM a",
	"SELECT ARRAY[x, 1] FROM a", "SELECT row(x, 1) FROM a", "SELECT e[1] FROM a", "SELECT t COLLATE \"C\" FROM a", "SELECT (x, y) < (y, x) FROM a", "SELECT e::text[] FROM a",
	"SELECT x::float8 FROM a", "SELECT x::text FROM a", "SELECT t::varchar FROM a", "SELECT t::name FROM a", "SELECT abs(x) FROM a", "SELECT sqrt(x) FROM a",
	"SELECT CASE WHEN x = 1 THEN 1 END FROM a", "SELECT CASE WHEN x = 1 THEN 1 ELSE 2 END FROM a", "SELECT CASE x WHEN 1 THEN 1 END FROM a", "SELECT CASE WHEN x = 1 THEN 1 WHEN x = 2 THEN 2 END FROM a",
	"SELECT current_date FROM a", "SELECT current_timestamp FROM a", "SELECT current_timestamp(0) FROM a",
	"SELECT count(*) FROM a", "SELECT count(x) FROM a", "SELECT count(DISTINCT x) FROM a", "SELECT count(x) FILTER (WHERE y = 1) FROM a", "SELECT array_agg(x ORDER BY y) FROM a", "SELECT array_agg(x ORDER BY x) FROM a",
	"SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY f) FROM a", "SELECT count(*) FROM a GROUP BY y", "SELECT count(*) FROM a GROUP BY y HAVING count(*) = 1", "SELECT count(*) FROM a GROUP BY DISTINCT y, t", "SELECT count(*) FROM a GROUP BY y, t",
	"SELECT count(*) FROM a GROUP BY GROUPING SETS (y, ())", "SELECT grouping(y) FROM a GROUP BY ROLLUP (y)", "SELECT grouping(y) FROM a GROUP BY CUBE (y)",
	"SELECT sum(x) OVER () FROM a", "SELECT sum(x) OVER (ORDER BY y) FROM a", "SELECT sum(x) OVER (PARTITION BY y) FROM a", "SELECT sum(x) OVER (ORDER BY y ROWS 1 PRECEDING) FROM a", "SELECT sum(x) OVER (ORDER BY y ROWS CURRENT ROW) FROM a",
	"SELECT x FROM a LIMIT 1", "SELECT x FROM a OFFSET 1", "SELECT x FROM a ORDER BY x LIMIT 1", "SELECT x FROM a ORDER BY x FETCH FIRST 1 ROW WITH TIES",
	"SELECT x FROM a FOR UPDATE", "SELECT x FROM a FOR SHARE", "SELECT x FROM a FOR UPDATE SKIP LOCKED", "SELECT x FROM a TABLESAMPLE system (1)", "SELECT x FROM a TABLESAMPLE bernoulli (1)",
	"SELECT a.x FROM a, b", "SELECT a.x FROM b, a", "SELECT a.x FROM a JOIN b ON true", "SELECT a.x FROM a LEFT JOIN b ON true", "SELECT a.x FROM a FULL JOIN b ON true", "SELECT a.x FROM a NATURAL JOIN b", "SELECT a.x FROM a JOIN b ON a.x = b.x", "SELECT a.x FROM a JOIN b USING (x)",
	"SELECT x FROM (SELECT x FROM a) s", "SELECT x FROM (SELECT y AS x FROM a) s", "SELECT x FROM a, LATERAL (SELECT a.y) s", "SELECT s FROM a, generate_series(1, x) s", "SELECT s FROM a, generate_series(1, 2) s", "SELECT v.c FROM a, (VALUES (1), (2)) v (c)", "SELECT v.c FROM a, (VALUES (1)) v (c)",
	"WITH c AS (SELECT x FROM a) SELECT x FROM c", "WITH c AS MATERIALIZED (SELECT x FROM a) SELECT x FROM c", "WITH d AS (SELECT x FROM a) SELECT x FROM d", "WITH c AS (SELECT x FROM a), d AS (SELECT x FROM a) SELECT x FROM d",
	"SELECT x FROM a UNION SELECT x FROM b", "SELECT x FROM a UNION ALL SELECT x FROM b", "SELECT x FROM a EXCEPT SELECT x FROM b", "SELECT x FROM a INTERSECT SELECT x FROM b",
	"SELECT x FROM a WHERE EXISTS (SELECT FROM b)", "SELECT x FROM a WHERE x IN (SELECT x FROM b)", "SELECT x FROM a WHERE x IN (SELECT y FROM b)", "SELECT x FROM a WHERE x = (SELECT x FROM b)", "SELECT x FROM a WHERE x > ALL (SELECT x FROM b)", "SELECT (SELECT a.x FROM b LIMIT 1) FROM a", "SELECT (SELECT b.x FROM b LIMIT 1) FROM a", "SELECT ARRAY(SELECT x FROM b) FROM a",
	"INSERT INTO a VALUES (1)", "INSERT INTO a VALUES (1) ON CONFLICT DO NOTHING", "INSERT INTO a VALUES (1) ON CONFLICT (x) DO NOTHING", "INSERT INTO a VALUES (1) ON CONFLICT (x) DO UPDATE SET y = 1", "INSERT INTO a VALUES (1) ON CONFLICT (x) DO UPDATE SET y = a.y", "INSERT INTO a VALUES (1) ON CONFLICT (x) DO UPDATE SET y = excluded.y", "INSERT INTO a VALUES (1) ON CONFLICT (x) DO UPDATE SET y = 1 WHERE a.y = 1",
	"INSERT INTO a VALUES (2, DEFAULT)", "INSERT INTO a VALUES (3) RETURNING x", "INSERT INTO a VALUES (4), (5)", "INSERT INTO a VALUES (6, 1), (7, DEFAULT)", "INSERT INTO b SELECT * FROM a WHERE x = 1", "INSERT INTO a (y, x) VALUES (1, 20)",
	"UPDATE a SET y = 1", "UPDATE a SET y = 1 WHERE x = 1", "UPDATE a SET y = y + 1", "UPDATE a SET y = y - 1", "UPDATE a SET y = b.y FROM b", "UPDATE a SET f = 1", "UPDATE a SET y = 1 RETURNING x", "UPDATE a SET y = DEFAULT",
	"DELETE FROM a", "DELETE FROM a WHERE x = 1", "DELETE FROM a USING b", "DELETE FROM a RETURNING x", "MERGE INTO a USING b ON a.x = b.x WHEN MATCHED THEN DELETE", "MERGE INTO a USING b ON a.x = b.x WHEN MATCHED THEN DO NOTHING"
}$$::text[]);

CREATE FUNCTION run() RETURNS TABLE (id bigint, calls bigint, statement text)
LANGUAGE plpgsql AS $$
DECLARE
	s text;
BEGIN
	PERFORM scalecache.reset_workload();
	FOR i IN 1..2 LOOP
		FOR s IN SELECT text FROM statements ORDER BY n LOOP
			EXECUTE s;
			DELETE FROM a;
		END LOOP;
	END LOOP;
	RETURN QUERY SELECT query_id, w.calls, w.text FROM scalecache.workload w JOIN statements USING (text);
END $$;
CREATE TABLE own AS SELECT * FROM run();
SET compute_query_id = on;
CREATE TABLE server AS SELECT * FROM run();
SELECT count(*) > 100 AS many FROM own;
(TABLE own EXCEPT TABLE server) UNION ALL (TABLE server EXCEPT TABLE own);
-- Parameters, and constants of a type of its own
RESET compute_query_id;
PREPARE p1 AS SELECT x FROM a WHERE x = $1;
PREPARE p2 AS SELECT x FROM a WHERE x = $1 AND y = $2;
PREPARE p3 AS SELECT x FROM a WHERE x = $2 AND y = $1;
PREPARE p4 (bigint) AS SELECT x FROM a WHERE x = $1;
PREPARE p5 (int) AS SELECT $1 FROM a;
PREPARE p6 (text) AS SELECT $1 FROM a;
SELECT scalecache.reset_workload();
EXECUTE p1 (1);
EXECUTE p2 (1, 1);
EXECUTE p3 (1, 1);
EXECUTE p4 (1);
EXECUTE p5 (1);
EXECUTE p6 (1);
SELECT count(*), count(DISTINCT query_id) FROM scalecache.workload WHERE text ~ '^PREPARE';
-- Off is off, and shown is what is recorded
SELECT query_id <> 0 AS shown FROM pg_stat_activity WHERE pid = pg_backend_pid();
SET compute_query_id = off;
SELECT query_id <> 0 AS shown FROM pg_stat_activity WHERE pid = pg_backend_pid();
SELECT scalecache.reset_workload();
SELECT x FROM a;
SELECT count(*) FROM scalecache.workload;

DROP SCHEMA ids CASCADE;
DROP EXTENSION scalecache;
