# Cache rules mean the same whoever writes, and whatever happens to their tables.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use RedisServer;
use ScaleCache;
use Test::More;

my $redis = RedisServer->new;
my $node = new_server('follow', conf => "scalecache.redis_url = '" . $redis->url . "'
scalecache.naptime = 200
");
my $p = 'postgres';

sub sql { return $node->safe_psql($p, $_[0]); }
sub delivered { return sql("SELECT scalecache.wait_for_cache('180 s')") eq 't'; }

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

sql('CREATE EXTENSION scalecache');

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

# ---- triggers ----
sql('ALTER TABLE t DISABLE TRIGGER ALL; ALTER TABLE t ENABLE TRIGGER ALL');
is(gone('SET session_replication_role = replica; UPDATE t SET id = 3 WHERE id = 2', 'long:2', 'long:3'),
	'long:2 long:3', 'triggers that were off fire always again');
is(gone('SET session_replication_role = replica; TRUNCATE t', 'c:other'), 'c:other', 'for TRUNCATE too');
sql(q{INSERT INTO t VALUES (4, NULL, NULL, 'a long note'); ALTER TABLE t DISABLE TRIGGER USER});
is(gone('DELETE FROM t', 'long:4'), '', 'who disables them has them disabled');
is(gone('ALTER TABLE t ENABLE TRIGGER USER', 'long:4', 'c:x'), 'long:4 c:x', 'and then everything goes');

# ---- what cannot have a rule cannot become it ----
refused('CREATE TABLE heir () INHERITS (t)', qr/table "heir" cannot inherit from "t"/, 'an heir');
sql('CREATE TABLE heir (LIKE t)');
refused('ALTER TABLE heir INHERIT t', qr/table "heir" cannot inherit from "t"/, 'a later heir');
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
sql('CREATE SCHEMA s CREATE TABLE p6 PARTITION OF public.p FOR VALUES IN (6)');
is(gone('TRUNCATE s.p6', 'p:6'), 'p:6', 'a partition made with its schema');
my $triggers = q{SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'scalecache_rule_%' AND tgrelid IN };
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
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr($p) ], 'dumped');
sql('CREATE DATABASE again');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $node->connstr('again') ], 'restored');
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
	SELECT scalecache.create_cache_rule('slow', 'slow', 'slow:{id}', 'write', 'public.fails(id)');
	INSERT INTO slow SELECT i FROM generate_series(1, 10) i});
ok($node->poll_query_until($p, 'SELECT last_value BETWEEN 2 AND 9 FROM calls'), 'one value has failed');
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
