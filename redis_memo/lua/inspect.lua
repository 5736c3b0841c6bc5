-- KEYS  entry, lease
-- returns  {ms left of the entry, ms left of the lease}, as PTTL: -2 where there is none
local lease = redis.call('GET', KEYS[2]) == RESTING and -2 or redis.call('PTTL', KEYS[2])
return {redis.call('PTTL', KEYS[1]), lease}
