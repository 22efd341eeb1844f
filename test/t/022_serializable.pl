# SERIALIZABLE transactions that read rollups: what commits is as if one after
# the other, and nothing fails that would not fail on a table that keeps each
# group in a partition of its own.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use ScaleCache;
use Test::More;

my $node = new_server('serializable');

# ---- any order of events is an order of transactions ----

# A row's v is a power of two that its transaction has for itself, so a sum
# tells whose rows it has.  Other rows only make the table worth a rewrite.
$node->safe_psql('postgres', q{
	CREATE EXTENSION scalecache;
	CREATE TABLE t (k int, d int, v numeric);
	INSERT INTO t SELECT g % 4, g % 2, 0 FROM generate_series(1, 4000) g;
	CREATE TABLE bits AS
		WITH RECURSIVE b (txn, bit) AS
			(SELECT 1, 1::numeric UNION ALL SELECT txn + 1, bit * 2 FROM b WHERE txn < 800)
		SELECT * FROM b;
	CREATE SEQUENCE txns;
	CREATE TABLE log (txn int, keys int[], seen numeric, wrote int);
	SELECT scalecache.create_rollup('r', 'SELECT k, sum(v) AS s FROM t GROUP BY k');
	SELECT scalecache.create_rollup('r2', 'SELECT k, d, sum(v) AS s FROM t GROUP BY k, d');
	ANALYZE;
});

my %reads = (
	one => [ ':a', 'SELECT coalesce(sum(s), 0) FROM r WHERE k = :a' ],
	list => [ ':a, :b', 'SELECT sum(s) FROM r WHERE k IN (:a, :b)' ],
	all => [ '0, 1, 2, 3', 'SELECT sum(s) FROM r' ],
	plain => [ ':a', 'SELECT sum(v) FROM t WHERE k = :a' ],
	coarse => [ ':a', 'SELECT sum(s) FROM r2 WHERE k = :a' ],
	both => [ ':a', 'SELECT sum(s) FROM r2 WHERE d = :a % 2 AND k = :a' ]);
my @scripts = map {
	my ($keys, $read) = @{ $reads{$_} };

	(-f => script($node, $_, qq{
\\set a random(0, 3)
\\set b random(0, 3)
\\set w random(0, 3)
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT nextval('txns') AS txn \\gset
SELECT ($read) AS seen \\gset
\\sleep 2 ms
INSERT INTO t SELECT :w, :w % 2, bit FROM bits WHERE txn = :txn;
INSERT INTO log VALUES (:txn, ARRAY[$keys], :seen, :w);
COMMIT;
}))
} sort keys %reads;

$node->command_ok([ 'pgbench', '-n', '-c', '8', '-j', '2', '-t', '90', @scripts, 'postgres' ],
	'SERIALIZABLE transactions');

my ($committed, $failed) = split /\|/, $node->safe_psql('postgres',
	'SELECT count(*), (SELECT last_value FROM txns) - count(*) FROM log');
note("$committed committed, $failed failed");
cmp_ok($committed, '>', 50, 'many commit');
cmp_ok($failed, '>', 0, 'some cannot');

