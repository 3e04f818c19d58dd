#!lua
-- requires: audit
-- KEYS: [the remembered request]
-- ARGV: id, name, the user's JSON, its password's hash, the request, seconds to remember it, entry of the audit log
-- Returns nothing; {1, the remembered request} for the same Idempotency-Key, {0} for a name in use: then nothing was
-- written.
local id, name, stored, hash, request, seconds, entry = unpack(ARGV)
if KEYS[1] then
  local seen = redis.call('GET', KEYS[1])
  if seen then return {1, seen} end
end
if redis.call('HSETNX', USER_NAMES, name, id) == 0 then return {0} end
if KEYS[1] then redis.call('SET', KEYS[1], request, 'EX', seconds) end
redis.call('HSET', USERS, id, stored)
redis.call('HSET', USER_PASSWORDS, id, hash)
audit(entry)
return nil
