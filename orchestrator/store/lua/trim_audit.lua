#!lua flags=allow-oom
-- ARGV: position of the new base, base, position behind it
-- Removes all entries and seals up to a base, and writes the base.
local position, base, behind = unpack(ARGV)
redis.call('HSET', AUDIT_BASE, 'position', position, 's', base)
redis.call('XTRIM', AUDIT, 'MINID', behind)
redis.call('XTRIM', AUDIT_SEALS, 'MINID', behind)
