# The server's own cache, without Redis: single flight, fences, roles, bounds.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use ScaleCache;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = new_server('memory', init => [ allows_streaming => 1 ], conf => "max_connections = 150
max_wal_senders = 5
scalecache.cache_size = '4MB'
scalecache.naptime = 100
");
my $p = 'postgres';

sub sql { return $node->safe_psql($p, $_[0]); }

sub stat_of { return sql("SELECT $_[0] FROM scalecache.cache_stats WHERE tier = 'memory'"); }

sql(q{
	CREATE EXTENSION scalecache;
	CREATE TABLE users (id int PRIMARY KEY, name text);
	INSERT INTO users SELECT g, 'n' || g FROM generate_series(1, 1000) g;
	CREATE TABLE runs (n int);
	CREATE FUNCTION slow(float8) RETURNS int LANGUAGE plpgsql VOLATILE AS
		$$ BEGIN RAISE LOG 'slow has run'; PERFORM pg_sleep($1); RETURN 42; END $$;
	SELECT scalecache.create_cache_rule('u', 'users', 'user:{id}')});

# ---- what a transaction has changed itself ----
my $total = q{SELECT scalecache.cached_query('total:1', 'SELECT n FROM totals WHERE k = 1')};
sql(q{CREATE TABLE part (k int, v int); INSERT INTO part VALUES (1, 5);
	SELECT scalecache.create_rollup('totals', 'SELECT k, sum(v) AS n FROM part GROUP BY k');
	SELECT scalecache.create_cache_rule('totals', 'totals', 'total:{k}')});
is(sql($total), '[{"n": 5}]', 'a value of a rollup');
is(sql("BEGIN; INSERT INTO part VALUES (1, 100); $total; ROLLBACK"), '[{"n": 105}]', 'with changes of its own');
is(sql("BEGIN; SAVEPOINT a; INSERT INTO part VALUES (1, 100); ROLLBACK TO a; INSERT INTO runs VALUES (1); $total; ROLLBACK"),
	'[{"n": 5}]', 'and with none');
is(sql('BEGIN; INSERT INTO part VALUES (1, 100); ' . $total =~ s/total:1/other:1/r =~ s/SELECT n.* = 1/SELECT 7 AS n/r . '; ROLLBACK'),
	'[{"n": 7}]', 'other keys are as they were');
is(sql($total), '[{"n": 5}]', 'nobody else sees them');

# ---- by hand ----
is(sql("SELECT scalecache.cache_set('a', 'x', '1 h')"), 't', 'set');
is(sql("SELECT scalecache.cache_get('a')"), 'x', 'get');
is(sql("SELECT scalecache.cache_delete('a', 'b')"), '1', 'delete');
is(sql("SELECT scalecache.cache_get('a') IS NULL"), 't', 'gone');
is(sql("BEGIN; INSERT INTO runs VALUES (1); SELECT scalecache.cache_set('w', 'uncommitted'); ROLLBACK"), 'f',
	'a transaction that has written stores nothing');
