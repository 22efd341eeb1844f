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
restart_after_crash = on
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
	FROM scalecache.workload WHERE source = 'recorded' AND text ~ '^(SELECT v|UPDATE t)' ORDER BY 1};
my $before = $node->safe_psql($db, $state);
$node->restart;
is($node->safe_psql($db, $state), $before, 'a restart keeps the workload');
sub crash
{
	crash_by($node, $node->safe_psql($db, q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'}))
	  or die 'cannot kill the checkpointer';
}
crash();
is($node->safe_psql($db, $state), $before, 'so does a crash, as of the last restart');
$node->stop('immediate');
$node->start;
is($node->safe_psql($db, $state), $before, 'and an immediate shutdown');

# What is forgotten does not come back after a crash; what other databases
# recorded does.
$node->safe_psql($db, 'CREATE DATABASE second');
$node->safe_psql('second', 'CREATE EXTENSION scalecache; CREATE TABLE own (id int PRIMARY KEY)');
$node->safe_psql('second', 'SELECT FROM own WHERE id = 1');
$node->restart;
$node->safe_psql($db, 'SELECT scalecache.reset_workload()');
crash();
my $recorded = q{SELECT count(*) FROM scalecache.workload WHERE source = 'recorded' AND text !~ 'scalecache'};
is($node->safe_psql($db, $recorded), '0', 'after a crash what was forgotten stays so');
is($node->safe_psql('second', q{SELECT text FROM scalecache.workload WHERE source = 'recorded' AND text ~ '^SELECT FROM own'}),
	'SELECT FROM own WHERE id = 1', 'but not what another database recorded');
$node->safe_psql('second', 'SELECT scalecache.reset_workload()');
crash();
is($node->safe_psql('second', $recorded), '0', 'until it is forgotten, too');
$node->safe_psql($db, 'DROP DATABASE second');

for my $mode (qw(simple extended prepared))
{
	my $run = start_pgbench($node, '-M', $mode, '-c', 4, '-t', 250, '-f', $lookup);
	$run->{h}->finish;
}
$before = $node->safe_psql($db, $state);
$node->stop;
my $file = $node->data_dir . '/pg_stat/scalecache_workload.stat';
my $saved = slurp_file($file);
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

# A file that is right but for what is in a sample, as after a fault of ours.
sub crc32c
{
	my ($data) = @_;
	my $crc = 0xffffffff;
	foreach my $byte (unpack('C*', $data))
	{
		$crc ^= $byte;
		$crc = $crc & 1 ? ($crc >> 1) ^ 0x82f63b78 : $crc >> 1 foreach 1 .. 8;
	}
	return $crc ^ 0xffffffff;
}
sub entry
{
	my ($id, $text, $settings, @samples) = @_;
	my ($dboid) = $node->safe_psql($db, "SELECT oid FROM pg_database WHERE datname = '$db'");
	my $data = pack('q L L Q Q d d d q Q L l', $id, $dboid, 10, 5, 5, 1, 5, 0, 0, scalar @samples, scalar @samples, -1);
	$data .= pack('L/a*', "$text\0") . pack('L/a*', $settings);
	$data .= pack('Q L/a*', 1, $_) foreach @samples;
	return $data . pack('L', crc32c($data));
}
my $settings = "public\0ISO\0postgres\0UTC\0on\0";
my $right = entry(1, 'SELECT v FROM t WHERE id = $1', $settings, pack('a l L l/a*', 'p', 1, 23, '7'));
my $odd = entry(2, 'SELECT v FROM t WHERE v = $1', 'public', 't', 'x', 'p', pack('a l', 'p', -1), pack('a l', 'p', 2000000000),
	pack('a l L l a*', 'p', 1, 23, 2000000000, '7'), "tpublic\0ISO\0", 'p' . "\xff" x 40);
my $other = entry(3, 'SELECT v FROM t WHERE v > $1', $settings, pack('a l L l', 'p', 1, 23, -1));
$node->stop;
open($again, '>:raw', $file) or die $!;
print $again substr($saved, 0, 8), $right, $odd, $other;
close $again;
$node->start;
is( $node->safe_psql($db, q{SELECT query_id, text, samples FROM scalecache.workload WHERE query_id BETWEEN 1 AND 3 ORDER BY 1}),
	join("\n", '1|SELECT v FROM t WHERE id = $1|[{"count": 1, "parameters": ["7"]}]', '2|SELECT v FROM t WHERE v = $1|[]',
		'3|SELECT v FROM t WHERE v > $1|[{"count": 1, "parameters": [null]}]'), 'samples that are none are left out');
is($node->safe_psql($db, 'SELECT count(*) FROM scalecache.suggest_indexes()'), '0', 'and nobody is bothered by them');

# Whatever the file is, the server starts.
srand(4);
for my $round (1 .. 12)
{
	my $damaged = $saved;
	substr($damaged, int(rand(length $damaged)), int(rand 9)) = join '', map { chr int rand 256 } 1 .. int(rand 9) foreach 1 .. 1 + rand 4;
	$damaged = substr($damaged, 0, rand length $damaged) if $round % 3 == 0;
	substr($damaged, 8 + int(rand 200), 4) = "\xff\xff\xff\x7f" if $round % 4 == 0;
	$node->stop;
	open($again, '>:raw', $file) or die $!;
	print $again $damaged;
	close $again;
	$node->start;
	$node->safe_psql($db, 'SELECT * FROM scalecache.workload; SELECT * FROM scalecache.suggest_indexes()');
}
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|invalid memory alloc|terminated by signal 1?1\b/, 'damaged files are survived');

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
