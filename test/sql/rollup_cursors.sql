-- Readers whose snapshots lie between changes of their own transaction, and
-- readers of what is pending that may not assign transaction ids any more.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;

CREATE TABLE t (k text, v int);
INSERT INTO t SELECT 'k' || g % 3, g FROM generate_series(1, 6000) g;
ANALYZE t;
SELECT scalecache.create_rollup('r', 'SELECT k, count(*) AS n, sum(v) AS s FROM t GROUP BY k');

-- A cursor does not see what comes after it, and does see what came before,
-- when others have read both, and when a savepoint is released or rolled back.
BEGIN;
INSERT INTO t VALUES ('before', 1);
DECLARE c CURSOR FOR SELECT k, n, s FROM r ORDER BY k COLLATE "C";
INSERT INTO t VALUES ('after', 1);
SELECT count(*) FROM r;
FETCH ALL c;
CLOSE c;
SAVEPOINT one;
INSERT INTO t VALUES ('before', 2);
DECLARE c CURSOR FOR SELECT k, n, s FROM r ORDER BY k COLLATE "C";
INSERT INTO t VALUES ('after', 2);
SAVEPOINT two;
INSERT INTO t VALUES ('gone', 1);
SELECT count(*) FROM r;
ROLLBACK TO two;
RELEASE one;
FETCH ALL c;
ROLLBACK;

-- Cursors that a trigger opens, after the rows have changed and before the
-- changes are captured
CREATE FUNCTION open_cursors() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	rolled refcursor := 'rolled';
BEGIN
	OPEN rolled FOR SELECT k, n, s FROM r WHERE k IN ('before', 'one', 'two') ORDER BY k COLLATE "C";
	INSERT INTO t VALUES ('two', 20);
	RETURN NULL;
END $$;
CREATE TRIGGER a_first AFTER UPDATE OR DELETE ON t FOR EACH ROW WHEN (OLD.k = 'before') EXECUTE FUNCTION open_cursors();
INSERT INTO t VALUES ('before', 1);
BEGIN;
UPDATE t SET k = 'one' WHERE k = 'before';
FETCH ALL rolled;
CLOSE ALL;
SELECT k, n, s FROM r WHERE k IN ('before', 'one', 'two') ORDER BY k COLLATE "C";
ROLLBACK;
BEGIN;
DELETE FROM t WHERE k = 'before';
FETCH ALL rolled;
CLOSE ALL;
SELECT k, n, s FROM r WHERE k IN ('before', 'one', 'two') ORDER BY k COLLATE "C";
ROLLBACK;
DROP TRIGGER a_first ON t;
DELETE FROM t WHERE k = 'before';

-- Functions that are called by one query
CREATE FUNCTION write() RETURNS void LANGUAGE plpgsql AS
	$$ BEGIN INSERT INTO t VALUES ('more', 1); END $$;
CREATE FUNCTION rows() RETURNS int LANGUAGE plpgsql AS
	$$ BEGIN RETURN (SELECT sum(n) FROM r); END $$;
CREATE FUNCTION rows_before() RETURNS int LANGUAGE plpgsql STABLE AS
	$$ BEGIN RETURN (SELECT sum(n) FROM r); END $$;
BEGIN;
INSERT INTO t VALUES ('before', 1);
SELECT write(), rows(), rows_before(), write(), rows(), rows_before();
CREATE TABLE other (a int);
INSERT INTO other VALUES (1);
UPDATE other SET a = rows() WHERE write() IS NOT NULL AND rows() > 0
	RETURNING a, rows_before();
ROLLBACK;

-- Plans with workers, and functions that read the rollup in these
CREATE FUNCTION rows_of(text) RETURNS int LANGUAGE plpgsql STABLE PARALLEL SAFE AS
	$$ BEGIN RETURN (SELECT n FROM r WHERE k = $1); END $$;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
BEGIN;
INSERT INTO t VALUES ('before', 1);
SAVEPOINT one;
SELECT k, sum(v) FROM t GROUP BY k ORDER BY k COLLATE "C";
ROLLBACK TO one;
INSERT INTO t VALUES ('before', 2);
SAVEPOINT two;
SELECT k, n, s FROM r ORDER BY k COLLATE "C";
SAVEPOINT three;
INSERT INTO t VALUES ('k0', 2);
SAVEPOINT four;
SELECT k, min(rows_of(k)), max(rows_of(k)) FROM t WHERE v < 10 GROUP BY k ORDER BY k COLLATE "C";
ROLLBACK TO three;
SELECT k, min(rows_of(k)), max(rows_of(k)) FROM t WHERE v < 10 GROUP BY k ORDER BY k COLLATE "C";
COMMIT;
SELECT scalecache.verify_rollup('r');

DROP EXTENSION scalecache CASCADE;
DROP TABLE t;
DROP FUNCTION write, rows, rows_before, rows_of, open_cursors;
