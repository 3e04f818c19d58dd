#!lua
-- requires: states, security_log, room_left
-- ARGV: id, attempt or '', now, retention seconds, to or '', source states, the series of an ended attempt,
-- token, log length, log seconds, share of `maxmemory` that output may fill, what an ended execution used, separated by
-- commas, the start of an execution that ends in state `starting` or '', n, n parts of fields…, then triples of
-- (type, data, kind). Kinds: 0 output, 1 a security event, 2 a reference to output outside of Redis. The start, and
-- fields named …_at, are times by the clock of `now`, and are stored by Redis's. Appends to the stream of the attempt
-- that owns the execution, security events also to the logs, and changes its state: before the entries for a start,
-- behind them for an end. Returns {1}; or {0, state}, or {2} if the tenant, or Redis, has no room for the output; then
-- nothing was done.
local id, attempt, sent_at, retention, to, sources, counts_as, token = unpack(ARGV, 1, 8)
local log_length, log_seconds, share, used, started_at, n = unpack(ARGV, 9, 14)
local first = 15 + n  -- of the entries
local found = found_of(id)
local record, stream = execution_key(id), stream_key(id)
if found[1] and found[10] == token then return {1} end
if not allowed(found, attempt, sources) then return {0, found[1] or ''} end
local output, outside, all = 0, 0, 0
for i = first, #ARGV, 3 do
  local size = #ARGV[i + 1] + ENTRY_BYTES
  all = all + size
  if ARGV[i + 2] == '0' then output = output + size end
  if ARGV[i + 2] == '2' then outside = outside + (tonumber(string.match(ARGV[i + 1], '^%d+ (%d+)$')) or 0) end
end
if output > 0 then
  local left = left_bytes(share)
  if output > left or not has_room(found[3], output) then return {2} end
  take_room(left, output)
end
local function stored_time(sent)  -- this clock may have been set back
  local least = math.max(tonumber(found[8] or 0), tonumber(found[9] or 0))
  return string.format('%.6f', math.max(least, sent + clock() - sent_at))
end
local fields = {'step', token}
if started_at ~= '' and found[1] == 'starting' then
  found[9] = stored_time(started_at)
  fields[3], fields[4] = 'started_at', found[9]
  append_state(stream, 'running', found[2])
end
for i = 15, first - 1, 2 do
  local name, value = ARGV[i], ARGV[i + 1]
  fields[#fields + 1], fields[#fields + 2] = name, string.sub(name, -3) == '_at' and stored_time(value) or value
end
local amounts = {}
for amount in string.gmatch(used, '%d+') do amounts[#amounts + 1] = tonumber(amount) end
if to == 'running' then advance(id, found, to, counts_as, fields, all) end
if outside > 0 then charge_files(record, found[3], found[6], outside) end
for i = first, #ARGV, 3 do
  local type, data, kind = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if kind == '0' then
    redis.call('XADD', stream, '*', 't', type, 'd', data, 'a', attempt)
  elseif kind == '2' then
    redis.call('XADD', stream, '*', 't', type, 'f', data, 'a', attempt)
  else
    local tenant, environment, worker = found[3], found[4] or '', found[5] or ''
    local source = 'worker:' .. worker
    local entry = redis.call('XADD', stream, '*', 't', type, 'd', data, 'a', attempt, 's', source)
    if redis.call('HINCRBY', record, 'security_events', 1) == 1 then
      tally('security', {tenant = tenant, environment = environment, worker = worker})
    end
    log(log_length, log_seconds, tenant, 'i', id .. ':' .. entry, 'd', data, 's', source, 'x', id, 'e', environment)
  end
end
if to == '' then
  charge_step(found, fields, all)
  redis.call('HSET', record, unpack(fields))
  if all > 0 and (found[6] or '') ~= '' then redis.call('HINCRBY', key_counters_key(found[6]), 'bytes', all) end
  redis.call('PUBLISH', WAKE .. id, 'output')
elseif to ~= 'running' then
  advance(id, found, to, counts_as, fields, all, retention, amounts)
end
return {1}
