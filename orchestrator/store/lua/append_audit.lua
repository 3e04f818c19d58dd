#!lua flags=allow-oom
-- requires: audit
-- ARGV: entry
-- Appends an entry that no change goes with.
audit(ARGV[1])
