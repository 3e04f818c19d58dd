-- requires: security_log
-- ARGV: log length, log seconds, tenant or '', then the entry's other fields
-- Writes an event that is in no execution's stream.
log(unpack(ARGV))
