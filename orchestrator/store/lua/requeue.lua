#!lua flags=allow-oom
-- requires: lines, age
-- KEYS: queued, all queues   ARGV: ids…
-- Puts queued executions that are on no queue back on their queue, and their tenants in line; ids of other states, or
-- without a record, are removed. Each gets its place by age, before all that were created later. Consecutive ids
-- should be of similar age: then they are adjacent, and only the first is searched for. Returns the number of
-- requeued executions.
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
