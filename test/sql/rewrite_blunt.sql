-- Keys whose equal values can look different: they are no function's arguments.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
SET scalecache.enable_rewrite = on;
SET compute_query_id = off;
CREATE DOMAIN code AS bpchar;
CREATE TABLE parcels (c bpchar, d code, fixed char(4), lasts interval, n int);
INSERT INTO parcels
SELECT CASE WHEN i % 2 = 0 THEN 'a' ELSE 'a  ' END, CASE WHEN i % 2 = 0 THEN 'b' ELSE 'b  ' END, CASE WHEN i % 2 = 0 THEN 'f' ELSE 'f  ' END,
	CASE WHEN i % 3 = 0 THEN interval '1 month' ELSE interval '30 days' END, i
FROM generate_series(1, 20000) i;
VACUUM ANALYZE parcels;

\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /rewrite_helper.sql
\set ECHO none
\i :helper
\set ECHO all

SELECT scalecache.create_rollup('by_all', 'SELECT c, d, fixed, lasts, count(*) FROM parcels GROUP BY 1, 2, 3, 4');
SELECT try('SELECT octet_length(c), count(*) FROM parcels GROUP BY 1');
SELECT try('SELECT octet_length(d), count(*) FROM parcels GROUP BY 1');
SELECT try('SELECT lasts::text, count(*) FROM parcels GROUP BY 1');
SELECT try('SELECT count(*) FROM parcels WHERE octet_length(c) = 1');
SELECT try('SELECT octet_length(fixed), count(*) FROM parcels GROUP BY 1');
SELECT try($$SELECT count(*) FROM parcels WHERE c = 'a' AND d = 'b' AND lasts = '30 days'$$);

DROP EXTENSION scalecache CASCADE;
DROP TABLE parcels;
DROP DOMAIN code;
DROP FUNCTION answer(text, text), try(text), rows_of(text);
