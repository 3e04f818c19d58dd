#!lua
-- requires: calls, room_left
-- ARGV: broker, share of `maxmemory`, then triples of id, result, failure
-- Settles calls that the broker has taken. Returns for each 1, 0 if it is no longer the broker's, or 2 if Redis has no
-- room for the result.
local broker, share = unpack(ARGV, 1, 2)
local answer, left = {}, nil
for i = 3, #ARGV, 3 do
  local id, result, failure = unpack(ARGV, i, i + 2)
  local found = redis.call('HMGET', tool_call_key(id), 'reply_to', 'execution', 'attempt', 'broker', 'state')
  local settled = 1
  if found[5] ~= 'taken' or found[4] ~= broker then
    settled = 0
    redis.call('SREM', tool_taken_key(broker), id)
  elseif result ~= '' then
    left = left or left_bytes(share)
    if #result > left then
      settled = 2
    else
      take_room(left, #result)
      left = left - 1.25 * #result
    end
  end
  if settled == 1 then finish(id, found, result, failure) end
  answer[#answer + 1] = settled
end
return answer
