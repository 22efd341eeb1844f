# Logical replication: a publication FOR ALL TABLES is of users' tables only,
# and rollups of a subscriber are right whatever way its rows come.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ScaleCache;
use Test::More;

my $p = 'postgres';
my $pub = new_server('publisher', init => [ allows_streaming => 'logical' ],
	conf => "logical_decoding_work_mem = 64kB\n");
my $sub = new_server('subscriber', conf => "max_logical_replication_workers = 12\n");
my $plain = new_server('plain', preload => 0);
my $connection = $pub->connstr . " dbname=$p";

# On all of them, or on those that are given
sub on_all
{
	my ($sql, @nodes) = @_;
	$_->safe_psql($p, $sql) for @nodes ? @nodes : ($pub, $sub, $plain);
}

sub subscribe
{
	my ($node, $name, $publication, $with) = @_;

	$node->safe_psql($p, "CREATE SUBSCRIPTION $name CONNECTION '$connection' PUBLICATION $publication"
		. ($with ? " WITH ($with)" : ''));
	$node->wait_for_subscription_sync($pub, $name);
}

sub right
{
	my ($what, @rollups) = @_;

	exact($sub, $p, $what);
	verified($sub, $p, $what);
	live($sub, $p, $_, $what) for @rollups;
}

# ---- FOR ALL TABLES, with the extension and rollups coming later ----

