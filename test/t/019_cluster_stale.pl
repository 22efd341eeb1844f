# The checker for stale values with a Redis Cluster whose slots move, and whose
# masters are replaced, die and freeze.
#
# SCALECACHE_WRITES (100000, of which a tenth here) is how many rows are written.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use RedisCluster;
use StaleCheck;
use Test::More;
use Time::HiRes qw(sleep);

my $cluster = RedisCluster->new(masters => 3, replicas => 1);
my $node = StaleCheck::server('cluster_stale', $cluster);
my $p = 'postgres';

sub masters { return grep { $_->info('role') eq 'master' } $cluster->running; }
sub any { return $_[ rand @_ ]; }

# Where a replica is connected to
sub with_replica
{
	for my $r (sort { rand() <=> 0.5 } $cluster->running)
	{
		next unless $r->info('role') eq 'slave' && $r->info('master_link_status') eq 'up';
		return ($cluster->at($r->info('master_port')), $r);
	}
	die 'no replica';
}

my %chaos = (
	move => sub {
		for (1 .. 10)
		{
			my $slot = $cluster->slot('kv:' . (1 + int rand $StaleCheck::KEYS));
			my $owner = $cluster->owner($slot);
			$cluster->migrate($slot, any(grep { $_ != $owner } masters()));
			$cluster->wait_for(sub { $cluster->agreed($slot) });
		}
	},
	move_slowly => sub {
		my $slot = $cluster->slot('kv:' . (1 + int rand $StaleCheck::KEYS));
		my $owner = $cluster->owner($slot);
		my $to = any(grep { $_ != $owner } masters());
		$cluster->begin_migration($slot, $to);
		sleep 1 + rand;
		$cluster->end_migration($slot, $owner, $to);
		$cluster->wait_for(sub { $cluster->agreed($slot) });
	},
	move_back => sub {
		my $slot = $cluster->slot('kv:' . (1 + int rand $StaleCheck::KEYS));
		my $owner = $cluster->owner($slot);
		my $to = any(grep { $_ != $owner } masters());
		$cluster->migrate($slot, $to);
		$cluster->migrate($slot, $owner);
		$cluster->wait_for(sub { $cluster->agreed($slot) });
	},
	failover => sub {
		my ($master, $replica) = with_replica();
		$cluster->fail_over($replica);
	},
	death => sub {
		my ($master, $replica) = with_replica();
		$master->kill9;
		eval { $cluster->wait_for(sub { $replica->info('role') eq 'master' }) };
		$master->start;
		$cluster->wait_for(sub { $cluster->well });
	},
	restart => sub { my $master = any(masters()); $master->kill9; $master->start; },
	frozen => sub { my $master = any(masters()); $master->signal('STOP'); sleep 0.6; $master->signal('CONT'); },
	functions => sub { any(masters())->command('FUNCTION', 'FLUSH') },
	flush => sub { any(masters())->command('FLUSHALL') },
	clients => sub { any(masters())->command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes') },
	worker => sub { kill('KILL', $node->safe_psql($p, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'scalecache delivery'")) },
	postmaster => sub { $node->stop('immediate'); $node->start; },
	nothing => sub { sleep 1 });

StaleCheck::survives($node, $cluster, \%chaos, writes => int(($ENV{SCALECACHE_WRITES} // 100000) / 10),
	clients => 4, pause => 2, may_fail => 1, ready => sub { $cluster->wait_for(sub { $cluster->well }) });
$node->stop;
$cluster->stop;
done_testing();
