#!lua
-- requires: audit
-- ARGV: feature, its state as JSON or '' for on, entry of the audit log
-- Switches a feature on or off.
local feature, state, entry = unpack(ARGV)
if redis.call('TYPE', SWITCHES).ok ~= 'hash' then redis.call('DEL', SWITCHES) end
if state == '' then redis.call('HDEL', SWITCHES, feature) else redis.call('HSET', SWITCHES, feature, state) end
audit(entry)
