#!lua flags=allow-oom
-- requires: users
-- KEYS: [attempts of a log-in that succeeded, which are forgotten]   ARGV: user
-- Returns {id, seconds since the epoch of the log-in, of the last refresh, and of the end, address} of each
-- session of the user, the oldest first.
if KEYS[1] then redis.call('DEL', KEYS[1]) end
local found, now = {}, redis.call('TIME')[1]
for _, session in ipairs(redis.call('ZRANGE', user_sessions_key(ARGV[1]), 0, -1)) do
  local key = session_key(session)
  local user, began, used, address = unpack(redis.call('HMGET', key, 'user', 'began', 'used', 'address'))
  if user == ARGV[1] and began and used and address then
    table.insert(found, {session, began, used, now + redis.call('TTL', key), address})
  end
end
return found
