# suggest_index_drops() in a database of more indexes than the server has room
# for locks, and since when it says that scans are counted.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use ScaleCache;
use Test::More;

my $node = new_server('drops', conf => q{
shared_preload_libraries = 'scalecache'
max_connections = 10
max_wal_senders = 0
max_worker_processes = 4
max_locks_per_transaction = 10
autovacuum = off
});
my $db = 'postgres';
$node->safe_psql($db, q{
	CREATE EXTENSION scalecache;
	DO $$ BEGIN
		FOR i IN 1 .. 1200 LOOP
			EXECUTE format('CREATE TABLE t%s (a int); CREATE INDEX ON t%s (a)', i, i);
			COMMIT;
		END LOOP;
	END $$;
	CREATE TABLE whole (a int) PARTITION BY LIST (a);
	CREATE INDEX ON whole (a);
	DO $$ BEGIN
		FOR i IN 1 .. 300 LOOP
			EXECUTE format('CREATE TABLE part%s PARTITION OF whole FOR VALUES IN (%s)', i, i);
			COMMIT;
		END LOOP;
	END $$;
});
is($node->safe_psql($db, q{SELECT count(*) FROM scalecache.suggest_index_drops() WHERE reason ~ 'not been used since 20\d\d-\d\d-\d\d \d\d:\d\d'}),
	'1201', 'more indexes than locks, and since when each has not been used');

# Of a partitioned index one part at a time is locked.
my $holder = $node->background_psql($db);
$holder->query_safe('BEGIN; REINDEX INDEX part300_a_idx');
my $asker = $node->background_psql($db);
$asker->query_until(qr/asks/, "\\echo asks\nSELECT count(*) FROM scalecache.suggest_index_drops();\n");
$node->poll_query_until($db, q{SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'part300_a_idx'::regclass AND NOT granted)}) or die 'nobody waits';
is($node->safe_psql($db, q{SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE c.relname ~ '^part[0-9]+_a_idx' AND l.mode = 'AccessShareLock' AND l.granted}),
	'0', 'who waits for one part has none of the others locked');
$holder->query_safe('COMMIT');
$_->quit foreach $asker, $holder;

# Of what was counted before a crash nothing is left: it is since then.
my $since = q{SELECT substring(reason from 'since (\d+-\d+-\d+ \d+:\d+)')::timestamp FROM scalecache.suggest_index_drops() LIMIT 1};
my $first = $node->safe_psql($db, $since);
$node->poll_query_until($db, "SELECT date_trunc('minute', localtimestamp) > '$first'") or die 'time stands still';
$node->stop('immediate');
$node->start;
is($node->safe_psql($db, "SELECT ($since) > '$first'"), 't', 'after a crash it is since then');
$node->safe_psql($db, q{SELECT pg_stat_reset_shared('bgwriter')});
is($node->safe_psql($db, "SELECT ($since) >= pg_postmaster_start_time()::timestamp - interval '1 minute'"), 't', 'which others who reset do not change');
$node->stop;
done_testing();
