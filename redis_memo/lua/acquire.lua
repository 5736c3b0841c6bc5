-- KEYS  entry, lease, index, args
-- ARGV  token, lease in ms, tokens of arguments and tags, length and head of an entry that will not do or ''
-- returns  {'found', entry} | {'stored'}: an entry too large to be sent through a script
--          | {'leased', 1 if nothing was listed} | {'busy', token of the holder, ms left} | {'resting'}
-- An entry that could not be read, or is past its soft expiry, is no answer: whoever has it may replace it. Its head
-- holds a digest of it all, so that not all of it need be compared.
local known = ARGV[4] ~= '' and identity_of(KEYS[1]) == ARGV[4]
if not known then
  if redis.call('STRLEN', KEYS[1]) > CARRIED then return {'stored'} end
  local found = redis.call('GET', KEYS[1])
  if found then return {'found', found} end
end
local holder = redis.call('GET', KEYS[2])
if holder == RESTING then
  -- Its last computation failed; who has nothing to fall back on need not respect that.
  if known then return {'resting'} end
elseif holder and holder ~= ARGV[1] then
  return {'busy', holder, redis.call('PTTL', KEYS[2])}
end
all_here(KEYS[3])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
local now = now_ms()
-- Listed from now on, so that an invalidation by arguments finds the computation in flight too.
local first = list(KEYS[3], KEYS[4], digest_of(KEYS[1]), ARGV[3], -now - ARGV[2], true) and 1 or 0
sweep(KEYS[1], KEYS[3], KEYS[4], now)
return {'leased', first}
