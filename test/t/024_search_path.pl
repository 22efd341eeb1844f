# The workers are superusers, and a database's settings are its owner's: no operator of his is run by them.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use RedisServer;
use ScaleCache;
use Test::More;

my $redis = RedisServer->new;
my $node = new_server('search_path', conf => "scalecache.redis_url = '" . $redis->url . "'
scalecache.naptime = 100
scalecache.auto_index = on
scalecache.auto_index_interval = 1
log_line_prefix = '%b: '
");
my $p = 'postgres';

sub sql { my ($text, $db) = @_; return $node->safe_psql($db // 'owned', $text); }
sub idle { my ($type, $did) = @_; return $node->poll_query_until($p, "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = 'owned' AND backend_type = '$type' AND state = 'idle' AND query = '$did'"); }

sql("CREATE ROLE owner LOGIN", $p);
sql('CREATE DATABASE owned OWNER owner', $p);
sql(q{CREATE EXTENSION scalecache;
	CREATE TABLE t (id int PRIMARY KEY, v int); ALTER TABLE t OWNER TO owner; INSERT INTO t VALUES (1, 0);
	SELECT scalecache.create_cache_rule('t', 't', 't:{id}', 'write');
	SELECT scalecache.create_rollup('r', 'SELECT v, count(*) AS n FROM t GROUP BY 1')});
my $operators = "SET ROLE owner; CREATE SCHEMA evil;\n";
for my $type ('text', 'oid', 'name', 'int4', 'int8', 'bool', '"char"')
{
	(my $cast = $type) =~ s/"//g;
	$operators .= qq{CREATE FUNCTION evil.same($type, $type) RETURNS bool LANGUAGE plpgsql AS
		\$\$ BEGIN RAISE LOG 'evil operator of % run by %', '$cast', current_user; RETURN \$1 OPERATOR(pg_catalog.=) \$2; END \$\$;
	CREATE OPERATOR evil.= (LEFTARG = $type, RIGHTARG = $type, FUNCTION = evil.same);\n};
}
sql($operators . 'ALTER DATABASE owned SET search_path = evil, pg_catalog, public;');
is(sql("SELECT 'a'::text = 'a'::text"), 't', 'a session finds the operator');
like(slurp_file($node->logfile), qr/^client backend: LOG:  evil operator of text run by/m, 'and runs it');
$node->restart;
my $log = -s $node->logfile;
ok($node->poll_query_until('owned', 'SELECT functions_loaded FROM scalecache.redis_status'), 'the worker is connected');
sql('UPDATE t SET v = v OPERATOR(pg_catalog.+) 1');
ok($node->poll_query_until('owned', "SELECT scalecache.wait_for_cache('10 s')"), 'and delivers');
is($redis->command('GET', 't:1'), '{"id":1,"v":1}', 'a value, too');
ok($node->poll_query_until('owned', 'SELECT pg_catalog.sum(pending_deltas) OPERATOR(pg_catalog.=) 0::numeric FROM scalecache.rollups'), 'folded');
ok(idle('scalecache worker', 'folding rollups'), 'the other one has had its turn');
unlike(substr(slurp_file($node->logfile), $log), qr/^scalecache.*evil operator/m, 'none of them has run any of the owner\'s operators');

$node->stop;
$redis->stop;
done_testing();
