# Rollups on a hot standby, after its promotion, on a logical subscriber, and
# in a restored dump.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use ScaleCache;
use Test::More;

sub right
{
	my ($node, $db, $what) = @_;

	exact($node, $db, $what);
	live($node, $db, 'r_k', $what);
}

my $primary = new_server('primary', init => [ allows_streaming => 'logical' ]);
$primary->safe_psql('postgres', "CREATE EXTENSION scalecache; $TABLE $ROLLUPS $WRITE");
right($primary, 'postgres', 'primary');

# Hot standby
$primary->safe_psql('postgres', 'CREATE TABLE ix (a int); INSERT INTO ix VALUES (0); CREATE INDEX ix_a ON ix (a)');
$primary->psql('postgres', 'CREATE INDEX CONCURRENTLY ix_failed ON ix ((1 / a))');
$primary->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'b', has_streaming => 1);
$standby->start;
for my $round (1 .. 3)
{
	$primary->safe_psql('postgres', $WRITE);
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
	right($standby, 'postgres', "standby, round $round");
	is( $standby->safe_psql('postgres', 'SELECT * FROM r_k ORDER BY k'),
		$primary->safe_psql('postgres', 'SELECT * FROM r_k ORDER BY k'),
		"standby, round $round: as on the primary");
}

# Advice is for this server's statistics, and takes no lock that a standby cannot.
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
is( $standby->safe_psql('postgres', q{SELECT index FROM scalecache.suggest_index_drops() WHERE relation = 'ix'::regclass
	AND reason ~ 'which is a standby'}), 'ix_a', 'suggest_index_drops on a standby');

# What a standby reads is not recorded on the primary, so nothing is said there
# of what an index saves; what the standby uses is not unused to it.
$primary->safe_psql('postgres', q{
	CREATE TABLE far (id int PRIMARY KEY, a int, b int, pad text);
	INSERT INTO far SELECT i, i, i, repeat('x', 50) FROM generate_series(1, 2000) i;
	CREATE INDEX far_a ON far (a);
	CREATE INDEX far_b ON far (b);
	VACUUM ANALYZE far;
	SELECT scalecache.reset_workload();
	SELECT id FROM far WHERE a = 5;
	DO $$ BEGIN FOR i IN 1 .. 300 LOOP UPDATE far SET a = a + 1 WHERE id = i; END LOOP; END $$;
	SELECT pg_stat_force_next_flush();
});
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
is( $primary->safe_psql('postgres', q{SELECT index, reason ~ 'look at the standbys too$' FROM scalecache.suggest_index_drops()
	WHERE relation = 'far'::regclass}), 'far_b|t', 'suggest_index_drops on a primary that has a standby');
$standby->safe_psql('postgres', 'SELECT id FROM far WHERE b = 5; SELECT pg_stat_force_next_flush()');
is( $standby->safe_psql('postgres', q{SELECT index FROM scalecache.suggest_index_drops() WHERE relation = 'far'::regclass}),
	'far_a', 'what is used on a standby is not unused there');

# Logical replication: the subscriber has rollups of its own.
my $sub = new_server('subscriber');
$sub->safe_psql('postgres', "CREATE EXTENSION scalecache; $TABLE $ROLLUPS");
$primary->safe_psql('postgres', 'CREATE PUBLICATION p FOR TABLE t');
$sub->safe_psql('postgres', sprintf(
	"CREATE SUBSCRIPTION s CONNECTION '%s dbname=postgres' PUBLICATION p",
	$primary->connstr));
$sub->wait_for_subscription_sync($primary, 's');
right($sub, 'postgres', 'subscriber, copied');
for my $round (1 .. 2)
{
	$primary->safe_psql('postgres', $WRITE);
	$primary->wait_for_catchup('s');
	right($sub, 'postgres', "subscriber, round $round");
	verified($sub, 'postgres', "subscriber, round $round");
}
is($sub->safe_psql('postgres', 'SELECT * FROM r_k ORDER BY k'),
	$primary->safe_psql('postgres', 'SELECT * FROM r_k ORDER BY k'),
	'subscriber: as on the publisher');
$primary->safe_psql('postgres', 'TRUNCATE t');
$primary->wait_for_catchup('s');
is($sub->safe_psql('postgres', 'SELECT count(*) FROM r_k'), '0',
	'subscriber: truncated');
right($sub, 'postgres', 'subscriber, truncated');
$sub->safe_psql('postgres', 'DROP SUBSCRIPTION s');
$sub->stop;

# Promotion
$primary->safe_psql('postgres', $WRITE);
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
$primary->stop;
$standby->promote;
right($standby, 'postgres', 'promoted');
$standby->safe_psql('postgres', $WRITE);
right($standby, 'postgres', 'promoted and written to');
verified($standby, 'postgres', 'promoted');
folded($standby, 'postgres', 'promoted');

# Dump and restore
my $dump = $standby->basedir . '/dump.sql';
$standby->command_ok([ 'pg_dump', '-f', $dump, 'postgres' ], 'pg_dump');
$standby->safe_psql('postgres', 'CREATE DATABASE restored');
$standby->command_ok(
	[ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, 'restored' ],
	'restore');
exact($standby, 'restored', 'restored');
$standby->safe_psql('restored', $WRITE);
exact($standby, 'restored', 'restored and written to');
ok( $standby->poll_query_until('restored',
		"SELECT count(*) = 2 AND bool_and(state = 'live') FROM scalecache.rollups"),
	'restored: live by itself');
$standby->safe_psql('restored', $WRITE);
right($standby, 'restored', 'restored and live');
verified($standby, 'restored', 'restored and live');
$standby->safe_psql('restored', 'DROP EXTENSION scalecache');
is( $standby->safe_psql('restored', q{SELECT
	(SELECT count(*) FROM pg_class WHERE relname ~ '^r_'),
	(SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass)}),
	'0|0', 'restored: DROP EXTENSION leaves nothing');

# The worker makes a rollup live before the dump gets to its triggers.
$standby->safe_psql('postgres', 'CREATE DATABASE slowly');
my $part = sub {
	my ($name, @sections) = @_;
	$standby->command_ok([ 'pg_dump', '-f', $dump, (map { "--section=$_" } @sections), 'postgres' ], "pg_dump, $name");
	$standby->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, 'slowly' ], "restore, $name");
};
$part->('rows', 'pre-data', 'data');
ok( $standby->poll_query_until('slowly',
		"SELECT count(*) = 2 AND bool_and(state = 'live') FROM scalecache.rollups"),
	'slowly restored: live before the triggers');
my $triggers = 'SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal';
my $before = $standby->safe_psql('slowly', $triggers);
$part->('triggers', 'post-data');
is($standby->safe_psql('slowly', $triggers), $before, 'and no trigger twice');
$standby->safe_psql('slowly', $WRITE);
right($standby, 'slowly', 'slowly restored and written to');
verified($standby, 'slowly', 'slowly restored');

$standby->stop;
done_testing();
