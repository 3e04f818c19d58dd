-- Own users, and the sessions that end with them.
local function user_in(stored)  -- a stored user, whose seal only the API can check; nothing for malformed data
  local read, user = pcall(cjson.decode, string.match(stored or '', ' (.*)$') or '')
  return read and type(user) == 'table' and user or nil
end

local function end_session(user, session)
  redis.call('ZREM', user_sessions_key(user), session)
  return redis.call('DEL', session_key(session)) == 1
end

local function end_sessions(user)
  for _, session in ipairs(redis.call('ZRANGE', user_sessions_key(user), 0, -1)) do end_session(user, session) end
end

local function forget_user(id, name)
  if redis.call('HDEL', USERS, id) == 0 then return false end
  redis.call('HDEL', USER_NAMES, name)
  redis.call('HDEL', USER_PASSWORDS, id)
  redis.call('DEL', user_addresses_key(id))
  end_sessions(id)
  return true
end
