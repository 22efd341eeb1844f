-- What is recorded of the statements that are executed.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
-- None by chance: the 1st, 2nd, 4th, 8th ... execution only
SET scalecache.advisor_sample_rate = 0;
CREATE SCHEMA recorded;
SET search_path = recorded;
CREATE TABLE item (id int PRIMARY KEY, owner int, kind text, price numeric);
INSERT INTO item SELECT i, i % 10, 'kind ' || i % 3, i FROM generate_series(1, 100) i;
SELECT scalecache.reset_workload();

CREATE FUNCTION show() RETURNS TABLE (calls bigint, n bigint, statement text, executions jsonb)
LANGUAGE sql SET search_path = recorded, pg_catalog AS $$
	SELECT w.calls, w.rows, regexp_replace(w.text, '\s+', ' ', 'g'), samples
	FROM scalecache.workload w WHERE w.text ~ 'item' AND w.text !~ 'scalecache'
	ORDER BY w.first_seen $$;

-- Simple statements: one entry, each execution's own text
SELECT count(*) FROM item WHERE owner = 1;
SELECT count(*) FROM item WHERE owner = 2;
SELECT count(*) FROM item WHERE owner = 2;
-- Prepared statements, with values
PREPARE p (int, text) AS SELECT id FROM item WHERE owner = $1 AND kind = $2 LIMIT 1;
EXECUTE p (3, 'kind 1');
EXECUTE p (4, NULL);
-- Variables of functions become parameters
CREATE FUNCTION f(p_owner int, "P kind" text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM FROM item i WHERE i.owner = p_owner AND i.kind <> f."P kind" AND 0 < p_owner;
	UPDATE item SET price = price + 1 WHERE id = p_owner;
END $$;
SELECT f(5, 'it''s');
CREATE FUNCTION g(p_owner int) RETURNS bigint LANGUAGE sql AS
$$ SELECT count(*) FROM item i WHERE i.owner = p_owner $$;
SELECT g(6);
-- Cursors and new tables
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM item WHERE owner = 7;
FETCH 2 FROM c;
FETCH ALL FROM c;
COMMIT;
SELECT 1 AS one\; CREATE TABLE item_copy AS SELECT * FROM item WHERE owner = 8 AND price > 50\; DROP TABLE item_copy;
-- Several statements in one string
INSERT INTO item VALUES (101, 1, 'x', 1)\; DELETE FROM item WHERE id = 101;
SELECT * FROM show();

-- SELECT INTO, which is CREATE TABLE AS, can be planned again.
SELECT scalecache.reset_workload();
SELECT id, owner INTO item_into FROM item WHERE owner = 9 UNION SELECT id, owner FROM item WHERE price = 7;
SELECT statement FROM show();
SELECT used FROM scalecache.what_if('SELECT * INTO item_more FROM item WHERE owner = 9', 'CREATE INDEX ON item (owner)');
SET client_min_messages = notice;
SELECT count(*) FROM scalecache.suggest_indexes();
SET client_min_messages = warning;
DROP TABLE item_into;

-- So can be what is in PL/pgSQL's expressions and assignments.
SELECT scalecache.reset_workload();
CREATE FUNCTION expressions(p_owner int) RETURNS bigint LANGUAGE plpgsql AS $$
<<here>>
DECLARE
	x int; r record; many int[] := '{}';
BEGIN
	IF EXISTS (SELECT FROM item WHERE owner = p_owner AND id < 5) THEN x := 1; END IF;
	IF (SELECT count(*) FROM item WHERE owner = 3) > 100 THEN x := 2; END IF;
	x := (SELECT max(id) FROM item WHERE owner = p_owner);
	here.x = count(*) FROM item WHERE price = p_owner;
	many[2] := (SELECT min(id) FROM item WHERE price = here.x);
	WHILE NOT EXISTS (SELECT FROM item WHERE kind > 'a') LOOP END LOOP;
	RETURN (SELECT count(*) FROM item WHERE price = many[2]);
END $$;
SELECT expressions(7);
SELECT statement FROM show();
SET client_min_messages = notice;
SELECT count(*) FROM scalecache.suggest_indexes();
SET client_min_messages = warning;
-- But nobody else may write so.
SELECT * FROM scalecache.what_if('EXISTS (SELECT FROM item)');
SELECT * FROM scalecache.suggest_indexes(queries => ARRAY['x := 1']);

-- What EXPLAIN executes, as one of several, too; a row's columns
SELECT scalecache.reset_workload();
SELECT 1 AS one\; EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT FROM item WHERE id = 500\; SELECT 2 AS two;
SELECT 1 AS one\; EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) CREATE TABLE item_copy AS SELECT kind FROM item WHERE id = 500\; DROP TABLE item_copy;
CREATE FUNCTION copy_row(r item) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO item SELECT r.*; DELETE FROM item WHERE id = r.id; END $$;
SELECT copy_row(ROW(102, 5, 'kind 1', 2));
SELECT * FROM show() WHERE statement !~ 'copy_row';
SET client_min_messages = notice;
SELECT count(*) FROM scalecache.suggest_indexes();
SET client_min_messages = warning;

