#!lua
-- requires: usage
-- KEYS: record   ARGV: returned, withheld
-- Adds tokens that were returned to an agent, and sets the number that the last answer withheld; the same in the usage
-- of the day on which the execution was created, since that number may fall later. Does nothing without a record.
local record = KEYS[1]
local returned, withheld = tonumber(ARGV[1]), tonumber(ARGV[2])
local found = redis.call('HMGET', record, 'tenant', 'key', 'environment', 'created_at', 'tokens_withheld')
if found[1] then
  redis.call('HINCRBY', record, 'tokens_returned', returned)
  redis.call('HSET', record, 'tokens_withheld', withheld)
  local more = withheld - (tonumber(found[5]) or 0)
  add_usage(found[1], day_of(tonumber(found[4]) or 0), found[2], found[3], {0, 0, 0, 0, 0, 0, returned, more})
end
