# Ragged ranges of a table without an index on the time, read by zones, under
# writers that put rows of any time into any block: with the rewrite and
# without it, in one snapshot.  And zones are not relied on where nothing is
# captured: on a standby, and after it was promoted or the server crashed.
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
my $node = new_server('zones', init => [ allows_streaming => 1 ], conf => q{
TimeZone = 'UTC'
jit = off
max_parallel_workers_per_gather = 0
autovacuum_naptime = 1s
});

# Some ten rows a page, 1,280 a zone.
$node->safe_psql('postgres', q{
CREATE EXTENSION scalecache;
CREATE TABLE t (id bigserial PRIMARY KEY, at timestamptz, local timestamp, note text, v int) WITH (fillfactor = 60);
INSERT INTO t (at, local, note, v) SELECT timestamptz '2024-01-01' + i * interval '44 minutes', timestamp '2024-01-01' + i * interval '44 minutes', repeat('x', 400), i
FROM generate_series(1, 24000) i;
CREATE TABLE p (id bigserial, at timestamptz, note text, v int) PARTITION BY LIST (v);
CREATE TABLE p0 PARTITION OF p FOR VALUES IN (0);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
INSERT INTO p (at, note, v) SELECT timestamptz '2024-01-01' + i * interval '44 minutes', repeat('x', 400), i % 2 FROM generate_series(1, 24000) i;
CREATE TABLE u AS SELECT id, at, note, v FROM t;
SELECT scalecache.create_rollup('u_by_month', $$SELECT date_trunc('month', at) AS m, sum(v) AS s, count(*) AS n FROM u GROUP BY 1$$);
SELECT scalecache.create_rollup('by_month', $$SELECT date_trunc('month', at) AS m, sum(v) AS s, count(*) AS n FROM t GROUP BY 1$$);
SELECT scalecache.create_rollup('by_local', $$SELECT date_trunc('month', local) AS m, sum(v) AS s, count(*) AS n FROM t WHERE v >= 0 GROUP BY 1$$);
SELECT scalecache.create_rollup('p_by_month', $$SELECT date_trunc('month', at) AS m, sum(v) AS s, count(*) AS n FROM p GROUP BY 1$$);
VACUUM ANALYZE;
CREATE TABLE checks (query text, skipped bigint, learned bigint, same bool);
CREATE FUNCTION random_query() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	of text := (array['t at', 't local', 'p at', 'u at'])[1 + floor(random() * 4)::int];
	since timestamp := timestamp '2024-01-01' + random() * interval '600 days';
BEGIN
	RETURN format('SELECT count(*), sum(v) FROM %s WHERE %s >= %L AND %2$s < %4$L%5$s', split_part(of, ' ', 1), split_part(of, ' ', 2),
		since, since + random() * interval '200 days', CASE WHEN of ~ 'local' THEN ' AND v >= 0' ELSE '' END);
END $$;
CREATE FUNCTION check_one() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	query text := random_query();
	a record;
	b record;
	line text;
	skipped bigint;
	learned bigint;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (ANALYZE, TIMING OFF) ' || query LOOP
		IF line ~ 'Blocks Skipped: ' THEN
			skipped := coalesce(skipped, 0) + substring(line FROM ': (\d+)')::bigint;
		ELSIF line ~ 'Blocks Learned: ' THEN
			learned := coalesce(learned, 0) + substring(line FROM ': (\d+)')::bigint;
		END IF;
	END LOOP;
	EXECUTE query INTO a;
	PERFORM set_config('scalecache.enable_rewrite', 'off', true);
	EXECUTE query INTO b;
	IF current_setting('transaction_read_only') = 'off' THEN
		INSERT INTO checks VALUES (query, skipped, learned, a IS NOT DISTINCT FROM b);
	ELSIF a IS DISTINCT FROM b THEN
		RAISE EXCEPTION '% is wrong', query;
	END IF;
END $$;
});
my $copied = $node->basedir . '/copied';
append_to_file($copied, join('', map { sprintf("2024-%02d-%02d\t2025-%02d-11\tcopied\t1\n", 1 + $_ % 12, 1 + $_ % 28, 1 + $_ % 12) } 1 .. 50));

