# Cache rules of a logical subscriber, under the replica role, and in a
# restored dump.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use RedisServer;
use ScaleCache;
use Test::More;

my $redis = RedisServer->new;
my $node = new_server('rules_publisher', init => [ allows_streaming => 'logical' ]);
my $sub = new_server('rules_subscriber', conf => "scalecache.naptime = 100
scalecache.redis_url = '" . $redis->url . "'
");
my $p = 'postgres';

sub sql { return $node->safe_psql($p, $_[0]); }
sub delivered { return $sub->safe_psql($p, "SELECT scalecache.wait_for_cache('180 s')") eq 't'; }

# ---- logical replication: a subscriber has rules of its own ----
$sub->safe_psql($p, q{CREATE EXTENSION scalecache; CREATE TABLE t (id int PRIMARY KEY, v int);
	SELECT scalecache.create_cache_rule('t', 't', 'sub:{id}')});
sql('CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 5) g; CREATE PUBLICATION pub FOR TABLE t');
$sub->safe_psql($p, sprintf("CREATE SUBSCRIPTION sub CONNECTION '%s dbname=postgres' PUBLICATION pub", $node->connstr));
$sub->wait_for_subscription_sync($node, 'sub');
ok(delivered(), 'delivered');
$redis->command('SET', "sub:$_", 'x') for 1 .. 5;
sql('UPDATE t SET v = 1 WHERE id = 1; DELETE FROM t WHERE id = 2; BEGIN; UPDATE t SET v = 3 WHERE id = 3; ROLLBACK; UPDATE t SET id = 40 WHERE id = 4');
$node->wait_for_catchup('sub');
ok(delivered(), 'delivered');
is(join(' ', grep { defined $redis->command('GET', "sub:$_") } 1 .. 5), '3 5', 'what was applied');
$redis->command('SET', "sub:$_", 'x') for 1 .. 5;
sql('TRUNCATE t');
$node->wait_for_catchup('sub');
ok(delivered(), 'delivered');
is(join(' ', grep { defined $redis->command('GET', "sub:$_") } 1 .. 5), '', 'TRUNCATE');
$redis->command('SET', 'sub:7', 'x');
$sub->safe_psql($p, 'SET session_replication_role = replica; INSERT INTO t VALUES (7, 7)');
ok(delivered(), 'delivered');
is($redis->command('GET', 'sub:7'), undef, 'the replica role');

# ---- dump and restore ----
$sub->safe_psql($p, q~DROP SUBSCRIPTION sub; CREATE TABLE u (junk int, id int, name text, v text);
	ALTER TABLE u DROP COLUMN junk;
	SELECT scalecache.create_cache_rule('u', 'u', 'u:{id}:{{', 'write', value => 'upper(name)', ttl => '1 h', columns => '{name}', condition => 'v <> ''no''')~);
my $dump = $sub->basedir . '/dump.sql';
$sub->command_ok([ 'pg_dump', '-f', $dump, $sub->connstr($p) ], 'dumped');
$sub->safe_psql($p, 'CREATE DATABASE again');
$sub->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $sub->connstr('again') ], 'restored');
my $rules = 'SELECT name, relation, key, action, value, ttl, columns FROM scalecache.cache_rules ORDER BY name';
is($sub->safe_psql('again', $rules), $sub->safe_psql($p, $rules), 'with the same rules');
# Their worker deletes what it finds when it comes.
is($sub->safe_psql('again', "SELECT scalecache.wait_for_cache('180 s')"), 't', 'delivered');
$redis->command('SET', 'u:1:{', 'x');
$redis->command('SET', 'u:2:{', 'x');
$redis->command('SET', 'sub:9', 'x');
$sub->safe_psql('again', "INSERT INTO u VALUES (1, 'ann', 'a'), (2, 'bob', 'no'); INSERT INTO t VALUES (9, 9)");
is($sub->safe_psql('again', "SELECT scalecache.wait_for_cache('180 s')"), 't', 'delivered');
is($redis->command('GET', 'u:1:{'), 'ANN', 'they work');
# One that no command has followed yet, and the next one renames what it names.
$sub->safe_psql('again', q~CREATE TABLE late (k int, id int, name text) PARTITION BY LIST (k);
	CREATE TABLE late1 PARTITION OF late FOR VALUES IN (1);
	INSERT INTO scalecache.cache_rule (id, name, relation, key, action, value, condition)
		VALUES (77, 'late', 'late', 'late:{id}', 'write', 'upper(name)', 'name <> ''no'''),
			(79, 'late1', 'late1', 'late1:{id}', 'invalidate', NULL, NULL);
	ALTER TABLE late RENAME id TO "no"~);
