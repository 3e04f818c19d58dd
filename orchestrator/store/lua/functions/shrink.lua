-- Frees the part of a stream's last node that has no entries: Redis allocates a node with 4 KB, and a copy with the
-- size of its entries. A user of Redis that may not copy keeps the stream as it is.
local function shrink(stream)
  local copy = shrunk_key(stream)
  if redis.pcall('COPY', stream, copy) ~= 1 then return false end
  redis.call('COPY', copy, stream, 'REPLACE')
  redis.call('DEL', copy)
  return true
end
