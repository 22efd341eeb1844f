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
