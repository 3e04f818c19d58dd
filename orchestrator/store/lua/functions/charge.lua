-- Charges bytes of Redis to a record, its tenant and its API key ('' for none), and checks the tenant's share. See
-- `accounting.py`.
local function charge(record, tenant, key, bytes)
  redis.call('HINCRBY', record, 'bytes', bytes)
  redis.call('HINCRBY', tenant_room_key(tenant), 'bytes', bytes)
  if key and key ~= '' then redis.call('HINCRBY', key_counters_key(key), 'bytes', bytes) end
end

-- The bytes of a tenant's executions and of its catalogues of tools.
local function bytes_of(tenant)
  local executions = redis.call('HGET', tenant_room_key(tenant), 'bytes')
  return (tonumber(executions) or 0) + (tonumber(redis.call('GET', tenant_catalogues_key(tenant))) or 0)
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
