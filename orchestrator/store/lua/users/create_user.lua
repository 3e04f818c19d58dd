#!lua
-- requires: audit, tenants
-- KEYS: [the remembered request]
-- ARGV: id, name, the user's JSON, its password's hash, the request, seconds to remember it, tenant, most users, entry
-- of the audit log
-- Returns {'ok'}; {'seen', the remembered request} for the same Idempotency-Key; or why there is no user.
local remembered = KEYS[1]
local id, name, stored, hash, request, seconds, tenant, most, entry = unpack(ARGV)
if remembered then
  local seen = redis.call('GET', remembered)
  if seen then return {'seen', seen} end
end
local state = state_of(tenant)
if state == '' or state == 'x' then return {'tenant'} end
if redis.call('HLEN', USERS) >= tonumber(most) then return {'full'} end
if redis.call('HSETNX', USER_NAMES, name, id) == 0 then return {'name'} end
if remembered then redis.call('SET', remembered, request, 'EX', seconds) end
redis.call('HSET', USERS, id, stored)
redis.call('HSET', USER_PASSWORDS, id, hash)
audit(entry)
return {'ok'}
