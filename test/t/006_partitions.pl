# Partitions come, go and are emptied while others write and read: in every
# snapshot the rollups are what their queries say.  And a rollup is created
# concurrently while a long transaction writes.
#
# SCALECACHE_TEST_SECONDS is the time of the load, 16 by default; more when too
# little has happened then.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use ScaleCache;
use Test::More;

my $seconds = $ENV{SCALECACHE_TEST_SECONDS} || 16;
my $node = new_server('partitions', conf => "scalecache.naptime = 100\nautovacuum = off\n");

$node->safe_psql('postgres', q{
	CREATE EXTENSION scalecache;
	CREATE TABLE t (id bigserial, k int, v numeric) PARTITION BY RANGE (k);
	CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (3);
	CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (3) TO (6);
	CREATE TABLE t3 (v numeric, k int, gone int, id bigint NOT NULL DEFAULT 0);
	ALTER TABLE t3 DROP COLUMN gone;
	CREATE TABLE t4 (k int, id bigint NOT NULL DEFAULT 0, v numeric) PARTITION BY LIST (k);
	CREATE TABLE t41 PARTITION OF t4 FOR VALUES IN (9);
	CREATE TABLE t42 PARTITION OF t4 FOR VALUES IN (10);
	CREATE TABLE answers (source bool);
	INSERT INTO t (k, v) SELECT g % 6, g FROM generate_series(1, 2000) g;
	SELECT scalecache.create_rollup('r_k', 'SELECT k, sum(v) AS s, count(*) AS n, min(v) AS lo, max(v) AS hi FROM t GROUP BY k');
	SELECT scalecache.create_rollup('r_all', 'SELECT sum(v) AS s, count(*) AS n, count(DISTINCT k) AS d FROM t');
	SELECT scalecache.create_rollup('r_mid', 'SELECT k, percentile_disc(0.5) WITHIN GROUP (ORDER BY v) AS m FROM t GROUP BY k');
	CREATE FUNCTION check_all() RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		r record;
		line text;
		source bool := true;
		a text; b text;
		rows text := 'SELECT array_agg(whole_row::text ORDER BY whole_row::text)::text FROM (%s) whole_row';
	BEGIN
		FOR r IN SELECT rollup FROM scalecache.rollups LOOP
			EXECUTE format(rows, format('TABLE %s', r.rollup)) INTO a;
			PERFORM set_config(name, 'off', true) FROM pg_settings
				WHERE name IN ('scalecache.enable_rewrite', 'scalecache.enable_rollup_scan');
			EXECUTE format(rows, rtrim(pg_get_viewdef(r.rollup), ';')) INTO b;
			PERFORM set_config(name, 'on', true) FROM pg_settings
				WHERE name IN ('scalecache.enable_rewrite', 'scalecache.enable_rollup_scan');
			IF a IS DISTINCT FROM b THEN
				RAISE EXCEPTION '% differs', r.rollup USING DETAIL = a || ' not ' || b;
			END IF;
		END LOOP;
		FOR line IN EXECUTE 'EXPLAIN (ANALYZE, TIMING OFF) TABLE r_all' LOOP
			source := source AND line !~ 'Answered From: rollup';
		END LOOP;
		INSERT INTO answers VALUES (source);
	END $$;
});

# Partitions come and go for snapshots at once, so while two queries are
# compared none may; but a snapshot can be older than that.
my $reader = script($node, 'reader', q{
\set wait random(-40, 40)
\set wait greatest(:wait, 0)
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT 1;
\sleep :wait ms
LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE;
SELECT check_all();
COMMIT;
});
my $random = q{
\set k random(0, 5)
\set d random(6, 8)
\set l random(9, 10)
\set v random(-1000, 1000)
};
my @writers = map { ('-f', script($node, "writer$_->[0]", "$random$_->[1]\n") . "\@$_->[2]") } (
	[ 1, 'INSERT INTO t (k, v) VALUES (:k, :v), (:k, :v + 1);', 6 ],
	[ 2, 'INSERT INTO t3 (k, v) VALUES (:d, :v);', 6 ],
	[ 3, 'INSERT INTO t4 (k, v) VALUES (:l, :v);', 3 ],
	[ 4, 'INSERT INTO t41 (k, v) VALUES (9, :v);', 3 ],
	[ 5, 'UPDATE t3 SET v = v + 1 WHERE ctid = (SELECT ctid FROM t3 ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED);', 2 ],
	[ 6, 'DELETE FROM t3 WHERE ctid = (SELECT ctid FROM t3 ORDER BY v DESC LIMIT 1 FOR UPDATE SKIP LOCKED);', 2 ],
	[ 7, 'BEGIN; INSERT INTO t (k, v) VALUES (:k, :v); SAVEPOINT a; INSERT INTO t1 (k, v) VALUES (1, :v); ROLLBACK TO a; INSERT INTO t2 (k, v) VALUES (5, :v); COMMIT;', 2 ],
	[ 8, 'BEGIN; INSERT INTO t2 (k, v) VALUES (4, :v); ROLLBACK;', 1 ]);
