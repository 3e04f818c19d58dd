#!lua flags=allow-oom
-- requires: clock
-- KEYS: record   ARGV: cancel channel, id, reason
-- Returns the current state; sets cancel_requested_at on an execution that has not ended.
local record = KEYS[1]
local channel, id, reason = unpack(ARGV)
local state = redis.call('HGET', record, 'state')
if state == 'starting' or state == 'running' then
  if redis.call('HSETNX', record, 'cancel_requested_at', string.format('%.6f', clock())) == 1 then
    redis.call('HSET', record, 'cancel_reason', reason)
  end
  redis.call('PUBLISH', channel, id)
end
return state
