-- requires: shown
-- KEYS: record, stream   ARGV: tenant or '', most entries, where they begin
-- Returns {tenant}, and for the given tenant also the record's fields and entries of its stream. A record of another
-- tenant is refused as fast as a missing record.
local record, stream = unpack(KEYS)
local tenant, most, first = unpack(ARGV)
local owner = redis.call('HGET', record, 'tenant')
if not owner or (tenant ~= '' and tenant ~= owner) then return {owner} end
local entries = redis.call('XRANGE', stream, first, '+', 'COUNT', most)
return {owner, shown(record), entries}
