-- KEYS  index
-- returns  number of entries that have not expired; leases without an entry do not count
return redis.call('ZCOUNT', KEYS[1], now_ms(), '+inf')
