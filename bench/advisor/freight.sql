-- A haulier: shipments are scanned on their way, hardly any are still open.
SELECT setseed(0.5);
CREATE TABLE depots (id int PRIMARY KEY, code text NOT NULL, city text NOT NULL, region int NOT NULL);
INSERT INTO depots SELECT i, 'D' || lpad(i::text, 3, '0'), 'City ' || i, i % 8 FROM generate_series(1, 120) i;
CREATE TABLE clients (id int PRIMARY KEY, name text NOT NULL, vat text, contact text NOT NULL, tier text NOT NULL, depot_id int NOT NULL, balance numeric(12,2) NOT NULL, closed_at timestamptz, created_at timestamptz NOT NULL);
INSERT INTO clients SELECT i, initcap(substr(md5(i::text), 1, 7)) || ' ' || (ARRAY['Ltd','GmbH','Sarl','Inc'])[1 + i % 4], CASE WHEN random() < 0.7 THEN 'VAT' || lpad((i * 7919 % 1000003)::text, 8, '0') END, 'Office' || i || '@Client' || i % 300 || '.example',
	(ARRAY['basic','basic','basic','plus','key'])[1 + (random() * 4)::int], 1 + (random() * 119)::int, (random() * 20000 - 3000)::numeric(12,2), CASE WHEN random() < 0.08 THEN '2025-03-01'::timestamptz END, '2019-01-01'::timestamptz + i * interval '40 minutes'
FROM generate_series(1, 60000) i;
CREATE TABLE drivers (id int PRIMARY KEY, name text NOT NULL, licence text NOT NULL, depot_id int NOT NULL, status text NOT NULL, position point, seen_at timestamptz NOT NULL, skills text[] NOT NULL);
INSERT INTO drivers SELECT i, 'Driver ' || md5(i::text), 'L' || i * 31 % 100003, 1 + i % 120, (ARRAY['off','off','off','driving','ready'])[1 + (random() * 4)::int], point(random() * 90, random() * 90), '2025-12-30'::timestamptz - random() * interval '2 days',
	ARRAY[(ARRAY['adr','cold','crane','van','long'])[1 + (random() * 4)::int], 'zone' || (random() * 60)::int] FROM generate_series(1, 20000) i;
CREATE TABLE shipments (id bigint PRIMARY KEY, client_id int NOT NULL REFERENCES clients, barcode text NOT NULL, origin_id int NOT NULL, dest_id int NOT NULL, driver_id int, state text NOT NULL, weight numeric(8,2) NOT NULL, booked_at timestamptz NOT NULL, due_on date NOT NULL, delivered_at timestamptz, cancelled_at timestamptz, reference text, extra jsonb NOT NULL);
INSERT INTO shipments SELECT i, 1 + (power(random(), 2) * 59999)::int, 'BC' || upper(substr(md5(i::text), 1, 14)), 1 + (random() * 119)::int, 1 + (power(random(), 2) * 119)::int, CASE WHEN i < 495000 THEN 1 + (random() * 19999)::int END,
	CASE WHEN i > 495000 THEN (ARRAY['booked','loaded','stuck'])[1 + least(2, (random() * 2.1)::int)] ELSE 'delivered' END, (random() * 900 + 1)::numeric(8,2), '2024-01-01'::timestamptz + i * interval '2 minutes', '2024-01-03'::date + i / 720,
	CASE WHEN i <= 495000 THEN '2024-01-03'::timestamptz + i * interval '2 minutes' END, CASE WHEN random() < 0.015 THEN '2025-02-01'::timestamptz END, CASE WHEN random() < 0.04 THEN 'REF' || (random() * 9000)::int END,
	jsonb_build_object('temp', (random() * 20)::int, 'pallets', (random() * 30)::int, 'po', 'PO' || (random() * 90000)::int)
FROM generate_series(1, 500000) i;
CREATE TABLE scans (id bigserial PRIMARY KEY, shipment_id bigint NOT NULL REFERENCES shipments, depot_id int NOT NULL, kind text NOT NULL, at timestamptz NOT NULL, device text NOT NULL, sent_at timestamptz);
INSERT INTO scans (shipment_id, depot_id, kind, at, device, sent_at) SELECT least(500000, 1 + i * 499999::bigint / 1500000 + (random() * 40)::int % 3), 1 + (random() * 119)::int, (ARRAY['in','out','hand','photo','damage'])[1 + least(4, (random() * 4.02)::int)], '2024-01-02'::timestamptz + i * interval '40 seconds', 'dev' || (random() * 3000)::int, CASE WHEN i < 1499200 THEN '2025-12-30'::timestamptz END
FROM generate_series(1, 1500000) i;
CREATE TABLE invoices (id int PRIMARY KEY, client_id int NOT NULL REFERENCES clients, number text NOT NULL, amount numeric(12,2) NOT NULL, issued_on date NOT NULL, due_on date NOT NULL, paid_at timestamptz, reminders int NOT NULL, text tsvector);
INSERT INTO invoices SELECT i, 1 + (power(random(), 2) * 59999)::int, 'INV-' || 2024 + i / 100000 || '-' || lpad(i::text, 7, '0'), (random() * 4000 + 10)::numeric(12,2), '2024-01-01'::date + i / 280, '2024-01-31'::date + i / 280, CASE WHEN random() < 0.96 THEN '2025-12-01'::timestamptz END, (random() * 3)::int,
	to_tsvector('simple', substr(md5((i % 30000)::text), 1, 6) || ' ' || (ARRAY['freight','storage','customs','toll'])[1 + i % 4]) FROM generate_series(1, 200000) i;
CREATE TABLE complaints (id int PRIMARY KEY, shipment_id bigint NOT NULL, client_id int NOT NULL, opened_at timestamptz NOT NULL, closed boolean NOT NULL, body text NOT NULL);
INSERT INTO complaints SELECT i, 1 + (random() * 499999)::bigint, 1 + (power(random(), 2) * 59999)::int, '2024-02-01'::timestamptz + i * interval '12 minutes', random() < 0.98, repeat(md5(i::text) || ' ', 5) FROM generate_series(1, 80000) i;
VACUUM ANALYZE;
CREATE SEQUENCE shipment_id START 1000000;
