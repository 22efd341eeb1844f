# Random concurrent writers of every kind, folders, and readers that compare
# rollups with the plain queries in one snapshot.
#
# SCALECACHE_TEST_SECONDS is the time of the whole load, 24 by default; on a
# slow machine it takes as long as is needed for enough to happen.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use ScaleCache;
use Test::More;

my $seconds = int(($ENV{SCALECACHE_TEST_SECONDS} || 24) / 2) || 1;

my $node = new_server('differential');

# Writers: name, weight, script.  ":lock" is a statement that serializes the
# changes of one id where a row may move to another partition: such a move
# fails a concurrent READ COMMITTED change with 40001, rollup or not.  Rows of
# ON CONFLICT are those with a "u", and keep their k.
my $random = q{
\set i random(1, 3000)
\set k random(0, 9)
\set v random(-1000, 1000)
\set n random(1, 20)
\set m random(0, 30)
};
my $row = q{:k, :v / 10.0, :v / 7.0, timestamptz '2026-01-01 UTC' + :m * interval '11 days', 's' || :n};
my @writers = (
	[ 'insert', 4, "INSERT INTO t (k, v, f, d, s) VALUES ($row);" ],
	[ 'multi', 2, q{
INSERT INTO t (k, v, f, d, s)
SELECT nullif((:k + g) % 10, 9), :v + g, g / 3.0, timestamptz '2026-01-01 UTC' + g * interval '9 days',
	nullif('s' || g % 15, 's3') FROM generate_series(1, :n) g;} ],
	[ 'update', 4, q{
BEGIN;
:lock
UPDATE t SET v = v + :n, f = f - :n, s = 's' || :n WHERE id = :i;
COMMIT;} ],
	[ 'key', 4, q{
BEGIN;
:lock
UPDATE t SET k = :k, d = d + interval '20 days' WHERE id = :i AND u IS NULL;
COMMIT;} ],
	[ 'delete', 3, q{
BEGIN;
:lock
DELETE FROM t WHERE id = :i;
COMMIT;} ],
	[ 'delete_max', 1, q{
DELETE FROM t WHERE id IN
	(SELECT id FROM t WHERE k = :k ORDER BY v DESC LIMIT 3 FOR UPDATE SKIP LOCKED);} ],
	[ 'savepoint', 2, qq{
BEGIN;
:lock
INSERT INTO t (k, v, f, d, s) VALUES ($row);
SAVEPOINT a;
UPDATE t SET v = -v, k = :k WHERE id = :i AND u IS NULL;
SAVEPOINT b;
INSERT INTO t (k, v, f, d, s) VALUES ($row), ($row);
ROLLBACK TO b;
INSERT INTO t (k, v, f, d, s) VALUES ($row);
ROLLBACK TO a;
UPDATE t SET f = f + 1 WHERE id = :i;
COMMIT;} ],
	[ 'rollback', 1, qq{
BEGIN;
:lock
INSERT INTO t (k, v, f, d, s) VALUES ($row);
DELETE FROM t WHERE id = :i;
ROLLBACK;} ],
	[ 'conflict', 3, qq{
BEGIN;
:lock
INSERT INTO t (u, k, v, f, d, s)
SELECT u, u % 10, :v / 10.0, :v / 7.0, timestamptz '2026-01-01 UTC' + :m * interval '11 days', 's' || :n
FROM (VALUES (:i % 200)) c (u)
ON CONFLICT (u, k) DO UPDATE SET v = t.v + excluded.v, s = excluded.s, d = excluded.d;
COMMIT;} ],
	[ 'prepare', 2, qq{
BEGIN;
:lock
INSERT INTO t (k, v, f, d, s) VALUES ($row);
UPDATE t SET v = v + 1, k = :k WHERE id = :i AND u IS NULL;
PREPARE TRANSACTION ':iso-:client_id';
COMMIT PREPARED ':iso-:client_id';} ],
	[ 'prepare_rollback', 1, qq{
BEGIN;
:lock
INSERT INTO t (k, v, f, d, s) VALUES ($row);
DELETE FROM t WHERE id = :i;
PREPARE TRANSACTION ':iso-:client_id';
ROLLBACK PREPARED ':iso-:client_id';} ]);

