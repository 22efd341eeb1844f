# The server's own cache where it is full, and where loaders are killed, nest or wait for each other.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use ScaleCache;
use Test::More;

my $node = new_server('leases', init => [ allows_streaming => 1 ], conf => "max_wal_senders = 5
scalecache.cache_size = '1MB'
scalecache.naptime = 100
");
my $p = 'postgres';
my $slow = "SELECT n FROM (SELECT 1 AS n, pg_sleep(600)) q";

sub sql { return $node->safe_psql($p, $_[0]); }
sub stat_of { return sql("SELECT $_[0] FROM scalecache.cache_stats WHERE tier = 'memory'"); }
sub cached { my ($key, $query) = @_; return "SELECT scalecache.cached_query('$key', \$q\$$query\$q\$)"; }
sub row { my ($id) = @_; return cached("t:$id", "SELECT v FROM t WHERE id = $id"); }

# A session that is in the middle of a statement
sub busy
{
	my ($statement, $what, $state) = @_;
	my $s = $node->background_psql($p, on_error_stop => 0);
	my $pid = $s->query('SELECT pg_backend_pid()');

	$s->{stdin} .= "$statement;\n";
	$s->{run}->pump_nb;
	ok($node->poll_query_until($p, "SELECT coalesce(wait_event, '') = '$state' FROM pg_stat_activity WHERE pid = $pid"), $what);
	return { session => $s, pid => $pid };
}

sub kill_busy
{
	my ($b) = @_;

	sql("SELECT pg_terminate_backend($b->{pid}, 180000)");
	eval { $b->{session}{run}->finish };
}

# Whoever else wants the key waits for its loader, which waits for no lock.
sub waits
{
	my ($key, $what) = @_;
	my ($ret, $out, $err) = $node->psql($p, "SET statement_timeout = '4s'; " . cached($key, 'SELECT 1 AS n'));

	like($err, qr/statement timeout/, $what);
}

sub finish_commit
{
	my ($b) = @_;

	sql('ALTER SYSTEM RESET synchronous_standby_names');
	sql('SELECT pg_reload_conf()');
	$b->{session}->query('SELECT 1');
	$b->{session}->quit;
}

# Everything that may be evicted is.
sub fill_up
{
	my $before = stat_of('evictions');

	sql("SELECT scalecache.cache_set('full' || g, repeat('z', 1000)) FROM generate_series(1, 10000) g");
	cmp_ok(stat_of('evictions') - $before, '>', 5000, 'the cache is full');
}

sql(q{CREATE EXTENSION scalecache; CREATE TABLE t (id int PRIMARY KEY, v int);
	INSERT INTO t SELECT g, 0 FROM generate_series(1, 10) g;
	SELECT scalecache.create_cache_rule('t', 't', 't:{id}')});

# ---- a loader's place in a full cache, and after its end ----
my $loader = busy(cached('held', $slow), 'a slow loader', 'PgSleep');
fill_up();
waits('held', 'has its place in a full cache');
kill_busy($loader);
$loader = busy(cached('held', $slow), 'its successor', 'PgSleep');
waits('held', 'has the place of one that was killed');
kill_busy($loader);

# ---- a fence in a full cache ----
is(sql(row(1)), '[{"v": 0}]', 'a value');
hold_commits($node);
my $writer = busy('UPDATE t SET v = 1 WHERE id = 1', 'its key is being changed', 'SyncRep');
fill_up();
is(sql(row(1)), '[{"v": 0}]', 'not visible yet');
finish_commit($writer);
is(sql(row(1)), '[{"v": 1}]', 'then nobody gets the old one');
my $hits = stat_of('hits');
sql(row(1));
is(stat_of('hits'), $hits + 1, 'and the new one is kept');

# ---- nobody waits for the loader of a key that is being changed ----
hold_commits($node);
$writer = busy('UPDATE t SET v = 2 WHERE id = 1', 'a key is being changed', 'SyncRep');
$loader = busy(cached('t:1', $slow), 'a slow reader of it', 'PgSleep');
is(sql("SET statement_timeout = '100s'; " . row(1)), '[{"v": 1}]', 'is not waited for: what it reads will not be kept');
kill_busy($loader);
finish_commit($writer);

# ---- loaders of several roles ----
sql('CREATE ROLE another');
$loader = busy('SET ROLE another; ' . cached('shared', $slow), 'a loader for another role', 'PgSleep');
is(sql("SET statement_timeout = '100s'; " . cached('shared', 'SELECT 1 AS n')), '[{"n": 1}]', 'is not waited for');
sql(q{SELECT scalecache.cache_delete('shared')});
my $mine = busy(cached('shared', $slow), 'nor does it keep this role from having one', 'PgSleep');
waits('shared', 'for which its own wait');
kill_busy($_) for $loader, $mine;
is(sql("SET statement_timeout = '100s'; " . cached('shared', 'SELECT 2 AS n')), '[{"n": 2}]', 'and both give their places back');

# ---- loaders whose queries ask for other keys ----
my $holder = $node->background_psql($p);
$holder->query_safe('BEGIN; SELECT pg_advisory_xact_lock(1)');
my @each;
for my $pair ([ 'a', 'b' ], [ 'b', 'a' ])
{
	my ($own, $other) = @$pair;
	my $query = "SELECT x->0->'n' AS n FROM pg_advisory_xact_lock_shared(1), LATERAL scalecache.cached_query('$other', 'SELECT 1 AS n') x";

	push @each, busy("SET statement_timeout = '100s'; " . cached($own, $query), "a loader of $own", 'advisory');
}
$holder->query_safe('COMMIT');
$holder->quit;
for my $b (@each)
{
	like($b->{session}->query("SELECT 'done'"), qr/\[\{"n": 1\}\].*done/s, 'two that want the other\'s key do not wait for each other');
	$b->{session}->quit;
}
my $nested = $node->background_psql($p);
is($nested->query_safe(cached('outer', "SELECT scalecache.cached_query('inner', 'SELECT 1 AS n') AS n")), '[{"n": [{"n": 1}]}]', 'one in another');
is(sql("SELECT scalecache.cache_delete('outer', 'inner')"), '2', 'both are kept');
is(sql("SET statement_timeout = '100s'; " . cached($_, 'SELECT 2 AS n')), '[{"n": 2}]', "the place of $_ is free again") for 'inner', 'outer';
$nested->quit;

# ---- times to live are not all the same ----
# Of two keys with one ttl, the one set later would never expire first.
sql(q{CREATE FUNCTION one_expires_early() RETURNS boolean LANGUAGE plpgsql AS $$
	DECLARE
		gone bool := false;
	BEGIN
		PERFORM scalecache.cache_set('ttl' || g, 'x', '1 s') FROM generate_series(1, 100) g;
		WHILE scalecache.cache_get('ttl1') IS NOT NULL LOOP
			gone := false;
			FOR i IN REVERSE 100 .. 1 LOOP
				IF scalecache.cache_get('ttl' || i) IS NULL THEN
					gone := true;
				ELSIF gone THEN
					RETURN true;
				END IF;
			END LOOP;
		END LOOP;
		RETURN false;
	END $$});
my $early = 'f';
for (1 .. 20)
{
	last if ($early = sql('SELECT one_expires_early()')) eq 't';
}
is($early, 't', 'values of one ttl do not expire at one moment');

# ---- epochs of more rules than memory tells apart ----
sql(q{CREATE TABLE many (id int, v int); INSERT INTO many SELECT g, 0 FROM generate_series(1, 10) g;
	DO $$BEGIN FOR i IN 1 .. 80 LOOP
		PERFORM scalecache.create_cache_rule('many' || i, 'many', 'many' || i || ':{id}');
	END LOOP; END$$});
my $many = cached('many80:1', 'SELECT 1 AS n');
sql($many);
$hits = stat_of('hits');
is(sql($many), '[{"n": 1}]', 'a value');
is(stat_of('hits'), $hits + 1, 'is kept');
my $each = q{SELECT count(scalecache.cached_query('many' || i || ':1', 'SELECT 1 AS n')) FROM generate_series(1, 80) i};
sql($each);
$hits = stat_of('hits') - 1;
hold_commits($node);
$writer = busy('TRUNCATE many', 'every key is being changed', 'SyncRep');
my $fills = stat_of('fills');
is(sql($many), '[{"n": 1}]', 'readers run the query meanwhile');
is(stat_of('hits'), $hits + 1, 'with no hit');
is(stat_of('fills'), $fills, 'and keep nothing');
finish_commit($writer);
$hits = stat_of('hits');
is(sql($each), '80', 'as they do when it is over');
is(stat_of('hits'), $hits, 'for each key of each rule');
# A snapshot of before an epoch
sql('INSERT INTO many SELECT g, 0 FROM generate_series(1, 10) g');
my $sum = cached('many80:2', 'SELECT sum(v) AS s FROM many');
my $old = $node->background_psql($p);
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM many');
sql('SET scalecache.max_keys_per_transaction = 1; UPDATE many SET v = 1');
is($old->query_safe($sum), '[{"s": 0}]', 'an older snapshot sees what it saw');
is(sql($sum), '[{"s": 10}]', 'and leaves nothing behind');
$old->query_safe('COMMIT');
$old->quit;
$node->stop;
done_testing();
