-- An online grocery for many stores (tenants).
CREATE FUNCTION account_id(n bigint) RETURNS uuid IMMUTABLE PARALLEL SAFE LANGUAGE sql AS $$ SELECT md5('acct' || n)::uuid $$;
CREATE FUNCTION tenant_of(n bigint) RETURNS int IMMUTABLE PARALLEL SAFE LANGUAGE sql AS $$ SELECT 1 + floor(200 * power((n * 7919 % 120011) / 120011.0::float8, 2))::int $$;
CREATE FUNCTION account_of(o bigint) RETURNS bigint IMMUTABLE PARALLEL SAFE LANGUAGE sql AS $$ SELECT 1 + floor(120000 * power((o * 104729 % 500009) / 500009.0::float8, 2))::bigint $$;
CREATE FUNCTION article_of(t int, n bigint) RETURNS bigint IMMUTABLE PARALLEL SAFE LANGUAGE sql AS $$ SELECT (t - 1) * 300 + 1 + floor(300 * power((n * 15485863 % 1000003) / 1000003.0::float8, 2))::bigint $$;

CREATE TYPE account_status AS ENUM ('active', 'suspended', 'closed');
CREATE TYPE basket_status AS ENUM ('open', 'ordered', 'abandoned');
CREATE TYPE order_status AS ENUM ('placed', 'picking', 'packed', 'out', 'delivered', 'cancelled', 'refunded');
CREATE TYPE move_kind AS ENUM ('sale', 'receipt', 'return', 'waste', 'count', 'transfer');
CREATE TYPE channel AS ENUM ('mail', 'sms', 'push');

CREATE TABLE tenants (id int PRIMARY KEY, slug text NOT NULL, name text NOT NULL, plan text, active boolean NOT NULL);
INSERT INTO tenants SELECT n, 'store-' || n, 'Store ' || n, CASE WHEN n % 10 = 0 THEN 'gold' ELSE 'basic' END, n % 17 > 0 FROM generate_series(1, 200) n;

CREATE TABLE accounts (
	id uuid PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenants, email text NOT NULL, surname text COLLATE "en-x-icu" NOT NULL,
	status account_status NOT NULL, phone text, loyalty_no text, referred_by uuid, prefs jsonb NOT NULL,
	created_at timestamptz NOT NULL, last_seen_at timestamptz NOT NULL, deleted_at timestamptz) WITH (fillfactor = 80);
INSERT INTO accounts
SELECT account_id(n), tenant_of(n), 'Cust' || n || '@Mail' || n % 40 || '.example',
	initcap(substr(md5('s' || n), 1, 7)), (CASE WHEN n % 50 = 0 THEN 'suspended' WHEN n % 33 = 0 THEN 'closed' ELSE 'active' END)::account_status,
	'+44' || (700000000 + n * 37), CASE WHEN n % 5 = 0 THEN 'L' || (n * 13 % 1000003) END,
	CASE WHEN n % 40 = 0 THEN account_id(1 + n * n % 3000) END,
	jsonb_build_object('lang', CASE WHEN n % 4 = 0 THEN 'de' ELSE 'en' END, 'bags', n % 2),
	timestamptz '2022-01-01Z' + n * interval '17 minutes 30 seconds', timestamptz '2025-12-31Z' - power(random(), 3) * interval '700 days',
	CASE WHEN n % 14 = 0 THEN timestamptz '2025-06-01Z' END
FROM generate_series(1::bigint, 120000) n;

CREATE TABLE articles (
	tenant_id int NOT NULL REFERENCES tenants, article_id bigint NOT NULL, ean text NOT NULL, name text NOT NULL, brand text, category int NOT NULL,
	price numeric(8,2) NOT NULL, stock int NOT NULL, active boolean NOT NULL, attrs jsonb NOT NULL, tags text[] NOT NULL, description text,
	search tsvector GENERATED ALWAYS AS (to_tsvector('simple', name || ' ' || description)) STORED, changed_at timestamptz NOT NULL,
	PRIMARY KEY (tenant_id, article_id), UNIQUE (tenant_id, ean)) WITH (fillfactor = 80);
