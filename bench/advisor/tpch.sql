-- Data of the shape of TPC-H; :sf is the scale factor.
SELECT setseed(0.5);
CREATE TABLE region (r_regionkey int PRIMARY KEY, r_name char(25), r_comment varchar(152));
INSERT INTO region SELECT i, (ARRAY['AFRICA', 'AMERICA', 'ASIA', 'EUROPE', 'MIDDLE EAST'])[i + 1], 'comment' FROM generate_series(0, 4) i;
CREATE TABLE nation (n_nationkey int PRIMARY KEY, n_name char(25), n_regionkey int, n_comment varchar(152));
INSERT INTO nation SELECT i, (ARRAY['ALGERIA','ARGENTINA','BRAZIL','CANADA','EGYPT','ETHIOPIA','FRANCE','GERMANY','INDIA','INDONESIA','IRAN','IRAQ','JAPAN','JORDAN','KENYA','MOROCCO','MOZAMBIQUE','PERU','CHINA','ROMANIA','SAUDI ARABIA','VIETNAM','RUSSIA','UNITED KINGDOM','UNITED STATES'])[i + 1],
	(ARRAY[0,1,1,1,4,0,3,3,2,2,4,4,2,4,0,0,0,1,2,3,4,2,3,3,1])[i + 1], 'comment' FROM generate_series(0, 24) i;
CREATE TABLE supplier (s_suppkey int PRIMARY KEY, s_name char(25), s_address varchar(40), s_nationkey int, s_phone char(15), s_acctbal numeric(15,2), s_comment varchar(101));
INSERT INTO supplier SELECT i, 'Supplier#' || lpad(i::text, 9, '0'), substr(md5(i::text), 1, 20), (random() * 24)::int,
	(10 + i % 25)::text || '-' || lpad((i % 1000)::text, 3, '0') || '-555-0000', (random() * 11000 - 1000)::numeric(15,2),
	CASE WHEN i % 2000 = 7 THEN 'the Customer some Complaints' ELSE md5(i::text) || md5((i + 1)::text) END
FROM generate_series(1, (10000 * :sf)::int) i;
CREATE TABLE customer (c_custkey int PRIMARY KEY, c_name varchar(25), c_address varchar(40), c_nationkey int, c_phone char(15), c_acctbal numeric(15,2), c_mktsegment char(10), c_comment varchar(117));
INSERT INTO customer SELECT i, 'Customer#' || lpad(i::text, 9, '0'), substr(md5(i::text), 1, 25), (random() * 24)::int,
	(10 + (random() * 24)::int)::text || '-' || lpad((i % 1000)::text, 3, '0') || '-555-0000', (random() * 11000 - 1000)::numeric(15,2),
	(ARRAY['AUTOMOBILE', 'BUILDING', 'FURNITURE', 'HOUSEHOLD', 'MACHINERY'])[1 + (random() * 4)::int], md5(i::text) || md5((i + 1)::text) || 'abcdefgh'
FROM generate_series(1, (150000 * :sf)::int) i;
CREATE TABLE part (p_partkey int PRIMARY KEY, p_name varchar(55), p_mfgr char(25), p_brand char(10), p_type varchar(25), p_size int, p_container char(10), p_retailprice numeric(15,2), p_comment varchar(23));
INSERT INTO part SELECT i,
	(ARRAY['almond','azure','blue','chocolate','cream','forest','green','ivory','khaki','lemon','lime','navy','olive','peru','plum','rose','salmon','tan','white','yellow'])[1 + (random() * 19)::int] || ' ' ||
	(ARRAY['almond','azure','blue','chocolate','cream','forest','green','ivory','khaki','lemon','lime','navy','olive','peru','plum','rose','salmon','tan','white','yellow'])[1 + (random() * 19)::int] || ' metallic spring',
	'Manufacturer#' || m, 'Brand#' || m || (1 + (random() * 4)::int),
	(ARRAY['STANDARD','SMALL','MEDIUM','LARGE','ECONOMY','PROMO'])[1 + (random() * 5)::int] || ' ' || (ARRAY['ANODIZED','BURNISHED','PLATED','POLISHED','BRUSHED'])[1 + (random() * 4)::int] || ' ' || (ARRAY['TIN','NICKEL','BRASS','STEEL','COPPER'])[1 + (random() * 4)::int],
	1 + (random() * 49)::int, (ARRAY['SM','LG','MED','JUMBO','WRAP'])[1 + (random() * 4)::int] || ' ' || (ARRAY['CASE','BOX','BAG','JAR','PKG','PACK','CAN','DRUM'])[1 + (random() * 7)::int],
	900 + i % 1000, 'comment'
