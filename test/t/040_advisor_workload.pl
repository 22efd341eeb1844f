# The recorded workload: under load, over restarts, with little memory, and
# seeded by pg_stat_statements.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use ScaleCache;
use Test::More;

my $node = new_server('advisor', conf => q{
shared_preload_libraries = 'pg_stat_statements, scalecache'
scalecache.advisor_max_statements = 100
scalecache.advisor_memory = 1MB
});
my $db = 'postgres';

$node->safe_psql($db, q{
	CREATE EXTENSION pg_stat_statements;
	CREATE EXTENSION scalecache;
	CREATE TABLE t (id int PRIMARY KEY, v int);
	INSERT INTO t SELECT i, 0 FROM generate_series(1, 1000) i;
	SELECT scalecache.reset_workload();
});

# Many at once: every execution is counted, and only once.
my $lookup = script($node, 'lookup', q{
\set id random(1, 1000)
SELECT v FROM t WHERE id = :id;
UPDATE t SET v = v + 1 WHERE id = :id;
});
for my $mode (qw(simple extended prepared))
{
	my $run = start_pgbench($node, '-M', $mode, '-c', 4, '-t', 250, '-f', $lookup);
	$run->{h}->finish;
	like($run->{out}, qr/actually processed: 1000\/1000/, "$mode: the load ran");
}
is( $node->safe_psql($db, q{
	SELECT calls, rows, jsonb_array_length(samples) > 3, total_time_ms > 0
	FROM scalecache.workload WHERE text ~ '^(SELECT v|UPDATE t)' ORDER BY text ~ 'UPDATE', calls DESC}),
	join("\n", ('2000|2000|t|t', '1000|1000|t|t') x 2), 'every execution is counted');

# It is forgotten again and again while others record and somebody asks for
# advice, and then counted rightly.
{
	my $run = start_pgbench($node, '-M', 'prepared', '-c', 4, '-t', 2000, '-f', $lookup);
	my $rounds = 0;
	my %odd;
	while ($run->{h}->pumpable || $rounds < 10)
	{
		$node->safe_psql($db, 'SELECT scalecache.reset_workload()');
		$odd{$_}++ foreach grep { !/^(SELECT v FROM|UPDATE t SET v)/ } split /\n/,
		  $node->safe_psql($db, q{SELECT text FROM scalecache.workload WHERE source = 'recorded' AND text ~ ' t ' AND calls > 0});
		$node->safe_psql($db, 'SELECT count(*) FROM scalecache.suggest_indexes()');
		$run->{h}->pump_nb if $run->{h}->pumpable;
		$rounds++;
	}
	$run->{h}->finish;
	like($run->{out}, qr/actually processed: 8000\/8000/, 'the load runs while it is forgotten');
	is(join(', ', keys %odd), '', 'nothing is mixed up');
	$node->safe_psql($db, 'SELECT scalecache.reset_workload()');
	$run = start_pgbench($node, '-M', 'prepared', '-c', 4, '-t', 250, '-f', $lookup);
	$run->{h}->finish;
	is( $node->safe_psql($db, q{SELECT calls, rows FROM scalecache.workload WHERE text ~ '^(SELECT v|UPDATE t)'
		AND source = 'recorded'}), "1000|1000\n1000|1000", 'and every execution is counted again');
}

# A restart keeps it, a crash at least does no harm.
my $state = q{SELECT query_id, calls, rows, text, samples, first_seen
	FROM scalecache.workload WHERE text ~ '^(SELECT v|UPDATE t)' ORDER BY 1};
my $before = $node->safe_psql($db, $state);
$node->restart;
is($node->safe_psql($db, $state), $before, 'a restart keeps the workload');
$node->stop('immediate');
$node->start;
is($node->safe_psql($db, $state), $before, 'so does a crash, as of the last restart');
$node->stop;
my $file = $node->data_dir . '/pg_stat/scalecache_workload.stat';
my $saved = slurp_file($file);
$node->start;
$node->safe_psql($db, 'SELECT scalecache.reset_workload()');
$node->stop('immediate');
$node->start;
is($node->safe_psql($db, q{SELECT count(*) FROM scalecache.workload WHERE source = 'recorded'}), '0',
	'but not what was forgotten');
$node->stop;
open(my $again, '>:raw', $file) or die $!;
print $again $saved;
close $again;
append_to_file($file, 'junk');
$node->start;
is($node->safe_psql($db, $state), $before, 'junk at the end of the file is ignored');
$node->stop;
{
	my $file = $node->data_dir . '/pg_stat/scalecache_workload.stat';
	truncate($file, (-s $file) / 2) or die $!;
}
$node->start;
is($node->safe_psql($db, 'SELECT 1'), '1', 'a file cut short is survived');

