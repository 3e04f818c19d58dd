-- Redis's clock, in seconds since the epoch. It is used for every comparison with a time that
-- another process wrote, since each host's own clock may be wrong, and jump.
-- One script has one time.
local read_time
local function clock()
  if not read_time then
    local time = redis.call('TIME')
    read_time = time[1] + time[2] / 1000000
  end
  return read_time
end
