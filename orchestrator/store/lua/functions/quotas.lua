-- requires: counters
-- The first quota that one more submission exceeds: {name, bound, use, seconds to wait}, or nothing. Bounds are ''
-- where there is no quota: of queued executions, executions a day, microseconds of CPU time a day, and submissions a
-- second. `reserve` is the CPU time that the execution may use.
local function exceeded(counters, bounds, reserve, now)
  local queued, accepted, cpu, rate = unpack(bounds)
  local tomorrow = math.ceil((counters.day + 1) * 86400 - now)
  if queued ~= '' and counters.queued >= tonumber(queued) then return {'queued', queued, counters.queued, 5} end
  if accepted ~= '' and counters.accepted >= tonumber(accepted) then
    return {'executions_per_day', accepted, counters.accepted, tomorrow}
  end
  if cpu ~= '' and counters.cpu + counters.reserved + reserve > tonumber(cpu) then
    local wait = counters.cpu + reserve > tonumber(cpu) and tomorrow or 5
    return {'cpu_seconds_per_day', cpu, string.format('%.0f', counters.cpu + counters.reserved), wait}
  end
  if rate ~= '' then
    -- As many as a second allows may come at once.
    local wait = counters.next - now - (math.max(1, rate) - 1) / rate
    if wait > 0.000001 then return {'submissions_per_second', rate, rate, math.ceil(wait)} end
  end
end

-- Counts one more submission. The rest are further fields and values that have changed.
local function accept(name, counters, rate, reserve, now, ...)
  local changed = {
    'queued', counters.queued + 1, 'reserved', counters.reserved + reserve, 'accepted', counters.accepted + 1, ...
  }
  local function add(field, value) changed[#changed + 1], changed[#changed + 2] = field, value end
  if counters.is_new then
    add('day', counters.day)
    add('cpu', 0)
  end
  if rate ~= '' then add('next', string.format('%.6f', math.max(counters.next, now) + 1 / rate)) end
  redis.call('HSET', name, unpack(changed))
end
