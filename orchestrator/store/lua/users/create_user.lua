#!lua
-- requires: audit
-- KEYS: [the remembered request]
-- ARGV: id, name, the user's JSON, its password's hash, the request, seconds to remember it, entry of the audit log
-- Returns nothing; {1, the remembered request} for the same Idempotency-Key, {0} for a name in use: then nothing was
-- written.
local remembered = KEYS[1]
local id, name, stored, hash, request, seconds, entry = unpack(ARGV)
if remembered then
  local seen = redis.call('GET', remembered)
  if seen then return {1, seen} end
end
if redis.call('HSETNX', USER_NAMES, name, id) == 0 then return {0} end
if remembered then redis.call('SET', remembered, request, 'EX', seconds) end
redis.call('HSET', USERS, id, stored)
redis.call('HSET', USER_PASSWORDS, id, hash)
audit(entry)
return nil
