# Rollups over pgbench_history agree with the balances pgbench keeps.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('tpcb');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'scalecache'
max_prepared_transactions = 20
max_worker_processes = 20
scalecache.fold_delay = 10
});
$node->start;
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
	is($node->safe_psql('postgres', "SELECT scalecache.verify_rollup('by_$k')"),
		'0', "verify by_$k");
	like($node->safe_psql('postgres', "EXPLAIN (ANALYZE) SELECT * FROM by_$k"),
		qr/Answered From: rollup/, "by_$k is answered from the rollup");
	ok( $node->poll_query_until('postgres', "SELECT pending_deltas = 0
			FROM scalecache.rollups WHERE rollup = 'by_$k'::regclass"),
		"the worker folds by_$k");
}
unlike(slurp_file($node->logfile), qr/deadlock detected/, 'no deadlock');
$node->stop;
done_testing();
