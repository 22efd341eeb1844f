-- Planning as if indexes existed, or did not.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
SET max_parallel_workers_per_gather = 0;
CREATE SCHEMA whatif;
SET search_path = whatif, public;

CREATE TABLE item (
	id int PRIMARY KEY,
	owner int,
	kind text,
	name text COLLATE "C",
	price numeric(8,2),
	made timestamptz NOT NULL,
	tags text[],
	doc jsonb,
	gone timestamptz
);
INSERT INTO item
SELECT i, i * 7919 % 500, 'kind ' || i % 7, 'Name ' || i * 31 % 9973,
	(i * 37 % 10000) / 100.0,
	'2026-01-01 00:00+00'::timestamptz + i * interval '1 minute',
	ARRAY['t' || i % 40, 'u' || i % 111], jsonb_build_object('k', i % 97),
	CASE WHEN i % 50 = 0 THEN '2026-02-01 00:00+00'::timestamptz END
FROM generate_series(1, 10000) i;
CREATE TABLE owner (id int PRIMARY KEY, email text);
INSERT INTO owner SELECT i, 'Owner' || i || '@example.com' FROM generate_series(0, 499) i;
VACUUM ANALYZE item;
VACUUM ANALYZE owner;

CREATE FUNCTION shape(plan text) RETURNS text LANGUAGE sql AS
$$ SELECT regexp_replace(plan, '  \(cost=[^)]*\)', '', 'g') $$;

-- The oracle: what the planner says once the index is there.
CREATE FUNCTION real_cost(query text, VARIADIC ddl text[]) RETURNS float8
LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	FOR i IN 1 .. cardinality(ddl) LOOP
		EXECUTE ddl[i];
	END LOOP;
	ANALYZE item, owner;
	EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
	RAISE EXCEPTION USING errcode = 'ZZ001', message = plan->0->'Plan'->>'Total Cost';
EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
	RETURN sqlerrm;
END $$;

CREATE FUNCTION compare(query text, VARIADIC ddl text[])
RETURNS TABLE (helps boolean, used int, as_real boolean) LANGUAGE sql AS $$
	SELECT w.cost_after < w.cost_before * 0.9, cardinality(w.used),
		abs(w.cost_after / real_cost(query, VARIADIC ddl) - 1) <= 0.02
	FROM scalecache.what_if(query, VARIADIC ddl) w
$$;

SELECT used, shape(plan) FROM scalecache.what_if(
	'SELECT * FROM item WHERE owner = 3 ORDER BY made DESC LIMIT 3',
	'CREATE INDEX ON item (owner, made DESC)');

-- Every kind, priced as the real one is.
SELECT n, c.*, ddl FROM (VALUES
	(1, 'SELECT * FROM item WHERE owner = 3', 'CREATE INDEX ON item (owner)'),
	(2, 'SELECT owner, price FROM item WHERE owner = 3', 'CREATE INDEX ON item (owner) INCLUDE (price)'),
	(3, 'SELECT * FROM item WHERE kind = ''kind 1'' ORDER BY made LIMIT 5', 'CREATE INDEX ON item (kind, made)'),
	(4, 'SELECT * FROM item ORDER BY price DESC NULLS LAST LIMIT 5', 'CREATE INDEX ON item (price DESC NULLS LAST)'),
	(5, 'SELECT * FROM item WHERE name LIKE ''Name 12%''', 'CREATE INDEX ON item (name)'),
	(6, 'SELECT * FROM item WHERE kind LIKE ''kind 1%'' AND owner = 4', 'CREATE INDEX ON item (owner, kind text_pattern_ops)'),
	(7, 'SELECT * FROM owner WHERE lower(email) = ''owner17@example.com''', 'CREATE INDEX ON owner (lower(email))'),
	(8, 'SELECT * FROM item WHERE gone IS NOT NULL AND owner = 100', 'CREATE INDEX ON item (owner) WHERE gone IS NOT NULL'),
	(9, 'SELECT * FROM item WHERE (doc->>''k'')::int = 5 AND price > 50', 'CREATE INDEX ON item (((doc->>''k'')::int), price)'),
	(10, 'SELECT * FROM item WHERE owner = 3', 'CREATE INDEX ON item USING hash (owner)'),
	(11, 'SELECT * FROM item WHERE made < ''2026-01-02 00:00+00''', 'CREATE INDEX ON item USING brin (made)'),
	(12, 'SELECT * FROM item WHERE tags @> ARRAY[''t7'', ''u5'']', 'CREATE INDEX ON item USING gin (tags)'),
	(13, 'SELECT * FROM item WHERE doc @> ''{"k": 5}''', 'CREATE INDEX ON item USING gin (doc jsonb_path_ops)'),
	(14, 'SELECT * FROM owner WHERE email ^@ ''Owner17''', 'CREATE INDEX ON owner USING spgist (email)'),
	(15, 'SELECT max(price) FROM item', 'CREATE UNIQUE INDEX ON item (price, id)'),
	(16, 'SELECT * FROM item WHERE owner = 3 AND kind = ''kind 2''', 'CREATE INDEX ON item (owner) WHERE kind = ''kind 2'''),
	-- of a partial index's expression the planner takes no statistics
	(17, 'SELECT * FROM item WHERE lower(name) = ''name 12'' AND gone IS NULL', 'CREATE INDEX ON item (lower(name)) WHERE gone IS NULL')
) v(n, query, ddl), compare(query, ddl) c ORDER BY n;

