-- Removes an own user, whose sessions end with it.
local function forget_user(id, name)
  if redis.call('HDEL', USERS, id) == 0 then return false end
  redis.call('HDEL', USER_NAMES, name)
  redis.call('HDEL', USER_PASSWORDS, id)
  redis.call('DEL', user_addresses_key(id))
  return true
end
