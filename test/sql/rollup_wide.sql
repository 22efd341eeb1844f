-- Keys that a btree cannot hold are kept as any other.
CREATE EXTENSION scalecache;
\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /helper.sql
\set ECHO none
\i :helper
\set ECHO all
ALTER SYSTEM SET scalecache.worker = off;
SELECT pg_reload_conf();
SET client_min_messages = warning;
CREATE FUNCTION nodes(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, FORMAT json, COSTS off, TIMING off) ' || query INTO plan;
	RETURN substring(plan::text FROM '"Answered From": "(\w+)"') || ': ' ||
		(SELECT string_agg(m[1], ' > ') FROM regexp_matches(plan::text, '"Node Type": "([^"]*)"', 'g') m);
END $$;
-- text that does not compress
CREATE FUNCTION noise(seed int, bytes int) RETURNS text LANGUAGE sql IMMUTABLE AS
	$$SELECT left(string_agg(md5(seed || ' ' || g), '' ORDER BY g), bytes) FROM generate_series(1, bytes / 32 + 1) g$$;

CREATE TABLE t (id serial PRIMARY KEY, url text, n int, doc jsonb, num numeric);
INSERT INTO t (url, n) SELECT 'short' || g % 500, g FROM generate_series(1, 1000) g;
INSERT INTO t (url, n) SELECT noise(g % 20, 4000), g FROM generate_series(1, 60) g;
SELECT scalecache.create_rollup('by_url', 'SELECT url, count(*) AS c, sum(n) AS s, max(n) AS hi, count(DISTINCT n) AS d FROM t GROUP BY url');
SELECT exact('by_url');
SELECT count(*) FILTER (WHERE wide IS NULL) AS narrow, count(wide) AS wide FROM scalecache_data.by_url;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SELECT nodes('SELECT * FROM by_url WHERE url = ''short7''');
SELECT exact('by_url'), exact('by_url', 'url = noise(7, 4000)'), exact('by_url', 'url > ''s'''), exact('by_url', 'url < ''s'''), exact('by_url', 'url = ''short7''');
SELECT c, s FROM by_url WHERE url = noise(7, 4000);
-- pending, folded, new, gone
INSERT INTO t (url, n) SELECT noise(g, 4000), g FROM generate_series(15, 25) g;
INSERT INTO t (url, n) VALUES ('short7', 7), ('short1000', 1), (noise(100, 2400), 1), (noise(101, 2700), 1), (noise(102, 9000), 1), (repeat('x', 100000), 1), (NULL, 5);
DELETE FROM t WHERE url = noise(3, 4000);
SELECT exact('by_url'), exact('by_url', 'url = noise(20, 4000)'), exact('by_url', 'url = noise(3, 4000)'), exact('by_url', 'url IS NULL');
SELECT scalecache.fold_rollup('by_url') > 0;
SELECT exact('by_url'), exact('by_url', 'url = noise(20, 4000)'), exact('by_url', 'url = noise(3, 4000)'), exact('by_url', 'url IS NULL');
UPDATE t SET n = n + 1 WHERE url = noise(5, 4000);
UPDATE t SET url = noise(6, 5000) WHERE url = noise(6, 4000);
SELECT exact('by_url'), exact('by_url', 'url = noise(6, 5000)');
SELECT scalecache.fold_rollup('by_url') > 0;
SELECT exact('by_url'), exact('by_url', 'url = noise(6, 5000)');
SELECT count(*), count(c) FROM generate_series(1, 30) g LEFT JOIN LATERAL (SELECT c FROM by_url WHERE url = noise(g, 4000) OFFSET 0) r ON true;
DELETE FROM t WHERE length(url) > 2000;
SELECT exact('by_url');
SELECT scalecache.fold_rollup('by_url') > 0;
SELECT exact('by_url');
SELECT count(wide) AS wide FROM scalecache_data.by_url;
RESET enable_seqscan;
RESET enable_bitmapscan;
SELECT exact('by_url');

-- equal keys, one wide and one narrow; several keys; keys without a hash
SELECT scalecache.create_rollup('by_num', 'SELECT num, count(*) AS c FROM t GROUP BY num');
INSERT INTO t (num) VALUES (1), (('1.' || repeat('0', 15000))::numeric), (2);
SELECT scalecache.fold_rollup('by_num') > 0;
INSERT INTO t (num) VALUES (1), (('1.' || repeat('0', 15000))::numeric), (('2.' || repeat('0', 15000))::numeric);
SELECT trim_scale(num) AS num, c FROM by_num ORDER BY 1;
SELECT scalecache.fold_rollup('by_num') > 0;
INSERT INTO t (num) VALUES (2.0), (1.0);
SELECT trim_scale(num) AS num, c FROM by_num ORDER BY 1;
SELECT scalecache.fold_rollup('by_num') > 0;
SELECT trim_scale(num) AS num, c FROM by_num ORDER BY 1;
SELECT count(*) FROM scalecache_data.by_num;
SELECT scalecache.create_rollup('by_both', 'SELECT url, doc, n % 2 AS odd, count(*) AS c, string_agg(id::text, '','' ORDER BY id) AS ids FROM t GROUP BY 1, 2, 3');
INSERT INTO t (url, doc, n) SELECT noise(g % 3, 1500), jsonb_build_object('text', noise(g % 2, 1500)), g FROM generate_series(1, 60) g;
SELECT exact('by_both');
SELECT scalecache.fold_rollup('by_both') > 0;
SELECT exact('by_both'), exact('by_both', 'odd = 1');
CREATE TABLE v (x tsvector, b bit varying, m money);
INSERT INTO v SELECT to_tsvector('simple', string_agg(md5(h || ' ' || g), ' ')), repeat(h::bit(3)::text, 20000)::varbit, h FROM generate_series(1, 4) h, generate_series(1, 300) g GROUP BY h;
SELECT scalecache.create_rollup('by_x', 'SELECT x, count(*) AS c, sum(m) AS m FROM v GROUP BY x');
SELECT scalecache.create_rollup('by_b', 'SELECT b, count(*) AS c, sum(m) AS m FROM v GROUP BY b');
INSERT INTO v SELECT * FROM v WHERE m < 3::money;
SELECT scalecache.fold_rollup('by_x') > 0, scalecache.fold_rollup('by_b') > 0;
INSERT INTO v SELECT * FROM v WHERE m < 2::money;
SELECT exact('by_x'), exact('by_b');
SELECT scalecache.fold_rollup('by_x') > 0, scalecache.fold_rollup('by_b') > 0;
SELECT exact('by_x'), exact('by_b');
-- values, too, as wide as they like
SELECT scalecache.create_rollup('longest', 'SELECT id % 2 AS k, max(url) AS hi, min(url) AS lo, count(DISTINCT url) AS d FROM t GROUP BY 1');
INSERT INTO t (url) SELECT noise(g, 20000) FROM generate_series(1, 80) g;
SELECT exact('longest');
SELECT scalecache.fold_rollup('longest') > 0;
DELETE FROM t WHERE id % 3 = 0;
SELECT exact('longest');
SELECT scalecache.fold_rollup('longest') > 0;
SELECT exact('longest'), exact('by_url'), exact('by_both');
DROP EXTENSION scalecache;
DROP TABLE t, v;
DROP FUNCTION same, answered_from, checked, exact, answered, error_of, nodes, noise;