my $writer = script($node, 'writer', qq{
\\set i random(1, 24000)
\\set d random(0, 700)
\\set k random(1, 12)
} . q{
INSERT INTO t (at, local, note, v) VALUES (timestamptz '2024-01-01' + :d * interval '1 day', timestamp '2024-01-01' + :i * interval '30 minutes', '', :d);
INSERT INTO t (at, note, v) VALUES (timestamptz '2024-01-01' + :d * interval '1 day', repeat('y', 300), :d) ON CONFLICT DO NOTHING;
UPDATE t SET at = at + (:d - 350) * interval '1 day' WHERE id = :i;
UPDATE t SET note = repeat('z', :d) WHERE id BETWEEN :i AND :i + 5;
DELETE FROM t WHERE id BETWEEN :i + 100 AND :i + 105;
BEGIN;
INSERT INTO t (at, local, note, v) SELECT timestamptz '2024-01-01' + (:d + i * 10) * interval '1 day', timestamp '2024-01-01' + :i * interval '30 minutes', '', 1 FROM generate_series(1, 5) i;
SAVEPOINT a;
UPDATE t SET local = local + interval '100 days', at = NULL WHERE id = :i + 7;
ROLLBACK TO a;
UPDATE t SET note = 'n' WHERE id BETWEEN :i + 20 AND :i + 25;
COMMIT;
BEGIN;
UPDATE t SET at = timestamptz '2024-01-01' + :d * interval '1 day' WHERE id = :i + 9;
ROLLBACK;
INSERT INTO p (at, note, v) VALUES (timestamptz '2024-01-01' + :d * interval '1 day', '', :d % 2);
UPDATE p SET v = 1 - v, note = repeat('w', :d) WHERE id BETWEEN :i AND :i + 1;
UPDATE p SET note = repeat('v', :d) WHERE id BETWEEN :i + 10 AND :i + 11;
DELETE FROM p WHERE id BETWEEN :i + 200 AND :i + 201;
INSERT INTO u (at, v) VALUES (timestamptz '2024-01-01' + :d * interval '1 day', 1);
} . qq{
COPY t (at, local, note, v) FROM '$copied';
BEGIN;
UPDATE t SET at = timestamptz '2024-01-01' + :d * interval '1 day' WHERE id = :i + 11;
PREPARE TRANSACTION 'z:client_id';
} . q{
COMMIT PREPARED 'z:client_id';
});
my $reader = script($node, 'reader', q{
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT check_one();
COMMIT;
});
# What makes maps anew, or blocks.
my $other = script($node, 'other', q{
VACUUM t;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT check_one();
COMMIT;
SELECT scalecache.rebuild_rollup('by_month');
VACUUM p0;
SELECT scalecache.rebuild_rollup('p_by_month');
SELECT scalecache.rebuild_rollup('by_local');
VACUUM FULL t;
});

run_loads($node, 'zones',
	seconds => $seconds,
	enough => sub { $node->safe_psql('postgres', 'SELECT count(*) > 50 FROM checks WHERE skipped > 0') eq 't' },
	loads => {
		writers => { least => 100, may_deadlock => 1, args => [ '-c', 3, '--max-tries=10', '-f', $writer ] },
		readers => { least => 200, args => [ '-c', 2, '-f', $reader ] },
		other => { least => 5, may_deadlock => 1, args => [ '-c', 1, '--max-tries=10', '-f', $other ] } });
note($node->safe_psql('postgres', 'SELECT count(*), count(*) FILTER (WHERE skipped > 0), count(*) FILTER (WHERE learned > 0), sum(skipped), sum(learned) FROM checks'));
is($node->safe_psql('postgres', 'SELECT DISTINCT query FROM checks WHERE NOT same ORDER BY 1 LIMIT 10'), '', 'no differences');
verified($node, 'postgres', 'in the end');

# A standby reads all, and starts with nothing when it is promoted.
my $check = 'SET enable_indexscan = off; ' . join(' ', ('SELECT check_one();') x 30);
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('zones_standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
$standby->safe_psql('postgres', "BEGIN ISOLATION LEVEL REPEATABLE READ; $check COMMIT;");
$node->safe_psql('postgres', q{UPDATE t SET at = timestamptz '2024-06-17' WHERE id % 50 = 0; UPDATE t SET note = 'moved' WHERE id % 7 = 0});
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
unlike($standby->safe_psql('postgres', "EXPLAIN (ANALYZE) SELECT count(*), sum(v) FROM t WHERE at >= '2024-02-01' AND at < '2024-06-16'"),
	qr/Blocks (Learned|Skipped: [1-9])/, 'a standby skips nothing');
$standby->safe_psql('postgres', "BEGIN ISOLATION LEVEL REPEATABLE READ; $check COMMIT;");
$standby->promote;
$standby->safe_psql('postgres', 'TRUNCATE checks; ' . join(' ', ('SELECT check_one();') x 60));
$standby->safe_psql('postgres', q{UPDATE t SET at = timestamptz '2024-07-17' WHERE id % 60 = 0; } . join(' ', ('SELECT check_one();') x 60));
is($standby->safe_psql('postgres', 'SELECT DISTINCT query FROM checks WHERE NOT same'), '', 'no differences after promotion');
is($standby->safe_psql('postgres', 'SELECT count(*) > 5 FROM checks WHERE skipped > 0'), 't', 'zones are skipped after promotion');
$standby->stop;

# A crash forgets.
$node->stop('immediate');
$node->start;
$node->safe_psql('postgres', 'TRUNCATE checks; ' . join(' ', ('SELECT check_one();') x 60));
is($node->safe_psql('postgres', 'SELECT DISTINCT query FROM checks WHERE NOT same'), '', 'no differences after a crash');
is($node->safe_psql('postgres', 'SELECT count(*) > 0 FROM checks WHERE learned > 0'), 't', 'zones are learned again after a crash');
$node->stop;

# Without memory for them there are none.
$node->append_conf('postgresql.conf', 'scalecache.zone_map_size = 0');
$node->start;
unlike($node->safe_psql('postgres', "EXPLAIN (ANALYZE) SELECT count(*), sum(v) FROM t WHERE at >= '2024-02-01' AND at < '2024-06-16'"),
	qr/ScaleCacheZones/, 'none without memory');
# With too little some are learned again and again.
$node->append_conf('postgresql.conf', 'scalecache.zone_map_size = 9kB');
$node->restart;
$node->safe_psql('postgres', 'TRUNCATE checks; ' . join(' ', ('SELECT check_one();') x 60));
is($node->safe_psql('postgres', 'SELECT count(*) FILTER (WHERE NOT same), count(*) FILTER (WHERE skipped > 0) > 5 FROM checks'), '0|t', 'room for two chunks');
$node->stop;
done_testing();
