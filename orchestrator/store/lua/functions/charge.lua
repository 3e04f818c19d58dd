-- Charges bytes of Redis to a record, its tenant and its API key ('' for none), and checks the tenant's share. See
-- `accounting.py`.
local function charge(record, tenant, key, bytes)
  redis.call('HINCRBY', record, 'bytes', bytes)
  redis.call('HINCRBY', tenant_room_key(tenant), 'bytes', bytes)
  if key and key ~= '' then redis.call('HINCRBY', key_counters_key(key), 'bytes', bytes) end
end

-- The bytes of a tenant's executions, of its catalogues of tools, and of the shapes of its tools' results.
local function bytes_of(tenant)
  local bytes = tonumber(redis.call('HGET', tenant_room_key(tenant), 'bytes')) or 0
  for _, other in ipairs(redis.call('MGET', tenant_catalogues_key(tenant), tenant_shapes_key(tenant))) do
    bytes = bytes + (tonumber(other) or 0)
  end
  return bytes
end

-- The bytes that a tenant may have: its share of the share of `maxmemory` that may be filled.
local function share_of(share, tenant_share)
  local maxmemory = string.match(redis.call('INFO', 'memory'), '\nmaxmemory:(%d+)')
  return maxmemory == '0' and math.huge or tenant_share * share * maxmemory
end

local function has_room(tenant, bytes)
  local most = redis.call('HGET', tenant_room_key(tenant), 'most')
  return not most or bytes_of(tenant) + bytes <= tonumber(most)
end

-- The same for bytes of files that are removed with the execution.
local function charge_files(record, tenant, key, bytes)
  redis.call('HINCRBY', record, 'files', bytes)
  redis.call('HINCRBY', tenant_room_key(tenant), 'files', bytes)
  if key and key ~= '' then redis.call('HINCRBY', key_counters_key(key), 'files', bytes) end
end
