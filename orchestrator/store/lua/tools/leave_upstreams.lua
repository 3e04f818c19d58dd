#!lua flags=allow-oom
-- ARGV: broker
-- Ends a broker's lease and gives its upstreams back. Calls that it still has are found by the next heartbeat of
-- another broker.
local broker = ARGV[1]
local owners = redis.call('HGETALL', TOOL_OWNERS)
for i = 1, #owners, 2 do
  if owners[i + 1] == broker then redis.call('HDEL', TOOL_OWNERS, owners[i]) end
end
redis.call('DEL', tool_broker_key(broker), tool_bell_key(broker))
if redis.call('EXISTS', tool_taken_key(broker)) == 0 then
  redis.call('ZREM', TOOL_BROKERS, broker)
  redis.call('DEL', tool_cancelled_key(broker))
end
