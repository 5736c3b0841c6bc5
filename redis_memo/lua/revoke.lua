-- KEYS  index, args
-- ARGV  prefix of the entries, limit, token
-- returns  {leases that went, 1 if there may be more, 0 if not}
-- Revokes what is being computed for the calls that have the token, and leaves their entries.
local found = starting_with(KEYS[2], 't' .. ARGV[3], ARGV[2])
local gone = 0
all_here(KEYS[1])
for _, member in ipairs(found) do
  local digest = string.sub(member, -DIGEST)
  local entry = ARGV[1] .. digest
  if redis.call('DEL', entry .. ':lease') == 1 then
    gone = gone + 1
    redis.call('PUBLISH', entry, 'dropped')
  end
  if redis.call('EXISTS', entry) == 1 then
    redis.call('ZREM', KEYS[2], member)
  else
    unlist(KEYS[1], KEYS[2], digest)
  end
end
return {gone, #found == tonumber(ARGV[2]) and 1 or 0}
