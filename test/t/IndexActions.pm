# What tests of apply_index share: asking for an index, and what comes of it.
package IndexActions;
use strict;
use warnings;
use Exporter 'import';

our @EXPORT = qw(act_on apply finished);
our @EXPORT_OK = qw(indexes);

my ($node, $db);

# The server and the database that the others are about
sub act_on
{
	($node, $db) = @_;
	return;
}

# The action's id
sub apply
{
	my ($ddl) = @_;

	return $node->safe_psql($db, "SELECT scalecache.apply_index(\$\$$ddl\$\$)");
}

# The state that the action ends in
sub finished
{
	my ($id) = @_;

	$node->poll_query_until($db,
		"SELECT finished_at IS NOT NULL FROM scalecache.index_action WHERE id = $id")
	  or die "action $id does not end";
	return $node->safe_psql($db, "SELECT state FROM scalecache.index_action WHERE id = $id");
}

# A table's indexes, and which of them are invalid
sub indexes
{
	my ($table) = @_;

	return $node->safe_psql($db, qq{SELECT coalesce(string_agg(indexrelid::regclass || CASE WHEN indisvalid THEN '' ELSE ' invalid' END,
		', ' ORDER BY 1), 'none') FROM pg_index WHERE indrelid = '$table'::regclass});
}

1;
