# Rules that write: what is written stays, whatever the worker deletes at the same time, and no
# value, however bad, keeps other keys from being delivered.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CacheServer;
use RedisServer;
use IPC::Run ();
use ScaleCache;
use Test::More;
use Time::HiRes qw(usleep);

my $redis = RedisServer->new;
my $node = cache_server('write', $redis);
my $p = 'postgres';

# ---- a Redis is there before there is a rule ----
ok(delivered(), 'nothing to wait for');
ok($node->poll_query_until($p, 'SELECT connected AND functions_loaded FROM scalecache.redis_status'),
	'the worker has loaded the functions');
is(eval { $redis->command('FCALL', 'scalecache_get', 1, 'k') }, undef, 'and they answer');
is($@, '', 'without an error');

# ---- the walk for a new rule leaves new values alone ----
for my $i (1 .. 20)
{
	$redis->command('SET', "w$i:2", 'old');
	sql("CREATE TABLE t$i (id int PRIMARY KEY, v text)");
	sql("SELECT scalecache.create_cache_rule('w$i', 't$i', 'w$i:{id}', 'write', 'v')");
	sql("INSERT INTO t$i VALUES (1, 'new')");
	ok(delivered(), "delivered $i");
	is($redis->command('GET', "w$i:1"), 'new', "written value $i is there");
	is($redis->command('GET', "w$i:2"), undef, "what was there before is not $i");
}
# A later TRUNCATE does not.
sql("INSERT INTO t1 VALUES (3, 'x')");
sql('TRUNCATE t1');
sql("INSERT INTO t1 VALUES (4, 'y')");
ok(delivered(), 'delivered');
is($redis->command('GET', 'w1:3'), undef, 'truncated');
is($redis->command('GET', 'w1:4'), 'y', 'written after TRUNCATE');

# ---- where a condition fails nothing is stored ----
sql(q{CREATE TABLE c (id int PRIMARY KEY, d int);
	SELECT scalecache.create_cache_rule('c', 'c', 'c:{id}', 'write', 'd::text', condition => '1 / d > 0')});
$redis->command('SET', "c:$_", 'old') for 1, 2;
sql('INSERT INTO c VALUES (1, 1), (2, 0)');
ok(delivered(), 'delivered');
is($redis->command('GET', 'c:1'), '1', 'a value for which the condition holds');
is($redis->command('GET', 'c:2'), undef, 'none for which it fails');

# ---- a collation that takes keys for the same ----
SKIP:
{
	skip 'no ICU', 5 unless sql(q{SELECT count(*) > 0 FROM pg_collation WHERE collprovider = 'i'}) eq 't';
	sql(q{CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
		CREATE TABLE coll (id text COLLATE any_case PRIMARY KEY, v int);
		SELECT scalecache.create_cache_rule('coll', 'coll', 'coll:{id}', 'write', 'v::text');
		INSERT INTO coll VALUES ('ann', 1)});
	ok(delivered(), 'delivered');
	is($redis->command('GET', 'coll:ann'), '1', 'a value');
	sql(q{UPDATE coll SET id = 'Ann', v = 2});
	ok(delivered(), 'delivered');
	is($redis->command('GET', 'coll:ann'), undef, 'which goes with its key');
	is($redis->command('GET', 'coll:Ann'), '2', 'and is under the new one');
}

# ---- errors that are not for everyone ----
sql(q{
	CREATE FUNCTION bad(i int) RETURNS text STABLE LANGUAGE plpgsql AS $$BEGIN
		IF i = 1 THEN ASSERT false, 'no';
		ELSIF i = 2 THEN RAISE EXCEPTION USING ERRCODE = '53200', MESSAGE = 'no memory';
		ELSIF i = 3 THEN RAISE EXCEPTION USING ERRCODE = '57014', MESSAGE = 'canceled';
		END IF;
		RETURN 'good';
	END$$;
	CREATE TABLE b (id int PRIMARY KEY);
	SELECT scalecache.create_cache_rule('b', 'b', 'b:{id}', 'write', 'public.bad(id)')});
for my $i (1 .. 4)
{
	$redis->command('SET', "b:$i", 'old');
	sql("INSERT INTO b VALUES ($i)");
	ok(delivered(), "delivered in spite of error $i");
	is($redis->command('GET', "b:$i"), $i == 4 ? 'good' : undef, "value with error $i");
}

# ---- many values that take their time ----
sql(q{
	CREATE FUNCTION slow(i int) RETURNS text STABLE LANGUAGE plpgsql AS $$BEGIN
		PERFORM pg_catalog.pg_sleep(0.5); RETURN 'slow';
	END$$;
	CREATE TABLE slow (id int PRIMARY KEY);
	SELECT scalecache.create_cache_rule('slow', 'slow', 'slow:{id}', 'write', 'public.slow(id)')});
