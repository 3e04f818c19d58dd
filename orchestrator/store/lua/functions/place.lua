-- requires: age
-- Puts an id on its queue, before all that were created later.
local function insert(queue, id)
  local age, first, behind = age_of(id), 0, redis.call('LLEN', queue)
  while first < behind do
    local middle = math.floor((first + behind) / 2)
    if age_of(redis.call('LINDEX', queue, middle)) <= age then first = middle + 1 else behind = middle end
  end
  local next = redis.call('LINDEX', queue, first)
  if next then redis.call('LINSERT', queue, 'BEFORE', next, id) else redis.call('RPUSH', queue, id) end
end
