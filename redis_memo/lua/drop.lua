-- KEYS  entry, lease, index, args
-- ARGV  length and head of the entry that is meant, or '' for whatever stands there
-- returns  how many entries went: 1 or 0
-- Entry and lease go together: what is being computed now will not be stored (P3).
if ARGV[1] ~= '' and identity_of(KEYS[1]) ~= ARGV[1] then return 0 end
all_here(KEYS[3])
local gone = delete(KEYS[1])
if redis.call('DEL', KEYS[2]) == 1 then
  redis.call('PUBLISH', KEYS[1], 'dropped')
end
unlist(KEYS[3], KEYS[4], digest_of(KEYS[1]))
leave_nothing(KEYS[3])
return gone
