#!lua flags=allow-oom
-- requires: lines, age
-- KEYS: queued, all queues   ARGV: ids…
-- Puts those that are queued and stand on no queue back on it, and their tenants in line; what is not queued, or not
-- there at all, is forgotten. Each gets its place by age, in front of all that was created later. Ids that follow
-- one another should be of the same age: then they stand side by side, and only the first is looked for. Returns how
-- many it put back.
local function insert(queue, id)
  local age, first, behind = age_of(id), 0, redis.call('LLEN', queue)
  while first < behind do
    local middle = math.floor((first + behind) / 2)
    if age_of(redis.call('LINDEX', queue, middle)) <= age then first = middle + 1 else behind = middle end
  end
  local next = redis.call('LINDEX', queue, first)
  if next then redis.call('LINSERT', queue, 'BEFORE', next, id) else redis.call('RPUSH', queue, id) end
end

local beside = {}  -- by queue, what stands where one was found
local function stands(queue, id)
  if beside[queue] and beside[queue][id] then return true end
  local at = redis.call('LPOS', queue, id)
  if at then
    beside[queue] = {}
    for _, other in ipairs(redis.call('LRANGE', queue, at, at + #ARGV)) do beside[queue][other] = true end
  end
  return at
end

local queued, queues = unpack(KEYS)
local back = 0
for _, id in ipairs(ARGV) do
  local found = redis.pcall('HMGET', execution_key(id), 'state', 'tenant', 'isolation', 'queue')
  local state, tenant, isolation, queue = unpack(found.err and {} or found)
  if state ~= 'queued' then
    redis.call('ZREM', queued, id)
  else
    if not stands(queue, id) then
      insert(queue, id)
      redis.call('SADD', queues, queue)
      line_up(tenant, isolation, true)
      back = back + 1
    else
      line_up(tenant, isolation)
    end
  end
end
return back
