#!lua
-- requires: audit, lines
-- ARGV: 't' and a tenant, or 'k' and an API key, the version and the quotas of it or '' for none, its quota of running
-- executions or '', a tenant's weight or '', then the entry of the audit log
-- Replaces quotas. A tenant's next turn follows from them, and slots wake for a tenant that may now be served.
local MOST_RUNG = 100  -- slots that wake; further slots look by themselves within seconds
local whose, quotas, running, weight, entry = unpack(ARGV)
audit(entry)
if quotas == '' then redis.call('HDEL', QUOTAS, whose) else redis.call('HSET', QUOTAS, whose, quotas) end
if string.sub(whose, 1, 1) == 'k' then
  redis.call('HSET', key_counters_key(string.sub(whose, 2)), 'running', running)
else
  local tenant = string.sub(whose, 2)
  redis.call('HSET', tenant_counters_key(tenant), 'running', running, 'weight', weight)
  move(tenant)
  local counters = known(tenant)
  local at, queued = place(tenant, counters), tonumber(redis.call('HGET', tenant_counters_key(tenant), 'queued')) or 0
  local startable = math.min(queued, (counters.running or math.huge) - counters.active, MOST_RUNG)
  for _, lane in ipairs(LANES) do
    if redis.call('ZSCORE', line_key(lane), tenant) then
      for _ = 1, startable do ring(lane, at) end
    end
  end
end
