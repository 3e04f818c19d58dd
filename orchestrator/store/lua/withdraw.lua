-- requires: retire
-- KEYS: queue, registry of its begun jobs, all queues, job   ARGV: id
-- Takes an id off its queue.
local queue, registry, queues, job = unpack(KEYS)
redis.call('LREM', queue, 1, ARGV[1])
redis.call('DEL', job)
retire(queues, queue, registry)
