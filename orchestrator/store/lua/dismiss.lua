-- KEYS: all queues   ARGV: worker's key, prefixes as ENROL has them
-- Removes a worker from all queues, where RQ's tools look for it.
local queues = KEYS[1]
local worker, queue_prefix, workers_prefix = unpack(ARGV)
for _, queue in ipairs(redis.call('SMEMBERS', queues)) do
  redis.call('SREM', workers_prefix .. string.sub(queue, #queue_prefix + 1), worker)
end
