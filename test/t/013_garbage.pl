# Whatever answers in place of Redis: nothing is taken for an acknowledgement,
# no writer notices, and the keys are delivered when a Redis is back.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use FakeRedis;
use RedisServer;
use ScaleCache;
use Test::More;

my $redis = RedisServer->new;
my $fake = "$redis->{dir}/fake";
my $node = new_server('garbage', conf => "scalecache.redis_url = 'redis+unix://$fake'
scalecache.redis_timeout = 400
scalecache.redis_retry_max = 30
scalecache.naptime = 50
");
my $p = 'postgres';

sub sql { return $node->safe_psql($p, $_[0]); }

# The version of the library, from one that the worker has loaded
sql(q{CREATE EXTENSION scalecache; CREATE TABLE t (id int PRIMARY KEY, v int);
	INSERT INTO t SELECT g, 0 FROM generate_series(1, 100) g;
	SELECT scalecache.create_cache_rule('t', 't', 't:{id}')});
sql("ALTER SYSTEM SET scalecache.redis_url = '" . $redis->url . "'");
sql('SELECT pg_reload_conf()');
ok($node->poll_query_until($p, "SELECT scalecache.wait_for_cache('1 s')"), 'a real Redis');
my $version = $redis->command('FCALL', 'scalecache_hello', 0, 'x')->[0];
my $server = FakeRedis->new(dir => $redis->{dir}, path => $fake, version => $version, answer => sub {
	my ($name, $args, $mode) = @_;
	my ($when, $what) = split /\n/, $mode, 2;

	return undef unless $name eq ($when // '');
	return $what eq '' || $what =~ /^\$/ ? [$what] : $what;
});

my $worker = q{SELECT pid FROM pg_stat_activity WHERE datname = 'postgres' AND backend_type = 'scalecache delivery'};
my $pid = sql($worker);
my @cases = (
	[ 'SELECT', "HTTP/1.1 400 Bad Request\r\n\r\n", 'bad reply|protocol' ],
	[ 'SELECT', '', 'timeout' ],
	[ 'SELECT', "-NOAUTH Authentication required.\r\n", 'NOAUTH' ],
	[ 'INFO', '$100' . "\r\nhalf a reply", 'timeout' ],
	[ 'INFO', "-LOADING Redis is loading the dataset in memory\r\n", 'LOADING' ],
	[ 'INFO', ":1\r\n", 'unexpected reply to INFO' ],
	[ 'INFO', "\$10\r\nrole:slave\r\n", 'cannot be written to|timeout' ],
	[ 'scalecache_hello', "-NOPERM this user has no permissions\r\n", '^NOPERM' ],
	[ 'scalecache_arm', "-TIMELINE a later timeline is served here\r\n", 'TIMELINE' ],
	[ 'scalecache_arm', "*-1\r\n", 'unexpected reply' ],
	(map { [ 'scalecache_bury', "-$_\r\n", "^$_" ] }
		'LOADING Redis is loading the dataset in memory', "READONLY You can't write against a read only replica.",
		'OOM command not allowed', 'MOVED 3999 127.0.0.1:6381', 'NOSCRIPT No matching script', 'ERR Function not found',
		'UNARMED 1', 'BUSY Redis is busy running a script', 'CLUSTERDOWN The cluster is down'),
	[ 'scalecache_bury', 'close', 'closed' ],
	[ 'scalecache_bury', '', 'timeout' ],
	[ 'scalecache_bury', '$999999999' . "\r\nand then", 'timeout' ],
	[ 'scalecache_bury', '*1000000' . "\r\n", 'timeout' ],
	[ 'scalecache_bury', "\0\1\2\3\xff" x 1000, 'bad reply' ],
	[ 'UNLINK', "-READONLY You can't write against a read only replica.\r\n", '^READONLY' ],
	[ 'UNLINK', 'close', 'closed' ],
	[ 'UNLINK', '', 'timeout' ],
	[ 'UNLINK', ":1\r\n:2\r\n", 'no command was sent' ]);
my $id = 0;
for my $case (@cases)
{
	my ($when, $what, $error) = @$case;
	(my $shown = "$when: " . substr($what, 0, 30)) =~ s/[^ -~]+/ /g;

	$server->set_mode("$when\n$what");
	sql("ALTER SYSTEM SET scalecache.redis_url = 'redis+unix://$fake'");
	sql('SELECT pg_reload_conf()');
	# The worker has left the real one.
	ok($node->poll_query_until($p, "SELECT server LIKE '%fake%' FROM scalecache.redis_status"), "$shown: tried");
	$id++;
	$redis->command('SET', "t:$id", 'x');
	sql("UPDATE t SET v = v + 1 WHERE id = $id");
	# A slow machine may see timeouts first; the attempts go on.
	ok($node->poll_query_until($p, "SELECT server LIKE '%fake%' AND failures > 0 AND last_error ~ \$re\$$error\$re\$ FROM scalecache.redis_status"),
		"$shown: fails, and says how");
	is(sql('SELECT entries >= 1 FROM scalecache.cache_queue'), 't', 'the key stays queued');
	sql("ALTER SYSTEM SET scalecache.redis_url = '" . $redis->url . "'");
	sql('SELECT pg_reload_conf()');
	ok($node->poll_query_until($p, "SELECT server NOT LIKE '%fake%' AND scalecache.wait_for_cache('2 s') FROM scalecache.redis_status"),
		'delivered to a real one');
	is($redis->command('GET', "t:$id"), undef, 'the key has gone');
}
is(sql($worker), $pid, 'the worker is still the same');

# Tombstones are there before keys are deleted: a fill between the two would else be taken, and stay.
$server->set_mode('');
sql("ALTER SYSTEM SET scalecache.redis_url = 'redis+unix://$fake'");
sql('SELECT pg_reload_conf()');
ok($node->poll_query_until($p, "SELECT server LIKE '%fake%' AND functions_loaded AND scalecache.wait_for_cache('2 s') FROM scalecache.redis_status"),
	'a polite server');
my $from = length $server->heard;
sql('UPDATE t SET v = v + 1 WHERE id = 100');
ok($server->hears(qr/UNLINK t:100\n/, $from), 'a key is deleted');
my @heard = map { /(scalecache_bury|UNLINK)/ ? $1 : () } split /\n/, substr($server->heard, $from);
is("@heard", 'scalecache_bury UNLINK', 'after its tombstone');

# A value in its last millisecond is one with an end.
$server->set_mode("scalecache_read\n*2\r\n\$3\r\nold\r\n:0\r\n");
ok($node->poll_query_until($p, "SELECT scalecache.cache_get('other') = 'old'"), 'a value that is about to expire');
$from = length $server->heard;
ok($node->poll_query_until($p, "SELECT scalecache.cache_get('other') IS NOT NULL"), 'asked for again');
ok($server->hears(qr/scalecache_read .*other/, $from), 'is not in memory any more');
$server->stop;
$node->stop;
$redis->stop;
done_testing();