# What attaches it when it is not attached, else detaches it.
sub toggle
{
	my ($table, $bounds, $how) = @_;
	my $attach = "ALTER TABLE t ATTACH PARTITION $table FOR VALUES $bounds;";
	my $detach = "ALTER TABLE t DETACH PARTITION $table$how;";

	return qq{
SELECT relispartition::int AS attached FROM pg_class WHERE oid = '$table'::regclass \\gset
\\if :attached
$detach
\\else
$attach
\\endif
\\sleep 60 ms
};
}
my @ddl = map { ('-f', script($node, "ddl$_->[0]", $_->[1]) . "\@$_->[2]") } (
	[ 1, toggle('t3', 'FROM (6) TO (9)', ''), 4 ],
	[ 2, toggle('t3', 'FROM (6) TO (9)', ' CONCURRENTLY'), 1 ],
	[ 3, toggle('t4', 'FROM (9) TO (11)', ''), 3 ],
	[ 4, q{
BEGIN;
CREATE TABLE IF NOT EXISTS t5 PARTITION OF t FOR VALUES FROM (20) TO (30);
INSERT INTO t (k, v) SELECT 20 + g % 3, g FROM generate_series(1, 30) g;
COMMIT;
\sleep 60 ms
}, 3 ],
	[ 5, 'DROP TABLE IF EXISTS t5;', 2 ],
	[ 6, 'BEGIN; DROP TABLE IF EXISTS t5; ROLLBACK;', 1 ],
	[ 7, 'TRUNCATE t2;', 1 ],
	[ 8, 'TRUNCATE t3;', 1 ],
	[ 9, 'BEGIN; TRUNCATE t1; ROLLBACK;', 1 ],
	[ 10, 'BEGIN; TRUNCATE t; INSERT INTO t (k, v) VALUES (1, 1); COMMIT;', 1 ],
	[ 11, "SET scalecache.partition_limit = 0;\n" . toggle('t3', 'FROM (6) TO (9)', '') . 'RESET scalecache.partition_limit;', 1 ]);

run_loads($node, 'partitions',
	seconds => $seconds,
	enough => sub {
		$node->safe_psql('postgres', 'SELECT count(*) > 10 FROM answers WHERE NOT source') eq 't';
	},
	loads => {
		# Who writes to a partition directly can meet one who detaches or
		# empties it: a deadlock without any rollup.  Those on account of one
		# are looked for below.
		writers => { least => 500, may_deadlock => 1, args => [ '-c', 4, @writers ] },
		ddl => { least => 50, may_deadlock => 1, args => [ '-c', 1, @ddl ] },
		readers => { least => 50, args => [ '-c', 3, '-f', $reader ] } });
note($node->safe_psql('postgres', 'SELECT source, count(*) FROM answers GROUP BY 1'));
ok( $node->poll_query_until('postgres',
		q{SELECT count(*) = 3 FROM scalecache.rollups WHERE state = 'live'}),
	'the worker has rebuilt what was stale');
exact($node, 'postgres', 'in the end');
verified($node, 'postgres', 'in the end');
folded($node, 'postgres', 'in the end');
live($node, 'postgres', 'r_k', 'in the end');
my @storage = split /\n/, $node->safe_psql('postgres', q{
	SELECT oid FROM pg_class WHERE relnamespace = 'scalecache_data'::regnamespace});
my $storage = join '|', @storage;
unlike(slurp_file($node->logfile),
	qr/waits for \w+ on relation (?:$storage) of|^\tProcess \d+: folding rollups/m,
	'no deadlock on account of a rollup');

