-- requires: audit
-- ARGV: tenant, server, sealed digest, audit entry
-- Accepts a changed catalogue.
local tenant, server, digest, entry = unpack(ARGV)
redis.call('HSET', tool_accepted_key(tenant), server, digest)
redis.call('INCR', TOOL_DECLARATIONS)
audit(entry)
