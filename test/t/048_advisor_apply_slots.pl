# apply_index when there is no slot for a background worker, and when the server
# is short of something else than these.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use IndexActions;
use ScaleCache;
use Test::More;

my $node = new_server('slots', conf => q{
shared_preload_libraries = 'scalecache'
max_worker_processes = 4
max_parallel_workers_per_gather = 0
autovacuum = off
log_min_messages = log
});
my $db = 'postgres';
act_on($node, $db);
$node->safe_psql($db, q{
	SET scalecache.advisor_record = off;
	CREATE EXTENSION scalecache;
	CREATE TABLE t (id int, a int, pad text);
	INSERT INTO t SELECT i, i % 5000, repeat('x', 200) FROM generate_series(1, 50000) i;
	ANALYZE t;
	CREATE FUNCTION fails(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
		IF (SELECT backend_type FROM pg_stat_activity WHERE pid = pg_backend_pid()) ~ 'builder' AND a = 4999
			AND NOT current_setting('transaction_read_only')::boolean THEN
			RAISE disk_full USING MESSAGE = 'could not extend file: No space left on device';
		END IF;
		RETURN a; END $$;
	SELECT scalecache.reset_workload();
});
$node->safe_psql($db, 'SELECT count(pad) FROM t WHERE a = 77;' x 5);
$node->poll_query_until($db, q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'scalecache worker')})
  or die 'no worker';

# All slots are taken: by parallel workers that sleep.
my @sleepers = map { $node->background_psql($db) } 1 .. 4;
my $sleep = 'SELECT pg_sleep(3600)';
$_->query_until(qr/begun/, "\\echo begun\nSET max_parallel_workers_per_gather = 2; SET force_parallel_mode = on; $sleep;\n") foreach @sleepers;
my $asleep = "FROM pg_stat_activity WHERE query ~ 'pg_sleep' AND pid <> pg_backend_pid() AND backend_type =";
$node->poll_query_until($db, "SELECT count(*) = 4 $asleep 'client backend'") or die 'they do not sleep';
my ($ret, $out, $err) = $node->psql($db, q{SELECT scalecache.apply_index('CREATE INDEX ON t (a)')});
like($err, qr/no background worker is free now/, 'no slot is free');
my $id = $out;
is($node->safe_psql($db, "SELECT state FROM scalecache.index_actions WHERE id = $id"), 'queued', 'what was asked for is queued');
$node->safe_psql($db, "SELECT pg_cancel_backend(pid) $asleep 'client backend'");
is(finished($id), 'kept', 'and done when a slot is free');

# No space
$node->safe_psql($db, 'SELECT count(pad) FROM t WHERE fails(a) = 77 AND id < 10');
$id = $node->safe_psql($db, q{SELECT scalecache.apply_index('CREATE INDEX ON t (fails(a))')});
is(finished($id), 'failed', 'there is no space left');
is($node->safe_psql($db, "SELECT verdict FROM scalecache.index_actions WHERE id = $id"),
	'could not extend file: No space left on device', 'and it says so');
is($node->safe_psql($db, q{SELECT string_agg(indexrelid::regclass::text, ' ') FROM pg_index WHERE indrelid = 't'::regclass}),
	't_a_idx', 'nothing invalid is left');
eval { $_->quit } foreach @sleepers;
$node->stop;
done_testing();