FROM (SELECT i, 1 + (random() * 4)::int AS m FROM generate_series(1, (200000 * :sf)::int) i) x;
CREATE TABLE partsupp (ps_partkey int, ps_suppkey int, ps_availqty int, ps_supplycost numeric(15,2), ps_comment varchar(199), PRIMARY KEY (ps_partkey, ps_suppkey));
INSERT INTO partsupp SELECT p, 1 + (p + k * (2500 * :sf)::int) % (10000 * :sf)::int, (random() * 9999)::int, (random() * 999 + 1)::numeric(15,2), repeat(md5((p * k)::text), 4)
FROM generate_series(1, (200000 * :sf)::int) p, generate_series(0, 3) k;
CREATE TABLE orders (o_orderkey int PRIMARY KEY, o_custkey int, o_orderstatus char(1), o_totalprice numeric(15,2), o_orderdate date, o_orderpriority char(15), o_clerk char(15), o_shippriority int, o_comment varchar(79));
INSERT INTO orders SELECT i * 4, 1 + (random() * ((150000 * :sf)::int - 1))::int, (ARRAY['F','O','F','O','P'])[1 + (random() * 4)::int], (random() * 400000 + 1000)::numeric(15,2),
	'1992-01-01'::date + (random() * 2405)::int, (ARRAY['1-URGENT','2-HIGH','3-MEDIUM','4-NOT SPECIFIED','5-LOW'])[1 + (random() * 4)::int],
	'Clerk#' || lpad((i % 1000)::text, 9, '0'), 0, CASE WHEN random() < 0.01 THEN 'some special packages requests' ELSE md5(i::text) || ' deposits' END
FROM generate_series(1, (1500000 * :sf)::int) i;
CREATE TABLE lineitem (l_orderkey int, l_partkey int, l_suppkey int, l_linenumber int, l_quantity numeric(15,2), l_extendedprice numeric(15,2), l_discount numeric(15,2), l_tax numeric(15,2), l_returnflag char(1), l_linestatus char(1), l_shipdate date, l_commitdate date, l_receiptdate date, l_shipinstruct char(25), l_shipmode char(10), l_comment varchar(44), PRIMARY KEY (l_orderkey, l_linenumber));
INSERT INTO lineitem
SELECT o_orderkey, p, 1 + (p + (random() * 3)::int * (2500 * :sf)::int) % (10000 * :sf)::int, n, q, (q * (900 + p % 1000))::numeric(15,2),
	((random() * 10)::int / 100.0)::numeric(15,2), ((random() * 8)::int / 100.0)::numeric(15,2),
	CASE WHEN r <= '1995-06-17' THEN (ARRAY['R','A'])[1 + (random())::int] ELSE 'N' END, CASE WHEN s > '1995-06-17' THEN 'O' ELSE 'F' END,
	s, o_orderdate + 30 + (random() * 60)::int, r,
	(ARRAY['DELIVER IN PERSON','COLLECT COD','NONE','TAKE BACK RETURN'])[1 + (random() * 3)::int], (ARRAY['REG AIR','AIR','RAIL','SHIP','TRUCK','MAIL','FOB'])[1 + (random() * 6)::int], substr(md5(o_orderkey::text || n), 1, 26)
FROM (SELECT o_orderkey, o_orderdate, n, 1 + (random() * ((200000 * :sf)::int - 1))::int AS p, 1 + (random() * 49)::int AS q, s, s + 1 + (random() * 29)::int AS r
	FROM (SELECT o_orderkey, o_orderdate, n, o_orderdate + 1 + (random() * 120)::int AS s FROM orders, LATERAL generate_series(1, 1 + (o_orderkey / 4) % 7) n) x) y;
VACUUM ANALYZE;
