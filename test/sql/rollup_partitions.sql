-- Partitions that come and go: exact at once, and from the storage where the
-- partition was counted instead of the whole rollup made anew.
CREATE EXTENSION scalecache;
\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /helper.sql
\set ECHO none
\i :helper
\set ECHO all
SET client_min_messages = warning;
CREATE TABLE t (id bigserial, k int, v numeric, s text) PARTITION BY RANGE (k);
CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);
CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20);
INSERT INTO t (k, v, s) SELECT g % 20, g, 's' || g % 7 FROM generate_series(1, 500) g;
SELECT scalecache.create_rollup('r', 'SELECT k % 5 AS k, sum(v) AS s, count(*) AS n, min(v) AS lo, max(v) AS hi, count(DISTINCT s) AS d FROM t GROUP BY 1');
SELECT scalecache.create_rollup('total', 'SELECT count(*) AS n, sum(v) AS s FROM t');
SELECT scalecache.create_rollup('median', 'SELECT k, percentile_cont(0.5) WITHIN GROUP (ORDER BY v) AS m FROM t GROUP BY 1');
CREATE FUNCTION step() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	r text;
	c record;
BEGIN
	FOREACH r IN ARRAY '{r,total,median}'::text[] LOOP
		c := checked(r::regclass);
		RETURN NEXT concat_ws('; ', r, c.pending, c.folded, c.answered);
	END LOOP;
END $$;
CREATE VIEW states AS SELECT rollup, state FROM scalecache.rollups ORDER BY rollup::text;
SELECT step();

-- a new, empty one: nothing happens, and it is captured
SELECT rollup, epoch AS epoch_before FROM scalecache.rollup WHERE rollup = 'r'::regclass \gset
CREATE TABLE t3 PARTITION OF t FOR VALUES FROM (20) TO (30);
SELECT epoch = :epoch_before AS same_epoch FROM scalecache.rollup WHERE rollup = 'r'::regclass;
INSERT INTO t (k, v, s) SELECT 20 + g % 10, g, 's' FROM generate_series(1, 50) g;
INSERT INTO t3 (k, v, s) VALUES (20, 1000000, 'direct');
SELECT step();
SELECT * FROM states;

-- attached with rows, its columns in another order, and others dropped
CREATE TABLE t4 (gone int, s text, v numeric, id bigint DEFAULT 1 NOT NULL, k int);
ALTER TABLE t4 DROP COLUMN gone;
INSERT INTO t4 (k, v, s) SELECT 30 + g % 10, -g, 'x' || g % 3 FROM generate_series(1, 100) g;
ALTER TABLE t ATTACH PARTITION t4 FOR VALUES FROM (30) TO (40);
SELECT step();
INSERT INTO t4 (k, v, s) VALUES (31, 5, 'y');
UPDATE t SET k = k - 10 WHERE k BETWEEN 30 AND 33;
SELECT step();
SELECT * FROM states;

-- in a transaction that is rolled back, and in a savepoint
BEGIN;
ALTER TABLE t DETACH PARTITION t4;
SELECT step();
ROLLBACK;
SELECT step();
BEGIN;
INSERT INTO t (k, v, s) VALUES (35, 7, 'q');
SAVEPOINT a;
ALTER TABLE t DETACH PARTITION t4;
INSERT INTO t4 (k, v, s) VALUES (36, 7, 'q');
SELECT same('r'), same('total');
ROLLBACK TO a;
INSERT INTO t (k, v, s) VALUES (37, 7, 'q');
SELECT same('r'), same('total');
COMMIT;
SELECT step();

-- detached, changed outside, attached again
ALTER TABLE t DETACH PARTITION t4;
SELECT tgname FROM pg_trigger WHERE tgrelid = 't4'::regclass;
SELECT step();
DELETE FROM t4 WHERE v < -50;
INSERT INTO t4 (k, v, s) VALUES (38, 88, 'z');
SELECT step();
ALTER TABLE t ATTACH PARTITION t4 FOR VALUES FROM (30) TO (40);
SELECT step();

