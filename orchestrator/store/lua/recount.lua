-- requires: classes, lines
-- Corrects tenants' counters by the queued and active records; only a loss of data
-- makes them differ. Returns the number of wrong counters. Reads every queued execution, so call it seldom.
local counts, wrong = {}, 0
for _, tenant in ipairs(redis.call('HKEYS', TURNS)) do counts[tenant] = {} end
for _, class in ipairs({'queued', 'active'}) do
  for _, id in ipairs(redis.call('ZRANGE', KEY_OF_CLASS[class], 0, -1)) do
    local tenant = redis.call('HGET', execution_key(id), 'tenant')
    if tenant then
      counts[tenant] = counts[tenant] or {}
      counts[tenant][class] = (counts[tenant][class] or 0) + 1
    end
  end
end
for tenant, counted in pairs(counts) do
  local counters = tenant_counters_key(tenant)
  for _, class in ipairs({'queued', 'active'}) do
    local right = counted[class] or 0
    if tonumber(redis.call('HGET', counters, class) or 0) ~= right then
      redis.call('HSET', counters, class, right)
      wrong = wrong + 1
    end
  end
  move(tenant)
end
return wrong
