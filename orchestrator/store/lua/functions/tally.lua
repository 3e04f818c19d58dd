-- requires: clock
-- Counts an event for its tenant, environment and worker, as far as known, in the counters of the
-- current bucket of time. Series beyond the bound are counted together.
local function tally(what, names)
  local bucket = RATES .. math.floor(clock() / BUCKET_SECONDS)
  local size = redis.call('HLEN', bucket)
  for dimension, name in pairs(names) do
    if name and name ~= '' then
      local series = dimension .. '|' .. what .. '|'
      if size >= MOST_SERIES and redis.call('HEXISTS', bucket, series .. name) == 0 then name = EVERYONE_ELSE end
      redis.call('HINCRBY', bucket, series .. name, 1)
    end
  end
  if size == 0 then redis.call('EXPIRE', bucket, KEPT_SECONDS) end
end