-- Of temporary tables, whatever they are called, nobody else could make anything.
SELECT scalecache.reset_workload();
BEGIN;
CREATE TEMP TABLE item (id int, owner int) ON COMMIT DROP;
SET LOCAL search_path = pg_temp, recorded;
INSERT INTO item VALUES (1, 2);
COPY item FROM stdin;
3	4
\.
SELECT count(*) FROM item WHERE owner = 4;
SELECT count(*) FROM item i, recorded.item r WHERE r.owner = i.owner;
COMMIT;
SELECT count(*) FROM show();

-- What a statement's own functions do to its relations and its path is no
-- reason for it to fail.
CREATE VIEW gone AS SELECT * FROM item;
CREATE FUNCTION drop_gone() RETURNS int LANGUAGE plpgsql AS $$BEGIN DROP VIEW gone; RETURN 1; END$$;
SELECT drop_gone() FROM gone LIMIT 1;
CREATE FUNCTION other_path() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN PERFORM set_config('search_path', 'pg_catalog', true); RETURN NEW; END$$;
CREATE TABLE copied (id int);
CREATE TRIGGER other_path BEFORE INSERT ON copied FOR EACH ROW EXECUTE FUNCTION other_path();
BEGIN;
COPY copied FROM stdin;
1
\.
COMMIT;
SELECT * FROM copied;

-- Nothing that no index could help, nothing that failed
SELECT scalecache.reset_workload();
SELECT 1 AS item;
SELECT count(*) > 0 AS some FROM pg_class WHERE relname = 'item';
SELECT 1/0 FROM item;
VACUUM item;
SELECT count(*) FROM show();

-- Once, also if parallel workers execute it; names of variables with quotes; rows that are copied
SET force_parallel_mode = on;
SELECT count(*) FROM item WHERE price = 12;
RESET force_parallel_mode;
DO $$ DECLARE "a ""b" int := 5; BEGIN PERFORM FROM item WHERE owner = "a ""b" AND "a ""b" > 0; END $$;
COPY item (id, owner) FROM stdin;
999	999
\.
SELECT * FROM show();
DELETE FROM item WHERE id = 999;
-- No failure, though the name of the table is none any more when it is done
CREATE FUNCTION moves() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('search_path', 'pg_catalog', false); RETURN NULL; END $$;
CREATE TRIGGER moves BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION moves();
COPY item (id, owner) FROM stdin;
998	999
\.
SET search_path = recorded;
DROP TRIGGER moves ON item;
SELECT scalecache.reset_workload();

-- Off
SET scalecache.advisor_record = off;
SELECT count(*) FROM item WHERE price = 1;
RESET scalecache.advisor_record;
SELECT count(*) FROM show();

-- Values are written so that whoever plans with them reads the same.
SELECT scalecache.reset_workload();
ALTER TABLE item ADD made date DEFAULT '2026-02-03', ADD took interval, ADD ratio float8;
PREPARE d (date, interval, float8) AS SELECT count(*) FROM item WHERE made = $1 AND took = $2 AND ratio = $3;
SET datestyle = 'SQL, DMY';
SET intervalstyle = 'sql_standard';
SET extra_float_digits = 0;
EXECUTE d ('03/02/2026', '-1 2:03:04', 0.1::float8 + 0.2);
RESET datestyle;
RESET intervalstyle;
RESET extra_float_digits;
SELECT executions FROM show();

-- So are texts: they are read with the settings of who sent them.
SELECT scalecache.reset_workload();
CREATE TABLE dated AS SELECT i AS id, '2026-01-01'::date + i % 1000 AS made, 'it''s ' || i % 1000 AS kind, i % 1000 * '1 month'::interval AS took,
	'2026-01-01 00:00+00'::timestamptz + i % 1000 * '1 hour'::interval AS at, repeat('x', 50) AS pad FROM generate_series(1, 20000) i;
ANALYZE dated;
SET datestyle = 'SQL, DMY';
SET intervalstyle = 'sql_standard';
SET standard_conforming_strings = off;
SET escape_string_warning = off;
SET timezone = 'Asia/Kathmandu';
SELECT count(pad) FROM dated WHERE made = '13/02/2026' AND kind = 'it\'s 43' AND took = '-1-2';
PREPARE m (int) AS SELECT count(pad) FROM dated WHERE made = '14/02/2026' AND kind <> 'it\'s' AND id = $1;
EXECUTE m (5);
SELECT count(pad) FROM dated WHERE at = '01/01/2026 05:45';
RESET datestyle;
RESET intervalstyle;
RESET standard_conforming_strings;
RESET escape_string_warning;
RESET timezone;
SET client_min_messages = notice;
SELECT (SELECT string_agg(c, ' ' ORDER BY c) FROM regexp_split_to_table(substring(ddl from '\((.*)\)'), ', ') c) AS columns
	FROM scalecache.suggest_indexes() WHERE relation = 'dated'::regclass ORDER BY 1;
