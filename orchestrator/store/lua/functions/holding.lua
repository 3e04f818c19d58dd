-- requires: place, lines
-- An API key with as many executions on workers as its quota `running` allows: its next are held beside the queues,
-- by age, so that they delay no other key's. They stay `queued`, and are released as soon as the key has room.
local MOST_RELEASED = 100

local function room_of(key)
  local found = redis.call('HMGET', key_counters_key(key), 'active', 'running')
  local bound = tonumber(found[2] or '')
  return bound and bound - (tonumber(found[1]) or 0) or math.huge
end

local function hold(key, id)
  redis.call('ZADD', key_held_key(key), age_of(id), id)
  redis.call('SADD', HOLDING, key)
end

local function release(key, queues)
  local held, room, released = key_held_key(key), math.min(room_of(key), MOST_RELEASED), 0
  while released < room do
    local id = redis.call('ZPOPMIN', held)[1]
    if not id then break end
    local found = redis.call('HMGET', execution_key(id), 'state', 'tenant', 'isolation', 'queue')
    if found[1] == 'queued' then
      insert(found[4], id)
      redis.call('SADD', queues, found[4])
      line_up(found[2], found[3], true)
      released = released + 1
    end
  end
  if redis.call('EXISTS', held) == 0 then redis.call('SREM', HOLDING, key) end
  return released
end
