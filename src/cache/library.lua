local VERSION = '@VERSION@'

-- What each database has told us since this process, or this library, was
-- loaded.  Nothing of it is in the keyspace, so no FLUSHALL, eviction or
-- restart can take away a part: it is all there, or we know nothing and
-- neither serve nor store.
--
-- In a cluster each node has this library, and its state, for itself.  A slot
-- that comes from another node brings keys and no tombstones, so of each slot
-- the worker says whether we may serve it: the others are as if we knew nothing.
local sources = {}
local clustered = false
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

-- Tombstones are kept by a hash of their keys.  A table of the keys themselves
-- is what Lua's collector would look through again and again, and takes more
-- time than all else.  Keys that share a place may refuse each other's fills.
local PLACES = 65536

-- A key may have 512 MB, and Redis does nothing else meanwhile: no more of it
-- than this makes a difference.  The worker has the same number.
local HASHED = 8192

local function place_of(key)
  local byte = string.byte
  local h = #key
  for i = 1, math.min(h, HASHED), 4 do
    local a, b, c, d = byte(key, i, i + 3)
    h = (h * 1664525 + a + (b or 0) * 256 + (c or 0) * 65536 + (d or 0) * 16777216) % 4294967296
  end
  return (h * 1664525 % 4294967296 - h * 1664525 % 65536) / 65536 + 1
end

-- What was written between two rotations; tombs are used again if given.
local function generation(tombs)
  tombs = tombs or {}
  for i = 1, PLACES do tombs[i] = 0 end
  return { tombs = tombs, epochs = {}, refs = {} }
end