is($sub->safe_psql('again', q~SELECT string_agg(key, ' ' ORDER BY key) FROM scalecache.cache_rules WHERE name LIKE 'late%'~),
	'late1:{no} late:{no}', 'the old name is understood');
is($sub->safe_psql('again', "SELECT scalecache.wait_for_cache('180 s')"), 't', 'delivered');
$redis->command('SET', 'late1:1', 'x');
$sub->safe_psql('again', q~INSERT INTO late VALUES (1, 1, 'ann')~);
is($sub->safe_psql('again', "SELECT scalecache.wait_for_cache('180 s')"), 't', 'delivered');
is($redis->command('GET', 'late:1'), 'ANN', 'and the rule works');
is($redis->command('GET', 'late1:1'), undef, 'as does one of a partition');
is($redis->command('GET', 'u:2:{'), 'x', 'and their conditions');
is($redis->command('GET', 'sub:9'), undef, 'all of them');
# One that does not fit its table, which was there before
is($sub->safe_psql('again', q~INSERT INTO scalecache.cache_rule (id, name, relation, key, action) VALUES (81, 'odd', 'u', 'odd:{ghost}', 'invalidate');
	CREATE TABLE nothing_to_do_with_it (a int);
	SELECT failing FROM scalecache.cache_rules WHERE name = 'odd'~),
	'column "ghost" of relation "u" does not exist', 'does not keep others from being made');
is($sub->safe_psql('again', q~BEGIN; CREATE TABLE nothing_either (a int);
	SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND (relation = 'u'::regclass OR locktype = 'object' AND objid = 81)~),
	'0', 'nor anything locked');
is(($sub->psql('again', 'ALTER TABLE u ADD other int; ALTER TABLE u RENAME other TO another'))[0], 0, 'nor its table from being altered');
is($sub->safe_psql('again', q~ALTER TABLE u ADD ghost int;
	SELECT failing IS NULL FROM scalecache.cache_rules WHERE name = 'odd'~), 't', 'until it does');
is($sub->safe_psql('again', "SELECT scalecache.wait_for_cache('180 s')"), 't', 'delivered');
$redis->command('SET', 'odd:5', 'x');
$sub->safe_psql('again', q~INSERT INTO u (id, ghost) VALUES (5, 5)~);
is($sub->safe_psql('again', "SELECT scalecache.wait_for_cache('180 s')"), 't', 'delivered');
is($redis->command('GET', 'odd:5'), undef, 'then it works');

# ---- a publication of all tables: rules and queues are each server's own ----
$_->safe_psql($p, 'DROP TABLE IF EXISTS t, u CASCADE; CREATE TABLE all_t (id int PRIMARY KEY, v int)') for $node, $sub;
sql(q{DROP PUBLICATION pub; CREATE EXTENSION scalecache; CREATE PUBLICATION everything FOR ALL TABLES;
	SELECT scalecache.create_cache_rule('publishers', 'all_t', 'pub:{id}');
	INSERT INTO all_t VALUES (1, 1)});
$sub->safe_psql($p, q{SELECT scalecache.create_cache_rule('subscribers', 'all_t', 'sub:{id}')});
ok(delivered(), 'delivered');
$redis->command('SET', "$_:2", 'x') for 'sub', 'pub';
$sub->safe_psql($p, sprintf("CREATE SUBSCRIPTION sub CONNECTION '%s dbname=postgres' PUBLICATION everything", $node->connstr));
$sub->wait_for_subscription_sync($node, 'sub');
sql(q{INSERT INTO all_t VALUES (2, 2);
	SELECT scalecache.create_cache_rule('late', 'all_t', 'late:{id}'); SELECT scalecache.drop_cache_rule('publishers')});
