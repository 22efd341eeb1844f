# A randomized checker for stale values: writers of every kind, readers that
# fill the cache with pauses and old snapshots, and chaos.  Its modes:
#
#   token   as documented: scalecache_get, cache_token, scalecache_fill
#   plain   the rules delete, readers use GET and SET
#   before  no rules: writers delete the key before they commit
#   after   no rules: writers delete the key after they have committed
package StaleCheck;
use strict;
use warnings;
use IPC::Open2;
use List::Util ();
use POSIX ();
use RedisServer;
use ScaleCache ();
use Test::More ();
use Time::HiRes qw(sleep time);

our $KEYS = 40;
our $LIMIT = 7200;				# seconds

# A server whose worker soon notices that a Redis has gone or come back, and
# soon forgets
sub server
{
	my ($name, $redis) = @_;
	my $node = ScaleCache::new_server($name, conf => "restart_after_crash = on
fsync = on
scalecache.redis_url = '" . $redis->url . "'
scalecache.redis_timeout = 300
scalecache.redis_retry_max = 200
scalecache.naptime = 100
scalecache.lease_time = 50
scalecache.tombstone_time = 1000
max_connections = 50
log_statement = none
");

	$node->safe_psql('postgres', 'CREATE EXTENSION scalecache');
	return $node;
}

# ---- a session that comes back after a crash ----
sub session
{
	my ($node) = @_;
	return bless { node => $node }, 'StaleCheck::Session';
}

package StaleCheck::Session;
use Time::HiRes qw(sleep);

sub connect
{
	my ($self) = @_;
	my $node = $self->{node};

	$self->{pid} = IPC::Open2::open2($self->{out}, $self->{in}, 'psql', '-XAtq',
		'-d', $node->connstr('postgres') . ' application_name=stale', '-f', '-');
}

sub drop
{
	my ($self) = @_;

	return unless $self->{pid};
	close $self->{in};
	close $self->{out};
	waitpid($self->{pid}, 0);
	delete $self->{pid};
}

# The lines of the answer, or undef when the session was lost or failed.
sub sql
{
	my ($self, @statements) = @_;
	local $SIG{PIPE} = 'IGNORE';
	my @lines;

	$self->connect unless $self->{pid};
	my ($in, $out) = @$self{qw(in out)};
	print $in join(";\n", @statements), ";\n\\echo :ERROR :DONE\n" or do { $self->drop; sleep 0.1; return };
	$in->flush;
	while (defined(my $line = <$out>))
	{
		chomp $line;
		return $line =~ /^true/ ? undef : \@lines if $line =~ /:DONE$/;
		push @lines, $line;
	}
	$self->drop;
	sleep 0.1;
	return;
}

package StaleCheck;

# ---- writers ----
my %scripts = (
	one => q{
\set id random(1, :keys)
UPDATE kv SET ver = nextval('s') WHERE id = :id;
},
	savepoints => q{
\set a random(1, :keys)
\set b random(1, :keys)
\set c random(1, 3)
BEGIN;
UPDATE kv SET ver = nextval('s') WHERE id = least(:a, :b);
SAVEPOINT x;
UPDATE kv SET ver = nextval('s') WHERE id = greatest(:a, :b);
\if :c = 1
ROLLBACK TO x;
\elif :c = 2
RELEASE x;
\endif
COMMIT;
},
	rollback => q{
\set id random(1, :keys)
BEGIN;
UPDATE kv SET ver = nextval('s') WHERE id = :id;
ROLLBACK;
},
	multi => q{
\set id random(1, :keys)
UPDATE kv SET ver = nextval('s') WHERE id IN (SELECT id FROM kv WHERE id BETWEEN :id AND :id + 9 ORDER BY id FOR UPDATE);
},
	bulk => q{
UPDATE kv SET ver = nextval('s') WHERE id IN (SELECT id FROM kv ORDER BY id FOR UPDATE);
},
	delete => q{
\set id random(1, :keys)
DELETE FROM kv WHERE id = :id;
INSERT INTO kv VALUES (:id, nextval('s')) ON CONFLICT (id) DO UPDATE SET ver = nextval('s');
},
	move => q{
\set id random(1, :keys)
BEGIN;
DELETE FROM kv WHERE id = :id + 1000;
UPDATE kv SET id = id + 1000, ver = nextval('s') WHERE id = :id;
COMMIT;
BEGIN;
DELETE FROM kv WHERE id = :id;
UPDATE kv SET id = id - 1000, ver = nextval('s') WHERE id = :id + 1000;
COMMIT;
},
	prepared => q{
\set id random(1, :keys)
BEGIN;
UPDATE kv SET ver = nextval('s') WHERE id = :id;
PREPARE TRANSACTION 'p:client_id';
COMMIT PREPARED 'p:client_id';
},
	truncate => q{
BEGIN;
TRUNCATE kv;
INSERT INTO kv SELECT g, nextval('s') FROM generate_series(1, :keys) g;
COMMIT;
},
	async => q{
\set id random(1, :keys)
BEGIN;
SET LOCAL synchronous_commit = off;
UPDATE kv SET ver = nextval('s') WHERE id = :id;
COMMIT;
});
my %weight = (one => 30, savepoints => 12, rollback => 5, multi => 35, bulk => 12, delete => 8,
	move => 4, prepared => 3, truncate => 1, async => 5);

sub write_scripts
{
	my ($node) = @_;
	my @args;

	for my $name (sort keys %scripts)
	{
		my $file = $node->basedir . "/stale_$name.sql";
		(my $text = $scripts{$name}) =~ s/:keys/$KEYS/g;
		open(my $fh, '>', $file) or die;
		print $fh $text;
		close $fh;
		push @args, '-f', "$file\@$weight{$name}";
	}
	return @args;
}

# Start a process; it ends by itself when the file $stop is there.
sub spawn
{
	my ($code) = @_;
	my $pid = fork // die "fork: $!";

	return $pid if $pid;
	eval { $code->(); 1 } or print STDERR $@;
	POSIX::_exit(0);
}

sub pgbench_writer
{
	my ($node, $stop, $clients, @scripts) = @_;
	return spawn(sub {
		open(STDOUT, '>', '/dev/null');
		open(STDERR, '>', '/dev/null');
		until (-e $stop)
		{
			# What was prepared when the server crashed blocks its keys.
			my $left = qx{psql -XAtq -d '${\$node->connstr('postgres')}' -c "SELECT gid FROM pg_prepared_xacts"};
			system('psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "ROLLBACK PREPARED '$_'") for split /\n/, $left;
			system('pgbench', '-n', '-c', $clients, '-j', '1', '-T', '2', '--max-tries=100', @scripts,
				'-h', $node->host, '-p', $node->port, 'postgres');
			sleep 0.1;
		}
	});
}

sub control_writer
{
	my ($node, $redis, $stop, $mode) = @_;
	return spawn(sub {
		my $session = session($node);
		my $client = $redis->client;
		until (-e $stop)
		{
			my $id = 1 + int rand $KEYS;
			$session->sql('BEGIN', "UPDATE kv SET ver = nextval('s') WHERE id = $id");
			if ($mode eq 'before')
			{
				$client->command('DEL', "kv:$id");
				sleep rand 0.005;
			}
			$session->sql('COMMIT');
			$client->command('DEL', "kv:$id") if $mode eq 'after';
			sleep rand 0.02;
		}
	});
}

# ---- readers ----
sub note
{
	my ($found, $what) = @_;
	open(my $fh, '>>', $found) or die;
	print $fh "$what\n";
	close $fh;
}

sub redis_reader
{
	my ($node, $redis, $stop, $found, $mode) = @_;
	return spawn(sub {
		srand($$);
		my $session = session($node);
		my $client;
		my $command = sub {
			my $reply = eval {
				$client //= $redis->client;
				$client->command(@_);
			};
			if ($@)
			{
				return ('', $@) if $@ =~ /^[A-Z]+ /;
				undef $client;
				sleep 0.02;
				return ('', $@);
			}
			return ($reply, '');
		};
		until (-e $stop)
		{
			my $id = 1 + int rand $KEYS;
			my $bound;
			if ($mode eq 'token' && rand() < 0.05)
			{
				# Acknowledged before the read begins
				my $r = $session->sql("SELECT ver FROM kv WHERE id = $id");
				$bound = $r->[0] if $r && @$r;
				my $w = $session->sql("SELECT scalecache.wait_for_cache('20 s')");
				undef $bound unless $w && @$w && $w->[0] eq 't';
			}
			my ($value, $error) = $mode eq 'token'
			  ? $command->('FCALL', 'scalecache_get', 1, "kv:$id") : $command->('GET', "kv:$id");
			note($found, "kv:$id is $value, and was $bound before")
			  if defined $bound && defined $value && $value =~ /^\d+$/ && $value < $bound;
			next if $error ne '';
			next if defined $value;
			my $old = rand() < 0.33;
			if ($old)
			{
				$session->sql('BEGIN ISOLATION LEVEL REPEATABLE READ', 'SELECT 1');
				sleep rand 0.03;
			}
			my $token = $mode eq 'token' ? 'scalecache.cache_token()' : "'-'";
			my $r = $session->sql("SELECT coalesce((SELECT ver::text FROM kv WHERE id = $id), 'none'), $token");
			$session->sql('COMMIT') if $old;
			next unless $r && @$r;
			my ($ver, $t) = split /\|/, $r->[0];
			sleep rand 0.01 if rand() < 0.5;
			$mode eq 'token' ? $command->('FCALL', 'scalecache_fill', 1, "kv:$id", $ver, $t, 60000)
			  : $command->('SET', "kv:$id", $ver);
		}
	});
}

sub memory_reader
{
	my ($node, $stop, $found) = @_;
	return spawn(sub {
		srand($$);
		my $session = session($node);
		until (-e $stop)
		{
			my $id = 1 + int rand $KEYS;
			my $old = rand() < 0.1;
			if ($old)
			{
				$session->sql('BEGIN ISOLATION LEVEL REPEATABLE READ', 'SELECT 1');
				sleep rand 0.03;
				$session->sql("SELECT scalecache.cached_query('kv:$id', 'SELECT ver FROM kv WHERE id = $id')", 'COMMIT');
				next;
			}
			my $r = $session->sql("SELECT ver FROM kv WHERE id = $id");
			my $c = $session->sql("SELECT scalecache.cached_query('kv:$id', 'SELECT ver FROM kv WHERE id = $id')->0->>'ver'");
			next unless $r && @$r && $c && @$c && $c->[0] =~ /^\d+$/;
			note($found, "memory: kv:$id is $c->[0], and was $r->[0] before") if $c->[0] < $r->[0];
		}
	});
}

# ---- a run ----

sub setup
{
	my ($node, $mode) = @_;
	$node->safe_psql('postgres', "DROP TABLE IF EXISTS kv; DROP SEQUENCE IF EXISTS s;
		CREATE SEQUENCE s; CREATE TABLE kv (id int PRIMARY KEY, ver bigint) WITH (fillfactor = 50);
		INSERT INTO kv SELECT g, nextval('s') FROM generate_series(1, $KEYS) g");
	$node->safe_psql('postgres', "SELECT scalecache.create_cache_rule('kv', 'kv', 'kv:{id}')")
	  if $mode eq 'token' || $mode eq 'plain';
}

sub cached { my ($redis) = @_; return scalar grep { defined $redis->command('GET', "kv:$_") } 1 .. $KEYS; }

# Wait for something that is bound to happen.
sub poll
{
	my ($code) = @_;
	my $until = time + 600;

	until (eval { $code->() })
	{
		die "it did not happen: $@" if time > $until;
		sleep 0.1;
	}
}

# Values in Redis that are not the row's, when everything has been delivered
sub stale_now
{
	my ($node, $redis) = @_;
	my %row = map { split /\|/ } split /\n/, $node->safe_psql('postgres', 'SELECT id, ver FROM kv');
	my @stale;
	my $cached = 0;

	for my $id (1 .. $KEYS)
	{
		my $value = $redis->command('GET', "kv:$id");
		next unless defined $value;
		$cached++;
		# A result of cached_query
		$value = $value =~ /"ver": (\d+)/ ? $1 : 'none' if $value =~ /^\{"scalecache"/;
		push @stale, "kv:$id is $value, row " . ($row{$id} // 'none') if $value ne ($row{$id} // 'none');
	}
	return ($cached, @stale);
}

# %opt: mode; clients; chaos => code called again and again.  It goes on until
# all of these hold: seconds have passed, that many writes were made, and
# until => code says true.  A limit there is for what hangs only.
# Returns writes, cached values at the end, and what was stale.
sub run
{
	my ($node, $redis, %opt) = @_;
	my $mode = $opt{mode};
	my $stop = $node->basedir . '/stop';
	my $stop_writers = "$stop.writers";
	my $found = $node->basedir . '/found';
	my @writers;
	my @pids;

	unlink $stop, $stop_writers, $found;
	setup($node, $mode);
	if ($mode eq 'token' || $mode eq 'plain')
	{
		push @writers, pgbench_writer($node, $stop_writers, $opt{clients} // 4, write_scripts($node));
		push @pids, memory_reader($node, $stop, $found) for 1 .. ($mode eq 'token' ? 2 : 0);
	}
	else
	{
		push @writers, control_writer($node, $redis, $stop_writers, $mode) for 1 .. 3;
	}
	push @pids, redis_reader($node, $redis, $stop, $found, $mode) for 1 .. 4;
	my $start = time;
	my $writes = 0;
	for (;;)
	{
		$opt{chaos} ? $opt{chaos}->() : sleep 0.5;
		my $w = eval { $node->safe_psql('postgres', 'SELECT last_value FROM s') } // 0;
		$writes = $w if $w > $writes;
		last if time >= $start + ($opt{seconds} // 0) && $writes >= ($opt{writes} // 0)
		  && (!$opt{until} || $opt{until}->());
		die "no end after $LIMIT s and $writes writes" if time > $start + $LIMIT;
	}
	# Readers outlive the writers: what they filled late is what may be stale.
	open(my $fh, '>', $stop_writers);
	close $fh;
	waitpid($_, 0) for @writers;
	my $end;
	poll(sub {
		my $n = $redis->info('total_commands_processed');
		$end //= $n + 50 * @pids;
		return $n >= $end;
	});
	poll(sub { cached($redis) > 5 }) if $mode eq 'token';
	open($fh, '>', $stop);
	close $fh;
	waitpid($_, 0) for @pids;
	$node->poll_query_until('postgres', 'SELECT true');
	$node->safe_psql('postgres', "ROLLBACK PREPARED '$_'")
	  for split /\n/, $node->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts');
	if ($mode eq 'token' || $mode eq 'plain')
	{
		$node->poll_query_until('postgres', "SELECT scalecache.wait_for_cache('60 s')") or die 'not delivered';
	}
	my ($cached, @stale) = stale_now($node, $redis);
	if (open($fh, '<', $found))
	{
		push @stale, map { chomp; $_ } <$fh>;
	}
	return ($writes, $cached, @stale);
}

# Under chaos of every kind nothing gets stale.  $chaos: name => code.
#
# %opt: writes; clients; pause => seconds between two of them, at most;
# ready => code called before each; may_fail => 1: one that dies does not count
sub survives
{
	my ($node, $redis, $chaos, %opt) = @_;
	my (@rest, %done);
	my $next = sub {
		@rest = List::Util::shuffle(sort keys %$chaos) unless @rest;
		my $what = shift @rest;

		Test::More::note("chaos: $what");
		$opt{ready}->() if $opt{ready};
		if (eval { $chaos->{$what}->(); 1 }) { $done{$what}++; }
		elsif ($opt{may_fail}) { Test::More::note("$what: $@"); }
		else { die $@; }
		sleep 1 + rand($opt{pause} - 1);
	};
	my ($writes, $cached, @stale) = run($node, $redis, mode => 'token',
		writes => $opt{writes}, clients => $opt{clients}, chaos => $next,
		until => sub { keys %done == keys %$chaos });

	Test::More::cmp_ok($writes, '>=', $opt{writes}, "chaos: $writes writes");
	Test::More::cmp_ok($cached, '>', 5, "$cached values are cached at the end");
	Test::More::is(scalar keys %done, scalar keys %$chaos,
		join(', ', map { "$_ $done{$_}" } sort keys %done));
	Test::More::is(scalar @stale, 0, 'nothing is stale')
	  or Test::More::diag(Test::More::explain(\@stale));
	Test::More::is($node->safe_psql('postgres', 'SELECT entries FROM scalecache.cache_queue'),
		'0', 'nothing is left in the queue');
	return;
}

1;
