#!lua
-- requires: audit
-- KEYS: all keys, all digests, the new key's digest, [the remembered request]
-- ARGV: id, the key's JSON, its digest, milliseconds to its expiry or '', the request, seconds to remember it,
-- entry of the audit log
-- Returns nothing; or the remembered request of the same Idempotency-Key, and then nothing was written.
local id, stored, digest, expiry, request, seconds, entry = unpack(ARGV)
if KEYS[4] then
  local seen = redis.call('GET', KEYS[4])
  if seen then return seen end
  redis.call('SET', KEYS[4], request, 'EX', seconds)
end
redis.call('HSET', KEYS[1], id, stored)
redis.call('HSET', KEYS[2], id, digest)
redis.call('SET', KEYS[3], id)
if expiry ~= '' then redis.call('PEXPIRE', KEYS[3], expiry) end
audit(entry)
return nil