ok(delivered(), 'delivered');
$redis->command('SET', 'slow:80', 'old');
sql('BEGIN; INSERT INTO slow SELECT generate_series(1, 80); INSERT INTO b VALUES (99); COMMIT');
ok(delivered(), 'delivered');
is($redis->command('GET', 'slow:1'), 'slow', 'some are stored');
is($redis->command('GET', 'slow:80'), undef, 'of others the key is deleted, not to keep everybody waiting');
is($redis->command('GET', 'b:99'), 'good', 'as this one');
like(sql(q{SELECT failing FROM scalecache.cache_rules WHERE name = 'slow'}), qr/^values take too long/, 'the rule says so');
sql('INSERT INTO slow VALUES (81)');
ok(delivered(), 'delivered');
is($redis->command('GET', 'slow:81'), 'slow', 'one is not too many');
is(sql(q{SELECT coalesce(failing, '') FROM scalecache.cache_rules WHERE name = 'slow'}), '', 'and nothing fails');

# ---- a password is nowhere to be seen ----
my $secret = 'S3cr3tWord';
my ($shown, $errors);
$node->append_conf('postgresql.conf', "log_statement = all\nlog_min_messages = info\n");
$node->reload;
$node->psql($p, $_) for "SET scalecache.redis_url = 'redis://:$secret x\@h'",
  "SET SCALECACHE.REDIS_URL = 'redis://:$secret''\@h/1'",
  "SET scalecache.redis_url = 'redis://:$secret\@h' nonsense",
  "DO \$\$BEGIN EXECUTE 'SET scalecache.redis_url = ''redis://:$secret\@h:bad'''; END\$\$",
  "DO \$\$BEGIN EXECUTE 'SET scalecache.redis_url = ''redis://:$secret\@h'' nonsense'; END\$\$",
  "PREPARE s AS SELECT set_config('scalecache.redis_url', \$1, false); EXECUTE s('redis://:$secret\@h')";
$node->psql($p, "SET scalecache.redis_url = 'redis://:$secret\@h/1';
	SHOW scalecache.redis_url;
	SELECT * FROM pg_settings WHERE name LIKE 'scalecache%'", stdout => \$shown);
like($shown, qr{redis://\*\*\*\@h/1}, 'the setting is shown');
unlike($shown, qr/$secret/, 'without its password');
my $idle = IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr($p) ], '<', \my $typed, '>', \my $got, '2>', \$errors);
$typed .= "SET application_name = 'idle'; SELECT 1;\nSET scalecache.redis_url = 'redis://:$secret\@h/2';\n";
my $hidden;
for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	$idle->pump_nb;
	$hidden = sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'idle'
		AND state = 'idle' AND query LIKE 'SET scalecache.redis_url = ''redis://*%'");
	last if $hidden;
	usleep(100_000);
}
is($hidden, 1, 'nor in pg_stat_activity');
$typed .= "\\q\n";
$idle->finish;
# However it is set, and whether or not that fails
for my $statement ("SELECT set_config('scalecache.redis_url', 'redis://:$secret\@h/3', false)",
	"DO \$\$BEGIN EXECUTE 'SET scalecache.redis_url = ''redis://:$secret\@h/4'''; END\$\$",
	"SELECT set_config('scalecache.redis_url', 'redis://:$secret\@h:bad', false)")
{
	my $session = IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr($p) ], '<', \my $in, '>', \my $out, '2>', \my $err);

	$in .= "SET application_name = 'another';\n$statement;\n";
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$session->pump_nb;
		$hidden = sql("SELECT string_agg(query, '') FROM pg_stat_activity WHERE application_name = 'another' AND state = 'idle' AND query ~ 'redis_url'");
		last if $hidden;
		usleep(100_000);
	}
	like($hidden, qr{redis://\*+\@h}, 'nor there by other statements');
	unlike($hidden, qr/$secret/, 'however they end');
	$in .= "\\q\n";
	$session->finish;
}
sql("ALTER SYSTEM SET scalecache.redis_url = 'redis://:$secret\@localhost:1/0'");
$node->reload;
ok($node->poll_query_until($p, "SELECT last_error IS NOT NULL AND server = 'localhost:1, database 0' FROM scalecache.redis_status"), 'it is used');
unlike(sql("SELECT s::text FROM pg_settings s WHERE name = 'scalecache.redis_url'"), qr/$secret/, 'nor is what it is reset to');
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/$secret/, 'nor is it in the log');

$node->stop;
$redis->stop;
done_testing();
