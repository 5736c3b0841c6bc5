-- KEYS  entry, lease, index, args
-- ARGV  token, ms to rest or 0, what to tell those who wait
-- returns  1 released, 0 not ours any more
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
all_here(KEYS[3])
local standing = redis.call('EXISTS', KEYS[1]) == 1
if standing and ARGV[2] ~= '0' then
  -- Those who have the entry serve it for a while instead of asking a failing function again.
  redis.call('SET', KEYS[2], RESTING, 'PX', ARGV[2])
else
  redis.call('DEL', KEYS[2])
end
if not standing then
  unlist(KEYS[3], KEYS[4], digest_of(KEYS[1]))
end
redis.call('PUBLISH', KEYS[1], ARGV[3])
return 1
