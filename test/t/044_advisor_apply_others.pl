# apply_index while others do what they may: change tables, take names, drop
# what is being looked at; and what the builder may do in whose name.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use ScaleCache;
use Test::More;

my $node = new_server('others', conf => q{
shared_preload_libraries = 'scalecache'
scalecache.advisor_lock_timeout = 60s
max_parallel_workers_per_gather = 0
autovacuum = off
});
my $db = 'postgres';

$node->safe_psql($db, q{
	CREATE EXTENSION scalecache;
	CREATE TABLE gate (x int);
	INSERT INTO gate VALUES (1);
});

# A table, and statements of it that an index on "a" helps.
sub make_table
{
	my ($name, @more) = @_;
	$node->safe_psql($db, qq{
		SET scalecache.advisor_record = off;
		CREATE TABLE $name (id int, a int, b int, c text, pad text);
		INSERT INTO $name SELECT i, i % 5000, i % 3, 'text ' || i, repeat('x', 200) FROM generate_series(1, 50000) i;
		ANALYZE $name;
		SELECT scalecache.reset_workload();
	});
	$node->safe_psql($db, "SELECT count(pad) FROM $name WHERE a = 77;" x 5);
	$node->safe_psql($db, $_) foreach @more;
}

sub apply
{
	my ($ddl) = @_;
	return $node->safe_psql($db, "SELECT scalecache.apply_index(\$\$$ddl\$\$)");
}

sub finished
{
	my ($id) = @_;
	$node->poll_query_until($db,
		"SELECT finished_at IS NOT NULL FROM scalecache.index_action WHERE id = $id")
	  or die "action $id does not end";
	return $node->safe_psql($db, "SELECT state FROM scalecache.index_action WHERE id = $id");
}

sub verdict
{
	my ($id) = @_;
	return $node->safe_psql($db, "SELECT verdict FROM scalecache.index_action WHERE id = $id");
}

sub indexes
{
	my ($table) = @_;
	return $node->safe_psql($db, qq{SELECT coalesce(string_agg(indexrelid::regclass || CASE WHEN indisvalid THEN '' ELSE ' invalid' END,
		', ' ORDER BY 1), 'none') FROM pg_index WHERE indrelid = '$table'::regclass});
}

# A transaction that an index of the table waits for.
sub hold
{
	my ($table) = @_;
	my $session = $node->background_psql($db);
	$session->query_safe("BEGIN; UPDATE $table SET a = a WHERE id = 1");
	return $session;
}

sub building
{
	my ($id) = @_;
	$node->poll_query_until($db, "SELECT phase ~ 'waiting' FROM scalecache.index_actions WHERE id = $id")
	  or die "action $id does not wait";
}

# The types of columns change between the two timings: the statement is
# parsed again, not planned from what it was.
make_table('retyped', 'SELECT c FROM gate CROSS JOIN retyped ORDER BY c LIMIT 3');
my $writer = hold('retyped');
my $id = apply('CREATE INDEX ON retyped (a)');
building($id);
my $keeper = $node->background_psql($db);
$keeper->query_safe('BEGIN; LOCK TABLE gate');
$writer->query_safe('COMMIT');
$node->poll_query_until($db, q{SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'gate'::regclass AND NOT granted)});
$node->safe_psql($db, 'ALTER TABLE retyped ALTER c TYPE int USING 5');
$keeper->query_safe('COMMIT');
like(finished($id), qr/^(kept|dropped)$/, 'the type of a column changes between two timings');

$_->quit foreach $writer, $keeper;
$node->stop;
done_testing();
