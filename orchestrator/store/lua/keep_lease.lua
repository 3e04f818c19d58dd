#!lua flags=allow-oom
-- KEYS: a lease that was taken   ARGV: process, seconds
-- Renews the lease if the process still has it; with 0 seconds ends it. Returns whether the process had it.
local lease = KEYS[1]
local name, seconds = unpack(ARGV)
if redis.call('TYPE', lease).ok ~= 'string' or redis.call('GET', lease) ~= name then return 0 end
redis.call('EXPIRE', lease, seconds)
return 1
