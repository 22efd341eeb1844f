# A walk that finds keys that may not be deleted: it ends all the same, everything else is delivered, and what
# was refused is tried again after a while.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use RedisServer;
use ScaleCache;
use Test::More;

my $redis = RedisServer->new;
my $node = new_server('refused_walks', conf => "scalecache.redis_url = ''
scalecache.redis_timeout = 20s
scalecache.redis_retry_max = 300
scalecache.naptime = 100
");
my $p = 'postgres';

sub sql { return $node->safe_psql($p, $_[0]); }
sub set { my ($name, $value) = @_; sql("ALTER SYSTEM SET scalecache.$name = '$value'"); sql('SELECT pg_reload_conf()'); }
sub delivered { return sql("SELECT scalecache.wait_for_cache('170 s')") eq 't'; }
sub status { my ($what) = @_; return sql("SELECT $what FROM scalecache.redis_status"); }
sub status_is { my ($what, $name) = @_; return ok($node->poll_query_until($p, "SELECT $what FROM scalecache.redis_status"), $name) || diag(sql('SELECT r FROM scalecache.redis_status r')); }
sub queue_is { my ($what, $name) = @_; return ok($node->poll_query_until($p, "SELECT $what FROM scalecache.cache_queue"), $name) || diag(sql('SELECT q FROM scalecache.cache_queue q')); }
sub there { my (@keys) = @_; return join(' ', grep { defined $redis->command('GET', $_) } @keys); }
sub acl { $redis->command('ACL', 'SETUSER', 'app', 'reset', 'on', '>pw', '+@all', @_); }
sub reached { my $n = () = slurp_file($node->logfile) =~ /could not reach Redis/g; return $n; }

sql(q{CREATE EXTENSION scalecache;
	CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);
	SELECT scalecache.create_cache_rule('a', 'a', 'a:{id}');
	SELECT scalecache.create_cache_rule('b', 'b', 'b:{id}')});
my @a = map { "a:$_" } 1 .. 1500;
my @b = map { "b:$_" } 1 .. 1500;
sub fill { $redis->command('MSET', map { $_ => 'old' } @a, @b); }

# ---- a walk for an epoch ----
acl('~*');
set('redis_url', 'redis+unix://app:pw@' . ($redis->url =~ s{.*://}{}r));
status_is('connected AND functions_loaded', 'connected');
ok(delivered(), 'delivered');
fill();
acl('~a:7*', '%R~a:*', '~b:*', '~x');
my $connects = status('connects');
my $left = join(' ', grep { !/a:7/ } @a);
sql('TRUNCATE a');
status_is("warning ~ '^keys are not deleted: NOPERM'", 'the status tells of it');
is(there(@a), $left, 'what may be deleted is');
sql('TRUNCATE b');
queue_is('epochs = 1', 'another epoch is acknowledged');
is(there(@b), '', 'and its keys have gone');
sql('INSERT INTO b VALUES (1)');
queue_is('keys = 0 AND epochs = 1', 'as are keys');
is(sql("SELECT scalecache.wait_for_cache('300 ms')"), 'f', 'the refused one is not');
# Several times, and each time the walk is taken again.
my $walks = status('epochs_acknowledged');
status_is("epochs_acknowledged >= $walks + 3", 'it is tried again');
is(status('connects'), $connects, 'on the same connection');
is(reached(), 0, 'which never failed');
my $told = () = slurp_file($node->logfile) =~ /Redis refuses to delete keys/g;
is($told, 1, 'the log says so once');
# One transaction with both
$redis->command('SET', $_, 'old') for 'b:1', 'b:2';
sql('BEGIN; TRUNCATE b; TRUNCATE a; COMMIT');
queue_is('epochs = 3', 'a transaction waits as a whole');
acl('~*');
ok(delivered(), 'delivered');
is(there(@a, @b), '', 'all have gone');
status_is('warning IS NULL AND functions_loaded', 'and nothing is wrong any more');

# ---- a user who may not look for keys at all ----
fill();
acl('~*', '-scan');
sql('TRUNCATE a');
status_is("warning ~ '^keys are not deleted: NOPERM.*scan'", 'SCAN is refused');
is(there(@a), "@a", 'no key has gone');
sql('INSERT INTO b VALUES (2)');
queue_is('keys = 0 AND epochs = 1', 'keys are delivered');
is(there('b:2'), '', 'they are');
acl('~*');
ok(delivered(), 'delivered');
is(there(@a), '', 'all have gone');

# ---- a Redis that may hold older values is not believed meanwhile ----
fill();
acl('~b:*', '%R~a:*', '~x');
set('redis_url', '');
status_is('NOT configured', 'no Redis');
$redis->command('FUNCTION', 'FLUSH');
set('redis_url', 'redis+unix://app:pw@' . ($redis->url =~ s{.*://}{}r));
status_is("connected AND warning ~ '^keys are not deleted: NOPERM'", 'connected');
# It is told when the first rule's keys have been looked for.
for (1 .. 1800)
{
	last if there(@b) eq '';
	select(undef, undef, undef, 0.1);
}
is(there(@b), '', 'what may be deleted is');
is(status('functions_loaded'), 'f', 'the functions are not armed');
is($redis->command('FCALL', 'scalecache_get', 1, 'a:1'), undef, 'and do not serve what may be stale');
acl('~*');
status_is('functions_loaded', 'armed');
ok(delivered(), 'delivered');
is(there(@a), '', 'all have gone');

$node->stop;
$redis->stop;
done_testing();
