#!lua flags=allow-oom
-- KEYS: a lease of the installation, the janitor's or a backup's   ARGV: process, seconds
-- Takes the lease unless another process has it, or renews it. Returns whether.
local lease = KEYS[1]
local name, seconds = unpack(ARGV)
if redis.call('TYPE', lease).ok ~= 'string' or redis.call('TTL', lease) < 0 then redis.call('DEL', lease) end
local leads = redis.call('GET', lease)
if leads and leads ~= name then return 0 end
redis.call('SET', lease, name, 'EX', seconds)
return 1
