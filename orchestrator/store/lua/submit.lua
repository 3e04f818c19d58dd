#!lua
-- requires: lines, clock, charge
-- KEYS: record, tenant index, tenant counters, queued, stream, queue, queues, [idempotency, the tenant's of those]
-- ARGV: id, queue limit, tenant's queue limit, body digest, idempotency seconds, tenant, isolation, most bytes the
-- tenant may have in Redis or '', record fields…
-- Returns {'ok', time of creation}, or the reason of a refusal; then nothing was written.
local record, index, counters, queued, stream, queue, queues, remembered_key, remembered_keys = unpack(KEYS)
local id, most, tenant_most, digest, seconds, tenant, isolation, tenant_bytes = unpack(ARGV, 1, 8)
local created = redis.call('HGET', record, 'created_at')
if created then return {'ok', created} end  -- sent again, since the answer did not arrive
local now = clock()
if remembered_key then
  local seen = redis.call('GET', remembered_key)
  if seen then return {'seen', seen} end
end
if redis.call('ZCARD', queued) >= tonumber(most) then return {'full'} end
if tonumber(redis.call('HGET', counters, 'queued') or 0) >= tonumber(tenant_most) then return {'tenant'} end
local size = RECORD_BYTES
for i = 9, #ARGV do size = size + #ARGV[i] end
local room = tenant_room_key(tenant)
if tenant_bytes == '' then redis.call('HDEL', room, 'most') else redis.call('HSET', room, 'most', tenant_bytes) end
local remembered_bytes = 0
if remembered_key then
  redis.call('ZREMRANGEBYSCORE', remembered_keys, '-inf', now)
  remembered_bytes = IDEMPOTENCY_BYTES * (1 + redis.call('ZCARD', remembered_keys))
end
if not has_room(tenant, size + remembered_bytes) then return {'store'} end
if remembered_key then
  redis.call('SET', remembered_key, digest .. ' ' .. id, 'EX', seconds)
  redis.call('ZADD', remembered_keys, now + seconds, remembered_key)
  redis.call('EXPIRE', remembered_keys, seconds)
end
created = string.format('%.6f', now)
redis.call('HSET', record, 'state', 'queued', 'attempt', 0, 'created_at', created, unpack(ARGV, 9))
charge(record, tenant, size)
redis.call('ZADD', index, now, id)
redis.call('HINCRBY', counters, 'queued', 1)
redis.call('ZADD', queued, now, id)
redis.call('XADD', stream, '*', 't', 'state', 'd', 'queued', 'a', 0)
redis.call('SADD', queues, queue)
redis.call('RPUSH', queue, id)
line_up(tenant, isolation, true)
return {'ok', created}
