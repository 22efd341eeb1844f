# apply_index while others do what they may: change tables, take names, drop
# what is being looked at; and what the builder may do in whose name.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use IndexActions qw(:DEFAULT indexes);
use ScaleCache;
use Test::More;

my $node = new_server('others', conf => q{
shared_preload_libraries = 'scalecache'
scalecache.advisor_lock_timeout = 60s
scalecache.advisor_max_slowdown = 100
deadlock_timeout = 10ms
max_parallel_workers_per_gather = 0
autovacuum = off
});
my $db = 'postgres';
act_on($node, $db);

$node->safe_psql($db, q{
	CREATE EXTENSION scalecache;
	CREATE TABLE gate (x int);
	INSERT INTO gate VALUES (1);
});

# A table, and statements of it that an index on "a" helps.
sub make_table
{
	my ($name, @more) = @_;
	$node->safe_psql($db, qq{
		SET scalecache.advisor_record = off;
		CREATE TABLE $name (id int, a int, b int, c text, pad text);
		INSERT INTO $name SELECT i, i % 5000, i % 3, 'text ' || i, repeat('x', 200) FROM generate_series(1, 50000) i;
		ANALYZE $name;
		SELECT scalecache.reset_workload();
	});
	$node->safe_psql($db, "SELECT count(pad) FROM $name WHERE a = 77;" x 5);
	$node->safe_psql($db, $_) foreach @more;
}

sub verdict
{
	my ($id) = @_;
	return $node->safe_psql($db, "SELECT verdict FROM scalecache.index_action WHERE id = $id");
}

# A transaction that an index of a table waits for, and one that a statement
# of gate waits for.
my $writer = $node->background_psql($db);
my $keeper = $node->background_psql($db);

sub hold
{
	my ($table) = @_;
	$writer->query_safe("BEGIN; UPDATE $table SET a = a WHERE id = 1");
	return;
}

sub shut_gate
{
	$keeper->query_safe('BEGIN; LOCK TABLE gate');
	return;
}

sub at_gate
{
	$node->poll_query_until($db, q{SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'gate'::regclass AND NOT granted)})
	  or die 'nobody waits for gate';
	return;
}

sub building
{
	my ($id) = @_;
	$node->poll_query_until($db, "SELECT phase ~ 'waiting' FROM scalecache.index_actions WHERE id = $id")
	  or die "action $id does not wait";
	return;
}

sub end_builder
{
	my $builders = q{FROM pg_stat_activity WHERE backend_type = 'scalecache index builder'};
	$node->safe_psql($db, "SELECT pg_terminate_backend(pid) $builders");
	$node->poll_query_until($db, "SELECT count(*) = 0 $builders")
	  or die 'the builder does not end';
	return;
}

# Do something while the statements are timed for the second time.
sub between_timings
{
	my ($table, $ddl, $meanwhile) = @_;
	hold($table);
	my $id = apply($ddl);
	building($id);
	shut_gate();
	$writer->query_safe('COMMIT');
	at_gate();
	ref $meanwhile ? $meanwhile->() : $node->safe_psql($db, $meanwhile);
	$keeper->query_safe('COMMIT');
	return $id;
}

# The types of columns change between the two timings: the statement is
# parsed again, not planned from what it was.
make_table('retyped', 'SELECT c FROM gate CROSS JOIN retyped ORDER BY c LIMIT 3');
my $id = between_timings('retyped', 'CREATE INDEX ON retyped (a)', 'ALTER TABLE retyped ALTER c TYPE int USING 5');
like(finished($id), qr/^(kept|dropped)$/, 'the type of a column changes between two timings');

# A statement that waits for a lock is not slow.
make_table('waited_for', 'SELECT count(waited_for.pad) FROM gate, waited_for WHERE a = 78');
$node->safe_psql($db, q{ALTER SYSTEM SET scalecache.advisor_verify_timeout = '2s'});
$node->reload;
hold('waited_for');
$id = apply('CREATE INDEX ON waited_for (a)');
building($id);
shut_gate();
$writer->query_safe('COMMIT');
at_gate();
is(finished($id), 'kept', 'a table stays locked while a statement is timed again');
is($node->safe_psql($db, "SELECT statements FROM scalecache.index_actions WHERE id = $id"), '2', 'which is left out then');
$keeper->query_safe('COMMIT');
$node->safe_psql($db, 'ALTER SYSTEM RESET scalecache.advisor_verify_timeout');
$node->reload;

