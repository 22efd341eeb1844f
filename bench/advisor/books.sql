-- A bookshop with a marketplace of used books.
SELECT setseed(0.42);
-- As pgbench's random_exponential(1, n, p)
CREATE FUNCTION skewed(n int, p float8) RETURNS int LANGUAGE sql VOLATILE AS
$$ SELECT 1 + floor(n * -ln(exp(-p) + (1 - exp(-p)) * (1 - random())) / p)::int $$;
-- One of 27000 words
CREATE FUNCTION word(n int) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT s[1 + n % 30] || s[1 + n / 30 % 30] || s[1 + n / 900 % 30]
FROM (SELECT string_to_array('ba,cor,del,fin,gu,hal,jo,kes,lum,mir,nor,pe,qua,ros,sil,tor,ul,ven,wy,xan,yor,zeb,ara,bri,cle,dro,eth,fos,gri,hel', ',')) w(s) $$;

CREATE TABLE genre (id int PRIMARY KEY, slug text NOT NULL, name text NOT NULL);
INSERT INTO genre SELECT i, word(i * 37), initcap(word(i * 37)) FROM generate_series(1, 60) i;

CREATE TABLE voucher (id int PRIMARY KEY, code text NOT NULL, percent int NOT NULL, expires_at timestamptz NOT NULL, used int NOT NULL);
INSERT INTO voucher SELECT i, 'V' || upper(substr(md5(i::text), 1, 6)), 5 + i % 20, timestamptz '2025-06-01' + i * interval '1 day', 0
FROM generate_series(1, 300) i;

CREATE TABLE author (id int PRIMARY KEY, given_name text NOT NULL, sort_name text COLLATE "und-x-icu" NOT NULL, born int);
INSERT INTO author SELECT i, initcap(word(i * 7 % 900)), initcap(word((i * 7919) % 27000)) || ' ' || (i % 10), 1850 + i % 150
FROM generate_series(1, 25000) i;

CREATE TABLE member (id int PRIMARY KEY, email text NOT NULL, full_name text NOT NULL, country char(2) NOT NULL, phone text,
	joined_at timestamptz NOT NULL, last_login_at timestamptz, closed_at timestamptz, invited_by int, reset_token text,
	points int NOT NULL, preferences jsonb NOT NULL) WITH (fillfactor = 85);
INSERT INTO member SELECT i, 'Reader.' || i || '@Mail' || i % 40 || '.org', initcap(word(i % 27000)) || ' ' || initcap(word(i * 13 % 27000)),
	(ARRAY['US','US','US','US','GB','GB','DE','FR','NL','IE'])[1 + i * 7 % 10],
	CASE WHEN i % 3 = 0 THEN '+1555' || lpad(i::text, 7, '0') END,
	timestamptz '2019-01-01' + i * interval '43 minutes', timestamptz '2025-12-31' - random() ^ 3 * interval '700 days',
	CASE WHEN random() < 0.05 THEN timestamptz '2025-01-01' END,
	CASE WHEN random() < 0.04 THEN skewed(80000, 4) END, CASE WHEN random() < 0.004 THEN md5('reset' || i) END,
	random() * 1000, jsonb_build_object('newsletter', i % 2 = 0, 'theme', 'dark')
FROM generate_series(1, 80000) i;

CREATE TABLE title (id int PRIMARY KEY, isbn text NOT NULL UNIQUE, name text COLLATE "und-x-icu" NOT NULL, author_id int NOT NULL,
	genre_id int NOT NULL, list_price numeric(8,2) NOT NULL, published_on date NOT NULL, on_hand int NOT NULL, withdrawn_at timestamptz,
	attributes jsonb NOT NULL, tags text[] NOT NULL, search tsvector) WITH (fillfactor = 80);
INSERT INTO title SELECT i, '978' || lpad((i::bigint * 104729 % 10000000000)::text, 10, '0'),
	initcap(word(i * 31 % 900)) || ' ' || word((i::bigint * 4241 % 27000)::int) || ' of ' || word((i::bigint * 7561 % 27000)::int),
	1 + (i::bigint * 6151 % 25000)::int, skewed(60, 2), 5 + (random() * 60)::numeric(8,2), date '1990-01-01' + (random() * 13000)::int,
	CASE WHEN random() < 0.02 THEN 0 ELSE 1 + (random() * 200)::int END, CASE WHEN random() < 0.06 THEN timestamptz '2025-05-01' END,
	jsonb_build_object('binding', (ARRAY['paperback','paperback','hardcover','audio','ebook'])[1 + i % 5], 'publisher', 'pub' || skewed(400, 3),
		'language', CASE WHEN i % 5 = 0 THEN 'fr' ELSE 'en' END, 'pages', 80 + i * 17 % 700),
	ARRAY['theme' || skewed(500, 3), 'theme' || skewed(500, 3), 'mood' || i % 60], NULL
FROM generate_series(1, 50000) i;
UPDATE title SET search = to_tsvector('simple', name);
VACUUM FULL title;

CREATE TABLE listing (id int PRIMARY KEY, title_id int NOT NULL, seller_id int NOT NULL, grade smallint NOT NULL, price numeric(8,2) NOT NULL,
	state text NOT NULL, listed_at timestamptz NOT NULL, sold_at timestamptz, views int NOT NULL, note text) WITH (fillfactor = 85);
