-- KEYS  entry, lease, index, args
-- returns  how many entries went: 1 or 0
-- Entry and lease go together: what is being computed now will not be stored (P3).
local gone = delete(KEYS[1])
if redis.call('DEL', KEYS[2]) == 1 then
  redis.call('PUBLISH', KEYS[1], 'dropped')
end
unlist(KEYS[3], KEYS[4], digest_of(KEYS[1]))
return gone
