# Whatever answers in place of Redis: nothing is taken for an acknowledgement,
# no writer notices, and the keys are delivered when a Redis is back.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IO::Socket::UNIX;
use POSIX ();
use RedisServer;
use ScaleCache;
use Test::More;

my $redis = RedisServer->new;
my $fake = "$redis->{dir}/fake";
my $mode_file = "$redis->{dir}/mode";
my $node = new_server('garbage', conf => "scalecache.redis_url = 'redis+unix://$fake'
scalecache.redis_timeout = 400
scalecache.redis_retry_max = 30
scalecache.naptime = 50
");
my $p = 'postgres';

sub sql { return $node->safe_psql($p, $_[0]); }

sub mode
{
	open(my $fh, '>', "$mode_file.new") or die;
	print $fh $_[0];
	close $fh;
	rename("$mode_file.new", $mode_file);
}

# ---- the fake server: polite until it is asked to invalidate ----
sub current_mode
{
	open(my $fh, '<', $mode_file) or return '';
	local $/;
	return <$fh> // '';
}

sub read_command
{
	my ($c) = @_;
	my @args;
	local $/ = "\r\n";

	my $line = <$c> // return;
	$line =~ /^\*(\d+)/ or return;
	for (1 .. $1)
	{
		my $len = <$c> // return;
		$len =~ /^\$(\d+)/ or return;
		read($c, my $arg, $1 + 2) == $1 + 2 or return;
		push @args, substr($arg, 0, -2);
	}
	return @args;
}

sub bulk { return '$' . length($_[0]) . "\r\n$_[0]\r\n"; }

sub serve
{
	my ($c, $version) = @_;

	$c->autoflush(1);
	while (my @args = read_command($c))
	{
		my ($when, $what) = split /\n/, current_mode(), 2;
		my $name = $args[0] eq 'FCALL' ? $args[1] : $args[0];

		if ($name eq $when)
		{
			last if $what eq 'close';
			print $c $what;
			sleep 30 if $what eq '' || $what =~ /^\$/;
			next;
		}
		print $c $name eq 'INFO' ? bulk("redis_version:7.0.0\r\nrun_id:fake\r\nrole:master\r\n")
		  : $name eq 'scalecache_hello' ? '*8' . "\r\n" . bulk($version) . ":1\r\n:0\r\n:0\r\n:0\r\n:0\r\n:0\r\n:0\r\n"
		  : $name eq 'scalecache_arm' ? bulk('ok')
		  : $name eq 'SCAN' ? "*2\r\n" . bulk('0') . "*0\r\n"
		  : $name eq 'scalecache_bury' ? ":1\r\n"
		  : "+OK\r\n";
	}
}

# The version of the library, from one that the worker has loaded
sql(q{CREATE EXTENSION scalecache; CREATE TABLE t (id int PRIMARY KEY, v int);
	INSERT INTO t SELECT g, 0 FROM generate_series(1, 100) g;
	SELECT scalecache.create_cache_rule('t', 't', 't:{id}')});
sql("ALTER SYSTEM SET scalecache.redis_url = '" . $redis->url . "'");
sql('SELECT pg_reload_conf()');
ok($node->poll_query_until($p, "SELECT scalecache.wait_for_cache('1 s')"), 'a real Redis');
my $version = $redis->command('FCALL', 'scalecache_hello', 0, 'x')->[0];
my $listener = IO::Socket::UNIX->new(Type => Socket::SOCK_STREAM(), Local => $fake, Listen => 5) or die;
my $server = fork // die;
if ($server == 0)
{
	$SIG{CHLD} = 'IGNORE';
	while (my $c = $listener->accept)
	{
		next if fork;
		serve($c, $version);
		POSIX::_exit(0);
	}
	POSIX::_exit(0);
}
close $listener;

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

	mode("$when\n$what");
	sql("ALTER SYSTEM SET scalecache.redis_url = 'redis+unix://$fake'");
	sql('SELECT pg_reload_conf()');
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
kill('KILL', $server);
waitpid($server, 0);
$node->stop;
$redis->stop;
done_testing();
