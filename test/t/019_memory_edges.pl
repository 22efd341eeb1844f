# The server's own cache where commits come another way than by COMMIT of a session, and where
# sessions wait for each other.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use ScaleCache;
use Test::More;

my $node = new_server('edges', init => [ allows_streaming => 'logical' ], conf => "max_prepared_transactions = 10
scalecache.naptime = 1000000
");
my $p = 'postgres';

sub sql { return $node->safe_psql($p, $_[0]); }
sub cached { return "SELECT scalecache.cached_query('t:$_[0]', 'SELECT v FROM t WHERE id = $_[0]')"; }

my $setup = q{CREATE TABLE t (id int PRIMARY KEY, v int);};
my $rule = q{CREATE EXTENSION scalecache; SELECT scalecache.create_cache_rule('t', 't', 't:{id}');};
sql("$setup $rule INSERT INTO t VALUES (1, 0), (2, 0), (3, 0)");

# ---- a worker that has nobody to send to takes a turn for whoever waits ----
ok($node->poll_query_until($p, "SELECT count(*) = 1 FROM pg_stat_activity
	WHERE backend_type = 'scalecache delivery' AND state = 'idle'"), 'a worker, idle for long');
is(sql("SELECT scalecache.wait_for_cache('100 s')"), 't', 'is hurried');
sql('ALTER SYSTEM SET scalecache.naptime = 200');
sql('SELECT pg_reload_conf()');

# ---- a loader that waits for the lock of one that waits for it, while others come and go ----
my $holder = $node->background_psql($p);
my $loader = $node->background_psql($p);
my $knot = q{SELECT scalecache.cached_query('knot', 'SELECT 1 AS n FROM pg_advisory_xact_lock(1)')};
$holder->query_safe('BEGIN; SELECT pg_advisory_xact_lock(1)');
my $pid = $loader->query('SELECT pg_backend_pid()');
$loader->{stdin} .= "$knot;\n";
$loader->{run}->pump_nb;
ok($node->poll_query_until($p, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid"), 'a loader waits for a lock');
# Each part of the memory has loaders that end.
my $others = start_pgbench($node, '-c', 1, '-T', 3600, '-f', script($node, 'others',
	q{SELECT scalecache.cached_query('other' || g, 'SELECT 1', '1 ms') FROM generate_series(1, 200) g;}));
ok($node->poll_query_until($p, "SELECT misses > 1000 FROM scalecache.cache_stats WHERE tier = 'memory'"), 'others load other keys');
$holder->query_safe(q{SET statement_timeout = '300 s'});
is($holder->query($knot), '[{"n": 1}]', 'the holder does not wait for ever');
end_pgbench($node, $others);
$holder->query_safe('COMMIT');
$holder->quit;
$loader->quit;

# ---- epochs of more rules than memory tells apart ----
sql(q{CREATE TABLE late (id int, v int); INSERT INTO late VALUES (1, 1);
	DO $$BEGIN FOR i IN 1..80 LOOP
		PERFORM scalecache.create_cache_rule('late' || i, 'late', 'late' || i || ':{id}');
	END LOOP; END$$});
my $late = q{SELECT scalecache.cached_query('late80:1', 'SELECT count(*) AS n FROM late')};
my $hits = q{SELECT hits FROM scalecache.cache_stats WHERE tier = 'memory'};
sql($late);
my $before = sql($hits);
is(sql($late), '[{"n": 1}]', 'a value');
is(sql($hits), $before + 1, 'is kept');
sql('BEGIN; TRUNCATE late; ROLLBACK');
is(sql($late), '[{"n": 1}]', 'kept over a rollback');
is(sql($hits), $before + 2, 'is still kept');
sql('TRUNCATE late');
is(sql($late), '[{"n": 0}]', 'goes with TRUNCATE');
# What such an epoch is not about stays, however many there have been.
sql($late);
$before = sql($hits);
for my $i (1 .. 3)
{
	sql("DO \$\$BEGIN FOR i IN 1..40 LOOP PERFORM scalecache.create_cache_rule('churn$i' || i, 'late', 'churn${i}_' || i || ':{id}'); END LOOP; END\$\$");
	is(sql($late), '[{"n": 0}]', 'another value');
	sql("DO \$\$BEGIN FOR i IN 1..40 LOOP PERFORM scalecache.drop_cache_rule('churn$i' || i); END LOOP; END\$\$");
	is(sql($late), '[{"n": 0}]', 'is there');
}
is(sql($hits), $before + 6, 'all the time');
# A snapshot of before an epoch that was forgotten, with no more of them at a time than there is room for
sql(q{CREATE TABLE lone (id int); INSERT INTO lone VALUES (1); SELECT scalecache.create_cache_rule('lone', 'lone', 'lone:{id}')});
my $lone = q{SELECT scalecache.cached_query('lone:1', 'SELECT count(*) AS n FROM lone')};
my $reader = $node->background_psql($p);
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_snapshot()');
sql('TRUNCATE lone; INSERT INTO lone VALUES (2), (3)');
for my $i (1 .. 6)
{
	sql("DO \$\$BEGIN FOR i IN 1..30 LOOP PERFORM scalecache.create_cache_rule('past$i' || i, 't', 'past${i}_' || i || ':{id}'); END LOOP; END\$\$");
	sql("DO \$\$BEGIN FOR i IN 1..30 LOOP PERFORM scalecache.drop_cache_rule('past$i' || i); END LOOP; END\$\$");
}
is($reader->query($lone), '[{"n": 0}]', 'an old snapshot');
is(sql($lone), '[{"n": 2}]', 'fills nothing');
$reader->query_safe('COMMIT');
$reader->quit;
sql("DO \$\$BEGIN FOR i IN 1..80 LOOP PERFORM scalecache.drop_cache_rule('late' || i); END LOOP; END\$\$");

# ---- a transaction that was prepared by a publisher ----
my $sub = new_server('edges_sub', conf => "max_prepared_transactions = 10
");
$sub->safe_psql($p, "$setup $rule");
sql('CREATE PUBLICATION pub FOR TABLE t');
$sub->safe_psql($p, sprintf("CREATE SUBSCRIPTION sub CONNECTION '%s dbname=postgres' PUBLICATION pub WITH (two_phase = true)", $node->connstr));
$sub->wait_for_subscription_sync($node, 'sub');
ok($sub->poll_query_until($p, q{SELECT subtwophasestate = 'e' FROM pg_subscription}), 'two phases');
sql("BEGIN; UPDATE t SET v = 5 WHERE id = 1; PREPARE TRANSACTION 'x'");
$node->wait_for_catchup('sub');
is($sub->safe_psql($p, 'SELECT count(*) FROM pg_prepared_xacts'), '1', 'prepared on the subscriber');
is($sub->safe_psql($p, cached(1)), '[{"v": 0}]', 'the old value, that is kept');
my $earlier = $sub->background_psql($p);
$earlier->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t');
sql("COMMIT PREPARED 'x'");
$node->wait_for_catchup('sub');
is($earlier->query(cached(1)), '[{"v": 0}]', 'a snapshot of before fills nothing');
$earlier->query_safe('COMMIT');
$earlier->quit;
is($sub->safe_psql($p, cached(1)), '[{"v": 5}]', 'and goes when it is committed');
$sub->safe_psql($p, 'DROP SUBSCRIPTION sub');
$sub->stop;

# ---- a snapshot of before a promotion ----
my $backup = $node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('edges_standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
my $old = $standby->background_psql($p);
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t');
sql('UPDATE t SET v = 7 WHERE id = 2');
$node->wait_for_catchup($standby);
$standby->promote;
is($old->query(cached(2)), '[{"v": 0}]', 'it sees what it saw');
is($standby->safe_psql($p, cached(2)), '[{"v": 7}]', 'and gives that to nobody');
$old->query_safe('COMMIT');
$old->quit;
$standby->stop;

# ---- another database with the oid of one that was dropped ----
for my $n (1, 2)
{
	sql('CREATE DATABASE same OID 543210');
	$node->safe_psql('same', 'CREATE EXTENSION scalecache');
	is($node->safe_psql('same', "SELECT scalecache.cached_query('k', 'SELECT $n AS n')"), qq([{"n": $n}]), "database $n has its own values");
	sql('DROP DATABASE same');
}

# ---- more databases than there is room for, one after the other ----
sql('CREATE DATABASE model');
$node->safe_psql('model', $setup . $rule);
for my $i (1 .. 70)
{
	sql("CREATE DATABASE db$i TEMPLATE model");
	$node->safe_psql("db$i", "INSERT INTO t VALUES (1, 1); SELECT scalecache.wait_for_cache('0')");
	sql("DROP DATABASE db$i");
}
sql('CREATE DATABASE last TEMPLATE model');
ok($node->poll_query_until('last', "SELECT scalecache.wait_for_cache('1 s')"), 'those that were dropped take no place');
$node->stop;
done_testing();
