# Delta tables that are emptied while a snapshot on a standby may still need them: it asks the
# source then.  On the primary no snapshot can be so old.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use ScaleCache;
use Test::More;

my $node = new_server('turns', init => [ allows_streaming => 'logical' ], conf => "autovacuum = off
scalecache.worker = off
");
my $p = 'postgres';
$node->safe_psql($p, q{
	CREATE EXTENSION scalecache;
	CREATE TABLE t (k int, v numeric, x text);
	SELECT scalecache.create_rollup('r', 'SELECT k, sum(v) AS s, count(*) AS n, max(x) AS x FROM t GROUP BY k')});
# Catalogs keep what they had: what is pruned from them, and the standby's
# snapshots see, would not be replayed before these end.
$node->safe_psql($p, q{SELECT pg_create_logical_replication_slot('keep', 'pgoutput')});
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('turns_standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->append_conf('postgresql.conf', 'max_standby_streaming_delay = -1');
$standby->start;

sub sql { return $node->safe_psql($p, $_[0]); }
sub turn { return sql(q{SELECT turn FROM scalecache.rollup}); }

sub worker
{
	my ($on) = @_;

	$node->append_conf('postgresql.conf', "scalecache.worker = $on");
	$node->reload;
	ok($node->poll_query_until($p, "SELECT count(*) = 0 $WORKER"), 'no worker') if $on eq 'off';
}

# A snapshot of now on the standby, that has no lock on what is to be emptied
sub snapshot
{
	my $s = $standby->background_psql($p);

	$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
	$s->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	return $s;
}

my $differ = q{SELECT count(*) FROM (TABLE r EXCEPT ALL SELECT k, sum(v), count(*), max(x) FROM t GROUP BY k) x};
my $missing = q{SELECT count(*) FROM (SELECT k, sum(v), count(*), max(x) FROM t GROUP BY k EXCEPT ALL TABLE r) x};

sub right
{
	my ($s, $what, $who) = @_;

	like($s->query('EXPLAIN (ANALYZE) TABLE r'), qr/Answered From: $who/, "$what: answered from the $who");
	is($s->query($differ), '0', "$what: nothing but what the table has");
	is($s->query($missing), '0', "$what: all that the table has");
	$s->query_safe('COMMIT');
	$s->quit;
}

my $many = 'INSERT INTO t SELECT g, g FROM generate_series(%d, %d) g';

# ---- deltas in a table that is written ----
sql(q{INSERT INTO t SELECT g, g, (SELECT string_agg(md5(i || ' ' || g), '') FROM generate_series(1, 200) i)
	FROM generate_series(1, 20) g});
sql(sprintf($many, 1, 250000));
is(turn(), '0', 'the first table is written');
my $size = q{SELECT pg_relation_size(oid), pg_relation_size(reltoastrelid) FROM pg_class WHERE oid = (SELECT delta1 FROM scalecache.rollup)};
like(sql($size), qr/^[1-9]\d*\|[1-9]/, 'also out of line');
my $before = snapshot();
worker('on');
ok($node->poll_query_until($p, 'SELECT turn = 2 FROM scalecache.rollup'), 'it has been emptied');
worker('off');
is(sql($size), '0|0', 'of all that it had');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
right($before, 'before the first turn', 'source');
right(snapshot(), 'after it', 'rollup');

# ---- deltas in a table that is being drained ----
sql(sprintf($many, 250001, 500000));
my $writer = $node->background_psql($p);
$writer->query_safe('BEGIN; INSERT INTO t VALUES (1, 1000); SELECT count(*) FROM r WHERE k = 1');
worker('on');
ok($node->poll_query_until($p, 'SELECT turn = 3 FROM scalecache.rollup'), 'the second one is retired, and a writer has it');
worker('off');
$writer->query_safe('COMMIT');
$writer->quit;
$before = snapshot();
worker('on');
ok($node->poll_query_until($p, 'SELECT turn = 4 FROM scalecache.rollup'), 'and emptied');
worker('off');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
right($before, 'before it was drained', 'source');

# ---- a table that was drained is not needed ----
$before = snapshot();
right($before, 'drained', 'rollup');
$standby->stop;
$node->stop;
done_testing();