# Somebody else's index of the very name that was asked for: it is his, and
# ours is called something like it.
make_table('named');
hold('named');
$id = apply('CREATE INDEX named_ix ON named (a)');
building($id);
is(indexes('named'), "scalecache_$id invalid", 'while it is built, an index has a name of its own');
$node->safe_psql($db, 'CREATE INDEX named_ix ON gate (x)');
$writer->query_safe('COMMIT');
is(finished($id), 'kept', 'its name was given to another one meanwhile');
is(indexes('named') . ', ' . indexes('gate'), 'named_ix1, named_ix', 'both are there');
is($node->safe_psql($db, "SELECT index FROM scalecache.index_actions WHERE id = $id"), 'named_ix1', 'and the view says which is which');
$node->safe_psql($db, 'DROP INDEX named_ix');

# The builder is killed; the name is used by somebody else before it has been
# cleaned up after.
make_table('killed');
hold('killed');
$id = apply('CREATE INDEX killed_ix ON killed (a)');
building($id);
$node->safe_psql($db, 'CREATE INDEX killed_ix ON gate (x)');
$node->safe_psql($db, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'scalecache index builder'});
$writer->query_safe('COMMIT');
is(finished($id), 'interrupted', 'a killed builder');
is(indexes('killed') . ', ' . indexes('gate'), 'none, killed_ix', 'what is dropped is what was built');

# An index is rebuilt when it is to be kept: neither waits for the other.
make_table('rebuilt', 'SELECT c FROM gate CROSS JOIN rebuilt ORDER BY c LIMIT 3');
my $rebuilder = $node->background_psql($db);
$id = between_timings('rebuilt', 'CREATE INDEX ON rebuilt (a)', sub {
	hold('rebuilt');
	$rebuilder->query_until(qr/begins/, "\\echo begins\nREINDEX TABLE CONCURRENTLY rebuilt;\n");
	$node->poll_query_until($db, q{SELECT EXISTS (SELECT FROM pg_stat_progress_create_index WHERE phase ~ 'waiting')}) or die 'it does not wait';
});
$node->poll_query_until($db, q{SELECT EXISTS (SELECT FROM pg_locks WHERE mode = 'ShareUpdateExclusiveLock' AND NOT granted)})
  or die 'the builder does not wait';
$writer->query_safe('COMMIT');
is(finished($id), 'kept', 'an index is rebuilt before it is kept');
$rebuilder->quit;
is(indexes('rebuilt'), 'rebuilt_a_idx', 'and is kept as it is now');

# A table that is moved stays the one that was meant.
make_table('moved', 'CREATE SCHEMA elsewhere', 'SELECT c FROM gate CROSS JOIN moved ORDER BY c LIMIT 3');
$id = between_timings('moved', 'CREATE INDEX ON moved (b)',
	'ALTER TABLE moved SET SCHEMA elsewhere; ALTER TABLE elsewhere.moved RENAME TO "there now"');
is(finished($id), 'dropped', 'an index that does not help, of a table that was moved');
is(indexes('elsewhere."there now"'), 'none', 'is dropped where it is now');

# The table is renamed before the first transaction of the build.
make_table('first');
make_table('second', 'SELECT count(second.pad) FROM gate, second WHERE a = 77');
$node->safe_psql($db, 'SELECT count(pad) FROM first WHERE a = 77');
shut_gate();
my $id2 = apply('CREATE INDEX ON second (a)');
at_gate();
$id = apply('CREATE INDEX ON first (a)');
$node->safe_psql($db, 'ALTER TABLE first RENAME TO third; CREATE VIEW first AS SELECT * FROM third');
$keeper->query_safe('COMMIT');
finished($id2);
is(finished($id), 'kept', 'a table that was renamed before anything was done');
is(indexes('third'), 'first_a_idx', 'it has the index');

# The table is dropped before the index is judged.
make_table('dropped', 'SELECT c FROM gate CROSS JOIN dropped ORDER BY c LIMIT 3');
$id = between_timings('dropped', 'CREATE INDEX ON dropped (a)',
	'DROP TABLE dropped');
like(finished($id), qr/^(failed|dropped)$/, 'the table is dropped');
is($node->safe_psql($db, q{SELECT count(*) FROM pg_class WHERE relname ~ '^scalecache_[0-9]'}), '0', 'nothing is left');

