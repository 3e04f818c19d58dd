#!lua
-- requires: calls, room_left
-- ARGV: id, tenant, execution, result, failure, digest of both, share of `maxmemory`
-- Settles a call that the client of an execution fulfils. Returns 'ok', also for the same answer again; or the reason
-- of a refusal, and then nothing was written: 'unknown', 'answered' in another way, 'late', 'ended' or 'full'.
local id, tenant, execution, result, failure, digest, share = unpack(ARGV, 1, 7)
local call = tool_call_key(id)
local found = redis.call(
  'HMGET', call, 'reply_to', 'execution', 'attempt', 'state', 'tenant', 'server', 'deadline', 'digest'
)
local state = found[4]
if not state or found[2] ~= execution or found[5] ~= tenant or found[6] ~= CALLER then return 'unknown' end
if found[8] then return found[8] == digest and 'ok' or 'answered' end
if tonumber(found[7]) <= clock() then return 'late' end
local owner = redis.call('HMGET', execution_key(execution), 'state', 'attempt')
if state ~= 'waiting' or owner[1] ~= 'running' or owner[2] ~= found[3] then return 'ended' end
if result ~= '' then
  local left = left_bytes(share)
  if #result > left then return 'full' end
  take_room(left, #result)
end
finish(id, {found[1], execution, found[3], false}, result, failure)
redis.call('HSET', call, 'digest', digest)
return 'ok'
