-- KEYS  index, args
-- ARGV  prefix of the entries, the same as a pattern, maxsize, maxbytes, kind of bounds, cursor,
--       when that was begun ('' at first), keys looked at
-- returns  {cursor, '0' at the end; when it was begun; entries evicted}
-- Finds the entries that nothing tells of, since an index was lost or because the function was not bounded before. Their
-- last use is what the server knows of it, in full seconds, and at least one: what was noted meanwhile is later.
-- Then ('i' and a cursor) it unlists what is gone.
local prefix, index, now = ARGV[1], KEYS[1], now_ms()
all_here(index)
check_index(index)
local kind = kept_kind(index, ARGV[5], now)
local sizes = sizes_of(index)
local since = redis.call('HGET', sizes, '#since')
if ARGV[7] ~= '' and ARGV[7] ~= since then return {'0', since, 0} end -- lost once more: the next writer is told
redis.call('HSET', sizes, '#mend', now)
if string.sub(ARGV[6], 1, 1) == 'i' then
  local listed = redis.call('ZSCAN', index, string.sub(ARGV[6], 2), 'COUNT', ARGV[8])
  for at = 1, #listed[2], 2 do
    local name = prefix .. listed[2][at]
    if tonumber(listed[2][at + 1]) > 0 and redis.pcall('EXISTS', name) == 0 then leave(index, KEYS[2], name, now) end
  end
  if listed[1] == '0' then redis.call('HSET', sizes, '#mend', 0) end
  leave_nothing(index)
  return {listed[1] == '0' and '0' or 'i' .. listed[1], since, 0}
end
local found = redis.call('SCAN', ARGV[6], 'MATCH', ARGV[2], 'COUNT', ARGV[8])
for _, name in ipairs(found[2]) do
  local digest = digest_of(name)
  if name == prefix .. digest and redis.call('HEXISTS', sizes, digest) == 0 then
    local idle = redis.pcall('OBJECT', 'IDLETIME', name) -- refused under an LFU policy
    adopt(name, index, KEYS[2], kind, now, now * 1000 - ((type(idle) == 'number' and idle or 0) + 1) * 1e6)
  end
end
return {found[1] == '0' and 'i0' or found[1], since, keep_within(prefix, index, KEYS[2], tonumber(ARGV[3]), tonumber(ARGV[4]), kind, now)}
