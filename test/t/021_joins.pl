# Rollups of joins, and joined queries answered from them, while writers of all
# the tables run in every isolation level.  Readers compare with the plain
# queries in one snapshot.
#
# SCALECACHE_TEST_SECONDS is the time of a round of the load, 12 by default.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use ScaleCache;
use Test::More;

my $seconds = $ENV{SCALECACHE_TEST_SECONDS} || 12;

my $node = new_server('joins');

$node->safe_psql('postgres', "CREATE EXTENSION scalecache; $COMPARE" . q{
CREATE TABLE category (id int PRIMARY KEY, name text);
CREATE TABLE product (id int PRIMARY KEY, category_id int, price numeric(10,2), label text);
CREATE TABLE orders (id bigserial PRIMARY KEY, product_id int, d timestamptz, amount numeric, qty int);
INSERT INTO category SELECT g, 'c' || g % 4 FROM generate_series(1, 6) g;
INSERT INTO product SELECT g, g % 8, g, 'p' || g % 5 FROM generate_series(1, 20) g;
CREATE INDEX ON orders (d);
INSERT INTO orders (product_id, d, amount, qty)
SELECT g % 25, timestamptz '2026-01-01 UTC' + g % 100 * interval '1 day', g, g % 4 FROM generate_series(1, 100000) g;
ANALYZE category, product, orders;
});

# Rollup, columns compared, query
my %rollup = (
	j_inner => [ 'name, month, s, n, lo, hi',
		q{SELECT c.name, date_trunc('month', o.d) AS month, sum(o.amount) AS s, count(*) AS n,
			min(o.amount) AS lo, max(o.amount) AS hi
		  FROM orders o JOIN product p ON p.id = o.product_id JOIN category c ON c.id = p.category_id
		  GROUP BY 1, 2} ],
	j_left => [ 'name, known, n, s, prices',
		q{SELECT c.name, count(p.id) AS known, count(*) AS n, sum(o.amount) AS s, sum(p.price) AS prices
		  FROM orders o LEFT JOIN product p ON p.id = o.product_id
		  LEFT JOIN category c ON c.id = p.category_id GROUP BY 1} ],
	j_mixed => [ 'label, revenue, dear, cats',
		q{SELECT p.label, sum(o.qty * p.price) AS revenue, sum(o.amount) FILTER (WHERE p.price > 8) AS dear,
			count(DISTINCT p.category_id) AS cats
		  FROM product p, orders o WHERE o.product_id = p.id AND o.amount > 5 GROUP BY 1} ],
	j_range => [ 'n, s',
		q{SELECT count(*) AS n, sum(o.amount) AS s FROM orders o
		  JOIN product p ON o.product_id BETWEEN p.id - 1 AND p.id + 1} ],
	r_month => [ 'product_id, m, s',
		q{SELECT product_id, date_trunc('month', d) AS m, sum(amount) AS s, max(amount) AS hi FROM orders GROUP BY 1, 2} ],
	r_plain => [ 'product_id, s, n',
		q{SELECT product_id, sum(amount) AS s, count(*) AS n FROM orders GROUP BY 1} ]);

$node->safe_psql('postgres', "SELECT scalecache.create_rollup('$_', \$\$$rollup{$_}[1]\$\$)")
  for sort keys %rollup;

my $random = q{
\set i random(1, 100000)
\set p random(0, 25)
\set c random(0, 8)
\set v random(-1000, 1000)
\set n random(1, 20)
\set m random(0, 100)
};
my $row = q{:p, timestamptz '2026-01-01 UTC' + :m * interval '1 day', :v / 10.0, :n % 5};
my @writers = (
	[ 'insert', 4, "INSERT INTO orders (product_id, d, amount, qty) VALUES ($row);" ],
	[ 'multi', 1, q{INSERT INTO orders (product_id, d, amount, qty)
		SELECT :p + g, timestamptz '2026-02-01 UTC', g, g % 3 FROM generate_series(1, :n) g;} ],
	[ 'update', 3, 'UPDATE orders SET amount = amount + :n, product_id = :p WHERE id = :i;' ],
	[ 'delete', 3, 'DELETE FROM orders WHERE id = :i;' ],
	[ 'both', 2, qq{
BEGIN;
INSERT INTO orders (product_id, d, amount, qty) VALUES ($row);
UPDATE product SET category_id = :c WHERE id = :p;
SAVEPOINT a;
DELETE FROM orders WHERE id = :i;
UPDATE category SET name = 'c' || :n % 5 WHERE id = :c;
ROLLBACK TO a;
COMMIT;} ],
	[ 'product', 2, "UPDATE product SET category_id = :c, price = :n, label = 'p' || :n % 5 WHERE id = :p;" ],
	[ 'category', 2, "UPDATE category SET name = 'c' || :n % 4 WHERE id = :c;" ],
	[ 'come', 1, 'INSERT INTO product VALUES (:p, :c, :n, \'p\') ON CONFLICT DO NOTHING;' ],
	[ 'go', 1, 'DELETE FROM product WHERE id = :p;' ]);
my @scripts = map { ('-f', script($node, $_->[0], $random . $_->[2] . "\n") . "\@$_->[1]") } @writers;

my $folder = script($node, 'folder', join("\n",
		map { "SELECT scalecache.fold_rollup('$_');" } sort keys %rollup) . "\n");
