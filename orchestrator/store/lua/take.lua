#!lua
-- requires: states, age, retire
-- KEYS: all queues
-- ARGV: worker, seconds after which a begun job is taken for lost, prefixes of the keys of a queue, and of the registry
-- of its begun jobs; the most executions that a tenant may have with workers to be served; number n of isolations,
-- isolations, number of kinds of queue, for each priority, highest first, n kinds (in the isolations' order); then, if
-- there is one, what to forget: id and attempt, queue
-- Removes a started job. Then pops, of the tenant that is first in line, the oldest execution among those of its
-- highest priority, and claims the execution; an id that is no longer queued is skipped. Keeps each bell
-- at most as long as its queues, and empty if no tenant could be served. Malformed names of tenants, queues
-- that are no lists and unknown ids are skipped and removed. Returns {queue, id, attempt,
-- specification, seal, seconds since it was created} or nothing.
local queues = KEYS[1]
local worker, seconds, queue_prefix, registry_prefix = unpack(ARGV, 1, 4)
local most, n = tonumber(ARGV[5]), tonumber(ARGV[6])
local beyond = (most + 1) * 2^40
local offered = {unpack(ARGV, 7, 6 + n)}
local kinds = {unpack(ARGV, 8 + n, 7 + n + ARGV[7 + n])}
local done = 8 + n + #kinds
local function queue(name) return queue_prefix .. name end
local function registry(name) return registry_prefix .. name end

local function next_tenant()
  local tenant, best
  for _, isolation in ipairs(offered) do
    local line = line_key(isolation)
    local first = redis.call('ZRANGE', line, 0, 0, 'WITHSCORES')
    while first[1] and not string.match(first[1], '^[a-z0-9][a-z0-9._-]*$') do
      redis.call('ZREM', line, first[1])
      first = redis.call('ZRANGE', line, 0, 0, 'WITHSCORES')
    end
    local at = tonumber(first[2])
    if at and at < (best or beyond) then tenant, best = first[1], at end
  end
  return tenant
end

local function pop_of(tenant)
  for first = 1, #kinds, n do
    local id, from, oldest
    for i = first, first + n - 1 do
      local name = tenant .. ':' .. kinds[i]
      local head = redis.pcall('LINDEX', queue(name), 0)
      if type(head) == 'table' then
        redis.call('DEL', queue(name))
        head = false
      end
      local since = head and age_of(head)
      if head and (not oldest or since < oldest) then oldest, id, from = since, head, name end
    end
    if id then
      redis.call('LPOP', queue(from))
      return id, from
    end
  end
end

local function leave_lines(tenant)
  for tier = 1, n do
    local queues = {}
    for i = tier, #kinds, n do queues[#queues + 1] = queue(tenant .. ':' .. kinds[i]) end
    if redis.call('EXISTS', unpack(queues)) == 0 then redis.call('ZREM', line_key(offered[tier]), tenant) end
  end
end

if ARGV[done] then
  local begun, from = unpack(ARGV, done)
  redis.call('ZREM', registry(from), begun)
  retire(queues, queue(from), registry(from))
end
local taken
while n > 0 and not taken do
  local tenant = next_tenant()
  if not tenant then break end
  local id, from = pop_of(tenant)
  leave_lines(tenant)
  local found = id and found_of(id) or {}
  if found[1] == 'queued' and #id == 32 and not string.find(id, '[^0-9a-f]') and string.match(found[2], '^%d+$') then
    local attempt = advance(id, found, 'starting', 0, '', {'worker', worker})
    redis.call('ZADD', registry(from), string.format('%.6f', clock() + seconds), id .. ':' .. attempt)
    local sealed = redis.call('HMGET', execution_key(id), 'spec', 'signature', 'created_at')
    local waited = math.max(0, clock() - (tonumber(sealed[3]) or clock()))
    taken = {from, id, attempt, sealed[1], sealed[2], string.format('%.6f', waited)}
  elseif id then
    retire(queues, queue(from), registry(from))
  end
end
for _, isolation in ipairs(offered) do
  local bell, first = bell_key(isolation), redis.call('ZRANGE', line_key(isolation), 0, 0, 'WITHSCORES')
  for name, from in pairs({[bell] = 2^52, [bell .. ':spare'] = 2^40}) do
    if first[1] and tonumber(first[2]) < from then
      redis.call('LTRIM', name, 0, redis.call('ZCARD', QUEUED) - 1)
    else
      redis.call('DEL', name)
    end
  end
end
return taken
