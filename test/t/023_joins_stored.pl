# The stored groups of joins, while writers of all the tables run in every
# isolation level, orders come with their items, and folds are made.  Readers
# compare with the plain queries in one snapshot, on a standby too.
#
# SCALECACHE_TEST_SECONDS is the time of a round of the load, 12 by default.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ScaleCache;
use Test::More;

my $seconds = $ENV{SCALECACHE_TEST_SECONDS} || 12;

# Serializable transactions have ten times as many places as there are
# connections.  With too few, finished ones go to pg_serial, where a checkpoint
# may take a page that is still asked for ("could not access status of
# transaction"; with or without rollups).
my $node = new_server('stored', init => [ allows_streaming => 1 ], conf => 'max_connections = 500');

$node->safe_psql('postgres', "CREATE EXTENSION scalecache; $COMPARE" . q{
CREATE TABLE nation (id int PRIMARY KEY, name text);
CREATE TABLE customer (id int PRIMARY KEY, nation_id int, level int);
CREATE TABLE purchase (id bigserial PRIMARY KEY, customer_id int, day date, note text);
CREATE TABLE item (id bigserial PRIMARY KEY, purchase_id bigint, price numeric(10,2), qty int);
INSERT INTO nation SELECT g, 'n' || g % 6 FROM generate_series(1, 8) g;
INSERT INTO customer SELECT g, g % 10, g % 4 FROM generate_series(1, 100) g;
INSERT INTO purchase (customer_id, day) SELECT g % 110, date '2026-01-01' + g % 200 FROM generate_series(1, 20000) g;
INSERT INTO item (purchase_id, price, qty) SELECT g / 3, g % 500, g % 5 FROM generate_series(1, 60000) g;
CREATE INDEX ON item (purchase_id);
ANALYZE nation, customer, purchase, item;
});

# Rollup, columns compared, query
my %rollup = (
	s_revenue => [ 'name, month, s, n, lo, hi, high',
		q{SELECT n.name, date_trunc('month', p.day::timestamp) AS month, sum(i.price * i.qty) AS s, count(*) AS n,
			min(i.price) AS lo, max(i.price) AS hi, sum(i.price) FILTER (WHERE c.level > 1) AS high
		  FROM item i JOIN purchase p ON p.id = i.purchase_id JOIN customer c ON c.id = p.customer_id
		  JOIN nation n ON n.id = c.nation_id GROUP BY 1, 2} ],
	s_total => [ 'n, s, levels',
		q{SELECT count(*) AS n, sum(i.price) AS s, sum(c.level) AS levels
		  FROM item i, purchase p, customer c WHERE i.purchase_id = p.id AND c.id = p.customer_id AND i.qty > 1} ],
	s_left => [ 'name, n, known, s',
		q{SELECT n.name, count(*) AS n, count(c.id) AS known, sum(i.price) AS s FROM item i JOIN purchase p ON p.id = i.purchase_id
		  LEFT JOIN customer c ON c.id = p.customer_id LEFT JOIN nation n ON n.id = c.nation_id GROUP BY 1} ],
	s_level => [ 'level, other, n',
		q{SELECT a.level, b.level AS other, count(*) AS n FROM purchase p JOIN customer a ON a.id = p.customer_id
		  JOIN customer b ON b.nation_id = a.nation_id GROUP BY 1, 2} ]);

$node->safe_psql('postgres', "SELECT scalecache.create_rollup('$_', \$\$$rollup{$_}[1]\$\$)")
  for sort keys %rollup;
is($node->safe_psql('postgres', q{SELECT count(*) FROM scalecache.rollup WHERE part = 1 AND state = 'l'}), '4',
	'the groups of all are stored');

$node->backup('start');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'start', has_streaming => 1);
$standby->append_conf('postgresql.conf', "max_standby_streaming_delay = -1\nhot_standby_feedback = on\n");
$standby->start;

