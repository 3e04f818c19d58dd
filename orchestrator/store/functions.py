"""Functions in Lua that scripts have in common. Times are seconds since the epoch, as text."""

from __future__ import annotations

from orchestrator.anomaly import BUCKET_SECONDS, EVERYONE_ELSE, KEPT_SECONDS, MOST_SERIES
from orchestrator.models import ISOLATIONS

# What an execution is shown from.
TIMES = ("created_at", "started_at", "finished_at", "expires_at", "cancel_requested_at")
FIELDS = ("view", "state", "attempt", "security_events", "result", "result_bytes", *TIMES)
# What is told without being asked for is small: Redis cuts off who lets 8 MB of messages lie.
TOLD_ENTRIES, TOLD_BYTES = 10, 16 * 1024

# Before a script, lets it run while Redis is at its ``maxmemory``: for what ends, frees or keeps alive, and adds
# little.
ALLOWED_WHEN_FULL = "#!lua flags=allow-oom\n"
# Has one refused as a whole then. Without it one that frees something first goes on and takes memory.
REFUSED_WHEN_FULL = "#!lua\n"

# What Redis keeps of a tenant's executions, in bytes: ``bytes`` in ``mayfly:tenant:…:room``, and of each in ``bytes``
# of its record. ``most`` is how much the tenant may have, as the API said at its last submission, if there is a bound.
RECORD_BYTES = 5 * 1024  # of keys, indexes and states, whatever is in them; 4 KB is the least of a stream
ENTRY_BYTES = 32  # of an entry of a stream
IDEMPOTENCY_BYTES = 1024  # of an Idempotency-Key, which stays when its execution is deleted
# What an accepted execution takes at most from its claim to its end, beside output: 2 KiB (measured) and its result.
# So much is kept free for each until then: submissions and output leave it alone.
RESERVED_BYTES = 20 * 1024
CHARGE = """
local function charge(record, tenant, bytes)
  redis.call('HINCRBY', record, 'bytes', bytes)
  redis.call('HINCRBY', 'mayfly:tenant:' .. tenant .. ':room', 'bytes', bytes)
end

local function has_room(tenant, bytes)
  local kept = redis.call('HMGET', 'mayfly:tenant:' .. tenant .. ':room', 'bytes', 'most')
  return not kept[2] or (tonumber(kept[1]) or 0) + bytes <= tonumber(kept[2])
end
"""

# How many bytes of output Redis may still take: up to a share of ``maxmemory``, less what is reserved for executions
# that were accepted and have not ended. ``INFO`` costs as much as five other commands, so the answer is remembered for
# a moment, and what is written meanwhile subtracted. The allocator rounds output up by a quarter.
LEFT_MILLISECONDS = 200
LEFT = f"""
local function left_bytes(share)
  local left = tonumber(redis.pcall('GET', 'mayfly:room-left'))
  if left then return left end
  local memory = redis.call('INFO', 'memory')
  local most, used = string.match(memory, '\\nmaxmemory:(%d+)'), string.match(memory, '\\nused_memory:(%d+)')
  if most == '0' then return 2^52 end
  local accepted = redis.call('ZCARD', 'mayfly:queued') + redis.call('ZCARD', 'mayfly:active')
  return share * most - used - accepted * {RESERVED_BYTES}
end

local function take_room(left, bytes)
  local milliseconds = redis.call('PTTL', 'mayfly:room-left')
  if milliseconds <= 0 then milliseconds = {LEFT_MILLISECONDS} end
  redis.call('SET', 'mayfly:room-left', string.format('%.0f', left - 1.25 * bytes), 'PX', milliseconds)
end
"""

SHOWN = f"""
local function shown(record) return redis.call('HMGET', record, {", ".join(map(repr, FIELDS))}) end
"""

# One more of something for a tenant, an environment and a worker, as far as there are such, in the counters of the
# present bucket of time. What comes after the most series there may be is counted as one.
TALLY = f"""
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

# Where a tenant stands in the lines of those that have work queued. First is who has the fewest executions with
# workers, of those who has waited longest for a turn; so a tenant's wait depends neither on how much others
# have queued nor on how long it runs. A score is exact: 12 bits for the one and 40 for the other.
LINES = (
    f"""
local ISOLATIONS = {{{", ".join(map(repr, ISOLATIONS))}}}
"""
    + """
local function place(tenant)
  local active = tonumber(redis.call('HGET', 'mayfly:tenant:' .. tenant .. ':counters', 'active') or 0)
  local turn = tonumber(redis.call('HGET', 'mayfly:turns', tenant) or 0)
  return math.max(0, math.min(active, 4095)) * 2^40 + turn
end

local function move(tenant)
  local at = place(tenant)
  for _, isolation in ipairs(ISOLATIONS) do redis.call('ZADD', 'mayfly:line:' .. isolation, 'XX', at, tenant) end
end

