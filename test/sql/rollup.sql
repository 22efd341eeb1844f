-- Rollups from end to end: exact after every kind of change.
CREATE EXTENSION scalecache;
SET TimeZone = 'Europe/Berlin';
CREATE TABLE orders (id bigint PRIMARY KEY, created_at timestamptz, amount numeric(10,2), note text);
INSERT INTO orders SELECT i, '2024-01-01'::timestamptz + i * interval '1 hour', i % 100
FROM generate_series(1, 2000) i;
SELECT scalecache.create_rollup('monthly_sales', $$
	SELECT date_trunc('month', created_at) AS month, sum(amount) AS total_sales
	FROM orders GROUP BY 1 $$);
SELECT * FROM monthly_sales ORDER BY month;
EXPLAIN (COSTS OFF) SELECT * FROM monthly_sales;
SELECT rollup, source, state, time_zone, groups, pending_deltas FROM scalecache.rollups;

-- own writes, before and after a fold
CREATE VIEW differ AS
	(SELECT * FROM monthly_sales EXCEPT ALL
	 SELECT date_trunc('month', created_at, 'Europe/Berlin'), sum(amount) FROM orders GROUP BY 1)
	UNION ALL
	(SELECT date_trunc('month', created_at, 'Europe/Berlin'), sum(amount) FROM orders GROUP BY 1
	 EXCEPT ALL SELECT * FROM monthly_sales);
INSERT INTO orders VALUES (3001, '2024-02-10', 5), (3002, '2030-01-01', 7), (3003, NULL, 1);
SELECT count(*) FROM differ;
SELECT scalecache.fold_rollup('monthly_sales');
SELECT count(*) FROM differ;
UPDATE orders SET amount = amount + 1 WHERE id < 500;
DELETE FROM orders WHERE id BETWEEN 600 AND 700;
INSERT INTO orders VALUES (1, '2024-03-01', 9) ON CONFLICT (id) DO UPDATE SET amount = 50, created_at = excluded.created_at;
SELECT count(*) FROM differ;
SELECT scalecache.verify_rollup('monthly_sales');

-- savepoints, rollback
BEGIN;
DELETE FROM orders WHERE id < 100;
SAVEPOINT a;
DELETE FROM orders;
SELECT * FROM monthly_sales;
ROLLBACK TO a;
SELECT count(*) FROM differ;
SAVEPOINT b;
SELECT count(*) FROM monthly_sales;
ROLLBACK TO b;
SELECT count(*) FROM differ;
COMMIT;
SELECT count(*) FROM differ;
BEGIN; UPDATE orders SET amount = 0; ROLLBACK;
SELECT count(*) FROM differ;

-- a column the rollup does not read: no delta
SELECT scalecache.fold_rollup('monthly_sales') > 0;
UPDATE orders SET note = 'x';
UPDATE orders SET amount = 1 WHERE false;
SELECT pending_deltas FROM scalecache.rollups;

-- a trigger that reads in the middle of the statement
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM differ) THEN RAISE EXCEPTION 'differs'; END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER a_look AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION look();
INSERT INTO orders SELECT 5000 + i, '2024-05-05', 3 FROM generate_series(1, 3) i;
DROP TRIGGER a_look ON orders;
SELECT count(*) FROM differ;

-- prepared transactions
BEGIN; INSERT INTO orders VALUES (6000, '2024-06-06', 6); PREPARE TRANSACTION 'p';
SELECT count(*) FROM differ;
COMMIT PREPARED 'p';
SELECT count(*) FROM differ;

-- truncate, rolled back and not
BEGIN; TRUNCATE orders; SELECT count(*) FROM monthly_sales; ROLLBACK;
SELECT count(*) FROM differ;
TRUNCATE orders;
SELECT count(*) FROM monthly_sales;
INSERT INTO orders VALUES (1, '2024-03-01', 9);
SELECT count(*) FROM differ;

-- another session's zone changes nothing
SET TimeZone = 'America/New_York';
SELECT total_sales, month AT TIME ZONE 'Europe/Berlin' AS month FROM monthly_sales;
RESET TimeZone;

-- renames keep it live; used columns are protected; roles
DROP VIEW differ;
ALTER TABLE orders RENAME COLUMN amount TO price;
ALTER TABLE orders RENAME TO sales;
ALTER VIEW monthly_sales RENAME TO by_month;
INSERT INTO sales VALUES (2, '2024-03-02', 1);
SELECT total_sales FROM by_month;
SELECT scalecache.verify_rollup('by_month');
ALTER TABLE sales DROP COLUMN price;
CREATE ROLE sc_reader;
CREATE ROLE sc_writer;
GRANT SELECT ON by_month TO sc_reader;
GRANT INSERT ON sales TO sc_writer;
SET ROLE sc_writer;
INSERT INTO sales VALUES (3, '2024-03-03', 1);
SELECT * FROM by_month;
SET ROLE sc_reader;
SELECT total_sales FROM by_month;
DELETE FROM scalecache_data.monthly_sales;
SELECT scalecache.drop_rollup('by_month');
RESET ROLE;

-- tampering is refused, or found and repaired
UPDATE scalecache_data.monthly_sales SET a1 = 1;
SELECT scalecache.fold_rollup('by_month');
SET session_replication_role = replica;
UPDATE scalecache_data.monthly_sales SET a1 = 1;
RESET session_replication_role;
SELECT scalecache.verify_rollup('by_month');
SELECT scalecache.rebuild_rollup('by_month');
SELECT scalecache.verify_rollup('by_month');

-- without data, and concurrently
SELECT scalecache.create_rollup('later', 'SELECT count(*) AS n FROM sales', false);
SELECT n FROM later;
SELECT scalecache.rebuild_rollup('later');
CALL scalecache.create_rollup_concurrently('conc', 'SELECT id % 2 AS odd, max(price) AS m FROM sales GROUP BY 1');
SELECT * FROM conc ORDER BY 1;
SELECT rollup, state FROM scalecache.rollups ORDER BY rollup::text;

-- going
DROP VIEW by_month;
SELECT scalecache.drop_rollup('later');
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'sales'::regclass;
DROP EXTENSION scalecache;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'sales'::regclass;
SELECT count(*) FROM pg_class WHERE relname IN ('conc', 'later', 'by_month');
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'scalecache%';
DROP TABLE sales;
DROP ROLE sc_reader;
DROP ROLE sc_writer;
