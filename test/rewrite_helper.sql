-- What tests of the rewrite share; they include it, and drop it.

-- By itself a query may be answered in another way than as a part of one.
CREATE FUNCTION rows_of(query text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
	r record;
	a text[] := '{}';
	b text[];
BEGIN
	FOR r IN EXECUTE query LOOP
		a := a || r::text;
	END LOOP;
	a := ARRAY(SELECT unnest(a) ORDER BY 1);
	EXECUTE format('SELECT ARRAY(SELECT whole_row::text FROM (%s) whole_row ORDER BY 1)', query) INTO b;
	RETURN CASE WHEN a = b THEN a ELSE a || text 'but as a subquery' || b END;
END $$;

-- Which rollup answers the query, how, and whether the rows are the same
CREATE FUNCTION try(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	a text[];
	b text[];
	line text;
	used text := 'not used';
BEGIN
	SET LOCAL scalecache.enable_rewrite = off;
	a := rows_of(query);
	SET LOCAL scalecache.enable_rewrite = on;
	b := rows_of(query);
	FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || query LOOP
		IF line ~ 'ScaleCacheRollup' THEN
			used := regexp_replace(line, '.*ScaleCacheRollup\) on (\w+) .*', '\1');
		ELSIF line ~ 'Added Up By' THEN
			used := used || ', added up';
		ELSIF line ~ 'Answered From: source' THEN
			used := used || ', from source';
		ELSIF line ~ 'Rows Added' THEN
			used := used || ',' || substring(line FROM ' *Rows Added.*');
		END IF;
	END LOOP;
	RETURN CASE WHEN a IS DISTINCT FROM b THEN 'WRONG ROWS, ' ELSE '' END || used;
END $$;

-- The same rows from the rollup as from the tables, and was it the rollup, as
-- this line of the plan shows?
CREATE FUNCTION answer(query text, sign text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	a text[];
	b text[];
	plan text := '';
	line text;
BEGIN
	SET LOCAL scalecache.enable_rewrite = off;
	a := rows_of(query);
	SET LOCAL scalecache.enable_rewrite = on;
	b := rows_of(query);
	FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || query LOOP
		plan := plan || line || E'\n';
	END LOOP;
	RETURN CASE WHEN plan ~ sign THEN 'rollup' WHEN plan ~ 'Answered From' THEN 'rollup, but otherwise'
		ELSE 'tables' END || CASE WHEN a IS DISTINCT FROM b THEN ', WRONG ROWS' ELSE ', ' || cardinality(a) || ' rows' END;
END $$;
