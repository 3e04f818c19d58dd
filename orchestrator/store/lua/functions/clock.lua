-- Redis's clock, in seconds since the epoch. Whatever is compared with a time that
-- another process wrote is counted by it, since each host's own may be wrong, and jump.
local function clock()
  local time = redis.call('TIME')
  return time[1] + time[2] / 1000000
end
