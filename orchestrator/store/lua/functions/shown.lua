local function shown(record) return redis.call('HMGET', record, unpack(FIELDS)) end
