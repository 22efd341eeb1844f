-- Advice by what was recorded: the texts and values of executions.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
CREATE SCHEMA told;
SET search_path = told, public;
SET max_parallel_workers_per_gather = 0;
SET scalecache.advisor_sample_rate = 1;
CREATE FUNCTION advice() RETURNS SETOF text LANGUAGE sql AS $$ SELECT ddl FROM scalecache.suggest_indexes() WHERE relation IN (SELECT oid FROM pg_class WHERE relnamespace = 'told'::regnamespace) ORDER BY rank $$;
CREATE VIEW samples AS SELECT calls, text, s->>'text' AS other_text, s->'parameters' AS parameters FROM scalecache.workload, jsonb_array_elements(samples) s WHERE text ~ 'job';
CREATE TABLE job AS SELECT i AS id, i * 7919 % 5000 AS owner, CASE WHEN i % 50 = 0 THEN 'open' ELSE 'done' END AS state, repeat('x', 60) AS pad FROM generate_series(1, 60000) i;
VACUUM ANALYZE job;

-- The first execution had another constant beside its parameter than the others, so neither makes a partial index.
SELECT scalecache.reset_workload();
PREPARE finished(int) AS SELECT pad FROM job WHERE state = 'done' AND owner = $1;
PREPARE unfinished(int) AS SELECT pad FROM job WHERE state = 'open' AND owner = $1;
EXECUTE finished(10001);
EXECUTE unfinished(2);
EXECUTE unfinished(2);
EXECUTE unfinished(2);
EXECUTE unfinished(2);
EXECUTE unfinished(2);
EXECUTE unfinished(2);
EXECUTE unfinished(2);
SELECT * FROM samples ORDER BY parameters->>0;
SELECT advice();
DEALLOCATE ALL;

-- So with the variables of functions.
CREATE FUNCTION finished(who int) RETURNS bigint LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN SELECT count(*) INTO n FROM job WHERE state = 'done' AND owner = who; RETURN n; END $$;
CREATE FUNCTION unfinished(who int) RETURNS bigint LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN SELECT count(*) INTO n FROM job WHERE state = 'open' AND owner = who; RETURN n; END $$;
CREATE FUNCTION both_of(who int, OUT bigint) LANGUAGE sql SET work_mem = '4MB' AS $$ SELECT count(*) FROM job WHERE owner = who AND state = 'done'; SELECT count(*) FROM job WHERE owner = who AND state = 'open' $$;
SELECT scalecache.reset_workload();
SELECT finished(1), unfinished(2), unfinished(3), unfinished(4);
SELECT * FROM samples ORDER BY parameters->>0;
SELECT scalecache.reset_workload();
SELECT both_of(1);
SELECT * FROM samples ORDER BY parameters->>0, other_text;

-- Who asks is not what is asked: a comment at the end makes no other text.  One that ends in a constant stays.
SELECT scalecache.reset_workload();
PREPARE one(int) AS SELECT pad FROM job WHERE owner = $1 /* trace 0af7651916cd43dd */;
EXECUTE one(10001);
DEALLOCATE one;
PREPARE one(int) AS SELECT pad FROM job WHERE owner = $1 /*trace b7ad6b7169203331*/;
EXECUTE one(10001);
PREPARE three(int) AS SELECT pad FROM job WHERE owner = $1 AND pad <> '/*' AND pad <> '*/';
EXECUTE three(10001);
SELECT * FROM samples ORDER BY text;
DEALLOCATE ALL;

DROP SCHEMA told CASCADE;
DROP EXTENSION scalecache;
