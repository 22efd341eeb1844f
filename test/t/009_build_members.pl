# The worker fills a stale rollup while a command that has found it stale, and
# gives or takes a member, is yet to be committed: all members have triggers
# once the rollup is live, and none is counted without.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ScaleCache;
use Test::More;

my $node = new_server('build_members', conf => "scalecache.naptime = 100\n");
my $p = 'postgres';

sub worker
{
	my ($wanted) = @_;

	$node->append_conf('postgresql.conf', "scalecache.worker = $wanted");
	$node->reload;
	ok($node->poll_query_until($p, 'SELECT count(*) = ' . ($wanted eq 'on' ? 1 : 0) . " $WORKER"), "the worker is $wanted");
}

my $replace = q{CREATE OR REPLACE FUNCTION same(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END'};
$node->safe_psql($p, "CREATE EXTENSION scalecache; $replace;" . q{
	CREATE TABLE t (k int, v int);
	CREATE TABLE kid (LIKE t);
	CREATE TABLE below () INHERITS (kid);
	INSERT INTO kid SELECT g % 3, g FROM generate_series(1, 30) g;
	INSERT INTO below SELECT g % 3, g FROM generate_series(1, 30) g;
	CREATE TABLE pt (k int, v int) PARTITION BY LIST (k);
	CREATE TABLE p0 PARTITION OF pt FOR VALUES IN (0);
	CREATE TABLE p1 (LIKE pt);
	INSERT INTO pt SELECT 0, g FROM generate_series(1, 30) g;
	INSERT INTO p1 SELECT 1, g FROM generate_series(1, 30) g;
	CREATE TABLE other (k int, v int);
	SELECT scalecache.create_rollup('r_other', 'SELECT k, sum(v) AS s FROM other GROUP BY k');
	SELECT scalecache.create_rollup('r_t', 'SELECT same(k) AS k, sum(v) AS s, count(*) AS n FROM t GROUP BY 1');
	SELECT scalecache.create_rollup('r_pt', 'SELECT same(k) AS k, sum(v) AS s, count(*) AS n FROM pt GROUP BY 1');
});
my $writes = q{
	INSERT INTO kid VALUES (0, 1000);
	INSERT INTO below VALUES (1, 1000);
	UPDATE below SET v = v + 1 WHERE v < 10;
	TRUNCATE ONLY kid;
	INSERT INTO p1 VALUES (1, 1000);
	DELETE FROM p1 WHERE v < 10;
	TRUNCATE p1;
	INSERT INTO p1 VALUES (1, 7);
};
for my $case ('ALTER TABLE kid INHERIT t; ALTER TABLE pt ATTACH PARTITION p1 FOR VALUES IN (1)',
	'ALTER TABLE kid NO INHERIT t; ALTER TABLE pt DETACH PARTITION p1',
	# Those that left while it was stale have kept triggers.
	'ALTER TABLE kid INHERIT t; ALTER TABLE pt ATTACH PARTITION p1 FOR VALUES IN (1)',
	'ALTER TABLE below DISABLE TRIGGER ALL; ALTER TABLE p1 DISABLE TRIGGER ALL')
{
	worker('off');
	$node->safe_psql($p, $replace);
	my $altering = $node->background_psql($p);
	$altering->query_safe("BEGIN; $case");
	my $writing = $node->background_psql($p);
	$writing->query_safe('BEGIN');
	# Who disables triggers keeps writers away.
	$writing->query_safe('INSERT INTO below VALUES (2, 100)') unless $case =~ /DISABLE/;
	worker('on');
	ok($node->poll_query_until($p, q{SELECT bool_and(state = 'filling' OR failing = 'somebody has locked one of its tables')
		FROM scalecache.rollups WHERE rollup::text <> 'r_other'}), 'they are being filled, or wait for that');
	$node->safe_psql($p, 'INSERT INTO other VALUES (1, 1)');
	ok($node->poll_query_until($p, q{SELECT pending_deltas = 0 FROM scalecache.rollups WHERE rollup::text = 'r_other'}),
		'the worker goes on with others');
	$altering->query_safe('COMMIT');
	$altering->quit;
	$writing->query_safe('COMMIT');
	$writing->quit;
	ok($node->poll_query_until($p, q{SELECT bool_and(state = 'live') FROM scalecache.rollups}), "live after $case");
	exact($node, $p, 'then');
	for my $statement (split /;\n/, $writes)
	{
		$node->safe_psql($p, $statement) if $statement =~ /\w/;
		exact($node, $p, "after $statement");
	}
	live($node, $p, $_, 'and') for qw(r_t r_pt);
	verified($node, $p, 'at last');
}

$node->stop;
done_testing();
