-- KEYS  entry, lease, index, args
-- ARGV  token, lease in ms, argument tokens
-- returns  {'leased', 1 if nothing was listed}
-- Takes the lease from whoever holds it: what they compute began earlier and will not be accepted.
all_here(KEYS[3])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
local first = list(KEYS[3], KEYS[4], digest_of(KEYS[1]), ARGV[3], -now_ms() - ARGV[2], true) and 1 or 0
return {'leased', first}
