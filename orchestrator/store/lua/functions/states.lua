-- requires: classes, tally, clock, lines, shown, charge, counters, shrink
-- The fields read by a step, the check of its transition, and the step itself. Calling a command from Lua
-- costs more than most commands, so a step reads a record and each hash of counters once, and writes each once.
-- `sources` are the states it may be taken from, separated by commas, or '' for any.
local READ = {
  'state', 'attempt', 'tenant', 'environment', 'worker', 'key', 'reserved', 'created_at', 'started_at', 'step',
  'reply_to', 'stdin_room', 'bytes',
}

local function found_of(id)
  local found = redis.pcall('HMGET', execution_key(id), unpack(READ))
  return found.err and {} or found  -- what is no hash is no record
end

local function allowed(found, attempt, sources)
  if not found[1] then return false end
  -- A requeued attempt has lost its ownership, even before the next attempt starts.
  if attempt ~= '' and (attempt ~= found[2] or found[1] == 'queued') then return false end
  return sources == '' or string.find(',' .. sources .. ',', ',' .. found[1] .. ',', 1, true) ~= nil
end

local function append_state(stream, state, attempt)
  redis.call('XADD', stream, '*', 't', 'state', 'd', state, 'a', attempt)
end

-- The bytes that an end frees in a record: what only a queued or running execution needs. Before the result is written,
-- for which the hash need not grow then.
local function strip(id, record, found)
  local freed = redis.call('HSTRLEN', record, 'spec') + redis.call('HSTRLEN', record, 'tool_outputs')
  redis.call('HDEL', record, 'spec', 'signature', 'tool_outputs', 'reply_to', 'queue', 'isolation', 'reserved')
  if found[12] then
    freed = freed + redis.call('STRLEN', stdin_key(id))
    redis.call('DEL', stdin_key(id))
  end
  return freed
end

-- Charges `bytes` to the tenant, and to the record among the fields that are written next.
local function charge_step(found, fields, bytes)
  if bytes == 0 then return end
  fields[#fields + 1], fields[#fields + 2] = 'bytes', (tonumber(found[13]) or 0) + bytes
  redis.call('HINCRBY', tenant_room_key(found[3]), 'bytes', bytes)
end

-- `fields`: those of the record that change. `bytes`: what the step has added to the record's size. `retention`, in
-- seconds, and `amounts` used, in the order of `USAGE`: of an end alone. `key_counters`: the API key's, if the caller
-- has read them.
local function advance(id, found, to, counts_as, fields, bytes, retention, amounts, key_counters)
  local now, record, stream = clock(), execution_key(id), stream_key(id)
  local before, after, key = CLASSES[found[1]], CLASSES[to], found[6] or ''
  if to == 'starting' then
    found[2] = string.format('%.0f', found[2] + 1)
    fields[#fields + 1], fields[#fields + 2] = 'attempt', found[2]
  end
  append_state(stream, to, found[2])
  local files = 0
  if not after then  -- it is neither queued nor run again
    files = amounts[5] or 0
    for i = 1, #fields, 2 do
      if fields[i] == 'result' then bytes = bytes + #fields[i + 1] end
      if fields[i] == 'result_bytes' then files = files + fields[i + 1] end
    end
    bytes = bytes - strip(id, record, found)
    redis.call('XADD', stream, '*', 't', 'done', 'd', to, 'a', found[2])
    if shrink(stream) then bytes = bytes - SPARE_BYTES end
    redis.call('ZADD', EXPIRY, now + tonumber(retention), id)
    add_usage(found[3], day_of(now), key, found[4], amounts)
  end
  charge_step(found, fields, bytes)
  redis.call('HSET', record, 'state', to, unpack(fields))
  if files > 0 then charge_files(record, found[3], key, files) end
  if before ~= after then
    local reserved, used = tonumber(found[7]) or 0, amounts and amounts[3] or 0
    redis.call('ZREM', KEY_OF_CLASS[before], id)
    if after then redis.call('ZADD', KEY_OF_CLASS[after], now, id) end
    local tenant_counters = tenant_counters_key(found[3])
    local counters = counters_of(tenant_counters, now)
    count_change(tenant_counters, counters, before, after, reserved, used, 0)
    if key ~= '' then
      key_counters = key_counters or counters_of(key_counters_key(key), now)
      count_change(key_counters_key(key), key_counters, before, after, reserved, used, bytes)
      if before == 'queued' and not after then redis.call('ZREM', key_held_key(key), id) end
    end
    move(found[3], counters, to == 'starting' and take_turn(found[3], counters.weight))
  elseif bytes ~= 0 and key ~= '' then
    redis.call('HINCRBY', key_counters_key(key), 'bytes', bytes)
  end
  if not after then
    if found[11] and redis.call('XLEN', stream) <= PUSHED_ENTRIES then
      local result = cmsgpack.pack({shown(record), redis.call('XRANGE', stream, '-', '+')})
      if #result <= PUSHED_BYTES then redis.call('PUBLISH', ANSWERS .. found[11], id .. ' ' .. result) end
    end
    redis.call('PUBLISH', ENDED, id)
  end
  if counts_as ~= '' then tally(counts_as, {tenant = found[3], environment = found[4], worker = found[5]}) end
  redis.call('PUBLISH', WAKE .. id, to)
end
