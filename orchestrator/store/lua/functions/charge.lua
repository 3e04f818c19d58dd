-- Charges bytes of Redis to a record, its tenant and its API key ('' for none), and checks the tenant's share. See
-- `accounting.py`.
local function charge(record, tenant, key, bytes)
  redis.call('HINCRBY', record, 'bytes', bytes)
  redis.call('HINCRBY', tenant_room_key(tenant), 'bytes', bytes)
  if key and key ~= '' then redis.call('HINCRBY', key_counters_key(key), 'bytes', bytes) end
end

local function has_room(tenant, bytes)
  local kept = redis.call('HMGET', tenant_room_key(tenant), 'bytes', 'most')
  return not kept[2] or (tonumber(kept[1]) or 0) + bytes <= tonumber(kept[2])
end

-- The same for bytes of files that are removed with the execution.
local function charge_files(record, tenant, key, bytes)
  redis.call('HINCRBY', record, 'files', bytes)
  redis.call('HINCRBY', tenant_room_key(tenant), 'files', bytes)
  if key and key ~= '' then redis.call('HINCRBY', key_counters_key(key), 'files', bytes) end
end
