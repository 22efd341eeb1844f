# Many writers of all kinds, folds, and readers that compare each rollup with
# the plain query in one snapshot.  Then a crash, a dump, and DROP DATABASE.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IPC::Run;

my $seconds = $ENV{SCALECACHE_SECONDS} || 15;
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q(
shared_preload_libraries = 'scalecache'
max_prepared_transactions = 50
max_worker_processes = 20
scalecache.fold_delay = 10
fsync = off
));
$node->start;
$node->safe_psql('postgres', q(
CREATE EXTENSION scalecache;
CREATE TABLE t (id bigserial PRIMARY KEY, k int, n numeric, d timestamptz, s text) ;
INSERT INTO t (k, n, d, s) SELECT i % 10, i % 100 / 7.0, '2024-01-01'::timestamptz + i * interval '1 hour', 's' || i % 5 FROM generate_series(1, 2000) i;
SELECT scalecache.create_rollup('r1', 'SELECT k, count(*) AS c, sum(n) AS sn, avg(n) AS an, max(n) AS mx, min(id) AS mi FROM t GROUP BY k');
SELECT scalecache.create_rollup('r2', $$SELECT date_trunc('month', d) AS m, sum(n) AS sn FROM t GROUP BY 1$$);
SELECT scalecache.create_rollup('r3', 'SELECT count(*) AS c, stddev(n) AS sd FROM t WHERE k <> 3');
SELECT scalecache.create_rollup('r4', 'SELECT s, count(DISTINCT k) AS ck FROM t GROUP BY s');
));

my $dir = PostgreSQL::Test::Utils::tempdir;
append_to_file("$dir/rc.sql", q(
\set k random(0, 12)
\set i random(1, 2500)
\set x random(1, 8)
INSERT INTO t (k, n, d, s) VALUES (:k, :i / 3.0, '2024-01-01'::timestamptz + :i * interval '1 hour', 's' || :x);
BEGIN;
INSERT INTO t (k, n, d, s) SELECT :k + g % 2, g, '2024-06-01'::timestamptz, 'm' FROM generate_series(1, :x) g;
SAVEPOINT a;
DELETE FROM t WHERE id = (SELECT id FROM t WHERE id > :i LIMIT 1 FOR UPDATE SKIP LOCKED);
ROLLBACK TO a;
SELECT count(*) FROM r1;
ROLLBACK TO a;
SAVEPOINT b;
UPDATE t SET n = -n, k = k + 1 WHERE id IN (SELECT id FROM t WHERE id > :i ORDER BY id LIMIT 2 FOR UPDATE SKIP LOCKED);
RELEASE b;
END;
BEGIN;
DELETE FROM t WHERE id IN (SELECT id FROM t ORDER BY n DESC LIMIT 1 FOR UPDATE SKIP LOCKED);
ROLLBACK;
DELETE FROM t WHERE id IN (SELECT id FROM t WHERE k = :k ORDER BY n DESC LIMIT :x FOR UPDATE SKIP LOCKED);
));
append_to_file("$dir/2pc.sql", q(
\set k random(0, 12)
\set q random(1, 1000000000)
BEGIN;
INSERT INTO t (k, n, d, s) VALUES (:k, :q, '2025-01-01', 'p');
PREPARE TRANSACTION 'p:client_id';
COMMIT PREPARED 'p:client_id';
));
append_to_file("$dir/rr.sql", q(
\set k random(0, 12)
BEGIN ISOLATION LEVEL SERIALIZABLE;
INSERT INTO t (k, n, d, s) VALUES (:k, :k, '2025-02-01', 'z');
END;
));
append_to_file("$dir/fold.sql", "SELECT scalecache.fold_rollup('r1'), scalecache.fold_rollup('r3');\n");

my @load;
foreach my $job (['rc', 4], ['2pc', 2], ['rr', 2], ['fold', 1])
{
	my ($name, $clients) = @$job;
	my ($out, $err) = ('', '');
	my $run = IPC::Run::start(
		[ 'pgbench', '-n', '-T', $seconds, '-c', $clients, '--max-tries=1000',
		  '-f', "$dir/$name.sql", '-p', $node->port, '-h', $node->host, 'postgres' ],
		'<', \undef, '>', \$out, '2>', \$err);
	push @load, [ $name, $run, \$out, \$err ];
}

# One snapshot: the view from its storage, then from the source.
my $compare = 'BEGIN ISOLATION LEVEL REPEATABLE READ;';
foreach my $r (qw(r1 r2 r3 r4))
{
	$compare .= "CREATE TEMP TABLE a ON COMMIT DROP AS SELECT * FROM $r;
		SET LOCAL scalecache.enable_rollup_scan = off;
		SELECT '$r', count(*) FROM ((TABLE a EXCEPT ALL TABLE $r) UNION ALL (TABLE $r EXCEPT ALL TABLE a)) x HAVING count(*) > 0;
		SET LOCAL scalecache.enable_rollup_scan = on;
		DROP TABLE a;";
}
$compare .= 'COMMIT;';
my ($reads, $wrong) = (0, '');
my $end = time + $seconds;
while (time < $end)
{
	$wrong .= $node->safe_psql('postgres', $compare);
	$reads++;
}
is($wrong, '', "no difference in $reads snapshots");
cmp_ok($reads, '>', 5, 'readers read');
foreach my $l (@load)
{
	my ($name, $run, $out, $err) = @$l;
	$run->finish;
	is($run->result(0), 0, "$name: no error") or diag("$$out $$err");
	like($$out, qr/number of transactions actually processed: [1-9]/, "$name: worked");
	like($$out, qr/number of failed transactions: 0/, "$name: none failed");
}
like($node->safe_psql('postgres', 'EXPLAIN (ANALYZE, COSTS OFF) SELECT * FROM r1'),
	qr/Answered From: rollup/, 'the storage answers');
my $verify = "SELECT sum(scalecache.verify_rollup(rollup)) FROM scalecache.rollups";
is($node->safe_psql('postgres', $verify), '0', 'verified');

# The worker folds by itself, also after a crash.
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', $verify), '0', 'verified after a crash');
$node->safe_psql('postgres', "INSERT INTO t (k, n, d, s) VALUES (1, 1, '2024-01-01', 'x')");
ok($node->poll_query_until('postgres', 'SELECT sum(pending_deltas) = 0 FROM scalecache.rollups'),
	'folded in the background');
my $pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE datname = 'postgres' AND backend_type ~ 'scalecache' LIMIT 1");
isnt($pid, '', 'worker seen');

# A dump restores a rollup that is exact at once and becomes live.
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->run_log([ 'pg_dump', '-p', $node->port, '-h', $node->host, '-f', "$dir/dump.sql", 'postgres' ]);
$node->command_ok([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-p', $node->port, '-h', $node->host, '-f', "$dir/dump.sql", 'copy' ],
	'restored');
ok($node->poll_query_until('copy', "SELECT count(*) = 4 AND bool_and(state = 'live') FROM scalecache.rollups"),
	'rollups of a restored dump are live');
$node->safe_psql('copy', "INSERT INTO t (k, n, d, s) VALUES (1, 1, '2024-01-01', 'x')");
is($node->safe_psql('copy', $verify), '0', 'verified after restoring');
$node->safe_psql('postgres', 'DROP DATABASE copy');
pass('dropped the database');
$node->stop;
done_testing();