INSERT INTO listing SELECT i, skewed(50000, 2), skewed(6000, 5), 1 + i % 5, 1 + (random() * 30)::numeric(8,2),
	CASE WHEN i > 260000 AND random() < 0.7 OR random() < 0.03 THEN 'live' WHEN random() < 0.9 THEN 'sold' ELSE 'withdrawn' END,
	timestamptz '2023-01-01' + i * interval '5 minutes', NULL, random() * 300, repeat('worn ', i % 8)
FROM generate_series(1, 300000) i;
UPDATE listing SET sold_at = listed_at + random() * interval '60 days' WHERE state = 'sold';
VACUUM FULL listing;

CREATE TABLE purchase (id int PRIMARY KEY, member_id int NOT NULL, state text NOT NULL, total numeric(10,2) NOT NULL, placed_at timestamptz NOT NULL,
	sent_at timestamptz, removed_at timestamptz, voucher_code text, address jsonb NOT NULL) WITH (fillfactor = 90);
INSERT INTO purchase SELECT i, skewed(80000, 4),
	CASE WHEN i > 398500 THEN 'new' WHEN i > 397000 THEN 'paid' WHEN random() < 0.01 THEN 'refunded' ELSE 'sent' END,
	5 + (random() ^ 4 * 500)::numeric(10,2), timestamptz '2024-01-01' + i * interval '157 seconds', NULL,
	CASE WHEN random() < 0.02 THEN timestamptz '2025-12-30' END,
	CASE WHEN random() < 0.02 THEN 'V' || upper(substr(md5((1 + i % 300)::text), 1, 6)) END,
	jsonb_build_object('city', word(i * 11 % 27000), 'zip', i % 99999)
FROM generate_series(1, 400000) i;
UPDATE purchase SET sent_at = placed_at + interval '2 days' WHERE state = 'sent' AND id % 50 = 0;
VACUUM FULL purchase;
CREATE SEQUENCE purchase_id START 400001;

CREATE TABLE purchase_line (purchase_id int NOT NULL, line_no int NOT NULL, title_id int NOT NULL, quantity int NOT NULL, unit_price numeric(8,2) NOT NULL,
	PRIMARY KEY (purchase_id, line_no));
INSERT INTO purchase_line SELECT p, l, skewed(50000, 2), 1 + (random() * 1.2)::int, 5 + (random() * 60)::numeric(8,2)
FROM generate_series(1, 400000) p, generate_series(1, 1 + p % 4) l WHERE l < 4;

CREATE TABLE click (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, member_id int, kind text NOT NULL, at timestamptz NOT NULL,
	handled_at timestamptz, data jsonb NOT NULL);
INSERT INTO click (member_id, kind, at, handled_at, data) SELECT CASE WHEN random() < 0.5 THEN skewed(80000, 4) END,
	(ARRAY['view','view','view','search','search','add','buy'])[1 + i % 7], timestamptz '2025-07-01' + i * interval '13 seconds',
	CASE WHEN i <= 1198500 THEN timestamptz '2025-07-01' + i * interval '13 seconds' + interval '1 minute' END,
	jsonb_build_object('visitor', md5((i * 17 % 90000)::text), 'page', '/t/' || skewed(50000, 2))
FROM generate_series(1, 1200000) i;

CREATE TABLE cart (id int PRIMARY KEY, token uuid NOT NULL, member_id int, changed_at timestamptz NOT NULL, ordered_at timestamptz, mailed_at timestamptz,
	contents jsonb NOT NULL) WITH (fillfactor = 80);
INSERT INTO cart SELECT i, md5('cart' || i)::uuid, CASE WHEN random() < 0.6 THEN skewed(80000, 3) END, timestamptz '2025-12-31' - random() * interval '60 days',
	CASE WHEN random() < 0.8 THEN timestamptz '2025-12-31' - random() * interval '60 days' END,
	CASE WHEN random() < 0.1 THEN timestamptz '2025-12-30' END, jsonb_build_object('titles', jsonb_build_array(skewed(50000, 2), skewed(50000, 2)))
FROM generate_series(1, 100000) i;

CREATE TABLE review (id int PRIMARY KEY, title_id int NOT NULL, member_id int NOT NULL, stars int, approved boolean NOT NULL, placed_at timestamptz NOT NULL,
	body text NOT NULL, UNIQUE (title_id, member_id));
INSERT INTO review SELECT i, skewed(50000, 2), skewed(80000, 4), CASE WHEN random() < 0.85 THEN 1 + (random() * 4)::int END, random() > 0.01,
	timestamptz '2020-01-01' + random() * interval '2190 days', repeat(word(i % 27000) || ' ', 12)
FROM generate_series(1, 200000) i ON CONFLICT DO NOTHING;

CREATE TABLE wish (member_id int, title_id int, added_at timestamptz NOT NULL, PRIMARY KEY (member_id, title_id));
INSERT INTO wish SELECT skewed(80000, 4), skewed(50000, 2), timestamptz '2022-01-01' + random() * interval '1460 days'
FROM generate_series(1, 250000) ON CONFLICT DO NOTHING;

VACUUM ANALYZE;
