-- KEYS  index, args
-- ARGV  prefix of the entries, limit
-- returns  number of calls that are still listed
-- For functions that nobody calls any more: their entries expired, and no write comes to unlist them.
all_here(KEYS[1])
local now = now_ms()
for _, digest in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], -now, now, 'LIMIT', 0, ARGV[2])) do
  local name = ARGV[1] .. digest
  if redis.pcall('EXISTS', name, name .. ':lease') == 0 then
    unlist(KEYS[1], KEYS[2], digest)
  end
end
local left = redis.call('ZCARD', KEYS[1])
if left == 0 then redis.call('UNLINK', uses_of(KEYS[1]), sizes_of(KEYS[1])) end
return left
