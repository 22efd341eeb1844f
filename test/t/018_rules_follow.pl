# Cache rules mean the same whoever writes, and whatever happens to their tables.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use CacheServer;
use RedisServer;
use Test::More;

my $redis = RedisServer->new;
my $node = cache_server('follow', $redis);
my $p = 'postgres';

# Which of the keys does the statement invalidate?
sub gone
{
	my ($statement, @keys) = @_;
	delivered() or die 'not delivered';
	$redis->command('SET', $_, 'x') for @keys;
	sql($statement);
	delivered() or die 'not delivered';
	return join(' ', grep { !defined $redis->command('GET', $_) } @keys);
}

sub refused
{
	my ($statement, $error, $name) = @_;
	my ($rc, undef, $stderr) = $node->psql($p, $statement);
	ok($rc != 0 && $stderr =~ $error, $name) or diag $stderr;
	return;
}

# ---- whoever writes ----
sql(q{
	SET TimeZone = 'UTC';
	CREATE ROLE writer;
	CREATE ROLE owner;
	CREATE SCHEMA theirs AUTHORIZATION writer;
	GRANT CREATE ON SCHEMA public TO owner;
	CREATE TABLE t (id int PRIMARY KEY, at timestamptz, c regclass, note text);
	CREATE FUNCTION public.code(text) RETURNS int LANGUAGE sql STABLE AS 'SELECT length($1)';
	CREATE FUNCTION public.is_long(s text) RETURNS bool LANGUAGE plpgsql STABLE AS
		$$BEGIN RETURN length(s) > 3; END$$;
	GRANT ALL ON t TO writer;
	SELECT scalecache.create_cache_rule('c', 't', 'c:{c}');
	SELECT scalecache.create_cache_rule('day', 't', 'day:{id}', condition => 'at::date = ''2020-01-01''');
	SELECT scalecache.create_cache_rule('long', 't', 'long:{id}', condition => 'public.is_long(note)');
	SELECT scalecache.create_cache_rule('pay', 't', 'pay:{id}', condition => 'public.code(note) > 3');
	ALTER TABLE t OWNER TO owner});
is(gone(q{SET quote_all_identifiers = on; INSERT INTO t VALUES (1, NULL, 'public.t')}, 'c:public.t'),
	'c:public.t', 'a key does not depend on the writer\'s quotes');
is(gone(q{SET TimeZone = 'Asia/Tokyo'; UPDATE t SET at = '2020-01-01 20:00+00'}, 'day:1'),
	'day:1', 'nor does a condition depend on the writer\'s time zone');
sql(q{SELECT scalecache.create_cache_rule('digit', 't', 'digit:{id}', condition => 'note ~ ''^\d''')});
is(gone(q{SET standard_conforming_strings = off; INSERT INTO t VALUES (10, NULL, NULL, '5 d'), (11, NULL, NULL, 'd')}, 'digit:10', 'digit:11'),
	'digit:10', 'nor on how the writer writes strings');
sql(q{SET transform_null_equals = on; SELECT scalecache.create_cache_rule('nothing', 't', 'nothing:{id}', condition => 'note = NULL')});
is(gone(q{SET transform_null_equals = on; INSERT INTO t VALUES (12)}, 'nothing:12'), '', 'nor on what equals null');
is(gone(q{
	SET ROLE writer;
	CREATE TABLE theirs.log (who text);
	GRANT ALL ON theirs.log TO PUBLIC;
	GRANT USAGE ON SCHEMA theirs TO PUBLIC;
	CREATE FUNCTION theirs.length(text) RETURNS int LANGUAGE plpgsql AS
		$$BEGIN INSERT INTO theirs.log VALUES (current_user); RETURN 0; END$$;
	SET search_path = theirs, pg_catalog, public;
	INSERT INTO public.t VALUES (2, NULL, NULL, 'a long note')}, 'long:2', 'pay:2', 'day:2'),
	'long:2 pay:2', 'nor on the writer\'s search_path');
is(sql('SELECT count(*) FROM theirs.log'), '0', 'whose functions are not called as the table\'s owner');

