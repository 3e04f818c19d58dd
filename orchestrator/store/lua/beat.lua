#!lua flags=allow-oom
-- KEYS: worker, workers   ARGV: worker, its status, milliseconds of its lease, its version, '1' if it drains, its level
-- A heartbeat; replaces a malformed key. The request to drain survives the loss of the lease: the worker
-- repeats it. Returns {1 if the lease still existed, 1 if the worker must drain}.
local worker, workers = unpack(KEYS)
local id, status, lease, version, drains, level = unpack(ARGV)
if redis.call('TYPE', worker).ok ~= 'hash' then redis.call('DEL', worker) end
if redis.call('TYPE', workers).ok ~= 'set' then redis.call('DEL', workers) end
local known = redis.call('EXISTS', worker)
redis.call('HSET', worker, 'status', status, 'lease', lease, 'version', version, 'level', level)
if known == 0 and drains == '1' then redis.call('HSET', worker, 'drain', 1) end
redis.call('PEXPIRE', worker, lease)
redis.call('SADD', workers, id)
return {known, redis.call('HEXISTS', worker, 'drain')}
