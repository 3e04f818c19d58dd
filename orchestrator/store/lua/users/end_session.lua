#!lua flags=allow-oom
-- requires: audit
-- KEYS: session   ARGV: entry of the audit log
-- Ends a session; 0 if it has ended.
if redis.call('DEL', KEYS[1]) == 0 then return 0 end
audit(ARGV[1])
return 1
