-- requires: usage
-- The quota `tool_calls_per_day` of tenants and API keys. A quota is the owner's own, null included, or the default of
-- its kind, '' for none. Counters have the calls of the day `calls_day`.
local function call_quota(owner, default)
  local own = redis.call('HGET', QUOTAS, owner)
  if own and string.find(own, 'tool_calls_per_day', 1, true) then
    local read, quotas = pcall(cjson.decode, string.sub(own, 9))  -- behind the version
    if read and quotas.tool_calls_per_day ~= nil then return tonumber(quotas.tool_calls_per_day) end
  end
  return tonumber(default)
end

local function calls_of(counters, now)
  local found = redis.call('HMGET', counters, 'calls', 'calls_day')
  return tonumber(found[2]) == day_of(now) and tonumber(found[1]) or 0
end

-- Counts one more call of the tenant, and of the key unless it is ''.
-- Returns the owner of a used quota, and then counts nothing.
local function count_call(tenant, key, tenant_default, key_default, now)
  local owners = {{'tenant', 't' .. tenant, tenant_counters_key(tenant), tenant_default}}
  if key ~= '' then owners[2] = {'key', 'k' .. key, key_counters_key(key), key_default} end
  for _, owner in ipairs(owners) do
    local most = call_quota(owner[2], owner[4])
    owner[5] = calls_of(owner[3], now)
    if most and owner[5] >= most then return owner[1] end
  end
  for _, owner in ipairs(owners) do redis.call('HSET', owner[3], 'calls', owner[5] + 1, 'calls_day', day_of(now)) end
end
