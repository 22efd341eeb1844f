-- Every way rows change: after each, the rollup is its query's result, with
-- the deltas pending and folded.
CREATE EXTENSION scalecache;
\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /helper.sql
\set ECHO none
\i :helper
\set ECHO all
CREATE TABLE t (id int PRIMARY KEY, k int, v numeric, note text,
	twice numeric GENERATED ALWAYS AS (v * 2) STORED);
SELECT scalecache.create_rollup('r', $$
	SELECT k, sum(v) AS s, count(*) AS n, max(twice) AS hi, min(v) AS lo, avg(twice) AS a
	FROM t WHERE v IS DISTINCT FROM 13 GROUP BY k $$);
SELECT scalecache.create_rollup('r_other', $$
	SELECT string_agg(v::text, ',' ORDER BY id) AS l, count(DISTINCT k) AS d FROM t $$);
CREATE VIEW state AS
	SELECT a.*, b.pending AS other_pending, b.folded AS other_folded
	FROM checked('r') a, checked('r_other') b;

-- INSERT, COPY
INSERT INTO t SELECT g, g % 4, g FROM generate_series(1, 20) g;
TABLE state;
INSERT INTO t VALUES (21, NULL, NULL), (22, 1, 13);
TABLE state;
INSERT INTO t SELECT id + 100, k + 1, v / 3 FROM t;
TABLE state;
COPY t (id, k, v) FROM STDIN;
201	1	0.10
202	\N	2.5
203	9	13
\.
TABLE state;
COPY t (id, k, v) FROM STDIN WHERE v > 1;
204	1	0.10
205	5	2.5
\.
TABLE state;

-- UPDATE: of values, of keys, into and out of WHERE
UPDATE t SET v = v + 1 WHERE id < 5;
TABLE state;
UPDATE t SET k = k + 1 WHERE id IN (6, 7, 21);
TABLE state;
UPDATE t SET v = 13 WHERE id = 8;
UPDATE t SET v = 14 WHERE id = 22;
TABLE state;
UPDATE t SET v = u.v FROM t u WHERE u.id = t.id + 100;
TABLE state;
UPDATE t SET id = id + 1000 WHERE id = 20;
TABLE state;

-- DELETE: a group's maximum, all of a group
DELETE FROM t WHERE (k, twice) IN (SELECT k, max(twice) FROM t GROUP BY k);
TABLE state;
DELETE FROM t USING t u WHERE t.k = 2 AND u.id = t.id;
TABLE state;

-- What changes nothing that is read leaves no delta.
UPDATE t SET note = 'x';
UPDATE t SET v = v, k = k;
UPDATE t SET v = 0 WHERE false;
DELETE FROM t WHERE false;
INSERT INTO t SELECT 1, 1, 1 WHERE false;
UPDATE t SET id = id + 0;
SELECT rollup, pending_deltas FROM scalecache.rollups ORDER BY rollup::text;
-- Neither do changes that WHERE leaves out, or that cancel out.
INSERT INTO t VALUES (300, 1, 13);
UPDATE t SET k = 2 WHERE id = 300;
DELETE FROM t WHERE id = 300;
SELECT pending_deltas FROM scalecache.rollups WHERE rollup = 'r'::regclass;
BEGIN;
INSERT INTO t VALUES (300, 1, 5);
DELETE FROM t WHERE id = 300;
COMMIT;
SELECT pending_deltas FROM scalecache.rollups WHERE rollup = 'r'::regclass;
-- One statement, one delta a group
INSERT INTO t SELECT 400 + g, g % 2, g FROM generate_series(1, 50) g;
SELECT rollup, pending_deltas FROM scalecache.rollups ORDER BY rollup::text;
TABLE state;

-- ON CONFLICT
INSERT INTO t VALUES (1, 1, 1), (500, 1, 1) ON CONFLICT DO NOTHING;
TABLE state;
INSERT INTO t VALUES (401, 1, 7), (501, 1, 1), (402, 1, 8)
	ON CONFLICT (id) DO UPDATE SET v = t.v + excluded.v, k = excluded.k;
