#!lua flags=allow-oom
-- KEYS: session   ARGV: the id of its user
-- Returns {the session's generation, the user's JSON}, or nothing for a session that has ended.
local found = redis.call('HMGET', KEYS[1], 'user', 'generation')
if found[1] ~= ARGV[1] then return nil end
local stored = redis.call('HGET', USERS, ARGV[1])
return stored and {found[2], stored} or nil
