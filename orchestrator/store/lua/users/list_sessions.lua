#!lua flags=allow-oom
-- requires: users
-- KEYS: [attempts of a log-in that succeeded, which are forgotten]   ARGV: user
-- Returns {id, seconds since the epoch of the log-in, of the last refresh, and of the end, address} of each
-- session of the user, the oldest first.
local attempts, id = KEYS[1], ARGV[1]
if attempts then redis.call('DEL', attempts) end
local found, now = {}, redis.call('TIME')[1]
for _, session in ipairs(redis.call('ZRANGE', user_sessions_key(id), 0, -1)) do
  local key = session_key(session)
  local user, began, used, address = unpack(redis.call('HMGET', key, 'user', 'began', 'used', 'address'))
  if user == id and began and used and address then
    table.insert(found, {session, began, used, now + redis.call('TTL', key), address})
  end
end
return found