sql("SELECT scalecache.cache_set('ttl', 'x', '300 ms')");
ok($node->poll_query_until($p, "SELECT scalecache.cache_get('ttl') IS NULL"), 'it expires');
my $long = 'y' x 90000;
sql("SELECT scalecache.cache_set('long', repeat('y', 90000))");
is(sql("SELECT scalecache.cache_get('long')"), $long, 'a value of many blocks');
is(sql("SELECT scalecache.cache_set('huge', repeat('y', 10000000))"), 'f', 'larger than the cache');
for my $bad (
	[ "cache_set('', 'x')", qr/cache key must not be empty/ ],
	[ "cache_get(NULL)", qr/cache key must not be null/ ],
	[ "cache_set('k', NULL)", qr/cached value must not be null/ ],
	[ "cache_set('k', 'v', '-1 s')", qr/ttl of a cached value must be positive/ ],
	[ "cached_query('k', 'SELECT 1', '0')", qr/ttl of a cached value must be positive/ ],
	[ "cached_query('k', 'SELEC 1')", qr/syntax error/ ],
	[ "cached_query('k', 'SELECT 1; SELECT 2')", qr/must be one SELECT/ ],
	[ "cached_query('k', 'DELETE FROM users RETURNING id')", qr/must be one SELECT/ ],
	[ "cached_query('k', NULL)", qr/cached query must not be null/ ],
	[ "cached_query('k', 'SELECT 1/0')", qr/division by zero/ ],
	[ "cache_get(repeat('x', 536870913))", qr/cache key is longer/ ])
{
	my ($ret, $out, $err) = $node->psql($p, "SELECT scalecache.$bad->[0]");
	like($err, $bad->[1], $bad->[0]);
}
is(sql("SELECT scalecache.cached_query('k', 'SELECT 1 AS one')"), '[{"one": 1}]', 'after an error, the next one loads');
is(sql("CREATE TEMP TABLE mine AS SELECT 1 AS v; SELECT scalecache.cached_query('temp', 'SELECT v FROM mine')"),
	'[{"v": 1}]', 'of a temporary table');
is(sql("CREATE TEMP TABLE mine AS SELECT 2 AS v; SELECT scalecache.cached_query('temp', 'SELECT v FROM mine')"),
	'[{"v": 2}]', 'is for its session only');
is(sql("SELECT scalecache.cached_query('none', 'SELECT 1 WHERE false')"), '[]', 'no rows');
is(sql("SELECT scalecache.cached_query('none', 'SELECT slow(0)')"), '[]', 'are remembered as well');

# ---- invalidation ----
my $get = "SELECT scalecache.cached_query('user:1', 'SELECT name FROM users WHERE id = 1')";
is(sql($get), '[{"name": "n1"}]', 'loaded');
sql("UPDATE users SET name = 'b' WHERE id = 1");
is(sql($get), '[{"name": "b"}]', 'after an update');
sql("BEGIN; UPDATE users SET name = 'c' WHERE id = 1; PREPARE TRANSACTION 'p'");
is(sql($get), '[{"name": "b"}]', 'prepared');
sql("COMMIT PREPARED 'p'");
is(sql($get), '[{"name": "c"}]', 'COMMIT PREPARED');
sql("UPDATE users SET name = 'd'; ");
is(sql($get), '[{"name": "d"}]', 'many keys');
sql("SELECT scalecache.cached_query('user:1', 'SELECT name FROM users WHERE id = 1')");
sql("SELECT scalecache.drop_cache_rule('u'); UPDATE users SET name = 'e' WHERE id = 1");
is(sql($get), '[{"name": "e"}]', 'dropping a rule drops its keys');
sql("SELECT scalecache.create_cache_rule('u', 'users', 'user:{id}')");

# ---- fences: a commit that is not visible yet ----
sql($get);
hold_commits($node);
my $writer = $node->background_psql($p, on_error_stop => 0);
my $pid = $writer->query("SELECT pg_backend_pid()");
my $unread = "SELECT scalecache.cached_query('user:600', 'SELECT name FROM users WHERE id = 600')";
$writer->{stdin} .= "UPDATE users SET name = 'f' WHERE id IN (1, 600);\n";
$writer->{run}->pump_nb;
ok($node->poll_query_until($p, "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $pid"),
	'a commit is on its way');
my $fills = stat_of('fills');
is(sql($get), '[{"name": "e"}]', 'readers run the query meanwhile');
is(sql($unread), '[{"name": "d"}]', 'for a key that nobody had asked for as well');
is(stat_of('fills'), $fills, 'and keep nothing');
sql("ALTER SYSTEM RESET synchronous_standby_names");
sql("SELECT pg_reload_conf()");
$writer->{run}->pump_nb;
ok($node->poll_query_until($p, "SELECT state = 'idle' FROM pg_stat_activity WHERE pid = $pid"), 'the commit has ended');
is(sql("SELECT name FROM users WHERE id = 1"), 'f', 'visible');
is(sql($unread), '[{"name": "f"}]', 'the new value there');
$fills = stat_of('fills');
is(sql($get), '[{"name": "f"}]', 'then the new value');
is(stat_of('fills'), $fills + 1, 'which is kept') or diag stat_of('refused_fills');
$writer->quit;

