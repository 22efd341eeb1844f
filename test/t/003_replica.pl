# Rollups on a hot standby, after its promotion, on a logical subscriber, and
# in a restored dump.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $conf = q{
shared_preload_libraries = 'scalecache'
max_prepared_transactions = 20
max_worker_processes = 20
scalecache.fold_delay = 10
};
my $table = 'CREATE TABLE t (id bigserial PRIMARY KEY, k int, v numeric);';
my $define = q{
	SELECT scalecache.create_rollup('r_k',
		'SELECT k, sum(v) AS s, count(*) AS n, min(v) AS lo, max(v) AS hi
		 FROM t GROUP BY k');
	SELECT scalecache.create_rollup('r_all',
		'SELECT sum(v) AS s, count(*) AS n, count(DISTINCT k) AS d FROM t');
};
my $write = q{
	INSERT INTO t (k, v) SELECT g % 20, g FROM generate_series(1, 500) g;
	UPDATE t SET k = k + 1, v = v * 2 WHERE id % 7 = 0;
	DELETE FROM t WHERE id % 11 = 0;
};

# The rollups and the plain queries, in one snapshot; the names of what differs.
my $differ = q{
	SELECT 'r_k' FROM (SELECT k, sum(v), count(*), min(v), max(v) FROM t GROUP BY k) q
		FULL JOIN r_k r USING (k)
		WHERE (q.sum, q.count, q.min, q.max) IS DISTINCT FROM (r.s, r.n, r.lo, r.hi)
	UNION ALL
	SELECT 'r_all' FROM (SELECT sum(v), count(*), count(DISTINCT k) AS d FROM t) q, r_all r
		WHERE (q.sum, q.count, q.d) IS DISTINCT FROM (r.s, r.n, r.d)};

sub exact
{
	my ($node, $db, $what) = @_;
	is($node->safe_psql($db, $differ), '', "$what: equal to the plain query");
	like($node->safe_psql($db, 'EXPLAIN (ANALYZE) SELECT * FROM r_k'),
		qr/Answered From: rollup/, "$what: answered from the rollup");
}

sub verified
{
	my ($node, $db, $what) = @_;
	for my $r ('r_k', 'r_all')
	{
		is($node->safe_psql($db, "SELECT scalecache.verify_rollup('$r')"),
			'0', "$what: verify $r");
	}
}

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 'logical');
$primary->append_conf('postgresql.conf', $conf);
$primary->start;
$primary->safe_psql('postgres', "CREATE EXTENSION scalecache; $table $define $write");
exact($primary, 'postgres', 'primary');

# Hot standby
$primary->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'b', has_streaming => 1);
$standby->start;
for my $round (1 .. 3)
{
	$primary->safe_psql('postgres', $write);
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
	exact($standby, 'postgres', "standby, round $round");
	is( $standby->safe_psql('postgres', 'SELECT * FROM r_k ORDER BY k'),
		$primary->safe_psql('postgres', 'SELECT * FROM r_k ORDER BY k'),
		"standby, round $round: as on the primary");
}

# Logical replication: the subscriber has rollups of its own.
my $sub = PostgreSQL::Test::Cluster->new('subscriber');
$sub->init;
$sub->append_conf('postgresql.conf', $conf);
$sub->start;
$sub->safe_psql('postgres', "CREATE EXTENSION scalecache; $table $define");
$primary->safe_psql('postgres', 'CREATE PUBLICATION p FOR TABLE t');
$sub->safe_psql('postgres', sprintf(
	"CREATE SUBSCRIPTION s CONNECTION '%s dbname=postgres' PUBLICATION p",
	$primary->connstr));
$sub->wait_for_subscription_sync($primary, 's');
exact($sub, 'postgres', 'subscriber, copied');
for my $round (1 .. 2)
{
	$primary->safe_psql('postgres', $write);
	$primary->wait_for_catchup('s');
	exact($sub, 'postgres', "subscriber, round $round");
	verified($sub, 'postgres', "subscriber, round $round");
}
is($sub->safe_psql('postgres', 'SELECT * FROM r_k ORDER BY k'),
	$primary->safe_psql('postgres', 'SELECT * FROM r_k ORDER BY k'),
	'subscriber: as on the publisher');
$primary->safe_psql('postgres', 'TRUNCATE t');
$primary->wait_for_catchup('s');
is($sub->safe_psql('postgres', 'SELECT count(*) FROM r_k'), '0',
	'subscriber: truncated');
exact($sub, 'postgres', 'subscriber, truncated');
$sub->safe_psql('postgres', 'DROP SUBSCRIPTION s');
$sub->stop;

# Promotion
$primary->safe_psql('postgres', $write);
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
$primary->stop;
$standby->promote;
exact($standby, 'postgres', 'promoted');
$standby->safe_psql('postgres', $write);
exact($standby, 'postgres', 'promoted and written to');
verified($standby, 'postgres', 'promoted');
ok( $standby->poll_query_until('postgres',
		'SELECT sum(pending_deltas) = 0 FROM scalecache.rollups'),
	'promoted: a worker folds');

# Dump and restore
my $dump = $standby->basedir . '/dump.sql';
$standby->command_ok([ 'pg_dump', '-f', $dump, 'postgres' ], 'pg_dump');
$standby->safe_psql('postgres', 'CREATE DATABASE restored');
$standby->command_ok(
	[ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, 'restored' ],
	'restore');
is($standby->safe_psql('restored', $differ), '',
	'restored: equal to the plain query');
$standby->safe_psql('restored', $write);
is($standby->safe_psql('restored', $differ), '',
	'restored and written to: equal to the plain query');
{
	local $PostgreSQL::Test::Utils::timeout_default = 60;
	ok( $standby->poll_query_until('restored',
			"SELECT count(*) = 2 AND bool_and(state = 'live') FROM scalecache.rollups"),
		'restored: live by itself');
}
$standby->safe_psql('restored', $write);
exact($standby, 'restored', 'restored and live');
verified($standby, 'restored', 'restored and live');

$standby->stop;
done_testing();
