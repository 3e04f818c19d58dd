#!lua
-- requires: audit
-- ARGV: id, the sealed issuer or '' to remove it, most issuers, entry of the audit log
-- Creates, replaces or removes an issuer. Returns 'ok', 'full', or 'unknown' for an absent issuer.
local id, stored, most, entry = unpack(ARGV)
local known = redis.call('HGET', ISSUERS, id)
if known == stored then return 'ok' end
if stored == '' then
  if not known then return 'unknown' end
  redis.call('HDEL', ISSUERS, id)
else
  if not known and redis.call('HLEN', ISSUERS) >= tonumber(most) then return 'full' end
  redis.call('HSET', ISSUERS, id, stored)
end
audit(entry)
return 'ok'
