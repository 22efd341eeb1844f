# No cache tier serves anything older than what was acknowledged, whatever
# readers, writers and the servers do; and the checker that says so finds
# stale values where the protocol is left out.
#
# SCALECACHE_WRITES (100000) is how many rows are written under chaos.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use RedisServer;
use ScaleCache;
use StaleCheck;
use Test::More;
use Time::HiRes qw(sleep time);

my $redis = RedisServer->new;
my $node = new_server('stale', conf => "restart_after_crash = on
fsync = on
scalecache.redis_url = '" . $redis->url . "'
scalecache.redis_timeout = 300
scalecache.redis_retry_max = 200
scalecache.naptime = 100
scalecache.lease_time = 50
scalecache.tombstone_time = 1000
max_connections = 50
log_statement = none
");
my $p = 'postgres';
$node->safe_psql($p, 'CREATE EXTENSION scalecache');

# ---- controls: each must find something ----
for my $mode ('before', 'after', 'plain')
{
	my @stale;
	for my $round (1 .. 100)
	{
		my ($writes, $cached, @found) = StaleCheck::run($node, $redis, mode => $mode, seconds => 2);
		push @stale, @found;
		$redis->command('FLUSHALL');
		last if @stale;
	}
	cmp_ok(scalar @stale, '>', 0, "control $mode: " . @stale . ' stale values');
}

# ---- without chaos ----
my $filled = q{SELECT fills > 50 AND refused_fills > 0 FROM scalecache.cache_stats WHERE tier = 'redis'};
my ($writes, $cached, @stale) = StaleCheck::run($node, $redis, mode => 'token', writes => 3000,
	until => sub { $node->safe_psql($p, $filled) eq 't' });
cmp_ok($cached, '>', 5, "quiet: $writes writes, $cached values cached at the end");
is(scalar @stale, 0, 'none of them stale') or diag explain \@stale;
is($node->safe_psql($p, $filled), 't', 'Redis was filled, and refused to be');

# ---- with chaos ----
my %chaos = (
	backend => sub { kill9("application_name = 'stale'") },
	worker => sub { kill9("backend_type = 'scalecache delivery'") },
	postmaster => sub { $node->stop('immediate'); $node->start; },
	redis_empty => sub { $redis->kill9; unlink "$redis->{dir}/dump.rdb"; sleep 0.3; $redis->start; },
	redis_old => sub { eval { $redis->command('SAVE') }; sleep 0.7; $redis->kill9; $redis->start; },
	redis_frozen => sub { $redis->signal('STOP'); sleep 0.8; $redis->signal('CONT'); },
	clients => sub { eval { $redis->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes') } },
	flush => sub { eval { $redis->command('FLUSHALL') } },
	functions => sub { eval { $redis->command('FUNCTION', 'FLUSH') } },
	eviction => sub {
		eval {
			$redis->command('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-random');
			$redis->command('CONFIG', 'SET', 'maxmemory', '1');
			sleep 0.3;
			$redis->command('CONFIG', 'SET', 'maxmemory', '0');
		};
		eval { $redis->command('CONFIG', 'SET', 'maxmemory', '0') };
	},
	nothing => sub { sleep 1 });
my @rest;
my %done;

sub kill9
{
	my $pid = eval { $node->safe_psql($p, "SELECT pid FROM pg_stat_activity WHERE $_[0] ORDER BY random() LIMIT 1") };
	kill('KILL', $pid) if $pid;
}

sub chaos
{
	@rest = sort { rand() <=> 0.5 } keys %chaos unless @rest;
	my $what = shift @rest;
	note("chaos: $what");
	$done{$what}++;
	$chaos{$what}->();
	sleep 1 + 2 * rand;
}

my $wanted = $ENV{SCALECACHE_WRITES} // 100000;
($writes, $cached, @stale) = StaleCheck::run($node, $redis, mode => 'token', writes => $wanted,
	until => sub { keys %done == keys %chaos }, clients => 8, chaos => \&chaos);
cmp_ok($writes, '>=', $wanted, "chaos: $writes writes");
is(scalar keys %done, scalar keys %chaos, join(', ', map { "$_ $done{$_}" } sort keys %done));
is(scalar @stale, 0, 'nothing is stale') or diag explain \@stale;
is($node->safe_psql($p, 'SELECT entries FROM scalecache.cache_queue'), '0', 'nothing is left in the queue');
$node->stop;
$redis->stop;
done_testing();
