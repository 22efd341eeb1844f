-- Keys that call functions: who queries the table otherwise need not be able to call them.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /rewrite_helper.sql
\set ECHO none
\i :helper
\set ECHO all
CREATE FUNCTION why_not(query text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT rollup || ': ' || reason FROM scalecache.explain_rewrite(query)
	WHERE NOT used ORDER BY rollup::text
$$;

CREATE SCHEMA aside;
CREATE FUNCTION aside.tens(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 / 10';
-- Bodies that name functions of pg_catalog, of a schema, and what search_path finds
CREATE FUNCTION plain_key(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT abs($1) % 7';
CREATE FUNCTION named_key(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT public.plain_key(aside.tens($1))';
SET check_function_bodies = off;
CREATE FUNCTION loose_key(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT tens($1)';
CREATE FUNCTION atomic_key(int) RETURNS int IMMUTABLE RETURN aside.tens($1) + 1;

CREATE TABLE called (k int, v int);
INSERT INTO called SELECT i % 100, i FROM generate_series(1, 3000) i;
ANALYZE called;
SELECT scalecache.create_rollup('by_plain', 'SELECT plain_key(k) AS key, sum(v) AS s FROM called GROUP BY 1');
SELECT scalecache.create_rollup('by_named', 'SELECT named_key(k) AS key, sum(v) AS s FROM called GROUP BY 1');
SELECT scalecache.create_rollup('by_atomic', 'SELECT atomic_key(k) AS key, sum(v) AS s FROM called GROUP BY 1');
SELECT try($$SELECT plain_key(k), sum(v) FROM called GROUP BY 1$$);
SELECT try($$SELECT named_key(k), sum(v) FROM called GROUP BY 1$$);
SELECT try($$SELECT atomic_key(k), sum(v) FROM called GROUP BY 1$$);

SET search_path = public, aside;
SELECT scalecache.create_rollup('by_loose', 'SELECT loose_key(k) AS key, sum(v) AS s FROM called GROUP BY 1');
SELECT try($$SELECT loose_key(k), sum(v) FROM called GROUP BY 1$$);

-- A session that does not find tens, or another one
\c -
SET client_min_messages = warning;
SELECT sum(v) FROM called;
SELECT try($$SELECT k, count(*) FROM called GROUP BY 1$$);
SELECT loose_key(k), sum(v) FROM called GROUP BY 1;
INSERT INTO called SELECT i, i FROM generate_series(1, 50) i;
SELECT scalecache.verify_rollup('by_loose');
SELECT scalecache.fold_rollup('by_loose') > 0 AS folded;
CREATE SCHEMA other;
CREATE FUNCTION other.tens(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 / 50';
\c -
SET client_min_messages = warning;
SET search_path = public, other;
INSERT INTO called SELECT i, i FROM generate_series(1, 50) i;
SELECT try($$SELECT loose_key(k), sum(v) FROM called GROUP BY 1$$);
ALTER SCHEMA aside RENAME TO "As, ide";
INSERT INTO called SELECT i, i FROM generate_series(1, 50) i;
SET search_path = public, "As, ide";
SELECT try($$SELECT loose_key(k), sum(v) FROM called GROUP BY 1$$);
SELECT scalecache.verify_rollup('by_loose');
SELECT search_path FROM scalecache.rollup WHERE rollup = 'by_loose'::regclass;
ALTER SCHEMA "As, ide" RENAME TO aside;
-- What it calls is missing: for the INSERT, as with an index, but for nothing else.
ALTER FUNCTION aside.tens RENAME TO ten;
\c -
SET client_min_messages = warning;
SELECT try($$SELECT k, count(*) FROM called GROUP BY 1$$);
SET scalecache.enable_rewrite = on;
SELECT why_not($$SELECT plain_key(k), sum(v) FROM called GROUP BY 1$$);
-- of a try that failed no memory is left, of by_atomic and by_plain there is
SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'scalecache forms';
INSERT INTO called VALUES (1, 1);
-- nor of INSERTs, however often they fail
CREATE FUNCTION kept() RETURNS numeric LANGUAGE sql AS $$
	SELECT sum(total_bytes) FROM pg_backend_memory_contexts WHERE name LIKE 'scalecache%' $$;
SELECT kept() AS kept \gset
DO $$ BEGIN
	FOR i IN 1..300 LOOP
		BEGIN
			INSERT INTO called VALUES (1, 1);
		EXCEPTION WHEN undefined_function THEN
		END;
	END LOOP;
END $$;
SELECT kept() - :kept < 100000 AS kept_little;
DROP FUNCTION kept();
CREATE SCHEMA unrelated;
DROP SCHEMA unrelated;
ALTER FUNCTION aside.ten RENAME TO tens;
INSERT INTO called VALUES (1, 1);
SELECT scalecache.verify_rollup('by_loose');

-- Names of pg_catalog that something else hides, from who reads and from who writes
CREATE FUNCTION other.abs(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 / 30';
\c -
SET client_min_messages = warning;
SET search_path = other, public, pg_catalog;
SELECT try($$SELECT plain_key(k), sum(v) FROM called GROUP BY 1$$);
INSERT INTO called SELECT -i, i FROM generate_series(1, 100) i;
UPDATE called SET k = k - 1 WHERE k > 50;
SELECT scalecache.verify_rollup('by_plain');
SELECT scalecache.fold_rollup('by_plain') > 0 AS folded;
SELECT scalecache.verify_rollup('by_plain');
SET search_path = public;
SELECT try($$SELECT plain_key(k), sum(v) FROM called GROUP BY 1$$);

DROP VIEW by_plain, by_named, by_atomic, by_loose;

-- Constants are computed with the rights of the rollup's owner, as in a view that he reads.
CREATE FUNCTION whose(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF current_user <> 'scalecache_caller' THEN
		RAISE 'run by somebody else';
	END IF;
	RETURN $1;
END $$;
CREATE ROLE scalecache_caller;
ALTER TABLE called OWNER TO scalecache_caller;
GRANT ALL ON SCHEMA public TO scalecache_caller;
SET ROLE scalecache_caller;
SELECT scalecache.create_rollup('by_whose', 'SELECT k % whose(5) AS key, sum(v) AS s FROM called GROUP BY 1');
RESET ROLE;
SET scalecache.enable_rewrite = on;
SELECT sum(v) FROM called;
SELECT why_not($$SELECT k, sum(v) FROM called GROUP BY 1$$);

-- A parallel worker cannot find out whether they can be computed at all.
CREATE FUNCTION inner_step(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END';
CREATE FUNCTION step(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN inner_step($1); END';
SELECT scalecache.create_rollup('by_step', 'SELECT k + step(1) AS key, sum(v) AS s FROM called GROUP BY 1');
CREATE OR REPLACE FUNCTION inner_step(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	RAISE 'no step';
END $$;
CREATE FUNCTION total() RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
	RETURN (SELECT sum(v) FROM called);
END $$;
SET force_parallel_mode = on;
SET parallel_leader_participation = off;
SELECT max(total()) FROM generate_series(1, 3);
RESET force_parallel_mode;
RESET parallel_leader_participation;
SELECT total();
SELECT why_not($$SELECT sum(v) FROM called$$);

DROP TABLE called CASCADE;
DROP FUNCTION inner_step, step, total;
DROP SCHEMA aside CASCADE;
DROP SCHEMA other CASCADE;
DROP FUNCTION plain_key, named_key, loose_key, whose, why_not;
REVOKE ALL ON SCHEMA public FROM scalecache_caller;
DROP ROLE scalecache_caller;
DROP FUNCTION answer, rows_of, try;
DROP EXTENSION scalecache;
