-- Each refusal says why, and leaves nothing behind.
CREATE EXTENSION scalecache;
CREATE TABLE users (id int PRIMARY KEY, name text, "odd name" int);
CREATE VIEW v AS SELECT id FROM users;
CREATE MATERIALIZED VIEW mv AS SELECT id FROM users;
CREATE TEMP TABLE tmp (id int);
CREATE UNLOGGED TABLE unl (id int);
CREATE TABLE parent (id int);
CREATE TABLE child () INHERITS (parent);
CREATE SEQUENCE seq;
-- templates
SELECT scalecache.create_cache_rule('r', 'users', 'user:{nope}');
SELECT scalecache.create_cache_rule('r', 'users', 'user:{id');
SELECT scalecache.create_cache_rule('r', 'users', 'user:id}');
SELECT scalecache.create_cache_rule('r', 'users', 'user:{}');
SELECT scalecache.create_cache_rule('r', 'users', 'user:{a{b}}');
SELECT scalecache.create_cache_rule('r', 'users', '');
SELECT scalecache.create_cache_rule('r', 'users', NULL);
SELECT scalecache.create_cache_rule('r', 'users', repeat('x', 8000));
-- relations
SELECT scalecache.create_cache_rule('r', 'v', 'k:{id}');
SELECT scalecache.create_cache_rule('r', 'mv', 'k:{id}');
SELECT scalecache.create_cache_rule('r', 'tmp', 'k:{id}');
SELECT scalecache.create_cache_rule('r', 'unl', 'k:{id}');
SELECT scalecache.create_cache_rule('r', 'parent', 'k:{id}');
SELECT scalecache.create_cache_rule('r', 'seq', 'k:{last_value}');
SELECT scalecache.create_cache_rule('r', 'pg_class', 'k:{relname}');
SELECT scalecache.create_cache_rule('r', 'users_pkey', 'k:{id}');
SELECT scalecache.create_cache_rule('r', 'scalecache.cache_rule', 'k:{id}');
SELECT scalecache.create_cache_rule('r', 'nowhere', 'k:{id}');
-- actions, values, ttl
SELECT scalecache.create_cache_rule('r', 'users', 'user:{id}', 'explode');
SELECT scalecache.create_cache_rule('r', 'users', 'user:{id}', value => 'name');
SELECT scalecache.create_cache_rule('r', 'users', 'user:{id}', ttl => '1 h');
SELECT scalecache.create_cache_rule('r', 'users', 'user:{id}', 'write', ttl => '-1 s');
SELECT scalecache.create_cache_rule('r', 'users', 'user:{id}', 'write', ttl => '0');
SELECT scalecache.create_cache_rule('r', 'users', 'all', 'write');
SELECT scalecache.create_cache_rule('r', 'users', 'user:{id}', 'write', value => 'name ||');
SELECT scalecache.create_cache_rule('r', 'users', 'user:{id}', 'write', value => 'nope');
SELECT scalecache.create_cache_rule('r', 'users', 'user:{id}', 'write', value => 'name), (id');
SELECT scalecache.create_cache_rule('r', 'users', 'user:{id}', 'write', value => 'name) FROM users WHERE (true');
SELECT scalecache.create_cache_rule('r', 'users', 'user:{id}', 'write', value => 'random()::text');
SELECT scalecache.create_cache_rule('r', 'users', 'user:{id}', 'write', value => '(SELECT 1)::text');
SELECT scalecache.create_cache_rule('r', 'users', 'user:{id}', 'write', value => 'count(*)::text');
SELECT scalecache.create_cache_rule('r', 'users', 'user:{id}', 'write', value => 'generate_series(1, 2)::text');
SELECT scalecache.create_cache_rule('r', 'users', 'user:{id}', 'write', value => 'ctid::text');
-- columns, conditions
SELECT scalecache.create_cache_rule('r', 'users', 'user:{id}', columns => '{nope}');
SELECT scalecache.create_cache_rule('r', 'users', 'user:{id}', columns => '{NULL}');
SELECT scalecache.create_cache_rule('r', 'users', 'user:{id}', condition => 'name');
SELECT scalecache.create_cache_rule('r', 'users', 'user:{id}', condition => 'random() < 1');
SELECT scalecache.create_cache_rule('r', 'users', 'user:{id}', condition => '');
-- names
SELECT scalecache.create_cache_rule('', 'users', 'user:{id}');
SELECT scalecache.drop_cache_rule('r');
SELECT scalecache.create_cache_rule('r', 'users', 'user:{id}:{odd name}');
SELECT scalecache.create_cache_rule('r', 'users', 'other:{id}');
ALTER TABLE users DROP COLUMN "odd name";
-- a condition that fails does not hurt the writer
SELECT scalecache.create_cache_rule('c', 'users', 'c:{id}', condition => '1 / (id - 1) > 0');
INSERT INTO users VALUES (1, 'x');
-- others
CREATE ROLE sc_nobody;
SET ROLE sc_nobody;
SELECT scalecache.create_cache_rule('s', 'users', 'user:{id}');
SELECT scalecache.drop_cache_rule('r');
SELECT name, key FROM scalecache.cache_rules ORDER BY 1;
SELECT scalecache.cache_capture();
RESET ROLE;
-- settings
SET scalecache.redis_url = 'http://localhost';
SET scalecache.redis_url = 'redis://h:0';
SET scalecache.redis_url = 'redis://h:port';
SET scalecache.redis_url = 'redis://h/x';
SET scalecache.redis_url = 'redis+unix://';
SET scalecache.redis_url = 'redis://user:%zz@h';
SET scalecache.redis_url = 'rediss://h';
SET scalecache.redis_url = 'redis://h,i';
SET scalecache.redis_url = 'redis://[::1';
SET scalecache.redis_url = 'redis://[::1]1';
SET scalecache.redis_url = 'redis://h?x=1';
SET scalecache.redis_url = 'redis+sentinel://h';
SET scalecache.redis_url = 'redis+sentinel://h/';
SET scalecache.redis_url = 'redis+sentinel:///main';
SET scalecache.redis_url = 'redis+sentinel://h,/main';
SET scalecache.redis_url = 'redis+sentinel://h/main/x';
SET scalecache.redis_url = 'redis+sentinel://h:x/main';
SET scalecache.redis_url = 'redis+sentinel://h/main?sentinel_password=%';
SET scalecache.redis_url = 'redis+sentinel://h/main?other=1';
SET scalecache.redis_url = 'redis+sentinel://a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q/main';
SET scalecache.redis_url = 'redis+cluster://';
SET scalecache.redis_url = 'redis+cluster://h/1';
SET scalecache.redis_url = 'redis+cluster://h?db=1';
SET scalecache.redis_url = 'redis+cluster://u:secret@h:1,[::1]/0';
SHOW scalecache.redis_url;
SET scalecache.redis_url = 'redis+sentinel://u:secret@h:1,[::1]/main/2?sentinel_user=u&sentinel_password=secret';
SHOW scalecache.redis_url;
SET scalecache.redis_url = 'redis://u:secret@h/1';
SHOW scalecache.redis_url;
RESET scalecache.redis_url;
SELECT scalecache.wait_for_cache(NULL);
SELECT scalecache.wait_for_cache('-1 s');
SELECT scalecache.wait_for_cache('10 ms');
-- a cached query is one SELECT, and stays one
SELECT scalecache.cached_query('q1', 'SELECT id, name FROM users ORDER BY id LIMIT 1; -- the end');
SELECT scalecache.cached_query('q2', 'SELECT 5 AS q');
SELECT scalecache.cached_query('q3', 'VALUES (1), (2);');
SELECT scalecache.cached_query('q4', 'SELECT 1) q; SELECT 5 FROM (SELECT 1');
SELECT scalecache.cached_query('q4', 'SELECT 1) q UNION ALL SELECT ''[2]'' FROM (SELECT 1');
SELECT scalecache.cached_query('q4', 'SELECT 1; SELECT 2');
SELECT scalecache.cached_query('q4', '');
SELECT scalecache.cached_query('q4', 'DELETE FROM users');
SELECT scalecache.cached_query('q4', 'SELECT 1 INTO t');
SELECT scalecache.cached_query('q4', 'SELECT nothing');
SELECT scalecache.cached_query('q4', 'SELECT 1 /*');
SELECT scalecache.cached_query('q4', 'SELECT 1', '178956970 years');
SELECT scalecache.create_cache_rule('x', 'users', 'x:{id}', columns => '{}');
SELECT scalecache.create_cache_rule('x', 4294967295, 'x:{id}');
SELECT scalecache.create_cache_rule('x', 'users', 'x:{id}', 'write', 'name) OFFSET (1');
SELECT scalecache.create_cache_rule('x', 'users', 'x:{id}', 'write', 'other.name');
-- the table's name in an expression is followed
SELECT scalecache.create_cache_rule('x', 'users', 'x:{id}', 'write', 'row_to_json(users)::text',
	condition => 'users.name <> ''nobody''');
