# Rollups over pgbench_history agree with the balances pgbench keeps.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use ScaleCache;
use Test::More;

# Nothing but the writers wakes the worker.
my $node = new_server('tpcb', conf => "scalecache.naptime = '1h'\n");
$node->safe_psql('postgres', 'CREATE EXTENSION scalecache');
$node->command_ok([ 'pgbench', '-i', '-q', '-s', '1', 'postgres' ],
	'pgbench -i');

my %key = (bid => 'branches', tid => 'tellers');
for my $k (sort keys %key)
{
	$node->safe_psql('postgres', qq{
		SELECT scalecache.create_rollup('by_$k',
			'SELECT $k, sum(delta) AS delta, count(*) AS n
			 FROM pgbench_history GROUP BY $k')});
}
$node->command_ok(
	[ 'pgbench', '-n', '-c', '8', '-j', '2', '-t', '500', 'postgres' ],
	'pgbench -c 8 -t 500');

for my $k (sort keys %key)
{
	my $balance = substr($k, 0, 1) . 'balance';
	is( $node->safe_psql('postgres', qq{
		SELECT count(*) FROM pgbench_$key{$k} b LEFT JOIN by_$k r USING ($k)
		WHERE b.$balance IS DISTINCT FROM coalesce(r.delta, 0)}),
		'0', "sums by $k equal the balances");
	is($node->safe_psql('postgres', "SELECT sum(n) FROM by_$k"),
		'4000', "every transaction is in by_$k");
	live($node, 'postgres', "by_$k", 'TPC-B');
}
verified($node, 'postgres', 'TPC-B');
folded($node, 'postgres', 'TPC-B');
no_deadlock($node);
$node->stop;
done_testing();
