-- KEYS  entry, args
-- ARGV  1 to make it the last key of its mapping, 0 the first
-- returns  1 moved, 0 there is no such entry
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local digest = digest_of(KEYS[1])
local key = forget_key(KEYS[2], digest)
if key then note_key(KEYS[2], digest, key, ARGV[1] == '0') end
return 1
