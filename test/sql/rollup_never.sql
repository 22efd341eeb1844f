-- Conditions that are never true, in a rollup's query and in queries of it
CREATE EXTENSION scalecache;
\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /helper.sql
\set ECHO none
\i :helper
\set ECHO all

CREATE TABLE t (a int NOT NULL, b int NOT NULL);
INSERT INTO t SELECT i % 3, i FROM generate_series(1, 10) i;
SELECT scalecache.create_rollup('r_having', 'SELECT count(*) AS n FROM t HAVING false');
SELECT scalecache.create_rollup('r_having_key', 'SELECT a, count(*) AS n FROM t GROUP BY a HAVING false');
SELECT scalecache.create_rollup('r_where', 'SELECT a, count(*) AS n FROM t WHERE false GROUP BY a');
SELECT scalecache.create_rollup('r_where_all', 'SELECT count(*) AS n FROM t WHERE false');
SELECT scalecache.create_rollup('r', 'SELECT a, count(*) AS n FROM t GROUP BY a');
INSERT INTO t VALUES (1, 2), (7, 8);

TABLE r_having;
TABLE r_having_key;
TABLE r_where;
TABLE r_where_all;
SELECT c.oid::regclass AS rollup, (checked(c.oid)).pending, (checked(c.oid)).folded
FROM pg_class c WHERE relname ~ '^r(_|$)' AND relkind = 'v' ORDER BY relname;

SELECT * FROM r WHERE false;
SELECT t.a, r.n FROM t LEFT JOIN r ON false WHERE t.a = 7;
SELECT a FROM t WHERE a = 7 AND NOT EXISTS (SELECT FROM r_having);
SELECT a, n FROM r JOIN r_having_key USING (a, n);

-- What the planner proves from two conditions
SET constraint_exclusion = on;
SELECT * FROM r WHERE a = 1 AND a = 2;
SELECT * FROM r WHERE n < 1 AND n > 2;
SELECT * FROM r WHERE a < 1 AND a > 2;

-- And where the query is one of the table
SET scalecache.enable_rewrite = on;
SELECT a, count(*) FROM t GROUP BY a HAVING false;
SELECT a, count(*) FROM t GROUP BY a HAVING a = 1 AND a = 2;
SELECT a, count(*) FROM t WHERE a < 1 AND a > 2 GROUP BY a;
SELECT count(*) FROM t WHERE a = 1 AND a = 2;
SELECT count(*) FROM t HAVING false;

-- Conditions without columns, which the planner keeps apart from others
SELECT who FROM answered('SELECT a, count(*) FROM t WHERE now() > ''2000-01-01'' GROUP BY a');
SELECT a, count(*) FROM t WHERE now() > '2000-01-01' GROUP BY a ORDER BY a;
SELECT a, count(*) FROM t WHERE now() < '2000-01-01' GROUP BY a;
SELECT count(*), sum(a) FROM t WHERE a > 0 AND now() < '2000-01-01';
SELECT count(*) FROM t WHERE (SELECT false);
SET plan_cache_mode = force_generic_plan;
PREPARE p(int) AS SELECT a, count(*) FROM t WHERE $1 > 5 GROUP BY a ORDER BY a;
EXECUTE p(6);
EXECUTE p(5);
DEALLOCATE p;

-- And where the table is joined
CREATE TABLE d (a int PRIMARY KEY, name text);
INSERT INTO d VALUES (1, 'one'), (2, 'two');
SELECT name, count(*) FROM t JOIN d USING (a) WHERE now() < '2000-01-01' GROUP BY name;
SELECT name, count(*) FROM t JOIN d USING (a) WHERE now() > '2000-01-01' GROUP BY name ORDER BY name;
SELECT name, count(*) FROM t JOIN d USING (a) WHERE t.a < 1 AND t.a > 2 GROUP BY name;
SELECT scalecache.create_rollup('r_join', 'SELECT name, count(*) AS n FROM t JOIN d USING (a) WHERE d.a = 1 AND d.a = 2 GROUP BY name');
SELECT scalecache.create_rollup('r_join_having', 'SELECT name, count(*) AS n FROM t JOIN d USING (a) GROUP BY name HAVING false');
INSERT INTO t VALUES (1, 5);
TABLE r_join;
TABLE r_join_having;
SELECT scalecache.verify_rollup('r_join'), scalecache.verify_rollup('r_join_having');

DROP TABLE t, d CASCADE;
DROP FUNCTION same, answered_from, checked, exact, answered, error_of;
DROP EXTENSION scalecache;