TABLE state;
INSERT INTO t VALUES (401, 1, 7) ON CONFLICT (id) DO UPDATE SET v = 0 WHERE t.k = 77;
TABLE state;

-- MERGE
MERGE INTO t USING (VALUES (401, 5), (403, NULL), (404, 6), (502, 7), (503, NULL)) s (id, v)
	ON t.id = s.id
	WHEN MATCHED AND s.v IS NULL THEN DELETE
	WHEN MATCHED THEN UPDATE SET v = s.v, k = t.k + 1
	WHEN NOT MATCHED AND s.v IS NULL THEN DO NOTHING
	WHEN NOT MATCHED THEN INSERT (id, k, v) VALUES (s.id, 3, s.v);
TABLE state;

-- Writable CTEs.  The query beside them sees none of it.
WITH i AS (INSERT INTO t VALUES (600, 1, 1), (601, 2, 2) RETURNING id),
	u AS (UPDATE t SET v = v + 1 WHERE id = 405 RETURNING id),
	d AS (DELETE FROM t WHERE id = 406 RETURNING id)
SELECT (SELECT count(*) FROM i), (SELECT count(*) FROM u), (SELECT count(*) FROM d),
	(SELECT sum(s) FROM r) = (SELECT sum(v) FROM t WHERE v IS DISTINCT FROM 13) AS same;
TABLE state;
INSERT INTO t SELECT 610 + row_number() OVER (), k, n FROM r;
TABLE state;

-- Triggers that change the row, suppress it, or change more
CREATE FUNCTION before_t() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF new.v = 1000 THEN RETURN NULL; END IF;
	new.v := new.v + 0.5;
	RETURN new;
END $$;
CREATE FUNCTION after_t() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF new.id < 10000 THEN
		INSERT INTO t VALUES (new.id + tg_argv[0]::int, new.k, new.v);
		DELETE FROM t WHERE id = new.id - 1;
		UPDATE t SET k = k + 1 WHERE id = new.id;
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER zz_before BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION before_t();
CREATE TRIGGER aa_after AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION after_t('10000');
CREATE TRIGGER zz_after AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION after_t('20000');
INSERT INTO t VALUES (700, 1, 1), (701, 1, 1000), (702, 2, 2);
TABLE state;
DROP TRIGGER aa_after ON t;
DROP TRIGGER zz_after ON t;
DROP TRIGGER zz_before ON t;
-- ... at the end of the transaction, when they also read it
CREATE FUNCTION deferred_t() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF new.id < 10000 THEN
		INSERT INTO t VALUES (new.id + 10000, new.k, new.v);
		IF (SELECT sum(n) FROM r) <> (SELECT count(*) FROM t WHERE v IS DISTINCT FROM 13) THEN
			RAISE 'a deferred trigger sees something else';
		END IF;
	END IF;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION deferred_t();
BEGIN;
INSERT INTO t VALUES (710, 1, 1), (711, 2, 1);
SELECT same('r');
COMMIT;
TABLE state;
DROP TRIGGER deferred ON t;
-- Rules and views
CREATE VIEW updatable AS SELECT id, k, v FROM t WHERE k = 1;
INSERT INTO updatable VALUES (720, 1, 20);
UPDATE updatable SET v = v + 1, k = 2 WHERE id = 720;
DELETE FROM updatable WHERE id = 710;
TABLE state;
CREATE RULE again AS ON INSERT TO updatable DO ALSO INSERT INTO t VALUES (new.id + 1, new.k, new.v);
INSERT INTO updatable VALUES (730, 1, 20);
TABLE state;
DROP VIEW updatable;

-- Foreign keys
CREATE TABLE parent (id int PRIMARY KEY);
INSERT INTO parent SELECT g FROM generate_series(0, 5) g;
CREATE TABLE child (id int, a int DEFAULT 0 REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE,
	b int DEFAULT 0 REFERENCES parent ON DELETE SET NULL ON UPDATE SET DEFAULT);
