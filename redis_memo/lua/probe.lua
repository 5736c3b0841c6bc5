-- KEYS  three scratch keys in one slot
-- ARGV  scratch channel
-- returns  {command, the server's refusal, ...} for each command that our scripts use and this user may not
-- For `redis-memo doctor`: what the rules of an ACL, a replica or a full memory refuse shows here and not later.
local tried = {
  {'TIME'}, {'SET', KEYS[1], 'x', 'PX', 5000}, {'GET', KEYS[1]}, {'GETRANGE', KEYS[1], 0, 0}, {'STRLEN', KEYS[1]},
  {'PTTL', KEYS[1]}, {'PEXPIRE', KEYS[1], 5000}, {'PERSIST', KEYS[1]}, {'EXISTS', KEYS[1]},
  {'RENAME', KEYS[1], KEYS[2]},
  {'ZADD', KEYS[3], 0, 'm'}, {'ZCARD', KEYS[3]}, {'ZSCORE', KEYS[3], 'm'}, {'ZCOUNT', KEYS[3], 0, 1},
  {'ZLEXCOUNT', KEYS[3], '-', '+'}, {'ZRANGE', KEYS[3], 0, 0}, {'ZRANGEBYLEX', KEYS[3], '-', '+'},
  {'ZRANGEBYSCORE', KEYS[3], 0, 1}, {'ZREVRANGEBYSCORE', KEYS[3], 1, 0}, {'ZREM', KEYS[3], 'm'},
  {'ZRANK', KEYS[3], 'm'}, {'ZREVRANGEBYLEX', KEYS[3], '+', '-'}, {'ZSCAN', KEYS[3], 0}, {'SCAN', 0, 'COUNT', 1},
  {'PUBLISH', ARGV[1], ''}, {'DEL', KEYS[1], KEYS[3]}, {'UNLINK', KEYS[2]},
  {'HSET', KEYS[1], 'f', 1}, {'HGET', KEYS[1], 'f'}, {'HMGET', KEYS[1], 'f'}, {'HGETALL', KEYS[1]}, {'HLEN', KEYS[1]},
  {'HEXISTS', KEYS[1], 'f'}, {'HINCRBY', KEYS[1], 'f', 1}, {'HINCRBYFLOAT', KEYS[1], 'f', 1}, {'HDEL', KEYS[1], 'f'},
}
local refused = {}
for _, command in ipairs(tried) do
  local answer = redis.pcall(unpack(command))
  if type(answer) == 'table' and answer.err and not string.find(answer.err, 'no such key') then
    refused[#refused + 1] = command[1]
    refused[#refused + 1] = answer.err
  end
end
return refused
