# A good guest: pg_upgrade --link, CREATE DATABASE ... TEMPLATE, databases set
# to what workers must not mind, and a server that has not loaded the library.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ScaleCache;
use Test::More;
use Time::HiRes qw(time usleep);

# What DROP VIEW of r_k and DROP EXTENSION leave of it
sub nothing_left
{
	my ($node, $db, $what) = @_;

	$node->safe_psql($db, 'DROP VIEW r_k');
	is( $node->safe_psql($db, q{SELECT
		(SELECT count(*) FROM scalecache.rollup WHERE rollup::text ~ 'r_k'),
		(SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
			WHERE nspname = 'scalecache_data' AND relname ~ 'r_k'),
		(SELECT count(DISTINCT tgargs) FROM pg_trigger WHERE tgname ~ '^scalecache_' AND tgrelid = 't'::regclass AND NOT EXISTS
				(SELECT FROM scalecache.rollup WHERE encode(tgargs, 'escape') = id || '\\000'))}),
		'0|0|0', "$what: DROP VIEW leaves nothing of that rollup");
	my ($ret, $out, $err) = $node->psql($db, 'DROP EXTENSION scalecache');
	is($ret, 0, "$what: DROP EXTENSION") or diag($err);
	is( $node->safe_psql($db, q{SELECT
		(SELECT count(*) FROM pg_trigger WHERE tgname ~ '^scalecache_'),
		(SELECT count(*) FROM pg_class WHERE relname ~ '^r_'),
		(SELECT count(*) FROM pg_namespace WHERE nspname ~ '^scalecache'),
		(SELECT count(*) FROM pg_event_trigger),
		(SELECT count(*) FROM t) > 0}),
		'0|0|0|0|t', "$what: DROP EXTENSION leaves nothing but the data");
}

# pg_upgrade
my $old = new_server('old');
$old->safe_psql('postgres', "CREATE EXTENSION scalecache; $TABLE $ROLLUPS $WRITE
	CREATE TABLE p (a int, v int) PARTITION BY RANGE (a);
	CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
	CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20);
	SELECT scalecache.create_rollup('r_p', 'SELECT a, sum(v) AS s FROM p GROUP BY a');
	INSERT INTO p SELECT g % 20, g FROM generate_series(1, 100) g;
	CREATE TABLE name (k int PRIMARY KEY, name text);
	SELECT scalecache.create_rollup('r_j', 'SELECT name, count(*) AS n FROM t JOIN name USING (k) GROUP BY name');");
# Some changes are pending when the server stops.
$old->safe_psql('postgres', 'ALTER SYSTEM SET scalecache.worker = off');
$old->restart;
$old->safe_psql('postgres', $WRITE);
cmp_ok($old->safe_psql('postgres', 'SELECT sum(pending_deltas) FROM scalecache.rollups'),
	'>', 0, 'deltas are pending');
my $before = $old->safe_psql('postgres', 'SELECT * FROM r_k ORDER BY k');
$old->stop;

my $new = PostgreSQL::Test::Cluster->new('new');
$new->init;
configure($new);
my $bindir = $new->config_data('--bindir');
chdir $new->basedir or die;
$new->command_ok(
	[ 'pg_upgrade', '--no-sync', '--link', '-d', $old->data_dir, '-D', $new->data_dir,
		'-b', $bindir, '-B', $bindir, '-s', $new->host, '-p', $old->port, '-P', $new->port ],
	'pg_upgrade --link');
$new->start;
is($new->safe_psql('postgres', 'SELECT * FROM r_k ORDER BY k'), $before,
	'upgraded: as before');
exact($new, 'postgres', 'upgraded');
live($new, 'postgres', $_, 'upgraded') for ('r_k', 'r_p');
verified($new, 'postgres', 'upgraded');
$new->safe_psql('postgres', "$WRITE INSERT INTO p SELECT g % 20, g FROM generate_series(1, 100) g");
exact($new, 'postgres', 'upgraded and written to');
live($new, 'postgres', $_, 'upgraded and written to') for ('r_k', 'r_p');
verified($new, 'postgres', 'upgraded and written to');
folded($new, 'postgres', 'upgraded');
$new->safe_psql('postgres', 'TRUNCATE p');
exact($new, 'postgres', 'upgraded and truncated');
$new->safe_psql('postgres', 'DROP TABLE p CASCADE');

