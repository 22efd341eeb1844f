# kill -9 in the middle of making a rollup, of making it anew and of a fold:
# nothing is left behind, or the worker goes on from there; always exact.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IPC::Run ();
use ScaleCache;
use Test::More;

my $node = new_server('build_crash',
	conf => "restart_after_crash = on\nscalecache.naptime = 100\nscalecache.trigger_lock_timeout = 0\n");

# gate() and total() wait while somebody holds the advisory lock, so whoever
# computes a key or folds stops in the middle.
$node->safe_psql('postgres', q{
	CREATE EXTENSION scalecache;
	CREATE FUNCTION gate(k int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN
		PERFORM pg_advisory_lock_shared(1);
		PERFORM pg_advisory_unlock_shared(1);
		RETURN k;
	END $$;
	CREATE FUNCTION add_up(s bigint, v int) RETURNS bigint LANGUAGE sql IMMUTABLE AS
		'SELECT s + gate(v)';
	CREATE AGGREGATE total(int) (sfunc = add_up, stype = bigint, initcond = '0');
	CREATE TABLE t (k int, v int);
	INSERT INTO t SELECT g % 5, g FROM generate_series(1, 100) g;
});
my $query = 'SELECT gate(k) AS k, sum(v) AS s, count(DISTINCT v) AS d FROM t GROUP BY 1';

# A session that has done this and waits
sub holder
{
	my ($sql) = @_;
	my $session = $node->background_psql('postgres');

	$session->query_safe($sql);
	return $session;
}

# Kill the backend that matches once it waits for such a lock, and wait for the server.
sub kill_waiting
{
	my ($who, $event, $what) = @_;
	my $waiting = "FROM pg_stat_activity WHERE $who AND wait_event = '$event'";

	ok($node->poll_query_until('postgres', "SELECT count(*) > 0 $waiting"),
		"$what: in the middle");
	my $pid = $node->safe_psql('postgres', "SELECT pid $waiting LIMIT 1");
	is(crash_by($node, $pid), 1, "$what: kill -9");
}

# Run a call, and kill it where it waits for the holder.
sub crash
{
	my ($call, $event, $holder, $what) = @_;
	my $err = '';
	my $h = IPC::Run::start([ 'psql', '-Xq', '-d', $node->connstr('postgres'), '-c', $call ],
		'>', \my $out, '2>', \$err);

	kill_waiting(q{backend_type = 'client backend' AND query ~ 'rollup' AND pid <> pg_backend_pid()},
		$event, $what);
	$h->finish;
	like($err, qr/server closed the connection|connection to server was lost/, "$what: it is gone");
	eval { $holder->{run}->finish };
}

sub nothing_left
{
	my ($what) = @_;

	is( $node->safe_psql('postgres', q{SELECT
		(SELECT count(*) FROM scalecache.rollup),
		(SELECT count(*) FROM scalecache.fold),
		(SELECT count(*) FROM pg_class WHERE relnamespace = 'scalecache_data'::regnamespace),
		(SELECT count(*) FROM pg_class WHERE relname ~ '^r_'),
		(SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass),
		(SELECT count(*) FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND classid = 'pg_class'::regclass
			AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = objid))}),
		'0|0|0|0|0|0', "$what: nothing is left");
	$node->safe_psql('postgres', 'INSERT INTO t VALUES (1, 1)');
}

sub state_is
{
	my ($state, $what) = @_;

	ok( $node->poll_query_until('postgres',
			"SELECT state = '$state' FROM scalecache.rollups WHERE rollup::text = 'r_one'"),
		"$what: $state");
}

sub right
{
	my ($what) = @_;

	exact($node, 'postgres', $what);
	$node->safe_psql('postgres', 'INSERT INTO t VALUES (2, 7), (9, 1); DELETE FROM t WHERE v = 3');
	exact($node, 'postgres', "$what, written to");
	live($node, 'postgres', 'r_one', $what);
	verified($node, 'postgres', $what);
	folded($node, 'postgres', $what);
	verified($node, 'postgres', "$what, folded");
}

