# Who owns a database, and is no superuser, dumps and restores it with its
# rollups; and nobody makes a rollup that way that he could not create.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ScaleCache;
use Test::More;

my $node = new_server('restore');
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE ROLE other LOGIN;
	CREATE DATABASE old OWNER app; CREATE DATABASE new OWNER app; CREATE DATABASE whole OWNER app');
$node->safe_psql($_, 'CREATE EXTENSION scalecache') for ('old', 'new', 'whole');
sub as
{
	my ($role, $db, $sql) = @_;
	my ($ret, $out, $err) = $node->psql($db, $sql, on_error_stop => 1, extra_params => [ '-U', $role ]);

	return $ret == 0 ? $out : $err;
}

is(as('app', 'old', qq{
	SET client_min_messages = error;
	$TABLE
	CREATE SCHEMA sales;
	CREATE TABLE sales.d (k int PRIMARY KEY, name text);
	INSERT INTO sales.d SELECT g, 'd' || g FROM generate_series(0, 30) g;
	CREATE TABLE p (id int, k int, at timestamptz) PARTITION BY LIST (k);
	CREATE TABLE p0 PARTITION OF p FOR VALUES IN (0);
	CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
	INSERT INTO p SELECT g, g % 2, '2026-01-01'::timestamptz + g * interval '1 hour' FROM generate_series(1, 1000) g;
	CREATE VIEW doubled AS SELECT k, v * 2 AS v FROM t;
	SET timezone = 'Asia/Tokyo';
	SET scalecache.trigger_lock_timeout = 0;
	CALL scalecache.create_rollup_concurrently('r_k', 'SELECT k, sum(v) AS s, count(DISTINCT v) AS n FROM t GROUP BY k');
	CALL scalecache.create_rollup_concurrently('r_v', 'SELECT k, sum(v) AS s FROM doubled GROUP BY k');
	CALL scalecache.create_rollup_concurrently('sales.r_j', 'SELECT d.name, sum(t.v) AS s FROM t JOIN sales.d ON d.k = t.k GROUP BY d.name');
	CALL scalecache.create_rollup_concurrently('r_p', \$\$SELECT date_trunc('day', at) AS day, k, count(*) AS n FROM p GROUP BY 1, 2\$\$);
	$WRITE}), '', 'rollups of a plain role');
exact($node, 'old', 'old');

