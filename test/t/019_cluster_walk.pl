# Keys that go, while all keys of a rule are looked for, from a node that was not looked at yet to one
# that was.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use RedisCluster;
use ScaleCache;
use Test::More;
use Time::HiRes qw(sleep);

my $cluster = RedisCluster->new(masters => 3, timeout => 15000, args => [ '--enable-debug-command', 'yes' ]);
my $node = new_server('walk', conf => "scalecache.redis_url = '" . $cluster->url . "'
scalecache.redis_timeout = 30s
scalecache.naptime = 100
");
my $p = 'postgres';

sub sql { return $node->safe_psql($p, $_[0]); }
sub delivered { return sql("SELECT scalecache.wait_for_cache('180 s')") eq 't'; }
sub scans { my ($redis) = @_; return $redis->command('INFO', 'commandstats') =~ /cmdstat_scan:calls=(\d+)/ ? $1 : 0; }

sql("CREATE EXTENSION scalecache; CREATE TABLE t (id int PRIMARY KEY)");
sql("SELECT scalecache.create_cache_rule('x', 't', 'x:{id}')");
ok(delivered(), 'delivered');
# The order in which they are looked at; the second has a lot to look at.
my ($first, $second, $last) = map { /:(\d+)$/ ? $cluster->at($1) : undef }
  split /\n/, sql('SELECT unnest(nodes) FROM scalecache.redis_status');
my $many = 20_000;
$second->command('DEBUG', 'POPULATE', $many, 'filler');
my $worker = sql(q{SELECT pid FROM pg_stat_activity WHERE datname = 'postgres' AND backend_type = 'scalecache delivery'});

# Drop a rule, and stop the worker when it has looked at the first node and not at the last one.  If
# it was faster, let it have more to look at.
sub stop_between
{
	my ($rule, $prepare, $meanwhile) = @_;

	for my $try (1 .. 8)
	{
		sql("SELECT scalecache.create_cache_rule('$rule', 't', '$rule:{id}')");
		ok(delivered(), "$rule: a rule");
		$prepare->();
		my ($before, $last_before) = map { scans($_) } $first, $last;
		sql("SELECT scalecache.drop_cache_rule('$rule')");
		for (1 .. 60000)
		{
			last if scans($first) > $before;
			sleep 0.001;
		}
		kill('STOP', $worker);
		my $caught = scans($first) == $before + 1 && scans($last) == $last_before;
		$meanwhile->() if $caught;
		kill('CONT', $worker);
		ok(delivered(), "$rule: delivered");
		return pass("$rule: a key has moved between the looks at two nodes") if $caught;
		$many *= 2;
		$second->command('DEBUG', 'POPULATE', $many, 'filler');
	}
	fail("$rule: the worker could not be stopped in time");
}

# ---- a slot that moves as a whole ----
my ($key) = grep { $cluster->owner($cluster->slot($_)) == $last } map { "moved:$_" } 1 .. 100;
stop_between('moved', sub { $cluster->command('SET', $key, 'old') }, sub {
	$cluster->migrate($cluster->slot($key), $first);
	is($first->command('GET', $key), 'old', "the key is at the first node");
});
is($cluster->command('GET', $key), undef, 'and was found there');

# ---- a slot that is on its way before and after ----
($key) = grep { $cluster->owner($cluster->slot($_)) == $last } map { "open:$_" } 1 .. 100;
stop_between('open', sub {
	$_->command('CLUSTER', 'SETSLOT', $cluster->slot($key), 'STABLE') for $first, $last;
	$last->command('SET', $key, 'old');
	$cluster->begin_migration($cluster->slot($key), $first);
}, sub {
	$cluster->move_keys($last, $first, $key);
	is($first->command('CLUSTER', 'COUNTKEYSINSLOT', $cluster->slot($key)), 1, 'the key is at the first node');
});
is($cluster->command('GET', $key), undef, 'its key has gone');
$cluster->end_migration($cluster->slot($key), $last, $first);

# ---- a key that its node says to ask another for, and which is not moved meanwhile ----
sql("SELECT scalecache.create_cache_rule('asked', 't', 'asked:{id}')");
ok(delivered(), 'delivered');
($key) = grep { $cluster->owner($cluster->slot($_)) == $last } map { "asked:$_" } 1 .. 100;
$cluster->command('SET', $key, 'old');
$cluster->begin_migration($cluster->slot($key), $first);
$cluster->move_keys($last, $first, $key);
like(eval { $last->command('GET', $key) } // $@, qr/^ASK/, 'it is at another node');
$key =~ /:(.*)/;
sql("INSERT INTO t VALUES ($1)");
ok(delivered(), 'delivered');
is($cluster->command('GET', $key), undef, 'and deleted there');
$cluster->command('SET', $key, 'old');
sql("SELECT scalecache.drop_cache_rule('asked')");
ok(delivered(), 'delivered');
is($cluster->command('GET', $key), undef, 'with its rule, too');
$cluster->end_migration($cluster->slot($key), $last, $first);

# ---- a slot that comes while those that came before are looked at: its node serves it when its turn was, too ----
# Slots of the last node, and a key in each
my @came = grep { $cluster->owner($cluster->slot($_)) == $last } map { "x:$_" } 1 .. 100;
my $caught;
$first->command('CONFIG', 'SET', 'slowlog-max-len', 100000);
$first->command('CONFIG', 'SET', 'slowlog-log-slower-than', 0);
for my $try (1 .. 8)
{
	my ($one, $other) = splice @came, 0, 2;
	my ($before, $last_before) = map { scans($_) } $first, $last;

	$cluster->migrate($cluster->slot($one), $first);
	for (1 .. 60000)
	{
		last if scans($first) > $before;
		sleep 0.001;
	}
	kill('STOP', $worker);
	$caught = scans($first) == $before + 1 && scans($last) == $last_before;
	if ($caught)
	{
		$cluster->migrate($cluster->slot($other), $first);
		$first->command('SET', $other, 'old');
		$first->command('SLOWLOG', 'RESET');
	}
	kill('CONT', $worker);
	ok($node->poll_query_until($p, 'SELECT functions_loaded FROM scalecache.redis_status'), 'armed');
	if ($caught)
	{
		$cluster->wait_for(sub { !defined $first->command('GET', $other) });
		ok($node->poll_query_until($p, 'SELECT functions_loaded FROM scalecache.redis_status'), 'and again');
		my @log = map {
			my @c = @{ $_->[3] };
			lc $c[0] eq 'unlink' ? grep({ $_ eq $other } @c) ? 'deleted' : () :
			  ($c[1] // '') eq 'scalecache_arm' ? $c[9] : ()
		} reverse @{ $first->command('SLOWLOG', 'GET', -1) };
		like("@log", qr/^(begin )+deleted (begin )*done\b/, 'it is served when it was looked at');
		last;
	}
	$many *= 2;
	$second->command('DEBUG', 'POPULATE', $many, 'filler');
}
ok($caught, 'a slot came while another was looked for');

$node->stop;
$cluster->stop;
done_testing();
