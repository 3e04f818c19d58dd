#!lua flags=allow-oom
-- ARGV: process, most bytes of outcomes, ids of outcomes that the process has read
-- Frees the outcomes that were read, and returns the next: triples of id, result, failure, without removing them.
local process, most = unpack(ARGV, 1, 2)
local answers = tool_answers_key(process)
for i = 3, #ARGV do
  redis.call('LREM', answers, 1, ARGV[i])
  redis.call('HDEL', tool_call_key(ARGV[i]), 'result', 'failure')
end
redis.call('DEL', tool_bell_key(process))
local found, bytes = {}, 0
for _, id in ipairs(redis.call('LRANGE', answers, 0, 199)) do
  local outcome = redis.call('HMGET', tool_call_key(id), 'state', 'result', 'failure')
  if outcome[1] ~= 'settled' or not outcome[2] then
    redis.call('LREM', answers, 1, id)
  else
    bytes = bytes + #outcome[2]
    if #found > 0 and bytes > tonumber(most) then break end
    found[#found + 1] = {id, outcome[2], outcome[3]}
  end
end
return found
