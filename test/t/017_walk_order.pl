# What is stored, and what is moved from table to table, while a walk goes on for long.  A scripted server
# says how long, and notes what it is told to delete.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use FakeRedis;
use RedisServer;
use ScaleCache;
use Test::More;

my $redis = RedisServer->new;
my $node = new_server('order', conf => "scalecache.redis_url = '" . $redis->url . "'
scalecache.redis_timeout = 30s
scalecache.redis_retry_max = 200
scalecache.naptime = 100
");
my $p = 'postgres';

sub sql { return $node->safe_psql($p, $_[0]); }
sub set { my ($name, $value) = @_; sql("ALTER SYSTEM SET scalecache.$name = '$value'"); sql('SELECT pg_reload_conf()'); }
sub status_is { my ($what, $name) = @_; return ok($node->poll_query_until($p, "SELECT $what FROM scalecache.redis_status"), $name) || diag(sql('SELECT r FROM scalecache.redis_status r')); }
sub queue_is { my ($what, $name) = @_; return ok($node->poll_query_until($p, "SELECT $what FROM scalecache.cache_queue"), $name) || diag(sql('SELECT q FROM scalecache.cache_queue q')); }
sub delivered { return sql("SELECT scalecache.wait_for_cache('170 s')") eq 't'; }

sql(q{CREATE EXTENSION scalecache;
	CREATE TABLE slow (id int); CREATE TABLE w (id int PRIMARY KEY); CREATE TABLE x (id int PRIMARY KEY, v int); CREATE TABLE no (id int PRIMARY KEY);
	SELECT scalecache.create_cache_rule('slow', 'slow', 'slow:{id}');
	SELECT scalecache.create_cache_rule('w', 'w', 'w:{id}', 'write');
	SELECT scalecache.create_cache_rule('no', 'no', 'no:{id}', 'write');
	SELECT scalecache.create_cache_rule('x', 'x', 'x_key_with_a_long_name:{id}');
	INSERT INTO x SELECT g, 0 FROM generate_series(1, 10000) g});
ok(delivered(), 'a real Redis');
my $version = $redis->command('FCALL', 'scalecache_hello', 0, 'x')->[0];
my $path = "$redis->{dir}/fake";
# The mode says what there is: a walk that does not end, keys that may not be deleted.
my $fake = FakeRedis->new(dir => $redis->{dir}, path => $path, version => $version, answer => sub {
	my ($name, $args, $mode) = @_;
	my @found = $name eq 'SCAN' && $args->[3] eq 'w:*' ? ('w:1', $mode =~ /later/ ? 'w:5' : ()) : ();

	return "*2\r\n" . FakeRedis::bulk($mode =~ /endless/ && $args->[3] eq 'slow:*' ? '1' : '0') . '*' . @found . "\r\n" . join('', map { FakeRedis::bulk($_) } @found)
	  if $name eq 'SCAN';
	return "-NOPERM no permission to store that\r\n" if $name eq 'scalecache_store' && $args->[3] eq 'no:1';
	return "-NOPERM no permission for a key\r\n" if $name eq 'UNLINK' && $mode =~ /protected/ && "@$args" =~ / x_key/;
	return undef;
});

# ---- an epoch that is sent singly comes after what was stored before ----
$fake->set_mode('endless');
set('redis_url', "redis+unix://$path");
status_is("server ~ 'fake,' AND connected AND functions_loaded", 'connected to one that obeys');
sql('TRUNCATE slow');
ok($fake->hears(qr/^SCAN \d+ MATCH slow:\* .*\nSCAN 1 MATCH slow/m), 'a walk goes on and on');
sql('INSERT INTO w VALUES (1)');
ok($fake->hears(qr/^FCALL scalecache_store 1 w:1 /m), 'a value is stored meanwhile');
queue_is('keys = 0', 'and acknowledged');
sql('BEGIN; TRUNCATE w; INSERT INTO no VALUES (1); COMMIT');
ok($fake->hears(qr/^UNLINK no:1$/m), 'a value is refused, in one transaction with an epoch');
queue_is('entries = 3', 'which waits for its walk');
# Who waits for keys of his own does not wait for walks of others.
my ($ret, $out, $err) = $node->psql($p, "SET scalecache.synchronous_invalidation = on; SET scalecache.synchronous_timeout = '170 s'; UPDATE x SET v = v + 1 WHERE id = 1");
is($err, '', 'a commit is acknowledged while walks go on');
($ret, $out, $err) = $node->psql($p, "SET scalecache.synchronous_invalidation = on; SET scalecache.synchronous_timeout = '500 ms'; BEGIN; UPDATE x SET v = v + 1 WHERE id = 1; TRUNCATE slow; COMMIT");
like($err, qr/not acknowledged yet/, 'one that needs such a walk is not');
my $before = length $fake->heard;
$fake->set_mode('');
ok(delivered(), 'the walks end');
like(substr($fake->heard, $before), qr/^UNLINK w:1$/m, 'and the older value is deleted');

# ---- what is stored after an epoch stays ----
$before = length $fake->heard;
$fake->set_mode('endless');
sql('TRUNCATE slow');
ok($fake->hears(qr/^SCAN 1 MATCH slow.*\nSCAN 1 MATCH slow/m, $before), 'a walk goes on and on');
sql('TRUNCATE w');
ok($fake->hears(qr/^FCALL scalecache_epoch .* w:$/m, $before), 'an epoch waits for the next');
sql('INSERT INTO w VALUES (5)');
ok($fake->hears(qr/^FCALL scalecache_store 1 w:5 /m, $before), 'a value is stored meanwhile');
$before = length $fake->heard;
$fake->set_mode('later');
ok(delivered(), 'the walks end');
like(substr($fake->heard, $before), qr/^UNLINK w:1$/m, 'and only the older value is deleted');

# ---- a queue that is moved while tuples wait for a walk ----
set('queue_limit', '64kB');
$fake->set_mode('endless protected');
sql('TRUNCATE slow');
$before = length $fake->heard;
ok($fake->hears(qr/^SCAN 1 MATCH slow.*\nSCAN 1 MATCH slow/m, $before), 'a walk goes on and on');
# What Redis refuses to delete piles up, until it gives way to its rule's epoch.
for my $round (1 .. 6)
{
	sql('UPDATE x SET v = v + 1 WHERE id <= 9500');
	queue_is('keys = 0 AND epochs > 0 AND size_bytes < 65536', "the queue is bounded, round $round");
}
# A key that is in the place of one of those that were moved.
for my $i (9901 .. 9905)
{
	sql("UPDATE x SET v = v + 1 WHERE id = $i");
	ok($fake->hears(qr/^UNLINK x_key_with_a_long_name:$i$/m, $before), "$i is refused");
}
$before = length $fake->heard;
$fake->set_mode('protected');
ok($fake->hears(qr/^SCAN 0 MATCH slow:\* .*\n(?!SCAN 0 MATCH slow)/m, $before), 'the walk ends');
queue_is('keys = 5', 'and only what it was for has gone');
$before = length $fake->heard;
$fake->set_mode('');
ok(delivered(), 'delivered');
my @lost = grep { substr($fake->heard, $before) !~ /^UNLINK( \S+)* x_key_with_a_long_name:$_( |$)/m } 9901 .. 9905;
is("@lost", '', 'each key is, when it may be');

# ---- a table that is written anew meanwhile ----
set('queue_limit', '256MB');
$fake->set_mode('endless protected');
sql('UPDATE x SET v = v + 1 WHERE id = 9906');
ok($fake->hears(qr/^UNLINK x_key_with_a_long_name:9906$/m), 'a key is refused');
$before = length $fake->heard;
sql('INSERT INTO w VALUES (2)');
ok($fake->hears(qr/^FCALL scalecache_store 1 w:2 /m, $before), 'another one is done with');
queue_is('keys = 1', 'and deleted from the queue');
sql('TRUNCATE slow');
ok($fake->hears(qr/^SCAN 1 MATCH slow.*\nSCAN 1 MATCH slow/m, $before), 'a walk goes on and on');
sql('UPDATE x SET v = v + 1 WHERE id = 9907');
ok($fake->hears(qr/^UNLINK x_key_with_a_long_name:9907$/m), 'another key is refused');
sql("VACUUM FULL scalecache.cache_outbox_$_") for 0 .. 3;
$before = length $fake->heard;
$fake->set_mode('protected');
ok($fake->hears(qr/^SCAN 0 MATCH slow:\* .*\n(?!SCAN 0 MATCH slow)/m, $before), 'the walk ends');
$before = length $fake->heard;
ok($fake->hears(qr/^UNLINK x_key_with_a_long_name:9907$/m, $before), 'no key has gone in its place');
$fake->set_mode('');
ok(delivered(), 'delivered');

# ---- the same, where what is in its place is of the same transaction ----
sub places { return join(' ', map { my $n = $_; map { "$n$_" } split(' ', sql("SELECT string_agg(ctid::text, ' ' ORDER BY ctid) FROM scalecache.cache_outbox_$n")) } 0 .. 3); }
sql(q{CREATE TABLE y (id text); SELECT scalecache.create_cache_rule('y', 'y', 'y:{id}')});
ok(delivered(), 'delivered');
$fake->set_mode('endless');
sql(q{BEGIN; INSERT INTO y SELECT repeat(c, 3000) FROM unnest('{a,b,c}'::text[]) c; TRUNCATE slow; COMMIT});
queue_is('keys = 1 AND epochs = 1', 'one that waits for a walk keeps no other of its transaction');
$fake->set_mode('');
ok(delivered(), 'delivered');
queue_is('size_bytes = 0', 'the tables are empty');
$fake->set_mode('endless protected');
$before = length $fake->heard;
sql(q{BEGIN; INSERT INTO y SELECT repeat(c, 3000) FROM unnest('{a,b,c}'::text[]) c; TRUNCATE slow;
	INSERT INTO y SELECT repeat(c, 3000) FROM unnest('{d,e}'::text[]) c; UPDATE x SET v = v + 1 WHERE id = 9908; COMMIT});
ok($fake->hears(qr/^UNLINK x_key_with_a_long_name:9908$/m, $before), 'a key is refused');
ok($fake->hears(qr/^SCAN 1 MATCH slow.*\nSCAN 1 MATCH slow/m, $before), 'a walk goes on and on');
like(places(), qr/^(\d)\(1,1\) \1\(2,1\)$/, 'of three tuples the first has gone');
sql("VACUUM FULL scalecache.cache_outbox_$_") for 0 .. 3;
like(places(), qr/^(\d)\(0,1\) \1\(1,1\)$/, 'the last is where the one with the epoch was');
$before = length $fake->heard;
$fake->set_mode('protected');
ok($fake->hears(qr/^SCAN 0 MATCH slow:\* .*\n(?!SCAN 0 MATCH slow)/m, $before), 'the walk ends');
queue_is('epochs = 0 AND keys = 2', 'and only what it was for has gone');
$before = length $fake->heard;
$fake->set_mode('');
ok(delivered(), 'delivered');
ok($fake->hears(qr/^UNLINK( \S+)* x_key_with_a_long_name:9908( |$)/m, $before), 'the key as well');

$fake->stop;
$node->stop;
$redis->stop;
done_testing();
