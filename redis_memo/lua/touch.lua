-- KEYS  index, args, stats
-- ARGV  prefix of the entries, maxsize, maxbytes, kind of bounds or '', digests in the order of their use, how often each
--       was used (decimal numbers with blanks), ms for which counters are kept, then pairs of counter and amount
-- returns  {entries evicted, 1 if entries are to be looked for, entries ever evicted}
-- What one process notes of a second or so: which entries it used, and what it counted.
if ARGV[4] ~= '' then all_here(KEYS[1]) end
for at = 8, #ARGV, 2 do
  redis.call('HINCRBYFLOAT', KEYS[3], ARGV[at], ARGV[at + 1])
end
if #ARGV > 7 then redis.call('PEXPIRE', KEYS[3], ARGV[7]) end
if ARGV[4] == '' then return {0, 0, 0} end

local prefix, index, digests = ARGV[1], KEYS[1], ARGV[5]
local now = now_ms()
check_index(index)
local kind = kept_kind(index, ARGV[4], now)
local uses, sizes = uses_of(index), sizes_of(index)
local number = #digests / DIGEST

local function digest_at(nth) return string.sub(digests, (nth - 1) * DIGEST + 1, nth * DIGEST) end
local function found(nth)
  -- Used, and not in here: an index was lost, or another release wrote it.
  local digest = digest_at(nth)
  if redis.call('HEXISTS', sizes, digest) == 0 then adopt(prefix .. digest, index, KEYS[2], kind, now) end
end

if number > 0 then
  local last = moments(sizes, now, number)
  if kind == 'worth' then
    local counts = string.gmatch(ARGV[6], '%d+')
    for nth = 1, number do
      local digest, count = digest_at(nth), tonumber(counts() or 1)
      local kept = redis.call('HGET', sizes, digest)
      if kept then
        local bytes, seconds, before = string.match(kept, '^(%d+) (%S+) (%d+)')
        note_worth(index, digest, tonumber(bytes), tonumber(seconds), tonumber(before) + count, last - number + nth)
      else
        found(nth)
      end
    end
  else
    local pairs_of = {}
    for nth = 1, number do
      pairs_of[2 * nth - 1] = last - number + nth -- 16 digits, and so written as they are
      pairs_of[2 * nth] = digest_at(nth)
    end
    if redis.call('ZADD', uses, 'XX', 'CH', unpack(pairs_of)) < number then
      for nth = 1, number do found(nth) end
    end
  end
end
leave_nothing(index)
local gone = keep_within(prefix, index, KEYS[2], tonumber(ARGV[2]), tonumber(ARGV[3]), kind, now)
return {gone, to_mend(index, now), evicted_ever(index)}
