-- requires: retire
-- KEYS: queue, registry of its begun jobs, all queues   ARGV: id
-- Takes an id off its queue.
local queue, registry, queues = unpack(KEYS)
redis.call('LREM', queue, 1, ARGV[1])
retire(queues, queue, registry)
