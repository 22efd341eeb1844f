-- One delta a transaction goes straight into the page where the last one went.
-- Nothing that happens to the table or the page meanwhile may get lost.
CREATE EXTENSION scalecache;
CREATE TABLE appended (id int, k int, t text, u uuid, v numeric);
SELECT scalecache.create_rollup('appended_ints',
	'SELECT k, count(*) AS n, sum(v) AS total FROM appended GROUP BY k');
SELECT scalecache.create_rollup('appended_mixed',
	'SELECT u, k, count(*) AS n, max(v) AS top FROM appended GROUP BY u, k');
SELECT scalecache.create_rollup('appended_texts',
	'SELECT t, count(*) AS n, sum(id) AS total FROM appended GROUP BY t');

CREATE FUNCTION differ() RETURNS bigint LANGUAGE sql AS $$
	SELECT sum(scalecache.verify_rollup(rollup)) FROM scalecache.rollups
	WHERE rollup::text LIKE 'appended%' $$;

CREATE PROCEDURE append(lo int, hi int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN lo .. hi LOOP
		INSERT INTO appended VALUES (i, nullif(i % 5, 0),
			CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN repeat('x', i) ELSE 't' || i % 3 END,
			CASE i % 3 WHEN 0 THEN NULL ELSE ('00000000-0000-0000-0000-00000000000' || i % 3)::uuid END,
			nullif(i, 7) / 100.0);
		COMMIT;
	END LOOP;
END $$;

-- Pages become full, and new ones follow.
CALL append(1, 400);
SELECT differ();
SELECT * FROM appended_ints ORDER BY k;
SELECT u, sum(n), max(top) FROM appended_mixed GROUP BY u ORDER BY u;
SELECT count(*), sum(n), sum(total) FROM appended_texts;

-- A page that is known to be visible to all: what an aborted transaction
-- leaves there is not.
SELECT delta1::regclass AS delta FROM scalecache.rollup
WHERE rollup = 'appended_ints'::regclass \gset
VACUUM :delta;
BEGIN;
SAVEPOINT a;
INSERT INTO appended VALUES (401, 4711, 'aborted', NULL, 1);
RELEASE a;
ROLLBACK;
SELECT count(*) FROM :delta WHERE k1 = 4711;
CALL append(401, 404);
SELECT differ();

-- The table gets another file, or none of its pages stays.
VACUUM FULL :delta;
CALL append(405, 408);
SELECT differ();
BEGIN;
TRUNCATE appended;
INSERT INTO appended VALUES (1, 1, 'truncated', NULL, 1);
ROLLBACK;
CALL append(409, 412);
SELECT differ();
VACUUM (TRUNCATE on) :delta;
CALL append(413, 416);
SELECT differ();

-- Other ways to commit
BEGIN ISOLATION LEVEL SERIALIZABLE;
INSERT INTO appended VALUES (417, 1, 'serializable', NULL, 1);
COMMIT;
BEGIN;
INSERT INTO appended VALUES (418, 2, 'released', NULL, 2);
SAVEPOINT a;
INSERT INTO appended VALUES (419, 3, 'released', NULL, 3);
RELEASE a;
SAVEPOINT b;
INSERT INTO appended VALUES (420, 3, 'rolled back', NULL, 3);
ROLLBACK TO b;
COMMIT;
SELECT differ();

-- Emptied in the same transaction
BEGIN;
TRUNCATE appended;
INSERT INTO appended VALUES (421, 1, 'after', NULL, 1);
COMMIT;
SELECT * FROM appended_ints ORDER BY k;
SELECT differ();

DROP TABLE appended CASCADE;
DROP FUNCTION differ;
DROP PROCEDURE append;
DROP EXTENSION scalecache;
