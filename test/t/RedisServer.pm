# A private redis-server for tests, and a client of its protocol.
package RedisServer;
use strict;
use warnings;
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ();
use PostgreSQL::Test::Utils ();
use Time::HiRes qw(sleep time);

# %opt: args => further arguments of redis-server; port => also one of TCP;
# password => of it and of its master
sub new
{
	my ($class, %opt) = @_;
	# The path of a socket must be short, and that of a test directory is not.
	my $dir = PostgreSQL::Test::Utils::tempdir_short();
	my $self = bless { dir => $dir, socket => "$dir/sock", args => $opt{args} // [], owner => $$ }, $class;

	$self->{password} = $opt{password};
	push @{ $self->{args} }, '--requirepass', $opt{password}, '--masterauth', $opt{password} if $opt{password};
	if ($opt{port})
	{
		$self->{port} = $opt{port};
		push @{ $self->{args} }, '--port', $opt{port}, '--bind', '127.0.0.1';
	}

	$self->start;
	return $self;
}

sub url { my ($self) = @_; return "redis+unix://$self->{socket}"; }

sub start
{
	my ($self, @args) = @_;
	my $pid = fork // die "fork: $!";

	if ($pid == 0)
	{
		open(STDOUT, '>>', "$self->{dir}/log");
		open(STDERR, '>&', \*STDOUT);
		exec { 'redis-server' } @{ $self->{command} } if $self->{command};
		exec { 'redis-server' } ('redis-server', '--port', '0', '--unixsocket', $self->{socket},
			'--dir', $self->{dir}, '--save', '', '--daemonize', 'no',
			@{ $self->{args} }, @args) or POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my $pong = eval { $self->command('PING') } // '';
		return if $pong eq 'PONG';
		return if $@ =~ /NOAUTH|LOADING/;
		last if waitpid($pid, POSIX::WNOHANG) == $pid;
		sleep 0.05;
	}
	die 'redis-server did not start: ' . (eval { PostgreSQL::Test::Utils::slurp_file("$self->{dir}/log") } // '');
}

# A Sentinel that watches the master "main" at a port of 127.0.0.1.
# %opt: quorum; password => of the Redis; own => its own
sub sentinel
{
	my ($class, $port, $master, %opt) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir_short();
	my $self = bless { dir => $dir, socket => "127.0.0.1:$port", port => $port, password => $opt{own}, owner => $$ }, $class;
	my $quorum = $opt{quorum} // 2;

	open(my $fh, '>', "$dir/sentinel.conf") or die;
	# A Sentinel that has itself stood still for more than two seconds does not
	# act on what it sees then, and one that has for less sees nothing amiss.
	print $fh "port $port
bind 127.0.0.1
dir $dir
sentinel monitor main 127.0.0.1 $master $quorum
sentinel down-after-milliseconds main 3000
sentinel failover-timeout main 5000
";
	print $fh "sentinel auth-pass main $opt{password}\n" if $opt{password};
	print $fh "requirepass $opt{own}\nsentinel sentinel-pass $opt{own}\n" if $opt{own};
	close $fh;
	$self->{command} = [ 'redis-server', "$dir/sentinel.conf", '--sentinel' ];
	$self->start;
	return $self;
}

sub signal { my ($self, $signal) = @_; kill($signal, $self->{pid}); }

sub kill9
{
	my ($self) = @_;

	return unless $self->{pid};
	kill('CONT', $self->{pid});
	kill('KILL', $self->{pid});
	waitpid($self->{pid}, 0);
	delete $self->{pid};
	delete $self->{client};
	unlink $self->{socket};
}

sub stop
{
	my ($self) = @_;

	$self->kill9;
	system('rm', '-rf', $self->{dir});
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $@, $!);

	$self->stop if $self->{owner} == $$ && -d $self->{dir};
}

sub client { my ($self) = @_; return RedisServer::Client->new($self->{socket}, $self->{password}); }

# Dies with the text of an error reply.
sub command
{
	my ($self, @args) = @_;

	my $old = $self->{client};
	$self->{client} //= $self->client;
	my $reply = eval { $self->{client}->command(@args) };
	if (my $error = $@)
	{
		delete $self->{client} unless $error =~ /^[A-Z]+ /;
		# One that was closed meanwhile
		return $self->command(@args) if $old && $error =~ /^(send|connection lost)/;
		die $error;
	}
	return $reply;
}

sub info
{
	my ($self, $name) = @_;

	return $self->command('INFO') =~ /^\Q$name\E:(.*?)\r?$/m ? $1 : undef;
}

package RedisServer::Client;
use strict;
use warnings;

sub new
{
	my ($class, $path, $password) = @_;
	my $socket = ($path =~ m{^/} ? IO::Socket::UNIX->new(Type => Socket::SOCK_STREAM(), Peer => $path)
		: IO::Socket::INET->new(PeerAddr => $path)) or die "connect: $!\n";

	my $self = bless { socket => $socket }, $class;

	$self->command('AUTH', $password) if $password;
	return $self;
}

sub command
{
	my ($self, @args) = @_;

	$self->send(@args);
	return $self->reply;
}

sub send
{
	my ($self, @args) = @_;
	my $out = '*' . @args . "\r\n" . join('', map { '$' . length($_) . "\r\n$_\r\n" } @args);

	local $SIG{PIPE} = 'IGNORE';
	print { $self->{socket} } $out or die "send: $!\n";
	$self->{socket}->flush;
}

sub reply
{
	my ($self) = @_;
	my $fh = $self->{socket};
	local $/ = "\r\n";
	my $line = <$fh> // die "connection lost\n";

	chomp $line;
	my ($type, $rest) = (substr($line, 0, 1), substr($line, 1));
	return $rest if $type eq '+' || $type eq ':';
	die "$rest\n" if $type eq '-';
	if ($type eq '$')
	{
		return undef if $rest < 0;
		my $data = '';
		while (length($data) < $rest + 2)
		{
			my $n = read($fh, $data, $rest + 2 - length($data), length($data));
			die "connection lost\n" unless $n;
		}
		return substr($data, 0, $rest);
	}
	return $rest < 0 ? undef : [ map { eval { $self->reply } } 1 .. $rest ] if $type eq '*';
	die "bad reply: $line\n";
}

1;
