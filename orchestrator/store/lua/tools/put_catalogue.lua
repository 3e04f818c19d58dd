#!lua
-- ARGV: broker or '', tenant, server, catalogue, change or '', most changes kept, names of idempotent tools…
-- Writes the catalogue of an upstream that the broker serves, and a change to the history. Returns 1, or 0 if
-- the upstream is not the broker's.
local broker, tenant, server, catalogue, change, most = unpack(ARGV, 1, 6)
local upstream = tenant .. '/' .. server
if broker ~= '' and redis.call('HGET', TOOL_OWNERS, upstream) ~= broker then return 0 end
redis.call('HSET', tool_catalogues_key(tenant), server, catalogue)
redis.call('INCR', tool_catalogues_version_key(tenant))
local idempotent = tool_idempotent_key(upstream)
redis.call('DEL', idempotent)
for i = 7, #ARGV do redis.call('SADD', idempotent, ARGV[i]) end
if change ~= '' then
  redis.call('XADD', tool_history_key(tenant), 'MAXLEN', most, '*', 's', server, 'd', change)
end
return 1
