-- What an execution is shown from, of its record.
local function shown(record) return redis.call('HMGET', record, unpack(FIELDS)) end