# ---- columns of every type ----
# Their text, and with it a value's row, is the same under whatever settings.
my @typed = (
	[ 'bool', 'true', 't' ], [ 'float4', '0.1', '0.1' ], [ 'float8', '1 / 3.0::float8', '0.3333333333333333' ],
	[ 'numeric', '1.50', '1.50' ], [ 'money', q{'$1,234.56'}, '$1,234.56' ], [ 'bytea', q{'\x00ff41'}, '\x00ff41' ],
	[ 'timestamp', q{'2024-02-29 12:34:56.789'}, '2024-02-29 12:34:56.789' ],
	[ 'timestamptz', q{'2024-02-29 12:34:56+03'}, '2024-02-29 09:34:56+00' ],
	[ 'date', q{'0044-03-15 BC'}, '0044-03-15 BC' ], [ 'timetz', q{'12:00+05:30'}, '12:00:00+05:30' ],
	[ 'interval', q{'1 year -2 days 03:04:05'}, '1 year -2 days +03:04:05' ],
	[ 'json', q{'{"a" : 1}'}, '{"a" : 1}' ], [ 'jsonb', q{'{"b":  [1,2]}'}, '{"b": [1, 2]}' ], [ 'xml', q{'<a>x</a>'}, '<a>x</a>' ],
	[ 'uuid', q{'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'}, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' ],
	[ 'inet', q{'10.0.0.1/8'}, '10.0.0.1/8' ], [ 'bit(3)', q{B'101'}, '101' ], [ 'point', q{'(0.1,2)'}, '(0.1,2)' ],
	[ 'int[]', q{'{1,NULL,3}'}, '{1,NULL,3}' ], [ 'timestamptz[]', q{'{2024-02-29 12:00+00}'}, '{"2024-02-29 12:00:00+00"}' ],
	[ 'mood', q{'ok'}, 'ok' ], [ 'pair', q{'(1,2024-02-29)'}, '(1,2024-02-29)' ], [ 'instant', q{'2024-02-29 12:00+00'}, '2024-02-29 12:00:00+00' ],
	[ 'daterange', q{'[2024-01-01,2024-06-01)'}, '[2024-01-01,2024-06-01)' ], [ 'tsvector', q{'a b'}, q{'a' 'b'} ],
	[ 'regclass', q{'public.typed'}, 'public.typed' ], [ 'char(5)', q{'ab'}, 'ab   ' ], [ '"char"', q{'x'}, 'x' ], [ 'name', q{'n'}, 'n' ],
	[ 'pg_lsn', q{'16/B374D848'}, '16/B374D848' ], [ 'text', q{'{e}x*?['}, '{e}x*?[' ]);
sql(q{CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, d date); CREATE DOMAIN instant AS timestamptz;
	CREATE TABLE typed (id int PRIMARY KEY, } . join(', ', map { "c$_ $typed[$_][0]" } 0 .. $#typed) . q{)});
sql("SET TimeZone = 'UTC'; " . join(' ', map { qq{SELECT scalecache.create_cache_rule('c$_', 'typed', 'c$_:{c$_}:{id}');
	SELECT scalecache.create_cache_rule('w$_', 'typed', 'wc$_:{c$_}:{id}', 'write', 'id::text');} } 0 .. $#typed));
my @typed_keys = map { "c$_:$typed[$_][2]:1" } 0 .. $#typed;
is(gone(q{SET DateStyle = german; SET IntervalStyle = iso_8601; SET extra_float_digits = -5; SET bytea_output = escape; SET quote_all_identifiers = on;
	SET TimeZone = 'Asia/Tokyo'; INSERT INTO typed VALUES (1, } . join(', ', map { $_->[1] } @typed) . q{)}, @typed_keys),
	join(' ', @typed_keys), 'their text is the key\'s');
is(join(' ', grep { ($redis->command('GET', "w$_") // '') ne '1' } @typed_keys), '', 'and finds the row');
is(gone('UPDATE typed SET ' . join(', ', map { "c$_ = NULL" } 0 .. $#typed), @typed_keys, 'c0::1'),
	join(' ', @typed_keys), 'null has none');
sql('ALTER TABLE typed ' . join(', ', map { "ADD d$_ int DEFAULT $_" } 1 .. 20));
sql("SELECT scalecache.create_cache_rule('many', 'typed', 'many:" . join(':', map { "{d$_}" } 1 .. 20) . (':{id}' x 20) . "', 'write', 'id::text')");
sql('INSERT INTO typed (id) VALUES (2)');
ok(delivered(), 'delivered');
is($redis->command('GET', 'many:' . join(':', 1 .. 20) . (':2' x 20)), '2', 'a key of many columns');
sql('DROP TABLE typed');

# ---- whoever owns the database, or may create in public ----
# Operators of theirs are not called as the superuser that the workers are, nor by others' DDL.
sql(q{
	CREATE SCHEMA bad;
	CREATE TABLE bad.calls (who text);
	CREATE FUNCTION bad.note() RETURNS void LANGUAGE sql AS $$
		INSERT INTO bad.calls SELECT backend_type FROM pg_catalog.pg_stat_activity
		WHERE pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() AND backend_type OPERATOR(pg_catalog.<>) 'client backend'$$;
	CREATE FUNCTION bad.eq(text, text) RETURNS bool LANGUAGE plpgsql AS
		$$BEGIN PERFORM bad.note(); RETURN $1 OPERATOR(pg_catalog.=) $2; END$$;
	CREATE FUNCTION bad.lt(timestamptz, timestamptz) RETURNS bool LANGUAGE plpgsql AS
		$$BEGIN PERFORM bad.note(); RETURN $1 OPERATOR(pg_catalog.<) $2; END$$;
	CREATE FUNCTION bad.fails(oid, regclass) RETURNS bool LANGUAGE plpgsql AS
		$$BEGIN RAISE EXCEPTION 'the wrong operator'; END$$;
	CREATE OPERATOR bad.= (FUNCTION = bad.eq, LEFTARG = text, RIGHTARG = text);
	CREATE OPERATOR bad.< (FUNCTION = bad.lt, LEFTARG = timestamptz, RIGHTARG = timestamptz);
	CREATE OPERATOR public.= (FUNCTION = bad.fails, LEFTARG = oid, RIGHTARG = regclass);
	CREATE TABLE by_another ();
	DROP TABLE by_another;
	DROP OPERATOR public.= (oid, regclass);
	INSERT INTO scalecache.index_action (ddl, advice, definition, relid, index_name, expressions, requested_by, automatic, requested_at)
		VALUES ('-', '-', '-', 0, 'none', false, 10, false, now() - interval '1 h');
	ALTER DATABASE postgres SET search_path = bad, pg_catalog, public});
$node->restart;
ok($node->poll_query_until($p, 'SELECT connected FROM scalecache.redis_status'), 'a worker has introduced itself');
ok($node->poll_query_until($p, 'SELECT finished_at IS NOT NULL FROM scalecache.index_action'), 'the other one has looked for work');
is(sql('SELECT count(*) FROM bad.calls'), '0', 'by the operators of pg_catalog');
sql('ALTER DATABASE postgres RESET search_path; DROP SCHEMA bad CASCADE');
# Nor do the workers become whom a database's sessions are to be.
sql('CREATE DATABASE with_role');
sql('ALTER DATABASE with_role SET role = writer; ALTER DATABASE with_role SET session_authorization = writer');
$node->safe_psql('with_role', q{SET ROLE none; CREATE EXTENSION scalecache; CREATE TABLE t (id int);
	INSERT INTO scalecache.index_action (ddl, advice, definition, relid, index_name, expressions, requested_by, automatic, requested_at)
		VALUES ('-', '-', '-', 0, 'none', false, 10, false, now() - interval '1 h');
	SELECT scalecache.create_cache_rule('t', 't', 'with_role:{id}', 'write', 'id::text'); INSERT INTO t VALUES (1)});
is($node->safe_psql('with_role', "SELECT scalecache.wait_for_cache('60 s')"), 't', 'keys are delivered');
is($redis->command('GET', 'with_role:1'), '1', 'and values');
ok($node->poll_query_until('with_role', 'SET ROLE none; SELECT finished_at IS NOT NULL FROM scalecache.index_action', "SET\nt"), 'and work is looked for');
sql('DROP DATABASE with_role WITH (FORCE)');

# ---- triggers ----
sql('ALTER TABLE t DISABLE TRIGGER ALL; ALTER TABLE t ENABLE TRIGGER ALL');
is(gone('SET session_replication_role = replica; UPDATE t SET id = 3 WHERE id = 2', 'long:2', 'long:3'),
	'long:2 long:3', 'triggers that were off fire always again');
is(gone('SET session_replication_role = replica; TRUNCATE t', 'c:other'), 'c:other', 'for TRUNCATE too');
sql(q{INSERT INTO t VALUES (4, NULL, NULL, 'a long note'); ALTER TABLE t DISABLE TRIGGER USER});
is(gone('DELETE FROM t', 'long:4'), '', 'who disables them has them disabled');
is(gone('ALTER TABLE t ENABLE TRIGGER USER', 'long:4', 'c:x'), 'long:4 c:x', 'and then everything goes');
# They are known by what they call, whatever they are called.
sql(q{
	CREATE TABLE named (id int PRIMARY KEY);
	SELECT scalecache.create_cache_rule('named', 'named', 'named:{id}');
	DO $$
	DECLARE t name;
	BEGIN
		FOR t IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'named'::regclass LOOP
			EXECUTE format('ALTER TRIGGER %I ON named RENAME TO %I', t, 'My ' || t);
		END LOOP;
	END$$;
	CREATE TABLE other ();
	DROP TABLE other;
	ALTER TABLE named ADD v int});
my $named = q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'named'::regclass};
is(sql($named), '2', 'renamed triggers are not made again');
is(gone('INSERT INTO named VALUES (1)', 'named:1'), 'named:1', 'and their rule goes on');
sql('ALTER TABLE named DISABLE TRIGGER ALL; ALTER TABLE named ENABLE TRIGGER ALL');
is(gone('SET session_replication_role = replica; INSERT INTO named VALUES (2)', 'named:2'),
	'named:2', 'they fire always again');
my $truncate = sql(q{SELECT quote_ident(tgname) FROM pg_trigger WHERE tgrelid = 'named'::regclass AND tgname LIKE '%truncate'});
sql("DROP TRIGGER $truncate ON named");
is(gone('SET session_replication_role = replica; TRUNCATE named', 'named:1'), 'named:1', 'one for TRUNCATE comes back when it is dropped');
sql(q{SELECT scalecache.drop_cache_rule('named')});
is(sql($named), '0', 'and go with their rule');

# ---- what cannot have a rule cannot become it ----
refused('CREATE TABLE heir () INHERITS (t)', qr/table "heir" cannot inherit from "t"/, 'an heir');
sql('CREATE TABLE heir (LIKE t)');
refused('ALTER TABLE heir INHERIT t', qr/table "heir" cannot inherit from "t"/, 'a later heir');
sql('CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w');
refused('CREATE FOREIGN TABLE heir2 () INHERITS (t) SERVER far', qr/table "heir2" cannot inherit from "t"/, 'a foreign heir');
sql('CREATE FOREIGN TABLE heir2 (id int NOT NULL, at timestamptz, c regclass, note text) SERVER far');
refused('ALTER FOREIGN TABLE heir2 INHERIT t', qr/table "heir2" cannot inherit from "t"/, 'a later one');
refused('ALTER TABLE t SET UNLOGGED', qr/"t" cannot have a cache rule.*unlogged/s, 'unlogged');
refused('ALTER TABLE t RENAME note TO "no}te"; SELECT scalecache.create_cache_rule(\'b\', \'t\', \'b:{id}\');
	ALTER TABLE t RENAME id TO "i{d"', qr/column "i\{d" of table "t" cannot be in the key/, 'a brace in a key');
refused('ALTER TABLE t DROP COLUMN at', qr/does not exist.*cache rule "day", which the command would break/s,
	'a condition\'s column');
sql('CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent)');
refused(q{SELECT scalecache.create_cache_rule('parent', 'parent', 'parent:{id}')}, qr/inheriting/, 'a parent');
is(gone(q{DROP TABLE child; SELECT scalecache.create_cache_rule('parent', 'parent', 'parent:{id}');
	INSERT INTO parent VALUES (1)}, 'parent:1'), 'parent:1', 'that was a parent before');

# ---- partitions ----
sql(q{
	CREATE TABLE p (id int, k int) PARTITION BY LIST (k);
	CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
	CREATE SCHEMA s;
	CREATE TABLE s.p2 PARTITION OF p FOR VALUES IN (2);
	CREATE TABLE p3 PARTITION OF p FOR VALUES IN (3) PARTITION BY LIST (id);
	CREATE TABLE p31 PARTITION OF p3 FOR VALUES IN (1);
	CREATE TABLE p4 (id int, k int);
	ALTER TABLE p4 OWNER TO owner;
	ALTER TABLE p ATTACH PARTITION p4 FOR VALUES IN (4);
	SELECT scalecache.create_cache_rule('p', 'p', 'p:{id}')});
sql('ALTER TABLE p1 DISABLE TRIGGER ALL; ALTER TABLE p1 ENABLE TRIGGER ALL');
is(gone('SET session_replication_role = replica; INSERT INTO p VALUES (1, 1)', 'p:1', 'p:2'), 'p:1', 'a partition\'s trigger fires always');
is(gone('SET session_replication_role = replica; TRUNCATE p1', 'p:2'), 'p:2', 'and its other one');
is(gone('INSERT INTO p VALUES (5, 2)', 'p:5', 'p:6'), 'p:5', 'a row in another schema');
is(gone('DROP SCHEMA s CASCADE', 'p:6'), 'p:6', 'the rows of a dropped schema\'s partition');
is(gone('DROP OWNED BY owner', 'p:6'), 'p:6', 'and those of a dropped owner\'s');
refused('CREATE UNLOGGED TABLE p5 PARTITION OF p FOR VALUES IN (5)',
	qr/"p5" cannot have a cache rule.*partition of "p"/s, 'an unlogged partition');
refused('CREATE FOREIGN TABLE p5 PARTITION OF p FOR VALUES IN (5) SERVER far',
	qr/"p5" cannot have a cache rule.*partition of "p"/s, 'a foreign partition');
sql('CREATE FOREIGN TABLE p5 (id int, k int) SERVER far');
refused('ALTER TABLE p ATTACH PARTITION p5 FOR VALUES IN (5)',
	qr/"p5" cannot have a cache rule.*partition of "p"/s, 'one that is attached');
sql('CREATE SCHEMA s CREATE TABLE p6 PARTITION OF public.p FOR VALUES IN (6)');
is(gone('TRUNCATE s.p6', 'p:6'), 'p:6', 'a partition made with its schema');
my $triggers = q{SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'scalecache_rule_%' AND tgrelid IN };
$truncate = sql(q{SELECT quote_ident(tgname) FROM pg_trigger WHERE tgrelid = 'p31'::regclass AND tgname LIKE '%truncate'});
sql("DROP TRIGGER $truncate ON p31");
is(gone('TRUNCATE p31', 'p:6'), 'p:6', 'a partition\'s trigger for TRUNCATE comes back');
sql('ALTER TABLE p DETACH PARTITION p3');
is(sql("$triggers ('p3'::regclass, 'p31'::regclass)"), '0', 'a detached partition has no triggers');
sql('ALTER TABLE p DETACH PARTITION s.p6 CONCURRENTLY');
is(sql("$triggers ('s.p6'::regclass)"), '0', 'nor one that was detached otherwise');
is(gone('TRUNCATE s.p6', 'p:6'), '', 'and does not matter');
sql(q{SELECT scalecache.drop_cache_rule('p')});
is(sql("$triggers ('p'::regclass, 'p1'::regclass)"), '0', 'nor has any after the rule');

# ---- typed tables ----
sql(q{
	CREATE TYPE ty AS (a int, b int);
	CREATE TABLE tt OF ty;
	SELECT scalecache.create_cache_rule('tt', 'tt', 'tt:{a}')});
refused('ALTER TYPE ty DROP ATTRIBUTE a CASCADE', qr/a cache rule depends on it/, 'an attribute in a key');
sql('ALTER TYPE ty RENAME ATTRIBUTE a TO z CASCADE');
is(gone('INSERT INTO tt VALUES (7)', 'tt:7'), 'tt:7', 'a renamed attribute');
is(sql(q{SELECT key FROM scalecache.cache_rules WHERE name = 'tt'}), 'tt:{z}', 'is followed');

# ---- types whose values get another text ----
sql(q{
	CREATE TYPE part AS (m mood);
	CREATE DOMAIN moods AS mood[];
	CREATE TYPE span AS RANGE (subtype = mood);
	CREATE TABLE plain_mood (id int PRIMARY KEY, m mood);
	CREATE TABLE other_mood (id int PRIMARY KEY, a moods);
	CREATE TABLE part_mood (id int PRIMARY KEY, c part);
	CREATE TABLE span_mood (id int PRIMARY KEY, s span);
	CREATE TABLE no_mood (id int PRIMARY KEY);
	CREATE TABLE kept_moods (k int, m mood) PARTITION BY LIST (k);
	CREATE TABLE kept_mood PARTITION OF kept_moods FOR VALUES IN (1);
	SELECT scalecache.create_cache_rule(x, x, x || ':{id}')
	FROM unnest(ARRAY['plain_mood', 'other_mood', 'part_mood', 'span_mood', 'no_mood']) x;
	SELECT scalecache.create_cache_rule('by_mood', 'kept_moods', 'by_mood:{m}');
	SELECT scalecache.create_cache_rule('wrote_mood', 'plain_mood', 'wrote_mood:{id}', 'write', 'm::text');
	INSERT INTO plain_mood VALUES (1, 'sad')});
ok(delivered(), 'delivered');
is($redis->command('GET', 'wrote_mood:1'), 'sad', 'a label');
my @mood_keys = map { "$_:1" } qw(plain_mood other_mood part_mood span_mood no_mood by_mood);
is(gone(q{ALTER TYPE mood ADD VALUE 'glad'}, @mood_keys), '', 'another label changes nothing');
is(gone(q{ALTER TYPE mood RENAME VALUE 'sad' TO 'low'}, @mood_keys),
	'plain_mood:1 other_mood:1 part_mood:1 span_mood:1 by_mood:1', 'one that is renamed all that has it');
is($redis->command('GET', 'wrote_mood:1'), undef, 'values, too');
is(gone('ALTER TYPE part ADD ATTRIBUTE n int', @mood_keys), 'part_mood:1', 'a row has another attribute');
is(gone('ALTER TYPE part RENAME ATTRIBUTE n TO o', @mood_keys), 'part_mood:1', 'or of another name');
is(gone('ALTER TYPE part DROP ATTRIBUTE o', @mood_keys), 'part_mood:1', 'or one less');
sql('CREATE TYPE gone_soon AS ENUM (); ALTER TYPE part ADD ATTRIBUTE g gone_soon');
ok(delivered(), 'delivered');
is(gone('DROP TYPE gone_soon CASCADE', @mood_keys), 'part_mood:1', 'also one that goes with its type');
sql(q{ALTER TABLE other_mood ADD w plain_mood});
is(gone('ALTER TABLE plain_mood RENAME m TO mood', 'other_mood:1', 'no_mood:1'), 'other_mood:1', 'so may a table\'s');
# One who has made his key of the old label, and commits later
my ($early, $renamer) = map { $node->background_psql($p) } 1 .. 2;
$early->query_safe(q{BEGIN; INSERT INTO kept_mood VALUES (1, 'low')});
my $renamer_pid = $renamer->query('SELECT pg_backend_pid()');
$renamer->{stdin} .= "ALTER TYPE mood RENAME VALUE 'low' TO 'blue';\n";
$renamer->{run}->pump_nb;
ok($node->poll_query_until($p, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $renamer_pid"), 'is waited for');
$redis->command('SET', 'by_mood:blue', '0');
$early->query_safe('COMMIT');
$renamer->query_safe('SELECT 1');
ok(delivered(), 'delivered');
is($redis->command('GET', 'by_mood:blue'), undef, 'so that nothing is left under the new one');
# Who reads sees the old label, whatever his snapshot, until he is told.
sql(q{INSERT INTO other_mood VALUES (5, '{blue}')});
$early->query_safe('BEGIN; SELECT a FROM other_mood WHERE id = 5');
$renamer->{stdin} .= "ALTER TYPE mood RENAME VALUE 'blue' TO 'grey';\n";
$renamer->{run}->pump_nb;
ok($node->poll_query_until($p, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $renamer_pid"), 'so is a reader of a value');
$early->query_safe('COMMIT');
$renamer->query_safe('SELECT 1');
$renamer->query_safe(q{BEGIN; ALTER TYPE mood RENAME VALUE 'grey' TO 'green'});
my $early_pid = $early->query('SELECT pg_backend_pid()');
$early->{stdin} .= "SELECT a FROM other_mood WHERE id = 5;\n";
$early->{run}->pump_nb;
ok($node->poll_query_until($p, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $early_pid"), 'who waits for the commit himself');
$renamer->query_safe('COMMIT');
like($early->query_safe('SELECT 1'), qr/\{green\}/, 'and sees the new label');
$_->quit for $early, $renamer;

# As are those of a rollup's table, whose view they do not lock
sql(q{
	CREATE TABLE felt (m mood, v int);
	SELECT scalecache.create_rollup('feelings', 'SELECT m, sum(v) AS total FROM felt GROUP BY m');
	SELECT scalecache.create_cache_rule('felt', 'felt', 'one:{m}:{v}');
	SELECT scalecache.create_cache_rule('feelings', 'feelings', 'felt:{m}');
	INSERT INTO felt VALUES ('green', 1)});
ok(delivered(), 'delivered');
($early, $renamer) = map { $node->background_psql($p) } 1 .. 2;
$early->query_safe(q{BEGIN; SAVEPOINT a; INSERT INTO felt VALUES ('green', 1); RELEASE a; SAVEPOINT b});
$renamer_pid = $renamer->query('SELECT pg_backend_pid()');
$renamer->{stdin} .= "ALTER TYPE mood RENAME VALUE 'green' TO 'red';\n";
$renamer->{run}->pump_nb;
ok($node->poll_query_until($p, "SELECT wait_event_type = 'Lock' OR state = 'idle' AND query ~ 'RENAME' FROM pg_stat_activity WHERE pid = $renamer_pid"), 'another command');
ok(delivered(), 'delivered');
$redis->command('SET', 'felt:red', '1');
$early->query_safe('COMMIT');
$renamer->query_safe('SELECT 1');
ok(delivered(), 'delivered');
is($redis->command('GET', 'felt:red'), undef, 'waits for who changes a rollup');
$_->quit for $early, $renamer;
# Whoever reads a rollup locks its view, and then its table.
my $holder;
($holder, $early, $renamer) = map { $node->background_psql($p, on_error_stop => 0) } 1 .. 3;
$holder->query_safe('BEGIN; LOCK TABLE felt');
for my $case ([ $renamer, "ALTER TYPE mood RENAME VALUE 'red' TO 'pink'" ], [ $early, 'SELECT * FROM feelings' ])
{
	my ($session, $command) = @$case;
	my $pid_of = $session->query('SELECT pg_backend_pid()');

	$session->{stdin} .= "$command;\n";
	$session->{run}->pump_nb;
	ok($node->poll_query_until($p, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid_of"), "waits: $command");
}
$holder->query_safe('COMMIT');
like($early->query_safe('SELECT 1'), qr/pink/, 'and sees the new label');
$renamer->query_safe('SELECT 1');
$_->quit for $holder, $early, $renamer;
sql('DROP TABLE felt CASCADE');

# ---- rollups ----
sql(q{
	CREATE TABLE sale (m int, v int);
	SELECT scalecache.create_rollup('sales', 'SELECT m, sum(v) AS total FROM sale GROUP BY m');
	SELECT scalecache.create_cache_rule('sales', 'sales', 'sales:{m}', 'write', 'row_to_json(sales.*)');
	INSERT INTO sale VALUES (1, 5);
	ALTER VIEW sales RENAME TO sold;
	ALTER TABLE sold RENAME total TO t;
	ALTER VIEW sold RENAME m TO month;
	INSERT INTO sale VALUES (1, 5)});
ok(delivered(), 'delivered');
is($redis->command('GET', 'sales:1'), '{"month":1,"t":10}', 'the value of a renamed rollup');
is(sql(q{SELECT key || ' ' || value FROM scalecache.cache_rules WHERE name = 'sales'}),
	'sales:{month} row_to_json(sold.*)', 'as the rule says');
sql('ALTER TABLE sale DISABLE TRIGGER ALL');
ok(delivered(), 'delivered');
$redis->command('SET', 'sales:1', 'old');
sql('INSERT INTO sale VALUES (1, 5); ALTER TABLE sale ENABLE TRIGGER ALL');
ok($node->poll_query_until($p, q{SELECT state = 'live' FROM scalecache.rollups}), 'its changes are captured again');
ok(delivered(), 'delivered');
is($redis->command('GET', 'sales:1'), undef, 'and what has changed meanwhile has gone');
my $other = $node->background_psql($p);
$other->query_safe('BEGIN; ALTER VIEW sold RENAME TO bought');
is(gone('INSERT INTO sale VALUES (1, 5)', 'sales:1'), 'sales:1', 'as what changes while somebody alters the rollup');
$other->query_safe('ROLLBACK');
$other->quit;
# One who writes when a trigger has gone, and before the worker makes it anew
my $trigger = sql(q{SELECT tgname FROM pg_trigger WHERE tgrelid = 'sale'::regclass AND tgname LIKE '%insert'});
my ($remover, $late) = map { $node->background_psql($p) } 1 .. 2;
$remover->query_safe("BEGIN; DROP TRIGGER $trigger ON sale");
my $late_pid = $late->query('SELECT pg_backend_pid()');
$late->{stdin} .= "BEGIN; INSERT INTO sale VALUES (7, 1);\n";
$late->{run}->pump_nb;
ok($node->poll_query_until($p, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $late_pid"), 'a writer waits for a table');
$remover->query_safe('COMMIT');
$remover->quit;
ok($node->poll_query_until($p, "SELECT state = 'idle in transaction' FROM pg_stat_activity WHERE pid = $late_pid"), 'that has lost a trigger');
ok(delivered(), 'delivered');
$redis->command('SET', 'sales:7', 'old');
$late->query_safe('COMMIT');
$late->quit;
ok($node->poll_query_until($p, q{SELECT state = 'live' FROM scalecache.rollups}), 'which is made anew');
ok(delivered(), 'delivered');
is($redis->command('GET', 'sales:7'), undef, 'and what was written without it has gone');
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr($p) ], 'dumped');
sql('CREATE DATABASE again');
# In one transaction: the worker must not make the rollup's triggers before the dump does.
$node->command_ok([ 'psql', '-Xq1', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $node->connstr('again') ], 'restored');
ok($node->poll_query_until('again', q{SELECT state = 'live' FROM scalecache.rollups}), 'the rollup is live');
$node->safe_psql('again', 'INSERT INTO sale VALUES (2, 5)');
is($node->safe_psql('again', "SELECT scalecache.wait_for_cache('180 s')"), 't', 'delivered');
is($redis->command('GET', 'sales:2'), '{"month":2,"t":5}', 'and so it is after a restore');

# ---- a column is renamed while the worker meets failures ----
sql(q{
	CREATE TABLE slow (id int, a int);
	CREATE SEQUENCE calls;
	CREATE FUNCTION public.fails(int) RETURNS int LANGUAGE plpgsql STABLE AS
		$$BEGIN PERFORM nextval('public.calls'); PERFORM pg_sleep(0.2); RETURN 1 / 0; END$$;
	SELECT scalecache.create_cache_rule('slow', 'slow', 'slow:{id}', 'write', 'public.fails(id)')});
# Others are to follow; if it was faster, once more.
my $calls;
for my $round (0 .. 19)
{
	delivered() or die 'not delivered';
	my $before = sql("SELECT nextval('calls')");
	sql('INSERT INTO slow SELECT i FROM generate_series(1, 10) i');
	ok($node->poll_query_until($p, "SELECT last_value > $before + 1 FROM calls"), "one value has failed, round $round");
	$calls = sql("SELECT last_value - $before FROM calls");
	last if $calls < 10;
}
cmp_ok($calls, '<', 10, 'and others have not yet');
sql('ALTER TABLE slow RENAME id TO no');
ok(delivered(), 'delivered');
is(sql(q{SELECT key || ' ' || value || ' ' || failing FROM scalecache.cache_rules WHERE name = 'slow'}),
	'slow:{no} public.fails(no) division by zero', 'both are in the rule');
sql(q{CREATE OR REPLACE FUNCTION public.fails(int) RETURNS int LANGUAGE plpgsql STABLE AS
	$$BEGIN RAISE 'not today'; END$$;
	INSERT INTO slow VALUES (11)});
ok(delivered(), 'delivered');
is(sql(q{SELECT failing FROM scalecache.cache_rules WHERE name = 'slow'}), 'not today', 'the last failure is told');
sql(q{CREATE OR REPLACE FUNCTION public.fails(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT 5';
	INSERT INTO slow VALUES (12)});
ok(delivered(), 'delivered');
is(sql(q{SELECT failing IS NULL FROM scalecache.cache_rules WHERE name = 'slow'}), 't', 'until there is a value');

# ---- DROP EXTENSION and a writer that has yet to commit ----
sql('INSERT INTO parent VALUES (2), (3)');
my $writer = $node->background_psql($p, on_error_stop => 0);
my $dropper = $node->background_psql($p, on_error_stop => 0);
$writer->query_safe('BEGIN; UPDATE parent SET id = id + 100');
my $pid = $dropper->query('SELECT pg_backend_pid()');
$dropper->{stdin} .= "DROP EXTENSION scalecache CASCADE;\n";
$dropper->{run}->pump_nb;
ok($node->poll_query_until($p, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid"), 'one waits for the other');
$writer->query_safe('COMMIT');
$dropper->query_safe('SELECT 1');
is(sql('SELECT count(*) FROM parent WHERE id > 100'), '3', 'which commits');
is(sql(q{SELECT count(*) FROM pg_extension WHERE extname = 'scalecache'}), '0', 'and then it is gone');
$_->quit for $writer, $dropper;
$node->stop;
$redis->stop;
done_testing();
