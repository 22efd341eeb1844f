-- Data of the shape of the join-order benchmark: films, who was in them, what
-- is known about them; skewed, with keys and nothing else indexed.
SELECT setseed(0.5);
CREATE TABLE kind_type (id int PRIMARY KEY, kind text NOT NULL);
INSERT INTO kind_type SELECT i, (ARRAY['movie','tv series','tv movie','video movie','tv mini series','video game','episode'])[i] FROM generate_series(1, 7) i;
CREATE TABLE company_type (id int PRIMARY KEY, kind text NOT NULL);
INSERT INTO company_type SELECT i, (ARRAY['distributors','production companies','special effects companies','miscellaneous companies'])[i] FROM generate_series(1, 4) i;
CREATE TABLE role_type (id int PRIMARY KEY, role text NOT NULL);
INSERT INTO role_type SELECT i, (ARRAY['actor','actress','producer','writer','cinematographer','composer','costume designer','director','editor','miscellaneous crew','production designer','guest'])[i] FROM generate_series(1, 12) i;
CREATE TABLE info_type (id int PRIMARY KEY, info text NOT NULL);
INSERT INTO info_type SELECT i, CASE i WHEN 3 THEN 'genres' WHEN 8 THEN 'countries' WHEN 16 THEN 'release dates' WHEN 99 THEN 'votes' WHEN 101 THEN 'rating' ELSE 'info ' || i END FROM generate_series(1, 113) i;
CREATE TABLE keyword (id int PRIMARY KEY, keyword text NOT NULL);
INSERT INTO keyword SELECT i, CASE i WHEN 117 THEN 'superhero' WHEN 335 THEN 'sequel' WHEN 8200 THEN 'murder' ELSE 'word-' || substr(md5(i::text), 1, 8) END FROM generate_series(1, 30000) i;
CREATE TABLE company_name (id int PRIMARY KEY, name text NOT NULL, country_code text);
INSERT INTO company_name SELECT i, 'Company ' || substr(md5(i::text), 1, 12), CASE WHEN random() < 0.1 THEN NULL ELSE (ARRAY['[us]','[gb]','[de]','[fr]','[jp]','[in]','[it]','[ca]','[es]','[se]'])[1 + (power(random(), 2.5) * 9)::int] END FROM generate_series(1, 40000) i;
CREATE TABLE name (id int PRIMARY KEY, name text NOT NULL, gender char(1), birth_year int);
INSERT INTO name SELECT i, chr(65 + (random() * 25)::int) || substr(md5(i::text), 1, 10) || ', ' || substr(md5((i * 3)::text), 1, 6), CASE WHEN random() < 0.3 THEN NULL WHEN random() < 0.6 THEN 'm' ELSE 'f' END, CASE WHEN random() < 0.3 THEN 1920 + (random() * 80)::int END FROM generate_series(1, 250000) i;
CREATE TABLE title (id int PRIMARY KEY, title text NOT NULL, kind_id int NOT NULL, production_year int, season_nr int, episode_of_id int);
INSERT INTO title SELECT i, initcap(substr(md5(i::text), 1, 8)) || ' ' || substr(md5((i * 5)::text), 1, 9), 1 + (power(random(), 2) * 6)::int, CASE WHEN random() < 0.97 THEN 2015 - (power(random(), 3) * 110)::int END, CASE WHEN random() < 0.2 THEN (random() * 12)::int END, CASE WHEN random() < 0.3 THEN 1 + (random() * 249999)::int END FROM generate_series(1, 250000) i;
CREATE TABLE movie_companies (id int PRIMARY KEY, movie_id int NOT NULL, company_id int NOT NULL, company_type_id int NOT NULL, note text);
INSERT INTO movie_companies SELECT i, 1 + (power(random(), 1.5) * 249999)::int, 1 + (power(random(), 3) * 39999)::int, 1 + (power(random(), 2) * 3)::int, CASE WHEN random() < 0.5 THEN '(20' || lpad((random() * 15)::int::text, 2, '0') || ') (' || (ARRAY['USA','worldwide','Japan','France'])[1 + (random() * 3)::int] || ') (' || (ARRAY['TV','DVD','theatrical','VHS'])[1 + (random() * 3)::int] || ')' END FROM generate_series(1, 300000) i;
CREATE TABLE movie_keyword (id int PRIMARY KEY, movie_id int NOT NULL, keyword_id int NOT NULL);
INSERT INTO movie_keyword SELECT i, 1 + (power(random(), 2) * 249999)::int, 1 + (power(random(), 3) * 29999)::int FROM generate_series(1, 450000) i;
CREATE TABLE movie_info (id int PRIMARY KEY, movie_id int NOT NULL, info_type_id int NOT NULL, info text NOT NULL);
INSERT INTO movie_info SELECT i, 1 + (power(random(), 1.3) * 249999)::int, t, CASE t WHEN 3 THEN (ARRAY['Drama','Comedy','Horror','Action','Documentary','Short','Thriller','Western'])[1 + (power(random(), 2) * 7)::int] WHEN 8 THEN (ARRAY['USA','UK','Germany','France','Japan','Sweden','India'])[1 + (power(random(), 2) * 6)::int] WHEN 101 THEN ((random() * 90 + 10)::int / 10.0)::text ELSE 'text ' || md5(i::text) END
FROM (SELECT i, CASE WHEN random() < 0.25 THEN 3 WHEN random() < 0.25 THEN 8 WHEN random() < 0.15 THEN 16 WHEN random() < 0.2 THEN 101 ELSE 1 + (random() * 112)::int END AS t FROM generate_series(1, 900000) i) x;
CREATE TABLE cast_info (id int PRIMARY KEY, person_id int NOT NULL, movie_id int NOT NULL, person_role text, note text, nr_order int, role_id int NOT NULL);
INSERT INTO cast_info SELECT i, 1 + (power(random(), 2) * 249999)::int, 1 + (power(random(), 1.5) * 249999)::int, CASE WHEN random() < 0.5 THEN 'role ' || (random() * 50000)::int END, CASE WHEN random() < 0.3 THEN (ARRAY['(voice)','(uncredited)','(producer)','(writer)','(archive footage)'])[1 + (power(random(), 2) * 4)::int] END, CASE WHEN random() < 0.6 THEN (random() * 50)::int END, 1 + (power(random(), 2) * 11)::int FROM generate_series(1, 1500000) i;
VACUUM ANALYZE;
