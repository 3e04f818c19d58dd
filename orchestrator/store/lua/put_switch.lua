#!lua
-- requires: audit
-- ARGV: feature, its state as JSON or '' for on, entry of the audit log
-- Switches a feature on or off.
local feature, state, entry = unpack(ARGV)
audit(entry)
if state == '' then redis.call('HDEL', SWITCHES, feature) else redis.call('HSET', SWITCHES, feature, state) end
