#!lua flags=allow-oom
-- requires: tenants
-- KEYS: session   ARGV: the id of its user
-- Returns {the session's generation, the user's JSON, the letter of its tenant's state}, or nothing for a session that
-- has ended.
local found = redis.call('HMGET', KEYS[1], 'user', 'generation')
if found[1] ~= ARGV[1] then return nil end
local stored = redis.call('HGET', USERS, ARGV[1])
if not stored then return nil end
local is_json, user = pcall(cjson.decode, stored)
local tenant = is_json and type(user) == 'table' and user.tenant
return {found[2], stored, type(tenant) == 'string' and state_of(tenant) or ''}
