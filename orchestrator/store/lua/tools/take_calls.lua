#!lua flags=allow-oom
-- requires: calls
-- ARGV: broker, failure of a call past its deadline, most bytes of arguments, then pairs of upstream and most calls
-- Takes waiting calls of the broker's upstreams, each at most once. Calls past their deadline are settled, and calls of
-- an attempt that no longer runs are dropped. Returns nothing if the broker has no lease, else {ids of cancelled calls,
-- upstreams of others, then for each call {id, tenant, server, tool, arguments, reply_to, seconds left, execution,
-- attempt, seal, principal or ''}}.
local broker, too_late, most_bytes = unpack(ARGV, 1, 3)
if redis.call('EXISTS', tool_broker_key(broker)) == 0 then return nil end
local bell, cancelled = tool_bell_key(broker), tool_cancelled_key(broker)
redis.call('DEL', bell)
local answer = {redis.call('LRANGE', cancelled, 0, -1), {}}
redis.call('DEL', cancelled)
local fields = {
  'state', 'tenant', 'server', 'tool', 'arguments', 'reply_to', 'deadline', 'execution', 'attempt', 'seal', 'principal',
}
local bytes, now = 0, clock()

local function take(id)
  local call = tool_call_key(id)
  local found = redis.call('HMGET', call, unpack(fields))
  if found[1] ~= 'waiting' then return 0 end
  local reply_to, execution, attempt = found[6], found[8], found[9]
  if tonumber(found[7]) <= now then
    finish(id, {reply_to, execution, attempt, false}, '', too_late)
    return 0
  end
  if execution ~= '' then
    local owner = redis.call('HMGET', execution_key(execution), 'state', 'attempt')
    if owner[1] ~= 'running' or owner[2] ~= attempt then
      redis.call('DEL', call)
      return 0
    end
  end
  redis.call('HSET', call, 'state', 'taken', 'broker', broker)
  redis.call('SADD', tool_taken_key(broker), id)
  found[1], found[11] = id, found[11] or ''
  found[7] = string.format('%.6f', found[7] - now)
  answer[#answer + 1] = found
  bytes = bytes + #found[5]
  return 1
end

for i = 4, #ARGV, 2 do
  local upstream, room = ARGV[i], tonumber(ARGV[i + 1])
  if redis.call('HGET', TOOL_OWNERS, upstream) ~= broker then
    answer[2][#answer[2] + 1] = upstream
  else
    local waiting = tool_waiting_key(upstream)
    while room > 0 do
      if bytes >= tonumber(most_bytes) then
        ring(broker)
        break
      end
      local id = redis.call('LPOP', waiting)
      if not id then break end
      room = room - take(id)
    end
  end
end
return answer
