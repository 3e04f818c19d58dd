#!lua flags=allow-oom
-- requires: audit
-- KEYS: attempts of that name and address, the new session
-- ARGV: the user's id, its generation as it was read, address, seconds without use until the session ends,
-- entry of the audit log
-- Opens a session after a successful log-in; 0 if the user was disabled, deleted or given another password
-- since.
local MOST_ADDRESSES, KEPT = 50, 30 * 86400
local id, generation, address, seconds, entry = unpack(ARGV)
local stored = redis.call('HGET', USERS, id)
local user = stored and cjson.decode(stored)
if not user or user.disabled or user.generation ~= tonumber(generation) then return 0 end
redis.call('DEL', KEYS[1])
local addresses, now = user_addresses_key(id), redis.call('TIME')[1]
if redis.call('HLEN', addresses) >= MOST_ADDRESSES then redis.call('DEL', addresses) end
redis.call('HSET', addresses, address, now)
redis.call('EXPIRE', addresses, KEPT)
redis.call('HSET', KEYS[2], 'user', id, 'generation', generation, 'refreshed', 0, 'began', now)
redis.call('EXPIRE', KEYS[2], seconds)
audit(entry)
return 1
