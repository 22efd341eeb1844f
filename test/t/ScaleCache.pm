# What the TAP tests share: a preloaded server, the rollups most of them use,
# load by pgbench, and the checks every rollup must pass.
package ScaleCache;
use strict;
use warnings;
use Exporter 'import';
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(new_server configure $TABLE $ROLLUPS $WRITE $WORKER $COMPARE
  comparing_script compared
  script start_pgbench end_pgbench crash_by hold_commits run_loads exact live verified folded no_deadlock);

# A table, two rollups of it, and a write of every kind.
our $TABLE = 'CREATE TABLE t (id bigserial PRIMARY KEY, k int, v numeric);';
our $ROLLUPS = q{
	SELECT scalecache.create_rollup('r_k',
		'SELECT k, sum(v) AS s, count(*) AS n, min(v) AS lo, max(v) AS hi
		 FROM t GROUP BY k');
	SELECT scalecache.create_rollup('r_all',
		'SELECT sum(v) AS s, count(*) AS n, count(DISTINCT k) AS d FROM t');
};
our $WRITE = q{
	INSERT INTO t (k, v) SELECT g % 20, g FROM generate_series(1, 500) g;
	UPDATE t SET k = k + 1, v = v * 2 WHERE id % 7 = 0;
	DELETE FROM t WHERE id % 11 = 0;
};

# The worker of the current database
our $WORKER = q{FROM pg_stat_activity WHERE datname = current_database()
	AND backend_type = 'scalecache worker'};

# The rollup's rows differing from its query's, which is run on the source,
# both in one snapshot.  Works on a standby, and while others write.
my $differ = q{
DO $do$
DECLARE
	r record;
	query text;
	plain text[];
	rolled text[];
	rows text := 'SELECT coalesce(array_agg(whole_row::text ORDER BY whole_row::text), ''{}'') FROM (%s) whole_row';
BEGIN
	FOR r IN SELECT rollup FROM scalecache.rollups ORDER BY rollup::text LOOP
		EXECUTE format(rows, format('TABLE %s', r.rollup)) INTO rolled;
		query := rtrim(pg_get_viewdef(r.rollup), ';');
		PERFORM set_config(name, 'off', true) FROM pg_settings
			WHERE name IN ('scalecache.enable_rewrite', 'scalecache.enable_rollup_scan');
		EXECUTE format(rows, query) INTO plain;
		PERFORM set_config(name, 'on', true) FROM pg_settings
			WHERE name IN ('scalecache.enable_rewrite', 'scalecache.enable_rollup_scan');
		IF rolled IS DISTINCT FROM plain THEN
			RAISE EXCEPTION '% differs', r.rollup USING DETAIL = format('%s, not %s', rolled, plain);
		END IF;
	END LOOP;
END $do$;
};

# compare() notes in "checks" how many rows of a rollup are not those of its
# query, and not those of its view without its storage.
our $COMPARE = q{
	CREATE TABLE checks (rollup text, scanned bool, differ_plain int, differ_off int, sample text);
	CREATE FUNCTION differ(a text[], b text[]) RETURNS int
	LANGUAGE sql AS $$SELECT count(*)::int FROM
		((SELECT unnest(a) EXCEPT ALL SELECT unnest(b)) UNION ALL
		 (SELECT unnest(b) EXCEPT ALL SELECT unnest(a))) d$$;
	CREATE FUNCTION compare(name text, rolled text, plain text)
	RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		a text[]; b text[]; c text[];
		line text;
		scanned bool := false;
	BEGIN
		FOR line IN EXECUTE 'EXPLAIN (ANALYZE, TIMING OFF) ' || rolled LOOP
			scanned := scanned OR line ~ 'Answered From: rollup';
		END LOOP;
		EXECUTE rolled INTO a;
		PERFORM set_config('scalecache.enable_rewrite', 'off', true);
		EXECUTE plain INTO b;
		PERFORM set_config('scalecache.enable_rollup_scan', 'off', true);
		EXECUTE rolled INTO c;
		INSERT INTO checks VALUES (name, scanned, differ(a, b), differ(a, c),
			(SELECT string_agg(d::text, ' ') FROM
				((SELECT 'rollup', unnest(a) EXCEPT ALL SELECT 'rollup', unnest(b)) UNION ALL
				 (SELECT 'query', unnest(b) EXCEPT ALL SELECT 'query', unnest(a))) d));
	END $$;
};

# Settings a server with the library has; %opt: preload => 0, conf => text
sub configure
{
	my ($node, %opt) = @_;

	# With the code of what is said, for the last look at the log
	$node->append_conf('postgresql.conf', "log_line_prefix = '%m [%p] %e %q%a '\n");
	$node->append_conf('postgresql.conf',
		"shared_preload_libraries = 'scalecache'\nscalecache.fold_delay = 10\n")
	  unless defined $opt{preload} && !$opt{preload};
	$node->append_conf('postgresql.conf', q{
max_prepared_transactions = 20
max_worker_processes = 20
} . ($opt{conf} // ''));
}

# A started server; %opt: as for configure, init => arguments of initdb
sub new_server
{
	my ($name, %opt) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(@{ $opt{init} // [] });
	configure($node, %opt);
	$node->start;
	return $node;
}

# A file of SQL
sub script
{
	my ($node, $name, $text) = @_;
	my $file = $node->basedir . "/$name.sql";

	unlink $file;
	append_to_file($file, $text);
	return $file;
}

# pgbench in the background: its handle, and its output once that finished
our $DATABASE = 'postgres';

sub start_pgbench
{
	my ($node, @args) = @_;
	my %run = (out => '', err => '');

	$run{h} = IPC::Run::start(
		[ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, @args, $DATABASE ],
		'>', \$run{out}, '2>', \$run{err});
	return \%run;
}

# Kill -9 a process of the server, and wait until that has started anew because
# of it.  At first it does not know, and takes connections which it then ends.
sub crash_by
{
	my ($node, $pid) = @_;
	my $log = -s $node->logfile;
	my $killed = kill('KILL', $pid);

	$node->wait_for_log(qr/database system is ready to accept connections/, $log) if $killed;
	return $killed;
}

# End it before it is done, and its sessions, which may be in a statement.
sub end_pgbench
{
	my ($node, $run) = @_;

	$run->{h}->kill_kill;
	$node->poll_query_until('postgres', q{SELECT count(pg_terminate_backend(pid)) = 0
		FROM pg_stat_activity WHERE application_name = 'pgbench'})
	  or die 'pgbench has not ended';
	return;
}

# From now on commits of sessions wait, unless they say otherwise, until
# synchronous_standby_names is reset.  It is the checkpointer that tells them
# to: it has read the setting when it has made a checkpoint.
sub hold_commits
{
	my ($node) = @_;

	$node->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
	$node->safe_psql('postgres', 'SELECT pg_reload_conf()');
	$node->safe_psql('postgres', 'CHECKPOINT');
	return;
}

# How often READ COMMITTED failed, as it does without rollups, too: a row that
# was to be locked has gone to another partition.
sub moved_rows
{
	my ($node) = @_;

	return scalar(() = slurp_file($node->logfile) =~ /ERROR: .*already moved to another partition/g);
}

# Loads by pgbench side by side, again and again until each has done enough:
# how much happens in a time is the machine's affair.
#
# %opt: seconds => length of a round, enough => code that may ask for another
# round, loads => { name => { args => [...], least => transactions,
# options => PGOPTIONS, may_fail => 1, may_deadlock => 1 } }
sub run_loads
{
	my ($node, $what, %opt) = @_;
	my $loads = $opt{loads};
	my (%done, %failed);
	my $round = 0;
	my $enough;

	do
	{
		my %run;
		for my $name (sort keys %$loads)
		{
			local $ENV{PGOPTIONS} = $loads->{$name}{options} // '';
			$run{$name} = start_pgbench($node, '-T', $opt{seconds},
				@{ $loads->{$name}{args} });
		}
		$enough = 1;
		for my $name (sort keys %run)
		{
			my $run = $run{$name};
			my $count = sub { ($run->{out} =~ $_[0])[0] // 0 };

			$run->{h}->finish;
			is($run->{h}->result(0), 0, "$what: $name") or diag($run->{err});
			unlike($run->{err}, qr/ERROR/, "$what: $name: no error")
			  unless $loads->{$name}{may_fail};
			$done{$name} += $count->(qr/actually processed: (\d+)/);
			$failed{$name} += $count->(qr/number of failed transactions: (\d+)/);
			$enough = 0 if $done{$name} < $loads->{$name}{least};
		}
		$enough = 0 if $opt{enough} && !$opt{enough}->();
	} while (!$enough && ++$round < 20);
	ok($enough, "$what: enough was done");
	for my $name (sort keys %$loads)
	{
		note("$what: $name: $done{$name} done, $failed{$name} failed");
		next if $loads->{$name}{may_fail} || $loads->{$name}{may_deadlock};
		cmp_ok($failed{$name}, '<=', $failed{$name} ? moved_rows($node) : 0, "$what: $name: no failures");
	}
	return;
}

# A script that compares each rollup, in a transaction of its own:
# name => [ columns to compare, query ]
sub comparing_script
{
	my ($node, $name, $rollups) = @_;
	my $rows = 'SELECT array_agg(whole_row::text ORDER BY whole_row::text) FROM (SELECT %s FROM %s) whole_row';
	my $text = '';

	for my $r (sort keys %$rollups)
	{
		my ($columns, $query) = @{ $rollups->{$r} };

		$text .= sprintf("SELECT compare('%s', \$q\$$rows\$q\$, \$q\$$rows\$q\$);\n",
			$r, $columns, $r, $columns, "($query) q");
	}
	return script($node, $name, $text);
}

# What was compared was the same, and mostly answered from the storage.
sub compared
{
	my ($node, $what, $share) = @_;
	my ($n, $scanned) = split /\|/, $node->safe_psql('postgres',
		'SELECT count(*), count(*) FILTER (WHERE scanned) FROM checks');

	note("$what: $n comparisons, $scanned answered from the rollup");
	cmp_ok($scanned, '>', ($share || 0.9) * $n, "$what: mostly answered from the rollup");
	is( $node->safe_psql('postgres', q{SELECT rollup, count(*), max(differ_plain), max(differ_off)
			FROM checks WHERE differ_plain <> 0 OR differ_off <> 0 GROUP BY 1}),
		'', "$what: no differences")
	  or diag($node->safe_psql('postgres', 'SELECT rollup, left(sample, 2000) FROM checks WHERE sample IS NOT NULL LIMIT 10'));
}

sub exact
{
	my ($node, $db, $what) = @_;
	my ($ret, $out, $err) = $node->psql($db,
		"BEGIN ISOLATION LEVEL REPEATABLE READ; $differ COMMIT",
		on_error_stop => 1);

	ok($ret == 0, "$what: every rollup equals its query") or diag($err);
}

# Answered by its storage
sub live
{
	my ($node, $db, $rollup, $what) = @_;

	like($node->safe_psql($db, "EXPLAIN (ANALYZE) SELECT * FROM $rollup"),
		qr/Answered From: rollup/, "$what: $rollup is answered from the rollup");
}

sub verified
{
	my ($node, $db, $what) = @_;

	is( $node->safe_psql($db, q{
		SELECT rollup FROM scalecache.rollups WHERE scalecache.verify_rollup(rollup) <> 0}),
		'', "$what: every rollup is verified");
}

sub folded
{
	my ($node, $db, $what) = @_;

	ok( $node->poll_query_until($db,
			'SELECT sum(pending_deltas) = 0 FROM scalecache.rollups'),
		"$what: everything is folded in the end");
}

# Whatever a test is about, no server is to crash, but where it is killed, and
# nobody is to meet an internal error.  What is meant to happen the test adds.
our $MEANT = qr/terminated by signal 9/;

END
{
	my $status = $?;
	my @trouble = grep { $_ !~ $MEANT }
	  map { -e $_->logfile ? slurp_file($_->logfile) =~
		  /^.*(?:TRAP: |PANIC: |terminated by signal|\] XX\w{3} .*(?:ERROR|FATAL): |: (?:ERROR|FATAL):  XX\w{3}: ).*$/mg : () }
	  @PostgreSQL::Test::Cluster::all_nodes;

	diag(join("\n", 'In the log:', @trouble)) if @trouble;
	$? = $status || (@trouble ? 1 : 0);
}

sub no_deadlock
{
	my ($node) = @_;

	unlike(slurp_file($node->logfile), qr/deadlock detected/, 'no deadlock');
}

1;
