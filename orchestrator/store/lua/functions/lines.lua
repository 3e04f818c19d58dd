-- The place of a tenant in the lines of tenants with queued executions. First: the tenant with the fewest executions on
-- workers, among equals the tenant that has waited longest for a turn; so a tenant's wait depends neither on others'
-- queues nor on the length of their programs. A score is exact: 12 bits for the executions and 40 for the turn.
local function place(tenant)
  local active = tonumber(redis.call('HGET', tenant_counters_key(tenant), 'active') or 0)
  local turn = tonumber(redis.call('HGET', TURNS, tenant) or 0)
  return math.max(0, math.min(active, 4095)) * 2^40 + turn
end

local function move(tenant)
  local at = place(tenant)
  for _, isolation in ipairs(ISOLATIONS) do redis.call('ZADD', line_key(isolation), 'XX', at, tenant) end
end

local function line_up(tenant, isolation, ring)
  local at, bell = place(tenant), bell_key(isolation)
  redis.call('ZADD', line_key(isolation), at, tenant)
  if ring then
    redis.call('RPUSH', bell, 1)
    if at < 2^40 then redis.call('RPUSH', bell .. ':spare', 1) end
  end
end
