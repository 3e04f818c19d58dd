#!lua flags=allow-oom
-- KEYS: the janitor's   ARGV: who asks, seconds
-- Makes somebody the janitor unless another one is, or renews that. What never expires is none. Returns whether.
local janitor = KEYS[1]
local name, seconds = unpack(ARGV)
if redis.call('TYPE', janitor).ok ~= 'string' or redis.call('TTL', janitor) < 0 then redis.call('DEL', janitor) end
local leads = redis.call('GET', janitor)
if leads and leads ~= name then return 0 end
redis.call('SET', janitor, name, 'EX', seconds)
return 1
