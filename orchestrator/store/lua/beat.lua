#!lua flags=allow-oom
-- KEYS: worker, workers   ARGV: worker, what it says, milliseconds of its lease
-- A heartbeat, which replaces what no worker has written. Returns {1 if the lease was there still, 1 if it is to
-- drain}.
local worker, workers = unpack(KEYS)
local id, status, lease = unpack(ARGV)
if redis.call('TYPE', worker).ok ~= 'hash' then redis.call('DEL', worker) end
if redis.call('TYPE', workers).ok ~= 'set' then redis.call('DEL', workers) end
local known = redis.call('EXISTS', worker)
redis.call('HSET', worker, 'status', status, 'lease', lease)
redis.call('PEXPIRE', worker, lease)
redis.call('SADD', workers, id)
return {known, redis.call('HEXISTS', worker, 'drain')}
