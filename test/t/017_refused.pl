# What a Redis refuses that is there and well: one value, one key, the functions.  Everything else is
# delivered, and it can be seen what is not.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CacheServer;
use RedisServer;
use Test::More;

my $redis = RedisServer->new;
my $node = cache_server('refused', undef, "scalecache.redis_timeout = 1s\n");
my $p = 'postgres';

sub status { my ($what) = @_; return sql("SELECT coalesce($what, '') FROM scalecache.redis_status"); }
sub there { my (@keys) = @_; return join(' ', grep { defined $redis->command('GET', $_) } @keys); }

sql(q{CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 100) g;
	CREATE TABLE w (id int PRIMARY KEY, n int);
	SELECT scalecache.create_cache_rule('t', 't', 't:{id}');
	SELECT scalecache.create_cache_rule('w', 'w', 'w:{id}', 'write', 'repeat(id::text, n)'); INSERT INTO w VALUES (1, 1)});

# ---- values larger than Redis takes: it hangs up ----
set('redis_url', $redis->url);
ok($node->poll_query_until($p, 'SELECT connected AND functions_loaded FROM scalecache.redis_status'), 'connected');
ok(delivered(), 'delivered');
$redis->command('CONFIG', 'SET', 'proto-max-bulk-len', 1024 * 1024);
$redis->command('SET', 'w:2', 'old');
$redis->command('SET', 't:8', 'old');
sql("BEGIN; INSERT INTO w VALUES (2, 3000000), (3, 10), (4, 500000); UPDATE t SET v = v + 1 WHERE id = 8; COMMIT");
ok(delivered(), 'delivered');
is(there('w:2', 't:8'), '', 'the key of the value is deleted, others are delivered');
is($redis->command('GET', 'w:3'), '3333333333', 'other values are stored');
like(failing('w'), qr/^value has 3000000 bytes, and Redis seems to take no more than 1500000$/, 'the rule says why');
is(sql(q{CREATE ROLE stranger; SET ROLE stranger; SELECT failing FROM scalecache.cache_rules WHERE name = 'w'}),
	'<insufficient privilege>', 'but not to everybody');
is(sql(q{GRANT pg_read_all_stats TO stranger; SET ROLE stranger; SELECT failing FROM scalecache.cache_rules WHERE name = 'w'}),
	failing('w'), 'only to who sees statistics, too');
my $status = 'SELECT connected, server, nodes, run_id FROM scalecache.redis_status';
is(sql("SET ROLE stranger; $status"), sql($status), 'nor where Redis is');
sql('REVOKE pg_read_all_stats FROM stranger');
is(sql("SET ROLE stranger; $status"), 't|<insufficient privilege>|{"<insufficient privilege>"}|<insufficient privilege>', 'to others');
is($redis->command('STRLEN', 'w:4'), 500000, 'large ones, too');
$redis->command('CONFIG', 'SET', 'proto-max-bulk-len', 512 * 1024 * 1024);
sql("UPDATE w SET n = 20 WHERE id = 2");
ok(delivered(), 'delivered');
is($redis->command('GET', 'w:2'), '2' x 20, 'the next value is stored');
is(failing('w'), '', 'and nothing fails any more');
# One that takes its time, among many: the pipeline is not as large as all of them.
sql('INSERT INTO w SELECT g, 600000 FROM generate_series(11, 99) g');
ok(delivered(), 'delivered');
is(join(' ', grep { $redis->command('STRLEN', "w:$_") != 1200000 } 11 .. 99), '', 'many megabytes');

