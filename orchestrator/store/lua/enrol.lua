-- KEYS: all queues   ARGV: worker's key, seconds, prefixes of a queue and of the set of its workers, isolations…
-- Has RQ's tools find a worker by each queue that it serves, which is how they look for workers: those of tenants come
-- and go. Of many queues it takes some each time, and gets to all of them within the seconds.
local worker, seconds, queue_prefix, workers_prefix = unpack(ARGV, 1, 4)
local offered = {}
for i = 5, #ARGV do offered[ARGV[i]] = true end
for _, queue in ipairs(redis.call('SRANDMEMBER', KEYS[1], 100)) do
  local name = string.sub(queue, #queue_prefix + 1)
  if offered[string.match(name, ':%a+%-(%a+)$') or 'standard'] then
    redis.call('SADD', workers_prefix .. name, worker)
    redis.call('EXPIRE', workers_prefix .. name, seconds)
  end
end
