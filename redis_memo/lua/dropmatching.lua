-- KEYS  index, args
-- ARGV  prefix of the entries, limit, argument tokens
-- returns  {entries that went, 1 if there may be more, 0 if not}
-- Drops up to `limit` entries and leases of the calls that have all the given arguments; none given: of all calls.
-- The work is proportional to the calls that have the rarest of the arguments. The caller repeats until done.
local prefix, limit, tokens = ARGV[1], tonumber(ARGV[2]), ARGV[3]

local rarest, fewest
for at = 1, #tokens, TOKEN do
  local row = 't' .. string.sub(tokens, at, at + TOKEN - 1)
  local count = redis.call('ZLEXCOUNT', KEYS[2], '[' .. row, '(' .. row .. '\255')
  if not fewest or count < fewest then rarest, fewest = row, count end
end

local digests = {}
if not rarest then
  digests = redis.call('ZRANGE', KEYS[1], 0, limit - 1)
else
  -- With one argument each call found is dropped, so the next round finds others; with several the ones that
  -- do not match stay, and the whole range is looked through at once.
  for _, member in ipairs(starting_with(KEYS[2], rarest, #tokens == TOKEN and limit or fewest)) do
    local digest = string.sub(member, -DIGEST)
    local all = true
    for at = 1, #tokens, TOKEN do
      all = all and redis.call('ZSCORE', KEYS[2], 't' .. string.sub(tokens, at, at + TOKEN - 1) .. digest)
    end
    if all then digests[#digests + 1] = digest end
    if #digests == limit then break end
  end
end

all_here(KEYS[1])
local gone = 0
for _, digest in ipairs(digests) do
  local entry = prefix .. digest
  gone = gone + delete(entry)
  if redis.call('DEL', entry .. ':lease') == 1 then
    redis.call('PUBLISH', entry, 'dropped')
  end
  unlist(KEYS[1], KEYS[2], digest)
end
leave_nothing(KEYS[1])
return {gone, #digests == limit and 1 or 0}
