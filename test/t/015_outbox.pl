# The queue's bounds and what happens to keys on other ways than a plain
# commit: a full queue, old snapshots, slow and large values, TCP, promotion.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RedisServer;
use ScaleCache;
use Test::More;
use Time::HiRes qw(sleep time);

my $port = PostgreSQL::Test::Cluster::get_free_port();
my $redis = RedisServer->new(args => [ '--port', $port, '--bind', '127.0.0.1' ]);
my $conf = "scalecache.redis_timeout = 1s
scalecache.redis_retry_max = 200
scalecache.naptime = 100
scalecache.redis_url = '" . $redis->url . "'
";
my $node = new_server('outbox', init => [ allows_streaming => 'logical' ], conf => $conf . "max_wal_senders = 10\n");
my $p = 'postgres';

sub sql { return $node->safe_psql($p, $_[0]); }
sub delivered { my ($n) = @_; return ($n // $node)->safe_psql($p, "SELECT scalecache.wait_for_cache('180 s')") eq 't'; }
sub set { my ($name, $value) = @_; sql("ALTER SYSTEM SET scalecache.$name = '$value'"); sql('SELECT pg_reload_conf()'); }

sql(q{CREATE EXTENSION scalecache; CREATE TABLE t (id int PRIMARY KEY, v int);
	INSERT INTO t SELECT g, 0 FROM generate_series(1, 20000) g;
	SELECT scalecache.create_cache_rule('t', 't', 'a_rather_long_prefix_of_keys:{id}');
	CREATE TABLE t2 (id int PRIMARY KEY, v int); INSERT INTO t2 VALUES (1, 0);
	SELECT scalecache.create_cache_rule('t2', 't2', 'second:{id}')});
ok(delivered(), 'delivered');
my $tries;
sub key { return "a_rather_long_prefix_of_keys:$_[0]"; }

# ---- a full queue ----
set('queue_limit', '512kB');
ok(delivered(), 'the limit is set');
$redis->command('SET', key($_), 'x') for 1, 777, 20000;
$redis->kill9;
for my $round (0 .. 19)
{
	sql("UPDATE t SET v = v + 1 WHERE id BETWEEN $round * 1000 + 1 AND $round * 1000 + 1000");
}
sql('UPDATE t SET v = v + 1 WHERE id = 777');
sql('UPDATE t2 SET v = v + 1') for 1 .. 5;
sql('UPDATE t SET v = v + 1 WHERE id <= 3000') for 1 .. 5;
ok($node->poll_query_until($p,
		'SELECT epochs >= 1 AND keys < 20000 AND size_bytes <= 2 * 512 * 1024 FROM scalecache.cache_queue'),
	'most keys give way to an epoch, and their room is free');
$node->stop('immediate');
$node->start;
is(sql('SELECT epochs >= 1 FROM scalecache.cache_queue'), 't', 'the epoch outlives a crash');
# The values are there before the worker is: what is stored later is not its business.
my $worker = "FROM pg_stat_activity WHERE backend_type = 'scalecache delivery' AND datname = 'postgres'";
ok($node->poll_query_until($p, "SELECT count(*) = 1 $worker"), 'there is a worker');
$worker = sql("SELECT pid $worker");
kill('STOP', $worker);
$redis->start;
$redis->command('SET', key($_), 'old') for 1, 777, 20000;
$redis->command('SET', $_, 'x') for 'other:1', 'second:1';
kill('CONT', $worker);
ok(delivered(), 'delivered');
is(join(' ', grep { defined $redis->command('GET', key($_)) } 1, 777, 20000), '', 'and does what the keys would have done');
is($redis->command('GET', 'second:1'), undef, 'of each rule');
is($redis->command('GET', 'other:1'), 'x', 'and no more');
is(sql('SELECT entries FROM scalecache.cache_queue'), '0', 'the queue is empty');

# No epoch stands for keys that were deleted by hand.
my $by_hand = q{SELECT count(scalecache.cache_delete('by hand ' || g)) FROM generate_series(1, 20000) g};
$redis->kill9;
my $error = '';
for (my $n = 0; $n < 20 && $error eq ''; $n++)
{
	(undef, undef, $error) = $node->psql($p, $by_hand);
}
like($error, qr/too many keys wait to be deleted.*Try again when Redis is back/s, 'the queue is full for keys by hand');
is(sql('UPDATE t2 SET v = v + 1 RETURNING id'), '1', 'and not for rules');
$redis->start;
ok(delivered(), 'delivered');
is(sql($by_hand), '20000', 'it is not full any more');
ok(delivered(), 'delivered');
my $url = sql('SHOW scalecache.redis_url');
set('redis_url', '');
ok($node->poll_query_until($p, 'SELECT NOT configured FROM scalecache.redis_status'), 'no Redis');
sql($by_hand) for 1 .. 10;
ok($node->poll_query_until($p, 'SELECT size_bytes < 3 * 1024 * 1024 FROM scalecache.cache_queue'), 'then they need not be kept');
set('redis_url', $url);
ok($node->poll_query_until($p, 'SELECT connected FROM scalecache.redis_status'), 'a Redis');
set('queue_limit', '256MB');

# ---- attempts in an outage, by number ----
# The n-th pause is 25 ms * 2^n at least, whoever commits meanwhile.
set('redis_retry_max', '1h');
ok(delivered(), 'delivered');
my $failures = sql('SELECT failures FROM scalecache.redis_status');
my $began = time;
$redis->kill9;
sql('UPDATE t SET v = v + 1 WHERE id = 1') for 1 .. 20;
is(sql("SELECT scalecache.wait_for_cache('3 s')"), 'f', 'Redis is away');
ok($node->poll_query_until($p, "SELECT failures >= $failures + 2 FROM scalecache.redis_status"), 'tried again');
my $attempts = sql('SELECT failures FROM scalecache.redis_status') - $failures;
cmp_ok($attempts, '<=', 2 + log((time - $began) / 0.025 + 1) / log(2), 'but less and less often');
set('redis_retry_max', '200');
$redis->start;
ok(delivered(), 'delivered');

# ---- what the worker's mark does not name ----
sub key_count { return sql('SELECT keys_acknowledged FROM scalecache.redis_status'); }
my $before = key_count();
for (1 .. 5)
{
	sql("UPDATE t SET v = v + 1 WHERE id = $_");
	ok(delivered(), 'delivered');
}
is(key_count() - $before, 5, 'what was acknowledged is not sent again');
for my $n (3, 30)
{
	$before = key_count();
	sql("BEGIN; UPDATE t SET v = v + 1 WHERE id <= $n; SAVEPOINT s; UPDATE t SET v = v + 1 WHERE id <= $n; COMMIT");
	ok(delivered(), 'delivered');
	is(key_count() - $before, $n, "each of $n keys is sent once for a transaction");
}
# A transaction that has written its keys and is not visible yet
$redis->command('SET', key($_), 'x') for 41, 42;
sql("ALTER SYSTEM SET synchronous_commit = 'local'");
hold_commits($node);
my $slow = $node->background_psql($p, on_error_stop => 0);
my $slow_pid = $slow->query("SET synchronous_commit = on; SELECT pg_backend_pid()");
$slow->{stdin} .= "UPDATE t SET v = v + 1 WHERE id = 41;\n";
$slow->{run}->pump_nb;
ok($node->poll_query_until($p, "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $slow_pid"), 'a commit is on its way');
sql('UPDATE t SET v = v + 1 WHERE id = 42');
ok(delivered(), 'a later one is delivered');
is($redis->command('GET', key(42)), undef, 'its key has gone');
is($redis->command('GET', key(41)), 'x', 'the other one has not');
sql('ALTER SYSTEM RESET synchronous_standby_names');
sql('ALTER SYSTEM RESET synchronous_commit');
sql('SELECT pg_reload_conf()');
$slow->query('SELECT 1');
$slow->quit;
ok(delivered(), 'delivered');
is($redis->command('GET', key(41)), undef, 'until it commits');
# An epoch whose walk does not end
sql("CREATE TABLE other (id int); SELECT scalecache.create_cache_rule('other', 'other', 'other:{id}')");
ok(delivered(), 'delivered');
$redis->command('SET', $_, 'x') for 'other:1', 'other:2', key(43);
$redis->command('ACL', 'SETUSER', 'default', '-scan');
sql('TRUNCATE other');
ok($node->poll_query_until($p, "SELECT last_error ~ '^NOPERM' FROM scalecache.redis_status"), 'no walk is possible');
sql('UPDATE t SET v = v + 1 WHERE id = 43');
$tries = 10 * $PostgreSQL::Test::Utils::timeout_default;
sleep 0.1 while defined $redis->command('GET', key(43)) && --$tries;
ok($tries, 'another key is delivered');
is(sql('SELECT epochs FROM scalecache.cache_queue'), '1', 'and the epoch is not forgotten');
sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'scalecache delivery' AND datname = 'postgres'");
$redis->command('ACL', 'SETUSER', 'default', '+scan');
ok(delivered(), 'delivered by another worker');
is(join(' ', grep { defined $redis->command('GET', $_) } 'other:1', 'other:2'), '', 'every key of the rule');
sql('DROP TABLE other');
ok(delivered(), 'delivered');
# A crash forgets what is still in the tables.
sql('UPDATE t SET v = v + 1 WHERE id = 44');
ok(delivered(), 'delivered');
$node->stop('immediate');
$node->start;
ok(delivered(), 'delivered after a crash');
is(sql('SELECT entries FROM scalecache.cache_queue'), '0', 'nothing is left');
ok($node->poll_query_until($p, 'SELECT size_bytes = 0 FROM scalecache.cache_queue'), 'and an idle worker cuts the tables');

# ---- an old snapshot ----
my $old = $node->background_psql($p);
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t');
my $churn = script($node, 'churn', "\\set id random(1, 20000)\nUPDATE t SET v = v + 1 WHERE id BETWEEN :id AND :id + 50;\n");
for my $round (1 .. 3)
{
	$node->command_ok([ 'pgbench', '-n', '-c', '2', '-t', '200', '-f', $churn, '-h', $node->host, '-p', $node->port, $p ], "churn, round $round");
	ok(delivered(), 'delivered');
	# What nobody needs is cut as soon as no writer is in between.
	ok($node->poll_query_until($p, 'SELECT size_bytes <= 1024 * 1024 FROM scalecache.cache_queue'), 'the tables are cut')
	  or diag sql('SELECT * FROM scalecache.cache_queue');
}
is($old->query_safe('SELECT sum(v) < 40000 FROM t'), 't', 'under an old snapshot');
$old->query_safe('COMMIT');
$old->quit;

# ---- a transaction prepared for days is not in the way ----
sql("BEGIN; UPDATE t SET v = v + 1 WHERE id = 45; PREPARE TRANSACTION 'days'");
sql("UPDATE t SET v = v + 1 WHERE id = 46");
ok(delivered(), 'delivered');
ok($node->poll_query_until($p, q{SELECT sum(pg_relation_size(('scalecache.cache_outbox_' || i)::regclass)) = 0 FROM generate_series(0, 3) i}),
	'the tables are cut');
sql("BEGIN; UPDATE t SET v = v + 1 WHERE id = 46; PREPARE TRANSACTION 'minutes'");
sql("COMMIT PREPARED 'minutes'");
ok(delivered(), 'delivered');
is(sql('SELECT count(*) FROM scalecache.cache_outbox_prepared'), '0', 'nor are those that came later');
$redis->command('SET', key(45), 'x');
sql("COMMIT PREPARED 'days'");
ok(delivered(), 'delivered');
is($redis->command('GET', key(45)), undef, 'its key goes');
ok($node->poll_query_until($p, 'SELECT size_bytes = 0 FROM scalecache.cache_queue'), 'and its table is cut');

# ---- a value that takes for ever ----
sql(q{CREATE FUNCTION slow(int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
		$$ BEGIN IF $1 = -1 THEN PERFORM pg_sleep(600); END IF; RETURN 'v' || $1; END $$;
	CREATE TABLE s (id int PRIMARY KEY, v int);
	INSERT INTO s VALUES (1, 1), (2, 2);
	SELECT scalecache.create_cache_rule('s', 's', 's:{id}', 'write', value => 'public.slow(v)');
	ALTER SYSTEM SET statement_timeout = '2s'; SELECT pg_reload_conf()});
# It is for the worker only.
$ENV{PGOPTIONS} = '-c statement_timeout=0';
$redis->command('SET', 's:1', 'old');
sql('UPDATE s SET v = -1 WHERE id = 1');
ok($node->poll_query_until($p, "SELECT failing LIKE '%statement timeout%' FROM scalecache.cache_rules WHERE name = 's'"), 'a slow value shows as failing');
sql('ALTER SYSTEM RESET statement_timeout');
sql('UPDATE s SET v = 22 WHERE id = 2');
sql('SELECT pg_reload_conf()');
delete $ENV{PGOPTIONS};
ok(delivered(), 'delivered');
is($redis->command('GET', 's:1'), undef, 'its key is deleted');
is($redis->command('GET', 's:2'), 'v22', 'others get their value');
sql("SELECT scalecache.drop_cache_rule('s'); DROP TABLE s");

# ---- large values and keys ----
for my $bad ([ "cache_set('k', repeat('x', 536870913))", qr/cached value is longer than 536870912 bytes/ ],
	[ "cache_get(repeat('x', 536870913))", qr/cache key is longer than 536870912 bytes/ ],
	[ "cache_delete(repeat('x', 7001))", qr/key to be deleted is longer/ ])
{
	my ($ret, $out, $err) = $node->psql($p, "SELECT scalecache.$bad->[0]");
	like($err, $bad->[1], substr($bad->[0], 0, 40));
}
sql(q{CREATE TABLE big (id int PRIMARY KEY, v text);
	SELECT scalecache.create_cache_rule('big', 'big', 'big:{id}', 'write', value => 'repeat(v, 600000000)')});
$redis->command('SET', 'big:1', 'old');
sql("INSERT INTO big VALUES (1, 'x')");
ok(delivered(), 'delivered');
is($redis->command('GET', 'big:1'), undef, 'a value that is too long: the key is deleted');
like(sql("SELECT failing FROM scalecache.cache_rules WHERE name = 'big'"), qr/value is longer than 536870912 bytes|takes? no more than 536870912|statement timeout/, 'and why is shown');
sql('DROP TABLE big');
is(sql('SELECT 1'), '1', 'the server runs');

# ---- TCP, users and databases ----
$redis->command('ACL', 'SETUSER', 'writer', 'on', '>s3:cr@t', '~*', '&*', '+@all');
$redis->command('ACL', 'SETUSER', 'default', 'on', '>geheim', '~*', '&*', '+@all');
my $reader = RedisServer::Client->new($redis->{socket});
$reader->command('AUTH', 'geheim');
for my $case ([ "redis://writer:s3%3Acr%40t\@localhost:$port/5", 5 ], [ "redis://:geheim\@127.0.0.1:$port/3", 3 ],
	[ "redis+unix://writer:s3%3Acr%40t\@$redis->{socket}?db=7", 7 ])
{
	my ($url, $db) = @$case;
	(my $shown = $url) =~ s/:\/\/.*\@/:\/\/***\@/;

	set('redis_url', $url);
	ok($node->poll_query_until($p, "SELECT connected AND server LIKE '%database $db' FROM scalecache.redis_status"), $shown);
	ok(delivered(), 'delivered');
	$reader->command('SELECT', $_), $reader->command('SET', key(5), "db$_") for 0, $db;
	sql('UPDATE t SET v = v + 1 WHERE id = 5');
	ok(delivered(), 'delivered');
	is($reader->command('GET', key(5)), undef, "deleted in database $db");
	$reader->command('SELECT', 0);
	is($reader->command('GET', key(5)), 'db0', 'not in another');
	is(sql('SHOW scalecache.redis_url'), $shown, 'SHOW hides user and password');
	ok($node->poll_query_until($p, "SELECT scalecache.cache_set('tcp', '$db')"), 'sessions reach it as well');
	$reader->command('SELECT', $db);
	is($reader->command('GET', 'tcp'), $db, 'in the same database');
}
for my $case ([ "redis://writer:falsch\@localhost:$port", '^WRONGPASS' ], [ "redis://localhost:$port", '^NOAUTH' ],
	[ "redis://nobody:geheim\@localhost:$port", '^WRONGPASS' ], [ "redis://:geheim\@localhost:$port/999", 'out of range' ],
	[ 'redis://localhost:1', 'could not connect' ])
{
	set('redis_url', $case->[0]);
	ok($node->poll_query_until($p, "SELECT last_error ~ '$case->[1]' AND NOT connected FROM scalecache.redis_status"), "no connection: $case->[1]");
}
my ($ret, $out, $err) = $node->psql($p, "ALTER SYSTEM SET scalecache.redis_url = 'rediss://:geheim\@localhost'");
like($err, qr/TLS is not supported/, 'rediss:// is refused');
set('redis_url', "redis://writer:s3%3Acr%40t\@localhost:$port");
ok(delivered(), 'delivered');
my $views = join('', map { sql("SELECT v::text FROM $_ v") } 'scalecache.redis_status', 'scalecache.cache_stats', 'scalecache.cache_queue', "(SELECT setting FROM pg_settings WHERE name LIKE 'scalecache%')");
unlike($views, qr/geheim|falsch|s3%|s3:/, 'no password in a view');
unlike(slurp_file($node->logfile), qr/geheim|falsch|s3%|s3:/, 'nor in the log');
$reader->command('ACL', 'SETUSER', 'default', 'on', 'nopass');
set('redis_url', $redis->url);
ok(delivered(), 'delivered');

# ---- what waits for a walk over many keys is not cut away ----
$redis->command('EVAL', "for i = 1, 300000 do redis.call('SET', 'many:' .. i, 'x') end", 0);
$redis->command('SET', key(7), 'x');
sql("BEGIN; TRUNCATE t; PREPARE TRANSACTION 'walk'");
sql("COMMIT PREPARED 'walk'");
ok(delivered(), 'delivered');
is($redis->command('GET', key(7)), undef, 'every key of the rule');
unlike(slurp_file($node->logfile), qr/could not read block|could not open file/, 'nothing was cut too early');
sql("INSERT INTO t SELECT g, 0 FROM generate_series(1, 100) g");

# ---- promotion ----
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('outbox_standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
$redis->command('SET', key($_), 'x') for 31, 32;
$redis->command('SAVE');
$redis->kill9;
sql('UPDATE t SET v = v + 1 WHERE id = 31');
my $token = sql('SELECT scalecache.cache_token()');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
my $standby_token = $standby->safe_psql($p, 'SELECT scalecache.cache_token()');
like($standby_token, qr/:s:/, 'a token of a standby');
is($standby->safe_psql($p, 'SELECT configured FROM scalecache.redis_status'), 'f', 'which delivers nothing');
$node->stop('immediate');
$standby->promote;
$redis->start;
$standby->safe_psql($p, 'UPDATE t SET v = v + 1 WHERE id = 32');
ok(delivered($standby), 'delivered after the promotion');
is($redis->command('GET', key(31)), undef, 'what the old primary had queued');
is($redis->command('GET', key(32)), undef, 'and what the new one has');
is(eval { $redis->command('FCALL', 'scalecache_fill', 1, key(33), 'x', $token, 0) }, '0', 'the old timeline fills nothing');
is($redis->command('FCALL', 'scalecache_fill', 1, key(33), 'x', $standby_token, 0), '0', 'whoever gave the token');
# As of a standby that goes on where the old primary went
(my $forked = $standby_token) =~ s/:s:(\d+):.*/':s:' . ($1 + 1000000) . ':'/e;
is($redis->command('FCALL', 'scalecache_fill', 1, key(33), 'x', $forked, 0), '0', 'however new it seems');
is($redis->command('FCALL', 'scalecache_fill', 1, key(33), 'x', $standby->safe_psql($p, 'SELECT scalecache.cache_token()'), 0), '1', 'the new one does');
$standby->stop;
$redis->stop;
done_testing();
