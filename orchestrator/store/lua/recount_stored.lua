-- ARGV: tenant
-- Corrects the stored bytes of a tenant and of its API keys by its records. Returns the number of wrong counters. Reads
-- every record of the tenant; leaves a tenant with more than MOST_RECOUNTED as it is.
local tenant = ARGV[1]
local ids = tenant_index_key(tenant)
if redis.call('ZCARD', ids) > MOST_RECOUNTED then return 0 end
local whole, keys, wrong = {bytes = 0, files = 0}, {}, 0
for _, key in ipairs(redis.call('SMEMBERS', tenant_keys_key(tenant))) do keys[key] = {bytes = 0, files = 0} end
for _, id in ipairs(redis.call('ZRANGE', ids, 0, -1)) do
  local found = redis.call('HMGET', execution_key(id), 'key', 'bytes', 'files')
  local key = found[1] or ''
  keys[key] = keys[key] or {bytes = 0, files = 0}
  for _, sums in ipairs({whole, keys[key]}) do
    sums.bytes, sums.files = sums.bytes + (tonumber(found[2]) or 0), sums.files + (tonumber(found[3]) or 0)
  end
end
local function correct(name, sums)
  local found = redis.call('HMGET', name, 'bytes', 'files')
  for i, field in ipairs({'bytes', 'files'}) do
    if (tonumber(found[i]) or 0) ~= sums[field] then
      redis.call('HSET', name, field, sums[field])
      wrong = wrong + 1
    end
  end
end
if redis.call('EXISTS', ids) == 1 then correct(tenant_room_key(tenant), whole) end
for key, sums in pairs(keys) do
  if key ~= '' then correct(key_counters_key(key), sums) end
end
return wrong