on_all("$TABLE CREATE TABLE big (id int PRIMARY KEY, words text)");
$pub->safe_psql($p, 'CREATE PUBLICATION everything FOR ALL TABLES');
on_all("CREATE EXTENSION scalecache; $ROLLUPS", $sub);
subscribe($sub, 'sub_all', 'everything');
subscribe($plain, 'plain_all', 'everything');
$pub->safe_psql($p, "$WRITE CREATE EXTENSION scalecache; $ROLLUPS $WRITE
	SELECT scalecache.create_rollup('words', 'SELECT words, count(*) AS n, count(DISTINCT id) AS d FROM big GROUP BY words')");
# Keys that are toasted, beside rows of the user's that are
$pub->safe_psql($p, q{
	INSERT INTO big SELECT g, (SELECT string_agg(md5(g::text || h), '') FROM generate_series(1, 200) h) FROM generate_series(1, 50) g;
	UPDATE big SET words = words || 'x' WHERE id % 2 = 0});
for my $round (1 .. 3)
{
	$pub->safe_psql($p, $WRITE);
	$pub->safe_psql($p, 'SELECT sum(scalecache.fold_rollup(rollup)) FROM scalecache.rollups');
	$pub->safe_psql($p, 'BEGIN; TRUNCATE t; INSERT INTO t (k, v) VALUES (1, 1); COMMIT') if $round == 2;
	$pub->wait_for_catchup($_) for ('sub_all', 'plain_all');
	for my $table ('t', 'big')
	{
		my $rows = "SELECT md5(string_agg(x::text, ' ' ORDER BY x::text)) FROM $table x";
		is($plain->safe_psql($p, $rows), $pub->safe_psql($p, $rows), "$table, without the extension, round $round");
		is($sub->safe_psql($p, $rows), $pub->safe_psql($p, $rows), "$table, with it, round $round");
	}
	right("all tables, round $round", 'r_k', 'r_all');
	exact($pub, $p, "publisher, round $round");
}
$plain->safe_psql($p, 'DROP SUBSCRIPTION plain_all');

# Both have the same tables, and all of them are copied.
$sub->safe_psql($p, 'DROP SUBSCRIPTION sub_all; TRUNCATE t, big');
$sub->safe_psql($p, "SELECT scalecache.create_rollup('words', 'SELECT words, count(*) AS n, count(DISTINCT id) AS d FROM big GROUP BY words')");
subscribe($sub, 'sub_all', 'everything');
right('all tables copied', 'r_k', 'r_all', 'words');
$pub->safe_psql($p, $WRITE);
$pub->wait_for_catchup('sub_all');
right('all tables copied, and written to', 'r_k', 'r_all', 'words');
folded($sub, $p, 'all tables copied');
right('all tables copied, and folded', 'r_k', 'r_all', 'words');
$sub->safe_psql($p, 'DROP SUBSCRIPTION sub_all');
$pub->safe_psql($p, 'DROP PUBLICATION everything');

# ---- some rows, some columns ----

$pub->safe_psql($p, 'CREATE TABLE f (id int PRIMARY KEY, k int, v numeric, note text, secret text);
	ALTER TABLE f REPLICA IDENTITY FULL;
	CREATE PUBLICATION rows FOR TABLE f WHERE (k < 5);
	CREATE TABLE c (id int PRIMARY KEY, k int, v numeric, note text, secret text);
	CREATE PUBLICATION columns FOR TABLE c (id, k, v)');
$sub->safe_psql($p, q{
	CREATE TABLE f (note text, secret text, id int PRIMARY KEY, v numeric, k int);
	CREATE TABLE c (note text DEFAULT 'none', id int PRIMARY KEY, v numeric, k int, twice numeric GENERATED ALWAYS AS (v * 2) STORED);
	SELECT scalecache.create_rollup('r_f', 'SELECT k, sum(v) AS s, max(note) AS m, count(DISTINCT secret) AS d FROM f GROUP BY k');
	SELECT scalecache.create_rollup('r_c', 'SELECT note, k, sum(v) AS s, sum(twice) AS t FROM c GROUP BY note, k')});
$pub->safe_psql($p, "INSERT INTO f SELECT g, g % 10, g, 'n' || g, 's' || g % 3 FROM generate_series(1, 200) g;
	INSERT INTO c SELECT g, g % 10, g, 'n' || g, 's' || g % 3 FROM generate_series(1, 200) g");
subscribe($sub, 'sub_some', 'rows, columns');
right('some rows and columns, copied', 'r_f', 'r_c');
for my $table ('f', 'c')
{
	$pub->safe_psql($p, "UPDATE $table SET k = k + 1 WHERE id % 3 = 0;
		UPDATE $table SET k = k - 1, v = v + 0.5 WHERE id % 5 = 0;
		UPDATE $table SET secret = 'other' WHERE id % 7 = 0;
		DELETE FROM $table WHERE id % 11 = 0;
		INSERT INTO $table SELECT g, g % 7, g, 'm', 's' FROM generate_series(300, 400) g");
}
$pub->wait_for_catchup('sub_some');
is( $sub->safe_psql($p, 'SELECT count(*), sum(v) FROM f'),
	$pub->safe_psql($p, 'SELECT count(*), sum(v) FROM f WHERE k < 5'), 'some rows');
right('some rows and columns, changed', 'r_f', 'r_c');
$sub->safe_psql($p, 'DROP SUBSCRIPTION sub_some');

# ---- partitions, as such and by their root; transactions that are streamed, or prepared ----

my $part = 'CREATE TABLE %s (id int, k int, v numeric, PRIMARY KEY (id, k)) PARTITION BY %s;';
$pub->safe_psql($p, sprintf($part, 'q', 'LIST (k)') . sprintf($part, 'w', 'LIST (k)')
	. join('', map { my $t = $_; map { "CREATE TABLE ${t}$_ PARTITION OF $t FOR VALUES IN ($_);" } (0 .. 3) } ('q', 'w'))
	. 'CREATE PUBLICATION parts FOR TABLE q;
	CREATE PUBLICATION root FOR TABLE w WITH (publish_via_partition_root = true)');
# The same partitions of one, others of the other
$sub->safe_psql($p, sprintf($part, 'q', 'LIST (k)') . sprintf($part, 'w', 'HASH (id)')
	. join('', map { "CREATE TABLE q$_ PARTITION OF q FOR VALUES IN ($_);" } (0 .. 3))
	. join('', map { "CREATE TABLE w$_ PARTITION OF w FOR VALUES WITH (MODULUS 3, REMAINDER $_);" } (0 .. 2))
	. "SELECT scalecache.create_rollup('r_q', 'SELECT k, sum(v) AS s, min(id) AS lo FROM q GROUP BY k');
	SELECT scalecache.create_rollup('r_w', 'SELECT k, sum(v) AS s, min(id) AS lo FROM w GROUP BY k')");
my $rows = 'INSERT INTO %s SELECT g, g %% 4, g FROM generate_series(%d, %d) g;';
$pub->safe_psql($p, sprintf($rows, $_, 1, 100)) for ('q', 'w');
subscribe($sub, 'sub_parts', 'parts, root', 'streaming = on, two_phase = true');
right('partitions, copied', 'r_q', 'r_w');
for my $t ('q', 'w')
{
	$pub->safe_psql($p, sprintf($rows, $t, 101, 200) . "UPDATE $t SET k = (k + 1) % 4 WHERE id % 3 = 0;
		DELETE FROM $t WHERE id % 7 = 0");
	# streamed, and in part rolled back
	$pub->safe_psql($p, "BEGIN;" . sprintf($rows, $t, 1001, 5000) . 'SAVEPOINT a;'
		. sprintf($rows, $t, 5001, 9000) . "UPDATE $t SET v = v + 1 WHERE id > 4000; ROLLBACK TO a;"
		. sprintf($rows, $t, 9001, 9010) . 'COMMIT');
	$pub->safe_psql($p, 'BEGIN;' . sprintf($rows, $t, 10001, 10100) . 'ROLLBACK') if $t eq 'q';
}
$pub->wait_for_catchup('sub_parts');
right('partitions', 'r_q', 'r_w');
$pub->safe_psql($p, 'TRUNCATE q1; INSERT INTO q VALUES (1, 1, 1)');
$pub->wait_for_catchup('sub_parts');
is($sub->safe_psql($p, 'SELECT count(*) FROM q WHERE k = 1'), '1', 'one partition was truncated');
right('a partition truncated', 'r_q', 'r_w');
$pub->safe_psql($p, 'BEGIN; INSERT INTO w VALUES (-1, 1, 1); TRUNCATE w; INSERT INTO w VALUES (1, 1, 1), (2, 1, 1); DELETE FROM w WHERE id = 2; COMMIT');
$pub->wait_for_catchup('sub_parts');
is($sub->safe_psql($p, 'TABLE r_w'), '1|1|1', 'the root was truncated');
right('the root truncated', 'r_q', 'r_w');
folded($sub, $p, 'subscriber');
right('folded', 'r_q', 'r_w');
$sub->safe_psql($p, 'DROP SUBSCRIPTION sub_parts');

$_->stop for ($sub, $plain, $pub);
done_testing();
