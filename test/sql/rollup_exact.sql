-- Sums that never drift, and everything that a sum cannot hold.
CREATE EXTENSION scalecache;
\getenv srcdir PG_ABS_SRCDIR
\set helper :srcdir /helper.sql
\set ECHO none
\i :helper
\set ECHO all
ALTER SYSTEM SET scalecache.worker = off;
SELECT pg_reload_conf();
SET client_min_messages = warning;

-- floats: the exact sum, rounded once, whatever came and went
CREATE TABLE f (id serial PRIMARY KEY, k int, m bigint, e int, d float8, r float4);
SELECT scalecache.create_rollup('fs', 'SELECT k, sum(d) AS d, sum(r) AS r, avg(d) AS a, count(*) AS n FROM f GROUP BY k');
CREATE FUNCTION add(n int, seed float8) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM setseed(seed);
	INSERT INTO f (k, m, e, d, r)
	SELECT k, m, e, m * power(2::float8, e), ((m / 1000000000) * power(2::float8, e % 40))::float4
	FROM (SELECT g % 5 AS k, ((random() - 0.5) * 2 ^ 53)::bigint AS m, (random() * 200)::int AS e
		FROM generate_series(1, n) g OFFSET 0) x;
END $$;
-- exact in numeric, which powers of two not below one are
CREATE VIEW wrong AS
	SELECT k, fs.d, fs.r FROM fs JOIN
		(SELECT k, sum(m * power(2::numeric, e))::float8 AS d, sum((m / 1000000000)::float4::int8 * power(2::numeric, e % 40))::float4 AS r,
			count(*) AS n FROM f GROUP BY k) x USING (k)
	WHERE (fs.d, fs.r, fs.n) IS DISTINCT FROM (x.d, x.r, x.n);
SELECT add(2000, 0.1);
TABLE wrong;
SELECT scalecache.fold_rollup('fs') > 0;
SELECT add(500, 0.2);
DELETE FROM f WHERE e > 150;
TABLE wrong;
SELECT scalecache.fold_rollup('fs') > 0;
DELETE FROM f WHERE id % 3 = 0;
UPDATE f SET k = k + 1 WHERE id % 7 = 0;
TABLE wrong;
DELETE FROM f WHERE e > 2;
TABLE wrong;
SELECT scalecache.fold_rollup('fs') > 0;
TABLE wrong;

-- 1e20 comes and goes; all that is not a number; both zeros; out of range and back
TRUNCATE f;
INSERT INTO f (k, d, r) VALUES (1, 1e20, 1e20), (1, 1, 1);
DELETE FROM f WHERE d = 1e20;
SELECT d, r FROM fs;
INSERT INTO f (k, d, r) VALUES (1, 'NaN', 'NaN'), (1, 'Infinity', 'Infinity'), (1, '-Infinity', '-Infinity'), (1, 4.9e-324, 1e-45), (1, -0.0, '-0');
SELECT d, r, a FROM fs;
DELETE FROM f WHERE d = 'NaN';
SELECT d, r, a FROM fs;
DELETE FROM f WHERE d = '-Infinity';
SELECT scalecache.fold_rollup('fs') > 0;
SELECT d, r, a FROM fs;
DELETE FROM f WHERE d = 'Infinity';
SELECT d, r FROM fs;
DELETE FROM f WHERE d = 1;
SELECT d, r FROM fs;
DELETE FROM f WHERE d > 0;
SELECT d, r FROM fs;
INSERT INTO f (k, d, r) VALUES (2, 1.7e308, 3e38), (2, 1.7e308, 3e38), (2, NULL, NULL), (3, 1, 1);
SELECT k, d, r FROM fs WHERE k <> 2 ORDER BY k;
SELECT k, d, r FROM fs ORDER BY k;
SELECT k, n FROM fs ORDER BY k;
SELECT scalecache.fold_rollup('fs') > 0;
SELECT k, d, r FROM fs ORDER BY k;
SELECT k, n FROM fs WHERE n > 0 ORDER BY k;
SELECT k FROM fs WHERE d > 0 ORDER BY k;
INSERT INTO f (k, d, r) VALUES (2, -1.7e308, -3e38);
SELECT k, d, r FROM fs ORDER BY k;
DELETE FROM f WHERE k = 2 AND d IS NOT NULL;
SELECT k, d, r FROM fs ORDER BY k;