# A database made from another that has a worker
$new->safe_psql('postgres', 'CREATE DATABASE twin TEMPLATE postgres');
exact($new, 'twin', 'copied');
$new->safe_psql('twin', $WRITE);
$new->safe_psql('postgres', $WRITE . $WRITE);
for my $db ('twin', 'postgres')
{
	exact($new, $db, "$db of two");
	live($new, $db, 'r_k', "$db of two");
	verified($new, $db, "$db of two");
	folded($new, $db, "$db of two");
}
$new->safe_psql('postgres', 'ALTER DATABASE twin RENAME TO twin2');
$new->safe_psql('twin2', $WRITE);
folded($new, 'twin2', 'renamed');
nothing_left($new, 'twin2', 'copied');
nothing_left($new, 'postgres', 'upgraded');

# template1 with the extension: new databases have it.
$new->safe_psql('template1', 'CREATE EXTENSION scalecache');
$new->safe_psql('postgres', 'CREATE DATABASE fresh');
$new->safe_psql('fresh', "$TABLE $ROLLUPS $WRITE");
exact($new, 'fresh', 'from template1');
folded($new, 'fresh', 'from template1');

# What a database is set to is for its users, not for its worker.
$new->safe_psql('postgres', "ALTER DATABASE fresh SET default_transaction_isolation = 'serializable';
	ALTER DATABASE fresh SET default_transaction_read_only = on;
	ALTER DATABASE fresh SET search_path = nowhere;
	ALTER DATABASE fresh SET statement_timeout = 1;
	ALTER DATABASE fresh SET row_security = off;
	ALTER DATABASE fresh SET scalecache.enable_rollup_scan = off;
	ALTER DATABASE fresh SET session_replication_role = replica");
$new->restart;
{
	local $ENV{PGOPTIONS} = '-c default_transaction_read_only=off -c search_path=public'
	  . ' -c statement_timeout=0 -c scalecache.enable_rollup_scan=on -c default_transaction_isolation=read\ committed';
	$new->safe_psql('fresh', $WRITE);
	folded($new, 'fresh', 'a database with odd settings');
	exact($new, 'fresh', 'a database with odd settings');
	verified($new, 'fresh', 'a database with odd settings');

	# Who ends all other connections ends the launcher and the workers too.
	my $launcher = q{FROM pg_stat_activity WHERE backend_type = 'scalecache launcher'};
	my $old = $new->safe_psql('postgres', "SELECT pid $launcher");
	$new->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE pid <> pg_backend_pid()});
	ok($new->poll_query_until('postgres', "SELECT count(*) = 1 $launcher AND pid <> $old"),
		'a launcher that was terminated comes back');
	$new->safe_psql('fresh', $WRITE);
	folded($new, 'fresh', 'after workers were terminated');
}

