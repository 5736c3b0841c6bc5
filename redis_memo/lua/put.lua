-- KEYS  entry, lease, index, args, where a large envelope waits (or no such key)
-- ARGV  envelope (empty if it waits), ttl in ms, tokens of arguments and tags, key of a mapping or '', maxsize, maxbytes,
--       kind of bounds
-- returns  1 if nothing was listed, 0 if something was; with bounds {that, entries evicted, 1 if entries are to be
--          looked for, entries ever evicted}
-- A value given from outside supersedes what is being computed: the lease goes.
local bounded = all_here(KEYS[3]) > 0 or ARGV[7] ~= ''
set(KEYS[1], ARGV[1], ARGV[2], KEYS[5])
redis.call('DEL', KEYS[2])
local now = now_ms()
local first = relist(KEYS[3], KEYS[4], digest_of(KEYS[1]), ARGV[3], now, ARGV[2], ARGV[4]) and 1 or 0
sweep(KEYS[1], KEYS[3], KEYS[4], now)
local kept = bounded and bound(KEYS[1], KEYS[3], KEYS[4], now, ARGV[5], ARGV[6], ARGV[7])
tell_filled(KEYS[1], ARGV[1])
return kept and {first, kept[1], kept[2], kept[3]} or first
