-- requires: security_log
-- ARGV: log length, log seconds, tenant or '', then the entry's other fields
-- Writes an event that stands on no execution.
log(unpack(ARGV))
