-- requires: audit
-- KEYS: worker   ARGV: audit entry
-- Requests a worker's drain; 0 if the worker is not alive.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'drain', 1)
audit(ARGV[1])
return 1
