local VERSION = '@VERSION@'

-- What each database has told us since this process, or this library, was
-- loaded.  Nothing of it is in the keyspace, so no FLUSHALL, eviction or
-- restart can take away a part: it is all there, or we know nothing and
-- neither serve nor store.
local sources = {}
local leases = {}
local nleases = 0
local lease_ms = 2000
local stats = { hits = 0, misses = 0, loading = 0, fills = 0, refused = 0 }

-- "xmax:xid,xid": sees what is below xmax, but for the list
local function snapshot(s)
  local xmax, list = string.match(s, '^(%d+):([%d,]*)$')
  if not xmax then return nil end
  local running = {}
  for x in string.gmatch(list, '%d+') do running[tonumber(x)] = true end
  return { xmax = tonumber(xmax), running = running }
end

local function sees(snap, xid)
  return xid < snap.xmax and not snap.running[xid]
end

-- Does snap see all that ref does?
local function dominates(snap, ref)
  if snap.xmax < ref.xmax then return false end
  for x in pairs(snap.running) do
    if x < ref.xmax and not ref.running[x] then return false end
  end
  return true
end

-- A tombstone is a writer's xid, or a few, or a snapshot that sees them all.
local function bury(tombs, key, xid, seen)
  local t = tombs[key]
  if t == nil then
    tombs[key] = xid
    return 1
  elseif type(t) == 'number' then
    if t ~= xid then tombs[key] = { t, xid } end
  else
    for i = 1, #t do
      if t[i] == xid then return 0 end
    end
    if #t < 4 then
      t[#t + 1] = xid
    else
      tombs[key] = { ref = seen() }
    end
  end
  return 0
end

local function above(snap, t)
  if t == nil then return true end
  if type(t) == 'number' then return sees(snap, t) end
  if t.ref and not dominates(snap, t.ref) then return false end
  for i = 1, #t do
    if not sees(snap, t[i]) then return false end
  end
  return true
end

local function above_epochs(snap, epochs, key)
  for prefix, t in pairs(epochs) do
    if string.sub(key, 1, #prefix) == prefix and not above(snap, t) then
      return false
    end
  end
  return true
end

local function fresh(source, snap, key)
  return dominates(snap, source.floor)
    and above(snap, source.new[key]) and above(snap, source.old[key])
    and above_epochs(snap, source.new_epochs, key)
    and above_epochs(snap, source.old_epochs, key)
end

local function armed()
  if next(sources) == nil then return false end
  for _, source in pairs(sources) do
    if not source.armed then return false end
  end
  return true
end

local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

local function source_of(id)
  local source = sources[id]
  if source == nil then return nil, redis.error_reply('UNARMED ' .. id) end
  return source
end

-- FCALL scalecache_get 1 key
local function get(keys, args)
  if #keys ~= 1 then return redis.error_reply('ERR scalecache_get takes one key') end
  if not armed() then
    stats.misses = stats.misses + 1
    return false
  end
  local key = keys[1]
  local value = redis.call('GET', key)
  if value then
    stats.hits = stats.hits + 1
    return value
  end
  local t = now()
  if leases[key] and leases[key] > t then
    stats.loading = stats.loading + 1
    return redis.error_reply('LOADING somebody else loads this key')
  end
  stats.misses = stats.misses + 1
  if leases[key] == nil then nleases = nleases + 1 end
  leases[key] = t + lease_ms
  if nleases > 100000 then
    nleases = 0
    for k, expires in pairs(leases) do
      if expires <= t then leases[k] = nil else nleases = nleases + 1 end
    end
  end
  return false
end

-- key : id lease link: for sessions of the server that is known as id, whose
-- worker was with us when it last armed.
-- {value, ttl_ms}, or as scalecache_get.
local function read(keys, args)
  local source = sources[args[1]]
  if #keys ~= 1 or not source or not source.armed or source.link ~= args[3] then return false end
  if args[2] == '1' then
    local value = get(keys, {})
    if not value or type(value) == 'table' then return value end
    return { value, redis.call('PTTL', keys[1]) }
  end
  local value = armed() and redis.call('GET', keys[1])
  if not value then
    stats.misses = stats.misses + 1
    return false
  end
  stats.hits = stats.hits + 1
  return { value, redis.call('PTTL', keys[1]) }
end

local function release(key)
  if leases[key] then
    leases[key] = nil
    nleases = nleases - 1
  end
end

-- FCALL scalecache_fill 1 key value token ttl_ms
local function fill(keys, args)
  if #keys ~= 1 or (#args ~= 2 and #args ~= 3) then
    return redis.error_reply('ERR usage: FCALL scalecache_fill 1 key value token [ttl_ms]')
  end
  local key, value, token = keys[1], args[1], args[2]
  local ttl = tonumber(args[3] or '0')
  if ttl == nil or ttl < 0 or ttl ~= math.floor(ttl) then
    return redis.error_reply('ERR ttl_ms must be a whole number, 0 for none')
  end
  local cluster, timeline, boot, text = string.match(token, '^(%d+):(%d+):(%w+):(.*)$')
  local snap = text and snapshot(text)
  if snap == nil and token ~= 'none' then
    return redis.error_reply('ERR token is not what scalecache.cache_token() returned')
  end
  release(key)
  local known, ok = false, snap ~= nil and armed()
  if ok then
    for _, source in pairs(sources) do
      if source.cluster == cluster then
        known = true
        ok = ok and source.timeline == tonumber(timeline)
          and (boot == 's' or boot == source.boot) and fresh(source, snap, key)
      end
    end
  end
  if not (ok and known) then
    stats.refused = stats.refused + 1
    return 0
  end
  if ttl > 0 then
    redis.call('SET', key, value, 'PX', string.format('%.0f', ttl))
  else
    redis.call('SET', key, value)
  end
  stats.fills = stats.fills + 1
  return 1
end

-- id cluster timeline boot snapshot lease_ms phase link: 'ok' when armed,
-- 'walk' when older values may be about and have to be deleted first
local function arm(keys, args)
  local id, cluster, timeline, boot = args[1], args[2], tonumber(args[3]), args[4]
  local snap = snapshot(args[5])
  local source = sources[id]
  lease_ms = tonumber(args[6])
  if source and source.timeline > timeline then
    return redis.error_reply('TIMELINE a later timeline is served here')
  end
  if source == nil or source.timeline ~= timeline then
    source = { cluster = cluster, timeline = timeline, armed = false }
    sources[id] = source
    source.boot = nil
  end
  if source.boot ~= boot or args[7] == 'anew' then
    -- Transaction ids of before a crash may come again; and while the worker
    -- was with another Redis, this one has missed something.
    source.boot = boot
    source.floor, source.next_floor = snap, snap
    source.new, source.old, source.count = {}, {}, 0
    source.new_epochs, source.old_epochs = {}, {}
  end
  if args[7] == 'anew' then source.armed = false end
  source.link = args[8]
  if args[7] == 'done' then source.armed = true end
  return source.armed and 'ok' or 'walk'
end

-- key... : id snapshot xid...
local function invalidate(keys, args)
  local source, err = source_of(args[1])
  if err then return err end
  local snap
  local function seen()
    snap = snap or snapshot(args[2])
    return snap
  end
  for i = 1, #keys do
    redis.call('UNLINK', keys[i])
    source.count = source.count + bury(source.new, keys[i], tonumber(args[i + 2]), seen)
    release(keys[i])
  end
  return #keys
end

-- key : id snapshot xid value ttl_ms
local function store(keys, args)
  local source, err = source_of(args[1])
  if err then return err end
  source.count = source.count + bury(source.new, keys[1], tonumber(args[3]),
    function() return snapshot(args[2]) end)
  release(keys[1])
  if args[5] ~= '0' then
    redis.call('SET', keys[1], args[4], 'PX', args[5])
  else
    redis.call('SET', keys[1], args[4])
  end
  return 1
end

-- id snapshot xid prefix
local function epoch(keys, args)
  local source, err = source_of(args[1])
  if err then return err end
  bury(source.new_epochs, args[4], tonumber(args[3]), function() return snapshot(args[2]) end)
  return 1
end

-- id snapshot: forget the older tombstones; the floor stands in for them
local function rotate(keys, args)
  local source, err = source_of(args[1])
  if err then return err end
  source.floor = source.next_floor
  source.next_floor = snapshot(args[2])
  source.old, source.new, source.count = source.new, {}, 0
  source.old_epochs, source.new_epochs = source.new_epochs, {}
  return 1
end

-- id: version, whether armed, tombstones, counters
local function hello(keys, args)
  local source = sources[args[1]]
  return { VERSION, source and source.armed and 1 or 0, source and source.count or 0,
    stats.hits, stats.misses, stats.fills, stats.refused, stats.loading }
end

redis.register_function{ function_name = 'scalecache_get', callback = get, flags = { 'no-writes' } }
redis.register_function{ function_name = 'scalecache_read', callback = read, flags = { 'no-writes' } }
redis.register_function('scalecache_fill', fill)
redis.register_function{ function_name = 'scalecache_arm', callback = arm, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'scalecache_invalidate', callback = invalidate, flags = { 'allow-oom' } }
redis.register_function('scalecache_store', store)
redis.register_function{ function_name = 'scalecache_epoch', callback = epoch, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'scalecache_rotate', callback = rotate, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'scalecache_hello', callback = hello, flags = { 'no-writes' } }
