"""The Lua scripts by which records change: each is one atomic step, and nothing else writes a record's state.

The state machine is passed in as data from :data:`orchestrator.states.TRANSITIONS`; a script refuses a step the table
does not have. Times are seconds since the epoch, as text.
"""

from __future__ import annotations

from orchestrator.store.functions import (
    ALLOWED_WHEN_FULL,
    CHARGE,
    CLOCK,
    ENTRY_BYTES,
    IDEMPOTENCY_BYTES,
    LEFT,
    LINES,
    LOGGING,
    RECORD_BYTES,
    REFUSED_WHEN_FULL,
    SHOWN,
    STATES,
    TALLY,
)

# KEYS: record, tenant index, tenant counters, queued, stream, job, queue, queues, [idempotency, the tenant's of those]
# ARGV: id, queue limit, tenant's queue limit, body digest, idempotency seconds, tenant, isolation, most bytes the
# tenant may have in Redis or '', n, n record fields…, job fields…
# Returns {'ok', when it was created}, or why nothing was written.
SUBMIT = (
    REFUSED_WHEN_FULL
    + LINES
    + CLOCK
    + CHARGE
    + f"local size, IDEMPOTENCY_BYTES = {RECORD_BYTES}, {IDEMPOTENCY_BYTES}"
    + """
local created = redis.call('HGET', KEYS[1], 'created_at')
if created then return {'ok', created} end  -- sent again, since the answer did not arrive
local now = clock()
if KEYS[9] then
  local seen = redis.call('GET', KEYS[9])
  if seen then return {'seen', seen} end
end
if redis.call('ZCARD', KEYS[4]) >= tonumber(ARGV[2]) then return {'full'} end
if tonumber(redis.call('HGET', KEYS[3], 'queued') or 0) >= tonumber(ARGV[3]) then return {'tenant'} end
local n = tonumber(ARGV[9])
for i = 10, 9 + n do size = size + #ARGV[i] end
local room = 'mayfly:tenant:' .. ARGV[6] .. ':room'
if ARGV[8] == '' then redis.call('HDEL', room, 'most') else redis.call('HSET', room, 'most', ARGV[8]) end
local remembered = 0
if KEYS[9] then
  redis.call('ZREMRANGEBYSCORE', KEYS[10], '-inf', now)
  remembered = IDEMPOTENCY_BYTES * (1 + redis.call('ZCARD', KEYS[10]))
end
if not has_room(ARGV[6], size + remembered) then return {'store'} end
if KEYS[9] then
  redis.call('SET', KEYS[9], ARGV[4] .. ' ' .. ARGV[1], 'EX', ARGV[5])
  redis.call('ZADD', KEYS[10], now + ARGV[5], KEYS[9])
  redis.call('EXPIRE', KEYS[10], ARGV[5])
end
created = string.format('%.6f', now)
redis.call('HSET', KEYS[1], 'state', 'queued', 'attempt', 0, 'created_at', created, unpack(ARGV, 10, 9 + n))
charge(KEYS[1], ARGV[6], size)
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('HINCRBY', KEYS[3], 'queued', 1)
redis.call('ZADD', KEYS[4], now, ARGV[1])
redis.call('XADD', KEYS[5], '*', 't', 'state', 'd', 'queued', 'a', 0)
redis.call('HSET', KEYS[6], unpack(ARGV, 10 + n))
redis.call('SADD', KEYS[8], KEYS[7])
redis.call('RPUSH', KEYS[7], ARGV[1])
line_up(ARGV[6], ARGV[7], true)
return {'ok', created}
"""
)

# KEYS: record   ARGV: cancel channel, id, reason
# Returns the state it found; sets cancel_requested_at on an execution that has not ended.
REQUEST_CANCEL = (
    ALLOWED_WHEN_FULL
    + CLOCK
    + """
local state = redis.call('HGET', KEYS[1], 'state')
if state == 'starting' or state == 'running' then
  if redis.call('HSETNX', KEYS[1], 'cancel_requested_at', string.format('%.6f', clock())) == 1 then
    redis.call('HSET', KEYS[1], 'cancel_reason', ARGV[3])
  end
  redis.call('PUBLISH', ARGV[1], ARGV[2])
end
return state
"""
)

