-- requires: classes, lines
-- Sets right what tenants' counters say, by the records that are queued and with workers; nothing but a loss of data
-- makes them differ. Returns how many were wrong. It looks at every queued execution: for once in many minutes.
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
