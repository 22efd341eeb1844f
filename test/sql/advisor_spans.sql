-- Partial indexes of a range: only where the very same range is asked for again.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
CREATE SCHEMA spans;
SET search_path = spans, public;
SET max_parallel_workers_per_gather = 0;
SET TimeZone = 'UTC';

-- Sales of three years, in no order
CREATE TABLE sale AS SELECT i AS id, i * 7919 % 2000 AS user_id, i * 31 % 400 AS item, '2023-01-01'::date + i * 7907 % 1095 AS day,
	'2023-01-01'::timestamptz + (i * 7907 % 40000) * interval '39 minutes' AS at, i * 37 % 9967 AS price, md5(i::text) AS note
FROM generate_series(1, 40000) i;
VACUUM ANALYZE sale;

-- What fits in a third of what an index of all rows needs, with its reason
CREATE FUNCTION narrow(VARIADIC queries text[], OUT ddl text, OUT reason text) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT regexp_replace(ddl, ' WITH \(fillfactor = 100\)', ''), split_part(reason, '; ', 1)
	FROM scalecache.suggest_indexes(600000, queries) WHERE ddl ~ 'WHERE'
$$;

-- a year, a month, a day, and what has no name
SELECT * FROM narrow('SELECT item, sum(price) FROM sale WHERE day >= ''2024-01-01'' AND day < date ''2024-01-01'' + interval ''1 year'' GROUP BY item');
SELECT * FROM narrow('SELECT item, sum(price) FROM sale WHERE day BETWEEN ''2024-02-01'' AND ''2024-02-29'' GROUP BY item');
SELECT * FROM narrow('SELECT item, sum(price) FROM sale WHERE at >= ''2024-02-01'' AND at < ''2024-02-02'' GROUP BY item');
SELECT * FROM narrow('SELECT item, sum(price) FROM sale WHERE day > ''2024-02-01'' AND day <= ''2024-05-01'' GROUP BY item');
SELECT * FROM narrow('SELECT item, count(*) FROM sale WHERE price < 900 GROUP BY item');
SELECT * FROM narrow('SELECT item, count(*) FROM sale WHERE 9000 < price AND day >= ''2025-07-01'' GROUP BY item');
-- The same with another literal proves that it is a parameter; so does $1.
SELECT * FROM narrow('SELECT item, sum(price) FROM sale WHERE day >= ''2024-01-01'' AND day < ''2025-01-01'' GROUP BY item',
	'SELECT item, sum(price) FROM sale WHERE day >= ''2024-01-01'' AND day < ''2025-02-01'' GROUP BY item');
SELECT * FROM narrow('SELECT item, sum(price) FROM sale WHERE day >= $1 AND day < $2 GROUP BY item');
-- but not one in another place
SELECT * FROM narrow('SELECT sum(price) FROM sale WHERE day >= ''2024-01-01'' AND day < ''2024-07-01'' AND item = 7',
	'SELECT sum(price) FROM sale WHERE day >= ''2024-01-01'' AND day < ''2024-07-01'' AND item = 8');
-- What most rows have leaves out too few; who asks is no kind of row.
SELECT * FROM narrow('SELECT item, sum(price) FROM sale WHERE day <= ''2025-10-01'' GROUP BY item');
SELECT * FROM narrow('SELECT sum(price) FROM sale WHERE user_id = 7');
SELECT * FROM narrow('SELECT sum(price) FROM sale WHERE at = ''2024-02-01 00:30''');
-- Where there is space, one that serves other ranges, too
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT item, sum(price) FROM sale WHERE day >= ''2024-01-01'' AND day < ''2025-01-01'' GROUP BY item']);
-- It is used for what it was made for, and costs what was said.
CREATE FUNCTION holds(query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	r record;
	plan json;
	said float8;
BEGIN
	FOR r IN SELECT ddl, cost_after FROM scalecache.suggest_indexes(600000, ARRAY[query]) LOOP
		EXECUTE r.ddl;
		said := r.cost_after;
	END LOOP;
	EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
	RAISE EXCEPTION USING errcode = 'ZZ001', message = (abs((plan->0->'Plan'->>'Total Cost')::float8 / said - 1) < 0.02)::text;
EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
	RETURN sqlerrm;
END $$;
SELECT holds('SELECT item, sum(price) FROM sale WHERE day >= ''2024-01-01'' AND day < date ''2024-01-01'' + interval ''1 year'' GROUP BY item') AS year,
	holds('SELECT item, sum(price) FROM sale WHERE at >= ''2024-02-01'' AND at < ''2024-03-01'' GROUP BY item') AS month;

-- Recorded statements: a literal may be another one next time, unless it has been the same some times ...
SET scalecache.advisor_sample_rate = 1;
CREATE FUNCTION told() RETURNS text LANGUAGE sql SET scalecache.advisor_record = off AS $$
	SELECT string_agg(substring(ddl FROM 'WHERE .*'), '; ' ORDER BY ddl) FROM scalecache.suggest_indexes(600000)
$$;
SELECT scalecache.reset_workload();
SELECT item, sum(price) FROM sale WHERE price < 900 GROUP BY item \g /dev/null
SELECT told() AS once;
SELECT item, sum(price) FROM sale WHERE price < 900 GROUP BY item \g /dev/null
SELECT item, sum(price) FROM sale WHERE price < 900 GROUP BY item \g /dev/null
SELECT told() AS three_times;
SELECT item, sum(price) FROM sale WHERE price < 901 GROUP BY item \g /dev/null
SELECT told() AS not_always;
-- ... which of times is no proof within a day
SELECT scalecache.reset_workload();
SELECT item, sum(price) FROM sale WHERE day >= '2024-01-01' AND day < '2024-07-01' GROUP BY item \g /dev/null
SELECT item, sum(price) FROM sale WHERE day >= '2024-01-01' AND day < '2024-07-01' GROUP BY item \g /dev/null
SELECT item, sum(price) FROM sale WHERE day >= '2024-01-01' AND day < '2024-07-01' GROUP BY item \g /dev/null
SELECT told() AS today;
-- What is no parameter beside parameters was written on purpose, but "since" passes.
SELECT scalecache.reset_workload();
PREPARE half(int) AS SELECT sum(price) FROM sale WHERE day >= '2024-01-01' AND day < '2024-07-01' AND item = $1;
EXECUTE half(7);
EXECUTE half(8);
SELECT told() AS written;
SELECT scalecache.reset_workload();
PREPARE since(int) AS SELECT sum(price) FROM sale WHERE day >= '2025-07-01' AND item = $1;
EXECUTE since(7);
EXECUTE since(8);
SELECT told() AS since;
-- A parameter is one, however often it was the same.
SELECT scalecache.reset_workload();
PREPARE always(date, date) AS SELECT item, sum(price) FROM sale WHERE day >= $1 AND day < $2 GROUP BY item;
EXECUTE always('2024-01-01', '2024-07-01') \g /dev/null
EXECUTE always('2024-01-01', '2024-07-01') \g /dev/null
EXECUTE always('2024-01-01', '2024-07-01') \g /dev/null
EXECUTE always('2024-01-01', '2024-07-01') \g /dev/null
SELECT told() AS parameter;
SELECT scalecache.reset_workload();

DROP SCHEMA spans CASCADE;
DROP EXTENSION scalecache;
