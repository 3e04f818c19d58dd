-- Redis's clock, in seconds since the epoch. It is used for every comparison with a time that
-- another process wrote, since each host's own clock may be wrong, and jump.
local function clock()
  local time = redis.call('TIME')
  return time[1] + time[2] / 1000000
end
