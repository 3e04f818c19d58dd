#!lua flags=allow-oom
-- requires: calls
-- ARGV: broker, milliseconds of its lease, failure of a call whose broker died, upstreams that it releases…
-- A broker's heartbeat. Puts calls of dead brokers (and the broker's own, if its lease had ended) back if their tool is
-- idempotent, and settles the others; then gives this broker its share of the upstreams that no live broker serves.
-- Returns {1 if the lease had not ended, the most upstreams it should serve, {its upstreams}}.
local broker, lease, unknown = unpack(ARGV, 1, 3)
local MOST_REAPED = 1000
local now = clock()

local function reap(other)
  local taken = tool_taken_key(other)
  for _, id in ipairs(redis.call('SRANDMEMBER', taken, MOST_REAPED)) do
    local call = tool_call_key(id)
    local found = redis.call(
      'HMGET', call, 'reply_to', 'execution', 'attempt', 'broker', 'state', 'upstream', 'tool', 'deadline'
    )
    redis.call('SREM', taken, id)
    if found[5] == 'taken' and found[4] == other then
      local upstream = found[6]
      if redis.call('SISMEMBER', tool_idempotent_key(upstream), found[7]) == 1 then
        redis.call('HSET', call, 'state', 'waiting')
        redis.call('HDEL', call, 'broker')
        redis.call('LPUSH', tool_waiting_key(upstream), id)
        redis.call('EXPIRE', tool_waiting_key(upstream), math.ceil(math.max(0, found[8] - now) + SETTLED_SECONDS))
      else
        finish(id, {found[1], found[2], found[3], false}, '', unknown)
      end
    end
  end
  return redis.call('EXISTS', taken) == 0
end

local known = redis.call('EXISTS', tool_broker_key(broker))
if known == 0 then
  while not reap(broker) do end
  redis.call('DEL', tool_cancelled_key(broker))
end
redis.call('SET', tool_broker_key(broker), 1, 'PX', lease)
redis.call('ZADD', TOOL_BROKERS, now, broker)
local live, number = {}, 0
for _, other in ipairs(redis.call('ZRANGE', TOOL_BROKERS, 0, -1)) do
  if redis.call('EXISTS', tool_broker_key(other)) == 1 then
    live[other] = true
    number = number + 1
  elseif reap(other) then
    redis.call('ZREM', TOOL_BROKERS, other)
    redis.call('DEL', tool_cancelled_key(other), tool_bell_key(other))
  end
end
for i = 4, #ARGV do
  if redis.call('HGET', TOOL_OWNERS, ARGV[i]) == broker then redis.call('HDEL', TOOL_OWNERS, ARGV[i]) end
end

local upstreams = redis.call('SMEMBERS', TOOL_UPSTREAMS)
upstreams[#upstreams + 1] = UNDECLARED
table.sort(upstreams)
local declared, owners, mine, free = {}, {}, {}, {}
for _, upstream in ipairs(upstreams) do declared[upstream] = true end
local pairs_of_owners = redis.call('HGETALL', TOOL_OWNERS)
for i = 1, #pairs_of_owners, 2 do
  local upstream, owner = pairs_of_owners[i], pairs_of_owners[i + 1]
  if not declared[upstream] or not live[owner] then
    redis.call('HDEL', TOOL_OWNERS, upstream)
  else
    owners[upstream] = owner
  end
end
for _, upstream in ipairs(upstreams) do
  if owners[upstream] == broker then mine[#mine + 1] = upstream end
  if not owners[upstream] then free[#free + 1] = upstream end
end
local share = math.ceil(#upstreams / number)
for _, upstream in ipairs(free) do
  if #mine >= share then break end
  redis.call('HSET', TOOL_OWNERS, upstream, broker)
  mine[#mine + 1] = upstream
  if redis.call('EXISTS', tool_waiting_key(upstream)) == 1 then ring(broker) end
end
for _, upstream in ipairs(mine) do
  if redis.call('EXISTS', tool_waiting_key(upstream)) == 1 then ring(broker) end
end
return {known, share, mine}
