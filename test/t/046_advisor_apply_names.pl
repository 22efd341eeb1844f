# apply_index and names: what an action built is known by number, whatever it
# and other indexes are called meanwhile.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use IndexActions qw(:DEFAULT indexes);
use ScaleCache;
use Test::More;

my $node = new_server('names', conf => q{
shared_preload_libraries = 'scalecache'
scalecache.advisor_lock_timeout = 60s
scalecache.advisor_max_slowdown = 100
max_parallel_workers_per_gather = 0
autovacuum = off
});
my $db = 'postgres';
act_on($node, $db);
$node->safe_psql($db, q{
	CREATE EXTENSION scalecache;
	CREATE SCHEMA aside;
	CREATE TABLE aside.other (x int);
	CREATE TABLE gate (x int);
	CREATE TABLE whole (id int, a int, b int, pad text) PARTITION BY RANGE (id);
	CREATE TABLE whole_1 PARTITION OF whole FOR VALUES FROM (0) TO (50000);
});

# A table, and statements of it that an index on "a" helps.
sub make_table
{
	my ($name, @more) = @_;
	$node->safe_psql($db, qq{
		SET scalecache.advisor_record = off;
		CREATE TABLE $name (id int, a int, b int, pad text);
		INSERT INTO $name SELECT i, i % 5000, i % 3, repeat('x', 200) FROM generate_series(50000, 99999) i;
		ANALYZE $name;
		SELECT scalecache.reset_workload();
	});
	$node->safe_psql($db, "SELECT count(pad) FROM $name WHERE a = 77;" x 5);
	$node->safe_psql($db, $_) foreach @more;
	return;
}

sub end_builder
{
	my $builders = q{FROM pg_stat_activity WHERE backend_type = 'scalecache index builder'};
	$node->safe_psql($db, "SELECT pg_terminate_backend(pid) $builders");
	$node->poll_query_until($db, "SELECT count(*) = 0 $builders")
	  or die 'the builder does not end';
	return;
}

# A transaction that an index of a table waits for.
my $writer = $node->background_psql($db);

sub building
{
	my ($table, $ddl) = @_;
	$writer->query_safe("BEGIN; UPDATE $table SET a = a WHERE id = 50001");
	my $id = apply($ddl);
	$node->poll_query_until($db, "SELECT phase ~ 'waiting' FROM scalecache.index_actions WHERE id = $id")
	  or die "action $id does not wait";
	return $id;
}

# In another schema there may be anything of that name: before anything was
# built, when it is looked for, and when what was built is dropped.
make_table('t1');
my $next = $node->safe_psql($db, 'SELECT coalesce(max(id), 0) + 1 FROM scalecache.index_action');
$node->safe_psql($db, "CREATE INDEX scalecache_$next ON aside.other (x)");
my $id = apply('CREATE INDEX ON t1 (a)');
is($id, $next, 'an index in another schema is called like what is built');
is(finished($id), 'kept', 'that does not matter');
is(indexes('t1'), 't1_a_idx', 'what was built is kept');
is(indexes('aside.other'), "aside.scalecache_$id", 'and the other one is what it was');

make_table('t2');
$id = building('t2', 'CREATE INDEX ON t2 (a)');
$node->safe_psql($db, "CREATE INDEX scalecache_$id ON aside.other (x)");
end_builder();
$writer->query_safe('COMMIT');
is(finished($id), 'interrupted', 'the builder is killed while there is another index of that name');
is(indexes('t2'), 'none', 'what it built is dropped');
is(indexes('aside.other'), "aside.scalecache_$next, aside.scalecache_$id", 'and nothing else');

# Somebody gives it another name while it is built.
make_table('t3');
$id = building('t3', 'CREATE INDEX ON t3 (a)');
$node->safe_psql($db, "ALTER INDEX scalecache_$id RENAME TO renamed");
$writer->query_safe('COMMIT');
is(finished($id), 'kept', 'an index is renamed while it is built');
is(indexes('t3'), 'renamed', 'and keeps that name');
is($node->safe_psql($db, "SELECT index FROM scalecache.index_actions WHERE id = $id"), 'renamed', 'which the view shows');

make_table('t4');
$id = building('t4', 'CREATE INDEX ON t4 (a)');
$node->safe_psql($db, "ALTER INDEX scalecache_$id RENAME TO renamed_too; CREATE INDEX scalecache_$id ON gate (x)");
end_builder();
$writer->query_safe('COMMIT');
is(finished($id), 'interrupted', 'the builder of a renamed index is killed');
is(indexes('t4'), 'none', 'nothing invalid is left');
is(indexes('gate'), "scalecache_$id", 'nor is an index dropped that now has its name');
$node->safe_psql($db, "DROP INDEX scalecache_$id");

