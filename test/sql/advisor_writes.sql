-- What writes cost is charged to the indexes that pay for it.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
CREATE SCHEMA pays;
SET search_path = pays, public;
SET max_parallel_workers_per_gather = 0;

-- What is suggested where reads count, and where writes do.
CREATE FUNCTION advise(reading text, writing text, OUT seldom_written text, OUT often_written text) LANGUAGE sql AS $$
	SELECT string_agg(ddl, '; ' ORDER BY ddl) FILTER (WHERE reads), string_agg(ddl, '; ' ORDER BY ddl) FILTER (WHERE NOT reads)
	FROM (SELECT true AS reads, ddl FROM scalecache.suggest_indexes(queries => ARRAY[reading, writing], weights => ARRAY[1000, 1])
		UNION ALL SELECT false, ddl FROM scalecache.suggest_indexes(queries => ARRAY[reading, writing], weights => ARRAY[1, 3000])) s
$$;

-- An UPDATE that cannot be HOT anyway loses nothing but entries.
CREATE TABLE hot AS SELECT i AS id, i AS a, i AS b, repeat('x', 50) AS pad FROM generate_series(1, 20000) i;
ALTER TABLE hot ADD PRIMARY KEY (id);
VACUUM ANALYZE hot;
CREATE TABLE paid AS SELECT 1 AS n, ddl, write_cost FROM scalecache.suggest_indexes(queries => ARRAY['SELECT pad FROM hot WHERE b = 7',
	'UPDATE hot SET a = a + 1, b = b + 1 WHERE id = 5'], weights => ARRAY[100, 1]);
CREATE INDEX ON hot (a);
INSERT INTO paid SELECT 2, ddl, write_cost FROM scalecache.suggest_indexes(queries => ARRAY['SELECT pad FROM hot WHERE b = 7',
	'UPDATE hot SET a = a + 1, b = b + 1 WHERE id = 5'], weights => ARRAY[100, 1]);
SELECT ddl, n, write_cost < (SELECT max(write_cost) / 2 FROM paid) AS cheap FROM paid ORDER BY n;
DROP TABLE hot, paid;

-- Two indexes are to blame for what the update writes to all others: taking out either saves little, both much.
CREATE TABLE warm AS SELECT i AS id, i AS x, i AS y, i AS a, i AS b, i AS c, i AS d, i AS e, i AS f, i AS g, i AS h, i AS j, i AS k, i AS l, i AS m
FROM generate_series(1, 20000) i;
VACUUM ANALYZE warm;
CREATE FUNCTION on_warm(updates float8) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(substring(ddl FROM '\((.*)\)'), ' ' ORDER BY ddl)
	FROM (SELECT array_agg(format('SELECT * FROM warm WHERE %I = 7', attname)) || 'UPDATE warm SET x = x + 1, y = y + 1 WHERE id = 5'::text AS queries,
			array_agg(CASE WHEN attname IN ('x', 'y') THEN 4 ELSE 1 END) || updates AS weights
		FROM pg_attribute WHERE attrelid = 'warm'::regclass AND attnum > 0) w, scalecache.suggest_indexes(NULL, queries, weights)
$$;
SELECT on_warm(10) AS few, on_warm(25) AS many;
DROP FUNCTION on_warm;
DROP TABLE warm;

-- Where most updates could be HOT, an index is worth less that keeps too many of them from it; but not if these are few, cost it little, or it saves much.
CREATE TABLE lamp AS SELECT i AS id, i AS who, i AS watched, repeat('x', 50) AS pad FROM generate_series(1, 20000) i;
ALTER TABLE lamp ADD PRIMARY KEY (id);
VACUUM ANALYZE lamp;
CREATE FUNCTION on_lamp(reads float8, updates float8, others float8) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(substring(ddl FROM '\((.*)\)'), ' ' ORDER BY ddl)
	FROM scalecache.suggest_indexes(NULL, ARRAY['SELECT pad FROM lamp WHERE who = 7', 'SELECT pad FROM lamp WHERE watched = 7',
		'UPDATE lamp SET watched = watched + 1 WHERE id = 5', 'UPDATE lamp SET pad = pad WHERE id = 5'], ARRAY[1000, reads, updates, others])
