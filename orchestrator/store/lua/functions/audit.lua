-- Appends an entry to the audit log, in the step that makes the change. '' appends nothing.
local function audit(entry)
  if entry ~= '' then redis.call('XADD', AUDIT, '*', 'd', entry) end
end
