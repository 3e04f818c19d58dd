#!lua flags=allow-oom
-- requires: clock
-- KEYS: registries of begun jobs   ARGV: seconds after which a begun job is taken for lost, what has begun of each
-- Renews RQ's entries of started jobs. A removed entry is not recreated.
local seconds = ARGV[1]
local until_then = string.format('%.6f', clock() + seconds)
for i, registry in ipairs(KEYS) do redis.call('ZADD', registry, 'XX', until_then, ARGV[i + 1]) end
