-- The letter of a tenant's state: 'a' active, 'd' disabled, 'x' being deleted; '' for an unknown tenant.
local function state_of(tenant)
  local found = redis.call('HGET', TENANTS, tenant) or tenant == DEFAULT_TENANT and 'a' or ''
  return string.sub(found, 1, 1)
end
