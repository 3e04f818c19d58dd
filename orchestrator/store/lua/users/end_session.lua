#!lua flags=allow-oom
-- requires: audit, users
-- ARGV: user, session, entry of the audit log
-- Ends a session of the user; 0 if it has ended, or is another user's.
local user, session, entry = unpack(ARGV)
if redis.call('HGET', session_key(session), 'user') ~= user then return 0 end
end_session(user, session)
audit(entry)
return 1
