#!lua flags=allow-oom
-- requires: clock
-- KEYS: registries of begun jobs   ARGV: seconds after which a begun job is taken for lost, what has begun of each
-- Renews what RQ keeps of jobs that have begun. What is forgotten meanwhile stays so.
local until_then = string.format('%.6f', clock() + ARGV[1])
for i, registry in ipairs(KEYS) do redis.call('ZADD', registry, 'XX', until_then, ARGV[i + 1]) end