my $random = q{
\set i random(1, 60000)
\set p random(1, 20000)
\set c random(1, 110)
\set n random(1, 8)
\set v random(-1000, 1000)
\set q random(0, 5)
};
my @writers = (
	[ 'order', 6, q{
BEGIN;
INSERT INTO purchase (customer_id, day) VALUES (:c, date '2026-03-01' + :q * 20);
INSERT INTO item (purchase_id, price, qty) SELECT currval('purchase_id_seq'), :v + g, g FROM generate_series(0, :q) g;
COMMIT;} ],
	[ 'item', 3, 'INSERT INTO item (purchase_id, price, qty) VALUES (:p, :v, :q);' ],
	[ 'price', 3, 'UPDATE item SET price = price + :q, purchase_id = :p WHERE id = :i;' ],
	[ 'cancel', 2, 'DELETE FROM item WHERE id = :i;' ],
	[ 'gone', 2, 'DELETE FROM purchase WHERE id = :p;' ],
	[ 'again', 2, q{INSERT INTO purchase VALUES (:p, :c, date '2026-05-05') ON CONFLICT (id) DO UPDATE SET day = purchase.day + 9;} ],
	[ 'moved', 2, 'UPDATE customer SET nation_id = :n, level = :q WHERE id = :c;' ],
	[ 'called', 1, q{UPDATE nation SET name = 'n' || :q WHERE id = :n;} ],
	[ 'noted', 1, q{UPDATE purchase SET note = 'x' WHERE id = :p;} ],
	[ 'left', 1, 'DELETE FROM customer WHERE id = :c;' ],
	[ 'came', 1, 'INSERT INTO customer VALUES (:c, :n, :q) ON CONFLICT DO NOTHING;' ],
	[ 'all', 2, q{
BEGIN;
UPDATE customer SET nation_id = :n WHERE id = :c;
SAVEPOINT a;
DELETE FROM item WHERE id = :i;
UPDATE purchase SET customer_id = :c, day = day + 1 WHERE id = :p;
SAVEPOINT b;
INSERT INTO item (purchase_id, price, qty) VALUES (:p, :v, :q);
UPDATE nation SET name = 'n' || :q WHERE id = :n;
ROLLBACK TO b;
INSERT INTO item (purchase_id, price, qty) VALUES (:p, :v + 1, :q);
RELEASE a;
COMMIT;} ],
	[ 'undone', 1, q{
BEGIN;
INSERT INTO purchase (customer_id, day) VALUES (:c, '2026-04-04');
UPDATE customer SET level = :q WHERE id = :c;
DELETE FROM item WHERE id = :i;
ROLLBACK;} ]);
my @scripts = map { ('-f', script($node, $_->[0], $random . $_->[2] . "\n") . "\@$_->[1]") } @writers;

# Folds beside the worker's
my $folder = script($node, 'folder', join("\n",
		map { "SELECT scalecache.fold_rollup('$_');" } sort keys %rollup) . "\n");
# A query that is not the view, answered from its groups
my $rows = q{SELECT array_agg(whole_row::text ORDER BY whole_row::text) FROM (%s) whole_row};
my $query = sprintf($rows, q{SELECT upper(n.name), sum(i.price * i.qty), count(*) FROM nation n, customer c, purchase p, item i
	WHERE n.id = c.nation_id AND c.id = p.customer_id AND p.id = i.purchase_id AND n.name <> 'n3' GROUP BY 1});
my $queries = script($node, 'queries', "SELECT compare('query', \$q\$$query\$q\$, \$q\$$query\$q\$);\n");
my $reader = comparing_script($node, 'reader', \%rollup);

my $iso = '-c default_transaction_isolation=';
my @retry = ('--max-tries=1', '--failures-detailed');
my $on_standby = 0;
run_loads($node, 'stored',
	seconds => $seconds,
	enough => sub { exact($standby, 'postgres', 'standby') if $on_standby++ < 5; 1 },
	loads => {
		rc => { least => 400, may_deadlock => 1, may_fail => 1, options => $iso . 'read\ committed',
			args => [ '-c', 4, @retry, @scripts ] },
		rr => { least => 100, options => $iso . 'repeatable\ read', may_fail => 1,
			args => [ '-c', 2, @retry, @scripts ] },
		ser => { least => 50, options => $iso . 'serializable', may_fail => 1,
			args => [ '-c', 2, @retry, @scripts ] },
		reader => { least => 8, options => $iso . 'repeatable\ read', args => [ '-c', 1, '-f', $reader ] },
		serreader => { least => 4, options => $iso . 'serializable', may_fail => 1,
			args => [ '-c', 1, @retry, '-f', $reader ] },
		queries => { least => 8, options => $iso . 'repeatable\ read', args => [ '-c', 1, '-f', $queries ] },
		folder => { least => 5, args => [ '-c', 1, '-f', $folder ] } });