# Rights: those that CREATE INDEX asks for, when the index is built.
$node->safe_psql($db, q{
	CREATE ROLE builder LOGIN;
	CREATE ROLE victim LOGIN;
	CREATE SCHEMA shared;
	GRANT ALL ON SCHEMA shared TO builder, victim;
	SET ROLE builder;
	CREATE TABLE shared.own (id int, a int, pad text);
	INSERT INTO shared.own SELECT i, i % 5000, repeat('x', 200) FROM generate_series(1, 50000) i;
	ANALYZE shared.own;
	CREATE FUNCTION shared.who(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
		IF current_user <> 'builder' THEN RAISE 'run by %', current_user; END IF;
		RETURN $1;
	END $$;
});
$node->safe_psql($db, 'SELECT scalecache.reset_workload()');
$node->safe_psql($db, 'SET ROLE builder; SELECT count(pad) FROM shared.own WHERE a = 77;
	SELECT count(pad) FROM shared.own WHERE shared.who(a) = 77;' x 3);
sub apply_as
{
	my ($role, $ddl) = @_;
	return $node->safe_psql($db, "SET ROLE $role; SELECT scalecache.apply_index('$ddl')");
}
is(finished(apply_as('builder', 'CREATE INDEX own_who ON shared.own (shared.who(a))')), 'kept', 'an owner without other rights');
is($node->safe_psql($db, q{SET ROLE builder; SELECT state, requested_by FROM scalecache.index_actions}), 'kept|builder', 'sees his actions');
$node->safe_psql($db, q{REVOKE CREATE ON SCHEMA shared FROM builder});
$id = apply_as('builder', 'CREATE INDEX ON shared.own (a)');
is(finished($id), 'failed', 'no right to create in the schema');
like(verdict($id), qr/permission denied for schema shared/, 'and it says so');
$node->safe_psql($db, 'GRANT CREATE ON SCHEMA shared TO builder');

# The table becomes another one's before the index is built: it is not built
# in his name, with functions of the first one.
make_table('front', 'SELECT count(front.pad) FROM gate, front WHERE a = 77');
$node->safe_psql($db, 'SET ROLE builder; SELECT count(pad) FROM shared.own WHERE a = 77');
shut_gate();
my $before = apply('CREATE INDEX ON front (a)');
at_gate();
$id = apply_as('builder', 'CREATE INDEX ON shared.own (shared.who(a), a)');
$node->safe_psql($db, 'ALTER TABLE shared.own OWNER TO victim; GRANT SELECT ON shared.own TO builder');
$keeper->query_safe('COMMIT');
finished($before);
is(finished($id), 'failed', 'the table has another owner');
like(verdict($id), qr/must be owner of table own/, 'and it says so');

# The role is dropped meanwhile.
make_table('orphan', 'CREATE ROLE leaving; ALTER TABLE orphan OWNER TO leaving; GRANT CREATE ON SCHEMA public TO leaving');
$node->safe_psql($db, q{
	BEGIN;
	SET ROLE leaving;
	SELECT scalecache.apply_index('CREATE INDEX ON orphan (a)');
	RESET ROLE;
	REASSIGN OWNED BY leaving TO CURRENT_USER;
	DROP OWNED BY leaving;
	DROP ROLE leaving;
	COMMIT});
$id = $node->safe_psql($db, 'SELECT max(id) FROM scalecache.index_action');
is(finished($id), 'failed', 'who asked is gone');
like(verdict($id), qr/the role that asked for it was dropped/, 'and it says so');

# Names and values in the DDL mean what they meant to the caller.
make_table('styled', q{ALTER TABLE styled ADD d date, ADD e text; UPDATE styled SET d = '2026-02-03', e = 'x\y'},
	q{SELECT count(pad) FROM styled WHERE a = 77 AND d = '2026-02-03' AND e = 'x\y';} x 20);
$node->safe_psql($db, q{
	SET datestyle = 'SQL, DMY'; SET standard_conforming_strings = off; SET quote_all_identifiers = on; SET escape_string_warning = off;
	SELECT scalecache.apply_index('CREATE INDEX ON styled (a) WHERE d = ''03/02/2026'' AND e = ''x\\\\\\\\y''')});
$id = $node->safe_psql($db, 'SELECT max(id) FROM scalecache.index_action');
is(finished($id), 'kept', 'DDL of a session with other settings');
is($node->safe_psql($db, q{SELECT pg_get_expr(indpred, indrelid) FROM pg_index WHERE indrelid = 'styled'::regclass}),
	q{((d = '2026-02-03'::date) AND (e = 'x\y'::text))}, 'is read as it was meant');

# Parameters of operator classes are kept.
make_table('classy', q{SELECT count(pad) FROM classy WHERE id = 4711;} x 30);
is(finished(apply('CREATE INDEX ON classy USING brin (id int4_minmax_multi_ops (values_per_range = 16)) WITH (pages_per_range = 4)')), 'kept',
	'an operator class with parameters');
like($node->safe_psql($db, q{SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'classy'::regclass}),
	qr/int4_minmax_multi_ops \(values_per_range='16'\)\) WITH \(pages_per_range='4'\)/, 'has them');

# Many requests of one transaction start one builder; an advisory lock that
# anybody may take does not stop it.
make_table('many');
my $blocker = $node->background_psql($db);
$blocker->query_safe(q{SELECT pg_advisory_lock(1396913236, 1)});
$writer->query_safe(q{BEGIN; SELECT count(scalecache.apply_index('CREATE INDEX ON many (a, b)')) FROM generate_series(1, 12)});
$node->poll_query_until($db, q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'scalecache index builder')});
is($node->safe_psql($db, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'scalecache index builder'}), '1',
	'one builder for all requests of a transaction');
