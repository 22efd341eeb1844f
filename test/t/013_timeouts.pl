# A server that falls silent, at each step of a connection: the step ends in time, the next attempt follows,
# the key is delivered in the end; and the worker can be ended meanwhile.  The same for sessions.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use FakeRedis;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use RedisServer;
use ScaleCache;
use Test::More;

my $redis = RedisServer->new;
my $node = new_server('timeouts', conf => "scalecache.redis_url = '" . $redis->url . "'
scalecache.redis_timeout = 300
scalecache.session_timeout = 200
scalecache.redis_retry_max = 30
scalecache.tombstone_time = 100
scalecache.naptime = 50
");
my $p = 'postgres';

sub sql { return $node->safe_psql($p, $_[0]); }
sub set { my ($name, $value) = @_; sql("ALTER SYSTEM SET scalecache.$name = '$value'"); sql('SELECT pg_reload_conf()'); }
sub status_is { my ($what, $name) = @_; return ok($node->poll_query_until($p, "SELECT $what FROM scalecache.redis_status"), $name) || diag(sql('SELECT r FROM scalecache.redis_status r')); }
sub delivered { return $node->poll_query_until($p, "SELECT connected AND scalecache.wait_for_cache('10 s') FROM scalecache.redis_status"); }

sql(q{CREATE EXTENSION scalecache; CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE w (id int PRIMARY KEY, v int);
	INSERT INTO t SELECT g, 0 FROM generate_series(1, 100) g; INSERT INTO w SELECT g, 0 FROM generate_series(1, 100) g;
	CREATE TABLE long (k text); SELECT scalecache.create_cache_rule('long', 'long', 'long:{k}');
	SELECT scalecache.create_cache_rule('t', 't', 't:{id}');
	SELECT scalecache.create_cache_rule('w', 'w', 'w:{id}', 'write')});
ok(delivered(), 'a real Redis');
my $version = $redis->command('FCALL', 'scalecache_hello', 0, 'x')->[0];

my $port = PostgreSQL::Test::Cluster::get_free_port();
my $path = "$redis->{dir}/fake";
# The mode is a name, and what is said when that is asked for, before it falls silent.
my $answer = sub {
	my ($name, $args, $mode) = @_;
	my ($when, $how, $what) = split /\n/, $mode, 3;

	$when //= '';
	return [ $what // '', $how ] if $name eq $when;
	return FakeRedis::bulk('a key') if $name eq 'GET';
	return "*2\r\n" . FakeRedis::bulk('0') . "*1\r\n" . FakeRedis::bulk('t:1') if $name eq 'SCAN';
	return "*8\r\n" . FakeRedis::bulk('another') . ":1\r\n" . ":0\r\n" x 6 if $name eq 'scalecache_hello' && $when eq 'FUNCTION';
	return FakeRedis::bulk('walk') if $name eq 'scalecache_arm' && $when eq 'walk';
	return "*2\r\n" . FakeRedis::bulk('127.0.0.1') . FakeRedis::bulk($port) if $name eq 'SENTINEL';
	return "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n" . FakeRedis::bulk('127.0.0.1') . ":$port\r\n" . FakeRedis::bulk('n' x 40) if $name eq 'CLUSTER' && $args->[1] eq 'SLOTS';
	return undef;
};
my @fakes = map { FakeRedis->new(dir => $redis->{dir}, version => $version, answer => $answer, %$_) } { path => $path }, { port => $port };
my $fake = $fakes[0];

my $unix = "redis+unix://$path";
my $tcp = "redis://127.0.0.1:$port";
my $secret = "redis+unix://u:pw\@$path?db=1";
my $sentinel = "redis+sentinel://127.0.0.1:$port/main";
my $cluster = "redis+cluster://127.0.0.1:$port";
my $silence = qr/timeout while waiting for a reply/;

# ---- where nobody answers at all ----
my $full = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die;
my @waiting = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $full->sockport, Blocking => 0) } 1 .. 8;

my @cases = (
	# URL, what it is asked when it falls silent, how, after what; the error
	[ 'redis://no-such-host.invalid', '', '', undef, qr/could not connect: .+/, 'a name that cannot be resolved' ],
	[ 'redis://127.0.0.1:' . $full->sockport, '', '', undef, qr/timeout while connecting/, 'nobody takes the connection' ],
	[ $secret, 'AUTH', '', undef, $silence ],
	[ $secret, 'SELECT', '', undef, $silence ],
	[ $tcp, 'SELECT', '', "+O", $silence, 'half a status' ],
	[ $sentinel, 'PING', '', undef, $silence ],
	[ $sentinel, 'SENTINEL', '', "*2\r\n\$9\r\n127.0", $silence, 'half of what a Sentinel says' ],
	[ $sentinel, 'ROLE', '', undef, $silence ],
	[ $cluster, 'CLUSTER', '', undef, $silence ],
	[ $unix, 'INFO', '', "\$200\r\nrole:ma", $silence, 'half a reply to INFO' ],
	[ $unix, 'scalecache_hello', '', undef, $silence ],
	[ $unix, 'FUNCTION', '', undef, $silence ],
	[ $unix, 'scalecache_arm', '', undef, $silence ],
	[ $unix, 'scalecache_bury', '', undef, $silence ],
	[ $unix, 'UNLINK', '', undef, $silence ],
	[ $unix, 'scalecache_store', '', undef, $silence ],
	[ $unix, 'scalecache_epoch', '', undef, $silence ],
	[ $unix, 'SCAN', '', "*2\r\n\$1\r\n0\r\n*100\r\n", $silence, 'half of the keys that a walk finds' ],
	[ $unix, 'scalecache_rotate', '', undef, $silence ],
	[ $unix, 'scalecache_arm', 'deaf', FakeRedis::bulk('ok'), qr/timeout while sending/, 'takes nothing any more' ]);
