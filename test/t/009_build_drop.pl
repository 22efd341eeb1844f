# Rollups, their tables, and the extension come and go while sessions that know
# nothing yet look at all of them, others write, and the worker folds: these
# have no lock on what goes.  Whoever only uses the tables meets no error, and
# nobody an internal one, which ScaleCache.pm looks for.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ScaleCache;
use Test::More;

my $rounds = $ENV{SC_ROUNDS} // 12;
my $p = 'postgres';
my $node = new_server('build_drop', conf => "log_statement = none\ndeadlock_timeout = 100\n");
# DROP SCHEMA locks a table before its views, so nobody else locks those of s.
my $groups = 'sum(v) AS s, count(*) AS n, max(v) AS hi';

sub create { return map { "SELECT scalecache.create_rollup('$_->[0]', '$_->[1]');\n" } @_; }
sub rows { return "INSERT INTO $_[0] SELECT g % 5, g FROM generate_series(1, 10) g;\n"; }

my $setup = join('', 'CREATE EXTENSION scalecache;
	CREATE TABLE t (k int, v numeric); CREATE TABLE d (k int PRIMARY KEY, name text);
	CREATE TABLE p (k int, v numeric) PARTITION BY LIST (k); CREATE TABLE p0 PARTITION OF p DEFAULT;
	INSERT INTO d SELECT g, g % 3 FROM generate_series(0, 4) g;',
	map { rows($_) } ('t', 'p'));
$node->safe_psql($p, "CREATE DATABASE other; $setup" . join('', create(['kept', "SELECT k, $groups FROM t GROUP BY k"])));
$node->safe_psql('other', $setup);

# Who makes and drops: none of them fails.
my %makes = (
	views => join('', "BEGIN;\n",
		create((map { [ "r$_", "SELECT k, $groups FROM t GROUP BY k" ] } (1 .. 5)),
			[ 'j', 'SELECT d.name, sum(t.v) AS s FROM t JOIN d ON d.k = t.k GROUP BY d.name' ]),
		"COMMIT;\n", rows('t'), "DROP VIEW r1, r2;\nDROP VIEW r3, r4, r5, j;\n"),
	parts => join('', create([ 'rp', "SELECT k, $groups FROM p GROUP BY k" ],
			[ 'rpj', 'SELECT d.name, sum(p.v) AS s FROM p JOIN d ON d.k = p.k GROUP BY d.name' ]),
		"CREATE TABLE p1 PARTITION OF p FOR VALUES IN (11);\nINSERT INTO p VALUES (11, 1);\nTRUNCATE p1;\n",
		"ALTER TABLE p DETACH PARTITION p1;\nALTER TABLE p ATTACH PARTITION p1 FOR VALUES IN (11);\nDROP TABLE p1;\n",
		"DROP VIEW rp;\nDROP VIEW rpj;\n"),
	schema => join('', "CREATE SCHEMA s;\nCREATE TYPE s.kind AS ENUM ('a', 'b');\n",
		"CREATE FUNCTION s.one(s.kind) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';\n",
		"CREATE TABLE s.t (k s.kind, v numeric);\n",
		create([ 's.r', "SELECT k, s.one(k) AS one, $groups FROM s.t GROUP BY k" ]),
		"SELECT scalecache.create_cache_rule('s', 's.r', 's:{k}');\n",
		"INSERT INTO s.t VALUES ('a', 1);\nDROP SCHEMA s CASCADE;\n"),
	extension => join('', create([ 'r', "SELECT k, $groups FROM t GROUP BY k" ],
			[ 'rp', "SELECT k, $groups FROM p GROUP BY k" ]),
		"SELECT scalecache.create_cache_rule('t', 't', 't:{k}');\n", rows('t'),
		# It may deadlock with who uses the extension's own tables, but the tables' users never do.
		"DO \$\$ BEGIN LOOP BEGIN DROP EXTENSION scalecache CASCADE; EXIT;
			EXCEPTION WHEN deadlock_detected THEN END; END LOOP; END \$\$;\nCREATE EXTENSION scalecache;\n"),
);
# Who is there meanwhile
my $write = rows('t') . "DELETE FROM t WHERE v < 3;\nINSERT INTO t VALUES (1, 1);\n" . rows('p') . "UPDATE p SET v = v + 1 WHERE k = 1;\n";
my $read = "SELECT k, sum(v) FROM t GROUP BY k;\nSELECT name, sum(v) FROM t JOIN d USING (k) GROUP BY name;\nSELECT k, sum(v) FROM p GROUP BY k;\n";
my %meanwhile = (
	look => [ $p, "SELECT count(query) FROM scalecache.rollups;\n", '-C', '-c2' ],
	write => [ $p, $write ],
	read => [ $p, $read, '-C' ],
	# The table's entry in relation caches is made anew
	touch => [ $p, "SELECT scalecache.set_rollup_rewrite('kept', true);\n" ],
	maintain => [ $p, join('', map { "DO \$\$ BEGIN PERFORM scalecache.$_(rollup) FROM
		(SELECT rollup FROM scalecache.rollup WHERE part = 0 AND rollup::text <> 's.r' ORDER BY random() LIMIT 1) x;
		EXCEPTION WHEN undefined_table OR wrong_object_type OR undefined_object OR deadlock_detected THEN END \$\$;\n" }
		('fold_rollup', 'verify_rollup', 'rebuild_rollup')) ],
	suggest => [ $p, 'SELECT count(*) FROM scalecache.suggest_rollups(ARRAY[' .
		join(', ', map { "'SELECT k, max(v) FROM $_ GROUP BY k'" } ('s.t', ('t', 'p') x 50)) . "]);\n" ],
	write_other => [ 'other', $write ],
	read_other => [ 'other', $read, '-C' ],
);
my (%making, %running);
for my $name (sort keys %meanwhile)
{
	my ($db, $text, @args) = @{ $meanwhile{$name} };

	local $ScaleCache::DATABASE = $db;
	$running{$name} = start_pgbench($node, '-T3600', @args, '-f', script($node, $name, $text));
}
for my $name (sort keys %makes)
{
	local $ScaleCache::DATABASE = $name eq 'extension' ? 'other' : $p;
	$making{$name} = start_pgbench($node, '-t', $rounds, '-f', script($node, $name, $makes{$name}));
}
for my $name (sort keys %makes)
{
	$making{$name}{h}->finish;
	is($making{$name}{h}->result(0), 0, "$name: made and dropped") or diag($making{$name}{err});
}
for my $name (sort keys %running)
{
	ok($running{$name}{h}->pumpable, "$name: went on meanwhile");
}
end_pgbench($node, $running{$_}) for sort keys %running;
unlike($running{$_}{err}, qr/ERROR/, "$_: no error") for sort keys %running;
folded($node, $p, 'in the end');
verified($node, $p, 'in the end');
$node->stop;
done_testing();
