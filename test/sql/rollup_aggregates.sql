-- Every family of aggregates, kept or recomputed.
CREATE EXTENSION scalecache;
CREATE TABLE t (id int, k int, i4 int, i8 bigint, n numeric, f float8, b boolean, s text, iv interval);
INSERT INTO t SELECT i, i % 5, i * 7 % 101, i * 13 % 999, i % 17 + 0.25, i * 0.5, i % 3 = 0, 's' || i % 9, i * interval '1 hour'
FROM generate_series(1, 500) i;
SELECT scalecache.create_rollup('agg', $$
	SELECT k, count(*) AS c, count(i4) AS c4, sum(i4) AS s4, avg(i4) AS a4, sum(i8) AS s8, avg(i8) AS a8,
		variance(i4) AS v4, stddev_pop(i8) AS d8, sum(n) AS sn, avg(n) AS an, var_samp(n) AS vn,
		sum(iv) AS siv, avg(iv) AS aiv, bool_and(b) AS ba, bool_or(b) AS bo, bit_or(i4) AS bi, bit_and(i8) AS bn,
		min(s) AS mins, max(n) AS maxn, min(id) AS mini,
		sum(i4) FILTER (WHERE b) AS sf, sum(i4) + count(*) * 2 AS expr
	FROM t GROUP BY k HAVING count(*) > 3 $$);
SELECT scalecache.create_rollup('other', $$
	SELECT k, count(DISTINCT s) AS cd, string_agg(s, ',' ORDER BY s, id) AS sa, percentile_cont(0.5) WITHIN GROUP (ORDER BY f) AS p,
		mode() WITHIN GROUP (ORDER BY i4) AS m FROM t GROUP BY k $$);
SELECT scalecache.create_rollup('flt', 'SELECT k, sum(f) AS s, round(avg(f)::numeric, 6) AS a, round(stddev(f)::numeric, 6) AS d, round(corr(f, i4)::numeric, 6) AS r FROM t GROUP BY k');
CREATE FUNCTION same(r text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE q text := rtrim(pg_get_viewdef(r::regclass), ';'); n bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM ((TABLE %1$I EXCEPT ALL (%2$s)) UNION ALL ((%2$s) EXCEPT ALL TABLE %1$I)) x', r, q) INTO n;
	RETURN n = 0 AND scalecache.verify_rollup(r::regclass) = 0;
END $$;
SELECT same('agg'), same('other'), same('flt');
INSERT INTO t SELECT 1000 + i, i % 7, i, NULL, i / 3.0, i, NULL, 'new' || i, NULL FROM generate_series(1, 50) i;
SELECT same('agg'), same('other'), same('flt');
DELETE FROM t WHERE id % 4 = 0;
SELECT same('agg'), same('other'), same('flt');
UPDATE t SET k = k + 1, n = -n WHERE id % 6 = 1;
SELECT same('agg'), same('other'), same('flt');
SELECT scalecache.fold_rollup('agg') >= 0, scalecache.fold_rollup('other') >= 0, scalecache.fold_rollup('flt') >= 0;
SELECT same('agg'), same('other'), same('flt');
DELETE FROM t USING (SELECT k, max(n) AS n FROM t GROUP BY k) m WHERE t.k = m.k AND t.n = m.n;
SELECT same('agg');
DELETE FROM t WHERE k = 2;
SELECT same('agg'), same('other'), same('flt');

-- float sums do not drift; NaN and infinities can be retracted
TRUNCATE t;
INSERT INTO t (id, k, f) VALUES (1, 1, 1e20), (2, 1, 1);
SELECT s FROM flt;
DELETE FROM t WHERE id = 1;
SELECT s FROM flt;
INSERT INTO t (id, k, f) VALUES (3, 1, 'NaN'), (4, 1, 'Infinity');
DELETE FROM t WHERE id IN (3, 4);
SELECT s FROM flt;

-- keys: NULL, equal numerics, jsonb, no key
CREATE TABLE keys (n numeric, j jsonb);
SELECT scalecache.create_rollup('bykeys', 'SELECT n, j, count(*) AS c FROM keys GROUP BY n, j');
SELECT scalecache.create_rollup('total', 'SELECT count(*) AS c, sum(n) AS s FROM keys');
SELECT * FROM total;
INSERT INTO keys VALUES (1.0, '{"a": 1}'), (1.00, '{"a":1.0}'), (NULL, NULL), (NULL, NULL);
SELECT c FROM bykeys ORDER BY n;
SELECT * FROM total;
SELECT same('bykeys'), same('total');
DELETE FROM keys;
SELECT * FROM total;
SELECT count(*) FROM bykeys;

-- partitions
CREATE TABLE p (a int, v int) PARTITION BY RANGE (a);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
CREATE TABLE p2 (v int, a int);
ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (10) TO (20);
INSERT INTO p SELECT i % 20, i FROM generate_series(1, 100) i;
SELECT scalecache.create_rollup('part', 'SELECT a % 2 AS odd, sum(v) AS s FROM p GROUP BY 1');
INSERT INTO p1 VALUES (3, 5);
INSERT INTO p2 (a, v) VALUES (13, 5);
UPDATE p SET a = 15 WHERE a = 4;
SELECT same('part');
CREATE TABLE p3 PARTITION OF p FOR VALUES FROM (20) TO (30);
INSERT INTO p VALUES (25, 1000);
SELECT same('part');
TRUNCATE p1;
SELECT same('part');
ALTER TABLE p DETACH PARTITION p2;
SELECT same('part');
SELECT scalecache.rebuild_rollup('part');
INSERT INTO p VALUES (1, 1);
SELECT same('part');
DROP EXTENSION scalecache;
DROP TABLE t, keys, p, p2;
DROP FUNCTION same;
