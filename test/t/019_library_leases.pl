# The leases of the library's scalecache_get, many of them and under a clock of the test's own.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use RedisServer;
use Test::More;

use constant LEASE => 1000;

my $redis = RedisServer->new;
my $c = $redis->client;

# The library as the worker would load it, but for its clock.
sub load
{
	my ($many) = @_;
	open(my $fh, '<', "$FindBin::RealBin/../../src/cache/library.lua") or die;
	my $lib = do { local $/; <$fh> };

	$lib =~ s/\@VERSION\@/test/;
	$lib =~ s/redis\.call\('TIME'\)/the_time/ or die;
	$lib =~ s/(MANY_LEASES = )\d+/$1$many/ or die if $many;
	return $redis->command('FUNCTION', 'LOAD', 'REPLACE', "#!lua name=scalecache
local the_time = { '1', '0' }
redis.register_function('test_time', function(keys, args) the_time = { args[1], args[2] } return 1 end)
$lib");
}

sub arm { my ($lease) = @_; is($redis->command('FCALL', 'scalecache_arm', 0, '1/1', '1', 1, 'b', '100:', $lease, 'done', 'l'), 'ok', "armed, leases of $lease ms"); }
sub time_is { my ($ms) = @_; $redis->command('FCALL', 'test_time', 0, int($ms / 1000), $ms % 1000 * 1000); }

# What each of them is answered, in the order of the keys: a lease, LOADING, or a value
sub answers
{
	my @keys = @_;
	my @result;

	while (my @some = splice(@keys, 0, 500))
	{
		$c->send('FCALL', 'scalecache_get', 1, $_) for @some;
		push @result, map { my $v = eval { $c->reply }; $@ =~ /^LOADING/ ? 'loading' : $@ ? "error $@" : $v // 'lease' } @some;
	}
	return @result;
}

sub all_are
{
	my ($keys, $what, $name) = @_;
	my %n;

	$n{$_}++ for answers(@$keys);
	is_deeply(\%n, { $what => scalar @$keys }, $name);
}

sub place
{
	my ($key) = @_;
	my $h = length $key;

	for (my $i = 0; $i < length $key; $i += 4)
	{
		$h = ($h * 1664525 + unpack('V', substr($key, $i, 4) . "\0\0\0")) % 4294967296;
	}
	return int($h * 1664525 % 4294967296 / 65536);
}

sub bury { my ($key) = @_; return $redis->command('FCALL', 'scalecache_bury', 0, '1/1', '200:', pack('CCNCN', 0x92, 0xce, place($key), 0xce, 150)); }
sub memory { my ($n) = $redis->command('INFO', 'memory') =~ /used_memory_vm_functions:(\d+)/; return $n; }

# ---- more than the library would look through one by one ----
load();
arm(LEASE);
my @early = map { "early:$_" } 1 .. 75000;
my @late = map { "late:$_" } 1 .. 75000;
time_is(10_000);
all_are(\@early, 'lease', 'the first of many');
time_is(10_999);
all_are(\@late, 'lease', 'and more');
all_are([ @early, @late ], 'loading', 'all of them are leased');
is($redis->command('FCALL', 'scalecache_fill', 1, 'early:7', 'v', 'none', 0), 0, 'not stored');
is($redis->command('FCALL', 'scalecache_fill', 1, 'late:7', 'v', '1:1:b:200:', 0), 1, 'stored');
is(join(' ', answers('early:7', 'late:7', 'early:8', 'late:8')), 'lease v loading loading', 'which ends these leases and no others');
is(bury($_), 1, "$_ is deleted") for 'early:9', 'late:9';
is(join(' ', answers('early:9', 'late:9', 'early:8', 'late:8')), 'lease lease loading loading', 'the same');
time_is(11_000);
# But for those that share a place with what was deleted
my %others = map { place($_) => 1 } 'early:9', 'late:9';
@early = grep { $_ ne 'early:7' && !$others{ place($_) } } @early;
@late = grep { $_ ne 'late:7' && !$others{ place($_) } } @late;
all_are(\@early, 'lease', 'those that have expired are leased again');
all_are([ @early, @late, 'early:7', 'early:9' ], 'loading', 'the others not');
time_is(11_999);
is(join(' ', answers('late:1', 'late:75000', 'early:1', 'early:7')), 'lease lease loading lease', 'each at its time');

# ---- every step as a table of the keys says ----
load();
arm(LEASE);
my %expires;
my $t = 20_000;
my $wrong = '';
srand(7);
time_is($t);
for my $step (1 .. 6000)
{
	my $key = 'k' . int(rand 40);
	my $do = rand;

	if ($do < 0.55)
	{
		my ($got) = answers($key);
		my $want = ($expires{$key} // 0) > $t ? 'loading' : 'lease';

		$wrong ||= "step $step: $got for $want" if $got ne $want;
		$expires{$key} = $t + LEASE if $got eq 'lease';
	}
	elsif ($do < 0.65)
	{
		$redis->command('FCALL', 'scalecache_fill', 1, $key, 'v', 'none', 0);
		delete $expires{$key};
	}
	elsif ($do < 0.7)
	{
		bury($key);
		delete @expires{ grep { place($_) == place($key) } keys %expires };
	}
	else
	{
		$t += int(rand($do < 0.97 ? 40 : 2500));
		time_is($t);
	}
}
is($wrong, '', 'leases are as they should be');

# ---- a clock that is set back, and another lease_time ----
$t += 100_000;
time_is($t);
is(join(' ', answers('x')), 'lease', 'leased');
time_is($t -= 50_000);
is(join(' ', answers('x')), 'lease', 'not for longer than a lease takes');
is(join(' ', answers('x')), 'loading', 'but for as long');
arm(10);
is(join(' ', answers('x')), 'lease', 'a shorter time holds for what is leased');
is(join(' ', answers('x')), 'loading', 'and for what will be');
time_is($t += 10);
is(join(' ', answers('x')), 'lease', 'no longer');
arm(LEASE);

# ---- they are let go ----
my $memory;
for my $round (1 .. 20)
{
	time_is($t += LEASE);
	$_ eq 'lease' or fail("round $round: $_") for answers(map { "round $round:$_" } 1 .. 10000);
	$memory = memory() if $round == 4;
}
cmp_ok(memory(), '<', 1.5 * $memory, 'what has expired takes no memory');
load(100);
arm(LEASE);
all_are([ map { "many:$_" } 1 .. 1000 ], 'lease', 'many at a time');
all_are([ map { "many:$_" } 901 .. 1000 ], 'loading', 'the last are held');
is(join(' ', answers('many:1')), 'lease', 'the first are let go early');

$redis->stop;
done_testing();
