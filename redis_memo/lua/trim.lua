-- KEYS  index, args
-- ARGV  prefix of the entries, how many to evict, how many bytes to evict (either may be 0), the last use up to which, us
-- returns  {entries that went, entries that count no more, their bytes, when the next one was used last or -1}
-- For a bound on a whole namespace: takes what this function would evict next, while that is older than other functions'.
local prefix, index, now = ARGV[1], KEYS[1], now_ms()
local number, bytes, last = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local gone, left, freed = 0, 0, 0
all_here(index)
check_index(index)
local kind = redis.call('HGET', sizes_of(index), '#kind')
for _ = 1, kind and EVICTED or 0 do
  local used = next_used(index)
  if used == -1 or used > last or (left >= number and freed >= bytes) then break end
  local went, size = evict_next(prefix, index, KEYS[2], kind, now)
  if not went then break end
  gone, left, freed = gone + went, left + 1, freed + size
end
leave_nothing(index)
return {gone, left, freed, next_used(index)}