$$;
SELECT on_lamp(4, 20, 0) AS too_many, on_lamp(4, 20, 100) AS few_of_all, on_lamp(4, 1, 0) AS cheap, on_lamp(10, 20, 0) AS worth_it;
DROP FUNCTION on_lamp;
-- and none goes where most would still not be HOT, for another that saves too much
ALTER TABLE lamp ADD COLUMN lit int;
UPDATE lamp SET lit = id;
VACUUM FULL ANALYZE lamp;
CREATE FUNCTION on_lamp(updates float8) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(substring(ddl FROM '\((.*)\)'), ' ' ORDER BY ddl)
	FROM scalecache.suggest_indexes(NULL, ARRAY['SELECT pad FROM lamp WHERE who = 7', 'SELECT pad FROM lamp WHERE watched = 7',
		'SELECT pad FROM lamp WHERE lit = 7', 'UPDATE lamp SET watched = watched + 1 WHERE id = 5', 'UPDATE lamp SET lit = 0 WHERE id = 5'],
		ARRAY[1000, 4, 100, 20, updates])
$$;
SELECT on_lamp(1) AS enough, on_lamp(20) AS not_enough;
DROP FUNCTION on_lamp;
DROP TABLE lamp;

-- Through a table that others inherit from, whose columns may have other numbers
CREATE TABLE visit (id int, who int, seen int, note text);
CREATE TABLE visit_old () INHERITS (visit);
CREATE TABLE visit_new (seen int, extra int, who int, id int, note text);
ALTER TABLE visit_new INHERIT visit;
INSERT INTO visit_old SELECT i, i % 5000, i, md5(i::text) FROM generate_series(1, 20000) i;
INSERT INTO visit_new (id, who, seen, note) SELECT i, i % 5000, i, md5(i::text) FROM generate_series(1, 20000) i;
VACUUM ANALYZE visit, visit_old, visit_new;
SELECT * FROM advise('SELECT note FROM visit WHERE seen = 7', 'UPDATE visit SET seen = seen + 1 WHERE id = 5');
-- other columns, and another table, do not pay
SELECT * FROM advise('SELECT note FROM visit_new WHERE seen = 7', 'UPDATE visit SET note = ''x'' WHERE id = 5');
SELECT * FROM advise('SELECT note FROM visit_new WHERE seen = 7', 'UPDATE visit_old SET seen = 1 WHERE id = 5');

-- Through a partition, of a partition
CREATE TABLE log (id int, at int, who int) PARTITION BY RANGE (at);
CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (0) TO (20000) PARTITION BY RANGE (id);
CREATE TABLE log_1_1 (who int, gone int, at int, id int);
ALTER TABLE log_1_1 DROP COLUMN gone;
ALTER TABLE log_1 ATTACH PARTITION log_1_1 DEFAULT;
CREATE TABLE log_2 PARTITION OF log DEFAULT;
INSERT INTO log SELECT i, i, i % 5000 FROM generate_series(1, 40000) i;
VACUUM ANALYZE log;
SELECT * FROM advise('SELECT * FROM log WHERE who = 7', 'UPDATE log_1_1 SET who = who + 1 WHERE id = 5');
SELECT * FROM advise('SELECT * FROM log WHERE who = 7', 'UPDATE log SET who = who + 1 WHERE id = 5 AND at = 5');
SELECT * FROM advise('SELECT * FROM log_1_1 WHERE who = 7', 'UPDATE log_1_1 SET who = who + 1 WHERE id = 5');

-- In WITH; by MERGE; by ON CONFLICT
CREATE TABLE acc (id int PRIMARY KEY, seen int, pad text);
INSERT INTO acc SELECT i, i, repeat('x', 50) FROM generate_series(1, 20000) i;
VACUUM ANALYZE acc;
SELECT * FROM advise('SELECT pad FROM acc WHERE seen = 7', 'WITH u AS (UPDATE acc SET seen = seen + 1 WHERE id = 5 RETURNING *) SELECT * FROM u');
SELECT * FROM advise('SELECT pad FROM acc WHERE seen = 7', 'MERGE INTO acc USING (VALUES (5)) v (id) ON v.id = acc.id WHEN MATCHED THEN UPDATE SET seen = 0 WHEN NOT MATCHED THEN DO NOTHING');
SELECT * FROM advise('SELECT pad FROM acc WHERE seen = 7', 'MERGE INTO acc USING (VALUES (5)) v (id) ON v.id = acc.id WHEN MATCHED THEN DELETE');
SELECT * FROM advise('SELECT pad FROM acc WHERE seen = 7', 'INSERT INTO acc VALUES (5, 1) ON CONFLICT (id) DO UPDATE SET seen = 1');

