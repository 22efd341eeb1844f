-- What the SQL tests share; they include it after CREATE EXTENSION, and drop it.

-- Is the rollup what its query says, and does the proof find nothing?  Rows
-- are compared as text, or, where equal values may look different, as values.
CREATE FUNCTION same(r regclass, as_text boolean DEFAULT true) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	a text := format('TABLE %s', r);
	b text := rtrim(pg_get_viewdef(r), ';');
	n bigint;
BEGIN
	IF as_text THEN
		a := format('SELECT x::text FROM (%s) x', a);
		b := format('SELECT x::text FROM (%s) x', b);
	END IF;
	PERFORM set_config(name, 'off', true) FROM pg_settings WHERE name = 'scalecache.enable_rewrite';
	EXECUTE format('SELECT count(*) FROM ((%1$s EXCEPT ALL (%2$s)) UNION ALL ((%2$s) EXCEPT ALL %1$s)) x', a, b) INTO n;
	PERFORM set_config(name, 'on', true) FROM pg_settings WHERE name = 'scalecache.enable_rewrite';
	RETURN format('%s, %s', CASE n WHEN 0 THEN 'same' ELSE n || ' rows differ' END,
		CASE scalecache.verify_rollup(r) WHEN 0 THEN 'verified' ELSE 'not verified' END);
END $$;

-- Who answers a read of it: its storage, or the source
CREATE FUNCTION answered_from(r regclass) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	line text;
	result text := 'a plain view';
BEGIN
	FOR line IN EXECUTE format('EXPLAIN (ANALYZE, TIMING OFF) TABLE %s', r) LOOP
		result := coalesce(substring(line FROM 'Answered From: (.*)'), result);
	END LOOP;
	RETURN result;
END $$;

-- The same with the deltas that are pending, and folded.
CREATE FUNCTION checked(r regclass, as_text boolean DEFAULT true,
	OUT pending text, OUT deltas bigint, OUT folded text, OUT answered text)
LANGUAGE plpgsql AS $$
BEGIN
	pending := same(r, as_text);
	deltas := scalecache.fold_rollup(r);
	folded := same(r, as_text);
	answered := 'from ' || answered_from(r);
END $$;

-- The rollup against its query to the letter, the rows where cond holds.
CREATE FUNCTION exact(r regclass, cond text DEFAULT 'true') RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
	q text := format('SELECT array_agg(x::text ORDER BY x::text) FROM %s x WHERE %s', r, cond);
	rolled text[];
	plain text[];
BEGIN
	EXECUTE q INTO rolled;
	SET LOCAL scalecache.enable_rollup_scan = off;
	EXECUTE q INTO plain;
	SET LOCAL scalecache.enable_rollup_scan = on;
	IF rolled IS DISTINCT FROM plain THEN
		RAISE WARNING '% is %, not %', r, left(rolled::text, 2000), left(plain::text, 2000);
		RETURN false;
	END IF;
	RETURN scalecache.verify_rollup(r) = 0;
END $$;

-- Who answers a query, and how many groups were computed from the source
CREATE FUNCTION answered(query text, OUT who text, OUT recomputed int)
LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, FORMAT json, COSTS off, TIMING off) ' || query INTO plan;
	who := substring(plan::text FROM '"Answered From": "(\w+)"');
	recomputed := coalesce(substring(plan::text FROM '"Groups Recomputed": (\d+)')::int, 0);
END $$;

-- The error of a statement: SQLSTATE, message, detail and hint.
CREATE FUNCTION error_of(sql text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE sql;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n', sqlstate || ' ' || message,
		'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, ''));
END $$;