# Rollup, columns compared (float sums rounded; equal numbers may have another
# scale), query
my %rollup = (
	r_k => [ 'k, s, n, trim_scale(lo), trim_scale(hi), round(fs::numeric, 3), lo_s, hi_d',
		q{SELECT k, sum(v) AS s, count(*) AS n, min(v) AS lo, max(v) AS hi,
			sum(f) AS fs, min(s) AS lo_s, max(d) AS hi_d
		  FROM t GROUP BY k} ],
	r_month => [ 'month, s, n, round(fs::numeric, 3), trim_scale(hi)',
		q{SELECT date_trunc('month', d) AS month, sum(v) AS s, count(s) AS n,
			sum(f) AS fs, max(v) AS hi
		  FROM t GROUP BY 1} ],
	r_all => [ 'n, s, round(fs::numeric, 3), lo, hi',
		q{SELECT count(*) AS n, sum(v) AS s, sum(f) AS fs,
			min(d) AS lo, max(s) AS hi FROM t} ],
	r_where => [ 'n, a, sd', q{SELECT count(*) AS n, avg(v) AS a, stddev(v) AS sd
		  FROM t WHERE k <> 3} ],
	# Few distinct values, and many.
	r_distinct => [ 'k, n, ds, trim_scale(sv)',
		q{SELECT k, count(*) AS n, count(DISTINCT s) AS ds, sum(DISTINCT v) AS sv
		  FROM t GROUP BY k} ],
	r_distinct_month => [ 'month, di, dv, ds',
		q{SELECT date_trunc('month', d) AS month, count(DISTINCT id) AS di,
			count(DISTINCT v) FILTER (WHERE k < 8) AS dv, count(DISTINCT s) AS ds
		  FROM t GROUP BY 1} ],
	r_distinct_all => [ 'n, dk, di', q{SELECT count(*) AS n, count(DISTINCT k) AS dk,
			count(DISTINCT id) AS di FROM t WHERE s <> 's1'} ],
	# Nothing is kept: groups are recomputed.
	r_stateless => [ 'k, names, median, common',
		q{SELECT k, string_agg(s, ',' ORDER BY s) AS names,
			percentile_cont(0.5) WITHIN GROUP (ORDER BY f) AS median,
			mode() WITHIN GROUP (ORDER BY s) AS common
		  FROM t GROUP BY k} ],
	r_stateless_month => [ 'month, odd, ids',
		q{SELECT date_trunc('month', d) AS month, k % 2 AS odd, array_agg(id ORDER BY id) AS ids
		  FROM t GROUP BY 1, 2} ]);

$node->safe_psql('postgres', "CREATE EXTENSION scalecache; $COMPARE");

for my $partitioned (0, 1)
{
	my $what = $partitioned ? 'partitioned' : 'plain';
	my $lock = $partitioned ? 'SELECT pg_advisory_xact_lock(:i);' : '';

	$node->safe_psql('postgres', 'DROP TABLE t CASCADE') if $partitioned;
	$node->safe_psql('postgres', 'TRUNCATE checks;
		CREATE TABLE t (id bigserial, u int, k int, v numeric, f float8, d timestamptz, s text'
		. ($partitioned
			? ') PARTITION BY RANGE (k);
			   CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (MINVALUE) TO (3);
			   CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (3) TO (6);
			   CREATE TABLE t3 PARTITION OF t DEFAULT;'
			: ');')
		. 'CREATE INDEX ON t (id); CREATE UNIQUE INDEX ON t (u, k);
		INSERT INTO t (k, v, f, d, s)
		SELECT g % 10, g, g / 3.0, timestamptz \'2026-01-01 UTC\' + g % 300 * interval \'1 day\', \'s\' || g % 20
		FROM generate_series(1, 1000) g');
	for my $r (sort keys %rollup)
	{
		$node->safe_psql('postgres',
			"SELECT scalecache.create_rollup('$r', \$\$$rollup{$r}[1]\$\$)");
	}

	my $reader = comparing_script($node, "reader$partitioned", \%rollup);
	my $folder = script($node, "folder$partitioned", join("\n",
			map { "SELECT scalecache.fold_rollup('$_');" } sort keys %rollup) . "\n");
	my @scripts;
	for my $w (@writers)
	{
		(my $text = $random . $w->[2] . "\n") =~ s/^:lock$/$lock/mg;
		push @scripts, '-f', script($node, "$w->[0]$partitioned", $text) . "\@$w->[1]";
	}

	my $iso = '-c default_transaction_isolation=';
	my @retry = ('--max-tries=1', '--failures-detailed');
	run_loads($node, $what,
		seconds => $seconds,
		loads => {
			rc => { least => 400, options => $iso . 'read\ committed',
				args => [ '-c', 4, '-D', 'iso=rc', @scripts ] },
			rr => { least => 100, options => $iso . 'repeatable\ read', may_fail => 1,
				args => [ '-c', 2, '-D', 'iso=rr', @retry, @scripts ] },
			ser => { least => 50, options => $iso . 'serializable', may_fail => 1,
				args => [ '-c', 2, '-D', 'iso=ser', @retry, @scripts ] },
			reader => { least => 8, options => $iso . 'repeatable\ read',
				args => [ '-c', 2, '-f', $reader ] },
			folder => { least => 5, args => [ '-c', 1, '-f', $folder ] } });

	compared($node, $what);
	folded($node, 'postgres', $what);
	is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'),
		'0', "$what: no prepared transaction is left");
	verified($node, 'postgres', $what);
}
no_deadlock($node);

$node->stop;
done_testing();
