#!lua flags=allow-oom
-- requires: audit
-- KEYS: session
-- ARGV: number of the refresh token, seconds without use until the session ends, seconds of the longest session, entry
-- of the audit log for a token that was used before
-- Takes a refresh token. A token that was used before ends the session: it was stolen.
-- Returns the seconds until the session ends, 0 for a token that was used before, nothing for a session that has ended.
local number, idle, longest, entry = unpack(ARGV)
local refreshed, began = unpack(redis.call('HMGET', KEYS[1], 'refreshed', 'began'))
if not refreshed then return nil end
if refreshed ~= number then
  redis.call('DEL', KEYS[1])
  audit(entry)
  return 0
end
local seconds = math.min(tonumber(idle), began + longest - redis.call('TIME')[1])
if seconds <= 0 then return nil end
redis.call('HINCRBY', KEYS[1], 'refreshed', 1)
redis.call('EXPIRE', KEYS[1], seconds)
return seconds