-- Expressions and predicates count for each relation of a join, not only for
-- the first.
SELECT c.* FROM compare(
	'SELECT i.* FROM owner o JOIN item i ON i.owner = o.id WHERE lower(o.email) = ''owner17@example.com'' AND i.gone IS NULL',
	'CREATE INDEX ON item (owner) WHERE gone IS NULL',
	'CREATE INDEX ON owner (lower(email))') c;
SELECT c.* FROM compare(
	'SELECT i.* FROM item i JOIN owner o ON i.owner = o.id WHERE lower(o.email) = ''owner17@example.com'' AND i.gone IS NULL',
	'CREATE INDEX ON item (owner) WHERE gone IS NULL',
	'CREATE INDEX ON owner (lower(email))') c;

-- A copy of the primary key is no help.
SELECT cost_after < cost_before AS helps FROM scalecache.what_if(
	'SELECT * FROM item WHERE id = 5', 'CREATE INDEX ON item (id)');

-- As if an index were gone.
SELECT cost_after > cost_before * 10 AS worse, used, shape(plan) FROM scalecache.what_if(
	'SELECT * FROM item WHERE id = 5', 'DROP INDEX item_pkey');
SELECT used, shape(plan) FROM scalecache.what_if('SELECT * FROM item WHERE id = 5',
	'DROP INDEX item_pkey', 'CREATE INDEX the_other ON item (id, kind)');

-- Parameters: a generic plan.
SELECT used, shape(plan) FROM scalecache.what_if(
	'SELECT * FROM item WHERE owner = $1 AND made > $2',
	'CREATE INDEX ON item (owner, made)');

-- Changing statements, and what wraps one.
SELECT used, shape(plan) FROM scalecache.what_if(
	'UPDATE item SET price = 1 WHERE owner = 3', 'CREATE INDEX ON item (owner)');
SELECT used, shape(plan) FROM scalecache.what_if(
	'EXPLAIN DELETE FROM item WHERE owner = 3', 'CREATE INDEX ON item (owner)');

-- Without DDL it only explains.
SELECT cost_before = cost_after AS same, used FROM scalecache.what_if('SELECT 1');

-- Partitioned tables: an index of each partition, columns matched by name.
CREATE TABLE log (id int, at date, who int, msg text) PARTITION BY RANGE (at);
CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE log_2 (msg text, junk int, who int, at date, id int);
ALTER TABLE log_2 DROP COLUMN junk;
ALTER TABLE log ATTACH PARTITION log_2 FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
INSERT INTO log SELECT i, '2026-01-01'::date + i % 59, i % 1000, 'msg ' || i FROM generate_series(1, 20000) i;
VACUUM ANALYZE log;
SELECT used, shape(plan) FROM scalecache.what_if(
	'SELECT * FROM log WHERE who = 7 AND length(msg) = 3 AND id > 0',
	'CREATE INDEX who_idx ON log (who, length(msg)) WHERE id > 0');
