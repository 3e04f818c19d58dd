-- requires: tally
-- KEYS: counts   ARGV: source, most different sources, seconds
-- Counts an event in a window that begins with the first. Returns {source, count}; sources beyond the
-- most different sources are counted together, under the empty name.
local counts = KEYS[1]
local who, most, seconds = unpack(ARGV)
local known = redis.call('HLEN', counts)
if known >= tonumber(most) and redis.call('HEXISTS', counts, who) == 0 then who = '' end
local count = redis.call('HINCRBY', counts, who, 1)
if known == 0 then redis.call('EXPIRE', counts, seconds) end
tally('security', {source = 'api'})
return {who, count}
