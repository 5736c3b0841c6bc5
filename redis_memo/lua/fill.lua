-- KEYS  entry, lease, index, args
-- ARGV  token, envelope, ttl in ms, tokens of arguments and tags
-- returns  1 stored, 0 refused
-- The fence: stored only while the token stands. An invalidation deletes it, a newer computation replaces it.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
local now = now_ms()
relist(KEYS[3], KEYS[4], digest_of(KEYS[1]), ARGV[4], now + ARGV[3])
sweep(KEYS[1], KEYS[3], KEYS[4], now)
tell_filled(KEYS[1], ARGV[2])
return 1