SELECT used, shape(plan) FROM scalecache.what_if(
	'SELECT * FROM log WHERE who = $1 AND at = $2 AND id > 0',
	'CREATE INDEX who_idx ON log (who) WHERE id > 0');
CREATE INDEX log_who ON log (who);
SELECT used, shape(plan) FROM scalecache.what_if(
	'SELECT * FROM log WHERE who = 7', 'DROP INDEX log_who');

-- Sizes
CREATE FUNCTION real_size(ddl text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE replace(ddl, 'INDEX ON', 'INDEX sized ON');
	RAISE EXCEPTION USING errcode = 'ZZ001', message = pg_relation_size('sized')::text;
EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
	RETURN sqlerrm;
END $$;
SELECT ddl, abs(scalecache.what_if_size(ddl)::float8 / real_size(ddl) - 1) < 0.1 AS near
FROM unnest(ARRAY['CREATE INDEX ON item (owner)', 'CREATE INDEX ON item (name)',
	'CREATE INDEX ON item (owner, made)', 'CREATE INDEX ON item (owner) INCLUDE (kind)',
	'CREATE INDEX ON item (gone)', 'CREATE INDEX ON item (upper(name))',
	'CREATE INDEX ON item (made) WHERE kind = ''kind 3''',
	'CREATE INDEX ON item (owner) WITH (fillfactor = 50)',
	'CREATE INDEX ON item (owner) WITH (deduplicate_items = off)',
	'CREATE UNIQUE INDEX ON item (id, owner)', 'CREATE INDEX ON item USING brin (made)',
	'CREATE INDEX ON item USING hash (id)', 'CREATE INDEX ON item USING hash (id) WHERE owner = 3',
	'CREATE INDEX ON item (owner) WHERE id < 0',
	'CREATE INDEX ON item USING gin (doc jsonb_path_ops)']) ddl;
-- Frequent short values beside long ones that are there once; keys of documents.
CREATE TABLE mixed AS SELECT i, CASE WHEN i % 2 = 0 THEN 'long value ' || md5(i::text) ELSE 'v' || i % 40 END AS v,
	jsonb_build_object('no', 'A' || hashint4(i) % 30000, 'rank', i % 5, 'ref', floor(random() ^ 2 * 800)) AS doc
FROM generate_series(1, 80000) i;
VACUUM ANALYZE mixed;
SELECT ddl, abs(scalecache.what_if_size(ddl)::float8 / real_size(ddl) - 1) < off AS near
FROM (VALUES ('CREATE INDEX ON mixed (v)', 0.05), ('CREATE INDEX ON mixed USING gin (doc)', 0.25),
	('CREATE INDEX ON mixed USING gin (doc jsonb_path_ops)', 0.25)) i (ddl, off);
-- Rows of a key are next to each other, and most keys have one, others many.
CREATE TABLE clustered AS SELECT k, repeat('z', 30) AS filler
FROM generate_series(1, 120000) k, generate_series(1, CASE WHEN hashint4(k) % 10 = 0 THEN 20 ELSE 1 END);
ANALYZE clustered;
SELECT ddl, abs(scalecache.what_if_size(ddl)::float8 / real_size(ddl) - 1) < 0.05 AS near
FROM unnest(ARRAY['CREATE INDEX ON clustered (k)', 'CREATE INDEX ON clustered (k) WHERE k > 60000',
	'CREATE INDEX ON clustered (filler, k)']) ddl;
DROP TABLE clustered;
-- One half of the table is not like the other.
CREATE TABLE halves AS SELECT CASE WHEN i <= 200000 THEN i ELSE 1000000 + i / 50 END AS up, CASE WHEN i > 200000 THEN i ELSE 1000000 + i / 50 END AS down
FROM generate_series(1, 400000) i;
ANALYZE halves;
SELECT ddl, abs(scalecache.what_if_size(ddl)::float8 / real_size(ddl) - 1) < 0.1 AS near
FROM unnest(ARRAY['CREATE INDEX ON halves (up)', 'CREATE INDEX ON halves (down)']) ddl;
DROP TABLE halves;
-- Keys of GIN that are all as frequent as each other: those that the sample has twice are no others.
CREATE TABLE alike AS SELECT ARRAY[i * 7919::bigint % 40000] AS keys FROM generate_series(1, 200000) i ORDER BY md5(i::text);
ANALYZE alike;
SELECT abs(scalecache.what_if_size(ddl)::float8 / real_size(ddl) - 1) < 0.25 AS near
FROM (VALUES ('CREATE INDEX ON alike USING gin (keys)')) i (ddl);
DROP TABLE alike;
-- Nearly all of them once in the sample, though each is there once or twice; and lists that are long, which fill pages better.
CREATE TABLE sparse AS SELECT ARRAY[abs(hashint4(i)) % 300000] AS rare, ARRAY[abs(hashint4(i + 7)) % 200] AS common FROM generate_series(1, 300000) i;
ANALYZE sparse;
SELECT ddl, abs(scalecache.what_if_size(ddl)::float8 / real_size(ddl) - 1) < off AS near
FROM (VALUES ('CREATE INDEX ON sparse USING gin (rare)', 0.1), ('CREATE INDEX ON sparse USING gin (common)', 0.05)) i (ddl, off);
DROP TABLE sparse;
-- Points are sorted and split again; ranges are split unevenly; a hash index has buckets that are not split yet, lists of frequent values, and no NULLs.
CREATE TABLE shapes AS SELECT i, point(i * 7919::bigint % 10007, i * 104729::bigint % 10009) AS at, int4range(i % 997, i % 997 + 1 + i % 50) AS span,
	(10000 / (1 + i * 7919::bigint % 10007))::int AS often, CASE WHEN i % 5 = 0 THEN i END AS gone, 'name ' || i AS name
FROM generate_series(1, 40000) i;
ANALYZE shapes;
SELECT ddl, abs(scalecache.what_if_size(ddl)::float8 / real_size(ddl) - 1) < off AS near
FROM (VALUES ('CREATE INDEX ON shapes USING gist (at)', 0.1), ('CREATE INDEX ON shapes USING gist (span)', 0.2),
	('CREATE INDEX ON shapes USING spgist (at)', 0.2), ('CREATE INDEX ON shapes USING spgist (name)', 0.1), ('CREATE INDEX ON shapes USING hash (often)', 0.05), ('CREATE INDEX ON shapes USING hash (gone)', 0.05)) i (ddl, off);
DROP TABLE shapes;
-- Few rows that lie together are counted there; those of a day have few days.
CREATE TABLE queue AS SELECT i, 'key of ' || md5(i::text) || md5((-i)::text) AS key, i / 500 AS day, i > 299400 AS open FROM generate_series(1, 300000) i;
ANALYZE queue;
SELECT ddl, abs(scalecache.what_if_size(ddl)::float8 / real_size(ddl) - 1) < off AS near
FROM (VALUES ('CREATE INDEX ON queue (key) WHERE open', 0.02), ('CREATE INDEX ON queue (day) WHERE open', 0.02)) i (ddl, off);
DROP TABLE queue;

-- Nothing is left behind, not even after an error.
SELECT * FROM scalecache.what_if('SELECT 1/0 FROM item', 'CREATE INDEX ON item (owner)');
BEGIN;
SELECT cost_after < cost_before AS helps FROM scalecache.what_if(
	'SELECT * FROM item WHERE owner = 3', 'CREATE INDEX ON item (owner)');
SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'item'::regclass;
COMMIT;
EXPLAIN (COSTS off) SELECT * FROM item WHERE owner = 3;
SELECT count(*) FROM pg_index WHERE indrelid = 'item'::regclass;

-- A table without statistics
CREATE TABLE fresh AS SELECT i AS a FROM generate_series(1, 1000) i;
RESET client_min_messages;
SELECT cost_after < cost_before AS helps FROM scalecache.what_if(
	'SELECT * FROM fresh WHERE a = 3', 'CREATE INDEX ON fresh (a)');

-- Indexes of tables that a statement does not touch are looked at, but none of the rows are.
CREATE TABLE zeros AS SELECT i % 3 AS a FROM generate_series(1, 100) i;
CREATE FUNCTION zeros_with(int) RETURNS SETOF zeros LANGUAGE sql STABLE AS 'SELECT * FROM zeros WHERE a = $1';
SELECT used, shape(plan) FROM scalecache.what_if('SELECT * FROM item WHERE owner = 3', 'CREATE INDEX ON zeros ((1 / a))',
	'CREATE INDEX ON item (owner)');
SELECT used, shape(plan) FROM scalecache.what_if('SELECT * FROM zeros WHERE 1 / a = 3', 'CREATE INDEX ON zeros ((1 / a))');
SELECT used, shape(plan) FROM scalecache.what_if('SELECT * FROM zeros_with(1)', 'CREATE INDEX ON zeros ((1 / a))');
SELECT used, shape(plan) FROM scalecache.what_if('SELECT * FROM item WHERE owner = 3', 'CREATE INDEX ON zeros ((1 / b))');
SELECT used, shape(plan) FROM scalecache.what_if('SELECT * FROM log_1 WHERE who = 7', 'CREATE INDEX ON log (who, id)', 'CREATE INDEX ON zeros ((1 / a))', 'DROP INDEX log_who');
DROP TABLE zeros CASCADE;

-- Refusals
\set VERBOSITY default
SELECT * FROM scalecache.what_if('VACUUM item');
SELECT * FROM scalecache.what_if('SELECT 1; SELECT 2');
SELECT * FROM scalecache.what_if('');
SELECT * FROM scalecache.what_if(NULL);
SELECT scalecache.what_if_size(NULL);
SELECT scalecache.apply_index(NULL);
SELECT * FROM scalecache.what_if('SELECT 1', NULL::text);
SELECT * FROM scalecache.what_if('SELECT * FROM nowhere');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE TABLE t ()');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item (owner); SELECT 1');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item (owner');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON nowhere (owner)');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item (nothing)');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item (random())');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item (owner) WHERE made < now()');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item USING nothing (owner)');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item USING gin (owner)');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item USING hash (owner, id)');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE UNIQUE INDEX ON item USING brin (owner)');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item USING hash (owner) INCLUDE (id)');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item USING hash (owner DESC)');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item (owner) INCLUDE (lower(kind))');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item (owner text_ops)');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item (owner COLLATE "C")');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item (owner) WITH (fillfactor = 1)');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item (ctid)');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item ((ctid::text))');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item (owner) WHERE tableoid = 1');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item (owner) INCLUDE (id DESC)');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item (owner) INCLUDE (id int4_ops)');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item (owner) INCLUDE (kind COLLATE "C")');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item (owner) INCLUDE (kind NULLS FIRST)');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item (owner int4_ops (x = 1))');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item USING brin (owner int4_minmax_multi_ops (values_per_range = 1))');
SELECT used FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item USING brin (owner int4_minmax_multi_ops (values_per_range = 16))');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item (owner) TABLESPACE nowhere');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item (owner) TABLESPACE pg_global');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON ONLY log (who)');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX CONCURRENTLY ON log (who)');
SELECT used FROM scalecache.what_if('SELECT 1', 'CREATE INDEX CONCURRENTLY ON item (owner)');
SELECT * FROM scalecache.what_if('SELECT 1', 'DROP INDEX nowhere');
SELECT * FROM scalecache.what_if('SELECT 1', 'DROP INDEX item');
SELECT * FROM scalecache.what_if('SELECT 1', 'DROP TABLE item');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON pg_class (relpages)');
SELECT * FROM scalecache.what_if('SELECT 1', 'DROP INDEX pg_class_oid_index');
SELECT * FROM scalecache.what_if('SELECT 1', 'CREATE INDEX ON item ((ROW(owner, kind)))');
SELECT scalecache.what_if_size('CREATE INDEX ON item (owner) WITH (fillfactor = ''0x32'')') =
	scalecache.what_if_size('CREATE INDEX ON item (owner) WITH (fillfactor = 49.6)') AS as_50;