# Whoever is seen comes before, whoever is not comes after.
my (%before, %after);
for (split /\n/, $node->safe_psql('postgres', q{
	SELECT r.txn, w.txn, mod(div(r.seen, bit), 2)
	FROM log r JOIN log w ON w.wrote = ANY (r.keys) AND w.txn <> r.txn
		JOIN bits b ON b.txn = w.txn}))
{
	my ($reader, $writer, $seen) = split /\|/;
	my ($first, $second) = $seen ? ($writer, $reader) : ($reader, $writer);

	$before{$second}{$first} = $after{$first}{$second} = 1;
}
my %left = map { $_ => 1 } keys %before, keys %after;
my @free = grep { !%{ $before{$_} // {} } } keys %left;
while (defined(my $txn = shift @free))
{
	delete $left{$txn};
	for my $next (keys %{ $after{$txn} // {} })
	{
		delete $before{$next}{$txn};
		push @free, $next unless %{ $before{$next} };
	}
}
is(scalar(keys %left), 0, 'transactions that committed have an order');

# ---- whoever keeps to a group of its own never fails ----

$node->safe_psql('postgres', 'TRUNCATE log');
my @own = map {
	my ($keys, $read) = @{ $reads{$_} };

	(-f => script($node, "own_$_", qq{
\\set a :client_id
\\set b :client_id + 100
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT coalesce(($read), 0) AS seen \\gset
\\sleep 2 ms
INSERT INTO t VALUES (:a, :a % 2, 1);
INSERT INTO log VALUES (1, NULL, :seen, :a);
COMMIT;
}))
} grep { $_ ne 'all' } sort keys %reads;
$node->command_ok([ 'pgbench', '-n', '-c', '8', '-j', '2', '-t', '60', @own, 'postgres' ],
	'transactions with a group each');
is($node->safe_psql('postgres', 'SELECT count(*) FROM log'), '480', 'none of them fails');

# ---- the same schedules, with a rollup and with a partition a group ----

$node->safe_psql('postgres', q{
	CREATE EXTENSION dblink;
	CREATE TABLE p (k int, v int) PARTITION BY LIST (k);
	CREATE TABLE p0 PARTITION OF p FOR VALUES IN (0);
	CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
	CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2);
	INSERT INTO p SELECT g % 3, g FROM generate_series(1, 30) g;
	CREATE TABLE q AS SELECT * FROM p;
	SELECT scalecache.create_rollup('rq', 'SELECT k, sum(v) AS s FROM q GROUP BY k');
	CREATE TABLE schedules (n int, ops text[], failed_p int, failed_q int);

	-- How many steps fail.  A step is a session, what it does and a key.
	CREATE FUNCTION failures(ops text[], rolled bool) RETURNS int LANGUAGE plpgsql AS $$
	DECLARE
		op text;
		failed int := 0;
	BEGIN
		FOREACH op IN ARRAY ops LOOP
			CONTINUE WHEN dblink_exec('s' || left(op, 1), CASE substr(op, 2, 1)
				WHEN 'b' THEN 'BEGIN ISOLATION LEVEL SERIALIZABLE; DO ''BEGIN PERFORM 1; END'''
				WHEN 'c' THEN 'COMMIT'
				WHEN 'f' THEN 'DO ''BEGIN PERFORM scalecache.fold_rollup(''''rq''''); END'''
				WHEN 'w' THEN format('INSERT INTO %s VALUES (%s, 1)',
					CASE WHEN rolled THEN 'q' ELSE 'p' END, substr(op, 3))
				WHEN 'a' THEN format('DO ''BEGIN PERFORM * FROM %s; END''',
					CASE WHEN rolled THEN 'rq' ELSE 'p' END)
				ELSE format('DO ''BEGIN PERFORM * FROM %s WHERE k = %s; END''',
					CASE WHEN rolled THEN 'rq' ELSE 'p' END, substr(op, 3)) END, false) <> 'ERROR';
			failed := failed + 1;
		END LOOP;
		RETURN failed;
	END $$;

	-- Three sessions' steps in a random order; session 4 folds.
	CREATE FUNCTION schedule() RETURNS text[] LANGUAGE sql VOLATILE AS $$
		SELECT array_agg(CASE nth WHEN 1 THEN format('%sb', s) WHEN 5 THEN format('%sc', s)
			ELSE coalesce(format('%s%s%s', s, what, k), '4f') END ORDER BY at, s, nth)
		FROM (SELECT s, nth, CASE WHEN random() < 0.1 THEN NULL
				ELSE substr('rrwwa', 1 + floor(random() * 5)::int, 1) END AS what,
				floor(random() * 3)::int AS k,
				max(random()) OVER (PARTITION BY s ORDER BY nth) AS at
			FROM generate_series(1, 3) s, generate_series(1, 5) nth) steps $$;
});
my $schedules = $ENV{SCALECACHE_TEST_SCHEDULES} || 300;
$node->safe_psql('postgres', sprintf(q{
	SELECT dblink_connect('s' || s, 'host=%s port=%s dbname=postgres')
	FROM generate_series(1, 4) s;
	SET client_min_messages = error;
	DO $$
	DECLARE
		ops text[];
	BEGIN
		FOR i IN 1..%s LOOP
			ops := schedule();
			INSERT INTO schedules VALUES (i, ops, failures(ops, false), failures(ops, true));
		END LOOP;
	END $$;
}, $node->host, $node->port, $schedules));
is($node->safe_psql('postgres', 'SELECT n, ops, failed_p, failed_q FROM schedules
		WHERE failed_p = 0 AND failed_q > 0'),
	'', 'no schedule fails with the rollup only');
my ($fail, $only) = split /\|/, $node->safe_psql('postgres', 'SELECT count(*),
	count(*) FILTER (WHERE failed_q = 0) FROM schedules WHERE failed_p > 0');
note("$fail of $schedules schedules fail, $only of them with partitions only");
# Deltas are written late, and so a few more readers are over before.
cmp_ok($only, '<', $fail / 4 + 1, 'nor do many with partitions only');

# ---- a writer that has gone over to the other delta table ----

$node->safe_psql('postgres', q{
	CREATE TABLE w (k text, v int);
	INSERT INTO w VALUES ('a', 1), ('b', 1);
	SELECT scalecache.create_rollup('rw', 'SELECT k, sum(v) AS s FROM w GROUP BY k');
});
my $turns = sprintf(q{
	DO $$BEGIN PERFORM dblink_connect('s' || s, 'host=%s port=%s dbname=postgres') FROM generate_series(1, 3) s; END$$;
	SET client_min_messages = error;
	SELECT FROM dblink_exec('s1', 'BEGIN ISOLATION LEVEL SERIALIZABLE;
		DO $$BEGIN PERFORM * FROM rw WHERE k = ''a''; END$$');
	SELECT FROM dblink_exec('s3', 'INSERT INTO w SELECT repeat(g::text, 200), 1 FROM generate_series(1, 20000) g');
	DO $$
	BEGIN
		FOR i IN 1..1800 LOOP
			EXIT WHEN (SELECT turn %% 4 FROM scalecache.rollup WHERE rollup = 'rw'::regclass) = 1;
			PERFORM dblink_exec('s3', 'DO $f$BEGIN PERFORM scalecache.fold_rollup(''rw''); END$f$'), pg_sleep(0.1);
		END LOOP;
	END $$;
	SELECT turn %% 4 FROM scalecache.rollup WHERE rollup = 'rw'::regclass;
	SELECT FROM dblink_exec('s2', 'BEGIN ISOLATION LEVEL SERIALIZABLE;
		DO $$BEGIN PERFORM * FROM rw WHERE k = ''b''; END$$; INSERT INTO w VALUES (''a'', 1); COMMIT');
	SELECT dblink_exec('s1', 'INSERT INTO w VALUES (''b'', 1); COMMIT', false);
}, $node->host, $node->port);
is($node->safe_psql('postgres', $turns) =~ s/\n+/ /gr, '1 ERROR',
	'readers before and writers after a turn meet');

exact($node, 'postgres', 'SERIALIZABLE');
verified($node, 'postgres', 'SERIALIZABLE');
no_deadlock($node);
$node->stop;
done_testing();