# ARGV: id, attempt or '', now, retention seconds, to or '', source states, how it counts when this ends an attempt,
# token, log length, log seconds, share of ``maxmemory`` that output may fill, n, n parts of fields…, then triples of
# (type, data, kind). Kinds: 0 output, 1 a security event, 2 where output lies that is outside of Redis. Fields named
# …_at are times by the clock that says ``now``, and are stored by Redis's.
# Appends to the stream of the attempt that owns the execution, what is security to the logs too, and changes its state:
# before that if it begins to run, behind it if it ends. Returns {1}; or {0, state}, or {2} if the tenant, or Redis, has
# no room for the output; then nothing was done.
_STEP = (
    STATES
    + LOGGING
    + LEFT
    + f"local ENTRY_BYTES = {ENTRY_BYTES}"
    + """
local id, attempt, to = ARGV[1], ARGV[2], ARGV[5]
local found = found_of(id)
if found[1] and redis.call('HGET', 'mayfly:execution:' .. id, 'step') == ARGV[8] then return {1} end
if not allowed(found, attempt, ARGV[6]) then return {0, found[1] or ''} end
local first = 13 + tonumber(ARGV[12])
local output, all = 0, 0
for i = first, #ARGV, 3 do
  local size = #ARGV[i + 1] + ENTRY_BYTES
  all = all + size
  if ARGV[i + 2] == '0' then output = output + size end
end
if output > 0 then
  local left = left_bytes(ARGV[11])
  if output > left or not has_room(found[3], output) then return {2} end
  take_room(left, output)
end
local function change()
  local fields, behind = {unpack(ARGV, 13, first - 1)}, clock() - ARGV[3]
  local earlier = redis.call('HMGET', 'mayfly:execution:' .. id, 'created_at', 'started_at')
  local least = math.max(tonumber(earlier[1] or 0), tonumber(earlier[2] or 0))  -- this clock may have been set back
  for i = 1, #fields, 2 do
    if string.sub(fields[i], -3) == '_at' then
      fields[i + 1] = string.format('%.6f', math.max(least, fields[i + 1] + behind))
    end
  end
  advance(id, found, to, ARGV[4], ARGV[7], fields)
end
if to == 'running' then change() end
local record, stream = 'mayfly:execution:' .. id, 'mayfly:stream:' .. id
redis.call('HSET', record, 'step', ARGV[8])
if all > 0 then charge(record, found[3], all) end
for i = first, #ARGV, 3 do
  if ARGV[i + 2] == '0' then
    redis.call('XADD', stream, '*', 't', ARGV[i], 'd', ARGV[i + 1], 'a', attempt)
  elseif ARGV[i + 2] == '2' then
    redis.call('XADD', stream, '*', 't', ARGV[i], 'f', ARGV[i + 1], 'a', attempt)
  else
    local tenant, environment, worker = found[3], found[4] or '', found[5] or ''
    local source = 'worker:' .. worker
    local entry = redis.call('XADD', stream, '*', 't', ARGV[i], 'd', ARGV[i + 1], 'a', attempt, 's', source)
    if redis.call('HINCRBY', record, 'security_events', 1) == 1 then
      tally('security', {tenant = tenant, environment = environment, worker = worker})
    end
    log(ARGV[9], ARGV[10], tenant, 'i', id .. ':' .. entry, 'd', ARGV[i + 1], 's', source, 'x', id, 'e', environment)
  end
end
if to == '' then
  redis.call('PUBLISH', 'mayfly:wake:' .. id, 'output')
elseif to ~= 'running' then
  change()
end
return {1}
"""
)

STEP = REFUSED_WHEN_FULL + _STEP
# The same for a step that adds no output to Redis, which an execution's end always can be.
STEP_WHEN_FULL = ALLOWED_WHEN_FULL + _STEP

