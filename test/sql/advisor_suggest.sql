-- Which indexes are suggested, and which are not.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
CREATE EXTENSION pg_trgm;
CREATE SCHEMA shop;
SET search_path = shop, public;
SET max_parallel_workers_per_gather = 0;

CREATE TABLE users (id int PRIMARY KEY, email text NOT NULL, name text, last_seen timestamptz, active boolean);
CREATE TABLE orders (
	id int PRIMARY KEY, user_id int NOT NULL REFERENCES users, status text NOT NULL,
	total numeric(10,2), created_at timestamptz NOT NULL, deleted_at timestamptz,
	shop_id int, note text, tags text[], doc jsonb, words tsvector);
CREATE TABLE tiny (id int, name text);
INSERT INTO users SELECT i, 'User' || i || '@example.com', 'name ' || md5(i::text),
	'2026-01-01 00:00+00'::timestamptz + i * interval '1 minute', i % 20 > 0 FROM generate_series(1, 5000) i;
INSERT INTO orders SELECT i, 1 + i * 7919 % 5000, CASE WHEN i % 100 = 0 THEN 'new' WHEN i % 10 = 0 THEN 'paid' ELSE 'done' END,
	i % 1000, '2026-01-01 00:00+00'::timestamptz + i * interval '1 minute', CASE WHEN i % 50 = 0 THEN '2026-02-01 00:00+00'::timestamptz END,
	i % 300, md5(i::text), ARRAY['t' || i % 50, 'u' || i % 333], jsonb_build_object('k', i % 500, 'name', 'n' || i % 1000),
	to_tsvector('simple', md5((i % 900)::text))
FROM generate_series(1, 20000) i;
INSERT INTO tiny SELECT i, 'name ' || i FROM generate_series(1, 50) i;
VACUUM ANALYZE users;
VACUUM ANALYZE orders;
VACUUM ANALYZE tiny;

CREATE FUNCTION advise(VARIADIC queries text[]) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT ddl FROM scalecache.suggest_indexes(queries => queries) ORDER BY rank
$$;

-- Equality; then a range; then an order; together
SELECT advise('SELECT * FROM orders WHERE user_id = 5');
SELECT advise('SELECT * FROM orders WHERE shop_id = 5 AND created_at > ''2026-01-14 00:00+00''');
SELECT advise('SELECT * FROM orders ORDER BY created_at DESC LIMIT 10');
SELECT advise('SELECT * FROM orders WHERE shop_id = 7 ORDER BY total DESC, created_at LIMIT 5');
SELECT advise('SELECT * FROM orders WHERE shop_id = 7 ORDER BY created_at DESC LIMIT 5',
	'SELECT * FROM orders WHERE shop_id = $1');
-- From the middle of a set of values, and either side of OR
SELECT advise('SELECT * FROM orders WHERE user_id IN (5, 6, 7)');
SELECT advise('SELECT * FROM orders WHERE user_id = 5 OR shop_id = 299');
-- Answered by the index alone
SELECT advise('SELECT sum(total) FROM orders WHERE shop_id = 7');
SELECT advise('SELECT max(total) FROM orders');
-- Partial: rare rows that are always asked for
SELECT advise('SELECT * FROM orders WHERE status = ''new'' AND deleted_at IS NULL ORDER BY created_at LIMIT 10');
SELECT advise('SELECT id FROM orders WHERE deleted_at IS NOT NULL');
SELECT advise('SELECT * FROM users WHERE NOT active');
SELECT advise('SELECT * FROM orders WHERE deleted_at IS NULL AND user_id = 5');
-- with an order, which does not follow IS NULL in an index; live rows although they are most
SELECT advise('SELECT * FROM orders WHERE shop_id = 9 AND deleted_at IS NULL ORDER BY total LIMIT 10');
SELECT advise('SELECT id FROM users WHERE active ORDER BY last_seen DESC LIMIT 5');
-- all ways to ask what a boolean is, and none of some values
CREATE TABLE flagged AS SELECT i AS id, i % 1000 AS k, CASE i % 100 WHEN 7 THEN NULL ELSE i % 100 <> 8 END AS done,
	CASE i % 50 WHEN 0 THEN 'open' WHEN 1 THEN 'spam' ELSE 'closed' END AS state, repeat('x', 100) AS body FROM generate_series(1, 20000) i;
