-- requires: classes, lines
-- Corrects the counters of tenants and API keys by the queued and active records; only a loss of data
-- makes them differ. Returns the number of wrong counters. Reads every queued execution, so call it seldom.
local tenants, keys, wrong = {}, {admin = {}}, 0
for _, tenant in ipairs(redis.call('HKEYS', TURNS)) do tenants[tenant] = {} end
for _, key in ipairs(redis.call('HKEYS', API_KEYS)) do keys[key] = {} end
local function add(counts, name, class, reserved)
  if not name or name == '' then return end
  counts[name] = counts[name] or {}
  counts[name][class] = (counts[name][class] or 0) + 1
  counts[name].reserved = (counts[name].reserved or 0) + reserved
end
for _, class in ipairs({'queued', 'active'}) do
  for _, id in ipairs(redis.call('ZRANGE', KEY_OF_CLASS[class], 0, -1)) do
    local found = redis.call('HMGET', execution_key(id), 'tenant', 'key', 'reserved')
    add(tenants, found[1], class, tonumber(found[3]) or 0)
    add(keys, found[2], class, tonumber(found[3]) or 0)
  end
end
local function correct(name, counted)
  local found = redis.call('HMGET', name, 'queued', 'active', 'reserved')
  for i, class in ipairs({'queued', 'active', 'reserved'}) do
    local right = counted[class] or 0
    if (tonumber(found[i]) or 0) ~= right then
      redis.call('HSET', name, class, right)
      wrong = wrong + 1
    end
  end
end
for tenant, counted in pairs(tenants) do
  correct(tenant_counters_key(tenant), counted)
  move(tenant)
end
for key, counted in pairs(keys) do correct(key_counters_key(key), counted) end
return wrong
