-- What advice must cope with: detached halfway, added later, not the user's.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;

-- Rows from before ADD COLUMN have its default, though it is not in them.
CREATE TABLE ac_added (id int, t text);
INSERT INTO ac_added SELECT i, 'abc' || i FROM generate_series(1, 20000) i;
ALTER TABLE ac_added ADD active boolean NOT NULL DEFAULT true, ADD state int NOT NULL DEFAULT 7,
	ADD name text DEFAULT 'something rather long to be put into an index', ADD nothing int;
VACUUM ANALYZE ac_added;
CREATE INDEX ac_added_1 ON ac_added (id) WHERE active;
CREATE INDEX ac_added_2 ON ac_added (id) WHERE state = 7;
CREATE INDEX ac_added_3 ON ac_added (name, id);
CREATE INDEX ac_added_4 ON ac_added (id) WHERE nothing IS NULL;
SELECT i, round(scalecache.what_if_size(pg_get_indexdef(i)) / pg_relation_size(i)::numeric, 2) AS estimate
FROM (VALUES ('ac_added_1'::regclass), ('ac_added_2'), ('ac_added_3'), ('ac_added_4')) v(i);
DROP TABLE ac_added;

-- DETACH CONCURRENTLY that was interrupted leaves a partition like this.
CREATE TABLE ac_part (id int, k int) PARTITION BY RANGE (id);
CREATE TABLE ac_part_1 PARTITION OF ac_part FOR VALUES FROM (0) TO (10000);
CREATE TABLE ac_part_2 PARTITION OF ac_part FOR VALUES FROM (10000) TO (20000);
INSERT INTO ac_part SELECT i % 20000, i FROM generate_series(1, 40000) i;
VACUUM ANALYZE ac_part;
UPDATE pg_catalog.pg_inherits SET inhdetachpending = true WHERE inhrelid = 'ac_part_1'::regclass;
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['DELETE FROM ac_part_1 WHERE k = 5']);
-- Its writes are its own.
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT count(*) FROM ac_part_1 WHERE k = 5',
	'INSERT INTO ac_part_1 SELECT 5, i FROM generate_series(1, 1000) i'], weights => ARRAY[1, 1000]);
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT count(*) FROM ac_part_1 WHERE k = 5']);
UPDATE pg_catalog.pg_inherits SET inhdetachpending = false WHERE inhrelid = 'ac_part_1'::regclass;
DROP TABLE ac_part;

-- The server's own tables get no indexes.
SELECT scalecache.apply_index('CREATE INDEX ON pg_class (relpages)');
SELECT scalecache.apply_index('CREATE INDEX ON information_schema.sql_features (feature_name)');

-- Nor do an extension's.
SELECT scalecache.apply_index('CREATE INDEX ON scalecache.index_action (id)');

-- More hypothetical indexes than there are numbers that only the server has.
CREATE TABLE ac_many (id int, k int, l int, m int) PARTITION BY RANGE (id);
DO $$BEGIN
	FOR i IN 0 .. 1199 LOOP
		EXECUTE format('CREATE TABLE ac_many_%s PARTITION OF ac_many FOR VALUES FROM (%s) TO (%s)', i, i, i + 1);
	END LOOP;
END$$;
INSERT INTO ac_many SELECT 1199, i, i, i FROM generate_series(1, 20000) i;
VACUUM ANALYZE ac_many_1199;
SELECT cost_after < cost_before / 10 AS cheaper, used, plan FROM scalecache.what_if('SELECT 1 FROM ac_many WHERE id = 1199 AND m = 5',
	'CREATE INDEX ON ac_many (k)', 'CREATE INDEX ON ac_many (l)', 'CREATE INDEX ON ac_many (k, l)', 'CREATE INDEX ON ac_many (m)');
-- Advice that takes long can be canceled, and leaves nothing.
BEGIN;
SAVEPOINT before;
SET LOCAL statement_timeout = 200;
SELECT * FROM scalecache.suggest_indexes(queries => ARRAY(SELECT format('SELECT * FROM ac_many WHERE k = %s AND l > %s ORDER BY m LIMIT 5', i, i) FROM generate_series(1, 20) i));
ROLLBACK TO before;
EXPLAIN (COSTS off) SELECT FROM ac_many_1199 WHERE m = 5;
SELECT count(*) FROM pg_index WHERE indrelid = 'ac_many'::regclass;
COMMIT;
DROP TABLE ac_many;

-- Of twins the one that guards stays, though it came later; what is invalid
-- does nobody's work.
CREATE TABLE ac_twins (a int, b int);
INSERT INTO ac_twins SELECT i, i FROM generate_series(1, 5000) i;
CREATE INDEX ac_twins_plain ON ac_twins (a);
CREATE UNIQUE INDEX ac_twins_unique ON ac_twins (a);
CREATE TABLE ac_root (a int, b int) PARTITION BY RANGE (a);
CREATE TABLE ac_root_1 PARTITION OF ac_root FOR VALUES FROM (0) TO (10000);
INSERT INTO ac_root SELECT i, i FROM generate_series(1, 5000) i;
CREATE INDEX ac_root_b ON ac_root (b);
CREATE INDEX ac_root_invalid ON ONLY ac_root (b, a);
SELECT ddl, regexp_replace(reason, ' since.*', '') AS reason FROM scalecache.suggest_index_drops() WHERE relation IN ('ac_twins'::regclass, 'ac_root'::regclass) ORDER BY 1;
-- Nor is one suggested less for an invalid one.
CREATE INDEX ac_twins_b ON ac_twins (b);
VACUUM ANALYZE ac_twins;
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT * FROM ac_twins WHERE b = 5']);
UPDATE pg_catalog.pg_index SET indisvalid = false WHERE indexrelid = 'ac_twins_b'::regclass;
ANALYZE ac_twins;
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT * FROM ac_twins WHERE b = 5']);
-- Weights whose costs could not be told from each other
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT * FROM ac_twins WHERE b = 5'], weights => ARRAY[1e308]);
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT * FROM ac_twins WHERE b = 5'], weights => ARRAY[1e100]);
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT * FROM ac_twins WHERE b = 5'], weights => ARRAY['Infinity'::float8]);
-- What the caller may not execute is not planned for him either.
CREATE ROLE ac_reader;
GRANT SELECT ON ac_twins TO ac_reader;
SET ROLE ac_reader;
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['UPDATE ac_twins SET a = 1 WHERE b = 5']);
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['WITH w AS (DELETE FROM ac_twins WHERE b = 5 RETURNING a) SELECT a FROM w']);
RESET ROLE;
DROP TABLE ac_twins, ac_root;
DROP ROLE ac_reader;
DROP EXTENSION scalecache;