VACUUM ANALYZE flagged;
SELECT advise('SELECT id FROM flagged WHERE done IS NOT TRUE ORDER BY id LIMIT 5');
SELECT advise('SELECT id, k FROM flagged WHERE done IS NOT TRUE AND k < 500');
SELECT advise('SELECT sum(k) FROM flagged WHERE done IS FALSE');
SELECT advise('SELECT body FROM flagged WHERE done IS UNKNOWN');
SELECT advise('SELECT body FROM flagged WHERE state NOT IN (''closed'', ''spam'') AND k = 5');
-- an order by what changes all the time is done without
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT body FROM flagged WHERE NOT done ORDER BY k LIMIT 5',
	'UPDATE flagged SET k = k + 1 WHERE id = 5'], weights => ARRAY[100, 5000]);
DROP TABLE flagged;
-- behind IS NULL an order is not one
CREATE TABLE binned AS SELECT i AS id, i % 20 AS a, i / 20 % 25 AS b, i * 7919 % 40000 AS c, CASE WHEN i % 200 = 0 THEN i END AS gone,
	repeat('x', 50) AS body FROM generate_series(1, 40000) i;
VACUUM ANALYZE binned;
SELECT replace(advise('SELECT body FROM binned WHERE a = 5 AND b = 7 AND gone IS NULL ORDER BY c LIMIT 5'), 'b, a', 'a, b') AS advise;
DROP TABLE binned;
-- a status, but not a number that says whose; nor one of several statuses asked for by the same statement
CREATE TABLE tasks AS SELECT i AS id, i % 40 AS team, (ARRAY['open', 'held', 'late', 'done'])[1 + least(3, i % 20)] AS state,
	i * 7919 % 20000 AS due FROM generate_series(1, 20000) i;
VACUUM ANALYZE tasks;
SELECT advise('SELECT id FROM tasks WHERE team = 7 ORDER BY due LIMIT 5');
SELECT advise('SELECT id FROM tasks WHERE state = ''open'' ORDER BY due LIMIT 5');
SELECT advise('SELECT id FROM tasks WHERE state = ''open'' ORDER BY due LIMIT 5',
	'SELECT id FROM tasks WHERE state = ''held'' ORDER BY due LIMIT 5');
