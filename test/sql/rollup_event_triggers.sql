-- Event triggers of users: they are told of a rollup's view, under the user's
-- own settings, and not of its storage.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
CREATE SCHEMA audit;
CREATE SCHEMA sales;
CREATE TABLE audit.log (n serial, event text, tag text, path text, who name);
CREATE FUNCTION audit.note() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
	-- found by the search_path of the session
	INSERT INTO log (event, tag, path, who) VALUES (tg_event, tg_tag, current_setting('search_path'), current_user);
END $$;
CREATE FUNCTION audit.no_tables() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'tables are made by migrations only';
END $$;
CREATE ROLE event_user;
GRANT USAGE, CREATE ON SCHEMA sales TO event_user;
GRANT USAGE ON SCHEMA audit TO event_user;
GRANT ALL ON audit.log, audit.log_n_seq TO event_user;
CREATE TABLE sales.t (k int, v text, x int);
CREATE TABLE sales.d (k int, name text);
ALTER TABLE sales.t OWNER TO event_user;
ALTER TABLE sales.d OWNER TO event_user;
INSERT INTO sales.t SELECT g % 3, 'v' || g, g FROM generate_series(1, 10) g;
INSERT INTO sales.d SELECT g, 'd' || g FROM generate_series(0, 2) g;

SET search_path = sales, audit;
CREATE EVENT TRIGGER note_start ON ddl_command_start EXECUTE FUNCTION note();
CREATE EVENT TRIGGER note_end ON ddl_command_end EXECUTE FUNCTION note();
CREATE EVENT TRIGGER note_drop ON sql_drop EXECUTE FUNCTION note();
CREATE EVENT TRIGGER no_tables ON ddl_command_start WHEN tag IN ('CREATE TABLE', 'CREATE INDEX', 'CREATE TRIGGER')
	EXECUTE FUNCTION no_tables();
SET ROLE event_user;
SELECT scalecache.create_rollup('r', 'SELECT k, v, count(DISTINCT v) AS n, sum(x) AS s FROM t GROUP BY k, v');
SELECT scalecache.create_rollup('j', 'SELECT d.name, sum(t.x) AS s FROM t JOIN d ON d.k = t.k GROUP BY d.name');
CALL scalecache.create_rollup_concurrently('c', 'SELECT k, max(x) AS m FROM t GROUP BY k');
INSERT INTO t VALUES (1, 'w', 5);
TRUNCATE d;
SELECT scalecache.rebuild_rollup('r');
SELECT rollup, state, scalecache.verify_rollup(rollup) FROM scalecache.rollups ORDER BY rollup::text COLLATE "C";
SELECT scalecache.drop_rollup('r');
DROP VIEW j;
SELECT event, tag, path, who FROM log ORDER BY n;
RESET ROLE;

DROP EVENT TRIGGER note_start;
DROP EVENT TRIGGER note_end;
DROP EVENT TRIGGER note_drop;
DROP EVENT TRIGGER no_tables;
RESET search_path;
DROP EXTENSION scalecache;
DROP SCHEMA audit, sales CASCADE;
DROP ROLE event_user;