$writer->query_safe('COMMIT');
$id = $node->safe_psql($db, 'SELECT max(id) FROM scalecache.index_action');
finished($id);
is(indexes('many'), 'many_a_b_idx', 'of many like requests one index stays');
is(verdict($id), 'it is the same as many_a_b_idx', 'and the others are told so');
$blocker->quit;

# Replayed statements have no effects, whatever their functions say of
# themselves.
make_table('replayed', q{CREATE SEQUENCE counted;
	CREATE FUNCTION liar(int) RETURNS int LANGUAGE plpgsql STABLE COST 1 AS $$ BEGIN
		PERFORM pg_advisory_unlock_all(), pg_advisory_lock(4711), pg_notify('replayed', 'x');
		BEGIN PERFORM nextval('counted'); EXCEPTION WHEN read_only_sql_transaction THEN NULL; END;
		RETURN $1; END $$;},
	q{SELECT nextval('counted'); SELECT count(pad) FROM replayed WHERE a = liar(77); SELECT count(pad) FROM gate, replayed WHERE a = liar(78);});
my $last = $node->safe_psql($db, 'SELECT last_value FROM counted');
$blocker = $node->background_psql($db);
$blocker->query_safe('LISTEN replayed');
hold('replayed');
$id = apply('CREATE INDEX ON replayed (a)');
building($id);
is($node->safe_psql($db, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711}), '0', 'no advisory lock stays');
is($node->safe_psql($db, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid IN
	(SELECT pid FROM pg_stat_activity WHERE backend_type = 'scalecache index builder')}), '1', 'but the builder\'s own');
$writer->query_safe('COMMIT');
is(finished($id), 'kept', 'a statement whose functions lie is replayed');
is($node->safe_psql($db, 'SELECT last_value FROM counted'), $last, 'the sequence is as it was');
unlike($blocker->query('SELECT 1'), qr/Asynchronous/, 'nobody was notified');
$blocker->quit;

# One execution that takes long for another reason is not held against the index.
make_table('paused', q{CREATE FUNCTION pauses(int) RETURNS int LANGUAGE plpgsql STABLE COST 1 AS $$ BEGIN
		IF current_setting('paused.once', true) IS DISTINCT FROM 'yes' AND
			EXISTS (SELECT FROM pg_index WHERE indrelid = 'public.paused'::regclass AND indisvalid) THEN
			PERFORM pg_sleep(3), set_config('paused.once', 'yes', true);
		END IF;
		RETURN $1; END $$;},
	q{SELECT count(pad) FROM paused WHERE a = 78 AND pauses(id) > 0});
is(finished(apply('CREATE INDEX ON paused (a)')), 'kept', 'a statement that is slow once is timed again');

