#!lua
-- requires: audit
-- ARGV: broker, id, audit entry
-- Appends the entry of a call that its broker is about to make; once, also for a call that another broker began.
-- Returns 1; or 0 if the call is no longer the broker's, and then nothing was written.
local broker, id, entry = unpack(ARGV)
local call = tool_call_key(id)
local found = redis.call('HMGET', call, 'state', 'broker', 'audited')
if found[1] ~= 'taken' or found[2] ~= broker then return 0 end
if not found[3] then
  audit(entry)
  redis.call('HSET', call, 'audited', 1)
end
return 1
