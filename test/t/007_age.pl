# Marks of folds name transactions, whose ids wrap around: a rollup that
# nothing was written to for two billion of them is right nevertheless.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ScaleCache;
use Test::More;

my $node = new_server('age', conf => "scalecache.worker = off\nautovacuum = off\n");
my $p = 'postgres';
sub sql { return $node->safe_psql($p, $_[0]); }

sql(q{
	CREATE EXTENSION scalecache;
	CREATE TABLE t (id bigserial PRIMARY KEY, k int, v numeric);
	CREATE TABLE d (k int PRIMARY KEY, name text);
	INSERT INTO d SELECT g, 'd' || g FROM generate_series(0, 9) g;
	SELECT scalecache.create_rollup('r', 'SELECT k, sum(v) AS s, count(*) AS n FROM t GROUP BY k');
	SELECT scalecache.create_rollup('j', 'SELECT d.name, sum(t.v) AS s FROM t JOIN d ON d.k = t.k GROUP BY d.name');
	INSERT INTO t (k, v) SELECT g % 10, g FROM generate_series(1, 100) g;
});
is(sql("SELECT scalecache.fold_rollup('r')"), '10', 'folded');
is(sql("SELECT scalecache.fold_rollup('j')"), '10', 'folded, a join');
sql('UPDATE pg_database SET datallowconn = true');

# Go on with the first transaction of the n-th file of pg_xact, of 1048576 each.
sub skip_to
{
	my ($n) = @_;

	command_ok([ 'vacuumdb', '-q', '-a', '-F', '-h', $node->host, '-p', $node->port ], "frozen before file $n");
	$node->stop;
	command_ok([ 'pg_resetwal', '-x', $n * 1048576, $node->data_dir ], "at file $n");
	$node->start;
}

my $marks = 'SELECT sum(seq) FROM scalecache.fold';

# A fold that has nothing to fold leaves a new mark, when the last is old.
my $before = sql($marks);
is(sql("SELECT scalecache.fold_rollup('r')"), '0', 'nothing to fold');
is(sql($marks), $before, 'and no new mark');
skip_to(954);
is(sql("SELECT scalecache.fold_rollup('r') + scalecache.fold_rollup('j')"), '0', 'nothing to fold, much later');
cmp_ok(sql($marks), '>', $before, 'a new mark');

# 2.5 billion transactions after the first fold, and 1.5 after the second
skip_to(1908);
skip_to(2385);
sql('INSERT INTO t (k, v) SELECT g % 12, g FROM generate_series(1, 5) g; UPDATE d SET name = name || 0 WHERE k < 3');
exact($node, $p, 'written to');
live($node, $p, $_, 'written to') for qw(r j);
verified($node, $p, 'written to');

# A billion later nobody has folded: what is pending cannot be told from what was.
skip_to(3339);
exact($node, $p, 'not folded for too long');
sql('INSERT INTO t (k, v) SELECT g % 12, g FROM generate_series(1, 7) g; UPDATE d SET name = name || 1 WHERE k < 2');
exact($node, $p, 'not folded, and written to');
is(sql("SELECT scalecache.fold_rollup('r') + scalecache.fold_rollup('j')"), '0', 'not folded');
sql("SELECT scalecache.rebuild_rollup('r'), scalecache.rebuild_rollup('j')");
exact($node, $p, 'rebuilt');
live($node, $p, $_, 'rebuilt') for qw(r j);
sql('INSERT INTO t (k, v) SELECT g % 12, g FROM generate_series(1, 7) g; UPDATE d SET name = name || 2 WHERE k < 2');
exact($node, $p, 'rebuilt, and written to');
cmp_ok(sql("SELECT scalecache.fold_rollup('r')"), '>', 0, 'folded again');
cmp_ok(sql("SELECT scalecache.fold_rollup('j')"), '>', 0, 'folded again, a join');
exact($node, $p, 'folded again');
live($node, $p, $_, 'folded again') for qw(r j);
verified($node, $p, 'folded again');

$node->stop;
done_testing();
