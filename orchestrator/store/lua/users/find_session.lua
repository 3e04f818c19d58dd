#!lua flags=allow-oom
-- requires: tenants, users
-- KEYS: session   ARGV: the id of its user
-- Returns {the session's generation, the sealed user, the letter of its tenant's state}, or nothing for a session that
-- has ended.
local session, id = KEYS[1], ARGV[1]
local found = redis.call('HMGET', session, 'user', 'generation')
if found[1] ~= id then return nil end
local stored = redis.call('HGET', USERS, id)
if not stored then return nil end
local user = user_in(stored)
return {found[2], stored, user and type(user.tenant) == 'string' and state_of(user.tenant) or ''}