SET client_min_messages = warning;
DROP TABLE dated;

-- Many statements with variables in one session, more than it remembers the names of
SELECT scalecache.reset_workload();
DO $do$ BEGIN
EXECUTE (SELECT format('CREATE FUNCTION many(p_owner int) RETURNS void LANGUAGE plpgsql AS $f$ BEGIN %s END $f$',
	string_agg(format('PERFORM FROM /* %s */ item WHERE price = p_owner%s;', repeat('x', 5000), replace(replace(i::bit(10)::text, '0', '+id'), '1', '-id')), ' '))
FROM generate_series(0, 599) i);
END $do$;
SELECT many(5);
SELECT count(*), count(*) FILTER (WHERE text ~ '= [$]1[+-]' AND samples = '[{"count": 1, "parameters": ["5"]}]') AS with_values
FROM scalecache.workload WHERE text ~ '^SELECT FROM /';
-- Executed again, what has been forgotten is counted, but its values are not known;
SELECT many(5);
SELECT count(*), sum(calls) AS calls, count(*) FILTER (WHERE jsonb_array_length(samples) = 1 AND samples->0->'parameters' = '["5"]') AS with_values
FROM scalecache.workload WHERE text ~ '^SELECT FROM /';
-- nor is its text, until it is parsed again.
SELECT scalecache.reset_workload();
SELECT many(5);
SELECT count(*) BETWEEN 100 AND 500 AS some, count(*) FILTER (WHERE text ~ 'p_owner') AS unreadable FROM scalecache.workload WHERE text ~ '^SELECT FROM /';
ALTER TABLE item ALTER kind SET STATISTICS 10;
SELECT many(5);
SELECT count(*), count(*) FILTER (WHERE text ~ 'p_owner') AS unreadable FROM scalecache.workload WHERE text ~ '^SELECT FROM /';
DROP FUNCTION many;

-- Texts and parameters are for pg_read_all_stats
CREATE ROLE recorded_nobody;
CREATE ROLE recorded_reader IN ROLE pg_read_all_stats;
SELECT count(*) FROM item WHERE id = 12345;
SET ROLE recorded_nobody;
SELECT count(*) > 0 AS rows, count(query_id) AS ids, count(text) AS texts, count(samples) AS samples
FROM scalecache.workload;
SELECT scalecache.reset_workload();
SET scalecache.advisor_record = off;
RESET ROLE;
SET ROLE recorded_reader;
SELECT count(*) > 0 AS rows, count(query_id) = count(*) AS ids, count(text) = count(*) AS texts
FROM scalecache.workload;
RESET ROLE;

-- Long values and texts are left out, not cut
SELECT scalecache.reset_workload();
PREPARE long (text) AS SELECT count(*) FROM item WHERE kind = $1;
EXECUTE long (repeat('x', 100000));
SELECT * FROM show();

SELECT scalecache.reset_workload();
DO $$ BEGIN
	EXECUTE format('SELECT count(*) FROM item WHERE kind = %L', repeat('x', 70000));
	EXECUTE format('SELECT count(*) FROM item WHERE kind = %L', 'short');
END $$;
SELECT * FROM show();

-- However seldom, some executions are looked at: the 1st, 2nd, 4th and so on.
SELECT scalecache.reset_workload();
PREPARE seldom (int) AS SELECT id FROM item WHERE id = $1;
SET scalecache.advisor_sample_rate = 1;
DO $$ BEGIN FOR i IN 1..3000 LOOP EXECUTE 'EXECUTE seldom (0)'; END LOOP; END $$;
SET scalecache.advisor_sample_rate = 1e-12;
DO $$ BEGIN FOR i IN 1..3 LOOP EXECUTE 'EXECUTE seldom (0)'; END LOOP; END $$;
SELECT scalecache.reset_workload();
DO $$ BEGIN FOR i IN 1..11 LOOP EXECUTE format('EXECUTE seldom (%s)', i); END LOOP; END $$;
SET scalecache.advisor_sample_rate = 0;
SELECT * FROM show();