# One that has become a part of somebody's partitioned index is his.
make_table('t5', 'CREATE INDEX whole_b ON whole (b)');
$id = building('t5', 'CREATE INDEX ON t5 (b)');
$node->safe_psql($db, q{CREATE FUNCTION keep_it() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
	CREATE EVENT TRIGGER keep_it ON ddl_command_start WHEN TAG IN ('DROP INDEX') EXECUTE FUNCTION keep_it()});
$writer->query_safe('COMMIT');
$node->poll_query_until($db, "SELECT state = 'cleaning' FROM scalecache.index_action WHERE id = $id")
  or die "action $id is not to be undone";
$node->safe_psql($db, 'ALTER TABLE whole ATTACH PARTITION t5 FOR VALUES FROM (50000) TO (100000)');
$node->safe_psql($db, 'DROP EVENT TRIGGER keep_it');
is(finished($id), 'dropped', 'an index that was to be dropped becomes part of another one');
is(indexes('t5'), "scalecache_$id", 'which has it now');
my $theirs = $id;

# REINDEX CONCURRENTLY leaves another index by that name.
make_table('t6');
$node->safe_psql($db, q{CREATE EVENT TRIGGER keep_it ON ddl_command_start WHEN TAG IN ('DROP INDEX') EXECUTE FUNCTION keep_it()});
$id = apply('CREATE INDEX ON t6 (b)');
$node->poll_query_until($db, "SELECT state = 'cleaning' FROM scalecache.index_action WHERE id = $id")
  or die "action $id is not to be undone";
$node->safe_psql($db, "REINDEX INDEX CONCURRENTLY scalecache_$id");
$node->safe_psql($db, 'DROP EVENT TRIGGER keep_it');
is(finished($id), 'dropped', 'an index that was to be dropped is rebuilt');
is(indexes('t6'), 'none', 'and dropped nevertheless');

# So does a change of a column's type.
make_table('t7');
$node->safe_psql($db, q{CREATE EVENT TRIGGER keep_it ON ddl_command_start WHEN TAG IN ('DROP INDEX') EXECUTE FUNCTION keep_it()});
$id = apply('CREATE INDEX ON t7 (b)');
$node->poll_query_until($db, "SELECT state = 'cleaning' FROM scalecache.index_action WHERE id = $id")
  or die "action $id is not to be undone";
$node->safe_psql($db, "ALTER INDEX scalecache_$id RENAME TO t7_renamed; ALTER TABLE t7 ALTER b TYPE bigint");
is(indexes('t7'), 't7_renamed', 'an index that was to be dropped is made anew');
$node->safe_psql($db, 'DROP EVENT TRIGGER keep_it');
is(finished($id), 'dropped', 'for a column of another type');
is(indexes('t7'), 'none', 'and dropped nevertheless');

# But one that somebody makes in its place is his.
make_table('t8');
$node->safe_psql($db, q{CREATE FUNCTION keep_it_here() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
		IF EXISTS (SELECT FROM pg_stat_activity WHERE pid = pg_backend_pid() AND backend_type <> 'client backend') THEN RAISE 'not now'; END IF; END $$;
	CREATE EVENT TRIGGER keep_it ON ddl_command_start WHEN TAG IN ('DROP INDEX') EXECUTE FUNCTION keep_it_here()});
$id = apply('CREATE INDEX ON t8 (b)');
$node->poll_query_until($db, "SELECT state = 'cleaning' FROM scalecache.index_action WHERE id = $id")
  or die "action $id is not to be undone";
$node->safe_psql($db, "DROP INDEX scalecache_$id; CREATE INDEX scalecache_$id ON t8 (id); DROP EVENT TRIGGER keep_it");
is(finished($id), 'dropped', 'an index that was to be dropped is so by somebody else');
is(indexes('t8'), "scalecache_$id", 'who has another one of that name');
is($node->safe_psql($db, "SELECT count(*) FROM pg_description WHERE description ~ 'made by scalecache'"), '0', 'comments are gone, too');

# Nor is what is copied from it, with its comment, or has been given that.
make_table('t9');
$node->safe_psql($db, q{CREATE EVENT TRIGGER keep_it ON ddl_command_start WHEN TAG IN ('DROP INDEX') EXECUTE FUNCTION keep_it_here()});
$id = apply('CREATE INDEX ON t9 (b)');
$node->poll_query_until($db, "SELECT state = 'cleaning' FROM scalecache.index_action WHERE id = $id")
  or die "action $id is not to be undone";
