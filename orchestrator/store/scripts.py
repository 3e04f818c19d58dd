"""The Lua scripts by which records change: each is one atomic step, and nothing else writes a record's state.

The state machine is passed in as data from :data:`orchestrator.states.TRANSITIONS`; a script refuses a step the table
does not have. Times are seconds since the epoch, as text.
"""

from __future__ import annotations

from orchestrator.anomaly import BUCKET_SECONDS, EVERYONE_ELSE, KEPT_SECONDS, MOST_SERIES

# A function for the scripts below: one more of something for a tenant, an environment and a worker, as far as there are
# such, in the counters of the present bucket of time. What comes after the most series there may be is counted as one.
_TALLY = f"""
local function tally(what, names)
  local bucket = 'mayfly:rates:' .. math.floor(redis.call('TIME')[1] / {BUCKET_SECONDS})
  local size = redis.call('HLEN', bucket)
  for dimension, name in pairs(names) do
    if name and name ~= '' then
      local series = dimension .. '|' .. what .. '|'
      if size >= {MOST_SERIES} and redis.call('HEXISTS', bucket, series .. name) == 0 then name = '{EVERYONE_ELSE}' end
      redis.call('HINCRBY', bucket, series .. name, 1)
    end
  end
  if size == 0 then redis.call('EXPIRE', bucket, {KEPT_SECONDS}) end
end
"""

# KEYS: record, tenant index, tenant counters, queued, stream, bell, job, queue, queues, [idempotency]
# ARGV: id, now, queue limit, body digest, idempotency seconds, queue, n, n record fields…, job fields…
SUBMIT = """
if KEYS[10] then
  local seen = redis.call('GET', KEYS[10])
  if seen then return {'seen', seen} end
end
if redis.call('ZCARD', KEYS[4]) >= tonumber(ARGV[3]) then return {'full'} end
if KEYS[10] then
  redis.call('SET', KEYS[10], ARGV[4] .. ' ' .. ARGV[1], 'EX', ARGV[5])
end
local n = tonumber(ARGV[7])
redis.call('HSET', KEYS[1], 'state', 'queued', 'attempt', 0, unpack(ARGV, 8, 7 + n))
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
redis.call('HINCRBY', KEYS[3], 'queued', 1)
redis.call('ZADD', KEYS[4], ARGV[2], ARGV[1])
redis.call('XADD', KEYS[5], '*', 't', 'state', 'd', 'queued', 'a', 0)
redis.call('HSET', KEYS[7], unpack(ARGV, 8 + n))
redis.call('SADD', KEYS[9], ARGV[6])
redis.call('RPUSH', KEYS[8], ARGV[1])
redis.call('RPUSH', KEYS[6], 1)
return {'ok'}
"""

# KEYS: record, queued, active, expiry, stream
# ARGV: id, to, attempt or '', now, retention seconds, wake channel, from states (comma separated), how it counts when
# this ends an attempt, fields…
# Returns {1, attempt}, and for a claim the specification and its seal too; or {0, state}.
TRANSITION = (
    _TALLY
    + """
local found = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'tenant', 'environment', 'worker')
local state, attempt = found[1], tonumber(found[2])
if not state then return {0, ''} end
local counters = 'mayfly:tenant:' .. found[3] .. ':counters'
local allowed = false
for from in string.gmatch(ARGV[7], '[^,]+') do
  if from == state then allowed = true end
end
if not allowed or (ARGV[3] ~= '' and tonumber(ARGV[3]) ~= attempt) then return {0, state} end
local to = ARGV[2]
if to == 'starting' then attempt = redis.call('HINCRBY', KEYS[1], 'attempt', 1) end
redis.call('HSET', KEYS[1], 'state', to, unpack(ARGV, 9))
local function class(s)
  if s == 'queued' then return 'queued' end
  if s == 'starting' or s == 'running' then return 'active' end
end
local before, after = class(state), class(to)
if before ~= after then
  local index = {queued = KEYS[2], active = KEYS[3]}
  redis.call('ZREM', index[before], ARGV[1])
  redis.call('HINCRBY', counters, before, -1)
  if after then
    redis.call('ZADD', index[after], ARGV[4], ARGV[1])
    redis.call('HINCRBY', counters, after, 1)
  end
end
redis.call('XADD', KEYS[5], '*', 't', 'state', 'd', to, 'a', attempt)
if not after then
  redis.call('ZADD', KEYS[4], tonumber(ARGV[4]) + tonumber(ARGV[5]), ARGV[1])
  redis.call('XADD', KEYS[5], '*', 't', 'done', 'd', to, 'a', attempt)
end
if ARGV[8] ~= '' then tally(ARGV[8], {tenant = found[3], environment = found[4], worker = found[5]}) end
redis.call('PUBLISH', ARGV[6], to)
if to == 'starting' then return {1, attempt, unpack(redis.call('HMGET', KEYS[1], 'spec', 'signature'))} end
return {1, attempt}
"""
)

# KEYS: record   ARGV: now, cancel channel, id, reason
# Returns the state it found; sets cancel_requested_at on an execution that has not ended.
REQUEST_CANCEL = """
local state = redis.call('HGET', KEYS[1], 'state')
if state == 'starting' or state == 'running' then
  if redis.call('HSETNX', KEYS[1], 'cancel_requested_at', ARGV[1]) == 1 then
    redis.call('HSET', KEYS[1], 'cancel_reason', ARGV[4])
  end
  redis.call('PUBLISH', ARGV[2], ARGV[3])
end
return state
"""

