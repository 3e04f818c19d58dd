#!lua
-- requires: calls, charge, room_left
-- ARGV: id, tenant, tool, event, reply_to, seconds until its deadline, execution, attempt, share of `maxmemory`, the
-- event with its arguments if they are too large for the stream, or ''
-- Writes a call of a tool that the client of the execution fulfils, and appends its event to the execution's stream; a
-- repeated id changes nothing. Returns 1; 0 if the attempt does not run; or 2 if Redis, or the tenant's share of it,
-- has no room for the event.
local id, tenant, tool, event, reply_to, seconds, execution, attempt, share, whole = unpack(ARGV, 1, 10)
local call, record = tool_call_key(id), execution_key(execution)
if redis.call('EXISTS', call) == 1 then return 1 end
local found = redis.call('HMGET', record, 'state', 'attempt', 'tenant', 'key')
if found[1] ~= 'running' or found[2] ~= attempt or found[3] ~= tenant then return 0 end
local size, left = #event + ENTRY_BYTES, left_bytes(share)
if size + #whole > left or not has_room(tenant, size + #whole) then return 2 end
take_room(left, size + #whole)
charge(record, tenant, found[4], size)
redis.call('HSET', record, 'called', 1)  -- the client may have done it: no other attempt follows
local kept = math.ceil(math.max(0, tonumber(seconds)) + SETTLED_SECONDS)
redis.call(
  'HSET', call, 'state', 'waiting', 'tenant', tenant, 'server', CALLER, 'tool', tool, 'reply_to', reply_to,
  'deadline', string.format('%.6f', clock() + seconds), 'execution', execution, 'attempt', attempt,
  'upstream', tenant .. '/' .. CALLER
)
redis.call('EXPIRE', call, kept)
local open = tool_calls_of_key(execution .. ':' .. attempt)
redis.call('SADD', open, id)
if redis.call('TTL', open) < kept then redis.call('EXPIRE', open, kept) end
local where = {}
if whole ~= '' then
  redis.call('HSET', call, 'arguments', whole)  -- until the call ends
  where = {'f', '0 ' .. #whole}
end
redis.call('XADD', stream_key(execution), '*', 't', 'tool_call', 'd', event, 'a', attempt, unpack(where))
redis.call('PUBLISH', WAKE .. execution, 'tool_call')
return 1
