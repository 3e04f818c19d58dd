-- The bytes of a tenant's catalogues and of the history of their changes, measured anew with each change of them.
local function weigh_catalogues(tenant)
  local catalogues, bytes = tool_catalogues_key(tenant), 0
  for _, server in ipairs(redis.call('HKEYS', catalogues)) do
    bytes = bytes + redis.call('HSTRLEN', catalogues, server)
  end
  bytes = bytes + (redis.call('MEMORY', 'USAGE', tool_history_key(tenant), 'SAMPLES', 0) or 0)
  redis.call('SET', tenant_catalogues_key(tenant), bytes)
end
