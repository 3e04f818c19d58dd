-- KEYS: record, bytes   ARGV: attempt, offset, bytes received by the program, most bytes
-- Returns {bytes from the offset on, 1 if they are the last}, or nothing if the attempt does not own the execution.
local record, bytes = unpack(KEYS)
local attempt, first, taken, most = unpack(ARGV)
local found = redis.call('HMGET', record, 'attempt', 'state', 'stdin_end', 'stdin_read')
if found[1] ~= attempt or (found[2] ~= 'starting' and found[2] ~= 'running') then return nil end
if found[4] ~= taken then redis.call('HSET', record, 'stdin_read', taken) end
local offset = tonumber(first)
local chunk = redis.call('GETRANGE', bytes, offset, offset + tonumber(most) - 1)
if most == '0' then chunk = '' end
local last = found[3] and offset + #chunk >= redis.call('STRLEN', bytes)
return {chunk, last and 1 or 0}
