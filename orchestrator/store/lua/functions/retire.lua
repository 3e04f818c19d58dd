-- Removes a queue without queued and running jobs from RQ's list.
local function retire(queues, queue, registry)
  if redis.call('EXISTS', queue, registry) == 0 then redis.call('SREM', queues, queue) end
end
