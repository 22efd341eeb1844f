-- A web shop: skewed customers, soft deletes, mostly finished orders.
SELECT setseed(0.5);
CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL, name text NOT NULL, country char(2) NOT NULL, created_at timestamptz NOT NULL, last_seen_at timestamptz, referrer_id bigint, deleted_at timestamptz);
INSERT INTO users SELECT i, 'User' || i || '@Example' || i % 50 || '.com', initcap(substr(md5(i::text), 1, 6)) || ' ' || initcap(substr(md5((i * 7)::text), 1, 8)),
	(ARRAY['DE','US','FR','GB','IT','ES','NL','PL'])[1 + (power(random(), 2) * 7)::int], '2022-01-01'::timestamptz + i * interval '10 minutes',
	'2025-12-01'::timestamptz + random() * interval '30 days', CASE WHEN random() < 0.05 THEN (random() * i)::bigint + 1 END, CASE WHEN random() < 0.03 THEN '2025-06-01'::timestamptz END
FROM generate_series(1, 100000) i;
CREATE TABLE products (id bigint PRIMARY KEY, sku text NOT NULL, title text NOT NULL, category_id int NOT NULL, price numeric(10,2) NOT NULL, stock int NOT NULL, attrs jsonb NOT NULL, tags text[] NOT NULL, search tsvector, updated_at timestamptz NOT NULL, active boolean NOT NULL);
INSERT INTO products SELECT i, 'SKU-' || substr(md5(i::text), 1, 8), substr(md5((i * 3)::text), 1, 7) || ' ' || substr(md5((i * 5)::text), 1, 9) || ' ' || (ARRAY['chair','table','lamp','shelf','desk','sofa'])[1 + i % 6],
	1 + (power(random(), 2) * 199)::int, (random() * 500 + 1)::numeric(10,2), (random() * 100)::int,
	jsonb_build_object('color', (ARRAY['red','green','blue','black','white'])[1 + (random() * 4)::int], 'brand', 'brand' || (random() * 300)::int, 'weight', (random() * 1000)::int),
	ARRAY['tag' || (random() * 400)::int, 'tag' || (random() * 400)::int], NULL, '2025-01-01'::timestamptz + random() * interval '360 days', random() < 0.9
FROM generate_series(1, 40000) i;
UPDATE products SET search = to_tsvector('simple', title);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint NOT NULL REFERENCES users, status text NOT NULL, total numeric(10,2) NOT NULL, created_at timestamptz NOT NULL, shipped_at timestamptz, coupon text, deleted_at timestamptz, note text, address jsonb);
INSERT INTO orders SELECT i, 1 + (power(random(), 3) * 99999)::bigint, CASE WHEN i > 396000 THEN (ARRAY['pending','paid'])[1 + (random())::int] WHEN random() < 0.02 THEN 'cancelled' ELSE 'shipped' END,
	(random() * 900 + 5)::numeric(10,2), '2024-01-01'::timestamptz + i * interval '2.5 minutes', CASE WHEN i <= 396000 THEN '2024-01-02'::timestamptz + i * interval '2.5 minutes' END,
	CASE WHEN random() < 0.02 THEN 'COUPON' || (random() * 200)::int END, CASE WHEN random() < 0.01 THEN '2025-06-01'::timestamptz END, substr(md5(i::text), 1, 20), jsonb_build_object('zip', (random() * 99999)::int)
FROM generate_series(1, 400000) i;
CREATE TABLE items (order_id bigint NOT NULL REFERENCES orders, line int NOT NULL, product_id bigint NOT NULL REFERENCES products, quantity int NOT NULL, price numeric(10,2) NOT NULL, PRIMARY KEY (order_id, line));
INSERT INTO items SELECT o, l, 1 + (power(random(), 2) * 39999)::bigint, 1 + (random() * 4)::int, (random() * 500)::numeric(10,2) FROM generate_series(1, 400000) o, LATERAL generate_series(1, 1 + o % 3) l;
CREATE TABLE events (id bigserial PRIMARY KEY, user_id bigint, kind text NOT NULL, at timestamptz NOT NULL, payload jsonb NOT NULL, processed_at timestamptz);
INSERT INTO events (user_id, kind, at, payload, processed_at) SELECT 1 + (power(random(), 3) * 99999)::bigint, (ARRAY['view','click','cart','login','search'])[1 + (power(random(), 2) * 4)::int],
	'2025-06-01'::timestamptz + i * interval '20 seconds', jsonb_build_object('path', '/p/' || (random() * 40000)::int, 'session', md5((i / 10)::text)), CASE WHEN i <= 798000 THEN '2025-12-31'::timestamptz END
FROM generate_series(1, 800000) i;
CREATE TABLE sessions (token text PRIMARY KEY, user_id bigint NOT NULL, expires_at timestamptz NOT NULL, data jsonb);
INSERT INTO sessions SELECT md5(i::text), 1 + (random() * 99999)::bigint, '2025-12-31'::timestamptz + (random() * 10 - 8) * interval '1 day', '{}' FROM generate_series(1, 50000) i;
CREATE TABLE categories (id int PRIMARY KEY, name text, parent_id int);
INSERT INTO categories SELECT i, 'category ' || i, nullif(i / 10, 0) FROM generate_series(1, 200) i;
CREATE TABLE reviews (id bigint PRIMARY KEY, product_id bigint NOT NULL, user_id bigint NOT NULL, rating int NOT NULL, body text, created_at timestamptz NOT NULL, approved boolean NOT NULL);
INSERT INTO reviews SELECT i, 1 + (power(random(), 2) * 39999)::bigint, 1 + (random() * 99999)::bigint, 1 + (random() * 4)::int, repeat(md5(i::text), 4), '2024-01-01'::timestamptz + random() * interval '700 days', random() < 0.97 FROM generate_series(1, 150000) i;
VACUUM ANALYZE;
CREATE SEQUENCE order_id START 1000000;
CREATE SEQUENCE item_id START 100;
