-- KEYS  index
-- returns  {entries that have not expired, entries that count, their bytes, when the next one to go was used last, us}
-- The last three are -1 where nothing is bounded, the last one where there is none.
local uses, sizes = uses_of(KEYS[1]), sizes_of(KEYS[1])
local bytes = redis.call('HGET', sizes, '#bytes')
local current = redis.call('ZCOUNT', KEYS[1], now_ms(), '+inf')
if not bytes then return {current, -1, -1, -1} end
return {current, redis.call('ZCARD', uses), tonumber(bytes), next_used(KEYS[1])}
