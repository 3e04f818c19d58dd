#!lua flags=allow-oom
-- KEYS: the janitor's lease   ARGV: process, seconds
-- Takes the janitor's lease unless another process has it, or renews it. Returns whether.
local janitor = KEYS[1]
local name, seconds = unpack(ARGV)
if redis.call('TYPE', janitor).ok ~= 'string' or redis.call('TTL', janitor) < 0 then redis.call('DEL', janitor) end
local leads = redis.call('GET', janitor)
if leads and leads ~= name then return 0 end
redis.call('SET', janitor, name, 'EX', seconds)
return 1
