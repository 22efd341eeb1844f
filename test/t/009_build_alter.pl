# create_rollup_concurrently while the table is written to and altered in every
# way: each rollup that comes of it is right, and nothing is left of the others.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ScaleCache;
use Test::More;

my $rounds = $ENV{SC_ROUNDS} // 60;
my $node = new_server('build_alter', conf => "log_error_verbosity = verbose\ndeadlock_timeout = 100\n");
my $p = 'postgres';
# No internal error of writers, DDL or workers; but two commands of PostgreSQL's
# own can meet at a row of a catalog.
$ScaleCache::MEANT = qr/terminated by signal 9|tuple concurrently/;
srand(42);

$node->safe_psql($p, q{
	CREATE EXTENSION scalecache;
	CREATE SCHEMA elsewhere;
	CREATE TABLE t (id bigserial PRIMARY KEY, k int, v numeric, unused int, note text);
	CREATE TABLE p (id bigserial, k int, v numeric, unused int) PARTITION BY LIST (k);
	CREATE TABLE p0 PARTITION OF p FOR VALUES IN (0);
	CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
	CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2);
	CREATE TABLE pd PARTITION OF p DEFAULT;
	ALTER SEQUENCE t_id_seq OWNED BY NONE;
	INSERT INTO t (k, v) SELECT g % 5, g FROM generate_series(1, 3000) g;
	INSERT INTO p (k, v) SELECT g % 5, g FROM generate_series(1, 3000) g;
	-- How many rows differ while nobody writes
	CREATE FUNCTION differ(source text, rollup text, query text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		n int;
		v bigint;
	BEGIN
		IF to_regclass(rollup) IS NULL THEN
			RETURN 'none';
		END IF;
		EXECUTE format('LOCK TABLE %s IN SHARE MODE', source);
		SET LOCAL scalecache.enable_rewrite = off;
		EXECUTE format('SELECT count(*) FROM ((TABLE %1$s EXCEPT ALL (%2$s)) UNION ALL ((%2$s) EXCEPT ALL TABLE %1$s)) x', rollup, query) INTO n;
		v := scalecache.verify_rollup(rollup);
		IF n + v > 0 THEN
			RAISE EXCEPTION 'WRONG: % rows of %, % groups', n, rollup, v;
		END IF;
		RETURN 'same';
	END $$;
});

# What undoes the command before it, which it does in the end if that was done:
# a table that is somewhere else for good is no test of anything.
sub surely
{
	my ($sql) = @_;

	return "DO \$\$ BEGIN LOOP BEGIN $sql; EXIT; EXCEPTION
		WHEN undefined_table OR undefined_column THEN EXIT;
		WHEN lock_not_available OR deadlock_detected THEN END; END LOOP; END \$\$";
}

my %query = (
	t => 'SELECT k, sum(v) AS s, count(*) AS n, max(v) AS hi FROM t GROUP BY k',
	p => 'SELECT k, sum(v) AS s, count(*) AS n, max(v) AS hi FROM p GROUP BY k');
my %ddl = (
	t => [
		'ALTER TABLE t ADD extra int DEFAULT 5', 'ALTER TABLE t DROP extra', 'ALTER TABLE t DROP unused', 'ALTER TABLE t ADD unused int',
		'ALTER TABLE t ALTER unused TYPE bigint', 'ALTER TABLE t ALTER unused TYPE int', 'ALTER TABLE t ALTER v TYPE numeric(12,2)',
		'ALTER TABLE t RENAME v TO w; ' . surely('ALTER TABLE t RENAME w TO v'), 'TRUNCATE t', 'BEGIN; INSERT INTO t (k, v) VALUES (9, 9); TRUNCATE t; INSERT INTO t (k, v) SELECT g % 5, g FROM generate_series(1, 2000) g; COMMIT',
		'BEGIN; TRUNCATE t; ROLLBACK', 'ALTER TABLE t SET SCHEMA elsewhere; ' . surely('ALTER TABLE elsewhere.t SET SCHEMA public'), 'VACUUM FULL t', 'CLUSTER t USING t_pkey',
		'ALTER TABLE t DISABLE TRIGGER USER', 'ALTER TABLE t ENABLE TRIGGER USER',
		'CREATE TABLE kid () INHERITS (t); INSERT INTO kid (k, v) VALUES (1, 1), (2, 2)', 'ALTER TABLE kid NO INHERIT t', 'ALTER TABLE kid INHERIT t', 'DROP TABLE kid CASCADE',
		'ALTER TABLE t SET UNLOGGED; ' . surely('ALTER TABLE t SET LOGGED'), 'REINDEX TABLE t', 'ALTER TABLE t ALTER note SET DEFAULT 1',
		'BEGIN; CREATE TABLE t2 (LIKE t INCLUDING ALL); INSERT INTO t2 (k, v) SELECT g % 5, g FROM generate_series(1, 3000) g; DROP TABLE t CASCADE; ALTER TABLE t2 RENAME TO t; COMMIT',
	],
	p => [
		'ALTER TABLE p DETACH PARTITION p2', 'ALTER TABLE p ATTACH PARTITION p2 FOR VALUES IN (2)', 'ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY',
		'ALTER TABLE p ATTACH PARTITION p1 FOR VALUES IN (1)', 'DROP TABLE p2 CASCADE', 'CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2)',
		'ALTER TABLE p DETACH PARTITION p1 FINALIZE', 'DELETE FROM pd WHERE k IN (1, 2)',
		'TRUNCATE p', 'TRUNCATE p0', 'INSERT INTO p (k, v) SELECT g % 5, g FROM generate_series(1, 1000) g', 'ALTER TABLE p ADD extra int', 'ALTER TABLE p DROP extra',
		'ALTER TABLE p ALTER unused TYPE bigint', 'ALTER TABLE p ALTER unused TYPE int', 'ALTER TABLE p RENAME v TO w; ' . surely('ALTER TABLE p RENAME w TO v'),
		'ALTER TABLE p0 DISABLE TRIGGER ALL', 'ALTER TABLE p0 ENABLE TRIGGER ALL', 'VACUUM FULL p0', 'ALTER TABLE p0 ADD CHECK (v IS NOT NULL) NOT VALID',
		'ALTER TABLE p0 RENAME TO p00; ' . surely('ALTER TABLE p00 RENAME TO p0'),
	]);

