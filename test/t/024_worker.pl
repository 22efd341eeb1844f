# The workers: whom they serve, when they come and go, and that nobody stops them who may not.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ScaleCache;
use Test::More;

# At first nothing happens by the clock alone.
my $node = new_server('worker', init => [ allows_streaming => 1 ], conf => "scalecache.naptime = 1000000
max_wal_senders = 5
");
my $p = 'postgres';

sub sql { my ($db, $text) = @_; return $node->safe_psql($db, $text); }

# The pids of a database's workers; the one that delivers looks only sometimes whether it is wanted.
sub workers
{
	my ($db, $type) = @_;

	return sql($p, "SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity
		WHERE datname = '$db' AND backend_type = '" . ($type // 'scalecache worker') . "'");
}

sub count_is
{
	my ($db, $n, $what, $type) = @_;

	$type //= 'scalecache worker';
	ok($node->poll_query_until($p, "SELECT count(*) = $n FROM pg_stat_activity
		WHERE datname = '$db' AND backend_type = '$type'"), $what);
}

# ---- a rollup that fails keeps no other one waiting ----
sql($p, "CREATE EXTENSION scalecache; $TABLE
	CREATE TABLE a (k int, v int);
	SELECT scalecache.create_rollup('fails', 'SELECT k, array_agg(10 / v ORDER BY v) AS s, count(*) AS n FROM a GROUP BY k');
	$ROLLUPS $WRITE");
folded($node, $p, 'before');
sql($p, 'INSERT INTO a VALUES (1, 0), (2, 1)');
my $worker = workers($p);
for my $i (1 .. 3)
{
	sql($p, $WRITE);
	ok($node->poll_query_until($p, q{SELECT sum(pending_deltas) = 0 FROM scalecache.rollups WHERE rollup::text <> 'fails'}),
		"the others are folded, round $i");
}
is(sql($p, q{SELECT pending_deltas FROM scalecache.rollups WHERE rollup::text = 'fails'}), '2', 'it is not');
is(workers($p), $worker, 'by the same worker');
like(slurp_file($node->logfile), qr/ERROR:  division by zero/, 'the log says why');
sql($p, 'DELETE FROM a WHERE v = 0');
sql($p, q{SELECT scalecache.fold_rollup('fails')});
is(sql($p, q{SELECT pending_deltas FROM scalecache.rollups WHERE rollup::text = 'fails'}), '0',
	'nor does it fail when its rows have changed');
sql($p, 'DROP VIEW fails; DROP TABLE a');

# ---- nor does one with a function that never returns ----
$node->append_conf('postgresql.conf', 'scalecache.fold_timeout = 500');
$node->reload;
my $returns = q{CREATE OR REPLACE FUNCTION add(bigint, int) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS
	$$BEGIN RETURN $1 + coalesce($2, 0); END$$};
(my $loops = $returns) =~ s/BEGIN/BEGIN WHILE \$2 < 0 LOOP END LOOP;/;
sql($p, "CREATE TABLE a (k int, v int); $loops;
	CREATE AGGREGATE total (int) (sfunc = add, stype = bigint, initcond = '0');
	SELECT scalecache.create_rollup('stuck', 'SELECT k, total(v) AS s, count(*) AS n FROM a GROUP BY k');
	SELECT scalecache.create_rollup('a_sum', 'SELECT k, sum(v) AS s FROM a GROUP BY k')");
my $failing = q{SELECT failing FROM scalecache.rollups WHERE rollup::text = 'stuck'};
my $stuck = 'took the worker more than 500 ms';
my $is_stuck = sub {
	ok($node->poll_query_until($p, "SELECT ($failing) = '$stuck'"), $_[0]);
	sql($p, $WRITE);
	ok($node->poll_query_until($p, q{SELECT sum(pending_deltas) = 0 FROM scalecache.rollups WHERE rollup::text <> 'stuck'}),
		'the others are folded');
};
sql($p, 'INSERT INTO a VALUES (1, 1), (1, -1)');
$is_stuck->('a fold is ended');
is(workers($p), $worker, 'by the same worker');
like(slurp_file($node->logfile), qr/WARNING:  rollup "stuck" $stuck\n.*left alone for 5 s.*\n.*HINT.*\n.*CONTEXT:  PL\/pgSQL function add/,
	'the log says so');
is(sql($p, "CREATE ROLE guest; SET ROLE guest; $failing"), '<insufficient privilege>', 'why is not for everybody');
# Nobody waits for the time when it is tried again, once it can be.
my $again = sub {
	my ($what) = @_;

	ok($node->poll_query_until($p, "WITH w AS (INSERT INTO a VALUES (2, 1))
		SELECT bool_and(state = 'live' AND failing IS NULL AND pending_deltas <= 1) FROM scalecache.rollups"), $what);
};
sql($p, q{UPDATE a SET v = 1; SELECT scalecache.fold_rollup('stuck')});
$again->('somebody has folded it');
sql($p, 'INSERT INTO a VALUES (1, -1)');
$is_stuck->('another one is ended');
sql($p, $returns);
$again->('its function has been replaced');
sql($p, $loops);
$is_stuck->('filling it is ended');
is(sql($p, q{SELECT state FROM scalecache.rollups WHERE rollup::text = 'stuck'}), 'filling', 'its source answers');
sql($p, $returns);
$again->('replaced again');
exact($node, $p, 'at last');
sql($p, 'INSERT INTO a VALUES (1, -1)');
sql($p, $loops);
$is_stuck->('and stuck again');

# ---- nor does one whose function catches that it is canceled ----
sql($p, "$returns; UPDATE a SET v = 1");
$again->('once more');
$node->append_conf('postgresql.conf', 'scalecache.fold_timeout = 1000');
$node->reload;
(my $stays = $returns) =~ s/BEGIN/BEGIN WHILE \$2 < 0 LOOP BEGIN PERFORM pg_sleep(3600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP;/;
sql($p, "$stays; INSERT INTO a VALUES (1, -1)");
$stuck = 'took the worker more than 1000 ms';
ok($node->poll_query_until($p, "SELECT ($failing) = '$stuck'"), 'its worker is ended');
count_is($p, 1, 'another one comes');
isnt(workers($p), $worker, 'which is not the same');
$worker = workers($p);
sql($p, $WRITE);
ok($node->poll_query_until($p, q{SELECT sum(pending_deltas) = 0 FROM scalecache.rollups WHERE rollup::text <> 'stuck'}), 'it folds the others');
is(workers($p), $worker, 'and leaves that one alone');
like(slurp_file($node->logfile), qr/WARNING:  rollup "stuck" $stuck\n.*left alone for 10 s/, 'the log says so');
sql($p, $returns);
$again->('its function has been replaced');
exact($node, $p, 'after all');
$worker = workers($p);
(my $raises = $returns) =~ s/BEGIN/BEGIN IF \$2 < 0 THEN BEGIN PERFORM pg_sleep(3600); EXCEPTION WHEN query_canceled THEN RAISE 'not me'; END; END IF;/;
sql($p, "$raises; INSERT INTO a VALUES (1, -1)");
$is_stuck->('nor does one whose function raises another error when it is canceled');
is(workers($p), $worker, 'which the worker outlives');
sql($p, 'DROP VIEW stuck; DROP TABLE a CASCADE; DROP AGGREGATE total (int); DROP FUNCTION add');
$node->append_conf('postgresql.conf', 'scalecache.fold_timeout = 60000');
$node->reload;

# ---- what goes with a session, without event triggers, leaves nothing ----
sql($p, q{CREATE FUNCTION pg_temp.half(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 / 2';
	CREATE FUNCTION half(v int) RETURNS int IMMUTABLE LANGUAGE sql BEGIN ATOMIC SELECT pg_temp.half(v); END;
	SELECT scalecache.create_rollup('fleeting', 'SELECT half(k) AS h, count(*) AS n FROM t GROUP BY 1')});
is(sql($p, q{SELECT to_regclass('fleeting') IS NULL}), 't', 'a rollup of what is temporary in the end has gone');
ok($node->poll_query_until($p, q{WITH w AS (INSERT INTO t (k, v) VALUES (1, 1) RETURNING 1)
	SELECT count(*) = 0 FROM pg_class WHERE relname ~ '^fleeting'}), 'its storage goes as well');
is(sql($p, q{SELECT count(*) FROM scalecache.rollup r LEFT JOIN pg_class c ON c.oid = r.rollup WHERE c.oid IS NULL}), '0',
	'and what was known of it');

# ---- what is written while it waits for a lock is not forgotten ----
sql($p, q{CREATE TABLE b (k int, v int);
	CREATE FUNCTION locked(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
		$$BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN $1; END$$;
	SELECT scalecache.create_rollup('waits', 'SELECT k, array_agg(locked(v) ORDER BY v) AS s FROM b GROUP BY k')});
my $holder = $node->background_psql($p);
$holder->query_safe('BEGIN; SELECT pg_advisory_xact_lock(1)');
sql($p, 'INSERT INTO b VALUES (1, 1)');
ok($node->poll_query_until($p, "SELECT wait_event = 'advisory' FROM pg_stat_activity WHERE pid = $worker"), 'the worker waits in a fold');
sql($p, $WRITE);
$holder->query_safe('COMMIT');
$holder->quit;
folded($node, $p, 'after it');
sql($p, 'DROP VIEW waits; DROP TABLE b');

# ---- who may not do something to a database does not stop its worker ----
sql($p, q{CREATE ROLE nobody; CREATE ROLE owner; CREATE ROLE creator CREATEDB; CREATE DATABASE theirs OWNER owner});
sql('theirs', "CREATE EXTENSION scalecache; $TABLE $ROLLUPS $WRITE");
folded($node, 'theirs', 'a second database');
$worker = workers('theirs');
for my $case ([ 'nobody', 'DROP DATABASE theirs', 'must be owner' ],
	[ 'nobody', 'CREATE DATABASE copy TEMPLATE theirs', 'permission denied to create' ],
	[ 'creator', 'CREATE DATABASE copy TEMPLATE theirs', 'permission denied to copy' ],
	[ 'owner', 'CREATE DATABASE copy TEMPLATE theirs', 'permission denied to create' ],
	[ 'nobody', 'ALTER DATABASE theirs RENAME TO ours', 'must be owner' ],
	[ 'owner', 'ALTER DATABASE theirs RENAME TO ours', 'permission denied to rename' ],
	[ 'nobody', 'ALTER DATABASE theirs SET TABLESPACE pg_default', 'must be owner' ],
	[ 'owner', 'BEGIN; DROP DATABASE theirs', 'cannot run inside a transaction block' ],
	[ 'owner', 'BEGIN; ALTER DATABASE theirs SET TABLESPACE pg_default', 'cannot run inside a transaction block' ])
{
	my ($role, $command, $error) = @$case;
	my ($ret, $out, $err) = $node->psql($p, "SET ROLE $role;\n$command;\n");

	like($err, qr/$error/, "$role: $command");
	is(workers('theirs'), $worker, 'its worker goes on');
}

# ---- who may gets it out of the way ----
my $dir = PostgreSQL::Test::Utils::tempdir;
sql($p, "CREATE TABLESPACE elsewhere LOCATION '$dir'");
sql($p, 'ALTER DATABASE theirs SET TABLESPACE elsewhere');
sql('theirs', $WRITE);
folded($node, 'theirs', 'moved');
sql($p, 'ALTER DATABASE theirs SET TABLESPACE pg_default');
sql('theirs', $WRITE);
folded($node, 'theirs', 'moved back');
sql($p, 'DROP TABLESPACE elsewhere');
# A command that fails for another reason
my $session = $node->background_psql('theirs');
$session->query_safe('SELECT 1');
my ($ret, $out, $err) = $node->psql($p, 'DROP DATABASE theirs');
like($err, qr/is being accessed by other users/, 'a database in use');
$session->quit;
sql('theirs', $WRITE);
folded($node, 'theirs', 'not dropped');

# ---- databases without workers ----
sql($p, 'ALTER DATABASE theirs IS_TEMPLATE true');
count_is('theirs', 0, 'a template has no worker');
sql($p, 'CREATE DATABASE copy TEMPLATE theirs');
sql($p, 'ALTER DATABASE theirs IS_TEMPLATE false');
sql('copy', $WRITE);
folded($node, 'copy', 'a copy of it');
sql('theirs', $WRITE);
folded($node, 'theirs', 'no template any more');
sql($p, 'ALTER DATABASE copy ALLOW_CONNECTIONS false');
sql($p, 'SELECT pg_terminate_backend(pid, 180000) FROM pg_stat_activity WHERE datname = \'copy\'');
count_is('copy', 0, 'nor has one that nobody may connect to');
sql($p, 'DROP DATABASE copy');
$node->append_conf('postgresql.conf', 'scalecache.naptime = 200');
$node->reload;
sql('theirs', 'DROP EXTENSION scalecache CASCADE; DROP TABLE t');
count_is('theirs', 0, 'nor one without the extension');
sql('theirs', "CREATE EXTENSION scalecache; $TABLE $ROLLUPS $WRITE");
folded($node, 'theirs', 'until it has it again');
my $dropped = sql($p, q{SELECT oid FROM pg_database WHERE datname = 'theirs'});
sql($p, 'DROP DATABASE theirs');

# ---- off and on ----
$node->append_conf('postgresql.conf', 'scalecache.worker = off');
$node->reload;
count_is($p, 0, 'no worker is wanted');
sql($p, $WRITE);
cmp_ok(sql($p, 'SELECT sum(pending_deltas) FROM scalecache.rollups'), '>', 0, 'nothing is folded');
$node->append_conf('postgresql.conf', 'scalecache.worker = on');
$node->reload;
folded($node, $p, 'wanted again');

# ---- a standby has none, until it is promoted ----
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('worker_standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
sql($p, $WRITE);
$node->wait_for_catchup($standby);
is($standby->safe_psql($p, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ 'scalecache'}), '0', 'a standby has no worker');
$standby->promote;
$standby->safe_psql($p, $WRITE);
folded($standby, $p, 'promoted');
$standby->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|scalecache (worker|delivery).*exited with exit code [2-9]/, 'no worker crashed');
$node->stop;

# ---- counters of a database go with it: the file has none ----
my (undef, @saved) = unpack('L (q L x4 Q Q)*', slurp_file($node->data_dir . '/pg_stat/scalecache_rollups.stat'));
my @counted;
while (my (undef, $dboid) = splice(@saved, 0, 4))
{
	push @counted, $dboid;
}
cmp_ok(scalar @counted, '>', 0, 'counters are kept over a restart');
is(scalar(grep { $_ == $dropped } @counted), 0, 'not those of a database that was dropped');

# ---- fewer processes than databases: they take turns ----
my $small = PostgreSQL::Test::Cluster->new('worker_small');
$small->init;
# One for each launcher, and one for all databases
$small->append_conf('postgresql.conf', q{
shared_preload_libraries = 'scalecache'
max_worker_processes = 3
scalecache.naptime = 50
scalecache.fold_delay = 1
});
$small->start;
$small->safe_psql($p, "CREATE DATABASE db$_") for 1 .. 3;
$small->safe_psql("db$_", "CREATE EXTENSION scalecache; $TABLE $ROLLUPS") for 1 .. 3;
for my $round (1 .. 2)
{
	$small->safe_psql("db$_", $WRITE) for 1 .. 3;
	folded($small, "db$_", "round $round") for 1 .. 3;
}
# All are busy at once, and one has something to deliver: nobody waits for ever.
$small->safe_psql('db1', "CREATE TABLE cached (id int PRIMARY KEY, v int);
	SELECT scalecache.create_cache_rule('c', 'cached', 'c:{id}')");
my ($told, $said);
my @busy = map { IPC::Run::start([ 'psql', '-Xqc', "DO \$\$ BEGIN LOOP INSERT INTO t (k, v) VALUES (1, 1); COMMIT; PERFORM pg_sleep(0.02); END LOOP; END \$\$",
	$small->connstr("db$_") ], '>', \$told, '2>', \$said) } 1 .. 3;
my $since = $small->safe_psql($p, 'SELECT now()');
ok($small->poll_query_until("db$_", "SELECT bool_and(last_fold > '$since') FROM scalecache.rollups"), "db$_ is folded") for 1 .. 3;
ok($small->poll_query_until($p, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'scalecache delivery'}), 'one delivers');
$since = $small->safe_psql($p, 'SELECT now()');
ok($small->poll_query_until("db$_", "SELECT bool_and(last_fold > '$since') FROM scalecache.rollups"), "db$_ is folded again") for 1 .. 3;
$small->safe_psql($p, q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query ~ '^DO'});
$_->finish for @busy;
$small->stop;
done_testing();