-- its bounds moved, in one transaction
BEGIN;
ALTER TABLE t DETACH PARTITION t4;
UPDATE t4 SET k = k + 10;
ALTER TABLE t ATTACH PARTITION t4 FOR VALUES FROM (40) TO (50);
COMMIT;
SELECT step();
SELECT * FROM states;

-- truncated: one, rolled back; one; all of them
BEGIN;
TRUNCATE t3;
INSERT INTO t (k, v, s) VALUES (25, 1, 'after');
SELECT step();
ROLLBACK;
SELECT step();
TRUNCATE t3;
INSERT INTO t (k, v, s) VALUES (25, 1, 'after');
SELECT step();
TRUNCATE t1, t3;
SELECT step();
BEGIN;
TRUNCATE t;
SELECT step();
SELECT * FROM total;
INSERT INTO t (k, v, s) VALUES (1, 1, 'after');
SELECT step();
ROLLBACK;
SELECT step();
SELECT * FROM states;

-- dropped, also by way of its schema, and in a transaction
DROP TABLE t3;
SELECT step();
BEGIN;
DROP TABLE t1, t2;
SELECT step();
ROLLBACK;
SELECT step();
CREATE SCHEMA p;
CREATE TABLE p.t5 PARTITION OF t FOR VALUES FROM (50) TO (60);
INSERT INTO t (k, v, s) SELECT 50 + g % 10, g, 's' FROM generate_series(1, 20) g;
SELECT step();
DROP SCHEMA p CASCADE;
SELECT step();
SELECT * FROM states;
SELECT scalecache.rebuild_rollup(r::regclass) FROM unnest('{r,total,median}'::text[]) r;
SELECT step();

-- made along with a schema
CREATE SCHEMA p
	CREATE TABLE t5 (k int, s text)
	CREATE TABLE t55 PARTITION OF public.t FOR VALUES FROM (55) TO (60);
INSERT INTO t (k, v, s) VALUES (55, 1, 's');
SELECT step();
SELECT * FROM states;
DROP TABLE p.t5, p.t55;
DROP SCHEMA p;
SELECT step();

-- a default partition, and one that takes over what it would have got
CREATE TABLE td PARTITION OF t DEFAULT;
INSERT INTO t (k, v, s) VALUES (100, 1, 'd'), (NULL, 2, 'd');
SELECT step();
CREATE TABLE t6 PARTITION OF t FOR VALUES FROM (60) TO (70);
WITH moved AS (DELETE FROM td WHERE k = 100 RETURNING v, s) INSERT INTO t SELECT 1, 61, v, s FROM moved;
SELECT step();
ALTER TABLE t DETACH PARTITION td;
SELECT step();
ALTER TABLE t ATTACH PARTITION td DEFAULT;
SELECT step();

-- partitions of partitions
CREATE TABLE u (s text, k int, v numeric, id bigint DEFAULT 1 NOT NULL) PARTITION BY LIST (s);
CREATE TABLE u1 PARTITION OF u FOR VALUES IN ('a');
CREATE TABLE u2 PARTITION OF u FOR VALUES IN ('b');
INSERT INTO u SELECT (ARRAY['a', 'b'])[1 + g % 2], 70 + g % 10, g FROM generate_series(1, 40) g;
ALTER TABLE t ATTACH PARTITION u FOR VALUES FROM (70) TO (80);
SELECT step();
INSERT INTO u1 VALUES ('a', 70, 3);
CREATE TABLE u3 PARTITION OF u FOR VALUES IN ('c');
INSERT INTO t VALUES (1, 70, 3, 'c');
SELECT step();
ALTER TABLE u DETACH PARTITION u2;
SELECT step();
TRUNCATE u;
INSERT INTO t VALUES (1, 70, 3, 'a');
SELECT step();
ALTER TABLE t DETACH PARTITION u;
INSERT INTO u VALUES ('a', 70, 3);
SELECT step();
SELECT count(*) FROM pg_trigger WHERE tgrelid IN ('u'::regclass, 'u1'::regclass, 'u2'::regclass, 'u3'::regclass);
ALTER TABLE t ATTACH PARTITION u FOR VALUES FROM (70) TO (80);
DROP TABLE u;
SELECT step();
SELECT * FROM states;

