#!lua flags=allow-oom
-- requires: audit
-- ARGV: entry
-- Appends an entry that no change goes with.
local entry = ARGV[1]
audit(entry)
