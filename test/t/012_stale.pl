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
use StaleCheck;
use Test::More;
use Time::HiRes qw(sleep time);

my $redis = RedisServer->new;
my $node = StaleCheck::server('stale', $redis);
my $p = 'postgres';

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

sub kill9
{
	my $pid = eval { $node->safe_psql($p, "SELECT pid FROM pg_stat_activity WHERE $_[0] ORDER BY random() LIMIT 1") };
	kill('KILL', $pid) if $pid;
}

StaleCheck::survives($node, $redis, \%chaos, writes => $ENV{SCALECACHE_WRITES} // 100000,
	clients => 8, pause => 3);
$node->stop;
$redis->stop;
done_testing();
