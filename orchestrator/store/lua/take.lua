#!lua
-- requires: states, age, retire
-- KEYS: worker, its executions, all queues
-- ARGV: worker, now, the same as a date, seconds after which a begun job is taken for lost, prefixes of the keys of a
-- job, of a begun job, of the jobs begun of one, of a queue, and of the registry of its begun jobs; the most executions
-- that a tenant may have with workers to be served; number n of isolations, isolations, number of kinds of queue, for
-- each priority, highest first, n kinds (in the isolations' order); then, if there is one, what to forget: id, attempt,
-- queue
-- Forgets a job that was begun. Then pops, of the tenant that is first in line, the oldest execution among those of its
-- highest priority, and claims the execution; an id that is not queued any more is passed over. Keeps each bell
-- no longer than all that is queued, and silent if nobody could be served for it. Names that are no tenant's, queues
-- that are no lists and ids that nobody submitted are passed over, and removed. Returns {queue, id, attempt,
-- specification, seal, seconds since it was created} or nothing.
local worker_key, executions, queues = unpack(KEYS)
local worker, now, date, seconds = unpack(ARGV, 1, 4)
local job_prefix, begun_prefix, jobs_prefix, queue_prefix, registry_prefix = unpack(ARGV, 5, 9)
local most, n = tonumber(ARGV[10]), tonumber(ARGV[11])
local beyond = (most + 1) * 2^40
local offered = {unpack(ARGV, 12, 11 + n)}
local kinds = {unpack(ARGV, 13 + n, 12 + n + ARGV[12 + n])}
local done = 13 + n + #kinds
local function job(id) return job_prefix .. id end
local function begun_job(begun) return begun_prefix .. begun end
local function jobs_begun(id) return jobs_prefix .. id end
local function queue(name) return queue_prefix .. name end
local function registry(name) return registry_prefix .. name end

local function forget(id, attempt, name)
  local begun = id .. ':' .. attempt
  redis.call('ZREM', registry(name), begun)
  redis.call('SREM', executions, begun)
  redis.call('DEL', begun_job(begun), jobs_begun(id))
  local state = redis.call('HGET', execution_key(id), 'state')
  if not CLASSES[state] then
    redis.call('DEL', job(id))
  elseif state == 'queued' then
    redis.call('HSET', job(id), 'status', 'queued')
  end
  retire(queues, queue(name), registry(name))
  if redis.call('EXISTS', worker_key) == 1 then
    redis.call('HINCRBY', worker_key, 'successful_job_count', 1)
    if redis.call('EXISTS', executions) == 0 then redis.call('HSET', worker_key, 'state', 'idle') end
  end
end

local function note(id, attempt, name)
  local begun = id .. ':' .. attempt
  redis.call('HSET', job(id), 'status', 'started', 'started_at', date, 'last_heartbeat', date,
             'worker_name', worker)
  redis.call('HSET', begun_job(begun), 'id', attempt, 'job_id', id, 'created_at', now, 'last_heartbeat', now,
             'worker_name', worker)
  redis.call('EXPIRE', begun_job(begun), seconds)
  redis.call('ZADD', jobs_begun(id), now + seconds + 60, attempt)
  redis.call('EXPIRE', jobs_begun(id), seconds + 60)
  redis.call('ZADD', registry(name), now + seconds, begun)
  redis.call('SADD', executions, begun)
  redis.call('EXPIRE', executions, seconds + 60)
  if redis.call('EXISTS', worker_key) == 1 then redis.call('HSET', worker_key, 'state', 'busy') end
end

local function next_tenant()
  local tenant, best
  for _, isolation in ipairs(offered) do
    local line = line_key(isolation)
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
    if redis.call('EXISTS', unpack(queues)) == 0 then redis.call('ZREM', line_key(offered[tier]), tenant) end
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
    local sealed = redis.call('HMGET', execution_key(id), 'spec', 'signature', 'created_at')
    local waited = math.max(0, clock() - (tonumber(sealed[3]) or clock()))
    taken = {from, id, attempt, sealed[1], sealed[2], string.format('%.6f', waited)}
  elseif id then
    if not CLASSES[found[1]] then redis.call('DEL', job(id)) end  -- whoever ended it had no time to
    retire(queues, queue(from), registry(from))
  end
end
for _, isolation in ipairs(offered) do
  local bell, first = bell_key(isolation), redis.call('ZRANGE', line_key(isolation), 0, 0, 'WITHSCORES')
  for name, from in pairs({[bell] = 2^52, [bell .. ':spare'] = 2^40}) do
    if first[1] and tonumber(first[2]) < from then
      redis.call('LTRIM', name, 0, redis.call('ZCARD', QUEUED) - 1)
    else
      redis.call('DEL', name)
    end
  end
end
return taken