-- numerics: display scale, NaN, infinities; integers beyond their type
CREATE TABLE n (id serial PRIMARY KEY, k int, v numeric, i2 smallint, i4 int, i8 bigint, m money, iv interval, b boolean, bits bigint);
SELECT scalecache.create_rollup('ns', $$
	SELECT k, sum(v) AS s, avg(v) AS a, variance(v) AS var, stddev_pop(v) AS sd, sum(i2) AS s2, sum(i4) AS s4, avg(i4) AS a4,
		stddev(i2) AS d2, sum(i8) AS s8, avg(i8) AS a8, var_pop(i8) AS v8, sum(m) AS m, sum(iv) AS iv, avg(iv) AS aiv,
		bool_and(b) AS ba, bool_or(b) AS bo, every(b) AS ev, bit_and(bits) AS band, bit_or(bits) AS bor, bit_xor(bits) AS bx,
		min(v) AS lo, max(v) AS hi, min(m) AS lom, max(iv) AS hiv, count(v) AS c
	FROM n GROUP BY k $$);
INSERT INTO n (k, v, i2, i4, i8, m, iv, b, bits)
SELECT g % 3, g / 7.0, g, g * 1000000, g * 9000000000000000, g, g * interval '1 month 2 days 3 hours', g % 5 > 0, g * 123456789::bigint
FROM generate_series(1, 60) g;
SELECT exact('ns');
INSERT INTO n (k, v) VALUES (1, 1.0000000000), (1, 'NaN'), (2, 'Infinity'), (2, '-Infinity'), (0, 1e300), (0, 1e-300);
SELECT exact('ns');
DELETE FROM n WHERE v = 'NaN' OR v = '-Infinity';
SELECT exact('ns');
SELECT scalecache.fold_rollup('ns') > 0;
DELETE FROM n WHERE v = 'Infinity' OR v > 1e200 OR (v > 0 AND v < 1e-200);
SELECT exact('ns');
DELETE FROM n WHERE scale(v) = 10;
SELECT exact('ns');
UPDATE n SET v = -v, i8 = -i8, iv = -iv, b = NOT b, bits = -bits WHERE id % 2 = 0;
SELECT exact('ns');
INSERT INTO n (k, i8) SELECT 1, 9223372036854775807 FROM generate_series(1, 5);
INSERT INTO n (k, m) SELECT 2, '92233720368547758.07' FROM generate_series(1, 2);
SELECT k, s8 FROM ns WHERE k = 1;
SELECT k, m FROM ns WHERE k = 2;
SELECT scalecache.fold_rollup('ns') > 0;
SELECT k, s8 FROM ns WHERE k = 1;
SELECT k, m FROM ns WHERE k = 2;
DELETE FROM n WHERE i8 = 9223372036854775807 OR m > '92233720368547758.00';
SELECT exact('ns');
DELETE FROM n WHERE k = 0;
UPDATE n SET v = NULL, i2 = NULL, i4 = NULL, i8 = NULL, m = NULL, iv = NULL, b = NULL, bits = NULL WHERE k = 1;
SELECT exact('ns');
SELECT scalecache.fold_rollup('ns') > 0;
SELECT exact('ns');

-- two arguments
CREATE TABLE xy (id serial, k int, x float8, y float8);
SELECT scalecache.create_rollup('r', $$
	SELECT k, regr_count(y, x) AS n, round(regr_slope(y, x)::numeric, 8) AS b, round(regr_intercept(y, x)::numeric, 6) AS a,
		round(regr_r2(y, x)::numeric, 8) AS r2, round(corr(y, x)::numeric, 8) AS c, round(covar_pop(y, x)::numeric, 6) AS cp,
		round(covar_samp(y, x)::numeric, 6) AS cs, round(regr_sxx(y, x)::numeric, 6) AS sxx, round(regr_syy(y, x)::numeric, 6) AS syy,
		round(regr_sxy(y, x)::numeric, 6) AS sxy, round(regr_avgx(y, x)::numeric, 8) AS ax, round(regr_avgy(y, x)::numeric, 8) AS ay
	FROM xy GROUP BY k $$);
