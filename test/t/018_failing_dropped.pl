# A table is dropped, in a transaction that stays open, while values of its rule fail: nobody waits for that.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use RedisServer;
use ScaleCache;
use Test::More;

my $redis = RedisServer->new;
my $node = new_server('failing', conf => "scalecache.redis_url = '" . $redis->url . "'
scalecache.naptime = 100
");
my $p = 'postgres';

sub sql { return $node->safe_psql($p, $_[0]); }
sub url { my ($url) = @_; sql("ALTER SYSTEM SET scalecache.redis_url = '$url'"); sql('SELECT pg_reload_conf()'); }
sub configured { my ($is) = @_; ok($node->poll_query_until($p, "SELECT configured = $is FROM scalecache.redis_status"), "configured: $is"); }

sql(q{CREATE EXTENSION scalecache; CREATE TABLE t (id int PRIMARY KEY, v int);
	SELECT scalecache.create_cache_rule('t', 't', 't:{id}', 'write', '(1 / v)::text')});
sql('INSERT INTO t VALUES (1, 0)');
is(sql("SELECT scalecache.wait_for_cache('170 s')"), 't', 'delivered');
is(sql('SELECT failing FROM scalecache.cache_rules'), 'division by zero', 'its value fails');

url('');
configured('false');
sql('INSERT INTO t VALUES (2, 0)');
my $other = $node->background_psql($p);
$other->query_safe('BEGIN; DROP TABLE t');
url($redis->url);
configured('true');
is(sql("SELECT scalecache.wait_for_cache('170 s')"), 't', 'keys are delivered while the table is being dropped');
$other->query_safe('COMMIT');
$other->quit;
is(sql("SELECT scalecache.wait_for_cache('170 s')"), 't', 'and after that');
is(sql('SELECT count(*) FROM scalecache.cache_failure'), '0', 'nothing is left of the rule');

$node->stop;
$redis->stop;
done_testing();
