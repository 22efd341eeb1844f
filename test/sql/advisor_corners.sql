-- Operators, columns and values that are easily forgotten.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
CREATE SCHEMA corners;
SET search_path = corners, public;
SET max_parallel_workers_per_gather = 0;
CREATE FUNCTION advise(VARIADIC queries text[]) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT ddl FROM scalecache.suggest_indexes(queries => queries) ORDER BY rank
$$;
CREATE FUNCTION reasons(query text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT regexp_replace(reason, '; cost.*', '') FROM scalecache.suggest_indexes(queries => ARRAY[query]) ORDER BY rank
$$;
CREATE TABLE thing AS SELECT i AS id, 'F' || i AS code, ('10.' || i % 200 || '.' || i / 200 % 250 || '.1')::inet AS ip, CASE WHEN i % 100 = 0 THEN 'new' ELSE 'old' END AS kind, repeat('x', 300) AS pad FROM generate_series(1, 40000) i;
VACUUM ANALYZE thing;

-- A network's addresses are a range to a btree, and starts_with() is a pattern.
SELECT advise('SELECT sum(id) FROM thing WHERE ip <<= ''10.5.0.0/16''', 'SELECT pad FROM thing WHERE ip = ''10.5.7.1''');
SELECT advise('SELECT pad FROM thing WHERE starts_with(code, ''F1234'')');
SELECT advise('SELECT pad FROM thing WHERE code ^@ ''F1234''', 'SELECT pad FROM thing WHERE code = ''F1234''');

-- Some key that no statement asks for is no order or range in the reason.
SELECT reasons('SELECT pad FROM thing WHERE kind <> ''old''');
SELECT reasons('SELECT count(*) FROM thing WHERE kind = lower(code)');

-- Where a few values are too long for a btree, their hashes will do.
CREATE TABLE page AS SELECT i AS id, CASE WHEN i % 100 = 0 THEN (SELECT string_agg(md5((i * 1000 + j)::text), '') FROM generate_series(1, 200) j) ELSE md5(i::text) END AS body FROM generate_series(1, 10000) i;
VACUUM ANALYZE page;
SELECT advise('SELECT id FROM page WHERE body = ''abc''');

-- So where they are too long by no more than the headers of an entry.
CREATE TABLE leaf AS SELECT id, left(body, 2700) AS body FROM page;
VACUUM ANALYZE leaf;
SELECT advise('SELECT id FROM leaf WHERE body = ''abc''');

-- A generated column changes with those that it is computed from.
CREATE TABLE computed (id int PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED, other int, pad text);
INSERT INTO computed (id, a, other, pad) SELECT i, i % 3000, i % 3000, repeat('x', 60) FROM generate_series(1, 40000) i;
VACUUM ANALYZE computed;
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT pad FROM computed WHERE twice = 6', 'SELECT pad FROM computed WHERE other = 6', 'UPDATE computed SET a = a + 1 WHERE id = 7'], weights => ARRAY[10, 10, 1000]);

-- One may be computed from the table's oid.
CREATE TABLE whose (id int PRIMARY KEY, a int, tag bigint GENERATED ALWAYS AS (tableoid::bigint + a) STORED, pad text);
INSERT INTO whose (id, a, pad) SELECT i, i % 3000, repeat('x', 60) FROM generate_series(1, 40000) i;
VACUUM ANALYZE whose;
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT pad FROM whose WHERE a = 6', 'UPDATE whose SET pad = ''y'' WHERE id = 7']);

-- Always the same of few values: an index of these rows, and none that begins with it.
CREATE TABLE review AS SELECT i AS id, i % 50 <> 0 AS approved, CASE WHEN i % 100 = 7 THEN 'open' ELSE 'done' END AS state, i * 7919 % 40000 AS at, repeat('x', 60) AS pad FROM generate_series(1, 40000) i;
VACUUM ANALYZE review;
SELECT advise('SELECT pad FROM review WHERE NOT approved ORDER BY at LIMIT 10');
SELECT advise('SELECT pad FROM review WHERE state = ''open'' ORDER BY at LIMIT 5');
SELECT advise('SELECT pad FROM review WHERE state = $1 ORDER BY at LIMIT 10');

DROP SCHEMA corners CASCADE;
DROP EXTENSION scalecache;
