-- Everything that users find in the schemas says what it is for.
CREATE EXTENSION scalecache;
SELECT pg_describe_object(classid, objid, 0) AS without_comment
FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'scalecache')
	AND (classid IN ('pg_proc'::regclass, 'pg_namespace'::regclass) OR classid = 'pg_class'::regclass
		AND (SELECT relkind FROM pg_class c WHERE c.oid = objid) IN ('r', 'v'))
	AND obj_description(objid, classid::regclass::name) IS NULL
ORDER BY 1;
-- A rollup is a view like any other.
CREATE TABLE t (k int, created_at timestamptz, v numeric);
SET TimeZone = 'UTC';
SELECT scalecache.create_rollup('by_day', 'SELECT k, date_trunc(''day'', created_at) AS day, sum(v) AS s FROM t GROUP BY 1, 2');
\d by_day
\d+ by_day
DROP EXTENSION scalecache;
DROP TABLE t;