INSERT INTO articles (tenant_id, article_id, ean, name, brand, category, price, stock, active, attrs, tags, description, changed_at)
SELECT 1 + (n - 1) / 300, n, lpad((4000000000000 + n * 7919)::text, 13, '0'),
	(ARRAY['milk','bread','apple','cheese','pasta','coffee','rice','soap','juice','ham'])[1 + n % 10] || ' ' || substr(md5('n' || n), 1, 8) || ' ' || substr(md5('m' || n), 1, 6),
	'brand' || n % 400, 1 + floor(30 * power(random(), 2))::int, round((0.5 + 40 * power(random(), 2))::numeric, 2),
	CASE WHEN random() < 0.03 THEN 0 ELSE (random() * 200)::int END, n % 12 > 0,
	jsonb_build_object('origin', 'country' || floor(60 * power(random(), 2)), 'maker', 'maker' || n % 900, 'unit', CASE WHEN n % 3 = 0 THEN 'kg' ELSE 'piece' END)
	|| CASE WHEN n % 500 = 0 THEN '{"recall": "yes"}'::jsonb WHEN n % 700 = 0 THEN '{"biodynamic": true}'::jsonb ELSE '{}' END,
	ARRAY['tag' || floor(800 * power(random(), 2)), 'tag' || floor(800 * random()), CASE WHEN n % 4 = 0 THEN 'vegan' ELSE 'plain' END],
	md5('d' || n) || ' ' || substr(md5('e' || n), 1, 5), timestamptz '2025-12-01Z' - n * interval '3 minutes'
FROM generate_series(1::bigint, 60000) n;

CREATE TABLE routes (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id int NOT NULL REFERENCES tenants, zone smallint NOT NULL, starts_at timestamptz NOT NULL,
	capacity int NOT NULL, booked int NOT NULL, driver text, priority int, state text NOT NULL) WITH (fillfactor = 80);
INSERT INTO routes
SELECT md5('route' || n)::uuid, 1 + n % 200, n / 200 % 8, date_trunc('hour', timestamptz '2025-10-01Z' + n / 1600 * interval '18 hours'), 20, (n * 31 % 21)::int,
	CASE WHEN n % 3 > 0 THEN 'driver' || n % 2500 END, CASE WHEN n % 20 = 0 THEN n % 5 END,
	CASE WHEN n > 192000 THEN CASE WHEN n % 40 = 0 THEN 'hold' ELSE 'planned' END WHEN n % 50 = 0 THEN 'void' ELSE 'done' END
FROM generate_series(1::bigint, 200000) n;

CREATE TABLE baskets (
	id uuid PRIMARY KEY, account_id uuid NOT NULL, status basket_status NOT NULL, pieces int NOT NULL, changed_at timestamptz NOT NULL, voucher text,
	content jsonb NOT NULL) WITH (fillfactor = 80);
INSERT INTO baskets
SELECT md5('basket' || n)::uuid, account_id(account_of(n * 3 % 500000)), (CASE WHEN n % 40 = 0 THEN 'open' WHEN n % 7 = 0 THEN 'abandoned' ELSE 'ordered' END)::basket_status,
	n % 30, timestamptz '2025-01-01Z' + random() * interval '365 days', NULL, jsonb_build_object('a', n % 1000, 'b', md5(n::text))
FROM generate_series(1::bigint, 250000) n;

CREATE TABLE orders (
	tenant_id int NOT NULL, order_no bigint NOT NULL, account_id uuid NOT NULL, route_id uuid, status order_status NOT NULL, total numeric(10,2) NOT NULL,
	placed_at timestamptz NOT NULL, delivered_at timestamptz, voucher text, note text, deleted_at timestamptz,
	PRIMARY KEY (tenant_id, order_no)) WITH (fillfactor = 90);
INSERT INTO orders
SELECT tenant_of(account_of(n)), n, account_id(account_of(n)), md5('route' || 1 + n * 17 % 200000)::uuid,
	(CASE WHEN n > 497500 THEN 'placed' WHEN n > 496500 THEN 'picking' WHEN n > 496000 THEN 'packed' WHEN n > 494500 THEN 'out'
		WHEN n % 20 = 3 THEN 'cancelled' WHEN n % 50 = 7 THEN 'refunded' ELSE 'delivered' END)::order_status,
	round((10 + 300 * power(random(), 3))::numeric, 2), timestamptz '2024-01-01Z' + n * interval '2 minutes 6 seconds',
	CASE WHEN n <= 494500 AND n % 20 <> 3 THEN timestamptz '2024-01-02Z' + n * interval '2 minutes 6 seconds' END,
	CASE WHEN n % 60 = 0 THEN 'VC' || n * 7 % 400 END, CASE WHEN n % 3 = 0 THEN 'ring twice' END, CASE WHEN n % 30 = 1 THEN timestamptz '2025-12-01Z' END
