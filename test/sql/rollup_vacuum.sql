-- VACUUM, and VACUUM FULL, of a rollup's storage, as of all a database has
CREATE EXTENSION scalecache;
\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /helper.sql
\set ECHO none
\i :helper
\set ECHO all
\set rolled_back 'BEGIN; INSERT INTO t SELECT g, g FROM generate_series(1, 5000) g; SELECT count(*) FROM r; ROLLBACK;'
\set pages 'pg_relation_size(''scalecache_data.r_delta'') / current_setting(''block_size'')::int'

CREATE TABLE t (k int, v int);
SELECT scalecache.create_rollup('r', 'SELECT k, sum(v) AS s, count(*) AS n FROM t GROUP BY k');
INSERT INTO t SELECT g, g FROM generate_series(1, 2000) g;
-- deltas that were rolled back, behind all others
:rolled_back
SELECT scalecache.fold_rollup('r');
SELECT scalecache.fold_rollup('r');

-- Blocks of these do not go away, for the next deltas would come before those
-- that are looked at.
SELECT :pages AS before \gset
VACUUM scalecache_data.r_delta;
SELECT :pages = :before AS kept;
INSERT INTO t VALUES (1, 1);
SELECT * FROM checked('r');

-- They do when VACUUM is told so, and that is noticed: while there are fewer,
:rolled_back
SELECT scalecache.fold_rollup('r');
SELECT :pages AS before \gset
VACUUM (TRUNCATE) scalecache_data.r_delta;
SELECT :pages < :before AS gone;
INSERT INTO t VALUES (1, 1), (3, 3);
SELECT * FROM checked('r');
-- and when as many have come since.
:rolled_back
SELECT scalecache.fold_rollup('r');
SELECT :pages AS before \gset
VACUUM (TRUNCATE) scalecache_data.r_delta;
SELECT :pages < :before AS gone;
INSERT INTO t SELECT g, g FROM generate_series(1, 8000) g;
SELECT :pages >= :before AS back;
SELECT * FROM checked('r');

-- What is pending is somewhere else after this.
:rolled_back
INSERT INTO t VALUES (2, 2), (3, 3), (4, 4);
SELECT scalecache.fold_rollup('r');
INSERT INTO t VALUES (2, 2), (3, 3), (2001, 4);
DELETE FROM t WHERE k = 5;
VACUUM FULL scalecache_data.r_delta;
SELECT :pages < :before AS moved;
SELECT * FROM checked('r');
INSERT INTO t VALUES (2, 2), (3, 3), (2002, 4);
SELECT * FROM checked('r');
VACUUM FULL;
INSERT INTO t VALUES (2, 2), (3, 3), (2002, 4);
VACUUM FULL;
SELECT * FROM checked('r');

DROP EXTENSION scalecache;
DROP TABLE t;
DROP FUNCTION same, answered_from, checked, exact, answered, error_of;
