-- Functions that score advice by real indexes.  bench.query holds the
-- statements: id, sql, weight, and whether it counts in the score.
CREATE SCHEMA bench;
CREATE TABLE bench.query (id int PRIMARY KEY, sql text NOT NULL, weight float8 NOT NULL DEFAULT 1, counts boolean NOT NULL DEFAULT true);
CREATE TABLE bench.suggested (rank int, ddl text, size_bytes bigint, real_bytes bigint, cost_after float8, write_cost float8, reason text);

CREATE FUNCTION bench.cost_of(sql text) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (FORMAT JSON) ' || sql INTO plan;
	RETURN (plan->0->'Plan'->>'Total Cost')::float8;
END $$;

CREATE FUNCTION bench.cost(all_of_them boolean DEFAULT false) RETURNS float8 LANGUAGE sql AS
$$ SELECT sum(weight * bench.cost_of(sql)) FROM bench.query WHERE counts OR all_of_them $$;

-- The size of an index, or of all its partitions.
CREATE FUNCTION bench.size_of(i regclass) RETURNS bigint LANGUAGE sql AS
$$ SELECT coalesce((SELECT sum(pg_relation_size(relid)) FROM pg_partition_tree(i)), pg_relation_size(i)) $$;

-- Build what is suggested within a budget (NULL: none), and compare.  The advice is for
-- bench.query, or for what was recorded; what is promised of that is asked of what_if().
CREATE FUNCTION bench.score(budget bigint, recorded boolean, OUT indexes int, OUT estimated_mb numeric, OUT real_mb numeric,
	OUT cost_before float8, OUT cost_after float8, OUT ratio numeric, OUT predicted_off numeric,
	OUT size_off numeric, OUT size_off_90 numeric, OUT seconds numeric)
LANGUAGE plpgsql AS $$
DECLARE
	r record;
	name text;
	started timestamptz := clock_timestamp();
	predicted float8;
	everything float8;
BEGIN
	cost_before := bench.cost();
	DELETE FROM bench.suggested;
	INSERT INTO bench.suggested
	SELECT s.rank, s.ddl, s.size_bytes, NULL, s.cost_after, s.write_cost, s.reason
	FROM (SELECT array_agg(sql ORDER BY id) AS queries, array_agg(weight ORDER BY id) AS weights
		FROM bench.query WHERE NOT recorded) q,
		scalecache.suggest_indexes(budget, q.queries, q.weights) s;
	seconds := round(extract(epoch FROM clock_timestamp() - started), 2);
	SELECT count(*), round(sum(size_bytes) / 1048576.0, 1), min(s.cost_after) INTO indexes, estimated_mb, predicted
	FROM bench.suggested s;
	FOR r IN SELECT * FROM bench.suggested s ORDER BY s.rank LOOP
		name := 'bench_index_' || r.rank;
		EXECUTE regexp_replace(r.ddl, 'INDEX ON', 'INDEX ' || name || ' ON');
		UPDATE bench.suggested s SET real_bytes = bench.size_of(name::regclass) WHERE s.rank = r.rank;
	END LOOP;
	-- Expressions have statistics after ANALYZE only.  Other tables keep theirs:
	-- new ones would be others, by chance, with and without indexes.
	FOR r IN SELECT DISTINCT indrelid::regclass AS t FROM pg_index WHERE indexrelid::regclass::text ~ '^bench_index_' AND indexprs IS NOT NULL LOOP
		EXECUTE 'ANALYZE ' || r.t;
	END LOOP;
	-- By the statistics that there are now, as if what is built were not yet.
	IF recorded THEN
		SELECT sum(q.weight * w.cost_after) INTO predicted
		FROM bench.query q, scalecache.what_if(q.sql,
			VARIADIC ARRAY(SELECT 'DROP INDEX bench_index_' || s.rank FROM bench.suggested s ORDER BY s.rank)
				|| ARRAY(SELECT s.ddl FROM bench.suggested s ORDER BY s.rank)) w;
	END IF;
	SELECT round(sum(real_bytes) / 1048576.0, 1),
		round(percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(1 - size_bytes::float8 / real_bytes))::numeric, 3),
		round(percentile_cont(0.9) WITHIN GROUP (ORDER BY abs(1 - size_bytes::float8 / real_bytes))::numeric, 3)
	INTO real_mb, size_off, size_off_90 FROM bench.suggested;
	cost_after := bench.cost();
	everything := bench.cost(true);
	ratio := round((cost_after / cost_before)::numeric, 4);
	predicted_off := round((predicted / everything - 1)::numeric, 4);
END $$;

CREATE PROCEDURE bench.drop_indexes() LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT oid::regclass AS i FROM pg_class WHERE relname ~ '^bench_index_' AND relkind IN ('i', 'I') AND NOT relispartition LOOP
		EXECUTE 'DROP INDEX ' || r.i;
	END LOOP;
END $$;
