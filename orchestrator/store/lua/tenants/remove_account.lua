#!lua flags=allow-oom
-- requires: audit, api_keys
-- ARGV: tenant, service account, entry of the audit log
-- Removes a service account and its keys; 0 if there is no such account.
local tenant, account, entry = unpack(ARGV)
if redis.call('HDEL', service_accounts_key(tenant), account) == 0 then return 0 end
for _, id in ipairs(redis.call('SMEMBERS', tenant_keys_key(tenant))) do
  local digest = redis.call('HGET', API_KEY_DIGESTS, id)
  local owner = digest and redis.call('GET', api_key_key(digest))
  if not owner or string.match(owner, ' (%S*)$') == account then forget_key(id, tenant) end
end
audit(entry)
return 1
