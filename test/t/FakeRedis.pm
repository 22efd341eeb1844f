# A server that speaks Redis' protocol, is polite, and does what it is told to
# instead: answer with something else, hang up, or say nothing any more.
package FakeRedis;
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ();
use PostgreSQL::Test::Utils ();

# dir => where its files are; version => of the function library that it has;
# path => of its socket, or port => of 127.0.0.1;
# answer => code for (name, arguments, mode), asked before it is polite: the
# bytes to be sent, 'close', or [ bytes ] to be sent and nothing after them,
# [ bytes, 'deaf' ] when nothing is received either.  The name of FCALL is the
# function's.
sub new
{
	my ($class, %opt) = @_;
	my $self = bless {%opt}, $class;
	my $listener = $opt{path}
	  ? IO::Socket::UNIX->new(Type => Socket::SOCK_STREAM(), Local => $opt{path}, Listen => 5)
	  : IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $opt{port}, Listen => 5, ReuseAddr => 1);

	die "listen: $!" unless $listener;
	# Its end says that the test is gone, however it has gone.
	pipe(my $gone, $self->{alive}) or die "pipe: $!";
	$self->{owner} = $$;
	$self->{pid} = fork // die "fork: $!";
	if ($self->{pid} == 0)
	{
		# All that it forks goes with it.
		POSIX::setpgid(0, 0);
		$SIG{CHLD} = 'IGNORE';
		$SIG{PIPE} = 'IGNORE';
		close $self->{alive};
		my $select = IO::Select->new($listener, $gone);
		while (1)
		{
			kill('KILL', -$$) if grep { $_ == $gone } $select->can_read;
			my $c = $listener->accept or next;
			next if fork;
			close $listener;
			$self->serve($c);
			POSIX::_exit(0);
		}
	}
	close $listener;
	return $self;
}

sub stop
{
	my ($self) = @_;

	return unless $self->{pid} && $self->{owner} == $$;
	kill('KILL', -$self->{pid}, $self->{pid});
	waitpid($self->{pid}, 0);
	delete $self->{pid};
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $@, $!);

	$self->stop;
}

sub file { my ($self, $name) = @_; return "$self->{dir}/fake.$name"; }

sub slurp
{
	my ($name) = @_;

	open(my $fh, '<', $name) or return '';
	local $/;
	return <$fh> // '';
}

# From now on; its connections look for each command.
sub set_mode
{
	my ($self, $mode) = @_;
	my $name = $self->file('mode');

	open(my $fh, '>', "$name.new") or die "$name: $!";
	print $fh $mode;
	close $fh;
	rename("$name.new", $name) or die "$name: $!";
}

sub mode { my ($self) = @_; return slurp($self->file('mode')); }

# What it was asked, a command on a line, and "hung NAME" where it fell silent.
sub heard { my ($self) = @_; return slurp($self->file('log')); }

sub note_line
{
	my ($self, $line) = @_;

	open(my $fh, '>>', $self->file('log')) or die;
	syswrite($fh, "$line\n");
	close $fh;
}

# Wait until that has been heard.
sub hears
{
	my ($self, $re, $from) = @_;

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return 1 if substr($self->heard, $from // 0) =~ $re;
		select(undef, undef, undef, 0.1);
	}
	return 0;
}

sub read_command
{
	my ($c) = @_;
	my @args;
	local $/ = "\r\n";

	my $line = <$c> // return;
	$line =~ /^\*(\d+)/ or return;
	for (1 .. $1)
	{
		my $len = <$c> // return;
		$len =~ /^\$(\d+)/ or return;
		read($c, my $arg, $1 + 2) == $1 + 2 or return;
		push @args, substr($arg, 0, -2);
	}
	return @args;
}

sub bulk { return '$' . length($_[0]) . "\r\n$_[0]\r\n"; }

sub polite
{
	my ($self, $name) = @_;

	return bulk("redis_version:7.0.0\r\nrun_id:fake\r\nrole:master\r\n") if $name eq 'INFO';
	return "*8\r\n" . bulk($self->{version}) . ":1\r\n" . ":0\r\n" x 6 if $name eq 'scalecache_hello';
	return bulk('ok') if $name eq 'scalecache_arm';
	return "*2\r\n" . bulk('0') . "*0\r\n" if $name eq 'SCAN';
	return "\$-1\r\n" if $name eq 'scalecache_read';
	return ":1\r\n" if $name =~ /^scalecache_|^UNLINK$/;
	return "+OK\r\n";
}

sub serve
{
	my ($self, $c) = @_;

	$c->autoflush(1);
	while (my @args = read_command($c))
	{
		my $name = $args[0] eq 'FCALL' ? $args[1] : $args[0];
		my $answer = $self->{answer} ? $self->{answer}->($name, \@args, $self->mode) : undef;

		# Numbers and texts only: what is binary or long says nothing here.
		$self->note_line(join(' ', map { /[^ -~]/ || length > 200 ? '?' : $_ } @args));
		$answer //= $self->polite($name);
		return if $answer eq 'close';
		print $c ref $answer ? $answer->[0] : $answer;
		next unless ref $answer;
		$self->note_line("hung $name");
		# Until the other end is gone; or it cannot send any more either.
		while (($answer->[1] // '') eq 'deaf' ? sleep(1) : sysread($c, my $more, 65536)) { }
		return;
	}
}

1;
