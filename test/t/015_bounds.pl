# A full queue: what is seen of it while room is made, and what making room costs.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CacheServer;
use RedisServer;
use ScaleCache;
use StaleCheck;
use Test::More;

my $redis = RedisServer->new;
# Nobody else is to write while the log is measured.
my $node = cache_server('bounds', $redis, "scalecache.redis_retry_max = 10
autovacuum = off
checkpoint_timeout = 1d
");
my $p = 'postgres';

sql(q{CREATE TABLE t (id int PRIMARY KEY, v int);
	INSERT INTO t SELECT g, 0 FROM generate_series(1, 2000) g;
	SELECT scalecache.create_cache_rule('t', 't', 'a_rather_long_prefix_of_keys:{id}')});
ok(delivered(), 'delivered');

# ---- the view, while keys give way to epochs ----
# Each collapse moves all that there is from one table to another.
set('queue_limit', '64kB');
$redis->kill9;
sql('UPDATE t SET v = v + 1 WHERE id = 1');
my $load = start_pgbench($node, '-c', '2', '-T', '3600', '-f',
	script($node, 'writes', "UPDATE t SET v = v + 1 WHERE id % 20 = :client_id;\n"));
my ($ret, $out, $err) = $node->psql($p, q{
	CREATE TABLE seen (size bigint, entries bigint);
	DO $$
	DECLARE
		until timestamptz := clock_timestamp() + '180 s';
		shrunk int := 0;
		last bigint := 0;
		q record;
	BEGIN
		WHILE shrunk < 20 AND clock_timestamp() < until LOOP
			SELECT size_bytes, entries INTO q FROM scalecache.cache_queue;
			INSERT INTO seen VALUES (q.size_bytes, q.entries);
			COMMIT;
			shrunk := shrunk + (q.size_bytes < last)::int;
			last := q.size_bytes;
		END LOOP;
	END $$}, on_error_stop => 1);
is($ret, 0, 'the view is read all the time') or diag $err;
end_pgbench($node, $load);
my $shrunk = sql('SELECT count(*) FROM (SELECT size < lag(size) OVER () AS less FROM seen) s WHERE less');
cmp_ok($shrunk, '>', 5, 'room was made meanwhile');
is(sql('SELECT count(*) FROM seen WHERE entries = 0'), '0', 'and never was there nothing in the queue');
$redis->start;
ok(delivered(), 'delivered');

# ---- keys that no epoch can stand for ----
set('queue_limit', '256kB');
$redis->kill9;
sql(q{SELECT scalecache.cache_delete('by hand ' || g) FROM generate_series(1, 14000) g});
my $attempts = sub { return sql('SELECT failures FROM scalecache.redis_status') };
sub attempts_from { my ($n) = @_; return $node->poll_query_until($p, "SELECT failures > $n FROM scalecache.redis_status"); }
my $n = $attempts->();
ok(attempts_from($n + 20), 'many attempts');
# The worker alone writes now.
my $lsn = sql('SELECT pg_current_wal_insert_lsn()');
$n = $attempts->();
ok(attempts_from($n + 20), 'and more');
cmp_ok(sql("SELECT pg_current_wal_insert_lsn() - '$lsn'"), '<', 200000, 'do not write them anew');
# Keys of rules give way all the same, whenever an eighth of the limit has come.
my $state = '';
for (my $n = 0; $n < 600 && $state ne '1|14000'; $n++)
{
	sql('UPDATE t SET v = v + 1') if $n % 10 == 0;
	select(undef, undef, undef, 0.1);
	$state = sql('SELECT epochs, keys FROM scalecache.cache_queue');
}
is($state, '1|14000', 'keys of rules give way all the same');
$redis->start;
ok(delivered(), 'delivered');

# ---- writers on one CPU share a page, also when each of them had one before ----
SKIP:
{
	my ($cpu) = (qx{taskset -cp $$ 2>/dev/null} // '') =~ /list: (\d+)/;
	skip 'no taskset', 2 unless defined $cpu;
	my @sessions = map { StaleCheck::session($node) } 1 .. 6;
	$redis->kill9;
	for my $i (0 .. $#sessions)
	{
		my $pid = $sessions[$i]->sql('SELECT pg_backend_pid()')->[0];
		system("taskset -cp $cpu $pid >/dev/null") == 0 or die 'taskset';
		# A page, but for room for a few others
		$sessions[$i]->sql("SELECT scalecache.cache_delete(repeat('$i', 6900))");
	}
	$sessions[$_ - 1]->sql("UPDATE t SET v = v + 1 WHERE id = $_") for 1 .. @sessions;
	my $short = join(' UNION ALL ', map { "SELECT tableoid, ctid FROM scalecache.cache_outbox_$_ WHERE length(entries) < 200" } 0 .. 3);
	is(sql("SELECT count(*) FROM ($short) o"), scalar @sessions, 'short keys');
	is(sql("SELECT count(DISTINCT (tableoid, split_part(ctid::text, ',', 1))) FROM ($short) o"), '1', 'are on one page');
	$_->drop for @sessions;
	$redis->start;
}
ok(delivered(), 'delivered');

# ---- a worker whose extension goes does not go on for long ----
$node->restart;
ok($node->poll_query_until($p, 'SELECT connected FROM scalecache.redis_status'), 'connected');
my $log = -s $node->logfile;
sql('DROP EXTENSION scalecache CASCADE');
ok($node->poll_query_until($p, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'scalecache delivery' AND datname = 'postgres'}),
	'there is no worker');
my $errors = () = substr(PostgreSQL::Test::Utils::slurp_file($node->logfile), $log) =~ /ERROR:.*does not exist/g;
cmp_ok($errors, '<=', 1, 'nor has it failed again and again');

$node->stop;
$redis->stop;
done_testing();
