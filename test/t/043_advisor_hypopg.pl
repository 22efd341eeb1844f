# Where HypoPG is right, what_if() agrees with it: btree indexes on plain
# columns with few duplicates, of a query's first table.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use ScaleCache;
use Test::More;

my $node = new_server('hypopg', conf => q{
autovacuum = off
max_parallel_workers_per_gather = 0
});
my $db = 'postgres';
if ($node->safe_psql($db, q{SELECT count(*) FROM pg_available_extensions WHERE name = 'hypopg'}) eq '0')
{
	$node->stop;
	plan skip_all => 'HypoPG is not installed';
}
$node->safe_psql($db, q{
	CREATE EXTENSION scalecache;
	CREATE EXTENSION hypopg;
	SELECT setseed(0.5);
	CREATE TABLE a (id int PRIMARY KEY, n int, m bigint, t text, d timestamptz, pad text);
	INSERT INTO a SELECT i, i * 7919 % 50021, (random() * 1e9)::bigint, md5(i::text),
		'2026-01-01'::timestamptz + i * interval '1 minute', repeat('x', 100) FROM generate_series(1, 50000) i;
	CREATE TABLE b AS SELECT i AS id, (random() * 50000)::int AS n, i % 100 AS k FROM generate_series(1, 2000) i;
	VACUUM ANALYZE a, b;
	-- What HypoPG says: cost, plan and size.
	CREATE FUNCTION hypopg_says(query text, ddl text, OUT cost float8, OUT plan text, OUT size bigint)
	LANGUAGE plpgsql AS $$
	DECLARE
		line text;
		j json;
		index oid;
	BEGIN
		PERFORM hypopg_reset();
		SELECT indexrelid INTO index FROM hypopg_create_index(ddl);
		size := hypopg_relation_size(index);
		EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO j;
		cost := (j->0->'Plan'->>'Total Cost')::float8;
		plan := '';
		FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
			plan := plan || line || E'\n';
		END LOOP;
		PERFORM hypopg_reset();
	END $$;
});

# The shape of a plan: its nodes, without names of indexes.
sub shape
{
	my ($plan) = @_;

	return join ',', $plan =~ /((?:Index Only Scan|Index Scan|Bitmap Index Scan|Bitmap Heap Scan|Seq Scan|Nested Loop|Merge Join|Hash Join|Sort|Limit|Aggregate))/g;
}

for my $case (
	[ 'SELECT * FROM a WHERE n = 4711', 'CREATE INDEX ON a (n)' ],
	[ 'SELECT * FROM a WHERE n BETWEEN 100 AND 900', 'CREATE INDEX ON a (n)' ],
	[ 'SELECT * FROM a WHERE m < 1000000 AND n > 10', 'CREATE INDEX ON a (m, n)' ],
	[ 'SELECT n FROM a WHERE n < 30000', 'CREATE INDEX ON a (n)' ],
	[ 'SELECT m, n FROM a WHERE m < 3000000', 'CREATE INDEX ON a (m) INCLUDE (n)' ],
	[ 'SELECT * FROM a ORDER BY m DESC LIMIT 10', 'CREATE INDEX ON a (m)' ],
	[ 'SELECT * FROM a WHERE t = md5(\'77\')', 'CREATE INDEX ON a (t)' ],
	[ "SELECT * FROM a WHERE d >= '2026-01-02' AND d < '2026-01-03'", 'CREATE INDEX ON a (d)' ],
	[ 'SELECT * FROM a WHERE id = 5', 'CREATE INDEX ON a (n)' ],
	[ 'SELECT max(m) FROM a', 'CREATE INDEX ON a (m)' ],
	[ 'SELECT a.pad FROM a JOIN b ON a.n = b.n WHERE b.k = 3', 'CREATE INDEX ON a (n)' ])
{
	my ($query, $ddl) = @$case;
	my ($theirs, $their_size, $their_plan) = split /\|/,
	  $node->safe_psql($db, "SELECT cost, size, replace(plan, E'\\n', ' ') FROM hypopg_says(\$\$$query\$\$, '$ddl')");
	my ($ours, $our_plan) = split /\|/,
	  $node->safe_psql($db, "SELECT cost_after, replace(plan, E'\\n', ' ') FROM scalecache.what_if(\$\$$query\$\$, '$ddl')");
	my $our_size = $node->safe_psql($db, "SELECT scalecache.what_if_size('$ddl')");

	is(shape($our_plan), shape($their_plan), "same plan: $query");
	# It does not know how high a tree is, and so leaves the descent out.
	cmp_ok(abs($ours - $theirs), '<=', 0.10 * $theirs + 1, "cost $ours, HypoPG's $theirs");
	cmp_ok(abs($our_size / $their_size - 1), '<=', 0.35, "size $our_size, HypoPG's $their_size");
}
$node->stop;
done_testing();
