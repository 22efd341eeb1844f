# Two servers that use one Redis, each a database number of its own, or keys
# that begin with words of its own: neither meets what is the other's.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use RedisServer;
use ScaleCache;
use Test::More;

my $redis = RedisServer->new;
my $p = 'postgres';
my %url = (one => $redis->url, two => $redis->url . '?db=1');
my %node = map { $_ => new_server("shared_$_", conf => "scalecache.redis_url = '$url{$_}'
scalecache.naptime = 100
scalecache.redis_retry_max = 200
scalecache.tombstone_time = 600000
") } sort keys %url;
my %client = map { $_ => $redis->client } keys %url;

$client{two}->command('SELECT', 1);

sub sql { my ($who, $sql) = @_; return $node{$who}->safe_psql($p, $sql); }
sub delivered { my ($who) = @_; return sql($who, "SELECT scalecache.wait_for_cache('180 s')") eq 't'; }
sub token { my ($who) = @_; return sql($who, 'SELECT scalecache.cache_token()'); }

sub fcall
{
	my ($who, $name, @args) = @_;
	my $reply = eval { $client{$who}->command('FCALL', $name, 1, @args) } // 'nil';

	return $@ ? ($@ =~ /^(\w+)/)[0] : $reply;
}

sub armed
{
	my ($who) = @_;
	return $node{$who}->poll_query_until($p, 'SELECT functions_loaded FROM scalecache.redis_status');
}

# ---- the same keys, in two databases of Redis ----
for my $who ('one', 'two')
{
	sql($who, q{CREATE EXTENSION scalecache; CREATE TABLE t (id int PRIMARY KEY, v int);
		INSERT INTO t SELECT g, 0 FROM generate_series(1, 9) g;
		SELECT scalecache.create_cache_rule('t', 't', 't:{id}')});
	ok(delivered($who), "$who: delivered");
}
is(sql('one', 'SELECT oid FROM pg_database WHERE datname = current_database()'),
	sql('two', 'SELECT oid FROM pg_database WHERE datname = current_database()'), 'databases of one oid');
ok(armed($_), "$_: the functions serve") for 'one', 'two';
# Their transaction ids are far apart.
sql('two', 'BEGIN; SELECT txid_current(); COMMIT;' x 200);
$client{$_}->command('SET', 't:1', $_) for 'one', 'two';
sql('one', 'UPDATE t SET v = 1 WHERE id = 1');
ok(delivered('one'), 'delivered');
is($client{one}->command('GET', 't:1'), undef, 'one: its key has gone');
is($client{two}->command('GET', 't:1'), 'two', 'two: its has not');
for my $round (['one', 'two'], ['two', 'one'])
{
	my ($writer, $other) = @$round;
	my %early = map { $_ => token($_) } 'one', 'two';

	sql($writer, 'UPDATE t SET v = v + 1 WHERE id = 2');
	ok(delivered($writer), "$writer writes");
	is(fcall($writer, 'scalecache_fill', 't:2', 'old', $early{$writer}, 0), '0', 'an old value is refused');
	is(fcall($other, 'scalecache_fill', 't:2', 'good', $early{$other}, 0), '1', "and $other\'s of the same key is not");
	is(fcall($writer, 'scalecache_fill', 't:2', 'new', token($writer), 0), '1', 'a new one is stored');
	is(sql($_, "SELECT scalecache.cached_query('t:3', 'SELECT v, ''$_'' AS who FROM t WHERE id = 3')->0->>'who'"), $_, "$_: its own result") for 'one', 'two';
	like($client{$_}->command('GET', 't:3'), qr/"who": "$_"/, "$_: in its own place") for 'one', 'two';
	sql($writer, 'TRUNCATE t; INSERT INTO t SELECT g, 0 FROM generate_series(1, 9) g');
	ok(delivered($writer), "$writer truncates");
	is($client{$writer}->command('GET', 't:3'), undef, 'its keys have gone');
	like($client{$other}->command('GET', 't:3'), qr/"who"/, "$other\'s have not");
}

# ---- neither waits for the other ----
$client{$_}->command('SET', 't:4', $_) for 'one', 'two';
$node{two}->stop('immediate');
sql('one', 'UPDATE t SET v = 1 WHERE id = 4');
ok(delivered('one'), 'one delivers without two');
is($client{two}->command('GET', 't:4'), 'two', 'and leaves its keys alone');
is(fcall('one', 'scalecache_fill', 't:4', 'v', token('one'), 0), '1', 'and fills');
# Redis has forgotten both, and one comes first
$redis->kill9;
$redis->start;
%client = map { $_ => $redis->client } keys %url;
$client{two}->command('SELECT', 1);
$client{two}->command('SET', 't:4', 'of before');
ok($node{one}->poll_query_until($p, 'SELECT functions_loaded AND connects > 1 FROM scalecache.redis_status'), 'another Redis, and two is away');
is(fcall('one', 'scalecache_fill', 't:5', 'v', token('one'), 0), '1', 'which takes values from one');
$node{two}->start;
ok(armed('two'), 'two comes');
is($client{two}->command('GET', 't:4'), undef, 'what it has missed has gone');
is($client{one}->command('GET', 't:5'), 'v', 'and nothing else');
is(fcall($_, 'scalecache_fill', 't:6', $_, token($_), 0), '1', "$_ fills") for 'one', 'two';
# A crash of one makes its tokens new, and the other's stay as they are.
my %early = map { $_ => token($_) } 'one', 'two';
$node{one}->stop('immediate');
$node{one}->start;
ok($node{one}->poll_query_until($p, 'SELECT functions_loaded FROM scalecache.redis_status'), 'one is back');
is(fcall('one', 'scalecache_fill', 't:7', 'v', $early{one}, 0), '0', 'a token of before');
is(fcall('two', 'scalecache_fill', 't:7', 'v', $early{two}, 0), '1', 'and one of the other');

# ---- one database of Redis, and keys that begin with words of their own ----
for my $who ('one', 'two')
{
	sql($who, "SELECT scalecache.create_cache_rule('own', 't', '$who:{id}', 'write', 'v::text')");
	$node{$who}->append_conf('postgresql.conf', "scalecache.redis_url = '$url{one}'");
	$node{$who}->reload;
}
ok($node{$_}->poll_query_until($p, q{SELECT server ~ 'database 0' AND functions_loaded FROM scalecache.redis_status}), "$_: in the same database") for 'one', 'two';
for my $who ('one', 'two')
{
	my ($other) = grep { $_ ne $who } 'one', 'two';

	sql($who, 'UPDATE t SET v = 50');
	ok(delivered($who), 'delivered');
	is($client{one}->command('GET', "$who:1"), '50', "$who: its value");
	$client{one}->command('SET', "$other:9", 'kept');
	sql($who, 'TRUNCATE t; INSERT INTO t SELECT g, 0 FROM generate_series(1, 8) g');
	ok(delivered($who), 'delivered');
	is($client{one}->command('GET', "$other:9"), 'kept', "and not $other\'s");
	is($client{one}->command('GET', "$who:9"), undef, 'a row that has gone');
	is($client{one}->command('GET', "$who:8"), '0', 'and one that came');
}

# ---- one that goes for good, before it has said that nothing old is left ----
$client{one}->command('FCALL', 'scalecache_arm', 0, '77/5', '77', 1, 'boot', '10:', 2000, 'begin', 'link');
is(fcall('one', 'scalecache_fill', 'one:1', 'v', token('one'), 0), '0', 'a third is waited for');
$client{one}->command('FUNCTION', 'DELETE', 'scalecache');
ok($node{$_}->poll_query_until($p, "SELECT functions_loaded AND last_error ~ 'library|not found' FROM scalecache.redis_status"), "$_ begins anew") for 'one', 'two';
is(fcall('one', 'scalecache_fill', "$_:1", 'v', token($_), 0), '1', "$_ fills") for 'one', 'two';

$_->stop for values %node;
$redis->stop;
done_testing();