-- Planning calls functions, which change nothing.
CREATE SEQUENCE whatif_seq;
CREATE FUNCTION whatif_liar() RETURNS int LANGUAGE sql STABLE AS 'SELECT nextval(''whatif_seq'')::int + 3';
SELECT * FROM scalecache.what_if('SELECT * FROM item WHERE owner > whatif_liar()');
SELECT is_called FROM whatif_seq;

-- What they execute is planned with what there is, and is not the statement.
CREATE FUNCTION whatif_owned(int) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS
$$ BEGIN RETURN (SELECT count(*) FROM item WHERE owner = $1); END $$;
SELECT used FROM scalecache.what_if('SELECT * FROM item WHERE id = whatif_owned(3)', 'CREATE INDEX ON item (owner)');
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT * FROM item WHERE price = whatif_owned(3)']);
SELECT whatif_owned(3);

-- With the caller's rights
CREATE ROLE whatif_nobody;
GRANT USAGE ON SCHEMA whatif TO whatif_nobody;
SET ROLE whatif_nobody;
SELECT * FROM scalecache.what_if('SELECT * FROM whatif.item', 'CREATE INDEX ON whatif.item (owner)');
SELECT scalecache.what_if_size('CREATE INDEX ON whatif.item (owner)');
RESET ROLE;
-- nor by a subquery, nor of columns and rows that he may not see
CREATE TABLE secret (id int, own text, code text);
INSERT INTO secret SELECT i, 'whatif_nobody', 'code ' || i FROM generate_series(1, 2000) i;
ANALYZE secret;
GRANT SELECT (id, own) ON secret TO whatif_nobody;
SET ROLE whatif_nobody;
SELECT * FROM scalecache.what_if('SELECT (SELECT max(code) FROM whatif.secret)');
SELECT * FROM scalecache.what_if('WITH x AS MATERIALIZED (SELECT code FROM whatif.secret) SELECT FROM x');
SELECT scalecache.what_if_size('CREATE INDEX ON whatif.secret (id)') > 0 AS sized;
SELECT scalecache.what_if_size('CREATE INDEX ON whatif.secret (id, code)');
SELECT scalecache.what_if_size('CREATE INDEX ON whatif.secret ((code::int))');
SELECT scalecache.what_if_size('CREATE INDEX ON whatif.secret (id) WHERE code = ''code 7''');
SELECT scalecache.what_if_size('CREATE INDEX ON whatif.secret ((secret IS NULL))');
SELECT scalecache.what_if_size('CREATE INDEX ON whatif.secret ((id + 1)) WHERE own IS NULL') > 0 AS sized;
RESET ROLE;
GRANT SELECT ON secret TO whatif_nobody;
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
SET ROLE whatif_nobody;
SELECT scalecache.what_if_size('CREATE INDEX ON whatif.secret (code)') > 0 AS sized;
SELECT scalecache.what_if_size('CREATE INDEX ON whatif.secret ((code::int))');
SELECT scalecache.what_if_size('CREATE INDEX ON whatif.secret (id) WHERE code = ''code 7''');
RESET ROLE;
-- Functions are run by the table's owner for whoever could build the index,
-- and otherwise by the caller.
CREATE FUNCTION runner(int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
$$ BEGIN RAISE EXCEPTION 'run by %', current_user; END $$;
ALTER TABLE secret DISABLE ROW LEVEL SECURITY;
SET ROLE whatif_nobody;
SELECT scalecache.what_if_size('CREATE INDEX ON whatif.secret (whatif.runner(id))');
RESET ROLE;
CREATE ROLE whatif_owner;
ALTER TABLE secret OWNER TO whatif_owner;
GRANT USAGE ON SCHEMA whatif TO whatif_owner;
SELECT scalecache.what_if_size('CREATE INDEX ON secret (runner(id))');
SELECT scalecache.what_if_size('CREATE INDEX ON secret (id) WHERE runner(id) IS NULL');
SET client_min_messages = warning;
DROP SCHEMA whatif CASCADE;
DROP ROLE whatif_nobody;
DROP ROLE whatif_owner;
DROP EXTENSION scalecache;