# KEYS: record, stream, standard input, tenant index, what the tenant's executions take, expiry   ARGV: id
# Removes all that Redis keeps of an execution that has ended, or of which there is no record, but for its place among
# what is to be deleted: there it is due until its files are gone, too. Returns 1, 0 if it has not ended, or 2 if there
# was no record.
DELETE = (
    ALLOWED_WHEN_FULL
    + """
local found = redis.call('HMGET', KEYS[1], 'state', 'bytes')
if found[1] == 'queued' or found[1] == 'starting' or found[1] == 'running' then return 0 end
redis.call('ZADD', KEYS[6], 0, ARGV[1])
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('ZREM', KEYS[4], ARGV[1])
if redis.call('EXISTS', KEYS[4]) == 0 then
  redis.call('DEL', KEYS[5])
elseif found[2] then
  redis.call('HINCRBY', KEYS[5], 'bytes', -found[2])
end
return found[1] and 1 or 2
"""
)

# KEYS: the janitor's   ARGV: who asks, seconds
# Makes somebody the janitor unless another one is, or renews that. What never expires is none. Returns whether.
LEAD = (
    ALLOWED_WHEN_FULL
    + """
if redis.call('TYPE', KEYS[1]).ok ~= 'string' or redis.call('TTL', KEYS[1]) < 0 then redis.call('DEL', KEYS[1]) end
local leads = redis.call('GET', KEYS[1])
if leads and leads ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""
)

# Sets right what tenants' counters say, by the records that are queued and with workers; nothing but a loss of data
# makes them differ. Returns how many were wrong. It looks at every queued execution: for once in many minutes.
RECOUNT = (
    LINES
    + """
local counts, wrong = {}, 0
for _, tenant in ipairs(redis.call('HKEYS', 'mayfly:turns')) do counts[tenant] = {} end
for _, class in ipairs({'queued', 'active'}) do
  for _, id in ipairs(redis.call('ZRANGE', 'mayfly:' .. class, 0, -1)) do
    local tenant = redis.call('HGET', 'mayfly:execution:' .. id, 'tenant')
    if tenant then
      counts[tenant] = counts[tenant] or {}
      counts[tenant][class] = (counts[tenant][class] or 0) + 1
    end
  end
end
for tenant, counted in pairs(counts) do
  local counters = 'mayfly:tenant:' .. tenant .. ':counters'
  for _, class in ipairs({'queued', 'active'}) do
    local right = counted[class] or 0
    if tonumber(redis.call('HGET', counters, class) or 0) ~= right then
      redis.call('HSET', counters, class, right)
      wrong = wrong + 1
    end
  end
  move(tenant)
end
return wrong
"""
)

# ARGV: log length, log seconds, tenant or '', then the entry's other fields
# Writes an event that stands on no execution.
LOG = LOGGING + "log(unpack(ARGV))"

# KEYS: counts   ARGV: who, most different ones, seconds
# Counts one more of something, in a window that begins with the first. Returns {who, count}; all who come after the
# most different ones are counted together, as the empty name.
COUNT = (
    TALLY
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

# KEYS: record, stream   ARGV: tenant or '', most entries, where they begin
# Returns {tenant}, and if that is whom it was asked for the record's fields and entries of its stream. What another
# tenant has is as quick to refuse as what is not there.
READ = (
    SHOWN
    + """
local owner = redis.call('HGET', KEYS[1], 'tenant')
if not owner or (ARGV[1] ~= '' and ARGV[1] ~= owner) then return {owner} end
local entries = redis.call('XRANGE', KEYS[2], ARGV[3], '+', 'COUNT', ARGV[2])
return {owner, shown(KEYS[1]), entries}
"""
)

# KEYS: worker, workers   ARGV: worker, what it says, milliseconds of its lease
# A heartbeat, which replaces what no worker has written. Returns {1 if the lease was there still, 1 if it is to drain}.
BEAT = (
    ALLOWED_WHEN_FULL
    + """
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
if redis.call('TYPE', KEYS[2]).ok ~= 'set' then redis.call('DEL', KEYS[2]) end
local known = redis.call('EXISTS', KEYS[1])
redis.call('HSET', KEYS[1], 'status', ARGV[2], 'lease', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('SADD', KEYS[2], ARGV[1])
return {known, redis.call('HEXISTS', KEYS[1], 'drain')}
"""
)

# KEYS: worker, workers   ARGV: worker
# Forgets a worker whose lease ran out, unless it is back by now.
FORGET_WORKER = "if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('SREM', KEYS[2], ARGV[1]) end"
