"""The Lua scripts by which queued executions come to workers, each one atomic step.

They change records as those of :mod:`orchestrator.store.scripts` do. What RQ calls its keys they are told by
:mod:`orchestrator.queue`. A tenant stands in the line of an isolation (``mayfly:line:``) while it has something of it
queued; one whose queues are empty nevertheless, because all was cancelled, goes when its turn comes.
"""

from __future__ import annotations

from orchestrator.store.functions import ALLOWED_WHEN_FULL, LINES, REFUSED_WHEN_FULL, STATES

# A function for the scripts below: when an execution was created, 0 for what is no execution. Queues are in this order.
_AGE = """
local function age_of(id)
  local created = redis.pcall('HGET', 'mayfly:execution:' .. id, 'created_at')
  return type(created) == 'string' and tonumber(created) or 0
end
"""

# A function for the scripts below: takes a queue on which nothing waits, and of which nothing runs, off RQ's list.
_RETIRE = """
local function retire(queues, queue, registry)
  if redis.call('EXISTS', queue, registry) == 0 then redis.call('SREM', queues, queue) end
end
"""

# KEYS: worker, its executions, all queues
# ARGV: worker, now, the same as a date, seconds after which a begun job is taken for lost, prefixes of the keys of a
# job, of a begun job, of the jobs begun of one, of a queue, and of the registry of its begun jobs; the most executions
# that a tenant may have with workers to be served; number n of isolations, isolations, number of kinds of queue, for
# each priority, highest first, n kinds (in the isolations' order); then, if there is one, what to forget: id, attempt,
# queue
# Forgets a job that was begun. Then pops, of the tenant that is first in line, the oldest execution among those of its
# highest priority, and claims the execution; an id that is not queued any more is passed over. Keeps each bell
# no longer than all that is queued, and silent if nobody could be served for it. Names that are no tenant's, queues
# that are no lists and ids that nobody submitted are passed over, and removed. Returns {queue, id, attempt,
# specification, seal, seconds since it was created} or nothing.
TAKE = (
    REFUSED_WHEN_FULL
    + STATES
    + _AGE
    + _RETIRE
    + """
local worker, now = ARGV[1], ARGV[2]
local beyond = (ARGV[10] + 1) * 2^40
local n = tonumber(ARGV[11])
local offered = {unpack(ARGV, 12, 11 + n)}
local kinds = {unpack(ARGV, 13 + n, 12 + n + ARGV[12 + n])}
local done = 13 + n + #kinds
local function job(id) return ARGV[5] .. id end
local function begun_job(begun) return ARGV[6] .. begun end
local function jobs_begun(id) return ARGV[7] .. id end
local function queue(name) return ARGV[8] .. name end
local function registry(name) return ARGV[9] .. name end

local function forget(id, attempt, name)
  local begun = id .. ':' .. attempt
  redis.call('ZREM', registry(name), begun)
  redis.call('SREM', KEYS[2], begun)
  redis.call('DEL', begun_job(begun), jobs_begun(id))
  local state = redis.call('HGET', 'mayfly:execution:' .. id, 'state')
  if not CLASSES[state] then
    redis.call('DEL', job(id))
  elseif state == 'queued' then
    redis.call('HSET', job(id), 'status', 'queued')
  end
  retire(KEYS[3], queue(name), registry(name))
  if redis.call('EXISTS', KEYS[1]) == 1 then
    redis.call('HINCRBY', KEYS[1], 'successful_job_count', 1)
    if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('HSET', KEYS[1], 'state', 'idle') end
  end
end

local function note(id, attempt, name)
  local begun, seconds = id .. ':' .. attempt, tonumber(ARGV[4])
  redis.call('HSET', job(id), 'status', 'started', 'started_at', ARGV[3], 'last_heartbeat', ARGV[3],
             'worker_name', worker)
  redis.call('HSET', begun_job(begun), 'id', attempt, 'job_id', id, 'created_at', now, 'last_heartbeat', now,
             'worker_name', worker)
  redis.call('EXPIRE', begun_job(begun), seconds)
  redis.call('ZADD', jobs_begun(id), now + seconds + 60, attempt)
  redis.call('EXPIRE', jobs_begun(id), seconds + 60)
  redis.call('ZADD', registry(name), now + seconds, begun)
  redis.call('SADD', KEYS[2], begun)
  redis.call('EXPIRE', KEYS[2], seconds + 60)
  if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'state', 'busy') end
end

local function next_tenant()
  local tenant, best
  for _, isolation in ipairs(offered) do
    local line = 'mayfly:line:' .. isolation
    local first = redis.call('ZRANGE', line, 0, 0, 'WITHSCORES')
    while first[1] and not string.match(first[1], '^[a-z0-9][a-z0-9._-]*$') do
      redis.call('ZREM', line, first[1])
      first = redis.call('ZRANGE', line, 0, 0, 'WITHSCORES')
    end
    local at = tonumber(first[2])
    if at and at < (best or beyond) then tenant, best = first[1], at end
  end
  return tenant
end

local function pop_of(tenant)
  for first = 1, #kinds, n do
    local id, from, oldest
    for i = first, first + n - 1 do
      local name = tenant .. ':' .. kinds[i]
      local head = redis.pcall('LINDEX', queue(name), 0)
      if type(head) == 'table' then
        redis.call('DEL', queue(name))
        head = false
      end
      local since = head and age_of(head)
      if head and (not oldest or since < oldest) then oldest, id, from = since, head, name end
    end
    if id then
      redis.call('LPOP', queue(from))
      return id, from
    end
  end
end

local function leave_lines(tenant)
  for tier = 1, n do
    local queues = {}
    for i = tier, #kinds, n do queues[#queues + 1] = queue(tenant .. ':' .. kinds[i]) end
    if redis.call('EXISTS', unpack(queues)) == 0 then redis.call('ZREM', 'mayfly:line:' .. offered[tier], tenant) end
  end
end

if ARGV[done] then forget(ARGV[done], ARGV[done + 1], ARGV[done + 2]) end
local taken
while n > 0 and not taken do
  local tenant = next_tenant()
  if not tenant then break end
  local id, from = pop_of(tenant)
  leave_lines(tenant)
  local found = id and found_of(id) or {}
  if found[1] == 'queued' and #id == 32 and not string.find(id, '[^0-9a-f]') and string.match(found[2], '^%d+$') then
    local attempt = advance(id, found, 'starting', 0, '', {'worker', worker})
    note(id, attempt, from)
    local sealed = redis.call('HMGET', 'mayfly:execution:' .. id, 'spec', 'signature', 'created_at')
    local waited = math.max(0, clock() - (tonumber(sealed[3]) or clock()))
    taken = {from, id, attempt, sealed[1], sealed[2], string.format('%.6f', waited)}
  elseif id then
    if not CLASSES[found[1]] then redis.call('DEL', job(id)) end  -- whoever ended it had no time to
    retire(KEYS[3], queue(from), registry(from))
  end
end
for _, isolation in ipairs(offered) do
  local bell, first = 'mayfly:bell:' .. isolation, redis.call('ZRANGE', 'mayfly:line:' .. isolation, 0, 0, 'WITHSCORES')
  for name, from in pairs({[bell] = 2^52, [bell .. ':spare'] = 2^40}) do
    if first[1] and tonumber(first[2]) < from then
      redis.call('LTRIM', name, 0, redis.call('ZCARD', 'mayfly:queued') - 1)
    else
      redis.call('DEL', name)
    end
  end
end
return taken
"""
)