my $id = 0;
for my $case (@cases)
{
	my ($url, $when, $how, $what, $error, $name) = @$case;

	$name //= "silent at $when";
	$fake->set_mode("$when\n$how\n" . ($what // ''));
	$redis->command('SET', $_, 'old') for map { "$_:" . ($id + 1) } 't', 'w';
	set('redis_url', $url);
	status_is("server !~ 'sock,'", "$name: tried");
	$id++;
	# The writer does not notice.
	sql("BEGIN; UPDATE t SET v = v + 1 WHERE id = $id; UPDATE w SET v = v + 1 WHERE id = $id; COMMIT");
	sql('BEGIN; SELECT scalecache.drop_cache_rule(\'t\'); SELECT scalecache.create_cache_rule(\'t\', \'t\', \'t:{id}\'); COMMIT') if $when =~ /epoch|SCAN/;
	# More than fits between the two of them
	sql("INSERT INTO long SELECT repeat(g::text, 1500) FROM generate_series(1000, 1500) g") if $how eq 'deaf';
	my $failures = sql('SELECT failures FROM scalecache.redis_status');
	status_is("failures >= $failures + 2 AND last_error ~ '" . ($error =~ s/^\(\?\^:|\)$//gr) . "'", "$name: ends in time, again and again");
	is(sql('SELECT entries > 0 FROM scalecache.cache_queue'), 't', "$name: what was written stays queued")
	  unless $when eq 'scalecache_rotate';
	set('redis_url', $redis->url);
	ok(delivered(), "$name: delivered to one that answers");
	is($redis->command('GET', "t:$id"), undef, "$name: the key has gone");
	# What the silent one had acknowledged before, this one has missed.
	like($redis->command('GET', "w:$id") // 'gone', qr/^(gone|\{"id":$id,"v":1\})$/, "$name: nothing old is there");
}

# ---- the circuit breaker ----
my $worker = q{SELECT pid FROM pg_stat_activity WHERE datname = 'postgres' AND backend_type = 'scalecache delivery'};
$fake->set_mode("INFO\n\n");
set('breaker_threshold', 1000);
set('redis_url', $unix);
status_is("server ~ 'fake,' AND failures >= 5 AND breaker = 'closed'", 'closed up to its threshold');
set('redis_retry_max', '10min');
set('breaker_threshold', 3);
status_is("breaker = 'open' AND retry_at > now()", 'then open');
set('redis_timeout', '10min');
set('redis_retry_max', 30);
status_is("breaker = 'half-open' AND NOT connected", 'half-open while it is tried');
my $tried = sql($worker);
sql("SELECT pg_terminate_backend($tried)");
ok($node->poll_query_until($p, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $tried"), 'its worker ends');
set('redis_url', $redis->url);
ok(delivered(), 'delivered');
status_is("breaker = 'closed' AND reconnects >= 0", 'closed again');

# ---- a step that would take for ever ends with its worker ----
for my $case ([ $secret, 'AUTH' ], [ $tcp, 'SELECT' ], [ $unix, 'INFO' ], [ $unix, 'scalecache_arm' ], [ $unix, 'UNLINK' ])
{
	my ($url, $when) = @$case;
	my $before = length $fake->heard;
	my $pid = sql($worker);

	$fake->set_mode("$when\n\n");
	set('redis_url', $url);
	sql('UPDATE t SET v = v + 1 WHERE id = 50');
	ok($fake->hears(qr/^hung $when$/m, $before), "$when: it waits");
	my ($ret, $out, $err) = $node->psql($p, "SET statement_timeout = '1 s'; SELECT scalecache.wait_for_cache('1 h')");
	like($err, qr/statement timeout/, "$when: who waits for it can be cancelled");
	sql("SELECT pg_terminate_backend($pid)");
	ok($node->poll_query_until($p, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"), "$when: the worker ends");
	set('redis_url', $redis->url);
	ok(delivered(), "$when: its successor delivers");
}
set('redis_timeout', '300');

# ---- sessions ----
for my $case ([ $secret, 'AUTH' ], [ $secret, 'SELECT' ], [ $tcp, 'SELECT', '+O' ], [ $unix, 'scalecache_read', "*2\r\n\$100\r\nhalf" ], [ $unix, 'scalecache_fill' ])
{
	my ($url, $when, $what) = @$case;
	my $before = length $fake->heard;

	$fake->set_mode('');
	set('redis_url', $url);
	status_is("server ~ '" . ($url =~ /unix/ ? 'fake,' : $port) . "' AND connected AND functions_loaded", "$when: the worker is connected");
	ok(delivered(), "$when: and has delivered");
	$fake->set_mode("$when\n\n" . ($what // ''));
	my $n = 0;
	my $answers = 0;
	# Sessions leave Redis alone for a while after each failure.
	until (substr($fake->heard, $before) =~ /^hung $when$/m || $n > 500)
	{
		$n++;
		my ($ret, $out, $err) = $node->psql($p, "SET statement_timeout = '60 s'; SELECT scalecache.cached_query('s:$when:$n:' || length('$url'), 'SELECT 7 AS n')");
		$answers++ if $out eq '[{"n": 7}]';
	}
	like(substr($fake->heard, $before), qr/^hung $when$/m, "$when: a session meets the silence");
	is($answers, $n, "$when: and has its answer");
}
set('redis_url', $redis->url);
ok(delivered(), 'delivered');

$_->stop for @fakes;
$node->stop;
$redis->stop;
done_testing();
