-- KEYS  entry, lease, index, args, where a large envelope waits (or no such key)
-- ARGV  token, envelope (empty if it waits), ttl in ms, tokens of arguments and tags, key of a mapping or '',
--       maxsize, maxbytes, kind of bounds
-- returns  1 stored, 0 refused; with bounds {1, entries evicted, 1 if entries are to be looked for,
--          entries ever evicted}
-- The fence: stored only while the token stands. An invalidation deletes it, a newer computation replaces it.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  if KEYS[5] then discard(KEYS[5], KEYS[1]) end
  return 0
end
local bounded = all_here(KEYS[3]) > 0 or ARGV[8] ~= ''
set(KEYS[1], ARGV[2], ARGV[3], KEYS[5])
redis.call('DEL', KEYS[2])
local now = now_ms()
relist(KEYS[3], KEYS[4], digest_of(KEYS[1]), ARGV[4], now, ARGV[3], ARGV[5])
sweep(KEYS[1], KEYS[3], KEYS[4], now)
local kept = bounded and bound(KEYS[1], KEYS[3], KEYS[4], now, ARGV[6], ARGV[7], ARGV[8])
tell_filled(KEYS[1], ARGV[2])
return kept and {1, kept[1], kept[2], kept[3]} or 1