INSERT INTO child SELECT g, 1 + g % 3, 1 + g % 5 FROM generate_series(1, 30) g;
SELECT scalecache.create_rollup('r_child', 'SELECT a, b, count(*) AS n, sum(id) AS s FROM child GROUP BY a, b');
DELETE FROM parent WHERE id = 1;
SELECT * FROM checked('r_child');
UPDATE parent SET id = 20 WHERE id = 2;
SELECT * FROM checked('r_child');
DELETE FROM parent WHERE id = 5;
SELECT * FROM checked('r_child');
TRUNCATE parent CASCADE;
SELECT * FROM checked('r_child');
DROP TABLE parent, child CASCADE;

-- Cursors: rows changed through one; a rollup read through one
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM t WHERE id IN (407, 408) ORDER BY id FOR UPDATE;
FETCH 1 FROM c \gset c_
UPDATE t SET v = 99 WHERE CURRENT OF c;
FETCH 1 FROM c \gset c_
DELETE FROM t WHERE CURRENT OF c;
DECLARE d CURSOR FOR SELECT sum(n) FROM r;
SELECT count(*) AS n FROM t WHERE v IS DISTINCT FROM 13 \gset
INSERT INTO t VALUES (800, 1, 1);
FETCH d \gset
SELECT :n = :sum AS as_it_was;
DECLARE h CURSOR WITH HOLD FOR SELECT sum(n) FROM r;
INSERT INTO t VALUES (801, 1, 1);
COMMIT;
FETCH h \gset
SELECT :n + 1 = :sum AS as_it_was;
CLOSE h;
TABLE state;
-- one opened between two changes, and one before both
BEGIN;
DECLARE a CURSOR FOR SELECT sum(n) FROM r;
INSERT INTO t VALUES (810, 1, 1), (811, 9, 1);
DECLARE b CURSOR FOR SELECT sum(n) FROM r;
SELECT count(*) AS n FROM t WHERE v IS DISTINCT FROM 13 \gset
INSERT INTO t VALUES (812, 1, 1);
FETCH a \gset
SELECT :n - 2 = :sum AS as_it_was;
FETCH b \gset
SELECT :n = :sum AS as_it_was;
TABLE state;
COMMIT;
TABLE state;

-- Savepoints
BEGIN;
INSERT INTO t VALUES (900, 1, 1);
SAVEPOINT a;
INSERT INTO t VALUES (901, 1, 1);
SAVEPOINT b;
UPDATE t SET v = v + 1 WHERE id IN (900, 901);
SELECT same('r');
RELEASE b;
SELECT same('r');
SAVEPOINT c;
DELETE FROM t WHERE id IN (900, 901);
SELECT same('r'), same('r_other');
ROLLBACK TO c;
SELECT same('r'), same('r_other');
ROLLBACK TO a;
SELECT same('r'), same('r_other');
INSERT INTO t VALUES (902, 1, 1);
COMMIT;
TABLE state;
DO $$
BEGIN
	INSERT INTO t VALUES (910, 1, 1);
	BEGIN
		INSERT INTO t VALUES (911, 1, 1);
		PERFORM * FROM r;
		INSERT INTO t VALUES (910, 1, 1);
	EXCEPTION WHEN unique_violation THEN
		INSERT INTO t VALUES (912, 1, 1);
	END;
	RAISE NOTICE '%', same('r');
END $$;
TABLE state;
CREATE PROCEDURE steps() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 920 .. 925 LOOP
		INSERT INTO t VALUES (i, i % 2, 1);
		IF i % 3 = 0 THEN ROLLBACK; ELSE COMMIT; END IF;
	END LOOP;
END $$;
CALL steps();
TABLE state;
DROP PROCEDURE steps();
-- A statement that fails after it has changed rows
INSERT INTO t SELECT g, 1, 1 / (1100 - g) FROM generate_series(1090, 1100) g;
TABLE state;

-- Two-phase commit
BEGIN;
INSERT INTO t VALUES (1000, 1, 1);
SAVEPOINT a;
UPDATE t SET k = 5 WHERE id = 1000;
RELEASE a;
PREPARE TRANSACTION 'p1';
BEGIN;
DELETE FROM t WHERE id = 900;
SELECT sum(n) > 0 AS some FROM r;
PREPARE TRANSACTION 'p2';
TABLE state;
COMMIT PREPARED 'p1';
TABLE state;
ROLLBACK PREPARED 'p2';
TABLE state;

