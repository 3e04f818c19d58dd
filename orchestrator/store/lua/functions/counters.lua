-- requires: usage
-- The counters of a tenant or an API key: `queued` and `active` executions, `reserved` microseconds of CPU time of
-- both, then of the current `day` the `accepted` executions and used `cpu` microseconds, and `next`: the time at which
-- the next submission comes at its steady rate. Beside them stands the quota of `running` executions; of a tenant its
-- `weight`, of a key the `bytes` of its executions in Redis and of their `files`, which a tenant has elsewhere.
local COUNTED = {
  'queued', 'active', 'reserved', 'day', 'accepted', 'cpu', 'next', 'bytes', 'files', 'running', 'weight',
}

local function counters_of(name, now)
  local found = redis.call('HMGET', name, unpack(COUNTED))
  local counters = {}
  for i, field in ipairs(COUNTED) do counters[field] = tonumber(found[i]) or i < 10 and 0 or nil end
  if counters.day ~= day_of(now) then
    counters.day, counters.accepted, counters.cpu, counters.is_new = day_of(now), 0, 0, true
  end
  return counters
end

-- The change of an execution from a class to another, or to its end; then its reserve is freed and what it used counts.
-- `bytes` are added to those of a key. Reads the counters before, unless the caller knows them.
local function count_change(name, counters, before, after, reserved, used, bytes)
  counters[before] = counters[before] - 1
  local changed = {before, counters[before]}
  local function add(field, value) changed[#changed + 1], changed[#changed + 2] = field, value end
  if after then
    counters[after] = counters[after] + 1
    add(after, counters[after])
  else
    add('reserved', math.max(0, counters.reserved - reserved))
    if used > 0 or counters.is_new then add('cpu', counters.cpu + used) end
    if counters.is_new then
      add('day', counters.day)
      add('accepted', 0)
    end
  end
  if bytes ~= 0 then add('bytes', counters.bytes + bytes) end
  redis.call('HSET', name, unpack(changed))
end
