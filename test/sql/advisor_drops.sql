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

-- What finds the rows that refer to a deleted one stays, however seldom that is,
-- unless another one does; and so does what CLUSTER goes by.
CREATE TABLE par (id int PRIMARY KEY, x int UNIQUE, y int, UNIQUE (id, y));
CREATE TABLE kid (a int REFERENCES par, b int REFERENCES par (x), c int, d int, e int REFERENCES par, f int, g int,
	FOREIGN KEY (c, d) REFERENCES par (id, y));
CREATE INDEX kid_a ON kid (a);
CREATE INDEX kid_a_f ON kid (a, f);
CREATE INDEX kid_b ON kid (b) WHERE b IS NOT NULL;
CREATE INDEX kid_d_c ON kid (d, c);
CREATE INDEX kid_e ON kid (e) WHERE f = 1;		-- does not
CREATE INDEX kid_f ON kid (f);
CREATE INDEX kid_g ON kid (g);
ALTER TABLE kid CLUSTER ON kid_f;
INSERT INTO par SELECT i, i, i FROM generate_series(1, 100) i;
INSERT INTO kid SELECT i, i, i, i, i, i, i FROM generate_series(1, 100) i;
ANALYZE par, kid;
SELECT ddl, regexp_replace(reason, '(since) .*', '\1 then') AS reason FROM scalecache.suggest_index_drops()
WHERE relation IN ('kid'::regclass, 'par'::regclass) ORDER BY 1;
-- A unique one whose build failed is an obstacle and no guard.
INSERT INTO kid (g) SELECT 1 FROM generate_series(1, 2);
CREATE UNIQUE INDEX CONCURRENTLY kid_unique ON kid (g);
SELECT ddl, reason FROM scalecache.suggest_index_drops() WHERE reason ~ 'invalid' AND relation = 'kid'::regclass;

-- What an index costs the writes: of few rows little, and of ranges of pages next to nothing; nothing is
-- said of it where standbys may read it.
CREATE TABLE v (id int, state text, at int, pad text);
CREATE INDEX v_open ON v (id) WHERE state = 'open';
CREATE INDEX v_brin ON v USING brin (at);
CREATE INDEX v_pad ON v (pad);
INSERT INTO v SELECT i, CASE WHEN i % 200 = 0 THEN 'open' ELSE 'done' END, i, repeat('x', 100) || i FROM generate_series(1, 20000) i;
VACUUM ANALYZE v;
SELECT scalecache.reset_workload();
SELECT count(pad) FROM v WHERE state = 'open' AND id < 3000;
SELECT count(pad) FROM v WHERE at BETWEEN 7000 AND 7010;
SELECT at FROM v WHERE pad = 'x';
DO $$ BEGIN FOR i IN 1 .. 400 LOOP INSERT INTO v VALUES (i, 'done', 20000 + i, 'x'); END LOOP; END $$;
SELECT index, regexp_replace(reason, '\d+', 'N', 'g') AS reason FROM scalecache.suggest_index_drops() WHERE relation = 'v'::regclass;
SELECT slot_name FROM pg_create_physical_replication_slot('much');
SELECT index FROM scalecache.suggest_index_drops() WHERE relation = 'v'::regclass;
SELECT pg_drop_replication_slot('much');

-- Statistics of an expression without a scan
CREATE TABLE s AS SELECT i AS a, repeat('x', 50) AS pad FROM generate_series(1, 5000) i;
CREATE INDEX s_odd ON s ((a % 50));
CREATE INDEX s_pad ON s (pad);
VACUUM ANALYZE s;
SELECT scalecache.reset_workload();
SELECT count(pad) FROM s WHERE a % 50 >= 2;
SELECT index, regexp_replace(reason, '(since) \S+ \S+', '\1 then') AS reason FROM scalecache.suggest_index_drops() WHERE relation = 's'::regclass ORDER BY 1;

-- BRIN beside a btree that begins with its column would be the next to go: it is not suggested.
CREATE TABLE stay AS SELECT i AS at, i * 7919 % 5000 AS room, repeat('x', 60) AS pad FROM generate_series(1, 200000) i;
CREATE INDEX stay_at ON stay (at, room, pad);
VACUUM ANALYZE stay;
SELECT ddl FROM scalecache.suggest_indexes(queries => ARRAY['SELECT ctid FROM stay WHERE at BETWEEN 20000 AND 90000']);
DROP TABLE stay;

-- Only of tables the caller may read
CREATE ROLE much_nobody;
GRANT USAGE ON SCHEMA much TO much_nobody;
SET ROLE much_nobody;
SELECT * FROM scalecache.suggest_index_drops();
RESET ROLE;
DROP SCHEMA much CASCADE;
DROP ROLE much_nobody;
DROP EXTENSION scalecache;
