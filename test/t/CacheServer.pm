# What tests of cache rules share: a server whose worker delivers to a Redis,
# and what they ask it.  One server in a test.
package CacheServer;
use strict;
use warnings;
use Exporter 'import';
use ScaleCache;

our @EXPORT = qw(cache_server sql set delivered failing);

my $node;

# A started server with the extension; $redis: to deliver to, or undef for none;
# $conf: further settings
sub cache_server
{
	my ($name, $redis, $conf) = @_;
	my $url = $redis ? $redis->url : '';

	$node = new_server($name, conf => "scalecache.redis_url = '$url'
scalecache.redis_retry_max = 200
scalecache.naptime = 100
" . ($conf // ''));
	sql('CREATE EXTENSION scalecache');
	return $node;
}

sub sql
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

sub set
{
	my ($name, $value) = @_;

	sql("ALTER SYSTEM SET scalecache.$name = '$value'");
	sql('SELECT pg_reload_conf()');
}

# Wait until everything that was committed is acknowledged.
sub delivered
{
	return sql("SELECT scalecache.wait_for_cache('180 s')") eq 't';
}

# Why values of a rule could not be had, or ''
sub failing
{
	my ($rule) = @_;

	return sql("SELECT coalesce(failing, '') FROM scalecache.cache_rules WHERE name = '$rule'");
}

1;
