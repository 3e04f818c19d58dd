"""The Lua scripts by which queued executions come to workers, each one atomic step.

They change records as those of :mod:`orchestrator.store.scripts` do. What RQ calls its keys they are told by
:mod:`orchestrator.queue`.
"""

from __future__ import annotations

from orchestrator.store.scripts import STATES

# KEYS: queued, worker, its executions, n bells (one of each isolation), then for each priority, highest first, n queues
# (likewise), then in the same order the registry of each queue's begun jobs
# ARGV: n, number of queues, worker, now, the same as a date, seconds after which a begun job is taken for lost,
# prefixes of the keys of a job, of a begun job, and of the jobs begun of one; then, if there is one, what to forget:
# id, attempt, registry
# Forgets a job that was begun. Then pops the id that was queued first among those of the highest priority, keeps each
# bell no longer than what is left for it, and claims the execution; an id that is not queued any more is passed over.
# Returns {number of the queue, id, attempt, specification, seal} or nothing.
TAKE = (
    STATES
    + """
local n, queues, worker = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local function key(prefix, id) return ARGV[prefix] .. id end

local function forget(id, attempt, registry)
  local begun = id .. ':' .. attempt
  redis.call('ZREM', registry, begun)
  redis.call('SREM', KEYS[3], begun)
  redis.call('DEL', key(8, begun), key(9, id))
  local state = redis.call('HGET', 'mayfly:execution:' .. id, 'state')
  if not CLASSES[state] then
    redis.call('DEL', key(7, id))
  elseif state == 'queued' then
    redis.call('HSET', key(7, id), 'status', 'queued')
  end
  if redis.call('EXISTS', KEYS[2]) == 1 then
    redis.call('HINCRBY', KEYS[2], 'successful_job_count', 1)
    if redis.call('EXISTS', KEYS[3]) == 0 then redis.call('HSET', KEYS[2], 'state', 'idle') end
  end
end

local function note(id, attempt, registry)
  local begun, seconds = id .. ':' .. attempt, tonumber(ARGV[6])
  redis.call('HSET', key(7, id), 'status', 'started', 'started_at', ARGV[5], 'last_heartbeat', ARGV[5],
             'worker_name', worker)
  redis.call('HSET', key(8, begun), 'id', attempt, 'job_id', id, 'created_at', ARGV[4], 'last_heartbeat', ARGV[4],
             'worker_name', worker)
  redis.call('EXPIRE', key(8, begun), seconds)
  redis.call('ZADD', key(9, id), ARGV[4] + seconds + 60, attempt)
  redis.call('EXPIRE', key(9, id), seconds + 60)
  redis.call('ZADD', registry, ARGV[4] + seconds, begun)
  redis.call('SADD', KEYS[3], begun)
  redis.call('EXPIRE', KEYS[3], seconds + 60)
  if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('HSET', KEYS[2], 'state', 'busy') end
end

local function pop()
  for first = 4 + n, 3 + n + queues, n do
    local id, from, oldest
    for i = first, first + n - 1 do
      local head = redis.call('LINDEX', KEYS[i], 0)
      local since = head and tonumber(redis.call('ZSCORE', KEYS[1], head) or 0)
      if head and (not oldest or since < oldest) then oldest, id, from = since, head, i end
    end
    if id then
      redis.call('LPOP', KEYS[from])
      return id, from
    end
  end
end

if ARGV[10] then forget(ARGV[10], ARGV[11], ARGV[12]) end
local taken
while n > 0 and not taken do
  local id, from = pop()
  if not id then break end
  local found = found_of(id)
  if found[1] == 'queued' then
    local attempt = advance(id, found, 'starting', ARGV[4], 0, '', {'worker', worker})
    note(id, attempt, KEYS[from + queues])
    local sealed = redis.call('HMGET', 'mayfly:execution:' .. id, 'spec', 'signature')
    taken = {from - 4 - n, id, attempt, sealed[1], sealed[2]}
  end
end
for tier = 1, n do
  local left = 0
  for i = 3 + n + tier, 3 + n + queues, n do left = left + redis.call('LLEN', KEYS[i]) end
  if left == 0 then redis.call('DEL', KEYS[3 + tier]) else redis.call('LTRIM', KEYS[3 + tier], 0, left - 1) end
end
return taken
"""
)

# KEYS: record, queued, queue, bell   ARGV: id
# Puts a queued execution that stands on no queue back on it. Returns 1 if it did.
REQUEUE = """
if redis.call('HGET', KEYS[1], 'state') ~= 'queued' then
  return 0
end
if redis.call('LPOS', KEYS[3], ARGV[1]) then return 0 end
redis.call('RPUSH', KEYS[3], ARGV[1])
redis.call('RPUSH', KEYS[4], 1)
return 1
"""