# ---- what the user may not do ----
sub acl { $redis->command('ACL', 'SETUSER', 'app', 'reset', 'on', '>pw', '+@all', @_); }
acl('~*', '-set');
set('redis_url', 'redis+unix://app:pw@' . ($redis->url =~ s{.*://}{}r));
ok($node->poll_query_until($p, 'SELECT connected AND functions_loaded FROM scalecache.redis_status'), 'another user');
ok(delivered(), 'delivered');
$redis->command('SET', $_, 'old') for 'w:1', 't:9';
sql('BEGIN; UPDATE w SET n = 5 WHERE id = 1; UPDATE t SET v = v + 1 WHERE id = 9; COMMIT');
ok(delivered(), 'delivered');
is(there('w:1', 't:9'), '', 'who may not store values has their keys deleted');
like(failing('w'), qr/^Redis has refused the value: /, 'the rule says so');
acl('~w:*', '~t:1*');
ok($node->poll_query_until($p, 'SELECT connected AND functions_loaded FROM scalecache.redis_status'), 'who may do that');
my @keys = map { "t:$_" } 1 .. 30;
$redis->command('SET', $_, 'old') for @keys, 'w:1';
sql("UPDATE t SET v = v + 1 WHERE id = $_") for 1 .. 30;
sql('UPDATE w SET n = 6 WHERE id = 1');
ok($node->poll_query_until($p, 'SELECT keys = 19 FROM scalecache.cache_queue'), 'keys that may not be deleted wait')
  or diag(sql('SELECT q FROM scalecache.cache_queue q'));
is(there(@keys), join(' ', grep { !/t:1/ } @keys), 'all others are');
is($redis->command('GET', 'w:1'), '111111', 'and values are stored');
is(failing('w'), '', 'nothing fails any more');
like(status('warning'), qr/^keys are not deleted: NOPERM/, 'the status tells of it');
is(sql("SELECT scalecache.wait_for_cache('200 ms')"), 'f', 'they are not acknowledged');
sql('UPDATE t SET v = v + 1 WHERE id = 10');
$redis->command('SET', 't:10', 'old');
sql('UPDATE t SET v = v + 1 WHERE id = 10');
ok($node->poll_query_until($p, 'SELECT keys = 19 FROM scalecache.cache_queue'), 'later ones are delivered')
  or diag(sql('SELECT q FROM scalecache.cache_queue q'));
is(there('t:10'), '', 'later keys, too');
# Keys of one transaction stay together.
$redis->command('SET', $_, 'old') for 't:11', 't:2';
sql('UPDATE t SET v = v + 1 WHERE id IN (2, 11)');
ok($node->poll_query_until($p, 'SELECT keys = 21 FROM scalecache.cache_queue'), 'a transaction waits as a whole');
for (1 .. 900)
{
	last if there('t:11') eq '';
	select(undef, undef, undef, 0.1);
}
is(there('t:11'), '', 'though what can be deleted is');
acl('~*');
ok(delivered(), 'delivered');
is(there(@keys), '', 'all have gone');
ok($node->poll_query_until($p, 'SELECT warning IS NULL FROM scalecache.redis_status'), 'and nothing is wrong any more');

# ---- sessions do not believe a Redis that still has what should have gone ----
sub got { my ($id) = @_; return sql("SELECT coalesce(scalecache.cache_get('t:$id'), 'none')"); }
$redis->command('SET', "t:$_", 'old') for 50 .. 52;
ok($node->poll_query_until($p, "SELECT scalecache.cache_get('t:50') = 'old'"), 'a session reads from Redis');
for my $case ([ 'a key', 'UPDATE t SET v = v + 1 WHERE id = 50', 50, 51 ], [ 'all keys', 'TRUNCATE t', 52 ])
{
	my ($what, $write, $stale, $good) = @$case;
	my $turns = q{SELECT last_error_at FROM scalecache.redis_status};

	acl('~*', '-unlink');
	sql($write);
	ok($node->poll_query_until($p, "SELECT warning ~ '^keys are not deleted: NOPERM' FROM scalecache.redis_status"), "$what: may not be deleted");
	for (1 .. 5)
	{
		my $turn = sql($turns);

		is(got($stale), 'none', "$what: what Redis has is not believed");
		ok($node->poll_query_until($p, "SELECT last_error_at > '$turn' FROM scalecache.redis_status"), "$what: the worker tries again");
	}
	is(got($good), 'old', "$what: others are") if $good;
	is($redis->command('GET', "t:$stale"), 'old', "$what: though it is there");
	acl('~*');
	ok(delivered(), 'delivered');
	is(there("t:$stale"), '', "$what: has gone");
}
sql('INSERT INTO t SELECT g, 0 FROM generate_series(1, 100) g');

# ---- full before the functions are there ----
set('redis_url', '');
ok($node->poll_query_until($p, 'SELECT NOT configured FROM scalecache.redis_status'), 'no Redis');
$redis->command('FUNCTION', 'FLUSH');
$redis->command('SET', "t:$_", 'old') for 1 .. 100;
$redis->command('CONFIG', 'SET', 'maxmemory', '1');
set('redis_url', $redis->url);
ok(delivered(), 'a full Redis gets its keys deleted');
is(there(map { "t:$_" } 1 .. 100), '', 'all keys of the rules');
like(status('warning'), qr/full and does not take the functions/, 'the status says so');
is(sql('SELECT connected AND NOT functions_loaded FROM scalecache.redis_status'), 't', 'connected, without functions');
$redis->command('CONFIG', 'SET', 'maxmemory', '0');
$redis->command('SET', 't:7', 'old');
$redis->command('CONFIG', 'SET', 'maxmemory', '1');
sql('UPDATE t SET v = v + 1 WHERE id = 7');
ok(delivered(), 'delivered');
is(there('t:7'), '', 'a single key');
sql('INSERT INTO w VALUES (5, 10)');
ok(delivered(), 'delivered');
is(there('w:5'), '', 'a value has no room');
$redis->command('CONFIG', 'SET', 'maxmemory', '0');
ok($node->poll_query_until($p, 'SELECT functions_loaded AND warning IS NULL FROM scalecache.redis_status'), 'the functions are loaded when there is room');
is($redis->command('FCALL', 'scalecache_fill', 1, 't:7', 'v', sql('SELECT scalecache.cache_token()'), 0), 1, 'and take values');
# An older library would not hear of what is deleted.
$redis->command('FUNCTION', 'LOAD', 'REPLACE', "#!lua name=scalecache\nredis.register_function('scalecache_hello', function() return {'another', 1, 0, 0, 0, 0, 0, 0} end)
redis.register_function('scalecache_get', function() return 'stale' end)");
$redis->command('CONFIG', 'SET', 'maxmemory', '1');
ok($node->poll_query_until($p, "SELECT warning ~ 'full' FROM scalecache.redis_status"), 'it is full, and has another library');
is(eval { join('', @{ $redis->command('FUNCTION', 'LIST') }) }, '', 'which has gone');
$redis->command('CONFIG', 'SET', 'maxmemory', '0');
ok($node->poll_query_until($p, 'SELECT functions_loaded FROM scalecache.redis_status'), 'ours is back');

# ---- one that is too old for functions ----
# What another one did not take, or had no room for, this one does.
sql('INSERT INTO w VALUES (201, 1000000)');
ok(delivered(), 'delivered');
is(there('w:201'), '', 'a value for which there was no room just now');
my $former = RedisServer->new(args => [ '--rename-command', 'FCALL', '', '--rename-command', 'FUNCTION', '' ]);
sub there_too { my (@keys) = @_; return join(' ', grep { defined $former->command('GET', $_) } @keys); }
sql("SELECT scalecache.create_cache_rule('v', 't', 'v:{id}', 'write', 'v::text', '1 h')");
$former->command('SET', $_, 'old') for 't:1', 'v:1', 'other:1';
set('redis_url', $former->url);
ok($node->poll_query_until($p, "SELECT connected AND NOT functions_loaded AND warning ~ '^Redis 7 or later' FROM scalecache.redis_status"), 'it is used, with a warning');
ok(delivered(), 'delivered');
is(there_too('t:1', 'v:1', 'other:1'), 'other:1', 'what it may have missed has gone');
$former->command('SET', $_, 'old') for 't:1', 't:2', 'v:1';
sql('UPDATE t SET v = 77 WHERE id = 1; UPDATE w SET n = n WHERE id = 201');
ok(delivered(), 'delivered');
is(there_too('t:1', 't:2'), 't:2', 'keys are deleted');
is($former->command('GET', 'v:1'), '77', 'values are stored');
is($former->command('STRLEN', 'w:201'), 3000000, 'large ones, too');
cmp_ok($former->command('PTTL', 'v:1'), '>', 3000000, 'with their ttl');
is(sql("SELECT scalecache.cached_query('former', 'SELECT 1 AS n'), scalecache.cache_set('former:2', 'x'), scalecache.cache_get('t:2') IS NULL"),
	'[{"n": 1}]|f|t', 'sessions do without it');
sql('TRUNCATE t');
ok(delivered(), 'delivered');
is(there_too('t:2', 'v:1', 'former', 'other:1'), 'other:1', 'all keys of a rule are deleted');
$former->stop;

$node->stop;
$redis->stop;
done_testing();
