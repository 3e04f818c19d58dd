#!lua
-- requires: audit, users
-- ARGV: id, the user as it was read, its new record, the hash of a new password or '', entry of the audit log
-- Changes a user, whose sessions end with its old password and while it is disabled; 0 if it was changed or deleted
-- since.
local id, read, stored, hash, entry = unpack(ARGV)
if redis.call('HGET', USERS, id) ~= read then return 0 end
redis.call('HSET', USERS, id, stored)
if hash ~= '' then redis.call('HSET', USER_PASSWORDS, id, hash) end
if hash ~= '' or user_in(stored).disabled then end_sessions(id) end
audit(entry)
return 1