# Bytes that have changed: what comes before them is read, and nothing else.
my $all = q{SELECT query_id, calls, rows, text, samples FROM scalecache.workload WHERE source = 'recorded' AND text ~ 'FROM t ' ORDER BY 1};
$node->stop;
open($again, '>:raw', $file) or die $!;
print $again $saved;
close $again;
$node->start;
my %known = map { $_ => 1 } split /\n/, $node->safe_psql($db, $all);
my @wrong;
for my $part (3 .. 7)
{
	my $damaged = $saved;
	substr($damaged, length($saved) * $part / 8, 3) ^= "\x05\x05\x05";
	$node->stop;
	open($again, '>:raw', $file) or die $!;
	print $again $damaged;
	close $again;
	$node->start;
	push @wrong, grep { !$known{$_} } split /\n/, $node->safe_psql($db, $all);
}
is("@wrong", '', 'damaged entries of a file are not read');

# More statements than places, and more text than memory: the least used go.
$node->safe_psql($db, 'SELECT scalecache.reset_workload()');
$node->safe_psql($db, 'SELECT v FROM t WHERE id = 1;' x 50);
$node->safe_psql($db, join ';',
	map { 'SELECT v' . ' + v' x $_ . " FROM t WHERE id = $_" } 1 .. 300);
is( $node->safe_psql($db, q{SELECT count(*) BETWEEN 50 AND 100,
		count(*) FILTER (WHERE calls = 50)
	FROM scalecache.workload WHERE source = 'recorded'}), 't|1', 'the least used go');
$node->safe_psql($db, join ';',
	map { 'SELECT v' . ' - v' x $_ . " FROM t WHERE id = $_ /* " . 'x' x 30000 . ' */' } 1 .. 100);
is( $node->safe_psql($db, q{SELECT count(*) > 5, sum(length(text)) < 1024 * 1024
	FROM scalecache.workload WHERE source = 'recorded'}), 't|t', 'memory is bounded');

# What was not recorded is taken from pg_stat_statements.
$node->safe_psql($db, 'SELECT scalecache.reset_workload()');
$node->safe_psql($db, q{
	SET scalecache.advisor_record = off;
	SELECT count(*) FROM t WHERE v = 17;
});
is( $node->safe_psql($db, q{SELECT calls, rows, text, source FROM scalecache.workload
	WHERE text ~ 'WHERE v ='}),
	'1|1|SELECT count(*) FROM t WHERE v = $1|pg_stat_statements',
	'pg_stat_statements seeds');

# An old version of it has other columns; and who may not use it is told the rest.
$node->safe_psql($db, q{
	DROP EXTENSION pg_stat_statements;
	CREATE SCHEMA elsewhere;
	CREATE EXTENSION pg_stat_statements SCHEMA elsewhere VERSION '1.4';
	CREATE ROLE anybody IN ROLE pg_read_all_stats;
});
my $seeded = q{SELECT count(*) > 0 FROM scalecache.workload WHERE source = 'pg_stat_statements' AND total_time_ms > 0};
is($node->safe_psql($db, $seeded), 't', 'an old pg_stat_statements');
my $as_anybody = "SET ROLE anybody; $seeded; SELECT count(*) FROM scalecache.suggest_indexes()";
is($node->safe_psql($db, $as_anybody), "f\n0", 'one in a schema that the user may not use');
$node->safe_psql($db, 'GRANT USAGE ON SCHEMA elsewhere TO anybody; REVOKE SELECT ON elsewhere.pg_stat_statements FROM PUBLIC');
is($node->safe_psql($db, $as_anybody), "f\n0", 'one that he may not read');
$node->safe_psql($db, 'GRANT SELECT ON elsewhere.pg_stat_statements TO anybody');
is($node->safe_psql($db, $as_anybody), "t\n0", 'and one that he may');

# Each database sees its own.
$node->safe_psql($db, 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION scalecache');
is($node->safe_psql('other', q{SELECT count(*) FROM scalecache.workload WHERE text ~ 'FROM t '}),
	'0', 'statements of other databases are not shown');

# Not preloaded: a clear error.
my $bare = new_server('bare', preload => 0);
my ($ret, $out, $err) = $bare->psql($db,
	'CREATE EXTENSION scalecache; SELECT * FROM scalecache.workload');
like($err, qr/nothing is recorded.*shared_preload_libraries/s, 'without the library preloaded');

done_testing();
