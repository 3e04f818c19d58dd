-- requires: retire
-- KEYS: queue, registry of its begun jobs, all queues   ARGV: id
-- Removes an id from its queue.
local queue, registry, queues = unpack(KEYS)
redis.call('LREM', queue, 1, ARGV[1])
retire(queues, queue, registry)