# psql in the background, going on after errors; it needs nobody to feed it
my $nscripts = 0;
sub start_psql
{
	my ($sql) = @_;
	my $file = script($node, 'script' . $nscripts++, $sql);
	my %run = (out => "$file.out", err => "$file.err");

	$run{h} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr($p), '-f', $file ],
		'<', \undef, '>', $run{out}, '2>', $run{err});
	return \%run;
}

for my $t ('t', 'p')
{
	my $write = "SET client_min_messages = error;\n" . join('', map { my $i = $_; join '', map {
		"INSERT INTO $t (k, v) SELECT g % 5, g FROM generate_series($i, $i + 3) g;\n"
		. "UPDATE $t SET v = v + 1, k = (k + 1) % 5 WHERE id % 97 = $i % 97;\nDELETE FROM $t WHERE id % 101 = $i % 101;\n"
		. "BEGIN; UPDATE $t SET v = v - 1 WHERE id % 89 = $i % 89; SAVEPOINT a; INSERT INTO $t (k, v) VALUES (1, 1); ROLLBACK TO a; COMMIT;\n" } (1 .. 4) } (1 .. $rounds));
	my $alter = "SET client_min_messages = error; SET lock_timeout = 3000;\n"
		. join('', map { $ddl{$t}[ int(rand(@{ $ddl{$t} })) ] . ";\nROLLBACK;\n" } (1 .. 3 * $rounds));
	my $build = "SET client_min_messages = error; SET scalecache.trigger_lock_timeout = 50;\n";

	for my $i (1 .. $rounds)
	{
		$build .= "CALL scalecache.create_rollup_concurrently('r_$t', '$query{$t}');\n"
			. "SELECT differ('$t', 'r_$t', '$query{$t}');\n" x 3;
		$build .= $i % 3 ? "DROP VIEW IF EXISTS r_$t;\n" : "SELECT scalecache.drop_rollup('r_$t');\n";
	}
	my @runs = map { start_psql($_) } ($write, $write, $alter, $build);
	$_->{h}->finish for @runs;
	my $built = { map { $_ => slurp_file($runs[3]{$_}) } ('out', 'err') };
	unlike($built->{err}, qr/WRONG/, "$t: no rollup was wrong") or diag($built->{err} =~ /^(.*WRONG.*)$/mg);
	my $same = () = $built->{out} =~ /same/g;
	note("$t: $same comparisons");
	cmp_ok($same, '>', $rounds / 6, "$t: rollups were compared");
	my %errors;
	$errors{$_}++ for $built->{err} =~ /ERROR:\s+(\w{5}: .*)$/mg;
	note("$t: $errors{$_} times $_") for sort keys %errors;
	is(join("\n", grep { /^XX/ } keys %errors), '', "$t: no internal error");
	$node->safe_psql($p, "DROP VIEW IF EXISTS r_$t");
}

is( $node->safe_psql($p, q{SELECT
	(SELECT count(*) FROM scalecache.rollup), (SELECT count(*) FROM scalecache.fold),
	(SELECT string_agg(relname, ' ') FROM pg_class WHERE relnamespace = 'scalecache_data'::regnamespace),
	(SELECT count(*) FROM pg_trigger WHERE tgfoid::regproc::text ~ 'scalecache' AND tgrelid::regclass::text !~ 'scalecache')}),
	'0|0||0', 'nothing is left');
$node->stop;
done_testing();
