-- requires: states, retire
-- KEYS: all queues   ARGV: prefixes of a queue and of the registry of its begun jobs
-- Forgets attempts that are over, which a worker that died could not. Returns how many it forgot.
local queues = KEYS[1]
local queue_prefix, registry_prefix = unpack(ARGV)
local forgotten = 0
for _, queue in ipairs(redis.call('SMEMBERS', queues)) do
  local registry = registry_prefix .. string.sub(queue, #queue_prefix + 1)
  for _, begun in ipairs(redis.call('ZRANGE', registry, 0, 999)) do
    local id, attempt = string.match(begun, '^(.*):(%d+)$')
    local found = found_of(id or '')
    if CLASSES[found[1]] ~= 'active' or found[2] ~= attempt then
      forgotten = forgotten + redis.call('ZREM', registry, begun)
    end
  end
  retire(queues, queue, registry)
end
return forgotten
