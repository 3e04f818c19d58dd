#!lua flags=allow-oom
-- requires: audit, tenants, api_keys, users, clock
-- ARGV: tenant, entry of the audit log, seconds for which what stays is kept
-- Removes the keys, service accounts and own users of a tenant that is being deleted, and the tenant itself once it
-- has no executions, and no backup is being made, since its files are deleted next. Its entries in the audit log, its
-- security events and its usage stay until they are too old.
-- Returns whether it removed the tenant; a tenant that is not being deleted keeps everything.
local tenant, entry, kept_seconds = unpack(ARGV)
if state_of(tenant) ~= 'x' then
  redis.call('SREM', TENANTS_DELETING, tenant)
  return 0
end
for _, id in ipairs(redis.call('SMEMBERS', tenant_keys_key(tenant))) do forget_key(id, tenant) end
redis.call('DEL', service_accounts_key(tenant), tenant_keys_key(tenant))
for _, stored in ipairs(redis.call('HVALS', USERS)) do
  local user = user_in(stored)
  if user and user.tenant == tenant then forget_user(user.id, user.name) end
end
if redis.call('EXISTS', tenant_index_key(tenant)) == 1 or redis.call('EXISTS', BACKUP) == 1 then return 0 end
redis.call(
  'DEL', tenant_counters_key(tenant), tenant_room_key(tenant), tenant_calls_key(tenant), tool_shapes_key(tenant),
  tool_shapes_version_key(tenant), tenant_shapes_key(tenant), tool_history_key(tenant),
  tool_catalogues_version_key(tenant)
)
redis.call('HDEL', TURNS, tenant)
redis.call('HDEL', QUOTAS, 't' .. tenant)
redis.call('HDEL', TENANTS, tenant)
redis.call('SREM', TENANTS_DELETING, tenant)
redis.call('ZREMRANGEBYSCORE', TENANTS_DELETED, '-inf', clock())
redis.call('ZADD', TENANTS_DELETED, clock() + kept_seconds, tenant)
audit(entry)
return 1
