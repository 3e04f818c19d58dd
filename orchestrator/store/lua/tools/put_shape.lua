#!lua
-- requires: charge
-- ARGV: tenant, tool, shape, most shapes of a tenant, seconds for which they are kept, share of `maxmemory`, the
-- tenant's share of that
-- Writes the shape of a tool's results, and charges all shapes to the tenant. Returns 1; or 0 for one too many, or
-- without room in the tenant's share, and then nothing was written.
local tenant, tool, shape, most, seconds, share, tenant_share = unpack(ARGV)
local shapes, version, bytes = tool_shapes_key(tenant), tool_shapes_version_key(tenant), tenant_shapes_key(tenant)
if redis.call('HEXISTS', shapes, tool) == 0 and redis.call('HLEN', shapes) >= tonumber(most) then return 0 end
local growth = #tool + #shape - redis.call('HSTRLEN', shapes, tool)
if growth > 0 and bytes_of(tenant) + growth > share_of(share, tenant_share) then return 0 end
redis.call('HSET', shapes, tool, shape)
redis.call('INCR', version)
redis.call('SET', bytes, redis.call('MEMORY', 'USAGE', shapes, 'SAMPLES', 0))
for _, key in ipairs({shapes, version, bytes}) do redis.call('EXPIRE', key, seconds) end
return 1
