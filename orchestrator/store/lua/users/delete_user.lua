#!lua flags=allow-oom
-- requires: audit, users
-- ARGV: id, name, entry of the audit log
-- Deletes a user, whose sessions end with it; 0 if there is none.
local id, name, entry = unpack(ARGV)
if not forget_user(id, name) then return 0 end
audit(entry)
return 1