FROM generate_series(1::bigint, 500000) n;

CREATE TABLE order_lines (
	tenant_id int NOT NULL, order_no bigint NOT NULL, line smallint NOT NULL, article_id bigint NOT NULL, quantity int NOT NULL, price numeric(8,2) NOT NULL,
	replaces bigint, PRIMARY KEY (tenant_id, order_no, line));
INSERT INTO order_lines
SELECT t, n, l, article_of(t, n * 3 + l * 77777), 1 + (n + l) % 4, 2.5, CASE WHEN (n + l) % 60 = 0 THEN article_of(t, n * 5 + l) END
FROM (SELECT n, tenant_of(account_of(n)) AS t FROM generate_series(1::bigint, 500000) n OFFSET 0) o, generate_series(1, 1 + (n % 4)::int) l;

CREATE TABLE stock_movements (
	id bigint PRIMARY KEY, tenant_id int NOT NULL, article_id bigint NOT NULL, kind move_kind NOT NULL, delta int NOT NULL, moved_at timestamptz NOT NULL, ref text);
INSERT INTO stock_movements
SELECT n, t, article_of(t, n * 3), CASE WHEN n % 400 = 9 THEN 'waste' ELSE (ARRAY['sale','sale','sale','sale','sale','sale','receipt','receipt','return','count'])[1 + n % 10] END::move_kind, n % 9 - 4,
	timestamptz '2025-01-01Z' + n * interval '39 seconds', CASE WHEN n % 100 = 0 THEN 'D' || n END
FROM (SELECT n, tenant_of(account_of(n)) AS t FROM generate_series(1::bigint, 800000) n OFFSET 0) m;

CREATE TABLE outbox (
	id bigint PRIMARY KEY, account_id uuid NOT NULL, channel channel NOT NULL, template text NOT NULL, payload jsonb NOT NULL,
	send_after timestamptz NOT NULL, sent_at timestamptz, attempts int NOT NULL, error text);
INSERT INTO outbox
SELECT n, account_id(account_of(n % 500000)), (ARRAY['mail','mail','push','sms'])[1 + n % 4]::channel, 'template' || n % 30,
	jsonb_build_object('ref', 'R' || n * 7919 % 450001, 'order', n, 'lang', 'en'), timestamptz '2025-06-01Z' + n * interval '44 seconds',
	CASE WHEN n <= 398000 THEN timestamptz '2025-06-01Z' + n * interval '45 seconds' END, CASE WHEN n % 900 = 0 THEN 3 ELSE 1 END, CASE WHEN n % 900 = 0 THEN 'bounced' END
FROM generate_series(1::bigint, 400000) n;

CREATE TABLE audit_events (
	id bigint NOT NULL, at timestamptz NOT NULL, tenant_id int NOT NULL, actor uuid, action text NOT NULL, details jsonb NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
SELECT format('CREATE TABLE audit_events_%s PARTITION OF audit_events FOR VALUES FROM (%L) TO (%L)', m, make_timestamptz(2025, m, 1, 0, 0, 0, 'UTC'), make_timestamptz(2025 + m / 12, m % 12 + 1, 1, 0, 0, 0, 'UTC'))
FROM generate_series(7, 12) m \gexec
INSERT INTO audit_events
SELECT n, timestamptz '2025-07-01Z' + n * interval '25 seconds', tenant_of(account_of(n % 500000)), CASE WHEN n % 3 > 0 THEN account_id(account_of(n % 500000)) END,
	CASE WHEN n % 250 = 0 THEN 'refund' WHEN n % 400 = 1 THEN 'price_override' ELSE (ARRAY['login','view','add','pay'])[1 + n % 4] END,
	jsonb_build_object('request', md5('rq' || n / 2), 'ip', '10.0.' || n % 250 || '.' || n % 199)
FROM generate_series(1::bigint, 600000) n;

CREATE SEQUENCE line_order START 1000001;
CREATE SEQUENCE movement_id START 1000001;
CREATE SEQUENCE audit_id START 1000001;
VACUUM ANALYZE;
