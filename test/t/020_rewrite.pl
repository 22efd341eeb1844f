# Random queries that rollups may answer, under concurrent writers of every
# kind and folds: with the rewrite and without it, in one snapshot.
#
# SCALECACHE_TEST_SECONDS is the time of the load, 15 by default; more when too
# little has happened then.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use ScaleCache;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = $ENV{SCALECACHE_TEST_SECONDS} || 15;
my $node = new_server('rewrite', conf => q{
TimeZone = 'Europe/Berlin'
jit = off
extra_float_digits = 0
});

$node->safe_psql('postgres', q{
CREATE EXTENSION scalecache;
CREATE TABLE t (id bigserial PRIMARY KEY, at timestamptz NOT NULL, local timestamp, day date, k int, c text, v numeric(12,2), n int);
INSERT INTO t (at, local, day, k, c, v, n)
SELECT timestamptz '2023-10-01' + i * interval '31 minutes', timestamp '2024-01-01' + i * interval '13 minutes', date '2023-11-11' + i % 600,
	i % 11, (array['a', 'b', 'c', NULL])[1 + i % 4], i % 1000 / 4.0, i % 20
FROM generate_series(1, 40000) i;
CREATE INDEX ON t (at);
CREATE INDEX ON t (local);
ANALYZE t;
SELECT scalecache.create_rollup('r_month', $$SELECT date_trunc('month', at) AS m, sum(v) AS s FROM t GROUP BY 1$$);
SELECT scalecache.create_rollup('r_day', $$SELECT date_trunc('day', at) AS d, c, sum(v) AS s, count(*) AS r, min(n) AS lo,
	max(at) AS last, variance(n) AS x, count(DISTINCT k) AS u FROM t GROUP BY 1, 2$$);
SELECT scalecache.create_rollup('r_hour', $$SELECT date_trunc('hour', at) AS h, sum(v) AS s, count(n) AS r, max(n) AS hi
	FROM t WHERE k > 3 GROUP BY 1$$);
SELECT scalecache.create_rollup('r_key', $$SELECT k, c, sum(v) AS s, avg(n) AS a, count(*) AS r, max(v) AS hi, min(at) AS first,
	bool_and(n < 19) AS b FROM t GROUP BY 1, 2$$);
SELECT scalecache.create_rollup('r_local', $$SELECT local::date AS d, k % 3 AS k3, sum(n) AS s, max(c) AS m FROM t GROUP BY 1, 2$$);
SELECT scalecache.create_rollup('r_date', $$SELECT date_trunc('month', day)::date AS m, c, sum(v) AS s, count(*) AS r, sum(n) AS n FROM t GROUP BY 1, 2$$);
SELECT scalecache.create_rollup('r_bin', $$SELECT date_bin('6 hours', at, timestamptz '2000-01-01 UTC') AS b, sum(v) AS s, count(*) AS r FROM t GROUP BY 1$$);
VACUUM ANALYZE;

CREATE TABLE checks (query text, used bool, ragged bool, same bool);
CREATE FUNCTION pick(VARIADIC a text[]) RETURNS text LANGUAGE sql VOLATILE AS
	'SELECT a[1 + floor(random() * cardinality(a))::int]';
CREATE FUNCTION sample(n int, VARIADIC a text[]) RETURNS text[] LANGUAGE sql VOLATILE AS
	'SELECT array_agg(x) FROM (SELECT x FROM unnest(a) x ORDER BY random() LIMIT n) y';

CREATE FUNCTION random_query() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	keys text[];
	aggs text[];
	quals text[] := '{}';
	all_columns text[];
	edge text;
	query text;
	family int := floor(random() * 7);
BEGIN
	IF random() < 0.1 THEN
		RETURN (SELECT rtrim(pg_get_viewdef(rollup), ';') FROM scalecache.rollups ORDER BY random() LIMIT 1);
	END IF;
	edge := pick('''2024-01-01''', '''2024-03-31''', '''2024-04-01''', '''2024-10-27''', '''2024-10-28 00:00''',
		'''2025-03-30 01:00''', '''2024-06-15 13:00''', '''2024-02-29 23:59:59.999999''', 'date ''2024-07-01''',
		'now() - interval ''600 days''', 'date_trunc(''month'', timestamptz ''2025-01-17'')');
	IF family < 3 THEN
		keys := sample(floor(random() * 3)::int, 'date_trunc(''month'', at)', 'date_trunc(''year'', at)', 'date_trunc(''week'', at)',
			'date_trunc(''quarter'', at)', 'extract(year FROM at)', 'at::date', 'to_char(at, ''YYYY-MM'')',
			'extract(dow FROM at)', 'extract(hour FROM at)', 'date_trunc(''day'', at)', 'c', 'upper(c)', 'date_trunc(''month'', at AT TIME ZONE ''Europe/Berlin'')');
		aggs := sample(1 + floor(random() * 4)::int, 'sum(v)', 'count(*)', 'avg(v)', 'min(n)', 'max(at)', 'avg(n)', 'stddev(n)', 'sum(n)',
			'count(1)', 'min(c)', 'count(DISTINCT c)', 'count(DISTINCT date_trunc(''month'', at))', 'max(date_trunc(''day'', at))', 'sum(v) / nullif(count(*), 0)', 'count(DISTINCT k)',
			'sum(v) FILTER (WHERE c = ''a'')', 'sum(CASE WHEN c = ''b'' THEN v ELSE 0 END)', 'sum(CASE c WHEN ''a'' THEN 1 WHEN ''b'' THEN 2 END)',
			'count(*) FILTER (WHERE date_trunc(''month'', at) > ''2024-04-01'')', 'avg(CASE WHEN c > ''a'' THEN n END)',
			'sum(v) FILTER (WHERE at >= ''2024-05-01'')', 'sum(CASE WHEN at::date < ''2024-10-28'' THEN v ELSE 1 END)', 'count(n)', 'count(v)', 'sum(v::numeric)');
		IF random() < 0.6 THEN
			quals := quals || format('at %s %s', pick('>=', '<', '>', '<='), edge);
		END IF;
		IF random() < 0.3 THEN
			quals := quals || format('at >= %L AND at < %L', timestamptz '2023-10-01' + random() * interval '300 days',
				timestamptz '2024-08-01' + random() * interval '300 days');
		END IF;
		IF random() < 0.3 THEN
			quals := quals || format(pick('at::date %1$s date %2$L', 'date_trunc(''day'', at) %1$s %2$L', 'date_trunc(''week'', at) %1$s %2$L', 'at::timestamp %1$s %2$L',
				'(at %1$s %2$L OR c = ''b'')', '(at::date %1$s date %2$L) IS NOT TRUE', 'NOT (at %1$s %2$L AND c IS NOT NULL)'),
				pick('>=', '<', '>', '<=', '='), pick('2024-01-01', '2024-03-31', '2024-04-01', '2024-10-27', '2024-10-28', '2025-03-31', '2024-12-02'));
		END IF;
		IF random() < 0.3 THEN
			quals := quals || pick('c = ''a''', 'c IN (''a'', ''b'')', 'c IS NULL', 'c > ''a''', 'extract(year FROM at) = 2024',
				'date_trunc(''month'', at) = ''2024-05-01''');
		END IF;
		IF family = 2 THEN
			quals := quals || pick('k > 3', 'k > 3 AND at > ''2024-01-01''', 'k > 4');
			aggs := sample(2, 'sum(v)', 'count(n)', 'max(n)', 'avg(v)', 'max(date_trunc(''hour'', at))');
			keys := array_remove(array_remove(keys, 'c'), 'upper(c)');
		END IF;
	ELSIF family = 3 THEN
		keys := sample(floor(random() * 3)::int, 'k', 'c', 'k % 2', 'c || k', 'CASE WHEN k > 5 THEN c END');
		aggs := sample(1 + floor(random() * 4)::int, 'sum(v)', 'avg(n)', 'count(*)', 'max(v)', 'min(at)', 'bool_and(n < 19)', 'sum(n)',
			'max(k)', 'min(c)', 'avg(v)', 'sum(DISTINCT k)', 'count(DISTINCT c)', 'sum(k)', 'avg(k * 1.5)', 'avg(v) FILTER (WHERE k > 5)', 'count(c)',
			'max(CASE WHEN k = 1 THEN v ELSE 0 END)', 'sum(CASE WHEN c = ''a'' THEN n WHEN k = 2 THEN 3 END)', 'sum(n) FILTER (WHERE k % 2 = 0 OR c = ''b'')');
		quals := sample(floor(random() * 3)::int, 'k > 3', 'k IN (1, 2, 9)', 'c = ''b''', 'c IS NOT NULL', 'k = 5', 'k % 2 = 0 OR c = ''a''');
	ELSIF family = 4 THEN
		keys := sample(floor(random() * 3)::int, 'date_trunc(''month'', day)', 'date_trunc(''month'', day)::date', 'extract(year FROM day)', 'to_char(day, ''YYYY-MM'')', 'c');
		aggs := sample(1 + floor(random() * 3)::int, 'sum(v)', 'count(*)', 'avg(n)', 'sum(v * 1.19)', 'sum(n::bigint * 2) FILTER (WHERE c = ''a'')', 'count(CASE WHEN c = ''a'' THEN v WHEN c = ''b'' THEN 1 END)', 'sum(v) FILTER (WHERE day < ''2024-05-01'')');
		quals := sample(floor(random() * 3)::int, 'day >= ''2024-01-01''', 'day <= ''2024-06-30''', 'day < date ''2024-01-01'' + interval ''5 months''', 'day > ''2024-02-11''', 'c IS NOT NULL', 'extract(year FROM day) = 2024', '(day >= ''2024-03-01'' OR c = ''a'')');
	ELSIF family = 5 THEN
		keys := sample(floor(random() * 3)::int, 'date_bin(''6 hours'', at, timestamptz ''2000-01-01 UTC'')', 'date_bin(''1 day'', at, timestamptz ''2024-01-01 18:00 UTC'')', 'date_trunc(''month'', at, ''UTC'')', 'extract(dow FROM at AT TIME ZONE ''UTC'')');
		aggs := sample(1 + floor(random() * 2)::int, 'sum(v)', 'count(*)', 'avg(v)', 'sum(v * 2)');
		quals := sample(floor(random() * 3)::int, 'at >= ''2024-01-01 06:00 UTC''', 'at < ''2024-10-27 02:30''', 'at >= date ''2024-02-03''', '(at AT TIME ZONE ''UTC'')::date <= ''2024-10-27''');
	ELSE
		keys := sample(floor(random() * 3)::int, 'local::date', 'date_trunc(''month'', local)', 'k % 3', 'extract(month FROM local)', 'to_char(local, ''IYYY-IW'')');
		aggs := sample(1 + floor(random() * 3)::int, 'sum(n)', 'max(c)', 'avg(n)', 'count(*)', 'max(local::date)');
		quals := sample(floor(random() * 2)::int, 'k % 3 = 1', 'local::date > ''2024-05-05''', 'local >= ''2024-06-01''', 'local < ''2024-06-01 12:00''');
	END IF;
	all_columns := coalesce(keys, '{}') || aggs;
	query := 'SELECT ' || (SELECT string_agg(x || ' AS x' || i, ', ') FROM unnest(all_columns) WITH ORDINALITY u (x, i)) || ' FROM t';
	IF cardinality(quals) > 0 THEN
		query := query || ' WHERE ' || array_to_string(quals, ' AND ');
	END IF;
	IF cardinality(keys) > 0 THEN
		query := query || ' GROUP BY ' || CASE WHEN random() < 0.7 THEN array_to_string(keys, ', ')
			ELSE format(pick('ROLLUP (%s)', 'CUBE (%s)', 'GROUPING SETS ((%s), ())', 'GROUPING SETS ((), (%s), (), %2$s)'),
				array_to_string(keys, ', '), keys[1]) END;
	END IF;
	IF random() < 0.2 THEN
		query := query || pick(' HAVING count(*) > 5', ' HAVING sum(v) > 100', ' HAVING max(c) IS NOT NULL');
	END IF;
	IF random() < 0.3 THEN
		query := format(pick('SELECT * FROM (%1$s) y WHERE x1 IS NOT NULL', 'WITH w AS MATERIALIZED (%1$s) SELECT w.*, count(*) OVER (PARTITION BY x1) FROM w',
			'(%1$s) UNION ALL (%1$s)', 'SELECT * FROM generate_series(0, 3) d CROSS JOIN LATERAL (%2$s) y', 'SELECT * FROM generate_series(0, 3) d WHERE EXISTS (%2$s HAVING count(*) > 2000)'),
			query, format('SELECT sum(v) AS s, count(*) AS r FROM t WHERE %s', pick('k = d', 'k < d AND c = ''a''', 'at >= timestamptz ''2024-03-01'' + d * interval ''15 days''',
			'day < date ''2024-03-01'' + d', 'local::date >= date ''2024-03-01'' + d AND k % 3 = 1')));
	END IF;
	RETURN (query);
END $$;

CREATE FUNCTION check_one() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	query text := random_query();
	rows text := format('SELECT array_agg(whole_row::text ORDER BY whole_row::text) FROM (%s) whole_row', query);
	a text[];
	b text[];
	alone text[] := '{}';
	r record;
	line text;
	used bool := false;
	ragged bool := false;
BEGIN
	EXECUTE rows INTO a;
	-- By itself it may be answered in another way than as a part of another.
	FOR r IN EXECUTE query LOOP
		alone := alone || r::text;
	END LOOP;
	SELECT array_agg(x ORDER BY x) INTO alone FROM unnest(alone) x;
	FOR line IN EXECUTE 'EXPLAIN (ANALYZE, TIMING OFF) ' || query LOOP
		used := used OR line ~ 'Answered From: rollup';
		ragged := ragged OR line ~ 'Rows Added From Source';
	END LOOP;
	PERFORM set_config('scalecache.enable_rewrite', 'off', true);
	EXECUTE rows INTO b;
	INSERT INTO checks VALUES (query, used, ragged, a IS NOT DISTINCT FROM b AND alone IS NOT DISTINCT FROM b);
END $$;
});

