-- Removes an API key and its quotas. What its executions use stays counted until they are deleted.
local function forget_key(id, tenant)
  local digest = redis.call('HGET', API_KEY_DIGESTS, id)
  if not digest then return false end
  redis.call('DEL', api_key_key(digest))
  for _, name in ipairs({API_KEYS, API_KEY_DIGESTS, API_KEY_USES}) do redis.call('HDEL', name, id) end
  redis.call('HDEL', QUOTAS, 'k' .. id)
  local counters = key_counters_key(id)
  if (tonumber(redis.call('HGET', counters, 'bytes')) or 0) <= 0 then redis.call('DEL', counters) end
  redis.call('SREM', tenant_keys_key(tenant), id)
  return true
end