ALTER TABLE users RENAME TO people;
ALTER TABLE people RENAME name TO called;
UPDATE people SET called = 'y';
SELECT value, condition FROM scalecache.cache_rules WHERE name = 'x';
ALTER TABLE people RENAME called TO name;
ALTER TABLE people RENAME TO users;
SELECT scalecache.drop_cache_rule('x');
SELECT scalecache.drop_cache_rule(NULL);
-- a condition that cannot be evaluated hurts nobody
CREATE FUNCTION is_known(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
	'BEGIN RETURN $1 <> ''nobody''; END';
REVOKE ALL ON FUNCTION is_known(text) FROM PUBLIC;
SELECT scalecache.create_cache_rule('x', 'users', 'x:{id}', condition => 'public.is_known(name)');
GRANT ALL ON users TO sc_nobody;
SET ROLE sc_nobody;
UPDATE users SET name = 'z';
RESET ROLE;
DROP FUNCTION is_known(text);
UPDATE users SET name = 'y';
-- and a cancel in it ends the statement, and no more
CREATE FUNCTION is_known(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
	'BEGIN RAISE EXCEPTION USING ERRCODE = ''57014'', MESSAGE = ''canceled''; END';
UPDATE users SET name = 'x';
SELECT name FROM users WHERE id = 1;
SELECT scalecache.drop_cache_rule('x');
DROP FUNCTION is_known(text);
REVOKE ALL ON users FROM sc_nobody;
SELECT scalecache.drop_cache_rule('r'), scalecache.drop_cache_rule('c');
ALTER TABLE users DROP COLUMN "odd name";
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'users'::regclass;
DROP VIEW v;
DROP MATERIALIZED VIEW mv;
DROP TABLE users;
DROP TABLE child, parent, unl;
DROP SEQUENCE seq;
DROP ROLE sc_nobody;
DROP EXTENSION scalecache;
