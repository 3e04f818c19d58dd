#!lua flags=allow-oom
-- KEYS: worker, workers, its drain   ARGV: worker, its status, milliseconds of its lease, its version,
-- '1' if it drains, milliseconds that the request is kept, its level
-- A heartbeat; replaces a malformed key. The last request to drain, or to end the drain, survives the loss of the
-- lease; where Redis has lost the request, too, the worker repeats it. Returns {1 if the lease still existed, 1 if the
-- worker must drain}.
local worker, workers, request = unpack(KEYS)
local id, status, lease, version, drains, kept, level = unpack(ARGV)
if redis.call('TYPE', worker).ok ~= 'hash' then redis.call('DEL', worker) end
if redis.call('TYPE', workers).ok ~= 'set' then redis.call('DEL', workers) end
if redis.call('TYPE', request).ok ~= 'string' then redis.call('DEL', request) end
local known = redis.call('EXISTS', worker)
redis.call('HSET', worker, 'status', status, 'lease', lease, 'version', version, 'level', level)
if known == 0 and (redis.call('GET', request) or drains) == '1' then redis.call('HSET', worker, 'drain', 1) end
redis.call('PEXPIRE', request, kept)
redis.call('PEXPIRE', worker, lease)
redis.call('SADD', workers, id)
return {known, redis.call('HEXISTS', worker, 'drain')}
