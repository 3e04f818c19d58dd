#!lua
-- ARGV: seconds
-- Adds an outage to the times by which executions wait and are kept, and to the times that clients are shown.
local seconds = ARGV[1]
for _, id in ipairs(redis.call('ZRANGEBYSCORE', QUEUED, '(0', '+inf')) do
  redis.call('ZINCRBY', QUEUED, seconds, id)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', EXPIRY, '(0', '+inf')) do
  redis.call('ZINCRBY', EXPIRY, seconds, id)
  if redis.call('HEXISTS', execution_key(id), 'expires_at') == 1 then
    redis.call('HINCRBYFLOAT', execution_key(id), 'expires_at', seconds)
  end
end