local function line_up(tenant, isolation, ring)
  local at, bell = place(tenant), 'mayfly:bell:' .. isolation
  redis.call('ZADD', 'mayfly:line:' .. isolation, at, tenant)
  if ring then
    redis.call('RPUSH', bell, 1)
    if at < 2^40 then redis.call('RPUSH', bell .. ':spare', 1) end
  end
end
"""
)

# Redis's clock, in seconds since the epoch. Whatever is compared with a time that
# another process wrote is counted by it, since each host's own may be wrong, and jump.
CLOCK = """
local function clock()
  local time = redis.call('TIME')
  return time[1] + time[2] / 1000000
end
"""

# One entry on the installation's security log and on the tenant's, if it has one.
# Both are bounded by length, age and bytes, roughly: Redis drops whole nodes. Bytes are added up as they come, and what
# the log takes is measured only when the sum is too large; then its older half goes, or only the sum was wrong. In a
# small Redis a log has an eighth of what a tenant may have.
LOG_BYTES = 32 * 2**20
LOGGING = f"""
local function keep_small(name, seconds, added, tenant)
  local most = tonumber(redis.call('HGET', 'mayfly:tenant:' .. tenant .. ':room', 'most') or '')
  local bound = math.min({LOG_BYTES}, (most or math.huge) / 8)
  local sum = name .. ':bytes'
  if redis.call('INCRBY', sum, added) > bound then
    if redis.call('MEMORY', 'USAGE', name, 'SAMPLES', 0) > bound then
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
    keep_small(name, seconds, added, tenant)
    redis.call('PUBLISH', 'mayfly:wake:' .. channel, 'security')
  end
end
"""

# What a step looks at first, whether it may be taken, and the step itself, which gives
# the attempt's number. ``sources`` are the states it may be taken from, separated by commas, or '' for any.
STATES = (
    TALLY
    + CLOCK
    + LINES
    + SHOWN
    + CHARGE
    + f"""
local TOLD_ENTRIES, TOLD_BYTES = {TOLD_ENTRIES}, {TOLD_BYTES}
"""
    + """
local CLASSES = {queued = 'queued', starting = 'active', running = 'active'}

local function found_of(id)
  local found =
    redis.pcall('HMGET', 'mayfly:execution:' .. id, 'state', 'attempt', 'tenant', 'environment', 'worker')
  return found.err and {} or found  -- what is no hash is no record
end

local function allowed(found, attempt, sources)
  if not found[1] then return false end
  -- An attempt that was taken back has lost its right, though the next one has not begun.
  if attempt ~= '' and (attempt ~= found[2] or found[1] == 'queued') then return false end
  return sources == '' or string.find(',' .. sources .. ',', ',' .. found[1] .. ',', 1, true) ~= nil
end

local function advance(id, found, to, retention, counts_as, fields)
  local now = clock()
  local record, stream = 'mayfly:execution:' .. id, 'mayfly:stream:' .. id
  local attempt = found[2]
  if to == 'starting' then attempt = redis.call('HINCRBY', record, 'attempt', 1) end
  redis.call('HSET', record, 'state', to, unpack(fields))
  local before, after = CLASSES[found[1]], CLASSES[to]
  if before ~= after then
    local counters = 'mayfly:tenant:' .. found[3] .. ':counters'
    redis.call('ZREM', 'mayfly:' .. before, id)
    redis.call('HINCRBY', counters, before, -1)
    if after then
      redis.call('ZADD', 'mayfly:' .. after, now, id)
      redis.call('HINCRBY', counters, after, 1)
    end
    if to == 'starting' then redis.call('HSET', 'mayfly:turns', found[3], redis.call('INCR', 'mayfly:turn')) end
    move(found[3])
  end
  redis.call('XADD', stream, '*', 't', 'state', 'd', to, 'a', attempt)
  if not after then
    local asker = redis.call('HGET', record, 'asker')
    local freed = redis.call('HSTRLEN', record, 'spec') + redis.call('STRLEN', 'mayfly:stdin:' .. id)
    charge(record, found[3], redis.call('HSTRLEN', record, 'result') - freed)
    redis.call('HDEL', record, 'spec', 'signature', 'asker')  -- nobody runs it again
    redis.call('DEL', 'mayfly:stdin:' .. id)
    redis.call('ZADD', 'mayfly:expiry', now + tonumber(retention), id)
    redis.call('XADD', stream, '*', 't', 'done', 'd', to, 'a', attempt)
    if asker and redis.call('XLEN', stream) <= TOLD_ENTRIES then
      local told = cmsgpack.pack({shown(record), redis.call('XRANGE', stream, '-', '+')})
      if #told <= TOLD_BYTES then redis.call('PUBLISH', 'mayfly:answers:' .. asker, id .. ' ' .. told) end
    end
    redis.call('PUBLISH', 'mayfly:ended', id)
  end
  if counts_as ~= '' then tally(counts_as, {tenant = found[3], environment = found[4], worker = found[5]}) end
  redis.call('PUBLISH', 'mayfly:wake:' .. id, to)
  return attempt
end
"""
)
