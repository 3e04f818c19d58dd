-- The place of a tenant in the lines of tenants with queued executions. First: the tenant with the fewest executions on
-- workers for its weight, among equals the tenant that has waited longest for a turn; so a tenant's wait depends
-- neither on others' queues nor on the length of their programs. A turn of a tenant with a weight is as many
-- executions. A score is exact: 12 bits for the executions and 40 for the turn. A tenant with as many executions on
-- workers as its quota allows is behind all others, and not served. The functions take the tenant's counters where the
-- caller knows them.
local function known(tenant)
  local found = redis.call('HMGET', tenant_counters_key(tenant), 'active', 'running', 'weight')
  return {active = tonumber(found[1]) or 0, running = tonumber(found[2]), weight = tonumber(found[3])}
end

local function place(tenant, counters, turn)
  if counters.running and counters.active >= counters.running then return math.huge end
  turn = turn or tonumber(redis.call('HGET', TURNS, tenant) or 0)
  local rank = math.floor(counters.active / math.max(1, counters.weight or 1))
  return math.max(0, math.min(rank, 4095)) * 2^40 + turn
end

local function ring(lane, at)
  redis.call('RPUSH', bell_key(lane), 1)
  if at < 2^40 then redis.call('RPUSH', spare_bell_key(lane), 1) end
end

local function move(tenant, counters, turn)
  counters = counters or known(tenant)
  local at = place(tenant, counters, turn)
  for _, lane in ipairs(LANES) do
    local line = line_key(lane)
    if counters.running and at < math.huge and redis.call('ZSCORE', line, tenant) == 'inf' then ring(lane, at) end
    redis.call('ZADD', line, 'XX', at, tenant)
  end
end

local function line_up(tenant, lane, rings, counters)
  local at = place(tenant, counters or known(tenant))
  redis.call('ZADD', line_key(lane), at, tenant)
  if rings then ring(lane, at) end
end

-- A turn begins with the first of its executions, so that a newcomer is served right behind that. Returns the number of
-- a turn that begins.
local function take_turn(tenant, weight)
  if weight and weight > 1 then
    local counters = tenant_counters_key(tenant)
    local served = redis.call('HINCRBY', counters, 'served', 1)
    if served >= weight then redis.call('HSET', counters, 'served', 0) end
    if served ~= 1 then return end
  end
  local turn = redis.call('INCR', TURN)
  redis.call('HSET', TURNS, tenant, turn)
  return turn
end
