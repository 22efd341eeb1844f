# scalecache.auto_index over many turns: within the space it is given, one index
# after the other, and not what somebody has dropped.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use ScaleCache;
use Test::More;

my $node = new_server('auto', conf => q{
shared_preload_libraries = 'scalecache'
scalecache.advisor_max_slowdown = 100
scalecache.auto_index_interval = '1s'
scalecache.auto_index_max_size = '5MB'
max_parallel_workers_per_gather = 0
autovacuum = off
});
my $db = 'postgres';

# Of three indexes of 2.2 MB two have room, then a small one.
$node->safe_psql($db, q{
	SET scalecache.advisor_record = off;
	CREATE EXTENSION scalecache;
	CREATE TABLE big (id int PRIMARY KEY, a int, b int, c int, pad text);
	INSERT INTO big SELECT i, i * 7919 % 100003, i * 7907 % 100003, i * 7901 % 100003, repeat('x', 200) FROM generate_series(1, 100000) i;
	CREATE TABLE small (id int PRIMARY KEY, d int, pad text);
	INSERT INTO small SELECT i, i * 7919 % 5003, repeat('x', 200) FROM generate_series(1, 5000) i;
	CREATE TABLE useless (id int PRIMARY KEY, flag boolean, pad text);
	VACUUM ANALYZE big, small;
	SELECT scalecache.reset_workload();
});
$node->safe_psql($db, "SELECT count(pad) FROM big WHERE a = $_;" x 4 . "SELECT count(pad) FROM big WHERE b = $_;" x 3
	. "SELECT count(pad) FROM big WHERE c = $_;" x 2 . "SELECT count(pad) FROM small WHERE d = $_;" x 4) foreach 1 .. 10;
$node->safe_psql($db, 'ALTER SYSTEM SET scalecache.auto_index = on; ');
$node->reload;

# When so many have been kept, which are there?
sub built
{
	my ($kept) = @_;
	$node->poll_query_until($db, qq{SELECT count(*) >= $kept FROM scalecache.index_actions WHERE state = 'kept'})
	  or die "no $kept indexes are kept";
	return $node->safe_psql($db, q{SELECT string_agg(indexrelid::regclass::text, ' ' ORDER BY indexrelid::regclass::text) FROM pg_index
		WHERE indrelid IN ('big'::regclass, 'small'::regclass) AND NOT indisprimary});
}

is(built(3), 'big_a_idx big_b_idx small_d_idx', 'indexes are built as far as there is room');
is($node->safe_psql($db, q{SELECT string_agg(relation::text, ' ' ORDER BY id) FROM scalecache.index_actions}), 'big big small',
	'the best first');

# What is dropped by hand makes room for something else, and is not built again.
$node->safe_psql($db, 'DROP INDEX big_a_idx');
is(built(4), 'big_b_idx big_c_idx small_d_idx', 'another one takes the place of what was dropped');
$node->safe_psql($db, 'DROP INDEX big_b_idx, small_d_idx; CREATE TABLE third AS TABLE small; VACUUM ANALYZE third');
$node->safe_psql($db, 'SELECT count(pad) FROM third WHERE d = 7;' x 10);
built(5);
is(built(5), 'big_c_idx', 'what was dropped stays so');
is($node->safe_psql($db, q{SELECT relation FROM scalecache.index_actions ORDER BY id DESC LIMIT 1}), 'third', 'though others are still built');
is($node->safe_psql($db, 'SELECT count(*), count(*) FILTER (WHERE state <> $$kept$$) FROM scalecache.index_actions'), '5|0', 'and nothing else');

# By hand others than the automatic ones have their own space.
my $id = $node->safe_psql($db, q{SELECT scalecache.apply_index('CREATE INDEX big_a_by_hand ON big (a)')});
is(built(6), 'big_a_by_hand big_c_idx', 'whoever wants it can have it');
is($node->safe_psql($db, "SELECT string_agg(DISTINCT automatic::text, ' ') FILTER (WHERE id < $id), bool_or(automatic) FILTER (WHERE id = $id)
	FROM scalecache.index_action"), 'true|f', 'and it is known who did what');

# What has been interrupted again and again may be what ends the builder, and is left out.
$node->safe_psql($db, q{
	SET scalecache.advisor_record = off;
	CREATE TABLE ends_it AS TABLE small;
	CREATE TABLE harmless AS TABLE small;
	VACUUM ANALYZE ends_it, harmless;
	INSERT INTO scalecache.index_action (ddl, advice, definition, relid, index_name, expressions, requested_by, automatic, state, finished_at)
		SELECT ddl, replace(advice, 'third', 'ends_it'), definition, 'ends_it'::regclass, index_name, false, requested_by, true, 'interrupted', now()
		FROM scalecache.index_action, generate_series(1, 3) WHERE relid = 'third'::regclass});
$node->safe_psql($db, 'SELECT count(pad) FROM ends_it WHERE d = 7;' x 20 . 'SELECT count(pad) FROM harmless WHERE d = 7;' x 10);
ok($node->poll_query_until($db, q{SELECT EXISTS (SELECT FROM scalecache.index_actions WHERE state = 'kept' AND relation = 'harmless'::regclass)}),
	'another index is built than one that was interrupted three times');
is($node->safe_psql($db, q{SELECT count(*) FROM scalecache.index_actions WHERE relation = 'ends_it'::regclass}), '3', 'which is not tried again');

# Off again
$node->safe_psql($db, 'ALTER SYSTEM RESET scalecache.auto_index');
$node->reload;
$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|could not look for an index/, 'without an error');
done_testing();
