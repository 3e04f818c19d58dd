-- One entry on the installation's security log and on the tenant's, if it has one.
-- Both are bounded by length, age and bytes, roughly: Redis drops whole nodes. Bytes are summed up when added, and
-- the log is measured only when the sum is too large; then its older half is dropped, or the sum is corrected.
-- In a small Redis a log has an eighth of the tenant's share.
local function keep_small(name, seconds, added, tenant)
  local most = tonumber(redis.call('HGET', tenant_room_key(tenant), 'most') or '')
  local bound = math.min(LOG_BYTES, (most or math.huge) / 8)
  local sum = security_bytes_key(name)
  if redis.call('INCRBY', sum, added) > bound then
    if redis.call('MEMORY', 'USAGE', name, 'SAMPLES', 0) > bound then
      redis.call('XTRIM', name, 'MAXLEN', math.floor(redis.call('XLEN', name) / 2))
    end
    redis.call('SET', sum, redis.call('MEMORY', 'USAGE', name, 'SAMPLES', 0))
  end
  redis.call('EXPIRE', sum, seconds)
end
local function log(length, seconds, tenant, ...)
  local oldest = math.max(0, tonumber(redis.call('TIME')[1]) - tonumber(seconds)) * 1000
  local names, added = {[SECURITY] = SECURITY_WAKE}, 0
  for _, part in ipairs({...}) do added = added + #part end
  if tenant ~= '' then names[tenant_security_key(tenant)] = tenant_security_wake_key(tenant) end
  for name, channel in pairs(names) do
    redis.call('XADD', name, 'MAXLEN', '~', length, '*', 't', tenant, ...)
    redis.call('XTRIM', name, 'MINID', '~', string.format('%.0f', oldest))
    redis.call('EXPIRE', name, seconds)
    keep_small(name, seconds, added, tenant)
    redis.call('PUBLISH', WAKE .. channel, 'security')
  end
end
