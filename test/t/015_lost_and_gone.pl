# Commits that a crash takes back, pages without an LSN, and an extension that goes while somebody waits.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use FakeRedis;
use RedisServer;
use ScaleCache;
use Test::More;

my $redis = RedisServer->new;
my $node = new_server('gone', conf => "scalecache.redis_url = ''
scalecache.worker = off
scalecache.naptime = 100
wal_level = minimal
max_wal_senders = 0
wal_skip_threshold = 0
wal_writer_delay = 10s
");
my $p = 'postgres';

sub sql { return $node->safe_psql($p, $_[0]); }
sub set { my ($name, $value) = @_; sql("ALTER SYSTEM SET scalecache.$name = '$value'"); sql('SELECT pg_reload_conf()'); }
sub delivered { return $node->poll_query_until($p, "SELECT scalecache.wait_for_cache('10 s')"); }

# ---- all in one transaction: the queue's pages are not in the log ----
sql(q{BEGIN; CREATE EXTENSION scalecache; CREATE TABLE w (id int PRIMARY KEY, v text);
	SELECT scalecache.create_cache_rule('w', 'w', 'w:{id}', 'write', 'v'); INSERT INTO w VALUES (1, 'first'); COMMIT});
is(sql('SELECT entries FROM scalecache.cache_queue'), '1', 'what was queued with the extension itself is there');
set('worker', 'on');
set('redis_url', $redis->url);
ok(delivered(), 'delivered');
ok($node->poll_query_until($p, "SELECT entries = 0 FROM scalecache.cache_queue"), 'the queue is empty');

# Nor those of a table that was written anew.
set('redis_url', '');
ok($node->poll_query_until($p, 'SELECT NOT configured FROM scalecache.redis_status'), 'no Redis');
sql("UPDATE w SET v = 'anew' WHERE id = 1");
sql("VACUUM FULL scalecache.cache_outbox_$_") for 0 .. 3;
$redis->command('SET', 'w:1', 'old');
set('redis_url', $redis->url);
ok($node->poll_query_until($p, 'SELECT functions_loaded FROM scalecache.redis_status'), 'the same Redis again');
ok(delivered(), 'delivered');
is($redis->command('GET', 'w:1'), 'anew', 'what was queued');

# ---- a value does not outlive, through a crash, the commit that made it ----
sql("UPDATE w SET v = 'second' WHERE id = 1");
ok(delivered(), 'delivered');
is($redis->command('GET', 'w:1'), 'second', 'a value is stored');
# With the log's own writer asleep for long, nothing else has this on disk.
sql("SET synchronous_commit = off; UPDATE w SET v = 'third' WHERE id = 1");
my $value = '';
for (1 .. 1800)
{
	last if ($value = $redis->command('GET', 'w:1') // '') eq 'third';
	select(undef, undef, undef, 0.1);
}
is($value, 'third', 'so is that of a commit that may be lost');
$node->stop('immediate');
$node->start;
ok(delivered(), 'delivered');
is($redis->command('GET', 'w:1'), sql('SELECT v FROM w WHERE id = 1'), 'after a crash it is the row\'s');

my $version = $redis->command('FCALL', 'scalecache_hello', 0, 'x')->[0];

# ---- databases that went before they had said that nothing older is left ----
sub known { return $redis->command('FCALL', 'scalecache_hello', 0, 'x')->[8]; }
sub poll { my ($what) = @_; for (1 .. 1800) { return 1 if $what->(); select(undef, undef, undef, 0.1); } return 0; }
ok($node->poll_query_until($p, 'SELECT functions_loaded FROM scalecache.redis_status'), 'Redis serves');
my $cluster = sql('SELECT system_identifier FROM pg_control_system()');
my $database = sql('SELECT oid FROM pg_database WHERE datname = current_database()');
$redis->command('FCALL', 'scalecache_arm', 0, "$cluster/1000000", $cluster, 1, 'boot', '1000:', 2000, 'begin', 'link');
# That of another server may be there or not.
$redis->command('FCALL', 'scalecache_arm', 0, '77/1000000', '77', 1, 'boot', '1000:', 2000, 'done', 'link');
ok(poll(sub { known() !~ m{$cluster/1000000} }), 'one that is not there is forgotten');
is(join(' ', sort split(' ', known())), join(' ', sort("$cluster/$database", '77/1000000')), 'others are not');
is($redis->command('FCALL', 'scalecache_get', 1, 'w:1'), 'third', 'and Redis serves');
# Also by a worker that always has something to deliver.
my $writer = $node->background_psql($p);
$writer->{stdin} .= "DO \$\$ BEGIN LOOP UPDATE w SET v = 'third' WHERE id = 1; COMMIT; END LOOP; END \$\$;\n";
$writer->{run}->pump_nb;
$redis->command('FCALL', 'scalecache_arm', 0, "$cluster/1000000", $cluster, 1, 'boot', '1000:', 2000, 'begin', 'link');
ok(poll(sub { known() !~ m{$cluster/1000000} }), 'also when there is much to deliver');
sql(q{SELECT pg_terminate_backend(pid, 180000) FROM pg_stat_activity WHERE query ~ 'LOOP UPDATE' AND pid <> pg_backend_pid()});
eval { $writer->{run}->finish };
sql('CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION scalecache');
my $other = "$cluster/" . sql(q{SELECT oid FROM pg_database WHERE datname = 'other'});
ok(poll(sub { known() =~ m{$other} }), 'another database');
$node->safe_psql('other', 'DROP EXTENSION scalecache');
ok(poll(sub { known() !~ m{$other} }), 'is forgotten with its extension');
$node->safe_psql('other', 'CREATE EXTENSION scalecache');
ok(poll(sub { known() =~ m{$other} }), 'comes back');
# A worker that knows of others for long needs no more memory for that.
sub used_memory
{
	my $size = -s $node->logfile;
	my $used;

	sql(q{SELECT pg_log_backend_memory_contexts(pid) FROM pg_stat_activity
		WHERE backend_type = 'scalecache delivery' AND datname = current_database()});
	poll(sub { ($used) = PostgreSQL::Test::Utils::slurp_file($node->logfile, $size) =~ /level: 0; TopMemoryContext: .* (\d+) used/; defined $used });
	return $used;
}
sub calls { return $redis->command('INFO', 'commandstats') =~ /cmdstat_fcall:calls=(\d+)/ ? $1 : 0; }
set('naptime', '10');
my ($used, $calls) = (used_memory(), calls());
ok(poll(sub { calls() > $calls + 2000 }), 'Redis is asked often');
cmp_ok(used_memory(), '<', $used + 16384, 'in the same memory');
set('naptime', '100');
sql('DROP DATABASE other WITH (FORCE)');
ok(poll(sub { known() !~ m{$other} }), 'and goes');
is($redis->command('FCALL', 'scalecache_get', 1, 'w:1'), 'third', 'and Redis serves');

# Also among many that are there.
sql("CREATE DATABASE tenant$_") for 1 .. 12;
sub arm { $redis->command('FCALL', 'scalecache_arm', 0, "$cluster/$_[0]", $cluster, 1, 'boot', '1000:', 2000, 'done', 'link'); }
arm($_) for split(/\n/, sql(q{SELECT oid FROM pg_database WHERE datname ~ 'tenant'})), 2000000 .. 2000011;
ok(poll(sub { known() !~ m{$cluster/20000\d\d} }), 'all are forgotten that have gone');
is(scalar(() = known() =~ m{$cluster/}g), 13, 'and no others');
sql("DROP DATABASE tenant$_") for 1 .. 12;

# ---- who waits when the extension goes ----
set('redis_retry_max', '10min');
$redis->kill9;
ok($node->poll_query_until($p, "SELECT failures > 8 FROM scalecache.redis_status"), 'Redis is away, the worker pauses');
my $waiter = $node->background_psql($p);
my $pid = $waiter->query_safe('SELECT pg_backend_pid()');
$waiter->query_safe("SET scalecache.synchronous_invalidation = on; SET scalecache.synchronous_timeout = '50min'");
$waiter->{stdin} .= "UPDATE w SET v = 'fourth' WHERE id = 1;\n";
$waiter->{run}->pump_nb;
my $waits = "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $pid AND wait_event = 'Extension' AND backend_xid IS NULL AND query ~ 'fourth'";
ok($node->poll_query_until($p, $waits), 'a commit waits');
# What is rolled back tells nobody anything.
sql('BEGIN; DROP EXTENSION scalecache CASCADE; ROLLBACK');
sql('BEGIN; SAVEPOINT s; DROP EXTENSION scalecache CASCADE; ROLLBACK TO s; DROP TABLE IF EXISTS nothing; COMMIT');
ok($node->poll_query_until($p, $waits), 'it goes on waiting when the extension stays');
sql('DROP EXTENSION scalecache CASCADE');
ok($node->poll_query_until($p, "SELECT state = 'idle' FROM pg_stat_activity WHERE pid = $pid"), 'and ends with it');
like($waiter->query_safe('SELECT v FROM w WHERE id = 1'), qr/^fourth$/m, 'committed');
$waiter->quit;

# ---- a worker in the midst of introducing itself when the extension goes ----
# It has looked into one of the extension's tables, and will have to into others.
my $path = "$redis->{dir}/fake";
my $fake = FakeRedis->new(dir => $redis->{dir}, path => $path, version => $version, answer => sub {
	my ($name) = @_;

	return undef unless $name eq 'scalecache_arm';
	select(undef, undef, undef, 0.1) while FakeRedis::slurp("$path.mode") eq 'hold';
	return FakeRedis::bulk('walk');
});
$fake->set_mode('hold');
set('redis_timeout', '10min');
set('redis_url', "redis+unix://$path");
sql("CREATE EXTENSION scalecache; SELECT scalecache.create_cache_rule('w', 'w', 'w:{id}')");
ok($node->poll_query_until($p, q{SELECT count(*) > 0 FROM pg_locks JOIN pg_stat_activity USING (pid)
	WHERE relation = 'scalecache.cache_target'::regclass AND backend_type = 'scalecache delivery'}), 'a worker waits for Redis');
my $log = -s $node->logfile;
my $dropper = $node->background_psql($p, on_error_stop => 0);
$pid = $dropper->query_safe('SELECT pg_backend_pid()');
$dropper->{stdin} .= "DROP EXTENSION scalecache CASCADE;\n";
$dropper->{run}->pump_nb;
# In this database everybody waits with it.
ok($node->poll_query_until('template1', "SELECT count(*) > 0 FROM pg_locks WHERE pid = $pid AND NOT granted"), 'and the extension goes');
$fake->set_mode('');
ok($node->poll_query_until($p, "SELECT state = 'idle' FROM pg_stat_activity WHERE pid = $pid"), 'when it has an answer');
is(sql(q{SELECT count(*) FROM pg_extension WHERE extname = 'scalecache'}), '0', 'it is gone');
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile, $log), qr/deadlock detected/, 'without a deadlock');
$dropper->quit;
$fake->stop;

# ---- a token where a page of the log has just been filled ----
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
sql('CREATE EXTENSION scalecache');
my ($rc, $out, $err) = $node->psql($p, q{DO $$
	DECLARE room int; hits int := 0;
	BEGIN
		FOR i IN 1 .. 10000 LOOP
			room := 8192 - (pg_current_wal_insert_lsn() - '0/0')::bigint % 8192;
			PERFORM pg_logical_emit_message(false, 'x', repeat('y', CASE WHEN room < 512 THEN 1000 ELSE room - 56 END));
			IF (pg_current_wal_insert_lsn() - '0/0')::bigint % 8192 IN (24, 40) THEN
				hits := hits + 1;
				PERFORM scalecache.cache_token();
			END IF;
			EXIT WHEN hits = 10;
		END LOOP;
		RAISE INFO 'pages: %', hits;
	END$$});
like($err, qr/pages: 10/, 'is had without an error');

$node->stop;
$redis->stop;
done_testing();
