# apply_index: built in the background, verified, kept or dropped again.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use IndexActions;
use ScaleCache;
use Test::More;

my $node = new_server('apply', conf => q{
shared_preload_libraries = 'scalecache'
scalecache.advisor_lock_timeout = 600s
autovacuum = off
});
my $db = 'postgres';
act_on($node, $db);

$node->safe_psql($db, q{
	CREATE EXTENSION scalecache;
	CREATE TABLE t (id int PRIMARY KEY, a int, b int, pad text);
	INSERT INTO t SELECT i, i % 5000, i % 3, repeat('x', 200) FROM generate_series(1, 100000) i;
	CREATE TABLE other AS SELECT * FROM t LIMIT 1000;
	CREATE FOREIGN DATA WRAPPER nothing;
	CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
	CREATE TABLE far (id int) PARTITION BY RANGE (id);
	CREATE FOREIGN TABLE far_1 PARTITION OF far DEFAULT SERVER nowhere;
	ANALYZE t;
	ALTER SYSTEM SET max_parallel_workers_per_gather = 0;
	SELECT pg_reload_conf();
	SELECT scalecache.reset_workload();
});
my $query = 'SELECT count(pad) FROM t WHERE a = 77';
$node->safe_psql($db, "$query;" x 5);

sub indexes
{
	return $node->safe_psql($db, q{SELECT count(*) || ' ' || count(*) FILTER (WHERE NOT indisvalid)
		FROM pg_index WHERE indrelid = 't'::regclass});
}

sub lock_timeout
{
	my ($time) = @_;
	$node->safe_psql($db, "ALTER SYSTEM SET scalecache.advisor_lock_timeout = '$time'");
	$node->reload;
}

