#!lua flags=allow-oom
-- requires: clock
-- KEYS: the tenant's running calls   ARGV: call, execution or '' for a cancellation, seconds, most calls
-- Joins a call and its cancellation in either order: the first is kept, the second takes it. Returns the execution to
-- cancel; '' when the other part has not come, or there is no room.
local calls = KEYS[1]
local call, execution, seconds, most = unpack(ARGV)
local now = clock()
local found = redis.call('HGET', calls, call)
if found then
  local ends, known = string.match(found, '^(%d+) (.*)$')
  if tonumber(ends) > now and (known == '') ~= (execution == '') then
    redis.call('HDEL', calls, call)
    return known .. execution
  end
elseif redis.call('HLEN', calls) >= tonumber(most) then
  local all = redis.call('HGETALL', calls)
  for at = 1, #all, 2 do
    if tonumber(string.match(all[at + 1], '^%d+')) <= now then redis.call('HDEL', calls, all[at]) end
  end
  if redis.call('HLEN', calls) >= tonumber(most) then return '' end
end
redis.call('HSET', calls, call, string.format('%d %s', math.ceil(now + seconds), execution))
if redis.call('TTL', calls) < tonumber(seconds) then redis.call('EXPIRE', calls, math.ceil(seconds)) end
return ''
