-- KEYS  entry, lease
-- returns  {ms left of the entry, ms left of the lease}, as PTTL: -2 where there is none
return {redis.call('PTTL', KEYS[1]), redis.call('PTTL', KEYS[2])}
