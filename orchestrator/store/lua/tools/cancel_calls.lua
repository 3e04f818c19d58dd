#!lua flags=allow-oom
-- requires: calls
-- ARGV: execution:attempt or '', ids of calls
-- Cancels these calls, and all open calls of an attempt: waiting calls are dropped, and the brokers of taken calls are
-- woken. No process reads their outcomes. Returns the number of cancelled calls.
local attempt = ARGV[1]
local ids, cancelled = {unpack(ARGV, 2)}, 0
if attempt ~= '' then
  for _, id in ipairs(redis.call('SMEMBERS', tool_calls_of_key(attempt))) do ids[#ids + 1] = id end
end
for _, id in ipairs(ids) do
  local call = tool_call_key(id)
  local found = redis.call('HMGET', call, 'state', 'upstream', 'broker', 'execution', 'attempt')
  local state, upstream, broker = found[1], found[2], found[3]
  if state == 'waiting' then redis.call('LREM', tool_waiting_key(upstream), 1, id) end
  if state == 'taken' then
    redis.call('SREM', tool_taken_key(broker), id)
    redis.call('RPUSH', tool_cancelled_key(broker), id)
    redis.call('EXPIRE', tool_cancelled_key(broker), SETTLED_SECONDS)
    ring(broker)
  end
  if state then
    redis.call('HSET', call, 'state', 'cancelled')
    redis.call('HDEL', call, 'arguments', 'result', 'failure')
    if found[4] ~= '' then redis.call('SREM', tool_calls_of_key(found[4] .. ':' .. found[5]), id) end
  end
  if state == 'waiting' or state == 'taken' then cancelled = cancelled + 1 end
end
return cancelled