-- Triggers are off for others, not for rollups.
SET session_replication_role = replica;
INSERT INTO t VALUES (1100, 1, 1);
UPDATE t SET v = 2 WHERE id = 1100;
RESET session_replication_role;
TABLE state;
ALTER TABLE t DISABLE TRIGGER USER;
INSERT INTO t VALUES (1101, 1, 1);
SELECT same('r');
ALTER TABLE t ENABLE TRIGGER USER;

-- TRUNCATE, and all that can happen with it in one transaction
BEGIN;
TRUNCATE t;
SELECT same('r'), same('r_other');
INSERT INTO t VALUES (1, 1, 1), (2, 2, 2);
SELECT same('r'), same('r_other');
ROLLBACK;
TABLE state;
BEGIN;
INSERT INTO t VALUES (2000, 1, 1);
SAVEPOINT a;
TRUNCATE t;
INSERT INTO t VALUES (1, 1, 1);
SELECT same('r'), same('r_other');
ROLLBACK TO a;
SELECT same('r'), same('r_other');
INSERT INTO t VALUES (2001, 1, 1);
COMMIT;
TABLE state;
BEGIN;
TRUNCATE t;
COPY t (id, k, v) FROM STDIN WITH (FREEZE);
1	1	1
2	2	2
\.
COMMIT;
TABLE state;
TRUNCATE t RESTART IDENTITY;
TABLE state;

-- Partitions: directly, row movement, other column orders, sub-partitions
CREATE TABLE p (a int, b text, v numeric) PARTITION BY RANGE (a);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
CREATE TABLE p2 (v numeric, gone int, b text, a int);
ALTER TABLE p2 DROP COLUMN gone;
ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (10) TO (20);
CREATE TABLE p3 PARTITION OF p FOR VALUES FROM (20) TO (30) PARTITION BY LIST (b);
CREATE TABLE p3x PARTITION OF p3 FOR VALUES IN ('x');
CREATE TABLE p3d PARTITION OF p3 DEFAULT;
CREATE TABLE pd PARTITION OF p DEFAULT;
INSERT INTO p SELECT g, chr(120 + g % 3), g FROM generate_series(0, 39) g;
SELECT scalecache.create_rollup('rp', 'SELECT b, a / 10 AS ten, sum(v) AS s, count(*) AS n, max(v) AS hi FROM p GROUP BY 1, 2');
SELECT * FROM checked('rp');
INSERT INTO p1 VALUES (1, 'x', 1);
INSERT INTO p2 VALUES (5, 'x', 11);
INSERT INTO p3 VALUES (25, 'x', 5), (26, 'y', 6);
INSERT INTO p3d VALUES (27, 'z', 7);
UPDATE p2 SET v = v + 1 WHERE a = 11;
DELETE FROM p3x WHERE a = 25;
SELECT * FROM checked('rp');
UPDATE p SET a = a + 10 WHERE a % 10 = 2;
SELECT * FROM checked('rp');
UPDATE p SET b = 'x' WHERE a BETWEEN 23 AND 26;
SELECT * FROM checked('rp');
UPDATE p SET a = 100 + a, v = -v;
SELECT * FROM checked('rp');
UPDATE p SET a = a - 100;
MERGE INTO p USING (VALUES (1), (11), (200)) s (a) ON p.a = s.a
	WHEN MATCHED THEN UPDATE SET a = p.a + 20
	WHEN NOT MATCHED THEN INSERT VALUES (s.a, 'm', 1);
SELECT * FROM checked('rp');
COPY p2 (b, a, v) FROM STDIN;
x	12	1.5
\.
SELECT * FROM checked('rp');
BEGIN;
UPDATE p SET a = a + 10 WHERE a < 10;
SAVEPOINT a;
UPDATE p SET a = a + 10 WHERE a < 20;
SELECT same('rp');
ROLLBACK TO a;
SELECT same('rp');
COMMIT;
SELECT * FROM checked('rp');
-- A trigger of a partition's own turns a row into another's.
CREATE FUNCTION before_p() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	new.v := 1000;
	RETURN new;