-- both ends of a range, of few values but not of many
CREATE TABLE reviews AS SELECT i AS id, i * 7919 % 20 AS stars, i * 7907 % 20000 AS price, md5(i::text) AS body FROM generate_series(1, 20000) i;
VACUUM ANALYZE reviews;
SELECT advise('SELECT id FROM reviews WHERE stars BETWEEN 4 AND 15 AND price BETWEEN 5000 AND 15000');
-- Expressions
SELECT advise('SELECT * FROM users WHERE lower(email) = ''user5@example.com''');
SELECT advise('SELECT * FROM orders WHERE doc->>''name'' = ''n77''');
SELECT advise('SELECT * FROM orders WHERE (doc->>''k'')::int BETWEEN 3 AND 4');
-- not one that would only tell the planner how many days there are
SELECT advise('SELECT date_trunc(''day'', created_at AT TIME ZONE ''UTC'') AS day, sum(total) FROM orders
	WHERE created_at >= ''2026-01-04 00:00+00'' AND created_at < ''2026-01-06 00:00+00'' GROUP BY 1 ORDER BY 1');
-- Patterns
SELECT advise('SELECT * FROM orders WHERE note LIKE ''abc%''');
SELECT advise('SELECT * FROM users WHERE name ILIKE ''%ab12%''');
-- of the collation that compares, where the column's could not do so
CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE coded AS SELECT i AS id, ('Ab' || i) COLLATE blind AS code FROM generate_series(1, 20000) i;
VACUUM ANALYZE coded;
SELECT advise('SELECT * FROM coded WHERE code COLLATE "C" LIKE ''Ab777%''');
SELECT advise('SELECT * FROM coded WHERE code COLLATE "C" LIKE ''%b777%''');
DROP TABLE coded;
-- The query of COPY
SELECT advise('COPY (SELECT * FROM orders WHERE user_id = 5) TO STDOUT');
-- Containment and search, by the operator class that serves the operator
SELECT advise('SELECT * FROM orders WHERE tags @> ARRAY[''t7'', ''u5'']');
SELECT advise('SELECT * FROM orders WHERE doc @> ''{"k": 7}''');
SELECT advise('SELECT * FROM orders WHERE doc ? ''zz''');
SELECT advise('SELECT * FROM orders WHERE words @@ ''abc''::tsquery');
-- Joins, subqueries, views; UPDATE and DELETE; foreign keys
SELECT advise('SELECT u.name, o.total FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = 5');
SELECT advise('SELECT * FROM users u WHERE u.id < 20 AND EXISTS (SELECT FROM orders o WHERE o.user_id = u.id AND o.total > 900)');
CREATE VIEW open_orders AS SELECT * FROM orders WHERE status <> 'done';
SELECT advise('SELECT * FROM open_orders WHERE shop_id = 7');
SELECT advise('UPDATE orders SET total = 0 WHERE user_id = 5');
SELECT advise('DELETE FROM orders WHERE user_id = 5');
SELECT ddl, reason FROM scalecache.suggest_indexes(queries => ARRAY['DELETE FROM users WHERE id = 5']);
-- by the operator that the key has
CREATE EXTENSION citext;
CREATE TABLE topic (name citext PRIMARY KEY);
CREATE TABLE post AS SELECT i AS id, ('Topic ' || i % 1000)::citext AS topic FROM generate_series(1, 10000) i;
INSERT INTO topic SELECT DISTINCT topic FROM post;
ALTER TABLE post ADD FOREIGN KEY (topic) REFERENCES topic;
VACUUM ANALYZE topic, post;
SELECT ddl, reason FROM scalecache.suggest_indexes(queries => ARRAY['DELETE FROM topic WHERE name = ''topic 5''']);
DROP TABLE topic, post;
DROP EXTENSION citext;
-- Shared: one index for several statements
SELECT ddl, query_ids FROM scalecache.suggest_indexes(queries => ARRAY[
	'SELECT * FROM orders WHERE shop_id = 5',
	'SELECT * FROM orders WHERE shop_id = 6 AND total = 9',
	'SELECT * FROM orders WHERE total = 8 AND shop_id = 5 AND note > ''b''']);

-- Not suggested: what is there, tiny tables, what nothing can help
SELECT advise('SELECT * FROM orders WHERE id = 5');
SELECT advise('SELECT * FROM tiny WHERE id = 5');
SELECT advise('SELECT * FROM orders WHERE total + id > 5');
SELECT advise('SELECT * FROM orders WHERE random() < 0.5');
SELECT advise('SELECT * FROM orders WHERE status = ''done''');
CREATE INDEX orders_user ON orders (user_id, created_at);
SELECT advise('SELECT * FROM orders WHERE user_id = 5');
DROP INDEX orders_user;
-- nor what costs the writes more than it gives
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY[
	'SELECT * FROM users WHERE last_seen > ''2026-01-04 11:00+00''',
	'UPDATE users SET last_seen = now() WHERE id = 5'], weights => ARRAY[1, 1000]);
SELECT ddl, write_cost > 0 AS costs FROM scalecache.suggest_indexes(queries => ARRAY[
	'SELECT * FROM users WHERE last_seen > ''2026-01-04 11:00+00''',
	'UPDATE users SET last_seen = now() WHERE id = 5'], weights => ARRAY[1000, 1]);

