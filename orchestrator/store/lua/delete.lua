#!lua flags=allow-oom
-- KEYS: record, stream, standard input, tenant index, bytes of the tenant's executions, expiry   ARGV: id
-- Removes an execution that has ended, or has no record, from Redis, except for its entry in the index of expiries:
-- there it stays due until its files are removed, too. Returns 1, 0 if it has not ended, or 2 if there
-- was no record.
local record, stream, stdin, index, room, expiry = unpack(KEYS)
local id = ARGV[1]
local found = redis.call('HMGET', record, 'state', 'bytes', 'files', 'key')
if found[1] == 'queued' or found[1] == 'starting' or found[1] == 'running' then return 0 end
redis.call('ZADD', expiry, 0, id)
redis.call('DEL', record, stream, stdin)
redis.call('ZREM', index, id)
if redis.call('EXISTS', index) == 0 then
  redis.call('DEL', room)
elseif found[2] then
  redis.call('HINCRBY', room, 'bytes', -found[2])
  if found[3] then redis.call('HINCRBY', room, 'files', -found[3]) end
end
local key = found[2] and found[4] or ''
if key ~= '' then
  local counters = key_counters_key(key)
  local left = redis.call('HINCRBY', counters, 'bytes', -found[2])
  if found[3] then redis.call('HINCRBY', counters, 'files', -found[3]) end
  if left <= 0 and key ~= 'admin' and redis.call('HEXISTS', API_KEYS, key) == 0 then redis.call('DEL', counters) end
end
return found[1] and 1 or 2
