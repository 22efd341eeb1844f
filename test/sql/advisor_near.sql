-- One index where two would be nearly the same.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
CREATE SCHEMA alike;
SET search_path = alike, public;
SET max_parallel_workers_per_gather = 0;
CREATE TABLE near AS SELECT i % 2000 AS a, i * 31 % 997 AS b, i * 37 % 991 AS c, i AS d, repeat('x', 60) AS pad FROM generate_series(1, 60000) i;
VACUUM ANALYZE near;
CREATE FUNCTION advise(VARIADIC queries text[]) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT ddl FROM scalecache.suggest_indexes(queries => queries) ORDER BY rank
$$;

-- Either has the columns of both; or one with the columns of both is nearly as good.
SELECT advise('SELECT sum(c) FROM near WHERE a = 5 AND b > 500', 'SELECT sum(b) FROM near WHERE a = 5 AND c > 500',
	'SELECT sum(b + c) FROM near WHERE a = 7');
SELECT advise('SELECT sum(c) FROM near WHERE a = 5 AND b = 6', 'SELECT sum(b) FROM near WHERE a = 5 AND c = 6');
-- What one of them lacks is compared in an index that has it.
SELECT advise('SELECT pad FROM near WHERE a = 5 AND b = 6', 'SELECT pad FROM near WHERE a = 5 AND c = 6');
-- Two that find other rows are worth it, however much more some other statement costs.
SELECT advise('SELECT pad FROM near WHERE a = 5 AND b > 950', 'SELECT pad FROM near WHERE a = 6 AND c > 950',
	'SELECT sum(b + c) FROM near WHERE a = 7', 'SELECT (SELECT count(*) FROM near y WHERE y.d = x.d) FROM near x WHERE x.d < 6000');
-- Orders need one each.
SELECT advise('SELECT pad FROM near WHERE a = 5 ORDER BY b LIMIT 3', 'SELECT pad FROM near WHERE a = 5 ORDER BY c LIMIT 3');

-- A day that all ask for today is not what they ask for next week; that it never ends is.
CREATE TABLE trip AS SELECT i AS id, i % 500 AS a, '2025-12-01'::date + i % 20 AS day, CASE WHEN i % 50 = 0 THEN 'infinity' ELSE '2025-12-24'::date + i % 9 END AS ends, repeat('x', 60) AS pad
FROM generate_series(1, 40000) i;
VACUUM ANALYZE trip;
SELECT advise('SELECT pad FROM trip WHERE a = 5 AND day >= ''2025-12-11'' AND day <= ''2025-12-12''');
SELECT advise('SELECT count(pad) FROM trip WHERE ends = ''infinity''');

-- A condition that all rows of a partitioned table meet makes no partial index.
CREATE TABLE whole (a int, b int, pad text) PARTITION BY RANGE (a);
CREATE TABLE whole_1 PARTITION OF whole FOR VALUES FROM (0) TO (10000);
CREATE TABLE whole_2 PARTITION OF whole DEFAULT;
INSERT INTO whole SELECT i, i, repeat('x', 60) FROM generate_series(1, 20000) i;
VACUUM ANALYZE whole;
SELECT advise('SELECT max(b) FROM whole');
UPDATE whole SET b = NULL WHERE a % 2 = 0;
VACUUM ANALYZE whole;
SELECT advise('SELECT max(b) FROM whole');

-- Where most of a column is NULL, an index of the others serves whatever is searched by it, a parameter too.
CREATE TABLE sparse AS SELECT i AS id, CASE WHEN i % 50 = 0 THEN 'V' || i % 3000 END AS voucher, CASE WHEN i % 5 > 0 THEN 'T' || i END AS code,
	CASE WHEN i % 80 = 0 THEN 'late' ELSE 'done' END AS state, repeat('x', 60) AS pad,
	jsonb_build_object('maker', 'maker' || i % 900, 'unit', i % 3) || CASE WHEN i % 500 = 0 THEN '{"recall": 1}'::jsonb ELSE '{}' END AS attrs
FROM generate_series(1, 40000) i;
VACUUM ANALYZE sparse;
SELECT advise('SELECT pad FROM sparse WHERE voucher = ''V50''');
SELECT advise('SELECT pad FROM sparse WHERE voucher = $1');
SELECT advise('SELECT pad FROM sparse WHERE code = ''T51''');

-- One operator class for all searches in a column, unless another does much more.
SELECT advise('SELECT pad FROM sparse WHERE attrs @> ''{"maker": "maker7", "unit": 1}''', 'SELECT pad FROM sparse WHERE attrs @> ''{"maker": "maker8", "unit": 2}''',
	'SELECT pad FROM sparse WHERE attrs ? ''recall''');

-- A key of rows that the predicate alone selects is for nothing.
SELECT ddl, regexp_replace(reason, ';.*', '') AS "for" FROM scalecache.suggest_indexes(queries => ARRAY['SELECT count(pad) FROM trip WHERE ends = ''infinity''']);

DROP SCHEMA alike CASCADE;
DROP EXTENSION scalecache;
