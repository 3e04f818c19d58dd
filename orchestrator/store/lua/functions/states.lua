-- requires: classes, tally, clock, lines, shown, charge
-- The fields read by a step, the check of its transition, and the step itself, which returns the attempt's number.
-- `sources` are the states it may be taken from, separated by commas, or '' for any.
local function found_of(id)
  local found =
    redis.pcall('HMGET', execution_key(id), 'state', 'attempt', 'tenant', 'environment', 'worker')
  return found.err and {} or found  -- what is no hash is no record
end

local function allowed(found, attempt, sources)
  if not found[1] then return false end
  -- A requeued attempt has lost its ownership, even before the next attempt starts.
  if attempt ~= '' and (attempt ~= found[2] or found[1] == 'queued') then return false end
  return sources == '' or string.find(',' .. sources .. ',', ',' .. found[1] .. ',', 1, true) ~= nil
end

local function advance(id, found, to, retention, counts_as, fields)
  local now = clock()
  local record, stream = execution_key(id), stream_key(id)
  local attempt = found[2]
  if to == 'starting' then attempt = redis.call('HINCRBY', record, 'attempt', 1) end
  redis.call('HSET', record, 'state', to, unpack(fields))
  local before, after = CLASSES[found[1]], CLASSES[to]
  if before ~= after then
    local counters = tenant_counters_key(found[3])
    redis.call('ZREM', KEY_OF_CLASS[before], id)
    redis.call('HINCRBY', counters, before, -1)
    if after then
      redis.call('ZADD', KEY_OF_CLASS[after], now, id)
      redis.call('HINCRBY', counters, after, 1)
    end
    if to == 'starting' then redis.call('HSET', TURNS, found[3], redis.call('INCR', TURN)) end
    move(found[3])
  end
  redis.call('XADD', stream, '*', 't', 'state', 'd', to, 'a', attempt)
  if not after then
    local reply_to = redis.call('HGET', record, 'reply_to')
    local freed = redis.call('HSTRLEN', record, 'spec') + redis.call('STRLEN', stdin_key(id))
    charge(record, found[3], redis.call('HSTRLEN', record, 'result') - freed)
    redis.call('HDEL', record, 'spec', 'signature', 'reply_to')  -- it is not run again
    redis.call('DEL', stdin_key(id))
    redis.call('ZADD', EXPIRY, now + tonumber(retention), id)
    redis.call('XADD', stream, '*', 't', 'done', 'd', to, 'a', attempt)
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
