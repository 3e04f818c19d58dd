-- The fields of a record from which an execution is shown.
local function shown(record) return redis.call('HMGET', record, unpack(FIELDS)) end
