#!lua flags=allow-oom
-- requires: tenants
-- KEYS: the key's digest   ARGV: seconds in which a use is noted once
-- Returns the stored key with that digest, the letter of its tenant's state, and the record of the service account that
-- owns it or ''; or nothing. Notes the key's use.
local digest_key, seconds = KEYS[1], tonumber(ARGV[1])
local id, tenant, account = string.match(redis.call('GET', digest_key) or '', '^(%S+) (%S+) (%S*)$')
if not id then return nil end
local now = redis.call('TIME')[1]
if now - (redis.call('HGET', API_KEY_USES, id) or 0) >= seconds then
  redis.call('HSET', API_KEY_USES, id, now)
end
local owner = account ~= '' and redis.call('HGET', service_accounts_key(tenant), account) or ''
return {redis.call('HGET', API_KEYS, id) or '', state_of(tenant), owner}
