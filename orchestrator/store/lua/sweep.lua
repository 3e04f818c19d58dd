-- requires: states, retire
-- KEYS: all queues   ARGV: prefixes as TAKE has them
-- Forgets what a worker that died could not: attempts that are over, and the jobs of executions that have ended.
-- Whoever has just ended one forgets it, too, and finds nothing. Returns how many it forgot.
local queues = KEYS[1]
local job, begun_job, jobs_begun, queue_prefix, registry_prefix = unpack(ARGV)
local forgotten = 0
for _, queue in ipairs(redis.call('SMEMBERS', queues)) do
  local registry = registry_prefix .. string.sub(queue, #queue_prefix + 1)
  for _, begun in ipairs(redis.call('ZRANGE', registry, 0, 999)) do
    local id, attempt = string.match(begun, '^(.*):(%d+)$')
    local found = found_of(id or '')
    if CLASSES[found[1]] ~= 'active' or found[2] ~= attempt then
      redis.call('ZREM', registry, begun)
      redis.call('DEL', begun_job .. begun)
      if id then redis.call('ZREM', jobs_begun .. id, attempt) end
      if id and not CLASSES[found[1]] then redis.call('DEL', job .. id) end
      forgotten = forgotten + 1
    end
  end
  retire(queues, queue, registry)
end
return forgotten
