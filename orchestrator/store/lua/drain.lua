-- requires: audit
-- KEYS: worker   ARGV: audit entry
-- Requests a worker's drain; 0 if the worker is not alive.
local worker, entry = KEYS[1], ARGV[1]
if redis.call('EXISTS', worker) == 0 then return 0 end
redis.call('HSET', worker, 'drain', 1)
audit(entry)
return 1
