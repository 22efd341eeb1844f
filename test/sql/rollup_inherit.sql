-- Sources with inheriting tables: children are included, also those that come
-- and go; FROM ONLY is the parent alone.
CREATE EXTENSION scalecache;
\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /helper.sql
\set ECHO none
\i :helper
\set ECHO all
SET client_min_messages = warning;
CREATE TABLE p (id int, k int, v numeric, note text);
CREATE TABLE c1 (extra text) INHERITS (p);
INSERT INTO p SELECT g, g % 3, g, 'n' FROM generate_series(1, 30) g;
INSERT INTO c1 SELECT g, g % 3, -g, 'n', 'e' FROM generate_series(1, 20) g;
SELECT scalecache.create_rollup('r', 'SELECT k, sum(v) AS s, count(*) AS n, max(v) AS hi FROM p GROUP BY k');
SELECT scalecache.create_rollup('alone', 'SELECT k, sum(v) AS s, count(*) AS n FROM ONLY p GROUP BY k');
CREATE FUNCTION step() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	r text;
	c record;
BEGIN
	FOREACH r IN ARRAY '{r,alone}'::text[] LOOP
		c := checked(r::regclass);
		RETURN NEXT concat_ws('; ', r, c.pending, c.folded, c.answered);
	END LOOP;
END $$;
CREATE VIEW states AS SELECT rollup, state FROM scalecache.rollups ORDER BY rollup::text;
SELECT step();
INSERT INTO c1 VALUES (100, 1, 1, 'n', 'x');
UPDATE p SET v = v + 1 WHERE id < 10;
DELETE FROM ONLY p WHERE id = 20;
SELECT step();
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname LIKE 'scalecache%' ORDER BY tgrelid::regclass::text, tgname;

-- created as a child, of a child, of two parents
CREATE TABLE c2 () INHERITS (p);
INSERT INTO c2 VALUES (200, 2, 2, 'c2');
CREATE TABLE c11 (more int) INHERITS (c1);
INSERT INTO c11 VALUES (300, 0, 3, 'c11', 'e', 1);
CREATE TABLE c12 () INHERITS (c1, c2);
INSERT INTO c12 (id, k, v) VALUES (400, 0, 4);
UPDATE p SET k = 0 WHERE id >= 200;
SELECT step();
SELECT * FROM states;

-- made a child with rows, its columns in another order, and set free again
CREATE TABLE c3 (note text, v numeric, own int, k int, id int);
INSERT INTO c3 (id, k, v) SELECT g, g % 4, g FROM generate_series(500, 540) g;
CREATE TABLE c31 () INHERITS (c3);
INSERT INTO c31 (id, k, v) SELECT g, g % 4, g FROM generate_series(600, 640) g;
ALTER TABLE c3 INHERIT p;
SELECT step();
INSERT INTO c31 (id, k, v) VALUES (700, 1, 1);
UPDATE c3 SET v = -v WHERE id < 520;
SELECT step();
BEGIN;
ALTER TABLE c3 NO INHERIT p;
INSERT INTO c31 (id, k, v) VALUES (701, 1, 1);
SELECT step();
ROLLBACK;
SELECT step();
ALTER TABLE c3 NO INHERIT p;
INSERT INTO c31 (id, k, v) VALUES (701, 1, 1);
SELECT step();
SELECT count(*) FROM pg_trigger WHERE tgrelid IN ('c3'::regclass, 'c31'::regclass);
ALTER TABLE c3 INHERIT p;
SELECT step();
SELECT * FROM states;

-- set free and changed in one command
ALTER TABLE c3 NO INHERIT p, ALTER own TYPE bigint;
SELECT step();
SELECT * FROM states;
SELECT scalecache.rebuild_rollup('r');
SELECT step();

-- truncated: with children, without, a child; dropped
BEGIN;
TRUNCATE p;
SELECT step();
INSERT INTO c2 VALUES (1, 1, 1, 'x');
SELECT step();
ROLLBACK;
SELECT step();
BEGIN;
TRUNCATE ONLY p;
SELECT step();
ROLLBACK;
TRUNCATE c1;
SELECT step();
DROP TABLE c12;
SELECT step();
DROP TABLE c1 CASCADE;
SELECT step();
SELECT * FROM states;

-- columns, renamed and added through the parent
ALTER TABLE p RENAME v TO amount;
ALTER TABLE p ADD COLUMN later int DEFAULT 7;
INSERT INTO c2 VALUES (1, 1, 1, 'x');
UPDATE p SET later = 8;
SELECT step();

-- a child that can change unseen
CREATE TEMP TABLE tmp () INHERITS (p);
INSERT INTO tmp VALUES (1, 1, 1);
SELECT same('r');
SELECT * FROM states;
DROP TABLE tmp;
SELECT scalecache.rebuild_rollup('r');
SELECT step();
CREATE UNLOGGED TABLE unl () INHERITS (p);
SELECT scalecache.create_rollup('bad', 'SELECT count(*) AS n FROM p');
DROP TABLE unl;
SELECT scalecache.rebuild_rollup('r');
SELECT step();

DROP VIEW r;
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname LIKE 'scalecache%' ORDER BY tgrelid::regclass::text, tgname;
DROP EXTENSION scalecache CASCADE;
SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'scalecache%';
DROP VIEW IF EXISTS states;
DROP TABLE p CASCADE;
DROP TABLE c3 CASCADE;
DROP FUNCTION step, same, answered_from, checked, exact, answered, error_of;
