# The memory tier in front of Redis: what memory misses comes from there, but
# nothing older than what has been committed, and nothing at all when Redis is
# away, frozen or talks rubbish.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use RedisServer;
use ScaleCache;
use Test::More;
use Time::HiRes qw(sleep);

my $redis = RedisServer->new;
my $node = new_server('tiers', conf => "scalecache.redis_url = '" . $redis->url . "'
scalecache.session_timeout = 100s
scalecache.redis_timeout = 30s
scalecache.redis_retry_max = 200
scalecache.naptime = 100
");
my $p = 'postgres';
my $worker = q{SELECT pid FROM pg_stat_activity WHERE datname = 'postgres' AND backend_type = 'scalecache delivery'};

sub sql { return $node->safe_psql($p, $_[0]); }
sub set { my ($name, $value) = @_; sql("ALTER SYSTEM SET scalecache.$name = '$value'"); sql('SELECT pg_reload_conf()'); }
sub delivered { return sql("SELECT scalecache.wait_for_cache('180 s')") eq 't'; }
# Sessions may use Redis again.
sub ready { ok($node->poll_query_until($p, "SELECT scalecache.cache_set('ready', 'x')"), 'Redis can be used'); }
sub fetch { my ($id, $what) = @_; return sql("SELECT scalecache.cached_query('t:$id', 'SELECT " . ($what // 'v') . " AS v FROM t WHERE id = $id')->0->>'v'"); }
sub fcall { my @a = @_; my $r = eval { $redis->command('FCALL', @a) }; chomp(my $e = $@); return $e || ($r // 'nil'); }

sql(q{CREATE EXTENSION scalecache; CREATE TABLE t (id int PRIMARY KEY, v text);
	INSERT INTO t SELECT g, 'one' FROM generate_series(1, 20) g;
	SELECT scalecache.create_cache_rule('t', 't', 't:{id}')});
ok(delivered(), 'delivered');
ready();

# ---- what one server start has filled, the next one finds ----
is(fetch(1), 'one', 'the query is run');
like($redis->command('GET', 't:1'), qr/^\{"scalecache":"result","of":"[0-9\/]+","rows":\[\{"v": "one"\}\]\}$/, 'and its result is in Redis');
cmp_ok($redis->command('PTTL', 't:1'), '>', 0, 'with its ttl');
$node->restart;
ready();
is(fetch(1, '42'), 'one', 'from Redis after a restart');
$redis->command('DEL', 't:1');
is(fetch(1, '43'), 'one', 'then from memory');
sql("UPDATE t SET v = 'two' WHERE id = 1");
is(fetch(1), 'two', 'not once it has changed');

# ---- a commit that is not delivered yet ----
ok(delivered(), 'delivered');
is(fetch(2), 'one', 'filled');
$node->restart;
ready();
my $pid = sql($worker);
kill('STOP', $pid);
sql("UPDATE t SET v = 'two' WHERE id = 2");
like($redis->command('GET', 't:2'), qr/one/, 'Redis has the older value');
is(fetch(2), 'two', 'which is not taken');
is(fetch(2), 'two', 'nor kept');
kill('CONT', $pid);
ok(delivered(), 'delivered');
is(fetch(2, '7'), 'two', 'the newer one stays');
my $old = $node->background_psql($p);
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
sql("UPDATE t SET v = 'three' WHERE id = 2");
ok(delivered(), 'delivered');
is($old->query_safe("SELECT scalecache.cached_query('t:2', 'SELECT v FROM t WHERE id = 2')->0->>'v'"), 'two', 'an old snapshot reads an older value');
is($redis->command('GET', 't:2'), undef, 'and leaves it nowhere');
$old->quit;
is(fetch(2), 'three', 'so others read the newer one');

# ---- by hand ----
my $token = sql("SELECT scalecache.cache_token()");
is(fcall('scalecache_fill', 1, 't:3', 'app', $token, 0), '1', 'an application fills');
is(sql("SELECT scalecache.cache_get('t:3')"), 'app', 'cache_get finds it');
is(fetch(3), 'one', 'cached_query does not take it for a result');
is($redis->command('GET', 't:3'), 'app', 'nor replace it');
sql("UPDATE t SET v = 'x' WHERE id = 3");
is(sql("SELECT scalecache.cache_get('t:3') IS NULL"), 't', 'gone with the row');
is(fcall('scalecache_get', 1, 'free'), 'nil', 'a lease') if delivered();
is(sql("SELECT scalecache.cache_get('free') IS NULL"), 't', 'cache_get asks for none');
is(sql("SELECT scalecache.cache_set('by', 'hand', '1 hour')"), 't', 'cache_set');
is($redis->command('GET', 'by'), 'hand', 'is for Redis too');
cmp_ok($redis->command('PTTL', 'by'), '>', 0, 'with a ttl');
is(sql("SELECT scalecache.cache_delete('by')"), '1', 'cache_delete');
ok(delivered(), 'delivered');
is($redis->command('GET', 'by'), undef, 'as well');
is(sql("SELECT scalecache.cache_get('by') IS NULL"), 't', 'in both');
is(sql(qq(SELECT scalecache.cache_set('t:4', '{"scalecache":"result","of":"me"}'))), 'f', 'a forged result');
$redis->command('SET', 'bytes', "a\xffb");
is(sql("SELECT scalecache.cache_get('bytes') IS NULL"), 't', 'no text');

# ---- roles ----
sql('CREATE ROLE app; CREATE ROLE guest; GRANT SELECT ON t TO app, guest;
	GRANT EXECUTE ON FUNCTION scalecache.cache_get, scalecache.cache_set TO app');
for my $call ("cache_get('t:1')", "cache_set('t:1', 'x')", "cache_delete('t:1')")
{
	my ($ret, $out, $err) = $node->psql($p, "SET ROLE guest; SELECT scalecache.$call");
	like($err, qr/permission denied for function/, "$call is not for all");
}
is(sql("SET ROLE guest; SELECT scalecache.cached_query('who', 'SELECT current_user AS me')"), '[{"me": "guest"}]', 'cached_query is');
is($redis->command('GET', 'who'), undef, 'in memory');
is(sql("SET ROLE app; SELECT scalecache.cached_query('who', 'SELECT current_user AS me')"), '[{"me": "app"}]', 'and in Redis for those who may');
like($redis->command('GET', 'who'), qr/"app"/, 'there it is');
is(sql("SELECT scalecache.cached_query('who', 'SELECT 1 AS me')"), '[{"me": 1}]', 'each role has its own');

# ---- rubbish ----
is(fetch(5), 'one', 'a good value');
(my $good = $redis->command('GET', 't:5')) =~ s/\[.*//;
for my $bad ($good, "$good}", "$good\[}", "$good\[{\"v\": \"\\u0000\"}]}", "$good\[{\"v\": \xff}]}", "$good\[\0]}", 'nothing')
{
	sql("SELECT scalecache.cache_delete('t:5')");
	ok(delivered(), 'delivered');
	$redis->command('SET', 't:5', $bad);
	is(fetch(5), 'one', 'the query is run');
}
sql("SELECT scalecache.cache_delete('t:5')");
ok(delivered(), 'delivered');
$redis->command('LPUSH', 't:5', 'a list');
is(fetch(5), 'one', 'a key of another type');
$redis->command('FUNCTION', 'FLUSH');
is(fetch(6), 'one', 'no functions');
ok($node->poll_query_until($p, 'SELECT functions_loaded FROM scalecache.redis_status'), 'loaded again');
ready();

# ---- frozen, and away ----
set('session_timeout', '20ms');
set('redis_timeout', '10min');
ok(delivered(), 'delivered');
$redis->signal('STOP');
is(sql("SELECT count(*) FROM generate_series(1, 100) g WHERE scalecache.cached_query('frozen:' || g, 'SELECT 1 AS v')->0->>'v' = '1'"),
	'100', 'frozen: every query is run');
is(sql("SELECT scalecache.cache_get('frozen') IS NULL AND NOT scalecache.cache_set('frozen', 'x')"), 't', 'by hand');
$redis->signal('CONT');
ready();
my $victim = $node->background_psql($p, on_error_stop => 0);
$pid = $victim->query("SET scalecache.session_timeout = '10min'; SELECT pg_backend_pid()");
$victim->{stdin} .= "SELECT count(scalecache.cache_get('n' || g)) FROM (SELECT generate_series(1, 1000000000) AS g) s;\n";
$victim->{run}->pump_nb;
ok($node->poll_query_until($p, "SELECT state = 'active' FROM pg_stat_activity WHERE pid = $pid"), 'a session reads');
$redis->signal('STOP');
ok($node->poll_query_until($p, "SELECT wait_event = 'Extension' FROM pg_stat_activity WHERE pid = $pid"), 'and waits');
sql("SELECT pg_cancel_backend($pid)");
ok($node->poll_query_until($p, "SELECT state <> 'active' FROM pg_stat_activity WHERE pid = $pid"), 'which can be cancelled');
$redis->signal('CONT');
like($victim->query("SELECT scalecache.cached_query('t:19', 'SELECT v FROM t WHERE id = 19')"), qr/one/, 'the session goes on');
$victim->quit;
set('redis_timeout', '30s');
set('session_timeout', '100s');
ready();
is(fetch(7), 'one', 'thawed');
like($redis->command('GET', 't:7'), qr/one/, 'and filled');
$redis->kill9;
is(fetch(8), 'one', 'away: the query is run');
is(sql("SELECT scalecache.cache_get('x') IS NULL AND NOT scalecache.cache_set('x', 'y')"), 't', 'by hand');
sql("UPDATE t SET v = 'away' WHERE id = 8");
is(fetch(8), 'away', 'memory works');
$redis->start;
ready();
is(fetch(8), 'away', 'back');

# ---- Redis has what was not deleted yet, memory does not know the key ----
sql("UPDATE t SET v = 'one' WHERE id = 12");
ok(delivered(), 'delivered');
ready();
is(fcall('scalecache_fill', 1, 't:12', 'one', sql('SELECT scalecache.cache_token()'), 0), '1', 'filled by an application');
my $stopped = sql($worker);
kill('STOP', $stopped);
sql("UPDATE t SET v = 'two' WHERE id = 12");
is($redis->command('GET', 't:12'), 'one', 'not deleted yet');
is(sql("SELECT scalecache.cache_get('t:12') IS NULL"), 't', 'what Redis has is not believed');
is(fetch(12), 'two', 'and the query is run');
kill('CONT', $stopped);
ok(delivered(), 'delivered');

# ---- another Redis, and back ----
my $second = RedisServer->new;
$token = sql("SELECT scalecache.cache_token()");
is(fcall('scalecache_fill', 1, 't:9', 'one', $token, 0), '1', 'filled in the first');
set('redis_url', $second->url);
ok($node->poll_query_until($p, "SELECT server LIKE '%$second->{socket}%' AND functions_loaded FROM scalecache.redis_status"), 'the second');
sql("UPDATE t SET v = 'two' WHERE id = 9");
ok(delivered(), 'delivered there');
is($redis->command('GET', 't:9'), 'one', 'the first has missed it');
set('redis_url', $redis->url);
ok($node->poll_query_until($p, "SELECT server LIKE '%$redis->{socket}%' AND functions_loaded FROM scalecache.redis_status"), 'the first again');
ok(delivered(), 'delivered');
is($redis->command('GET', 't:9'), undef, 'it has nothing old');
is(fcall('scalecache_fill', 1, 't:9', 'one', $token, 0), '0', 'and takes nothing old');
$second->stop;
$node->stop;
$redis->stop;
done_testing();
