-- requires: tally
-- KEYS: counts   ARGV: who, most different ones, seconds
-- Counts one more of something, in a window that begins with the first. Returns {who, count}; all who come after the
-- most different ones are counted together, as the empty name.
local counts = KEYS[1]
local who, most, seconds = unpack(ARGV)
local known = redis.call('HLEN', counts)
if known >= tonumber(most) and redis.call('HEXISTS', counts, who) == 0 then who = '' end
local count = redis.call('HINCRBY', counts, who, 1)
if known == 0 then redis.call('EXPIRE', counts, seconds) end
tally('security', {source = 'api'})
return {who, count}