# A function for the scripts below: one entry on the installation's security log and on the tenant's, if it has one.
# Both are bounded by length, age and bytes, roughly: Redis drops whole nodes. Bytes are added up as they come, and what
# the log takes is measured only when the sum is too large; then its older half goes, or only the sum was wrong.
LOG_BYTES = 32 * 2**20
_LOG = f"""
local function keep_small(name, seconds, added)
  local sum = name .. ':bytes'
  if redis.call('INCRBY', sum, added) > {LOG_BYTES} then
    if redis.call('MEMORY', 'USAGE', name, 'SAMPLES', 0) > {LOG_BYTES} then
      redis.call('XTRIM', name, 'MAXLEN', math.floor(redis.call('XLEN', name) / 2))
    end
    redis.call('SET', sum, redis.call('MEMORY', 'USAGE', name, 'SAMPLES', 0))
  end
  redis.call('EXPIRE', sum, seconds)
end
local function log(length, seconds, tenant, ...)
  local oldest = math.max(0, tonumber(redis.call('TIME')[1]) - tonumber(seconds)) * 1000
  local names, added = {{['mayfly:security'] = 'security'}}, 0
  for _, part in ipairs({{...}}) do added = added + #part end
  if tenant ~= '' then names['mayfly:tenant:' .. tenant .. ':security'] = 'security:' .. tenant end
  for name, channel in pairs(names) do
    redis.call('XADD', name, 'MAXLEN', '~', length, '*', 't', tenant, ...)
    redis.call('XTRIM', name, 'MINID', '~', string.format('%.0f', oldest))
    redis.call('EXPIRE', name, seconds)
    keep_small(name, seconds, added)
    redis.call('PUBLISH', 'mayfly:wake:' .. channel, 'security')
  end
end
"""

# KEYS: record, stream
# ARGV: id, attempt, wake channel, log length, log seconds, then triples of (type, data, security 0|1)
# Appends to the stream of the attempt that owns the execution, and what is security to the logs in the same step.
# Returns 1, or 0 for a stale attempt.
APPEND = (
    _TALLY
    + _LOG
    + """
if redis.call('HGET', KEYS[1], 'attempt') ~= ARGV[2] then return 0 end
local tenant, source, environment, worker
for i = 6, #ARGV, 3 do
  if ARGV[i + 2] == '0' then
    redis.call('XADD', KEYS[2], '*', 't', ARGV[i], 'd', ARGV[i + 1], 'a', ARGV[2])
  else
    if not tenant then
      local found = redis.call('HMGET', KEYS[1], 'tenant', 'worker', 'environment')
      tenant, worker, environment = found[1], found[2] or '', found[3] or ''
      source = 'worker:' .. worker
    end
    local entry = redis.call('XADD', KEYS[2], '*', 't', ARGV[i], 'd', ARGV[i + 1], 'a', ARGV[2], 's', source)
    if redis.call('HINCRBY', KEYS[1], 'security_events', 1) == 1 then
      tally('security', {tenant = tenant, environment = environment, worker = worker})
    end
    log(ARGV[4], ARGV[5], tenant, 'i', ARGV[1] .. ':' .. entry, 'd', ARGV[i + 1], 's', source, 'x', ARGV[1],
        'e', environment)
  end
end
redis.call('PUBLISH', ARGV[3], 'output')
return 1
"""
)

# ARGV: log length, log seconds, tenant or '', then the entry's other fields
# Writes an event that stands on no execution.
LOG = _LOG + "log(unpack(ARGV))"

# KEYS: counts   ARGV: who, most different ones, seconds
# Counts one more of something, in a window that begins with the first. Returns {who, count}; all who come after the
# most different ones are counted together, as the empty name.
COUNT = (
    _TALLY
    + """
local who = ARGV[1]
local known = redis.call('HLEN', KEYS[1])
if known >= tonumber(ARGV[2]) and redis.call('HEXISTS', KEYS[1], who) == 0 then who = '' end
local count = redis.call('HINCRBY', KEYS[1], who, 1)
if known == 0 then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
tally('security', {source = 'api'})
return {who, count}
"""
)

# KEYS: queued, n bells (one of each isolation), then for each priority, highest first, n queues (likewise)   ARGV: n
# Pops the id that was queued first among those of the highest priority, and keeps each bell no longer than what is
# left for it. Returns {queue key, id} or nothing.
POP = """
local n = tonumber(ARGV[1])
local id, from
for first = 2 + n, #KEYS, n do
  local oldest
  for i = first, first + n - 1 do
    local head = redis.call('LINDEX', KEYS[i], 0)
    local since = head and tonumber(redis.call('ZSCORE', KEYS[1], head) or 0)
    if head and (not oldest or since < oldest) then oldest, id, from = since, head, KEYS[i] end
  end
  if id then
    redis.call('LPOP', from)
    break
  end
end
for tier = 1, n do
  local left = 0
  for i = 1 + n + tier, #KEYS, n do left = left + redis.call('LLEN', KEYS[i]) end
  if left == 0 then redis.call('DEL', KEYS[1 + tier]) else redis.call('LTRIM', KEYS[1 + tier], 0, left - 1) end
end
if id then return {from, id} end
"""

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
