# A private Redis Cluster for tests, and a client that follows it.
package RedisCluster;
use strict;
use warnings;
use PostgreSQL::Test::Cluster ();
use RedisServer;
use Time::HiRes qw(sleep time);

# %opt: masters, replicas => of each, password, timeout => in ms, args => further ones
sub new
{
	my ($class, %opt) = @_;
	my $self = bless { opt => \%opt, nodes => [], password => $opt{password} }, $class;
	my $masters = $opt{masters} // 3;

	my @masters = map { $self->add } 1 .. $masters;
	my @first = map { int(16384 * $_ / $masters) } 0 .. $masters;
	for my $i (0 .. $#masters)
	{
		$masters[$i]->command('CLUSTER', 'ADDSLOTSRANGE', $first[$i], $first[ $i + 1 ] - 1);
		$masters[$i]->command('CLUSTER', 'SET-CONFIG-EPOCH', $i + 1);
	}
	$self->join($_) for @masters[ 1 .. $#masters ];
	$self->wait_for(sub { $self->well });
	for my $master (@masters)
	{
		$self->add_replica($master) for 1 .. ($opt{replicas} // 0);
	}
	return $self;
}

# One more node, which knows nobody
sub add
{
	my ($self) = @_;
	my ($port, $bus) = map { PostgreSQL::Test::Cluster::get_free_port() } 1, 2;
	my $node = RedisServer->new(port => $port, password => $self->{password}, args => [
		'--cluster-enabled', 'yes', '--cluster-port', $bus, '--cluster-node-timeout',
		$self->{opt}{timeout} // 1500, '--repl-diskless-sync-delay', '0',
		# However long a replica has not heard of its master
		'--cluster-replica-validity-factor', '0', '--cluster-allow-replica-migration', 'no',
		@{ $self->{opt}{args} // [] } ]);

	$node->{bus} = $bus;
	push @{ $self->{nodes} }, $node;
	return $node;
}

sub join
{
	my ($self, $node) = @_;
	my $first = (grep { $_ != $node && $_->{pid} } @{ $self->{nodes} })[0];

	$node->command('CLUSTER', 'MEET', '127.0.0.1', $first->{port}, $first->{bus});
}

sub add_replica
{
	my ($self, $master) = @_;
	my $node = $self->add;
	my $id = id($master);

	$self->join($node);
	$self->wait_for(sub { $node->command('CLUSTER', 'REPLICATE', $id) eq 'OK' });
	$self->wait_for(sub { $node->info('master_link_status') eq 'up' });
	$self->wait_for(sub { $self->well });
	return $node;
}

sub id { my ($node) = @_; return $node->command('CLUSTER', 'MYID'); }

sub running { my ($self) = @_; return grep { $_->{pid} } @{ $self->{nodes} }; }

# All know each other, and all slots have a master.
sub well
{
	my ($self) = @_;
	my $n = scalar $self->running;

	for my $node ($self->running)
	{
		return 0 unless $node->command('CLUSTER', 'INFO') =~ /cluster_state:ok/;
		return 0 unless (() = $node->command('CLUSTER', 'NODES') =~ / connected/g) >= $n;
	}
	return 1;
}

sub wait_for
{
	my ($self, $code) = @_;

	for (1 .. 3000)
	{
		return 1 if eval { $code->() };
		sleep 0.1;
	}
	die "the cluster did not get well: $@";
}

# A replica becomes the master, by hand.  Servers give that up after five
# seconds, so it is asked for again.
sub fail_over
{
	my ($self, $replica) = @_;
	my $asked = 0;

	$self->wait_for(sub {
		return 1 if $replica->info('role') eq 'master';
		if (time - $asked > 6)
		{
			$asked = time;
			$replica->command('CLUSTER', 'FAILOVER');
		}
		return 0;
	});
}

sub url
{
	my ($self) = @_;
	my $auth = $self->{password} ? ":$self->{password}\@" : '';

	return "redis+cluster://$auth" . CORE::join(',', map { "127.0.0.1:$_->{port}" } @{ $self->{nodes} }[ 0, 1 ]);
}

sub at { my ($self, $port) = @_; return (grep { $_->{port} == $port } @{ $self->{nodes} })[0]; }

sub slot { my ($self, $key) = @_; return ($self->running)[0]->command('CLUSTER', 'KEYSLOT', $key); }

# Who has the slot, as those say that are there
sub owner
{
	my ($self, $slot) = @_;

	for my $node ($self->running)
	{
		for my $range (@{ $node->command('CLUSTER', 'SLOTS') })
		{
			return $self->at($range->[2][1]) if $range->[0] <= $slot && $slot <= $range->[1];
		}
	}
	return;
}

sub client { my ($self) = @_; return RedisCluster::Client->new($self); }

sub command
{
	my ($self, @args) = @_;

	$self->{client} //= $self->client;
	my $reply = eval { $self->{client}->command(@args) };
	if (my $error = $@)
	{
		delete $self->{client} unless $error =~ /^[A-Z]+ /;
		die $error;
	}
	return $reply;
}

# Of all masters together
sub info
{
	my ($self, $name) = @_;
	my $sum = 0;

	$sum += $_->info($name) for grep { $_->info('role') eq 'master' } $self->running;
	return $sum;
}

sub begin_migration
{
	my ($self, $slot, $to) = @_;
	my $from = $self->owner($slot);

	$to->command('CLUSTER', 'SETSLOT', $slot, 'IMPORTING', id($from));
	$from->command('CLUSTER', 'SETSLOT', $slot, 'MIGRATING', id($to));
	return $from;
}

sub move_keys
{
	my ($self, $from, $to, @keys) = @_;

	return unless @keys;
	$from->command('MIGRATE', '127.0.0.1', $to->{port}, '', 0, 60000,
		($self->{password} ? ('AUTH', $self->{password}) : ()), 'KEYS', @keys);
}

sub end_migration
{
	my ($self, $slot, $from, $to) = @_;

	while (my @keys = @{ $from->command('CLUSTER', 'GETKEYSINSLOT', $slot, 1000) })
	{
		$self->move_keys($from, $to, @keys);
	}
	my $id = id($to);
	for my $node ($to, $from, grep { $_ != $to && $_ != $from } $self->running)
	{
		eval { $node->command('CLUSTER', 'SETSLOT', $slot, 'NODE', $id) };
	}
}

# Do all agree who has the slot?  A replica that is promoted before it has
# heard would take it back, and nobody have it in the end.
sub agreed
{
	my ($self, $slot) = @_;
	my %owner;

	for my $node ($self->running)
	{
		my ($range) = grep { $_->[0] <= $slot && $slot <= $_->[1] } @{ $node->command('CLUSTER', 'SLOTS') };
		$owner{ $range ? $range->[2][1] : 'nobody' }++;
	}
	return keys %owner == 1;
}

sub migrate
{
	my ($self, $slot, $to) = @_;
	my $from = $self->begin_migration($slot, $to);

	$self->end_migration($slot, $from, $to);
}

sub stop
{
	my ($self) = @_;

	$_->stop for @{ $self->{nodes} };
}

package RedisCluster::Client;
use strict;
use warnings;
use Time::HiRes qw(sleep);

sub new { my ($class, $cluster) = @_; return bless { cluster => $cluster, at => {}, slots => {} }, $class; }

sub to
{
	my ($self, $port, @args) = @_;
	my $password = $self->{cluster}{password};
	my $reply = eval {
		$self->{at}{$port} //= RedisServer::Client->new("127.0.0.1:$port", $password);
		$self->{at}{$port}->command(@args);
	};
	if (my $error = $@)
	{
		delete $self->{at}{$port} unless $error =~ /^[A-Z]+ /;
		die $error;
	}
	return $reply;
}

# Follows redirections; asks any node that is there first.
sub command
{
	my ($self, @args) = @_;
	my @ports = map { $_->{port} } @{ $self->{cluster}{nodes} };
	my $port = $self->{last} // $ports[0];
	my $asking = 0;
	my $error;

	for (1 .. 20)
	{
		my $reply = eval { $self->to($port, 'ASKING') if $asking; $self->to($port, @args) };
		$error = $@;
		if ($error eq '')
		{
			$self->{last} = $port unless $asking;
			return $reply;
		}
		$asking = $error =~ /^ASK /;
		if ($error =~ /^(?:MOVED|ASK) \d+ \S*:(\d+)/) { $port = $1; }
		elsif ($error =~ /^TRYAGAIN/) { sleep 0.01; }
		elsif ($error =~ /^[A-Z]+ /) { die $error; }
		else { $port = $ports[ rand @ports ]; }
	}
	die $error;
}

1;