# Nor does a builder stand still because a function that is called by planning
# never ends.
$node->safe_psql($db, q{ALTER SYSTEM SET scalecache.advisor_verify_timeout = '1s'});
$node->reload;
make_table('endless', q{CREATE FUNCTION ends() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
		IF (SELECT backend_type FROM pg_stat_activity WHERE pid = pg_backend_pid()) ~ 'builder' THEN
			PERFORM pg_sleep(3600);
		END IF;
		RETURN 79; END $$;},
	q{SELECT count(pad) FROM endless WHERE a = ends()});
is(finished(apply('CREATE INDEX ON endless (a)')), 'kept', 'a function that never ends is called when a statement is planned');
make_table('later', q{CREATE FUNCTION ends_later() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
		IF (SELECT backend_type FROM pg_stat_activity WHERE pid = pg_backend_pid()) ~ 'builder' AND
			EXISTS (SELECT FROM pg_index WHERE indrelid = 'public.later'::regclass AND indisvalid) THEN
			PERFORM pg_sleep(3600);
		END IF;
		RETURN 79; END $$;},
	q{SELECT count(pad) FROM later WHERE a = ends_later()});
like(finished(apply('CREATE INDEX ON later (a)')), qr/^(kept|dropped)$/, 'or when it is planned to be timed again');
# Not even if it catches that it is canceled.
make_table('stubborn', q{CREATE FUNCTION stays(int) RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN
		WHILE (SELECT backend_type FROM pg_stat_activity WHERE pid = pg_backend_pid()) ~ 'builder' LOOP
			BEGIN PERFORM pg_sleep(3600); EXCEPTION WHEN query_canceled THEN NULL; END;
		END LOOP;
		RETURN $1; END $$;},
	q{SELECT count(pad) FROM stubborn WHERE a = stays(79)});
$id = apply('CREATE INDEX ON stubborn (a)');
is(finished($id), 'interrupted', 'a function that cannot be canceled ends the builder');
make_table('after_that');
is(finished(apply('CREATE INDEX ON after_that (a)')), 'kept', 'and another one goes on');
$node->safe_psql($db, 'ALTER SYSTEM RESET scalecache.advisor_verify_timeout');
$node->reload;

# A function that does not look for so long whether it is canceled does not end the builder.
$node->safe_psql($db, q{ALTER SYSTEM SET scalecache.advisor_verify_timeout = '10ms'});
$node->reload;
make_table('absorbed', q{SELECT count(pad) FROM absorbed WHERE a = 78 AND length(lpad('', 10000000, 'x')) > 0});
like(finished(apply('CREATE INDEX ON absorbed (a)')), qr/^(kept|dropped|refused)$/, 'a function that is not interrupted for many times the timeout');
$node->safe_psql($db, 'ALTER SYSTEM RESET scalecache.advisor_verify_timeout');
$node->reload;

# Somebody cancels what the builder is doing.
make_table('canceled');
hold('canceled');
$id = apply('CREATE INDEX ON canceled (a)');
building($id);
$node->safe_psql($db, q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'scalecache index builder'});
$node->poll_query_until($db, "SELECT state <> 'building' FROM scalecache.index_actions WHERE id = $id") or die 'it goes on';
$writer->query_safe('COMMIT');
is(finished($id), 'failed', 'a builder is canceled');
like(verdict($id), qr/canceling statement due to user request/, 'and it says so');
is(indexes('canceled'), 'none', 'nothing is left');

# A verdict is not forgotten when the builder ends before the index is dropped,
# for which it has to wait.
make_table('slowly', 'SELECT c FROM gate CROSS JOIN slowly ORDER BY c LIMIT 3');
$id = between_timings('slowly', 'CREATE INDEX slowly_b ON slowly (b)', sub { hold('slowly') });
$node->poll_query_until($db, qq{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'scalecache index builder'
	AND wait_event_type = 'Lock') AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = 'slowly'::regclass AND indisvalid)})
  or die "action $id does not wait to be undone";
is($node->safe_psql($db, "SELECT state, verdict FROM scalecache.index_actions WHERE id = $id"),
	'cleaning|no recorded statement is planned with it', 'the verdict is there before the index is gone');
end_builder();
$writer->query_safe('COMMIT');
is(finished($id), 'dropped', 'an index is dropped by another builder than the one who judged it');
is(verdict($id), 'no recorded statement is planned with it', 'for the same reason');
is(indexes('slowly'), 'none', 'it is gone');

