-- KEYS  lease
-- ARGV  token, lease in ms
-- returns  1 renewed, 0 not ours any more
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
