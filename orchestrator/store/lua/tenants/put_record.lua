#!lua
-- requires: audit, tenants
-- KEYS: hash   ARGV: name, the stored record that the caller knows or '', its replacement, most records, the tenant
-- that it belongs to or '' for a tenant, entry of the audit log
-- Creates or replaces a record of a tenant or a service account. Returns 'ok', or why nothing was done.
local name, before, after, most, tenant, entry = unpack(ARGV)
if (redis.call('HGET', KEYS[1], name) or '') ~= before then return 'changed' end
if before == '' and redis.call('HLEN', KEYS[1]) >= tonumber(most) then return 'full' end
if tenant ~= '' and (state_of(tenant) == '' or state_of(tenant) == 'x') then return 'tenant' end
redis.call('HSET', KEYS[1], name, after)
if tenant == '' and string.sub(after, 1, 1) == 'x' then redis.call('SADD', TENANTS_DELETING, name) end
audit(entry)
return 'ok'