# All at once, in the order of pg_dump, errors or not
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-U', 'app', '--no-comments', '-f', $dump, 'old' ], 'dumped by the owner');
$node->command_ok([ 'psql', '-U', 'app', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, 'new' ], 'restored by the owner');
# and in one transaction
$node->command_ok([ 'psql', '-U', 'app', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', '-f', $dump, 'whole' ], 'restored in one transaction');
for my $db ('new', 'whole')
{
	is($node->safe_psql($db, "SELECT count(*) FROM scalecache.rollups"), '4', "$db: all rollups are there");
	exact($node, $db, "$db, restored");
	ok($node->poll_query_until($db, "SELECT count(*) = 4 AND bool_and(state = 'live') FROM scalecache.rollups"),
		"$db: live by itself") or diag($node->safe_psql($db, 'TABLE scalecache.rollups'));
	is(as('app', $db, $WRITE . "INSERT INTO p SELECT g, g % 2, '2026-03-01' FROM generate_series(1, 10) g;
		UPDATE sales.d SET name = name || 'x' WHERE k % 3 = 0"), '', "$db: written to");
	exact($node, $db, "$db, written to");
	live($node, $db, $_, $db) for ('r_k', 'r_v', 'r_p');
	verified($node, $db, $db);
	is( $node->safe_psql($db, "SELECT string_agg(DISTINCT time_zone, ' ') FROM scalecache.rollups"),
		$node->safe_psql('old', "SELECT string_agg(DISTINCT time_zone, ' ') FROM scalecache.rollups"), "$db: the zone is theirs");
}
my $triggers = q{SELECT tgrelid::regclass::text, count(*) FROM pg_trigger
	WHERE NOT tgisinternal AND tgrelid::regclass::text !~ '^scalecache' GROUP BY 1 ORDER BY 1};
is($node->safe_psql('new', $triggers), $node->safe_psql('old', $triggers), 'the same triggers');
is(as('app', 'new', "SET client_min_messages = error; SELECT scalecache.drop_rollup(rollup) FROM scalecache.rollups"), "\n\n\n", 'dropped');
is( $node->safe_psql('new', q{SELECT
	(SELECT count(*) FROM pg_class WHERE relnamespace = 'scalecache_data'::regnamespace),
	(SELECT count(*) FROM pg_trigger WHERE tgrelid IN ('t'::regclass, 'p'::regclass, 'p0'::regclass, 'sales.d'::regclass)),
	(SELECT count(*) FROM scalecache.fold)}), '0|0|0', 'nothing is left behind');

# What would be a rollup of others' tables, or of none
$node->safe_psql('old', "GRANT CREATE, USAGE ON SCHEMA public TO other; GRANT SELECT ON t TO other");
as('other', 'old', 'CREATE TABLE mine (k int, v numeric);
	CREATE VIEW spy AS SELECT k, sum(v) AS s FROM t GROUP BY k;
	CREATE VIEW own AS SELECT k, sum(v) AS s FROM mine GROUP BY k;
	CREATE VIEW none AS SELECT 1 AS one');
my $insert = sub {
	my ($view, $source, %opt) = @_;

	return as('other', 'old', sprintf('INSERT INTO scalecache.rollup (id, rollup, source, base, delta1, delta2, turn, epoch, state, distincts, time_zone, part_of, part, views)
		VALUES (%s, %s, %s, 0, 0, 0, 0, 1, \'l\', 0, %s, %s, %s, %s)', $opt{id} // 12345, $view, $source,
		$opt{zone} // "'UTC'", $opt{part_of} // 0, $opt{part} // 0, $opt{views} // 'NULL'));
};
like($insert->("'spy'::regclass", "'t'::regclass"), qr/must be owner of table t/, 'a view of another\'s table');
like($insert->("'own'::regclass", "'t'::regclass"), qr/does not fit its view/, 'another source');
like($insert->("'r_k'::regclass", "'t'::regclass"), qr/^$/, 'one that is there');
like($insert->("'none'::regclass", "'mine'::regclass"), qr/ERROR/, 'no query of a rollup');
like($insert->("'mine'::regclass", "'mine'::regclass"), qr/is not a rollup/, 'no view');
like($insert->('1::regclass', "'mine'::regclass"), qr/does not exist/, 'nothing');
like($insert->("'own'::regclass", "'mine'::regclass", zone => 'NULL'), qr/does not fit its view/, 'no zone');
like($insert->("'own'::regclass", "'mine'::regclass", zone => "'Nowhere/Land'"), qr/does not fit its view/, 'no such zone');
like($insert->("'own'::regclass", "'mine'::regclass", views => "'{r_k,NULL}'"), qr/null/, 'no view that it is made of');
like($insert->("'own'::regclass", "'mine'::regclass", views => "'{doubled}'"), qr/permission denied for view doubled/, 'a view of another\'s');
like($insert->("'own'::regclass", "'mine'::regclass", views => "'{pg_class}'"), qr/permission denied/, 'a catalog');
is($node->safe_psql('old', "SELECT count(*) FROM scalecache.rollup WHERE rollup IN ('spy'::regclass, 'own'::regclass)"), '0', 'none of them is one');
is($insert->("'own'::regclass", "'mine'::regclass", part_of => "'r_k'::regclass", part => 2), '', 'one of his own');
is($node->safe_psql('old', "SELECT part, part_of, state IN ('s', 'f', 'l') FROM scalecache.rollup WHERE rollup = 'own'::regclass"), '0|0|t', 'which is a part of nothing');
ok($node->poll_query_until('old', "SELECT state = 'l' FROM scalecache.rollup WHERE rollup = 'own'::regclass"), 'and becomes live');
as('other', 'old', 'INSERT INTO mine VALUES (1, 2)');
exact($node, 'old', 'his own');
# nor by another query for one that is not filled yet
is(as('other', 'old', "SELECT scalecache.create_rollup('later', 'SELECT k, sum(v) AS s FROM mine GROUP BY k', false)"), 'later', 'one to be filled later');
like(as('other', 'old', 'CREATE OR REPLACE VIEW later AS SELECT k, sum(v) AS s FROM t GROUP BY k'), qr/cannot replace the query/, 'which keeps its query');

# Several jobs, each with tables of its own: nobody waits for another's
$node->safe_psql('postgres', 'CREATE DATABASE many');
$node->safe_psql('many', join(';', 'SET client_min_messages = error; CREATE EXTENSION scalecache',
		'CREATE TABLE p (id int, k int, n int, PRIMARY KEY (id, k)) PARTITION BY LIST (k)',
		map({ "CREATE TABLE p$_ PARTITION OF p FOR VALUES IN ($_)" } 0 .. 7),
		map({ "CREATE TABLE d$_ (id int PRIMARY KEY, name text UNIQUE)" } 0 .. 3),
		'INSERT INTO p SELECT g, g % 8, g FROM generate_series(1, 80) g',
		q{SELECT scalecache.create_rollup('r', 'SELECT k, sum(n) AS s FROM p GROUP BY k')},
		q{SELECT scalecache.create_rollup('r3', 'SELECT id, max(n) AS m FROM p3 GROUP BY id')},
		q{SELECT scalecache.create_cache_rule('p', 'p', 'p:{id}:{k}')},
		map({ "SELECT scalecache.create_cache_rule('d$_', 'd$_', 'd:{id}')" } 0 .. 3)));
my $enabled = $triggers =~ s/count\(\*\)/count(*), string_agg(tgenabled, '')/r;
my $archive = $node->basedir . '/many.dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $archive, 'many' ], 'dumped');
for my $i (1 .. 3)
{
	$node->safe_psql('postgres', "CREATE DATABASE jobs$i");
	$node->command_ok([ 'pg_restore', '-j', '4', '-d', "jobs$i", $archive ], "restored by four jobs, $i");
	ok($node->poll_query_until("jobs$i", "SELECT count(*) = 2 AND bool_and(state = 'live') FROM scalecache.rollups"), 'the rollups are live');
	is( $node->safe_psql("jobs$i", $enabled), $node->safe_psql('many', $enabled), 'the same triggers');
	is( $node->safe_psql("jobs$i", "INSERT INTO p VALUES (100, 3, 5); SELECT s FROM r WHERE k = 3; SELECT m FROM r3 WHERE id = 100"),
		$node->safe_psql('many', "BEGIN; INSERT INTO p VALUES (100, 3, 5); SELECT s FROM r WHERE k = 3; SELECT m FROM r3 WHERE id = 100; ROLLBACK"), 'and the same result');
}

# What somebody drops when a rule's triggers have not been restored yet leaves the rule alone.
$node->safe_psql('postgres', 'CREATE DATABASE sections');
$node->safe_psql('sections', 'CREATE TABLE passing ()');
for my $section ('pre-data', 'data', 'post-data')
{
	$node->safe_psql('sections', 'DROP TABLE passing') if $section eq 'post-data';
	$node->command_ok([ 'pg_restore', "--section=$section", '-d', 'sections', $archive ], "restored $section");
}
is($node->safe_psql('sections', 'SELECT count(*) FROM scalecache.cache_rules'), '5', 'all rules are there');
is($node->safe_psql('sections', $enabled), $node->safe_psql('many', $enabled), 'with their triggers');

$node->stop;
done_testing();