my $writer = script($node, 'writer', q{
\set i random(1, 42000)
\set k random(0, 10)
\set n random(0, 19)
\set d random(0, 700)
INSERT INTO t (at, local, day, k, c, v, n) VALUES (timestamptz '2023-10-01' + :d * interval '1 day', timestamp '2024-01-01' + :d * interval '11 hours',
	date '2023-12-01' + :d, :k, chr(97 + :k % 4), :n / 4.0, :n);
UPDATE t SET v = v + :n, n = :n, at = at + interval '7 hours' WHERE id = :i;
DELETE FROM t WHERE id = :i + 1;
BEGIN;
UPDATE t SET c = nullif(chr(97 + :n % 4), 'd'), k = :k WHERE id BETWEEN :i AND :i + 5;
SAVEPOINT a;
DELETE FROM t WHERE id = :i + 3;
ROLLBACK TO a;
COMMIT;
});
my $own = script($node, 'own', q{
\set i random(1, 42000)
BEGIN ISOLATION LEVEL REPEATABLE READ;
INSERT INTO t (at, k, c, v, n) VALUES (timestamptz '2024-05-05' + :i * interval '1 minute', :i % 11, 'b', :i, :i % 30);
SELECT check_one();
DELETE FROM t WHERE id = :i;
SELECT check_one();
COMMIT;
});
my $reader = script($node, 'reader', q{
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT check_one();
COMMIT;
});

run_loads($node, 'rewrite',
	seconds => $seconds,
	loads => {
		writers => { least => 100, args => [ '-c', 3, '-f', $writer ] },
		readers => { least => 200, args => [ '-c', 2, '-f', $reader ] },
		own => { least => 50, may_fail => 1, args => [ '-c', 1, '--max-tries=1', '-f', $own ] } });

my $count = sub { $node->safe_psql('postgres', "SELECT count(*) FROM checks WHERE $_[0]") };
my ($all, $used, $ragged) = ($count->('true'), $count->('used'), $count->('ragged'));
note("$all comparisons, $used answered from a rollup, $ragged with rows of the table");
cmp_ok($used, '>', $all / 10, 'many were answered from a rollup');
is($node->safe_psql('postgres', 'SELECT DISTINCT query FROM checks WHERE NOT same ORDER BY 1 LIMIT 10'),
	'', 'no differences');
verified($node, 'postgres', 'in the end');
no_deadlock($node);
$node->stop;
done_testing();
