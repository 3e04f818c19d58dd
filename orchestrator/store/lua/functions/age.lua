-- The time of an execution's creation, 0 for an unknown id. Queues are in this order.
local function age_of(id)
  local created = redis.pcall('HGET', execution_key(id), 'created_at')
  return type(created) == 'string' and tonumber(created) or 0
end
