-- requires: charge
-- KEYS: record, bytes   ARGV: tenant, id, offset or '', chunk, '1' if it is the last, most unread bytes
-- Appends the new bytes of a chunk, ends the input, and wakes the worker. Returns {'ok', total, 1 if it has ended}, or
-- {the reason of a refusal, its number or name}; then nothing was written.
local record, bytes = unpack(KEYS)
local tenant, id, at, chunk, is_last, most_unread = unpack(ARGV)
local found = redis.call('HMGET', record, 'tenant', 'state', 'stdin_room', 'stdin_read', 'stdin_end', 'worker', 'key')
local owner, state, room, taken, ended, worker = unpack(found, 1, 6)
if not owner or owner ~= tenant then return {'unknown', owner or ''} end
if not room then return {'not streamed'} end
if state ~= 'queued' and state ~= 'starting' and state ~= 'running' then return {'finished'} end
local total = redis.call('STRLEN', bytes)
local offset = total
if at ~= '' then offset = tonumber(at) end
if offset > total then return {'gap', total} end
local fresh = string.sub(chunk, total - offset + 1)
if #fresh > 0 then
  if ended then return {'ended', total} end
  if total + #fresh > tonumber(room) then return {'too large', tonumber(room)} end
  if total + #fresh - tonumber(taken or 0) > tonumber(most_unread) then return {'full'} end
  if not has_room(owner, #fresh) then return {'tenant store full'} end
  charge(record, owner, found[7], #fresh)
  total = redis.call('APPEND', bytes, fresh)
end
if is_last == '1' and offset + #chunk >= total and not ended then
  redis.call('HSET', record, 'stdin_end', 1)
  ended = '1'
end
if worker and worker ~= '' then redis.call('PUBLISH', stdin_wake_key(worker), id) end
return {'ok', total, ended and 1 or 0}
