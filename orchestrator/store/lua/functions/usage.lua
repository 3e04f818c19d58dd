-- Adds amounts, in the order of `USAGE`, to a tenant's usage of a day: once by key and once by environment. Further
-- keys than MOST_USAGE_SERIES are counted together. Malformed values are replaced.
local function day_of(time) return math.floor(time / 86400) end

local function sum_of(kept, amounts)
  local _, sums = pcall(cmsgpack.unpack, kept or '')
  if type(sums) ~= 'table' then sums = {} end
  for i = 1, #USAGE do sums[i] = (tonumber(sums[i]) or 0) + (amounts[i] or 0) end
  return cmsgpack.pack(sums)
end

local function add_usage(tenant, day, key, environment, amounts)
  local usage = tenant_usage_key(tenant .. ':' .. string.format('%.0f', day))
  local series = {'k' .. (key or ''), 'e' .. (environment or '')}
  local kept = redis.pcall('HMGET', usage, unpack(series))
  if kept.err then
    redis.call('DEL', usage)
    kept = {}
  end
  if not (kept[1] and kept[2]) then
    local size = redis.call('HLEN', usage)
    for i, name in ipairs(series) do
      if not kept[i] and size >= MOST_USAGE_SERIES then
        series[i] = string.sub(name, 1, 1) .. EVERYONE_ELSE
        kept[i] = redis.call('HGET', usage, series[i])
      end
    end
    if size == 0 then
      redis.call('HSET', usage, series[1], '')
      redis.call('EXPIRE', usage, USAGE_SECONDS)
    end
  end
  redis.call('HSET', usage, series[1], sum_of(kept[1], amounts), series[2], sum_of(kept[2], amounts))
end
