-- Values that are too long for an index, or nearly.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
CREATE SCHEMA longs;
SET search_path = longs, public;
SET max_parallel_workers_per_gather = 0;

-- so many characters that cannot be compressed
CREATE FUNCTION noise(seed text, n int) RETURNS text LANGUAGE sql IMMUTABLE AS
	$$ SELECT string_agg(md5(seed || j), '') FROM generate_series(1, n / 32) j $$;
CREATE TABLE docs (id int PRIMARY KEY, n int, url text, body text, doc jsonb, words tsvector);
INSERT INTO docs SELECT i, i % 1000, 'https://example.com/' || noise('u' || i, 320),
	CASE WHEN i % 10 = 0 THEN noise('b' || i, 3200) ELSE 'short ' || i END,
	jsonb_build_object('k', i % 500, 'pad', CASE WHEN i % 100 = 0 THEN noise('d' || i, 32000) END),
	CASE WHEN i % 100 = 0 THEN (SELECT to_tsvector('simple', string_agg(md5(i || ' ' || j), ' ')) FROM generate_series(1, 1000) j)
		ELSE to_tsvector('simple', 'word' || i % 900) END
FROM generate_series(1, 5000) i;
VACUUM ANALYZE docs;

CREATE FUNCTION advise(VARIADIC queries text[]) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT ddl FROM scalecache.suggest_indexes(queries => queries) ORDER BY rank
$$;

-- Of what does not fit there is no btree; by equality it is found by its hash.
SELECT advise('SELECT id FROM docs WHERE body = ''short 7''');
SELECT advise('SELECT id FROM docs WHERE body > ''short 99''');
SELECT advise('SELECT id FROM docs ORDER BY body LIMIT 3');
SELECT advise('SELECT id FROM docs WHERE lower(body) = ''short 7''');
-- Of what fits but is long, too; not of what is short, or compared by order.
SELECT advise('SELECT id FROM docs WHERE url = ''https://example.com/''');
SELECT advise('SELECT id FROM docs WHERE url > ''https://example.com/ff''');
SELECT advise('SELECT id FROM docs WHERE n = 7');
-- Nor is it included, or in a condition's index.
SELECT advise('SELECT sum(length(body)) FROM docs WHERE n = 7');
SELECT advise('SELECT count(body) FROM docs WHERE n BETWEEN 7 AND 9 AND body IS NOT NULL');
-- What only a condition selects needs some key, but a small one that does not change.
CREATE TABLE notes AS SELECT noise(i::text, 320) AS body, i AS seen, i::bigint AS place, i % 100 = 0 AS flagged, i::text AS title FROM generate_series(1, 5000) i;
VACUUM ANALYZE notes;
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT body FROM notes WHERE flagged', 'UPDATE notes SET seen = 1 WHERE place = 5']) WHERE ddl ~ 'WHERE';
-- GIN has keys and not values.
SELECT advise('SELECT id FROM docs WHERE doc @> ''{"k": 7}''');
SELECT advise('SELECT id FROM docs WHERE words @@ ''word7''::tsquery');
-- What is refused by CREATE INDEX is refused, in the same way.
\set VERBOSITY sqlstate
SELECT * FROM scalecache.what_if('SELECT id FROM docs WHERE body = ''short 7''', 'CREATE INDEX ON docs (body)');
CREATE INDEX ON docs (body);
SELECT * FROM scalecache.what_if('SELECT id FROM docs WHERE n = 7', 'CREATE INDEX ON docs (n) INCLUDE (body)');
CREATE INDEX ON docs (n) INCLUDE (body);
\set VERBOSITY default
-- All of it can be built, and is used.
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT id FROM docs WHERE body = ''short 7''',
	'SELECT id FROM docs WHERE url = ''https://example.com/''', 'SELECT id FROM docs WHERE doc @> ''{"k": 7}''']) \gexec
EXPLAIN (COSTS off) SELECT id FROM docs WHERE body = 'short 7';
EXPLAIN (COSTS off) SELECT id FROM docs WHERE url = 'https://example.com/';

DROP SCHEMA longs CASCADE;
DROP EXTENSION scalecache;
