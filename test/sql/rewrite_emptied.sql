-- Conditions that fail for values which the table does not have any more.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
SET scalecache.enable_rewrite = on;
SET compute_query_id = off;
CREATE TABLE visits (id int, page text, n int);
INSERT INTO visits SELECT i, (i % 10)::text, i % 3 FROM generate_series(1, 20000) i;
CREATE TABLE pages (page text PRIMARY KEY, name text);
INSERT INTO pages SELECT i::text, 'p' || i FROM generate_series(0, 9) i;
INSERT INTO visits VALUES (-1, 'none', 0);
VACUUM ANALYZE visits, pages;

\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /rewrite_helper.sql
\set ECHO none
\i :helper
\set ECHO all

SELECT scalecache.create_rollup('by_page', 'SELECT page, n, count(*) AS visits FROM visits GROUP BY 1, 2');
-- one group whose base row is there, and one that has only deltas
DELETE FROM visits WHERE page = 'none';
INSERT INTO visits VALUES (-2, 'nothing', 1);
DELETE FROM visits WHERE id = -2;
EXPLAIN (COSTS OFF) SELECT count(*) FROM visits WHERE page::int > 3 AND n > 1;
SELECT try('SELECT count(*) FROM visits WHERE page::int > 3');
SELECT try('SELECT page, n, count(*) FROM visits WHERE page::int > 3 AND n = 1 GROUP BY 1, 2');
SELECT try('SELECT page::int, count(*) FROM visits GROUP BY 1');
SELECT try('SELECT p.name, count(*) FROM visits v JOIN pages p USING (page) WHERE v.page::int > 3 GROUP BY 1');
SELECT sum(visits) FROM by_page WHERE page::int > 3;
SELECT page, visits FROM by_page WHERE page::int > 7 AND n = 2 ORDER BY 1;
-- as long as it is there
INSERT INTO visits VALUES (-1, 'none', 0);
SELECT count(*) FROM visits WHERE page::int > 3;
SELECT sum(visits) FROM by_page WHERE page::int > 3;
SELECT sum(visits) FROM by_page WHERE page <> 'none' AND n > 0;

-- the groups of a join, which a change of the other table can empty as well
INSERT INTO pages VALUES ('none', 'nothing');
SELECT scalecache.create_rollup('by_name', 'SELECT p.page, p.name, v.n, count(*) AS visits FROM visits v JOIN pages p USING (page) GROUP BY 1, 2, 3');
UPDATE pages SET page = '77' WHERE page = 'none';
SELECT answer('SELECT p.name, count(*) FROM visits v JOIN pages p ON v.page = p.page WHERE p.page::int > 3 GROUP BY 1', 'on by_name');
SELECT sum(visits) FROM by_name WHERE page::int > 3;

DROP EXTENSION scalecache CASCADE;
DROP TABLE visits, pages;
DROP FUNCTION answer(text, text), try(text), rows_of(text);
