#!lua flags=allow-oom
-- KEYS: worker's executions   ARGV: now, the same as a date, seconds as TAKE has them, its five prefixes, then pairs of
-- a begun job and the name of its queue
-- Renews what RQ keeps of jobs that have begun. What is forgotten meanwhile stays so.
local executions = KEYS[1]
local now, date, seconds, job, begun_job, jobs_begun, _, registries = unpack(ARGV, 1, 8)
for i = 9, #ARGV, 2 do
  local begun, registry = ARGV[i], registries .. ARGV[i + 1]
  if redis.call('ZSCORE', registry, begun) then
    local id, attempt = string.match(begun, '^(.*):(%d+)$')
    redis.call('ZADD', registry, now + seconds, begun)
    redis.call('HSET', begun_job .. begun, 'last_heartbeat', now)
    redis.call('EXPIRE', begun_job .. begun, seconds)
    redis.call('ZADD', jobs_begun .. id, now + seconds + 60, attempt)
    redis.call('EXPIRE', jobs_begun .. id, seconds + 60)
    redis.call('HSET', job .. id, 'last_heartbeat', date)
  end
end
redis.call('EXPIRE', executions, seconds + 60)
