#!lua
-- requires: audit, catalogues
-- ARGV: tenant, server, sealed declaration or '' to remove it, most servers of a tenant, audit entry
-- Writes or removes a declaration. A removed server loses its catalogue, too, and its waiting calls are calls of an
-- unknown server. Returns 1, 0 if there was nothing to
-- remove, or 2 if the tenant has too many servers.
local tenant, server, declaration, most, entry = unpack(ARGV)
local servers, upstream = tool_servers_key(tenant), tenant .. '/' .. server
local known = redis.call('HEXISTS', servers, server)
if declaration == '' then
  redis.call('HDEL', servers, server)
  redis.call('HDEL', tool_accepted_key(tenant), server)
  redis.call('SREM', TOOL_UPSTREAMS, upstream)
  redis.call('HDEL', tool_catalogues_key(tenant), server)
  redis.call('DEL', tool_idempotent_key(upstream))
  weigh_catalogues(tenant)
  redis.call('INCR', tool_catalogues_version_key(tenant))
  redis.call('INCR', TOOL_DECLARATIONS)
  local id = redis.call('LPOP', tool_waiting_key(upstream))
  while id do
    if redis.call('EXISTS', tool_call_key(id)) == 1 then
      redis.call('HSET', tool_call_key(id), 'upstream', UNDECLARED)
      redis.call('RPUSH', tool_waiting_key(UNDECLARED), id)
    end
    id = redis.call('LPOP', tool_waiting_key(upstream))
  end
  if known == 1 then audit(entry) end
  return known
end
if known == 0 and redis.call('HLEN', servers) >= tonumber(most) then return 2 end
if redis.call('HGET', servers, server) ~= declaration then
  redis.call('HSET', servers, server, declaration)
  redis.call('INCR', TOOL_DECLARATIONS)
end
redis.call('SADD', TOOL_UPSTREAMS, upstream)
audit(entry)
return 1
