-- Changes are decoded in a session that has used rollups of joins, too: the server has
-- room for few who are told of changed relations.
SET client_min_messages = warning;
CREATE EXTENSION scalecache;
CREATE TABLE shop (id int PRIMARY KEY, town text);
CREATE TABLE sale (shop_id int, price int);
INSERT INTO shop SELECT i, 'town ' || i % 3 FROM generate_series(1, 9) i;
INSERT INTO sale SELECT i % 9 + 1, i FROM generate_series(1, 900) i;
ANALYZE shop, sale;
SELECT scalecache.create_rollup('towns', 'SELECT town, sum(price) AS price FROM sale JOIN shop ON id = shop_id GROUP BY 1');
CREATE PUBLICATION decoded FOR TABLE shop, sale;
SELECT slot_name FROM pg_create_logical_replication_slot('decoded', 'pgoutput');
INSERT INTO sale VALUES (1, 1000);
SELECT * FROM towns ORDER BY 1;
SELECT count(*) > 0 AS decoded FROM pg_logical_slot_get_binary_changes('decoded', NULL, NULL, 'proto_version', '1', 'publication_names', 'decoded');
SELECT pg_drop_replication_slot('decoded');
DROP PUBLICATION decoded;
DROP TABLE shop, sale CASCADE;
DROP EXTENSION scalecache CASCADE;