# It helps: kept
my $id = apply('CREATE INDEX ON t (a)');
is(finished($id), 'kept', 'an index that helps is kept');
is(indexes(), '2 0', 'it is there, and valid');
like($node->safe_psql($db, "EXPLAIN $query"), qr/t_a_idx/, 'it is used');
is( $node->safe_psql($db, "SELECT statements > 0, before_ms > after_ms, verdict ~ 'recorded statements take'
	FROM scalecache.index_actions WHERE id = $id"), 't|t|t', 'the verdict has numbers');
is($node->safe_psql($db, "SELECT count(*) FROM scalecache.suggest_indexes() WHERE ddl ~ 't \\(a'"),
	'0', 'it is not suggested any more');

# It does not: dropped
is(finished(apply('CREATE INDEX useless ON t (b) WITH (fillfactor = 80)')), 'dropped', 'an index that does not help is dropped');
is(indexes(), '2 0', 'nothing is left of it');

$node->safe_psql($db, 'SELECT scalecache.reset_workload()');

# No recorded statement
is(finished(apply('CREATE INDEX ON other (a)')), 'refused', 'without recorded statements nothing is built');

# Of statements that change or lock rows the search for them is timed.
$node->safe_psql($db, 'DROP INDEX t_a_idx');
$node->safe_psql($db, 'UPDATE t SET b = b + (random() * 0)::int WHERE a = 77; DELETE FROM t WHERE a = -7;
	SELECT id FROM t WHERE a = 78 LIMIT 30 FOR UPDATE SKIP LOCKED;
	UPDATE t SET b = o.b FROM other o WHERE o.id = t.id AND t.a = -7 RETURNING t.*;
	WITH next AS (SELECT id FROM t WHERE a = 79 LIMIT 1 FOR UPDATE SKIP LOCKED) UPDATE t SET b = 1 FROM next WHERE next.id = t.id;' x 3);
my $state = 'SET scalecache.advisor_record = off; SELECT sum(b), count(*), max(xmin::text::bigint) FROM t';
my $rows = $node->safe_psql($db, $state);
$id = apply('CREATE INDEX ON t (a)');
is(finished($id), 'kept', 'an index that UPDATE and DELETE need');
is($node->safe_psql($db, "SELECT statements FROM scalecache.index_actions WHERE id = $id"), '5', 'all of them are timed');
is($node->safe_psql($db, $state), $rows, 'and change nothing');
$node->safe_psql($db, 'SELECT scalecache.reset_workload()');

# They have no parallel plans, and so are not timed with such.
my @settings = ('max_parallel_workers_per_gather = 2', 'parallel_leader_participation = off', 'parallel_setup_cost = 0',
	'parallel_tuple_cost = 0', 'min_parallel_table_scan_size = 0');
$node->safe_psql($db, q{CREATE FUNCTION alone(int) RETURNS int LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$ BEGIN
	IF (SELECT backend_type FROM pg_stat_activity WHERE pid = pg_backend_pid()) = 'parallel worker' THEN
		RAISE 'in a parallel worker';
	END IF;
	RETURN $1; END $$});
$node->safe_psql($db, "ALTER SYSTEM SET $_") foreach @settings;
$node->reload;
$node->safe_psql($db, 'UPDATE other SET b = b WHERE a = alone(80)');
my ($rc) = $node->psql($db, 'SELECT count(pad) FROM other WHERE a = alone(80)');
isnt($rc, 0, 'a SELECT is executed in parallel');
like(finished(apply('CREATE INDEX ON other (a)')), qr/^(kept|dropped)$/, 'the search of an UPDATE is not');
$node->safe_psql($db, 'ALTER SYSTEM RESET ' . s/ .*//r) foreach @settings;
$node->safe_psql($db, 'ALTER SYSTEM SET max_parallel_workers_per_gather = 0');
$node->safe_psql($db, 'DROP INDEX IF EXISTS other_a_idx; SELECT scalecache.reset_workload()');
$node->reload;

# A builder that is killed in the middle leaves nothing.
$node->safe_psql($db, "DROP INDEX t_a_idx; $query; $query");
my $writer = $node->background_psql($db);
$writer->query_safe('BEGIN; UPDATE t SET b = b WHERE id = 1');
$id = apply('CREATE INDEX ON t (a)');
$node->poll_query_until($db, "SELECT phase ~ 'waiting' FROM scalecache.index_actions WHERE id = $id");
is(indexes(), '2 1', 'an invalid index while it is built');
$node->safe_psql($db, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'scalecache index builder'});
$writer->query_safe('COMMIT');
is(finished($id), 'interrupted', 'a killed builder is noticed');
is(indexes(), '1 0', 'what it left is removed');

# A crash of the server in the middle
$writer->query_safe('BEGIN; UPDATE t SET b = b WHERE id = 1');
$id = apply('CREATE INDEX ON t (a)');
$node->poll_query_until($db, "SELECT phase ~ 'waiting' FROM scalecache.index_actions WHERE id = $id");
$node->stop('immediate');
$node->start;
is(finished($id), 'interrupted', 'a crash is noticed');
is(indexes(), '1 0', 'what it left is removed');

# A writer that stays: lock_timeout, some tries, then given up; or in time, which
# is here when the first one has failed and its invalid index is being dropped.
lock_timeout('8s');
$node->safe_psql($db, "$query; $query");
my $other = $node->background_psql($db);
$other->query_safe('BEGIN; UPDATE t SET b = b WHERE id = 1');
$id = apply('CREATE INDEX ON t (a)');
$node->poll_query_until($db, q{SELECT EXISTS (SELECT FROM pg_index WHERE indrelid = 't'::regclass AND NOT indisvalid)
	AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index)}) or die 'no attempt fails';
$other->query_safe('COMMIT');
is(finished($id), 'kept', 'it tries again until the writer is gone');
is(indexes(), '2 0', 'one valid index');
$node->safe_psql($db, 'DROP INDEX t_a_idx');

# A deadlock with a writer who wants more
lock_timeout('600s');
$node->safe_psql($db, "$query; $query");
$other->query_safe('BEGIN; UPDATE t SET b = b WHERE id = 1');
$id = apply('CREATE INDEX ON t (a)');
$node->poll_query_until($db, "SELECT phase ~ 'waiting' FROM scalecache.index_actions WHERE id = $id");
$other->query('LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE');
$other->query('ROLLBACK');
is(finished($id), 'kept', 'a deadlock is survived');
is(indexes(), '2 0', 'one valid index');
$other->quit;

# Faster in all, but one statement is slower: the rows that it looks for are
# the last ones in the index's order, which the planner cannot know.
$node->safe_psql($db, q{
	CREATE TABLE slow (id int, at int, odd boolean, pad text);
	INSERT INTO slow SELECT i, (i::bigint * 7919) % 100003, (i::bigint * 7919) % 100003 > 99000, repeat('x', 200)
		FROM generate_series(1, 100000) i;
	VACUUM ANALYZE slow;
	SELECT scalecache.reset_workload();
});
$node->safe_psql($db, 'SELECT count(pad) FROM slow WHERE at = 4711;' x 300);
$node->safe_psql($db, 'SELECT id FROM slow WHERE odd ORDER BY at LIMIT 1;' x 2);
$id = apply('CREATE INDEX ON slow (at)');
is(finished($id), 'dropped', 'an index that slows a statement down is dropped');
is( $node->safe_psql($db, "SELECT after_ms < before_ms, worst_ratio > 1.5, verdict ~ 'a statement takes [0-9.]+ times as long'
	FROM scalecache.index_actions WHERE id = $id"), 't|t|t', 'though all of them together became faster');
is($node->safe_psql($db, q{SELECT count(*) FROM pg_index WHERE indrelid = 'slow'::regclass}), '0', 'nothing is left of it');

# Partitioned tables: each partition's index is built concurrently.
$node->safe_psql($db, q{
	CREATE SCHEMA "a b";
	CREATE TABLE parts (id int, a int, pad text) PARTITION BY RANGE (id);
	CREATE TABLE "a b"."part 1" PARTITION OF parts FOR VALUES FROM (0) TO (30000);
	CREATE TABLE part_2 (pad text, gone int, a int, id int);
	ALTER TABLE part_2 DROP COLUMN gone;
	ALTER TABLE parts ATTACH PARTITION part_2 FOR VALUES FROM (30000) TO (60000);
	CREATE TABLE part_3 PARTITION OF parts DEFAULT PARTITION BY LIST (a);
	CREATE TABLE part_3_1 PARTITION OF part_3 DEFAULT;
	INSERT INTO parts SELECT i, i % 5000, repeat('x', 200) FROM generate_series(1, 90000) i;
	ANALYZE parts;
	SELECT scalecache.reset_workload();
});
my $parts_query = 'SELECT count(pad) FROM parts WHERE a = 77 AND id > 10';
my $parts_indexes = q{SELECT count(*) || ' ' || count(*) FILTER (WHERE NOT indisvalid) FROM pg_index
	WHERE indrelid IN (SELECT relid FROM pg_partition_tree('parts'))};
$node->safe_psql($db, "$parts_query;" x 5);
is(finished(apply('CREATE INDEX ON parts (id) WHERE a < 0')), 'dropped', 'of a partitioned table: dropped again');
is($node->safe_psql($db, $parts_indexes), '0 0', 'nothing is left of it');
is(finished(apply('CREATE INDEX ON parts (a) WHERE id > 10')), 'kept', 'of a partitioned table: kept');
is($node->safe_psql($db, $parts_indexes), '5 0', 'all parts are there, and valid');
is($node->safe_psql($db, q{SELECT count(*) FROM pg_partition_tree('parts_a_idx')}), '5', 'and belong together');
$node->safe_psql($db, 'DROP INDEX parts_a_idx');

# The builder is killed when some parts are there and one is half built.
my $holder = $node->background_psql($db);
$holder->query_safe('BEGIN; UPDATE part_2 SET a = a WHERE id = 30000');
$id = apply('CREATE INDEX ON parts (a)');
$node->poll_query_until($db, q{SELECT EXISTS (SELECT FROM pg_index WHERE indrelid = 'part_2'::regclass AND NOT indisvalid)});
is($node->safe_psql($db, q{SELECT count(*) FROM pg_index WHERE indrelid = '"a b"."part 1"'::regclass AND indisvalid}), '1',
	'an unfinished build of a partitioned index');
$node->safe_psql($db, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'scalecache index builder'});
$node->poll_query_until($db, q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'scalecache index builder')});
$holder->query_safe('COMMIT');
is(finished($id), 'interrupted', 'a killed builder is noticed');
is($node->safe_psql($db, $parts_indexes), '0 0', 'no part of it is left');

# While it waits for a lock that others would wait behind, nobody waits for long.
$holder->query_safe('BEGIN; SELECT count(*) FROM part_2 WHERE id = 30000');
$id = apply('CREATE INDEX ON parts (id) WHERE a < 0');
$node->poll_query_until($db, q{SELECT EXISTS (SELECT FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted
	AND relation = 'part_2'::regclass)}) or die 'nothing waits for part_2';
is($node->safe_psql($db, "SET statement_timeout = '300s'; SELECT count(*) FROM parts WHERE id = 30000"), '1',
	'others read while an index of a partitioned table cannot be dropped');
is($node->safe_psql($db, "SELECT state FROM scalecache.index_actions WHERE id = $id"), 'cleaning', 'which is to be');
$holder->query_safe('COMMIT');
is(finished($id), 'dropped', 'it is dropped when the lock is free');
is($node->safe_psql($db, $parts_indexes), '0 0', 'with all of its parts');
$holder->quit;

# A rolled-back request is none.
$node->safe_psql($db, q{BEGIN; SELECT scalecache.apply_index('CREATE INDEX ON t (b)'); ROLLBACK});
is($node->safe_psql($db, 'SELECT count(*) FROM scalecache.index_actions WHERE finished_at IS NULL'), '0',
	'a rolled-back request is none');

# Refusals
for my $case (
	[ 'SELECT 1', qr/not a CREATE INDEX/ ],
	[ 'CREATE INDEX ON nowhere (a)', qr/does not exist/ ],
	[ 'CREATE UNIQUE INDEX ON t (id, a)', qr/does not build unique/ ],
	[ 'CREATE INDEX ON far (id)', qr/is a foreign table/ ],
	[ 'CREATE INDEX t_a_idx ON t (b)', qr/already exists/ ],
	[ 'CREATE INDEX ON t (b) TABLESPACE pg_default', qr/TABLESPACE/ ])
{
	my ($ddl, $why) = @$case;
	my ($ret, $out, $err) = $node->psql($db, "SELECT scalecache.apply_index('$ddl')");
	like($err, $why, "refused: $ddl");
}
$node->safe_psql($db, 'CREATE ROLE nobody; GRANT SELECT ON t TO nobody');
my ($ret, $out, $err) = $node->psql($db, q{SET ROLE nobody; SELECT scalecache.apply_index('CREATE INDEX ON t (b)')});
like($err, qr/must be owner/, 'only the owner may');
is($node->safe_psql($db, 'SET ROLE nobody; SELECT count(*) FROM scalecache.index_actions'), '0',
	'others do not see the actions');

# Automatic: off by default, one index after the other when on.
# The best suggestion is of a table that has a foreign partition, which cannot
# have a part of the index; the next one is taken.
$node->safe_psql($db, q{
	CREATE TABLE mixed (id int, a int, pad text) PARTITION BY RANGE (id);
	CREATE TABLE mixed_1 PARTITION OF mixed FOR VALUES FROM (0) TO (200000);
	CREATE FOREIGN TABLE mixed_2 PARTITION OF mixed FOR VALUES FROM (200000) TO (300000) SERVER nowhere;
	INSERT INTO mixed SELECT i, i % 5000, repeat('x', 200) FROM generate_series(1, 100000) i;
	ANALYZE mixed_1;
});
$node->safe_psql($db, "DROP INDEX t_a_idx; SELECT scalecache.reset_workload()");
$node->safe_psql($db, "$query;" x 5);
$node->safe_psql($db, 'SELECT count(pad) FROM mixed WHERE a = 77 AND id < 200000;' x 20);
is($node->safe_psql($db, 'SHOW scalecache.auto_index'), 'off', 'nothing is automatic by default');
my $last = $node->safe_psql($db, 'SELECT max(id) FROM scalecache.index_actions');
$node->safe_psql($db, q{ALTER SYSTEM SET scalecache.auto_index = on});
$node->safe_psql($db, q{ALTER SYSTEM SET scalecache.auto_index_interval = '1s'});
$node->reload;
ok( $node->poll_query_until($db, qq{SELECT EXISTS (SELECT FROM scalecache.index_actions
	WHERE state = 'kept' AND relation = 't'::regclass AND id > $last)}),
	'an index is built automatically');
like($node->safe_psql($db, "EXPLAIN $query"), qr/t_a/, 'and used');
ok($node->log_contains('could not apply a suggested index: partition "mixed_2" of "mixed" is a foreign table'),
	'though another one, which cannot be, comes first');

$node->stop;
done_testing();