INSERT INTO xy (k, x, y) SELECT g % 3, nullif(g, 50), g * 1.5 + g % 7 FROM generate_series(1, 100) g;
SELECT exact('r');
INSERT INTO xy (k, x, y) VALUES (1, 'NaN', 1), (2, 1, 'Infinity'), (0, NULL, 1), (4, 1, 1), (5, NULL, NULL);
SELECT exact('r');
DELETE FROM xy WHERE x = 'NaN' OR y = 'Infinity' OR id % 4 = 0;
SELECT exact('r');
SELECT scalecache.fold_rollup('r') > 0;
SELECT exact('r');

-- where large floats cancel, the query's sums say little: verify_rollup adds up the rows itself
CREATE TABLE ill (id int, k int, x float8, y float8);
SELECT scalecache.create_rollup('ill_sums', $$
	SELECT k, sum(x) AS sx, avg(x) AS ax, stddev(y) AS dy, corr(x, y) AS c, regr_slope(y, x) AS b, count(DISTINCT y) AS n
	FROM ill GROUP BY k $$);
INSERT INTO ill SELECT g, g % 3, (CASE WHEN g % 2 = 0 THEN 1 ELSE -1 END) * (1 + g / 7.0) * 10.0 ^ (g * 7 % 30), 1e15 + g % 7
	FROM generate_series(1, 1000) g;
SELECT scalecache.verify_rollup('ill_sums');
SELECT scalecache.fold_rollup('ill_sums') > 0;
DELETE FROM ill WHERE id % 5 = 0;
UPDATE ill SET x = -x WHERE id % 11 = 0;
SELECT scalecache.verify_rollup('ill_sums');
SELECT scalecache.fold_rollup('ill_sums') > 0;
SELECT scalecache.verify_rollup('ill_sums');
-- distinct ones too, with few values and with many
CREATE TABLE ill_set (k int, x float8);
INSERT INTO ill_set SELECT k, s * 10.0 ^ (g % 20) * (1 + g / 7.0)
	FROM generate_series(1, 2) k, generate_series(1, 12 * k * k) g, (VALUES (1), (-1)) v(s);
INSERT INTO ill_set SELECT k, 0.1 * g FROM generate_series(1, 2) k, generate_series(1, 5) g;
SELECT scalecache.create_rollup('ill_distinct',
	'SELECT k, sum(DISTINCT x) AS s, avg(DISTINCT x) AS a, count(*) AS n FROM ill_set GROUP BY k');
SELECT scalecache.verify_rollup('ill_distinct');
INSERT INTO ill_set SELECT k, 0.1 * g FROM generate_series(1, 2) k, generate_series(4, 9) g;
SELECT scalecache.verify_rollup('ill_distinct');
SELECT scalecache.fold_rollup('ill_distinct') > 0;
SELECT scalecache.verify_rollup('ill_distinct');
SELECT k, n, s BETWEEN 4.4 AND 4.6 AS right FROM ill_distinct ORDER BY k;
-- and still finds a wrong one
SET session_replication_role = replica;
UPDATE scalecache_data.ill_sums SET a1 = a1 * 1.5 WHERE k1 = 1;
UPDATE scalecache_data.ill_distinct SET a1 = a1 + 1 WHERE k1 = 2;
RESET session_replication_role;
SELECT scalecache.verify_rollup('ill_sums'), scalecache.verify_rollup('ill_distinct');

DROP VIEW wrong;
DROP EXTENSION scalecache;
DROP TABLE f, n, xy, ill, ill_set;
DROP FUNCTION same, answered_from, checked, exact, answered, error_of, add;
