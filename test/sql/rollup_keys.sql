-- Group keys of every kind: the same groups as GROUP BY makes.
CREATE EXTENSION scalecache;
\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /helper.sql
\set ECHO none
\i :helper
\set ECHO all

CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN short AS text CHECK (length(value) < 6);
CREATE DOMAIN shorter AS short NOT NULL;
CREATE TYPE pair AS (a int, b text);
CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE COLLATION german (provider = icu, locale = 'de');

-- A table with one key column, its rollup, and all that can happen to it;
-- how many groups there are, and what checked() says.
CREATE FUNCTION with_key(type text, as_text boolean, VARIADIC vals text[],
	OUT groups text, OUT checks text)
LANGUAGE plpgsql AS $$
DECLARE
	list text := array_to_string(vals, '), (');
	c record;
	n bigint;
BEGIN
	EXECUTE format('CREATE TABLE keyed (id serial, k %s)', type);
	EXECUTE format('INSERT INTO keyed (k) VALUES (%s)', list);
	PERFORM scalecache.create_rollup('by_key', 'SELECT k, count(*) AS n, sum(id) AS s FROM keyed GROUP BY k');
	PERFORM scalecache.create_rollup('by_key_more', 'SELECT id % 2 AS odd, k, max(id) AS hi FROM keyed GROUP BY k, 1');
	checks := '';
	FOR step IN 1 .. 4 LOOP
		CASE step
			WHEN 1 THEN EXECUTE format('INSERT INTO keyed (k) VALUES (%s)', list);
			WHEN 2 THEN DELETE FROM keyed WHERE id % 3 = 0;
			WHEN 3 THEN EXECUTE 'UPDATE keyed SET k = (SELECT k FROM keyed ORDER BY id LIMIT 1) WHERE id % 3 = 1';
			WHEN 4 THEN EXECUTE format('INSERT INTO keyed (k) VALUES (%s)', list);
		END CASE;
		c := checked('by_key', as_text);
		IF c.pending <> 'same, verified' OR c.folded <> 'same, verified' OR c.answered <> 'from rollup' THEN
			checks := checks || format('%s: %s; ', step, c);
		END IF;
		c := checked('by_key_more', as_text);
		IF c.pending <> 'same, verified' OR c.folded <> 'same, verified' OR c.answered <> 'from rollup' THEN
			checks := checks || format('%s, two keys: %s; ', step, c);
		END IF;
		EXECUTE 'SELECT count(*) FROM by_key' INTO n;
		groups := concat_ws(' ', groups, n);
	END LOOP;
	IF checks = '' THEN checks := 'same'; END IF;
	DELETE FROM keyed;
	EXECUTE 'SELECT count(*) FROM by_key' INTO n;
	IF n <> 0 THEN checks := checks || ' groups are left'; END IF;
	DROP VIEW by_key, by_key_more;
	DROP TABLE keyed;
END $$;

