#!lua flags=allow-oom
-- KEYS: attempts of that name and address   ARGV: name, address
-- Counts a log-in as failed before its password is checked, so that concurrent ones do not evade the pauses; a
-- successful one forgets the count. The bound of the whole installation is not for addresses from which the user has
-- logged in before: no flood of attempts locks its owner out.
-- Returns {milliseconds to wait, 0} for a refused log-in, or {0, failed ones with it, milliseconds of the pause behind
-- it, the user's id, its JSON, the hash of its password}, the last three '' for an unknown user.
local FREE, FIRST, LONGEST, KEPT = 4, 4, 900, 3600  -- failures without a pause; seconds: pauses, and of the count
local MOST, WINDOW = 120, 60  -- of the whole installation; seconds
local attempts = KEYS[1]
local name, address = unpack(ARGV)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = tonumber(redis.call('HGET', attempts, 'ends')) or 0
if ends > now then return {ends - now, 0} end
local id = redis.call('HGET', USER_NAMES, name) or ''
if redis.call('HEXISTS', user_addresses_key(id), address) == 0 then
  local tried = redis.call('INCR', LOGINS)
  if tried == 1 then redis.call('EXPIRE', LOGINS, WINDOW) end
  if tried > MOST then return {redis.call('PTTL', LOGINS), 0} end
end
local failed = redis.call('HINCRBY', attempts, 'failed', 1)
local pause = failed <= FREE and 0 or math.min(LONGEST, FIRST * 2 ^ (failed - FREE - 1)) * 1000
redis.call('HSET', attempts, 'ends', now + pause)
redis.call('EXPIRE', attempts, KEPT)
local stored, hash = redis.call('HGET', USERS, id) or '', redis.call('HGET', USER_PASSWORDS, id) or ''
return {0, failed, pause, id, stored, hash}
