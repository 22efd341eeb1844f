# Redis Cluster: keys of all slots are invalidated where they are, whatever
# slots and masters do meanwhile.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use RedisCluster;
use RedisServer;
use ScaleCache;
use Test::More;
use Time::HiRes qw(sleep);

my $pw = 'the-secret';
my $cluster = RedisCluster->new(masters => 3, replicas => 1, password => $pw, timeout => 5000);
my @masters = @{ $cluster->{nodes} }[ 0 .. 2 ];
my $node = new_server('cluster', conf => "scalecache.redis_url = '" . $cluster->url . "'
scalecache.redis_timeout = 1000
scalecache.redis_retry_max = 200
scalecache.session_timeout = 100s
scalecache.naptime = 100
");
my $p = 'postgres';
my $N = 3000;

sub sql { return $node->safe_psql($p, $_[0]); }
sub delivered { return sql("SELECT scalecache.wait_for_cache('180 s')") eq 't'; }
sub nodes { return sql('SELECT nodes FROM scalecache.redis_status'); }
sub fcall { my @a = @_; my $r = eval { $cluster->command('FCALL', @a) }; chomp(my $e = $@); return $e || ($r // 'nil'); }
sub poll
{
	my ($what, $code) = @_;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return pass($what) if eval { $code->() };
		sleep 0.1;
	}
	diag $@ if $@;
	return fail($what);
}
sub there { my (@keys) = @_; return join(' ', grep { defined $cluster->command('GET', $_) } @keys); }
sub set_all { my (@keys) = @_; $cluster->command('SET', $_, 'old') for @keys; }
sub ready { ok($node->poll_query_until($p, "SELECT scalecache.cache_set('ready', 'x')"), 'sessions can use it'); }

sql("CREATE EXTENSION scalecache; CREATE TABLE t (id int PRIMARY KEY, g int, v text);
	INSERT INTO t SELECT g, g % 100, 'one' FROM generate_series(1, $N) g;
	SELECT scalecache.create_cache_rule('t', 't', 't:{id}');
	SELECT scalecache.create_cache_rule('tag', 't', 'tag:{{{g}}}:{id}')");
my $source = sql("SELECT system_identifier || '/' || (SELECT oid FROM pg_database WHERE datname = 'postgres') FROM pg_control_system()");
sub armed { return $_[0]->command('FCALL', 'scalecache_hello', 0, $source)->[1]; }
ok(delivered(), 'delivered');
is(sql('SELECT mode FROM scalecache.redis_status'), 'cluster', 'mode');
is(sql('SELECT cardinality(nodes) FROM scalecache.redis_status'), 3, 'three masters');
is(join(' ', map { armed($_) } @masters), '1 1 1', 'the library is at each');
like(sql('SHOW scalecache.redis_url'), qr/^redis\+cluster:\/\/\*\*\*\@127/, 'the password is not shown');

# ---- keys of all slots ----
my @keys = map { ("t:$_", 'tag:{' . ($_ % 100) . "}:$_") } 1 .. $N;
set_all(@keys);
sql("UPDATE t SET v = 'two'");
ok(delivered(), 'delivered');
is(there(@keys), '', 'all have gone');
is($cluster->slot('tag:{7}:7'), $cluster->slot('tag:{7}:107'), 'tags');

# ---- readers, and sessions ----
my $token = sql('SELECT scalecache.cache_token()');
is(join(' ', grep { fcall('scalecache_fill', 1, "t:$_", 'v', $token, 0) ne '1' } 1 .. 30), '', 'fills at every node');
sql("UPDATE t SET v = 'three' WHERE id <= 30");
ok(delivered(), 'delivered');
is(join(' ', grep { fcall('scalecache_fill', 1, "t:$_", 'v', $token, 0) ne '0' } 1 .. 30), '', 'and old ones are refused');
ready();
is(sql("SELECT count(*) FROM generate_series(1, 30) g WHERE scalecache.cached_query('t:' || g, 'SELECT v FROM t WHERE id = ' || g)->0->>'v' = 'three'"), 30, 'cached_query');
is(scalar(grep { ($cluster->command('GET', "t:$_") // '') =~ /three/ } 1 .. 30), 30, 'stores at every node');
# What has been sent is sent again after a restart, until its table is cut.
poll('the queue is cut', sub { sql('SELECT size_bytes FROM scalecache.cache_queue') == 0 });
$node->restart;
ready();
is(sql("SELECT count(*) FROM generate_series(1, 30) g WHERE scalecache.cached_query('t:' || g, 'SELECT 1 AS v')->0->>'v' = 'three'"), 30, 'and finds it there')
  or diag(sql('SELECT s FROM scalecache.redis_status s'), ' ', there(map { "t:$_" } 1 .. 30));

# ---- epochs reach all nodes ----
set_all(@keys[ 0 .. 599 ]);
$token = sql('SELECT scalecache.cache_token()');
sql('TRUNCATE t');
ok(delivered(), 'delivered');
is(there(@keys[ 0 .. 599 ]), '', 'TRUNCATE: all have gone');
is(join(' ', grep { fcall('scalecache_fill', 1, "t:$_", 'v', $token, 0) ne '0' } 1 .. 30), '', 'and are not filled');
sql("INSERT INTO t SELECT g, g % 100, 'one' FROM generate_series(1, $N) g");
ok(delivered(), 'delivered');

# ---- write rules ----
sql("CREATE TABLE w (id int PRIMARY KEY, v int); SELECT scalecache.create_cache_rule('w', 'w', 'w:{id}', action => 'write', value => 'v::text');
	INSERT INTO w SELECT g, g FROM generate_series(1, 100) g");
ok(delivered(), 'delivered');
is(join(' ', grep { ($cluster->command('GET', "w:$_") // '') ne $_ } 1 .. 100), '', 'values are stored at their nodes');

# ---- a slot that has moved ----
my $connects = sql('SELECT connects FROM scalecache.redis_status');
my $key = 't:1';
my $slot = $cluster->slot($key);
my $from = $cluster->owner($slot);
my ($to, $third) = grep { $_ != $from } @masters;
set_all($key);
$token = sql('SELECT scalecache.cache_token()');
$cluster->migrate($slot, $to);
is($to->command('GET', $key), 'old', 'the key is at another node');
sql("UPDATE t SET v = 'moved' WHERE id = 1");
ok(delivered(), 'MOVED');
is($to->command('GET', $key), undef, 'it is deleted there');
is(fcall('scalecache_fill', 1, $key, 'v', $token, 0), '0', 'nothing old is stored there');
poll('fills are accepted there', sub { fcall('scalecache_fill', 1, $key, 'v', sql('SELECT scalecache.cache_token()'), 0) eq '1' });
is(sql('SELECT connects FROM scalecache.redis_status'), $connects, 'on the same connections');

# ---- invalidated here, moved, then filled there: it knows nothing of that ----
my $worker = q{SELECT pid FROM pg_stat_activity WHERE datname = 'postgres' AND backend_type = 'scalecache delivery'};
$token = sql('SELECT scalecache.cache_token()');
sql("UPDATE t SET v = 'newer' WHERE id = 1");
ok(delivered(), 'delivered');
my $pid = sql($worker);
kill('STOP', $pid);
$cluster->migrate($slot, $third);
is(fcall('scalecache_fill', 1, $key, 'stale', $token, 0), '0', 'a fill from before is refused where the slot is new');
is(fcall('scalecache_fill', 1, $key, 'new', sql('SELECT scalecache.cache_token()'), 0), '0', 'as is any before the worker knows');
is(fcall('scalecache_get', 1, $key), 'nil', 'and nothing is served');
kill('CONT', $pid);
poll('until it does', sub { fcall('scalecache_fill', 1, $key, 'v', sql('SELECT scalecache.cache_token()'), 0) eq '1' });
is(fcall('scalecache_fill', 1, $key, 'stale', $token, 0), '0', 'old ones never');

# ---- and back to a node that has had it before ----
$token = sql('SELECT scalecache.cache_token()');
sql("UPDATE t SET v = 'newest' WHERE id = 1");
ok(delivered(), 'delivered at the one');
kill('STOP', $pid);
$cluster->migrate($slot, $from);
is(fcall('scalecache_fill', 1, $key, 'stale', $token, 0), '0', 'refused at the other');
kill('CONT', $pid);
poll('until it is known', sub { fcall('scalecache_fill', 1, $key, 'v', sql('SELECT scalecache.cache_token()'), 0) eq '1' });

# ---- a slot on its way: keys are here or there ----
my @tagged = map { 'tag:{7}:' . ($_ * 100 + 7) } 0 .. 19;
$slot = $cluster->slot($tagged[0]);
$from = $cluster->owner($slot);
($to) = grep { $_ != $from } @masters;
set_all(@tagged);
$cluster->begin_migration($slot, $to);
$cluster->move_keys($from, $to, @tagged[ 0 .. 9 ]);
eval { $from->command('GET', $tagged[0]) };
like($@, qr/^ASK/, 'half of the keys have gone');
sql("UPDATE t SET v = 'asked' WHERE g = 7");
ok(delivered(), 'ASK');
is(there(@tagged), '', 'deleted here and there');
is(scalar @{ $from->command('CLUSTER', 'GETKEYSINSLOT', $slot, 100) }, 0, 'here');
is(scalar @{ $to->command('CLUSTER', 'GETKEYSINSLOT', $slot, 100) }, 0, 'there');

# ---- the same with all keys of a rule ----
set_all(@tagged);
is(scalar @{ $to->command('CLUSTER', 'GETKEYSINSLOT', $slot, 100) }, 20, 'new keys are there');
$cluster->command('SET', 'w:1', 'x');
sql("SET scalecache.max_keys_per_transaction = 5; UPDATE t SET v = 'epoch' WHERE g = 7");
ok(delivered(), 'an epoch');
is(there(@tagged), '', 'all have gone');
sql("UPDATE w SET v = -1");
ok(delivered(), 'values');
set_all(@tagged);
$cluster->end_migration($slot, $from, $to);
sql("UPDATE t SET v = 'there' WHERE g = 7");
ok(delivered(), 'delivered');
is(there(@tagged), '', 'the slot has arrived');

# ---- a value of a slot on its way ----
$slot = $cluster->slot('w:5');
$from = $cluster->owner($slot);
($to) = grep { $_ != $from } @masters;
$cluster->begin_migration($slot, $to);
$cluster->move_keys($from, $to, 'w:5');
sql("UPDATE w SET v = 55 WHERE id = 5");
ok(delivered(), 'delivered');
is(there('w:5'), '', 'is deleted');
$cluster->end_migration($slot, $from, $to);
sql("UPDATE w SET v = 56 WHERE id = 5");
ok(delivered(), 'delivered');
is($cluster->command('GET', 'w:5'), '56', 'and stored when it has arrived');

# ---- a new node, which has nothing yet, takes a slot ----
my $new = $cluster->add;
$cluster->join($new);
$cluster->wait_for(sub { $cluster->well });
$slot = $cluster->slot('t:9');
$from = $cluster->owner($slot);
set_all('t:9');
$cluster->begin_migration($slot, $new);
$cluster->move_keys($from, $new, 't:9');
sql("UPDATE t SET v = 'x' WHERE id = 9");
ok(delivered(), 'ASK of a node without slots');
is(there('t:9'), '', 'deleted there');
set_all('t:9');
$cluster->end_migration($slot, $from, $new);
sql("UPDATE t SET v = 'y' WHERE id = 9");
ok(delivered(), 'its first slot');
is(there('t:9'), '', 'deleted there');
poll('four masters', sub { sql('SELECT cardinality(nodes) FROM scalecache.redis_status') == 4 });
poll('fills there', sub { fcall('scalecache_fill', 1, 't:9', 'v', sql('SELECT scalecache.cache_token()'), 0) eq '1' });

# ---- it loses them all, and gets one back ----
$token = sql('SELECT scalecache.cache_token()');
$cluster->migrate($slot, $from);
poll('known', sub { fcall('scalecache_fill', 1, 't:9', 'v', sql('SELECT scalecache.cache_token()'), 0) eq '1' });
sql("UPDATE t SET v = 'z' WHERE id = 9");
ok(delivered(), 'delivered');
kill('STOP', $pid);
$cluster->migrate($slot, $new);
is(fcall('scalecache_fill', 1, 't:9', 'stale', $token, 0), '0', 'what it missed it does not store');
kill('CONT', $pid);

# ---- a master dies ----
$slot = $cluster->slot('t:2');
my $dead = $cluster->owner($slot);
my %its = map { $_ => 1 } grep { $cluster->owner($cluster->slot("t:$_")) == $dead } 1 .. 100;
my @waiting = grep { $its{$_} || $cluster->owner($cluster->slot("tag:{" . $_ % 100 . "}")) == $dead } 1 .. 100;
set_all(map { "t:$_" } 1 .. 100);
is($dead->command('WAIT', 1, 60000), '1', 'replicated');
my $replica = (grep { $_->info('role') eq 'slave' && $_->info('master_port') == $dead->{port} } $cluster->running)[0];
$replica->signal('STOP');
sql("UPDATE t SET v = 'dead' WHERE id = 2");
ok(delivered(), 'acknowledged by the master alone');
$_->command('CONFIG', 'SET', 'cluster-require-full-coverage', 'no') for grep { $_ != $replica } $cluster->running;
$dead->kill9;
sql("UPDATE t SET v = 'dead' WHERE id = $_") for 1 .. 100;
my @others = map { "t:$_" } grep { !$its{$_} } 1 .. 100;
poll('keys of the others are deleted', sub { there(@others) eq '' });
poll('and acknowledged', sub { sql('SELECT keys FROM scalecache.cache_queue') == 2 * @waiting }) or diag(2 * @waiting, sql("SELECT q FROM scalecache.cache_queue q"));
is(sql("SELECT scalecache.wait_for_cache('0.5 s')"), 'f', 'its own stay queued');
like(sql('SELECT warning FROM scalecache.redis_status'), qr/node 127.0.0.1:$dead->{port}: could not connect/, 'and it is said why');
sql("UPDATE t SET v = 'all' WHERE id > 2000; SET scalecache.max_keys_per_transaction = 1; UPDATE w SET v = -2");
poll('an epoch waits for all', sub { sql('SELECT epochs FROM scalecache.cache_queue') == 1 });
$replica->signal('CONT');
ok(delivered(), 'delivered when the replica is the master');
is(sql('SELECT entries FROM scalecache.cache_queue'), '0', 'everything');
is(there(map { "w:$_" } 1 .. 100), '', 'the epoch as well');
is(there(map { "t:$_" } 1 .. 100), '', 'nothing old is there');
is($cluster->owner($slot), $replica, 'it is');
poll('fills are accepted there', sub { fcall('scalecache_fill', 1, 't:2', 'v', sql('SELECT scalecache.cache_token()'), 0) eq '1' });
$dead->start;
$cluster->wait_for(sub { $cluster->well && $dead->info('master_link_status') eq 'up' });
is(armed($dead), '0', 'the old one knows nothing any more');

# ---- a failover by hand, back to it ----
set_all('t:2');
$cluster->fail_over($dead);
$cluster->wait_for(sub { $cluster->owner($slot) == $dead });
sql("UPDATE t SET v = 'hand' WHERE id = 2");
ok(delivered(), 'delivered');
is(there('t:2'), '', 'deleted at the new master');
poll('armed', sub { armed($dead) eq '1' });
$cluster->wait_for(sub { $replica->info('master_link_status') eq 'up' });
$dead->command('WAIT', 1, 60000);
is(armed($replica), '0', 'and its former one has forgotten');

# ---- the first hosts of the URL are away ----
sql("ALTER SYSTEM SET scalecache.redis_url = 'redis+cluster://:$pw\@127.0.0.1:1,127.0.0.1:$masters[2]{port}'");
sql('SELECT pg_reload_conf()');
set_all('t:3');
sql("UPDATE t SET v = 'url' WHERE id = 3");
ok(delivered(), 'delivered');
is(there('t:3'), '', 'through another host');
ready();

# ---- a server that is not in a cluster ----
my $single = RedisServer->new(port => PostgreSQL::Test::Cluster::get_free_port());
sql("ALTER SYSTEM SET scalecache.redis_url = 'redis+cluster://127.0.0.1:$single->{port}'");
sql('SELECT pg_reload_conf()');
ok($node->poll_query_until($p, "SELECT last_error ~ 'cluster support disabled' FROM scalecache.redis_status"), 'no cluster');
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/\Q$pw\E/, 'no password is in the log');
$node->stop;
$single->stop;
$cluster->stop;
done_testing();
