#!lua flags=allow-oom
-- KEYS: keys   ARGV: the type of each
-- Removes the keys of another type, in the same step as the look: a key may just have got its own type again. Returns
-- them.
local removed = {}
for number, key in ipairs(KEYS) do
    local found = redis.call('TYPE', key).ok
    if found ~= 'none' and found ~= ARGV[number] then
        redis.call('DEL', key)
        removed[#removed + 1] = key
    end
end
return removed