# KEYS: queued, all queues   ARGV: ids…
# Puts those that are queued and stand on no queue back on it, and their tenants in line; what is not queued, or not
# there at all, is forgotten. Each gets its place by age, in front of all that was created later. Ids that follow one
# another should be of the same age: then they stand side by side, and only the first is looked for. Returns how many it
# put back.
REQUEUE = (
    ALLOWED_WHEN_FULL
    + LINES
    + _AGE
    + """
local function insert(queue, id)
  local age, first, behind = age_of(id), 0, redis.call('LLEN', queue)
  while first < behind do
    local middle = math.floor((first + behind) / 2)
    if age_of(redis.call('LINDEX', queue, middle)) <= age then first = middle + 1 else behind = middle end
  end
  local next = redis.call('LINDEX', queue, first)
  if next then redis.call('LINSERT', queue, 'BEFORE', next, id) else redis.call('RPUSH', queue, id) end
end

local beside = {}  -- by queue, what stands where one was found
local function stands(queue, id)
  if beside[queue] and beside[queue][id] then return true end
  local at = redis.call('LPOS', queue, id)
  if at then
    beside[queue] = {}
    for _, other in ipairs(redis.call('LRANGE', queue, at, at + #ARGV)) do beside[queue][other] = true end
  end
  return at
end

local back = 0
for _, id in ipairs(ARGV) do
  local found = redis.pcall('HMGET', 'mayfly:execution:' .. id, 'state', 'tenant', 'isolation', 'queue')
  local state, tenant, isolation, queue = unpack(found.err and {} or found)
  if state ~= 'queued' then
    redis.call('ZREM', KEYS[1], id)
  else
    if not stands(queue, id) then
      insert(queue, id)
      redis.call('SADD', KEYS[2], queue)
      line_up(tenant, isolation, true)
      back = back + 1
    else
      line_up(tenant, isolation)
    end
  end
end
return back
"""
)

