#!lua flags=allow-oom
-- requires: lines, place
-- KEYS: queued, all queues   ARGV: ids…
-- Puts queued executions that are on no queue and not held back on their queue, and their tenants in line; ids of other
-- states, or without a record, are removed; a record without a queue stays until its time in the queue is over. Each
-- gets its place by age, before all that were created later. Consecutive ids should be of similar age: then they are
-- adjacent, and only the first is searched for. Returns the number of requeued executions.
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
  local found = redis.pcall('HMGET', execution_key(id), 'state', 'tenant', 'isolation', 'queue', 'key')
  local state, tenant, lane, queue, key = unpack(found.err and {} or found)
  if state ~= 'queued' then
    redis.call('ZREM', queued, id)
  elseif tenant and lane and queue and not (key and key ~= '' and redis.call('ZSCORE', key_held_key(key), id)) then
    if not stands(queue, id) then
      insert(queue, id)
      redis.call('SADD', queues, queue)
      line_up(tenant, lane, true)
      back = back + 1
    else
      line_up(tenant, lane)
    end
  end
end
return back