compared($node, 'stored', 0.3);
folded($node, 'postgres', 'stored');
verified($node, 'postgres', 'stored');
exact($node, 'postgres', 'primary');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
exact($standby, 'postgres', 'standby, caught up');
# What had more changes than are worth correcting is stored anew first.
ok($node->poll_query_until('postgres', q{SELECT bool_and(state = 'l') FROM scalecache.rollup}), 'all is stored');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
like($standby->safe_psql('postgres', 'EXPLAIN (ANALYZE) SELECT * FROM s_revenue'), qr/on s_revenue_stored.*Answered From: rollup/s,
	'the standby reads the stored groups');

# Nobody waits: neither for writers of the same table nor of others
my $one = $node->background_psql('postgres', on_error_stop => 1);
$one->query_safe(q{BEGIN;
	INSERT INTO purchase VALUES (1000000, 1, '2026-01-01');
	INSERT INTO item (purchase_id, price, qty) VALUES (1, 1, 1);
	UPDATE customer SET nation_id = 3 WHERE id = 2;
	UPDATE nation SET name = 'y' WHERE id = 2});
$node->safe_psql('postgres', q{SET lock_timeout = '1ms';
	INSERT INTO purchase VALUES (1000001, 1, '2026-01-01');
	INSERT INTO item (purchase_id, price, qty) VALUES (1, 1, 1);
	UPDATE customer SET nation_id = 4 WHERE id = 3;
	UPDATE nation SET name = 'x' WHERE id = 1});
pass('nobody waits');
exact($node, 'postgres', 'with a transaction open');
$one->query_safe('COMMIT');
$one->quit;

# A dump has no parts; they are made anew, and have their triggers
$node->safe_psql('postgres', 'CREATE DATABASE copy');
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ], 'dumped');
$node->command_ok([ 'psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('copy') ],
	'restored');
ok($node->poll_query_until('copy', q{SELECT count(*) = 4 FROM scalecache.rollup WHERE part = 1 AND state = 'l'}),
	'the copy has the groups of all stored');
$node->safe_psql('copy', q{UPDATE customer SET nation_id = 5 WHERE id < 20; INSERT INTO purchase VALUES (2000000, 7, '2026-09-09');
	INSERT INTO item (purchase_id, price, qty) VALUES (2000000, 5, 5)});
exact($node, 'copy', 'copy');
verified($node, 'copy', 'copy');
is($node->safe_psql('copy', q{SELECT count(*) FROM pg_trigger WHERE tgname ~ 'scalecache' AND NOT tgisinternal}),
	$node->safe_psql('postgres', q{SELECT count(*) FROM pg_trigger WHERE tgname ~ 'scalecache' AND NOT tgisinternal}),
	'the copy has as many triggers');

# The triggers of logs go with the rollup before there are logs again, whether
# they came with the view or after it had been taken over.
$node->safe_psql('postgres', 'ALTER SYSTEM SET scalecache.worker = off');
$node->reload;
for my $sections ([ '--section=pre-data', '--section=data', '--section=post-data' ], [''])
{
	my $how = @$sections > 1 ? 'in sections' : 'at once';

	$node->safe_psql('postgres', 'DROP DATABASE copy');
	$node->safe_psql('postgres', 'CREATE DATABASE copy');
	$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dump.c", '-d', $node->connstr('postgres') ], "dumped, $how");
	for my $section (@$sections)
	{
		$node->command_ok([ 'pg_restore', '-e', (@$sections > 1 ? $section : ()), '-d', $node->connstr('copy'), "$dump.c" ],
			"restored $how");
		$node->safe_psql('copy', 'CREATE TABLE other (); DROP TABLE other');
	}
	$node->safe_psql('copy', 'DROP VIEW ' . (sort keys %rollup)[0]);
	my ($ret, $out, $err) = $node->psql('copy', 'DROP EXTENSION scalecache');
	is($ret, 0, "restored $how: DROP EXTENSION") or diag($err);
	is($node->safe_psql('copy', q{SELECT count(*) FROM pg_trigger WHERE tgname ~ 'scalecache'}), '0',
		"restored $how: it leaves no trigger");
}

$standby->stop;
$node->stop;
done_testing();