# An index that has the name already is not the action's.
make_table('mine');
$last = $node->safe_psql($db, 'SELECT max(id) + 1 FROM scalecache.index_action');
$node->safe_psql($db, "CREATE INDEX scalecache_$last ON gate (x)");
$id = apply('CREATE INDEX ON mine (a)');
is($id, $last, 'an index is called as if it were built by the next action');
is(finished($id), 'refused', 'then that is not done');
is(verdict($id), "public.scalecache_$id has the name that it would be built under", 'and says why');
is(indexes('gate'), "killed_ix, scalecache_$id", 'that index stays');
$node->safe_psql($db, "DROP INDEX scalecache_$id");

# An index that cannot be dropped does not hold up others, and is dropped when it
# can be.
make_table('stuck', q{
	CREATE FUNCTION keep_it() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
	CREATE EVENT TRIGGER keep_it ON ddl_command_start WHEN TAG IN ('DROP INDEX') EXECUTE FUNCTION keep_it()});
$id = apply('CREATE INDEX stuck_b ON stuck (b)');
$node->poll_query_until($db, "SELECT state = 'cleaning' FROM scalecache.index_action WHERE id = $id")
  or die "action $id is not to be undone";
is(finished(apply('CREATE INDEX stuck_a ON stuck (a)')), 'kept', 'another index is built while one cannot be dropped');
is($node->safe_psql($db, "SELECT state, verdict FROM scalecache.index_actions WHERE id = $id"),
	'cleaning|no recorded statement is planned with it', 'which is still there');
like(indexes('stuck'), qr/\bscalecache_$id\b/, 'as is what it built');
ok($node->log_contains("could not drop the index of action $id: not now"), 'the log says why');
$node->safe_psql($db, 'DROP EVENT TRIGGER keep_it');
is(finished($id), 'dropped', 'it is dropped when it can be');
is(indexes('stuck'), 'stuck_a', 'and gone');

# Who asked sees how far it is.
make_table('watched', 'CREATE ROLE watcher; ALTER TABLE watched OWNER TO watcher; GRANT CREATE ON SCHEMA public TO watcher;
	GRANT SELECT ON gate TO watcher');
hold('watched');
$id = apply_as('watcher', 'CREATE INDEX ON watched (a)');
building($id);
is($node->safe_psql($db, "SET ROLE watcher; SELECT state, phase FROM scalecache.index_actions WHERE id = $id"),
	'building|waiting for writers before build', 'who asked sees the phase');
$writer->query_safe('COMMIT');
is(finished($id), 'kept', 'his index is built');

# The extension is dropped, and with it what says that there is something to be
# cleaned up after.
make_table('bereft');
hold('bereft');
building(apply('CREATE INDEX ON bereft (a)'));
$node->safe_psql($db, 'DROP EXTENSION scalecache');
$writer->query_safe('COMMIT');
ok( $node->poll_query_until($db, q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'scalecache index builder')}),
	'the builder ends when the extension is gone');
is(indexes('bereft'), 'none', 'and drops what it built');
$_->quit foreach $writer, $keeper;

# Somebody wants to have the database for himself.
$node->safe_psql('postgres', 'CREATE DATABASE doomed');
$db = 'doomed';
act_on($node, $db);
$node->safe_psql($db, q{
	CREATE EXTENSION scalecache;
	CREATE TABLE gate (x int);
	CREATE FUNCTION waits_in_builder() RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN
		PERFORM pg_sleep(100) FROM pg_stat_activity WHERE pid = pg_backend_pid() AND backend_type = 'scalecache index builder';
		RETURN 1; END $$;
});
make_table('t', 'SELECT count(pad), waits_in_builder() FROM t WHERE a = 78');
my $waits = q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND backend_type = 'scalecache index builder')};
$id = apply('CREATE INDEX ON t (a)');
$node->poll_query_until('postgres', $waits) or die 'the builder does not sleep';
$node->safe_psql('postgres', 'CREATE DATABASE copied TEMPLATE doomed');
is(finished($id), 'interrupted', 'a database is copied though there is an index builder in it');
$id = apply('CREATE INDEX ON t (a)');
$node->poll_query_until('postgres', $waits) or die 'the builder does not sleep';
$node->safe_psql('postgres', 'DROP DATABASE doomed');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_database WHERE datname = 'doomed'}), '0', 'and so it is dropped');
$node->stop;
done_testing();