# KEYS: queue, registry of its begun jobs, all queues, job   ARGV: id
# Takes an id off its queue.
WITHDRAW = (
    _RETIRE
    + """
redis.call('LREM', KEYS[1], 1, ARGV[1])
redis.call('DEL', KEYS[4])
retire(KEYS[3], KEYS[1], KEYS[2])
"""
)

# KEYS: all queues   ARGV: prefixes as TAKE has them
# Forgets what a worker that died could not: attempts that are over, and the jobs of executions that have ended. Whoever
# has just ended one forgets it, too, and finds nothing. Returns how many it forgot.
SWEEP = (
    STATES
    + _RETIRE
    + """
local forgotten = 0
for _, queue in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local registry = ARGV[5] .. string.sub(queue, #ARGV[4] + 1)
  for _, begun in ipairs(redis.call('ZRANGE', registry, 0, 999)) do
    local id, attempt = string.match(begun, '^(.*):(%d+)$')
    local found = found_of(id or '')
    if CLASSES[found[1]] ~= 'active' or found[2] ~= attempt then
      redis.call('ZREM', registry, begun)
      redis.call('DEL', ARGV[2] .. begun)
      if id then redis.call('ZREM', ARGV[3] .. id, attempt) end
      if id and not CLASSES[found[1]] then redis.call('DEL', ARGV[1] .. id) end
      forgotten = forgotten + 1
    end
  end
  retire(KEYS[1], queue, registry)
end
return forgotten
"""
)

# KEYS: worker's executions   ARGV: now, the same as a date, seconds as TAKE has them, its five prefixes, then pairs of
# a begun job and the name of its queue
# Renews what RQ keeps of jobs that have begun. What is forgotten meanwhile stays so.
RENEW = (
    ALLOWED_WHEN_FULL
    + """
local now, seconds = ARGV[1], tonumber(ARGV[3])
for i = 9, #ARGV, 2 do
  local begun, registry = ARGV[i], ARGV[8] .. ARGV[i + 1]
  if redis.call('ZSCORE', registry, begun) then
    local id, attempt = string.match(begun, '^(.*):(%d+)$')
    redis.call('ZADD', registry, now + seconds, begun)
    redis.call('HSET', ARGV[5] .. begun, 'last_heartbeat', now)
    redis.call('EXPIRE', ARGV[5] .. begun, seconds)
    redis.call('ZADD', ARGV[6] .. id, now + seconds + 60, attempt)
    redis.call('EXPIRE', ARGV[6] .. id, seconds + 60)
    redis.call('HSET', ARGV[4] .. id, 'last_heartbeat', ARGV[2])
  end
end
redis.call('EXPIRE', KEYS[1], seconds + 60)
"""
)

# KEYS: all queues   ARGV: worker's key, seconds, prefixes of a queue and of the set of its workers, isolations…
# Has RQ's tools find a worker by each queue that it serves, which is how they look for workers: those of tenants come
# and go. Of many queues it takes some each time, and gets to all of them within the seconds.
ENROL = """
local offered = {}
for i = 5, #ARGV do offered[ARGV[i]] = true end
for _, queue in ipairs(redis.call('SRANDMEMBER', KEYS[1], 100)) do
  local name = string.sub(queue, #ARGV[3] + 1)
  if offered[string.match(name, ':%a+%-(%a+)$') or 'standard'] then
    redis.call('SADD', ARGV[4] .. name, ARGV[1])
    redis.call('EXPIRE', ARGV[4] .. name, ARGV[2])
  end
end
"""

# KEYS: all queues   ARGV: worker's key, prefixes as ENROL has them
# Has RQ's tools find it by none.
DISMISS = """
for _, queue in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  redis.call('SREM', ARGV[3] .. string.sub(queue, #ARGV[2] + 1), ARGV[1])
end
"""