$node->safe_psql($db, qq{CREATE TABLE t9_copy (LIKE t9 INCLUDING ALL); CREATE TABLE t9_key (a int PRIMARY KEY);
	DO \$\$ DECLARE mark text = obj_description('scalecache_$id'::regclass, 'pg_class');
	BEGIN
		EXECUTE format('COMMENT ON TABLE t9_copy IS %L', mark);
		EXECUTE format('COMMENT ON INDEX t9_key_pkey IS %L', regexp_replace(mark, 'on table \\d+', 'on table ' || 't9_key'::regclass::oid));
	END \$\$;
	DROP EVENT TRIGGER keep_it});
is(finished($id), 'dropped', 'an index that was to be dropped has been copied');
is(indexes('t9'), 'none', 'it is dropped');
is(indexes('t9_copy'), 't9_copy_b_idx', 'but not the copy');
is(indexes('t9_key'), 't9_key_pkey', 'nor what cannot be an index of an action');
$node->safe_psql($db, 'DROP TABLE t9_copy, t9_key');

# Of a partitioned table: a part is renamed, another partition is detached.
$node->safe_psql($db, q{SELECT scalecache.reset_workload();
	CREATE TABLE whole_2 PARTITION OF whole FOR VALUES FROM (100000) TO (150000);
	INSERT INTO whole SELECT i, i % 5000, i % 3, repeat('x', 200) FROM generate_series(0, 149999) i;
	ANALYZE whole});
$node->safe_psql($db, 'SELECT count(pad) FROM whole WHERE a = 77;' x 5);
$writer->query_safe("BEGIN; UPDATE whole_2 SET a = a WHERE id = 100001");
$id = apply('CREATE INDEX ON whole (a)');
my $built = q{FROM pg_index x JOIN scalecache.index_action a ON x.indexrelid = ANY (a.built) WHERE a.id =};
$node->poll_query_until($db, "SELECT count(*) = 4 $built $id") or die 'the last part is not begun';
$node->safe_psql($db, "ALTER INDEX scalecache_$id RENAME TO whole_renamed;
	DO \$\$ BEGIN EXECUTE (SELECT format('ALTER INDEX %s RENAME TO last_part', indexrelid::regclass) $built $id AND indrelid = 'whole_2'::regclass); END \$\$");
end_builder();
$writer->query_safe('COMMIT');
$node->safe_psql($db, 'ALTER TABLE whole DETACH PARTITION t5');
is(finished($id), 'interrupted', 'the builder of a partitioned index is killed');
is($node->safe_psql($db, "SELECT count(*) $built $id"), '0', 'its parts are gone');
is(indexes('t5'), "scalecache_$theirs", 'also of a table that was detached with it');

# Partitions that go while the index is built are no reason to give up.
$node->safe_psql($db, 'CREATE TABLE whole_3 PARTITION OF whole FOR VALUES FROM (150000) TO (150001)');
$writer->query_safe("BEGIN; LOCK TABLE whole_2 IN ROW EXCLUSIVE MODE");
$id = apply('CREATE INDEX ON whole (a)');
$node->poll_query_until($db, "SELECT count(*) = 3 $built $id") or die 'the last part but one is not begun';
$node->safe_psql($db, 'DROP TABLE whole_3');
$writer->query_safe('COMMIT');
is(finished($id), 'kept', 'a partition is dropped before it is its turn');
is(indexes('whole'), 'whole_b, whole_a_idx', 'the others have the index');

# Nor is one that goes when it has its part of the index: that is as good as any.
$node->safe_psql($db, 'DROP INDEX whole_a_idx');
$writer->query_safe("BEGIN; LOCK TABLE whole_2 IN ROW EXCLUSIVE MODE");
$id = apply('CREATE INDEX ON whole (a)');
$node->poll_query_until($db, "SELECT count(*) = 3 $built $id") or die 'the last part is not begun';
$node->safe_psql($db, 'ALTER TABLE whole DETACH PARTITION whole_1');
$writer->query_safe('COMMIT');
is(finished($id), 'kept', 'a partition is detached when it has had its turn');
like(indexes('whole_1'), qr/^(?!.*scalecache).*\bwhole_a_idx_/, 'it keeps its index, with a name like any');
is($node->safe_psql($db, "SELECT count(*) FROM pg_description WHERE description ~ 'made by scalecache'"), '0', 'and without a comment');
$writer->quit;
$node->stop;
done_testing();