# ---- single flight ----
my $flight = script($node, 'flight', "SELECT scalecache.cached_query('slow', 'SELECT slow(1)');");
$node->command_ok([ 'pgbench', '-n', '-c', '100', '-t', '5', '-f', $flight, '-h', $node->host, '-p', $node->port, $p ],
	'100 sessions miss one key');
my $runs = () = PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ /LOG:  slow has run/g;
is($runs, 1, 'and run the query once');

# Who has waited takes what was loaded meanwhile, even if it is not kept for longer.
# A loader that waits for a lock is not waited for long: this one asks again and
# again, until the others are there, however long that takes.
sql('CREATE FUNCTION gate() RETURNS int LANGUAGE plpgsql VOLATILE AS
	$$ BEGIN WHILE NOT pg_try_advisory_lock_shared(1) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN 1; END $$');
my $gate = $node->background_psql($p);
$gate->query_safe('SELECT pg_advisory_lock(1)');
my @waiting = map { $node->background_psql($p) } 1 .. 20;
my $pids = join(',', map { $_->query_safe('SELECT pg_backend_pid()') } @waiting);
for my $session (@waiting)
{
	$session->{stdin} .= "SELECT scalecache.cached_query('brief', 'SELECT slow(0) AS n FROM gate()', '1 us');\n";
	$session->{run}->pump_nb;
}
ok($node->poll_query_until($p, "SELECT count(*) = 19 FROM pg_stat_activity WHERE pid IN ($pids) AND wait_event = 'Extension'"), 'one loads what expires at once, others wait')
  or diag(sql("SELECT pid, state, wait_event FROM pg_stat_activity WHERE pid IN ($pids)"));
my $log = -s $node->logfile;
$gate->query_safe('SELECT pg_advisory_unlock(1)');
ok($node->poll_query_until($p, "SELECT bool_and(state = 'idle') FROM pg_stat_activity WHERE pid IN ($pids)"), 'all have an answer');
$runs = () = substr(PostgreSQL::Test::Utils::slurp_file($node->logfile), $log) =~ /LOG:  slow has run/g;
is($runs, 1, 'and the query has run once');
is(join(' ', map { $_->query_safe('SELECT 1') =~ /"n": 42/ ? () : 'another' } @waiting), '', 'which is the answer of all');
$_->quit for @waiting, $gate;
sql("SELECT scalecache.cached_query('brief', 'SELECT slow(0) AS n', '1 us')");
$runs = () = substr(PostgreSQL::Test::Utils::slurp_file($node->logfile), $log) =~ /LOG:  slow has run/g;
is($runs, 2, 'who comes later runs it again');

# A loader that fails, or goes, leaves its place to another.
my $loader = $node->background_psql($p, on_error_stop => 0);
$pid = $loader->query("SELECT pg_backend_pid()");
$loader->{stdin} .= "SELECT scalecache.cached_query('stuck', 'SELECT slow(600)');\n";
$loader->{run}->pump_nb;
ok($node->poll_query_until($p, "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $pid"), 'a slow loader');
my ($ret, $out, $err) = $node->psql($p, "SET statement_timeout = 300; SELECT scalecache.cached_query('stuck', 'SELECT 1')");
like($err, qr/statement timeout/, 'one who waits for it can be cancelled');
sql("SELECT pg_terminate_backend($pid)");
is(sql("SELECT scalecache.cached_query('stuck', 'SELECT 7 AS n')"), '[{"n": 7}]', 'its successor loads');
eval { $loader->{run}->finish };

# A loader that waits for a lock of the one that waits for it
my $locker = $node->background_psql($p);
$locker->query_safe("BEGIN; LOCK TABLE users");
$loader = $node->background_psql($p);
$pid = $loader->query("SELECT pg_backend_pid()");
$loader->{stdin} .= "SELECT scalecache.cached_query('knot', 'SELECT count(*) FROM users');\n";
$loader->{run}->pump_nb;
ok($node->poll_query_until($p, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid"), 'a loader waits for a lock');
like($locker->query("SELECT scalecache.cached_query('knot', 'SELECT count(*) FROM users')"), qr/1000/, 'whose holder does not wait for it');
$locker->query_safe("COMMIT");
$locker->quit;
$loader->quit;

# An old snapshot fills nothing, whether or not the key was known before.
sub old_snapshot
{
	my ($id, $between) = @_;
	my $query = "SELECT scalecache.cached_query('user:$id', 'SELECT name FROM users WHERE id = $id')";
	my $reader = $node->background_psql($p);

	$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM users');
	sql("UPDATE users SET name = 'later' WHERE id = $id");
	$between->() if $between;
	my $seen = $reader->query_safe($query);
	$reader->query_safe('COMMIT');
	$reader->quit;
	is(sql($query), '[{"name": "later"}]', "$id: after an older snapshot");
	return $seen;
}
is(old_snapshot(700), '[{"name": "d"}]', 'which saw its own');

# ---- roles ----
sql("CREATE ROLE other; GRANT SELECT ON users TO other; SELECT scalecache.cached_query('who', 'SELECT current_user AS me')");
is(sql("SET ROLE other; SELECT scalecache.cached_query('who', 'SELECT current_user AS me')"), '[{"me": "other"}]',
	'a result is for the role that asked');

# ---- bounds ----
sql("SELECT scalecache.cache_set('k' || g, repeat('z', 1000)) FROM generate_series(1, 20000) g");
cmp_ok(stat_of('used_bytes'), '<=', 4 * 1024 * 1024, 'bounded');
cmp_ok(stat_of('evictions'), '>', 10000, 'by evicting');
is(sql("SELECT count(scalecache.cache_get('k' || g)) > 10 FROM generate_series(19800, 20000) g"), 't', 'the newest stay');
sql("SELECT scalecache.cached_query('user:701', 'SELECT name FROM users WHERE id = 701')");
old_snapshot(701, sub { sql("SELECT scalecache.cache_set('l' || g, repeat('z', 1000)) FROM generate_series(1, 20000) g") });
sql("UPDATE users SET name = 'g'");
is(sql($get), '[{"name": "g"}]', 'a full cache invalidates');
is(sql("SELECT count(*) FROM generate_series(1, 1000) g WHERE scalecache.cached_query('user:' || g,
	'SELECT name FROM users WHERE id = ' || g)->0->>'name' <> 'g'"), '0', 'every key');

# ---- the queue without Redis ----
is(sql("SELECT configured FROM scalecache.redis_status"), 'f', 'no Redis');
is(sql("SELECT scalecache.wait_for_cache('180 s')"), 't', 'nothing to wait for');
sql("UPDATE users SET name = 'h' || g FROM generate_series(1, 1) g") for 1 .. 30;
ok($node->poll_query_until($p, "SELECT size_bytes < 4000000 FROM scalecache.cache_queue"), 'the queue stays small');

# ---- a standby caches nothing ----
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('memory_standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
sql("UPDATE users SET name = 'one' WHERE id = 1");
$node->wait_for_catchup($standby);
is($standby->safe_psql($p, $get), '[{"name": "one"}]', 'read on a standby');
sql("UPDATE users SET name = 'two' WHERE id = 1");
$node->wait_for_catchup($standby);
is($standby->safe_psql($p, $get), '[{"name": "two"}]', 'is what it has replayed');
$standby->stop;
$node->stop;
done_testing();
