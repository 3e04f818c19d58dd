#!lua
-- requires: audit, tenants
-- KEYS: hash   ARGV: name, the stored record that the caller knows or '', its replacement, most records, the tenant
-- that it belongs to or '' for a tenant, entry of the audit log
-- Creates or replaces a record of a tenant or a service account. Returns 'ok', or why nothing was done.
local hash = KEYS[1]
local name, before, after, most, tenant, entry = unpack(ARGV)
if (redis.call('HGET', hash, name) or '') ~= before then return 'changed' end
if before == '' and redis.call('HLEN', hash) >= tonumber(most) then return 'full' end
if tenant ~= '' and (state_of(tenant) == '' or state_of(tenant) == 'x') then return 'tenant' end
redis.call('HSET', hash, name, after)
if tenant == '' and string.sub(after, 1, 1) == 'x' then redis.call('SADD', TENANTS_DELETING, name) end
audit(entry)
return 'ok'
