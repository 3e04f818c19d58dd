#!lua flags=allow-oom
-- requires: clock, schema
-- ARGV: the schema of this version
-- Returns {schema, schema that a migration is making or 0, its completed steps, the live processes}.
local is_hash = redis.call('TYPE', SCHEMA).ok == 'hash'
local number = is_hash and schema_in('number') or has_unsealed_records() and FIRST_SCHEMA or tonumber(ARGV[1])
local processes = redis.call('TYPE', PROCESSES).ok == 'zset'
  and redis.call('ZRANGEBYSCORE', PROCESSES, clock(), '+inf') or {}
if not is_hash then return {number, 0, 0, processes} end
return {number, schema_in('target') or 0, tonumber(redis.call('HGET', SCHEMA, 'step')) or 0, processes}
