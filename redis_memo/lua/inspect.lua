-- KEYS  entry, lease, index
-- returns  {ms left of the entry, ms left of the lease, how many are evicted before it or -1, of how many}
--          as PTTL: -2 where there is none
local lease = redis.call('GET', KEYS[2]) == RESTING and -2 or redis.call('PTTL', KEYS[2])
local uses = uses_of(KEYS[3])
local rank = redis.call('ZRANK', uses, digest_of(KEYS[1]))
return {redis.call('PTTL', KEYS[1]), lease, rank or -1, redis.call('ZCARD', uses)}
