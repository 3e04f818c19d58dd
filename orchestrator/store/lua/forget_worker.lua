-- KEYS: worker, workers   ARGV: worker
-- Removes a worker whose lease has expired, unless it has returned.
local lease, workers = unpack(KEYS)
local worker = ARGV[1]
if redis.call('EXISTS', lease) == 0 then redis.call('SREM', workers, worker) end
