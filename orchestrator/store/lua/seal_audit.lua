#!lua flags=allow-oom
-- ARGV: position of the last seal or base, position, seal
-- Adds a seal; 0 if another process has added a seal meanwhile.
local previous, position, seal = unpack(ARGV)
local last = redis.call('XREVRANGE', AUDIT_SEALS, '+', '-', 'COUNT', 1)[1]
local known = last and last[1] or redis.call('HGET', AUDIT_BASE, 'position') or '0-0'
if known ~= previous then return 0 end
redis.call('XADD', AUDIT_SEALS, position, 's', seal)
return 1
