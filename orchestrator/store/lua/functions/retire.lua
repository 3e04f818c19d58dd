-- Takes a queue on which nothing waits, and of which nothing runs, off RQ's list.
local function retire(queues, queue, registry)
  if redis.call('EXISTS', queue, registry) == 0 then redis.call('SREM', queues, queue) end
end
