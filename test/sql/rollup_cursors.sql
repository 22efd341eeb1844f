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

-- A statement in the middle of changing a table: no rollup of it is filled by
-- its functions, its triggers, or what reads it.
CREATE TABLE busy (id int, k int);
CREATE TABLE busy_parts (id int, k int) PARTITION BY LIST (k);
CREATE TABLE busy_part PARTITION OF busy_parts DEFAULT;
CREATE FUNCTION doing(i int, sql text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	IF i = 3 THEN
		EXECUTE sql;
	END IF;
	RETURN i;
END $$;
CREATE FUNCTION making() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM doing(NEW.id, format('SELECT scalecache.create_rollup(''b'', ''SELECT k, count(*) AS n FROM %I GROUP BY k'')', TG_ARGV[0]));
	RETURN NEW;
END $$;
\set making '''SELECT scalecache.create_rollup(''''b'''', ''''SELECT k, count(*) AS n FROM busy GROUP BY k'''')'''
\set rebuilding '''SELECT scalecache.rebuild_rollup(''''b'''')'''
INSERT INTO busy SELECT doing(g, :making), g % 2 FROM generate_series(1, 6) g;
INSERT INTO busy SELECT g, g % 2 FROM generate_series(1, 6) g;
UPDATE busy SET k = k + 1 WHERE doing(id, :making) > 0;
DELETE FROM busy WHERE doing(id, :making) < 5;
CREATE TRIGGER making BEFORE INSERT ON busy FOR EACH ROW EXECUTE FUNCTION making('busy');
INSERT INTO busy SELECT g, g % 2 FROM generate_series(1, 6) g;
\copy busy FROM PROGRAM 'echo 1,1 && echo 3,1 && echo 4,1' CSV
DROP TRIGGER making ON busy;
CREATE TRIGGER making BEFORE INSERT ON busy_part FOR EACH ROW EXECUTE FUNCTION making('busy_parts');
INSERT INTO busy_parts SELECT g, g % 2 FROM generate_series(1, 6) g;
SELECT count(*), to_regclass('b') FROM busy;
-- By what only reads it, it may be.
SELECT sum(doing(id, :making)) FROM busy;
INSERT INTO busy SELECT doing(g, :rebuilding), g % 2 FROM generate_series(1, 6) g;
UPDATE busy SET k = k + 1 WHERE doing(id, :rebuilding) > 0;
ALTER TABLE busy DISABLE TRIGGER ALL;
INSERT INTO busy VALUES (7, 7);
ALTER TABLE busy ENABLE TRIGGER ALL;
INSERT INTO busy SELECT doing(g, :rebuilding), g % 2 FROM generate_series(1, 6) g;
SELECT sum(doing(id, :rebuilding)) FROM busy;
INSERT INTO busy SELECT doing(g, 'SELECT scalecache.fold_rollup(''b'')'), g % 2 FROM generate_series(1, 6) g;
SELECT scalecache.verify_rollup('b');
TABLE b ORDER BY k;
-- Nor is a partition counted that comes or goes meanwhile: the source answers.
DROP TRIGGER making ON busy_part;
INSERT INTO busy_parts SELECT g, g % 2 FROM generate_series(1, 6) g;
SELECT scalecache.create_rollup('p', 'SELECT k, count(*) AS n FROM busy_parts GROUP BY k');
CREATE TABLE busy_other (id int, k int);
BEGIN;
INSERT INTO busy_other SELECT doing(g, 'ALTER TABLE busy_parts ATTACH PARTITION busy_other FOR VALUES IN (9)'), 9 FROM generate_series(1, 6) g;
SELECT state FROM scalecache.rollups WHERE rollup = 'p'::regclass;
TABLE p ORDER BY k;
COMMIT;
SELECT scalecache.rebuild_rollup('p');
TABLE p ORDER BY k;
UPDATE busy_part SET k = 5 WHERE doing(id, 'ALTER TABLE busy_parts DETACH PARTITION busy_part') > 0;
TABLE p ORDER BY k;
SELECT scalecache.verify_rollup('p');
-- What was changed before in the transaction is no matter.
BEGIN;
INSERT INTO busy_parts VALUES (1, 9), (2, 9);
TRUNCATE busy_other;
INSERT INTO busy_parts VALUES (1, 9);
TRUNCATE busy_parts;
INSERT INTO busy_parts VALUES (3, 9);
SELECT scalecache.rebuild_rollup('p');
SELECT scalecache.create_rollup('q', 'SELECT count(*) AS n FROM busy_parts');
TABLE p;
COMMIT;
SELECT scalecache.verify_rollup('p'), scalecache.verify_rollup('q');
DROP TABLE busy, busy_parts, busy_part CASCADE;
DROP FUNCTION doing, making;

DROP EXTENSION scalecache CASCADE;
DROP TABLE t;
DROP FUNCTION write, rows, rows_before, rows_of, open_cursors;
