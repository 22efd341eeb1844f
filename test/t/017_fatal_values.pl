# Expressions of values that end their worker, or the whole server, are given up; all else is
# delivered.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CacheServer;
use RedisServer;
use ScaleCache;
use Test::More;

# One of the values does that.
$ScaleCache::MEANT = qr/terminated by signal (?:9|11)/;

my $redis = RedisServer->new;
my $node = cache_server('fatal', $redis, "restart_after_crash = on\n");
my $p = 'postgres';

# The server may go down meanwhile.
sub eventually { return $node->poll_query_until($p, "SELECT scalecache.wait_for_cache('100 ms')"); }
my $given_up = qr/^the value has ended its worker again and again, and is not computed until the rule is made anew$/;

sql(q{
	CREATE FUNCTION dies(i int) RETURNS text STABLE LANGUAGE plpgsql AS $$BEGIN
		IF i = 3 THEN PERFORM pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid()); END IF;
		RETURN 'good';
	END$$;
	-- Its argument is a pointer.
	CREATE FUNCTION crash(bigint) RETURNS text STABLE LANGUAGE internal AS 'textin';
	CREATE FUNCTION crashes(i int) RETURNS text STABLE LANGUAGE plpgsql AS $$BEGIN
		IF i = 3 THEN RETURN public.crash(1); END IF;
		RETURN 'good';
	END$$;
	CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE d (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY);
	SELECT scalecache.create_cache_rule('t', 't', 't:{id}', 'write', '''good''');
	SELECT scalecache.create_cache_rule('d', 'd', 'd:{id}', 'write', 'public.dies(id)');
	SELECT scalecache.create_cache_rule('c', 'c', 'c:{id}', 'write', 'public.crashes(id)')});
ok(eventually(), 'delivered');
for my $name ('d', 'c')
{
	$redis->command('SET', "$name:3", 'old');
	# The server may be down before it has said that this is committed.
	$node->psql($p, "BEGIN; INSERT INTO $name SELECT generate_series(1, 5); INSERT INTO t VALUES (ascii('$name')); COMMIT");
	ok(eventually(), "$name: delivered");
	is(sql("SELECT count(*) FROM $name"), '5', "$name: committed");
	is($redis->command('GET', "$name:3"), undef, "$name: the key is deleted");
	is($redis->command('GET', "$name:2"), 'good', "$name: what came before is stored");
	is($redis->command('GET', 't:' . ord $name), 'good', "$name: and other rules' values");
	like(failing($name), $given_up, "$name: the rule says so");
	is(failing('t'), '', "$name: nobody else does");
	# Not another time, for no key
	my $server = sql('SELECT pg_postmaster_start_time()');
	my $log = -s $node->logfile;
	sql("DELETE FROM $name WHERE id = 3; INSERT INTO $name VALUES (3)");
	ok(eventually(), "$name: delivered");
	$node->log_check("$name: no worker has ended", $log, log_unlike => [ qr/terminating background worker|terminated by signal/ ]);
	$node->restart;
	sql("DELETE FROM $name WHERE id = 3; INSERT INTO $name VALUES (3)");
	ok(eventually(), "$name: delivered after a restart");
	$node->log_check("$name: still none", $log, log_unlike => [ qr/terminated by signal/ ]);
	# Made anew it is tried anew.
	sql("DELETE FROM $name WHERE id = 3; SELECT scalecache.drop_cache_rule('$name');
		SELECT scalecache.create_cache_rule('$name', '$name', '$name:{id}', 'write', 'public.dies(id)');
		INSERT INTO $name VALUES (6)");
	ok(eventually(), "$name: delivered");
	is($redis->command('GET', "$name:6"), 'good', "$name: a new rule's values are stored");
	is(failing($name), '', "$name: nothing fails");
}

# ---- a worker that is killed meanwhile proves nothing ----
sql(q{CREATE TABLE s (id int PRIMARY KEY);
	SELECT scalecache.create_cache_rule('s', 's', 's:{id}', 'write', 'id::text')});
for my $i (1 .. 6)
{
	sql("INSERT INTO s VALUES ($i)");
	ok(eventually(), 'delivered');
	my $pid = sql(q{SELECT pid FROM pg_stat_activity WHERE datname = 'postgres' AND backend_type = 'scalecache delivery'});
	$node->psql($p, "SELECT pg_terminate_backend($pid)");
	ok($node->poll_query_until($p, qq{SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = 'postgres' AND backend_type = 'scalecache delivery' AND pid <> $pid}), 'a new worker');
}
sql("INSERT INTO s VALUES (7)");
ok(eventually(), 'delivered');
is($redis->command('GET', 's:7'), '7', 'values are still stored');
is(failing('s'), '', 'and nothing fails');

# ---- what is known goes with the database ----
my $dboid = sql('CREATE DATABASE gone') . sql(q{SELECT oid FROM pg_database WHERE datname = 'gone'});
$node->safe_psql('gone', q{CREATE EXTENSION scalecache; CREATE TABLE s (id int PRIMARY KEY);
	SELECT scalecache.create_cache_rule('s', 's', 'gone:{id}', 'write', 'id::text'); INSERT INTO s VALUES (1)});
ok($node->poll_query_until('gone', "SELECT scalecache.wait_for_cache('1 s')"), 'delivered');
my $file = $node->data_dir . "/pg_stat/scalecache_values.$dboid";
ok(-e $file, 'a file');
sql('DROP DATABASE gone');
for (1 .. 1200)
{
	last if !-e $file;
	select(undef, undef, undef, 0.1);
}
ok(!-e $file, 'is deleted');

$node->stop;
$redis->stop;
done_testing();
