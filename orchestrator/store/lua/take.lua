#!lua
-- requires: states, holding, retire
-- KEYS: all queues
-- ARGV: worker, seconds after which a begun job is taken for lost, prefixes of the keys of a queue, and of the registry
-- of its begun jobs; the most executions that a tenant may have with workers to be served; number n of lanes,
-- lanes, number of kinds of queue, for each priority, highest first, n kinds (in the lanes' order); then, if
-- there is one, the attempt to forget: id and attempt, queue
-- Removes a started job. Then pops, of the tenant that is first in line, the oldest execution among those of its
-- highest priority, and claims the execution; an id that is no longer queued is skipped. An execution's priority rises
-- by one for each AGEING_SECONDS of its age; executions of an API key at its quota are held. Keeps each bell at most as
-- long as its queues, and empty if no tenant could be served. Malformed names of tenants, queues that are no lists and
-- unknown ids are skipped and removed.
-- Returns {queue, id, attempt, specification, seal, seconds since it was created} or nothing.
local queues = KEYS[1]
local worker, seconds, queue_prefix, registry_prefix = unpack(ARGV, 1, 4)
local most, n = tonumber(ARGV[5]), tonumber(ARGV[6])
local beyond = most == 0 and 2^40 or math.huge
local offered = {unpack(ARGV, 7, 6 + n)}
local kinds = {unpack(ARGV, 8 + n, 7 + n + ARGV[7 + n])}
local done = 8 + n + #kinds
local function queue(name) return queue_prefix .. name end
local function registry(name) return registry_prefix .. name end

-- A tenant with a weight is among those with the fewest executions although some run; a spare slot skips that tenant.
local MOST_SKIPPED = 32
local function first_of(line, spare)
  local firsts = redis.call('ZRANGE', line, 0, spare and MOST_SKIPPED - 1 or 0, 'WITHSCORES')
  for i = 1, #firsts, 2 do
    local active = spare and tonumber(redis.call('HGET', tenant_counters_key(firsts[i]), 'active')) or 0
    if active <= 0 then return firsts[i], tonumber(firsts[i + 1]) end
  end
end

local function next_tenant()
  local tenant, best
  for _, lane in ipairs(offered) do
    local line = line_key(lane)
    local first, at = first_of(line, most == 0)
    while first and not string.match(first, '^[a-z0-9][a-z0-9._-]*$') do
      redis.call('ZREM', line, first)
      first, at = first_of(line, most == 0)
    end
    if at and at < (best or beyond) then tenant, best = first, at end
  end
  return tenant
end

local function pop_of(tenant)
  local now, id, from, found, rank, oldest, lengths = clock(), nil, nil, {}, nil, nil, {}
  for i, kind in ipairs(kinds) do
    local name = tenant .. ':' .. kind
    local heads = redis.pcall('LRANGE', queue(name), 0, 1)
    if heads.err then
      redis.call('DEL', queue(name))
      heads = {}
    end
    lengths[name] = #heads
    local head = heads[1]
    if head then
      local read = found_of(head)
      local since = tonumber(read[8] or '') or 0
      local risen = math.max(0, math.floor((i - 1) / n) - math.floor(math.max(0, now - since) / AGEING_SECONDS))
      if not id or risen < rank or (risen == rank and since < oldest) then
        id, from, found, rank, oldest = head, name, read, risen, since
      end
    end
  end
  if id then
    redis.call('LPOP', queue(from))
    lengths[from] = lengths[from] - 1
  end
  return id, from, found, lengths
end

local function is_id(id) return #id == 32 and not string.find(id, '[^0-9a-f]') end

local function leave_lines(tenant, lengths)  -- none, one or more ids on each queue
  for lane = 1, n do
    local left = 0
    for i = lane, #kinds, n do left = left + lengths[tenant .. ':' .. kinds[i]] end
    if left == 0 then redis.call('ZREM', line_key(offered[lane]), tenant) end
  end
end

local MOST_HELD = 100  -- in one step
if ARGV[done] then
  local begun, from = unpack(ARGV, done)
  if redis.call('EXISTS', HOLDING) == 1 then
    local key = redis.call('HGET', execution_key(string.match(begun, '^[^:]*')), 'key')
    if key and redis.call('SISMEMBER', HOLDING, key) == 1 then release(key, queues) end
  end
  redis.call('ZREM', registry(from), begun)
  retire(queues, queue(from), registry(from))
end
local taken, held = nil, 0
while n > 0 and not taken and held < MOST_HELD do
  local tenant = next_tenant()
  if not tenant then break end
  local id, from, found, lengths = pop_of(tenant)
  leave_lines(tenant, lengths)
  local key = found[6] or ''
  local counters = found[1] == 'queued' and key ~= '' and counters_of(key_counters_key(key), clock())
  if counters and counters.running and counters.active >= counters.running then
    hold(key, id)
    held = held + 1
    retire(queues, queue(from), registry(from))
  elseif found[1] == 'queued' and is_id(id) and string.match(found[2], '^%d+$') then
    local waited = math.max(0, clock() - (tonumber(found[8] or '') or clock()))
    local sealed = redis.call('HMGET', execution_key(id), 'spec', 'signature')
    advance(id, found, 'starting', '', {'worker', worker}, 0, nil, nil, counters)
    redis.call('ZADD', registry(from), string.format('%.6f', clock() + seconds), id .. ':' .. found[2])
    taken = {from, id, found[2], sealed[1], sealed[2], string.format('%.6f', waited)}
  elseif id then
    retire(queues, queue(from), registry(from))
  end
end
if held == MOST_HELD then  -- another slot continues
  for _, lane in ipairs(offered) do ring(lane, 0) end
end
for _, lane in ipairs(offered) do
  local line = line_key(lane)
  local _, at = first_of(line)
  local _, spare_at = nil, at
  if at and at < 2^40 then _, spare_at = first_of(line, true) end
  for name, is_due in pairs({
    [bell_key(lane)] = at and at < math.huge or false,
    [spare_bell_key(lane)] = spare_at and spare_at < 2^40 or false,
  }) do
    if is_due then redis.call('LTRIM', name, 0, redis.call('ZCARD', QUEUED) - 1) else redis.call('DEL', name) end
  end
end
return taken
