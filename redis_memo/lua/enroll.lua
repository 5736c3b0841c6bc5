-- KEYS  registry of a namespace: zset, member = prefix of a function's keys, score = when it was last noted, ms
-- ARGV  prefix or '' to note nothing, age in ms from which a function is looked after by others, how many at most
-- returns  {the moment, prefixes that were not noted for so long}
-- They are noted anew, so that the next caller is given others; `strike` takes them out unless somebody notes them.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2], 'LIMIT', 0, ARGV[3])
for _, prefix in ipairs(old) do
  redis.call('ZADD', KEYS[1], now, prefix)
end
if ARGV[1] ~= '' then redis.call('ZADD', KEYS[1], now + 1, ARGV[1]) end
return {now, old}