# Ordinary queries, answered from any of the rollups
my $asked = q{SELECT compare('%s', $q$%s$q$, $q$%s$q$);};
my $rows = q{SELECT array_agg(whole_row::text ORDER BY whole_row::text) FROM (%s) whole_row};
my %query = (
	q_name => q{SELECT c.name, sum(o.amount), count(*) FROM orders o JOIN product p ON p.id = o.product_id
		JOIN category c ON c.id = p.category_id GROUP BY 1},
	q_label => q{SELECT p.label, sum(o.amount), avg(o.amount), sum(p.price) FROM orders o
		LEFT JOIN product p ON p.id = o.product_id GROUP BY 1},
	q_sets => q{SELECT upper(c.name), p.label, grouping(p.label), sum(o.amount), count(*), max(o.amount) FROM orders o JOIN product p ON p.id = o.product_id
		LEFT JOIN category c ON c.id = p.category_id WHERE o.d > '2026-01-15' GROUP BY ROLLUP (1, 2)},
	q_case => q{SELECT p.id % 3, sum(CASE WHEN p.price > 8 THEN o.amount ELSE 0 END), sum(p.id % 3), count(*) FILTER (WHERE p.label = 'p1')
		FROM orders o JOIN product p ON p.id = o.product_id GROUP BY 1},
	q_lateral => q{SELECT l.n, sum(o.amount) FROM orders o, LATERAL (SELECT count(*) AS n FROM product p WHERE p.id < o.product_id) l GROUP BY 1},
	q_exists => q{SELECT sum(amount), count(*) FROM orders o WHERE EXISTS
		(SELECT FROM product p WHERE p.id = o.product_id AND p.price > 5)});
my $queries = script($node, 'queries', join("\n",
		map { my $q = sprintf($rows, $query{$_}); sprintf($asked, $_, $q, $q) } sort keys %query) . "\n");

my $iso = '-c default_transaction_isolation=';
my @retry = ('--max-tries=1', '--failures-detailed');
run_loads($node, 'joins',
	seconds => $seconds,
	loads => {
		rc => { least => 400, options => $iso . 'read\ committed',
			args => [ '-c', 4, @scripts ] },
		rr => { least => 100, options => $iso . 'repeatable\ read', may_fail => 1,
			args => [ '-c', 2, @retry, @scripts ] },
		ser => { least => 50, options => $iso . 'serializable', may_fail => 1,
			args => [ '-c', 2, @retry, @scripts ] },
		reader => { least => 8, options => $iso . 'repeatable\ read',
			args => [ '-c', 1, '-f', comparing_script($node, 'reader', \%rollup) ] },
		queries => { least => 8, options => $iso . 'repeatable\ read',
			args => [ '-c', 1, '-f', $queries ] },
		folder => { least => 5, args => [ '-c', 1, '-f', $folder ] } });

# The planner may read the tables for a ragged range.
compared($node, 'joins', 0.7);
folded($node, 'postgres', 'joins');
verified($node, 'postgres', 'joins');

# Writers of the source do not wait for each other, nor for others' writers
my $one = $node->background_psql('postgres', on_error_stop => 1);
$one->query_safe(q{BEGIN;
	INSERT INTO orders (product_id, d, amount, qty) VALUES (1, '2026-01-01', 1, 1);
	UPDATE product SET category_id = 1 WHERE id = 2});
$node->safe_psql('postgres', q{SET lock_timeout = '1ms';
	INSERT INTO orders (product_id, d, amount, qty) VALUES (1, '2026-01-01', 1, 1);
	UPDATE category SET name = 'x' WHERE id = 1;
	UPDATE product SET price = 3 WHERE id = 1});
pass('nobody waits');
$one->query_safe('COMMIT');
$one->quit;

# A dump, restored, has them again, and what they depend on.  In one
# transaction: the worker must not make the triggers before the dump does.
$node->safe_psql('postgres', q{CREATE VIEW "their Orders" AS SELECT product_id, amount FROM orders WHERE amount > 0;
	SELECT scalecache.create_rollup('v_view', 'SELECT product_id, sum(amount) FROM "their Orders" GROUP BY 1')});
$node->safe_psql('postgres', 'CREATE DATABASE copy');
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ], 'dumped');
$node->command_ok([ 'psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('copy') ],
	'restored');
ok($node->poll_query_until('copy', q{SELECT count(*) = 7 FROM scalecache.rollups WHERE state = 'live'}),
	'the copy is live');
$node->safe_psql('copy', q{INSERT INTO orders (product_id, d, amount, qty) VALUES (3, '2026-01-01', 100, 2)});
verified($node, 'copy', 'copy');
like($node->safe_psql('copy', 'EXPLAIN SELECT * FROM j_left'), qr/ScaleCacheRollup/, 'copy: answered from the rollup');
for my $db ('postgres', 'copy')
{
	my (undef, undef, $err) = $node->psql($db, 'DROP VIEW "their Orders"');
	like($err, qr/view v_view depends on view "their Orders"/, "$db: a rollup of a view depends on it");
}
$node->safe_psql('copy', 'DROP VIEW "their Orders" CASCADE');
is($node->safe_psql('copy', q{SELECT count(*) FROM scalecache.rollups WHERE rollup::text ~ 'v_view'}),
	'0', 'copy: and goes with it');
no_deadlock($node);

$node->stop;
done_testing();
