-- Indexes of few rows rather than of all, what comes first, and what the reasons say of it.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
CREATE SCHEMA few;
SET search_path = few, public;
SET max_parallel_workers_per_gather = 0;

CREATE FUNCTION advise(VARIADIC queries text[]) RETURNS TABLE (ddl text, "for" text) LANGUAGE sql AS $$
	SELECT ddl, regexp_replace(reason, ';.*', '') FROM scalecache.suggest_indexes(queries => queries) ORDER BY rank
$$;

CREATE TABLE reviews AS SELECT i AS id, (i * 7919) % 5000 AS product, i % 33 > 0 AS approved, i % 5 AS rating,
	'2025-01-01'::timestamptz + (i::bigint * 104729 % 500000) * interval '1 minute' AS at, repeat('x', 100) AS body,
	CASE WHEN i % 40 = 0 THEN 'C' || i % 800 END AS coupon, CASE WHEN i % 20 = 0 THEN i::bigint * 7919 % 100000 END AS referrer,
	CASE WHEN i % 3 > 0 THEN i % 700 END AS half
FROM generate_series(1, 50000) i;
CREATE TABLE parted (LIKE reviews) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (25000);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (25000) TO (60000);
INSERT INTO parted SELECT * FROM reviews;
VACUUM ANALYZE reviews, parted;

-- Columns that are mostly NULL, by value, range and join, and with other conditions
SELECT * FROM advise('SELECT * FROM reviews WHERE coupon = $1');
SELECT * FROM advise('SELECT * FROM reviews WHERE coupon IN (''C40'', ''C80'')');
SELECT * FROM advise('SELECT * FROM reviews WHERE referrer > 99000 ORDER BY referrer');
SELECT * FROM advise('SELECT r.body FROM reviews r JOIN (VALUES (1), (2)) v (x) ON r.referrer = v.x');
SELECT * FROM advise('SELECT * FROM parted WHERE coupon = ''C40''');
-- not where half of the rows have a value, or where the NULLs are asked for as well
SELECT * FROM advise('SELECT * FROM reviews WHERE half = 7');
SELECT * FROM advise('SELECT * FROM reviews WHERE coupon = $1', 'SELECT id FROM reviews WHERE coupon IS NULL AND product = 7');

-- A small index of some rows instead of one of all that begins with a boolean
SELECT * FROM advise('SELECT * FROM reviews WHERE NOT approved ORDER BY at LIMIT 20',
	'SELECT * FROM reviews WHERE product = $1 AND approved', 'SELECT avg(rating) FROM reviews WHERE product = $1 AND approved');
-- Few rows of what another index has all of, for a statement that comes once beside many
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT body FROM reviews WHERE at >= $1 AND at < $1 + interval ''1 hour''',
	'SELECT body FROM reviews WHERE product = $1', 'SELECT body FROM reviews WHERE coupon = $1', 'SELECT body FROM reviews WHERE referrer = $1',
	'SELECT body FROM reviews WHERE NOT approved AND at > ''2025-12-10'' ORDER BY at LIMIT 20'], weights => ARRAY[3000, 3000, 3000, 3000, 2]) ORDER BY ddl;
-- A unique index in another order, or of fewer rows, for little of what costs little; but not for much
CREATE TABLE article AS SELECT 1 + i % 40 AS tenant, i AS id, i % 25 > 0 AS active, i % 977 AS price, repeat('y', 120) AS body FROM generate_series(1, 40000) i;
ALTER TABLE article ADD PRIMARY KEY (tenant, id);
VACUUM ANALYZE article;
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT price FROM article WHERE tenant = $1 AND id = $2',
	'SELECT id FROM article WHERE tenant = 7 AND id < 200 AND active', 'SELECT sum(price) FROM article'], weights => ARRAY[100, 1, 400]);
SELECT * FROM advise('SELECT body FROM article WHERE id = 77');
-- Reading most of a table once, beside what is asked all the time
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT body FROM article WHERE price = $1',
	'SELECT active, count(*) FROM article GROUP BY active'], weights => ARRAY[10000, 1]);
-- Some key it must have, of which the reason says nothing
SELECT * FROM advise('SELECT count(*) FROM reviews WHERE NOT approved');
SELECT * FROM advise('SELECT sum(rating) FROM reviews');

DROP SCHEMA few CASCADE;
DROP EXTENSION scalecache;
