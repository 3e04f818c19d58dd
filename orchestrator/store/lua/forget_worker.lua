-- KEYS: worker, workers   ARGV: worker
-- Forgets a worker whose lease ran out, unless it is back by now.
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('SREM', KEYS[2], ARGV[1]) end