$node->wait_for_catchup('sub');
ok(delivered(), 'delivered');
is($sub->safe_psql($p, 'SELECT string_agg(name, chr(32) ORDER BY name) FROM scalecache.cache_rules'), 'subscribers', 'no rule is copied');
is($redis->command('GET', 'sub:2'), undef, 'the rows are');
is($redis->command('GET', 'pub:2'), 'x', 'and the publisher\'s keys are not here');
$sub->safe_psql($p, 'DROP SUBSCRIPTION sub');

# ---- another encoding: Redis has UTF-8, as applications have ----
$sub->safe_psql($p, q{CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0});
my $latin = sub { return $sub->safe_psql('latin', "SET client_encoding = 'UTF8'; $_[0]"); };
my $all = sub { $latin->("SELECT scalecache.wait_for_cache('180 s')") eq 't' or die 'not delivered' };
$latin->(q{CREATE EXTENSION scalecache; CREATE TABLE w (id text PRIMARY KEY, v text);
	SELECT scalecache.create_cache_rule('w', 'w', 'wé:{id}', 'write', 'v');
	SELECT scalecache.create_cache_rule('d', 'w', 'dé:{id}')});
$all->();
$redis->command('SET', $_, 'x') for 'dé:ö', 'dé:ä', "d\xe9:\xf6";
$latin->(q{INSERT INTO w VALUES ('ö', 'für')});
$all->();
is($redis->command('GET', 'wé:ö'), 'für', 'a key and its value');
is($redis->command('GET', 'dé:ö'), undef, 'one that is deleted');
is($redis->command('GET', 'dé:ä'), 'x', 'and not another');
is($latin->(q{SELECT scalecache.cache_get('wé:ö')}), 'für', 'what is read');
$redis->command('SET', 'greek', 'ω');
is($latin->(q{SELECT scalecache.cache_get('greek')}), '', 'what the database cannot have');
is($latin->(q{SELECT scalecache.cache_set('grün', 'süß')}), 't', 'and what is stored');
is($redis->command('GET', 'grün'), 'süß', 'is what applications read');
is($latin->(q{SELECT scalecache.cached_query('öl', 'SELECT v FROM w')}), '[{"v": "für"}]', 'a result');
like($redis->command('GET', 'öl'), qr/"rows":\[\{"v": "für"\}\]/, 'too');
# What is longer in Redis than sessions fetch is not stored.
is($latin->(q{SET scalecache.session_timeout = '60s'; SELECT scalecache.cache_set('long', repeat('é', 9000000))}), 'f', 'a value that is twice as long there');
is($redis->command('EXISTS', 'long'), 0, 'which nobody could read');
is($latin->(q{SET scalecache.session_timeout = '60s'; SELECT scalecache.cache_set('long', repeat('e', 9000000))}), 't', 'and one that is not');
$latin->(q{SELECT scalecache.drop_cache_rule('d')});
$all->();
is($redis->command('GET', 'dé:ä'), undef, 'a walk looks for the same keys');
# Tombstones are where the library looks for them, however long a key is.
my $long = 'é' x 4500;
my $token = $latin->(q{SELECT scalecache.cache_token()});
$latin->(qq{INSERT INTO w VALUES ('$long', 'x'); DELETE FROM w});
$all->();
is($redis->command('FCALL', 'scalecache_fill', 1, "wé:$long", 'old', $token, 0), 0, 'of long ones as well');
$token = $latin->(q{SELECT scalecache.cache_token()});
is($redis->command('FCALL', 'scalecache_fill', 1, "wé:$long", 'new', $token, 0), 1, 'which is refused to no one else');

$sub->stop;
$node->stop;
$redis->stop;
done_testing();
