# Random statements by sqlsmith, on tables with rollups, by somebody who may
# write to them: the server must not crash.  Skipped where sqlsmith is not
# installed.  SCALECACHE_SQLSMITH_QUERIES is how many, 500 by default, and
# SCALECACHE_SQLSMITH_SEED which.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use ScaleCache;
use PostgreSQL::Test::Utils;
use Test::More;

# PostgreSQL's own internal errors are found by random statements, too: what is
# checked below is that none is raised by the library.
$ScaleCache::MEANT = qr/terminated by signal 9|XX000 sqlsmith::dut /;
my %own = map { (split(m{/}, $_))[-1] => 1 } glob("$FindBin::RealBin/../../src/*.c $FindBin::RealBin/../../src/*/*.c");
die 'the sources are not where they were' unless $own{'capture.c'};

my ($sqlsmith) = grep { -x } map { "$_/sqlsmith" } split(/:/, $ENV{PATH});
plan skip_all => 'sqlsmith is not installed' unless $sqlsmith;

my $queries = $ENV{SCALECACHE_SQLSMITH_QUERIES} || 500;
# The same ones by default: others may find faults of PostgreSQL's, or of
# sqlsmith's, and are for who looks for some.
my $seed = $ENV{SCALECACHE_SQLSMITH_SEED} // 42;
my $node = new_server('sqlsmith', conf => q{
statement_timeout = '2s'
jit = off
log_error_verbosity = verbose
max_parallel_workers_per_gather = 1
});
$node->safe_psql('postgres', q{
CREATE ROLE smith LOGIN;
CREATE SCHEMA smith AUTHORIZATION smith;
CREATE EXTENSION scalecache;
SET ROLE smith;
CREATE TABLE smith.t (id int PRIMARY KEY, at timestamptz NOT NULL, day date, k int, c text, v numeric(12,2), n int, f float8);
INSERT INTO smith.t SELECT i, timestamptz '2024-01-01' + i * interval '31 minutes', date '2024-01-01' + i % 50, i % 11,
	(array['a', 'b', 'c', NULL])[1 + i % 4], i / 4.0, i % 20, i / 3.0 FROM generate_series(1, 5000) i;
CREATE TABLE smith.p (a int, b text) PARTITION BY LIST (a);
CREATE TABLE smith.p1 PARTITION OF smith.p FOR VALUES IN (1, 2);
CREATE TABLE smith.p2 PARTITION OF smith.p DEFAULT;
INSERT INTO smith.p SELECT i % 5, i::text FROM generate_series(1, 1000) i;
RESET ROLE;
SELECT scalecache.create_rollup('smith.monthly', 'SELECT date_trunc(''month'', at) AS m, c, sum(v) AS s, count(*) AS n, min(k) AS lo, max(f) AS hi FROM smith.t GROUP BY 1, 2');
SELECT scalecache.create_rollup('smith.keys', 'SELECT k, n, day, sum(f) AS f, count(DISTINCT c) AS d, string_agg(c, '','') AS l FROM smith.t GROUP BY 1, 2, 3');
SELECT scalecache.create_rollup('smith.total', 'SELECT count(*) AS n, bool_and(n > 3) AS b FROM smith.t');
SELECT scalecache.create_rollup('smith.parts', 'SELECT a, count(*) AS n, max(b) AS b FROM smith.p GROUP BY 1');
VACUUM ANALYZE;
});
my $target = sprintf("host=%s port=%s dbname=postgres user=smith", $node->host, $node->port);
my ($out, $err);
ok(IPC::Run::run([$sqlsmith, "--target=$target", "--max-queries=$queries", '--exclude-catalog', "--seed=$seed"],
	'>', \$out, '2>', \$err), 'sqlsmith ran') or diag(substr($err, -2000));
my $log = slurp_file($node->logfile);
my @internal;
while ($log =~ /XX000 sqlsmith::dut ERROR:([^\n]*)\n(?:(?!LOCATION:)[^\n]*\n)*?[^\n]*LOCATION:\s+\w+, (\w+\.c):/g)
{
	push @internal, "$2:$1" if $own{$2};
}
is(join("\n", @internal), '', 'no internal error of the library');
unlike($log, qr/TRAP:|PANIC:|terminated by signal|scalecache.*(?:gone|cannot tell)/, 'no crash');
is($node->safe_psql('postgres', 'SELECT 1'), 1, 'the server is there');
verified($node, 'postgres', 'in the end');
$node->stop;
done_testing();
