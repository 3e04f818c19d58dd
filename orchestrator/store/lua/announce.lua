#!lua flags=allow-oom
-- requires: clock, schema
-- ARGV: a process, its kind, the schema of its version, the schemas up to it that concern the kind separated by commas,
-- seconds of its lease, the schema that it used before or ''
-- Begins or renews the lease of a process that may use this schema. Replaces malformed data.
-- Returns {schema, schema that a migration is making or 0, 1 if the process may use them}.
local process, kind, own, concerning, seconds, known = unpack(ARGV)
if redis.call('TYPE', SCHEMA).ok ~= 'hash' then redis.call('DEL', SCHEMA) end
if redis.call('TYPE', PROCESSES).ok ~= 'zset' then redis.call('DEL', PROCESSES) end
own = tonumber(own)
local number = schema_in('number')
if not number then
  local may_read = concerning ~= ''  -- Redis's users for the other kinds may not read the records
  number = tonumber(known) or (may_read and has_unsealed_records() and FIRST_SCHEMA or own)
  if tonumber(known) or (may_read and number == own) then redis.call('HSET', SCHEMA, 'number', number) end
end
local target = schema_in('target')

local function concerns(at)
  local among, name = concerning, at
  if at > own then
    among, name = redis.call('HGET', SCHEMA, 'kinds' .. at), kind
  end
  return not among or string.find(',' .. among .. ',', ',' .. name .. ',', 1, true)
end

for at = math.min(number, target or own, own) + 1, math.max(number, target or own, own) do
  if concerns(at) then return {number, target or 0, 0} end
end
redis.call('ZREMRANGEBYSCORE', PROCESSES, '-inf', clock())
redis.call('ZADD', PROCESSES, clock() + seconds, process)
redis.call('EXPIRE', PROCESSES, seconds)
return {number, target or 0, 1}