# A rollup that cannot be folded does not keep others waiting.
$new->safe_psql('postgres', 'CREATE DATABASE late TEMPLATE template0');
$new->safe_psql('late', q{CREATE EXTENSION scalecache;
	CREATE FUNCTION fails(int, int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN
		IF $2 = 13 THEN RAISE EXCEPTION 'unlucky'; END IF;
		RETURN coalesce($1 + $2, $2);
	END $$;
	CREATE AGGREGATE lucky(int) (SFUNC = fails, STYPE = int);
	CREATE TABLE a (k int, v int);
	CREATE TABLE b (k int, v int);
	SELECT scalecache.create_rollup('r_a', 'SELECT k, lucky(v) AS l FROM a GROUP BY k');
	SELECT scalecache.create_rollup('r_b', 'SELECT k, sum(v) AS s FROM b GROUP BY k');
	INSERT INTO a VALUES (1, 13)});
ok($new->poll_query_until('late', q{SELECT EXISTS (SELECT FROM scalecache.rollups
	WHERE rollup = 'r_a'::regclass AND pending_deltas > 0)}), 'a rollup whose aggregate fails');
$new->wait_for_log(qr/unlucky/);
for my $nth (1 .. 3)
{
	$new->safe_psql('late', 'INSERT INTO b VALUES (1, 1)');
	ok($new->poll_query_until('late', q{SELECT pending_deltas = 0 FROM scalecache.rollups
		WHERE rollup = 'r_b'::regclass}), 'another one is folded');
}
$new->safe_psql('late', 'DELETE FROM a');
folded($new, 'late', 'an aggregate that fails no more');

# A worker that found no extension looks again after ten seconds.  Who creates
# it, before restoring a dump for instance, need not wait for that.
$new->safe_psql('postgres', 'ALTER SYSTEM SET log_min_messages = debug1');
$new->reload;
my $waited = 10;
for (my $nth = 1; $waited >= 8 && $nth <= 20; $nth++)
{
	$new->safe_psql('postgres', "CREATE DATABASE late$nth TEMPLATE template0");
	my $oid = $new->safe_psql('postgres', "SELECT oid FROM pg_database WHERE datname = 'late$nth'");
	for (1 .. 1800)
	{
		last if slurp_file($new->logfile) =~ /unregistering background worker "scalecache worker for database $oid"/;
		usleep(100_000);
	}
	my $since = time;
	$new->safe_psql("late$nth", 'BEGIN; CREATE EXTENSION scalecache; COMMIT');
	ok($new->poll_query_until("late$nth", "SELECT count(*) = 1 $WORKER"), 'a worker for the new extension');
	$waited = time - $since;
}
cmp_ok($waited, '<', 8, 'it comes at once');
$new->safe_psql('postgres', 'ALTER SYSTEM RESET log_min_messages');
$new->reload;
unlike(slurp_file($new->logfile), qr/PANIC|TRAP|scalecache worker.*exited with exit code [2-9]/,
	'no worker crashed');
$new->stop;

# Without the library preloaded
my $bare = new_server('bare', preload => 0);
$bare->safe_psql('postgres', "CREATE EXTENSION scalecache; $TABLE $ROLLUPS $WRITE");
exact($bare, 'postgres', 'not preloaded');
verified($bare, 'postgres', 'not preloaded');
is($bare->safe_psql('postgres', 'SELECT count(*) = (SELECT count(DISTINCT k) FROM t) FROM r_k'),
	't', 'not preloaded: a session that knows nothing of it answers right');
unlike($bare->safe_psql('postgres', 'EXPLAIN SELECT * FROM r_k'), qr/ScaleCacheRollup/,
	'not preloaded: from the source');
like($bare->safe_psql('postgres', q{LOAD 'scalecache'; EXPLAIN (ANALYZE) SELECT * FROM r_k}),
	qr/Answered From: rollup/, 'loaded by hand: from the rollup');
for (1 .. 3)
{
	$bare->safe_psql('postgres', $WRITE);
	exact($bare, 'postgres', 'not preloaded, written to');
	cmp_ok($bare->safe_psql('postgres', q{SELECT sum(scalecache.fold_rollup(rollup)) FROM scalecache.rollups}),
		'>', 0, 'not preloaded: folds on demand');
	exact($bare, 'postgres', 'not preloaded, folded');
	verified($bare, 'postgres', 'not preloaded, folded');
}
$bare->safe_psql('postgres', 'TRUNCATE t');
exact($bare, 'postgres', 'not preloaded, truncated');
$bare->safe_psql('postgres', "$WRITE
	BEGIN; DELETE FROM t WHERE k = 3; PREPARE TRANSACTION 'p'");
$bare->stop('immediate');
$bare->start;
$bare->safe_psql('postgres', "COMMIT PREPARED 'p'");
exact($bare, 'postgres', 'not preloaded, crashed');
is($bare->safe_psql('postgres', 'SELECT count(*) FROM r_k WHERE k = 3'), '0',
	'not preloaded: prepared before a crash');
nothing_left($bare, 'postgres', 'not preloaded');
$bare->stop;
done_testing();