END $$;
CREATE TRIGGER before BEFORE INSERT ON p3x FOR EACH ROW EXECUTE FUNCTION before_p();
UPDATE p SET a = 22, b = 'x' WHERE a = 13;
SELECT * FROM checked('rp');
-- One partition's TRUNCATE, rolled back and not
BEGIN;
TRUNCATE p2;
SELECT same('rp');
INSERT INTO p VALUES (15, 'x', 3), (25, 'x', 4);
SELECT same('rp');
ROLLBACK;
SELECT * FROM checked('rp');
TRUNCATE p3;
INSERT INTO p VALUES (25, 'x', 4);
SELECT same('rp');
SELECT scalecache.rebuild_rollup('rp');
SELECT * FROM checked('rp');
-- Partitions that come and go
DROP TABLE pd;
SELECT same('rp');
CREATE TABLE p4 PARTITION OF p FOR VALUES FROM (40) TO (50);
INSERT INTO p VALUES (45, 'x', 3), (25, 'x', 4);
SELECT same('rp');
CREATE TABLE p5 (a int, b text, v numeric);
INSERT INTO p5 VALUES (55, 'x', 3);
ALTER TABLE p ATTACH PARTITION p5 FOR VALUES FROM (50) TO (60);
SELECT same('rp');
INSERT INTO p5 VALUES (56, 'x', 3);
INSERT INTO p VALUES (57, 'x', 3);
SELECT same('rp');
ALTER TABLE p DETACH PARTITION p2;
INSERT INTO p2 (a, v) VALUES (10, 1);
SELECT same('rp');
DROP TABLE p1;
SELECT same('rp');
BEGIN;
ALTER TABLE p DETACH PARTITION p5;
SELECT same('rp');
ROLLBACK;
SELECT same('rp');
ALTER TABLE p DETACH PARTITION p5 CONCURRENTLY;
SELECT same('rp');
SELECT scalecache.rebuild_rollup('rp');
INSERT INTO p VALUES (41, 'x', 3), (25, 'x', 4);
SELECT * FROM checked('rp');
TRUNCATE p;
SELECT * FROM checked('rp');
INSERT INTO p VALUES (41, 'x', 3), (25, 'x', 4);
SELECT * FROM checked('rp');
-- A rollup of one partition
SELECT scalecache.create_rollup('rp4', 'SELECT b, sum(v) AS s FROM p4 GROUP BY b');
INSERT INTO p VALUES (42, 'x', 3), (22, 'x', 4);
UPDATE p SET a = 43 WHERE a = 25;
SELECT same('rp'), same('rp4');
ALTER TABLE p DETACH PARTITION p4;
INSERT INTO p4 VALUES (1, 'y', 3);
SELECT same('rp'), same('rp4');

-- Deltas of every number of rows that is packed in few bytes, and some more
CREATE TABLE sizes (k int, v int);
SELECT scalecache.create_rollup('r_sizes', 'SELECT k, count(*) AS n, sum(v) AS s FROM sizes GROUP BY k');
INSERT INTO sizes SELECT k, v FROM generate_series(1, 150) k, generate_series(1, k) v;
SELECT * FROM checked('r_sizes');
DELETE FROM sizes;
SELECT * FROM checked('r_sizes');

-- What a transaction has pending when it has the rollup filled, or folded
INSERT INTO sizes VALUES (1, 1), (2, 2);
BEGIN;
INSERT INTO sizes VALUES (1, 3), (3, 4);
SELECT scalecache.rebuild_rollup('r_sizes');
SELECT same('r_sizes');
INSERT INTO sizes VALUES (1, 5);
COMMIT;
SELECT * FROM checked('r_sizes');
INSERT INTO sizes VALUES (1, 6), (2, 7);
BEGIN;
INSERT INTO sizes VALUES (1, 8), (4, 9);
SELECT scalecache.fold_rollup('r_sizes');
SELECT same('r_sizes');
INSERT INTO sizes VALUES (1, 10);
COMMIT;
SELECT * FROM checked('r_sizes');

DROP EXTENSION scalecache CASCADE;
DROP TABLE t, p, p2, p4, p5, sizes;
DROP FUNCTION same, answered_from, checked, exact, answered, error_of;
