-- requires: retire
-- KEYS: queue, registry of its begun jobs, all queues   ARGV: id
-- Removes an id from its queue.
local queue, registry, queues = unpack(KEYS)
local id = ARGV[1]
redis.call('LREM', queue, 1, id)
retire(queues, queue, registry)
