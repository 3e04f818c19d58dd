#!lua flags=allow-oom
-- requires: tenants, api_keys
-- ARGV: tenant
-- Removes the keys and service accounts of a tenant that is being deleted, and the tenant itself once it has no
-- executions. Its entries in the audit log, its security events and its usage stay until they are too old.
-- Returns whether the tenant is gone.
local tenant = ARGV[1]
if state_of(tenant) ~= 'x' then
  redis.call('SREM', TENANTS_DELETING, tenant)
  return 1
end
for _, id in ipairs(redis.call('SMEMBERS', tenant_keys_key(tenant))) do forget_key(id, tenant) end
redis.call('DEL', service_accounts_key(tenant), tenant_keys_key(tenant))
if redis.call('EXISTS', tenant_index_key(tenant)) == 1 then return 0 end
redis.call(
  'DEL', tenant_counters_key(tenant), tenant_room_key(tenant), tenant_calls_key(tenant), tool_shapes_key(tenant),
  tool_shapes_version_key(tenant), tool_history_key(tenant), tool_catalogues_version_key(tenant)
)
redis.call('HDEL', TURNS, tenant)
redis.call('HDEL', QUOTAS, 't' .. tenant)
redis.call('HDEL', TENANTS, tenant)
redis.call('SREM', TENANTS_DELETING, tenant)
return 1
