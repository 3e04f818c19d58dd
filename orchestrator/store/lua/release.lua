#!lua flags=allow-oom
-- requires: holding
-- KEYS: all queues   ARGV: API keys, or none for some of those that hold executions
-- Puts held executions of keys with room back on their queues; returns their number.
local queues = KEYS[1]
local released = 0
local keys = #ARGV > 0 and ARGV or redis.call('SRANDMEMBER', HOLDING, 20)
for _, key in ipairs(keys) do released = released + release(key, queues) end
return released
