#!lua
-- requires: audit, tenants, api_keys
-- KEYS: the new key's digest, [the remembered request]
-- ARGV: id, the key's JSON, its digest, milliseconds to its expiry or '', the request, seconds to remember it, tenant,
-- service account or '', most keys of a tenant, quotas or '', entry of the audit log
-- Returns {'ok'}; {'seen', request} with the remembered request of the same Idempotency-Key; or why there is no key.
local digest_key, remembered = unpack(KEYS)
local id, stored, digest, expiry, request, seconds, tenant, account, most, quotas, entry = unpack(ARGV)
if remembered then
  local seen = redis.call('GET', remembered)
  if seen then return {'seen', seen} end
end
local state, own = state_of(tenant), tenant_keys_key(tenant)
if state == '' or state == 'x' then return {'tenant'} end
if account ~= '' and redis.call('HEXISTS', service_accounts_key(tenant), account) == 0 then return {'account'} end
if redis.call('SCARD', own) >= tonumber(most) then
  for _, one in ipairs(redis.call('SMEMBERS', own)) do
    local of = redis.call('HGET', API_KEY_DIGESTS, one)
    if not of or redis.call('EXISTS', api_key_key(of)) == 0 then forget_key(one, tenant) end  -- it has expired
  end
  if redis.call('SCARD', own) >= tonumber(most) then return {'full'} end
end
if remembered then redis.call('SET', remembered, request, 'EX', seconds) end
redis.call('HSET', API_KEYS, id, stored)
redis.call('HSET', API_KEY_DIGESTS, id, digest)
redis.call('SADD', own, id)
redis.call('SET', digest_key, id .. ' ' .. tenant .. ' ' .. account)
if expiry ~= '' then redis.call('PEXPIRE', digest_key, expiry) end
if quotas ~= '' then redis.call('HSET', QUOTAS, 'k' .. id, quotas) end
audit(entry)
return {'ok'}