-- The number of a snapshot in which all is seen that has been buried so far.
local function ref(gen, text)
  local refs = gen.refs
  if refs[#refs] ~= text then refs[#refs + 1] = text end
  return #refs
end

-- A tombstone is a writer's xid; of several, minus the number of a snapshot.
-- Returns how many places it has taken.
local function bury(gen, tombs, place, xid, text)
  local t = tombs[place]
  if t == nil or t == 0 then
    tombs[place] = xid
    return 1
  elseif t ~= xid then
    tombs[place] = -ref(gen, text)
  end
  return 0
end

local function above(snap, gen, t)
  if t == nil or t == 0 then return true end
  if t > 0 then return sees(snap, t) end
  return dominates(snap, snapshot(gen.refs[-t]))
end

local function above_all(snap, gen, key, place)
  if not above(snap, gen, gen.tombs[place]) then return false end
  for prefix, t in pairs(gen.epochs) do
    if string.sub(key, 1, #prefix) == prefix and not above(snap, gen, t) then
      return false
    end
  end
  return true
end

local function fresh(source, snap, key)
  local place = place_of(key)
  return dominates(snap, source.floor)
    and above_all(snap, source.new, key, place)
    and above_all(snap, source.old, key, place)
end

local function armed(key)
  if next(sources) == nil then return false end
  local slot = clustered and redis.call('CLUSTER', 'KEYSLOT', key)
  for _, source in pairs(sources) do
    if not source.armed or (source.slots and not source.slots[slot]) then return false end
  end
  return true
end

-- A lease is who loads a key until it expires.  They are by place, in two
-- lots: when the last of the older lot has expired it goes as a whole, and the
-- newer one is the older.  Nothing ever looks through all of them.
local MANY_LEASES = 250000   -- in a lot; with more the older is let go early

local function lot()
  return { places = {}, n = 0, last = 0 }
end

local new_leases, old_leases = lot(), lot()

-- A clock that has been set back leaves none for longer than it takes.
local function is_live(expires, t)
  return expires ~= nil and expires > t and expires <= t + lease_ms
end

local function is_leased_in(leases, key, place, t)
  local there = leases.places[place]
  return there ~= nil and is_live(there[key], t)
end

local function is_leased(key, place, t)
  return is_leased_in(new_leases, key, place, t) or is_leased_in(old_leases, key, place, t)
end

local function lease(key, place, t)
  if not is_live(old_leases.last, t) or new_leases.n >= MANY_LEASES then
    old_leases, new_leases = new_leases, lot()
  end
  local leases = new_leases
  local there = leases.places[place]
  if there == nil then
    there = {}
    leases.places[place] = there
  end
  if there[key] == nil then leases.n = leases.n + 1 end
  there[key] = t + lease_ms
  leases.last = math.max(leases.last, t + lease_ms)
end

-- All leases of a place, or that of a key
local function release_in(leases, place, key)
  local there = leases.places[place]
  if there == nil or (key and there[key] == nil) then return end
  for k in pairs(there) do
    if key == nil or k == key then
      there[k] = nil
      leases.n = leases.n - 1
    end
  end
  if next(there) == nil then leases.places[place] = nil end
end

local function release(place, key)
  release_in(new_leases, place, key)
  release_in(old_leases, place, key)
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
  if not armed(keys[1]) then
    stats.misses = stats.misses + 1
    return false
  end
  local key = keys[1]
  local value = redis.call('GET', key)
  if value then
    stats.hits = stats.hits + 1
    return value
  end
  local t, place = now(), place_of(key)
  if is_leased(key, place, t) then
    stats.loading = stats.loading + 1
    return redis.error_reply('LOADING somebody else loads this key')
  end
  stats.misses = stats.misses + 1
  lease(key, place, t)
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
  local value = armed(keys[1]) and redis.call('GET', keys[1])
  if not value then
    stats.misses = stats.misses + 1
    return false
  end
  stats.hits = stats.hits + 1
  return { value, redis.call('PTTL', keys[1]) }
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
  release(place_of(key), key)
  local known, ok = false, snap ~= nil and armed(key)
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

-- "first-last,slot,...": a table of slots
local function slots_of(text)
  local slots = {}
  for first, last in string.gmatch(text, '(%d+)-?(%d*)') do
    for slot = tonumber(first), tonumber(last ~= '' and last or first) do slots[slot] = true end
  end
  return slots
end

-- Those of a table as text
local function text_of(slots)
  local list, first = {}, nil
  for slot = 0, 16384 do
    if slots[slot] then
      first = first or slot
    elseif first then
      list[#list + 1] = first .. '-' .. slot - 1
      first = nil
    end
  end
  return table.concat(list, ',')
end

-- Take the slots that this node has.  Those that are new here have a past that
-- is not known, so a fill has to be as new as this snapshot.  Returns them.
local function take_slots(source, given, snap, done)
  clustered = true
  local had, missing = source.slots or {}, {}
  source.slots = {}
  for slot in pairs(given) do
    if had[slot] or done then source.slots[slot] = true else missing[slot] = true end
  end
  if next(missing) then source.floor, source.next_floor = snap, snap end
  return missing
end

-- id cluster timeline boot snapshot lease_ms phase link [slots]: 'ok' when armed,
-- 'walk' when older values may be about and have to be deleted first; the
-- slots in which they may be, where it is about some only
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
    source.new, source.old, source.count = generation(), generation(), 0
  end
  if args[7] == 'anew' then source.armed, source.slots = false, nil end
  source.link = args[8]
  if args[7] == 'done' then source.armed = true end
  if args[9] then
    local missing = take_slots(source, slots_of(args[9]), snap, args[7] == 'done')
    if source.armed and next(missing) then return text_of(missing) end
  end
  return source.armed and 'ok' or 'walk'
end

-- id snapshot places: keys that the next command deletes.  Of each, its place,
-- counted from 0, and the writer's xid, in one list packed as MessagePack: Lua
-- gets numbers, and neither keys nor digits to take apart.  Who loads such a
-- key has an old value, and other keys' leases of the place may go as well.
local function bury_all(keys, args)
  local source, err = source_of(args[1])
  if err then return err end
  local gen, text, list = source.new, args[2], cmsgpack.unpack(args[3])
  local tombs, taken = gen.tombs, 0
  local leased = new_leases.n + old_leases.n > 0
  for i = 1, #list, 2 do
    local place = list[i] + 1
    taken = taken + bury(gen, tombs, place, list[i + 1], text)
    if leased then release(place) end
  end
  source.count = source.count + taken
  return #list / 2
end

-- key : id snapshot xid value ttl_ms
local function store(keys, args)
  local source, err = source_of(args[1])
  if err then return err end
  local gen, place = source.new, place_of(keys[1])
  source.count = source.count + bury(gen, gen.tombs, place, tonumber(args[3]), args[2])
  release(place, keys[1])
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
  bury(source.new, source.new.epochs, args[4], tonumber(args[3]), args[2])
  return 1
end

-- id snapshot: forget the older tombstones; the floor stands in for them
local function rotate(keys, args)
  local source, err = source_of(args[1])
  if err then return err end
  source.floor = source.next_floor
  source.next_floor = snapshot(args[2])
  source.old, source.new, source.count = source.new, generation(source.old.tombs), 0
  return 1
end

-- id timeline: the database has been dropped, or has no rules any more, so
-- nobody will say 'done' if that is what we wait for
local function forget(keys, args)
  local source = sources[args[1]]
  if source and source.timeline <= tonumber(args[2]) then sources[args[1]] = nil end
  return 1
end

-- id: version, whether armed, tombstones, counters, who else has told us something
local function hello(keys, args)
  local source = sources[args[1]]
  local others = {}
  for id in pairs(sources) do
    if id ~= args[1] then others[#others + 1] = id end
  end
  return { VERSION, source and source.armed and 1 or 0, source and source.count or 0,
    stats.hits, stats.misses, stats.fills, stats.refused, stats.loading, table.concat(others, ' ') }
end

redis.register_function{ function_name = 'scalecache_get', callback = get, flags = { 'no-writes' } }
redis.register_function{ function_name = 'scalecache_read', callback = read, flags = { 'no-writes' } }
redis.register_function('scalecache_fill', fill)
redis.register_function{ function_name = 'scalecache_arm', callback = arm, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'scalecache_bury', callback = bury_all, flags = { 'allow-oom' } }
redis.register_function('scalecache_store', store)
redis.register_function{ function_name = 'scalecache_epoch', callback = epoch, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'scalecache_rotate', callback = rotate, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'scalecache_forget', callback = forget, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'scalecache_hello', callback = hello, flags = { 'no-writes' } }