-- The slowest execution is kept, though it came once among many.
SELECT scalecache.reset_workload();
CREATE FUNCTION waits(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(n); RETURN n; END $$;
PREPARE tenant (int, int) AS SELECT count(*) FROM item WHERE owner = $1 AND waits($2) = 0 AND id = 1;
DO $$ BEGIN FOR i IN 1..3000 LOOP EXECUTE format('EXECUTE tenant (%s, %s)', i, 0); END LOOP; END $$;
UPDATE item SET owner = 4711 WHERE id = 1;
EXECUTE tenant (4711, 1);
DO $$ BEGIN FOR i IN 5001..6000 LOOP EXECUTE format('EXECUTE tenant (%s, %s)', i, 0); END LOOP; END $$;
SELECT calls, jsonb_array_length(executions) AS kept, executions @> '[{"parameters": ["4711", "1"]}]' AS slowest FROM show() WHERE statement ~ 'tenant';
-- And it is one of them: what it costs is not many times what the others do.
SELECT scalecache.reset_workload();
CREATE TABLE order_item AS SELECT i AS id, i AS code FROM generate_series(1, 20000) i;
ALTER TABLE order_item ADD PRIMARY KEY (id);
VACUUM ANALYZE order_item;
PREPARE odd (int, int) AS SELECT count(*) FROM order_item WHERE ($1 > 0 AND id = $1) OR ($1 <= 0 AND code = $2 AND waits(1) = 1);
DO $$ BEGIN FOR i IN 1..3000 LOOP EXECUTE format('EXECUTE odd (%s, %s)', i, 0); END LOOP; END $$;
EXECUTE odd (0, 7);
SELECT executions @> '[{"parameters": ["0", "7"]}]' AS slowest FROM show() WHERE statement ~ 'odd';
SELECT coalesce(max(cost_before / cost_after), 1) < 2 AS little FROM scalecache.suggest_indexes() WHERE ddl ~ 'code';

-- What two executions had as a parameter, the next may not have; a constant is one.
CREATE TABLE task AS SELECT i AS id, CASE WHEN i % 50 = 0 THEN 'open' ELSE 'done' END AS state, i * 7919 % 20000 AS due FROM generate_series(1, 20000) i;
VACUUM ANALYZE task;
CREATE FUNCTION told() RETURNS SETOF text LANGUAGE sql AS $$ SELECT ddl FROM scalecache.suggest_indexes() WHERE ddl ~ 'task' $$;
SELECT scalecache.reset_workload();
PREPARE due (text) AS SELECT id FROM task WHERE state = $1 AND due > 5000 ORDER BY due LIMIT 5;
EXECUTE due ('open') \; EXECUTE due ('open');
SELECT told();
EXECUTE due ('open') \; EXECUTE due ('open') \; EXECUTE due ('open') \; EXECUTE due ('open') \; EXECUTE due ('open') \; EXECUTE due ('open') \; EXECUTE due ('open');
SELECT told();
SELECT scalecache.reset_workload();
SELECT id FROM task WHERE state = 'open' AND due > 5000 ORDER BY due LIMIT 5;
SELECT told();
-- Others than pg_read_all_stats get no advice from what others execute.
GRANT USAGE ON SCHEMA recorded TO recorded_nobody, recorded_reader;
GRANT SELECT ON task TO recorded_nobody, recorded_reader;
SET ROLE recorded_nobody;
SELECT count(*) FROM scalecache.suggest_indexes();
SELECT id FROM task WHERE due = 7;
SELECT ddl FROM scalecache.suggest_indexes();
RESET ROLE;
SET ROLE recorded_reader;
SELECT count(*) FROM scalecache.suggest_indexes();
RESET ROLE;
-- Nor need what is computed from parameters.
SELECT scalecache.reset_workload();
PREPARE any_due (text, text) AS SELECT id FROM task WHERE state IN ($1, $2) AND due > 5000 ORDER BY due LIMIT 1;
EXECUTE any_due ('open', 'late') \; EXECUTE any_due ('open', 'late');
SELECT told();
SELECT scalecache.reset_workload();
PREPARE lower_due (text) AS SELECT id FROM task WHERE state = lower($1) AND due > 5000 ORDER BY due LIMIT 1;
EXECUTE lower_due ('Open') \; EXECUTE lower_due ('Open');
SELECT told();
SELECT scalecache.reset_workload();
PREPARE more_due (int) AS SELECT id FROM task WHERE state IN ('open', 'late') AND due > $1 ORDER BY due LIMIT 1;
EXECUTE more_due (5000);
SELECT told();
-- One execution that looks twice is one.
SELECT scalecache.reset_workload();
PREPARE both_due (text) AS (SELECT id FROM task WHERE state = $1 AND due > 5000 ORDER BY due LIMIT 1)
	UNION ALL (SELECT id FROM task WHERE state = $1 AND due > 6000 ORDER BY due LIMIT 1);
EXECUTE both_due ('open') \; EXECUTE both_due ('open');
SELECT told();

DROP SCHEMA recorded CASCADE;
DROP ROLE recorded_nobody;
DROP ROLE recorded_reader;
DROP EXTENSION scalecache;
