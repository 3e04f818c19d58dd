-- The bytes of output that Redis may still take: up to a share of `maxmemory`, less the reserve for executions
-- that were accepted and have not ended. `INFO` costs as much as five other commands, so the answer is cached for a
-- moment, and bytes written since are subtracted. The allocator rounds output up by a quarter. Redis does not count
-- what waits for its append-only file or for its replicas.
local function left_bytes(share)
  local left = tonumber(redis.pcall('GET', ROOM_LEFT))
  if left then return left end
  local memory = redis.call('INFO', 'memory')
  local most, used = string.match(memory, '\nmaxmemory:(%d+)'), string.match(memory, '\nused_memory:(%d+)')
  local waiting = string.match(memory, '\nmem_not_counted_for_evict:(%d+)')
  if most == '0' then return 2^52 end
  local accepted = redis.call('ZCARD', QUEUED) + redis.call('ZCARD', ACTIVE)
  return share * most - (used - waiting) - accepted * RESERVED_BYTES
end

local function take_room(left, bytes)
  local milliseconds = redis.call('PTTL', ROOM_LEFT)
  if milliseconds <= 0 then milliseconds = LEFT_MILLISECONDS end
  redis.call('SET', ROOM_LEFT, string.format('%.0f', left - 1.25 * bytes), 'PX', milliseconds)
end
