#!lua flags=allow-oom
-- requires: audit
-- ARGV: id, name, entry of the audit log
-- Deletes a user, whose sessions end with it; 0 if there is none.
local id, name, entry = unpack(ARGV)
if redis.call('HDEL', USERS, id) == 0 then return 0 end
redis.call('HDEL', USER_NAMES, name)
redis.call('HDEL', USER_PASSWORDS, id)
redis.call('DEL', user_addresses_key(id))
audit(entry)
return 1