-- detached concurrently: the source answers until the rebuild
DROP TABLE td;
ALTER TABLE t DETACH PARTITION t6 CONCURRENTLY;
SELECT step();
SELECT * FROM states;
SELECT scalecache.rebuild_rollup(r::regclass) FROM unnest('{r,total,median}'::text[]) r;
SELECT step();

-- too big to be read on the way: the source answers until the rebuild
SET scalecache.partition_limit = 0;
ALTER TABLE t ATTACH PARTITION t6 FOR VALUES FROM (60) TO (70);
SELECT step();
SELECT * FROM states;
SELECT scalecache.rebuild_rollup(r::regclass) FROM unnest('{r,total,median}'::text[]) r;
SELECT step();
TRUNCATE t6;
SELECT step();
SELECT * FROM states;
SELECT scalecache.rebuild_rollup(r::regclass) FROM unnest('{r,total,median}'::text[]) r;
CREATE TABLE t7 PARTITION OF t FOR VALUES FROM (80) TO (90);
SELECT step();
-- the rest does not count when one small one is truncated
SET scalecache.partition_limit = '8kB';
INSERT INTO t (k, v, s) SELECT g % 20, g, 's' FROM generate_series(1, 1000) g;
INSERT INTO t (k, v, s) VALUES (85, 1, 's');
TRUNCATE t7;
SELECT * FROM states;
SELECT step();
RESET scalecache.partition_limit;

-- a partition that can change unseen
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE f PARTITION OF t FOR VALUES FROM (95) TO (99) SERVER nowhere;
SELECT * FROM states;
DROP FOREIGN TABLE f;
SELECT scalecache.rebuild_rollup(r::regclass) FROM unnest('{r,total,median}'::text[]) r;
CREATE UNLOGGED TABLE t8 PARTITION OF t FOR VALUES FROM (90) TO (95);
INSERT INTO t VALUES (1, 91, 3, 'u');
SELECT same('r'), same('total');
SELECT * FROM states;
SELECT scalecache.rebuild_rollup('r');
ALTER TABLE t8 SET LOGGED;
-- also one that came unseen
SELECT scalecache.rebuild_rollup('r');
ALTER EVENT TRIGGER scalecache_altered DISABLE;
CREATE UNLOGGED TABLE t9 PARTITION OF t FOR VALUES FROM (99) TO (100);
SELECT answered_from('r');
SELECT * FROM states;
DROP TABLE t9;
ALTER EVENT TRIGGER scalecache_altered ENABLE ALWAYS;
SELECT * FROM states;
SELECT scalecache.rebuild_rollup(r::regclass) FROM unnest('{r,total,median}'::text[]) r;
SELECT step();

-- many of them, on two levels, are looked at in one pass
CREATE TABLE many (k int, v int) PARTITION BY LIST (k);
DO $$ BEGIN
	FOR i IN 1 .. 150 LOOP
		EXECUTE format('CREATE TABLE many%1$s PARTITION OF many FOR VALUES IN (%1$s)', i);
	END LOOP;
END $$;
CREATE TABLE others PARTITION OF many DEFAULT PARTITION BY RANGE (k);
CREATE TABLE others1 PARTITION OF others DEFAULT;
VACUUM FULL pg_class;
SELECT 150 > pg_relation_size('pg_class') / 8192 AS many;
SELECT scalecache.create_rollup('r_many', 'SELECT k, sum(v) AS total FROM many GROUP BY k');
INSERT INTO many SELECT i % 160, i FROM generate_series(1, 1000) i;
SELECT same('r_many'), answered_from('r_many');
CREATE UNLOGGED TABLE others2 PARTITION OF others FOR VALUES FROM (200) TO (300);
SELECT same('r_many'), answered_from('r_many');
DROP TABLE many CASCADE;

-- names of triggers tell the rollup
SELECT tgname FROM pg_trigger WHERE tgrelid = 't1'::regclass ORDER BY 1;
DROP SERVER nowhere CASCADE;
DROP FOREIGN DATA WRAPPER nothing;
DROP EXTENSION scalecache CASCADE;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 't1'::regclass;
DROP VIEW IF EXISTS states;
DROP TABLE t, t4;
DROP FUNCTION step, same, answered_from, checked, exact, answered, error_of;