# Nor does a command that does nothing keep a lock which could lead to one.
is($node->safe_psql('postgres', q{BEGIN;
	CREATE TABLE IF NOT EXISTS t1 PARTITION OF t FOR VALUES FROM (0) TO (3);
	SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND mode = 'ShareUpdateExclusiveLock';
	COMMIT}), '0', 'no lock is kept after IF NOT EXISTS');

# A writer's long transaction: creating a rollup concurrently waits for it,
# others who write do not wait for that.
$node->safe_psql('postgres', 'CREATE TABLE u (k int, v int); INSERT INTO u SELECT g % 5, g FROM generate_series(1, 100) g');
my $limit = 3 * $PostgreSQL::Test::Utils::timeout_default;
my ($in, $out) = ("BEGIN; INSERT INTO u VALUES (1, 1); SELECT 'written';\n", '');
my $long = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') ],
	'<', \$in, '>', \$out, IPC::Run::timeout($limit));
$long->pump until $out =~ /written/;
my $create = sub {
	my ($name) = @_;
	my %call = (err => '');
	$call{h} = IPC::Run::start([ 'psql', '-Xq', '-d', $node->connstr('postgres'), '-c',
			"CALL scalecache.create_rollup_concurrently('$name', 'SELECT k, sum(v) AS s FROM u GROUP BY k')" ],
		'>', \my $ignored, '2>', \$call{err}, IPC::Run::timeout($limit));
	return \%call;
};
my $one = $create->('one');
ok( $node->poll_query_until('postgres',
		q{SELECT state = 'stale' FROM scalecache.rollups WHERE rollup::text = 'one'}, 't'),
	'a rollup being created is visible');
# Each attempt holds writers up for a moment.  Were they blocked, they would
# wait until the long transaction ends, after this.
my $writers = start_pgbench($node, '-t', 100, '-c', 2, '-f',
	script($node, 'u', "SET statement_timeout = '60s';\nINSERT INTO u VALUES (1, 1);\n"));
$writers->{h}->finish;
like($writers->{out}, qr{actually processed: 200/200}, 'writers are not blocked by it');
is( $node->safe_psql('postgres', 'SELECT s FROM one WHERE k = 1'),
	$node->safe_psql('postgres', 'SELECT sum(v) FROM u WHERE k = 1'),
	'and it answers');
# Cancelling counts for nothing at the very moment when a lock's time is over.
my $cancel = sub {
	my ($name) = @_;
	my $call = "FROM pg_stat_activity WHERE query ~ '^CALL.*$name'";

	ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM (SELECT pg_cancel_backend(pid) $call) x"), "$name is cancelled");
};
# Another one is cancelled in the middle: the worker goes on.
my $two = $create->('two');
ok( $node->poll_query_until('postgres', q{
	SELECT count(*) = 1 FROM scalecache.rollups WHERE rollup::text = 'two'}), 'another one');
$cancel->('two');
$two->{h}->finish;
like($two->{err}, qr/canceling statement/, 'is cancelled');
my $three = $create->('three');
$node->poll_query_until('postgres', q{
	SELECT count(*) = 1 FROM scalecache.rollups WHERE rollup::text = 'three'});
$cancel->('three');
$three->{h}->finish;
$node->safe_psql('postgres', q{SELECT scalecache.drop_rollup('three')});
$in .= "COMMIT;\n\\q\n";
$long->finish;
$one->{h}->finish;
is($one->{h}->result(0), 0, 'the first is created');
like($one->{err}, qr/waiting for a moment without writers/, 'it said what it waited for');
ok( $node->poll_query_until('postgres',
		q{SELECT count(*) = 5 FROM scalecache.rollups WHERE state = 'live'}),
	'the worker finishes what was cancelled');
exact($node, 'postgres', 'created concurrently');
verified($node, 'postgres', 'created concurrently');
live($node, 'postgres', $_, 'created concurrently') for qw(one two);
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_trigger WHERE tgname ~ 'three'}),
	'0', 'of what was dropped nothing is left');

# Counters survive a restart.
$node->safe_psql('postgres', q{INSERT INTO u VALUES (1, 1); SELECT scalecache.fold_rollup('one')});
my $last = q{SELECT last_fold FROM scalecache.rollups WHERE rollup::text = 'one'};
ok($node->poll_query_until('postgres', "SELECT ($last) IS NOT NULL"), 'last_fold is known');
$node->stop;
$node->start;
is($node->safe_psql('postgres', "SELECT ($last) IS NOT NULL"), 't', 'and known after a restart');

$node->stop;
done_testing();
