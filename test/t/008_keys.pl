# As 001, for keys of every size and kind: too wide for a btree, several of
# them, NULLs, jsonb, equal ones that look different; and for aggregates that
# keep nothing, the user's own among them.
#
# SCALECACHE_TEST_SECONDS is the time of the load, 10 by default; more when too
# little has happened then.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use ScaleCache;
use Test::More;

my $node = new_server('keys', init => [ extra => [ '--encoding=UTF8', '--no-locale' ] ]);

# Values of a key from a small number.  Where a btree refuses a key, and where
# the rollup takes it for too wide, is in between the lengths of wide().
$node->safe_psql('postgres', "CREATE EXTENSION scalecache; $COMPARE" . q{
	CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
	CREATE FUNCTION wide(i int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
		SELECT CASE WHEN i % 7 = 0 THEN NULL WHEN i % 5 = 0 THEN 'short' || i
			ELSE (SELECT string_agg(md5(i::text || g), '') FROM generate_series(1, 76 + i * 2) g) END$$;
	CREATE FUNCTION word(i int) RETURNS text LANGUAGE sql IMMUTABLE AS
		$$SELECT (array['ab', 'AB', 'Ab', 'c', 'C', NULL])[1 + i % 6]$$;
	CREATE FUNCTION number(i int) RETURNS numeric LANGUAGE sql IMMUTABLE AS
		$$SELECT (array[1, 1.0, 1.00, 'NaN', NULL, 'infinity'])[1 + i % 6]$$;
	CREATE FUNCTION doc(i int) RETURNS jsonb LANGUAGE sql IMMUTABLE AS
		$$SELECT CASE WHEN i % 4 > 0 THEN jsonb_build_object('k', i % 3, 'list', ARRAY[i % 2, NULL], 'w', wide(i)) END$$;
	CREATE FUNCTION add_square(s bigint, x int) RETURNS bigint LANGUAGE sql IMMUTABLE AS
		$$SELECT s + coalesce(x::bigint * x, 7)$$;
	CREATE AGGREGATE squares(int) (sfunc = add_square, stype = bigint, initcond = '1');
	CREATE FUNCTION add_link(s text, x text) RETURNS text LANGUAGE sql IMMUTABLE AS
		$$SELECT md5(concat(s, x))$$;
	CREATE AGGREGATE chain(text) (sfunc = add_link, stype = text);
	CREATE TABLE t (id bigserial PRIMARY KEY, a int, b text COLLATE ci, c jsonb, w text, n numeric, v numeric, s text);
	CREATE INDEX ON t (a);
	INSERT INTO t (a, b, c, w, n, v, s)
	SELECT nullif(g % 5, 4), word(g), doc(g % 30), wide(g % 30), number(g), g, 's' || g % 9 FROM generate_series(1, 300) g;
});

# Columns compared, where equal keys look different made alike; query
my %rollup = (
	r_wide => [ 'md5(w), n, s, trim_scale(lo), hi',
		q{SELECT w, count(*) AS n, sum(v) AS s, min(v) AS lo, max(s) AS hi FROM t GROUP BY w} ],
	r_many => [ 'a, md5(w), md5(c::text), trim_scale(n), k, s, d',
		q{SELECT a, w, c, n, count(*) AS k, sum(v) AS s, count(DISTINCT s) AS d FROM t GROUP BY a, w, c, n} ],
	r_case => [ 'lower(b), a, k, s, d',
		q{SELECT b, a, count(*) AS k, avg(v) AS s, count(DISTINCT w) AS d FROM t GROUP BY b, a} ],
	r_case_wide => [ 'lower(wb), k, s',
		q{SELECT w || b AS wb, count(*) AS k, sum(v) AS s FROM t GROUP BY w || b} ],
	r_number => [ 'trim_scale(n), k, db, dn',
		q{SELECT n, count(*) AS k, count(DISTINCT b) AS db, count(DISTINCT n) AS dn FROM t GROUP BY n} ],
	r_json => [ 'md5(c::text), k, s', q{SELECT c, count(*) AS k, sum(a) AS s FROM t GROUP BY c} ],
	r_kept_not => [ 'a, md5(w), names, median, sq, ch, d, dj',
		q{SELECT a, w, string_agg(s, ',' ORDER BY s) AS names,
			percentile_cont(0.5) WITHIN GROUP (ORDER BY v) AS median,
			squares(a) AS sq, chain(s ORDER BY id) AS ch, count(DISTINCT v) AS d, count(DISTINCT c) AS dj
		  FROM t GROUP BY a, w} ],
	r_case_kept_not => [ 'lower(b), trim_scale(n), ids, m, ch',
		q{SELECT b, n, array_agg(id ORDER BY id) AS ids, mode() WITHIN GROUP (ORDER BY a) AS m,
			chain(s ORDER BY id DESC) FILTER (WHERE a > 0) AS ch FROM t GROUP BY b, n} ],
	r_all => [ 'n, sq, ch, d, db',
		q{SELECT count(*) AS n, squares(a) AS sq, chain(s ORDER BY id) AS ch,
			count(DISTINCT w) AS d, count(DISTINCT b) AS db FROM t} ]);
for my $r (sort keys %rollup)
{
	$node->safe_psql('postgres', "SELECT scalecache.create_rollup('$r', \$\$$rollup{$r}[1]\$\$)");
}

my $random = q{
\set i random(1, 600)
\set k random(0, 30)
\set l random(0, 30)
\set v random(-100, 100)
};
my $row = q{nullif(:k % 5, 4), word(:l), doc(:l), wide(:k), number(:v + 100), :v / 4.0, 's' || :l};
my @writers = map { ('-f', script($node, "writer$_->[0]", "$random$_->[1]\n") . "\@$_->[2]") } (
	[ 1, "INSERT INTO t (a, b, c, w, n, v, s) VALUES ($row);", 4 ],
	[ 2, "UPDATE t SET (a, b, c, w, n, v, s) = ROW($row) WHERE id = :i;", 4 ],
	[ 3, 'UPDATE t SET v = v + 1, s = NULL WHERE id = :i;', 2 ],
	[ 4, 'DELETE FROM t WHERE id = :i;', 3 ],
	[ 5, qq{BEGIN;
INSERT INTO t (a, b, c, w, n, v, s) VALUES ($row);
SAVEPOINT x;
UPDATE t SET w = wide(:l), b = word(:k) WHERE id = :i;
ROLLBACK TO x;
UPDATE t SET n = number(:l), c = doc(:k) WHERE id = :i;
COMMIT;}, 2 ],
	[ 6, qq{BEGIN;
INSERT INTO t (a, b, c, w, n, v, s) VALUES ($row);
DELETE FROM t WHERE id = :i;
ROLLBACK;}, 1 ],
	[ 7, qq{BEGIN;
UPDATE t SET b = word(:l), w = wide(:l) WHERE id = :i;
INSERT INTO t (a, b, c, w, n, v, s) VALUES ($row);
PREPARE TRANSACTION 'p:client_id';
COMMIT PREPARED 'p:client_id';}, 1 ],
	[ 8, qq{INSERT INTO t (a, b, c, w, n, v, s)
SELECT a, upper(b), c, w, n + 0.00, v, s FROM t WHERE id % 50 = :k;}, 1 ],
	[ 9, 'DELETE FROM t WHERE id IN (SELECT id FROM t WHERE id % 40 = :k FOR UPDATE SKIP LOCKED);', 2 ]);

# Old snapshots: folds spare the base table meanwhile.
my $hold = q{BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM t;
\sleep 2500 ms
SELECT count(*) FROM t;
COMMIT;
};
my $iso = '-c default_transaction_isolation=repeatable\ read';
run_loads($node, 'keys',
	seconds => $ENV{SCALECACHE_TEST_SECONDS} || 10,
	loads => {
		writers => { least => 200, args => [ '-c', 4, @writers ] },
		reader => { least => 5, options => $iso,
			args => [ '-c', 2, '-f', comparing_script($node, 'reader', \%rollup) ] },
		holder => { least => 1, args => [ '-c', 1, '-f', script($node, 'holder', $hold) ] },
		folder => { least => 3, args => [ '-c', 1, '-f', script($node, 'folder',
				join("\n", map { "SELECT scalecache.fold_rollup('$_');" } sort keys %rollup) . "\n") ] } });
compared($node, 'keys');
cmp_ok( $node->safe_psql('postgres', 'SELECT count(*) FROM r_wide WHERE length(w) > 2700'),
	'>', 5, 'wide keys were among them');
verified($node, 'postgres', 'keys');
folded($node, 'postgres', 'keys');
verified($node, 'postgres', 'keys, folded');
no_deadlock($node);
$node->stop;
done_testing();