-- Deleting in WITH looks for rows that refer to them.
CREATE TABLE pay (id int, acc int REFERENCES acc, pad text);
INSERT INTO pay SELECT i, i, repeat('x', 50) FROM generate_series(1, 20000) i;
VACUUM ANALYZE pay;
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['WITH d AS (DELETE FROM acc WHERE id = 5 RETURNING *) SELECT * FROM d']);

-- What a rule makes nothing of, or something else
CREATE TABLE ruled (id int, seen int);
CREATE RULE nothing AS ON INSERT TO ruled DO INSTEAD NOTHING;
CREATE RULE other AS ON UPDATE TO ruled DO INSTEAD UPDATE acc SET seen = new.seen WHERE id = new.id;
SELECT * FROM scalecache.suggest_indexes(queries => ARRAY['INSERT INTO ruled VALUES (1, 2)']);
SELECT * FROM advise('SELECT pad FROM acc WHERE seen = 7', 'INSERT INTO ruled VALUES (1, 2)');
SELECT * FROM advise('SELECT pad FROM acc WHERE seen = 7', 'UPDATE ruled SET seen = 5 WHERE id = 5');

-- As many columns as a table may be joined by; nobody wants them all in an index.
CREATE FUNCTION many(sep text, format text) RETURNS text LANGUAGE sql AS
	$$ SELECT string_agg(format(format, i), sep) FROM generate_series(1, 32) i $$;
SELECT format('CREATE TABLE broad AS SELECT i AS id, %s, %s FROM generate_series(1, 5000) i', many(', ', 'i %% %1$s AS k%1$s'), many(', ', 'i AS v%1$s')) \gexec
CREATE TABLE narrow AS SELECT * FROM broad LIMIT 20;
VACUUM ANALYZE broad, narrow;
SELECT max(array_length(string_to_array(ddl, ','), 1)) <= 18 AS not_too_many FROM scalecache.suggest_indexes(queries => ARRAY[
	format('SELECT b.v1, b.v2, b.v3, b.v4, b.v5 FROM narrow n JOIN broad b USING (%s)', many(', ', 'k%s')),
	format('SELECT v1, v2, v3, v4, v5 FROM broad ORDER BY %s LIMIT 5', many(', ', 'k%s')),
	format('SELECT v1, v2, v3, v4, v5 FROM broad WHERE %s', many(' AND ', 'k%s = 0'))]);

-- By COPY, which is recorded though it is no query
SELECT scalecache.reset_workload();
SELECT count(pad) FROM acc WHERE seen = 7;
SELECT ddl FROM scalecache.suggest_indexes();
COPY acc (id, seen) FROM STDIN;
100001	1
100002	2
\.
CREATE FUNCTION copy_more() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	COPY acc FROM PROGRAM 'seq 200001 201000 | sed s/$/,1,x/' WITH (FORMAT csv);
END $$;
SELECT copy_more();
SELECT text, calls, rows, samples FROM scalecache.workload WHERE text ~ '^ *COPY' ORDER BY 3;
SELECT ddl FROM scalecache.suggest_indexes();
-- but not where that is off, nor of tables that are gone or may not be read
SET scalecache.advisor_record = off;
COPY acc (id) FROM STDIN;
100003
\.
RESET scalecache.advisor_record;
SELECT calls FROM scalecache.workload WHERE text ~ 'COPY acc .id. ';
CREATE TABLE gone (a int);
COPY gone FROM STDIN;
1
\.
DROP TABLE gone;
SELECT text FROM scalecache.workload WHERE text !~ 'scalecache' ORDER BY 1;
CREATE ROLE pays_stats IN ROLE pg_read_all_stats;
SET client_min_messages = notice;
SELECT ddl FROM scalecache.suggest_indexes();
SET ROLE pays_stats;
SELECT ddl FROM scalecache.suggest_indexes();
RESET ROLE;
SET client_min_messages = warning;
DROP ROLE pays_stats;
SELECT * FROM scalecache.suggest_indexes(queries => ARRAY['COPY pays.acc FROM STDIN']);

-- Tables of extensions are not the user's to index.
CREATE TABLE ext AS TABLE acc;
ANALYZE ext;
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT pad FROM ext WHERE seen = 7']);
ALTER EXTENSION scalecache ADD TABLE ext;
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT pad FROM ext WHERE seen = 7']);
ALTER EXTENSION scalecache DROP TABLE ext;

DROP SCHEMA pays CASCADE;
DROP EXTENSION scalecache;