SELECT * FROM with_key('int', true, '1', '2', 'NULL', '1', 'NULL');
SELECT * FROM with_key('boolean', true, 'true', 'false', 'NULL', 'true');
SELECT * FROM with_key('mood', true, '''sad''', '''happy''', 'NULL', '''sad''');
SELECT * FROM with_key('short', true, '''a''', '''b''', 'NULL', '''a''', '''A''');
SELECT * FROM with_key('shorter', true, '''a''', '''b''', '''a''', '''A''');
SELECT * FROM with_key('text', true, '''a''', '''b''', 'NULL', '''''', '''a''', '''A''', 'repeat(''x'', 1000)');
SELECT * FROM with_key('varchar(5)', true, '''a''', '''a ''', 'NULL', '''a''');
SELECT * FROM with_key('char(5)', true, '''a''', '''a ''', 'NULL', '''b''');
SELECT * FROM with_key('name', true, '''a''', '''b''', 'NULL', '''a''');
SELECT * FROM with_key('"char"', true, '''a''', '''b''', 'NULL', '''a''');
SELECT * FROM with_key('text COLLATE german', true, '''ä''', '''a''', 'NULL', '''Ä''', '''ä''');
SELECT * FROM with_key('bytea', true, '''a''', '''\x00''', 'NULL', '''''', '''a''');
-- Equal values that look different are one group.
SELECT * FROM with_key('text COLLATE nocase', false, '''a''', '''A''', 'NULL', '''b''', '''B''', '''a''');
SELECT * FROM with_key('numeric', false, '1.0', '1.00', 'NULL', '1', '2', '''NaN''', '''NaN''', '''Infinity''');
SELECT * FROM with_key('numeric(10,2)', true, '1.0', '1.00', 'NULL', '1', '2');
SELECT * FROM with_key('float8', false, '0', '''-0''', 'NULL', '''NaN''', '''NaN''', '1e300', '''-Infinity''');
SELECT * FROM with_key('float4', false, '0', '''-0''', 'NULL', '''NaN''', '''NaN''', '1e30');
SELECT * FROM with_key('jsonb', false, '''1''', '''1.0''', 'NULL', '''null''', '''{"a": 1, "b": [2]}''', '''{"b": [2.0], "a": 1.00}''');
SELECT * FROM with_key('interval', false, '''1 day''', '''24 hours''', 'NULL', '''1 month''', '''30 days''');
SELECT * FROM with_key('timetz', true, '''10:00+00''', '''11:00+01''', 'NULL', '''10:00+00''');
-- Others
SELECT * FROM with_key('bigint', true, '9223372036854775807', '-1', 'NULL', '-1');
SELECT * FROM with_key('date', true, '''2026-01-01''', '''infinity''', 'NULL', '''2026-01-01''');
SELECT * FROM with_key('timestamp', true, '''2026-01-01''', '''infinity''', 'NULL', '''2026-01-01''');
SELECT * FROM with_key('timestamptz', true, '''2026-01-01 00:00+00''', '''2026-01-01 01:00+01''', 'NULL');
SELECT * FROM with_key('money', true, '1', '2', 'NULL', '1.00');
SELECT * FROM with_key('uuid', true, 'md5(''a'')::uuid', 'md5(''b'')::uuid', 'NULL', 'md5(''a'')::uuid');
SELECT * FROM with_key('bit(3)', true, 'B''101''', 'B''001''', 'NULL', 'B''101''');
SELECT * FROM with_key('varbit', true, 'B''101''', 'B''1010''', 'NULL', 'B''101''', 'B''''');
SELECT * FROM with_key('inet', true, '''10.0.0.1''', '''10.0.0.1/8''', 'NULL', '''10.0.0.1''', '''::1''');
SELECT * FROM with_key('cidr', true, '''10.0.0.0/8''', '''10.1.0.0/16''', 'NULL', '''10.0.0.0/8''');
SELECT * FROM with_key('macaddr', true, '''08:00:2b:01:02:03''', '''08:00:2b:01:02:04''', 'NULL', '''08:00:2b:01:02:03''');
SELECT * FROM with_key('int[]', true, '''{1,2}''', '''{1,NULL}''', 'NULL', '''{}''', '''{1,2}''', '''[0:1]={1,2}''');
SELECT * FROM with_key('text[] COLLATE nocase', false, '''{a,b}''', '''{A,B}''', 'NULL', '''{}''');
SELECT * FROM with_key('numeric[]', false, '''{1.0,2}''', '''{1,2.00}''', 'NULL', '''{}''');
SELECT * FROM with_key('mood[]', true, '''{sad,ok}''', '''{ok}''', 'NULL', '''{sad,ok}''');
SELECT * FROM with_key('int4range', true, '''[1,5)''', '''[1,4]''', 'NULL', '''empty''', '''(,)''');
SELECT * FROM with_key('numrange', false, '''[1,5)''', '''[1.0,5.00)''', 'NULL', '''empty''');
SELECT * FROM with_key('int4multirange', true, '''{[1,5)}''', '''{[1,2],[3,4]}''', 'NULL', '''{}''');
SELECT * FROM with_key('pair', true, '''(1,a)''', '''(1,)''', 'NULL', '''(,)''', '''(1,a)''');
SELECT * FROM with_key('pair[]', true, '''{"(1,a)"}''', '''{}''', 'NULL', '''{"(1,a)"}''');
SELECT * FROM with_key('oid', true, '1', '2', 'NULL', '1');
SELECT * FROM with_key('regclass', true, '''pg_class''', '''pg_proc''', 'NULL', '''pg_class''');
SELECT * FROM with_key('pg_lsn', true, '''0/1''', '''0/2''', 'NULL', '''0/1''');
-- hashable and not sortable, sortable and not hashable
SELECT * FROM with_key('xid', true, '''1''', '''2''', 'NULL', '''1''');
SELECT * FROM with_key('tid', true, '''(1,1)''', '''(1,2)''', 'NULL', '''(1,1)''');
SELECT * FROM with_key('tsvector', true, '''a b''', '''b a''', 'NULL', '''c''');
-- The extension citext, where it is installed
SELECT count(*) > 0 AS citext FROM pg_available_extensions WHERE name = 'citext' \gset
\if :citext
SET client_min_messages = error;
CREATE EXTENSION citext;
\else
CREATE DOMAIN citext AS text COLLATE nocase;
\endif
RESET client_min_messages;
SELECT * FROM with_key('citext', false, '''a''', '''A''', 'NULL', '''b''', '''B''', '''a''');

-- The representative of a group is one of its rows' while it has rows.
CREATE TABLE t (id int, k text COLLATE nocase, n numeric, v int);
SELECT scalecache.create_rollup('r', 'SELECT k, n, count(*) AS c FROM t GROUP BY k, n');
INSERT INTO t VALUES (1, 'a', 1.0, 1), (2, 'A', 1.00, 1), (3, 'b', 2, 2);
SELECT k COLLATE "C" IN ('a', 'A') AS k, n::text IN ('1.0', '1.00') AS n, c FROM r WHERE k = 'A';
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT c FROM r WHERE k = 'A' AND n = 1;
RESET enable_seqscan;
SELECT c FROM r WHERE k = 'B' AND n = 2.000;
SELECT scalecache.fold_rollup('r') > 0 AS folded;
SELECT k COLLATE "C" IN ('a', 'A') AS k, n::text IN ('1.0', '1.00') AS n, c FROM r WHERE k = 'A';
SELECT c FROM r WHERE k = 'B' AND n = 2.000;
SELECT count(*) FROM r WHERE k COLLATE "C" = 'q';
-- No keys; constants; the same twice; one that is not shown; expressions
SELECT scalecache.create_rollup('r_none', 'SELECT count(*) AS c, max(v) AS m FROM t');
SELECT scalecache.create_rollup('r_having', 'SELECT count(*) AS c FROM t HAVING count(*) > 3');
SELECT scalecache.create_rollup('r_const', 'SELECT 1 AS one, ''x'' AS x, sum(v) AS s FROM t GROUP BY 1, 2');
SELECT scalecache.create_rollup('r_twice', 'SELECT v, v + 0 AS w, count(*) AS c FROM t GROUP BY v, v, v + 0');
SELECT scalecache.create_rollup('r_hidden', 'SELECT sum(v) AS s FROM t GROUP BY v % 2');
SELECT scalecache.create_rollup('r_only', 'SELECT v FROM t GROUP BY v');
SELECT scalecache.create_rollup('r_expr', 'SELECT upper(k) AS u, v % 2 AS odd, sum(v) * 2 + (v % 2) AS s FROM t GROUP BY upper(k), v % 2');
SELECT scalecache.create_rollup('r_case', 'SELECT CASE WHEN v > 2 THEN ''big'' ELSE ''small'' END AS size, count(*) FILTER (WHERE id > 1) AS c FROM t GROUP BY 1');
SELECT r, c.* FROM (SELECT rollup AS r FROM scalecache.rollups) x, checked(r, r <> 'r'::regclass) c ORDER BY r::text;
INSERT INTO t SELECT g, chr(96 + g % 4), g % 3, g % 5 FROM generate_series(10, 30) g;
SELECT r, c.* FROM (SELECT rollup AS r FROM scalecache.rollups) x, checked(r, r <> 'r'::regclass) c ORDER BY r::text;
UPDATE t SET v = v + 1, k = upper(k) WHERE id % 2 = 0;
SELECT r, c.* FROM (SELECT rollup AS r FROM scalecache.rollups) x, checked(r, r <> 'r'::regclass) c ORDER BY r::text;
DELETE FROM t;
SELECT r, c.* FROM (SELECT rollup AS r FROM scalecache.rollups) x, checked(r, r <> 'r'::regclass) c ORDER BY r::text;
SELECT * FROM r_none;
SELECT * FROM r_const;

-- A value added to an enum; one renamed
CREATE TABLE moods (m mood);
SELECT scalecache.create_rollup('by_mood', 'SELECT m, count(*) AS n FROM moods GROUP BY m');
INSERT INTO moods VALUES ('sad');
ALTER TYPE mood ADD VALUE 'fine' BEFORE 'happy';
INSERT INTO moods VALUES ('fine'), ('happy');
SELECT * FROM checked('by_mood');
ALTER TYPE mood RENAME VALUE 'sad' TO 'blue';
INSERT INTO moods VALUES ('blue');
SELECT * FROM checked('by_mood');
SELECT * FROM by_mood ORDER BY m;
-- 32 keys
SELECT 'CREATE TABLE wide (' || string_agg(format('c%s int', g), ', ') || ')' FROM generate_series(1, 33) g \gexec
SELECT format('SELECT scalecache.create_rollup(''by_32'', ''SELECT %1$s, sum(c33) AS s FROM wide GROUP BY %1$s'')',
	string_agg(format('c%s', g), ', ')) FROM generate_series(1, 32) g \gexec
INSERT INTO wide VALUES (1, 2), (1, 2), (1, 3);
SELECT * FROM checked('by_32');

DROP EXTENSION scalecache CASCADE;
SET client_min_messages = error;
DROP EXTENSION IF EXISTS citext;
DROP DOMAIN IF EXISTS citext;
RESET client_min_messages;
DROP FUNCTION with_key;
DROP TABLE t, moods, wide;
DROP TYPE mood, pair;
DROP DOMAIN shorter, short;
DROP COLLATION nocase, german;
DROP FUNCTION same, answered_from, checked, exact, answered, error_of;
