#!lua
-- requires: room_left, charge, catalogues
-- ARGV: broker or '', tenant, server, catalogue, change or '', most changes kept, share of `maxmemory`, the tenant's
-- share of that, 1 for a catalogue whose tools are those in Redis, names of idempotent tools…
-- Writes the catalogue of an upstream that the broker serves, and a change to the history. Returns 1; 0 if the upstream
-- is not the broker's; 2 if it has no room in the tenant's share; or 3 if Redis has none.
local broker, tenant, server, catalogue, change, most, share, tenant_share, known = unpack(ARGV, 1, 9)
local upstream, catalogues = tenant .. '/' .. server, tool_catalogues_key(tenant)
if broker ~= '' and redis.call('HGET', TOOL_OWNERS, upstream) ~= broker then return 0 end
local growth = #catalogue + #change - redis.call('HSTRLEN', catalogues, server)
if growth > 0 and known == '' then
  if bytes_of(tenant) + growth > share_of(share, tenant_share) then return 2 end
  local left = left_bytes(share)
  if growth > left then return 3 end
  take_room(left, growth)
end
redis.call('HSET', catalogues, server, catalogue)
redis.call('INCR', tool_catalogues_version_key(tenant))
local idempotent = tool_idempotent_key(upstream)
redis.call('DEL', idempotent)
for i = 10, #ARGV do redis.call('SADD', idempotent, ARGV[i]) end
if change ~= '' then
  redis.call('XADD', tool_history_key(tenant), 'MAXLEN', most, '*', 's', server, 'd', change)
end
weigh_catalogues(tenant)
return 1
