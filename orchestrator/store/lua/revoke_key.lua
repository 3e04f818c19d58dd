#!lua flags=allow-oom
-- requires: audit
-- KEYS: all keys, all digests, all uses   ARGV: id, entry of the audit log
-- Removes an API key and its quotas; 0 if there is no such key.
local digest = redis.call('HGET', KEYS[2], ARGV[1])
if not digest then return 0 end
redis.call('DEL', api_key_key(digest))
for _, name in ipairs(KEYS) do redis.call('HDEL', name, ARGV[1]) end
redis.call('HDEL', QUOTAS, 'k' .. ARGV[1])
audit(ARGV[2])
return 1
