# Delta tables: they take turns and are emptied, an old snapshot neither stops
# that from being right nor makes readers slower, and no delta is lost or
# counted twice meanwhile.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use ScaleCache;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_server('deltas');
$node->safe_psql('postgres', q{
	CREATE EXTENSION scalecache;
	CREATE TABLE t (id bigserial PRIMARY KEY, k int, v numeric);
	SELECT scalecache.create_rollup('few',
		'SELECT k % 24 AS k, sum(v) AS s, count(*) AS n FROM t GROUP BY 1');
	SELECT scalecache.create_rollup('many',
		'SELECT k, sum(v) AS s, count(*) AS n FROM t GROUP BY k');
});

# Blocks a reader touches, in all its plan
sub blocks_read
{
	my ($rollup) = @_;
	my $plan = $node->safe_psql('postgres',
		"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, SUMMARY OFF) TABLE $rollup");

	like($plan, qr/Answered From: rollup/, "$rollup is answered from its storage");
	$plan =~ /Buffers: (?:shared|local) hit=(\d+)(?: read=(\d+))?/
	  or die "no buffers in $plan";
	return $1 + ($2 // 0);
}

sub turn
{
	my ($rollup) = @_;

	return $node->safe_psql('postgres',
		"SELECT turn FROM scalecache.rollup WHERE rollup = '$rollup'::regclass");
}

# Turns: many groups fill the tables while small writers go on.
my $small = script($node, 'small', q{
\set k random(1, 1000)
INSERT INTO t (k, v) VALUES (:k, :k);
});
my $subxact = script($node, 'subxact', q{
\set k random(1, 1000)
BEGIN;
INSERT INTO t (k, v) VALUES (:k, 1);
SAVEPOINT a;
UPDATE t SET v = v + 1 WHERE id = (SELECT max(id) FROM t WHERE k = :k);
ROLLBACK TO a;
SAVEPOINT b;
INSERT INTO t (k, v) VALUES (:k, 2);
RELEASE b;
COMMIT;
});
my $load = start_pgbench($node, '-c', 4, '-T', 3600, '-f', $small, '-f', $subxact);
for my $round (1 .. 3)
{
	my $before = turn('many');

	$node->safe_psql('postgres',
		'INSERT INTO t (k, v) SELECT g, g FROM generate_series(1, 150000) g');
	ok( $node->poll_query_until('postgres', "SELECT turn >= $before + 2
			FROM scalecache.rollup WHERE rollup = 'many'::regclass"),
		"round $round: the other table is written, and the first one emptied");
	exact($node, 'postgres', "round $round");
}
ok( $node->safe_psql('postgres', q{
	SELECT pg_table_size(delta1) + pg_table_size(delta2) < 40000000
	FROM scalecache.rollup WHERE rollup = 'many'::regclass}) eq 't',
	'the space of folded deltas comes back');

# A session that wrote to a table keeps it from being retired for good.
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; INSERT INTO t (k, v) VALUES (7, 1000000); SELECT count(*) FROM many');
for my $round (1 .. 2)
{
	$node->safe_psql('postgres',
		'INSERT INTO t (k, v) SELECT g, g FROM generate_series(1, 150000) g');
}
exact($node, 'postgres', 'while a writer is open');
$holder->query_safe('INSERT INTO t (k, v) VALUES (7, 2000000); COMMIT');
$holder->quit;
exact($node, 'postgres', 'after it has committed');

# An old snapshot: what readers have to look at does not grow.
my $old = $node->background_psql('postgres');
my $then = $old->query_safe(
	'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT sum(s) FROM few');
$node->safe_psql('postgres', q{SELECT scalecache.fold_rollup('few')});
my $before = blocks_read('few');
my $folds = $node->safe_psql('postgres',
	"SELECT seq FROM scalecache.fold f JOIN scalecache.rollup r USING (id)
	 WHERE rollup = 'few'::regclass");
# Beside those of the worker, which may have little time for them
$node->safe_psql('postgres', qq{
	DO \$\$
	BEGIN
		WHILE (SELECT seq <= $folds + 300 FROM scalecache.fold f
			JOIN scalecache.rollup r USING (id) WHERE rollup = 'few'::regclass) LOOP
			PERFORM scalecache.fold_rollup('few');
			COMMIT;
		END LOOP;
	END \$\$});
pass('folds go on under an old snapshot');
my $after;
for my $try (1 .. 100)
{
	# What was written since the last fold is looked at as well: on a machine
	# that stands still for a moment that can be much.
	$node->safe_psql('postgres', q{SELECT scalecache.fold_rollup('few')});
	$after = blocks_read('few');
	last if $after <= 2 * $before + 16;
}
cmp_ok($after, '<=', 2 * $before + 16,
	"a reader looks at $after blocks after 300 folds, $before before");
exact($node, 'postgres', 'under an old snapshot');
is($old->query_safe('SELECT sum(s) FROM few'), $then,
	'the old snapshot still sees what it saw');
is( $old->query_safe(q{
	SELECT count(*) FROM (TABLE few EXCEPT ALL
		SELECT k % 24, sum(v), count(*) FROM t GROUP BY 1) x}),
	'0', 'which is what the table was');
$old->query_safe('COMMIT');
$old->quit;

$load->{h}->kill_kill;

# Writers keep their blocks while folds go on, and give them back when they
# pause, so that a reader finds few.
$node->safe_psql('postgres', q{
	CREATE TABLE u (k int, v numeric);
	SELECT scalecache.create_rollup('one',
		'SELECT k, sum(v) AS s, count(*) AS n FROM u GROUP BY k');
});
$load = start_pgbench($node, '-c', 16, '-t', 400, '-f',
	script($node, 'one', 'INSERT INTO u (k, v) VALUES (1, 1);'));
$load->{h}->finish;
is($load->{h}->result(0), 0, 'writers of one group') or diag($load->{err});
my ($pages, $seq) = split /\|/, $node->safe_psql('postgres', q{
	SELECT pg_relation_size(delta1) / 8192 + pg_relation_size(delta2) / 8192, seq
	FROM scalecache.rollup JOIN scalecache.fold USING (id)
	WHERE rollup = 'one'::regclass});
cmp_ok($pages, '<=', 6400 / 100 + 32, "6400 deltas and $seq folds take $pages pages");
folded($node, 'postgres', 'after a pause');
my $blocks;
for my $try (1 .. 120)
{
	# A session that has read it before need not look at catalogs.
	$node->safe_psql('postgres', q{
		TABLE one;
		EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, SUMMARY OFF) TABLE one}) =~
	  /Buffers: (?:shared|local) hit=(\d+)/ or die 'no buffers';
	$blocks = $1;
	last if $blocks <= 12;
	usleep(500_000);
}
cmp_ok($blocks, '<=', 12, "after a pause a reader looks at $blocks blocks");

# They keep them, too, when they change now one group and now many.
$node->append_conf('postgresql.conf', 'scalecache.worker = off');
$node->reload;
$node->safe_psql('postgres', q{
	CREATE TABLE mixed (k int, v int);
	SELECT scalecache.create_rollup('mix', 'SELECT k, sum(v) AS s FROM mixed GROUP BY k')});
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 $WORKER"), 'nobody folds');
my @writers = map { $node->background_psql('postgres') } 1 .. 2;
for my $try (1 .. 25)
{
	$_->query_safe('INSERT INTO mixed SELECT g, 1 FROM generate_series(1, 260) g') for @writers;
	$_->query_safe('INSERT INTO mixed VALUES (1, 1)') for @writers;
}
$_->quit for @writers;
$pages = $node->safe_psql('postgres', q{
	SELECT (pg_relation_size(delta1) + pg_relation_size(delta2)) / 8192
	FROM scalecache.rollup WHERE rollup = 'mix'::regclass});
cmp_ok($pages, '<=', 50 * 261 / 200 + 4, "changes of now one, now 260 groups take $pages pages");
$node->append_conf('postgresql.conf', 'scalecache.worker = on');
$node->reload;
folded($node, 'postgres', 'at the end');
verified($node, 'postgres', 'at the end');
exact($node, 'postgres', 'at the end');
no_deadlock($node);
$node->stop;
done_testing();
