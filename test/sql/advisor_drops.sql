-- Which indexes are suggested to be dropped, and which never.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
CREATE SCHEMA much;
SET search_path = much, public;
CREATE TABLE t (id int PRIMARY KEY, a int, b int, c text, d int UNIQUE, e int NOT NULL);
INSERT INTO t SELECT i, i % 500, i % 77, 'c' || i, i, i FROM generate_series(1, 20000) i;
CREATE INDEX t_id ON t (id);				-- twin of the primary key
CREATE INDEX t_a ON t (a);				-- t_ab starts with it
CREATE INDEX t_ab ON t (a, b);				-- used
CREATE INDEX t_ab_2 ON t (a, b);			-- twin
CREATE INDEX t_b ON t (b);				-- unused
CREATE INDEX t_c_part ON t (c) WHERE a = 1;		-- unused
CREATE UNIQUE INDEX t_e ON t (e);			-- guards
ALTER TABLE t REPLICA IDENTITY USING INDEX t_e;
CREATE INDEX t_ab_inc ON t (a) INCLUDE (c);		-- not a prefix: t_ab lacks c
CREATE TABLE p (id int, k int) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10000);
INSERT INTO p SELECT i, i FROM generate_series(0, 9999) i;
CREATE INDEX p_k ON p (k);
VACUUM ANALYZE t;
VACUUM ANALYZE p;
SELECT scalecache.reset_workload();
SELECT count(*) FROM t WHERE a = 5 AND b = 5;
SELECT max(c) FROM t WHERE a = 6;
SELECT pg_stat_force_next_flush();
SELECT ddl, index, relation, size_bytes > 0 AS sized, regexp_replace(reason, '\d\d\d\d.*', 'then') AS reason
FROM scalecache.suggest_index_drops() WHERE relation::text IN ('t', 'p') ORDER BY 2;

-- An index that writes pay for more than reads gain
CREATE TABLE w (id int PRIMARY KEY, seen int, pad text);
INSERT INTO w SELECT i, i, repeat('x', 50) FROM generate_series(1, 2000) i;
CREATE INDEX w_seen ON w (seen);
VACUUM ANALYZE w;
SELECT scalecache.reset_workload();
SELECT id FROM w WHERE seen = 5;
DO $$ BEGIN FOR i IN 1 .. 300 LOOP UPDATE w SET seen = seen + 1 WHERE id = i; END LOOP; END $$;
SELECT ddl, regexp_replace(reason, '\d+', 'N', 'g') AS reason FROM scalecache.suggest_index_drops() WHERE relation = 'w'::regclass;

-- of all statements: whoever sees only his own is not told so
CREATE ROLE much_reader;
GRANT USAGE ON SCHEMA much TO much_reader;
GRANT SELECT, UPDATE ON w TO much_reader;
SELECT scalecache.reset_workload();
SELECT id FROM w WHERE seen = 5;
SET ROLE much_reader;
SELECT id FROM w WHERE seen = 6;
DO $$ BEGIN FOR i IN 1 .. 300 LOOP UPDATE w SET seen = seen + 1 WHERE id = i; END LOOP; END $$;
SELECT * FROM scalecache.suggest_index_drops() WHERE relation = 'w'::regclass;
RESET ROLE;
DROP OWNED BY much_reader;
DROP ROLE much_reader;

-- Parameters make another index of it; a build that failed, but not where
-- parts of the index may be in use; standbys are mentioned while there is a
-- slot for one.
CREATE TABLE o (a int, b int, p point);
INSERT INTO o SELECT i, 0, point(i, i) FROM generate_series(1, 1000) i;
CREATE INDEX o_brin ON o USING brin (a) WITH (pages_per_range = 4);
CREATE INDEX o_brin_2 ON o USING brin (a) WITH (pages_per_range = 32);
CREATE INDEX o_brin_3 ON o USING brin (a) WITH (pages_per_range = 32);
CREATE INDEX CONCURRENTLY o_failed ON o ((a / b));
CREATE INDEX p_id ON ONLY p (id);
SELECT slot_name FROM pg_create_physical_replication_slot('much');
SELECT index, regexp_replace(reason, '(since) .*( on)', '\1 then\2') AS reason
FROM scalecache.suggest_index_drops() WHERE relation IN ('o'::regclass, 'p'::regclass) ORDER BY 1;
SELECT pg_drop_replication_slot('much');

-- Nearly the same is not the same; of twins the one that was used stays.
CREATE TABLE n (a int, b text, c text COLLATE "POSIX");
INSERT INTO n SELECT i, 'b' || i, 'c' || i % 2 FROM generate_series(1, 1000) i;
CREATE INDEX n_a ON n (a);
CREATE INDEX n_a_desc ON n (a DESC);
CREATE INDEX n_c ON n (c);
CREATE INDEX n_c_c ON n (c COLLATE "C");
CREATE INDEX n_c_pattern ON n (c text_pattern_ops);
CREATE INDEX n_a_part ON n (a) WHERE c = 'c0';
CREATE INDEX n_a_other ON n (a) WHERE c = 'c1';
CREATE INDEX n_plus_1 ON n ((a + 1));
CREATE INDEX n_plus_2 ON n ((a + 2));
CREATE INDEX n_b ON n (b);
ANALYZE n;
SELECT a FROM n WHERE b = 'b5';
SELECT pg_stat_force_next_flush();
CREATE INDEX n_b_2 ON n (b);
SELECT index, reason FROM scalecache.suggest_index_drops() WHERE relation = 'n'::regclass AND reason ~ 'same|starts' ORDER BY 1;
-- Nothing of partitions by themselves, of temporary tables, of extensions.
CREATE TEMP TABLE temporary (a int);
CREATE INDEX ON temporary (a);
CREATE TABLE ext (a int);
CREATE INDEX ext_a ON ext (a);
ALTER EXTENSION scalecache ADD TABLE ext;
SELECT index FROM scalecache.suggest_index_drops() WHERE relation::text ~ '^(p1|ext|temporary|pg_temp.*)$';
ALTER EXTENSION scalecache DROP TABLE ext;
DROP TABLE temporary;

-- Only of tables the caller may read
CREATE ROLE much_nobody;
GRANT USAGE ON SCHEMA much TO much_nobody;
SET ROLE much_nobody;
SELECT * FROM scalecache.suggest_index_drops();
RESET ROLE;
DROP SCHEMA much CASCADE;
DROP ROLE much_nobody;
DROP EXTENSION scalecache;
