# Cache rules against a real Redis: what deletes a key, what does not, and
# what happens when either server goes away.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use RedisServer;
use ScaleCache;
use Test::More;
use Time::HiRes qw(sleep);

my $redis = RedisServer->new;
my $node = new_server('cache', conf => "restart_after_crash = on
scalecache.redis_url = '" . $redis->url . "'
scalecache.redis_timeout = 30s
scalecache.redis_retry_max = 200
scalecache.naptime = 200
scalecache.lease_time = 600s
");
my $p = 'postgres';
$node->safe_psql($p, q{
	CREATE EXTENSION scalecache;
	CREATE TABLE users (id int PRIMARY KEY, name text, city text, seen timestamptz);
	INSERT INTO users SELECT g, 'n' || g, 'c' || g % 10 FROM generate_series(1, 100) g;
	SELECT scalecache.create_cache_rule('u', 'users', 'user:{id}')});
ok(delivered(), 'everything is delivered');

sub sql { return $node->safe_psql($p, $_[0]); }
sub delivered { return sql("SELECT scalecache.wait_for_cache('180 s')") eq 't'; }

# Set the keys, run the SQL, and say which of them are left.
sub left
{
	my ($sql, @keys) = @_;

	$redis->command('SET', $_, 'x') for @keys;
	sql($sql);
	ok(delivered(), "delivered: $sql") unless $sql =~ /PREPARE TRANSACTION/;
	return join(' ', grep { defined $redis->command('GET', $_) } @keys);
}

# ---- a worker that sleeps is woken ----
sub gone
{
	my ($key) = @_;
	my $tries = 10 * $PostgreSQL::Test::Utils::timeout_default;

	sleep 0.1 while defined $redis->command('GET', $key) && --$tries;
	return $tries > 0;
}
sql("ALTER SYSTEM SET scalecache.naptime = '1h'");
sql('SELECT pg_reload_conf()');
for (1 .. 3)
{
	ok($node->poll_query_until($p, "SELECT state = 'idle' FROM pg_stat_activity WHERE backend_type = 'scalecache delivery'"), 'idle');
	$redis->command('SET', 'user:1', 'x');
	sql("UPDATE users SET name = 'awake' WHERE id = 1");
	ok(gone('user:1'), 'by a commit');
	$redis->command('SET', 'user:1', 'x');
	sql("BEGIN; UPDATE users SET name = 'awake' WHERE id = 1; PREPARE TRANSACTION 'wake'");
	sql("COMMIT PREPARED 'wake'");
	ok(gone('user:1'), 'by COMMIT PREPARED');
}
sql('ALTER SYSTEM RESET scalecache.naptime');
sql('SELECT pg_reload_conf()');

# ---- what deletes ----
my @k = map { "user:$_" } 1 .. 4;
is(left("UPDATE users SET name = 'x' WHERE id = 1", @k), 'user:2 user:3 user:4', 'UPDATE');
is(left("DELETE FROM users WHERE id = 2", @k), 'user:1 user:3 user:4', 'DELETE');
is(left("INSERT INTO users VALUES (2)", @k), 'user:1 user:3 user:4', 'INSERT');
is(left("UPDATE users SET id = 1000 WHERE id = 3", @k, 'user:1000'),
	'user:1 user:2 user:4', 'old and new key');
is(left("UPDATE users SET id = 3 WHERE id = 1000"), '', 'back');
is(left("INSERT INTO users VALUES (1) ON CONFLICT (id) DO UPDATE SET name = 'y'", @k),
	'user:2 user:3 user:4', 'ON CONFLICT DO UPDATE');
is(left("INSERT INTO users VALUES (1) ON CONFLICT DO NOTHING", @k),
	"@k", 'ON CONFLICT DO NOTHING');
is(left("COPY users (id) FROM PROGRAM 'echo 777'", @k, 'user:777'), "@k", 'COPY');
is(left("SET session_replication_role = replica; UPDATE users SET name = 'r' WHERE id = 4", @k),
	'user:1 user:2 user:3', 'replica role');

# ---- a session that knows the trigger takes keys without events ----
my $know = "UPDATE users SET name = 'k' WHERE id = 99;";
unlike(sql("$know EXPLAIN (ANALYZE) UPDATE users SET name = 'e' WHERE id = 98"), qr/Trigger scalecache/, 'no event');
is(left("$know UPDATE users SET name = 'x' WHERE id = 1", @k), 'user:2 user:3 user:4', 'UPDATE');
is(left("$know UPDATE users SET id = 1000 WHERE id = 3", @k, 'user:1000'), 'user:1 user:2 user:4', 'old and new key');
is(left("$know DELETE FROM users WHERE id IN (2, 1000)", @k, 'user:1000'), 'user:1 user:3 user:4', 'DELETE');
is(left("$know INSERT INTO users VALUES (2), (3)", @k), 'user:1 user:4', 'INSERT');
is(left("$know INSERT INTO users VALUES (1), (2000) ON CONFLICT (id) DO UPDATE SET name = 'y'", @k, 'user:2000'),
	'user:2 user:3 user:4', 'ON CONFLICT DO UPDATE');
is(left("$know MERGE INTO users u USING (VALUES (1), (2), (2001)) v(i) ON u.id = v.i WHEN MATCHED AND i = 2 THEN DELETE
	WHEN MATCHED THEN UPDATE SET name = 'm' WHEN NOT MATCHED THEN INSERT (id) VALUES (i)", @k, 'user:2001'), 'user:3 user:4', 'MERGE');
is(left("$know WITH d AS (INSERT INTO users VALUES (2)) UPDATE users SET name = 'w' WHERE id = 3", @k), 'user:1 user:4', 'WITH');
is(left("$know COPY users (id) FROM PROGRAM 'echo 778'", @k, 'user:778'), "@k", 'COPY');
is(left("$know SET session_replication_role = replica; UPDATE users SET name = 'r' WHERE id = 4", @k),
	'user:1 user:2 user:3', 'replica role');
is(left("$know BEGIN; SAVEPOINT a; UPDATE users SET name = 's' WHERE id = 1; ROLLBACK TO a; UPDATE users SET name = 's' WHERE id = 2; COMMIT", @k),
	'user:1 user:3 user:4', 'a savepoint');
is(left("$know SELECT scalecache.drop_cache_rule('u'); SELECT scalecache.create_cache_rule('u', 'users', 'user:{id}');
	UPDATE users SET name = 'n' WHERE id = 1", 'order:1'), 'order:1', 'a rule made again');

# ---- what does not ----
is(left("BEGIN; UPDATE users SET name = 'z'; ROLLBACK", @k), "@k", 'ROLLBACK');
is( left("BEGIN; UPDATE users SET name = 'z' WHERE id = 1; SAVEPOINT a;
	UPDATE users SET name = 'z' WHERE id = 2; ROLLBACK TO a;
	UPDATE users SET name = 'z' WHERE id = 3; SAVEPOINT b;
	UPDATE users SET name = 'z' WHERE id = 4; RELEASE b; COMMIT", @k),
	'user:2', 'savepoints');
is( left("BEGIN; SAVEPOINT a; SAVEPOINT b; UPDATE users SET name = 'z' WHERE id = 1;
	RELEASE b; ROLLBACK TO a; UPDATE users SET name = 'z' WHERE id = 2; COMMIT", @k),
	'user:1 user:3 user:4', 'released into a rolled-back savepoint');
is( left(q{DO $$ BEGIN
		FOR i IN 1 .. 100 LOOP
			BEGIN
				UPDATE users SET name = 'loop' WHERE id = i;
				IF i % 2 = 0 THEN RAISE 'no'; END IF;
			EXCEPTION WHEN raise_exception THEN NULL; END;
		END LOOP; END $$}, map { "user:$_" } 1 .. 100),
	join(' ', map { 'user:' . 2 * $_ } 1 .. 50), 'many rolled-back subtransactions');

# ---- two-phase commit ----
# What is still in the other tables would be sent again after the restart.
ok($node->poll_query_until($p, q{SELECT sum(pg_relation_size(('scalecache.cache_outbox_' || i)::regclass)) = 0 FROM generate_series(0, 3) i}),
	'an idle worker has cut the tables');
is(left("BEGIN; UPDATE users SET name = 'p' WHERE id = 1; PREPARE TRANSACTION 'p1'", @k), "@k", 'prepared');
$node->restart;
ok(delivered(), 'delivered after a restart');
is($redis->command('GET', 'user:1'), 'x', 'still prepared');
is(left("COMMIT PREPARED 'p1'"), '', 'committed');
is($redis->command('GET', 'user:1'), undef, 'COMMIT PREPARED deletes');
is(left("BEGIN; UPDATE users SET name = 'p' WHERE id = 1; PREPARE TRANSACTION 'p2'", @k), "@k", 'prepared');
sql("ROLLBACK PREPARED 'p2'");
ok(delivered(), 'delivered');
is($redis->command('GET', 'user:1'), 'x', 'ROLLBACK PREPARED does not');

# ---- all keys of a rule ----
my @many = map { "user:$_" } 1 .. 500;
is(left("TRUNCATE users", @many, 'order:1'), 'order:1', 'TRUNCATE');
is( left("SET scalecache.max_keys_per_transaction = 50;
	INSERT INTO users SELECT g FROM generate_series(1, 100) g", @many, 'order:1'),
	'order:1', 'more keys than a transaction may have');
is($node->safe_psql($p, "SELECT epochs_acknowledged > 1 FROM scalecache.redis_status"), 't', 'by epochs');
is( left("BEGIN; SET LOCAL scalecache.max_keys_per_transaction = 50; SAVEPOINT a;
	UPDATE users SET name = 'q'; ROLLBACK TO a; UPDATE users SET name = 'q' WHERE id = 1; COMMIT",
	@k), 'user:2 user:3 user:4', 'an epoch that was rolled back');

sql(q{CREATE TABLE long (k text); SELECT scalecache.create_cache_rule('long', 'long', 'long:{k}')});
is(left("INSERT INTO long VALUES (repeat('x', 6900))", 'long:a'), 'long:a', 'a long key') if delivered();
is(left("INSERT INTO long VALUES (repeat('x', 7001))", 'long:a', 'order:1'), 'order:1', 'one that is too long for the queue: all keys');
sql('DROP TABLE long');

# ---- rules ----
sql(q{SELECT scalecache.create_cache_rule('c', 'users', 'city:{city}:{{x}}', columns => '{name}');
	SELECT scalecache.create_cache_rule('cond', 'users', 'vip:{id}', condition => 'name = ''vip''')});
ok(delivered(), 'two more rules');
my @r = ('city:a:{x}', 'city:b:{x}', 'vip:1');
sql("UPDATE users SET city = 'a', name = 'n' WHERE id = 1");
ok(delivered(), 'delivered');
is(left("UPDATE users SET seen = now() WHERE id = 1", @r), "@r", 'columns: another one');
is(left("UPDATE users SET name = 'm' WHERE id = 1", @r), 'city:b:{x} vip:1', 'columns: this one');
is(left("UPDATE users SET city = 'b' WHERE id = 1", @r), 'vip:1', 'columns: the key');
is(left("UPDATE users SET city = NULL WHERE id = 1", @r), 'city:a:{x} vip:1', 'a null part: no key');
is(left("UPDATE users SET name = 'vip' WHERE id = 1", @r), 'city:a:{x} city:b:{x}', 'condition: after');
is(left("UPDATE users SET name = 'o' WHERE id = 1", @r), 'city:a:{x} city:b:{x}', 'condition: before');
is(left("UPDATE users SET name = 'o2' WHERE id = 1", @r), "@r", 'condition: neither');
is(left("UPDATE users SET seen = now() WHERE id = 1; UPDATE users SET name = 'vip' WHERE id = 1", @r), 'city:a:{x} city:b:{x}', 'condition: the second time');
is(left("UPDATE users SET seen = now() WHERE id = 1; UPDATE users SET seen = now() WHERE id = 1", 'city:a:{x}'), 'city:a:{x}', 'columns: the second time');
sql("UPDATE users SET name = 'o2' WHERE id = 1");
sql("ALTER TABLE users RENAME city TO town; ALTER TABLE users RENAME id TO uid; ALTER TABLE users RENAME TO people");
is(sql("SELECT key FROM scalecache.cache_rules ORDER BY name"), "city:{town}:{{x}}\nvip:{uid}\nuser:{uid}", 'renames are followed');
ok(delivered(), 'delivered');
is(left("UPDATE people SET town = 'a' WHERE uid = 1", @r), 'city:b:{x} vip:1', 'after a rename');
sql("SELECT scalecache.drop_cache_rule('c'), scalecache.drop_cache_rule('cond')");
ok(delivered(), 'delivered');
is(left("UPDATE people SET town = 'b', name = 'vip' WHERE uid = 1", @r), "@r", 'dropped rules');

# ---- partitions ----
sql(q{CREATE TABLE ev (day date, id int, junk int, v text) PARTITION BY RANGE (day);
	CREATE TABLE ev1 PARTITION OF ev FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
	CREATE TABLE ev2 (v text, id int, day date);
	ALTER TABLE ev DROP COLUMN junk;
	ALTER TABLE ev ATTACH PARTITION ev2 FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
	SELECT scalecache.create_cache_rule('ev', 'ev', 'ev:{day}:{id}', condition => 'v <> ''skip''')});
my @e = ('ev:2020-03-01:1', 'ev:2021-03-01:1', 'ev:2022-03-01:1');
ok(delivered(), 'delivered');
is(left("SET DateStyle = german; INSERT INTO ev (day, id, v) VALUES ('2020-03-01', 1, 'a')", @e), "$e[1] $e[2]", 'a partition');
is(left("INSERT INTO ev2 (day, id, v) VALUES ('2021-03-01', 1, 'a')", @e), "$e[0] $e[2]", 'another layout');
is(left("UPDATE ev SET day = day + 365 WHERE day = '2020-03-01'", @e), $e[2], 'from one to the other');
is(left("UPDATE ev SET v = 'k' WHERE id = 99; UPDATE ev SET v = 'u' WHERE day = '2021-03-01'", @e), "$e[0] $e[2]", 'once known');
is(left("UPDATE ev SET v = 'k' WHERE id = 1; UPDATE ev SET day = day - 365 WHERE id = 1", @e), $e[2], 'back');
is(left("UPDATE ev SET day = day + 365", @e), $e[2], 'and forth');
is(left("CREATE TABLE ev3 PARTITION OF ev FOR VALUES FROM ('2022-01-01') TO ('2023-01-01')", 'x'), 'x', 'a new one');
is(left("INSERT INTO ev (day, id, v) VALUES ('2022-03-01', 1, 'skip')", @e), "@e", 'and the condition');
is(left("INSERT INTO ev (day, id, v) VALUES ('2022-03-01', 1, 'b')", @e), "$e[0] $e[1]", 'in it');
is(left("TRUNCATE ev3", @e), '', 'TRUNCATE of one');
is(left("ALTER TABLE ev DETACH PARTITION ev2", @e), '', 'DETACH');
is(left("DROP TABLE ev3", @e), '', 'DROP of one');
sql("DROP TABLE ev");
is(sql("SELECT count(*) FROM scalecache.cache_rules WHERE name = 'ev'"), '0', 'rules go with their table');

# ---- what is shown ----
is(sql('SELECT run_id FROM scalecache.redis_status'), $redis->info('run_id'), 'which Redis it is');
is(sql(q{SELECT latency_ms > 0 AND reconnects >= 0 AND warning IS NULL AND mode = 'single' FROM scalecache.redis_status}), 't', 'and how it does')
  or diag(sql('SELECT s FROM scalecache.redis_status s'));
is(sql(q{SELECT acknowledged_p50_ms > 0 AND acknowledged_p99_ms >= acknowledged_p50_ms FROM scalecache.cache_stats WHERE tier = 'redis'}), 't', 'how long an acknowledgement takes');
is(sql('SELECT transactions, keys, epochs, entries, bytes, oldest_age IS NULL FROM scalecache.cache_queue'), '0|0|0|0|0|t', 'and that nothing waits') if delivered();
$redis->command('CONFIG', 'SET', 'maxmemory', '100mb');
ok($node->poll_query_until($p, "SELECT warning ~ '^maxmemory-policy is noeviction' FROM scalecache.redis_status"), 'a Redis that will refuse what fills it');
$redis->command('CONFIG', 'SET', 'maxmemory', '0');
ok($node->poll_query_until($p, 'SELECT warning IS NULL FROM scalecache.redis_status'), 'and one that will not');

# ---- Redis away ----
sql("ALTER TABLE people RENAME TO users; ALTER TABLE users RENAME uid TO id");
ok(delivered(), 'delivered');
$redis->command('SET', 'user:5', 'x');
my $delivery = q{SELECT pid FROM pg_stat_activity WHERE datname = 'postgres' AND backend_type = 'scalecache delivery'};
sql("ALTER SYSTEM SET scalecache.redis_timeout = '10min'");
sql("SELECT pg_reload_conf()");
ok(delivered(), 'delivered');
$redis->signal('STOP');
sql("UPDATE users SET name = 'frozen' WHERE id = 5;" x 20);
pass('writers do not wait for a frozen Redis');
sql("ALTER SYSTEM SET scalecache.redis_timeout = 300");
sql("SELECT pg_reload_conf()");
sql("SELECT pg_terminate_backend(pid) FROM ($delivery) w");
is(sql("SELECT scalecache.wait_for_cache('1 s')"), 'f', 'wait_for_cache times out');
ok($node->poll_query_until($p, "SELECT breaker <> 'closed' FROM scalecache.redis_status"), 'the breaker opens');
my ($ret, $out, $err) = $node->psql($p, "SET statement_timeout = 300; SELECT scalecache.wait_for_cache('1 min')");
like($err, qr/statement timeout/, 'wait_for_cache can be cancelled');
($ret, $out, $err) = $node->psql($p, "SET scalecache.synchronous_invalidation = on; SET scalecache.synchronous_timeout = 500;
	UPDATE users SET name = 'sync' WHERE id = 6");
is($ret, 0, 'a commit that waited in vain');
like($err, qr/WARNING:  the transaction has committed, but its cache invalidations/, 'warns');
is(sql("SELECT name FROM users WHERE id = 6"), 'sync', 'and has committed');
my $victim = $node->background_psql($p, on_error_stop => 0);
$victim->query("SET scalecache.synchronous_invalidation = on; SET scalecache.synchronous_timeout = 3600000");
my $pid = $victim->query("SELECT pg_backend_pid()");
$victim->{stdin} .= "UPDATE users SET name = 'stuck' WHERE id = 7;\n";
$victim->{run}->pump_nb;
ok($node->poll_query_until($p, "SELECT name = 'stuck' FROM users WHERE id = 7"), 'a commit waits for minutes');
sql("SET lock_timeout = '2 min'; UPDATE users SET name = 'other' WHERE id = 7");
pass('and holds no lock');
is(sql("SELECT entries > 0 AND bytes > 0 AND oldest_age > '0' FROM scalecache.cache_queue"), 't', 'what waits is in the view');
sql("SELECT pg_cancel_backend($pid)");
ok($node->poll_query_until($p, "SELECT state = 'idle' FROM pg_stat_activity WHERE pid = $pid"), 'it can be cancelled');
is(sql('SELECT name FROM users WHERE id = 7'), 'other', 'which takes nothing back');
$victim->{stdin} .= "UPDATE users SET name = 'stuck again' WHERE id = 7;\n";
$victim->{run}->pump_nb;
ok($node->poll_query_until($p, "SELECT name = 'stuck again' FROM users WHERE id = 7"), 'another one');
sql("SELECT pg_terminate_backend($pid)");
ok($node->poll_query_until($p, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"), 'it can be terminated');
eval { $victim->{run}->finish };
sql("ALTER SYSTEM RESET scalecache.redis_timeout");
sql("SELECT pg_reload_conf()");
$redis->signal('CONT');
ok(delivered(), 'delivered after the thaw');
is($redis->command('GET', 'user:5'), undef, 'the key has gone');
ok($node->poll_query_until($p, "SELECT breaker = 'closed' FROM scalecache.redis_status"), 'the breaker is closed');

$redis->command('SET', 'user:8', 'old');
$redis->command('SAVE');
$redis->kill9;
sql("UPDATE users SET name = 'away' WHERE id = 8");
is(sql("SELECT scalecache.wait_for_cache('500 ms')"), 'f', 'Redis is away');
ok($node->poll_query_until($p, "SELECT last_error ~* 'could not|connection|closed' FROM scalecache.redis_status"), 'which shows');
$redis->start;
ok(delivered(), 'delivered to the new one');
is($redis->command('GET', 'user:8'), undef, 'the key has gone');

# ---- the functions ----
sub fcall { my @a = @_; my $r = eval { $redis->command('FCALL', @a) }; chomp(my $e = $@); return $e || ($r // 'nil'); }
sub token { return sql($_[0] // 'SELECT scalecache.cache_token()'); }
ok($node->poll_query_until($p, "SELECT functions_loaded FROM scalecache.redis_status"), 'the library is loaded');
sql("UPDATE users SET name = 'f1' WHERE id = 20");
ok(delivered(), 'delivered');
my $early = token();
is(fcall('scalecache_get', 1, 'user:20'), 'nil', 'a miss is a lease');
like(fcall('scalecache_get', 1, 'user:20'), qr/^LOADING/, 'for one');
is(fcall('scalecache_fill', 1, 'user:20', 'f1', token(), 3600000), '1', 'stored');
is(fcall('scalecache_get', 1, 'user:20'), 'f1', 'a hit');
is($redis->command('GET', 'user:20'), 'f1', 'for GET as well');
cmp_ok($redis->command('PTTL', 'user:20'), '>', 0, 'with its ttl');
sql("UPDATE users SET name = 'f2' WHERE id = 20");
ok(delivered(), 'delivered');
is(fcall('scalecache_get', 1, 'user:20'), 'nil', 'invalidated');
like(fcall('scalecache_get', 1, 'user:20'), qr/^LOADING/, 'and leased again');
is(fcall('scalecache_fill', 1, 'user:20', 'f1', $early, 60000), '0', 'a token from before is refused');
is(fcall('scalecache_get', 1, 'user:20'), 'nil', 'the lease is over');
sql("UPDATE users SET name = 'f2' WHERE id = 20");
ok(delivered(), 'delivered');
is(fcall('scalecache_get', 1, 'user:20'), 'nil', 'an invalidation ends a lease');
is(fcall('scalecache_fill', 1, 'user:20', 'f2', token("BEGIN; UPDATE users SET name = 'x' WHERE id = 1;
	SELECT scalecache.cache_token(); ROLLBACK"), 60000), '0', 'that of a transaction that writes as well');
is(fcall('scalecache_fill', 1, 'user:20', 'f2', token(), 0), '1', 'a new one is not');
is($redis->command('PTTL', 'user:20'), '-1', 'no ttl');
like(fcall('scalecache_fill', 1, 'user:20', 'v', 'rubbish', 0), qr/^ERR token/, 'rubbish for a token');
like(fcall('scalecache_fill', 1, 'user:20', 'v', token(), -1), qr/^ERR ttl/, 'a negative ttl');
like(fcall('scalecache_fill', 1, 'user:20'), qr/^ERR usage/, 'no arguments');
like(fcall('scalecache_get', 0), qr/^ERR/, 'no key');
# The worker and the library find a key's place by the same arithmetic.
sql(q{CREATE TABLE odd (id text, v int); SELECT scalecache.create_cache_rule('odd', 'odd', 'o:{id}');
	INSERT INTO odd SELECT repeat(chr(c), n), 0 FROM generate_series(0, 9) n, unnest('{97,255,8364}'::int[]) c});
ok(delivered(), 'delivered');
$early = token();
is(fcall('scalecache_get', 1, $_), 'nil', "a lease of $_") for 'o:a', 'o:not there';
sql('UPDATE odd SET v = 1');
ok(delivered(), 'delivered');
for my $char ('a', "\xc3\xbf", "\xe2\x82\xac")
{
	is(join(' ', map { fcall('scalecache_fill', 1, 'o:' . $char x $_, 'v', $early, 0) } 0 .. 9), join(' ', (0) x 10), 'refused, whatever the length');
}
like(fcall('scalecache_get', 1, 'o:not there'), qr/^LOADING/, 'the lease of another key stays');
is(fcall('scalecache_fill', 1, 'o:not there', 'v', $early, 0), '1', 'and its fill is not refused');
sql("SELECT scalecache.drop_cache_rule('odd'); DROP TABLE odd");
sql("CREATE TABLE unread (id int); SELECT scalecache.create_cache_rule('unread', 'unread', 'unread:{id}')");
ok(delivered(), 'delivered');
$early = token();
sql("TRUNCATE users; INSERT INTO users SELECT g FROM generate_series(1, 100) g");
ok(delivered(), 'delivered');
is(fcall('scalecache_fill', 1, 'user:55', 'v', $early, 0), '0', 'refused after an epoch');
is(fcall('scalecache_fill', 1, 'user:555', 'v', $early, 0), '0', 'whatever the key');
is(fcall('scalecache_fill', 1, 'other:555', 'v', $early, 0), '1', 'but for those of others');
my $source = sql("SELECT system_identifier || '/' || oid FROM pg_control_system(), pg_database WHERE datname = current_database()");
$early = token();
sql("UPDATE users SET name = 'r' WHERE id = 57; TRUNCATE unread");
ok(delivered(), 'delivered');
is(fcall('scalecache_rotate', 0, $source, token() =~ s/^.*:(?=\d+:)//r), '1', 'what is old moves on');
is(fcall('scalecache_fill', 1, 'user:57', 'v', $early, 0), '0', 'and is known');
is(fcall('scalecache_fill', 1, 'unread:1', 'v', $early, 0), '0', 'as are epochs');
# A database of whose keys Redis may hold old ones: nothing is served or stored.
is(fcall('scalecache_arm', 0, '9/9', '9', '1', 'boot', '10:', '600000', 'begin', 'link'), 'walk', 'another database begins');
$redis->command('SET', 'user:58', 'old');
is(fcall('scalecache_get', 1, 'user:58'), 'nil', 'no value until it has walked');
is(fcall('scalecache_fill', 1, 'user:59', 'v', token(), 0), '0', 'and no fill');
$redis->command('FUNCTION', 'FLUSH');
my $tries = 10 * $PostgreSQL::Test::Utils::timeout_default;
sleep 0.1 while fcall('scalecache_get', 1, 'user:56') =~ /not found/ && --$tries;
ok($tries, 'loaded again when lost');
ok(delivered(), 'delivered');
is(fcall('scalecache_fill', 1, 'user:56', 'v', $early, 0), '0', 'which forgets no refusal');

# ---- values ----
sql(q{SELECT scalecache.create_cache_rule('j', 'users', 'json:{id}', 'write', ttl => '1 hour');
	SELECT scalecache.create_cache_rule('w', 'users', 'name:{id}', 'write', value => 'upper(name)');
	SELECT scalecache.create_cache_rule('z', 'users', 'inv:{id}', 'write', value => '(100 / (id - 31))::text')});
sql("UPDATE users SET name = 'abc' WHERE id IN (30, 31)");
ok(delivered(), 'delivered');
like($redis->command('GET', 'json:30'), qr/^\{"id":30,"name":"abc",/, 'the row as JSON');
my $ttl = $redis->command('PTTL', 'json:30');
ok($ttl > 1000_000 && $ttl <= 3600_000, 'with a ttl') or diag $ttl;
is($redis->command('GET', 'name:30'), 'ABC', 'an expression');
is($redis->command('GET', 'inv:30'), '-100', 'another');
is($redis->command('GET', 'inv:31'), undef, 'one that fails');
like(sql("SELECT failing FROM scalecache.cache_rules WHERE name = 'z'"), qr/division by zero/, 'which shows');
sql("UPDATE users SET name = 'x' WHERE id = 32");
ok(delivered(), 'delivered');
is(sql("SELECT failing IS NULL FROM scalecache.cache_rules WHERE name = 'z'"), 't', 'and is over');
is(left("DELETE FROM users WHERE id = 30", 'name:30', 'json:30'), '', 'a row that has gone');
sql("UPDATE users SET name = 'a' WHERE id = 33; UPDATE users SET name = 'b' WHERE id = 33");
ok(delivered(), 'delivered');
is($redis->command('GET', 'name:33'), 'B', 'the last one stays');
is(left("UPDATE users SET id = 3300 WHERE id = 33", 'name:33'), '', 'the old key goes');
is($redis->command('GET', 'name:3300'), 'B', 'the new one comes');
sql("SELECT scalecache.drop_cache_rule(n) FROM unnest('{j,w,z}'::text[]) n");
ok(delivered(), 'delivered');

# ---- rules on rollups ----
sql(q{CREATE TABLE sales (at timestamptz, amount int) PARTITION BY RANGE (at);
	CREATE TABLE sales1 PARTITION OF sales FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
	CREATE TABLE sales2 PARTITION OF sales FOR VALUES FROM ('2026-07-01') TO ('2027-01-01');
	SET TimeZone = 'Europe/Berlin';
	SELECT scalecache.create_rollup('monthly', $$SELECT extract(month FROM at)::int AS month, sum(amount) AS total
		FROM sales GROUP BY 1$$);
	SELECT scalecache.create_cache_rule('m', 'monthly', 'sales:{month}');
	SELECT scalecache.create_cache_rule('mw', 'monthly', 'total:{month}', 'write', value => 'total::text')});
ok(delivered(), 'delivered');
my @m = ('sales:1', 'sales:2', 'sales:8');
is(left("INSERT INTO sales VALUES ('2026-01-15', 5)", @m), 'sales:2 sales:8', 'a group changes');
is($redis->command('GET', 'total:1'), '5', 'its new value');
is(left("UPDATE sales SET at = '2026-08-15'", @m), 'sales:2', 'from one group to another');
is($redis->command('GET', 'total:1'), undef, 'a group that has gone');
is($redis->command('GET', 'total:8'), '5', 'and one that came');
is(left("BEGIN; INSERT INTO sales VALUES ('2026-01-15', 5); SELECT * FROM monthly; SAVEPOINT a;
	INSERT INTO sales VALUES ('2026-02-15', 5); SELECT * FROM monthly; ROLLBACK TO a; COMMIT", @m), 'sales:2 sales:8', 'read and rolled back');
is(left("TRUNCATE sales2", @m), '', 'TRUNCATE of a partition');
is(left("ALTER TABLE sales DETACH PARTITION sales1", @m), '', 'DETACH');
like(($node->psql($p, "SELECT scalecache.create_cache_rule('bad', 'monthly', 'x:{total}')"))[2], qr/is not a group key/, 'a key that is none');
sql("DROP VIEW monthly");
is(sql("SELECT count(*) FROM scalecache.cache_rules WHERE name IN ('m', 'mw')"), '0', 'rules go with their rollup');
ok(delivered(), 'delivered');

# ---- PostgreSQL crashes ----
$redis->signal('STOP');
sql("UPDATE users SET name = 'crash' WHERE id IN (9, 10)");
$node->stop('immediate');
$redis->signal('CONT');
$redis->command('SET', 'user:9', 'x');
$node->start;
ok(delivered(), 'delivered after a crash');
is($redis->command('GET', 'user:9'), undef, 'the key has gone');
ok($node->poll_query_until($p, "SELECT count(*) = 1 FROM ($delivery) w"), 'a worker runs');
is(crash_by($node, sql($delivery)), 1, 'and is killed');
$redis->command('SET', 'user:11', 'x');
ok($node->poll_query_until($p, "SELECT count(*) = 1 FROM ($delivery) w"), 'a worker runs again');
sql("UPDATE users SET name = 'w' WHERE id = 11");
ok(delivered(), 'delivered after the worker was killed');
is($redis->command('GET', 'user:11'), undef, 'the key has gone');

# ---- settings ----
my $secret = RedisServer->new(args => [ '--requirepass', 'geheim' ]);
(my $url = $secret->url) =~ s{://}{://:geheim\@};
sql("ALTER SYSTEM SET scalecache.redis_url = '$url'");
sql("SELECT pg_reload_conf()");
ok($node->poll_query_until($p, "SELECT connected AND server LIKE '%$secret->{socket}%' FROM scalecache.redis_status"),
	'another URL after a reload');
is(sql("SHOW scalecache.redis_url"), "redis+unix://***\@$secret->{socket}", 'SHOW hides the password');
(my $wrong = $secret->url) =~ s{://}{://:falsch\@};
sql("ALTER SYSTEM SET scalecache.redis_url = '$wrong'");
sql("SELECT pg_reload_conf()");
ok($node->poll_query_until($p, "SELECT last_error LIKE 'WRONGPASS%' FROM scalecache.redis_status"), 'a wrong password');
($ret, $out, $err) = $node->psql($p, "ALTER SYSTEM SET scalecache.redis_url = 'redis://:geheim\@h:99999'");
like($err, qr/invalid value for parameter "scalecache.redis_url"/, 'a wrong URL');
unlike($err, qr/geheim/, 'is not repeated');
sql("ALTER SYSTEM SET scalecache.redis_url = '" . $redis->url . "'");
sql("SELECT pg_reload_conf()");
ok($node->poll_query_until($p, "SELECT connected FROM scalecache.redis_status"), 'back to the first');
$secret->stop;
my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
unlike($log, qr/geheim|falsch/, 'no password in the log');
unlike(sql("SELECT * FROM scalecache.redis_status"), qr/geheim|falsch/, 'nor in the view');

# ---- the queue ----
is(sql("SELECT entries FROM scalecache.cache_queue"), '0', 'nothing is left in the queue');
sql("CREATE DATABASE gone");
$node->safe_psql('gone', q{CREATE EXTENSION scalecache; CREATE TABLE t (id int);
	SELECT scalecache.create_cache_rule('t', 't', 't:{id}'); INSERT INTO t VALUES (1);
	SELECT scalecache.wait_for_cache('180 s')});
sql("DROP DATABASE gone");
sql("DROP EXTENSION scalecache");
is(sql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'scalecache%'"), '0', 'DROP EXTENSION leaves no trigger');
sql("INSERT INTO users VALUES (100000)");

$node->stop;
$redis->stop;
done_testing();
