-- requires: audit
-- KEYS: worker, its drain   ARGV: '1' to drain, '0' to end the drain; audit entry; seconds that the request is kept
-- Requests the start or the end of a worker's drain; 0 if the worker is not alive.
local worker, request = unpack(KEYS)
local wanted, entry, kept = unpack(ARGV)
if redis.call('EXISTS', worker) == 0 then return 0 end
if wanted == '1' then redis.call('HSET', worker, 'drain', 1) else redis.call('HDEL', worker, 'drain') end
redis.call('SET', request, wanted, 'EX', kept)
audit(entry)
return 1
