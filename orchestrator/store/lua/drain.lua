-- requires: audit
-- KEYS: worker   ARGV: '1' to drain, '0' to end the drain; audit entry
-- Requests the start or the end of a worker's drain; 0 if the worker is not alive.
local worker, wanted, entry = KEYS[1], ARGV[1], ARGV[2]
if redis.call('EXISTS', worker) == 0 then return 0 end
if wanted == '1' then redis.call('HSET', worker, 'drain', 1) else redis.call('HDEL', worker, 'drain') end
audit(entry)
return 1
