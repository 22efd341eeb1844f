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
-- No function of ours runs what is first in a caller's search_path, and no
-- table is for everybody.
SELECT p.oid::regprocedure AS unsafe
FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid JOIN pg_language l ON l.oid = p.prolang
WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
	AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'scalecache')
	AND (p.prosecdef OR l.lanname <> 'c')
	AND 'search_path=pg_catalog, pg_temp' <> ALL (coalesce(p.proconfig, '{}'))
ORDER BY 1;
-- Two are: what a dump has of rollups and rules, guarded by triggers.
SELECT c.oid::regclass AS open
FROM pg_depend d JOIN pg_class c ON c.oid = d.objid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
	AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'scalecache')
	AND c.relkind <> 'v' AND EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee = 0)
ORDER BY 1;
-- A rollup is a view like any other.
CREATE TABLE t (k int, created_at timestamptz, v numeric);
SET TimeZone = 'UTC';
SELECT scalecache.create_rollup('by_day', 'SELECT k, date_trunc(''day'', created_at) AS day, sum(v) AS s FROM t GROUP BY 1, 2');
\d by_day
\d+ by_day
DROP EXTENSION scalecache;
DROP TABLE t;
