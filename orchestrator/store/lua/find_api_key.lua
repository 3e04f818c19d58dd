#!lua flags=allow-oom
-- KEYS: the key's digest, all keys, times of last use   ARGV: seconds in which a use is noted once
-- Returns the stored key with that digest, or nothing; notes its use.
local id = redis.call('GET', KEYS[1])
if not id then return nil end
local now = redis.call('TIME')[1]
if now - (redis.call('HGET', KEYS[3], id) or 0) >= tonumber(ARGV[1]) then redis.call('HSET', KEYS[3], id, now) end
return redis.call('HGET', KEYS[2], id)