-- Tables that inherit have indexes of their own; and so has an arm of a UNION ALL.
CREATE TABLE visit (id int, who int, note text);
CREATE TABLE visit_old () INHERITS (visit);
CREATE TABLE visit_new (extra int) INHERITS (visit);
INSERT INTO visit_old SELECT i, i % 5000, md5(i::text) FROM generate_series(1, 20000) i;
INSERT INTO visit_new SELECT i, i % 5000, md5(i::text), i FROM generate_series(1, 20000) i;
VACUUM ANALYZE visit, visit_old, visit_new;
SELECT advise('SELECT * FROM visit WHERE who = 7') AS ddl ORDER BY 1;
SELECT advise('SELECT * FROM visit ORDER BY who LIMIT 3') AS ddl ORDER BY 1;
SELECT advise('SELECT * FROM users u JOIN visit v ON v.who = u.id WHERE u.id = 5') AS ddl ORDER BY 1;
SELECT advise('UPDATE visit SET note = ''x'' WHERE who = 7') AS ddl ORDER BY 1;
SELECT advise('SELECT note FROM visit_new WHERE who = 7 UNION ALL SELECT note FROM orders WHERE shop_id = 7 AND total < 9') AS ddl ORDER BY 1;
DROP TABLE visit CASCADE;
-- What is near: not by the distance from one place
CREATE TABLE place AS SELECT i AS id, point(i * 7919 % 1000, i * 7907 % 1000) AS at, md5(i::text) AS name FROM generate_series(1, 20000) i;
VACUUM ANALYZE place;
SELECT advise('SELECT id FROM place ORDER BY at <-> point ''(5,5)'' LIMIT 3');
SELECT advise('SELECT id FROM place WHERE at <-> point ''(5,5)'' < 3');
SELECT advise('SELECT id FROM place ORDER BY name <-> ''abc'' LIMIT 3');
DROP TABLE place;

