-- The schema of the data, a number from 1 to 999.
local function schema_in(field)
  local text = redis.call('HGET', SCHEMA, field)
  return text and string.match(text, '^[1-9]%d?%d?$') and tonumber(text) or nil
end

-- Whether a key or a user is stored as the first schema has it; otherwise data without a number is new.
local function has_unsealed_records()
  for _, name in ipairs({API_KEYS, USERS}) do
    if redis.call('TYPE', name).ok == 'hash' then
      for _, record in ipairs(redis.call('HVALS', name)) do
        if string.sub(record, 1, 1) == '{' then return true end
      end
    end
  end
  return false
end
