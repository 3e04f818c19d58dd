#!lua flags=allow-oom
-- requires: audit, clock, users
-- KEYS: attempts of that name and address
-- ARGV: the user's id, its generation as it was read, address, id of the session, seconds without use until it ends,
-- seconds of the longest session, most sessions of a user, entries of the audit log: of the session, and of older ones
-- that end for it
-- Opens a session after a successful log-in, and ends the oldest beyond the most that a user has; 0 if the user was
-- disabled, deleted or given another password since.
local MOST_ADDRESSES, KEPT = 50, 30 * 86400
local attempts = KEYS[1]
local id, generation, address, session, seconds, longest, most, entry, ended = unpack(ARGV)
local user = user_in(redis.call('HGET', USERS, id))
if not user or user.disabled or user.generation ~= tonumber(generation) then return 0 end
redis.call('DEL', attempts)
local addresses, now = user_addresses_key(id), math.floor(clock())
if redis.call('HLEN', addresses) >= MOST_ADDRESSES then redis.call('DEL', addresses) end
redis.call('HSET', addresses, address, now)
redis.call('EXPIRE', addresses, KEPT)
local sessions = user_sessions_key(id)
for _, one in ipairs(redis.call('ZRANGE', sessions, 0, -1)) do
  if redis.call('EXISTS', session_key(one)) == 0 then redis.call('ZREM', sessions, one) end
end
local oldest = redis.call('ZRANGE', sessions, 0, -tonumber(most))  -- all but the newest `most` - 1
for _, one in ipairs(oldest) do end_session(id, one) end
if #oldest > 0 then audit(ended) end
local key = session_key(session)
redis.call(
  'HSET', key, 'user', id, 'generation', generation, 'refreshed', 0, 'began', now, 'used', now, 'address', address
)
redis.call('EXPIRE', key, seconds)
redis.call('ZADD', sessions, clock(), session)
redis.call('EXPIRE', sessions, longest)
audit(entry)
return 1
