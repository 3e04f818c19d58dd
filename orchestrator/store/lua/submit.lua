#!lua
-- requires: lines, clock, charge, quotas, audit
-- KEYS: record, tenant index, tenant counters, queued, stream, queue, queues, [idempotency, the tenant's of those]
-- ARGV: id, queue limit, tenant's queue limit, body digest, idempotency seconds, tenant, lane, most bytes the
-- tenant may have in Redis or '', API key or '', versions of the tenant's and the key's quotas that the caller knows,
-- reserved microseconds of CPU time, the tenant's weight, then of the tenant and of the key each the quotas of running
-- executions and of stored bytes, and four as `exceeded` has them; entry of the audit log or '', three features that
-- must not be off, record fields…
-- Returns {'ok', time of creation}, or the reason of a refusal; then nothing was written. {'quotas', …}: the current
-- quotas of both, which the caller does not know. {'off', feature, its state}: the feature is switched off.
local record, index, counters, queued, stream, queue, queues, remembered_key, remembered_keys = unpack(KEYS)
local id, most, tenant_most, digest, seconds, tenant, lane, tenant_bytes = unpack(ARGV, 1, 8)
local key, tenant_version, key_version, reserve, weight, running, stored = unpack(ARGV, 9, 15)
local rate, key_running, key_stored = unpack(ARGV, 19, 21)
local key_rate, entry = unpack(ARGV, 25, 26)
local features = {unpack(ARGV, 27, 29)}
local first = 30  -- of the record's fields
local created = redis.call('HGET', record, 'created_at')
if created then return {'ok', created} end  -- sent again, since the answer did not arrive
local now = clock()
if remembered_key then
  local seen = redis.call('GET', remembered_key)
  if seen then return {'seen', seen} end
end
for number, state in ipairs(redis.pcall('HMGET', SWITCHES, unpack(features))) do
  if state then return {'off', features[number], state} end
end
local current = redis.call('HMGET', QUOTAS, 't' .. tenant, 'k' .. key)
if string.sub(current[1] or '', 1, 8) ~= tenant_version or string.sub(current[2] or '', 1, 8) ~= key_version then
  return {'quotas', current[1] or '', current[2] or ''}
end
if redis.call('ZCARD', queued) >= tonumber(most) then return {'full'} end
local tenants = counters_of(counters, now)
if tenants.queued >= tonumber(tenant_most) then return {'tenant'} end
local over = exceeded(tenants, {unpack(ARGV, 16, 19)}, reserve, now)
if over then return {'quota', 'tenant', unpack(over)} end
local keys = key ~= '' and counters_of(key_counters_key(key), now)
over = keys and exceeded(keys, {unpack(ARGV, 22, 25)}, reserve, now)
if over then return {'quota', 'key', unpack(over)} end
local size = RECORD_BYTES
for i = first, #ARGV do size = size + #ARGV[i] end
local room = tenant_room_key(tenant)
local kept = redis.call('HMGET', room, 'most', 'bytes', 'files')
if (kept[1] or '') ~= tenant_bytes then
  if tenant_bytes == '' then redis.call('HDEL', room, 'most') else redis.call('HSET', room, 'most', tenant_bytes) end
end
local remembered_bytes = 0
if remembered_key then
  redis.call('ZREMRANGEBYSCORE', remembered_keys, '-inf', now)
  remembered_bytes = IDEMPOTENCY_BYTES * (1 + redis.call('ZCARD', remembered_keys))
end
if tenant_bytes ~= '' and not has_room(tenant, size + remembered_bytes) then return {'store'} end
if stored ~= '' then
  local use = (tonumber(kept[2]) or 0) + (tonumber(kept[3]) or 0)
  if use + size > tonumber(stored) then
    return {'quota', 'tenant', 'stored_bytes', stored, string.format('%.0f', use), 15}
  end
end
if keys and key_stored ~= '' and keys.bytes + keys.files + size > tonumber(key_stored) then
  return {'quota', 'key', 'stored_bytes', key_stored, string.format('%.0f', keys.bytes + keys.files), 15}
end
if remembered_key then
  redis.call('SET', remembered_key, digest .. ' ' .. id, 'EX', seconds)
  redis.call('ZADD', remembered_keys, now + seconds, remembered_key)
  redis.call('EXPIRE', remembered_keys, seconds)
end
created = string.format('%.6f', now)
redis.call(
  'HSET', record, 'state', 'queued', 'attempt', 0, 'created_at', created, 'key', key, 'reserved', reserve,
  'bytes', size, unpack(ARGV, first)
)
redis.call('HINCRBY', room, 'bytes', size)
redis.call('ZADD', index, now, id)
if tenants.running == tonumber(running) and tenants.weight == tonumber(weight) then
  accept(counters, tenants, rate, reserve, now)
else
  accept(counters, tenants, rate, reserve, now, 'running', running, 'weight', weight)
end
if keys then
  if keys.running == tonumber(key_running) then
    accept(key_counters_key(key), keys, key_rate, reserve, now, 'bytes', keys.bytes + size)
  else
    accept(key_counters_key(key), keys, key_rate, reserve, now, 'bytes', keys.bytes + size, 'running', key_running)
  end
end
redis.call('ZADD', queued, now, id)
redis.call('XADD', stream, '*', 't', 'state', 'd', 'queued', 'a', 0)
redis.call('SADD', queues, queue)
redis.call('RPUSH', queue, id)
tenants.running, tenants.weight = tonumber(running), tonumber(weight)
line_up(tenant, lane, true, tenants)
audit(entry)
return {'ok', created}
