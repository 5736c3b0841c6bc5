-- KEYS  registry of a namespace
-- ARGV  prefix, the moment at which `enroll` gave it out
-- returns  1 struck, 0 somebody has noted it since, and so writes to it
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or -1) ~= tonumber(ARGV[2]) then
  return 0
end
return redis.call('ZREM', KEYS[1], ARGV[1])
