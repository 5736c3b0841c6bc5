-- KEYS  entry, lease, index, args
-- ARGV  token
-- returns  1 released, 0 not ours any more
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[2])
if redis.call('EXISTS', KEYS[1]) == 0 then
  unlist(KEYS[3], KEYS[4], digest_of(KEYS[1]))
end
redis.call('PUBLISH', KEYS[1], 'released')
return 1
