-- KEYS  entry, lease, index, args
-- ARGV  token, lease in ms, argument tokens, sha1 of an entry that could not be read or ''
-- returns  {'found', entry} | {'leased'} | {'busy', token of the holder, ms left}
-- An entry that could not be read is no answer: whoever could not read it may replace it.
local found = redis.call('GET', KEYS[1])
if found and (ARGV[4] == '' or redis.sha1hex(found) ~= ARGV[4]) then
  return {'found', found}
end
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then
  return {'busy', holder, redis.call('PTTL', KEYS[2])}
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
local now = now_ms()
-- Listed from now on, so that an invalidation by arguments finds the computation in flight too.
list(KEYS[3], KEYS[4], digest_of(KEYS[1]), ARGV[3], -now - ARGV[2], true)
sweep(KEYS[1], KEYS[3], KEYS[4], now)
return {'leased'}
