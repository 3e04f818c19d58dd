-- KEYS: all queues, the worker's leaving bell
-- ARGV: worker's key, seconds, prefixes of a queue and of the set of its workers, lanes…
-- Adds a worker to each queue that it serves, where RQ's tools look for workers: queues of tenants come
-- and go. Of many queues each call handles some, and all are handled within the given seconds.
-- A leaving bell that is no list was not written by Mayfly, and slots cannot wait on it.
local queues, bell = unpack(KEYS)
local worker, seconds, queue_prefix, workers_prefix = unpack(ARGV, 1, 4)
local kind = redis.call('TYPE', bell).ok
if kind ~= 'list' and kind ~= 'none' then redis.call('DEL', bell) end
local offered = {}
for i = 5, #ARGV do offered[ARGV[i]] = true end
for _, queue in ipairs(redis.call('SRANDMEMBER', queues, 100)) do
  local name = string.sub(queue, #queue_prefix + 1)
  if offered[string.match(name, ':%a+%-(.+)$') or 'standard'] then
    redis.call('SADD', workers_prefix .. name, worker)
    redis.call('EXPIRE', workers_prefix .. name, seconds)
  end
end
