-- KEYS  index, args
-- ARGV  prefix of the entries, limit, place after which to go on or '', last place to be looked at or '', 1 for the
--       order from last to first
-- returns  {place to go on after or '' at the end, last place, rows: place (stamp, digest) and key, as one string}
-- The keys of a mapping in the order of insertion. Those added after the first call are not looked at, so that who
-- adds while iterating comes to an end.
local limit, after, last, back = tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5] == '1'
local PLACE = STAMP + DIGEST

if last == '' then
  local row = redis.call('ZREVRANGEBYLEX', KEYS[2], '(o\255', '[o', 'LIMIT', 0, 1)[1]
  if not row then return {'', '', {}} end
  last = string.sub(row, 2, PLACE + 1)
end

local rows
if back then
  local from = after == '' and '(o' .. last .. '\255' or '(o' .. after
  rows = redis.call('ZREVRANGEBYLEX', KEYS[2], from, '[o', 'LIMIT', 0, limit)
else
  local from = after == '' and '[o' or '(o' .. after .. '\255'
  rows = redis.call('ZRANGEBYLEX', KEYS[2], from, '(o' .. last .. '\255', 'LIMIT', 0, limit)
end

local now, found = now_ms(), {}
for _, row in ipairs(rows) do
  local digest = string.sub(row, STAMP + 2, PLACE + 1)
  local until_ms = tonumber(redis.call('ZSCORE', KEYS[1], digest) or 0)
  if until_ms > now and redis.pcall('EXISTS', ARGV[1] .. digest) == 1 then
    found[#found + 1] = string.sub(row, 2)
  end
end
return {#rows == limit and string.sub(rows[limit], 2, PLACE + 1) or '', last, found}