sub worker
{
	my ($on) = @_;

	$node->safe_psql('postgres', "ALTER SYSTEM SET scalecache.worker = $on");
	$node->reload;
	ok($node->poll_query_until('postgres', "SELECT (count(*) > 0) = '$on' $WORKER"), "worker $on");
}

my $create = "SELECT scalecache.create_rollup('r_one', '$query')";
my $concurrently = "CALL scalecache.create_rollup_concurrently('r_one', '$query')";
my $writer = 'BEGIN; INSERT INTO t VALUES (3, 3)';
my $gate = 'SELECT pg_advisory_lock(1)';

# In one transaction: all or nothing
crash($create, 'relation', holder($writer), 'create, waiting for writers');
nothing_left('create, waiting for writers');
crash($create, 'advisory', holder($gate), 'create, filling');
nothing_left('create, filling');

# Concurrently: the worker goes on.
crash($concurrently, 'relation', holder($writer), 'concurrently, no triggers yet');
state_is('live', 'concurrently, no triggers yet');
right('concurrently, no triggers yet');
$node->safe_psql('postgres', q{SELECT scalecache.drop_rollup('r_one')});
crash($concurrently, 'advisory', holder($gate), 'concurrently, filling');
state_is('live', 'concurrently, filling');
right('concurrently, filling');

# Making it anew: what was there stays.
my $was = $node->safe_psql('postgres', 'SELECT * FROM r_one ORDER BY k');
crash(q{SELECT scalecache.rebuild_rollup('r_one')}, 'advisory', holder($gate), 'rebuild');
state_is('live', 'rebuild');
is($node->safe_psql('postgres', 'SELECT * FROM r_one ORDER BY k'), $was, 'rebuild: as before');
right('rebuild');

# A fold by the worker, which has to ask the source; writers do not go through
# the gate then.
$node->safe_psql('postgres', q{SELECT scalecache.drop_rollup('r_one')});
$node->safe_psql('postgres', q{SELECT scalecache.create_rollup('r_total', 'SELECT k, total(v) AS v FROM t GROUP BY k')});
folded($node, 'postgres', 'fold');
for my $round (1 .. 3)
{
	my $holder = holder($gate);

	$node->safe_psql('postgres', "INSERT INTO t SELECT g, $round FROM generate_series(1, 3) g");
	kill_waiting(q{backend_type = 'scalecache worker'}, 'advisory', "fold $round");
	eval { $holder->{run}->finish };
	exact($node, 'postgres', "fold $round");
	folded($node, 'postgres', "fold $round");
	verified($node, 'postgres', "fold $round");
}
$node->safe_psql('postgres', q{SELECT scalecache.drop_rollup('r_total')});
nothing_left('dropped');

# Without a worker it can be finished by hand, or dropped.
worker('off');
for my $where ([ 'relation', $writer ], [ 'advisory', $gate ])
{
	my $what = "no worker, waiting for $where->[0]";

	crash($concurrently, $where->[0], holder($where->[1]), $what);
	exact($node, 'postgres', $what);
	$node->safe_psql('postgres', 'INSERT INTO t VALUES (2, 8)');
	exact($node, 'postgres', "$what, written to");
	$node->safe_psql('postgres', q{SELECT scalecache.drop_rollup('r_one')});
	nothing_left("$what, dropped");
	crash($concurrently, $where->[0], holder($where->[1]), "$what, again");
	$node->safe_psql('postgres', q{SELECT scalecache.rebuild_rollup('r_one')});
	state_is('live', "$what, rebuilt");
	verified($node, 'postgres', "$what, rebuilt");
	exact($node, 'postgres', "$what, rebuilt");
	$node->safe_psql('postgres', q{DROP VIEW r_one});
	nothing_left("$what, rebuilt and dropped");
}
no_deadlock($node);
$node->stop;
done_testing();
