#!lua flags=allow-oom
-- requires: audit, users
-- ARGV: user, session, number of the refresh token, seconds without use until the session ends, seconds of the longest
-- session, seconds in which the last token may come again, entries of the audit log for a token that comes again and
-- for a token that was used before
-- Takes a refresh token. The last one taken may come again once within a short time, since its answer may have been
-- lost; the answer is the same. Any other token that was used before ends the session: it was stolen.
-- Returns the seconds until the session ends, 0 for a token that was used before, nothing for a session that has ended.
local user, session, number, idle, longest, grace, again, reuse = unpack(ARGV)
local key, now = session_key(session), redis.call('TIME')[1]
local owner, refreshed, began, used, repeated = unpack(
  redis.call('HMGET', key, 'user', 'refreshed', 'began', 'used', 'repeated')
)
if owner ~= user or not refreshed then return nil end
local is_next = refreshed == number
local is_again = tonumber(refreshed) == number + 1 and now - (used or 0) <= tonumber(grace) and repeated ~= number
if not is_next and not is_again then
  end_session(user, session)
  audit(reuse)
  return 0
end
local seconds = math.min(tonumber(idle), began + longest - now)
if seconds <= 0 then return nil end
if is_next then
  redis.call('HSET', key, 'refreshed', number + 1, 'used', now)
else
  redis.call('HSET', key, 'repeated', number)
  audit(again)
end
redis.call('EXPIRE', key, seconds)
return seconds
