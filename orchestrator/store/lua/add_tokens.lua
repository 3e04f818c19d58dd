#!lua
-- KEYS: record   ARGV: returned, withheld
-- Adds tokens that were returned to an agent, and sets the number that the last answer withheld. Does nothing without a
-- record.
local record = KEYS[1]
local returned, withheld = unpack(ARGV)
if redis.call('EXISTS', record) == 1 then
  redis.call('HINCRBY', record, 'tokens_returned', returned)
  redis.call('HSET', record, 'tokens_withheld', withheld)
end
