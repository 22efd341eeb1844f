# A block at the end of a delta table that a session made, and did not come to
# write to as the server crashed, or as it could not be serialized: it is not in
# the WAL, so a standby lacks it.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use ScaleCache;
use Test::More;

my $p = 'postgres';
my %left = (
	new => "\0" x 8192,
	empty => pack('x8 S6 x4', 0, 0, 24, 8192, 8192, 8192 + 4) . "\0" x 8168);

for my $name (sort keys %left)
{
	my $block = $left{$name};
	my $node = new_server($name, init => [ allows_streaming => 1 ], conf => "autovacuum = off
scalecache.worker = off
");
	$node->safe_psql($p, q{
		CREATE EXTENSION scalecache;
		CREATE TABLE t (k int, v int);
		SELECT scalecache.create_rollup('r', 'SELECT k, sum(v) AS s FROM t GROUP BY k');
		INSERT INTO t VALUES (1, 1)});
	$node->backup('b');
	my $standby = PostgreSQL::Test::Cluster->new("${name}_standby");
	$standby->init_from_backup($node, 'b', has_streaming => 1);
	$standby->start;

	# What is left
	my $size = q{SELECT pg_relation_size(delta1) / 8192 FROM scalecache.rollup};
	my $file = $node->data_dir . '/' .
	  $node->safe_psql($p, 'SELECT pg_relation_filepath(delta1) FROM scalecache.rollup');
	$node->stop;
	open(my $delta, '>>:raw', $file) or die "cannot open $file: $!";
	print $delta $block;
	close $delta;
	$node->start;
	is($node->safe_psql($p, $size), '2', "$name: a block has come");
	$node->safe_psql($p, q{SELECT scalecache.fold_rollup('r')});
	$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
	is($standby->safe_psql($p, $size), '1', "$name: the standby does not have it");
	exact($standby, $p, "$name: the standby");
	$node->stop('immediate');

	$standby->promote;
	$standby->safe_psql($p, 'INSERT INTO t VALUES (1, 100), (2, 200)');
	exact($standby, $p, "$name: new deltas after promotion");
	live($standby, $p, 'r', "$name: new deltas after promotion");
	$standby->safe_psql($p, q{SELECT scalecache.fold_rollup('r')});
	exact($standby, $p, "$name: these folded");
	$standby->stop;
}
done_testing();
