#!lua
-- requires: calls, room_left, tool_calls
-- ARGV: id, tenant, server, tool, arguments, reply_to, seconds until its deadline, execution or '', attempt, seal, most
-- waiting calls of an upstream, seconds after which a broker is gone, share of `maxmemory`, failures without a
-- broker, of too many waiting calls, and beyond the quota of the tenant and of the key; API key of a direct call or '',
-- the quotas of calls a day of tenants and keys that have none of their own, the principal of a direct call or '', and
-- the failure of calls while tools are switched off
-- Writes a call and queues it for its upstream's broker; a repeated id changes nothing. Without a broker, or with too
-- many waiting calls, or beyond a quota, or while tools are off, the call is settled at once.
-- The execution of a call that must not be made twice is marked, so that no other attempt follows.
-- Returns 1; 0 if the attempt does not run; or 2 if Redis has no room.
local id, tenant, server, tool, arguments, reply_to, seconds, execution, attempt, seal = unpack(ARGV, 1, 10)
local most, gone, share, no_broker, busy = unpack(ARGV, 11, 15)
local used_up = {tenant = ARGV[16], key = ARGV[17]}
local key, tenant_quota, key_quota, principal, tools_off = unpack(ARGV, 18, 22)
local call = tool_call_key(id)
if redis.call('EXISTS', call) == 1 then return 1 end
if execution ~= '' then
  local found = redis.call('HMGET', execution_key(execution), 'state', 'attempt', 'tenant', 'key')
  if found[1] ~= 'running' or found[2] ~= attempt or found[3] ~= tenant then return 0 end
  key = found[4] or ''
end
local left = left_bytes(share)
if #arguments > left then return 2 end
take_room(left, #arguments)
local upstream = tenant .. '/' .. server
if redis.call('SISMEMBER', TOOL_UPSTREAMS, upstream) == 0 then upstream = UNDECLARED end
local kept = math.ceil(math.max(0, tonumber(seconds)) + SETTLED_SECONDS)
redis.call(
  'HSET', call, 'state', 'waiting', 'tenant', tenant, 'server', server, 'tool', tool, 'arguments', arguments,
  'reply_to', reply_to, 'deadline', string.format('%.6f', clock() + seconds), 'execution', execution,
  'attempt', attempt, 'seal', seal, 'upstream', upstream, 'principal', principal
)
redis.call('EXPIRE', call, kept)
local newest = redis.call('ZREVRANGE', TOOL_BROKERS, 0, 0, 'WITHSCORES')
local waiting, refusal = tool_waiting_key(upstream), nil
if not newest[2] or tonumber(newest[2]) < clock() - gone then refusal = no_broker end
if redis.call('LLEN', waiting) >= tonumber(most) then refusal = busy end
if redis.pcall('HEXISTS', SWITCHES, 'tools') == 1 then refusal = tools_off end
if not refusal then refusal = used_up[count_call(tenant, key, tenant_quota, key_quota, clock())] end
if refusal then
  finish(id, {reply_to, execution, attempt, false}, '', refusal)
  return 1
end
redis.call('RPUSH', waiting, id)
if redis.call('TTL', waiting) < kept then redis.call('EXPIRE', waiting, kept) end
if execution ~= '' then
  if redis.call('SISMEMBER', tool_idempotent_key(upstream), tool) == 0 then
    redis.call('HSET', execution_key(execution), 'called', 1)
  end
  local open = tool_calls_of_key(execution .. ':' .. attempt)
  redis.call('SADD', open, id)
  if redis.call('TTL', open) < kept then redis.call('EXPIRE', open, kept) end
end
local owner = redis.call('HGET', TOOL_OWNERS, upstream)
if owner then ring(owner) end
return 1
