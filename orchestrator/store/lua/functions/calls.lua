-- requires: clock
-- The end of a call, and the bells of processes. A bell has at most one token: the token only shows that there is work.
local function ring(process)
  local bell = tool_bell_key(process)
  if redis.call('LLEN', bell) == 0 then
    redis.call('RPUSH', bell, 1)
    redis.call('EXPIRE', bell, SETTLED_SECONDS)
  end
end

local function finish(id, found, result, failure)
  -- found: reply_to, execution, attempt, broker or false
  local call, answers = tool_call_key(id), tool_answers_key(found[1])
  redis.call('HDEL', call, 'arguments')
  redis.call('HSET', call, 'state', 'settled', 'result', result, 'failure', failure)
  redis.call('RPUSH', answers, id)
  redis.call('EXPIRE', answers, SETTLED_SECONDS)
  ring(found[1])
  if found[2] ~= '' then redis.call('SREM', tool_calls_of_key(found[2] .. ':' .. found[3]), id) end
  if found[4] then redis.call('SREM', tool_taken_key(found[4]), id) end
end
