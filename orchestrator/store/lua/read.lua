-- requires: shown
-- KEYS: record, stream   ARGV: tenant or '', most entries, where they begin
-- Returns {tenant}, and if that is whom it was asked for the record's fields and entries of its stream. What another
-- tenant has is as quick to refuse as what is not there.
local record, stream = unpack(KEYS)
local tenant, most, first = unpack(ARGV)
local owner = redis.call('HGET', record, 'tenant')
if not owner or (tenant ~= '' and tenant ~= owner) then return {owner} end
local entries = redis.call('XRANGE', stream, first, '+', 'COUNT', most)
return {owner, shown(record), entries}
