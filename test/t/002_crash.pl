# Crashes: of a backend, of the worker, of the whole server in mid-write.
# After each, every rollup is exact and writes go on.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use ScaleCache;
use Test::More;

my $node = new_server('crash', conf => "restart_after_crash = on\n");
$node->safe_psql('postgres', "CREATE EXTENSION scalecache; $TABLE
	INSERT INTO t (k, v) SELECT g % 20, g FROM generate_series(1, 1000) g; $ROLLUPS");

my $script = script($node, 'writer', q{
\set i random(1, 3000)
\set k random(0, 19)
BEGIN;
INSERT INTO t (k, v) SELECT :k, g FROM generate_series(1, 5) g;
UPDATE t SET k = :k, v = v + 1 WHERE id = :i;
COMMIT;
DELETE FROM t WHERE id = :i + 1;
});

# Start writers, and wait until they have committed something.
sub start_writers
{
	my $before = $node->safe_psql('postgres', 'SELECT max(id) FROM t');
	my $run = start_pgbench($node, '-c', '4', '-T', '3600', '-f', $script);
	ok( $node->poll_query_until('postgres',
			"SELECT max(id) > $before + 50 FROM t"),
		'writers write');
	return $run;
}

sub wait_up
{
	$node->poll_query_until('postgres', 'SELECT true')
	  or die 'the server did not come back';
}

sub check
{
	my ($what) = @_;

	verified($node, 'postgres', $what);
	exact($node, 'postgres', $what);
	$node->safe_psql('postgres', 'INSERT INTO t (k, v) VALUES (99, 1)');
	is( $node->safe_psql('postgres', q{
		SELECT r.n = (SELECT count(*) FROM t WHERE k = 99) FROM r_k r WHERE k = 99}),
		't', "$what: a write is in it");
	ok($node->poll_query_until('postgres', "SELECT count(*) > 0 $WORKER"),
		"$what: a worker runs");
	folded($node, 'postgres', $what);
}

check('start');

# A backend that has written, and not committed, is killed.
my $writers = start_writers();
my $victim = $node->background_psql('postgres');
$victim->query_safe('BEGIN');
$victim->query_safe(
	'INSERT INTO t (k, v) SELECT 7, 1000000 FROM generate_series(1, 100)');
my $pid = $victim->query_safe('SELECT pg_backend_pid()');
is(kill('KILL', $pid), 1, 'kill -9 of a backend in a transaction');
eval { $victim->{run}->finish };
eval { $writers->{h}->finish };
wait_up();
is($node->safe_psql('postgres', 'SELECT count(*) FROM t WHERE v >= 1000000'),
	'0', 'its transaction is gone');
check('backend killed');

# The worker is killed.
$writers = start_writers();
$pid = $node->safe_psql('postgres', "SELECT pid $WORKER LIMIT 1");
is(kill('KILL', $pid), 1, 'kill -9 of the worker');
eval { $writers->{h}->finish };
wait_up();
check('worker killed');

# The server is stopped in mid-write.
$writers = start_writers();
$node->stop('immediate');
eval { $writers->{h}->finish };
$node->start;
check('immediate stop');

# A prepared transaction outlives a crash.
$node->safe_psql('postgres', q{BEGIN;
	INSERT INTO t (k, v) VALUES (77, 5), (77, 6);
	PREPARE TRANSACTION 'p'});
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', 'SELECT count(*) FROM r_k WHERE k = 77'),
	'0', 'prepared is not committed');
$node->safe_psql('postgres', "COMMIT PREPARED 'p'");
is($node->safe_psql('postgres', 'SELECT s, n FROM r_k WHERE k = 77'),
	'11|2', 'committed after the crash');
check('prepared');

# A database with a worker in it can be dropped.
$node->safe_psql('postgres', 'CREATE DATABASE gone');
$node->safe_psql('gone', q{CREATE EXTENSION scalecache;
	CREATE TABLE t (k int);
	SELECT scalecache.create_rollup('r', 'SELECT k, count(*) AS n FROM t GROUP BY k');
	INSERT INTO t VALUES (1)});
ok($node->poll_query_until('gone', "SELECT count(*) > 0 $WORKER"),
	'a worker is in the database');
my ($ret, $stdout, $stderr) = $node->psql('postgres', 'DROP DATABASE gone');
is($ret, 0, "DROP DATABASE with a worker: $stderr");
check('database dropped');

$node->stop;
done_testing();