-- Functions of strangers are not built into indexes
CREATE ROLE shop_stranger;
CREATE FUNCTION strange(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper($1)';
CREATE FUNCTION stranger(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN upper($1); END';
SELECT advise('SELECT * FROM users WHERE stranger(email) = ''USER5@EXAMPLE.COM''');
ALTER FUNCTION stranger(text) OWNER TO shop_stranger;
SELECT advise('SELECT * FROM users WHERE stranger(email) = ''USER5@EXAMPLE.COM''');

-- The same again, and within a budget
SELECT bool_and(a = b) AS same FROM
	(SELECT array_agg(s::text) FROM scalecache.suggest_indexes(queries => ARRAY['SELECT * FROM orders WHERE user_id = 5', 'SELECT sum(total) FROM orders WHERE shop_id = 7']) s) x(a),
	(SELECT array_agg(s::text) FROM scalecache.suggest_indexes(queries => ARRAY['SELECT * FROM orders WHERE user_id = 5', 'SELECT sum(total) FROM orders WHERE shop_id = 7']) s) y(b);
SELECT ddl, size_bytes <= 300000 AS fits FROM scalecache.suggest_indexes(300000, ARRAY['SELECT * FROM orders WHERE user_id = 5', 'SELECT sum(total) FROM orders WHERE shop_id = 7'], ARRAY[1, 5]);
-- One index for several statements, where there is space for two of their own.
CREATE TABLE wide AS SELECT i * 7919 % 400 AS k, i * 31 % 9973 AS a, i * 37 % 9967 AS b, i * 41 % 9949 AS c, i * 43 % 9941 AS d,
	repeat(md5(i::text), 5) AS body FROM generate_series(1, 40000) i;
VACUUM ANALYZE wide;
SELECT regexp_replace(ddl, '[(]k, .[)] INCLUDE [(]., ., .[)]', '(k, x) INCLUDE (y, z, u)') AS ddl FROM scalecache.suggest_indexes(1900000, ARRAY[
	'SELECT sum(a) FROM wide WHERE k = 5 AND a > 9000', 'SELECT sum(b) FROM wide WHERE k = 6 AND b > 9000',
	'SELECT sum(c) FROM wide WHERE k = 7 AND c > 9000', 'SELECT sum(d) FROM wide WHERE k = 8 AND d > 9000',
	'SELECT sum(a) FROM wide WHERE k = 5 AND a > 9001', 'SELECT sum(b) FROM wide WHERE k = 6 AND b > 9001',
	'SELECT sum(c) FROM wide WHERE k = 7 AND c > 9001', 'SELECT sum(d) FROM wide WHERE k = 8 AND d > 9001',
	'SELECT sum(a + b + c + d) FROM wide WHERE k = 9']);
DROP TABLE wide;
-- One for which the members that it could stand in for must first make room
CREATE TABLE fx AS SELECT i AS id, i * 7919 % 400 AS k, i * 31 % 9973 AS a, i * 37 % 9967 AS b, i * 41 % 9949 AS c, repeat(md5(i::text), 3) AS body
	FROM generate_series(1, 30000) i;
CREATE TABLE fy AS SELECT * FROM fx;
CREATE TABLE fz AS SELECT * FROM fx;
CREATE TABLE dim AS SELECT i AS k, i % 20 AS p, i % 7 AS q, md5(i::text) AS name FROM generate_series(1, 400) i;
VACUUM ANALYZE fx, fy, fz, dim;
SELECT min(cost_after) < 5400 AS cheap FROM scalecache.suggest_indexes(2200000, ARRAY[
	'SELECT sum(f.a + f.c) FROM fz f JOIN dim g ON g.k = f.k WHERE f.b = 9900 AND g.p = 4',
	'SELECT sum(h.b + h.c + g.a) FROM fy f JOIN fx g ON g.a = f.id JOIN fz h ON h.a = g.a WHERE f.a > 300',
	'SELECT sum(g.c) FROM fy f JOIN fx g ON g.id = f.k WHERE f.a = 300',
	'SELECT sum(f.c + g.b + f.a) FROM fz f JOIN fx g ON g.a = f.id JOIN dim d ON d.k = f.k WHERE f.k > 9900 AND d.p = 10'], ARRAY[2, 1, 5, 1]);
DROP TABLE fx, fy, fz, dim;
-- What is written keeps some room on its pages, and so does what has no limit.
SELECT ddl FROM scalecache.suggest_indexes(300000, ARRAY['SELECT sum(total) FROM orders WHERE shop_id = 7', 'UPDATE orders SET note = note WHERE id = 5']);
SELECT ddl FROM scalecache.suggest_indexes(NULL, ARRAY['SELECT sum(total) FROM orders WHERE shop_id = 7']);
-- An OR of states gets no partial index for each of them.
SELECT ddl FROM scalecache.suggest_indexes(NULL, ARRAY['SELECT * FROM orders WHERE (status = ''new'' AND total > 900) OR (status = ''paid'' AND total > 950)']);
SELECT * FROM scalecache.suggest_indexes(0, ARRAY['SELECT * FROM orders WHERE user_id = 5']);
SELECT rank, cost_before > cost_after AS better, write_cost, query_ids, relation, reason
FROM scalecache.suggest_indexes(queries => ARRAY['SELECT * FROM orders WHERE user_id = 5 ORDER BY created_at DESC LIMIT 3', 'SELECT * FROM users WHERE lower(email) = $1']);

-- The advice holds: what is built is used, and costs what was said
CREATE FUNCTION holds(VARIADIC queries text[]) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	r record;
	plan json;
	said float8;
	found float8 := 0;
BEGIN
	FOR r IN SELECT ddl, cost_after FROM scalecache.suggest_indexes(queries => queries) LOOP
		EXECUTE r.ddl;
		said := r.cost_after;
	END LOOP;
	ANALYZE users, orders;
	FOR i IN 1 .. cardinality(queries) LOOP
		EXECUTE 'EXPLAIN (FORMAT JSON) ' || queries[i] INTO plan;
		found := found + (plan->0->'Plan'->>'Total Cost')::float8;
	END LOOP;
	RAISE EXCEPTION USING errcode = 'ZZ001', message = (abs(found / said - 1) < 0.02)::text;
EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
	RETURN sqlerrm;
END $$;
SELECT holds('SELECT * FROM orders WHERE user_id = 5 ORDER BY created_at DESC LIMIT 3',
	'SELECT * FROM users WHERE lower(email) = ''user5@example.com''',
	'SELECT sum(total) FROM orders WHERE shop_id = 7',
	'SELECT * FROM orders WHERE tags @> ARRAY[''t7'', ''u5'']',
	'SELECT * FROM orders WHERE status = ''new'' AND deleted_at IS NULL ORDER BY created_at LIMIT 10');
-- also where the planner has statistics of an expression only if the index has all rows
SELECT advise('SELECT * FROM orders WHERE lower(note) = ''abc'' AND deleted_at IS NULL');
SELECT holds('SELECT * FROM orders WHERE lower(note) = ''abc'' AND deleted_at IS NULL');

-- Partitioned tables: DDL that works
CREATE TABLE log (id int, at date NOT NULL, who int) PARTITION BY RANGE (at);
CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
INSERT INTO log SELECT i, '2026-01-01'::date + i % 59, i % 5000 FROM generate_series(1, 40000) i;
VACUUM ANALYZE log;
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT * FROM log WHERE who = 7']) \gexec
EXPLAIN (COSTS off) SELECT * FROM log WHERE who = 7;

-- Bad input
SELECT * FROM scalecache.suggest_indexes(queries => ARRAY['SELECT * FROM nowhere']);
SELECT * FROM scalecache.suggest_indexes(queries => ARRAY['VACUUM orders']);
SELECT * FROM scalecache.suggest_indexes(queries => ARRAY['SELECT 1', NULL]);
SELECT * FROM scalecache.suggest_indexes(queries => ARRAY['SELECT 1', 'SELECT 2'], weights => ARRAY[1]);
SELECT * FROM scalecache.suggest_indexes(queries => ARRAY['SELECT 1'], weights => ARRAY[-1]);
SELECT * FROM scalecache.suggest_indexes(queries => ARRAY['SELECT 1'], weights => ARRAY['NaN'::float8]);
SELECT * FROM scalecache.suggest_indexes(weights => ARRAY[1]);
SELECT * FROM scalecache.suggest_indexes(-1);
SELECT * FROM scalecache.suggest_indexes(queries => '{}');
SELECT * FROM scalecache.suggest_indexes(queries => ARRAY['SELECT 1']);
CREATE TEMP TABLE mine AS SELECT i AS a, repeat('x', 100) AS b FROM generate_series(1, 5000) i;
ANALYZE mine;
SELECT advise('SELECT * FROM mine WHERE a = 5');
RESET client_min_messages;
CREATE TABLE fresh AS SELECT i AS a, repeat('x', 100) AS b FROM generate_series(1, 5000) i;
SELECT advise('SELECT * FROM fresh WHERE a = 5');
SET client_min_messages = warning;
SET ROLE shop_stranger;
SELECT * FROM scalecache.suggest_indexes(queries => ARRAY['SELECT * FROM shop.orders WHERE user_id = 5']);
RESET ROLE;
-- nor by a subquery, or where he may not do what the statement does
GRANT USAGE ON SCHEMA shop TO shop_stranger;
GRANT SELECT (id, email) ON users TO shop_stranger;
GRANT SELECT ON orders TO shop_stranger;
SET ROLE shop_stranger;
SELECT * FROM scalecache.suggest_indexes(queries => ARRAY['SELECT (SELECT max(name) FROM shop.users WHERE email = ''a'')']);
SELECT * FROM scalecache.suggest_indexes(queries => ARRAY['WITH x AS MATERIALIZED (SELECT name FROM shop.users) SELECT * FROM x']);
SELECT * FROM scalecache.suggest_indexes(queries => ARRAY['DELETE FROM shop.orders WHERE user_id = 5']);
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT id FROM shop.users WHERE lower(email) = ''a''']);
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT * FROM shop.orders WHERE abs(user_id) = 5']);
RESET ROLE;
-- no expression over rows that row-level security hides
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON orders USING (true);
SET ROLE shop_stranger;
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT * FROM shop.orders WHERE abs(user_id) = 5']);
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT * FROM shop.orders WHERE status = ''new'' AND deleted_at IS NULL']);
RESET ROLE;
DROP POLICY mine ON orders;
ALTER TABLE orders DISABLE ROW LEVEL SECURITY;
-- Functions of a table's owner are run by him alone.
CREATE TABLE own AS SELECT i AS a, repeat('x', 100) AS b FROM generate_series(1, 5000) i;
ANALYZE own;
CREATE FUNCTION own_f(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF current_user <> 'shop_stranger' THEN RAISE 'run by %', current_user; END IF;
	RETURN $1;
END $$;
ALTER TABLE own OWNER TO shop_stranger;
ALTER FUNCTION own_f(int) OWNER TO shop_stranger;
SELECT advise('SELECT * FROM own WHERE own_f(a) = 5');
CREATE ROLE shop_reader;
GRANT USAGE ON SCHEMA shop TO shop_reader;
GRANT SELECT ON own TO shop_reader;
SET ROLE shop_reader;
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT * FROM shop.own WHERE shop.own_f(a) = 5']);
RESET ROLE;
DROP OWNED BY shop_reader;
DROP ROLE shop_reader;
SET statement_timeout = '1ms';
SELECT count(*) FROM scalecache.suggest_indexes(queries => ARRAY['SELECT * FROM orders WHERE user_id = 5']);
RESET statement_timeout;

-- The recorded workload; statements that cannot be planned any more
SELECT scalecache.reset_workload();
SET search_path = shop;
DO $$ BEGIN FOR i IN 1 .. 20 LOOP PERFORM FROM orders WHERE user_id = i; END LOOP; END $$;
SELECT count(*) FROM fresh WHERE a = 5;
DROP TABLE fresh;
SET search_path = public;
SET client_min_messages = notice;
SELECT ddl, regexp_replace(reason, '[0-9.]+ ms', 'N ms', 'g') AS reason FROM scalecache.suggest_indexes();
SET client_min_messages = warning;

-- Others' statements only where the caller may read their tables, subqueries' too
CREATE ROLE shop_stats IN ROLE pg_read_all_stats;
GRANT USAGE ON SCHEMA shop TO shop_stats;
GRANT SELECT ON shop.orders TO shop_stats;
SELECT scalecache.reset_workload();
SELECT count(*) FROM shop.orders WHERE user_id = 5;
SELECT count(*) FROM shop.orders WHERE shop_id = 5 AND id = (SELECT max(id) FROM shop.users);
WITH x AS MATERIALIZED (SELECT id FROM shop.users) SELECT count(*) FROM x;
SET ROLE shop_stats;
SET client_min_messages = notice;
SELECT ddl FROM scalecache.suggest_indexes();
SET client_min_messages = warning;
RESET ROLE;
REVOKE ALL ON SCHEMA shop FROM shop_stats;
REVOKE ALL ON shop.orders FROM shop_stats;
DROP ROLE shop_stats;

-- Executions that differ are told apart in what is promised.
CREATE TABLE shop.skew AS SELECT (x - 0.5)::int AS k, md5(x::text) AS v
FROM (SELECT sqrt(2 * i) AS x FROM generate_series(1, 40000) i) s ORDER BY md5(x::text);
VACUUM ANALYZE shop.skew;
CREATE FUNCTION shop.promised(OUT said float8, OUT actual float8) LANGUAGE plpgsql AS $$
DECLARE
	r record;
	plan json;
BEGIN
	SELECT cost_after INTO said FROM scalecache.suggest_indexes();
	CREATE INDEX ON shop.skew (k);
	actual := 0;
	FOR r IN SELECT calls::float8 * (s->>'count')::int / sum((s->>'count')::int) OVER () AS n, s->'parameters'->>0 AS k
		FROM scalecache.workload, jsonb_array_elements(samples) s WHERE text ~ 'skew WHERE k' LOOP
		EXECUTE 'EXPLAIN (FORMAT JSON) SELECT FROM shop.skew WHERE k = 25 * ' || r.k INTO plan;
		actual := actual + r.n * (plan->0->'Plan'->>'Total Cost')::float8;
	END LOOP;
END $$;
SET scalecache.advisor_sample_rate = 1;
SELECT scalecache.reset_workload();
DO $$ BEGIN FOR i IN 1 .. 8 LOOP PERFORM FROM shop.skew WHERE k = i * 25; END LOOP; END $$;
SET scalecache.advisor_record = off;
SELECT abs(actual / said - 1) < 0.02 AS holds FROM shop.promised();

-- BRIN beside a btree that begins with its column is nothing more.
CREATE TABLE stay AS SELECT (i * 7919) % 5000 AS room, '2020-01-01'::date + i / 330 + (i * 31) % 60 AS day, repeat('x', 60) AS pad FROM generate_series(1, 200000) i;
VACUUM ANALYZE stay;
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT count(*) FROM stay WHERE room = 7', 'SELECT pad FROM stay WHERE day = ''2020-11-20''',
	'SELECT pad FROM stay WHERE room = 7 AND day >= ''2021-08-01'''], weights => ARRAY[3000, 1, 3]) ORDER BY ddl;
DROP TABLE stay;
RESET scalecache.advisor_record;
RESET scalecache.advisor_sample_rate;

DROP SCHEMA shop CASCADE;
DROP ROLE shop_stranger;
DROP EXTENSION pg_trgm;
DROP EXTENSION scalecache;
