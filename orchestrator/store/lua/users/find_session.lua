#!lua flags=allow-oom
-- requires: tenants, users
-- KEYS: session   ARGV: the id of its user
-- Returns {the session's generation, the sealed user, the letter of its tenant's state}, or nothing for a session that
-- has ended.
local found = redis.call('HMGET', KEYS[1], 'user', 'generation')
if found[1] ~= ARGV[1] then return nil end
local stored = redis.call('HGET', USERS, ARGV[1])
if not stored then return nil end
local user = user_in(stored)
return {found[2], stored, user and type(user.tenant) == 'string' and state_of(user.tenant) or ''}
