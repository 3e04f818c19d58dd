#!lua flags=allow-oom
-- requires: audit, api_keys
-- ARGV: id, tenant, entry of the audit log
-- Removes an API key; 0 if there is no such key.
local id, tenant, entry = unpack(ARGV)
if not forget_key(id, tenant) then return 0 end
audit(entry)
return 1
