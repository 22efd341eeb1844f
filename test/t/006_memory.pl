# A backend's memory stays what it is over thousands of writes, reads, failed
# statements and changes of the source, and so does the worker's.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use ScaleCache;
use Test::More;

my $rounds = $ENV{SCALECACHE_TEST_ROUNDS} || 10_000;
my $node = new_server('memory', conf => "log_min_messages = fatal\n");
$node->safe_psql('postgres', "CREATE EXTENSION scalecache; $TABLE $ROLLUPS $WRITE
	SELECT scalecache.create_rollup('r_other',
		'SELECT k, string_agg(v::text, '','' ORDER BY id) AS l, count(DISTINCT v) AS d FROM t WHERE id < 50 GROUP BY k')");

# Without the server's own caches of catalogs: they keep an entry for each
# object that does not exist any more, rollup or not.
my $size = "SELECT 'size ' || sum(total_bytes) FROM pg_backend_memory_contexts
	WHERE name <> 'CacheMemoryContext';\n";

# Repeat statements in one session; its memory may grow by no more than this
# many bytes a round after the first tenth of them.
sub steady
{
	my ($what, $n, @sql) = @_;
	my $round = join("\n", @sql) . "\n";
	my $file = script($node, 'rounds',
		"\\o /dev/null\n" . $round x int($n / 10) . "\\o\n$size\\o /dev/null\n"
		  . $round x $n . "\\o\n$size");
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run(
		[ 'psql', '-XAtq', '-f', $file, '-h', $node->host, '-p', $node->port, 'postgres' ],
		'>', \$out, '2>', \$err);
	my ($before, $after) = $out =~ /^size (\d+)$/mg;

	ok(defined $after, "$what: $n rounds") or diag(substr($err, 0, 2000));
	note("$what: $before, then $after bytes");
	cmp_ok($after - $before, '<', 256 * 1024, "$what: no growth");
	return $err;
}

steady('inserts', $rounds, 'INSERT INTO t (k, v) VALUES (1, 1);');
steady('reads', $rounds, 'SELECT * FROM r_k;');
steady('reads of what is pending', int($rounds / 5),
	'BEGIN;', 'UPDATE t SET v = v + 1 WHERE id = 7;', 'SELECT * FROM r_k;',
	'SELECT * FROM r_other WHERE k = 3;', 'ROLLBACK;');
like( steady('failed statements', $rounds,
		'SELECT 1 / (k - 5) FROM r_k;',
		'INSERT INTO t (id, k, v) VALUES (1, 1, 1);'),
	qr/division by zero.*duplicate key/s, 'they do fail');
steady('failures in savepoints', int($rounds / 5),
	'BEGIN;', 'INSERT INTO t (k, v) VALUES (1, 1);', 'SAVEPOINT a;',
	'INSERT INTO t (k, v) VALUES (2, 1);', 'SELECT 1 / (k - 5) FROM r_k;',
	'ROLLBACK TO a;', 'SELECT * FROM r_all;', 'ROLLBACK;');
steady('failed calls', int($rounds / 10),
	q{SELECT scalecache.create_rollup('bad', 'SELECT sum(nothing) AS s FROM t');},
	q{SELECT scalecache.create_rollup('bad', 'SELECT 1 / (k - 5) AS q, count(*) AS c FROM t WHERE id < 50 GROUP BY 1');},
	q{SELECT scalecache.fold_rollup('t');},
	q{SELECT scalecache.drop_rollup('nothing');});
steady('folds', int($rounds / 10),
	'INSERT INTO t (k, v) VALUES (1, 1);', q{SELECT scalecache.fold_rollup('r_k');});
steady('changes of the source', int($rounds / 20),
	'ALTER TABLE t ALTER COLUMN v SET STATISTICS 10;',
	'INSERT INTO t (k, v) VALUES (1, 1);', 'SELECT * FROM r_k;');
steady('rollups that come and go', 200,
	q{SELECT scalecache.create_rollup('r_new', 'SELECT k, sum(id) AS s FROM t WHERE id < 50 GROUP BY k');},
	'UPDATE t SET v = v + 1 WHERE id = 7;', 'SELECT * FROM r_new;', 'DROP VIEW r_new;');

# The worker has folded all that; its memory is in its own log.
folded($node, 'postgres', 'memory');
sub worker_bytes
{
	my $pid = $node->safe_psql('postgres', "SELECT pid $WORKER");
	my ($rss) = slurp_file("/proc/$pid/smaps_rollup") =~ /^Pss_Anon:\s+(\d+)|^Anonymous:\s+(\d+)/m;

	return $1 // $2;
}
SKIP:
{
	skip 'no /proc', 1 unless -e '/proc/self/smaps_rollup';
	my $fold_some = sub {
		for (1 .. $_[0])
		{
			$node->safe_psql('postgres', 'UPDATE t SET v = v + 1 WHERE id < 50');
			folded($node, 'postgres', 'worker') if $_ % 10 == 0;
		}
	};
	$fold_some->(20);
	my $before = worker_bytes();
	$fold_some->(50);
	my $after = worker_bytes();
	note("worker: $before, then $after kB");
	cmp_ok($after - $before, '<', 1024, "the worker's memory does not grow");
}
verified($node, 'postgres', 'memory');
$node->stop;
done_testing();
