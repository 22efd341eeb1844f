# apply_index: built in the background, verified, kept or dropped again.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use ScaleCache;
use Test::More;

my $node = new_server('apply', conf => q{
shared_preload_libraries = 'scalecache'
scalecache.advisor_lock_timeout = 1s
autovacuum = off
});
my $db = 'postgres';

$node->safe_psql($db, q{
	CREATE EXTENSION scalecache;
	CREATE TABLE t (id int PRIMARY KEY, a int, b int, pad text);
	INSERT INTO t SELECT i, i % 5000, i % 3, repeat('x', 200) FROM generate_series(1, 100000) i;
	CREATE TABLE other AS SELECT * FROM t LIMIT 1000;
	CREATE TABLE parts (id int) PARTITION BY RANGE (id);
	ANALYZE t;
	ALTER SYSTEM SET max_parallel_workers_per_gather = 0;
	SELECT pg_reload_conf();
	SELECT scalecache.reset_workload();
});
my $query = 'SELECT count(pad) FROM t WHERE a = 77';
$node->safe_psql($db, "$query;" x 5);

sub apply
{
	my ($ddl, %opt) = @_;
	return $node->safe_psql($db, "SELECT scalecache.apply_index(\$\$$ddl\$\$)");
}

sub finished
{
	my ($id) = @_;
	$node->poll_query_until($db,
		"SELECT finished_at IS NOT NULL FROM scalecache.index_actions WHERE id = $id")
	  or die "action $id does not end";
	return $node->safe_psql($db, "SELECT state FROM scalecache.index_actions WHERE id = $id");
}

sub indexes
{
	return $node->safe_psql($db, q{SELECT count(*) || ' ' || count(*) FILTER (WHERE NOT indisvalid)
		FROM pg_index WHERE indrelid = 't'::regclass});
}

# Until the first attempt has failed: its invalid index is being dropped.
sub sleep_until_tried
{
	my ($id) = @_;

	$node->poll_query_until($db, q{SELECT EXISTS (SELECT FROM pg_stat_activity
		WHERE backend_type = 'scalecache index builder' AND query ~ '^CREATE')
		AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index)});
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

# A writer that stays: lock_timeout, some tries, then given up; or in time.
$node->safe_psql($db, "$query; $query");
my $other = $node->background_psql($db);
$other->query_safe('BEGIN; UPDATE t SET b = b WHERE id = 1');
$id = apply('CREATE INDEX ON t (a)');
$node->poll_query_until($db, "SELECT phase ~ 'waiting' FROM scalecache.index_actions WHERE id = $id");
sleep_until_tried($id);
$other->query_safe('COMMIT');
is(finished($id), 'kept', 'it tries again until the writer is gone');
is(indexes(), '2 0', 'one valid index');
$node->safe_psql($db, 'DROP INDEX t_a_idx');

# A deadlock with a writer who wants more
$node->safe_psql($db, "ALTER SYSTEM SET scalecache.advisor_lock_timeout = '60s'");
$node->reload;
$node->safe_psql($db, "$query; $query");
$other->query_safe('BEGIN; UPDATE t SET b = b WHERE id = 1');
$id = apply('CREATE INDEX ON t (a)');
$node->poll_query_until($db, "SELECT phase ~ 'waiting' FROM scalecache.index_actions WHERE id = $id");
$other->query('LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE');
$other->query('ROLLBACK');
is(finished($id), 'kept', 'a deadlock is survived');
is(indexes(), '2 0', 'one valid index');
$other->quit;

# A rolled-back request is none.
$node->safe_psql($db, q{BEGIN; SELECT scalecache.apply_index('CREATE INDEX ON t (b)'); ROLLBACK});
is($node->safe_psql($db, 'SELECT count(*) FROM scalecache.index_actions WHERE finished_at IS NULL'), '0',
	'a rolled-back request is none');

# Refusals
for my $case (
	[ 'SELECT 1', qr/not a CREATE INDEX/ ],
	[ 'CREATE INDEX ON nowhere (a)', qr/does not exist/ ],
	[ 'CREATE UNIQUE INDEX ON t (id, a)', qr/does not build unique/ ],
	[ 'CREATE INDEX ON parts (id)', qr/partitioned/ ],
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
$node->safe_psql($db, "DROP INDEX t_a_idx; SELECT scalecache.reset_workload()");
$node->safe_psql($db, "$query;" x 5);
is($node->safe_psql($db, 'SHOW scalecache.auto_index'), 'off', 'nothing is automatic by default');
my $last = $node->safe_psql($db, 'SELECT max(id) FROM scalecache.index_actions');
$node->safe_psql($db, q{ALTER SYSTEM SET scalecache.auto_index = on});
$node->safe_psql($db, q{ALTER SYSTEM SET scalecache.auto_index_interval = '1s'});
$node->reload;
ok( $node->poll_query_until($db, qq{SELECT EXISTS (SELECT FROM scalecache.index_actions
	WHERE state = 'kept' AND relation = 't'::regclass AND id > $last)}),
	'an index is built automatically');
like($node->safe_psql($db, "EXPLAIN $query"), qr/t_a/, 'and used');

$node->stop;
done_testing();
