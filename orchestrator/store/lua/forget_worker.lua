-- KEYS: worker, workers   ARGV: worker
-- Removes a worker whose lease has expired, unless it has returned.
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('SREM', KEYS[2], ARGV[1]) end
