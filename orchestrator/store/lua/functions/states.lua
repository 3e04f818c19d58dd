-- requires: classes, tally, clock, lines, shown, charge, counters, shrink
-- The fields read by a step, the check of its transition, and the step itself, which returns the attempt's number.
-- `sources` are the states it may be taken from, separated by commas, or '' for any.
local function found_of(id)
  local found =
    redis.pcall('HMGET', execution_key(id), 'state', 'attempt', 'tenant', 'environment', 'worker', 'key', 'reserved')
  return found.err and {} or found  -- what is no hash is no record
end

local function allowed(found, attempt, sources)
  if not found[1] then return false end
  -- A requeued attempt has lost its ownership, even before the next attempt starts.
  if attempt ~= '' and (attempt ~= found[2] or found[1] == 'queued') then return false end
  return sources == '' or string.find(',' .. sources .. ',', ',' .. found[1] .. ',', 1, true) ~= nil
end

-- `amounts` are those that an ended execution used, in the order of `USAGE`.
local function advance(id, found, to, retention, counts_as, fields, amounts)
  local now = clock()
  local record, stream = execution_key(id), stream_key(id)
  local attempt = found[2]
  if to == 'starting' then attempt = redis.call('HINCRBY', record, 'attempt', 1) end
  local before, after = CLASSES[found[1]], CLASSES[to]
  local reply_to, freed
  if not after then  -- it is neither queued nor run again; before the result, for which the hash need not grow then
    reply_to = redis.call('HGET', record, 'reply_to')
    freed = redis.call('HSTRLEN', record, 'spec') + redis.call('HSTRLEN', record, 'tool_outputs')
    redis.call('HDEL', record, 'spec', 'signature', 'tool_outputs', 'reply_to', 'queue', 'isolation', 'reserved')
  end
  redis.call('HSET', record, 'state', to, unpack(fields))
  if before ~= after then
    local reserved, used = tonumber(found[7]) or 0, amounts and amounts[3] or 0
    redis.call('ZREM', KEY_OF_CLASS[before], id)
    if after then redis.call('ZADD', KEY_OF_CLASS[after], now, id) end
    local counters = count_change(tenant_counters_key(found[3]), before, after, reserved, used, now)
    if found[6] and found[6] ~= '' then
      count_change(key_counters_key(found[6]), before, after, reserved, used, now)
      if before == 'queued' and not after then redis.call('ZREM', key_held_key(found[6]), id) end
    end
    if to == 'starting' then take_turn(found[3], counters.weight) end
    move(found[3], counters)
  end
  redis.call('XADD', stream, '*', 't', 'state', 'd', to, 'a', attempt)
  if not after then
    add_usage(found[3], day_of(now), found[6], found[4], amounts)
    local files = (amounts[5] or 0) + (tonumber(redis.call('HGET', record, 'result_bytes')) or 0)
    if files > 0 then charge_files(record, found[3], found[6], files) end
    freed = freed + redis.call('STRLEN', stdin_key(id))
    redis.call('DEL', stdin_key(id))
    redis.call('ZADD', EXPIRY, now + tonumber(retention), id)
    redis.call('XADD', stream, '*', 't', 'done', 'd', to, 'a', attempt)
    if shrink(stream) then freed = freed + SPARE_BYTES end
    charge(record, found[3], found[6], redis.call('HSTRLEN', record, 'result') - freed)
    if reply_to and redis.call('XLEN', stream) <= PUSHED_ENTRIES then
      local result = cmsgpack.pack({shown(record), redis.call('XRANGE', stream, '-', '+')})
      if #result <= PUSHED_BYTES then redis.call('PUBLISH', ANSWERS .. reply_to, id .. ' ' .. result) end
    end
    redis.call('PUBLISH', ENDED, id)
  end
  if counts_as ~= '' then tally(counts_as, {tenant = found[3], environment = found[4], worker = found[5]}) end
  redis.call('PUBLISH', WAKE .. id, to)
  return attempt
end
