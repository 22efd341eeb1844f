# Redis Sentinel: the master is found and followed through failovers, nothing
# is stale after them, and what Sentinels say is not simply believed.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IO::Socket::INET;
use POSIX ();
use RedisServer;
use ScaleCache;
use Test::More;
use Time::HiRes qw(sleep);

my ($pw, $own) = ('the-secret', 'their-secret');
my @port = map { PostgreSQL::Test::Cluster::get_free_port() } 1 .. 7;
my @fast = ('--repl-diskless-sync-delay', '0', '--repl-ping-replica-period', '1');
my @redis = RedisServer->new(port => $port[0], password => $pw, args => [@fast]);
push @redis, RedisServer->new(port => $port[$_], password => $pw, args => [ @fast, '--replicaof', '127.0.0.1', $port[0] ]) for 1, 2;
my @sentinel = map { RedisServer->sentinel($port[$_], $port[0], password => $pw, own => $own) } 3 .. 5;

sub poll
{
	my ($what, $code) = @_;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return pass($what) if eval { $code->() };
		sleep 0.1;
	}
	diag $@ if $@;
	return fail($what);
}

poll('Sentinels know each other and the replicas', sub {
	!grep { $_->command('INFO') !~ /status=ok,address=127.0.0.1:$port[0],slaves=2,sentinels=3/ } @sentinel;
});
sub following { return ($_[0]->info('master_link_status') // '') eq 'up'; }
poll('replicas follow', sub { following($redis[1]) && following($redis[2]) });

# Nobody is at the first.
my $hosts = join(',', map { "127.0.0.1:$port[$_]" } 6, 3, 4, 5);
my $url = "redis+sentinel://:$pw\@$hosts/main/0?sentinel_password=$own";
my $node = new_server('sentinel', conf => "scalecache.redis_url = '$url'
scalecache.redis_timeout = 3000
scalecache.redis_retry_max = 200
scalecache.session_timeout = 100s
scalecache.naptime = 100
");
my $p = 'postgres';

sub sql { return $node->safe_psql($p, $_[0]); }
sub set { sql("ALTER SYSTEM SET scalecache.redis_url = '$_[0]'"); sql('SELECT pg_reload_conf()'); }
sub delivered { return sql("SELECT scalecache.wait_for_cache('180 s')") eq 't'; }
sub nodes { return sql('SELECT nodes FROM scalecache.redis_status'); }
# The one that the worker is with
sub master
{
	my $found = nodes() =~ /:(\d+)\}/ ? $1 : 0;
	return (grep { $_->{port} == $found } @redis)[0];
}
sub reached
{
	my ($port) = @_;
	return $node->poll_query_until($p, "SELECT nodes = '{127.0.0.1:$port}' AND functions_loaded FROM scalecache.redis_status");
}

# The Sentinels name another, and the worker is with it.  A Sentinel that was
# late may fail over once more, so wait until all of them name one master, the
# rest follow that, and so does the worker.
sub failed_over
{
	my ($from, @rest) = @_;
	my $to;
	poll('another master', sub {
		my %named = map { $_->command('SENTINEL', 'get-master-addr-by-name', 'main')->[1] => 1 } @sentinel;
		($to) = keys %named;
		return 0 if keys %named > 1 || $to == $from->{port};
		my ($there) = grep { $_->{port} == $to } @redis;
		return $there->info('role') eq 'master'
		  && !grep { $_ != $there && ($_->info('master_port') // '') ne $to } @rest;
	});
	ok(reached($to), 'the worker is with it');
	return master();
}

sql(q{CREATE EXTENSION scalecache; CREATE TABLE t (id int PRIMARY KEY, v text);
	INSERT INTO t SELECT g, 'one' FROM generate_series(1, 20000) g;
	SELECT scalecache.create_cache_rule('t', 't', 't:{id}')});
my $source = sql("SELECT system_identifier || '/' || (SELECT oid FROM pg_database WHERE datname = 'postgres') FROM pg_control_system()");
sub armed { return $_[0]->command('FCALL', 'scalecache_hello', 0, $source)->[1]; }

# ---- the master is found ----
ok(delivered(), 'delivered');
is(nodes(), "{127.0.0.1:$port[0]}", 'to the master');
is(sql('SELECT mode FROM scalecache.redis_status'), 'sentinel', 'by Sentinel');
is(sql('SHOW scalecache.redis_url'), "redis+sentinel://***\@$hosts/main/0?sentinel_password=***", 'passwords are not shown');
ok($node->poll_query_until($p, "SELECT scalecache.cache_set('ready', 'x')"), 'sessions use it');
is(sql("SELECT scalecache.cached_query('t:1', 'SELECT v FROM t WHERE id = 1')->0->>'v'"), 'one', 'a result');
like($redis[0]->command('GET', 't:1'), qr/"v": "one"/, 'is in the master');

# ---- the master dies, and its replicas have missed what it acknowledged ----
$redis[0]->command('SET', "t:$_", 'old') for 1 .. 20;
is($redis[0]->command('WAIT', 2, 60000), '2', 'replicated');
$_->signal('STOP') for @redis[ 1, 2 ];
sql("UPDATE t SET v = 'two' WHERE id <= 10");
ok(delivered(), 'acknowledged by the master alone');
$redis[0]->kill9;
$_->signal('CONT') for @redis[ 1, 2 ];
sql("UPDATE t SET v = 'two' WHERE id BETWEEN 11 AND 20");
my $second = failed_over($redis[0], @redis[ 1, 2 ]);
ok(delivered(), 'delivered');
is(join(' ', grep { defined $second->command('GET', "t:$_") } 1 .. 20), '', 'nothing old is there');
is(sql("SELECT scalecache.cached_query('t:1', 'SELECT v FROM t WHERE id = 1')->0->>'v'"), 'two', 'nor with sessions');
cmp_ok(sql('SELECT failures FROM scalecache.redis_status'), '>', 0, 'failures are counted');

# ---- it comes back as a replica ----
$redis[0]->start;
poll('the old master is a replica', sub { following($redis[0]) });
is(nodes(), "{127.0.0.1:$second->{port}}", 'the worker stays');
$second->command('SET', 't:1', 'old');
sql("UPDATE t SET v = 'three' WHERE id = 1");
ok(delivered(), 'delivered');
is($second->command('WAIT', 2, 60000), '2', 'replicated');
is($redis[0]->command('GET', 't:1'), undef, 'gone in the replica too');

# ---- killed in the midst of a delivery ----
for my $from (0 .. 19)
{
	$second->command('MSET', map { ("t:$_", 'old') } $from * 1000 + 1 .. $from * 1000 + 1000);
}
is($second->command('WAIT', 2, 60000), '2', 'replicated');
sql(q{SET scalecache.max_keys_per_transaction = 100000;
	DO $$ BEGIN FOR i IN 0..39 LOOP UPDATE t SET v = 'many' WHERE id BETWEEN i * 500 + 1 AND i * 500 + 500; COMMIT; END LOOP; END $$});
$second->kill9;
my $third = failed_over($second, grep { $_ != $second } @redis);
ok(delivered(), 'delivered');
is(join(' ', grep { defined $third->command('GET', "t:$_") } 1 .. 20000), '', 'nothing old is there');
$second->start;
poll('a replica again', sub { following($second) });
poll('Sentinels see both', sub { !grep { $_->command('INFO') !~ /slaves=2,sentinels=3/ } @sentinel });

# ---- a failover that loses nothing: what was the master keeps its memory ----
is(armed($third), '1', 'the library is armed');
poll('asked to fail over', sub { $sentinel[0]->command('SENTINEL', 'FAILOVER', 'main') eq 'OK' });
my $fourth = failed_over($third, @redis);
ok(delivered(), 'delivered');
is(armed($fourth), '1', 'the library is armed there');
poll('all follow', sub { 2 == grep { following($_) } @redis });
is($fourth->command('WAIT', 2, 60000), '2', 'replicated');
is(armed($third), '0', 'and no more where it was the master');

# ---- READONLY under the connection ----
my $connects = sql('SELECT connects FROM scalecache.redis_status');
my $before = -s $node->logfile;
$_->signal('STOP') for @sentinel;
$fourth->command('REPLICAOF', '127.0.0.1', $third->{port});
sql("UPDATE t SET v = 'four' WHERE id = 1");
poll('a master that is none any more', sub { PostgreSQL::Test::Utils::slurp_file($node->logfile, $before) =~ /could not reach Redis.*(READONLY|slave)/ });
is(sql('SELECT entries > 0 FROM scalecache.cache_queue'), 't', 'keys stay queued');
$_->signal('CONT') for @sentinel;
poll('delivered', sub { sql("SELECT scalecache.wait_for_cache('1 s')") eq 't' });
cmp_ok(sql('SELECT connects FROM scalecache.redis_status'), '>', $connects, 'on another connection');

# ---- what Sentinels say is checked ----
my $mode_file = $node->basedir . '/mode';
my $fake_port = PostgreSQL::Test::Cluster::get_free_port();

sub mode
{
	open(my $fh, '>', "$mode_file.new") or die;
	print $fh $_[0];
	close $fh;
	rename("$mode_file.new", $mode_file);
}

sub names { my ($port) = @_; return "*2\r\n\$9\r\n127.0.0.1\r\n\$" . length($port) . "\r\n$port\r\n"; }

my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $fake_port, Listen => 5, ReuseAddr => 1) or die;
my $fake = fork // die;
if ($fake == 0)
{
	$SIG{CHLD} = 'IGNORE';
	while (my $c = $listener->accept)
	{
		next if fork;
		local $/ = "\r\n";
		while (my $line = <$c>)
		{
			print $c "+PONG\r\n" if $line =~ /^PING/;
			next unless $line =~ /^main/;
			open(my $fh, '<', $mode_file);
			local $/;
			my $what = <$fh>;
			print $c $what;
			$c->flush;
			sleep 30 if $what eq '';
			last;
		}
		POSIX::_exit(0);
	}
	POSIX::_exit(0);
}
close $listener;
my ($replica) = grep { $_->info('role') eq 'slave' } @redis;
for my $case ([ names($replica->{port}), 'is a slave, not a master' ], [ "*-1\r\n", 'knows no master of that name' ],
	[ "-IDONTKNOW No quorum\r\n", 'IDONTKNOW' ], [ "+OK\r\n", 'unexpected reply to SENTINEL' ],
	[ names(0), 'unexpected reply' ], [ '', 'timeout' ], [ names($port[6]), 'could not connect' ])
{
	my ($what, $error) = @$case;
	mode($what);
	set("redis+sentinel://:$pw\@127.0.0.1:$fake_port/main");
	ok($node->poll_query_until($p, "SELECT last_error ~ '$error' FROM scalecache.redis_status"), $error);
	sql("UPDATE t SET v = 'five' WHERE id = 1");
	set("redis+sentinel://:$pw\@127.0.0.1:$fake_port,$hosts/main?sentinel_password=$own");
	poll('the next Sentinel is asked', sub { sql("SELECT scalecache.wait_for_cache('1 s')") eq 't' });
}
set("redis+sentinel://:$pw\@$hosts/nobody?sentinel_password=$own");
ok($node->poll_query_until($p, q{SELECT last_error ~ 'knows no master of that name' FROM scalecache.redis_status}), 'a wrong name');
set("redis+sentinel://:$pw\@$hosts/main?sentinel_password=wrong");
ok($node->poll_query_until($p, q{SELECT last_error ~ 'WRONGPASS' FROM scalecache.redis_status}), 'a wrong password');
set("redis+sentinel://:$pw\@$hosts/main");
ok($node->poll_query_until($p, q{SELECT last_error ~ 'NOAUTH' FROM scalecache.redis_status}), 'no password');

# ---- another master is named while the one that we have goes on ----
my @two = map { RedisServer->new(port => PostgreSQL::Test::Cluster::get_free_port()) } 1, 2;
mode(names($two[0]{port}));
set("redis+sentinel://127.0.0.1:$fake_port/main");
ok(reached($two[0]{port}), 'with one');
$two[1]->command('SET', 't:7', 'old');
mode(names($two[1]{port}));
ok(reached($two[1]{port}), 'then with the other');
ok(delivered(), 'delivered');
is($two[1]->command('GET', 't:7'), undef, 'which has nothing old');
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/\Q$pw\E|\Q$own\E/, 'no password is in the log');
kill('KILL', $fake);
waitpid($fake, 0);
$node->stop;
$_->stop for @sentinel, @redis, @two;
done_testing();
